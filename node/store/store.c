/* Opening the database: is it safe, is it ours, is it new.
 *
 * Happy path: connect, look at the server's settings, fix those of the session, take the lock,
 * migrate, read the identity, prepare the statements of a batch.
 *
 * Failure: whatever fails ends the session; PostgreSQL then rolls back what was open and releases
 * the lock. Nothing has to be tidied up. */
#include "store/store_internal.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>

/* "twinleas" in ASCII, as a bigint: the key of the advisory lock. */
#define LOCK_KEY "8392292353614111091"

#define SERVER_VERSION_MIN 150000 /* PostgreSQL 15 */

/* statement_timeout and idle_in_transaction_session_timeout only tidy up on the server what this
 * side has given up already: they are longer than any wait here. READ COMMITTED: the session is the
 * only writer and decides nothing from what it reads. Sequential scans: never right for the few
 * rows of a batch, but a plan made while the tables were empty might have one. */
static const char session_settings[] = "SET search_path = public;"
                                       "SET statement_timeout = '60s';"
                                       "SET lock_timeout = '5s';"
                                       "SET idle_in_transaction_session_timeout = '60s';"
                                       "SET default_transaction_isolation = 'read committed';"
                                       "SET client_min_messages = error;"
                                       "SET plan_cache_mode = force_generic_plan;"
                                       "SET enable_seqscan = off;"
                                       "SET jit = off";

/* ---- is it safe ------------------------------------------------------------------------------ */

/* Each question is answered true by a database that may not be used, the first one counts. */
static const struct {
    const char *sql;
    enum err err;
    const char *text;
} dangers[] = {
    { "pg_is_in_recovery()", ERR_STORE_READ_ONLY,
      "the database is a standby (in recovery): point DATABASE at its primary" },
    { "current_setting('transaction_read_only')::boolean", ERR_STORE_READ_ONLY,
      "the database is read-only (default_transaction_read_only): a node must be able to write" },
    { "NOT current_setting('fsync')::boolean", ERR_STORE_UNSAFE,
      "PostgreSQL runs with fsync = off and may lose what it confirmed: set fsync = on" },
    { "NOT current_setting('full_page_writes')::boolean", ERR_STORE_UNSAFE,
      "PostgreSQL runs with full_page_writes = off and may lose what it confirmed: set "
      "full_page_writes = on" },
    { "current_setting('synchronous_commit') = 'off'", ERR_STORE_UNSAFE,
      "PostgreSQL confirms commits before they are durable: set synchronous_commit = on (look at "
      "ALTER ROLE and ALTER DATABASE too)" },
    { "current_setting('server_encoding') <> 'UTF8'", ERR_STORE_UNSAFE,
      "the database's encoding is not UTF8: create it with ENCODING 'UTF8'" },
};

static enum err check_dangers(PGconn *conn, struct diag *diag)
{
    AUTO(PQclear) PGresult *result = NULL;
    AUTO(buf_fini) struct buf sql;

    buf_init(&sql, 1024);
    for (size_t i = 0; i < ARRAY_SIZE(dangers); i++)
        buf_format(&sql, "%s%s", i ? ", " : "SELECT ", dangers[i].sql);
    must(buf_ok(&sql));
    enum err err = pg_query(conn, buf_text(&sql), NULL, PG_STATEMENT_WAIT_MS, &result, diag);
    if (err != ERR_OK)
        return err;
    must(PQntuples(result) == 1 && PQnfields(result) == (int)ARRAY_SIZE(dangers));
    for (size_t i = 0; i < ARRAY_SIZE(dangers); i++) {
        bool danger;
        must(pg_field_bool(pg_cell(result, 0, (int)i), &danger));
        if (danger)
            return diag_set(diag, dangers[i].err, "%s", dangers[i].text);
    }
    return ERR_OK;
}

/* A pooler answers with a process of its own invention, and may give each transaction another
 * session: the lock would be held by none. */
static enum err check_direct(PGconn *conn, struct diag *diag)
{
    AUTO(PQclear) PGresult *result = NULL;
    int32_t pid;
    enum err err =
        pg_query(conn, "SELECT pg_backend_pid()", NULL, PG_STATEMENT_WAIT_MS, &result, diag);

    if (err != ERR_OK)
        return err;
    must(PQntuples(result) == 1 && pg_field_int32(pg_cell(result, 0, 0), &pid));
    if (pid == PQbackendPID(conn))
        return ERR_OK;
    return diag_set(
        diag, ERR_STORE_UNSAFE,
        "a connection pooler stands before the database: DATABASE must lead to PostgreSQL "
        "itself, because the lock that keeps a second node away belongs to one session");
}

static enum err check_server(PGconn *conn, struct diag *diag)
{
    int version = PQserverVersion(conn);
    enum err err;

    if (version < SERVER_VERSION_MIN)
        return diag_set(diag, ERR_STORE_UNSAFE,
                        "PostgreSQL %d.%d is too old: version %d or newer is needed",
                        version / 10000, version % 10000, SERVER_VERSION_MIN / 10000);
    if ((err = check_dangers(conn, diag)) != ERR_OK)
        return err;
    return check_direct(conn, diag);
}

/* ---- is it ours ------------------------------------------------------------------------------ */

/* An advisory lock with a bigint key: its halves stand in classid and objid, and objsubid is 1. */
static const char owner_query[] =
    "SELECT format('process %s, application \"%s\", from %s, since %s', l.pid, "
    "COALESCE(a.application_name, 'unknown'), "
    "COALESCE(a.client_addr::text, 'the same machine'), "
    "COALESCE(to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS \"UTC\"'), "
    "'unknown')) "
    "FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid) "
    "WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 "
    "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND l.classid::bigint = " LOCK_KEY " >> 32 "
    "AND l.objid::bigint = " LOCK_KEY " & 4294967295";

static enum err describe_owner(PGconn *conn, struct diag *diag)
{
    AUTO(PQclear) PGresult *result = NULL;
    const char *owner = "it has just gone, try again";
    int length = (int)strlen(owner);
    enum err err = pg_query(conn, owner_query, NULL, PG_STATEMENT_WAIT_MS, &result, diag);

    if (err != ERR_OK)
        return err;
    if (PQntuples(result) > 0) {
        struct pg_field field = pg_cell(result, 0, 0);
        owner = field.bytes;
        length = field.length;
    }
    return diag_set(diag, ERR_STORE_OWNED,
                    "another node owns the database (%.*s): give each node a database of its own",
                    length, owner);
}

/* The server waits, not we: the lock is ours the moment the predecessor's session has ended. */
static enum err await_lock(PGconn *conn, int lock_wait_ms, bool *owned, struct diag *diag)
{
    struct boot deadline = pg_deadline(lock_wait_ms + PG_STATEMENT_WAIT_MS);
    enum err first = ERR_OK;

    if (!PQsendQuery(conn, "SELECT pg_advisory_lock(" LOCK_KEY ")"))
        return pg_away(conn, diag);
    for (;;) {
        AUTO(PQclear) PGresult *result = NULL;
        enum err err = pg_result(conn, deadline, &result, diag);
        if (err != ERR_OK || !result)
            return first != ERR_OK ? first : err;
        first = pg_result_error(conn, result, diag);
        const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
        *owned = sqlstate && !strcmp(sqlstate, "55P03"); /* lock_not_available */
    }
}

static enum err take_lock(PGconn *conn, int lock_wait_ms, struct diag *diag)
{
    char sql[100];
    bool owned = false;

    /* 0 would mean for ever */
    snprintf(sql, sizeof sql, "SET lock_timeout = %d; SET statement_timeout = 0",
             lock_wait_ms > 0 ? lock_wait_ms : 1);
    enum err err = pg_execute(conn, sql, PG_STATEMENT_WAIT_MS, diag);
    if (err == ERR_OK)
        err = await_lock(conn, lock_wait_ms, &owned, diag);
    return owned ? describe_owner(conn, diag) : err;
}

/* ---- is it new ------------------------------------------------------------------------------- */

/* Which server and which history of its WAL this is. The first eight digits of a WAL file's name
 * are the timeline; pg_control_checkpoint() would tell the one of the last checkpoint. */
static enum err read_place(PGconn *conn, struct store_identity *out, struct diag *diag)
{
    AUTO(PQclear) PGresult *result = NULL;
    int64_t timeline;
    enum err err = pg_query(conn,
                            "SELECT system_identifier::text, ('x' || "
                            "left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint "
                            "FROM pg_control_system()",
                            NULL, PG_STATEMENT_WAIT_MS, &result, diag);

    if (err != ERR_OK)
        return err;
    must(PQntuples(result) == 1 && pg_field_int64(pg_cell(result, 0, 1), &timeline));
    struct pg_field system = pg_cell(result, 0, 0);
    must(system.length > 0 && (size_t)system.length < sizeof out->system);
    must(timeline > 0 && timeline <= UINT32_MAX);
    memset(out->system, 0, sizeof out->system);
    memcpy(out->system, system.bytes, (size_t)system.length);
    out->timeline = (uint32_t)timeline;
    return ERR_OK;
}

static enum err read_identity(PGconn *conn, struct store_identity *out, bool *found,
                              struct diag *diag)
{
    AUTO(PQclear) PGresult *result = NULL;
    struct store_identity identity = *out;
    int64_t seq;
    enum err err = pg_query(conn, "SELECT node_ref, instance_ref, seq, ceiling_ms FROM node_state",
                            NULL, PG_STATEMENT_WAIT_MS, &result, diag);

    if (err != ERR_OK)
        return err;
    *found = PQntuples(result) == 1;
    if (!*found)
        return ERR_OK;
    if (!pg_field_uuid(pg_cell(result, 0, 0), &identity.node_ref) ||
        !pg_field_uuid(pg_cell(result, 0, 1), &identity.instance_ref) ||
        !pg_field_int64(pg_cell(result, 0, 2), &seq) || seq < 0 ||
        !pg_field_int64(pg_cell(result, 0, 3), &identity.ceiling_ms) || identity.ceiling_ms < 0 ||
        uuid_is_nil(&identity.node_ref))
        return diag_set(diag, ERR_STORE_CORRUPT, "table node_state holds what it never can");
    identity.seq = (uint64_t)seq;
    *out = identity;
    return ERR_OK;
}

/* One statement, one transaction: it either introduces the node, or finds that the database is not
 * new although it has lost its identity. */
static enum err write_identity(PGconn *conn, const struct store_identity *identity,
                               struct diag *diag)
{
    AUTO(pg_params_fini) struct pg_params params;
    AUTO(PQclear) PGresult *result = NULL;

    pg_params_init(&params);
    pg_params_uuid(&params, &identity->node_ref);
    pg_params_uuid(&params, &identity->instance_ref);
    enum err err = pg_query(conn,
                            "INSERT INTO node_state (node_ref, instance_ref, seq, ceiling_ms) "
                            "SELECT $1::uuid, $2::uuid, 0, 0 WHERE NOT EXISTS "
                            "(SELECT 1 FROM lease UNION ALL SELECT 1 FROM origin "
                            "UNION ALL SELECT 1 FROM entitlement UNION ALL SELECT 1 FROM credit "
                            "UNION ALL SELECT 1 FROM node UNION ALL SELECT 1 FROM self)",
                            &params, PG_STATEMENT_WAIT_MS, &result, diag);
    if (err != ERR_OK)
        return err;
    if (strcmp(PQcmdTuples(result), "1") != 0)
        return diag_set(
            diag, ERR_STORE_CORRUPT,
            "table node_state has lost its row while other tables have some: restore the "
            "database from a backup");
    return ERR_OK;
}

static enum err identify(PGconn *conn, const struct uuid *instance_ref, struct store_identity *out,
                         struct diag *diag)
{
    char theirs[UUID_TEXT_SIZE], ours[UUID_TEXT_SIZE];
    bool found;
    enum err err;

    *out = (struct store_identity){ .seq = 0 };
    if ((err = read_place(conn, out, diag)) != ERR_OK ||
        (err = read_identity(conn, out, &found, diag)) != ERR_OK)
        return err;
    if (!found) {
        out->node_ref = uuid_random();
        out->instance_ref = *instance_ref;
        out->created = true;
        return write_identity(conn, out, diag);
    }
    if (uuid_equal(&out->instance_ref, instance_ref))
        return ERR_OK;
    uuid_format(&out->instance_ref, theirs);
    uuid_format(instance_ref, ours);
    return diag_set(
        diag, ERR_STORE_REFUSED,
        "the database belongs to instance %s, INSTANCE_REF is %s: correct one of DATABASE "
        "and INSTANCE_REF",
        theirs, ours);
}

/* ---- public ---------------------------------------------------------------------------------- */

enum err store_open(const char *conninfo, const struct uuid *instance_ref, int lock_wait_ms,
                    struct store **out, struct store_identity *identity, struct diag *diag)
{
    AUTO(PQfinish) PGconn *conn = NULL;
    struct store_identity found;
    enum err err;

    must(!uuid_is_nil(instance_ref) && lock_wait_ms >= 0);
    if ((err = pg_connect(conninfo, &conn, diag)) != ERR_OK ||
        (err = check_server(conn, diag)) != ERR_OK ||
        (err = take_lock(conn, lock_wait_ms, diag)) != ERR_OK ||
        (err = pg_execute(conn, session_settings, PG_STATEMENT_WAIT_MS, diag)) != ERR_OK ||
        (err = schema_migrate(conn, diag)) != ERR_OK ||
        (err = identify(conn, instance_ref, &found, diag)) != ERR_OK ||
        (err = commit_prepare(conn, diag)) != ERR_OK)
        return err;

    struct store *store = mem_calloc(1, sizeof *store);
    store->conn = TAKE(conn);
    store->identity = found;
    pg_params_init(&store->params);
    *out = store;
    *identity = found;
    return ERR_OK;
}

struct store *store_close(struct store *store)
{
    if (!store)
        return NULL;
    PQfinish(store->conn);
    pg_params_fini(&store->params);
    mem_free(store);
    return NULL;
}

bool store_alive(struct store *store)
{
    struct pollfd fd = { .fd = PQsocket(store->conn), .events = POLLIN };

    if (store->failed || PQstatus(store->conn) != CONNECTION_OK)
        return false;
    /* Something was said unasked: a notice, or the last words of a session and then its end. */
    while (poll(&fd, 1, 0) > 0) {
        if (!PQconsumeInput(store->conn) || PQstatus(store->conn) != CONNECTION_OK)
            return false;
    }
    return true;
}

int store_fd(const struct store *store)
{
    return PQsocket(store->conn);
}
