/* The documents that people carry: client tokens and instance tokens. */
#include "token/claims.h"
#include "token/instance_internal.h"

static void add(struct json_object *object, const char *name, struct json_object *value)
{
    must(value && json_object_object_add(object, name, value) == 0);
}

static void add_text(struct json_object *object, const char *name, const char *text)
{
    add(object, name, json_object_new_string(text));
}

static void add_uuid(struct json_object *object, const char *name, const struct uuid *uuid)
{
    char text[UUID_TEXT_SIZE];

    uuid_format(uuid, text);
    add_text(object, name, text);
}

static void add_seconds(struct json_object *object, const char *name, int64_t ms)
{
    add(object, name, json_object_new_int64(claims_seconds(ms)));
}

static void append_text(struct json_object *list, const char *text)
{
    must(json_object_array_add(list, json_object_new_string(text)) == 0);
}

static enum err sign(const struct instance *instance, const char *typ, struct json_object *payload,
                     struct buf *out)
{
    size_t length;
    const char *text = json_object_to_json_string_length(
        payload, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &length);

    must(text);
    return jws_sign(instance->key, typ, text, length, out);
}

static void add_scopes(struct json_object *payload, const struct client_token *token)
{
    struct json_object *refs = json_object_new_array(), *features = json_object_new_array();
    char text[UUID_TEXT_SIZE];

    must(refs && features);
    for (size_t i = 0; i < token->scope_count; i++) {
        uuid_format(&token->scopes[i].scope_ref, text);
        append_text(refs, text);
        append_text(features, token->scopes[i].feature);
    }
    add(payload, "scope_ref_list", refs);
    add(payload, "feature_list", features);
}

static void add_nodes(struct json_object *payload, const struct client_token *token)
{
    struct json_object *urls = json_object_new_array();

    must(urls);
    for (size_t i = 0; i < token->node_url_count; i++)
        append_text(urls, token->node_urls[i]);
    add(payload, "node_url_list", urls);
}

static void add_trust(struct json_object *payload, const struct instance *instance,
                      const char *ca_pem)
{
    struct json_object *jwks = NULL;

    must(json_parse(instance->jwks, strlen(instance->jwks), &jwks, NULL) == ERR_OK);
    add(payload, "jwks", jwks);
    if (ca_pem)
        add_text(payload, "ca_certificate", ca_pem);
}

enum err client_token_sign(const struct instance *instance, const struct client_token *token,
                           struct buf *out)
{
    AUTO(json_object_put) struct json_object *payload = json_object_new_object();

    must(payload && uuid_equal(&token->instance_ref, &instance->ref));
    add_uuid(payload, "iss", &token->instance_ref);
    add_uuid(payload, "jti", &token->token_ref);
    add_seconds(payload, "iat", token->issued_ms);
    add_seconds(payload, "nbf", token->issued_ms);
    add_seconds(payload, "exp", token->expires_ms);
    add_uuid(payload, "site_key_xid", &token->site_key_xid);
    add_uuid(payload, "allotment_ref", &token->allotment_ref);
    add_nodes(payload, token);
    add_scopes(payload, token);
    add_trust(payload, instance, token->ca_pem);
    return sign(instance, TYP_CLIENT, payload, out);
}

/* nbf is for others: it is the time of issue by the clock of one node, and the other one's may be
 * behind. */
enum err client_token_check(const struct instance *instance, const char *text, size_t length,
                            int64_t now_ms, struct uuid *token_ref, struct diag *diag)
{
    AUTO(jws_fini) struct jws jws = { 0 };
    struct json_reader r;
    struct uuid found;
    int64_t expires_ms = 0;

    enum err e = instance_verify(instance, SEAL_SIGNATURE, TYP_CLIENT, text, length, &jws, diag);
    if (e != ERR_OK)
        return e;
    json_reader_init(&r, jws.payload, "", diag);
    json_read_uuid(&r, "jti", true, &found);
    claims_read_seconds(&r, "exp", true, &expires_ms);
    if ((e = claims_end(&r, ERR_TOKEN_INVALID)) != ERR_OK)
        return e;
    if ((e = claims_check_time(now_ms, expires_ms, diag)) != ERR_OK)
        return e;
    *token_ref = found;
    return ERR_OK;
}

enum err instance_token_sign(const struct instance *instance, int64_t now_ms, struct buf *out)
{
    AUTO(json_object_put) struct json_object *payload = json_object_new_object();

    must(payload);
    add_uuid(payload, "iss", &instance->ref);
    add_seconds(payload, "iat", now_ms);
    add_uuid(payload, "instance_ref", &instance->ref);
    add(payload, "jwk", key_jwk(instance->key));
    return sign(instance, TYP_INSTANCE, payload, out);
}
