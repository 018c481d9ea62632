/* Requests on their way to a node and answers on their way back: late, out of order, or lost. A
 * request has one life: sender, wire, node, wire, sender; then the sender frees it. */
#pragma once

#include "ledger/ledger.h"

#define SIM_ITEMS_MAX 4
/* Clients and operators: the wire between the nodes is not theirs. */
#define FROM_OUTSIDE SIZE_MAX

struct world;
struct sim_node;

/* A page on the wire; it may arrive more than once. */
struct sim_page {
    unsigned references;
    struct ledger_page *page;
};
struct sim_page *sim_page_new(struct ledger_page *page); /* takes it */
struct sim_page *sim_page_ref(struct sim_page *page);
void sim_page_unref(struct sim_page *page);

struct request {
    struct ledger_event event;   /* its pointers lead into this request */
    struct ledger_result result; /* when answered */
    bool lost;                   /* no answer came: nobody knows what happened */
    bool local;                  /* from the node's own worker */
    uint64_t sent;               /* orders sendings, answers and ends for the auditor */
    size_t from, to;             /* seats */
    size_t teller;               /* identity that decided it */
    int64_t decided_ms;          /* true time at which it did */
    uint64_t seq;                /* its change number after the commit */
    int64_t told_before_ms;      /* the latest time that identity had told when it was sent … */
    size_t told_before_by;       /* … or rather the one that had the seat then */
    int64_t before_ms[SIM_ITEMS_MAX]; /* latest `expires` anybody had decided, per lease told */
    struct uuid receiver; /* of a call between nodes: for this one alone; nil: for any */
    size_t sender;
    uint64_t life, session;      /* of the sending process; of its database session */
    size_t slots[SIM_ITEMS_MAX]; /* the sender's notes */
    enum err note;
    void (*on_answer)(struct world *world, struct request *request);
    struct request *next; /* in the node's queue */
    struct grant_item items[SIM_ITEMS_MAX];
    struct lease_evidence evidence;
    struct entitlement *entitlement; /* owned */
    struct sim_page *page;           /* owned reference */
};

struct wire_faults {
    unsigned lost_per_mille;
    unsigned again_per_mille; /* a page arrives once more, much later */
    unsigned slow_per_mille;  /* between the nodes: seconds instead of milliseconds */
    int64_t delay_max_ms;
};

struct request *request_new(enum ledger_event_kind kind);
struct request *request_free(struct request *request);

void wire_send(struct world *world, struct request *request);
/* The node has done with it; result is set, or the connection broke (lost). */
void wire_answer(struct world *world, struct request *request);

/* True if the answer says for certain that nothing was done: neither lost nor a 503. */
bool request_certain(const struct request *request);
