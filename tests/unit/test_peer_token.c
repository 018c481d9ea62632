/* Peer tokens and the small documents: what was signed comes back, and no token serves for anything
 * else than what it was made for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "../data/keys.h"
#include "replication/wire.h"
#include "tamper.h"

#define NOW_MS INT64_C(1763716209123)
#define TARGET "/-/ha/changes?since=12&limit=5000&wait_ms=5000"
#define BODY   "{\"v\":1}"

static const struct uuid ref_a = { { 0xa } }, ref_b = { { 0xb } };
static const struct uuid node_1 = { { 1 } }, node_2 = { { 2 } }, node_3 = { { 3 } };
static struct instance *ours, *stranger, *renamed;

static struct key *parse_key(const char *pem)
{
    struct key *key = NULL;

    assert_int_equal(key_parse_private(pem, strlen(pem), &key, NULL), ERR_OK);
    return key;
}

static int make_instances(void **state)
{
    (void)state;
    ours = instance_new(&ref_a, parse_key(fixed_ec));
    stranger = instance_new(&ref_a, key_generate(KEY_EC_P256));
    renamed = instance_new(&ref_b, parse_key(fixed_ec));
    return 0;
}

static int free_instances(void **state)
{
    (void)state;
    ours = instance_free(ours);
    stranger = instance_free(stranger);
    renamed = instance_free(renamed);
    return 0;
}

static struct peer_claims some_claims(void)
{
    struct peer_claims claims = { .purpose = PEER_CHANGES,
                                  .answer = true,
                                  .instance_ref = ref_a,
                                  .sender = node_1,
                                  .receiver = node_2,
                                  .nonce = { 1, 2, 3 },
                                  .jti = { 4, 5, 6 },
                                  .expires_ms = NOW_MS / 1000 * 1000,
                                  .target = TARGET };

    sha256(BODY, sizeof BODY - 1, claims.body_sha256);
    return claims;
}

/* ---- signing and reading --------------------------------------------------------------------- */

static void every_claim_comes_back(void **state)
{
    (void)state;
    for (enum peer_purpose purpose = 0; purpose < PEER_PURPOSES; purpose++) {
        for (int answer = 0; answer < 2; answer++) {
            AUTO(buf_fini) struct buf text = { .max = JWS_MAX };
            struct peer_claims claims = some_claims(), again;
            claims.purpose = purpose;
            claims.answer = answer;
            claims.receiver = answer ? node_2 : (struct uuid){ { 0 } };
            assert_int_equal(peer_token_sign(ours, &claims, &text), ERR_OK);
            assert_in_range(text.length, 100, 1500); /* a header line that every server takes */
            assert_int_equal(peer_token_verify(ours, text.bytes, text.length, &again, NULL),
                             ERR_OK);
            assert_int_equal(again.purpose, purpose);
            assert_int_equal(again.answer, answer);
            assert_true(uuid_equal(&again.instance_ref, &ref_a));
            assert_true(uuid_equal(&again.sender, &claims.sender));
            assert_true(uuid_equal(&again.receiver, &claims.receiver));
            assert_memory_equal(again.nonce, claims.nonce, sizeof claims.nonce);
            assert_memory_equal(again.jti, claims.jti, sizeof claims.jti);
            assert_memory_equal(again.body_sha256, claims.body_sha256, 32);
            assert_int_equal(again.expires_ms, claims.expires_ms);
            assert_string_equal(again.target, TARGET);
        }
    }
}

static void targets_that_cannot_stand_in_a_token_are_not_signed(void **state)
{
    (void)state;
    static const char *const targets[] = { "",      "x",          "/a b",  "/a\"b",
                                           "/a\\b", "/a\r\nHost", "/\x7f", "/\xc3\xa4" };
    for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
        AUTO(buf_fini) struct buf text = { .max = JWS_MAX };
        struct peer_claims claims = some_claims();
        snprintf(claims.target, sizeof claims.target, "%s", targets[i]);
        assert_int_equal(peer_token_sign(ours, &claims, &text), ERR_INTERNAL);
        assert_int_equal(text.length, 0);
    }
}

static bool verifies(const char *text, size_t length, void *context)
{
    struct peer_claims claims;

    (void)context;
    return peer_token_verify(ours, text, length, &claims, NULL) == ERR_OK;
}

static void an_altered_token_never_verifies(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf text = { .max = JWS_MAX };
    struct peer_claims claims = some_claims();

    assert_int_equal(peer_token_sign(ours, &claims, &text), ERR_OK);
    assert_int_equal(tamper(text.bytes, text.length, verifies, NULL), 0);
}

static void tokens_of_others_do_not_verify(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf text = { .max = JWS_MAX };
    AUTO(buf_fini) struct buf other = { .max = JWS_MAX };
    AUTO(buf_fini) struct buf document = { .max = JWS_MAX };
    struct peer_claims claims = some_claims(), out;
    struct diag diag;

    assert_int_equal(peer_token_sign(stranger, &claims, &text), ERR_OK);
    assert_int_equal(peer_token_verify(ours, text.bytes, text.length, &out, &diag),
                     ERR_TOKEN_INVALID);
    assert_int_equal(peer_token_sign(renamed, &claims, &other), ERR_OK);
    assert_int_equal(peer_token_verify(ours, other.bytes, other.length, &out, &diag),
                     ERR_TOKEN_INSTANCE);
    assert_int_equal(instance_token_sign(ours, NOW_MS, &document), ERR_OK);
    assert_int_equal(peer_token_verify(ours, document.bytes, document.length, &out, &diag),
                     ERR_TOKEN_PURPOSE);
}

/* Well signed, and yet not a peer token. */
static void claims_are_checked(void **state)
{
    (void)state;
    static const char good[] =
        "{\"iss\":\"0a000000-0000-0000-0000-000000000000\",\"sub\":\"01000000-0000-0000-0000-"
        "000000000000\",\"purpose\":\"hello\",\"answer\":true,\"exp\":1763716209,\"nonce\":"
        "\"AAAAAAAAAAAAAAAAAAAAAA\",\"jti\":\"AAAAAAAAAAAAAAAAAAAAAA\",\"body\":"
        "\"47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU\",\"target\":\"/\"}";
    static const struct {
        const char *from, *to;
    } changes[] = {
        { "\"sub\"", "\"zub\"" },
        { "\"hello\"", "\"hallo\"" },
        { "true", "1" },
        { "1763716209", "1763716209.5" },
        { "1763716209", "-1" },
        { "\"jti\":\"A", "\"jti\":\"" },
        { "\"nonce\":\"A", "\"nonce\":\"AA" },
        { "\"body\":\"4", "\"body\":\"" },
        { "\"target\":\"/\"", "\"target\":\"\"" },
        { "\"target\":\"/\"", "\"target\":\"/ \"" },
        { "\"target\":\"/\"", "\"aud\":\"x\",\"target\":\"/\"" },
    };
    struct peer_claims out;

    for (size_t i = 0; i <= ARRAY_SIZE(changes); i++) {
        AUTO(buf_fini) struct buf payload = { .max = 2048 };
        AUTO(buf_fini) struct buf text = { .max = JWS_MAX };
        struct diag diag = { "" };
        if (i < ARRAY_SIZE(changes)) {
            const char *at = strstr(good, changes[i].from);
            assert_non_null(at);
            buf_format(&payload, "%.*s%s%s", (int)(at - good), good, changes[i].to,
                       at + strlen(changes[i].from));
        } else {
            buf_text_append(&payload, good);
        }
        assert_int_equal(
            jws_sign(instance_key(ours), TYP_PEER, payload.bytes, payload.length, &text), ERR_OK);
        enum err e = peer_token_verify(ours, text.bytes, text.length, &out, &diag);
        assert_int_equal(e, i < ARRAY_SIZE(changes) ? ERR_TOKEN_INVALID : ERR_OK);
    }
}

/* ---- judging --------------------------------------------------------------------------------- */

static const uint8_t nonce[PEER_NONCE_SIZE] = { 1, 2, 3 };
static const uint8_t other_nonce[PEER_NONCE_SIZE] = { 1, 2, 4 };

static struct peer_expected expectation(void)
{
    return (struct peer_expected){ .purpose = PEER_CHANGES,
                                   .answer = true,
                                   .receiver = node_2,
                                   .nonce = nonce,
                                   .target = TARGET,
                                   .body = BODY,
                                   .body_size = sizeof BODY - 1,
                                   .now_ms = NOW_MS - 1000 };
}

static void assert_judged(const struct peer_expected *expected, enum err wanted, const char *says)
{
    struct peer_claims claims = some_claims();
    struct diag diag = { "" };

    assert_int_equal(peer_claims_judge(&claims, expected, &diag), wanted);
    assert_non_null(strstr(diag.text, says));
}

static void a_token_serves_for_one_thing(void **state)
{
    (void)state;
    struct peer_expected right = expectation(), e;

    assert_judged(&right, ERR_OK, "");
    e = right, e.purpose = PEER_CREDITS;
    assert_judged(&e, ERR_TOKEN_PURPOSE, "an answer of \"changes\"");
    e = right, e.answer = false; /* our own request, sent back to us */
    assert_judged(&e, ERR_TOKEN_PURPOSE, "a request of \"changes\"");
    e = right, e.receiver = node_3;
    assert_judged(&e, ERR_TOKEN_INVALID, "another node");
    e = right, e.nonce = other_nonce; /* replayed */
    assert_judged(&e, ERR_TOKEN_INVALID, "not fresh");
    e = right, e.target = "/-/ha/changes?since=13&limit=5000&wait_ms=5000";
    assert_judged(&e, ERR_TOKEN_INVALID, "another target");
    e = right, e.body = "{\"v\":2}";
    assert_judged(&e, ERR_TOKEN_INVALID, "another body");
    e = right, e.body_size--;
    assert_judged(&e, ERR_TOKEN_INVALID, "another body");
    e = right, e.body = NULL, e.body_size = 0;
    assert_judged(&e, ERR_TOKEN_INVALID, "another body");
    e = right, e.now_ms = NOW_MS / 1000 * 1000;
    assert_judged(&e, ERR_TOKEN_EXPIRED, "expired");
    e = right, e.now_ms = -1;
    assert_judged(&e, ERR_OK, "");
}

/* Only who does not know yet with whom it speaks may leave the receiver out. */
static void requests_that_may_name_nobody(void **state)
{
    (void)state;
    for (enum peer_purpose purpose = 0; purpose < PEER_PURPOSES; purpose++) {
        for (int answer = 0; answer < 2; answer++) {
            struct peer_claims claims = some_claims();
            struct peer_expected e = expectation();
            struct diag diag;
            bool may = !answer && (purpose == PEER_HELLO || purpose == PEER_MEET);
            claims.receiver = (struct uuid){ { 0 } };
            claims.purpose = e.purpose = purpose;
            claims.answer = e.answer = answer;
            assert_int_equal(peer_claims_judge(&claims, &e, &diag),
                             may ? ERR_OK : ERR_TOKEN_INVALID);
        }
    }
}

/* ---- introductions --------------------------------------------------------------------------- */

static struct peer_hello some_hello(void)
{
    return (struct peer_hello){
        .protocol = 3,
        .protocol_min = 2,
        .primary = true,
        .wall_ms = NOW_MS,
        .nonce = { 9 },
        .process = { 8, 7 },
        .url = "https://[2001:db8::1]:8443",
        .introduction = { .node_ref = node_1,
                          .former = { node_2, node_3 },
                          .refilled = true,
                          .now_ms = NOW_MS + 1,
                          .seq = INT64_MAX,
                          .cursor = 5,
                          .watermark_ms = 1763716209000,
                          .longest_ms = 86400000,
                          .partner = ref_b },
    };
}

static const char golden[] =
    "{\"protocol\":3,\"protocol_min\":2,\"role\":\"PRIMARY\",\"wall_ms\":1763716209123,"
    "\"nonce\":\"CQAAAAAAAAAAAAAAAAAAAA\",\"process\":\"CAcAAAAAAAAAAAAAAAAAAA\","
    "\"url\":\"https://[2001:db8::1]:8443\",\"node_ref\":\"01000000-0000-0000-0000-000000000000\","
    "\"former\":[\"02000000-0000-0000-0000-000000000000\",\"03000000-0000-0000-0000-"
    "000000000000\"],\"refilled\":true,\"fresh\":false,\"now_ms\":1763716209124,"
    "\"seq\":9223372036854775807,\"cursor\":5,\"watermark_ms\":1763716209000,"
    "\"longest_ms\":86400000,"
    "\"partner\":\"0b000000-0000-0000-0000-000000000000\"}";

static void an_introduction_comes_back(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf text = { .max = PEER_SMALL_MAX };
    struct peer_hello hello = some_hello(), again;
    struct diag diag;

    peer_hello_encode(&hello, &text);
    assert_string_equal(text.bytes, golden);
    assert_int_equal(peer_hello_decode(golden, sizeof golden - 1, &again, &diag), ERR_OK);
    assert_true(again.protocol == 3 && again.protocol_min == 2 && again.primary);
    assert_true(again.wall_ms == NOW_MS);
    assert_memory_equal(again.nonce, hello.nonce, sizeof hello.nonce);
    assert_memory_equal(again.process, hello.process, sizeof hello.process);
    assert_string_equal(again.url, hello.url);
    const struct node_introduction *a = &hello.introduction, *b = &again.introduction;
    assert_memory_equal(&a->node_ref, &b->node_ref, sizeof a->node_ref);
    assert_memory_equal(a->former, b->former, sizeof a->former);
    assert_memory_equal(&a->partner, &b->partner, sizeof a->partner);
    assert_true(a->refilled == b->refilled && a->fresh == b->fresh && a->now_ms == b->now_ms);
    assert_true(a->seq == b->seq && a->cursor == b->cursor && a->watermark_ms == b->watermark_ms &&
                a->longest_ms == b->longest_ms);
}

static void nobody_is_left_out(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf text = { .max = PEER_SMALL_MAX };
    struct peer_hello hello = some_hello(), again;
    struct diag diag;

    hello.primary = false;
    hello.introduction = (struct node_introduction){ .node_ref = node_1, .fresh = true };
    peer_hello_encode(&hello, &text);
    assert_null(strstr(text.bytes, "partner"));
    assert_int_equal(peer_hello_decode(text.bytes, text.length, &again, &diag), ERR_OK);
    assert_true(uuid_is_nil(&again.introduction.partner) && again.introduction.fresh);
    assert_true(uuid_is_nil(&again.introduction.former[0]) && !again.primary);
}

/* The golden one with one thing changed. */
static enum err decode_changed(const char *from, const char *to, struct diag *diag)
{
    AUTO(buf_fini) struct buf text = { .max = PEER_SMALL_MAX };
    const char *at = strstr(golden, from);
    struct peer_hello out;

    assert_non_null(at);
    buf_format(&text, "%.*s%s%s", (int)(at - golden), golden, to, at + strlen(from));
    return peer_hello_decode(text.bytes, text.length, &out, diag);
}

static void introductions_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *says;
    } cases[] = {
        { "\"protocol\":3", "\"protocol\":0", "protocol" },
        { "\"protocol\":3", "\"protocol\":1", "protocol_min lies above protocol" },
        { "\"PRIMARY\"", "\"primary\"", "role" },
        { "\"CQ", "\"C", "nonce" },
        { "\"CAc", "\"CAcA", "process" },
        { "https://", "https://\\\"", "url" },
        { "https://", "<b>", "url" },
        { "https://", "\\u000a", "url" },
        { "\"01000000", "\"0100000", "node_ref" },
        { "\"02000000", "\"0200000", "former[0]" },
        { "\"03000000-0000-0000-0000-000000000000\"", "null", "former[1]" },
        { "\"former\":[",
          "\"former\":[\"02000000-0000-0000-0000-000000000000\",\"02000000-0000-0000-0000-"
          "000000000000\",\"02000000-0000-0000-0000-000000000000\",",
          "former" },
        { "\"cursor\":5", "\"cursor\":-5", "cursor" },
        { "\"cursor\":5,", "", "cursor" },
        { "1763716209000", "-1", "watermark_ms" },
        { "9223372036854775807", "9223372036854775808", "seq" },
        { "86400000", "7776000001", "longest_ms" },
        { "\"refilled\":true", "\"refilled\":null", "refilled" },
        { "\"fresh\":false", "\"fresh\":\"no\"", "fresh" },
    };
    struct diag diag;

    assert_int_equal(decode_changed("\"seq\"", "\"mood\":[{}],\"seq\"", &diag), ERR_OK);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        diag.text[0] = '\0';
        assert_int_not_equal(decode_changed(cases[i].from, cases[i].to, &diag), ERR_OK);
        if (!strstr(diag.text, cases[i].says))
            fail_msg("%s: %s", cases[i].to, diag.text);
    }
    for (size_t length = 0; length < sizeof golden - 1; length++) {
        struct peer_hello out;
        assert_int_not_equal(peer_hello_decode(golden, length, &out, &diag), ERR_OK);
    }
}

/* ---- credits and refusals -------------------------------------------------------------------- */

static void a_request_for_credits_comes_back(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf text = { .max = PEER_SMALL_MAX };
    struct peer_credits credits = { .scope_ref = node_3, .count = 17 }, again;
    struct diag diag;

    peer_credits_encode(&credits, &text);
    assert_string_equal(text.bytes,
                        "{\"scope_ref\":\"03000000-0000-0000-0000-000000000000\",\"count\":17}");
    assert_int_equal(peer_credits_decode(text.bytes, text.length, &again, &diag), ERR_OK);
    assert_true(uuid_equal(&again.scope_ref, &node_3) && again.count == 17);

    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "{\"scope_ref\":\"03000000-0000-0000-0000-000000000000\"}",
        "{\"scope_ref\":\"03000000-0000-0000-0000-000000000000\",\"count\":-1}",
        "{\"scope_ref\":\"03000000-0000-0000-0000-000000000000\",\"count\":10000001}",
        "{\"scope_ref\":\"03000000-0000-0000-0000-000000000000\",\"count\":1.5}",
        "{\"scope_ref\":3,\"count\":1}",
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_not_equal(peer_credits_decode(bad[i], strlen(bad[i]), &again, &diag), ERR_OK);
}

static enum err decode_problem(const char *text, struct peer_problem *out)
{
    struct diag diag;

    return peer_problem_decode(text, strlen(text), out, &diag);
}

static void refusals_are_read(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf text = { .max = PEER_SMALL_MAX };
    struct peer_problem problem;

    assert_int_equal(decode_problem("{\"type\":\"x\",\"status\":409,\"title\":\"T\",\"detail\":"
                                    "\"the \\u001bnode\",\"code\":\"peer_retired\",\"more\":1}",
                                    &problem),
                     ERR_OK);
    assert_int_equal(problem.err, ERR_PEER_RETIRED);
    assert_non_null(strstr(problem.detail.text, "node"));
    assert_null(strchr(problem.detail.text, '\033'));
    assert_false(problem.introduced);

    assert_int_equal(decode_problem("{\"title\":\"T\",\"code\":\"of_a_newer_release\"}", &problem),
                     ERR_OK);
    assert_int_equal(problem.err, ERR_INTERNAL);
    assert_string_equal(problem.detail.text, "T");

    buf_format(&text, "{\"code\":\"peer_unknown\",\"hello\":%s}", golden);
    assert_int_equal(decode_problem(text.bytes, &problem), ERR_OK);
    assert_true(problem.introduced);
    assert_int_equal(problem.hello.introduction.cursor, 5);

    assert_int_equal(decode_problem("{\"code\":\"ok\"}", &problem), ERR_OK);
    assert_int_equal(problem.err, ERR_INTERNAL); /* no refusal is OK */
    assert_int_not_equal(decode_problem("{\"title\":\"T\"}", &problem), ERR_OK);
    assert_int_not_equal(decode_problem("{\"code\":\"ok\",\"hello\":{}}", &problem), ERR_OK);
    assert_int_not_equal(decode_problem("<html>", &problem), ERR_OK);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_claim_comes_back),
        cmocka_unit_test(targets_that_cannot_stand_in_a_token_are_not_signed),
        cmocka_unit_test(an_altered_token_never_verifies),
        cmocka_unit_test(tokens_of_others_do_not_verify),
        cmocka_unit_test(claims_are_checked),
        cmocka_unit_test(a_token_serves_for_one_thing),
        cmocka_unit_test(requests_that_may_name_nobody),
        cmocka_unit_test(an_introduction_comes_back),
        cmocka_unit_test(nobody_is_left_out),
        cmocka_unit_test(introductions_are_checked),
        cmocka_unit_test(a_request_for_credits_comes_back),
        cmocka_unit_test(refusals_are_read),
    };
    return cmocka_run_group_tests_name("peer token", tests, make_instances, free_instances);
}
