#include "http/header.h"

#include <string.h>
#include <strings.h>

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

static struct text trim(struct text value)
{
    while (value.length && is_space(value.bytes[0])) {
        value.bytes++;
        value.length--;
    }
    while (value.length && is_space(value.bytes[value.length - 1]))
        value.length--;
    return value;
}

static bool equal_nocase(struct text value, const char *literal)
{
    return value.length == strlen(literal) && strncasecmp(value.bytes, literal, value.length) == 0;
}

/* Cuts off what stands before the separator (or all), trimmed; *rest moves behind it. */
static struct text next_item(struct text *rest, char separator)
{
    const char *end = memchr(rest->bytes, separator, rest->length);
    size_t size = end ? (size_t)(end - rest->bytes) : rest->length;
    struct text item = { rest->bytes, size };

    rest->bytes += size + (end ? 1 : 0);
    rest->length -= size + (end ? 1 : 0);
    return trim(item);
}

bool header_request_id_valid(struct text value)
{
    if (value.length < 1 || value.length > 64)
        return false;
    for (size_t i = 0; i < value.length; i++) {
        char c = value.bytes[i];
        bool good = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
                    c == '.' || c == '_' || c == '-';
        if (!good)
            return false;
    }
    return true;
}

bool header_bearer(struct text value, struct text *token)
{
    static const char scheme[] = "Bearer ";
    size_t size = sizeof scheme - 1;

    value = trim(value);
    if (value.length <= size || strncasecmp(value.bytes, scheme, size) != 0)
        return false;
    struct text found = trim((struct text){ value.bytes + size, value.length - size });
    if (found.length == 0)
        return false;
    *token = found;
    return true;
}

bool header_cookie(struct text value, const char *name, struct text *out)
{
    size_t size = strlen(name);

    while (value.length) {
        struct text pair = next_item(&value, ';');
        if (pair.length > size && pair.bytes[size] == '=' && memcmp(pair.bytes, name, size) == 0) {
            *out = (struct text){ pair.bytes + size + 1, pair.length - size - 1 };
            return true;
        }
    }
    return false;
}

bool header_media_type_is(struct text value, const char *type)
{
    return value.length > 0 && equal_nocase(next_item(&value, ';'), type);
}

bool header_origin_listed(struct text origin, const char *list)
{
    struct text rest = { list, strlen(list) };

    while (rest.length) {
        struct text item = next_item(&rest, ',');
        if (item.length == 1 && item.bytes[0] == '*')
            return true;
        if (item.length && item.length == origin.length &&
            strncasecmp(item.bytes, origin.bytes, item.length) == 0)
            return true;
    }
    return false;
}

bool header_same_origin(struct text sec_fetch_site, struct text origin, struct text host)
{
    static const char scheme[] = "https://";
    size_t size = sizeof scheme - 1;

    if (sec_fetch_site.length)
        return equal_nocase(trim(sec_fetch_site), "same-origin");
    return host.length > 0 && origin.length == size + host.length &&
           strncasecmp(origin.bytes, scheme, size) == 0 &&
           strncasecmp(origin.bytes + size, host.bytes, host.length) == 0;
}

bool header_framing_valid(struct text head)
{
    size_t lengths = 0, encodings = 0;

    while (head.length) {
        const char *newline = memchr(head.bytes, '\n', head.length);
        size_t size = newline ? (size_t)(newline - head.bytes) + 1 : head.length;
        struct text line = { head.bytes, size };
        struct text name = next_item(&line, ':');
        if (size <= 2 && (head.bytes[0] == '\r' || head.bytes[0] == '\n'))
            break; /* the body begins */
        lengths += equal_nocase(name, "content-length");
        encodings += equal_nocase(name, "transfer-encoding");
        head.bytes += size;
        head.length -= size;
    }
    return lengths + encodings <= 1;
}
