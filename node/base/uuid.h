/* UUIDs (RFC 9562) as 16 bytes; text is always the 36 lower-case characters. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/must.h"

#define UUID_TEXT_SIZE 37 /* with the terminating NUL */

struct uuid {
    uint8_t bytes[16];
};

/* True and *out set if text is a UUID in the 8-4-4-4-12 form, in either case. The nil UUID is not
 * taken: here it always means "nobody wrote one". */
bool uuid_parse(const char *text, size_t length, struct uuid *out) MUST_USE;
void uuid_format(const struct uuid *uuid, char out[UUID_TEXT_SIZE]);

/* A random UUID (version 4) from the system's generator. */
struct uuid uuid_random(void);

static inline int uuid_compare(const struct uuid *a, const struct uuid *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes);
}

static inline bool uuid_equal(const struct uuid *a, const struct uuid *b)
{
    return uuid_compare(a, b) == 0;
}

static inline bool uuid_is_nil(const struct uuid *uuid)
{
    static const struct uuid nil;
    return uuid_equal(uuid, &nil);
}
