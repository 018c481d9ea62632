/* Reading instants: RFC 3339 dates and date-times. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/must.h"

/* A date-time with any offset ("2027-12-31T18:00:00.5+01:00"), as milliseconds since 1970; what is
 * finer is cut off. A leap second counts as the second after it. Years 0000 to 9999. */
bool instant_parse(const char *text, int64_t *out_ms) MUST_USE;

/* A plain date ("2027-12-31"): midnight UTC at its beginning. */
bool instant_parse_date(const char *text, int64_t *out_ms) MUST_USE;
