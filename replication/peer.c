#include "replication/peer.h"

#include <inttypes.h>
#include <stdio.h>

#define US_PER_MS INT64_C(1000)
#define TOKEN_SPARE                                                                                \
    2 /* a token is made for half of what the peer allows: its clock may be adjusted */

static const char *const state_names[REPLICATION_STATES] = {
    [REPLICATION_CONNECTING] = "connecting",
    [REPLICATION_CONNECTED] = "connected",
    [REPLICATION_AWAY] = "away",
    [REPLICATION_REFUSED] = "refused",
};

const char *replication_state_name(enum replication_state state)
{
    must(state < REPLICATION_STATES);
    return state_names[state];
}

void peer_init(struct peer *p, const struct peer_conf *conf)
{
    must(conf->protocol_min >= 1 && conf->protocol_min <= conf->protocol);
    *p = (struct peer){
        .conf = *conf,
        .task = PEER_DO_HELLO,
        .state = REPLICATION_CONNECTING,
        .reason = ERR_PEER_AWAY,
        .limit = PAGE_ROWS_MAX,
    };
}

/* ---- time ------------------------------------------------------------------------------------ */

int64_t peer_pause_us(unsigned failures, uint64_t random)
{
    int64_t ceiling = PEER_PAUSE_MIN_MS;

    for (; failures > 1 && ceiling < PEER_PAUSE_MAX_MS; failures--)
        ceiling *= 2;
    if (ceiling > PEER_PAUSE_MAX_MS)
        ceiling = PEER_PAUSE_MAX_MS;
    ceiling *= US_PER_MS;
    return 1 + (int64_t)(random % (uint64_t)ceiling);
}

int64_t peer_token_expiry_ms(const struct peer *p, int64_t now_us)
{
    int64_t wall_ms = p->peer_wall_ms + (now_us - p->peer_wall_at_us) / US_PER_MS;

    return wall_ms + PEER_TOKEN_SECONDS * 1000 / TOKEN_SPARE;
}

int64_t peer_wait_ms(const struct peer *p, int64_t now_ms, int64_t due_ms, int64_t difference_ms)
{
    if (p->at_once)
        return 0;
    if (due_ms >= INT64_MAX / 2)
        return PEER_POLL_MAX_MS;
    int64_t wait = due_ms - now_ms - difference_ms + PEER_POLL_SLACK_MS; /* R7 */
    if (wait < -PEER_OVERDUE_MS)                                         /* R1 may have paused R7 */
        return PEER_POLL_MAX_MS;
    if (wait < PEER_POLL_MIN_MS)
        return PEER_POLL_MIN_MS;
    return wait < PEER_POLL_MAX_MS ? wait : PEER_POLL_MAX_MS;
}

/* ---- states ---------------------------------------------------------------------------------- */

static void set_state(struct peer *p, enum replication_state state, enum err reason,
                      const struct diag *diag)
{
    if (p->state != state || p->reason != reason)
        p->state_changes++;
    p->state = state;
    p->reason = reason;
    p->diag = diag ? *diag : (struct diag){ "" };
}

static void connected(struct peer *p)
{
    if (p->state != REPLICATION_CONNECTED)
        set_state(p, REPLICATION_CONNECTED, ERR_OK, NULL);
}

static void begin(struct peer *p, enum peer_task task)
{
    p->task = task;
    p->under_way = false;
    p->not_before_us = 0;
}

/* Hello again, after a pause. */
static void pause_then_hello(struct peer *p, int64_t now_us, uint64_t random)
{
    p->failures++;
    p->failed++;
    begin(p, PEER_DO_HELLO);
    p->not_before_us = now_us + peer_pause_us(p->failures, random);
}

/* The same task again, after a pause: our own ledger is busy or away. */
static void pause_then_again(struct peer *p, int64_t now_us, uint64_t random)
{
    p->failures++;
    begin(p, p->task);
    p->not_before_us = now_us + peer_pause_us(p->failures, random);
}

static void away(struct peer *p, int64_t now_us, uint64_t random, enum err reason,
                 const struct diag *diag)
{
    set_state(p, REPLICATION_AWAY, reason, diag);
    pause_then_hello(p, now_us, random);
}

/* The two must not replicate. The peer was heard, so nothing is left to wait for (R11). */
static void refuse(struct peer *p, int64_t now_us, uint64_t random, enum err reason,
                   const struct diag *diag)
{
    set_state(p, REPLICATION_REFUSED, reason, diag);
    p->met = true;
    pause_then_hello(p, now_us, random);
}

static bool passes(enum err e)
{
    return err_info(e)->http == 503;
}

/* What our own ledger answers to anything while it cannot decide: true, and dealt with. */
static bool ledger_cannot(struct peer *p, int64_t now_us, uint64_t random, enum err err,
                          const struct diag *diag)
{
    if (err == ERR_OK || !passes(err))
        return false;
    if (err == ERR_NODE_RETIRED || err == ERR_NODE_UNFILLED) /* an operator has to decide (R11) */
        refuse(p, now_us, random, err, diag);
    else if (err == ERR_HISTORY_LOST) /* R11: it comes back under a new name, and says hello */
        pause_then_hello(p, now_us, random);
    else
        pause_then_again(p, now_us, random);
    return true;
}

enum peer_task peer_next(struct peer *p, int64_t now_us, int64_t *wake_us)
{
    *wake_us = INT64_MAX;
    if (p->under_way)
        return PEER_REST;
    if (now_us < p->not_before_us) {
        *wake_us = p->not_before_us;
        return PEER_REST;
    }
    p->under_way = true;
    return p->task;
}

void peer_restart(struct peer *p, int64_t now_us)
{
    begin(p, PEER_DO_HELLO);
    p->not_before_us = now_us;
    p->refusal = ERR_OK;
}

void peer_nudge(struct peer *p, int64_t now_us)
{
    int64_t at_us = now_us < p->nudge_after_us ? p->nudge_after_us : now_us;

    if (p->under_way || p->task != PEER_DO_HELLO || p->not_before_us <= at_us)
        return;
    p->not_before_us = at_us;
    p->nudge_after_us = at_us + PEER_NUDGE_MS * US_PER_MS;
}

static void assert_doing(const struct peer *p, enum peer_task task)
{
    must(p->under_way && p->task == task);
}

/* ---- hello and meet -------------------------------------------------------------------------- */

static enum err check_self(const struct peer *p, const struct uuid *self,
                           const struct peer_hello *hello, struct diag *diag)
{
    if (memcmp(hello->process, p->conf.process, sizeof hello->process) == 0)
        return diag_set(diag, ERR_PEER_SELF,
                        "HA_REPLICATE=%s leads back to this node; set it to the other node's host "
                        "and port",
                        p->conf.address);
    if (uuid_equal(&hello->introduction.node_ref, self))
        return diag_set(diag, ERR_PEER_SELF,
                        "the node at %s has the same node_ref: one database is a copy of the "
                        "other; give one of the nodes an empty database of its own",
                        p->conf.address);
    return ERR_OK;
}

static enum err check_pairing(const struct peer *p, const struct uuid *self,
                              const struct peer_hello *hello, struct diag *diag)
{
    enum err e = check_self(p, self, hello, diag);

    if (e != ERR_OK)
        return e;
    if (hello->primary == p->conf.primary)
        return diag_set(diag, ERR_PEER_ROLE,
                        "both nodes have HA_ROLE=%s; set the other role on one of them",
                        p->conf.primary ? "PRIMARY" : "SECONDARY");
    if (hello->protocol < p->conf.protocol_min || hello->protocol_min > p->conf.protocol)
        return diag_set(diag, ERR_PEER_PROTOCOL,
                        "the node at %s speaks protocol %" PRId64 " to %" PRId64
                        ", this one %" PRId64 " to %" PRId64 "; upgrade the older one",
                        p->conf.address, hello->protocol_min, hello->protocol, p->conf.protocol_min,
                        p->conf.protocol);
    return ERR_OK;
}

static void remember(struct peer *p, int64_t now_us, const struct peer_hello *hello)
{
    p->peer_ref = hello->introduction.node_ref;
    p->peer_primary = hello->primary;
    snprintf(p->peer_url, sizeof p->peer_url, "%s", hello->url);
    p->protocol = hello->protocol < p->conf.protocol ? hello->protocol : p->conf.protocol;
    memcpy(p->nonce, hello->nonce, sizeof p->nonce);
    p->peer_wall_ms = hello->wall_ms;
    p->peer_wall_at_us = now_us;
    p->theirs = hello->introduction;
    p->peer_seq = hello->introduction.seq;
}

void peer_on_hello(struct peer *p, int64_t now_us, uint64_t random, const struct uuid *self,
                   const struct peer_hello *hello)
{
    struct diag diag;

    assert_doing(p, PEER_DO_HELLO);
    enum err e = check_pairing(p, self, hello, &diag);
    if (e != ERR_OK) {
        refuse(p, now_us, random, e, &diag);
        return;
    }
    remember(p, now_us, hello);
    begin(p, PEER_DO_INTRODUCE);
}

void peer_on_introduced(struct peer *p, int64_t now_us, uint64_t random, enum err err,
                        const struct diag *diag)
{
    assert_doing(p, PEER_DO_INTRODUCE);
    if (ledger_cannot(p, now_us, random, err, diag))
        return;
    if (err == ERR_OK)
        begin(p, PEER_DO_MEET);
    else
        refuse(p, now_us, random, err, diag);
}

/* What no introduction could change. */
static bool is_configuration(enum err e)
{
    return e == ERR_PEER_SELF || e == ERR_PEER_ROLE || e == ERR_PEER_INSTANCE ||
           e == ERR_PEER_PROTOCOL || e == ERR_PEER_NONE || e == ERR_PEER_RETIRED;
}

void peer_on_met(struct peer *p, int64_t now_us, uint64_t random, const struct peer_hello *hello,
                 enum err refusal, const struct diag *diag)
{
    assert_doing(p, PEER_DO_MEET);
    if (!uuid_equal(&hello->introduction.node_ref, &p->peer_ref)) {
        peer_restart(p, now_us); /* it drew a new node_ref meanwhile (R11) */
        return;
    }
    if (is_configuration(refusal)) {
        peer_on_problem(p, now_us, random, &p->peer_ref, refusal, diag);
        return;
    }
    remember(p, now_us, hello);
    p->refusal = refusal;
    p->refusal_diag = diag ? *diag : (struct diag){ "" };
    begin(p, PEER_DO_JUDGE); /* R11: what it knows of us may show that our history is lost */
}

static void refused_by_peer(struct peer *p, int64_t now_us, uint64_t random, enum err err,
                            const struct diag *diag)
{
    struct diag told;

    diag_set(&told, err, "the node at %s refuses: %s", p->conf.address,
             diag && diag->text[0] ? diag->text : err_info(err)->title);
    /* at a meeting "unfilled" means that both lost their history: an operator decides (R11) */
    if (passes(err) && !(err == ERR_NODE_UNFILLED && p->task == PEER_DO_JUDGE))
        away(p, now_us, random, err, &told);
    else
        refuse(p, now_us, random, err, &told);
}

void peer_on_judged(struct peer *p, int64_t now_us, uint64_t random, enum err err,
                    const struct diag *diag, uint64_t cursor)
{
    enum err refusal = p->refusal;

    assert_doing(p, PEER_DO_JUDGE);
    if (ledger_cannot(p, now_us, random, err, diag))
        return;
    p->refusal = ERR_OK;
    if (err != ERR_OK) {
        refuse(p, now_us, random, err, diag);
    } else if (refusal != ERR_OK) {
        refused_by_peer(p, now_us, random, refusal, &p->refusal_diag);
    } else {
        p->met = true;
        p->since = cursor;
        p->at_once = true;
        begin(p, PEER_DO_CHANGES);
    }
}

/* ---- changes --------------------------------------------------------------------------------- */

void peer_on_page_begun(struct peer *p, int64_t now_us)
{
    if (!p->behind_since_us)
        p->behind_since_us = now_us;
}

void peer_on_page(struct peer *p, int64_t now_us, const struct ledger_page *page)
{
    assert_doing(p, PEER_DO_CHANGES);
    peer_on_page_begun(p, now_us);
    if (page->upto > p->peer_seq)
        p->peer_seq = page->upto;
    begin(p, PEER_DO_MERGE);
}

static size_t row_count(const struct ledger_page *page)
{
    return page->node_count + page->entitlement_count + page->move_count + page->lease_count +
           page->origin_count;
}

static void merged(struct peer *p, int64_t now_us, const struct ledger_page *page)
{
    p->failures = 0;
    p->pages++;
    p->rows += row_count(page);
    p->since = page->upto;
    p->peer_ready = page->refilled && !page->closed;
    p->limit = p->limit < PAGE_ROWS_MAX / 2 ? p->limit * 2 : PAGE_ROWS_MAX;
    p->at_once = !page->complete;
    if (page->complete) {
        p->last_page_us = now_us;
        p->behind_since_us = 0;
    }
    connected(p);
    begin(p, PEER_DO_CHANGES);
}

void peer_on_merged(struct peer *p, int64_t now_us, uint64_t random, enum err err,
                    const struct diag *diag, const struct ledger_page *page, bool wipe)
{
    assert_doing(p, PEER_DO_MERGE);
    if (ledger_cannot(p, now_us, random, err, diag))
        return;
    if (wipe) { /* R11: the ledger is empty now; fetch everything */
        peer_restart(p, now_us);
    } else if (err == ERR_OK) {
        merged(p, now_us, page);
    } else {
        p->refused++;
        refuse(p, now_us, random, err, diag);
    }
}

/* ---- refusals and failures ------------------------------------------------------------------- */

void peer_on_dismissed(struct peer *p, int64_t now_us, uint64_t random, enum err err)
{
    struct diag diag;
    char by[UUID_TEXT_SIZE];

    assert_doing(p, PEER_DO_DISMISS);
    if (err != ERR_OK && passes(err) && err != ERR_NODE_RETIRED) {
        pause_then_again(p, now_us, random);
        return;
    }
    uuid_format(&p->peer_ref, by);
    if (err == ERR_PEER_UNKNOWN) { /* this node stays: the other one is to stop */
        diag_set(&diag, ERR_PEER_RETIRED,
                 "this node and node %s retired each other; that one stops, to bring it back empty "
                 "its database",
                 by);
        refuse(p, now_us, random, ERR_PEER_RETIRED, &diag);
        return;
    }
    diag_set(&diag, ERR_NODE_RETIRED,
             "this node was retired by node %s (R10); start it with an empty database to pair it "
             "again",
             by);
    refuse(p, now_us, random, ERR_NODE_RETIRED, &diag);
}

/* Fewer rows at a time; false: there is no less. */
static bool ask_for_less(struct peer *p)
{
    if (p->task != PEER_DO_CHANGES || p->limit == 1)
        return false;
    p->limit /= 2;
    return true;
}

/* Our token is not taken. At hello nothing but another key or instance can be the cause; later its
 * nonce may just be that of the peer's former process. */
static void token_refused(struct peer *p, int64_t now_us, uint64_t random, enum err err,
                          const struct diag *diag)
{
    struct diag told;
    const char *text = diag && diag->text[0] ? diag->text : err_info(err)->title;

    if (p->task != PEER_DO_HELLO && p->failures == 0) {
        p->failures++;
        peer_restart(p, now_us);
        return;
    }
    if (p->task == PEER_DO_HELLO && err != ERR_TOKEN_EXPIRED) {
        diag_set(&told, ERR_PEER_INSTANCE,
                 "the node at %s does not take this node's token (%s); INSTANCE_REF and "
                 "the files INSTANCE_KEY_RSA and INSTANCE_KEY_PUB must be the same on both nodes",
                 p->conf.address, text);
        refuse(p, now_us, random, ERR_PEER_INSTANCE, &told);
        return;
    }
    diag_set(&told, err,
             "the node at %s does not take this node's token (%s); compare the clocks of both "
             "nodes, and whether another node answers at that address",
             p->conf.address, text);
    refuse(p, now_us, random, err, &told);
}

static bool is_token_trouble(enum err e)
{
    return e == ERR_TOKEN_MISSING || e == ERR_TOKEN_INVALID || e == ERR_TOKEN_EXPIRED ||
           e == ERR_TOKEN_PURPOSE || e == ERR_TOKEN_INSTANCE;
}

void peer_on_problem(struct peer *p, int64_t now_us, uint64_t random, const struct uuid *sender,
                     enum err err, const struct diag *diag)
{
    must(p->under_way && err != ERR_OK);
    if (err == ERR_PEER_RETIRED && !uuid_is_nil(sender)) {
        p->peer_ref = *sender;
        begin(p, PEER_DO_DISMISS); /* R10; irrevocable, so only a signed word counts */
    } else if (err == ERR_BODY_TOO_LARGE && ask_for_less(p)) {
        begin(p, PEER_DO_CHANGES);
    } else if (is_token_trouble(err)) {
        token_refused(p, now_us, random, err, diag);
    } else {
        refused_by_peer(p, now_us, random, err, diag);
    }
}

static void bad_answer(struct peer *p, int64_t now_us, uint64_t random, enum err err,
                       const struct diag *diag)
{
    struct diag told;
    const char *text = diag->text[0] ? diag->text : err_info(err)->title;

    if (err == ERR_BODY_TOO_LARGE && ask_for_less(p)) {
        begin(p, PEER_DO_CHANGES);
        return;
    }
    if (err == ERR_PAGE_REFUSED) {
        p->refused++;
        refuse(p, now_us, random, err, diag);
        return;
    }
    if (err == ERR_TOKEN_INVALID || err == ERR_TOKEN_INSTANCE) {
        diag_set(&told, ERR_PEER_INSTANCE,
                 "the answer of %s is not signed with this instance's key (%s); INSTANCE_REF and "
                 "the files INSTANCE_KEY_RSA and INSTANCE_KEY_PUB must be the same on both nodes",
                 p->conf.address, text);
        refuse(p, now_us, random, ERR_PEER_INSTANCE, &told);
        return;
    }
    diag_set(&told, err, "the answer of %s does not count: %s", p->conf.address, text);
    away(p, now_us, random, err, &told);
}

void peer_on_failure(struct peer *p, int64_t now_us, uint64_t random, enum peer_failure failure,
                     enum err err, const struct diag *diag)
{
    must(p->under_way && err != ERR_OK);
    switch (failure) {
    case PEER_FAILED_CERTIFICATE:
        set_state(p, REPLICATION_REFUSED, err, diag);
        pause_then_hello(p, now_us, random);
        break;
    case PEER_FAILED_ANSWER:
        bad_answer(p, now_us, random, err, diag);
        break;
    case PEER_FAILED_CLOSED:
        p->met = true; /* R11: nobody is there who could know more of us */
        away(p, now_us, random, err, diag);
        break;
    case PEER_FAILED_TIMEOUT:
        (void)ask_for_less(p); /* a slow wire carries smaller pages */
        away(p, now_us, random, err, diag);
        break;
    case PEER_FAILED_NETWORK:
        away(p, now_us, random, err, diag);
        break;
    }
}

/* ---- credits (R12) --------------------------------------------------------------------------- */

static void drop_wish(struct peer *p, size_t i)
{
    memmove(&p->wishes[i], &p->wishes[i + 1], (--p->wish_count - i) * sizeof p->wishes[0]);
}

void peer_want(struct peer *p, int64_t now_us, const struct uuid *scope_ref, int64_t count)
{
    const int64_t until_us = now_us + PEER_WISH_MS * US_PER_MS;

    must(count >= 1);
    for (size_t i = p->wish_under_way; i < p->wish_count; i++) {
        struct peer_wish *wish = &p->wishes[i];
        if (!uuid_equal(&wish->credits.scope_ref, scope_ref))
            continue;
        if (wish->credits.count < count)
            wish->credits.count = count;
        wish->until_us = until_us;
        return;
    }
    if (p->wish_count < PEER_WISHES_MAX)
        p->wishes[p->wish_count++] =
            (struct peer_wish){ { .scope_ref = *scope_ref, .count = count }, until_us };
}

bool peer_next_credits(struct peer *p, int64_t now_us, struct peer_credits *out, int64_t *wake_us)
{
    *wake_us = INT64_MAX;
    if (p->wish_under_way)
        return false;
    while (p->wish_count && p->wishes[0].until_us <= now_us)
        drop_wish(p, 0);
    if (!p->wish_count || p->state != REPLICATION_CONNECTED)
        return false;
    if (now_us < p->wish_not_before_us) {
        *wake_us = p->wish_not_before_us;
        return false;
    }
    *out = p->wishes[0].credits;
    p->wish_under_way = true;
    return true;
}

void peer_on_credits(struct peer *p, int64_t now_us, uint64_t random, bool again)
{
    must(p->wish_under_way && p->wish_count);
    p->wish_under_way = false;
    p->wish_failures = again ? p->wish_failures + 1 : 0;
    p->wish_not_before_us = again ? now_us + peer_pause_us(p->wish_failures, random) : 0;
    if (!again)
        drop_wish(p, 0);
}
