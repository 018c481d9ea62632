/* The replication worker: one thread that asks the other node for its changes (long poll), merges
 * them through the engine, and asks for credits when a grant needs them. The only user of libcurl
 * in the node.
 *
 * Happy path: hello → meet → (changes → LEDGER_MERGE)*. Failure: backoff with jitter, then hello
 * again. What the other node says about who is who (R10, R11) is judged by the ledger; the worker
 * only carries it. */
#pragma once

#include "engine/engine.h"
#include "replication/state.h"
#include "token/instance.h"

struct replication;

/* Strings are copied; the rest is borrowed and outlives the worker. */
struct replication_conf {
    const char *peer;    /* HA_REPLICATE: host:port */
    const char *own_url; /* this node's own address */
    const char *ca_file; /* TLS_CA */
    bool primary;
    const struct instance *instance;
    struct engine *engine;
    enum err (*entitlement_open)(void *context, const char *text, struct entitlement **out,
                                 struct diag *diag);
    void *context;
    const uint8_t *process; /* PEER_NONCE_SIZE bytes, drawn at start; http/ has the same */
};

struct replication_status {
    enum replication_state state;
    enum err reason;
    struct diag diag;   /* why not connected, for people: names the fix */
    char peer[300];     /* host:port */
    char peer_url[300]; /* as it says itself; "" before the first contact */
    struct uuid peer_ref;
    bool peer_primary;
    bool peer_ready;                           /* it serves (as of its last page) */
    int64_t protocol;                          /* negotiated; 0: none yet */
    int64_t connected_since_ms, away_since_ms; /* wall clock; 0: not so */
    int64_t last_page_us;                      /* stopwatch at the last completed page; 0: none */
    int64_t round_trip_us;                     /* of the last exchange that was not kept waiting */
    int64_t behind_since_us; /* stopwatch since when a change of the peer is known and not merged
                              * here: a page is under way, or was not complete; 0: none */
    int64_t lag_us; /* age of that; while there is no contact, of the last completed page: what the
                     * peer did since is not here; 0: none known */
    uint64_t peer_seq;                                 /* its newest change number, as last said */
    uint64_t pages, rows, bytes_in, refused, failures; /* since start */
};

/* ERR_CONFIG, ERR_INTERNAL. That the other node is away is no error. */
enum err replication_start(const struct replication_conf *conf, struct replication **out,
                           struct diag *diag) MUST_USE;
/* Before engine_stop(): waits for the command that the engine may have. NULL in, NULL out. */
struct replication *replication_stop(struct replication *replication);
/* A snapshot, from any thread. */
void replication_status(struct replication *replication, struct replication_status *out);
/* From the ledger thread; must not block. Several wishes for one scope become the largest. */
void replication_want(struct replication *replication, const struct uuid *scope_ref, int64_t count);
/* Another node said hello or was dismissed: look again at once. From any thread. */
void replication_nudge(struct replication *replication);
