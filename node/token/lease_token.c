#include "base/base64url.h"
#include "base/entitlement.h"
#include "token/claims.h"
#include "token/instance_internal.h"
#include "token/publisher.h"

#define PAYLOAD_MAX     1152
#define DURATION_MS_MAX (LEASE_SECONDS_MAX * INT64_C(1000))

/* By hand and not through json-c, because a signature is made for every grant and renewal: nothing
 * here needs escaping, names of features are checked. */
static void append_claims(const struct instance *instance, const struct lease_claims *c,
                          const struct commit_receipt *receipt, struct buf *out)
{
    char origin[UUID_TEXT_SIZE], lease[UUID_TEXT_SIZE], scope[UUID_TEXT_SIZE];
    char home[UUID_TEXT_SIZE], node[UUID_TEXT_SIZE], peer[UUID_TEXT_SIZE];
    intmax_t issued = claims_seconds(c->issued_ms);

    uuid_format(&c->origin_ref, origin);
    uuid_format(&c->lease_ref, lease);
    uuid_format(&c->scope_ref, scope);
    uuid_format(&c->home, home);
    uuid_format(&receipt->node_ref, node);
    buf_format(
        out,
        CLAIM_ISS ",\"sub\":\"%s\",\"jti\":\"%s\",\"scope_ref\":\"%s\",\"feature\":\"%s\","
                  "\"count\":%jd,\"gen\":%ju,\"iat\":%jd,\"nbf\":%jd,\"exp\":%jd,\"home\":\"%s\",",
        instance->ref_text, origin, lease, scope, c->feature, (intmax_t)c->count,
        (uintmax_t)c->generation, issued, issued, (intmax_t)claims_seconds(c->expires_ms), home);
    buf_format(out, "\"adopt\":%s,", c->adopt ? "true" : "false");
    if (c->adopt) {
        uuid_format(&c->peer, peer);
        buf_format(out, "\"peer\":\"%s\",", peer);
    }
    buf_format(out, "\"node\":\"%s\",\"seq\":%ju,\"ent\":\"", node, (uintmax_t)receipt->seq);
    base64url_append(out, c->entitlement_sha256, sizeof c->entitlement_sha256);
    buf_format(out, "\",\"expires_ms\":%jd,\"created_ms\":%jd,\"duration_ms\":%jd}",
               (intmax_t)c->expires_ms, (intmax_t)c->created_ms, (intmax_t)c->duration_ms);
}

enum err lease_token_sign(const struct instance *instance, const struct lease_claims *claims,
                          const struct commit_receipt *receipt, struct buf *out)
{
    AUTO(buf_fini) struct buf payload = { .max = PAYLOAD_MAX };

    must(receipt->seq <= INT64_MAX && !uuid_is_nil(&receipt->node_ref));
    must(claims->adopt == !uuid_is_nil(&claims->peer));
    if (!feature_name_valid(claims->feature))
        return ERR_INTERNAL;
    append_claims(instance, claims, receipt, &payload);
    must(buf_ok(&payload));
    return jws_sign_with(instance->key, &instance->lease_header, payload.bytes, payload.length,
                         out);
}

static void read_feature(struct json_reader *r, struct lease_claims *out)
{
    const char *name;

    if (!json_read_string(r, "feature", true, FEATURE_NAME_MAX, &name))
        return;
    if (!feature_name_valid(name))
        json_reader_fail(r, ERR_BAD_FIELD, "feature is not a name of a feature");
    else
        memcpy(out->feature, name, strlen(name) + 1);
}

/* R4: who may adopt it, if anybody. */
static void read_adopter(struct json_reader *r, struct lease_claims *out)
{
    json_read_bool(r, "adopt", true, &out->adopt);
    bool named = json_read_uuid(r, "peer", false, &out->peer);
    if (r->err == ERR_OK && named != out->adopt)
        json_reader_fail(r, ERR_BAD_FIELD, "adopt and peer contradict each other");
}

/* The exact times, which must agree with the whole seconds that everybody else reads. */
static void read_times(struct json_reader *r, struct lease_claims *out)
{
    int64_t expires_ms = 0;

    claims_read_seconds(r, "iat", true, &out->issued_ms);
    claims_read_seconds(r, "exp", true, &expires_ms);
    json_read_int(r, "expires_ms", true, 0, CLAIM_MS_MAX, &out->expires_ms);
    json_read_int(r, "created_ms", true, 0, CLAIM_MS_MAX, &out->created_ms);
    json_read_int(r, "duration_ms", true, 1, DURATION_MS_MAX, &out->duration_ms);
    if (r->err == ERR_OK && out->expires_ms / 1000 * 1000 != expires_ms)
        json_reader_fail(r, ERR_BAD_FIELD, "exp and expires_ms contradict each other");
}

static enum err read_claims(struct json_object *payload, struct lease_claims *out,
                            struct diag *diag)
{
    struct lease_claims claims = { 0 };
    struct json_reader r;
    int64_t seq = 0, generation = 0;

    json_reader_init(&r, payload, "", diag);
    json_read_uuid(&r, "iss", true, &claims.instance_ref);
    json_read_uuid(&r, "sub", true, &claims.origin_ref);
    json_read_uuid(&r, "jti", true, &claims.lease_ref);
    json_read_uuid(&r, "scope_ref", true, &claims.scope_ref);
    json_read_uuid(&r, "home", true, &claims.home);
    json_read_uuid(&r, "node", true, &claims.node);
    json_read_int(&r, "seq", true, 0, INT64_MAX, &seq);
    json_read_int(&r, "count", true, 1, ENTITLEMENT_SEATS_MAX, &claims.count);
    json_read_int(&r, "gen", true, 0, UINT32_MAX, &generation);
    read_adopter(&r, &claims);
    claims_read_sha256(&r, "ent", claims.entitlement_sha256);
    read_feature(&r, &claims);
    read_times(&r, &claims);
    claims.seq = (uint64_t)seq;
    claims.generation = (uint32_t)generation;
    enum err e = claims_end(&r, ERR_TOKEN_INVALID);
    if (e == ERR_OK)
        *out = claims;
    return e;
}

enum err lease_token_verify(const struct instance *instance, const char *text, size_t length,
                            struct lease_claims *out, struct diag *diag)
{
    AUTO(jws_fini) struct jws jws = { 0 };
    enum err e = instance_verify(instance, SEAL_SIGNATURE, TYP_LEASE, text, length, &jws, diag);

    return e == ERR_OK ? read_claims(jws.payload, out, diag) : e;
}

enum err lease_token_verify_with(const struct key *const *keys, size_t key_count, const char *text,
                                 size_t length, struct lease_claims *out, struct diag *diag)
{
    AUTO(jws_fini) struct jws jws = { 0 };
    enum err e = jws_verify(keys, key_count, TYP_LEASE, text, length, &jws, diag);

    return e == ERR_OK ? read_claims(jws.payload, out, diag) : e;
}
