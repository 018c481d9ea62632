/* The batch: one row for each record that changed since the last clear, always its newest form. */
#include "ledger/state.h"

/* Room for one more row in changes.<list>; returns its place. */
#define ROW_NEW(l, list, count_field, capacity_field)                                              \
    __extension__({                                                                                \
        if ((l)->changes.count_field == (l)->capacity_field) {                                     \
            (l)->capacity_field = (l)->capacity_field ? (l)->capacity_field * 2 : 16;              \
            (l)->changes.list =                                                                    \
                mem_resize((l)->changes.list, (l)->capacity_field * sizeof *(l)->changes.list);    \
        }                                                                                          \
        (l)->changes.count_field++;                                                                \
    })

static uint64_t next_seq(struct ledger *l)
{
    must(!l->loading && l->seq < INT64_MAX);
    l->changes.seq = ++l->seq;
    return l->seq;
}

struct lease_row lease_to_row(const struct ledger *l, const struct lease *lease)
{
    return (struct lease_row){
        .lease_ref = lease->ref,
        .home = l->nodes[lease->home].ref,
        .origin_ref = lease->origin->ref,
        .scope_ref = l->scopes.items[lease->scope]->ref,
        .count = lease->count,
        .state = lease->state,
        .shared = lease->shared,
        .created_ms = lease->created_ms,
        .duration_ms = lease->duration_ms,
        .expires_ms = lease->expires_ms,
        .ended_ms = lease->ended_ms,
        .ended_expires_ms = lease->ended_expires_ms,
        .seq = lease->seq,
    };
}

void lease_changed(struct ledger *l, struct lease *lease)
{
    lease->seq = next_seq(l);
    if (!lease->row_at)
        lease->row_at = 1 + (uint32_t)ROW_NEW(l, leases, lease_count, lease_capacity);
    l->changes.leases[lease->row_at - 1] = lease_to_row(l, lease);
}

void origin_changed(struct ledger *l, struct origin *origin, const char *environment)
{
    const char *before = NULL;

    origin->seq = next_seq(l);
    if (!origin->row_at)
        origin->row_at = 1 + (uint32_t)ROW_NEW(l, origins, origin_count, origin_capacity);
    else
        before = l->changes.origins[origin->row_at - 1].environment;
    l->changes.origins[origin->row_at - 1] = (struct origin_row){
        .origin_ref = origin->ref,
        .generation = origin->generation,
        .enrolled = origin->enrolled,
        .created_ms = origin->created_ms,
        .updated_ms = origin->updated_ms,
        .environment = environment ? environment : before,
        .seq = origin->seq,
    };
}

void credit_changed(struct ledger *l, struct scope *scope, size_t node)
{
    struct credit *credit = &scope->credits[node];

    credit->seq = next_seq(l);
    if (!credit->row_at)
        credit->row_at = 1 + (uint32_t)ROW_NEW(l, credits, credit_count, credit_capacity);
    l->changes.credits[credit->row_at - 1] = (struct credit_row){
        .scope_ref = scope->ref,
        .node_ref = l->nodes[node].ref,
        .minted = credit->minted,
        .usable = credit->usable,
        .revision = credit->revision,
        .seq = credit->seq,
    };
}

void move_changed(struct ledger *l, struct scope *scope, struct move *move)
{
    move->seq = next_seq(l);
    if (!move->row_at)
        move->row_at = 1 + (uint32_t)ROW_NEW(l, moves, move_count, move_capacity);
    l->changes.moves[move->row_at - 1] = (struct move_row){
        .scope_ref = scope->ref,
        .giver = l->nodes[move->giver].ref,
        .receiver = l->nodes[move->receiver].ref,
        .moved = move->moved,
        .seq = move->seq,
    };
}

void node_changed(struct ledger *l, struct node *node)
{
    node->seq = next_seq(l);
    if (!node->row_at)
        node->row_at = 1 + (uint32_t)ROW_NEW(l, nodes, node_count, node_capacity);
    l->changes.nodes[node->row_at - 1] = (struct node_row){
        .node_ref = node->ref,
        .watermark_ms = node->watermark_ms,
        .acknowledged = node->acknowledged,
        .seq = node->seq,
    };
}

void scope_changed(struct ledger *l, struct scope *scope)
{
    scope->seq = next_seq(l);
    if (!scope->row_at)
        scope->row_at = 1 + (uint32_t)ROW_NEW(l, scopes, scope_count, scope_capacity);
    l->changes.scopes[scope->row_at - 1] = (struct scope_row){
        .scope_ref = scope->ref,
        .entitlement_ref = scope->entitlement->entitlement_ref,
        .revision = scope->entitlement->revision,
        .feature = scope->feature->name,
        .seats = scope->seats,
        .seq = scope->seq,
    };
}

void entitlement_changed(struct ledger *l, struct entitlement *e)
{
    size_t at = ROW_NEW(l, entitlements, entitlement_count, entitlement_capacity);

    l->changes.entitlements[at] = (struct entitlement_row){
        .entitlement = entitlement_ref(e),
        .installed_ms = l->now_ms,
        .seq = next_seq(l),
    };
}

void lease_purged(struct ledger *l, const struct lease *lease)
{
    must(!lease->row_at); /* a row and its purge in one batch would depend on their order */
    size_t at = ROW_NEW(l, purged, purged_count, purged_capacity);
    l->changes.purged[at] = (struct lease_key){ lease->ref, l->nodes[lease->home].ref };
}

const struct ledger_changes *ledger_changes(const struct ledger *l)
{
    return &l->changes;
}

bool ledger_changed(const struct ledger *l)
{
    const struct ledger_changes *c = &l->changes;

    return c->lease_count || c->origin_count || c->credit_count || c->move_count || c->node_count ||
           c->entitlement_count || c->scope_count || c->purged_count;
}

static void forget_scope_rows(struct ledger *l)
{
    struct ledger_changes *c = &l->changes;

    if (!c->scope_count && !c->credit_count && !c->move_count)
        return;
    for (size_t i = 0; i < l->scopes.count; i++) {
        struct scope *scope = l->scopes.items[i];
        scope->row_at = 0;
        for (size_t n = 0; n < l->node_count; n++)
            scope->credits[n].row_at = 0;
        for (size_t m = 0; m < scope->moves.count; m++)
            scope->moves.items[m].row_at = 0;
    }
}

void ledger_changes_clear(struct ledger *l)
{
    struct ledger_changes *c = &l->changes;

    for (size_t i = 0; i < c->lease_count; i++) {
        int home = node_index(l, &c->leases[i].home);
        must(home >= 0);
        lease_find(l, &c->leases[i].lease_ref, (size_t)home)->row_at = 0;
    }
    for (size_t i = 0; i < c->origin_count; i++)
        origin_find(l, &c->origins[i].origin_ref)->row_at = 0;
    for (size_t n = 0; n < l->node_count; n++)
        l->nodes[n].row_at = 0;
    forget_scope_rows(l);
    for (size_t i = 0; i < c->entitlement_count; i++)
        entitlement_unref(c->entitlements[i].entitlement);
    c->lease_count = c->origin_count = c->credit_count = c->move_count = 0;
    c->node_count = c->entitlement_count = c->scope_count = c->purged_count = 0;
}

void changes_fini(struct ledger *l)
{
    struct ledger_changes *c = &l->changes;

    for (size_t i = 0; i < c->entitlement_count; i++)
        entitlement_unref(c->entitlements[i].entitlement);
    mem_free(c->leases);
    mem_free(c->origins);
    mem_free(c->credits);
    mem_free(c->moves);
    mem_free(c->nodes);
    mem_free(c->entitlements);
    mem_free(c->scopes);
    mem_free(c->purged);
    *c = (struct ledger_changes){ .seq = 0 };
}
