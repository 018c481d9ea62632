/* Talking to the nodes as this machine: enrolling, proving who it is, asking for what is wanted.
 *
 * The happy path: the first request finds an origin in the state folder, exchanges its secret for
 * an auth token (code and token, RFC 7636, both at one node) and sends the request with it. Later
 * ones reuse the token until shortly before its end.
 *
 * What may fail, and what happens then:
 *   - no origin: enrol with the client token, store the origin, go on;
 *   - nodes: errand.h. Everything sent here may be sent twice: grants carry a reference, the rest
 *     is idempotent by nature;
 *   - the auth token is not accepted: one new one, once;
 *   - the origin is gone: if the request may enrol, a new origin, once;
 *   - time runs out: the answer is what the nodes were like;
 *   - whoever called has had enough: the request on its way is dropped, at once.
 *
 * A session may be used by many threads at once; one of them at a time enrols or authenticates,
 * the others wait for it, not beyond their own deadline. */
#pragma once

#include "errand.h"
#include "state.h"

struct session;

/* Takes ownership of tok, also on failure. Holds its own reference of state. */
enum twinlease_code session_new(const struct session_options *options, struct tok *tok,
                                struct state *state, struct session **out,
                                struct twinlease_error *error) MUST_USE;
struct session *session_free(struct session *session); /* NULL in, NULL out */
DEFINE_AUTO(struct session *, session_free)

/* The nodes of this token, which it takes, also on failure, serve every call that begins from now
 * on. It must be of the same instance. */
enum twinlease_code session_reload(struct session *session, struct tok *tok,
                                   struct twinlease_error *error) MUST_USE;

/* An errand over the nodes that are known now. */
void session_begin(struct session *session, const struct effort *effort,
                   struct twinlease_error *error, struct errand *out);

struct call {
    const char *method, *path;
    const char *body;  /* JSON or NULL */
    bool may_enrol;    /* false: without an origin, or when it is gone, the call fails */
    size_t answer_max; /* 0: ANSWER_MAX */
    struct effort effort;
    bool *unsure; /* NULL, or set to true if a node may have done it although the call failed */
};

/* One authorised request. *out must be zeroed; it holds a successful answer if and only if OK. */
enum twinlease_code session_call(struct session *session, const struct call *call,
                                 struct reply *out, struct twinlease_error *error) MUST_USE;

/* Which origin this machine is, if it has enrolled. */
bool session_origin(struct session *session, struct uuid *out);

/* What the time is for the nodes, as far as they have told: ms since 1970. */
bool session_node_now(struct session *session, int64_t *out_ms);
/* Whether node `index` is ready: GET /-/ready. */
enum twinlease_code session_probe(struct errand *errand, size_t index) MUST_USE;
