/* Inside of engine/ only: the ledger thread's state, and what its two halves offer each other.
 *
 * engine.c: queue, status, the store's coming and going, life.
 * batch.c:  one batch: stepping, commands that are kept waiting, commit, answers. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "engine/engine.h"
#include "engine/state_file.h"
#include "ledger/clock.h"
#include "store/store.h"

struct queue {
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct command *first, *last;
    uint32_t count;
    bool stopping;
    bool stirred; /* the ledger thread should look, though no command came */
};

/* A list in the order of arrival. */
struct command_list {
    struct command *first, *last;
    uint32_t count;
};

struct engine {
    struct engine_conf conf;
    pthread_t thread;
    struct queue queue;
    pthread_mutex_t status_mutex;
    struct engine_status status;
    atomic_bool ready;        /* status.state == ENGINE_READY, without the mutex */
    atomic_bool review_trust; /* engine_review_trust() */
    atomic_bool met;          /* engine_met() */
    atomic_bool peer_away;    /* engine_peer_connected() */
    atomic_bool unwaiting;    /* engine_stop_waiting() */

    /* The ledger thread's own. store and ledger are NULL while the store is away. */
    struct store *store;
    struct ledger *ledger;
    struct store_identity identity; /* as of the last start of a session */
    struct state_file *state_file;  /* NULL: none */
    struct state_record history;    /* the newest one that the state file has */
    bool history_known;             /* there is one */
    bool history_unwritten;         /* the last note failed, and that was told */
    struct ledger_clock clock;
    struct commit_receipt receipt; /* of the last commit of this session; nil before the first */
    bool clock_started;
    bool rename_due;          /* R11: the history is lost; a new name is still to be drawn */
    int64_t contact_until_us; /* 0: not ready yet */
    struct command_list pages, grants; /* kept waiting */
    int64_t wish_again_us; /* R12: stopwatch at which grants that wait are tried again */
    uint64_t behind_seq;   /* with status.behind_us */
};

void list_append(struct command_list *list, struct command *command);

/* ---- engine.c ---- */

/* Memory never runs ahead of disk: what was not committed is thrown away with all the rest. */
void engine_drop_state(struct engine *engine);
/* Opens the store and loads; renames first if the history is lost (R11). On failure the store is
 * closed again. */
enum err engine_acquire(struct engine *engine, struct diag *diag) MUST_USE;
/* The store failed: says so, and drops the state. */
void engine_lose_store(struct engine *engine, enum err err, const struct diag *diag);
void engine_set_state(struct engine *engine, enum engine_state state, enum err reason,
                      const struct diag *diag);
/* After a commit: the state file learns how far the history goes (R11). durable: with fsync. */
void engine_note_history(struct engine *engine, bool durable);
/* Asks again for every entitlement whether its publisher is trusted here. */
void engine_ask_trust(struct engine *engine);
/* Tells all of the list that they were not served, and empties it. Whatever is no 503 becomes
 * ERR_NOT_READY. */
void engine_refuse(struct command_list *list, enum err err, const struct diag *diag);

/* ---- batch.c ---- */

/* Decides what is in the list, and what was kept waiting and can be answered now; commits; answers.
 */
void batch_run(struct engine *engine, struct command_list *list);
/* R11: has the peer been met, or been waited for long enough? */
bool batch_settled(const struct engine *engine);
/* Stopwatch at which something that is kept waiting, or the contact, is due; INT64_MAX: nothing. */
int64_t batch_due_us(const struct engine *engine);
/* Everything that is kept waiting is refused. */
void batch_refuse_parked(struct engine *engine, enum err err, const struct diag *diag);
