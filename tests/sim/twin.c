#include "twin.h"

#include <inttypes.h>

#include "ledger/state.h"

#define differ(diag, ...) (diag_set((diag), ERR_INTERNAL, __VA_ARGS__), (diag)->text)

static const char *lease_difference(const struct ledger *la, const struct ledger *lb,
                                    const struct lease *a, struct diag *diag)
{
    struct lease_row x = lease_to_row(la, a);
    const struct lease *b = NULL;
    char ref[UUID_TEXT_SIZE];
    size_t at;

    for (struct lease *p = table_first(&lb->leases, &a->ref, &at); p;
         p = table_next(&lb->leases, &a->ref, &at)) {
        if (uuid_equal(&lb->nodes[p->home].ref, &x.home))
            b = p;
    }
    uuid_format(&a->ref, ref);
    if (!b)
        return differ(diag, "lease %s is missing", ref);
    struct lease_row y = lease_to_row(lb, b);
    if (!uuid_equal(&x.origin_ref, &y.origin_ref) || !uuid_equal(&x.scope_ref, &y.scope_ref))
        return differ(diag, "lease %s belongs to another", ref);
    if (x.generation != y.generation || x.count != y.count || x.state != y.state ||
        x.shared != y.shared || x.seq != y.seq)
        return differ(diag, "lease %s: count, state, shared or seq differ", ref);
    if (x.created_ms != y.created_ms || x.duration_ms != y.duration_ms ||
        x.expires_ms != y.expires_ms || x.ended_ms != y.ended_ms ||
        x.ended_expires_ms != y.ended_expires_ms)
        return differ(diag, "lease %s: its times differ", ref);
    if (a->holds != b->holds)
        return differ(diag, "lease %s (%s) holds its seats in one only", ref,
                      lease_state_name(x.state));
    return NULL;
}

static const struct move *find_move(const struct ledger *l, const struct scope *scope,
                                    const struct uuid *giver, const struct uuid *receiver)
{
    for (size_t i = 0; i < scope->moves.count; i++) {
        const struct move *move = scope->moves.items[i];
        if (uuid_equal(&l->nodes[move->giver].ref, giver) &&
            uuid_equal(&l->nodes[move->receiver].ref, receiver))
            return move;
    }
    return NULL;
}

static const char *moves_difference(const struct ledger *la, const struct ledger *lb,
                                    const struct scope *a, const struct scope *b, struct diag *diag)
{
    if (a->moves.count != b->moves.count)
        return differ(diag, "%zu moves here, %zu there", a->moves.count, b->moves.count);
    for (size_t i = 0; i < a->moves.count; i++) {
        const struct move *x = a->moves.items[i];
        const struct move *y =
            find_move(lb, b, &la->nodes[x->giver].ref, &la->nodes[x->receiver].ref);
        if (!y || x->moved != y->moved || x->seq != y->seq)
            return differ(diag, "a move of %" PRId64 " differs", x->moved);
    }
    return NULL;
}

static const char *scope_difference(const struct ledger *la, const struct ledger *lb,
                                    const struct scope *a, struct diag *diag)
{
    struct scope *b = scope_find(lb, &a->ref);
    const char *why = NULL;

    if (!b)
        return differ(diag, "scope %s is missing", a->feature->name);
    if (a->seats != b->seats || a->trusted != b->trusted || a->active != b->active)
        return differ(diag, "scope %s: seats, trust or active differ", a->feature->name);
    if (a->waiting != b->waiting)
        return differ(diag, "scope %s: %" PRId64 " seats waiting here, %" PRId64 " there",
                      a->feature->name, a->waiting, b->waiting);
    if (memcmp(a->entitlement->sha256, b->entitlement->sha256, sizeof a->entitlement->sha256) != 0)
        return differ(diag, "scope %s: the entitlement differs", a->feature->name);
    for (size_t i = 0; !why && i < la->node_count; i++) {
        int n = node_index(lb, &la->nodes[i].ref);
        const struct credit *x = &a->credits[i], *y = &b->credits[n];
        if (x->minted != y->minted || x->revision != y->revision || x->seq != y->seq)
            why = differ(diag, "scope %s: what was minted differs", a->feature->name);
        else if (x->usable != y->usable)
            why = differ(diag, "scope %s: %" PRId64 " seats usable here, %" PRId64 " there",
                         a->feature->name, x->usable, y->usable);
        else if (a->held[i] != b->held[n])
            why = differ(diag, "scope %s: %" PRId64 " seats held here, %" PRId64 " there",
                         a->feature->name, a->held[i], b->held[n]);
    }
    return why ? why : moves_difference(la, lb, a, b, diag);
}

static const char *origin_difference(const struct ledger *lb, const struct origin *a,
                                     struct diag *diag)
{
    const struct origin *b = origin_find(lb, &a->ref);

    if (!b || a->generation != b->generation || a->enrolled != b->enrolled || a->seq != b->seq ||
        a->created_ms != b->created_ms || a->updated_ms != b->updated_ms ||
        a->lease_count != b->lease_count)
        return differ(diag, "an origin with %u leases differs", a->lease_count);
    return NULL;
}

static bool same_node(const struct node_row *a, const struct node_row *b)
{
    return a->retired == b->retired && a->drained == b->drained && uuid_equal(&a->heir, &b->heir) &&
           a->retired_ms == b->retired_ms && a->wait_ms == b->wait_ms &&
           a->longest_ms == b->longest_ms && a->seq == b->seq && a->partner == b->partner &&
           a->closed == b->closed && a->watermark_ms == b->watermark_ms &&
           a->acknowledged == b->acknowledged && a->cursor == b->cursor;
}

static const char *node_difference(const struct ledger *la, const struct ledger *lb,
                                   struct diag *diag)
{
    if (la->node_count != lb->node_count)
        return differ(diag, "%zu nodes here, %zu there", la->node_count, lb->node_count);
    for (size_t i = 0; i < la->node_count; i++) {
        int n = node_index(lb, &la->nodes[i].ref);
        struct node_row x = node_to_row(la, &la->nodes[i]), y = { .seq = 0 };
        if (n >= 0)
            y = node_to_row(lb, &lb->nodes[n]);
        if (n < 0 || !same_node(&x, &y))
            return differ(diag, "node %zu differs", i);
    }
    if (la->self.refilled != lb->self.refilled || la->self.drained != lb->self.drained ||
        la->self.resumed_seq != lb->self.resumed_seq ||
        la->self.lease_max_ms != lb->self.lease_max_ms ||
        memcmp(la->self.former, lb->self.former, sizeof la->self.former) != 0)
        return differ(diag, "what it knows of itself differs");
    return NULL;
}

const char *twin_difference(const struct ledger *a, const struct ledger *b, struct diag *diag)
{
    const char *why = node_difference(a, b, diag);

    if (!why && (a->leases.count != b->leases.count || a->origins.count != b->origins.count ||
                 a->scopes.count != b->scopes.count || a->active_count != b->active_count))
        why = differ(diag, "leases, origins or scopes differ in number");
    if (!why && a->seq != b->seq)
        why = differ(diag, "change number %" PRIu64 " here, %" PRIu64 " there", a->seq, b->seq);
    for (size_t i = 0; !why && i < a->scopes.count; i++)
        why = scope_difference(a, b, a->scopes.items[i], diag);
    for (size_t i = 0; !why && i < a->leases.capacity; i++) {
        if (a->leases.slots[i])
            why = lease_difference(a, b, a->leases.slots[i], diag);
    }
    for (size_t i = 0; !why && i < a->origins.capacity; i++) {
        if (a->origins.slots[i])
            why = origin_difference(b, a->origins.slots[i], diag);
    }
    return why;
}

/* ---- two nodes (I3) ---------------------------------------------------------------------------
 */

static const struct lease_row *other_lease(const struct rows *rows, const struct lease_row *row)
{
    return rows_find_lease(rows, &row->lease_ref, &row->home);
}

/* Only one that has ended may be missing: when it is purged is each node's own business. */
static const char *leases_differ(const struct rows *a, const struct rows *b, struct diag *diag)
{
    for (size_t i = 0; i < a->leases.count; i++) {
        const struct lease_row *x = &a->leases.items[i], *y = other_lease(b, x);
        char ref[UUID_TEXT_SIZE];
        uuid_format(&x->lease_ref, ref);
        if (!y && x->state == LEASE_ACTIVE)
            return differ(diag, "lease %s is active at one and missing at the other", ref);
        if (!y)
            continue;
        if (x->state != y->state)
            return differ(diag, "lease %s is %s at one, %s at the other", ref,
                          lease_state_name(x->state), lease_state_name(y->state));
        if (!uuid_equal(&x->origin_ref, &y->origin_ref) ||
            !uuid_equal(&x->scope_ref, &y->scope_ref) || x->count != y->count ||
            x->generation != y->generation || x->created_ms != y->created_ms ||
            x->expires_ms != y->expires_ms || x->ended_ms != y->ended_ms ||
            x->ended_expires_ms != y->ended_expires_ms || x->shared != y->shared ||
            x->duration_ms != y->duration_ms)
            return differ(diag, "lease %s (%s) differs", ref, lease_state_name(x->state));
    }
    return NULL;
}

static const char *origins_differ(const struct rows *a, const struct rows *b, struct diag *diag)
{
    if (a->origins.count != b->origins.count)
        return differ(diag, "%zu origins at one, %zu at the other", a->origins.count,
                      b->origins.count);
    for (size_t i = 0; i < a->origins.count; i++) {
        const struct origin_row *x = &a->origins.items[i], *y = NULL;
        for (size_t j = 0; j < b->origins.count; j++) {
            if (uuid_equal(&b->origins.items[j].origin_ref, &x->origin_ref))
                y = &b->origins.items[j];
        }
        if (!y || x->generation != y->generation || x->enrolled != y->enrolled ||
            x->created_ms != y->created_ms || x->updated_ms != y->updated_ms ||
            !uuid_equal(&x->updated_by, &y->updated_by))
            return differ(diag,
                          "an origin differs: generation %u and %u, created %" PRId64
                          " and %" PRId64 ", updated %" PRId64 " and %" PRId64,
                          x->generation, y ? y->generation : 0, x->created_ms,
                          y ? y->created_ms : 0, x->updated_ms, y ? y->updated_ms : 0);
    }
    return NULL;
}

static const char *moves_differ(const struct rows *a, const struct rows *b, struct diag *diag)
{
    if (a->moves.count != b->moves.count)
        return differ(diag, "%zu moves at one, %zu at the other", a->moves.count, b->moves.count);
    for (size_t i = 0; i < a->moves.count; i++) {
        const struct move_row *x = &a->moves.items[i];
        bool found = false;
        for (size_t j = 0; j < b->moves.count; j++) {
            const struct move_row *y = &b->moves.items[j];
            found = found ||
                    (uuid_equal(&x->scope_ref, &y->scope_ref) && uuid_equal(&x->giver, &y->giver) &&
                     uuid_equal(&x->receiver, &y->receiver) && x->moved == y->moved);
        }
        if (!found)
            return differ(diag, "a move of %" PRId64 " is not known to both", x->moved);
    }
    return NULL;
}

static const char *entitlements_differ(const struct rows *a, const struct rows *b,
                                       struct diag *diag)
{
    if (a->entitlements.count != b->entitlements.count)
        return differ(diag, "%zu revisions at one, %zu at the other", a->entitlements.count,
                      b->entitlements.count);
    for (size_t i = 0; i < a->entitlements.count; i++) {
        const struct entitlement_row *x = &a->entitlements.items[i];
        bool found = false;
        for (size_t j = 0; j < b->entitlements.count; j++) {
            const struct entitlement_row *y = &b->entitlements.items[j];
            found =
                found || (memcmp(x->entitlement->sha256, y->entitlement->sha256,
                                 sizeof x->entitlement->sha256) == 0 &&
                          uuid_equal(&x->minter, &y->minter) && x->installed_ms == y->installed_ms);
        }
        if (!found)
            return differ(diag, "revision %" PRId64 " or its minter differs",
                          x->entitlement->revision);
    }
    return NULL;
}

/* Retired ones for ever; of the live ones, what they themselves say. */
static const char *nodes_differ(const struct rows *a, const struct rows *b, struct diag *diag)
{
    for (size_t i = 0; i < a->nodes.count; i++) {
        const struct node_row *x = &a->nodes.items[i], *y = NULL;
        for (size_t j = 0; j < b->nodes.count; j++) {
            if (uuid_equal(&b->nodes.items[j].node_ref, &x->node_ref))
                y = &b->nodes.items[j];
        }
        if (!y && !x->seq)
            continue;
        if (!y || x->retired != y->retired || x->drained != y->drained ||
            !uuid_equal(&x->heir, &y->heir) || x->retired_ms != y->retired_ms ||
            x->wait_ms != y->wait_ms || x->longest_ms != y->longest_ms)
            return differ(diag, "node %02x%02x differs", x->node_ref.bytes[0],
                          x->node_ref.bytes[1]);
    }
    return NULL;
}

static const char *differ_one_way(const struct rows *a, const struct rows *b, struct diag *diag)
{
    const char *why = nodes_differ(a, b, diag);

    why = why ? why : entitlements_differ(a, b, diag);
    why = why ? why : moves_differ(a, b, diag);
    why = why ? why : origins_differ(a, b, diag);
    return why ? why : leases_differ(a, b, diag);
}

const char *pair_difference(const struct rows *a, const struct rows *b, struct diag *diag)
{
    const char *why = differ_one_way(a, b, diag);

    return why ? why : differ_one_way(b, a, diag);
}
