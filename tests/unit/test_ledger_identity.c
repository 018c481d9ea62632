/* R11: who is who; how a new node gets a history, and how one that lost its own gets another. */
#include "ledger_story.h"

#define WAIT_MS (DAY + 2 * PAIR_SKEW_MS)

static void begin_new(struct story *s, unsigned node)
{
    story_begin_as(s, node, true);
    s->conf.skew_max_ms = PAIR_SKEW_MS;
    story_restart(s);
}
#define NEW_NODE(s, node)                                                                          \
    struct story s __attribute__((cleanup(story_end)));                                            \
    begin_new(&(s), (node))

static void grant(struct story *s, unsigned lease)
{
    assert_ok(s, story_grant(s, ANN, LEASE(lease, .duration_ms = HOUR)));
}

static void assert_partner(const struct story *s, unsigned node)
{
    assert_int_equal(ledger_pair(s->ledger).partner.bytes[15], node);
}

/* ---- a new node -------------------------------------------------------------------------------
 */

static void r11_a_new_node_decides_nothing(void **state)
{
    NEW_NODE(a, 1);
    (void)state;

    assert_state(&a, SELF_UNFILLED);
    assert_err(&a, ERR_NODE_UNFILLED, story_install(&a, &(struct ent_spec){ SEATS(4) }));
    assert_err(&a, ERR_NODE_UNFILLED, story_enrol(&a, ANN, false));
    assert_err(&a, ERR_NODE_UNFILLED, story_grant(&a, ANN, LEASE(1)));
    assert_err(&a, ERR_NODE_UNFILLED, story_list(&a, ANN));
    assert_err(&a, ERR_NOT_READY, story_drain(&a));
    assert_int_equal(ledger_counts(a.ledger).origins, 0);
    assert_int_equal(ledger_next_due(a.ledger), INT64_MAX);
    assert_true(story_introduction(&a).fresh);
}

static void r11_two_new_nodes_refill_each_other(void **state)
{
    NEW_NODE(a, 1);
    NEW_NODE(b, 2);
    (void)state;

    assert_int_equal(pair_meet(&a, &b), ERR_OK);
    assert_partner(&a, 2);
    assert_partner(&b, 1);
    assert_state(&b, SELF_UNFILLED);
    pair_tell(&a, &b);
    assert_state(&b, SELF_SERVING);
    assert_state(&a, SELF_UNFILLED);
    story_restart(&b);
    assert_state(&b, SELF_SERVING);
    pair_tell(&b, &a);
    assert_state(&a, SELF_SERVING);
}

/* It waits as well if the other one is there, but has nothing to tell for now. */
static void r11_a_new_node_is_refilled_by_one_with_a_history(void **state)
{
    STORY(a, ALONE);
    NEW_NODE(b, 2);
    (void)state;

    story_install(&a, &(struct ent_spec){ SEATS(10) });
    grant(&a, 1);
    assert_int_equal(pair_meet(&b, &a), ERR_OK);
    pair_tell(&a, &b);
    assert_state(&b, SELF_SERVING);
    assert_free(&b, 1, 0); /* it owns no credits until it is given some */
    assert_int_equal(scope_now(&b, 1).at_peer, 9);
    assert_err(&b, ERR_SEATS_AT_PEER, story_grant(&b, BOB, LEASE(2)));
    assert_ok(&b, story_renew(&b, ANN, 1, NULL));
    pair_settle(&a, &b);
    assert_int_equal(scope_now(&a, 1).free_here + scope_now(&b, 1).free_here, 9);
    assert_same(&a, &b);
}

/* R7: from its registration on, whether it ever comes or not. */
static void r11_a_registered_node_counts(void **state)
{
    STORY(a, ALONE);
    NEW_NODE(b, 2);
    (void)state;

    a.conf.skew_max_ms = PAIR_SKEW_MS;
    story_restart(&a);
    story_install(&a, &(struct ent_spec){ SEATS(10) });
    grant(&a, 1);
    struct node_introduction b_is = story_introduction(&b);
    assert_ok(&a, story_meet(&a, &b_is));
    assert_partner(&a, 2);
    AUTO(ledger_page_free) struct ledger_page *lost = pair_page(&a, &b, PAGE_ROWS_MAX);
    assert_true(lost->leases[0].shared);
    story_restart(&a);
    assert_partner(&a, 2);
    story_wait(&a, 2 * DAY);
    assert_int_equal(lease_row_of(&a, 1, 1)->state, LEASE_ACTIVE);
    assert_ok(&a, story_retire(&a, PEER));
    story_wait(&a, WAIT_MS);
    assert_int_equal(lease_row_of(&a, 1, 1)->state, LEASE_EXPIRED);
}

/* What it decided is acknowledged by whoever has decided nothing: it will know only what it is
 * told. */
static void r8_a_newcomer_acknowledges_what_was_before_it(void **state)
{
    STORY(a, ALONE);
    NEW_NODE(b, 2);
    (void)state;

    story_install(&a, &(struct ent_spec){ SEATS(10) });
    grant(&a, 1);
    assert_ok(&a, story_release(&a, ANN, 1, NULL));
    struct node_introduction b_is = story_introduction(&b);
    assert_ok(&a, story_meet(&a, &b_is));
    assert_free(&a, 1, 10);
    assert_int_equal(node_row_of(&a, 2)->acknowledged < ledger_seq(a.ledger), true);
    assert_int_equal(node_row_of(&a, 2)->watermark_ms, NOON - 1);
    assert_ok(&a, story_install(&a, &(struct ent_spec){ SEATS(12), .revision = 2 }));
    assert_false(a.result.usable); /* but nothing from then on */
}

/* R6: a seat that came back with the former partner's word stays back. */
static void r8_a_newcomer_unsettles_nothing(void **state)
{
    PAIR(a, b);
    NEW_NODE(c, 3);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(10) });
    grant(&a, 1);
    pair_settle(&a, &b);
    assert_ok(&a, story_release(&a, ANN, 1, NULL));
    pair_settle(&a, &b);
    assert_ok(&a, story_retire(&a, PEER));
    assert_free(&a, 1, 5);
    struct node_introduction c_is = story_introduction(&c);
    assert_ok(&a, story_meet(&a, &c_is));
    assert_free(&a, 1, 5);
    assert_int_equal(scope_now(&a, 1).waiting, 0);
}

/* Credits went to and fro before; told row by row, none may seem to have been given away before it
 * was had (R2). */
static void r8_a_newcomer_is_refilled_row_by_row(void **state)
{
    for (size_t limit = 1; limit <= 5; limit++) {
        PAIR(a, b);
        pair_install(&a, &b, &(struct ent_spec){ SEATS(12) });
        for (unsigned round = 0; round < 3; round++) {
            assert_ok(&b, story_give(&b, 1, 1, 3));
            pair_tell(&b, &a);
            grant(&b, 10 + round); /* rows between */
            pair_settle(&a, &b);
            assert_ok(&a, story_give(&a, 1, 2, 2));
            grant(&a, 20 + round);
            pair_settle(&a, &b);
        }
        assert_ok(&a, story_give(&a, 1, 2, 1)); /* moves up, past what b gave back of it */
        assert_ok(&a, story_retire(&a, 2));
        NEW_NODE(c, 3);
        assert_int_equal(pair_meet(&c, &a), ERR_OK);
        pair_tell_by(&a, &c, limit);
        assert_state(&c, SELF_SERVING);
        pair_settle(&a, &c);
        assert_same(&a, &c);
    }
    (void)state;
}

/* ---- who is refused ---------------------------------------------------------------------------
 */

static void r11_itself_is_refused(void **state)
{
    PAIR(a, b);
    (void)state;

    struct node_introduction a_is = story_introduction(&a);
    assert_err(&a, ERR_PEER_SELF, story_meet(&a, &a_is));
    assert_partner(&a, 2);
}

static void r11_two_histories_are_refused(void **state)
{
    STORY(a, ALONE);
    struct story b __attribute__((cleanup(story_end)));
    (void)state;

    story_begin_as(&b, 2, false);
    uint64_t seq = ledger_seq(a.ledger);
    assert_int_equal(pair_meet(&a, &b), ERR_PEER_FOREIGN);
    assert_int_equal(pair_meet(&b, &a), ERR_PEER_FOREIGN);
    assert_int_equal(ledger_seq(a.ledger), seq);
    assert_int_equal(ledger_counts(a.ledger).nodes, 1);
}

/* One that cannot name its former self: a database that was lost for good. */
static void r11_a_stranger_is_refused_while_a_partner_counts(void **state)
{
    PAIR(a, b);
    NEW_NODE(c, 3);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(10) });
    struct node_introduction c_is = story_introduction(&c);
    assert_err(&a, ERR_PEER_UNKNOWN, story_meet(&a, &c_is));
    assert_partner(&a, 2);
    /* the answer says who it is, but also whom it counts */
    struct node_introduction a_is = a.result.introduction;
    assert_int_equal(a_is.node_ref.bytes[15], 1);
    assert_err(&c, ERR_PEER_UNKNOWN, story_meet(&c, &a_is));
    assert_err(&a, ERR_PEER_UNKNOWN, story_peer_fetched(&a, 3));
    assert_ok(&a, story_retire(&a, 2));
    assert_int_equal(pair_meet(&c, &a), ERR_OK);
    assert_partner(&a, 3);
    pair_settle(&a, &c);
    assert_same(&a, &c);
    assert_int_equal(scope_now(&c, 1).free_here, 2);
    assert_int_equal(scope_now(&a, 1).free_here, 3);
    assert_int_equal(scope_now(&a, 1).locked, 5);
}

static void r11_one_who_counts_another_is_refused(void **state)
{
    NEW_NODE(c, 3);
    (void)state;

    struct node_introduction of = {
        .node_ref = ref('N', 1), .refilled = true, .now_ms = NOON, .partner = ref('N', 2)
    };
    assert_err(&c, ERR_PEER_UNKNOWN, story_meet(&c, &of));
    of.partner = ref('N', 3);
    assert_ok(&c, story_meet(&c, &of));
}

static void r11_meeting_again_changes_nothing(void **state)
{
    PAIR(a, b);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(10) });
    uint64_t seq_a = ledger_seq(a.ledger), seq_b = ledger_seq(b.ledger);
    assert_int_equal(pair_meet(&a, &b), ERR_OK);
    assert_int_equal(pair_meet(&b, &a), ERR_OK);
    assert_int_equal(ledger_seq(a.ledger), seq_a);
    assert_int_equal(ledger_seq(b.ledger), seq_b);
    assert_int_equal(a.result.introduction.cursor, seq_b);
    struct node_introduction b_is = story_introduction(&b);
    b_is.longest_ms = 2 * DAY; /* R10: known as soon as it is said */
    assert_ok(&a, story_meet(&a, &b_is));
    assert_int_equal(node_row_of(&a, 2)->longest_ms, 2 * DAY);
}

/* ---- history lost: how it is noticed ----------------------------------------------------------
 */

/* b is put back to before lease 2, which a knows of. */
static struct lease_evidence begin_rolled_back(struct story *a, struct story *b)
{
    struct rows backup;

    pair_install(a, b, &(struct ent_spec){ SEATS(10) });
    grant(b, 1);
    pair_settle(a, b);
    story_save(b, &backup);
    pair_wait(a, b, MINUTE);
    grant(b, 2);
    struct lease_evidence token = evidence_last(b);
    pair_settle(a, b);
    story_roll_back(b, &backup);
    rows_fini(&backup);
    return token;
}

static void r11_noticed_by_the_partners_cursor(void **state)
{
    for (int client = 0; client < 2; client++) {
        PAIR(a, b);
        begin_rolled_back(&a, &b);
        assert_int_equal(client ? pair_meet(&b, &a) : pair_meet(&a, &b), ERR_HISTORY_LOST);
        assert_int_equal(b.result.err, ERR_HISTORY_LOST);
        assert_ok(&a, story_grant(&a, BOB, LEASE(9))); /* a has lost nothing */
    }
    (void)state;
}

/* R8: nothing may be decided any more at a time that was told to be over. */
static void r8_noticed_by_the_time_that_was_told(void **state)
{
    for (int client = 0; client < 2; client++) {
        struct rows rows;
        PAIR(a, b);
        pair_wait(&a, &b, MINUTE);
        pair_tell(&b, &a); /* W: a millisecond ago */
        story_save(&b, &rows);
        b.now_ms -= 1;
        story_roll_back(&b, &rows); /* its clock did not last */
        assert_int_equal(client ? pair_meet(&b, &a) : pair_meet(&a, &b), ERR_HISTORY_LOST);
        b.now_ms += 1;
        assert_int_equal(client ? pair_meet(&b, &a) : pair_meet(&a, &b), ERR_OK);
        rows_fini(&rows);
    }
    (void)state;
}

static void r11_noticed_when_changes_are_asked_for(void **state)
{
    PAIR(a, b);
    (void)state;

    begin_rolled_back(&a, &b);
    struct ledger_event event = { .kind = LEDGER_PAGE };
    event.page.receiver = ref('N', 1);
    event.page.since = ledger_pair(a.ledger).cursor;
    event.page.limit = 1;
    assert_err(&b, ERR_HISTORY_LOST, story_step(&b, event));
}

static void r11_noticed_by_what_the_partner_has_seen(void **state)
{
    PAIR(a, b);
    (void)state;

    begin_rolled_back(&a, &b);
    AUTO(ledger_page_free) struct ledger_page *page = pair_page(&a, &b, PAGE_ROWS_MAX);
    uint64_t cursor = ledger_pair(b.ledger).cursor;
    assert_err(&b, ERR_HISTORY_LOST, story_merge(&b, page));
    assert_int_equal(ledger_pair(b.ledger).cursor, cursor);
}

static void r11_noticed_by_an_own_token(void **state)
{
    PAIR(a, b);
    (void)state;

    struct lease_evidence token = begin_rolled_back(&a, &b);
    assert_true(token.seq > ledger_seq(b.ledger));
    assert_err(&b, ERR_HISTORY_LOST, story_renew(&b, ANN, 2, &token));
    assert_err(&b, ERR_HISTORY_LOST, story_release(&b, ANN, 2, &token));
    token.seq = ledger_seq(b.ledger); /* no later than its history */
    assert_err(&b, ERR_LEASE_ENDED, story_renew(&b, ANN, 2, &token));
    token.seq = UINT64_MAX; /* … or of another node's */
    token.signer = ref('N', 1);
    assert_err(&b, ERR_LEASE_ENDED, story_renew(&b, ANN, 2, &token));
}

/* Change numbers have caught up, but what was decided under them is another history. */
static void r11_noticed_by_an_own_lease(void **state)
{
    PAIR(a, b);
    (void)state;

    begin_rolled_back(&a, &b);
    for (unsigned i = 0; i < 9; i++)
        assert_ok(&b, story_prove(&b, 100 + i));
    assert_int_equal(pair_meet(&a, &b), ERR_OK); /* nobody can know yet */
    story_restart(&a); /* which rows came from b is not remembered: a tells all of them */
    AUTO(ledger_page_free) struct ledger_page *page = pair_page(&a, &b, PAGE_ROWS_MAX);
    assert_int_equal(page->lease_count, 1);
    assert_err(&b, ERR_HISTORY_LOST, story_merge(&b, page));
}

/* ---- history lost: what is done ---------------------------------------------------------------
 */

static void r11_under_a_new_name_it_is_refilled(void **state)
{
    PAIR(a, b);
    (void)state;

    begin_rolled_back(&a, &b);
    story_rename(&b, 4);
    assert_state(&b, SELF_UNFILLED);
    assert_err(&b, ERR_NODE_UNFILLED, story_renew(&b, ANN, 1, NULL));
    struct node_introduction b_is = story_introduction(&b);
    assert_false(b_is.fresh || b_is.refilled);
    assert_int_equal(b_is.former[0].bytes[15], 2);
    assert_ok(&a, story_meet(&a, &b_is));
    /* at once: the former one is retired, and the newcomer counts */
    assert_true(node_row_of(&a, 2)->retired);
    assert_int_equal(node_row_of(&a, 2)->heir.bytes[15], 1);
    assert_int_equal(node_row_of(&a, 2)->wait_ms, a.now_ms + WAIT_MS);
    assert_partner(&a, 4);
    struct node_introduction a_is = a.result.introduction;
    assert_ok(&b, story_meet(&b, &a_is));
    AUTO(ledger_page_free) struct ledger_page *page = pair_page(&a, &b, PAGE_ROWS_MAX);
    assert_ok(&b, story_merge(&b, page));
    assert_true(b.result.wipe); /* the rows of the lost history go first */
    assert_non_null(lease_row_of(&b, 1, 2));
    story_wipe(&b);
    assert_null(lease_row_of(&b, 1, 2));
    assert_state(&b, SELF_UNFILLED);
    assert_partner(&b, 1);
    pair_tell_by(&a, &b, 1);
    assert_state(&b, SELF_SERVING);
    pair_settle(&a, &b);
    assert_same(&a, &b);
    assert_ok(&b, story_renew(&b, ANN, 2, NULL)); /* nothing that was acknowledged is lost (I2) */
    assert_int_equal(scope_now(&a, 1).locked, 3);
    assert_int_equal(scope_now(&a, 1).free_here + scope_now(&b, 1).free_here, 5);
    pair_wait(&a, &b, WAIT_MS);
    pair_tell(&a, &b);
    pair_tell(&b, &a);
    pair_settle(&a, &b);
    assert_int_equal(scope_now(&a, 1).free_here + scope_now(&b, 1).free_here, 10);
}

static void r11_nobody_is_told_by_a_lost_history(void **state)
{
    PAIR(a, b);
    (void)state;

    begin_rolled_back(&a, &b);
    story_rename(&b, 4);
    assert_int_equal(pair_meet(&b, &a), ERR_OK);
    assert_err(&b, ERR_NODE_UNFILLED, story_peer_fetched(&b, 1));
    struct ledger_page page = story_peer_page(&a, 4);
    page.refilled = false;
    assert_ok(&a, story_merge(&a, &page)); /* says nothing: a has a history */
    PAIR(c, d);
    story_rename(&c, 5);
    page = story_peer_page(&c, 2);
    page.refilled = false;
    page.fresh = true;
    assert_err(&c, ERR_NODE_UNFILLED, story_merge(&c, &page)); /* c must find its own again */
}

/* Twice before anybody heard of the first time. */
static void r11_all_former_selves_are_named(void **state)
{
    PAIR(a, b);
    (void)state;

    begin_rolled_back(&a, &b);
    story_rename(&b, 4);
    story_rename(&b, 5);
    struct node_introduction b_is = story_introduction(&b);
    assert_int_equal(b_is.former[0].bytes[15], 4);
    assert_int_equal(b_is.former[1].bytes[15], 2);
    assert_int_equal(pair_meet(&b, &a), ERR_OK);
    assert_true(node_row_of(&a, 2)->retired);
    assert_partner(&a, 5);
}

/* The database was put back to before it knew of its present partner. */
static void r11_rolled_back_to_before_its_partner_was_replaced(void **state)
{
    for (int client = 0; client < 2; client++) {
        struct rows backup;
        PAIR(a, b);
        NEW_NODE(c, 3);
        pair_install(&a, &b, &(struct ent_spec){ SEATS(10) });
        story_save(&b, &backup);
        assert_ok(&b, story_retire(&b, SELF_NODE));
        assert_int_equal(pair_meet(&c, &b), ERR_OK);
        pair_settle(&b, &c);
        story_roll_back(&b, &backup);
        rows_fini(&backup);
        story_rename(&b, 4); /* its state file knows better */
        /* either may call first; who counts the other's former self counts the other */
        assert_int_equal(client ? pair_meet(&b, &c) : pair_meet(&c, &b), ERR_OK);
        assert_partner(&c, 4);
        assert_partner(&b, 3);
        AUTO(ledger_page_free) struct ledger_page *page = pair_page(&c, &b, PAGE_ROWS_MAX);
        assert_ok(&b, story_merge(&b, page));
        assert_true(b.result.wipe);
        story_wipe(&b);
        pair_tell(&c, &b);
        pair_settle(&b, &c);
        assert_state(&b, SELF_SERVING);
        assert_same(&b, &c);
    }
    (void)state;
}

/* ---- both lost their history ------------------------------------------------------------------
 */

static void r11_both_lost_theirs(void **state)
{
    for (int client = 0; client < 2; client++) {
        PAIR(a, b);
        pair_install(&a, &b, &(struct ent_spec){ SEATS(10) });
        grant(&a, 1);
        grant(&b, 2);
        pair_settle(&a, &b);
        story_rename(&a, 6);
        story_rename(&b, 7);
        assert_int_equal(pair_meet(&a, &b), ERR_NODE_UNFILLED);
        assert_int_equal(pair_meet(&b, &a), ERR_NODE_UNFILLED);
        /* only an operator can say that nobody knows better */
        assert_ok(&a, story_retire(&a, client ? 0 : 2)); /* its former self with it */
        assert_int_equal(a.result.affected, 2);
        assert_int_equal(a.result.wait_ms, a.now_ms + WAIT_MS);
        assert_state(&a, SELF_SERVING);
        assert_ok(&a, story_renew(&a, ANN, 1, NULL)); /* from what it has */
        assert_ok(&a, story_renew(&a, ANN, 2, NULL));
        assert_int_equal(scope_now(&a, 1).free_here, 0);
        assert_int_equal(scope_now(&a, 1).locked, 8);
        assert_true(node_row_of(&a, 1)->retired && node_row_of(&a, 2)->retired);
        /* the other one joins it, and forgets its own */
        assert_int_equal(client ? pair_meet(&b, &a) : pair_meet(&a, &b), ERR_OK);
        AUTO(ledger_page_free) struct ledger_page *page = pair_page(&a, &b, PAGE_ROWS_MAX);
        assert_ok(&b, story_merge(&b, page));
        assert_true(b.result.wipe);
        story_wipe(&b);
        pair_settle(&a, &b);
        assert_state(&b, SELF_SERVING);
        assert_same(&a, &b);
        pair_wait(&a, &b, WAIT_MS);
        pair_tell(&a, &b);
        pair_tell(&b, &a);
        pair_settle(&a, &b);
        assert_int_equal(scope_now(&a, 1).free_here + scope_now(&b, 1).free_here, 10);
    }
    (void)state;
}

/* ---- disks of the past ------------------------------------------------------------------------
 */

/* A copy of a retired node's disk from before its partner was replaced hears of its retirement from
 * somebody whom it never met. */
static void r10_an_old_disk_believes_its_partners_successor(void **state)
{
    struct rows old;
    PAIR(a, b);
    NEW_NODE(c, 3);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(10) });
    story_save(&a, &old);
    assert_ok(&a, story_retire(&a, PEER));
    assert_int_equal(pair_meet(&c, &a), ERR_OK);
    pair_settle(&a, &c);
    assert_ok(&c, story_retire(&c, SELF_NODE));
    story_roll_back(&a, &old);
    rows_fini(&old);
    struct node_introduction a_is = story_introduction(&a);
    assert_err(&c, ERR_PEER_RETIRED, story_meet(&c, &a_is));
    assert_ok(&a, story_dismissed(&a, THIRD_NODE));
    assert_state(&a, SELF_RETIRED);
    assert_err(&a, ERR_NODE_RETIRED, story_grant(&a, ANN, LEASE(1)));
    story_restart(&a);
    assert_int_equal(ledger_pair(a.ledger).retired_by.bytes[15], THIRD_NODE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(r11_a_new_node_decides_nothing),
        cmocka_unit_test(r11_two_new_nodes_refill_each_other),
        cmocka_unit_test(r11_a_new_node_is_refilled_by_one_with_a_history),
        cmocka_unit_test(r11_a_registered_node_counts),
        cmocka_unit_test(r8_a_newcomer_acknowledges_what_was_before_it),
        cmocka_unit_test(r8_a_newcomer_unsettles_nothing),
        cmocka_unit_test(r8_a_newcomer_is_refilled_row_by_row),
        cmocka_unit_test(r11_itself_is_refused),
        cmocka_unit_test(r11_two_histories_are_refused),
        cmocka_unit_test(r11_a_stranger_is_refused_while_a_partner_counts),
        cmocka_unit_test(r11_one_who_counts_another_is_refused),
        cmocka_unit_test(r11_meeting_again_changes_nothing),
        cmocka_unit_test(r11_noticed_by_the_partners_cursor),
        cmocka_unit_test(r8_noticed_by_the_time_that_was_told),
        cmocka_unit_test(r11_noticed_when_changes_are_asked_for),
        cmocka_unit_test(r11_noticed_by_what_the_partner_has_seen),
        cmocka_unit_test(r11_noticed_by_an_own_token),
        cmocka_unit_test(r11_noticed_by_an_own_lease),
        cmocka_unit_test(r11_under_a_new_name_it_is_refilled),
        cmocka_unit_test(r11_nobody_is_told_by_a_lost_history),
        cmocka_unit_test(r11_all_former_selves_are_named),
        cmocka_unit_test(r11_rolled_back_to_before_its_partner_was_replaced),
        cmocka_unit_test(r11_both_lost_theirs),
        cmocka_unit_test(r10_an_old_disk_believes_its_partners_successor),
    };

    return cmocka_run_group_tests_name("ledger_identity", tests, NULL, NULL);
}
