#include "auditor.h"

#include <inttypes.h>

#include "world.h"

#define push(list, count, capacity, ...)                                                           \
    do {                                                                                           \
        if ((count) == (capacity)) {                                                               \
            (capacity) = (capacity) ? (capacity)*2 : 128;                                          \
            (list) = mem_resize((list), (capacity) * sizeof *(list));                              \
        }                                                                                          \
        (list)[(count)++] = (__VA_ARGS__);                                                         \
    } while (0)

#define BIT(identity) (UINT32_C(1) << (identity))

void auditor_fini(struct auditor *a)
{
    mem_free(a->leases);
    mem_free(a->epochs);
    *a = (struct auditor){ .leases = NULL };
}

static struct audited_lease *find(const struct auditor *a, const struct lease_row *row)
{
    for (size_t i = a->lease_count; i-- > 0;) {
        struct audited_lease *lease = &a->leases[i];
        if (uuid_equal(&lease->lease_ref, &row->lease_ref) &&
            uuid_equal(&lease->home, &row->home) && lease->created_ms == row->created_ms)
            return lease;
    }
    return NULL;
}

void auditor_clock(struct world *w, const struct request *request)
{
    struct identity *teller = &w->identities[request->teller];

    if (request->teller == request->told_before_by &&
        request->result.now_ms < request->told_before_ms)
        world_fail(w, "R1: told %" PRId64 " ms less than what had been told before",
                   request->told_before_ms - request->result.now_ms);
    if (request->result.now_ms > teller->told_ms)
        teller->told_ms = request->result.now_ms;
    if (!teller->serving_since && request->result.err == ERR_OK)
        teller->serving_since = world_order(w);
}

/* ---- entitlements --------------------------------------------------------------------------- */

void auditor_install_sent(struct world *w, const struct entitlement *e)
{
    struct auditor *a = &w->auditor;

    for (size_t i = 0; i < e->feature_count; i++)
        push(a->epochs, a->epoch_count, a->epoch_capacity,
             (struct audited_epoch){
                 .scope_ref = e->features[i].scope_ref,
                 .revision = e->revision,
                 .seats = e->features[i].seats,
                 .ends_ms = e->ends_ms,
                 .lease_max_ms = e->features[i].lease_max_ms,
                 .at_expiry = e->features[i].on_revoke == SEAT_RETURN_AT_EXPIRY,
             });
}

void auditor_install_known(struct world *w, const struct entitlement *e,
                           const struct request *request)
{
    for (size_t i = 0; i < w->auditor.epoch_count; i++) {
        struct audited_epoch *epoch = &w->auditor.epochs[i];
        for (size_t f = 0; f < e->feature_count; f++) {
            if (uuid_equal(&epoch->scope_ref, &e->features[f].scope_ref) &&
                epoch->revision == e->revision && !epoch->known[request->teller])
                epoch->known[request->teller] = world_order(w);
        }
    }
}

/* Seats in force by what the teller of this request knew for certain when it was sent. */
static int64_t bound_of(const struct auditor *a, const struct uuid *scope,
                        const struct request *request)
{
    int64_t known = 0, seats = 0;

    for (size_t i = 0; i < a->epoch_count; i++) {
        const struct audited_epoch *e = &a->epochs[i];
        if (uuid_equal(&e->scope_ref, scope) && e->known[request->teller] &&
            e->known[request->teller] < request->sent && e->revision > known)
            known = e->revision;
    }
    for (size_t i = 0; i < a->epoch_count; i++) {
        const struct audited_epoch *e = &a->epochs[i];
        if (uuid_equal(&e->scope_ref, scope) && e->revision >= known && e->seats > seats)
            seats = e->seats;
    }
    return seats;
}

static bool revoked_is_kept(const struct world *w, const struct uuid *scope)
{
    for (size_t i = 0; !w->plan.policy_varies && i < w->auditor.epoch_count; i++) {
        if (uuid_equal(&w->auditor.epochs[i].scope_ref, scope))
            return w->auditor.epochs[i].at_expiry;
    }
    return false;
}

/* ---- ends ----------------------------------------------------------------------------------- */

static bool concerned(const struct audited_lease *lease, const struct uuid *ref, size_t origin)
{
    return (!ref || uuid_equal(&lease->lease_ref, ref)) &&
           (origin == ANY_ORIGIN || lease->origin == origin);
}

void auditor_end_sent(struct world *w, const struct uuid *ref, size_t origin)
{
    struct auditor *a = &w->auditor;

    if (!ref)
        a->origins[origin].ends_on_the_way++;
    for (size_t i = 0; i < a->lease_count; i++) {
        struct audited_lease *lease = &a->leases[i];
        if (!concerned(lease, ref, origin))
            continue;
        lease->ends_on_the_way++;
        lease->ends = true;
        if (origin != ANY_ORIGIN)
            lease->in_use = false;
        else
            lease->kept = lease->in_use && revoked_is_kept(w, &lease->scope_ref);
        lease->in_use = lease->in_use && lease->kept;
    }
}

void auditor_end_known(struct world *w, const struct uuid *ref, size_t origin,
                       const struct request *request, bool certain)
{
    struct auditor *a = &w->auditor;
    uint64_t order = world_order(w);

    if (!ref) {
        must(a->origins[origin].ends_on_the_way > 0);
        a->origins[origin].ends_on_the_way--;
        a->origins[origin].end_known = order;
    }
    for (size_t i = 0; i < a->lease_count; i++) {
        struct audited_lease *lease = &a->leases[i];
        if (!concerned(lease, ref, origin) || lease->counted_from > request->sent)
            continue;
        must(lease->ends_on_the_way > 0);
        lease->ends_on_the_way--;
        lease->end_known = order;
        if (certain && ref && lease->told && lease->told < request->sent &&
            lease->told_by & BIT(request->teller))
            lease->ended_by |= BIT(request->teller);
    }
}

void auditor_delete_sent(struct world *w, size_t origin)
{
    w->auditor.origins[origin].deletions_sent++;
}

void auditor_deleted(struct world *w, const struct request *request, size_t origin)
{
    struct audited_origin *o = &w->auditor.origins[origin];

    o->deletion_sent = request->sent;
    o->deletion_known = world_order(w);
    o->deleted_by = request->teller;
}

void auditor_renamed(struct world *w, size_t origin)
{
    for (size_t i = 0; i < w->auditor.lease_count; i++) {
        if (w->auditor.leases[i].origin == origin)
            w->auditor.leases[i].blind = true;
    }
    w->auditor.origins[origin].deletions_sent = 0;
    w->auditor.origins[origin].deletion_sent = 0;
}

void auditor_proof_taken(struct world *w, const struct request *request, size_t origin,
                         uint64_t secret_since, size_t secret_by)
{
    const struct audited_origin *o = &w->auditor.origins[origin];

    if (o->deletion_sent && request->sent > o->deletion_known && secret_since < o->deletion_sent &&
        request->teller == o->deleted_by && secret_by == o->deleted_by)
        world_fail(w, "a secret from before its origin was deleted was taken");
}

void auditor_forget(struct world *w)
{
    for (size_t i = 0; i < w->auditor.lease_count; i++)
        w->auditor.leases[i].blind = true;
}

/* Said by one who asked after every end that may have been done was answered. */
static bool after_the_ends(const struct auditor *a, const struct request *request,
                           const struct audited_lease *lease)
{
    const struct audited_origin *o = &a->origins[lease->origin];

    return !lease->ends_on_the_way && request->sent > lease->end_known && !o->ends_on_the_way &&
           request->sent > o->end_known;
}

/* ---- what clients are told --------------------------------------------------------------------
 */

/* An operator deleted its origin, perhaps before it was granted by a node that did not know: that
 * node revokes it when it hears. A private one is then over at once; of a shared one nobody knows
 * what the other node does meanwhile, so it must count (R6). */
static bool deleted(const struct world *w, const struct audited_lease *lease)
{
    return lease->private && lease->generation != w->auditor.origins[lease->origin].deletions_sent;
}

static bool usable(const struct world *w, const struct audited_lease *lease)
{
    if (!lease->in_use || lease->stolen || deleted(w, lease))
        return false;
    const struct identity *teller = &w->identities[lease->teller];
    if (teller->state != IDENTITY_LIVE && teller->clock_ms < lease->expires_ms &&
        w->now_ms < lease->until_ms)
        return true;
    for (size_t i = 0; i < w->identity_count; i++) {
        const struct identity *one = &w->identities[i];
        bool counts = i == lease->teller ||
                      (!lease->private && one->serving_since && one->serving_since < lease->told);
        if (counts && one->state == IDENTITY_LIVE && one->clock_ms < lease->expires_ms)
            return true;
    }
    return false;
}

/* A reference that was granted at both nodes is one use. */
static bool counted_before(const struct world *w, const struct audited_lease *lease)
{
    for (int i = lease->twin; i >= 0; i = w->auditor.leases[i].twin) {
        if (usable(w, &w->auditor.leases[i]))
            return true;
    }
    return false;
}

static void trace_usable(struct world *w, const struct uuid *scope)
{
    for (size_t i = 0; i < w->auditor.lease_count; i++) {
        const struct audited_lease *lease = &w->auditor.leases[i];
        if (uuid_equal(&lease->scope_ref, scope) && usable(w, lease))
            world_trace(w,
                        "  %zu may use %02x%02x of %02x%02x: %" PRId64 " seats, created %" PRId64
                        ", expires %" PRId64 "%s, told by %02x%02x",
                        lease->origin, lease->lease_ref.bytes[0], lease->lease_ref.bytes[1],
                        lease->home.bytes[0], lease->home.bytes[1], lease->count,
                        lease->created_ms - SIM_EPOCH_MS, lease->expires_ms - SIM_EPOCH_MS,
                        lease->private ? ", private" : "",
                        w->identities[lease->teller].node_ref.bytes[0],
                        w->identities[lease->teller].node_ref.bytes[1]);
    }
}

static void check_scope(struct world *w, const struct uuid *scope)
{
    const struct audited_lease *newest = NULL;
    int64_t sum = 0;

    for (size_t i = 0; i < w->auditor.lease_count; i++) {
        const struct audited_lease *lease = &w->auditor.leases[i];
        if (!lease->in_use || !uuid_equal(&lease->scope_ref, scope) || !usable(w, lease))
            continue;
        if (!counted_before(w, lease))
            sum += lease->count;
        if (!newest || lease->born > newest->born)
            newest = lease;
    }
    w->auditor.checks++;
    if (!newest || sum <= newest->bound)
        return;
    trace_usable(w, scope);
    world_fail(w, "I1: %" PRId64 " seats may be used, %" PRId64 " were in force", sum,
               newest->bound);
}

/* No longer than any revision allowed that may have been in force. */
static void check_times(struct world *w, const struct lease_view *view)
{
    const struct lease_row *row = &view->row;
    int64_t ends_ms = 0, longest_ms = 0;

    for (size_t i = 0; i < w->auditor.epoch_count; i++) {
        const struct audited_epoch *epoch = &w->auditor.epochs[i];
        if (!uuid_equal(&epoch->scope_ref, &row->scope_ref))
            continue;
        ends_ms = epoch->ends_ms > ends_ms ? epoch->ends_ms : ends_ms;
        longest_ms = epoch->lease_max_ms > longest_ms ? epoch->lease_max_ms : longest_ms;
    }
    if (longest_ms > w->nodes[0].conf.lease_max_ms)
        longest_ms = w->nodes[0].conf.lease_max_ms;
    if (row->expires_ms > ends_ms)
        world_fail(w, "R3: a lease goes beyond the end of its entitlement");
    if (view->created && row->expires_ms - row->created_ms > longest_ms)
        world_fail(w, "R3: a lease of %" PRId64 " ms, %" PRId64 " are allowed",
                   row->expires_ms - row->created_ms, longest_ms);
}

/* A new entry; what was sent to end its origin's leases may end this one. */
static struct audited_lease *enter(struct world *w, const struct request *request,
                                   const struct lease_row *row, size_t origin)
{
    struct auditor *a = &w->auditor;
    struct audited_lease lease = { .lease_ref = row->lease_ref,
                                   .home = row->home,
                                   .scope_ref = row->scope_ref,
                                   .origin = origin,
                                   .count = row->count,
                                   .created_ms = row->created_ms,
                                   .private = true,
                                   .twin = -1 };

    lease.counted_from = lease.born = world_order(w);
    lease.bound = bound_of(a, &lease.scope_ref, request);
    for (size_t i = 0; i < a->lease_count; i++) {
        struct audited_lease *other = &a->leases[i];
        if (!uuid_equal(&other->lease_ref, &lease.lease_ref))
            continue;
        if (other->origin != origin) {
            other->blind = lease.blind = other->stolen = lease.stolen = true;
            continue;
        }
        lease.twin = (int)i;
        lease.ends_on_the_way = other->ends_on_the_way;
        lease.counted_from = other->counted_from;
        lease.end_known = other->end_known;
        lease.ends = lease.ends || other->ends; /* which of them was meant is not certain */
    }
    push(a->leases, a->lease_count, a->lease_capacity, lease);
    return &a->leases[a->lease_count - 1];
}

/* Of a reference that was granted at both nodes, whatever was decided of either. */
static int64_t decided_before(const struct auditor *a, const struct audited_lease *lease)
{
    int64_t latest_ms = lease->decided_ms;

    for (size_t i = 0; i < a->lease_count; i++) {
        const struct audited_lease *other = &a->leases[i];
        if (other->origin == lease->origin && other->decided_ms > latest_ms &&
            uuid_equal(&other->lease_ref, &lease->lease_ref))
            latest_ms = other->decided_ms;
    }
    return latest_ms;
}

void auditor_decided(struct world *w, struct request *request)
{
    const struct ledger_result *r = &request->result;

    if (request->event.kind != LEDGER_GRANT && request->event.kind != LEDGER_RENEW)
        return;
    for (size_t i = 0; i < r->lease_count && i < SIM_ITEMS_MAX; i++) {
        struct audited_lease *lease = find(&w->auditor, &r->leases[i].row);
        if (!lease)
            lease = enter(w, request, &r->leases[i].row, request->sender);
        request->before_ms[i] = decided_before(&w->auditor, lease);
        if (r->leases[i].row.expires_ms > lease->decided_ms)
            lease->decided_ms = r->leases[i].row.expires_ms;
    }
}

static void told_first(struct world *w, const struct audited_lease *lease)
{
    for (size_t i = 0; i < w->auditor.lease_count; i++) {
        const struct audited_lease *other = &w->auditor.leases[i];
        if (other != lease && uuid_equal(&other->lease_ref, &lease->lease_ref) &&
            uuid_equal(&other->home, &lease->home) && other->told &&
            other->created_ms < lease->created_ms && lease->created_ms < other->expires_ms)
            world_fail(w, "R5: a reference was granted anew before its first lease was over");
    }
}

static void told_by(struct world *w, const struct request *request, struct audited_lease *lease,
                    const struct lease_view *view)
{
    if (lease->ended_by & BIT(request->teller) && after_the_ends(&w->auditor, request, lease))
        world_fail(w, "R5: a lease that has ended is active again");
    int64_t until_ms = request->decided_ms + view->row.expires_ms - request->result.now_ms;
    if (until_ms > lease->until_ms)
        lease->until_ms = until_ms;
    lease->told_by |= BIT(request->teller);
    if (view->row.expires_ms >= lease->expires_ms) {
        lease->expires_ms = view->row.expires_ms;
        lease->teller = request->teller;
        lease->adopter = view->adopter;
        lease->generation = view->row.generation;
    }
    if (!uuid_is_nil(&view->adopter) ||
        !uuid_equal(&view->row.home, &w->identities[request->teller].node_ref))
        lease->private = false;
    lease->told = world_order(w);
}

void auditor_told(struct world *w, const struct request *request, size_t origin, size_t at)
{
    const struct lease_view *view = &request->result.leases[at];
    const struct lease_row *row = &view->row;
    struct audited_lease *lease = find(&w->auditor, row);
    bool listed = request->event.kind == LEDGER_LIST;

    w->auditor.told_leases++;
    check_times(w, view);
    if (!lease)
        lease = enter(w, request, row, origin);
    if (lease->origin != origin)
        world_fail(w, "R4: another origin's lease");
    if (lease->count != row->count || !uuid_equal(&lease->scope_ref, &row->scope_ref))
        world_fail(w, "R3: one reference stands for two leases");
    if (!uuid_equal(&row->origin_ref, &w->clients.all[origin].origin_ref))
        lease->blind = true; /* the client has another name since */
    bool after = after_the_ends(&w->auditor, request, lease);
    lease->ends = lease->ends || !after;
    bool grows = !listed && row->expires_ms > request->before_ms[at];
    bool first = !lease->told;
    if (first)
        told_first(w, lease);
    told_by(w, request, lease, view);
    if (after && (grows || (!lease->ends && !listed)))
        lease->in_use = true;
    check_scope(w, &row->scope_ref);
}

/* ---- I2 ---------------------------------------------------------------------------------------
 */

static bool owed(const struct world *w, const struct request *request,
                 const struct audited_lease *lease)
{
    const struct uuid *here = &w->identities[request->teller].node_ref;
    const struct lease_evidence *token = request->event.renew.evidence;
    bool knows = lease->told_by & BIT(request->teller) || uuid_equal(&lease->home, here);

    if (!lease->told || lease->ends || lease->blind || lease->told >= request->sent ||
        lease->generation != w->auditor.origins[lease->origin].deletions_sent)
        return false;
    if (token && uuid_equal(&token->home, &lease->home) && token->created_ms != lease->created_ms)
        return false; /* a token of an earlier life of this reference */
    if (w->identities[lease->teller].state == IDENTITY_RETIRED)
        return false; /* it may have told it after the operator said that it had stopped */
    if (token && uuid_equal(&token->home, &lease->home) && (knows || token->adopt) &&
        (knows || uuid_equal(&token->adopter, here)))
        return request->result.now_ms < token->expires_ms;
    return knows && lease->teller == request->teller && request->result.now_ms < lease->expires_ms;
}

void auditor_refused(struct world *w, const struct request *request, size_t origin)
{
    const struct lease_evidence *shown = request->event.renew.evidence;
    enum err err = request->result.err;

    if (shown && !uuid_equal(&shown->origin_ref, &request->event.renew.origin.origin_ref))
        return; /* a token from before it took another name */
    if (err != ERR_LEASE_ENDED && err != ERR_LEASE_UNKNOWN && err != ERR_LEASE_MISMATCH &&
        err != ERR_SCOPE_UNKNOWN)
        return;
    for (size_t i = 0; i < w->auditor.lease_count; i++) {
        const struct audited_lease *lease = &w->auditor.leases[i];
        if (lease->origin == origin &&
            uuid_equal(&lease->lease_ref, &request->event.renew.lease_ref) &&
            owed(w, request, lease))
            world_fail(w, "I2: a lease with %" PRId64 " ms to go cannot be renewed: %s",
                       lease->expires_ms - request->result.now_ms, request->result.diag.text);
    }
}

static bool is_listed(const struct ledger_result *r, const struct audited_lease *lease)
{
    for (size_t j = 0; j < r->lease_count; j++) {
        if (uuid_equal(&r->leases[j].row.lease_ref, &lease->lease_ref))
            return true;
    }
    return false;
}

void auditor_listed(struct world *w, const struct request *request, size_t origin)
{
    const struct ledger_result *r = &request->result;

    for (size_t i = 0; i < w->auditor.lease_count; i++) {
        const struct audited_lease *lease = &w->auditor.leases[i];
        if (lease->origin == origin && lease->told && !lease->ends && !lease->blind &&
            lease->told < request->sent && lease->teller == request->teller &&
            lease->generation == w->auditor.origins[origin].deletions_sent &&
            r->now_ms < lease->expires_ms && !is_listed(r, lease))
            world_fail(w, "I2: a lease is missing in its origin's list");
    }
    for (size_t j = 0; j < r->lease_count; j++)
        auditor_told(w, request, origin, j);
}
