/* The signals that `run` gets, and which of them it hands on.
 *
 * Handlers write each one into a pipe, which the main thread reads: nothing is decided inside a
 * handler, and no thread has to block anything. A signal that was ignored when this process began
 * (nohup, a shell's background job) stays ignored, here and in the program.
 *
 * Who else gets them? On a terminal the program stays in the process group it was started in: with
 * one of its own, a pipeline (`twinlease run … | less`) would fall apart. So the keys Ctrl-C,
 * Ctrl-\ and Ctrl-Z, and a new size of the window, reach both, and must not be handed on (si_code
 * tells; sudo does the same). Without a terminal the program leads a group of its own, as under
 * dumb-init or tini -g: whatever is sent to us or to our group is handed on once, to all of its
 * group, so that a shell does not die and leave its children behind. timeout(1) puts itself into a
 * group of its own instead, for which it is stopped when it reads from a terminal. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/must.h"

struct signal_note {
    int number;
    int code; /* si_code */
    pid_t sender;
};

struct twinlease;

/* Installs the handlers; false with errno. The pipe's end to read and to poll goes to *out_fd. */
bool signals_open(int *out_fd) MUST_USE;
/* From here on Ctrl-Z comes through the pipe too, instead of just stopping this process. */
void signals_take_stop(void);
/* A signal that would have ended this process interrupts the handle, in whatever thread it is. NULL
 * ends that. */
void signals_interrupt(struct twinlease *handle);
/* The first such signal so far; 0: none. */
int signals_ending(void);
/* The next one; false: no more for now. */
bool signals_next(struct signal_note *out);

/* Where the program stands. */
struct signal_place {
    pid_t program;
    bool own_group;      /* the program leads a process group */
    bool session_leader; /* we do lead the session: a hang-up is told to nobody else */
};
/* Must the program be told? (It has its own SIGCHLDs, and knows what it sent itself.) */
bool signal_is_forwarded(const struct signal_note *note, const struct signal_place *place);

/* Ends this process as the signal does, without a core dump, so that a shell sees that, say, Ctrl-C
 * was pressed, and ends its loop. Returns if that does not work, as in process 1. */
void signals_die_of(int number);
