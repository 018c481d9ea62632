/* The inside of struct key, for the files that make, sign with and write keys. */
#pragma once

#include <openssl/bn.h>

#include "token/crypto.h"
#include "token/key.h"

#define KEY_FILE_MAX          (64 << 10) /* bytes of a PEM file */
#define RSA_BITS_MIN          2048
#define RSA_BITS_MAX          8192 /* = 8 * KEY_SIGNATURE_MAX */
#define RSA_EXPONENT_BITS_MAX 64

DEFINE_AUTO(BIGNUM *, BN_free)

struct key {
    EVP_PKEY *pkey;
    uint64_t serial; /* never the same for two keys of this process */
    enum key_type type;
    bool is_private;
    char thumbprint[KEY_THUMBPRINT_SIZE];
};

/* Checks type, size and curve, and makes the thumbprint. Takes ownership of pkey, also on failure.
 * ERR_KEY_INVALID. */
enum err key_wrap(EVP_PKEY *pkey, bool is_private, struct key **out, struct diag *diag) MUST_USE;

/* The members that identify the public key, as the JSON text whose hash is the thumbprint (RFC
 * 7638). */
void jwk_append_canonical(enum key_type type, EVP_PKEY *pkey, struct buf *out);
