/* The public keys of a JWK set (RFC 7517). */
#pragma once

#include "base/json.h"
#include "token/key.h"

#define KEYSET_MAX 8

struct keyset {
    struct key *keys[KEYSET_MAX];
    size_t count;
};

/* Adds the keys of {"keys":[…]} to a zeroed set. Those of a type we do not know are passed over;
 * if none is left: ERR_KEY_INVALID. The caller gives the set to keyset_fini() in any case. */
enum err keyset_read(struct json_object *jwks, struct keyset *out, struct diag *diag) MUST_USE;
enum err keyset_parse(const char *jwks, size_t length, struct keyset *out,
                      struct diag *diag) MUST_USE;

void keyset_fini(struct keyset *set);
DEFINE_AUTO_VALUE(struct keyset, keyset_fini)

/* As the token functions take it. */
static inline const struct key *const *keyset_keys(const struct keyset *set)
{
    return (const struct key *const *)set->keys;
}

/* NULL if none has the thumbprint. */
const struct key *keyset_find(const struct keyset *set, const char *thumbprint);
