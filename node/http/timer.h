/* Timers of an event loop, by the boot clock: libh2o's own follow the wall clock, so somebody
 * setting it would fire or stop them. All timers of one queue have the same span, so it is a list
 * in the order of starting. One thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"

struct timer {
    struct timer *previous, *next; /* NULL: not running */
    struct boot due;
    void (*fire)(struct timer *timer);
};

struct timer_queue {
    int64_t span_ms;
    struct timer anchor;
};

void timer_queue_init(struct timer_queue *queue, int64_t span_ms);
/* Calls what is due, and tells if anything was. A timer has stopped when its fire() is called. */
bool timer_queue_run(struct timer_queue *queue, struct boot now);
/* Milliseconds until the first one is due, at most `most`. */
int64_t timer_queue_wait(const struct timer_queue *queue, struct boot now, int64_t most);

void timer_start(struct timer_queue *queue, struct timer *timer, struct boot now,
                 void (*fire)(struct timer *timer));
void timer_stop(struct timer *timer); /* also one that does not run */
static inline bool timer_running(const struct timer *timer)
{
    return timer->next != NULL;
}
