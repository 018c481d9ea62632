#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "http/header.h"
#include "http/query_string.h"

static struct text of(const char *text)
{
    return (struct text){ text, strlen(text) };
}

static void request_ids(void **state)
{
    char longest[66];

    (void)state;
    memset(longest, 'x', sizeof longest);
    assert_true(header_request_id_valid(of("a")));
    assert_true(header_request_id_valid(of("Build-7_a.b")));
    assert_true(header_request_id_valid((struct text){ longest, 64 }));
    assert_false(header_request_id_valid((struct text){ longest, 65 }));
    assert_false(header_request_id_valid(of("")));
    assert_false(header_request_id_valid(of("a b")));
    assert_false(header_request_id_valid(of("a\"b")));
    assert_false(header_request_id_valid(of("a\xc3\xa4")));
    assert_false(header_request_id_valid((struct text){ "a\0b", 3 }));
}

static void bearer(const char *value, const char *expected)
{
    struct text token = { NULL, 0 };

    assert_int_equal(header_bearer(of(value), &token), expected != NULL);
    assert_int_equal(token.length, expected ? strlen(expected) : 0);
    if (expected)
        assert_memory_equal(token.bytes, expected, token.length);
}

static void bearer_tokens(void **state)
{
    (void)state;
    bearer("Bearer abc.def", "abc.def");
    bearer("bearer abc", "abc");
    bearer("BEARER   abc  ", "abc");
    bearer("Bearer a b", "a b"); /* whoever looks at the token refuses it */
    bearer("", NULL);
    bearer("Bearer", NULL);
    bearer("Bearer ", NULL);
    bearer("Bearerabc", NULL);
    bearer("Basic YTpi", NULL);
    bearer("abc", NULL);
}

static void cookie(const char *value, const char *expected)
{
    struct text found = { NULL, 0 };

    assert_int_equal(header_cookie(of(value), "session", &found), expected != NULL);
    assert_int_equal(found.length, expected ? strlen(expected) : 0);
    if (expected)
        assert_memory_equal(found.bytes, expected, found.length);
}

static void cookies(void **state)
{
    (void)state;
    cookie("session=abc", "abc");
    cookie("a=b; session=abc; c=d", "abc");
    cookie("a=b;session=abc", "abc");
    cookie("session=a=b", "a=b");
    cookie("session=first; session=second", "first");
    cookie("session=", "");
    cookie("session", NULL);
    cookie("xsession=abc", NULL);
    cookie("session2=abc", NULL);
    cookie("a=session=abc", NULL);
    cookie("", NULL);
}

static void media_types(void **state)
{
    (void)state;
    assert_true(header_media_type_is(of("application/json"), "application/json"));
    assert_true(header_media_type_is(of("Application/JSON; charset=utf-8"), "application/json"));
    assert_true(header_media_type_is(of(" application/json ;x"), "application/json"));
    assert_false(header_media_type_is(of("application/jsonp"), "application/json"));
    assert_false(header_media_type_is(of("text/plain; application/json"), "application/json"));
    assert_false(header_media_type_is(of(""), "application/json"));
}

static void origins(void **state)
{
    const char *list = "https://a.example,https://b.example:8443";

    (void)state;
    assert_true(header_origin_listed(of("https://a.example"), list));
    assert_true(header_origin_listed(of("HTTPS://B.example:8443"), list));
    assert_true(
        header_origin_listed(of("https://b.example"), "https://a.example , https://b.example"));
    assert_true(header_origin_listed(of("https://anything"), "*"));
    assert_false(header_origin_listed(of("https://b.example"), list));
    assert_false(header_origin_listed(of("https://a.example.evil"), list));
    assert_false(header_origin_listed(of("https://a.exampl"), list));
    assert_false(header_origin_listed(of("null"), list));
    assert_false(header_origin_listed(of(""), ",,"));
    assert_false(header_origin_listed(of("https://a.example"), ""));
}

static void same_origin(void **state)
{
    struct text none = { NULL, 0 }, host = of("node:8443");

    (void)state;
    assert_true(header_same_origin(of("same-origin"), none, host));
    assert_false(header_same_origin(of("same-site"), of("https://node:8443"), host));
    assert_false(header_same_origin(of("cross-site"), none, host));
    assert_false(header_same_origin(of("none"), none, host));
    assert_true(header_same_origin(none, of("https://node:8443"), host));
    assert_true(header_same_origin(none, of("HTTPS://NODE:8443"), host));
    assert_false(header_same_origin(none, of("http://node:8443"), host));
    assert_false(header_same_origin(none, of("https://node:84430"), host));
    assert_false(header_same_origin(none, of("https://evil"), host));
    assert_false(header_same_origin(none, of("null"), host));
    assert_false(header_same_origin(none, none, host));
    assert_false(header_same_origin(none, of("https://"), none));
}

static bool framed(const char *head)
{
    return header_framing_fault(of(head), false) == NULL;
}

static void framing(void **state)
{
    (void)state;
    assert_true(framed("POST / HTTP/1.1\r\nhost: a\r\n\r\n"));
    assert_true(framed("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"));
    assert_true(framed("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nHost:\r\n\r\n0"));
    assert_false(
        framed("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc"));
    assert_false(framed("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
                        "Transfer-Encoding: chunked\r\n\r\nabc"));
    assert_false(
        framed("POST / HTTP/1.1\ntransfer-encoding: chunked\nhost: a\ntransfer-encoding: x\n\n"));
    /* what stands in the body is no header */
    assert_true(
        framed("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\ncontent-length: 9\r\n"
               "host: b\r\n"));
    /* and what stands before the request hides none */
    assert_true(framed("\r\nPOST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"));
    assert_false(framed("\r\nPOST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n"
                        "content-length: 30\r\n\r\nabc"));
    /* libh2o would take 3 */
    assert_false(framed("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n 0\r\n\r\nabc"));
    assert_false(framed("GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n\tz\r\n\r\n"));
    assert_non_null(header_framing_fault((struct text){ "", 0 }, false));
}

static void framing_by_version(void **state)
{
    const struct text bare = of("GET / HTTP/1.0\r\n\r\n");
    const struct text one = of("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    const struct text two = of("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n");
    const struct text chunked =
        of("GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");

    (void)state;
    assert_null(header_framing_fault(bare, true));
    assert_non_null(header_framing_fault(bare, false));
    assert_null(header_framing_fault(one, true));
    assert_null(header_framing_fault(one, false));
    assert_non_null(header_framing_fault(two, true));
    assert_non_null(header_framing_fault(two, false));
    assert_non_null(header_framing_fault(chunked, true));
    assert_null(header_framing_fault(chunked, false));
}

/* ---- query strings ---- */

static const struct route lists = { .query = "limit after leases" };
static struct diag diag;

static enum err parse(const char *text, struct query_string *out)
{
    static char bytes[QUERY_SIZE_MAX + QUERY_PARAMS_MAX + 1];

    return query_string_parse(text, strlen(text), &lists, bytes, out, &diag);
}

static void query_parameters(void **state)
{
    struct query_string query;

    (void)state;
    assert_int_equal(parse("limit=10&after=a%2Cb+c&leases", &query), ERR_OK);
    assert_int_equal(query.count, 3);
    assert_string_equal(query_string_get(&query, "limit"), "10");
    assert_string_equal(query_string_get(&query, "after"), "a,b+c");
    assert_string_equal(query_string_get(&query, "leases"), "");
    assert_null(query_string_get(&query, "scope"));
    assert_int_equal(parse("%6Cimit=1&after==", &query), ERR_OK);
    assert_string_equal(query_string_get(&query, "limit"), "1");
    assert_string_equal(query_string_get(&query, "after"), "=");
    assert_int_equal(parse("", &query), ERR_OK);
    assert_int_equal(query.count, 0);
}

static void query_refusals(void **state)
{
    struct query_string query;

    (void)state;
    assert_int_equal(parse("limits=1", &query), ERR_UNKNOWN_FIELD);
    assert_non_null(strstr(diag.text, "limits"));
    assert_non_null(strstr(diag.text, lists.query));
    assert_int_equal(parse("limit=1&limit=2", &query), ERR_BAD_FIELD);
    assert_non_null(strstr(diag.text, "twice"));
    assert_int_equal(parse("limit=%zz", &query), ERR_BAD_REQUEST);
    assert_int_equal(parse("limit=%0a", &query), ERR_BAD_REQUEST);
    assert_int_equal(parse("=1", &query), ERR_BAD_REQUEST);
    assert_int_equal(parse("&", &query), ERR_BAD_REQUEST);
    assert_int_equal(parse("limit=1&&after=2", &query), ERR_BAD_REQUEST);
}

static void query_size(void **state)
{
    static char text[QUERY_SIZE_MAX + 2];
    struct query_string query;

    (void)state;
    memset(text, 'a', sizeof text - 1);
    memcpy(text, "after=", 6);
    assert_int_equal(parse(text, &query), ERR_BAD_REQUEST);
    text[QUERY_SIZE_MAX] = '\0';
    assert_int_equal(parse(text, &query), ERR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(request_ids),      cmocka_unit_test(bearer_tokens),
        cmocka_unit_test(cookies),          cmocka_unit_test(media_types),
        cmocka_unit_test(origins),          cmocka_unit_test(same_origin),
        cmocka_unit_test(framing),          cmocka_unit_test(framing_by_version),
        cmocka_unit_test(query_parameters), cmocka_unit_test(query_refusals),
        cmocka_unit_test(query_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
