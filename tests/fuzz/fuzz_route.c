/* Request targets and header values. The first line is the target, the second one a header value,
 * the rest a request's head. */
#include <string.h>

#include "http/escape.h"
#include "http/header.h"
#include "http/query_string.h"
#include "http/route.h"
#include "http/route.tbl"

static const struct route table[] = {
#define X(method, pattern, auth, roles, body, query, handler)                                      \
    { METHOD_##method, pattern, auth, roles, body, query, NULL },
    ROUTE_TBL(X)
#undef X
};

static struct text next_line(struct text *rest)
{
    const char *newline = rest->length ? memchr(rest->bytes, '\n', rest->length) : NULL;
    size_t size = newline ? (size_t)(newline - rest->bytes) : rest->length;
    struct text line = { rest->bytes, size };

    rest->bytes += size + (newline ? 1 : 0);
    rest->length -= size + (newline ? 1 : 0);
    return line;
}

static void check_query(const struct route *route, struct text text)
{
    struct query_string query = { .count = 0 };
    struct diag diag = { "" };
    char *bytes = mem_alloc(text.length + QUERY_PARAMS_MAX + 1);

    if (query_string_parse(text.bytes, text.length, route, bytes, &query, &diag) == ERR_OK) {
        for (size_t i = 0; i < query.count; i++) {
            const char *name = query.params[i].name;
            must(route_takes_query(route, name, strlen(name)));
            must(query_string_get(&query, name) == query.params[i].value);
        }
    } else {
        must(diag.text[0]);
    }
    mem_free(bytes);
}

static void check_target(struct text target)
{
    const char *mark = target.length ? memchr(target.bytes, '?', target.length) : NULL;
    size_t length = mark ? (size_t)(mark - target.bytes) : target.length;
    struct text query = { mark ? mark + 1 : "", mark ? target.length - length - 1 : 0 };

    for (enum method method = METHOD_GET; method <= METHODS; method++) {
        const struct route *route = NULL;
        struct route_params params;
        unsigned methods = 0;
        enum err e = route_find(table, ARRAY_SIZE(table), method, target.bytes, length, &route,
                                &params, &methods);
        must((e == ERR_OK) == (route != NULL));
        must(e != ERR_METHOD_NOT_ALLOWED || (methods && !(methods & 1u << method)));
        if (e == ERR_OK && strchr(route->pattern, '{'))
            must(strlen(params.values[0]) > 0 && !strchr(params.values[0], '/'));
        if (e == ERR_OK)
            check_query(route, query);
    }
}

static void check_header(struct text value)
{
    struct text found = { value.bytes, 0 };

    if (header_bearer(value, &found) || header_cookie(value, "a", &found))
        must(found.bytes >= value.bytes && found.length <= value.length);
    must(!header_request_id_valid(value) || value.length <= 64);
    must(!header_media_type_is(value, "application/json") || value.length >= 16);
    must(!header_origin_listed(value, "https://a,https://b") || value.length == 9);
    must(!header_same_origin((struct text){ "", 0 }, value, (struct text){ "node", 4 }) ||
         value.length == strlen("https://node"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct text rest = { (const char *)data, size };
    AUTO(buf_fini) struct buf json;

    check_target(next_line(&rest));
    check_header(next_line(&rest));
    const char *fault = header_framing_fault(rest, size % 2);
    must(fault || size % 2 || rest.length >= strlen("host")); /* HTTP/1.1 needs one */
    buf_init(&json, size * 6 + 2);
    json_string_append(&json, (const char *)data, size);
    must(buf_ok(&json) && json.length >= size + 2);
    return 0;
}
