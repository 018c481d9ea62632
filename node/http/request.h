/* One request, as a handler sees it. A handler looks like this:
 *
 *     enum err client_release(struct request *r)
 *     {
 *         struct ledger_event *event = &r->command.event;
 *         enum err e;
 *
 *         if ((e = request_param_uuid(r, "lease_ref", &event->release.lease_ref)) != ERR_OK)
 *             return e;                                       → problem document, r->diag as detail
 *         event->kind = LEDGER_RELEASE;
 *         event->release.origin = request_origin(r);
 *         return request_submit(r, released);                 → released() runs after the commit
 *     }
 *
 *     static enum err released(struct request *r)             only if r->command.result.err is
 * ERR_OK
 *     {
 *         reply_empty(r, 204);
 *         return ERR_OK;
 *     }
 *
 * Before a handler runs, the dispatcher has checked the route's authentication, content type, body
 * size and query parameters, and has parsed the body. Refusals by the ledger become problem
 * documents with the denial's figures by themselves; so do failures of a query.
 *
 * Life: a struct request lives on the heap until it is answered and nothing is under way for it.
 * The client may go away, or the deadline may pass and 503 be sent, while the ledger still works on
 * it: then continuations are not run, so no handler needs to care.
 * Everything a handler keeps beyond its own return goes into request_alloc() memory, or is handed
 * to request_defer().
 *
 * Threads: handlers and continuations run on the request's event loop and must not block. Between
 * request_submit() (request_query()) and the continuation the request belongs to the other side. */
#pragma once

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "engine/engine.h"
#include "http/http.h"
#include "http/route.h"

struct reader;
struct peer_claims;

#define REQUEST_ID_MAX 64
#define SESSION_COOKIE "__Host-twinlease" /* of operators' sessions; see RFC 6265bis §4.1.3.2 */

/* Who asks, as the route's auth demanded it. */
struct principal {
    struct auth_claims origin;      /* AUTH_ORIGIN */
    struct uuid client_token_ref;   /* AUTH_CLIENT_TOKEN */
    enum role role;                 /* AUTH_ROLE…; else ROLE_NONE */
    const struct peer_claims *peer; /* AUTH_PEER; else NULL. Its answer is signed for it */
};

struct request {
    const struct services *services;
    const struct route *route;
    char id[REQUEST_ID_MAX + 1]; /* X-Request-Id */
    struct principal principal;
    struct json_object *body; /* BODY_JSON…: an object, owned by the request; else NULL */
    const char *text; /* BODY_TEXT: NUL-terminated copy without white space around it. BODY_PEER */
    size_t text_length;
    struct diag diag;       /* why, with an error that is returned */
    struct command command; /* event: for request_submit(); result and receipt: in `then` */
    void *state;            /* the handler's */
    struct boot submitted;  /* when the command was; decided no earlier */
};

/* ---- reading -------------------------------------------------------------------------------- */

/* A path parameter, decoded. The name stands in the route's pattern. */
const char *request_param(const struct request *r, const char *name);
/* ERR_BAD_FIELD naming it. */
enum err request_param_uuid(struct request *r, const char *name, struct uuid *out) MUST_USE;

/* Query parameters. The name stands in the route's `query`. NULL or untouched *out: not given.
 * ERR_BAD_FIELD names the parameter, what was found and what is allowed. */
const char *request_query_text(const struct request *r, const char *name);
enum err request_query_bool(struct request *r, const char *name, bool *out) MUST_USE;
enum err request_query_int(struct request *r, const char *name, int64_t min, int64_t max,
                           int64_t *out) MUST_USE;
enum err request_query_uuid(struct request *r, const char *name, struct uuid *out) MUST_USE;

/* A header's value (name in lower case), copied into the request's memory; NULL if absent. Not to
 * be called on another thread. */
const char *request_header(struct request *r, const char *name);

/* Starts reading r->body; messages go to r->diag. End with json_reader_end(). */
void request_body(struct request *r, struct json_reader *reader);

/* The origin of AUTH_ORIGIN, as ledger events want it. */
struct origin_proof request_origin(const struct request *r);

/* The time for token checks and signatures outside the ledger: the later of the wall clock and the
 * ledger clock as last heard of. The ledger clock itself never runs behind the wall clock when the
 * node starts and does not follow its steps (R1), so this never makes a token older than the ledger
 * would, and an idle node, whose last ledger reading is stale, still sees tokens expire. */
int64_t request_now_ms(const struct request *r);

/* ---- memory --------------------------------------------------------------------------------- */

/* Zeroed memory that lives as long as the request. */
void *request_alloc(struct request *r, size_t size);
char *request_strdup(struct request *r, const char *text, size_t length);
/* Calls fn(arg) when the request ends, last one first. */
void request_defer(struct request *r, void (*fn)(void *arg), void *arg);

/* ---- work elsewhere ------------------------------------------------------------------------- */

/* Sends r->command.event to the ledger (now_ms is set by it; r->command.wait_ms makes the request's
 * deadline later by the longest long poll). `then` runs after the commit, if and
 * only if the ledger did not refuse; it may read r->command.result and .receipt, and submit again.
 * Errors (not ready, overloaded) come back at once, with r->diag set. */
enum err request_submit(struct request *r, request_handler *then) MUST_USE;

/* The same, but `then` runs also if the ledger refused: it looks at r->command.result.err. */
enum err request_submit_any(struct request *r, request_handler *then) MUST_USE;

/* Calls run() on a query thread; it may block on the reader, may use r->state, request_alloc(),
 * request_defer() and r->diag, and must not reply. `then` runs if it returned ERR_OK. */
typedef enum err request_run(struct request *r, struct reader *reader);
enum err request_query(struct request *r, request_run *run, request_handler *then) MUST_USE;

/* The same on the thread that writes pages for the peer, which lists and reports must not hold up.
 * The reader is not to be used there. */
enum err request_encode(struct request *r, request_run *run, request_handler *then) MUST_USE;

/* Calls `then` in the next turn of the event loop: for long work in slices. */
enum err request_again(struct request *r, request_handler *then) MUST_USE;
