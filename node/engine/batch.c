/* One batch of the ledger thread.
 *
 * Happy path: time passes (a tick), every command is stepped in the order of its arrival, pages for
 * the partner last, so that one page carries the whole batch; one commit; the state file notes how
 * far the history goes; pages get what only the store knows; then everybody is told.
 *
 * Kept waiting: a page that would tell nothing, and a grant whose seats the partner has. Both are
 * looked at again in every batch, and at the latest at their deadline.
 *
 * Failure: see engine.h. Whatever goes wrong before the commit has returned, nobody of the batch
 * hears of a decision (R13). */
#include <inttypes.h>

#include "base/log.h"
#include "engine/engine_internal.h"

#define WISHES_MAX 64 /* scopes for which credits are asked for at once */
#define WISH_PAUSE_MS                                                                              \
    100 /* until a grant that waits is tried, and its credits asked for, again                     \
         */

struct batch {
    int64_t now_ms, now_us;
    struct command_list done; /* stepped, to be told after the commit */
    bool retry;               /* R12: credits may have arrived, or a seat may have come back */
    bool wishing;             /* grants wait for credits that should be asked for */
    bool lost;                /* R11: this history is shorter than it was */
    bool wipe;                /* R11: the old records must go before the refill */
    struct uuid partner;      /* with wipe */
    struct diag diag;         /* with lost */
};

/* ---- contact (R11) -----------------------------------------------------------------------------
 */

bool batch_settled(const struct engine *engine)
{
    return engine->conf.contact_wait_ms == 0 || atomic_load(&engine->met) ||
           stopwatch_us() >= engine->contact_until_us;
}

/* What takes no change number: one that did would hide from the peer that this history is shorter
 * than it knows. The peer asks again at once. */
static bool may_go_before_contact(enum ledger_event_kind kind)
{
    return kind == LEDGER_SCOPES || kind == LEDGER_INTRODUCE || kind == LEDGER_MEET ||
           kind == LEDGER_DISMISSED;
}

/* ---- stepping ----------------------------------------------------------------------------------
 */

static void step(struct engine *engine, struct batch *batch, struct command *c)
{
    c->event.now_ms = batch->now_ms;
    ledger_result_fini(&c->result);
    ledger_step(engine->ledger, &c->event, &c->result);
    if (c->result.err == ERR_HISTORY_LOST) { /* R11 */
        batch->lost = true;
        batch->diag = c->result.diag;
    }
}

static void tick(struct engine *engine, const struct batch *batch)
{
    struct ledger_event event = {
        .kind = LEDGER_TICK,
        .now_ms = batch->now_ms,
        .tick.clock_alarm = ledger_clock_alarm(&engine->clock),
    };
    struct ledger_result result;

    ledger_step(engine->ledger, &event, &result);
    ledger_result_fini(&result);
}

static bool is_due(const struct engine *engine, const struct batch *batch, const struct command *c)
{
    return c->deadline_us <= batch->now_us || atomic_load(&engine->unwaiting);
}

/* ---- grants whose seats are at the partner (R12) ------------------------------------------------
 */

static bool waits_for_credits(const struct engine *engine, const struct command *c)
{
    return c->event.kind == LEDGER_GRANT && c->result.err == ERR_SEATS_AT_PEER &&
           c->result.scope_count == 1 && engine->conf.credits_wanted &&
           engine->conf.credits_wait_ms > 0 && !atomic_load(&engine->peer_away) &&
           ledger_pair(engine->ledger).partner_listens;
}

/* Grants that wait for longest are tried first. A seat may also come back without a page that tells
 * of it: where the partner hears an acknowledgement, only its own count changes. */
static void retry_grants(struct engine *engine, struct batch *batch)
{
    struct command_list kept = { NULL, NULL, 0 };

    batch->retry |= batch->now_us >= engine->wish_again_us;
    for (struct command *c = engine->grants.first, *next; c; c = next) {
        next = c->next;
        bool due = is_due(engine, batch, c);
        if (due || batch->retry)
            step(engine, batch, c);
        if (!due && waits_for_credits(engine, c)) {
            list_append(&kept, c);
            batch->wishing |= batch->retry;
        } else {
            list_append(&batch->done, c);
        }
    }
    engine->grants = kept;
}

/* How many seats of the denied scope the request asks for. */
static int64_t seats_asked(const struct command *c, const struct scope_view *scope)
{
    int64_t count = 0;

    for (size_t i = 0; i < c->event.grant.item_count; i++) {
        const struct grant_item *item = &c->event.grant.items[i];
        if (item->by_feature ? strcmp(item->feature, scope->feature) == 0
                             : uuid_equal(&item->scope_ref, &scope->scope_ref))
            count += item->count;
    }
    return count;
}

struct wish {
    struct uuid scope_ref;
    int64_t free_here, count;
};

static struct wish *wish_of(struct wish *wishes, size_t *count, const struct scope_view *scope)
{
    for (size_t i = 0; i < *count; i++) {
        if (uuid_equal(&wishes[i].scope_ref, &scope->scope_ref))
            return &wishes[i];
    }
    if (*count == WISHES_MAX)
        return NULL;
    wishes[*count] = (struct wish){ .scope_ref = scope->scope_ref, .free_here = scope->free_here };
    return &wishes[(*count)++];
}

/* What all that wait lack together is asked for at once: one by one, a crowd would need as many
 * exchanges as it has heads. */
static void tell_wishes(struct engine *engine, int64_t now_us)
{
    struct wish wishes[WISHES_MAX];
    size_t count = 0;

    engine->wish_again_us = now_us + WISH_PAUSE_MS * 1000;
    for (const struct command *c = engine->grants.first; c; c = c->next) {
        const struct scope_view *scope = &c->result.scopes[0];
        struct wish *wish = wish_of(wishes, &count, scope);
        if (!wish)
            continue; /* at its next turn, or denied at its deadline */
        wish->count += seats_asked(c, scope);
        if (scope->free_here < wish->free_here)
            wish->free_here = scope->free_here;
    }
    for (size_t i = 0; i < count; i++) {
        if (wishes[i].count > wishes[i].free_here)
            engine->conf.credits_wanted(engine->conf.context, &wishes[i].scope_ref,
                                        wishes[i].count - wishes[i].free_here);
    }
}

/* ---- pages (R8) --------------------------------------------------------------------------------
 */

static void supersede_page(struct engine *engine, struct batch *batch, const struct uuid *receiver)
{
    struct command_list kept = { NULL, NULL, 0 };

    for (struct command *c = engine->pages.first, *next; c; c = next) {
        next = c->next;
        if (!uuid_equal(&c->event.page.receiver, receiver)) {
            list_append(&kept, c);
            continue;
        }
        ledger_result_fini(&c->result);
        c->result.err =
            diag_set(&c->result.diag, ERR_NOT_READY, "the peer asks for its changes once more");
        list_append(&batch->done, c);
    }
    engine->pages = kept;
}

static void take_page(struct engine *engine, struct batch *batch, struct command *c)
{
    supersede_page(engine, batch, &c->event.page.receiver);
    c->deadline_us = batch->now_us + c->wait_ms * 1000;
    list_append(&engine->pages, c);
}

static void step_pages(struct engine *engine, struct batch *batch)
{
    struct command_list kept = { NULL, NULL, 0 };

    for (struct command *c = engine->pages.first, *next; c; c = next) {
        next = c->next;
        if (!is_due(engine, batch, c) &&
            !ledger_page_waiting(engine->ledger, c->event.page.since)) {
            list_append(&kept, c);
            continue;
        }
        step(engine, batch, c);
        list_append(&batch->done, c);
    }
    engine->pages = kept;
}

/* ---- one command -------------------------------------------------------------------------------
 */

static void take_command(struct engine *engine, struct batch *batch, struct command *c,
                         bool settled)
{
    if (!settled && !may_go_before_contact(c->event.kind)) {
        c->result.err =
            diag_set(&c->result.diag, ERR_NOT_READY, "the node waits for a first word of its peer");
        list_append(&batch->done, c);
        return;
    }
    if (c->event.kind == LEDGER_PAGE) {
        take_page(engine, batch, c);
        return;
    }
    step(engine, batch, c);
    if (waits_for_credits(engine, c) && !atomic_load(&engine->unwaiting)) {
        c->deadline_us = batch->now_us + engine->conf.credits_wait_ms * 1000;
        list_append(&engine->grants, c);
        batch->wishing = true;
        return;
    }
    if (c->event.kind == LEDGER_MERGE && c->result.err == ERR_OK) {
        batch->retry = true;
        batch->wipe |= c->result.wipe;
        batch->partner = c->event.merge.page->sender;
        if (c->event.merge.page->entitlement_count > 0)
            engine_ask_trust(engine); /* the peer may trust publishers that this node does not */
    }
    list_append(&batch->done, c);
}

/* Everything is stepped; or the history is lost, and the rest of the list is among the done. */
static void step_all(struct engine *engine, struct batch *batch, struct command_list *list)
{
    bool settled = batch_settled(engine);

    if (settled)
        tick(engine, batch);
    for (struct command *c = list->first, *next; c; c = next) {
        next = c->next;
        if (batch->lost)
            list_append(&batch->done, c);
        else
            take_command(engine, batch, c, settled);
    }
    *list = (struct command_list){ NULL, NULL, 0 };
    if (!batch->lost)
        retry_grants(engine, batch);
    if (!batch->lost)
        step_pages(engine, batch);
}

/* ---- commit ------------------------------------------------------------------------------------
 */

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
    engine_note_history(engine, false);
    return ERR_OK;
}

/* What machines told of themselves is not in memory; pages that carry origins fetch it. */
static enum err fill_pages(struct engine *engine, struct batch *batch, struct diag *diag)
{
    for (struct command *c = batch->done.first; c; c = c->next) {
        struct ledger_page *page = c->event.kind == LEDGER_PAGE ? c->result.page : NULL;
        if (!page || page->origin_count == 0)
            continue;
        enum err err = store_environments(engine->store, page, diag);
        if (err != ERR_OK)
            return err;
    }
    return ERR_OK;
}

/* R11: the refill begins with an empty database. What this batch told is told by then: nothing, for
 * an unfilled node decides nothing. */
static enum err wipe(struct engine *engine, const struct uuid *partner, struct diag *diag)
{
    log_event(LOG_WARNING, "history_dropped",
              "this node's old records are dropped; its peer refills it");
    enum err err = store_wipe(engine->store, partner, diag);
    if (err != ERR_OK)
        return err;
    engine_drop_state(engine);
    return engine_acquire(engine, diag);
}

/* ---- status ------------------------------------------------------------------------------------
 */

/* About since when the partner lacks something of ours. */
static void note_lag(struct engine *engine, const struct ledger_pair *pair, uint64_t seq,
                     int64_t now_us)
{
    struct engine_status *s = &engine->status;

    if (uuid_is_nil(&pair->partner) || pair->acknowledged >= seq) {
        s->behind_us = 0;
        return;
    }
    if (s->behind_us && pair->acknowledged < engine->behind_seq)
        return;
    s->behind_us = now_us;
    engine->behind_seq = seq;
}

static void note_batch(struct engine *engine, const struct batch *batch, int64_t commit_us)
{
    struct engine_status *s = &engine->status;
    struct ledger_pair pair = ledger_pair(engine->ledger);

    pthread_mutex_lock(&engine->status_mutex);
    s->batches++;
    s->commands += batch->done.count;
    s->seq = ledger_seq(engine->ledger);
    s->now_ms = engine->clock.now_ms;
    s->clock_offset_ms = engine->clock.offset_ms;
    s->clock_alarm = ledger_clock_alarm(&engine->clock);
    s->counts = ledger_counts(engine->ledger);
    s->pair = pair;
    s->next_due_ms = ledger_next_due(engine->ledger);
    s->awaiting_peer = !batch_settled(engine);
    s->parked = engine->pages.count + engine->grants.count;
    note_lag(engine, &pair, s->seq, batch->now_us);
    if (commit_us >= 0)
        s->last_commit_us = commit_us;
    pthread_mutex_unlock(&engine->status_mutex);
}

/* ---- the batch ---------------------------------------------------------------------------------
 */

void batch_refuse_parked(struct engine *engine, enum err err, const struct diag *diag)
{
    engine_refuse(&engine->grants, err, diag);
    engine_refuse(&engine->pages, err, diag);
}

/* R11: nothing of the batch was committed, and nobody is told anything. This node never decides
 * anything again under its name. */
static void lose_history(struct engine *engine, struct batch *batch)
{
    struct diag diag = { "" };

    log_event_with(LOG_ERROR, "history_lost", LOG_FIELDS("code", "history_lost"),
                   "this database is older than it was; the node takes a new name and waits to be "
                   "refilled: %s",
                   batch->diag.text);
    engine_set_state(engine, ENGINE_STORE_AWAY, ERR_HISTORY_LOST, &batch->diag);
    engine_refuse(&batch->done, ERR_HISTORY_LOST, &batch->diag);
    batch_refuse_parked(engine, ERR_HISTORY_LOST, &batch->diag);
    engine_drop_state(engine);
    engine->rename_due = true;
    enum err err = engine_acquire(engine, &diag);
    if (err != ERR_OK)
        engine_lose_store(engine, err, &diag);
}

static void answer(struct command_list *list, const struct commit_receipt *receipt)
{
    for (struct command *c = list->first, *next; c; c = next) {
        next = c->next;
        c->receipt = *receipt;
        c->done(c);
    }
}

void batch_run(struct engine *engine, struct command_list *list)
{
    struct batch batch = {
        .now_ms = ledger_clock_advance(&engine->clock, wall_now(), boot_now()),
        .now_us = stopwatch_us(),
    };
    struct diag diag = { "" };
    int64_t commit_us;

    step_all(engine, &batch, list);
    if (batch.lost) {
        lose_history(engine, &batch);
        return;
    }
    enum err err = commit(engine, &commit_us, &diag);
    if (err == ERR_OK) {
        must(batch.now_ms < engine->clock.ceiling_ms); /* R1 */
        err = fill_pages(engine, &batch, &diag);
    }
    struct commit_receipt receipt = engine->receipt;
    if (err == ERR_OK && batch.wipe)
        err = wipe(engine, &batch.partner, &diag);
    if (err != ERR_OK) {
        engine_lose_store(engine, err, &diag);
        engine_refuse(&batch.done, err, &diag);
        return;
    }
    note_batch(engine, &batch, commit_us);
    if (batch.wishing)
        tell_wishes(engine, batch.now_us);
    answer(&batch.done, &receipt);
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t batch_due_us(const struct engine *engine)
{
    int64_t due_us = INT64_MAX;

    for (const struct command *c = engine->pages.first; c; c = c->next)
        due_us = smaller(due_us, c->deadline_us);
    if (engine->grants.first) { /* all wait equally long */
        due_us = smaller(due_us, engine->grants.first->deadline_us);
        due_us = smaller(due_us, engine->wish_again_us);
    }
    if (!batch_settled(engine))
        due_us = smaller(due_us, engine->contact_until_us);
    return due_us;
}
