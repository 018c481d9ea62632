/* The store against a real PostgreSQL: what it refuses to open, what a batch writes, what comes
 * back. Run under tests/lib/with-postgres. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "database.h"
#include "store/pg.h"

#define NOW_MS INT64_C(1800000000000)

/* On a busy machine the server lets go of a closed session's lock some time after store_close. */
#define LOCK_WAIT_MS 15000

static const struct uuid instance = { "instance-ref-001" };

static struct uuid uuid_of(uint64_t number)
{
    struct uuid uuid = { "uuid-of-" };

    for (size_t i = 0; i < 8; i++)
        uuid.bytes[8 + i] = (uint8_t)(number >> (8 * (7 - i)));
    return uuid;
}

static struct store *open_store(const struct database *db, struct store_identity *identity)
{
    struct store *store = NULL;
    struct diag diag = { "" };

    if (store_open(db->conninfo, &instance, LOCK_WAIT_MS, &store, identity, &diag) != ERR_OK)
        fail_msg("%s", diag.text);
    return store;
}

static void assert_refused(const char *conninfo, enum err expected, const char *words)
{
    struct store *store = NULL;
    struct store_identity identity;
    struct diag diag = { "" };
    int wait_ms = expected == ERR_STORE_OWNED ? 0 : LOCK_WAIT_MS;
    enum err err = store_open(conninfo, &instance, wait_ms, &store, &identity, &diag);

    if (err != expected || !strstr(diag.text, words))
        fail_msg("%s: \"%s\", expected %s with \"%s\"", err_info(err)->code, diag.text,
                 err_info(expected)->code, words);
    assert_null(store);
}

static void commit(struct store *store, const struct ledger_changes *changes)
{
    struct commit_receipt receipt;
    struct diag diag = { "" };
    enum err err = store_commit(store, changes, NOW_MS + 10000, &receipt, &diag);

    if (err != ERR_OK)
        fail_msg("%s", diag.text);
    assert_int_equal(receipt.seq, changes->seq);
}

static struct lease_row a_lease(uint64_t number, uint64_t seq)
{
    return (struct lease_row){
        .lease_ref = uuid_of(number),
        .home = uuid_of(1),
        .origin_ref = uuid_of(2),
        .scope_ref = uuid_of(3),
        .count = 1,
        .state = LEASE_ACTIVE,
        .created_ms = NOW_MS,
        .generation = 3,
        .duration_ms = 60000,
        .expires_ms = NOW_MS + 60000,
        .seq = seq,
    };
}

/* ---- opening --------------------------------------------------------------------------------- */

static void a_new_database_gets_tables_and_a_name(void **state)
{
    (void)state;
    struct database db;
    struct store_identity first, again;

    database_new(&db);
    struct store *store = open_store(&db, &first);
    assert_false(uuid_is_nil(&first.node_ref));
    assert_true(uuid_equal(&first.instance_ref, &instance));
    assert_int_equal(first.seq, 0);
    assert_int_equal(first.ceiling_ms, 0);
    assert_true(first.created);
    assert_int_equal(first.timeline, 1);
    assert_string_equal(first.system,
                        database_value(&db, "SELECT system_identifier FROM pg_control_system()"));
    assert_true(store_alive(store));
    assert_true(store_fd(store) >= 0);
    assert_string_equal(database_value(&db, "SELECT max(version) FROM schema_version"), "2");
    store_close(store);

    store = open_store(&db, &again);
    assert_true(uuid_equal(&first.node_ref, &again.node_ref));
    assert_false(again.created);
    assert_string_equal(again.system, first.system);
    assert_int_equal(again.timeline, 1);
    store_close(store);
    assert_string_equal(database_value(&db, "SELECT count(*) FROM schema_version"), "2");
    assert_null(store_close(NULL));
    database_drop(&db);
}

static void every_column_is_described(void **state)
{
    (void)state;
    struct database db;
    struct store_identity identity;

    database_new(&db);
    store_close(open_store(&db, &identity));
    assert_string_equal(
        database_value(&db, "SELECT string_agg(c.relname || '.' || a.attname, ' ') FROM pg_class c "
                            "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 "
                            "WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' "
                            "AND (col_description(c.oid, a.attnum) IS NULL "
                            "OR obj_description(c.oid) IS NULL)"),
        "");
    database_drop(&db);
}

static void a_second_node_is_told_who_owns_the_database(void **state)
{
    (void)state;
    struct database db;
    struct store_identity identity;
    char pid[32];

    database_new(&db);
    struct store *store = open_store(&db, &identity);
    snprintf(pid, sizeof pid, "process %s,",
             database_value(&db,
                            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND database "
                            "= (SELECT oid FROM pg_database WHERE datname = '%s')",
                            db.name));
    assert_refused(db.conninfo, ERR_STORE_OWNED, pid);
    assert_refused(db.conninfo, ERR_STORE_OWNED, "application \"twinlease-node\"");
    assert_refused(db.conninfo, ERR_STORE_OWNED, "give each node a database of its own");
    store_close(store);
    store_close(open_store(&db, &identity));
    database_drop(&db);
}

struct successor {
    const struct database *db;
    struct store *store;
    struct store_identity identity;
    enum err err;
};

static void *succeed(void *context)
{
    struct successor *successor = context;

    successor->err = store_open(successor->db->conninfo, &instance, LOCK_WAIT_MS, &successor->store,
                                &successor->identity, NULL);
    return NULL;
}

static void a_successor_waits_for_its_predecessor(void **state)
{
    (void)state;
    struct database db;
    struct store_identity identity;
    struct successor successor = { .db = &db };
    pthread_t thread;

    database_new(&db);
    struct store *store = open_store(&db, &identity);
    assert_int_equal(pthread_create(&thread, NULL, succeed, &successor), 0);
    database_await(&db,
                   "EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' "
                   "AND NOT granted AND database = (SELECT oid FROM pg_database "
                   "WHERE datname = '%s'))",
                   db.name);
    store_close(store);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(successor.err, ERR_OK);
    assert_true(uuid_equal(&successor.identity.node_ref, &identity.node_ref));
    store_close(successor.store);
    database_drop(&db);
}

static void another_schema_is_refused(void **state)
{
    (void)state;
    struct database db, foreign;
    struct store_identity identity;

    database_new(&db);
    store_close(open_store(&db, &identity));
    database_exec(&db, "INSERT INTO schema_version VALUES (3, 'x', 'y', 1)");
    assert_refused(db.conninfo, ERR_STORE_SCHEMA,
                   "the database has schema 3, this program knows up to 2: start a newer "
                   "twinlease-node");
    database_exec(&db, "DELETE FROM schema_version WHERE version = 1");
    assert_refused(db.conninfo, ERR_STORE_SCHEMA, "2 rows up to version 3");
    database_drop(&db);

    database_new(&foreign);
    database_exec(&foreign, "CREATE TABLE lease (flat int)");
    assert_refused(foreign.conninfo, ERR_STORE_SCHEMA, "give the node an empty database");
    assert_string_equal(database_value(&foreign, "to_regclass('origin') IS NULL"), "true");
    database_drop(&foreign);
}

static void an_unsafe_server_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *on, *off;
        enum err err;
        const char *words;
    } cases[] = {
        { "ALTER SYSTEM SET fsync = off", "ALTER SYSTEM RESET fsync", ERR_STORE_UNSAFE,
          "set fsync = on" },
        { "ALTER SYSTEM SET full_page_writes = off", "ALTER SYSTEM RESET full_page_writes",
          ERR_STORE_UNSAFE, "set full_page_writes = on" },
        { "ALTER SYSTEM SET synchronous_commit = off", "ALTER SYSTEM RESET synchronous_commit",
          ERR_STORE_UNSAFE, "set synchronous_commit = on" },
        { "ALTER SYSTEM SET default_transaction_read_only = on",
          "SET default_transaction_read_only = off", ERR_STORE_READ_ONLY,
          "default_transaction_read_only" },
    };
    struct database db;
    struct store_identity identity;

    database_new(&db);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cluster_exec("%s", cases[i].on);
        cluster_exec("SELECT pg_reload_conf()");
        database_await(&db, "SELECT count(*) = 1 FROM pg_settings WHERE sourcefile LIKE "
                            "'%%auto.conf'");
        assert_refused(db.conninfo, cases[i].err, cases[i].words);
        cluster_exec("%s", cases[i].off);
        cluster_exec("ALTER SYSTEM RESET ALL");
        cluster_exec("SELECT pg_reload_conf()");
        database_await(&db, "SELECT count(*) = 0 FROM pg_settings WHERE sourcefile LIKE "
                            "'%%auto.conf'");
    }
    assert_string_equal(database_value(&db, "to_regclass('schema_version') IS NULL"), "true");
    store_close(open_store(&db, &identity));
    database_drop(&db);
}

static void wrong_settings_are_named(void **state)
{
    (void)state;
    struct database db;
    char conninfo[500];

    database_new(&db);
    snprintf(conninfo, sizeof conninfo, "%s dbname=nowhere", db.conninfo);
    assert_refused(conninfo, ERR_STORE_REFUSED, "database \"nowhere\" does not exist");
    snprintf(conninfo, sizeof conninfo, "%s user=nobody_here", db.conninfo);
    assert_refused(conninfo, ERR_STORE_REFUSED, "role \"nobody_here\" does not exist");
    snprintf(conninfo, sizeof conninfo, "%s host=/nowhere", db.conninfo);
    assert_refused(conninfo, ERR_STORE_AWAY, "/nowhere");
    snprintf(conninfo, sizeof conninfo, "%s port=many", db.conninfo);
    assert_refused(conninfo, ERR_CONFIG, "invalid integer value \"many\"");
    database_drop(&db);
}

static void a_connection_string_is_never_repeated(void **state)
{
    (void)state;
    static const char *const bad[] = { "password=top secret",
                                       "secret",
                                       "postgresql://[secret",
                                       "postgresql://user:top@secret@localhost/db",
                                       "postgres://user:secret/top@localhost:1/db",
                                       "postgresql://user:1/secret@localhost/db",
                                       "" };
    struct store *store = NULL;
    struct store_identity identity;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct diag diag = { "" };
        /* an empty string is valid, and means libpq's defaults */
        if (!*bad[i])
            continue;
        assert_int_equal(store_open(bad[i], &instance, 0, &store, &identity, &diag), ERR_CONFIG);
        assert_non_null(strstr(diag.text, "DATABASE"));
        assert_null(strstr(diag.text, "secret"));
    }
}

static void right_uris_are_not_refused(void **state)
{
    (void)state;
    static const char *const good[] = {
        "postgresql://127.0.0.1:1/db",
        "postgresql://user:top%40sec%2Fret@127.0.0.1:1/db",
        "postgresql://user@127.0.0.1:1/db?application_name=a@b",
        "postgresql:///db?host=/no@where",
        "host=/nowhere password=a@b@c dbname=x://y@z",
    };

    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        assert_refused(good[i], ERR_STORE_AWAY, "the database does not answer");
}

static void a_role_without_rights_is_refused(void **state)
{
    (void)state;
    struct database db;
    char conninfo[500];

    database_new(&db);
    cluster_exec("CREATE ROLE weak LOGIN");
    snprintf(conninfo, sizeof conninfo, "%s user=weak", db.conninfo);
    assert_refused(conninfo, ERR_STORE_REFUSED, "permission denied");
    database_drop(&db);
    cluster_exec("DROP ROLE weak");
}

static void another_instances_database_is_refused(void **state)
{
    (void)state;
    struct database db;
    struct store *store = NULL;
    struct store_identity identity;
    struct diag diag = { "" };
    struct uuid other = uuid_of(77);
    char ours[UUID_TEXT_SIZE], theirs[UUID_TEXT_SIZE];

    database_new(&db);
    store_close(open_store(&db, &identity));
    assert_int_equal(store_open(db.conninfo, &other, LOCK_WAIT_MS, &store, &identity, &diag),
                     ERR_STORE_REFUSED);
    uuid_format(&other, ours);
    uuid_format(&instance, theirs);
    assert_non_null(strstr(diag.text, ours));
    assert_non_null(strstr(diag.text, theirs));
    database_drop(&db);
}

static void a_lost_identity_is_not_replaced(void **state)
{
    (void)state;
    struct database db;
    struct store_identity identity;

    database_new(&db);
    store_close(open_store(&db, &identity));
    database_exec(&db, "DELETE FROM node_state; INSERT INTO self VALUES (true, true, false, 0, 0)");
    assert_refused(db.conninfo, ERR_STORE_CORRUPT, "node_state has lost its row");
    database_exec(&db, "DELETE FROM self; INSERT INTO origin VALUES (gen_random_uuid(), 1, 1, 1, "
                       "0, true, NULL, gen_random_uuid())");
    assert_refused(db.conninfo, ERR_STORE_CORRUPT, "node_state has lost its row");
    database_drop(&db);
}

/* ---- batches --------------------------------------------------------------------------------- */

static void a_batch_is_all_or_nothing(void **state)
{
    (void)state;
    struct database db;
    struct store_identity identity;
    struct commit_receipt receipt;
    struct diag diag = { "" };
    struct lease_row rows[2] = { a_lease(10, 1), a_lease(11, 2) };
    struct ledger_changes changes = { .leases = rows, .lease_count = 2, .seq = 2 };

    database_new(&db);
    struct store *store = open_store(&db, &identity);
    rows[1].count = 0; /* breaks its CHECK */
    assert_int_equal(store_commit(store, &changes, NOW_MS, &receipt, &diag), ERR_INTERNAL);
    assert_non_null(strstr(diag.text, "check constraint"));
    assert_string_equal(database_value(&db, "SELECT count(*) FROM lease"), "0");
    assert_string_equal(database_value(&db, "SELECT seq + ceiling_ms FROM node_state"), "0");

    rows[1].count = 1; /* but this store is done for */
    assert_false(store_alive(store));
    assert_int_equal(store_commit(store, &changes, NOW_MS, &receipt, &diag), ERR_STORE_AWAY);
    store_close(store);

    store = open_store(&db, &identity);
    commit(store, &changes);
    assert_string_equal(database_value(&db, "SELECT count(*) FROM lease"), "2");
    assert_string_equal(database_value(&db, "SELECT seq FROM node_state"), "2");
    store_close(store);
    database_drop(&db);
}

static void the_ceiling_is_written_alone_and_zero_leaves_it(void **state)
{
    (void)state;
    struct database db;
    struct store_identity identity;
    struct commit_receipt receipt;
    struct ledger_changes changes = { .seq = 0 };

    database_new(&db);
    struct store *store = open_store(&db, &identity);
    assert_int_equal(store_commit(store, &changes, 5000, &receipt, NULL), ERR_OK);
    assert_true(uuid_equal(&receipt.node_ref, &identity.node_ref));
    assert_int_equal(store_commit(store, &changes, 0, &receipt, NULL), ERR_OK);
    assert_string_equal(database_value(&db, "SELECT ceiling_ms FROM node_state"), "5000");
    assert_int_equal(store_commit(store, &changes, 4000, &receipt, NULL), ERR_OK); /* at a stop */
    store_close(store);
    store = open_store(&db, &identity);
    assert_int_equal(identity.ceiling_ms, 4000);
    store_close(store);
    database_drop(&db);
}

static void somebody_elses_write_is_noticed(void **state)
{
    (void)state;
    static const char *const meddling[] = { "UPDATE node_state SET seq = 7",
                                            "DELETE FROM node_state" };
    struct database db;
    struct store_identity identity;
    struct commit_receipt receipt;
    struct lease_row row = a_lease(10, 1);
    struct ledger_changes changes = { .leases = &row, .lease_count = 1, .seq = 1 };

    for (size_t i = 0; i < ARRAY_SIZE(meddling); i++) {
        struct diag diag = { "" };
        database_new(&db);
        struct store *store = open_store(&db, &identity);
        database_exec(&db, "%s", meddling[i]);
        assert_int_equal(store_commit(store, &changes, 0, &receipt, &diag), ERR_STORE_CORRUPT);
        assert_non_null(strstr(diag.text, "somebody else wrote to this database"));
        assert_string_equal(database_value(&db, "SELECT count(*) FROM lease"), "0");
        store_close(store);
        database_drop(&db);
    }
}

static void a_purged_reference_may_come_back_in_the_same_batch(void **state)
{
    (void)state;
    struct database db;
    struct store_identity identity;
    struct lease_row rows[2] = { a_lease(10, 1), a_lease(11, 2) };
    struct lease_key keys[3] = { { uuid_of(10), uuid_of(1) },
                                 { uuid_of(11), uuid_of(1) },
                                 { uuid_of(12), uuid_of(1) } }; /* was never stored */
    struct ledger_changes first = { .leases = rows, .lease_count = 2, .seq = 2 };
    struct ledger_changes second = {
        .leases = rows, .lease_count = 1, .purged = keys, .purged_count = 3, .seq = 3
    };

    database_new(&db);
    struct store *store = open_store(&db, &identity);
    commit(store, &first);
    rows[0] = a_lease(10, 3);
    rows[0].count = 5;
    commit(store, &second);
    assert_string_equal(
        database_value(&db, "SELECT string_agg(seq || ':' || count, ' ') FROM lease"), "3:5");
    store_close(store);
    database_drop(&db);
}

/* The peer purged it and granted it anew, and this node hears of both at once. */
static void a_reference_granted_anew_replaces_its_former_life(void **state)
{
    (void)state;
    struct database db;
    struct store_identity identity;
    struct lease_row row = a_lease(10, 1);
    struct ledger_changes changes = { .leases = &row, .lease_count = 1, .seq = 1 };

    database_new(&db);
    struct store *store = open_store(&db, &identity);
    commit(store, &changes);
    row = (struct lease_row){ .lease_ref = row.lease_ref,
                              .home = row.home,
                              .origin_ref = uuid_of(102),
                              .scope_ref = uuid_of(103),
                              .count = 104,
                              .generation = 105,
                              .shared = true,
                              .created_ms = NOW_MS + 106,
                              .duration_ms = 107,
                              .expires_ms = NOW_MS + 213,
                              .seq = 2 };
    changes.seq = 2;
    commit(store, &changes);
    assert_string_equal(
        database_value(&db, "SELECT concat_ws(' ', right(origin_ref::text, 2), "
                            "right(scope_ref::text, 2), count, generation, shared, "
                            "created_ms - 1800000000000, duration_ms, expires_ms - created_ms, seq)"
                            " FROM lease"),
        "66 67 104 105 t 106 107 107 2");
    store_close(store);
    database_drop(&db);
}

static void an_environment_stays_until_a_new_one_comes(void **state)
{
    (void)state;
    struct database db;
    struct store_identity identity;
    struct origin_row row = { .origin_ref = uuid_of(5),
                              .generation = 4294967295,
                              .enrolled = true,
                              .created_ms = NOW_MS,
                              .updated_ms = NOW_MS,
                              .updated_by = uuid_of(8),
                              .seq = 1,
                              .environment = NULL };
    struct ledger_changes changes = { .origins = &row, .origin_count = 1 };
    static const struct {
        const char *written, *stored;
    } steps[] = {
        { NULL, "none" },
        { "{\"a\":\"\\u0000\",\"b\":1e999999}", "{\"a\":\"\\u0000\",\"b\":1e999999}" },
        { NULL, "{\"a\":\"\\u0000\",\"b\":1e999999}" },
        { "{\"hostname\":\"Zürich\"}", "{\"hostname\":\"Zürich\"}" },
        { "{}", "{}" },
    };

    database_new(&db);
    struct store *store = open_store(&db, &identity);
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        row.environment = steps[i].written;
        row.seq = changes.seq = i + 1;
        commit(store, &changes);
        assert_string_equal(database_value(&db, "SELECT COALESCE(environment, 'none') FROM origin"),
                            steps[i].stored);
    }
    assert_string_equal(database_value(&db, "SELECT generation FROM origin"), "4294967295");
    assert_string_equal(database_value(&db, "SELECT right(updated_by::text, 2) FROM origin"), "08");
    store_close(store);
    database_drop(&db);
}

static struct node_row a_node(uint64_t number, uint64_t seq)
{
    return (struct node_row){ .node_ref = uuid_of(number), .longest_ms = 60000, .seq = seq };
}

/* R8, R10, R11: what this node alone knows has no change number of its own. */
static void own_knowledge_changes_without_a_number(void **state)
{
    (void)state;
    struct database db;
    struct store_identity identity;
    struct node_row nodes[2] = { a_node(7, 1), a_node(8, 2) };
    struct self_row self = { .refilled = true, .lease_max_ms = 60000 };
    struct ledger_changes changes = { .nodes = nodes, .node_count = 2, .self = &self, .seq = 2 };

    database_new(&db);
    struct store *store = open_store(&db, &identity);
    commit(store, &changes);
    assert_string_equal(database_value(&db, "SELECT concat_ws(' ', only_row, refilled, drained, "
                                            "resumed_seq, lease_max_ms, former_1) FROM self"),
                        "t t f 0 60000");
    assert_string_equal(database_value(&db, "SELECT bool_and(heir IS NULL) FROM node"), "true");

    nodes[0].partner = nodes[0].closed = true;
    nodes[0].watermark_ms = NOW_MS;
    nodes[0].acknowledged = 2;
    nodes[0].cursor = 77;
    changes.node_count = 1;
    self = (struct self_row){ .drained = true, .resumed_seq = 2, .former = { uuid_of(5) } };
    commit(store, &changes);
    changes.self = NULL; /* as it was */
    commit(store, &changes);
    assert_string_equal(database_value(&db, "SELECT concat_ws(' ', partner, closed, watermark_ms, "
                                            "acknowledged, cursor, seq) FROM node WHERE partner"),
                        "t t 1800000000000 2 77 1");
    assert_string_equal(database_value(&db, "SELECT concat_ws(' ', refilled, drained, resumed_seq, "
                                            "former_1, former_2) FROM self"),
                        "f t 2 75756964-2d6f-662d-0000-000000000005");

    nodes[0].retired = true;
    nodes[0].heir = uuid_of(8);
    nodes[0].retired_ms = NOW_MS;
    nodes[0].wait_ms = NOW_MS + 60000;
    nodes[0].seq = changes.seq = 3;
    commit(store, &changes);
    assert_string_equal(database_value(&db, "SELECT n.wait_ms - n.retired_ms FROM node n JOIN node "
                                            "h ON h.node_ref = n.heir WHERE n.retired"),
                        "60000");
    store_close(store);
    store = open_store(&db, &identity);
    assert_int_equal(identity.seq, 3);
    store_close(store);
    database_drop(&db);
}

/* R2: of two mints one stands, and it becomes usable later: the row is written again. */
static void an_entitlement_changes_its_minter(void **state)
{
    (void)state;
    struct database db;
    struct store_identity identity;
    struct uuid ref = uuid_of(4), scope = uuid_of(3);
    int64_t seats = 5;
    AUTO(entitlement_unref)
    struct entitlement *e = fake_entitlement(&ref, 1, 1, &scope, &seats);
    struct entitlement_row row = {
        .entitlement = e, .installed_ms = NOW_MS, .minter = uuid_of(9), .seq = 1
    };
    struct ledger_changes changes = { .entitlements = &row, .entitlement_count = 1, .seq = 1 };

    database_new(&db);
    struct store *store = open_store(&db, &identity);
    commit(store, &changes);
    row.minter = uuid_of(8);
    row.installed_ms = NOW_MS - 5;
    row.seq = changes.seq = 2;
    commit(store, &changes);
    row.usable = true;
    commit(store, &changes);
    assert_string_equal(
        database_value(&db, "SELECT concat_ws(' ', right(minter::text, 2), usable, installed_ms, "
                            "seq, revision) FROM entitlement"),
        "08 t 1799999999995 2 1");
    store_close(store);
    database_drop(&db);
}

/* More rows than one statement takes, and more text. */
static void a_large_batch_is_still_one_transaction(void **state)
{
    (void)state;
    enum { LEASES = 20000, ORIGINS = 150, TEXT = 65536 };
    struct database db;
    struct store_identity identity;
    struct commit_receipt receipt;
    struct lease_row *leases = mem_calloc(LEASES, sizeof *leases);
    struct origin_row *origins = mem_calloc(ORIGINS, sizeof *origins);
    char *text = mem_alloc(TEXT + 1);
    struct ledger_changes changes = { .leases = leases,
                                      .lease_count = LEASES,
                                      .origins = origins,
                                      .origin_count = ORIGINS,
                                      .seq = LEASES + ORIGINS };

    memset(text, 'x', TEXT);
    text[TEXT] = '\0';
    for (size_t i = 0; i < LEASES; i++)
        leases[i] = a_lease(100 + i, 1 + i);
    for (size_t i = 0; i < ORIGINS; i++)
        origins[i] = (struct origin_row){ .origin_ref = uuid_of(i),
                                          .created_ms = 1,
                                          .updated_ms = 1,
                                          .environment = text,
                                          .seq = LEASES + 1 + i };
    database_new(&db);
    struct store *store = open_store(&db, &identity);
    leases[LEASES - 1].state = LEASE_EXPIRED; /* without an end: the last row of the last chunk */
    assert_int_equal(store_commit(store, &changes, 0, &receipt, NULL), ERR_INTERNAL);
    store_close(store);
    assert_string_equal(database_value(&db, "(SELECT count(*) FROM lease) + "
                                            "(SELECT count(*) FROM origin)"),
                        "0");

    leases[LEASES - 1].state = LEASE_ACTIVE;
    store = open_store(&db, &identity);
    commit(store, &changes);
    assert_string_equal(database_value(&db, "SELECT count(*) FROM lease"), "20000");
    assert_string_equal(database_value(&db, "SELECT sum(length(environment)) FROM origin"),
                        "9830400");
    store_close(store);
    mem_free(leases);
    mem_free(origins);
    mem_free(text);
    database_drop(&db);
}

/* A round renews a few leases of each page, as in life. */
static void renewals_touch_no_index(void **state)
{
    (void)state;
    enum { LEASES = 4000, ROUNDS = 40, RENEWED = LEASES / ROUNDS };
    struct database db;
    struct store_identity identity;
    struct lease_row *rows = mem_calloc(LEASES, sizeof *rows);
    struct ledger_changes changes = { .leases = rows, .lease_count = LEASES, .seq = LEASES };

    database_new(&db);
    struct store *store = open_store(&db, &identity);
    for (uint64_t i = 0; i < LEASES; i++)
        rows[i] = a_lease(i, i + 1);
    commit(store, &changes);
    changes.lease_count = RENEWED;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        for (uint64_t i = 0; i < RENEWED; i++) {
            rows[i] = a_lease(i * ROUNDS + round, ++changes.seq);
            rows[i].expires_ms += 1000;
        }
        commit(store, &changes);
    }
    store_close(store);
    database_await(&db, "SELECT n_tup_upd = 4000 FROM pg_stat_user_tables WHERE relname = 'lease'");
    assert_string_equal(database_value(&db, "SELECT n_tup_hot_upd >= 3900 FROM pg_stat_user_tables "
                                            "WHERE relname = 'lease'"),
                        "true");
    mem_free(rows);
    database_drop(&db);
}

/* Each SQLSTATE becomes the error that the engine and the operator need. */
static void errors_of_the_server_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *sqlstate;
        enum err err;
    } cases[] = {
        { "53100", ERR_STORE_FULL },      { "53200", ERR_STORE_AWAY }, { "53300", ERR_STORE_AWAY },
        { "25006", ERR_STORE_READ_ONLY }, { "40001", ERR_STORE_AWAY }, { "40P01", ERR_STORE_AWAY },
        { "42501", ERR_STORE_REFUSED },   { "57014", ERR_STORE_AWAY }, { "55P03", ERR_STORE_AWAY },
        { "XX001", ERR_STORE_CORRUPT },   { "58030", ERR_STORE_AWAY }, { "22P05", ERR_INTERNAL },
        { "42P01", ERR_STORE_SCHEMA },    { "P0001", ERR_INTERNAL },
    };
    struct database db;
    struct store_identity identity;
    struct commit_receipt receipt;
    struct lease_row row = a_lease(10, 1);
    struct ledger_changes changes = { .leases = &row, .lease_count = 1, .seq = 1 };

    database_new(&db);
    store_close(open_store(&db, &identity));
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct diag diag = { "" };
        database_exec(&db,
                      "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ "
                      "BEGIN RAISE EXCEPTION 'made up' USING ERRCODE = '%s'; END $$; "
                      "CREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON lease "
                      "FOR EACH ROW EXECUTE FUNCTION refuse()",
                      cases[i].sqlstate);
        struct store *store = open_store(&db, &identity);
        enum err err = store_commit(store, &changes, 0, &receipt, &diag);
        if (err != cases[i].err || !strstr(diag.text, "made up"))
            fail_msg("%s: %s, %s", cases[i].sqlstate, err_info(err)->code, diag.text);
        store_close(store);
    }
    assert_string_equal(database_value(&db, "SELECT count(*) FROM lease"), "0");
    database_drop(&db);
}

/* ---- pages ----------------------------------------------------------------------------------- */

static void write_listed(struct store *store, size_t count)
{
    struct lease_row *leases = mem_calloc(count, sizeof *leases);
    struct origin_row origins[3];
    struct scope_row scope = { .scope_ref = uuid_of(3),
                               .entitlement_ref = uuid_of(4),
                               .revision = 1,
                               .feature = "render",
                               .seats = 9,
                               .seq = 1 };
    struct ledger_changes changes = { .leases = leases,
                                      .lease_count = count,
                                      .origins = origins,
                                      .origin_count = 3,
                                      .scopes = &scope,
                                      .scope_count = 1,
                                      .seq = count + 4 };

    for (size_t i = 0; i < 3; i++)
        origins[i] = (struct origin_row){ .origin_ref = uuid_of(i),
                                          .enrolled = true,
                                          .created_ms = 1,
                                          .updated_ms = 2,
                                          .seq = 2 + i,
                                          .environment = i == 2 ? "{\"n\":2}" : NULL };
    for (size_t i = 0; i < count; i++) {
        leases[i] = a_lease(1000 + i / 2, 5 + i); /* two homes each */
        leases[i].home = uuid_of(i % 2);
        leases[i].origin_ref = uuid_of(i % 3 ? 2 : 0);
        if (i % 5 == 0) {
            leases[i].state = LEASE_REVOKED;
            leases[i].ended_ms = NOW_MS + 1;
            leases[i].ended_expires_ms = NOW_MS + 2;
        }
    }
    commit(store, &changes);
    mem_free(leases);
}

static size_t walk_leases(struct reader *reader, size_t limit, int wanted, size_t *pages)
{
    struct lease_key after = { { { 0 } }, { { 0 } } };
    size_t seen = 0;
    bool more = true;

    for (*pages = 0; more; (*pages)++) {
        struct lease_page page;
        struct diag diag = { "" };
        if (reader_leases(reader, &after, limit, wanted, true, &page, &diag) != ERR_OK)
            fail_msg("%s", diag.text);
        for (size_t i = 0; i < page.count; i++) {
            const struct lease_row *row = &page.rows[i].row;
            int order = uuid_compare(&row->lease_ref, &after.lease_ref);
            assert_true(order > 0 || (order == 0 && uuid_compare(&row->home, &after.home) > 0));
            assert_true(wanted < 0 || row->state == (enum lease_state)wanted);
            assert_string_equal(page.rows[i].feature, "render");
            assert_string_equal(page.rows[i].environment,
                                row->origin_ref.bytes[15] == 2 ? "{\"n\":2}" : "{}");
            after = (struct lease_key){ row->lease_ref, row->home };
        }
        seen += page.count;
        more = page.more;
        assert_true(page.count == limit || !more);
        lease_page_fini(&page);
    }
    return seen;
}

static void leases_are_listed_page_by_page(void **state)
{
    (void)state;
    struct database db;
    struct store_identity identity;
    size_t pages;

    database_new(&db);
    struct store *store = open_store(&db, &identity);
    write_listed(store, 100);
    struct reader *reader = reader_new(db.conninfo);
    assert_int_equal(walk_leases(reader, 7, -1, &pages), 100);
    assert_int_equal(pages, 15);
    assert_int_equal(walk_leases(reader, 100, -1, &pages), 100);
    assert_int_equal(pages, 1);
    assert_int_equal(walk_leases(reader, 50, LEASE_ACTIVE, &pages), 80);
    assert_int_equal(walk_leases(reader, PAGE_LIMIT_MAX, LEASE_REVOKED, &pages), 20);
    assert_int_equal(walk_leases(reader, 10, LEASE_EXPIRED, &pages), 0);

    struct lease_page page;
    assert_int_equal(reader_leases(reader, NULL, 1, -1, false, &page, NULL), ERR_OK);
    assert_null(page.rows[0].environment);
    struct lease_row expected = a_lease(1000, 5);
    assert_true(uuid_equal(&page.rows[0].row.lease_ref, &expected.lease_ref));
    assert_true(uuid_equal(&page.rows[0].row.scope_ref, &expected.scope_ref));
    assert_int_equal(page.rows[0].row.expires_ms, expected.expires_ms);
    assert_int_equal(page.rows[0].row.duration_ms, expected.duration_ms);
    assert_int_equal(page.rows[0].row.generation, 3);
    assert_int_equal(page.rows[0].row.state, LEASE_REVOKED);
    assert_int_equal(page.rows[0].row.ended_expires_ms, NOW_MS + 2);
    lease_page_fini(&page);
    lease_page_fini(&page);
    reader_free(reader);
    store_close(store);
    database_drop(&db);
}

static void origins_are_listed_with_their_leases(void **state)
{
    (void)state;
    struct database db;
    struct store_identity identity;
    struct origin_page page;
    struct uuid after = { { 0 } };
    static const size_t active[] = { 27, 0, 53 }; /* of 100, without each fifth */

    database_new(&db);
    struct store *store = open_store(&db, &identity);
    struct reader *reader = reader_new(db.conninfo);
    assert_int_equal(reader_origins(reader, NULL, 10, true, &page, NULL), ERR_OK);
    assert_int_equal(page.count, 0);
    origin_page_fini(&page);

    write_listed(store, 100);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(reader_origins(reader, &after, 1, true, &page, NULL), ERR_OK);
        assert_int_equal(page.count, 1);
        assert_int_equal(page.more, i < 2);
        assert_int_equal(page.rows[0].lease_count, active[i]);
        assert_true(page.rows[0].row.enrolled);
        assert_int_equal(page.rows[0].row.updated_ms, 2);
        assert_string_equal(page.rows[0].environment, i == 2 ? "{\"n\":2}" : "{}");
        after = page.rows[0].row.origin_ref;
        origin_page_fini(&page);
    }
    assert_int_equal(reader_origins(reader, NULL, 10, true, &page, NULL), ERR_OK);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(page.rows[i].lease_count, active[i]);
        for (size_t j = 0; j < active[i]; j++)
            assert_true(
                uuid_equal(&page.rows[i].leases[j].origin_ref, &page.rows[i].row.origin_ref));
    }
    origin_page_fini(&page);
    assert_int_equal(reader_origins(reader, NULL, 2, false, &page, NULL), ERR_OK);
    assert_int_equal(page.count, 2);
    assert_true(page.more);
    assert_null(page.rows[0].leases);
    origin_page_fini(&page);
    database_exec(&db, "UPDATE origin SET enrolled = false"); /* as deleting them does */
    assert_int_equal(reader_origins(reader, NULL, 10, true, &page, NULL), ERR_OK);
    assert_int_equal(page.count, 0);
    origin_page_fini(&page);
    reader_free(reader);
    store_close(store);
    database_drop(&db);
}

/* The leases of one page have a limit: the page ends before the origin that would pass it. */
static void a_page_of_origins_is_bounded_by_their_leases(void **state)
{
    (void)state;
    struct database db;
    struct store_identity identity;
    struct origin_page page;

    database_new(&db);
    store_close(open_store(&db, &identity));
    database_exec(
        &db, "INSERT INTO origin SELECT lpad(to_hex(i), 32, '0')::uuid, 1, 1, i, 0, true, NULL, "
             "gen_random_uuid() FROM generate_series(1, 3) i;"
             "INSERT INTO lease SELECT gen_random_uuid(), gen_random_uuid(), "
             "lpad(to_hex(1 + i / 40000), 32, '0')::uuid, gen_random_uuid(), 1, 1, 1, 1, 0, 0, "
             "1, 0, false, 0 FROM generate_series(0, 119999) i");
    struct reader *reader = reader_new(db.conninfo);
    assert_int_equal(reader_origins(reader, NULL, 10, true, &page, NULL), ERR_OK);
    assert_int_equal(page.count, 2);
    assert_true(page.more);
    assert_int_equal(page.rows[1].lease_count, 40000);
    struct uuid after = page.rows[1].row.origin_ref;
    origin_page_fini(&page);
    assert_int_equal(reader_origins(reader, &after, 10, true, &page, NULL), ERR_OK);
    assert_int_equal(page.count, 1);
    assert_false(page.more);
    assert_int_equal(page.rows[0].lease_count, 40000);
    origin_page_fini(&page);

    struct diag diag = { "" };
    database_exec(&db, "UPDATE lease SET origin_ref = lpad('1', 32, '0')::uuid");
    assert_int_equal(reader_origins(reader, NULL, 10, true, &page, &diag), ERR_STORE_CORRUPT);
    assert_non_null(strstr(diag.text, "more leases than any can have"));
    reader_free(reader);
    database_drop(&db);
}

static void the_newest_revision_is_listed(void **state)
{
    (void)state;
    struct database db;
    struct store_identity identity;
    struct uuid scope = uuid_of(3);
    int64_t seats = 5;
    struct entitlement_row rows[3];
    struct ledger_changes changes = { .entitlements = rows, .entitlement_count = 3, .seq = 3 };
    struct entitlement_page page;

    for (size_t i = 0; i < 3; i++) {
        struct uuid ref = uuid_of(i / 2);
        rows[i] = (struct entitlement_row){
            .entitlement = fake_entitlement(&ref, (int64_t)i + 1, 1, &scope, &seats),
            .installed_ms = NOW_MS + (int64_t)i,
            .seq = i + 1,
        };
    }
    database_new(&db);
    struct store *store = open_store(&db, &identity);
    commit(store, &changes);
    struct reader *reader = reader_new(db.conninfo);
    assert_int_equal(reader_entitlements(reader, &page, NULL), ERR_OK);
    assert_int_equal(page.count, 2);
    assert_int_equal(page.rows[0].revision, 2);
    assert_int_equal(page.rows[0].installed_ms, NOW_MS + 1);
    assert_string_equal(page.rows[0].text, rows[1].entitlement->text);
    assert_int_equal(page.rows[1].revision, 3);
    entitlement_page_fini(&page);
    for (size_t i = 0; i < 3; i++)
        entitlement_unref(rows[i].entitlement);
    reader_free(reader);
    store_close(store);
    database_drop(&db);
}

static void a_reader_comes_back_and_writes_nothing(void **state)
{
    (void)state;
    struct database db;
    struct store_identity identity;
    struct lease_page page;
    struct diag diag = { "" };
    char nowhere[500];

    database_new(&db);
    store_close(open_store(&db, &identity));
    struct reader *reader = reader_new(db.conninfo);
    assert_int_equal(reader_leases(reader, NULL, 1, -1, false, &page, NULL), ERR_OK);
    lease_page_fini(&page);
    assert_string_equal(
        database_value(&db,
                       "SELECT bool_and(pg_terminate_backend(pid, 5000)) FROM "
                       "pg_stat_activity WHERE datname = '%s' AND pid <> pg_backend_pid()",
                       db.name),
        "true");
    assert_int_equal(reader_leases(reader, NULL, 1, -1, false, &page, NULL), ERR_OK);
    lease_page_fini(&page);

    /* a damaged row is named, and the reader lives on */
    database_exec(&db,
                  "ALTER TABLE lease DROP CONSTRAINT lease_state_check, "
                  "DROP CONSTRAINT lease_end_fits_state;"
                  "INSERT INTO lease VALUES (lpad('a', 32, '0')::uuid, lpad('b', 32, '0')::uuid, "
                  "gen_random_uuid(), gen_random_uuid(), 1, 1, 1, 1, 0, 0, 1, 9, false, 0)");
    assert_int_equal(reader_leases(reader, NULL, 1, -1, false, &page, &diag), ERR_STORE_CORRUPT);
    assert_string_equal(
        diag.text, "table lease, lease_ref 00000000-0000-0000-0000-00000000000a, home "
                   "00000000-0000-0000-0000-00000000000b: column state holds 9, which it never "
                   "can");
    database_exec(&db, "DELETE FROM lease");
    assert_int_equal(reader_leases(reader, NULL, 1, -1, false, &page, NULL), ERR_OK);
    lease_page_fini(&page);
    reader_free(reader);
    assert_null(reader_free(NULL));

    snprintf(nowhere, sizeof nowhere, "%s host=/nowhere", db.conninfo);
    reader = reader_new(nowhere);
    assert_int_equal(reader_leases(reader, NULL, 1, -1, false, &page, &diag), ERR_STORE_AWAY);
    reader_free(reader);
    database_drop(&db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_database_gets_tables_and_a_name),
        cmocka_unit_test(every_column_is_described),
        cmocka_unit_test(a_second_node_is_told_who_owns_the_database),
        cmocka_unit_test(a_successor_waits_for_its_predecessor),
        cmocka_unit_test(another_schema_is_refused),
        cmocka_unit_test(an_unsafe_server_is_refused),
        cmocka_unit_test(wrong_settings_are_named),
        cmocka_unit_test(a_connection_string_is_never_repeated),
        cmocka_unit_test(right_uris_are_not_refused),
        cmocka_unit_test(a_role_without_rights_is_refused),
        cmocka_unit_test(another_instances_database_is_refused),
        cmocka_unit_test(a_lost_identity_is_not_replaced),
        cmocka_unit_test(a_batch_is_all_or_nothing),
        cmocka_unit_test(the_ceiling_is_written_alone_and_zero_leaves_it),
        cmocka_unit_test(somebody_elses_write_is_noticed),
        cmocka_unit_test(a_purged_reference_may_come_back_in_the_same_batch),
        cmocka_unit_test(a_reference_granted_anew_replaces_its_former_life),
        cmocka_unit_test(an_environment_stays_until_a_new_one_comes),
        cmocka_unit_test(own_knowledge_changes_without_a_number),
        cmocka_unit_test(an_entitlement_changes_its_minter),
        cmocka_unit_test(a_large_batch_is_still_one_transaction),
        cmocka_unit_test(renewals_touch_no_index),
        cmocka_unit_test(errors_of_the_server_are_told_apart),
        cmocka_unit_test(leases_are_listed_page_by_page),
        cmocka_unit_test(origins_are_listed_with_their_leases),
        cmocka_unit_test(a_page_of_origins_is_bounded_by_their_leases),
        cmocka_unit_test(the_newest_revision_is_listed),
        cmocka_unit_test(a_reader_comes_back_and_writes_nothing),
    };
    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
