/* What commands print: for people, or one JSON document for programs. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "document.h"
#include "fault.h"

struct output {
    bool json;
    bool printed; /* a document has been begun */
    bool aside;   /* standard output is another program's: with --json everything that is told is an
                     object a line on standard error */
    int exit_code; /* in the place of the outcome's own; 0: that one */
    int signal;    /* to end by, in the place of an exit code; 0: none */
};

/* A line for people; nothing with --json. Control characters that came from elsewhere (a host name)
 * are replaced, so that they cannot play with the terminal. */
void output_line(const struct output *out, const char *format, ...) PRINTF(2, 3);
/* The document for programs, which it takes; nothing without --json. */
void output_document(struct output *out, struct json_object *document);
/* Part of a document that is too long to be held at once; as it stands. */
void output_raw(struct output *out, const char *text);

/* Replaces the bytes that a terminal may take for commands: C0, DEL, and C1 in UTF-8. */
void output_clean(char *text);

/* One thing that happened: {"time":…,"event":name}, to which members may be added. */
struct json_object *event_new(const char *name);
/* With --json the event, which is taken, in one line on standard error, else the sentence there.
 * format may be NULL: nothing for people. */
void output_event(const struct output *out, struct json_object *event, const char *format, ...)
    PRINTF(3, 4);

/* A sentence on standard error; with --json also {"error":{…}} on standard output, unless there is
 * a document already. */
void output_error(struct output *out, const struct twinlease_error *error);
/* For twinlease_options.warning; context: the output, or NULL. */
void output_warning(void *context, const char *sentence);
/* Everything written; false if it could not be (a full disk, a closed pipe). */
bool output_flush(void) MUST_USE;

/* Members of a document that a node sent: "" and 0 if they are not there or of another type. path:
 * names with dots between. */
const char *get_text(struct json_object *object, const char *path);
int64_t get_int(struct json_object *object, const char *path);
bool get_bool(struct json_object *object, const char *path);
struct json_object *get_list(struct json_object *object, const char *name); /* borrowed; or NULL */
size_t list_count(struct json_object *list);                                /* of NULL: 0 */

/* "2026-11-22T09:00:00Z": without what nobody reads. */
#define WHEN_SIZE 21
void when_format(int64_t ms, char out[WHEN_SIZE]);
/* "1 seat", "2 seats": the word. */
const char *plural(int64_t count);
