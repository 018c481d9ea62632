/* HTTPS to one other node, two requests at a time, each on a connection of its own that is kept
 * open. Of one thread, but for transport_wake().
 *
 * The server's certificate must be of the given CA and name the host that was asked for. No
 * redirect, no proxy, no other protocol; every answer has a ceiling, after decompression too, and
 * every request a deadline, so a wire that is cut, stalled or drips is noticed. */
#pragma once

#include "base/buf.h"
#include "replication/peer.h"

#define TRANSPORT_CONNECT_MS 1000 /* name look-up, TCP and TLS together */

enum lane {
    LANE_MAIN,    /* hello, meet, and the long poll */
    LANE_CREDITS, /* a grant is waiting: never behind the long poll */
    LANES
};

struct transport;

/* address: host:port. ERR_CONFIG, ERR_INTERNAL. */
enum err transport_new(const char *address, const char *ca_file, struct transport **out,
                       struct diag *diag) MUST_USE;
struct transport *transport_free(struct transport *transport); /* NULL in, NULL out */

struct transport_request {
    const char *target; /* path and query */
    const char *token;  /* value of PEER_TOKEN_HEADER */
    const char *body;   /* NULL: GET, else POST; copied */
    size_t body_size;
    size_t answer_max;
    int64_t quiet_ms;    /* how long nothing need come … */
    int64_t deadline_ms; /* … and until when everything must be here */
};

/* The lane must be idle. */
void transport_send(struct transport *transport, enum lane lane,
                    const struct transport_request *request);
/* What was sent counts no more; its connection is closed. Idle lanes stay so. */
void transport_abort(struct transport *transport, enum lane lane);
bool transport_busy(const struct transport *transport, enum lane lane);
/* True once the first bytes of the body came. */
bool transport_receiving(const struct transport *transport, enum lane lane);

struct transport_answer {
    enum lane lane;
    enum err err; /* ERR_OK: there is an HTTP answer, whatever its status */
    enum peer_failure failure;
    struct diag diag; /* of a failure: names address and cause */
    long status;
    const char *token; /* NULL: none, or more than one. Until the lane is used again, as body */
    struct buf *body;
    int64_t took_us, bytes; /* bytes: as they came, head and body */
};

/* Sends and receives; waits for something to happen, up to timeout_ms, unless a transfer ends. */
void transport_run(struct transport *transport, int64_t timeout_ms);
/* A transfer that has ended; its lane is idle again. False: none more. */
bool transport_next(struct transport *transport, struct transport_answer *out);
/* Ends a wait, now or the next one. From any thread. */
void transport_wake(struct transport *transport);
