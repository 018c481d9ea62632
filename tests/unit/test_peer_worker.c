/* The replication worker against a peer that a test plays, and an engine that a test plays: real
 * TLS, real tokens, real pages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#include "../data/keys.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "fake_peer.h"
#include "replication/peer.h"
#include "replication/replication.h"

#define PATIENCE_MS 15000 /* until a test that waits in vain fails */

static const struct uuid instance_uuid = { { 0xa } }, elsewhere = { { 0xb } };
static const struct uuid self = { { 1 } }, renamed = { { 2 } }, other = { { 3 } },
                         third = { { 4 } };
static const struct uuid scope = { { 5 } };
static const uint8_t our_process[PEER_NONCE_SIZE] = { 1, 1 };
static const uint8_t their_process[PEER_NONCE_SIZE] = { 2, 2 };

/* What the peer does to its answers of one purpose. */
enum trick {
    HONEST,
    UNSIGNED,
    SIGNED_TWICE,
    SIGNED_BY_ANOTHER_KEY,
    SIGNED_BY_ANOTHER_INSTANCE,
    SIGNED_BY_ANOTHER_NODE,
    FOR_ANOTHER_NODE,
    FOR_ANOTHER_REQUEST, /* replayed: the nonce of another one */
    FOR_ANOTHER_TARGET,
    FOR_ANOTHER_PURPOSE,
    OUR_OWN_REQUEST, /* our token, sent back to us */
    BODY_CHANGED,
    BODY_CUT,   /* the connection ends before the announced length */
    BODY_SHORT, /* the length fits, the last byte is gone */
    NO_HTTP,
    REDIRECTED,
    CLOSED,
    MALFORMED, /* well signed, no page */
    OF_ANOTHER_SENDER,
    FROM_ANOTHER_CURSOR,
    BOMB, /* gzip, more than any page may have */
    TRICKS
};

/* The world of one test. Guarded by its lock. */
static struct world {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct instance *ours, *stranger, *foreign;
    struct fake_authority *authority;
    struct fake_peer *peer;
    struct replication *replication;
    char ca_path[64];
    bool over;

    /* the peer */
    enum trick tricks[PEER_PURPOSES];
    enum err problems[PEER_PURPOSES]; /* ERR_OK: none */
    bool problem_signed, problem_introduced;
    bool gzip;
    bool same_role, same_ref, same_process, new_protocol;
    uint64_t seq; /* its change number: pages go up to there */
    uint8_t last_jti[PEER_NONCE_SIZE];
    unsigned asked[PEER_PURPOSES];
    unsigned wrong_requests; /* whose token does not hold */
    char target[512];        /* of the last request for changes */
    int changes_connection, credits_connection;
    int64_t wanted;
    struct uuid sender; /* who asked last */
    struct buf bomb;

    /* the engine */
    struct uuid node_ref;
    unsigned did[LEDGER_EVENTS], met, looked; /* looked: engine_status(), once a turn */
    enum err answers[LEDGER_EVENTS];          /* given once, then ERR_OK */
    bool refuse_commands;
    bool hold; /* keep commands of LEDGER_MERGE */
    struct command *held;
    uint64_t merged_upto;
    struct uuid dismissed_by;
    bool wipe;
} world;

static void lock_world(void)
{
    must(pthread_mutex_lock(&world.lock) == 0);
}

static void unlock_world(void)
{
    must(pthread_cond_broadcast(&world.changed) == 0);
    must(pthread_mutex_unlock(&world.lock) == 0);
}

/* Locked. Returns within a moment, when something changed or to look again. */
static void wait_a_moment(void)
{
    struct timespec until = deadline_after(10);

    (void)pthread_cond_timedwait(&world.changed, &world.lock, &until);
}

#define AWAIT(condition)                                                                           \
    do {                                                                                           \
        int64_t give_up_us = stopwatch_us() + PATIENCE_MS * 1000;                                  \
        lock_world();                                                                              \
        while (!(condition) && stopwatch_us() < give_up_us)                                        \
            wait_a_moment();                                                                       \
        bool came = (condition);                                                                   \
        unlock_world();                                                                            \
        if (!came)                                                                                 \
            fail_msg("waited in vain for " #condition);                                            \
    } while (0)

static struct replication_status status(void)
{
    struct replication_status s;

    replication_status(world.replication, &s);
    return s;
}

/* A copy; an assertion that fails must not leave the world locked. */
static struct world look(void)
{
    struct world copy;

    lock_world();
    copy = world;
    unlock_world();
    return copy;
}

/* ---- the engine ------------------------------------------------------------------------------ */

static void decide(struct command *c)
{
    enum err e = world.answers[c->event.kind];

    c->result = (struct ledger_result){ .err = e };
    if (e != ERR_OK)
        diag_set(&c->result.diag, e, "because of the test");
    world.answers[c->event.kind] = ERR_OK;
    if (c->event.kind == LEDGER_INTRODUCE)
        c->result.introduction = (struct node_introduction){ .node_ref = world.node_ref };
    if (c->event.kind == LEDGER_MEET)
        c->result.introduction.cursor = world.merged_upto;
    if (c->event.kind == LEDGER_DISMISSED)
        world.dismissed_by = c->event.dismissed.by;
    if (c->event.kind == LEDGER_MERGE && e == ERR_OK) {
        world.merged_upto = c->event.merge.page->upto;
        c->result.wipe = world.wipe;
        if (world.wipe)
            world.merged_upto = 0;
        world.wipe = false;
    }
}

enum err engine_submit(struct engine *engine, struct command *c)
{
    (void)engine;
    lock_world();
    bool refuse = world.refuse_commands, hold = world.hold && c->event.kind == LEDGER_MERGE;
    if (hold)
        world.held = c;
    else if (!refuse)
        decide(c);
    world.did[c->event.kind]++;
    unlock_world();
    if (refuse)
        return ERR_OVERLOADED;
    if (!hold)
        c->done(c);
    return ERR_OK;
}

static void release_held(void)
{
    lock_world();
    struct command *c = world.held;
    world.held = NULL;
    world.hold = false;
    decide(c);
    unlock_world();
    c->done(c);
}

void engine_status(struct engine *engine, struct engine_status *out)
{
    (void)engine;
    lock_world();
    *out = (struct engine_status){ .state = ENGINE_READY,
                                   .node_ref = world.node_ref,
                                   .next_due_ms = INT64_MAX };
    world.looked++;
    unlock_world();
}

void engine_peer_connected(struct engine *engine, bool connected)
{
    (void)engine;
    (void)connected;
}

void engine_met(struct engine *engine)
{
    (void)engine;
    lock_world();
    world.met++;
    unlock_world();
}

void ledger_result_fini(struct ledger_result *result)
{
    *result = (struct ledger_result){ .err = ERR_OK };
}

/* ---- the peer's answers ---------------------------------------------------------------------- */

static void write_hello(struct buf *body)
{
    struct peer_hello hello = {
        .protocol = world.new_protocol ? PEER_PROTOCOL + 2 : PEER_PROTOCOL,
        .protocol_min = world.new_protocol ? PEER_PROTOCOL + 1 : PEER_PROTOCOL_MIN,
        .primary = world.same_role,
        .wall_ms = wall_now().ms + 3600000, /* its clock is an hour ahead: no matter (R1) */
        .url = "https://other.example:8443",
        .introduction = { .node_ref = world.same_ref ? world.node_ref : other, .seq = world.seq },
    };

    memcpy(hello.nonce, their_process, sizeof hello.nonce);
    memcpy(hello.process, world.same_process ? our_process : their_process, sizeof hello.process);
    peer_hello_encode(&hello, body);
}

static void write_page(const struct peer_claims *asked, enum trick trick, struct buf *body)
{
    struct lease_row lease = { .lease_ref = third,
                               .home = other,
                               .origin_ref = third,
                               .scope_ref = scope,
                               .count = 1,
                               .duration_ms = 1000 };
    struct ledger_page page = { .sender = trick == OF_ANOTHER_SENDER ? third : other,
                                .receiver = asked->sender,
                                .refilled = true,
                                .complete = true,
                                .leases = &lease,
                                .lease_count = 1 };
    unsigned long long since = strtoull(strstr(asked->target, "since=") + 6, NULL, 10);

    page.since = since + (trick == FROM_ANOTHER_CURSOR);
    page.upto = world.seq > page.since ? world.seq : page.since;
    page_encode(&page, PEER_PROTOCOL, body);
    if (trick == MALFORMED)
        body->bytes[body->length - 1] = ']';
}

static void gzip_body(struct buf *body)
{
    AUTO(buf_fini) struct buf out = { .max = 64u << 20 };
    z_stream z = { .next_in = (Bytef *)body->bytes, .avail_in = (uInt)body->length };

    must(deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    size_t room = deflateBound(&z, body->length);
    z.next_out = (Bytef *)buf_reserve(&out, room);
    z.avail_out = (uInt)room;
    must(deflate(&z, Z_FINISH) == Z_STREAM_END);
    out.length = z.total_out;
    deflateEnd(&z);
    buf_clear(body);
    buf_append(body, out.bytes, out.length);
}

/* One byte more than a page may have, compressed; made once. */
static void write_bomb(struct buf *body)
{
    if (!world.bomb.length) {
        buf_init(&world.bomb, 64u << 20);
        memset(buf_reserve(&world.bomb, PEER_BODY_MAX + 1), ' ', PEER_BODY_MAX + 1);
        world.bomb.length = PEER_BODY_MAX + 1;
        gzip_body(&world.bomb);
    }
    buf_clear(body);
    buf_append(body, world.bomb.bytes, world.bomb.length);
}

static void sign(const struct peer_claims *asked, enum trick trick, const struct buf *body,
                 struct buf *token)
{
    struct peer_claims claims = { .purpose = asked->purpose,
                                  .answer = true,
                                  .sender = trick == SIGNED_BY_ANOTHER_NODE ? third
                                            : world.same_ref                ? world.node_ref
                                                                            : other,
                                  .receiver = trick == FOR_ANOTHER_NODE ? third : asked->sender,
                                  .expires_ms = wall_now().ms + 60000 };
    const struct instance *signer = trick == SIGNED_BY_ANOTHER_KEY        ? world.stranger
                                    : trick == SIGNED_BY_ANOTHER_INSTANCE ? world.foreign
                                                                          : world.ours;

    memcpy(claims.nonce, trick == FOR_ANOTHER_REQUEST ? world.last_jti : asked->jti,
           sizeof claims.nonce);
    random_bytes(claims.jti, sizeof claims.jti);
    snprintf(claims.target, sizeof claims.target, "%s",
             trick == FOR_ANOTHER_TARGET ? "/-/ha/changes?since=0" : asked->target);
    if (trick == FOR_ANOTHER_PURPOSE)
        claims.purpose = PEER_CREDITS;
    sha256(buf_text(body), body->length, claims.body_sha256);
    must(peer_token_sign(signer, &claims, token) == ERR_OK);
}

static void write_head(struct buf *out, int code, size_t length, const char *token, int tokens,
                       bool gzip)
{
    buf_format(out, "HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n",
               code, length);
    while (tokens--)
        buf_format(out, "Twinlease-Peer:  %s \r\n", token);
    if (code == 302)
        buf_format(out, "location: https://%s/-/ha/hello\r\n", fake_peer_address(world.peer));
    buf_text_append(out, gzip ? "content-encoding: gzip\r\n\r\n" : "\r\n");
}

/* Puts the answer together, with what is wrong about it. */
static bool respond(const struct fake_call *call, const struct peer_claims *asked, int code,
                    bool is_signed, struct buf *body, struct buf *out)
{
    AUTO(buf_fini) struct buf token = { .max = JWS_MAX };
    enum trick trick = world.tricks[asked->purpose];
    bool gzip = (world.gzip && asked->purpose == PEER_CHANGES) || trick == BOMB;

    sign(asked, trick, body, &token);
    if (trick == OUR_OWN_REQUEST)
        buf_clear(&token), buf_text_append(&token, call->token);
    if (trick == BODY_CHANGED)
        body->bytes[1]++;
    if (trick == BODY_SHORT)
        body->length--;
    if (trick == BOMB)
        write_bomb(body);
    else if (gzip)
        gzip_body(body);
    if (trick == NO_HTTP) {
        buf_text_append(out, "220 this is no node\r\n");
        return false;
    }
    if (trick == CLOSED)
        return false;
    write_head(out, trick == REDIRECTED ? 302 : code, body->length, buf_text(&token),
               !is_signed || trick == UNSIGNED ? 0
               : trick == SIGNED_TWICE         ? 2
                                               : 1,
               gzip);
    buf_append(out, body->bytes, body->length - (trick == BODY_CUT));
    return trick != BODY_CUT;
}

static void write_problem(const struct peer_claims *asked, struct buf *body)
{
    enum err e = world.problems[asked->purpose];

    buf_format(body, "{\"title\":\"%s\",\"detail\":\"told by the test\",\"code\":\"%s\"",
               err_info(e)->title, err_info(e)->code);
    if (world.problem_introduced) {
        buf_text_append(body, ",\"hello\":");
        write_hello(body);
    }
    buf_text_append(body, "}");
}

/* The server's side of every token rule: what the worker sends must hold. */
static bool request_right(const struct fake_call *call, struct peer_claims *claims)
{
    struct diag diag = { "" };
    struct peer_expected expected = { .receiver = other,
                                      .target = call->target,
                                      .body = call->body.bytes,
                                      .body_size = call->body.length,
                                      .now_ms = wall_now().ms + 3600000 };

    enum err e = peer_token_verify(world.ours, call->token, strlen(call->token), claims, &diag);
    if (e == ERR_OK) {
        expected.purpose = claims->purpose;
        expected.nonce = claims->purpose == PEER_HELLO ? NULL : their_process;
        if (claims->purpose == PEER_HELLO)
            expected.now_ms = wall_now().ms;
        e = peer_claims_judge(claims, &expected, &diag);
    }
    if (e != ERR_OK)
        print_message("a wrong request: %s: %s\n", call->target, diag.text);
    return e == ERR_OK && uuid_equal(&claims->sender, &world.node_ref);
}

static void note(const struct fake_call *call, const struct peer_claims *asked)
{
    struct peer_credits wanted;
    struct diag diag;

    world.sender = asked->sender;
    world.asked[asked->purpose]++;
    if (asked->purpose == PEER_CHANGES) {
        snprintf(world.target, sizeof world.target, "%s", call->target);
        world.changes_connection = call->connection;
    }
    if (asked->purpose == PEER_CREDITS &&
        peer_credits_decode(call->body.bytes, call->body.length, &wanted, &diag) == ERR_OK) {
        world.wanted = wanted.count;
        world.credits_connection = call->connection;
    }
}

/* A long poll: until there is something to tell, or something is to be done to it. */
static void wait_for_news(const struct peer_claims *asked, const char *target)
{
    unsigned long long since = strtoull(strstr(target, "since=") + 6, NULL, 10);

    if (strstr(target, "wait_ms=0"))
        return;
    while (!world.over && world.seq <= since && world.tricks[PEER_CHANGES] == HONEST &&
           world.problems[PEER_CHANGES] == ERR_OK && uuid_equal(&world.node_ref, &asked->sender))
        wait_a_moment();
}

static void write_body(const struct peer_claims *asked, struct buf *body)
{
    if (world.problems[asked->purpose] != ERR_OK)
        write_problem(asked, body);
    else if (asked->purpose == PEER_CHANGES)
        write_page(asked, world.tricks[PEER_CHANGES], body);
    else if (asked->purpose == PEER_CREDITS)
        peer_credits_encode(&(struct peer_credits){ .scope_ref = scope, .count = 1 }, body);
    else
        write_hello(body);
}

static bool answer(void *context, const struct fake_call *call, struct buf *out)
{
    AUTO(buf_fini) struct buf body = { .max = 64u << 20 };
    struct peer_claims asked = { .purpose = PEER_HELLO };
    bool going;

    (void)context;
    lock_world();
    if (!request_right(call, &asked)) {
        world.wrong_requests++;
        unlock_world();
        return false;
    }
    note(call, &asked);
    if (asked.purpose == PEER_CHANGES)
        wait_for_news(&asked, call->target);
    write_body(&asked, &body);
    enum err e = world.problems[asked.purpose];
    going = respond(call, &asked, e == ERR_OK ? 200 : err_info(e)->http,
                    e == ERR_OK || world.problem_signed, &body, out);
    memcpy(world.last_jti, asked.jti, sizeof world.last_jti);
    unlock_world();
    return going;
}

/* ---- each test ------------------------------------------------------------------------------- */

static struct key *parse_key(const char *pem)
{
    struct key *key = NULL;

    must(key_parse_private(pem, strlen(pem), &key, NULL) == ERR_OK);
    return key;
}

static enum err open_none(void *context, const char *text, struct entitlement **out,
                          struct diag *diag)
{
    (void)context, (void)text, (void)out;
    return diag_set(diag, ERR_ENT_UNTRUSTED, "no publisher is trusted in this test");
}

static int set_up(void **state)
{
    pthread_condattr_t monotonic;

    (void)state;
    world = (struct world){ .node_ref = self, .seq = 7 };
    must(pthread_mutex_init(&world.lock, NULL) == 0);
    must(pthread_condattr_init(&monotonic) == 0);
    must(pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) == 0);
    must(pthread_cond_init(&world.changed, &monotonic) == 0);
    world.ours = instance_new(&instance_uuid, parse_key(fixed_ec));
    world.stranger = instance_new(&instance_uuid, key_generate(KEY_EC_P256));
    world.foreign = instance_new(&elsewhere, parse_key(fixed_ec));
    world.authority = fake_authority_new("IP:127.0.0.1");
    snprintf(world.ca_path, sizeof world.ca_path, "/tmp/test_peer_worker.XXXXXX");
    close(mkstemp(world.ca_path));
    fake_authority_write(world.authority, world.ca_path);
    world.peer = fake_peer_start(world.authority, answer, NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    lock_world();
    world.over = true;
    unlock_world();
    world.replication = replication_stop(world.replication);
    fake_peer_stop(world.peer);
    fake_authority_free(world.authority);
    unlink(world.ca_path);
    buf_fini(&world.bomb);
    world.ours = instance_free(world.ours);
    world.stranger = instance_free(world.stranger);
    world.foreign = instance_free(world.foreign);
    pthread_cond_destroy(&world.changed);
    pthread_mutex_destroy(&world.lock);
    return 0;
}

static void start_at(const char *address)
{
    struct diag diag = { "" };

    assert_int_equal(replication_start(&(struct replication_conf){ .peer = address,
                                                                   .own_url = "https://us.example",
                                                                   .ca_file = world.ca_path,
                                                                   .primary = true,
                                                                   .instance = world.ours,
                                                                   .entitlement_open = open_none,
                                                                   .process = our_process },
                                       &world.replication, &diag),
                     ERR_OK);
}

static void start(void)
{
    start_at(fake_peer_address(world.peer));
}

static void connect_both(void)
{
    start();
    AWAIT(status().state == REPLICATION_CONNECTED);
}

static void set_seq(uint64_t seq)
{
    lock_world();
    world.seq = seq;
    unlock_world();
}

static void expect_refused(enum err reason, const char *says)
{
    AWAIT(status().state == REPLICATION_REFUSED);
    struct replication_status s = status();
    assert_int_equal(s.reason, reason);
    if (!strstr(s.diag.text, says))
        fail_msg("\"%s\" does not say \"%s\"", s.diag.text, says);
}

/* ---- the happy path -------------------------------------------------------------------------- */

static void changes_are_merged(void **state)
{
    (void)state;
    start();
    AWAIT(status().state == REPLICATION_CONNECTED);
    AWAIT(world.asked[PEER_CHANGES] == 2);
    struct replication_status s = status();
    assert_true(uuid_equal(&s.peer_ref, &other));
    assert_false(s.peer_primary);
    assert_string_equal(s.peer_url, "https://other.example:8443");
    assert_string_equal(s.peer, fake_peer_address(world.peer));
    assert_true(s.peer_ready && s.protocol == PEER_PROTOCOL && s.peer_seq == 7);
    assert_true(s.pages == 1 && s.rows == 1 && s.refused == 0 && s.failures == 0);
    assert_true(s.bytes_in > 500 && s.round_trip_us > 0 && s.lag_us == 0);
    assert_true(s.connected_since_ms > 0 && s.away_since_ms == 0 && s.last_page_us > 0);
    AWAIT(world.met == 1);
    set_seq(9); /* the long poll returns at once */
    AWAIT(world.merged_upto == 9);
    AWAIT(world.asked[PEER_CHANGES] == 3);
    struct world seen = look();
    assert_string_equal(seen.target, "/-/ha/changes?since=9&limit=5000&wait_ms=6000");
    assert_int_equal(seen.asked[PEER_HELLO], 1);
    assert_int_equal(seen.asked[PEER_MEET], 1);
    assert_int_equal(seen.changes_connection, 1); /* one connection for all of it */
    assert_int_equal(seen.wrong_requests, 0);
}

static void compressed_pages_are_merged(void **state)
{
    (void)state;
    world.gzip = true;
    start();
    AWAIT(world.merged_upto == 7);
}

/* R12: not behind the long poll, and on a connection of their own. */
static void credits_are_asked_for_beside_the_poll(void **state)
{
    (void)state;
    connect_both();
    AWAIT(world.asked[PEER_CHANGES] == 2); /* kept waiting */
    replication_want(world.replication, &scope, 3);
    AWAIT(world.asked[PEER_CREDITS] == 1);
    struct world seen = look();
    assert_int_equal(seen.wanted, 3);
    assert_int_not_equal(seen.credits_connection, seen.changes_connection);
    assert_int_equal(seen.asked[PEER_CHANGES], 2);
    replication_want(world.replication, &scope, 4);
    AWAIT(world.asked[PEER_CREDITS] == 2);
    seen = look();
    assert_int_equal(seen.credits_connection, 2); /* kept open */
    assert_int_equal(seen.wrong_requests, 0);
}

static void refused_credits_are_not_asked_for_for_ever(void **state)
{
    (void)state;
    connect_both();
    lock_world();
    world.problems[PEER_CREDITS] = ERR_NO_FREE_SEAT;
    world.problem_signed = true;
    unlock_world();
    replication_want(world.replication, &scope, 3);
    AWAIT(world.asked[PEER_CREDITS] == 1);
    lock_world();
    world.problems[PEER_CREDITS] = ERR_OVERLOADED; /* this one may be asked again */
    unlock_world();
    replication_want(world.replication, &scope, 4);
    AWAIT(world.asked[PEER_CREDITS] >= 3);
    assert_int_equal(status().state, REPLICATION_CONNECTED);
}

/* ---- answers that must not count ------------------------------------------------------------- */

/* Whatever is wrong with a page, nothing of it is merged; once it is right, it is. */
static void no_wrong_page_is_merged(void **state)
{
    (void)state;
    for (enum trick trick = HONEST + 1; trick < TRICKS; trick++) {
        lock_world();
        world.tricks[PEER_CHANGES] = trick;
        uint64_t seq = ++world.seq;
        unsigned asked = world.asked[PEER_CHANGES];
        unlock_world();
        if (!world.replication)
            start();
        AWAIT(world.asked[PEER_CHANGES] >= asked + 2); /* so one was answered at least */
        AWAIT(status().state != REPLICATION_CONNECTED && status().diag.text[0]);
        lock_world();
        bool merged = world.merged_upto >= seq;
        world.tricks[PEER_CHANGES] = HONEST;
        unlock_world();
        if (merged)
            fail_msg("a page was merged that was wrong in way %u", trick);
        AWAIT(world.merged_upto == seq);
        AWAIT(status().state == REPLICATION_CONNECTED);
    }
    assert_true(status().refused >= 3); /* MALFORMED, OF_ANOTHER_SENDER, FROM_ANOTHER_CURSOR */
    assert_int_equal(look().wrong_requests, 0);
}

static void no_wrong_introduction_is_believed(void **state)
{
    (void)state;
    for (enum trick trick = HONEST + 1; trick < MALFORMED; trick++) {
        lock_world();
        world.tricks[PEER_HELLO] = trick;
        unsigned asked = world.asked[PEER_HELLO];
        unlock_world();
        start(); /* anew each time: pauses stay short */
        AWAIT(world.asked[PEER_HELLO] >= asked + 2);
        world.replication = replication_stop(world.replication);
        struct world seen = look();
        if (seen.did[LEDGER_MEET] || seen.asked[PEER_MEET])
            fail_msg("an introduction was believed that was wrong in way %u", trick);
    }
    lock_world();
    world.tricks[PEER_HELLO] = HONEST;
    unlock_world();
    connect_both();
}

static void a_bomb_is_not_unpacked(void **state)
{
    (void)state;
    world.tricks[PEER_CHANGES] = BOMB;
    start();
    AWAIT(strstr(world.target, "limit=1&")); /* asks for less and less */
    AWAIT(status().state != REPLICATION_CONNECTED && strstr(status().diag.text, "bytes"));
}

/* ---- wrong pairings -------------------------------------------------------------------------- */

static void pairings_that_must_not_be(void **state)
{
    (void)state;
    static const struct {
        bool *knob;
        enum err reason;
        const char *says;
    } cases[] = {
        { &world.same_role, ERR_PEER_ROLE, "both nodes have HA_ROLE=PRIMARY" },
        { &world.same_process, ERR_PEER_SELF, "leads back to this node" },
        { &world.same_ref, ERR_PEER_SELF, "one database is a copy of the other" },
        { &world.new_protocol, ERR_PEER_PROTOCOL, "upgrade the older one" },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        lock_world();
        *cases[i].knob = true;
        unlock_world();
        start();
        expect_refused(cases[i].reason, cases[i].says);
        assert_int_equal(look().asked[PEER_MEET], i); /* none but those of the cases before */
        AWAIT(world.met == i + 1);
        lock_world();
        *cases[i].knob = false;
        unlock_world();
        AWAIT(status().state == REPLICATION_CONNECTED); /* the fix is found without a restart */
        world.replication = replication_stop(world.replication);
    }
}

static void another_instance(void **state)
{
    (void)state;
    world.tricks[PEER_HELLO] = SIGNED_BY_ANOTHER_KEY;
    start();
    expect_refused(ERR_PEER_INSTANCE, "INSTANCE_KEY_RSA");
    lock_world();
    world.tricks[PEER_HELLO] = HONEST;
    world.problems[PEER_HELLO] = ERR_TOKEN_INVALID; /* the other way round */
    unlock_world();
    AWAIT(strstr(status().diag.text, "told by the test"));
    expect_refused(ERR_PEER_INSTANCE, "INSTANCE_KEY_RSA");
}

static void certificates_are_verified(void **state)
{
    (void)state;
    struct fake_authority *misnamed = fake_authority_new("DNS:other.example");
    struct fake_peer *impostor = fake_peer_start(misnamed, answer, NULL);

    start_at(fake_peer_address(impostor)); /* of another CA */
    expect_refused(ERR_TLS, "TLS_CA=");
    world.replication = replication_stop(world.replication);
    fake_authority_write(misnamed, world.ca_path);
    start_at(fake_peer_address(impostor)); /* of this one, for another host */
    expect_refused(ERR_TLS, "name that host");
    assert_int_equal(look().asked[PEER_HELLO] + look().wrong_requests, 0); /* it was told nothing */
    assert_int_equal(look().met, 0);
    world.replication = replication_stop(world.replication);
    fake_peer_stop(impostor);
    fake_authority_free(misnamed);
}

static void a_new_ca_is_read_without_a_restart(void **state)
{
    (void)state;
    struct fake_authority *unknown = fake_authority_new("IP:127.0.0.1");

    fake_authority_write(unknown, world.ca_path);
    start();
    expect_refused(ERR_TLS, "TLS_CA=");
    fake_authority_write(world.authority, world.ca_path);
    AWAIT(status().state == REPLICATION_CONNECTED);
    fake_authority_free(unknown);
}

/* ---- nobody there ---------------------------------------------------------------------------- */

static void a_closed_port_is_known_at_once(void **state)
{
    (void)state;
    struct fake_peer *gone = fake_peer_start(world.authority, answer, NULL);
    char address[64];

    snprintf(address, sizeof address, "%s", fake_peer_address(gone));
    fake_peer_stop(gone);
    start_at(address);
    AWAIT(world.met == 1); /* R11 */
    struct replication_status s = status();
    assert_int_equal(s.state, REPLICATION_AWAY);
    assert_int_equal(s.reason, ERR_PEER_AWAY);
    assert_true(s.away_since_ms > 0 && s.last_page_us == 0 && s.lag_us == 0);
    AWAIT(status().failures >= 3); /* goes on trying */
}

static void a_mute_host_is_given_up_within_seconds(void **state)
{
    (void)state;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in where = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof where;
    char address[64];

    assert_int_equal(bind(listener, (struct sockaddr *)&where, size), 0);
    assert_int_equal(listen(listener, 8), 0); /* the kernel accepts, nobody ever speaks */
    assert_int_equal(getsockname(listener, (struct sockaddr *)&where, &size), 0);
    snprintf(address, sizeof address, "127.0.0.1:%d", ntohs(where.sin_port));
    int64_t begin_us = stopwatch_us();
    start_at(address);
    AWAIT(status().state == REPLICATION_AWAY);
    assert_in_range(stopwatch_us() - begin_us, 900000, 4000000);
    assert_int_equal(look().met, 0); /* somebody might be there who knows more (R11) */
    world.replication = replication_stop(world.replication);
    close(listener);
}

static void a_cut_connection_is_made_anew(void **state)
{
    (void)state;
    connect_both();
    AWAIT(world.asked[PEER_CHANGES] == 2);
    fake_peer_cut(world.peer);
    set_seq(12);
    AWAIT(world.merged_upto == 12);
    AWAIT(status().state == REPLICATION_CONNECTED);
    assert_true(look().changes_connection > 1);
}

static void an_address_must_be_host_and_port(void **state)
{
    (void)state;
    static const char *const bad[] = { "",      "host",  "host:", ":443",
                                       "a b:1", "u@h:1", "h/x:1", "h?:1" };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct replication *none = NULL;
        struct diag diag = { "" };
        assert_int_equal(replication_start(&(struct replication_conf){ .peer = bad[i],
                                                                       .own_url = "https://u",
                                                                       .ca_file = world.ca_path,
                                                                       .instance = world.ours,
                                                                       .process = our_process },
                                           &none, &diag),
                         ERR_CONFIG);
        assert_null(none);
        assert_non_null(strstr(diag.text, "HA_REPLICATE="));
    }
}

/* ---- the own ledger -------------------------------------------------------------------------- */

static void a_busy_engine_gets_the_page_again(void **state)
{
    (void)state;
    world.answers[LEDGER_MERGE] = ERR_STORE_AWAY;
    start();
    AWAIT(world.merged_upto == 7);
    assert_int_equal(look().did[LEDGER_MERGE], 2);
    assert_int_equal(look().asked[PEER_HELLO], 1); /* the page was kept */
    lock_world();
    world.refuse_commands = true; /* its queue is full */
    world.seq = 8;
    unlock_world();
    AWAIT(world.did[LEDGER_MERGE] >= 5);
    assert_true(look().merged_upto == 7);
    lock_world();
    world.refuse_commands = false;
    unlock_world();
    AWAIT(world.merged_upto == 8);
}

static void a_page_that_the_ledger_refuses(void **state)
{
    (void)state;
    world.answers[LEDGER_MERGE] = ERR_PAGE_REFUSED;
    start();
    AWAIT(status().refused == 1);
    AWAIT(status().state == REPLICATION_CONNECTED); /* the next one was good */
    assert_int_equal(look().merged_upto, 7);
    assert_int_equal(status().refused, 1);
}

/* R11: the ledger starts anew, so everything is fetched from the beginning. */
static void a_wiped_ledger_is_refilled(void **state)
{
    (void)state;
    world.wipe = true;
    start();
    AWAIT(world.did[LEDGER_MERGE] == 2);
    AWAIT(world.merged_upto == 7);
    AWAIT(status().state == REPLICATION_CONNECTED);
    assert_int_equal(look().asked[PEER_MEET], 2);
}

/* R11: the conversation begins again under the new name; what was under way is dropped. */
static void a_new_node_ref_says_hello(void **state)
{
    (void)state;
    connect_both();
    AWAIT(world.asked[PEER_CHANGES] == 2);
    lock_world();
    world.hold = true;
    world.seq = 20;
    unlock_world();
    AWAIT(world.held);
    lock_world();
    world.node_ref = renamed;
    unsigned looked = world.looked;
    unlock_world();
    replication_nudge(world.replication); /* another turn */
    AWAIT(world.looked >= looked + 2);    /* so the first of them is over */
    release_held();                       /* a result for the old one */
    AWAIT(uuid_equal(&world.sender, &renamed));
    AWAIT(world.asked[PEER_MEET] == 2);
    AWAIT(status().state == REPLICATION_CONNECTED);
    assert_int_equal(look().wrong_requests, 0);
}

static void an_engine_that_has_read_nothing_is_waited_for(void **state)
{
    (void)state;
    world.node_ref = (struct uuid){ { 0 } };
    start();
    AWAIT(status().state == REPLICATION_CONNECTING);
    lock_world();
    world.node_ref = self;
    unlock_world();
    AWAIT(status().state == REPLICATION_CONNECTED);
}

/* The engine still has a command: it is waited for, not taken away. */
static void *stop_replication(void *context)
{
    (void)context;
    replication_stop(world.replication);
    lock_world();
    world.replication = NULL;
    unlock_world();
    return NULL;
}

static void stopping_waits_for_the_engine(void **state)
{
    (void)state;
    pthread_t stopper;

    world.hold = true;
    start();
    AWAIT(world.held);
    assert_int_equal(pthread_create(&stopper, NULL, stop_replication, NULL), 0);
    lock_world();
    wait_a_moment(); /* it may take longer than that, but not end */
    unlock_world();
    assert_non_null(look().replication);
    release_held();
    assert_int_equal(pthread_join(stopper, NULL), 0);
    assert_null(look().replication);
}

/* ---- retirement ------------------------------------------------------------------------------ */

static void a_signed_dismissal_reaches_the_ledger(void **state)
{
    (void)state;
    connect_both();
    lock_world();
    world.problems[PEER_CHANGES] = ERR_PEER_RETIRED;
    world.problem_signed = true;
    unlock_world();
    AWAIT(world.did[LEDGER_DISMISSED] == 1);
    struct world seen = look();
    assert_memory_equal(&seen.dismissed_by, &other, sizeof other);
    expect_refused(ERR_NODE_RETIRED, "R10");
}

static void an_unsigned_dismissal_does_not(void **state)
{
    (void)state;
    connect_both();
    lock_world();
    world.problems[PEER_CHANGES] = ERR_PEER_RETIRED;
    unsigned asked = world.asked[PEER_CHANGES];
    unlock_world();
    AWAIT(world.asked[PEER_CHANGES] >= asked + 2);
    assert_int_equal(look().did[LEDGER_DISMISSED], 0);
}

static void a_dismissal_heard_while_asking_for_credits(void **state)
{
    (void)state;
    connect_both();
    AWAIT(world.asked[PEER_CHANGES] == 2);
    lock_world();
    world.problems[PEER_CREDITS] = world.problems[PEER_MEET] = ERR_PEER_RETIRED;
    world.problem_signed = true;
    unlock_world();
    replication_want(world.replication, &scope, 1);
    AWAIT(world.did[LEDGER_DISMISSED] == 1);
}

/* R11: what a peer that refuses says of us is shown to the ledger first. */
static void a_refusal_with_an_introduction_is_judged(void **state)
{
    (void)state;
    world.problems[PEER_MEET] = ERR_PEER_UNKNOWN;
    world.problem_signed = world.problem_introduced = true;
    start();
    AWAIT(world.did[LEDGER_MEET] >= 1);
    expect_refused(ERR_PEER_UNKNOWN, "told by the test");
}

/* ---- the clock of the wire ------------------------------------------------------------------- */

static void a_restarted_peer_is_greeted_without_a_pause(void **state)
{
    (void)state;
    connect_both();
    AWAIT(world.asked[PEER_CHANGES] == 2);
    lock_world();
    world.problems[PEER_CHANGES] = ERR_TOKEN_EXPIRED; /* our nonce is of its former process */
    unlock_world();
    AWAIT(world.asked[PEER_HELLO] == 2);
    lock_world();
    world.problems[PEER_CHANGES] = ERR_OK;
    world.seq = 15;
    unlock_world();
    AWAIT(world.merged_upto == 15);
}

static void a_nudge_ends_a_pause(void **state)
{
    (void)state;
    world.problems[PEER_HELLO] = ERR_NOT_READY;
    start();
    AWAIT(world.asked[PEER_HELLO] >= 4); /* by now the pauses are longer */
    lock_world();
    world.problems[PEER_HELLO] = ERR_OK;
    unlock_world();
    replication_nudge(world.replication);
    AWAIT(status().state == REPLICATION_CONNECTED);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(changes_are_merged),
        CASE(compressed_pages_are_merged),
        CASE(credits_are_asked_for_beside_the_poll),
        CASE(refused_credits_are_not_asked_for_for_ever),
        CASE(no_wrong_page_is_merged),
        CASE(no_wrong_introduction_is_believed),
        CASE(a_bomb_is_not_unpacked),
        CASE(pairings_that_must_not_be),
        CASE(another_instance),
        CASE(certificates_are_verified),
        CASE(a_new_ca_is_read_without_a_restart),
        CASE(a_closed_port_is_known_at_once),
        CASE(a_mute_host_is_given_up_within_seconds),
        CASE(a_cut_connection_is_made_anew),
        CASE(an_address_must_be_host_and_port),
        CASE(a_busy_engine_gets_the_page_again),
        CASE(a_page_that_the_ledger_refuses),
        CASE(a_wiped_ledger_is_refilled),
        CASE(a_new_node_ref_says_hello),
        CASE(an_engine_that_has_read_nothing_is_waited_for),
        CASE(stopping_waits_for_the_engine),
        CASE(a_signed_dismissal_reaches_the_ledger),
        CASE(an_unsigned_dismissal_does_not),
        CASE(a_dismissal_heard_while_asking_for_credits),
        CASE(a_refusal_with_an_introduction_is_judged),
        CASE(a_restarted_peer_is_greeted_without_a_pause),
        CASE(a_nudge_ends_a_pause),
    };
    log_init(LOG_FORMAT_JSON, LOG_ERROR);
    return cmocka_run_group_tests_name("peer worker", tests, NULL, NULL);
}
