/* Who may use what: the dumbest possible model, fed only with what clients and operators sent and
 * were told. It knows nothing of credits, seats held, watermarks or purging.
 *
 * I1  At every moment the seats of the leases that somebody may still rightfully use, added up, are
 *     at most what was in force when the newest of them was granted. A lease may be used until its
 *     home's clock has passed its `expires`, or somebody who may has given it up.
 * I2  A lease that was told to its client can be renewed until then.
 * R1  Nobody is told an earlier time than anybody before.
 * R5  Ended is final: what was certainly given up is never told as active again.
 *     A deleted origin's old secret is worth nothing.
 *
 * What cannot be known (a release whose answer was lost) counts in favour of the node. */
#pragma once

#include "wire.h"

#define SIM_CLIENTS_MAX 24

struct world;

struct audited_lease {
    struct uuid lease_ref, scope_ref;
    size_t origin; /* who holds it */
    int64_t count, created_ms, expires_ms;
    uint64_t born, told;      /* when it was first and last told to be active */
    uint64_t counted_from;    /* ends sent since then are counted below */
    unsigned ends_on_the_way; /* requests to end it that are not answered yet */
    uint64_t end_known;       /* when the last of them was */
    bool maybe_ended;         /* one was sent since; whether it was done is not known */
    bool ended;               /* one was certainly done */
    bool blind; /* a reference that another origin had used: whose ends are on the way is not known
                 */
};

struct audited_origin {
    unsigned ends_on_the_way; /* the same for all its leases */
    uint64_t end_known;
    uint64_t deletion_sent, deletion_known; /* the last one that was certainly done */
};

struct audited_epoch { /* seats of a scope in force from then on */
    struct uuid scope_ref;
    int64_t revision, from_ms, seats, ends_ms, lease_max_ms;
};

struct auditor {
    struct audited_lease *leases;
    struct audited_epoch *epochs;
    struct audited_origin origins[SIM_CLIENTS_MAX];
    size_t lease_count, lease_capacity, epoch_count, epoch_capacity;
    int64_t told_ms;
    uint64_t told_leases, checks; /* to see that a run was not idle */
};

void auditor_fini(struct auditor *auditor);

/* Any certain answer. */
void auditor_clock(struct world *world, const struct request *request);

/* An operator sends an entitlement for the first time: growth counts from now, a reduction from
 * when it is known to be installed. */
void auditor_install_sent(struct world *world, const struct entitlement *e);
void auditor_install_known(struct world *world, const struct entitlement *e, int64_t now_ms);

/* Somebody asks to end one lease of an origin, or of ANY_ORIGIN, or all of it (lease_ref NULL). */
#define ANY_ORIGIN SIZE_MAX
void auditor_end_sent(struct world *world, const struct uuid *lease_ref, size_t origin);
/* That request is over. certain: it was done. */
void auditor_end_known(struct world *world, const struct uuid *lease_ref, size_t origin,
                       const struct request *request, bool certain);

/* An origin was certainly deleted. */
void auditor_deleted(struct world *world, const struct request *request, size_t origin);
/* An origin's proof was taken; its secret was told to it at secret_since. */
void auditor_proof_taken(struct world *world, const struct request *request, size_t origin,
                         uint64_t secret_since);

/* origin was told that this lease is active. */
void auditor_told(struct world *world, const struct request *request, size_t origin,
                  const struct lease_view *view);
/* origin was refused a renewal of its own lease, with all it needs to show. */
void auditor_refused(struct world *world, const struct request *request, size_t origin);
/* origin was told all its leases. */
void auditor_listed(struct world *world, const struct request *request, size_t origin);
