/* The nodes of the instance: [0] is self, the others are whoever was ever heard of. At most one of
 * them is the live partner; retired ones are remembered for ever, with who inherited them (R10). */
#include "ledger/state.h"

int node_index(const struct ledger *l, const struct uuid *ref)
{
    for (size_t i = 0; i < l->node_count; i++) {
        if (uuid_equal(&l->nodes[i].ref, ref))
            return (int)i;
    }
    return -1;
}

int node_learn(struct ledger *l, const struct uuid *ref)
{
    int known = node_index(l, ref);

    if (known >= 0 || l->node_count == LEDGER_NODES_MAX)
        return known;
    l->nodes[l->node_count] = (struct node){
        .ref = *ref, .heir = -1, .owner = (uint8_t)l->node_count, .told = UINT64_MAX
    };
    return (int)l->node_count++;
}

bool node_is_former(const struct ledger *l, const struct uuid *ref)
{
    for (size_t i = 0; i < FORMER_SELVES_MAX; i++) {
        if (!uuid_is_nil(&l->self.former[i]) && uuid_equal(&l->self.former[i], ref))
            return true;
    }
    return false;
}

int node_partner(const struct ledger *l)
{
    for (size_t i = 1; i < l->node_count; i++) {
        const struct node *node = &l->nodes[i];
        if (node->partner && !node->retired && !node_is_former(l, &node->ref))
            return (int)i;
    }
    return -1;
}

bool node_is_ours(const struct ledger *l, size_t node)
{
    return l->nodes[node].owner == SELF;
}

bool node_is_fresh(const struct ledger *l)
{
    return !l->self.refilled && uuid_is_nil(&l->self.former[0]);
}

enum self_state node_self_state(const struct ledger *l)
{
    int partner = node_partner(l);

    if (l->nodes[SELF].retired)
        return SELF_RETIRED;
    if (!l->self.refilled)
        return SELF_UNFILLED;
    if (l->self.drained)
        return SELF_DRAINED;
    if (l->self.resumed_seq && partner >= 0 && l->nodes[partner].acknowledged < l->self.resumed_seq)
        return SELF_RESUMING;
    return SELF_SERVING;
}

/* A line of heirs has no circle: an heir was live when it inherited. Rows that say otherwise are
 * read no further than there are nodes. Self stays its own owner: once retired it decides nothing.
 */
void node_settle_owners(struct ledger *l)
{
    for (size_t i = 1; i < l->node_count; i++) {
        size_t owner = i;
        l->nodes[i].line_wait_ms = 0;
        for (size_t step = 0; owner != SELF && l->nodes[owner].retired &&
                              l->nodes[owner].heir >= 0 && step < l->node_count;
             step++) {
            if (l->nodes[owner].wait_ms > l->nodes[i].line_wait_ms)
                l->nodes[i].line_wait_ms = l->nodes[owner].wait_ms;
            owner = (size_t)l->nodes[owner].heir;
        }
        l->nodes[i].owner = (uint8_t)owner;
    }
}

/* R10: what it may have promised unseen ends with the longest lease it may have given at the latest
 * moment it may have lived, on clocks that differ. One that was drained promised nothing unseen. */
void node_retire(struct ledger *l, size_t index)
{
    struct node *node = &l->nodes[index];

    must(index != SELF && !node->retired);
    node->retired = true;
    node->heir = SELF;
    node->drained = node->closed;
    node->retired_ms = l->now_ms;
    node->wait_ms = l->now_ms;
    if (!node->drained)
        node->wait_ms += node_longest_ever(l) + 2 * l->conf.skew_max_ms;
    node->via = SELF;
    node_changed(l, node);
    node_settle_owners(l);
    lease_settle_all(l);
}

int64_t node_least_watermark(const struct ledger *l)
{
    int partner = node_partner(l);

    return partner < 0 ? INT64_MAX : l->nodes[partner].watermark_ms;
}

uint64_t node_least_acknowledged(const struct ledger *l)
{
    int partner = node_partner(l);

    return partner < 0 ? UINT64_MAX : l->nodes[partner].acknowledged;
}

/* R3: without a partner every lease is private; with one, only while it keeps up. */
bool node_peer_listens(const struct ledger *l)
{
    int partner = node_partner(l);

    return partner >= 0 && l->nodes[partner].fetched_ms &&
           l->now_ms - l->nodes[partner].fetched_ms <= PEER_FETCH_RECENT_MS;
}

int64_t node_waits_until(const struct ledger *l)
{
    int64_t until_ms = 0;

    for (size_t i = 1; i < l->node_count; i++) {
        if (l->nodes[i].retired && l->nodes[i].wait_ms > until_ms)
            until_ms = l->nodes[i].wait_ms;
    }
    return until_ms;
}

int64_t node_former_wait(const struct ledger *l)
{
    int64_t until_ms = 0;

    for (size_t i = 1; i < l->node_count; i++) {
        const struct node *node = &l->nodes[i];
        if (node->retired && node_is_former(l, &node->ref) && node->owner == SELF &&
            node->wait_ms > until_ms)
            until_ms = node->wait_ms;
    }
    return until_ms;
}

int64_t node_next_wait(const struct ledger *l, int64_t after_ms)
{
    int64_t next_ms = INT64_MAX;

    for (size_t i = 1; i < l->node_count; i++) {
        if (l->nodes[i].retired && l->nodes[i].wait_ms > after_ms && l->nodes[i].wait_ms < next_ms)
            next_ms = l->nodes[i].wait_ms;
    }
    return next_ms;
}

int64_t node_longest_ever(const struct ledger *l)
{
    int64_t longest_ms = l->conf.lease_max_ms;

    for (size_t i = 0; i < l->node_count; i++) {
        if (l->nodes[i].longest_ms > longest_ms)
            longest_ms = l->nodes[i].longest_ms;
    }
    return longest_ms;
}

/* R10: the wait for a dead node is as long as its longest lease. So a longer limit is stated first
 * (nodes[SELF].longest_ms) and used once the partner has acknowledged that. */
void node_settle_longest(struct ledger *l)
{
    struct node *self = &l->nodes[SELF];

    if (l->conf.lease_max_ms > self->longest_ms) {
        self->longest_ms = l->conf.lease_max_ms;
        node_changed(l, self);
    }
    if (!l->self.refilled || l->self.lease_max_ms == self->longest_ms ||
        node_least_acknowledged(l) < self->seq)
        return;
    l->self.lease_max_ms = self->longest_ms;
    self_noted(l);
}
