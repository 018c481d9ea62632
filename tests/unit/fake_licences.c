#include "fake_licences.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "token/instance.h"

#define DAY_MS 86400000

void fake_licences_init(struct fake_licences *l)
{
    *l = (struct fake_licences){ .lease_lives = 3600 };
    must(pthread_mutex_init(&l->lock, NULL) == 0);
}

void fake_licences_refuse(struct fake_licences *l, const char *path, int times, int status,
                          const char *problem)
{
    must(pthread_mutex_lock(&l->lock) == 0);
    l->path = path;
    l->times = times;
    l->trick = FAKE_ANSWER;
    l->status = status;
    l->problem = problem;
    must(pthread_mutex_unlock(&l->lock) == 0);
}

/* The text behind "name":" up to the next quotation mark. */
static void find_text(const char *body, const char *name, char *out, size_t size)
{
    char pattern[64];

    *out = '\0';
    snprintf(pattern, sizeof pattern, "\"%s\":\"", name);
    const char *at = strstr(body, pattern);
    if (at) {
        at += strlen(pattern);
        snprintf(out, size, "%.*s", (int)strcspn(at, "\""), at);
    }
}

static void append_lease(const struct fake_licences *l, const char *lease_ref, const char *count,
                         struct buf *out)
{
    char created[RFC3339_SIZE], expires[RFC3339_SIZE];
    int64_t now_ms = wall_now().ms;

    rfc3339_format(now_ms, created);
    rfc3339_format(now_ms + (int64_t)(l->lease_lives * 1000), expires);
    buf_format(out,
               "{\"lease_ref\":\"%s\",\"origin_ref\":\"10000000-0000-4000-8000-0000000000aa\","
               "\"scope_ref\":\"10000000-0000-4000-8000-0000000000bb\",\"feature\":\"render\","
               "\"count\":%s,\"created\":\"%s\",\"expires\":\"%s\",\"expires_in\":%.3f,"
               "\"renew_after\":%.3f,\"home\":\"10000000-0000-4000-8000-0000000000cc\","
               "\"lease_token\":\"token-of-%s\",\"entitlement\":\"an.entitlement.text\"}",
               lease_ref, count, created, expires, l->lease_lives,
               l->renew_after > 0 ? l->renew_after : l->lease_lives / 4, lease_ref);
}

static void append_sync(const struct fake_licences *l, struct buf *out)
{
    char now[RFC3339_SIZE];

    rfc3339_format(wall_now().ms + l->clock_ahead_ms, now);
    buf_format(out, ",\"sync_timestamp\":\"%s\"}", now);
}

static void append_ticket(const struct fake_licences *l, const char *member, int number,
                          struct buf *out)
{
    char expires[RFC3339_SIZE];
    int64_t lives_ms = l->token_lives_ms ? l->token_lives_ms : DAY_MS;

    rfc3339_format(wall_now().ms + l->clock_ahead_ms + lives_ms, expires);
    buf_format(out, "{\"%s\":\"%s-%d\",\"expires\":\"%s\"", member, member, number, expires);
    append_sync(l, out);
}

static void answer_origin(struct fake_licences *l, const char *body, struct buf *out)
{
    char ref[64];

    find_text(body, "candidate_origin_ref", ref, sizeof ref);
    buf_format(out, "{\"origin_ref\":\"%s\",\"origin_secret\":\"secret-%d\",\"environment\":{}",
               ref, ++l->enrols);
    append_sync(l, out);
}

static void answer_grant(struct fake_licences *l, const char *body, struct buf *out)
{
    char ref[64];
    const char *count = strstr(body, "\"count\":");

    find_text(body, "candidate_lease_ref", ref, sizeof ref);
    snprintf(l->last_lease, sizeof l->last_lease, "%.36s", ref);
    for (size_t i = 0; i < l->seen_count; i++) {
        if (strcmp(l->seen[i], l->last_lease) == 0)
            l->grants--; /* the same lease again */
    }
    l->grants++;
    must(l->seen_count < FAKE_GRANTS_MAX);
    memcpy(l->seen[l->seen_count++], l->last_lease, sizeof l->last_lease);
    buf_text_append(out, "{\"lease_result_list\":[");
    append_lease(l, ref, count && count[8] > '1' ? "2" : "1", out);
    buf_text_append(out, "]");
    append_sync(l, out);
}

static void answer_list(struct fake_licences *l, struct buf *out)
{
    l->lists++;
    buf_text_append(out, "{\"active_lease_list\":[");
    for (size_t i = 0; i < l->seen_count; i++) {
        buf_text_append(out, i ? "," : "");
        append_lease(l, l->seen[i], "1", out);
    }
    buf_text_append(out, "]");
    append_sync(l, out);
}

/* Returns the status. */
static int answer_path(struct fake_licences *l, const struct fake_request *request, struct buf *out)
{
    if (strcmp(request->path, "/v1/origins") == 0) {
        answer_origin(l, request->body, out);
        return 201;
    }
    if (strcmp(request->path, "/v1/auth/code") == 0)
        append_ticket(l, "auth_code", ++l->codes, out);
    else if (strcmp(request->path, "/v1/auth/token") == 0)
        append_ticket(l, "auth_token", ++l->tokens, out);
    else if (strcmp(request->path, "/v1/leases") == 0 && strcmp(request->method, "POST") == 0)
        answer_grant(l, request->body, out);
    else if (strcmp(request->path, "/v1/leases") == 0)
        answer_list(l, out);
    else if (strcmp(request->method, "PUT") == 0 && ++l->renewals)
        append_lease(l, request->path + strlen("/v1/leases/"), "1", out);
    else if (strcmp(request->method, "DELETE") == 0 && ++l->releases)
        return 204;
    else if (++l->others)
        buf_text_append(out, "{\"status\":\"ready\"}");
    return 200;
}

static void append_denial(const struct fake_licences *l, struct buf *out)
{
    char next[RFC3339_SIZE];

    rfc3339_format(wall_now().ms + l->clock_ahead_ms + l->next_seat_ms, next);
    buf_format(out,
               "{\"title\":\"Every seat is leased\",\"code\":\"no_free_seat\","
               "\"feature\":\"render\",\"seats\":1,\"used\":1,\"next_expected\":\"%s\"}",
               next);
}

static void answer_otherwise(struct fake_licences *l, struct fake_answer *answer)
{
    struct buf body;

    l->times--;
    buf_init(&body, 4 << 20);
    if (l->next_seat_ms)
        append_denial(l, &body);
    else if (l->problem)
        buf_format(&body,
                   "{\"type\":\"about:blank\",\"title\":\"Refused by a "
                   "test\",\"status\":%d,\"code\":\"%s\"}",
                   l->status, l->problem);
    else
        buf_text_append(&body, l->body ? l->body : "");
    answer->trick = l->trick;
    answer->status = l->status;
    answer->content_type = l->problem ? "application/problem+json" : l->content_type;
    answer->body = buf_take(&body);
    answer->retry_after = l->retry_after;
}

void fake_licences_answer(void *context, const struct fake_request *request,
                          struct fake_answer *answer)
{
    struct fake_licences *l = context;
    struct buf body;

    must(pthread_mutex_lock(&l->lock) == 0);
    answer->keep_alive = l->keep_alive;
    snprintf(l->last_bearer, sizeof l->last_bearer, "%.63s", request->bearer);
    snprintf(l->last_path, sizeof l->last_path, "%.255s", request->path);
    snprintf(l->last_body, sizeof l->last_body, "%s", request->body);
    if (l->times && strncmp(request->path, l->path, strlen(l->path)) == 0) {
        answer_otherwise(l, answer);
    } else {
        buf_init(&body, 1 << 20);
        answer->status = answer_path(l, request, &body);
        answer->content_type = "application/json";
        answer->body = buf_take(&body);
    }
    must(pthread_mutex_unlock(&l->lock) == 0);
}

static char *sign_tok(const struct instance *instance, const struct uuid *instance_ref,
                      const char *const *urls, size_t url_count, const char *ca_pem,
                      int64_t begins_ms, int64_t expires_ms)
{
    const struct client_token token = {
        .instance_ref = *instance_ref,
        .token_ref = uuid_random(),
        .site_key_xid = uuid_random(),
        .allotment_ref = uuid_random(),
        .node_urls = urls,
        .node_url_count = url_count,
        .ca_pem = ca_pem,
        .issued_ms = begins_ms,
        .expires_ms = expires_ms,
    };
    struct buf text;

    buf_init(&text, JWS_MAX);
    must(client_token_sign(instance, &token, &text) == ERR_OK);
    return buf_take(&text);
}

static const struct uuid our_ref = { { 1 } };

char *fake_tok_make(const char *const *urls, size_t url_count, const char *ca_pem,
                    int64_t begins_ms, int64_t expires_ms)
{
    static struct instance *instance; /* one for all, until the process ends */

    if (!instance)
        instance = instance_new(&our_ref, key_generate(KEY_EC_P256));
    return sign_tok(instance, &our_ref, urls, url_count, ca_pem, begins_ms, expires_ms);
}

char *fake_tok_make_foreign(const char *url, bool same_ref)
{
    const struct uuid ref = same_ref ? our_ref : (struct uuid){ { 2 } };
    struct instance *instance = instance_new(&ref, key_generate(KEY_EC_P256));
    int64_t now_ms = wall_now().ms;
    char *tok = sign_tok(instance, &ref, &url, 1, NULL, now_ms, now_ms + DAY_MS);

    instance_free(instance);
    return tok;
}
