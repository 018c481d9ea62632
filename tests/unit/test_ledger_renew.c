/* R4: renewing, adopting, and what a lease token is worth. */
#include "ledger_story.h"

static void begin(struct story *s)
{
    story_install(s, &(struct ent_spec){ SEATS(3) });
    story_peer_states(s, PEER, 0, SEEN_ALL); /* known from now on, and it listens */
}

static void r4_extends_by_the_duration_asked_for(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(1) });
    story_grant(&s, ANN, LEASE(1, .duration_ms = HOUR));
    story_wait(&s, 10 * MINUTE);
    assert_ok(&s, story_renew(&s, ANN, 1, NULL));
    assert_int_equal(last_lease(&s)->expires_ms, NOON + 10 * MINUTE + HOUR);
    assert_int_equal(last_lease(&s)->created_ms, NOON);
    assert_false(s.result.created);
    assert_same_row(lease_row_of(&s, 1, 0), last_lease(&s));
    assert_int_equal(scope_now(&s, 1).used, 1);
}

static void r4_renews_without_grace(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(2) });
    story_grant(&s, ANN, LEASE(1, .duration_ms = HOUR));
    story_grant(&s, ANN, LEASE(2, .duration_ms = HOUR));
    story_wait(&s, HOUR - 1);
    assert_ok(&s, story_renew(&s, ANN, 1, NULL));
    struct lease_evidence token = evidence_last(&s);
    s.now_ms += 1;
    assert_err(&s, ERR_LEASE_ENDED, story_renew(&s, ANN, 2, NULL));
    token.expires_ms = NOON + HOUR;
    token.lease_ref = ref('L', 2);
    assert_err(&s, ERR_LEASE_ENDED, story_renew(&s, ANN, 2, &token));
    assert_int_equal(lease_row_of(&s, 2, 0)->state, LEASE_EXPIRED);
    assert_free(&s, 1, 1);
}

static void r4_renews_without_grace_under_a_clock_alarm(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(1) });
    story_grant(&s, ANN, LEASE(1, .duration_ms = HOUR));
    s.alarm = true;
    story_wait(&s, HOUR);
    assert_free(&s, 1, 0);                                          /* R7 pauses … */
    assert_err(&s, ERR_LEASE_ENDED, story_renew(&s, ANN, 1, NULL)); /* … R4 gives nothing away */
    assert_err(&s, ERR_LEASE_ENDED, story_grant(&s, ANN, LEASE(1)));
    assert_ok(&s, story_list(&s, ANN));
    assert_int_equal(s.result.lease_count, 0);
}

static void r4_never_shortens(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(1), .ends_ms = NOON + HOUR });
    story_grant(&s, ANN, LEASE(1));
    uint64_t seq = last_lease(&s)->seq;
    story_install(&s, &(struct ent_spec){ SEATS(1), .revision = 2, .ends_ms = NOON + MINUTE });
    assert_ok(&s, story_renew(&s, ANN, 1, NULL));
    assert_int_equal(last_lease(&s)->expires_ms, NOON + HOUR);
    assert_int_equal(last_lease(&s)->seq, seq);
    story_wait(&s, 30 * MINUTE); /* the entitlement has ended, the lease has not */
    assert_ok(&s, story_renew(&s, ANN, 1, NULL));
    assert_int_equal(last_lease(&s)->expires_ms, NOON + HOUR);
}

static void r4_is_capped_like_a_grant(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(1), .ends_ms = NOON + HOUR });
    story_grant(&s, ANN, LEASE(1, .duration_ms = 50 * MINUTE));
    story_wait(&s, 20 * MINUTE);
    assert_ok(&s, story_renew(&s, ANN, 1, NULL));
    assert_int_equal(last_lease(&s)->expires_ms, NOON + HOUR);
    story_install(
        &s, &(struct ent_spec){ .revision = 2,
                                .features = { { .seats = 1, .lease_max_ms = 45 * MINUTE } } });
    story_wait(&s, 20 * MINUTE);
    assert_ok(&s, story_renew(&s, ANN, 1, NULL));
    assert_int_equal(last_lease(&s)->expires_ms, NOON + 85 * MINUTE);
}

static void r4_renewal_needs_no_free_seat(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(3) });
    story_grant(&s, ANN, LEASE(1, .count = 3, .duration_ms = HOUR));
    story_install(&s, &(struct ent_spec){ SEATS(1), .revision = 2 });
    story_wait(&s, MINUTE);
    assert_ok(&s, story_renew(&s, ANN, 1, NULL));
    assert_int_equal(last_lease(&s)->expires_ms, NOON + MINUTE + HOUR);
}

static void r4_ended_stays_ended(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(3) });
    for (unsigned i = 1; i <= 2; i++) {
        story_grant(&s, ANN, LEASE(i));
        struct lease_evidence token = evidence_last(&s);
        assert_ok(&s, i == 1 ? story_release(&s, ANN, i, NULL) : story_revoke(&s, i));
        struct lease_row ended = *lease_row_of(&s, i, 0);
        token.expires_ms += HOUR;
        token.adopt = true;
        assert_err(&s, ERR_LEASE_ENDED, story_renew(&s, ANN, i, &token));
        assert_same_row(lease_row_of(&s, i, 0), &ended);
        assert_free(&s, 1, 3);
    }
}

static void r4_only_its_origin_renews(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(3) });
    story_grant(&s, ANN, LEASE(1));
    struct lease_evidence token = evidence_last(&s);
    assert_err(&s, ERR_LEASE_UNKNOWN, story_renew(&s, BOB, 1, NULL));
    assert_err(&s, ERR_LEASE_MISMATCH, story_renew(&s, BOB, 1, &token)); /* stolen */
    assert_err(&s, ERR_LEASE_MISMATCH, story_renew(&s, ANN, 2, &token));
    assert_err(&s, ERR_LEASE_UNKNOWN, story_renew(&s, ANN, 2, NULL));
    assert_err(&s, ERR_LEASE_UNKNOWN, story_release(&s, BOB, 1, NULL));
    assert_err(&s, ERR_LEASE_MISMATCH, story_release(&s, BOB, 1, &token));
    assert_int_equal(lease_row_of(&s, 1, 0)->state, LEASE_ACTIVE);
}

/* ---- what a token teaches ---------------------------------------------------------------------
 */

static void r4_adopts_a_shared_lease_of_another_home(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin(&s);
    struct lease_evidence token = evidence_of(&s, ANN, 1, PEER);
    story_wait(&s, MINUTE);
    assert_ok(&s, story_renew(&s, ANN, 1, &token));
    assert_true(uuid_equal(&last_lease(&s)->home, &token.home));
    assert_int_equal(last_lease(&s)->expires_ms, NOON + MINUTE + HOUR);
    assert_true(last_lease(&s)->shared);
    assert_false(s.result.created);
    assert_int_equal(scope_now(&s, 1).used, 1);
    assert_ok(&s, story_renew(&s, ANN, 1, NULL)); /* known now */
    assert_ok(&s, story_list(&s, ANN));
    assert_int_equal(s.result.lease_count, 1);
}

static void r4_does_not_adopt_a_private_lease(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin(&s);
    struct lease_evidence token = evidence_of(&s, ANN, 1, PEER);
    token.adopt = false;
    token.adopter = (struct uuid){ { 0 } };
    assert_err(&s, ERR_OTHER_NODE, story_renew(&s, ANN, 1, &token)); /* its home knows it */
    assert_err(&s, ERR_OTHER_NODE, story_release(&s, ANN, 1, &token));
    assert_null(lease_row_of(&s, 1, PEER));
}

static void r4_does_not_adopt_its_own(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin(&s);
    struct lease_evidence token = evidence_of(&s, ANN, 1, SELF_NODE);
    assert_err(&s, ERR_LEASE_ENDED, story_renew(&s, ANN, 1, &token));
    assert_null(lease_row_of(&s, 1, 0));
    assert_ok(&s, story_release(&s, ANN, 1, &token)); /* ended and purged: done already */
    assert_int_equal(s.result.affected, 0);
}

static void r4_does_not_adopt_from_a_node_it_never_knew(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin(&s);
    struct lease_evidence token = evidence_of(&s, ANN, 1, THIRD_NODE);
    assert_err(&s, ERR_LEASE_UNKNOWN, story_renew(&s, ANN, 1, &token));
    assert_int_equal(ledger_counts(s.ledger).nodes, 2);
}

static void r4_does_not_adopt_what_is_over(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin(&s);
    struct lease_evidence token = evidence_of(&s, ANN, 1, PEER);
    story_wait(&s, HOUR - 1);
    assert_ok(&s, story_renew(&s, ANN, 1, &token));
    token.lease_ref = ref('L', 2);
    story_wait(&s, 1);
    assert_err(&s, ERR_LEASE_UNKNOWN, story_renew(&s, ANN, 2, &token));
    assert_null(lease_row_of(&s, 2, PEER));
}

static void r4_does_not_adopt_for_an_unknown_scope(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin(&s);
    struct lease_evidence token = evidence_of(&s, ANN, 1, PEER);
    token.scope_ref = ref('S', 2);
    assert_err(&s, ERR_OTHER_NODE, story_renew(&s, ANN, 1, &token));
}

/* One such row would make the database refuse the whole batch, and later the node its start. */
static void r4_does_not_adopt_what_no_node_wrote(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin(&s);
    for (unsigned i = 1; i <= 3; i++) {
        struct lease_evidence token = evidence_of(&s, ANN, i, PEER);
        token.duration_ms = i == 1 ? 0 : token.duration_ms;
        token.created_ms = i == 2 ? 0 : i == 3 ? token.expires_ms + 1 : token.created_ms;
        assert_err(&s, ERR_OTHER_NODE, story_renew(&s, ANN, i, &token));
        assert_null(lease_row_of(&s, i, PEER));
    }
}

static void r4_later_expires_wins(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin(&s);
    story_grant(&s, ANN, LEASE(1, .duration_ms = HOUR));
    assert_true(last_lease(&s)->shared);
    struct lease_evidence token = evidence_last(&s);
    token.expires_ms = NOON + 5 * HOUR; /* the peer renewed it */
    assert_ok(&s, story_renew(&s, ANN, 1, &token));
    assert_int_equal(last_lease(&s)->expires_ms, NOON + 5 * HOUR);
    token.expires_ms = NOON + 2 * HOUR;
    assert_ok(&s, story_renew(&s, ANN, 1, &token));
    assert_int_equal(last_lease(&s)->expires_ms, NOON + 5 * HOUR);
}

/* Over by what is known here, alive by its token: the token is merged before R4 decides. */
static void r4_token_revives_what_only_seemed_over(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin(&s);
    story_grant(&s, ANN, LEASE(1, .duration_ms = HOUR));
    struct lease_evidence token = evidence_last(&s);
    story_wait(&s, HOUR);
    assert_err(&s, ERR_LEASE_ENDED, story_renew(&s, ANN, 1, &token));
    token.expires_ms = NOON + HOUR + 1;
    assert_ok(&s, story_renew(&s, ANN, 1, &token));
    assert_int_equal(last_lease(&s)->expires_ms, NOON + 2 * HOUR);
}

static void r4_adopted_and_released_in_one_request(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin(&s);
    struct lease_evidence token = evidence_of(&s, ANN, 1, PEER);
    assert_ok(&s, story_release(&s, ANN, 1, &token));
    assert_int_equal(s.result.affected, 1);
    assert_int_equal(lease_row_of(&s, 1, PEER)->state, LEASE_RELEASED);
    assert_err(&s, ERR_LEASE_ENDED, story_renew(&s, ANN, 1, &token));
    assert_ok(&s, story_release(&s, ANN, 1, &token));
    assert_int_equal(s.result.affected, 0);
    assert_err(&s, ERR_LEASE_ENDED, story_grant(&s, ANN, LEASE(1)));
}

static void r4_same_reference_of_two_homes(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin(&s);
    assert_ok(&s, story_grant(&s, ANN, LEASE(1, .duration_ms = HOUR)));
    struct lease_evidence token = evidence_of(&s, ANN, 1, PEER);
    assert_ok(&s, story_renew(&s, ANN, 1, &token));
    assert_int_equal(ledger_counts(s.ledger).active_leases, 2);
    struct uuid self = ref('N', SELF_NODE);
    assert_true(uuid_equal(&last_lease(&s)->home, &self)); /* the smaller */
    assert_ok(&s, story_release(&s, ANN, 1, NULL)); /* all that this origin knows under that name */
    assert_int_equal(s.result.affected, 2);
    assert_int_equal(ledger_counts(s.ledger).active_leases, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(r4_extends_by_the_duration_asked_for),
        cmocka_unit_test(r4_renews_without_grace),
        cmocka_unit_test(r4_renews_without_grace_under_a_clock_alarm),
        cmocka_unit_test(r4_never_shortens),
        cmocka_unit_test(r4_is_capped_like_a_grant),
        cmocka_unit_test(r4_renewal_needs_no_free_seat),
        cmocka_unit_test(r4_ended_stays_ended),
        cmocka_unit_test(r4_only_its_origin_renews),
        cmocka_unit_test(r4_adopts_a_shared_lease_of_another_home),
        cmocka_unit_test(r4_does_not_adopt_a_private_lease),
        cmocka_unit_test(r4_does_not_adopt_its_own),
        cmocka_unit_test(r4_does_not_adopt_from_a_node_it_never_knew),
        cmocka_unit_test(r4_does_not_adopt_what_is_over),
        cmocka_unit_test(r4_does_not_adopt_for_an_unknown_scope),
        cmocka_unit_test(r4_does_not_adopt_what_no_node_wrote),
        cmocka_unit_test(r4_later_expires_wins),
        cmocka_unit_test(r4_token_revives_what_only_seemed_over),
        cmocka_unit_test(r4_adopted_and_released_in_one_request),
        cmocka_unit_test(r4_same_reference_of_two_homes),
    };

    return cmocka_run_group_tests_name("ledger_renew", tests, NULL, NULL);
}
