#include "gate.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

bool gate_init(struct gate *gate)
{
    gate->fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    return gate->fd >= 0;
}

void gate_fini(struct gate *gate)
{
    if (gate->fd >= 0)
        close(gate->fd);
    gate->fd = -1;
}

bool gate_enter(struct gate *gate, struct boot until, const struct cancel *cancel)
{
    eventfd_t count;

    while (eventfd_read(gate->fd, &count) != 0) {
        must(errno == EAGAIN || errno == EINTR);
        int64_t left_ms = until.ms - boot_now().ms;
        if (left_ms <= 0 || cancel_raised(cancel))
            return false;
        struct pollfd wait[] = { { .fd = gate->fd, .events = POLLIN },
                                 { .fd = cancel ? cancel->fd : -1, .events = POLLIN } };
        must(poll(wait, 2, left_ms < INT_MAX ? (int)left_ms : INT_MAX) >= 0 || errno == EINTR);
    }
    return true;
}

void gate_leave(struct gate *gate)
{
    must(eventfd_write(gate->fd, 1) == 0);
}
