/* A forward scanner over JSON text, for pages: a million rows must pass within a minute, and a tree
 * of objects for each number and UUID would cost more than merging it. Every function takes one
 * token or value and returns false, with the reason in `wrong`, if it is not exactly that; what no
 * reader asks for is validated by json_scan() and stepped over. Never reads beyond `end`. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/must.h"
#include "base/uuid.h"

struct wire_scan {
    const char *begin, *at, *end;
    const char *wrong; /* why it failed; not owned */
};

/* Always false. */
static inline bool wire_fail(struct wire_scan *s, const char *wrong)
{
    s->wrong = wrong;
    return false;
}

/* True, and stepped over, if this character comes next (after white space). Never sets `wrong`. */
bool wire_try(struct wire_scan *s, char c);
bool wire_take(struct wire_scan *s, char c) MUST_USE; /* the same, but a failure if it does not */
bool wire_end(struct wire_scan *s) MUST_USE;          /* nothing but white space is left */
bool wire_try_null(struct wire_scan *s);

/* "name": – borrowed from the text. Names with escapes are refused. */
bool wire_name(struct wire_scan *s, const char **name, size_t *length) MUST_USE;
bool wire_int(struct wire_scan *s, int64_t min, int64_t max, int64_t *out) MUST_USE;
bool wire_bool(struct wire_scan *s, bool *out) MUST_USE;
bool wire_uuid(struct wire_scan *s, struct uuid *out) MUST_USE;
/* A string without escapes; borrowed from the text, not terminated. */
bool wire_plain(struct wire_scan *s, size_t length_max, const char **out, size_t *length) MUST_USE;
/* Any string, unescaped into out, which has room for length_max + 1 bytes, and terminated. NUL
 * within it is refused. UTF-8 is not validated. */
bool wire_string(struct wire_scan *s, char *out, size_t length_max, size_t *length) MUST_USE;
/* Steps over one valid value of any kind. */
bool wire_skip(struct wire_scan *s) MUST_USE;
