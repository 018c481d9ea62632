/* Two nodes that both serve: credits between them (R2, R12), leases that each renews for the other
 * (R3, R4), and when seats come back (R5, R6, R7). */
#include "ledger_story.h"

/* ---- R2: credits ------------------------------------------------------------------------------
 */

static int64_t free_at(struct story *s)
{
    return scope_now(s, 1).free_here;
}

static void r2_a_mint_is_usable_once_the_partner_knows(void **state)
{
    PAIR(a, b);
    (void)state;

    assert_ok(&a, story_install(&a, &(struct ent_spec){ SEATS(10) }));
    assert_false(a.result.usable);
    AUTO(ledger_page_free) struct ledger_page *lost = pair_page(&a, &b, PAGE_ROWS_MAX);
    pair_tell(&b, &a); /* heard nothing */
    assert_int_equal(scope_now(&a, 1).pending, 10);
    assert_ok(&b, story_merge(&b, lost));
    assert_int_equal(scope_now(&b, 1).seats, 10);
    assert_int_equal(scope_now(&b, 1).pending, 0); /* none of its own */
    pair_tell(&b, &a);
    assert_int_equal(scope_now(&a, 1).pending, 0);
    assert_ok(&a, story_install(&a, &(struct ent_spec){ SEATS(10) })); /* again: nothing new */
    assert_true(a.result.usable);
}

static void r2_moves_arrive_late_and_twice(void **state)
{
    PAIR(a, b);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(20) });
    assert_ok(&a, story_give(&a, 1, PEER, 1));
    assert_int_equal(free_at(&a), 9); /* gone from here at once … */
    assert_int_equal(free_at(&b), 10);
    AUTO(ledger_page_free) struct ledger_page *first = pair_page(&a, &b, PAGE_ROWS_MAX);
    assert_ok(&b, story_merge(&b, first)); /* … and there when it is told */
    assert_int_equal(b.result.given, 1);
    assert_int_equal(free_at(&b), 11);
    assert_ok(&a, story_give(&a, 1, PEER, 1));
    AUTO(ledger_page_free) struct ledger_page *second = pair_page(&a, &b, PAGE_ROWS_MAX);
    assert_ok(&b, story_merge(&b, second));
    assert_int_equal(b.result.given, 1);
    for (int again = 0; again < 3; again++) {
        assert_ok(&b, story_merge(&b, again == 1 ? second : first));
        assert_int_equal(b.result.given, 0);
        assert_int_equal(free_at(&b), 12);
    }
}

/* The node that minted reduces what the other one has leased out long ago. */
static void r2_reduction_below_what_the_partner_holds(void **state)
{
    PAIR(a, b);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(10) });
    for (unsigned i = 1; i <= 5; i++) {
        assert_ok(&a, story_grant(&a, ANN, LEASE(i, .duration_ms = HOUR)));
        assert_ok(&b, story_grant(&b, BOB, LEASE(10 + i, .duration_ms = HOUR)));
    }
    pair_settle(&a, &b);
    pair_install(&a, &b, &(struct ent_spec){ SEATS(4), .revision = 2 });
    assert_int_equal(scope_now(&b, 1).seats, 4);
    assert_int_equal(scope_now(&a, 1).used, 10); /* no lease is taken away */
    for (unsigned i = 1; i <= 5; i++) {
        assert_ok(&a, story_release(&a, ANN, i, NULL));
        pair_settle(&a, &b);
        assert_int_equal(free_at(&a) + free_at(&b), 0);
    }
    assert_ok(&b, story_release(&b, BOB, 11, NULL)); /* five in use, four in force */
    pair_settle(&a, &b);
    assert_int_equal(free_at(&a) + free_at(&b), 0);
    assert_ok(&b, story_release(&b, BOB, 12, NULL));
    pair_settle(&a, &b);
    assert_int_equal(scope_now(&a, 1).used, 3);
    assert_int_equal(free_at(&a) + free_at(&b), 1);
    assert_int_equal(scope_now(&a, 1).seats, 4);
}

/* The partner has a debt: what it lacks is not granted here either, or both together would hold
 * more than is in force. */
static void r2_what_the_partner_lacks_is_not_granted(void **state)
{
    PAIR(a, b);
    (void)state;

    pair_install(&b, &a, &(struct ent_spec){ SEATS(10) });
    assert_ok(&b, story_grant(&b, BOB, LEASE(1, .count = 5, .duration_ms = HOUR)));
    pair_settle(&a, &b);
    assert_int_equal(free_at(&a), 3); /* R12: half of what was left … */
    assert_ok(&b, story_grant(&b, BOB, LEASE(2, .count = 2, .duration_ms = HOUR)));
    assert_ok(&b, story_install(&b, &(struct ent_spec){ SEATS(8), .revision = 2 }));
    assert_ok(&b, story_prove(&b, CAROL)); /* so that a cannot make up for it yet (R12) */
    AUTO(ledger_page_free) struct ledger_page *page = pair_page(&b, &a, 2);
    assert_false(page->complete);
    assert_ok(&a, story_merge(&a, page));
    /* a has 3 credits, b holds 7 seats with 5: together 8 are in force */
    assert_int_equal(free_at(&a), 1);
    assert_err(&a, ERR_NO_FREE_SEAT, story_grant(&a, ANN, LEASE(3, .count = 2)));
    assert_ok(&a, story_grant(&a, ANN, LEASE(3)));
    pair_settle(&a, &b);
    assert_int_equal(free_at(&a) + free_at(&b), 0);
    assert_not_oversold(&a, &b);
}

/* Seats that only their home knows to be held still: it says so. */
static void r2_what_the_partner_says_that_it_lacks_is_not_granted(void **state)
{
    PAIR(a, b);
    (void)state;

    pair_install(
        &b, &a,
        &(struct ent_spec){ .features = { { .seats = 10, .on_release = SEAT_RETURN_AT_EXPIRY } } });
    assert_ok(&b, story_grant(&b, BOB, LEASE(1, .count = 5, .duration_ms = HOUR)));
    assert_ok(&b, story_release(&b, BOB, 1, NULL));
    assert_ok(&b, story_install(&b, &(struct ent_spec){
                                        .revision = 2,
                                        .features = { { .seats = 6,
                                                        .on_release = SEAT_RETURN_AT_EXPIRY } } }));
    AUTO(ledger_page_free) struct ledger_page *page = pair_page(&b, &a, PAGE_ROWS_MAX);
    assert_int_equal(page->debt_count, 1);
    assert_int_equal(page->debts[0].count, 4);
    assert_ok(&a, story_merge(&a, page));
    assert_int_equal(free_at(&a), 1); /* 5 of 6 are held at b, whatever a has given it since */
    pair_settle(&a, &b);
    assert_int_equal(free_at(&a) + free_at(&b), 1);
    pair_wait(&a, &b, HOUR + 1);
    pair_tell(&a, &b);
    pair_tell(&b, &a); /* that it has no debt any more is said with any page */
    pair_settle(&a, &b);
    assert_int_equal(free_at(&a) + free_at(&b), 6);
}

static void r2_new_revision_at_the_other_node_counts_its_difference(void **state)
{
    PAIR(a, b);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(10) });
    pair_install(&b, &a, &(struct ent_spec){ SEATS(16), .revision = 2 });
    assert_int_equal(free_at(&a) + free_at(&b), 16);
    pair_install(&b, &a, &(struct ent_spec){ SEATS(2), .revision = 3 }); /* more than it minted */
    assert_int_equal(free_at(&a) + free_at(&b), 2);
    pair_install(&a, &b, &(struct ent_spec){ SEATS(12), .revision = 4 });
    assert_int_equal(free_at(&a) + free_at(&b), 12);
    assert_same(&a, &b);
}

/* ---- R12: sharing -----------------------------------------------------------------------------
 */

static void r12_credits_are_split_evenly(void **state)
{
    for (int64_t seats = 0; seats <= 9; seats++) {
        PAIR(a, b);
        pair_install(&a, &b, &(struct ent_spec){ SEATS(seats + 1) });
        assert_int_equal(free_at(&a), (seats + 2) / 2); /* the odd one stays */
        assert_int_equal(free_at(&b), (seats + 1) / 2);
        assert_int_equal(scope_now(&b, 1).at_peer, (seats + 2) / 2);
    }
    (void)state;
}

static void r12_small_differences_stay(void **state)
{
    PAIR(a, b);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(20) });
    assert_ok(&a, story_grant(&a, ANN, LEASE(1, .count = 4)));
    pair_settle(&a, &b);
    assert_int_equal(free_at(&a), 6); /* against 10: a quarter of all */
    assert_ok(&a, story_grant(&a, ANN, LEASE(2)));
    pair_settle(&a, &b);
    assert_int_equal(free_at(&a), 7); /* 5 against 10 is too uneven */
    assert_int_equal(free_at(&b), 8);
}

static void r12_only_free_credits_are_shared(void **state)
{
    PAIR(a, b);
    (void)state;

    assert_ok(&a, story_install(&a, &(struct ent_spec){ SEATS(4) }));
    pair_tell(&a, &b);
    story_hold(&a);
    pair_tell(&b, &a); /* usable now, and two are given away in the same batch */
    assert_int_equal(ledger_changes(a.ledger)->move_count, 1);
    assert_int_equal(ledger_changes(a.ledger)->moves[0].moved, 2);
    story_commit(&a);
    assert_ok(&a, story_grant(&a, ANN, LEASE(1, .count = 2)));
    pair_settle(&a, &b);
    assert_int_equal(free_at(&a), 1);
    assert_int_equal(free_at(&b), 1);
    assert_not_oversold(&a, &b);
}

/* What a page that stops short leaves out may be why it seems uneven. */
static void r12_a_part_of_the_truth_moves_nothing(void **state)
{
    PAIR(a, b);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(20) });
    assert_ok(&b, story_grant(&b, BOB, LEASE(1, .count = 6)));
    assert_ok(&b, story_prove(&b, ANN));
    AUTO(ledger_page_free) struct ledger_page *page = pair_page(&b, &a, 2);
    assert_false(page->complete);
    assert_ok(&a, story_merge(&a, page));
    assert_int_equal(scope_now(&a, 1).at_peer, 4);
    assert_int_equal(free_at(&a), 10);
    pair_tell(&b, &a);
    assert_int_equal(free_at(&a), 7);
}

static void r12_gives_what_is_asked_for_or_half(void **state)
{
    PAIR(a, b);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(20) });
    assert_ok(&b, story_grant(&b, BOB, LEASE(1, .count = 10)));
    pair_tell(&b, &a); /* a learns of it, and shares by itself */
    assert_int_equal(free_at(&a), 5);
    pair_settle(&a, &b);
    assert_ok(&b, story_grant(&b, BOB, LEASE(2, .count = 5)));
    assert_err(&b, ERR_SEATS_AT_PEER, story_grant(&b, BOB, LEASE(3, .count = 5)));
    assert_ok(&a, story_give(&a, 1, PEER, 1));
    assert_int_equal(a.result.given, 1); /* as far as a knows, both have 5 */
    assert_ok(&a, story_give(&a, 1, PEER, 3));
    assert_int_equal(a.result.given, 3);
    assert_ok(&a, story_give(&a, 1, PEER, 3));
    assert_int_equal(a.result.given, 1); /* that is all */
    assert_err(&a, ERR_NO_FREE_SEAT, story_give(&a, 1, PEER, 3));
    assert_int_equal(a.result.scope_count, 1); /* R12: why */
    pair_settle(&a, &b);
    assert_ok(&b, story_grant(&b, BOB, LEASE(3, .count = 5)));
    assert_int_equal(scope_now(&b, 1).used, 20);
    assert_not_oversold(&a, &b);
}

/* All seats at one node: what it asked for is not split again before it tries once more. */
static void r12_what_a_grant_waits_for_is_not_given_back(void **state)
{
    PAIR(a, b);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(12) });
    assert_err(&b, ERR_SEATS_AT_PEER, story_grant(&b, BOB, LEASE(1, .count = 12)));
    assert_int_equal(b.result.scopes[0].at_peer, 6);
    assert_ok(&a, story_give(&a, 1, PEER, 6));
    pair_tell(&a, &b);
    pair_settle(&a, &b);
    assert_int_equal(free_at(&b), 12);
    assert_ok(&b, story_grant(&b, BOB, LEASE(1, .count = 12)));
    assert_ok(&b, story_release(&b, BOB, 1, NULL));
    pair_settle(&a, &b);
    pair_wait(&a, &b, MINUTE); /* nobody asks any more */
    pair_tell(&a, &b);
    pair_settle(&a, &b);
    assert_int_equal(free_at(&a), 6);
}

/* Each gives while the other does: that must come to rest. */
static void r12_gifts_that_cross_do_not_go_to_and_fro(void **state)
{
    PAIR(a, b);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(12) });
    assert_ok(&a, story_grant(&a, ANN, LEASE(1, .count = 6, .duration_ms = HOUR)));
    assert_ok(&b, story_grant(&b, BOB, LEASE(2, .count = 6, .duration_ms = HOUR)));
    pair_settle(&a, &b);
    assert_ok(&a, story_install(&a, &(struct ent_spec){ SEATS(10), .revision = 2 }));
    assert_ok(&b, story_release(&b, BOB, 2, NULL));
    AUTO(ledger_page_free) struct ledger_page *to_b = pair_page(&a, &b, PAGE_ROWS_MAX);
    AUTO(ledger_page_free) struct ledger_page *to_a = pair_page(&b, &a, PAGE_ROWS_MAX);
    assert_ok(&b, story_merge(&b, to_b));
    assert_ok(&a, story_merge(&a, to_a));
    pair_settle(&a, &b); /* fails if it does not end */
    assert_int_equal(free_at(&a) + free_at(&b), 4);
    assert_int_equal(scope_now(&a, 1).at_peer, free_at(&b));
}

/* ---- R3, R4: adoption -------------------------------------------------------------------------
 */

/* A lease of a that b has not heard of. */
static struct lease_evidence begin_unheard(struct story *a, struct story *b)
{
    pair_install(a, b, &(struct ent_spec){ SEATS(4) });
    assert_ok(a, story_grant(a, ANN, LEASE(1, .duration_ms = HOUR)));
    assert_true(last_lease(a)->shared);
    return evidence_last(a);
}

static void r4_partner_adopts_what_it_never_heard_of(void **state)
{
    PAIR(a, b);
    (void)state;

    struct lease_evidence token = begin_unheard(&a, &b);
    pair_wait(&a, &b, MINUTE);
    assert_err(&b, ERR_LEASE_UNKNOWN, story_renew(&b, ANN, 1, NULL));
    assert_ok(&b, story_renew(&b, ANN, 1, &token));
    assert_int_equal(last_lease(&b)->home.bytes[15], 1); /* a's credits pay for it */
    assert_int_equal(scope_now(&b, 1).at_peer, 1);
    assert_int_equal(free_at(&b), 2);
    pair_settle(&a, &b);
    assert_int_equal(lease_row_of(&a, 1, 1)->expires_ms, NOON + MINUTE + HOUR);
    assert_same(&a, &b);
}

static void r4_adopted_lease_is_ended_by_either(void **state)
{
    PAIR(a, b);
    (void)state;

    struct lease_evidence token = begin_unheard(&a, &b);
    assert_ok(&b, story_release(&b, ANN, 1, &token));
    assert_int_equal(b.result.affected, 1);
    pair_tell(&b, &a);
    assert_int_equal(lease_row_of(&a, 1, 1)->state, LEASE_RELEASED);
    pair_settle(&a, &b);
    assert_int_equal(scope_now(&a, 1).waiting, 0);
    assert_same(&a, &b);
}

static void r4_only_the_node_that_the_token_names_adopts(void **state)
{
    PAIR(a, b);
    (void)state;

    struct lease_evidence token = begin_unheard(&a, &b);
    token.adopter = ref('N', THIRD_NODE);
    assert_err(&b, ERR_OTHER_NODE, story_renew(&b, ANN, 1, &token)); /* its home can */
    token.adopter = (struct uuid){ { 0 } };
    assert_err(&b, ERR_OTHER_NODE, story_renew(&b, ANN, 1, &token));
    assert_err(&b, ERR_OTHER_NODE, story_release(&b, ANN, 1, &token));
    token.adopter = ref('N', 2);
    token.adopt = false;
    assert_err(&b, ERR_OTHER_NODE, story_renew(&b, ANN, 1, &token));
    assert_null(lease_row_of(&b, 1, 1));
    token.home = ref('N', THIRD_NODE); /* of a node that neither knows */
    assert_err(&b, ERR_LEASE_UNKNOWN, story_renew(&b, ANN, 1, &token));
}

/* R3: nobody but its home renews a private lease, until the page that shares it. */
static void r3_private_lease_is_not_adopted(void **state)
{
    PAIR(a, b);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(4) });
    pair_wait(&a, &b, PEER_FETCH_RECENT_MS + 1);
    assert_ok(&a, story_grant(&a, ANN, LEASE(1, .duration_ms = HOUR)));
    struct lease_evidence token = evidence_last(&a);
    assert_false(token.adopt);
    assert_err(&b, ERR_OTHER_NODE, story_renew(&b, ANN, 1, &token));
    pair_tell(&a, &b);
    assert_ok(&b, story_renew(&b, ANN, 1, &token));
    assert_ok(&a, story_renew(&a, ANN, 1, NULL));
    assert_true(evidence_last(&a).adopt);
}

static void r4_token_of_an_older_generation_is_not_adopted(void **state)
{
    PAIR(a, b);
    (void)state;

    struct lease_evidence token = begin_unheard(&a, &b);
    b.generation = 1; /* deleted and enrolled again, on a third machine's word */
    assert_err(&b, ERR_OTHER_NODE, story_renew(&b, ANN, 1, &token));
    assert_null(lease_row_of(&b, 1, 1));
    pair_settle(&a, &b);
    assert_int_equal(lease_row_of(&a, 1, 1)->state, LEASE_REVOKED);
    assert_same(&a, &b);
}

static void r4_adopts_to_the_last_millisecond(void **state)
{
    PAIR(a, b);
    (void)state;

    struct lease_evidence token = begin_unheard(&a, &b);
    b.now_ms = NOON + HOUR;
    assert_err(&b, ERR_LEASE_UNKNOWN, story_renew(&b, ANN, 1, &token));
    assert_null(lease_row_of(&b, 1, 1));
    PAIR(c, d);
    token = begin_unheard(&c, &d);
    d.now_ms = NOON + HOUR - 1;
    assert_ok(&d, story_renew(&d, ANN, 1, &token));
}

/* R4: a token shows what b promised, before b's page does. */
static void r4_home_takes_the_later_expires_from_a_token(void **state)
{
    PAIR(a, b);
    (void)state;

    begin_unheard(&a, &b);
    pair_settle(&a, &b);
    pair_wait(&a, &b, MINUTE);
    assert_ok(&b, story_renew(&b, ANN, 1, NULL));
    struct lease_evidence token = evidence_last(&b);
    a.now_ms = NOON + HOUR; /* over, as far as a knew */
    assert_err(&a, ERR_LEASE_ENDED, story_renew(&a, ANN, 1, NULL));
    assert_ok(&a, story_renew(&a, ANN, 1, &token));
    assert_int_equal(last_lease(&a)->expires_ms, NOON + 2 * HOUR);
}

/* ---- R6, R7: seats back -----------------------------------------------------------------------
 */

static void r6_release_costs_one_exchange(void **state)
{
    PAIR(a, b);
    (void)state;

    begin_unheard(&a, &b);
    pair_settle(&a, &b);
    assert_ok(&a, story_release(&a, ANN, 1, NULL));
    AUTO(ledger_page_free) struct ledger_page *lost = pair_page(&a, &b, PAGE_ROWS_MAX);
    pair_tell(&b, &a);
    assert_int_equal(scope_now(&a, 1).waiting, 1); /* b might renew it still */
    assert_ok(&b, story_renew(&b, ANN, 1, NULL));
    assert_ok(&b, story_merge(&b, lost));
    pair_tell(&b, &a);
    assert_int_equal(scope_now(&a, 1).waiting, 0); /* that renewal made nothing longer */
}

static void r6_renewed_after_its_end_waits_for_the_time_promised(void **state)
{
    PAIR(a, b);
    (void)state;

    begin_unheard(&a, &b);
    pair_settle(&a, &b);
    pair_wait(&a, &b, MINUTE);
    assert_ok(&a, story_release(&a, ANN, 1, NULL));
    assert_ok(&b, story_renew(&b, ANN, 1, NULL)); /* b's client uses it until then */
    pair_settle(&a, &b);
    pair_wait(&a, &b, HOUR - 1);
    pair_settle(&a, &b);
    pair_tell(&b, &a);
    assert_int_equal(scope_now(&a, 1).waiting, 1);
    pair_wait(&a, &b, 1);
    pair_tell(&b, &a); /* W: a millisecond less */
    assert_int_equal(scope_now(&a, 1).waiting, 1);
    pair_wait(&a, &b, 1);
    pair_tell(&b, &a);
    assert_int_equal(scope_now(&a, 1).waiting, 0);
}

static void r7_expires_when_both_clocks_have_passed_it(void **state)
{
    for (int ahead = 0; ahead < 2; ahead++) {
        PAIR(a, b);
        begin_unheard(&a, &b);
        pair_settle(&a, &b);
        struct story *slow = ahead ? &a : &b, *fast = ahead ? &b : &a;
        fast->now_ms += 2 * MINUTE;
        pair_wait(&a, &b, HOUR - MINUTE);
        pair_tell(&b, &a);
        assert_int_equal(lease_row_of(&a, 1, 1)->state, LEASE_ACTIVE);
        /* there it can be renewed still, and that is told with the next page */
        assert_ok(slow, story_renew(slow, ANN, 1, NULL));
        assert_err(fast, ERR_LEASE_ENDED, story_renew(fast, ANN, 1, NULL));
        pair_wait(&a, &b, 2 * MINUTE);
        pair_tell(&b, &a);
        assert_int_equal(lease_row_of(&a, 1, 1)->state, LEASE_ACTIVE);
        pair_wait(&a, &b, HOUR);
        pair_tell(&b, &a);
        assert_int_equal(lease_row_of(&a, 1, 1)->state, LEASE_EXPIRED);
        pair_settle(&a, &b);
        assert_int_equal(lease_row_of(&b, 1, 1)->state, LEASE_EXPIRED);
        assert_same(&a, &b);
    }
    (void)state;
}

static void r7_nothing_shared_expires_while_the_partner_is_away(void **state)
{
    PAIR(a, b);
    (void)state;

    begin_unheard(&a, &b);
    pair_settle(&a, &b);
    story_wait(&a, 30 * DAY);
    assert_int_equal(lease_row_of(&a, 1, 1)->state, LEASE_ACTIVE);
    assert_int_equal(scope_now(&a, 1).used, 1);
    b.now_ms = NOON + HOUR - 1;
    assert_ok(&b, story_renew(&b, ANN, 1, NULL)); /* who knows */
    b.now_ms = a.now_ms;
    pair_settle(&a, &b);
    pair_tell(&b, &a);
    assert_int_equal(lease_row_of(&a, 1, 1)->state, LEASE_EXPIRED);
    assert_int_equal(lease_row_of(&a, 1, 1)->expires_ms, NOON + 2 * HOUR - 1);
}

static void r5_purged_when_both_have_done_with_it(void **state)
{
    PAIR(a, b);
    (void)state;

    begin_unheard(&a, &b);
    pair_settle(&a, &b);
    assert_ok(&b, story_release(&b, ANN, 1, NULL));
    pair_settle(&a, &b);
    a.now_ms += 2 * HOUR;
    assert_ok(&a, story_purge(&a, 9));
    assert_ok(&b, story_purge(&b, 9));
    assert_non_null(lease_row_of(&a, 1, 1)); /* b's clock has not passed it */
    b.now_ms += 2 * HOUR;
    assert_ok(&b, story_purge(&b, 9));
    assert_non_null(lease_row_of(&b, 1, 1)); /* a has, but b does not know */
    pair_tell(&a, &b);
    pair_tell(&b, &a);
    assert_ok(&a, story_purge(&a, 9));
    assert_ok(&b, story_purge(&b, 9));
    assert_null(lease_row_of(&a, 1, 1));
    assert_null(lease_row_of(&b, 1, 1));
    pair_settle(&a, &b);
    assert_same(&a, &b);
}

/* R1: a clock that is too far off pauses R7 and nothing else. */
static void r1_partners_clock_raises_an_alarm(void **state)
{
    for (int direction = -1; direction <= 1; direction += 2) {
        PAIR(a, b);
        begin_unheard(&a, &b);
        pair_settle(&a, &b);
        struct story *fast = direction > 0 ? &b : &a;
        fast->now_ms += PAIR_SKEW_MS;
        pair_tell(&b, &a);
        assert_false(ledger_pair(a.ledger).clock_suspect);
        fast->now_ms += 1;
        pair_tell(&b, &a);
        assert_true(ledger_pair(a.ledger).clock_suspect);
        assert_int_equal(ledger_pair(a.ledger).clock_difference_ms, direction * (PAIR_SKEW_MS + 1));
        pair_wait(&a, &b, 2 * HOUR);
        assert_ok(&a, story_grant(&a, BOB, LEASE(2, .duration_ms = MINUTE)));
        assert_false(last_lease(&a)->shared);
        pair_tell(&b, &a);
        story_wait(&a, HOUR);
        assert_int_equal(lease_row_of(&a, 1, 1)->state, LEASE_ACTIVE);
        assert_int_equal(lease_row_of(&a, 2, 1)->state, LEASE_ACTIVE);
        assert_int_equal(ledger_next_due(a.ledger), INT64_MAX);
        assert_err(&a, ERR_LEASE_ENDED, story_renew(&a, ANN, 1, NULL)); /* R4 */
        b.now_ms = a.now_ms + (direction < 0 ? 0 : PAIR_SKEW_MS);
        pair_tell(&b, &a);
        assert_false(ledger_pair(a.ledger).clock_suspect);
        assert_int_equal(lease_row_of(&a, 1, 1)->state, LEASE_EXPIRED);
        assert_int_equal(lease_row_of(&a, 2, 1)->state, LEASE_EXPIRED);
    }
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(r2_a_mint_is_usable_once_the_partner_knows),
        cmocka_unit_test(r2_moves_arrive_late_and_twice),
        cmocka_unit_test(r2_reduction_below_what_the_partner_holds),
        cmocka_unit_test(r2_what_the_partner_lacks_is_not_granted),
        cmocka_unit_test(r2_what_the_partner_says_that_it_lacks_is_not_granted),
        cmocka_unit_test(r2_new_revision_at_the_other_node_counts_its_difference),
        cmocka_unit_test(r12_credits_are_split_evenly),
        cmocka_unit_test(r12_small_differences_stay),
        cmocka_unit_test(r12_only_free_credits_are_shared),
        cmocka_unit_test(r12_a_part_of_the_truth_moves_nothing),
        cmocka_unit_test(r12_gives_what_is_asked_for_or_half),
        cmocka_unit_test(r12_what_a_grant_waits_for_is_not_given_back),
        cmocka_unit_test(r12_gifts_that_cross_do_not_go_to_and_fro),
        cmocka_unit_test(r4_partner_adopts_what_it_never_heard_of),
        cmocka_unit_test(r4_adopted_lease_is_ended_by_either),
        cmocka_unit_test(r4_only_the_node_that_the_token_names_adopts),
        cmocka_unit_test(r3_private_lease_is_not_adopted),
        cmocka_unit_test(r4_token_of_an_older_generation_is_not_adopted),
        cmocka_unit_test(r4_adopts_to_the_last_millisecond),
        cmocka_unit_test(r4_home_takes_the_later_expires_from_a_token),
        cmocka_unit_test(r6_release_costs_one_exchange),
        cmocka_unit_test(r6_renewed_after_its_end_waits_for_the_time_promised),
        cmocka_unit_test(r7_expires_when_both_clocks_have_passed_it),
        cmocka_unit_test(r7_nothing_shared_expires_while_the_partner_is_away),
        cmocka_unit_test(r5_purged_when_both_have_done_with_it),
        cmocka_unit_test(r1_partners_clock_raises_an_alarm),
    };

    return cmocka_run_group_tests_name("ledger_pair", tests, NULL, NULL);
}
