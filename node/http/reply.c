#include "http/reply.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "http/problem.h"
#include "http/server.h"

/* Bodies above this are handed to libh2o as they are, smaller ones copied into its pool. */
#define COPY_MAX 4096

#define ALLOWED_HEADERS   "Authorization, Content-Type, X-Request-Id"
#define EXPOSED_HEADERS   "Retry-After, X-Request-Id"
#define PREFLIGHT_SECONDS "600"

const char *reply_reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {
        { 200, "OK" },
        { 201, "Created" },
        { 204, "No Content" },
        { 303, "See Other" },
        { 304, "Not Modified" },
        { 307, "Temporary Redirect" },
        { 308, "Permanent Redirect" },
        { 400, "Bad Request" },
        { 401, "Unauthorized" },
        { 403, "Forbidden" },
        { 404, "Not Found" },
        { 405, "Method Not Allowed" },
        { 409, "Conflict" },
        { 410, "Gone" },
        { 413, "Content Too Large" },
        { 415, "Unsupported Media Type" },
        { 417, "Expectation Failed" },
        { 422, "Unprocessable Content" },
        { 500, "Internal Server Error" },
        { 503, "Service Unavailable" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(reasons); i++) {
        if (reasons[i].status == status)
            return reasons[i].reason;
    }
    return "Unknown";
}

/* ---- headers -------------------------------------------------------------------------------- */

static void add_token(h2o_req_t *req, const h2o_token_t *name, const char *value)
{
    h2o_iovec_t copy = h2o_strdup(&req->pool, value, SIZE_MAX);

    h2o_add_header(&req->pool, &req->res.headers, name, NULL, copy.base, copy.len);
}

/* name: a literal in lower case. value: as long-lived as the request's pool. */
static void add_named(h2o_req_t *req, const char *name, const char *value, size_t length)
{
    h2o_add_header_by_str(&req->pool, &req->res.headers, name, strlen(name), 1, NULL, value,
                          length);
}

void reply_header_text(struct exchange *x, const char *name, const char *value, size_t length)
{
    must(!x->waiting && !x->answered && x->req);
    h2o_iovec_t copy = h2o_strdup(&x->req->pool, value, length);
    add_named(x->req, name, copy.base, copy.len);
}

void reply_header(struct request *r, const char *name, const char *format, ...)
{
    struct exchange *x = exchange_of(r);
    char value[1024];
    va_list args;

    must(!x->waiting && !x->answered && x->req);
    va_start(args, format);
    int size = vsnprintf(value, sizeof value, format, args);
    va_end(args);
    must(size >= 0 && (size_t)size < sizeof value);
    value[strcspn(value, "\r\n")] = '\0';
    h2o_iovec_t copy = h2o_strdup(&x->req->pool, value, SIZE_MAX);
    add_named(x->req, name, copy.base, copy.len);
}

void reply_cacheable(struct request *r, unsigned seconds)
{
    exchange_of(r)->cache_seconds = seconds;
}

void reply_cookie(struct request *r, const char *name, const char *value, int64_t max_age_seconds)
{
    reply_header(r, "set-cookie",
                 "%s=%s; Path=/; Max-Age=%" PRId64 "; Secure; HttpOnly; SameSite=Strict", name,
                 value, max_age_seconds);
}

static void add_cors(struct exchange *x)
{
    struct text origin;
    h2o_req_t *req = x->req;

    if (!x->cors || exchange_header(x, "origin", &origin) == 0)
        return;
    add_named(req, "access-control-allow-origin", origin.bytes, origin.length);
    add_named(req, "access-control-expose-headers", H2O_STRLIT(EXPOSED_HEADERS));
    add_named(req, "vary", H2O_STRLIT("Origin"));
}

static void add_common(struct exchange *x)
{
    h2o_req_t *req = x->req;
    char cache[48] = "no-store";

    if (x->cache_seconds)
        snprintf(cache, sizeof cache, "public, max-age=%u", x->cache_seconds);
    h2o_iovec_t id = h2o_strdup(&req->pool, x->request.id, SIZE_MAX);
    add_named(req, "x-request-id", id.base, id.len);
    add_named(req, "x-content-type-options", H2O_STRLIT("nosniff"));
    add_token(req, H2O_TOKEN_CACHE_CONTROL, cache);
    add_cors(x);
}

/* ---- the answer ----------------------------------------------------------------------------- */

/* body: static, or in the request's pool. type: NULL without one. */
static void finish(struct exchange *x, int status, const char *type, h2o_iovec_t body)
{
    static h2o_generator_t generator = { NULL, NULL };
    h2o_req_t *req = x->req;
    bool has_body = status != 204 && status != 304;

    must(!x->answered && req);
    if (type)
        add_token(req, H2O_TOKEN_CONTENT_TYPE, type);
    add_common(x);
    req->res.status = status;
    req->res.reason = reply_reason(status);
    req->res.content_length = has_body ? body.len : SIZE_MAX;
    bool send_body = has_body && body.len && !x->head;
    exchange_detach(x);
    x->answered = true;
    h2o_start_response(req, &generator);
    h2o_send(req, &body, send_body ? 1 : 0, H2O_SEND_STATE_FINAL);
}

static void free_taken(void *memory)
{
    char *bytes;

    memcpy(&bytes, memory, sizeof bytes);
    mem_free(bytes);
}

void reply_json(struct request *r, int status, struct buf *json)
{
    struct exchange *x = exchange_of(r);
    h2o_iovec_t body = { NULL, json->length };

    must(buf_ok(json) && !x->waiting);
    if (json->length <= COPY_MAX) {
        body = h2o_strdup(&x->req->pool, buf_text(json), json->length);
        buf_fini(json);
    } else {
        char **holder = h2o_mem_alloc_shared(&x->req->pool, sizeof *holder, free_taken);
        body.base = *holder = buf_take(json);
    }
    finish(x, status, "application/json", body);
}

void reply_json_object(struct request *r, int status, struct json_object *object)
{
    size_t length;
    const char *text = json_object_to_json_string_length(
        object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &length);

    reply_bytes(r, status, "application/json", text, length);
}

void reply_bytes(struct request *r, int status, const char *content_type, const void *bytes,
                 size_t size)
{
    struct exchange *x = exchange_of(r);

    must(!x->waiting && size <= REPLY_MAX);
    finish(x, status, content_type, h2o_strdup(&x->req->pool, bytes, size));
}

void reply_static(struct request *r, int status, const char *content_type, const void *bytes,
                  size_t size)
{
    must(!exchange_of(r)->waiting);
    finish(exchange_of(r), status, content_type, h2o_iovec_init(bytes, size));
}

void reply_empty(struct request *r, int status)
{
    must(!exchange_of(r)->waiting);
    finish(exchange_of(r), status, NULL, h2o_iovec_init(NULL, 0));
}

void reply_redirect(struct request *r, int status, const char *location)
{
    reply_header(r, "location", "%s", location);
    reply_empty(r, status);
}

void reply_allow(struct exchange *x, unsigned methods, bool preflight)
{
    struct request *r = &x->request;
    char list[64] = "OPTIONS";

    for (enum method m = METHOD_GET; m < METHODS; m++) {
        if (!(methods & 1u << m))
            continue;
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", m == METHOD_GET ? ", HEAD, " : ", ",
                 method_name(m));
    }
    reply_header(r, "allow", "%s", list);
    if (preflight && x->cors) {
        reply_header(r, "access-control-allow-methods", "%s", list);
        reply_header(r, "access-control-allow-headers", "%s", ALLOWED_HEADERS);
        reply_header(r, "access-control-max-age", "%s", PREFLIGHT_SECONDS);
    }
}

/* ---- problems ------------------------------------------------------------------------------- */

static void log_problem(struct exchange *x, const struct problem *problem)
{
    const h2o_req_t *req = x->req;
    char path[128];

    if (problem_status(problem) < 500 || !loop_may_log(x->loop))
        return;
    snprintf(path, sizeof path, "%.*s %.*s", (int)req->method.len, req->method.base,
             (int)(req->path.len < 100 ? req->path.len : 100), req->path.base);
    log_event_with(LOG_WARNING, "request_failed",
                   LOG_FIELDS("request_id", x->request.id, "code", err_info(problem->err)->code,
                              "request", path),
                   "%s", problem->detail[0] ? problem->detail : err_info(problem->err)->title);
}

static void send_problem(struct exchange *x, const struct problem *problem)
{
    h2o_req_t *req = x->req;
    int64_t retry = problem_retry_seconds(problem);
    char seconds[24];
    AUTO(buf_fini) struct buf text = { .max = PROBLEM_MAX };

    log_problem(x, problem);
    x->cache_seconds = 0;
    if (problem->err != ERR_METHOD_NOT_ALLOWED)
        req->res.headers.size = 0; /* what a handler had prepared for a better outcome */
    if (retry) {
        snprintf(seconds, sizeof seconds, "%" PRId64, retry);
        h2o_iovec_t copy = h2o_strdup(&req->pool, seconds, SIZE_MAX);
        add_named(req, "retry-after", copy.base, copy.len);
    }
    if (problem_status(problem) == 401) /* RFC 6750 §3: no error code if no token was shown */
        add_token(req, H2O_TOKEN_WWW_AUTHENTICATE,
                  problem->err == ERR_TOKEN_INVALID || problem->err == ERR_TOKEN_EXPIRED
                      ? "Bearer realm=\"twinlease\", error=\"invalid_token\""
                      : "Bearer realm=\"twinlease\"");
    problem_write(problem, &text);
    peer_answer_sign(&x->request, buf_text(&text), text.length);
    finish(x, problem_status(problem), "application/problem+json",
           h2o_strdup(&req->pool, buf_text(&text), text.length));
}

/* Why the database cannot be used names paths, hosts and users: that is for operators and the log.
 */
static bool is_about_database(enum err e)
{
    return e == ERR_STORE_AWAY || e == ERR_STORE_UNKNOWN ||
           (e >= ERR_STORE_OWNED && e <= ERR_STORE_REFUSED);
}

static const char *detail_of(const struct request *r, enum err e)
{
    bool to_operator = r->principal.role == ROLE_ADMIN || r->principal.role == ROLE_VIEWER;

    if (to_operator || !is_about_database(e))
        return r->diag.text;
    return "the node's log says more to its operator";
}

/* Whether the seats that the other node holds are within reach. */
static const char *peer_state(const struct request *r)
{
    struct replication_status status;

    if (!r->services->replication)
        return NULL;
    replication_status(r->services->replication, &status);
    return replication_state_name(status.state);
}

void reply_problem(struct request *r, enum err e)
{
    reply_problem_with(r, e, NULL, NULL);
}

void reply_problem_with(struct request *r, enum err e, const char *member, const char *json)
{
    struct exchange *x = exchange_of(r);
    const struct ledger_result *result = &r->command.result;
    bool denied = result->err == e && e != ERR_OK && result->scope_count == 1;

    must(e != ERR_OK && !x->waiting);
    send_problem(x, &(struct problem){ .err = e,
                                       .detail = detail_of(r, e),
                                       .request_id = r->id,
                                       .denial = denied ? &result->scopes[0] : NULL,
                                       .now_ms = result->now_ms,
                                       .peer_state = denied ? peer_state(r) : NULL,
                                       .member = member,
                                       .json = json });
}

void reply_failure(struct exchange *x, enum err e, const char *detail)
{
    send_problem(x, &(struct problem){ .err = e, .detail = detail, .request_id = x->request.id });
}
