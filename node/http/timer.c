#include "http/timer.h"

#include <stddef.h>

#include "base/must.h"

void timer_queue_init(struct timer_queue *queue, int64_t span_ms)
{
    must(span_ms >= 0);
    *queue = (struct timer_queue){ .span_ms = span_ms };
    queue->anchor.previous = queue->anchor.next = &queue->anchor;
}

bool timer_queue_run(struct timer_queue *queue, struct boot now)
{
    bool fired = false;

    while (queue->anchor.next != &queue->anchor && queue->anchor.next->due.ms <= now.ms) {
        struct timer *timer = queue->anchor.next;
        timer_stop(timer);
        timer->fire(timer);
        fired = true;
    }
    return fired;
}

int64_t timer_queue_wait(const struct timer_queue *queue, struct boot now, int64_t most)
{
    const struct timer *first = queue->anchor.next;

    if (first == &queue->anchor)
        return most;
    int64_t left = first->due.ms - now.ms;
    return left < 0 ? 0 : left < most ? left : most;
}

void timer_start(struct timer_queue *queue, struct timer *timer, struct boot now,
                 void (*fire)(struct timer *timer))
{
    must(!timer_running(timer));
    timer->due.ms = now.ms + queue->span_ms;
    timer->fire = fire;
    timer->previous = queue->anchor.previous;
    timer->next = &queue->anchor;
    timer->previous->next = timer->next->previous = timer;
}

void timer_stop(struct timer *timer)
{
    if (!timer_running(timer))
        return;
    timer->previous->next = timer->next;
    timer->next->previous = timer->previous;
    timer->previous = timer->next = NULL;
}
