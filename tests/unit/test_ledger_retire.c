/* R10: a node that has stopped for good, one that only seemed to have, and one that is drained. */
#include "ledger_story.h"

/* Leases are a day long, clocks differ by five minutes. */
#define WAIT_MS (DAY + 2 * PAIR_SKEW_MS)

static int64_t free_at(struct story *s)
{
    return scope_now(s, 1).free_here;
}

/* Ten seats, five at each node; both listen. */
static void begin(struct story *a, struct story *b)
{
    pair_install(a, b, &(struct ent_spec){ SEATS(10) });
    pair_wait(a, b, MINUTE);
    pair_tell(a, b);
    pair_tell(b, a);
}

static void grant(struct story *s, unsigned lease)
{
    assert_ok(s, story_grant(s, ANN, LEASE(lease, .duration_ms = HOUR)));
}

/* ---- what the dead one may have promised ------------------------------------------------------
 */

static void r10_free_credits_of_the_dead_stay_locked(void **state)
{
    PAIR(a, b);
    (void)state;

    begin(&a, &b);
    int64_t until_ms = a.now_ms + WAIT_MS;
    assert_ok(&a, story_retire(&a, PEER));
    assert_int_equal(a.result.affected, 1);
    assert_int_equal(a.result.wait_ms, until_ms);
    assert_int_equal(ledger_pair(a.ledger).wait_ms, until_ms);
    struct ledger_pair pair = ledger_pair(a.ledger);
    assert_true(uuid_is_nil(&pair.partner));
    assert_int_equal(node_row_of(&a, 2)->heir.bytes[15], 1);
    assert_free(&a, 1, 5);
    assert_int_equal(scope_now(&a, 1).locked, 5);
    assert_int_equal(scope_now(&a, 1).locked_until_ms, until_ms);
    assert_int_equal(scope_now(&a, 1).at_peer, 0);
    assert_err(&a, ERR_NO_FREE_SEAT, story_grant(&a, ANN, LEASE(1, .count = 6)));
    assert_ok(&a, story_grant(&a, ANN, LEASE(1, .count = 5)));
    story_wait(&a, WAIT_MS - 1);
    assert_int_equal(scope_now(&a, 1).locked, 5);
    assert_true(ledger_next_due(a.ledger) <= until_ms);
    story_restart(&a);
    assert_int_equal(scope_now(&a, 1).locked, 5);
    story_wait(&a, 1);
    assert_int_equal(scope_now(&a, 1).locked, 0);
    assert_free(&a, 1, 10); /* the own lease is over as well */
    assert_int_equal(ledger_pair(a.ledger).wait_ms, 0);
}

/* The wait is long enough for whatever it does until it is told. */
static void r10_a_retired_node_that_lives_oversells_nothing(void **state)
{
    PAIR(a, b);
    (void)state;

    begin(&a, &b);
    b.now_ms -= PAIR_SKEW_MS;
    assert_ok(&a, story_retire(&a, PEER));
    story_wait(&b, PAIR_SKEW_MS); /* cut off, it serves until it hears of its retirement */
    assert_ok(&b, story_grant(&b, BOB, LEASE(1, .count = 5)));
    assert_err(&b, ERR_SEATS_AT_PEER, story_grant(&b, BOB, LEASE(2)));
    assert_ok(&b, story_dismissed(&b, 1));
    for (int64_t left_ms = WAIT_MS; left_ms > 0; left_ms -= 2 * HOUR) {
        while (free_at(&a) > 0)
            grant(&a, 100 + (unsigned)ledger_seq(a.ledger));
        assert_not_oversold(&a, &b);
        story_wait(&a, 2 * HOUR);
        b.now_ms += 2 * HOUR;
    }
    assert_true(free_at(&a) > 5);
}

static void r10_shared_leases_wait_later_ones_do_not(void **state)
{
    PAIR(a, b);
    (void)state;

    begin(&a, &b);
    grant(&a, 1);
    assert_true(last_lease(&a)->shared); /* b may know its token, and renew it */
    story_wait(&a, 1);
    assert_ok(&a, story_retire(&a, PEER));
    story_wait(&a, 1);
    grant(&a, 2);
    assert_false(last_lease(&a)->shared); /* R3 */
    story_wait(&a, HOUR);
    assert_int_equal(lease_row_of(&a, 1, 1)->state, LEASE_ACTIVE);
    assert_int_equal(lease_row_of(&a, 2, 1)->state, LEASE_EXPIRED);
    story_wait(&a, WAIT_MS - HOUR - 2);
    assert_int_equal(lease_row_of(&a, 1, 1)->state, LEASE_ACTIVE);
    story_wait(&a, 1);
    assert_int_equal(lease_row_of(&a, 1, 1)->state, LEASE_EXPIRED);
}

/* R7, R8: what its last W covers it had told. */
static void r10_no_wait_for_what_its_watermark_covers(void **state)
{
    PAIR(a, b);
    (void)state;

    begin(&a, &b);
    grant(&a, 1);
    int64_t expires_ms = last_lease(&a)->expires_ms;
    a.now_ms = expires_ms - MINUTE;
    b.now_ms = expires_ms + 1;
    pair_settle(&a, &b);
    pair_tell(&b, &a);
    assert_ok(&a, story_retire(&a, PEER));
    story_wait(&a, MINUTE - 1);
    assert_int_equal(lease_row_of(&a, 1, 1)->state, LEASE_ACTIVE);
    story_wait(&a, 1);
    assert_int_equal(lease_row_of(&a, 1, 1)->state, LEASE_EXPIRED);
}

/* R6: an end that it acknowledged is one; any other waits, but not that of a lease it never knew.
 */
static void r10_missing_acknowledgements_wait(void **state)
{
    PAIR(a, b);
    (void)state;

    begin(&a, &b);
    grant(&a, 1);
    grant(&a, 2);
    grant(&a, 3);
    pair_settle(&a, &b);
    assert_ok(&a, story_release(&a, ANN, 1, NULL));
    pair_settle(&a, &b);
    assert_int_equal(scope_now(&a, 1).waiting, 0);
    assert_ok(&a, story_release(&a, ANN, 2, NULL));
    pair_tell(&a, &b);
    story_wait(&a, 1);
    assert_ok(&a, story_retire(&a, PEER)); /* b's acknowledgement was on its way */
    assert_int_equal(scope_now(&a, 1).waiting, 1);
    assert_ok(&a, story_release(&a, ANN, 3, NULL));
    assert_int_equal(scope_now(&a, 1).waiting, 2);
    story_wait(&a, 1);
    grant(&a, 4);
    assert_ok(&a, story_release(&a, ANN, 4, NULL));
    assert_int_equal(scope_now(&a, 1).waiting, 2);
    story_wait(&a, 2 * HOUR);
    assert_ok(&a, story_purge(&a, 9));
    assert_non_null(lease_row_of(&a, 2, 1)); /* R5 */
    story_restart(&a);
    assert_int_equal(scope_now(&a, 1).waiting, 2);
    story_wait(&a, WAIT_MS - 2 * HOUR - 1);
    assert_int_equal(scope_now(&a, 1).waiting, 0);
    assert_ok(&a, story_purge(&a, 9));
    assert_int_equal(ledger_counts(a.ledger).leases, 0);
}

/* R5: an end may be acknowledged, and the record be needed still. */
static void r10_records_outlast_the_wait(void **state)
{
    PAIR(a, b);
    (void)state;

    begin(&a, &b);
    grant(&a, 1);
    pair_settle(&a, &b);
    assert_ok(&a, story_release(&a, ANN, 1, NULL));
    pair_settle(&a, &b);
    assert_int_equal(scope_now(&a, 1).waiting, 0);
    assert_ok(&a, story_retire(&a, PEER));
    story_wait(&a, WAIT_MS - 1);
    assert_ok(&a, story_purge(&a, 9));
    assert_non_null(lease_row_of(&a, 1, 1));
    story_wait(&a, 1);
    assert_ok(&a, story_purge(&a, 9));
    assert_null(lease_row_of(&a, 1, 1));
}

/* Renewed by the survivor until after the wait, and released before. */
static void r10_the_end_of_the_wait_gives_seats_back(void **state)
{
    PAIR(a, b);
    (void)state;

    begin(&a, &b);
    assert_ok(&a, story_grant(&a, ANN, LEASE(1)));
    assert_ok(&a, story_retire(&a, PEER));
    story_wait(&a, 20 * HOUR);
    assert_ok(&a, story_renew(&a, ANN, 1, NULL));
    assert_ok(&a, story_release(&a, ANN, 1, NULL));
    assert_int_equal(scope_now(&a, 1).waiting, 1);
    grant(&a, 2);
    story_wait(&a, 2 * HOUR); /* something else is due, and everything looked at */
    assert_int_equal(scope_now(&a, 1).waiting, 1);
    story_wait(&a, WAIT_MS - 22 * HOUR);
    assert_true(lease_row_of(&a, 1, 1)->expires_ms > a.now_ms);
    assert_int_equal(scope_now(&a, 1).waiting, 0);
}

/* ---- inheriting -------------------------------------------------------------------------------
 */

static void r10_its_leases_belong_to_the_heir(void **state)
{
    PAIR(a, b);
    (void)state;

    begin(&a, &b);
    grant(&b, 1);
    grant(&b, 2);
    pair_settle(&a, &b);
    grant(&b, 3); /* never told … */
    struct lease_evidence token = evidence_last(&b);
    assert_ok(&a, story_retire(&a, PEER));
    assert_int_equal(scope_now(&a, 1).locked + free_at(&a), 8);
    assert_ok(&a, story_renew(&a, ANN, 3, &token)); /* … but by its token (I2) */
    assert_int_equal(scope_now(&a, 1).used, 3);
    assert_int_equal(scope_now(&a, 1).locked + free_at(&a), 7);
    assert_ok(&a, story_renew(&a, ANN, 1, NULL));
    assert_ok(&a, story_release(&a, ANN, 2, NULL));
    assert_int_equal(scope_now(&a, 1).waiting, 1); /* b may renew it, unheard */
    story_wait(&a, 2 * HOUR);
    assert_int_equal(lease_row_of(&a, 1, 2)->state, LEASE_ACTIVE);
    story_wait(&a, WAIT_MS - 2 * HOUR);
    assert_int_equal(lease_row_of(&a, 1, 2)->state, LEASE_EXPIRED); /* R7: by the heir */
    assert_int_equal(scope_now(&a, 1).used, 0);
    assert_free(&a, 1, 10);
    assert_ok(&a, story_grant(&a, ANN, LEASE(9, .count = 10)));
}

/* R2: what it lacked after a reduction is the heir's to make up for, from the first day. */
static void r10_its_debts_count_at_once(void **state)
{
    PAIR(a, b);
    (void)state;

    pair_install(&b, &a, &(struct ent_spec){ SEATS(10) });
    assert_ok(&b, story_grant(&b, ANN, LEASE(1, .count = 5)));
    assert_ok(&b, story_install(&b, &(struct ent_spec){ SEATS(6), .revision = 2 }));
    assert_ok(&b, story_prove(&b, BOB));
    AUTO(ledger_page_free) struct ledger_page *page = pair_page(&b, &a, 3);
    assert_int_equal(page->entitlement_count, 1);
    assert_false(page->complete); /* dies while it tells */
    assert_ok(&a, story_merge(&a, page));
    assert_free(&a, 1, 1);
    assert_ok(&a, story_retire(&a, PEER));
    assert_free(&a, 1, 1); /* 5 of 6 are held there */
    story_wait(&a, WAIT_MS);
    assert_free(&a, 1, 6);
}

/* A mint of the dead one cannot be unmade, one that it may have made unseen cannot be doubled. */
static void r2_what_is_minted_after_a_retirement_waits(void **state)
{
    PAIR(a, b);
    (void)state;

    begin(&a, &b);
    assert_ok(&a, story_install(&a, &(struct ent_spec){ SEATS(12), .revision = 2 }));
    assert_ok(&a, story_retire(&a, PEER));
    assert_int_equal(scope_now(&a, 1).pending, 2);
    assert_ok(&a, story_install(&a, &(struct ent_spec){ SEATS(15), .revision = 3 }));
    assert_false(a.result.usable);
    assert_int_equal(scope_now(&a, 1).pending, 5);
    story_wait(&a, WAIT_MS - 1);
    assert_int_equal(scope_now(&a, 1).pending, 5);
    struct rows stopped;
    story_save(&a, &stopped);
    story_restart(&a);
    assert_int_equal(ledger_next_due(a.ledger), a.now_ms + 1); /* wakes up by itself */
    story_wait(&a, 1);
    assert_int_equal(scope_now(&a, 1).pending, 0);
    story_roll_back(&a, &stopped); /* the wait ends while it is down */
    rows_fini(&stopped);
    assert_int_equal(scope_now(&a, 1).pending, 0);
    assert_free(&a, 1, 15);
    assert_ok(&a, story_install(&a, &(struct ent_spec){ SEATS(16), .revision = 4 }));
    assert_true(a.result.usable);
}

/* A third node joins, and inherits what was inherited: the latest wait on the way counts. */
static void begin_chain(struct story *a, struct story *b, struct story *c)
{
    begin(a, b);
    grant(b, 1);
    pair_settle(a, b);
    assert_ok(a, story_retire(a, PEER));
    story_begin_as(c, THIRD_NODE, true);
    c->conf.skew_max_ms = PAIR_SKEW_MS;
    c->now_ms = a->now_ms;
    story_restart(c);
    assert_int_equal(pair_meet(c, a), ERR_OK);
    pair_settle(a, c);
    pair_wait(a, c, HOUR);
    pair_tell(a, c);
    pair_settle(a, c);
}

/* R10: neither what was granted after the retirement, nor what a node grants that never had the
 * retired one as its partner, waits for it. */
static void r10_later_leases_do_not_wait(void **state)
{
    struct story c __attribute__((cleanup(story_end)));
    PAIR(a, b);
    (void)state;

    begin_chain(&a, &b, &c);
    pair_tell(&c, &a); /* so that c's leases are shared */
    grant(&a, 2);
    grant(&c, 3);
    assert_true(last_lease(&c)->shared);
    pair_settle(&a, &c);
    pair_wait(&a, &c, HOUR + 1);
    pair_tell(&a, &c);
    pair_tell(&c, &a);
    assert_int_equal(lease_row_of(&a, 2, 1)->state, LEASE_EXPIRED);
    assert_int_equal(lease_row_of(&c, 3, 3)->state, LEASE_EXPIRED);
    assert_int_equal(lease_row_of(&a, 1, 2)->state, LEASE_ACTIVE); /* this one does */
}

/* The newcomer's clock may be behind: that it never had the retired one as its partner is enough.
 */
static void r10_a_newcomers_leases_do_not_wait(void **state)
{
    struct story c __attribute__((cleanup(story_end)));
    PAIR(a, b);
    (void)state;

    begin(&a, &b);
    story_begin_as(&c, THIRD_NODE, true);
    c.conf.skew_max_ms = PAIR_SKEW_MS;
    c.now_ms = a.now_ms;
    story_restart(&c);
    a.now_ms += 4 * MINUTE;
    assert_ok(&a, story_retire(&a, PEER));
    assert_int_equal(pair_meet(&c, &a), ERR_OK);
    pair_settle(&a, &c);
    pair_tell(&c, &a);
    grant(&c, 1);
    assert_true(last_lease(&c)->shared);
    assert_true(last_lease(&c)->created_ms < node_row_of(&c, 2)->retired_ms);
    pair_settle(&a, &c);
    pair_wait(&a, &c, HOUR);
    pair_tell(&a, &c);
    assert_int_equal(lease_row_of(&c, 1, 3)->state, LEASE_EXPIRED);
}

static void r10_line_of_heirs(void **state)
{
    struct story c __attribute__((cleanup(story_end)));
    PAIR(a, b);
    (void)state;

    begin_chain(&a, &b, &c);
    assert_same(&a, &c);
    assert_int_equal(scope_now(&a, 1).locked, 4);
    assert_int_equal(free_at(&a) + free_at(&c), 5);
    int64_t until_ms = c.now_ms + WAIT_MS;
    assert_ok(&c, story_retire(&c, SELF_NODE));
    int64_t locked = scope_now(&c, 1).locked;
    assert_int_equal(locked + free_at(&c), 9);
    assert_true(locked > 4);
    assert_int_equal(scope_now(&c, 1).locked_until_ms, until_ms); /* also what was b's */
    story_wait(&c, WAIT_MS - HOUR);                               /* b's own wait would be over */
    assert_int_equal(scope_now(&c, 1).locked, locked);
    assert_int_equal(lease_row_of(&c, 1, 2)->state, LEASE_ACTIVE);
    story_wait(&c, HOUR - 1);
    assert_int_equal(scope_now(&c, 1).locked_until_ms, until_ms);
    story_wait(&c, 1);
    assert_int_equal(lease_row_of(&c, 1, 2)->state, LEASE_EXPIRED);
    assert_free(&c, 1, 10);
}

static void r10_line_of_heirs_keeps_the_longer_wait(void **state)
{
    struct story c __attribute__((cleanup(story_end)));
    PAIR(a, b);
    (void)state;

    begin_chain(&a, &b, &c);
    int64_t until_ms = a.now_ms - HOUR + WAIT_MS;
    assert_ok(&a, story_drain(&a));
    pair_settle(&a, &c);
    assert_ok(&c, story_retire(&c, SELF_NODE)); /* no wait for a … */
    assert_int_equal(node_row_of(&c, 1)->wait_ms, c.now_ms);
    assert_int_equal(scope_now(&c, 1).locked, 4);
    assert_int_equal(scope_now(&c, 1).locked_until_ms, until_ms); /* … but for b */
    assert_free(&c, 1, 5);
    story_wait(&c, WAIT_MS - HOUR);
    assert_int_equal(scope_now(&c, 1).locked, 0);
    assert_free(&c, 1, 10);
}

/* ---- being retired ----------------------------------------------------------------------------
 */

static void r10_nothing_from_it_is_accepted_any_more(void **state)
{
    PAIR(a, b);
    (void)state;

    begin(&a, &b);
    AUTO(ledger_page_free) struct ledger_page *page = pair_page(&b, &a, PAGE_ROWS_MAX);
    struct node_introduction b_is = story_introduction(&b);
    assert_ok(&a, story_retire(&a, PEER));
    uint64_t seq = ledger_seq(a.ledger);
    assert_err(&a, ERR_PEER_RETIRED, story_merge(&a, page));
    assert_err(&a, ERR_PEER_RETIRED, story_meet(&a, &b_is));
    assert_err(&a, ERR_PEER_RETIRED, story_peer_fetched(&a, PEER));
    assert_err(&a, ERR_PEER_UNKNOWN, story_give(&a, 1, PEER, 1));
    assert_ok(&a, story_retire(&a, PEER)); /* once is enough */
    assert_int_equal(a.result.affected, 0);
    assert_int_equal(ledger_seq(a.ledger), seq);
    assert_int_equal(node_row_of(&a, 2)->retired_ms, NOON + MINUTE);
}

static void r10_a_dismissed_node_never_decides_again(void **state)
{
    PAIR(a, b);
    (void)state;

    begin(&a, &b);
    grant(&b, 1);
    struct node_introduction a_is = story_introduction(&a);
    AUTO(ledger_page_free) struct ledger_page *page = pair_page(&a, &b, PAGE_ROWS_MAX);
    assert_ok(&b, story_dismissed(&b, 1));
    for (int again = 0; again < 2; again++) {
        assert_state(&b, SELF_RETIRED);
        assert_int_equal(ledger_pair(b.ledger).retired_by.bytes[15], 1);
        assert_err(&b, ERR_NODE_RETIRED, story_grant(&b, ANN, LEASE(2)));
        assert_err(&b, ERR_NODE_RETIRED, story_renew(&b, ANN, 1, NULL));
        assert_err(&b, ERR_NODE_RETIRED, story_release(&b, ANN, 1, NULL));
        assert_err(&b, ERR_NODE_RETIRED, story_revoke(&b, 1));
        assert_err(&b, ERR_NODE_RETIRED, story_install(&b, &(struct ent_spec){ SEATS(99) }));
        assert_err(&b, ERR_NODE_RETIRED, story_retire(&b, 0));
        assert_err(&b, ERR_NODE_RETIRED, story_resume(&b));
        assert_err(&b, ERR_NODE_RETIRED, story_meet(&b, &a_is));
        assert_err(&b, ERR_NODE_RETIRED, story_merge(&b, page));
        assert_int_not_equal(story_drain(&b), ERR_OK);
        assert_int_not_equal(story_give(&b, 1, 1, 1), ERR_OK);
        story_wait(&b, 2 * DAY);
        assert_int_equal(lease_row_of(&b, 1, 2)->state, LEASE_ACTIVE);
        assert_int_equal(ledger_next_due(b.ledger), INT64_MAX);
        story_restart(&b);
    }
}

/* Each retired the other while apart: the one with the larger node_ref stops. */
static void r10_mutual_retirement(void **state)
{
    PAIR(a, b);
    (void)state;

    begin(&a, &b);
    assert_ok(&a, story_retire(&a, 0));
    assert_ok(&b, story_retire(&b, 0));
    assert_ok(&a, story_grant(&a, ANN, LEASE(1, .count = 5)));
    assert_ok(&b, story_grant(&b, ANN, LEASE(2, .count = 5)));
    assert_err(&a, ERR_PEER_UNKNOWN, story_dismissed(&a, PEER));
    assert_state(&a, SELF_SERVING);
    assert_ok(&b, story_dismissed(&b, SELF_NODE));
    assert_state(&b, SELF_RETIRED);
    assert_int_equal(ledger_pair(b.ledger).retired_by.bytes[15], 1);
    story_wait(&a, WAIT_MS - 1);
    assert_free(&a, 1, 5);
    story_wait(&a, 1);
    assert_free(&a, 1, 10);
}

static void r10_whom_an_operator_cannot_retire(void **state)
{
    STORY(alone, ALONE);
    PAIR(a, b);
    (void)state;

    assert_err(&alone, ERR_PEER_NONE, story_retire(&alone, 0));
    assert_err(&alone, ERR_PEER_NONE, story_retire(&alone, PEER));
    assert_err(&alone, ERR_PEER_SELF, story_retire(&alone, SELF_NODE));
    assert_err(&a, ERR_PEER_NONE, story_retire(&a, THIRD_NODE));
    assert_int_equal(ledger_pair(a.ledger).partner.bytes[15], PEER);
    assert_ok(&a, story_retire(&a, PEER));
    assert_err(&a, ERR_PEER_NONE, story_retire(&a, 0));
    assert_err(&b, ERR_PEER_UNKNOWN, story_dismissed(&b, PEER));
    assert_state(&b, SELF_SERVING); /* nobody dismisses itself */
}

static void r1_retiring_a_node_ends_the_alarm_of_its_clock(void **state)
{
    PAIR(a, b);
    (void)state;

    begin(&a, &b);
    b.now_ms += HOUR;
    pair_tell(&b, &a);
    assert_true(ledger_pair(a.ledger).clock_suspect);
    assert_ok(&a, story_retire(&a, PEER));
    assert_false(ledger_pair(a.ledger).clock_suspect);
    story_wait(&a, 1);
    grant(&a, 1);
    story_wait(&a, HOUR);
    assert_int_equal(lease_row_of(&a, 1, 1)->state, LEASE_EXPIRED);
}

/* ---- draining ---------------------------------------------------------------------------------
 */

static void r10_drained_and_closed_needs_no_wait(void **state)
{
    PAIR(a, b);
    (void)state;

    begin(&a, &b);
    grant(&b, 1);
    pair_settle(&a, &b);
    assert_ok(&b, story_drain(&b));
    assert_state(&b, SELF_DRAINED);
    assert_free(&b, 1, 0); /* on their way */
    assert_err(&b, ERR_NODE_DRAINED, story_grant(&b, ANN, LEASE(2)));
    assert_err(&b, ERR_NODE_DRAINED, story_renew(&b, ANN, 1, NULL));
    pair_settle(&a, &b);
    assert_true(ledger_pair(a.ledger).partner_closed);
    assert_free(&a, 1, 9);
    assert_int_equal(scope_now(&a, 1).at_peer, 0);
    assert_ok(&a, story_renew(&a, ANN, 1, NULL));
    assert_ok(&a, story_retire(&a, PEER));
    assert_int_equal(a.result.wait_ms, 0);
    assert_true(node_row_of(&a, 2)->drained);
    assert_free(&a, 1, 9);
    assert_ok(&a, story_install(&a, &(struct ent_spec){ SEATS(11), .revision = 2 }));
    assert_true(a.result.usable);
    /* what it told may be used until its clock has passed it as well */
    story_wait(&a, HOUR + PAIR_SKEW_MS - 1);
    assert_int_equal(lease_row_of(&a, 1, 2)->state, LEASE_ACTIVE);
    story_wait(&a, 1);
    assert_int_equal(lease_row_of(&a, 1, 2)->state, LEASE_EXPIRED);
    assert_free(&a, 1, 11);
}

/* R6: a drained node renews nothing: an end needs no acknowledgement from it. */
static void r10_ends_do_not_wait_for_a_drained_node(void **state)
{
    PAIR(a, b);
    (void)state;

    begin(&a, &b);
    grant(&a, 1);
    pair_settle(&a, &b);
    assert_ok(&b, story_drain(&b));
    pair_settle(&a, &b);
    assert_ok(&a, story_release(&a, ANN, 1, NULL));
    assert_int_equal(scope_now(&a, 1).waiting, 1);
    assert_ok(&a, story_retire(&a, PEER));
    assert_int_equal(scope_now(&a, 1).waiting, 0);
}

static void r10_closed_is_said_with_the_last_page_only(void **state)
{
    PAIR(a, b);
    (void)state;

    begin(&a, &b);
    for (unsigned i = 1; i <= 3; i++)
        grant(&b, i);
    assert_ok(&b, story_drain(&b));
    AUTO(ledger_page_free) struct ledger_page *part = pair_page(&b, &a, 1);
    assert_false(part->closed);
    assert_ok(&a, story_merge(&a, part));
    assert_false(ledger_pair(a.ledger).partner_closed);
    assert_ok(&a, story_retire(&a, PEER)); /* dies on the way */
    assert_int_equal(a.result.wait_ms, a.now_ms + WAIT_MS);
    assert_false(node_row_of(&a, 2)->drained);
}

static void r10_what_comes_free_at_a_drained_node_goes_on(void **state)
{
    PAIR(a, b);
    (void)state;

    begin(&a, &b);
    grant(&b, 1);
    pair_settle(&a, &b);
    assert_ok(&b, story_drain(&b));
    pair_settle(&a, &b);
    assert_free(&a, 1, 9);
    assert_ok(&a, story_release(&a, ANN, 1, NULL));
    pair_settle(&a, &b);
    assert_free(&a, 1, 10);
    /* and nothing is shared with it */
    assert_free(&b, 1, 0);
    story_restart(&b);
    assert_state(&b, SELF_DRAINED);
}

static void r10_the_partner_hears_at_once_of_a_drained_node(void **state)
{
    PAIR(a, b);
    (void)state;

    begin(&a, &b);
    assert_ok(&b, story_grant(&b, ANN, LEASE(1, .count = 5)));
    pair_settle(&a, &b);
    assert_ok(&b, story_grant(&b, ANN, LEASE(2, .count = free_at(&b))));
    assert_ok(&a, story_grant(&a, ANN, LEASE(3, .count = free_at(&a))));
    pair_settle(&a, &b);
    assert_false(ledger_page_waiting(b.ledger, ledger_pair(a.ledger).cursor));
    assert_ok(&b, story_drain(&b)); /* with nothing to give away */
    assert_true(ledger_page_waiting(b.ledger, ledger_pair(a.ledger).cursor));
}

static void r10_drains_only_towards_one_that_listens(void **state)
{
    STORY(alone, ALONE);
    PAIR(a, b);
    (void)state;

    assert_err(&alone, ERR_PEER_AWAY, story_drain(&alone));
    begin(&a, &b);
    pair_wait(&a, &b, MINUTE);
    assert_err(&a, ERR_PEER_AWAY, story_drain(&a)); /* nobody has fetched for a minute */
    assert_state(&a, SELF_SERVING);
    pair_tell(&a, &b);
    assert_ok(&a, story_drain(&a));
    assert_ok(&a, story_drain(&a));
    pair_settle(&a, &b);
    assert_err(&b, ERR_PEER_AWAY, story_drain(&b)); /* a listens, but serves no more */
    assert_ok(&b, story_grant(&b, ANN, LEASE(1, .count = 10)));
}

/* Both at once, so that neither knows of the other: that is two operators' will. */
static void r10_two_drained_nodes_come_to_rest(void **state)
{
    PAIR(a, b);
    (void)state;

    begin(&a, &b);
    assert_ok(&a, story_drain(&a));
    assert_ok(&b, story_drain(&b));
    pair_settle(&a, &b); /* fails if they pass their credits to and fro */
    assert_ok(&a, story_resume(&a));
    pair_settle(&a, &b);
    assert_state(&a, SELF_SERVING);
    assert_free(&a, 1, 10);
    assert_free(&b, 1, 0);
}

/* A partner that believes it closed could retire it without a wait. */
static void r10_resumes_once_the_partner_has_heard(void **state)
{
    PAIR(a, b);
    (void)state;

    begin(&a, &b);
    pair_settle(&a, &b);
    pair_tell(&b, &a);
    assert_ok(&b, story_drain(&b));
    pair_settle(&a, &b);
    assert_ok(&b, story_resume(&b));
    for (int again = 0; again < 2; again++) {
        assert_state(&b, SELF_RESUMING);
        assert_err(&b, ERR_NODE_DRAINED, story_grant(&b, ANN, LEASE(1)));
        assert_true(ledger_pair(a.ledger).partner_closed);
        pair_tell(&a, &b); /* knows nothing of it */
        story_restart(&b);
    }
    pair_tell(&b, &a);
    assert_false(ledger_pair(a.ledger).partner_closed);
    assert_state(&b, SELF_RESUMING);
    pair_tell(&a, &b);
    assert_state(&b, SELF_SERVING);
    pair_settle(&a, &b);
    assert_free(&b, 1, 5); /* R12 */
    grant(&b, 1);
}

static void r10_a_node_left_alone_resumes_at_once(void **state)
{
    PAIR(a, b);
    (void)state;

    begin(&a, &b);
    pair_tell(&b, &a);
    assert_ok(&b, story_drain(&b));
    assert_ok(&b, story_resume(&b));
    assert_state(&b, SELF_RESUMING);
    assert_ok(&b, story_retire(&b, SELF_NODE));
    assert_state(&b, SELF_SERVING);
}

/* ---- longest lease ----------------------------------------------------------------------------
 */

static void r10_a_longer_limit_is_used_once_the_partner_knows(void **state)
{
    PAIR(a, b);
    (void)state;

    begin(&a, &b);
    a.conf.lease_max_ms = 3 * DAY;
    story_restart(&a);
    assert_ok(&a, story_grant(&a, ANN, LEASE(1)));
    assert_int_equal(last_lease(&a)->expires_ms, a.now_ms + DAY);
    pair_tell(&a, &b);
    assert_int_equal(node_row_of(&b, 1)->longest_ms, 3 * DAY);
    assert_ok(&a, story_renew(&a, ANN, 1, NULL));
    assert_int_equal(last_lease(&a)->expires_ms, a.now_ms + DAY);
    pair_tell(&b, &a);
    assert_ok(&a, story_grant(&a, ANN, LEASE(2)));
    assert_int_equal(last_lease(&a)->expires_ms, a.now_ms + 3 * DAY);
    story_restart(&a);
    assert_ok(&a, story_grant(&a, ANN, LEASE(3)));
    assert_int_equal(last_lease(&a)->expires_ms, a.now_ms + 3 * DAY);
    assert_ok(&b, story_retire(&b, SELF_NODE));
    assert_int_equal(b.result.wait_ms, b.now_ms + 3 * DAY + 2 * PAIR_SKEW_MS);
    a.conf.lease_max_ms = HOUR; /* shorter: at once, but what was given stays */
    story_restart(&a);
    assert_ok(&a, story_grant(&a, ANN, LEASE(4)));
    assert_int_equal(last_lease(&a)->expires_ms, a.now_ms + HOUR);
    assert_int_equal(node_row_of(&a, 1)->longest_ms, 3 * DAY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(r10_free_credits_of_the_dead_stay_locked),
        cmocka_unit_test(r10_a_retired_node_that_lives_oversells_nothing),
        cmocka_unit_test(r10_shared_leases_wait_later_ones_do_not),
        cmocka_unit_test(r10_no_wait_for_what_its_watermark_covers),
        cmocka_unit_test(r10_missing_acknowledgements_wait),
        cmocka_unit_test(r10_records_outlast_the_wait),
        cmocka_unit_test(r10_the_end_of_the_wait_gives_seats_back),
        cmocka_unit_test(r10_its_leases_belong_to_the_heir),
        cmocka_unit_test(r10_its_debts_count_at_once),
        cmocka_unit_test(r2_what_is_minted_after_a_retirement_waits),
        cmocka_unit_test(r10_later_leases_do_not_wait),
        cmocka_unit_test(r10_a_newcomers_leases_do_not_wait),
        cmocka_unit_test(r10_line_of_heirs),
        cmocka_unit_test(r10_line_of_heirs_keeps_the_longer_wait),
        cmocka_unit_test(r10_nothing_from_it_is_accepted_any_more),
        cmocka_unit_test(r10_a_dismissed_node_never_decides_again),
        cmocka_unit_test(r10_mutual_retirement),
        cmocka_unit_test(r10_whom_an_operator_cannot_retire),
        cmocka_unit_test(r1_retiring_a_node_ends_the_alarm_of_its_clock),
        cmocka_unit_test(r10_drained_and_closed_needs_no_wait),
        cmocka_unit_test(r10_ends_do_not_wait_for_a_drained_node),
        cmocka_unit_test(r10_closed_is_said_with_the_last_page_only),
        cmocka_unit_test(r10_what_comes_free_at_a_drained_node_goes_on),
        cmocka_unit_test(r10_the_partner_hears_at_once_of_a_drained_node),
        cmocka_unit_test(r10_drains_only_towards_one_that_listens),
        cmocka_unit_test(r10_two_drained_nodes_come_to_rest),
        cmocka_unit_test(r10_resumes_once_the_partner_has_heard),
        cmocka_unit_test(r10_a_node_left_alone_resumes_at_once),
        cmocka_unit_test(r10_a_longer_limit_is_used_once_the_partner_knows),
    };

    return cmocka_run_group_tests_name("ledger_retire", tests, NULL, NULL);
}
