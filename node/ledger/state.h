/* What the ledger is made of; private to node/ledger. */
#pragma once

#include "ledger/heap.h"
#include "ledger/ledger.h"
#include "ledger/table.h"

/* A growing array: VEC(struct row) rows; vec_push(&rows, row). */
#define VEC(T)                                                                                     \
    struct {                                                                                       \
        T *items;                                                                                  \
        size_t count, capacity;                                                                    \
    }
#define vec_push(vec, ...)                                                                         \
    do {                                                                                           \
        if ((vec)->count == (vec)->capacity) {                                                     \
            (vec)->capacity = (vec)->capacity ? (vec)->capacity * 2 : 8;                           \
            (vec)->items = mem_resize((vec)->items, (vec)->capacity * sizeof *(vec)->items);       \
        }                                                                                          \
        (vec)->items[(vec)->count++] = (__VA_ARGS__);                                              \
    } while (0)
#define vec_fini(vec) mem_free((vec)->items)

/* In every record:
 *   row_at  1 + its place among the rows of the present batch; 0: not changed in it
 *   via     index of the node from which its present form came whole, 0: decided or mixed here. It
 * is not sent back to there. In memory only: after a start everything is sent once more. */

struct origin {
    struct uuid ref; /* first: table.h */
    int64_t created_ms, updated_ms;
    uint64_t seq;
    struct lease *leases; /* active ones, doubly linked */
    uint32_t lease_count;
    uint32_t generation;
    uint32_t row_at;
    uint8_t updated_by; /* index into ledger.nodes */
    uint8_t via;
    bool enrolled;
};

/* updated_ms of an origin that never told anything about itself here: any news is newer. */
#define ORIGIN_UNTOLD_MS 1

struct lease {
    struct uuid ref; /* first: table.h */
    int64_t created_ms, duration_ms, expires_ms, ended_ms, ended_expires_ms;
    uint64_t seq;
    struct origin *origin;
    struct lease *next, *prev; /* active: among its origin's. Ended: in the queue for R6 */
    uint32_t count;
    uint32_t scope; /* index into ledger.scopes */
    uint32_t row_at;
    uint32_t generation; /* of its origin, when it was granted */
    uint8_t home;        /* index into ledger.nodes */
    uint8_t state;       /* enum lease_state */
    uint8_t via;
    bool shared;
    bool holds;   /* R6, R7: its seats are taken from its home's credits */
    bool in_heap; /* stands in a seat heap of its scope */
};

struct credit {     /* derived from the revisions, see scope_derive() */
    int64_t minted; /* R2, by the node of this index */
    int64_t usable; /* of that */
    int64_t debt;   /* as a partner said in its last page */
    int64_t revision;
    uint64_t seq;
    uint32_t row_at;
};

struct move {
    int64_t moved;
    uint64_t seq;
    uint32_t row_at;
    uint32_t scope; /* index into ledger.scopes */
    uint8_t giver, receiver, via;
};

struct scope {
    struct uuid ref;                 /* first: table.h */
    struct entitlement *entitlement; /* owned: the newest revision that has this scope */
    const struct feature *feature;   /* inside it */
    int64_t seats;                   /* in force */
    int64_t short_until_ms;          /* R12: a grant waits for credits; not stored */
    int64_t told_revision;           /* of the entitlement, in this scope's row */
    uint64_t seq;
    uint32_t index, row_at;
    bool trusted;
    struct credit credits[LEDGER_NODES_MAX];
    VEC(struct move *) moves;
    int64_t held[LEDGER_NODES_MAX]; /* by home */
    int64_t waiting;                /* of held, all homes: by ended leases */
    int64_t active;                 /* leases */
    /* Leases of our homes that hold seats: by the own clock (lease_due()), and those whose time is
     * over by it, by the watermark of the partner that they still wait for. */
    struct heap own_due, partner_due;
};

struct node {
    struct uuid ref;
    bool retired, drained, partner, closed; /* as in struct node_row */
    int8_t heir;                            /* index; -1: none */
    uint8_t owner; /* whose its credits and leases are: itself, or the last heir of its line */
    uint8_t via;
    int64_t retired_ms, wait_ms, longest_ms;
    int64_t line_wait_ms; /* R10: the latest wait on the way to its owner */
    int64_t watermark_ms;
    uint64_t acknowledged, cursor;
    uint64_t told;      /* `seen` that it was last told. Not stored; UINT64_MAX: nothing yet */
    int64_t fetched_ms; /* own clock, when it last fetched; 0: never. Not stored */
    uint64_t seq;
    uint32_t row_at;
};

struct revision {
    struct entitlement *entitlement; /* owned */
    int64_t installed_ms;
    uint64_t seq;
    uint32_t row_at;
    uint8_t minter, via;
    bool usable;
};

/* An entitlement: all its revisions that are known here, rising. */
struct installed {
    struct uuid ref; /* first: table.h */
    VEC(struct revision *) revisions;
};

/* A record that changed, in the order of change numbers. Out of date once the record has another
 * number. */
enum feed_kind { FEED_LEASE, FEED_ORIGIN, FEED_MOVE, FEED_REVISION, FEED_NODE };
struct feed_entry {
    uint64_t seq;
    uintptr_t record; /* pointer, and its enum feed_kind in the lowest three bits */
};
struct feed {
    struct feed_entry *items;
    size_t count, capacity;
    size_t stale; /* entries that are out of date, about */
};

/* For look-up by name: sorted by name, then by the end of the entitlement, then by reference. */
struct feature_entry {
    const char *name;
    struct scope *scope;
};

struct ledger {
    struct ledger_conf conf;
    int64_t now_ms;
    int64_t due_ms; /* lower bound of when a seat or a grave is due by time */
    uint64_t seq;
    bool clock_alarm;  /* R1: R7 pauses; by the wall clock */
    bool peer_suspect; /* … by the partner's clock */
    bool loading;
    bool settled;                           /* what was loaded was looked at once */
    int64_t clock_difference_ms, merged_ms; /* as in struct ledger_pair */
    int64_t settled_ms;                     /* waits (R10) that ended before then were acted upon */
    struct node nodes[LEDGER_NODES_MAX];    /* [0] is self */
    size_t node_count;
    struct self_row self;
    struct self_row self_out; /* where changes.self points to */
    struct feed feed;
    struct table scopes_by_ref, origins, leases, installed;
    VEC(struct scope *) scopes;
    VEC(struct feature_entry) features;
    VEC(struct lease *) slabs;
    struct lease *free_leases;                  /* linked by next */
    struct lease *unacked_first, *unacked_last; /* R6: ended shared leases, in order of their end */
    struct heap graves; /* R5: ended, seat back; by when they may be purged */
    size_t active_count;
    struct ledger_changes changes;
    size_t lease_capacity, origin_capacity, credit_capacity, move_capacity, node_capacity,
        entitlement_capacity, scope_capacity, purged_capacity;
};

#define SELF 0

/* changes.c: …_changed(): a record changed: gives it the next change number, (re)writes its row and
 * enters it into the feed. …_noted(): what only this node knows of it changed: writes its row. */
void lease_changed(struct ledger *l, struct lease *lease);
void origin_changed(struct ledger *l, struct origin *origin, const char *environment);
void credit_changed(struct ledger *l, struct scope *scope, size_t node);
void credit_noted(struct ledger *l, struct scope *scope, size_t node);
void move_changed(struct ledger *l, struct move *move);
void node_changed(struct ledger *l, struct node *node);
void node_noted(struct ledger *l, struct node *node);
void scope_changed(struct ledger *l, struct scope *scope);
void revision_changed(struct ledger *l, struct revision *revision);
void revision_noted(struct ledger *l, struct revision *revision);
void self_noted(struct ledger *l);
void lease_purged(struct ledger *l, const struct lease *lease);
/* It is there again, in the batch that purged it: the row that is written replaces the old one. */
void lease_not_purged(struct ledger *l, const struct lease *lease);
struct lease_row lease_to_row(const struct ledger *l, const struct lease *lease);
struct node_row node_to_row(const struct ledger *l, const struct node *node);
struct move_row move_to_row(const struct ledger *l, const struct move *move);
struct origin_row origin_to_row(const struct ledger *l, const struct origin *origin);
struct entitlement_row revision_to_row(const struct ledger *l, const struct revision *revision);
void changes_fini(struct ledger *l);

/* feed.c */
void feed_add(struct ledger *l, enum feed_kind kind, void *record, uint64_t seq, bool again);
void feed_sort(struct ledger *l);    /* after loading */
void feed_compact(struct ledger *l); /* when it pays */
void feed_fini(struct feed *feed);
void request_page(struct ledger *l, const struct ledger_event *e, struct ledger_result *r);

/* node.c */
int node_index(const struct ledger *l, const struct uuid *ref); /* -1: unknown */
int node_learn(struct ledger *l, const struct uuid *ref);       /* -1: no room */
int node_partner(const struct ledger *l);                       /* the live one; -1: none */
bool node_is_former(const struct ledger *l, const struct uuid *ref);
bool node_is_ours(const struct ledger *l, size_t node); /* self, or inherited */
bool node_is_fresh(const struct ledger *l);
/* Anew: whose is what (R10). */
void node_settle_owners(struct ledger *l);
void node_retire(struct ledger *l, size_t node); /* R10; heir: self */
enum self_state node_self_state(const struct ledger *l);
int64_t node_least_watermark(const struct ledger *l); /* of the live partner; INT64_MAX if alone */
uint64_t node_least_acknowledged(const struct ledger *l); /* the same; UINT64_MAX if alone */
bool node_peer_listens(const struct ledger *l);           /* R3: the partner fetched recently */
int64_t node_waits_until(const struct ledger *l);         /* R10: the latest of all; 0: none */
int64_t node_former_wait(
    const struct ledger *l); /* the same of our former selves that we inherited */
int64_t node_next_wait(const struct ledger *l, int64_t after_ms); /* INT64_MAX: none ends later */
int64_t node_longest_ever(const struct ledger *l);
void node_settle_longest(struct ledger *l); /* R10: the partner knows how long our leases may be */

/* pair.c */
void request_introduce(struct ledger *l, const struct ledger_event *e, struct ledger_result *r);
void request_meet(struct ledger *l, const struct ledger_event *e, struct ledger_result *r);
void request_dismissed(struct ledger *l, const struct ledger_event *e, struct ledger_result *r);
void request_retire(struct ledger *l, const struct ledger_event *e, struct ledger_result *r);
void request_drain(struct ledger *l, const struct ledger_event *e, struct ledger_result *r);
void request_resume(struct ledger *l, const struct ledger_event *e, struct ledger_result *r);

/* merge.c */
void request_merge(struct ledger *l, const struct ledger_event *e, struct ledger_result *r);

/* share.c: R12 */
void share_evenly(struct ledger *l);
void share_all(struct ledger *l); /* a drained node keeps nothing */
void request_give(struct ledger *l, const struct ledger_event *e, struct ledger_result *r);

/* scope.c */
struct scope *scope_find(const struct ledger *l, const struct uuid *ref);
int64_t scope_credits(const struct scope *scope, size_t node);
int64_t scope_free(const struct ledger *l,
                   const struct scope *scope); /* negative after a reduction */
int64_t scope_free_at(const struct ledger *l, const struct scope *scope, size_t owner);
int64_t scope_debt(const struct ledger *l, const struct scope *scope); /* of self; 0: none */
int64_t scope_pending(const struct scope *scope);
struct move *scope_move(struct scope *scope, size_t giver, size_t receiver); /* made if missing */
struct scope_view scope_to_view(struct ledger *l, struct scope *scope);
void scope_mints_settle(struct ledger *l); /* R2: what was minted becomes usable */
void scope_index_features(struct ledger *l);
size_t scope_features_find(const struct ledger *l, const char *name, size_t *first); /* how many */
enum err scope_install(struct ledger *l, struct entitlement *e, struct diag *diag);
/* A revision that is not known here, of any number (load, merge). */
struct revision *scope_add_revision(struct ledger *l, const struct entitlement_row *row,
                                    size_t minter, bool trusted);
/* Anew from the revisions: what is in force, and who minted how much of it. */
void scope_derive(struct ledger *l, struct installed *installed, bool trusted);
struct revision *scope_revision(const struct ledger *l, const struct uuid *entitlement_ref,
                                int64_t revision);
const struct feature *feature_of(const struct entitlement *e, const struct uuid *scope_ref);
/* A scope belongs to one entitlement, and keeps its feature's name, for ever. */
enum err scope_check(const struct ledger *l, const struct entitlement *e, struct diag *diag);
void scope_free_all(struct ledger *l);

/* origin.c */
struct origin *origin_find(const struct ledger *l, const struct uuid *ref);
struct origin *origin_new(struct ledger *l, const struct uuid *ref); /* untold, enrolled */
/* Finds the proven origin, which becomes known if it was not. ERR_ORIGIN_DELETED */
enum err origin_prove(struct ledger *l, const struct origin_proof *proof, struct origin **out);
void origin_delete(struct ledger *l, struct origin *origin);
/* It turns out to have been deleted elsewhere: its leases of older generations end. */
void origin_renew(struct ledger *l, struct origin *origin, uint32_t generation);

/* lease.c */
struct lease *lease_find(const struct ledger *l, const struct uuid *ref, size_t home);
struct lease *lease_new(struct ledger *l); /* zeroed memory, in no list yet */
/* All that a row says but its key and its number. */
void lease_from_row(struct lease *lease, const struct lease_row *row, struct origin *origin,
                    const struct scope *scope);
void lease_insert(struct ledger *l, struct lease *lease); /* table, origin, scope, heaps */
void lease_attach(struct ledger *l, struct lease *lease); /* the same, but it is in the table */
/* Ended, seat back, and granted by another node: what that one may have purged meanwhile. */
bool lease_is_buried(const struct ledger *l, const struct lease *lease);
void lease_dig_up(struct ledger *l, struct lease *lease);     /* out of the graves */
void lease_renumbered(struct ledger *l, struct lease *lease); /* changed, perhaps after its end */
void lease_extend(struct ledger *l, struct lease *lease, int64_t expires_ms);
void lease_end(struct ledger *l, struct lease *lease, enum lease_state state);
/* Another node ended it, or when it ended cannot be ordered with renewals. */
void lease_end_as(struct ledger *l, struct lease *lease, enum lease_state state, int64_t ended_ms,
                  int64_t ended_expires_ms);
void lease_expire_due(struct ledger *l);          /* R7, and seats that only wait for time */
void lease_settle_acknowledged(struct ledger *l); /* R6 */
/* Asks of every lease again whether it holds its seats: another revision (R6), another owner or the
 * end of a wait (R10). */
void lease_settle_all(struct ledger *l);
void lease_sort_unacked(struct ledger *l);                      /* after loading */
int64_t lease_next_back(struct ledger *l, struct scope *scope); /* 0: no seat is held */
size_t lease_purge(struct ledger *l, size_t limit, bool at_once, bool *more); /* R5 */
/* Earliest own time at which a lease can be over on every clock but the partner's (R7, R10). */
int64_t lease_due(const struct ledger *l, const struct lease *lease);
void lease_supersede(struct ledger *l, const struct uuid *ref); /* R9 */
/* R9: the other node renewed it before it heard that it had yielded. */
void lease_owe(struct ledger *l, struct lease *lease, int64_t expires_ms);
bool lease_seat_back(const struct ledger *l, const struct lease *lease);
void lease_free_all(struct ledger *l);
