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

/* `row_at` in every record: 1 + its place among the rows of the present batch; 0: not changed in
 * it. */

struct origin {
    struct uuid ref; /* first: table.h */
    int64_t created_ms, updated_ms;
    uint64_t seq;
    struct lease *leases; /* active ones, doubly linked */
    uint32_t lease_count;
    uint32_t generation;
    uint32_t row_at;
    bool enrolled;
};

struct lease {
    struct uuid ref; /* first: table.h */
    int64_t created_ms, duration_ms, expires_ms, ended_ms, ended_expires_ms;
    uint64_t seq;
    struct origin *origin;
    struct lease *next, *prev; /* active: among its origin's. Ended: next = in the queue for R6 */
    uint32_t count;
    uint32_t scope; /* index into ledger.scopes */
    uint32_t row_at;
    uint8_t home;  /* index into ledger.nodes */
    uint8_t state; /* enum lease_state */
    bool shared;
    bool holds;   /* R6, R7: its seats are taken from its home's credits */
    bool in_heap; /* stands in a seat heap of its scope */
};

struct credit {
    int64_t minted; /* R2, by the node of this index */
    int64_t usable; /* of that; as its owner knows */
    int64_t revision;
    uint64_t seq;
    uint32_t row_at;
};

struct move {
    uint8_t giver, receiver;
    int64_t moved;
    uint64_t seq;
    uint32_t row_at;
};

struct scope {
    struct uuid ref;                 /* first: table.h */
    struct entitlement *entitlement; /* owned: the newest revision that has this scope */
    const struct feature *feature;   /* inside it */
    int64_t seats;                   /* in force */
    uint64_t seq;
    uint32_t index, row_at;
    bool trusted;
    struct credit credits[LEDGER_NODES_MAX];
    VEC(struct move) moves;
    int64_t held[LEDGER_NODES_MAX];      /* by home */
    int64_t waiting;                     /* of held, all homes: by ended leases */
    int64_t active;                      /* leases */
    struct heap private_due, shared_due; /* own leases that hold seats, by expiry */
};

struct node {
    struct uuid ref;
    int64_t watermark_ms;
    uint64_t acknowledged;
    int64_t fetched_ms; /* own clock, when it last fetched; 0: never. Not stored */
    uint64_t seq;
    uint32_t row_at;
};

/* The newest installed revision of each entitlement. */
struct installed {
    struct uuid ref;                 /* first: table.h */
    struct entitlement *entitlement; /* owned */
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
    bool clock_alarm; /* R1: R7 pauses */
    bool loading;
    struct node nodes[LEDGER_NODES_MAX]; /* [0] is self */
    size_t node_count;
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

/* changes.c: notes that a record changed: gives it the next change number and (re)writes its row.
 */
void lease_changed(struct ledger *l, struct lease *lease);
void origin_changed(struct ledger *l, struct origin *origin, const char *environment);
void credit_changed(struct ledger *l, struct scope *scope, size_t node);
void move_changed(struct ledger *l, struct scope *scope, struct move *move);
void node_changed(struct ledger *l, struct node *node);
void scope_changed(struct ledger *l, struct scope *scope);
void entitlement_changed(struct ledger *l, struct entitlement *e);
void lease_purged(struct ledger *l, const struct lease *lease);
struct lease_row lease_to_row(const struct ledger *l, const struct lease *lease);
void changes_fini(struct ledger *l);

/* node.c */
int node_index(const struct ledger *l, const struct uuid *ref); /* -1: unknown */
int node_learn(struct ledger *l, const struct uuid *ref);       /* -1: no room */
int64_t node_least_watermark(const struct ledger *l);     /* of all others; INT64_MAX if alone */
uint64_t node_least_acknowledged(const struct ledger *l); /* of all others; UINT64_MAX if alone */
bool node_peer_listens(const struct ledger *l); /* R3: every other node fetched recently */

/* scope.c */
struct scope *scope_find(const struct ledger *l, const struct uuid *ref);
int64_t scope_credits(const struct scope *scope, size_t node);
int64_t scope_free(const struct scope *scope); /* of self; negative after a reduction */
int64_t scope_pending(const struct scope *scope);
struct move *scope_move(struct scope *scope, size_t giver, size_t receiver); /* made if missing */
struct scope_view scope_to_view(struct ledger *l, struct scope *scope);
void scope_mints_settle(struct ledger *l); /* R2: what was minted becomes usable */
void scope_index_features(struct ledger *l);
size_t scope_features_find(const struct ledger *l, const char *name, size_t *first); /* how many */
enum err scope_install(struct ledger *l, struct entitlement *e, bool trusted, struct diag *diag);
void scope_free_all(struct ledger *l);

/* origin.c */
struct origin *origin_find(const struct ledger *l, const struct uuid *ref);
struct origin *origin_new(struct ledger *l, const struct uuid *ref);
/* Finds the proven origin, which becomes known if it was not. ERR_ORIGIN_DELETED */
enum err origin_prove(struct ledger *l, const struct origin_proof *proof, struct origin **out);
void origin_delete(struct ledger *l, struct origin *origin);

/* lease.c */
struct lease *lease_find(const struct ledger *l, const struct uuid *ref, size_t home);
struct lease *lease_new(struct ledger *l);                /* zeroed memory, in no list yet */
void lease_insert(struct ledger *l, struct lease *lease); /* table, origin, scope, heaps */
void lease_extend(struct ledger *l, struct lease *lease, int64_t expires_ms);
void lease_end(struct ledger *l, struct lease *lease, enum lease_state state);
void lease_expire_due(struct ledger *l);          /* R7, and seats that only wait for time */
void lease_settle_acknowledged(struct ledger *l); /* R6 */
void lease_settle_policy(struct ledger *l, const struct scope *scope); /* R6: another revision */
void lease_sort_unacked(struct ledger *l);                             /* after loading */
int64_t lease_next_back(struct ledger *l, struct scope *scope);        /* 0: no seat is held */
size_t lease_purge(struct ledger *l, size_t limit, bool at_once, bool *more); /* R5 */
bool lease_seat_back(const struct ledger *l, const struct lease *lease);
void lease_free_all(struct ledger *l);
