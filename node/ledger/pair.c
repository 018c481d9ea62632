/* Who is who: meeting, refilling, draining and retiring (R10, R11). */
#include <inttypes.h>

#include "ledger/request.h"

/* R10: what the partner has to reckon with from now on. */
static int64_t longest_to_state(const struct ledger *l)
{
    int64_t stated_ms = l->nodes[SELF].longest_ms;

    return l->conf.lease_max_ms > stated_ms ? l->conf.lease_max_ms : stated_ms;
}

static struct node_introduction introduce(const struct ledger *l)
{
    int partner = node_partner(l);
    struct node_introduction of = {
        .node_ref = l->nodes[SELF].ref,
        .refilled = l->self.refilled,
        .fresh = node_is_fresh(l),
        .now_ms = l->now_ms,
        .seq = l->seq,
        .cursor = partner >= 0 ? l->nodes[partner].cursor : 0,
        .watermark_ms = partner >= 0 ? l->nodes[partner].watermark_ms : 0,
        .longest_ms = longest_to_state(l),
    };

    memcpy(of.former, l->self.former, sizeof of.former);
    if (partner >= 0)
        of.partner = l->nodes[partner].ref;
    return of;
}

void request_introduce(struct ledger *l, const struct ledger_event *e, struct ledger_result *r)
{
    (void)e;
    r->introduction = introduce(l);
}

static bool names(const struct node_introduction *of, const struct uuid *former)
{
    for (size_t i = 0; i < FORMER_SELVES_MAX; i++) {
        if (!uuid_is_nil(&of->former[i]) && uuid_equal(&of->former[i], former))
            return true;
    }
    return false;
}

/* Whose history may become whose (R11). */
static enum err check_histories(const struct ledger *l, const struct node_introduction *of,
                                struct diag *diag)
{
    if (l->self.refilled && of->refilled)
        return diag_set(diag, ERR_PEER_FOREIGN,
                        "both nodes have a history of their own; stop one and empty its database");
    if (l->self.refilled || of->refilled || (of->fresh && node_is_fresh(l)))
        return ERR_OK;
    return diag_set(diag, ERR_NODE_UNFILLED,
                    "both nodes lost their history; if so, retire the other one on one of them");
}

static bool is_or_was_self(const struct ledger *l, const struct uuid *ref)
{
    return uuid_equal(ref, &l->nodes[SELF].ref) || node_is_former(l, ref);
}

static enum err check_stranger(const struct ledger *l, const struct node_introduction *of,
                               struct diag *diag)
{
    int partner = node_partner(l);
    char text[UUID_TEXT_SIZE];

    /* a node without a history speaks for nobody: whom it used to count does not matter */
    if (partner >= 0 && l->self.refilled && !names(of, &l->nodes[partner].ref)) {
        uuid_format(&l->nodes[partner].ref, text);
        return diag_set(diag, ERR_PEER_UNKNOWN,
                        "this node still counts node %s; if that one is gone for good, retire it",
                        text);
    }
    if (of->refilled && !uuid_is_nil(&of->partner) && !is_or_was_self(l, &of->partner)) {
        uuid_format(&of->partner, text);
        return diag_set(diag, ERR_PEER_UNKNOWN,
                        "it still counts node %s; if that one is gone for good, retire it there",
                        text);
    }
    if (node_index(l, &of->node_ref) < 0 && l->node_count == LEDGER_NODES_MAX)
        return diag_set(diag, ERR_PEER_UNKNOWN, "the instance has had %d nodes, which is the limit",
                        LEDGER_NODES_MAX);
    return check_histories(l, of, diag);
}

static enum err check_meeting(const struct ledger *l, const struct node_introduction *of,
                              struct diag *diag)
{
    int index = node_index(l, &of->node_ref);

    if (index == SELF)
        return diag_set(diag, ERR_PEER_SELF,
                        "both ends are the same node: HA_REPLICATE points at this node, or both "
                        "run on copies of one database");
    if (l->nodes[SELF].retired)
        return diag_set(diag, ERR_NODE_RETIRED, "this node was retired");
    if (index > SELF && l->nodes[index].retired)
        return diag_set(diag, ERR_PEER_RETIRED,
                        "that node was retired; to bring it back, empty its database");
    bool knows = uuid_equal(&of->partner, &l->nodes[SELF].ref);
    if (knows && of->watermark_ms >= l->now_ms) /* R8: what is decided now would lie below it */
        return diag_set(diag, ERR_HISTORY_LOST,
                        "the peer was told a later time of this node's clock than it has now");
    if (knows && of->cursor > l->seq) /* R11 */
        return diag_set(diag, ERR_HISTORY_LOST,
                        "the peer has merged change %" PRIu64 " of this node, but there are only "
                        "%" PRIu64,
                        of->cursor, l->seq);
    if (index > SELF && index == node_partner(l))
        return ERR_OK;
    return check_stranger(l, of, diag);
}

/* R11: durable before it is served. Those that it names as its former selves are retired first. */
static void register_partner(struct ledger *l, const struct node_introduction *of)
{
    int before = node_partner(l);

    for (size_t i = 1; i < l->node_count; i++) {
        if (l->self.refilled && !l->nodes[i].retired && l->nodes[i].partner &&
            names(of, &l->nodes[i].ref))
            node_retire(l, i);
    }
    if (before >= 0 && !l->self.refilled && !uuid_equal(&l->nodes[before].ref, &of->node_ref)) {
        l->nodes[before].partner = false;
        node_changed(l, &l->nodes[before]);
    }
    struct node *node = &l->nodes[node_learn(l, &of->node_ref)];
    if (node->partner && of->longest_ms <= node->longest_ms)
        return;
    if (!node->partner && l->self.refilled) {
        /* R8: it has decided nothing yet, and will know only what it is told from now on */
        node->acknowledged = l->seq;
        node->watermark_ms = of->now_ms - 1;
    }
    node->partner = true;
    if (of->longest_ms > node->longest_ms)
        node->longest_ms = of->longest_ms;
    node->via = SELF;
    node_changed(l, node);
    lease_settle_all(l); /* another clock has to pass what no other one was waited for */
}

void request_meet(struct ledger *l, const struct ledger_event *e, struct ledger_result *r)
{
    r->err = check_meeting(l, &e->meet.of, &r->diag);
    if (r->err == ERR_OK) {
        register_partner(l, &e->meet.of);
        scope_mints_settle(l);
        lease_expire_due(l);
    }
    r->introduction = introduce(l);
}

/* R10: whoever of this instance says so is believed, its partner's successors included; but of two
 * that retired each other only the one with the larger node_ref stops. */
void request_dismissed(struct ledger *l, const struct ledger_event *e, struct ledger_result *r)
{
    int by = node_index(l, &e->dismissed.by);
    struct node *self = &l->nodes[SELF];
    bool mutual = by > SELF && l->nodes[by].retired;

    if (by == SELF || self->retired || (mutual && uuid_compare(&self->ref, &e->dismissed.by) < 0)) {
        r->err = diag_set(&r->diag, ERR_PEER_UNKNOWN, "that node cannot retire this one");
        return;
    }
    by = node_learn(l, &e->dismissed.by);
    self->retired = true;
    self->heir = (int8_t)(by > SELF ? by : -1);
    self->retired_ms = self->wait_ms = l->now_ms;
    if (by > SELF && !l->nodes[by].seq)
        node_changed(l, &l->nodes[by]);
    node_changed(l, self);
}

/* True if the operator means this node. */
static bool is_meant(const struct ledger *l, const struct ledger_event *e, size_t index)
{
    return !l->nodes[index].retired &&
           (uuid_is_nil(&e->retire.node_ref) ||
            uuid_equal(&e->retire.node_ref, &l->nodes[index].ref) ||
            (!l->self.refilled && l->nodes[index].partner)); /* whoever is still counted */
}

static enum err check_retire(const struct ledger *l, const struct ledger_event *e,
                             struct diag *diag)
{
    int index = node_index(l, &e->retire.node_ref);

    if (l->nodes[SELF].retired)
        return diag_set(diag, ERR_NODE_RETIRED, "this node was retired itself");
    if (uuid_is_nil(&e->retire.node_ref))
        return ERR_OK;
    if (index == SELF)
        return diag_set(diag, ERR_PEER_SELF, "a node is retired on the other one");
    if (index < 0)
        return diag_set(diag, ERR_PEER_NONE, "no such node is known here");
    return ERR_OK;
}

/* R10. On a node that lost its history the operator says that nobody has it any more: it goes on
 * from what it has (R11), once the wait is over. */
void request_retire(struct ledger *l, const struct ledger_event *e, struct ledger_result *r)
{
    r->err = check_retire(l, e, &r->diag);
    if (r->err != ERR_OK)
        return;
    for (size_t i = 1; i < l->node_count; i++) {
        if (!is_meant(l, e, i))
            continue;
        node_retire(l, i);
        r->affected++;
    }
    if (!l->self.refilled) {
        l->self.refilled = true;
        self_noted(l);
    } else if (!r->affected && uuid_is_nil(&e->retire.node_ref)) {
        r->err = diag_set(&r->diag, ERR_PEER_NONE, "no other node is counted");
        return;
    }
    l->peer_suspect = false;
    l->due_ms = l->now_ms;
    node_settle_longest(l);
    scope_mints_settle(l);
    lease_settle_acknowledged(l);
    lease_expire_due(l);
    r->wait_ms = node_waits_until(l) > l->now_ms ? node_waits_until(l) : 0;
}

static bool partner_serves(const struct ledger *l)
{
    return node_peer_listens(l) && !l->nodes[node_partner(l)].closed;
}

/* R10: decides nothing from now on; its free credits go to its partner, which hears `closed` with
 * the next complete page. */
void request_drain(struct ledger *l, const struct ledger_event *e, struct ledger_result *r)
{
    enum self_state state = node_self_state(l);

    (void)e;
    if (state == SELF_DRAINED)
        return;
    if (state != SELF_SERVING || !partner_serves(l)) {
        r->err = state != SELF_SERVING
                     ? diag_set(&r->diag, ERR_NOT_READY, "this node does not serve: it is %s",
                                self_state_name(state))
                     : diag_set(&r->diag, ERR_PEER_AWAY,
                                "there is no other node that listens and would go on serving");
        return;
    }
    share_all(l);
    l->self.drained = true;
    l->self.resumed_seq = 0;
    self_noted(l);
    node_changed(l, &l->nodes[SELF]); /* wakes the partner's poll */
}

/* R10: a partner that believes it closed could retire it without a wait: it must have heard first.
 */
void request_resume(struct ledger *l, const struct ledger_event *e, struct ledger_result *r)
{
    (void)e;
    if (l->nodes[SELF].retired) {
        r->err = diag_set(&r->diag, ERR_NODE_RETIRED, "this node was retired");
        return;
    }
    if (!l->self.drained)
        return;
    node_changed(l, &l->nodes[SELF]);
    l->self.drained = false;
    l->self.resumed_seq = l->nodes[SELF].seq;
    self_noted(l);
}

const char *self_state_name(enum self_state state)
{
    static const char *const names_of[] = { "serving", "unfilled", "drained", "resuming",
                                            "retired" };

    must(state <= SELF_RETIRED);
    return names_of[state];
}

struct ledger_pair ledger_pair(const struct ledger *l)
{
    int partner = node_partner(l);
    struct ledger_pair pair = {
        .self = node_self_state(l),
        .clock_suspect = l->peer_suspect,
        .clock_difference_ms = l->clock_difference_ms,
        .merged_ms = l->merged_ms,
        .wait_ms = node_waits_until(l),
    };

    if (pair.wait_ms <= l->now_ms)
        pair.wait_ms = 0;
    if (l->nodes[SELF].retired && l->nodes[SELF].heir >= 0)
        pair.retired_by = l->nodes[l->nodes[SELF].heir].ref;
    if (partner < 0)
        return pair;
    const struct node *node = &l->nodes[partner];
    pair.partner = node->ref;
    pair.partner_closed = node->closed;
    pair.partner_listens = node_peer_listens(l);
    pair.cursor = node->cursor;
    pair.acknowledged = node->acknowledged;
    pair.watermark_ms = node->watermark_ms;
    return pair;
}
