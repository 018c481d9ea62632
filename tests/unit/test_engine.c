/* The single writer with a real PostgreSQL: batches, answers after the commit, a database that
 * comes and goes. Run under tests/lib/with-postgres. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "database.h"
#include "engine/engine.h"

#define QUEUE_MAX 64
#define BATCH_MAX 32
#define AWAIT_MS  20000
#define SEATS     100000

static const struct uuid instance = { "instance-ref-001" };
static const struct uuid scope = { "scope" };

/* ---- one engine -------------------------------------------------------------------------------
 */

static struct engine_conf conf_of(const struct database *db)
{
    return (struct engine_conf){
        .database = db->conninfo,
        .instance_ref = instance,
        .lease_max_ms = 3600000,
        .ended_keep_ms = 3600000,
        .clock_skew_max_ms = 300000,
        .queue_max = QUEUE_MAX,
        .batch_max = BATCH_MAX,
        .entitlement_open = fake_entitlement_open,
    };
}

static struct engine *start(const struct database *db)
{
    struct engine_conf conf = conf_of(db);
    struct engine *engine = NULL;
    struct diag diag = { "" };

    if (engine_start(&conf, &engine, &diag) != ERR_OK)
        fail_msg("%s", diag.text);
    return engine;
}

static void await_state(struct engine *engine, enum engine_state state)
{
    int64_t deadline_us = stopwatch_us() + AWAIT_MS * 1000;
    struct engine_status status;

    for (engine_status(engine, &status); status.state != state; engine_status(engine, &status)) {
        if (stopwatch_us() > deadline_us)
            fail_msg("still %s: %s", engine_state_name(status.state), status.diag.text);
        usleep(2000);
    }
}

/* ---- one command ------------------------------------------------------------------------------
 */

struct call {
    struct command command; /* first: done() gets it */
    struct grant_item item;
    pthread_mutex_t mutex;
    pthread_cond_t answered;
    int answers; /* must become 1 */
    void (*look)(struct call *call);
    void *context;
};

static void on_done(struct command *command)
{
    struct call *call = (struct call *)command;

    if (call->look)
        call->look(call);
    pthread_mutex_lock(&call->mutex);
    call->answers++;
    pthread_cond_signal(&call->answered);
    pthread_mutex_unlock(&call->mutex);
}

static void call_init(struct call *call, enum ledger_event_kind kind)
{
    *call = (struct call){ .command = { .event = { .kind = kind }, .done = on_done } };
    must(pthread_mutex_init(&call->mutex, NULL) == 0);
    must(pthread_cond_init(&call->answered, NULL) == 0);
}

static void call_fini(struct call *call)
{
    must(call->answers <= 1);
    ledger_result_fini(&call->command.result);
    pthread_cond_destroy(&call->answered);
    pthread_mutex_destroy(&call->mutex);
}

static enum err call_await(struct call *call)
{
    pthread_mutex_lock(&call->mutex);
    while (!call->answers)
        pthread_cond_wait(&call->answered, &call->mutex);
    pthread_mutex_unlock(&call->mutex);
    return call->command.result.err;
}

static enum err call_make(struct engine *engine, struct call *call)
{
    enum err err = engine_submit(engine, &call->command);

    return err == ERR_OK ? call_await(call) : err;
}

static void grant_init(struct call *call, const struct uuid *origin, const struct uuid *lease)
{
    call_init(call, LEDGER_GRANT);
    call->item = (struct grant_item){
        .has_lease_ref = true, .lease_ref = *lease, .scope_ref = scope, .count = 1
    };
    call->command.event.grant.origin.origin_ref = *origin;
    call->command.event.grant.items = &call->item;
    call->command.event.grant.item_count = 1;
}

static enum err grant(struct engine *engine, const struct uuid *lease)
{
    struct uuid origin = uuid_random();
    struct call call;

    grant_init(&call, &origin, lease);
    enum err err = call_make(engine, &call);
    call_fini(&call);
    return err;
}

static enum err renew(struct engine *engine, const struct uuid *origin, const struct uuid *lease)
{
    struct call call;

    call_init(&call, LEDGER_RENEW);
    call.command.event.renew.origin.origin_ref = *origin;
    call.command.event.renew.lease_ref = *lease;
    enum err err = call_make(engine, &call);
    call_fini(&call);
    return err;
}

static void install(struct engine *engine, int64_t seats)
{
    struct uuid ref = { "entitlement" };
    AUTO(entitlement_unref)
    struct entitlement *e = fake_entitlement(&ref, 1, 1, &scope, &seats);
    struct call call;

    call_init(&call, LEDGER_INSTALL);
    call.command.event.install.entitlement = e;
    assert_int_equal(call_make(engine, &call), ERR_OK);
    call_fini(&call);
}

static struct engine *start_with_seats(struct database *db, int64_t seats)
{
    database_new(db);
    struct engine *engine = start(db);
    install(engine, seats);
    return engine;
}

static void stop_and_drop(struct engine *engine, struct database *db)
{
    engine_stop(engine);
    AUTO(mem_free) char *broken = database_broken_rules(db);
    assert_string_equal(broken, "");
    database_drop(db);
}

static bool is_committed(const struct database *db, const struct uuid *lease)
{
    char ref[UUID_TEXT_SIZE];

    uuid_format(lease, ref);
    return !strcmp(database_value(db, "SELECT count(*) FROM lease WHERE lease_ref = '%s'", ref),
                   "1");
}

/* The lock that makes the engine's session the owner; lock 7 belongs to the tests below. */
#define OWNERS_LOCK                                                                                \
    "pg_locks WHERE locktype = 'advisory' AND objid <> 7 AND granted AND "                         \
    "database = (SELECT oid FROM pg_database WHERE datname = current_database())"

/* Ends the engine's session, as a failing server would. */
static void terminate_session(const struct database *db)
{
    database_exec(db, "SELECT pg_terminate_backend(pid) FROM " OWNERS_LOCK);
}

/* ---- commit, then speak (R13) ------------------------------------------------------------------
 */

static void look_into_database(struct call *call)
{
    must(is_committed(call->context, &call->item.lease_ref)); /* through another connection */
    must(call->command.receipt.seq >= call->command.result.leases[0].row.seq);
}

static void r13_answers_only_after_the_commit(void **state)
{
    struct database db;

    (void)state;
    struct engine *engine = start_with_seats(&db, SEATS);
    struct engine_status status;
    for (int i = 0; i < 20; i++) {
        struct uuid origin = uuid_random(), lease = uuid_random();
        struct call call;
        grant_init(&call, &origin, &lease);
        call.look = look_into_database;
        call.context = &db;
        assert_int_equal(call_make(engine, &call), ERR_OK);
        engine_status(engine, &status);
        assert_true(uuid_equal(&call.command.receipt.node_ref, &status.node_ref));
        call_fini(&call);
    }
    stop_and_drop(engine, &db);
}

/* A session's first batch always commits: its receipt is of this session, and the session is known
 * to be able to write. */
static void r13_first_answer_of_a_session_has_its_own_receipt(void **state)
{
    struct database db;
    struct uuid lease = uuid_random();
    struct call call;
    char expected[32];

    (void)state;
    struct engine *engine = start_with_seats(&db, 1);
    database_exec(&db, "UPDATE node_state SET seq = seq + 5"); /* a commit nobody heard of */
    terminate_session(&db);
    enum err err = grant(engine, &lease); /* notices, unless an idle batch already has */
    assert_true(err == ERR_OK || err_info(err)->http == 503);
    await_state(engine, ENGINE_READY);
    call_init(&call, LEDGER_SCOPES); /* changes nothing */
    assert_int_equal(call_make(engine, &call), ERR_OK);
    snprintf(expected, sizeof expected, "%" PRIu64, call.command.receipt.seq);
    assert_string_equal(database_value(&db, "SELECT seq FROM node_state"), expected);
    call_fini(&call);
    stop_and_drop(engine, &db);
}

/* ---- many threads ------------------------------------------------------------------------------
 */

enum { WORKERS = 8 };

struct worker {
    struct engine *engine;
    const struct database *db;
    pthread_t thread;
    atomic_bool *stop;
    int wanted;
    int granted, refused; /* refused: a 503 */
    struct uuid *leases, origin;
    int64_t last_ms;
};

static void note_answer(struct worker *w, const struct call *call, enum err err)
{
    if (err != ERR_OK) {
        must(err_info(err)->http == 503);
        w->refused++;
        return;
    }
    must(call->command.result.now_ms >= w->last_ms); /* R1 */
    w->last_ms = call->command.result.now_ms;
    w->leases[w->granted++] = call->item.lease_ref;
}

static void *work(void *context)
{
    struct worker *w = context;

    while (w->granted < w->wanted && !atomic_load(w->stop)) {
        struct uuid lease = uuid_random();
        struct call call;
        grant_init(&call, &w->origin, &lease);
        enum err err = call_make(w->engine, &call);
        note_answer(w, &call, err);
        call_fini(&call);
        if (err == ERR_OK) {
            err = renew(w->engine, &w->origin, &lease);
            must(err == ERR_OK || err_info(err)->http == 503);
        } else {
            usleep(1000);
        }
    }
    return NULL;
}

static void workers_start(struct worker workers[WORKERS], struct engine *engine,
                          const struct database *db, int wanted, atomic_bool *stop)
{
    for (int i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){
            .engine = engine, .db = db, .stop = stop, .wanted = wanted, .origin = uuid_random()
        };
        workers[i].leases = mem_calloc((size_t)wanted, sizeof *workers[i].leases);
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
}

/* Joins them; how many leases they were told. Every one of them must be in the database. */
static int workers_join(struct worker workers[WORKERS], const struct database *db)
{
    int granted = 0;

    for (int i = 0; i < WORKERS; i++) {
        pthread_join(workers[i].thread, NULL);
        for (int j = 0; j < workers[i].granted; j += 7) /* some of them, one by one */
            assert_true(is_committed(db, &workers[i].leases[j]));
        char origin[UUID_TEXT_SIZE], expected[64];
        uuid_format(&workers[i].origin, origin);
        snprintf(expected, sizeof expected, "true");
        assert_string_equal(
            database_value(db, "SELECT count(*) >= %d FROM lease WHERE origin_ref = '%s'",
                           workers[i].granted, origin),
            expected);
        granted += workers[i].granted;
        mem_free(workers[i].leases);
    }
    return granted;
}

static void batches_from_many_threads(void **state)
{
    struct worker workers[WORKERS];
    struct engine_status status;
    atomic_bool stop = false;
    struct database db;

    (void)state;
    struct engine *engine = start_with_seats(&db, SEATS);
    workers_start(workers, engine, &db, 100, &stop);
    assert_int_equal(workers_join(workers, &db), WORKERS * 100);
    engine_status(engine, &status);
    assert_int_equal(status.counts.active_leases, WORKERS * 100);
    assert_true(status.commands >= 2 * WORKERS * 100);
    assert_true(status.batches < status.commands); /* load raises the batch */
    assert_int_equal(status.commit_failures, 0);
    assert_int_equal(status.queue_depth, 0);
    assert_string_equal(database_value(&db, "SELECT count(*) FROM lease"), "800");
    stop_and_drop(engine, &db);
}

static void sessions_that_end_under_load(void **state)
{
    struct worker workers[WORKERS];
    struct engine_status status;
    atomic_bool stop = false;
    struct database db;
    int refused = 0;

    (void)state;
    struct engine *engine = start_with_seats(&db, SEATS);
    workers_start(workers, engine, &db, 1000000, &stop);
    for (uint64_t i = 1; i <= 6; i++) {
        do { /* until it has noticed; it may have been between two sessions */
            terminate_session(&db);
            usleep(20000);
            engine_status(engine, &status);
        } while (status.commit_failures < i);
        await_state(engine, ENGINE_READY);
        usleep(50000);
    }
    atomic_store(&stop, true);
    int granted = workers_join(workers, &db);
    for (int i = 0; i < WORKERS; i++)
        refused += workers[i].refused;
    assert_true(granted > WORKERS && refused > 0);
    engine_status(engine, &status);
    assert_true(status.reloads >= 7);
    stop_and_drop(engine, &db);
}

/* ---- the queue --------------------------------------------------------------------------------
 */

/* While this is held the engine's next commit waits, and the queue behind it fills. */
struct blockade {
    const struct database *db;
    pthread_t thread;
};

static void *hold_lease_table(void *context)
{
    struct blockade *b = context;

    database_exec(b->db, "BEGIN; LOCK TABLE lease IN ACCESS EXCLUSIVE MODE; "
                         "SELECT pg_advisory_lock(7); SELECT pg_advisory_unlock(7); COMMIT");
    return NULL;
}

/* A second session holds lock 7 until the blockade is lifted. */
static void *hold_seven(void *context)
{
    const struct database *db = context;

    database_exec(db, "SELECT pg_advisory_lock(7); "
                      "DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM pg_tables WHERE tablename = 'go') "
                      "LOOP PERFORM pg_sleep(0.01); END LOOP; END $$");
    return NULL;
}

static pthread_t seven;

static void blockade_raise(struct blockade *b, struct database *db)
{
    b->db = db;
    assert_int_equal(pthread_create(&seven, NULL, hold_seven, db), 0);
    database_await(db, "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' "
                       "AND objid = 7 AND granted");
    assert_int_equal(pthread_create(&b->thread, NULL, hold_lease_table, b), 0);
    database_await(db, "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'lease'::regclass "
                       "AND mode = 'AccessExclusiveLock' AND granted");
}

static void blockade_lift(struct blockade *b)
{
    database_exec(b->db, "CREATE TABLE go ()");
    pthread_join(seven, NULL);
    pthread_join(b->thread, NULL);
    database_exec(b->db, "DROP TABLE go");
}

static void await_empty_queue(struct engine *engine)
{
    int64_t deadline_us = stopwatch_us() + AWAIT_MS * 1000;
    struct engine_status status;

    do {
        if (stopwatch_us() > deadline_us)
            fail_msg("the queue is never emptied");
        engine_status(engine, &status);
    } while (status.queue_depth);
}

/* One grant waits for its commit, `count` others behind it in the queue. */
static void calls_pile_up(struct engine *engine, struct call *calls, size_t count)
{
    struct uuid origin = uuid_random();

    for (size_t i = 0; i <= count; i++) {
        struct uuid lease = uuid_random();
        grant_init(&calls[i], &origin, &lease);
        assert_int_equal(engine_submit(engine, &calls[i].command), ERR_OK);
        if (i == 0)
            await_empty_queue(engine);
    }
}

static void full_queue_refuses(void **state)
{
    struct call calls[QUEUE_MAX + 1];
    struct blockade blockade;
    struct database db;

    (void)state;
    struct engine *engine = start_with_seats(&db, SEATS);
    blockade_raise(&blockade, &db);
    calls_pile_up(engine, calls, QUEUE_MAX);
    struct uuid lease = uuid_random();
    assert_int_equal(grant(engine, &lease), ERR_OVERLOADED);
    blockade_lift(&blockade);
    for (size_t i = 0; i <= QUEUE_MAX; i++) {
        assert_int_equal(call_await(&calls[i]), ERR_OK);
        call_fini(&calls[i]);
    }
    assert_false(is_committed(&db, &lease));
    assert_int_equal(grant(engine, &lease), ERR_OK);
    stop_and_drop(engine, &db);
}

static void *stop_engine(void *engine)
{
    engine_stop(engine);
    return NULL;
}

/* Submits until the engine has begun to stop; how many were in time. */
static size_t submit_until_it_stops(struct engine *engine, struct call *calls, size_t max)
{
    for (size_t i = 0; i < max; i++) {
        call_init(&calls[i], LEDGER_SCOPES);
        enum err err = engine_submit(engine, &calls[i].command);
        if (err == ERR_NOT_READY) {
            call_fini(&calls[i]);
            return i;
        }
        assert_int_equal(err, ERR_OK);
        usleep(20000);
    }
    fail_msg("it never began to stop");
    return 0;
}

static void stop_commits_what_is_queued(void **state)
{
    enum { QUEUED = 3 * BATCH_MAX / 2, LATE = 12 };
    struct call calls[QUEUED + 1], late[LATE];
    struct blockade blockade;
    struct database db;
    pthread_t stopper;

    (void)state;
    struct engine *engine = start_with_seats(&db, SEATS);
    blockade_raise(&blockade, &db);
    calls_pile_up(engine, calls, QUEUED);
    assert_int_equal(pthread_create(&stopper, NULL, stop_engine, engine), 0);
    size_t in_time = submit_until_it_stops(engine, late, LATE);
    blockade_lift(&blockade);
    pthread_join(stopper, NULL);
    for (size_t i = 0; i < in_time; i++) {
        assert_int_equal(call_await(&late[i]), ERR_OK);
        call_fini(&late[i]);
    }
    for (size_t i = 0; i <= QUEUED; i++) {
        assert_int_equal(call_await(&calls[i]), ERR_OK);
        assert_true(is_committed(&db, &calls[i].item.lease_ref));
        call_fini(&calls[i]);
    }
    stop_and_drop(NULL, &db);
}

static void stop_while_the_database_is_away_answers_everybody(void **state)
{
    struct call calls[6];
    struct blockade blockade;
    struct database db;

    (void)state;
    struct engine *engine = start_with_seats(&db, SEATS);
    blockade_raise(&blockade, &db);
    calls_pile_up(engine, calls, ARRAY_SIZE(calls) - 1);
    terminate_session(&db); /* the commit fails, those queued are refused */
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
        assert_int_equal(err_info(call_await(&calls[i]))->http, 503);
        call_fini(&calls[i]);
    }
    engine_stop(engine);
    blockade_lift(&blockade);
    assert_string_equal(database_value(&db, "SELECT count(*) FROM lease"), "0");
    stop_and_drop(NULL, &db);
}

/* ---- who owns the database ---------------------------------------------------------------------
 */

static void a_second_engine_is_refused(void **state)
{
    struct database db;
    struct engine *second = NULL;
    struct diag diag = { "" };

    (void)state;
    struct engine *engine = start_with_seats(&db, 1);
    struct engine_conf conf = conf_of(&db);
    assert_int_equal(engine_start(&conf, &second, &diag), ERR_STORE_OWNED);
    assert_null(second);
    assert_non_null(strstr(diag.text, "another node owns the database"));
    struct uuid lease = uuid_random();
    assert_int_equal(grant(engine, &lease), ERR_OK); /* the first does not mind */
    stop_and_drop(engine, &db);
}

/* ---- the clock over restarts (R1) --------------------------------------------------------------
 */

static int64_t ledger_time(struct engine *engine)
{
    struct call call;

    call_init(&call, LEDGER_SCOPES);
    assert_int_equal(call_make(engine, &call), ERR_OK);
    int64_t now_ms = call.command.result.now_ms;
    call_fini(&call);
    return now_ms;
}

static void r1_clean_restart_does_not_jump(void **state)
{
    struct database db;

    (void)state;
    struct engine *engine = start_with_seats(&db, 1);
    for (int i = 0; i < 5; i++) {
        int64_t began_us = stopwatch_us(), before_ms = ledger_time(engine);
        engine_stop(engine);
        engine = start(&db);
        int64_t after_ms = ledger_time(engine);
        int64_t took_ms = (stopwatch_us() - began_us) / 1000;
        assert_true(after_ms > before_ms);
        assert_true(after_ms - before_ms <= took_ms + 20);
    }
    stop_and_drop(engine, &db);
}

/* Grants a lease in a process of its own, which then dies without a word. */
static int64_t grant_and_die(const struct database *db, const struct uuid *lease)
{
    int ends[2];
    int64_t now_ms = 0;

    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct engine *engine = start(db);
        install(engine, 1);
        must(grant(engine, lease) == ERR_OK);
        now_ms = ledger_time(engine);
        must(write(ends[1], &now_ms, sizeof now_ms) == sizeof now_ms);
        _exit(0);
    }
    assert_int_equal(read(ends[0], &now_ms, sizeof now_ms), sizeof now_ms);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    close(ends[0]);
    close(ends[1]);
    return now_ms;
}

static void r1_killed_engine_leaves_lease_and_time(void **state)
{
    struct uuid lease = uuid_random(), other = uuid_random();
    struct database db;

    (void)state;
    database_new(&db);
    int64_t shown_ms = grant_and_die(&db, &lease);
    struct engine *engine = start(&db);
    assert_true(ledger_time(engine) > shown_ms);
    assert_true(is_committed(&db, &lease));
    assert_int_equal(grant(engine, &other), ERR_NO_FREE_SEAT);
    stop_and_drop(engine, &db);
}

/* ---- a database that is away -------------------------------------------------------------------
 */

static void database_away_at_start(void **state)
{
    struct engine_status status;
    struct database db;
    struct uuid lease = uuid_random();

    (void)state;
    database_new(&db);
    cluster_command("pg_stop");
    struct engine *engine = start(&db);
    engine_status(engine, &status);
    assert_int_equal(status.state, ENGINE_STORE_AWAY);
    assert_int_equal(status.reason, ERR_STORE_AWAY);
    assert_true(strlen(status.diag.text) > 0);
    assert_true(uuid_is_nil(&status.node_ref));
    assert_int_equal(grant(engine, &lease), ERR_STORE_AWAY);
    cluster_command("pg_start");
    await_state(engine, ENGINE_READY);
    install(engine, 1);
    assert_int_equal(grant(engine, &lease), ERR_OK);
    stop_and_drop(engine, &db);
}

static void database_restarts_under_load(void **state)
{
    struct worker workers[WORKERS];
    atomic_bool stop = false;
    struct database db;

    (void)state;
    struct engine *engine = start_with_seats(&db, SEATS);
    workers_start(workers, engine, &db, 1000000, &stop);
    usleep(100000);
    cluster_command("pg_kill");
    await_state(engine, ENGINE_STORE_AWAY);
    cluster_command("pg_start");
    await_state(engine, ENGINE_READY);
    usleep(100000);
    atomic_store(&stop, true);
    assert_true(workers_join(workers, &db) > WORKERS);
    stop_and_drop(engine, &db);
}

/* It cannot happen by what HTTP lets through; if it does, it costs one batch and one reload. */
static void a_row_the_database_refuses_fails_only_its_batch(void **state)
{
    struct uuid lease = uuid_random();
    struct database db;
    struct call call;

    (void)state;
    struct engine *engine = start_with_seats(&db, 1);
    call_init(&call, LEDGER_ENROL);
    call.command.event.enrol.origin_ref = uuid_random();
    call.command.event.enrol.environment = "{\"hostname\":\"\xff\"}";
    assert_int_equal(err_info(call_make(engine, &call))->http, 503);
    call_fini(&call);
    await_state(engine, ENGINE_READY);
    assert_int_equal(grant(engine, &lease), ERR_OK);
    assert_string_equal(database_value(&db, "SELECT count(*) FROM origin"), "1");
    stop_and_drop(engine, &db);
}

static void database_of_another_instance(void **state)
{
    struct database db;
    struct engine *other = NULL;
    struct diag diag = { "" };

    (void)state;
    struct engine *engine = start_with_seats(&db, 1);
    engine_stop(engine);
    struct engine_conf conf = conf_of(&db);
    conf.instance_ref = uuid_random();
    assert_int_equal(engine_start(&conf, &other, &diag), ERR_STORE_REFUSED);
    assert_null(other);
    stop_and_drop(NULL, &db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(r13_answers_only_after_the_commit),
        cmocka_unit_test(r13_first_answer_of_a_session_has_its_own_receipt),
        cmocka_unit_test(batches_from_many_threads),
        cmocka_unit_test(sessions_that_end_under_load),
        cmocka_unit_test(full_queue_refuses),
        cmocka_unit_test(stop_commits_what_is_queued),
        cmocka_unit_test(stop_while_the_database_is_away_answers_everybody),
        cmocka_unit_test(a_second_engine_is_refused),
        cmocka_unit_test(r1_clean_restart_does_not_jump),
        cmocka_unit_test(r1_killed_engine_leaves_lease_and_time),
        cmocka_unit_test(database_away_at_start),
        cmocka_unit_test(database_restarts_under_load),
        cmocka_unit_test(a_row_the_database_refuses_fails_only_its_batch),
        cmocka_unit_test(database_of_another_instance),
    };

    return cmocka_run_group_tests_name("engine", tests, NULL, NULL);
}
