/* Forward-only migrations, embedded from schema/. Each is one transaction; the caller holds the
 * database lock, so nobody else migrates at the same time. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/embed.h"
#include "store/store_internal.h"

#define MIGRATION_WAIT_MS   600000 /* rewriting a large table takes its time */
#define MIGRATION_BYTES_MAX (1u << 20)

extern const struct embedded_file schema_migrations[]; /* in order: 0001_…, 0002_…; made by CMake */

static int64_t known_version(void)
{
    int64_t count = 0;

    while (schema_migrations[count].name) {
        must(strtol(schema_migrations[count].name, NULL, 10) == count + 1);
        count++;
    }
    return count;
}

/* The highest version, and how many rows say so; 0 for a new database. */
static enum err stored_version(PGconn *conn, int64_t *version, struct diag *diag)
{
    AUTO(PQclear) PGresult *found = NULL, *versions = NULL;
    int64_t highest, count;
    bool exists;
    enum err err = pg_query(conn, "SELECT to_regclass('public.schema_version') IS NOT NULL", NULL,
                            PG_STATEMENT_WAIT_MS, &found, diag);

    if (err != ERR_OK)
        return err;
    must(PQntuples(found) == 1 && pg_field_bool(pg_cell(found, 0, 0), &exists));
    if (!exists) {
        *version = 0;
        return ERR_OK;
    }
    err = pg_query(conn, "SELECT COALESCE(max(version), 0)::bigint, count(*) FROM schema_version",
                   NULL, PG_STATEMENT_WAIT_MS, &versions, diag);
    if (err != ERR_OK)
        return err;
    must(PQntuples(versions) == 1 && pg_field_int64(pg_cell(versions, 0, 0), &highest) &&
         pg_field_int64(pg_cell(versions, 0, 1), &count));
    if (highest != count)
        return diag_set(diag, ERR_STORE_SCHEMA,
                        "table schema_version has %" PRId64 " rows up to version %" PRId64
                        ": a migration is missing; restore the database from a backup",
                        count, highest);
    *version = highest;
    return ERR_OK;
}

static enum err note_version(PGconn *conn, int64_t version, const char *name, struct diag *diag)
{
    AUTO(pg_params_fini) struct pg_params params;
    AUTO(PQclear) PGresult *result = NULL;

    pg_params_init(&params);
    pg_params_int64(&params, version);
    pg_params_text(&params, name);
    pg_params_text(&params, TWINLEASE_VERSION);
    pg_params_int64(&params, wall_now().ms);
    return pg_query(conn,
                    "INSERT INTO schema_version (version, name, program, applied_ms) "
                    "VALUES ($1::bigint, $2::text, $3::text, $4::bigint)",
                    &params, PG_STATEMENT_WAIT_MS, &result, diag);
}

static enum err apply(PGconn *conn, int64_t version, struct diag *diag)
{
    const struct embedded_file *file = &schema_migrations[version - 1];
    AUTO(buf_fini) struct buf script;
    enum err err;

    buf_init(&script, MIGRATION_BYTES_MAX);
    buf_append(&script, file->begin, embedded_size(file));
    must(buf_ok(&script));
    err = pg_execute(conn, "BEGIN; SET LOCAL statement_timeout = 0", PG_STATEMENT_WAIT_MS, diag);
    if (err == ERR_OK)
        err = pg_execute(conn, buf_text(&script), MIGRATION_WAIT_MS, diag);
    if (err == ERR_OK)
        err = note_version(conn, version, file->name, diag);
    if (err == ERR_OK)
        err = pg_execute(conn, "COMMIT", MIGRATION_WAIT_MS, diag);
    return err; /* after a failure the session, and with it the transaction, is given up */
}

enum err schema_migrate(PGconn *conn, struct diag *diag)
{
    int64_t known = known_version(), version = 0;
    enum err err = stored_version(conn, &version, diag);

    if (err != ERR_OK)
        return err;
    if (version > known)
        return diag_set(diag, ERR_STORE_SCHEMA,
                        "the database has schema %" PRId64 ", this program knows up to %" PRId64
                        ": start a newer twinlease-node",
                        version, known);
    while (version < known) {
        if ((err = apply(conn, ++version, diag)) != ERR_OK)
            return err;
    }
    return ERR_OK;
}
