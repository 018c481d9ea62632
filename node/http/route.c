#include "http/route.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "http/escape.h"

static const char *const method_names[METHODS] = { "GET", "POST", "PUT", "DELETE" };

const char *method_name(enum method method)
{
    must(method < METHODS);
    return method_names[method];
}

/* Drops "https://authority" of an absolute-form target. */
static void skip_authority(const char **path, size_t *length)
{
    static const char *const schemes[] = { "https://", "http://" };

    for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
        size_t scheme = strlen(schemes[i]);
        if (*length < scheme || strncasecmp(*path, schemes[i], scheme) != 0)
            continue;
        const char *slash = memchr(*path + scheme, '/', *length - scheme);
        if (!slash)
            return;
        *length -= (size_t)(slash - *path);
        *path = slash;
        return;
    }
}

/* A path in decoded segments, NUL-terminated inside params->bytes. */
struct segments {
    char *at[ROUTE_SEGMENTS_MAX];
    size_t count;
};

static bool segment_valid(const char *segment, size_t size)
{
    return size > 0 && !memchr(segment, '/', size) &&
           !(segment[0] == '.' && (size == 1 || (size == 2 && segment[1] == '.')));
}

static enum err split(const char *path, size_t length, struct route_params *params,
                      struct segments *out)
{
    char *to = params->bytes;

    skip_authority(&path, &length);
    if (length == 0 || length > ROUTE_PATH_MAX || path[0] != '/')
        return ERR_NOT_FOUND;
    *out = (struct segments){ .count = 0 };
    if (length == 1)
        return ERR_OK;
    for (const char *at = path + 1, *end = path + length; at <= end;) {
        const char *slash = memchr(at, '/', (size_t)(end - at));
        size_t encoded = (size_t)((slash ? slash : end) - at);
        size_t size = percent_decode(at, encoded, to);
        if (size == SIZE_MAX)
            return ERR_BAD_REQUEST;
        if (out->count == ROUTE_SEGMENTS_MAX || !segment_valid(to, size))
            return ERR_NOT_FOUND;
        out->at[out->count++] = to;
        to[size] = '\0';
        to += size + 1;
        at += encoded + 1;
    }
    return ERR_OK;
}

/* Does the pattern match? Writes the segments under its braces into values. */
static bool matches(const char *pattern, const struct segments *segments,
                    char *values[ROUTE_PARAMS_MAX])
{
    size_t found = 0, index = 0;

    if (pattern[1] == '\0')
        return segments->count == 0;
    for (const char *at = pattern; *at; index++) {
        size_t size = strcspn(++at, "/");
        if (index == segments->count)
            return false;
        if (*at == '{') {
            must(found < ROUTE_PARAMS_MAX);
            values[found++] = segments->at[index];
        } else if (strlen(segments->at[index]) != size ||
                   memcmp(segments->at[index], at, size) != 0) {
            return false;
        }
        at += size;
    }
    return index == segments->count;
}

enum err route_find(const struct route *table, size_t count, enum method method, const char *path,
                    size_t length, const struct route **route, struct route_params *params,
                    unsigned *methods)
{
    struct segments segments;
    const struct route *found = NULL;
    unsigned taken = 0;

    enum err e = split(path, length, params, &segments);
    if (e != ERR_OK)
        return e;
    for (size_t i = 0; i < count; i++) {
        char *values[ROUTE_PARAMS_MAX] = { NULL };
        if (!matches(table[i].pattern, &segments, values))
            continue;
        taken |= 1u << table[i].method;
        if (table[i].method != method || found)
            continue;
        found = &table[i];
        memcpy(params->values, values, sizeof values);
    }
    *methods = taken;
    if (found)
        *route = found;
    return found ? ERR_OK : taken ? ERR_METHOD_NOT_ALLOWED : ERR_NOT_FOUND;
}

size_t route_param_index(const struct route *route, const char *name)
{
    size_t index = 0, size = strlen(name);

    for (const char *brace = strchr(route->pattern, '{'); brace; brace = strchr(brace + 1, '{')) {
        if (strncmp(brace + 1, name, size) == 0 && brace[1 + size] == '}')
            return index;
        index++;
    }
    must(false); /* the handler asks for a parameter that its pattern does not have */
    return 0;
}

bool route_takes_query(const struct route *route, const char *name, size_t length)
{
    for (const char *at = route->query; *at; at += strspn(at, " ")) {
        size_t size = strcspn(at, " ");
        if (size == length && memcmp(at, name, size) == 0)
            return true;
        at += size;
    }
    return false;
}
