#include <inttypes.h>

#include "base/log.h"
#include "base/random.h"
#include "engine/engine_internal.h"

#define LOCK_WAIT_MS     5000 /* a killed predecessor's session ends within that */
#define RETRY_FIRST_MS   100
#define RETRY_LAST_MS    2000
#define IDLE_WAIT_MAX_MS 1000
#define IDLE_WAIT_MIN_MS 10

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

void list_append(struct command_list *list, struct command *command)
{
    command->next = NULL;
    if (list->last)
        list->last->next = command;
    else
        list->first = command;
    list->last = command;
    list->count++;
}

/* Takes up to max commands; waits up to wait_ms for the first. *stopping: no more will come. Also
 * returns when somebody has stirred the thread. */
static struct command_list queue_take(struct queue *queue, uint32_t max, int64_t wait_ms,
                                      bool *stopping)
{
    struct timespec deadline = deadline_after(wait_ms);
    struct command_list taken = { NULL, NULL, 0 };
    int timed_out = 0;

    pthread_mutex_lock(&queue->mutex);
    while (!queue->first && !queue->stopping && !queue->stirred && !timed_out)
        timed_out = pthread_cond_timedwait(&queue->wake, &queue->mutex, &deadline);
    queue->stirred = false;
    for (struct command *c = queue->first; c && taken.count < max; c = queue->first) {
        queue->first = c->next;
        queue->count--;
        list_append(&taken, c);
    }
    if (!queue->first)
        queue->last = NULL;
    *stopping = queue->stopping;
    pthread_mutex_unlock(&queue->mutex);
    return taken;
}

/* Makes the ledger thread look, whatever it waits for. */
static void stir(struct engine *engine)
{
    pthread_mutex_lock(&engine->queue.mutex);
    engine->queue.stirred = true;
    pthread_cond_signal(&engine->queue.wake);
    pthread_mutex_unlock(&engine->queue.mutex);
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
    atomic_store(&engine->review_trust, true);
    stir(engine);
}

void engine_met(struct engine *engine)
{
    if (!atomic_exchange(&engine->met, true))
        stir(engine);
}

void engine_peer_connected(struct engine *engine, bool connected)
{
    if (atomic_exchange(&engine->peer_away, !connected) != !connected)
        stir(engine);
}

void engine_stop_waiting(struct engine *engine)
{
    atomic_store(&engine->unwaiting, true);
    stir(engine);
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

void engine_set_state(struct engine *engine, enum engine_state state, enum err reason,
                      const struct diag *diag)
{
    pthread_mutex_lock(&engine->status_mutex);
    engine->status.state = state;
    engine->status.reason = reason;
    engine->status.diag = diag ? *diag : (struct diag){ .text = "" };
    atomic_store(&engine->ready, state == ENGINE_READY);
    pthread_mutex_unlock(&engine->status_mutex);
}

/* ---- store: going away and coming back ----------------------------------------------------------
 */

void engine_drop_state(struct engine *engine)
{
    engine->store = store_close(engine->store);
    engine->ledger = ledger_free(engine->ledger);
}

void engine_lose_store(struct engine *engine, enum err err, const struct diag *diag)
{
    pthread_mutex_lock(&engine->status_mutex);
    engine->status.commit_failures++;
    pthread_mutex_unlock(&engine->status_mutex);
    engine_set_state(engine, ENGINE_STORE_AWAY, err, diag);
    log_event_with(LOG_ERROR, "store_lost", LOG_FIELDS("code", err_info(err)->code),
                   "granting stops until the database is back: %s", diag->text);
    batch_refuse_parked(engine, err, diag);
    engine_drop_state(engine);
}

static enum err load_ledger(struct engine *engine, const struct uuid *node_ref, struct diag *diag)
{
    struct ledger_conf conf = {
        .self = *node_ref,
        .peer_expected = engine->conf.peer_expected,
        .lease_max_ms = engine->conf.lease_max_ms,
        .skew_max_ms = engine->conf.clock_skew_max_ms,
        .ended_keep_ms = engine->conf.ended_keep_ms,
    };

    random_bytes(conf.hash_seed, sizeof conf.hash_seed);
    engine->ledger = ledger_new(&conf);
    return store_load(engine->store, engine->ledger, engine->conf.entitlement_open,
                      engine->conf.context, diag);
}

/* R1: a database that was put back may have an older ceiling than the times that were told,
 * although not a single change is missing in it (R8: W takes none). */
static int64_t known_ceiling(const struct engine *engine)
{
    int64_t ceiling_ms = engine->identity.ceiling_ms;
    const struct state_record *known = &engine->history;

    if (engine->history_known && known->ceiling_ms > ceiling_ms &&
        uuid_equal(&known->instance_ref, &engine->identity.instance_ref))
        ceiling_ms = known->ceiling_ms;
    return ceiling_ms;
}

/* R1: started once a process. When the database comes back, the clock goes on as it was; only if
 * somebody else moved the ceiling meanwhile does it jump over what may have been used. */
static void start_clock(struct engine *engine, int64_t ceiling_ms)
{
    if (engine->clock_started)
        ledger_clock_resume(&engine->clock, wall_now(), boot_now(), ceiling_ms);
    if (!engine->clock_started) {
        wait_ms(ledger_clock_wait(wall_now(), ceiling_ms));
        ledger_clock_start(&engine->clock, wall_now(), boot_now(), ceiling_ms,
                           engine->conf.clock_skew_max_ms);
    }
    engine->clock_started = true;
}

/* ---- identity and history (R11) ----------------------------------------------------------------
 */

void engine_note_history(struct engine *engine, bool durable)
{
    const struct store_identity *identity = &engine->identity;
    uint64_t seq = ledger_seq(engine->ledger);
    struct diag diag = { "" };

    if (!engine->state_file)
        return;
    enum err err = state_file_note(engine->state_file, &identity->node_ref, seq,
                                   engine->clock.ceiling_ms, &diag);
    if (err == ERR_OK && durable)
        err = state_file_sync(engine->state_file, &diag);
    if (err != ERR_OK && !engine->history_unwritten)
        log_event(LOG_WARNING, "state_file_not_written",
                  "a database that is rolled back may not be noticed: %s", diag.text);
    engine->history_unwritten = err != ERR_OK;
    if (err != ERR_OK)
        return;
    engine->history = (struct state_record){ .node_ref = identity->node_ref,
                                             .instance_ref = identity->instance_ref,
                                             .timeline = identity->timeline,
                                             .seq = seq,
                                             .ceiling_ms = engine->clock.ceiling_ms };
    memcpy(engine->history.system, identity->system, sizeof engine->history.system);
    engine->history_known = true;
}

/* The state file, or an event, knows a history that this database does not have. *former: whose it
 * was; nil: that of the present node_ref. */
static bool history_is_shorter(struct engine *engine, struct uuid *former)
{
    const struct state_record *known = &engine->history;

    if (!engine->history_known || !state_file_lost(known, &engine->identity, former))
        return engine->rename_due;
    log_event_with(LOG_ERROR, "history_lost", LOG_FIELDS("code", "history_lost"),
                   "the database is at change %" PRIu64 " of system %s, the state file at %" PRIu64
                   " of system %s",
                   engine->identity.seq, engine->identity.system, known->seq, known->system);
    return true;
}

/* Draws a new name. The session ends with it; the next one finds the new identity. */
static enum err rename_node(struct engine *engine, const struct uuid *former, struct diag *diag)
{
    struct uuid node_ref;
    char was[UUID_TEXT_SIZE], is[UUID_TEXT_SIZE];

    uuid_format(uuid_is_nil(former) ? &engine->identity.node_ref : former, was);
    enum err err = store_rename(engine->store, former, &node_ref, diag);
    engine->store = store_close(engine->store);
    if (err != ERR_OK)
        return err;
    engine->rename_due = false;
    uuid_format(&node_ref, is);
    pthread_mutex_lock(&engine->status_mutex);
    engine->status.renames++;
    pthread_mutex_unlock(&engine->status_mutex);
    log_event_with(LOG_ERROR, "node_renamed", LOG_FIELDS("former", was, "node_ref", is),
                   "the history of this node is lost; it goes on under a new name and waits to be "
                   "refilled by its peer");
    return ERR_OK;
}

static enum err open_session(struct engine *engine, struct diag *diag)
{
    enum err err = store_open(engine->conf.database, &engine->conf.instance_ref, LOCK_WAIT_MS,
                              &engine->store, &engine->identity, diag);

    if (err == ERR_OK && engine->state_file)
        state_file_bind(engine->state_file, &engine->identity);
    return err;
}

/* R11: the comparison comes before the first decision of every session. */
static enum err open_store(struct engine *engine, struct diag *diag)
{
    struct uuid former = { { 0 } };
    enum err err = open_session(engine, diag);

    if (err != ERR_OK || !history_is_shorter(engine, &former))
        return err;
    engine->rename_due = true; /* also if it fails now */
    err = rename_node(engine, &former, diag);
    return err == ERR_OK ? open_session(engine, diag) : err;
}

/* The first moment from which decisions could be taken begins the wait for the peer. */
static void begin_contact(struct engine *engine)
{
    if (engine->contact_until_us == 0)
        engine->contact_until_us = stopwatch_us() + engine->conf.contact_wait_ms * 1000;
}

static void note_session(struct engine *engine)
{
    struct engine_status *s = &engine->status;

    pthread_mutex_lock(&engine->status_mutex);
    s->node_ref = engine->identity.node_ref;
    s->seq = ledger_seq(engine->ledger);
    s->counts = ledger_counts(engine->ledger);
    s->pair = ledger_pair(engine->ledger);
    s->next_due_ms = ledger_next_due(engine->ledger);
    s->awaiting_peer = !batch_settled(engine);
    s->reloads++;
    pthread_mutex_unlock(&engine->status_mutex);
}

enum err engine_acquire(struct engine *engine, struct diag *diag)
{
    int64_t started_us = stopwatch_us();
    enum err err = open_store(engine, diag);

    if (err == ERR_OK)
        err = load_ledger(engine, &engine->identity.node_ref, diag);
    if (err != ERR_OK) {
        engine_drop_state(engine);
        return err;
    }
    start_clock(engine, known_ceiling(engine));
    engine->receipt = (struct commit_receipt){ .seq = 0 };
    engine_note_history(engine, true);
    begin_contact(engine);
    note_session(engine);
    engine_set_state(engine, ENGINE_READY, ERR_OK, NULL);
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

void engine_ask_trust(struct engine *engine)
{
    ledger_review_trust(engine->ledger, trusts, engine);
}

static void review_trust(struct engine *engine)
{
    if (atomic_exchange(&engine->review_trust, false) && engine->ledger)
        engine_ask_trust(engine);
}

/* ---- refusing ----------------------------------------------------------------------------------
 */

void engine_refuse(struct command_list *list, enum err err, const struct diag *diag)
{
    for (struct command *c = list->first, *next; c; c = next) {
        next = c->next;
        ledger_result_fini(&c->result);
        c->result = (struct ledger_result){ .err = refusal(err), .diag = *diag };
        c->receipt = (struct commit_receipt){ .seq = 0 };
        c->done(c);
    }
    *list = (struct command_list){ NULL, NULL, 0 };
}

static void refuse_stopping(struct command_list *list)
{
    engine_refuse(list, ERR_NOT_READY, &(struct diag){ "the node is stopping" });
}

/* ---- the thread --------------------------------------------------------------------------------
 */

/* How long nothing has to be done: until a seat is due, somebody has waited for long enough, or the
 * clock's ceiling wants renewal. */
static int64_t idle_wait(struct engine *engine)
{
    int64_t now_ms = engine->clock.now_ms;
    int64_t ceiling_wait_ms = engine->clock.ceiling_ms - LEDGER_CLOCK_AHEAD_MS / 2 - now_ms;
    int64_t due_ms = ledger_next_due(engine->ledger);
    int64_t parked_due_us = batch_due_us(engine);
    int64_t wait_ms = IDLE_WAIT_MAX_MS;

    if (ceiling_wait_ms < wait_ms)
        wait_ms = ceiling_wait_ms;
    if (due_ms != INT64_MAX && due_ms - now_ms < wait_ms && batch_settled(engine))
        wait_ms = due_ms - now_ms;
    if (wait_ms < IDLE_WAIT_MIN_MS)
        wait_ms = IDLE_WAIT_MIN_MS;
    if (parked_due_us == INT64_MAX)
        return wait_ms;
    int64_t parked_wait_ms = (parked_due_us - stopwatch_us() + 999) / 1000;
    return parked_wait_ms < 0 ? 0 : parked_wait_ms < wait_ms ? parked_wait_ms : wait_ms;
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
        struct command_list list = queue_take(&engine->queue, UINT32_MAX, wait_ms, &stopping);
        engine_status(engine, &status);
        engine_refuse(&list, status.reason, &status.diag);
        review_trust(engine); /* loading will ask anyway */
        wait_ms = (until_us - stopwatch_us()) / 1000;
    } while (wait_ms > 0 && !stopping);
    if (stopping)
        return;
    enum err err = engine_acquire(engine, &diag);
    if (err == ERR_OK) {
        *backoff_ms = RETRY_FIRST_MS;
        log_event(LOG_INFO, "store_back", "the database is back; granting goes on");
        return;
    }
    if (err != status.reason || strcmp(diag.text, status.diag.text) != 0)
        log_event_with(LOG_ERROR, "store_away", LOG_FIELDS("code", err_info(err)->code), "%s",
                       diag.text);
    engine_set_state(engine, ENGINE_STORE_AWAY, err, &diag);
    *backoff_ms = *backoff_ms * 2 > RETRY_LAST_MS ? RETRY_LAST_MS : *backoff_ms * 2;
}

/* A clean stop sets the ceiling to the present, so that the next start does not jump ahead. */
static void settle_clock(struct engine *engine)
{
    struct diag diag = { "" };
    int64_t now_ms = ledger_clock_advance(&engine->clock, wall_now(), boot_now());

    if (store_commit(engine->store, ledger_changes(engine->ledger), now_ms + 1, &engine->receipt,
                     &diag) != ERR_OK) {
        log_event(LOG_WARNING, "clock_not_settled", "%s", diag.text);
        return;
    }
    engine->clock.ceiling_ms = now_ms + 1;
    engine_note_history(engine, true);
}

static bool is_stopping(struct engine *engine)
{
    pthread_mutex_lock(&engine->queue.mutex);
    bool stopping = engine->queue.stopping;
    pthread_mutex_unlock(&engine->queue.mutex);
    return stopping;
}

static void *run(void *context)
{
    struct engine *engine = context;
    int64_t backoff_ms = RETRY_FIRST_MS;
    bool stopping = false;
    struct command_list list = { NULL, NULL, 0 };

    while (!stopping || list.first) {
        review_trust(engine);
        if (engine->ledger)
            batch_run(engine, &list);
        else
            refuse_stopping(&list);
        if (!engine->ledger && !stopping) {
            retry_store(engine, &backoff_ms);
            stopping = is_stopping(engine);
            continue;
        }
        int64_t wait_ms = engine->ledger && !stopping ? idle_wait(engine) : 0;
        list = queue_take(&engine->queue, engine->conf.batch_max, wait_ms, &stopping);
    }
    batch_refuse_parked(engine, ERR_NOT_READY, &(struct diag){ "the node is stopping" });
    if (engine->ledger)
        settle_clock(engine);
    engine_drop_state(engine);
    list = queue_take(&engine->queue, UINT32_MAX, 0, &stopping); /* came in while it went away */
    refuse_stopping(&list);
    engine_set_state(engine, ENGINE_STOPPED, ERR_NOT_READY,
                     &(struct diag){ "the node is stopping" });
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

static struct engine *engine_new(const struct engine_conf *conf)
{
    struct engine *engine = mem_calloc(1, sizeof *engine);

    must(conf->queue_max > 0 && conf->batch_max > 0 && conf->entitlement_open);
    engine->conf = *conf;
    queue_init(&engine->queue);
    must(pthread_mutex_init(&engine->status_mutex, NULL) == 0);
    return engine;
}

static struct engine *engine_free(struct engine *engine)
{
    must(!engine->pages.first && !engine->grants.first && !engine->store && !engine->ledger);
    state_file_close(engine->state_file);
    queue_fini(&engine->queue);
    pthread_mutex_destroy(&engine->status_mutex);
    mem_free(engine);
    return NULL;
}

static enum err read_history(struct engine *engine, struct diag *diag)
{
    if (!engine->conf.state_file)
        return ERR_OK;
    return state_file_open(engine->conf.state_file, &engine->state_file, &engine->history_known,
                           &engine->history, diag);
}

enum err engine_start(const struct engine_conf *conf, struct engine **out, struct diag *diag)
{
    struct engine *engine = engine_new(conf);
    struct diag why = { "" };
    enum err err = read_history(engine, &why);

    if (err == ERR_OK)
        err = engine_acquire(engine, &why);
    if (err != ERR_OK && !may_pass(err)) {
        if (diag)
            *diag = why;
        engine_free(engine);
        return err;
    }
    if (err != ERR_OK) {
        log_event_with(LOG_ERROR, "store_away", LOG_FIELDS("code", err_info(err)->code), "%s",
                       why.text);
        engine_set_state(engine, ENGINE_STORE_AWAY, err, &why);
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
    return engine_free(engine);
}
