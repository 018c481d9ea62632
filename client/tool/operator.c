/* Operators' commands: each is a call or two to one node. */
#include "operator.h"

#include <inttypes.h>

#include "node.h"

#define EXPIRE_DAYS_MAX 3650
#define QUERY_MAX       (64 << 10)

/* ---- status ------------------------------------------------------------------------------ */

static void print_scope(const struct output *out, struct json_object *scope)
{
    output_line(out,
                "  %-24s %6" PRId64 " seats, %" PRId64 " used, %" PRId64 " free here, %" PRId64
                " waiting to come back, until %.10s",
                get_text(scope, "feature"), get_int(scope, "seats"), get_int(scope, "used"),
                get_int(scope, "free_here"), get_int(scope, "waiting"), get_text(scope, "ends"));
}

/* Seats, if the token may see them. */
static enum twinlease_code add_scopes(struct node *node, struct json_object *document,
                                      struct twinlease_error *error)
{
    const struct node_call call = { .method = "GET", .path = "/-/scopes" };
    AUTO(json_object_put) struct json_object *answer = NULL;

    if (!node->token)
        return TWINLEASE_OK;
    enum twinlease_code code = node_json(node, &call, &answer, error);
    if (code == TWINLEASE_OK)
        json_object_object_add(document, "scope_list",
                               json_object_get(get_list(answer, "scope_list")));
    return code;
}

static void print_status(const struct output *out, const struct node *node,
                         struct json_object *document)
{
    const char *role = get_text(document, "health.role");

    output_line(out, "%s: node %s%s%s, version %s, %s", node->url,
                get_text(document, "health.node_ref"), *role ? ", " : "", role,
                get_text(document, "health.version"),
                get_bool(document, "ready") ? "ready" : get_text(document, "reason"));
    if (get_bool(document, "health.clock_alarm"))
        output_line(out, "  the node's clock is off: expired seats are not given out again");
    struct json_object *scopes = get_list(document, "scope_list");
    for (size_t i = 0; i < list_count(scopes); i++)
        print_scope(out, json_object_array_get_idx(scopes, i));
}

static enum twinlease_code node_status(const struct args *args, struct output *out,
                                       struct twinlease_error *error)
{
    const struct node_call health = { .method = "GET", .path = "/-/health" };
    const struct node_call ready = { .method = "GET", .path = "/-/ready" };
    AUTO(json_object_put) struct json_object *document = json_object_new_object();
    AUTO(json_object_put) struct json_object *alive = NULL, *serving = NULL;
    AUTO(node_fini) struct node node = { 0 };
    enum twinlease_code code;

    if ((code = node_open(args, false, &node, error)) != TWINLEASE_OK ||
        (code = node_json(&node, &health, &alive, error)) != TWINLEASE_OK)
        return code;
    put_text(document, "url", node.url);
    json_object_object_add(document, "health", TAKE(alive));
    code = node_json(&node, &ready, &serving, error);
    put_bool(document, "ready", code == TWINLEASE_OK);
    if (code != TWINLEASE_OK)
        put_text(document, "reason", error->message);
    else if ((code = add_scopes(&node, document, error)) != TWINLEASE_OK)
        return code;
    print_status(out, &node, document);
    output_document(out, TAKE(document));
    return code;
}

enum twinlease_code operator_status(const struct args *args, struct output *out,
                                    struct twinlease_error *error)
{
    bool node = args_has(args, "url") || (!args_has(args, "tok") && args_text(args, "url"));

    if (!node && !args_text(args, "tok"))
        return fault_set(error, TWINLEASE_USAGE,
                         "name the node with --url https://host[:port], or a client token with "
                         "--tok");
    return node ? node_status(args, out, error) : machine_status(args, out, error);
}

/* ---- tokens ------------------------------------------------------------------------------ */

/* To --out, or to standard output. */
static enum twinlease_code deliver_token(const struct args *args, struct output *out,
                                         const char *token, const char *what, unsigned mode,
                                         struct twinlease_error *error)
{
    const char *path = args_text(args, "out");
    AUTO(buf_fini_secret) struct buf line = { .max = strlen(token) + 1 };
    struct json_object *document = json_object_new_object();
    struct diag diag;

    buf_format(&line, "%s\n", token);
    if (path && file_write(path, line.bytes, line.length, mode, true, &diag) != ERR_OK) {
        json_object_put(document);
        return fault_set(error, TWINLEASE_BAD_FILE, "%s", diag.text);
    }
    if (path) {
        output_line(out, "The %s is in %s.", what, path);
        put_text(document, "file", path);
    } else {
        output_line(out, "%s", token);
        put_text(document, "token", token);
    }
    output_document(out, document);
    return TWINLEASE_OK;
}

static enum twinlease_code fetch_token(const struct args *args, struct output *out,
                                       const char *path, const char *what, unsigned mode,
                                       struct twinlease_error *error)
{
    const struct node_call call = { .method = "GET", .path = path };
    AUTO(buf_fini_secret) struct buf token = { .max = ANSWER_MAX };
    AUTO(node_fini) struct node node = { 0 };
    enum twinlease_code code;

    if ((code = node_open(args, true, &node, error)) != TWINLEASE_OK ||
        (code = node_text(&node, &call, &token, error)) != TWINLEASE_OK)
        return code;
    return deliver_token(args, out, buf_text(&token), what, mode, error);
}

enum twinlease_code instance_token(const struct args *args, struct output *out,
                                   struct twinlease_error *error)
{
    return fetch_token(args, out, "/-/instance-token", "instance token", 0644, error);
}

enum twinlease_code client_token(const struct args *args, struct output *out,
                                 struct twinlease_error *error)
{
    AUTO(buf_fini) struct buf path = { .max = QUERY_MAX };
    const char *scope, *joint = "?scope=";
    int64_t days = 0;
    size_t at = 0;
    enum twinlease_code code = args_int(args, "expire-days", 1, EXPIRE_DAYS_MAX, &days, error);

    if (code != TWINLEASE_OK)
        return code;
    buf_text_append(&path, "/-/client-token");
    while ((scope = args_next(args, "scope", &at))) {
        buf_text_append(&path, joint);
        query_append(&path, scope);
        joint = ",";
    }
    if (days)
        buf_format(&path, "%cexpire_days=%" PRId64, *joint == '?' ? '?' : '&', days);
    if (!buf_ok(&path))
        return fault_set(error, TWINLEASE_USAGE, "--scope is given too often");
    return fetch_token(args, out, buf_text(&path), "client token", 0600, error);
}

/* ---- entitlements ------------------------------------------------------------------------ */

static const char *revision_text(struct json_object *entitlement, struct buf *out)
{
    buf_format(out, "%s revision %" PRId64 " of %s", get_text(entitlement, "entitlement_ref"),
               get_int(entitlement, "revision"), get_text(entitlement, "publisher"));
    return buf_text(out);
}

enum twinlease_code entitlement_install(const struct args *args, struct output *out,
                                        struct twinlease_error *error)
{
    AUTO(buf_fini) struct buf text = { .max = ENTITLEMENT_TEXT_MAX };
    AUTO(buf_fini) struct buf name = { .max = 1024 };
    AUTO(json_object_put) struct json_object *answer = NULL;
    AUTO(node_fini) struct node node = { 0 };
    enum twinlease_code code;

    if ((code = text_read(args->operands[0], &text, error)) != TWINLEASE_OK)
        return code;
    const struct node_call call = { "POST", "/-/entitlements", text.bytes, "application/jose" };
    if ((code = node_open(args, true, &node, error)) != TWINLEASE_OK ||
        (code = node_json(&node, &call, &answer, error)) != TWINLEASE_OK)
        return code;
    output_line(out, "Installed %s; %s", revision_text(answer, &name),
                get_bool(answer, "usable")
                    ? "its seats can be leased now."
                    : "its seats can be leased once the other node has heard of them.");
    struct json_object *scopes = get_list(answer, "scopes");
    for (size_t i = 0; i < list_count(scopes); i++)
        print_scope(out, json_object_array_get_idx(scopes, i));
    output_document(out, TAKE(answer));
    return TWINLEASE_OK;
}

static void print_entitlement(const struct output *out, struct json_object *entitlement)
{
    AUTO(buf_fini) struct buf name = { .max = 1024 };
    struct json_object *features = get_list(entitlement, "features");

    output_line(out, "%s%s, from %.10s until %.10s", revision_text(entitlement, &name),
                get_bool(entitlement, "trusted") ? "" : " (publisher not trusted any more)",
                get_text(entitlement, "begins"), get_text(entitlement, "ends"));
    for (size_t i = 0; i < list_count(features); i++) {
        struct json_object *feature = json_object_array_get_idx(features, i);
        output_line(out, "  %-24s %6" PRId64 " seats  %s", get_text(feature, "feature"),
                    get_int(feature, "seats"), get_text(feature, "scope_ref"));
    }
}

enum twinlease_code entitlement_list(const struct args *args, struct output *out,
                                     struct twinlease_error *error)
{
    const struct node_call call = { .method = "GET", .path = "/-/entitlements" };
    AUTO(json_object_put) struct json_object *answer = NULL;
    AUTO(node_fini) struct node node = { 0 };
    enum twinlease_code code;

    if ((code = node_open(args, true, &node, error)) != TWINLEASE_OK ||
        (code = node_json(&node, &call, &answer, error)) != TWINLEASE_OK)
        return code;
    struct json_object *list = get_list(answer, "entitlement_list");
    if (list_count(list) == 0)
        output_line(out, "No entitlement is installed.");
    for (size_t i = 0; i < list_count(list); i++)
        print_entitlement(out, json_object_array_get_idx(list, i));
    output_document(out, TAKE(answer));
    return TWINLEASE_OK;
}

/* ---- leases and origins ------------------------------------------------------------------ */

/* A list on its way from the node's pages to the output. */
struct listing {
    struct output *out;
    const char *member;
    void (*print)(const struct output *out, struct json_object *item);
    const char *origin_ref; /* NULL: of any */
    size_t count;
};

static void list_head(const struct listing *listing)
{
    output_raw(listing->out, "{\n  \"");
    output_raw(listing->out, listing->member);
    output_raw(listing->out, "\":[");
}

static bool list_item(struct json_object *item, void *context)
{
    struct listing *listing = context;

    if (listing->origin_ref && strcmp(listing->origin_ref, get_text(item, "origin_ref")) != 0)
        return true;
    if (listing->count == 0)
        list_head(listing);
    output_raw(listing->out, listing->count++ ? ",\n    " : "\n    ");
    output_raw(listing->out, json_object_to_json_string_ext(
                                 item, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
    listing->print(listing->out, item);
    return true;
}

/* With --json the document ends in "complete": whether the node gave the whole list. */
static enum twinlease_code list_all(const struct args *args, const char *path,
                                    struct listing *listing, struct twinlease_error *error)
{
    AUTO(node_fini) struct node node = { 0 };
    enum twinlease_code code = node_open(args, true, &node, error);

    if (code == TWINLEASE_OK)
        code = node_pages(&node, path, listing->member, list_item, listing, error);
    if (code != TWINLEASE_OK && listing->count == 0)
        return code;
    if (listing->count == 0)
        list_head(listing);
    output_raw(listing->out, code == TWINLEASE_OK ? "\n  ],\n  \"complete\":true\n}\n"
                                                  : "\n  ],\n  \"complete\":false\n}\n");
    return code;
}

static void print_lease(const struct output *out, struct json_object *lease)
{
    output_line(out, "%s  %-20s %4" PRId64 " %-6s %-10s until %.19sZ  %s",
                get_text(lease, "lease_ref"), get_text(lease, "feature"), get_int(lease, "count"),
                plural(get_int(lease, "count")), get_text(lease, "state"),
                get_text(lease, "expires"), get_text(lease, "origin.environment.hostname"));
}

enum twinlease_code operator_leases(const struct args *args, struct output *out,
                                    struct twinlease_error *error)
{
    struct listing listing = { .out = out, .member = "lease_list", .print = print_lease };
    AUTO(buf_fini) struct buf path = { .max = QUERY_MAX };
    const char *state = args_text(args, "only"), *origin = args_text(args, "origin");
    char origin_text[UUID_TEXT_SIZE];
    struct uuid origin_ref;

    if (origin && !uuid_parse(origin, strlen(origin), &origin_ref))
        return fault_set(error, TWINLEASE_USAGE, "\"%.40s\" is no origin reference (a UUID)",
                         origin);
    if (origin) {
        uuid_format(&origin_ref, origin_text);
        listing.origin_ref = origin_text;
    }
    buf_text_append(&path, "/-/leases?origin=true");
    if (state) {
        buf_text_append(&path, "&state=");
        query_append(&path, state);
    }
    if (!buf_ok(&path))
        return fault_set(error, TWINLEASE_USAGE, "--only is too long");
    enum twinlease_code code = list_all(args, buf_text(&path), &listing, error);
    if (code == TWINLEASE_OK && listing.count == 0)
        output_line(out, "There is no such lease.");
    return code;
}

static void print_origin(const struct output *out, struct json_object *origin)
{
    output_line(out, "%s  since %.19sZ  %-24s %s %s", get_text(origin, "origin_ref"),
                get_text(origin, "created"), get_text(origin, "environment.hostname"),
                get_text(origin, "environment.os_platform"),
                get_text(origin, "environment.os_version"));
    struct json_object *leases = get_list(origin, "active_lease_list");
    for (size_t i = 0; i < list_count(leases); i++) {
        struct json_object *lease = json_object_array_get_idx(leases, i);
        output_line(out, "  %s  %-20s %4" PRId64 " %-6s %-10s until %.19sZ",
                    get_text(lease, "lease_ref"), get_text(lease, "feature"),
                    get_int(lease, "count"), plural(get_int(lease, "count")),
                    get_text(lease, "state"), get_text(lease, "expires"));
    }
}

enum twinlease_code operator_origins(const struct args *args, struct output *out,
                                     struct twinlease_error *error)
{
    struct listing listing = { .out = out, .member = "origin_list", .print = print_origin };
    enum twinlease_code code = list_all(
        args, args_has(args, "leases") ? "/-/origins?leases=true" : "/-/origins", &listing, error);

    if (code == TWINLEASE_OK && listing.count == 0)
        output_line(out, "No machine is enrolled.");
    return code;
}

/* ---- revoke ------------------------------------------------------------------------------ */

enum twinlease_code node_revoke(const struct args *args, struct output *out,
                                struct twinlease_error *error)
{
    const char *text = args->operands[0];
    AUTO(json_object_put) struct json_object *answer = NULL;
    AUTO(node_fini) struct node node = { 0 };
    struct json_object *document;
    struct uuid lease_ref;
    char path[64] = "/-/lease/";
    enum twinlease_code code;

    if (!uuid_parse(text, strlen(text), &lease_ref))
        return fault_set(error, TWINLEASE_USAGE, "\"%.40s\" is no lease reference (a UUID)", text);
    uuid_format(&lease_ref, path + strlen(path));
    const struct node_call call = { .method = "DELETE", .path = path };
    if ((code = node_open(args, true, &node, error)) != TWINLEASE_OK ||
        (code = node_json(&node, &call, &answer, error)) != TWINLEASE_OK)
        return code;
    document = json_object_new_object();
    put_text(document, "revoked", path + strlen("/-/lease/"));
    output_line(out, "Revoked %s.", path + strlen("/-/lease/"));
    output_document(out, document);
    return TWINLEASE_OK;
}

enum twinlease_code operator_revoke(const struct args *args, struct output *out,
                                    struct twinlease_error *error)
{
    return node_revoke(args, out, error);
}
