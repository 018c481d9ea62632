#include "date.h"

#include "instant.h"

#define DAY_MS INT64_C(86400000)

bool date_parse_begin(const char *text, int64_t *out_ms)
{
    return instant_parse_date(text, out_ms) || instant_parse(text, out_ms);
}

bool date_parse_end(const char *text, int64_t *out_ms)
{
    if (!instant_parse_date(text, out_ms))
        return instant_parse(text, out_ms);
    *out_ms += DAY_MS;
    return true;
}
