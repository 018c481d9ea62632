#include "keeper_plan.h"

#include <limits.h>
#include <string.h>

#include "backoff.h"
#include "base/must.h"

#define SLOW_PAUSE_MS 30000 /* where only a person can mend it */
#define RETRY_MIN_MS  200   /* between renewals, however near the end is */
#define RENEW_MIN_MS  1000  /* from one that succeeded to the next, if the lease is that long */
#define TRY_MS        10000 /* what the longest call of a handle takes … */
#define TRY_MIN_MS    5000  /* … and what one takes that meets a mute node first */
#define END_PAUSE_MS  5000  /* before asking again for what somebody ended */

static const struct backoff patient = { .first_ms = 1000, .limit_ms = 30000 };

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Somewhere between so many thousandths of the span. */
static int64_t jitter(int64_t span_ms, unsigned from, unsigned to, uint32_t random)
{
    return span_ms * (int64_t)(from + random % (to - from + 1)) / 1000;
}

/* After one more failure. */
static int64_t growing_pause(struct keeper_plan *plan, uint32_t random)
{
    int64_t pause_ms = backoff_ms(&patient, plan->failures, random);

    if (plan->failures < UINT_MAX)
        plan->failures++;
    return pause_ms;
}

void keeper_plan_init(struct keeper_plan *plan, bool once, int64_t now_ms)
{
    *plan = (struct keeper_plan){ .once = once, .phase = KEEPER_SEEKING, .next_ms = now_ms };
}

/* ---- what became of it ------------------------------------------------------------------- */

/* The event, if there is something new about it. */
static enum twinlease_event tell(struct keeper_plan *plan, enum twinlease_event event,
                                 const struct twinlease_error *error)
{
    struct keeper_cause cause = { .code = error->code };

    if (plan->told.code == error->code && strcmp(plan->told.problem, error->problem) == 0)
        return 0;
    memcpy(cause.problem, error->problem, sizeof cause.problem);
    plan->told = cause;
    return event;
}

static enum twinlease_event hold(struct keeper_plan *plan, const struct keeper_news *news)
{
    bool held = plan->phase == KEEPER_HOLDING;
    int64_t left_ms = news->ends_ms - news->now_ms;
    int64_t wait_ms = jitter(most(news->renew_ms - news->now_ms, 0), 900, 1100, news->random);

    wait_ms = most(wait_ms, least(RENEW_MIN_MS, left_ms / 4));
    wait_ms = least(wait_ms, left_ms - 2 * least(TRY_MS, left_ms / 4)); /* two tries at least */
    plan->phase = KEEPER_HOLDING;
    plan->ends_ms = news->ends_ms;
    plan->next_ms = news->now_ms + most(wait_ms, 0);
    plan->failures = 0;
    plan->told = (struct keeper_cause){ .code = TWINLEASE_OK };
    return held ? TWINLEASE_EVENT_RENEWED : TWINLEASE_EVENT_ACQUIRED;
}

void keeper_plan_adopt(struct keeper_plan *plan, const struct keeper_news *news)
{
    must(plan->phase == KEEPER_SEEKING);
    if (news->ends_ms > news->now_ms && news->renew_ms > news->now_ms) {
        hold(plan, news);
        return;
    }
    plan->phase = KEEPER_HOLDING;
    plan->ends_ms = news->ends_ms;
    plan->next_ms = news->now_ms;
}

static enum twinlease_event lose(struct keeper_plan *plan, int64_t again_ms)
{
    plan->phase = plan->once ? KEEPER_OVER : KEEPER_SEEKING;
    plan->next_ms = again_ms;
    plan->failures = 0;
    plan->told = (struct keeper_cause){ .code = TWINLEASE_OK };
    return TWINLEASE_EVENT_LOST;
}

/* A node that does not know a lease has forgotten it; all else was somebody's decision. */
static bool ended_on_purpose(const struct twinlease_error *error)
{
    return strcmp(error->problem, "lease_unknown") != 0;
}

static enum twinlease_event fail_to_renew(struct keeper_plan *plan, const struct keeper_news *news)
{
    int64_t left_ms = plan->ends_ms - news->now_ms;
    int64_t pause_ms;

    if (left_ms <= 0)
        return lose(plan, news->now_ms);
    if (news->error->code == TWINLEASE_LEASE_LOST) {
        pause_ms = ended_on_purpose(news->error) ? END_PAUSE_MS : 0;
        return lose(plan, news->now_ms + jitter(pause_ms, 1000, 1500, news->random));
    }
    pause_ms = least(growing_pause(plan, news->random), left_ms / 4);
    plan->next_ms = news->now_ms + most(pause_ms, RETRY_MIN_MS);
    return tell(plan, TWINLEASE_EVENT_TROUBLE, news->error);
}

static bool mends_itself(enum twinlease_code code)
{
    return code == TWINLEASE_NO_SEAT || code == TWINLEASE_NO_NODE || code == TWINLEASE_BAD_ANSWER ||
           code == TWINLEASE_LEASE_LOST;
}

static enum twinlease_event fail_to_acquire(struct keeper_plan *plan,
                                            const struct keeper_news *news)
{
    int64_t pause_ms;

    if (mends_itself(news->error->code))
        pause_ms = growing_pause(plan, news->random);
    else
        pause_ms = jitter(SLOW_PAUSE_MS, 900, 1100, news->random);
    plan->next_ms = news->now_ms + pause_ms;
    return tell(plan, TWINLEASE_EVENT_DENIED, news->error);
}

static enum twinlease_event learn(struct keeper_plan *plan, const struct keeper_news *news)
{
    switch (news->what) {
    case KEEPER_GRANTED:
        must(news->ends_ms > news->now_ms);
        return hold(plan, news);
    case KEEPER_FAILED:
        if (plan->phase == KEEPER_HOLDING)
            return fail_to_renew(plan, news);
        return fail_to_acquire(plan, news);
    case KEEPER_NOTHING:
        break;
    }
    if (plan->phase == KEEPER_HOLDING && news->now_ms >= plan->ends_ms)
        return lose(plan, news->now_ms);
    return 0;
}

/* ---- what to do next --------------------------------------------------------------------- */

struct keeper_orders keeper_plan_step(struct keeper_plan *plan, const struct keeper_news *news)
{
    must(plan->phase != KEEPER_OVER || news->what == KEEPER_NOTHING);
    struct keeper_orders orders = { .event = learn(plan, news), .until_ms = -1 };
    int64_t now_ms = news->now_ms;

    if (plan->phase == KEEPER_OVER)
        return orders;
    if (plan->phase == KEEPER_SEEKING && now_ms >= plan->next_ms) {
        orders.deed = KEEPER_ACQUIRE;
    } else if (plan->phase == KEEPER_SEEKING) {
        orders.until_ms = plan->next_ms;
    } else if (now_ms >= plan->next_ms) {
        int64_t left_ms = plan->ends_ms - now_ms;
        orders.deed = KEEPER_RENEW;
        orders.until_ms = now_ms + least(most(left_ms / 2, TRY_MIN_MS), left_ms);
    } else {
        orders.until_ms = least(plan->next_ms, plan->ends_ms);
    }
    return orders;
}

int64_t keeper_plan_next_try(const struct keeper_plan *plan, int64_t now_ms)
{
    if (plan->phase == KEEPER_OVER)
        return -1;
    return most(plan->next_ms - now_ms, 0);
}
