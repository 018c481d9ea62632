#include "nodes.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"

_Static_assert(TOK_NODES_MAX <= WALK_NODES_MAX, "a walk must reach every node");

struct nodes {
    atomic_uint references;
    struct tok *tok;
    struct transport *transport;
    pthread_mutex_t lock;                    /* guards what follows */
    size_t first;                            /* the one whose answer stood last */
    struct boot silent_until[TOK_NODES_MAX]; /* 0: answered when it was asked last */
};

static void lock(struct nodes *n)
{
    must(pthread_mutex_lock(&n->lock) == 0);
}

static void unlock(struct nodes *n)
{
    must(pthread_mutex_unlock(&n->lock) == 0);
}

enum twinlease_code nodes_new(struct tok *tok, struct nodes **out, struct twinlease_error *error)
{
    struct transport *transport;
    enum twinlease_code code = transport_new(tok->ca_pem, &transport, error);

    if (code != TWINLEASE_OK) {
        tok_free(tok);
        return code;
    }
    struct nodes *n = mem_calloc(1, sizeof *n);
    atomic_init(&n->references, 1);
    n->tok = tok;
    n->transport = transport;
    must(pthread_mutex_init(&n->lock, NULL) == 0);
    *out = n;
    return TWINLEASE_OK;
}

struct nodes *nodes_ref(struct nodes *n)
{
    atomic_fetch_add(&n->references, 1);
    return n;
}

void nodes_unref(struct nodes *n)
{
    if (!n || atomic_fetch_sub(&n->references, 1) != 1)
        return;
    transport_free(n->transport);
    tok_free(n->tok);
    pthread_mutex_destroy(&n->lock);
    mem_free(n);
}

const struct tok *nodes_tok(const struct nodes *n)
{
    return n->tok;
}

struct transport *nodes_transport(struct nodes *n)
{
    return n->transport;
}

void nodes_order(struct nodes *n, size_t out[TOK_NODES_MAX], bool silent[TOK_NODES_MAX])
{
    struct boot now = boot_now();

    lock(n);
    for (size_t i = 0; i < n->tok->node_count; i++)
        silent[i] = now.ms < n->silent_until[i].ms;
    walk_order(n->tok->node_count, n->first, silent, out);
    unlock(n);
}

void nodes_prefer(struct nodes *n, size_t node)
{
    lock(n);
    n->first = node;
    unlock(n);
}

void nodes_note_silence(struct nodes *n, size_t node)
{
    lock(n);
    n->silent_until[node].ms = boot_now().ms + WALK_SILENT_MS;
    unlock(n);
}

void nodes_note_answer(struct nodes *n, size_t node)
{
    lock(n);
    n->silent_until[node].ms = 0;
    unlock(n);
}

void nodes_inherit(struct nodes *n, struct nodes *old)
{
    struct boot silent_until[TOK_NODES_MAX];

    lock(old);
    size_t first = old->first;
    memcpy(silent_until, old->silent_until, sizeof silent_until);
    unlock(old);
    lock(n);
    for (size_t i = 0; i < n->tok->node_count; i++) {
        for (size_t k = 0; k < old->tok->node_count; k++) {
            if (strcmp(n->tok->node_urls[i], old->tok->node_urls[k]) != 0)
                continue;
            n->silent_until[i] = silent_until[k];
            if (k == first)
                n->first = i;
        }
    }
    unlock(n);
}
