/* Binary min-heap of leases by an instant. Keys are lower bounds: a renewal does not touch the
 * heap, whoever takes the top compares it with the lease and puts it back if it was extended. So
 * each lease stands in at most one seat heap, once. */
#pragma once

#include <stdint.h>

#include "base/must.h"

struct lease;

struct heap_entry {
    int64_t at_ms;
    struct lease *lease;
};

struct heap {
    struct heap_entry *entries;
    size_t count, capacity;
};

void heap_fini(struct heap *heap);
void heap_push(struct heap *heap, int64_t at_ms, struct lease *lease);
struct heap_entry heap_pop(struct heap *heap); /* must not be empty */
/* Restores the order after entries were changed or removed in place. */
void heap_rebuild(struct heap *heap);

/* INT64_MAX if empty. */
static inline int64_t heap_top_ms(const struct heap *heap)
{
    return heap->count ? heap->entries[0].at_ms : INT64_MAX;
}
