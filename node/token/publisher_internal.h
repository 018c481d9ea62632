/* For entitlement.c: the keys of one publisher. */
#pragma once

#include "token/publisher.h"

/* False if the name is not trusted. *keys lives as long as publishers. */
bool publishers_find(const struct publishers *publishers, const char *name,
                     const struct key *const **keys, size_t *key_count);
