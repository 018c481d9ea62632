/* The public functions, on top of session (the nodes), state (the folder) and lease. */
#include "twinlease.h"

#include <stdio.h>
#include <string.h>

#include "options.h"
#include "session.h"
#include "token/publisher.h"

#define CONNECT_MS   1000
#define ATTEMPT_MS   2000
#define DEADLINE_MS  10000
#define WAIT_MAX_MS  3600000
#define SKEW_MS      300000 /* a token from the future by less is no news */
#define RESUME_TRIES 8      /* recorded leases that prove to be over before a new one is drawn */
#define PATH_SIZE    (sizeof "/v1/leases/" + UUID_TEXT_SIZE)

struct twinlease {
    struct state *state;
    struct session *session;
    char instance_ref[UUID_TEXT_SIZE];
};

struct twinlease_list {
    size_t count;
    struct twinlease_lease *leases[];
};

/* Callers may not care for the reason; inside, it is always there. */
static struct twinlease_error *error_or(struct twinlease_error *error,
                                        struct twinlease_error *spare)
{
    error = error ? error : spare;
    fault_clear(error);
    return error;
}

/* ---- the handle -------------------------------------------------------------------------- */

static enum twinlease_code read_options(const struct twinlease_options *options,
                                        struct twinlease_options *out,
                                        struct twinlease_error *error)
{
    if (options && !options_take(out, sizeof *out, options))
        return fault_set(error, TWINLEASE_USAGE,
                         "the options are not those of this library (%s): initialise them with "
                         "TWINLEASE_OPTIONS_INIT",
                         TWINLEASE_VERSION);
    if (out->flags & ~(unsigned)TWINLEASE_STATE_REQUIRED)
        return fault_set(error, TWINLEASE_USAGE, "flags is 0x%x, and only 0x%x is known",
                         out->flags, (unsigned)TWINLEASE_STATE_REQUIRED);
    out->connect_ms = out->connect_ms ? out->connect_ms : CONNECT_MS;
    out->attempt_ms = out->attempt_ms ? out->attempt_ms : ATTEMPT_MS;
    out->deadline_ms = out->deadline_ms ? out->deadline_ms : DEADLINE_MS;
    if (out->connect_ms > WAIT_MAX_MS || out->attempt_ms > WAIT_MAX_MS ||
        out->deadline_ms > WAIT_MAX_MS)
        return fault_set(error, TWINLEASE_USAGE, "a deadline is over %d ms", WAIT_MAX_MS);
    return TWINLEASE_OK;
}

static enum twinlease_code read_token(const struct twinlease_options *options, struct tok **out,
                                      struct twinlease_error *error)
{
    AUTO(mem_free) char *path = options_token_path(options->token_path);

    if (!path)
        return fault_set(error, TWINLEASE_USAGE,
                         "no client token: name a .tok file or a folder of them, or set "
                         "TWINLEASE_TOK");
    return tok_read(path, options->instance_thumbprint, wall_now().ms, out, error);
}

static enum twinlease_code open_state(const struct twinlease_options *options,
                                      const struct tok *tok, struct state **out,
                                      struct twinlease_error *error)
{
    AUTO(mem_free) char *folder = options_state_dir(options->state_dir);
    bool required = options->flags & TWINLEASE_STATE_REQUIRED;
    const struct state_options state = {
        .folder = folder,
        .thumbprint = tok->signer,
        .jwks = tok->jwks,
        .required = required,
        .warning = options->warning,
        .warning_context = options->warning_context,
    };

    if (required && !*folder)
        return fault_set(error, TWINLEASE_STATE,
                         "no state folder: name one, or set TWINLEASE_STATE or HOME");
    return state_open(&state, out, error);
}

/* A machine that has enrolled needs the token for its addresses only, so it may be over. */
static enum twinlease_code check_dates(const struct tok *tok, struct state *state,
                                       struct twinlease_error *error)
{
    char text[RFC3339_SIZE];
    struct origin origin;
    int64_t now_ms = wall_now().ms;

    if (tok->begins_ms > now_ms + SKEW_MS) {
        rfc3339_format(tok->begins_ms, text);
        state_warn(state, "the client token begins at %s: is this machine's clock behind?", text);
    }
    if (now_ms < tok->expires_ms)
        return TWINLEASE_OK;
    rfc3339_format(tok->expires_ms, text);
    bool enrolled = state_origin(state, &origin);
    explicit_bzero(&origin, sizeof origin);
    if (!enrolled)
        return fault_set(error, TWINLEASE_BAD_FILE,
                         "the client token ended at %s, so this machine cannot enrol with it; get "
                         "a new one from the operator (or check this machine's clock)",
                         text);
    state_warn(state, "the client token ended at %s; get a new one from the operator", text);
    return TWINLEASE_OK;
}

/* Builds the handle; tok and state are taken over on success. */
static enum twinlease_code make_handle(const struct twinlease_options *options, struct tok *tok,
                                       struct state *state, struct twinlease **out,
                                       struct twinlease_error *error)
{
    const struct session_options session = {
        .connect_ms = options->connect_ms,
        .attempt_ms = options->attempt_ms,
        .deadline_ms = options->deadline_ms,
    };
    struct twinlease *handle = mem_calloc(1, sizeof *handle);
    enum twinlease_code code = session_new(&session, tok, state, &handle->session, error);

    if (code != TWINLEASE_OK) {
        mem_free(handle);
        return code;
    }
    handle->state = state;
    uuid_format(&tok->instance_ref, handle->instance_ref);
    *out = handle;
    return TWINLEASE_OK;
}

enum twinlease_code twinlease_open(const struct twinlease_options *options, struct twinlease **out,
                                   struct twinlease_error *error)
{
    AUTO(tok_free) struct tok *tok = NULL;
    struct twinlease_options given = { .size = sizeof given };
    struct twinlease_error spare;
    struct state *state = NULL;
    enum twinlease_code code;

    error = error_or(error, &spare);
    if ((code = read_options(options, &given, error)) != TWINLEASE_OK ||
        (code = read_token(&given, &tok, error)) != TWINLEASE_OK ||
        (code = open_state(&given, tok, &state, error)) != TWINLEASE_OK)
        return code;
    if ((code = check_dates(tok, state, error)) != TWINLEASE_OK ||
        (code = make_handle(&given, tok, state, out, error)) != TWINLEASE_OK) {
        state_unref(state);
        return code;
    }
    tok = NULL; /* the session's now */
    return TWINLEASE_OK;
}

void twinlease_close(struct twinlease *handle)
{
    if (!handle)
        return;
    session_free(handle->session);
    state_unref(handle->state);
    mem_free(handle);
}

const char *twinlease_instance_jwks(const struct twinlease *handle)
{
    return session_tok(handle->session)->jwks;
}

const char *twinlease_instance_ref(const struct twinlease *handle)
{
    return handle->instance_ref;
}

const char *twinlease_instance_thumbprint(const struct twinlease *handle)
{
    return session_tok(handle->session)->signer;
}

const char *twinlease_state_folder(const struct twinlease *handle)
{
    return state_folder(handle->state);
}

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
                                         struct twinlease_error *error)
{
    AUTO(buf_fini) struct buf body;
    AUTO(reply_fini) struct reply reply = { .json = NULL };
    struct lease_facts *facts = NULL;
    size_t count = 0;

    buf_init(&body, 1024);
    write_request(lease, &body);
    const struct call call = { "POST", "/v1/leases", body.bytes, .may_enrol = true };
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
                                     struct twinlease_error *error)
{
    if (!lease->granted)
        return request_lease(handle, lease, error);
    enum twinlease_code code = twinlease_renew(handle, lease, error);
    lease->resumed = code == TWINLEASE_OK;
    return code;
}

enum twinlease_code twinlease_acquire(struct twinlease *handle, const char *feature,
                                      const struct twinlease_acquire_options *options,
                                      struct twinlease_lease **out, struct twinlease_error *error)
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
        if ((code = try_lease(handle, lease, error)) == TWINLEASE_OK) {
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
                       char path[PATH_SIZE], struct buf *body, struct call *out)
{
    AUTO(json_object_put) struct json_object *token = json_object_new_string(lease->token);

    snprintf(path, PATH_SIZE, "/v1/leases/%s", lease->lease_text);
    buf_init(body, 6 * JWS_MAX + 64); /* escaped, whatever stood in the state folder */
    buf_format(body, "{\"lease_token\":%s}",
               json_object_to_json_string_ext(token, JSON_C_TO_STRING_NOSLASHESCAPE));
    must(buf_ok(body));
    *out = (struct call){ .method = method, .path = path, .body = body->bytes };
}

enum twinlease_code twinlease_renew(struct twinlease *handle, struct twinlease_lease *lease,
                                    struct twinlease_error *error)
{
    AUTO(reply_fini) struct reply reply = { .json = NULL };
    AUTO(lease_facts_fini) struct lease_facts facts = { .count = 0 };
    AUTO(buf_fini) struct buf body;
    struct twinlease_error spare;
    char path[PATH_SIZE];
    struct call call;

    error = error_or(error, &spare);
    lease_call(lease, "PUT", path, &body, &call);
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

enum twinlease_code twinlease_release(struct twinlease *handle, struct twinlease_lease *lease,
                                      struct twinlease_error *error)
{
    AUTO(reply_fini) struct reply reply = { .json = NULL };
    AUTO(buf_fini) struct buf body;
    struct twinlease_error spare;
    char path[PATH_SIZE];
    struct call call;

    error = error_or(error, &spare);
    lease_call(lease, "DELETE", path, &body, &call);
    enum twinlease_code code = call_for(handle, &call, &reply, error);
    if (code != TWINLEASE_OK && code != TWINLEASE_LEASE_LOST)
        return code;
    fault_clear(error);
    lease_end(lease);
    state_lease_remove(handle->state, &lease->lease_ref);
    return TWINLEASE_OK;
}

/* ---- lists ------------------------------------------------------------------------------- */

static struct twinlease_list *list_new(size_t count_max)
{
    return mem_calloc(1, sizeof(struct twinlease_list) + count_max * sizeof(void *));
}

enum twinlease_code twinlease_list(struct twinlease *handle, struct twinlease_list **out,
                                   struct twinlease_error *error)
{
    const struct call call = { "GET", "/v1/leases", .answer_max = ANSWER_LIST_MAX };
    AUTO(reply_fini) struct reply reply = { .json = NULL };
    struct lease_facts *facts = NULL;
    struct twinlease_error spare;
    struct uuid origin_ref;
    size_t count = 0;

    error = error_or(error, &spare);
    if (!session_origin(handle->session, &origin_ref)) {
        *out = list_new(0);
        return TWINLEASE_OK;
    }
    enum twinlease_code code = session_call(handle->session, &call, &reply, error);
    if (code == TWINLEASE_OK)
        code = answer_leases(&reply.answer, reply.json, "active_lease_list", ANSWER_LEASES_MAX,
                             &facts, &count, error);
    if (code != TWINLEASE_OK)
        return code;
    struct twinlease_list *list = list_new(count);
    for (size_t i = 0; i < count; i++) {
        struct twinlease_lease *lease = lease_new();
        lease_grant(lease, &facts[i], reply.asked);
        lease_facts_fini(&facts[i]);
        list->leases[list->count++] = lease;
    }
    mem_free(facts);
    fault_clear(error);
    *out = list;
    return TWINLEASE_OK;
}

enum twinlease_code twinlease_recorded(struct twinlease *handle, struct twinlease_list **out,
                                       struct twinlease_error *error)
{
    struct twinlease_error spare;
    size_t count;

    error_or(error, &spare);
    struct twinlease_lease **all = state_leases(handle->state, &count);
    struct twinlease_list *list = list_new(count);
    for (size_t i = 0; i < count; i++) {
        if (all[i]->granted)
            list->leases[list->count++] = all[i];
        else
            twinlease_lease_free(all[i]);
    }
    mem_free(all);
    *out = list;
    return TWINLEASE_OK;
}

size_t twinlease_list_count(const struct twinlease_list *list)
{
    return list->count;
}

struct twinlease_lease *twinlease_list_at(const struct twinlease_list *list, size_t index)
{
    return index < list->count ? list->leases[index] : NULL;
}

void twinlease_list_free(struct twinlease_list *list)
{
    if (!list)
        return;
    for (size_t i = 0; i < list->count; i++)
        twinlease_lease_free(list->leases[i]);
    mem_free(list);
}

/* ---- status ------------------------------------------------------------------------------ */

struct node_status {
    char url[TOK_URL_MAX + 1];
    struct twinlease_error error;
};

struct twinlease_status {
    char origin_ref[UUID_TEXT_SIZE];
    int64_t token_expires_ms;
    size_t count;
    struct node_status nodes[];
};

enum twinlease_code twinlease_status(struct twinlease *handle, struct twinlease_status **out,
                                     struct twinlease_error *error)
{
    const struct tok *tok = session_tok(handle->session);
    struct twinlease_error spare;
    struct uuid origin_ref;

    error_or(error, &spare);
    struct twinlease_status *status =
        mem_calloc(1, sizeof *status + tok->node_count * sizeof status->nodes[0]);
    status->token_expires_ms = tok->expires_ms;
    if (session_origin(handle->session, &origin_ref))
        uuid_format(&origin_ref, status->origin_ref);
    for (status->count = 0; status->count < tok->node_count; status->count++) {
        struct node_status *node = &status->nodes[status->count];
        memcpy(node->url, tok->node_urls[status->count], strlen(tok->node_urls[status->count]) + 1);
        node->error.code = session_probe(handle->session, status->count, &node->error);
    }
    *out = status;
    return TWINLEASE_OK;
}

const char *twinlease_status_origin_ref(const struct twinlease_status *status)
{
    return status->origin_ref;
}

int64_t twinlease_status_token_expires_ms(const struct twinlease_status *status)
{
    return status->token_expires_ms;
}

size_t twinlease_status_node_count(const struct twinlease_status *status)
{
    return status->count;
}

const char *twinlease_status_node_url(const struct twinlease_status *status, size_t index)
{
    return index < status->count ? status->nodes[index].url : "";
}

enum twinlease_code twinlease_status_node_code(const struct twinlease_status *status, size_t index)
{
    return index < status->count ? status->nodes[index].error.code : TWINLEASE_USAGE;
}

const char *twinlease_status_node_message(const struct twinlease_status *status, size_t index)
{
    return index < status->count ? status->nodes[index].error.message : "";
}

void twinlease_status_free(struct twinlease_status *status)
{
    mem_free(status);
}
