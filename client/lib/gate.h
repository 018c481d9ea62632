/* A mutex for work that takes as long as the network does: waiting for it ends in time. (POSIX's
 * timed locks know no clock that both goes on while suspended and never steps.) */
#pragma once

#include <stdbool.h>

#include "base/clock.h"
#include "cancel.h"

struct gate {
    int fd; /* eventfd: 1 while nobody is inside */
};

/* False with errno: no descriptor is left. */
bool gate_init(struct gate *gate) MUST_USE;
void gate_fini(struct gate *gate);
/* False if it was not free until then, or the wait was cancelled. */
bool gate_enter(struct gate *gate, struct boot until, const struct cancel *cancel) MUST_USE;
void gate_leave(struct gate *gate);
