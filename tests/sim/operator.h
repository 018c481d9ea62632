/* Whoever runs the instance: installs entitlements, revokes leases, deletes origins, purges; kills
 * and cuts (that is bad luck, but somebody must do it), puts back old disks; drains, retires and
 * replaces nodes, and keeps what R10 and R11 ask of operators: retired is only who has stopped, or
 * stops within MAX_CLOCK_SKEW; a copy of a whole disk goes in only while the other node is up and
 * the wire is whole. */
#pragma once

#include "wire.h"

#define SIM_ENTITLEMENTS 2
#define SIM_SCOPES       3 /* two of the first entitlement, one of the second */

struct world;
struct sim_node;

enum incident {
    INCIDENT_CUT,         /* the wire, both ways or one way, for a while */
    INCIDENT_KILL,        /* a node, for a while */
    INCIDENT_RESTORE,     /* an older database, beside the present state file */
    INCIDENT_DISK,        /* an older disk */
    INCIDENT_EMPTY,       /* the database is gone, the state file is not */
    INCIDENT_LOSE_ALL,    /* both are gone */
    INCIDENT_DEAD,        /* the machine is, for good */
    INCIDENT_RETIRE_LIVE, /* wrongly; the node is stopped soon after */
    INCIDENT_DRAIN,
    INCIDENT_BOTH_LOST, /* R11: only an operator can start again */
    INCIDENTS
};

struct operator
{
    struct uuid entitlements[SIM_ENTITLEMENTS], scopes[SIM_SCOPES];
    enum seat_return on_release[SIM_SCOPES], on_revoke[SIM_SCOPES];
    int64_t revisions[SIM_ENTITLEMENTS];
    struct entitlement *newest[SIM_ENTITLEMENTS];
    bool installing; /* one at a time, until it is certain */
    bool retiring;   /* one at a time */
    bool draining;   /* … */
    size_t drained;  /* seat */
    unsigned identity_changes;
    uint64_t retired, retired_closed;
};

const char *operator_feature_name(size_t scope);

void operator_start(struct world *world);
void operator_fini(struct operator* operator);
/* node has just decided to retire others, as it was told. */
void operator_retired(struct world *world, struct sim_node *node, const struct request *request);
/* Mends what only people can mend. */
void operator_mend(struct world *world);
/* In the healing phase: the newest entitlements are known to the pair. */
void operator_reinstall(struct world *world);
bool operator_content(const struct world *world); /* both nodes serve each other again */

/* After healing: nothing is held, nothing must be kept, every seat can be granted. */
void operator_take_stock(struct world *world);
