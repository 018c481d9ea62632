#include "agenda.h"

#include <stdbool.h>

#include "base/must.h"

static bool before(const struct agenda_entry *a, const struct agenda_entry *b)
{
    return a->at_ms < b->at_ms || (a->at_ms == b->at_ms && a->order < b->order);
}

static void swap(struct agenda_entry *a, struct agenda_entry *b)
{
    struct agenda_entry kept = *a;

    *a = *b;
    *b = kept;
}

void agenda_fini(struct agenda *agenda)
{
    mem_free(agenda->entries);
    *agenda = (struct agenda){ .entries = NULL };
}

void agenda_add(struct agenda *agenda, int64_t at_ms, agenda_function *function, void *subject,
                uint64_t number)
{
    if (agenda->count == agenda->capacity) {
        agenda->capacity = agenda->capacity ? agenda->capacity * 2 : 64;
        agenda->entries = mem_resize(agenda->entries, agenda->capacity * sizeof *agenda->entries);
    }
    size_t at = agenda->count++;
    agenda->entries[at] =
        (struct agenda_entry){ at_ms, agenda->order++, function, subject, number };
    for (; at > 0 && before(&agenda->entries[at], &agenda->entries[(at - 1) / 2]);
         at = (at - 1) / 2)
        swap(&agenda->entries[at], &agenda->entries[(at - 1) / 2]);
}

struct agenda_entry agenda_pop(struct agenda *agenda)
{
    must(agenda->count > 0);
    struct agenda_entry top = agenda->entries[0];
    agenda->entries[0] = agenda->entries[--agenda->count];
    for (size_t at = 0, child; (child = 2 * at + 1) < agenda->count; at = child) {
        if (child + 1 < agenda->count &&
            before(&agenda->entries[child + 1], &agenda->entries[child]))
            child++;
        if (!before(&agenda->entries[child], &agenda->entries[at]))
            break;
        swap(&agenda->entries[child], &agenda->entries[at]);
    }
    return top;
}
