#include "alarm.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

static void close_one(int fd)
{
    int saved = errno;

    if (fd >= 0)
        close(fd);
    errno = saved;
}

static bool watch(const struct alarm *alarm, int fd)
{
    struct epoll_event event = { .events = EPOLLIN };

    return epoll_ctl(alarm->any.fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* An epoll descriptor is readable while one of those it watches is: that makes one of two. */
bool alarm_init(struct alarm *alarm)
{
    *alarm = (struct alarm){ .stop.fd = -1, .timer_fd = -1, .any.fd = -1 };
    if (cancel_init(&alarm->stop) &&
        (alarm->timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK)) >= 0 &&
        (alarm->any.fd = epoll_create1(EPOLL_CLOEXEC)) >= 0 && watch(alarm, alarm->stop.fd) &&
        watch(alarm, alarm->timer_fd))
        return true;
    alarm_fini(alarm);
    return false;
}

void alarm_fini(struct alarm *alarm)
{
    close_one(alarm->any.fd);
    close_one(alarm->timer_fd);
    close_one(alarm->stop.fd);
    *alarm = (struct alarm){ .stop.fd = -1, .timer_fd = -1, .any.fd = -1 };
}

void alarm_set(struct alarm *alarm, struct boot at)
{
    struct itimerspec when = { .it_value.tv_sec = 0 };

    if (at.ms >= 0) {
        when.it_value.tv_sec = (time_t)(at.ms / 1000);
        when.it_value.tv_nsec = (at.ms % 1000) * 1000000 + 1; /* all zero would be never */
    }
    must(timerfd_settime(alarm->timer_fd, TFD_TIMER_ABSTIME, &when, NULL) == 0);
}

void alarm_wait(const struct alarm *alarm)
{
    struct pollfd wait = { .fd = alarm->any.fd, .events = POLLIN };

    must(poll(&wait, 1, -1) == 1 || errno == EINTR);
}
