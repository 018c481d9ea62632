/* R2: credits are minted once, moved, never copied; and what entitlements mean for them. */
#include "ledger_story.h"

/* ---- minting -------------------------------------------------------------------------------- */

static void r2_installed_seats_are_usable_at_once_without_a_peer(void **state)
{
    STORY(s, ALONE);
    (void)state;

    assert_ok(&s, story_install(&s, &(struct ent_spec){ SEATS(3) }));
    assert_true(s.result.created && s.result.usable);
    assert_int_equal(s.result.scope_count, 1);
    assert_int_equal(s.result.scopes[0].free_here, 3);
    assert_int_equal(s.result.scopes[0].pending, 0);
}

static void r2_minted_seats_are_pending_until_the_peer_acknowledges(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    assert_ok(&s, story_install(&s, &(struct ent_spec){ SEATS(3) }));
    assert_false(s.result.usable);
    assert_err(&s, ERR_SEATS_PENDING, story_grant(&s, ANN, LEASE(1)));
    assert_int_equal(s.result.scopes[0].pending, 3);
    uint64_t minted = s.rows.entitlements.items[0].seq;
    assert_true(minted < ledger_seq(s.ledger));
    story_peer_fetched(&s, PEER); /* fetching is no acknowledgement */
    assert_err(&s, ERR_SEATS_PENDING, story_grant(&s, ANN, LEASE(1)));
    story_peer_states(&s, PEER, NOON, minted - 1);
    assert_err(&s, ERR_SEATS_PENDING, story_grant(&s, ANN, LEASE(1)));
    story_peer_states(&s, PEER, NOON, minted);
    assert_ok(&s, story_grant(&s, ANN, LEASE(1, .count = 3)));
}

static void r2_a_known_peer_counts_even_if_none_is_configured(void **state)
{
    STORY(s, ALONE);
    (void)state;

    assert_ok(&s, story_peer_met(&s, PEER));
    story_peer_fetched(&s, PEER);
    story_install(&s, &(struct ent_spec){ SEATS(3) });
    assert_free(&s, 1, 0);
    story_peer_states(&s, PEER, NOON, SEEN_ALL);
    assert_free(&s, 1, 3);
}

static void r2_only_the_new_seats_are_pending(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(3) });
    story_peer_states(&s, PEER, NOON, SEEN_ALL);
    story_install(&s, &(struct ent_spec){ SEATS(8), .revision = 2 });
    assert_free(&s, 1, 3);
    assert_int_equal(scope_now(&s, 1).pending, 5);
    assert_ok(&s, story_grant(&s, ANN, LEASE(1, .count = 3)));
    assert_err(&s, ERR_SEATS_PENDING, story_grant(&s, ANN, LEASE(2)));
    story_restart(&s); /* what was usable still is, the peer away or not */
    assert_ok(&s, story_release(&s, ANN, 1, NULL));
    story_peer_states(&s, PEER, NOON, s.rows.entitlements.items[1].seq - 1);
    assert_int_equal(scope_now(&s, 1).pending, 5);
    story_peer_states(&s, PEER, NOON, SEEN_ALL);
    assert_free(&s, 1, 8);
}

/* A reduction takes effect at once, an increase when it is usable: what was pending before a
 * reduction still is, so between the two less is usable than is in force, never more. */
static void r2_pending_seats_may_be_reduced(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(5) });
    story_peer_states(&s, PEER, NOON, SEEN_ALL);
    story_install(&s, &(struct ent_spec){ SEATS(9), .revision = 2 });
    story_install(&s, &(struct ent_spec){ SEATS(7), .revision = 3 });
    assert_free(&s, 1, 3);
    assert_int_equal(scope_now(&s, 1).pending, 4);
    story_install(&s, &(struct ent_spec){ SEATS(2), .revision = 4 });
    assert_free(&s, 1, 0);
    assert_int_equal(scope_now(&s, 1).seats, 2);
    story_peer_states(&s, PEER, NOON, SEEN_ALL);
    assert_free(&s, 1, 2);
    assert_int_equal(scope_now(&s, 1).pending, 0);
}

static void r2_same_document_again_mints_nothing(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(3) });
    uint64_t seq = ledger_seq(s.ledger);
    assert_ok(&s, story_install(&s, &(struct ent_spec){ SEATS(3) }));
    assert_false(s.result.created);
    assert_true(s.result.usable);
    assert_int_equal(s.result.scopes[0].seats, 3);
    assert_int_equal(ledger_seq(s.ledger), seq);
    assert_free(&s, 1, 3);
}

/* ---- revisions --------------------------------------------------------------------------------
 */

static void r2_a_higher_revision_mints_its_difference(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(3) });
    story_grant(&s, ANN, LEASE(1, .count = 2));
    assert_ok(&s, story_install(&s, &(struct ent_spec){ SEATS(10), .revision = 7 }));
    assert_true(s.result.created);
    assert_free(&s, 1, 8);
    assert_int_equal(s.rows.credits.count, 1);
    assert_int_equal(s.rows.credits.items[0].minted, 10);
    assert_int_equal(s.rows.credits.items[0].revision, 7);
    assert_int_equal(s.rows.entitlements.count, 2);
    assert_int_equal(s.rows.scopes.items[0].revision, 7);
    assert_int_equal(s.rows.scopes.items[0].seats, 10);
}

static void r2_wrong_revisions_change_nothing(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(3), .revision = 5 });
    uint64_t seq = ledger_seq(s.ledger);
    assert_err(&s, ERR_ENT_OUTDATED,
               story_install(&s, &(struct ent_spec){ SEATS(9), .revision = 4 }));
    assert_err(&s, ERR_ENT_CONFLICT,
               story_install(&s, &(struct ent_spec){ SEATS(9), .revision = 5 }));
    assert_err(
        &s, ERR_ENT_CONFLICT,
        story_install(&s, &(struct ent_spec){ SEATS(9), .revision = 6, .publisher = "other" }));
    assert_err(&s, ERR_ENT_CONFLICT,
               story_install(&s, &(struct ent_spec){ SEATS(9), .ref = 2 })); /* its scope 1 */
    assert_err(
        &s, ERR_ENT_CONFLICT,
        story_install(&s, &(struct ent_spec){ .revision = 6,
                                              .features = { { .seats = 9, .name = "edit" } } }));
    assert_int_equal(ledger_seq(s.ledger), seq);
    assert_int_equal(s.result.scope_count, 0);
    assert_free(&s, 1, 3);
}

static void r2_conflict_of_the_last_feature_changes_none(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(3) });
    struct ent_spec mixed = { .ref = 2,
                              .features = { { .scope = 2, .name = "edit", .seats = 4 },
                                            { .scope = 1, .seats = 4 } } };
    assert_err(&s, ERR_ENT_CONFLICT, story_install(&s, &mixed));
    assert_int_equal(ledger_counts(s.ledger).scopes, 1);
    assert_err(&s, ERR_SCOPE_UNKNOWN, story_grant(&s, ANN, LEASE(1, .feature = "edit")));
}

static void r2_reduction_grants_nothing_until_seats_come_back(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(5) });
    for (unsigned i = 1; i <= 5; i++)
        story_grant(&s, ANN, LEASE(i, .duration_ms = i * HOUR));
    assert_ok(&s, story_install(&s, &(struct ent_spec){ SEATS(2), .revision = 2 }));
    assert_int_equal(s.result.scopes[0].free_here, 0);
    assert_int_equal(scope_now(&s, 1).used, 5);
    assert_int_equal(scope_now(&s, 1).seats, 2);
    for (unsigned i = 1; i <= 3; i++) {
        assert_err(&s, ERR_NO_FREE_SEAT, story_grant(&s, BOB, LEASE(9)));
        story_wait(&s, HOUR);
        assert_free(&s, 1, 0);
    }
    assert_int_equal(scope_now(&s, 1).used, 2);
    assert_err(&s, ERR_NO_FREE_SEAT, story_grant(&s, BOB, LEASE(9)));
    story_release(&s, ANN, 4, NULL);
    assert_free(&s, 1, 1);
    assert_ok(&s, story_grant(&s, BOB, LEASE(9)));
    assert_err(&s, ERR_COUNT_OVER_SEATS, story_grant(&s, BOB, LEASE(10, .count = 3)));
}

static void r2_reduction_and_growth_again(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(5) });
    story_grant(&s, ANN, LEASE(1, .count = 4));
    story_install(&s, &(struct ent_spec){ SEATS(1), .revision = 2 });
    story_restart(&s);
    assert_free(&s, 1, 0);
    story_install(&s, &(struct ent_spec){ SEATS(5), .revision = 3 });
    assert_free(&s, 1, 1);
    assert_ok(&s, story_grant(&s, ANN, LEASE(2)));
    assert_err(&s, ERR_NO_FREE_SEAT, story_grant(&s, ANN, LEASE(3)));
}

static struct ent_spec two_features(int64_t revision, int64_t edit_seats)
{
    return (struct ent_spec){ .revision = revision,
                              .features = { { .scope = 1, .seats = 3 },
                                            { .scope = 2, .name = "edit", .seats = edit_seats } } };
}

static void r2_dropped_feature_grants_nothing_and_comes_back(void **state)
{
    STORY(s, ALONE);
    (void)state;

    struct ent_spec both = two_features(1, 4), first = two_features(2, 0),
                    again = two_features(3, 6);
    story_install(&s, &both);
    story_grant(&s, ANN, LEASE(1, .feature = "edit", .count = 3, .duration_ms = HOUR));
    assert_ok(&s, story_install(&s, &first));
    assert_int_equal(s.result.scope_count, 1);
    assert_int_equal(scope_now(&s, 2).seats, 0);
    assert_int_equal(scope_now(&s, 2).used, 3);
    assert_err(&s, ERR_SCOPE_UNKNOWN, story_grant(&s, BOB, LEASE(2, .feature = "edit")));
    assert_err(&s, ERR_SCOPE_UNKNOWN, story_grant(&s, BOB, LEASE(2, .scope = 2)));
    assert_ok(&s, story_renew(&s, ANN, 1, NULL)); /* no lease is taken away */
    assert_ok(&s, story_grant(&s, ANN, LEASE(1, .feature = "edit", .count = 3)));
    assert_int_equal(s.rows.scopes.items[1].seats, 0);
    assert_int_equal(s.rows.scopes.items[1].revision, 1);
    story_restart(&s);
    assert_ok(&s, story_install(&s, &again));
    assert_free(&s, 2, 3);
    assert_ok(&s, story_grant(&s, BOB, LEASE(2, .feature = "edit", .count = 3)));
    assert_err(&s, ERR_NO_FREE_SEAT, story_grant(&s, BOB, LEASE(3, .feature = "edit")));
    assert_int_equal(s.rows.credits.items[1].minted, 6);
}

static void r2_dropped_feature_keeps_its_scope_and_name(void **state)
{
    STORY(s, ALONE);
    (void)state;

    struct ent_spec both = two_features(1, 4), first = two_features(2, 0);
    story_install(&s, &both);
    story_install(&s, &first);
    assert_err(&s, ERR_ENT_CONFLICT,
               story_install(
                   &s, &(struct ent_spec){ .ref = 2, .features = { { .scope = 2, .seats = 1 } } }));
    struct ent_spec renamed = two_features(3, 4);
    renamed.features[1].name = "paint";
    assert_err(&s, ERR_ENT_CONFLICT, story_install(&s, &renamed));
}

static void r2_dropped_twice_mints_once(void **state)
{
    STORY(s, ALONE);
    (void)state;

    struct ent_spec both = two_features(1, 4), first = two_features(2, 0),
                    next = two_features(3, 0);
    story_install(&s, &both);
    story_install(&s, &first);
    next.features[0].seats = 5;
    story_install(&s, &next);
    assert_int_equal(scope_now(&s, 2).seats, 0);
    assert_int_equal(s.rows.credits.items[1].minted, 0);
    assert_free(&s, 1, 5);
}

static void r2_two_installs_in_one_batch(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_hold(&s);
    story_install(&s, &(struct ent_spec){ SEATS(3) });
    story_install(&s, &(struct ent_spec){ SEATS(4), .revision = 2 });
    assert_ok(&s, story_grant(&s, ANN, LEASE(1, .count = 4)));
    story_commit(&s);
    assert_int_equal(s.rows.entitlements.count, 2);
    assert_int_equal(s.rows.credits.count, 1);
}

/* ---- moving -----------------------------------------------------------------------------------
 */

static void begin_paired(struct story *s, int64_t seats)
{
    story_install(s, &(struct ent_spec){ SEATS(seats) });
    story_peer_states(s, PEER, 0, SEEN_ALL);
}

static void r2_moves_what_is_free(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin_paired(&s, 10);
    story_grant(&s, ANN, LEASE(1, .count = 3));
    assert_ok(&s, story_give(&s, 1, PEER, 4));
    assert_int_equal(s.result.given, 4);
    assert_free(&s, 1, 3);
    assert_int_equal(scope_now(&s, 1).at_peer, 4);
    assert_ok(&s, story_give(&s, 1, PEER, 8)); /* 3 of them are leased */
    assert_int_equal(s.result.given, 3);
    assert_free(&s, 1, 0);
    assert_int_equal(s.rows.moves.count, 1);
    assert_int_equal(s.rows.moves.items[0].moved, 7);
    assert_err(&s, ERR_NO_FREE_SEAT, story_give(&s, 1, PEER, 1));
    assert_int_equal(s.result.given, 0);
    assert_int_equal(s.rows.moves.items[0].moved, 7);
    assert_err(&s, ERR_SEATS_AT_PEER, story_grant(&s, BOB, LEASE(2)));
    assert_int_equal(s.result.scopes[0].at_peer, 7);
    assert_err(&s, ERR_NO_FREE_SEAT, story_grant(&s, BOB, LEASE(2, .count = 8)));
}

static void r2_moves_nothing_pending_or_reduced(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin_paired(&s, 4);
    story_install(&s, &(struct ent_spec){ SEATS(9), .revision = 2 });
    assert_ok(&s, story_grant(&s, ANN, LEASE(1, .count = 4)));
    assert_int_equal(scope_now(&s, 1).pending, 5);
    assert_err(&s, ERR_NO_FREE_SEAT, story_give(&s, 1, PEER, 5));
    story_install(&s, &(struct ent_spec){ SEATS(2), .revision = 3 });
    assert_err(&s, ERR_NO_FREE_SEAT, story_give(&s, 1, PEER, 1));
    assert_int_equal(s.rows.moves.count, 0);
}

static void r2_moves_only_to_its_partner(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin_paired(&s, 4);
    assert_err(&s, ERR_PEER_UNKNOWN, story_give(&s, 1, SELF_NODE, 1));
    assert_err(&s, ERR_PEER_UNKNOWN, story_give(&s, 1, THIRD_NODE, 1));
    assert_err(&s, ERR_SCOPE_UNKNOWN, story_give(&s, 2, PEER, 1));
    assert_free(&s, 1, 4);
}

static struct move_row move_of(unsigned giver, unsigned receiver, int64_t moved)
{
    return (struct move_row){ .scope_ref = ref('S', 1),
                              .giver = ref('N', giver),
                              .receiver = ref('N', receiver),
                              .moved = moved };
}

static void r2_seats_received_may_be_granted(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin_paired(&s, 4);
    assert_ok(&s, story_give(&s, 1, PEER, 4));
    struct move_row back = move_of(PEER, SELF_NODE, 3);
    struct ledger_page page = story_peer_page(&s, PEER);
    page.moves = &back;
    page.move_count = 1;
    page.upto = 1;
    assert_ok(&s, story_merge(&s, &page));
    assert_int_equal(s.result.given, 3);
    assert_free(&s, 1, 3);
    assert_int_equal(scope_now(&s, 1).at_peer, 1);
    assert_ok(&s, story_grant(&s, ANN, LEASE(1, .count = 3)));
    assert_err(&s, ERR_SEATS_AT_PEER, story_grant(&s, ANN, LEASE(2)));
}

/* Less than nothing is minted here: that can be stored and loaded. */
static void r2_reduces_what_another_node_minted(void **state)
{
    AUTO(entitlement_unref) struct entitlement *e = ent_new(&(struct ent_spec){ SEATS(10) });
    STORY(s, PAIRED);
    (void)state;

    struct entitlement_row minted = { .entitlement = e,
                                      .installed_ms = NOON,
                                      .minter = ref('N', PEER) };
    struct move_row given = move_of(PEER, SELF_NODE, 6);
    struct ledger_page page = story_peer_page(&s, PEER);
    page.entitlements = &minted;
    page.moves = &given;
    page.entitlement_count = page.move_count = 1;
    page.upto = 2;
    assert_ok(&s, story_merge(&s, &page));
    assert_free(&s, 1, 6);
    assert_ok(&s, story_install(&s, &(struct ent_spec){ SEATS(7), .revision = 2 }));
    assert_int_equal(s.rows.credits.count, 2);
    story_restart(&s);
    assert_free(&s, 1, 3);
    assert_ok(&s, story_grant(&s, ANN, LEASE(1, .count = 3)));
    assert_err(&s, ERR_SEATS_AT_PEER, story_grant(&s, ANN, LEASE(2)));
}

/* ---- R8 ------------------------------------------------------------------------------------- */

static void r8_nobody_has_seen_what_was_not_written(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin_paired(&s, 1);
    uint64_t seq = ledger_seq(s.ledger);
    assert_err(&s, ERR_HISTORY_LOST, story_peer_states(&s, PEER, NOON, seq + 1)); /* R11 */
    assert_err(&s, ERR_PEER_UNKNOWN, story_peer_states(&s, THIRD_NODE, NOON, seq));
    assert_err(&s, ERR_PAGE_REFUSED, story_peer_states(&s, PEER, -1, seq));
    assert_err(&s, ERR_PEER_UNKNOWN, story_peer_states(&s, SELF_NODE, NOON, seq));
    assert_int_equal(ledger_seq(s.ledger), seq);
    assert_int_equal(ledger_counts(s.ledger).nodes, 2);
    assert_int_equal(node_row_of(&s, PEER)->watermark_ms, 0);
}

static void r8_watermark_and_acknowledgement_never_go_back(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin_paired(&s, 1);
    story_peer_states(&s, PEER, NOON, SEEN_ALL);
    uint64_t seen = node_row_of(&s, PEER)->acknowledged;
    assert_int_equal(seen, ledger_seq(s.ledger));
    assert_ok(&s, story_peer_states(&s, PEER, NOON - 1, seen - 1));
    assert_int_equal(node_row_of(&s, PEER)->watermark_ms, NOON);
    assert_int_equal(node_row_of(&s, PEER)->acknowledged, seen);
    assert_ok(&s, story_peer_states(&s, PEER, NOON + 1, 0));
    assert_int_equal(node_row_of(&s, PEER)->watermark_ms, NOON + 1);
    assert_int_equal(node_row_of(&s, PEER)->acknowledged, seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(r2_installed_seats_are_usable_at_once_without_a_peer),
        cmocka_unit_test(r2_minted_seats_are_pending_until_the_peer_acknowledges),
        cmocka_unit_test(r2_a_known_peer_counts_even_if_none_is_configured),
        cmocka_unit_test(r2_only_the_new_seats_are_pending),
        cmocka_unit_test(r2_pending_seats_may_be_reduced),
        cmocka_unit_test(r2_same_document_again_mints_nothing),
        cmocka_unit_test(r2_a_higher_revision_mints_its_difference),
        cmocka_unit_test(r2_wrong_revisions_change_nothing),
        cmocka_unit_test(r2_conflict_of_the_last_feature_changes_none),
        cmocka_unit_test(r2_reduction_grants_nothing_until_seats_come_back),
        cmocka_unit_test(r2_reduction_and_growth_again),
        cmocka_unit_test(r2_dropped_feature_grants_nothing_and_comes_back),
        cmocka_unit_test(r2_dropped_feature_keeps_its_scope_and_name),
        cmocka_unit_test(r2_dropped_twice_mints_once),
        cmocka_unit_test(r2_two_installs_in_one_batch),
        cmocka_unit_test(r2_moves_what_is_free),
        cmocka_unit_test(r2_moves_nothing_pending_or_reduced),
        cmocka_unit_test(r2_moves_only_to_its_partner),
        cmocka_unit_test(r2_seats_received_may_be_granted),
        cmocka_unit_test(r2_reduces_what_another_node_minted),
        cmocka_unit_test(r8_nobody_has_seen_what_was_not_written),
        cmocka_unit_test(r8_watermark_and_acknowledgement_never_go_back),
    };

    return cmocka_run_group_tests_name("ledger_credit", tests, NULL, NULL);
}
