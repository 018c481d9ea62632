/* base64url without padding (RFC 4648 §5, RFC 7515 §2), strict: no padding, no white space, no
 * other alphabet, and unused trailing bits must be zero, so that one value has one spelling. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

void base64url_append(struct buf *out, const void *bytes, size_t size);

/* Appends the decoded bytes. False, and nothing appended, if text is not valid or out is full. */
bool base64url_decode(const char *text, size_t length, struct buf *out) MUST_USE;
