#include "ledger/clock.h"

/* Differences up to this are reading jitter of the two clocks. */
#define JITTER_MS 5

static int64_t clamp(int64_t value, int64_t low, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

void ledger_clock_start(struct ledger_clock *clock, struct wall wall, struct boot boot,
                        int64_t ceiling_ms, int64_t skew_max_ms)
{
    must(wall.ms > 0 && ceiling_ms >= 0 && skew_max_ms > 0);
    *clock = (struct ledger_clock){
        .now_ms = wall.ms > ceiling_ms ? wall.ms : ceiling_ms, /* R1: the later one */
        .boot = boot,
        .ceiling_ms = ceiling_ms,
        .skew_max_ms = skew_max_ms,
    };
    clock->offset_ms = wall.ms - clock->now_ms;
    clock->started_ahead = clock->offset_ms < -skew_max_ms;
}

/* Steps of the wall clock while running are not followed, they may be taken back. A ceiling far
 * ahead of the wall clock at start was written when that was wrong: slewed away at any distance, or
 * the alarm, and with it the pause of R7, would never end (I4). Late is always safe. */
static bool too_far(const struct ledger_clock *clock, int64_t offset_ms)
{
    return offset_ms > clock->skew_max_ms ||
           (offset_ms < -clock->skew_max_ms && !clock->started_ahead);
}

int64_t ledger_clock_wait(struct wall wall, int64_t ceiling_ms)
{
    int64_t ahead_ms = ceiling_ms - wall.ms;

    return ahead_ms > 0 && ahead_ms <= LEDGER_CLOCK_AHEAD_MS ? ahead_ms : 0;
}

/* R1: how far the clock moves besides the elapsed time, to follow a small difference. */
static int64_t slew(struct ledger_clock *clock, int64_t elapsed_ms, int64_t offset_ms)
{
    if (offset_ms >= -clock->skew_max_ms)
        clock->started_ahead = false;
    if (too_far(clock, offset_ms) || (offset_ms <= JITTER_MS && offset_ms >= -JITTER_MS)) {
        clock->fraction = 0;
        return 0;
    }
    int64_t ppm = offset_ms > 0 ? LEDGER_CLOCK_SLEW_FASTER_PPM : -LEDGER_CLOCK_SLEW_SLOWER_PPM;
    clock->fraction += elapsed_ms * ppm;
    int64_t whole = clock->fraction / 1000000;
    clock->fraction -= whole * 1000000;
    return offset_ms > 0 ? clamp(whole, 0, offset_ms) : clamp(whole, offset_ms, 0);
}

int64_t ledger_clock_advance(struct ledger_clock *clock, struct wall wall, struct boot boot)
{
    int64_t before_ms = clock->now_ms;
    int64_t elapsed_ms = boot.ms - clock->boot.ms;

    must(before_ms > 0);
    if (elapsed_ms < 0)
        elapsed_ms = 0;
    else
        clock->boot = boot;
    int64_t offset_ms = wall.ms - (before_ms + elapsed_ms);
    clock->now_ms += elapsed_ms + slew(clock, elapsed_ms, offset_ms);
    clock->offset_ms = wall.ms - clock->now_ms;
    must(clock->now_ms >= before_ms);
    return clock->now_ms;
}

/* The time that passed meanwhile is counted first: counted after the jump, it would count twice. */
void ledger_clock_resume(struct ledger_clock *clock, struct wall wall, struct boot boot,
                         int64_t ceiling_ms)
{
    ledger_clock_advance(clock, wall, boot);
    if (ceiling_ms > clock->ceiling_ms && ceiling_ms > clock->asked_ms &&
        ceiling_ms > clock->now_ms) {
        clock->now_ms = ceiling_ms;
        clock->offset_ms = wall.ms - clock->now_ms;
    }
    clock->ceiling_ms = ceiling_ms;
}

int64_t ledger_clock_ceiling_wanted(struct ledger_clock *clock)
{
    if (clock->now_ms + LEDGER_CLOCK_AHEAD_MS / 2 < clock->ceiling_ms)
        return 0;
    return clock->asked_ms = clock->now_ms + LEDGER_CLOCK_AHEAD_MS;
}

void ledger_clock_ceiling_durable(struct ledger_clock *clock, int64_t ceiling_ms)
{
    must(ceiling_ms >= clock->ceiling_ms);
    clock->ceiling_ms = ceiling_ms;
}

bool ledger_clock_alarm(const struct ledger_clock *clock)
{
    return clock->offset_ms > clock->skew_max_ms || clock->offset_ms < -clock->skew_max_ms;
}
