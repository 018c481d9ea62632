/* Loading committed records. Whatever could not have been written by a ledger is refused: a
 * database that was edited by hand must not mint seats. */
#include <inttypes.h>

#include "ledger/state.h"

static enum err note_seq(struct ledger *l, uint64_t seq, uint64_t *out)
{
    must(l->loading);
    if (seq > l->seq)
        l->seq = seq; /* compared with the stored number in ledger_load_done() */
    *out = seq;
    return ERR_OK;
}

static enum err corrupt(struct diag *diag, const char *table, const struct uuid *ref,
                        const char *why)
{
    char text[UUID_TEXT_SIZE];

    uuid_format(ref, text);
    return diag_set(diag, ERR_STORE_CORRUPT, "table %s, row %s: %s", table, text, why);
}

enum err ledger_load_entitlement(struct ledger *l, struct entitlement *e, int64_t installed_ms,
                                 uint64_t seq, bool trusted, struct diag *diag)
{
    uint64_t ignored;

    if (installed_ms <= 0)
        return corrupt(diag, "entitlement", &e->entitlement_ref, "it was never installed");
    if (scope_install(l, e, trusted, diag) != ERR_OK)
        return ERR_STORE_CORRUPT;
    return note_seq(l, seq, &ignored);
}

enum err ledger_load_node(struct ledger *l, const struct node_row *row, struct diag *diag)
{
    int index = node_learn(l, &row->node_ref);

    if (index <= SELF)
        return corrupt(diag, "node", &row->node_ref, "it is this node, or one too many");
    if (row->watermark_ms < 0)
        return corrupt(diag, "node", &row->node_ref, "its watermark is no time");
    l->nodes[index].watermark_ms = row->watermark_ms;
    l->nodes[index].acknowledged = row->acknowledged;
    return note_seq(l, row->seq, &l->nodes[index].seq);
}

enum err ledger_load_credit(struct ledger *l, const struct credit_row *row, struct diag *diag)
{
    struct scope *scope = scope_find(l, &row->scope_ref);
    int node = node_index(l, &row->node_ref);

    if (!scope || node < 0)
        return corrupt(diag, "credit", &row->scope_ref, "its scope or node is not known");
    if (row->usable > row->minted)
        return corrupt(diag, "credit", &row->scope_ref, "more is usable than was minted");
    scope->credits[node].minted = row->minted;
    scope->credits[node].usable = row->usable;
    scope->credits[node].revision = row->revision;
    return note_seq(l, row->seq, &scope->credits[node].seq);
}

enum err ledger_load_move(struct ledger *l, const struct move_row *row, struct diag *diag)
{
    struct scope *scope = scope_find(l, &row->scope_ref);
    int giver = node_index(l, &row->giver), receiver = node_index(l, &row->receiver);

    if (!scope || giver < 0 || receiver < 0 || giver == receiver)
        return corrupt(diag, "credit_move", &row->scope_ref, "its scope or nodes are not known");
    if (row->moved <= 0)
        return corrupt(diag, "credit_move", &row->scope_ref, "nothing was moved");
    struct move *move = scope_move(scope, (size_t)giver, (size_t)receiver);
    move->moved = row->moved;
    return note_seq(l, row->seq, &move->seq);
}

enum err ledger_load_origin(struct ledger *l, const struct origin_row *row, struct diag *diag)
{
    if (origin_find(l, &row->origin_ref))
        return corrupt(diag, "origin", &row->origin_ref, "it stands there twice");
    struct origin *origin = origin_new(l, &row->origin_ref);
    origin->generation = row->generation;
    origin->enrolled = row->enrolled;
    origin->created_ms = row->created_ms;
    origin->updated_ms = row->updated_ms;
    return note_seq(l, row->seq, &origin->seq);
}

static const char *lease_row_fault(const struct lease_row *row)
{
    if (row->state >= LEASE_STATES)
        return "its state is not known";
    if (row->count < 1 || row->count > ENTITLEMENT_SEATS_MAX)
        return "its count is out of range";
    if (row->expires_ms <= 0 || row->duration_ms <= 0 || row->created_ms <= 0)
        return "it has no time";
    if (row->expires_ms < row->created_ms)
        return "it expires before it was created";
    if ((row->state == LEASE_ACTIVE) != (row->ended_ms == 0) ||
        (row->ended_ms == 0) != (row->ended_expires_ms == 0))
        return "its state and its end contradict each other";
    if (row->ended_expires_ms > row->expires_ms)
        return "it expires before it was known to expire";
    return NULL;
}

enum err ledger_load_lease(struct ledger *l, const struct lease_row *row, struct diag *diag)
{
    const struct scope *scope = scope_find(l, &row->scope_ref);
    struct origin *origin = origin_find(l, &row->origin_ref);
    int home = node_index(l, &row->home);
    const char *fault = lease_row_fault(row);

    if (!fault && (!scope || !origin || home < 0))
        fault = "its scope, origin or home is not known";
    if (!fault && lease_find(l, &row->lease_ref, (size_t)home))
        fault = "it stands there twice";
    if (!fault && row->state == LEASE_ACTIVE && !origin->enrolled)
        fault = "it is active, but its origin was deleted";
    if (fault)
        return corrupt(diag, "lease", &row->lease_ref, fault);
    struct lease *lease = lease_new(l);
    lease->ref = row->lease_ref;
    lease->created_ms = row->created_ms;
    lease->duration_ms = row->duration_ms;
    lease->expires_ms = row->expires_ms;
    lease->ended_ms = row->ended_ms;
    lease->ended_expires_ms = row->ended_expires_ms;
    lease->origin = origin;
    lease->count = (uint32_t)row->count;
    lease->scope = scope->index;
    lease->home = (uint8_t)home;
    lease->state = (uint8_t)row->state;
    lease->shared = row->shared;
    lease->seq = row->seq;
    lease_insert(l, lease);
    return note_seq(l, row->seq, &lease->seq);
}

/* What was minted in all is what publishers signed. */
static enum err check_scope(const struct ledger *l, const struct scope *scope, struct diag *diag)
{
    int64_t minted = 0;
    char text[UUID_TEXT_SIZE];

    for (size_t i = 0; i < l->node_count; i++)
        minted += scope->credits[i].minted;
    if (minted == scope->seats)
        return ERR_OK;
    uuid_format(&scope->ref, text);
    return diag_set(diag, ERR_STORE_CORRUPT,
                    "table credit, scope %s: %" PRId64 " seats were minted, the entitlement has "
                    "%" PRId64,
                    text, minted, scope->seats);
}

enum err ledger_load_done(struct ledger *l, uint64_t seq, struct diag *diag)
{
    enum err err;

    must(l->loading);
    if (l->seq > seq)
        return diag_set(diag, ERR_STORE_CORRUPT,
                        "a record has change number %" PRIu64 ", above the node's own %" PRIu64,
                        l->seq, seq);
    for (size_t i = 1; i < l->node_count; i++) {
        if (l->nodes[i].acknowledged > seq)
            return corrupt(diag, "node", &l->nodes[i].ref,
                           "it acknowledges a change that was never made");
    }
    for (size_t i = 0; i < l->scopes.count; i++) {
        if ((err = check_scope(l, l->scopes.items[i], diag)) != ERR_OK)
            return err;
    }
    l->seq = l->changes.seq = seq;
    l->loading = false;
    lease_sort_unacked(l);
    scope_mints_settle(l);
    lease_settle_acknowledged(l);
    return ERR_OK;
}
