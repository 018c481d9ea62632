#include "notify.h"

#include <inttypes.h>
#include <systemd/sd-daemon.h>

#include "base/clock.h"

void notify_ready(void)
{
    sd_notify(0, "READY=1");
}

void notify_reloading(void)
{
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRId64, stopwatch_us());
}

void notify_stopping(int64_t ms)
{
    sd_notifyf(0, "STOPPING=1\nEXTEND_TIMEOUT_USEC=%" PRId64, ms * 1000);
}

void notify_alive(void)
{
    sd_notify(0, "WATCHDOG=1");
}

void notify_text(const char *text)
{
    sd_notifyf(0, "STATUS=%s", text);
}

int64_t notify_watchdog_ms(void)
{
    uint64_t us = 0;

    return sd_watchdog_enabled(0, &us) > 0 ? (int64_t)(us / 1000) : 0;
}
