/* Scopes and their credits (R2): what may be leased, and who owns how much of it. */
#include <inttypes.h>
#include <stdlib.h>

#include "ledger/state.h"

struct scope *scope_find(const struct ledger *l, const struct uuid *ref)
{
    return table_find(&l->scopes_by_ref, ref);
}

/* R2: credits(i) = minted[i] + Σ moved[j→i] − Σ moved[i→j] */
int64_t scope_credits(const struct scope *scope, size_t node)
{
    int64_t credits = node == SELF ? scope->credits[SELF].usable : scope->credits[node].minted;

    for (size_t i = 0; i < scope->moves.count; i++) {
        const struct move *move = &scope->moves.items[i];
        if (move->receiver == node)
            credits += move->moved;
        if (move->giver == node)
            credits -= move->moved;
    }
    return credits;
}

/* R2: free(i) = credits(i) − seats still held by leases whose home is i */
int64_t scope_free(const struct scope *scope)
{
    return scope_credits(scope, SELF) - scope->held[SELF];
}

int64_t scope_pending(const struct scope *scope)
{
    return scope->credits[SELF].minted - scope->credits[SELF].usable;
}

struct move *scope_move(struct scope *scope, size_t giver, size_t receiver)
{
    for (size_t i = 0; i < scope->moves.count; i++) {
        struct move *move = &scope->moves.items[i];
        if (move->giver == giver && move->receiver == receiver)
            return move;
    }
    vec_push(&scope->moves,
             (struct move){ .giver = (uint8_t)giver, .receiver = (uint8_t)receiver });
    return &scope->moves.items[scope->moves.count - 1];
}

static int64_t free_at_others(const struct ledger *l, const struct scope *scope)
{
    int64_t sum = 0;

    for (size_t i = 1; i < l->node_count; i++) {
        int64_t free_there = scope_credits(scope, i) - scope->held[i];
        sum += free_there > 0 ? free_there : 0;
    }
    return sum;
}

struct scope_view scope_to_view(struct ledger *l, struct scope *scope)
{
    int64_t free_here = scope_free(scope);
    struct scope_view view = {
        .scope_ref = scope->ref,
        .entitlement = entitlement_ref(scope->entitlement),
        .feature = scope->feature->name,
        .seats = scope->seats,
        .active = scope->active,
        .waiting = scope->waiting,
        .free_here = free_here > 0 ? free_here : 0,
        .pending = scope_pending(scope),
        .at_peer = free_at_others(l, scope),
        .next_back_ms = lease_next_back(l, scope),
        .begins_ms = scope->entitlement->begins_ms,
        .ends_ms = scope->entitlement->ends_ms,
        .trusted = scope->trusted,
    };

    for (size_t i = 0; i < l->node_count; i++)
        view.used += scope->held[i];
    return view;
}

/* R2: usable once the peer has acknowledged the mint, or if the instance has no peer. */
static bool mint_usable(const struct ledger *l, const struct credit *credit)
{
    if (l->node_count == 1)
        return !l->conf.peer_expected;
    return node_least_acknowledged(l) >= credit->seq;
}

void scope_mints_settle(struct ledger *l)
{
    for (size_t i = 0; i < l->scopes.count; i++) {
        struct credit *own = &l->scopes.items[i]->credits[SELF];
        if (own->usable == own->minted || !mint_usable(l, own))
            continue;
        own->usable = own->minted;
        credit_changed(l, l->scopes.items[i], SELF);
    }
}

static int compare_entries(const void *a, const void *b)
{
    const struct feature_entry *x = a, *y = b;
    int order = strcmp(x->name, y->name);

    if (order)
        return order;
    int64_t x_ends = x->scope->entitlement->ends_ms, y_ends = y->scope->entitlement->ends_ms;
    if (x_ends != y_ends)
        return x_ends < y_ends ? -1 : 1;
    return uuid_compare(&x->scope->ref, &y->scope->ref);
}

void scope_index_features(struct ledger *l)
{
    l->features.count = 0;
    for (size_t i = 0; i < l->scopes.count; i++) {
        struct scope *scope = l->scopes.items[i];
        if (scope->seats > 0)
            vec_push(&l->features, (struct feature_entry){ scope->feature->name, scope });
    }
    if (l->features.count)
        qsort(l->features.items, l->features.count, sizeof *l->features.items, compare_entries);
}

size_t scope_features_find(const struct ledger *l, const char *name, size_t *first)
{
    size_t low = 0, high = l->features.count, count = 0;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(l->features.items[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *first = low;
    while (low + count < l->features.count && !strcmp(l->features.items[low + count].name, name))
        count++;
    return count;
}

static struct scope *scope_new(struct ledger *l, const struct uuid *ref)
{
    struct scope *scope = mem_calloc(1, sizeof *scope);

    scope->ref = *ref;
    must(l->scopes.count < UINT32_MAX);
    scope->index = (uint32_t)l->scopes.count;
    vec_push(&l->scopes, scope);
    table_add(&l->scopes_by_ref, scope);
    return scope;
}

static bool returns_differ(const struct feature *a, const struct feature *b)
{
    return a->on_release != b->on_release || a->on_revoke != b->on_revoke;
}

/* Sets what is in force for this scope and mints the difference (R2). At load the stored credits
 * follow, so nothing is minted. */
static void scope_apply(struct ledger *l, struct scope *scope, struct entitlement *e,
                        const struct feature *feature, bool trusted)
{
    int64_t seats = feature ? feature->seats : 0;
    int64_t difference = seats - scope->seats;

    bool otherwise = feature && scope->feature && returns_differ(feature, scope->feature);

    if (feature) {
        entitlement_unref(scope->entitlement);
        scope->entitlement = entitlement_ref(e);
        scope->feature = feature;
    }
    scope->seats = seats;
    scope->trusted = trusted;
    if (l->loading)
        return;
    struct credit *own = &scope->credits[SELF];
    own->minted += difference;
    own->revision = e->revision;
    if (own->minted < own->usable) /* a reduction takes effect at once */
        own->usable = own->minted;
    credit_changed(l, scope, SELF);
    scope_changed(l, scope);
    if (otherwise)
        lease_settle_policy(l, scope);
}

static const struct feature *feature_of(const struct entitlement *e, const struct uuid *scope_ref)
{
    for (size_t i = 0; e && i < e->feature_count; i++) {
        if (uuid_equal(&e->features[i].scope_ref, scope_ref))
            return &e->features[i];
    }
    return NULL;
}

/* A scope belongs to one entitlement, and keeps its feature's name, for ever. */
static enum err check_scopes(const struct ledger *l, const struct entitlement *e, struct diag *diag)
{
    char ref[UUID_TEXT_SIZE];

    for (size_t i = 0; i < e->feature_count; i++) {
        const struct feature *feature = &e->features[i];
        const struct scope *scope = scope_find(l, &feature->scope_ref);
        if (!scope)
            continue;
        uuid_format(&scope->ref, ref);
        if (!uuid_equal(&scope->entitlement->entitlement_ref, &e->entitlement_ref))
            return diag_set(diag, ERR_ENT_CONFLICT,
                            "scope %s already belongs to another entitlement of publisher %s", ref,
                            scope->entitlement->publisher);
        if (strcmp(scope->feature->name, feature->name) != 0)
            return diag_set(diag, ERR_ENT_CONFLICT, "scope %s is feature %s, not %s", ref,
                            scope->feature->name, feature->name);
    }
    return ERR_OK;
}

static enum err check_revision(const struct entitlement *old, const struct entitlement *e,
                               struct diag *diag)
{
    if (strcmp(old->publisher, e->publisher) != 0)
        return diag_set(diag, ERR_ENT_CONFLICT, "this entitlement belongs to publisher %s",
                        old->publisher);
    if (e->revision < old->revision)
        return diag_set(diag, ERR_ENT_OUTDATED,
                        "revision %" PRId64 " is older than the installed revision %" PRId64,
                        e->revision, old->revision);
    if (e->revision == old->revision)
        return diag_set(diag, ERR_ENT_CONFLICT,
                        "revision %" PRId64 " is installed with another content; "
                        "a changed entitlement needs a higher revision",
                        e->revision);
    return ERR_OK;
}

/* ERR_OK also if this very document is installed: nothing changes then. */
enum err scope_install(struct ledger *l, struct entitlement *e, bool trusted, struct diag *diag)
{
    struct installed *installed = table_find(&l->installed, &e->entitlement_ref);
    struct entitlement *old = installed ? installed->entitlement : NULL;
    enum err err;

    if (old && !memcmp(old->sha256, e->sha256, sizeof e->sha256))
        return ERR_OK;
    if (old && (err = check_revision(old, e, diag)) != ERR_OK)
        return err;
    if ((err = check_scopes(l, e, diag)) != ERR_OK)
        return err;
    if (!l->loading)
        entitlement_changed(l, e);
    for (size_t i = 0; i < e->feature_count; i++) {
        struct scope *scope = scope_find(l, &e->features[i].scope_ref);
        scope_apply(l, scope ? scope : scope_new(l, &e->features[i].scope_ref), e, &e->features[i],
                    trusted);
    }
    for (size_t i = 0; i < l->scopes.count; i++) { /* features that this revision dropped */
        struct scope *scope = l->scopes.items[i];
        if (uuid_equal(&scope->entitlement->entitlement_ref, &e->entitlement_ref) &&
            !feature_of(e, &scope->ref) && scope->seats > 0)
            scope_apply(l, scope, e, NULL, trusted);
    }
    if (!installed) {
        installed = mem_calloc(1, sizeof *installed);
        installed->ref = e->entitlement_ref;
        table_add(&l->installed, installed);
    }
    installed->entitlement = entitlement_ref(e);
    entitlement_unref(old);
    scope_index_features(l);
    scope_mints_settle(l);
    return ERR_OK;
}

void ledger_review_trust(struct ledger *l, ledger_trusts *trusts, void *context)
{
    const struct entitlement *asked = NULL; /* scopes of one entitlement stand together */
    bool answer = false;

    for (size_t i = 0; i < l->scopes.count; i++) {
        struct scope *scope = l->scopes.items[i];
        if (scope->entitlement != asked)
            answer = trusts(context, scope->entitlement);
        asked = scope->entitlement;
        scope->trusted = answer;
    }
}

void scope_free_all(struct ledger *l)
{
    for (size_t i = 0; i < l->scopes.count; i++) {
        struct scope *scope = l->scopes.items[i];
        entitlement_unref(scope->entitlement);
        heap_fini(&scope->private_due);
        heap_fini(&scope->shared_due);
        vec_fini(&scope->moves);
        mem_free(scope);
    }
    for (size_t i = 0; i < l->installed.capacity; i++) {
        struct installed *installed = l->installed.slots[i];
        if (installed)
            entitlement_unref(installed->entitlement);
        mem_free(installed);
    }
    vec_fini(&l->scopes);
    vec_fini(&l->features);
    table_fini(&l->scopes_by_ref);
    table_fini(&l->installed);
}
