/* What happens when, in virtual time; at the same instant in the order it was entered. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct world;

typedef void agenda_function(struct world *world, void *subject, uint64_t number);

struct agenda_entry {
    int64_t at_ms;
    uint64_t order;
    agenda_function *function;
    void *subject;
    uint64_t number;
};

struct agenda {
    struct agenda_entry *entries; /* binary heap */
    size_t count, capacity;
    uint64_t order;
};

void agenda_fini(struct agenda *agenda);
void agenda_add(struct agenda *agenda, int64_t at_ms, agenda_function *function, void *subject,
                uint64_t number);
struct agenda_entry agenda_pop(struct agenda *agenda); /* must not be empty */
