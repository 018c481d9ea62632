/* The store while the database, its session or the wire fails. Run under tests/lib/with-postgres.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "database.h"
#include "store/pg.h"

static const struct uuid instance = { "instance-ref-001" };

static struct store *open_store(const char *conninfo, struct store_identity *identity)
{
    struct store *store = NULL;
    struct diag diag = { "" };

    if (store_open(conninfo, &instance, 15000, &store, identity, &diag) != ERR_OK)
        fail_msg("%s", diag.text);
    return store;
}

static enum err commit_lease(struct store *store, uint64_t seq, struct diag *diag)
{
    struct lease_row row = { .lease_ref = uuid_random(),
                             .home = { "home" },
                             .origin_ref = { "o" },
                             .scope_ref = { "s" },
                             .count = 1,
                             .created_ms = 1,
                             .duration_ms = 1,
                             .expires_ms = 1,
                             .seq = seq };
    struct ledger_changes changes = { .leases = &row, .lease_count = 1, .seq = seq };
    struct commit_receipt receipt;

    return store_commit(store, &changes, 1, &receipt, diag);
}

/* How much was committed, as the database sees it. */
static void assert_committed(const struct database *db, const char *count)
{
    assert_string_equal(database_value(db, "SELECT count(*) FROM lease"), count);
    assert_string_equal(database_value(db, "SELECT seq FROM node_state"), count);
}

/* ---- the server ------------------------------------------------------------------------------ */

static void a_restart_ends_the_session_and_nothing_else(void **state)
{
    (void)state;
    static const char *const ways[] = { "pg_stop", "pg_kill" };
    struct database db;
    struct store_identity identity;
    struct store *none = NULL;

    database_new(&db);
    for (uint64_t i = 0; i < ARRAY_SIZE(ways); i++) {
        struct diag diag = { "" };
        struct store *store = open_store(db.conninfo, &identity);
        assert_int_equal(identity.seq, i);
        assert_int_equal(commit_lease(store, i + 1, NULL), ERR_OK);
        assert_true(store_alive(store));
        cluster_command(ways[i]);
        assert_false(store_alive(store));
        assert_int_equal(store_open(db.conninfo, &instance, 0, &none, &identity, &diag),
                         ERR_STORE_AWAY);
        assert_null(none);
        cluster_command("pg_start");
        enum err err = commit_lease(store, i + 2, &diag);
        assert_true(err == ERR_STORE_AWAY || err == ERR_STORE_UNKNOWN);
        assert_true(*diag.text);
        store_close(store);
        char count[] = { (char)('1' + (int)i), '\0' };
        assert_committed(&db, count);
    }
    database_drop(&db);
}

static void a_terminated_session_is_noticed(void **state)
{
    (void)state;
    struct database db;
    struct store_identity identity;
    struct diag diag = { "" };

    database_new(&db);
    struct store *store = open_store(db.conninfo, &identity);
    assert_string_equal(
        database_value(&db,
                       "SELECT bool_and(pg_terminate_backend(pid, 5000)) FROM "
                       "pg_stat_activity WHERE datname = '%s' AND pid <> pg_backend_pid()",
                       db.name),
        "true");
    struct pollfd fd = { .fd = store_fd(store), .events = POLLIN };
    assert_int_equal(poll(&fd, 1, 5000), 1); /* an idle ledger thread would wake */
    assert_int_equal(commit_lease(store, 1, &diag), ERR_STORE_AWAY);
    assert_non_null(strstr(diag.text, "terminating connection"));
    assert_false(store_alive(store));
    store_close(store);
    assert_committed(&db, "0");

    store = open_store(db.conninfo, &identity);
    assert_int_equal(commit_lease(store, 1, &diag), ERR_OK);
    store_close(store);
    database_drop(&db);
}

static void a_missing_server_is_away(void **state)
{
    (void)state;
    struct database db;
    struct store *store = NULL;
    struct store_identity identity;
    struct diag diag = { "" };
    char conninfo[500];

    database_new(&db);
    snprintf(conninfo, sizeof conninfo, "%s host=/nowhere,127.0.0.1 port=5432,1", db.conninfo);
    assert_int_equal(store_open(conninfo, &instance, 0, &store, &identity, &diag), ERR_STORE_AWAY);
    assert_non_null(strstr(diag.text, "/nowhere"));
    assert_non_null(strstr(diag.text, "127.0.0.1")); /* each host has its say */

    /* and a second one takes its place */
    snprintf(conninfo, sizeof conninfo, "%s host=/nowhere,%s port=1,5432", db.conninfo,
             getenv("PGHOST"));
    store_close(open_store(conninfo, &identity));
    database_drop(&db);
}

/* ---- the wire -------------------------------------------------------------------------------- */

/* A proxy between the store and the server, in a socket folder of its own. */
enum fault {
    FAULT_NONE,
    FAULT_OTHER_PID,         /* answers with a process id of its own, as a pooler does */
    FAULT_CUT_BEFORE_COMMIT, /* COMMIT never reaches the server */
    FAULT_CUT_AFTER_COMMIT,  /* its answer never reaches the store */
};

struct proxy {
    char folder[32], conninfo[500];
    struct sockaddr_un address;
    int listen_fd;
    atomic_int fault;
    pthread_t thread;
};

/* Finds bytes in bytes, as memmem(). */
static unsigned char *find(unsigned char *bytes, ssize_t size, const char *what, size_t length)
{
    for (ssize_t i = 0; i + (ssize_t)length <= size; i++) {
        if (!memcmp(bytes + i, what, length))
            return bytes + i;
    }
    return NULL;
}

static bool forward(int to, const unsigned char *bytes, ssize_t size)
{
    while (size > 0) {
        ssize_t sent = send(to, bytes, (size_t)size, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        bytes += sent;
        size -= sent;
    }
    return true;
}

/* Passes one piece on; false to cut the connection. */
static bool pass(struct proxy *proxy, int from, int to, bool from_client)
{
    unsigned char bytes[65536], *at;
    ssize_t size = recv(from, bytes, sizeof bytes, 0);
    int fault = atomic_load(&proxy->fault);

    if (size <= 0)
        return false;
    if (from_client && fault == FAULT_CUT_BEFORE_COMMIT && find(bytes, size, "commit", 7))
        return false;
    if (!from_client && fault == FAULT_CUT_AFTER_COMMIT && find(bytes, size, "COMMIT", 7))
        return false;
    at = from_client ? NULL : find(bytes, size, "K\0\0\0\014", 5); /* BackendKeyData */
    if (at && fault == FAULT_OTHER_PID)
        at[8] ^= 1;
    return forward(to, bytes, size);
}

static void serve(struct proxy *proxy, int client)
{
    struct sockaddr_un server = { .sun_family = AF_UNIX };
    int upstream = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct pollfd fds[] = { { .fd = client, .events = POLLIN },
                            { .fd = upstream, .events = POLLIN } };
    bool going;

    snprintf(server.sun_path, sizeof server.sun_path, "%s/.s.PGSQL.5432", getenv("PGHOST"));
    going = connect(upstream, (const struct sockaddr *)&server, sizeof server) == 0;
    while (going && poll(fds, 2, -1) > 0) {
        for (int i = 0; going && i < 2; i++) {
            if (fds[i].revents)
                going = pass(proxy, fds[i].fd, fds[1 - i].fd, i == 0);
        }
    }
    close(upstream);
    close(client);
}

static void *run_proxy(void *context)
{
    struct proxy *proxy = context;
    int client;

    while ((client = accept4(proxy->listen_fd, NULL, NULL, SOCK_CLOEXEC)) >= 0)
        serve(proxy, client);
    return NULL;
}

static void proxy_start(struct proxy *proxy, const struct database *db)
{
    *proxy = (struct proxy){ .folder = "/tmp/twinlease-proxy.XXXXXX",
                             .address = { .sun_family = AF_UNIX } };
    assert_non_null(mkdtemp(proxy->folder));
    snprintf(proxy->address.sun_path, sizeof proxy->address.sun_path, "%s/.s.PGSQL.5432",
             proxy->folder);
    snprintf(proxy->conninfo, sizeof proxy->conninfo, "%s host=%s", db->conninfo, proxy->folder);
    proxy->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(
        bind(proxy->listen_fd, (const struct sockaddr *)&proxy->address, sizeof proxy->address), 0);
    assert_int_equal(listen(proxy->listen_fd, 5), 0);
    assert_int_equal(pthread_create(&proxy->thread, NULL, run_proxy, proxy), 0);
}

static void proxy_stop(struct proxy *proxy)
{
    assert_int_equal(shutdown(proxy->listen_fd, SHUT_RDWR), 0);
    assert_int_equal(pthread_join(proxy->thread, NULL), 0);
    close(proxy->listen_fd);
    assert_int_equal(unlink(proxy->address.sun_path), 0);
    assert_int_equal(rmdir(proxy->folder), 0);
}

static void a_pooler_is_refused(void **state)
{
    (void)state;
    struct database db;
    struct proxy proxy;
    struct store *store = NULL;
    struct store_identity identity;
    struct diag diag = { "" };

    database_new(&db);
    proxy_start(&proxy, &db);
    store_close(open_store(proxy.conninfo, &identity));
    atomic_store(&proxy.fault, FAULT_OTHER_PID);
    assert_int_equal(store_open(proxy.conninfo, &instance, 15000, &store, &identity, &diag),
                     ERR_STORE_UNSAFE);
    assert_non_null(strstr(diag.text, "pooler"));
    proxy_stop(&proxy);
    database_drop(&db);
}

/* The store cannot know which of the two happened, and says so. */
static void a_lost_answer_leaves_the_outcome_unknown(void **state)
{
    (void)state;
    static const struct {
        enum fault fault;
        const char *committed;
    } cases[] = {
        { FAULT_CUT_BEFORE_COMMIT, "1" },
        { FAULT_CUT_AFTER_COMMIT, "2" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct database db;
        struct proxy proxy;
        struct store_identity identity;
        struct diag diag = { "" };

        database_new(&db);
        proxy_start(&proxy, &db);
        struct store *store = open_store(proxy.conninfo, &identity);
        assert_int_equal(commit_lease(store, 1, NULL), ERR_OK);
        atomic_store(&proxy.fault, cases[i].fault);
        assert_int_equal(commit_lease(store, 2, &diag), ERR_STORE_UNKNOWN);
        assert_non_null(strstr(diag.text, "it is not known whether the last batch was committed"));
        assert_false(store_alive(store));
        store_close(store);

        /* once the lock is ours, the commit has landed or died (R13) */
        store = open_store(db.conninfo, &identity);
        assert_int_equal(identity.seq, (uint64_t)(*cases[i].committed - '0'));
        assert_committed(&db, cases[i].committed);
        store_close(store);
        proxy_stop(&proxy);
        database_drop(&db);
    }
}

/* COMMIT itself may fail cleanly: a deferred check answers there. */
static void an_error_at_commit_is_no_unknown_outcome(void **state)
{
    (void)state;
    struct database db;
    struct store_identity identity;
    struct diag diag = { "" };

    database_new(&db);
    store_close(open_store(db.conninfo, &identity));
    database_exec(&db, "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ "
                       "BEGIN RAISE EXCEPTION 'too late' USING ERRCODE = '53100'; END $$; "
                       "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON lease "
                       "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()");
    struct store *store = open_store(db.conninfo, &identity);
    assert_int_equal(commit_lease(store, 1, &diag), ERR_STORE_FULL);
    assert_non_null(strstr(diag.text, "too late"));
    store_close(store);
    assert_committed(&db, "0");
    database_drop(&db);
}

/* The session ends while COMMIT is at work: even with the server's own last words nobody knows. */
static void a_session_that_ends_at_commit_leaves_it_unknown(void **state)
{
    (void)state;
    struct database db;
    struct store_identity identity;
    struct diag diag = { "" };

    database_new(&db);
    store_close(open_store(db.conninfo, &identity));
    database_exec(&db, "CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS $$ "
                       "BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); "
                       "PERFORM pg_sleep(5); RETURN NULL; END $$; "
                       "CREATE CONSTRAINT TRIGGER leave AFTER INSERT ON lease "
                       "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION leave()");
    struct store *store = open_store(db.conninfo, &identity);
    assert_int_equal(commit_lease(store, 1, &diag), ERR_STORE_UNKNOWN);
    assert_non_null(strstr(diag.text, "terminating connection"));
    store_close(store);
    assert_committed(&db, "0");
    database_drop(&db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_restart_ends_the_session_and_nothing_else),
        cmocka_unit_test(a_terminated_session_is_noticed),
        cmocka_unit_test(a_missing_server_is_away),
        cmocka_unit_test(a_pooler_is_refused),
        cmocka_unit_test(a_lost_answer_leaves_the_outcome_unknown),
        cmocka_unit_test(an_error_at_commit_is_no_unknown_outcome),
        cmocka_unit_test(a_session_that_ends_at_commit_leaves_it_unknown),
    };
    return cmocka_run_group_tests_name("store_faults", tests, NULL, NULL);
}
