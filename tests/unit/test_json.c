#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "base/json.h"

/* Parses a copy of exactly that size, so that AddressSanitizer sees a read past the end. */
static enum err parse(const char *text, size_t length, struct json_object **out, struct diag *diag)
{
    char *copy = malloc(length ? length : 1);

    memcpy(copy, text, length);
    enum err e = json_parse(copy, length, out, diag);
    free(copy);
    return e;
}

static bool accepts(const char *text, size_t length)
{
    struct json_object *value = NULL;
    struct diag diag = { "" };
    enum err e = parse(text, length, &value, &diag);

    if (e != ERR_OK) {
        assert_int_equal(e, ERR_BAD_JSON);
        assert_null(value);
        assert_true(diag.text[0] != '\0');
    }
    json_object_put(value);
    return e == ERR_OK;
}

#define TAKES(text)   assert_true(accepts(text, sizeof(text) - 1))
#define REFUSES(text) assert_false(accepts(text, sizeof(text) - 1))

static void takes_what_rfc_8259_has(void **state)
{
    (void)state;
    TAKES("{}");
    TAKES(" [ ] ");
    TAKES("\t\r\n0");
    TAKES("-0");
    TAKES("-1.5e+10");
    TAKES("1E-2");
    TAKES("0.0");
    TAKES("true");
    TAKES("null");
    TAKES("\"\"");
    TAKES("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\u20AC\"");
    TAKES("\"\\ud83d\\ude00\"");
    TAKES("\"\xf0\x9f\x98\x80\x7f\"");
    TAKES("{\"a\":{\"a\":1},\"b\":[{\"a\":1},{\"a\":2}]}");
    TAKES("123456789012345678901234567890");
}

static void refuses_bad_numbers(void **state)
{
    (void)state;
    REFUSES("NaN");
    REFUSES("[NaN]");
    REFUSES("{\"a\":Infinity}");
    REFUSES("-Infinity");
    REFUSES("01");
    REFUSES("-");
    REFUSES("+1");
    REFUSES(".5");
    REFUSES("1.");
    REFUSES("1.e1");
    REFUSES("1e");
    REFUSES("1e+");
    REFUSES("0x10");
    REFUSES("1_0");
    REFUSES("--1");
}

static void refuses_bad_strings(void **state)
{
    (void)state;
    REFUSES("\"");
    REFUSES("\"a");
    REFUSES("\"\\\"");
    REFUSES("'a'");
    REFUSES("\"a\nb\"");
    REFUSES("\"\x01\"");
    REFUSES("\"a\0b\"");
    REFUSES("\"\\x41\"");
    REFUSES("\"\\u12\"");
    REFUSES("\"\\u12g4\"");
    REFUSES("\"\\ud800\"");
    REFUSES("\"\\ud800x\"");
    REFUSES("\"\\ud800\\n\"");
    REFUSES("\"\\ud800\\u0041\"");
    REFUSES("\"\\ud800\\ud800\"");
    REFUSES("\"\\udc00\"");
    REFUSES("\"\xff\"");
    REFUSES("\"\xc0\xaf\"");
    REFUSES("\"\xed\xa0\x80\"");
    REFUSES("\"\xf4\x90\x80\x80\"");
    REFUSES("\"\xe2\x82\"");
}

static void refuses_bad_structure(void **state)
{
    (void)state;
    REFUSES("");
    REFUSES(" ");
    REFUSES("[");
    REFUSES("]");
    REFUSES("[1,]");
    REFUSES("[,1]");
    REFUSES("[1 2]");
    REFUSES("{,}");
    REFUSES("{\"a\"}");
    REFUSES("{\"a\":}");
    REFUSES("{\"a\":1,}");
    REFUSES("{\"a\":1 \"b\":2}");
    REFUSES("{a:1}");
    REFUSES("{1:1}");
    REFUSES("[1}");
    REFUSES("tru");
    REFUSES("True");
    REFUSES("nulll");
    REFUSES("/**/1");
    REFUSES("1//");
    REFUSES("\xef\xbb\xbf{}");
    REFUSES("\v{}");
}

static void refuses_what_follows(void **state)
{
    (void)state;
    REFUSES("{}{}");
    REFUSES("{} x");
    REFUSES("{}\0");
    REFUSES("1\0");
    REFUSES("1 2");
    REFUSES("[1],");
}

static void refuses_repeated_members(void **state)
{
    (void)state;
    REFUSES("{\"a\":1,\"a\":1}");
    REFUSES("{\"a\":1,\"\\u0061\":2}");
    REFUSES("[{\"b\":{\"a\":1,\"c\":2,\"a\":3}}]");
    REFUSES("{\"\":1,\"\":2}");
    REFUSES("{\"a\\u0000b\":1}"); /* json-c would read it as "a" */
    TAKES("{\"a:b\":\"c:d\",\"e\":\":\"}");
}

static void bounds_nesting(void **state)
{
    (void)state;
    char text[2 * JSON_DEPTH_MAX + 3];

    memset(text, '[', JSON_DEPTH_MAX);
    memset(text + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
    assert_true(accepts(text, (size_t)2 * JSON_DEPTH_MAX));
    memset(text, '[', JSON_DEPTH_MAX + 1);
    memset(text + JSON_DEPTH_MAX + 1, ']', JSON_DEPTH_MAX + 1);
    assert_false(accepts(text, (size_t)2 * JSON_DEPTH_MAX + 2));

    static char deep[200000];
    memset(deep, '[', sizeof deep);
    assert_false(accepts(deep, sizeof deep));
    assert_int_equal(json_parse("", JSON_SIZE_MAX + 1ull, &(struct json_object *){ NULL }, NULL),
                     ERR_BAD_JSON);
}

static void tells_where(void **state)
{
    (void)state;
    struct json_object *value = NULL;
    struct diag diag;

    assert_int_equal(json_parse("{\"a\": 01}", 9, &value, &diag), ERR_BAD_JSON);
    assert_string_equal(diag.text, "JSON, byte 7: a comma or a closing bracket is expected");
}

/* ---- reader -------------------------------------------------------------------------------------
 */

struct fixture {
    struct json_object *value;
    struct json_reader reader;
    struct diag diag;
};

static void fixture_init(struct fixture *f, const char *text, const char *where)
{
    *f = (struct fixture){ 0 };
    assert_int_equal(json_parse(text, strlen(text), &f->value, &f->diag), ERR_OK);
    json_reader_init(&f->reader, f->value, where, &f->diag);
}

static void fixture_fini(struct fixture *f)
{
    json_object_put(f->value);
}
DEFINE_AUTO_VALUE(struct fixture, fixture_fini)

static void reads_every_type(void **state)
{
    (void)state;
    AUTO(fixture_fini) struct fixture f;
    struct json_reader *r = &f.reader;
    struct json_object *object = NULL, *array = NULL;
    const char *text = NULL;
    struct uuid uuid;
    int64_t number = 0;
    double ratio = 0;
    bool flag = false;

    fixture_init(&f,
                 "{\"s\":\"text\",\"u\":\"00112233-4455-6677-8899-aabbccddeeff\",\"i\":-5,"
                 "\"n\":0.25,\"k\":3,\"b\":true,\"o\":{},\"a\":[1,2],\"z\":null}",
                 "");
    assert_true(json_read_string(r, "s", true, 4, &text));
    assert_string_equal(text, "text");
    assert_true(json_read_uuid(r, "u", true, &uuid));
    assert_int_equal(uuid.bytes[15], 0xff);
    assert_true(json_read_int(r, "i", true, -5, -5, &number));
    assert_int_equal(number, -5);
    assert_true(json_read_number(r, "n", true, 0, 1, &ratio));
    assert_true(ratio == 0.25);
    assert_true(json_read_number(r, "k", true, 0, 3, &ratio));
    assert_true(ratio == 3);
    assert_true(json_read_bool(r, "b", true, &flag));
    assert_true(flag);
    assert_true(json_read_object(r, "o", true, &object));
    assert_true(json_read_array(r, "a", true, 2, &array));
    assert_false(json_read_string(r, "z", false, 4, &text)); /* null is like missing */
    assert_false(json_read_int(r, "missing", false, 0, 1, &number));
    assert_int_equal(json_reader_end(r), ERR_OK);
}

/* Reads one member "v" by kind and expects this error and this sentence. */
static void check_refusal(const char *text, char kind, enum err expected, const char *sentence)
{
    AUTO(fixture_fini) struct fixture f;
    struct json_reader *r = &f.reader;
    struct json_object *object;
    const char *string = "untouched";
    struct uuid uuid;
    int64_t number = 42;
    double ratio;
    bool flag;

    fixture_init(&f, text, "item[0]");
    bool done = kind == 's'   ? json_read_string(r, "v", true, 4, &string)
                : kind == 'u' ? json_read_uuid(r, "v", true, &uuid)
                : kind == 'i' ? json_read_int(r, "v", true, INT64_MIN, INT64_MAX, &number)
                : kind == 'c' ? json_read_int(r, "v", true, 1, 5, &number)
                : kind == 'n' ? json_read_number(r, "v", true, 0, 1, &ratio)
                : kind == 'b' ? json_read_bool(r, "v", true, &flag)
                : kind == 'o' ? json_read_object(r, "v", true, &object)
                              : json_read_array(r, "v", true, 2, &object);
    assert_false(done);
    assert_int_equal(json_reader_end(r), expected);
    assert_int_equal(json_reader_end_open(r), expected);
    assert_string_equal(f.diag.text, sentence);
    assert_string_equal(string, "untouched");
    assert_int_equal(number, 42);
}

static void refusals_name_the_member(void **state)
{
    (void)state;
    check_refusal("{}", 's', ERR_MISSING_FIELD, "item[0].v is missing");
    check_refusal("{\"v\":null}", 's', ERR_MISSING_FIELD, "item[0].v is missing");
    check_refusal("{\"v\":1}", 's', ERR_BAD_FIELD, "item[0].v must be a string");
    check_refusal("{\"v\":\"12345\"}", 's', ERR_BAD_FIELD,
                  "item[0].v must be at most 4 bytes, without a NUL");
    check_refusal("{\"v\":\"a\\u0000b\"}", 's', ERR_BAD_FIELD,
                  "item[0].v must be at most 4 bytes, without a NUL");
    check_refusal("{\"v\":[]}", 'u', ERR_BAD_FIELD, "item[0].v must be a UUID");
    check_refusal("{\"v\":\"00000000-0000-0000-0000-000000000000\"}", 'u', ERR_BAD_FIELD,
                  "item[0].v must be a UUID (8-4-4-4-12), not the nil one");
    check_refusal("{\"v\":6}", 'c', ERR_BAD_FIELD, "item[0].v must be an integer from 1 to 5");
    check_refusal("{\"v\":0}", 'c', ERR_BAD_FIELD, "item[0].v must be an integer from 1 to 5");
    check_refusal("{\"v\":1.0}", 'c', ERR_BAD_FIELD, "item[0].v must be an integer from 1 to 5");
    check_refusal("{\"v\":1e0}", 'c', ERR_BAD_FIELD, "item[0].v must be an integer from 1 to 5");
    check_refusal("{\"v\":\"1\"}", 'c', ERR_BAD_FIELD, "item[0].v must be an integer from 1 to 5");
    check_refusal("{\"v\":true}", 'c', ERR_BAD_FIELD, "item[0].v must be an integer from 1 to 5");
    check_refusal("{\"v\":1.5}", 'n', ERR_BAD_FIELD, "item[0].v must be a number from 0 to 1");
    check_refusal("{\"v\":1e999}", 'n', ERR_BAD_FIELD, "item[0].v must be a number from 0 to 1");
    check_refusal("{\"v\":\"0\"}", 'n', ERR_BAD_FIELD, "item[0].v must be a number from 0 to 1");
    check_refusal("{\"v\":0}", 'b', ERR_BAD_FIELD, "item[0].v must be true or false");
    check_refusal("{\"v\":[]}", 'o', ERR_BAD_FIELD, "item[0].v must be an object");
    check_refusal("{\"v\":{}}", 'a', ERR_BAD_FIELD, "item[0].v must be an array");
    check_refusal("{\"v\":[1,2,3]}", 'a', ERR_TOO_MANY_ITEMS,
                  "item[0].v must have at most 2 items");
}

static void integers_outside_int64_are_refused(void **state)
{
    (void)state;
    static const char sentence[] =
        "item[0].v must be an integer from -9223372036854775808 to 9223372036854775807";
    AUTO(fixture_fini) struct fixture f;
    int64_t number;

    check_refusal("{\"v\":9223372036854775808}", 'i', ERR_BAD_FIELD, sentence);
    check_refusal("{\"v\":18446744073709551616}", 'i', ERR_BAD_FIELD, sentence);
    check_refusal("{\"v\":99999999999999999999999}", 'i', ERR_BAD_FIELD, sentence);
    check_refusal("{\"v\":-9223372036854775809}", 'i', ERR_BAD_FIELD, sentence);
    fixture_init(&f, "{\"max\":9223372036854775807,\"min\":-9223372036854775807}", "");
    assert_true(json_read_int(&f.reader, "max", true, INT64_MIN, INT64_MAX, &number));
    assert_int_equal(number, INT64_MAX);
    assert_true(json_read_int(&f.reader, "min", true, INT64_MIN, INT64_MAX, &number));
    assert_int_equal(number, INT64_MIN + 1);
}

static void unknown_members_are_refused(void **state)
{
    (void)state;
    AUTO(fixture_fini) struct fixture f, open;
    int64_t number;

    fixture_init(&f, "{\"cuont\":2}", "");
    assert_false(json_read_int(&f.reader, "count", false, 1, 9, &number));
    assert_int_equal(json_reader_end(&f.reader), ERR_UNKNOWN_FIELD);
    assert_string_equal(f.diag.text, "cuont is not known here");
    fixture_init(&open, "{\"new\":2}", "");
    assert_int_equal(json_reader_end_open(&open.reader), ERR_OK);
}

static void the_first_failure_stays(void **state)
{
    (void)state;
    AUTO(fixture_fini) struct fixture f;
    const char *text;
    int64_t number;

    fixture_init(&f, "{\"a\":1,\"b\":2}", "here");
    assert_true(json_read_int(&f.reader, "a", true, 0, 9, &number));
    json_reader_fail(&f.reader, ERR_COUNT_RANGE, "a is %d", 1);
    json_reader_fail(&f.reader, ERR_DURATION_RANGE, "later");
    assert_false(json_read_string(&f.reader, "b", true, 9, &text));
    assert_int_equal(json_reader_end(&f.reader), ERR_COUNT_RANGE);
    assert_string_equal(f.diag.text, "here: a is 1");
}

static void only_objects_are_read(void **state)
{
    (void)state;
    static const char *const texts[] = { "[]", "null", "1", "\"x\"" };

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        AUTO(fixture_fini) struct fixture f;
        const char *text;
        fixture_init(&f, texts[i], "");
        assert_false(json_read_string(&f.reader, "a", true, 9, &text));
        assert_int_equal(json_reader_end(&f.reader), ERR_BAD_FIELD);
        assert_string_equal(f.diag.text, "the JSON value must be an object");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_what_rfc_8259_has),
        cmocka_unit_test(refuses_bad_numbers),
        cmocka_unit_test(refuses_bad_strings),
        cmocka_unit_test(refuses_bad_structure),
        cmocka_unit_test(refuses_what_follows),
        cmocka_unit_test(refuses_repeated_members),
        cmocka_unit_test(bounds_nesting),
        cmocka_unit_test(tells_where),
        cmocka_unit_test(reads_every_type),
        cmocka_unit_test(refusals_name_the_member),
        cmocka_unit_test(integers_outside_int64_are_refused),
        cmocka_unit_test(unknown_members_are_refused),
        cmocka_unit_test(the_first_failure_stays),
        cmocka_unit_test(only_objects_are_read),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
