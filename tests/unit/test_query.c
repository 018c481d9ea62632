/* Query threads: every job that was taken is run and done exactly once, on a query thread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "engine/query.h"

#define NO_DATABASE "host=/nowhere dbname=none"

struct counted {
    struct query_job job;
    atomic_int run, done;
};

static void count_run(struct query_job *job, struct reader *reader)
{
    assert_non_null(reader);
    atomic_fetch_add(&((struct counted *)job)->run, 1);
}

static void count_done(struct query_job *job)
{
    struct counted *counted = (struct counted *)job;

    assert_int_equal(atomic_load(&counted->run), 1);
    atomic_fetch_add(&counted->done, 1);
}

/* ---- many submitters, many threads ----------------------------------------------------------- */

enum { SUBMITTERS = 4, JOBS = 500, QUEUE = 64 };

struct submitter {
    struct query_pool *pool;
    struct counted jobs[JOBS];
    int taken;
    pthread_t thread;
};

static void *submit_jobs(void *context)
{
    struct submitter *s = context;

    for (int i = 0; i < JOBS; i++) {
        s->jobs[i].job.run = count_run;
        s->jobs[i].job.done = count_done;
        enum err err;
        while ((err = query_submit(s->pool, &s->jobs[i].job)) == ERR_OVERLOADED)
            sched_yield();
        must(err == ERR_OK);
        s->taken++;
    }
    return NULL;
}

static void every_job_is_done_once(void **state)
{
    (void)state;
    struct query_pool *pool = query_start(NO_DATABASE, 3, QUEUE);
    struct submitter *submitters = mem_calloc(SUBMITTERS, sizeof *submitters);

    for (int i = 0; i < SUBMITTERS; i++) {
        submitters[i].pool = pool;
        assert_int_equal(pthread_create(&submitters[i].thread, NULL, submit_jobs, &submitters[i]),
                         0);
    }
    for (int i = 0; i < SUBMITTERS; i++)
        assert_int_equal(pthread_join(submitters[i].thread, NULL), 0);
    assert_null(query_stop(pool)); /* finishes what is queued */
    for (int i = 0; i < SUBMITTERS; i++) {
        assert_int_equal(submitters[i].taken, JOBS);
        for (int j = 0; j < JOBS; j++)
            assert_int_equal(atomic_load(&submitters[i].jobs[j].done), 1);
    }
    mem_free(submitters);
}

/* ---- a full queue ---------------------------------------------------------------------------- */

/* A job that holds its thread until the gate opens. */
struct gate {
    struct query_job job;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool entered, open;
    bool done;
};

static void pass_gate(struct query_job *job, struct reader *reader)
{
    struct gate *gate = (struct gate *)job;

    (void)reader;
    pthread_mutex_lock(&gate->mutex);
    gate->entered = true;
    pthread_cond_broadcast(&gate->changed);
    while (!gate->open)
        pthread_cond_wait(&gate->changed, &gate->mutex);
    pthread_mutex_unlock(&gate->mutex);
}

static void gate_done(struct query_job *job)
{
    ((struct gate *)job)->done = true;
}

static void a_full_queue_refuses_and_stop_finishes_it(void **state)
{
    (void)state;
    struct gate gate = { .job = { .run = pass_gate, .done = gate_done },
                         .mutex = PTHREAD_MUTEX_INITIALIZER,
                         .changed = PTHREAD_COND_INITIALIZER };
    struct counted jobs[3] = { 0 };
    struct query_pool *pool = query_start(NO_DATABASE, 1, 2);

    for (size_t i = 0; i < ARRAY_SIZE(jobs); i++)
        jobs[i].job = (struct query_job){ .run = count_run, .done = count_done };
    assert_int_equal(query_submit(pool, &gate.job), ERR_OK);
    pthread_mutex_lock(&gate.mutex);
    while (!gate.entered) /* the only thread is busy, the queue is empty */
        pthread_cond_wait(&gate.changed, &gate.mutex);
    pthread_mutex_unlock(&gate.mutex);
    assert_int_equal(query_submit(pool, &jobs[0].job), ERR_OK);
    assert_int_equal(query_submit(pool, &jobs[1].job), ERR_OK);
    assert_int_equal(query_submit(pool, &jobs[2].job), ERR_OVERLOADED);

    pthread_mutex_lock(&gate.mutex);
    gate.open = true;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.mutex);
    query_stop(pool);
    assert_true(gate.done);
    assert_int_equal(atomic_load(&jobs[0].done), 1);
    assert_int_equal(atomic_load(&jobs[1].done), 1);
    assert_int_equal(atomic_load(&jobs[2].run), 0);
}

/* ---- a job that hands its successor in ------------------------------------------------------- */

struct chain {
    struct query_job job;
    struct query_pool *pool;
    atomic_int left;
};

static void chain_run(struct query_job *job, struct reader *reader)
{
    (void)job;
    (void)reader;
}

/* done() has the job back, and may submit it again. */
static void chain_done(struct query_job *job)
{
    struct chain *chain = (struct chain *)job;

    if (atomic_fetch_sub(&chain->left, 1) > 1)
        must(query_submit(chain->pool, &chain->job) == ERR_OK);
}

static void a_done_job_may_be_submitted_again(void **state)
{
    (void)state;
    struct chain chain = { .job = { .run = chain_run, .done = chain_done },
                           .pool = query_start(NO_DATABASE, 2, 1) };

    atomic_store(&chain.left, 1000);
    assert_int_equal(query_submit(chain.pool, &chain.job), ERR_OK);
    while (atomic_load(&chain.left) > 0)
        sched_yield();
    query_stop(chain.pool);
    assert_int_equal(atomic_load(&chain.left), 0);
}

/* ---- a job that reads ------------------------------------------------------------------------ */

struct failing {
    struct query_job job;
    enum err err;
    bool done;
};

static void read_nothing(struct query_job *job, struct reader *reader)
{
    struct lease_page page;

    ((struct failing *)job)->err = reader_leases(reader, NULL, 1, -1, false, &page, NULL);
}

static void failing_done(struct query_job *job)
{
    ((struct failing *)job)->done = true;
}

static void a_job_is_told_that_the_database_is_away(void **state)
{
    (void)state;
    struct failing jobs[2] = { { .job = { .run = read_nothing, .done = failing_done } },
                               { .job = { .run = read_nothing, .done = failing_done } } };
    struct query_pool *pool = query_start(NO_DATABASE, 1, 2);

    assert_int_equal(query_submit(pool, &jobs[0].job), ERR_OK);
    assert_int_equal(query_submit(pool, &jobs[1].job), ERR_OK);
    query_stop(pool);
    for (size_t i = 0; i < ARRAY_SIZE(jobs); i++) {
        assert_true(jobs[i].done);
        assert_int_equal(jobs[i].err, ERR_STORE_AWAY);
    }
    assert_null(query_stop(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_job_is_done_once),
        cmocka_unit_test(a_full_queue_refuses_and_stop_finishes_it),
        cmocka_unit_test(a_done_job_may_be_submitted_again),
        cmocka_unit_test(a_job_is_told_that_the_database_is_away),
    };
    return cmocka_run_group_tests_name("query", tests, NULL, NULL);
}
