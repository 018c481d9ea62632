/* Keys: which are taken, their thumbprints and JWKs against the RFCs' vectors, raw signatures,
 * files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/err.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../data/keys.h"
#include "base/base64url.h"
#include "base/file.h"
#include "base/json.h"
#include "token/crypto.h"
#include "token/key.h"

static struct key *parse_private(const char *pem)
{
    struct key *key = NULL;
    struct diag diag = { "" };

    assert_int_equal(key_parse_private(pem, strlen(pem), &key, &diag), ERR_OK);
    assert_true(key_is_private(key));
    return key;
}

static struct json_object *parse_json(const char *text)
{
    struct json_object *value = NULL;
    struct diag diag = { "" };

    assert_int_equal(json_parse(text, strlen(text), &value, &diag), ERR_OK);
    return value;
}

static struct key *parse_jwk(const char *text)
{
    AUTO(json_object_put) struct json_object *jwk = parse_json(text);
    struct key *key = NULL;
    struct diag diag = { "" };

    assert_int_equal(key_from_jwk(jwk, &key, &diag), ERR_OK);
    assert_false(key_is_private(key));
    return key;
}

/* The JWK is refused, and the sentence has this word. */
static void refuse_jwk(const char *text, const char *word)
{
    AUTO(json_object_put) struct json_object *jwk = parse_json(text);
    struct key *key = NULL;
    struct diag diag = { "" };

    assert_int_equal(key_from_jwk(jwk, &key, &diag), ERR_KEY_INVALID);
    assert_null(key);
    if (!strstr(diag.text, word))
        fail_msg("\"%s\" does not say \"%s\"", diag.text, word);
}

static void refuse_pem(const char *pem, const char *word)
{
    struct key *key = NULL;
    struct diag diag = { "" };

    assert_int_equal(key_parse_private(pem, strlen(pem), &key, &diag), ERR_KEY_INVALID);
    assert_null(key);
    if (!strstr(diag.text, word))
        fail_msg("\"%s\" does not say \"%s\"", diag.text, word);
}

/* ---- vectors ------------------------------------------------------------------------------------
 */

/* RFC 7638 §3.1 */
#define RFC_7638_N                                                                                 \
    "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECP" \
    "ebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY" \
    "368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0f" \
    "M4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
/* RFC 7515 A.2.1 */
#define RFC_7515_N                                                                                 \
    "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4" \
    "d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5re" \
    "xMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxX" \
    "FvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"
/* RFC 7515 A.3.1 */
#define RFC_7515_X "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"
#define RFC_7515_Y "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
/* RFC 8037 A.2 */
#define RFC_8037_X "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"

#define JWK_RSA(n)   "{\"kty\":\"RSA\",\"n\":\"" n "\",\"e\":\"AQAB\"}"
#define JWK_EC(x, y) "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" x "\",\"y\":\"" y "\"}"
#define JWK_OKP(x)   "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"" x "\"}"

static void thumbprints_are_those_of_the_rfcs(void **state)
{
    (void)state;
    AUTO(key_free)
    struct key *rsa =
        parse_jwk("{\"kty\":\"RSA\",\"n\":\"" RFC_7638_N "\",\"e\":\"AQAB\",\"alg\":\"RS256\","
                  "\"kid\":\"2011-04-29\"}");
    AUTO(key_free) struct key *okp = parse_jwk(JWK_OKP(RFC_8037_X));

    assert_string_equal(key_thumbprint(rsa), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    assert_string_equal(key_thumbprint(okp), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

/* Verifies a whole compact JWS with the raw function; then with each part changed. */
static void check_jws(const char *jwk, const char *jws)
{
    AUTO(key_free) struct key *key = parse_jwk(jwk);
    AUTO(buf_fini) struct buf signature;
    const char *dot = strrchr(jws, '.');
    size_t length = (size_t)(dot - jws);

    buf_init(&signature, KEY_SIGNATURE_MAX);
    assert_true(base64url_decode(dot + 1, strlen(dot + 1), &signature));
    uint8_t *bytes = (uint8_t *)signature.bytes;
    assert_true(key_verify(key, jws, length, bytes, signature.length));
    assert_false(key_verify(key, jws, length - 1, bytes, signature.length));
    assert_false(key_verify(key, jws, length, bytes, signature.length - 1));
    for (size_t i = 0; i < signature.length; i++) {
        bytes[i] ^= 0x10;
        assert_false(key_verify(key, jws, length, bytes, signature.length));
        bytes[i] ^= 0x10;
    }
}

#define RFC_7515_PAYLOAD                                                                           \
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVl" \
    "fQ"

static void signatures_are_those_of_the_rfcs(void **state)
{
    (void)state;
    check_jws(
        JWK_RSA(RFC_7515_N), /* RFC 7515 A.2 */
        "eyJhbGciOiJSUzI1NiJ9." RFC_7515_PAYLOAD
        ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt"
        "_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLI"
        "ARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPq"
        "vhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77R"
        "w");
    check_jws(JWK_EC(RFC_7515_X, RFC_7515_Y), /* A.3 */
              "eyJhbGciOiJFUzI1NiJ9." RFC_7515_PAYLOAD
              ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6N"
              "U1Q");
    check_jws(
        JWK_OKP(RFC_8037_X), /* RFC 8037 A.4 */
        "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
        ".hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0K"
        "Ag");
}

static void check_hex(const uint8_t *bytes, const char *hex)
{
    char text[65];

    for (size_t i = 0; i < 32; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    assert_string_equal(text, hex);
}

static void digests_are_those_of_the_rfcs(void **state)
{
    (void)state;
    uint8_t out[32], key[32] = { 0 };

    sha256("abc", 3, out); /* FIPS 180-2 B.1 */
    check_hex(out, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    memset(key, 0x0b, 20); /* RFC 4231 §4.2; HMAC fills a shorter key up with zeros itself */
    hmac_sha256(key, "Hi There", 8, out);
    check_hex(out, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    uint8_t secret[22];
    memset(secret, 0x0b, sizeof secret); /* RFC 5869 A.3, its first 32 bytes */
    crypto_hkdf(secret, sizeof secret, "", out);
    check_hex(out, "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d");
    assert_true(secret_equal("abc", "abd", 2));
    assert_false(secret_equal("abc", "abd", 3));
}

/* ---- reading ------------------------------------------------------------------------------------
 */

static void types_are_recognised(void **state)
{
    (void)state;
    AUTO(key_free) struct key *ec = parse_private(fixed_ec);
    AUTO(key_free) struct key *rsa = parse_private(fixed_rsa);
    AUTO(key_free) struct key *ed = parse_private(fixed_ed25519);

    assert_int_equal(key_type(ec), KEY_EC_P256);
    assert_string_equal(key_alg(ec), "ES256");
    assert_int_equal(key_type(rsa), KEY_RSA);
    assert_string_equal(key_alg(rsa), "RS256");
    assert_int_equal(key_type(ed), KEY_ED25519);
    assert_string_equal(key_alg(ed), "EdDSA");
    assert_false(key_same(ec, rsa) || key_same(rsa, ed) || key_same(ec, ed));
}

static void weak_and_foreign_keys_are_refused(void **state)
{
    (void)state;
    refuse_pem(refused_rsa_1024, "1024 bits; 2048 to 8192");
    refuse_pem(refused_p384, "secp384r1");
    refuse_pem(refused_explicit, "curve");
    refuse_pem(refused_rsa_pss, "RSA-PSS");
    refuse_pem(refused_x25519, "X25519");
    refuse_pem(refused_encrypted, "without a password"); /* and does not ask for it */
    refuse_pem("", "no private key");
    refuse_pem("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no private key");
    AUTO(mem_free) char *large = mem_calloc(1, (64 << 10) + 2);
    memset(large, '\n', (64 << 10) + 1);
    refuse_pem(large, "at most 65536");
    assert_int_equal(ERR_peek_error(), 0); /* TLS on the same thread would trip over it */
}

/* The derived secrets of a pair hang on this: however the file spells the key, they are the same.
 */
static void derivation_depends_on_the_key_alone(void **state)
{
    (void)state;
    static const char *const spellings[][2] = {
        { fixed_ec, fixed_ec_traditional }, { fixed_ec, fixed_ec_bare },
        { fixed_ec, fixed_ec_compressed },  { fixed_rsa, fixed_rsa_traditional },
        { fixed_ed25519, fixed_ed25519 },
    };
    for (size_t i = 0; i < ARRAY_SIZE(spellings); i++) {
        AUTO(key_free) struct key *a = parse_private(spellings[i][0]);
        AUTO(key_free) struct key *b = parse_private(spellings[i][1]);
        uint8_t from_a[32], from_b[32], other[32];
        assert_true(key_same(a, b));
        key_derive(a, "one use", from_a);
        key_derive(b, "one use", from_b);
        key_derive(a, "another", other);
        assert_memory_equal(from_a, from_b, 32);
        assert_memory_not_equal(from_a, other, 32);
    }
}

/* Computed with Python from `openssl ec -outform DER`: HKDF by hand. So that no change of ours or
 * of OpenSSL's takes every origin's secret away unseen. */
static void derivation_never_changes(void **state)
{
    (void)state;
    AUTO(key_free) struct key *key = parse_private(fixed_ec);
    uint8_t out[32];

    key_derive(key, "twinlease", out);
    check_hex(out, "9ad34c4faddc8ef89eeeb8adcdc1f477e27fa88043a84a721f9d4d840ccf498e");
}

static void public_blocks_are_read_in_turn(void **state)
{
    (void)state;
    AUTO(key_free) struct key *a = parse_private(fixed_ec), *b = parse_private(fixed_ed25519);
    AUTO(key_free) struct key *first = NULL, *second = NULL, *third = NULL;
    AUTO(buf_fini) struct buf pem;
    struct diag diag = { "" };
    char path[] = "/tmp/twinlease-test-XXXXXX";
    size_t used = 0, more = 0;

    close(mkstemp(path));
    buf_init(&pem, 4096);
    assert_int_equal(key_write_public(a, path, true, &diag), ERR_OK);
    assert_int_equal(file_read(path, FILE_PUBLIC, &pem, &diag), ERR_OK);
    buf_text_append(&pem, "a comment between\n");
    assert_int_equal(key_write_public(b, path, true, &diag), ERR_OK);
    assert_int_equal(file_read(path, FILE_PUBLIC, &pem, &diag), ERR_OK);
    unlink(path);

    assert_int_equal(key_parse_public(pem.bytes, pem.length, &first, &used, &diag), ERR_OK);
    assert_true(key_same(first, a) && !key_is_private(first));
    assert_memory_equal(pem.bytes + used, "a comment", 9);
    assert_int_equal(key_parse_public(pem.bytes + used, pem.length - used, &second, &more, &diag),
                     ERR_OK);
    assert_true(key_same(second, b));
    assert_int_equal(used + more, pem.length);
    assert_int_equal(key_parse_public("", 0, &third, &used, &diag), ERR_KEY_INVALID);
    assert_int_equal(key_parse_public(fixed_ec, strlen(fixed_ec), &third, &used, &diag),
                     ERR_KEY_INVALID);
    assert_non_null(strstr(diag.text, "PRIVATE KEY"));
    assert_int_equal(
        key_parse_public(refused_rsa_exponent, strlen(refused_rsa_exponent), &third, &used, &diag),
        ERR_KEY_INVALID);
    assert_non_null(strstr(diag.text, "at most 64 bits"));
}

/* ---- JWK ----------------------------------------------------------------------------------------
 */

static const char *const fixed_keys[] = { fixed_ec, fixed_rsa, fixed_ed25519 };

static void jwk_round_trips(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(fixed_keys); i++) {
        AUTO(key_free) struct key *key = parse_private(fixed_keys[i]);
        AUTO(json_object_put) struct json_object *jwk = key_jwk(key);
        AUTO(key_free) struct key *again = NULL;
        struct json_object *member;
        struct diag diag;

        assert_int_equal(key_from_jwk(jwk, &again, &diag), ERR_OK);
        assert_true(key_same(key, again));
        assert_false(key_is_private(again));
        assert_false(json_object_object_get_ex(jwk, "d", NULL));
        assert_true(json_object_object_get_ex(jwk, "kid", &member));
        assert_string_equal(json_object_get_string(member), key_thumbprint(key));
        assert_true(json_object_object_get_ex(jwk, "use", &member));
        assert_string_equal(json_object_get_string(member), "sig");
        assert_true(json_object_object_get_ex(jwk, "alg", &member));
        assert_string_equal(json_object_get_string(member), key_alg(key));
    }
}

static void bad_jwks_are_refused(void **state)
{
    (void)state;
    refuse_jwk("[]", "object");
    refuse_jwk("{}", "kty");
    refuse_jwk("{\"kty\":\"oct\",\"k\":\"AAAA\"}", "oct");
    refuse_jwk("{\"kty\":\"EC\",\"crv\":\"P-384\",\"x\":\"\",\"y\":\"\"}", "P-384");
    refuse_jwk("{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" RFC_7515_X "\"}", "y is missing");
    refuse_jwk(JWK_EC(RFC_7515_X, RFC_7515_X), "not valid"); /* not on the curve */
    refuse_jwk(JWK_EC("AA", RFC_7515_Y), "x must be");
    refuse_jwk(JWK_EC(RFC_7515_X "AA", RFC_7515_Y), "x must be");
    refuse_jwk(JWK_OKP("AA"), "x must be");
    refuse_jwk(JWK_OKP(RFC_8037_X "="), "x must be");
    refuse_jwk(JWK_RSA("AQAB"), "n must be"); /* too small */
    refuse_jwk(JWK_RSA("AA" RFC_7638_N), "zero byte");
    refuse_jwk("{\"kty\":\"RSA\",\"n\":\"" RFC_7638_N "\",\"e\":\"AQ\"}", "not valid"); /* e = 1 */
    refuse_jwk("{\"kty\":\"RSA\",\"n\":\"" RFC_7638_N "\",\"e\":\"AQAC\"}", "not valid");
    refuse_jwk("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"" RFC_8037_X "\",\"use\":\"enc\"}",
               "enc");
    refuse_jwk("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"" RFC_8037_X "\",\"alg\":\"HS256\"}",
               "HS256");
    refuse_jwk("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"" RFC_8037_X "\",\"d\":\"AAAA\"}",
               "private");
    assert_int_equal(ERR_peek_error(), 0);
}

/* ---- signing ------------------------------------------------------------------------------------
 */

static void signatures_round_trip(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(fixed_keys); i++) {
        AUTO(key_free) struct key *key = parse_private(fixed_keys[i]);
        uint8_t signature[KEY_SIGNATURE_MAX];
        size_t size = 0;
        for (int round = 0; round < 20; round++) { /* r or s is short in one of 128 */
            char text[16];
            int length = snprintf(text, sizeof text, "message %d", round);
            assert_int_equal(key_sign(key, text, (size_t)length, signature, &size), ERR_OK);
            assert_int_equal(size, key_type(key) == KEY_RSA ? 256 : 64);
            assert_true(key_verify(key, text, (size_t)length, signature, size));
            text[0] ^= 1;
            assert_false(key_verify(key, text, (size_t)length, signature, size));
        }
    }
}

static void a_public_key_does_not_sign(void **state)
{
    (void)state;
    AUTO(key_free) struct key *key = parse_jwk(JWK_OKP(RFC_8037_X));
    uint8_t signature[KEY_SIGNATURE_MAX];
    size_t size = 7;

    assert_int_equal(key_sign(key, "x", 1, signature, &size), ERR_KEY_INVALID);
    assert_int_equal(size, 7);
}

/* The order of P-256: r and s must be below it. */
static const uint8_t p256_order[32] = {
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
};

static void degenerate_signatures_are_refused(void **state)
{
    (void)state;
    AUTO(key_free) struct key *key = parse_private(fixed_ec);
    uint8_t good[KEY_SIGNATURE_MAX], bad[80] = { 0 };
    size_t size;

    assert_int_equal(key_sign(key, "x", 1, good, &size), ERR_OK);
    assert_false(key_verify(key, "x", 1, bad, 64)); /* r = s = 0 */
    memcpy(bad, good, 32);
    assert_false(key_verify(key, "x", 1, bad, 64)); /* s = 0 */
    memset(bad, 0, 32);
    memcpy(bad + 32, good + 32, 32);
    assert_false(key_verify(key, "x", 1, bad, 64)); /* r = 0 */
    memcpy(bad, p256_order, 32);
    memcpy(bad + 32, p256_order, 32);
    assert_false(key_verify(key, "x", 1, bad, 64));
    memset(bad, 0xff, 64);
    assert_false(key_verify(key, "x", 1, bad, 64));
    memcpy(bad, good, 64);
    assert_false(key_verify(key, "x", 1, bad, 0));
    assert_false(key_verify(key, "x", 1, bad, 63));
    assert_false(key_verify(key, "x", 1, bad, 65));
    assert_true(key_verify(key, "x", 1, bad, 64));
    assert_int_equal(ERR_peek_error(), 0);
}

/* A thread's context belongs to one key at a time; keys come and go at the same address. */
static void contexts_follow_their_keys(void **state)
{
    (void)state;
    for (int round = 0; round < 5; round++) {
        AUTO(key_free) struct key *key = key_generate(round % 2 ? KEY_EC_P256 : KEY_ED25519);
        AUTO(key_free) struct key *other = key_generate(KEY_EC_P256);
        uint8_t one[KEY_SIGNATURE_MAX], two[KEY_SIGNATURE_MAX];
        size_t one_size, two_size;
        assert_int_equal(key_sign(key, "x", 1, one, &one_size), ERR_OK);
        assert_int_equal(key_sign(other, "x", 1, two, &two_size), ERR_OK);
        assert_true(key_verify(key, "x", 1, one, one_size));
        assert_true(key_verify(other, "x", 1, two, two_size));
        assert_false(key_verify(other, "x", 1, one, one_size));
        assert_false(key_verify(key, "x", 1, two, two_size));
    }
}

#define THREADS 8

static void *sign_many(void *argument)
{
    struct key *const *keys = argument;

    for (int i = 0; i < 60; i++) {
        const struct key *key = keys[i / 10 % 3];
        uint8_t signature[KEY_SIGNATURE_MAX];
        size_t size;
        if (key_sign(key, &i, sizeof i, signature, &size) != ERR_OK ||
            !key_verify(key, &i, sizeof i, signature, size))
            return argument;
    }
    return NULL;
}

static void keys_are_shared_by_threads(void **state)
{
    (void)state;
    struct key *keys[3];
    pthread_t threads[THREADS];

    for (size_t i = 0; i < 3; i++)
        keys[i] = parse_private(fixed_keys[i]);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, sign_many, keys), 0);
    for (size_t i = 0; i < THREADS; i++) {
        void *failed;
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    for (size_t i = 0; i < 3; i++)
        key_free(keys[i]);
}

/* ---- files --------------------------------------------------------------------------------------
 */

static void files_keep_private_keys_private(void **state)
{
    (void)state;
    AUTO(key_free) struct key *key = parse_private(fixed_ec), *again = NULL;
    char folder[] = "/tmp/twinlease-test-XXXXXX", path[64];
    struct diag diag = { "" };
    struct stat status;

    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/key.pem", folder);
    assert_int_equal(key_read_private(path, &again, &diag), ERR_FILE);
    assert_int_equal(key_write_private(key, path, false, &diag), ERR_OK);
    assert_int_equal(key_write_private(key, path, false, &diag), ERR_FILE);
    assert_int_equal(key_write_private(key, path, true, &diag), ERR_OK);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    assert_int_equal(key_read_private(path, &again, &diag), ERR_OK);
    assert_true(key_same(key, again));
    again = key_free(again);

    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(key_read_private(path, &again, &diag), ERR_OK);
    again = key_free(again);
    static const mode_t open_modes[] = { 0644, 0604, 0602, 0601 };
    for (size_t i = 0; i < ARRAY_SIZE(open_modes); i++) {
        assert_int_equal(chmod(path, open_modes[i]), 0);
        assert_int_equal(key_read_private(path, &again, &diag), ERR_FILE);
        assert_non_null(strstr(diag.text, path));
    }
    assert_int_equal(key_write_public(key, path, true, &diag), ERR_OK);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0644);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(key_read_private(path, &again, &diag), ERR_KEY_INVALID);
    assert_non_null(strstr(diag.text, path));
    assert_null(again);
    unlink(path);
    assert_int_equal(rmdir(folder), 0);
}

static void generated_keys_are_of_their_type(void **state)
{
    (void)state;
    for (enum key_type type = 0; type < KEY_TYPES; type++) {
        AUTO(key_free) struct key *key = key_generate(type);
        assert_int_equal(key_type(key), type);
        assert_true(key_is_private(key));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thumbprints_are_those_of_the_rfcs),
        cmocka_unit_test(signatures_are_those_of_the_rfcs),
        cmocka_unit_test(digests_are_those_of_the_rfcs),
        cmocka_unit_test(types_are_recognised),
        cmocka_unit_test(weak_and_foreign_keys_are_refused),
        cmocka_unit_test(derivation_depends_on_the_key_alone),
        cmocka_unit_test(derivation_never_changes),
        cmocka_unit_test(public_blocks_are_read_in_turn),
        cmocka_unit_test(jwk_round_trips),
        cmocka_unit_test(bad_jwks_are_refused),
        cmocka_unit_test(signatures_round_trip),
        cmocka_unit_test(a_public_key_does_not_sign),
        cmocka_unit_test(degenerate_signatures_are_refused),
        cmocka_unit_test(contexts_follow_their_keys),
        cmocka_unit_test(keys_are_shared_by_threads),
        cmocka_unit_test(files_keep_private_keys_private),
        cmocka_unit_test(generated_keys_are_of_their_type),
    };
    return cmocka_run_group_tests_name("key", tests, NULL, NULL);
}
