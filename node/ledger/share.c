/* R12: credits go where they are needed. Only the giver acts: a move of k needs free(i) >= k, is
 * durable here before the receiver hears of it (R13), and grows what was moved in all (R2), so that
 * it can arrive late and twice. */
#include <inttypes.h>

#include "ledger/request.h"

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void give(struct ledger *l, struct scope *scope, size_t receiver, int64_t count)
{
    struct move *move = scope_move(scope, SELF, receiver);

    must(count > 0 && scope_free_at(l, scope, SELF) >= count);
    move->moved += count;
    struct credit *credit = &scope->credits[receiver];
    if (credit->debt > 0) {
        credit->debt -= smaller(count, credit->debt);
        credit_noted(l, scope, receiver);
    }
    move->via = SELF;
    move_changed(l, move);
}

/* How many of the free credits the partner should get: what it lacks after a reduction (R2), else
 * for an even split. Small differences stay, or both nodes would pass the same seats to and fro. */
static int64_t uneven(int64_t here, int64_t there)
{
    int64_t difference = here - there;

    if (here <= 0)
        return 0;
    if (there < 0)
        return smaller(here, -there);
    return difference >= 2 && difference * 4 > here + there ? difference / 2 : 0;
}

/* What was given last may not have arrived, and what the partner gave may have crossed it: two
 * nodes that both go by what they see would pass the same seats to and fro for ever. */
static bool on_the_way(const struct ledger *l, struct scope *scope, size_t partner)
{
    for (size_t i = 0; i < scope->moves.count; i++) {
        const struct move *move = scope->moves.items[i];
        if (move->giver == SELF && move->receiver == partner)
            return l->nodes[partner].acknowledged < move->seq;
    }
    return false;
}

void share_evenly(struct ledger *l)
{
    int partner = node_partner(l);

    if (partner < 0 || node_self_state(l) != SELF_SERVING || l->nodes[partner].closed)
        return;
    for (size_t i = 0; i < l->scopes.count; i++) {
        struct scope *scope = l->scopes.items[i];
        if (l->now_ms < scope->short_until_ms || on_the_way(l, scope, (size_t)partner))
            continue;
        int64_t count =
            uneven(scope_free_at(l, scope, SELF), scope_free_at(l, scope, (size_t)partner));
        if (count > 0)
            give(l, scope, (size_t)partner, count);
    }
}

void share_all(struct ledger *l)
{
    int partner = node_partner(l);

    if (partner < 0 || l->nodes[partner].closed)
        return; /* it would give them back */
    for (size_t i = 0; i < l->scopes.count; i++) {
        struct scope *scope = l->scopes.items[i];
        if (scope_free_at(l, scope, SELF) > 0)
            give(l, scope, (size_t)partner, scope_free_at(l, scope, SELF));
    }
}

/* What the partner needs, or half, if that is more: it may need the next one as well. */
void request_give(struct ledger *l, const struct ledger_event *e, struct ledger_result *r)
{
    struct scope *scope = scope_find(l, &e->give.scope_ref);
    int partner = node_partner(l);
    enum self_state state = node_self_state(l);

    must(e->give.wanted > 0);
    if (partner < 0 || partner != node_index(l, &e->give.receiver)) {
        r->err = diag_set(&r->diag, ERR_PEER_UNKNOWN, "that node is not this node's partner");
        return;
    }
    if (!scope || (state != SELF_SERVING && state != SELF_DRAINED)) {
        r->err = !scope ? diag_set(&r->diag, ERR_SCOPE_UNKNOWN, "the scope is not known")
                        : diag_set(&r->diag, ERR_NOT_READY, "this node decides nothing now");
        return;
    }
    int64_t free_here = scope_free_at(l, scope, SELF);
    int64_t half = uneven(free_here, scope_free_at(l, scope, (size_t)partner));
    r->given = smaller(free_here, e->give.wanted > half ? e->give.wanted : half);
    if (r->given > 0) {
        give(l, scope, (size_t)partner, r->given);
        return;
    }
    r->given = 0;
    result_add_scope(l, r, scope);
    r->err = diag_set(&r->diag, ERR_NO_FREE_SEAT, "no seat is free here");
}
