#include "rows.h"

#include <stdlib.h>

#define list_add(list, ...)                                                                        \
    do {                                                                                           \
        if ((list)->count == (list)->capacity) {                                                   \
            (list)->capacity = (list)->capacity ? (list)->capacity * 2 : 16;                       \
            (list)->items = mem_resize((list)->items, (list)->capacity * sizeof *(list)->items);   \
        }                                                                                          \
        (list)->items[(list)->count++] = (__VA_ARGS__);                                            \
    } while (0)

/* Puts row in the place of the one that is `same`, or at the end. */
#define list_put(list, row, same)                                                                  \
    do {                                                                                           \
        size_t at_ = 0;                                                                            \
        while (at_ < (list)->count && !same(&(list)->items[at_], row))                             \
            at_++;                                                                                 \
        if (at_ < (list)->count)                                                                   \
            (list)->items[at_] = *(row);                                                           \
        else                                                                                       \
            list_add(list, *(row));                                                                \
    } while (0)

static bool same_lease(const struct lease_row *a, const struct lease_row *b)
{
    return uuid_equal(&a->lease_ref, &b->lease_ref) && uuid_equal(&a->home, &b->home);
}

static bool same_key(const struct lease_row *a, const struct lease_key *b)
{
    return uuid_equal(&a->lease_ref, &b->lease_ref) && uuid_equal(&a->home, &b->home);
}

static bool same_origin(const struct origin_row *a, const struct origin_row *b)
{
    return uuid_equal(&a->origin_ref, &b->origin_ref);
}

static bool same_credit(const struct credit_row *a, const struct credit_row *b)
{
    return uuid_equal(&a->scope_ref, &b->scope_ref) && uuid_equal(&a->node_ref, &b->node_ref);
}

static bool same_move(const struct move_row *a, const struct move_row *b)
{
    return uuid_equal(&a->scope_ref, &b->scope_ref) && uuid_equal(&a->giver, &b->giver) &&
           uuid_equal(&a->receiver, &b->receiver);
}

static bool same_node(const struct node_row *a, const struct node_row *b)
{
    return uuid_equal(&a->node_ref, &b->node_ref);
}

static bool same_scope(const struct scope_row *a, const struct scope_row *b)
{
    return uuid_equal(&a->scope_ref, &b->scope_ref);
}

static bool same_revision(const struct entitlement_row *a, const struct entitlement_row *b)
{
    return uuid_equal(&a->entitlement->entitlement_ref, &b->entitlement->entitlement_ref) &&
           a->entitlement->revision == b->entitlement->revision;
}

void rows_fini(struct rows *rows)
{
    for (size_t i = 0; i < rows->entitlements.count; i++)
        entitlement_unref(rows->entitlements.items[i].entitlement);
    mem_free(rows->leases.items);
    mem_free(rows->origins.items);
    mem_free(rows->credits.items);
    mem_free(rows->moves.items);
    mem_free(rows->nodes.items);
    mem_free(rows->entitlements.items);
    mem_free(rows->scopes.items);
    *rows = (struct rows){ .seq = 0 };
}

static int compare_seq(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

#define gather(list, size)                                                                         \
    for (size_t i = 0; i < (size); i++)                                                            \
    list_add(&seqs, (list)[i].seq)

/* What only this node knows of a record changes without a new change number. */
static bool is_note_of_node(const struct rows *rows, const struct node_row *row)
{
    for (size_t i = 0; i < rows->nodes.count; i++) {
        if (same_node(&rows->nodes.items[i], row))
            return rows->nodes.items[i].seq == row->seq;
    }
    return row->seq == 0;
}

static bool is_note_of_revision(const struct rows *rows, const struct entitlement_row *row)
{
    for (size_t i = 0; i < rows->entitlements.count; i++) {
        if (same_revision(&rows->entitlements.items[i], row))
            return rows->entitlements.items[i].seq == row->seq;
    }
    return false;
}

static bool is_note_of_credit(const struct rows *rows, const struct credit_row *row)
{
    for (size_t i = 0; i < rows->credits.count; i++) {
        if (same_credit(&rows->credits.items[i], row))
            return rows->credits.items[i].seq == row->seq;
    }
    return false;
}

static void check_seqs(const struct rows *rows, const struct ledger_changes *c)
{
    ROW_LIST(uint64_t) seqs = { NULL, 0, 0 };

    gather(c->leases, c->lease_count);
    gather(c->origins, c->origin_count);
    for (size_t i = 0; i < c->credit_count; i++) {
        if (!is_note_of_credit(rows, &c->credits[i]))
            list_add(&seqs, c->credits[i].seq);
    }
    gather(c->moves, c->move_count);
    for (size_t i = 0; i < c->node_count; i++) {
        if (!is_note_of_node(rows, &c->nodes[i]))
            list_add(&seqs, c->nodes[i].seq);
    }
    for (size_t i = 0; i < c->entitlement_count; i++) {
        if (!is_note_of_revision(rows, &c->entitlements[i]))
            list_add(&seqs, c->entitlements[i].seq);
    }
    gather(c->scopes, c->scope_count);
    must(c->seq >= rows->seq);
    if (seqs.count) {
        qsort(seqs.items, seqs.count, sizeof *seqs.items, compare_seq);
        must(seqs.items[0] > rows->seq && seqs.items[seqs.count - 1] <= c->seq);
    }
    for (size_t i = 1; i < seqs.count; i++)
        must(seqs.items[i] > seqs.items[i - 1]);
    mem_free(seqs.items);
}

#define check_once(list, size, same)                                                               \
    for (size_t i = 0; i < (size); i++)                                                            \
        for (size_t j = 0; j < i; j++)                                                             \
    must(!same(&(list)[i], &(list)[j]))

void rows_check_batch(const struct rows *rows, const struct ledger_changes *c)
{
    check_seqs(rows, c);
    check_once(c->leases, c->lease_count, same_lease);
    check_once(c->origins, c->origin_count, same_origin);
    check_once(c->credits, c->credit_count, same_credit);
    check_once(c->moves, c->move_count, same_move);
    check_once(c->nodes, c->node_count, same_node);
    check_once(c->entitlements, c->entitlement_count, same_revision);
    check_once(c->scopes, c->scope_count, same_scope);
    for (size_t i = 0; i < c->purged_count; i++) {
        for (size_t j = 0; j < c->lease_count; j++)
            must(!same_key(&c->leases[j], &c->purged[i]));
        must(rows_find_lease(rows, &c->purged[i].lease_ref, &c->purged[i].home));
    }
}

static void drop_purged(struct rows *rows, const struct lease_key *key)
{
    for (size_t i = 0; i < rows->leases.count; i++) {
        if (same_key(&rows->leases.items[i], key)) {
            rows->leases.items[i] = rows->leases.items[--rows->leases.count];
            return;
        }
    }
}

/* The pointers in these rows belong to somebody else: they are compared through the ledger. */
static void put_origin(struct rows *rows, const struct origin_row *row)
{
    struct origin_row kept = *row;

    kept.environment = NULL;
    list_put(&rows->origins, &kept, same_origin);
}

static void put_scope(struct rows *rows, const struct scope_row *row)
{
    struct scope_row kept = *row;

    kept.feature = NULL;
    list_put(&rows->scopes, &kept, same_scope);
}

/* A revision that is known already changes in its own knowledge alone. */
static void put_entitlement(struct rows *rows, const struct entitlement_row *row)
{
    entitlement_ref(row->entitlement);
    for (size_t i = 0; i < rows->entitlements.count; i++) {
        if (same_revision(&rows->entitlements.items[i], row)) {
            entitlement_unref(rows->entitlements.items[i].entitlement);
            rows->entitlements.items[i] = *row;
            return;
        }
    }
    list_add(&rows->entitlements, *row);
}

void rows_apply(struct rows *rows, const struct ledger_changes *c, int64_t ceiling_ms)
{
    for (size_t i = 0; i < c->purged_count; i++)
        drop_purged(rows, &c->purged[i]);
    for (size_t i = 0; i < c->lease_count; i++)
        list_put(&rows->leases, &c->leases[i], same_lease);
    for (size_t i = 0; i < c->origin_count; i++)
        put_origin(rows, &c->origins[i]);
    for (size_t i = 0; i < c->credit_count; i++)
        list_put(&rows->credits, &c->credits[i], same_credit);
    for (size_t i = 0; i < c->move_count; i++)
        list_put(&rows->moves, &c->moves[i], same_move);
    for (size_t i = 0; i < c->node_count; i++)
        list_put(&rows->nodes, &c->nodes[i], same_node);
    for (size_t i = 0; i < c->entitlement_count; i++)
        put_entitlement(rows, &c->entitlements[i]);
    for (size_t i = 0; i < c->scope_count; i++)
        put_scope(rows, &c->scopes[i]);
    if (c->self) {
        rows->self = *c->self;
        rows->has_self = true;
    }
    rows->seq = c->seq;
    if (ceiling_ms)
        rows->ceiling_ms = ceiling_ms;
}

/* A node that is still counted, of whom nothing is known any more. */
static void count_node(struct rows *rows, const struct uuid *ref)
{
    struct node_row *found = NULL;

    if (uuid_is_nil(ref))
        return;
    for (size_t i = 0; i < rows->nodes.count; i++) {
        if (uuid_equal(&rows->nodes.items[i].node_ref, ref))
            found = &rows->nodes.items[i];
    }
    if (!found) {
        struct node_row row = { .node_ref = *ref };
        list_add(&rows->nodes, row);
        found = &rows->nodes.items[rows->nodes.count - 1];
    }
    found->partner = found->partner || !found->retired;
}

void rows_rename(struct rows *rows, const struct uuid *present, const struct uuid *former)
{
    struct self_row *self = &rows->self;

    rows->has_self = true;
    self->refilled = false;
    if (!uuid_equal(&self->former[0], former)) {
        for (size_t i = FORMER_SELVES_MAX - 1; i > 0; i--)
            self->former[i] = self->former[i - 1];
        self->former[0] = *former;
    }
    count_node(rows, former);
    count_node(rows, present);
    for (size_t i = 0; i < rows->nodes.count; i++) {
        struct node_row *row = &rows->nodes.items[i];
        row->cursor = row->acknowledged = 0;
        row->watermark_ms = 0;
        row->closed = false;
    }
}

void rows_wipe(struct rows *rows, const struct uuid *partner)
{
    struct rows left = { .self = rows->self,
                         .has_self = rows->has_self,
                         .seq = rows->seq,
                         .ceiling_ms = rows->ceiling_ms,
                         .untrusted = rows->untrusted };

    for (size_t i = 0; i < rows->nodes.count; i++) {
        if (uuid_equal(&rows->nodes.items[i].node_ref, partner))
            list_add(&left.nodes, rows->nodes.items[i]);
    }
    rows_fini(rows);
    *rows = left;
}

#define list_copy(from, to)                                                                        \
    do {                                                                                           \
        (to)->count = (to)->capacity = (from)->count;                                              \
        (to)->items = mem_alloc((from)->count * sizeof *(from)->items);                            \
        for (size_t i_ = 0; i_ < (from)->count; i_++)                                              \
            (to)->items[i_] = (from)->items[i_];                                                   \
    } while (0)

void rows_copy(const struct rows *from, struct rows *out)
{
    *out = (struct rows){ .self = from->self,
                          .has_self = from->has_self,
                          .seq = from->seq,
                          .ceiling_ms = from->ceiling_ms,
                          .untrusted = from->untrusted };
    list_copy(&from->leases, &out->leases);
    list_copy(&from->origins, &out->origins);
    list_copy(&from->credits, &out->credits);
    list_copy(&from->moves, &out->moves);
    list_copy(&from->nodes, &out->nodes);
    list_copy(&from->entitlements, &out->entitlements);
    list_copy(&from->scopes, &out->scopes);
    for (size_t i = 0; i < out->entitlements.count; i++)
        entitlement_ref(out->entitlements.items[i].entitlement);
}

static int compare_revisions(const void *a, const void *b)
{
    const struct entitlement_row *x = a, *y = b;

    return x->entitlement->revision < y->entitlement->revision
               ? -1
               : x->entitlement->revision > y->entitlement->revision;
}

/* As store_load(): revisions rising. */
static enum err load_entitlements(const struct rows *r, struct ledger *l, struct diag *diag)
{
    size_t count = r->entitlements.count;
    struct entitlement_row *rows = mem_alloc((count + 1) * sizeof *rows);
    enum err e = ERR_OK;

    for (size_t i = 0; i < count; i++)
        rows[i] = r->entitlements.items[i];
    qsort(rows, count, sizeof *rows, compare_revisions);
    for (size_t i = 0; e == ERR_OK && i < count; i++)
        e = ledger_load_entitlement(l, &rows[i], !r->untrusted, diag);
    mem_free(rows);
    return e;
}

static enum err load_all(const struct rows *r, struct ledger *l, struct diag *diag)
{
    enum err e = r->has_self ? ledger_load_self(l, &r->self, diag) : ERR_OK;

    for (size_t i = 0; e == ERR_OK && i < r->nodes.count; i++)
        e = ledger_load_node(l, &r->nodes.items[i], diag);
    if (e == ERR_OK)
        e = load_entitlements(r, l, diag);
    for (size_t i = 0; e == ERR_OK && i < r->credits.count; i++)
        e = ledger_load_credit(l, &r->credits.items[i], diag);
    for (size_t i = 0; e == ERR_OK && i < r->moves.count; i++)
        e = ledger_load_move(l, &r->moves.items[i], diag);
    for (size_t i = 0; e == ERR_OK && i < r->origins.count; i++)
        e = ledger_load_origin(l, &r->origins.items[i], diag);
    for (size_t i = 0; e == ERR_OK && i < r->leases.count; i++)
        e = ledger_load_lease(l, &r->leases.items[i], diag);
    return e == ERR_OK ? ledger_load_done(l, r->seq, diag) : e;
}

enum err rows_load(const struct rows *rows, const struct ledger_conf *conf, struct ledger **out,
                   struct diag *diag)
{
    struct ledger *l = ledger_new(conf);
    enum err e = load_all(rows, l, diag);

    if (e == ERR_OK)
        *out = l;
    else
        ledger_free(l);
    return e;
}

const struct lease_row *rows_find_lease(const struct rows *rows, const struct uuid *ref,
                                        const struct uuid *home)
{
    struct lease_key key = { *ref, *home };

    for (size_t i = 0; i < rows->leases.count; i++) {
        if (same_key(&rows->leases.items[i], &key))
            return &rows->leases.items[i];
    }
    return NULL;
}
