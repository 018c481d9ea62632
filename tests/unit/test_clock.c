/* R1: the ledger clock never goes back, whatever the machine's clocks and restarts do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ledger/clock.h"

#define NOON ((int64_t)1800000000000)
#define SKEW 300000

/* A machine: its two clocks, and the node's clock on top. */
struct machine {
    struct ledger_clock clock;
    struct wall wall;
    struct boot boot;
};

static void start(struct machine *m, int64_t wall_ms, int64_t ceiling_ms)
{
    m->wall.ms = wall_ms;
    m->boot.ms = 5000;
    ledger_clock_start(&m->clock, m->wall, m->boot, ceiling_ms, SKEW);
}

/* Time passes on both clocks; then the ledger clock is read. */
static int64_t pass(struct machine *m, int64_t ms)
{
    m->wall.ms += ms;
    m->boot.ms += ms;
    return ledger_clock_advance(&m->clock, m->wall, m->boot);
}

static int64_t pass_in_steps(struct machine *m, int64_t ms, int64_t step_ms)
{
    int64_t now_ms = m->clock.now_ms;

    for (int64_t left = ms; left > 0; left -= step_ms) {
        int64_t before_ms = now_ms;
        now_ms = pass(m, step_ms < left ? step_ms : left);
        assert_true(now_ms >= before_ms);
    }
    return now_ms;
}

static void r1_starts_at_wall_when_it_is_later(void **state)
{
    struct machine m;

    (void)state;
    start(&m, NOON, 0);
    assert_int_equal(m.clock.now_ms, NOON);
    start(&m, NOON, NOON - 1);
    assert_int_equal(m.clock.now_ms, NOON);
    assert_int_equal(pass(&m, 0), NOON);
}

static void r1_starts_at_ceiling_when_wall_went_back(void **state)
{
    struct machine m;

    (void)state;
    start(&m, NOON - 3600000, NOON);
    assert_int_equal(m.clock.now_ms, NOON);
    assert_int_equal(pass(&m, 10), NOON + 9); /* slewed by a tenth */
    assert_true(ledger_clock_alarm(&m.clock));
    start(&m, NOON, NOON);
    assert_int_equal(m.clock.now_ms, NOON);
    assert_false(ledger_clock_alarm(&m.clock));
}

static void r1_advances_with_boot_clock(void **state)
{
    struct machine m;

    (void)state;
    start(&m, NOON, 0);
    assert_int_equal(pass(&m, 1), NOON + 1);
    assert_int_equal(pass(&m, 86400000), NOON + 86400001);
    assert_int_equal(m.clock.offset_ms, 0);
}

static void r1_wall_steps_are_not_followed(void **state)
{
    struct machine m;

    (void)state;
    start(&m, NOON, 0);
    m.wall.ms += 31536000000; /* a year */
    assert_int_equal(pass(&m, 1000), NOON + 1000);
    assert_true(ledger_clock_alarm(&m.clock));
    assert_int_equal(m.clock.offset_ms, 31536000000);
    m.wall.ms -= 2 * (int64_t)31536000000;
    assert_int_equal(pass(&m, 1000), NOON + 2000);
    assert_true(ledger_clock_alarm(&m.clock));
    m.wall.ms += 31536000000;
    assert_int_equal(pass(&m, 1000), NOON + 3000);
    assert_false(ledger_clock_alarm(&m.clock));
}

static void r1_never_back_when_boot_clock_misbehaves(void **state)
{
    struct machine m;

    (void)state;
    start(&m, NOON, 0);
    assert_int_equal(pass(&m, 100), NOON + 100);
    m.boot.ms -= 50;
    m.wall.ms -= 50;
    assert_int_equal(pass(&m, 0), NOON + 100);
    assert_int_equal(pass(&m, 50), NOON + 100); /* counted once, not twice */
    assert_int_equal(pass(&m, 50), NOON + 150);
}

static void r1_behind_is_slewed_by_500_ppm(void **state)
{
    struct machine m;

    (void)state;
    start(&m, NOON, 0);
    m.wall.ms += 1000;
    assert_int_equal(pass(&m, 1000000), NOON + 1000000 + 500);
    assert_int_equal(m.clock.offset_ms, 500);
    start(&m, NOON, 0); /* the same in small pieces: no remainder is lost */
    m.wall.ms += 1000;
    assert_int_equal(pass_in_steps(&m, 1000000, 7), NOON + 1000000 + 500);
}

static void r1_ahead_is_slewed_by_a_tenth(void **state)
{
    struct machine m;

    (void)state;
    start(&m, NOON - 2000, NOON);
    assert_int_equal(pass(&m, 10000), NOON + 9000);
    assert_int_equal(m.clock.offset_ms, -1000);
    start(&m, NOON - 2000, NOON);
    assert_int_equal(pass_in_steps(&m, 10000, 1), NOON + 9000);
}

static void r1_slewing_ends_at_the_wall_clock(void **state)
{
    struct machine m;

    (void)state;
    start(&m, NOON - 100, NOON);
    assert_int_equal(pass(&m, 86400000), NOON - 100 + 86400000);
    start(&m, NOON, 0);
    m.wall.ms += 100;
    assert_int_equal(pass(&m, 86400000), NOON + 100 + 86400000);
    start(&m, NOON - 2000, NOON);
    pass_in_steps(&m, 60000, 13);
    assert_true(m.clock.offset_ms <= 0 && m.clock.offset_ms >= -5);
}

static void r1_jitter_is_not_slewed(void **state)
{
    struct machine m;

    (void)state;
    start(&m, NOON, 0);
    m.wall.ms += 5;
    assert_int_equal(pass(&m, 1000000), NOON + 1000000);
    m.wall.ms -= 10;
    assert_int_equal(pass(&m, 1000000), NOON + 2000000);
    m.wall.ms -= 1;
    assert_int_equal(pass(&m, 10), NOON + 2000009);
}

static void r1_alarm_at_the_edge_of_max_clock_skew(void **state)
{
    struct machine m;

    (void)state;
    start(&m, NOON, 0);
    assert_false(ledger_clock_alarm(&m.clock));
    m.wall.ms += SKEW;
    pass(&m, 0);
    assert_false(ledger_clock_alarm(&m.clock));
    m.wall.ms += 1;
    pass(&m, 0);
    assert_true(ledger_clock_alarm(&m.clock));
    m.wall.ms -= 2 * SKEW + 1;
    pass(&m, 0);
    assert_false(ledger_clock_alarm(&m.clock));
    m.wall.ms -= 1;
    pass(&m, 0);
    assert_true(ledger_clock_alarm(&m.clock));
    start(&m, NOON - SKEW - 1, NOON);
    assert_true(ledger_clock_alarm(&m.clock));
}

static void r1_far_off_wall_is_not_followed_forward(void **state)
{
    struct machine m;

    (void)state;
    start(&m, NOON, 0);
    m.wall.ms += SKEW + 1;
    assert_int_equal(pass(&m, 1000000), NOON + 1000000);
    m.wall.ms -= 1;
    assert_int_equal(pass(&m, 1000000), NOON + 2000000 + 500);
}

/* A step back while running may be taken back: not followed. A ceiling that was written when the
 * wall clock was wrong is slewed away, or the alarm would never end (I4). */
static void r1_far_ahead_is_slewed_only_if_it_started_so(void **state)
{
    struct machine m;

    (void)state;
    start(&m, NOON, 0);
    m.wall.ms -= SKEW + 1;
    assert_int_equal(pass(&m, 1000000), NOON + 1000000);
    start(&m, NOON - 3600000, NOON);
    assert_true(ledger_clock_alarm(&m.clock));
    assert_int_equal(pass(&m, 1000000), NOON + 1000000 - 100000);
    pass_in_steps(&m, 40000000, 1000);
    assert_false(ledger_clock_alarm(&m.clock));
    m.wall.ms -= 2 * SKEW; /* a step now is one while running again */
    int64_t before_ms = m.clock.now_ms;
    assert_int_equal(pass(&m, 1000000), before_ms + 1000000);
}

/* Crash after crash would set the clock ahead, and leases would end early for clients. */
static void r1_start_waits_for_a_ceiling_that_is_near(void **state)
{
    const struct wall wall = { NOON };

    (void)state;
    assert_int_equal(ledger_clock_wait(wall, NOON - 1), 0);
    assert_int_equal(ledger_clock_wait(wall, NOON), 0);
    assert_int_equal(ledger_clock_wait(wall, NOON + 1), 1);
    assert_int_equal(ledger_clock_wait(wall, NOON + LEDGER_CLOCK_AHEAD_MS), LEDGER_CLOCK_AHEAD_MS);
    assert_int_equal(ledger_clock_wait(wall, NOON + LEDGER_CLOCK_AHEAD_MS + 1), 0);
}

static void r1_ceiling_is_wanted_when_half_is_used(void **state)
{
    struct machine m;

    (void)state;
    start(&m, NOON, 0);
    assert_int_equal(ledger_clock_ceiling_wanted(&m.clock), NOON + LEDGER_CLOCK_AHEAD_MS);
    ledger_clock_ceiling_durable(&m.clock, NOON + LEDGER_CLOCK_AHEAD_MS);
    assert_int_equal(ledger_clock_ceiling_wanted(&m.clock), 0);
    pass(&m, LEDGER_CLOCK_AHEAD_MS / 2 - 1);
    assert_int_equal(ledger_clock_ceiling_wanted(&m.clock), 0);
    int64_t now_ms = pass(&m, 1);
    assert_int_equal(ledger_clock_ceiling_wanted(&m.clock), now_ms + LEDGER_CLOCK_AHEAD_MS);
}

static void r1_ceiling_is_wanted_at_once_after_a_start_at_it(void **state)
{
    struct machine m;

    (void)state;
    start(&m, NOON - 10, NOON);
    assert_int_equal(ledger_clock_ceiling_wanted(&m.clock), NOON + LEDGER_CLOCK_AHEAD_MS);
}

static void r1_time_of_suspension_counts(void **state)
{
    struct machine m;

    (void)state;
    start(&m, NOON, 0);
    ledger_clock_ceiling_durable(&m.clock, NOON + LEDGER_CLOCK_AHEAD_MS);
    int64_t now_ms = pass(&m, 8 * 3600000); /* asleep */
    assert_int_equal(now_ms, NOON + 8 * 3600000);
    assert_int_equal(ledger_clock_ceiling_wanted(&m.clock), now_ms + LEDGER_CLOCK_AHEAD_MS);
}

static void r1_restart_goes_on_above_everything_shown(void **state)
{
    struct machine m;
    int64_t shown_ms = 0;

    (void)state;
    start(&m, NOON, 0);
    for (int life = 0; life < 20; life++) {
        int64_t ceiling_ms = 0;
        for (int batch = 0; batch < 50; batch++) {
            int64_t now_ms = pass(&m, 97);
            int64_t wanted_ms = ledger_clock_ceiling_wanted(&m.clock);
            if (wanted_ms)
                ledger_clock_ceiling_durable(&m.clock, wanted_ms);
            ceiling_ms = m.clock.ceiling_ms;
            assert_true(now_ms > shown_ms && now_ms < ceiling_ms);
            shown_ms = now_ms;
        }
        start(&m, m.wall.ms - (life % 3) * 3600000, ceiling_ms); /* killed, wall set back */
        assert_true(m.clock.now_ms > shown_ms);
    }
}

static void r1_resume_keeps_the_clock(void **state)
{
    struct machine m;

    (void)state;
    start(&m, NOON, 0);
    ledger_clock_ceiling_durable(&m.clock, NOON + LEDGER_CLOCK_AHEAD_MS);
    m.wall.ms += 60000;
    m.boot.ms += 60000; /* nobody read the clock while the database was away */
    ledger_clock_resume(&m.clock, m.wall, m.boot, NOON + LEDGER_CLOCK_AHEAD_MS);
    assert_int_equal(m.clock.now_ms, NOON + 60000);
    assert_int_equal(pass(&m, 1), NOON + 60001);
}

static void r1_resume_jumps_over_what_another_used(void **state)
{
    struct machine m;

    (void)state;
    start(&m, NOON, 0);
    ledger_clock_ceiling_durable(&m.clock, NOON + LEDGER_CLOCK_AHEAD_MS);
    m.wall.ms += 3600000; /* for an hour another process owned the database */
    m.boot.ms += 3600000;
    ledger_clock_resume(&m.clock, m.wall, m.boot, NOON + 3600000 + LEDGER_CLOCK_AHEAD_MS);
    assert_int_equal(m.clock.now_ms, NOON + 3600000 + LEDGER_CLOCK_AHEAD_MS);
    assert_int_equal(pass(&m, 100), NOON + 3600000 + LEDGER_CLOCK_AHEAD_MS + 90);
    assert_int_equal(ledger_clock_ceiling_wanted(&m.clock), m.clock.now_ms + LEDGER_CLOCK_AHEAD_MS);
}

static void r1_resume_takes_a_ceiling_whose_commit_was_not_confirmed(void **state)
{
    struct machine m;

    (void)state;
    start(&m, NOON, 0);
    ledger_clock_ceiling_durable(&m.clock, NOON + LEDGER_CLOCK_AHEAD_MS);
    pass(&m, 1500);
    int64_t wanted_ms = ledger_clock_ceiling_wanted(&m.clock); /* written, the answer was lost */
    m.wall.ms += 100;
    m.boot.ms += 100;
    ledger_clock_resume(&m.clock, m.wall, m.boot, wanted_ms);
    assert_int_equal(m.clock.now_ms, NOON + 1600); /* nobody else used times below it */
    assert_int_equal(m.clock.ceiling_ms, wanted_ms);
    ledger_clock_resume(&m.clock, m.wall, m.boot, wanted_ms + 1); /* somebody did */
    assert_int_equal(m.clock.now_ms, wanted_ms + 1);
}

static void r1_resume_takes_back_a_ceiling_that_fell(void **state)
{
    struct machine m;

    (void)state;
    start(&m, NOON, 0);
    ledger_clock_ceiling_durable(&m.clock, NOON + LEDGER_CLOCK_AHEAD_MS);
    ledger_clock_resume(&m.clock, m.wall, m.boot, NOON - 1000);
    assert_int_equal(m.clock.now_ms, NOON);
    assert_int_equal(ledger_clock_ceiling_wanted(&m.clock), NOON + LEDGER_CLOCK_AHEAD_MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(r1_starts_at_wall_when_it_is_later),
        cmocka_unit_test(r1_starts_at_ceiling_when_wall_went_back),
        cmocka_unit_test(r1_advances_with_boot_clock),
        cmocka_unit_test(r1_wall_steps_are_not_followed),
        cmocka_unit_test(r1_never_back_when_boot_clock_misbehaves),
        cmocka_unit_test(r1_behind_is_slewed_by_500_ppm),
        cmocka_unit_test(r1_ahead_is_slewed_by_a_tenth),
        cmocka_unit_test(r1_slewing_ends_at_the_wall_clock),
        cmocka_unit_test(r1_jitter_is_not_slewed),
        cmocka_unit_test(r1_alarm_at_the_edge_of_max_clock_skew),
        cmocka_unit_test(r1_far_off_wall_is_not_followed_forward),
        cmocka_unit_test(r1_far_ahead_is_slewed_only_if_it_started_so),
        cmocka_unit_test(r1_start_waits_for_a_ceiling_that_is_near),
        cmocka_unit_test(r1_ceiling_is_wanted_when_half_is_used),
        cmocka_unit_test(r1_ceiling_is_wanted_at_once_after_a_start_at_it),
        cmocka_unit_test(r1_time_of_suspension_counts),
        cmocka_unit_test(r1_restart_goes_on_above_everything_shown),
        cmocka_unit_test(r1_resume_keeps_the_clock),
        cmocka_unit_test(r1_resume_jumps_over_what_another_used),
        cmocka_unit_test(r1_resume_takes_a_ceiling_whose_commit_was_not_confirmed),
        cmocka_unit_test(r1_resume_takes_back_a_ceiling_that_fell),
    };

    return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}
