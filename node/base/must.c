#include "base/must.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Noreturn void must_fail(const char *expression, const char *file, int line, const char *function)
{
    fprintf(stderr, "twinlease: broken assertion `%s` in %s (%s:%d)\n", expression, function, file,
            line);
    fflush(stderr);
    abort();
}

static void *checked(void *p, size_t size)
{
    if (!p && size) {
        static const char text[] = "twinlease: out of memory\n";
        fwrite(text, 1, sizeof text - 1, stderr);
        abort();
    }
    return p;
}

void *mem_alloc(size_t size)
{
    return checked(malloc(size ? size : 1), size);
}

void *mem_calloc(size_t count, size_t size)
{
    return checked(calloc(count ? count : 1, size ? size : 1), 1);
}

void *mem_resize(void *p, size_t size)
{
    return checked(realloc(p, size ? size : 1), 1);
}

char *mem_memdup(const void *p, size_t size)
{
    char *copy = mem_alloc(size + 1);
    if (size)
        memcpy(copy, p, size);
    copy[size] = '\0';
    return copy;
}

char *mem_strdup(const char *s)
{
    return mem_memdup(s, strlen(s));
}

void mem_free(void *p)
{
    free(p);
}
