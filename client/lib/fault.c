#include "fault.h"

#include <stdarg.h>
#include <stdio.h>

void fault_clear(struct twinlease_error *error)
{
    *error = (struct twinlease_error){ .seats = -1, .seats_used = -1 };
}

static void PRINTF(2, 0)
    write_sentence(struct twinlease_error *error, const char *format, va_list args)
{
    vsnprintf(error->message, sizeof error->message, format, args);
    for (unsigned char *p = (unsigned char *)error->message; *p; p++) {
        if (*p < 0x20 || *p == 0x7f)
            *p = ' ';
    }
}

enum twinlease_code fault_set(struct twinlease_error *error, enum twinlease_code code,
                              const char *format, ...)
{
    struct twinlease_error fresh;
    va_list args;

    must(code != TWINLEASE_OK);
    fault_clear(&fresh);
    fresh.code = code;
    va_start(args, format);
    write_sentence(&fresh, format, args); /* the old message may be among the arguments */
    va_end(args);
    *error = fresh;
    return code;
}

enum twinlease_code fault_link(struct twinlease_error *error, enum twinlease_link link,
                               const char *format, ...)
{
    struct twinlease_error fresh;
    va_list args;

    fault_clear(&fresh);
    fresh.code = TWINLEASE_VERIFICATION;
    fresh.link = link;
    va_start(args, format);
    write_sentence(&fresh, format, args);
    va_end(args);
    *error = fresh;
    return fresh.code;
}

const char *twinlease_code_name(enum twinlease_code code)
{
    switch (code) {
#define X(name, value, text, meaning)                                                              \
    case TWINLEASE_##name:                                                                         \
        return text;
        TWINLEASE_CODES(X)
#undef X
    }
    return "error";
}

const char *twinlease_link_name(enum twinlease_link link)
{
    switch (link) {
    case TWINLEASE_LINK_PUBLISHER:
        return "publisher";
    case TWINLEASE_LINK_ENTITLEMENT:
        return "entitlement";
    case TWINLEASE_LINK_INSTANCE:
        return "instance";
    case TWINLEASE_LINK_LEASE:
        return "lease";
    case TWINLEASE_LINK_TIME:
        return "time";
    case TWINLEASE_LINK_NONE:
        break;
    }
    return "";
}

const char *twinlease_version(void)
{
    return TWINLEASE_VERSION;
}
