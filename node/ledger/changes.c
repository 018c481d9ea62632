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
        .generation = lease->generation,
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

struct origin_row origin_to_row(const struct ledger *l, const struct origin *origin)
{
    bool untold = origin->updated_ms == ORIGIN_UNTOLD_MS;

    return (struct origin_row){
        .origin_ref = origin->ref,
        .generation = origin->generation,
        .enrolled = origin->enrolled,
        .created_ms = origin->created_ms,
        .updated_ms = origin->updated_ms,
        .updated_by = untold ? (struct uuid){ { 0 } } : l->nodes[origin->updated_by].ref,
        .seq = origin->seq,
    };
}

struct move_row move_to_row(const struct ledger *l, const struct move *move)
{
    return (struct move_row){
        .scope_ref = l->scopes.items[move->scope]->ref,
        .giver = l->nodes[move->giver].ref,
        .receiver = l->nodes[move->receiver].ref,
        .moved = move->moved,
        .seq = move->seq,
    };
}

struct node_row node_to_row(const struct ledger *l, const struct node *node)
{
    return (struct node_row){
        .node_ref = node->ref,
        .retired = node->retired,
        .drained = node->drained,
        .heir = node->heir >= 0 ? l->nodes[node->heir].ref : (struct uuid){ { 0 } },
        .retired_ms = node->retired_ms,
        .wait_ms = node->wait_ms,
        .longest_ms = node->longest_ms,
        .seq = node->seq,
        .partner = node->partner,
        .closed = node->closed,
        .watermark_ms = node->watermark_ms,
        .acknowledged = node->acknowledged,
        .cursor = node->cursor,
    };
}

struct entitlement_row revision_to_row(const struct ledger *l, const struct revision *revision)
{
    return (struct entitlement_row){
        .entitlement = revision->entitlement,
        .installed_ms = revision->installed_ms,
        .minter = l->nodes[revision->minter].ref,
        .usable = revision->usable,
        .seq = revision->seq,
    };
}

/* The next change number, and a place in the feed. */
static uint64_t renumber(struct ledger *l, enum feed_kind kind, void *record, uint64_t before)
{
    uint64_t seq = next_seq(l);

    feed_add(l, kind, record, seq, before != 0);
    return seq;
}

void lease_changed(struct ledger *l, struct lease *lease)
{
    lease->seq = renumber(l, FEED_LEASE, lease, lease->seq);
    if (!lease->row_at)
        lease->row_at = 1 + (uint32_t)ROW_NEW(l, leases, lease_count, lease_capacity);
    l->changes.leases[lease->row_at - 1] = lease_to_row(l, lease);
}

void origin_changed(struct ledger *l, struct origin *origin, const char *environment)
{
    const char *before = NULL;

    origin->seq = renumber(l, FEED_ORIGIN, origin, origin->seq);
    if (!origin->row_at)
        origin->row_at = 1 + (uint32_t)ROW_NEW(l, origins, origin_count, origin_capacity);
    else
        before = l->changes.origins[origin->row_at - 1].environment;
    l->changes.origins[origin->row_at - 1] = origin_to_row(l, origin);
    l->changes.origins[origin->row_at - 1].environment = environment ? environment : before;
}

void credit_noted(struct ledger *l, struct scope *scope, size_t node)
{
    struct credit *credit = &scope->credits[node];

    if (!credit->seq)
        credit->seq = next_seq(l);
    if (!credit->row_at)
        credit->row_at = 1 + (uint32_t)ROW_NEW(l, credits, credit_count, credit_capacity);
    l->changes.credits[credit->row_at - 1] = (struct credit_row){
        .scope_ref = scope->ref,
        .node_ref = l->nodes[node].ref,
        .minted = credit->minted,
        .usable = credit->usable,
        .revision = credit->revision,
        .debt = credit->debt,
        .seq = credit->seq,
    };
}

void credit_changed(struct ledger *l, struct scope *scope, size_t node)
{
    scope->credits[node].seq = next_seq(l);
    credit_noted(l, scope, node);
}

void move_changed(struct ledger *l, struct move *move)
{
    move->seq = renumber(l, FEED_MOVE, move, move->seq);
    if (!move->row_at)
        move->row_at = 1 + (uint32_t)ROW_NEW(l, moves, move_count, move_capacity);
    l->changes.moves[move->row_at - 1] = move_to_row(l, move);
}

void node_noted(struct ledger *l, struct node *node)
{
    must(node->seq);
    if (!node->row_at)
        node->row_at = 1 + (uint32_t)ROW_NEW(l, nodes, node_count, node_capacity);
    l->changes.nodes[node->row_at - 1] = node_to_row(l, node);
}

void node_changed(struct ledger *l, struct node *node)
{
    node->seq = renumber(l, FEED_NODE, node, node->seq);
    node_noted(l, node);
}

void self_noted(struct ledger *l)
{
    l->self_out = l->self;
    l->changes.self = &l->self_out;
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

void revision_noted(struct ledger *l, struct revision *revision)
{
    struct ledger_changes *c = &l->changes;

    must(revision->seq);
    if (!revision->row_at)
        revision->row_at =
            1 + (uint32_t)ROW_NEW(l, entitlements, entitlement_count, entitlement_capacity);
    else
        entitlement_unref(c->entitlements[revision->row_at - 1].entitlement);
    c->entitlements[revision->row_at - 1] = revision_to_row(l, revision);
    entitlement_ref(revision->entitlement);
}

void revision_changed(struct ledger *l, struct revision *revision)
{
    revision->seq = renumber(l, FEED_REVISION, revision, revision->seq);
    revision_noted(l, revision);
}

void lease_purged(struct ledger *l, const struct lease *lease)
{
    must(!lease->row_at); /* a row and its purge in one batch would depend on their order */
    size_t at = ROW_NEW(l, purged, purged_count, purged_capacity);
    l->changes.purged[at] = (struct lease_key){ lease->ref, l->nodes[lease->home].ref };
}

void lease_not_purged(struct ledger *l, const struct lease *lease)
{
    struct ledger_changes *c = &l->changes;
    const struct uuid *home = &l->nodes[lease->home].ref;

    for (size_t i = 0; i < c->purged_count; i++) {
        if (uuid_equal(&c->purged[i].lease_ref, &lease->ref) &&
            uuid_equal(&c->purged[i].home, home)) {
            c->purged[i] = c->purged[--c->purged_count];
            return;
        }
    }
}

const struct ledger_changes *ledger_changes(const struct ledger *l)
{
    return &l->changes;
}

bool ledger_changed(const struct ledger *l)
{
    const struct ledger_changes *c = &l->changes;

    return c->lease_count || c->origin_count || c->credit_count || c->move_count || c->node_count ||
           c->entitlement_count || c->scope_count || c->purged_count || c->self;
}

static void forget_revision_rows(struct ledger *l)
{
    struct ledger_changes *c = &l->changes;

    for (size_t i = 0; i < c->entitlement_count; i++) {
        struct entitlement *e = c->entitlements[i].entitlement;
        scope_revision(l, &e->entitlement_ref, e->revision)->row_at = 0;
        entitlement_unref(e);
    }
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
            scope->moves.items[m]->row_at = 0;
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
    forget_revision_rows(l);
    c->self = NULL;
    feed_compact(l);
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
