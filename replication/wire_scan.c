#include "replication/wire_scan.h"

#include <string.h>

#include "base/hex.h"
#include "base/json_scan.h"

static void skip_space(struct wire_scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\t' || *s->at == '\r'))
        s->at++;
}

bool wire_try(struct wire_scan *s, char c)
{
    skip_space(s);
    if (s->at == s->end || *s->at != c)
        return false;
    s->at++;
    return true;
}

bool wire_take(struct wire_scan *s, char c)
{
    if (wire_try(s, c))
        return true;
    switch (c) {
    case '{':
        return wire_fail(s, "an object is expected");
    case '[':
        return wire_fail(s, "an array is expected");
    case '"':
        return wire_fail(s, "a string is expected");
    case ':':
        return wire_fail(s, "a colon is expected");
    case ',':
        return wire_fail(s, "a further item is expected");
    default:
        return wire_fail(s, "a comma or a closing bracket is expected");
    }
}

bool wire_end(struct wire_scan *s)
{
    skip_space(s);
    return s->at == s->end || wire_fail(s, "something follows the value");
}

static bool try_word(struct wire_scan *s, const char *word, size_t length)
{
    skip_space(s);
    if ((size_t)(s->end - s->at) < length || memcmp(s->at, word, length) != 0)
        return false;
    s->at += length;
    return true;
}

bool wire_try_null(struct wire_scan *s)
{
    return try_word(s, "null", 4);
}

bool wire_bool(struct wire_scan *s, bool *out)
{
    if (try_word(s, "true", 4))
        *out = true;
    else if (try_word(s, "false", 5))
        *out = false;
    else
        return wire_fail(s, "true or false is expected");
    return true;
}

/* ---- numbers --------------------------------------------------------------------------------- */

static bool is_digit(const struct wire_scan *s)
{
    return s->at < s->end && *s->at >= '0' && *s->at <= '9';
}

/* At most 19 digits, so that nothing overflows; no leading zero (RFC 8259 §6). */
static bool scan_digits(struct wire_scan *s, uint64_t *out)
{
    const char *first = s->at;
    uint64_t value = 0;

    while (is_digit(s) && s->at - first < 19)
        value = value * 10 + (uint64_t)(*s->at++ - '0');
    if (s->at == first)
        return wire_fail(s, "a whole number is expected");
    if (*first == '0' && s->at - first > 1)
        return wire_fail(s, "a number begins with a zero");
    if (is_digit(s))
        return wire_fail(s, "a number is out of range");
    if (s->at < s->end && (*s->at == '.' || *s->at == 'e' || *s->at == 'E'))
        return wire_fail(s, "a whole number is expected");
    *out = value;
    return true;
}

bool wire_int(struct wire_scan *s, int64_t min, int64_t max, int64_t *out)
{
    bool negative = wire_try(s, '-');
    uint64_t digits;

    if (!scan_digits(s, &digits))
        return false;
    if (digits > INT64_MAX)
        return wire_fail(s, "a number is out of range");
    int64_t value = negative ? -(int64_t)digits : (int64_t)digits;
    if (value < min || value > max)
        return wire_fail(s, "a number is out of range");
    *out = value;
    return true;
}

/* ---- strings --------------------------------------------------------------------------------- */

bool wire_plain(struct wire_scan *s, size_t length_max, const char **out, size_t *length)
{
    if (!wire_take(s, '"'))
        return false;
    const char *first = s->at;
    for (; s->at < s->end && *s->at != '"'; s->at++) {
        if (*s->at == '\\' || (unsigned char)*s->at < 0x20)
            return wire_fail(s, "a string has an escape or a control character");
    }
    if (s->at == s->end)
        return wire_fail(s, "a string does not end");
    if ((size_t)(s->at - first) > length_max)
        return wire_fail(s, "a string is too long");
    *out = first;
    *length = (size_t)(s->at++ - first);
    return true;
}

bool wire_name(struct wire_scan *s, const char **name, size_t *length)
{
    return wire_plain(s, 256, name, length) && wire_take(s, ':');
}

bool wire_uuid(struct wire_scan *s, struct uuid *out)
{
    if (!wire_try(s, '"') || (size_t)(s->end - s->at) < UUID_TEXT_SIZE ||
        s->at[UUID_TEXT_SIZE - 1] != '"' || !uuid_parse(s->at, UUID_TEXT_SIZE - 1, out))
        return wire_fail(s, "a UUID is expected");
    s->at += UUID_TEXT_SIZE;
    return true;
}

/* The four hexadecimal digits of \uXXXX. */
static bool scan_unit(struct wire_scan *s, uint32_t *out)
{
    uint32_t unit = 0;

    if (s->end - s->at < 4)
        return wire_fail(s, "four hexadecimal digits are expected");
    for (int i = 0; i < 4; i++) {
        int value = hex_value(*s->at++);
        if (value < 0)
            return wire_fail(s, "four hexadecimal digits are expected");
        unit = unit << 4 | (uint32_t)value;
    }
    *out = unit;
    return true;
}

/* After \u. Surrogates come only in pairs (RFC 8259 §7). */
static bool scan_code_point(struct wire_scan *s, uint32_t *out)
{
    uint32_t first, second;

    if (!scan_unit(s, &first))
        return false;
    if (first == 0)
        return wire_fail(s, "a string has a NUL");
    if (first < 0xd800 || first > 0xdfff) {
        *out = first;
        return true;
    }
    if (first > 0xdbff || s->end - s->at < 2 || s->at[0] != '\\' || s->at[1] != 'u')
        return wire_fail(s, "a surrogate stands alone");
    s->at += 2;
    if (!scan_unit(s, &second))
        return false;
    if (second < 0xdc00 || second > 0xdfff)
        return wire_fail(s, "a surrogate stands alone");
    *out = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
    return true;
}

/* As UTF-8; returns how many bytes. */
static size_t put_code_point(uint32_t c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

/* After the backslash. */
static bool scan_escape(struct wire_scan *s, char out[4], size_t *size)
{
    static const char escapes[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    uint32_t point;

    if (s->at == s->end)
        return wire_fail(s, "a string does not end");
    char c = *s->at++;
    if (c == 'u') {
        if (!scan_code_point(s, &point))
            return false;
        *size = put_code_point(point, out);
        return true;
    }
    const char *found = c ? strchr(escapes, c) : NULL;
    if (!found)
        return wire_fail(s, "an escape is not known");
    out[0] = meanings[found - escapes];
    *size = 1;
    return true;
}

bool wire_string(struct wire_scan *s, char *out, size_t length_max, size_t *length)
{
    size_t used = 0;
    char bytes[4];

    if (!wire_take(s, '"'))
        return false;
    while (s->at < s->end && *s->at != '"') {
        size_t size = 1;
        if ((unsigned char)*s->at < 0x20)
            return wire_fail(s, "a string has a control character");
        bytes[0] = *s->at++;
        if (bytes[0] == '\\' && !scan_escape(s, bytes, &size))
            return false;
        if (size > length_max - used)
            return wire_fail(s, "a string is too long");
        memcpy(out + used, bytes, size);
        used += size;
    }
    if (s->at == s->end)
        return wire_fail(s, "a string does not end");
    s->at++;
    out[used] = '\0';
    *length = used;
    return true;
}

/* ---- anything -------------------------------------------------------------------------------- */

static const char *string_end(const char *at, const char *end)
{
    for (; at < end && *at != '"'; at++) {
        if (*at == '\\' && ++at == end)
            return end;
    }
    return at;
}

/* Where a value ends that begins at `at`, if it is one: after the brackets that it opens are
 * closed, or before what ends a word or number. */
static const char *value_end(const char *at, const char *end)
{
    size_t depth = 0;

    for (; at < end; at++) {
        if (*at == '"') {
            at = string_end(at + 1, end);
            if (at == end)
                return end;
        } else if (*at == '[' || *at == '{') {
            depth++;
        } else if (*at == ']' || *at == '}') {
            if (depth == 0)
                return at;
            depth--;
        } else if (*at == ',' && depth == 0) {
            return at;
        }
    }
    return at;
}

bool wire_skip(struct wire_scan *s)
{
    struct json_scan scan;
    const char *end = value_end(s->at, s->end);

    if (!json_scan(&scan, s->at, (size_t)(end - s->at)))
        return wire_fail(s, scan.wrong);
    s->at = end;
    return true;
}
