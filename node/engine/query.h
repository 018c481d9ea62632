/* Query threads: reads that need whole tables, on read-only connections, away from the ledger
 * thread and the event loops. */
#pragma once

#include "base/err.h"
#include "store/store.h"

struct query_pool;

/* run() is called on a query thread and may block on the reader; done() follows on the same thread
 * and hands the result over. The job belongs to the pool between submit and done(). */
struct query_job {
    void (*run)(struct query_job *job, struct reader *reader);
    void (*done)(struct query_job *job);
    struct query_job *next; /* the pool's */
};

/* threads: 1 … 16. queue_max: jobs waiting; above it query_submit() says ERR_OVERLOADED. */
struct query_pool *query_start(const char *conninfo, unsigned threads, uint32_t queue_max);
/* NULL in, NULL out; finishes what is queued. Nobody may submit any more. */
struct query_pool *query_stop(struct query_pool *pool);
/* ERR_OVERLOADED: the queue is full. The job was not taken then. */
enum err query_submit(struct query_pool *pool, struct query_job *job) MUST_USE;
