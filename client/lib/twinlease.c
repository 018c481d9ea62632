/* The public functions, on top of session (the nodes), state (the folder) and lease. */
#include "twinlease.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "handle.h"
#include "options.h"

#define CONNECT_MS  1000
#define ATTEMPT_MS  1500
#define DEADLINE_MS 10000
#define RETRY_MS    3000
#define WAIT_MAX_MS 3600000
#define SKEW_MS     300000 /* a token from the future by less is no news */

struct twinlease_list {
    size_t count;
    struct twinlease_lease *leases[];
};

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
    out->retry_ms = out->retry_ms ? out->retry_ms : RETRY_MS;
    if (out->connect_ms > WAIT_MAX_MS || out->attempt_ms > WAIT_MAX_MS ||
        out->deadline_ms > WAIT_MAX_MS || out->retry_ms > WAIT_MAX_MS)
        return fault_set(error, TWINLEASE_USAGE, "a deadline is over %d ms", WAIT_MAX_MS);
    return TWINLEASE_OK;
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
        state_warn(state, "the client token %s begins at %s: is this machine's clock behind?",
                   tok->name, text);
    }
    if (now_ms < tok->expires_ms)
        return TWINLEASE_OK;
    rfc3339_format(tok->expires_ms, text);
    bool enrolled = state_origin(state, &origin);
    explicit_bzero(&origin, sizeof origin);
    if (!enrolled)
        return fault_set(error, TWINLEASE_BAD_FILE,
                         "the client token %s ended at %s, so this machine cannot enrol with it; "
                         "get a new one from the operator (or check this machine's clock)",
                         tok->name, text);
    state_warn(state, "the client token %s ended at %s; get a new one from the operator", tok->name,
               text);
    return TWINLEASE_OK;
}

/* All but the state. */
static void handle_free(struct twinlease *handle)
{
    session_free(handle->session);
    cancel_fini(&handle->cancel);
    mem_free(handle->token_path);
    mem_free(handle->pin);
    mem_free(handle->jwks);
    mem_free(handle);
}

/* Builds the handle; tok is taken over, state on success only. */
static enum twinlease_code make_handle(const struct twinlease_options *options,
                                       const char *token_path, struct tok *tok, struct state *state,
                                       struct twinlease **out, struct twinlease_error *error)
{
    const struct session_options session = {
        .connect_ms = options->connect_ms,
        .attempt_ms = options->attempt_ms,
        .deadline_ms = options->deadline_ms,
        .retry_ms = options->retry_ms,
    };
    struct twinlease *handle = mem_calloc(1, sizeof *handle);
    enum twinlease_code code;

    handle->jwks = mem_strdup(tok->jwks);
    handle->token_path = mem_strdup(token_path);
    handle->pin = options->instance_thumbprint ? mem_strdup(options->instance_thumbprint) : NULL;
    handle->instance = tok->instance_ref;
    uuid_format(&tok->instance_ref, handle->instance_ref);
    memcpy(handle->thumbprint, tok->signer, sizeof handle->thumbprint);
    if (cancel_init(&handle->cancel)) {
        code = session_new(&session, tok, state, &handle->session, error);
    } else {
        code = fault_set(error, TWINLEASE_ERROR, "no file descriptor is left: %s", strerror(errno));
        tok_free(tok);
    }
    if (code != TWINLEASE_OK) {
        handle_free(handle);
        return code;
    }
    handle->state = state;
    *out = handle;
    return TWINLEASE_OK;
}

enum twinlease_code twinlease_open(const struct twinlease_options *options, struct twinlease **out,
                                   struct twinlease_error *error)
{
    AUTO(mem_free) char *path = NULL;
    AUTO(tok_free) struct tok *tok = NULL;
    struct twinlease_options given = { .size = sizeof given };
    struct twinlease_error spare;
    struct state *state = NULL;
    enum twinlease_code code;

    error = error_or(error, &spare);
    if ((code = read_options(options, &given, error)) != TWINLEASE_OK)
        return code;
    if (!(path = options_token_path(given.token_path)))
        return fault_set(error, TWINLEASE_USAGE,
                         "no client token: name a .tok file or a folder of them, or set "
                         "TWINLEASE_TOK");
    if ((code = tok_read(path, given.instance_thumbprint, wall_now().ms, &tok, error)) !=
            TWINLEASE_OK ||
        (code = open_state(&given, tok, &state, error)) != TWINLEASE_OK)
        return code;
    if ((code = check_dates(tok, state, error)) != TWINLEASE_OK ||
        (code = make_handle(&given, path, TAKE(tok), state, out, error)) != TWINLEASE_OK)
        state_unref(state);
    return code;
}

void twinlease_close(struct twinlease *handle)
{
    if (!handle)
        return;
    state_unref(handle->state);
    handle_free(handle);
}

/* The state folder, and with it the leases, are those of one instance and one key of it. */
static enum twinlease_code check_instance(const struct twinlease *handle, const struct tok *tok,
                                          struct twinlease_error *error)
{
    char other[UUID_TEXT_SIZE];

    if (!uuid_equal(&tok->instance_ref, &handle->instance)) {
        uuid_format(&tok->instance_ref, other);
        return fault_link(error, TWINLEASE_LINK_INSTANCE,
                          "%s is of the instance %s, but the program was started with one of %s; "
                          "put that one's token back, or start the program anew",
                          tok->name, other, handle->instance_ref);
    }
    if (strcmp(tok->signer, handle->thumbprint) != 0)
        return fault_link(error, TWINLEASE_LINK_INSTANCE,
                          "%s was signed by the key %s, but the program was started with one that "
                          "%s had signed; start the program anew, if that is meant to be so",
                          tok->name, tok->signer, handle->thumbprint);
    return TWINLEASE_OK;
}

enum twinlease_code twinlease_reload(struct twinlease *handle, struct twinlease_error *error)
{
    AUTO(tok_free) struct tok *tok = NULL;
    struct twinlease_error spare;
    enum twinlease_code code;

    error = error_or(error, &spare);
    if ((code = tok_read(handle->token_path, handle->pin, wall_now().ms, &tok, error)) !=
            TWINLEASE_OK ||
        (code = check_instance(handle, tok, error)) != TWINLEASE_OK ||
        (code = check_dates(tok, handle->state, error)) != TWINLEASE_OK ||
        (code = session_reload(handle->session, TAKE(tok), error)) != TWINLEASE_OK)
        return code;
    fault_clear(error);
    return TWINLEASE_OK;
}

void twinlease_interrupt(struct twinlease *handle)
{
    cancel_raise(&handle->cancel);
}

void twinlease_resume(struct twinlease *handle)
{
    cancel_lower(&handle->cancel);
}

const char *twinlease_instance_jwks(const struct twinlease *handle)
{
    return handle->jwks;
}

const char *twinlease_instance_ref(const struct twinlease *handle)
{
    return handle->instance_ref;
}

const char *twinlease_instance_thumbprint(const struct twinlease *handle)
{
    return handle->thumbprint;
}

const char *twinlease_state_folder(const struct twinlease *handle)
{
    return state_folder(handle->state);
}

/* ---- lists ------------------------------------------------------------------------------- */

static struct twinlease_list *list_new(size_t count_max)
{
    return mem_calloc(1, sizeof(struct twinlease_list) + count_max * sizeof(void *));
}

enum twinlease_code twinlease_list(struct twinlease *handle, struct twinlease_list **out,
                                   struct twinlease_error *error)
{
    const struct call call = { "GET", "/v1/leases", .answer_max = ANSWER_LIST_MAX,
                               .effort = { .cancel = &handle->cancel } };
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
    const struct effort effort = { .cancel = &handle->cancel };
    AUTO(errand_fini) struct errand errand;
    struct twinlease_error spare;
    struct uuid origin_ref;

    error = error_or(error, &spare);
    session_begin(handle->session, &effort, error, &errand);
    const struct tok *tok = nodes_tok(errand.nodes);
    struct twinlease_status *status =
        mem_calloc(1, sizeof *status + tok->node_count * sizeof status->nodes[0]);
    status->token_expires_ms = tok->expires_ms;
    if (session_origin(handle->session, &origin_ref))
        uuid_format(&origin_ref, status->origin_ref);
    for (status->count = 0; status->count < tok->node_count; status->count++) {
        struct node_status *node = &status->nodes[status->count];
        memcpy(node->url, tok->node_urls[status->count], strlen(tok->node_urls[status->count]) + 1);
        errand.error = &node->error;
        node->error.code = session_probe(&errand, status->count);
        if (node->error.code == TWINLEASE_INTERRUPTED) {
            *error = node->error;
            twinlease_status_free(status);
            return error->code;
        }
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
