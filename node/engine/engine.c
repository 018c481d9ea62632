#include "engine/engine.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/log.h"
#include "base/random.h"
#include "ledger/clock.h"
#include "store/store.h"

#define LOCK_WAIT_MS     5000 /* a killed predecessor's session ends within that */
#define RETRY_FIRST_MS   100
#define RETRY_LAST_MS    2000
#define IDLE_WAIT_MAX_MS 1000
#define IDLE_WAIT_MIN_MS 10

struct queue {
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct command *first, *last;
    uint32_t count;
    bool stopping;
    bool review_trust; /* asked for by engine_review_trust() */
};

struct engine {
    struct engine_conf conf;
    pthread_t thread;
    struct queue queue;
    pthread_mutex_t status_mutex;
    struct engine_status status;
    atomic_bool ready; /* status.state == ENGINE_READY, without the mutex */

    /* The ledger thread's own. All NULL while the store is away. */
    struct store *store;
    struct ledger *ledger;
    struct ledger_clock clock;
    struct commit_receipt receipt; /* of the last commit of this session; nil before the first */
    bool clock_started;
};

const char *engine_state_name(enum engine_state state)
{
    static const char *const names[] = { "starting", "ready", "store_away", "stopped" };

    must(state <= ENGINE_STOPPED);
    return names[state];
}

/* ---- queue -------------------------------------------------------------------------------------
 */

static void queue_init(struct queue *queue)
{
    pthread_condattr_t attributes;

    *queue = (struct queue){ .count = 0 };
    must(pthread_mutex_init(&queue->mutex, NULL) == 0);
    must(pthread_condattr_init(&attributes) == 0);
    must(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
    must(pthread_cond_init(&queue->wake, &attributes) == 0);
    pthread_condattr_destroy(&attributes);
}

static void queue_fini(struct queue *queue)
{
    must(!queue->first);
    pthread_cond_destroy(&queue->wake);
    pthread_mutex_destroy(&queue->mutex);
}

/* Takes up to max commands; waits up to wait_ms for the first. *stopping: no more will come. Also
 * returns when trust is to be reviewed. */
static struct command *queue_take(struct queue *queue, uint32_t max, int64_t wait_ms,
                                  bool *stopping)
{
    struct timespec deadline = deadline_after(wait_ms);
    int timed_out = 0;

    pthread_mutex_lock(&queue->mutex);
    while (!queue->first && !queue->stopping && !queue->review_trust && !timed_out)
        timed_out = pthread_cond_timedwait(&queue->wake, &queue->mutex, &deadline);
    struct command *first = queue->first, *last = first;
    for (uint32_t taken = 1; last; taken++, last = last->next) {
        queue->count--;
        if (taken == max || !last->next)
            break;
    }
    if (last) {
        queue->first = last->next;
        last->next = NULL;
        if (!queue->first)
            queue->last = NULL;
    }
    *stopping = queue->stopping;
    pthread_mutex_unlock(&queue->mutex);
    return first;
}

/* What a command is told while the store is away, whatever the reason is: to come again later. */
static enum err refusal(enum err reason)
{
    return err_info(reason)->http == 503 ? reason : ERR_NOT_READY;
}

enum err engine_submit(struct engine *engine, struct command *command)
{
    struct queue *queue = &engine->queue;
    enum err err = ERR_OK;

    must(command->done && command->event.kind < LEDGER_EVENTS);
    if (!atomic_load(&engine->ready)) {
        struct engine_status status;
        engine_status(engine, &status);
        return refusal(status.reason);
    }
    pthread_mutex_lock(&queue->mutex);
    if (queue->stopping) {
        err = ERR_NOT_READY;
    } else if (queue->count >= engine->conf.queue_max) {
        err = ERR_OVERLOADED;
    } else {
        command->next = NULL;
        if (queue->last)
            queue->last->next = command;
        else
            queue->first = command;
        queue->last = command;
        if (queue->count++ == 0)
            pthread_cond_signal(&queue->wake);
    }
    pthread_mutex_unlock(&queue->mutex);
    return err;
}

void engine_review_trust(struct engine *engine)
{
    pthread_mutex_lock(&engine->queue.mutex);
    engine->queue.review_trust = true;
    pthread_cond_signal(&engine->queue.wake);
    pthread_mutex_unlock(&engine->queue.mutex);
}

/* ---- status ------------------------------------------------------------------------------------
 */

void engine_status(struct engine *engine, struct engine_status *out)
{
    pthread_mutex_lock(&engine->queue.mutex);
    uint32_t depth = engine->queue.count;
    pthread_mutex_unlock(&engine->queue.mutex);
    pthread_mutex_lock(&engine->status_mutex);
    *out = engine->status;
    pthread_mutex_unlock(&engine->status_mutex);
    out->queue_depth = depth;
}

static void set_state(struct engine *engine, enum engine_state state, enum err reason,
                      const struct diag *diag)
{
    pthread_mutex_lock(&engine->status_mutex);
    engine->status.state = state;
    engine->status.reason = reason;
    engine->status.diag = diag ? *diag : (struct diag){ .text = "" };
    atomic_store(&engine->ready, state == ENGINE_READY);
    pthread_mutex_unlock(&engine->status_mutex);
}

static void note_batch(struct engine *engine, uint64_t commands, int64_t commit_us)
{
    struct engine_status *s = &engine->status;

    pthread_mutex_lock(&engine->status_mutex);
    s->batches++;
    s->commands += commands;
    s->seq = ledger_seq(engine->ledger);
    s->now_ms = engine->clock.now_ms;
    s->clock_offset_ms = engine->clock.offset_ms;
    s->clock_alarm = ledger_clock_alarm(&engine->clock);
    s->counts = ledger_counts(engine->ledger);
    if (commit_us >= 0)
        s->last_commit_us = commit_us;
    pthread_mutex_unlock(&engine->status_mutex);
}

/* ---- store: going away and coming back ----------------------------------------------------------
 */

/* Memory never runs ahead of disk: what was not committed is thrown away with all the rest. */
static void drop_state(struct engine *engine)
{
    engine->store = store_close(engine->store);
    engine->ledger = ledger_free(engine->ledger);
}

static enum err load_ledger(struct engine *engine, const struct uuid *node_ref, struct diag *diag)
{
    struct ledger_conf conf = {
        .self = *node_ref,
        .peer_expected = engine->conf.peer_expected,
        .lease_max_ms = engine->conf.lease_max_ms,
        .ended_keep_ms = engine->conf.ended_keep_ms,
    };

    random_bytes(conf.hash_seed, sizeof conf.hash_seed);
    engine->ledger = ledger_new(&conf);
    return store_load(engine->store, engine->ledger, engine->conf.entitlement_open,
                      engine->conf.context, diag);
}

/* R1: started once a process. When the database comes back, the clock goes on as it was; only if
 * somebody else moved the ceiling meanwhile does it jump over what may have been used. */
static void start_clock(struct engine *engine, int64_t ceiling_ms)
{
    if (engine->clock_started)
        ledger_clock_resume(&engine->clock, wall_now(), boot_now(), ceiling_ms);
    else
        ledger_clock_start(&engine->clock, wall_now(), boot_now(), ceiling_ms,
                           engine->conf.clock_skew_max_ms);
    engine->clock_started = true;
}

static enum err acquire(struct engine *engine, struct diag *diag)
{
    struct store_identity identity;
    int64_t started_us = stopwatch_us();
    enum err err = store_open(engine->conf.database, &engine->conf.instance_ref, LOCK_WAIT_MS,
                              &engine->store, &identity, diag);

    if (err == ERR_OK)
        err = load_ledger(engine, &identity.node_ref, diag);
    if (err != ERR_OK) {
        drop_state(engine);
        return err;
    }
    start_clock(engine, identity.ceiling_ms);
    engine->receipt = (struct commit_receipt){ .seq = 0 };
    pthread_mutex_lock(&engine->status_mutex);
    engine->status.node_ref = identity.node_ref;
    engine->status.seq = identity.seq;
    engine->status.counts = ledger_counts(engine->ledger);
    engine->status.reloads++;
    pthread_mutex_unlock(&engine->status_mutex);
    set_state(engine, ENGINE_READY, ERR_OK, NULL);
    log_event(LOG_INFO, "state_loaded", "%zu leases of %zu origins loaded in %lld ms",
              ledger_counts(engine->ledger).leases, ledger_counts(engine->ledger).origins,
              (long long)((stopwatch_us() - started_us) / 1000));
    return ERR_OK;
}

static bool trusts(void *context, const struct entitlement *e)
{
    struct engine *engine = context;
    AUTO(entitlement_unref) struct entitlement *again = NULL;
    struct diag diag = { "" };
    bool trusted = false;

    if (engine->conf.entitlement_open(engine->conf.context, e->text, &again, &trusted, &diag) !=
        ERR_OK)
        return false;
    if (!trusted)
        log_event_with(LOG_WARNING, "publisher_not_trusted", LOG_FIELDS("publisher", e->publisher),
                       "nothing new is granted of its entitlements: %s", diag.text);
    return trusted;
}

static void review_trust(struct engine *engine)
{
    pthread_mutex_lock(&engine->queue.mutex);
    bool wanted = engine->queue.review_trust;
    engine->queue.review_trust = false;
    pthread_mutex_unlock(&engine->queue.mutex);
    if (wanted && engine->ledger)
        ledger_review_trust(engine->ledger, trusts, engine);
}

/* ---- batches -----------------------------------------------------------------------------------
 */

static void answer(struct command *list)
{
    for (struct command *next; list; list = next) {
        next = list->next;
        list->done(list);
    }
}

static void refuse(struct command *list, enum err err, const struct diag *diag)
{
    for (struct command *c = list; c; c = c->next) {
        ledger_result_fini(&c->result);
        c->result = (struct ledger_result){ .err = refusal(err), .diag = *diag };
        c->receipt = (struct commit_receipt){ .seq = 0 };
    }
    answer(list);
}

static void tick(struct engine *engine, int64_t now_ms)
{
    struct ledger_event event = {
        .kind = LEDGER_TICK,
        .now_ms = now_ms,
        .tick.clock_alarm = ledger_clock_alarm(&engine->clock),
    };
    struct ledger_result result;

    ledger_step(engine->ledger, &event, &result);
    ledger_result_fini(&result);
}

/* R13: what the batch decided, and the clock's ceiling above its time, become durable in one
 * transaction before anybody hears of it. A session's first batch always commits: that it can write
 * is not known before, nor which change number its receipts must name. */
static enum err commit(struct engine *engine, int64_t *commit_us, struct diag *diag)
{
    int64_t ceiling_ms = ledger_clock_ceiling_wanted(&engine->clock);
    int64_t started_us = stopwatch_us();

    *commit_us = -1;
    if (!ledger_changed(engine->ledger) && !ceiling_ms && !uuid_is_nil(&engine->receipt.node_ref))
        return ERR_OK;
    enum err err = store_commit(engine->store, ledger_changes(engine->ledger), ceiling_ms,
                                &engine->receipt, diag);
    if (err != ERR_OK)
        return err;
    *commit_us = stopwatch_us() - started_us;
    if (ceiling_ms)
        ledger_clock_ceiling_durable(&engine->clock, ceiling_ms);
    ledger_changes_clear(engine->ledger);
    return ERR_OK;
}

static void lose_store(struct engine *engine, enum err err, const struct diag *diag)
{
    pthread_mutex_lock(&engine->status_mutex);
    engine->status.commit_failures++;
    pthread_mutex_unlock(&engine->status_mutex);
    set_state(engine, ENGINE_STORE_AWAY, err, diag);
    log_event_with(LOG_ERROR, "store_lost", LOG_FIELDS("code", err_info(err)->code),
                   "granting stops until the database is back: %s", diag->text);
    drop_state(engine);
}

static void run_batch(struct engine *engine, struct command *list)
{
    int64_t now_ms = ledger_clock_advance(&engine->clock, wall_now(), boot_now());
    int64_t commit_us;
    uint64_t count = 0;
    struct diag diag = { "" };

    tick(engine, now_ms);
    for (struct command *c = list; c; c = c->next) {
        c->event.now_ms = now_ms;
        ledger_step(engine->ledger, &c->event, &c->result);
        count++;
    }
    enum err err = commit(engine, &commit_us, &diag);
    if (err != ERR_OK) {
        lose_store(engine, err, &diag);
        refuse(list, err, &diag);
        return;
    }
    must(now_ms < engine->clock.ceiling_ms); /* R1 */
    for (struct command *c = list; c; c = c->next)
        c->receipt = engine->receipt;
    note_batch(engine, count, commit_us);
    answer(list);
}

/* How long nothing has to be done: until a seat is due, or the clock's ceiling wants renewal. */
static int64_t idle_wait(struct engine *engine)
{
    int64_t now_ms = engine->clock.now_ms;
    int64_t ceiling_wait_ms = engine->clock.ceiling_ms - LEDGER_CLOCK_AHEAD_MS / 2 - now_ms;
    int64_t due_ms = ledger_next_due(engine->ledger);
    int64_t wait_ms = IDLE_WAIT_MAX_MS;

    if (ceiling_wait_ms < wait_ms)
        wait_ms = ceiling_wait_ms;
    if (due_ms != INT64_MAX && due_ms - now_ms < wait_ms)
        wait_ms = due_ms - now_ms;
    return wait_ms < IDLE_WAIT_MIN_MS ? IDLE_WAIT_MIN_MS : wait_ms;
}

/* Tries to get the store back; what is queued meanwhile is refused. */
static void retry_store(struct engine *engine, int64_t *backoff_ms)
{
    bool stopping;
    struct engine_status status;
    struct diag diag = { "" };
    uint8_t jitter;

    random_bytes(&jitter, sizeof jitter);
    int64_t wait_ms = *backoff_ms / 2 + *backoff_ms * jitter / 512;
    int64_t until_us = stopwatch_us() + wait_ms * 1000;
    do { /* the queue may still hold commands from before: they get the same answer */
        struct command *list = queue_take(&engine->queue, UINT32_MAX, wait_ms, &stopping);
        engine_status(engine, &status);
        refuse(list, status.reason, &status.diag);
        review_trust(engine); /* loading will ask anyway */
        wait_ms = (until_us - stopwatch_us()) / 1000;
    } while (wait_ms > 0 && !stopping);
    if (stopping)
        return;
    enum err err = acquire(engine, &diag);
    if (err == ERR_OK) {
        *backoff_ms = RETRY_FIRST_MS;
        log_event(LOG_INFO, "store_back", "the database is back; granting goes on");
        return;
    }
    if (err != status.reason || strcmp(diag.text, status.diag.text) != 0)
        log_event_with(LOG_ERROR, "store_away", LOG_FIELDS("code", err_info(err)->code), "%s",
                       diag.text);
    set_state(engine, ENGINE_STORE_AWAY, err, &diag);
    *backoff_ms = *backoff_ms * 2 > RETRY_LAST_MS ? RETRY_LAST_MS : *backoff_ms * 2;
}

/* A clean stop sets the ceiling to the present, so that the next start does not jump ahead. */
static void settle_clock(struct engine *engine)
{
    struct diag diag = { "" };
    int64_t now_ms = ledger_clock_advance(&engine->clock, wall_now(), boot_now());

    if (store_commit(engine->store, ledger_changes(engine->ledger), now_ms + 1, &engine->receipt,
                     &diag) != ERR_OK)
        log_event(LOG_WARNING, "clock_not_settled", "%s", diag.text);
}

static void *run(void *context)
{
    struct engine *engine = context;
    int64_t backoff_ms = RETRY_FIRST_MS;
    bool stopping = false;
    struct command *list = NULL;

    while (!stopping || list) {
        review_trust(engine);
        if (engine->ledger)
            run_batch(engine, list);
        else if (list)
            refuse(list, ERR_NOT_READY, &(struct diag){ "the node is stopping" });
        list = NULL;
        if (!engine->ledger && !stopping) {
            retry_store(engine, &backoff_ms);
            pthread_mutex_lock(&engine->queue.mutex);
            stopping = engine->queue.stopping;
            pthread_mutex_unlock(&engine->queue.mutex);
            continue;
        }
        int64_t wait_ms = engine->ledger && !stopping ? idle_wait(engine) : 0;
        list = queue_take(&engine->queue, engine->conf.batch_max, wait_ms, &stopping);
    }
    if (engine->ledger)
        settle_clock(engine);
    drop_state(engine);
    list = queue_take(&engine->queue, UINT32_MAX, 0, &stopping); /* came in while it went away */
    refuse(list, ERR_NOT_READY, &(struct diag){ "the node is stopping" });
    set_state(engine, ENGINE_STOPPED, ERR_NOT_READY, &(struct diag){ "the node is stopping" });
    return NULL;
}

/* ---- life
 * ---------------------------------------------------------------------------------------- */

/* What waiting can heal. Anything else at the first start is a mistake that somebody has to mend.
 */
static bool may_pass(enum err err)
{
    return err == ERR_STORE_AWAY || err == ERR_STORE_FULL || err == ERR_STORE_UNKNOWN;
}

enum err engine_start(const struct engine_conf *conf, struct engine **out, struct diag *diag)
{
    struct engine *engine = mem_calloc(1, sizeof *engine);

    must(conf->queue_max > 0 && conf->batch_max > 0 && conf->entitlement_open);
    engine->conf = *conf;
    queue_init(&engine->queue);
    must(pthread_mutex_init(&engine->status_mutex, NULL) == 0);
    struct diag why = { "" };
    enum err err = acquire(engine, &why);
    if (err != ERR_OK && !may_pass(err)) {
        if (diag)
            *diag = why;
        queue_fini(&engine->queue);
        pthread_mutex_destroy(&engine->status_mutex);
        mem_free(engine);
        return err;
    }
    if (err != ERR_OK) {
        log_event_with(LOG_ERROR, "store_away", LOG_FIELDS("code", err_info(err)->code), "%s",
                       why.text);
        set_state(engine, ENGINE_STORE_AWAY, err, &why);
    }
    must(pthread_create(&engine->thread, NULL, run, engine) == 0);
    *out = engine;
    return ERR_OK;
}

struct engine *engine_stop(struct engine *engine)
{
    if (!engine)
        return NULL;
    pthread_mutex_lock(&engine->queue.mutex);
    engine->queue.stopping = true;
    pthread_cond_signal(&engine->queue.wake);
    pthread_mutex_unlock(&engine->queue.mutex);
    pthread_join(engine->thread, NULL);
    queue_fini(&engine->queue);
    pthread_mutex_destroy(&engine->status_mutex);
    mem_free(engine);
    return NULL;
}
