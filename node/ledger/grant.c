/* R3: granting leases, all of a request or none. The request is judged first, against what is free
 * less what its earlier items take, and only then carried out. */
#include <inttypes.h>

#include "ledger/request.h"

/* R12: so long after a grant found too few credits here, none are given away for an even split:
 * they would go back before that grant is tried again. */
#define SHORT_MS 2000

struct plan {
    struct scope *scope;
    struct lease *existing; /* answered with as it is; NULL: a new one is granted */
};

static int64_t lease_length(const struct ledger *l, const struct scope *scope, int64_t asked_ms)
{
    int64_t length = l->conf.lease_max_ms;

    if (l->self.lease_max_ms < length) /* R10: no longer than the partner knows of */
        length = l->self.lease_max_ms;
    if (scope->feature->lease_max_ms < length)
        length = scope->feature->lease_max_ms;
    return asked_ms && asked_ms < length ? asked_ms : length;
}

/* R3: capped by the site, by max_lease_seconds and by the entitlement's end. */
static int64_t lease_expires(const struct ledger *l, const struct scope *scope, int64_t length_ms)
{
    int64_t expires_ms = l->now_ms + length_ms;
    int64_t ends_ms = scope->entitlement->ends_ms;

    return expires_ms < ends_ms ? expires_ms : ends_ms;
}

static enum err deny(struct ledger *l, struct ledger_result *r, struct scope *scope, enum err e,
                     const char *why)
{
    char ref[UUID_TEXT_SIZE];

    uuid_format(&scope->ref, ref);
    result_add_scope(l, r, scope);
    return diag_set(&r->diag, e, "feature %s, scope %s: %s", scope->feature->name, ref, why);
}

/* R9: it yielded to its double, but the other node renewed it before it heard of that, and the
 * double could not be extended so far. Its seat is held until then (R6), so what was told holds as
 * well. */
static bool still_owed(const struct ledger *l, const struct lease *lease)
{
    size_t at;

    if (lease->state != LEASE_SUPERSEDED || lease->expires_ms <= lease->ended_expires_ms ||
        l->now_ms >= lease->expires_ms)
        return false;
    for (const struct lease *p = table_first(&l->leases, &lease->ref, &at); p;
         p = table_next(&l->leases, &lease->ref, &at)) {
        if (p->origin == lease->origin && (p->state == LEASE_RELEASED || p->state == LEASE_REVOKED))
            return false; /* R5: ended is final, whichever of the two was named */
    }
    return true;
}

/* One reference may have been granted at both nodes (R9): one that can be renewed goes before one
 * that is owed, that before one whose time is over, and that before one that has ended. */
static int worth(const struct ledger *l, const struct lease *lease)
{
    if (lease->state == LEASE_ACTIVE)
        return l->now_ms < lease->expires_ms ? 3 : 1;
    return still_owed(l, lease) ? 2 : 0;
}

/* The reference is known: the same request again, another one, or one that has ended. */
static enum err plan_known(struct ledger *l, const struct ledger_event *e,
                           const struct grant_item *item, struct plan *plan,
                           struct ledger_result *r)
{
    const struct uuid *asking = &e->grant.origin.origin_ref;
    char ref[UUID_TEXT_SIZE];
    size_t at;
    struct lease *found = NULL;

    for (struct lease *p = table_first(&l->leases, &item->lease_ref, &at); p;
         p = table_next(&l->leases, &item->lease_ref, &at)) {
        if (!found || worth(l, p) > worth(l, found))
            found = p;
    }
    uuid_format(&item->lease_ref, ref);
    for (size_t i = 0; !found && i < l->changes.purged_count; i++) {
        if (uuid_equal(&l->changes.purged[i].lease_ref, &item->lease_ref))
            return diag_set(&r->diag, ERR_LEASE_ENDED, "lease %s has ended", ref);
    }
    if (!found)
        return ERR_OK;
    const struct scope *scope = l->scopes.items[found->scope];
    if (!uuid_equal(&found->origin->ref, asking) || found->count != item->count ||
        (item->by_feature ? strcmp(scope->feature->name, item->feature) != 0
                          : !uuid_equal(&scope->ref, &item->scope_ref)))
        return diag_set(&r->diag, ERR_LEASE_MISMATCH,
                        "candidate_lease_ref %s was used for another request; draw a new one", ref);
    if (found->state != LEASE_ACTIVE || l->now_ms >= found->expires_ms)
        return diag_set(
            &r->diag, ERR_LEASE_ENDED, "lease %s has ended (%s); draw a new candidate_lease_ref",
            ref, lease_state_name(found->state == LEASE_ACTIVE ? LEASE_EXPIRED : found->state));
    plan->existing = found;
    plan->scope = l->scopes.items[found->scope];
    return ERR_OK;
}

/* What the plan's earlier items already take of this scope. */
static int64_t planned(const struct plan *plans, const struct grant_item *items, size_t count,
                       const struct scope *scope)
{
    int64_t sum = 0;

    for (size_t i = 0; i < count; i++) {
        if (plans[i].scope == scope && !plans[i].existing)
            sum += items[i].count;
    }
    return sum;
}

static bool in_force(const struct ledger *l, const struct scope *scope)
{
    const struct entitlement *e = scope->entitlement;

    return scope->trusted && e->begins_ms <= l->now_ms && l->now_ms < e->ends_ms;
}

/* Among the scopes of this name that are in force: the one that ends first and has room. If none
 * has: one that has so many seats at all, so that the denial is about one that will do later. */
static enum err find_by_feature(struct ledger *l, const struct grant_item *item,
                                int64_t (*taken)(void *, const struct scope *), void *context,
                                struct scope **out, struct ledger_result *r)
{
    size_t first, count = scope_features_find(l, item->feature, &first);
    const struct feature_entry *entries = l->features.items + first;
    struct scope *best = NULL;
    int best_fit = -1;

    if (!count)
        return diag_set(&r->diag, ERR_SCOPE_UNKNOWN, "no installed entitlement has feature \"%s\"",
                        item->feature);
    for (size_t i = 0; i < count; i++) {
        struct scope *scope = entries[i].scope;
        if (!in_force(l, scope))
            continue;
        if (best && strcmp(scope->entitlement->publisher, best->entitlement->publisher) != 0)
            return diag_set(&r->diag, ERR_FEATURE_AMBIGUOUS,
                            "publishers %s and %s both have feature \"%s\": ask by scope_ref",
                            best->entitlement->publisher, scope->entitlement->publisher,
                            item->feature);
        bool room = scope_free(l, scope) - taken(context, scope) >= item->count;
        int fit = room ? 2 : scope->seats >= item->count;
        if (fit > best_fit) {
            best = scope;
            best_fit = fit;
        }
    }
    *out = best ? best : entries[count - 1].scope;
    return ERR_OK;
}

static enum err find_by_ref(struct ledger *l, const struct grant_item *item, struct scope **out,
                            struct ledger_result *r)
{
    struct scope *scope = scope_find(l, &item->scope_ref);
    char ref[UUID_TEXT_SIZE];

    uuid_format(&item->scope_ref, ref);
    if (!scope)
        return diag_set(&r->diag, ERR_SCOPE_UNKNOWN, "no installed entitlement has scope %s", ref);
    if (scope->seats == 0)
        return diag_set(&r->diag, ERR_SCOPE_UNKNOWN,
                        "the entitlement has no seats of scope %s any more", ref);
    *out = scope;
    return ERR_OK;
}

/* R2: needs free(i) >= k. A denial names what is out of reach and why (R12). */
static enum err check_seats(struct ledger *l, struct scope *scope, int64_t count, int64_t taken,
                            struct ledger_result *r)
{
    int64_t free_now = scope_free(l, scope) - taken;

    if (!scope->trusted)
        return deny(l, r, scope, ERR_ENT_UNTRUSTED,
                    "its publisher is no longer trusted here; nothing new is granted");
    if (l->now_ms < scope->entitlement->begins_ms)
        return deny(l, r, scope, ERR_ENT_EARLY, "the entitlement has not begun");
    if (l->now_ms >= scope->entitlement->ends_ms)
        return deny(l, r, scope, ERR_ENT_EXPIRED, "the entitlement has ended");
    if (count > scope->seats)
        return deny(l, r, scope, ERR_COUNT_OVER_SEATS, "more seats were asked for than there are");
    if (free_now >= count)
        return ERR_OK;
    if (free_now + scope_pending(scope) >= count)
        return deny(l, r, scope, ERR_SEATS_PENDING,
                    "the seats were installed, but the peer has not acknowledged them yet");
    struct scope_view view = scope_to_view(l, scope);
    entitlement_unref(view.entitlement);
    if (free_now + view.at_peer >= count) {
        scope->short_until_ms = l->now_ms + SHORT_MS;
        return deny(l, r, scope, ERR_SEATS_AT_PEER, "the free seats are held by the other node");
    }
    if (free_now + view.at_peer + view.locked >= count)
        return deny(l, r, scope, ERR_NO_FREE_SEAT,
                    "the free seats were left by a retired node that may have leased them out; "
                    "they come back when its last lease must have ended");
    return deny(l, r, scope, ERR_NO_FREE_SEAT, "every seat is leased");
}

struct so_far {
    const struct plan *plans;
    const struct grant_item *items;
    size_t count;
};

static int64_t taken_so_far(void *context, const struct scope *scope)
{
    const struct so_far *so_far = context;
    return planned(so_far->plans, so_far->items, so_far->count, scope);
}

static enum err plan_item(struct ledger *l, const struct ledger_event *e, struct plan *plans,
                          size_t i, struct ledger_result *r)
{
    const struct grant_item *item = &e->grant.items[i];
    struct so_far so_far = { plans, e->grant.items, i };
    enum err err;

    must(item->count > 0 && item->duration_ms >= 0);
    for (size_t j = 0; item->has_lease_ref && j < i; j++) {
        if (e->grant.items[j].has_lease_ref &&
            uuid_equal(&item->lease_ref, &e->grant.items[j].lease_ref))
            return diag_set(&r->diag, ERR_DUPLICATE_REFERENCE,
                            "items %zu and %zu have the same candidate_lease_ref", j, i);
    }
    plans[i] = (struct plan){ NULL, NULL };
    if (item->has_lease_ref) {
        err = plan_known(l, e, item, &plans[i], r);
        if (err != ERR_OK || plans[i].existing)
            return err;
    }
    struct scope *scope = NULL;
    err = item->by_feature ? find_by_feature(l, item, taken_so_far, &so_far, &scope, r)
                           : find_by_ref(l, item, &scope, r);
    if (err == ERR_OK)
        err = check_seats(l, scope, item->count, taken_so_far(&so_far, scope), r);
    if (err == ERR_OK)
        plans[i].scope = scope;
    return err;
}

/* The origin may be new: then it holds nothing. */
static enum err check_limit(const struct ledger *l, const struct ledger_event *e,
                            const struct plan *plans, struct ledger_result *r)
{
    const struct origin *origin = origin_find(l, &e->grant.origin.origin_ref);
    size_t after = origin ? origin->lease_count : 0;

    for (size_t i = 0; i < e->grant.item_count; i++)
        after += !plans[i].existing;
    if (after <= ORIGIN_LEASES_MAX)
        return ERR_OK;
    return diag_set(&r->diag, ERR_LEASE_LIMIT, "an origin holds at most %d leases",
                    ORIGIN_LEASES_MAX);
}

static struct lease *carry_out(struct ledger *l, struct origin *origin, struct scope *scope,
                               const struct grant_item *item)
{
    struct lease *lease = lease_new(l);

    lease->ref = item->lease_ref;
    lease->origin = origin;
    lease->scope = scope->index;
    lease->count = (uint32_t)item->count;
    lease->home = SELF;
    lease->generation = origin->generation;
    lease->shared = node_peer_listens(l);
    lease->created_ms = l->now_ms;
    lease->duration_ms = lease_length(l, scope, item->duration_ms);
    lease->expires_ms = lease_expires(l, scope, lease->duration_ms);
    lease_insert(l, lease);
    lease_changed(l, lease);
    return lease;
}

void request_grant(struct ledger *l, const struct ledger_event *e, struct ledger_result *r)
{
    struct plan plans[LEASE_ITEMS_MAX];
    struct origin *origin = NULL;

    must(e->grant.item_count > 0 && e->grant.item_count <= LEASE_ITEMS_MAX);
    r->err = origin_prove(l, &e->grant.origin, &origin);
    for (size_t i = 0; r->err == ERR_OK && i < e->grant.item_count; i++)
        r->err = plan_item(l, e, plans, i, r);
    if (r->err == ERR_OK)
        r->err = check_limit(l, e, plans, r);
    if (r->err != ERR_OK)
        return;

    result_room_leases(r, e->grant.item_count);
    for (size_t i = 0; i < e->grant.item_count; i++) {
        struct lease *lease = plans[i].existing;
        if (!lease)
            lease = carry_out(l, origin, plans[i].scope, &e->grant.items[i]);
        result_add_lease(l, r, lease, !plans[i].existing);
        r->created = r->created || !plans[i].existing;
    }
}

/* R4: if and only if the lease is active and c < expires, without any grace; home stays. */
static void renew_one(struct ledger *l, struct lease *lease)
{
    const struct scope *scope = l->scopes.items[lease->scope];

    must(lease->state == LEASE_ACTIVE && l->now_ms < lease->expires_ms);
    lease_extend(l, lease, lease_expires(l, scope, lease_length(l, scope, lease->duration_ms)));
}

/* True if a ledger could have written such a lease. */
static bool evidence_plausible(const struct lease_evidence *v)
{
    return v->created_ms > 0 && v->duration_ms > 0 && v->expires_ms >= v->created_ms;
}

/* Whether this node may take over the lease that a token shows: only a shared one, of another home,
 * in its time, and only if whoever signed the token counts on this node to tell of it (R3): one
 * that was retired meanwhile would renew it unheard. */
static bool adoptable(const struct ledger *l, const struct lease_evidence *v,
                      const struct origin *origin)
{
    return v->adopt && uuid_equal(&v->adopter, &l->nodes[SELF].ref) &&
           node_index(l, &v->home) > SELF && scope_find(l, &v->scope_ref) &&
           l->now_ms < v->expires_ms && v->generation == origin->generation &&
           evidence_plausible(v);
}

static void set_adopted(struct ledger *l, struct lease *lease, const struct lease_evidence *v,
                        struct origin *origin)
{
    lease->origin = origin;
    lease->scope = scope_find(l, &v->scope_ref)->index;
    lease->count = (uint32_t)v->count;
    lease->generation = origin->generation;
    lease->state = LEASE_ACTIVE;
    lease->shared = true;
    lease->created_ms = v->created_ms;
    lease->duration_ms = v->duration_ms;
    lease->expires_ms = v->expires_ms;
    lease->ended_ms = lease->ended_expires_ms = 0;
    lease->via = SELF;
    lease_changed(l, lease);
}

static void adopt(struct ledger *l, const struct lease_evidence *v, struct origin *origin)
{
    struct lease *lease = lease_new(l);

    lease->ref = v->lease_ref;
    lease->home = (uint8_t)node_index(l, &v->home);
    set_adopted(l, lease, v, origin);
    lease_insert(l, lease);
    lease_supersede(l, &lease->ref); /* R9: it may have been granted here as well */
}

/* R4: a valid lease token is knowledge and is merged first. One of a lease that was created later
 * is of another one: its home had purged the record of the first (R5) when it granted the reference
 * again. */
static void merge_evidence(struct ledger *l, const struct lease_evidence *v, struct origin *origin)
{
    int home = node_index(l, &v->home);

    must(v->count > 0 && v->count <= ENTITLEMENT_SEATS_MAX);
    if (home < 0)
        return;
    struct lease *lease = lease_find(l, &v->lease_ref, (size_t)home);
    if (!lease) {
        if (adoptable(l, v, origin))
            adopt(l, v, origin);
    } else if (v->created_ms == lease->created_ms) {
        if (lease->state == LEASE_ACTIVE)
            lease_extend(l, lease, v->expires_ms);
        else if (lease->state == LEASE_SUPERSEDED && lease->holds)
            lease_owe(l, lease, v->expires_ms);
    } else if (v->created_ms > lease->created_ms && lease_is_buried(l, lease) &&
               adoptable(l, v, origin)) {
        lease_dig_up(l, lease);
        set_adopted(l, lease, v, origin);
        lease_attach(l, lease);
    }
}

/* The lease of this origin with this reference: the best one, of the smallest home. */
static struct lease *find_own(const struct ledger *l, const struct uuid *ref,
                              const struct origin *origin)
{
    struct lease *best = NULL;
    size_t at;

    for (struct lease *p = table_first(&l->leases, ref, &at); p;
         p = table_next(&l->leases, ref, &at)) {
        if (p->origin != origin)
            continue;
        int better = best ? worth(l, p) - worth(l, best) : 1;
        if (better > 0 ||
            (better == 0 && uuid_compare(&l->nodes[p->home].ref, &l->nodes[best->home].ref) < 0))
            best = p;
    }
    return best;
}

/* The other node may still know a lease that this one does not: its home, or whom its token names.
 */
static bool other_may_know(const struct ledger *l, const struct lease_evidence *v)
{
    int home = node_index(l, &v->home), partner = node_partner(l);

    if (partner < 0 || l->now_ms >= v->expires_ms)
        return false;
    return home == partner || (v->adopt && uuid_equal(&v->adopter, &l->nodes[partner].ref));
}

/* R11: this node signed it, at a change that its history does not have. */
static bool from_lost_history(const struct ledger *l, const struct lease_evidence *v)
{
    return uuid_equal(&v->signer, &l->nodes[SELF].ref) && v->seq > l->seq;
}

/* Finds the lease that a client names, by reference and by the token it may show. */
static enum err find_named(struct ledger *l, const struct origin_proof *proof,
                           const struct uuid *ref, const struct lease_evidence *evidence,
                           struct lease **out, struct ledger_result *r)
{
    struct origin *origin = NULL;
    char text[UUID_TEXT_SIZE];

    if (evidence && from_lost_history(l, evidence))
        return diag_set(&r->diag, ERR_HISTORY_LOST,
                        "a lease token names change %" PRIu64 " of this node, but there are only "
                        "%" PRIu64,
                        evidence->seq, l->seq);
    enum err err = origin_prove(l, proof, &origin);
    if (err != ERR_OK)
        return err;
    uuid_format(ref, text);
    if (evidence && (!uuid_equal(&evidence->lease_ref, ref) ||
                     !uuid_equal(&evidence->origin_ref, &origin->ref)))
        return diag_set(&r->diag, ERR_LEASE_MISMATCH, "the lease_token is not for lease %s", text);
    if (evidence)
        merge_evidence(l, evidence, origin);
    *out = find_own(l, ref, origin);
    if (*out)
        return ERR_OK;
    if (evidence && uuid_equal(&evidence->home, &l->nodes[SELF].ref))
        return diag_set(&r->diag, ERR_LEASE_ENDED, "lease %s has ended and was purged", text);
    if (evidence && other_may_know(l, evidence))
        return diag_set(&r->diag, ERR_OTHER_NODE, "lease %s is not known here; ask the other node",
                        text);
    return diag_set(&r->diag, ERR_LEASE_UNKNOWN, "this origin has no lease %s", text);
}

void request_renew(struct ledger *l, const struct ledger_event *e, struct ledger_result *r)
{
    struct lease *lease = NULL;
    char text[UUID_TEXT_SIZE];

    r->err = find_named(l, &e->renew.origin, &e->renew.lease_ref, e->renew.evidence, &lease, r);
    if (r->err != ERR_OK)
        return;
    bool owed = still_owed(l, lease);
    if (!owed && (lease->state != LEASE_ACTIVE || l->now_ms >= lease->expires_ms)) {
        uuid_format(&lease->ref, text);
        enum lease_state state = lease->state;
        r->err = diag_set(&r->diag, ERR_LEASE_ENDED, "lease %s has ended (%s)", text,
                          lease_state_name(state == LEASE_ACTIVE ? LEASE_EXPIRED : state));
        return;
    }
    if (!owed)
        renew_one(l, lease);
    result_room_leases(r, 1);
    result_add_lease(l, r, lease, false);
}

void request_release(struct ledger *l, const struct ledger_event *e, struct ledger_result *r)
{
    struct lease *lease = NULL;

    r->err =
        find_named(l, &e->release.origin, &e->release.lease_ref, e->release.evidence, &lease, r);
    if (r->err == ERR_LEASE_ENDED) { /* purged: it was known to this origin, so releasing is done */
        r->err = ERR_OK;
        return;
    }
    while (r->err == ERR_OK && lease->state == LEASE_ACTIVE) {
        const struct origin *origin = lease->origin;
        lease_end(l, lease, LEASE_RELEASED);
        r->affected++;
        lease = find_own(l, &e->release.lease_ref, origin);
    }
}

void request_release_all(struct ledger *l, const struct ledger_event *e, struct ledger_result *r)
{
    struct origin *origin = NULL;

    r->err = origin_prove(l, &e->release_all.origin, &origin);
    if (r->err != ERR_OK || !origin->leases)
        return;
    r->released = mem_calloc(origin->lease_count, sizeof *r->released);
    while (origin->leases) {
        r->released[r->affected++] = origin->leases->ref;
        lease_end(l, origin->leases, LEASE_RELEASED);
    }
}

void request_list(struct ledger *l, const struct ledger_event *e, struct ledger_result *r)
{
    struct origin *origin = NULL;

    r->err = origin_prove(l, &e->list.origin, &origin);
    if (r->err != ERR_OK)
        return;
    result_room_leases(r, origin->lease_count);
    for (const struct lease *lease = origin->leases; lease; lease = lease->next) {
        if (l->now_ms < lease->expires_ms)
            result_add_lease(l, r, lease, false);
    }
}
