#include "backoff.h"

#include "base/must.h"

int64_t backoff_ms(const struct backoff *backoff, unsigned round, uint32_t dice)
{
    int64_t pause_ms = backoff->first_ms;

    must(backoff->first_ms > 0 && backoff->limit_ms >= backoff->first_ms);
    while (round-- && pause_ms < backoff->limit_ms)
        pause_ms *= 2;
    if (pause_ms > backoff->limit_ms)
        pause_ms = backoff->limit_ms;
    int64_t quarter_ms = pause_ms / 4;
    return pause_ms - quarter_ms + dice % (2 * quarter_ms + 1);
}
