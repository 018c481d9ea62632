/* The nodes of the instance: [0] is self, the others are whoever was ever heard of (R7 counts them
 * all). */
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
    l->nodes[l->node_count] = (struct node){ .ref = *ref };
    return (int)l->node_count++;
}

int64_t node_least_watermark(const struct ledger *l)
{
    int64_t least = INT64_MAX;

    for (size_t i = 1; i < l->node_count; i++) {
        if (l->nodes[i].watermark_ms < least)
            least = l->nodes[i].watermark_ms;
    }
    return least;
}

uint64_t node_least_acknowledged(const struct ledger *l)
{
    uint64_t least = UINT64_MAX;

    for (size_t i = 1; i < l->node_count; i++) {
        if (l->nodes[i].acknowledged < least)
            least = l->nodes[i].acknowledged;
    }
    return least;
}

/* R3: without a peer every lease is private; with one, only while it keeps up. */
bool node_peer_listens(const struct ledger *l)
{
    for (size_t i = 1; i < l->node_count; i++) {
        if (!l->nodes[i].fetched_ms || l->now_ms - l->nodes[i].fetched_ms > PEER_FETCH_RECENT_MS)
            return false;
    }
    return l->node_count > 1;
}
