#include "trace.h"

#include <inttypes.h>
#include <stdarg.h>

void trace_start(struct trace *trace)
{
    trace->lines = mem_calloc(TRACE_LINES, sizeof *trace->lines);
}

void trace_fini(struct trace *trace)
{
    mem_free(trace->lines);
    *trace = (struct trace){ .lines = NULL };
}

void trace_line(struct trace *trace, int64_t now_ms, const char *format, ...)
{
    must(trace->lines);
    char *line = trace->lines[trace->count++ % TRACE_LINES];
    va_list args;
    int used = snprintf(line, TRACE_WIDTH, "[%9" PRId64 "] ", now_ms);

    must(used > 0 && used < TRACE_WIDTH);
    va_start(args, format);
    vsnprintf(line + used, (size_t)(TRACE_WIDTH - used), format, args);
    va_end(args);
}

void trace_print(const struct trace *trace, uint64_t lines, FILE *out)
{
    uint64_t first = trace->count > lines ? trace->count - lines : 0;

    must(lines <= TRACE_LINES);

    for (uint64_t i = first; i < trace->count; i++)
        fprintf(out, "%s\n", trace->lines[i % TRACE_LINES]);
}
