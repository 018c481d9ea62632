/* A way out of a wait, for whoever is not the one that waits: another thread, a signal handler.
 * Once raised it stays so until it is lowered, so it does not matter who comes first. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/must.h"

struct cancel {
    int fd; /* eventfd: readable while raised; may be polled beside other descriptors */
};

/* False with errno: no descriptor is left. */
bool cancel_init(struct cancel *cancel) MUST_USE;
void cancel_fini(struct cancel *cancel);
void cancel_raise(struct cancel *cancel); /* async-signal-safe */
void cancel_lower(struct cancel *cancel);
/* NULL is never raised. */
bool cancel_raised(const struct cancel *cancel);
/* Waits for so long, on the boot clock; true, at once, if it is or gets raised. */
bool cancel_wait(const struct cancel *cancel, int64_t ms);
