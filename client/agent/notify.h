/* What the agent tells systemd (sd_notify(3)); nothing at all if nobody listens. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

void notify_ready(void);
void notify_reloading(void);      /* until notify_ready() */
void notify_stopping(int64_t ms); /* that long it may take */
void notify_alive(void);
void notify_text(const char *text); /* STATUS= */

/* Within how many milliseconds each notify_alive() must follow the last one; 0: nobody watches. */
int64_t notify_watchdog_ms(void);
