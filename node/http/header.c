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

/* Cuts off one line, without its end. */
static struct text next_line(struct text *rest)
{
    const char *newline = memchr(rest->bytes, '\n', rest->length);
    size_t size = newline ? (size_t)(newline - rest->bytes) : rest->length;
    struct text line = { rest->bytes, size };

    rest->bytes += size + (newline ? 1 : 0);
    rest->length -= size + (newline ? 1 : 0);
    if (line.length && line.bytes[line.length - 1] == '\r')
        line.length--;
    return line;
}

const char *header_framing_fault(struct text head, bool http_1_0)
{
    size_t lengths = 0, encodings = 0, hosts = 0;
    bool folded = false;
    struct text line;

    do /* empty lines may stand before a request (RFC 9112 §2.2) */
        line = next_line(&head);
    while (line.length == 0 && head.length);
    while ((line = next_line(&head)).length) {
        folded |= is_space(line.bytes[0]);
        struct text name = next_item(&line, ':');
        lengths += equal_nocase(name, "content-length");
        encodings += equal_nocase(name, "transfer-encoding");
        hosts += equal_nocase(name, "host");
    }
    if (folded)
        return "a header is continued on a second line";
    if (lengths + encodings > 1)
        return "Content-Length stands twice, or together with Transfer-Encoding";
    if (encodings && http_1_0)
        return "HTTP/1.0 has no Transfer-Encoding";
    if (hosts > 1 || (hosts == 0 && !http_1_0))
        return "there must be one Host header";
    return NULL;
}
