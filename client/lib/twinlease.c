/* The public functions, on top of session (the nodes), state (the folder) and lease. */
#include "twinlease.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "handle.h"
#include "options.h"

#define CONNECT_MS  1000
#define ATTEMPT_MS  2000
#define DEADLINE_MS 10000
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
    enum twinlease_code code = TWINLEASE_OK;

    if (!cancel_init(&handle->cancel))
        code = fault_set(error, TWINLEASE_ERROR, "no file descriptor is left: %s", strerror(errno));
    else
        code = session_new(&session, tok, state, &handle->session, error);
    if (code != TWINLEASE_OK) {
        cancel_fini(&handle->cancel);
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
    cancel_fini(&handle->cancel);
    mem_free(handle);
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
    const struct tok *tok = session_tok(handle->session);
    struct boot until = session_deadline(handle->session);
    struct twinlease_error spare;
    struct uuid origin_ref;

    error = error_or(error, &spare);
    struct twinlease_status *status =
        mem_calloc(1, sizeof *status + tok->node_count * sizeof status->nodes[0]);
    status->token_expires_ms = tok->expires_ms;
    if (session_origin(handle->session, &origin_ref))
        uuid_format(&origin_ref, status->origin_ref);
    for (status->count = 0; status->count < tok->node_count; status->count++) {
        struct node_status *node = &status->nodes[status->count];
        memcpy(node->url, tok->node_urls[status->count], strlen(tok->node_urls[status->count]) + 1);
        node->error.code =
            session_probe(handle->session, status->count, until, &handle->cancel, &node->error);
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
