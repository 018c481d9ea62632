/* Strict JSON (RFC 8259) on json-c: UTF-8 is validated, nesting is bounded, an object that has the
 * same member twice is refused, and nothing may follow the value.
 *
 * struct json_reader reads one object field by field, remembers the first thing that is wrong, and
 * json_reader_end() refuses members that nobody asked for: a misspelt "count" must not mean 1. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/uuid.h"

#define JSON_DEPTH_MAX 16         /* arrays and objects within each other */
#define JSON_SIZE_MAX  (64 << 20) /* bytes of any text that is looked at */

DEFINE_AUTO(struct json_object *, json_object_put)

/* The caller owns *out (json_object_put). ERR_BAD_JSON with the place in diag. */
enum err json_parse(const char *text, size_t length, struct json_object **out,
                    struct diag *diag) MUST_USE;

struct json_reader {
    struct json_object *object; /* borrowed */
    const char *where;          /* for messages: "lease_request_list[0]" or "" */
    struct diag *diag;
    enum err err;          /* first failure; later reads do nothing */
    const char *known[24]; /* members asked for */
    size_t known_count;
};

/* ERR_BAD_FIELD at once if value is not an object. */
void json_reader_init(struct json_reader *r, struct json_object *value, const char *where,
                      struct diag *diag);
/* Marks the reader as failed with this error, unless it failed before. */
void json_reader_fail(struct json_reader *r, enum err e, const char *format, ...) PRINTF(3, 4);
/* ERR_OK only if every read was fine and no unknown member is left. */
enum err json_reader_end(struct json_reader *r) MUST_USE;
/* The same, but members nobody asked for are let through: formats that may grow (signed documents).
 */
enum err json_reader_end_open(struct json_reader *r) MUST_USE;

/* Each returns true if the member is there and right. A missing one is an error (ERR_MISSING_FIELD)
 * only if `required`. JSON null counts as missing. */
bool json_read_string(struct json_reader *r, const char *name, bool required, size_t length_max,
                      const char **out); /* borrowed; NUL inside is refused */
bool json_read_uuid(struct json_reader *r, const char *name, bool required, struct uuid *out);
bool json_read_int(struct json_reader *r, const char *name, bool required, int64_t min, int64_t max,
                   int64_t *out); /* integers only: 1.0 and "1" are refused */
bool json_read_number(struct json_reader *r, const char *name, bool required, double min,
                      double max, double *out);
bool json_read_bool(struct json_reader *r, const char *name, bool required, bool *out);
bool json_read_object(struct json_reader *r, const char *name, bool required,
                      struct json_object **out); /* borrowed */
bool json_read_array(struct json_reader *r, const char *name, bool required, size_t count_max,
                     struct json_object **out); /* borrowed */
