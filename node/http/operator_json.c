#include "http/operator_json.h"

#include <string.h>

#include "base/clock.h"
#include "base/json.h"

void json_put_text(struct json_object *object, const char *name, const char *text)
{
    json_object_object_add(object, name, text ? json_object_new_string(text) : NULL);
}

void json_put_int(struct json_object *object, const char *name, int64_t value)
{
    json_object_object_add(object, name, json_object_new_int64(value));
}

void json_put_bool(struct json_object *object, const char *name, bool value)
{
    json_object_object_add(object, name, json_object_new_boolean(value));
}

void json_put_uuid(struct json_object *object, const char *name, const struct uuid *value)
{
    char text[UUID_TEXT_SIZE];

    uuid_format(value, text);
    json_put_text(object, name, text);
}

void json_put_time(struct json_object *object, const char *name, int64_t ms)
{
    char text[RFC3339_SIZE];

    rfc3339_format(ms, text);
    json_put_text(object, name, ms ? text : NULL);
}

/* ---- scopes -------------------------------------------------------------------------------- */

static const struct feature *feature_of(const struct scope_view *scope)
{
    for (size_t i = 0; i < scope->entitlement->feature_count; i++) {
        if (uuid_equal(&scope->entitlement->features[i].scope_ref, &scope->scope_ref))
            return &scope->entitlement->features[i];
    }
    return NULL;
}

struct json_object *operator_scope_json(const struct scope_view *scope)
{
    struct json_object *json = json_object_new_object();
    const struct feature *feature = feature_of(scope);

    json_put_uuid(json, "scope_ref", &scope->scope_ref);
    json_put_text(json, "feature", scope->feature);
    json_put_uuid(json, "entitlement_ref", &scope->entitlement->entitlement_ref);
    json_put_int(json, "revision", scope->entitlement->revision);
    json_put_text(json, "publisher", scope->entitlement->publisher);
    json_put_bool(json, "trusted", scope->trusted);
    json_put_int(json, "seats", scope->seats);
    json_put_int(json, "used", scope->used);
    json_put_int(json, "active", scope->active);
    json_put_int(json, "waiting", scope->waiting);
    json_put_int(json, "free_here", scope->free_here);
    json_put_int(json, "pending", scope->pending);
    json_put_int(json, "at_peer", scope->at_peer);
    json_put_int(json, "locked", scope->locked);
    json_put_time(json, "locked_until", scope->locked_until_ms);
    json_put_time(json, "next_expected", scope->next_back_ms);
    json_put_time(json, "begins", scope->begins_ms);
    json_put_time(json, "ends", scope->ends_ms);
    if (feature)
        json_put_int(json, "max_lease_seconds", feature->lease_max_ms / 1000);
    return json;
}

/* ---- leases and origins -------------------------------------------------------------------- */

static struct json_object *lease_row_json(const struct lease_row *row, const char *feature)
{
    struct json_object *json = json_object_new_object();

    json_put_uuid(json, "lease_ref", &row->lease_ref);
    json_put_uuid(json, "home", &row->home);
    json_put_uuid(json, "origin_ref", &row->origin_ref);
    json_put_uuid(json, "scope_ref", &row->scope_ref);
    if (feature)
        json_put_text(json, "feature", feature);
    json_put_int(json, "count", row->count);
    json_put_text(json, "state", lease_state_name(row->state));
    json_put_bool(json, "shared", row->shared);
    json_put_time(json, "created", row->created_ms);
    json_put_time(json, "expires", row->expires_ms);
    json_put_time(json, "ended", row->ended_ms);
    return json;
}

/* What a machine told about itself; it was checked when it was stored, and is shown as null if it
 * cannot be read again. */
static void put_environment(struct json_object *json, const char *text)
{
    struct json_object *environment = NULL;
    struct diag diag;

    if (text && json_parse(text, strlen(text), &environment, &diag) != ERR_OK)
        environment = NULL;
    json_object_object_add(json, "environment", environment);
}

struct json_object *operator_lease_json(const struct listed_lease *lease)
{
    struct json_object *json = lease_row_json(&lease->row, lease->feature);

    if (lease->environment) {
        struct json_object *origin = json_object_new_object();
        json_put_uuid(origin, "origin_ref", &lease->row.origin_ref);
        put_environment(origin, lease->environment);
        json_object_object_add(json, "origin", origin);
    }
    return json;
}

struct json_object *operator_origin_json(const struct listed_origin *origin, bool with_leases)
{
    struct json_object *json = json_object_new_object();

    json_put_uuid(json, "origin_ref", &origin->row.origin_ref);
    json_put_int(json, "generation", origin->row.generation);
    json_put_time(json, "created", origin->row.created_ms);
    json_put_time(json, "updated", origin->row.updated_ms);
    put_environment(json, origin->environment);
    if (with_leases) {
        struct json_object *leases = json_object_new_array_ext((int)origin->lease_count);
        for (size_t i = 0; i < origin->lease_count; i++)
            json_object_array_add(leases, lease_row_json(&origin->leases[i], NULL));
        json_object_object_add(json, "active_lease_list", leases);
    }
    return json;
}

/* ---- entitlements -------------------------------------------------------------------------- */

static const char *seat_return_name(enum seat_return when)
{
    return when == SEAT_RETURN_AT_EXPIRY ? "at_expiry" : "acknowledged";
}

struct json_object *operator_feature_json(const struct feature *feature)
{
    struct json_object *json = json_object_new_object();

    json_put_uuid(json, "scope_ref", &feature->scope_ref);
    json_put_text(json, "feature", feature->name);
    json_put_int(json, "seats", feature->seats);
    json_put_int(json, "max_lease_seconds", feature->lease_max_ms / 1000);
    json_put_text(json, "release", seat_return_name(feature->on_release));
    json_put_text(json, "revoke", seat_return_name(feature->on_revoke));
    return json;
}

struct json_object *operator_entitlement_json(const struct listed_entitlement *row,
                                              const struct entitlement *entitlement, bool trusted)
{
    struct json_object *json = json_object_new_object();
    struct json_object *features = json_object_new_array_ext((int)entitlement->feature_count);

    for (size_t i = 0; i < entitlement->feature_count; i++)
        json_object_array_add(features, operator_feature_json(&entitlement->features[i]));
    json_put_uuid(json, "entitlement_ref", &row->entitlement_ref);
    json_put_int(json, "revision", row->revision);
    json_put_text(json, "publisher", entitlement->publisher);
    json_put_bool(json, "trusted", trusted);
    json_put_time(json, "installed", row->installed_ms);
    json_put_time(json, "issued", entitlement->issued_ms);
    json_put_time(json, "begins", entitlement->begins_ms);
    json_put_time(json, "ends", entitlement->ends_ms);
    json_object_object_add(json, "features", features);
    json_put_text(json, "entitlement", row->text);
    return json;
}
