/* Is this text one JSON value, exactly as RFC 8259 has it? json-c answers that too leniently even
 * with JSON_TOKENER_STRICT (version 0.16 takes NaN, Infinity, "1.", control characters in strings,
 * lone surrogates, overlong UTF-8, a NUL as the end, and silently drops all but the last of two
 * equal members), so json_parse() lets json-c see only what passed here. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/must.h"

struct json_scan {
    const char *begin, *at, *end; /* where the scan stands, after a failure: what is wrong */
    const char *wrong;            /* why it failed; a literal */
    int depth;                    /* of arrays and objects, at most JSON_DEPTH_MAX */
    size_t members;               /* of all objects, counted as written */
};

bool json_scan(struct json_scan *scan, const char *text, size_t length) MUST_USE;
