#include "ledger/table.h"

#define CAPACITY_MIN 64

void table_init(struct table *table, const uint64_t seed[2])
{
    *table = (struct table){ .seed = { seed[0], seed[1] } };
}

void table_fini(struct table *table)
{
    mem_free(table->slots);
    *table = (struct table){ .slots = NULL };
}

/* Multiply-and-fold of both halves under two secret words (the mixing step of wyhash). */
static uint64_t fold(uint64_t a, uint64_t b)
{
    __extension__ unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static size_t home_slot(const struct table *table, const struct uuid *ref)
{
    uint64_t half[2];

    memcpy(half, ref->bytes, sizeof half);
    uint64_t hash = fold(half[0] ^ table->seed[0], half[1] ^ table->seed[1]);
    hash = fold(hash ^ table->seed[1], 0x9e3779b97f4a7c15u ^ table->seed[0]);
    return (size_t)hash & (table->capacity - 1);
}

static void place(struct table *table, void *record)
{
    size_t at = home_slot(table, record);

    while (table->slots[at])
        at = (at + 1) & (table->capacity - 1);
    table->slots[at] = record;
}

static void grow(struct table *table)
{
    void **old = table->slots;
    size_t old_capacity = table->capacity;

    table->capacity = old_capacity ? old_capacity * 2 : CAPACITY_MIN;
    table->slots = mem_calloc(table->capacity, sizeof *table->slots);
    for (size_t i = 0; i < old_capacity; i++) {
        if (old[i])
            place(table, old[i]);
    }
    mem_free(old);
}

void table_add(struct table *table, void *record)
{
    if (table->count * 4 >= table->capacity * 3)
        grow(table);
    place(table, record);
    table->count++;
}

/* Knuth, TAOCP 3, 6.4, algorithm R: closes the gap, so that no tombstones are needed. */
static void close_gap(struct table *table, size_t gap)
{
    size_t mask = table->capacity - 1;

    for (size_t at = (gap + 1) & mask; table->slots[at]; at = (at + 1) & mask) {
        size_t wants = home_slot(table, table->slots[at]);
        if (((at - wants) & mask) >= ((at - gap) & mask)) {
            table->slots[gap] = table->slots[at];
            gap = at;
        }
    }
    table->slots[gap] = NULL;
}

void table_remove(struct table *table, void *record)
{
    must(table->count > 0);
    size_t at = home_slot(table, record);
    while (table->slots[at] != record) {
        must(table->slots[at]);
        at = (at + 1) & (table->capacity - 1);
    }
    close_gap(table, at);
    table->count--;
}

static void *scan(const struct table *table, const struct uuid *ref, size_t *at)
{
    for (; table->slots[*at]; *at = (*at + 1) & (table->capacity - 1)) {
        if (uuid_equal(table->slots[*at], ref))
            return table->slots[*at];
    }
    return NULL;
}

void *table_first(const struct table *table, const struct uuid *ref, size_t *at)
{
    if (!table->capacity)
        return NULL;
    *at = home_slot(table, ref);
    return scan(table, ref, at);
}

void *table_next(const struct table *table, const struct uuid *ref, size_t *at)
{
    *at = (*at + 1) & (table->capacity - 1);
    return scan(table, ref, at);
}

void *table_find(const struct table *table, const struct uuid *ref)
{
    size_t at;
    return table_first(table, ref, &at);
}
