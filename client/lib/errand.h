/* A request on its way over the nodes: asked of one after the other, round after round, until one's
 * answer stands or its time is over.
 *
 * What ends a round without an answer, and what happens then:
 *   - a node does not answer, cannot serve, or knows less than another may: the next one is asked;
 *   - all have been asked, and one may do better in a moment (it restarts, its database is away):
 *     the next round, after a pause that grows, until retry_ms after the first round are over. A
 *     node that says when it wants to be asked again (Retry-After) is left alone until then;
 *   - all have been asked, and none will do better: the answer is that of the one that says most;
 *   - it is cancelled: INTERRUPTED. */
#pragma once

#include "base/clock.h"
#include "nodes.h"

struct session_options {
    int64_t connect_ms, attempt_ms, deadline_ms, retry_ms;
};

/* What a call is worth. */
struct effort {
    const struct cancel *cancel; /* NULL: none */
    int64_t deadline_ms;         /* 0: the session's */
    bool once;                   /* one round over the nodes */
};

struct reply {
    struct http_response response;
    struct answer answer;     /* inside response */
    struct json_object *json; /* owned; NULL with 204 */
    struct boot asked;        /* when the request that was answered went out */
};
void reply_fini(struct reply *reply); /* takes a zeroed one too */
DEFINE_AUTO_VALUE(struct reply, reply_fini)

struct errand {
    struct nodes *nodes; /* reference */
    const struct session_options *options;
    struct boot until;
    const struct cancel *cancel; /* or NULL */
    bool once;
    struct twinlease_error *error;
    /* what is learned on the way */
    struct boot retry_until;               /* 0: no round has failed yet */
    struct boot not_before[TOK_NODES_MAX]; /* as the node asked for */
    int64_t sync_ms;                       /* a node's clock, 0: not told, … */
    struct boot synced;                    /* … at that time */
};

/* Takes the reference. */
void errand_init(struct errand *errand, struct nodes *nodes, const struct session_options *options,
                 const struct effort *effort, struct twinlease_error *error);
void errand_fini(struct errand *errand);
DEFINE_AUTO_VALUE(struct errand, errand_fini)

int64_t errand_left_ms(const struct errand *errand);
enum twinlease_code errand_interrupted(struct errand *errand);

/* Sends to one node and reads its answer; *out must be zeroed or used for this before. */
enum twinlease_code errand_ask(struct errand *errand, size_t node, int64_t budget_ms,
                               const struct http_request *what, struct reply *out) MUST_USE;

/* Tries one node within budget_ms > 0; fills errand->error. */
typedef enum twinlease_code attempt_fn(struct errand *errand, size_t node, int64_t budget_ms,
                                       void *context);
enum twinlease_code errand_walk(struct errand *errand, attempt_fn *attempt, void *context) MUST_USE;
