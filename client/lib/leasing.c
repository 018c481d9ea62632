/* What is done with leases: drawn, asked for, renewed, given back. */
#include "leasing.h"

#include <stdio.h>
#include <string.h>

#include "options.h"
#include "token/publisher.h"

#define RESUME_TRIES 8 /* recorded leases that prove to be over before a new one is drawn */
#define PATH_SIZE    (sizeof "/v1/leases/" + UUID_TEXT_SIZE)

/* ---- acquire ----------------------------------------------------------------------------- */

struct wish {
    const char *feature;
    struct uuid scope; /* nil: by feature */
    int64_t count, duration_seconds;
    bool another;
};

static enum twinlease_code read_wish(const char *feature,
                                     const struct twinlease_acquire_options *options,
                                     struct wish *out, struct twinlease_error *error)
{
    struct twinlease_acquire_options given = { .size = sizeof given };

    if (options && !options_take(&given, sizeof given, options))
        return fault_set(error, TWINLEASE_USAGE,
                         "the options are not those of this library (%s): initialise them with "
                         "TWINLEASE_ACQUIRE_OPTIONS_INIT",
                         TWINLEASE_VERSION);
    if (!feature || !feature_name_valid(feature))
        return fault_set(error, TWINLEASE_USAGE,
                         "\"%.70s\" is no feature name: 1 to %d letters, digits, '.', '_' and '-', "
                         "beginning with a letter or digit",
                         feature ? feature : "", FEATURE_NAME_MAX);
    if (given.count < 0 || given.count > ENTITLEMENT_SEATS_MAX)
        return fault_set(error, TWINLEASE_USAGE, "the count is %lld; allowed are 1 to %d",
                         (long long)given.count, ENTITLEMENT_SEATS_MAX);
    if (given.duration_seconds < 0 || given.duration_seconds > LEASE_SECONDS_MAX)
        return fault_set(error, TWINLEASE_USAGE, "the duration is %lld s; allowed are 1 to %d",
                         (long long)given.duration_seconds, LEASE_SECONDS_MAX);
    if (given.flags & ~(unsigned)TWINLEASE_ACQUIRE_ANOTHER)
        return fault_set(error, TWINLEASE_USAGE, "flags is 0x%x, and only 0x%x is known",
                         given.flags, (unsigned)TWINLEASE_ACQUIRE_ANOTHER);
    *out = (struct wish){
        .feature = feature,
        .count = given.count ? given.count : 1,
        .duration_seconds = given.duration_seconds,
        .another = given.flags & TWINLEASE_ACQUIRE_ANOTHER,
    };
    if (given.scope_ref && !uuid_parse(given.scope_ref, strlen(given.scope_ref), &out->scope))
        return fault_set(error, TWINLEASE_USAGE, "\"%.40s\" is no scope reference (a UUID)",
                         given.scope_ref);
    return TWINLEASE_OK;
}

static bool fits(const struct twinlease_lease *lease, const struct wish *wish)
{
    return strcmp(lease->feature, wish->feature) == 0 && lease->count == wish->count &&
           uuid_equal(&lease->asked_scope, &wish->scope) && !(lease->granted && wish->another);
}

/* Good ones first, then those that were asked for, then those that seem to be over. */
static int rank(const struct twinlease_lease *lease)
{
    if (!lease->granted)
        return 1;
    return twinlease_lease_expires_in_ms(lease) > 0 ? 0 : 2;
}

/* A recorded lease that fits and that no running program uses, with its claim; NULL: there is none.
 */
static struct twinlease_lease *find_recorded(struct state *state, const struct wish *wish)
{
    size_t count;
    struct twinlease_lease **all = state_leases(state, &count), *found = NULL;

    for (int wanted = 0; wanted < 3 && !found; wanted++) {
        for (size_t i = 0; i < count && !found; i++) {
            if (fits(all[i], wish) && rank(all[i]) == wanted)
                found = state_take(state, &all[i]->lease_ref);
        }
    }
    for (size_t i = 0; i < count; i++)
        twinlease_lease_free(all[i]);
    mem_free(all);
    return found;
}

/* A new reference, on disk before anybody hears of it. */
static enum twinlease_code draw(struct state *state, const struct wish *wish,
                                struct twinlease_lease **out, struct twinlease_error *error)
{
    AUTO(twinlease_lease_free) struct twinlease_lease *lease = lease_new();

    lease->lease_ref = uuid_random();
    memcpy(lease->feature, wish->feature, strlen(wish->feature) + 1);
    lease->asked_scope = wish->scope;
    lease->count = wish->count;
    lease->duration_seconds = wish->duration_seconds;
    lease->drawn_ms = wall_now().ms;
    if (!state_claim(state, lease))
        return fault_set(error, TWINLEASE_ERROR, "a fresh lease reference is in use already");
    enum twinlease_code code = state_lease_store(state, lease, error);
    if (code == TWINLEASE_OK)
        *out = TAKE(lease);
    return code;
}

static void write_request(const struct twinlease_lease *lease, struct buf *out)
{
    char text[UUID_TEXT_SIZE], scope[UUID_TEXT_SIZE];
    bool by_scope = !uuid_is_nil(&lease->asked_scope);

    uuid_format(&lease->lease_ref, text);
    uuid_format(&lease->asked_scope, scope);
    buf_format(out, "{\"lease_request_list\":[{\"%s\":\"%s\",\"count\":%lld",
               by_scope ? "scope_ref" : "feature", by_scope ? scope : lease->feature,
               (long long)lease->count);
    if (lease->duration_seconds)
        buf_format(out, ",\"duration_seconds\":%lld", (long long)lease->duration_seconds);
    buf_format(out, ",\"candidate_lease_ref\":\"%s\"}]}", text);
    must(buf_ok(out));
}

/* The node's word, stored. That the store fails is no reason to fail: what is on disk already, the
 * reference, is enough to find the lease again. */
static enum twinlease_code accept_grant(struct twinlease *handle, const struct reply *reply,
                                        struct lease_facts *facts, struct twinlease_lease *lease,
                                        struct twinlease_error *error)
{
    struct twinlease_error store;

    if (!uuid_equal(&facts->lease_ref, &lease->lease_ref) || facts->count != lease->count ||
        strcmp(facts->feature, lease->feature) != 0)
        return fault_set(error, TWINLEASE_BAD_ANSWER,
                         "%s answers with another lease than the one it was asked for",
                         reply->answer.from);
    lease_grant(lease, facts, reply->asked);
    if (state_lease_store(handle->state, lease, &store) != TWINLEASE_OK)
        state_warn(handle->state, "%s", store.message);
    return TWINLEASE_OK;
}

static enum twinlease_code request_lease(struct twinlease *handle, struct twinlease_lease *lease,
                                         const struct cancel *cancel, struct twinlease_error *error)
{
    AUTO(buf_fini) struct buf body;
    AUTO(reply_fini) struct reply reply = { .json = NULL };
    struct lease_facts *facts = NULL;
    size_t count = 0;

    buf_init(&body, 1024);
    write_request(lease, &body);
    const struct call call = { "POST", "/v1/leases", body.bytes, .may_enrol = true,
                               .cancel = cancel };
    enum twinlease_code code = session_call(handle->session, &call, &reply, error);
    if (code == TWINLEASE_OK)
        code =
            answer_leases(&reply.answer, reply.json, "lease_result_list", 1, &facts, &count, error);
    if (code != TWINLEASE_OK)
        return code;
    if (count == 1)
        code = accept_grant(handle, &reply, &facts[0], lease, error);
    else
        code =
            fault_set(error, TWINLEASE_BAD_ANSWER, "%s answers without a lease", reply.answer.from);
    for (size_t i = 0; i < count; i++)
        lease_facts_fini(&facts[i]);
    mem_free(facts);
    return code;
}

/* The reference is of no use any more: it ended, or the node knows it as something else. */
static bool reference_is_spent(const struct twinlease_error *error)
{
    return error->code == TWINLEASE_LEASE_LOST || strcmp(error->problem, "lease_mismatch") == 0;
}

/* The node has decided, and nothing was granted. Whatever else went wrong, it may have been. */
static bool nothing_granted(const struct twinlease_error *error)
{
    return error->code == TWINLEASE_NO_SEAT || error->code == TWINLEASE_REFUSED;
}

static enum twinlease_code try_lease(struct twinlease *handle, struct twinlease_lease *lease,
                                     const struct cancel *cancel, struct twinlease_error *error)
{
    if (!lease->granted)
        return request_lease(handle, lease, cancel, error);
    enum twinlease_code code = leasing_renew(handle, lease, cancel, error);
    lease->resumed = code == TWINLEASE_OK;
    return code;
}

enum twinlease_code leasing_acquire(struct twinlease *handle, const char *feature,
                                    const struct twinlease_acquire_options *options,
                                    const struct cancel *cancel, struct twinlease_lease **out,
                                    struct twinlease_error *error)
{
    struct twinlease_error spare;
    struct wish wish;

    error = error_or(error, &spare);
    enum twinlease_code code = read_wish(feature, options, &wish, error);
    for (int tries = 0; code == TWINLEASE_OK; tries++) {
        AUTO(twinlease_lease_free)
        struct twinlease_lease *lease =
            tries < RESUME_TRIES ? find_recorded(handle->state, &wish) : NULL;
        bool recorded = lease != NULL;
        if (!recorded && (code = draw(handle->state, &wish, &lease, error)) != TWINLEASE_OK)
            return code;
        if ((code = try_lease(handle, lease, cancel, error)) == TWINLEASE_OK) {
            fault_clear(error);
            *out = TAKE(lease);
            return TWINLEASE_OK;
        }
        if (nothing_granted(error) || reference_is_spent(error))
            state_lease_remove(handle->state, &lease->lease_ref);
        if (recorded && reference_is_spent(error))
            code = TWINLEASE_OK; /* the next one */
    }
    return code;
}

/* ---- renew, release ---------------------------------------------------------------------- */

/* A call about one lease. Where this machine has become another origin meanwhile, its old leases
 * have gone with the old one. */
static enum twinlease_code call_for(struct twinlease *handle, const struct call *call,
                                    struct reply *reply, struct twinlease_error *error)
{
    enum twinlease_code code = session_call(handle->session, call, reply, error);

    if (code != TWINLEASE_REFUSED || strcmp(error->problem, "lease_mismatch") != 0)
        return code;
    error->code = TWINLEASE_LEASE_LOST;
    return error->code;
}

static void lease_call(const struct twinlease_lease *lease, const char *method,
                       const struct cancel *cancel, char path[PATH_SIZE], struct buf *body,
                       struct call *out)
{
    AUTO(json_object_put) struct json_object *token = json_object_new_string(lease->token);

    snprintf(path, PATH_SIZE, "/v1/leases/%s", lease->lease_text);
    buf_init(body, 6 * JWS_MAX + 64); /* escaped, whatever stood in the state folder */
    buf_format(body, "{\"lease_token\":%s}",
               json_object_to_json_string_ext(token, JSON_C_TO_STRING_NOSLASHESCAPE));
    must(buf_ok(body));
    *out = (struct call){ .method = method, .path = path, .body = body->bytes, .cancel = cancel };
}

enum twinlease_code leasing_renew(struct twinlease *handle, struct twinlease_lease *lease,
                                  const struct cancel *cancel, struct twinlease_error *error)
{
    AUTO(reply_fini) struct reply reply = { .json = NULL };
    AUTO(lease_facts_fini) struct lease_facts facts = { .count = 0 };
    AUTO(buf_fini) struct buf body;
    struct twinlease_error spare;
    char path[PATH_SIZE];
    struct call call;

    error = error_or(error, &spare);
    lease_call(lease, "PUT", cancel, path, &body, &call);
    enum twinlease_code code = call_for(handle, &call, &reply, error);
    if (code == TWINLEASE_OK)
        code = answer_lease(&reply.answer, reply.json, &facts, error);
    if (code == TWINLEASE_OK)
        code = accept_grant(handle, &reply, &facts, lease, error);
    if (code == TWINLEASE_OK)
        fault_clear(error);
    if (code == TWINLEASE_LEASE_LOST) {
        lease_end(lease);
        state_lease_remove(handle->state, &lease->lease_ref);
    }
    return code;
}

enum twinlease_code leasing_release(struct twinlease *handle, struct twinlease_lease *lease,
                                    const struct cancel *cancel, struct twinlease_error *error)
{
    AUTO(reply_fini) struct reply reply = { .json = NULL };
    AUTO(buf_fini) struct buf body;
    struct twinlease_error spare;
    char path[PATH_SIZE];
    struct call call;

    error = error_or(error, &spare);
    lease_call(lease, "DELETE", cancel, path, &body, &call);
    enum twinlease_code code = call_for(handle, &call, &reply, error);
    if (code != TWINLEASE_OK && code != TWINLEASE_LEASE_LOST)
        return code;
    fault_clear(error);
    lease_end(lease);
    state_lease_remove(handle->state, &lease->lease_ref);
    return TWINLEASE_OK;
}

/* ---- the public functions ---------------------------------------------------------------- */

enum twinlease_code twinlease_acquire(struct twinlease *handle, const char *feature,
                                      const struct twinlease_acquire_options *options,
                                      struct twinlease_lease **out, struct twinlease_error *error)
{
    return leasing_acquire(handle, feature, options, &handle->cancel, out, error);
}

enum twinlease_code twinlease_renew(struct twinlease *handle, struct twinlease_lease *lease,
                                    struct twinlease_error *error)
{
    return leasing_renew(handle, lease, &handle->cancel, error);
}

enum twinlease_code twinlease_release(struct twinlease *handle, struct twinlease_lease *lease,
                                      struct twinlease_error *error)
{
    return leasing_release(handle, lease, &handle->cancel, error);
}
