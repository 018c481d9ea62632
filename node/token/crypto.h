/* What all of token/ shares of OpenSSL: the algorithms, fetched once, and contexts that are dear to
 * make, one set a thread, so that no lock and hardly an allocation stands in the way of a
 * signature. */
#pragma once

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/must.h"

DEFINE_AUTO(EVP_PKEY *, EVP_PKEY_free)
DEFINE_AUTO(EVP_PKEY_CTX *, EVP_PKEY_CTX_free)
DEFINE_AUTO(EVP_MD_CTX *, EVP_MD_CTX_free)
DEFINE_AUTO(BIO *, BIO_free_all)

/* Of one thread; freed when it ends. */
struct crypto_thread {
    EVP_MD_CTX *digest;
    EVP_MAC_CTX *mac;       /* HMAC with SHA-256 */
    EVP_PKEY_CTX *signer;   /* ready to sign with the key last used here; NULL: none yet */
    uint64_t signer_serial; /* of that key (struct key) */
};

struct crypto_thread *crypto_thread(void);
const EVP_MD *crypto_sha256(void);

/* diag: what, and OpenSSL's own reason. Empties the thread's error queue, which TLS connections of
 * the same thread would otherwise take for their own failure. Returns e. */
enum err crypto_fail(struct diag *diag, enum err e, const char *what);

/* RFC 5869 with SHA-256, no salt. */
void crypto_hkdf(const void *secret, size_t size, const char *info, uint8_t out[32]);
