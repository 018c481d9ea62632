/* The state machine of replication: what it asks next, and what it makes of every answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "replication/peer.h"

#define SECOND INT64_C(1000000) /* µs */

static const struct uuid self = { { 1 } }, other = { { 2 } }, third = { { 3 } };
static const struct uuid scope_1 = { { 4 } }, scope_2 = { { 5 } };
static const struct uuid nobody;
static const struct diag because = { "because" };

static struct peer peer;
static int64_t now;

static void start(void)
{
    struct peer_conf conf = { .address = "other.example:443",
                              .primary = true,
                              .protocol = 2,
                              .protocol_min = 1,
                              .process = { 7 } };

    peer_init(&peer, &conf);
    now = 100 * SECOND;
}

static struct peer_hello their_hello(void)
{
    return (struct peer_hello){ .protocol = 2,
                                .protocol_min = 1,
                                .wall_ms = 1700000000000,
                                .nonce = { 8 },
                                .process = { 9 },
                                .url = "https://other.example",
                                .introduction = { .node_ref = other, .seq = 40 } };
}

/* The next task must be this one, at once. */
static void expect(enum peer_task task)
{
    int64_t wake;

    assert_int_equal(peer_next(&peer, now, &wake), task);
    assert_int_equal(wake, INT64_MAX);
    assert_int_equal(peer_next(&peer, now, &wake), PEER_REST); /* one at a time */
    assert_int_equal(wake, INT64_MAX);
}

/* There must be a pause of exactly `pause` µs, then this task. */
static void expect_after(int64_t pause, enum peer_task task)
{
    int64_t wake;

    assert_int_equal(peer_next(&peer, now, &wake), PEER_REST);
    assert_int_equal(wake, now + pause);
    now = wake - 1;
    assert_int_equal(peer_next(&peer, now, &wake), PEER_REST);
    now = wake;
    expect(task);
}

static void expect_state(enum replication_state state, enum err reason, const char *says)
{
    assert_int_equal(peer.state, state);
    assert_int_equal(peer.reason, reason);
    assert_non_null(strstr(peer.diag.text, says));
}

static void say_hello(void)
{
    struct peer_hello hello = their_hello();

    peer_on_hello(&peer, now, 0, &self, &hello);
}

static void meet(enum err refusal)
{
    struct peer_hello hello = their_hello();

    expect(PEER_DO_HELLO);
    say_hello();
    expect(PEER_DO_INTRODUCE);
    peer_on_introduced(&peer, now, 0, ERR_OK, NULL);
    expect(PEER_DO_MEET);
    peer_on_met(&peer, now, 0, &hello, refusal, refusal == ERR_OK ? NULL : &because);
}

static void to_changes(void)
{
    meet(ERR_OK);
    expect(PEER_DO_JUDGE);
    peer_on_judged(&peer, now, 0, ERR_OK, NULL, 12);
    expect(PEER_DO_CHANGES);
}

static struct ledger_page some_page(uint64_t upto, bool complete)
{
    return (struct ledger_page){ .sender = other,
                                 .receiver = self,
                                 .since = peer.since,
                                 .upto = upto,
                                 .refilled = true,
                                 .complete = complete,
                                 .lease_count = 3,
                                 .node_count = 2 };
}

static void merge(const struct ledger_page *page, enum err err, bool wipe)
{
    peer_on_page(&peer, now, page);
    expect(PEER_DO_MERGE);
    peer_on_merged(&peer, now, 0, err, err == ERR_OK ? NULL : &because, page, wipe);
}

static void connect_peer(void)
{
    to_changes();
    struct ledger_page page = some_page(40, true);
    merge(&page, ERR_OK, false);
    expect_state(REPLICATION_CONNECTED, ERR_OK, "");
}

/* ---- the happy path -------------------------------------------------------------------------- */

static void hello_meet_changes(void **state)
{
    (void)state;
    start();
    expect_state(REPLICATION_CONNECTING, ERR_PEER_AWAY, "");
    meet(ERR_OK);
    assert_false(peer.met);
    expect(PEER_DO_JUDGE);
    assert_true(uuid_equal(&peer.theirs.node_ref, &other));
    peer_on_judged(&peer, now, 0, ERR_OK, NULL, 12);
    assert_true(peer.met); /* R11: it told what it knows of us */
    assert_int_equal(peer.since, 12);
    assert_int_equal(peer.protocol, 2);
    assert_string_equal(peer.peer_url, "https://other.example");
    assert_false(peer.peer_primary);
    expect(PEER_DO_CHANGES);
    assert_int_equal(peer_wait_ms(&peer, 0, INT64_MAX, 0), 0); /* the first page comes at once */
    struct ledger_page page = some_page(40, true);
    merge(&page, ERR_OK, false);
    expect_state(REPLICATION_CONNECTED, ERR_OK, "");
    assert_int_equal(peer.since, 40);
    assert_true(peer.peer_ready && peer.pages == 1 && peer.rows == 5);
    expect(PEER_DO_CHANGES); /* right after the merge */
    assert_int_equal(peer_wait_ms(&peer, 0, INT64_MAX, 0), PEER_POLL_MAX_MS);
}

static void pages_that_stop_short_are_followed_at_once(void **state)
{
    (void)state;
    start();
    to_changes();
    struct ledger_page page = some_page(20, false);
    merge(&page, ERR_OK, false);
    assert_int_equal(peer.last_page_us, 0);
    expect(PEER_DO_CHANGES);
    assert_int_equal(peer.since, 20);
    assert_int_equal(peer_wait_ms(&peer, 0, INT64_MAX, 0), 0);
    page = some_page(40, true);
    merge(&page, ERR_OK, false);
    assert_int_equal(peer.last_page_us, now);
    expect(PEER_DO_CHANGES);
    assert_int_equal(peer_wait_ms(&peer, 0, INT64_MAX, 0), PEER_POLL_MAX_MS);
}

/* Behind from the first byte of a page until a completed one is merged. */
static void how_long_it_is_behind(void **state)
{
    (void)state;
    start();
    to_changes();
    assert_int_equal(peer.behind_since_us, 0);
    int64_t begun = now;
    peer_on_page_begun(&peer, now);
    now += SECOND;
    struct ledger_page page = some_page(20, false);
    merge(&page, ERR_OK, false);
    assert_int_equal(peer.behind_since_us, begun);
    now += SECOND;
    expect(PEER_DO_CHANGES);
    page = some_page(40, true);
    merge(&page, ERR_OK, false);
    assert_int_equal(peer.behind_since_us, 0);
}

/* R7: W must pass the end of the lease on the peer's clock, so the next page must not come before.
 */
static void the_next_poll_ends_when_a_lease_does(void **state)
{
    (void)state;
    start();
    connect_peer();
    assert_int_equal(peer_wait_ms(&peer, 1000, 3000, 0), 2000 + PEER_POLL_SLACK_MS);
    assert_int_equal(peer_wait_ms(&peer, 1000, 3000, 1500), 500 + PEER_POLL_SLACK_MS);
    assert_int_equal(peer_wait_ms(&peer, 1000, 3000, -1500), 3500 + PEER_POLL_SLACK_MS);
    assert_int_equal(peer_wait_ms(&peer, 1000, 1000, 0), PEER_POLL_MIN_MS);
    assert_int_equal(peer_wait_ms(&peer, 9000, 1000, 0), PEER_POLL_MIN_MS);
    assert_int_equal(peer_wait_ms(&peer, 9000, 1000, 300000), PEER_POLL_MAX_MS); /* no hurry */
    assert_int_equal(peer_wait_ms(&peer, 1000, 900000, 0), PEER_POLL_MAX_MS);
    assert_int_equal(peer_wait_ms(&peer, 1000, INT64_MAX, -300000), PEER_POLL_MAX_MS);
}

/* ---- pauses ---------------------------------------------------------------------------------- */

static void pauses_have_full_jitter_and_a_ceiling(void **state)
{
    (void)state;
    int64_t ceiling = PEER_PAUSE_MIN_MS * 1000;

    for (unsigned failures = 1; failures < 200; failures++) {
        assert_int_equal(peer_pause_us(failures, 0), 1);
        assert_int_equal(peer_pause_us(failures, (uint64_t)ceiling - 1), ceiling);
        assert_int_equal(peer_pause_us(failures, (uint64_t)ceiling), 1);
        assert_in_range(peer_pause_us(failures, UINT64_MAX), 1, ceiling);
        ceiling = ceiling * 2 < PEER_PAUSE_MAX_MS * 1000 ? ceiling * 2 : PEER_PAUSE_MAX_MS * 1000;
    }
    assert_int_equal(peer_pause_us(UINT32_MAX, PEER_PAUSE_MAX_MS * 1000 - 1),
                     PEER_PAUSE_MAX_MS * 1000);
}

static void failures_lengthen_the_pause_and_a_page_ends_it(void **state)
{
    (void)state;
    start();
    expect(PEER_DO_HELLO);
    for (unsigned failures = 1; failures < 12; failures++) {
        peer_on_failure(&peer, now, UINT64_MAX, PEER_FAILED_NETWORK, ERR_PEER_AWAY, &because);
        assert_int_equal(peer.failures, failures);
        expect_state(REPLICATION_AWAY, ERR_PEER_AWAY, "because");
        expect_after(peer_pause_us(failures, UINT64_MAX), PEER_DO_HELLO);
    }
    assert_int_equal(peer.state_changes, 1); /* one line in the log */
    assert_int_equal(peer.failed, 11);
    say_hello();
    expect(PEER_DO_INTRODUCE);
    peer_on_introduced(&peer, now, 0, ERR_OK, NULL);
    expect(PEER_DO_MEET);
    struct peer_hello hello = their_hello();
    peer_on_met(&peer, now, 0, &hello, ERR_OK, NULL);
    expect(PEER_DO_JUDGE);
    peer_on_judged(&peer, now, 0, ERR_OK, NULL, 0);
    assert_int_equal(peer.failures, 11); /* meeting alone is no success: the page may be refused */
    expect(PEER_DO_CHANGES);
    struct ledger_page page = some_page(1, true);
    merge(&page, ERR_OK, false);
    assert_int_equal(peer.failures, 0);
    assert_int_equal(peer.state_changes, 2);
}

static void a_nudge_ends_a_pause_but_not_too_often(void **state)
{
    (void)state;
    start();
    expect(PEER_DO_HELLO);
    peer_nudge(&peer, now); /* under way: changes nothing */
    for (int i = 0; i < 10; i++) {
        peer_on_failure(&peer, now, UINT64_MAX / 3, PEER_FAILED_CLOSED, ERR_PEER_AWAY, &because);
        peer.not_before_us = now + 4 * SECOND;
        peer_nudge(&peer, now);
        if (i == 0)
            expect(PEER_DO_HELLO);
        else
            expect_after(PEER_NUDGE_MS * 1000, PEER_DO_HELLO);
    }
    start();
    connect_peer();
    expect(PEER_DO_CHANGES);
    peer_nudge(&peer, now);
    int64_t wake;
    assert_int_equal(peer_next(&peer, now, &wake), PEER_REST); /* the poll goes on */
}

/* ---- failures on the way --------------------------------------------------------------------- */

/* R11: where nobody is, nobody knows more of us; anywhere else somebody might. */
static void only_a_closed_port_counts_as_met(void **state)
{
    (void)state;
    static const struct {
        enum peer_failure failure;
        enum err err;
        enum replication_state state;
        bool met;
    } cases[] = {
        { PEER_FAILED_CLOSED, ERR_PEER_AWAY, REPLICATION_AWAY, true },
        { PEER_FAILED_NETWORK, ERR_PEER_AWAY, REPLICATION_AWAY, false },
        { PEER_FAILED_TIMEOUT, ERR_PEER_AWAY, REPLICATION_AWAY, false },
        { PEER_FAILED_CERTIFICATE, ERR_TLS, REPLICATION_REFUSED, false },
        { PEER_FAILED_ANSWER, ERR_PEER_AWAY, REPLICATION_AWAY, false },
        { PEER_FAILED_ANSWER, ERR_BAD_JSON, REPLICATION_AWAY, false },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        start();
        expect(PEER_DO_HELLO);
        peer_on_failure(&peer, now, 0, cases[i].failure, cases[i].err, &because);
        expect_state(cases[i].state, cases[i].err, "because");
        assert_int_equal(peer.met, cases[i].met);
        expect_after(1, PEER_DO_HELLO);
    }
}

static void a_slow_wire_gets_smaller_pages(void **state)
{
    (void)state;
    start();
    to_changes();
    assert_int_equal(peer.limit, PAGE_ROWS_MAX);
    peer_on_failure(&peer, now, 0, PEER_FAILED_TIMEOUT, ERR_PEER_AWAY, &because);
    assert_int_equal(peer.limit, PAGE_ROWS_MAX / 2);
    now += SECOND;
    to_changes();
    for (size_t limit = PAGE_ROWS_MAX / 2; limit > 1;) { /* too large: asks again at once */
        if (limit % 2)
            peer_on_problem(&peer, now, 0, &other, ERR_BODY_TOO_LARGE, &because);
        else
            peer_on_failure(&peer, now, 0, PEER_FAILED_ANSWER, ERR_BODY_TOO_LARGE, &because);
        limit /= 2;
        assert_int_equal(peer.limit, limit);
        expect(PEER_DO_CHANGES);
    }
    struct ledger_page page = some_page(13, false);
    merge(&page, ERR_OK, false);
    assert_int_equal(peer.limit, 2);
    for (int i = 0; i < 20; i++) {
        expect(PEER_DO_CHANGES);
        merge(&page, ERR_OK, false);
    }
    assert_int_equal(peer.limit, PAGE_ROWS_MAX);
    expect(PEER_DO_CHANGES);
    peer.limit = 1; /* one row is too large: nothing helps */
    peer_on_problem(&peer, now, 0, &other, ERR_BODY_TOO_LARGE, &because);
    expect_state(REPLICATION_REFUSED, ERR_BODY_TOO_LARGE, "because");
}

/* ---- wrong pairings -------------------------------------------------------------------------- */

static void expect_refused(const struct peer_hello *hello, enum err reason, const char *says)
{
    start();
    expect(PEER_DO_HELLO);
    peer_on_hello(&peer, now, 0, &self, hello);
    expect_state(REPLICATION_REFUSED, reason, says);
    assert_true(peer.met);
    expect_after(1, PEER_DO_HELLO); /* the fix may be made over there */
    assert_int_equal(peer.state_changes, 1);
}

static void wrong_pairings_are_refused_with_the_fix(void **state)
{
    (void)state;
    struct peer_hello hello = their_hello();

    hello.process[0] = 7;
    expect_refused(&hello, ERR_PEER_SELF, "leads back to this node; set it to the other node's");
    hello = their_hello();
    hello.introduction.node_ref = self;
    expect_refused(&hello, ERR_PEER_SELF, "give one of the nodes an empty database");
    hello = their_hello();
    hello.primary = true;
    expect_refused(&hello, ERR_PEER_ROLE, "both nodes have HA_ROLE=PRIMARY; set the other role");
    hello = their_hello();
    hello.protocol = 4, hello.protocol_min = 3;
    expect_refused(&hello, ERR_PEER_PROTOCOL,
                   "speaks protocol 3 to 4, this one 1 to 2; upgrade the older one");
}

/* N and N-1 replicate, N and N-2 do not. */
static void protocols_are_negotiated(void **state)
{
    (void)state;
    static const struct {
        int64_t ours_min, ours, theirs_min, theirs, spoken; /* 0: none */
    } cases[] = {
        { 1, 1, 1, 1, 1 }, { 1, 2, 1, 1, 1 }, { 1, 1, 1, 2, 1 }, { 1, 2, 1, 2, 2 },
        { 1, 2, 2, 3, 2 }, { 2, 3, 1, 2, 2 }, { 1, 1, 2, 3, 0 }, { 2, 3, 1, 1, 0 },
        { 1, 2, 3, 4, 0 }, { 3, 4, 1, 2, 0 },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct peer_hello hello = their_hello();
        start();
        peer.conf.protocol = cases[i].ours, peer.conf.protocol_min = cases[i].ours_min;
        hello.protocol = cases[i].theirs, hello.protocol_min = cases[i].theirs_min;
        expect(PEER_DO_HELLO);
        peer_on_hello(&peer, now, 0, &self, &hello);
        if (cases[i].spoken) {
            assert_int_equal(peer.protocol, cases[i].spoken);
            expect(PEER_DO_INTRODUCE);
        } else {
            expect_state(REPLICATION_REFUSED, ERR_PEER_PROTOCOL, "upgrade");
        }
    }
}

static void another_key_is_told_from_stale_nonces(void **state)
{
    (void)state;
    static const enum err errs[] = { ERR_TOKEN_INVALID, ERR_TOKEN_INSTANCE };

    for (size_t i = 0; i < ARRAY_SIZE(errs); i++) {
        start(); /* they do not take ours */
        expect(PEER_DO_HELLO);
        peer_on_problem(&peer, now, 0, &nobody, errs[i], &because);
        expect_state(REPLICATION_REFUSED, ERR_PEER_INSTANCE, "INSTANCE_KEY_RSA");
        start(); /* we do not take theirs */
        expect(PEER_DO_HELLO);
        peer_on_failure(&peer, now, 0, PEER_FAILED_ANSWER, errs[i], &because);
        expect_state(REPLICATION_REFUSED, ERR_PEER_INSTANCE, "INSTANCE_KEY_RSA");
    }
    start(); /* the peer was restarted: hello again at once, and no word about it */
    connect_peer();
    uint64_t changes = peer.state_changes;
    expect(PEER_DO_CHANGES);
    peer_on_problem(&peer, now, 0, &nobody, ERR_TOKEN_EXPIRED, &because);
    assert_int_equal(peer.state_changes, changes);
    to_changes();
    peer_on_problem(&peer, now, 0, &nobody, ERR_TOKEN_EXPIRED,
                    &because); /* again: that is not it */
    expect_state(REPLICATION_REFUSED, ERR_TOKEN_EXPIRED, "compare the clocks");
}

static void what_the_server_refuses_is_reported(void **state)
{
    (void)state;
    static const enum err errs[] = { ERR_PEER_ROLE, ERR_PEER_SELF, ERR_PEER_PROTOCOL,
                                     ERR_PEER_NONE };
    for (size_t i = 0; i < ARRAY_SIZE(errs); i++) {
        start();
        meet(errs[i]); /* configuration: our ledger is not asked */
        expect_state(REPLICATION_REFUSED, errs[i], "other.example:443 refuses: because");
        expect_after(1, PEER_DO_HELLO);
    }
    start();
    expect(PEER_DO_HELLO);
    peer_on_problem(&peer, now, 0, &other, ERR_NOT_READY, &because);
    expect_state(REPLICATION_AWAY, ERR_NOT_READY, "refuses: because");
    assert_false(peer.met);
}

/* R11: it refuses, but what it says of us is looked at first. */
static void a_refusal_is_judged_before_it_counts(void **state)
{
    (void)state;
    start();
    meet(ERR_PEER_UNKNOWN);
    expect(PEER_DO_JUDGE);
    assert_int_equal(peer.state, REPLICATION_CONNECTING);
    peer_on_judged(&peer, now, 0, ERR_OK, NULL, 3);
    expect_state(REPLICATION_REFUSED, ERR_PEER_UNKNOWN, "refuses: because");

    start();
    meet(ERR_PEER_UNKNOWN);
    expect(PEER_DO_JUDGE);
    peer_on_judged(&peer, now, 0, ERR_HISTORY_LOST, &because, 0);
    assert_false(peer.met); /* under its new name it has met nobody yet */
    assert_int_equal(peer.state, REPLICATION_CONNECTING);
    expect_after(1, PEER_DO_HELLO);

    start();
    meet(ERR_OK);
    expect(PEER_DO_JUDGE);
    peer_on_judged(&peer, now, 0, ERR_PEER_FOREIGN, &because, 0);
    expect_state(REPLICATION_REFUSED, ERR_PEER_FOREIGN, "because");
    assert_true(peer.met);
}

/* R11: only an operator can start again, so he must be told, whoever noticed. */
static void both_lost_is_refused_by_either(void **state)
{
    (void)state;
    start();
    meet(ERR_NODE_UNFILLED);
    expect(PEER_DO_JUDGE);
    peer_on_judged(&peer, now, 0, ERR_OK, NULL, 0);
    expect_state(REPLICATION_REFUSED, ERR_NODE_UNFILLED, "refuses: because");

    start();
    meet(ERR_OK);
    expect(PEER_DO_JUDGE);
    peer_on_judged(&peer, now, 0, ERR_NODE_UNFILLED, &because, 0);
    expect_state(REPLICATION_REFUSED, ERR_NODE_UNFILLED, "because");
    expect_after(1, PEER_DO_HELLO);
}

/* ---- our own ledger -------------------------------------------------------------------------- */

static void a_busy_ledger_is_asked_again(void **state)
{
    (void)state;
    struct ledger_page page;

    start();
    expect(PEER_DO_HELLO);
    say_hello();
    expect(PEER_DO_INTRODUCE);
    peer_on_introduced(&peer, now, 0, ERR_STORE_AWAY, &because);
    expect_after(1, PEER_DO_INTRODUCE);
    peer_on_introduced(&peer, now, 0, ERR_OK, NULL);
    expect(PEER_DO_MEET);
    struct peer_hello hello = their_hello();
    peer_on_met(&peer, now, 0, &hello, ERR_OK, NULL);
    expect(PEER_DO_JUDGE);
    peer_on_judged(&peer, now, 0, ERR_OVERLOADED, &because, 0);
    expect_after(1, PEER_DO_JUDGE);
    peer_on_judged(&peer, now, 0, ERR_OK, NULL, 12);
    expect(PEER_DO_CHANGES);
    page = some_page(20, true);
    peer_on_page(&peer, now, &page);
    expect(PEER_DO_MERGE);
    peer_on_merged(&peer, now, 0, ERR_STORE_UNKNOWN, &because, &page, false);
    assert_int_equal(peer.since, 12); /* not before it is committed (R8) */
    expect_after(1, PEER_DO_MERGE);
    peer_on_merged(&peer, now, 0, ERR_OK, NULL, &page, false);
    assert_int_equal(peer.since, 20);
    expect_state(REPLICATION_CONNECTED, ERR_OK, "");
}

static void a_refused_page_is_counted_and_told_once(void **state)
{
    (void)state;
    start();
    connect_peer();
    for (uint64_t i = 1; i <= 3; i++) {
        if (i == 1)
            expect(PEER_DO_CHANGES);
        else
            to_changes();
        struct ledger_page page = some_page(50, true);
        merge(&page, ERR_PAGE_REFUSED, false);
        expect_state(REPLICATION_REFUSED, ERR_PAGE_REFUSED, "because");
        assert_int_equal(peer.refused, i);
        assert_int_equal(peer.failures, i);
        assert_int_equal(peer.state_changes, 2); /* connected, refused */
        now += 6 * SECOND;
    }
    to_changes();
    peer_on_failure(&peer, now, 0, PEER_FAILED_ANSWER, ERR_PAGE_REFUSED, &because);
    assert_int_equal(peer.refused, 4);
    assert_int_equal(peer.state_changes, 2);
    assert_int_equal(peer.since, 12);
}

static void a_wiped_ledger_begins_at_hello(void **state)
{
    (void)state;
    start();
    to_changes();
    struct ledger_page page = some_page(40, true);
    merge(&page, ERR_OK, true); /* R11 */
    assert_int_equal(peer.pages, 0);
    to_changes();
}

static void a_lost_history_begins_at_hello(void **state)
{
    (void)state;
    start();
    to_changes();
    struct ledger_page page = some_page(40, true);
    merge(&page, ERR_HISTORY_LOST, false);
    expect_after(1, PEER_DO_HELLO);
    peer_restart(&peer, now); /* the node has its new node_ref */
    to_changes();
}

/* ---- retirement (R10) ------------------------------------------------------------------------ */

static void a_signed_dismissal_is_final(void **state)
{
    (void)state;
    start();
    connect_peer();
    expect(PEER_DO_CHANGES);
    peer_on_problem(&peer, now, 0, &third, ERR_PEER_RETIRED, &because);
    expect(PEER_DO_DISMISS);
    assert_true(uuid_equal(&peer.peer_ref, &third)); /* who says so */
    peer_on_dismissed(&peer, now, 0, ERR_STORE_AWAY);
    expect_after(1, PEER_DO_DISMISS);
    peer_on_dismissed(&peer, now, 0, ERR_OK);
    expect_state(REPLICATION_REFUSED, ERR_NODE_RETIRED,
                 "by node 03000000-0000-0000-0000-000000000000 (R10); start it with an empty");

    start(); /* at the first meeting, too */
    meet(ERR_PEER_RETIRED);
    expect(PEER_DO_DISMISS);
    assert_true(uuid_equal(&peer.peer_ref, &other));
    peer_on_dismissed(&peer, now, 0, ERR_NODE_RETIRED); /* already known */
    expect_state(REPLICATION_REFUSED, ERR_NODE_RETIRED, "empty database");
}

static void an_unsigned_dismissal_is_not_believed(void **state)
{
    (void)state;
    start();
    connect_peer();
    expect(PEER_DO_CHANGES);
    peer_on_problem(&peer, now, 0, &nobody, ERR_PEER_RETIRED, &because);
    expect_state(REPLICATION_REFUSED, ERR_PEER_RETIRED, "refuses: because");
    expect_after(1, PEER_DO_HELLO); /* and not DISMISS */
}

static void a_retired_node_says_so(void **state)
{
    (void)state;
    start();
    expect(PEER_DO_HELLO);
    say_hello();
    expect(PEER_DO_INTRODUCE);
    peer_on_introduced(&peer, now, 0, ERR_NODE_RETIRED, &because);
    expect_state(REPLICATION_REFUSED, ERR_NODE_RETIRED, "because");
}

/* ---- who answers ----------------------------------------------------------------------------- */

static void a_peer_that_changes_its_name_is_asked_anew(void **state)
{
    (void)state;
    struct peer_hello hello = their_hello();

    start();
    expect(PEER_DO_HELLO);
    say_hello();
    expect(PEER_DO_INTRODUCE);
    peer_on_introduced(&peer, now, 0, ERR_OK, NULL);
    expect(PEER_DO_MEET);
    hello.introduction.node_ref = third; /* R11 */
    peer_on_met(&peer, now, 0, &hello, ERR_OK, NULL);
    expect(PEER_DO_HELLO);
}

static void tokens_are_made_for_the_peers_clock(void **state)
{
    (void)state;
    start();
    expect(PEER_DO_HELLO);
    say_hello();
    int64_t at_once = peer_token_expiry_ms(&peer, now);
    assert_in_range(at_once, 1700000000000 + 5000,
                    1700000000000 + PEER_TOKEN_SECONDS * 1000 - 5000);
    assert_int_equal(peer_token_expiry_ms(&peer, now + 90 * SECOND), at_once + 90000);
}

/* ---- credits (R12) --------------------------------------------------------------------------- */

static bool next_wish(struct peer_credits *out)
{
    int64_t wake;

    return peer_next_credits(&peer, now, out, &wake);
}

static void credits_are_asked_for_while_connected(void **state)
{
    (void)state;
    struct peer_credits out;

    start();
    peer_want(&peer, now, &scope_1, 5);
    assert_false(next_wish(&out)); /* nobody to ask */
    connect_peer();
    expect(PEER_DO_CHANGES); /* beside the long poll */
    assert_true(next_wish(&out));
    assert_true(uuid_equal(&out.scope_ref, &scope_1) && out.count == 5);
    assert_false(next_wish(&out)); /* one at a time */
    peer_on_credits(&peer, now, 0, false);
    assert_false(next_wish(&out));
}

static void wishes_for_one_scope_become_the_largest(void **state)
{
    (void)state;
    struct peer_credits out;

    start();
    connect_peer();
    peer_want(&peer, now, &scope_1, 5);
    peer_want(&peer, now, &scope_2, 1);
    peer_want(&peer, now, &scope_1, 9);
    peer_want(&peer, now, &scope_1, 2);
    assert_int_equal(peer.wish_count, 2);
    assert_true(next_wish(&out) && out.count == 9);
    peer_want(&peer, now, &scope_1, 3); /* the one under way is no longer to be changed */
    assert_int_equal(peer.wish_count, 3);
    peer_on_credits(&peer, now, 0, false);
    assert_true(next_wish(&out) && uuid_equal(&out.scope_ref, &scope_2));
    peer_on_credits(&peer, now, 0, false);
    assert_true(next_wish(&out) && out.count == 3);
}

static void wishes_are_bounded_in_time_and_number(void **state)
{
    (void)state;
    struct peer_credits out;
    int64_t wake;

    start();
    connect_peer();
    peer_want(&peer, now, &scope_1, 5);
    assert_true(next_wish(&out));
    peer_on_credits(&peer, now, 41999, true); /* 42 ms */
    assert_false(peer_next_credits(&peer, now, &out, &wake));
    assert_int_equal(wake, now + 42000);
    now = wake;
    assert_true(next_wish(&out) && out.count == 5);
    peer_on_credits(&peer, now, 0, true);
    now += PEER_WISH_MS * 1000;
    assert_false(next_wish(&out)); /* nobody waits any more */
    assert_int_equal(peer.wish_count, 0);
    for (uint8_t i = 1; i < 200; i++)
        peer_want(&peer, now, &(struct uuid){ { i } }, 1);
    assert_int_equal(peer.wish_count, PEER_WISHES_MAX);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(hello_meet_changes),
        cmocka_unit_test(pages_that_stop_short_are_followed_at_once),
        cmocka_unit_test(how_long_it_is_behind),
        cmocka_unit_test(the_next_poll_ends_when_a_lease_does),
        cmocka_unit_test(pauses_have_full_jitter_and_a_ceiling),
        cmocka_unit_test(failures_lengthen_the_pause_and_a_page_ends_it),
        cmocka_unit_test(a_nudge_ends_a_pause_but_not_too_often),
        cmocka_unit_test(only_a_closed_port_counts_as_met),
        cmocka_unit_test(a_slow_wire_gets_smaller_pages),
        cmocka_unit_test(wrong_pairings_are_refused_with_the_fix),
        cmocka_unit_test(protocols_are_negotiated),
        cmocka_unit_test(another_key_is_told_from_stale_nonces),
        cmocka_unit_test(what_the_server_refuses_is_reported),
        cmocka_unit_test(a_refusal_is_judged_before_it_counts),
        cmocka_unit_test(both_lost_is_refused_by_either),
        cmocka_unit_test(a_busy_ledger_is_asked_again),
        cmocka_unit_test(a_refused_page_is_counted_and_told_once),
        cmocka_unit_test(a_wiped_ledger_begins_at_hello),
        cmocka_unit_test(a_lost_history_begins_at_hello),
        cmocka_unit_test(a_signed_dismissal_is_final),
        cmocka_unit_test(an_unsigned_dismissal_is_not_believed),
        cmocka_unit_test(a_retired_node_says_so),
        cmocka_unit_test(a_peer_that_changes_its_name_is_asked_anew),
        cmocka_unit_test(tokens_are_made_for_the_peers_clock),
        cmocka_unit_test(credits_are_asked_for_while_connected),
        cmocka_unit_test(wishes_for_one_scope_become_the_largest),
        cmocka_unit_test(wishes_are_bounded_in_time_and_number),
    };
    return cmocka_run_group_tests_name("peer state", tests, NULL, NULL);
}
