/* Query parameters of a request target. Pure. */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "http/route.h"

#define QUERY_PARAMS_MAX 16
#define QUERY_SIZE_MAX   8192

struct query_param {
    const char *name, *value; /* decoded, NUL-terminated, inside the caller's bytes */
};

struct query_string {
    struct query_param params[QUERY_PARAMS_MAX];
    size_t count;
};

/* Decodes "a=1&b=2" into bytes, which must have room for length + 1. Each name must be one that the
 * route takes: ERR_UNKNOWN_FIELD. ERR_BAD_REQUEST: malformed escapes, an empty name, too long. A
 * name that stands twice: ERR_BAD_FIELD. "a" is the same as "a=". */
enum err query_string_parse(const char *text, size_t length, const struct route *route, char *bytes,
                            struct query_string *out, struct diag *diag) MUST_USE;

/* NULL: not given. */
const char *query_string_get(const struct query_string *query, const char *name);
