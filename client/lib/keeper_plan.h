/* What a keeper does next, and when. Pure: time, random numbers and outcomes come in, orders go
 * out; the thread that carries them out is in keeper.c.
 *
 * The happy path: acquire; at renew_after, give or take a tenth, renew; and so on.
 *
 * What may happen, and what then:
 *   - a renewal fails: the lease is as good as before. Again after pauses that grow from 1 s to
 *     30 s, but are never more than a quarter of what the lease has left, so that tries come denser
 *     towards the end, the last of them within its last second. No try lasts longer than half of
 *     what is left, so that one that hangs leaves time for another, unless that would be too short
 *     to come past a mute node to the other;
 *   - the lease expires: it is lost; another is asked for at once, then after pauses that grow;
 *   - a node says that it has ended, or that it is not known: it is lost as well. If somebody ended
 *     it (an operator, as a rule), another is asked for only after some seconds: long enough for
 *     one who waits for the seat to get it;
 *   - no seat, no node: again after pauses that grow from 1 s to 30 s. What only a person can mend
 *     (a token that is not accepted, a feature that does not exist): every 30 s.
 *
 * Pauses are jittered, so that machines that failed together do not come back together. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "twinlease.h"

enum keeper_phase {
    KEEPER_SEEKING, /* no lease, and wants one */
    KEEPER_HOLDING,
    KEEPER_OVER /* had one, and does not want another */
};

/* Of what was told last, so that it is told once. */
struct keeper_cause {
    enum twinlease_code code; /* OK: nothing was told since a lease was acquired, renewed or lost */
    char problem[sizeof((struct twinlease_error *)NULL)->problem];
};

struct keeper_plan {
    bool once; /* TWINLEASE_KEEP_ONCE */
    enum keeper_phase phase;
    int64_t ends_ms;   /* while HOLDING; boot clock, as all instants here */
    int64_t next_ms;   /* when to ask again; while OVER: never */
    unsigned failures; /* in a row */
    struct keeper_cause told;
};

enum keeper_what {
    KEEPER_NOTHING, /* begun, or woken up */
    KEEPER_GRANTED, /* what was ordered was done */
    KEEPER_FAILED   /* what was ordered was not done */
};

struct keeper_news {
    enum keeper_what what;
    int64_t now_ms;
    uint32_t random;                     /* any number */
    int64_t ends_ms, renew_ms;           /* GRANTED: of the lease */
    const struct twinlease_error *error; /* FAILED */
};

enum keeper_deed { KEEPER_WAIT, KEEPER_ACQUIRE, KEEPER_RENEW };

struct keeper_orders {
    enum twinlease_event event; /* to tell first; 0: none. With LOST the lease is to be dropped */
    enum keeper_deed deed;      /* then to do, and to come back with the outcome */
    int64_t until_ms;           /* to wait or to try at most; -1: without end */
};

void keeper_plan_init(struct keeper_plan *plan, bool once, int64_t now_ms);
/* Begins with a lease that is held already, and tells nothing of it. Its renewal may be overdue,
 * and it may be over: the next step sees to that. */
void keeper_plan_adopt(struct keeper_plan *plan, const struct keeper_news *news);
struct keeper_orders keeper_plan_step(struct keeper_plan *plan, const struct keeper_news *news);
/* Milliseconds until something is asked again; -1: never. */
int64_t keeper_plan_next_try(const struct keeper_plan *plan, int64_t now_ms);
