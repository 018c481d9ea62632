#include "operator.h"

#include <inttypes.h>

#include "world.h"

const char *operator_feature_name(size_t scope)
{
    static const char *const names[SIM_SCOPES] = { "render", "edit", "render" };

    must(scope < SIM_SCOPES);
    return names[scope];
}

void operator_fini(struct operator* o)
{
    for (size_t i = 0; i < SIM_ENTITLEMENTS; i++)
        entitlement_unref(o->newest[i]);
}

/* ---- entitlements --------------------------------------------------------------------------- */

static struct feature draw_feature(struct world *w, size_t scope)
{
    struct feature feature = {
        .scope_ref = w->operator.scopes[scope],
        .seats = dice_between(&w->dice, 1, 12),
        .lease_max_ms = dice_between(&w->dice, 2000, 900000),
        .on_release = dice_chance(&w->dice, 300) ? SEAT_RETURN_AT_EXPIRY : SEAT_RETURN_ACKNOWLEDGED,
        .on_revoke = dice_chance(&w->dice, 300) ? SEAT_RETURN_AT_EXPIRY : SEAT_RETURN_ACKNOWLEDGED,
    };

    snprintf(feature.name, sizeof feature.name, "%s", operator_feature_name(scope));
    return feature;
}

static struct entitlement *draw_entitlement(struct world *w, size_t which)
{
    struct operator* o = & w->operator;
    bool both = which == 0 && dice_chance(&w->dice, 850); /* else "edit" is dropped */
    struct entitlement *e = entitlement_new(both ? 2 : 1);
    int64_t now_ms = node_clock_ms(&w->node) ? node_clock_ms(&w->node) : SIM_EPOCH_MS;

    e->entitlement_ref = o->entitlements[which];
    e->revision = ++o->revisions[which];
    snprintf(e->publisher, sizeof e->publisher, "acme");
    e->issued_ms = e->begins_ms = SIM_EPOCH_MS - 86400000;
    e->ends_ms = now_ms + (dice_chance(&w->dice, 300) ? dice_between(&w->dice, 1000, 600000)
                                                      : (int64_t)86400000 * 365);
    e->features[0] = draw_feature(w, which == 0 ? 0 : 2);
    if (both)
        e->features[1] = draw_feature(w, 1);
    uint64_t hash = dice_roll(&w->dice);
    memcpy(e->sha256, &hash, sizeof hash);
    e->text = mem_strdup("an entitlement");
    return e;
}

static void send_install(struct world *w, size_t which);

static void on_install(struct world *w, struct request *request)
{
    if (!request_certain(request)) {
        send_install(w, request->sender); /* until it is known */
    } else if (request->result.err != ERR_OK) {
        world_fail(w, "R2: an entitlement is refused: %s", request->result.diag.text);
    } else {
        auditor_install_known(w, request->entitlement, request->result.now_ms);
        w->operator.installing = false;
    }
    request_free(request);
}

static void send_install(struct world *w, size_t which)
{
    struct request *request = request_new(LEDGER_INSTALL);

    request->sender = which;
    request->on_answer = on_install;
    request->entitlement = entitlement_ref(w->operator.newest[which]);
    request->event.install.entitlement = request->entitlement;
    wire_send(w, request);
}

static void install(struct world *w, size_t which)
{
    struct operator* o = & w->operator;

    if (o->installing)
        return;
    o->installing = true;
    entitlement_unref(o->newest[which]);
    o->newest[which] = draw_entitlement(w, which);
    auditor_install_sent(w, o->newest[which]);
    send_install(w, which);
}

/* ---- leases and origins --------------------------------------------------------------------- */

static void on_revoke(struct world *w, struct request *request)
{
    auditor_end_known(w, &request->event.revoke.lease_ref, ANY_ORIGIN, request,
                      !request->lost && request->result.err == ERR_OK);
    request_free(request);
}

static void revoke(struct world *w)
{
    const struct auditor *a = &w->auditor;

    if (!a->lease_count)
        return;
    struct request *request = request_new(LEDGER_REVOKE);
    request->event.revoke.lease_ref = a->leases[dice_below(&w->dice, a->lease_count)].lease_ref;
    request->on_answer = on_revoke;
    auditor_end_sent(w, &request->event.revoke.lease_ref, ANY_ORIGIN);
    wire_send(w, request);
}

static void on_delete(struct world *w, struct request *request)
{
    bool certain = !request->lost && request->result.err == ERR_OK;

    auditor_end_known(w, NULL, request->sender, request, certain);
    if (certain && uuid_equal(&request->event.origin_delete.origin_ref,
                              &w->clients.all[request->sender].origin_ref))
        auditor_deleted(w, request, request->sender);
    request_free(request);
}

static void delete_origin(struct world *w)
{
    struct request *request = request_new(LEDGER_ORIGIN_DELETE);

    request->sender = dice_below(&w->dice, w->clients.count);
    request->event.origin_delete.origin_ref = w->clients.all[request->sender].origin_ref;
    request->on_answer = on_delete;
    auditor_end_sent(w, NULL, request->sender);
    wire_send(w, request);
}

static void on_purge(struct world *w, struct request *request)
{
    (void)w;
    request_free(request);
}

static void purge(struct world *w)
{
    struct request *request = request_new(LEDGER_PURGE);

    request->event.purge.limit = 1 + dice_below(&w->dice, 20);
    request->on_answer = on_purge;
    wire_send(w, request);
}

/* ---- living --------------------------------------------------------------------------------- */

static void live(struct world *w, void *subject, uint64_t number)
{
    size_t chance = dice_below(&w->dice, 100);

    (void)subject;
    (void)number;
    if (w->healing)
        return;
    if (chance < 20)
        install(w, dice_below(&w->dice, SIM_ENTITLEMENTS));
    else if (chance < 50)
        revoke(w);
    else if (chance < 65)
        delete_origin(w);
    else
        purge(w);
    world_after(w, dice_between(&w->dice, 100, 60000), live, NULL, 0);
}

void operator_start(struct world *w)
{
    struct operator* o = & w->operator;

    for (size_t i = 0; i < SIM_ENTITLEMENTS; i++)
        o->entitlements[i] = dice_uuid(&w->dice);
    for (size_t i = 0; i < SIM_SCOPES; i++)
        o->scopes[i] = dice_uuid(&w->dice);
    install(w, 0);
    world_after(w, 1000, live, NULL, 0);
}

/* ---- taking stock ---------------------------------------------------------------------------- */

/* Asks the healthy node directly. */
static void ask(struct world *w, struct ledger_event event, struct ledger_result *result)
{
    event.now_ms = node_clock_ms(&w->node);
    ledger_step(w->node.ledger, &event, result);
    ledger_check(w->node.ledger);
}

static void check_all_free(struct world *w)
{
    struct ledger_result result;

    ask(w, (struct ledger_event){ .kind = LEDGER_SCOPES }, &result);
    for (size_t i = 0; i < result.scope_count; i++) {
        const struct scope_view *s = &result.scopes[i];
        if (s->used || s->free_here != s->seats || s->waiting || s->active || s->pending)
            world_fail(w, "I4: %s: of %" PRId64 " seats %" PRId64 " are free, %" PRId64 " used",
                       s->feature, s->seats, s->free_here, s->used);
    }
    ledger_result_fini(&result);
}

static void check_all_purged(struct world *w)
{
    struct ledger_result result;

    ask(w, (struct ledger_event){ .kind = LEDGER_PURGE, .purge.limit = SIZE_MAX }, &result);
    if (ledger_counts(w->node.ledger).leases)
        world_fail(w, "R5: %zu records are kept for ever", ledger_counts(w->node.ledger).leases);
    ledger_result_fini(&result);
}

static void check_all_grantable(struct world *w)
{
    struct ledger_event event = { .kind = LEDGER_GRANT };
    struct ledger_result result;

    event.grant.origin.origin_ref = dice_uuid(&w->dice);
    event.grant.item_count = 1;
    for (size_t e = 0; e < SIM_ENTITLEMENTS; e++) {
        const struct entitlement *newest = w->operator.newest[e];
        for (size_t i = 0; newest && i < newest->feature_count; i++) {
            struct grant_item item = { .lease_ref = dice_uuid(&w->dice),
                                       .scope_ref = newest->features[i].scope_ref,
                                       .count = newest->features[i].seats };
            event.grant.items = &item;
            ask(w, event, &result);
            bool over = node_clock_ms(&w->node) >= newest->ends_ms;
            if (result.err != (over ? ERR_ENT_EXPIRED : ERR_OK))
                world_fail(w, "I4: not every seat can be granted: %s", result.diag.text);
            ledger_result_fini(&result);
        }
    }
}

void operator_take_stock(struct world *w)
{
    must(!w->operator.installing);
    check_all_free(w);
    check_all_purged(w);
    check_all_grantable(w);
}
