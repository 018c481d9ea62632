/* What is written, and what is believed when it is read again. */
#include "ledger_story.h"

/* ---- changes ----------------------------------------------------------------------------------
 */

static void changes_hold_one_row_a_record_the_newest(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(9) });
    story_peer_states(&s, PEER, 0, SEEN_ALL);
    story_hold(&s);
    story_grant(&s, ANN, LEASE(1, .duration_ms = HOUR));
    story_wait(&s, MINUTE);
    story_renew(&s, ANN, 1, NULL);
    story_release(&s, ANN, 1, NULL);
    story_install(&s, &(struct ent_spec){ SEATS(10), .revision = 2 });
    story_install(&s, &(struct ent_spec){ SEATS(8), .revision = 3 });
    assert_ok(&s, story_give(&s, 1, PEER, 4));
    assert_ok(&s, story_give(&s, 1, PEER, 1));
    story_peer_states(&s, PEER, NOON, SEEN_ALL);
    story_peer_states(&s, PEER, NOON + 1, SEEN_ALL);
    const struct ledger_changes *c = ledger_changes(s.ledger);
    assert_int_equal(c->lease_count, 1);
    assert_int_equal(c->leases[0].state, LEASE_RELEASED);
    assert_int_equal(c->leases[0].expires_ms, NOON + MINUTE + HOUR);
    assert_int_equal(c->origin_count, 1);
    assert_int_equal(c->credit_count, 1);
    assert_int_equal(c->credits[0].minted, 8);
    assert_int_equal(c->credits[0].revision, 3);
    assert_int_equal(c->move_count, 1);
    assert_int_equal(c->moves[0].moved, 5);
    assert_int_equal(c->node_count, 1);
    assert_int_equal(c->nodes[0].watermark_ms, NOON + 1);
    assert_int_equal(c->scope_count, 1);
    assert_int_equal(c->scopes[0].seats, 8);
    assert_int_equal(c->entitlement_count, 2);
    assert_int_equal(c->seq, ledger_seq(s.ledger));
    story_commit(&s);
}

static void changes_of_the_next_batch_are_new_rows(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(5) });
    for (unsigned i = 1; i <= 5; i++)
        story_grant(&s, ANN, LEASE(i));
    assert_false(ledger_changed(s.ledger));
    for (int batch = 0; batch < 3; batch++) {
        story_wait(&s, MINUTE);
        story_hold(&s);
        for (unsigned i = 1; i <= 5; i++)
            assert_ok(&s, story_renew(&s, ANN, i, NULL));
        assert_true(ledger_changed(s.ledger));
        assert_int_equal(ledger_changes(s.ledger)->lease_count, 5);
        for (size_t i = 0; i < 5; i++)
            assert_int_equal(ledger_changes(s.ledger)->leases[i].expires_ms, s.now_ms + DAY);
        story_commit(&s);
    }
}

static void changes_are_none_for_reads_and_refusals(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(1) });
    story_grant(&s, ANN, LEASE(1));
    story_prove(&s, BOB);
    uint64_t seq = ledger_seq(s.ledger);
    story_hold(&s);
    story_list(&s, ANN);
    (void)scope_now(&s, 1);
    story_grant(&s, ANN, LEASE(1));
    story_grant(&s, BOB, LEASE(2));
    story_renew(&s, BOB, 1, NULL);
    story_release(&s, BOB, 7, NULL);
    story_revoke(&s, 9);
    story_purge(&s, 10);
    assert_false(ledger_changed(s.ledger));
    assert_int_equal(ledger_seq(s.ledger), seq);
    story_commit(&s);
}

/* A denial may make its origin known, and nothing else. */
static void changes_of_a_denial(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(1) });
    story_hold(&s);
    struct grant_item items[] = { item_of(LEASE(1)), item_of(LEASE(2)) };
    assert_err(&s, ERR_NO_FREE_SEAT, story_grant_items(&s, BOB, items, 2));
    const struct ledger_changes *c = ledger_changes(s.ledger);
    assert_int_equal(c->origin_count, 1);
    assert_int_equal(c->lease_count + c->credit_count + c->purged_count, 0);
    story_commit(&s);
}

static void changes_of_a_purge_need_no_number(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(1) });
    story_grant(&s, ANN, LEASE(1, .duration_ms = HOUR));
    story_wait(&s, HOUR);
    uint64_t seq = ledger_seq(s.ledger);
    story_hold(&s);
    story_purge(&s, 10);
    assert_true(ledger_changed(s.ledger));
    assert_int_equal(ledger_changes(s.ledger)->purged_count, 1);
    assert_int_equal(ledger_changes(s.ledger)->seq, seq);
    story_commit(&s);
}

static void changes_thrown_away_leave_nothing(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(1) });
    story_hold(&s);
    story_grant(&s, ANN, LEASE(1));
    story_install(&s, &(struct ent_spec){ SEATS(9), .revision = 2 });
    s.held = false;
    story_restart(&s); /* the commit failed: memory goes, too (R13) */
    assert_free(&s, 1, 1);
    assert_ok(&s, story_grant(&s, BOB, LEASE(1)));
}

/* ---- load ----------------------------------------------------------------------------------- */

/* Rows of every kind: two entitlements, a dropped feature, a peer, a move, leases in all states. */
static void fill(struct story *s)
{
    story_install(s,
                  &(struct ent_spec){ .features = { { .scope = 1, .seats = 9 },
                                                    { .scope = 2, .name = "edit", .seats = 4 } } });
    story_install(s,
                  &(struct ent_spec){ .revision = 2, .features = { { .scope = 1, .seats = 8 } } });
    story_peer_states(s, PEER, 0, SEEN_ALL);
    assert_ok(s, story_give(s, 1, PEER, 2)); /* gives half: 4 */
    for (unsigned i = 1; i <= 4; i++)
        story_grant(s, ANN, LEASE(i, .duration_ms = i * HOUR));
    struct lease_evidence token = evidence_of(s, BOB, 5, PEER);
    story_renew(s, BOB, 5, &token);
    story_release(s, ANN, 1, NULL);
    story_revoke(s, 2);
    story_wait(s, 3 * HOUR);
    story_peer_states(s, PEER, NOON + 3 * HOUR, SEEN_ALL);
    assert_int_equal(lease_row_of(s, 3, 0)->state, LEASE_EXPIRED);
}

static void load_takes_rows_of_every_kind(void **state)
{
    STORY(s, PAIRED);
    (void)state;

    fill(&s);
    story_restart(&s);
    assert_int_equal(scope_now(&s, 1).used, 2);
    assert_int_equal(scope_now(&s, 1).free_here, 3);
    assert_ok(&s, story_renew(&s, ANN, 4, NULL));
    assert_err(&s, ERR_LEASE_ENDED, story_renew(&s, ANN, 3, NULL));
}

/* R2: what is stored of them is for SQL to read; nobody becomes richer by it. */
static void load_derives_credits(void **state)
{
    struct rows rows;
    struct diag diag = { "" };
    STORY(s, PAIRED);
    (void)state;

    fill(&s);
    rows_copy(&s.rows, &rows);
    rows.credits.items[0].usable += 5;
    rows.credits.count = 1; /* of the two */
    ledger_free(s.ledger);
    assert_int_equal(rows_load(&rows, &s.conf, &s.ledger, &diag), ERR_OK);
    rows_fini(&rows);
    assert_int_equal(scope_now(&s, 1).free_here, 3);
    assert_int_equal(scope_now(&s, 2).free_here, 0);
}

typedef void damage(struct rows *rows);

static void refuse(damage *hurt, const char *words)
{
    struct rows rows;
    struct ledger *l = NULL;
    struct diag diag = { "" };
    STORY(s, PAIRED);

    fill(&s);
    rows_copy(&s.rows, &rows);
    hurt(&rows);
    assert_int_equal(rows_load(&rows, &s.conf, &l, &diag), ERR_STORE_CORRUPT);
    assert_null(l);
    if (!strstr(diag.text, words))
        fail_msg("\"%s\" does not say \"%s\"", diag.text, words);
    rows_fini(&rows);
}

#define DAMAGE(name, words, ...)                                                                   \
    static void hurt_##name(struct rows *rows)                                                     \
    {                                                                                              \
        __VA_ARGS__;                                                                               \
    }                                                                                              \
    static void load_refuses_##name(void **state)                                                  \
    {                                                                                              \
        (void)state;                                                                               \
        refuse(hurt_##name, words);                                                                \
    }

#define lease(i) rows->leases.items[i]

DAMAGE(lease_of_an_unknown_scope, "scope, origin or home", lease(0).scope_ref = ref('S', 9))
DAMAGE(lease_of_an_unknown_origin, "scope, origin or home", lease(0).origin_ref = ref('O', 9))
DAMAGE(lease_of_an_unknown_home, "scope, origin or home", lease(0).home = ref('N', 9))
DAMAGE(lease_twice, "twice", lease(1).lease_ref = lease(0).lease_ref)
DAMAGE(lease_without_seats, "count", lease(3).count = 0)
DAMAGE(lease_of_less_than_nothing, "count", lease(3).count = -1)
DAMAGE(lease_of_too_many_seats, "count", lease(3).count = ENTITLEMENT_SEATS_MAX + 1)
DAMAGE(lease_in_no_state, "state", lease(3).state = LEASE_STATES)
DAMAGE(lease_that_never_expires, "time", lease(3).expires_ms = 0)
DAMAGE(lease_that_was_never_created, "time", lease(3).created_ms = 0)
DAMAGE(lease_without_duration, "time", lease(3).duration_ms = 0)
DAMAGE(lease_over_before_it_began, "before", lease(3).expires_ms = lease(3).created_ms - 1)
DAMAGE(lease_active_and_ended, "contradict", lease(0).state = LEASE_ACTIVE)
DAMAGE(lease_ended_without_an_end, "contradict", lease(3).state = LEASE_RELEASED)
DAMAGE(lease_ended_without_expiry, "contradict", lease(0).ended_expires_ms = 0)
DAMAGE(lease_that_expired_before_it_was_known, "before it was known",
       lease(0).ended_expires_ms += DAY)
DAMAGE(lease_above_the_change_number, "change number", lease(3).seq = rows->seq + 1)
DAMAGE(lease_of_a_deleted_origin, "deleted", rows->origins.items[0].enrolled = false)
DAMAGE(origin_twice, "twice", rows->origins.items[1] = rows->origins.items[0])
DAMAGE(credit_of_an_unknown_scope, "not known", rows->credits.items[0].scope_ref = ref('S', 9))
DAMAGE(credit_of_an_unknown_node, "not known", rows->credits.items[0].node_ref = ref('N', 9))
DAMAGE(credit_more_than_signed, "another number was minted", rows->credits.items[0].minted++)
DAMAGE(credit_less_than_signed, "another number was minted", rows->credits.items[0].minted--;
       rows->credits.items[0].usable--)
DAMAGE(credit_of_a_dropped_feature, "another number was minted",
       rows->credits.items[1].minted = rows->credits.items[1].usable = 4)
DAMAGE(move_to_itself, "not known", rows->moves.items[0].receiver = rows->moves.items[0].giver)
DAMAGE(move_from_an_unknown_node, "not known", rows->moves.items[0].giver = ref('N', 9))
DAMAGE(move_of_an_unknown_scope, "not known", rows->moves.items[0].scope_ref = ref('S', 9))
DAMAGE(move_of_nothing, "nothing", rows->moves.items[0].moved = 0)
DAMAGE(move_above_the_change_number, "change number", rows->moves.items[0].seq = rows->seq + 1)
#define peer_row rows->nodes.items[1]

DAMAGE(node_that_acknowledged_the_future, "acknowledge", peer_row.acknowledged = rows->seq + 1)
DAMAGE(node_with_no_time, "watermark", peer_row.watermark_ms = -1)
DAMAGE(node_above_the_change_number, "change number", peer_row.seq = rows->seq + 1)
DAMAGE(node_whose_leases_are_shorter_than_none, "contradict", peer_row.longest_ms = -1)
DAMAGE(node_retired_never, "retirement contradicts itself", peer_row.retired = true)
DAMAGE(node_serving_after_its_retirement, "retirement contradicts itself",
       peer_row.retired_ms = peer_row.wait_ms = NOON)
DAMAGE(node_waited_for_before_it_retired, "contradict", peer_row.retired = true;
       peer_row.retired_ms = NOON; peer_row.wait_ms = NOON - 1)
DAMAGE(self_with_leases_shorter_than_none, "self", rows->self.lease_max_ms = -1)
DAMAGE(origin_changed_by_nobody, "who changed it", rows->origins.items[0].updated_ms = NOON;
       rows->origins.items[0].updated_by = ref('N', 9))
DAMAGE(lease_of_another_generation, "generation", lease(3).generation++)
DAMAGE(entitlement_of_an_unknown_minter, "minter", rows->entitlements.items[0].minter = ref('N', 9))
DAMAGE(entitlement_revision_twice, "twice",
       entitlement_unref(rows->entitlements.items[1].entitlement);
       rows->entitlements.items[1] = rows->entitlements.items[0];
       entitlement_ref(rows->entitlements.items[0].entitlement))
DAMAGE(entitlement_minted_by_another, "another number was minted",
       rows->entitlements.items[0].minter = ref('N', PEER))
DAMAGE(entitlement_never_installed, "never installed", rows->entitlements.items[0].installed_ms = 0)
DAMAGE(entitlement_missing_revision, "another number was minted",
       entitlement_unref(rows->entitlements.items[1].entitlement);
       rows->entitlements.count = 1)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes_hold_one_row_a_record_the_newest),
        cmocka_unit_test(changes_of_the_next_batch_are_new_rows),
        cmocka_unit_test(changes_are_none_for_reads_and_refusals),
        cmocka_unit_test(changes_of_a_denial),
        cmocka_unit_test(changes_of_a_purge_need_no_number),
        cmocka_unit_test(changes_thrown_away_leave_nothing),
        cmocka_unit_test(load_takes_rows_of_every_kind),
        cmocka_unit_test(load_derives_credits),
        cmocka_unit_test(load_refuses_lease_of_an_unknown_scope),
        cmocka_unit_test(load_refuses_lease_of_an_unknown_origin),
        cmocka_unit_test(load_refuses_lease_of_an_unknown_home),
        cmocka_unit_test(load_refuses_lease_twice),
        cmocka_unit_test(load_refuses_lease_without_seats),
        cmocka_unit_test(load_refuses_lease_of_less_than_nothing),
        cmocka_unit_test(load_refuses_lease_of_too_many_seats),
        cmocka_unit_test(load_refuses_lease_in_no_state),
        cmocka_unit_test(load_refuses_lease_that_never_expires),
        cmocka_unit_test(load_refuses_lease_that_was_never_created),
        cmocka_unit_test(load_refuses_lease_without_duration),
        cmocka_unit_test(load_refuses_lease_over_before_it_began),
        cmocka_unit_test(load_refuses_lease_active_and_ended),
        cmocka_unit_test(load_refuses_lease_ended_without_an_end),
        cmocka_unit_test(load_refuses_lease_ended_without_expiry),
        cmocka_unit_test(load_refuses_lease_that_expired_before_it_was_known),
        cmocka_unit_test(load_refuses_lease_above_the_change_number),
        cmocka_unit_test(load_refuses_lease_of_a_deleted_origin),
        cmocka_unit_test(load_refuses_origin_twice),
        cmocka_unit_test(load_refuses_credit_of_an_unknown_scope),
        cmocka_unit_test(load_refuses_credit_of_an_unknown_node),
        cmocka_unit_test(load_refuses_credit_more_than_signed),
        cmocka_unit_test(load_refuses_credit_less_than_signed),
        cmocka_unit_test(load_refuses_credit_of_a_dropped_feature),
        cmocka_unit_test(load_refuses_move_to_itself),
        cmocka_unit_test(load_refuses_move_from_an_unknown_node),
        cmocka_unit_test(load_refuses_move_of_an_unknown_scope),
        cmocka_unit_test(load_refuses_move_of_nothing),
        cmocka_unit_test(load_refuses_move_above_the_change_number),
        cmocka_unit_test(load_refuses_node_that_acknowledged_the_future),
        cmocka_unit_test(load_refuses_node_with_no_time),
        cmocka_unit_test(load_refuses_node_above_the_change_number),
        cmocka_unit_test(load_refuses_node_whose_leases_are_shorter_than_none),
        cmocka_unit_test(load_refuses_node_retired_never),
        cmocka_unit_test(load_refuses_node_serving_after_its_retirement),
        cmocka_unit_test(load_refuses_node_waited_for_before_it_retired),
        cmocka_unit_test(load_refuses_self_with_leases_shorter_than_none),
        cmocka_unit_test(load_refuses_origin_changed_by_nobody),
        cmocka_unit_test(load_refuses_lease_of_another_generation),
        cmocka_unit_test(load_refuses_entitlement_of_an_unknown_minter),
        cmocka_unit_test(load_refuses_entitlement_revision_twice),
        cmocka_unit_test(load_refuses_entitlement_minted_by_another),
        cmocka_unit_test(load_refuses_entitlement_never_installed),
        cmocka_unit_test(load_refuses_entitlement_missing_revision),
    };

    return cmocka_run_group_tests_name("ledger_load", tests, NULL, NULL);
}
