/* The last events of a run, printed when it fails. */
#pragma once

#include <stdint.h>
#include <stdio.h>

#include "base/must.h"

#define TRACE_LINES 4000 /* of the run that was asked for */
#define TRACE_SHORT 200  /* of one that failed among many */
#define TRACE_WIDTH 160

struct trace {
    char (*lines)[TRACE_WIDTH]; /* TRACE_LINES of them; NULL: nobody asked for it */
    uint64_t count;             /* ever written */
};

void trace_start(struct trace *trace);
void trace_fini(struct trace *trace);
void trace_line(struct trace *trace, int64_t now_ms, const char *format, ...) PRINTF(3, 4);
void trace_print(const struct trace *trace, uint64_t lines, FILE *out); /* the last so many */
