/* The inside of struct instance, for the files that make and check its tokens. */
#pragma once

#include "token/instance.h"

/* What every token of the instance begins with. */
#define CLAIM_ISS "{\"iss\":\"%s\""

struct instance {
    struct uuid ref;
    char ref_text[UUID_TEXT_SIZE];
    struct key *key;
    char *jwks;
    struct buf lease_header; /* encoded once: leases are signed by the thousand */
    /* Derived from the key, one a use: no value made for one use means anything in another. */
    uint8_t origin_key[32], token_key[32], code_key[32], session_key[32];
};

/* How a kind of token is protected. Fixed by its typ, never chosen by the token. */
enum seal {
    SEAL_SIGNATURE, /* with the instance key: anyone can verify it */
    SEAL_MAC,       /* under a derived key: only the pair reads it, at no signature's cost */
};

/* Verifies one of our own tokens: seal, typ, iss. ERR_TOKEN_INVALID; ERR_TOKEN_PURPOSE if it is
 * ours but of another typ; ERR_TOKEN_INSTANCE if it says that it is another instance's. */
enum err instance_verify(const struct instance *instance, enum seal seal, const char *typ,
                         const char *text, size_t length, struct jws *out,
                         struct diag *diag) MUST_USE;
