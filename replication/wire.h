/* What two nodes say to each other, as bytes: pages, introductions, requests for credits, and the
 * tokens that go with them. Both the worker (which asks) and the HTTP part (which answers) use it.
 *
 * Bodies are JSON. Every request and every answer carries a peer token: a JWS signed with the
 * instance key (`typ: peer+jwt`, iss instance_ref) that names sender, receiver, purpose and expiry,
 * answers the other side's nonce, and has the SHA-256 of the body, so that bytes that were cut off,
 * changed, replayed or meant for somebody else are noticed before they are read.
 *
 * Freshness does not rest on two clocks agreeing (R1: replication goes on while they differ): a
 * client's first call asks for the server's nonce and time, and its tokens expire on the server's
 * clock. */
#pragma once

#include "base/buf.h"
#include "ledger/ledger.h"
#include "token/instance.h"

/* Nodes one release apart replicate both ways: a node speaks PEER_PROTOCOL and the one before. */
#define PEER_PROTOCOL     1
#define PEER_PROTOCOL_MIN 1 /* from version 2 on: PEER_PROTOCOL - 1 */

#define PEER_TOKEN_HEADER  "twinlease-peer" /* request and answer */
#define PEER_TOKEN_SECONDS 60
#define PEER_TARGET_MAX    159
#define PEER_NONCE_SIZE    16
#define PEER_BODY_MAX      (32u << 20) /* bytes of a page after decompression */
#define PEER_SMALL_MAX     (64u << 10) /* bytes of every other body */

/* JSON of an origin's environment in a page. Above what the client API takes: PostgreSQL writes
 * JSON with a space after each colon and comma. */
#define PEER_ENVIRONMENT_MAX (32u << 10)

enum peer_purpose {
    PEER_HELLO,   /* GET /-/ha/hello: nonce and time of the server, nothing changes */
    PEER_MEET,    /* POST /-/ha/hello: introduction against introduction */
    PEER_CHANGES, /* GET /-/ha/changes */
    PEER_CREDITS, /* POST /-/ha/credits */
    PEER_PURPOSES
};

struct peer_claims {
    enum peer_purpose purpose;
    bool answer; /* of the server, to a request of this purpose */
    struct uuid instance_ref, sender;
    struct uuid receiver; /* nil: not known yet (PEER_HELLO, PEER_MEET) */
    /* A request's: the server's, from its hello (PEER_HELLO: zero). An answer's: its request's jti.
     */
    uint8_t nonce[PEER_NONCE_SIZE];
    uint8_t jti[PEER_NONCE_SIZE]; /* drawn anew for each token */
    int64_t expires_ms;           /* on the server's wall clock; whole seconds */
    uint8_t body_sha256[32];      /* of the body before compression; of "" without one */
    /* Path and query of the request line: "/-/ha/changes?since=…". Visible ASCII without quote and
     * backslash; an answer repeats its request's. */
    char target[PEER_TARGET_MAX + 1];
};

const char *peer_purpose_name(enum peer_purpose purpose); /* "hello", "meet", … */

/* Appends. ERR_INTERNAL if the sender is nil (a node that has not read its database yet), the
 * target cannot stand in a token, or out is full. */
enum err peer_token_sign(const struct instance *instance, const struct peer_claims *claims,
                         struct buf *out) MUST_USE;
/* Signature, type and form. Who may say what to whom is judged by the caller. ERR_TOKEN_INVALID,
 * ERR_TOKEN_PURPOSE (a token of this instance, but no peer token), ERR_TOKEN_INSTANCE. */
enum err peer_token_verify(const struct instance *instance, const char *text, size_t length,
                           struct peer_claims *out, struct diag *diag) MUST_USE;

/* What a token must say to whoever reads it. */
struct peer_expected {
    enum peer_purpose purpose;
    bool answer;
    struct uuid receiver; /* who reads it. Requests of PEER_HELLO and PEER_MEET may name nobody */
    const uint8_t *nonce; /* PEER_NONCE_SIZE bytes; NULL: any (request of PEER_HELLO) */
    const char *target;
    const void *body;
    size_t body_size;
    int64_t now_ms; /* the server's wall clock; negative: not compared. Answers: the nonce is ours
                     * and new, which says more than a clock does */
};
/* ERR_TOKEN_PURPOSE, ERR_TOKEN_EXPIRED, and ERR_TOKEN_INVALID for everything else; diag names what
 * differs. Whether jti was seen before is for the server to remember. */
enum err peer_claims_judge(const struct peer_claims *claims, const struct peer_expected *expected,
                           struct diag *diag) MUST_USE;

/* Server's answer to PEER_HELLO, and what a client sends and is answered with in PEER_MEET. */
struct peer_hello {
    int64_t protocol, protocol_min;   /* what the speaker speaks */
    bool primary;                     /* HA_ROLE */
    int64_t wall_ms;                  /* speaker's wall clock */
    uint8_t nonce[PEER_NONCE_SIZE];   /* hello's answer: to be named in later tokens */
    uint8_t process[PEER_NONCE_SIZE]; /* drawn at start: the same node_ref with two of these is two
                                       * processes */
    char url[300];                    /* the speaker's own address, for client tokens */
    struct node_introduction introduction;
};

void peer_hello_encode(const struct peer_hello *hello, struct buf *out);
/* ERR_BAD_JSON, ERR_BAD_FIELD, ERR_MISSING_FIELD name the member. Unknown members are let through:
 * a newer release may add some. The same holds for the two below. */
enum err peer_hello_decode(const char *text, size_t length, struct peer_hello *out,
                           struct diag *diag) MUST_USE;

/* A refusal: the problem document of the HTTP part. Its `code` is one of err.tbl; in an answer to
 * PEER_MEET its member "hello" is the server's introduction, as peer_hello_encode() writes it, so
 * that the client learns who refuses it, and may find out why (R11). */
struct peer_problem {
    enum err err; /* ERR_INTERNAL for a code that is not known here */
    struct diag detail;
    bool introduced;
    struct peer_hello hello; /* if introduced */
};
enum err peer_problem_decode(const char *text, size_t length, struct peer_problem *out,
                             struct diag *diag) MUST_USE;

/* Opens an entitlement's text: verifies the publisher's signature and reads it. */
typedef enum err peer_entitlement_open(void *context, const char *text, struct entitlement **out,
                                       struct diag *diag);

/* protocol: what both speak. Local parts of the rows are not told. A page that is longer than out
 * takes leaves out failed (buf_ok()): the server answers body_too_large and the client asks for
 * fewer rows. */
void page_encode(const struct ledger_page *page, int protocol, struct buf *out);
/* ERR_PAGE_REFUSED names row and member of what is malformed; *out is then NULL. Whether it may be
 * merged is the ledger's business. */
enum err page_decode(const char *text, size_t length, peer_entitlement_open *open_one,
                     void *context, struct ledger_page **out, struct diag *diag) MUST_USE;

struct peer_credits {
    struct uuid scope_ref;
    int64_t count; /* asked for; in the answer: given */
};
void peer_credits_encode(const struct peer_credits *credits, struct buf *out);
enum err peer_credits_decode(const char *text, size_t length, struct peer_credits *out,
                             struct diag *diag) MUST_USE;
