#include "instant.h"

#include <string.h>

#define MINUTE_MS 60000
#define DAY_MS    86400000

/* Reads exactly `digits` digits, in range, and moves on. */
static bool read_number(const char **at, int digits, int max, int *out)
{
    int value = 0;

    for (int i = 0; i < digits; i++) {
        if ((*at)[i] < '0' || (*at)[i] > '9')
            return false;
        value = value * 10 + ((*at)[i] - '0');
    }
    if (value > max)
        return false;
    *at += digits;
    *out = value;
    return true;
}

static bool read_char(const char **at, const char *accepted)
{
    if (!**at || !strchr(accepted, **at))
        return false;
    ++*at;
    return true;
}

static int days_of_month(int year, int month)
{
    static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return days[month - 1] + (month == 2 && leap);
}

/* Days since 1970-01-01 of a civil date: after Howard Hinnant, "chrono-Compatible Low-Level Date
 * Algorithms", like its inverse in base/clock.c. */
static int64_t days_from_civil(int year, int month, int day)
{
    int64_t y = year - (month <= 2);
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

    return era * 146097 + day_of_era - 719468;
}

static bool read_date(const char **at, int64_t *ms)
{
    int year, month, day;

    if (!read_number(at, 4, 9999, &year) || !read_char(at, "-") ||
        !read_number(at, 2, 12, &month) || month < 1 || !read_char(at, "-") ||
        !read_number(at, 2, days_of_month(year, month), &day) || day < 1)
        return false;
    *ms = days_from_civil(year, month, day) * DAY_MS;
    return true;
}

static bool read_fraction(const char **at, int *ms)
{
    int scale = 100;

    *ms = 0;
    if (!read_char(at, "."))
        return true;
    const char *begin = *at;
    for (; **at >= '0' && **at <= '9'; ++*at, scale /= 10)
        *ms += (**at - '0') * scale;
    return *at > begin;
}

static bool read_time(const char **at, int64_t *ms)
{
    int hour, minute, second, fraction;

    if (!read_number(at, 2, 23, &hour) || !read_char(at, ":") || !read_number(at, 2, 59, &minute) ||
        !read_char(at, ":") || !read_number(at, 2, 60, &second) || !read_fraction(at, &fraction))
        return false;
    *ms = (hour * 60 + minute) * (int64_t)MINUTE_MS + second * 1000 + fraction;
    return true;
}

static bool read_offset(const char **at, int64_t *ms)
{
    int hour, minute;

    *ms = 0;
    if (read_char(at, "Zz"))
        return true;
    bool west = **at == '-';
    if (!read_char(at, "+-") || !read_number(at, 2, 23, &hour) || !read_char(at, ":") ||
        !read_number(at, 2, 59, &minute))
        return false;
    *ms = (hour * 60 + minute) * (int64_t)MINUTE_MS * (west ? -1 : 1);
    return true;
}

bool instant_parse(const char *text, int64_t *out_ms)
{
    int64_t date_ms, time_ms, offset_ms;

    if (!read_date(&text, &date_ms) || !read_char(&text, "Tt ") || !read_time(&text, &time_ms) ||
        !read_offset(&text, &offset_ms) || *text)
        return false;
    *out_ms = date_ms + time_ms - offset_ms;
    return true;
}

bool instant_parse_date(const char *text, int64_t *out_ms)
{
    int64_t ms;

    if (!read_date(&text, &ms) || *text)
        return false;
    *out_ms = ms;
    return true;
}
