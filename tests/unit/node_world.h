/* A node without a node: a pure ledger and its store, in a database of its own. Run under
 * tests/lib/with-postgres. */
#pragma once

#include "database.h"

#define NOW_MS  INT64_C(1800000000000)
#define SCOPES  3
#define ORIGINS 20
#define REFS    400

struct world {
    struct database db;
    struct store *store;
    struct ledger *ledger;
    struct store_identity identity;
    bool peer_expected;
    bool secondary;   /* installs nothing */
    int64_t now_ms;   /* NOW_MS to begin with */
    uint64_t seed;    /* not 0 */
    int64_t revision; /* of the entitlement */
};

extern const struct uuid world_instance;

/* kind: 'e' entitlement, 's' scope (below SCOPES), 'o' origin (below ORIGINS), 'l' lease. */
struct uuid world_uuid(char kind, uint64_t number);

/* A repeatable sequence of numbers below `bound`. */
uint64_t world_below(uint64_t *seed, uint64_t bound);

/* Opens the store and loads the ledger; fails the test if that fails. */
void world_load(struct world *world);
void world_unload(struct world *world);
struct ledger *world_new_ledger(const struct world *world);

/* Writes what has changed. */
void world_commit(struct world *world);
/* One event at the world's time; its result is thrown away, but for the error. */
enum err world_step(struct world *world, struct ledger_event event);

/* The next revision, with other numbers of seats. */
void world_install(struct world *world);
/* One of everything that changes rows; most of it may be refused, which is as good. */
void world_random_step(struct world *world);

/* Fails the test with what schema/invariants.sql says. */
void world_assert_no_broken_rule(const struct world *world);
