/* Members of the JSON documents that clients write: to files, and for programs. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "twinlease.h"

void put_text(struct json_object *object, const char *name, const char *text);
void put_int(struct json_object *object, const char *name, int64_t value);
void put_bool(struct json_object *object, const char *name, bool value);
/* RFC 3339, UTC; ms since 1970. */
void put_instant(struct json_object *object, const char *name, int64_t ms);
/* With three digits after the point. */
void put_seconds(struct json_object *object, const char *name, int64_t ms);
/* What a lease is and, but for the instance's keys, what it takes to verify it. */
void put_lease(struct json_object *object, const struct twinlease_lease *lease);
