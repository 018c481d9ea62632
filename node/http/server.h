/* Inside of the HTTP side: loops, connections, exchanges. Only the files of http/ that deal with
 * libh2o include this; it is the one header that brings it in.
 *
 * An exchange is a request under way and outlives either of its ends (style: work that outlives its
 * requester). Its slot lives in the memory of libh2o's request:
 *
 *     libh2o drops the request (or we have answered):  slot gone → exchange->req = NULL
 *     ledger or query thread is done:                   message to the loop → continuation, if req
 * is still there; else the result is dropped
 *
 * The exchange is freed when it is answered (or dropped) and not waiting. Everything in it but
 * `request` belongs to the loop's thread; `request` belongs to the ledger or query thread while
 * waiting. */
#pragma once

#include <h2o.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "http/header.h"
#include "http/query_string.h"
#include "http/request.h"
#include "http/timer.h"
#include "replication/wire.h"

#define HANDSHAKE_TIMEOUT_MS 10000
#define READ_TIMEOUT_MS      30000 /* head and body of a request, and the wait for one */
#define DRAIN_READ_MS        1000  /* the same once the node is stopping */
#define USER_TIMEOUT_MS      30000 /* TCP_USER_TIMEOUT: a peer that does not take our bytes */
#define POLL_MAX_MS          30000 /* the longest wait of the peer for our changes */
#define ACCEPT_PAUSE_MS      100   /* after EMFILE and its like */
#define ACCEPT_LOG_MS        10000 /* between two lines about that */
#define ACCEPTS_A_TURN       16
#define LINGER_MS            2000        /* after refusing a body that is still being sent */
#define LINGER_BYTES         (16u << 20) /* of such a body are read and dropped */
#define LISTEN_BACKLOG       4096
#define LOG_LINES_A_SECOND   20 /* warnings about requests, per loop */
/* Open files that connections leave to others: a loop's own; and the database session and a new one
 * in its place, the log, and what is read now and then (certificates, keys, the resolver's files).
 */
#define FILES_A_LOOP  4
#define FILES_RESERVE 24

struct loop;

/* What another thread sends to a loop. */
struct message {
    h2o_multithread_message_t super;
    void (*deliver)(struct loop *loop, struct message *message);
};

/* Peer tokens that were used lately, for calls that change something. */
#define SEEN_TOKENS_MAX 1024
struct seen_tokens {
    pthread_mutex_t mutex;
    uint8_t jti[SEEN_TOKENS_MAX][PEER_NONCE_SIZE];
    size_t next; /* the one to be forgotten first */
};

struct http {
    struct services services;
    h2o_globalconf_t conf;
    SSL_CTX *tls; /* main thread only; each loop has its own reference */
    int listen_fd;
    size_t body_max;
    int64_t connections_max;
    atomic_int connections;
    atomic_bool draining;
    atomic_int_least64_t drain_until_ms; /* boot clock */
    atomic_int_least64_t ledger_ms;      /* latest ledger time heard of */
    uint64_t id_prefix;                  /* random, of request ids made here */
    struct seen_tokens peer_seen;
    atomic_int peer_protocol;             /* what the peer and this node both speak */
    atomic_uint_least64_t peer_bytes_out; /* bodies and heads of answers to the peer */
    unsigned loop_count;
    struct loop *loops;
    pthread_barrier_t loops_ready; /* passed once: all loops can get messages */
};

struct loop {
    struct http *http;
    unsigned index;
    pthread_t thread;
    h2o_context_t ctx;
    h2o_accept_ctx_t accept;
    h2o_socket_t *listener;
    h2o_multithread_receiver_t inbox;
    struct boot now; /* when it last looked; old while the loop waits, so no timer starts from it */
    struct timer_queue deadlines, polls, lingers, pauses;
    struct timer pause;     /* runs: accepting is paused */
    struct exchange *again; /* run in the next turn, last one first */
    bool stirred;           /* the last turn did something outside libh2o */
    uint64_t requests;      /* counted for ids */
    int64_t log_second;     /* which second log_lines counts */
    unsigned log_lines, log_suppressed;
    int64_t accept_log_from_ms;
};

/* Of sock->on_close.data. Holds the SSL_CTX: libh2o keeps a bare pointer until the first bytes
 * come. */
struct connection {
    struct loop *loop;
    SSL_CTX *tls;
    int linger_fd;        /* -1: none; see loop.c */
    h2o_socket_t *linger; /* NULL: still libh2o's */
    struct timer linger_timer;
    size_t linger_bytes;
};

struct chunk;
struct deferred;
struct slot;

struct exchange {
    struct request request; /* first: what handlers see */
    struct loop *loop;
    h2o_req_t *req; /* NULL: answered, or the client has gone */
    struct slot *slot;
    bool answered, waiting, head, cors;
    bool any_outcome; /* `then` runs though the ledger refused */
    unsigned cache_seconds;
    request_handler *then;
    request_run *run;
    enum err outcome; /* of run */
    struct query_job job;
    struct message message;
    struct timer deadline;
    struct exchange *next; /* in loop->again */
    struct route_params params;
    struct query_string query;
    struct chunk *memory;
    struct deferred *deferred;
};

struct slot {
    struct exchange *exchange; /* NULL: answered */
};

static inline struct exchange *exchange_of(struct request *r)
{
    return (struct exchange *)r;
}

static inline const struct exchange *exchange_of_const(const struct request *r)
{
    return (const struct exchange *)r;
}

/* ---- loop.c ---- */

/* Starts one loop's thread. It serves once all have passed http->loops_ready, until
 * http->draining. */
void loop_start(struct loop *loop, struct http *http, unsigned index);
void loop_wake(struct loop *loop);
/* From any thread. */
void loop_send(struct loop *loop, struct message *message);
/* The loop takes over the caller's reference. From any thread. */
void loop_set_tls(struct loop *loop, SSL_CTX *tls);
/* Before an answer that leaves part of the request unread: keeps the connection long enough for the
 * client to read the answer (a plain close would reset it). */
void loop_linger(h2o_req_t *req);
/* True if one more warning may be logged in this second. */
bool loop_may_log(struct loop *loop);

/* ---- dispatch.c ---- */

/* Registers the handler, the filter that turns libh2o's own errors into problem documents, and the
 * access log. */
void dispatch_register(h2o_hostconf_t *host);

/* ---- request.c ---- */

struct exchange *exchange_new(struct loop *loop, h2o_req_t *req);
/* Runs a handler or continuation and frees the exchange if that was the end of it. */
void exchange_step(struct exchange *x, request_handler *next);
/* The request's end is gone from the exchange: answered, or dropped. */
void exchange_detach(struct exchange *x);
void exchange_run_again(struct loop *loop);
/* The id that came with the request if it is fit, else a new one. */
void request_id_make(struct loop *loop, const h2o_headers_t *headers, char out[REQUEST_ID_MAX + 1]);
/* How many headers of that name there are; *out is the first one. */
size_t headers_find(const h2o_headers_t *headers, const char *name, struct text *out);
size_t exchange_header(const struct exchange *x, const char *name, struct text *out);
void exchange_note_time(struct http *http, int64_t ledger_ms);

/* ---- auth.c ---- */

/* Fills r->principal as r->route->auth demands. */
enum err authenticate(struct request *r) MUST_USE;

/* ---- api_peer.c ---- */

/* Fills r->principal.peer: who says what to whom, and that it is fresh. */
enum err peer_authenticate(struct request *r) MUST_USE;
/* Adds the token that makes an answer to the peer believable; nothing for other requests. body:
 * before compression. */
void peer_answer_sign(struct request *r, const char *body, size_t length);

/* ---- reply.c ---- */

/* A header's value of any length, which must not have control characters. Copied. */
void reply_header_text(struct exchange *x, const char *name, const char *value, size_t length);

/* Answers with the problem, whatever r->command and r->diag hold: also while they belong to another
 * thread. */
void reply_failure(struct exchange *x, enum err e, const char *detail);
/* Adds Allow, and for a CORS preflight what a page may send. methods: bits 1 << METHOD_… */
void reply_allow(struct exchange *x, unsigned methods, bool preflight);
const char *reply_reason(int status);
