#include "http/trust.h"

#include <pthread.h>
#include <stdatomic.h>

struct trust_snapshot {
    atomic_uint references;
    struct publishers *publishers;
};

struct trust {
    char *folder;
    pthread_mutex_t mutex; /* guards now */
    struct trust_snapshot *now;
};

static enum err snapshot_read(const char *folder, struct trust_snapshot **out, struct diag *diag)
{
    struct publishers *publishers = NULL;
    enum err e = publishers_read(folder, &publishers, diag);

    if (e != ERR_OK)
        return e;
    struct trust_snapshot *snapshot = mem_calloc(1, sizeof *snapshot);
    atomic_init(&snapshot->references, 1);
    snapshot->publishers = publishers;
    *out = snapshot;
    return ERR_OK;
}

enum err trust_open(const char *folder, struct trust **out, struct diag *diag)
{
    struct trust_snapshot *snapshot = NULL;
    enum err e = snapshot_read(folder, &snapshot, diag);

    if (e != ERR_OK)
        return e;
    struct trust *trust = mem_calloc(1, sizeof *trust);
    trust->folder = mem_strdup(folder);
    trust->now = snapshot;
    pthread_mutex_init(&trust->mutex, NULL);
    *out = trust;
    return ERR_OK;
}

struct trust *trust_free(struct trust *trust)
{
    if (!trust)
        return NULL;
    must(atomic_load(&trust->now->references) == 1);
    trust_put(trust->now);
    pthread_mutex_destroy(&trust->mutex);
    mem_free(trust->folder);
    mem_free(trust);
    return NULL;
}

enum err trust_reload(struct trust *trust, struct diag *diag)
{
    struct trust_snapshot *fresh = NULL;
    enum err e = snapshot_read(trust->folder, &fresh, diag);

    if (e != ERR_OK)
        return e;
    pthread_mutex_lock(&trust->mutex);
    struct trust_snapshot *old = trust->now;
    trust->now = fresh;
    pthread_mutex_unlock(&trust->mutex);
    trust_put(old);
    return ERR_OK;
}

struct trust_snapshot *trust_get(struct trust *trust)
{
    pthread_mutex_lock(&trust->mutex);
    struct trust_snapshot *snapshot = trust->now;
    atomic_fetch_add(&snapshot->references, 1);
    pthread_mutex_unlock(&trust->mutex);
    return snapshot;
}

void trust_put(struct trust_snapshot *snapshot)
{
    if (!snapshot || atomic_fetch_sub(&snapshot->references, 1) > 1)
        return;
    publishers_free(snapshot->publishers);
    mem_free(snapshot);
}

const struct publishers *trust_publishers(const struct trust_snapshot *snapshot)
{
    return snapshot->publishers;
}
