/* Whoever runs the instance: installs entitlements, revokes leases, deletes origins, purges. */
#pragma once

#include "wire.h"

#define SIM_ENTITLEMENTS 2
#define SIM_SCOPES       3 /* two of the first entitlement, one of the second */

struct world;

struct operator
{
    struct uuid entitlements[SIM_ENTITLEMENTS], scopes[SIM_SCOPES];
    int64_t revisions[SIM_ENTITLEMENTS];
    struct entitlement *newest[SIM_ENTITLEMENTS];
    bool installing; /* one at a time, until it is certain */
};

const char *operator_feature_name(size_t scope);

void operator_start(struct world *world);
void operator_fini(struct operator* operator);

/* After healing: nothing is held, nothing must be kept, every seat can be granted. */
void operator_take_stock(struct world *world);
