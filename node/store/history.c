/* R11 in the database: a node gives up its name, and a renamed one forgets its records.
 *
 * Happy path: one transaction. It moves node_state on from the change number its owner left it at,
 * as a batch does, so that nothing happens if anybody else wrote meanwhile.
 *
 * Failure: the session is given up, and the transaction with it. Where the outcome of COMMIT is not
 * known, both may be asked for again: a name that was given up is not given up a second time, and
 * what was forgotten is gone.
 *
 * Either way this store is done for: what was loaded from it is no longer what it holds. */
#include "store/store_internal.h"

#define HISTORY_WAIT_MS 600000 /* dropping a million leases takes its time */
#define HISTORY_SQL_MAX 2048
#define RENAME_NUMBERS  2 /* change numbers: of the rows of the two names that are given up */

static enum err run(PGconn *conn, const char *sql, const struct pg_params *params,
                    struct diag *diag)
{
    AUTO(PQclear) PGresult *result = NULL;

    return pg_query(conn, sql, params, HISTORY_WAIT_MS, &result, diag);
}

/* `count` change numbers after identity.seq become the transaction's. */
static enum err begin(struct store *store, uint64_t count, struct diag *diag)
{
    AUTO(pg_params_fini) struct pg_params params;

    must(store->identity.seq <= INT64_MAX - count);
    pg_params_init(&params);
    pg_params_int64(&params, (int64_t)store->identity.seq);
    pg_params_int64(&params, (int64_t)(store->identity.seq + count));
    enum err err = pg_execute(store->conn, "BEGIN; SET LOCAL statement_timeout = 0",
                              PG_STATEMENT_WAIT_MS, diag);
    if (err != ERR_OK)
        return err;
    return run(store->conn, "SELECT node_state_advance($1::bigint, $2::bigint, 0)", &params, diag);
}

static enum err commit(struct store *store, struct diag *diag)
{
    return pg_execute(store->conn, "COMMIT", HISTORY_WAIT_MS, diag);
}

/* ---- what is there --------------------------------------------------------------------------- */

/* Of a database in which nothing was decided yet: a row that is not refilled. */
static enum err read_self(PGconn *conn, struct self_row *out, struct diag *diag)
{
    AUTO(PQclear) PGresult *result = NULL;
    AUTO(buf_fini) struct buf sql;
    struct pg_field fields[COLUMNS_MAX];
    struct stored_self stored = { .only_row = true };
    enum err err;

    buf_init(&sql, HISTORY_SQL_MAX);
    buf_text_append(&sql, "SELECT ");
    table_select_list(&table_self, "", &sql);
    buf_text_append(&sql, " FROM self");
    must(buf_ok(&sql));
    err = pg_query(conn, buf_text(&sql), NULL, PG_STATEMENT_WAIT_MS, &result, diag);
    if (err == ERR_OK && PQntuples(result) > 0) {
        for (int i = 0; i < PQnfields(result); i++)
            fields[i] = pg_cell(result, 0, i);
        err = table_decode(&table_self, fields, &stored, diag);
    }
    if (err == ERR_OK)
        *out = stored.row;
    return err;
}

static enum err read_partner(PGconn *conn, const struct uuid *node_ref, bool *out,
                             struct diag *diag)
{
    AUTO(pg_params_fini) struct pg_params params;
    AUTO(PQclear) PGresult *result = NULL;

    pg_params_init(&params);
    pg_params_uuid(&params, node_ref);
    enum err err =
        pg_query(conn, "SELECT EXISTS (SELECT 1 FROM node WHERE node_ref = $1::uuid AND partner)",
                 &params, PG_STATEMENT_WAIT_MS, &result, diag);
    if (err == ERR_OK)
        must(PQntuples(result) == 1 && pg_field_bool(pg_cell(result, 0, 0), out));
    return err;
}

/* ---- names ----------------------------------------------------------------------------------- */

struct renaming {
    struct uuid former;   /* the name to give up, as the state file or the peer knows it */
    struct uuid present;  /* the one in the database */
    struct uuid node_ref; /* the one from now on */
    struct self_row self; /* what is to be written */
};

/* The newest first; each once. The oldest falls off: its leases have long ended, or an operator
 * retired it. */
static void remember(struct self_row *self, const struct uuid *name)
{
    struct uuid next = *name;

    for (size_t i = 0; i < FORMER_SELVES_MAX && !uuid_is_nil(&next); i++) {
        struct uuid pushed = self->former[i];
        self->former[i] = next;
        if (uuid_equal(&pushed, name))
            return;
        next = pushed;
    }
}

/* A node that was never refilled under another name, or that never decided anything, has promised
 * nothing under its present one: it may keep that. */
static bool has_no_history(const struct store_identity *identity, const struct self_row *self)
{
    return identity->seq == 0 || (!self->refilled && uuid_is_nil(&self->former[0]));
}

static bool is_former(const struct self_row *self, const struct uuid *name)
{
    for (size_t i = 0; i < FORMER_SELVES_MAX; i++) {
        if (uuid_equal(&self->former[i], name))
            return true;
    }
    return false;
}

/* `counted`: the database counts `former` among its partners. If that is no former self of it, then
 * this is a copy of the peer's database: the names in it are the peer's, and this node never bore
 * them. */
static void choose_names(struct renaming *renaming, const struct store_identity *identity,
                         bool counted)
{
    struct self_row *self = &renaming->self;
    bool theirs = counted && !is_former(self, &renaming->former);
    bool foreign = !uuid_equal(&renaming->former, &renaming->present);

    if (foreign && has_no_history(identity, self)) {
        renaming->node_ref = renaming->present;
    } else {
        renaming->node_ref = uuid_random();
        if (theirs)
            memset(self->former, 0, sizeof self->former);
        else
            remember(self, &renaming->present);
    }
    remember(self, &renaming->former);
    self->refilled = false;
    self->lease_max_ms = 0; /* R10: nobody knows yet what the new name may give */
}

/* ---- giving up a name ------------------------------------------------------------------------ */

/* How long the leases of those names may be is known as far as the database tells. */
static const char enter_former[] =
    "INSERT INTO node (node_ref, retired, drained, heir, retired_ms, wait_ms, longest_ms, seq, "
    "partner, closed, watermark_ms, acknowledged, cursor) "
    "SELECT $1::uuid, false, false, NULL, 0, 0, GREATEST(0, (SELECT lease_max_ms FROM self), "
    "(SELECT max(duration_ms) FROM lease)), $2::bigint, true, false, 0, 0, 0 "
    "ON CONFLICT (node_ref) DO UPDATE SET partner = true, seq = EXCLUDED.seq, "
    "longest_ms = GREATEST(node.longest_ms, EXCLUDED.longest_ms)";

static enum err write_former(struct store *store, const struct uuid *node_ref, uint64_t seq,
                             struct diag *diag)
{
    AUTO(pg_params_fini) struct pg_params params;

    pg_params_init(&params);
    pg_params_uuid(&params, node_ref);
    pg_params_int64(&params, (int64_t)seq);
    return run(store->conn, enter_former, &params, diag);
}

static enum err write_self(struct store *store, const struct self_row *self, struct diag *diag)
{
    AUTO(buf_fini) struct buf sql;
    const struct stored_self stored = { true, *self };

    buf_init(&sql, HISTORY_SQL_MAX);
    table_upsert_sql(&table_self, &sql);
    must(buf_ok(&sql));
    table_encode(&table_self, &stored, 1, &store->params);
    return run(store->conn, buf_text(&sql), &store->params, diag);
}

static enum err write_name(struct store *store, const struct uuid *node_ref, struct diag *diag)
{
    AUTO(pg_params_fini) struct pg_params params;

    pg_params_init(&params);
    pg_params_uuid(&params, node_ref);
    return run(store->conn, "UPDATE node_state SET node_ref = $1::uuid", &params, diag);
}

static enum err write_renaming(struct store *store, const struct renaming *renaming,
                               struct diag *diag)
{
    bool named_anew = !uuid_equal(&renaming->node_ref, &renaming->present);
    bool two = named_anew && !uuid_equal(&renaming->former, &renaming->present);
    uint64_t seq = store->identity.seq;
    enum err err = begin(store, RENAME_NUMBERS, diag);

    if (err == ERR_OK) /* they are about the old name */
        err = run(store->conn,
                  "UPDATE node SET closed = false, watermark_ms = 0, acknowledged = 0, cursor = 0",
                  NULL, diag);
    if (err == ERR_OK)
        err = write_former(store, &renaming->former, seq + 1, diag);
    if (err == ERR_OK && two)
        err = write_former(store, &renaming->present, seq + 2, diag);
    if (err == ERR_OK)
        err = write_self(store, &renaming->self, diag);
    if (err == ERR_OK && named_anew)
        err = write_name(store, &renaming->node_ref, diag);
    return err == ERR_OK ? commit(store, diag) : err;
}

static enum err rename_node(struct store *store, const struct uuid *former, struct uuid *node_ref,
                            struct diag *diag)
{
    const struct store_identity *identity = &store->identity;
    struct renaming renaming = { .former = uuid_is_nil(former) ? identity->node_ref : *former,
                                 .present = identity->node_ref };
    bool counted;
    enum err err;

    if ((err = read_self(store->conn, &renaming.self, diag)) != ERR_OK ||
        (err = read_partner(store->conn, &renaming.former, &counted, diag)) != ERR_OK)
        return err;
    if (!renaming.self.refilled && uuid_equal(&renaming.self.former[0], &renaming.former) &&
        !uuid_equal(&renaming.former, &renaming.present)) {
        *node_ref = renaming.present; /* was given up before, and nothing was decided since */
        return ERR_OK;
    }
    choose_names(&renaming, identity, counted);
    err = write_renaming(store, &renaming, diag);
    if (err == ERR_OK)
        *node_ref = renaming.node_ref;
    return err;
}

enum err store_rename(struct store *store, const struct uuid *former, struct uuid *node_ref,
                      struct diag *diag)
{
    if (store->failed)
        return diag_set(diag, ERR_STORE_AWAY, "the database session has ended");
    enum err err = rename_node(store, former, node_ref, diag);
    store->failed = true;
    return err;
}

/* ---- forgetting ------------------------------------------------------------------------------ */

/* Not TRUNCATE: it would wait for every list and every backup that reads the tables. */
static const char forget_records[] =
    "DELETE FROM lease; DELETE FROM origin; DELETE FROM credit_move; DELETE FROM credit; "
    "DELETE FROM scope; DELETE FROM entitlement;"
    "UPDATE node SET closed = false, watermark_ms = 0, acknowledged = 0, cursor = 0";

static enum err check_unfilled(struct store *store, struct diag *diag)
{
    struct self_row self;
    enum err err = read_self(store->conn, &self, diag);

    if (err != ERR_OK || !self.refilled)
        return err;
    return diag_set(diag, ERR_INTERNAL, "a node that serves must not forget what it serves");
}

static enum err forget(struct store *store, const struct uuid *partner, struct diag *diag)
{
    AUTO(pg_params_fini) struct pg_params params;
    enum err err = begin(store, 0, diag);

    pg_params_init(&params);
    pg_params_uuid(&params, partner);
    pg_params_uuid(&params, &store->identity.node_ref);
    if (err == ERR_OK)
        err = pg_execute(store->conn, forget_records, HISTORY_WAIT_MS, diag);
    if (err == ERR_OK)
        err = run(store->conn, "DELETE FROM node WHERE node_ref NOT IN ($1::uuid, $2::uuid)",
                  &params, diag);
    return err == ERR_OK ? commit(store, diag) : err;
}

enum err store_wipe(struct store *store, const struct uuid *partner, struct diag *diag)
{
    must(!uuid_is_nil(partner));
    if (store->failed)
        return diag_set(diag, ERR_STORE_AWAY, "the database session has ended");
    enum err err = check_unfilled(store, diag);
    if (err == ERR_OK)
        err = forget(store, partner, diag);
    store->failed = true;
    return err;
}
