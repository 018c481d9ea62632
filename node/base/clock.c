#include "base/clock.h"

#include <errno.h>

#include <stdio.h>
#include <time.h>

#include "base/must.h"

static int64_t read_clock(clockid_t id)
{
    struct timespec now;

    must(clock_gettime(id, &now) == 0);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

struct wall wall_now(void)
{
    return (struct wall){ read_clock(CLOCK_REALTIME) };
}

struct boot boot_now(void)
{
    return (struct boot){ read_clock(CLOCK_BOOTTIME) };
}

int64_t stopwatch_us(void)
{
    struct timespec now;

    must(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

struct timespec deadline_after(int64_t ms)
{
    struct timespec at;

    must(ms >= 0 && clock_gettime(CLOCK_MONOTONIC, &at) == 0);
    at.tv_sec += ms / 1000;
    at.tv_nsec += ms % 1000 * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_nsec -= 1000000000;
        at.tv_sec++;
    }
    return at;
}

/* Civil date of a day number, after Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms":
 * own arithmetic, because gmtime_r reads the TZ database on some systems and is slow. */
static void civil_from_days(int64_t day, int *year, int *month, int *day_of_month)
{
    day += 719468;
    int64_t era = (day >= 0 ? day : day - 146096) / 146097;
    int64_t doe = day - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;

    *day_of_month = (int)(doy - (153 * mp + 2) / 5 + 1);
    *month = (int)(mp < 10 ? mp + 3 : mp - 9);
    *year = (int)(yoe + era * 400 + (*month <= 2));
}

void rfc3339_format(int64_t ms, char out[RFC3339_SIZE])
{
    const int64_t first_ms = -62167219200000, last_ms = 253402300799999;
    int year, month, day;

    if (ms < first_ms)
        ms = first_ms;
    if (ms > last_ms)
        ms = last_ms;
    int64_t days = ms / 86400000;
    int64_t rest = ms % 86400000;
    if (rest < 0) {
        rest += 86400000;
        days--;
    }
    civil_from_days(days, &year, &month, &day);
    int second = (int)(rest / 1000);
    int length = snprintf(out, RFC3339_SIZE, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", year % 10000,
                          month % 100, day % 100, second / 3600 % 100, second / 60 % 60,
                          second % 60, (int)(rest % 1000));
    must(length == RFC3339_SIZE - 1);
}

void wait_ms(int64_t ms)
{
    struct timespec until = deadline_after(ms);

    while (ms > 0 && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}
