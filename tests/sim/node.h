/* One seat in virtual time: a machine with its disk and clocks, and the process on it. What
 * node/engine does (batches, contact wait, R11's rename and wipe) is node.c, what replication/ does
 * is worker.c, both without threads. Ledger and clock are the product's own object code. */
#pragma once

#include "ledger/clock.h"
#include "ledger/ledger.h"
#include "store.h"
#include "wire.h"

struct world;

struct node_faults {
    unsigned crash_per_mille;     /* at each batch */
    unsigned suspend_per_mille;   /* the machine sleeps while a batch is on its way to the disk */
    unsigned wall_step_per_mille; /* at each batch: somebody sets the wall clock */
    int64_t down_max_ms;
};

/* <STATE_DIR>/node.state: what R11 compares the database with. */
struct state_file {
    bool exists;
    struct uuid node_ref;
    uint64_t seq;
    int64_t ceiling_ms; /* R1 */
};

struct backup {
    bool taken;
    struct uuid node_ref;
    struct rows rows;
    struct state_file file;
};

struct worker { /* of the present process */
    bool met;   /* both sides have accepted each other */
    bool busy;  /* a call is under way */
    bool dismissed;
    uint64_t number; /* only the look that was asked for last counts */
    int64_t next_ms; /* when that is */
    struct uuid peer;
    enum err refused_here, refused_there; /* why the last meeting failed */
};

struct sim_node {
    size_t seat;
    struct ledger_conf conf; /* self: of the database */
    struct node_faults faults;
    struct sim_store store;
    struct state_file file;
    struct backup backup;
    int64_t wall_offset_ms; /* wall clock minus true time */
    int64_t boot_offset_ms; /* boot clock minus true time: changes when the machine restarts */
    int64_t drift_ppm;      /* of the boot clock */
    int64_t wall_error_max_ms;
    bool put_back; /* an older state of the same node was, and nobody noticed yet */
    bool dead;     /* stopped for good; an operator may replace the machine */
    bool process_up, clock_started, committing, woken, restarting;
    int64_t committing_since_ms;
    bool ticked;              /* what was loaded has settled */
    bool contacted;           /* R11: the peer was met, or waited for long enough */
    int64_t contact_until_ms; /* true time */
    uint64_t life;            /* counts processes: what an earlier one had on the agenda is void */
    uint64_t wake_number;     /* only the wake-up that was asked for last counts */
    size_t identity;          /* index into world.identities; of the database */
    struct ledger *ledger;    /* NULL: down, or without its database */
    struct ledger_clock clock;
    int64_t ceiling_asked_ms;
    bool wipe_due, rename_due;    /* R11, found in the present batch */
    struct request *first, *last; /* queue */
    struct request *batch;        /* being committed */
    struct worker worker;
    uint64_t batches, crashes, reloads, pages;
};

void node_start(struct world *world, struct sim_node *node);
void node_stop(struct world *world, struct sim_node *node); /* everything queued is lost */
void node_kill(struct world *world, struct sim_node *node); /* a commit on its way lands or not */
bool node_may_restart(const struct world *world, const struct sim_node *node);
void node_restart_after(struct world *world, struct sim_node *node, int64_t ms);
void node_submit(struct world *world, struct sim_node *node, struct request *request);
int64_t node_clock_ms(const struct sim_node *node); /* what it last read */
/* What the database says, of a node that runs or not. */
bool node_filled(const struct sim_node *node);

/* The disk of a node that does not run. */
void node_backup(struct sim_node *node);
void node_backup_drop(struct sim_node *node);
void node_restore(struct world *world, struct sim_node *node, bool with_file);
void node_wipe(struct world *world, struct sim_node *node, bool with_file);

/* worker.c */
void worker_start(struct world *world, struct sim_node *node);
void worker_look(struct world *world, struct sim_node *node, int64_t after_ms);
/* The node committed: whoever waits for its news gets it. */
void worker_news(struct world *world, struct sim_node *node);
/* R12: a grant was denied because the peer has the seats. */
void worker_want(struct world *world, struct sim_node *node, const struct uuid *scope,
                 int64_t count);
