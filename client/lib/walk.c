#include "walk.h"

#include "backoff.h"
#include "base/must.h"

void walk_order(size_t count, size_t first, const bool *silent, size_t *out)
{
    size_t placed = 0;

    must(count > 0 && count <= WALK_NODES_MAX && first < count);
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < count; i++) {
            size_t node = (first + i) % count;
            if (silent[node] == (pass == 1))
                out[placed++] = node;
        }
    }
    must(placed == count);
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t walk_budget_ms(const struct walk_step *step)
{
    must(step->left_ms > 0 && step->attempt_ms > 0);
    /* However short the call is to be, the next one has its time, too. */
    int64_t share_ms = step->last ? step->left_ms : (step->left_ms + 1) / 2;
    int64_t attempt_ms = least(step->attempt_ms, share_ms);

    if (step->silent)
        return step->answered ? least(WALK_GLANCE_MS, attempt_ms) : attempt_ms;
    return step->last && !step->answered ? step->left_ms : attempt_ms;
}

int64_t walk_pause_ms(unsigned round, uint32_t dice)
{
    static const struct backoff backoff = { .first_ms = 50, .limit_ms = 1000 };

    return backoff_ms(&backoff, round, dice);
}
