#include "wire.h"

#include "world.h"

#define PATIENCE_MS 5000 /* a sender gives up then */

struct request *request_new(enum ledger_event_kind kind)
{
    struct request *request = mem_calloc(1, sizeof *request);

    request->event.kind = kind;
    return request;
}

struct request *request_free(struct request *request)
{
    ledger_result_fini(&request->result);
    entitlement_unref(request->entitlement);
    mem_free(request);
    return NULL;
}

bool request_certain(const struct request *request)
{
    return !request->lost && err_info(request->result.err)->http != 503;
}

static int64_t delay(struct world *w)
{
    return dice_between(&w->dice, 1, w->wire.delay_max_ms);
}

static void arrive(struct world *w, void *subject, uint64_t number)
{
    (void)number;
    node_submit(w, subject);
}

static void come_back(struct world *w, void *subject, uint64_t number)
{
    struct request *request = subject;

    (void)number;
    if (request_certain(request))
        auditor_clock(w, request);
    request->on_answer(w, request);
}

static void lose(struct world *w, struct request *request)
{
    request->lost = true;
    world_after(w, PATIENCE_MS, come_back, request, 0);
}

void wire_send(struct world *w, struct request *request)
{
    request->sent = world_order(w);
    request->told_before_ms = w->auditor.told_ms;
    if (dice_chance(&w->dice, w->wire.lost_per_mille))
        lose(w, request);
    else
        world_after(w, delay(w), arrive, request, 0);
}

void wire_answer(struct world *w, struct request *request)
{
    if (request->lost || dice_chance(&w->dice, w->wire.lost_per_mille))
        lose(w, request);
    else
        world_after(w, delay(w), come_back, request, 0);
}
