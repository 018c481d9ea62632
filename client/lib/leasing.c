/* What is done with leases that were granted: renewed, given back. */
#include "leasing.h"

#include <stdio.h>

#define PATH_SIZE (sizeof "/v1/leases/" + UUID_TEXT_SIZE)

enum twinlease_code leasing_accept(struct twinlease *handle, const struct reply *reply,
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

/* With its token, if it has one, so that a node that has not heard of it can act as well. */
static void lease_call(const struct twinlease_lease *lease, const char *method,
                       const struct effort *effort, char path[PATH_SIZE], struct buf *body,
                       struct call *out)
{
    char lease_ref[UUID_TEXT_SIZE];

    uuid_format(&lease->lease_ref, lease_ref);
    snprintf(path, PATH_SIZE, "/v1/leases/%s", lease_ref);
    *out = (struct call){ .method = method, .path = path, .effort = *effort };
    buf_init(body, 6 * JWS_MAX + 64); /* escaped, whatever stood in the state folder */
    if (!lease->token)
        return;
    AUTO(json_object_put) struct json_object *token = json_object_new_string(lease->token);
    buf_format(body, "{\"lease_token\":%s}",
               json_object_to_json_string_ext(token, JSON_C_TO_STRING_NOSLASHESCAPE));
    must(buf_ok(body));
    out->body = body->bytes;
}

enum twinlease_code leasing_renew_with(struct twinlease *handle, struct twinlease_lease *lease,
                                       const struct effort *effort, struct twinlease_error *error)
{
    AUTO(reply_fini) struct reply reply = { .json = NULL };
    AUTO(lease_facts_fini) struct lease_facts facts = { .count = 0 };
    AUTO(buf_fini) struct buf body;
    char path[PATH_SIZE];
    struct call call;

    lease_call(lease, "PUT", effort, path, &body, &call);
    enum twinlease_code code = call_for(handle, &call, &reply, error);
    if (code == TWINLEASE_OK)
        code = answer_lease(&reply.answer, reply.json, &facts, error);
    if (code == TWINLEASE_OK)
        code = leasing_accept(handle, &reply, &facts, lease, error);
    if (code == TWINLEASE_OK)
        fault_clear(error);
    if (code == TWINLEASE_LEASE_LOST) {
        lease_end(lease);
        state_lease_remove(handle->state, &lease->lease_ref);
    }
    return code;
}

enum twinlease_code leasing_renew(struct twinlease *handle, struct twinlease_lease *lease,
                                  const struct cancel *cancel, struct twinlease_error *error)
{
    const struct effort effort = { .cancel = cancel };
    struct twinlease_error spare;

    return leasing_renew_with(handle, lease, &effort, error_or(error, &spare));
}

static enum twinlease_code end_lease(struct twinlease *handle, struct twinlease_lease *lease,
                                     const struct effort *effort, struct twinlease_error *error)
{
    AUTO(reply_fini) struct reply reply = { .json = NULL };
    AUTO(buf_fini) struct buf body;
    char path[PATH_SIZE];
    struct call call;

    lease_call(lease, "DELETE", effort, path, &body, &call);
    return call_for(handle, &call, &reply, error);
}

static void forget(struct twinlease *handle, struct twinlease_lease *lease)
{
    lease_end(lease);
    state_lease_remove(handle->state, &lease->lease_ref);
}

enum twinlease_code leasing_release(struct twinlease *handle, struct twinlease_lease *lease,
                                    const struct cancel *cancel, struct twinlease_error *error)
{
    const struct effort effort = { .cancel = cancel };
    struct twinlease_error spare;

    error = error_or(error, &spare);
    enum twinlease_code code = end_lease(handle, lease, &effort, error);
    if (code != TWINLEASE_OK && code != TWINLEASE_LEASE_LOST)
        return code;
    fault_clear(error);
    forget(handle, lease);
    return TWINLEASE_OK;
}

void leasing_withdraw(struct twinlease *handle, struct twinlease_lease *lease, int64_t within_ms)
{
    const struct effort effort = { .deadline_ms = within_ms };
    struct twinlease_error ignored;
    enum twinlease_code code = end_lease(handle, lease, &effort, &ignored);

    if (code == TWINLEASE_OK || (code == TWINLEASE_LEASE_LOST && lease->granted))
        forget(handle, lease);
}

/* ---- the public functions ---------------------------------------------------------------- */

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
