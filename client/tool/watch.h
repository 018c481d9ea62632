/* What becomes of a running program when its lease is lost. Pure: told what happens and when, it
 * says what to do.
 *
 *     LICENSED ──lost──▶ REPLACING ──5 s──▶ ENDING ──kill-after──▶ KILLED
 *        ▲                  │                  ▲
 *        └─────acquired─────┘                  └── at once, if the lease was ended from outside
 *
 * With --on-loss warn there is no ENDING but UNLICENSED, from which `acquired` leads back; with
 * kill, ENDING is left out. */
#pragma once

#include <stdbool.h>

#include "base/clock.h"
#include "base/must.h"

/* A machine that was suspended finds its lease over, and has another a moment later: that is no
 * reason to end a program. */
#define WATCH_REPLACE_MS 5000

enum on_loss { ON_LOSS_WARN, ON_LOSS_TERM, ON_LOSS_KILL };
/* By its name on the command line. */
bool on_loss_parse(const char *text, enum on_loss *out) MUST_USE;
/* What the kernel sends to the program if this process is killed; 0: nothing. */
int on_loss_signal(enum on_loss on_loss);

enum watch_state {
    WATCH_LICENSED,
    WATCH_REPLACING, /* lost; another seat may be had any moment */
    WATCH_UNLICENSED,
    WATCH_ENDING, /* told to end */
    WATCH_KILLED
};

struct watch {
    enum on_loss on_loss;
    int64_t kill_after_ms;
    enum watch_state state;
    struct boot until; /* of REPLACING and ENDING */
};

enum watch_action {
    WATCH_NOTHING,
    WATCH_RESUME, /* there is a seat again: say so */
    WATCH_WARN,   /* the program goes on without a seat: say so */
    WATCH_TERM,   /* SIGTERM */
    WATCH_KILL    /* SIGKILL */
};

void watch_init(struct watch *watch, enum on_loss on_loss, int64_t kill_after_ms);
/* from_outside: somebody ended it before its time, so there is nothing to wait for. */
enum watch_action watch_lost(struct watch *watch, struct boot now, bool from_outside);
enum watch_action watch_acquired(struct watch *watch);
/* Time has passed. */
enum watch_action watch_tick(struct watch *watch, struct boot now);
/* Milliseconds until the next tick is due, for poll(2); -1: none is. */
int watch_wait_ms(const struct watch *watch, struct boot now);
/* The program was told to end because its lease was lost. */
bool watch_has_ended(const struct watch *watch);
