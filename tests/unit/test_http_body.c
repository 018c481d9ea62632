#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "http/client_body.h"

#define A "\"0a0a0a0a-0a0a-4a0a-8a0a-0a0a0a0a0a0a\""
#define B "\"0b0b0b0b-0b0b-4b0b-8b0b-0b0b0b0b0b0b\""

static struct diag diag;
static struct json_object *body;

/* 'x' stands for "x", so that the cases below can be read. */
static struct json_object *json(const char *text)
{
    char *quoted = mem_strdup(text);

    for (char *p = quoted; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    json_object_put(body);
    body = NULL;
    assert_int_equal(json_parse(quoted, strlen(quoted), &body, &diag), ERR_OK);
    mem_free(quoted);
    return body;
}

/* ---- grant ---- */

static struct grant_item *items;
static size_t item_count;

static enum err grant(const char *text)
{
    mem_free(items);
    items = NULL;
    item_count = 0;
    diag.text[0] = '\0';
    enum err e = grant_body_read(json(text), &items, &item_count, &diag);
    if (e != ERR_OK)
        assert_null(items);
    return e;
}

static void refused(const char *text, enum err expected, const char *culprit)
{
    assert_int_equal(grant(text), expected);
    if (!strstr(diag.text, culprit))
        fail_msg("\"%s\" does not name %s", diag.text, culprit);
}

static void grants(void **state)
{
    (void)state;
    assert_int_equal(grant("{'lease_request_list':[{'feature':'render'},"
                           "{'scope_ref':" A ",'count':5,'duration_seconds':60,"
                           "'candidate_lease_ref':" B "}]}"),
                     ERR_OK);
    assert_int_equal(item_count, 2);
    assert_true(items[0].by_feature);
    assert_string_equal(items[0].feature, "render");
    assert_int_equal(items[0].count, 1);
    assert_int_equal(items[0].duration_ms, 0);
    assert_false(items[0].has_lease_ref);
    assert_false(uuid_is_nil(&items[0].lease_ref));
    assert_false(items[1].by_feature);
    assert_int_equal(items[1].scope_ref.bytes[0], 0x0a);
    assert_int_equal(items[1].count, 5);
    assert_int_equal(items[1].duration_ms, 60000);
    assert_true(items[1].has_lease_ref);
    assert_int_equal(items[1].lease_ref.bytes[0], 0x0b);
}

static void grants_by_scope(void **state)
{
    (void)state;
    assert_int_equal(grant("{'scope_ref_list':[" A "," B "," A "]}"), ERR_OK);
    assert_int_equal(item_count, 3);
    assert_int_equal(items[1].scope_ref.bytes[0], 0x0b);
    assert_int_equal(items[1].count, 1);
    assert_false(uuid_equal(&items[0].lease_ref, &items[2].lease_ref));
}

static void the_list(void **state)
{
    (void)state;
    refused("{}", ERR_MISSING_FIELD, "lease_request_list");
    refused("{'lease_request_list':[]}", ERR_BAD_FIELD, "lease_request_list");
    refused("{'scope_ref_list':[]}", ERR_BAD_FIELD, "scope_ref_list");
    refused("{'lease_request_list':{}}", ERR_BAD_FIELD, "lease_request_list");
    refused("{'lease_request_list':null}", ERR_MISSING_FIELD, "lease_request_list");
    refused("{'lease_request_list':[{'feature':'a'}],'scope_ref_list':[" A "]}", ERR_BAD_FIELD,
            "not both");
    refused("{'lease_request_list':[{'feature':'a'}],'count':1}", ERR_UNKNOWN_FIELD, "count");
    refused("{'lease_request_list':[1]}", ERR_BAD_FIELD, "lease_request_list[0]");
    refused("{'scope_ref_list':[" A ",5]}", ERR_BAD_FIELD, "scope_ref_list[1]");
    refused("{'scope_ref_list':['00000000-0000-0000-0000-000000000000']}", ERR_BAD_FIELD,
            "scope_ref_list[0]");
    refused("[]", ERR_BAD_FIELD, "object");
}

static void the_items(void **state)
{
    (void)state;
    refused("{'lease_request_list':[{}]}", ERR_MISSING_FIELD, "lease_request_list[0]");
    refused("{'lease_request_list':[{'feature':'a'},{'feature':'a','scope_ref':" A "}]}",
            ERR_BAD_FIELD, "lease_request_list[1]");
    refused("{'lease_request_list':[{'feature':'a','seats':1}]}", ERR_UNKNOWN_FIELD,
            "lease_request_list[0].seats");
    refused("{'lease_request_list':[{'feature':''}]}", ERR_BAD_FIELD, "feature");
    refused("{'lease_request_list':[{'feature':'a b'}]}", ERR_BAD_FIELD, "feature");
    refused("{'lease_request_list':[{'feature':7}]}", ERR_BAD_FIELD, "feature");
    refused("{'lease_request_list':[{'scope_ref':'x'}]}", ERR_BAD_FIELD, "scope_ref");
    refused("{'lease_request_list':[{'feature':'a','candidate_lease_ref':''}]}", ERR_BAD_FIELD,
            "candidate_lease_ref");
}

static void counts(void **state)
{
    (void)state;
    refused("{'lease_request_list':[{'feature':'a','count':0}]}", ERR_COUNT_RANGE, "count is 0");
    refused("{'lease_request_list':[{'feature':'a','count':-1}]}", ERR_COUNT_RANGE, "-1");
    refused("{'lease_request_list':[{'feature':'a','count':10000001}]}", ERR_COUNT_RANGE,
            "10000000");
    refused("{'lease_request_list':[{'feature':'a','count':1.0}]}", ERR_BAD_FIELD, "count");
    refused("{'lease_request_list':[{'feature':'a','count':'1'}]}", ERR_BAD_FIELD, "count");
    refused("{'lease_request_list':[{'feature':'a','count':99999999999999999999}]}", ERR_BAD_FIELD,
            "count");
    assert_int_equal(grant("{'lease_request_list':[{'feature':'a','count':10000000}]}"), ERR_OK);
}

static void durations(void **state)
{
    (void)state;
    refused("{'lease_request_list':[{'feature':'a','duration_seconds':0}]}", ERR_DURATION_RANGE,
            "duration_seconds is 0");
    refused("{'lease_request_list':[{'feature':'a','duration_seconds':7776001}]}",
            ERR_DURATION_RANGE, "7776000");
    assert_int_equal(grant("{'lease_request_list':[{'feature':'a','duration_seconds':7776000}]}"),
                     ERR_OK);
    assert_int_equal(items[0].duration_ms, 7776000000);
}

static void too_many_items(void **state)
{
    AUTO(buf_fini) struct buf text;

    (void)state;
    buf_init(&text, 10000);
    buf_text_append(&text, "{'scope_ref_list':[" A);
    for (size_t i = 1; i < LEASE_ITEMS_MAX; i++)
        buf_text_append(&text, "," B);
    buf_text_append(&text, "]}");
    assert_int_equal(grant(buf_text(&text)), ERR_OK);
    assert_int_equal(item_count, LEASE_ITEMS_MAX);
    text.length -= 2;
    buf_text_append(&text, "," A "]}");
    refused(buf_text(&text), ERR_TOO_MANY_ITEMS, "scope_ref_list");
}

/* ---- the others ---- */

static void enrolments(void **state)
{
    struct enrol_body read;

    (void)state;
    assert_int_equal(enrol_body_read(json("{}"), &read, &diag), ERR_OK);
    assert_false(read.has_origin_ref);
    assert_null(read.environment);
    assert_int_equal(enrol_body_read(json("{'candidate_origin_ref':" A ",'origin_secret':'s',"
                                          "'environment': { 'a' : [ 'b/c', {} ] } }"),
                                     &read, &diag),
                     ERR_OK);
    assert_true(read.has_origin_ref);
    assert_string_equal(read.origin_secret, "s");
    assert_string_equal(read.environment, "{\"a\":[\"b/c\",{}]}");
    mem_free(read.environment);
}

static void enrolment_refusals(void **state)
{
    struct enrol_body read;
    AUTO(buf_fini) struct buf text;

    (void)state;
    assert_int_equal(enrol_body_read(json("{'environment':[]}"), &read, &diag), ERR_BAD_FIELD);
    assert_int_equal(enrol_body_read(json("{'hostname':'a'}"), &read, &diag), ERR_UNKNOWN_FIELD);
    assert_int_equal(enrol_body_read(json("{'environment':{},'hostname':'a'}"), &read, &diag),
                     ERR_UNKNOWN_FIELD);
    assert_int_equal(enrol_body_read(json("{'origin_secret':'s'}"), &read, &diag),
                     ERR_MISSING_FIELD);
    buf_init(&text, 2 * ENVIRONMENT_MAX);
    buf_text_append(&text, "{'environment':{'a':'");
    for (size_t i = 0; i < ENVIRONMENT_MAX; i++)
        buf_append(&text, "x", 1);
    buf_text_append(&text, "'}}");
    assert_int_equal(enrol_body_read(json(buf_text(&text)), &read, &diag), ERR_BAD_FIELD);
    assert_non_null(strstr(diag.text, "16384"));
}

static void codes_and_tokens(void **state)
{
    struct code_body code;
    struct token_body token;
    const char *lease_token = "untouched";

    (void)state;
    assert_int_equal(code_body_read(json("{'origin_ref':" A ",'origin_secret':'s','code_challenge':"
                                         "'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM'}"),
                                    &code, &diag),
                     ERR_OK);
    assert_int_equal(code_body_read(json("{'origin_ref':" A ",'origin_secret':'s',"
                                         "'code_challenge':'short'}"),
                                    &code, &diag),
                     ERR_BAD_FIELD);
    assert_int_equal(
        code_body_read(json("{'origin_ref':" A ",'code_challenge':'x'}"), &code, &diag),
        ERR_MISSING_FIELD);
    assert_int_equal(token_body_read(json("{'auth_code':'a','code_verifier':'b'}"), &token, &diag),
                     ERR_OK);
    assert_int_equal(token_body_read(json("{'auth_code':'a'}"), &token, &diag), ERR_MISSING_FIELD);
    assert_int_equal(lease_token_body_read(json("{}"), &lease_token, &diag), ERR_OK);
    assert_null(lease_token);
    assert_int_equal(lease_token_body_read(json("{'lease_token':'t'}"), &lease_token, &diag),
                     ERR_OK);
    assert_string_equal(lease_token, "t");
    assert_int_equal(lease_token_body_read(json("{'token':'t'}"), &lease_token, &diag),
                     ERR_UNKNOWN_FIELD);
}

static int forget(void **state)
{
    (void)state;
    json_object_put(body);
    mem_free(items);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grants),
        cmocka_unit_test(grants_by_scope),
        cmocka_unit_test(the_list),
        cmocka_unit_test(the_items),
        cmocka_unit_test(counts),
        cmocka_unit_test(durations),
        cmocka_unit_test(too_many_items),
        cmocka_unit_test(enrolments),
        cmocka_unit_test(enrolment_refusals),
        cmocka_unit_test(codes_and_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, forget);
}
