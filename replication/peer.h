/* What to say to the other node next, and what its answers mean. Pure: no I/O, no clock, no
 * randomness; the worker brings answers, time and random values, and does what peer_next() says.
 *
 *     HELLO → INTRODUCE → MEET → JUDGE → CHANGES → MERGE → CHANGES → …
 *       ↑ asks   our own    asks   our     asks     our
 *       │ peer   ledger     peer   ledger  peer     ledger
 *       └── after any failure, with a growing pause of random length
 *
 * At most one of these tasks is under way. Asking for credits (R12) goes beside them.
 *
 * Wrong pairings are told apart from a peer that is away: they end in REPLICATION_REFUSED with a
 * sentence that names the fix, and are tried again all the same, because the fix may be made at the
 * other node. */
#pragma once

#include "replication/state.h"
#include "replication/wire.h"

#define PEER_PAUSE_MIN_MS  100  /* ceiling of the first pause; doubles with each failure … */
#define PEER_PAUSE_MAX_MS  5000 /* … up to this */
#define PEER_POLL_MAX_MS   6000 /* how long the peer may keep a request for changes */
#define PEER_POLL_MIN_MS   200  /* … when a lease is about to end: no hammering */
#define PEER_POLL_SLACK_MS 20
#define PEER_OVERDUE_MS    10000 /* … one this late waits for something else than a page */
#define PEER_NUDGE_MS      1000
#define PEER_WISHES_MAX    64   /* scopes for which credits are wanted at once */
#define PEER_WISH_MS       1000 /* how long a grant waits for them */

struct peer_conf {
    const char *address; /* HA_REPLICATE, for sentences; borrowed */
    bool primary;
    int64_t protocol, protocol_min; /* spoken here */
    uint8_t process[PEER_NONCE_SIZE];
};

enum peer_task {
    PEER_REST,         /* nothing before *wake_us */
    PEER_DO_HELLO,     /* ask: GET /-/ha/hello */
    PEER_DO_INTRODUCE, /* own ledger: LEDGER_INTRODUCE */
    PEER_DO_MEET,      /* ask: POST /-/ha/hello with what came out */
    PEER_DO_JUDGE,     /* own ledger: LEDGER_MEET with peer.theirs */
    PEER_DO_CHANGES,   /* ask: GET /-/ha/changes since peer.since, at most peer.limit rows */
    PEER_DO_MERGE,     /* own ledger: LEDGER_MERGE of the page that came */
    PEER_DO_DISMISS,   /* own ledger: LEDGER_DISMISSED by peer.peer_ref (R10) */
    PEER_TASKS
};

enum peer_failure {
    PEER_FAILED_CLOSED,      /* the host refuses connections at this port: certainly nobody there */
    PEER_FAILED_CERTIFICATE, /* not of TLS_CA, expired, or for another name */
    PEER_FAILED_TIMEOUT,
    PEER_FAILED_NETWORK, /* everything else on the way */
    PEER_FAILED_ANSWER,  /* an answer that cannot be understood, or is not signed as it must be */
};

struct peer_wish {
    struct peer_credits credits;
    int64_t until_us; /* after that nobody waits for it any more */
};

struct peer {
    struct peer_conf conf;
    enum peer_task task; /* never PEER_REST */
    bool under_way;
    int64_t not_before_us; /* of a task that is not under way */
    unsigned failures;     /* in a row */

    enum replication_state state;
    enum err reason; /* not CONNECTED: why … */
    struct diag diag;
    uint64_t state_changes; /* grows with state and reason: for who logs each of them once */

    struct uuid peer_ref; /* as of its last hello; nil: none yet */
    bool peer_primary;
    char peer_url[300];
    int64_t protocol; /* what both speak */
    uint8_t nonce[PEER_NONCE_SIZE];
    int64_t peer_wall_ms, peer_wall_at_us; /* its wall clock, and our stopwatch then */
    struct node_introduction theirs;
    enum err refusal; /* of a meeting, kept until our ledger has judged; ERR_OK: none */
    struct diag refusal_diag;

    uint64_t since; /* cursor for the next request for changes */
    size_t limit;
    bool at_once;      /* the next request for changes must not be kept waiting */
    bool page_is_last; /* the page that came is a complete one */
    bool met;          /* it is known what the peer knows of us, or that it is not there (R11) */

    bool peer_ready;
    uint64_t peer_seq;
    int64_t behind_since_us; /* a change of the peer is known and not merged since then; 0: none */
    int64_t last_page_us;    /* last completed page; 0: none */
    uint64_t pages, rows, refused, failed;
    int64_t nudge_after_us; /* when the next nudge is heeded */

    struct peer_wish wishes[PEER_WISHES_MAX];
    size_t wish_count;
    bool wish_under_way;
    unsigned wish_failures;
    int64_t wish_not_before_us;
};

void peer_init(struct peer *peer, const struct peer_conf *conf);

/* The task to begin now: it is under way until one of the functions below says how it went. Else
 * PEER_REST, and when to ask again (INT64_MAX: after the next event). */
enum peer_task peer_next(struct peer *peer, int64_t now_us, int64_t *wake_us);

/* How long the peer may keep the next request for changes. due_ms: when a lease next ends, on the
 * same clock as now_ms; the peer's is ahead by difference_ms: it has to pass due_ms too (R7). */
int64_t peer_wait_ms(const struct peer *peer, int64_t now_ms, int64_t due_ms,
                     int64_t difference_ms);

/* Full jitter: 1 … the ceiling that belongs to so many failures in a row, in microseconds. */
int64_t peer_pause_us(unsigned failures, uint64_t random);

/* When a token made now should expire, on the peer's wall clock. */
int64_t peer_token_expiry_ms(const struct peer *peer, int64_t now_us);

/* ---- what came of a task
 * ------------------------------------------------------------------------- `random` is a fresh
 * random value, used if there has to be a pause. */

/* self: this node's node_ref. The introduction's token was right. */
void peer_on_hello(struct peer *peer, int64_t now_us, uint64_t random, const struct uuid *self,
                   const struct peer_hello *hello);
void peer_on_introduced(struct peer *peer, int64_t now_us, uint64_t random, enum err err,
                        const struct diag *diag);
/* refusal: ERR_OK, or why the peer refused although it introduced itself. */
void peer_on_met(struct peer *peer, int64_t now_us, uint64_t random, const struct peer_hello *hello,
                 enum err refusal, const struct diag *diag);
/* cursor: up to which changes of the peer are merged here. */
void peer_on_judged(struct peer *peer, int64_t now_us, uint64_t random, enum err err,
                    const struct diag *diag, uint64_t cursor);
/* The first bytes of a page came. */
void peer_on_page_begun(struct peer *peer, int64_t now_us);
/* The worker keeps the page until peer_next() has nothing more to do with it. */
void peer_on_page(struct peer *peer, int64_t now_us, const struct ledger_page *page);
/* wipe: the ledger starts anew (R11). */
void peer_on_merged(struct peer *peer, int64_t now_us, uint64_t random, enum err err,
                    const struct diag *diag, const struct ledger_page *page, bool wipe);
void peer_on_dismissed(struct peer *peer, int64_t now_us, uint64_t random, enum err err);

/* Of whatever was asked: a problem document. sender: who signed it; nil: nobody did. */
void peer_on_problem(struct peer *peer, int64_t now_us, uint64_t random, const struct uuid *sender,
                     enum err err, const struct diag *diag);
/* No answer, or none that counts. err: ERR_NETWORK, ERR_TLS, ERR_TOKEN_…, ERR_PAGE_REFUSED, … */
void peer_on_failure(struct peer *peer, int64_t now_us, uint64_t random, enum peer_failure failure,
                     enum err err, const struct diag *diag);

/* ---- at any time ------------------------------------------------------------------------------
 */

/* Begins again at hello; what was under way counts no more. `now_us`: at once. */
void peer_restart(struct peer *peer, int64_t now_us);
/* The peer may be there again: ends a pause; at most once a second, because two nodes that refuse
 * each other nudge each other. */
void peer_nudge(struct peer *peer, int64_t now_us);

/* R12. Several wishes for one scope become the largest. */
void peer_want(struct peer *peer, int64_t now_us, const struct uuid *scope_ref, int64_t count);
/* True: ask for these now; it is under way until peer_on_credits(). Only while connected. */
bool peer_next_credits(struct peer *peer, int64_t now_us, struct peer_credits *out,
                       int64_t *wake_us);
/* again: it may be asked for once more, after a pause. */
void peer_on_credits(struct peer *peer, int64_t now_us, uint64_t random, bool again);
