/* Two ledgers with a database each, which exchange pages as two nodes do: what is stored converges,
 * keeps every rule of schema/invariants.sql, and survives the loss of one side's history (R11). Run
 * under tests/lib/with-postgres. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "node_world.h"

#define EXCHANGES_MAX 200 /* pages of one exchange */

/* ---- what the nodes do for each other -------------------------------------------------------- */

static struct node_introduction introduction(struct world *world)
{
    struct ledger_event event = { .kind = LEDGER_INTRODUCE, .now_ms = world->now_ms };
    struct ledger_result result;

    ledger_step(world->ledger, &event, &result);
    struct node_introduction of = result.introduction;
    world_commit(world);
    ledger_result_fini(&result);
    return of;
}

static enum err meet(struct world *world, const struct node_introduction *of,
                     struct node_introduction *answer)
{
    struct ledger_event event = { .kind = LEDGER_MEET, .now_ms = world->now_ms };
    struct ledger_result result;

    event.meet.of = *of;
    ledger_step(world->ledger, &event, &result);
    enum err err = result.err;
    *answer = result.introduction;
    if (err == ERR_OK)
        world_commit(world);
    else
        print_message("%s\n", result.diag.text);
    ledger_result_fini(&result);
    return err;
}

/* `client` comes to `server`, which answers with its own introduction. */
static enum err introduce(struct world *client, struct world *server)
{
    struct node_introduction of = introduction(client), answer;
    enum err err = meet(server, &of, &answer);

    return err == ERR_OK ? meet(client, &answer, &of) : err;
}

static struct ledger_page *fetch(struct world *from, const struct world *to, size_t limit)
{
    struct ledger_event event = { .kind = LEDGER_PAGE, .now_ms = from->now_ms };
    struct ledger_result result;
    struct diag diag = { "" };

    event.page.receiver = to->identity.node_ref;
    event.page.since = ledger_pair(to->ledger).cursor;
    event.page.limit = limit;
    ledger_step(from->ledger, &event, &result);
    if (result.err != ERR_OK)
        fail_msg("page: %s", result.diag.text);
    struct ledger_page *page = TAKE(result.page);
    ledger_result_fini(&result);
    world_commit(from); /* R13: before anybody hears of it */
    if (store_environments(from->store, page, &diag) != ERR_OK)
        fail_msg("%s", diag.text);
    return page;
}

static void reload(struct world *world)
{
    world_unload(world);
    world_load(world);
}

static void wipe(struct world *world, const struct uuid *partner)
{
    struct diag diag = { "" };

    if (store_wipe(world->store, partner, &diag) != ERR_OK)
        fail_msg("%s", diag.text);
    reload(world);
    world_assert_no_broken_rule(world);
}

/* Everything that `from` has for `to`, in pages of at most `limit` rows. Returns how often `to` had
 * to forget everything first. */
static size_t exchange(struct world *from, struct world *to, size_t limit)
{
    size_t wipes = 0;

    for (size_t i = 0; i < EXCHANGES_MAX; i++) {
        AUTO(ledger_page_free) struct ledger_page *page = fetch(from, to, limit);
        struct ledger_event event = { .kind = LEDGER_MERGE, .now_ms = to->now_ms };
        struct ledger_result result;
        event.merge.page = page;
        ledger_step(to->ledger, &event, &result);
        bool must_wipe = result.wipe, complete = page->complete;
        if (result.err != ERR_OK && !must_wipe)
            fail_msg("merge: %s", result.diag.text);
        ledger_result_fini(&result);
        if (must_wipe) {
            wipes++;
            wipe(to, &from->identity.node_ref);
            continue;
        }
        world_commit(to);
        if (complete)
            return wipes;
    }
    fail_msg("no page completes the exchange");
    return wipes;
}

static void exchange_all(struct world *a, struct world *b)
{
    for (size_t i = 0; i < 4; i++) { /* changes, credits, their acknowledgements */
        exchange(a, b, PAGE_ROWS_MAX);
        exchange(b, a, PAGE_ROWS_MAX);
    }
}

static void same_time(struct world *a, struct world *b)
{
    a->now_ms = b->now_ms = a->now_ms > b->now_ms ? a->now_ms : b->now_ms;
}

static void new_world(struct world *world, uint64_t seed)
{
    *world = (struct world){ .peer_expected = true, .now_ms = NOW_MS, .seed = seed };
    database_new(&world->db);
    world_load(world);
}

/* A pair that has met and can grant. */
static void new_pair(struct world *a, struct world *b)
{
    new_world(a, 88172645463240193u); /* found a record that kept columns of its former life */
    new_world(b, 71936255163325252u);
    b->secondary = true;
    assert_int_equal(introduce(a, b), ERR_OK);
    exchange_all(a, b);
    assert_int_equal(ledger_pair(a->ledger).self, SELF_SERVING);
    assert_int_equal(ledger_pair(b->ledger).self, SELF_SERVING);
    world_install(a);
    world_commit(a);
    exchange_all(a, b);
}

static void random_steps(struct world *world, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct ledger_event tick = { .kind = LEDGER_TICK };
        world_random_step(world);
        world_step(world, tick);
    }
    world_commit(world);
    ledger_check(world->ledger);
}

/* ---- what is stored on both ------------------------------------------------------------------ */

/* What both nodes must store alike once they have exchanged everything (I3). Ended leases may have
 * been purged on one of them. */
static const char *const common[] = {
    "SELECT concat_ws(' ', lease_ref, home, origin_ref, scope_ref, count, created_ms, duration_ms, "
    "expires_ms, generation) AS r FROM lease WHERE state = 0 AND shared",
    "SELECT concat_ws(' ', origin_ref, generation, enrolled, created_ms, updated_ms, updated_by, "
    "environment) AS r FROM origin",
    "SELECT concat_ws(' ', entitlement_ref, revision, installed_ms, minter, text) AS r "
    "FROM entitlement",
    "SELECT concat_ws(' ', scope_ref, entitlement_ref, revision, feature, seats) AS r FROM scope",
    "SELECT concat_ws(' ', scope_ref, node_ref, minted, revision) AS r FROM credit "
    "WHERE minted <> 0",
    "SELECT concat_ws(' ', scope_ref, giver, receiver, moved) AS r FROM credit_move",
    "SELECT concat_ws(' ', node_ref, retired, drained, heir, retired_ms, wait_ms, longest_ms) AS r "
    "FROM node",
};

/* How many rows there are, and a hash of them. */
static const char *summary(const struct world *world, const char *rows)
{
    return database_value(&world->db,
                          "SELECT count(*) || ' ' || COALESCE(md5(string_agg(r, ', ' ORDER BY r)), "
                          "'') FROM (%s) t",
                          rows);
}

static void assert_converged(const struct world *a, const struct world *b)
{
    char ours[40];

    for (size_t i = 0; i < ARRAY_SIZE(common); i++) {
        snprintf(ours, sizeof ours, "%s", summary(a, common[i]));
        if (strcmp(ours, summary(b, common[i])) != 0)
            fail_msg("not the same: %s", common[i]);
    }
}

static void two_databases_converge(void **state)
{
    (void)state;
    struct world a, b;

    new_pair(&a, &b);
    for (size_t round = 1; round <= 60; round++) {
        random_steps(&a, 20);
        random_steps(&b, 20);
        if (world_below(&a.seed, 3) == 0)
            same_time(&a, &b);
        if (world_below(&a.seed, 2) == 0)
            exchange(&a, &b, world_below(&a.seed, 50) + 10);
        if (world_below(&a.seed, 2) == 0)
            exchange(&b, &a, world_below(&a.seed, 50) + 10);
        if (world_below(&a.seed, 5) == 0)
            reload(&a);
        if (world_below(&a.seed, 5) == 0)
            reload(&b);
        if (round % 10)
            continue;
        world_assert_no_broken_rule(&a);
        world_assert_no_broken_rule(&b);
    }
    same_time(&a, &b);
    exchange_all(&a, &b);
    assert_converged(&a, &b);
    world_assert_no_broken_rule(&a);
    world_assert_no_broken_rule(&b);
    assert_string_equal(database_value(&a.db, "SELECT count(DISTINCT home) FROM lease"), "2");
    assert_string_equal(database_value(&a.db, "SELECT count(*) > 0 FROM lease WHERE state = 0 AND "
                                              "shared"),
                        "true");
    world_unload(&a);
    world_unload(&b);
    database_drop(&a.db);
    database_drop(&b.db);
}

/* ---- a history that is lost ------------------------------------------------------------------ */

static void give_up_name(struct world *world, const struct uuid *former)
{
    struct diag diag = { "" };
    struct uuid node_ref;

    if (store_rename(world->store, former, &node_ref, &diag) != ERR_OK)
        fail_msg("%s", diag.text);
    reload(world);
    assert_true(uuid_equal(&world->identity.node_ref, &node_ref));
    assert_int_equal(ledger_pair(world->ledger).self, SELF_UNFILLED);
    world_assert_no_broken_rule(world);
}

/* After its former self was retired by `b`, `a` is refilled and has what `b` has. */
static void come_back(struct world *a, struct world *b, const struct uuid *former)
{
    char text[UUID_TEXT_SIZE];

    assert_int_equal(introduce(a, b), ERR_OK);
    exchange(b, a, 100);
    exchange_all(a, b);
    assert_int_equal(ledger_pair(a->ledger).self, SELF_SERVING);
    assert_converged(a, b);
    world_assert_no_broken_rule(a);
    world_assert_no_broken_rule(b);
    uuid_format(former, text);
    assert_string_equal(database_value(&a->db,
                                       "SELECT retired AND heir = (SELECT node_ref FROM "
                                       "node WHERE partner AND NOT retired) "
                                       "FROM node WHERE node_ref = '%s'",
                                       text),
                        "true");
}

static void go_on(struct world *a, struct world *b)
{
    for (size_t round = 0; round < 10; round++) {
        random_steps(a, 30);
        random_steps(b, 30);
        same_time(a, b);
        exchange(a, b, 40);
        exchange(b, a, 40);
    }
    a->now_ms += 700000; /* R10: the wait is over */
    same_time(a, b);
    random_steps(a, 30);
    exchange_all(a, b);
    assert_converged(a, b);
    world_assert_no_broken_rule(a);
    world_assert_no_broken_rule(b);
    world_unload(a);
    world_unload(b);
    database_drop(&a->db);
    database_drop(&b->db);
}

/* The database of one node is restored from a backup; the peer has seen more of it. */
static void a_backup_is_noticed_and_refilled(void **state)
{
    (void)state;
    struct world a, b;
    struct database backup;
    struct node_introduction of, answer;

    new_pair(&a, &b);
    random_steps(&a, 60);
    exchange_all(&a, &b);
    world_unload(&a);
    database_copy(&a.db, &backup);
    world_load(&a);
    random_steps(&a, 60);
    random_steps(&b, 60);
    same_time(&a, &b);
    exchange_all(&a, &b);
    world_unload(&a);
    database_drop(&a.db);
    a.db = backup;
    world_load(&a);

    of = introduction(&a);
    enum err err = meet(&b, &of, &answer);
    if (err == ERR_OK)
        err = meet(&a, &answer, &of);
    assert_int_equal(err, ERR_HISTORY_LOST);
    struct uuid former = a.identity.node_ref, none = { { 0 } };
    give_up_name(&a, &none);
    come_back(&a, &b, &former);
    go_on(&a, &b);
}

/* The database of one node is replaced by an empty one; its state file knows who it was. */
static void an_empty_database_is_refilled(void **state)
{
    (void)state;
    struct world a, b;

    new_pair(&a, &b);
    random_steps(&a, 60);
    random_steps(&b, 60);
    same_time(&a, &b);
    exchange_all(&a, &b);
    struct uuid former = b.identity.node_ref;
    world_unload(&b);
    database_drop(&b.db);
    int64_t now_ms = b.now_ms;
    new_world(&b, 5);
    b.secondary = true;
    b.now_ms = now_ms;
    assert_true(b.identity.created);
    give_up_name(&b, &former);
    come_back(&b, &a, &former);
    go_on(&a, &b);
}

/* The database of one node is replaced by a copy of the other's. */
static void a_copy_of_the_peers_database_is_refilled(void **state)
{
    (void)state;
    struct world a, b;

    new_pair(&a, &b);
    random_steps(&a, 60);
    random_steps(&b, 60);
    same_time(&a, &b);
    exchange_all(&a, &b);
    struct uuid former = b.identity.node_ref;
    world_unload(&a);
    world_unload(&b);
    database_drop(&b.db);
    database_copy(&a.db, &b.db);
    world_load(&a);
    world_load(&b);
    assert_true(uuid_equal(&a.identity.node_ref, &b.identity.node_ref));
    give_up_name(&b, &former);
    come_back(&b, &a, &former);
    go_on(&a, &b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_databases_converge),
        cmocka_unit_test(a_backup_is_noticed_and_refilled),
        cmocka_unit_test(an_empty_database_is_refilled),
        cmocka_unit_test(a_copy_of_the_peers_database_is_refilled),
    };
    return cmocka_run_group_tests_name("store_pair", tests, NULL, NULL);
}
