/* One batch, one transaction, one round trip.
 *
 * Happy path: BEGIN, the change number, one array-bound statement for each kind of row that changed
 * and COMMIT are queued in pipeline mode with one synchronisation point; then all their answers are
 * read and compared with what was asked.
 *
 * Failure: before COMMIT is queued nothing can have been written. After that: the server skips
 * everything behind a statement that failed, COMMIT included, so an error that it reports means
 * that nothing was written; if the session ends, or nothing comes for too long, while the answer to
 * COMMIT is outstanding, then the outcome is unknown, because the server may have committed a
 * moment before.
 *
 * Keys purged go before rows written: a reference that was purged may have been granted anew in the
 * same batch, and never the other way round (ledger/changes.c). */
#include "store/store_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define COMMIT_WAIT_MS    30000
#define STATEMENT_SQL_MAX 4096

/* ---- statements ------------------------------------------------------------------------------ */

static const struct statement {
    const char *name;
    const struct table *table;
    void (*sql)(const struct table *table, struct buf *out);
} statements[] = {
    { "purge_lease", &table_purged, table_delete_sql },
    { "write_self", &table_self, table_upsert_sql },
    { "write_entitlement", &table_entitlement, table_upsert_sql },
    { "write_scope", &table_scope, table_upsert_sql },
    { "write_node", &table_node, table_upsert_sql },
    { "write_credit", &table_credit, table_upsert_sql },
    { "write_move", &table_move, table_upsert_sql },
    { "write_origin", &table_origin, table_upsert_sql },
    { "write_lease", &table_lease, table_upsert_sql },
};

static const struct {
    const char *name, *sql;
} frame[] = {
    { "begin", "BEGIN" },
    { "advance", "SELECT node_state_advance($1::bigint, $2::bigint, $3::bigint)" },
    { "commit", "COMMIT" },
};

enum err commit_prepare(PGconn *conn, struct diag *diag)
{
    AUTO(buf_fini) struct buf sql;
    enum err err = ERR_OK;

    buf_init(&sql, STATEMENT_SQL_MAX);
    for (size_t i = 0; err == ERR_OK && i < ARRAY_SIZE(frame); i++)
        err = pg_prepare(conn, frame[i].name, frame[i].sql, diag);
    for (size_t i = 0; err == ERR_OK && i < ARRAY_SIZE(statements); i++) {
        buf_clear(&sql);
        statements[i].sql(statements[i].table, &sql);
        must(buf_ok(&sql));
        err = pg_prepare(conn, statements[i].name, buf_text(&sql), diag);
    }
    return err;
}

/* ---- a batch on its way ---------------------------------------------------------------------- */

/* What the server should answer to one statement. */
struct expectation {
    ExecStatusType status;
    const char *tag; /* command tag, without its count */
    size_t rows_min, rows_max;
};

struct batch {
    struct store *store;
    PGconn *conn;
    struct boot deadline;
    struct expectation *expected; /* one a statement, in order; the last one is COMMIT's */
    size_t count, capacity;
    bool committing; /* COMMIT was queued: from here on the outcome may be unknown */
    struct diag *diag;
};

static void expect(struct batch *batch, struct expectation expectation)
{
    if (batch->count == batch->capacity) {
        batch->capacity = batch->capacity ? 2 * batch->capacity : 16;
        batch->expected = mem_resize(batch->expected, batch->capacity * sizeof *batch->expected);
    }
    batch->expected[batch->count++] = expectation;
}

/* Queues a prepared statement with the store's parameters. */
static enum err queue(struct batch *batch, const char *name, struct expectation expectation)
{
    const struct pg_params *params = &batch->store->params;
    struct pg_arguments arguments;

    pg_params_list(params, &arguments);
    if (!PQsendQueryPrepared(batch->conn, name, params->count, arguments.values, arguments.lengths,
                             arguments.formats, 1))
        return pg_away(batch->conn, batch->diag);
    expect(batch, expectation);
    return ERR_OK;
}

/* Queues rows of one kind, in as many statements as it takes; all but the last go out at once, so
 * that no more than one waits in memory. */
static enum err queue_rows(struct batch *batch, const struct statement *statement, const void *rows,
                           size_t count)
{
    bool purge = statement->table == &table_purged;
    enum err err = ERR_OK;

    while (count && err == ERR_OK) {
        size_t chunk = table_chunk(statement->table, rows, count);
        table_encode(statement->table, rows, chunk, &batch->store->params);
        /* what is purged may never have been written */
        err = queue(batch, statement->name,
                    (struct expectation){ .status = PGRES_COMMAND_OK,
                                          .tag = purge ? "DELETE" : "INSERT",
                                          .rows_min = purge ? 0 : chunk,
                                          .rows_max = chunk });
        rows = (const char *)rows + chunk * statement->table->row_size;
        count -= chunk;
        if (count && err == ERR_OK)
            err = pg_flush(batch->conn, batch->deadline, batch->diag);
    }
    return err;
}

static struct stored_entitlement *flatten(const struct entitlement_row *rows, size_t count)
{
    struct stored_entitlement *flat = mem_calloc(count, sizeof *flat);

    for (size_t i = 0; i < count; i++) {
        const struct entitlement *e = rows[i].entitlement;
        flat[i] = (struct stored_entitlement){
            .entitlement_ref = e->entitlement_ref,
            .revision = e->revision,
            .publisher = e->publisher,
            .text = e->text,
            .sha256 = e->sha256,
            .begins_ms = e->begins_ms,
            .ends_ms = e->ends_ms,
            .installed_ms = rows[i].installed_ms,
            .minter = rows[i].minter,
            .usable = rows[i].usable,
            .seq = rows[i].seq,
        };
    }
    return flat;
}

/* The rows that go with each of the statements. */
static enum err queue_changes(struct batch *batch, const struct ledger_changes *c)
{
    AUTO(mem_free) struct stored_entitlement *flat = flatten(c->entitlements, c->entitlement_count);
    const struct stored_self self = { true, c->self ? *c->self : (struct self_row){ 0 } };
    const struct {
        const void *rows;
        size_t count;
    } kinds[] = {
        { c->purged, c->purged_count }, { &self, c->self ? 1 : 0 },
        { flat, c->entitlement_count }, { c->scopes, c->scope_count },
        { c->nodes, c->node_count },    { c->credits, c->credit_count },
        { c->moves, c->move_count },    { c->origins, c->origin_count },
        { c->leases, c->lease_count },
    };
    enum err err = ERR_OK;

    _Static_assert(ARRAY_SIZE(kinds) == ARRAY_SIZE(statements), "one list of rows a statement");
    for (size_t i = 0; err == ERR_OK && i < ARRAY_SIZE(kinds); i++)
        err = queue_rows(batch, &statements[i], kinds[i].rows, kinds[i].count);
    return err;
}

static enum err queue_batch(struct batch *batch, const struct ledger_changes *changes,
                            int64_t ceiling_ms)
{
    struct pg_params *params = &batch->store->params;
    enum err err;

    if (!PQenterPipelineMode(batch->conn))
        return pg_away(batch->conn, batch->diag);
    pg_params_clear(params);
    err = queue(batch, "begin", (struct expectation){ .status = PGRES_COMMAND_OK, .tag = "BEGIN" });
    if (err != ERR_OK)
        return err;
    pg_params_int64(params, (int64_t)batch->store->identity.seq);
    pg_params_int64(params, (int64_t)changes->seq);
    pg_params_int64(params, ceiling_ms);
    err = queue(batch, "advance",
                (struct expectation){
                    .status = PGRES_TUPLES_OK, .tag = "SELECT", .rows_min = 1, .rows_max = 1 });
    if (err == ERR_OK)
        err = queue_changes(batch, changes);
    if (err == ERR_OK)
        err = pg_flush(batch->conn, batch->deadline, batch->diag);
    if (err != ERR_OK)
        return err;
    batch->committing = true;
    pg_params_clear(params);
    err =
        queue(batch, "commit", (struct expectation){ .status = PGRES_COMMAND_OK, .tag = "COMMIT" });
    if (err == ERR_OK && !PQpipelineSync(batch->conn))
        err = pg_away(batch->conn, batch->diag);
    return err == ERR_OK ? pg_flush(batch->conn, batch->deadline, batch->diag) : err;
}

/* ---- the answers ----------------------------------------------------------------------------- */

/* In pipeline mode a NULL stands between the results of two statements. */
static enum err next_answer(struct batch *batch, PGresult **out)
{
    *out = NULL;
    for (int i = 0; i < 2 && !*out; i++) {
        enum err err = pg_result(batch->conn, batch->deadline, out, batch->diag);
        if (err != ERR_OK)
            return err;
    }
    return *out ? ERR_OK : pg_away(batch->conn, batch->diag);
}

static bool is_expected(const struct expectation *expected, PGresult *answer)
{
    const char *tag = PQcmdStatus(answer), *rows = PQcmdTuples(answer);
    size_t length = strlen(expected->tag);
    size_t count = *rows ? (size_t)strtoull(rows, NULL, 10) : 0;

    return PQresultStatus(answer) == expected->status && !strncmp(tag, expected->tag, length) &&
           (tag[length] == '\0' || tag[length] == ' ') && count >= expected->rows_min &&
           count <= expected->rows_max;
}

static enum err unknown_outcome(struct batch *batch)
{
    struct diag why = *batch->diag;

    return diag_set(batch->diag, ERR_STORE_UNKNOWN,
                    "it is not known whether the last batch was committed: %.300s", why.text);
}

/* Reads the answer to statement `index`. *sure: an error means that nothing was written. */
static enum err read_answer(struct batch *batch, size_t index, bool *sure)
{
    AUTO(PQclear) PGresult *answer = NULL;
    bool is_commit = index == batch->count - 1;
    enum err err = next_answer(batch, &answer);

    *sure = false;
    if (err != ERR_OK)
        return err;
    err = pg_result_error(batch->conn, answer, batch->diag);
    if (err != ERR_OK) {
        /* The session may have ended right after COMMIT did its work; before COMMIT it ended with
         * the transaction. */
        bool said_by_server = PQresultErrorField(answer, PG_DIAG_SQLSTATE) != NULL;
        *sure = is_commit ? pg_result_clean(answer) : said_by_server;
        return err;
    }
    if (is_expected(&batch->expected[index], answer))
        return ERR_OK;
    return diag_set(batch->diag, ERR_STORE_UNKNOWN, "the database answered \"%s\" to %s",
                    PQcmdStatus(answer), batch->expected[index].tag);
}

static enum err read_answers(struct batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        bool sure;
        enum err err = read_answer(batch, i, &sure);
        if (err != ERR_OK)
            return sure ? err : unknown_outcome(batch);
    }
    return ERR_OK;
}

/* After COMMIT was confirmed: back to normal. If that fails the batch is committed all the same,
 * and the next one finds the session ended. */
static void leave_pipeline(struct batch *batch)
{
    AUTO(PQclear) PGresult *sync = NULL;

    batch->store->failed = next_answer(batch, &sync) != ERR_OK ||
                           PQresultStatus(sync) != PGRES_PIPELINE_SYNC ||
                           !PQexitPipelineMode(batch->conn);
}

enum err store_commit(struct store *store, const struct ledger_changes *changes, int64_t ceiling_ms,
                      struct commit_receipt *receipt, struct diag *diag)
{
    struct diag ignored;
    struct batch batch = { .store = store,
                           .conn = store->conn,
                           .deadline = pg_deadline(COMMIT_WAIT_MS),
                           .diag = diag ? diag : &ignored };
    enum err err;

    must(changes->seq >= store->identity.seq && changes->seq <= INT64_MAX && ceiling_ms >= 0);
    if (store->failed)
        return diag_set(diag, ERR_STORE_AWAY, "the database session has ended");
    err = queue_batch(&batch, changes, ceiling_ms);
    if (err == ERR_OK)
        err = read_answers(&batch);
    else if (batch.committing)
        err = unknown_outcome(&batch);
    store->failed = err != ERR_OK;
    if (err == ERR_OK) {
        leave_pipeline(&batch);
        store->identity.seq = changes->seq;
        *receipt = (struct commit_receipt){ store->identity.node_ref, changes->seq };
    }
    mem_free(batch.expected);
    return err;
}
