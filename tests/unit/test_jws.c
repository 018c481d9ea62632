/* JWS: what is signed verifies, and nothing else ever does (RFC 8725). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "../data/keys.h"
#include "base/base64url.h"
#include "tamper.h"
#include "token/jws.h"

#define TYP     "test+jwt"
#define PAYLOAD "{\"sub\":\"somebody\",\"count\":3}"

static struct key *keys[KEY_TYPES];
static uint8_t mac_key[32] = "0123456789abcdef0123456789abcde";

static int read_keys(void **state)
{
    static const char *const pems[] = { fixed_ec, fixed_rsa, fixed_ed25519 };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(pems); i++) {
        if (key_parse_private(pems[i], strlen(pems[i]), &keys[i], NULL) != ERR_OK)
            return -1;
    }
    return 0;
}

static int free_keys(void **state)
{
    (void)state;
    for (size_t i = 0; i < KEY_TYPES; i++)
        keys[i] = key_free(keys[i]);
    return 0;
}

static const struct key *const *all_keys(void)
{
    return (const struct key *const *)keys;
}

static enum err verify(const char *text, size_t length, struct diag *diag)
{
    AUTO(jws_fini) struct jws jws = { 0 };

    return jws_verify(all_keys(), KEY_TYPES, TYP, text, length, &jws, diag);
}

/* Builds a token out of any header and payload, signed rightly with the key (or the MAC key if
 * NULL). */
static void forge(const struct key *key, const char *header, const char *payload,
                  size_t payload_size, struct buf *out)
{
    uint8_t signature[KEY_SIGNATURE_MAX];
    size_t size = 32;

    buf_init(out, (size_t)2 * JWS_MAX);
    base64url_append(out, header, strlen(header));
    buf_append(out, ".", 1);
    base64url_append(out, payload, payload_size);
    if (key)
        assert_int_equal(key_sign(key, out->bytes, out->length, signature, &size), ERR_OK);
    else
        hmac_sha256(mac_key, out->bytes, out->length, signature);
    buf_append(out, ".", 1);
    base64url_append(out, signature, size);
    assert_true(buf_ok(out));
}

/* The token made of these is refused, however well it is signed. */
static void refuse(const char *header, const char *payload, size_t payload_size, const char *word)
{
    AUTO(buf_fini) struct buf text;
    struct diag diag = { "" };

    forge(keys[KEY_EC_P256], header, payload, payload_size, &text);
    assert_int_equal(verify(text.bytes, text.length, &diag), ERR_TOKEN_INVALID);
    if (!strstr(diag.text, word))
        fail_msg("\"%s\" does not say \"%s\"", diag.text, word);
}

/* A header with this key's kid and more members after it. */
static const char *header_with(const char *alg, const char *more)
{
    static char text[1024];

    snprintf(text, sizeof text, "{\"kid\":\"%s\",\"typ\":\"" TYP "\",\"alg\":\"%s\"%s}",
             key_thumbprint(keys[KEY_EC_P256]), alg, more);
    return text;
}

static void refuse_header(const char *alg, const char *more, const char *word)
{
    refuse(header_with(alg, more), "{}", 2, word);
}

/* ---- right ones
 * ----------------------------------------------------------------------------------- */

static void all_types_round_trip(void **state)
{
    (void)state;
    for (size_t i = 0; i < KEY_TYPES; i++) {
        AUTO(buf_fini) struct buf text;
        AUTO(jws_fini) struct jws jws = { 0 };
        struct diag diag = { "" };
        buf_init(&text, JWS_MAX);
        assert_int_equal(jws_sign(keys[i], TYP, PAYLOAD, strlen(PAYLOAD), &text), ERR_OK);
        assert_int_equal(
            jws_verify(all_keys(), KEY_TYPES, TYP, text.bytes, text.length, &jws, &diag), ERR_OK);
        assert_string_equal(jws.alg, key_alg(keys[i]));
        assert_string_equal(jws.typ, TYP);
        assert_string_equal(jws.kid, key_thumbprint(keys[i]));
        assert_string_equal(json_object_to_json_string_ext(jws.payload, JSON_C_TO_STRING_PLAIN),
                            PAYLOAD);
    }
}

static void mac_round_trips(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf text;
    AUTO(jws_fini) struct jws jws = { 0 };
    struct diag diag = { "" };

    buf_init(&text, JWS_MAX);
    jws_mac_sign(mac_key, TYP, PAYLOAD, strlen(PAYLOAD), &text);
    assert_int_equal(jws_mac_verify(mac_key, TYP, text.bytes, text.length, &jws, &diag), ERR_OK);
    assert_string_equal(jws.alg, "HS256");
    assert_null(jws.kid);
}

/* Computed with Python's hmac: the key of RFC 7515 A.1 is longer than ours can be. */
static void mac_is_hs256(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf text;

    buf_init(&text, JWS_MAX);
    jws_mac_sign(mac_key, TYP, "{}", 2, &text);
    assert_string_equal(buf_text(&text), "eyJhbGciOiJIUzI1NiIsInR5cCI6InRlc3Qrand0In0.e30."
                                         "4pm6N1Yb0JwOlQYmzcucpUOCpef9rKazL5Mg6YQpaqA");
}

static void unknown_header_members_are_ignored(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf text;

    forge(keys[KEY_EC_P256], header_with("ES256", ",\"cty\":\"x\",\"later\":{\"a\":1}"), "{}", 2,
          &text);
    assert_int_equal(verify(text.bytes, text.length, NULL), ERR_OK);
}

/* ---- wrong ones ---------------------------------------------------------------------------------
 */

static bool passes(const char *text, size_t length, void *context)
{
    (void)context;
    return verify(text, length, NULL) == ERR_OK;
}

static bool mac_passes(const char *text, size_t length, void *context)
{
    AUTO(jws_fini) struct jws jws = { 0 };

    (void)context;
    return jws_mac_verify(mac_key, TYP, text, length, &jws, NULL) == ERR_OK;
}

static void a_changed_byte_never_verifies(void **state)
{
    (void)state;
    for (size_t i = 0; i < KEY_TYPES; i++) {
        AUTO(buf_fini) struct buf text;
        buf_init(&text, JWS_MAX);
        assert_int_equal(jws_sign(keys[i], TYP, PAYLOAD, strlen(PAYLOAD), &text), ERR_OK);
        assert_true(passes(text.bytes, text.length, NULL));
        assert_int_equal(tamper(text.bytes, text.length, passes, NULL), 0);
    }
    AUTO(buf_fini) struct buf text;
    buf_init(&text, JWS_MAX);
    jws_mac_sign(mac_key, TYP, PAYLOAD, strlen(PAYLOAD), &text);
    assert_true(mac_passes(text.bytes, text.length, NULL));
    assert_int_equal(tamper(text.bytes, text.length, mac_passes, NULL), 0);
}

static void the_algorithm_is_the_keys(void **state)
{
    (void)state;
    static const char *const algs[] = { "none",  "None",  "NONE",  "",      "HS256",
                                        "es256", "ES384", "RS256", "EdDSA", "ES256K" };

    for (size_t i = 0; i < ARRAY_SIZE(algs); i++)
        refuse_header(algs[i], "", "alg");
    refuse("{\"typ\":\"" TYP "\",\"kid\":\"x\"}", "{}", 2, "alg is missing");
    refuse("{\"typ\":\"" TYP "\",\"kid\":\"x\",\"alg\":256}", "{}", 2, "alg must be");
    refuse("{\"typ\":\"" TYP "\",\"kid\":\"x\",\"alg\":[\"ES256\"]}", "{}", 2, "alg must be");
}

static void unsigned_tokens_are_refused(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf text;
    struct diag diag;

    forge(keys[KEY_EC_P256], header_with("none", ""), "{}", 2, &text);
    size_t length = (size_t)(strrchr(text.bytes, '.') + 1 - text.bytes);
    assert_int_equal(verify(text.bytes, length, &diag), ERR_TOKEN_INVALID);
    assert_non_null(strstr(diag.text, "not signed"));
    assert_int_equal(verify(text.bytes, length - 1, &diag), ERR_TOKEN_INVALID);
}

/* The public key's PEM as an HMAC key: the classic confusion. */
static void a_public_key_is_no_secret(void **state)
{
    (void)state;
    AUTO(json_object_put) struct json_object *jwk = key_jwk(keys[KEY_RSA]);
    AUTO(buf_fini) struct buf text;
    const char *public = json_object_to_json_string(jwk);
    uint8_t before[32];

    memcpy(before, mac_key, 32);
    sha256(public, strlen(public), mac_key);
    char header[256];
    snprintf(header, sizeof header, "{\"alg\":\"HS256\",\"typ\":\"" TYP "\",\"kid\":\"%s\"}",
             key_thumbprint(keys[KEY_RSA]));
    forge(NULL, header, "{}", 2, &text);
    assert_true(mac_passes(text.bytes, text.length, NULL)); /* it is a good MAC … */
    assert_false(passes(text.bytes, text.length, NULL));    /* … and no signature */
    memcpy(mac_key, before, 32);
    assert_false(mac_passes(text.bytes, text.length, NULL));
}

static void a_signature_is_no_mac(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf text;

    buf_init(&text, JWS_MAX);
    assert_int_equal(jws_sign(keys[KEY_ED25519], TYP, PAYLOAD, strlen(PAYLOAD), &text), ERR_OK);
    assert_false(mac_passes(text.bytes, text.length, NULL));
}

static void dangerous_members_are_refused(void **state)
{
    (void)state;
    refuse_header("ES256", ",\"crit\":[\"exp\"]", "crit");
    refuse_header("ES256", ",\"crit\":[]", "crit");
    refuse_header("ES256", ",\"crit\":null", "crit");
    refuse_header("ES256", ",\"b64\":true", "b64");
    refuse_header("ES256", ",\"jku\":\"https://example.com\"", "jku");
    refuse_header("ES256", ",\"jwk\":{}", "jwk");
    refuse_header("ES256", ",\"x5u\":\"https://example.com\"", "x5u");
    refuse_header("ES256", ",\"x5c\":[]", "x5c");
    refuse_header("ES256", ",\"enc\":\"A128GCM\"", "enc");
    refuse_header("ES256", ",\"zip\":\"DEF\"", "zip");
}

static void keys_come_from_the_fixed_set(void **state)
{
    (void)state;
    AUTO(key_free) struct key *stranger = key_generate(KEY_EC_P256);
    AUTO(buf_fini) struct buf text, borrowed;
    struct diag diag = { "" };

    buf_init(&text, JWS_MAX);
    assert_int_equal(jws_sign(stranger, TYP, PAYLOAD, strlen(PAYLOAD), &text), ERR_OK);
    assert_int_equal(verify(text.bytes, text.length, &diag), ERR_TOKEN_INVALID);
    assert_non_null(strstr(diag.text, key_thumbprint(stranger)));
    forge(stranger, header_with("ES256", ""), "{}", 2, &borrowed); /* under our kid */
    assert_int_equal(verify(borrowed.bytes, borrowed.length, &diag), ERR_TOKEN_INVALID);
    assert_non_null(strstr(diag.text, "signature"));
    refuse("{\"alg\":\"ES256\",\"typ\":\"" TYP "\"}", "{}", 2, "kid missing");
    refuse("{\"alg\":\"ES256\",\"typ\":\"" TYP "\",\"kid\":\"\"}", "{}", 2, "no key known");
    refuse("{\"alg\":\"ES256\",\"typ\":\"" TYP "\",\"kid\":7}", "{}", 2, "kid must be");
    assert_int_equal(jws_verify(NULL, 0, TYP, text.bytes, text.length, NULL, &diag),
                     ERR_TOKEN_INVALID);
}

static void the_purpose_is_compared(void **state)
{
    (void)state;
    static const char *const typs[] = { "lease+jwt", "JWT", "Test+jwt", "test+jwt ",
                                        "application/test+jwt" };

    for (size_t i = 0; i < ARRAY_SIZE(typs); i++) {
        AUTO(buf_fini) struct buf text, mac;
        AUTO(jws_fini) struct jws jws = { 0 };
        struct diag diag = { "" };
        buf_init(&text, JWS_MAX);
        buf_init(&mac, JWS_MAX);
        assert_int_equal(jws_sign(keys[KEY_ED25519], typs[i], "{}", 2, &text), ERR_OK);
        assert_int_equal(verify(text.bytes, text.length, &diag), ERR_TOKEN_PURPOSE);
        assert_non_null(strstr(diag.text, typs[i]));
        jws_mac_sign(mac_key, typs[i], "{}", 2, &mac);
        assert_int_equal(jws_mac_verify(mac_key, TYP, mac.bytes, mac.length, &jws, &diag),
                         ERR_TOKEN_PURPOSE);
        assert_null(jws.payload);
        text.bytes[text.length - 5] ^= 1; /* not a word about the purpose of what is not ours */
        assert_int_equal(verify(text.bytes, text.length, &diag), ERR_TOKEN_INVALID);
    }
    refuse(header_with("ES256", ",\"typ\":\"" TYP "\""), "{}", 2, "same member twice");
    refuse("{\"alg\":\"ES256\",\"kid\":\"x\"}", "{}", 2, "typ is missing");
}

static void odd_forms_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        ".",
        "..",
        "...",
        "a",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "a.b.c.d.e",
        "e30.e30.e30",
        "{\"payload\":\"e30\"}",
    };
    struct diag diag = { "" };

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        assert_int_equal(verify(texts[i], strlen(texts[i]), &diag), ERR_TOKEN_INVALID);
    refuse("[]", "{}", 2, "not a JSON object");
    refuse("\"x\"", "{}", 2, "not a JSON object");
    refuse("{", "{}", 2, "header: JSON");
    refuse(header_with("ES256", ""), "[]", 2, "payload is not a JSON object");
    refuse(header_with("ES256", ""), "null", 4, "payload is not a JSON object");
    refuse(header_with("ES256", ""), "", 0, "payload: JSON");
    refuse(header_with("ES256", ""), "{}x", 3, "payload: JSON");
    refuse(header_with("ES256", ""), "{\"a\":1,\"a\":2}", 13, "same member twice");
    refuse(header_with("ES256", ""), "{\"a\":\"\xff\"}", 9, "UTF-8");
}

static void oversized_tokens_are_refused(void **state)
{
    (void)state;
    AUTO(mem_free) char *payload = mem_calloc(1, JWS_MAX + 1);
    AUTO(buf_fini) struct buf text, small;
    struct diag diag = { "" };
    char padding[600];

    memset(payload, ' ', JWS_MAX);
    memcpy(payload, "{}", 2);
    buf_init(&text, (size_t)4 * JWS_MAX);
    buf_text_append(&text, "kept");
    assert_int_equal(jws_sign(keys[KEY_ED25519], TYP, payload, JWS_MAX, &text), ERR_INTERNAL);
    assert_string_equal(buf_text(&text), "kept");
    buf_init(&small, 100);
    assert_int_equal(jws_sign(keys[KEY_ED25519], TYP, "{}", 2, &small), ERR_INTERNAL);
    assert_int_equal(small.length, 0);

    AUTO(buf_fini) struct buf large;
    forge(keys[KEY_EC_P256], header_with("ES256", ""), payload, JWS_MAX * 3 / 4, &large);
    assert_true(large.length > JWS_MAX);
    assert_int_equal(verify(large.bytes, large.length, &diag), ERR_TOKEN_INVALID);
    assert_non_null(strstr(diag.text, "65536"));
    snprintf(padding, sizeof padding, ",\"x\":\"%0500d\"", 0);
    refuse_header("ES256", padding, "too long");
}

static void parsing_does_not_verify(void **state)
{
    (void)state;
    AUTO(jws_fini) struct jws jws = { 0 };
    static const char text[] = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJqb2UifQ.AAAA";
    struct diag diag;

    assert_int_equal(jws_parse(text, strlen(text), &jws, &diag), ERR_OK);
    assert_string_equal(jws.alg, "HS256");
    assert_true(json_object_object_get_ex(jws.payload, "iss", NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_types_round_trip),
        cmocka_unit_test(mac_round_trips),
        cmocka_unit_test(mac_is_hs256),
        cmocka_unit_test(unknown_header_members_are_ignored),
        cmocka_unit_test(a_changed_byte_never_verifies),
        cmocka_unit_test(the_algorithm_is_the_keys),
        cmocka_unit_test(unsigned_tokens_are_refused),
        cmocka_unit_test(a_public_key_is_no_secret),
        cmocka_unit_test(a_signature_is_no_mac),
        cmocka_unit_test(dangerous_members_are_refused),
        cmocka_unit_test(keys_come_from_the_fixed_set),
        cmocka_unit_test(the_purpose_is_compared),
        cmocka_unit_test(odd_forms_are_refused),
        cmocka_unit_test(oversized_tokens_are_refused),
        cmocka_unit_test(parsing_does_not_verify),
    };
    return cmocka_run_group_tests_name("jws", tests, read_keys, free_keys);
}
