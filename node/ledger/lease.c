/* The life of a lease: from its grant until its record may be purged. All that takes a seat or
 * gives one back is here. */
#include <stdlib.h>

#include "ledger/state.h"

#define SLAB_LEASES    1024
#define GRAVE_RETRY_MS 60000 /* a record that may not be purged yet is looked at again then */

/* What time alone does to one batch. After a long absence everything is due at once, and a
 * transaction that takes all of it might never end in time; the rest follows with the next batches,
 * and nobody can renew it meanwhile (R4). */
#define EXPIRE_EACH_BATCH 5000
#define PURGE_EACH_BATCH  5000

struct lease *lease_find(const struct ledger *l, const struct uuid *ref, size_t home)
{
    size_t at;

    for (struct lease *p = table_first(&l->leases, ref, &at); p;
         p = table_next(&l->leases, ref, &at)) {
        if (p->home == home)
            return p;
    }
    return NULL;
}

struct lease *lease_new(struct ledger *l)
{
    if (!l->free_leases) {
        struct lease *slab = mem_calloc(SLAB_LEASES, sizeof *slab);
        vec_push(&l->slabs, slab);
        for (size_t i = SLAB_LEASES; i-- > 0;) {
            slab[i].next = l->free_leases;
            l->free_leases = &slab[i];
        }
    }
    struct lease *lease = l->free_leases;
    l->free_leases = lease->next;
    *lease = (struct lease){ .count = 0 };
    return lease;
}

void lease_from_row(struct lease *lease, const struct lease_row *row, struct origin *origin,
                    const struct scope *scope)
{
    lease->origin = origin;
    lease->scope = scope->index;
    lease->count = (uint32_t)row->count;
    lease->generation = row->generation;
    lease->state = (uint8_t)row->state;
    lease->shared = row->shared;
    lease->created_ms = row->created_ms;
    lease->duration_ms = row->duration_ms;
    lease->expires_ms = row->expires_ms;
    lease->ended_ms = row->ended_ms;
    lease->ended_expires_ms = row->ended_expires_ms;
}

void lease_free_all(struct ledger *l)
{
    for (size_t i = 0; i < l->slabs.count; i++)
        mem_free(l->slabs.items[i]);
    vec_fini(&l->slabs);
    heap_fini(&l->graves);
    table_fini(&l->leases);
}

static struct scope *scope_of(const struct ledger *l, const struct lease *lease)
{
    return l->scopes.items[lease->scope];
}

/* R10: when a retired node can no longer have anything to say in this lease: never had, for one
 * that it never knew or where its W is past; when its wait is over; or, for a drained one, when the
 * times that it told are over on its clock as well. */
static int64_t silent_from(const struct ledger *l, const struct node *node,
                           const struct lease *lease)
{
    if (lease->home == SELF && (!node->partner || lease->created_ms > node->retired_ms))
        return 0;
    if (node->partner && node->watermark_ms >= lease->expires_ms)
        return 0;
    return node->drained ? lease->expires_ms + l->conf.skew_max_ms : node->wait_ms;
}

static bool is_private(const struct lease *lease)
{
    return !lease->shared && lease->home == SELF;
}

int64_t lease_due(const struct ledger *l, const struct lease *lease)
{
    int64_t due_ms = lease->expires_ms;

    for (size_t i = 1; i < l->node_count && !is_private(lease); i++) {
        int64_t from_ms = l->nodes[i].retired ? silent_from(l, &l->nodes[i], lease) : 0;
        if (from_ms > due_ms)
            due_ms = from_ms;
    }
    return due_ms;
}

/* True once the lease's time is over on every clock on which somebody may have prolonged it: its
 * home's for a private one; for a shared one also W of the partner (R7), and R10 for retired ones.
 */
static bool time_is_over(const struct ledger *l, const struct lease *lease)
{
    if (l->now_ms < lease->expires_ms)
        return false;
    if (is_private(lease))
        return true;
    return node_least_watermark(l) >= lease->expires_ms && l->now_ms >= lease_due(l, lease);
}

/* R6: every other node has acknowledged the end; for retired ones R10. */
static bool end_acknowledged(const struct ledger *l, const struct lease *lease)
{
    if (node_least_acknowledged(l) < lease->seq)
        return false;
    for (size_t i = 1; i < l->node_count; i++) {
        const struct node *node = &l->nodes[i];
        if (!node->retired || node->drained || (node->partner && node->acknowledged >= lease->seq))
            continue;
        if (l->now_ms < silent_from(l, node, lease))
            return false;
    }
    return true;
}

static enum seat_return seat_policy(const struct ledger *l, const struct lease *lease)
{
    const struct feature *feature = scope_of(l, lease)->feature;

    switch (lease->state) {
    case LEASE_RELEASED:
        return feature->on_release;
    case LEASE_REVOKED:
        return feature->on_revoke;
    default:
        return SEAT_RETURN_ACKNOWLEDGED;
    }
}

bool lease_seat_back(const struct ledger *l, const struct lease *lease)
{
    if (lease->state == LEASE_ACTIVE)
        return false;
    if (lease->state == LEASE_EXPIRED || !node_is_ours(l, lease->home))
        return true; /* what is held at another home is that home's business */
    if (seat_policy(l, lease) == SEAT_RETURN_ACKNOWLEDGED) { /* R6 */
        if (lease->expires_ms == lease->ended_expires_ms &&
            (is_private(lease) || end_acknowledged(l, lease)))
            return true;
    }
    return time_is_over(l, lease);
}

static void due_at(struct ledger *l, int64_t at_ms)
{
    if (at_ms < l->due_ms)
        l->due_ms = at_ms;
}

/* Only the partner's watermark can end it (R7). */
static bool waits_for_partner(const struct ledger *l, const struct lease *lease)
{
    return !is_private(lease) && node_least_watermark(l) < lease->expires_ms;
}

/* A lease waits for our own clock first, then for the partner's watermark. */
static void seat_heap_push(struct ledger *l, struct lease *lease)
{
    struct scope *scope = scope_of(l, lease);

    int64_t at_ms = lease_due(l, lease);

    must(!lease->in_heap && node_is_ours(l, lease->home));
    lease->in_heap = true;
    if (at_ms <= l->now_ms && waits_for_partner(l, lease)) {
        heap_push(&scope->partner_due, lease->expires_ms, lease);
        return;
    }
    heap_push(&scope->own_due, at_ms, lease);
    due_at(l, at_ms);
}

static void grave_push(struct ledger *l, struct lease *lease)
{
    int64_t at_ms = lease->expires_ms + l->conf.ended_keep_ms;

    heap_push(&l->graves, at_ms, lease);
    due_at(l, at_ms);
}

static void seat_take(struct ledger *l, struct lease *lease)
{
    struct scope *scope = scope_of(l, lease);

    must(!lease->holds);
    lease->holds = true;
    scope->held[lease->home] += lease->count;
    if (lease->state != LEASE_ACTIVE)
        scope->waiting += lease->count;
    if (node_is_ours(l, lease->home) && !lease->in_heap)
        seat_heap_push(l, lease);
}

static void seat_give_back(struct ledger *l, struct lease *lease)
{
    struct scope *scope = scope_of(l, lease);

    must(lease->holds && lease->state != LEASE_ACTIVE && lease_seat_back(l, lease));
    must(scope->held[lease->home] >= lease->count);
    lease->holds = false;
    scope->held[lease->home] -= lease->count;
    grave_push(l, lease);
}

static void origin_link(struct lease *lease)
{
    struct origin *origin = lease->origin;

    lease->prev = NULL;
    lease->next = origin->leases;
    if (lease->next)
        lease->next->prev = lease;
    origin->leases = lease;
    origin->lease_count++;
}

static void origin_unlink(struct lease *lease)
{
    struct origin *origin = lease->origin;

    must(origin->lease_count > 0);
    if (lease->prev)
        lease->prev->next = lease->next;
    else
        origin->leases = lease->next;
    if (lease->next)
        lease->next->prev = lease->prev;
    lease->next = lease->prev = NULL;
    origin->lease_count--;
}

/* R6: queue of seats that come back when the other node has acknowledged the end: in the order of
 * change numbers, as acknowledgements come. */
static bool is_queued(const struct ledger *l, const struct lease *lease)
{
    return lease->state != LEASE_ACTIVE && (lease->prev || l->unacked_first == lease);
}

static void unacked_push(struct ledger *l, struct lease *lease)
{
    must(!is_queued(l, lease) && !lease->next);
    lease->prev = l->unacked_last;
    if (l->unacked_last)
        l->unacked_last->next = lease;
    else
        l->unacked_first = lease;
    l->unacked_last = lease;
}

static void unacked_unlink(struct ledger *l, struct lease *lease)
{
    must(is_queued(l, lease));
    if (lease->prev)
        lease->prev->next = lease->next;
    else
        l->unacked_first = lease->next;
    if (lease->next)
        lease->next->prev = lease->prev;
    else
        l->unacked_last = lease->prev;
    lease->next = lease->prev = NULL;
}

static struct lease *unacked_pop(struct ledger *l)
{
    struct lease *lease = l->unacked_first;

    unacked_unlink(l, lease);
    return lease;
}

static bool waits_for_acknowledgement(const struct ledger *l, const struct lease *lease)
{
    return lease->state != LEASE_ACTIVE && lease->holds && node_is_ours(l, lease->home) &&
           !is_private(lease) && seat_policy(l, lease) == SEAT_RETURN_ACKNOWLEDGED;
}

/* Another end than the one that was known (R9) may come back otherwise. */
void lease_renumbered(struct ledger *l, struct lease *lease)
{
    lease_changed(l, lease);
    if (is_queued(l, lease))
        unacked_unlink(l, lease);
    if (waits_for_acknowledgement(l, lease))
        unacked_push(l, lease);
}

static int compare_seq(const void *a, const void *b)
{
    const struct lease *const *x = a, *const *y = b;

    return (*x)->seq < (*y)->seq ? -1 : (*x)->seq > (*y)->seq;
}

/* Acknowledgements come in order of change numbers, rows are loaded in any order. */
void lease_sort_unacked(struct ledger *l)
{
    VEC(struct lease *) sorted = { NULL, 0, 0 };

    while (l->unacked_first)
        vec_push(&sorted, unacked_pop(l));
    if (sorted.count)
        qsort(sorted.items, sorted.count, sizeof *sorted.items, compare_seq);
    for (size_t i = 0; i < sorted.count; i++)
        unacked_push(l, sorted.items[i]);
    vec_fini(&sorted);
}

void lease_attach(struct ledger *l, struct lease *lease)
{
    must(lease->count > 0 && lease->expires_ms > 0 && lease->origin);
    if (lease->state == LEASE_ACTIVE) {
        origin_link(lease);
        scope_of(l, lease)->active++;
        l->active_count++;
    }
    if (lease_seat_back(l, lease)) {
        grave_push(l, lease);
        return;
    }
    seat_take(l, lease);
    if (waits_for_acknowledgement(l, lease))
        unacked_push(l, lease);
}

void lease_insert(struct ledger *l, struct lease *lease)
{
    table_add(&l->leases, lease);
    lease_not_purged(l, lease);
    lease_attach(l, lease);
}

bool lease_is_buried(const struct ledger *l, const struct lease *lease)
{
    return lease->state != LEASE_ACTIVE && !lease->holds && !lease->in_heap &&
           !is_queued(l, lease) && lease->home != SELF;
}

/* Rare, so that a walk over all graves may be. */
void lease_dig_up(struct ledger *l, struct lease *lease)
{
    size_t kept = 0;

    must(lease_is_buried(l, lease));
    for (size_t i = 0; i < l->graves.count; i++) {
        if (l->graves.entries[i].lease != lease)
            l->graves.entries[kept++] = l->graves.entries[i];
    }
    l->graves.count = kept;
    heap_rebuild(&l->graves);
}

/* R4: grows only. The heap keeps the old, lower bound. */
void lease_extend(struct ledger *l, struct lease *lease, int64_t expires_ms)
{
    must(lease->state == LEASE_ACTIVE);
    if (expires_ms <= lease->expires_ms)
        return;
    lease->expires_ms = expires_ms;
    lease->via = SELF;
    lease_changed(l, lease);
}

void lease_end_as(struct ledger *l, struct lease *lease, enum lease_state state, int64_t ended_ms,
                  int64_t ended_expires_ms)
{
    struct scope *scope = scope_of(l, lease);

    must(lease->state == LEASE_ACTIVE && state != LEASE_ACTIVE && lease->holds);
    must(ended_ms > 0 && ended_expires_ms > 0 && ended_expires_ms <= lease->expires_ms);
    lease->state = (uint8_t)state;
    lease->ended_ms = ended_ms;
    lease->ended_expires_ms = ended_expires_ms;
    lease->via = SELF;
    origin_unlink(lease);
    scope->active--;
    l->active_count--;
    lease_changed(l, lease);
    if (lease_seat_back(l, lease)) {
        seat_give_back(l, lease);
        return;
    }
    scope->waiting += lease->count;
    if (waits_for_acknowledgement(l, lease))
        unacked_push(l, lease);
}

/* R5: ended is final. */
void lease_end(struct ledger *l, struct lease *lease, enum lease_state state)
{
    must(state != LEASE_EXPIRED || node_is_ours(l, lease->home)); /* R7 */
    lease_end_as(l, lease, state, l->now_ms, lease->expires_ms);
}

static void waiting_over(struct ledger *l, struct lease *lease)
{
    struct scope *scope = scope_of(l, lease);

    must(scope->waiting >= lease->count);
    scope->waiting -= lease->count;
    seat_give_back(l, lease);
}

/* R6: those whose end every other node has acknowledged. One whose expires grew after its end goes
 * on waiting in its heap. */
void lease_settle_acknowledged(struct ledger *l)
{
    uint64_t acknowledged = node_least_acknowledged(l);

    while (l->unacked_first &&
           (!l->unacked_first->holds || l->unacked_first->seq <= acknowledged)) {
        struct lease *lease = unacked_pop(l);
        if (lease->holds && lease_seat_back(l, lease))
            waiting_over(l, lease);
    }
}

/* Seats of ended leases that came back, but for what is in force now should not have. */
static void seat_take_again(struct ledger *l, struct lease *lease)
{
    struct scope *scope = scope_of(l, lease);

    must(!lease->holds && node_is_ours(l, lease->home));
    lease->holds = true;
    scope->held[lease->home] += lease->count;
    scope->waiting += lease->count;
}

static void graves_drop_holders(struct ledger *l)
{
    size_t kept = 0;

    for (size_t i = 0; i < l->graves.count; i++) {
        if (!l->graves.entries[i].lease->holds)
            l->graves.entries[kept++] = l->graves.entries[i];
    }
    l->graves.count = kept;
    heap_rebuild(&l->graves);
}

static void settle_one(struct ledger *l, struct lease *lease)
{
    bool back = lease_seat_back(l, lease);

    if (lease->holds && back)
        waiting_over(l, lease);
    else if (!lease->holds && !back)
        seat_take_again(l, lease);
    if (lease->holds && node_is_ours(l, lease->home) && !lease->in_heap)
        seat_heap_push(l, lease);
    if (waits_for_acknowledgement(l, lease))
        unacked_push(l, lease);
}

static void heaps_clear(struct scope *scope)
{
    struct heap *heaps[] = { &scope->own_due, &scope->partner_due };

    for (size_t i = 0; i < ARRAY_SIZE(heaps); i++) {
        for (size_t j = 0; j < heaps[i]->count; j++)
            heaps[i]->entries[j].lease->in_heap = false;
        heaps[i]->count = 0;
    }
}

/* What holds for a lease that ends now holds for those that ended before as well: a node that loads
 * sees only what is in force. */
void lease_settle_all(struct ledger *l)
{
    if (l->loading)
        return;
    while (l->unacked_first)
        unacked_pop(l);
    for (size_t i = 0; i < l->scopes.count; i++)
        heaps_clear(l->scopes.items[i]);
    for (size_t i = 0; i < l->leases.capacity; i++) {
        if (l->leases.slots[i])
            settle_one(l, l->leases.slots[i]);
    }
    graves_drop_holders(l);
    lease_sort_unacked(l);
    due_at(l, l->now_ms);
}

/* Takes what is due off one heap, up to an instant of the clock that the heap waits for. Whatever
 * is not over then waits for another one, or was extended: it had an older key. */
static void expire_heap(struct ledger *l, struct heap *heap, int64_t until_ms)
{
    while (heap->count && heap_top_ms(heap) <= until_ms &&
           l->changes.lease_count < EXPIRE_EACH_BATCH) {
        struct lease *lease = heap_pop(heap).lease;
        lease->in_heap = false;
        if (!lease->holds)
            continue; /* its seat came back before its time */
        if (!time_is_over(l, lease))
            seat_heap_push(l, lease);
        else if (lease->state == LEASE_ACTIVE)
            lease_end(l, lease, LEASE_EXPIRED); /* R7 */
        else
            waiting_over(l, lease); /* R6: "else as R7" */
    }
}

/* R10: the end of a wait changes what retired nodes can still have to say. */
static void settle_waits(struct ledger *l)
{
    if (node_next_wait(l, l->settled_ms) > l->now_ms)
        return;
    l->settled_ms = l->now_ms;
    lease_settle_all(l);
    scope_mints_settle(l);
}

static void expire_scope(struct ledger *l, struct scope *scope)
{
    expire_heap(l, &scope->own_due, l->now_ms);
    expire_heap(l, &scope->partner_due, node_least_watermark(l));
    due_at(l, heap_top_ms(&scope->own_due));
    if (scope->partner_due.count && heap_top_ms(&scope->partner_due) <= node_least_watermark(l))
        due_at(l, l->now_ms); /* what did not fit into this batch */
}

void lease_expire_due(struct ledger *l)
{
    bool more;

    /* R1: an alarm pauses R7. Who has no history, or is retired, decides nothing (R10, R11). */
    if (l->clock_alarm || l->peer_suspect || l->now_ms < l->due_ms || !l->self.refilled ||
        l->nodes[SELF].retired)
        return;
    settle_waits(l);
    l->due_ms = INT64_MAX;
    for (size_t i = 0; i < l->scopes.count; i++)
        expire_scope(l, l->scopes.items[i]);
    lease_settle_acknowledged(l);
    if (l->changes.purged_count < PURGE_EACH_BATCH)
        lease_purge(l, PURGE_EACH_BATCH - l->changes.purged_count, false, &more);
    due_at(l, heap_top_ms(&l->graves));
    due_at(l, node_next_wait(l, l->now_ms));
}

/* The earliest instant at which time alone may bring a seat back. */
int64_t lease_next_back(struct ledger *l, struct scope *scope)
{
    struct heap *heap = &scope->own_due;

    while (heap->count) {
        struct lease *lease = heap->entries[0].lease;
        if (lease->holds && lease_due(l, lease) == heap->entries[0].at_ms)
            break;
        heap_pop(heap);
        lease->in_heap = false;
        if (lease->holds)
            seat_heap_push(l, lease);
    }
    if (heap->count)
        return heap_top_ms(heap);
    return scope->partner_due.count ? l->now_ms : 0; /* with the partner's next word */
}

/* R5: every node has acknowledged the end, and every clock has passed its `expires`. */
static bool may_purge(const struct ledger *l, const struct lease *lease)
{
    must(!lease->holds && lease->state != LEASE_ACTIVE);
    return l->now_ms >= lease_due(l, lease) && node_least_watermark(l) >= lease->expires_ms &&
           end_acknowledged(l, lease) && !lease->row_at && !lease->in_heap && !is_queued(l, lease);
}

static void purge_one(struct ledger *l, struct lease *lease)
{
    lease_purged(l, lease);
    table_remove(&l->leases, lease);
    lease->seq = 0; /* its entry in the feed is out of date */
    l->feed.stale++;
    lease->next = l->free_leases;
    l->free_leases = lease;
}

/* Drops what has been kept long enough; at_once: whatever R5 lets go. */
size_t lease_purge(struct ledger *l, size_t limit, bool at_once, bool *more)
{
    struct heap *graves = &l->graves;
    size_t purged = 0, kept = 0;

    *more = false;
    if (!at_once) {
        while (heap_top_ms(graves) <= l->now_ms && purged < limit) {
            struct lease *lease = heap_pop(graves).lease;
            if (may_purge(l, lease)) {
                purge_one(l, lease);
                purged++;
            } else {
                heap_push(graves, l->now_ms + GRAVE_RETRY_MS, lease);
            }
        }
        return purged;
    }
    for (size_t i = 0; i < graves->count; i++) {
        struct lease *lease = graves->entries[i].lease;
        bool may = may_purge(l, lease);
        if (may && purged < limit) {
            purge_one(l, lease);
            purged++;
            continue;
        }
        *more = *more || may;
        graves->entries[kept++] = graves->entries[i];
    }
    graves->count = kept;
    heap_rebuild(graves);
    return purged;
}

/* R9: one reference, granted at both nodes: the same request, of the same machine. */
static bool doubles(const struct lease *a, const struct lease *b)
{
    return a != b && a->origin == b->origin && a->scope == b->scope && a->count == b->count;
}

/* The one of the smaller home stands, if it can be extended to what was told of the other (R4):
 * else both stand until they end. */
static bool must_yield(const struct ledger *l, const struct lease *lease, const struct lease *other)
{
    return lease->state == LEASE_ACTIVE && other->state == LEASE_ACTIVE &&
           node_is_ours(l, lease->home) && l->now_ms < other->expires_ms &&
           uuid_compare(&l->nodes[other->home].ref, &l->nodes[lease->home].ref) < 0;
}

/* R6: grew after its end, so its seat is held until then. */
void lease_owe(struct ledger *l, struct lease *lease, int64_t expires_ms)
{
    must(lease->state == LEASE_SUPERSEDED && lease->holds);
    if (expires_ms <= lease->expires_ms)
        return;
    lease->expires_ms = expires_ms;
    lease->via = SELF;
    lease_renumbered(l, lease);
    lease_supersede(l, &lease->ref);
}

/* What was told of the one that yielded, also by the other node before it heard of that, is owed by
 * the one that stands. */
static void owe(struct ledger *l, const struct lease *lease, struct lease *other)
{
    if (lease->state == LEASE_SUPERSEDED && other->state == LEASE_ACTIVE &&
        l->now_ms < other->expires_ms)
        lease_extend(l, other, lease->expires_ms);
}

void lease_supersede(struct ledger *l, const struct uuid *ref)
{
    size_t at, at_other;

    for (struct lease *p = table_first(&l->leases, ref, &at); p;
         p = table_next(&l->leases, ref, &at)) {
        for (struct lease *q = table_first(&l->leases, ref, &at_other); q;
             q = table_next(&l->leases, ref, &at_other)) {
            if (!doubles(p, q))
                continue;
            if (must_yield(l, p, q))
                lease_end(l, p, LEASE_SUPERSEDED);
            owe(l, p, q);
        }
    }
}
