/* The client API's leases (design §5).
 *
 * Lease tokens are signed here, on the event loop, from a committed result and its receipt (R13). A
 * list may have many leases and RSA is slow, so long answers are written in slices, a few leases in
 * each turn of the loop. */
#include <inttypes.h>

#include "http/client_body.h"
#include "http/handlers.h"
#include "http/reply.h"

#define LEASES_A_TURN 16

/* An answer that is being written. */
struct lease_answer {
    struct buf json;
    size_t written; /* leases */
    int status;
    const char *list; /* name of the member; NULL: one lease alone */
};

static void answer_fini(void *arg)
{
    struct lease_answer *answer = arg;

    buf_fini(&answer->json);
}

/* ---- one lease ------------------------------------------------------------------------------ */

static enum err token_append(const struct request *r, const struct lease_view *lease,
                             struct buf *json)
{
    const struct lease_row *row = &lease->row;
    struct lease_claims claims = { .instance_ref = *instance_ref(r->services->instance),
                                   .origin_ref = row->origin_ref,
                                   .lease_ref = row->lease_ref,
                                   .scope_ref = row->scope_ref,
                                   .home = row->home,
                                   .count = row->count,
                                   .issued_ms = r->command.result.now_ms,
                                   .created_ms = row->created_ms,
                                   .duration_ms = row->duration_ms,
                                   .expires_ms = row->expires_ms,
                                   .generation = row->generation,
                                   .adopt = !uuid_is_nil(&lease->adopter),
                                   .peer = lease->adopter };

    snprintf(claims.feature, sizeof claims.feature, "%s", lease->feature);
    memcpy(claims.entitlement_sha256, lease->entitlement->sha256, sizeof claims.entitlement_sha256);
    return lease_token_sign(r->services->instance, &claims, &r->command.receipt, json);
}

/* What is left of a lease when the answer goes out. It was decided after it was submitted, so time
 * since then is taken off: a client that counts from receipt must never count too far. */
static int64_t left_ms(const struct request *r, const struct lease_row *row)
{
    int64_t waited_ms = boot_now().ms - r->submitted.ms;
    int64_t left = row->expires_ms - r->command.result.now_ms - waited_ms;

    return left > 0 ? left : 0;
}

static enum err lease_append(const struct request *r, const struct lease_view *lease,
                             struct buf *json)
{
    const struct lease_row *row = &lease->row;
    char ref[UUID_TEXT_SIZE], origin[UUID_TEXT_SIZE], scope[UUID_TEXT_SIZE], home[UUID_TEXT_SIZE];
    char created[RFC3339_SIZE], expires[RFC3339_SIZE];
    int64_t left = left_ms(r, row);
    int64_t renew = (int64_t)((double)left * r->services->config->lease_renewal_period);

    uuid_format(&row->lease_ref, ref);
    uuid_format(&row->origin_ref, origin);
    uuid_format(&row->scope_ref, scope);
    uuid_format(&row->home, home);
    rfc3339_format(row->created_ms, created);
    rfc3339_format(row->expires_ms, expires);
    buf_format(json,
               "{\"lease_ref\":\"%s\",\"origin_ref\":\"%s\",\"scope_ref\":\"%s\","
               "\"feature\":\"%s\",\"count\":%" PRId64 ",\"created\":\"%s\",\"expires\":\"%s\","
               "\"expires_in\":%" PRId64 ".%03d,\"renew_after\":%" PRId64 ".%03d,\"home\":\"%s\","
               "\"lease_token\":\"",
               ref, origin, scope, lease->feature, row->count, created, expires, left / 1000,
               (int)(left % 1000), renew / 1000, (int)(renew % 1000), home);
    enum err e = token_append(r, lease, json);
    buf_format(json, "\",\"entitlement\":\"%s\"}", lease->entitlement->text);
    return e;
}

/* ---- answers of leases ---------------------------------------------------------------------- */

static void answer_end(struct request *r, struct lease_answer *answer)
{
    char now[RFC3339_SIZE];

    if (answer->list) {
        rfc3339_format(r->command.result.now_ms, now);
        buf_format(&answer->json, "],\"sync_timestamp\":\"%s\"}", now);
    }
    reply_json(r, answer->status, &answer->json);
}

static enum err answer_slice(struct request *r)
{
    struct lease_answer *answer = r->state;
    const struct ledger_result *result = &r->command.result;
    size_t end = answer->written + LEASES_A_TURN;

    for (; answer->written < result->lease_count && answer->written < end; answer->written++) {
        if (answer->written > 0)
            buf_text_append(&answer->json, ",");
        enum err e = lease_append(r, &result->leases[answer->written], &answer->json);
        if (e != ERR_OK)
            return diag_set(&r->diag, ERR_INTERNAL, "the lease token could not be signed");
    }
    if (!buf_ok(&answer->json))
        return diag_set(&r->diag, ERR_INTERNAL, "the answer is larger than %u bytes", REPLY_MAX);
    if (answer->written < result->lease_count)
        return request_again(r, answer_slice);
    answer_end(r, answer);
    return ERR_OK;
}

/* Answers with the leases of the result, as a list of that name or one alone. */
static enum err answer_leases(struct request *r, int status, const char *list)
{
    struct lease_answer *answer = r->state = request_alloc(r, sizeof *answer);

    *answer = (struct lease_answer){ .status = status, .list = list };
    buf_init(&answer->json, REPLY_MAX);
    request_defer(r, answer_fini, answer);
    buf_reserve(&answer->json, 4096); /* as most answers need */
    if (list)
        buf_format(&answer->json, "{\"%s\":[", list);
    return answer_slice(r);
}

/* ---- POST, GET, DELETE /v1/leases ----------------------------------------------------------- */

static enum err granted(struct request *r)
{
    return answer_leases(r, r->command.result.created ? 201 : 200, "lease_result_list");
}

enum err client_grant(struct request *r)
{
    struct ledger_event *event = &r->command.event;
    struct grant_item *items = NULL;

    enum err e = grant_body_read(r->body, &items, &event->grant.item_count, &r->diag);
    if (e != ERR_OK)
        return e;
    request_defer(r, mem_free, items);
    event->kind = LEDGER_GRANT;
    event->grant.origin = request_origin(r);
    event->grant.items = items;
    return request_submit(r, granted);
}

static enum err listed(struct request *r)
{
    return answer_leases(r, 200, "active_lease_list");
}

enum err client_list(struct request *r)
{
    r->command.event.kind = LEDGER_LIST;
    r->command.event.list.origin = request_origin(r);
    return request_submit(r, listed);
}

static enum err all_released(struct request *r)
{
    const struct ledger_result *result = &r->command.result;
    char text[UUID_TEXT_SIZE], now[RFC3339_SIZE];
    struct buf json;

    buf_init(&json, REPLY_MAX);
    buf_text_append(&json, "{\"released_lease_list\":[");
    for (int64_t i = 0; i < result->affected; i++) {
        uuid_format(&result->released[i], text);
        buf_format(&json, "%s\"%s\"", i ? "," : "", text);
    }
    rfc3339_format(result->now_ms, now);
    buf_format(&json, "],\"sync_timestamp\":\"%s\"}", now);
    reply_json(r, 200, &json);
    return ERR_OK;
}

enum err client_release_all(struct request *r)
{
    r->command.event.kind = LEDGER_RELEASE_ALL;
    r->command.event.release_all.origin = request_origin(r);
    return request_submit(r, all_released);
}

/* ---- PUT, DELETE /v1/leases/{lease_ref} ----------------------------------------------------- */

/* A lease token in the body becomes evidence (R4); *out is NULL if there is none. */
static enum err evidence_read(struct request *r, const struct uuid *lease_ref,
                              const struct lease_evidence **out)
{
    const char *text = NULL;
    struct lease_claims claims;
    enum err e;

    if ((e = lease_token_body_read(r->body, &text, &r->diag)) != ERR_OK || !text)
        return e;
    e = lease_token_verify(r->services->instance, text, strlen(text), &claims, &r->diag);
    if (e != ERR_OK)
        return e;
    if (!uuid_equal(&claims.lease_ref, lease_ref))
        return diag_set(&r->diag, ERR_LEASE_MISMATCH, "the lease_token is of another lease");
    if (!uuid_equal(&claims.origin_ref, &r->principal.origin.origin_ref))
        return diag_set(&r->diag, ERR_LEASE_MISMATCH, "the lease_token is of another origin");
    struct lease_evidence *evidence = request_alloc(r, sizeof *evidence);
    *evidence = (struct lease_evidence){ .lease_ref = claims.lease_ref,
                                         .home = claims.home,
                                         .origin_ref = claims.origin_ref,
                                         .scope_ref = claims.scope_ref,
                                         .count = claims.count,
                                         .created_ms = claims.created_ms,
                                         .duration_ms = claims.duration_ms,
                                         .expires_ms = claims.expires_ms,
                                         .generation = claims.generation,
                                         .adopt = claims.adopt,
                                         .adopter = claims.peer,
                                         .signer = claims.node,
                                         .seq = claims.seq };
    *out = evidence;
    return ERR_OK;
}

static enum err renewed(struct request *r)
{
    must(r->command.result.lease_count == 1);
    return answer_leases(r, 200, NULL);
}

enum err client_renew(struct request *r)
{
    struct ledger_event *event = &r->command.event;
    enum err e;

    if ((e = request_param_uuid(r, "lease_ref", &event->renew.lease_ref)) != ERR_OK)
        return e;
    if ((e = evidence_read(r, &event->renew.lease_ref, &event->renew.evidence)) != ERR_OK)
        return e;
    event->kind = LEDGER_RENEW;
    event->renew.origin = request_origin(r);
    return request_submit(r, renewed);
}

static enum err released(struct request *r)
{
    reply_empty(r, 204);
    return ERR_OK;
}

enum err client_release(struct request *r)
{
    struct ledger_event *event = &r->command.event;
    enum err e;

    if ((e = request_param_uuid(r, "lease_ref", &event->release.lease_ref)) != ERR_OK)
        return e;
    if ((e = evidence_read(r, &event->release.lease_ref, &event->release.evidence)) != ERR_OK)
        return e;
    event->kind = LEDGER_RELEASE;
    event->release.origin = request_origin(r);
    return request_submit(r, released);
}
