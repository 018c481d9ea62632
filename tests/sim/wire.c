#include "wire.h"

#include "world.h"

#define PATIENCE_MS      5000 /* a client gives up then */
#define PEER_PATIENCE_MS 1500
#define SLOW_MAX_MS      4000

struct sim_page *sim_page_new(struct ledger_page *page)
{
    struct sim_page *one = mem_alloc(sizeof *one);

    *one = (struct sim_page){ .references = 1, .page = page };
    return one;
}

struct sim_page *sim_page_ref(struct sim_page *page)
{
    page->references++;
    return page;
}

void sim_page_unref(struct sim_page *page)
{
    if (!page || --page->references)
        return;
    ledger_page_free(page->page);
    mem_free(page);
}

struct request *request_new(enum ledger_event_kind kind)
{
    struct request *request = mem_calloc(1, sizeof *request);

    request->event.kind = kind;
    request->from = FROM_OUTSIDE;
    return request;
}

struct request *request_free(struct request *request)
{
    ledger_result_fini(&request->result);
    entitlement_unref(request->entitlement);
    sim_page_unref(request->page);
    mem_free(request);
    return NULL;
}

bool request_certain(const struct request *request)
{
    return !request->lost && err_info(request->result.err)->http != 503;
}

static bool gets_lost(struct world *w, size_t from, size_t to)
{
    if (from != FROM_OUTSIDE && to != FROM_OUTSIDE && w->cut[from][to])
        return true;
    return world_faulty(w) && dice_chance(&w->dice, w->wire.lost_per_mille);
}

static int64_t delay(struct world *w, const struct request *request)
{
    if (!world_faulty(w))
        return dice_between(&w->dice, 1, 5);
    if (request->from != FROM_OUTSIDE && dice_chance(&w->dice, w->wire.slow_per_mille))
        return dice_between(&w->dice, 1, SLOW_MAX_MS);
    return dice_between(&w->dice, 1, w->wire.delay_max_ms);
}

static void arrive(struct world *w, void *subject, uint64_t number)
{
    struct request *request = subject;
    struct sim_node *node = &w->nodes[request->to];

    (void)number;
    if (uuid_is_nil(&request->receiver) || uuid_equal(&request->receiver, &node->store.node_ref)) {
        node_submit(w, node, request);
        return;
    }
    request->lost = true; /* its token names another node */
    wire_answer(w, request);
}

static void come_back(struct world *w, void *subject, uint64_t number)
{
    struct request *request = subject;

    (void)number;
    if (!request->local && request->from == FROM_OUTSIDE && request_certain(request))
        auditor_clock(w, request);
    request->on_answer(w, request);
}

static void lose(struct world *w, struct request *request)
{
    request->lost = true;
    world_after(w, request->from == FROM_OUTSIDE ? PATIENCE_MS : PEER_PATIENCE_MS, come_back,
                request, 0);
}

void wire_send(struct world *w, struct request *request)
{
    size_t there = w->nodes[request->to].identity;

    request->sent = world_order(w);
    request->told_before_by = there;
    request->told_before_ms = w->identities[there].told_ms;
    if (request->local)
        node_submit(w, &w->nodes[request->to], request);
    else if (gets_lost(w, request->from, request->to))
        lose(w, request);
    else
        world_after(w, delay(w, request), arrive, request, 0);
}

void wire_answer(struct world *w, struct request *request)
{
    if (request->local)
        world_after(w, 0, come_back, request, 0);
    else if (request->lost && request->from != FROM_OUTSIDE)
        world_after(w, 1, come_back, request, 0); /* the connection is refused or reset */
    else if (request->lost || gets_lost(w, request->to, request->from))
        lose(w, request);
    else
        world_after(w, delay(w, request), come_back, request, 0);
}
