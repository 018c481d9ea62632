/* What the other node asks of this one (replication/wire.h): who it is, changes, credits.
 *
 * Happy path: GET hello (our nonce and time) → POST hello (introduction against introduction) → GET
 * changes again and again, each waiting in the engine until there is something to tell; in between
 * POST credits.
 *
 * Every request names sender, receiver, purpose and target in a token signed with the instance key,
 * answers this process's nonce, and has the hash of its body; so does every answer, refusals too,
 * because "you were retired" (R10) must be believed.
 *
 * A page may have thousands of rows: it is written, compressed and signed on a thread of its own.
 */
#define ZLIB_CONST
#include <inttypes.h>
#include <string.h>
#include <zlib.h>

#include "base/random.h"
#include "http/handlers.h"
#include "http/problem.h"
#include "http/reply.h"
#include "http/server.h"
#include "replication/wire.h"

#define TOKEN_SLACK_MS   1000 /* a token's end is rounded to seconds */
#define ROWS_INLINE_MAX  32   /* a page of fewer rows is written on the event loop: < 0.2 ms */
#define COMPRESS_MIN     1024 /* bytes of a body worth compressing */
#define GZIP_WINDOW_BITS (15 + 16)
#define GZIP_LEVEL       1
#define HEAD_BYTES       1200 /* of an answer's head with its token, for the count of bytes */

/* ---- who speaks -------------------------------------------------------------------------------
 */

static enum peer_purpose purpose_of(const struct route *route)
{
    if (route->handle == peer_said_hello)
        return PEER_HELLO;
    if (route->handle == peer_meets)
        return PEER_MEET;
    return route->handle == peer_fetches ? PEER_CHANGES : PEER_CREDITS;
}

static struct uuid own_ref(const struct request *r)
{
    struct engine_status status;

    engine_status(r->services->engine, &status);
    return status.node_ref;
}

/* The token speaks of this request, of this run of this node, and of no other. A hello cannot know
 * our nonce and time yet, and changes nothing. Which node this is may change while it runs (R11).
 */
static enum err check_token(struct request *r, const struct peer_claims *claims)
{
    const h2o_req_t *req = exchange_of(r)->req;
    enum peer_purpose purpose = purpose_of(r->route);
    bool fresh = purpose != PEER_HELLO;
    struct peer_expected expected = {
        .purpose = purpose,
        .receiver = own_ref(r),
        .nonce = fresh ? r->services->process : NULL,
        .target = request_strdup(r, req->input.path.base, req->input.path.len),
        .body = req->entity.base,
        .body_size = req->entity.len,
        .now_ms = fresh ? wall_now().ms : -1,
    };

    enum err e = peer_claims_judge(claims, &expected, &r->diag);
    if (e != ERR_OK || !fresh)
        return e;
    if (claims->expires_ms > expected.now_ms + PEER_TOKEN_SECONDS * 1000 + TOKEN_SLACK_MS)
        return diag_set(&r->diag, ERR_TOKEN_INVALID,
                        "the peer token lasts longer than %d s on this node's clock",
                        PEER_TOKEN_SECONDS);
    if (purpose != PEER_MEET && uuid_equal(&claims->sender, &expected.receiver))
        return diag_set(&r->diag, ERR_PEER_SELF, "the token is of this very node");
    return ERR_OK;
}

/* What changes something is done once. Among that many calls; a token lasts a minute. */
static enum err check_first_use(struct request *r, const struct peer_claims *claims)
{
    struct seen_tokens *seen = &exchange_of(r)->loop->http->peer_seen;
    bool known = false;

    if (r->route->method == METHOD_GET)
        return ERR_OK;
    pthread_mutex_lock(&seen->mutex);
    for (size_t i = 0; i < SEEN_TOKENS_MAX && !known; i++)
        known = memcmp(seen->jti[i], claims->jti, PEER_NONCE_SIZE) == 0;
    if (!known) {
        memcpy(seen->jti[seen->next], claims->jti, PEER_NONCE_SIZE);
        seen->next = (seen->next + 1) % SEEN_TOKENS_MAX;
    }
    pthread_mutex_unlock(&seen->mutex);
    return known ? diag_set(&r->diag, ERR_TOKEN_INVALID, "the peer token was used before") : ERR_OK;
}

enum err peer_authenticate(struct request *r)
{
    struct peer_claims *claims;
    struct text token;
    enum err e;

    if (exchange_header(exchange_of(r), PEER_TOKEN_HEADER, &token) != 1)
        return diag_set(&r->diag, ERR_TOKEN_MISSING,
                        "this call is for the other node of the pair, with its peer token");
    claims = request_alloc(r, sizeof *claims);
    e = peer_token_verify(r->services->instance, token.bytes, token.length, claims, &r->diag);
    if (e != ERR_OK)
        return e;
    r->principal.peer = claims; /* the pair's key made it: from here on the answer is signed */
    e = check_token(r, claims);
    return e == ERR_OK ? check_first_use(r, claims) : e;
}

/* ---- answers ----------------------------------------------------------------------------------
 */

static enum err token_for(const struct request *r, const char *body, size_t length,
                          struct buf *token)
{
    const struct peer_claims *asked = r->principal.peer;
    struct peer_claims claims = {
        .purpose = asked->purpose,
        .answer = true,
        .instance_ref = *instance_ref(r->services->instance),
        .sender = own_ref(r),
        .receiver = asked->sender,
        .expires_ms = (wall_now().ms / 1000 + PEER_TOKEN_SECONDS) * 1000,
    };

    memcpy(claims.nonce, asked->jti, sizeof claims.nonce);
    random_bytes(claims.jti, sizeof claims.jti);
    sha256(body, length, claims.body_sha256);
    memcpy(claims.target, asked->target, sizeof claims.target);
    return peer_token_sign(r->services->instance, &claims, token);
}

static void count_answer(struct request *r, size_t length)
{
    atomic_fetch_add(&exchange_of(r)->loop->http->peer_bytes_out, length + HEAD_BYTES);
}

void peer_answer_sign(struct request *r, const char *body, size_t length)
{
    AUTO(buf_fini) struct buf token = { .max = JWS_MAX };

    if (!r->principal.peer || token_for(r, body, length, &token) != ERR_OK)
        return;
    reply_header_text(exchange_of(r), PEER_TOKEN_HEADER, buf_text(&token), token.length);
    count_answer(r, length);
}

static enum err reply_signed(struct request *r, struct buf *json)
{
    must(buf_ok(json));
    peer_answer_sign(r, buf_text(json), json->length);
    reply_json(r, 200, json);
    return ERR_OK;
}

/* ---- hello: who this node is ------------------------------------------------------------------
 */

static void introduce(const struct request *r, struct buf *out)
{
    const struct config *config = r->services->config;
    struct peer_hello hello = {
        .protocol = PEER_PROTOCOL,
        .protocol_min = PEER_PROTOCOL_MIN,
        .primary = config->ha_role == HA_PRIMARY,
        .wall_ms = wall_now().ms,
        .introduction = r->command.result.introduction,
    };

    memcpy(hello.nonce, r->services->process, sizeof hello.nonce);
    memcpy(hello.process, r->services->process, sizeof hello.process);
    snprintf(hello.url, sizeof hello.url, "https://%s:%d", config->dls_url,
             (int)config->dls_port.value);
    peer_hello_encode(&hello, out);
}

static enum err introduced(struct request *r)
{
    struct buf json;

    buf_init(&json, PEER_SMALL_MAX);
    introduce(r, &json);
    return reply_signed(r, &json);
}

enum err peer_said_hello(struct request *r)
{
    r->command.event.kind = LEDGER_INTRODUCE;
    return request_submit(r, introduced);
}

/* ---- meet: introduction against introduction (R11) ---------------------------------------------
 */

/* A refusal that still says who refuses: the other node may find out from it what it has lost. */
static enum err refuse_introduced(struct request *r, enum err e)
{
    AUTO(buf_fini) struct buf hello = { .max = PEER_SMALL_MAX };

    if (uuid_is_nil(&r->command.result.introduction.node_ref))
        return e;
    introduce(r, &hello);
    reply_problem_with(r, e, "hello", buf_text(&hello));
    return ERR_OK;
}

struct refusal {
    enum err err;
    struct diag diag;
};

static enum err refused(struct request *r)
{
    const struct refusal *refusal = r->state;

    r->diag = refusal->diag;
    return refuse_introduced(r, refusal->err);
}

/* Refused by configuration, before the ledger hears of it. */
static enum err refuse_meeting(struct request *r, enum err e)
{
    struct refusal *refusal = request_alloc(r, sizeof *refusal);

    *refusal = (struct refusal){ .err = e, .diag = r->diag };
    r->state = refusal;
    r->command.event = (struct ledger_event){ .kind = LEDGER_INTRODUCE };
    return request_submit_any(r, refused);
}

static enum err met(struct request *r)
{
    const struct services *services = r->services;
    struct replication_status status;
    struct buf json;

    if (r->command.result.err != ERR_OK)
        return refuse_introduced(r, r->command.result.err);
    engine_met(services->engine); /* what it knew of us was compared with our history (R11) */
    if (services->replication) {
        replication_status(services->replication, &status);
        if (status.state != REPLICATION_CONNECTED)
            replication_nudge(services->replication);
    }
    buf_init(&json, PEER_SMALL_MAX);
    introduce(r, &json);
    return reply_signed(r, &json);
}

/* This node names no peer, so it takes on none. But who was retired must hear of it (R10). */
static enum err probed(struct request *r)
{
    if (r->command.result.err == ERR_PEER_RETIRED)
        return ERR_PEER_RETIRED;
    return diag_set(&r->diag, ERR_PEER_NONE,
                    "this node has no HA_REPLICATE; set it to the other node's host:port");
}

static enum err probe(struct request *r)
{
    r->command.event = (struct ledger_event){
        .kind = LEDGER_PAGE,
        .page = { .receiver = r->principal.peer->sender, .since = 0, .limit = 1 },
    };
    return request_submit_any(r, probed);
}

static enum err check_hello(struct request *r, const struct peer_hello *hello)
{
    bool primary = r->services->config->ha_role == HA_PRIMARY;
    struct uuid own = own_ref(r);

    if (!uuid_equal(&hello->introduction.node_ref, &r->principal.peer->sender))
        return diag_set(&r->diag, ERR_TOKEN_INVALID, "token and introduction name two nodes");
    if (memcmp(hello->process, r->services->process, PEER_NONCE_SIZE) == 0)
        return diag_set(&r->diag, ERR_PEER_SELF,
                        "HA_REPLICATE leads back to the node itself; it must name the other node");
    if (uuid_equal(&hello->introduction.node_ref, &own))
        return diag_set(&r->diag, ERR_PEER_SELF,
                        "both nodes have the same node_ref: one database is a copy of the other's");
    if (hello->primary == primary)
        return diag_set(&r->diag, ERR_PEER_ROLE, "both nodes have HA_ROLE=%s",
                        primary ? "PRIMARY" : "SECONDARY");
    if (hello->protocol < PEER_PROTOCOL_MIN || hello->protocol_min > PEER_PROTOCOL)
        return diag_set(&r->diag, ERR_PEER_PROTOCOL,
                        "the other node speaks protocol %" PRId64 " to %" PRId64
                        ", this one %d to %d; upgrade the older one",
                        hello->protocol_min, hello->protocol, PEER_PROTOCOL_MIN, PEER_PROTOCOL);
    return ERR_OK;
}

enum err peer_meets(struct request *r)
{
    struct http *http = exchange_of(r)->loop->http;
    struct peer_hello hello;
    enum err e;

    if ((e = peer_hello_decode(r->text, r->text_length, &hello, &r->diag)) != ERR_OK)
        return e;
    if (r->services->config->ha_role == HA_NONE)
        return probe(r);
    if ((e = check_hello(r, &hello)) != ERR_OK)
        return refuse_meeting(r, e);
    atomic_store(&http->peer_protocol,
                 hello.protocol < PEER_PROTOCOL ? (int)hello.protocol : PEER_PROTOCOL);
    r->command.event.kind = LEDGER_MEET;
    r->command.event.meet.of = hello.introduction;
    return request_submit_any(r, met);
}

/* ---- changes (R8) ------------------------------------------------------------------------------
 */

struct page_answer {
    bool gzip; /* the client takes it */
    bool compressed;
    int protocol;
    struct buf body, token;
};

static void page_answer_fini(void *arg)
{
    struct page_answer *answer = arg;

    buf_fini(&answer->body);
    buf_fini(&answer->token);
}

/* Replaces the body by its compressed form; leaves it if that would not be shorter. */
static void compress_body(struct page_answer *answer)
{
    z_stream stream = { .next_in = (const Bytef *)answer->body.bytes,
                        .avail_in = (uInt)answer->body.length };
    AUTO(buf_fini) struct buf out = { .max = answer->body.length };

    if (deflateInit2(&stream, GZIP_LEVEL, Z_DEFLATED, GZIP_WINDOW_BITS, 8, Z_DEFAULT_STRATEGY) !=
        Z_OK)
        return;
    stream.next_out = (Bytef *)buf_reserve(&out, answer->body.length);
    stream.avail_out = (uInt)answer->body.length;
    bool done = deflate(&stream, Z_FINISH) == Z_STREAM_END;
    out.length = stream.total_out;
    deflateEnd(&stream);
    if (!done)
        return;
    out.bytes[out.length] = '\0';
    buf_fini(&answer->body);
    answer->body = out;
    out = (struct buf){ .max = 0 };
    answer->compressed = true;
}

static enum err page_write(struct request *r, struct reader *reader)
{
    struct page_answer *answer = r->state;

    (void)reader;
    page_encode(r->command.result.page, answer->protocol, &answer->body);
    if (!buf_ok(&answer->body))
        return diag_set(&r->diag, ERR_BODY_TOO_LARGE,
                        "the page would have more than %u bytes; ask for fewer rows",
                        PEER_BODY_MAX);
    enum err e = token_for(r, buf_text(&answer->body), answer->body.length, &answer->token);
    if (e == ERR_OK && answer->gzip && answer->body.length > COMPRESS_MIN)
        compress_body(answer);
    return e;
}

static enum err page_reply(struct request *r)
{
    struct page_answer *answer = r->state;

    reply_header_text(exchange_of(r), PEER_TOKEN_HEADER, buf_text(&answer->token),
                      answer->token.length);
    if (answer->compressed)
        reply_header(r, "content-encoding", "gzip");
    count_answer(r, answer->body.length);
    reply_json(r, 200, &answer->body);
    return ERR_OK;
}

static size_t page_rows(const struct ledger_page *page)
{
    return page->node_count + page->entitlement_count + page->move_count + page->lease_count +
           page->origin_count;
}

static enum err page_ready(struct request *r)
{
    const char *encodings = request_header(r, "accept-encoding");
    struct page_answer *answer = request_alloc(r, sizeof *answer);

    answer->gzip = encodings && strstr(encodings, "gzip");
    answer->protocol = atomic_load(&exchange_of(r)->loop->http->peer_protocol);
    if (answer->protocol == 0)
        answer->protocol = PEER_PROTOCOL;
    buf_init(&answer->body, PEER_BODY_MAX);
    buf_init(&answer->token, JWS_MAX);
    request_defer(r, page_answer_fini, answer);
    r->state = answer;
    if (page_rows(r->command.result.page) > ROWS_INLINE_MAX)
        return request_encode(r, page_write, page_reply);
    enum err e = page_write(r, NULL);
    return e == ERR_OK ? page_reply(r) : e;
}

enum err peer_fetches(struct request *r)
{
    struct ledger_event *event = &r->command.event;
    int64_t since = 0, limit = PAGE_ROWS_MAX;
    enum err e;

    if ((e = request_query_int(r, "since", 0, INT64_MAX, &since)) != ERR_OK ||
        (e = request_query_int(r, "limit", 1, PAGE_ROWS_MAX, &limit)) != ERR_OK ||
        (e = request_query_int(r, "wait_ms", 0, POLL_MAX_MS, &r->command.wait_ms)) != ERR_OK)
        return e;
    event->kind = LEDGER_PAGE;
    event->page.receiver = r->principal.peer->sender;
    event->page.since = (uint64_t)since;
    event->page.limit = (size_t)limit;
    return request_submit(r, page_ready);
}

/* ---- credits (R12) ------------------------------------------------------------------------------
 */

static enum err credits_given(struct request *r)
{
    struct peer_credits given = { .scope_ref = r->command.event.give.scope_ref,
                                  .count = r->command.result.given };
    struct buf json;

    buf_init(&json, PEER_SMALL_MAX);
    peer_credits_encode(&given, &json);
    return reply_signed(r, &json);
}

enum err peer_wants_credits(struct request *r)
{
    struct ledger_event *event = &r->command.event;
    struct peer_credits wanted;

    enum err e = peer_credits_decode(r->text, r->text_length, &wanted, &r->diag);
    if (e != ERR_OK)
        return e;
    if (wanted.count < 1)
        return diag_set(&r->diag, ERR_COUNT_RANGE, "count is %" PRId64 "; at least 1 is allowed",
                        wanted.count);
    event->kind = LEDGER_GIVE;
    event->give.scope_ref = wanted.scope_ref;
    event->give.receiver = r->principal.peer->sender;
    event->give.wanted = wanted.count;
    return request_submit(r, credits_given);
}
