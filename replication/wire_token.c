/* Peer tokens: JWS of typ peer+jwt under the instance key. Claims: iss sub (sender) aud (receiver,
 * absent while it is not known) purpose answer nonce jti exp body (SHA-256) target. */
#include "base/base64url.h"
#include "replication/wire.h"
#include "replication/wire_json.h"
#include "token/claims.h"
#include "token/instance_internal.h"

#define PAYLOAD_MAX 1024

static const char *const purpose_names[PEER_PURPOSES] = {
    [PEER_HELLO] = "hello",
    [PEER_MEET] = "meet",
    [PEER_CHANGES] = "changes",
    [PEER_CREDITS] = "credits",
};

const char *peer_purpose_name(enum peer_purpose purpose)
{
    must(purpose < PEER_PURPOSES);
    return purpose_names[purpose];
}

/* Needs no escape in JSON, and is what may stand in a request line. */
static bool target_valid(const char *target)
{
    for (const char *at = target; *at; at++) {
        if (*at <= ' ' || *at > '~' || *at == '"' || *at == '\\')
            return false;
    }
    return target[0] == '/';
}

static void append_bytes(struct buf *out, const char *name, const uint8_t *bytes, size_t size)
{
    buf_format(out, ",\"%s\":\"", name);
    base64url_append(out, bytes, size);
    buf_append(out, "\"", 1);
}

static void append_claims(const struct instance *instance, const struct peer_claims *c,
                          struct buf *out)
{
    char ref[UUID_TEXT_SIZE];

    buf_format(out, CLAIM_ISS, instance->ref_text);
    uuid_format(&c->sender, ref);
    buf_format(out, ",\"sub\":\"%s\"", ref);
    if (!uuid_is_nil(&c->receiver)) {
        uuid_format(&c->receiver, ref);
        buf_format(out, ",\"aud\":\"%s\"", ref);
    }
    buf_format(out, ",\"purpose\":\"%s\",\"answer\":%s,\"exp\":%jd", purpose_names[c->purpose],
               c->answer ? "true" : "false", (intmax_t)claims_seconds(c->expires_ms));
    append_bytes(out, "nonce", c->nonce, sizeof c->nonce);
    append_bytes(out, "jti", c->jti, sizeof c->jti);
    append_bytes(out, "body", c->body_sha256, sizeof c->body_sha256);
    buf_format(out, ",\"target\":\"%s\"}", c->target);
}

enum err peer_token_sign(const struct instance *instance, const struct peer_claims *claims,
                         struct buf *out)
{
    AUTO(buf_fini) struct buf payload = { .max = PAYLOAD_MAX };

    must(claims->purpose < PEER_PURPOSES);
    if (uuid_is_nil(&claims->sender) || !target_valid(claims->target))
        return ERR_INTERNAL;
    append_claims(instance, claims, &payload);
    must(buf_ok(&payload));
    return jws_sign(instance->key, TYP_PEER, payload.bytes, payload.length, out);
}

static void read_purpose(struct json_reader *r, enum peer_purpose *out)
{
    const char *name;

    if (!json_read_string(r, "purpose", true, 16, &name))
        return;
    for (enum peer_purpose purpose = 0; purpose < PEER_PURPOSES; purpose++) {
        if (strcmp(purpose_names[purpose], name) == 0) {
            *out = purpose;
            return;
        }
    }
    json_reader_fail(r, ERR_BAD_FIELD, "purpose \"%s\" is not known", name);
}

static void read_target(struct json_reader *r, char out[PEER_TARGET_MAX + 1])
{
    const char *target;

    if (!json_read_string(r, "target", true, PEER_TARGET_MAX, &target))
        return;
    if (target_valid(target))
        memcpy(out, target, strlen(target) + 1);
    else
        json_reader_fail(r, ERR_BAD_FIELD, "target is not the path of a request");
}

static enum err read_claims(struct json_object *payload, struct peer_claims *out, struct diag *diag)
{
    struct peer_claims claims = { .purpose = PEER_HELLO };
    struct json_reader r;

    json_reader_init(&r, payload, "", diag);
    json_read_uuid(&r, "iss", true, &claims.instance_ref);
    json_read_uuid(&r, "sub", true, &claims.sender);
    json_read_uuid(&r, "aud", false, &claims.receiver);
    read_purpose(&r, &claims.purpose);
    json_read_bool(&r, "answer", true, &claims.answer);
    claims_read_seconds(&r, "exp", true, &claims.expires_ms);
    wire_read_bytes(&r, "nonce", true, claims.nonce, sizeof claims.nonce);
    wire_read_bytes(&r, "jti", true, claims.jti, sizeof claims.jti);
    claims_read_sha256(&r, "body", claims.body_sha256);
    read_target(&r, claims.target);
    enum err e = claims_end(&r, ERR_TOKEN_INVALID);
    if (e == ERR_OK)
        *out = claims;
    return e;
}

enum err peer_token_verify(const struct instance *instance, const char *text, size_t length,
                           struct peer_claims *out, struct diag *diag)
{
    AUTO(jws_fini) struct jws jws = { 0 };
    enum err e = instance_verify(instance, SEAL_SIGNATURE, TYP_PEER, text, length, &jws, diag);

    return e == ERR_OK ? read_claims(jws.payload, out, diag) : e;
}

/* ---- judging --------------------------------------------------------------------------------- */

static bool receiver_right(const struct peer_claims *claims, const struct peer_expected *expected)
{
    bool may_be_nobody =
        !expected->answer && (expected->purpose == PEER_HELLO || expected->purpose == PEER_MEET);

    if (uuid_is_nil(&claims->receiver))
        return may_be_nobody;
    return uuid_equal(&claims->receiver, &expected->receiver);
}

static bool body_right(const struct peer_claims *claims, const struct peer_expected *expected)
{
    uint8_t hash[32];

    sha256(expected->body_size ? expected->body : "", expected->body_size, hash);
    return secret_equal(hash, claims->body_sha256, sizeof hash);
}

enum err peer_claims_judge(const struct peer_claims *claims, const struct peer_expected *expected,
                           struct diag *diag)
{
    const char *wrong = NULL;

    if (claims->purpose != expected->purpose || claims->answer != expected->answer)
        return diag_set(
            diag, ERR_TOKEN_PURPOSE, "a peer token for %s of \"%s\", not for %s of \"%s\"",
            claims->answer ? "an answer" : "a request", purpose_names[claims->purpose],
            expected->answer ? "an answer" : "a request", purpose_names[expected->purpose]);
    if (!receiver_right(claims, expected))
        wrong = "is for another node";
    else if (expected->nonce && !secret_equal(claims->nonce, expected->nonce, PEER_NONCE_SIZE))
        wrong = "answers another nonce: it is not fresh";
    else if (strcmp(claims->target, expected->target) != 0)
        wrong = "is for another target";
    else if (!body_right(claims, expected))
        wrong = "is for another body: bytes were lost or changed on the way";
    if (wrong)
        return diag_set(diag, ERR_TOKEN_INVALID, "the peer token %s", wrong);
    return expected->now_ms < 0 ? ERR_OK
                                : claims_check_time(expected->now_ms, claims->expires_ms, diag);
}
