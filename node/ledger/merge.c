/* R9: what the partner tells is merged, state by state: per record ended beats active, `expires`
 * takes the maximum, other fields the newest stamp of the node that owns them. In whatever order
 * and however often pages come, the same comes out.
 *
 * A page is judged as a whole before any of it is merged. What breaks R2, refers to nothing, or
 * ends later than any lease could, is refused with the page; what only this node itself could have
 * decided, and does not know, shows that this node lost its history (R11). */
#include <inttypes.h>

#include "ledger/request.h"

#define LONGEST_MS (LEASE_SECONDS_MAX * INT64_C(1000))

/* The ledger as it would be with the page's nodes, entitlements and moves. */
struct seen {
    const struct ledger *l;
    const struct ledger_page *page;
};

static enum err refuse(struct diag *diag, const char *kind, const struct uuid *ref, const char *why)
{
    char text[UUID_TEXT_SIZE];

    uuid_format(ref, text);
    return diag_set(diag, ERR_PAGE_REFUSED, "%s %s: %s", kind, text, why);
}

static enum err lost(struct diag *diag, const char *kind, const struct uuid *ref, const char *what)
{
    char text[UUID_TEXT_SIZE];

    uuid_format(ref, text);
    return diag_set(diag, ERR_HISTORY_LOST, "the peer knows %s %s, %s, and this node does not",
                    kind, text, what);
}

/* ---- judging ------------------------------------------------------------------------------- */

static bool node_seen(const struct seen *s, const struct uuid *ref)
{
    if (node_index(s->l, ref) >= 0)
        return true;
    for (size_t i = 0; i < s->page->node_count; i++) {
        if (uuid_equal(&s->page->nodes[i].node_ref, ref))
            return true;
    }
    return false;
}

static bool scope_seen(const struct seen *s, const struct uuid *ref)
{
    if (scope_find(s->l, ref))
        return true;
    for (size_t i = 0; i < s->page->entitlement_count; i++) {
        if (feature_of(s->page->entitlements[i].entitlement, ref))
            return true;
    }
    return false;
}

/* R9: of a page that comes late or again, rows up to the cursor were merged, in this form or a
 * newer one. Merged once more they could bring back what was purged since. */
static bool is_old(const struct ledger *l, uint64_t seq)
{
    return seq <= l->nodes[node_partner(l)].cursor;
}

static bool is_self(const struct ledger *l, const struct uuid *ref)
{
    return uuid_equal(&l->nodes[SELF].ref, ref);
}

static enum err judge_nodes(const struct seen *s, struct diag *diag)
{
    size_t count = s->l->node_count;

    for (size_t i = 0; i < s->page->node_count; i++) {
        const struct node_row *row = &s->page->nodes[i];
        count += node_index(s->l, &row->node_ref) < 0;
        if (uuid_is_nil(&row->node_ref) || row->longest_ms < 0 || row->longest_ms > LONGEST_MS)
            return refuse(diag, "node", &row->node_ref, "it cannot be");
        if (row->retired && (row->retired_ms <= 0 || row->wait_ms < row->retired_ms))
            return refuse(diag, "node", &row->node_ref, "its retirement contradicts itself");
        if (!uuid_is_nil(&row->heir) && !node_seen(s, &row->heir))
            return refuse(diag, "node", &row->node_ref, "its heir is not known");
    }
    if (count > LEDGER_NODES_MAX)
        return diag_set(diag, ERR_PAGE_REFUSED, "the instance has had %d nodes, which is the limit",
                        LEDGER_NODES_MAX);
    return ERR_OK;
}

static enum err judge_entitlements(const struct seen *s, struct diag *diag)
{
    for (size_t i = 0; i < s->page->entitlement_count; i++) {
        const struct entitlement_row *row = &s->page->entitlements[i];
        const struct entitlement *e = row->entitlement;
        if (row->installed_ms <= 0 || !node_seen(s, &row->minter))
            return refuse(diag, "entitlement", &e->entitlement_ref, "who minted it is not known");
        if (scope_check(s->l, e, diag) != ERR_OK)
            return ERR_PAGE_REFUSED;
        const struct revision *known = scope_revision(s->l, &e->entitlement_ref, e->revision);
        if (is_self(s->l, &row->minter) && !known) /* R11 */
            return lost(diag, "entitlement", &e->entitlement_ref, "minted here");
        if (known && known->minter == SELF && known->usable &&
            uuid_compare(&row->minter, &s->l->nodes[SELF].ref) < 0)
            return refuse(diag, "entitlement", &e->entitlement_ref,
                          "of two mints the one that is used already cannot give way");
    }
    return ERR_OK;
}

/* R2: what is known to have been moved in all, with the page. */
static int64_t moved_in_all(const struct seen *s, const struct uuid *scope_ref,
                            const struct uuid *giver, const struct uuid *receiver)
{
    const struct scope *scope = scope_find(s->l, scope_ref);
    int64_t moved = 0;

    for (size_t i = 0; scope && i < scope->moves.count; i++) {
        const struct move *move = scope->moves.items[i];
        if (uuid_equal(&s->l->nodes[move->giver].ref, giver) &&
            uuid_equal(&s->l->nodes[move->receiver].ref, receiver))
            moved = move->moved;
    }
    for (size_t i = 0; i < s->page->move_count; i++) {
        const struct move_row *row = &s->page->moves[i];
        if (uuid_equal(&row->scope_ref, scope_ref) && uuid_equal(&row->giver, giver) &&
            uuid_equal(&row->receiver, receiver) && row->moved > moved)
            moved = row->moved;
    }
    return moved;
}

/* All nodes of ledger and page, each once. */
static size_t all_nodes(const struct seen *s, struct uuid refs[2 * LEDGER_NODES_MAX])
{
    size_t count = s->l->node_count;

    for (size_t i = 0; i < count; i++)
        refs[i] = s->l->nodes[i].ref;
    for (size_t i = 0; i < s->page->node_count && count < 2 * LEDGER_NODES_MAX; i++) {
        if (node_index(s->l, &s->page->nodes[i].node_ref) < 0)
            refs[count++] = s->page->nodes[i].node_ref;
    }
    return count;
}

static struct uuid heir_of(const struct seen *s, const struct uuid *ref)
{
    int index = node_index(s->l, ref);

    if (index >= 0 && s->l->nodes[index].retired && s->l->nodes[index].heir >= 0)
        return s->l->nodes[s->l->nodes[index].heir].ref;
    for (size_t i = 0; i < s->page->node_count; i++) {
        if (s->page->nodes[i].retired && uuid_equal(&s->page->nodes[i].node_ref, ref))
            return s->page->nodes[i].heir;
    }
    return (struct uuid){ { 0 } };
}

static bool inherited_by(const struct seen *s, const struct uuid *ref, const struct uuid *heir)
{
    struct uuid at = *ref;

    for (size_t step = 0; step < 2 * LEDGER_NODES_MAX && !uuid_is_nil(&at); step++) {
        if (uuid_equal(&at, heir))
            return true;
        at = heir_of(s, &at);
    }
    return false;
}

static const struct entitlement *entitlement_of(const struct seen *s, const struct uuid *scope_ref)
{
    const struct scope *scope = scope_find(s->l, scope_ref);

    for (size_t i = 0; !scope && i < s->page->entitlement_count; i++) {
        if (feature_of(s->page->entitlements[i].entitlement, scope_ref))
            return s->page->entitlements[i].entitlement;
    }
    return scope ? scope->entitlement : NULL;
}

/* One revision of ledger or page: the next after number `after`; false: no more. */
struct mint_step {
    int64_t revision, seats;
    struct uuid minter;
};

static bool next_mint(const struct seen *s, const struct uuid *scope_ref,
                      const struct entitlement *of, int64_t after, struct mint_step *out)
{
    const struct installed *installed = table_find(&s->l->installed, &of->entitlement_ref);
    const struct entitlement *found = NULL;

    for (size_t i = 0; installed && i < installed->revisions.count && !found; i++) {
        const struct revision *revision = installed->revisions.items[i];
        if (revision->entitlement->revision <= after)
            continue;
        found = revision->entitlement;
        out->minter = s->l->nodes[revision->minter].ref;
    }
    for (size_t i = 0; i < s->page->entitlement_count; i++) {
        const struct entitlement_row *row = &s->page->entitlements[i];
        if (!uuid_equal(&row->entitlement->entitlement_ref, &of->entitlement_ref) ||
            row->entitlement->revision <= after ||
            (found && row->entitlement->revision > found->revision) ||
            (found && row->entitlement->revision == found->revision &&
             uuid_compare(&row->minter, &out->minter) > 0))
            continue;
        found = row->entitlement;
        out->minter = row->minter;
    }
    if (!found)
        return false;
    const struct feature *feature = feature_of(found, scope_ref);
    out->revision = found->revision;
    out->seats = feature ? feature->seats : 0;
    return true;
}

/* What a node has minted, less nothing: later reductions do not undo what it could move before. */
static int64_t minted_ever(const struct seen *s, const struct uuid *scope_ref,
                           const struct uuid *node)
{
    const struct entitlement *of = entitlement_of(s, scope_ref);
    struct mint_step step = { .revision = 0 };
    int64_t sum = 0, before = 0;

    while (of && next_mint(s, scope_ref, of, step.revision, &step)) {
        if (step.seats > before && uuid_equal(&step.minter, node))
            sum += step.seats - before;
        before = step.seats;
    }
    return sum;
}

/* R2: what a node can have had in all: minted, received, inherited. */
static int64_t had_ever(const struct seen *s, const struct uuid *scope_ref, const struct uuid *node)
{
    struct uuid refs[2 * LEDGER_NODES_MAX];
    size_t count = all_nodes(s, refs);
    int64_t sum = 0;

    for (size_t i = 0; i < count; i++) {
        if (!inherited_by(s, &refs[i], node))
            continue;
        sum += minted_ever(s, scope_ref, &refs[i]);
        for (size_t j = 0; j < count; j++) {
            sum += moved_in_all(s, scope_ref, &refs[j], &refs[i]);
            if (!uuid_equal(&refs[i], node))
                sum -= moved_in_all(s, scope_ref, &refs[i], &refs[j]);
        }
    }
    return sum;
}

static int64_t moved_away(const struct seen *s, const struct uuid *scope_ref,
                          const struct uuid *giver)
{
    struct uuid refs[2 * LEDGER_NODES_MAX];
    size_t count = all_nodes(s, refs);
    int64_t sum = 0;

    for (size_t i = 0; i < count; i++)
        sum += moved_in_all(s, scope_ref, giver, &refs[i]);
    return sum;
}

/* True if this row says nothing new. */
static bool move_known(const struct ledger *l, const struct move_row *row)
{
    const struct seen here = { l, &(struct ledger_page){ .since = 0 } };

    return moved_in_all(&here, &row->scope_ref, &row->giver, &row->receiver) >= row->moved;
}

static enum err judge_moves(const struct seen *s, struct diag *diag)
{
    for (size_t i = 0; i < s->page->move_count; i++) {
        const struct move_row *row = &s->page->moves[i];
        if (row->moved <= 0 || uuid_equal(&row->giver, &row->receiver))
            return refuse(diag, "credit move of scope", &row->scope_ref, "it moves nothing");
        if (!scope_seen(s, &row->scope_ref) || !node_seen(s, &row->giver) ||
            !node_seen(s, &row->receiver))
            return refuse(diag, "credit move of scope", &row->scope_ref,
                          "its scope or nodes are not known");
        if (move_known(s->l, row))
            continue;
        if (is_self(s->l, &row->giver)) /* R11 */
            return lost(diag, "credits of scope", &row->scope_ref, "given away here");
        if (moved_away(s, &row->scope_ref, &row->giver) > had_ever(s, &row->scope_ref, &row->giver))
            return refuse(diag, "credit move of scope", &row->scope_ref,
                          "more was given away than its giver had");
    }
    return ERR_OK;
}

static const char *lease_fault(const struct lease_row *row, int64_t latest_ms)
{
    if (row->state >= LEASE_STATES || row->count < 1 || row->count > ENTITLEMENT_SEATS_MAX)
        return "its state or count cannot be";
    if (row->created_ms <= 0 || row->duration_ms <= 0 || row->expires_ms < row->created_ms)
        return "its times cannot be";
    if (row->expires_ms > latest_ms)
        return "it ends later than any lease could";
    if ((row->state == LEASE_ACTIVE) != (row->ended_ms == 0) ||
        (row->ended_ms == 0) != (row->ended_expires_ms == 0) || row->ended_ms < 0 ||
        row->ended_expires_ms < 0 || row->ended_expires_ms > row->expires_ms)
        return "its state and its end contradict each other";
    return NULL;
}

static bool same_lease(const struct ledger *l, const struct lease *lease,
                       const struct lease_row *row)
{
    return lease->created_ms != row->created_ms || /* granted anew, see merge_leases() */
           (uuid_equal(&lease->origin->ref, &row->origin_ref) && lease->count == row->count &&
            uuid_equal(&l->scopes.items[lease->scope]->ref, &row->scope_ref));
}

static enum err judge_own(const struct ledger *l, const struct lease *lease,
                          const struct lease_row *row, struct diag *diag)
{
    if ((!lease && l->now_ms < row->expires_ms) ||      /* purged is what is over, ended or not */
        (lease && row->created_ms > lease->created_ms)) /* R11 */
        return lost(diag, "lease", &row->lease_ref, "granted here");
    if (lease && lease->state == LEASE_ACTIVE && row->state == LEASE_EXPIRED &&
        row->created_ms == lease->created_ms)
        return refuse(diag, "lease", &row->lease_ref, "only its home lets it expire");
    return ERR_OK;
}

static enum err judge_leases(const struct seen *s, struct diag *diag)
{
    const struct ledger *l = s->l;
    int64_t now_ms = s->page->now_ms > l->now_ms ? s->page->now_ms : l->now_ms;
    enum err err;

    for (size_t i = 0; i < s->page->lease_count; i++) {
        const struct lease_row *row = &s->page->leases[i];
        int home = node_index(l, &row->home);
        const struct lease *lease = home < 0 ? NULL : lease_find(l, &row->lease_ref, (size_t)home);
        if (is_old(l, row->seq))
            continue;
        const char *fault = lease_fault(row, now_ms + LONGEST_MS + l->conf.skew_max_ms);
        if (!fault && (!scope_seen(s, &row->scope_ref) || !node_seen(s, &row->home)))
            fault = "its scope or home is not known";
        if (!fault && lease && !same_lease(l, lease, row))
            fault = "here it is a lease of something else";
        if (fault)
            return refuse(diag, "lease", &row->lease_ref, fault);
        if (home == SELF && (err = judge_own(l, lease, row, diag)) != ERR_OK)
            return err;
    }
    return ERR_OK;
}

static enum err judge_origins(const struct seen *s, struct diag *diag)
{
    for (size_t i = 0; i < s->page->origin_count; i++) {
        const struct origin_row *row = &s->page->origins[i];
        if (row->created_ms <= 0 || row->updated_ms <= 0)
            return refuse(diag, "origin", &row->origin_ref, "its times cannot be");
        if (row->updated_ms != ORIGIN_UNTOLD_MS && !node_seen(s, &row->updated_by))
            return refuse(diag, "origin", &row->origin_ref, "who changed it is not known");
    }
    return ERR_OK;
}

/* R8, R10: from whom, for whom, and where it begins. */
static enum err judge_frame(const struct ledger *l, const struct ledger_page *page,
                            struct diag *diag)
{
    int sender = node_index(l, &page->sender), partner = node_partner(l);

    if (l->nodes[SELF].retired)
        return diag_set(diag, ERR_NODE_RETIRED, "this node was retired");
    if (sender > SELF && l->nodes[sender].retired)
        return diag_set(diag, ERR_PEER_RETIRED, "the page comes from a node that was retired");
    if (partner < 0 || sender != partner)
        return diag_set(diag, ERR_PEER_UNKNOWN, "the page does not come from this node's partner");
    if (!is_self(l, &page->receiver))
        return diag_set(diag, ERR_PAGE_REFUSED, "the page is for another node");
    if (page->since > l->nodes[partner].cursor || page->upto < page->since)
        return diag_set(diag, ERR_PAGE_REFUSED,
                        "the page starts after change %" PRIu64 ", merged are %" PRIu64,
                        page->since, l->nodes[partner].cursor);
    if (page->complete && (page->watermark_ms < 0 || page->watermark_ms >= page->now_ms))
        return diag_set(diag, ERR_PAGE_REFUSED, "its watermark cannot be");
    if (page->complete && page->acknowledged > l->seq) /* R11 */
        return diag_set(diag, ERR_HISTORY_LOST,
                        "the peer has merged change %" PRIu64 " of this node, but there are only "
                        "%" PRIu64,
                        page->acknowledged, l->seq);
    if (!l->self.refilled && !page->refilled && !(page->fresh && node_is_fresh(l))) /* R11 */
        return diag_set(diag, ERR_NODE_UNFILLED, "neither node has a history to go on from");
    return ERR_OK;
}

static enum err judge(const struct ledger *l, const struct ledger_page *page, struct diag *diag)
{
    const struct seen seen = { l, page };
    enum err err = judge_frame(l, page, diag);

    if (err == ERR_OK)
        err = judge_nodes(&seen, diag);
    if (err == ERR_OK)
        err = judge_entitlements(&seen, diag);
    if (err == ERR_OK)
        err = judge_moves(&seen, diag);
    if (err == ERR_OK)
        err = judge_leases(&seen, diag);
    return err == ERR_OK ? judge_origins(&seen, diag) : err;
}

/* ---- merging ------------------------------------------------------------------------------- */

/* R10: retired is for ever; of two retirements the later wait and the smaller heir. */
static bool merge_retirement(struct ledger *l, struct node *node, const struct node_row *row)
{
    int heir = node_learn(l, &row->heir);

    if (!row->retired || heir < 0)
        return false;
    if (!node->retired) {
        node->retired = true;
        node->drained = row->drained;
        node->heir = (int8_t)heir;
        node->retired_ms = row->retired_ms;
        node->wait_ms = row->wait_ms;
        return true;
    }
    struct node before = *node;
    if (uuid_compare(&l->nodes[heir].ref, &l->nodes[node->heir < 0 ? SELF : node->heir].ref) < 0)
        node->heir = (int8_t)heir;
    if (row->wait_ms > node->wait_ms)
        node->wait_ms = row->wait_ms;
    if (row->retired_ms < node->retired_ms)
        node->retired_ms = row->retired_ms;
    node->drained = node->drained && row->drained;
    return before.heir != node->heir || before.wait_ms != node->wait_ms ||
           before.drained != node->drained || before.retired_ms != node->retired_ms;
}

static void merge_nodes(struct ledger *l, const struct ledger_page *page, uint8_t from)
{
    bool retired = false;

    for (size_t i = 0; i < page->node_count; i++)
        must(node_learn(l, &page->nodes[i].node_ref) >= 0); /* judged; heirs may come later */
    for (size_t i = 0; i < page->node_count; i++) {
        const struct node_row *row = &page->nodes[i];
        int index = node_index(l, &row->node_ref);
        struct node *node = &l->nodes[index];
        if (index == SELF)
            continue; /* what this node is, it knows itself */
        bool changed = !node->seq;
        if (index != from && merge_retirement(l, node, row))
            changed = retired = true;
        if (row->longest_ms > node->longest_ms) {
            node->longest_ms = row->longest_ms;
            changed = true;
        }
        if (!changed)
            continue;
        node->via = from;
        node_changed(l, node);
    }
    if (!retired)
        return;
    node_settle_owners(l);
    lease_settle_all(l);
}

/* R2: of two mints of one revision the one of the smaller node_ref stands, with its document. */
static void merge_known_revision(struct ledger *l, struct revision *revision,
                                 const struct entitlement_row *row, uint8_t from)
{
    size_t minter = (size_t)node_index(l, &row->minter);
    int order = uuid_compare(&row->minter, &l->nodes[revision->minter].ref);
    bool changed = false;

    if (order < 0) {
        must(!revision->usable || revision->minter != SELF);
        entitlement_unref(revision->entitlement);
        revision->entitlement = entitlement_ref(row->entitlement);
        revision->minter = (uint8_t)minter;
        revision->installed_ms = row->installed_ms;
        revision->usable = false;
        changed = true;
    } else if (order == 0 && row->installed_ms < revision->installed_ms) {
        revision->installed_ms = row->installed_ms;
        changed = true;
    }
    if (!changed)
        return;
    revision->via = from;
    revision_changed(l, revision);
    scope_derive(l, table_find(&l->installed, &row->entitlement->entitlement_ref), true);
}

static void merge_entitlements(struct ledger *l, const struct ledger_page *page, uint8_t from)
{
    for (size_t i = 0; i < page->entitlement_count; i++) {
        struct entitlement_row row = page->entitlements[i];
        struct revision *known =
            scope_revision(l, &row.entitlement->entitlement_ref, row.entitlement->revision);
        row.usable = false;
        row.seq = 0;
        if (known)
            merge_known_revision(l, known, &row, from);
        else
            scope_add_revision(l, &row, (size_t)node_index(l, &row.minter), true)->via = from;
    }
}

/* Returns how many credits came to this node. */
static int64_t merge_moves(struct ledger *l, const struct ledger_page *page, uint8_t from)
{
    int64_t arrived = 0;

    for (size_t i = 0; i < page->move_count; i++) {
        const struct move_row *row = &page->moves[i];
        struct move *move =
            scope_move(scope_find(l, &row->scope_ref), (size_t)node_index(l, &row->giver),
                       (size_t)node_index(l, &row->receiver));
        if (move->moved >= row->moved)
            continue; /* grows only: what comes late or twice moves nothing */
        if (move->receiver == SELF)
            arrived += row->moved - move->moved;
        move->moved = row->moved;
        move->via = from;
        move_changed(l, move);
    }
    return arrived;
}

/* The origin of a lease that comes before its origin's own row. */
static struct origin *origin_for(struct ledger *l, const struct lease_row *row)
{
    struct origin *origin = origin_find(l, &row->origin_ref);
    bool changed = !origin;

    if (!origin) {
        origin = origin_new(l, &row->origin_ref);
        origin->created_ms = row->created_ms;
        origin->generation = row->generation;
    }
    if (row->state == LEASE_ACTIVE &&
        (row->generation > origin->generation ||
         (row->generation == origin->generation && !origin->enrolled))) {
        origin_renew(l, origin, row->generation);
        origin->enrolled = changed = true;
        origin->updated_ms = ORIGIN_UNTOLD_MS;
        origin->updated_by = SELF;
    }
    if (changed) {
        origin->via = SELF;
        origin_changed(l, origin, NULL);
    }
    return origin;
}

static void set_lease(struct ledger *l, struct lease *lease, const struct lease_row *row,
                      struct origin *origin, uint8_t from)
{
    lease_from_row(lease, row, origin, scope_find(l, &row->scope_ref));
    lease->shared = row->shared || row->state == LEASE_ACTIVE;
    lease->via = from;
    lease_changed(l, lease); /* first: whether its end is acknowledged depends on its number (R6) */
}

/* Its origin was deleted since it was granted. */
static void end_if_deleted(struct ledger *l, struct lease *lease)
{
    if (lease->state == LEASE_ACTIVE && lease->generation < lease->origin->generation)
        lease_end_as(l, lease, LEASE_REVOKED, l->now_ms, ENDED_UNORDERED_MS);
}

static void merge_new_lease(struct ledger *l, const struct lease_row *row, uint8_t from)
{
    int home = node_index(l, &row->home);

    if (home == SELF)
        return; /* judged: over, and purged here */
    struct origin *origin = origin_for(l, row);
    struct lease *lease = lease_new(l);
    lease->ref = row->lease_ref;
    lease->home = (uint8_t)home;
    set_lease(l, lease, row, origin, from);
    lease_insert(l, lease);
    end_if_deleted(l, lease);
}

/* The home purged its record, which every node had acknowledged and every clock had passed, and
 * then granted the same reference again: another lease. */
static void merge_granted_anew(struct ledger *l, struct lease *lease, const struct lease_row *row,
                               uint8_t from)
{
    if (!lease_is_buried(l, lease))
        return; /* no home would have purged it */
    struct origin *origin = origin_for(l, row);
    lease_dig_up(l, lease);
    set_lease(l, lease, row, origin, from);
    lease_attach(l, lease);
    end_if_deleted(l, lease);
}

/* Two ends of one lease: its home's expiry stands above all; else the one that knew of the later
 * `expires`, for nothing was promised after that; then the earlier, then the smaller state. */
static bool stands_above(const struct lease_row *row, const struct lease *lease)
{
    if ((row->state == LEASE_EXPIRED) != (lease->state == LEASE_EXPIRED))
        return row->state == LEASE_EXPIRED;
    if (row->ended_expires_ms != lease->ended_expires_ms)
        return row->ended_expires_ms > lease->ended_expires_ms;
    if (row->ended_ms != lease->ended_ms)
        return row->ended_ms < lease->ended_ms;
    return row->state < lease->state;
}

static bool merge_ends(struct lease *lease, const struct lease_row *row)
{
    bool changed = stands_above(row, lease);

    if (changed) {
        lease->state = (uint8_t)row->state;
        lease->ended_ms = row->ended_ms;
    }
    if (row->ended_expires_ms > lease->ended_expires_ms) {
        lease->ended_expires_ms = row->ended_expires_ms;
        changed = true;
    }
    return changed;
}

static bool says_the_same(const struct lease *lease, const struct lease_row *row)
{
    return lease->state == row->state && lease->expires_ms == row->expires_ms &&
           lease->ended_ms == row->ended_ms && lease->ended_expires_ms == row->ended_expires_ms &&
           lease->shared == row->shared;
}

static void merge_known_lease(struct ledger *l, struct lease *lease, const struct lease_row *row,
                              uint8_t from)
{
    bool changed = false;

    if (row->expires_ms > lease->expires_ms) {
        lease->expires_ms = row->expires_ms;
        changed = true;
    }
    if (row->shared && !lease->shared && lease->home != SELF) {
        lease->shared = true;
        changed = true;
    }
    if (lease->state == LEASE_ACTIVE && row->state != LEASE_ACTIVE) {
        lease_end_as(l, lease, row->state, row->ended_ms, row->ended_expires_ms);
        changed = false; /* noted by that */
    } else if (lease->state != LEASE_ACTIVE && row->state != LEASE_ACTIVE) {
        changed = merge_ends(lease, row) || changed;
    }
    if (changed)
        lease_renumbered(l, lease);
    lease->via = says_the_same(lease, row) ? from : SELF;
}

static void merge_leases(struct ledger *l, const struct ledger_page *page, uint8_t from)
{
    for (size_t i = 0; i < page->lease_count; i++) {
        const struct lease_row *row = &page->leases[i];
        struct lease *lease = lease_find(l, &row->lease_ref, (size_t)node_index(l, &row->home));
        if (is_old(l, row->seq))
            continue;
        if (!lease)
            merge_new_lease(l, row, from);
        else if (row->created_ms > lease->created_ms)
            merge_granted_anew(l, lease, row, from);
        else if (row->created_ms == lease->created_ms) /* else of a lease that was purged at home */
            merge_known_lease(l, lease, row, from);
    }
    for (size_t i = 0; i < page->lease_count; i++)
        lease_supersede(l, &page->leases[i].lease_ref);
}

/* Index of who changed it last. */
static uint8_t updater(const struct ledger *l, const struct origin_row *row)
{
    return row->updated_ms == ORIGIN_UNTOLD_MS ? SELF : (uint8_t)node_index(l, &row->updated_by);
}

static bool newer_stamp(const struct ledger *l, const struct origin_row *row,
                        const struct origin *origin)
{
    if (row->updated_ms != origin->updated_ms)
        return row->updated_ms > origin->updated_ms;
    if (row->updated_ms == ORIGIN_UNTOLD_MS)
        return false;
    return uuid_compare(&row->updated_by, &l->nodes[origin->updated_by].ref) > 0;
}

/* A higher generation replaces a lower one: it was deleted, and perhaps enrolled again. Within one,
 * enrolled beats deleted, and the newest stamp tells what it said about itself. */
static void merge_origin(struct ledger *l, const struct origin_row *row, uint8_t from)
{
    struct origin *origin = origin_find(l, &row->origin_ref);
    const char *environment = NULL;
    bool changed = !origin;

    if (!origin) {
        origin = origin_new(l, &row->origin_ref);
        origin->created_ms = row->created_ms;
        origin->generation = row->generation;
        origin->enrolled = row->enrolled;
        origin->updated_by = updater(l, row);
        origin->updated_ms = row->updated_ms;
        environment = row->environment;
    }
    if (row->created_ms < origin->created_ms) {
        origin->created_ms = row->created_ms;
        changed = true;
    }
    bool newer = row->generation > origin->generation;
    if (newer) {
        origin_renew(l, origin, row->generation);
        origin->enrolled = row->enrolled;
        changed = true;
    } else if (row->generation == origin->generation && row->enrolled && !origin->enrolled) {
        origin->enrolled = changed = true;
    }
    if (newer || (row->generation == origin->generation && newer_stamp(l, row, origin))) {
        origin->updated_ms = row->updated_ms;
        origin->updated_by = updater(l, row);
        environment = row->environment;
        changed = true;
    }
    bool same = origin->generation == row->generation && origin->enrolled == row->enrolled &&
                origin->updated_ms == row->updated_ms && origin->created_ms == row->created_ms &&
                origin->updated_by == updater(l, row);
    origin->via = same ? from : SELF; /* also if its lease came first, and made it known */
    if (changed)
        origin_changed(l, origin, environment);
}

/* R1: further off than MAX_CLOCK_SKEW: R7 pauses. */
static void compare_clocks(struct ledger *l, const struct ledger_page *page)
{
    l->clock_difference_ms = page->now_ms - l->now_ms;
    l->peer_suspect = l->clock_difference_ms > l->conf.skew_max_ms ||
                      l->clock_difference_ms < -l->conf.skew_max_ms;
}

static int64_t debt_in(const struct ledger_page *page, const struct scope *scope)
{
    for (size_t i = 0; i < page->debt_count; i++) {
        if (uuid_equal(&page->debts[i].scope_ref, &scope->ref) && page->debts[i].count > 0)
            return page->debts[i].count;
    }
    return 0;
}

static void take_debts(struct ledger *l, const struct ledger_page *page, size_t partner)
{
    for (size_t i = 0; i < l->scopes.count; i++) {
        struct scope *scope = l->scopes.items[i];
        int64_t debt = page->debt_count ? debt_in(page, scope) : 0;
        if (debt == scope->credits[partner].debt)
            continue;
        scope->credits[partner].debt = debt;
        credit_noted(l, scope, partner);
    }
}

/* R8: with the page that completes, and only with that one; never backwards. A page that comes late
 * says nothing new of what is true now. */
static void take_statement(struct ledger *l, const struct ledger_page *page, struct node *partner,
                           bool late)
{
    if (page->watermark_ms > partner->watermark_ms)
        partner->watermark_ms = page->watermark_ms;
    if (page->acknowledged > partner->acknowledged)
        partner->acknowledged = page->acknowledged;
    if (late)
        return;
    l->merged_ms = l->now_ms;
    compare_clocks(l, page);
    if (l->self.refilled)
        return;
    l->self.refilled = true;                          /* R11 */
    l->self.lease_max_ms = l->nodes[SELF].longest_ms; /* the partner registered it with this */
    self_noted(l);
}

static void after_merge(struct ledger *l)
{
    node_settle_longest(l);
    lease_settle_acknowledged(l);
    scope_mints_settle(l);
    l->due_ms = l->now_ms; /* the watermark may let shared leases expire */
    lease_expire_due(l);
    if (node_self_state(l) == SELF_DRAINED)
        share_all(l);
}

/* R11: rows of a lost history must not mix with what the partner knows. */
static bool must_wipe(const struct ledger *l, const struct node *partner)
{
    return !l->self.refilled && !node_is_fresh(l) && partner->cursor == 0 &&
           (l->leases.count || l->origins.count || l->scopes.count || l->node_count > 2);
}

void request_merge(struct ledger *l, const struct ledger_event *e, struct ledger_result *r)
{
    const struct ledger_page *page = e->merge.page;

    r->err = judge_frame(l, page, &r->diag);
    if (r->err != ERR_OK)
        return;
    struct node *partner = &l->nodes[node_partner(l)];
    if (must_wipe(l, partner)) {
        r->wipe = true; /* and nothing is merged */
        return;
    }
    r->err = judge(l, page, &r->diag);
    if (r->err != ERR_OK)
        return;
    uint8_t from = (uint8_t)(partner - l->nodes);
    bool late = page->upto < partner->cursor;
    merge_nodes(l, page, from);
    merge_entitlements(l, page, from);
    r->given = merge_moves(l, page, from);
    merge_leases(l, page, from);
    for (size_t i = 0; i < page->origin_count; i++) {
        if (!is_old(l, page->origins[i].seq))
            merge_origin(l, &page->origins[i], from);
    }
    if (page->upto > partner->cursor)
        partner->cursor = page->upto;
    if (!late) {
        partner->closed = page->complete && page->closed; /* R10 */
        take_debts(l, page, from);
    }
    if (page->complete)
        take_statement(l, page, partner, late);
    node_noted(l, partner);
    after_merge(l);
    if (page->complete && !late)
        share_evenly(l); /* R12 */
}
