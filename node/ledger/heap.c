#include "ledger/heap.h"

void heap_fini(struct heap *heap)
{
    mem_free(heap->entries);
    *heap = (struct heap){ .entries = NULL };
}

static void sift_up(struct heap *heap, size_t at)
{
    struct heap_entry entry = heap->entries[at];

    while (at > 0 && heap->entries[(at - 1) / 2].at_ms > entry.at_ms) {
        heap->entries[at] = heap->entries[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap->entries[at] = entry;
}

static void sift_down(struct heap *heap, size_t at)
{
    struct heap_entry entry = heap->entries[at];

    for (size_t child; (child = 2 * at + 1) < heap->count; at = child) {
        if (child + 1 < heap->count && heap->entries[child + 1].at_ms < heap->entries[child].at_ms)
            child++;
        if (heap->entries[child].at_ms >= entry.at_ms)
            break;
        heap->entries[at] = heap->entries[child];
    }
    heap->entries[at] = entry;
}

void heap_push(struct heap *heap, int64_t at_ms, struct lease *lease)
{
    if (heap->count == heap->capacity) {
        heap->capacity = heap->capacity ? heap->capacity * 2 : 16;
        heap->entries = mem_resize(heap->entries, heap->capacity * sizeof *heap->entries);
    }
    heap->entries[heap->count++] = (struct heap_entry){ at_ms, lease };
    sift_up(heap, heap->count - 1);
}

struct heap_entry heap_pop(struct heap *heap)
{
    must(heap->count > 0);
    struct heap_entry top = heap->entries[0];
    heap->entries[0] = heap->entries[--heap->count];
    if (heap->count)
        sift_down(heap, 0);
    return top;
}

void heap_rebuild(struct heap *heap)
{
    for (size_t i = heap->count / 2; i-- > 0;)
        sift_down(heap, i);
}
