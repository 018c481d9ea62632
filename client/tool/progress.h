/* Tells a person that a command waits for a seat: on a terminal in one line that is written over,
 * else in a line at the first denial and then every 10 s at most. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "base/clock.h"
#include "twinlease.h"

#define PROGRESS_QUIET_MS 10000
#define PROGRESS_TEXT_MAX 1024

struct progress {
    const char *feature;
    FILE *to;
    bool terminal;
    bool open; /* an unfinished line is on the terminal */
    bool told; /* at … */
    struct boot told_at;
};

/* On standard error. */
void progress_begin(struct progress *progress, const char *feature);
/* For twinlease_acquire_options.waiting, with the progress as its context; never ends the wait. */
int progress_waiting(void *progress, const struct twinlease_waiting *waiting);
/* Ends an unfinished line; before anything else is printed. */
void progress_end(struct progress *progress);

/* "Waiting for a seat of render: 1 of 1 in use; the next is expected back at …" */
void progress_sentence(const char *feature, const struct twinlease_waiting *waiting,
                       char out[PROGRESS_TEXT_MAX]);
