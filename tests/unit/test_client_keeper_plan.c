/* What a keeper does next, and when: time, random numbers and outcomes are the test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/must.h"
#include "keeper_plan.h"

#define HOUR_MS INT64_C(3600000)
#define DAY_MS  (24 * HOUR_MS)
#define START   INT64_C(1000000)

static const int64_t lease_spans[] = { 100,       1000,    5000,         10000,
                                       60 * 1000, HOUR_MS, 24 * HOUR_MS, 90 * DAY_MS };

struct world {
    struct keeper_plan plan;
    int64_t now_ms;
    uint32_t random;
    struct keeper_orders orders; /* the last ones */
};

static void step(struct world *w, struct keeper_news news)
{
    news.now_ms = w->now_ms;
    news.random = w->random;
    w->orders = keeper_plan_step(&w->plan, &news);
}

static void wake(struct world *w)
{
    step(w, (struct keeper_news){ .what = KEEPER_NOTHING });
}

static void grant(struct world *w, int64_t lasts_ms, int64_t renew_after_ms)
{
    step(w, (struct keeper_news){ .what = KEEPER_GRANTED,
                                  .ends_ms = w->now_ms + lasts_ms,
                                  .renew_ms = w->now_ms + renew_after_ms });
}

static void fail_with(struct world *w, enum twinlease_code code, const char *problem)
{
    struct twinlease_error error = { .code = code };

    snprintf(error.problem, sizeof error.problem, "%s", problem);
    step(w, (struct keeper_news){ .what = KEEPER_FAILED, .error = &error });
}

static void begin(struct world *w, bool once)
{
    *w = (struct world){ .now_ms = START };
    keeper_plan_init(&w->plan, once, w->now_ms);
    wake(w);
    assert_int_equal(w->orders.event, 0);
    assert_int_equal(w->orders.deed, KEEPER_ACQUIRE); /* at once */
    assert_int_equal(w->orders.until_ms, -1);
}

static void begin_holding(struct world *w, bool once, int64_t lasts_ms, int64_t renew_after_ms)
{
    begin(w, once);
    grant(w, lasts_ms, renew_after_ms);
    assert_int_equal(w->orders.event, TWINLEASE_EVENT_ACQUIRED);
    assert_int_equal(w->orders.deed, KEEPER_WAIT);
}

/* Lets the ordered wait pass. */
static void wait_out(struct world *w)
{
    assert_int_equal(w->orders.deed, KEEPER_WAIT);
    assert_true(w->orders.until_ms > w->now_ms);
    w->now_ms = w->orders.until_ms;
    wake(w);
}

/* Holding, and asked to renew. */
static void begin_renewing(struct world *w, int64_t lasts_ms)
{
    begin_holding(w, false, lasts_ms, lasts_ms / 4);
    wait_out(w);
    assert_int_equal(w->orders.deed, KEEPER_RENEW);
}

/* ---- renewing in time -------------------------------------------------------------------- */

static void renewal_comes_a_tenth_early_or_late(void **state)
{
    (void)state;
    for (size_t i = 2; i < ARRAY_SIZE(lease_spans); i++) {
        int64_t after_ms = lease_spans[i] / 2, low = INT64_MAX, high = 0;
        for (uint32_t random = 0; random < 1000; random++) {
            struct world w;
            begin(&w, false);
            w.random = random * 4294967;
            grant(&w, lease_spans[i], after_ms);
            int64_t wait_ms = w.orders.until_ms - w.now_ms;
            low = wait_ms < low ? wait_ms : low;
            high = wait_ms > high ? wait_ms : high;
            assert_int_equal(keeper_plan_next_try(&w.plan, w.now_ms), wait_ms);
        }
        assert_true(low >= after_ms * 9 / 10 && low < after_ms * 91 / 100);
        assert_true(high <= after_ms * 11 / 10);
        /* half of a short lease is as late as it may be: the next test */
        assert_true(high > after_ms * 109 / 100 || lease_spans[i] < 40000);
    }
}

static void renewal_leaves_time_for_two_tries(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(lease_spans); i++) {
        int64_t lasts_ms = lease_spans[i];
        struct world w;
        begin_holding(&w, false, lasts_ms, lasts_ms); /* a node that says: at the very end */
        int64_t left_ms = w.plan.ends_ms - w.orders.until_ms;
        assert_true(left_ms >= 20000 || left_ms >= lasts_ms / 2);
    }
}

static void overdue_renewal_is_no_loop(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(lease_spans); i++) {
        int64_t lasts_ms = lease_spans[i];
        for (int64_t after_ms = -DAY_MS; after_ms <= 0; after_ms += DAY_MS) {
            struct world w;
            begin_holding(&w, false, lasts_ms, after_ms);
            int64_t wait_ms = w.orders.until_ms - w.now_ms;
            assert_int_equal(wait_ms, lasts_ms >= 4000 ? 1000 : lasts_ms / 4);
        }
    }
}

static void renewals_go_on_and_on(void **state)
{
    struct world w;

    (void)state;
    begin_holding(&w, false, HOUR_MS, HOUR_MS / 4);
    for (int i = 0; i < 100; i++) {
        int64_t ends_ms = w.plan.ends_ms;
        w.random += 77777;
        wait_out(&w);
        assert_int_equal(w.orders.event, 0);
        assert_int_equal(w.orders.deed, KEEPER_RENEW);
        grant(&w, HOUR_MS, HOUR_MS / 4);
        assert_int_equal(w.orders.event, TWINLEASE_EVENT_RENEWED);
        assert_true(w.plan.ends_ms > ends_ms);
    }
}

/* ---- renewing in vain -------------------------------------------------------------------- */

/* Until the lease is lost, with tries that fail at once. Returns how many there were. */
static int64_t fail_to_the_end(struct world *w, int64_t *last_try_ms)
{
    int64_t tries = 0;

    while (w->orders.event != TWINLEASE_EVENT_LOST) {
        if (w->orders.deed == KEEPER_RENEW) {
            int64_t left_ms = w->plan.ends_ms - w->now_ms;
            assert_true(left_ms > 0);
            assert_true(w->orders.until_ms > w->now_ms);
            assert_true(w->orders.until_ms <= w->plan.ends_ms);
            tries++;
            *last_try_ms = left_ms;
            fail_with(w, TWINLEASE_NO_NODE, "");
            int64_t pause_ms = w->orders.until_ms - w->now_ms;
            assert_true(pause_ms <= 37500);
            assert_true(pause_ms <= left_ms / 4 || pause_ms <= 200);
            assert_true(pause_ms >= 200 || pause_ms == left_ms);
        } else {
            w->random = w->random * 1664525 + 1013904223;
            wait_out(w);
        }
    }
    return tries;
}

static void failed_renewals_come_denser_to_the_end(void **state)
{
    (void)state;
    for (size_t i = 1; i < ARRAY_SIZE(lease_spans); i++) {
        int64_t lasts_ms = lease_spans[i], last_try_ms = 0;
        struct world w;
        begin_renewing(&w, lasts_ms);
        int64_t tries = fail_to_the_end(&w, &last_try_ms);
        assert_int_equal(w.now_ms, w.plan.next_ms);
        assert_int_equal(w.now_ms, START + lasts_ms); /* lost at its end and not before */
        assert_true(last_try_ms <= 400);
        assert_true(tries >= 3);
        assert_true(tries <= 30 + lasts_ms / 20000);
        assert_int_equal(w.orders.deed, KEEPER_ACQUIRE); /* another one, at once */
    }
}

/* Nodes that say nothing: each try lasts as long as it may. */
static void tries_that_hang_leave_time_for_others(void **state)
{
    (void)state;
    for (size_t i = 1; i < ARRAY_SIZE(lease_spans); i++) {
        int64_t lasts_ms = lease_spans[i], tries = 0, longest_ms = 0;
        struct world w;
        begin_renewing(&w, lasts_ms);
        while (w.orders.event != TWINLEASE_EVENT_LOST) {
            if (w.orders.deed == KEEPER_RENEW) {
                int64_t span_ms = w.orders.until_ms - w.now_ms, left_ms = w.plan.ends_ms - w.now_ms;
                assert_true(span_ms <= left_ms / 2 || span_ms == 5000 || span_ms == left_ms);
                longest_ms = span_ms > longest_ms ? span_ms : longest_ms;
                tries++;
                w.now_ms = w.orders.until_ms;
                fail_with(&w, TWINLEASE_NO_NODE, "");
            } else {
                wait_out(&w);
            }
        }
        assert_int_equal(w.now_ms, START + lasts_ms);
        assert_true(tries >= 2 || lasts_ms <= 10000);
        /* one try comes past a node that is mute for 2 s */
        assert_true(longest_ms >= 2000 || lasts_ms < 3000);
    }
}

static void after_a_loss_pauses_begin_small(void **state)
{
    int64_t last_try_ms = 0;
    struct world w;

    (void)state;
    begin_renewing(&w, HOUR_MS);
    fail_to_the_end(&w, &last_try_ms);
    fail_with(&w, TWINLEASE_NO_NODE, "");
    assert_int_equal(w.orders.event,
                     TWINLEASE_EVENT_DENIED); /* the cause is not new, the event is */
    assert_in_range(w.orders.until_ms - w.now_ms, 750, 1250);
}

static void trouble_is_over_when_a_renewal_succeeds(void **state)
{
    struct world w;

    (void)state;
    begin_renewing(&w, HOUR_MS);
    for (int i = 0; i < 20; i++) {
        fail_with(&w, TWINLEASE_NO_NODE, "");
        assert_int_equal(w.orders.event, i ? 0 : TWINLEASE_EVENT_TROUBLE);
        wait_out(&w);
    }
    grant(&w, HOUR_MS, HOUR_MS / 4);
    assert_int_equal(w.orders.event, TWINLEASE_EVENT_RENEWED);
    wait_out(&w);
    fail_with(&w, TWINLEASE_NO_NODE, "");
    assert_int_equal(w.orders.event, TWINLEASE_EVENT_TROUBLE); /* it was mended in between */
    assert_in_range(w.orders.until_ms - w.now_ms, 750, 1250);  /* pauses begin small again */
}

static void each_cause_is_told_once(void **state)
{
    struct world w;

    (void)state;
    for (int holding = 0; holding < 2; holding++) {
        enum twinlease_event event = holding ? TWINLEASE_EVENT_TROUBLE : TWINLEASE_EVENT_DENIED;
        if (holding)
            begin_renewing(&w, 90 * DAY_MS);
        else
            begin(&w, false);
        static const struct {
            enum twinlease_code code;
            const char *problem;
            bool told;
        } cases[] = {
            { TWINLEASE_NO_NODE, "", true },
            { TWINLEASE_NO_NODE, "", false },
            { TWINLEASE_NO_NODE, "not_ready", true },
            { TWINLEASE_NO_NODE, "not_ready", false },
            { TWINLEASE_NO_SEAT, "not_ready", true },
            { TWINLEASE_NO_SEAT, "no_free_seat", true },
            { TWINLEASE_NO_SEAT, "no_free_seat", false },
            { TWINLEASE_NO_NODE, "", true },
        };
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
            fail_with(&w, cases[i].code, cases[i].problem);
            assert_int_equal(w.orders.event, cases[i].told ? event : 0);
            wait_out(&w);
        }
    }
}

/* ---- losing ------------------------------------------------------------------------------ */

static void lost_lease_is_replaced_once_it_is_over(void **state)
{
    static const struct {
        const char *problem;
        int64_t pause_min_ms, pause_max_ms;
    } cases[] = {
        { "lease_unknown", 0, 0 }, /* forgotten */
        { "lease_ended", 5000, 7500 },
        { "lease_mismatch", 5000, 7500 },
        { "", 5000, 7500 }, /* the origin was deleted */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct world w;
        begin_renewing(&w, HOUR_MS);
        w.random = (uint32_t)i * 1234567;
        fail_with(&w, TWINLEASE_LEASE_LOST, cases[i].problem);
        assert_int_equal(w.orders.event, TWINLEASE_EVENT_LOST);
        int64_t pause_ms = keeper_plan_next_try(&w.plan, w.now_ms);
        assert_in_range(pause_ms, cases[i].pause_min_ms, cases[i].pause_max_ms);
        if (pause_ms)
            wait_out(&w);
        assert_int_equal(w.orders.deed, KEEPER_ACQUIRE);
        assert_int_equal(w.orders.until_ms, -1);
        grant(&w, HOUR_MS, HOUR_MS / 4);
        assert_int_equal(w.orders.event, TWINLEASE_EVENT_ACQUIRED);
    }
}

static void suspended_past_the_end_it_is_lost_unasked(void **state)
{
    struct world w;

    (void)state;
    begin_holding(&w, false, HOUR_MS, HOUR_MS / 4);
    w.now_ms += DAY_MS;
    wake(&w);
    assert_int_equal(w.orders.event, TWINLEASE_EVENT_LOST);
    assert_int_equal(w.orders.deed, KEEPER_ACQUIRE);

    begin_holding(&w, false, HOUR_MS, HOUR_MS / 4);
    w.now_ms = w.plan.ends_ms; /* the very instant is too late … */
    wake(&w);
    assert_int_equal(w.orders.event, TWINLEASE_EVENT_LOST);

    begin_holding(&w, false, HOUR_MS, HOUR_MS / 4);
    w.now_ms = w.plan.ends_ms - 1; /* … and the one before is not */
    wake(&w);
    assert_int_equal(w.orders.event, 0);
    assert_int_equal(w.orders.deed, KEEPER_RENEW);
    assert_int_equal(w.orders.until_ms, w.plan.ends_ms);
}

static void suspended_in_a_renewal_it_is_lost_whatever_the_reason(void **state)
{
    static const enum twinlease_code codes[] = { TWINLEASE_NO_NODE, TWINLEASE_LEASE_LOST,
                                                 TWINLEASE_NOT_AUTHORISED };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
        struct world w;
        begin_renewing(&w, HOUR_MS);
        w.now_ms += DAY_MS;
        fail_with(&w, codes[i], "lease_ended");
        assert_int_equal(w.orders.event, TWINLEASE_EVENT_LOST);
        assert_int_equal(w.orders.deed, KEEPER_ACQUIRE);
    }
}

static void suspended_in_a_renewal_that_succeeds_it_is_held(void **state)
{
    struct world w;

    (void)state;
    begin_renewing(&w, HOUR_MS);
    w.now_ms += DAY_MS;
    grant(&w, HOUR_MS, HOUR_MS / 4);
    assert_int_equal(w.orders.event, TWINLEASE_EVENT_RENEWED);
}

static void once_lost_it_may_stay_lost(void **state)
{
    struct world w;

    (void)state;
    begin(&w, true);
    fail_with(&w, TWINLEASE_NO_SEAT, "no_free_seat"); /* none was held yet: it goes on */
    wait_out(&w);
    grant(&w, HOUR_MS, HOUR_MS / 4);
    w.now_ms += DAY_MS;
    wake(&w);
    assert_int_equal(w.orders.event, TWINLEASE_EVENT_LOST);
    assert_int_equal(w.orders.deed, KEEPER_WAIT);
    assert_int_equal(w.orders.until_ms, -1);
    assert_int_equal(keeper_plan_next_try(&w.plan, w.now_ms), -1);
    w.now_ms += DAY_MS;
    wake(&w);
    assert_int_equal(w.orders.event, 0);
    assert_int_equal(w.orders.deed, KEEPER_WAIT);
    assert_int_equal(w.orders.until_ms, -1);
}

/* ---- acquiring in vain ------------------------------------------------------------------- */

static void pauses_between_requests_grow_to_half_a_minute(void **state)
{
    static const int64_t pauses[] = { 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000 };
    static const enum twinlease_code codes[] = { TWINLEASE_NO_SEAT, TWINLEASE_NO_NODE,
                                                 TWINLEASE_BAD_ANSWER, TWINLEASE_LEASE_LOST };

    (void)state;
    for (size_t c = 0; c < ARRAY_SIZE(codes); c++) {
        for (uint32_t random = 0; random < 1000; random++) {
            struct world w;
            begin(&w, false);
            w.random = random;
            for (size_t i = 0; i < ARRAY_SIZE(pauses); i++) {
                fail_with(&w, codes[c], "");
                int64_t pause_ms = w.orders.until_ms - w.now_ms;
                assert_in_range(pause_ms, pauses[i] * 3 / 4, pauses[i] * 5 / 4);
                wait_out(&w);
                assert_int_equal(w.orders.deed, KEEPER_ACQUIRE);
            }
        }
    }
}

static void what_a_person_must_mend_is_asked_for_slowly(void **state)
{
    static const enum twinlease_code codes[] = {
        TWINLEASE_ERROR, TWINLEASE_USAGE,     TWINLEASE_NOT_AUTHORISED, TWINLEASE_VERIFICATION,
        TWINLEASE_STATE, TWINLEASE_UNTRUSTED, TWINLEASE_REFUSED,        TWINLEASE_BAD_FILE,
    };

    (void)state;
    for (size_t c = 0; c < ARRAY_SIZE(codes); c++) {
        struct world w;
        begin(&w, false);
        fail_with(&w, codes[c], "");
        assert_int_equal(w.orders.event, TWINLEASE_EVENT_DENIED);
        assert_in_range(w.orders.until_ms - w.now_ms, 27000, 33000);
        wait_out(&w);
        assert_int_equal(w.orders.deed, KEEPER_ACQUIRE);
    }
}

static void endless_failure_overflows_nothing(void **state)
{
    struct world w;

    (void)state;
    begin(&w, false);
    for (int i = 0; i < 1000; i++) {
        w.plan.failures += i == 500 ? UINT32_MAX - 600 : 0;
        w.random = UINT32_MAX;
        fail_with(&w, TWINLEASE_NO_NODE, "");
        assert_in_range(w.orders.until_ms - w.now_ms, i < 6 ? 750 : 22500, 37500);
        wait_out(&w);
    }
}

/* ---- beginning with a lease -------------------------------------------------------------- */

static void adopt(struct world *w, int64_t lasts_ms, int64_t renew_after_ms)
{
    struct keeper_news news = { .now_ms = START,
                                .ends_ms = START + lasts_ms,
                                .renew_ms = START + renew_after_ms };

    *w = (struct world){ .now_ms = START };
    keeper_plan_init(&w->plan, false, START);
    keeper_plan_adopt(&w->plan, &news);
    wake(w);
}

static void lease_brought_along_is_kept(void **state)
{
    struct world w;

    (void)state;
    adopt(&w, HOUR_MS, HOUR_MS / 4);
    assert_int_equal(w.orders.event, 0);
    assert_int_equal(w.orders.deed, KEEPER_WAIT);
    assert_int_equal(w.orders.until_ms, START + HOUR_MS / 4 * 9 / 10);
    adopt(&w, HOUR_MS, 0); /* overdue */
    assert_int_equal(w.orders.event, 0);
    assert_int_equal(w.orders.deed, KEEPER_RENEW);
    adopt(&w, 0, 0); /* over */
    assert_int_equal(w.orders.event, TWINLEASE_EVENT_LOST);
    assert_int_equal(w.orders.deed, KEEPER_ACQUIRE);
    adopt(&w, -START, -START); /* given back */
    assert_int_equal(w.orders.event, TWINLEASE_EVENT_LOST);
}

/* ---- anything at any time ---------------------------------------------------------------- */

static uint32_t draw(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

/* Carries an order out, or is woken early or late. */
static void fate(struct world *w, uint32_t *seed)
{
    static const char *const problems[] = { "", "lease_ended", "lease_unknown", "no_free_seat" };
    int64_t span_ms = lease_spans[draw(seed) % ARRAY_SIZE(lease_spans)];

    w->random = draw(seed);
    if (w->orders.deed == KEEPER_WAIT) {
        if (draw(seed) % 4 && w->orders.until_ms >= 0)
            w->now_ms = w->orders.until_ms;
        else
            w->now_ms += draw(seed) % 2 ? span_ms : 0;
        wake(w);
        return;
    }
    w->now_ms += draw(seed) % 12000;
    if (draw(seed) % 3)
        fail_with(w, 1 + draw(seed) % TWINLEASE_INTERRUPTED, problems[draw(seed) % 4]);
    else
        grant(w, span_ms, (int64_t)(draw(seed) % 100) * span_ms / 100);
}

/* held: whether there was a lease before the last step. */
static void check(const struct world *w, bool held, bool once)
{
    bool holds = w->plan.phase == KEEPER_HOLDING;

    switch (w->orders.event) {
    case TWINLEASE_EVENT_ACQUIRED:
        assert_true(!held && holds);
        break;
    case TWINLEASE_EVENT_RENEWED:
    case TWINLEASE_EVENT_TROUBLE:
        assert_true(held && holds);
        break;
    case TWINLEASE_EVENT_LOST:
        assert_true(held && !holds);
        assert_true((w->plan.phase == KEEPER_OVER) == once);
        break;
    case TWINLEASE_EVENT_DENIED:
    default:
        assert_int_equal(held, holds);
    }
    assert_true(w->orders.deed != KEEPER_ACQUIRE || w->plan.phase == KEEPER_SEEKING);
    assert_true(w->orders.deed != KEEPER_RENEW || holds);
    assert_true(!holds || w->now_ms < w->plan.ends_ms);
    if (w->orders.until_ms < 0)
        assert_true(w->orders.deed == KEEPER_ACQUIRE || w->plan.phase == KEEPER_OVER);
    else
        assert_true(w->orders.until_ms > w->now_ms);
    if (holds)
        assert_in_range(w->orders.until_ms, w->now_ms + 1, w->plan.ends_ms);
    if (w->plan.phase == KEEPER_SEEKING)
        assert_in_range(keeper_plan_next_try(&w->plan, w->now_ms), 0, 37500);
}

static void whatever_happens_it_never_asks_for_two(void **state)
{
    uint32_t seed = 4711;

    (void)state;
    for (int run = 0; run < 500; run++) {
        struct world w;
        bool once = run % 2;
        begin(&w, once);
        for (int i = 0; i < 400; i++) {
            bool held = w.plan.phase == KEEPER_HOLDING;
            fate(&w, &seed);
            check(&w, held, once);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(renewal_comes_a_tenth_early_or_late),
        cmocka_unit_test(renewal_leaves_time_for_two_tries),
        cmocka_unit_test(overdue_renewal_is_no_loop),
        cmocka_unit_test(renewals_go_on_and_on),
        cmocka_unit_test(failed_renewals_come_denser_to_the_end),
        cmocka_unit_test(tries_that_hang_leave_time_for_others),
        cmocka_unit_test(after_a_loss_pauses_begin_small),
        cmocka_unit_test(trouble_is_over_when_a_renewal_succeeds),
        cmocka_unit_test(each_cause_is_told_once),
        cmocka_unit_test(lost_lease_is_replaced_once_it_is_over),
        cmocka_unit_test(suspended_past_the_end_it_is_lost_unasked),
        cmocka_unit_test(suspended_in_a_renewal_it_is_lost_whatever_the_reason),
        cmocka_unit_test(suspended_in_a_renewal_that_succeeds_it_is_held),
        cmocka_unit_test(once_lost_it_may_stay_lost),
        cmocka_unit_test(pauses_between_requests_grow_to_half_a_minute),
        cmocka_unit_test(what_a_person_must_mend_is_asked_for_slowly),
        cmocka_unit_test(endless_failure_overflows_nothing),
        cmocka_unit_test(lease_brought_along_is_kept),
        cmocka_unit_test(whatever_happens_it_never_asks_for_two),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
