#include "base/entitlement.h"

#include <string.h>

#define ALNUM "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

bool feature_name_valid(const char *name)
{
    size_t length = strlen(name);

    return length > 0 && length <= FEATURE_NAME_MAX && strchr(ALNUM, name[0]) &&
           strspn(name, ALNUM "._-") == length;
}

struct entitlement *entitlement_new(size_t feature_count)
{
    must(feature_count <= ENTITLEMENT_FEATURES_MAX);
    struct entitlement *e = mem_calloc(1, sizeof *e + feature_count * sizeof e->features[0]);
    atomic_init(&e->references, 1);
    e->feature_count = feature_count;
    return e;
}

struct entitlement *entitlement_ref(struct entitlement *e)
{
    unsigned before = atomic_fetch_add_explicit(&e->references, 1, memory_order_relaxed);
    must(before > 0);
    return e;
}

void entitlement_unref(struct entitlement *e)
{
    if (!e)
        return;
    unsigned before = atomic_fetch_sub_explicit(&e->references, 1, memory_order_acq_rel);
    must(before > 0);
    if (before == 1) {
        mem_free(e->text);
        mem_free(e);
    }
}
