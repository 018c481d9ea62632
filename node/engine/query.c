/* Query threads. A fixed number of threads share one bounded queue; each has a reader of its own.
 *
 * Happy path: submit appends and wakes a thread; the thread takes the oldest job, calls run() and
 * done(), and forgets it. Stop lets the threads empty the queue and joins them, so every job that
 * was taken has its done() called exactly once. */
#include "engine/query.h"

#include <pthread.h>

#define QUERY_THREADS_MAX 16

struct query_pool {
    pthread_mutex_t mutex; /* guards what follows, up to the blank line */
    pthread_cond_t work;   /* a job came, or stopping was set */
    struct query_job *first, *last;
    uint32_t queued;
    bool stopping;

    uint32_t queue_max;
    char *conninfo;
    unsigned thread_count;
    pthread_t threads[QUERY_THREADS_MAX];
};

/* Blocks until there is a job; NULL once the pool stops and nothing is left. */
static struct query_job *take_job(struct query_pool *pool)
{
    struct query_job *job;

    must(pthread_mutex_lock(&pool->mutex) == 0);
    while (!pool->first && !pool->stopping)
        must(pthread_cond_wait(&pool->work, &pool->mutex) == 0);
    job = pool->first;
    if (job) {
        must(pool->queued > 0);
        pool->first = job->next;
        if (!pool->first)
            pool->last = NULL;
        pool->queued--;
        job->next = NULL;
    }
    must(pthread_mutex_unlock(&pool->mutex) == 0);
    return job;
}

static void *run_jobs(void *context)
{
    struct query_pool *pool = context;
    struct reader *reader = reader_new(pool->conninfo);
    struct query_job *job;

    while ((job = take_job(pool))) {
        job->run(job, reader);
        job->done(job); /* the job is its owner's again */
    }
    reader_free(reader);
    return NULL;
}

struct query_pool *query_start(const char *conninfo, unsigned threads, uint32_t queue_max)
{
    struct query_pool *pool = mem_calloc(1, sizeof *pool);

    must(threads >= 1 && threads <= QUERY_THREADS_MAX && queue_max >= 1);
    must(pthread_mutex_init(&pool->mutex, NULL) == 0);
    must(pthread_cond_init(&pool->work, NULL) == 0);
    pool->queue_max = queue_max;
    pool->conninfo = mem_strdup(conninfo);
    pool->thread_count = threads;
    for (unsigned i = 0; i < threads; i++)
        must(pthread_create(&pool->threads[i], NULL, run_jobs, pool) == 0);
    return pool;
}

struct query_pool *query_stop(struct query_pool *pool)
{
    if (!pool)
        return NULL;
    must(pthread_mutex_lock(&pool->mutex) == 0);
    pool->stopping = true;
    must(pthread_cond_broadcast(&pool->work) == 0);
    must(pthread_mutex_unlock(&pool->mutex) == 0);
    for (unsigned i = 0; i < pool->thread_count; i++)
        must(pthread_join(pool->threads[i], NULL) == 0);
    must(!pool->first && pool->queued == 0);
    must(pthread_cond_destroy(&pool->work) == 0);
    must(pthread_mutex_destroy(&pool->mutex) == 0);
    explicit_bzero(pool->conninfo, strlen(pool->conninfo)); /* it may hold a password */
    mem_free(pool->conninfo);
    mem_free(pool);
    return NULL;
}

enum err query_submit(struct query_pool *pool, struct query_job *job)
{
    enum err err = ERR_OK;

    must(job->run && job->done);
    must(pthread_mutex_lock(&pool->mutex) == 0);
    if (pool->stopping) {
        err = ERR_NOT_READY;
    } else if (pool->queued == pool->queue_max) {
        err = ERR_OVERLOADED;
    } else {
        job->next = NULL;
        if (pool->last)
            pool->last->next = job;
        else
            pool->first = job;
        pool->last = job;
        pool->queued++;
        must(pthread_cond_signal(&pool->work) == 0);
    }
    must(pthread_mutex_unlock(&pool->mutex) == 0);
    return err;
}
