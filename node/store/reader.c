/* Paged reads for lists, on a read-only connection of their own. Keyset pages: each starts after
 * the last key of the one before, so a page costs the same at the end of a million rows as at the
 * beginning. One row more than asked for is read, to know whether there is another page. */
#include "store/store_internal.h"

#include <poll.h>

#define READ_WAIT_MS      35000 /* above the statement_timeout below */
#define READ_SQL_MAX      2048
#define LISTED_LEASES_MAX 100000 /* of all origins of one page together */

_Static_assert(LISTED_LEASES_MAX > ORIGIN_LEASES_MAX, "a page holds one origin at least");

/* REPEATABLE READ: what is read in several statements is of one moment. */
static const char session_settings[] = "SET search_path = public;"
                                       "SET default_transaction_read_only = on;"
                                       "SET default_transaction_isolation = 'repeatable read';"
                                       "SET statement_timeout = '30s';"
                                       "SET lock_timeout = '5s';"
                                       "SET idle_in_transaction_session_timeout = '60s';"
                                       "SET client_min_messages = error;"
                                       "SET jit = off";

struct reader {
    PGconn *conn; /* NULL: not connected */
    char *conninfo;
};

struct reader *reader_new(const char *conninfo)
{
    struct reader *reader = mem_calloc(1, sizeof *reader);

    reader->conninfo = mem_strdup(conninfo);
    return reader;
}

static void disconnect(struct reader *reader)
{
    PQfinish(reader->conn);
    reader->conn = NULL;
}

struct reader *reader_free(struct reader *reader)
{
    if (!reader)
        return NULL;
    disconnect(reader);
    explicit_bzero(reader->conninfo, strlen(reader->conninfo)); /* it may hold a password */
    mem_free(reader->conninfo);
    mem_free(reader);
    return NULL;
}

/* A server that has ended an idle session has said so, or closed the socket. */
static bool is_connected(const struct reader *reader)
{
    struct pollfd fd = { .fd = PQsocket(reader->conn), .events = POLLIN };

    return reader->conn && PQstatus(reader->conn) == CONNECTION_OK && poll(&fd, 1, 0) == 0;
}

static enum err connect_reader(struct reader *reader, struct diag *diag)
{
    if (is_connected(reader))
        return ERR_OK;
    disconnect(reader);
    enum err err = pg_connect(reader->conninfo, &reader->conn, diag);
    if (err == ERR_OK)
        err = pg_execute(reader->conn, session_settings, PG_STATEMENT_WAIT_MS, diag);
    return err;
}

/* After a failure the session may be anywhere: the next call gets a new one. */
static enum err finish(struct reader *reader, enum err err)
{
    if (err != ERR_OK)
        disconnect(reader);
    return err;
}

static char *field_text(struct pg_field field)
{
    return field.length < 0 ? NULL : mem_memdup(field.bytes, (size_t)field.length);
}

/* Decodes the columns of `table` that begin at column `first` of a result. */
static enum err decode_row(const struct table *table, const PGresult *result, int row, void *out,
                           struct diag *diag)
{
    struct pg_field fields[COLUMNS_MAX];
    int count = (int)table_read_count(table);

    must(PQnfields(result) >= count);
    for (int i = 0; i < count; i++)
        fields[i] = pg_cell(result, row, i);
    return table_decode(table, fields, out, diag);
}

/* How many of the rows belong to the page; *more: whether the one too many is there. */
static size_t page_count(const PGresult *result, size_t limit, bool *more)
{
    size_t rows = (size_t)PQntuples(result);

    must(rows <= limit + 1);
    *more = rows > limit;
    return *more ? limit : rows;
}

/* ---- leases ---------------------------------------------------------------------------------- */

static enum err query_leases(struct reader *reader, const struct lease_key *after, size_t limit,
                             int state, bool with_origin, PGresult **out, struct diag *diag)
{
    AUTO(pg_params_fini) struct pg_params params;
    AUTO(buf_fini) struct buf sql;
    static const struct lease_key beginning;

    pg_params_init(&params);
    pg_params_uuid(&params, after ? &after->lease_ref : &beginning.lease_ref);
    pg_params_uuid(&params, after ? &after->home : &beginning.home);
    pg_params_int64(&params, state);
    pg_params_int64(&params, (int64_t)limit + 1);
    pg_params_bool(&params, with_origin);
    buf_init(&sql, READ_SQL_MAX);
    buf_text_append(&sql, "SELECT ");
    table_select_list(&table_lease, "l.", &sql);
    buf_text_append(&sql,
                    ", COALESCE(s.feature, ''), CASE WHEN $5::boolean THEN COALESCE((SELECT "
                    "o.environment FROM origin o WHERE o.origin_ref = l.origin_ref), '{}') END "
                    "FROM lease l LEFT JOIN scope s ON s.scope_ref = l.scope_ref "
                    "WHERE (l.lease_ref, l.home) > ($1::uuid, $2::uuid) "
                    "AND ($3::bigint < 0 OR l.state = $3::bigint) "
                    "ORDER BY l.lease_ref, l.home LIMIT $4::bigint");
    must(buf_ok(&sql));
    return pg_query(reader->conn, buf_text(&sql), &params, READ_WAIT_MS, out, diag);
}

static enum err decode_lease(const PGresult *result, int row, struct listed_lease *out,
                             struct diag *diag)
{
    int extra = (int)table_read_count(&table_lease);
    struct pg_field feature = pg_cell(result, row, extra);
    enum err err = decode_row(&table_lease, result, row, &out->row, diag);

    if (err != ERR_OK)
        return err;
    if (feature.length < 0 || feature.length > FEATURE_NAME_MAX)
        return diag_set(diag, ERR_STORE_CORRUPT, "table scope has a feature name of %d bytes",
                        feature.length);
    memcpy(out->feature, feature.bytes, (size_t)feature.length);
    out->environment = field_text(pg_cell(result, row, extra + 1));
    return ERR_OK;
}

static enum err read_leases(struct reader *reader, const struct lease_key *after, size_t limit,
                            int state, bool with_origin, struct lease_page *page, struct diag *diag)
{
    AUTO(PQclear) PGresult *result = NULL;
    enum err err = query_leases(reader, after, limit, state, with_origin, &result, diag);

    if (err != ERR_OK)
        return err;
    page->count = page_count(result, limit, &page->more);
    page->rows = mem_calloc(page->count, sizeof *page->rows);
    for (size_t i = 0; err == ERR_OK && i < page->count; i++)
        err = decode_lease(result, (int)i, &page->rows[i], diag);
    return err;
}

enum err reader_leases(struct reader *reader, const struct lease_key *after, size_t limit,
                       int state, bool with_origin, struct lease_page *out, struct diag *diag)
{
    struct lease_page page = { .count = 0 };

    must(limit >= 1 && limit <= PAGE_LIMIT_MAX && state < LEASE_STATES);
    enum err err = connect_reader(reader, diag);
    if (err == ERR_OK)
        err = read_leases(reader, after, limit, state, with_origin, &page, diag);
    if (err == ERR_OK)
        *out = page;
    else
        lease_page_fini(&page);
    return finish(reader, err);
}

void lease_page_fini(struct lease_page *page)
{
    for (size_t i = 0; i < page->count; i++)
        mem_free(page->rows[i].environment);
    mem_free(page->rows);
    *page = (struct lease_page){ .count = 0 };
}

/* ---- origins --------------------------------------------------------------------------------- */

static enum err query_origins(struct reader *reader, const struct uuid *after, size_t limit,
                              PGresult **out, struct diag *diag)
{
    AUTO(pg_params_fini) struct pg_params params;
    AUTO(buf_fini) struct buf sql;
    static const struct uuid beginning;

    pg_params_init(&params);
    pg_params_uuid(&params, after ? after : &beginning);
    pg_params_int64(&params, (int64_t)limit + 1);
    buf_init(&sql, READ_SQL_MAX);
    buf_text_append(&sql, "SELECT ");
    table_select_list(&table_origin, "", &sql);
    buf_text_append(&sql, ", COALESCE(environment, '{}') FROM origin WHERE enrolled AND "
                          "origin_ref > $1::uuid ORDER BY origin_ref LIMIT $2::bigint");
    must(buf_ok(&sql));
    return pg_query(reader->conn, buf_text(&sql), &params, READ_WAIT_MS, out, diag);
}

static enum err read_origins(struct reader *reader, const struct uuid *after, size_t limit,
                             struct origin_page *page, struct diag *diag)
{
    AUTO(PQclear) PGresult *result = NULL;
    enum err err = query_origins(reader, after, limit, &result, diag);
    int extra = (int)table_read_count(&table_origin);

    if (err != ERR_OK)
        return err;
    page->count = page_count(result, limit, &page->more);
    page->rows = mem_calloc(page->count, sizeof *page->rows);
    for (size_t i = 0; err == ERR_OK && i < page->count; i++) {
        err = decode_row(&table_origin, result, (int)i, &page->rows[i].row, diag);
        if (err == ERR_OK)
            page->rows[i].environment = field_text(pg_cell(result, (int)i, extra));
    }
    return err;
}

/* The active leases of all origins of the page, ordered as the origins are. */
static enum err query_origin_leases(struct reader *reader, const struct origin_page *page,
                                    PGresult **out, struct diag *diag)
{
    AUTO(pg_params_fini) struct pg_params params;
    AUTO(buf_fini) struct buf sql;

    pg_params_init(&params);
    pg_params_uuid(&params, &page->rows[0].row.origin_ref);
    pg_params_uuid(&params, &page->rows[page->count - 1].row.origin_ref);
    pg_params_int64(&params, LISTED_LEASES_MAX);
    buf_init(&sql, READ_SQL_MAX);
    buf_text_append(&sql, "SELECT ");
    table_select_list(&table_lease, "", &sql);
    buf_format(&sql,
               " FROM lease WHERE origin_ref BETWEEN $1::uuid AND $2::uuid AND state = %d "
               "ORDER BY origin_ref, lease_ref, home LIMIT $3::bigint",
               LEASE_ACTIVE);
    must(buf_ok(&sql));
    return pg_query(reader->conn, buf_text(&sql), &params, READ_WAIT_MS, out, diag);
}

static void origin_add_lease(struct listed_origin *origin, const struct lease_row *row)
{
    /* room for 1, 2, 4, 8 … */
    if ((origin->lease_count & (origin->lease_count - 1)) == 0) {
        size_t room = origin->lease_count ? 2 * origin->lease_count : 1;
        origin->leases = mem_resize(origin->leases, room * sizeof *origin->leases);
    }
    origin->leases[origin->lease_count++] = *row;
}

static void origin_fini(struct listed_origin *origin)
{
    mem_free(origin->environment);
    mem_free(origin->leases);
}

/* Ends the page before origin `count`. */
static void cut_page(struct origin_page *page, size_t count)
{
    while (page->count > count)
        origin_fini(&page->rows[--page->count]);
    page->more = true;
}

static enum err read_origin_leases(struct reader *reader, struct origin_page *page,
                                   struct diag *diag)
{
    AUTO(PQclear) PGresult *result = NULL;
    size_t at = 0;
    enum err err = query_origin_leases(reader, page, &result, diag);

    if (err != ERR_OK)
        return err;
    for (int i = 0; i < PQntuples(result); i++) {
        struct lease_row row;
        if ((err = decode_row(&table_lease, result, i, &row, diag)) != ERR_OK)
            return err;
        while (uuid_compare(&page->rows[at].row.origin_ref, &row.origin_ref) < 0)
            at++; /* the last origin of the page is the upper bound of the query */
        if (uuid_equal(&page->rows[at].row.origin_ref, &row.origin_ref))
            origin_add_lease(&page->rows[at], &row);
    }
    if (PQntuples(result) < LISTED_LEASES_MAX)
        return ERR_OK;
    if (at == 0)
        return diag_set(diag, ERR_STORE_CORRUPT, "an origin has more leases than any can have");
    cut_page(page, at); /* that origin may have more leases than were read */
    return ERR_OK;
}

/* Both lists in one transaction, so that they show one moment. */
static enum err read_origin_page(struct reader *reader, const struct uuid *after, size_t limit,
                                 struct origin_page *page, struct diag *diag)
{
    enum err err = pg_execute(reader->conn, "BEGIN", PG_STATEMENT_WAIT_MS, diag);

    if (err == ERR_OK)
        err = read_origins(reader, after, limit, page, diag);
    if (err == ERR_OK && page->count)
        err = read_origin_leases(reader, page, diag);
    return err == ERR_OK ? pg_execute(reader->conn, "COMMIT", PG_STATEMENT_WAIT_MS, diag) : err;
}

enum err reader_origins(struct reader *reader, const struct uuid *after, size_t limit,
                        bool with_leases, struct origin_page *out, struct diag *diag)
{
    struct origin_page page = { .count = 0 };

    must(limit >= 1 && limit <= PAGE_LIMIT_MAX);
    enum err err = connect_reader(reader, diag);
    if (err == ERR_OK)
        err = with_leases ? read_origin_page(reader, after, limit, &page, diag)
                          : read_origins(reader, after, limit, &page, diag);
    if (err == ERR_OK)
        *out = page;
    else
        origin_page_fini(&page);
    return finish(reader, err);
}

void origin_page_fini(struct origin_page *page)
{
    for (size_t i = 0; i < page->count; i++)
        origin_fini(&page->rows[i]);
    mem_free(page->rows);
    *page = (struct origin_page){ .count = 0 };
}

/* ---- entitlements ---------------------------------------------------------------------------- */

static enum err decode_entitlement(const PGresult *result, int row, struct listed_entitlement *out,
                                   struct diag *diag)
{
    struct pg_field text = pg_cell(result, row, 3);

    if (!pg_field_uuid(pg_cell(result, row, 0), &out->entitlement_ref) ||
        !pg_field_int64(pg_cell(result, row, 1), &out->revision) ||
        !pg_field_int64(pg_cell(result, row, 2), &out->installed_ms) || text.length < 0)
        return diag_set(diag, ERR_STORE_CORRUPT, "table entitlement has a row that cannot be read");
    out->text = field_text(text);
    return ERR_OK;
}

static enum err read_entitlements(struct reader *reader, struct entitlement_page *page,
                                  struct diag *diag)
{
    AUTO(PQclear) PGresult *result = NULL;
    enum err err = pg_query(reader->conn,
                            "SELECT DISTINCT ON (entitlement_ref) "
                            "entitlement_ref, revision, installed_ms, text "
                            "FROM entitlement ORDER BY entitlement_ref, revision DESC",
                            NULL, READ_WAIT_MS, &result, diag);

    if (err != ERR_OK)
        return err;
    page->count = (size_t)PQntuples(result);
    page->rows = mem_calloc(page->count, sizeof *page->rows);
    for (size_t i = 0; err == ERR_OK && i < page->count; i++)
        err = decode_entitlement(result, (int)i, &page->rows[i], diag);
    return err;
}

enum err reader_entitlements(struct reader *reader, struct entitlement_page *out, struct diag *diag)
{
    struct entitlement_page page = { .count = 0 };
    enum err err = connect_reader(reader, diag);

    if (err == ERR_OK)
        err = read_entitlements(reader, &page, diag);
    if (err == ERR_OK)
        *out = page;
    else
        entitlement_page_fini(&page);
    return finish(reader, err);
}

void entitlement_page_fini(struct entitlement_page *page)
{
    for (size_t i = 0; i < page->count; i++)
        mem_free(page->rows[i].text);
    mem_free(page->rows);
    *page = (struct entitlement_page){ .count = 0 };
}
