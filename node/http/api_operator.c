/* Operators' calls on seats, leases and origins (design §5).
 *
 * What reads whole tables runs on a query thread and is written as JSON there; what changes
 * something, and the state of scopes, goes through the ledger. Deleting everything goes in chunks,
 * so that clients' requests find their way in between: if the request's deadline passes first, the
 * operator gets 503 `deadline`, what was deleted stays deleted, and repeating the call goes on. */
#include <inttypes.h>
#include <string.h>

#include "config.h"
#include "http/handlers.h"
#include "http/operator_json.h"
#include "http/reply.h"

#define DELETE_CHUNK   500         /* records of one transaction */
#define LIST_BYTES_MAX (16u << 20) /* a page that grows beyond ends there, short of its limit */
#define CURSOR_SIZE    (2 * UUID_TEXT_SIZE)

/* ---- settings and scopes ------------------------------------------------------------------- */

enum err operator_config(struct request *r)
{
    AUTO(json_object_put) struct json_object *json = config_json(r->services->config);

    reply_json_object(r, 200, json);
    return ERR_OK;
}

static enum err scopes_read(struct request *r)
{
    const struct ledger_result *result = &r->command.result;
    AUTO(json_object_put) struct json_object *json = json_object_new_object();
    struct json_object *list = json_object_new_array_ext((int)result->scope_count);

    for (size_t i = 0; i < result->scope_count; i++)
        json_object_array_add(list, operator_scope_json(&result->scopes[i]));
    json_object_object_add(json, "scope_list", list);
    json_put_time(json, "sync_timestamp", result->now_ms);
    reply_json_object(r, 200, json);
    return ERR_OK;
}

enum err operator_scopes(struct request *r)
{
    r->command.event.kind = LEDGER_SCOPES;
    return request_submit(r, scopes_read);
}

/* ---- pages of lists ------------------------------------------------------------------------ */

struct list {
    int64_t limit;
    bool with; /* origin=true or leases=true */
    int state; /* of leases; < 0: any */
    struct lease_key after;
    struct buf json;
    size_t shown;
    char next[CURSOR_SIZE]; /* "": this is the last page */
};

static void list_free(void *list)
{
    buf_fini(&((struct list *)list)->json);
}

static enum err list_new(struct request *r, const char *with, struct list **out)
{
    struct list *list = request_alloc(r, sizeof *list);
    enum err e;

    *list = (struct list){ .limit = PAGE_LIMIT_DEFAULT, .state = -1 };
    buf_init(&list->json, REPLY_MAX);
    request_defer(r, list_free, list);
    if ((e = request_query_int(r, "limit", 1, PAGE_LIMIT_MAX, &list->limit)) != ERR_OK)
        return e;
    if ((e = request_query_bool(r, with, &list->with)) != ERR_OK)
        return e;
    r->state = list;
    *out = list;
    return ERR_OK;
}

/* Adds a row, which it takes. False: the page is full, and the row is not in it. */
static bool list_add(struct list *list, struct json_object *row)
{
    size_t size;
    const char *text = json_object_to_json_string_length(
        row, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &size);
    bool fits = list->shown == 0 || list->json.length + size <= LIST_BYTES_MAX;

    if (fits) {
        if (list->shown++)
            buf_text_append(&list->json, ",");
        buf_append(&list->json, text, size);
    }
    json_object_put(row);
    return fits;
}

static void list_end(struct list *list)
{
    buf_text_append(&list->json, "]}");
    must(buf_ok(&list->json));
}

/* ---- leases -------------------------------------------------------------------------------- */

/* A lease is identified by its reference and its home, so a cursor is both. */
static void lease_cursor(const struct lease_row *row, char out[CURSOR_SIZE])
{
    uuid_format(&row->lease_ref, out);
    out[UUID_TEXT_SIZE - 1] = '.';
    uuid_format(&row->home, out + UUID_TEXT_SIZE);
}

static enum err read_lease_cursor(struct request *r, struct lease_key *out)
{
    const char *text = request_query_text(r, "after");
    const size_t half = UUID_TEXT_SIZE - 1;

    if (!text)
        return ERR_OK;
    if (strlen(text) == 2 * half + 1 && text[half] == '.' &&
        uuid_parse(text, half, &out->lease_ref) && uuid_parse(text + half + 1, half, &out->home))
        return ERR_OK;
    return diag_set(&r->diag, ERR_BAD_FIELD,
                    "query parameter after: is \"%.80s\"; allowed is what the Link header gave",
                    text);
}

static enum err read_lease_state(struct request *r, int *out)
{
    const char *text = request_query_text(r, "state");

    if (!text)
        return ERR_OK;
    for (int state = 0; state < LEASE_STATES; state++) {
        if (strcmp(text, lease_state_name((enum lease_state)state)) == 0) {
            *out = state;
            return ERR_OK;
        }
    }
    return diag_set(&r->diag, ERR_BAD_FIELD,
                    "query parameter state: is \"%.40s\"; allowed: active, released, revoked, "
                    "superseded, expired",
                    text);
}

DEFINE_AUTO_VALUE(struct lease_page, lease_page_fini)

static enum err leases_run(struct request *r, struct reader *reader)
{
    struct list *list = r->state;
    AUTO(lease_page_fini) struct lease_page page = { 0 };
    size_t i;

    enum err e = reader_leases(reader, &list->after, (size_t)list->limit, list->state, list->with,
                               &page, &r->diag);
    if (e != ERR_OK)
        return e;
    buf_text_append(&list->json, "{\"lease_list\":[");
    for (i = 0; i < page.count; i++) {
        if (!list_add(list, operator_lease_json(&page.rows[i])))
            break;
    }
    if (page.more || i < page.count)
        lease_cursor(&page.rows[i - 1].row, list->next);
    list_end(list);
    return ERR_OK;
}

static enum err leases_reply(struct request *r)
{
    struct list *list = r->state;

    if (list->next[0])
        reply_header(
            r, "link", "</-/leases?limit=%" PRId64 "%s%s%s&after=%s>; rel=\"next\"", list->limit,
            list->with ? "&origin=true" : "", list->state < 0 ? "" : "&state=",
            list->state < 0 ? "" : lease_state_name((enum lease_state)list->state), list->next);
    reply_json(r, 200, &list->json);
    return ERR_OK;
}

enum err operator_leases(struct request *r)
{
    struct list *list;
    enum err e;

    if ((e = list_new(r, "origin", &list)) != ERR_OK)
        return e;
    if ((e = read_lease_cursor(r, &list->after)) != ERR_OK)
        return e;
    if ((e = read_lease_state(r, &list->state)) != ERR_OK)
        return e;
    return request_query(r, leases_run, leases_reply);
}

static enum err revoked(struct request *r)
{
    reply_empty(r, 204);
    return ERR_OK;
}

enum err operator_revoke(struct request *r)
{
    struct ledger_event *event = &r->command.event;

    event->kind = LEDGER_REVOKE;
    enum err e = request_param_uuid(r, "lease_ref", &event->revoke.lease_ref);
    return e == ERR_OK ? request_submit(r, revoked) : e;
}

/* ---- origins ------------------------------------------------------------------------------- */

DEFINE_AUTO_VALUE(struct origin_page, origin_page_fini)

static enum err origins_run(struct request *r, struct reader *reader)
{
    struct list *list = r->state;
    AUTO(origin_page_fini) struct origin_page page = { 0 };
    size_t i;

    enum err e = reader_origins(reader, &list->after.lease_ref, (size_t)list->limit, list->with,
                                &page, &r->diag);
    if (e != ERR_OK)
        return e;
    buf_text_append(&list->json, "{\"origin_list\":[");
    for (i = 0; i < page.count; i++) {
        if (!list_add(list, operator_origin_json(&page.rows[i], list->with)))
            break;
    }
    if (page.more || i < page.count)
        uuid_format(&page.rows[i - 1].row.origin_ref, list->next);
    list_end(list);
    return ERR_OK;
}

static enum err origins_reply(struct request *r)
{
    struct list *list = r->state;

    if (list->next[0])
        reply_header(r, "link", "</-/origins?limit=%" PRId64 "%s&after=%s>; rel=\"next\"",
                     list->limit, list->with ? "&leases=true" : "", list->next);
    reply_json(r, 200, &list->json);
    return ERR_OK;
}

enum err operator_origins(struct request *r)
{
    struct list *list;
    enum err e;

    if ((e = list_new(r, "leases", &list)) != ERR_OK)
        return e;
    if ((e = request_query_uuid(r, "after", &list->after.lease_ref)) != ERR_OK)
        return e;
    return request_query(r, origins_run, origins_reply);
}

enum err operator_origin_delete(struct request *r)
{
    struct ledger_event *event = &r->command.event;

    event->kind = LEDGER_ORIGIN_DELETE;
    enum err e = request_param_uuid(r, "origin_ref", &event->origin_delete.origin_ref);
    return e == ERR_OK ? request_submit(r, revoked) : e;
}

/* ---- deleting in chunks -------------------------------------------------------------------- */

/* What is being deleted, and how it is told. */
struct deletion {
    enum ledger_event_kind kind;
    const char *member; /* of the answer */
    int64_t count;
};

static enum err deletion_go_on(struct request *r);

static enum err deletion_step(struct request *r)
{
    const struct ledger_result *result = &r->command.result;
    struct deletion *deletion = r->state;

    deletion->count += result->affected;
    if (result->more)
        return deletion_go_on(r);
    AUTO(json_object_put) struct json_object *json = json_object_new_object();
    json_put_int(json, deletion->member, deletion->count);
    json_put_time(json, "sync_timestamp", result->now_ms);
    reply_json_object(r, 200, json);
    return ERR_OK;
}

static enum err deletion_go_on(struct request *r)
{
    const struct deletion *deletion = r->state;
    struct ledger_event *event = &r->command.event;

    *event = (struct ledger_event){ .kind = deletion->kind };
    if (deletion->kind == LEDGER_PURGE)
        event->purge.limit = DELETE_CHUNK;
    else
        event->origins_delete.limit = DELETE_CHUNK;
    return request_submit(r, deletion_step);
}

static enum err deletion_start(struct request *r, enum ledger_event_kind kind, const char *member)
{
    struct deletion *deletion = request_alloc(r, sizeof *deletion);

    *deletion = (struct deletion){ .kind = kind, .member = member };
    r->state = deletion;
    return deletion_go_on(r);
}

enum err operator_origins_delete(struct request *r)
{
    return deletion_start(r, LEDGER_ORIGINS_DELETE, "deleted_count");
}

enum err operator_purge(struct request *r)
{
    return deletion_start(r, LEDGER_PURGE, "purged_count");
}
