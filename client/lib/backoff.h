/* How long to wait before the next try: each pause is twice the one before, up to a limit, give or
 * take a quarter, so that those that failed together do not come back together. Pure. */
#pragma once

#include <stdint.h>

struct backoff {
    int64_t first_ms, limit_ms; /* before the quarter */
};

/* round: tries that have failed before this pause's, 0 at first. dice: any number, evenly drawn. */
int64_t backoff_ms(const struct backoff *backoff, unsigned round, uint32_t dice);
