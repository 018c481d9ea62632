/* Instants. Wall clock and boot clock are two types, so that mixing them does not compile.
 * This is the only module that asks the system for the time (base/clock.c).
 *
 * The ledger clock (R1 of the seat rules) is a third one and is derived from both by
 * ledger/clock.h; its instants are plain int64_t milliseconds since 1970 named `…_ms`. */
#pragma once

#include <stdint.h>
#include <time.h>

struct wall {
    int64_t ms; /* since 1970-01-01 UTC; steps when somebody sets it */
};

struct boot {
    int64_t ms; /* since boot, CLOCK_BOOTTIME: goes on while suspended, never steps */
};

struct wall wall_now(void);
struct boot boot_now(void);

/* CLOCK_MONOTONIC in microseconds: for measuring how long something took, nothing else. */
int64_t stopwatch_us(void);

/* The CLOCK_MONOTONIC instant that lies so many milliseconds ahead, for pthread_cond_timedwait().
 */
struct timespec deadline_after(int64_t ms);

/* Lets so much time pass; 0: none. Only for what nothing else could announce. */
void wait_ms(int64_t ms);

/* RFC 3339 in UTC with milliseconds: 2026-11-21T08:50:09.123Z. Needs RFC3339_SIZE bytes. Instants
 * outside the years 0000 to 9999 are clamped. */
#define RFC3339_SIZE 25
void rfc3339_format(int64_t ms, char out[RFC3339_SIZE]);
