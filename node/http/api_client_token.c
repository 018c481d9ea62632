/* GET /-/client-token: the .tok file that an operator hands to machines.
 *
 * Three steps: the ledger says which scopes there are, a query thread reads the CA's file, and the
 * event loop signs. The CA is read each time, so a renewed one is in the next token. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "http/handlers.h"
#include "http/reply.h"

#define EXPIRE_DAYS_DEFAULT 90
#define EXPIRE_DAYS_MAX     3650
#define SCOPES_MAX          256        /* of one token: its text must stay below JWS_MAX */
#define CA_MAX              (24 << 10) /* bytes of TLS_CA, for the same reason */
#define NODE_URL_SIZE       300

struct draft {
    struct client_token token;
    struct client_token_scope scopes[SCOPES_MAX];
    char node_urls[2][NODE_URL_SIZE];
    const char *node_url_list[2];
    struct buf ca;
};

static void draft_fini(void *draft)
{
    buf_fini(&((struct draft *)draft)->ca);
}

/* ---- scopes -------------------------------------------------------------------------------- */

static enum err add_scope(struct request *r, const struct scope_view *scope)
{
    struct draft *draft = r->state;
    size_t *count = &draft->token.scope_count;

    for (size_t i = 0; i < *count; i++) {
        if (uuid_equal(&draft->scopes[i].scope_ref, &scope->scope_ref))
            return ERR_OK;
    }
    if (*count == SCOPES_MAX)
        return diag_set(&r->diag, ERR_TOO_MANY_ITEMS,
                        "a client token has at most %d scopes; name those it is for with "
                        "?scope=REF,REF",
                        SCOPES_MAX);
    draft->scopes[(*count)++] = (struct client_token_scope){
        .scope_ref = scope->scope_ref,
        .feature = request_strdup(r, scope->feature, strlen(scope->feature)),
    };
    return ERR_OK;
}

/* Something can be leased of it, now or later. */
static bool in_force(const struct ledger_result *result, const struct scope_view *scope)
{
    return scope->seats > 0 && scope->ends_ms > result->now_ms;
}

/* By reference or by feature; a feature that several publishers have must be named by reference. */
static enum err add_named_scope(struct request *r, const char *name)
{
    const struct ledger_result *result = &r->command.result;
    const struct scope_view *found = NULL;
    struct uuid ref;
    bool by_ref = uuid_parse(name, strlen(name), &ref);

    for (size_t i = 0; i < result->scope_count; i++) {
        const struct scope_view *scope = &result->scopes[i];
        bool named = by_ref ? uuid_equal(&scope->scope_ref, &ref) : !strcmp(scope->feature, name);
        if (!named || !in_force(result, scope))
            continue;
        if (found)
            return diag_set(&r->diag, ERR_FEATURE_AMBIGUOUS,
                            "several scopes have the feature %s; name one by its scope_ref", name);
        found = scope;
    }
    if (!found)
        return diag_set(&r->diag, ERR_SCOPE_UNKNOWN,
                        "no entitlement in force has a scope or feature %.100s", name);
    return add_scope(r, found);
}

static enum err add_all_scopes(struct request *r)
{
    const struct ledger_result *result = &r->command.result;
    enum err e = ERR_OK;

    for (size_t i = 0; i < result->scope_count && e == ERR_OK; i++) {
        if (in_force(result, &result->scopes[i]))
            e = add_scope(r, &result->scopes[i]);
    }
    return e;
}

static enum err add_scopes(struct request *r)
{
    const char *text = request_query_text(r, "scope");
    enum err e = ERR_OK;
    char *rest = NULL;

    if (!text)
        return add_all_scopes(r);
    char *names = request_strdup(r, text, strlen(text));
    for (char *name = strtok_r(names, ",", &rest); name && e == ERR_OK;
         name = strtok_r(NULL, ",", &rest))
        e = add_named_scope(r, name);
    if (e == ERR_OK && ((struct draft *)r->state)->token.scope_count == 0)
        return diag_set(
            &r->diag, ERR_BAD_FIELD,
            "query parameter scope: is empty; allowed are scope references and features");
    return e;
}

/* ---- nodes --------------------------------------------------------------------------------- */

/* This node and the peer, primary first. The peer's own word about its address counts, once it was
 * heard: HA_REPLICATE may lead another way than clients go. */
static void add_node_urls(struct draft *draft, const struct services *services)
{
    const struct config *config = services->config;
    const char *peer = config->ha_replicate.host;
    struct replication_status status = { .peer_url = "" };
    size_t own = config->ha_role == HA_SECONDARY ? 1 : 0;

    snprintf(draft->node_urls[own], NODE_URL_SIZE, "https://%s:%d", config->dls_url,
             (int)config->dls_port.value);
    if (services->replication)
        replication_status(services->replication, &status);
    if (status.peer_url[0])
        snprintf(draft->node_urls[1 - own], NODE_URL_SIZE, "%s", status.peer_url);
    else if (peer)
        snprintf(draft->node_urls[1 - own], NODE_URL_SIZE,
                 strchr(peer, ':') ? "https://[%s]:%u" : "https://%s:%u", peer,
                 config->ha_replicate.port);
    for (size_t i = 0; i < 2; i++)
        draft->node_url_list[i] = draft->node_urls[i];
    draft->token.node_urls = draft->node_url_list;
    draft->token.node_url_count = peer ? 2 : 1;
}

/* ---- the three steps ----------------------------------------------------------------------- */

static enum err token_sign(struct request *r)
{
    struct draft *draft = r->state;
    AUTO(buf_fini) struct buf text = { .max = JWS_MAX };
    char day[RFC3339_SIZE];

    if (draft->ca.length)
        draft->token.ca_pem = buf_text(&draft->ca);
    if (client_token_sign(r->services->instance, &draft->token, &text) != ERR_OK || !buf_ok(&text))
        return diag_set(&r->diag, ERR_TOO_MANY_ITEMS,
                        "the client token would be longer than %d bytes; name fewer scopes",
                        JWS_MAX);
    rfc3339_format(draft->token.issued_ms, day);
    day[10] = '\0';
    reply_header(r, "content-disposition", "attachment; filename=\"client_%s.tok\"", day);
    reply_bytes(r, 200, "application/jose", buf_text(&text), text.length);
    return ERR_OK;
}

/* On a query thread, because it reads a file. No CA: clients trust what their system trusts. */
static enum err ca_run(struct request *r, struct reader *reader)
{
    struct draft *draft = r->state;
    const char *path = r->services->config->tls_ca;
    struct stat status;

    (void)reader;
    if (stat(path, &status) != 0 && errno == ENOENT)
        return ERR_OK;
    enum err e = file_read(path, FILE_PUBLIC, &draft->ca, &r->diag);
    if (e == ERR_OK && !strstr(buf_text(&draft->ca), "-----BEGIN CERTIFICATE-----"))
        e = diag_set(&r->diag, ERR_FILE, "%s: has no certificate in PEM form", path);
    if (e == ERR_OK)
        return ERR_OK;
    log_event_with(LOG_ERROR, "tls_ca_unusable", LOG_FIELDS("request_id", r->id),
                   "no client token can be made: %s", r->diag.text);
    return diag_set(&r->diag, ERR_INTERNAL, "TLS_CA cannot be used; the node's log says why");
}

static enum err scopes_known(struct request *r)
{
    enum err e = add_scopes(r);

    return e == ERR_OK ? request_query(r, ca_run, token_sign) : e;
}

enum err operator_client_token(struct request *r)
{
    const struct config *config = r->services->config;
    struct draft *draft = request_alloc(r, sizeof *draft);
    int64_t days = EXPIRE_DAYS_DEFAULT;

    enum err e = request_query_int(r, "expire_days", 1, EXPIRE_DAYS_MAX, &days);
    if (e != ERR_OK)
        return e;
    buf_init(&draft->ca, CA_MAX);
    request_defer(r, draft_fini, draft);
    draft->token = (struct client_token){
        .instance_ref = *instance_ref(r->services->instance),
        .token_ref = uuid_random(),
        .site_key_xid = config->site_key_xid,
        .allotment_ref = config->allotment_ref,
        .scopes = draft->scopes,
        .issued_ms = request_now_ms(r),
    };
    draft->token.expires_ms = draft->token.issued_ms + days * 86400000;
    add_node_urls(draft, r->services);
    r->state = draft;
    r->command.event.kind = LEDGER_SCOPES;
    return request_submit(r, scopes_known);
}
