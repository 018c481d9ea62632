/* R9: what two nodes know becomes the same, in whatever order, however often and in whatever pieces
 * they hear of it; and R2: two mints of one revision. */
#include "ledger_story.h"

/* ---- R9: leases -------------------------------------------------------------------------------
 */

/* One lease of a, active and known to both, for an hour. */
static void begin(struct story *a, struct story *b, const struct ent_spec *spec)
{
    pair_install(a, b, spec);
    assert_ok(a, story_grant(a, ANN, LEASE(1, .duration_ms = HOUR)));
    assert_true(last_lease(a)->shared);
    pair_settle(a, b);
    pair_wait(a, b, 10 * MINUTE);
}

static const struct lease_row *row_here(const struct story *s)
{
    return lease_row_of(s, 1, SELF_NODE);
}

static void r9_expires_takes_the_maximum(void **state)
{
    for (int first = 0; first < 2; first++) {
        PAIR(a, b);
        begin(&a, &b, &(struct ent_spec){ SEATS(4) });
        assert_ok(&a, story_renew(&a, ANN, 1, NULL));
        pair_wait(&a, &b, MINUTE);
        assert_ok(&b, story_renew(&b, ANN, 1, NULL));
        pair_tell(first ? &a : &b, first ? &b : &a);
        pair_settle(&a, &b);
        assert_int_equal(row_here(&a)->expires_ms, NOON + 11 * MINUTE + HOUR);
        assert_same(&a, &b);
    }
    (void)state;
}

static void r9_ended_beats_active(void **state)
{
    for (int ender = 0; ender < 2; ender++) {
        PAIR(a, b);
        begin(&a, &b, &(struct ent_spec){ SEATS(4) });
        struct story *end = ender ? &a : &b, *other = ender ? &b : &a;
        assert_ok(end, story_release(end, ANN, 1, NULL));
        pair_wait(&a, &b, MINUTE);
        assert_ok(other, story_renew(other, ANN, 1, NULL));
        pair_settle(&a, &b);
        assert_int_equal(row_here(&a)->state, LEASE_RELEASED);
        assert_int_equal(row_here(&a)->ended_ms, NOON + 10 * MINUTE);
        assert_int_equal(row_here(&a)->ended_expires_ms, NOON + HOUR);
        assert_int_equal(row_here(&a)->expires_ms, NOON + 11 * MINUTE + HOUR);
        assert_err(&a, ERR_LEASE_ENDED, story_renew(&a, ANN, 1, NULL));
        assert_err(&b, ERR_LEASE_ENDED, story_renew(&b, ANN, 1, NULL));
        assert_same(&a, &b);
    }
    (void)state;
}

/* The end that knew of the later `expires` stands: nothing was promised after it. Of two that knew
 * the same, the earlier by whatever clock; of two at one instant the smaller state. */
static void both_ended(int later, int first, bool renewed)
{
    PAIR(a, b);

    begin(&a, &b, &(struct ent_spec){ SEATS(4) });
    a.now_ms += later > 0 ? SECOND : 0;
    b.now_ms += later < 0 ? SECOND : 0;
    assert_ok(&a, story_revoke(&a, 1));
    if (renewed)
        assert_ok(&b, story_renew(&b, ANN, 1, NULL));
    assert_ok(&b, story_release(&b, ANN, 1, NULL));
    pair_tell(first ? &a : &b, first ? &b : &a);
    pair_settle(&a, &b);
    bool release = renewed || later >= 0;
    assert_int_equal(row_here(&a)->state, release ? LEASE_RELEASED : LEASE_REVOKED);
    assert_int_equal(row_here(&a)->ended_ms,
                     NOON + 10 * MINUTE + (renewed && later < 0 ? SECOND : 0));
    assert_same(&a, &b);
    assert_int_equal(scope_now(&a, 1).used, 0);
}

static void r9_both_ended(void **state)
{
    for (int later = -1; later <= 1; later++) {
        for (int first = 0; first < 2; first++) {
            both_ended(later, first, false);
            both_ended(later, first, true);
        }
    }
    (void)state;
}

/* The client released it at b by b's slow clock, after a had let it expire. */
static void expire_and_release(bool home_tells_first)
{
    PAIR(a, b);

    begin(&a, &b, &(struct ent_spec){ SEATS(4) });
    AUTO(ledger_page_free) struct ledger_page *old = pair_page(&b, &a, PAGE_ROWS_MAX);
    a.now_ms = NOON + HOUR;
    old->watermark_ms = NOON + HOUR; /* as if b's clock had been ahead */
    old->now_ms = NOON + HOUR + 1;
    assert_ok(&a, story_merge(&a, old));
    assert_int_equal(row_here(&a)->state, LEASE_EXPIRED);
    assert_ok(&b, story_release(&b, ANN, 1, NULL));
    assert_true(row_here(&b)->ended_ms < row_here(&a)->ended_ms);
    a.now_ms += MINUTE;
    b.now_ms = a.now_ms;
    pair_tell(home_tells_first ? &a : &b, home_tells_first ? &b : &a);
    pair_settle(&a, &b);
    assert_int_equal(row_here(&b)->state, LEASE_EXPIRED);
    assert_same(&a, &b);
}

static void r9_expiry_at_home_stands_above_all_other_ends(void **state)
{
    (void)state;
    expire_and_release(true);
    expire_and_release(false);
}

/* I3: also what was over before it was told. */
static void r9_what_began_and_ended_unheard_is_told(void **state)
{
    PAIR(a, b);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(4) });
    assert_ok(&b, story_grant(&b, ANN, LEASE(1, .duration_ms = HOUR)));
    assert_ok(&b, story_release(&b, ANN, 1, NULL));
    pair_wait(&a, &b, HOUR + 1);
    pair_settle(&a, &b);
    assert_same(&a, &b);
    assert_int_equal(scope_now(&a, 1).used, 0);
    pair_tell(&a, &b);
    pair_tell(&b, &a);
    assert_ok(&a, story_purge(&a, 9));
    assert_ok(&b, story_purge(&b, 9));
    assert_int_equal(ledger_counts(a.ledger).leases + ledger_counts(b.ledger).leases, 0);
}

/* ---- R9: one reference granted at both --------------------------------------------------------
 */

static void begin_doubled(struct story *a, struct story *b, int64_t at_a_ms, int64_t at_b_ms)
{
    pair_install(a, b, &(struct ent_spec){ SEATS(4) });
    assert_ok(a, story_grant(a, ANN, LEASE(1, .duration_ms = at_a_ms)));
    b->now_ms += MINUTE;
    assert_ok(b, story_grant(b, ANN, LEASE(1, .duration_ms = at_b_ms)));
    assert_true(b->result.created);
}

static void r9_the_double_of_the_smaller_home_stands(void **state)
{
    for (int first = 0; first < 2; first++) {
        PAIR(a, b);
        begin_doubled(&a, &b, HOUR, 2 * HOUR);
        pair_tell(first ? &a : &b, first ? &b : &a);
        pair_settle(&a, &b);
        assert_int_equal(lease_row_of(&a, 1, 1)->state, LEASE_ACTIVE);
        assert_int_equal(lease_row_of(&a, 1, 2)->state, LEASE_SUPERSEDED);
        /* what b promised is kept, and its seat is free again */
        assert_int_equal(lease_row_of(&a, 1, 1)->expires_ms, NOON + MINUTE + 2 * HOUR);
        assert_same(&a, &b);
        assert_int_equal(scope_now(&a, 1).used, 1);
        assert_int_equal(scope_now(&b, 1).used, 1);
        assert_ok(&b, story_renew(&b, ANN, 1, NULL));
        assert_int_equal(last_lease(&b)->home.bytes[15], 1);
    }
    (void)state;
}

static void r9_a_double_whose_other_is_over_is_not_superseded(void **state)
{
    PAIR(a, b);
    (void)state;

    begin_doubled(&a, &b, HOUR, 2 * HOUR);
    AUTO(ledger_page_free) struct ledger_page *page = pair_page(&a, &b, PAGE_ROWS_MAX);
    b.now_ms = NOON + HOUR; /* R4: it cannot be extended any more */
    assert_ok(&b, story_merge(&b, page));
    assert_int_equal(lease_row_of(&b, 1, 2)->state, LEASE_ACTIVE);
    assert_int_equal(lease_row_of(&b, 1, 1)->expires_ms, NOON + HOUR);
    assert_ok(&b, story_renew(&b, ANN, 1, NULL)); /* the one that can be */
    assert_int_equal(last_lease(&b)->home.bytes[15], 2);
}

/* Released at a, asked for again at b, which had not heard of it: that one is wanted. */
static void r9_the_double_of_an_ended_lease_stands(void **state)
{
    for (int first = 0; first < 2; first++) {
        PAIR(a, b);
        begin_doubled(&a, &b, HOUR, HOUR);
        assert_ok(&a, story_release(&a, ANN, 1, NULL));
        pair_tell(first ? &a : &b, first ? &b : &a);
        pair_settle(&a, &b);
        assert_int_equal(lease_row_of(&a, 1, 1)->state, LEASE_RELEASED);
        assert_int_equal(lease_row_of(&a, 1, 2)->state, LEASE_ACTIVE);
        assert_ok(&a, story_renew(&a, ANN, 1, NULL));
        assert_same(&a, &b);
    }
    (void)state;
}

static void r9_leases_of_other_requests_are_no_doubles(void **state)
{
    for (int other = 0; other < 3; other++) {
        PAIR(a, b);
        struct ent_spec spec = { .features = { { .scope = 1, .seats = 6 },
                                               { .scope = 2, .name = "edit", .seats = 6 } } };
        pair_install(&a, &b, &spec);
        assert_ok(&a, story_grant(&a, ANN, LEASE(1)));
        assert_ok(&b, story_grant(&b, other == 0 ? BOB : ANN,
                                  LEASE(1, .count = other == 1 ? 2 : 1,
                                        .feature = other == 2 ? "edit" : "render")));
        pair_settle(&a, &b);
        assert_int_equal(lease_row_of(&a, 1, 1)->state, LEASE_ACTIVE);
        assert_int_equal(lease_row_of(&a, 1, 2)->state, LEASE_ACTIVE);
        assert_same(&a, &b);
    }
    (void)state;
}

/* ---- R9, R5: one reference again, after its record was purged ---------------------------------
 */

/* b has purged its lease 1, which a still remembers, and grants the reference once more. */
static struct lease_evidence begin_later_life(struct story *a, struct story *b)
{
    pair_install(a, b, &(struct ent_spec){ SEATS(4) });
    assert_ok(b, story_grant(b, ANN, LEASE(1, .duration_ms = HOUR)));
    pair_settle(a, b);
    pair_wait(a, b, HOUR + 1);
    pair_tell(a, b);
    pair_settle(a, b);
    pair_tell(a, b);
    assert_int_equal(lease_row_of(a, 1, 2)->state, LEASE_EXPIRED);
    assert_ok(b, story_purge(b, 9));
    assert_null(lease_row_of(b, 1, 2));
    assert_ok(b, story_grant(b, ANN, LEASE(1, .duration_ms = HOUR)));
    assert_true(b->result.created);
    return evidence_last(b);
}

static void r9_a_later_life_replaces_what_is_remembered_of_the_first(void **state)
{
    PAIR(a, b);
    (void)state;

    begin_later_life(&a, &b);
    AUTO(ledger_page_free) struct ledger_page *to_b = pair_page(&a, &b, PAGE_ROWS_MAX);
    pair_tell(&b, &a);
    assert_int_equal(lease_row_of(&a, 1, 2)->state, LEASE_ACTIVE);
    assert_int_equal(lease_row_of(&a, 1, 2)->created_ms, b.now_ms);
    assert_ok(&b, story_merge(&b, to_b));
    pair_settle(&a, &b);
    assert_same(&a, &b);
    assert_ok(&a, story_renew(&a, ANN, 1, NULL));
}

/* It need not be a lease of the same thing. */
static void r9_a_later_life_may_be_another_request(void **state)
{
    PAIR(a, b);
    (void)state;

    begin_later_life(&a, &b);
    assert_ok(&b, story_release(&b, ANN, 1, NULL));
    pair_settle(&a, &b);
    pair_wait(&a, &b, HOUR + 1);
    pair_tell(&a, &b);
    pair_settle(&a, &b);
    pair_tell(&a, &b);
    assert_ok(&b, story_purge(&b, 9));
    assert_ok(&b, story_grant(&b, BOB, LEASE(1, .count = 2, .duration_ms = HOUR)));
    pair_settle(&a, &b);
    assert_same(&a, &b);
    assert_int_equal(lease_row_of(&a, 1, 2)->count, 2);
    assert_err(&a, ERR_LEASE_UNKNOWN, story_renew(&a, ANN, 1, NULL));
    assert_ok(&a, story_renew(&a, BOB, 1, NULL));
}

static void r4_token_of_a_later_life_is_adopted(void **state)
{
    PAIR(a, b);
    (void)state;

    struct lease_evidence token = begin_later_life(&a, &b);
    struct lease_evidence first = token;
    first.created_ms = NOON;
    assert_err(&a, ERR_LEASE_ENDED, story_renew(&a, ANN, 1, &first));
    token.adopter = ref('N', THIRD_NODE);
    assert_err(&a, ERR_LEASE_ENDED, story_renew(&a, ANN, 1, &token));
    token.adopter = ref('N', 1);
    assert_ok(&a, story_renew(&a, ANN, 1, &token));
    assert_int_equal(last_lease(&a)->created_ms, token.created_ms);
    first.expires_ms = token.expires_ms + HOUR; /* says nothing of this one */
    assert_ok(&a, story_renew(&a, ANN, 1, &first));
    assert_int_equal(last_lease(&a)->expires_ms, token.expires_ms);
    pair_settle(&a, &b);
    assert_same(&a, &b);
}

/* R4: of two leases of one reference the one that can be renewed, wherever its home is. */
static void r4_an_active_double_goes_before_one_that_has_ended(void **state)
{
    PAIR(a, b);
    (void)state;

    begin_doubled(&a, &b, HOUR, 2 * HOUR);
    pair_wait(&a, &b, HOUR);
    pair_tell(&b, &a); /* b has not heard of a's */
    assert_int_equal(lease_row_of(&a, 1, 1)->state, LEASE_EXPIRED);
    assert_ok(&a, story_renew(&a, ANN, 1, NULL));
    assert_int_equal(last_lease(&a)->home.bytes[15], 2);
    assert_ok(&a, story_grant(&a, ANN, LEASE(1)));
    assert_int_equal(last_lease(&a)->home.bytes[15], 2);
    assert_false(a.result.created);
}

/* ---- R9: origins ------------------------------------------------------------------------------
 */

static enum err delete_origin(struct story *s, unsigned origin)
{
    return story_step(s, (struct ledger_event){ .kind = LEDGER_ORIGIN_DELETE,
                                                .origin_delete.origin_ref = ref('O', origin) });
}

static void r9_newest_stamp_of_an_origin_wins(void **state)
{
    for (int later = 0; later < 2; later++) {
        PAIR(a, b);
        assert_ok(&a, story_enrol(&a, ANN, false));
        pair_settle(&a, &b);
        a.now_ms += later ? 2 * MINUTE : MINUTE;
        b.now_ms += later ? MINUTE : 2 * MINUTE;
        assert_ok(&a, story_enrol(&a, ANN, true));
        assert_ok(&b, story_enrol(&b, ANN, true));
        story_hold(&b);
        AUTO(ledger_page_free) struct ledger_page *page = pair_page(&a, &b, PAGE_ROWS_MAX);
        assert_int_equal(page->origin_count, 1);
        page->origins[0].environment = "{\"hostname\":\"a\"}";
        assert_ok(&b, story_merge(&b, page));
        assert_int_equal(ledger_changes(b.ledger)->origin_count, later);
        if (later)
            assert_string_equal(ledger_changes(b.ledger)->origins[0].environment,
                                "{\"hostname\":\"a\"}");
        story_commit(&b);
        pair_settle(&a, &b);
        assert_int_equal(a.rows.origins.items[0].updated_ms, NOON + 2 * MINUTE);
        assert_int_equal(a.rows.origins.items[0].created_ms, NOON);
        assert_same(&a, &b);
    }
    (void)state;
}

static void r9_same_stamp_of_two_nodes(void **state)
{
    for (int first = 0; first < 2; first++) {
        PAIR(a, b);
        assert_ok(&a, story_enrol(&a, ANN, false));
        assert_ok(&b, story_enrol(&b, ANN, false));
        pair_tell(first ? &a : &b, first ? &b : &a);
        pair_settle(&a, &b);
        assert_int_equal(b.rows.origins.items[0].updated_by.bytes[15], 2);
        assert_same(&a, &b);
    }
    (void)state;
}

static void r9_a_deleted_origin_stays_deleted(void **state)
{
    for (int deleter = 0; deleter < 2; deleter++) {
        PAIR(a, b);
        begin(&a, &b, &(struct ent_spec){ SEATS(4) });
        struct story *one = deleter ? &a : &b, *other = deleter ? &b : &a;
        assert_ok(one, delete_origin(one, ANN));
        other->now_ms += MINUTE; /* newer, but of the older generation */
        assert_ok(other, story_enrol(other, ANN, true));
        pair_settle(&a, &b);
        assert_false(a.rows.origins.items[0].enrolled);
        assert_int_equal(a.rows.origins.items[0].generation, 1);
        assert_err(other, ERR_ORIGIN_DELETED, story_prove(other, ANN));
        assert_same(&a, &b);
    }
    (void)state;
}

static void r9_enrolled_again_beats_deleted(void **state)
{
    PAIR(a, b);
    (void)state;

    assert_ok(&a, story_enrol(&a, ANN, false));
    pair_settle(&a, &b);
    assert_ok(&a, delete_origin(&a, ANN));
    pair_settle(&a, &b);
    assert_ok(&b, story_enrol(&b, ANN, false));
    a.now_ms += HOUR;
    pair_tell(&a, &b);
    pair_settle(&a, &b);
    assert_true(a.rows.origins.items[0].enrolled);
    a.generation = b.generation = 1;
    assert_ok(&a, story_prove(&a, ANN));
    assert_same(&a, &b);
}

/* R6: whether b's renewal came before or after the deletion at a is not known to b. */
static void r6_lease_of_an_origin_deleted_elsewhere_holds_its_seat(void **state)
{
    PAIR(a, b);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(4) });
    assert_ok(&a, story_enrol(&a, ANN, false));
    pair_settle(&a, &b);
    assert_ok(&b, story_grant(&b, ANN, LEASE(1, .duration_ms = HOUR)));
    assert_ok(&a, delete_origin(&a, ANN)); /* has not heard of the lease */
    pair_settle(&a, &b);
    const struct lease_row *row = lease_row_of(&b, 1, 2);
    assert_int_equal(row->state, LEASE_REVOKED);
    assert_int_equal(row->ended_expires_ms, ENDED_UNORDERED_MS);
    assert_int_equal(scope_now(&b, 1).waiting, 1); /* though a has acknowledged it */
    assert_same(&a, &b);
    pair_wait(&a, &b, HOUR + 1);
    pair_settle(&a, &b);
    pair_tell(&a, &b);
    assert_int_equal(scope_now(&b, 1).waiting, 0);
}

/* An active lease of an older generation arrives where the origin was deleted. */
static void r9_lease_of_a_deleted_origin_arrives_ended(void **state)
{
    PAIR(a, b);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(4) });
    assert_ok(&a, story_enrol(&a, ANN, false));
    assert_ok(&a, delete_origin(&a, ANN));
    assert_ok(&b, story_grant(&b, ANN, LEASE(1, .duration_ms = HOUR)));
    pair_tell(&b, &a);
    assert_int_equal(lease_row_of(&a, 1, 2)->state, LEASE_REVOKED);
    pair_settle(&a, &b);
    assert_int_equal(lease_row_of(&b, 1, 2)->state, LEASE_REVOKED);
    assert_same(&a, &b);
}

/* ---- R6: when two ends meet, when does the seat come back -------------------------------------
 */

/* The queue of those that wait for an acknowledgement goes by change numbers, and this one gets a
 * new one while it waits. Those behind it must not wait for it. */
static void r6_growth_after_the_end_keeps_nobody_else_waiting(void **state)
{
    PAIR(a, b);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(6) });
    for (unsigned i = 1; i <= 3; i++)
        assert_ok(&a, story_grant(&a, ANN, LEASE(i, .duration_ms = HOUR)));
    pair_settle(&a, &b);
    pair_wait(&a, &b, MINUTE);
    for (unsigned i = 1; i <= 3; i++)
        assert_ok(&a, story_release(&a, ANN, i, NULL));
    assert_ok(&b, story_renew(&b, ANN, 1, NULL));
    assert_int_equal(scope_now(&a, 1).waiting, 3);
    pair_tell(&a, &b);
    pair_tell(&b, &a); /* acknowledges all three ends, and tells that the first had grown */
    assert_int_equal(scope_now(&a, 1).waiting, 1);
    pair_settle(&a, &b);
    assert_int_equal(scope_now(&a, 1).waiting, 1); /* R6: else as R7 */
    assert_same(&a, &b);
    pair_wait(&a, &b, HOUR + SECOND);
    pair_settle(&a, &b);
    pair_tell(&b, &a);
    assert_int_equal(scope_now(&a, 1).waiting, 0);
}

/* Which end stands decides when the seat comes back: here the earlier one, from the other node. */
static void r6_the_end_that_stands_says_when_the_seat_comes_back(void **state)
{
    for (int revoke_waits = 0; revoke_waits < 2; revoke_waits++) {
        enum seat_return expiry = SEAT_RETURN_AT_EXPIRY, ack = SEAT_RETURN_ACKNOWLEDGED;
        PAIR(a, b);
        begin(&a, &b,
              &(struct ent_spec){ .features = { { .seats = 4,
                                                  .on_release = revoke_waits ? ack : expiry,
                                                  .on_revoke = revoke_waits ? expiry : ack } } });
        assert_ok(&b, story_revoke(&b, 1));
        a.now_ms += SECOND;
        assert_ok(&a, story_release(&a, ANN, 1, NULL));
        b.now_ms = a.now_ms;
        pair_settle(&a, &b);
        assert_int_equal(row_here(&a)->state, LEASE_REVOKED);
        assert_same(&a, &b);
        assert_int_equal(scope_now(&a, 1).waiting, revoke_waits);
        pair_wait(&a, &b, HOUR);
        pair_tell(&b, &a);
        assert_int_equal(scope_now(&a, 1).waiting, 0);
    }
    (void)state;
}

/* ---- R2: two mints of one revision ------------------------------------------------------------
 */

static void r2_of_two_mints_the_smaller_node_stands(void **state)
{
    for (int first = 0; first < 2; first++) {
        PAIR(a, b);
        assert_ok(&a, story_install(&a, &(struct ent_spec){ SEATS(10) }));
        assert_ok(&b, story_install(&b, &(struct ent_spec){ SEATS(10) }));
        assert_false(a.result.usable || b.result.usable);
        pair_tell(first ? &a : &b, first ? &b : &a);
        pair_tell(first ? &b : &a, first ? &a : &b);
        assert_int_equal(scope_now(&b, 1).pending, 0); /* it is not b's any more */
        pair_settle(&a, &b);
        assert_same(&a, &b);
        assert_int_equal(scope_now(&a, 1).seats, 10);
        assert_int_equal(scope_now(&a, 1).free_here, 5);
        assert_int_equal(scope_now(&b, 1).free_here, 5);
        assert_int_equal(a.rows.entitlements.items[0].minter.bytes[15], 1);
        assert_false(b.rows.entitlements.items[0].usable);
    }
    (void)state;
}

/* Neither may use what it minted while it cannot know of the other's. */
static void r2_none_of_two_mints_is_used_before_both_are_known(void **state)
{
    PAIR(a, b);
    (void)state;

    assert_ok(&a, story_install(&a, &(struct ent_spec){ SEATS(10) }));
    assert_ok(&b, story_install(&b, &(struct ent_spec){ SEATS(10) }));
    assert_err(&a, ERR_SEATS_PENDING, story_grant(&a, ANN, LEASE(1)));
    assert_err(&b, ERR_SEATS_PENDING, story_grant(&b, ANN, LEASE(2)));
    pair_tell(&a, &b);
    assert_err(&a, ERR_SEATS_PENDING, story_grant(&a, ANN, LEASE(1)));
    assert_err(&b, ERR_SEATS_AT_PEER, story_grant(&b, ANN, LEASE(2)));
    pair_tell(&b, &a); /* a's mint stands, and b knows */
    assert_ok(&a, story_grant(&a, ANN, LEASE(1)));
    assert_err(&b, ERR_SEATS_AT_PEER, story_grant(&b, ANN, LEASE(2)));
    pair_settle(&a, &b);
    assert_ok(&b, story_grant(&b, ANN, LEASE(2)));
}

/* Two documents of one revision: that of the smaller node stands, with what it says. */
static void r2_of_two_documents_that_of_the_smaller_node_stands(void **state)
{
    for (int first = 0; first < 2; first++) {
        PAIR(a, b);
        assert_ok(&a, story_install(&a, &(struct ent_spec){ SEATS(6) }));
        assert_ok(&b, story_install(&b, &(struct ent_spec){ SEATS(10) }));
        pair_tell(first ? &a : &b, first ? &b : &a);
        pair_settle(&a, &b);
        assert_same(&a, &b);
        assert_int_equal(scope_now(&b, 1).seats, 6);
        assert_int_equal(scope_now(&a, 1).free_here + scope_now(&b, 1).free_here, 6);
    }
    (void)state;
}

/* … also where it says nothing of a scope that the other one had: in memory that scope stays until
 * a restart, without a seat; in the database there is nothing that it could be loaded from. */
static void r2_scope_of_a_document_that_does_not_stand(void **state)
{
    struct ent_spec more = { .features = { { .scope = 1, .seats = 6 },
                                           { .scope = 2, .name = "edit", .seats = 4 } } };
    PAIR(a, b);
    (void)state;

    assert_ok(&a, story_install(&a, &(struct ent_spec){ SEATS(6) }));
    assert_ok(&b, story_install(&b, &more));
    AUTO(ledger_page_free) struct ledger_page *page = pair_page(&a, &b, PAGE_ROWS_MAX);
    story_hold(&b);
    assert_ok(&b, story_merge(&b, page));
    assert_int_equal(scope_now(&b, 2).seats, 0);
    assert_err(&b, ERR_SCOPE_UNKNOWN, story_grant(&b, ANN, LEASE(1, .feature = "edit")));
    rows_apply(&b.rows, ledger_changes(b.ledger), 0);
    b.held = false;
    story_restart(&b);
    pair_settle(&a, &b);
    assert_int_equal(scope_now(&b, 1).free_here, 3);
    assert_err(&b, ERR_SCOPE_UNKNOWN, story_grant(&b, ANN, LEASE(1, .feature = "edit")));
}

/* A newer revision that comes first: the difference is counted when the one below it is known. */
static void r2_revisions_in_any_order_mint_the_same(void **state)
{
    PAIR(a, b);
    (void)state;

    assert_ok(&b, story_install(&b, &(struct ent_spec){ SEATS(4), .revision = 1 }));
    assert_ok(&a, story_install(&a, &(struct ent_spec){ SEATS(10), .revision = 2 }));
    pair_tell(&a, &b);
    assert_int_equal(scope_now(&b, 1).seats, 10);
    pair_settle(&a, &b);
    assert_same(&a, &b);
    for (unsigned i = 0; i < 2; i++) {
        const struct story *s = i ? &b : &a;
        for (size_t j = 0; j < s->rows.credits.count; j++) {
            const struct credit_row *row = &s->rows.credits.items[j];
            assert_int_equal(row->minted, row->node_ref.bytes[15] == 1 ? 6 : 4);
        }
    }
    assert_int_equal(scope_now(&a, 1).free_here + scope_now(&b, 1).free_here, 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(r9_expires_takes_the_maximum),
        cmocka_unit_test(r9_ended_beats_active),
        cmocka_unit_test(r9_both_ended),
        cmocka_unit_test(r9_expiry_at_home_stands_above_all_other_ends),
        cmocka_unit_test(r9_what_began_and_ended_unheard_is_told),
        cmocka_unit_test(r9_the_double_of_the_smaller_home_stands),
        cmocka_unit_test(r9_a_double_whose_other_is_over_is_not_superseded),
        cmocka_unit_test(r9_the_double_of_an_ended_lease_stands),
        cmocka_unit_test(r9_leases_of_other_requests_are_no_doubles),
        cmocka_unit_test(r9_a_later_life_replaces_what_is_remembered_of_the_first),
        cmocka_unit_test(r9_a_later_life_may_be_another_request),
        cmocka_unit_test(r4_token_of_a_later_life_is_adopted),
        cmocka_unit_test(r4_an_active_double_goes_before_one_that_has_ended),
        cmocka_unit_test(r9_newest_stamp_of_an_origin_wins),
        cmocka_unit_test(r9_same_stamp_of_two_nodes),
        cmocka_unit_test(r9_a_deleted_origin_stays_deleted),
        cmocka_unit_test(r9_enrolled_again_beats_deleted),
        cmocka_unit_test(r6_lease_of_an_origin_deleted_elsewhere_holds_its_seat),
        cmocka_unit_test(r9_lease_of_a_deleted_origin_arrives_ended),
        cmocka_unit_test(r6_growth_after_the_end_keeps_nobody_else_waiting),
        cmocka_unit_test(r6_the_end_that_stands_says_when_the_seat_comes_back),
        cmocka_unit_test(r2_of_two_mints_the_smaller_node_stands),
        cmocka_unit_test(r2_none_of_two_mints_is_used_before_both_are_known),
        cmocka_unit_test(r2_of_two_documents_that_of_the_smaller_node_stands),
        cmocka_unit_test(r2_scope_of_a_document_that_does_not_stand),
        cmocka_unit_test(r2_revisions_in_any_order_mint_the_same),
    };

    return cmocka_run_group_tests_name("ledger_merge", tests, NULL, NULL);
}
