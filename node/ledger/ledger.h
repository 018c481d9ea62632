/* The seat rules (design §2): who may hold which seat until when. Pure: no I/O, no clock, no
 * randomness, no threads. Time and identifiers come in with an event, what must be made durable
 * goes out as a batch of rows, what may be told goes out as a result.
 *
 *     for each event:   ledger_step(ledger, &event, &result)     memory changes, rows pile up
 *     then, once:       commit ledger_changes(ledger)            one transaction
 *     committed:        ledger_changes_clear(); tell the results
 *     not committed:    ledger_free(); load again; tell nobody   (R13)
 *
 * The same object code runs in the daemon, in the unit tests and in the simulator.
 *
 * Invariants (ledger_check() asserts them):
 *   - per scope and node, `held` is the sum of the seats of the leases of that home that hold
 * seats;
 *   - free(self) = credits(self) - held(self), never negative except after a reduction (R2) or
 * after a revision by which seats come back later (R6);
 *   - a lease holds seats if and only if R6 and R7 say so;
 *   - seq numbers are unique, rise in commit order, and no record carries one above ledger_seq().
 *
 * Sources: O'Neil 1986 (escrow transactional method), Balegas et al. 2015 (bounded counter),
 * Gray & Cheriton 1989 (leases). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/entitlement.h"
#include "base/err.h"
#include "base/uuid.h"

#define LEDGER_NODES_MAX      16 /* nodes of one instance over its life, retired ones included */
#define LEASE_ITEMS_MAX       64 /* leases of one request */
#define LEASE_DURATION_MIN_MS 1000
#define ORIGIN_LEASES_MAX     1000 /* active leases of one origin */
#define PEER_FETCH_RECENT_MS  8000 /* R3: a peer that fetched longer ago misses new leases */
#define PAGE_ROWS_MAX         5000 /* rows of one page for the peer */
#define FORMER_SELVES_MAX     4    /* names under which a node introduces itself (R11) */

/* ---- rows: what is stored, and what a peer is told ------------------------------------------- */

enum lease_state {
    LEASE_ACTIVE,
    LEASE_RELEASED,   /* by its client */
    LEASE_REVOKED,    /* by an operator, or with its origin */
    LEASE_SUPERSEDED, /* by the same lease of a smaller home (R9) */
    LEASE_EXPIRED,    /* by its home (R7) */
    LEASE_STATES
};

const char *lease_state_name(enum lease_state state); /* "active", "released", … */

/* Identified by (lease_ref, home). */
struct lease_row {
    struct uuid lease_ref, home, origin_ref, scope_ref;
    int64_t count;
    uint32_t
        generation; /* of its origin, when it was granted: an older one than the origin's ends */
    enum lease_state state;
    bool shared;              /* R3: may be adopted by another node */
    int64_t created_ms;       /* home's clock */
    int64_t duration_ms;      /* what a renewal asks for; before the entitlement's end cuts it */
    int64_t expires_ms;       /* grows only */
    int64_t ended_ms;         /* clock of the node that ended it; 0 while active */
    int64_t ended_expires_ms; /* R5: expires_ms known when it ended; 0 while active */
    uint64_t seq;
};

/* ended_expires_ms of a lease that ended here because its origin turned out to be deleted
 * elsewhere: whether a renewal came before or after is not known, so its seat comes back as by R7.
 */
#define ENDED_UNORDERED_MS 1

/* generation: how often the reference was deleted by an operator. Secrets and auth tokens name the
 * generation they were made for; those of an older one are refused. */
struct origin_row {
    struct uuid origin_ref;
    uint32_t generation;
    bool enrolled; /* false: deleted, and nobody enrolled again since */
    int64_t created_ms, updated_ms;
    struct uuid updated_by;  /* node whose clock updated_ms is: the newest stamp wins (R9); nil if
                              * the origin never told anything of itself */
    const char *environment; /* JSON to store; NULL: what is stored stays */
    uint64_t seq;
};

/* Derived from the entitlements and their minters (R2); stored so that SQL can read it. Not
 * replicated: every node derives the same. Negative where a revision reduced what others minted. */
struct credit_row {
    struct uuid scope_ref, node_ref;
    int64_t minted;
    int64_t usable;   /* of that: what the node may use already (R2) */
    int64_t revision; /* newest one that is in it */
    int64_t debt;     /* of a partner: seats that it holds beyond its credits, as it said last */
    uint64_t seq;
};

struct move_row {
    struct uuid scope_ref, giver, receiver;
    int64_t moved; /* in all, ever; grows only */
    uint64_t seq;
};

/* A node of the instance, self included. The first part is replicated, the second is what this node
 * alone knows of it, and changes without a new change number. */
struct node_row {
    struct uuid node_ref;
    bool retired;       /* R10: for ever */
    bool drained;       /* it had said `closed`: nothing unseen was promised */
    struct uuid heir;   /* of a retired one; nil otherwise */
    int64_t retired_ms; /* heir's clock */
    int64_t wait_ms;    /* heir's clock: until then what it may have promised unseen counts (R10) */
    int64_t longest_ms; /* longest lease it ever gave or may give */
    uint64_t seq;

    bool partner;          /* it was once our partner: may know our leases (R7) */
    bool closed;           /* in its last complete page it said that it decides nothing any more */
    int64_t watermark_ms;  /* R8: W, on that node's clock */
    uint64_t acknowledged; /* R8: `seen`, a change number of ours */
    uint64_t cursor;       /* its change number up to which its changes are merged here */
};

/* What a node knows of itself; one row. */
struct self_row {
    bool refilled; /* R11: false: decides nothing until a completed page has refilled it */
    bool drained;  /* by an operator: decides nothing, moves its free credits to its partner */
    uint64_t resumed_seq; /* after a drain: decides again once the partner has acknowledged this */
    int64_t lease_max_ms; /* longest lease it may give by now: its partner knows of it (R10) */
    struct uuid former[FORMER_SELVES_MAX]; /* node_refs that it had before (R11); nil: none more */
};

struct entitlement_row {
    struct entitlement *entitlement; /* borrowed until ledger_changes_clear() */
    int64_t installed_ms;            /* minter's clock */
    struct uuid minter;              /* R2: of two that installed it the smaller node_ref */
    bool usable;                     /* what it minted may be used by its minter; own knowledge */
    uint64_t seq;
};

/* Derived from the entitlements; stored so that SQL can read it. */
struct scope_row {
    struct uuid scope_ref, entitlement_ref;
    int64_t revision; /* the newest one that has this scope */
    const char *feature;
    int64_t seats; /* in force; 0 if a newer revision dropped the feature */
    uint64_t seq;
};

struct lease_key {
    struct uuid lease_ref, home;
};

/* R2: after a reduction a node may hold more seats than it has credits for. */
struct debt_row {
    struct uuid scope_ref;
    int64_t count; /* seats held beyond its credits; at least 1 */
};

/* One batch: at most one row a record, the newest. */
struct ledger_changes {
    struct lease_row *leases;
    struct origin_row *origins;
    struct credit_row *credits;
    struct move_row *moves;
    struct node_row *nodes;
    struct entitlement_row *entitlements;
    struct scope_row *scopes;
    struct self_row *self; /* NULL: as it was */
    struct lease_key *purged;
    size_t lease_count, origin_count, credit_count, move_count, node_count, entitlement_count,
        scope_count, purged_count;
    uint64_t seq; /* change number after this batch */
};

/* ---- pages: what one node tells the other (R8) -------------------------------------------------
 */

/* Changes of `sender` after number `since` up to `upto`, each record in its newest form, for
 * `receiver` alone. Records whose present form came from the receiver are left out. */
struct ledger_page {
    struct uuid sender, receiver;
    uint64_t since, upto;
    int64_t now_ms;         /* sender's ledger clock */
    bool refilled, fresh;   /* R11, of the sender: may refill others; has never had a history */
    bool complete;          /* nothing is left after `upto`: the next three are stated */
    bool closed;            /* R10: drained; decides nothing more */
    int64_t watermark_ms;   /* R8: W */
    uint64_t acknowledged;  /* R8: `seen`, a change number of the receiver */
    struct node_row *nodes; /* only the replicated part; the sender itself among them */
    struct entitlement_row *entitlements; /* references are the page's */
    struct move_row *moves;
    struct lease_row *leases;
    struct origin_row *origins; /* environment: borrowed from whoever filled it in */
    struct debt_row *debts;     /* all that the sender has now */
    size_t node_count, entitlement_count, move_count, lease_count, origin_count, debt_count;
    char *texts; /* owned: what the pointers of `origins` lead into; may be NULL */
};

void ledger_page_free(struct ledger_page *page); /* takes NULL */
DEFINE_AUTO(struct ledger_page *, ledger_page_free)

/* How a node introduces itself at a first contact, after every pause, and when asked. */
struct node_introduction {
    struct uuid node_ref;
    struct uuid former[FORMER_SELVES_MAX];
    bool refilled, fresh;
    int64_t now_ms;
    uint64_t seq;         /* its change number */
    uint64_t cursor;      /* up to which it has merged the changes of `partner` … */
    int64_t watermark_ms; /* … and what `partner` stated as its W */
    int64_t longest_ms;   /* longest lease it may give */
    struct uuid partner;  /* whom it counts as its live partner; nil: nobody */
};

/* ---- events ------------------------------------------------------------------------------------
 */

enum ledger_event_kind {
    LEDGER_TICK,          /* time passes: R7, purging */
    LEDGER_ENROL,         /* a machine introduces itself */
    LEDGER_PROVE,         /* an origin showed its secret: becomes known if it was not */
    LEDGER_GRANT,         /* R3, all or nothing */
    LEDGER_RENEW,         /* R4 */
    LEDGER_RELEASE,       /* R5, one lease by its client */
    LEDGER_RELEASE_ALL,   /* R5, all of an origin */
    LEDGER_LIST,          /* active leases of an origin */
    LEDGER_REVOKE,        /* R5, by an operator */
    LEDGER_ORIGIN_DELETE, /* by an operator, with its leases */
    LEDGER_ORIGINS_DELETE,
    LEDGER_PURGE,     /* R5: drops ended records that may be dropped */
    LEDGER_INSTALL,   /* R2: an entitlement */
    LEDGER_SCOPES,    /* reads the state of all scopes */
    LEDGER_INTRODUCE, /* R11: how this node introduces itself */
    LEDGER_MEET,      /* R11: another node introduces itself */
    LEDGER_DISMISSED, /* R10: the partner says that this node was retired */
    LEDGER_PAGE,      /* R8: the partner fetches changes */
    LEDGER_MERGE,     /* R9: the partner's changes arrive */
    LEDGER_GIVE,      /* R12: the partner asks for credits */
    LEDGER_RETIRE,    /* R10: an operator asserts that the partner has stopped for good */
    LEDGER_DRAIN,     /* R10: an operator wants this node to stop deciding */
    LEDGER_RESUME,    /* … and to go on */
    LEDGER_EVENTS
};

/* Which origin speaks, as its secret or its auth token proves. */
struct origin_proof {
    struct uuid origin_ref;
    uint32_t generation;
};

struct grant_item {
    bool by_feature;    /* else by scope_ref */
    bool has_lease_ref; /* lease_ref came from the client; else it is freshly drawn */
    struct uuid scope_ref;
    char feature[FEATURE_NAME_MAX + 1];
    struct uuid lease_ref;
    int64_t count;       /* >= 1 */
    int64_t duration_ms; /* 0: as long as the site gives */
};

/* What a valid lease token says (R4): knowledge that is merged before the request is decided. */
struct lease_evidence {
    struct uuid lease_ref, home, origin_ref, scope_ref;
    int64_t count, created_ms, duration_ms, expires_ms;
    uint32_t generation;
    bool adopt;
    struct uuid
        adopter;        /* the only node that may: its signer's partner at that time; nil: nobody */
    struct uuid signer; /* who signed it … */
    uint64_t seq;       /* … at which change number of its own (R11) */
};

struct ledger_event {
    enum ledger_event_kind kind;
    int64_t now_ms; /* ledger clock; never less than that of the event before */
    union {
        struct {
            bool clock_alarm; /* R1: pauses R7 */
        } tick;
        struct {
            struct uuid origin_ref;
            bool proven; /* its secret came along, made for `generation` */
            uint32_t generation;
            const char *environment; /* JSON; must live until the batch is cleared */
        } enrol;
        struct {
            struct origin_proof origin;
        } prove, list, release_all;
        struct {
            struct origin_proof origin;
            const struct grant_item *items;
            size_t item_count; /* 1 … LEASE_ITEMS_MAX */
        } grant;
        struct {
            struct origin_proof origin;
            struct uuid lease_ref;
            const struct lease_evidence *evidence; /* NULL: no token was shown */
        } renew, release;
        struct {
            struct uuid lease_ref; /* all homes of it */
        } revoke;
        struct {
            struct uuid origin_ref;
        } origin_delete;
        struct {
            size_t limit; /* at most that many records; the result says if more are left */
        } purge, origins_delete;
        struct {
            struct entitlement *entitlement; /* borrowed; its signature was verified */
        } install;
        struct {
            struct node_introduction of;
        } meet;
        struct {
            struct uuid by; /* who says so */
        } dismissed;
        struct {
            struct uuid receiver;
            uint64_t since; /* its cursor */
            size_t limit;   /* rows; 1 … PAGE_ROWS_MAX */
        } page;
        struct {
            const struct ledger_page *page; /* borrowed until the batch is cleared */
        } merge;
        struct {
            struct uuid scope_ref, receiver;
            int64_t wanted; /* at least 1 */
        } give;
        struct {
            struct uuid
                node_ref; /* nil: every node that this one still counts, its former self too */
        } retire;
    };
};

/* ---- results -----------------------------------------------------------------------------------
 */

/* The state of one scope, as this node knows it. used + free_here + at_peer = seats, but for seats
 * pending or lost to a reduction. */
struct scope_view {
    struct uuid scope_ref;
    struct entitlement *entitlement; /* owned reference */
    const char *feature;             /* inside *entitlement */
    int64_t seats;                   /* in force now */
    int64_t used;                    /* held by leases of any home */
    int64_t active;                  /* leases in state active */
    int64_t waiting;                 /* of used: held by leases that have ended (R6) */
    int64_t free_here;               /* grantable by this node now, never negative */
    int64_t pending;                 /* minted, but not usable yet (R2) */
    int64_t at_peer;                 /* credits that the partner has free, as far as known */
    int64_t locked;             /* free credits of retired nodes whose wait is not over (R10) */
    int64_t locked_until_ms;    /* when the last of them comes free; 0: none */
    int64_t next_back_ms;       /* earliest instant at which a seat may come back; 0: none held */
    int64_t begins_ms, ends_ms; /* of the entitlement */
    bool trusted;               /* its publisher is (still) trusted here */
};

struct lease_view {
    struct lease_row row;
    struct entitlement *entitlement; /* owned reference */
    const char *feature;             /* inside *entitlement */
    struct uuid adopter;             /* who may adopt it from a token signed now; nil: nobody */
    bool created;                    /* granted by this very event */
};

struct ledger_result {
    enum err err;
    struct diag diag; /* with err: which field, scope or lease, and why */
    int64_t now_ms;
    struct lease_view *leases; /* grant: in the order asked; renew: one; list: all */
    size_t lease_count;
    struct scope_view *scopes; /* scopes: all. A denial: the one that denied. install: its scopes */
    size_t scope_count;
    struct origin_row origin; /* enrol, prove */
    bool created;             /* enrol: new here. grant: at least one lease is new. install: new */
    bool usable;              /* install: the seats can be granted now (R2) */
    int64_t affected; /* release_all, revoke, origin deletes, purge: records ended or dropped */
    bool more;        /* purge, origins_delete: the limit was reached */
    struct uuid *released; /* release_all: lease references, `affected` many; owned */
    struct node_introduction introduction; /* introduce; meet: how this node answers */
    struct ledger_page *page;              /* page: owned */
    bool wipe;     /* merge: nothing was merged; this node must forget its old history first (R11):
                    * the store drops it, the ledger is loaded again, changes are fetched from 0 */
    int64_t given; /* give: how many credits moved. merge: how many arrived */
    int64_t wait_ms; /* retire: ledger time at which the last wait is over; 0: no wait */
};

void ledger_result_fini(struct ledger_result *result); /* takes a zeroed one too */

/* ---- the ledger --------------------------------------------------------------------------------
 */

struct ledger_conf {
    struct uuid self;      /* node_ref */
    bool peer_expected;    /* HA_REPLICATE is set: a new node waits for its peer (R2, R11) */
    int64_t lease_max_ms;  /* the site's limit */
    int64_t skew_max_ms;   /* MAX_CLOCK_SKEW (R10) */
    int64_t ended_keep_ms; /* how long ended records are kept beyond what R5 demands */
    uint64_t hash_seed[2]; /* random: clients choose references, so hashing must be keyed */
};

struct ledger;

struct ledger *ledger_new(const struct ledger_conf *conf);
struct ledger *ledger_free(struct ledger *ledger); /* takes NULL, returns NULL */

/* Loading what was committed: self, nodes, entitlements (revisions rising), credits, moves,
 * origins, leases, in this order. A ledger without a self row is a new one: refilled unless a peer
 * is expected. Refuses, with the culprit in diag, what could never have been written. */
enum err ledger_load_self(struct ledger *, const struct self_row *, struct diag *) MUST_USE;
enum err ledger_load_node(struct ledger *, const struct node_row *, struct diag *) MUST_USE;
enum err ledger_load_entitlement(struct ledger *, const struct entitlement_row *, bool trusted,
                                 struct diag *) MUST_USE;
enum err ledger_load_credit(struct ledger *, const struct credit_row *, struct diag *) MUST_USE;
enum err ledger_load_move(struct ledger *, const struct move_row *, struct diag *) MUST_USE;
enum err ledger_load_origin(struct ledger *, const struct origin_row *, struct diag *) MUST_USE;
enum err ledger_load_lease(struct ledger *, const struct lease_row *, struct diag *) MUST_USE;
/* After the last row. seq: the stored change number. */
enum err ledger_load_done(struct ledger *, uint64_t seq, struct diag *) MUST_USE;

/* One decision. *result is overwritten; the caller gives it to ledger_result_fini(). */
void ledger_step(struct ledger *ledger, const struct ledger_event *event,
                 struct ledger_result *result);

/* Publishers' keys were added or removed: asks again for every scope whether the publisher of its
 * entitlement is trusted. One that is not grants nothing new; renewals and releases go on. */
typedef bool ledger_trusts(void *context, const struct entitlement *entitlement);
void ledger_review_trust(struct ledger *ledger, ledger_trusts *trusts, void *context);

/* Rows since the last clear. Valid until the next step or clear. */
const struct ledger_changes *ledger_changes(const struct ledger *ledger);
bool ledger_changed(const struct ledger *ledger);
void ledger_changes_clear(struct ledger *ledger);

uint64_t ledger_seq(const struct ledger *ledger);

/* Ledger time at which LEDGER_TICK next has something to do; INT64_MAX if nothing is due ever. */
int64_t ledger_next_due(const struct ledger *ledger);

/* What this node knows of the pair, for health, readiness and pages. */
enum self_state {
    SELF_SERVING,
    SELF_UNFILLED, /* R11: waits for a completed page, or for an operator */
    SELF_DRAINED,  /* decides nothing until resumed */
    SELF_RESUMING, /* waits for its partner to hear of it */
    SELF_RETIRED,  /* R10: decides nothing under this node_ref ever again */
};
const char *self_state_name(enum self_state state); /* "serving", "unfilled", … */

struct ledger_pair {
    enum self_state self;
    struct uuid partner;         /* the one live partner; nil: none */
    bool partner_closed;         /* R10: retiring it needs no wait */
    bool partner_listens;        /* R3: it fetched recently */
    bool clock_suspect;          /* R1: its clock is further off than skew_max_ms */
    int64_t clock_difference_ms; /* its clock less ours, when its last page came */
    uint64_t cursor;             /* of its changes, merged here */
    uint64_t acknowledged;       /* of our changes, merged there */
    int64_t watermark_ms;        /* W */
    int64_t merged_ms;           /* own clock at its last complete page; 0: none since start */
    int64_t wait_ms;             /* latest wait for a retired node (R10); 0: none */
    struct uuid retired_by;      /* SELF_RETIRED */
};
struct ledger_pair ledger_pair(const struct ledger *ledger);

/* True if a page for the partner would tell it something: a change, or that we have merged more. */
bool ledger_page_waiting(const struct ledger *ledger, uint64_t since);

/* Counts for health and tests. */
struct ledger_counts {
    size_t leases, active_leases, origins, scopes, nodes;
};
struct ledger_counts ledger_counts(const struct ledger *ledger);

/* Asserts every invariant; walks everything. For tests. */
void ledger_check(const struct ledger *ledger);
