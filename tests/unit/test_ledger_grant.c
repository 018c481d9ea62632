/* R3: who gets a seat, who is refused, and what the refusal says. */
#include "ledger_story.h"

static void assert_denied_view(const struct story *s, int64_t seats, int64_t used, int64_t pending,
                               int64_t next_back_ms)
{
    assert_int_equal(s->result.scope_count, 1);
    assert_int_equal(s->result.scopes[0].seats, seats);
    assert_int_equal(s->result.scopes[0].used, used);
    assert_int_equal(s->result.scopes[0].pending, pending);
    assert_int_equal(s->result.scopes[0].next_back_ms, next_back_ms);
}

static void r3_grants_until_seats_are_gone(void **state)
{
    STORY(s, ALONE);
    (void)state;

    assert_ok(&s, story_install(&s, &(struct ent_spec){ SEATS(3) }));
    for (unsigned i = 1; i <= 3; i++) {
        assert_ok(&s, story_grant(&s, i, LEASE(i)));
        assert_true(s.result.created);
        assert_true(s.result.leases[0].created);
        assert_free(&s, 1, 3 - i);
    }
    assert_err(&s, ERR_NO_FREE_SEAT, story_grant(&s, MALLORY, LEASE(4)));
    assert_int_equal(s.result.lease_count, 0);
    assert_null(lease_row_of(&s, 4, 0));
}

static void r3_lease_is_as_asked(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(3) });
    assert_ok(&s, story_grant(&s, ANN, LEASE(7, .scope = 1, .count = 2, .duration_ms = HOUR)));
    struct lease_row row = *last_lease(&s);
    struct uuid home = ref('N', SELF_NODE), origin = ref('O', ANN), scope = ref('S', 1),
                lease = ref('L', 7);
    assert_true(uuid_equal(&row.home, &home));
    assert_true(uuid_equal(&row.origin_ref, &origin));
    assert_true(uuid_equal(&row.scope_ref, &scope));
    assert_true(uuid_equal(&row.lease_ref, &lease));
    assert_int_equal(row.count, 2);
    assert_int_equal(row.state, LEASE_ACTIVE);
    assert_int_equal(row.created_ms, s.now_ms);
    assert_int_equal(row.expires_ms, s.now_ms + HOUR);
    assert_int_equal(row.duration_ms, HOUR);
    assert_false(row.shared);
    assert_string_equal(s.result.leases[0].feature, "render");
    assert_same_row(lease_row_of(&s, 7, 0), &row);
}

static void r3_server_draws_reference(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(3) });
    assert_ok(&s, story_grant(&s, ANN, LEASE(0)));
    assert_ok(&s, story_grant(&s, ANN, LEASE(0)));
    assert_true(s.result.created);
    assert_free(&s, 1, 1);
}

static void r3_all_or_nothing(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s,
                  &(struct ent_spec){ .features = { { .scope = 1, .seats = 5 },
                                                    { .scope = 2, .name = "edit", .seats = 1 } } });
    story_grant(&s, BOB, LEASE(9, .scope = 2));
    struct grant_item items[] = { item_of(LEASE(1, .scope = 1)), item_of(LEASE(2, .scope = 2)) };
    assert_err(&s, ERR_NO_FREE_SEAT, story_grant_items(&s, ANN, items, 2));
    assert_int_equal(s.result.lease_count, 0);
    assert_free(&s, 1, 5);
    assert_null(lease_row_of(&s, 1, 0));
    assert_ok(&s, story_release(&s, BOB, 9, NULL));
    assert_ok(&s, story_grant_items(&s, ANN, items, 2));
    assert_int_equal(s.result.lease_count, 2);
    assert_free(&s, 1, 4);
    assert_free(&s, 2, 0);
}

static void r3_items_of_one_request_share_what_is_free(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(3) });
    struct grant_item items[] = { item_of(LEASE(1, .scope = 1, .count = 2)),
                                  item_of(LEASE(2, .count = 2)) };
    assert_err(&s, ERR_NO_FREE_SEAT, story_grant_items(&s, ANN, items, 2));
    assert_free(&s, 1, 3);
    items[1].count = 1;
    assert_ok(&s, story_grant_items(&s, ANN, items, 2));
    assert_free(&s, 1, 0);
}

static void r3_answers_in_the_order_asked(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(9) });
    story_grant(&s, ANN, LEASE(2));
    struct grant_item items[] = { item_of(LEASE(3)), item_of(LEASE(2)), item_of(LEASE(1)) };
    assert_ok(&s, story_grant_items(&s, ANN, items, 3));
    for (size_t i = 0; i < 3; i++)
        assert_true(uuid_equal(&s.result.leases[i].row.lease_ref, &items[i].lease_ref));
    assert_true(s.result.leases[0].created);
    assert_false(s.result.leases[1].created);
    assert_true(s.result.created);
    assert_free(&s, 1, 6);
}

static void r3_same_reference_again_answers_with_that_lease(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(1) });
    story_grant(&s, ANN, LEASE(1, .duration_ms = HOUR));
    struct lease_row first = *last_lease(&s);
    uint64_t seq = ledger_seq(s.ledger);
    s.now_ms += MINUTE;
    assert_ok(&s, story_grant(&s, ANN, LEASE(1, .duration_ms = HOUR)));
    assert_false(s.result.created);
    assert_same_row(last_lease(&s), &first);
    assert_int_equal(ledger_seq(s.ledger), seq);
    assert_ok(&s, story_grant(&s, ANN, LEASE(1, .scope = 1)));
    assert_ok(&s, story_grant(&s, ANN, LEASE(1, .duration_ms = MINUTE)));
    assert_same_row(last_lease(&s), &first);
    assert_free(&s, 1, 0);
}

static void r3_same_reference_again_in_the_same_batch(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(2) });
    story_hold(&s);
    assert_ok(&s, story_grant(&s, ANN, LEASE(1)));
    assert_ok(&s, story_grant(&s, ANN, LEASE(1)));
    assert_false(s.result.created);
    assert_free(&s, 1, 1);
    story_commit(&s);
}

static void r3_ended_reference_is_gone(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(1) });
    story_grant(&s, ANN, LEASE(1));
    story_release(&s, ANN, 1, NULL);
    assert_err(&s, ERR_LEASE_ENDED, story_grant(&s, ANN, LEASE(1)));
    assert_free(&s, 1, 1);
    assert_ok(&s, story_grant(&s, ANN, LEASE(2, .duration_ms = HOUR)));
    story_wait(&s, HOUR);
    assert_err(&s, ERR_LEASE_ENDED, story_grant(&s, ANN, LEASE(2)));
    story_grant(&s, ANN, LEASE(3));
    story_revoke(&s, 3);
    assert_err(&s, ERR_LEASE_ENDED, story_grant(&s, ANN, LEASE(3)));
}

static void r3_reference_purged_in_this_batch_is_gone(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(1) });
    story_grant(&s, ANN, LEASE(1, .duration_ms = MINUTE));
    story_wait(&s, MINUTE);
    story_hold(&s);
    assert_ok(&s, story_purge(&s, 10));
    assert_int_equal(s.result.affected, 1);
    assert_err(&s, ERR_LEASE_ENDED, story_grant(&s, ANN, LEASE(1)));
    story_commit(&s);
    assert_ok(&s, story_grant(&s, ANN, LEASE(1))); /* nobody remembers it */
    assert_true(s.result.created);
}

static void r3_reference_of_another_request_is_a_mismatch(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s,
                  &(struct ent_spec){ .features = { { .scope = 1, .seats = 5 },
                                                    { .scope = 2, .name = "edit", .seats = 5 } } });
    story_grant(&s, ANN, LEASE(1));
    assert_err(&s, ERR_LEASE_MISMATCH, story_grant(&s, BOB, LEASE(1)));
    assert_err(&s, ERR_LEASE_MISMATCH, story_grant(&s, ANN, LEASE(1, .count = 2)));
    assert_err(&s, ERR_LEASE_MISMATCH, story_grant(&s, ANN, LEASE(1, .feature = "edit")));
    assert_err(&s, ERR_LEASE_MISMATCH, story_grant(&s, ANN, LEASE(1, .scope = 2)));
    story_release(&s, ANN, 1, NULL);
    assert_err(&s, ERR_LEASE_MISMATCH, story_grant(&s, BOB, LEASE(1))); /* tells BOB nothing */
    assert_free(&s, 1, 5);
    assert_free(&s, 2, 5);
}

static void r3_duplicate_reference_in_one_request(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(5) });
    struct grant_item items[] = { item_of(LEASE(1)), item_of(LEASE(2)), item_of(LEASE(1)) };
    assert_err(&s, ERR_DUPLICATE_REFERENCE, story_grant_items(&s, ANN, items, 3));
    assert_free(&s, 1, 5);
    story_grant(&s, ANN, LEASE(1));
    assert_err(&s, ERR_DUPLICATE_REFERENCE, story_grant_items(&s, ANN, items, 3));
    assert_free(&s, 1, 4);
}

static void r3_expires_is_capped_by_the_site(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(5) });
    story_grant(&s, ANN, LEASE(1, .duration_ms = DAY + 1));
    assert_int_equal(last_lease(&s)->expires_ms, s.now_ms + DAY);
    story_grant(&s, ANN, LEASE(2));
    assert_int_equal(last_lease(&s)->expires_ms, s.now_ms + DAY);
    story_grant(&s, ANN, LEASE(3, .duration_ms = DAY - 1));
    assert_int_equal(last_lease(&s)->expires_ms, s.now_ms + DAY - 1);
}

static void r3_expires_is_capped_by_max_lease_seconds(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(
        &s, &(struct ent_spec){ .features = { { .seats = 5, .lease_max_ms = 10 * MINUTE } } });
    story_grant(&s, ANN, LEASE(1, .duration_ms = HOUR));
    assert_int_equal(last_lease(&s)->expires_ms, s.now_ms + 10 * MINUTE);
    story_grant(&s, ANN, LEASE(2));
    assert_int_equal(last_lease(&s)->expires_ms, s.now_ms + 10 * MINUTE);
    assert_int_equal(last_lease(&s)->duration_ms, 10 * MINUTE);
}

static void r3_expires_is_capped_by_the_entitlements_end(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(5), .ends_ms = NOON + MINUTE });
    story_grant(&s, ANN, LEASE(1, .duration_ms = HOUR));
    assert_int_equal(last_lease(&s)->expires_ms, NOON + MINUTE);
    assert_int_equal(last_lease(&s)->duration_ms, HOUR);
    story_wait(&s, MINUTE - 1);
    assert_ok(&s, story_grant(&s, ANN, LEASE(2)));
    assert_int_equal(last_lease(&s)->expires_ms, NOON + MINUTE);
    story_wait(&s, 1);
    assert_err(&s, ERR_ENT_EXPIRED, story_grant(&s, ANN, LEASE(3)));
    assert_free(&s, 1, 5);
}

static void r3_entitlement_that_has_not_begun(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(5), .begins_ms = NOON + MINUTE });
    assert_err(&s, ERR_ENT_EARLY, story_grant(&s, ANN, LEASE(1)));
    assert_err(&s, ERR_ENT_EARLY, story_grant(&s, ANN, LEASE(1, .scope = 1)));
    story_wait(&s, MINUTE - 1);
    assert_err(&s, ERR_ENT_EARLY, story_grant(&s, ANN, LEASE(1)));
    story_wait(&s, 1);
    assert_ok(&s, story_grant(&s, ANN, LEASE(1)));
}

static void r3_unknown_scope_and_feature(void **state)
{
    STORY(s, ALONE);
    (void)state;

    assert_err(&s, ERR_SCOPE_UNKNOWN, story_grant(&s, ANN, LEASE(1)));
    assert_err(&s, ERR_SCOPE_UNKNOWN, story_grant(&s, ANN, LEASE(1, .scope = 1)));
    story_install(&s, &(struct ent_spec){ SEATS(5) });
    assert_err(&s, ERR_SCOPE_UNKNOWN, story_grant(&s, ANN, LEASE(1, .feature = "rende")));
    assert_err(&s, ERR_SCOPE_UNKNOWN, story_grant(&s, ANN, LEASE(1, .feature = "render2")));
    assert_err(&s, ERR_SCOPE_UNKNOWN, story_grant(&s, ANN, LEASE(1, .scope = 2)));
}

static void r3_untrusted_publisher_grants_nothing_new(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(5) });
    story_grant(&s, ANN, LEASE(1));
    s.rows.untrusted = true;
    story_restart(&s);
    assert_err(&s, ERR_ENT_UNTRUSTED, story_grant(&s, BOB, LEASE(2)));
    assert_err(&s, ERR_ENT_UNTRUSTED, story_grant(&s, BOB, LEASE(2, .scope = 1)));
    assert_ok(&s, story_renew(&s, ANN, 1, NULL));
    assert_ok(&s, story_grant(&s, ANN, LEASE(1)));
    assert_false(scope_now(&s, 1).trusted);
}

static bool trusts_but(void *publisher, const struct entitlement *e)
{
    return strcmp(e->publisher, publisher) != 0;
}

static void r3_trust_is_reviewed(void **state)
{
    char acme[] = "acme", nobody[] = "nobody";
    STORY(s, ALONE);
    (void)state;

    story_install(&s,
                  &(struct ent_spec){ .features = { { .scope = 1, .seats = 2 },
                                                    { .scope = 2, .name = "edit", .seats = 2 } } });
    story_install(
        &s, &(struct ent_spec){ .ref = 2,
                                .publisher = "other",
                                .features = { { .scope = 3, .name = "paint", .seats = 2 } } });
    story_grant(&s, ANN, LEASE(1));
    uint64_t seq = ledger_seq(s.ledger);
    ledger_review_trust(s.ledger, trusts_but, acme);
    assert_int_equal(ledger_seq(s.ledger), seq); /* nothing to be written */
    for (unsigned scope = 1; scope <= 3; scope++)
        assert_int_equal(scope_now(&s, scope).trusted, scope == 3);
    ledger_review_trust(s.ledger, trusts_but, nobody);
    for (unsigned scope = 1; scope <= 3; scope++)
        assert_true(scope_now(&s, scope).trusted);
    assert_ok(&s, story_grant(&s, BOB, LEASE(2)));
}

/* ---- choosing by feature ----------------------------------------------------------------------
 */

#define SECOND_SCOPE(n, ...)                                                                       \
    (&(struct ent_spec){ .ref = 2, .features = { { .scope = 2, .seats = (n) } }, __VA_ARGS__ })

static void assert_scope_of_last(const struct story *s, unsigned scope)
{
    struct uuid expected = ref('S', scope);

    assert_true(uuid_equal(&last_lease(s)->scope_ref, &expected));
}

static void r3_feature_takes_what_ends_first_and_has_room(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(2), .ends_ms = NOON + 20 * DAY });
    story_install(&s, SECOND_SCOPE(1, .ends_ms = NOON + 10 * DAY));
    assert_ok(&s, story_grant(&s, ANN, LEASE(1)));
    assert_scope_of_last(&s, 2);
    assert_ok(&s, story_grant(&s, ANN, LEASE(2)));
    assert_scope_of_last(&s, 1);
    story_release(&s, ANN, 1, NULL);
    assert_ok(&s, story_grant(&s, ANN, LEASE(3, .count = 1)));
    assert_scope_of_last(&s, 2);
    assert_ok(&s, story_grant(&s, ANN, LEASE(4)));
    assert_err(&s, ERR_NO_FREE_SEAT, story_grant(&s, ANN, LEASE(5)));
}

static void r3_feature_passes_over_what_has_ended(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(2), .ends_ms = NOON + MINUTE });
    story_install(&s, SECOND_SCOPE(1));
    story_wait(&s, MINUTE);
    assert_ok(&s, story_grant(&s, ANN, LEASE(1)));
    assert_scope_of_last(&s, 2);
    assert_err(&s, ERR_NO_FREE_SEAT, story_grant(&s, ANN, LEASE(2)));
}

static void r3_feature_passes_over_what_has_not_begun(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(
        &s, &(struct ent_spec){ SEATS(9), .begins_ms = NOON + DAY, .ends_ms = NOON + 2 * DAY });
    story_install(&s, SECOND_SCOPE(1));
    assert_ok(&s, story_grant(&s, ANN, LEASE(1)));
    assert_scope_of_last(&s, 2);
    assert_err(&s, ERR_NO_FREE_SEAT, story_grant(&s, ANN, LEASE(2)));
    story_wait(&s, DAY);
    assert_ok(&s, story_grant(&s, ANN, LEASE(2)));
    assert_scope_of_last(&s, 1);
}

static void r3_feature_of_two_publishers_is_ambiguous(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(2), .ends_ms = NOON + 10 * DAY });
    story_install(&s, SECOND_SCOPE(2, .publisher = "other", .ends_ms = NOON + 20 * DAY));
    assert_err(&s, ERR_FEATURE_AMBIGUOUS, story_grant(&s, ANN, LEASE(1)));
    assert_free(&s, 1, 2);
    assert_ok(&s, story_grant(&s, ANN, LEASE(1, .scope = 2)));
    assert_ok(&s, story_grant(&s, ANN, LEASE(2, .scope = 1)));
    story_wait(&s, 10 * DAY); /* acme's has ended: nothing to choose from any more */
    assert_ok(&s, story_grant(&s, ANN, LEASE(3)));
    assert_scope_of_last(&s, 2);
}

static void r3_denial_by_feature_names_a_scope_that_could_ever_do(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(1), .ends_ms = NOON + 10 * DAY });
    story_install(&s, SECOND_SCOPE(4));
    story_grant(&s, ANN, LEASE(1, .scope = 2, .count = 2));
    assert_err(&s, ERR_NO_FREE_SEAT, story_grant(&s, BOB, LEASE(2, .count = 3)));
    assert_int_equal(s.result.scopes[0].seats, 4);
    assert_err(&s, ERR_COUNT_OVER_SEATS, story_grant(&s, BOB, LEASE(2, .count = 5)));
}

/* ---- denials -------------------------------------------------------------------------------- */

static void r3_count_over_seats(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(3) });
    assert_err(&s, ERR_COUNT_OVER_SEATS, story_grant(&s, ANN, LEASE(1, .count = 4)));
    assert_err(&s, ERR_COUNT_OVER_SEATS, story_grant(&s, ANN, LEASE(1, .count = INT64_MAX)));
    assert_ok(&s, story_grant(&s, ANN, LEASE(1, .count = 3)));
    assert_err(&s, ERR_NO_FREE_SEAT, story_grant(&s, ANN, LEASE(2, .count = 3)));
    assert_denied_view(&s, 3, 3, 0, s.now_ms + DAY);
}

static void r12_denial_says_when_a_seat_is_expected_back(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(3) });
    story_grant(&s, ANN, LEASE(1, .duration_ms = 3 * HOUR));
    story_grant(&s, BOB, LEASE(2, .duration_ms = 1 * HOUR));
    story_grant(&s, CAROL, LEASE(3, .duration_ms = 2 * HOUR));
    assert_err(&s, ERR_NO_FREE_SEAT, story_grant(&s, MALLORY, LEASE(4)));
    assert_denied_view(&s, 3, 3, 0, NOON + HOUR);
    assert_int_equal(s.result.scopes[0].active, 3);
    story_wait(&s, HOUR - 1);
    assert_ok(&s, story_renew(&s, BOB, 2, NULL)); /* till NOON + 2 HOUR - 1 */
    assert_err(&s, ERR_NO_FREE_SEAT, story_grant(&s, MALLORY, LEASE(4)));
    assert_denied_view(&s, 3, 3, 0, NOON + 2 * HOUR - 1);
    story_wait(&s, HOUR);
    assert_ok(&s, story_grant(&s, MALLORY, LEASE(4)));
}

/* lease_next_back() puts renewed leases back into the heap: whatever it does, nothing may expire
 * early, late, or twice afterwards. */
static void r12_asking_when_changes_nothing(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(20) });
    for (unsigned i = 1; i <= 20; i++)
        story_grant(&s, ANN, LEASE(i, .duration_ms = i * MINUTE));
    for (unsigned i = 1; i <= 20; i += 2) {
        story_wait(&s, SECOND);
        assert_ok(&s, story_renew(&s, ANN, i, NULL));
        assert_int_equal(scope_now(&s, 1).next_back_ms, NOON + MINUTE + SECOND);
    }
    for (unsigned i = 2; i <= 20; i += 4) {
        assert_ok(&s, story_release(&s, ANN, i, NULL));
        (void)scope_now(&s, 1);
    }
    int64_t back = 5, next_ms;
    while ((next_ms = scope_now(&s, 1).next_back_ms) != 0) {
        assert_true(next_ms > s.now_ms);
        story_wait(&s, next_ms - 1 - s.now_ms);
        assert_free(&s, 1, back);
        story_wait(&s, 1);
        assert_true(scope_now(&s, 1).free_here > back);
        back = scope_now(&s, 1).free_here;
    }
    assert_int_equal(back, 20);
}

static void r12_nothing_held_nothing_expected(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(3) });
    assert_int_equal(scope_now(&s, 1).next_back_ms, 0);
    story_grant(&s, ANN, LEASE(1));
    story_release(&s, ANN, 1, NULL);
    assert_int_equal(scope_now(&s, 1).next_back_ms, 0);
}

/* ---- limits --------------------------------------------------------------------------------- */

static void limit_items_of_one_request(void **state)
{
    struct grant_item items[LEASE_ITEMS_MAX];
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(LEASE_ITEMS_MAX) });
    for (unsigned i = 0; i < LEASE_ITEMS_MAX; i++)
        items[i] = item_of(LEASE(i + 1));
    assert_ok(&s, story_grant_items(&s, ANN, items, LEASE_ITEMS_MAX));
    assert_int_equal(s.result.lease_count, LEASE_ITEMS_MAX);
    assert_free(&s, 1, 0);
    assert_ok(&s, story_grant_items(&s, ANN, items, LEASE_ITEMS_MAX));
    assert_false(s.result.created);
}

static void limit_leases_of_one_origin(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(2 * ORIGIN_LEASES_MAX) });
    story_hold(&s);
    for (unsigned i = 1; i < ORIGIN_LEASES_MAX; i++) {
        struct ledger_event event = { .kind = LEDGER_GRANT, .now_ms = s.now_ms };
        struct grant_item item = item_of(LEASE(i));
        event.grant.origin.origin_ref = ref('O', ANN);
        event.grant.items = &item;
        event.grant.item_count = 1;
        ledger_result_fini(&s.result);
        ledger_step(s.ledger, &event, &s.result);
        assert_int_equal(s.result.err, ERR_OK);
    }
    story_commit(&s);
    struct grant_item items[] = { item_of(LEASE(5000)), item_of(LEASE(5001)), item_of(LEASE(1)) };
    assert_err(&s, ERR_LEASE_LIMIT, story_grant_items(&s, ANN, items, 3));
    assert_ok(&s, story_grant(&s, ANN, LEASE(5000)));
    assert_err(&s, ERR_LEASE_LIMIT, story_grant(&s, ANN, LEASE(5001)));
    assert_ok(&s, story_grant(&s, ANN, LEASE(5000))); /* the same again is no new one */
    assert_ok(&s, story_grant(&s, BOB, LEASE(5001)));
    story_release(&s, ANN, 17, NULL);
    assert_ok(&s, story_grant(&s, ANN, LEASE(5002)));
    assert_ok(&s, story_list(&s, ANN));
    assert_int_equal(s.result.lease_count, ORIGIN_LEASES_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(r3_grants_until_seats_are_gone),
        cmocka_unit_test(r3_lease_is_as_asked),
        cmocka_unit_test(r3_server_draws_reference),
        cmocka_unit_test(r3_all_or_nothing),
        cmocka_unit_test(r3_items_of_one_request_share_what_is_free),
        cmocka_unit_test(r3_answers_in_the_order_asked),
        cmocka_unit_test(r3_same_reference_again_answers_with_that_lease),
        cmocka_unit_test(r3_same_reference_again_in_the_same_batch),
        cmocka_unit_test(r3_ended_reference_is_gone),
        cmocka_unit_test(r3_reference_purged_in_this_batch_is_gone),
        cmocka_unit_test(r3_reference_of_another_request_is_a_mismatch),
        cmocka_unit_test(r3_duplicate_reference_in_one_request),
        cmocka_unit_test(r3_expires_is_capped_by_the_site),
        cmocka_unit_test(r3_expires_is_capped_by_max_lease_seconds),
        cmocka_unit_test(r3_expires_is_capped_by_the_entitlements_end),
        cmocka_unit_test(r3_entitlement_that_has_not_begun),
        cmocka_unit_test(r3_unknown_scope_and_feature),
        cmocka_unit_test(r3_untrusted_publisher_grants_nothing_new),
        cmocka_unit_test(r3_trust_is_reviewed),
        cmocka_unit_test(r3_feature_takes_what_ends_first_and_has_room),
        cmocka_unit_test(r3_feature_passes_over_what_has_ended),
        cmocka_unit_test(r3_feature_passes_over_what_has_not_begun),
        cmocka_unit_test(r3_feature_of_two_publishers_is_ambiguous),
        cmocka_unit_test(r3_denial_by_feature_names_a_scope_that_could_ever_do),
        cmocka_unit_test(r3_count_over_seats),
        cmocka_unit_test(r12_denial_says_when_a_seat_is_expected_back),
        cmocka_unit_test(r12_asking_when_changes_nothing),
        cmocka_unit_test(r12_nothing_held_nothing_expected),
        cmocka_unit_test(limit_items_of_one_request),
        cmocka_unit_test(limit_leases_of_one_origin),
    };

    return cmocka_run_group_tests_name("ledger_grant", tests, NULL, NULL);
}
