/* Public keys as JSON (RFC 7517; EC and RSA: RFC 7518 §6; Ed25519: RFC 8037 §2). */
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>

#include "base/base64url.h"
#include "base/json.h"
#include "token/key_internal.h"

#define COORDINATE_SIZE 32
#define MODULUS_SIZE    (RSA_BITS_MAX / 8)

DEFINE_AUTO(OSSL_PARAM_BLD *, OSSL_PARAM_BLD_free)
DEFINE_AUTO(OSSL_PARAM *, OSSL_PARAM_free)

/* A number of the key as base64url of `size` bytes, or of as many as it needs if size is 0. */
static void append_number(EVP_PKEY *pkey, const char *param, int size, struct buf *out)
{
    AUTO(BN_free) BIGNUM *number = NULL;
    uint8_t bytes[MODULUS_SIZE];

    must(EVP_PKEY_get_bn_param(pkey, param, &number));
    if (size == 0)
        size = BN_num_bytes(number);
    must(size <= MODULUS_SIZE && BN_bn2binpad(number, bytes, size) == size);
    base64url_append(out, bytes, (size_t)size);
}

static void append_ec(EVP_PKEY *pkey, struct buf *out)
{
    buf_text_append(out, "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"");
    append_number(pkey, OSSL_PKEY_PARAM_EC_PUB_X, COORDINATE_SIZE, out);
    buf_text_append(out, "\",\"y\":\"");
    append_number(pkey, OSSL_PKEY_PARAM_EC_PUB_Y, COORDINATE_SIZE, out);
    buf_text_append(out, "\"}");
}

static void append_rsa(EVP_PKEY *pkey, struct buf *out)
{
    buf_text_append(out, "{\"e\":\"");
    append_number(pkey, OSSL_PKEY_PARAM_RSA_E, 0, out);
    buf_text_append(out, "\",\"kty\":\"RSA\",\"n\":\"");
    append_number(pkey, OSSL_PKEY_PARAM_RSA_N, 0, out);
    buf_text_append(out, "\"}");
}

static void append_ed25519(EVP_PKEY *pkey, struct buf *out)
{
    uint8_t bytes[COORDINATE_SIZE];
    size_t size = sizeof bytes;

    must(EVP_PKEY_get_raw_public_key(pkey, bytes, &size) == 1 && size == sizeof bytes);
    buf_text_append(out, "{\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":\"");
    base64url_append(out, bytes, size);
    buf_text_append(out, "\"}");
}

void jwk_append_canonical(enum key_type type, EVP_PKEY *pkey, struct buf *out)
{
    static void (*const append[KEY_TYPES])(EVP_PKEY *, struct buf *) = {
        [KEY_EC_P256] = append_ec,
        [KEY_RSA] = append_rsa,
        [KEY_ED25519] = append_ed25519,
    };

    append[type](pkey, out);
}

static void add_text(struct json_object *object, const char *name, const char *text)
{
    must(json_object_object_add(object, name, json_object_new_string(text)) == 0);
}

struct json_object *key_jwk(const struct key *key)
{
    AUTO(buf_fini) struct buf text = { .max = (size_t)4 * MODULUS_SIZE };
    struct json_object *jwk = NULL;

    jwk_append_canonical(key->type, key->pkey, &text);
    must(buf_ok(&text) && json_parse(text.bytes, text.length, &jwk, NULL) == ERR_OK);
    add_text(jwk, "kid", key->thumbprint);
    add_text(jwk, "use", "sig");
    add_text(jwk, "alg", key_alg(key));
    return jwk;
}

/* ---- reading ----------------------------------------------------------------------------------
 */

/* Decodes a member into out, which has a ceiling of size_max. */
static bool read_bytes(struct json_reader *r, const char *name, size_t size_min, struct buf *out)
{
    const char *text;

    if (!json_read_string(r, name, true, out->max * 2, &text))
        return false;
    if (!base64url_decode(text, strlen(text), out) || out->length < size_min) {
        json_reader_fail(r, ERR_KEY_INVALID, "%s must be base64url of %zu to %zu bytes", name,
                         size_min, out->max);
        return false;
    }
    return true;
}

/* Takes params; NULL if OpenSSL cannot make a key of them. */
static EVP_PKEY *build(const char *name, OSSL_PARAM_BLD *builder)
{
    AUTO(OSSL_PARAM_free) OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(builder);
    AUTO(EVP_PKEY_CTX_free) EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, name, NULL);
    EVP_PKEY *pkey = NULL;

    must(params && context && EVP_PKEY_fromdata_init(context) == 1);
    if (EVP_PKEY_fromdata(context, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
        return NULL;
    return pkey;
}

static EVP_PKEY *read_ec(struct json_reader *r)
{
    AUTO(buf_fini) struct buf x = { .max = COORDINATE_SIZE };
    AUTO(buf_fini) struct buf y = { .max = COORDINATE_SIZE };
    AUTO(buf_fini) struct buf point = { .max = 1 + 2 * COORDINATE_SIZE };
    AUTO(OSSL_PARAM_BLD_free) OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();

    must(builder);
    if (!read_bytes(r, "x", COORDINATE_SIZE, &x) || !read_bytes(r, "y", COORDINATE_SIZE, &y))
        return NULL;
    buf_append(&point, "\x04", 1); /* uncompressed: SEC 1 §2.3.3 */
    buf_append(&point, x.bytes, x.length);
    buf_append(&point, y.bytes, y.length);
    must(OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0));
    must(OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, point.bytes,
                                          point.length));
    return build("EC", builder);
}

static BIGNUM *read_number(struct json_reader *r, const char *name, size_t size_min,
                           size_t size_max)
{
    AUTO(buf_fini) struct buf bytes = { .max = size_max };

    if (!read_bytes(r, name, size_min, &bytes))
        return NULL;
    if (bytes.bytes[0] ==
        0) { /* RFC 7518 §2: as few octets as possible; else one key, two prints */
        json_reader_fail(r, ERR_KEY_INVALID, "%s begins with a zero byte", name);
        return NULL;
    }
    return BN_bin2bn((const unsigned char *)bytes.bytes, (int)bytes.length, NULL);
}

static EVP_PKEY *read_rsa(struct json_reader *r)
{
    AUTO(BN_free) BIGNUM *n = read_number(r, "n", RSA_BITS_MIN / 8, MODULUS_SIZE);
    AUTO(BN_free) BIGNUM *e = read_number(r, "e", 1, RSA_EXPONENT_BITS_MAX / 8);
    AUTO(OSSL_PARAM_BLD_free) OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();

    must(builder);
    if (!n || !e)
        return NULL;
    must(OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, n));
    must(OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, e));
    return build("RSA", builder);
}

static EVP_PKEY *read_ed25519(struct json_reader *r)
{
    AUTO(buf_fini) struct buf x = { .max = COORDINATE_SIZE };

    if (!read_bytes(r, "x", COORDINATE_SIZE, &x))
        return NULL;
    return EVP_PKEY_new_raw_public_key_ex(NULL, "ED25519", NULL, (const unsigned char *)x.bytes,
                                          x.length);
}

static const struct {
    const char *kty, *crv; /* crv NULL: none */
    EVP_PKEY *(*read)(struct json_reader *);
} forms[KEY_TYPES] = {
    [KEY_EC_P256] = { "EC", "P-256", read_ec },
    [KEY_RSA] = { "RSA", NULL, read_rsa },
    [KEY_ED25519] = { "OKP", "Ed25519", read_ed25519 },
};

static bool find_form(const char *kty, const char *crv, enum key_type *out)
{
    for (enum key_type type = 0; type < KEY_TYPES; type++) {
        if (strcmp(forms[type].kty, kty) == 0 &&
            (!forms[type].crv || strcmp(forms[type].crv, crv) == 0)) {
            *out = type;
            return true;
        }
    }
    return false;
}

/* "use" and "alg" may be missing, but must not say that the key is for something else; "d" stands
 * in private keys only, and whoever sends one should hear of it. */
static void check_purpose(struct json_reader *r, const char *alg_wanted)
{
    const char *text;

    if (json_read_string(r, "use", false, 16, &text) && strcmp(text, "sig") != 0)
        json_reader_fail(r, ERR_KEY_INVALID, "use is \"%s\", not \"sig\"", text);
    if (json_read_string(r, "alg", false, 16, &text) && strcmp(text, alg_wanted) != 0)
        json_reader_fail(r, ERR_KEY_INVALID, "alg is \"%s\", not \"%s\"", text, alg_wanted);
    if (json_read_string(r, "d", false, 2 * MODULUS_SIZE, &text))
        json_reader_fail(r, ERR_KEY_INVALID, "it has \"d\": a private key, which nobody may send");
}

enum err key_from_jwk(struct json_object *jwk, struct key **out, struct diag *diag)
{
    AUTO(key_free) struct key *key = NULL;
    const char *kty = "", *crv = "";
    enum key_type type = KEY_EC_P256;
    struct json_reader r;

    json_reader_init(&r, jwk, "jwk", diag);
    json_read_string(&r, "kty", true, 16, &kty);
    json_read_string(&r, "crv", false, 16, &crv);
    if (r.err == ERR_OK && !find_form(kty, crv, &type))
        json_reader_fail(&r, ERR_KEY_INVALID,
                         "kty \"%s\" with crv \"%s\"; EC P-256, RSA and Ed25519 are accepted", kty,
                         crv);
    EVP_PKEY *pkey = r.err == ERR_OK ? forms[type].read(&r) : NULL;
    if (json_reader_end_open(&r) != ERR_OK) {
        EVP_PKEY_free(pkey);
        return ERR_KEY_INVALID;
    }
    if (!pkey)
        return crypto_fail(diag, ERR_KEY_INVALID, "jwk: the key is not valid");
    enum err e = key_wrap(pkey, false, &key, diag);
    if (e != ERR_OK)
        return e;
    check_purpose(&r, key_alg(key));
    if (json_reader_end_open(&r) != ERR_OK)
        return ERR_KEY_INVALID;
    *out = TAKE(key);
    return ERR_OK;
}
