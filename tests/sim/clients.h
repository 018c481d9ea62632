/* Machines that want seats, of either node, and retry on the other. Some are honest; the others
 * keep every token they ever had, replay renewals and releases after the end, show other machines'
 * tokens, and use their references. */
#pragma once

#include "auditor.h"
#include "wire.h"

#define CLIENT_SLOTS 10

struct world;

enum slot_state { SLOT_FREE, SLOT_WANTED, SLOT_HELD, SLOT_DONE };

struct slot { /* one lease, as its client sees it */
    enum slot_state state;
    bool busy;                   /* a request about it is on its way */
    struct grant_item item;      /* as it was asked for, and will be again if the answer was lost */
    struct lease_evidence token; /* the newest; valid unless SLOT_FREE or SLOT_WANTED */
    struct lease_evidence old;   /* one it had before; cheaters keep it. Valid if it has a count */
};

struct client {
    struct uuid origin_ref;
    uint32_t generation;
    uint64_t secret_since; /* when it was told its secret … */
    size_t secret_by;      /* … and by whom */
    size_t favourite;      /* seat that it asks first */
    bool cheats, enrolling, enrolled;
    int64_t pace_ms;
    struct slot slots[CLIENT_SLOTS];
};

struct clients {
    struct client all[SIM_CLIENTS_MAX];
    size_t count;
};

void clients_start(struct world *world);
