#include "base/base64url.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void base64url_append(struct buf *out, const void *bytes, size_t size)
{
    const unsigned char *from = bytes;
    size_t length = size / 3 * 4 + (size % 3 ? size % 3 + 1 : 0);
    char *to = buf_reserve(out, length);

    if (!to)
        return;
    for (; size >= 3; size -= 3, from += 3) {
        *to++ = digits[from[0] >> 2];
        *to++ = digits[(from[0] & 3) << 4 | from[1] >> 4];
        *to++ = digits[(from[1] & 15) << 2 | from[2] >> 6];
        *to++ = digits[from[2] & 63];
    }
    if (size) {
        unsigned second = size == 2 ? from[1] : 0;
        *to++ = digits[from[0] >> 2];
        *to++ = digits[(from[0] & 3u) << 4 | second >> 4];
        if (size == 2)
            *to++ = digits[(second & 15) << 2];
    }
    out->length += length;
    out->bytes[out->length] = '\0';
}

/* All ones if low <= c <= high, else zero. */
static int within(int c, int low, int high)
{
    return -(c >= low && c <= high);
}

/* The value of one digit, -1 for anything else. Neither a branch nor a look-up depends on the
 * character: secrets pass here. */
static int digit_value(unsigned char c)
{
    int value = -1;

    value += within(c, 'A', 'Z') & (c - 'A' + 1);
    value += within(c, 'a', 'z') & (c - 'a' + 27);
    value += within(c, '0', '9') & (c - '0' + 53);
    value += within(c, '-', '-') & 63;
    value += within(c, '_', '_') & 64;
    return value;
}

/* Decodes up to four digits into up to three bytes. The sign bit of `wrong` collects whatever is no
 * digit, other bits whatever is left over at the end. */
static void decode_group(const char *text, size_t length, unsigned char *to, int *wrong)
{
    int bits = 0;

    for (size_t i = 0; i < 4; i++) {
        int value = i < length ? digit_value((unsigned char)text[i]) : 0;
        *wrong |= value & ~63;
        bits = bits << 6 | (value & 63);
    }
    if (length < 4)
        *wrong |= bits & (length == 2 ? 0xffff : 0xff);
    for (size_t i = 0; i + 1 < length; i++)
        to[i] = (unsigned char)(bits >> (16 - 8 * i));
}

bool base64url_decode(const char *text, size_t length, struct buf *out)
{
    size_t size = length / 4 * 3 + (length % 4 ? length % 4 - 1 : 0);
    int wrong = length % 4 == 1;
    unsigned char *to = (unsigned char *)buf_reserve(out, size);

    if (!to)
        return false;
    for (size_t i = 0; i < length && !wrong; i += 4, to += 3)
        decode_group(text + i, length - i < 4 ? length - i : 4, to, &wrong);
    if (!wrong)
        out->length += size;
    out->bytes[out->length] = '\0';
    return !wrong;
}
