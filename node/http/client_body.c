#include "http/client_body.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "token/jws.h"
#include "token/publisher.h"

#define WHERE_SIZE 40

static void environment_read(struct json_reader *r, char **out)
{
    struct json_object *environment = NULL;

    if (!json_read_object(r, "environment", false, &environment))
        return;
    const char *text = json_object_to_json_string_ext(
        environment, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
    size_t size = strlen(text);
    if (size > ENVIRONMENT_MAX) {
        json_reader_fail(r, ERR_BAD_FIELD, "environment has %zu bytes; at most %d are allowed",
                         size, ENVIRONMENT_MAX);
        return;
    }
    *out = mem_memdup(text, size);
}

enum err enrol_body_read(struct json_object *body, struct enrol_body *out, struct diag *diag)
{
    struct enrol_body read = { .has_origin_ref = false };
    struct json_reader r;

    json_reader_init(&r, body, "", diag);
    read.has_origin_ref = json_read_uuid(&r, "candidate_origin_ref", false, &read.origin_ref);
    json_read_string(&r, "origin_secret", false, ORIGIN_SECRET_SIZE, &read.origin_secret);
    environment_read(&r, &read.environment);
    enum err e = json_reader_end(&r);
    if (e == ERR_OK && read.origin_secret && !read.has_origin_ref)
        e = diag_set(diag, ERR_MISSING_FIELD,
                     "origin_secret proves a known origin: candidate_origin_ref must name it");
    if (e == ERR_OK)
        *out = read;
    else
        mem_free(read.environment);
    return e;
}

enum err code_body_read(struct json_object *body, struct code_body *out, struct diag *diag)
{
    struct code_body read = { .origin_secret = NULL };
    struct json_reader r;

    json_reader_init(&r, body, "", diag);
    json_read_uuid(&r, "origin_ref", true, &read.origin_ref);
    json_read_string(&r, "origin_secret", true, ORIGIN_SECRET_SIZE, &read.origin_secret);
    if (json_read_string(&r, "code_challenge", true, 256, &read.code_challenge) &&
        strlen(read.code_challenge) != CODE_CHALLENGE_LENGTH)
        json_reader_fail(&r, ERR_BAD_FIELD,
                         "code_challenge must be the %d characters of base64url(SHA-256(verifier))",
                         CODE_CHALLENGE_LENGTH);
    enum err e = json_reader_end(&r);
    if (e == ERR_OK)
        *out = read;
    return e;
}

enum err token_body_read(struct json_object *body, struct token_body *out, struct diag *diag)
{
    struct token_body read = { .auth_code = NULL };
    struct json_reader r;

    json_reader_init(&r, body, "", diag);
    json_read_string(&r, "auth_code", true, JWS_MAX, &read.auth_code);
    json_read_string(&r, "code_verifier", true, 256, &read.code_verifier);
    enum err e = json_reader_end(&r);
    if (e == ERR_OK)
        *out = read;
    return e;
}

static void count_read(struct json_reader *r, int64_t *count)
{
    int64_t value = 0;

    if (!json_read_int(r, "count", false, INT64_MIN, INT64_MAX, &value))
        return;
    if (value < 1 || value > ENTITLEMENT_SEATS_MAX)
        json_reader_fail(r, ERR_COUNT_RANGE, "count is %" PRId64 "; 1 to %d are allowed", value,
                         ENTITLEMENT_SEATS_MAX);
    else
        *count = value;
}

static void duration_read(struct json_reader *r, int64_t *duration_ms)
{
    int64_t value = 0;

    if (!json_read_int(r, "duration_seconds", false, INT64_MIN, INT64_MAX, &value))
        return;
    if (value < 1 || value > LEASE_SECONDS_MAX)
        json_reader_fail(r, ERR_DURATION_RANGE,
                         "duration_seconds is %" PRId64 "; 1 to %d are allowed", value,
                         LEASE_SECONDS_MAX);
    else
        *duration_ms = value * 1000;
}

static void scope_read(struct json_reader *r, struct grant_item *item)
{
    const char *feature = NULL;
    bool by_scope = json_read_uuid(r, "scope_ref", false, &item->scope_ref);

    item->by_feature = json_read_string(r, "feature", false, FEATURE_NAME_MAX, &feature);
    if (by_scope && item->by_feature)
        json_reader_fail(r, ERR_BAD_FIELD, "one of scope_ref and feature is wanted, not both");
    if (!by_scope && !item->by_feature)
        json_reader_fail(r, ERR_MISSING_FIELD, "scope_ref or feature is missing");
    if (!item->by_feature)
        return;
    if (!feature_name_valid(feature))
        json_reader_fail(r, ERR_BAD_FIELD,
                         "feature must be a letter or digit and then letters, digits, . _ -");
    snprintf(item->feature, sizeof item->feature, "%s", feature);
}

static enum err item_read(struct json_object *value, size_t index, struct grant_item *item,
                          struct diag *diag)
{
    char where[WHERE_SIZE];
    struct json_reader r;

    snprintf(where, sizeof where, "lease_request_list[%zu]", index);
    json_reader_init(&r, value, where, diag);
    *item = (struct grant_item){ .count = 1 };
    scope_read(&r, item);
    count_read(&r, &item->count);
    duration_read(&r, &item->duration_ms);
    item->has_lease_ref = json_read_uuid(&r, "candidate_lease_ref", false, &item->lease_ref);
    return json_reader_end(&r);
}

static enum err scope_item_read(struct json_object *value, size_t index, struct grant_item *item,
                                struct diag *diag)
{
    const char *text =
        json_object_is_type(value, json_type_string) ? json_object_get_string(value) : NULL;

    *item = (struct grant_item){ .count = 1 };
    if (!text || !uuid_parse(text, (size_t)json_object_get_string_len(value), &item->scope_ref))
        return diag_set(diag, ERR_BAD_FIELD, "scope_ref_list[%zu] must be a UUID", index);
    return ERR_OK;
}

/* Finds which of the two lists there is. */
static enum err list_read(struct json_object *body, struct json_object **list, bool *scopes_only,
                          struct diag *diag)
{
    struct json_object *requests = NULL, *scopes = NULL;
    struct json_reader r;

    json_reader_init(&r, body, "", diag);
    json_read_array(&r, "lease_request_list", false, LEASE_ITEMS_MAX, &requests);
    json_read_array(&r, "scope_ref_list", false, LEASE_ITEMS_MAX, &scopes);
    if (requests && scopes)
        json_reader_fail(&r, ERR_BAD_FIELD,
                         "one of lease_request_list and scope_ref_list is wanted, not both");
    if (!requests && !scopes)
        json_reader_fail(&r, ERR_MISSING_FIELD, "lease_request_list or scope_ref_list is missing");
    *list = requests ? requests : scopes;
    *scopes_only = !requests;
    if (*list && json_object_array_length(*list) == 0)
        json_reader_fail(&r, ERR_BAD_FIELD, "%s must have 1 to %d items",
                         requests ? "lease_request_list" : "scope_ref_list", LEASE_ITEMS_MAX);
    return json_reader_end(&r);
}

enum err grant_body_read(struct json_object *body, struct grant_item **items, size_t *count,
                         struct diag *diag)
{
    struct json_object *list = NULL;
    bool scopes_only = false;

    enum err e = list_read(body, &list, &scopes_only, diag);
    if (e != ERR_OK)
        return e;
    size_t length = json_object_array_length(list);
    must(length >= 1 && length <= LEASE_ITEMS_MAX);
    AUTO(mem_free) struct grant_item *read = mem_calloc(length, sizeof *read);
    for (size_t i = 0; i < length; i++) {
        struct json_object *value = json_object_array_get_idx(list, i);
        e = scopes_only ? scope_item_read(value, i, &read[i], diag)
                        : item_read(value, i, &read[i], diag);
        if (e != ERR_OK)
            return e;
        if (!read[i].has_lease_ref)
            read[i].lease_ref = uuid_random();
    }
    *items = TAKE(read);
    *count = length;
    return ERR_OK;
}

enum err lease_token_body_read(struct json_object *body, const char **token, struct diag *diag)
{
    const char *read = NULL;
    struct json_reader r;

    json_reader_init(&r, body, "", diag);
    json_read_string(&r, "lease_token", false, JWS_MAX, &read);
    enum err e = json_reader_end(&r);
    if (e == ERR_OK)
        *token = read;
    return e;
}
