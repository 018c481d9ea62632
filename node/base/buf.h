/* A byte builder with a ceiling. An append that would pass the ceiling marks the buffer as failed;
 * later appends do nothing, so a caller checks once, at the end, with buf_ok().
 *
 * Invariant: bytes[length] is always NUL once something was allocated; length <= max. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/must.h"

struct buf {
    char *bytes;     /* NULL until the first append; buf_text() is never NULL */
    size_t length;   /* in use, without the NUL */
    size_t capacity; /* allocated */
    size_t max;      /* ceiling for length */
    bool failed;     /* an append would have passed the ceiling */
};

void buf_init(struct buf *buf, size_t max);
void buf_fini(struct buf *buf);        /* takes a zeroed one too */
void buf_fini_secret(struct buf *buf); /* clears the bytes first */
void buf_clear(struct buf *buf);

/* Makes room for `size` more bytes and returns where they go; NULL (and failed) over the ceiling.
 * The caller writes at most `size` bytes and adds to length itself. */
char *buf_reserve(struct buf *buf, size_t size);
void buf_append(struct buf *buf, const void *bytes, size_t size);
void buf_text_append(struct buf *buf, const char *text);
void buf_format(struct buf *buf, const char *format, ...) PRINTF(2, 3);

/* Big-endian integers, for PostgreSQL's binary parameters and COPY. */
void buf_be16(struct buf *buf, uint16_t value);
void buf_be32(struct buf *buf, uint32_t value);
void buf_be64(struct buf *buf, uint64_t value);

static inline bool buf_ok(const struct buf *buf)
{
    return !buf->failed;
}

static inline const char *buf_text(const struct buf *buf)
{
    return buf->bytes ? buf->bytes : "";
}

/* Hands the bytes over; the buffer is empty again. Never NULL. Free with mem_free(). */
char *buf_take(struct buf *buf);

DEFINE_AUTO_VALUE(struct buf, buf_fini)
DEFINE_AUTO_VALUE(struct buf, buf_fini_secret)
