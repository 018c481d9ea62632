/* Everything in one run: virtual time, chance, and who is there. One thread; a seed determines all.
 *
 * Two seats, A and B, each a machine with a disk, clocks and a process; successive nodes occupy
 * them. What a node is, to the auditor and to the operator, is its identity: a node_ref. */
#pragma once

#include "agenda.h"
#include "auditor.h"
#include "clients.h"
#include "dice.h"
#include "node.h"
#include "operator.h"
#include "store.h"
#include "trace.h"
#include "wire.h"

#define SIM_EPOCH_MS       ((int64_t)1800000000000) /* the true date when a run begins */
#define SIM_SEATS          2
#define SIM_IDENTITIES_MAX 32 /* their sets are bits of a word */

enum identity_state {
    IDENTITY_LIVE,
    IDENTITY_LOST,    /* R11: its history is shorter than it was; it never decides again */
    IDENTITY_RETIRED, /* R10: by an operator's word */
};

struct identity {
    struct uuid node_ref;
    size_t seat;
    enum identity_state state;
    int64_t clock_ms;       /* what its ledger clock last read */
    int64_t told_ms;        /* latest time it told anybody */
    uint64_t serving_since; /* order of its first answer to a client; 0: none */
};

/* What may happen in this run (swarm testing: each seed has its own mixture). */
struct plan {
    int64_t duration_ms, skew_max_ms;
    bool clocks_wild;   /* beyond MAX_CLOCK_SKEW; then nothing that R10 bounds with it */
    bool policy_varies; /* at_expiry changes from revision to revision */
    bool deletes;       /* of origins */
    unsigned incidents; /* bits: 1 << enum incident */
    int64_t incident_every_ms;
    int64_t poll_max_ms; /* pause between two looks at the peer's changes */
    bool eager;          /* a peer with news answers a waiting long poll */
    size_t page_limit;   /* rows of a page at most, at times */
};

struct world {
    uint64_t seed, orders;
    struct dice dice;
    int64_t now_ms; /* true time since the run began */
    struct agenda agenda;
    struct plan plan;
    struct wire_faults wire;
    bool cut[SIM_SEATS][SIM_SEATS]; /* from, to */
    bool calm; /* nothing else goes wrong: somebody put back a whole disk and waits for the contact
                */
    struct sim_node nodes[SIM_SEATS];
    struct identity identities[SIM_IDENTITIES_MAX];
    size_t identity_count;
    struct clients clients;
    struct operator operator;
    struct auditor auditor;
    struct trace trace;
    bool healing;
    uint64_t steps;
};

struct world_summary {
    uint64_t steps, batches, crashes, reloads, told, checks, pages, identities, retired, closed;
};

struct world_options {
    uint64_t seed;
    bool trace;       /* keep the trace; else a failing seed is run again to get it */
    bool full_trace;  /* print all of it that was kept */
    unsigned without; /* incidents that must not happen */
    unsigned focus;   /* those that happen, besides cuts, and often; 0: as the seed has it */
};

/* Runs one seed. Ends the process with a trace if a rule is broken. */
struct world_summary world_run(const struct world_options *options);

void world_after(struct world *world, int64_t ms, agenda_function *function, void *subject,
                 uint64_t number);
uint64_t world_order(struct world *world); /* rises: orders what is sent, answered and told */
_Noreturn void world_fail(const struct world *world, const char *format, ...) PRINTF(2, 3);

struct sim_node *world_other(struct world *world, const struct sim_node *node);
size_t world_identity_new(struct world *world, const struct uuid *node_ref, size_t seat);
int world_identity(const struct world *world, const struct uuid *node_ref); /* -1: none */
bool world_faulty(const struct world *world); /* may anything go wrong now? */

#define world_trace(world, ...)                                                                    \
    do {                                                                                           \
        if ((world)->trace.lines)                                                                  \
            trace_line(&(world)->trace, (world)->now_ms, __VA_ARGS__);                             \
    } while (0)
