/* Who may use what: the dumbest possible model, fed only with what clients and operators sent and
 * were told. It knows nothing of credits, seats held, watermarks or purging.
 *
 * I1  At every moment the seats of the leases that somebody may still rightfully use, added up, are
 *     at most what was in force when the newest of them was granted, as far as the node that
 * granted it can know. A lease may be used until every node's clock has passed its `expires` (a
 * private one: that of the node that told it), or somebody who may has given it up. A node that was
 *     retired, or whose history is lost, decides nothing more; what it told is used by clients that
 *     count down on their own clocks, from the decision at the latest. A renewal after the end that
 * makes `expires` no later than anybody had decided before tells nothing new. I2  A lease that was
 * told to its client can be renewed until then: by the node that told it, by its home, by the node
 * that its token names; nobody who is up says that it is over. 503 answers are no refusals. R1
 * Nobody is told an earlier time than the same node told before. R5  Ended is final: a node that
 * said that a lease has ended never tells of it as active again. A deleted origin's old secret is
 * worth nothing where it was deleted.
 *
 * What cannot be known (a release whose answer was lost) counts in favour of the nodes. */
#pragma once

#include "wire.h"

#define SIM_CLIENTS_MAX 8

struct world;

struct audited_lease { /* one of (lease_ref, home, created) */
    struct uuid lease_ref, home, scope_ref;
    size_t origin; /* who holds it */
    int64_t count, created_ms;
    int64_t expires_ms; /* latest told */
    int64_t decided_ms; /* latest decided by anybody, told or not */
    int64_t until_ms;   /* true time at which a client that counts down from the decision stops */
    uint64_t born;      /* when it was granted */
    uint64_t told;      /* when it was last told to be active; 0: never */
    int64_t bound;      /* seats in force when it was granted */
    uint32_t told_by;   /* identities, as bits */
    uint32_t ended_by;
    size_t teller;            /* the last of them */
    struct uuid adopter;      /* in the newest token */
    uint32_t generation;      /* of its origin */
    uint64_t counted_from;    /* ends sent since then are counted below */
    unsigned ends_on_the_way; /* requests to end it that are not answered yet */
    uint64_t end_known;       /* when the last of them was */
    bool private;             /* no token said that another node may adopt it */
    bool in_use;
    bool kept;   /* revoked where a revoked lease's seat comes back at its expiry: still in use */
    bool ends;   /* somebody asked to end it, at some time: I2 is not asserted */
    bool blind;  /* its reference is another origin's, too; or its origin has a new name */
    bool stolen; /* the first of these: which of the two an operator's end was for is not known */
    int twin;    /* index of an earlier one with the same reference and origin; -1: none */
};

struct audited_origin {
    unsigned ends_on_the_way; /* the same for all its leases */
    uint64_t end_known;
    uint32_t deletions_sent;
    uint64_t deletion_sent, deletion_known; /* the last one that was certainly done … */
    size_t deleted_by;                      /* … and by whom */
};

struct audited_epoch { /* seats of a scope from then on */
    struct uuid scope_ref;
    int64_t revision, seats, ends_ms, lease_max_ms;
    uint64_t known[32]; /* order in which an identity said that it is installed; 0: never */
    bool at_expiry;     /* of revoked leases */
};

struct auditor {
    struct audited_lease *leases;
    struct audited_epoch *epochs;
    struct audited_origin origins[SIM_CLIENTS_MAX];
    size_t lease_count, lease_capacity, epoch_count, epoch_capacity;
    uint64_t told_leases, checks; /* to see that a run was not idle */
};

void auditor_fini(struct auditor *auditor);

/* Any certain answer. */
void auditor_clock(struct world *world, const struct request *request);

/* A node has stepped this request; whether anybody hears of it is not known. */
void auditor_decided(struct world *world, struct request *request);

/* An operator sends an entitlement for the first time: growth counts from now, a reduction from
 * when a node has said that it is installed there. */
void auditor_install_sent(struct world *world, const struct entitlement *e);
void auditor_install_known(struct world *world, const struct entitlement *e,
                           const struct request *request);

/* Somebody asks to end one lease of an origin, or of ANY_ORIGIN, or all of it (lease_ref NULL). */
#define ANY_ORIGIN SIZE_MAX
void auditor_end_sent(struct world *world, const struct uuid *lease_ref, size_t origin);
/* That request is over. certain: it was done. */
void auditor_end_known(struct world *world, const struct uuid *lease_ref, size_t origin,
                       const struct request *request, bool certain);

/* An operator asks to delete an origin; it was certainly deleted. */
void auditor_delete_sent(struct world *world, size_t origin);
void auditor_deleted(struct world *world, const struct request *request, size_t origin);
/* The client draws a new name: what its old one holds is out of its reach. */
void auditor_renamed(struct world *world, size_t origin);
/* An origin's proof was taken; its secret was told to it at secret_since, by secret_by. */
void auditor_proof_taken(struct world *world, const struct request *request, size_t origin,
                         uint64_t secret_since, size_t secret_by);

/* origin was told that this lease is active; at: which of the request's leases. */
void auditor_told(struct world *world, const struct request *request, size_t origin, size_t at);
/* origin was refused a renewal of its own lease. */
void auditor_refused(struct world *world, const struct request *request, size_t origin);
/* origin was told all its leases. */
void auditor_listed(struct world *world, const struct request *request, size_t origin);
/* R11: all history since then is lost with both databases: I2 is not asserted for older leases. */
void auditor_forget(struct world *world);
