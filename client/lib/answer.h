/* What nodes answer: bytes in, values or a fault out. Pure, so it can be tested and fuzzed alone.
 *
 * Answers are read strictly (size, content type, JSON, types, ranges), but members that nobody
 * asked for are let through: the node may be newer than this library. */
#pragma once

#include <stdint.h>

#include "base/entitlement.h"
#include "base/json.h"
#include "fault.h"

#define ANSWER_MAX        (1u << 20)  /* bytes of one answer */
#define ANSWER_LIST_MAX   (64u << 20) /* of one that lists leases, each with its entitlement */
#define ANSWER_LEASES_MAX 1000        /* active leases of one origin: the node's own limit */
#define SECRET_MAX        256
#define AUTH_TEXT_MAX     8192 /* an auth code, an auth token */

struct answer {
    const char *from; /* URL of the node, for messages */
    int status;
    const char *content_type; /* "" if there was none */
    const char *request_id;
    const char *body;
    size_t length;
};

/* A status of 2xx: the body as a JSON object; NULL with 204. The caller owns *out
 * (json_object_put). Everything else is a fault: a problem document (RFC 9457) by its `code` and
 * status, anything that is neither as BAD_ANSWER. */
enum twinlease_code answer_read(const struct answer *answer, struct json_object **out,
                                struct twinlease_error *error) MUST_USE;

/* As answer_read() for answers that are no JSON (tokens): OK, or the fault. */
enum twinlease_code answer_check(const struct answer *answer,
                                 struct twinlease_error *error) MUST_USE;

/* After such a fault: may another node answer otherwise? */
bool answer_is_local(const struct twinlease_error *error);
/* May the same node answer otherwise in a moment? */
bool answer_is_passing(const struct twinlease_error *error);
/* May the node have done what was asked for? (If it was asked at all.) */
bool answer_is_unsure(const struct twinlease_error *error);

/* POST /v1/origins. secret is NULL if the answer has none: it was known before. */
struct answer_origin {
    struct uuid origin_ref;
    char secret[SECRET_MAX + 1];
    int64_t sync_ms;
};
enum twinlease_code answer_origin(const struct answer *answer, struct json_object *body,
                                  struct answer_origin *out,
                                  struct twinlease_error *error) MUST_USE;

/* POST /v1/auth/code and /v1/auth/token: member is "auth_code" or "auth_token". */
struct answer_ticket {
    char *text;          /* the caller's; clear it after use */
    int64_t lifetime_ms; /* expires - sync_timestamp, at least 0 */
    int64_t sync_ms;
};
enum twinlease_code answer_ticket(const struct answer *answer, struct json_object *body,
                                  const char *member, struct answer_ticket *out,
                                  struct twinlease_error *error) MUST_USE;

/* One lease. */
struct lease_facts {
    struct uuid lease_ref, origin_ref, scope_ref, home;
    char feature[FEATURE_NAME_MAX + 1];
    int64_t count, created_ms, expires_ms;
    int64_t lasts_ms; /* expires_in */
    int64_t renew_ms; /* renew_after, from now */
    char *token;
    char *entitlement;
};
void lease_facts_fini(struct lease_facts *facts); /* takes a zeroed one too */
DEFINE_AUTO_VALUE(struct lease_facts, lease_facts_fini)

/* PUT /v1/leases/{lease_ref}. *out must be zeroed. */
enum twinlease_code answer_lease(const struct answer *answer, struct json_object *body,
                                 struct lease_facts *out, struct twinlease_error *error) MUST_USE;
/* POST and GET /v1/leases: the array `member`, at most `max` of them. *out is a new array. */
enum twinlease_code answer_leases(const struct answer *answer, struct json_object *body,
                                  const char *member, size_t max, struct lease_facts **out,
                                  size_t *out_count, struct twinlease_error *error) MUST_USE;
/* sync_timestamp of any answer; 0 if it has none. */
int64_t answer_sync_ms(struct json_object *body);
