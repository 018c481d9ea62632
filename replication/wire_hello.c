/* The small documents: introductions, requests for credits, refusals. */
#include "base/base64url.h"
#include "base/json.h"
#include "replication/wire.h"
#include "replication/wire_json.h"

#define TIME_MAX     INT64_C(253402300799999) /* 9999-12-31T23:59:59.999Z */
#define PROTOCOL_MAX 1000000                  /* any that will ever be */

bool wire_read_bytes(struct json_reader *r, const char *name, bool required, uint8_t *out,
                     size_t size)
{
    AUTO(buf_fini) struct buf bytes = { .max = 64 };
    const char *text;

    must(size <= 64);
    if (!json_read_string(r, name, required, 88, &text))
        return false;
    if (!base64url_decode(text, strlen(text), &bytes) || bytes.length != size) {
        json_reader_fail(r, ERR_BAD_FIELD, "%s must be base64url of %zu bytes", name, size);
        return false;
    }
    memcpy(out, bytes.bytes, size);
    return true;
}

static void append_bytes(struct buf *out, const char *name, const uint8_t *bytes, size_t size)
{
    buf_format(out, ",\"%s\":\"", name);
    base64url_append(out, bytes, size);
    buf_append(out, "\"", 1);
}

static void append_uuid(struct buf *out, const char *name, const struct uuid *uuid)
{
    char text[UUID_TEXT_SIZE];

    if (uuid_is_nil(uuid))
        return;
    uuid_format(uuid, text);
    buf_format(out, ",\"%s\":\"%s\"", name, text);
}

static void append_int(struct buf *out, const char *name, int64_t value)
{
    buf_format(out, ",\"%s\":%jd", name, (intmax_t)value);
}

static void append_bool(struct buf *out, const char *name, bool value)
{
    buf_format(out, ",\"%s\":%s", name, value ? "true" : "false");
}

/* ---- introductions --------------------------------------------------------------------------- */

static void append_introduction(const struct node_introduction *i, struct buf *out)
{
    char text[UUID_TEXT_SIZE];
    const char *comma = "";

    append_uuid(out, "node_ref", &i->node_ref);
    buf_text_append(out, ",\"former\":[");
    for (size_t k = 0; k < FORMER_SELVES_MAX && !uuid_is_nil(&i->former[k]); k++) {
        uuid_format(&i->former[k], text);
        buf_format(out, "%s\"%s\"", comma, text);
        comma = ",";
    }
    buf_append(out, "]", 1);
    append_bool(out, "refilled", i->refilled);
    append_bool(out, "fresh", i->fresh);
    append_int(out, "now_ms", i->now_ms);
    append_int(out, "seq", (int64_t)i->seq);
    append_int(out, "cursor", (int64_t)i->cursor);
    append_int(out, "watermark_ms", i->watermark_ms);
    append_int(out, "longest_ms", i->longest_ms);
    append_uuid(out, "partner", &i->partner);
}

/* Addresses of nodes are made of host and port: visible ASCII, nothing to escape. */
static bool url_valid(const char *url)
{
    for (const char *at = url; *at; at++) {
        if (*at <= ' ' || *at > '~' || strchr("\"\\<>", *at))
            return false;
    }
    return true;
}

void peer_hello_encode(const struct peer_hello *hello, struct buf *out)
{
    must(url_valid(hello->url));
    must(hello->introduction.seq <= INT64_MAX && hello->introduction.cursor <= INT64_MAX);
    buf_format(out, "{\"protocol\":%jd", (intmax_t)hello->protocol);
    append_int(out, "protocol_min", hello->protocol_min);
    buf_format(out, ",\"role\":\"%s\"", hello->primary ? "PRIMARY" : "SECONDARY");
    append_int(out, "wall_ms", hello->wall_ms);
    append_bytes(out, "nonce", hello->nonce, sizeof hello->nonce);
    append_bytes(out, "process", hello->process, sizeof hello->process);
    buf_format(out, ",\"url\":\"%s\"", hello->url);
    append_introduction(&hello->introduction, out);
    buf_append(out, "}", 1);
}

static void read_role(struct json_reader *r, bool *primary)
{
    const char *role;

    if (!json_read_string(r, "role", true, 16, &role))
        return;
    *primary = strcmp(role, "PRIMARY") == 0;
    if (!*primary && strcmp(role, "SECONDARY") != 0)
        json_reader_fail(r, ERR_BAD_FIELD, "role is neither PRIMARY nor SECONDARY");
}

static void read_url(struct json_reader *r, char *out, size_t size)
{
    const char *url;

    if (!json_read_string(r, "url", true, size - 1, &url))
        return;
    if (url_valid(url))
        memcpy(out, url, strlen(url) + 1);
    else
        json_reader_fail(r, ERR_BAD_FIELD, "url is not the address of a node");
}

static void read_former(struct json_reader *r, struct uuid out[FORMER_SELVES_MAX])
{
    struct json_object *array;

    if (!json_read_array(r, "former", true, FORMER_SELVES_MAX, &array))
        return;
    for (size_t i = 0; i < json_object_array_length(array); i++) {
        struct json_object *item = json_object_array_get_idx(array, i);
        const char *text =
            json_object_is_type(item, json_type_string) ? json_object_get_string(item) : "";
        if (!uuid_parse(text, strlen(text), &out[i]))
            json_reader_fail(r, ERR_BAD_FIELD, "former[%zu] is not a UUID", i);
    }
}

static void read_seq(struct json_reader *r, const char *name, uint64_t *out)
{
    int64_t value;

    if (json_read_int(r, name, true, 0, INT64_MAX, &value))
        *out = (uint64_t)value;
}

static void read_introduction(struct json_reader *r, struct node_introduction *out)
{
    json_read_uuid(r, "node_ref", true, &out->node_ref);
    read_former(r, out->former);
    json_read_bool(r, "refilled", true, &out->refilled);
    json_read_bool(r, "fresh", true, &out->fresh);
    json_read_int(r, "now_ms", true, 0, TIME_MAX, &out->now_ms);
    read_seq(r, "seq", &out->seq);
    read_seq(r, "cursor", &out->cursor);
    json_read_int(r, "watermark_ms", true, 0, TIME_MAX, &out->watermark_ms);
    json_read_int(r, "longest_ms", true, 0, LEASE_SECONDS_MAX * INT64_C(1000), &out->longest_ms);
    json_read_uuid(r, "partner", false, &out->partner);
}

static enum err read_hello(struct json_object *value, const char *where, struct peer_hello *out,
                           struct diag *diag)
{
    struct peer_hello hello = { 0 };
    struct json_reader r;

    json_reader_init(&r, value, where, diag);
    json_read_int(&r, "protocol", true, 1, PROTOCOL_MAX, &hello.protocol);
    json_read_int(&r, "protocol_min", true, 1, PROTOCOL_MAX, &hello.protocol_min);
    if (hello.protocol_min > hello.protocol)
        json_reader_fail(&r, ERR_BAD_FIELD, "protocol_min lies above protocol");
    read_role(&r, &hello.primary);
    json_read_int(&r, "wall_ms", true, 0, TIME_MAX, &hello.wall_ms);
    wire_read_bytes(&r, "nonce", true, hello.nonce, sizeof hello.nonce);
    wire_read_bytes(&r, "process", true, hello.process, sizeof hello.process);
    read_url(&r, hello.url, sizeof hello.url);
    read_introduction(&r, &hello.introduction);
    enum err e = json_reader_end_open(&r);
    if (e == ERR_OK)
        *out = hello;
    return e;
}

static enum err parse_small(const char *text, size_t length, struct json_object **out,
                            struct diag *diag)
{
    if (length > PEER_SMALL_MAX)
        return diag_set(diag, ERR_BAD_JSON, "%zu bytes; at most %u are read", length,
                        PEER_SMALL_MAX);
    return json_parse(text, length, out, diag);
}

enum err peer_hello_decode(const char *text, size_t length, struct peer_hello *out,
                           struct diag *diag)
{
    AUTO(json_object_put) struct json_object *value = NULL;
    enum err e = parse_small(text, length, &value, diag);

    return e == ERR_OK ? read_hello(value, "", out, diag) : e;
}

/* ---- credits --------------------------------------------------------------------------------- */

void peer_credits_encode(const struct peer_credits *credits, struct buf *out)
{
    char scope[UUID_TEXT_SIZE];

    uuid_format(&credits->scope_ref, scope);
    buf_format(out, "{\"scope_ref\":\"%s\",\"count\":%jd}", scope, (intmax_t)credits->count);
}

enum err peer_credits_decode(const char *text, size_t length, struct peer_credits *out,
                             struct diag *diag)
{
    AUTO(json_object_put) struct json_object *value = NULL;
    struct peer_credits credits = { 0 };
    struct json_reader r;

    enum err e = parse_small(text, length, &value, diag);
    if (e != ERR_OK)
        return e;
    json_reader_init(&r, value, "", diag);
    json_read_uuid(&r, "scope_ref", true, &credits.scope_ref);
    json_read_int(&r, "count", true, 0, ENTITLEMENT_SEATS_MAX, &credits.count);
    if ((e = json_reader_end_open(&r)) == ERR_OK)
        *out = credits;
    return e;
}

/* ---- refusals -------------------------------------------------------------------------------- */

static enum err code_to_err(const char *code)
{
    for (enum err e = ERR_OK + 1; e < ERR_COUNT; e++) {
        if (strcmp(err_info(e)->code, code) == 0)
            return e;
    }
    return ERR_INTERNAL; /* of a newer release */
}

enum err peer_problem_decode(const char *text, size_t length, struct peer_problem *out,
                             struct diag *diag)
{
    AUTO(json_object_put) struct json_object *value = NULL;
    struct peer_problem problem = { .err = ERR_INTERNAL };
    struct json_object *hello;
    const char *code, *detail = "";
    struct json_reader r;

    enum err e = parse_small(text, length, &value, diag);
    if (e != ERR_OK)
        return e;
    json_reader_init(&r, value, "", diag);
    if (json_read_string(&r, "code", true, 64, &code))
        problem.err = code_to_err(code);
    if (!json_read_string(&r, "detail", false, PEER_SMALL_MAX, &detail))
        json_read_string(&r, "title", false, PEER_SMALL_MAX, &detail);
    problem.introduced = json_read_object(&r, "hello", false, &hello);
    if ((e = json_reader_end_open(&r)) == ERR_OK && problem.introduced)
        e = read_hello(hello, "hello", &problem.hello, diag);
    if (e != ERR_OK)
        return e;
    diag_set(&problem.detail, ERR_OK, "%s", detail);
    *out = problem;
    return ERR_OK;
}
