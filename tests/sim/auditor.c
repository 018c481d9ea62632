#include "auditor.h"

#include <inttypes.h>

#include "world.h"

#define push(list, count, capacity, ...)                                                           \
    do {                                                                                           \
        if ((count) == (capacity)) {                                                               \
            (capacity) = (capacity) ? (capacity)*2 : 64;                                           \
            (list) = mem_resize((list), (capacity) * sizeof *(list));                              \
        }                                                                                          \
        (list)[(count)++] = (__VA_ARGS__);                                                         \
    } while (0)

void auditor_fini(struct auditor *a)
{
    mem_free(a->leases);
    mem_free(a->epochs);
    *a = (struct auditor){ .leases = NULL };
}

static struct audited_lease *find(const struct auditor *a, const struct uuid *ref)
{
    for (size_t i = a->lease_count; i-- > 0;) {
        if (uuid_equal(&a->leases[i].lease_ref, ref))
            return &a->leases[i];
    }
    return NULL;
}

void auditor_clock(struct world *w, const struct request *request)
{
    struct auditor *a = &w->auditor;

    if (request->result.now_ms < request->told_before_ms)
        world_fail(w, "R1: told %" PRId64 " ms less than what had been told before",
                   request->told_before_ms - request->result.now_ms);
    if (request->result.now_ms > a->told_ms)
        a->told_ms = request->result.now_ms;
}

/* ---- entitlements --------------------------------------------------------------------------- */

static void add_epoch(struct world *w, const struct entitlement *e, size_t feature, int64_t from_ms)
{
    struct auditor *a = &w->auditor;

    push(a->epochs, a->epoch_count, a->epoch_capacity,
         (struct audited_epoch){
             .scope_ref = e->features[feature].scope_ref,
             .revision = e->revision,
             .from_ms = from_ms,
             .seats = e->features[feature].seats,
             .ends_ms = e->ends_ms,
             .lease_max_ms = e->features[feature].lease_max_ms,
         });
}

static int64_t seats_before(const struct auditor *a, const struct uuid *scope)
{
    for (size_t i = a->epoch_count; i-- > 0;) {
        if (uuid_equal(&a->epochs[i].scope_ref, scope))
            return a->epochs[i].seats;
    }
    return 0;
}

void auditor_install_sent(struct world *w, const struct entitlement *e)
{
    for (size_t i = 0; i < e->feature_count; i++) {
        bool growth = e->features[i].seats >= seats_before(&w->auditor, &e->features[i].scope_ref);
        add_epoch(w, e, i, growth ? w->auditor.told_ms : INT64_MAX);
    }
}

void auditor_install_known(struct world *w, const struct entitlement *e, int64_t now_ms)
{
    for (size_t i = 0; i < w->auditor.epoch_count; i++) {
        struct audited_epoch *epoch = &w->auditor.epochs[i];
        for (size_t f = 0; f < e->feature_count; f++) {
            if (uuid_equal(&epoch->scope_ref, &e->features[f].scope_ref) &&
                epoch->revision == e->revision && epoch->from_ms == INT64_MAX)
                epoch->from_ms = now_ms + 1; /* grants of the same instant may be older */
        }
    }
}

/* Seats in force then. */
static int64_t seats_at(const struct auditor *a, const struct uuid *scope, int64_t at_ms)
{
    int64_t seats = 0;

    for (size_t i = 0; i < a->epoch_count; i++) {
        if (uuid_equal(&a->epochs[i].scope_ref, scope) && a->epochs[i].from_ms <= at_ms)
            seats = a->epochs[i].seats;
    }
    return seats;
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
        if (!concerned(&a->leases[i], ref, origin) || a->leases[i].blind)
            continue;
        a->leases[i].ends_on_the_way++;
        a->leases[i].maybe_ended = true;
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
        if (!concerned(lease, ref, origin) || lease->blind || lease->counted_from > request->sent)
            continue;
        must(lease->ends_on_the_way > 0);
        lease->ends_on_the_way--;
        lease->end_known = order;
        lease->ended = lease->ended || (certain && lease->born < request->sent);
    }
}

void auditor_deleted(struct world *w, const struct request *request, size_t origin)
{
    w->auditor.origins[origin].deletion_sent = request->sent;
    w->auditor.origins[origin].deletion_known = world_order(w);
}

void auditor_proof_taken(struct world *w, const struct request *request, size_t origin,
                         uint64_t secret_since)
{
    const struct audited_origin *o = &w->auditor.origins[origin];

    if (o->deletion_sent && request->sent > o->deletion_known && secret_since < o->deletion_sent)
        world_fail(w, "a secret from before its origin was deleted was taken");
}

/* Said by one who asked after every end that may have been done was answered. */
static bool after_the_ends(const struct auditor *a, const struct request *request, size_t origin,
                           const struct audited_lease *lease)
{
    return !lease->ends_on_the_way && request->sent > lease->end_known &&
           !a->origins[origin].ends_on_the_way && request->sent > a->origins[origin].end_known;
}

/* ---- what clients are told --------------------------------------------------------------------
 */

static bool certainly_active(const struct audited_lease *lease)
{
    return !lease->maybe_ended && !lease->ended && !lease->blind;
}

static bool usable(const struct world *w, const struct audited_lease *lease)
{
    return certainly_active(lease) && node_clock_ms(&w->node) < lease->expires_ms;
}

static void trace_usable(struct world *w, const struct uuid *scope)
{
    for (size_t i = 0; i < w->auditor.lease_count; i++) {
        const struct audited_lease *lease = &w->auditor.leases[i];
        if (uuid_equal(&lease->scope_ref, scope) && usable(w, lease))
            trace_line(
                &w->trace, w->now_ms,
                "  %zu may use %02x%02x: %" PRId64 " seats, created %" PRId64 ", expires %" PRId64,
                lease->origin, lease->lease_ref.bytes[0], lease->lease_ref.bytes[1], lease->count,
                lease->created_ms - SIM_EPOCH_MS, lease->expires_ms - SIM_EPOCH_MS);
    }
}

static void check_scope(struct world *w, const struct uuid *scope)
{
    int64_t sum = 0, newest_ms = -1;

    for (size_t i = 0; i < w->auditor.lease_count; i++) {
        const struct audited_lease *lease = &w->auditor.leases[i];
        if (!uuid_equal(&lease->scope_ref, scope) || !usable(w, lease))
            continue;
        sum += lease->count;
        if (lease->created_ms > newest_ms)
            newest_ms = lease->created_ms;
    }
    w->auditor.checks++;
    int64_t seats = seats_at(&w->auditor, scope, newest_ms);
    if (sum > seats)
        trace_usable(w, scope);
    if (sum > seats)
        world_fail(w, "I1: %" PRId64 " seats may be used, %" PRId64 " were in force", sum, seats);
}

/* No longer than any revision allowed that may have been in force. */
static void check_times(struct world *w, const struct lease_row *row, int64_t now_ms)
{
    int64_t ends_ms = 0, longest_ms = 0;

    for (size_t i = 0; i < w->auditor.epoch_count; i++) {
        const struct audited_epoch *epoch = &w->auditor.epochs[i];
        if (!uuid_equal(&epoch->scope_ref, &row->scope_ref))
            continue;
        ends_ms = epoch->ends_ms > ends_ms ? epoch->ends_ms : ends_ms;
        longest_ms = epoch->lease_max_ms > longest_ms ? epoch->lease_max_ms : longest_ms;
    }
    if (longest_ms > w->node.conf.lease_max_ms)
        longest_ms = w->node.conf.lease_max_ms;
    if (row->expires_ms > ends_ms)
        world_fail(w, "R3: a lease goes beyond the end of its entitlement");
    if (row->expires_ms - now_ms > longest_ms)
        world_fail(w, "R3: a lease of %" PRId64 " ms, %" PRId64 " are allowed",
                   row->expires_ms - now_ms, longest_ms);
}

static void told_again(struct world *w, const struct request *request, struct audited_lease *lease,
                       const struct lease_row *row)
{
    bool after = after_the_ends(&w->auditor, request, lease->origin, lease);

    if (lease->count != row->count || !uuid_equal(&lease->scope_ref, &row->scope_ref))
        world_fail(w, "R3: one reference stands for two leases");
    if (lease->ended && after)
        world_fail(w, "R5: a lease that has ended is active again");
    if (row->expires_ms > lease->expires_ms)
        lease->expires_ms = row->expires_ms;
    if (after)
        lease->maybe_ended = false; /* it was not done after all */
    lease->told = world_order(w);
}

static void told_first(struct world *w, const struct request *request, size_t origin,
                       const struct lease_row *row, const struct audited_lease *before)
{
    struct auditor *a = &w->auditor;
    struct audited_lease lease = { .lease_ref = row->lease_ref,
                                   .scope_ref = row->scope_ref,
                                   .origin = origin,
                                   .count = row->count,
                                   .created_ms = row->created_ms,
                                   .expires_ms = row->expires_ms };

    lease.born = lease.told = lease.counted_from = world_order(w);
    if (before && (before->origin != origin || before->blind))
        lease.blind = true;
    else if (before) { /* what was sent to end the one before may have ended this one */
        lease.counted_from = before->counted_from;
        lease.ends_on_the_way = before->ends_on_the_way;
        lease.end_known = before->end_known;
    }
    if (!after_the_ends(a, request, origin, &lease))
        lease.maybe_ended = true;
    push(a->leases, a->lease_count, a->lease_capacity, lease);
}

void auditor_told(struct world *w, const struct request *request, size_t origin,
                  const struct lease_view *view)
{
    const struct lease_row *row = &view->row;
    struct audited_lease *lease = find(&w->auditor, &row->lease_ref);

    w->auditor.told_leases++;
    check_times(w, row, request->result.now_ms);
    if (lease && lease->created_ms != row->created_ms && row->created_ms < lease->expires_ms)
        world_fail(w, "R5: a reference was granted anew before its first lease was over");
    if (lease && lease->created_ms == row->created_ms) {
        if (lease->origin != origin)
            world_fail(w, "R4: another origin's lease");
        told_again(w, request, lease, row);
    } else {
        told_first(w, request, origin, row, lease);
    }
    check_scope(w, &row->scope_ref);
}

void auditor_refused(struct world *w, const struct request *request, size_t origin)
{
    enum err err = request->result.err;
    const struct audited_lease *lease = find(&w->auditor, &request->event.renew.lease_ref);

    if (err != ERR_LEASE_ENDED && err != ERR_LEASE_UNKNOWN && err != ERR_LEASE_MISMATCH)
        return;
    if (lease && lease->origin == origin && certainly_active(lease) &&
        lease->told < request->sent && request->result.now_ms < lease->expires_ms)
        world_fail(w, "I2: a lease with %" PRId64 " ms to go cannot be renewed: %s",
                   lease->expires_ms - request->result.now_ms, request->result.diag.text);
}

void auditor_listed(struct world *w, const struct request *request, size_t origin)
{
    const struct ledger_result *r = &request->result;

    for (size_t i = 0; i < w->auditor.lease_count; i++) {
        const struct audited_lease *lease = &w->auditor.leases[i];
        bool listed = false;
        if (lease->origin != origin || !certainly_active(lease) || lease->told > request->sent ||
            r->now_ms >= lease->expires_ms)
            continue;
        for (size_t j = 0; j < r->lease_count; j++)
            listed = listed || uuid_equal(&r->leases[j].row.lease_ref, &lease->lease_ref);
        if (!listed)
            world_fail(w, "I2: a lease is missing in its origin's list");
    }
    for (size_t j = 0; j < r->lease_count; j++)
        auditor_told(w, request, origin, &r->leases[j]);
}
