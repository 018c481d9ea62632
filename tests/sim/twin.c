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
    if (x.count != y.count || x.state != y.state || x.shared != y.shared || x.seq != y.seq)
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

static const char *moves_difference(const struct ledger *la, const struct ledger *lb,
                                    const struct scope *a, struct scope *b, struct diag *diag)
{
    if (a->moves.count != b->moves.count)
        return differ(diag, "%zu moves here, %zu there", a->moves.count, b->moves.count);
    for (size_t i = 0; i < a->moves.count; i++) {
        const struct move *move = &a->moves.items[i];
        int giver = node_index(lb, &la->nodes[move->giver].ref);
        int receiver = node_index(lb, &la->nodes[move->receiver].ref);
        if (giver < 0 || receiver < 0 ||
            scope_move(b, (size_t)giver, (size_t)receiver)->moved != move->moved)
            return differ(diag, "a move of %" PRId64 " differs", move->moved);
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
    if (a->seats != b->seats || a->trusted != b->trusted || a->waiting != b->waiting ||
        a->active != b->active)
        return differ(diag, "scope %s: seats, trust, waiting or active differ", a->feature->name);
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

static const char *node_difference(const struct ledger *la, const struct ledger *lb,
                                   struct diag *diag)
{
    if (la->node_count != lb->node_count)
        return differ(diag, "%zu nodes here, %zu there", la->node_count, lb->node_count);
    for (size_t i = 0; i < la->node_count; i++) {
        int n = node_index(lb, &la->nodes[i].ref);
        if (n < 0 || la->nodes[i].watermark_ms != lb->nodes[n].watermark_ms ||
            la->nodes[i].acknowledged != lb->nodes[n].acknowledged ||
            la->nodes[i].seq != lb->nodes[n].seq)
            return differ(diag, "node %zu differs", i);
    }
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
