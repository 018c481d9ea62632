/* The tables as data: which column is which field of which row struct. The statements that write
 * them, the COPY that loads them and the lists that readers ask for are all made from this.
 * Private to node/store. */
#pragma once

#include "ledger/ledger.h"
#include "store/pg.h"

enum column_type {
    COLUMN_UUID,   /* struct uuid           uuid */
    COLUMN_NIL,    /* struct uuid           uuid; nil is written as NULL and read from it */
    COLUMN_INT64,  /* int64_t               bigint */
    COLUMN_SEQ,    /* uint64_t, below 2^63  bigint */
    COLUMN_UINT32, /* uint32_t              bigint */
    COLUMN_STATE,  /* enum lease_state      smallint */
    COLUMN_BOOL,   /* bool                  boolean */
    COLUMN_TEXT,   /* const char *          text; NULL is written as NULL */
    COLUMN_SHA256, /* const uint8_t *, 32   bytea */
};

enum column_flag {
    COLUMN_KEY = 1,        /* of the primary key */
    COLUMN_FIXED = 2,      /* never changes once written */
    COLUMN_KEEP = 4,       /* NULL leaves what is stored */
    COLUMN_WRITE_ONLY = 8, /* not read by load and lists */
};

struct column {
    const char *name;
    enum column_type type;
    unsigned flags;
    size_t offset; /* in the row struct */
};

#define COLUMNS_MAX 14

struct table {
    const char *name;
    const char *order; /* in which rows are loaded; NULL: any */
    size_t row_size;
    size_t column_count;
    struct column columns[COLUMNS_MAX]; /* those of the key first */
};

/* A row of table entitlement, flat. Pointers are borrowed when writing. */
struct stored_entitlement {
    struct uuid entitlement_ref;
    int64_t revision, begins_ms, ends_ms, installed_ms;
    const char *publisher, *text;
    const uint8_t *sha256;
    struct uuid minter;
    bool usable;
    uint64_t seq;
};

/* The row of table self, with its key. */
struct stored_self {
    bool only_row; /* true */
    struct self_row row;
};

extern const struct table table_lease, table_origin, table_credit, table_move, table_node,
    table_scope, table_entitlement, table_self;
extern const struct table table_purged;     /* keys of leases that go: struct lease_key */
extern const struct table table_origin_key; /* keys of origins: struct origin_row */

/* INSERT … SELECT FROM unnest($1, $2, …) ON CONFLICT DO UPDATE, with one array a column. */
void table_upsert_sql(const struct table *table, struct buf *out);

/* DELETE … USING unnest($1, $2, …), by key. */
void table_delete_sql(const struct table *table, struct buf *out);

/* "a, b, c": the columns that are read, each after `prefix` ("" or "l."). */
void table_select_list(const struct table *table, const char *prefix, struct buf *out);
size_t table_read_count(const struct table *table);

/* Turns `count` rows into arrays, one parameter a column. */
void table_encode(const struct table *table, const void *rows, size_t count,
                  struct pg_params *params);

/* How many of the rows fit into one statement: at least 1, if there is one. */
size_t table_chunk(const struct table *table, const void *rows, size_t count);

/* Fills *row from the fields of the read columns. COLUMN_TEXT and COLUMN_SHA256 point into the
 * field (not NUL-terminated) and their lengths are not kept: use the field. ERR_STORE_CORRUPT names
 * table, key and column. */
enum err table_decode(const struct table *table, const struct pg_field *fields, void *row,
                      struct diag *diag) MUST_USE;
