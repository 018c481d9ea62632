#include "base/log.h"

#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/utf8.h"

#define LINE_MAX_BYTES 8192
#define REST_WAIT_MS   1000 /* for the rest of a line that has begun */

static enum log_level lowest_level = LOG_INFO;
static bool as_json = true;
static enum log_text text_form = LOG_TEXT_FULL;

static const char *const level_names[LOG_LEVELS] = { "debug", "info", "warning", "error" };

void log_init(enum log_format format, enum log_level lowest)
{
    log_init_text(format, lowest, LOG_TEXT_FULL);
}

void log_init_text(enum log_format format, enum log_level lowest, enum log_text text)
{
    must(format < LOG_FORMATS && lowest < LOG_LEVELS);
    lowest_level = lowest;
    text_form = text;
    as_json = format == LOG_FORMAT_AUTO ? !isatty(STDERR_FILENO) : format == LOG_FORMAT_JSON;
}

bool log_to_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat status;
    char here[64];

    if (!stream || fstat(STDERR_FILENO, &status) != 0)
        return false;
    snprintf(here, sizeof here, "%ju:%ju", (uintmax_t)status.st_dev, (uintmax_t)status.st_ino);
    return strcmp(stream, here) == 0;
}

bool log_enabled(enum log_level level)
{
    return level >= lowest_level;
}

/* JSON string content (RFC 8259 §7). A request's bytes may be logged before anything has looked at
 * them, so what is no UTF-8 becomes U+FFFD; and as a line may end up on a terminal, control
 * characters are escaped, those beyond ASCII (U+0080 … U+009F) as well. */
static void append_safe(struct buf *line, const char *text, bool quoted)
{
    for (size_t left = strlen(text), size; left; text += size, left -= size) {
        unsigned char byte = (unsigned char)text[0];
        size_t found = utf8_size(text, left);
        size = found ? found : 1;
        if (!found)
            buf_text_append(line, "\\ufffd");
        else if (quoted && (byte == '"' || byte == '\\'))
            buf_format(line, "\\%c", byte);
        else if (byte < 0x20 || byte == 0x7f)
            buf_format(line, "\\u%04x", byte);
        else if (byte == 0xc2 && (unsigned char)text[1] < 0xa0)
            buf_format(line, "\\u%04x", (unsigned char)text[1]);
        else
            buf_append(line, text, size);
    }
}

static void append_escaped(struct buf *line, const char *text)
{
    append_safe(line, text, true);
}

/* ---- writing --------------------------------------------------------------------------------- */

/* Whoever reads the log may stop reading (a stuck collector, a terminal on hold), and a thread that
 * serves must not wait for him: a line that does not fit is dropped and counted. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* guards the rest */
static uint64_t lost;                                     /* lines, and not told yet */
static bool torn;                                         /* the last line has no end */

/* True if PIPE_BUF bytes can be written without waiting, or an error is to be told. */
static bool has_room(int wait_ms)
{
    struct pollfd fd = { .fd = STDERR_FILENO, .events = POLLOUT };

    return poll(&fd, 1, wait_ms) == 1;
}

static bool write_bytes(const char *at, size_t left)
{
    bool begun = false;

    while (left) {
        ssize_t wrote = -1;
        if (has_room(begun ? REST_WAIT_MS : 0))
            wrote = write(STDERR_FILENO, at, left < PIPE_BUF ? left : PIPE_BUF);
        if (wrote <= 0) { /* a full disk or a closed pipe does not stop the service either */
            torn |= begun;
            return false;
        }
        begun = true;
        at += wrote;
        left -= (size_t)wrote;
    }
    return true;
}

static bool write_line(const struct buf *line)
{
    if (torn && !write_bytes("\n", 1))
        return false;
    torn = false;
    return buf_ok(line) && write_bytes(buf_text(line), line->length);
}

/* One readable line; a message is one line whatever it has in it. */
static void compose_text(struct buf *line, enum log_level level, const char *now,
                         const char *message)
{
    static const int priorities[LOG_LEVELS] = { 7, 6, 4, 3 }; /* syslog(3) */

    if (text_form == LOG_TEXT_JOURNAL)
        buf_format(line, "<%d>", priorities[level]);
    else
        buf_format(line, "%s ", now);
    append_safe(line, message, false);
    buf_text_append(line, "\n");
}

static void compose(struct buf *line, enum log_level level, const char *event,
                    const char *const *fields, const char *message)
{
    char now[RFC3339_SIZE];

    rfc3339_format(wall_now().ms, now);
    buf_init(line, LINE_MAX_BYTES * 4);
    if (!as_json && text_form != LOG_TEXT_FULL) {
        compose_text(line, level, now, message);
        return;
    }
    if (as_json)
        buf_format(line, "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"%s\",\"message\":\"", now,
                   level_names[level], event);
    else
        buf_format(line, "%s %-7s %s: ", now, level_names[level], event);
    append_escaped(line, message);
    if (as_json)
        buf_text_append(line, "\"");
    for (; fields && fields[0]; fields += 2) {
        if (!fields[1])
            continue;
        buf_format(line, as_json ? ",\"%s\":\"" : " %s=\"", fields[0]);
        append_escaped(line, fields[1]);
        buf_text_append(line, "\"");
    }
    buf_text_append(line, as_json ? "}\n" : "\n");
}

static void tell_of_lost(void)
{
    AUTO(buf_fini) struct buf line;
    char message[100];

    snprintf(message, sizeof message, "%" PRIu64 " lines could not be written", lost);
    compose(&line, LOG_WARNING, "log_lost", NULL, message);
    if (write_line(&line))
        lost = 0;
}

PRINTF(4, 0)
static void emit(enum log_level level, const char *event, const char *const *fields,
                 const char *format, va_list args)
{
    char message[LINE_MAX_BYTES / 4];
    AUTO(buf_fini) struct buf line;

    vsnprintf(message, sizeof message, format, args);
    compose(&line, level, event, fields, message);
    pthread_mutex_lock(&mutex);
    if (lost)
        tell_of_lost();
    if (lost || !write_line(&line))
        lost++;
    pthread_mutex_unlock(&mutex);
}

void log_event(enum log_level level, const char *event, const char *format, ...)
{
    va_list args;

    if (!log_enabled(level))
        return;
    va_start(args, format);
    emit(level, event, NULL, format, args);
    va_end(args);
}

void log_event_with(enum log_level level, const char *event, const char *const *fields,
                    const char *format, ...)
{
    va_list args;

    if (!log_enabled(level))
        return;
    va_start(args, format);
    emit(level, event, fields, format, args);
    va_end(args);
}
