/* What operators are shown, as JSON. Names and meanings stand in openapi.json. Pure. */
#pragma once

#include <json-c/json.h>

#include "base/entitlement.h"
#include "ledger/ledger.h"
#include "store/store.h"

/* Adds a member; object owns it. */
void json_put_text(struct json_object *object, const char *name, const char *text); /* NULL: null */
void json_put_int(struct json_object *object, const char *name, int64_t value);
void json_put_bool(struct json_object *object, const char *name, bool value);
void json_put_uuid(struct json_object *object, const char *name, const struct uuid *value);
/* RFC 3339; 0: null */
void json_put_time(struct json_object *object, const char *name, int64_t ms);

/* New objects; the caller owns them. */
struct json_object *operator_scope_json(const struct scope_view *scope);
struct json_object *operator_lease_json(const struct listed_lease *lease);
struct json_object *operator_origin_json(const struct listed_origin *origin, bool with_leases);
struct json_object *operator_feature_json(const struct feature *feature);
/* `text` of the row as `entitlement`, and what it says. */
struct json_object *operator_entitlement_json(const struct listed_entitlement *row,
                                              const struct entitlement *entitlement, bool trusted);
