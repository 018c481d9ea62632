#include "session.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/base64url.h"
#include "base/random.h"
#include "environment.h"
#include "gate.h"
#include "token/instance.h"

#define TRIES_MAX         3     /* the first try, with a new auth token, as a new origin */
#define TOKEN_MARGIN_MS   30000 /* an auth token is not used that shortly before its end … */
#define TOKEN_MARGIN_PART 4     /* … or, if it is short-lived, for that part of its life */
#define CLOCK_WARN_MS     60000 /* by which this machine's clock may differ unmentioned */

struct session {
    struct session_options options;
    struct state *state;
    struct gate entry;    /* one thread at a time enrols or authenticates */
    pthread_mutex_t lock; /* guards what follows; never held while waiting */
    struct nodes *nodes;
    char *auth_token; /* NULL: none */
    struct boot auth_until;
    struct uuid auth_origin;
    bool clock_mentioned;
    int64_t node_clock_ms; /* at this machine's boot; 0: not known */
};

static void lock(struct session *s)
{
    must(pthread_mutex_lock(&s->lock) == 0);
}

static void unlock(struct session *s)
{
    must(pthread_mutex_unlock(&s->lock) == 0);
}

static void free_secret(char *text)
{
    if (text)
        explicit_bzero(text, strlen(text));
    mem_free(text);
}

enum twinlease_code session_new(const struct session_options *options, struct tok *tok,
                                struct state *state, struct session **out,
                                struct twinlease_error *error)
{
    struct nodes *nodes;
    enum twinlease_code code = nodes_new(tok, &nodes, error);

    if (code != TWINLEASE_OK)
        return code;
    struct session *s = mem_calloc(1, sizeof *s);
    if (!gate_init(&s->entry)) {
        code = fault_set(error, TWINLEASE_ERROR, "no file descriptor is left: %s", strerror(errno));
        nodes_unref(nodes);
        mem_free(s);
        return code;
    }
    s->options = *options;
    s->nodes = nodes;
    s->state = state_ref(state);
    must(pthread_mutex_init(&s->lock, NULL) == 0);
    *out = s;
    return TWINLEASE_OK;
}

struct session *session_free(struct session *s)
{
    if (!s)
        return NULL;
    nodes_unref(s->nodes);
    free_secret(s->auth_token);
    state_unref(s->state);
    gate_fini(&s->entry);
    pthread_mutex_destroy(&s->lock);
    mem_free(s);
    return NULL;
}

enum twinlease_code session_reload(struct session *s, struct tok *tok,
                                   struct twinlease_error *error)
{
    struct nodes *fresh, *old;
    enum twinlease_code code = nodes_new(tok, &fresh, error);

    if (code != TWINLEASE_OK)
        return code;
    lock(s);
    old = s->nodes;
    s->nodes = fresh;
    unlock(s);
    nodes_inherit(fresh, old);
    nodes_unref(old);
    return TWINLEASE_OK;
}

void session_begin(struct session *s, const struct effort *effort, struct twinlease_error *error,
                   struct errand *out)
{
    lock(s);
    struct nodes *nodes = nodes_ref(s->nodes);
    unlock(s);
    errand_init(out, nodes, &s->options, effort, error);
}

/* ---- clocks ------------------------------------------------------------------------------ */

/* True the first time that the clocks differ by much. */
static bool note_clock(struct session *s, const struct errand *errand, int64_t ahead_ms)
{
    bool off = ahead_ms >= CLOCK_WARN_MS || ahead_ms <= -CLOCK_WARN_MS;

    lock(s);
    bool fresh = off && !s->clock_mentioned;
    s->clock_mentioned = s->clock_mentioned || off;
    s->node_clock_ms = errand->sync_ms - errand->synced.ms;
    unlock(s);
    return fresh;
}

/* What the nodes said of the time on the way. */
static void compare_clocks(struct session *s, const struct errand *errand)
{
    int64_t now_there_ms = errand->sync_ms + boot_now().ms - errand->synced.ms;
    int64_t ahead_ms = wall_now().ms - now_there_ms;

    if (!errand->sync_ms || !note_clock(s, errand, ahead_ms))
        return;
    int64_t minutes = (ahead_ms < 0 ? -ahead_ms : ahead_ms) / 60000;
    state_warn(s->state,
               "the clock of this machine is about %lld minutes %s the node's; leases do not mind, "
               "but check which of them is right",
               (long long)minutes, ahead_ms > 0 ? "ahead of" : "behind");
}

bool session_node_now(struct session *s, int64_t *out_ms)
{
    lock(s);
    int64_t clock_ms = s->node_clock_ms;
    unlock(s);
    *out_ms = boot_now().ms + clock_ms;
    return clock_ms != 0;
}

/* ---- enrolling --------------------------------------------------------------------------- */

static enum twinlease_code attempt_enrol(struct errand *errand, size_t node, int64_t budget_ms,
                                         void *context)
{
    AUTO(json_object_put) struct json_object *body = json_object_new_object();
    AUTO(reply_fini) struct reply reply = { .json = NULL };
    struct uuid candidate = uuid_random();
    char text[UUID_TEXT_SIZE];
    enum twinlease_code code;

    /* A fresh reference each time: if an earlier answer was lost, its origin has no lease, and its
     * secret is lost too. */
    uuid_format(&candidate, text);
    json_object_object_add(body, "candidate_origin_ref", json_object_new_string(text));
    json_object_object_add(body, "environment", environment_read());
    struct http_request request = {
        .method = "POST",
        .path = "/v1/origins",
        .bearer = nodes_tok(errand->nodes)->text,
        .body = json_object_to_json_string_ext(body, JSON_C_TO_STRING_NOSLASHESCAPE),
    };
    if ((code = errand_ask(errand, node, budget_ms, &request, &reply)) != TWINLEASE_OK)
        return code;
    return answer_origin(&reply.answer, reply.json, context, errand->error);
}

static enum twinlease_code enrol(struct session *s, struct errand *errand, const struct origin *old,
                                 struct origin *out)
{
    struct answer_origin answer = { .sync_ms = 0 };
    enum twinlease_code code = errand_walk(errand, attempt_enrol, &answer);

    if (code == TWINLEASE_NOT_AUTHORISED) {
        struct twinlease_error why = *errand->error;
        fault_set(errand->error, code,
                  "this machine cannot enrol: %s; get a current client token from the operator",
                  why.message);
        errand->error->http_status = why.http_status;
        memcpy(errand->error->problem, why.problem, sizeof why.problem);
        memcpy(errand->error->request_id, why.request_id, sizeof why.request_id);
    }
    if (code != TWINLEASE_OK)
        return code;
    struct origin origin = { .origin_ref = answer.origin_ref };
    memcpy(origin.secret, answer.secret, sizeof origin.secret);
    code = state_origin_store(s->state, old, &origin, errand->error);
    if (code == TWINLEASE_OK)
        *out = origin;
    return code;
}

/* ---- authenticating ---------------------------------------------------------------------- */

struct proof {
    const struct origin *origin;
    struct answer_ticket token;
    struct boot asked;
};

static enum twinlease_code exchange(struct errand *errand, size_t node, int64_t budget_ms,
                                    const char *path, struct json_object *body, const char *member,
                                    struct answer_ticket *out)
{
    AUTO(reply_fini) struct reply reply = { .json = NULL };
    struct http_request request = {
        .method = "POST",
        .path = path,
        .body = json_object_to_json_string_ext(body, JSON_C_TO_STRING_NOSLASHESCAPE),
    };
    enum twinlease_code code = errand_ask(errand, node, budget_ms, &request, &reply);

    return code == TWINLEASE_OK
               ? answer_ticket(&reply.answer, reply.json, member, out, errand->error)
               : code;
}

static void draw_verifier(struct buf *verifier, char challenge[CODE_CHALLENGE_LENGTH + 1])
{
    unsigned char bytes[32];

    random_bytes(bytes, sizeof bytes);
    base64url_append(verifier, bytes, sizeof bytes);
    must(pkce_challenge(buf_text(verifier), challenge));
}

static void add_text(struct json_object *object, const char *name, const char *text)
{
    json_object_object_add(object, name, json_object_new_string(text));
}

/* Code and token at the same node: only the one that made a code can redeem it. */
static enum twinlease_code attempt_proof(struct errand *errand, size_t node, int64_t budget_ms,
                                         void *context)
{
    AUTO(json_object_put) struct json_object *ask_code = json_object_new_object();
    AUTO(json_object_put) struct json_object *ask_token = json_object_new_object();
    AUTO(buf_fini_secret) struct buf verifier;
    struct boot until = { boot_now().ms + budget_ms };
    char challenge[CODE_CHALLENGE_LENGTH + 1], text[UUID_TEXT_SIZE];
    struct answer_ticket ticket = { .text = NULL };
    struct proof *proof = context;

    buf_init(&verifier, 64);
    draw_verifier(&verifier, challenge);
    uuid_format(&proof->origin->origin_ref, text);
    add_text(ask_code, "origin_ref", text);
    add_text(ask_code, "origin_secret", proof->origin->secret);
    add_text(ask_code, "code_challenge", challenge);
    enum twinlease_code code =
        exchange(errand, node, budget_ms, "/v1/auth/code", ask_code, "auth_code", &ticket);
    if (code != TWINLEASE_OK)
        return code;
    add_text(ask_token, "auth_code", ticket.text);
    add_text(ask_token, "code_verifier", buf_text(&verifier));
    free_secret(ticket.text);
    if ((budget_ms = until.ms - boot_now().ms) <= 0)
        return fault_set(errand->error, TWINLEASE_NO_NODE, "%s does not answer in time",
                         nodes_tok(errand->nodes)->node_urls[node]);
    proof->asked = boot_now();
    return exchange(errand, node, budget_ms, "/v1/auth/token", ask_token, "auth_token",
                    &proof->token);
}

static void store_token(struct session *s, struct proof *proof)
{
    int64_t lifetime_ms = proof->token.lifetime_ms;
    int64_t margin_ms = lifetime_ms / TOKEN_MARGIN_PART;

    if (margin_ms > TOKEN_MARGIN_MS)
        margin_ms = TOKEN_MARGIN_MS;
    lock(s);
    free_secret(s->auth_token);
    s->auth_token = TAKE(proof->token.text);
    s->auth_until.ms = proof->asked.ms + lifetime_ms - margin_ms;
    s->auth_origin = proof->origin->origin_ref;
    unlock(s);
}

/* An auth token in use by one call. */
struct ticket {
    char *text; /* NULL: none */
    struct uuid origin_ref;
};

static void ticket_fini(struct ticket *ticket)
{
    free_secret(ticket->text);
    ticket->text = NULL;
}
DEFINE_AUTO_VALUE(struct ticket, ticket_fini)

/* Copies the cached token, if there is a good one. */
static bool cached_token(struct session *s, struct ticket *out)
{
    lock(s);
    if (s->auth_token && boot_now().ms < s->auth_until.ms)
        *out = (struct ticket){ mem_strdup(s->auth_token), s->auth_origin };
    unlock(s);
    return out->text != NULL;
}

/* Drops the cached token if it is still the one that was refused. */
static void forget_token(struct session *s, const char *refused)
{
    lock(s);
    if (s->auth_token && strcmp(s->auth_token, refused) == 0) {
        free_secret(s->auth_token);
        s->auth_token = NULL;
    }
    unlock(s);
}

static bool origin_is_gone(const struct twinlease_error *error)
{
    return strcmp(error->problem, "origin_deleted") == 0 ||
           strcmp(error->problem, "origin_unknown") == 0 ||
           strcmp(error->problem, "origin_secret_invalid") == 0;
}

static enum twinlease_code no_origin(struct errand *errand)
{
    return fault_set(errand->error, TWINLEASE_LEASE_LOST,
                     "this machine has not enrolled, or was deleted by an operator, so it has no "
                     "lease; acquire one");
}

/* With `entry` held: from whatever is known to a fresh auth token. `gone`: the origin that was
 * refused when it was used last (nil: none). */
static enum twinlease_code prove(struct session *s, struct errand *errand, bool may_enrol,
                                 const struct uuid *gone, struct origin *origin)
{
    struct proof proof = { .origin = origin };
    bool known = state_origin(s->state, origin);
    bool refused = known && uuid_equal(&origin->origin_ref, gone);
    enum twinlease_code code = TWINLEASE_OK;

    for (int tries = 0; tries < 2; tries++) {
        if (!known || refused)
            code = may_enrol ? enrol(s, errand, known ? origin : NULL, origin) : no_origin(errand);
        if (code == TWINLEASE_OK)
            code = errand_walk(errand, attempt_proof, &proof);
        if (code == TWINLEASE_OK)
            store_token(s, &proof);
        if (code == TWINLEASE_OK || !origin_is_gone(errand->error))
            return code;
        known = refused = true;
        code = TWINLEASE_OK;
    }
    return errand->error->code;
}

/* A copy of a token that should be good. */
static enum twinlease_code authorise(struct session *s, struct errand *errand, bool may_enrol,
                                     const struct uuid *gone, struct ticket *out)
{
    enum twinlease_code code = TWINLEASE_OK;
    struct origin origin = { .secret = "" };

    if (cached_token(s, out))
        return TWINLEASE_OK;
    if (!gate_enter(&s->entry, errand->until, errand->cancel))
        return cancel_raised(errand->cancel)
                   ? errand_interrupted(errand)
                   : fault_set(errand->error, TWINLEASE_NO_NODE, "no node answered in time");
    if (!cached_token(s, out)) { /* the thread before us may have fetched one */
        code = prove(s, errand, may_enrol, gone, &origin);
        if (code == TWINLEASE_OK && !cached_token(s, out))
            code = fault_set(errand->error, TWINLEASE_BAD_ANSWER,
                             "the node gives auth tokens that are over at once; check its clock");
    }
    gate_leave(&s->entry);
    explicit_bzero(&origin, sizeof origin);
    return code;
}

/* ---- calls ------------------------------------------------------------------------------- */

struct authorised_call {
    const struct call *call;
    const char *auth_token;
    struct reply *reply;
};

static enum twinlease_code attempt_call(struct errand *errand, size_t node, int64_t budget_ms,
                                        void *context)
{
    const struct authorised_call *c = context;
    struct http_request request = {
        .method = c->call->method,
        .path = c->call->path,
        .bearer = c->auth_token,
        .body = c->call->body,
        .answer_max = c->call->answer_max,
    };

    enum twinlease_code code = errand_ask(errand, node, budget_ms, &request, c->reply);
    if (code != TWINLEASE_OK && c->call->unsure && c->reply->response.sent &&
        answer_is_unsure(errand->error))
        *c->call->unsure = true;
    return code;
}

static bool token_is_stale(const struct twinlease_error *error)
{
    return strcmp(error->problem, "token_expired") == 0 ||
           strcmp(error->problem, "token_invalid") == 0 || origin_is_gone(error);
}

static enum twinlease_code call_authorised(struct session *s, struct errand *errand,
                                           const struct call *call, struct reply *out)
{
    struct uuid gone = { { 0 } };
    enum twinlease_code code = TWINLEASE_OK;

    for (int tries = 0; tries < TRIES_MAX; tries++) {
        AUTO(ticket_fini) struct ticket ticket = { .text = NULL };
        code = authorise(s, errand, call->may_enrol, &gone, &ticket);
        if (code != TWINLEASE_OK)
            return code;
        struct authorised_call authorised = { call, ticket.text, out };
        code = errand_walk(errand, attempt_call, &authorised);
        if (code != TWINLEASE_NOT_AUTHORISED || !token_is_stale(errand->error))
            return code;
        forget_token(s, ticket.text);
        if (origin_is_gone(errand->error))
            gone = ticket.origin_ref;
    }
    return code;
}

enum twinlease_code session_call(struct session *s, const struct call *call, struct reply *out,
                                 struct twinlease_error *error)
{
    AUTO(errand_fini) struct errand errand;

    session_begin(s, &call->effort, error, &errand);
    enum twinlease_code code = call_authorised(s, &errand, call, out);
    compare_clocks(s, &errand);
    return code;
}

bool session_origin(struct session *s, struct uuid *out)
{
    struct origin origin;
    bool known = state_origin(s->state, &origin);

    if (known)
        *out = origin.origin_ref;
    explicit_bzero(&origin, sizeof origin);
    return known;
}

enum twinlease_code session_probe(struct errand *errand, size_t index)
{
    AUTO(reply_fini) struct reply reply = { .json = NULL };
    const struct http_request request = { .method = "GET", .path = "/-/ready" };
    const struct tok *tok = nodes_tok(errand->nodes);
    int64_t budget_ms = errand_left_ms(errand);

    must(index < tok->node_count);
    if (!budget_ms)
        return fault_set(errand->error, TWINLEASE_NO_NODE, "%s was not asked: no time was left",
                         tok->node_urls[index]);
    if (budget_ms > errand->options->attempt_ms)
        budget_ms = errand->options->attempt_ms;
    return errand_ask(errand, index, budget_ms, &request, &reply);
}
