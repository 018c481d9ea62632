/* RFC 3339 as the client reads it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "instant.h"

static void date_times(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {
        { "1970-01-01T00:00:00Z", 0 },
        { "2026-11-21T09:10:09.123Z", 1795252209123 },
        { "2026-11-21t09:10:09.1z", 1795252209100 },
        { "2026-11-21 10:10:09.123999+01:00", 1795252209123 },
        { "2026-11-20T23:10:09-10:00", 1795252209000 },
        { "2000-02-29T23:59:60Z", 951868800000 },
        { "1969-12-31T23:59:59.999Z", -1 },
        { "0000-03-01T00:00:00Z", -62162035200000 },
        { "9999-12-31T23:59:59Z", 253402300799000 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t ms;
        assert_true(instant_parse(cases[i].text, &ms));
        assert_int_equal(ms, cases[i].ms);
    }
}

static void what_is_no_date_time(void **state)
{
    static const char *const texts[] = {
        "",
        "2026-11-21",
        "2026-11-21T09:10:09",
        "2026-11-21T09:10Z",
        "2026-13-21T09:10:09Z",
        "2026-00-21T09:10:09Z",
        "2026-02-29T09:10:09Z",
        "1900-02-29T09:10:09Z",
        "2026-11-00T09:10:09Z",
        "2026-11-21T24:10:09Z",
        "2026-11-21T09:60:09Z",
        "2026-11-21T09:10:61Z",
        "2026-11-21T09:10:09.Z",
        "2026-11-21T09:10:09+0100",
        "2026-11-21T09:10:09+24:00",
        "2026-11-21T09:10:09Z ",
        " 2026-11-21T09:10:09Z",
        "-026-11-21T09:10:09Z",
        "26-11-21T09:10:09Z",
    };
    int64_t ms = 77;

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_false(instant_parse(texts[i], &ms));
    assert_int_equal(ms, 77);
}

static void plain_dates(void **state)
{
    int64_t ms;

    (void)state;
    assert_true(instant_parse_date("2027-12-31", &ms));
    assert_int_equal(ms, 1830211200000);
    assert_true(instant_parse_date("2028-02-29", &ms));
    assert_false(instant_parse_date("2027-02-29", &ms));
    assert_false(instant_parse_date("2027-12-31T00:00:00Z", &ms));
    assert_false(instant_parse_date("2027-1-1", &ms));
}

/* The inverse of what the node writes, over four centuries of leap years. */
static void reads_what_is_written(void **state)
{
    (void)state;
    for (int64_t ms = -62167219200000; ms < 253402300799999; ms += 86400000 * INT64_C(97) + 12345) {
        char text[RFC3339_SIZE];
        int64_t back;
        rfc3339_format(ms, text);
        assert_true(instant_parse(text, &back));
        assert_int_equal(back, ms);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(date_times),
        cmocka_unit_test(what_is_no_date_time),
        cmocka_unit_test(plain_dates),
        cmocka_unit_test(reads_what_is_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
