#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void buf_init(struct buf *buf, size_t max)
{
    must(max > 0);
    *buf = (struct buf){ .max = max };
}

void buf_fini(struct buf *buf)
{
    mem_free(buf->bytes);
    *buf = (struct buf){ .max = buf->max };
}

void buf_fini_secret(struct buf *buf)
{
    if (buf->bytes)
        explicit_bzero(buf->bytes, buf->capacity);
    buf_fini(buf);
}

void buf_clear(struct buf *buf)
{
    buf->length = 0;
    buf->failed = false;
    if (buf->bytes)
        buf->bytes[0] = '\0';
}

char *buf_reserve(struct buf *buf, size_t size)
{
    must(buf->max > 0 && buf->length <= buf->max);
    if (buf->failed || size > buf->max - buf->length) {
        buf->failed = true;
        return NULL;
    }
    size_t need = buf->length + size + 1;
    if (need > buf->capacity) {
        size_t grown = buf->capacity ? buf->capacity : 64;
        while (grown < need)
            grown *= 2;
        buf->bytes = mem_resize(buf->bytes, grown);
        buf->capacity = grown;
    }
    return buf->bytes + buf->length;
}

void buf_append(struct buf *buf, const void *bytes, size_t size)
{
    char *at = buf_reserve(buf, size);

    if (!at)
        return;
    if (size)
        memcpy(at, bytes, size);
    buf->length += size;
    buf->bytes[buf->length] = '\0';
}

void buf_text_append(struct buf *buf, const char *text)
{
    buf_append(buf, text, strlen(text));
}

/* Mostly there is room already, and one pass does. */
void buf_format(struct buf *buf, const char *format, ...)
{
    va_list args, again;
    char *at = buf_reserve(buf, 0);

    if (!at)
        return;
    size_t room = buf->capacity - buf->length;
    va_start(args, format);
    va_copy(again, args);
    int size = vsnprintf(at, room, format, args);
    va_end(args);
    must(size >= 0);
    if ((size_t)size >= room || (size_t)size > buf->max - buf->length) {
        *at = '\0'; /* what was cut off is not there */
        at = buf_reserve(buf, (size_t)size);
        if (at)
            vsnprintf(at, (size_t)size + 1, format, again);
    }
    if (at)
        buf->length += (size_t)size;
    va_end(again);
}

static void append_be(struct buf *buf, uint64_t value, size_t size)
{
    unsigned char bytes[8];

    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)(value >> (8 * (size - 1 - i)));
    buf_append(buf, bytes, size);
}

void buf_be16(struct buf *buf, uint16_t value)
{
    append_be(buf, value, 2);
}

void buf_be32(struct buf *buf, uint32_t value)
{
    append_be(buf, value, 4);
}

void buf_be64(struct buf *buf, uint64_t value)
{
    append_be(buf, value, 8);
}

char *buf_take(struct buf *buf)
{
    if (!buf->bytes)
        return mem_strdup("");
    char *bytes = TAKE(buf->bytes);
    *buf = (struct buf){ .max = buf->max };
    return bytes;
}
