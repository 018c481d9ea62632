/* Raw JWS signatures (RFC 7518 §3.3 and §3.4, RFC 8037 §3.1). */
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/rsa.h>

#include "token/key_internal.h"

#define P256_SIZE    32 /* of r and of s */
#define DER_SIZE_MAX 72 /* of an ECDSA-Sig-Value with two such numbers */
#define DIGEST_SIZE  32

DEFINE_AUTO(ECDSA_SIG *, ECDSA_SIG_free)

static bool set_scheme(const struct key *key, EVP_PKEY_CTX *context)
{
    if (key->type == KEY_RSA && EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) != 1)
        return false;
    return EVP_PKEY_CTX_set_signature_md(context, crypto_sha256()) == 1;
}

/* This thread's context for signing digests with the key: made once, as that costs as much as half
 * a signature. Serials tell keys apart, because a new key may have an old one's address. */
static EVP_PKEY_CTX *signer(const struct key *key)
{
    struct crypto_thread *thread = crypto_thread();

    if (thread->signer && thread->signer_serial == key->serial)
        return thread->signer;
    AUTO(EVP_PKEY_CTX_free)
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key->pkey, NULL);
    if (!context || EVP_PKEY_sign_init(context) != 1 || !set_scheme(key, context))
        return NULL;
    EVP_PKEY_CTX_free(thread->signer);
    thread->signer = TAKE(context);
    thread->signer_serial = key->serial;
    return thread->signer;
}

/* From ASN.1 to r‖s. */
static bool unpack_ecdsa(const uint8_t *der, size_t size, uint8_t out[2 * P256_SIZE])
{
    AUTO(ECDSA_SIG_free) ECDSA_SIG *pair = d2i_ECDSA_SIG(NULL, &der, (long)size);

    return pair && BN_bn2binpad(ECDSA_SIG_get0_r(pair), out, P256_SIZE) == P256_SIZE &&
           BN_bn2binpad(ECDSA_SIG_get0_s(pair), out + P256_SIZE, P256_SIZE) == P256_SIZE;
}

static bool sign_digest(const struct key *key, const void *bytes, size_t size, uint8_t *out,
                        size_t *out_size)
{
    EVP_PKEY_CTX *context = signer(key);
    uint8_t digest[DIGEST_SIZE], der[DER_SIZE_MAX];
    size_t der_size = sizeof der;

    if (!context)
        return false;
    sha256(bytes, size, digest);
    if (key->type == KEY_RSA) {
        *out_size = KEY_SIGNATURE_MAX;
        return EVP_PKEY_sign(context, out, out_size, digest, sizeof digest) == 1;
    }
    *out_size = (size_t)2 * P256_SIZE;
    return EVP_PKEY_sign(context, der, &der_size, digest, sizeof digest) == 1 &&
           unpack_ecdsa(der, der_size, out);
}

/* Ed25519 takes the message itself, in one piece. */
static bool sign_message(const struct key *key, const void *bytes, size_t size, uint8_t *out,
                         size_t *out_size)
{
    AUTO(EVP_MD_CTX_free) EVP_MD_CTX *context = EVP_MD_CTX_new();

    *out_size = KEY_SIGNATURE_MAX;
    return context && EVP_DigestSignInit(context, NULL, NULL, NULL, key->pkey) == 1 &&
           EVP_DigestSign(context, out, out_size, bytes, size) == 1;
}

enum err key_sign(const struct key *key, const void *bytes, size_t size, uint8_t *out,
                  size_t *out_size)
{
    uint8_t signature[KEY_SIGNATURE_MAX];
    size_t signature_size;

    if (!key->is_private)
        return ERR_KEY_INVALID;
    bool done = key->type == KEY_ED25519
                    ? sign_message(key, bytes, size, signature, &signature_size)
                    : sign_digest(key, bytes, size, signature, &signature_size);
    if (!done)
        return crypto_fail(NULL, ERR_INTERNAL, "");
    memcpy(out, signature, signature_size);
    *out_size = signature_size;
    return ERR_OK;
}

/* From r‖s to ASN.1; 0 if r or s is zero (CVE-2022-21449). */
static int pack_ecdsa(const uint8_t *signature, unsigned char **der)
{
    AUTO(ECDSA_SIG_free) ECDSA_SIG *pair = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(signature, P256_SIZE, NULL);
    BIGNUM *s = BN_bin2bn(signature + P256_SIZE, P256_SIZE, NULL);

    must(pair && r && s && ECDSA_SIG_set0(pair, r, s)); /* pair owns r and s now */
    if (BN_is_zero(r) || BN_is_zero(s))
        return 0;
    return i2d_ECDSA_SIG(pair, der);
}

static bool verify_digest(const struct key *key, const void *bytes, size_t size,
                          const uint8_t *signature, size_t signature_size)
{
    AUTO(EVP_PKEY_CTX_free)
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key->pkey, NULL);
    uint8_t digest[DIGEST_SIZE];

    if (!context || EVP_PKEY_verify_init(context) != 1 || !set_scheme(key, context))
        return false;
    sha256(bytes, size, digest);
    return EVP_PKEY_verify(context, signature, signature_size, digest, sizeof digest) == 1;
}

static bool verify_ecdsa(const struct key *key, const void *bytes, size_t size,
                         const uint8_t *signature, size_t signature_size)
{
    uint8_t der[DER_SIZE_MAX];
    unsigned char *at = der;

    if (signature_size != (size_t)2 * P256_SIZE)
        return false;
    int der_size = pack_ecdsa(signature, &at);
    return der_size > 0 && verify_digest(key, bytes, size, der, (size_t)der_size);
}

static bool verify_message(const struct key *key, const void *bytes, size_t size,
                           const uint8_t *signature, size_t signature_size)
{
    AUTO(EVP_MD_CTX_free) EVP_MD_CTX *context = EVP_MD_CTX_new();

    return context && EVP_DigestVerifyInit(context, NULL, NULL, NULL, key->pkey) == 1 &&
           EVP_DigestVerify(context, signature, signature_size, bytes, size) == 1;
}

bool key_verify(const struct key *key, const void *bytes, size_t size, const uint8_t *signature,
                size_t signature_size)
{
    static bool (*const verify[KEY_TYPES])(const struct key *, const void *, size_t,
                                           const uint8_t *, size_t) = {
        [KEY_EC_P256] = verify_ecdsa,
        [KEY_RSA] = verify_digest,
        [KEY_ED25519] = verify_message,
    };

    if (verify[key->type](key, bytes, size, signature, signature_size))
        return true;
    crypto_fail(NULL, ERR_TOKEN_INVALID, "");
    return false;
}
