/* Talking to the nodes as this machine: enrolling, proving who it is, walking from node to node.
 *
 * The happy path: the first request finds an origin in the state folder, exchanges its secret for
 * an auth token (code and token, RFC 7636, both at one node) and sends the request with it. Later
 * ones reuse the token until shortly before its end.
 *
 * What may fail, and what happens then:
 *   - no origin: enrol with the client token, store the origin, go on;
 *   - a node does not answer, cannot serve, or knows less than another may: the next node is asked;
 *     the one that answered is asked first from then on. Everything sent here may be sent twice:
 *     grants carry a reference, the rest is idempotent by nature;
 *   - the auth token is not accepted: one new one, once;
 *   - the origin is gone: if the request may enrol, a new origin, once;
 *   - time runs out: the answer is what the nodes were like;
 *   - whoever called has had enough: the request on its way is dropped, at once.
 *
 * A session may be used by many threads at once; one of them at a time enrols or authenticates,
 * the others wait for it, not beyond their own deadline. */
#pragma once

#include "cancel.h"
#include "state.h"
#include "tok.h"
#include "transport.h"

struct session_options {
    int64_t connect_ms, attempt_ms, deadline_ms;
};

struct session;

/* Takes ownership of tok. Holds its own reference of state. */
enum twinlease_code session_new(const struct session_options *options, struct tok *tok,
                                struct state *state, struct session **out,
                                struct twinlease_error *error) MUST_USE;
struct session *session_free(struct session *session); /* NULL in, NULL out */
DEFINE_AUTO(struct session *, session_free)

const struct tok *session_tok(const struct session *session);

/* What a call is worth. */
struct effort {
    const struct cancel *cancel; /* NULL: none */
    int64_t deadline_ms;         /* 0: the session's */
};

struct call {
    const char *method, *path;
    const char *body;  /* JSON or NULL */
    bool may_enrol;    /* false: without an origin, or when it is gone, the call fails */
    size_t answer_max; /* 0: ANSWER_MAX */
    struct effort effort;
    bool *unsure; /* NULL, or set to true if a node may have done it although the call failed */
};

struct reply {
    struct http_response response;
    struct answer answer;     /* inside response */
    struct json_object *json; /* owned; NULL with 204 */
    struct boot asked;        /* when the request that was answered went out */
};
void reply_fini(struct reply *reply); /* takes a zeroed one too */
DEFINE_AUTO_VALUE(struct reply, reply_fini)

/* One authorised request. *out must be zeroed; it holds a successful answer if and only if OK. */
enum twinlease_code session_call(struct session *session, const struct call *call,
                                 struct reply *out, struct twinlease_error *error) MUST_USE;

/* Which origin this machine is, if it has enrolled. */
bool session_origin(struct session *session, struct uuid *out);

/* When a call that begins now has to end. */
struct boot session_deadline(const struct session *session);
/* What the time is for the nodes, as far as they have told: ms since 1970. */
bool session_node_now(struct session *session, int64_t *out_ms);
/* Whether node `index` is ready: GET /-/ready. */
enum twinlease_code session_probe(struct session *session, size_t index, struct boot until,
                                  const struct cancel *cancel,
                                  struct twinlease_error *error) MUST_USE;
