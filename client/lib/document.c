#include "document.h"

#include <stdio.h>

#include "base/clock.h"

void put_text(struct json_object *object, const char *name, const char *text)
{
    json_object_object_add(object, name, json_object_new_string(text));
}

void put_int(struct json_object *object, const char *name, int64_t value)
{
    json_object_object_add(object, name, json_object_new_int64(value));
}

void put_bool(struct json_object *object, const char *name, bool value)
{
    json_object_object_add(object, name, json_object_new_boolean(value));
}

void put_instant(struct json_object *object, const char *name, int64_t ms)
{
    char text[RFC3339_SIZE];

    rfc3339_format(ms, text);
    put_text(object, name, text);
}

void put_seconds(struct json_object *object, const char *name, int64_t ms)
{
    char text[32];

    snprintf(text, sizeof text, "%jd.%03d", (intmax_t)(ms / 1000), (int)(ms % 1000));
    json_object_object_add(object, name, json_object_new_double_s((double)ms / 1000, text));
}

void put_lease(struct json_object *object, const struct twinlease_lease *lease)
{
    put_text(object, "lease_ref", twinlease_lease_ref(lease));
    put_text(object, "origin_ref", twinlease_lease_origin_ref(lease));
    put_text(object, "scope_ref", twinlease_lease_scope_ref(lease));
    put_text(object, "feature", twinlease_lease_feature(lease));
    put_int(object, "count", twinlease_lease_count(lease));
    put_text(object, "home", twinlease_lease_home(lease));
    put_instant(object, "created", twinlease_lease_created_ms(lease));
    put_instant(object, "expires", twinlease_lease_expires_ms(lease));
    put_text(object, "lease_token", twinlease_lease_token(lease));
    put_text(object, "entitlement", twinlease_lease_entitlement(lease));
}
