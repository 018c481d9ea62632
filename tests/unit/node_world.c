#include "node_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

const struct uuid world_instance = { "instance-ref-001" };

struct uuid world_uuid(char kind, uint64_t number)
{
    struct uuid uuid = { "uuid-of" };

    uuid.bytes[7] = (uint8_t)kind;
    for (size_t i = 0; i < 8; i++)
        uuid.bytes[8 + i] = (uint8_t)(number >> (8 * (7 - i)));
    return uuid;
}

/* A repeatable sequence (xorshift64). */
static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

uint64_t world_below(uint64_t *seed, uint64_t bound)
{
    return next_random(seed) % bound;
}

struct ledger *world_new_ledger(const struct world *world)
{
    const struct ledger_conf conf = { .self = world->identity.node_ref,
                                      .peer_expected = world->peer_expected,
                                      .lease_max_ms = 600000,
                                      .skew_max_ms = 2000,
                                      .ended_keep_ms = 5000,
                                      .hash_seed = { 1, 2 } };

    return ledger_new(&conf);
}

void world_load(struct world *world)
{
    struct diag diag = { "" };

    if (store_open(world->db.conninfo, &world_instance, 10000, &world->store, &world->identity,
                   &diag) != ERR_OK)
        fail_msg("%s", diag.text);
    world->ledger = world_new_ledger(world);
    if (store_load(world->store, world->ledger, fake_entitlement_open, NULL, &diag) != ERR_OK)
        fail_msg("%s", diag.text);
    ledger_check(world->ledger);
}

void world_unload(struct world *world)
{
    world->ledger = ledger_free(world->ledger);
    world->store = store_close(world->store);
}

void world_commit(struct world *world)
{
    struct commit_receipt receipt;
    struct diag diag = { "" };

    if (store_commit(world->store, ledger_changes(world->ledger), world->now_ms + 1000, &receipt,
                     &diag) != ERR_OK)
        fail_msg("%s", diag.text);
    assert_int_equal(receipt.seq, ledger_seq(world->ledger));
    ledger_changes_clear(world->ledger);
}

enum err world_step(struct world *world, struct ledger_event event)
{
    struct ledger_result result;

    event.now_ms = world->now_ms;
    ledger_step(world->ledger, &event, &result);
    enum err err = result.err;
    ledger_result_fini(&result);
    return err;
}

void world_install(struct world *world)
{
    struct uuid ref = world_uuid('e', 1), scopes[SCOPES];
    int64_t seats[SCOPES];

    for (uint64_t i = 0; i < SCOPES; i++) {
        scopes[i] = world_uuid('s', i);
        seats[i] = (int64_t)world_below(&world->seed, 60) + 1;
    }
    AUTO(entitlement_unref)
    struct entitlement *e = fake_entitlement(&ref, ++world->revision, SCOPES, scopes, seats);
    assert_int_equal(
        world_step(world, (struct ledger_event){ .kind = LEDGER_INSTALL, .install = { e } }),
        ERR_OK);
}

static struct origin_proof random_origin(struct world *world)
{
    return (struct origin_proof){ world_uuid('o', world_below(&world->seed, ORIGINS)), 0 };
}

static void grant(struct world *world)
{
    struct grant_item items[3];
    size_t count = world_below(&world->seed, ARRAY_SIZE(items)) + 1;

    for (size_t i = 0; i < count; i++)
        items[i] =
            (struct grant_item){ .has_lease_ref = true,
                                 .scope_ref = world_uuid('s', world_below(&world->seed, SCOPES)),
                                 .lease_ref = world_uuid('l', world_below(&world->seed, REFS)),
                                 .count = (int64_t)world_below(&world->seed, 3) + 1,
                                 .duration_ms = 1000 + (int64_t)world_below(&world->seed, 20000) };
    world_step(world, (struct ledger_event){ .kind = LEDGER_GRANT,
                                             .grant = { .origin = random_origin(world),
                                                        .items = items,
                                                        .item_count = count } });
}

/* One of everything that changes rows; most of it may be refused, which is as good. */
void world_random_step(struct world *world)
{
    struct uuid lease_ref = world_uuid('l', world_below(&world->seed, REFS));
    struct origin_proof origin = random_origin(world);
    struct ledger_event event = { .kind = LEDGER_TICK };

    world->now_ms += (int64_t)world_below(&world->seed, 50);
    switch (world_below(&world->seed, 12)) {
    case 0:
        event = (struct ledger_event){ .kind = LEDGER_ENROL,
                                       .enrol = { .origin_ref = origin.origin_ref,
                                                  .environment = "{\"hostname\":\"h\"}" } };
        break;
    case 1:
    case 2:
        event = (struct ledger_event){ .kind = LEDGER_RENEW, .renew = { origin, lease_ref, NULL } };
        break;
    case 3:
        event =
            (struct ledger_event){ .kind = LEDGER_RELEASE, .release = { origin, lease_ref, NULL } };
        break;
    case 4:
        event = (struct ledger_event){ .kind = LEDGER_REVOKE, .revoke = { lease_ref } };
        break;
    case 5:
        if (world_below(&world->seed, 50) == 0)
            event = (struct ledger_event){ .kind = LEDGER_ORIGIN_DELETE,
                                           .origin_delete = { origin.origin_ref } };
        break;
    case 6:
        if (world_below(&world->seed, 30) == 0 && !world->secondary)
            world_install(world);
        break;
    case 7:
        if (world_below(&world->seed, 20) == 0)
            event = (struct ledger_event){ .kind = LEDGER_PURGE, .purge = { 10 } };
        break;
    default:
        grant(world);
        return;
    }
    world_step(world, event);
}

void world_assert_no_broken_rule(const struct world *world)
{
    AUTO(mem_free) char *broken = database_broken_rules(&world->db);

    if (*broken)
        fail_msg("broken rules:\n%s", broken);
}
