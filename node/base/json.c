#include "base/json.h"

#include "base/json_scan.h"

DEFINE_AUTO(struct json_tokener *, json_tokener_free)

/* The members that are there, of all objects. Nesting is bounded by the scan before. */
static size_t count_members(struct json_object *value)
{
    size_t count = 0;

    if (json_object_is_type(value, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(value); i++)
            count += count_members(json_object_array_get_idx(value, i));
    } else if (json_object_is_type(value, json_type_object)) {
        struct json_object_iterator at = json_object_iter_begin(value);
        struct json_object_iterator end = json_object_iter_end(value);
        for (; !json_object_iter_equal(&at, &end); json_object_iter_next(&at))
            count += 1 + count_members(json_object_iter_peek_value(&at));
    }
    return count;
}

/* The tree of a text that json_scan() has approved. */
static enum err build(const char *text, size_t length, struct json_object **out, struct diag *diag)
{
    AUTO(json_tokener_free) struct json_tokener *tokener = json_tokener_new_ex(JSON_DEPTH_MAX + 1);

    must(tokener);
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    struct json_object *value = json_tokener_parse_ex(tokener, text, (int)length);
    if (json_tokener_get_error(tokener) == json_tokener_continue) /* a number: it could go on */
        value = json_tokener_parse_ex(tokener, "", 1);
    enum json_tokener_error error = json_tokener_get_error(tokener);
    if (error != json_tokener_success)
        return diag_set(diag, ERR_BAD_JSON, "JSON: %s", json_tokener_error_desc(error));
    *out = value;
    return ERR_OK;
}

enum err json_parse(const char *text, size_t length, struct json_object **out, struct diag *diag)
{
    AUTO(json_object_put) struct json_object *value = NULL;
    struct json_scan scan;

    if (length > JSON_SIZE_MAX)
        return diag_set(diag, ERR_BAD_JSON, "JSON: %zu bytes, at most %d are read", length,
                        JSON_SIZE_MAX);
    if (!json_scan(&scan, text, length))
        return diag_set(diag, ERR_BAD_JSON, "JSON, byte %zu: %s", (size_t)(scan.at - scan.begin),
                        scan.wrong);
    enum err e = build(text, length, &value, diag);
    if (e != ERR_OK)
        return e;
    if (count_members(value) != scan.members)
        return diag_set(diag, ERR_BAD_JSON, "JSON: an object has the same member twice");
    *out = TAKE(value);
    return ERR_OK;
}
