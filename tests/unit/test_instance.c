/* The instance's own tokens: secrets of origins, auth codes and tokens, leases, documents,
 * sessions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>

#include "../data/keys.h"
#include "base/entitlement.h"
#include "tamper.h"
#include "token/instance_internal.h"
#include "token/publisher.h"

#define NOW_MS INT64_C(1763716209123) /* 2025-11-21T09:10:09.123Z */

static const struct uuid ref_a = { { 0xa } }, ref_b = { { 0xb } };
static const struct uuid origin = { { 1 } }, lease_ref = { { 2 } }, scope_ref = { { 3 } };
static const struct uuid node_1 = { { 4 } }, node_2 = { { 5 } };

static struct key *parse_key(const char *pem)
{
    struct key *key = NULL;

    assert_int_equal(key_parse_private(pem, strlen(pem), &key, NULL), ERR_OK);
    return key;
}

/* One instance a type of key; `again` is the second node of the first; `stranger` has its reference
 * and another key; `renamed` has its key and another reference. */
static struct instance *instances[KEY_TYPES], *again, *stranger, *renamed;

static int make_instances(void **state)
{
    (void)state;
    instances[KEY_EC_P256] = instance_new(&ref_a, parse_key(fixed_ec));
    instances[KEY_RSA] = instance_new(&ref_a, parse_key(fixed_rsa));
    instances[KEY_ED25519] = instance_new(&ref_a, parse_key(fixed_ed25519));
    again = instance_new(&ref_a, parse_key(fixed_ec_traditional));
    stranger = instance_new(&ref_a, key_generate(KEY_EC_P256));
    renamed = instance_new(&ref_b, parse_key(fixed_ec));
    return 0;
}

static int free_instances(void **state)
{
    (void)state;
    for (size_t i = 0; i < KEY_TYPES; i++)
        instances[i] = instance_free(instances[i]);
    again = instance_free(again);
    stranger = instance_free(stranger);
    renamed = instance_free(renamed);
    return 0;
}

static const struct instance *ours(void)
{
    return instances[KEY_EC_P256];
}

static void jwks_has_the_public_key(void **state)
{
    (void)state;
    AUTO(json_object_put) struct json_object *set = NULL;
    AUTO(key_free) struct key *key = NULL;
    struct json_object *keys;
    const char *text = instance_jwks(ours());
    struct diag diag;

    assert_int_equal(json_parse(text, strlen(text), &set, &diag), ERR_OK);
    assert_true(json_object_object_get_ex(set, "keys", &keys));
    assert_int_equal(json_object_array_length(keys), 1);
    assert_int_equal(key_from_jwk(json_object_array_get_idx(keys, 0), &key, &diag), ERR_OK);
    assert_true(key_same(key, instance_key(ours())));
    assert_true(uuid_equal(instance_ref(ours()), &ref_a));
}

/* ---- origin secrets
 * ------------------------------------------------------------------------------- */

static void secrets_are_the_same_on_both_nodes(void **state)
{
    (void)state;
    char secret[ORIGIN_SECRET_SIZE], other[ORIGIN_SECRET_SIZE];
    uint32_t generation = 99;

    origin_secret_make(ours(), &origin, 7, secret);
    origin_secret_make(again, &origin, 7, other);
    assert_string_equal(secret, other);
    assert_memory_equal(secret, "7.", 2);
    assert_int_equal(strlen(secret), 2 + 43);
    assert_int_equal(origin_secret_check(again, &origin, secret, &generation), ERR_OK);
    assert_int_equal(generation, 7);
    origin_secret_make(ours(), &origin, UINT32_MAX, secret);
    assert_int_equal(origin_secret_check(ours(), &origin, secret, &generation), ERR_OK);
    assert_int_equal(generation, UINT32_MAX);
}

static void secrets_are_of_one_origin_and_generation(void **state)
{
    (void)state;
    char secret[ORIGIN_SECRET_SIZE], forged[ORIGIN_SECRET_SIZE + 16];
    uint32_t generation = 99;

    origin_secret_make(ours(), &origin, 1, secret);
    assert_int_equal(origin_secret_check(ours(), &lease_ref, secret, &generation),
                     ERR_SECRET_INVALID);
    assert_int_equal(origin_secret_check(stranger, &origin, secret, &generation),
                     ERR_SECRET_INVALID);
    static const char *const prefixes[] = { "2", "01", "+1", "1 ", "", "-1", "4294967297", "11" };
    for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++) {
        snprintf(forged, sizeof forged, "%s%s", prefixes[i], secret + 1);
        assert_int_equal(origin_secret_check(ours(), &origin, forged, &generation),
                         ERR_SECRET_INVALID);
    }
    snprintf(forged, sizeof forged, "%sA", secret);
    assert_int_equal(origin_secret_check(ours(), &origin, forged, &generation), ERR_SECRET_INVALID);
    assert_int_equal(origin_secret_check(ours(), &origin, "", &generation), ERR_SECRET_INVALID);
    assert_int_equal(origin_secret_check(ours(), &origin, "1", &generation), ERR_SECRET_INVALID);
    assert_int_equal(generation, 99);
}

static bool secret_passes(const char *text, size_t length, void *context)
{
    AUTO(mem_free) char *secret = mem_memdup(text, length);
    uint32_t generation;

    (void)context;
    return strlen(secret) == length &&
           origin_secret_check(ours(), &origin, secret, &generation) == ERR_OK;
}

static void a_changed_byte_spoils_a_secret(void **state)
{
    (void)state;
    char secret[ORIGIN_SECRET_SIZE];

    origin_secret_make(ours(), &origin, 3, secret);
    assert_true(secret_passes(secret, strlen(secret), NULL));
    assert_int_equal(tamper(secret, strlen(secret), secret_passes, NULL), 0);
}

/* ---- auth tokens --------------------------------------------------------------------------------
 */

static const struct auth_claims auth = {
    .origin_ref = { { 1 } },
    .generation = 4,
    .issued_ms = NOW_MS / 1000 * 1000,
    .expires_ms = NOW_MS / 1000 * 1000 + 86400000,
};

static enum err check_auth(const struct instance *instance, const struct buf *text, int64_t now_ms)
{
    struct auth_claims claims;
    struct diag diag = { "" };
    enum err e = auth_token_check(instance, buf_text(text), text->length, now_ms, &claims, &diag);

    assert_true(e == ERR_OK || diag.text[0]);
    return e;
}

static void auth_token_round_trips(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf text;
    struct auth_claims claims;
    struct diag diag;

    buf_init(&text, JWS_MAX);
    auth_token_make(ours(), &auth, &text);
    assert_int_equal(auth_token_check(again, text.bytes, text.length, NOW_MS, &claims, &diag),
                     ERR_OK);
    assert_true(uuid_equal(&claims.origin_ref, &origin));
    assert_int_equal(claims.generation, 4);
    assert_int_equal(claims.issued_ms, auth.issued_ms);
    assert_int_equal(claims.expires_ms, auth.expires_ms);
    assert_int_equal(check_auth(ours(), &text, auth.expires_ms - 1), ERR_OK);
    assert_int_equal(check_auth(ours(), &text, auth.expires_ms), ERR_TOKEN_EXPIRED);
    assert_int_equal(check_auth(stranger, &text, NOW_MS), ERR_TOKEN_INVALID);
    assert_int_equal(check_auth(renamed, &text, NOW_MS), ERR_TOKEN_INSTANCE);
    assert_int_equal(check_auth(instances[KEY_RSA], &text, NOW_MS), ERR_TOKEN_INVALID);
}

static bool auth_passes(const char *text, size_t length, void *context)
{
    struct auth_claims claims;

    (void)context;
    return auth_token_check(ours(), text, length, NOW_MS, &claims, NULL) == ERR_OK;
}

static void a_changed_byte_spoils_an_auth_token(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf text;

    buf_init(&text, JWS_MAX);
    auth_token_make(ours(), &auth, &text);
    assert_true(auth_passes(text.bytes, text.length, NULL));
    assert_int_equal(tamper(text.bytes, text.length, auth_passes, NULL), 0);
}

/* A stranger's token that says so is told apart from a forged one. */
static void another_instances_token_is_named(void **state)
{
    (void)state;
    struct instance *other = instance_new(&ref_b, key_generate(KEY_ED25519));
    AUTO(buf_fini) struct buf text;

    buf_init(&text, JWS_MAX);
    auth_token_make(other, &auth, &text);
    assert_int_equal(check_auth(ours(), &text, NOW_MS), ERR_TOKEN_INSTANCE);
    instance_free(other);
}

/* ---- auth codes ---------------------------------------------------------------------------------
 */

/* RFC 7636 appendix B */
#define VERIFIER  "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
#define CHALLENGE "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"

static void pkce_is_that_of_the_rfc(void **state)
{
    (void)state;
    char challenge[CODE_CHALLENGE_LENGTH + 1], text[130];

    assert_true(pkce_challenge(VERIFIER, challenge));
    assert_string_equal(challenge, CHALLENGE);
    memset(text, '~', sizeof text);
    text[129] = '\0';
    assert_false(pkce_challenge(text, challenge));
    text[128] = '\0';
    assert_true(pkce_challenge(text, challenge));
    text[43] = '\0';
    assert_true(pkce_challenge(text, challenge));
    text[20] = '+';
    assert_false(pkce_challenge(text, challenge));
    text[20] = '.';
    text[42] = '\0';
    assert_false(pkce_challenge(text, challenge));
    assert_false(pkce_challenge("", challenge));
}

static void make_code(const struct instance *instance, struct auth_codes *codes, int64_t now_ms,
                      struct buf *out)
{
    struct diag diag;

    buf_init(out, JWS_MAX);
    assert_int_equal(auth_code_make(instance, codes, &auth, CHALLENGE, now_ms, out, &diag), ERR_OK);
}

static enum err redeem(struct auth_codes *codes, const struct buf *code, const char *verifier,
                       int64_t now_ms)
{
    struct auth_claims claims = { 0 };
    struct diag diag = { "" };
    enum err e = auth_code_redeem(ours(), codes, code->bytes, code->length, verifier, now_ms,
                                  &claims, &diag);

    if (e == ERR_OK) {
        assert_true(uuid_equal(&claims.origin_ref, &origin));
        assert_int_equal(claims.generation, 4);
    } else {
        assert_true(diag.text[0]);
        assert_true(uuid_is_nil(&claims.origin_ref));
    }
    return e;
}

static void a_code_is_good_once(void **state)
{
    (void)state;
    struct auth_codes *codes = auth_codes_new();
    AUTO(buf_fini) struct buf code, second;

    make_code(ours(), codes, NOW_MS, &code);
    make_code(ours(), codes, NOW_MS, &second);
    assert_int_equal(redeem(codes, &code, VERIFIER, NOW_MS + 59999), ERR_OK);
    assert_int_equal(redeem(codes, &code, VERIFIER, NOW_MS + 59999), ERR_CODE_INVALID);
    assert_int_equal(redeem(codes, &second, VERIFIER, NOW_MS + 60000), ERR_CODE_INVALID);
    auth_codes_free(codes);
}

static void a_wrong_verifier_burns_the_code(void **state)
{
    (void)state;
    struct auth_codes *codes = auth_codes_new();
    AUTO(buf_fini) struct buf code, second;

    make_code(ours(), codes, NOW_MS, &code);
    assert_int_equal(redeem(codes, &code, "x" VERIFIER, NOW_MS), ERR_VERIFIER_INVALID);
    assert_int_equal(redeem(codes, &code, VERIFIER, NOW_MS), ERR_CODE_INVALID);
    make_code(ours(), codes, NOW_MS, &second);
    assert_int_equal(redeem(codes, &second, "", NOW_MS), ERR_VERIFIER_INVALID);
    auth_codes_free(codes);
    buf_fini(&code);
}

static void codes_are_of_one_process_and_purpose(void **state)
{
    (void)state;
    struct auth_codes *codes = auth_codes_new(), *others = auth_codes_new();
    AUTO(buf_fini) struct buf code, foreign, token, none;
    struct diag diag;

    make_code(ours(), codes, NOW_MS, &code);
    make_code(stranger, codes, NOW_MS, &foreign);
    assert_int_equal(redeem(others, &code, VERIFIER, NOW_MS), ERR_CODE_INVALID);
    assert_int_equal(redeem(codes, &foreign, VERIFIER, NOW_MS), ERR_CODE_INVALID);
    buf_init(&token, JWS_MAX);
    auth_token_make(ours(), &auth, &token);
    assert_int_equal(redeem(codes, &token, VERIFIER, NOW_MS), ERR_CODE_INVALID);
    assert_int_equal(check_auth(ours(), &code, NOW_MS), ERR_TOKEN_INVALID);
    code.bytes[code.length - 3] ^= 1;
    assert_int_equal(redeem(codes, &code, VERIFIER, NOW_MS), ERR_CODE_INVALID);
    static const char *const challenges[] = { "", "short", CHALLENGE "A", VERIFIER "=" };
    buf_init(&none, JWS_MAX);
    for (size_t i = 0; i < ARRAY_SIZE(challenges); i++)
        assert_int_equal(auth_code_make(ours(), codes, &auth, challenges[i], NOW_MS, &none, &diag),
                         ERR_BAD_FIELD);
    assert_int_equal(none.length, 0);
    auth_codes_free(codes);
    auth_codes_free(others);
}

/* A clock that is set back must not bring a used code back to life. */
static void time_does_not_go_back(void **state)
{
    (void)state;
    struct auth_codes *codes = auth_codes_new();
    AUTO(buf_fini) struct buf code, later;

    make_code(ours(), codes, NOW_MS, &code);
    assert_int_equal(redeem(codes, &code, VERIFIER, NOW_MS), ERR_OK);
    make_code(ours(), codes, NOW_MS + 120000, &later); /* by now the first is forgotten */
    assert_int_equal(redeem(codes, &code, VERIFIER, NOW_MS), ERR_CODE_INVALID);
    auth_codes_free(codes);
}

static void a_full_table_says_so(void **state)
{
    (void)state;
    struct auth_codes *codes = auth_codes_new();
    AUTO(buf_fini) struct buf last, code;
    struct diag diag;

    make_code(ours(), codes, NOW_MS, &last);
    for (size_t i = 0; i < AUTH_CODES_MAX; i++) {
        AUTO(buf_fini) struct buf one;
        make_code(ours(), codes, NOW_MS, &one);
        assert_int_equal(redeem(codes, &one, VERIFIER, NOW_MS), ERR_OK);
    }
    buf_init(&code, JWS_MAX);
    assert_int_equal(auth_code_make(ours(), codes, &auth, CHALLENGE, NOW_MS + 59999, &code, &diag),
                     ERR_OVERLOADED);
    assert_int_equal(redeem(codes, &last, VERIFIER, NOW_MS + 59999), ERR_OVERLOADED);
    assert_int_equal(auth_code_make(ours(), codes, &auth, CHALLENGE, NOW_MS + 60000, &code, &diag),
                     ERR_OK);
    assert_int_equal(redeem(codes, &code, VERIFIER, NOW_MS + 60000), ERR_OK);
    assert_int_equal(redeem(codes, &code, VERIFIER, NOW_MS + 60001), ERR_CODE_INVALID);
    auth_codes_free(codes);
}

#define THREADS 8
#define CODES   200

struct race {
    struct auth_codes *codes;
    struct buf code[CODES];
    pthread_barrier_t start;
};

/* Returns how many redemptions this thread won. */
static void *race_for_codes(void *argument)
{
    struct race *race = argument;
    size_t won = 0;

    for (size_t i = 0; i < CODES; i++) {
        struct auth_claims claims;
        pthread_barrier_wait(&race->start);
        enum err e = auth_code_redeem(ours(), race->codes, race->code[i].bytes,
                                      race->code[i].length, VERIFIER, NOW_MS, &claims, NULL);
        won += e == ERR_OK;
    }
    return (void *)won; /* NOLINT: a number in a pointer */
}

static void exactly_one_redemption_wins(void **state)
{
    (void)state;
    static struct race race;
    pthread_t threads[THREADS];
    size_t total = 0;

    race.codes = auth_codes_new();
    for (size_t i = 0; i < CODES; i++)
        make_code(ours(), race.codes, NOW_MS, &race.code[i]);
    assert_int_equal(pthread_barrier_init(&race.start, NULL, THREADS), 0);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, race_for_codes, &race), 0);
    for (size_t i = 0; i < THREADS; i++) {
        void *won;
        assert_int_equal(pthread_join(threads[i], &won), 0);
        total += (size_t)won;
    }
    assert_int_equal(total, CODES);
    pthread_barrier_destroy(&race.start);
    for (size_t i = 0; i < CODES; i++)
        buf_fini(&race.code[i]);
    auth_codes_free(race.codes);
}

/* ---- lease tokens -------------------------------------------------------------------------------
 */

static const struct lease_claims lease = {
    .origin_ref = { { 1 } },
    .lease_ref = { { 2 } },
    .scope_ref = { { 3 } },
    .home = { { 4 } },
    .feature = "render-4.x_Pro",
    .count = 12,
    .issued_ms = NOW_MS,
    .created_ms = NOW_MS - 5000,
    .duration_ms = 3600500,
    .expires_ms = NOW_MS + 3600500,
    .generation = 3,
    .adopt = true,
    .peer = { { 6 } },
    .entitlement_sha256 = { 0xff, 0x01, [31] = 0x80 },
};
static const struct commit_receipt receipt = { .node_ref = { { 5 } }, .seq = 1234567890123 };

static void sign_lease(const struct instance *instance, struct buf *out)
{
    buf_init(out, JWS_MAX);
    assert_int_equal(lease_token_sign(instance, &lease, &receipt, out), ERR_OK);
}

static void check_lease(const struct lease_claims *c)
{
    assert_true(uuid_equal(&c->instance_ref, &ref_a));
    assert_true(uuid_equal(&c->origin_ref, &origin));
    assert_true(uuid_equal(&c->lease_ref, &lease_ref));
    assert_true(uuid_equal(&c->scope_ref, &scope_ref));
    assert_true(uuid_equal(&c->home, &node_1));
    assert_true(uuid_equal(&c->node, &node_2));
    assert_string_equal(c->feature, "render-4.x_Pro");
    assert_int_equal(c->count, 12);
    assert_int_equal(c->issued_ms, NOW_MS / 1000 * 1000);
    assert_int_equal(c->created_ms, NOW_MS - 5000);
    assert_int_equal(c->duration_ms, 3600500);
    assert_int_equal(c->expires_ms, NOW_MS + 3600500);
    assert_int_equal(c->generation, 3);
    assert_true(c->adopt);
    assert_true(uuid_equal(&c->peer, &lease.peer));
    assert_int_equal(c->seq, 1234567890123);
    assert_memory_equal(c->entitlement_sha256, lease.entitlement_sha256, 32);
}

static void lease_tokens_round_trip(void **state)
{
    (void)state;
    for (size_t i = 0; i < KEY_TYPES; i++) {
        AUTO(buf_fini) struct buf text;
        struct lease_claims claims;
        struct diag diag = { "" };
        const struct key *key = instance_key(instances[i]);
        sign_lease(instances[i], &text);
        assert_int_equal(lease_token_verify(instances[i], text.bytes, text.length, &claims, &diag),
                         ERR_OK);
        check_lease(&claims);
        assert_int_equal(lease_token_verify_with(&key, 1, text.bytes, text.length, &claims, &diag),
                         ERR_OK);
        check_lease(&claims);
    }
}

/* What other libraries read: whole seconds, rounded down, and the member names of the contract. */
static void lease_tokens_have_the_contracts_claims(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf text;
    AUTO(jws_fini) struct jws jws = { 0 };

    sign_lease(ours(), &text);
    assert_int_equal(jws_parse(text.bytes, text.length, &jws, NULL), ERR_OK);
    assert_string_equal(
        json_object_to_json_string_ext(jws.payload, JSON_C_TO_STRING_PLAIN),
        "{\"iss\":\"0a000000-0000-0000-0000-000000000000\","
        "\"sub\":\"01000000-0000-0000-0000-000000000000\","
        "\"jti\":\"02000000-0000-0000-0000-000000000000\","
        "\"scope_ref\":\"03000000-0000-0000-0000-000000000000\",\"feature\":\"render-4.x_Pro\","
        "\"count\":12,\"gen\":3,\"iat\":1763716209,\"nbf\":1763716209,\"exp\":1763719809,"
        "\"home\":\"04000000-0000-0000-0000-000000000000\",\"adopt\":true,"
        "\"peer\":\"06000000-0000-0000-0000-000000000000\","
        "\"node\":\"05000000-0000-0000-0000-000000000000\",\"seq\":1234567890123,"
        "\"ent\":\"_wEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAIA\",\"expires_ms\":1763719809623,"
        "\"created_ms\":1763716204123,\"duration_ms\":3600500}");
}

static void foreign_lease_tokens_are_refused(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf text, foreign;
    struct lease_claims claims;
    struct diag diag = { "" };
    const struct key *key = instance_key(stranger);

    sign_lease(ours(), &text);
    assert_int_equal(lease_token_verify(stranger, text.bytes, text.length, &claims, &diag),
                     ERR_TOKEN_INVALID);
    assert_int_equal(lease_token_verify(renamed, text.bytes, text.length, &claims, &diag),
                     ERR_TOKEN_INSTANCE);
    assert_int_equal(lease_token_verify_with(&key, 1, text.bytes, text.length, &claims, &diag),
                     ERR_TOKEN_INVALID);
    struct instance *other = instance_new(&ref_b, key_generate(KEY_EC_P256));
    sign_lease(other, &foreign);
    assert_int_equal(lease_token_verify(ours(), foreign.bytes, foreign.length, &claims, &diag),
                     ERR_TOKEN_INSTANCE);
    instance_free(other);
}

static bool lease_passes(const char *text, size_t length, void *context)
{
    struct lease_claims claims;

    return lease_token_verify(context, text, length, &claims, NULL) == ERR_OK;
}

static void a_changed_byte_spoils_a_lease_token(void **state)
{
    (void)state;
    for (size_t i = 0; i < KEY_TYPES; i++) {
        AUTO(buf_fini) struct buf text;
        sign_lease(instances[i], &text);
        assert_true(lease_passes(text.bytes, text.length, instances[i]));
        assert_int_equal(tamper(text.bytes, text.length, lease_passes, instances[i]), 0);
    }
}

/* Signs the lease's claims with one of them put otherwise. */
static enum err verify_altered(const char *name, const char *value)
{
    AUTO(buf_fini) struct buf text, altered;
    AUTO(jws_fini) struct jws jws = { 0 };
    struct json_object *member = NULL;
    struct lease_claims claims;
    struct diag diag = { "" };

    sign_lease(ours(), &text);
    assert_int_equal(jws_parse(text.bytes, text.length, &jws, NULL), ERR_OK);
    if (value)
        assert_int_equal(json_parse(value, strlen(value), &member, NULL), ERR_OK);
    json_object_object_del(jws.payload, name);
    if (value)
        json_object_object_add(jws.payload, name, member);
    const char *payload = json_object_to_json_string(jws.payload);
    buf_init(&altered, JWS_MAX);
    assert_int_equal(jws_sign(instance_key(ours()), TYP_LEASE, payload, strlen(payload), &altered),
                     ERR_OK);
    enum err e = lease_token_verify(ours(), altered.bytes, altered.length, &claims, &diag);
    if (e != ERR_OK && !strstr(diag.text, name))
        fail_msg("\"%s\" does not name %s", diag.text, name);
    return e;
}

/* Even well signed: a version of ours with a fault must not spread it. */
static void lease_claims_are_checked(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {
        { "iss", NULL },          { "sub", "7" },           { "jti", "\"x\"" },
        { "scope_ref", NULL },    { "home", NULL },         { "node", "null" },
        { "seq", "-1" },          { "seq", "1.5" },         { "count", "0" },
        { "count", "10000001" },  { "count", "\"1\"" },     { "adopt", "1" },
        { "gen", "-1" },          { "gen", NULL },          { "gen", "4294967296" },
        { "peer", "7" },          { "peer", NULL },         { "adopt", "false" },
        { "adopt", NULL },        { "ent", "\"AAAA\"" },    { "ent", NULL },
        { "feature", "\"a b\"" }, { "feature", "\"\"" },    { "exp", "1763719808" },
        { "exp", NULL },          { "iat", "1e9" },         { "expires_ms", "1763719810000" },
        { "duration_ms", "0" },   { "created_ms", "true" }, { "duration_ms", "7776000001" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        assert_int_equal(verify_altered(wrong[i][0], wrong[i][1]), ERR_TOKEN_INVALID);
    assert_int_equal(verify_altered("later", "{\"a\":[]}"), ERR_OK);
}

static void lease_tokens_need_a_name_that_needs_no_escape(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf text;
    struct lease_claims claims = lease;

    buf_init(&text, JWS_MAX);
    snprintf(claims.feature, sizeof claims.feature, "a\",\"count\":9");
    assert_int_equal(lease_token_sign(ours(), &claims, &receipt, &text), ERR_INTERNAL);
    assert_int_equal(text.length, 0);
    memset(claims.feature, 'f', FEATURE_NAME_MAX);
    claims.feature[FEATURE_NAME_MAX] = '\0';
    claims.adopt = false; /* R3: nobody may adopt it, so it names nobody */
    claims.peer = (struct uuid){ { 0 } };
    assert_int_equal(lease_token_sign(ours(), &claims, &receipt, &text), ERR_OK);
    assert_int_equal(lease_token_verify(ours(), text.bytes, text.length, &claims, NULL), ERR_OK);
    assert_false(claims.adopt);
}

/* ---- documents ----------------------------------------------------------------------------------
 */

#define CA "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"

static void sign_client_token(const struct instance *instance, struct buf *out)
{
    static const char *const urls[] = { "https://one.example:8443", "https://two.example:8444" };
    static const struct client_token_scope scopes[] = { { { { 3 } }, "render" },
                                                        { { { 6 } }, "simulate" } };
    const struct client_token token = {
        .instance_ref = ref_a,
        .token_ref = { { 7 } },
        .site_key_xid = { { 8 } },
        .allotment_ref = { { 9 } },
        .node_urls = urls,
        .node_url_count = 2,
        .scopes = scopes,
        .scope_count = 2,
        .ca_pem = CA,
        .issued_ms = NOW_MS,
        .expires_ms = NOW_MS + 86400000,
    };

    buf_init(out, JWS_MAX);
    assert_int_equal(client_token_sign(instance, &token, out), ERR_OK);
}

static enum err check_client_token(const struct instance *instance, const struct buf *text,
                                   int64_t now_ms)
{
    struct uuid token_ref = { { 0 } };
    struct diag diag = { "" };
    enum err e =
        client_token_check(instance, buf_text(text), text->length, now_ms, &token_ref, &diag);

    assert_int_equal(token_ref.bytes[0], e == ERR_OK ? 7 : 0);
    return e;
}

static void client_tokens_round_trip(void **state)
{
    (void)state;
    for (size_t i = 0; i < KEY_TYPES; i++) {
        AUTO(buf_fini) struct buf text;
        sign_client_token(instances[i], &text);
        assert_int_equal(check_client_token(instances[i], &text, NOW_MS), ERR_OK);
        assert_int_equal(check_client_token(instances[i], &text, NOW_MS - 200000), ERR_OK);
        assert_int_equal(check_client_token(instances[i], &text, NOW_MS + 86400000),
                         ERR_TOKEN_EXPIRED);
        assert_int_equal(check_client_token(stranger, &text, NOW_MS), ERR_TOKEN_INVALID);
    }
    AUTO(buf_fini) struct buf text;
    sign_client_token(ours(), &text);
    assert_int_equal(check_client_token(renamed, &text, NOW_MS), ERR_TOKEN_INSTANCE);
}

static const char *item(struct json_object *payload, const char *list, size_t index)
{
    struct json_object *array;

    assert_true(json_object_object_get_ex(payload, list, &array));
    assert_int_equal(json_object_array_length(array), 2);
    return json_object_get_string(json_object_array_get_idx(array, index));
}

static void client_tokens_say_all_a_client_needs(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf text;
    AUTO(jws_fini) struct jws jws = { 0 };
    struct json_object *member;
    const struct key *key = instance_key(ours());

    sign_client_token(ours(), &text);
    assert_int_equal(jws_verify(&key, 1, TYP_CLIENT, text.bytes, text.length, &jws, NULL), ERR_OK);
    assert_string_equal(item(jws.payload, "node_url_list", 0), "https://one.example:8443");
    assert_string_equal(item(jws.payload, "node_url_list", 1), "https://two.example:8444");
    assert_string_equal(item(jws.payload, "scope_ref_list", 1),
                        "06000000-0000-0000-0000-000000000000");
    assert_string_equal(item(jws.payload, "feature_list", 1), "simulate");
    assert_true(json_object_object_get_ex(jws.payload, "ca_certificate", &member));
    assert_string_equal(json_object_get_string(member), CA);
    assert_true(json_object_object_get_ex(jws.payload, "jwks", &member));
    assert_string_equal(json_object_to_json_string_ext(member, JSON_C_TO_STRING_PLAIN |
                                                                   JSON_C_TO_STRING_NOSLASHESCAPE),
                        instance_jwks(ours()));
    assert_true(json_object_object_get_ex(jws.payload, "nbf", &member));
    assert_int_equal(json_object_get_int64(member), NOW_MS / 1000);
    assert_true(json_object_object_get_ex(jws.payload, "site_key_xid", &member));
    assert_true(json_object_object_get_ex(jws.payload, "allotment_ref", &member));
}

static bool client_passes(const char *text, size_t length, void *context)
{
    struct uuid token_ref;

    return client_token_check(context, text, length, NOW_MS, &token_ref, NULL) == ERR_OK;
}

static void a_changed_byte_spoils_a_client_token(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf text;

    sign_client_token(ours(), &text);
    assert_true(client_passes(text.bytes, text.length, instances[KEY_EC_P256]));
    assert_int_equal(tamper(text.bytes, text.length, client_passes, instances[KEY_EC_P256]), 0);
}

static void instance_tokens_bring_the_key(void **state)
{
    (void)state;
    for (size_t i = 0; i < KEY_TYPES; i++) {
        AUTO(buf_fini) struct buf text;
        AUTO(key_free) struct key *key = NULL;
        struct diag diag = { "" };
        struct uuid ref;
        buf_init(&text, JWS_MAX);
        assert_int_equal(instance_token_sign(instances[i], NOW_MS, &text), ERR_OK);
        assert_int_equal(instance_token_read(text.bytes, text.length, &ref, &key, &diag), ERR_OK);
        assert_true(uuid_equal(&ref, &ref_a));
        assert_true(key_same(key, instance_key(instances[i])));
        assert_false(key_is_private(key));
    }
}

static bool instance_token_passes(const char *text, size_t length, void *context)
{
    AUTO(key_free) struct key *key = NULL;
    struct uuid ref;

    (void)context;
    return instance_token_read(text, length, &ref, &key, NULL) == ERR_OK;
}

static void instance_tokens_prove_possession(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf text, lifted, client;
    AUTO(jws_fini) struct jws jws = { 0 };
    AUTO(key_free) struct key *key = NULL;
    struct diag diag = { "" };
    struct uuid ref;

    buf_init(&text, JWS_MAX);
    assert_int_equal(instance_token_sign(ours(), NOW_MS, &text), ERR_OK);
    assert_int_equal(tamper(text.bytes, text.length, instance_token_passes, NULL), 0);

    /* Somebody else's key under one's own signature: kid does not fit the jwk. */
    assert_int_equal(jws_parse(text.bytes, text.length, &jws, NULL), ERR_OK);
    const char *payload = json_object_to_json_string(jws.payload);
    buf_init(&lifted, JWS_MAX);
    assert_int_equal(
        jws_sign(instance_key(stranger), TYP_INSTANCE, payload, strlen(payload), &lifted), ERR_OK);
    assert_int_equal(instance_token_read(lifted.bytes, lifted.length, &ref, &key, &diag),
                     ERR_TOKEN_INVALID);
    sign_client_token(ours(), &client);
    assert_int_equal(instance_token_read(client.bytes, client.length, &ref, &key, &diag),
                     ERR_TOKEN_PURPOSE);
    assert_null(key);
}

/* ---- sessions and purposes ----------------------------------------------------------------------
 */

static const uint8_t token_sha256[32] = { 1, 2, 3 }, other_sha256[32] = { 1, 2, 4 };

static void sessions_round_trip(void **state)
{
    (void)state;
    for (enum role role = ROLE_ADMIN; role < ROLES; role++) {
        AUTO(buf_fini) struct buf text;
        struct operator_session made = session_of(ours(), role, token_sha256),
                                found = { ROLE_NONE, { 0 } };
        buf_init(&text, JWS_MAX);
        session_make(ours(), &made, NOW_MS, NOW_MS + 10000, &text);
        assert_int_equal(session_check(again, text.bytes, text.length, NOW_MS, &found, NULL),
                         ERR_OK);
        assert_int_equal(found.role, role);
        assert_true(session_equal(&found, &made));
        found.role = ROLE_NONE;
        assert_int_equal(
            session_check(ours(), text.bytes, text.length, NOW_MS + 10000, &found, NULL),
            ERR_TOKEN_EXPIRED);
        assert_int_equal(session_check(stranger, text.bytes, text.length, NOW_MS, &found, NULL),
                         ERR_TOKEN_INVALID);
        text.bytes[text.length - 2] ^= 2;
        assert_int_equal(session_check(ours(), text.bytes, text.length, NOW_MS, &found, NULL),
                         ERR_TOKEN_INVALID);
        assert_int_equal(found.role, ROLE_NONE);
    }
    assert_string_equal(role_name(ROLE_ADMIN), "admin");
    assert_string_equal(role_name(ROLE_ENROL), "enrol");
}

/* The mark is of one token, of one role, at one instance. */
static void a_session_is_of_the_token_that_opened_it(void **state)
{
    (void)state;
    struct operator_session one = session_of(ours(), ROLE_ADMIN, token_sha256);
    struct operator_session same = session_of(again, ROLE_ADMIN, token_sha256);
    struct operator_session other = session_of(ours(), ROLE_ADMIN, other_sha256);
    struct operator_session role = session_of(ours(), ROLE_VIEWER, token_sha256);
    struct operator_session elsewhere = session_of(stranger, ROLE_ADMIN, token_sha256);
    struct operator_session none = { .role = ROLE_NONE };

    assert_true(session_equal(&one, &same));
    assert_false(session_equal(&one, &other));
    assert_false(session_equal(&one, &role));
    assert_memory_not_equal(one.mark, role.mark, SESSION_MARK_SIZE);
    assert_false(session_equal(&one, &elsewhere));
    assert_false(session_equal(&one, &none));
    assert_memory_not_equal(one.mark, token_sha256, SESSION_MARK_SIZE);
}

/* What is under our own MAC but not of today's form. */
static void sessions_of_another_form(void **state)
{
    (void)state;
    static const char *const members[] = {
        "\"role\":\"admin\"",
        "\"role\":\"admin\",\"mark\":\"AAAA\"",
        "\"role\":\"admin\",\"mark\":\"!AAAAAAAAAAAAAAAAAAAAA\"",
        "\"role\":\"none\",\"mark\":\"AAAAAAAAAAAAAAAAAAAAAA\"",
        "\"mark\":\"AAAAAAAAAAAAAAAAAAAAAA\"",
    };

    for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
        AUTO(buf_fini) struct buf payload;
        AUTO(buf_fini) struct buf text;
        struct operator_session found;
        char ref[UUID_TEXT_SIZE];
        buf_init(&payload, 512);
        buf_init(&text, JWS_MAX);
        uuid_format(instance_ref(ours()), ref);
        buf_format(&payload, "{\"iss\":\"%s\",\"exp\":%jd,%s}", ref, (intmax_t)(NOW_MS / 1000 + 60),
                   members[i]);
        jws_mac_sign(ours()->token_key, TYP_SESSION, payload.bytes, payload.length, &text);
        assert_int_equal(session_check(ours(), text.bytes, text.length, NOW_MS, &found, NULL),
                         ERR_TOKEN_INVALID);
    }
}

/* Every kind of token is shown where every other kind is wanted. */
static void no_token_passes_for_another(void **state)
{
    (void)state;
    enum { AUTH, SESSION, LEASE, CLIENT, KINDS };
    AUTO(buf_fini) struct buf auth_text, session_text, lease_text, client_text;
    const struct buf *texts[KINDS] = { &auth_text, &session_text, &lease_text, &client_text };

    buf_init(&auth_text, JWS_MAX);
    auth_token_make(ours(), &auth, &auth_text);
    buf_init(&session_text, JWS_MAX);
    struct operator_session opened = session_of(ours(), ROLE_ADMIN, token_sha256);
    session_make(ours(), &opened, NOW_MS, NOW_MS + 10000, &session_text);
    sign_lease(ours(), &lease_text);
    sign_client_token(ours(), &client_text);
    for (int i = 0; i < KINDS; i++) {
        const char *text = texts[i]->bytes;
        size_t length = texts[i]->length;
        struct auth_claims claims;
        struct lease_claims lease_claims;
        struct operator_session session;
        struct uuid ref;
        assert_int_equal(auth_token_check(ours(), text, length, NOW_MS, &claims, NULL),
                         i == AUTH ? ERR_OK : ERR_TOKEN_PURPOSE);
        assert_int_equal(session_check(ours(), text, length, NOW_MS, &session, NULL),
                         i == SESSION ? ERR_OK : ERR_TOKEN_PURPOSE);
        assert_int_equal(lease_token_verify(ours(), text, length, &lease_claims, NULL),
                         i == LEASE ? ERR_OK : ERR_TOKEN_PURPOSE);
        assert_int_equal(client_token_check(ours(), text, length, NOW_MS, &ref, NULL),
                         i == CLIENT ? ERR_OK : ERR_TOKEN_PURPOSE);
    }
}

/* typ fixes how a token is protected: the right typ with the wrong seal is not ours. */
static void a_typ_has_one_seal(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf signed_auth;
    AUTO(jws_fini) struct jws jws = { 0 };
    AUTO(buf_fini) struct buf text;
    struct auth_claims claims;

    buf_init(&text, JWS_MAX);
    buf_init(&signed_auth, JWS_MAX);
    auth_token_make(ours(), &auth, &text);
    assert_int_equal(jws_parse(text.bytes, text.length, &jws, NULL), ERR_OK);
    const char *payload = json_object_to_json_string(jws.payload);
    assert_int_equal(
        jws_sign(instance_key(ours()), TYP_AUTH, payload, strlen(payload), &signed_auth), ERR_OK);
    assert_int_equal(
        auth_token_check(ours(), signed_auth.bytes, signed_auth.length, NOW_MS, &claims, NULL),
        ERR_TOKEN_PURPOSE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jwks_has_the_public_key),
        cmocka_unit_test(secrets_are_the_same_on_both_nodes),
        cmocka_unit_test(secrets_are_of_one_origin_and_generation),
        cmocka_unit_test(a_changed_byte_spoils_a_secret),
        cmocka_unit_test(auth_token_round_trips),
        cmocka_unit_test(a_changed_byte_spoils_an_auth_token),
        cmocka_unit_test(another_instances_token_is_named),
        cmocka_unit_test(pkce_is_that_of_the_rfc),
        cmocka_unit_test(a_code_is_good_once),
        cmocka_unit_test(a_wrong_verifier_burns_the_code),
        cmocka_unit_test(codes_are_of_one_process_and_purpose),
        cmocka_unit_test(time_does_not_go_back),
        cmocka_unit_test(a_full_table_says_so),
        cmocka_unit_test(exactly_one_redemption_wins),
        cmocka_unit_test(lease_tokens_round_trip),
        cmocka_unit_test(lease_tokens_have_the_contracts_claims),
        cmocka_unit_test(foreign_lease_tokens_are_refused),
        cmocka_unit_test(a_changed_byte_spoils_a_lease_token),
        cmocka_unit_test(lease_claims_are_checked),
        cmocka_unit_test(lease_tokens_need_a_name_that_needs_no_escape),
        cmocka_unit_test(client_tokens_round_trip),
        cmocka_unit_test(client_tokens_say_all_a_client_needs),
        cmocka_unit_test(a_changed_byte_spoils_a_client_token),
        cmocka_unit_test(instance_tokens_bring_the_key),
        cmocka_unit_test(instance_tokens_prove_possession),
        cmocka_unit_test(sessions_round_trip),
        cmocka_unit_test(a_session_is_of_the_token_that_opened_it),
        cmocka_unit_test(sessions_of_another_form),
        cmocka_unit_test(no_token_passes_for_another),
        cmocka_unit_test(a_typ_has_one_seal),
    };
    return cmocka_run_group_tests_name("instance", tests, make_instances, free_instances);
}
