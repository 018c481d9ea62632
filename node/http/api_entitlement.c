/* Operators' calls on entitlements: what publishers signed, and what they need to sign. */
#include <string.h>

#include "http/handlers.h"
#include "http/operator_json.h"
#include "http/reply.h"
#include "replication/forward.h"

/* ---- listing ------------------------------------------------------------------------------- */

DEFINE_AUTO_VALUE(struct entitlement_page, entitlement_page_fini)

/* Every stored entitlement was verified when it was installed; its publisher may have lost the
 * trust since. */
static enum err entitlement_reopen(const struct services *services,
                                   const struct publishers *publishers, const char *text,
                                   struct entitlement **out, bool *trusted, struct diag *diag)
{
    const struct instance *instance = services->instance;
    size_t length = strlen(text);

    enum err e =
        entitlement_verify(publishers, instance_ref(instance),
                           key_thumbprint(instance_key(instance)), text, length, -1, out, diag);
    *trusted = e == ERR_OK;
    return *trusted ? ERR_OK : entitlement_read(text, length, out, diag);
}

static enum err entitlement_show(const struct services *services,
                                 const struct publishers *publishers,
                                 const struct listed_entitlement *row, struct json_object *list,
                                 struct diag *diag)
{
    AUTO(entitlement_unref) struct entitlement *entitlement = NULL;
    bool trusted;

    if (entitlement_reopen(services, publishers, row->text, &entitlement, &trusted, diag) != ERR_OK)
        return ERR_STORE_CORRUPT;
    json_object_array_add(list, operator_entitlement_json(row, entitlement, trusted));
    return ERR_OK;
}

static void put_json(void *object)
{
    json_object_put(object);
}

static enum err entitlements_run(struct request *r, struct reader *reader)
{
    AUTO(entitlement_page_fini) struct entitlement_page page = { 0 };
    AUTO(trust_put) struct trust_snapshot *trust = trust_get(r->services->trust);
    struct json_object *json = json_object_new_object();
    struct json_object *list = json_object_new_array();

    json_object_object_add(json, "entitlement_list", list);
    request_defer(r, put_json, json);
    enum err e = reader_entitlements(reader, &page, &r->diag);
    for (size_t i = 0; i < page.count && e == ERR_OK; i++)
        e = entitlement_show(r->services, trust_publishers(trust), &page.rows[i], list, &r->diag);
    r->state = json;
    return e;
}

static enum err entitlements_reply(struct request *r)
{
    reply_json_object(r, 200, r->state);
    return ERR_OK;
}

enum err operator_entitlements(struct request *r)
{
    return request_query(r, entitlements_run, entitlements_reply);
}

/* ---- installing ---------------------------------------------------------------------------- */

/* R2: minted seats are usable at once, once the peer has acknowledged them, or, where it was
 * retired, once the wait for it is over. */
static const char *usable_when(const struct request *r)
{
    struct engine_status status;

    if (r->command.result.usable)
        return "now";
    engine_status(r->services->engine, &status);
    return uuid_is_nil(&status.pair.partner) ? "wait_over" : "peer_acknowledged";
}

static enum err installed(struct request *r)
{
    const struct ledger_result *result = &r->command.result;
    const struct entitlement *entitlement = r->command.event.install.entitlement;
    AUTO(json_object_put) struct json_object *json = json_object_new_object();
    struct json_object *scopes = json_object_new_array_ext((int)result->scope_count);

    for (size_t i = 0; i < result->scope_count; i++)
        json_object_array_add(scopes, operator_scope_json(&result->scopes[i]));
    json_put_uuid(json, "entitlement_ref", &entitlement->entitlement_ref);
    json_put_int(json, "revision", entitlement->revision);
    json_put_text(json, "publisher", entitlement->publisher);
    json_put_bool(json, "usable", result->usable);
    json_put_text(json, "usable_when", usable_when(r));
    json_object_object_add(json, "scopes", scopes);
    json_put_time(json, "sync_timestamp", result->now_ms);
    reply_json_object(r, result->created ? 201 : 200, json);
    return ERR_OK;
}

static void drop_entitlement(void *entitlement)
{
    entitlement_unref(entitlement);
}

/* Seats are minted at the primary alone (R2), as long as there is one. */
static bool belongs_to_primary(const struct request *r)
{
    struct engine_status status;

    if (r->services->config->ha_role != HA_SECONDARY)
        return false;
    engine_status(r->services->engine, &status);
    return !uuid_is_nil(&status.pair.partner) || status.pair.self == SELF_UNFILLED;
}

struct forwarding {
    char url[340];
    struct forward_request request;
    struct forward_answer answer;
};

static void forwarding_fini(void *forwarding)
{
    forward_answer_fini(&((struct forwarding *)forwarding)->answer);
}

static enum err primary_away(struct request *r, const char *peer, const char *why)
{
    return diag_set(&r->diag, ERR_PRIMARY_AWAY,
                    "entitlements are installed at the primary, https://%s, which %s; if it is "
                    "gone for good, retire it",
                    peer, why);
}

static enum err forward_run(struct request *r, struct reader *reader)
{
    struct forwarding *forwarding = r->state;
    struct diag diag = { "" };

    (void)reader;
    enum err e = forward_post(&forwarding->request, &forwarding->answer, &diag);
    if (e == ERR_OK)
        return ERR_OK;
    return diag_set(&r->diag, ERR_PRIMARY_AWAY, "%s; what was asked for may still be done",
                    diag.text);
}

/* The primary's own words. */
static enum err forwarded(struct request *r)
{
    struct forwarding *forwarding = r->state;
    const struct forward_answer *answer = &forwarding->answer;

    if (answer->status < 200 || answer->status > 599 || answer->status == 401)
        return diag_set(&r->diag, answer->status == 401 ? ERR_FORBIDDEN : ERR_PRIMARY_AWAY,
                        answer->status == 401
                            ? "the primary does not know this token; install the entitlement there"
                            : "the primary's answer cannot be used");
    reply_bytes(r, answer->status, answer->content_type, buf_text(&answer->body),
                answer->body.length);
    return ERR_OK;
}

static enum err forward(struct request *r)
{
    const struct config *config = r->services->config;
    struct forwarding *forwarding;
    struct replication_status peer = { .peer = "" };

    if (r->services->replication)
        replication_status(r->services->replication, &peer);
    if (request_header(r, FORWARDED_HEADER))
        return primary_away(r, peer.peer, "handed it on to this node: both have HA_ROLE=SECONDARY");
    if (peer.state != REPLICATION_CONNECTED)
        return primary_away(r, peer.peer, "does not answer");
    forwarding = request_alloc(r, sizeof *forwarding);
    request_defer(r, forwarding_fini, forwarding);
    snprintf(forwarding->url, sizeof forwarding->url, "https://%s/-/entitlements", peer.peer);
    forwarding->request = (struct forward_request){
        .url = forwarding->url,
        .ca_file = config->tls_ca,
        .content_type = "application/jose",
        .body = r->text,
        .body_length = r->text_length,
        .authorization = request_header(r, "authorization"),
        .cookie = request_header(r, "cookie"),
        .request_id = r->id,
        .timeout_ms =
            config->request_timeout.value * 1000 * 3 / 4, /* so that we can still say so */
    };
    if (forwarding->request.authorization)
        forwarding->request.cookie = NULL;
    r->state = forwarding;
    return request_query(r, forward_run, forwarded);
}

enum err operator_install(struct request *r)
{
    const struct instance *instance = r->services->instance;
    AUTO(trust_put) struct trust_snapshot *trust = NULL;
    struct entitlement *entitlement;

    if (belongs_to_primary(r))
        return forward(r);
    trust = trust_get(r->services->trust);
    enum err e = entitlement_verify(trust_publishers(trust), instance_ref(instance),
                                    key_thumbprint(instance_key(instance)), r->text, r->text_length,
                                    request_now_ms(r), &entitlement, &r->diag);
    if (e != ERR_OK)
        return e;
    request_defer(r, drop_entitlement, entitlement);
    r->command.event.kind = LEDGER_INSTALL;
    r->command.event.install.entitlement = entitlement;
    return request_submit(r, installed);
}

/* ---- what a publisher needs ---------------------------------------------------------------- */

enum err operator_instance_token(struct request *r)
{
    AUTO(buf_fini) struct buf token = { .max = JWS_MAX };

    enum err e = instance_token_sign(r->services->instance, request_now_ms(r), &token);
    if (e != ERR_OK)
        return diag_set(&r->diag, ERR_INTERNAL, "the instance token could not be signed");
    must(buf_ok(&token));
    reply_header(r, "content-disposition", "attachment; filename=\"instance.tok\"");
    reply_bytes(r, 200, "application/jose", buf_text(&token), token.length);
    return ERR_OK;
}
