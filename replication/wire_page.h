/* The form of a page, as tables that both directions read (wire_page.c, wire_page_read.c):
 *
 *     {"v":1,"sender":"…","receiver":"…","since":0,"upto":7,"now_ms":…,"refilled":true,
 *      "fresh":false,"complete":true,"closed":false,"watermark_ms":…,"acknowledged":3,
 *      "nodes":[["…",false,false,null,0,0,86400000,1],…],"leases":[[…],…],…}
 *
 * A row is an array of its fields in the order of the table. What a later protocol appends to a
 * row, a node of this one steps over, as it does with members that it does not know. Kinds without
 * rows are left out. watermark_ms and acknowledged stand in complete pages alone (R8). */
#pragma once

#include "replication/wire.h"

enum field_type {
    FIELD_UUID,
    FIELD_UUID_OR_NULL, /* nil: null */
    FIELD_INT,          /* int64_t or uint64_t, never above INT64_MAX */
    FIELD_UINT32,
    FIELD_BOOL,
    FIELD_STATE,       /* enum lease_state, by page_states[] */
    FIELD_ENVIRONMENT, /* const char *: JSON as a string; NULL: null */
    FIELD_ENTITLEMENT, /* struct entitlement *: its JWS */
};

struct page_field {
    const char *name;
    enum field_type type;
    size_t offset; /* in the row; of header fields: in the page */
    int64_t min, max;
};

struct page_kind {
    const char *name; /* member of the page */
    const struct page_field *fields;
    size_t field_count, row_size, row_count_max;
    size_t rows_offset, count_offset; /* in struct ledger_page: the pointer, the size_t */
};

enum {
    PAGE_NODES,
    PAGE_ENTITLEMENTS,
    PAGE_MOVES,
    PAGE_LEASES,
    PAGE_ORIGINS,
    PAGE_DEBTS,
    PAGE_KINDS
};
extern const struct page_kind page_kinds[PAGE_KINDS];

/* Header members; the last PAGE_STATED stand in complete pages alone. */
enum { PAGE_HEADERS = 11, PAGE_STATED = 2 };
extern const struct page_field page_headers[PAGE_HEADERS];

/* What stands for a state on the wire is its place in here, whatever the enum becomes. */
extern const enum lease_state page_states[LEASE_STATES];
