#include "http/query_string.h"

#include <stdint.h>
#include <string.h>

#include "http/escape.h"

/* Decodes one side of a pair to *bytes, which moves behind it. NULL if malformed. */
static const char *decode(const char *text, size_t length, char **bytes)
{
    char *begin = *bytes;
    size_t size = percent_decode(text, length, begin);

    if (size == SIZE_MAX)
        return NULL;
    begin[size] = '\0';
    *bytes = begin + size + 1;
    return begin;
}

static enum err add(struct query_string *query, const struct route *route, const char *pair,
                    size_t length, char **bytes, struct diag *diag)
{
    const char *equals = memchr(pair, '=', length);
    size_t name_length = equals ? (size_t)(equals - pair) : length;
    const char *name = decode(pair, name_length, bytes);
    const char *value = equals ? decode(equals + 1, length - name_length - 1, bytes) : "";

    if (!name || !value || !*name)
        return diag_set(diag, ERR_BAD_REQUEST, "the query parameter %.*s is malformed",
                        (int)(length < 64 ? length : 64), pair);
    if (!route_takes_query(route, name, strlen(name)))
        return diag_set(diag, ERR_UNKNOWN_FIELD, "query parameter %s: not known; known here: %s",
                        name, route->query[0] ? route->query : "none");
    if (query_string_get(query, name))
        return diag_set(diag, ERR_BAD_FIELD, "query parameter %s stands twice", name);
    must(query->count < QUERY_PARAMS_MAX); /* no route takes so many, and none stands twice */
    query->params[query->count++] = (struct query_param){ name, value };
    return ERR_OK;
}

enum err query_string_parse(const char *text, size_t length, const struct route *route, char *bytes,
                            struct query_string *out, struct diag *diag)
{
    struct query_string query = { .count = 0 };
    const char *end = text + length;

    if (length > QUERY_SIZE_MAX)
        return diag_set(diag, ERR_BAD_REQUEST, "the query has %zu bytes; at most %d are allowed",
                        length, QUERY_SIZE_MAX);
    for (const char *at = text; at < end;) {
        const char *ampersand = memchr(at, '&', (size_t)(end - at));
        size_t size = (size_t)((ampersand ? ampersand : end) - at);
        enum err e = add(&query, route, at, size, &bytes, diag);
        if (e != ERR_OK)
            return e;
        at += size + 1;
    }
    *out = query;
    return ERR_OK;
}

const char *query_string_get(const struct query_string *query, const char *name)
{
    for (size_t i = 0; i < query->count; i++) {
        if (strcmp(query->params[i].name, name) == 0)
            return query->params[i].value;
    }
    return NULL;
}
