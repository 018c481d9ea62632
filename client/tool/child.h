/* The program that `run` runs.
 *
 * Its process is made first, before this one has opened anything, read a secret or started a
 * thread, and waits for the word to go: so none of our descriptors can leak into the program,
 * whatever the libraries do, and a machine that has no room for another process says so before a
 * seat is taken. Until then it is a copy of us that reads from a pipe; if we die, it reads the end
 * of the pipe and is gone. Afterwards it has what we were started with: descriptors, signal mask,
 * ignored signals, environment and working directory.
 *
 * If execvp(3) fails, errno comes back through another pipe, which a successful one closes. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/must.h"

struct child_plan {
    char *const *words; /* program and arguments, NULL at the end */
    int death_signal;   /* what the kernel sends to the program when we die, and again if another
                           of our threads dies later than the first; 0: nothing. A program with the
                           set-user-ID bit is spared */
    bool own_group;     /* leads a process group of its own */
};

struct child {
    pid_t pid;     /* 0: there is none (any more) */
    int go_fd;     /* -1 once it was told to go */
    int report_fd; /* readable when there is something to report; -1 afterwards */
    bool own_group;
    bool gone; /* ended, and wait_status is how */
    int wait_status;
};

/* Before anything else: SIGPIPE and SIGXFSZ become errors of the calls that cause them, here and
 * not in the child. */
void child_prepare(void);

/* False with errno. */
bool child_fork(const struct child_plan *plan, struct child *out) MUST_USE;
/* Lets it become the program, with these variables ("NAME=VALUE", NULL at the end) in its
 * environment. False: it is gone already. */
bool child_go(struct child *child, const char *const *variables) MUST_USE;
/* The report, once report_fd is readable: 0, the program runs; else errno of execvp(3). */
int child_report(struct child *child);
/* To the program or, if it leads one, its group, of which members may be left when it has gone. */
void child_signal(const struct child *child, int number);
/* Has the group that it leads any member, itself included? */
bool child_has_group(const struct child *child);
/* Takes the ends of processes that are ours: the child, and in a container orphans too. */
void child_reap(struct child *child);
/* Its exit code as a shell has it: 128+n if it died of signal n. */
int child_exit_code(const struct child *child);
/* Ends one that was never told to go; also takes a zeroed one. */
void child_fini(struct child *child);
DEFINE_AUTO_VALUE(struct child, child_fini)
