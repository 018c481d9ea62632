/* Happy path: a request wakes the node; it takes what is queued, reads its clock, ticks, steps,
 * commits, answers. Failure: the commit fails, or the process dies with it on its way; memory is
 * thrown away, queued requests are refused or lost, and the ledger is loaded again. */
#include "node.h"

#include <inttypes.h>

#include "twin.h"
#include "world.h"

#define BATCH_MAX   8
#define IDLE_MAX_MS 1000
#define RETRY_MS    100

static struct wall wall_of(const struct world *w)
{
    return (struct wall){ w->now_ms + w->node.wall_offset_ms };
}

static struct boot boot_of(const struct world *w)
{
    return (struct boot){ w->now_ms + w->node.boot_offset_ms };
}

int64_t node_clock_ms(const struct sim_node *node)
{
    return node->clock.now_ms;
}

/* ---- queue ---------------------------------------------------------------------------------- */

static void refuse(struct world *w, struct request *request, enum err err)
{
    ledger_result_fini(&request->result);
    request->result = (struct ledger_result){ .err = err };
    wire_answer(w, request);
}

static void each(struct world *w, struct request *list, enum err err, bool lost)
{
    for (struct request *next; list; list = next) {
        next = list->next;
        list->lost = lost;
        if (err == ERR_OK)
            wire_answer(w, list);
        else
            refuse(w, list, err);
    }
}

static struct request *queue_take(struct sim_node *node, size_t max)
{
    struct request *first = node->first, **end = &first;

    for (size_t i = 0; *end && i < max; i++)
        end = &(*end)->next;
    node->first = *end;
    *end = NULL;
    if (!node->first)
        node->last = NULL;
    return first;
}

/* ---- away and back ----------------------------------------------------------------------------
 */

static void wake(struct world *w, void *subject, uint64_t number);

static void wake_after(struct world *w, int64_t ms)
{
    world_after(w, ms, wake, NULL, ++w->node.wake_number);
}

static void tick(struct world *w, struct ledger *l, int64_t now_ms)
{
    struct ledger_event event = { .kind = LEDGER_TICK, .now_ms = now_ms };
    struct ledger_result result;

    event.tick.clock_alarm = ledger_clock_alarm(&w->node.clock);
    ledger_step(l, &event, &result);
    ledger_result_fini(&result);
}

static struct ledger *load(struct world *w, int64_t ended_keep_ms)
{
    struct ledger_conf conf = w->node.conf;
    struct ledger *l = NULL;
    struct diag diag = { "" };

    conf.ended_keep_ms = ended_keep_ms;
    if (rows_load(&w->store.rows, &conf, &l, &diag) != ERR_OK)
        world_fail(w, "R13: what was committed cannot be loaded: %s", diag.text);
    return l;
}

/* What a node would know that starts now is what this one knows. */
static void check_loads_alike(struct world *w)
{
    struct sim_node *node = &w->node;
    struct ledger *again = load(w, INT64_MAX / 4);
    struct diag diag = { "" };

    tick(w, again, node->clock.now_ms);
    ledger_check(again);
    if (!ledger_clock_alarm(&node->clock) && twin_difference(node->ledger, again, &diag))
        world_fail(w, "R13: loaded is not what was committed: %s", diag.text);
    ledger_free(again);
}

static void connect_store(struct world *w, void *subject, uint64_t life)
{
    struct sim_node *node = &w->node;

    (void)subject;
    if (life != node->life || node->ledger)
        return;
    if (w->now_ms < w->store.away_until_ms) {
        world_after(w, RETRY_MS, connect_store, NULL, life);
        return;
    }
    node->ledger = load(w, node->conf.ended_keep_ms);
    if (node->clock_started)
        ledger_clock_resume(&node->clock, wall_of(w), boot_of(w), w->store.rows.ceiling_ms);
    else
        ledger_clock_start(&node->clock, wall_of(w), boot_of(w), w->store.rows.ceiling_ms,
                           SIM_SKEW_MAX_MS);
    node->clock_started = true;
    node->reloads++;
    trace_line(&w->trace, w->now_ms, "node loaded: seq %" PRIu64 ", clock %" PRId64 "%s",
               ledger_seq(node->ledger), node->clock.now_ms - SIM_EPOCH_MS,
               ledger_clock_alarm(&node->clock) ? ", clock alarm" : "");
    wake_after(w, 0);
}

static void lose_store(struct world *w, enum err err)
{
    struct sim_node *node = &w->node;

    trace_line(&w->trace, w->now_ms, "node loses its store: %s", err_info(err)->code);
    node->ledger = ledger_free(node->ledger);
    each(w, TAKE(node->batch), err, false);
    each(w, queue_take(node, SIZE_MAX), err, false);
    world_after(w, RETRY_MS, connect_store, NULL, node->life);
}

/* ---- life and death ------------------------------------------------------------------------- */

void node_start(struct world *w)
{
    w->node.process_up = true;
    connect_store(w, NULL, w->node.life);
}

static void restart(struct world *w, void *subject, uint64_t life)
{
    (void)subject;
    if (life == w->node.life && !w->node.process_up)
        node_start(w);
}

void node_stop(struct world *w)
{
    struct sim_node *node = &w->node;

    node->life++;
    node->wake_number++;
    node->process_up = node->clock_started = node->committing = node->woken = false;
    node->ledger = ledger_free(node->ledger);
    each(w, TAKE(node->batch), ERR_NETWORK, true);
    each(w, queue_take(node, SIZE_MAX), ERR_NETWORK, true);
}

static void crash(struct world *w)
{
    struct sim_node *node = &w->node;
    bool landed = false;

    if (node->committing)
        landed = sim_store_abandon(&w->store, &w->dice, ledger_changes(node->ledger),
                                   node->ceiling_asked_ms);
    trace_line(&w->trace, w->now_ms, "node is killed%s",
               !node->committing ? ""
               : landed          ? ", its commit lands"
                                 : ", its commit is lost");
    node_stop(w);
    node->crashes++;
    if (dice_chance(&w->dice, node->faults.wall_step_per_mille * 20 + 1))
        node->wall_offset_ms +=
            dice_between(&w->dice, -node->faults.wall_step_max_ms, node->faults.wall_step_max_ms);
    if (dice_chance(&w->dice, 100)) /* the whole machine: its boot clock starts anew */
        node->boot_offset_ms = -w->now_ms;
    world_after(w, dice_between(&w->dice, 1, node->faults.down_max_ms), restart, NULL, node->life);
}

/* ---- batches -------------------------------------------------------------------------------- */

/* The lease that a request is about; nil: none, or several. */
static struct uuid subject_of(const struct ledger_event *e)
{
    switch (e->kind) {
    case LEDGER_GRANT:
        return e->grant.items[0].lease_ref;
    case LEDGER_RENEW:
    case LEDGER_RELEASE:
        return e->renew.lease_ref;
    case LEDGER_REVOKE:
        return e->revoke.lease_ref;
    default:
        return (struct uuid){ { 0 } };
    }
}

static void trace_request(struct world *w, const struct request *r)
{
    struct uuid subject = subject_of(&r->event);
    static const char *const names[LEDGER_EVENTS] = {
        "tick",        "enrol",  "prove",  "grant",         "renew",          "release",
        "release all", "list",   "revoke", "origin delete", "origins delete", "purge",
        "install",     "scopes", "move",   "peer",
    };

    trace_line(&w->trace, w->now_ms, "  at %" PRId64 ": %zu, %s %02x%02x: %s %.60s",
               r->event.now_ms - SIM_EPOCH_MS, r->sender, names[r->event.kind], subject.bytes[0],
               subject.bytes[1], err_info(r->result.err)->code, r->result.diag.text);
}

static void finish(struct world *w)
{
    struct sim_node *node = &w->node;

    ledger_changes_clear(node->ledger);
    if (node->ceiling_asked_ms)
        ledger_clock_ceiling_durable(&node->clock, node->ceiling_asked_ms);
    if (node->clock.now_ms >= node->clock.ceiling_ms)
        world_fail(w, "R1: time %" PRId64 " is shown below no ceiling", node->clock.now_ms);
    if (dice_chance(&w->dice, 20))
        check_loads_alike(w);
    each(w, TAKE(node->batch), ERR_OK, false);
    if (dice_chance(&w->dice, node->faults.crash_per_mille)) {
        crash(w); /* committed; the answers are on their way */
        return;
    }
    int64_t due_ms = ledger_next_due(node->ledger) - node->clock.now_ms;
    wake_after(w, node->first ? 0 : due_ms < 1 ? 1 : due_ms < IDLE_MAX_MS ? due_ms : IDLE_MAX_MS);
}

static void committed(struct world *w, void *subject, uint64_t life)
{
    struct sim_node *node = &w->node;

    (void)subject;
    if (life != node->life)
        return;
    if (dice_chance(&w->dice, node->faults.crash_per_mille)) {
        crash(w);
        return;
    }
    node->committing = false;
    enum err err = sim_store_commit(&w->store, &w->dice, w->now_ms, ledger_changes(node->ledger),
                                    node->ceiling_asked_ms);
    if (err == ERR_OK)
        finish(w);
    else
        lose_store(w, err);
}

static void decide(struct world *w)
{
    struct sim_node *node = &w->node;
    int64_t now_ms = ledger_clock_advance(&node->clock, wall_of(w), boot_of(w));

    node->batch = queue_take(node, BATCH_MAX);
    tick(w, node->ledger, now_ms);
    for (struct request *r = node->batch; r; r = r->next) {
        r->event.now_ms = now_ms;
        ledger_step(node->ledger, &r->event, &r->result);
        trace_request(w, r);
    }
    if (dice_chance(&w->dice, 100))
        ledger_check(node->ledger);
    node->ceiling_asked_ms = ledger_clock_ceiling_wanted(&node->clock);
    node->batches++;
}

static void wake(struct world *w, void *subject, uint64_t number)
{
    struct sim_node *node = &w->node;

    (void)subject;
    if (number != node->wake_number || !node->ledger || node->committing)
        return;
    node->woken = false;
    if (dice_chance(&w->dice, node->faults.wall_step_per_mille))
        node->wall_offset_ms +=
            dice_between(&w->dice, -node->faults.wall_step_max_ms, node->faults.wall_step_max_ms);
    decide(w);
    if (!ledger_changed(node->ledger) && !node->ceiling_asked_ms) {
        finish(w);
        return;
    }
    node->committing = true;
    int64_t latency_ms = sim_store_latency(&w->store, &w->dice);
    if (dice_chance(&w->dice, node->faults.suspend_per_mille))
        latency_ms += dice_between(&w->dice, 1000, 600000);
    world_after(w, latency_ms, committed, NULL, node->life);
}

void node_submit(struct world *w, struct request *request)
{
    struct sim_node *node = &w->node;

    if (!node->process_up) {
        request->lost = true;
        wire_answer(w, request);
        return;
    }
    if (!node->ledger) {
        refuse(w, request, ERR_STORE_AWAY);
        return;
    }
    request->next = NULL;
    if (node->last)
        node->last->next = request;
    else
        node->first = request;
    node->last = request;
    if (!node->woken && !node->committing) {
        node->woken = true;
        wake_after(w, 1);
    }
}
