/* Happy path: a request wakes the node; it takes what is queued, reads its clock, ticks, steps
 * (pages last), commits, notes how far its history goes, answers. Failure: the commit fails, or the
 * process dies with it on its way; memory is thrown away, queued requests are refused or lost, and
 * the ledger is loaded again. R11: as in node/engine, a history that is shorter than it was ends
 * the name. */
#include "node.h"

#include <inttypes.h>

#include "twin.h"
#include "world.h"

#define BATCH_MAX       8
#define IDLE_MAX_MS     20000
#define RETRY_MS        100
#define CONTACT_WAIT_MS 2000

static struct wall wall_of(const struct world *w, const struct sim_node *n)
{
    return (struct wall){ w->now_ms + n->wall_offset_ms };
}

static struct boot boot_of(const struct world *w, const struct sim_node *n)
{
    return (struct boot){ w->now_ms + w->now_ms * n->drift_ppm / 1000000 + n->boot_offset_ms };
}

int64_t node_clock_ms(const struct sim_node *node)
{
    return node->clock.now_ms;
}

bool node_filled(const struct sim_node *n)
{
    return !n->dead && n->store.rows.has_self && n->store.rows.self.refilled;
}

static void step_wall(struct world *w, struct sim_node *n)
{
    n->wall_offset_ms =
        SIM_EPOCH_MS + dice_between(&w->dice, -n->wall_error_max_ms, n->wall_error_max_ms);
    world_trace(w, "%c: somebody sets the wall clock to %+" PRId64 " ms", (char)('A' + n->seat),
                n->wall_offset_ms - SIM_EPOCH_MS);
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

static void wake_after(struct world *w, struct sim_node *n, int64_t ms)
{
    world_after(w, ms, wake, n, ++n->wake_number);
}

static void tick(struct sim_node *n, struct ledger *l, int64_t now_ms)
{
    struct ledger_event event = { .kind = LEDGER_TICK, .now_ms = now_ms };
    struct ledger_result result;

    event.tick.clock_alarm = ledger_clock_alarm(&n->clock);
    ledger_step(l, &event, &result);
    ledger_result_fini(&result);
}

static struct ledger *load(struct world *w, struct sim_node *n, int64_t ended_keep_ms)
{
    struct ledger_conf conf = n->conf;
    struct ledger *l = NULL;
    struct diag diag = { "" };

    conf.self = n->store.node_ref;
    conf.ended_keep_ms = ended_keep_ms;
    if (rows_load(&n->store.rows, &conf, &l, &diag) != ERR_OK)
        world_fail(w, "R13: what was committed cannot be loaded: %s", diag.text);
    return l;
}

/* What a node would know that starts now is what this one knows. */
static void check_loads_alike(struct world *w, struct sim_node *n)
{
    struct ledger *again = load(w, n, INT64_MAX / 4);
    struct diag diag = { "" };

    tick(n, again, n->clock.now_ms);
    ledger_check(again);
    if (n->ticked && ledger_pair(n->ledger).self != SELF_RETIRED &&
        !ledger_clock_alarm(&n->clock) && !ledger_pair(n->ledger).clock_suspect &&
        twin_difference(n->ledger, again, &diag))
        world_fail(w, "R13: loaded is not what was committed: %s", diag.text);
    ledger_free(again);
}

static void note_history(struct sim_node *n)
{
    int64_t ceiling_ms = n->file.exists ? n->file.ceiling_ms : 0;

    if (n->clock.ceiling_ms > ceiling_ms)
        ceiling_ms = n->clock.ceiling_ms;
    n->file = (struct state_file){ true, n->store.node_ref, n->store.rows.seq, ceiling_ms };
}

/* R11: gives up its name. */
static void rename_node(struct world *w, struct sim_node *n, const struct uuid *former)
{
    struct uuid fresh = dice_uuid(&w->dice);
    int before = world_identity(w, former);

    world_trace(w, "%c: R11: history lost, %02x%02x becomes %02x%02x", (char)('A' + n->seat),
                former->bytes[0], former->bytes[1], fresh.bytes[0], fresh.bytes[1]);
    must(before >= 0);
    if (w->identities[before].state == IDENTITY_LIVE)
        w->identities[before].state = IDENTITY_LOST;
    rows_rename(&n->store.rows, &n->store.node_ref, former);
    n->store.node_ref = fresh;
    n->identity = world_identity_new(w, &fresh, n->seat);
    note_history(n);
}

/* What the state file knows of the database. */
static void compare_history(struct world *w, struct sim_node *n)
{
    bool empty = uuid_is_nil(&n->store.node_ref);
    struct uuid former = n->file.exists ? n->file.node_ref : n->store.node_ref;

    if (n->rename_due) {
        former = n->store.node_ref;
        rename_node(w, n, &former);
    } else if (n->file.exists && (!uuid_equal(&n->file.node_ref, &n->store.node_ref) ||
                                  n->store.rows.seq < n->file.seq)) {
        rename_node(w, n, &former);
    } else if (empty) {
        n->store.node_ref = dice_uuid(&w->dice);
        n->identity = world_identity_new(w, &n->store.node_ref, n->seat);
        world_trace(w, "%c: a new node %02x%02x", (char)('A' + n->seat), n->store.node_ref.bytes[0],
                    n->store.node_ref.bytes[1]);
    }
    n->rename_due = false;
    if (n->put_back && w->identities[n->identity].state == IDENTITY_LOST)
        w->identities[n->identity].state = IDENTITY_LIVE; /* it is as new: nothing was missed */
    n->put_back = false;
}

static void connect_store(struct world *w, void *subject, uint64_t life)
{
    struct sim_node *n = subject;

    if (life != n->life || n->ledger || !n->process_up)
        return;
    if (world_faulty(w) && w->now_ms < n->store.away_until_ms) {
        world_after(w, RETRY_MS, connect_store, n, life);
        return;
    }
    compare_history(w, n);
    n->ledger = load(w, n, n->conf.ended_keep_ms);
    n->ticked = false;
    int64_t ceiling_ms = n->store.rows.ceiling_ms;
    if (n->file.exists && n->file.ceiling_ms > ceiling_ms)
        ceiling_ms = n->file.ceiling_ms;
    if (n->clock_started)
        ledger_clock_resume(&n->clock, wall_of(w, n), boot_of(w, n), ceiling_ms);
    else
        ledger_clock_start(&n->clock, wall_of(w, n), boot_of(w, n), ceiling_ms,
                           w->plan.skew_max_ms);
    n->clock_started = true;
    n->reloads++;
    note_history(n);
    world_trace(w, "%c: loaded: seq %" PRIu64 ", clock %" PRId64 "%s", (char)('A' + n->seat),
                ledger_seq(n->ledger), n->clock.now_ms - SIM_EPOCH_MS,
                ledger_clock_alarm(&n->clock) ? ", clock alarm" : "");
    wake_after(w, n, 0);
    worker_start(w, n);
}

static void lose_store(struct world *w, struct sim_node *n, enum err err)
{
    world_trace(w, "%c: loses its store: %s", (char)('A' + n->seat), err_info(err)->code);
    n->ledger = ledger_free(n->ledger);
    each(w, TAKE(n->batch), err, false);
    each(w, queue_take(n, SIZE_MAX), err, false);
    n->committing = false;
    world_after(w, err == ERR_HISTORY_LOST ? 0 : RETRY_MS, connect_store, n, n->life);
}

/* ---- life and death ------------------------------------------------------------------------- */

void node_start(struct world *w, struct sim_node *n)
{
    must(!n->dead && !n->process_up);
    n->process_up = true;
    n->restarting = n->contacted = n->ticked = false;
    n->contact_until_ms = w->now_ms + CONTACT_WAIT_MS;
    n->worker = (struct worker){ .number = n->worker.number };
    world_trace(w, "%c: starts", (char)('A' + n->seat));
    connect_store(w, n, n->life);
}

static void restart(struct world *w, void *subject, uint64_t life)
{
    struct sim_node *n = subject;

    if (life == n->life && !n->process_up && !n->dead)
        node_start(w, n);
}

void node_restart_after(struct world *w, struct sim_node *n, int64_t ms)
{
    n->restarting = true;
    world_after(w, ms, restart, n, n->life);
}

void node_stop(struct world *w, struct sim_node *n)
{
    n->life++;
    n->wake_number++;
    n->process_up = n->clock_started = n->committing = n->woken = n->restarting = false;
    n->wipe_due = n->rename_due = false;
    n->ledger = ledger_free(n->ledger);
    each(w, TAKE(n->batch), ERR_NETWORK, true);
    each(w, queue_take(n, SIZE_MAX), ERR_NETWORK, true);
}

void node_kill(struct world *w, struct sim_node *n)
{
    bool landed = false;

    if (n->committing && n->ledger)
        landed =
            sim_store_abandon(&n->store, &w->dice, ledger_changes(n->ledger), n->ceiling_asked_ms);
    world_trace(w, "%c: is killed%s", (char)('A' + n->seat),
                !n->committing ? ""
                : landed       ? ", its commit lands"
                               : ", its commit is lost");
    node_stop(w, n);
}

static void crash(struct world *w, struct sim_node *n)
{
    node_kill(w, n);
    n->crashes++;
    if (dice_chance(&w->dice, n->faults.wall_step_per_mille * 10))
        step_wall(w, n);
    if (dice_chance(&w->dice, 100)) /* the whole machine: its boot clock starts anew */
        n->boot_offset_ms = -w->now_ms - w->now_ms * n->drift_ppm / 1000000;
    node_restart_after(w, n, dice_between(&w->dice, 1, n->faults.down_max_ms));
}

/* A restart sets the clock to its ceiling, up to LEDGER_CLOCK_AHEAD_MS ahead. Many in a row would
 * lead it out of MAX_CLOCK_SKEW, where R10 promises nothing. (Behind it is by a quarter at most.)
 */
bool node_may_restart(const struct world *w, const struct sim_node *n)
{
    int64_t ahead_ms = n->clock.now_ms - SIM_EPOCH_MS - w->now_ms;

    return w->plan.clocks_wild ||
           ahead_ms < w->plan.skew_max_ms * 3 / 4 - LEDGER_CLOCK_AHEAD_MS - 100;
}

static bool crashes_now(struct world *w, const struct sim_node *n)
{
    return world_faulty(w) && dice_chance(&w->dice, n->faults.crash_per_mille) &&
           node_may_restart(w, n);
}

/* ---- the disk ---------------------------------------------------------------------------------
 */

void node_backup_drop(struct sim_node *n)
{
    rows_fini(&n->backup.rows);
    n->backup.taken = false;
}

void node_backup(struct sim_node *n)
{
    if (uuid_is_nil(&n->store.node_ref))
        return;
    node_backup_drop(n);
    n->backup.taken = true;
    n->backup.node_ref = n->store.node_ref;
    n->backup.file = n->file;
    rows_copy(&n->store.rows, &n->backup.rows);
}

/* The old contents are lost; whoever wrote them decides nothing more. */
static void give_up_disk(struct world *w, struct sim_node *n)
{
    struct identity *identity = &w->identities[n->identity];

    must(!n->process_up);
    if (identity->state == IDENTITY_LIVE)
        identity->state = IDENTITY_LOST;
    rows_fini(&n->store.rows);
    n->store.node_ref = (struct uuid){ { 0 } };
    n->store.away_until_ms = 0;
    n->put_back = false;
}

void node_restore(struct world *w, struct sim_node *n, bool with_file)
{
    must(n->backup.taken);
    bool same = uuid_equal(&n->backup.node_ref, &n->store.node_ref) &&
                w->identities[n->identity].state == IDENTITY_LIVE;
    give_up_disk(w, n);
    n->put_back = same;
    rows_copy(&n->backup.rows, &n->store.rows);
    n->store.node_ref = n->backup.node_ref;
    n->identity = (size_t)world_identity(w, &n->store.node_ref);
    if (with_file)
        n->file = n->backup.file;
    world_trace(w, "%c: %s is put back: %02x%02x at seq %" PRIu64, (char)('A' + n->seat),
                with_file ? "an old disk" : "an old database", n->store.node_ref.bytes[0],
                n->store.node_ref.bytes[1], n->store.rows.seq);
}

void node_wipe(struct world *w, struct sim_node *n, bool with_file)
{
    give_up_disk(w, n);
    if (with_file)
        n->file = (struct state_file){ .exists = false };
    world_trace(w, "%c: the database is emptied%s", (char)('A' + n->seat),
                with_file ? ", and the state file gone" : "");
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
    case LEDGER_MEET:
        return e->meet.of.node_ref;
    case LEDGER_RETIRE:
        return e->retire.node_ref;
    case LEDGER_PAGE:
        return e->page.receiver;
    case LEDGER_MERGE:
        return e->merge.page->sender;
    default:
        return (struct uuid){ { 0 } };
    }
}

static void trace_page(struct world *w, const struct ledger_page *p)
{
    world_trace(w,
                "      page %" PRIu64 "…%" PRIu64 "%s: W %" PRId64 ", seen %" PRIu64
                ", %zu leases, %zu moves, %zu nodes, %zu entitlements%s",
                p->since, p->upto, p->complete ? " complete" : "", p->watermark_ms - SIM_EPOCH_MS,
                p->acknowledged, p->lease_count, p->move_count, p->node_count, p->entitlement_count,
                p->closed ? ", closed" : "");
    for (size_t i = 0; i < p->move_count; i++)
        world_trace(w, "      move of %02x%02x: %02x%02x gave %02x%02x %" PRId64,
                    p->moves[i].scope_ref.bytes[0], p->moves[i].scope_ref.bytes[1],
                    p->moves[i].giver.bytes[0], p->moves[i].giver.bytes[1],
                    p->moves[i].receiver.bytes[0], p->moves[i].receiver.bytes[1],
                    p->moves[i].moved);
    for (size_t i = 0; i < p->lease_count; i++)
        world_trace(w, "      lease %02x%02x of %02x%02x: %s, expires %" PRId64 " (%" PRId64 ")",
                    p->leases[i].lease_ref.bytes[0], p->leases[i].lease_ref.bytes[1],
                    p->leases[i].home.bytes[0], p->leases[i].home.bytes[1],
                    lease_state_name(p->leases[i].state), p->leases[i].expires_ms - SIM_EPOCH_MS,
                    p->leases[i].ended_expires_ms ? p->leases[i].ended_expires_ms - SIM_EPOCH_MS
                                                  : 0);
}

static void trace_request(struct world *w, const struct sim_node *n, const struct request *r)
{
    struct uuid subject = subject_of(&r->event);
    static const char *const names[LEDGER_EVENTS] = {
        "tick",        "enrol",  "prove",     "grant",         "renew",          "release",
        "release all", "list",   "revoke",    "origin delete", "origins delete", "purge",
        "install",     "scopes", "introduce", "meet",          "dismissed",      "page",
        "merge",       "give",   "retire",    "drain",         "resume",
    };

    if (!w->trace.lines)
        return;
    world_trace(w, "%c at %" PRId64 ": %zu, %s %02x%02x: %s %.60s", (char)('A' + n->seat),
                r->event.now_ms - SIM_EPOCH_MS, r->sender, names[r->event.kind], subject.bytes[0],
                subject.bytes[1], err_info(r->result.err)->code, r->result.diag.text);
    for (size_t i = 0; i < r->result.lease_count; i++)
        world_trace(w, "      %02x%02x of %02x%02x expires %" PRId64 "%s",
                    r->result.leases[i].row.lease_ref.bytes[0],
                    r->result.leases[i].row.lease_ref.bytes[1],
                    r->result.leases[i].row.home.bytes[0], r->result.leases[i].row.home.bytes[1],
                    r->result.leases[i].row.expires_ms - SIM_EPOCH_MS,
                    uuid_is_nil(&r->result.leases[i].adopter) ? ", private" : "");
    if (r->event.kind == LEDGER_MERGE)
        trace_page(w, r->event.merge.page);
}

/* Where the old records of a node go before it is refilled (R11). */
static void wipe_before_refill(struct world *w, struct sim_node *n)
{
    struct uuid partner = ledger_pair(n->ledger).partner;

    world_trace(w, "%c: R11: forgets its old records", (char)('A' + n->seat));
    n->wipe_due = false;
    rows_wipe(&n->store.rows, &partner);
    n->ledger = ledger_free(n->ledger);
    each(w, queue_take(n, SIZE_MAX), ERR_STORE_AWAY, false);
    connect_store(w, n, n->life);
}

static void finish(struct world *w, struct sim_node *n)
{
    ledger_changes_clear(n->ledger);
    if (n->ceiling_asked_ms)
        ledger_clock_ceiling_durable(&n->clock, n->ceiling_asked_ms);
    if (n->clock.now_ms >= n->clock.ceiling_ms)
        world_fail(w, "R1: time %" PRId64 " is shown below no ceiling", n->clock.now_ms);
    note_history(n);
    if (dice_chance(&w->dice, 5))
        check_loads_alike(w, n);
    for (struct request *r = n->batch; r; r = r->next)
        r->seq = n->store.rows.seq;
    each(w, TAKE(n->batch), ERR_OK, false);
    if (crashes_now(w, n)) {
        crash(w, n); /* committed; the answers are on their way */
        return;
    }
    if (n->wipe_due) {
        wipe_before_refill(w, n);
        return;
    }
    int64_t due_ms = n->contacted ? ledger_next_due(n->ledger) - n->clock.now_ms : IDLE_MAX_MS;
    wake_after(w, n, n->first ? 0 : due_ms < 1 ? 1 : due_ms < IDLE_MAX_MS ? due_ms : IDLE_MAX_MS);
    worker_news(w, n);
}

static void committed(struct world *w, void *subject, uint64_t life)
{
    struct sim_node *n = subject;

    if (life != n->life || !n->ledger || !n->committing)
        return;
    if (crashes_now(w, n)) {
        crash(w, n);
        return;
    }
    n->committing = false;
    enum err err = sim_store_commit(&n->store, &w->dice, world_faulty(w) && node_may_restart(w, n),
                                    w->now_ms, ledger_changes(n->ledger), n->ceiling_asked_ms);
    if (err == ERR_OK)
        finish(w, n);
    else
        lose_store(w, n, err);
}

/* What commits this node to nothing that a rolled back copy must not say (R11). */
static bool may_go_before_contact(enum ledger_event_kind kind)
{
    return kind == LEDGER_SCOPES || kind == LEDGER_INTRODUCE || kind == LEDGER_MEET ||
           kind == LEDGER_DISMISSED;
}

static bool step(struct world *w, struct sim_node *n, struct request *r, int64_t now_ms)
{
    r->event.now_ms = now_ms;
    r->teller = n->identity;
    r->decided_ms = w->now_ms;
    w->steps++;
    if (!n->contacted && !may_go_before_contact(r->event.kind)) {
        r->result = (struct ledger_result){ .err = ERR_NOT_READY, .now_ms = now_ms };
        return true;
    }
    ledger_step(n->ledger, &r->event, &r->result);
    trace_request(w, n, r);
    auditor_decided(w, r);
    if (r->event.kind == LEDGER_RETIRE && r->result.err == ERR_OK)
        operator_retired(w, n, r);
    n->wipe_due = n->wipe_due || r->result.wipe;
    n->rename_due = n->rename_due || r->result.err == ERR_HISTORY_LOST;
    return !n->rename_due;
}

/* Pages last: one carries the whole batch. */
static bool step_all(struct world *w, struct sim_node *n, int64_t now_ms)
{
    bool good = true;

    for (int pages = 0; pages < 2; pages++) {
        for (struct request *r = n->batch; r && good; r = r->next) {
            if ((r->event.kind == LEDGER_PAGE) == (pages == 1))
                good = step(w, n, r, now_ms);
        }
    }
    return good;
}

/* False: the history turned out to be lost (R11); nothing of the batch is committed or told. */
static bool decide(struct world *w, struct sim_node *n)
{
    int64_t now_ms = ledger_clock_advance(&n->clock, wall_of(w, n), boot_of(w, n));

    if (now_ms > w->identities[n->identity].clock_ms) /* what it has passed it has passed */
        w->identities[n->identity].clock_ms = now_ms;
    n->contacted = n->contacted || w->now_ms >= n->contact_until_ms;
    n->batch = queue_take(n, BATCH_MAX);
    n->ticked = n->ticked || n->contacted;
    if (n->contacted)
        tick(n, n->ledger, now_ms);
    if (!step_all(w, n, now_ms)) {
        lose_store(w, n, ERR_HISTORY_LOST);
        return false;
    }
    if (dice_chance(&w->dice, 10))
        ledger_check(n->ledger);
    n->ceiling_asked_ms = ledger_clock_ceiling_wanted(&n->clock);
    n->batches++;
    return true;
}

static void wake(struct world *w, void *subject, uint64_t number)
{
    struct sim_node *n = subject;

    if (number != n->wake_number || !n->ledger || n->committing)
        return;
    n->woken = false;
    if (world_faulty(w) && dice_chance(&w->dice, n->faults.wall_step_per_mille))
        step_wall(w, n);
    if (!decide(w, n))
        return;
    if (!ledger_changed(n->ledger) && !n->ceiling_asked_ms) {
        finish(w, n);
        return;
    }
    n->committing = true;
    n->committing_since_ms = w->now_ms;
    int64_t latency_ms = sim_store_latency(&n->store, &w->dice, world_faulty(w));
    if (world_faulty(w) && dice_chance(&w->dice, n->faults.suspend_per_mille))
        latency_ms += dice_between(&w->dice, 1000, 30000);
    world_after(w, latency_ms, committed, n, n->life);
}

void node_submit(struct world *w, struct sim_node *n, struct request *request)
{
    request->next = NULL;
    if (!n->process_up) {
        request->lost = true;
        wire_answer(w, request);
        return;
    }
    if (!n->ledger) {
        refuse(w, request, ERR_STORE_AWAY);
        return;
    }
    if (n->last)
        n->last->next = request;
    else
        n->first = request;
    n->last = request;
    if (!n->woken && !n->committing) {
        n->woken = true;
        wake_after(w, n, 1);
    }
}
