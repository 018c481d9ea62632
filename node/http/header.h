/* Header values. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/must.h"

/* Bytes that are not NUL-terminated. */
struct text {
    const char *bytes;
    size_t length;
};

/* Is it fit to be taken over as X-Request-Id: [A-Za-z0-9._-]{1,64}? */
bool header_request_id_valid(struct text value) MUST_USE;

/* "Bearer TOKEN" (RFC 6750 §2.1; the scheme in any case). */
bool header_bearer(struct text value, struct text *token) MUST_USE;

/* The value of a cookie of that name; the first one if there are several. */
bool header_cookie(struct text value, const char *name, struct text *out) MUST_USE;

/* Is it this media type, whatever its parameters? RFC 9110 §8.3.1 */
bool header_media_type_is(struct text value, const char *type) MUST_USE;

/* Does a list like CORS_ORIGINS ("https://a,https://b:8443", or "*") have this origin? Schemes and
 * hosts do not heed case (RFC 6454 §4). */
bool header_origin_listed(struct text origin, const char *list) MUST_USE;

/* Did the call come from a page of this host? By Sec-Fetch-Site where there is one, else by Origin,
 * which must then be https://HOST. Neither: not known, so false. Absent headers have length 0. */
bool header_same_origin(struct text sec_fetch_site, struct text origin, struct text host) MUST_USE;

/* What is wrong with a request's head, as it stood on the wire (libh2o hides some of it); NULL:
 * nothing. Whatever a proxy may read in another way than we do is refused (request smuggling): more
 * than one Content-Length or Transfer-Encoding or both (RFC 9112 §6.3), a Transfer-Encoding in
 * HTTP/1.0 (§6.1), a continued line (§5.2), no Host or two (§3.2; HTTP/1.0 needs none). */
const char *header_framing_fault(struct text head, bool http_1_0) MUST_USE;
