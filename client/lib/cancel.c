#include "cancel.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"

bool cancel_init(struct cancel *cancel)
{
    cancel->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return cancel->fd >= 0;
}

void cancel_fini(struct cancel *cancel)
{
    if (cancel->fd >= 0)
        close(cancel->fd);
    cancel->fd = -1;
}

/* A counter at its maximum refuses, and is readable all the same. */
void cancel_raise(struct cancel *cancel)
{
    int saved = errno;
    uint64_t one = 1;

    (void)!write(cancel->fd, &one, sizeof one);
    errno = saved;
}

void cancel_lower(struct cancel *cancel)
{
    uint64_t count;

    (void)!read(cancel->fd, &count, sizeof count);
}

static bool poll_once(const struct cancel *cancel, int timeout_ms)
{
    struct pollfd wait = { .fd = cancel ? cancel->fd : -1, .events = POLLIN };
    int ready = poll(&wait, 1, timeout_ms);

    must(ready >= 0 || errno == EINTR);
    return ready > 0;
}

bool cancel_raised(const struct cancel *cancel)
{
    return cancel && poll_once(cancel, 0);
}

/* poll() sleeps by a clock that stands still while the machine is suspended: never for long at a
 * time, so that a wait that has passed meanwhile ends soon after. */
#define NAP_MS 1000

bool cancel_wait(const struct cancel *cancel, int64_t ms)
{
    struct boot until = { boot_now().ms + ms };
    int64_t left_ms = ms;

    do {
        if (poll_once(cancel, (int)(left_ms < 0 ? 0 : left_ms < NAP_MS ? left_ms : NAP_MS)))
            return true;
        left_ms = until.ms - boot_now().ms;
    } while (left_ms > 0);
    return false;
}
