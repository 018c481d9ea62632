/* R8: what the partner has not heard yet. The feed lists changed records in the order of change
 * numbers, each record's newest number counting; a page is cut out of it. */
#include <inttypes.h>
#include <stdlib.h>

#include "ledger/request.h"

#define KIND_MASK        ((uintptr_t)7)
#define COMPACT_AT_LEAST 1024 /* stale entries below that are not worth it */

static enum feed_kind kind_of(const struct feed_entry *entry)
{
    return (enum feed_kind)(entry->record & KIND_MASK);
}

static void *record_of(const struct feed_entry *entry)
{
    return (void *)(entry->record & ~KIND_MASK); /* NOLINT: tagged above */
}

void feed_add(struct ledger *l, enum feed_kind kind, void *record, uint64_t seq, bool again)
{
    must(((uintptr_t)record & KIND_MASK) == 0);
    vec_push(&l->feed, (struct feed_entry){ seq, (uintptr_t)record | (uintptr_t)kind });
    l->feed.stale += again;
}

/* The number that the record has now, and the node that it came from. */
static uint64_t number_of(const struct feed_entry *entry, uint8_t *via)
{
    switch (kind_of(entry)) {
    case FEED_LEASE: {
        const struct lease *lease = record_of(entry);
        *via = lease->via;
        return lease->seq;
    }
    case FEED_ORIGIN: {
        const struct origin *origin = record_of(entry);
        *via = origin->via;
        return origin->seq;
    }
    case FEED_MOVE: {
        const struct move *move = record_of(entry);
        *via = move->via;
        return move->seq;
    }
    case FEED_REVISION: {
        const struct revision *revision = record_of(entry);
        *via = revision->via;
        return revision->seq;
    }
    default: {
        const struct node *node = record_of(entry);
        *via = node->via;
        return node->seq;
    }
    }
}

static bool out_of_date(const struct feed_entry *entry)
{
    uint8_t via;

    return number_of(entry, &via) != entry->seq;
}

static int compare_numbers(const void *a, const void *b)
{
    const struct feed_entry *x = a, *y = b;

    return (x->seq > y->seq) - (x->seq < y->seq);
}

void feed_sort(struct ledger *l)
{
    if (l->feed.count)
        qsort(l->feed.items, l->feed.count, sizeof *l->feed.items, compare_numbers);
}

void feed_compact(struct ledger *l)
{
    struct feed *feed = &l->feed;
    size_t kept = 0;

    if (feed->stale < COMPACT_AT_LEAST || feed->stale * 2 < feed->count)
        return;
    for (size_t i = 0; i < feed->count; i++) {
        if (!out_of_date(&feed->items[i]))
            feed->items[kept++] = feed->items[i];
    }
    feed->count = kept;
    feed->stale = 0;
}

void feed_fini(struct feed *feed)
{
    mem_free(feed->items);
    *feed = (struct feed){ .count = 0 };
}

/* Place of the first entry above `since`. */
static size_t first_after(const struct feed *feed, uint64_t since)
{
    size_t low = 0, high = feed->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (feed->items[middle].seq <= since)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool ledger_page_waiting(const struct ledger *l, uint64_t since)
{
    int partner = node_partner(l);
    uint8_t via;

    if (partner < 0 || since > l->seq || l->nodes[partner].told != l->nodes[partner].cursor)
        return true; /* an error, or news of what was merged */
    for (size_t i = first_after(&l->feed, since); i < l->feed.count; i++) {
        if (number_of(&l->feed.items[i], &via) == l->feed.items[i].seq && via != partner)
            return true;
    }
    return false;
}

/* ---- pages --------------------------------------------------------------------------------- */

void ledger_page_free(struct ledger_page *page)
{
    if (!page)
        return;
    for (size_t i = 0; i < page->entitlement_count; i++)
        entitlement_unref(page->entitlements[i].entitlement);
    mem_free(page->nodes);
    mem_free(page->entitlements);
    mem_free(page->moves);
    mem_free(page->leases);
    mem_free(page->origins);
    mem_free(page->debts);
    mem_free(page->texts);
    mem_free(page);
}

/* A page that is being filled. */
struct filling {
    struct ledger_page *page;
    VEC(struct node_row) nodes;
    VEC(struct entitlement_row) entitlements;
    VEC(struct move_row) moves;
    VEC(struct lease_row) leases;
    VEC(struct origin_row) origins;
    VEC(struct debt_row) debts;
    bool all_nodes;
};

static struct node_row replicated_part(struct node_row row)
{
    row.partner = row.closed = false;
    row.watermark_ms = 0;
    row.acknowledged = row.cursor = 0;
    return row;
}

static void add_revision(const struct ledger *l, struct filling *f, const struct revision *revision)
{
    struct entitlement_row row = revision_to_row(l, revision);

    entitlement_ref(row.entitlement);
    row.usable = false;
    vec_push(&f->entitlements, row);
}

static void add_all_nodes(struct ledger *l, struct filling *f)
{
    if (f->all_nodes)
        return;
    f->all_nodes = true;
    f->nodes.count = 0;
    for (size_t i = 0; i < l->node_count; i++) {
        if (l->nodes[i].seq)
            vec_push(&f->nodes, replicated_part(node_to_row(l, &l->nodes[i])));
    }
}

/* All moves of a scope, and who inherited from whom: a page that stops short must not show a seat
 * given away before it shows it received (R2). */
static void add_moves(struct ledger *l, struct filling *f, const struct scope *scope)
{
    for (size_t i = 0; i < f->moves.count; i++) {
        if (uuid_equal(&f->moves.items[i].scope_ref, &scope->ref))
            return;
    }
    for (size_t i = 0; i < scope->moves.count; i++)
        vec_push(&f->moves, move_to_row(l, scope->moves.items[i]));
    add_all_nodes(l, f);
}

/* Adds the record; false: a private lease that becomes shared instead (R3), and so moves to the end
 * of the feed. */
static bool add_record(struct ledger *l, struct filling *f, const struct feed_entry *entry)
{
    switch (kind_of(entry)) {
    case FEED_LEASE: {
        struct lease *lease = record_of(entry);
        if (lease->state == LEASE_ACTIVE && !lease->shared) {
            lease->shared = true;
            lease_changed(l, lease);
            return false;
        }
        vec_push(&f->leases, lease_to_row(l, lease));
        return true;
    }
    case FEED_ORIGIN:
        vec_push(&f->origins, origin_to_row(l, record_of(entry)));
        return true;
    case FEED_MOVE: {
        const struct move *move = record_of(entry);
        add_moves(l, f, l->scopes.items[move->scope]);
        return true;
    }
    case FEED_REVISION:
        add_revision(l, f, record_of(entry));
        return true;
    case FEED_NODE:
        if (!f->all_nodes)
            vec_push(&f->nodes, replicated_part(node_to_row(l, record_of(entry))));
        return true;
    }
    return true;
}

/* Whoever starts from nothing gets what everything else refers to first, whatever came later. */
static void add_foundations(struct ledger *l, struct filling *f)
{
    add_all_nodes(l, f);
    for (size_t i = 0; i < l->installed.capacity; i++) {
        const struct installed *installed = l->installed.slots[i];
        for (size_t j = 0; installed && j < installed->revisions.count; j++)
            add_revision(l, f, installed->revisions.items[j]);
    }
}

/* Records above `since`, at most `limit`. True if nothing is left. */
static bool add_changes(struct ledger *l, struct filling *f, size_t partner, size_t limit)
{
    struct ledger_page *page = f->page;
    bool all = page->since == 0;
    size_t rows = 0;
    uint8_t via;

    for (size_t i = first_after(&l->feed, page->since); i < l->feed.count; i++) {
        const struct feed_entry entry = l->feed.items[i]; /* the array may move */
        if (number_of(&entry, &via) != entry.seq)
            continue;
        bool added_before =
            all && (kind_of(&entry) == FEED_NODE || kind_of(&entry) == FEED_REVISION);
        if (via != partner && !added_before) {
            if (rows == limit)
                return false;
            rows += add_record(l, f, &entry);
        }
        page->upto = entry.seq;
    }
    return true;
}

/* With every page: one that stops short may have credits that were given away, and must not make
 * more grantable there than the whole would (R2). */
static void add_debts(const struct ledger *l, struct filling *f)
{
    for (size_t i = 0; i < l->scopes.count && f->debts.count < PAGE_ROWS_MAX; i++) {
        const struct scope *scope = l->scopes.items[i];
        int64_t debt = scope_debt(l, scope);
        if (debt > 0)
            vec_push(&f->debts, (struct debt_row){ scope->ref, debt });
    }
}

static enum err page_refusal(struct ledger *l, const struct ledger_event *e, struct diag *diag)
{
    int receiver = node_index(l, &e->page.receiver), partner = node_partner(l);

    if (receiver > SELF && l->nodes[receiver].retired)
        return diag_set(diag, ERR_PEER_RETIRED, "that node was retired");
    if (l->nodes[SELF].retired)
        return diag_set(diag, ERR_NODE_RETIRED, "this node was retired");
    if (partner < 0 || partner != receiver)
        return diag_set(diag, ERR_PEER_UNKNOWN, "that node is not this node's partner");
    if (!l->self.refilled && !node_is_fresh(l))
        return diag_set(diag, ERR_NODE_UNFILLED, "this node lost its history and has none to give");
    if (e->page.since > l->seq) /* R11 */
        return diag_set(diag, ERR_HISTORY_LOST,
                        "the partner has merged change %" PRIu64 ", but there are only %" PRIu64,
                        e->page.since, l->seq);
    return ERR_OK;
}

/* R8: W and seen are fixed here, in the same state as the rows; whatever is decided later, in this
 * batch as well, is stamped now_ms or later. They go only with the page that completes. */
static void state(struct ledger *l, struct ledger_page *page, struct node *partner)
{
    page->complete = true;
    page->upto = l->seq;
    page->watermark_ms = l->now_ms - 1;
    page->acknowledged = partner->cursor;
    page->closed = node_self_state(l) == SELF_DRAINED; /* R10 */
    partner->told = partner->cursor;
}

void request_page(struct ledger *l, const struct ledger_event *e, struct ledger_result *r)
{
    struct filling f = { .page = NULL };

    must(e->page.limit > 0 && e->page.limit <= PAGE_ROWS_MAX);
    r->err = page_refusal(l, e, &r->diag);
    if (r->err != ERR_OK)
        return;
    struct node *partner = &l->nodes[node_partner(l)];
    partner->fetched_ms = l->now_ms; /* R3 */
    f.page = mem_calloc(1, sizeof *f.page);
    *f.page = (struct ledger_page){
        .sender = l->nodes[SELF].ref,
        .receiver = e->page.receiver,
        .since = e->page.since,
        .upto = e->page.since,
        .now_ms = l->now_ms,
        .refilled = l->self.refilled,
        .fresh = node_is_fresh(l),
    };
    if (f.page->since == 0)
        add_foundations(l, &f);
    if (add_changes(l, &f, (size_t)(partner - l->nodes), e->page.limit))
        state(l, f.page, partner);
    add_debts(l, &f);
    f.page->nodes = f.nodes.items;
    f.page->entitlements = f.entitlements.items;
    f.page->moves = f.moves.items;
    f.page->leases = f.leases.items;
    f.page->origins = f.origins.items;
    f.page->debts = f.debts.items;
    f.page->debt_count = f.debts.count;
    f.page->node_count = f.nodes.count;
    f.page->entitlement_count = f.entitlements.count;
    f.page->move_count = f.moves.count;
    f.page->lease_count = f.leases.count;
    f.page->origin_count = f.origins.count;
    r->page = f.page;
}
