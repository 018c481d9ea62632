/* The replication worker: does what the state machine (peer.h) says.
 *
 * One thread. It owns the state machine, the transport and the page that is on its way to the
 * ledger. What reaches it from elsewhere – wishes for credits, nudges, the end of a command – goes
 * through `inbox`, guarded by the lock, and wakes the transport. What others read of it is a
 * snapshot under the same lock; nothing is ever done while it is held.
 *
 * At most one command is with the engine. It belongs to the engine until done(), so the thread
 * does not end before; a result that came too late (the node got another node_ref meanwhile) is
 * dropped. */
#include "replication/replication.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "replication/peer.h"
#include "replication/transport.h"

#define ASK_DEADLINE_MS 5000 /* hello, meet, credits; changes: after the wait */
#define ENGINE_LOOK_MS                                                                             \
    200                  /* how often to look whether the database was read for the first time     \
                          */
#define REST_MAX_MS 1000 /* to notice a new node_ref (R11), and for the snapshot */

#define TARGET_HELLO   "/-/ha/hello"
#define TARGET_CREDITS "/-/ha/credits"

struct inbox {
    bool stop, nudged, done;
    struct peer_credits wants[PEER_WISHES_MAX];
    size_t want_count;
};

/* What is asked in a lane, to compare the answer with. */
struct question {
    struct peer_claims claims;
    int64_t wait_ms;
};

struct replication {
    struct replication_conf conf;
    char *peer_address, *own_url, *ca_file;
    pthread_t thread;
    pthread_mutex_t lock; /* guards inbox and snapshot */
    struct inbox inbox;
    struct replication_status snapshot;

    /* the thread's own */
    struct transport *transport;
    struct peer peer;
    struct question questions[LANES];
    struct engine_status engine;
    struct uuid self; /* under which this conversation began */
    struct command command;
    bool command_out, command_stale; /* it is with the engine; its result is of no use */
    struct node_introduction own;
    struct ledger_page *page; /* to be merged */
    bool met_told, connected_told;
    uint64_t logged; /* state_changes */
    int64_t connected_since_ms, away_since_ms, round_trip_us;
    uint64_t bytes_in;
};

static uint64_t draw(void)
{
    uint64_t value;

    random_bytes(&value, sizeof value);
    return value;
}

static void lock(struct replication *r)
{
    must(pthread_mutex_lock(&r->lock) == 0);
}

static void unlock(struct replication *r)
{
    must(pthread_mutex_unlock(&r->lock) == 0);
}

/* ---- asking the peer ------------------------------------------------------------------------- */

static void send_question(struct replication *r, enum lane lane, enum peer_purpose purpose,
                          const struct buf *body, const struct transport_request *form)
{
    AUTO(buf_fini) struct buf token = { .max = JWS_MAX };
    struct peer_claims *claims = &r->questions[lane].claims;
    struct transport_request request = *form;
    bool first = purpose == PEER_HELLO;

    *claims = (struct peer_claims){ .purpose = purpose,
                                    .instance_ref = *instance_ref(r->conf.instance),
                                    .sender = r->self };
    if (!first) {
        claims->receiver = r->peer.peer_ref;
        memcpy(claims->nonce, r->peer.nonce, sizeof claims->nonce);
    }
    random_bytes(claims->jti, sizeof claims->jti);
    claims->expires_ms = first ? wall_now().ms + PEER_TOKEN_SECONDS * 1000
                               : peer_token_expiry_ms(&r->peer, stopwatch_us());
    sha256(body ? buf_text(body) : "", body ? body->length : 0, claims->body_sha256);
    snprintf(claims->target, sizeof claims->target, "%s", form->target);
    must(peer_token_sign(r->conf.instance, claims, &token) == ERR_OK);
    request.token = token.bytes;
    request.body = body ? buf_text(body) : NULL;
    request.body_size = body ? body->length : 0;
    transport_send(r->transport, lane, &request);
}

static void ask_hello(struct replication *r)
{
    r->self = r->engine.node_ref;
    send_question(r, LANE_MAIN, PEER_HELLO, NULL,
                  &(struct transport_request){ .target = TARGET_HELLO,
                                               .answer_max = PEER_SMALL_MAX,
                                               .deadline_ms = ASK_DEADLINE_MS });
}

static void ask_meet(struct replication *r)
{
    AUTO(buf_fini) struct buf body = { .max = PEER_SMALL_MAX };
    struct peer_hello hello = {
        .protocol = PEER_PROTOCOL,
        .protocol_min = PEER_PROTOCOL_MIN,
        .primary = r->conf.primary,
        .wall_ms = wall_now().ms,
        .introduction = r->own,
    };

    memcpy(hello.nonce, r->conf.process, sizeof hello.nonce);
    memcpy(hello.process, r->conf.process, sizeof hello.process);
    snprintf(hello.url, sizeof hello.url, "%s", r->own_url);
    peer_hello_encode(&hello, &body);
    must(buf_ok(&body));
    send_question(r, LANE_MAIN, PEER_MEET, &body,
                  &(struct transport_request){ .target = TARGET_HELLO,
                                               .answer_max = PEER_SMALL_MAX,
                                               .deadline_ms = ASK_DEADLINE_MS });
}

static void ask_changes(struct replication *r)
{
    char target[PEER_TARGET_MAX + 1];
    const struct ledger_pair *pair = &r->engine.pair;
    int64_t ledger_ms = wall_now().ms - r->engine.clock_offset_ms;
    int64_t wait =
        peer_wait_ms(&r->peer, ledger_ms, r->engine.next_due_ms, pair->clock_difference_ms);

    snprintf(target, sizeof target, "/-/ha/changes?since=%" PRIu64 "&limit=%zu&wait_ms=%" PRId64,
             r->peer.since, r->peer.limit, wait);
    r->questions[LANE_MAIN].wait_ms = wait;
    send_question(r, LANE_MAIN, PEER_CHANGES, NULL,
                  &(struct transport_request){ .target = target,
                                               .answer_max = PEER_BODY_MAX,
                                               .quiet_ms = wait,
                                               .deadline_ms = wait + ASK_DEADLINE_MS });
}

static void ask_credits(struct replication *r, const struct peer_credits *wanted)
{
    AUTO(buf_fini) struct buf body = { .max = PEER_SMALL_MAX };

    peer_credits_encode(wanted, &body);
    must(buf_ok(&body));
    send_question(r, LANE_CREDITS, PEER_CREDITS, &body,
                  &(struct transport_request){ .target = TARGET_CREDITS,
                                               .answer_max = PEER_SMALL_MAX,
                                               .deadline_ms = ASK_DEADLINE_MS });
}

/* ---- the peer's answers ---------------------------------------------------------------------- */

/* The answer's token is ours to believe: right key, to us, for this very question and body.
 * *sender: who signed. ERR_TOKEN_INVALID and ERR_TOKEN_INSTANCE mean the key or the instance,
 * ERR_TOKEN_PURPOSE all else. */
static enum err check_token(struct replication *r, const struct transport_answer *a,
                            struct uuid *sender, struct diag *diag)
{
    const struct question *question = &r->questions[a->lane];
    struct peer_claims claims;

    if (!a->token)
        return diag_set(diag, ERR_TOKEN_MISSING, "HTTP %ld without a peer token", a->status);
    enum err e = peer_token_verify(r->conf.instance, a->token, strlen(a->token), &claims, diag);
    if (e != ERR_OK) /* another key or instance */
        return e;
    e = peer_claims_judge(&claims,
                          &(struct peer_expected){ .purpose = question->claims.purpose,
                                                   .answer = true,
                                                   .receiver = question->claims.sender,
                                                   .nonce = question->claims.jti,
                                                   .target = question->claims.target,
                                                   .body = buf_text(a->body),
                                                   .body_size = a->body->length,
                                                   .now_ms = -1 },
                          diag);
    if (e != ERR_OK) /* ours, but not for this */
        return ERR_TOKEN_PURPOSE;
    if (question->claims.purpose != PEER_HELLO &&
        !uuid_equal(&claims.sender, &question->claims.receiver))
        return diag_set(diag, ERR_TOKEN_PURPOSE, "it comes from another node than was asked");
    *sender = claims.sender;
    return ERR_OK;
}

static void take_hello(struct replication *r, const struct transport_answer *a,
                       const struct uuid *sender, int64_t now_us)
{
    struct peer_hello hello;
    struct diag diag = { "" };

    enum err e = peer_hello_decode(buf_text(a->body), a->body->length, &hello, &diag);
    if (e == ERR_OK && !uuid_equal(&hello.introduction.node_ref, sender))
        e = diag_set(&diag, ERR_BAD_FIELD, "token and introduction name two nodes");
    if (e != ERR_OK)
        peer_on_failure(&r->peer, now_us, draw(), PEER_FAILED_ANSWER, e, &diag);
    else if (r->peer.task == PEER_DO_HELLO)
        peer_on_hello(&r->peer, now_us, draw(), &r->self, &hello);
    else
        peer_on_met(&r->peer, now_us, draw(), &hello, ERR_OK, NULL);
}

/* What the page claims of itself must be what was asked for; all else is the ledger's. */
static enum err check_page(const struct replication *r, const struct ledger_page *page,
                           struct diag *diag)
{
    if (!uuid_equal(&page->sender, &r->peer.peer_ref) || !uuid_equal(&page->receiver, &r->self))
        return diag_set(diag, ERR_PAGE_REFUSED, "the page is of or for another node");
    if (page->since != r->peer.since)
        return diag_set(diag, ERR_PAGE_REFUSED,
                        "the page starts after change %" PRIu64 ", not %" PRIu64 " (R8)",
                        page->since, r->peer.since);
    return ERR_OK;
}

static void take_page(struct replication *r, const struct transport_answer *a, int64_t now_us)
{
    AUTO(ledger_page_free) struct ledger_page *page = NULL;
    struct diag diag = { "" };

    enum err e = page_decode(buf_text(a->body), a->body->length, r->conf.entitlement_open,
                             r->conf.context, &page, &diag);
    if (e == ERR_OK)
        e = check_page(r, page, &diag);
    if (e != ERR_OK) {
        peer_on_failure(&r->peer, now_us, draw(), PEER_FAILED_ANSWER, e, &diag);
        return;
    }
    must(!r->page);
    r->page = TAKE(page);
    peer_on_page(&r->peer, now_us, r->page);
}

/* Only what is signed may tell more than that the question was not answered (R10). */
static void take_problem(struct replication *r, const struct transport_answer *a,
                         const struct uuid *sender, int64_t now_us)
{
    struct peer_problem problem;
    struct diag diag = { "" };

    if (peer_problem_decode(buf_text(a->body), a->body->length, &problem, NULL) != ERR_OK) {
        diag_set(&diag, ERR_PEER_AWAY, "HTTP %ld; is it a node of this release or the one before?",
                 a->status);
        peer_on_failure(&r->peer, now_us, draw(), PEER_FAILED_ANSWER, ERR_PEER_AWAY, &diag);
        return;
    }
    if (r->peer.task == PEER_DO_MEET && problem.introduced && !uuid_is_nil(sender) &&
        uuid_equal(sender, &problem.hello.introduction.node_ref))
        peer_on_met(&r->peer, now_us, draw(), &problem.hello, problem.err, &problem.detail);
    else
        peer_on_problem(&r->peer, now_us, draw(), sender, problem.err, &problem.detail);
}

/* An exchange that was not kept waiting tells how long the way is. */
static void measure(struct replication *r, const struct transport_answer *a)
{
    if (a->lane == LANE_CREDITS || r->peer.task != PEER_DO_CHANGES ||
        r->questions[LANE_MAIN].wait_ms == 0)
        r->round_trip_us = a->took_us;
}

static void take_main(struct replication *r, const struct transport_answer *a)
{
    int64_t now_us = stopwatch_us();
    struct uuid sender = { { 0 } };
    struct diag diag = { "" };

    if (a->err != ERR_OK) {
        peer_on_failure(&r->peer, now_us, draw(), a->failure, a->err, &a->diag);
        return;
    }
    measure(r, a);
    enum err e = check_token(r, a, &sender, &diag);
    if (a->status != 200)
        take_problem(r, a, &sender, now_us);
    else if (e != ERR_OK)
        peer_on_failure(&r->peer, now_us, draw(), PEER_FAILED_ANSWER, e, &diag);
    else if (r->peer.task == PEER_DO_CHANGES)
        take_page(r, a, now_us);
    else
        take_hello(r, a, &sender, now_us);
}

/* What was given comes with the next page. A refusal that matters is heard again at once by the
 * other lane: it begins anew. */
static void take_credits(struct replication *r, const struct transport_answer *a)
{
    int64_t now_us = stopwatch_us();
    struct peer_problem problem;
    struct uuid sender;
    bool again = a->err != ERR_OK;

    if (!again && a->status == 200)
        measure(r, a);
    if (!again && a->status != 200 && check_token(r, a, &sender, NULL) == ERR_OK &&
        peer_problem_decode(buf_text(a->body), a->body->length, &problem, NULL) == ERR_OK) {
        again = err_info(problem.err)->http == 503;
        if (problem.err == ERR_PEER_RETIRED && r->peer.task == PEER_DO_CHANGES) {
            transport_abort(r->transport, LANE_MAIN);
            peer_restart(&r->peer, now_us);
        }
    }
    peer_on_credits(&r->peer, now_us, draw(), again);
}

static void take_answers(struct replication *r)
{
    struct transport_answer answer;

    while (transport_next(r->transport, &answer)) {
        r->bytes_in += (uint64_t)answer.bytes;
        if (answer.lane == LANE_MAIN)
            take_main(r, &answer);
        else
            take_credits(r, &answer);
    }
    if (r->peer.task == PEER_DO_CHANGES && transport_receiving(r->transport, LANE_MAIN))
        peer_on_page_begun(&r->peer, stopwatch_us());
}

/* ---- the own ledger -------------------------------------------------------------------------- */

/* On the ledger thread. */
static void on_done(struct command *command)
{
    struct replication *r =
        (struct replication *)(void *)((char *)command - offsetof(struct replication, command));

    lock(r);
    r->inbox.done = true;
    transport_wake(r->transport); /* under the lock: the thread may end right after */
    unlock(r);
}

static void drop_page(struct replication *r)
{
    ledger_page_free(r->page);
    r->page = NULL;
}

static void tell_result(struct replication *r, const struct ledger_result *result)
{
    int64_t now_us = stopwatch_us();

    switch (r->command.event.kind) {
    case LEDGER_INTRODUCE:
        r->own = result->introduction;
        peer_on_introduced(&r->peer, now_us, draw(), result->err, &result->diag);
        break;
    case LEDGER_MEET:
        peer_on_judged(&r->peer, now_us, draw(), result->err, &result->diag,
                       result->introduction.cursor);
        break;
    case LEDGER_MERGE:
        peer_on_merged(&r->peer, now_us, draw(), result->err, &result->diag, r->page, result->wipe);
        if (r->peer.task != PEER_DO_MERGE)
            drop_page(r);
        break;
    default:
        peer_on_dismissed(&r->peer, now_us, draw(), result->err);
        break;
    }
}

/* The engine has answered. */
static void take_result(struct replication *r)
{
    r->command_out = false;
    if (!r->command_stale)
        tell_result(r, &r->command.result);
    else
        drop_page(r);
    r->command_stale = false;
    ledger_result_fini(&r->command.result);
    r->command.result = (struct ledger_result){ .err = ERR_OK };
}

static void submit(struct replication *r, const struct ledger_event *event)
{
    must(!r->command_out);
    r->command = (struct command){ .event = *event, .done = on_done };
    r->command_out = true;
    enum err e = engine_submit(r->conf.engine, &r->command);
    if (e == ERR_OK)
        return;
    r->command_out = false; /* not taken: the same as its answer */
    tell_result(r, &(struct ledger_result){ .err = e });
}

/* ---- one turn -------------------------------------------------------------------------------- */

static void begin_task(struct replication *r, enum peer_task task)
{
    switch (task) {
    case PEER_DO_HELLO:
        ask_hello(r);
        break;
    case PEER_DO_INTRODUCE:
        submit(r, &(struct ledger_event){ .kind = LEDGER_INTRODUCE });
        break;
    case PEER_DO_MEET:
        ask_meet(r);
        break;
    case PEER_DO_JUDGE:
        submit(r, &(struct ledger_event){ .kind = LEDGER_MEET, .meet.of = r->peer.theirs });
        break;
    case PEER_DO_CHANGES:
        ask_changes(r);
        break;
    case PEER_DO_MERGE:
        submit(r, &(struct ledger_event){ .kind = LEDGER_MERGE, .merge.page = r->page });
        break;
    case PEER_DO_DISMISS:
        submit(r, &(struct ledger_event){ .kind = LEDGER_DISMISSED,
                                          .dismissed.by = r->peer.peer_ref });
        break;
    case PEER_REST:
    case PEER_TASKS:
        break;
    }
}

/* R11: the node drew a new node_ref. What is under way was said under the old one. */
static void begin_anew(struct replication *r)
{
    for (enum lane lane = 0; lane < LANES; lane++) {
        if (lane == LANE_CREDITS && transport_busy(r->transport, lane))
            peer_on_credits(&r->peer, stopwatch_us(), draw(), false);
        transport_abort(r->transport, lane);
    }
    if (r->command_out)
        r->command_stale = true;
    else
        drop_page(r);
    r->self = r->engine.node_ref;
    peer_restart(&r->peer, stopwatch_us());
}

/* Begins what is to be begun; returns the stopwatch's time at which to look again. */
static int64_t begin_tasks(struct replication *r)
{
    struct peer_credits wanted;
    int64_t wake_us, credits_wake_us;
    enum peer_task task;

    if (uuid_is_nil(&r->engine.node_ref)) /* the database has never been read yet */
        return stopwatch_us() + ENGINE_LOOK_MS * 1000;
    if (!uuid_equal(&r->self, &r->engine.node_ref))
        begin_anew(r);
    if (r->command_out) /* a stale one is still with the engine, or the task is */
        wake_us = INT64_MAX;
    else
        while ((task = peer_next(&r->peer, stopwatch_us(), &wake_us)) != PEER_REST)
            begin_task(r, task);
    if (peer_next_credits(&r->peer, stopwatch_us(), &wanted, &credits_wake_us))
        ask_credits(r, &wanted);
    return wake_us < credits_wake_us ? wake_us : credits_wake_us;
}

static void log_state(struct replication *r)
{
    const struct peer *p = &r->peer;
    char ref[UUID_TEXT_SIZE];

    if (r->logged == p->state_changes)
        return;
    r->logged = p->state_changes;
    r->connected_since_ms = p->state == REPLICATION_CONNECTED ? wall_now().ms : 0;
    if (p->state == REPLICATION_CONNECTED)
        r->away_since_ms = 0;
    else if (!r->away_since_ms)
        r->away_since_ms = wall_now().ms;
    uuid_format(&p->peer_ref, ref);
    if (p->state == REPLICATION_CONNECTED)
        log_event_with(
            LOG_INFO, "peer_connected", LOG_FIELDS("peer", r->peer_address, "peer_ref", ref),
            "replicating with node %s at %s, protocol %" PRId64, ref, r->peer_address, p->protocol);
    else
        log_event_with(p->state == REPLICATION_AWAY ? LOG_WARNING : LOG_ERROR,
                       p->reason == ERR_PAGE_REFUSED  ? "page_refused"
                       : p->state == REPLICATION_AWAY ? "peer_away"
                                                      : "peer_refused",
                       LOG_FIELDS("peer", r->peer_address, "code", err_info(p->reason)->code), "%s",
                       p->diag.text);
}

static void publish(struct replication *r)
{
    const struct peer *p = &r->peer;
    struct replication_status s = {
        .state = p->state,
        .reason = p->reason,
        .diag = p->diag,
        .peer_ref = p->peer_ref,
        .peer_primary = p->peer_primary,
        .peer_ready = p->peer_ready,
        .protocol = p->protocol,
        .connected_since_ms = r->connected_since_ms,
        .away_since_ms = r->away_since_ms,
        .last_page_us = p->last_page_us,
        .round_trip_us = r->round_trip_us,
        .behind_since_us = p->behind_since_us,
        .peer_seq = p->peer_seq,
        .pages = p->pages,
        .rows = p->rows,
        .bytes_in = r->bytes_in,
        .refused = p->refused,
        .failures = p->failed,
    };

    log_state(r);
    s.connected_since_ms = r->connected_since_ms;
    s.away_since_ms = r->away_since_ms;
    snprintf(s.peer, sizeof s.peer, "%s", r->peer_address);
    snprintf(s.peer_url, sizeof s.peer_url, "%s", p->peer_url);
    lock(r);
    r->snapshot = s;
    unlock(r);
    bool connected = p->state == REPLICATION_CONNECTED;
    if (connected != r->connected_told) {
        r->connected_told = connected;
        engine_peer_connected(r->conf.engine, connected);
    }
    if (p->met && !r->met_told) {
        r->met_told = true;
        engine_met(r->conf.engine);
    }
}

/* Takes over what came from other threads; false: stop. */
static bool read_inbox(struct replication *r)
{
    struct inbox inbox;

    lock(r);
    inbox = r->inbox;
    r->inbox.nudged = r->inbox.done = false;
    r->inbox.want_count = 0;
    unlock(r);
    if (inbox.done)
        take_result(r);
    if (inbox.nudged)
        peer_nudge(&r->peer, stopwatch_us());
    for (size_t i = 0; i < inbox.want_count; i++)
        peer_want(&r->peer, stopwatch_us(), &inbox.wants[i].scope_ref, inbox.wants[i].count);
    return !inbox.stop;
}

static void *run(void *context)
{
    struct replication *r = context;
    bool going = true;

    while (going || r->command_out) {
        int64_t wake_us = INT64_MAX, left_ms;
        engine_status(r->conf.engine, &r->engine);
        if (going)
            wake_us = begin_tasks(r);
        publish(r);
        left_ms = wake_us == INT64_MAX ? REST_MAX_MS : (wake_us - stopwatch_us() + 999) / 1000;
        left_ms = left_ms < 0 ? 0 : left_ms > REST_MAX_MS ? REST_MAX_MS : left_ms;
        transport_run(r->transport, left_ms);
        going = read_inbox(r) && going;
        if (going)
            take_answers(r);
    }
    return NULL;
}

/* ---- from outside ---------------------------------------------------------------------------- */

static void replication_free(struct replication *r)
{
    transport_free(r->transport);
    drop_page(r);
    pthread_mutex_destroy(&r->lock);
    mem_free(r->peer_address);
    mem_free(r->own_url);
    mem_free(r->ca_file);
    mem_free(r);
}

static struct replication *replication_new(const struct replication_conf *conf)
{
    struct replication *r = mem_calloc(1, sizeof *r);

    r->conf = *conf;
    r->peer_address = mem_strdup(conf->peer);
    r->own_url = mem_strdup(conf->own_url);
    r->ca_file = mem_strdup(conf->ca_file);
    must(pthread_mutex_init(&r->lock, NULL) == 0);
    struct peer_conf peer = { .address = r->peer_address,
                              .primary = conf->primary,
                              .protocol = PEER_PROTOCOL,
                              .protocol_min = PEER_PROTOCOL_MIN };
    memcpy(peer.process, conf->process, sizeof peer.process);
    peer_init(&r->peer, &peer);
    return r;
}

enum err replication_start(const struct replication_conf *conf, struct replication **out,
                           struct diag *diag)
{
    struct replication *r = replication_new(conf);

    enum err e = transport_new(r->peer_address, r->ca_file, &r->transport, diag);
    if (e == ERR_OK) {
        r->away_since_ms = wall_now().ms;
        engine_peer_connected(conf->engine, false);
        publish(r);
        if (pthread_create(&r->thread, NULL, run, r) != 0)
            e = diag_set(diag, ERR_INTERNAL, "no thread can be started for replication");
    }
    if (e != ERR_OK) {
        replication_free(r);
        return e;
    }
    (void)pthread_setname_np(r->thread, "replication");
    *out = r;
    return ERR_OK;
}

struct replication *replication_stop(struct replication *r)
{
    if (!r)
        return NULL;
    lock(r);
    r->inbox.stop = true;
    unlock(r);
    transport_wake(r->transport);
    must(pthread_join(r->thread, NULL) == 0);
    replication_free(r);
    return NULL;
}

/* How far behind: since when something is known to be missing; without contact, since the last
 * time when nothing was. */
static int64_t lag_us(const struct replication_status *s, int64_t now_us)
{
    if (s->behind_since_us)
        return now_us - s->behind_since_us;
    return s->state != REPLICATION_CONNECTED && s->last_page_us ? now_us - s->last_page_us : 0;
}

void replication_status(struct replication *r, struct replication_status *out)
{
    lock(r);
    *out = r->snapshot;
    unlock(r);
    out->lag_us = lag_us(out, stopwatch_us());
}

static void add_want(struct inbox *inbox, const struct uuid *scope_ref, int64_t count)
{
    for (size_t i = 0; i < inbox->want_count; i++) {
        struct peer_credits *want = &inbox->wants[i];
        if (!uuid_equal(&want->scope_ref, scope_ref))
            continue;
        if (want->count < count)
            want->count = count;
        return;
    }
    if (inbox->want_count < PEER_WISHES_MAX) /* else that grant waits in vain, and is denied */
        inbox->wants[inbox->want_count++] =
            (struct peer_credits){ .scope_ref = *scope_ref, .count = count };
}

void replication_want(struct replication *r, const struct uuid *scope_ref, int64_t count)
{
    lock(r);
    add_want(&r->inbox, scope_ref, count);
    unlock(r);
    transport_wake(r->transport);
}

void replication_nudge(struct replication *r)
{
    lock(r);
    r->inbox.nudged = true;
    unlock(r);
    transport_wake(r->transport);
}
