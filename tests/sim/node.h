/* One node in virtual time: what node/engine/engine.c does, without threads. Its ledger and its
 * clock are the product's own object code. */
#pragma once

#include "ledger/clock.h"
#include "ledger/ledger.h"
#include "wire.h"

struct world;

struct node_faults {
    unsigned crash_per_mille;     /* at each batch */
    unsigned suspend_per_mille;   /* the machine sleeps while a batch is on its way to the disk */
    unsigned wall_step_per_mille; /* at each batch: somebody sets the wall clock */
    int64_t wall_step_max_ms;
    int64_t down_max_ms;
};

struct sim_node {
    struct ledger_conf conf;
    struct node_faults faults;
    int64_t wall_offset_ms; /* wall clock minus true time */
    int64_t boot_offset_ms; /* boot clock minus true time: changes when the machine restarts */
    bool process_up, clock_started, committing, woken;
    uint64_t life;         /* counts processes: what an earlier one had on the agenda is void */
    uint64_t wake_number;  /* only the wake-up that was asked for last counts */
    struct ledger *ledger; /* NULL: down, or without its database */
    struct ledger_clock clock;
    int64_t ceiling_asked_ms;
    struct request *first, *last; /* queue */
    struct request *batch;        /* being committed */
    uint64_t batches, crashes, reloads;
};

void node_start(struct world *world);
void node_stop(struct world *world); /* for good: everything queued is lost */
void node_submit(struct world *world, struct request *request);
/* Ledger time of this node now; what it last read while it is down. */
int64_t node_clock_ms(const struct sim_node *node);
