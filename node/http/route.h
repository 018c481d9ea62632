/* Routes: route.tbl says what each address takes; the dispatcher (dispatch.c) enforces it, so that
 * a handler only ever sees a request that is allowed. Matching is pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "token/instance.h"

#define ROUTE_PARAMS_MAX   2
#define ROUTE_SEGMENTS_MAX 8
#define ROUTE_PATH_MAX     1024 /* bytes of a path; longer ones are not found */

enum method { METHOD_GET, METHOD_POST, METHOD_PUT, METHOD_DELETE, METHODS };

const char *method_name(enum method method);

/* Who may call. */
enum auth {
    AUTH_NONE,          /* everybody */
    AUTH_CLIENT_TOKEN,  /* bearer of a client token (.tok) of this instance */
    AUTH_ORIGIN,        /* bearer of an auth token: an enrolled machine */
    AUTH_ROLE,          /* an operator with one of the route's roles: token or session cookie */
    AUTH_ROLE_OPTIONAL, /* the same, but without any token the call is let through as ROLE_NONE */
    AUTH_PEER, /* the other node: a peer token for this very request (replication/wire.h) */
};

#define ALLOW_ADMIN   (1u << ROLE_ADMIN)
#define ALLOW_VIEWER  (1u << ROLE_VIEWER | ALLOW_ADMIN)
#define ALLOW_METRICS (1u << ROLE_METRICS | ALLOW_VIEWER)
#define ALLOW_ENROL   (1u << ROLE_ENROL | ALLOW_ADMIN)

/* What the body is. A body where none is expected is refused. */
enum body_kind {
    BODY_NONE,
    BODY_JSON,          /* an object, application/json */
    BODY_JSON_OPTIONAL, /* the same; an empty body counts as {} */
    BODY_TEXT,          /* a JWS: application/jose, application/jwt or text/plain */
    BODY_PEER,          /* application/json, left as it came in request->text */
};

struct request;

/* Handlers and their continuations return ERR_OK if they have answered or have something under way
 * (request_submit(), request_query(), request_again()). Anything else, with request->diag set,
 * becomes the problem document. */
typedef enum err request_handler(struct request *request);

struct route {
    enum method method;
    const char *pattern; /* "/v1/leases/{lease_ref}": a segment in braces matches any one segment */
    enum auth auth;
    unsigned roles; /* ALLOW_…, for AUTH_ROLE and AUTH_ROLE_OPTIONAL */
    enum body_kind body;
    const char *query; /* names of the query parameters taken, separated by spaces */
    request_handler *handle;
};

extern const struct route routes[];
extern const size_t route_count;

/* Decoded values of the segments in braces, in their order; NUL-terminated. */
struct route_params {
    char *values[ROUTE_PARAMS_MAX]; /* inside `bytes` */
    char bytes[ROUTE_PATH_MAX + 1];
};

/* Splits a request target's path ("/v1/leases/…", without query; the absolute form of RFC 9112
 * §3.2.2 is taken too), decodes its segments and finds the route.
 *
 * ERR_OK: *route and *params are set. ERR_METHOD_NOT_ALLOWED: *methods has a bit (1 << METHOD_…)
 * for each method that the address takes. ERR_NOT_FOUND. ERR_BAD_REQUEST: malformed escapes. Dot
 * segments, empty segments, a final slash, and an escaped slash or NUL are never found: one address
 * has one spelling. `method` may be METHODS: matches none. */
enum err route_find(const struct route *table, size_t count, enum method method, const char *path,
                    size_t length, const struct route **route, struct route_params *params,
                    unsigned *methods) MUST_USE;

/* Position of a name among the pattern's braces; must be there. */
size_t route_param_index(const struct route *route, const char *name);

/* True if the name is one of those in route->query. */
bool route_takes_query(const struct route *route, const char *name, size_t length);
