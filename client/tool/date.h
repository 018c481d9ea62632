/* Dates on the command line: RFC 3339, a plain date meaning the whole day in UTC. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/must.h"

/* "2027-01-01" is its first instant, "2027-01-01T06:00:00Z" itself. */
bool date_parse_begin(const char *text, int64_t *out_ms) MUST_USE;
/* "2027-12-31" is the instant after its last: that day still counts. */
bool date_parse_end(const char *text, int64_t *out_ms) MUST_USE;
