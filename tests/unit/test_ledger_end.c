/* R5, R6, R7: how leases end, when their seats come back, and when their records may go. */
#include "ledger_story.h"

/* A known peer that has acknowledged everything and listens: leases are shared from now on. */
static void begin_paired(struct story *s, int64_t seats, enum seat_return on_release,
                         enum seat_return on_revoke)
{
    story_install(s, &(struct ent_spec){ .features = { { .seats = seats,
                                                         .on_release = on_release,
                                                         .on_revoke = on_revoke } } });
    story_peer_states(s, PEER, 0, SEEN_ALL);
}

#define ACK       SEAT_RETURN_ACKNOWLEDGED
#define AT_EXPIRY SEAT_RETURN_AT_EXPIRY

static void grant_shared(struct story *s, unsigned lease, int64_t duration_ms)
{
    story_peer_fetched(s, PEER);
    assert_ok(s, story_grant(s, ANN, LEASE(lease, .duration_ms = duration_ms)));
    assert_true(last_lease(s)->shared);
}

/* ---- R5 ------------------------------------------------------------------------------------- */

static void r5_release_notes_when_and_until_when(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(1) });
    story_grant(&s, ANN, LEASE(1, .duration_ms = HOUR));
    story_wait(&s, MINUTE);
    assert_ok(&s, story_release(&s, ANN, 1, NULL));
    assert_int_equal(s.result.affected, 1);
    const struct lease_row *row = lease_row_of(&s, 1, 0);
    assert_int_equal(row->state, LEASE_RELEASED);
    assert_int_equal(row->ended_ms, NOON + MINUTE);
    assert_int_equal(row->ended_expires_ms, NOON + HOUR);
    assert_int_equal(row->expires_ms, NOON + HOUR);
}

static void r5_release_may_be_repeated(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(1) });
    story_grant(&s, ANN, LEASE(1, .duration_ms = HOUR));
    struct lease_evidence token = evidence_last(&s);
    story_release(&s, ANN, 1, NULL);
    uint64_t seq = ledger_seq(s.ledger);
    assert_ok(&s, story_release(&s, ANN, 1, NULL));
    assert_ok(&s, story_release(&s, ANN, 1, &token));
    assert_int_equal(s.result.affected, 0);
    assert_int_equal(ledger_seq(s.ledger), seq);
    story_wait(&s, HOUR);
    story_purge(&s, 10);
    assert_null(lease_row_of(&s, 1, 0));
    assert_ok(&s, story_release(&s, ANN, 1, &token));
    assert_err(&s, ERR_LEASE_UNKNOWN, story_release(&s, ANN, 1, NULL));
    assert_err(&s, ERR_LEASE_ENDED, story_renew(&s, ANN, 1, &token));
}

static void r5_releases_all_of_one_origin(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(5) });
    for (unsigned i = 1; i <= 3; i++)
        story_grant(&s, ANN, LEASE(i));
    story_grant(&s, BOB, LEASE(4));
    assert_ok(&s, story_release_all(&s, ANN));
    assert_int_equal(s.result.affected, 3);
    for (unsigned i = 1; i <= 3; i++) {
        struct uuid lease = ref('L', i);
        bool found = false;
        for (size_t j = 0; j < 3; j++)
            found = found || uuid_equal(&s.result.released[j], &lease);
        assert_true(found);
    }
    assert_free(&s, 1, 4);
    assert_ok(&s, story_release_all(&s, ANN));
    assert_int_equal(s.result.affected, 0);
    assert_int_equal(lease_row_of(&s, 4, 0)->state, LEASE_ACTIVE);
}

static void r5_revoke_by_operator(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(1) });
    assert_err(&s, ERR_LEASE_UNKNOWN, story_revoke(&s, 1));
    story_grant(&s, ANN, LEASE(1));
    assert_ok(&s, story_revoke(&s, 1));
    assert_int_equal(s.result.affected, 1);
    assert_int_equal(lease_row_of(&s, 1, 0)->state, LEASE_REVOKED);
    assert_free(&s, 1, 1);
    assert_ok(&s, story_revoke(&s, 1));
    assert_int_equal(s.result.affected, 0);
    assert_err(&s, ERR_LEASE_ENDED, story_renew(&s, ANN, 1, NULL));
}

static void r5_revoke_ends_it_at_all_homes(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin_paired(&s, 5, ACK, ACK);
    grant_shared(&s, 1, HOUR);
    struct lease_evidence token = evidence_of(&s, ANN, 1, PEER);
    story_renew(&s, ANN, 1, &token);
    assert_ok(&s, story_revoke(&s, 1));
    assert_int_equal(s.result.affected, 2);
    assert_int_equal(lease_row_of(&s, 1, 0)->state, LEASE_REVOKED);
    assert_int_equal(lease_row_of(&s, 1, PEER)->state, LEASE_REVOKED);
}

static void r5_purge_not_before_expires(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(1) });
    story_grant(&s, ANN, LEASE(1, .duration_ms = HOUR));
    story_release(&s, ANN, 1, NULL);
    story_wait(&s, HOUR - 1);
    assert_ok(&s, story_purge(&s, 10));
    assert_int_equal(s.result.affected, 0);
    assert_false(s.result.more);
    assert_non_null(lease_row_of(&s, 1, 0));
    story_wait(&s, 1);
    assert_ok(&s, story_purge(&s, 10));
    assert_int_equal(s.result.affected, 1);
    assert_null(lease_row_of(&s, 1, 0));
    assert_int_equal(ledger_counts(s.ledger).leases, 0);
}

static void r5_purge_not_before_every_clock_and_acknowledgement(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin_paired(&s, 1, ACK, ACK);
    grant_shared(&s, 1, HOUR);
    story_release(&s, ANN, 1, NULL);
    uint64_t end = ledger_seq(s.ledger);
    story_wait(&s, 2 * HOUR);
    story_purge(&s, 10);
    assert_non_null(lease_row_of(&s, 1, 0));
    story_peer_states(&s, PEER, NOON + HOUR, end - 1);
    story_purge(&s, 10);
    assert_non_null(lease_row_of(&s, 1, 0));
    story_peer_states(&s, PEER, NOON + HOUR - 1, end);
    story_purge(&s, 10); /* W does not go back: this time both hold */
    assert_null(lease_row_of(&s, 1, 0));
}

static void r5_purge_not_before_the_peers_clock(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin_paired(&s, 1, ACK, ACK);
    grant_shared(&s, 1, HOUR);
    story_release(&s, ANN, 1, NULL);
    story_wait(&s, 2 * HOUR);
    story_peer_states(&s, PEER, NOON + HOUR - 1, SEEN_ALL);
    assert_free(&s, 1, 1); /* the seat is back, the record stays */
    story_purge(&s, 10);
    assert_non_null(lease_row_of(&s, 1, 0));
    story_peer_states(&s, PEER, NOON + HOUR, SEEN_ALL);
    story_purge(&s, 10);
    assert_null(lease_row_of(&s, 1, 0));
}

static void r5_purge_goes_on_where_it_stopped(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(10) });
    for (unsigned i = 1; i <= 10; i++)
        story_grant(&s, ANN, LEASE(i, .duration_ms = i <= 7 ? HOUR : 3 * HOUR));
    story_release_all(&s, ANN);
    story_wait(&s, 2 * HOUR);
    for (int64_t left = 7; left > 0; left -= 3) {
        assert_ok(&s, story_purge(&s, 3));
        assert_int_equal(s.result.affected, left < 3 ? left : 3);
        assert_int_equal(s.result.more, left > 3);
    }
    assert_int_equal(ledger_counts(s.ledger).leases, 3);
    story_wait(&s, HOUR);
    story_purge(&s, 10);
    assert_int_equal(s.result.affected, 3);
}

static void r5_what_changed_in_this_batch_is_purged_in_the_next(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(1) });
    story_grant(&s, ANN, LEASE(1, .duration_ms = HOUR));
    story_hold(&s);
    story_wait(&s, HOUR); /* expires: a row of this batch */
    story_purge(&s, 10);
    assert_int_equal(s.result.affected, 0);
    story_commit(&s);
    story_purge(&s, 10);
    assert_int_equal(s.result.affected, 1);
}

static void r5_purged_by_itself_after_the_time_kept(void **state)
{
    STORY(s, ALONE);
    (void)state;

    s.conf.ended_keep_ms = DAY;
    story_restart(&s);
    story_install(&s, &(struct ent_spec){ SEATS(2) });
    story_grant(&s, ANN, LEASE(1, .duration_ms = HOUR));
    story_grant(&s, ANN, LEASE(2, .duration_ms = HOUR));
    story_release(&s, ANN, 2, NULL);
    story_wait(&s, HOUR);
    assert_true(ledger_next_due(s.ledger) <= NOON + HOUR + DAY);
    story_wait(&s, DAY - 1);
    assert_int_equal(ledger_counts(s.ledger).leases, 2);
    assert_int_equal(ledger_next_due(s.ledger), NOON + HOUR + DAY);
    story_wait(&s, 1);
    assert_int_equal(ledger_counts(s.ledger).leases, 0);
    assert_int_equal(ledger_next_due(s.ledger), INT64_MAX);
}

static void r5_purged_memory_is_used_again(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(2) });
    for (unsigned i = 1; i <= 200; i++) {
        assert_ok(&s, story_grant(&s, ANN, LEASE(2 * i, .duration_ms = MINUTE)));
        assert_ok(&s, story_grant(&s, BOB, LEASE(2 * i + 1, .duration_ms = 2 * MINUTE)));
        if (i % 3 == 0)
            assert_ok(&s, story_release(&s, BOB, 2 * i + 1, NULL));
        story_wait(&s, 2 * MINUTE);
        assert_ok(&s, story_purge(&s, 10));
        assert_int_equal(s.result.affected, 2);
        assert_free(&s, 1, 2);
    }
}

/* ---- R6 ------------------------------------------------------------------------------------- */

static void r6_private_seat_is_back_at_once(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(2) });
    story_grant(&s, ANN, LEASE(1));
    story_release(&s, ANN, 1, NULL);
    assert_free(&s, 1, 2);
    story_grant(&s, ANN, LEASE(2));
    story_revoke(&s, 2);
    assert_free(&s, 1, 2);
    assert_int_equal(scope_now(&s, 1).waiting, 0);
}

static void r6_private_lease_stays_private_when_a_peer_appears(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(2) });
    story_grant(&s, ANN, LEASE(1, .duration_ms = HOUR));
    story_grant(&s, ANN, LEASE(2, .duration_ms = HOUR));
    assert_ok(&s, story_peer_met(&s, PEER));
    assert_ok(&s, story_peer_fetched(&s, PEER)); /* but no page that tells of them */
    story_release(&s, ANN, 1, NULL);
    assert_free(&s, 1, 1);
    story_wait(&s, HOUR);
    assert_free(&s, 1, 2);
}

static void r6_at_expiry_is_not_back_before(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s,
                  &(struct ent_spec){ .features = { { .seats = 2, .on_release = AT_EXPIRY } } });
    story_grant(&s, ANN, LEASE(1, .duration_ms = HOUR));
    story_release(&s, ANN, 1, NULL);
    assert_int_equal(scope_now(&s, 1).waiting, 1);
    assert_int_equal(scope_now(&s, 1).next_back_ms, NOON + HOUR);
    assert_free(&s, 1, 1);
    story_wait(&s, HOUR - 1);
    assert_free(&s, 1, 1);
    story_wait(&s, 1);
    assert_free(&s, 1, 2);
    assert_int_equal(scope_now(&s, 1).waiting, 0);
    assert_int_equal(lease_row_of(&s, 1, 0)->state, LEASE_RELEASED);
    story_grant(&s, ANN, LEASE(2)); /* revoking is another matter */
    story_revoke(&s, 2);
    assert_free(&s, 1, 2);
}

static void r6_at_expiry_on_revoke(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ .features = { { .seats = 2, .on_revoke = AT_EXPIRY } } });
    story_grant(&s, ANN, LEASE(1, .duration_ms = HOUR));
    story_grant(&s, ANN, LEASE(2, .duration_ms = HOUR));
    story_revoke(&s, 1);
    story_release(&s, ANN, 2, NULL);
    assert_free(&s, 1, 1);
    story_wait(&s, HOUR);
    assert_free(&s, 1, 2);
}

static void r6_at_expiry_means_the_renewed_expiry(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s,
                  &(struct ent_spec){ .features = { { .seats = 1, .on_release = AT_EXPIRY } } });
    story_grant(&s, ANN, LEASE(1, .duration_ms = HOUR));
    story_wait(&s, MINUTE);
    story_renew(&s, ANN, 1, NULL);
    story_release(&s, ANN, 1, NULL);
    story_wait(&s, HOUR - 1);
    assert_free(&s, 1, 0);
    story_wait(&s, 1);
    assert_free(&s, 1, 1);
}

static void r6_shared_seat_waits_for_the_acknowledgement(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin_paired(&s, 2, ACK, ACK);
    grant_shared(&s, 1, HOUR);
    story_release(&s, ANN, 1, NULL);
    uint64_t end = ledger_seq(s.ledger);
    assert_free(&s, 1, 1);
    assert_int_equal(scope_now(&s, 1).waiting, 1);
    story_peer_states(&s, PEER, 0, end - 1);
    assert_free(&s, 1, 1);
    story_peer_states(&s, PEER, 0, end);
    assert_free(&s, 1, 2);
    assert_int_equal(scope_now(&s, 1).waiting, 0);
}

static void r6_acknowledged_one_by_one(void **state)
{
    uint64_t ends[5];
    STORY(s, PAIRED);
    (void)state;

    begin_paired(&s, 5, ACK, ACK);
    for (unsigned i = 0; i < 5; i++)
        grant_shared(&s, i + 1, HOUR);
    for (unsigned i = 0; i < 5; i++) { /* not in the order they were granted */
        story_release(&s, ANN, (i * 3) % 5 + 1, NULL);
        ends[i] = ledger_seq(s.ledger);
    }
    assert_free(&s, 1, 0);
    for (unsigned i = 0; i < 5; i++) {
        story_peer_states(&s, PEER, 0, ends[i]);
        assert_free(&s, 1, i + 1);
    }
}

/* A queue in memory must not depend on the order in which a database returns rows. */
static void r6_acknowledged_one_by_one_after_a_restart(void **state)
{
    uint64_t ends[5];
    STORY(s, PAIRED);
    (void)state;

    begin_paired(&s, 5, ACK, ACK);
    for (unsigned i = 0; i < 5; i++)
        grant_shared(&s, i + 1, HOUR);
    for (unsigned i = 0; i < 5; i++) {
        story_release(&s, ANN, (i * 3) % 5 + 1, NULL);
        ends[i] = ledger_seq(s.ledger);
    }
    for (unsigned i = 0; i < 5; i++) {
        story_restart(&s);
        story_peer_states(&s, PEER, 0, ends[i]);
        assert_free(&s, 1, i + 1);
    }
}

static void r6_shared_at_expiry_waits_for_both_clocks(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin_paired(&s, 1, AT_EXPIRY, ACK);
    grant_shared(&s, 1, HOUR);
    story_release(&s, ANN, 1, NULL);
    story_peer_states(&s, PEER, NOON, SEEN_ALL);
    assert_free(&s, 1, 0);
    story_wait(&s, HOUR);
    assert_free(&s, 1, 0);
    story_peer_states(&s, PEER, NOON + HOUR - 1, SEEN_ALL);
    assert_free(&s, 1, 0);
    story_peer_states(&s, PEER, NOON + HOUR, SEEN_ALL);
    assert_free(&s, 1, 1);
}

/* "Else as R7": without an acknowledgement, time brings the seat back, on both clocks. */
static void r6_unacknowledged_seat_comes_back_with_time(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin_paired(&s, 3, ACK, ACK);
    for (unsigned i = 1; i <= 3; i++) {
        grant_shared(&s, i, i * HOUR);
        story_release(&s, ANN, i, NULL);
    }
    story_wait(&s, 2 * HOUR);
    assert_free(&s, 1, 0);
    story_peer_states(&s, PEER, NOON + 2 * HOUR, 0);
    assert_free(&s, 1, 2);
    story_purge(&s, 10); /* still in the queue of the unacknowledged */
    assert_int_equal(s.result.affected, 0);
    story_peer_states(&s, PEER, NOON + 2 * HOUR, SEEN_ALL);
    assert_free(&s, 1, 3);
    story_purge(&s, 10);
    assert_int_equal(s.result.affected, 2);
    story_wait(&s, HOUR);
    story_peer_states(&s, PEER, NOON + 3 * HOUR, SEEN_ALL);
    story_purge(&s, 10);
    assert_int_equal(s.result.affected, 1);
}

/* The hot spot of lease_purge(): records in the queue, last, first and alone, are left in peace. */
static void r6_queue_of_the_unacknowledged_survives_purging(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin_paired(&s, 6, ACK, ACK);
    for (unsigned i = 1; i <= 6; i++)
        grant_shared(&s, i, i % 2 ? HOUR : 5 * HOUR);
    for (unsigned i = 1; i <= 6; i++)
        story_release(&s, ANN, i, NULL);
    uint64_t third = lease_row_of(&s, 3, 0)->seq, all = ledger_seq(s.ledger);
    story_wait(&s, 2 * HOUR);
    story_peer_states(&s, PEER, NOON + 2 * HOUR, third);
    assert_free(&s, 1, 4); /* 1, 2, 3 acknowledged, 5 by time */
    story_purge(&s, 10);
    assert_int_equal(s.result.affected, 2); /* 1 and 3 */
    for (unsigned i = 7; i <= 8; i++) {     /* memory of the purged goes to new ones */
        grant_shared(&s, i, HOUR);
        story_release(&s, ANN, i, NULL);
    }
    assert_free(&s, 1, 2);
    story_peer_states(&s, PEER, NOON + 2 * HOUR, all);
    assert_free(&s, 1, 4);
    story_peer_states(&s, PEER, NOON + 2 * HOUR, SEEN_ALL);
    assert_free(&s, 1, 6);
    story_wait(&s, 4 * HOUR);
    story_peer_states(&s, PEER, NOON + 6 * HOUR, SEEN_ALL);
    story_purge(&s, 10);
    assert_int_equal(ledger_counts(s.ledger).leases, 0);
}

/* What is in force says when seats come back, for those that ended before it as well: a node that
 * loads sees nothing else. */
static void r6_new_revision_says_at_expiry(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(2) });
    story_grant(&s, ANN, LEASE(1, .duration_ms = HOUR));
    story_release(&s, ANN, 1, NULL);
    assert_free(&s, 1, 2);
    story_install(&s, &(struct ent_spec){
                          .revision = 2, .features = { { .seats = 2, .on_release = AT_EXPIRY } } });
    assert_free(&s, 1, 1);
    story_purge(&s, 10);
    story_wait(&s, HOUR);
    assert_free(&s, 1, 2);
    story_purge(&s, 10);
    assert_int_equal(s.result.affected, 1);
}

static void r6_new_revision_says_acknowledged(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin_paired(&s, 4, AT_EXPIRY, ACK);
    assert_ok(&s, story_grant(&s, ANN, LEASE(1, .duration_ms = HOUR)));
    story_wait(&s, 2 * PEER_FETCH_RECENT_MS);
    assert_ok(&s, story_grant(&s, ANN, LEASE(2, .duration_ms = HOUR)));
    assert_false(last_lease(&s)->shared);
    story_release(&s, ANN, 1, NULL);
    story_release(&s, ANN, 2, NULL);
    uint64_t end = ledger_seq(s.ledger);
    assert_free(&s, 1, 2);
    story_install(&s, &(struct ent_spec){ .revision = 2, SEATS(4) });
    assert_free(&s, 1, 3); /* the private one */
    story_peer_states(&s, PEER, 0, end);
    assert_free(&s, 1, 4);
}

/* ---- R7 ------------------------------------------------------------------------------------- */

static void r7_private_lease_expires_by_its_homes_clock(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(1) });
    story_grant(&s, ANN, LEASE(1, .duration_ms = HOUR));
    assert_int_equal(ledger_next_due(s.ledger), NOON + HOUR);
    story_wait(&s, HOUR - 1);
    assert_int_equal(lease_row_of(&s, 1, 0)->state, LEASE_ACTIVE);
    assert_free(&s, 1, 0);
    story_wait(&s, 1);
    const struct lease_row *row = lease_row_of(&s, 1, 0);
    assert_int_equal(row->state, LEASE_EXPIRED);
    assert_int_equal(row->ended_ms, NOON + HOUR);
    assert_int_equal(row->ended_expires_ms, NOON + HOUR);
    assert_free(&s, 1, 1);
}

static void r7_expires_before_the_next_request_is_decided(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(1) });
    story_grant(&s, ANN, LEASE(1, .duration_ms = HOUR));
    s.now_ms += HOUR; /* no tick */
    assert_ok(&s, story_grant(&s, BOB, LEASE(2)));
}

static void r7_shared_lease_waits_for_the_watermark(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin_paired(&s, 1, ACK, ACK);
    grant_shared(&s, 1, HOUR);
    story_wait(&s, 2 * HOUR);
    assert_int_equal(lease_row_of(&s, 1, 0)->state, LEASE_ACTIVE);
    assert_free(&s, 1, 0);
    assert_int_equal(ledger_next_due(s.ledger), INT64_MAX); /* only the peer can move it */
    story_peer_states(&s, PEER, NOON + HOUR - 1, SEEN_ALL);
    assert_int_equal(lease_row_of(&s, 1, 0)->state, LEASE_ACTIVE);
    story_peer_states(&s, PEER, NOON + HOUR, SEEN_ALL);
    assert_int_equal(lease_row_of(&s, 1, 0)->state, LEASE_EXPIRED);
    assert_free(&s, 1, 1);
}

static void r7_watermark_alone_is_not_enough(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin_paired(&s, 1, ACK, ACK);
    grant_shared(&s, 1, HOUR);
    story_peer_states(&s, PEER, NOON + 2 * HOUR, SEEN_ALL); /* its clock is ahead */
    assert_int_equal(lease_row_of(&s, 1, 0)->state, LEASE_ACTIVE);
    story_wait(&s, HOUR - 1);
    assert_free(&s, 1, 0);
    story_wait(&s, 1);
    assert_free(&s, 1, 1);
}

static void r7_renewed_lease_expires_later(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin_paired(&s, 2, ACK, ACK);
    grant_shared(&s, 1, HOUR);
    story_wait(&s, 30 * MINUTE);
    story_renew(&s, ANN, 1, NULL);
    story_grant(&s, ANN, LEASE(2, .duration_ms = HOUR));
    assert_false(last_lease(&s)->shared);
    story_wait(&s, MINUTE);
    story_renew(&s, ANN, 2, NULL);
    story_peer_states(&s, PEER, NOON + 2 * HOUR, SEEN_ALL);
    story_wait(&s, 59 * MINUTE);
    assert_free(&s, 1, 1);
    story_wait(&s, MINUTE);
    assert_free(&s, 1, 2);
}

static void r7_only_the_home_marks_expired(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin_paired(&s, 1, ACK, ACK);
    struct lease_evidence token = evidence_of(&s, ANN, 1, PEER);
    story_renew(&s, ANN, 1, &token);
    story_wait(&s, 10 * HOUR);
    story_peer_states(&s, PEER, NOON + 10 * HOUR, SEEN_ALL);
    assert_int_equal(lease_row_of(&s, 1, PEER)->state, LEASE_ACTIVE);
    assert_err(&s, ERR_LEASE_ENDED, story_renew(&s, ANN, 1, NULL));
}

static void r1_alarm_pauses_only_r7(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(3) });
    story_grant(&s, ANN, LEASE(1, .duration_ms = HOUR));
    story_grant(&s, ANN, LEASE(2, .duration_ms = 3 * HOUR));
    s.alarm = true;
    story_wait(&s, 2 * HOUR);
    assert_int_equal(lease_row_of(&s, 1, 0)->state, LEASE_ACTIVE);
    assert_free(&s, 1, 1);
    assert_int_equal(ledger_next_due(s.ledger), INT64_MAX); /* nothing to wake up for */
    assert_ok(&s, story_grant(&s, BOB, LEASE(3)));
    assert_ok(&s, story_renew(&s, ANN, 2, NULL));
    assert_ok(&s, story_release(&s, BOB, 3, NULL));
    assert_free(&s, 1, 1);
    assert_ok(&s, story_release(&s, ANN, 1, NULL)); /* still its holder's to give back */
    assert_free(&s, 1, 2);
    s.alarm = false;
    story_wait(&s, 0);
    assert_free(&s, 1, 2);
    assert_true(ledger_next_due(s.ledger) > s.now_ms);
    assert_true(ledger_next_due(s.ledger) <= NOON + 5 * HOUR);
}

static void r1_after_an_alarm_what_was_due_expires(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin_paired(&s, 3, ACK, ACK);
    grant_shared(&s, 1, HOUR);
    story_wait(&s, 2 * PEER_FETCH_RECENT_MS);
    assert_ok(&s, story_grant(&s, ANN, LEASE(2, .duration_ms = HOUR)));
    s.alarm = true;
    story_wait(&s, 2 * HOUR);
    story_peer_states(&s, PEER, NOON + 2 * HOUR, SEEN_ALL);
    assert_free(&s, 1, 1);
    s.alarm = false;
    story_wait(&s, 0);
    assert_free(&s, 1, 3);
}

static void r1_alarm_does_not_pause_acknowledgements(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin_paired(&s, 1, ACK, ACK);
    grant_shared(&s, 1, HOUR);
    story_release(&s, ANN, 1, NULL);
    s.alarm = true;
    story_wait(&s, SECOND);
    story_peer_states(&s, PEER, 0, SEEN_ALL);
    assert_free(&s, 1, 1);
}

/* After a long absence: thousands of leases are due, and each batch takes some of them. */
static void grant_many(struct story *s, unsigned first, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct grant_item item = item_of(LEASE(first + i, .duration_ms = HOUR));
        struct ledger_event event = { .kind = LEDGER_GRANT, .now_ms = s->now_ms };
        struct ledger_result result;
        event.grant.origin.origin_ref = ref('O', (first + i) / ORIGIN_LEASES_MAX);
        event.grant.items = &item;
        event.grant.item_count = 1;
        ledger_step(s->ledger, &event, &result);
        assert_int_equal(result.err, ERR_OK);
        ledger_result_fini(&result);
    }
    ledger_changes_clear(s->ledger);
}

static void limit_expiries_of_one_batch(void **state)
{
    enum { LEASES = 12000, EACH_BATCH = 5000 };
    STORY(s, PAIRED);
    (void)state;

    begin_paired(&s, 2 * LEASES, ACK, ACK);
    grant_many(&s, 1, LEASES); /* shared */
    s.now_ms += 2 * PEER_FETCH_RECENT_MS;
    grant_many(&s, 1 + LEASES, LEASES); /* private */
    struct ledger_page page = story_peer_page(&s, PEER);
    page.watermark_ms = NOON + 2 * HOUR;
    page.now_ms = page.watermark_ms + 1;
    struct ledger_event peer = { .kind = LEDGER_MERGE, .now_ms = s.now_ms, .merge.page = &page };
    struct ledger_event tick = { .kind = LEDGER_TICK, .now_ms = NOON + 2 * HOUR };
    struct ledger_result result;
    ledger_step(s.ledger, &peer, &result);
    int64_t left = 2 * LEASES;
    for (int batch = 0; left > 0; batch++) {
        assert_true(batch < 6 && ledger_next_due(s.ledger) <= tick.now_ms);
        ledger_changes_clear(s.ledger);
        ledger_step(s.ledger, &tick, &result);
        ledger_step(s.ledger, &tick, &result); /* the batch is full */
        ledger_check(s.ledger);
        left -= left < EACH_BATCH ? left : EACH_BATCH;
        assert_int_equal(ledger_changes(s.ledger)->lease_count <= EACH_BATCH, true);
        s.now_ms = tick.now_ms;
        assert_int_equal(ledger_counts(s.ledger).active_leases, left);
    }
    assert_true(ledger_next_due(s.ledger) > tick.now_ms);
    assert_free(&s, 1, 2 * LEASES);
}

/* ---- R3: private or shared --------------------------------------------------------------------
 */

static void r3_shared_while_the_peer_keeps_up(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    begin_paired(&s, 5, ACK, ACK);
    story_peer_fetched(&s, PEER);
    story_wait(&s, PEER_FETCH_RECENT_MS);
    story_grant(&s, ANN, LEASE(1));
    assert_true(last_lease(&s)->shared);
    story_wait(&s, 1);
    story_grant(&s, ANN, LEASE(2));
    assert_false(last_lease(&s)->shared);
    story_peer_fetched(&s, PEER);
    story_grant(&s, ANN, LEASE(3));
    assert_true(last_lease(&s)->shared);
    story_restart(&s); /* whether it still listens is not known */
    story_grant(&s, ANN, LEASE(4));
    assert_false(last_lease(&s)->shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(r5_release_notes_when_and_until_when),
        cmocka_unit_test(r5_release_may_be_repeated),
        cmocka_unit_test(r5_releases_all_of_one_origin),
        cmocka_unit_test(r5_revoke_by_operator),
        cmocka_unit_test(r5_revoke_ends_it_at_all_homes),
        cmocka_unit_test(r5_purge_not_before_expires),
        cmocka_unit_test(r5_purge_not_before_every_clock_and_acknowledgement),
        cmocka_unit_test(r5_purge_not_before_the_peers_clock),
        cmocka_unit_test(r5_purge_goes_on_where_it_stopped),
        cmocka_unit_test(r5_what_changed_in_this_batch_is_purged_in_the_next),
        cmocka_unit_test(r5_purged_by_itself_after_the_time_kept),
        cmocka_unit_test(r5_purged_memory_is_used_again),
        cmocka_unit_test(r6_private_seat_is_back_at_once),
        cmocka_unit_test(r6_private_lease_stays_private_when_a_peer_appears),
        cmocka_unit_test(r6_at_expiry_is_not_back_before),
        cmocka_unit_test(r6_at_expiry_on_revoke),
        cmocka_unit_test(r6_at_expiry_means_the_renewed_expiry),
        cmocka_unit_test(r6_shared_seat_waits_for_the_acknowledgement),
        cmocka_unit_test(r6_acknowledged_one_by_one),
        cmocka_unit_test(r6_acknowledged_one_by_one_after_a_restart),
        cmocka_unit_test(r6_shared_at_expiry_waits_for_both_clocks),
        cmocka_unit_test(r6_unacknowledged_seat_comes_back_with_time),
        cmocka_unit_test(r6_queue_of_the_unacknowledged_survives_purging),
        cmocka_unit_test(r6_new_revision_says_at_expiry),
        cmocka_unit_test(r6_new_revision_says_acknowledged),
        cmocka_unit_test(r7_private_lease_expires_by_its_homes_clock),
        cmocka_unit_test(r7_expires_before_the_next_request_is_decided),
        cmocka_unit_test(r7_shared_lease_waits_for_the_watermark),
        cmocka_unit_test(r7_watermark_alone_is_not_enough),
        cmocka_unit_test(r7_renewed_lease_expires_later),
        cmocka_unit_test(r7_only_the_home_marks_expired),
        cmocka_unit_test(r1_alarm_pauses_only_r7),
        cmocka_unit_test(r1_after_an_alarm_what_was_due_expires),
        cmocka_unit_test(r1_alarm_does_not_pause_acknowledgements),
        cmocka_unit_test(limit_expiries_of_one_batch),
        cmocka_unit_test(r3_shared_while_the_peer_keeps_up),
    };

    return cmocka_run_group_tests_name("ledger_end", tests, NULL, NULL);
}
