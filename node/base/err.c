#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>

static const struct err_info table[ERR_COUNT] = {
#define X(name, http, retry, code, title) [ERR_##name] = { http, retry, code, title },
    ERR_TBL(X)
#undef X
};

const struct err_info *err_info(enum err e)
{
    must(e >= 0 && e < ERR_COUNT);
    return &table[e];
}

enum err diag_set(struct diag *diag, enum err e, const char *format, ...)
{
    va_list args;

    if (!diag)
        return e;
    va_start(args, format);
    vsnprintf(diag->text, sizeof diag->text, format, args);
    va_end(args);
    for (unsigned char *p = (unsigned char *)diag->text; *p; p++) {
        if (*p < 0x20 || *p == 0x7f)
            *p = ' ';
    }
    return e;
}
