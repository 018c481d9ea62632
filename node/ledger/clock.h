/* The ledger clock (R1): milliseconds since 1970 that never go back, restarts included.
 *
 * It starts at the later of the wall clock and a persisted ceiling, then advances with
 * CLOCK_BOOTTIME. Steps of the wall clock are not followed while running; a small difference is
 * slewed away: slowly when the ledger clock is behind (a lease must not end noticeably early for a
 * client that counts on its own monotonic clock), faster when it is ahead (late is always safe).
 * Pure: both clocks come in as arguments. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/must.h"

/* The ceiling that is written lies this far ahead of the clock. It is as far as a crash could set
 * the clock forward, or as long as a start has to wait for the wall clock (ledger_clock_wait()), so
 * it is short; it is renewed when half is used, so an idle node writes twice a second. */
#define LEDGER_CLOCK_AHEAD_MS 1000

/* Slewing per elapsed millisecond, in millionths. 500 is what NTP's own slewing may do. */
#define LEDGER_CLOCK_SLEW_FASTER_PPM 500
#define LEDGER_CLOCK_SLEW_SLOWER_PPM 100000

struct ledger_clock {
    int64_t now_ms;      /* what was last handed out */
    int64_t fraction;    /* slewing not yet applied, in millionths of a millisecond */
    struct boot boot;    /* reading that belongs to now_ms */
    int64_t ceiling_ms;  /* durable: every time handed out to the outside lies below it */
    int64_t asked_ms;    /* the latest that was to be made durable: it may be, unheard */
    int64_t skew_max_ms; /* MAX_CLOCK_SKEW */
    int64_t offset_ms;   /* wall minus ledger at the last reading */
    bool started_ahead;  /* the ceiling was further ahead of the wall clock than skew_max_ms */
};

/* ceiling_ms is what the database has, 0 for a new one. */
void ledger_clock_start(struct ledger_clock *clock, struct wall wall, struct boot boot,
                        int64_t ceiling_ms, int64_t skew_max_ms);

/* How long a start had better wait, so that the wall clock has passed the ceiling: a clock that
 * starts ahead of it lets leases end early for clients, who count on their own clocks; each crash
 * would add to that. 0 where the ceiling is further ahead: then the wall clock is wrong, or was. */
int64_t ledger_clock_wait(struct wall wall, int64_t ceiling_ms);

/* The database was away and is back with this ceiling: the clock goes on, but jumps over times that
 * somebody else may have used meanwhile. */
void ledger_clock_resume(struct ledger_clock *clock, struct wall wall, struct boot boot,
                         int64_t ceiling_ms);

/* Reads the clock: never less than before. */
int64_t ledger_clock_advance(struct ledger_clock *clock, struct wall wall, struct boot boot);

/* The ceiling to be made durable together with whatever is decided now; 0 if the durable one is far
 * enough ahead. Nothing stamped with the present time may be shown to anybody before it is. */
int64_t ledger_clock_ceiling_wanted(struct ledger_clock *clock) MUST_USE;
void ledger_clock_ceiling_durable(struct ledger_clock *clock, int64_t ceiling_ms);

/* True while the wall clock is further off than skew_max_ms: R7 pauses, everything else goes on. */
bool ledger_clock_alarm(const struct ledger_clock *clock);
