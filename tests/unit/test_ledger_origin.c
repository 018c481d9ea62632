/* Origins: becoming known, being deleted, and what an old proof is worth then. */
#include "ledger_story.h"

static void origin_enrols_once(void **state)
{
    STORY(s, ALONE);
    (void)state;

    assert_ok(&s, story_enrol(&s, ANN, false));
    assert_true(s.result.created);
    assert_true(s.result.origin.enrolled);
    assert_int_equal(s.result.origin.generation, 0);
    assert_int_equal(s.result.origin.created_ms, NOON);
    assert_err(&s, ERR_ORIGIN_EXISTS, story_enrol(&s, ANN, false));
    story_wait(&s, MINUTE);
    assert_ok(&s, story_enrol(&s, ANN, true));
    assert_false(s.result.created);
    assert_int_equal(s.result.origin.created_ms, NOON);
    assert_int_equal(s.result.origin.updated_ms, NOON + MINUTE);
    assert_int_equal(s.rows.origins.count, 1);
}

/* Either node serves a client it has never heard of (design §5). */
static void origin_becomes_known_by_its_proof(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(3) });
    assert_ok(&s, story_prove(&s, ANN));
    assert_int_equal(s.rows.origins.count, 1);
    uint64_t seq = ledger_seq(s.ledger);
    assert_ok(&s, story_prove(&s, ANN));
    assert_int_equal(ledger_seq(s.ledger), seq);
    assert_ok(&s, story_grant(&s, BOB, LEASE(1)));
    assert_ok(&s, story_list(&s, CAROL));
    assert_int_equal(s.result.lease_count, 0);
    assert_int_equal(s.rows.origins.count, 3);
    s.generation = 4; /* deleted four times on a node that died */
    assert_ok(&s, story_prove(&s, MALLORY));
    assert_int_equal(s.result.origin.generation, 4);
}

static enum err delete_origin(struct story *s, unsigned origin)
{
    return story_step(s, (struct ledger_event){ .kind = LEDGER_ORIGIN_DELETE,
                                                .origin_delete.origin_ref = ref('O', origin) });
}

static void origin_deleted_with_its_leases(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(3) });
    story_enrol(&s, ANN, false);
    story_grant(&s, ANN, LEASE(1));
    story_grant(&s, ANN, LEASE(2));
    story_grant(&s, BOB, LEASE(3));
    assert_ok(&s, delete_origin(&s, ANN));
    assert_int_equal(s.result.affected, 1);
    assert_int_equal(lease_row_of(&s, 1, 0)->state, LEASE_REVOKED);
    assert_int_equal(lease_row_of(&s, 2, 0)->state, LEASE_REVOKED);
    assert_int_equal(lease_row_of(&s, 3, 0)->state, LEASE_ACTIVE);
    assert_free(&s, 1, 2);
    uint64_t seq = ledger_seq(s.ledger);
    assert_ok(&s, delete_origin(&s, ANN));
    assert_int_equal(s.result.affected, 0);
    assert_int_equal(ledger_seq(s.ledger), seq);
    assert_err(&s, ERR_ORIGIN_UNKNOWN, delete_origin(&s, CAROL));
}

static void origin_deleted_makes_old_proofs_worthless(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(3) });
    story_enrol(&s, ANN, false);
    story_grant(&s, ANN, LEASE(1));
    struct lease_evidence token = evidence_last(&s);
    delete_origin(&s, ANN);
    uint64_t seq = ledger_seq(s.ledger);
    assert_err(&s, ERR_ORIGIN_DELETED, story_prove(&s, ANN));
    assert_err(&s, ERR_ORIGIN_DELETED, story_enrol(&s, ANN, true));
    assert_err(&s, ERR_ORIGIN_DELETED, story_grant(&s, ANN, LEASE(2)));
    assert_err(&s, ERR_ORIGIN_DELETED, story_renew(&s, ANN, 1, &token));
    assert_err(&s, ERR_ORIGIN_DELETED, story_release(&s, ANN, 1, &token));
    assert_err(&s, ERR_ORIGIN_DELETED, story_release_all(&s, ANN));
    assert_err(&s, ERR_ORIGIN_DELETED, story_list(&s, ANN));
    assert_int_equal(ledger_seq(s.ledger), seq);
}

static void origin_enrols_again_under_a_new_generation(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(3) });
    story_enrol(&s, ANN, false);
    story_grant(&s, ANN, LEASE(1));
    struct lease_evidence token = evidence_last(&s);
    delete_origin(&s, ANN);
    assert_ok(&s, story_enrol(&s, ANN, false));
    assert_true(s.result.created);
    assert_int_equal(s.result.origin.generation, 1);
    assert_err(&s, ERR_ORIGIN_DELETED, story_prove(&s, ANN));
    assert_err(&s, ERR_ORIGIN_EXISTS, story_enrol(&s, ANN, false));
    s.generation = 1;
    assert_ok(&s, story_prove(&s, ANN));
    assert_err(&s, ERR_LEASE_ENDED, story_renew(&s, ANN, 1, &token));
    assert_ok(&s, story_grant(&s, ANN, LEASE(2)));
    delete_origin(&s, ANN);
    assert_int_equal(s.rows.origins.items[0].generation, 2);
    assert_false(s.rows.origins.items[0].enrolled);
}

/* Deleted here, then enrolled again on the other node: its new secret proves that. */
static void origin_with_a_newer_proof_is_believed(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_enrol(&s, ANN, false);
    delete_origin(&s, ANN);
    s.generation = 1;
    assert_ok(&s, story_prove(&s, ANN));
    assert_true(s.rows.origins.items[0].enrolled);
    s.generation = 3;
    assert_ok(&s, story_prove(&s, ANN));
    assert_int_equal(s.rows.origins.items[0].generation, 3);
    s.generation = 2;
    assert_err(&s, ERR_ORIGIN_DELETED, story_prove(&s, ANN));
}

static void origins_deleted_in_pieces(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_install(&s, &(struct ent_spec){ SEATS(9) });
    for (unsigned i = 1; i <= 7; i++)
        story_grant(&s, i, LEASE(i));
    struct ledger_event event = { .kind = LEDGER_ORIGINS_DELETE, .origins_delete.limit = 3 };
    assert_ok(&s, story_step(&s, event));
    assert_int_equal(s.result.affected, 3);
    assert_true(s.result.more);
    assert_free(&s, 1, 5);
    story_step(&s, event);
    assert_true(s.result.more);
    story_step(&s, event);
    assert_int_equal(s.result.affected, 1);
    assert_false(s.result.more);
    assert_free(&s, 1, 9);
    story_step(&s, event);
    assert_int_equal(s.result.affected, 0);
}

static void origin_environment_goes_with_its_row(void **state)
{
    STORY(s, ALONE);
    (void)state;

    story_hold(&s);
    story_enrol(&s, ANN, false);
    story_prove(&s, ANN);
    assert_string_equal(ledger_changes(s.ledger)->origins[0].environment, "{\"hostname\":\"ws\"}");
    delete_origin(&s, ANN);
    assert_string_equal(ledger_changes(s.ledger)->origins[0].environment, "{}");
    assert_int_equal(ledger_changes(s.ledger)->origin_count, 1);
    story_commit(&s);
    story_hold(&s);
    s.generation = 1;
    story_prove(&s, ANN);
    assert_null(ledger_changes(s.ledger)->origins[0].environment); /* what is stored stays */
    story_commit(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(origin_enrols_once),
        cmocka_unit_test(origin_becomes_known_by_its_proof),
        cmocka_unit_test(origin_deleted_with_its_leases),
        cmocka_unit_test(origin_deleted_makes_old_proofs_worthless),
        cmocka_unit_test(origin_enrols_again_under_a_new_generation),
        cmocka_unit_test(origin_with_a_newer_proof_is_believed),
        cmocka_unit_test(origins_deleted_in_pieces),
        cmocka_unit_test(origin_environment_goes_with_its_row),
    };

    return cmocka_run_group_tests_name("ledger_origin", tests, NULL, NULL);
}
