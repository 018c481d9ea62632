/* Everything in one run: virtual time, chance, and who is there. One thread; a seed determines all.
 */
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

#define SIM_EPOCH_MS    ((int64_t)1800000000000) /* the true date when a run begins */
#define SIM_SKEW_MAX_MS 300000

struct world {
    uint64_t seed, orders;
    struct dice dice;
    int64_t now_ms; /* true time since the run began */
    struct agenda agenda;
    struct wire_faults wire;
    struct sim_store store;
    struct sim_node node;
    struct clients clients;
    struct operator operator;
    struct auditor auditor;
    struct trace trace;
    bool healing;
};

struct world_summary {
    uint64_t batches, crashes, reloads, told, checks;
};

/* Runs one seed for so much virtual time. Ends the process with a trace if a rule is broken. */
struct world_summary world_run(uint64_t seed, int64_t duration_ms);

void world_after(struct world *world, int64_t ms, agenda_function *function, void *subject,
                 uint64_t number);
uint64_t world_order(struct world *world); /* rises: orders what is sent, answered and told */
_Noreturn void world_fail(const struct world *world, const char *format, ...) PRINTF(2, 3);
