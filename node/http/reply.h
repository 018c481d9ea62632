/* Answers, on the request's event loop. Each request gets exactly one; where a client has gone, or
 * got 503 at the deadline, no continuation runs that could give another.
 *
 * Every answer carries X-Request-Id, X-Content-Type-Options: nosniff and, unless reply_cacheable()
 * was called, Cache-Control: no-store. For HEAD the body is left out by itself. */
#pragma once

#include "http/request.h"

#define REPLY_MAX (256u << 20) /* bytes of one answer; lists are paged well below it */

/* ---- before the answer ---------------------------------------------------------------------- */

/* Adds a header; name in lower case. The value is cut at any control character. */
void reply_header(struct request *r, const char *name, const char *format, ...) PRINTF(3, 4);
/* Allows caches to keep the answer for that long. */
void reply_cacheable(struct request *r, unsigned seconds);
/* A cookie for this host: Secure, HttpOnly, SameSite=Strict, Path=/. value: cookie-octets of RFC
 * 6265; max_age_seconds 0 deletes it. */
void reply_cookie(struct request *r, const char *name, const char *value, int64_t max_age_seconds);

/* ---- the answer ----------------------------------------------------------------------------- */

/* Takes the text out of json, which is empty afterwards. Must not have failed. */
void reply_json(struct request *r, int status, struct buf *json);
/* Borrowed; written without white space. */
void reply_json_object(struct request *r, int status, struct json_object *object);
/* Any other body; copied. */
void reply_bytes(struct request *r, int status, const char *content_type, const void *bytes,
                 size_t size);
/* The same for bytes that live as long as the process (embedded files): not copied. */
void reply_static(struct request *r, int status, const char *content_type, const void *bytes,
                  size_t size);
void reply_empty(struct request *r, int status); /* 204, 304 … */
/* location: a path of this node or an absolute URL. 303 after POST, 307 or 308 else. */
void reply_redirect(struct request *r, int status, const char *location);

/* A problem document (RFC 9457) for `e` with r->diag as its detail and, if the ledger's refusal is
 * in r->command.result, its figures. Returning the error from the handler does the same. */
void reply_problem(struct request *r, enum err e);
/* The same with one more member: its name, and its value as JSON text. */
void reply_problem_with(struct request *r, enum err e, const char *member, const char *json);
