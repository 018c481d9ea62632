/* For the fuzzers of signed documents: a fixed key, and any bytes as a well signed payload. A
 * fuzzer does not find signatures, so without this it would never get past them. */
#pragma once

#include "../data/keys.h"
#include "token/instance.h"

#define NOW_MS INT64_C(1763716209123)

static inline struct key *fixed_key(void)
{
    struct key *key = NULL;

    must(key_parse_private(fixed_ed25519, sizeof fixed_ed25519 - 1, &key, NULL) == ERR_OK);
    return key;
}

/* The instance of the corpora: INSTANCE_REF's default and the fixed Ed25519 key. */
static inline const struct instance *fixed_instance(void)
{
    static struct instance *instance;
    static const char ref[] = "10000000-0000-4000-8000-000000000001";
    struct uuid uuid;

    if (!instance) {
        must(uuid_parse(ref, sizeof ref - 1, &uuid));
        instance = instance_new(&uuid, fixed_key());
    }
    return instance;
}

/* False if the payload is too long for a token. out is initialised here. */
static inline bool sign_payload(const char *typ, const uint8_t *data, size_t size, struct buf *out)
{
    buf_init(out, JWS_MAX);
    return jws_sign(instance_key(fixed_instance()), typ, (const char *)data, size, out) == ERR_OK;
}
