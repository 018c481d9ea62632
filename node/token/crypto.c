#include "token/crypto.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <pthread.h>

#include "token/key.h"

DEFINE_AUTO(EVP_KDF *, EVP_KDF_free)
DEFINE_AUTO(EVP_KDF_CTX *, EVP_KDF_CTX_free)

/* OSSL_PARAM wants what it only reads to be writable. */
static char digest_name[] = "SHA2-256";

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t thread_key;
static EVP_MD *sha256_method; /* lives as long as the process */
static EVP_MAC *hmac_method;

static void thread_free(void *value)
{
    struct crypto_thread *thread = value;

    EVP_MD_CTX_free(thread->digest);
    EVP_MAC_CTX_free(thread->mac);
    EVP_PKEY_CTX_free(thread->signer);
    mem_free(thread);
}

static void fetch(void)
{
    sha256_method = EVP_MD_fetch(NULL, digest_name, NULL);
    hmac_method = EVP_MAC_fetch(NULL, "HMAC", NULL);
    must(sha256_method && hmac_method);
    must(pthread_key_create(&thread_key, thread_free) == 0);
}

static struct crypto_thread *thread_new(void)
{
    struct crypto_thread *thread = mem_calloc(1, sizeof *thread);
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest_name, 0),
        OSSL_PARAM_construct_end(),
    };

    thread->digest = EVP_MD_CTX_new();
    thread->mac = EVP_MAC_CTX_new(hmac_method);
    must(thread->digest && thread->mac);
    must(EVP_MAC_CTX_set_params(thread->mac, params));
    must(pthread_setspecific(thread_key, thread) == 0);
    return thread;
}

struct crypto_thread *crypto_thread(void)
{
    must(pthread_once(&once, fetch) == 0);
    struct crypto_thread *thread = pthread_getspecific(thread_key);
    return thread ? thread : thread_new();
}

const EVP_MD *crypto_sha256(void)
{
    must(pthread_once(&once, fetch) == 0);
    return sha256_method;
}

enum err crypto_fail(struct diag *diag, enum err e, const char *what)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());

    diag_set(diag, e, "%s%s%s", what, reason ? ": " : "", reason ? reason : "");
    ERR_clear_error();
    return e;
}

void crypto_hkdf(const void *secret, size_t size, const char *info, uint8_t out[32])
{
    AUTO(EVP_KDF_free) EVP_KDF *method = EVP_KDF_fetch(NULL, "HKDF", NULL);
    AUTO(EVP_KDF_CTX_free) EVP_KDF_CTX *context = method ? EVP_KDF_CTX_new(method) : NULL;
    AUTO(mem_free) char *label = mem_strdup(info);
    char *key = mem_memdup(secret, size);
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest_name, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, key, size),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, label, strlen(label)),
        OSSL_PARAM_construct_end(),
    };

    must(context && EVP_KDF_derive(context, out, 32, params) == 1);
    OPENSSL_cleanse(key, size);
    mem_free(key);
}

void sha256(const void *bytes, size_t size, uint8_t out[32])
{
    EVP_MD_CTX *context = crypto_thread()->digest;

    must(EVP_DigestInit_ex2(context, crypto_sha256(), NULL));
    must(EVP_DigestUpdate(context, bytes, size));
    must(EVP_DigestFinal_ex(context, out, NULL));
}

void hmac_sha256(const uint8_t key[32], const void *bytes, size_t size, uint8_t out[32])
{
    EVP_MAC_CTX *context = crypto_thread()->mac;
    size_t length;

    must(EVP_MAC_init(context, key, 32, NULL));
    must(EVP_MAC_update(context, bytes, size));
    must(EVP_MAC_final(context, out, &length, 32) && length == 32);
}

bool secret_equal(const void *a, const void *b, size_t size)
{
    return CRYPTO_memcmp(a, b, size) == 0;
}
