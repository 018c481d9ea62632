#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/utf8.h"

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

/* The cut at the end may have gone through a character, and a culprit may never have been text. */
static void make_printable(char *text)
{
    const char *end = text + strlen(text);

    for (char *p = text; p < end;) {
        size_t size = utf8_size(p, (size_t)(end - p));
        if (size == 0)
            *p = '?';
        else if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' ';
        p += size ? size : 1;
    }
}

enum err diag_set(struct diag *diag, enum err e, const char *format, ...)
{
    va_list args;

    if (!diag)
        return e;
    va_start(args, format);
    vsnprintf(diag->text, sizeof diag->text, format, args);
    va_end(args);
    make_printable(diag->text);
    return e;
}
