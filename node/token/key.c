#include "token/key.h"

#include <openssl/core_names.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdatomic.h>

#include "base/base64url.h"
#include "token/key_internal.h"

/* The one table of what is accepted. */
static const struct {
    const char *name; /* OpenSSL's */
    const char *alg;  /* RFC 7518 §3.1, RFC 8037 §3.1 */
} kinds[KEY_TYPES] = {
    [KEY_EC_P256] = { "EC", "ES256" },
    [KEY_RSA] = { "RSA", "RS256" },
    [KEY_ED25519] = { "ED25519", "EdDSA" },
};

static bool find_type(const EVP_PKEY *pkey, enum key_type *out)
{
    for (enum key_type type = 0; type < KEY_TYPES; type++) {
        if (EVP_PKEY_is_a(pkey, kinds[type].name)) {
            *out = type;
            return true;
        }
    }
    return false;
}

/* P-256 by name: curve parameters written out in the key could be anything (CVE-2020-0601). */
static enum err check_curve(EVP_PKEY *pkey, struct diag *diag)
{
    char group[80] = "";
    int spelt_out = 0;

    EVP_PKEY_get_int_param(pkey, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS, &spelt_out);
    if (spelt_out || !EVP_PKEY_get_group_name(pkey, group, sizeof group, NULL))
        return crypto_fail(diag, ERR_KEY_INVALID, "the EC key does not name its curve");
    if (strcmp(group, "prime256v1") != 0)
        return diag_set(diag, ERR_KEY_INVALID, "an EC key on %s; only P-256 is accepted", group);
    return ERR_OK;
}

/* By hand: OpenSSL's own check takes random samples of the modulus, so that it would take a strange
 * key one day and refuse it the next. With e = 1 every message is its own signature; a large e
 * costs time. */
static enum err check_rsa(EVP_PKEY *pkey, struct diag *diag)
{
    AUTO(BN_free) BIGNUM *n = NULL;
    AUTO(BN_free) BIGNUM *e = NULL;
    int bits = EVP_PKEY_get_bits(pkey);

    if (bits < RSA_BITS_MIN || bits > RSA_BITS_MAX)
        return diag_set(diag, ERR_KEY_INVALID, "an RSA key of %d bits; %d to %d are accepted", bits,
                        RSA_BITS_MIN, RSA_BITS_MAX);
    must(EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_N, &n));
    must(EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_E, &e));
    if (!BN_is_odd(n) || !BN_is_odd(e) || BN_is_one(e) || BN_num_bits(e) > RSA_EXPONENT_BITS_MAX)
        return diag_set(
            diag, ERR_KEY_INVALID,
            "the RSA key is not valid: n must be odd, e odd, from 3, of at most %d bits",
            RSA_EXPONENT_BITS_MAX);
    return ERR_OK;
}

static enum err check_public(EVP_PKEY *pkey, enum key_type type, struct diag *diag)
{
    if (type == KEY_RSA)
        return check_rsa(pkey, diag);
    if (type == KEY_EC_P256) {
        enum err e = check_curve(pkey, diag);
        if (e != ERR_OK)
            return e;
    }
    AUTO(EVP_PKEY_CTX_free) EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL);
    if (!context || EVP_PKEY_public_check(context) != 1)
        return crypto_fail(diag, ERR_KEY_INVALID, "the public key is not valid");
    return ERR_OK;
}

/* A private key whose public half is another one's would sign what nobody can verify. */
static enum err check_private(const struct key *key, struct diag *diag)
{
    static const char probe[] = "twinlease key check";
    uint8_t signature[KEY_SIGNATURE_MAX];
    size_t size;

    if (key_sign(key, probe, sizeof probe, signature, &size) != ERR_OK ||
        !key_verify(key, probe, sizeof probe, signature, size))
        return diag_set(diag, ERR_KEY_INVALID, "the private and the public half do not fit");
    return ERR_OK;
}

static void make_thumbprint(struct key *key)
{
    AUTO(buf_fini) struct buf canonical = { .max = 4 * KEY_SIGNATURE_MAX };
    AUTO(buf_fini) struct buf text = { .max = KEY_THUMBPRINT_SIZE - 1 };
    uint8_t hash[32];

    jwk_append_canonical(key->type, key->pkey, &canonical);
    must(buf_ok(&canonical));
    sha256(canonical.bytes, canonical.length, hash);
    base64url_append(&text, hash, sizeof hash);
    must(text.length == KEY_THUMBPRINT_SIZE - 1);
    memcpy(key->thumbprint, text.bytes, KEY_THUMBPRINT_SIZE);
}

/* A file may spell an EC key with a compressed public half or with none. One form for all, because
 * key_derive() goes over it: converting the file must not change what is derived. */
static void normalise(EVP_PKEY *pkey)
{
    must(EVP_PKEY_set_utf8_string_param(pkey, OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT,
                                        OSSL_PKEY_EC_POINT_CONVERSION_FORMAT_UNCOMPRESSED));
    must(EVP_PKEY_set_int_param(pkey, OSSL_PKEY_PARAM_EC_INCLUDE_PUBLIC, 1));
}

enum err key_wrap(EVP_PKEY *pkey, bool is_private, struct key **out, struct diag *diag)
{
    static _Atomic uint64_t serials = 1;
    AUTO(key_free) struct key *key = mem_calloc(1, sizeof *key);
    enum err e;

    *key = (struct key){ .pkey = pkey, .serial = serials++, .is_private = is_private };
    if (!find_type(pkey, &key->type))
        return diag_set(diag, ERR_KEY_INVALID,
                        "a key of type %s; EC P-256, RSA and Ed25519 are accepted",
                        EVP_PKEY_get0_type_name(pkey));
    if ((e = check_public(pkey, key->type, diag)) != ERR_OK)
        return e;
    if (is_private && (e = check_private(key, diag)) != ERR_OK)
        return e;
    if (key->type == KEY_EC_P256)
        normalise(pkey);
    make_thumbprint(key);
    *out = TAKE(key);
    return ERR_OK;
}

/* Without this OpenSSL would ask on the terminal. */
static int refuse_password(char *buffer, int size, int writing, void *data)
{
    (void)buffer, (void)size, (void)writing, (void)data;
    return -1;
}

enum err key_parse_private(const char *pem, size_t size, struct key **out, struct diag *diag)
{
    if (size > KEY_FILE_MAX)
        return diag_set(diag, ERR_KEY_INVALID, "a private key of %zu bytes; at most %d are read",
                        size, KEY_FILE_MAX);
    AUTO(BIO_free_all) BIO *bio = BIO_new_mem_buf(pem, (int)size);
    must(bio);
    EVP_PKEY *pkey = PEM_read_bio_PrivateKey(bio, NULL, refuse_password, NULL);
    if (!pkey)
        return crypto_fail(diag, ERR_KEY_INVALID, "no private key in PEM form without a password");
    return key_wrap(pkey, true, out, diag);
}

/* PEM_read_bio gives three blocks of memory. */
struct pem_block {
    char *name, *header;
    unsigned char *bytes;
    long size;
};

static void pem_block_fini(struct pem_block *block)
{
    OPENSSL_free(block->name);
    OPENSSL_free(block->header);
    OPENSSL_clear_free(block->bytes, (size_t)block->size);
}
DEFINE_AUTO_VALUE(struct pem_block, pem_block_fini)

enum err key_parse_public(const char *pem, size_t size, struct key **out, size_t *used,
                          struct diag *diag)
{
    AUTO(pem_block_fini) struct pem_block block = { 0 };

    if (size > KEY_FILE_MAX)
        return diag_set(diag, ERR_KEY_INVALID, "a public key of %zu bytes; at most %d are read",
                        size, KEY_FILE_MAX);
    AUTO(BIO_free_all) BIO *bio = BIO_new_mem_buf(pem, (int)size);
    must(bio);
    if (!PEM_read_bio(bio, &block.name, &block.header, &block.bytes, &block.size))
        return crypto_fail(diag, ERR_KEY_INVALID, "no public key in PEM form");
    if (strcmp(block.name, "PUBLIC KEY") != 0)
        return diag_set(diag, ERR_KEY_INVALID, "a PEM block \"%.40s\" where a PUBLIC KEY is wanted",
                        block.name);
    const unsigned char *at = block.bytes;
    AUTO(EVP_PKEY_free) EVP_PKEY *pkey = d2i_PUBKEY(NULL, &at, block.size);
    if (!pkey || at != block.bytes + block.size)
        return crypto_fail(diag, ERR_KEY_INVALID, "the PUBLIC KEY block cannot be read");
    size_t left = BIO_ctrl_pending(bio);
    must(left <= size);
    enum err e = key_wrap(TAKE(pkey), false, out, diag);
    if (e == ERR_OK)
        *used = size - left;
    return e;
}

struct key *key_generate(enum key_type type)
{
    EVP_PKEY *pkey = type == KEY_EC_P256 ? EVP_EC_gen("P-256")
                     : type == KEY_RSA   ? EVP_RSA_gen(3072)
                                         : EVP_PKEY_Q_keygen(NULL, NULL, kinds[type].name);
    struct key *key = NULL;
    struct diag diag;

    must(pkey);
    must(key_wrap(pkey, true, &key, &diag) == ERR_OK);
    return key;
}

struct key *key_free(struct key *key)
{
    if (key) {
        EVP_PKEY_free(key->pkey);
        mem_free(key);
    }
    return NULL;
}

enum key_type key_type(const struct key *key)
{
    return key->type;
}

bool key_is_private(const struct key *key)
{
    return key->is_private;
}

const char *key_alg(const struct key *key)
{
    return kinds[key->type].alg;
}

const char *key_thumbprint(const struct key *key)
{
    return key->thumbprint;
}

bool key_same(const struct key *a, const struct key *b)
{
    return strcmp(a->thumbprint, b->thumbprint) == 0;
}

void key_derive(const struct key *key, const char *info, uint8_t out[32])
{
    unsigned char *der = NULL;

    must(key->is_private);
    int size = i2d_PrivateKey(key->pkey, &der);
    must(size > 0);
    crypto_hkdf(der, (size_t)size, info, out);
    OPENSSL_clear_free(der, (size_t)size);
}
