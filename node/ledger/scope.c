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
        const struct move *move = scope->moves.items[i];
        if (move->receiver == node)
            credits += move->moved;
        if (move->giver == node)
            credits -= move->moved;
    }
    return credits;
}

/* Of what a node that is out of service left behind: nothing while its wait lasts, but for debts.
 */
static int64_t free_of(const struct ledger *l, const struct scope *scope, size_t node)
{
    int64_t free_there = scope_credits(scope, node) - scope->held[node];

    if (free_there > 0 && node != SELF && l->nodes[node].retired &&
        l->now_ms < l->nodes[node].line_wait_ms) /* R10 */
        return 0;
    return free_there;
}

int64_t scope_free_at(const struct ledger *l, const struct scope *scope, size_t owner)
{
    int64_t sum = 0;

    for (size_t i = 0; i < l->node_count; i++) {
        if (l->nodes[i].owner == owner)
            sum += free_of(l, scope, i);
    }
    return sum;
}

int64_t scope_debt(const struct ledger *l, const struct scope *scope)
{
    int64_t free_here = scope_free_at(l, scope, SELF);

    return free_here < 0 ? -free_here : 0;
}

/* What the partner lacks: as it said, and as its leases that are known here say since. */
static int64_t partner_debt(const struct ledger *l, const struct scope *scope)
{
    int partner = node_partner(l);
    int64_t there = partner < 0 ? 0 : scope_free_at(l, scope, (size_t)partner);

    if (partner < 0)
        return 0;
    int64_t said = scope->credits[partner].debt;
    return -there > said ? -there : said;
}

/* R2: free(i) = credits(i) − seats still held by leases whose home is i; with what i inherited
 * (R10). After a reduction the partner may hold more than it has credits for: what it lacks is not
 * granted here either, or both together would hold more than is in force (I1). */
int64_t scope_free(const struct ledger *l, const struct scope *scope)
{
    return scope_free_at(l, scope, SELF) - partner_debt(l, scope);
}

int64_t scope_pending(const struct scope *scope)
{
    return scope->credits[SELF].minted - scope->credits[SELF].usable;
}

struct move *scope_move(struct scope *scope, size_t giver, size_t receiver)
{
    for (size_t i = 0; i < scope->moves.count; i++) {
        struct move *move = scope->moves.items[i];
        if (move->giver == giver && move->receiver == receiver)
            return move;
    }
    struct move *move = mem_calloc(1, sizeof *move);
    move->scope = scope->index;
    move->giver = (uint8_t)giver;
    move->receiver = (uint8_t)receiver;
    vec_push(&scope->moves, move);
    return move;
}

static void view_locked(const struct ledger *l, const struct scope *scope, struct scope_view *view)
{
    for (size_t i = 1; i < l->node_count; i++) {
        const struct node *node = &l->nodes[i];
        int64_t free_there = scope_credits(scope, i) - scope->held[i];
        if (node->owner != SELF || free_there <= 0 || l->now_ms >= node->line_wait_ms)
            continue;
        view->locked += free_there;
        if (node->line_wait_ms > view->locked_until_ms)
            view->locked_until_ms = node->line_wait_ms;
    }
}

static int64_t not_negative(int64_t value)
{
    return value > 0 ? value : 0;
}

struct scope_view scope_to_view(struct ledger *l, struct scope *scope)
{
    int partner = node_partner(l);
    struct scope_view view = {
        .scope_ref = scope->ref,
        .entitlement = entitlement_ref(scope->entitlement),
        .feature = scope->feature->name,
        .seats = scope->seats,
        .active = scope->active,
        .waiting = scope->waiting,
        .free_here = not_negative(scope_free(l, scope)),
        .pending = scope_pending(scope),
        .at_peer = partner < 0 ? 0 : not_negative(scope_free_at(l, scope, (size_t)partner)),
        .next_back_ms = lease_next_back(l, scope),
        .begins_ms = scope->entitlement->begins_ms,
        .ends_ms = scope->entitlement->ends_ms,
        .trusted = scope->trusted,
    };

    view_locked(l, scope, &view);
    for (size_t i = 0; i < l->node_count; i++)
        view.used += scope->held[i];
    return view;
}

/* R2: usable once the partner has acknowledged the mint; or the instance has no other node, or the
 * waits for retired ones are over (R10). */
static bool mint_usable(const struct ledger *l, const struct revision *revision)
{
    /* R11: what a lost history of ours had acknowledged to the other node, nobody knows */
    if (!l->self.refilled || l->now_ms < node_former_wait(l))
        return false;
    if (node_partner(l) >= 0)
        return node_least_acknowledged(l) >= revision->seq;
    return l->now_ms >= node_waits_until(l);
}

static bool mints_settle(struct ledger *l, struct installed *installed)
{
    bool changed = false;

    for (size_t i = 0; i < installed->revisions.count; i++) {
        struct revision *revision = installed->revisions.items[i];
        if (revision->usable || revision->minter != SELF || !mint_usable(l, revision))
            continue;
        revision->usable = changed = true;
        revision_noted(l, revision);
    }
    return changed;
}

static bool installed_trusted(const struct ledger *l, const struct installed *installed)
{
    for (size_t i = 0; i < l->scopes.count; i++) {
        const struct scope *scope = l->scopes.items[i];
        if (uuid_equal(&scope->entitlement->entitlement_ref, &installed->ref))
            return scope->trusted;
    }
    return false;
}

void scope_mints_settle(struct ledger *l)
{
    for (size_t i = 0; i < l->installed.capacity; i++) {
        struct installed *installed = l->installed.slots[i];
        if (installed && mints_settle(l, installed))
            scope_derive(l, installed, installed_trusted(l, installed));
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

const struct feature *feature_of(const struct entitlement *e, const struct uuid *scope_ref)
{
    for (size_t i = 0; e && i < e->feature_count; i++) {
        if (uuid_equal(&e->features[i].scope_ref, scope_ref))
            return &e->features[i];
    }
    return NULL;
}

struct mints {
    int64_t seats; /* in force */
    struct credit credits[LEDGER_NODES_MAX];
};

/* R2: once per revision, by its difference to the revision before, at its minter. A reduction takes
 * effect at once, an increase at its minter once it is usable. */
static struct mints count_mints(const struct installed *installed, const struct scope *scope)
{
    struct mints mints = { .seats = 0 };

    for (size_t i = 0; i < installed->revisions.count; i++) {
        const struct revision *revision = installed->revisions.items[i];
        const struct feature *feature = feature_of(revision->entitlement, &scope->ref);
        int64_t difference = (feature ? feature->seats : 0) - mints.seats;
        struct credit *credit = &mints.credits[revision->minter];
        if (!feature && !difference)
            continue;
        mints.seats += difference;
        credit->minted += difference;
        credit->revision = revision->entitlement->revision;
        if (difference < 0 || revision->usable || revision->minter != SELF)
            credit->usable += difference;
    }
    return mints;
}

static void set_credits(struct ledger *l, struct scope *scope, const struct mints *mints)
{
    for (size_t i = 0; i < LEDGER_NODES_MAX; i++) {
        struct credit *credit = &scope->credits[i];
        const struct credit *derived = &mints->credits[i];
        if (credit->minted == derived->minted && credit->usable == derived->usable &&
            credit->revision == derived->revision)
            continue;
        credit->minted = derived->minted;
        credit->usable = derived->usable;
        credit->revision = derived->revision;
        if (!l->loading)
            credit_changed(l, scope, i);
    }
}

/* The newest revision that has this scope tells how it is leased. True if it says otherwise than
 * before when seats come back (R6). */
static bool set_feature(struct scope *scope, struct entitlement *e, const struct feature *feature)
{
    bool otherwise = scope->feature && returns_differ(feature, scope->feature);

    if (scope->entitlement != e) {
        entitlement_unref(scope->entitlement);
        scope->entitlement = entitlement_ref(e);
    }
    scope->feature = feature;
    return otherwise;
}

static struct scope *scope_of_feature(struct ledger *l, const struct feature *feature)
{
    struct scope *scope = scope_find(l, &feature->scope_ref);

    return scope ? scope : scope_new(l, &feature->scope_ref);
}

void scope_derive(struct ledger *l, struct installed *installed, bool trusted)
{
    bool otherwise = false;

    for (size_t i = 0; i < installed->revisions.count; i++) {
        struct entitlement *e = installed->revisions.items[i]->entitlement;
        for (size_t j = 0; j < e->feature_count; j++) {
            struct scope *scope = scope_of_feature(l, &e->features[j]);
            if (!scope->entitlement || scope->entitlement->revision <= e->revision)
                otherwise = set_feature(scope, e, &e->features[j]) || otherwise;
        }
    }
    for (size_t i = 0; i < l->scopes.count; i++) {
        struct scope *scope = l->scopes.items[i];
        if (!uuid_equal(&scope->entitlement->entitlement_ref, &installed->ref))
            continue;
        struct mints mints = count_mints(installed, scope);
        bool changed =
            scope->seats != mints.seats || scope->told_revision != scope->entitlement->revision;
        scope->seats = mints.seats;
        scope->trusted = trusted;
        scope->told_revision = scope->entitlement->revision;
        set_credits(l, scope, &mints);
        if (changed && !l->loading)
            scope_changed(l, scope);
    }
    scope_index_features(l);
    if (otherwise && !l->loading)
        lease_settle_all(l);
}

/* A scope belongs to one entitlement, and keeps its feature's name, for ever. */
enum err scope_check(const struct ledger *l, const struct entitlement *e, struct diag *diag)
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

struct revision *scope_revision(const struct ledger *l, const struct uuid *entitlement_ref,
                                int64_t number)
{
    const struct installed *installed = table_find(&l->installed, entitlement_ref);

    for (size_t i = 0; installed && i < installed->revisions.count; i++) {
        if (installed->revisions.items[i]->entitlement->revision == number)
            return installed->revisions.items[i];
    }
    return NULL;
}

struct revision *scope_add_revision(struct ledger *l, const struct entitlement_row *row,
                                    size_t minter, bool trusted)
{
    struct entitlement *e = row->entitlement;
    struct installed *installed = table_find(&l->installed, &e->entitlement_ref);
    struct revision *revision = mem_calloc(1, sizeof *revision);

    *revision = (struct revision){
        .entitlement = entitlement_ref(e),
        .installed_ms = row->installed_ms,
        .minter = (uint8_t)minter,
        .usable = row->usable,
        .seq = row->seq,
    };
    if (!installed) {
        installed = mem_calloc(1, sizeof *installed);
        installed->ref = e->entitlement_ref;
        table_add(&l->installed, installed);
    }
    vec_push(&installed->revisions, revision);
    struct revision **items = installed->revisions.items;
    for (size_t i = installed->revisions.count - 1;
         i > 0 && items[i - 1]->entitlement->revision > e->revision; i--) {
        items[i] = items[i - 1];
        items[i - 1] = revision;
    }
    if (!l->loading)
        revision_changed(l, revision);
    scope_derive(l, installed, trusted);
    return revision;
}

/* ERR_OK also if this very document is installed: nothing changes then. */
enum err scope_install(struct ledger *l, struct entitlement *e, struct diag *diag)
{
    const struct installed *installed = table_find(&l->installed, &e->entitlement_ref);
    const struct entitlement_row row = { .entitlement = e, .installed_ms = l->now_ms };
    enum err err;

    if (installed) {
        const struct entitlement *newest =
            installed->revisions.items[installed->revisions.count - 1]->entitlement;
        if (!memcmp(newest->sha256, e->sha256, sizeof e->sha256))
            return ERR_OK;
        if ((err = check_revision(newest, e, diag)) != ERR_OK)
            return err;
    }
    if ((err = scope_check(l, e, diag)) != ERR_OK)
        return err;
    scope_add_revision(l, &row, SELF, true);
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

static void installed_free(struct installed *installed)
{
    for (size_t i = 0; installed && i < installed->revisions.count; i++) {
        entitlement_unref(installed->revisions.items[i]->entitlement);
        mem_free(installed->revisions.items[i]);
    }
    if (installed)
        vec_fini(&installed->revisions);
    mem_free(installed);
}

void scope_free_all(struct ledger *l)
{
    for (size_t i = 0; i < l->scopes.count; i++) {
        struct scope *scope = l->scopes.items[i];
        entitlement_unref(scope->entitlement);
        heap_fini(&scope->own_due);
        heap_fini(&scope->partner_due);
        for (size_t m = 0; m < scope->moves.count; m++)
            mem_free(scope->moves.items[m]);
        vec_fini(&scope->moves);
        mem_free(scope);
    }
    for (size_t i = 0; i < l->installed.capacity; i++)
        installed_free(l->installed.slots[i]);
    vec_fini(&l->scopes);
    vec_fini(&l->features);
    table_fini(&l->scopes_by_ref);
    table_fini(&l->installed);
}
