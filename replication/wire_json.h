/* Members that stand in several of our small documents. */
#pragma once

#include "base/json.h"

/* base64url of exactly `size` bytes; out untouched unless it is there and right. */
bool wire_read_bytes(struct json_reader *r, const char *name, bool required, uint8_t *out,
                     size_t size);
