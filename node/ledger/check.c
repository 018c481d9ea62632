/* Invariants, as assertions over everything. For tests. */
#include "ledger/state.h"

struct sums {
    int64_t held[LEDGER_NODES_MAX], waiting, active;
};

/* R6, R7: nothing that is due waits, but for what did not fit into this batch. */
static void check_due(const struct ledger *l, const struct lease *lease)
{
    must(lease->holds || lease_seat_back(l, lease));
    if (l->clock_alarm || l->peer_suspect || l->due_ms <= l->now_ms)
        return;
    must(lease->holds == !lease_seat_back(l, lease));
    if (!l->self.refilled || l->nodes[SELF].retired)
        return;
    if (lease->state == LEASE_ACTIVE && lease->home == SELF && !lease->shared)
        must(l->now_ms < lease->expires_ms);
}

static void check_lease(const struct ledger *l, const struct lease *lease)
{
    must(lease->scope < l->scopes.count && lease->home < l->node_count);
    must(lease->state < LEASE_STATES && lease->count > 0);
    must(lease->seq <= l->seq);
    must((lease->state == LEASE_ACTIVE) == (lease->ended_ms == 0));
    must(lease->ended_expires_ms <= lease->expires_ms);
    must(lease->state != LEASE_ACTIVE || lease->holds);
    must(!lease->holds || !node_is_ours(l, lease->home) || lease->in_heap);
    must(lease->state != LEASE_ACTIVE || lease->generation == lease->origin->generation);
    check_due(l, lease);
}

static void check_scope(const struct ledger *l, const struct scope *scope, const struct sums *sums)
{
    int64_t minted = 0;

    for (size_t i = 0; i < l->node_count; i++) {
        must(scope->held[i] == sums->held[i]);
        minted += scope->credits[i].minted;
    }
    must(scope->waiting == sums->waiting);
    must(scope->active == sums->active);
    must(minted == scope->seats);
    must(scope->credits[SELF].usable <= scope->credits[SELF].minted);
    must(scope->index < l->scopes.count && l->scopes.items[scope->index] == scope);
}

static void check_origin(const struct origin *origin)
{
    uint32_t count = 0;

    for (const struct lease *lease = origin->leases; lease; lease = lease->next) {
        must(lease->origin == origin && lease->state == LEASE_ACTIVE);
        must(!lease->next || lease->next->prev == lease);
        count++;
    }
    must(count == origin->lease_count);
    must(origin->enrolled || count == 0);
}

void ledger_check(const struct ledger *l)
{
    struct sums *sums = mem_calloc(l->scopes.count, sizeof *sums);
    size_t active = 0;

    for (size_t i = 0; i < l->leases.capacity; i++) {
        const struct lease *lease = l->leases.slots[i];
        if (!lease)
            continue;
        check_lease(l, lease);
        if (lease->holds)
            sums[lease->scope].held[lease->home] += lease->count;
        if (lease->holds && lease->state != LEASE_ACTIVE)
            sums[lease->scope].waiting += lease->count;
        sums[lease->scope].active += lease->state == LEASE_ACTIVE;
        active += lease->state == LEASE_ACTIVE;
    }
    must(active == l->active_count);
    for (size_t i = 0; i < l->scopes.count; i++)
        check_scope(l, l->scopes.items[i], &sums[i]);
    for (size_t i = 0; i < l->origins.capacity; i++) {
        if (l->origins.slots[i])
            check_origin(l->origins.slots[i]);
    }
    mem_free(sums);
}
