/* What becomes of a history: a database of version 1 is taken along, a name is given up, records
 * are forgotten (R11), and what a page needs of them is read. Run under tests/lib/with-postgres. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "database.h"

#define NOW_MS       INT64_C(1800000000000)
#define LOCK_WAIT_MS 15000

static const struct uuid instance = { "instance-ref-001" };
static const struct uuid nil;

static struct uuid uuid_of(uint64_t number)
{
    struct uuid uuid = { "uuid-of-" };

    for (size_t i = 0; i < 8; i++)
        uuid.bytes[8 + i] = (uint8_t)(number >> (8 * (7 - i)));
    return uuid;
}

static const char *text_of(const struct uuid *uuid)
{
    static char texts[4][UUID_TEXT_SIZE];
    static size_t next;
    char *text = texts[next++ % ARRAY_SIZE(texts)];

    uuid_format(uuid, text);
    return text;
}

static struct store *open_store(const struct database *db, struct store_identity *identity)
{
    struct store *store = NULL;
    struct diag diag = { "" };

    if (store_open(db->conninfo, &instance, LOCK_WAIT_MS, &store, identity, &diag) != ERR_OK)
        fail_msg("%s", diag.text);
    return store;
}

static void commit(struct store *store, const struct ledger_changes *changes)
{
    struct commit_receipt receipt;
    struct diag diag = { "" };

    if (store_commit(store, changes, NOW_MS + 10000, &receipt, &diag) != ERR_OK)
        fail_msg("%s", diag.text);
}

/* Opens, does nothing but this, closes. */
static struct uuid rename_to(const struct database *db, const struct uuid *former)
{
    struct store_identity identity;
    struct store *store = open_store(db, &identity);
    struct uuid node_ref;
    struct diag diag = { "" };

    if (store_rename(store, former, &node_ref, &diag) != ERR_OK)
        fail_msg("%s", diag.text);
    assert_false(store_alive(store)); /* what was loaded from it is not true any more */
    store_close(store);
    store = open_store(db, &identity);
    assert_true(uuid_equal(&identity.node_ref, &node_ref));
    store_close(store);
    return node_ref;
}

static void assert_formers(const struct database *db, size_t count, const struct uuid *expected)
{
    char text[4 * UUID_TEXT_SIZE + 4] = "";

    for (size_t i = 0; i < count; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i ? " " : "",
                 text_of(&expected[i]));
    assert_string_equal(
        database_value(db, "SELECT concat_ws(' ', former_1, former_2, former_3, former_4) "
                           "FROM self"),
        text);
}

static void assert_no_broken_rule(const struct database *db)
{
    AUTO(mem_free) char *broken = database_broken_rules(db);

    if (*broken)
        fail_msg("broken rules:\n%s", broken);
}

/* A node with a history: an entitlement, an origin, a private and a shared lease, and a partner. */
static struct uuid write_history(const struct database *db, const struct uuid *partner)
{
    struct uuid ref = uuid_of(4), scope_ref = uuid_of(3), origin_ref = uuid_of(2);
    int64_t seats = 5;
    struct store_identity identity;
    struct store *store = open_store(db, &identity);
    AUTO(entitlement_unref)
    struct entitlement *e = fake_entitlement(&ref, 1, 1, &scope_ref, &seats);
    struct entitlement_row entitlement = { e, NOW_MS, identity.node_ref, true, 1 };
    struct scope_row scope = { scope_ref, ref, 1, "render", seats, 2 };
    struct credit_row credit = { scope_ref, identity.node_ref, seats, seats, 1, 0, 3 };
    struct move_row move = { scope_ref, identity.node_ref, *partner, 1, 4 };
    struct origin_row origin = { .origin_ref = origin_ref,
                                 .enrolled = true,
                                 .created_ms = NOW_MS,
                                 .updated_ms = NOW_MS,
                                 .updated_by = identity.node_ref,
                                 .environment = "{\"hostname\":\"h\"}",
                                 .seq = 5 };
    struct node_row nodes[2] = { { .node_ref = identity.node_ref, .longest_ms = 90000, .seq = 6 },
                                 { .node_ref = *partner,
                                   .longest_ms = 60000,
                                   .partner = true,
                                   .closed = true,
                                   .watermark_ms = NOW_MS,
                                   .acknowledged = 6,
                                   .cursor = 55,
                                   .seq = 7 } };
    struct lease_row leases[2];
    struct self_row self = { .refilled = true, .lease_max_ms = 90000 };
    const struct ledger_changes changes = {
        .entitlements = &entitlement,
        .scopes = &scope,
        .credits = &credit,
        .moves = &move,
        .origins = &origin,
        .nodes = nodes,
        .leases = leases,
        .self = &self,
        .entitlement_count = 1,
        .scope_count = 1,
        .credit_count = 1,
        .move_count = 1,
        .origin_count = 1,
        .node_count = 2,
        .lease_count = 2,
        .seq = 9,
    };

    for (size_t i = 0; i < 2; i++)
        leases[i] = (struct lease_row){ .lease_ref = uuid_of(10 + i),
                                        .home = identity.node_ref,
                                        .origin_ref = origin_ref,
                                        .scope_ref = scope_ref,
                                        .count = 1,
                                        .shared = i,
                                        .created_ms = NOW_MS,
                                        .duration_ms = 70000,
                                        .expires_ms = NOW_MS + 70000,
                                        .seq = 8 + i };
    commit(store, &changes);
    store_close(store);
    return identity.node_ref;
}

/* ---- version 1 ------------------------------------------------------------------------------- */

#define OLD_NODE "'00000000-0000-4000-8000-000000000001'"

static void make_version_1(struct database *db, uint64_t seq)
{
    database_new(db);
    database_run(db, "schema/0001_initial.sql");
    database_exec(db,
                  "INSERT INTO schema_version VALUES (1, '0001_initial.sql', '0.1.0', 1);"
                  "INSERT INTO node_state VALUES (true, " OLD_NODE ", '%s', %llu, %lld)",
                  text_of(&instance), (unsigned long long)seq, (long long)NOW_MS);
}

/* One of each, as version 1 wrote it: what was minted waits for a peer that never comes; an origin
 * was deleted with its lease, and enrolled again. */
static void fill_version_1(const struct database *db)
{
    struct uuid ref = uuid_of(4), scope = uuid_of(3);
    int64_t seats = 5;
    AUTO(entitlement_unref)
    struct entitlement *e = fake_entitlement(&ref, 1, 1, &scope, &seats);
    char sha256[65];

    for (size_t i = 0; i < 32; i++)
        snprintf(sha256 + 2 * i, 3, "%02x", e->sha256[i]);
    database_exec(db,
                  "INSERT INTO entitlement VALUES ('%s', 1, 'example', '%s', '\\x%s', 1000, "
                  "4000000000000, %lld, 1);"
                  "INSERT INTO scope VALUES ('%s', '%s', 1, 'feature0', 5, 2);"
                  "INSERT INTO credit VALUES ('%s', " OLD_NODE ", 5, 0, 1, 3);",
                  text_of(&ref), e->text, sha256, (long long)NOW_MS, text_of(&scope), text_of(&ref),
                  text_of(&scope));
    database_exec(db,
                  "INSERT INTO origin VALUES (lpad('a', 32, '0')::uuid, 1, 1, 4, 0, true, NULL), "
                  "(lpad('b', 32, '0')::uuid, 1, 1, 5, 2, true, '{}');"
                  "INSERT INTO lease SELECT gen_random_uuid(), " OLD_NODE ", "
                  "lpad(o, 32, '0')::uuid, '%s', 1, 1000, 60000 + s, 70000, e, e, 6 + s, e, false "
                  "FROM (VALUES ('a', 0, 0), ('b', 1, 0), ('b', 2, 1)) AS v (o, s, e)",
                  text_of(&scope));
}

static void a_database_of_version_1_is_taken_along(void **state)
{
    (void)state;
    struct database db;
    struct store_identity identity;
    struct ledger_conf conf = { .lease_max_ms = 600000, .hash_seed = { 1, 2 } };
    struct diag diag = { "" };

    make_version_1(&db, 40);
    fill_version_1(&db);
    struct store *store = open_store(&db, &identity);
    assert_false(identity.created);
    assert_int_equal(identity.seq, 41); /* one for the node's own row */
    assert_int_equal(identity.ceiling_ms, NOW_MS);
    assert_string_equal(database_value(&db, "SELECT max(version) FROM schema_version"), "2");
    assert_string_equal(
        database_value(&db, "SELECT concat_ws(' ', refilled, drained, resumed_seq, former_1) "
                            "FROM self"),
        "t f 0");
    assert_string_equal(database_value(&db, "SELECT concat_ws(' ', node_ref = " OLD_NODE
                                            ", partner, retired, longest_ms, seq) FROM node"),
                        "t f f 60002 41");
    assert_string_equal(database_value(&db, "SELECT concat_ws(' ', minter = " OLD_NODE ", usable) "
                                            "FROM entitlement"),
                        "t t");
    assert_string_equal(database_value(&db, "SELECT usable FROM credit"), "5");
    assert_string_equal(
        database_value(&db, "SELECT bool_and(updated_by = " OLD_NODE ") FROM origin"), "true");
    assert_string_equal(database_value(&db, "SELECT string_agg(generation::text, ' ' ORDER BY seq) "
                                            "FROM lease"),
                        "0 2 2");
    assert_no_broken_rule(&db);

    conf.self = identity.node_ref;
    struct ledger *ledger = ledger_new(&conf);
    if (store_load(store, ledger, fake_entitlement_open, NULL, &diag) != ERR_OK)
        fail_msg("%s", diag.text);
    ledger_check(ledger);
    assert_int_equal(ledger_pair(ledger).self, SELF_SERVING);
    assert_int_equal(ledger_counts(ledger).active_leases, 2);
    ledger_free(ledger);
    store_close(store);
    database_drop(&db);
}

/* Nothing was decided in it: whether it is refilled at once depends on whether it has a peer. */
static void an_empty_database_of_version_1_is_as_good_as_new(void **state)
{
    (void)state;
    struct database db;
    struct store_identity identity;

    make_version_1(&db, 0);
    store_close(open_store(&db, &identity));
    assert_int_equal(identity.seq, 0);
    assert_string_equal(
        database_value(&db, "(SELECT count(*) FROM self) + (SELECT count(*) FROM node)"), "0");
    assert_no_broken_rule(&db);
    database_drop(&db);
}

/* Columns must be written by name and value from now on: none has a default that hides a mistake.
 */
static void only_what_may_be_absent_has_a_default(void **state)
{
    (void)state;
    struct database db;
    struct store_identity identity;

    database_new(&db);
    store_close(open_store(&db, &identity));
    assert_string_equal(
        database_value(&db, "SELECT string_agg(table_name || '.' || column_name, ' ' "
                            "ORDER BY table_name) FROM information_schema.columns "
                            "WHERE table_schema = 'public' AND column_default IS NOT NULL"),
        "node_state.only_row self.only_row");
    database_drop(&db);
}

/* ---- giving up a name ------------------------------------------------------------------------ */

static void a_lost_history_costs_the_name(void **state)
{
    (void)state;
    struct database db;
    struct store_identity identity;
    struct uuid partner = uuid_of(77);

    database_new(&db);
    struct uuid old = write_history(&db, &partner);
    assert_no_broken_rule(&db);
    struct uuid new = rename_to(&db, &nil);
    assert_false(uuid_equal(&old, &new));
    assert_formers(&db, 1, &old);
    assert_string_equal(
        database_value(&db, "SELECT concat_ws(' ', refilled, drained, lease_max_ms) FROM self"),
        "f f 0");
    /* every record stays */
    assert_string_equal(database_value(&db, "SELECT count(*) FROM lease"), "2");
    assert_string_equal(database_value(&db, "SELECT count(*) FROM credit_move"), "1");
    assert_string_equal(database_value(&db, "SELECT environment FROM origin"),
                        "{\"hostname\":\"h\"}");
    /* the old name is counted like a partner, with the longest lease it gave (R10) */
    assert_string_equal(database_value(&db,
                                       "SELECT concat_ws(' ', partner, retired, longest_ms, seq) "
                                       "FROM node WHERE node_ref = '%s'",
                                       text_of(&old)),
                        "t f 90000 10");
    /* what the partner stated was about the old name */
    assert_string_equal(
        database_value(&db,
                       "SELECT concat_ws(' ', partner, closed, watermark_ms, acknowledged, cursor) "
                       "FROM node WHERE node_ref = '%s'",
                       text_of(&partner)),
        "t f 0 0 0");
    assert_no_broken_rule(&db);
    store_close(open_store(&db, &identity));
    assert_int_equal(identity.seq, 11);
    assert_false(identity.created);
    database_drop(&db);
}

/* The outcome of its COMMIT was not known, or the state file was not rewritten in time. */
static void a_name_is_given_up_once(void **state)
{
    (void)state;
    struct database db;
    struct uuid partner = uuid_of(77);

    database_new(&db);
    struct uuid old = write_history(&db, &partner);
    struct uuid new = rename_to(&db, &old), again = rename_to(&db, &old);
    assert_true(uuid_equal(&new, &again));
    assert_formers(&db, 1, &old);
    assert_string_equal(database_value(&db, "SELECT seq FROM node_state"), "11");

    /* but once it was refilled it has a history to lose again */
    database_exec(&db, "UPDATE self SET refilled = true");
    again = rename_to(&db, &old);
    assert_false(uuid_equal(&new, &again));
    const struct uuid formers[] = { old, new };
    assert_formers(&db, 2, formers);
    assert_no_broken_rule(&db);
    database_drop(&db);
}

static void the_newest_names_are_remembered(void **state)
{
    (void)state;
    struct database db;
    struct uuid partner = uuid_of(77), names[6];

    database_new(&db);
    names[5] = write_history(&db, &partner);
    for (size_t i = 5; i > 0; i--)
        names[i - 1] = rename_to(&db, &nil);
    assert_formers(&db, FORMER_SELVES_MAX, names + 1);
    assert_string_equal(database_value(&db, "SELECT count(*) FROM node WHERE partner"), "6");
    database_drop(&db);
}

/* The database was replaced by an empty one: its name is as good as any other. */
static void a_new_database_notes_whose_successor_it_is(void **state)
{
    (void)state;
    struct database db;
    struct store_identity identity;
    struct uuid former = uuid_of(66);

    database_new(&db);
    store_close(open_store(&db, &identity));
    struct uuid node_ref = rename_to(&db, &former);
    assert_true(uuid_equal(&node_ref, &identity.node_ref));
    assert_formers(&db, 1, &former);
    assert_string_equal(database_value(&db, "SELECT refilled FROM self"), "false");
    assert_string_equal(database_value(&db, "SELECT concat_ws(' ', node_ref, partner, longest_ms) "
                                            "FROM node"),
                        "75756964-2d6f-662d-0000-000000000042 t 0");
    assert_no_broken_rule(&db);
    node_ref = rename_to(&db, &former);
    assert_true(uuid_equal(&node_ref, &identity.node_ref));
    assert_string_equal(database_value(&db, "SELECT seq FROM node_state"), "2");
    database_drop(&db);
}

/* The database is a backup from before an earlier change of names: both names were this node's. */
static void an_old_backup_names_two_former_selves(void **state)
{
    (void)state;
    struct database db;
    struct uuid partner = uuid_of(77), former = uuid_of(66);

    database_new(&db);
    struct uuid old = write_history(&db, &partner);
    rename_to(&db, &former);
    const struct uuid formers[] = { former, old };
    assert_formers(&db, 2, formers);
    assert_string_equal(database_value(&db, "SELECT count(*) FROM node WHERE partner AND NOT "
                                            "retired AND seq IN (7, 10, 11)"),
                        "3");
    assert_no_broken_rule(&db);
    database_drop(&db);
}

/* The database is a copy of the peer's, which counts this node: the name in it is the peer's, and
 * calling that a former self would have the peer retire itself. */
static void a_copy_of_the_peers_database_is_no_former_self(void **state)
{
    (void)state;
    struct database db;
    struct uuid us = uuid_of(77), older = uuid_of(55);

    database_new(&db);
    struct uuid peer = write_history(&db, &us);
    database_exec(&db, "UPDATE self SET former_1 = '%s'", text_of(&older)); /* the peer's own */
    struct uuid new = rename_to(&db, &us);
    assert_false(uuid_equal(&new, &us) || uuid_equal(&new, &peer));
    assert_formers(&db, 1, &us);
    assert_string_equal(database_value(&db,
                                       "SELECT string_agg(right(node_ref::text, 2), ' ') FROM node "
                                       "WHERE partner AND NOT retired AND node_ref <> '%s'",
                                       text_of(&peer)),
                        "4d");
    assert_string_equal(
        database_value(&db, "SELECT partner FROM node WHERE node_ref = '%s'", text_of(&peer)),
        "true");
    assert_no_broken_rule(&db);
    database_drop(&db);
}

/* R10: retired is for ever. */
static void a_retired_name_stays_retired(void **state)
{
    (void)state;
    struct database db;
    struct uuid partner = uuid_of(77), former = uuid_of(66);

    database_new(&db);
    struct uuid old = write_history(&db, &partner);
    database_exec(&db,
                  "INSERT INTO node VALUES ('%s', 0, 0, 4, true, false, '%s', 5, 99999, 7, true, "
                  "false, 0)",
                  text_of(&former), text_of(&partner));
    database_exec(&db, "DELETE FROM credit_move");
    rename_to(&db, &former);
    assert_string_equal(database_value(&db,
                                       "SELECT concat_ws(' ', retired, heir, retired_ms, wait_ms) "
                                       "FROM node WHERE node_ref = '%s'",
                                       text_of(&former)),
                        "t 75756964-2d6f-662d-0000-00000000004d 5 99999");
    assert_string_equal(
        database_value(&db, "SELECT retired FROM node WHERE node_ref = '%s'", text_of(&old)),
        "false");
    database_drop(&db);
}

/* ---- forgetting ------------------------------------------------------------------------------ */

static void a_renamed_node_forgets_its_records(void **state)
{
    (void)state;
    struct database db;
    struct store_identity identity;
    struct uuid partner = uuid_of(77);
    struct node_row row = { .node_ref = partner, .partner = true, .seq = 12 };
    struct ledger_changes changes = { .nodes = &row, .node_count = 1, .seq = 12 };
    struct diag diag = { "" };

    database_new(&db);
    struct uuid old = write_history(&db, &partner);
    struct uuid new = rename_to(&db, &nil);
    struct store *store = open_store(&db, &identity);
    database_exec(&db,
                  "INSERT INTO node VALUES ('%s', 0, 0, 1, false, false, NULL, 0, 0, 7, false, "
                  "false, 0)",
                  text_of(&new));
    database_exec(&db, "UPDATE node SET cursor = 9, acknowledged = 9, watermark_ms = 9 "
                       "WHERE partner");
    if (store_wipe(store, &partner, &diag) != ERR_OK)
        fail_msg("%s", diag.text);
    assert_false(store_alive(store));
    store_close(store);
    assert_string_equal(
        database_value(&db, "(SELECT count(*) FROM lease) + (SELECT count(*) FROM origin) + "
                            "(SELECT count(*) FROM entitlement) + (SELECT count(*) FROM scope) + "
                            "(SELECT count(*) FROM credit) + (SELECT count(*) FROM credit_move)"),
        "0");
    assert_string_equal(database_value(&db,
                                       "SELECT string_agg(concat_ws(' ', node_ref = '%s', "
                                       "watermark_ms, acknowledged, cursor), ', ' "
                                       "ORDER BY node_ref = '%s') FROM node",
                                       text_of(&new), text_of(&new)),
                        "f 0 0 0, t 0 0 0");
    assert_formers(&db, 1, &old);
    assert_string_equal(database_value(&db, "SELECT refilled FROM self"), "false");
    assert_no_broken_rule(&db);

    /* numbers go on */
    store = open_store(&db, &identity);
    assert_true(uuid_equal(&identity.node_ref, &new));
    assert_int_equal(identity.seq, 11);
    commit(store, &changes);
    store_close(store);
    database_drop(&db);
}

static void a_node_that_serves_forgets_nothing(void **state)
{
    (void)state;
    struct database db;
    struct store_identity identity;
    struct uuid partner = uuid_of(77);
    struct diag diag = { "" };

    database_new(&db);
    write_history(&db, &partner);
    struct store *store = open_store(&db, &identity);
    assert_int_equal(store_wipe(store, &partner, &diag), ERR_INTERNAL);
    assert_non_null(strstr(diag.text, "must not forget"));
    store_close(store);
    assert_string_equal(database_value(&db, "SELECT count(*) FROM lease"), "2");
    database_drop(&db);
}

/* The guard of every batch is theirs too. */
static void history_is_not_changed_under_its_owner(void **state)
{
    (void)state;
    struct database db;
    struct store_identity identity;
    struct uuid partner = uuid_of(77), node_ref;

    database_new(&db);
    struct uuid old = write_history(&db, &partner);
    for (int wipe = 0; wipe < 2; wipe++) {
        struct diag diag = { "" };
        struct store *store = open_store(&db, &identity);
        database_exec(&db, "UPDATE node_state SET seq = seq + 1; UPDATE self SET refilled = %s",
                      wipe ? "false" : "true");
        assert_int_equal(wipe ? store_wipe(store, &partner, &diag)
                              : store_rename(store, &nil, &node_ref, &diag),
                         ERR_STORE_CORRUPT);
        assert_non_null(strstr(diag.text, "somebody else wrote"));
        assert_int_equal(store_rename(store, &nil, &node_ref, &diag), ERR_STORE_AWAY);
        assert_int_equal(store_wipe(store, &partner, &diag), ERR_STORE_AWAY);
        store_close(store);
    }
    assert_string_equal(database_value(&db, "SELECT node_ref FROM node_state"), text_of(&old));
    assert_string_equal(database_value(&db, "SELECT count(*) FROM lease"), "2");
    assert_string_equal(database_value(&db, "SELECT cursor FROM node WHERE partner"), "55");
    database_drop(&db);
}

/* ---- pages ----------------------------------------------------------------------------------- */

/* More origins than one statement asks for, some without a text, some never stored. */
static void a_page_gets_the_environments_of_its_origins(void **state)
{
    (void)state;
    enum { COUNT = PAGE_ROWS_MAX };
    struct database db;
    struct store_identity identity;
    struct origin_row *rows = mem_calloc(COUNT, sizeof *rows);
    struct ledger_page *page = mem_calloc(1, sizeof *page);
    char(*texts)[24] = mem_calloc(COUNT, sizeof *texts);
    struct diag diag = { "" };

    for (size_t i = 0; i < COUNT; i++) {
        snprintf(texts[i], sizeof texts[i], "{\"n\":%zu}", i);
        rows[i] = (struct origin_row){ .origin_ref = uuid_of(i),
                                       .enrolled = true,
                                       .created_ms = 1,
                                       .updated_ms = 1,
                                       .environment = i % 3 ? texts[i] : NULL,
                                       .seq = i + 1 };
    }
    const struct ledger_changes changes = { .origins = rows, .origin_count = COUNT, .seq = COUNT };
    database_new(&db);
    struct store *store = open_store(&db, &identity);
    assert_int_equal(store_environments(store, page, &diag), ERR_OK); /* none is asked for */
    mem_free(TAKE(page->texts));
    commit(store, &changes);

    page->origins = mem_calloc(COUNT, sizeof *rows);
    page->origin_count = COUNT;
    for (size_t i = 0; i < COUNT; i++) /* from the last to the first; each seventh is unknown */
        page->origins[i] =
            (struct origin_row){ .origin_ref = uuid_of(COUNT - 1 - i + i % 7 / 6 * 1000000),
                                 .environment = "left over" };
    if (store_environments(store, page, &diag) != ERR_OK)
        fail_msg("%s", diag.text);
    for (size_t i = 0; i < COUNT; i++) {
        size_t n = COUNT - 1 - i;
        if (i % 7 == 6 || n % 3 == 0)
            assert_null(page->origins[i].environment);
        else
            assert_string_equal(page->origins[i].environment, texts[n]);
    }
    assert_true(store_alive(store)); /* it goes on with batches */
    commit(store, &changes);
    store_close(store);
    ledger_page_free(page);
    mem_free(rows);
    mem_free(texts);
    database_drop(&db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_database_of_version_1_is_taken_along),
        cmocka_unit_test(an_empty_database_of_version_1_is_as_good_as_new),
        cmocka_unit_test(only_what_may_be_absent_has_a_default),
        cmocka_unit_test(a_lost_history_costs_the_name),
        cmocka_unit_test(a_name_is_given_up_once),
        cmocka_unit_test(the_newest_names_are_remembered),
        cmocka_unit_test(a_new_database_notes_whose_successor_it_is),
        cmocka_unit_test(an_old_backup_names_two_former_selves),
        cmocka_unit_test(a_copy_of_the_peers_database_is_no_former_self),
        cmocka_unit_test(a_retired_name_stays_retired),
        cmocka_unit_test(a_renamed_node_forgets_its_records),
        cmocka_unit_test(a_node_that_serves_forgets_nothing),
        cmocka_unit_test(history_is_not_changed_under_its_owner),
        cmocka_unit_test(a_page_gets_the_environments_of_its_origins),
    };
    return cmocka_run_group_tests_name("store_history", tests, NULL, NULL);
}
