#include "store/rows.h"

#include <stdio.h>

#define CHUNK_ROWS       4096       /* rows of one statement */
#define CHUNK_TEXT_BYTES (4u << 20) /* texts of one statement, together; one text may be longer */
#define SHA256_SIZE      32

#define COLUMN_OF(T, field, name, type, flags)                                                     \
    {                                                                                              \
        name, COLUMN_##type, flags, offsetof(struct T, field)                                      \
    }
#define COLUMN(T, field, type, flags) COLUMN_OF(T, field, #field, type, flags)

/* No column is fixed: a reference that its home has purged and granted anew replaces the record of
 * its former life in one batch. A renewal writes the same values, so no index is touched. */
const struct table table_lease = {
    .name = "lease",
    .row_size = sizeof(struct lease_row),
    .column_count = 14,
    .columns = {
        COLUMN(lease_row, lease_ref, UUID, COLUMN_KEY),
        COLUMN(lease_row, home, UUID, COLUMN_KEY),
        COLUMN(lease_row, origin_ref, UUID, 0),
        COLUMN(lease_row, scope_ref, UUID, 0),
        COLUMN(lease_row, count, INT64, 0),
        COLUMN(lease_row, created_ms, INT64, 0),
        COLUMN(lease_row, generation, UINT32, 0),
        COLUMN(lease_row, duration_ms, INT64, 0),
        COLUMN(lease_row, expires_ms, INT64, 0),
        COLUMN(lease_row, ended_ms, INT64, 0),
        COLUMN(lease_row, ended_expires_ms, INT64, 0),
        COLUMN(lease_row, seq, SEQ, 0),
        COLUMN(lease_row, state, STATE, 0),
        COLUMN(lease_row, shared, BOOL, 0),
    },
};

const struct table table_purged = {
    .name = "lease",
    .row_size = sizeof(struct lease_key),
    .column_count = 2,
    .columns = {
        COLUMN(lease_key, lease_ref, UUID, COLUMN_KEY),
        COLUMN(lease_key, home, UUID, COLUMN_KEY),
    },
};

const struct table table_origin = {
    .name = "origin",
    .row_size = sizeof(struct origin_row),
    .column_count = 8,
    .columns = {
        COLUMN(origin_row, origin_ref, UUID, COLUMN_KEY),
        COLUMN(origin_row, created_ms, INT64, 0),
        COLUMN(origin_row, updated_ms, INT64, 0),
        COLUMN(origin_row, updated_by, UUID, 0),
        COLUMN(origin_row, seq, SEQ, 0),
        COLUMN(origin_row, generation, UINT32, 0),
        COLUMN(origin_row, enrolled, BOOL, 0),
        COLUMN(origin_row, environment, TEXT, COLUMN_KEEP | COLUMN_WRITE_ONLY),
    },
};

const struct table table_origin_key = {
    .name = "origin",
    .row_size = sizeof(struct origin_row),
    .column_count = 1,
    .columns = { COLUMN(origin_row, origin_ref, UUID, COLUMN_KEY) },
};

const struct table table_credit = {
    .name = "credit",
    .row_size = sizeof(struct credit_row),
    .column_count = 7,
    .columns = {
        COLUMN(credit_row, scope_ref, UUID, COLUMN_KEY),
        COLUMN(credit_row, node_ref, UUID, COLUMN_KEY),
        COLUMN(credit_row, minted, INT64, 0),
        COLUMN(credit_row, usable, INT64, 0),
        COLUMN(credit_row, revision, INT64, 0),
        COLUMN(credit_row, debt, INT64, 0),
        COLUMN(credit_row, seq, SEQ, 0),
    },
};

const struct table table_move = {
    .name = "credit_move",
    .row_size = sizeof(struct move_row),
    .column_count = 5,
    .columns = {
        COLUMN(move_row, scope_ref, UUID, COLUMN_KEY),
        COLUMN(move_row, giver, UUID, COLUMN_KEY),
        COLUMN(move_row, receiver, UUID, COLUMN_KEY),
        COLUMN(move_row, moved, INT64, 0),
        COLUMN(move_row, seq, SEQ, 0),
    },
};

const struct table table_node = {
    .name = "node",
    .row_size = sizeof(struct node_row),
    .column_count = 13,
    .columns = {
        COLUMN(node_row, node_ref, UUID, COLUMN_KEY),
        COLUMN(node_row, retired, BOOL, 0),
        COLUMN(node_row, drained, BOOL, 0),
        COLUMN(node_row, heir, NIL, 0),
        COLUMN(node_row, retired_ms, INT64, 0),
        COLUMN(node_row, wait_ms, INT64, 0),
        COLUMN(node_row, longest_ms, INT64, 0),
        COLUMN(node_row, seq, SEQ, 0),
        COLUMN(node_row, partner, BOOL, 0),
        COLUMN(node_row, closed, BOOL, 0),
        COLUMN(node_row, watermark_ms, INT64, 0),
        COLUMN(node_row, acknowledged, SEQ, 0),
        COLUMN(node_row, cursor, SEQ, 0),
    },
};

_Static_assert(FORMER_SELVES_MAX == 4, "table self has a column for each");

const struct table table_self = {
    .name = "self",
    .row_size = sizeof(struct stored_self),
    .column_count = 9,
    .columns = {
        COLUMN_OF(stored_self, only_row, "only_row", BOOL, COLUMN_KEY),
        COLUMN_OF(stored_self, row.refilled, "refilled", BOOL, 0),
        COLUMN_OF(stored_self, row.drained, "drained", BOOL, 0),
        COLUMN_OF(stored_self, row.resumed_seq, "resumed_seq", SEQ, 0),
        COLUMN_OF(stored_self, row.lease_max_ms, "lease_max_ms", INT64, 0),
        COLUMN_OF(stored_self, row.former[0], "former_1", NIL, 0),
        COLUMN_OF(stored_self, row.former[1], "former_2", NIL, 0),
        COLUMN_OF(stored_self, row.former[2], "former_3", NIL, 0),
        COLUMN_OF(stored_self, row.former[3], "former_4", NIL, 0),
    },
};

const struct table table_scope = {
    .name = "scope",
    .row_size = sizeof(struct scope_row),
    .column_count = 6,
    .columns = {
        COLUMN(scope_row, scope_ref, UUID, COLUMN_KEY),
        COLUMN(scope_row, entitlement_ref, UUID, COLUMN_FIXED),
        COLUMN(scope_row, revision, INT64, 0),
        COLUMN(scope_row, feature, TEXT, 0),
        COLUMN(scope_row, seats, INT64, 0),
        COLUMN(scope_row, seq, SEQ, 0),
    },
};

const struct table table_entitlement = {
    .name = "entitlement",
    .order = "entitlement_ref, revision",
    .row_size = sizeof(struct stored_entitlement),
    .column_count = 11,
    .columns = {
        COLUMN(stored_entitlement, entitlement_ref, UUID, COLUMN_KEY),
        COLUMN(stored_entitlement, revision, INT64, COLUMN_KEY),
        COLUMN(stored_entitlement, begins_ms, INT64, 0),
        COLUMN(stored_entitlement, ends_ms, INT64, 0),
        COLUMN(stored_entitlement, installed_ms, INT64, 0),
        COLUMN(stored_entitlement, minter, UUID, 0),
        COLUMN(stored_entitlement, usable, BOOL, 0),
        COLUMN(stored_entitlement, seq, SEQ, 0),
        COLUMN(stored_entitlement, sha256, SHA256, 0),
        COLUMN(stored_entitlement, text, TEXT, 0),
        COLUMN(stored_entitlement, publisher, TEXT, COLUMN_WRITE_ONLY),
    },
};

/* ---- statements ------------------------------------------------------------------------------ */

/* How PostgreSQL names an array of it, and the element's pg_type.oid, which is fixed for ever. */
static const struct {
    const char *array;
    uint32_t oid;
} types[] = {
    [COLUMN_UUID] = { "uuid[]", 2950 },   [COLUMN_NIL] = { "uuid[]", 2950 },
    [COLUMN_INT64] = { "bigint[]", 20 },  [COLUMN_SEQ] = { "bigint[]", 20 },
    [COLUMN_UINT32] = { "bigint[]", 20 }, [COLUMN_STATE] = { "smallint[]", 21 },
    [COLUMN_BOOL] = { "boolean[]", 16 },  [COLUMN_TEXT] = { "text[]", 25 },
    [COLUMN_SHA256] = { "bytea[]", 17 },
};

static void append_names(const struct table *table, unsigned with, const char *prefix,
                         struct buf *out)
{
    const char *comma = "";

    for (size_t i = 0; i < table->column_count; i++) {
        if (with && !(table->columns[i].flags & with))
            continue;
        buf_format(out, "%s%s%s", comma, prefix, table->columns[i].name);
        comma = ", ";
    }
}

static void append_updates(const struct table *table, struct buf *out)
{
    const char *comma = "";

    for (size_t i = 0; i < table->column_count; i++) {
        const struct column *column = &table->columns[i];
        if (column->flags & (COLUMN_KEY | COLUMN_FIXED))
            continue;
        if (column->flags & COLUMN_KEEP)
            buf_format(out, "%s%s = COALESCE(EXCLUDED.%s, %s.%s)", comma, column->name,
                       column->name, table->name, column->name);
        else
            buf_format(out, "%s%s = EXCLUDED.%s", comma, column->name, column->name);
        comma = ", ";
    }
}

/* unnest($1::uuid[], $2::bigint[], …) */
static void append_unnest(const struct table *table, struct buf *out)
{
    buf_text_append(out, "unnest(");
    for (size_t i = 0; i < table->column_count; i++)
        buf_format(out, "%s$%zu::%s", i ? ", " : "", i + 1, types[table->columns[i].type].array);
    buf_text_append(out, ")");
}

void table_upsert_sql(const struct table *table, struct buf *out)
{
    buf_format(out, "INSERT INTO %s (", table->name);
    append_names(table, 0, "", out);
    buf_text_append(out, ") SELECT * FROM ");
    append_unnest(table, out);
    buf_text_append(out, " ON CONFLICT (");
    append_names(table, COLUMN_KEY, "", out);
    buf_text_append(out, ") DO UPDATE SET ");
    append_updates(table, out);
}

void table_delete_sql(const struct table *table, struct buf *out)
{
    buf_format(out, "DELETE FROM %s USING ", table->name);
    append_unnest(table, out);
    buf_text_append(out, " AS gone(");
    append_names(table, 0, "", out);
    buf_text_append(out, ") WHERE (");
    append_names(table, 0, "gone.", out);
    buf_text_append(out, ") = (");
    append_names(table, 0, "lease.", out);
    buf_text_append(out, ")");
}

void table_select_list(const struct table *table, const char *prefix, struct buf *out)
{
    const char *comma = "";

    for (size_t i = 0; i < table->column_count; i++) {
        if (table->columns[i].flags & COLUMN_WRITE_ONLY)
            continue;
        buf_format(out, "%s%s%s", comma, prefix, table->columns[i].name);
        comma = ", ";
    }
}

size_t table_read_count(const struct table *table)
{
    size_t count = 0;

    for (size_t i = 0; i < table->column_count; i++)
        count += !(table->columns[i].flags & COLUMN_WRITE_ONLY);
    return count;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* Unaligned reads and pointers of unknown type: through memcpy. */
#define READ(T, p)                                                                                 \
    __extension__({                                                                                \
        T value_;                                                                                  \
        memcpy(&value_, (p), sizeof value_);                                                       \
        value_;                                                                                    \
    })

static void append_bytes(struct buf *out, const void *bytes, size_t size)
{
    buf_be32(out, (uint32_t)size);
    buf_append(out, bytes, size);
}

static void append_null(struct buf *out)
{
    buf_be32(out, UINT32_MAX); /* length -1 */
}

static void append_int64(struct buf *out, uint64_t value)
{
    buf_be32(out, 8);
    buf_be64(out, value);
}

static void append_element(struct buf *out, enum column_type type, const char *at)
{
    switch (type) {
    case COLUMN_UUID:
        append_bytes(out, at, sizeof(struct uuid));
        break;
    case COLUMN_NIL:
        if (uuid_is_nil((const struct uuid *)(const void *)at))
            append_null(out);
        else
            append_bytes(out, at, sizeof(struct uuid));
        break;
    case COLUMN_INT64:
        append_int64(out, (uint64_t)READ(int64_t, at));
        break;
    case COLUMN_SEQ:
        must(READ(uint64_t, at) <= INT64_MAX);
        append_int64(out, READ(uint64_t, at));
        break;
    case COLUMN_UINT32:
        append_int64(out, READ(uint32_t, at));
        break;
    case COLUMN_STATE:
        must(READ(enum lease_state, at) < LEASE_STATES);
        buf_be32(out, 2);
        buf_be16(out, (uint16_t)READ(enum lease_state, at));
        break;
    case COLUMN_BOOL:
        append_bytes(out, READ(bool, at) ? "\1" : "\0", 1);
        break;
    case COLUMN_TEXT: {
        const char *text = READ(const char *, at);
        if (text)
            append_bytes(out, text, strlen(text));
        else
            append_null(out);
        break;
    }
    case COLUMN_SHA256:
        append_bytes(out, READ(const uint8_t *, at), SHA256_SIZE);
        break;
    }
}

/* The binary form of a one-dimensional array (array_recv() in PostgreSQL's arrayfuncs.c). */
static void encode_column(const struct column *column, const char *rows, size_t row_size,
                          size_t count, struct buf *out)
{
    bool nulls = (column->flags & COLUMN_KEEP) || column->type == COLUMN_NIL;

    buf_be32(out, 1);     /* dimensions */
    buf_be32(out, nulls); /* NULLs may occur */
    buf_be32(out, types[column->type].oid);
    buf_be32(out, (uint32_t)count);
    buf_be32(out, 1); /* lower bound */
    for (size_t i = 0; i < count; i++)
        append_element(out, column->type, rows + i * row_size + column->offset);
}

void table_encode(const struct table *table, const void *rows, size_t count,
                  struct pg_params *params)
{
    must(count > 0 && count <= CHUNK_ROWS && table->column_count <= PG_PARAMS_MAX);
    pg_params_clear(params);
    for (size_t i = 0; i < table->column_count; i++)
        encode_column(&table->columns[i], rows, table->row_size, count, pg_params_next(params));
}

static size_t text_bytes(const struct table *table, const char *row)
{
    size_t bytes = 0;

    for (size_t i = 0; i < table->column_count; i++) {
        const char *at = row + table->columns[i].offset;
        if (table->columns[i].type == COLUMN_TEXT && READ(const char *, at))
            bytes += strlen(READ(const char *, at));
    }
    return bytes;
}

size_t table_chunk(const struct table *table, const void *rows, size_t count)
{
    size_t bytes = 0, fit = 0;

    while (fit < count && fit < CHUNK_ROWS) {
        bytes += text_bytes(table, (const char *)rows + fit * table->row_size);
        if (fit && bytes > CHUNK_TEXT_BYTES)
            break;
        fit++;
    }
    return fit;
}

/* ---- reading --------------------------------------------------------------------------------- */

static bool decode_int64(enum column_type type, int64_t value, char *at)
{
    uint32_t narrow = (uint32_t)value;

    if (type != COLUMN_INT64 && value < 0)
        return false;
    if (type != COLUMN_UINT32) {
        memcpy(at, &value, sizeof value); /* a uint64_t below 2^63 has the same bytes */
        return true;
    }
    memcpy(at, &narrow, sizeof narrow);
    return value <= UINT32_MAX;
}

static bool decode_state(struct pg_field field, char *at)
{
    int16_t value;
    enum lease_state state;

    if (!pg_field_int16(field, &value) || value < 0 || value >= LEASE_STATES)
        return false;
    state = (enum lease_state)value;
    memcpy(at, &state, sizeof state);
    return true;
}

static bool decode_nil(struct pg_field field, struct uuid *at)
{
    static const struct uuid nil;

    if (field.length < 0) {
        *at = nil;
        return true;
    }
    return pg_field_uuid(field, at) && !uuid_is_nil(at);
}

static bool decode_field(enum column_type type, struct pg_field field, char *at)
{
    int64_t number;
    bool flag;

    switch (type) {
    case COLUMN_UUID:
        return pg_field_uuid(field, (struct uuid *)(void *)at);
    case COLUMN_NIL:
        return decode_nil(field, (struct uuid *)(void *)at);
    case COLUMN_INT64:
    case COLUMN_SEQ:
    case COLUMN_UINT32:
        return pg_field_int64(field, &number) && decode_int64(type, number, at);
    case COLUMN_STATE:
        return decode_state(field, at);
    case COLUMN_BOOL:
        if (!pg_field_bool(field, &flag))
            return false;
        memcpy(at, &flag, sizeof flag);
        return true;
    case COLUMN_TEXT:
    case COLUMN_SHA256:
        if (field.length < 0 || (type == COLUMN_SHA256 && field.length != SHA256_SIZE))
            return false;
        memcpy(at, &field.bytes, sizeof field.bytes);
        return true;
    }
    return false;
}

/* "lease_ref 1234…, home 5678…": the columns of the key, as far as they can be read. */
static void describe_key(const struct table *table, const struct pg_field *fields, struct buf *out)
{
    struct uuid uuid;
    int64_t number;
    bool flag;
    char text[UUID_TEXT_SIZE];

    for (size_t i = 0; table->columns[i].flags & COLUMN_KEY; i++) {
        buf_format(out, ", %s ", table->columns[i].name);
        if (table->columns[i].type == COLUMN_UUID && pg_field_uuid(fields[i], &uuid)) {
            uuid_format(&uuid, text);
            buf_text_append(out, text);
        } else if (pg_field_int64(fields[i], &number)) {
            buf_format(out, "%lld", (long long)number);
        } else if (pg_field_bool(fields[i], &flag)) {
            buf_text_append(out, flag ? "true" : "false");
        } else {
            buf_text_append(out, "unreadable");
        }
    }
}

static enum err bad_field(const struct table *table, const struct pg_field *fields,
                          const struct column *column, struct pg_field field, struct diag *diag)
{
    AUTO(buf_fini) struct buf key, value;
    int64_t number;
    int16_t small;

    buf_init(&key, sizeof diag->text);
    buf_init(&value, sizeof diag->text);
    describe_key(table, fields, &key);
    if (field.length < 0)
        buf_text_append(&value, "nothing");
    else if (pg_field_int64(field, &number))
        buf_format(&value, "%lld", (long long)number);
    else if (pg_field_int16(field, &small))
        buf_format(&value, "%d", small);
    else
        buf_format(&value, "%d bytes", field.length);
    return diag_set(diag, ERR_STORE_CORRUPT, "table %s%s: column %s holds %s, which it never can",
                    table->name, buf_text(&key), column->name, buf_text(&value));
}

enum err table_decode(const struct table *table, const struct pg_field *fields, void *row,
                      struct diag *diag)
{
    size_t at = 0;

    for (size_t i = 0; i < table->column_count; i++) {
        const struct column *column = &table->columns[i];
        if (column->flags & COLUMN_WRITE_ONLY)
            continue;
        if (!decode_field(column->type, fields[at], (char *)row + column->offset))
            return bad_field(table, fields, column, fields[at], diag);
        at++;
    }
    return ERR_OK;
}
