/* The binary COPY format: whole, in pieces, cut and damaged. Includes the file it tests, because a
 * real server sends whole rows only. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "store/load.c"

#define ROWS 3

static void begin(struct buf *out)
{
    buf_init(out, 1u << 20);
    buf_append(out, "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0", COPY_HEADER_SIZE);
}

static void append_row(struct buf *out, uint8_t number)
{
    struct uuid uuid = { { 7, number } };

    buf_be16(out, 5);
    for (uint8_t i = 0; i < 3; i++) {
        uuid.bytes[2] = i;
        buf_be32(out, 16);
        buf_append(out, uuid.bytes, 16);
    }
    for (uint64_t i = 1; i < 3; i++) {
        buf_be32(out, 8);
        buf_be64(out, 100 * i + number);
    }
}

static void whole_copy(struct buf *out)
{
    begin(out);
    for (uint8_t i = 0; i < ROWS; i++)
        append_row(out, i);
    buf_be16(out, UINT16_MAX);
}

struct seen {
    unsigned rows;
};

static enum err note_row(void *context, const void *row, const struct pg_field *fields,
                         struct diag *diag)
{
    struct seen *seen = context;
    const struct move_row *move = row;

    (void)fields;
    (void)diag;
    assert_int_equal(move->scope_ref.bytes[1], seen->rows);
    assert_int_equal(move->scope_ref.bytes[2], 0);
    assert_int_equal(move->giver.bytes[2], 1);
    assert_int_equal(move->receiver.bytes[2], 2);
    assert_int_equal(move->moved, 100 + seen->rows);
    assert_int_equal(move->seq, 200 + seen->rows);
    seen->rows++;
    return ERR_OK;
}

/* Feeds bytes in pieces of `step`; ERR_OK only if the copy is also complete. */
static enum err feed(const struct buf *bytes, size_t step, unsigned *rows)
{
    struct diag diag = { "" };
    struct seen seen = { 0 };
    struct copy copy = { .table = &table_move, .take = note_row, .context = &seen, .diag = &diag };
    enum err err = ERR_OK;

    buf_init(&copy.pending, LOAD_PENDING_MAX);
    for (size_t at = 0; err == ERR_OK && at < bytes->length; at += step) {
        size_t left = bytes->length - at;
        err = take_bytes(&copy, bytes->bytes + at, left < step ? left : step);
    }
    if (err == ERR_OK && !copy.ended)
        err = malformed(&copy);
    assert_int_equal(err != ERR_OK, *diag.text != '\0');
    buf_fini(&copy.pending);
    *rows = seen.rows;
    return err;
}

static void rows_may_come_in_any_pieces(void **state)
{
    (void)state;
    struct buf bytes;
    unsigned rows;

    whole_copy(&bytes);
    for (size_t step = 1; step <= bytes.length; step++) {
        assert_int_equal(feed(&bytes, step, &rows), ERR_OK);
        assert_int_equal(rows, ROWS);
    }
    buf_fini(&bytes);
}

static void a_copy_that_stops_short_is_refused(void **state)
{
    (void)state;
    struct buf bytes;
    unsigned rows;

    whole_copy(&bytes);
    while (bytes.length > 0) {
        bytes.length--;
        assert_int_equal(feed(&bytes, bytes.length + 1, &rows), ERR_STORE_CORRUPT);
        assert_true(rows <= ROWS);
    }
    buf_fini(&bytes);
}

static void what_follows_the_end_is_refused(void **state)
{
    (void)state;
    struct buf bytes;
    unsigned rows;

    whole_copy(&bytes);
    append_row(&bytes, ROWS);
    for (size_t step = 1; step <= bytes.length; step++)
        assert_int_equal(feed(&bytes, step, &rows), ERR_STORE_CORRUPT);
    buf_fini(&bytes);
}

static void damage_is_refused(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        const char *what;
        uint8_t value;
    } cases[] = {
        { 0, "signature", 'X' },
        { 11, "flags", 1 },
        { 18, "extension", 1 },
        { COPY_HEADER_SIZE + 1, "field count", 6 },
        { COPY_HEADER_SIZE + 2, "negative length", 0x80 },
        { COPY_HEADER_SIZE + 5, "length of a UUID", 15 },
        { COPY_HEADER_SIZE + 2 + 60 + 3, "length of a bigint", 4 },
        { COPY_HEADER_SIZE + 2 + 60 + 12 + 4, "negative change number", 0x80 },
    };
    struct buf bytes;
    unsigned rows;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        whole_copy(&bytes);
        bytes.bytes[cases[i].at] = (char)cases[i].value;
        if (feed(&bytes, bytes.length, &rows) != ERR_STORE_CORRUPT || rows != 0)
            fail_msg("%s: %u rows", cases[i].what, rows);
        buf_fini(&bytes);
    }
}

static void a_missing_value_is_named(void **state)
{
    (void)state;
    struct diag diag = { "" };
    struct uuid uuid = { { 7 } };
    struct credit_row row;
    const struct pg_field fields[] = { { (const char *)uuid.bytes, 16 },
                                       { (const char *)uuid.bytes, 16 },
                                       { "\0\0\0\0\0\0\0\1", 8 },
                                       { NULL, -1 } };

    assert_int_equal(table_decode(&table_credit, fields, &row, &diag), ERR_STORE_CORRUPT);
    assert_string_equal(diag.text, "table credit, scope_ref 07000000-0000-0000-0000-000000000000, "
                                   "node_ref 07000000-0000-0000-0000-000000000000: "
                                   "column usable holds nothing, which it never can");
}

/* Where there may be none, there is NULL or a real reference, never the nil one. */
static void an_absent_reference_is_null(void **state)
{
    (void)state;
    struct diag diag = { "" };
    struct uuid uuid = { { 7 } }, nil = { { 0 } };
    struct node_row row;
    struct pg_field fields[13];

    for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
        fields[i] = (struct pg_field){ "\0\0\0\0\0\0\0\1", 8 };
    fields[0] = (struct pg_field){ (const char *)uuid.bytes, 16 };
    fields[1] = fields[2] = fields[8] = fields[9] = (struct pg_field){ "\1", 1 };
    assert_int_equal(table_read_count(&table_node), ARRAY_SIZE(fields));

    fields[3] = (struct pg_field){ NULL, -1 };
    memset(&row, 9, sizeof row);
    assert_int_equal(table_decode(&table_node, fields, &row, &diag), ERR_OK);
    assert_true(uuid_is_nil(&row.heir));
    assert_true(row.retired && row.drained && row.partner && row.closed);
    fields[3] = (struct pg_field){ (const char *)uuid.bytes, 16 };
    assert_int_equal(table_decode(&table_node, fields, &row, &diag), ERR_OK);
    assert_true(uuid_equal(&row.heir, &uuid));
    fields[3] = (struct pg_field){ (const char *)nil.bytes, 16 };
    assert_int_equal(table_decode(&table_node, fields, &row, &diag), ERR_STORE_CORRUPT);
    assert_non_null(strstr(diag.text, "column heir holds 16 bytes, which it never can"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_may_come_in_any_pieces),
        cmocka_unit_test(a_copy_that_stops_short_is_refused),
        cmocka_unit_test(what_follows_the_end_is_refused),
        cmocka_unit_test(damage_is_refused),
        cmocka_unit_test(a_missing_value_is_named),
        cmocka_unit_test(an_absent_reference_is_null),
    };
    return cmocka_run_group_tests_name("copy", tests, NULL, NULL);
}
