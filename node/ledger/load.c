/* Loading committed records. Whatever could not have been written by a ledger is refused: a
 * database that was edited by hand must not mint seats. */
#include <inttypes.h>

#include "ledger/state.h"

static enum err note_seq(struct ledger *l, uint64_t seq, uint64_t *out, enum feed_kind kind,
                         void *record)
{
    must(l->loading);
    if (seq > l->seq)
        l->seq = seq; /* compared with the stored number in ledger_load_done() */
    *out = seq;
    if (seq && record)
        feed_add(l, kind, record, seq, false);
    return ERR_OK;
}

static enum err corrupt(struct diag *diag, const char *table, const struct uuid *ref,
                        const char *why)
{
    char text[UUID_TEXT_SIZE];

    uuid_format(ref, text);
    return diag_set(diag, ERR_STORE_CORRUPT, "table %s, row %s: %s", table, text, why);
}

enum err ledger_load_self(struct ledger *l, const struct self_row *row, struct diag *diag)
{
    must(l->loading);
    if (row->lease_max_ms < 0)
        return diag_set(diag, ERR_STORE_CORRUPT, "table self: its longest lease is no time");
    l->self = *row;
    return ERR_OK;
}

/* Nodes name each other as heirs, so all are learned before any is read. */
static int load_heir(struct ledger *l, const struct node_row *row)
{
    return uuid_is_nil(&row->heir) ? -1 : node_learn(l, &row->heir);
}

static const char *node_row_fault(const struct node_row *row)
{
    if (row->watermark_ms < 0)
        return "its watermark is no time";
    if (row->longest_ms < 0 || row->retired_ms < 0 || row->wait_ms < row->retired_ms)
        return "its times contradict each other";
    if (row->retired != (row->retired_ms > 0))
        return "its retirement contradicts itself";
    return NULL;
}

enum err ledger_load_node(struct ledger *l, const struct node_row *row, struct diag *diag)
{
    int index = node_learn(l, &row->node_ref);
    const char *fault = index < 0 ? "it is one too many" : node_row_fault(row);

    if (fault)
        return corrupt(diag, "node", &row->node_ref, fault);
    struct node *node = &l->nodes[index];
    node->retired = row->retired;
    node->drained = row->drained;
    node->heir = (int8_t)load_heir(l, row);
    node->retired_ms = row->retired_ms;
    node->wait_ms = row->wait_ms;
    node->longest_ms = row->longest_ms;
    node->partner = row->partner;
    node->closed = row->closed;
    node->watermark_ms = row->watermark_ms;
    node->acknowledged = row->acknowledged;
    node->cursor = row->cursor;
    node_settle_owners(l);
    return note_seq(l, row->seq, &node->seq, FEED_NODE, node);
}

enum err ledger_load_entitlement(struct ledger *l, const struct entitlement_row *row, bool trusted,
                                 struct diag *diag)
{
    const struct entitlement *e = row->entitlement;
    int minter = node_index(l, &row->minter);

    if (row->installed_ms <= 0)
        return corrupt(diag, "entitlement", &e->entitlement_ref, "it was never installed");
    if (minter < 0)
        return corrupt(diag, "entitlement", &e->entitlement_ref, "its minter is not known");
    if (scope_revision(l, &e->entitlement_ref, e->revision))
        return corrupt(diag, "entitlement", &e->entitlement_ref, "a revision stands there twice");
    if (scope_check(l, e, diag) != ERR_OK)
        return ERR_STORE_CORRUPT;
    struct revision *revision = scope_add_revision(l, row, (size_t)minter, trusted);
    return note_seq(l, row->seq, &revision->seq, FEED_REVISION, revision);
}

/* Credits are derived; what is stored must say the same. */
enum err ledger_load_credit(struct ledger *l, const struct credit_row *row, struct diag *diag)
{
    struct scope *scope = scope_find(l, &row->scope_ref);
    int node = node_index(l, &row->node_ref);

    if (!scope && row->minted == 0 && row->usable == 0)
        return note_seq(l, row->seq, &(uint64_t){ 0 }, FEED_NODE, NULL); /* of a document that does
                                                                          * not stand (R2) */
    if (!scope || node < 0)
        return corrupt(diag, "credit", &row->scope_ref, "its scope or node is not known");
    struct credit *credit = &scope->credits[node];
    if (row->minted != credit->minted)
        return corrupt(diag, "credit", &row->scope_ref,
                       "the entitlement's revisions say that another number was minted");
    if (row->debt < 0)
        return corrupt(diag, "credit", &row->scope_ref, "its debt is negative");
    credit->debt = row->debt;
    return note_seq(l, row->seq, &credit->seq, FEED_NODE, NULL);
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
    return note_seq(l, row->seq, &move->seq, FEED_MOVE, move);
}

enum err ledger_load_origin(struct ledger *l, const struct origin_row *row, struct diag *diag)
{
    int updated_by = row->updated_ms == ORIGIN_UNTOLD_MS ? SELF : node_index(l, &row->updated_by);

    if (origin_find(l, &row->origin_ref))
        return corrupt(diag, "origin", &row->origin_ref, "it stands there twice");
    if (updated_by < 0)
        return corrupt(diag, "origin", &row->origin_ref, "who changed it is not known");
    struct origin *origin = origin_new(l, &row->origin_ref);
    origin->generation = row->generation;
    origin->enrolled = row->enrolled;
    origin->created_ms = row->created_ms;
    origin->updated_ms = row->updated_ms;
    origin->updated_by = (uint8_t)updated_by;
    return note_seq(l, row->seq, &origin->seq, FEED_ORIGIN, origin);
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
    if (!fault && row->state == LEASE_ACTIVE && row->generation != origin->generation)
        fault = "it is active, but of another generation than its origin";
    if (fault)
        return corrupt(diag, "lease", &row->lease_ref, fault);
    struct lease *lease = lease_new(l);
    lease->ref = row->lease_ref;
    lease->home = (uint8_t)home;
    lease_from_row(lease, row, origin, scope);
    lease->seq = row->seq;
    lease_insert(l, lease);
    return note_seq(l, row->seq, &lease->seq, FEED_LEASE, lease);
}

enum err ledger_load_done(struct ledger *l, uint64_t seq, struct diag *diag)
{
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
    l->seq = l->changes.seq = seq;
    l->loading = false;
    l->due_ms = 0; /* what came due meanwhile, waits (R10) included, is found by the first tick */
    feed_sort(l);
    lease_sort_unacked(l);
    return ERR_OK;
}
