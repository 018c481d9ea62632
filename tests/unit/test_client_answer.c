/* What nodes answer, read: the pure parser of libtwinlease. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"

#define JSON    "application/json"
#define PROBLEM "application/problem+json"

static struct twinlease_error error;

static struct answer make_answer(int status, const char *content_type, const char *body)
{
    return (struct answer){ "https://node", status, content_type, "id-1", body, strlen(body) };
}

static struct json_object *read_ok(const char *body)
{
    struct answer answer = make_answer(200, JSON, body);
    struct json_object *json = NULL;

    assert_int_equal(answer_read(&answer, &json, &error), TWINLEASE_OK);
    return json;
}

/* ---- problems -------------------------------------------------------------------------------- */

static void problems_become_codes(void **state)
{
    static const struct {
        int status;
        const char *problem;
        enum twinlease_code code;
        const char *nature; /* local, passing, unsure */
    } cases[] = {
        { 409, "no_free_seat", TWINLEASE_NO_SEAT, "---" },
        { 409, "seats_at_peer", TWINLEASE_NO_SEAT, "l--" },
        { 409, "seats_pending", TWINLEASE_NO_SEAT, "l--" },
        { 409, "count_over_seats", TWINLEASE_REFUSED, "---" },
        { 404, "scope_unknown", TWINLEASE_REFUSED, "---" },
        { 404, "lease_unknown", TWINLEASE_LEASE_LOST, "l--" },
        { 410, "lease_ended", TWINLEASE_LEASE_LOST, "---" },
        { 401, "token_expired", TWINLEASE_NOT_AUTHORISED, "---" },
        { 403, "token_wrong_instance", TWINLEASE_NOT_AUTHORISED, "---" },
        { 401, "auth_code_invalid", TWINLEASE_NOT_AUTHORISED, "lp-" },
        { 409, "origin_exists", TWINLEASE_REFUSED, "lp-" },
        { 503, "not_ready", TWINLEASE_NO_NODE, "lp-" },
        { 503, "overloaded", TWINLEASE_NO_NODE, "lp-" },
        { 503, "primary_away", TWINLEASE_NO_NODE, "lp-" },
        { 503, "ask_other_node", TWINLEASE_NO_NODE, "lp-" },
        { 503, "node_unfilled", TWINLEASE_NO_NODE, "lp-" },
        { 503, "node_drained", TWINLEASE_NO_NODE, "lp-" },
        { 503, "history_lost", TWINLEASE_NO_NODE, "lp-" },
        { 503, "store_away", TWINLEASE_NO_NODE, "lpu" },
        { 503, "outcome_unknown", TWINLEASE_NO_NODE, "lpu" },
        { 503, "deadline", TWINLEASE_NO_NODE, "lpu" },
        { 500, "internal", TWINLEASE_NO_NODE, "l-u" },
        { 503, "node_retired", TWINLEASE_NO_NODE, "l--" },
        { 429, "some_limit_of_tomorrow", TWINLEASE_NO_NODE, "lp-" },
        { 400, "something_of_tomorrow", TWINLEASE_REFUSED, "---" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char body[256];
        snprintf(body, sizeof body, "{\"title\":\"T\",\"detail\":\"D\",\"code\":\"%s\",\"more\":1}",
                 cases[i].problem);
        struct answer answer = make_answer(cases[i].status, PROBLEM "; charset=utf-8", body);
        struct json_object *json = NULL;
        assert_int_equal(answer_read(&answer, &json, &error), cases[i].code);
        assert_null(json);
        assert_int_equal(error.http_status, cases[i].status);
        assert_string_equal(error.problem, cases[i].problem);
        assert_string_equal(error.request_id, "id-1");
        assert_string_equal(error.message, "T (D)");
        assert_int_equal(answer_is_local(&error), cases[i].nature[0] == 'l');
        assert_int_equal(answer_is_passing(&error), cases[i].nature[1] == 'p');
        assert_int_equal(answer_is_unsure(&error), cases[i].nature[2] == 'u');
    }
}

static void denials_have_figures(void **state)
{
    struct answer answer = make_answer(
        409, PROBLEM,
        "{\"title\":\"Every seat is leased\",\"detail\":\"d\",\"code\":\"no_free_seat\","
        "\"feature\":\"render\",\"seats\":3,\"used\":2,"
        "\"next_expected\":\"2026-11-21T09:10:09.123Z\"}");

    (void)state;
    assert_int_equal(answer_check(&answer, &error), TWINLEASE_NO_SEAT);
    assert_int_equal(error.seats, 3);
    assert_int_equal(error.seats_used, 2);
    assert_int_equal(error.next_seat_ms, 1795252209123);
    assert_string_equal(error.message,
                        "Every seat is leased: render has 3 seats, 2 of them in use; "
                        "the next is expected back at 2026-11-21T09:10:09.123Z");
    assert_string_equal(error.problem, "no_free_seat");
    answer = make_answer(409, PROBLEM,
                         "{\"title\":\"Every seat is leased\",\"code\":\"no_free_seat\","
                         "\"feature\":\"render\",\"seats\":\"three\",\"used\":2}");
    assert_int_equal(answer_check(&answer, &error), TWINLEASE_NO_SEAT);
    assert_int_equal(error.seats, -1);
    assert_string_equal(error.message, "Every seat is leased");
}

static void hostile_words_are_tamed(void **state)
{
    struct answer answer =
        make_answer(400, PROBLEM, "{\"title\":\"a\\u001b[31m\\nb\",\"code\":\"c\"}");

    (void)state;
    assert_int_equal(answer_check(&answer, &error), TWINLEASE_REFUSED);
    assert_string_equal(error.message, "a [31m b");
    answer = make_answer(400, PROBLEM, "{\"title\":\"\",\"code\":\"c\"}");
    assert_int_equal(answer_check(&answer, &error), TWINLEASE_REFUSED);
    assert_string_equal(error.message, "c"); /* never without a word */
}

static void strangers(void **state)
{
    static const struct {
        int status;
        const char *content_type, *body;
        enum twinlease_code code;
    } cases[] = {
        { 200, "text/html", "{}", TWINLEASE_BAD_ANSWER },
        { 200, "", "{}", TWINLEASE_BAD_ANSWER },
        { 200, "application/json2", "{}", TWINLEASE_BAD_ANSWER },
        { 200, PROBLEM, "{}", TWINLEASE_BAD_ANSWER },
        { 200, JSON, "", TWINLEASE_BAD_ANSWER },
        { 200, JSON, "{\"a\":1,\"a\":2}", TWINLEASE_BAD_ANSWER },
        { 200, JSON, "{\"a\":\"\xff\"}", TWINLEASE_BAD_ANSWER },
        { 200, JSON, "\"text\"", TWINLEASE_BAD_ANSWER },
        { 301, JSON, "{}", TWINLEASE_BAD_ANSWER },
        { 100, JSON, "{}", TWINLEASE_BAD_ANSWER },
        { 0, JSON, "{}", TWINLEASE_BAD_ANSWER },
        { 404, JSON, "{\"title\":\"t\",\"code\":\"c\"}", TWINLEASE_BAD_ANSWER },
        { 404, PROBLEM, "{\"title\":\"t\"}", TWINLEASE_BAD_ANSWER },
        { 404, PROBLEM, "{\"title\":1,\"code\":\"c\"}", TWINLEASE_BAD_ANSWER },
        { 404, PROBLEM, "{", TWINLEASE_BAD_ANSWER },
        { 404, PROBLEM, "{\"title\":\"t\",\"code\":\"\"}", TWINLEASE_BAD_ANSWER },
        { 500, "text/plain", "oops", TWINLEASE_BAD_ANSWER },
        { 502, "text/html", "oops", TWINLEASE_NO_NODE },
        { 503, "text/html", "oops", TWINLEASE_NO_NODE },
        { 504, "", "", TWINLEASE_NO_NODE },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct answer answer = make_answer(cases[i].status, cases[i].content_type, cases[i].body);
        struct json_object *json = NULL;
        assert_int_equal(answer_read(&answer, &json, &error), cases[i].code);
        assert_null(json);
        assert_non_null(strstr(error.message, "https://node"));
        assert_true(answer_is_local(&error));
        assert_true(answer_is_unsure(&error)); /* whoever it was may have handed it on */
    }
}

static void nothing_is_an_answer_too(void **state)
{
    struct answer answer = make_answer(204, "", "");
    struct json_object *json = (struct json_object *)&answer;

    (void)state;
    assert_int_equal(answer_read(&answer, &json, &error), TWINLEASE_OK);
    assert_null(json);
}

/* ---- values ---------------------------------------------------------------------------------- */

static enum twinlease_code try_origin(const char *body, struct answer_origin *out)
{
    struct answer answer = make_answer(201, JSON, body);
    struct json_object *json = read_ok(body);
    enum twinlease_code code = answer_origin(&answer, json, out, &error);

    json_object_put(json);
    return code;
}

static void origins(void **state)
{
    struct answer_origin origin;

    (void)state;
    assert_int_equal(try_origin("{\"origin_ref\":\"10000000-0000-4000-8000-0000000000aa\","
                                "\"origin_secret\":\"1.abc\",\"environment\":{\"x\":1},"
                                "\"sync_timestamp\":\"1970-01-01T00:00:01Z\"}",
                                &origin),
                     TWINLEASE_OK);
    assert_string_equal(origin.secret, "1.abc");
    assert_int_equal(origin.sync_ms, 1000);
    static const char *const bad[] = {
        "{}",
        "{\"origin_ref\":\"10000000-0000-4000-8000-0000000000aa\"}",
        "{\"origin_ref\":\"10000000-0000-4000-8000-0000000000aa\",\"origin_secret\":\"\"}",
        "{\"origin_ref\":\"10000000-0000-4000-8000-0000000000aa\",\"origin_secret\":1}",
        "{\"origin_ref\":\"00000000-0000-0000-0000-000000000000\",\"origin_secret\":\"s\"}",
        "{\"origin_ref\":\"x\",\"origin_secret\":\"s\"}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(try_origin(bad[i], &origin), TWINLEASE_BAD_ANSWER);
}

static enum twinlease_code try_ticket(const char *body, struct answer_ticket *out)
{
    struct answer answer = make_answer(200, JSON, body);
    struct json_object *json = read_ok(body);
    enum twinlease_code code = answer_ticket(&answer, json, "auth_token", out, &error);

    json_object_put(json);
    return code;
}

/* Their life is counted on the node's clock alone. */
static void tickets(void **state)
{
    struct answer_ticket ticket = { .text = NULL };

    (void)state;
    assert_int_equal(try_ticket("{\"auth_token\":\"t\",\"expires\":\"2001-01-01T00:01:00Z\","
                                "\"sync_timestamp\":\"2001-01-01T00:00:00Z\"}",
                                &ticket),
                     TWINLEASE_OK);
    assert_string_equal(ticket.text, "t");
    assert_int_equal(ticket.lifetime_ms, 60000);
    free(ticket.text);
    assert_int_equal(try_ticket("{\"auth_token\":\"t\",\"expires\":\"2001-01-01T00:00:00Z\","
                                "\"sync_timestamp\":\"2001-01-01T00:01:00Z\"}",
                                &ticket),
                     TWINLEASE_OK);
    assert_int_equal(ticket.lifetime_ms, 0);
    free(ticket.text);
    static const char *const bad[] = {
        "{\"expires\":\"2001-01-01T00:01:00Z\",\"sync_timestamp\":\"2001-01-01T00:00:00Z\"}",
        "{\"auth_token\":\"t\",\"sync_timestamp\":\"2001-01-01T00:00:00Z\"}",
        "{\"auth_token\":\"t\",\"expires\":\"soon\",\"sync_timestamp\":\"2001-01-01T00:00:00Z\"}",
        "{\"auth_token\":\"\",\"expires\":\"2001-01-01T00:01:00Z\","
        "\"sync_timestamp\":\"2001-01-01T00:00:00Z\"}",
        "{\"auth_token\":\"t\\r\\nX: y\",\"expires\":\"2001-01-01T00:01:00Z\","
        "\"sync_timestamp\":\"2001-01-01T00:00:00Z\"}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(try_ticket(bad[i], &ticket), TWINLEASE_BAD_ANSWER);
}

static const char good_lease[] =
    "{\"lease_ref\":\"10000000-0000-4000-8000-000000000001\","
    "\"origin_ref\":\"10000000-0000-4000-8000-000000000002\","
    "\"scope_ref\":\"10000000-0000-4000-8000-000000000003\",\"feature\":\"render\",\"count\":2,"
    "\"created\":\"2026-11-21T09:00:00Z\",\"expires\":\"2026-11-21T10:00:00Z\","
    "\"expires_in\":3600.000,\"renew_after\":540.123,"
    "\"home\":\"10000000-0000-4000-8000-000000000004\",\"lease_token\":\"l.t.k\","
    "\"entitlement\":\"e.n.t\",\"of_tomorrow\":[]}";

/* good_lease with one member's value replaced. */
static char *spoil(const char *member, const char *value)
{
    struct json_object *json = read_ok(good_lease);
    struct json_object *other = *value ? json_tokener_parse(value) : NULL;

    if (*value)
        json_object_object_add(json, member, other);
    else
        json_object_object_del(json, member);
    char *text = strdup(json_object_to_json_string(json));
    json_object_put(json);
    return text;
}

static enum twinlease_code try_lease(const char *body)
{
    struct answer answer = make_answer(200, JSON, body);
    struct json_object *json = read_ok(body);
    struct lease_facts facts = { .count = 0 };
    enum twinlease_code code = answer_lease(&answer, json, &facts, &error);

    lease_facts_fini(&facts);
    json_object_put(json);
    return code;
}

static void leases(void **state)
{
    static const struct {
        const char *member, *value;
    } bad[] = {
        { "lease_ref", "" },
        { "lease_ref", "\"x\"" },
        { "origin_ref", "" },
        { "scope_ref", "7" },
        { "home", "null" },
        { "feature", "" },
        { "count", "0" },
        { "count", "1.5" },
        { "count", "\"1\"" },
        { "count", "10000001" },
        { "created", "\"now\"" },
        { "expires", "" },
        { "expires_in", "-1" },
        { "expires_in", "7776001" },
        { "expires_in", "\"60\"" },
        { "renew_after", "" },
        { "lease_token", "\"\"" },
        { "lease_token", "\"a b\"" },
        { "lease_token", "\"\\\"\"" },
        { "entitlement", "" },
        { "entitlement", "\"\\u00e9\"" },
    };

    (void)state;
    assert_int_equal(try_lease(good_lease), TWINLEASE_OK);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char *text = spoil(bad[i].member, bad[i].value);
        if (try_lease(text) != TWINLEASE_BAD_ANSWER)
            fail_msg("%s = %s was taken", bad[i].member, bad[i].value);
        assert_non_null(strstr(error.message, bad[i].member));
        free(text);
    }
}

static void lists_of_leases(void **state)
{
    struct lease_facts *facts = NULL;
    size_t count = 0;
    char body[2048];

    (void)state;
    snprintf(body, sizeof body, "{\"list\":[%s,%s]}", good_lease, good_lease);
    struct answer answer = make_answer(200, JSON, body);
    struct json_object *json = read_ok(body);
    assert_int_equal(answer_leases(&answer, json, "list", 2, &facts, &count, &error), TWINLEASE_OK);
    assert_int_equal(count, 2);
    assert_int_equal(facts[1].lasts_ms, 3600000);
    assert_int_equal(facts[1].renew_ms, 540123);
    assert_string_equal(facts[1].feature, "render");
    assert_string_equal(facts[1].token, "l.t.k");
    for (size_t i = 0; i < count; i++)
        lease_facts_fini(&facts[i]);
    free(facts);
    assert_int_equal(answer_leases(&answer, json, "list", 1, &facts, &count, &error),
                     TWINLEASE_BAD_ANSWER); /* more than can have been asked for */
    assert_int_equal(answer_leases(&answer, json, "other", 2, &facts, &count, &error),
                     TWINLEASE_BAD_ANSWER);
    json_object_put(json);
    snprintf(body, sizeof body, "{\"list\":[%s,{}]}", good_lease);
    json = read_ok(body);
    assert_int_equal(answer_leases(&answer, json, "list", 2, &facts, &count, &error),
                     TWINLEASE_BAD_ANSWER); /* all or nothing */
    assert_non_null(strstr(error.message, "list[1]"));
    json_object_put(json);
}

/* ---- names ----------------------------------------------------------------------------------- */

static void codes_have_names(void **state)
{
    (void)state;
    assert_string_equal(twinlease_code_name(TWINLEASE_NO_SEAT), "no_seat");
    assert_string_equal(twinlease_code_name((enum twinlease_code)99), "error");
    assert_string_equal(twinlease_link_name(TWINLEASE_LINK_INSTANCE), "instance");
    assert_string_equal(twinlease_link_name(TWINLEASE_LINK_NONE), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(problems_become_codes),
        cmocka_unit_test(denials_have_figures),
        cmocka_unit_test(hostile_words_are_tamed),
        cmocka_unit_test(strangers),
        cmocka_unit_test(nothing_is_an_answer_too),
        cmocka_unit_test(origins),
        cmocka_unit_test(tickets),
        cmocka_unit_test(leases),
        cmocka_unit_test(lists_of_leases),
        cmocka_unit_test(codes_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
