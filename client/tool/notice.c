#include "notice.h"

#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

bool notices_init(struct notices *notices)
{
    *notices = (struct notices){ .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
    if (notices->fd < 0) {
        notices->fd = 0;
        return false;
    }
    must(pthread_mutex_init(&notices->lock, NULL) == 0);
    return true;
}

void notices_fini(struct notices *notices)
{
    if (!notices->fd)
        return;
    close(notices->fd);
    pthread_mutex_destroy(&notices->lock);
    notices->fd = 0;
}

static void fill(struct notice *notice, const struct twinlease_change *change)
{
    *notice = (struct notice){
        .event = change->event,
        .at = boot_now(),
        .next_try_ms = change->next_try_ms,
    };
    if (change->error)
        notice->error = *change->error;
    if (!change->lease)
        return;
    snprintf(notice->lease_ref, sizeof notice->lease_ref, "%s", twinlease_lease_ref(change->lease));
    notice->count = twinlease_lease_count(change->lease);
    notice->expires_ms = twinlease_lease_expires_ms(change->lease);
    if (change->event != TWINLEASE_EVENT_LOST)
        notice->ends.ms = notice->at.ms + twinlease_lease_expires_in_ms(change->lease);
}

void notices_put(void *context, const struct twinlease_change *change)
{
    struct notices *notices = context;
    uint64_t one = 1;

    pthread_mutex_lock(&notices->lock);
    notices->count += notices->count < NOTICES_MAX;
    fill(&notices->items[notices->count - 1], change);
    pthread_mutex_unlock(&notices->lock);
    must(write(notices->fd, &one, sizeof one) == (ssize_t)sizeof one);
}

bool notices_take(struct notices *notices, struct notice *out)
{
    uint64_t told;

    pthread_mutex_lock(&notices->lock);
    bool any = notices->count > 0;
    if (any) {
        *out = notices->items[0];
        notices->count--;
        memmove(&notices->items[0], &notices->items[1], notices->count * sizeof notices->items[0]);
    } else if (read(notices->fd, &told, sizeof told) < 0) {
        told = 0; /* nothing since the last time */
    }
    pthread_mutex_unlock(&notices->lock);
    return any;
}
