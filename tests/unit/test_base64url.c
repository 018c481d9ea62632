#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/base64url.h"
#include "base/random.h"

static void check(const char *plain, size_t size, const char *text)
{
    AUTO(buf_fini) struct buf encoded, decoded;

    buf_init(&encoded, 100);
    buf_init(&decoded, 100);
    base64url_append(&encoded, plain, size);
    assert_string_equal(buf_text(&encoded), text);
    assert_true(base64url_decode(text, strlen(text), &decoded));
    assert_int_equal(decoded.length, size);
    assert_memory_equal(buf_text(&decoded), plain, size);
}

/* RFC 4648 §10, RFC 7515 appendix C */
static void known_values(void **state)
{
    (void)state;
    check("", 0, "");
    check("f", 1, "Zg");
    check("fo", 2, "Zm8");
    check("foo", 3, "Zm9v");
    check("foob", 4, "Zm9vYg");
    check("fooba", 5, "Zm9vYmE");
    check("foobar", 6, "Zm9vYmFy");
    check("\x03\xec\xff\xe0\xc1", 5, "A-z_4ME");
}

static bool decodes(const char *text, size_t length)
{
    AUTO(buf_fini) struct buf out;

    buf_init(&out, 100);
    buf_text_append(&out, "kept");
    bool done = base64url_decode(text, length, &out);
    if (!done)
        assert_string_equal(buf_text(&out), "kept");
    return done;
}

static void one_value_has_one_spelling(void **state)
{
    (void)state;
    assert_true(decodes("Zm8", 3));
    assert_false(decodes("Z", 1));
    assert_false(decodes("Zm9vZ", 5));
    assert_false(decodes("Zm8=", 4));
    assert_false(decodes("Zg==", 4));
    assert_false(decodes("Zm9v\n", 5));
    assert_false(decodes(" Zm9v", 5));
    assert_false(decodes("Zm 9v", 5));
    assert_false(decodes("Zm9v\0Zm9", 8));
    assert_false(decodes("ab+/", 4));
    assert_false(decodes("Zh", 2));  /* trailing bits 0001 */
    assert_false(decodes("Zm9", 3)); /* trailing bits 01 */
}

/* Of all 256 bytes, exactly the 64 digits are taken, each with another value. */
static void exactly_64_digits(void **state)
{
    (void)state;
    bool seen[64] = { false };
    size_t count = 0;

    for (int c = 0; c < 256; c++) {
        AUTO(buf_fini) struct buf out;
        const char text[4] = { 'A', 'A', 'A', (char)c };
        buf_init(&out, 3);
        if (!base64url_decode(text, sizeof text, &out))
            continue;
        size_t value = (unsigned char)out.bytes[2];
        assert_in_range(value, 0, 63);
        assert_false(seen[value]);
        seen[value] = true;
        count++;
    }
    assert_int_equal(count, 64);
}

static void random_round_trips(void **state)
{
    (void)state;
    unsigned char bytes[100];

    for (size_t size = 0; size <= sizeof bytes; size++) {
        AUTO(buf_fini) struct buf text, again;
        random_bytes(bytes, sizeof bytes);
        buf_init(&text, 200);
        buf_init(&again, size ? size : 1);
        base64url_append(&text, bytes, size);
        assert_true(base64url_decode(buf_text(&text), text.length, &again));
        assert_int_equal(again.length, size);
        assert_memory_equal(buf_text(&again), bytes, size);
    }
}

static void ceilings_hold(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf out;

    buf_init(&out, 3);
    base64url_append(&out, "foo", 3);
    assert_false(buf_ok(&out));
    assert_int_equal(out.length, 0);
    buf_clear(&out);
    assert_true(base64url_decode("Zm9v", 4, &out));
    assert_false(base64url_decode("Zm9v", 4, &out));
    assert_false(buf_ok(&out));
    assert_string_equal(buf_text(&out), "foo");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_values),      cmocka_unit_test(one_value_has_one_spelling),
        cmocka_unit_test(exactly_64_digits), cmocka_unit_test(random_round_trips),
        cmocka_unit_test(ceilings_hold),
    };
    return cmocka_run_group_tests_name("base64url", tests, NULL, NULL);
}
