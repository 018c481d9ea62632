/* Loading: every table by binary COPY, in one snapshot, row by row into the ledger.
 *
 * Failure: the session is given up, the COPY with it; the ledger is the caller's to throw away. */
#include "store/store_internal.h"

#include <inttypes.h>

#define LOAD_WAIT_MS     30000       /* between two pieces of a COPY */
#define LOAD_PENDING_MAX (64u << 20) /* of one row that is still incomplete */
#define COPY_HEADER_SIZE 19          /* signature, flags, length of the extension */
#define COPY_FIELDS_MAX  COLUMNS_MAX

/* One COPY on its way. The bytes of a row may come in pieces, or several rows in one. */
struct copy {
    PGconn *conn;
    const struct table *table;
    struct buf pending; /* received and not consumed yet */
    bool begun, ended;  /* header seen, trailer seen */
    enum err (*take)(void *context, const void *row, const struct pg_field *fields,
                     struct diag *diag);
    void *context;
    struct diag *diag;
};

/* ---- the format (PostgreSQL's documentation of COPY, "Binary Format") ------------------------ */

static enum err malformed(const struct copy *copy)
{
    return diag_set(copy->diag, ERR_STORE_CORRUPT,
                    "table %s: the database sent a COPY that cannot be read", copy->table->name);
}

static uint32_t be(const char *bytes, int size)
{
    uint32_t value = 0;

    for (int i = 0; i < size; i++)
        value = value << 8 | (unsigned char)bytes[i];
    return value;
}

/* Returns how many bytes the row at `bytes` takes, 0 if it is not complete, -1 if it is malformed.
 * The trailer counts as a row without fields. */
static int64_t split_row(const char *bytes, size_t size, size_t field_count,
                         struct pg_field fields[COPY_FIELDS_MAX])
{
    size_t at = 2;

    if (size < at)
        return 0;
    if (be(bytes, 2) == UINT16_MAX)
        return 2;
    if (be(bytes, 2) != field_count)
        return -1;
    for (size_t i = 0; i < field_count; i++) {
        if (size - at < 4)
            return 0;
        int32_t length = (int32_t)be(bytes + at, 4);
        at += 4;
        if (length < -1)
            return -1;
        fields[i] = (struct pg_field){ bytes + at, length };
        if (length < 0)
            continue;
        if (size - at < (size_t)length)
            return 0;
        at += (size_t)length;
    }
    return (int64_t)at;
}

static enum err take_row(struct copy *copy, const struct pg_field *fields)
{
    union {
        struct lease_row lease;
        struct origin_row origin;
        struct credit_row credit;
        struct move_row move;
        struct node_row node;
        struct stored_self self;
        struct stored_entitlement entitlement;
    } row;

    must(copy->table->row_size <= sizeof row);
    memset(&row, 0, sizeof row);
    enum err err = table_decode(copy->table, fields, &row, copy->diag);
    return err == ERR_OK ? copy->take(copy->context, &row, fields, copy->diag) : err;
}

static enum err take_rows(struct copy *copy, size_t *consumed)
{
    const char *bytes = copy->pending.bytes;
    size_t size = copy->pending.length, field_count = table_read_count(copy->table);
    struct pg_field fields[COPY_FIELDS_MAX];

    while (*consumed < size && !copy->ended) {
        int64_t length = split_row(bytes + *consumed, size - *consumed, field_count, fields);
        if (length < 0)
            return malformed(copy);
        if (length == 0)
            return ERR_OK;
        copy->ended = be(bytes + *consumed, 2) == UINT16_MAX;
        *consumed += (size_t)length;
        enum err err = copy->ended ? ERR_OK : take_row(copy, fields);
        if (err != ERR_OK)
            return err;
    }
    return *consumed == size ? ERR_OK : malformed(copy); /* nothing follows the trailer */
}

static enum err take_bytes(struct copy *copy, const char *bytes, size_t size)
{
    static const char header[COPY_HEADER_SIZE] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0";
    size_t consumed = 0;

    buf_append(&copy->pending, bytes, size);
    if (!buf_ok(&copy->pending))
        return malformed(copy);
    if (!copy->begun) {
        if (copy->pending.length < COPY_HEADER_SIZE)
            return ERR_OK;
        if (memcmp(copy->pending.bytes, header, COPY_HEADER_SIZE) != 0)
            return malformed(copy);
        consumed = COPY_HEADER_SIZE;
        copy->begun = true;
    }
    enum err err = take_rows(copy, &consumed);
    if (err != ERR_OK)
        return err;
    size_t left = copy->pending.length - consumed;
    if (left)
        memmove(copy->pending.bytes, copy->pending.bytes + consumed, left);
    copy->pending.length = left;
    return ERR_OK;
}

/* ---- one table ------------------------------------------------------------------------------- */

/* Waits for the next piece; *size -1 at the end. */
static enum err next_piece(struct copy *copy, char **bytes, int *size)
{
    struct boot deadline = pg_deadline(LOAD_WAIT_MS);

    while ((*size = PQgetCopyData(copy->conn, bytes, 1)) == 0) {
        if (!pg_wait(copy->conn, false, deadline))
            return diag_set(copy->diag, ERR_STORE_AWAY, "the database stopped sending table %s",
                            copy->table->name);
        if (!PQconsumeInput(copy->conn))
            return pg_away(copy->conn, copy->diag);
    }
    return *size == -2 ? pg_away(copy->conn, copy->diag) : ERR_OK;
}

static enum err copy_pieces(struct copy *copy)
{
    for (;;) {
        char *bytes = NULL;
        int size;
        enum err err = next_piece(copy, &bytes, &size);
        if (err != ERR_OK || size < 0)
            return err;
        err = take_bytes(copy, bytes, (size_t)size);
        PQfreemem(bytes);
        if (err != ERR_OK)
            return err;
    }
}

static enum err copy_begin(struct copy *copy)
{
    AUTO(buf_fini) struct buf sql;
    AUTO(PQclear) PGresult *result = NULL;

    buf_init(&sql, 1024);
    buf_text_append(&sql, "COPY (SELECT ");
    table_select_list(copy->table, "", &sql);
    buf_format(&sql, " FROM %s", copy->table->name);
    if (copy->table->order)
        buf_format(&sql, " ORDER BY %s", copy->table->order);
    buf_text_append(&sql, ") TO STDOUT (FORMAT binary)");
    must(buf_ok(&sql));
    if (!PQsendQuery(copy->conn, buf_text(&sql)))
        return pg_away(copy->conn, copy->diag);
    enum err err = pg_result(copy->conn, pg_deadline(LOAD_WAIT_MS), &result, copy->diag);
    if (err == ERR_OK)
        err = pg_result_error(copy->conn, result, copy->diag);
    if (err == ERR_OK && PQresultStatus(result) != PGRES_COPY_OUT)
        err = malformed(copy);
    return err;
}

/* The final answer: the COPY may have failed after it sent rows. */
static enum err copy_end(struct copy *copy)
{
    enum err err = ERR_OK;

    for (;;) {
        AUTO(PQclear) PGresult *result = NULL;
        enum err step = pg_result(copy->conn, pg_deadline(LOAD_WAIT_MS), &result, copy->diag);
        if (step != ERR_OK)
            return step;
        if (!result)
            break;
        if (err == ERR_OK)
            err = pg_result_error(copy->conn, result, copy->diag);
    }
    if (err == ERR_OK && !copy->ended)
        err = malformed(copy);
    return err;
}

static enum err copy_table(struct copy *copy)
{
    enum err err;

    buf_init(&copy->pending, LOAD_PENDING_MAX);
    if ((err = copy_begin(copy)) == ERR_OK && (err = copy_pieces(copy)) == ERR_OK)
        err = copy_end(copy);
    buf_fini(&copy->pending);
    return err;
}

/* ---- rows into the ledger -------------------------------------------------------------------- */

struct load {
    struct ledger *ledger;
    store_entitlement_open *open_one;
    void *open_context;
};

static enum err bad_entitlement(const struct stored_entitlement *row, const char *why,
                                struct diag *diag)
{
    char ref[UUID_TEXT_SIZE];

    uuid_format(&row->entitlement_ref, ref);
    return diag_set(diag, ERR_STORE_CORRUPT,
                    "table entitlement, entitlement_ref %s, revision %" PRId64 ": %s", ref,
                    row->revision, why);
}

static bool is_same(const struct stored_entitlement *row, const struct entitlement *e)
{
    return uuid_equal(&row->entitlement_ref, &e->entitlement_ref) && row->revision == e->revision &&
           !memcmp(row->sha256, e->sha256, sizeof e->sha256);
}

static enum err take_entitlement(void *context, const void *row, const struct pg_field *fields,
                                 struct diag *diag)
{
    struct load *load = context;
    const struct stored_entitlement *stored = row;
    const struct pg_field *text_field = &fields[table_read_count(&table_entitlement) - 1];
    AUTO(entitlement_unref) struct entitlement *e = NULL;
    bool trusted;

    must(stored->text == text_field->bytes);
    AUTO(mem_free) char *text = mem_memdup(text_field->bytes, (size_t)text_field->length);
    struct diag why = { "" };
    if (load->open_one(load->open_context, text, &e, &trusted, &why) != ERR_OK)
        return bad_entitlement(stored, why.text, diag);
    if (!is_same(stored, e))
        return bad_entitlement(stored, "its text says otherwise", diag);
    const struct entitlement_row loaded = { .entitlement = e,
                                            .installed_ms = stored->installed_ms,
                                            .minter = stored->minter,
                                            .usable = stored->usable,
                                            .seq = stored->seq };
    return ledger_load_entitlement(load->ledger, &loaded, trusted, diag);
}

static enum err take_self(void *context, const void *row, const struct pg_field *fields,
                          struct diag *diag)
{
    (void)fields;
    return ledger_load_self(((struct load *)context)->ledger,
                            &((const struct stored_self *)row)->row, diag);
}

#define TAKE_ROW(kind)                                                                             \
    static enum err take_##kind(void *context, const void *row, const struct pg_field *fields,     \
                                struct diag *diag)                                                 \
    {                                                                                              \
        (void)fields;                                                                              \
        return ledger_load_##kind(((struct load *)context)->ledger, row, diag);                    \
    }

TAKE_ROW(node)
TAKE_ROW(credit)
TAKE_ROW(move)
TAKE_ROW(origin)
TAKE_ROW(lease)

/* In the order the ledger asks for. */
static const struct {
    const struct table *table;
    enum err (*take)(void *context, const void *row, const struct pg_field *fields,
                     struct diag *diag);
} loads[] = {
    { &table_self, take_self },
    { &table_node, take_node },
    { &table_entitlement, take_entitlement },
    { &table_credit, take_credit },
    { &table_move, take_move },
    { &table_origin, take_origin },
    { &table_lease, take_lease },
};

/* The lock keeps others away, but not everybody asks for it. */
static enum err check_seq(struct store *store, struct diag *diag)
{
    AUTO(PQclear) PGresult *result = NULL;
    int64_t seq;
    enum err err = pg_query(store->conn, "SELECT seq FROM node_state", NULL, PG_STATEMENT_WAIT_MS,
                            &result, diag);

    if (err != ERR_OK)
        return err;
    if (PQntuples(result) == 1 && pg_field_int64(pg_cell(result, 0, 0), &seq) &&
        (uint64_t)seq == store->identity.seq)
        return ERR_OK;
    return diag_set(
        diag, ERR_STORE_CORRUPT,
        "table node_state changed under its owner: somebody else wrote to this database");
}

static enum err load_all(struct store *store, struct load *load, struct diag *diag)
{
    enum err err = pg_execute(store->conn,
                              "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
                              "SET LOCAL statement_timeout = 0",
                              PG_STATEMENT_WAIT_MS, diag);

    if (err == ERR_OK)
        err = check_seq(store, diag);
    for (size_t i = 0; err == ERR_OK && i < ARRAY_SIZE(loads); i++) {
        struct copy copy = { .conn = store->conn,
                             .table = loads[i].table,
                             .take = loads[i].take,
                             .context = load,
                             .diag = diag };
        err = copy_table(&copy);
    }
    return err == ERR_OK ? pg_execute(store->conn, "COMMIT", PG_STATEMENT_WAIT_MS, diag) : err;
}

enum err store_load(struct store *store, struct ledger *ledger, store_entitlement_open *open_one,
                    void *context, struct diag *diag)
{
    struct load load = { ledger, open_one, context };
    enum err err;

    if (store->failed)
        return diag_set(diag, ERR_STORE_AWAY, "the database session has ended");
    err = load_all(store, &load, diag);
    if (err == ERR_OK)
        err = ledger_load_done(ledger, store->identity.seq, diag);
    store->failed = err != ERR_OK;
    return err;
}
