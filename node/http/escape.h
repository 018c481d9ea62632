/* Percent-encoding (RFC 3986 §2.1) and JSON strings (RFC 8259 §7). Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

/* Decodes into out (room for `length` bytes) and returns the size; SIZE_MAX if an escape is
 * malformed or stands for a control character. A plus sign stays what it is. */
size_t percent_decode(const char *text, size_t length, char *out) MUST_USE;

/* Appends a JSON string with its quotes. Bytes that are no UTF-8 become U+FFFD: a message that
 * quotes a hostile request must still be valid JSON. */
void json_string_append(struct buf *out, const char *text, size_t length);
