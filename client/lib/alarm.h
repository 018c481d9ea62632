/* A way out (cancel.h) that opens in two ways: somebody raises it, or an instant comes. */
#pragma once

#include "base/clock.h"
#include "cancel.h"

struct alarm {
    struct cancel stop; /* raise this one */
    int timer_fd;
    struct cancel any; /* hand this one to what is to be ended; never raise it itself */
};

/* False with errno: no descriptor is left. */
bool alarm_init(struct alarm *alarm) MUST_USE;
void alarm_fini(struct alarm *alarm);
/* Goes off at this instant, at once if it has passed; `ms` below 0: never. The boot clock goes on
 * while the machine is suspended: what passed meanwhile goes off on resume. */
void alarm_set(struct alarm *alarm, struct boot at);
/* Until it goes off or is stopped. */
void alarm_wait(const struct alarm *alarm);
