/* What a page for the peer needs from the database: the environments of its origins, which the
 * ledger does not keep in memory. */
#include "store/store_internal.h"

#define TEXTS_BYTES_MAX (256u << 20) /* of one page: PAGE_ROWS_MAX of what the client API takes */

/* Outer join: an answer for each key, in the order asked. */
static const char environments_sql[] =
    "SELECT o.environment FROM unnest($1::uuid[]) WITH ORDINALITY AS k (origin_ref, place) "
    "LEFT JOIN origin o ON o.origin_ref = k.origin_ref ORDER BY k.place";

/* Of `count` origins: appends each text with its NUL, and notes where it begins; SIZE_MAX: none. */
static enum err read_environments(struct store *store, const struct origin_row *origins,
                                  size_t count, struct buf *texts, size_t *offsets,
                                  struct diag *diag)
{
    AUTO(PQclear) PGresult *result = NULL;

    table_encode(&table_origin_key, origins, count, &store->params);
    enum err err = pg_query(store->conn, environments_sql, &store->params, PG_STATEMENT_WAIT_MS,
                            &result, diag);
    if (err != ERR_OK)
        return err;
    must((size_t)PQntuples(result) == count);
    for (size_t i = 0; i < count; i++) {
        struct pg_field text = pg_cell(result, (int)i, 0);
        offsets[i] = text.length < 0 ? SIZE_MAX : texts->length;
        if (text.length >= 0)
            buf_append(texts, text.bytes, (size_t)text.length + 1); /* libpq ends it with a NUL */
    }
    if (!buf_ok(texts))
        return diag_set(diag, ERR_STORE_CORRUPT,
                        "table origin: the environments of %zu origins take more than any can",
                        count);
    return ERR_OK;
}

static enum err read_all(struct store *store, const struct ledger_page *page, struct buf *texts,
                         size_t *offsets, struct diag *diag)
{
    enum err err = ERR_OK;

    for (size_t at = 0; err == ERR_OK && at < page->origin_count;) {
        size_t chunk = table_chunk(&table_origin_key, page->origins + at, page->origin_count - at);
        err = read_environments(store, page->origins + at, chunk, texts, offsets + at, diag);
        at += chunk;
    }
    return err;
}

enum err store_environments(struct store *store, struct ledger_page *page, struct diag *diag)
{
    AUTO(buf_fini) struct buf texts;
    AUTO(mem_free) size_t *offsets = mem_calloc(page->origin_count, sizeof *offsets);

    must(!page->texts);
    if (store->failed)
        return diag_set(diag, ERR_STORE_AWAY, "the database session has ended");
    buf_init(&texts, TEXTS_BYTES_MAX);
    enum err err = read_all(store, page, &texts, offsets, diag);
    store->failed = err != ERR_OK;
    if (err != ERR_OK)
        return err;
    page->texts = buf_take(&texts);
    for (size_t i = 0; i < page->origin_count; i++)
        page->origins[i].environment = offsets[i] == SIZE_MAX ? NULL : page->texts + offsets[i];
    return ERR_OK;
}
