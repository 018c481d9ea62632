#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/json.h"

void json_reader_init(struct json_reader *r, struct json_object *value, const char *where,
                      struct diag *diag)
{
    *r = (struct json_reader){ .object = value, .where = where, .diag = diag };
    if (!json_object_is_type(value, json_type_object)) {
        r->object = NULL;
        r->err = diag_set(diag, ERR_BAD_FIELD, "%s must be an object",
                          where[0] ? where : "the JSON value");
    }
}

void json_reader_fail(struct json_reader *r, enum err e, const char *format, ...)
{
    char text[sizeof r->diag->text];
    va_list args;

    must(e != ERR_OK);
    if (r->err != ERR_OK)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    r->err = diag_set(r->diag, e, "%s%s%s", r->where, r->where[0] ? ": " : "", text);
}

/* "where.name: what" */
static void fail_member(struct json_reader *r, enum err e, const char *name, const char *what)
{
    r->err = diag_set(r->diag, e, "%s%s%s %s", r->where, r->where[0] ? "." : "", name, what);
}

/* The member, noted as known; NULL if it is not there, which is an error only if required. */
static struct json_object *find(struct json_reader *r, const char *name, bool required)
{
    struct json_object *value = NULL;

    if (r->err != ERR_OK)
        return NULL;
    must(r->known_count < ARRAY_SIZE(r->known));
    r->known[r->known_count++] = name;
    json_object_object_get_ex(r->object, name, &value);
    if (!value && required)
        fail_member(r, ERR_MISSING_FIELD, name, "is missing");
    return value;
}

/* The member if it is of that type. */
static struct json_object *find_type(struct json_reader *r, const char *name, bool required,
                                     enum json_type type, const char *expected)
{
    struct json_object *value = find(r, name, required);

    if (value && !json_object_is_type(value, type)) {
        fail_member(r, ERR_BAD_FIELD, name, expected);
        return NULL;
    }
    return value;
}

static bool is_known(const struct json_reader *r, const char *name)
{
    for (size_t i = 0; i < r->known_count; i++) {
        if (strcmp(r->known[i], name) == 0)
            return true;
    }
    return false;
}

enum err json_reader_end(struct json_reader *r)
{
    if (r->err != ERR_OK)
        return r->err;
    struct json_object_iterator at = json_object_iter_begin(r->object);
    struct json_object_iterator end = json_object_iter_end(r->object);
    for (; !json_object_iter_equal(&at, &end); json_object_iter_next(&at)) {
        const char *name = json_object_iter_peek_name(&at);
        if (!is_known(r, name)) {
            fail_member(r, ERR_UNKNOWN_FIELD, name, "is not known here");
            break;
        }
    }
    return r->err;
}

enum err json_reader_end_open(struct json_reader *r)
{
    return r->err;
}

bool json_read_string(struct json_reader *r, const char *name, bool required, size_t length_max,
                      const char **out)
{
    struct json_object *value = find_type(r, name, required, json_type_string, "must be a string");

    if (!value)
        return false;
    const char *text = json_object_get_string(value);
    size_t length = (size_t)json_object_get_string_len(value);
    if (length > length_max || strlen(text) != length) {
        char what[80];
        snprintf(what, sizeof what, "must be at most %zu bytes, without a NUL", length_max);
        fail_member(r, ERR_BAD_FIELD, name, what);
        return false;
    }
    *out = text;
    return true;
}

bool json_read_uuid(struct json_reader *r, const char *name, bool required, struct uuid *out)
{
    struct json_object *value = find_type(r, name, required, json_type_string, "must be a UUID");

    if (!value)
        return false;
    if (!uuid_parse(json_object_get_string(value), (size_t)json_object_get_string_len(value),
                    out)) {
        fail_member(r, ERR_BAD_FIELD, name, "must be a UUID (8-4-4-4-12), not the nil one");
        return false;
    }
    return true;
}

/* False if json-c could not hold the integer: it keeps UINT64_MAX or INT64_MIN instead, so neither
 * of the two is believed. */
static bool exact_int(struct json_object *value, int64_t *out)
{
    if (!json_object_is_type(value, json_type_int))
        return false;
    int64_t number = json_object_get_int64(value);
    if (number == INT64_MIN || json_object_get_uint64(value) > INT64_MAX)
        return false;
    *out = number;
    return true;
}

bool json_read_int(struct json_reader *r, const char *name, bool required, int64_t min, int64_t max,
                   int64_t *out)
{
    struct json_object *value = find(r, name, required);
    int64_t number = 0;

    if (!value)
        return false;
    if (!exact_int(value, &number) || number < min || number > max) {
        char what[80];
        snprintf(what, sizeof what, "must be an integer from %jd to %jd", (intmax_t)min,
                 (intmax_t)max);
        fail_member(r, ERR_BAD_FIELD, name, what);
        return false;
    }
    *out = number;
    return true;
}

bool json_read_number(struct json_reader *r, const char *name, bool required, double min,
                      double max, double *out)
{
    struct json_object *value = find(r, name, required);

    if (!value)
        return false;
    bool is_number =
        json_object_is_type(value, json_type_int) || json_object_is_type(value, json_type_double);
    double number = is_number ? json_object_get_double(value) : NAN;
    if (!isfinite(number) || number < min || number > max) {
        char what[80];
        snprintf(what, sizeof what, "must be a number from %g to %g", min, max);
        fail_member(r, ERR_BAD_FIELD, name, what);
        return false;
    }
    *out = number;
    return true;
}

bool json_read_bool(struct json_reader *r, const char *name, bool required, bool *out)
{
    struct json_object *value =
        find_type(r, name, required, json_type_boolean, "must be true or false");

    if (!value)
        return false;
    *out = json_object_get_boolean(value);
    return true;
}

bool json_read_object(struct json_reader *r, const char *name, bool required,
                      struct json_object **out)
{
    struct json_object *value = find_type(r, name, required, json_type_object, "must be an object");

    if (!value)
        return false;
    *out = value;
    return true;
}

bool json_read_array(struct json_reader *r, const char *name, bool required, size_t count_max,
                     struct json_object **out)
{
    struct json_object *value = find_type(r, name, required, json_type_array, "must be an array");

    if (!value)
        return false;
    if (json_object_array_length(value) > count_max) {
        char what[80];
        snprintf(what, sizeof what, "must have at most %zu items", count_max);
        fail_member(r, ERR_TOO_MANY_ITEMS, name, what);
        return false;
    }
    *out = value;
    return true;
}
