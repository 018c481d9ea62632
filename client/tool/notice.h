/* What a keeper's thread has to tell, handed over to the main thread, which waits for it together
 * with everything else. */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "base/clock.h"
#include "twinlease.h"

#include "base/must.h"

#define NOTICES_MAX 32

/* struct twinlease_change, of which nothing is valid after the call, as far as it matters here. */
struct notice {
    enum twinlease_event event;
    struct boot at;
    char lease_ref[40];
    int64_t count, expires_ms;
    struct boot ends; /* of the lease; 0 with LOST and DENIED */
    int64_t next_try_ms;
    struct twinlease_error error; /* code OK: none */
};

struct notices {
    pthread_mutex_t lock;
    int fd; /* eventfd: readable while there are some */
    struct notice items[NOTICES_MAX];
    size_t count;
};

/* False with errno. */
bool notices_init(struct notices *notices) MUST_USE;
void notices_fini(struct notices *notices); /* also takes a zeroed one */
/* A twinlease_change_fn; context: the notices. Never waits: if nobody has taken the earlier ones,
 * the last one makes way, because only how it stands now matters. */
void notices_put(void *context, const struct twinlease_change *change);
/* The oldest; false: none for now. */
bool notices_take(struct notices *notices, struct notice *out);
