/* schema/invariants.sql: silent after whatever the ledger does, loud for each rule that is broken
 * by hand. And load: what the ledger wrote is what it gets back. Run under tests/lib/with-postgres.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "node_world.h"
#include "store/pg.h"

/* ---- load gives back what was written -------------------------------------------------------- */

static void assert_same_scopes(struct world *world, struct ledger *other)
{
    struct ledger_event event = { .kind = LEDGER_SCOPES, .now_ms = world->now_ms };
    struct ledger_result mine, theirs;

    ledger_step(world->ledger, &event, &mine);
    ledger_step(other, &event, &theirs);
    assert_int_equal(mine.scope_count, SCOPES);
    assert_int_equal(theirs.scope_count, SCOPES);
    for (size_t i = 0; i < SCOPES; i++) {
        const struct scope_view *a = &mine.scopes[i], *b = NULL;
        for (size_t j = 0; j < SCOPES; j++) {
            if (uuid_equal(&theirs.scopes[j].scope_ref, &a->scope_ref))
                b = &theirs.scopes[j];
        }
        assert_non_null(b);
        assert_int_equal(a->seats, b->seats);
        assert_int_equal(a->used, b->used);
        assert_int_equal(a->active, b->active);
        assert_int_equal(a->waiting, b->waiting);
        assert_int_equal(a->free_here, b->free_here);
        assert_int_equal(a->next_back_ms, b->next_back_ms);
        assert_int_equal(a->entitlement->revision, b->entitlement->revision);
    }
    ledger_result_fini(&mine);
    ledger_result_fini(&theirs);
}

static const struct lease_row *find_lease(const struct ledger_result *result,
                                          const struct lease_row *like)
{
    for (size_t i = 0; i < result->lease_count; i++) {
        if (uuid_equal(&result->leases[i].row.lease_ref, &like->lease_ref))
            return &result->leases[i].row;
    }
    return NULL;
}

static void assert_same_leases(struct world *world, struct ledger *other,
                               const struct uuid *origin_ref)
{
    struct ledger_event event = { .kind = LEDGER_LIST, .now_ms = world->now_ms };
    struct ledger_result mine, theirs;

    event.list.origin.origin_ref = *origin_ref;
    event.list.origin.generation = UINT32_MAX / 2; /* newer than any: always allowed */
    ledger_step(world->ledger, &event, &mine);
    ledger_step(other, &event, &theirs);
    assert_int_equal(mine.err, theirs.err);
    assert_int_equal(mine.lease_count, theirs.lease_count);
    for (size_t i = 0; i < mine.lease_count; i++) {
        const struct lease_row *a = &mine.leases[i].row, *b = find_lease(&theirs, a);
        assert_non_null(b);
        assert_true(uuid_equal(&a->home, &b->home) && uuid_equal(&a->origin_ref, &b->origin_ref) &&
                    uuid_equal(&a->scope_ref, &b->scope_ref));
        assert_int_equal(a->count, b->count);
        assert_int_equal(a->state, b->state);
        assert_int_equal(a->shared, b->shared);
        assert_int_equal(a->created_ms, b->created_ms);
        assert_int_equal(a->duration_ms, b->duration_ms);
        assert_int_equal(a->expires_ms, b->expires_ms);
        assert_int_equal(a->seq, b->seq);
    }
    ledger_result_fini(&mine);
    ledger_result_fini(&theirs);
}

/* Both are thrown away afterwards: the comparison itself steps them. */
static void assert_reload_is_the_same(struct world *world)
{
    struct ledger *old = TAKE(world->ledger);

    store_close(world->store);
    world_load(world);
    struct ledger_counts a = ledger_counts(old), b = ledger_counts(world->ledger);
    assert_int_equal(ledger_seq(old), ledger_seq(world->ledger));
    assert_int_equal(a.leases, b.leases);
    assert_int_equal(a.active_leases, b.active_leases);
    assert_int_equal(a.origins, b.origins);
    assert_int_equal(a.scopes, b.scopes);
    assert_same_scopes(world, old);
    for (uint64_t i = 0; i < ORIGINS; i++) {
        struct uuid origin = world_uuid('o', i);
        assert_same_leases(world, old, &origin);
    }
    ledger_free(old);
    world_unload(world);
    world_load(world);
}

static void a_ledger_gets_back_what_it_wrote(void **state)
{
    (void)state;
    struct world world = { .now_ms = NOW_MS, .seed = 88172645463325252u };

    database_new(&world.db);
    world_load(&world);
    world_install(&world);
    world_commit(&world);
    for (int round = 1; round <= 60; round++) {
        for (int i = 0; i < 50; i++)
            world_random_step(&world);
        ledger_check(world.ledger);
        world_commit(&world);
        if (round % 10 == 0) {
            world_assert_no_broken_rule(&world);
            assert_reload_is_the_same(&world);
        }
    }
    assert_string_equal(database_value(&world.db, "SELECT count(DISTINCT state) >= 3 FROM lease"),
                        "true");
    assert_string_equal(database_value(&world.db, "SELECT count(*) > 1 FROM entitlement"), "true");
    assert_string_equal(database_value(&world.db, "SELECT max(generation) > 0 FROM origin"),
                        "true");
    world_unload(&world);
    database_drop(&world.db);
}

/* ---- load refuses what was never written ----------------------------------------------------- */

static void small_world(struct world *world)
{
    struct uuid ref = world_uuid('e', 1), scope = world_uuid('s', 0);
    int64_t seats = 5;

    *world = (struct world){ .now_ms = NOW_MS, .seed = 1 };
    database_new(&world->db);
    world_load(world);
    AUTO(entitlement_unref) struct entitlement *e = fake_entitlement(&ref, 1, 1, &scope, &seats);
    struct grant_item item = { .scope_ref = scope, .lease_ref = world_uuid('l', 1), .count = 2 };
    world_step(world, (struct ledger_event){ .kind = LEDGER_INSTALL, .install = { e } });
    struct ledger_event event = { .kind = LEDGER_GRANT };
    event.grant.origin = (struct origin_proof){ world_uuid('o', 1), 0 };
    event.grant.items = &item;
    event.grant.item_count = 1;
    assert_int_equal(world_step(world, event), ERR_OK);
    world_commit(world);
    world_unload(world);
}

static void damage_is_found_when_loading(void **state)
{
    (void)state;
    static const struct {
        const char *damage, *repair, *words;
        enum err err;
    } cases[] = {
        { "ALTER TABLE lease DROP CONSTRAINT lease_state_check, DROP CONSTRAINT "
          "lease_end_fits_state; UPDATE lease SET state = 9",
          "UPDATE lease SET state = 0", "column state holds 9, which it never can",
          ERR_STORE_CORRUPT },
        { "ALTER TABLE lease ALTER count DROP NOT NULL; UPDATE lease SET count = NULL",
          "UPDATE lease SET count = 2", "table lease, lease_ref 75756964-2d6f-666c-",
          ERR_STORE_CORRUPT },
        { "ALTER TABLE lease DROP CONSTRAINT lease_seq_check; UPDATE lease SET seq = -4",
          "UPDATE lease SET seq = (SELECT seq FROM node_state)", "column seq holds -4",
          ERR_STORE_CORRUPT },
        { "UPDATE origin SET origin_ref = gen_random_uuid()",
          "UPDATE origin SET origin_ref = (SELECT origin_ref FROM lease)",
          "its scope, origin or home is not known", ERR_STORE_CORRUPT },
        { "UPDATE credit SET minted = 6", "UPDATE credit SET minted = 5",
          "another number was minted", ERR_STORE_CORRUPT },
        { "UPDATE lease SET seq = 1000", "UPDATE lease SET seq = (SELECT seq FROM node_state)",
          "change number 1000", ERR_STORE_CORRUPT },
        { "UPDATE entitlement SET revision = 7", "UPDATE entitlement SET revision = 1",
          "revision 7: its text says otherwise", ERR_STORE_CORRUPT },
        { "UPDATE entitlement SET text = 'junk' || text",
          "UPDATE entitlement SET text = substr(text, 5)", "revision 1: not an entitlement",
          ERR_STORE_CORRUPT },
        { "UPDATE lease SET generation = 1", "UPDATE lease SET generation = 0",
          "of another generation than its origin", ERR_STORE_CORRUPT },
        { "UPDATE origin SET updated_ms = 5, updated_by = gen_random_uuid()",
          "UPDATE origin SET updated_by = (SELECT node_ref FROM node_state)",
          "who changed it is not known", ERR_STORE_CORRUPT },
        { "UPDATE entitlement SET minter = gen_random_uuid()",
          "UPDATE entitlement SET minter = (SELECT node_ref FROM node_state)",
          "its minter is not known", ERR_STORE_CORRUPT },
        { "UPDATE self SET former_1 = lpad('', 32, '0')::uuid", "UPDATE self SET former_1 = NULL",
          "table self, only_row true: column former_1 holds 16 bytes", ERR_STORE_CORRUPT },
        { "ALTER TABLE node DROP CONSTRAINT node_cursor_check; UPDATE node SET cursor = -1",
          "UPDATE node SET cursor = 0", "column cursor holds -1", ERR_STORE_CORRUPT },
        { "ALTER TABLE node DROP CONSTRAINT node_retired_has_time; UPDATE node SET retired = true",
          "UPDATE node SET retired = false", "its retirement contradicts itself",
          ERR_STORE_CORRUPT },
        { "ALTER TABLE origin RENAME generation TO g", "ALTER TABLE origin RENAME g TO generation",
          "generation", ERR_STORE_SCHEMA },
    };
    struct world world;

    small_world(&world);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct diag diag = { "" };
        database_exec(&world.db, "%s", cases[i].damage);
        enum err err = store_open(world.db.conninfo, &world_instance, 10000, &world.store,
                                  &world.identity, &diag);
        if (err == ERR_OK) { /* the statements of a batch may not fit the tables either */
            world.ledger = world_new_ledger(&world);
            err = store_load(world.store, world.ledger, fake_entitlement_open, NULL, &diag);
            world_unload(&world);
        }
        if (err != cases[i].err || !strstr(diag.text, cases[i].words))
            fail_msg("%s: %s, %s", cases[i].damage, err_info(err)->code, diag.text);
        database_exec(&world.db, "%s", cases[i].repair);
    }
    world_load(&world);
    world_assert_no_broken_rule(&world);
    world_unload(&world);
    database_drop(&world.db);
}

static void a_write_between_open_and_load_is_noticed(void **state)
{
    (void)state;
    struct world world;
    struct diag diag = { "" };

    small_world(&world);
    assert_int_equal(
        store_open(world.db.conninfo, &world_instance, 10000, &world.store, &world.identity, &diag),
        ERR_OK);
    database_exec(&world.db, "UPDATE node_state SET seq = seq + 1");
    world.ledger = world_new_ledger(&world);
    assert_int_equal(store_load(world.store, world.ledger, fake_entitlement_open, NULL, &diag),
                     ERR_STORE_CORRUPT);
    assert_non_null(strstr(diag.text, "somebody else wrote"));
    world_unload(&world);
    database_drop(&world.db);
}

/* ---- each rule can be broken ----------------------------------------------------------------- */

/* One violation of each rule, by hand, each in a copy of a database that is in order. */
#define OTHER "lpad('9', 32, '0')::uuid"
#define THIRD "lpad('8', 32, '0')::uuid"

/* node_ref, watermark, acknowledged, seq, retired, drained, heir, retired at, wait, longest lease,
 * partner, closed, cursor */
#define PARTNER                                                                                    \
    "INSERT INTO node VALUES (" OTHER ", 0, 0, 20, false, false, NULL, 0, 0, 0, true, false, 0);"
#define RETIRED                                                                                    \
    "INSERT INTO node SELECT " OTHER ", 0, 0, 20, true, false, node_ref, 1000, 5000, 4000, true, " \
    "false, 0 FROM node_state;"
#define LEASE_TO(home, count, expires, seq)                                                        \
    "INSERT INTO lease SELECT lease_ref, " home ", origin_ref, scope_ref, " count ", created_ms, " \
    "duration_ms, " expires ", 0, 0, " seq ", 0, true, generation FROM lease;"
#define FAR "UPDATE node_state SET seq = 100;" /* room for change numbers */

static const struct violation {
    const char *rule, *sql;
} violations[] = {
    { "node_state_one_row", "DELETE FROM node_state" },
    { "schema_version_gap", "UPDATE schema_version SET version = 4 WHERE version = 2" },
    { "self_one_row", "DELETE FROM self" },
    { "former_is_present", "UPDATE self SET former_1 = (SELECT node_ref FROM node_state)" },
    { "former_twice", "UPDATE self SET former_1 = " OTHER ", former_2 = " OTHER },
    { "unfilled_has_lease", "UPDATE self SET refilled = false" },
    { "seq_above_node", "UPDATE lease SET seq = 1000" },
    { "seq_twice", "UPDATE lease SET seq = (SELECT seq FROM origin)" },
    { "held_over_credits", "UPDATE lease SET count = 6" },
    { "moved_over_credits", FAR PARTNER "INSERT INTO credit_move SELECT scope_ref, node_ref, " OTHER
                                        ", 6, 21 FROM credit" },
    { "minted_not_seats", "UPDATE credit SET minted = 6, usable = 6" },
    { "credit_without_minter", FAR PARTNER "UPDATE credit SET node_ref = " OTHER },
    { "credit_pending", "UPDATE credit SET usable = 4" },
    { "minter_unknown", "UPDATE entitlement SET minter = gen_random_uuid()" },
    { "credit_revision", "UPDATE credit SET revision = 2" },
    { "scope_without_entitlement", "UPDATE scope SET revision = 2" },
    { "dropped_scope_has_seats",
      FAR "INSERT INTO entitlement SELECT entitlement_ref, 2, publisher, text, sha256, begins_ms, "
          "ends_ms, installed_ms, 20, minter, usable FROM entitlement" },
    { "credit_unknown", "UPDATE credit SET node_ref = gen_random_uuid()" },
    { "move_unknown", FAR "INSERT INTO credit_move SELECT scope_ref, node_ref, gen_random_uuid(), "
                          "1, 20 FROM credit" },
    { "partner_twice", FAR PARTNER "INSERT INTO node VALUES (" THIRD
                                   ", 0, 0, 21, false, false, NULL, 0, 0, 0, true, false, 0)" },
    { "partner_is_self", "UPDATE node SET cursor = 3" },
    { "stranger_stated", FAR PARTNER "UPDATE node SET partner = false, watermark_ms = 5 "
                                     "WHERE node_ref = " OTHER },
    { "acknowledged_above_node", FAR PARTNER "UPDATE node SET acknowledged = 101 "
                                             "WHERE node_ref = " OTHER },
    { "retired_without_heir", FAR RETIRED "UPDATE node SET heir = NULL WHERE retired" },
    { "heir_unknown", FAR RETIRED "UPDATE node SET heir = gen_random_uuid() WHERE retired" },
    { "heirs_in_circle",
      FAR RETIRED "INSERT INTO node SELECT " THIRD ", 0, 0, 21, true, false, " OTHER
                  ", 1000, 5000, 4000, true, "
                  "false, 0; UPDATE node SET heir = " THIRD " WHERE node_ref = " OTHER },
    { "retired_without_wait", FAR RETIRED "UPDATE node SET wait_ms = 4999 WHERE retired" },
    { "updater_unknown", "UPDATE origin SET updated_ms = 5, updated_by = gen_random_uuid()" },
    { "lease_scope_unknown", "UPDATE lease SET scope_ref = gen_random_uuid()" },
    { "lease_origin_unknown", "UPDATE lease SET origin_ref = gen_random_uuid()" },
    { "lease_home_unknown", "UPDATE lease SET home = gen_random_uuid()" },
    { "lease_of_deleted_origin", "UPDATE origin SET enrolled = false" },
    { "lease_generation", "UPDATE lease SET generation = 1" },
    { "lease_active_twice", FAR PARTNER LEASE_TO(OTHER, "count", "expires_ms", "21") },
    { "private_lease_elsewhere", FAR PARTNER "UPDATE lease SET shared = false, home = " OTHER },
    { "created_above_ceiling", "UPDATE node_state SET ceiling_ms = 5" },
    { "lease_end_contradicts",
      "ALTER TABLE lease DROP CONSTRAINT lease_end_fits_state; UPDATE lease SET state = 1" },
    { "expired_early",
      "UPDATE lease SET state = 4, ended_ms = expires_ms - 1, ended_expires_ms = expires_ms" },
};

/* The same rules, broken in another way. */
static const struct violation more_violations[] = {
    { "held_over_credits", /* R10: by what was inherited */
      FAR RETIRED LEASE_TO(OTHER, "4", "expires_ms", "21") },
    { "expired_early",
      FAR RETIRED "UPDATE lease SET home = " OTHER ", state = 4, ended_ms = expires_ms - 1, "
                  "ended_expires_ms = expires_ms" },
    { "lease_generation", "UPDATE origin SET generation = 1" },
    { "seq_twice", "UPDATE node SET seq = (SELECT seq FROM origin)" },
    { "seq_above_node", "UPDATE node SET seq = 1000" },
    { "partner_is_self", "UPDATE node SET partner = true" },
};

/* What looks like a broken rule, and is none. */
static const char *const no_violations[] = {
    /* R10: leases and moves of a retired node are its heir's */
    FAR RETIRED LEASE_TO(OTHER, "3", "expires_ms", "21"),
    FAR RETIRED "INSERT INTO credit_move SELECT scope_ref, node_ref, " OTHER
                ", 4, 21 FROM credit;" LEASE_TO(OTHER, "3", "expires_ms", "22"),
    /* R10: a drained node needs no wait */
    FAR RETIRED "UPDATE node SET drained = true, wait_ms = 1000 WHERE retired",
    /* R10: a retired node and its heir's heir */
    FAR RETIRED "INSERT INTO node SELECT " THIRD ", 0, 0, 21, true, false, " OTHER
                ", 1000, 5000, 4000, true, false, 0",
    /* R10: one that was retired itself knows who did it; no wait of its own */
    FAR PARTNER "UPDATE node SET retired = true, heir = " OTHER
                ", retired_ms = 1000, wait_ms = 1000 WHERE NOT partner",
    /* R11: a name that was given up counts beside the partner, and its private leases are ours */
    FAR PARTNER "UPDATE self SET former_1 = " THIRD "; INSERT INTO node VALUES (" THIRD
                ", 0, 0, 21, false, false, NULL, 0, 0, 0, true, false, 0);"
                "UPDATE lease SET shared = false, home = " THIRD,
    /* R9: the other home has to end it, or it cannot be extended any more */
    FAR PARTNER LEASE_TO("lpad('', 32, 'f')::uuid", "count", "expires_ms",
                         "21") "UPDATE node SET node_ref = lpad('', 32, 'f')::uuid WHERE partner",
    FAR PARTNER LEASE_TO(OTHER, "count", "(SELECT ceiling_ms FROM node_state)", "21"),
    /* R3: an ended lease of another node may have been private */
    FAR PARTNER "UPDATE lease SET shared = false, home = " OTHER
                ", state = 1, ended_ms = created_ms, ended_expires_ms = expires_ms",
    /* R2: pending until the partner has acknowledged it */
    ("UPDATE lease SET state = 1, ended_ms = created_ms, ended_expires_ms = expires_ms;"
     "UPDATE entitlement SET usable = false; UPDATE credit SET usable = 0"),
};

/* How many lines report that rule. */
static size_t count_rule(const char *broken, const char *rule)
{
    size_t count = 0, length = strlen(rule);

    for (const char *line = broken; *line;
         line += strcspn(line, "\n") + (strchr(line, '\n') != 0)) {
        if (!strncmp(line, rule, length) && line[length] == ' ')
            count++;
    }
    return count;
}

/* What the rules say of a copy of the database, changed by hand. To be freed by the caller. */
static char *rules_broken_by(const struct world *world, const char *sql)
{
    struct database db;

    database_copy(&world->db, &db);
    database_exec(&db, "%s", sql);
    char *broken = database_broken_rules(&db);
    database_drop(&db);
    return broken;
}

static void assert_reported(const struct world *world, const struct violation *violation)
{
    AUTO(mem_free) char *broken = rules_broken_by(world, violation->sql);

    if (count_rule(broken, violation->rule) != 1)
        fail_msg("%s: found\n%s", violation->rule, broken);
}

static void a_broken_rule_is_reported(void **state)
{
    (void)state;
    struct world world;

    small_world(&world);
    for (size_t i = 0; i < ARRAY_SIZE(violations); i++)
        assert_reported(&world, &violations[i]);
    for (size_t i = 0; i < ARRAY_SIZE(more_violations); i++)
        assert_reported(&world, &more_violations[i]);
    world_assert_no_broken_rule(&world);
    database_drop(&world.db);
}

static void what_breaks_no_rule_is_not_reported(void **state)
{
    (void)state;
    struct world world;

    small_world(&world);
    for (size_t i = 0; i < ARRAY_SIZE(no_violations); i++) {
        AUTO(mem_free) char *broken = rules_broken_by(&world, no_violations[i]);
        if (*broken)
            fail_msg("%s: found\n%s", no_violations[i], broken);
    }
    database_drop(&world.db);
}

/* Every rule in the file has its violation above. */
static void every_rule_can_fail(void **state)
{
    (void)state;
    AUTO(mem_free) char *text = source_text("schema/invariants.sql");
    size_t rules = 0;
    const char *at = strstr(text, "broken (rule, detail)");

    assert_non_null(at);
    while ((at = strstr(at, "\n    SELECT '"))) {
        size_t length, known = 0;
        at += strlen("\n    SELECT '");
        length = strcspn(at, "'");
        for (size_t i = 0; i < ARRAY_SIZE(violations); i++)
            known +=
                strlen(violations[i].rule) == length && !strncmp(violations[i].rule, at, length);
        if (known != 1)
            fail_msg("no violation of rule %.*s", (int)length, at);
        rules++;
    }
    assert_int_equal(rules, ARRAY_SIZE(violations));
}

/* A reduction leaves more held than credits, which is no violation; a grant after it would be. */
static void a_reduction_breaks_no_rule(void **state)
{
    (void)state;
    struct world world;
    struct uuid ref = world_uuid('e', 1), scope = world_uuid('s', 0);
    int64_t seats = 1;

    small_world(&world);
    world_load(&world);
    AUTO(entitlement_unref) struct entitlement *e = fake_entitlement(&ref, 2, 1, &scope, &seats);
    world.now_ms += 10;
    assert_int_equal(
        world_step(&world, (struct ledger_event){ .kind = LEDGER_INSTALL, .install = { e } }),
        ERR_OK);
    world_commit(&world);
    world_assert_no_broken_rule(&world);
    world_unload(&world);

    database_exec(&world.db, "UPDATE lease SET created_ms = created_ms + 20");
    AUTO(mem_free) char *broken = database_broken_rules(&world.db);
    assert_int_equal(count_rule(broken, "held_over_credits"), 1);
    database_drop(&world.db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ledger_gets_back_what_it_wrote),
        cmocka_unit_test(damage_is_found_when_loading),
        cmocka_unit_test(a_write_between_open_and_load_is_noticed),
        cmocka_unit_test(a_broken_rule_is_reported),
        cmocka_unit_test(what_breaks_no_rule_is_not_reported),
        cmocka_unit_test(every_rule_can_fail),
        cmocka_unit_test(a_reduction_breaks_no_rule),
    };
    return cmocka_run_group_tests_name("invariants", tests, NULL, NULL);
}
