/* The binary COPY of a table: any bytes, in pieces of any size, are either rows or refused. */
#include "../../node/store/load.c"

static const struct table *const tables[] = {
    &table_lease, &table_origin,      &table_credit, &table_move,
    &table_node,  &table_entitlement, &table_self,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool may_be_null(const struct table *table)
{
    return table == &table_node || table == &table_self;
}

static enum err take_any(void *context, const void *row, const struct pg_field *fields,
                         struct diag *diag)
{
    const struct table *table = *(const struct table *const *)context;
    size_t bytes = 0;

    (void)diag;
    for (size_t i = 0; i < table_read_count(table); i++) {
        must(fields[i].length >= 0 || may_be_null(table));
        for (int j = 0; j < fields[i].length; j++) /* every byte of it can be read */
            bytes += (unsigned char)fields[i].bytes[j] == 0xff;
    }
    must(bytes <= LOAD_PENDING_MAX);
    if (table == &table_lease)
        must(((const struct lease_row *)row)->state < LEASE_STATES);
    return ERR_OK;
}

/* data: table, size of the pieces, then the bytes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct diag diag = { "" };
    const struct table *table;
    struct copy copy = { .take = take_any, .context = &table, .diag = &diag };
    enum err err = ERR_OK;

    if (size < 2)
        return 0;
    copy.table = table = tables[data[0] % ARRAY_SIZE(tables)];
    size_t step = data[1] + 1u;
    buf_init(&copy.pending, LOAD_PENDING_MAX);
    for (size_t at = 2; err == ERR_OK && at < size; at += step)
        err = take_bytes(&copy, (const char *)data + at, size - at < step ? size - at : step);
    must((err == ERR_OK) == (diag.text[0] == '\0'));
    must(err == ERR_OK || err == ERR_STORE_CORRUPT);
    buf_fini(&copy.pending);
    return 0;
}
