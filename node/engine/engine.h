/* The ledger thread: the single writer (design §3).
 *
 * Happy path: event loops submit commands; the thread drains its queue, steps the pure ledger
 * through all of them at one reading of the ledger clock, commits the resulting rows in one
 * transaction, and then calls each command's done().
 *
 * Failure: if the commit fails or its outcome is unknown, every command of the batch gets a 503 and
 * the ledger in memory is thrown away; the thread reconnects with backoff, takes the database lock,
 * loads, and goes on. Meanwhile submissions are refused with the reason.
 *
 * A history that turns out to be shorter than it was (R11; told by the state file or by an event)
 * ends the node_ref: nothing of the batch is committed, everybody gets 503 `history_lost`, the
 * database is renamed, and the ledger is loaded again as that of a node which waits to be refilled.
 *
 * Ownership: a command belongs to its submitter until engine_submit() returned ERR_OK, then to the
 * engine until done() is called, exactly once, on the ledger thread; done() must not block. */
#pragma once

#include "base/err.h"
#include "base/receipt.h"
#include "ledger/ledger.h"

struct engine;

struct command {
    struct ledger_event event;     /* now_ms is set by the engine */
    struct ledger_result result;   /* set when done() is called; the submitter finishes it */
    struct commit_receipt receipt; /* valid if result.err is not one of the 503s */
    void (*done)(struct command *command);
    int64_t wait_ms;      /* LEDGER_PAGE: how long it may wait for news; others: 0 */
    int64_t deadline_us;  /* the engine's: stopwatch_us() until which it is kept; 0: not kept yet */
    struct command *next; /* the engine's */
};

enum engine_state { ENGINE_STARTING, ENGINE_READY, ENGINE_STORE_AWAY, ENGINE_STOPPED };

/* A snapshot for health, readiness and pages; safe from any thread. */
struct engine_status {
    enum engine_state state;
    enum err reason;      /* why not ready */
    struct diag diag;     /* the same for people */
    struct uuid node_ref; /* nil until the database was first read */
    uint64_t seq;
    int64_t now_ms;          /* ledger clock at the last batch; 0 before the first */
    int64_t clock_offset_ms; /* wall minus ledger */
    bool clock_alarm;
    struct ledger_counts counts;
    uint64_t batches, commands, commit_failures, reloads;
    uint32_t queue_depth;
    int64_t last_commit_us; /* duration of the last commit */
    struct ledger_pair pair;
    int64_t next_due_ms; /* ledger time at which a lease is next due; INT64_MAX: none */
    uint64_t renames;    /* R11: how often this process drew a new node_ref */
    bool awaiting_peer;  /* R11: no decision is taken yet, see contact_wait_ms */
    int64_t behind_us; /* stopwatch: about since when the partner has not acknowledged our changes;
                        * 0: it has them all, or there is none */
    uint32_t parked;   /* commands that are kept waiting */
};

struct engine_conf {
    const char *database; /* libpq connection string */
    struct uuid instance_ref;
    bool peer_expected;
    int64_t lease_max_ms, ended_keep_ms, clock_skew_max_ms; /* the last: also R10's waits */
    uint32_t queue_max; /* commands waiting; above it ERR_OVERLOADED */
    uint32_t batch_max; /* commands of one transaction */
    /* Reads a stored entitlement again and tells whether its publisher is (still) trusted. Called
     * on the ledger thread. */
    enum err (*entitlement_open)(void *context, const char *text, struct entitlement **out,
                                 bool *trusted, struct diag *diag);
    /* R12: a grant waits for credits of this scope; the peer should be asked. Called on the ledger
     * thread, must not block. NULL without a peer. */
    void (*credits_wanted)(void *context, const struct uuid *scope_ref, int64_t count);
    int64_t credits_wait_ms; /* how long such a grant waits before it is denied */
    const char *state_file;  /* what R11 compares the database with; NULL: nothing */
    int64_t contact_wait_ms; /* R11: after a start, how long no decision is taken until the peer was
                              * met (engine_met()); 0 without a peer */
    void *context;
};

/* Connects, locks, migrates, loads, then starts the thread. What a restart cannot heal (newer
 * schema, unsafe settings, another owner, refused user) is returned with a sentence; a database
 * that is merely away is not an error: the thread keeps trying and engine_status() says so. */
enum err engine_start(const struct engine_conf *conf, struct engine **out,
                      struct diag *diag) MUST_USE;

/* Stops taking commands, commits what is queued, writes the clock's final ceiling, joins the
 * thread. NULL in, NULL out. */
struct engine *engine_stop(struct engine *engine);

/* R11: the peer was met, or is certainly not there (its host refuses): whatever this node's history
 * may have lost since is known. From any thread; later calls change nothing. */
void engine_met(struct engine *engine);

/* R12: while the peer is not connected, nothing waits for credits of it; what waits is denied at
 * once. It counts as connected until this says otherwise. From any thread. */
void engine_peer_connected(struct engine *engine, bool connected);

/* What is kept waiting, apart from the queue:
 *   - a LEDGER_PAGE that would tell nothing (R8), until it would, for up to command->wait_ms. A
 * newer one of the same receiver takes its place; the older one is refused;
 *   - a LEDGER_GRANT whose seats the partner has (R12), until they have arrived or credits_wait_ms
 *     are over.
 * From now on nothing is kept any more, and what is kept is answered at once: before a stop, so
 * that nobody has to wait for it. From any thread. */
void engine_stop_waiting(struct engine *engine);

/* ERR_OK: taken. ERR_OVERLOADED, ERR_NOT_READY, ERR_STORE_AWAY…: not taken, done() will not be
 * called. */
enum err engine_submit(struct engine *engine, struct command *command) MUST_USE;

/* Publishers' keys were read again: the ledger thread asks entitlement_open() anew for all that is
 * installed, soon. From any thread. */
void engine_review_trust(struct engine *engine);

void engine_status(struct engine *engine, struct engine_status *out);
const char *engine_state_name(enum engine_state state);
