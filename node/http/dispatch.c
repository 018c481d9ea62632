/* From libh2o's request to a handler: everything that route.tbl demands is checked here, in this
 * order: framing, address and method, who asks, size and type of the body, query parameters, JSON.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "http/problem.h"
#include "http/reply.h"
#include "http/server.h"

/* ---- what the route takes ------------------------------------------------------------------- */

static enum method method_of(h2o_iovec_t name)
{
    for (enum method m = METHOD_GET; m < METHODS; m++) {
        if (h2o_memis(name.base, name.len, method_name(m), strlen(method_name(m))))
            return m;
    }
    return METHODS;
}

static bool is_method(const h2o_req_t *req, const char *name)
{
    return h2o_memis(req->input.method.base, req->input.method.len, name, strlen(name));
}

/* The request's head as it came, at the beginning of the connection's input. */
static struct text raw_head(h2o_req_t *req)
{
    const h2o_socket_t *sock = req->conn->callbacks->get_socket(req->conn);

    return (struct text){ sock->input->bytes, sock->input->size };
}

static enum err framing_check(struct exchange *x)
{
    const char *fault = header_framing_fault(raw_head(x->req), x->req->version < 0x101);

    if (!fault)
        return ERR_OK;
    x->req->http1_is_persistent = 0; /* whatever follows may be a smuggled request */
    return diag_set(&x->request.diag, ERR_BAD_REQUEST, "%s", fault);
}

static enum err media_check(struct request *r, struct text body)
{
    static const char *const text_types[] = { "application/jose", "application/jwt", "text/plain" };
    struct text type = { "", 0 };
    size_t count = exchange_header(exchange_of(r), "content-type", &type);

    if (body.length == 0 && r->route->body == BODY_JSON_OPTIONAL)
        return ERR_OK;
    if (r->route->body == BODY_TEXT) {
        for (size_t i = 0; i < ARRAY_SIZE(text_types); i++) {
            if (count == 1 && header_media_type_is(type, text_types[i]))
                return ERR_OK;
        }
        return diag_set(&r->diag, ERR_MEDIA_TYPE,
                        "Content-Type must be application/jose, application/jwt or text/plain");
    }
    if (count != 1 || !header_media_type_is(type, "application/json"))
        return diag_set(&r->diag, ERR_MEDIA_TYPE, "Content-Type must be application/json");
    return ERR_OK;
}

static enum err body_read(struct request *r)
{
    const struct exchange *x = exchange_of(r);
    struct text body = { x->req->entity.base, x->req->entity.len };
    enum err e;

    if (body.length > x->loop->http->body_max)
        return diag_set(&r->diag, ERR_BODY_TOO_LARGE,
                        "the body has %zu bytes; at most %zu are allowed", body.length,
                        x->loop->http->body_max);
    if (r->route->body == BODY_NONE)
        return body.length == 0 ? ERR_OK
                                : diag_set(&r->diag, ERR_BAD_REQUEST, "%s %s takes no body",
                                           method_name(r->route->method), r->route->pattern);
    if ((e = media_check(r, body)) != ERR_OK)
        return e;
    if (r->route->body == BODY_TEXT) {
        while (body.length && strchr(" \t\r\n", body.bytes[0]))
            body = (struct text){ body.bytes + 1, body.length - 1 };
        while (body.length && strchr(" \t\r\n", body.bytes[body.length - 1]))
            body.length--;
        r->text = request_strdup(r, body.bytes, body.length);
        r->text_length = body.length;
        return ERR_OK;
    }
    if (body.length == 0 && r->route->body == BODY_JSON_OPTIONAL) {
        r->body = json_object_new_object();
        return ERR_OK;
    }
    if (r->route->body == BODY_PEER) {
        r->text = request_strdup(r, body.bytes, body.length);
        r->text_length = body.length;
        return ERR_OK;
    }
    return json_parse(body.bytes ? body.bytes : "", body.length, &r->body, &r->diag);
}

static enum err query_read(struct exchange *x, struct text query)
{
    struct request *r = &x->request;

    if (query.length == 0)
        return ERR_OK;
    char *bytes = request_alloc(r, query.length + QUERY_PARAMS_MAX + 1);
    return query_string_parse(query.bytes, query.length, r->route, bytes, &x->query, &r->diag);
}

/* ---- dispatch ------------------------------------------------------------------------------- */

/* Splits the target at its question mark. */
static void split_target(const h2o_req_t *req, struct text *path, struct text *query)
{
    const char *mark = memchr(req->input.path.base, '?', req->input.path.len);
    size_t length = mark ? (size_t)(mark - req->input.path.base) : req->input.path.len;

    *path = (struct text){ req->input.path.base, length };
    *query =
        mark ? (struct text){ mark + 1, req->input.path.len - length - 1 } : (struct text){ "", 0 };
}

static bool starts_with(struct text text, const char *prefix)
{
    size_t size = strlen(prefix);

    return text.length >= size && memcmp(text.bytes, prefix, size) == 0;
}

/* May a page of the asking origin read the answer? Only of the client API. */
static bool cors_allowed(const struct exchange *x, struct text path)
{
    struct text origin;

    if (!starts_with(path, "/v1/") && !starts_with(path, "/.well-known/"))
        return false;
    return exchange_header(x, "origin", &origin) == 1 &&
           header_origin_listed(origin, x->request.services->config->cors_origins);
}

static enum err answer_options(struct exchange *x, unsigned methods)
{
    struct text wanted;

    reply_allow(x, methods, exchange_header(x, "access-control-request-method", &wanted) > 0);
    reply_empty(&x->request, 204);
    return ERR_OK;
}

static enum err find(struct exchange *x, struct text path, bool *done)
{
    struct request *r = &x->request;
    unsigned methods = 0;
    enum method method = x->head ? METHOD_GET : method_of(x->req->input.method);
    const struct route *route = NULL;

    enum err e = route_find(routes, route_count, method, path.bytes, path.length, &route,
                            &x->params, &methods);
    if (e == ERR_METHOD_NOT_ALLOWED && is_method(x->req, "OPTIONS")) {
        *done = true;
        return answer_options(x, methods);
    }
    if (e == ERR_METHOD_NOT_ALLOWED) {
        reply_allow(x, methods, false);
        return diag_set(&r->diag, e, "%.*s is not among the methods in Allow",
                        (int)(x->req->input.method.len < 32 ? x->req->input.method.len : 32),
                        x->req->input.method.base);
    }
    r->route = route;
    return e;
}

/* The first step of every exchange. */
static enum err dispatch(struct request *r)
{
    struct exchange *x = exchange_of(r);
    struct text path, query;
    bool done = false;
    enum err e;

    split_target(x->req, &path, &query);
    x->head = is_method(x->req, "HEAD");
    x->cors = cors_allowed(x, path);
    if ((e = framing_check(x)) != ERR_OK || (e = find(x, path, &done)) != ERR_OK || done)
        return e;
    if ((e = authenticate(r)) != ERR_OK || (e = query_read(x, query)) != ERR_OK ||
        (e = body_read(r)) != ERR_OK)
        return e;
    return r->route->handle(r);
}

static int on_request(h2o_handler_t *self, h2o_req_t *req)
{
    struct loop *loop = H2O_STRUCT_FROM_MEMBER(struct loop, ctx, req->conn->ctx);

    (void)self;
    exchange_step(exchange_new(loop, req), dispatch);
    return 0;
}

/* ---- libh2o's own errors -------------------------------------------------------------------- */

struct error_stream {
    h2o_ostream_t super;
    h2o_iovec_t body;
};

static void error_send(h2o_ostream_t *self, h2o_req_t *req, h2o_iovec_t *bufs, size_t count,
                       h2o_send_state_t state)
{
    struct error_stream *stream = H2O_STRUCT_FROM_MEMBER(struct error_stream, super, self);

    (void)bufs; /* libh2o's plain text */
    must(state == H2O_SEND_STATE_FINAL);
    h2o_ostream_send_next(self, req, &stream->body, count ? 1 : 0, state);
}

static enum err error_code(int status)
{
    return status == 413 ? ERR_BODY_TOO_LARGE : status == 404 ? ERR_NOT_FOUND : ERR_BAD_REQUEST;
}

static void error_headers(h2o_req_t *req, const char *id)
{
    h2o_mem_pool_t *pool = &req->pool;
    h2o_headers_t *headers = &req->res.headers;
    h2o_iovec_t copy = h2o_strdup(pool, id, SIZE_MAX);

    headers->size = 0;
    h2o_add_header(pool, headers, H2O_TOKEN_CONTENT_TYPE, NULL,
                   H2O_STRLIT("application/problem+json"));
    h2o_add_header(pool, headers, H2O_TOKEN_CACHE_CONTROL, NULL, H2O_STRLIT("no-store"));
    h2o_add_header_by_str(pool, headers, H2O_STRLIT("x-content-type-options"), 0, NULL,
                          H2O_STRLIT("nosniff"));
    h2o_add_header_by_str(pool, headers, H2O_STRLIT("x-request-id"), 0, NULL, copy.base, copy.len);
}

/* libh2o refuses a request before any handler sees it (body too large, broken framing, unknown
 * expectation): its answer becomes a problem document, and the connection lingers, because the
 * client is probably still sending. */
static void on_error_answer(h2o_filter_t *self, h2o_req_t *req, h2o_ostream_t **slot)
{
    struct loop *loop = H2O_STRUCT_FROM_MEMBER(struct loop, ctx, req->conn->ctx);
    struct error_stream *stream = (void *)h2o_add_ostream(req, sizeof *stream, slot);
    char id[REQUEST_ID_MAX + 1], detail[128];
    AUTO(buf_fini) struct buf text = { .max = PROBLEM_MAX };

    (void)self;
    request_id_make(loop, &req->headers, id);
    snprintf(detail, sizeof detail, "%s", req->res.reason);
    if (req->res.status == 413)
        snprintf(detail, sizeof detail, "the body has more than the %zu bytes that are allowed",
                 loop->http->body_max);
    problem_write(&(struct problem){ .err = error_code(req->res.status),
                                     .status = req->res.status,
                                     .detail = detail,
                                     .request_id = id },
                  &text);
    stream->super.do_send = error_send;
    stream->body = h2o_strdup(&req->pool, buf_text(&text), text.length);
    error_headers(req, id);
    req->res.reason = reply_reason(req->res.status);
    req->res.content_length = stream->body.len;
    if (!req->http1_is_persistent)
        loop_linger(req);
    h2o_setup_next_ostream(req, &stream->super.next);
}

/* ---- access log ----------------------------------------------------------------------------- */

static void on_access(h2o_logger_t *self, h2o_req_t *req)
{
    char status[16], size[24], target[256];
    ssize_t at = h2o_find_header_by_str(&req->res.headers, H2O_STRLIT("x-request-id"), -1);

    (void)self;
    if (!log_enabled(LOG_DEBUG))
        return;
    const char *id = "";
    if (at >= 0)
        id = h2o_strdup(&req->pool, req->res.headers.entries[at].value.base,
                        req->res.headers.entries[at].value.len)
                 .base;
    snprintf(status, sizeof status, "%d", req->res.status);
    snprintf(size, sizeof size, "%zu", req->bytes_sent);
    snprintf(target, sizeof target, "%.*s %.*s", (int)(req->method.len < 16 ? req->method.len : 16),
             req->method.base, (int)(req->path.len < 200 ? req->path.len : 200), req->path.base);
    log_event_with(LOG_DEBUG, "request",
                   LOG_FIELDS("request_id", id, "request", target, "status", status, "bytes", size),
                   "answered");
}

void dispatch_register(h2o_hostconf_t *host)
{
    h2o_pathconf_t *all = h2o_config_register_path(host, "/", 0);
    h2o_pathconf_t *paths[] = { all, &host->fallback_path };

    h2o_create_handler(all, sizeof(h2o_handler_t))->on_req = on_request;
    h2o_create_filter(&host->fallback_path, sizeof(h2o_filter_t))->on_setup_ostream =
        on_error_answer;
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
        h2o_create_logger(paths[i], sizeof(h2o_logger_t))->log_access = on_access;
}
