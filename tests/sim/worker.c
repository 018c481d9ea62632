/* What replication/ does, in virtual time: introduces its node, meets the other one, fetches its
 * changes and merges them; asks for credits. Failure: a pause, then the introduction again. */
#include <inttypes.h>

#include "world.h"

#define PAGE_LATER_MAX_MS 30000

static void look(struct world *w, void *subject, uint64_t number);

void worker_look(struct world *w, struct sim_node *n, int64_t after_ms)
{
    n->worker.next_ms = w->now_ms + after_ms;
    world_after(w, after_ms, look, n, ++n->worker.number);
}

void worker_start(struct world *w, struct sim_node *n)
{
    n->worker.met = n->worker.busy = false;
    worker_look(w, n, 1);
}

static struct request *call(struct world *w, struct sim_node *n, enum ledger_event_kind kind,
                            bool local, void (*on_answer)(struct world *, struct request *))
{
    struct request *r = request_new(kind);

    r->local = local;
    r->from = n->seat;
    r->to = local ? n->seat : world_other(w, n)->seat;
    r->sender = 100 + n->seat;
    r->life = n->life;
    r->session = n->reloads;
    r->on_answer = on_answer;
    return r;
}

/* The node that made the call; NULL: that process is gone. */
static struct sim_node *caller(struct world *w, const struct request *r)
{
    struct sim_node *n = &w->nodes[r->from];

    return n->life == r->life && n->process_up ? n : NULL;
}

static void pause(struct world *w, struct sim_node *n)
{
    n->worker.busy = n->worker.met = false;
    worker_look(w, n, w->calm ? 50 : dice_between(&w->dice, 100, 1500));
}

/* ---- meeting (R11) --------------------------------------------------------------------------- */

static void on_dismissed(struct world *w, struct request *r)
{
    struct sim_node *n = caller(w, r);

    if (n) {
        n->contacted = true; /* not before: it would serve in between */
        pause(w, n);
    }
    request_free(r);
}

static void dismissed(struct world *w, struct sim_node *n, const struct uuid *by)
{
    struct request *r = call(w, n, LEDGER_DISMISSED, true, on_dismissed);

    r->event.dismissed.by = *by;
    wire_send(w, r);
}

static void on_met_here(struct world *w, struct request *r)
{
    struct sim_node *n = caller(w, r);

    if (n && !r->lost) {
        struct worker *k = &n->worker;
        n->contacted = true;
        k->refused_here = r->result.err;
        k->refused_there = r->note;
        k->met = r->result.err == ERR_OK && r->note == ERR_OK;
        k->peer = r->event.meet.of.node_ref;
        if (k->met) {
            k->busy = false;
            worker_look(w, n, 1);
        } else {
            pause(w, n);
        }
    } else if (n) {
        pause(w, n);
    }
    request_free(r);
}

static void on_met_there(struct world *w, struct request *r)
{
    struct sim_node *n = caller(w, r);
    const struct node_introduction *other = &r->result.introduction;

    if (!n) {
        request_free(r);
        return;
    }
    if (r->lost && !world_other(w, n)->process_up)
        n->contacted = true; /* its port refuses */
    if (r->lost || uuid_is_nil(&other->node_ref)) {
        pause(w, n);
    } else if (r->result.err == ERR_PEER_RETIRED) {
        dismissed(w, n, &other->node_ref);
    } else {
        struct request *own = call(w, n, LEDGER_MEET, true, on_met_here);
        own->event.meet.of = *other;
        own->note = r->result.err;
        wire_send(w, own);
    }
    request_free(r);
}

static void on_introduced(struct world *w, struct request *r)
{
    struct sim_node *n = caller(w, r);

    if (n && !r->lost && r->result.err == ERR_OK) {
        struct request *there = call(w, n, LEDGER_MEET, false, on_met_there);
        there->event.meet.of = r->result.introduction;
        wire_send(w, there);
    } else if (n) {
        pause(w, n);
    }
    request_free(r);
}

/* ---- changes (R8) ---------------------------------------------------------------------------- */

static void on_merged(struct world *w, struct request *r)
{
    struct sim_node *n = caller(w, r);
    int64_t poll_ms = w->healing ? 3000 : w->plan.poll_max_ms;

    if (n && (r->lost || r->result.err != ERR_OK)) {
        if (!r->lost && r->result.err == ERR_PAGE_REFUSED && r->session == n->reloads)
            world_fail(w, "R9: an honest page is refused: %s", r->result.diag.text);
        pause(w, n);
    } else if (n) {
        n->worker.busy = false;
        n->pages++;
        worker_look(w, n,
                    r->page->page->complete && !r->result.wipe
                        ? dice_between(&w->dice, poll_ms / 2, poll_ms)
                        : 1);
    }
    request_free(r);
}

static void on_merged_again(struct world *w, struct request *r)
{
    (void)w;
    request_free(r);
}

static void merge(struct world *w, struct sim_node *n, struct sim_page *page, uint64_t session,
                  void (*on_answer)(struct world *, struct request *))
{
    struct request *r = call(w, n, LEDGER_MERGE, true, on_answer);

    r->session = session; /* the page was asked for in that one */
    r->page = sim_page_ref(page);
    r->event.merge.page = page->page;
    wire_send(w, r);
}

static void arrive_late(struct world *w, void *subject, uint64_t seat)
{
    struct sim_page *page = subject;
    struct sim_node *n = &w->nodes[seat];

    if (n->process_up && n->ledger && !w->healing)
        merge(w, n, page, n->reloads, on_merged_again);
    sim_page_unref(page);
}

static void on_page(struct world *w, struct request *r)
{
    struct sim_node *n = caller(w, r);

    if (!n || r->lost || r->result.err != ERR_OK) {
        if (n && !r->lost && r->result.err == ERR_PEER_RETIRED)
            dismissed(w, n, &n->worker.peer);
        else if (n)
            pause(w, n);
        request_free(r);
        return;
    }
    struct sim_page *page = sim_page_new(TAKE(r->result.page));
    if (world_faulty(w) && dice_chance(&w->dice, w->wire.again_per_mille))
        world_after(w, dice_between(&w->dice, 0, PAGE_LATER_MAX_MS), arrive_late,
                    sim_page_ref(page), n->seat);
    merge(w, n, page, r->session, on_merged);
    sim_page_unref(page);
    request_free(r);
}

static void fetch(struct world *w, struct sim_node *n)
{
    struct request *r = call(w, n, LEDGER_PAGE, false, on_page);

    r->receiver = n->worker.peer;
    r->event.page.receiver = n->store.node_ref;
    r->event.page.since = ledger_pair(n->ledger).cursor;
    r->event.page.limit = dice_chance(&w->dice, 300) ? w->plan.page_limit : PAGE_ROWS_MAX;
    wire_send(w, r);
}

static void look(struct world *w, void *subject, uint64_t number)
{
    struct sim_node *n = subject;

    if (number != n->worker.number || !n->ledger || n->worker.busy)
        return;
    if (n->committing) {
        worker_look(w, n, 5);
        return;
    }
    n->worker.busy = true;
    if (n->worker.met)
        fetch(w, n);
    else
        wire_send(w, call(w, n, LEDGER_INTRODUCE, true, on_introduced));
}

void worker_news(struct world *w, struct sim_node *n)
{
    struct sim_node *other = world_other(w, n);

    if (!w->plan.eager || !other->ledger || !other->worker.met || other->worker.busy ||
        other->worker.next_ms <= w->now_ms + 50 || w->cut[n->seat][other->seat] ||
        w->cut[other->seat][n->seat] || other->committing)
        return;
    if (ledger_page_waiting(n->ledger, ledger_pair(other->ledger).cursor))
        worker_look(w, other, dice_between(&w->dice, 1, 40));
}

/* ---- credits (R12) --------------------------------------------------------------------------- */

static void on_given(struct world *w, struct request *r)
{
    struct sim_node *n = caller(w, r);

    if (n && !r->lost && r->result.err == ERR_OK && n->worker.met && !n->worker.busy)
        worker_look(w, n, 1);
    request_free(r);
}

void worker_want(struct world *w, struct sim_node *n, const struct uuid *scope, int64_t count)
{
    if (!n->worker.met || !n->process_up)
        return;
    struct request *r = call(w, n, LEDGER_GIVE, false, on_given);
    r->receiver = n->worker.peer;
    r->event.give.receiver = n->store.node_ref;
    r->event.give.scope_ref = *scope;
    r->event.give.wanted = count;
    wire_send(w, r);
}
