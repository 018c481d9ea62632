#include "store.h"

void sim_store_fini(struct sim_store *store)
{
    rows_fini(&store->rows);
}

int64_t sim_store_latency(const struct sim_store *store, struct dice *dice, bool faulty)
{
    if (faulty && dice_chance(dice, store->faults.slow_per_mille))
        return dice_between(dice, 1000, 20000);
    return dice_between(dice, 1, 20);
}

/* Checking a batch is quadratic: a sample of them is enough. */
static void write(struct sim_store *store, struct dice *dice, const struct ledger_changes *changes,
                  int64_t ceiling_ms)
{
    if (dice_chance(dice, 100))
        rows_check_batch(&store->rows, changes);
    rows_apply(&store->rows, changes, ceiling_ms);
}

enum err sim_store_commit(struct sim_store *store, struct dice *dice, bool faulty, int64_t true_ms,
                          const struct ledger_changes *changes, int64_t ceiling_ms)
{
    bool away = faulty && dice_chance(dice, store->faults.away_per_mille);
    bool unknown = faulty && dice_chance(dice, store->faults.unknown_per_mille);

    if (!away && !unknown) {
        write(store, dice, changes, ceiling_ms);
        return ERR_OK;
    }
    if (!away && dice_chance(dice, 500))
        write(store, dice, changes, ceiling_ms);
    store->away_until_ms = true_ms + dice_between(dice, 0, dice_chance(dice, 200) ? 20000 : 500);
    return away ? ERR_STORE_AWAY : ERR_STORE_UNKNOWN;
}

bool sim_store_abandon(struct sim_store *store, struct dice *dice,
                       const struct ledger_changes *changes, int64_t ceiling_ms)
{
    bool lands = dice_chance(dice, 500);

    if (lands)
        write(store, dice, changes, ceiling_ms);
    return lands;
}
