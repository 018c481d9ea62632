/* Requests on their way to a node and answers on their way back: late, out of order, or lost. A
 * request has one life: sender, wire, node, wire, sender; then the sender frees it. */
#pragma once

#include "ledger/ledger.h"

#define SIM_ITEMS_MAX 4

struct world;

struct request {
    struct ledger_event event;   /* its pointers lead into this request */
    struct ledger_result result; /* when answered */
    bool lost;                   /* no answer came: nobody knows what happened */
    uint64_t sent;               /* orders sendings, answers and ends for the auditor */
    int64_t told_before_ms;      /* the latest ledger time anybody had been told when it was sent */
    size_t sender;
    size_t slots[SIM_ITEMS_MAX]; /* the sender's notes */
    void (*on_answer)(struct world *world, struct request *request);
    struct request *next; /* in the node's queue */
    struct grant_item items[SIM_ITEMS_MAX];
    struct lease_evidence evidence;
    struct entitlement *entitlement; /* owned */
};

struct wire_faults {
    unsigned lost_per_mille;
    int64_t delay_max_ms;
};

struct request *request_new(enum ledger_event_kind kind);
struct request *request_free(struct request *request);

void wire_send(struct world *world, struct request *request);
/* The node has done with it; result is set, or the connection broke (lost). */
void wire_answer(struct world *world, struct request *request);

/* True if the answer says for certain that nothing was done: neither lost nor a 503. */
bool request_certain(const struct request *request);
