/* Requests under way; see server.h for who owns what, and when. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/reply.h"
#include "http/server.h"
#include "store/store.h"

struct chunk {
    struct chunk *next;
    _Alignas(max_align_t) char bytes[];
};

struct deferred {
    struct deferred *next;
    void (*fn)(void *arg);
    void *arg;
};

/* ---- life ----------------------------------------------------------------------------------- */

static void slot_gone(void *memory)
{
    struct slot *slot = memory;
    struct exchange *x = slot->exchange;

    if (!x)
        return;
    must(x->waiting); /* libh2o drops nothing while a handler runs */
    exchange_detach(x);
}

void request_id_make(struct loop *loop, const h2o_headers_t *headers, char out[REQUEST_ID_MAX + 1])
{
    struct text given;

    if (headers_find(headers, "x-request-id", &given) == 1 && header_request_id_valid(given)) {
        memcpy(out, given.bytes, given.length);
        out[given.length] = '\0';
        return;
    }
    snprintf(out, REQUEST_ID_MAX + 1, "%016" PRIx64 "-%02x-%" PRIx64, loop->http->id_prefix,
             loop->index, ++loop->requests);
}

struct exchange *exchange_new(struct loop *loop, h2o_req_t *req)
{
    struct exchange *x = mem_calloc(1, sizeof *x);

    x->loop = loop;
    x->req = req;
    x->slot = h2o_mem_alloc_shared(&req->pool, sizeof *x->slot, slot_gone);
    *x->slot = (struct slot){ .exchange = x };
    x->request.services = &loop->http->services;
    request_id_make(loop, &req->headers, x->request.id);
    return x;
}

void exchange_detach(struct exchange *x)
{
    timer_stop(&x->deadline);
    x->slot->exchange = NULL;
    x->slot = NULL;
    x->req = NULL;
}

static void exchange_free(struct exchange *x)
{
    must(!x->waiting && !x->req && !timer_running(&x->deadline));
    for (struct deferred *d = x->deferred; d; d = d->next)
        d->fn(d->arg);
    for (struct chunk *chunk = x->memory, *next; chunk; chunk = next) {
        next = chunk->next;
        mem_free(chunk);
    }
    ledger_result_fini(&x->request.command.result);
    json_object_put(x->request.body);
    mem_free(x);
}

void exchange_step(struct exchange *x, request_handler *next)
{
    must(!x->waiting && !x->answered && x->req);
    enum err e = next(&x->request);
    if (e != ERR_OK) {
        must(!x->waiting && !x->answered);
        reply_problem(&x->request, e);
    }
    must(x->waiting || x->answered); /* every handler answers, or waits for something */
    if (!x->waiting)
        exchange_free(x);
}

/* ---- reading -------------------------------------------------------------------------------- */

size_t headers_find(const h2o_headers_t *headers, const char *name, struct text *out)
{
    size_t length = strlen(name), found = 0;

    for (size_t i = 0; i < headers->size; i++) {
        const h2o_header_t *header = &headers->entries[i];
        if (header->name->len != length || memcmp(header->name->base, name, length) != 0)
            continue;
        if (found++ == 0)
            *out = (struct text){ header->value.base, header->value.len };
    }
    return found;
}

size_t exchange_header(const struct exchange *x, const char *name, struct text *out)
{
    return headers_find(&x->req->headers, name, out);
}

const char *request_header(struct request *r, const char *name)
{
    const struct exchange *x = exchange_of(r);
    struct text value;

    must(!x->waiting && x->req);
    if (strcmp(name, "host") == 0) /* libh2o keeps it apart */
        value = (struct text){ x->req->authority.base, x->req->authority.len };
    else if (exchange_header(x, name, &value) == 0)
        return NULL;
    return request_strdup(r, value.bytes, value.length);
}

const char *request_param(const struct request *r, const char *name)
{
    return exchange_of_const(r)->params.values[route_param_index(r->route, name)];
}

enum err request_param_uuid(struct request *r, const char *name, struct uuid *out)
{
    const char *value = request_param(r, name);

    if (!uuid_parse(value, strlen(value), out))
        return diag_set(&r->diag, ERR_BAD_FIELD, "%s in the path must be a UUID, not \"%.64s\"",
                        name, value);
    return ERR_OK;
}

const char *request_query_text(const struct request *r, const char *name)
{
    must(route_takes_query(r->route, name, strlen(name)));
    return query_string_get(&exchange_of_const(r)->query, name);
}

enum err request_query_bool(struct request *r, const char *name, bool *out)
{
    const char *value = request_query_text(r, name);

    if (!value)
        return ERR_OK;
    bool yes = strcmp(value, "true") == 0;
    if (!yes && strcmp(value, "false") != 0)
        return diag_set(&r->diag, ERR_BAD_FIELD,
                        "query parameter %s is \"%.64s\"; true or false are allowed", name, value);
    *out = yes;
    return ERR_OK;
}

enum err request_query_int(struct request *r, const char *name, int64_t min, int64_t max,
                           int64_t *out)
{
    const char *value = request_query_text(r, name);
    char *end;

    if (!value)
        return ERR_OK;
    bool digits = value[0] && value[strspn(value, "0123456789")] == '\0' && strlen(value) < 19;
    long long number = digits ? strtoll(value, &end, 10) : -1;
    if (!digits || number < min || number > max)
        return diag_set(&r->diag, ERR_BAD_FIELD,
                        "query parameter %s is \"%.64s\"; an integer from %" PRId64 " to %" PRId64
                        " is allowed",
                        name, value, min, max);
    *out = number;
    return ERR_OK;
}

enum err request_query_uuid(struct request *r, const char *name, struct uuid *out)
{
    const char *value = request_query_text(r, name);

    if (value && !uuid_parse(value, strlen(value), out))
        return diag_set(&r->diag, ERR_BAD_FIELD,
                        "query parameter %s is \"%.64s\"; a UUID is allowed", name, value);
    return ERR_OK;
}

void request_body(struct request *r, struct json_reader *reader)
{
    json_reader_init(reader, r->body, "", &r->diag);
}

struct origin_proof request_origin(const struct request *r)
{
    must(r->route->auth == AUTH_ORIGIN);
    return (struct origin_proof){ .origin_ref = r->principal.origin.origin_ref,
                                  .generation = r->principal.origin.generation };
}

/* ---- time ----------------------------------------------------------------------------------- */

void exchange_note_time(struct http *http, int64_t ledger_ms)
{
    int_least64_t known = atomic_load_explicit(&http->ledger_ms, memory_order_relaxed);

    while (known < ledger_ms &&
           !atomic_compare_exchange_weak_explicit(&http->ledger_ms, &known, ledger_ms,
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
}

int64_t request_now_ms(const struct request *r)
{
    struct http *http = exchange_of_const(r)->loop->http;
    int64_t ledger = atomic_load_explicit(&http->ledger_ms, memory_order_relaxed);
    int64_t wall = wall_now().ms;

    return wall > ledger ? wall : ledger;
}

/* ---- memory --------------------------------------------------------------------------------- */

void *request_alloc(struct request *r, size_t size)
{
    struct exchange *x = exchange_of(r);
    struct chunk *chunk = mem_calloc(1, sizeof *chunk + size);

    chunk->next = x->memory;
    x->memory = chunk;
    return chunk->bytes;
}

char *request_strdup(struct request *r, const char *text, size_t length)
{
    char *copy = request_alloc(r, length + 1);

    if (length)
        memcpy(copy, text, length);
    return copy;
}

void request_defer(struct request *r, void (*fn)(void *arg), void *arg)
{
    struct exchange *x = exchange_of(r);
    struct deferred *d = request_alloc(r, sizeof *d);

    *d = (struct deferred){ .next = x->deferred, .fn = fn, .arg = arg };
    x->deferred = d;
}

/* ---- work elsewhere ------------------------------------------------------------------------- */

static void on_deadline(struct timer *timer)
{
    struct exchange *x = H2O_STRUCT_FROM_MEMBER(struct exchange, deadline, timer);

    must(x->waiting && x->req);
    reply_failure(x, ERR_DEADLINE, "the node was too slow; what was asked for may still be done");
}

static void start_waiting(struct exchange *x, request_handler *then)
{
    must(!x->waiting && !x->answered && x->req);
    x->then = then;
    x->waiting = true;
    if (!timer_running(&x->deadline))
        timer_start(x->request.command.wait_ms > 0 ? &x->loop->polls : &x->loop->deadlines,
                    &x->deadline, boot_now(), on_deadline);
}

/* What was waited for is there. True if somebody still wants it; else the exchange is gone. */
static bool stop_waiting(struct exchange *x)
{
    must(x->waiting);
    x->waiting = false;
    if (x->req)
        return true;
    exchange_free(x);
    return false;
}

static void deliver_result(struct loop *loop, struct message *message)
{
    struct exchange *x = H2O_STRUCT_FROM_MEMBER(struct exchange, message, message);
    struct ledger_result *result = &x->request.command.result;

    exchange_note_time(loop->http, result->now_ms);
    if (!stop_waiting(x))
        return;
    x->request.diag = result->diag;
    if (result->err == ERR_OK || x->any_outcome) {
        exchange_step(x, x->then);
        return;
    }
    reply_problem(&x->request, result->err);
    exchange_free(x);
}

/* On the ledger thread. */
static void on_command_done(struct command *command)
{
    struct exchange *x = H2O_STRUCT_FROM_MEMBER(struct exchange, request.command, command);

    loop_send(x->loop, &x->message);
}

/* The engine did not take the command: says why, as far as the engine knows. */
static enum err refused(struct request *r, enum err e)
{
    struct engine_status status;

    engine_status(r->services->engine, &status);
    if (e == ERR_OVERLOADED || status.reason == ERR_OK)
        return diag_set(&r->diag, e, "%s", err_info(e)->title);
    r->diag = status.diag;
    return status.reason;
}

static enum err submit(struct request *r, request_handler *then, bool any_outcome)
{
    struct exchange *x = exchange_of(r);

    x->any_outcome = any_outcome;
    ledger_result_fini(&r->command.result); /* of an earlier submission */
    r->command.result = (struct ledger_result){ .err = ERR_OK };
    r->command.done = on_command_done;
    r->submitted = boot_now();
    x->message.deliver = deliver_result;
    start_waiting(x, then);
    enum err e = engine_submit(r->services->engine, &r->command);
    if (e == ERR_OK)
        return ERR_OK;
    x->waiting = false;
    return refused(r, e);
}

enum err request_submit(struct request *r, request_handler *then)
{
    return submit(r, then, false);
}

enum err request_submit_any(struct request *r, request_handler *then)
{
    return submit(r, then, true);
}

static void deliver_query(struct loop *loop, struct message *message)
{
    struct exchange *x = H2O_STRUCT_FROM_MEMBER(struct exchange, message, message);

    (void)loop;
    if (!stop_waiting(x))
        return;
    if (x->outcome == ERR_OK) {
        exchange_step(x, x->then);
        return;
    }
    reply_problem(&x->request, x->outcome);
    exchange_free(x);
}

/* The two on a query thread. */
static void on_query_run(struct query_job *job, struct reader *reader)
{
    struct exchange *x = H2O_STRUCT_FROM_MEMBER(struct exchange, job, job);

    x->outcome = x->run(&x->request, reader);
}

static void on_query_done(struct query_job *job)
{
    struct exchange *x = H2O_STRUCT_FROM_MEMBER(struct exchange, job, job);

    loop_send(x->loop, &x->message);
}

static enum err hand_over(struct request *r, struct query_pool *pool, request_run *run,
                          request_handler *then)
{
    struct exchange *x = exchange_of(r);

    x->run = run;
    x->job = (struct query_job){ .run = on_query_run, .done = on_query_done };
    x->message.deliver = deliver_query;
    start_waiting(x, then);
    enum err e = query_submit(pool, &x->job);
    if (e == ERR_OK)
        return ERR_OK;
    x->waiting = false;
    return diag_set(&r->diag, e, "too many lists and reports are under way");
}

enum err request_query(struct request *r, request_run *run, request_handler *then)
{
    return hand_over(r, r->services->queries, run, then);
}

enum err request_encode(struct request *r, request_run *run, request_handler *then)
{
    return hand_over(r, r->services->pages, run, then);
}

enum err request_again(struct request *r, request_handler *then)
{
    struct exchange *x = exchange_of(r);

    start_waiting(x, then);
    x->next = x->loop->again;
    x->loop->again = x;
    return ERR_OK;
}

void exchange_run_again(struct loop *loop)
{
    struct exchange *x = loop->again, *next;

    for (loop->again = NULL; x; x = next) {
        next = x->next;
        if (stop_waiting(x))
            exchange_step(x, x->then);
    }
}
