#include "answer.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "instant.h"
#include "token/jws.h"

#define TIMESTAMP_MAX 40

/* ---- problems ---------------------------------------------------------------------------- */

enum {
    LOCAL = 1u << 0,   /* the other node may see things differently: it has its own seats, and may
                          know a lease that this one does not */
    PASSING = 1u << 1, /* the same node may see things differently in a moment */
    UNSURE = 1u << 2   /* the node may have done what was asked for */
};

/* Problem codes whose meaning is not that of their status, or that say more. All other NO_NODE is
 * LOCAL and PASSING. */
static const struct meaning {
    const char *problem;
    enum twinlease_code code;
    unsigned flags;
} meanings[] = {
    { "no_free_seat", TWINLEASE_NO_SEAT, 0 },
    { "seats_at_peer", TWINLEASE_NO_SEAT, LOCAL },
    { "seats_pending", TWINLEASE_NO_SEAT, LOCAL },
    { "lease_ended", TWINLEASE_LEASE_LOST, 0 },
    { "lease_unknown", TWINLEASE_LEASE_LOST, LOCAL },
    { "auth_code_invalid", TWINLEASE_NOT_AUTHORISED, LOCAL | PASSING }, /* asked twice */
    { "origin_exists", TWINLEASE_REFUSED, LOCAL | PASSING },            /* the same */
    { "store_away", TWINLEASE_NO_NODE, LOCAL | PASSING | UNSURE },
    { "outcome_unknown", TWINLEASE_NO_NODE, LOCAL | PASSING | UNSURE },
    { "deadline", TWINLEASE_NO_NODE, LOCAL | PASSING | UNSURE },
    { "internal", TWINLEASE_NO_NODE, LOCAL | UNSURE },
    { "node_retired", TWINLEASE_NO_NODE, LOCAL },
};

static const struct meaning *find_meaning(const char *problem)
{
    for (size_t i = 0; i < ARRAY_SIZE(meanings); i++) {
        if (strcmp(meanings[i].problem, problem) == 0)
            return &meanings[i];
    }
    return NULL;
}

static enum twinlease_code code_of(int status, const char *problem)
{
    const struct meaning *meaning = find_meaning(problem);

    if (meaning)
        return meaning->code;
    if (status == 401 || status == 403)
        return TWINLEASE_NOT_AUTHORISED;
    if (status == 429 || status >= 500)
        return TWINLEASE_NO_NODE;
    return TWINLEASE_REFUSED;
}

bool answer_is_local(const struct twinlease_error *error)
{
    const struct meaning *meaning = find_meaning(error->problem);

    if (meaning)
        return meaning->flags & LOCAL;
    return error->code == TWINLEASE_NO_NODE || error->code == TWINLEASE_BAD_ANSWER ||
           error->code == TWINLEASE_UNTRUSTED;
}

bool answer_is_passing(const struct twinlease_error *error)
{
    const struct meaning *meaning = find_meaning(error->problem);

    return meaning ? meaning->flags & PASSING : error->code == TWINLEASE_NO_NODE;
}

bool answer_is_unsure(const struct twinlease_error *error)
{
    const struct meaning *meaning = find_meaning(error->problem);

    return *error->problem ? meaning && (meaning->flags & UNSURE) : true;
}

/* "application/json; charset=utf-8" is application/json (RFC 9110 §8.3.1). */
static bool media_type_is(const char *content_type, const char *wanted)
{
    size_t length = strcspn(content_type, "; \t");

    return length == strlen(wanted) && strncasecmp(content_type, wanted, length) == 0;
}

static bool read_instant(struct json_reader *r, const char *name, bool required, int64_t *out)
{
    const char *text;

    if (!json_read_string(r, name, required, TIMESTAMP_MAX, &text))
        return false;
    if (instant_parse(text, out))
        return true;
    json_reader_fail(r, ERR_BAD_FIELD, "%s is not an RFC 3339 time", name);
    return false;
}

/* Figures of a denial, and a sentence with them. They only inform, so whatever is wrong with them
 * is passed over, and then the node's own words stand. */
static void read_figures(struct json_object *body, const char *title, struct twinlease_error *error)
{
    const char *feature = "", *next = NULL;
    int64_t seats = -1, used = -1, next_ms = 0;
    struct json_reader r;

    json_reader_init(&r, body, "", NULL);
    json_read_string(&r, "feature", true, FEATURE_NAME_MAX, &feature);
    json_read_int(&r, "seats", true, 0, INT64_MAX, &seats);
    json_read_int(&r, "used", true, 0, INT64_MAX, &used);
    read_instant(&r, "next_expected", false, &next_ms);
    json_read_string(&r, "next_expected", false, TIMESTAMP_MAX, &next);
    if (json_reader_end_open(&r) != ERR_OK)
        return;
    fault_set(error, error->code, "%s: %s has %" PRId64 " seats, %" PRId64 " of them in use%s%s",
              title, feature, seats, used, next ? "; the next is expected back at " : "",
              next ? next : "");
    error->seats = seats;
    error->seats_used = used;
    error->next_seat_ms = next_ms;
}

static enum twinlease_code read_problem(const struct answer *answer, struct json_object *body,
                                        struct twinlease_error *error)
{
    const char *code = "", *title = "", *detail = "";
    struct diag diag = { "" };
    struct json_reader r;

    json_reader_init(&r, body, "", &diag);
    if (json_read_string(&r, "code", true, sizeof error->problem - 1, &code) && !*code)
        json_reader_fail(&r, ERR_BAD_FIELD, "code is empty");
    json_read_string(&r, "title", true, 256, &title);
    json_read_string(&r, "detail", false, sizeof error->message / 2, &detail);
    title = *title ? title : code;
    if (json_reader_end_open(&r) != ERR_OK)
        return fault_set(error, TWINLEASE_BAD_ANSWER,
                         "%s refuses with a document that cannot be read: %s", answer->from,
                         diag.text);
    fault_set(error, code_of(answer->status, code), "%s%s%s%s", title, *detail ? " (" : "", detail,
              *detail ? ")" : "");
    if (error->code == TWINLEASE_NO_SEAT)
        read_figures(body, title, error);
    snprintf(error->problem, sizeof error->problem, "%s", code);
    return error->code;
}

/* No answer of a node: a proxy in front of it may say that it is away; all else is a stranger. */
static enum twinlease_code refuse_stranger(const struct answer *answer,
                                           struct twinlease_error *error)
{
    bool away = answer->status >= 502 && answer->status <= 504;

    return fault_set(error, away ? TWINLEASE_NO_NODE : TWINLEASE_BAD_ANSWER,
                     "%s answers with status %d and content type \"%.60s\", which is not how a "
                     "Twinlease node answers; check the address",
                     answer->from, answer->status, answer->content_type);
}

static enum twinlease_code parse_body(const struct answer *answer, struct json_object **out,
                                      struct twinlease_error *error)
{
    AUTO(json_object_put) struct json_object *body = NULL;
    struct diag diag = { "" };

    if (json_parse(answer->body, answer->length, &body, &diag) != ERR_OK)
        return fault_set(error, TWINLEASE_BAD_ANSWER, "%s answers with what is not JSON: %s",
                         answer->from, diag.text);
    if (!json_object_is_type(body, json_type_object))
        return fault_set(error, TWINLEASE_BAD_ANSWER, "%s answers with JSON that is no object",
                         answer->from);
    *out = TAKE(body);
    return TWINLEASE_OK;
}

static void note_answer(const struct answer *answer, struct twinlease_error *error)
{
    error->http_status = answer->status;
    snprintf(error->request_id, sizeof error->request_id, "%.63s", answer->request_id);
}

enum twinlease_code answer_check(const struct answer *answer, struct twinlease_error *error)
{
    AUTO(json_object_put) struct json_object *body = NULL;
    enum twinlease_code code;

    if (answer->status >= 200 && answer->status <= 299)
        return TWINLEASE_OK;
    if (answer->status < 400 || !media_type_is(answer->content_type, "application/problem+json"))
        code = refuse_stranger(answer, error);
    else if ((code = parse_body(answer, &body, error)) == TWINLEASE_OK)
        code = read_problem(answer, body, error);
    note_answer(answer, error);
    return code;
}

enum twinlease_code answer_read(const struct answer *answer, struct json_object **out,
                                struct twinlease_error *error)
{
    enum twinlease_code code = answer_check(answer, error);

    if (code != TWINLEASE_OK)
        return code;
    if (answer->status == 204) {
        *out = NULL;
        return TWINLEASE_OK;
    }
    if (media_type_is(answer->content_type, "application/json"))
        code = parse_body(answer, out, error);
    else
        code = refuse_stranger(answer, error);
    if (code != TWINLEASE_OK)
        note_answer(answer, error);
    return code;
}

/* ---- values ------------------------------------------------------------------------------ */

/* Ends reading; what is wrong becomes a fault. */
static enum twinlease_code finish(const struct answer *answer, struct json_reader *r,
                                  struct twinlease_error *error)
{
    if (json_reader_end_open(r) == ERR_OK)
        return TWINLEASE_OK;
    fault_set(error, TWINLEASE_BAD_ANSWER, "%s answers with something unexpected: %s", answer->from,
              r->diag->text);
    note_answer(answer, error);
    return error->code;
}

enum twinlease_code answer_origin(const struct answer *answer, struct json_object *body,
                                  struct answer_origin *out, struct twinlease_error *error)
{
    struct answer_origin origin = { .sync_ms = 0 };
    const char *secret = "";
    struct diag diag = { "" };
    struct json_reader r;

    json_reader_init(&r, body, "", &diag);
    json_read_uuid(&r, "origin_ref", true, &origin.origin_ref);
    if (json_read_string(&r, "origin_secret", true, SECRET_MAX, &secret) && !*secret)
        json_reader_fail(&r, ERR_BAD_FIELD, "origin_secret is empty");
    read_instant(&r, "sync_timestamp", false, &origin.sync_ms);
    enum twinlease_code code = finish(answer, &r, error);
    if (code != TWINLEASE_OK)
        return code;
    memcpy(origin.secret, secret, strlen(secret) + 1);
    *out = origin;
    explicit_bzero(origin.secret, sizeof origin.secret);
    return TWINLEASE_OK;
}

/* Text that goes into a header or a body again: visible ASCII, and nothing that needs escaping. */
static bool plain(const char *text)
{
    for (const char *p = text; *p; p++) {
        if (*p <= ' ' || *p > '~' || *p == '"' || *p == '\\')
            return false;
    }
    return *text != '\0';
}

enum twinlease_code answer_ticket(const struct answer *answer, struct json_object *body,
                                  const char *member, struct answer_ticket *out,
                                  struct twinlease_error *error)
{
    const char *text = "";
    int64_t expires_ms = 0, sync_ms = 0;
    struct diag diag = { "" };
    struct json_reader r;

    json_reader_init(&r, body, "", &diag);
    if (json_read_string(&r, member, true, AUTH_TEXT_MAX, &text) && !plain(text))
        json_reader_fail(&r, ERR_BAD_FIELD, "%s is not a token", member);
    read_instant(&r, "expires", true, &expires_ms);
    read_instant(&r, "sync_timestamp", true, &sync_ms);
    enum twinlease_code code = finish(answer, &r, error);
    if (code != TWINLEASE_OK)
        return code;
    *out = (struct answer_ticket){
        .text = mem_strdup(text),
        .lifetime_ms = expires_ms > sync_ms ? expires_ms - sync_ms : 0,
        .sync_ms = sync_ms,
    };
    return TWINLEASE_OK;
}

void lease_facts_fini(struct lease_facts *facts)
{
    mem_free(facts->token);
    mem_free(facts->entitlement);
    *facts = (struct lease_facts){ .count = 0 };
}

static enum twinlease_code read_lease(const struct answer *answer, struct json_object *value,
                                      const char *where, struct lease_facts *out,
                                      struct twinlease_error *error)
{
    const char *feature = "", *token = "", *entitlement = "";
    double expires_in = 0, renew_after = 0;
    struct lease_facts facts = { .count = 0 };
    struct diag diag = { "" };
    struct json_reader r;

    json_reader_init(&r, value, where, &diag);
    json_read_uuid(&r, "lease_ref", true, &facts.lease_ref);
    json_read_uuid(&r, "origin_ref", true, &facts.origin_ref);
    json_read_uuid(&r, "scope_ref", true, &facts.scope_ref);
    json_read_uuid(&r, "home", true, &facts.home);
    json_read_string(&r, "feature", true, FEATURE_NAME_MAX, &feature);
    json_read_int(&r, "count", true, 1, ENTITLEMENT_SEATS_MAX, &facts.count);
    read_instant(&r, "created", true, &facts.created_ms);
    read_instant(&r, "expires", true, &facts.expires_ms);
    json_read_number(&r, "expires_in", true, 0, LEASE_SECONDS_MAX, &expires_in);
    json_read_number(&r, "renew_after", true, 0, LEASE_SECONDS_MAX, &renew_after);
    if (json_read_string(&r, "lease_token", true, JWS_MAX, &token) && !plain(token))
        json_reader_fail(&r, ERR_BAD_FIELD, "lease_token is not a token");
    if (json_read_string(&r, "entitlement", true, ENTITLEMENT_TEXT_MAX, &entitlement) &&
        !plain(entitlement))
        json_reader_fail(&r, ERR_BAD_FIELD, "entitlement is not a token");
    enum twinlease_code code = finish(answer, &r, error);
    if (code != TWINLEASE_OK)
        return code;
    memcpy(facts.feature, feature, strlen(feature) + 1);
    facts.lasts_ms = (int64_t)(expires_in * 1000);
    facts.renew_ms = (int64_t)(renew_after * 1000);
    facts.token = mem_strdup(token);
    facts.entitlement = mem_strdup(entitlement);
    *out = facts;
    return TWINLEASE_OK;
}

enum twinlease_code answer_lease(const struct answer *answer, struct json_object *body,
                                 struct lease_facts *out, struct twinlease_error *error)
{
    return read_lease(answer, body, "", out, error);
}

/* Undoes a half-read list. */
static void free_leases(struct lease_facts *leases, size_t count)
{
    for (size_t i = 0; i < count; i++)
        lease_facts_fini(&leases[i]);
    mem_free(leases);
}

enum twinlease_code answer_leases(const struct answer *answer, struct json_object *body,
                                  const char *member, size_t max, struct lease_facts **out,
                                  size_t *out_count, struct twinlease_error *error)
{
    struct json_object *list = NULL;
    struct diag diag = { "" };
    struct json_reader r;

    json_reader_init(&r, body, "", &diag);
    json_read_array(&r, member, true, max, &list);
    enum twinlease_code code = finish(answer, &r, error);
    if (code != TWINLEASE_OK)
        return code;
    size_t count = json_object_array_length(list);
    struct lease_facts *leases = mem_calloc(count, sizeof *leases);
    for (size_t i = 0; i < count && code == TWINLEASE_OK; i++) {
        char where[64];
        snprintf(where, sizeof where, "%.40s[%zu]", member, i);
        code = read_lease(answer, json_object_array_get_idx(list, i), where, &leases[i], error);
    }
    if (code != TWINLEASE_OK) {
        free_leases(leases, count);
        return code;
    }
    *out = leases;
    *out_count = count;
    return TWINLEASE_OK;
}

int64_t answer_sync_ms(struct json_object *body)
{
    int64_t sync_ms = 0;
    struct json_reader r;

    json_reader_init(&r, body, "", NULL);
    read_instant(&r, "sync_timestamp", false, &sync_ms);
    return sync_ms;
}
