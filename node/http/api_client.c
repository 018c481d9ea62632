/* The client API (design §5): enrolment, auth code, auth token. Leases are in api_lease.c. */
#include "http/client_body.h"
#include "http/handlers.h"
#include "http/reply.h"

#define ANSWER_MAX (64u << 10)

/* The common end of an answer. */
static void sync_append(struct buf *json, int64_t now_ms)
{
    char now[RFC3339_SIZE];

    rfc3339_format(now_ms, now);
    buf_format(json, ",\"sync_timestamp\":\"%s\"}", now);
}

/* ---- POST /v1/origins ----------------------------------------------------------------------- */

static enum err enrolled(struct request *r)
{
    const struct ledger_result *result = &r->command.result;
    const char *environment = r->command.event.enrol.environment;
    char ref[UUID_TEXT_SIZE], secret[ORIGIN_SECRET_SIZE];
    struct buf json;

    uuid_format(&result->origin.origin_ref, ref);
    origin_secret_make(r->services->instance, &result->origin.origin_ref, result->origin.generation,
                       secret);
    buf_init(&json, ANSWER_MAX);
    buf_format(&json, "{\"origin_ref\":\"%s\",\"origin_secret\":\"%s\",\"environment\":%s", ref,
               secret, environment ? environment : "{}");
    sync_append(&json, result->now_ms);
    explicit_bzero(secret, sizeof secret);
    reply_json(r, result->created ? 201 : 200, &json);
    return ERR_OK;
}

enum err client_enrol(struct request *r)
{
    struct ledger_event *event = &r->command.event;
    struct enrol_body body;

    enum err e = enrol_body_read(r->body, &body, &r->diag);
    if (e != ERR_OK)
        return e;
    if (body.environment)
        request_defer(r, mem_free, body.environment);
    event->kind = LEDGER_ENROL;
    event->enrol.origin_ref = body.has_origin_ref ? body.origin_ref : uuid_random();
    event->enrol.environment = body.environment;
    if (body.origin_secret) {
        e = origin_secret_check(r->services->instance, &body.origin_ref, body.origin_secret,
                                &event->enrol.generation);
        if (e != ERR_OK)
            return diag_set(&r->diag, e, "origin_secret is not that of candidate_origin_ref");
        event->enrol.proven = true;
    }
    return request_submit(r, enrolled);
}

/* ---- POST /v1/auth/code --------------------------------------------------------------------- */

static enum err proven(struct request *r)
{
    struct code_body *body = r->state;
    const struct ledger_result *result = &r->command.result;
    const struct auth_claims origin = { .origin_ref = body->origin_ref,
                                        .generation = r->command.event.prove.origin.generation };
    int64_t now_ms = request_now_ms(r);
    char expires[RFC3339_SIZE];
    struct buf json;

    buf_init(&json, ANSWER_MAX);
    buf_text_append(&json, "{\"auth_code\":\"");
    enum err e = auth_code_make(r->services->instance, r->services->auth_codes, &origin,
                                body->code_challenge, now_ms, &json, &r->diag);
    if (e != ERR_OK) {
        buf_fini(&json);
        return e;
    }
    rfc3339_format(now_ms + AUTH_CODE_SECONDS * 1000, expires);
    buf_format(&json, "\",\"expires\":\"%s\"", expires);
    sync_append(&json, result->now_ms);
    reply_json(r, 200, &json);
    return ERR_OK;
}

enum err client_code(struct request *r)
{
    struct ledger_event *event = &r->command.event;
    struct code_body *body = r->state = request_alloc(r, sizeof *body);

    enum err e = code_body_read(r->body, body, &r->diag);
    if (e != ERR_OK)
        return e;
    event->kind = LEDGER_PROVE;
    event->prove.origin.origin_ref = body->origin_ref;
    e = origin_secret_check(r->services->instance, &body->origin_ref, body->origin_secret,
                            &event->prove.origin.generation);
    if (e != ERR_OK)
        return diag_set(&r->diag, e, "origin_secret is not that of origin_ref");
    return request_submit(r, proven);
}

/* ---- POST /v1/auth/token -------------------------------------------------------------------- */

enum err client_token(struct request *r)
{
    int64_t now_ms = request_now_ms(r);
    struct auth_claims claims;
    struct token_body body;
    char expires[RFC3339_SIZE];
    struct buf json;
    enum err e;

    if ((e = token_body_read(r->body, &body, &r->diag)) != ERR_OK)
        return e;
    e = auth_code_redeem(r->services->instance, r->services->auth_codes, body.auth_code,
                         strlen(body.auth_code), body.code_verifier, now_ms, &claims, &r->diag);
    if (e != ERR_OK)
        return e;
    claims.issued_ms = now_ms / 1000 * 1000;
    claims.expires_ms =
        claims.issued_ms + r->services->config->token_expire_days.value * 86400 * 1000;
    rfc3339_format(claims.expires_ms, expires);
    buf_init(&json, ANSWER_MAX);
    buf_text_append(&json, "{\"auth_token\":\"");
    auth_token_make(r->services->instance, &claims, &json);
    buf_format(&json, "\",\"expires\":\"%s\"", expires);
    sync_append(&json, now_ms);
    reply_json(r, 200, &json);
    return ERR_OK;
}

/* ---- GET /.well-known/jwks.json ------------------------------------------------------------- */

enum err client_jwks(struct request *r)
{
    const char *jwks = instance_jwks(r->services->instance);

    reply_static(r, 200, "application/jwk-set+json", jwks, strlen(jwks)); /* RFC 7517 §8.5.2 */
    return ERR_OK;
}
