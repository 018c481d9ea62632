#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "http/route.h"
#include "http/route.tbl"

/* The real table, without the handlers behind it. */
static const struct route table[] = {
#define X(method, pattern, auth, roles, body, query, handler)                                      \
    { METHOD_##method, pattern, auth, roles, body, query, NULL },
    ROUTE_TBL(X)
#undef X
};

static struct route_params params;
static unsigned methods;

static enum err find(enum method method, const char *path, const struct route **route)
{
    methods = 0;
    return route_find(table, ARRAY_SIZE(table), method, path, strlen(path), route, &params,
                      &methods);
}

static void found(enum method method, const char *path, const char *pattern)
{
    const struct route *route = NULL;

    assert_int_equal(find(method, path, &route), ERR_OK);
    assert_string_equal(route->pattern, pattern);
    assert_int_equal(route->method, method);
}

static void fails(enum method method, const char *path, enum err expected)
{
    const struct route *route = NULL;

    assert_int_equal(find(method, path, &route), expected);
    assert_null(route);
}

static void every_route_finds_itself(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        const struct route *route = NULL;
        char path[128];
        snprintf(path, sizeof path, "%s", table[i].pattern);
        for (char *p = path; *p; p++) /* a parameter's name is as good a value as any */
            *p = *p == '{' || *p == '}' ? '_' : *p;
        assert_int_equal(find(table[i].method, path, &route), ERR_OK);
        assert_ptr_equal(route, &table[i]);
    }
}

static void no_route_hides_another(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        for (size_t j = 0; j < i; j++)
            assert_false(table[i].method == table[j].method &&
                         strcmp(table[i].pattern, table[j].pattern) == 0);
    }
}

/* A route that changes something and asks for no token must be one of these. */
static void only_known_routes_change_things_without_a_token(void **state)
{
    static const char *const open[] = { "/v1/auth/code", "/v1/auth/token", "/-/session" };
    size_t found_open = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        bool is_open = table[i].auth == AUTH_NONE || table[i].auth == AUTH_ROLE_OPTIONAL;
        bool known = false;
        if (!is_open || table[i].method == METHOD_GET)
            continue;
        for (size_t j = 0; j < ARRAY_SIZE(open); j++)
            known = known || strcmp(table[i].pattern, open[j]) == 0;
        assert_true(known);
        found_open++;
    }
    assert_int_equal(found_open, ARRAY_SIZE(open) + 1); /* /-/session has two */
}

static void parameters_are_decoded(void **state)
{
    (void)state;
    found(METHOD_PUT, "/v1/leases/abc", "/v1/leases/{lease_ref}");
    assert_string_equal(params.values[0], "abc");
    found(METHOD_PUT, "/v1/%6Ceases/a%2Db%20c", "/v1/leases/{lease_ref}");
    assert_string_equal(params.values[0], "a-b c");
    found(METHOD_GET, "https://localhost:8443/v1/leases", "/v1/leases");
    found(METHOD_GET, "HTTP://localhost/-/ready", "/-/ready");
    found(METHOD_GET, "/", "/");
}

static void literal_and_parameter_do_not_mix(void **state)
{
    const struct route *route = NULL;

    (void)state;
    assert_int_equal(find(METHOD_DELETE, "/-/origins/x", &route), ERR_OK);
    assert_int_equal(route_param_index(route, "origin_ref"), 0);
    found(METHOD_DELETE, "/-/leases/expired", "/-/leases/expired");
    fails(METHOD_DELETE, "/-/leases/other", ERR_NOT_FOUND);
}

static void other_spellings_are_not_found(void **state)
{
    static const char *const paths[] = { "",
                                         "v1/leases",
                                         "//",
                                         "/v1",
                                         "/v1/",
                                         "/v1/leases/",
                                         "//v1/leases",
                                         "/v1//leases",
                                         "/V1/leases",
                                         "/v1/./leases",
                                         "/v1/leases/..",
                                         "/v1/leases/%2e%2E",
                                         "/v1/leases/a/b",
                                         "/v1/leases%2fa",
                                         "/v1%2fleases",
                                         "/v1/leases;x=1",
                                         "/a/b/c/d/e/f/g/h/i/j",
                                         "https://localhost",
                                         "ftp://localhost/v1/leases",
                                         "*" };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
        fails(METHOD_GET, paths[i], ERR_NOT_FOUND);
}

static void malformed_escapes_are_refused(void **state)
{
    static const char *const paths[] = { "/v1/leases/%",   "/v1/leases/%4",  "/v1/leases/%zz",
                                         "/v1/leases/%00", "/v1/leases/%0a", "/v1/leases/a%7f" };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
        fails(METHOD_PUT, paths[i], ERR_BAD_REQUEST);
}

static void long_paths_are_not_found(void **state)
{
    char path[ROUTE_PATH_MAX + 2];

    (void)state;
    memset(path, 'a', sizeof path);
    memcpy(path, "/v1/leases/", 11);
    path[sizeof path - 1] = '\0';
    fails(METHOD_PUT, path, ERR_NOT_FOUND);
    path[sizeof path - 2] = '\0';
    found(METHOD_PUT, path, "/v1/leases/{lease_ref}");
    assert_int_equal(strlen(params.values[0]), ROUTE_PATH_MAX - 11);
}

static void methods_are_collected(void **state)
{
    (void)state;
    fails(METHOD_PUT, "/v1/leases", ERR_METHOD_NOT_ALLOWED);
    assert_int_equal(methods, 1u << METHOD_GET | 1u << METHOD_POST | 1u << METHOD_DELETE);
    fails(METHODS, "/-/ready", ERR_METHOD_NOT_ALLOWED);
    assert_int_equal(methods, 1u << METHOD_GET);
}

static void query_names_are_whole_words(void **state)
{
    const struct route route = { .query = "limit after" };

    (void)state;
    assert_true(route_takes_query(&route, "limit", 5));
    assert_true(route_takes_query(&route, "after", 5));
    assert_false(route_takes_query(&route, "lim", 3));
    assert_false(route_takes_query(&route, "limit after", 11));
    assert_false(route_takes_query(&route, "", 0));
    assert_false(route_takes_query(&(struct route){ .query = "" }, "", 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_route_finds_itself),
        cmocka_unit_test(no_route_hides_another),
        cmocka_unit_test(only_known_routes_change_things_without_a_token),
        cmocka_unit_test(parameters_are_decoded),
        cmocka_unit_test(literal_and_parameter_do_not_mix),
        cmocka_unit_test(other_spellings_are_not_found),
        cmocka_unit_test(malformed_escapes_are_refused),
        cmocka_unit_test(long_paths_are_not_found),
        cmocka_unit_test(methods_are_collected),
        cmocka_unit_test(query_names_are_whole_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
