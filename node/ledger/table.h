/* Hash table of records whose first member is their struct uuid. Open addressing with linear
 * probing and backward-shift deletion; several records may share a UUID. The hash is keyed: clients
 * choose references, and must not be able to choose collisions. */
#pragma once

#include "base/uuid.h"

struct table {
    void **slots;    /* NULL: free */
    size_t capacity; /* power of two, or 0 */
    size_t count;
    uint64_t seed[2];
};

void table_init(struct table *table, const uint64_t seed[2]);
void table_fini(struct table *table); /* the records are the caller's */
void table_add(struct table *table, void *record);
void table_remove(struct table *table, void *record); /* must be in it */

/* Records with this reference: for (p = table_first(t, ref, &at); p; p = table_next(t, ref, &at))
 */
void *table_first(const struct table *table, const struct uuid *ref, size_t *at);
void *table_next(const struct table *table, const struct uuid *ref, size_t *at);
/* The only one, or the first of several; NULL if there is none. */
void *table_find(const struct table *table, const struct uuid *ref);
