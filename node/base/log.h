/* Structured log: one event a line, on standard error. JSON when it is a pipe or a file, one
 * readable line when it is a terminal. Values are escaped (no control character, no newline, no
 * broken UTF-8 gets out), so a hostile hostname cannot forge a line. Thread-safe, and never waits
 * for a slow reader: lines that cannot be written at once are dropped, and their number is told
 * ("log_lost") as soon as one can. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/must.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR, LOG_LEVELS };
enum log_format { LOG_FORMAT_AUTO, LOG_FORMAT_JSON, LOG_FORMAT_TEXT, LOG_FORMATS };

/* What a line of text has beside its message. */
enum log_text {
    LOG_TEXT_FULL,    /* time, level, event and fields */
    LOG_TEXT_PLAIN,   /* the time */
    LOG_TEXT_JOURNAL, /* the priority, as journald reads it (sd-daemon(3)); it has its own time */
};

/* Before threads start. */
void log_init(enum log_format format, enum log_level lowest);
/* The same; for messages that say all there is to say, so that people need no more. */
void log_init_text(enum log_format format, enum log_level lowest, enum log_text text);
/* Whether standard error leads to the journal (systemd.exec(5), $JOURNAL_STREAM). */
bool log_to_journal(void);

/* event: stable, snake_case, for programs ("store_away"). message: for people, printf-formatted. */
void log_event(enum log_level level, const char *event, const char *format, ...) PRINTF(3, 4);

/* The same with key/value fields: LOG_FIELDS("lease_ref", text, "origin_ref", text). Keys are
 * literals, values are escaped; a NULL value is left out. */
void log_event_with(enum log_level level, const char *event, const char *const *fields,
                    const char *format, ...) PRINTF(4, 5);
#define LOG_FIELDS(...) ((const char *const[]){ __VA_ARGS__, NULL, NULL })

bool log_enabled(enum log_level level);
