#include "replication/wire_page.h"

#define TIME_MAX     INT64_C(253402300799999) /* 9999-12-31T23:59:59.999Z */
#define DURATION_MAX (LEASE_SECONDS_MAX * INT64_C(1000))
#define MOVED_MAX                                                                                  \
    (INT64_C(1) << 53) /* no sum of two overflows, and any JSON reader can hold it                 \
                        */

#define NODE(type, member, min, max)                                                               \
    {                                                                                              \
#member, type, offsetof(struct node_row, member), min, max                                 \
    }
#define ENTITLEMENT(type, member, min, max)                                                        \
    {                                                                                              \
#member, type, offsetof(struct entitlement_row, member), min, max                          \
    }
#define MOVE(type, member, min, max)                                                               \
    {                                                                                              \
#member, type, offsetof(struct move_row, member), min, max                                 \
    }
#define LEASE(type, member, min, max)                                                              \
    {                                                                                              \
#member, type, offsetof(struct lease_row, member), min, max                                \
    }
#define ORIGIN(type, member, min, max)                                                             \
    {                                                                                              \
#member, type, offsetof(struct origin_row, member), min, max                               \
    }
#define DEBT(type, member, min, max)                                                               \
    {                                                                                              \
#member, type, offsetof(struct debt_row, member), min, max                                 \
    }
#define HEADER(type, member, min, max)                                                             \
    {                                                                                              \
#member, type, offsetof(struct ledger_page, member), min, max                              \
    }

/* A page that has one move of a scope has all of them. */
#define PAGE_MOVES_MAX (PAGE_ROWS_MAX * LEDGER_NODES_MAX)

/* The order of fields is the protocol. A later protocol appends. */
static const struct page_field node_fields[] = {
    NODE(FIELD_UUID, node_ref, 0, 0),
    NODE(FIELD_BOOL, retired, 0, 0),
    NODE(FIELD_BOOL, drained, 0, 0),
    NODE(FIELD_UUID_OR_NULL, heir, 0, 0),
    NODE(FIELD_INT, retired_ms, 0, TIME_MAX),
    NODE(FIELD_INT, wait_ms, 0, TIME_MAX),
    NODE(FIELD_INT, longest_ms, 0, DURATION_MAX),
    NODE(FIELD_INT, seq, 0, INT64_MAX),
};

static const struct page_field entitlement_fields[] = {
    ENTITLEMENT(FIELD_ENTITLEMENT, entitlement, 0, 0),
    ENTITLEMENT(FIELD_INT, installed_ms, 0, TIME_MAX),
    ENTITLEMENT(FIELD_UUID, minter, 0, 0),
    ENTITLEMENT(FIELD_INT, seq, 0, INT64_MAX),
};

static const struct page_field move_fields[] = {
    MOVE(FIELD_UUID, scope_ref, 0, 0),  MOVE(FIELD_UUID, giver, 0, 0),
    MOVE(FIELD_UUID, receiver, 0, 0),   MOVE(FIELD_INT, moved, 0, MOVED_MAX),
    MOVE(FIELD_INT, seq, 0, INT64_MAX),
};

static const struct page_field lease_fields[] = {
    LEASE(FIELD_UUID, lease_ref, 0, 0),
    LEASE(FIELD_UUID, home, 0, 0),
    LEASE(FIELD_UUID, origin_ref, 0, 0),
    LEASE(FIELD_UUID, scope_ref, 0, 0),
    LEASE(FIELD_INT, count, 1, ENTITLEMENT_SEATS_MAX),
    LEASE(FIELD_UINT32, generation, 0, UINT32_MAX),
    LEASE(FIELD_STATE, state, 0, LEASE_STATES - 1),
    LEASE(FIELD_BOOL, shared, 0, 0),
    LEASE(FIELD_INT, created_ms, 0, TIME_MAX),
    LEASE(FIELD_INT, duration_ms, 1, DURATION_MAX),
    LEASE(FIELD_INT, expires_ms, 0, TIME_MAX),
    LEASE(FIELD_INT, ended_ms, 0, TIME_MAX),
    LEASE(FIELD_INT, ended_expires_ms, 0, TIME_MAX),
    LEASE(FIELD_INT, seq, 0, INT64_MAX),
};

static const struct page_field origin_fields[] = {
    ORIGIN(FIELD_UUID, origin_ref, 0, 0),
    ORIGIN(FIELD_UINT32, generation, 0, UINT32_MAX),
    ORIGIN(FIELD_BOOL, enrolled, 0, 0),
    ORIGIN(FIELD_INT, created_ms, 0, TIME_MAX),
    ORIGIN(FIELD_INT, updated_ms, 0, TIME_MAX),
    ORIGIN(FIELD_UUID_OR_NULL, updated_by, 0, 0),
    ORIGIN(FIELD_ENVIRONMENT, environment, 0, PEER_ENVIRONMENT_MAX),
    ORIGIN(FIELD_INT, seq, 0, INT64_MAX),
};

static const struct page_field debt_fields[] = {
    DEBT(FIELD_UUID, scope_ref, 0, 0),
    DEBT(FIELD_INT, count, 1, MOVED_MAX),
};

#define KIND(name, rows, count, row_type, fields, max)                                             \
    {                                                                                              \
        name, fields, ARRAY_SIZE(fields), sizeof(struct row_type), max,                            \
            offsetof(struct ledger_page, rows), offsetof(struct ledger_page, count)                \
    }

const struct page_kind page_kinds[PAGE_KINDS] = {
    [PAGE_NODES] = KIND("nodes", nodes, node_count, node_row, node_fields, LEDGER_NODES_MAX),
    [PAGE_ENTITLEMENTS] = KIND("entitlements", entitlements, entitlement_count, entitlement_row,
                               entitlement_fields, PAGE_ROWS_MAX),
    [PAGE_MOVES] = KIND("moves", moves, move_count, move_row, move_fields, PAGE_MOVES_MAX),
    [PAGE_LEASES] = KIND("leases", leases, lease_count, lease_row, lease_fields, PAGE_ROWS_MAX),
    [PAGE_ORIGINS] =
        KIND("origins", origins, origin_count, origin_row, origin_fields, PAGE_ROWS_MAX),
    [PAGE_DEBTS] = KIND("debts", debts, debt_count, debt_row, debt_fields, PAGE_ROWS_MAX),
};

const struct page_field page_headers[PAGE_HEADERS] = {
    HEADER(FIELD_UUID, sender, 0, 0),
    HEADER(FIELD_UUID, receiver, 0, 0),
    HEADER(FIELD_INT, since, 0, INT64_MAX),
    HEADER(FIELD_INT, upto, 0, INT64_MAX),
    HEADER(FIELD_INT, now_ms, 0, TIME_MAX),
    HEADER(FIELD_BOOL, refilled, 0, 0),
    HEADER(FIELD_BOOL, fresh, 0, 0),
    HEADER(FIELD_BOOL, complete, 0, 0),
    HEADER(FIELD_BOOL, closed, 0, 0),
    HEADER(FIELD_INT, watermark_ms, 0, TIME_MAX),
    HEADER(FIELD_INT, acknowledged, 0, INT64_MAX),
};

const enum lease_state page_states[LEASE_STATES] = {
    LEASE_ACTIVE, LEASE_RELEASED, LEASE_REVOKED, LEASE_SUPERSEDED, LEASE_EXPIRED,
};

/* ---- encoding -------------------------------------------------------------------------------- */

static char *put_digits(char *end, uint64_t value)
{
    do {
        *--end = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    return end;
}

static void put_int(struct buf *out, int64_t value)
{
    char digits[20], *end = digits + sizeof digits;

    must(value >= 0); /* no field of a page is ever negative */
    char *at = put_digits(end, (uint64_t)value);
    buf_append(out, at, (size_t)(end - at));
}

static void put_uuid(struct buf *out, const struct uuid *uuid)
{
    char *at = buf_reserve(out, UUID_TEXT_SIZE + 1);

    if (!at)
        return;
    at[0] = '"';
    uuid_format(uuid, at + 1);
    at[UUID_TEXT_SIZE] = '"';
    at[UUID_TEXT_SIZE + 1] = '\0';
    out->length += UUID_TEXT_SIZE + 1;
}

static void put_string(struct buf *out, const char *text)
{
    const char *from = text, *at = text;

    buf_append(out, "\"", 1);
    for (; *at; at++) {
        if (*at != '"' && *at != '\\' && (unsigned char)*at >= 0x20)
            continue;
        buf_append(out, from, (size_t)(at - from));
        if ((unsigned char)*at < 0x20)
            buf_format(out, "\\u%04x", (unsigned)(unsigned char)*at);
        else
            buf_append(out, (const char[]){ '\\', *at }, 2);
        from = at + 1;
    }
    buf_append(out, from, (size_t)(at - from));
    buf_append(out, "\"", 1);
}

static int64_t state_number(enum lease_state state)
{
    int64_t number = 0;

    while (number < LEASE_STATES && page_states[number] != state)
        number++;
    must(number < LEASE_STATES);
    return number;
}

static void put_bool(struct buf *out, bool value)
{
    buf_text_append(out, value ? "true" : "false");
}

static void put_text_or_null(struct buf *out, const char *text)
{
    if (text)
        put_string(out, text);
    else
        buf_text_append(out, "null");
}

static void put_uuid_or_null(struct buf *out, const struct uuid *uuid)
{
    if (uuid_is_nil(uuid))
        buf_text_append(out, "null");
    else
        put_uuid(out, uuid);
}

static void put_field(struct buf *out, const struct page_field *field, const char *base)
{
    const void *at = base + field->offset;

    switch (field->type) {
    case FIELD_UUID:
        put_uuid(out, at);
        break;
    case FIELD_UUID_OR_NULL:
        put_uuid_or_null(out, at);
        break;
    case FIELD_INT:
        put_int(out, *(const int64_t *)at);
        break;
    case FIELD_UINT32:
        put_int(out, *(const uint32_t *)at);
        break;
    case FIELD_BOOL:
        put_bool(out, *(const bool *)at);
        break;
    case FIELD_STATE:
        put_int(out, state_number(*(const enum lease_state *)at));
        break;
    case FIELD_ENVIRONMENT:
        put_text_or_null(out, *(const char *const *)at);
        break;
    case FIELD_ENTITLEMENT:
        put_string(out, (*(struct entitlement *const *)at)->text);
        break;
    }
}

static void put_row(struct buf *out, const struct page_kind *kind, const char *row)
{
    for (size_t i = 0; i < kind->field_count; i++) {
        buf_append(out, i ? "," : "[", 1);
        put_field(out, &kind->fields[i], row);
    }
    buf_append(out, "]", 1);
}

static void put_kind(struct buf *out, const struct page_kind *kind, const struct ledger_page *page)
{
    const char *base = (const char *)page, *rows;
    size_t count = *(const size_t *)(const void *)(base + kind->count_offset);

    must(count <= kind->row_count_max);
    if (!count)
        return;
    memcpy(&rows, base + kind->rows_offset, sizeof rows);
    buf_format(out, ",\"%s\":[", kind->name);
    for (size_t i = 0; i < count && buf_ok(out); i++) {
        if (i)
            buf_append(out, ",", 1);
        put_row(out, kind, rows + i * kind->row_size);
    }
    buf_append(out, "]", 1);
}

void page_encode(const struct ledger_page *page, int protocol, struct buf *out)
{
    size_t headers = page->complete ? PAGE_HEADERS : PAGE_HEADERS - PAGE_STATED; /* R8 */

    must(protocol >= PEER_PROTOCOL_MIN && protocol <= PEER_PROTOCOL);
    buf_format(out, "{\"v\":%d", protocol);
    for (size_t i = 0; i < headers; i++) {
        buf_format(out, ",\"%s\":", page_headers[i].name);
        put_field(out, &page_headers[i], (const char *)page);
    }
    for (size_t i = 0; i < PAGE_KINDS; i++)
        put_kind(out, &page_kinds[i], page);
    buf_append(out, "}", 1);
}
