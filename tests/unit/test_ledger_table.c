/* The two containers under the ledger, against the dumbest possible models. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ledger/heap.h"
#include "ledger/ledger.h"
#include "ledger/state.h"
#include "ledger/table.h"

static uint64_t random_state = 42;

static uint64_t draw(uint64_t below)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (random_state >> 33) % below;
}

struct record {
    struct uuid ref;
    bool inside;
};

static size_t found(const struct table *table, const struct record *wanted)
{
    size_t at, count = 0;

    for (struct record *p = table_first(table, &wanted->ref, &at); p;
         p = table_next(table, &wanted->ref, &at))
        count += p == wanted;
    return count;
}

/* Hashing under a seed of nothing and references that differ little: long runs and wrap-around. */
static void table_finds_what_was_added_and_nothing_else(void **state)
{
    enum { RECORDS = 300 };
    static struct record records[RECORDS];
    struct table table;

    (void)state;
    table_init(&table, (const uint64_t[2]){ 0, 0 });
    for (unsigned i = 0; i < RECORDS; i++) {
        records[i].ref.bytes[15] = (uint8_t)(i / 3); /* three of each */
        records[i].ref.bytes[0] = (uint8_t)(i / 200);
    }
    assert_null(table_find(&table, &records[0].ref));
    size_t inside = 0;
    for (int step = 0; step < 20000; step++) {
        struct record *r = &records[draw(RECORDS)];
        if (r->inside)
            table_remove(&table, r);
        else
            table_add(&table, r);
        inside = r->inside ? inside - 1 : inside + 1;
        r->inside = !r->inside;
        assert_int_equal(table.count, inside);
        if (step % 500 == 0) {
            for (size_t i = 0; i < RECORDS; i++)
                assert_int_equal(found(&table, &records[i]), records[i].inside);
        }
    }
    table_fini(&table);
}

static void heap_gives_the_least(void **state)
{
    struct heap heap = { .entries = NULL };
    int64_t kept[300];
    size_t count = 0;

    (void)state;
    assert_int_equal(heap_top_ms(&heap), INT64_MAX);
    for (int step = 0; step < 20000; step++) {
        if (count == 0 || (count < ARRAY_SIZE(kept) && draw(100) < 52)) {
            kept[count] = (int64_t)draw(1000);
            heap_push(&heap, kept[count++], NULL);
        } else {
            size_t least = 0;
            for (size_t i = 1; i < count; i++)
                least = kept[i] < kept[least] ? i : least;
            assert_int_equal(heap_top_ms(&heap), kept[least]);
            assert_int_equal(heap_pop(&heap).at_ms, kept[least]);
            kept[least] = kept[--count];
        }
        if (step % 100 == 0) { /* changed in place */
            for (size_t i = 0; i < count; i++)
                heap.entries[i].at_ms = kept[i] = (int64_t)draw(1000);
            heap_rebuild(&heap);
        }
    }
    heap_fini(&heap);
}

/* Figures of design §7: 400 bytes an active lease, table, heap and origin included. */
static void lease_is_small(void **state)
{
    (void)state;
    size_t slots =
        2 * sizeof(void *) * 8 / 3; /* a table just grown is 3/8 full: lease and origin */
    assert_true(sizeof(struct lease) + sizeof(struct origin) + 2 * sizeof(struct heap_entry) +
                    2 * slots <=
                400);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_finds_what_was_added_and_nothing_else),
        cmocka_unit_test(heap_gives_the_least),
        cmocka_unit_test(lease_is_small),
    };

    return cmocka_run_group_tests_name("ledger_table", tests, NULL, NULL);
}
