#include "ledger/ledger.h"

#include <inttypes.h>

#include "ledger/request.h"

const char *lease_state_name(enum lease_state state)
{
    static const char *const names[LEASE_STATES] = {
        [LEASE_ACTIVE] = "active",   [LEASE_RELEASED] = "released",
        [LEASE_REVOKED] = "revoked", [LEASE_SUPERSEDED] = "superseded",
        [LEASE_EXPIRED] = "expired",
    };

    must(state < LEASE_STATES);
    return names[state];
}

struct ledger *ledger_new(const struct ledger_conf *conf)
{
    struct ledger *l = mem_calloc(1, sizeof *l);

    must(!uuid_is_nil(&conf->self) && conf->lease_max_ms >= LEASE_DURATION_MIN_MS);
    must(conf->ended_keep_ms >= 0);
    must(conf->skew_max_ms >= 0);
    l->conf = *conf;
    l->due_ms = INT64_MAX;
    l->loading = true;
    l->self.refilled = !conf->peer_expected; /* unless a stored row says otherwise */
    node_learn(l, &conf->self);
    table_init(&l->scopes_by_ref, conf->hash_seed);
    table_init(&l->origins, conf->hash_seed);
    table_init(&l->leases, conf->hash_seed);
    table_init(&l->installed, conf->hash_seed);
    return l;
}

struct ledger *ledger_free(struct ledger *l)
{
    if (!l)
        return NULL;
    changes_fini(l);
    feed_fini(&l->feed);
    lease_free_all(l);
    for (size_t i = 0; i < l->origins.capacity; i++)
        mem_free(l->origins.slots[i]);
    table_fini(&l->origins);
    scope_free_all(l);
    mem_free(l);
    return NULL;
}

uint64_t ledger_seq(const struct ledger *l)
{
    return l->seq;
}

int64_t ledger_next_due(const struct ledger *l)
{
    /* R1: R7 pauses until a tick says otherwise. R10, R11: who decides nothing lets nothing expire.
     */
    if (l->clock_alarm || l->peer_suspect || !l->self.refilled || l->nodes[SELF].retired)
        return INT64_MAX;
    return l->due_ms;
}

struct ledger_counts ledger_counts(const struct ledger *l)
{
    return (struct ledger_counts){
        .leases = l->leases.count,
        .active_leases = l->active_count,
        .origins = l->origins.count,
        .scopes = l->scopes.count,
        .nodes = l->node_count,
    };
}

void ledger_result_fini(struct ledger_result *r)
{
    for (size_t i = 0; i < r->lease_count; i++)
        entitlement_unref(r->leases[i].entitlement);
    for (size_t i = 0; i < r->scope_count; i++)
        entitlement_unref(r->scopes[i].entitlement);
    mem_free(r->leases);
    mem_free(r->scopes);
    mem_free(r->released);
    ledger_page_free(r->page);
    *r = (struct ledger_result){ .err = r->err };
}

void result_room_leases(struct ledger_result *r, size_t count)
{
    must(!r->leases);
    r->leases = mem_calloc(count, sizeof *r->leases);
}

void result_add_lease(const struct ledger *l, struct ledger_result *r, const struct lease *lease,
                      bool created)
{
    const struct scope *scope = l->scopes.items[lease->scope];
    int partner = lease->shared ? node_partner(l) : -1;

    r->leases[r->lease_count++] = (struct lease_view){
        .row = lease_to_row(l, lease),
        .entitlement = entitlement_ref(scope->entitlement),
        .feature = scope->feature->name,
        .adopter = partner >= 0 ? l->nodes[partner].ref : (struct uuid){ { 0 } },
        .created = created,
    };
}

void result_add_scope(struct ledger *l, struct ledger_result *r, struct scope *scope)
{
    r->scopes = mem_resize(r->scopes, (r->scope_count + 1) * sizeof *r->scopes);
    r->scopes[r->scope_count++] = scope_to_view(l, scope);
}

/* ---- events
 * -------------------------------------------------------------------------------------- */

static void step_tick(struct ledger *l, const struct ledger_event *e, struct ledger_result *r)
{
    (void)r;
    l->clock_alarm = e->tick.clock_alarm;
    lease_expire_due(l);
}

static void step_revoke(struct ledger *l, const struct ledger_event *e, struct ledger_result *r)
{
    struct lease *next;
    char ref[UUID_TEXT_SIZE];
    bool known = false;
    size_t at;

    for (struct lease *p = table_first(&l->leases, &e->revoke.lease_ref, &at); p; p = next) {
        next = table_next(&l->leases, &e->revoke.lease_ref, &at);
        known = true;
        if (p->state != LEASE_ACTIVE)
            continue;
        lease_end(l, p, LEASE_REVOKED);
        r->affected++;
    }
    uuid_format(&e->revoke.lease_ref, ref);
    if (!known)
        r->err = diag_set(&r->diag, ERR_LEASE_UNKNOWN, "there is no lease %s", ref);
}

static void step_origin_delete(struct ledger *l, const struct ledger_event *e,
                               struct ledger_result *r)
{
    struct origin *origin = origin_find(l, &e->origin_delete.origin_ref);
    char ref[UUID_TEXT_SIZE];

    if (!origin) {
        uuid_format(&e->origin_delete.origin_ref, ref);
        r->err = diag_set(&r->diag, ERR_ORIGIN_UNKNOWN, "there is no origin %s", ref);
        return;
    }
    if (!origin->enrolled)
        return; /* deleted before: repeating it changes nothing */
    origin_delete(l, origin);
    r->affected = 1;
}

static void step_origins_delete(struct ledger *l, const struct ledger_event *e,
                                struct ledger_result *r)
{
    for (size_t i = 0; i < l->origins.capacity; i++) {
        struct origin *origin = l->origins.slots[i];
        if (!origin || !origin->enrolled)
            continue;
        if ((size_t)r->affected == e->origins_delete.limit) {
            r->more = true;
            return;
        }
        origin_delete(l, origin);
        r->affected++;
    }
}

static void step_purge(struct ledger *l, const struct ledger_event *e, struct ledger_result *r)
{
    r->affected = (int64_t)lease_purge(l, e->purge.limit, true, &r->more);
}

static void step_install(struct ledger *l, const struct ledger_event *e, struct ledger_result *r)
{
    struct entitlement *ent = e->install.entitlement;
    uint64_t before = l->seq;

    r->err = scope_install(l, ent, &r->diag);
    if (r->err != ERR_OK)
        return;
    r->created = l->seq != before;
    r->usable = true;
    for (size_t i = 0; i < ent->feature_count; i++) {
        struct scope *scope = scope_find(l, &ent->features[i].scope_ref);
        result_add_scope(l, r, scope);
        r->usable = r->usable && scope_pending(scope) == 0;
    }
}

static void step_scopes(struct ledger *l, const struct ledger_event *e, struct ledger_result *r)
{
    (void)e;
    for (size_t i = 0; i < l->scopes.count; i++)
        result_add_scope(l, r, l->scopes.items[i]);
}

typedef void step_function(struct ledger *, const struct ledger_event *, struct ledger_result *);

static step_function *const steps[LEDGER_EVENTS] = {
    [LEDGER_TICK] = step_tick,
    [LEDGER_ENROL] = request_enrol,
    [LEDGER_PROVE] = request_prove,
    [LEDGER_GRANT] = request_grant,
    [LEDGER_RENEW] = request_renew,
    [LEDGER_RELEASE] = request_release,
    [LEDGER_RELEASE_ALL] = request_release_all,
    [LEDGER_LIST] = request_list,
    [LEDGER_REVOKE] = step_revoke,
    [LEDGER_ORIGIN_DELETE] = step_origin_delete,
    [LEDGER_ORIGINS_DELETE] = step_origins_delete,
    [LEDGER_PURGE] = step_purge,
    [LEDGER_INSTALL] = step_install,
    [LEDGER_SCOPES] = step_scopes,
    [LEDGER_INTRODUCE] = request_introduce,
    [LEDGER_MEET] = request_meet,
    [LEDGER_DISMISSED] = request_dismissed,
    [LEDGER_PAGE] = request_page,
    [LEDGER_MERGE] = request_merge,
    [LEDGER_GIVE] = request_give,
    [LEDGER_RETIRE] = request_retire,
    [LEDGER_DRAIN] = request_drain,
    [LEDGER_RESUME] = request_resume,
};

/* R11: what happens before the first word of the peer must not take a change number: it would hide
 * that this history is shorter than the peer knows it. */
static bool takes_no_number(enum ledger_event_kind kind)
{
    return kind == LEDGER_INTRODUCE || kind == LEDGER_MEET || kind == LEDGER_DISMISSED ||
           kind == LEDGER_SCOPES;
}

/* What was loaded may have more to say than when it was written: another LEASE limit, a partner's
 * acknowledgement that came with the last commit. */
static void settle_loaded(struct ledger *l)
{
    l->settled = true;
    node_settle_longest(l);
    scope_mints_settle(l);
    lease_settle_acknowledged(l);
}

/* What a node that decides nothing still does: it reads, and talks with its peer and its operator.
 */
static bool decides(enum ledger_event_kind kind)
{
    return kind < LEDGER_INTRODUCE && kind != LEDGER_TICK && kind != LEDGER_SCOPES;
}

static enum err refusal(const struct ledger *l, struct diag *diag)
{
    switch (node_self_state(l)) {
    case SELF_SERVING:
        return ERR_OK;
    case SELF_RETIRED: /* R10 */
        return diag_set(diag, ERR_NODE_RETIRED,
                        "this node was retired for good; to bring the machine back, stop it, empty "
                        "its database and start it");
    case SELF_UNFILLED: /* R11 */
        return diag_set(diag, ERR_NODE_UNFILLED,
                        "this node waits for the other one to tell it what was decided");
    case SELF_DRAINED:
        return diag_set(diag, ERR_NODE_DRAINED, "this node was drained; the other one serves");
    default:
        return diag_set(diag, ERR_NODE_DRAINED,
                        "this node was drained and goes on once the other one has heard of it");
    }
}

void ledger_step(struct ledger *l, const struct ledger_event *e, struct ledger_result *r)
{
    must(e->kind < LEDGER_EVENTS && !l->loading);
    must(e->now_ms > 0 && e->now_ms >= l->now_ms); /* R1 */
    l->now_ms = e->now_ms;
    *r = (struct ledger_result){ .err = ERR_OK, .now_ms = e->now_ms };
    if (!takes_no_number(e->kind)) {
        if (!l->settled)
            settle_loaded(l);
        if (e->kind != LEDGER_TICK)
            lease_expire_due(l);
    }
    if (decides(e->kind))
        r->err = refusal(l, &r->diag);
    if (r->err == ERR_OK)
        steps[e->kind](l, e, r);
    must(r->err == ERR_OK || r->lease_count == 0);
}
