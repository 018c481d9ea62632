/* A database that can fail. It keeps the committed rows of one node. One session at a time, as the
 * advisory lock has it; a commit on its way when a session ends has landed or died once the next
 * session is there (R13). */
#pragma once

#include "dice.h"
#include "rows.h"

struct store_faults {
    unsigned away_per_mille;    /* a commit fails, nothing is written */
    unsigned unknown_per_mille; /* the answer to a commit is lost */
    unsigned slow_per_mille;    /* a commit takes seconds */
};

struct sim_store {
    struct uuid node_ref; /* nil: an empty database */
    struct rows rows;
    struct store_faults faults;
    int64_t away_until_ms; /* true time: nobody can connect before */
};

void sim_store_fini(struct sim_store *store);

/* How long this commit will take. */
int64_t sim_store_latency(const struct sim_store *store, struct dice *dice, bool faulty);

/* What becomes of it: ERR_OK written; ERR_STORE_AWAY not written; ERR_STORE_UNKNOWN one of the two.
 * After a failure the database may be away for some time. */
enum err sim_store_commit(struct sim_store *store, struct dice *dice, bool faulty, int64_t true_ms,
                          const struct ledger_changes *changes, int64_t ceiling_ms);

/* The process dies while this commit is on its way: it lands or not. */
bool sim_store_abandon(struct sim_store *store, struct dice *dice,
                       const struct ledger_changes *changes, int64_t ceiling_ms);
