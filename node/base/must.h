/* Assertions that stay on in release builds, scope-bound clean-up, and ownership hand-over.
 *
 * must() marks what cannot be false unless this program is wrong. A broken must() ends the process
 * at once: the node is crash-only, a restart reloads committed state, and going on with a state
 * that is known to be wrong could sell a seat twice. */
#pragma once

#include <stddef.h>
#include <string.h>

_Noreturn void must_fail(const char *expression, const char *file, int line, const char *function);

#define must(cond) ((cond) ? (void)0 : must_fail(#cond, __FILE__, __LINE__, __func__))

#define MUST_USE      __attribute__((warn_unused_result))
#define PRINTF(f, a)  __attribute__((format(printf, f, a)))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* AUTO(fn) T v = …;  calls fn(v) when v leaves its scope. DEFINE_AUTO makes fn usable so. */
#define AUTO(fn) __attribute__((cleanup(fn##_auto)))
#define DEFINE_AUTO(T, fn)                                                                         \
    static inline void fn##_auto(T *p)                                                             \
    {                                                                                              \
        if (*p)                                                                                    \
            fn(*p);                                                                                \
    }

/* As DEFINE_AUTO, for a value that lives in place: AUTO(buf_fini) struct buf b = …; */
#define DEFINE_AUTO_VALUE(T, fn)                                                                   \
    static inline void fn##_auto(T *p)                                                             \
    {                                                                                              \
        fn(p);                                                                                     \
    }

/* Moves a pointer out of its variable: ownership goes to the caller, the variable becomes NULL. */
#define TAKE(p)                                                                                    \
    __extension__({                                                                                \
        __typeof__(p) taken_ = (p);                                                                \
        (p) = NULL;                                                                                \
        taken_;                                                                                    \
    })

/* Allocation that never fails: out of memory ends the process (crash-only; see above). */
void *mem_alloc(size_t size);
void *mem_calloc(size_t count, size_t size);
void *mem_resize(void *p, size_t size);
char *mem_strdup(const char *s);
char *mem_memdup(const void *p, size_t size); /* adds a terminating NUL */
void mem_free(void *p);
/* For AUTO(mem_free) on a pointer of any type. */
static inline void mem_free_auto(void *variable)
{
    void *p;
    memcpy(&p, variable, sizeof p);
    mem_free(p);
}
