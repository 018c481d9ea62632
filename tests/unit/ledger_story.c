#include "ledger_story.h"

#include "sim/twin.h"

struct uuid ref(char kind, unsigned number)
{
    struct uuid uuid = { { (uint8_t)kind } };

    for (size_t i = 0; i < 4; i++)
        uuid.bytes[15 - i] = (uint8_t)(number >> (8 * i));
    return uuid;
}

/* FNV-1a; stands for the hash of the signed text. */
static uint64_t hash_add(uint64_t hash, const void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3u;
    return hash;
}

static void feature_fill(struct feature *feature, const struct feature_spec *spec)
{
    feature->scope_ref = ref('S', spec->scope ? spec->scope : 1);
    snprintf(feature->name, sizeof feature->name, "%s", spec->name ? spec->name : "render");
    feature->seats = spec->seats;
    feature->lease_max_ms =
        spec->lease_max_ms ? spec->lease_max_ms : (int64_t)LEASE_SECONDS_MAX * 1000;
    feature->on_release = spec->on_release;
    feature->on_revoke = spec->on_revoke;
}

struct entitlement *ent_new(const struct ent_spec *spec)
{
    size_t count = 0;

    while (count < ARRAY_SIZE(spec->features) && spec->features[count].seats)
        count++;
    struct entitlement *e = entitlement_new(count);
    e->entitlement_ref = ref('E', spec->ref ? spec->ref : 1);
    e->revision = spec->revision ? spec->revision : 1;
    snprintf(e->publisher, sizeof e->publisher, "%s", spec->publisher ? spec->publisher : "acme");
    e->issued_ms = e->begins_ms = spec->begins_ms ? spec->begins_ms : NOON - DAY;
    e->ends_ms = spec->ends_ms ? spec->ends_ms : NOON + 365 * DAY;
    for (size_t i = 0; i < count; i++)
        feature_fill(&e->features[i], &spec->features[i]);
    uint64_t hash = hash_add(0xcbf29ce484222325u, e->features, count * sizeof e->features[0]);
    hash = hash_add(hash, &e->revision, sizeof e->revision);
    hash = hash_add(hash, &e->begins_ms, 2 * sizeof e->begins_ms);
    hash = hash_add(hash, &e->entitlement_ref, sizeof e->entitlement_ref);
    hash = hash_add(hash, e->publisher, strlen(e->publisher));
    memcpy(e->sha256, &hash, sizeof hash);
    e->text = mem_strdup("an entitlement");
    return e;
}

void story_begin_as(struct story *s, unsigned node, bool peer_expected)
{
    struct diag diag = { "" };

    *s = (struct story){
        .conf = { .self = ref('N', node),
                  .peer_expected = peer_expected,
                  .lease_max_ms = DAY,
                  .skew_max_ms = DAY,
                  .ended_keep_ms = 1000 * DAY,
                  .hash_seed = { 0x0123456789abcdefu, 0xfedcba9876543210u } },
        .now_ms = NOON,
    };
    assert_int_equal(rows_load(&s->rows, &s->conf, &s->ledger, &diag), ERR_OK);
    story_wait(s, 0);
}

/* Two new nodes refill each other (R11): with nothing. */
void story_begin(struct story *s, int peer)
{
    story_begin_as(s, SELF_NODE, peer == PAIRED);
    if (peer == ALONE)
        return;
    assert_ok(s, story_peer_met(s, PEER));
    struct ledger_page page = story_peer_page(s, PEER);
    page.refilled = false;
    page.fresh = true;
    assert_ok(s, story_merge(s, &page));
}

void story_end(struct story *s)
{
    ledger_result_fini(&s->result);
    s->ledger = ledger_free(s->ledger);
    rows_fini(&s->rows);
}

static void tick(struct story *s, struct ledger *l)
{
    struct ledger_event event = { .kind = LEDGER_TICK, .now_ms = s->now_ms };
    struct ledger_result result;

    event.tick.clock_alarm = s->alarm;
    ledger_step(l, &event, &result);
    ledger_result_fini(&result);
}

/* The rows alone must give the same ledger. */
static void check_reload(struct story *s)
{
    /* that the partner's clock is wrong (R1) is in memory only */
    bool alarm = s->alarm || ledger_pair(s->ledger).clock_suspect;
    struct ledger *again = NULL;
    struct ledger_conf conf = s->conf;
    struct diag diag = { "" };

    conf.ended_keep_ms = 1000 * DAY; /* when records are purged does not matter here */
    if (rows_load(&s->rows, &conf, &again, &diag) != ERR_OK)
        fail_msg("what was committed cannot be loaded: %s", diag.text);
    tick(s, again);
    ledger_check(again);
    must(alarm || !ledger_changed(again));
    if (!alarm && twin_difference(s->ledger, again, &diag))
        fail_msg("loaded is not what was committed: %s", diag.text);
    ledger_free(again);
}

void story_commit(struct story *s)
{
    const struct ledger_changes *changes = ledger_changes(s->ledger);

    rows_check_batch(&s->rows, changes);
    rows_apply(&s->rows, changes, 0);
    ledger_changes_clear(s->ledger);
    must(!ledger_changed(s->ledger));
    s->held = false;
    check_reload(s);
}

void story_hold(struct story *s)
{
    s->held = true;
}

enum err story_step(struct story *s, struct ledger_event event)
{
    event.now_ms = s->now_ms;
    ledger_result_fini(&s->result);
    ledger_step(s->ledger, &event, &s->result);
    ledger_check(s->ledger);
    rows_check_batch(&s->rows, ledger_changes(s->ledger));
    if (!s->held)
        story_commit(s);
    return s->result.err;
}

void story_wait(struct story *s, int64_t ms)
{
    s->now_ms += ms;
    story_step(s, (struct ledger_event){ .kind = LEDGER_TICK, .tick.clock_alarm = s->alarm });
}

void story_restart(struct story *s)
{
    struct diag diag = { "" };

    s->ledger = ledger_free(s->ledger);
    if (rows_load(&s->rows, &s->conf, &s->ledger, &diag) != ERR_OK)
        fail_msg("cannot be loaded: %s", diag.text);
    story_wait(s, 0);
}

/* ---- events --------------------------------------------------------------------------------- */

struct grant_item item_of(const struct lease_spec *spec)
{
    static unsigned drawn = 1000000;
    struct grant_item item = {
        .by_feature = !spec->scope,
        .has_lease_ref = spec->lease != 0,
        .lease_ref = ref('L', spec->lease ? spec->lease : ++drawn),
        .scope_ref = ref('S', spec->scope),
        .count = spec->count ? spec->count : 1,
        .duration_ms = spec->duration_ms,
    };

    snprintf(item.feature, sizeof item.feature, "%s", spec->feature ? spec->feature : "render");
    return item;
}

static struct origin_proof proof_of(const struct story *s, unsigned origin)
{
    return (struct origin_proof){ ref('O', origin), s->generation };
}

enum err story_install(struct story *s, const struct ent_spec *spec)
{
    AUTO(entitlement_unref) struct entitlement *e = ent_new(spec);

    return story_step(s, (struct ledger_event){ .kind = LEDGER_INSTALL, .install.entitlement = e });
}

enum err story_grant_items(struct story *s, unsigned origin, const struct grant_item *items,
                           size_t count)
{
    struct ledger_event event = { .kind = LEDGER_GRANT };

    event.grant.origin = proof_of(s, origin);
    event.grant.items = items;
    event.grant.item_count = count;
    return story_step(s, event);
}

enum err story_grant(struct story *s, unsigned origin, const struct lease_spec *spec)
{
    struct grant_item item = item_of(spec);

    return story_grant_items(s, origin, &item, 1);
}

enum err story_renew(struct story *s, unsigned origin, unsigned lease,
                     const struct lease_evidence *evidence)
{
    struct ledger_event event = { .kind = LEDGER_RENEW };

    event.renew.origin = proof_of(s, origin);
    event.renew.lease_ref = ref('L', lease);
    event.renew.evidence = evidence;
    return story_step(s, event);
}

enum err story_release(struct story *s, unsigned origin, unsigned lease,
                       const struct lease_evidence *evidence)
{
    struct ledger_event event = { .kind = LEDGER_RELEASE };

    event.release.origin = proof_of(s, origin);
    event.release.lease_ref = ref('L', lease);
    event.release.evidence = evidence;
    return story_step(s, event);
}

enum err story_release_all(struct story *s, unsigned origin)
{
    struct ledger_event event = { .kind = LEDGER_RELEASE_ALL };

    event.release_all.origin = proof_of(s, origin);
    return story_step(s, event);
}

enum err story_revoke(struct story *s, unsigned lease)
{
    return story_step(
        s, (struct ledger_event){ .kind = LEDGER_REVOKE, .revoke.lease_ref = ref('L', lease) });
}

enum err story_enrol(struct story *s, unsigned origin, bool proven)
{
    struct ledger_event event = { .kind = LEDGER_ENROL };

    event.enrol.origin_ref = ref('O', origin);
    event.enrol.proven = proven;
    event.enrol.generation = s->generation;
    event.enrol.environment = "{\"hostname\":\"ws\"}";
    return story_step(s, event);
}

enum err story_prove(struct story *s, unsigned origin)
{
    struct ledger_event event = { .kind = LEDGER_PROVE };

    event.prove.origin = proof_of(s, origin);
    return story_step(s, event);
}

enum err story_list(struct story *s, unsigned origin)
{
    struct ledger_event event = { .kind = LEDGER_LIST };

    event.list.origin = proof_of(s, origin);
    return story_step(s, event);
}

enum err story_purge(struct story *s, size_t limit)
{
    return story_step(s, (struct ledger_event){ .kind = LEDGER_PURGE, .purge.limit = limit });
}

enum err story_give(struct story *s, unsigned scope, unsigned receiver, int64_t wanted)
{
    struct ledger_event event = { .kind = LEDGER_GIVE };

    event.give.scope_ref = ref('S', scope);
    event.give.receiver = ref('N', receiver);
    event.give.wanted = wanted;
    return story_step(s, event);
}

enum err story_peer_met(struct story *s, unsigned node)
{
    struct ledger_event event = { .kind = LEDGER_MEET };

    event.meet.of = (struct node_introduction){
        .node_ref = ref('N', node), .fresh = true, .now_ms = s->now_ms, .longest_ms = DAY
    };
    return story_step(s, event);
}

enum err story_peer_fetched(struct story *s, unsigned node)
{
    struct ledger_event event = { .kind = LEDGER_PAGE };

    event.page.receiver = ref('N', node);
    event.page.since = ledger_seq(s->ledger);
    event.page.limit = PAGE_ROWS_MAX;
    return story_step(s, event);
}

struct ledger_page story_peer_page(const struct story *s, unsigned node)
{
    return (struct ledger_page){
        .sender = ref('N', node),
        .receiver = s->conf.self,
        .now_ms = s->now_ms,
        .refilled = true,
        .complete = true,
        .closed = true,
    };
}

enum err story_merge(struct story *s, const struct ledger_page *page)
{
    return story_step(s, (struct ledger_event){ .kind = LEDGER_MERGE, .merge.page = page });
}

enum err story_peer_states(struct story *s, unsigned node, int64_t watermark_ms,
                           uint64_t acknowledged)
{
    struct ledger_page page = story_peer_page(s, node);

    story_peer_fetched(s, node);
    if (page.now_ms <= watermark_ms)
        page.now_ms = watermark_ms + 1;
    page.watermark_ms = watermark_ms;
    page.acknowledged = acknowledged == SEEN_ALL ? ledger_seq(s->ledger) : acknowledged;
    return story_merge(s, &page);
}

/* ---- looking ----------------------------------------------------------------------------------
 */

struct lease_evidence evidence_of(const struct story *s, unsigned origin, unsigned lease,
                                  unsigned home)
{
    return (struct lease_evidence){
        .lease_ref = ref('L', lease),
        .home = ref('N', home),
        .origin_ref = ref('O', origin),
        .scope_ref = ref('S', 1),
        .count = 1,
        .created_ms = s->now_ms,
        .duration_ms = HOUR,
        .expires_ms = s->now_ms + HOUR,
        .adopt = true,
        .adopter = s->conf.self,
        .signer = ref('N', home),
    };
}

struct lease_evidence evidence_last(const struct story *s)
{
    const struct lease_row *row = last_lease(s);

    return (struct lease_evidence){
        .lease_ref = row->lease_ref,
        .home = row->home,
        .origin_ref = row->origin_ref,
        .scope_ref = row->scope_ref,
        .count = row->count,
        .created_ms = row->created_ms,
        .duration_ms = row->duration_ms,
        .expires_ms = row->expires_ms,
        .generation = row->generation,
        .adopt = row->shared,
        .adopter = s->result.leases[0].adopter,
        .signer = s->conf.self,
        .seq = row->seq,
    };
}

const struct lease_row *last_lease(const struct story *s)
{
    assert_int_equal(s->result.lease_count, 1);
    return &s->result.leases[0].row;
}

struct scope_view scope_now(struct story *s, unsigned scope)
{
    struct ledger_event event = { .kind = LEDGER_SCOPES, .now_ms = s->now_ms };
    struct uuid wanted = ref('S', scope);
    struct scope_view view = { .seats = -1 };
    struct ledger_result result;

    ledger_step(s->ledger, &event, &result);
    for (size_t i = 0; i < result.scope_count; i++) {
        if (uuid_equal(&result.scopes[i].scope_ref, &wanted))
            view = result.scopes[i];
    }
    ledger_result_fini(&result);
    ledger_check(s->ledger);
    assert_int_not_equal(view.seats, -1);
    view.entitlement = NULL;
    view.feature = NULL;
    return view;
}

const struct lease_row *lease_row_of(const struct story *s, unsigned lease, unsigned home)
{
    struct uuid lease_ref = ref('L', lease), home_ref = home ? ref('N', home) : s->conf.self;

    return rows_find_lease(&s->rows, &lease_ref, &home_ref);
}

const struct node_row *node_row_of(const struct story *s, unsigned node)
{
    struct uuid node_ref = ref('N', node);

    for (size_t i = 0; i < s->rows.nodes.count; i++) {
        if (uuid_equal(&s->rows.nodes.items[i].node_ref, &node_ref))
            return &s->rows.nodes.items[i];
    }
    return NULL;
}

void assert_outcome(struct story *s, enum err found, enum err expected, const char *call,
                    const char *file, int line)
{
    if (found == expected)
        return;
    print_error("%s: %s (%s), not %s\n", call, err_info(found)->code, s->result.diag.text,
                err_info(expected)->code);
    _fail(file, line);
}

void assert_same_row(const struct lease_row *found, const struct lease_row *expected)
{
    assert_non_null(found);
    assert_true(uuid_equal(&found->lease_ref, &expected->lease_ref));
    assert_true(uuid_equal(&found->home, &expected->home));
    assert_true(uuid_equal(&found->origin_ref, &expected->origin_ref));
    assert_true(uuid_equal(&found->scope_ref, &expected->scope_ref));
    assert_int_equal(found->count, expected->count);
    assert_int_equal(found->state, expected->state);
    assert_int_equal(found->shared, expected->shared);
    assert_int_equal(found->created_ms, expected->created_ms);
    assert_int_equal(found->duration_ms, expected->duration_ms);
    assert_int_equal(found->expires_ms, expected->expires_ms);
    assert_int_equal(found->ended_ms, expected->ended_ms);
    assert_int_equal(found->ended_expires_ms, expected->ended_expires_ms);
    assert_int_equal(found->seq, expected->seq);
}

/* ---- a node on its own ------------------------------------------------------------------------
 */

enum err story_meet(struct story *s, const struct node_introduction *of)
{
    return story_step(s, (struct ledger_event){ .kind = LEDGER_MEET, .meet.of = *of });
}

struct node_introduction story_introduction(struct story *s)
{
    assert_ok(s, story_step(s, (struct ledger_event){ .kind = LEDGER_INTRODUCE }));
    return s->result.introduction;
}

enum err story_retire(struct story *s, unsigned node)
{
    struct ledger_event event = { .kind = LEDGER_RETIRE };

    if (node)
        event.retire.node_ref = ref('N', node);
    return story_step(s, event);
}

enum err story_drain(struct story *s)
{
    return story_step(s, (struct ledger_event){ .kind = LEDGER_DRAIN });
}

enum err story_resume(struct story *s)
{
    return story_step(s, (struct ledger_event){ .kind = LEDGER_RESUME });
}

enum err story_dismissed(struct story *s, unsigned by)
{
    return story_step(
        s, (struct ledger_event){ .kind = LEDGER_DISMISSED, .dismissed.by = ref('N', by) });
}

enum self_state story_state(const struct story *s)
{
    return ledger_pair(s->ledger).self;
}

void story_save(const struct story *s, struct rows *out)
{
    rows_copy(&s->rows, out);
}

void story_roll_back(struct story *s, const struct rows *to)
{
    rows_fini(&s->rows);
    rows_copy(to, &s->rows);
    story_restart(s);
}

void story_rename(struct story *s, unsigned node)
{
    struct uuid former = s->conf.self;

    rows_rename(&s->rows, &former, &former);
    s->conf.self = ref('N', node);
    story_restart(s);
}

void story_wipe(struct story *s)
{
    struct uuid partner = ledger_pair(s->ledger).partner;

    rows_wipe(&s->rows, &partner);
    story_restart(s);
}

/* ---- a story of two ---------------------------------------------------------------------------
 */

void pair_begin(struct story *a, struct story *b)
{
    struct story *both[] = { a, b };

    for (unsigned i = 0; i < 2; i++) {
        story_begin_as(both[i], SELF_NODE + i, true);
        both[i]->conf.skew_max_ms = PAIR_SKEW_MS;
        story_restart(both[i]);
    }
    assert_int_equal(pair_meet(a, b), ERR_OK);
    pair_settle(a, b);
}

enum err pair_meet(struct story *client, struct story *server)
{
    struct node_introduction client_is = story_introduction(client);
    enum err err = story_meet(server, &client_is);
    struct node_introduction server_is = server->result.introduction;

    return err == ERR_OK ? story_meet(client, &server_is) : err;
}

struct ledger_page *pair_page(struct story *from, struct story *to, size_t limit)
{
    struct ledger_event event = { .kind = LEDGER_PAGE };

    event.page.receiver = to->conf.self;
    event.page.since = ledger_pair(to->ledger).cursor;
    event.page.limit = limit;
    assert_ok(from, story_step(from, event));
    return TAKE(from->result.page);
}

void pair_tell_by(struct story *from, struct story *to, size_t limit)
{
    bool complete = false;

    for (int pages = 0; !complete; pages++) {
        AUTO(ledger_page_free) struct ledger_page *page = pair_page(from, to, limit);
        assert_ok(to, story_merge(to, page));
        assert_true(page->complete || page->upto > page->since);
        complete = page->complete;
        assert_true(pages < 10000);
    }
}

void pair_tell(struct story *from, struct story *to)
{
    pair_tell_by(from, to, PAGE_ROWS_MAX);
}

static bool has_news(const struct story *from, const struct story *to)
{
    return ledger_page_waiting(from->ledger, ledger_pair(to->ledger).cursor);
}

void pair_settle(struct story *a, struct story *b)
{
    for (int round = 0; has_news(a, b) || has_news(b, a); round++) {
        if (round == 10)
            fail_msg("the nodes do not come to rest");
        pair_tell(a, b);
        pair_tell(b, a);
    }
}

void pair_wait(struct story *a, struct story *b, int64_t ms)
{
    story_wait(a, ms);
    story_wait(b, ms);
}

void pair_install(struct story *a, struct story *b, const struct ent_spec *spec)
{
    assert_ok(a, story_install(a, spec));
    pair_settle(a, b);
}

/* ---- comparing two nodes ----------------------------------------------------------------------
 */

static const struct origin_row *origin_row_of(const struct rows *rows, const struct uuid *origin)
{
    for (size_t i = 0; i < rows->origins.count; i++) {
        if (uuid_equal(&rows->origins.items[i].origin_ref, origin))
            return &rows->origins.items[i];
    }
    return NULL;
}

static void assert_same_leases(const struct rows *a, const struct rows *b)
{
    for (size_t i = 0; i < a->leases.count; i++) {
        const struct lease_row *here = &a->leases.items[i];
        const struct lease_row *there = rows_find_lease(b, &here->lease_ref, &here->home);
        if (!there)
            fail_msg("lease %u is known to one node only", here->lease_ref.bytes[15]);
        struct lease_row copy = *there;
        copy.seq = here->seq;
        assert_same_row(here, &copy);
    }
}

static void assert_same_origins(const struct rows *a, const struct rows *b)
{
    for (size_t i = 0; i < a->origins.count; i++) {
        const struct origin_row *here = &a->origins.items[i];
        const struct origin_row *there = origin_row_of(b, &here->origin_ref);
        assert_non_null(there);
        assert_int_equal(here->generation, there->generation);
        assert_int_equal(here->enrolled, there->enrolled);
        assert_int_equal(here->created_ms, there->created_ms);
        assert_int_equal(here->updated_ms, there->updated_ms);
        assert_true(uuid_equal(&here->updated_by, &there->updated_by));
    }
}

static void assert_same_moves(const struct rows *a, const struct rows *b)
{
    for (size_t i = 0; i < a->moves.count; i++) {
        const struct move_row *here = &a->moves.items[i];
        int64_t moved = 0;
        for (size_t j = 0; j < b->moves.count; j++) {
            const struct move_row *there = &b->moves.items[j];
            if (uuid_equal(&here->scope_ref, &there->scope_ref) &&
                uuid_equal(&here->giver, &there->giver) &&
                uuid_equal(&here->receiver, &there->receiver))
                moved = there->moved;
        }
        assert_int_equal(here->moved, moved);
    }
}

static void assert_same_entitlements(const struct rows *a, const struct rows *b)
{
    for (size_t i = 0; i < a->entitlements.count; i++) {
        const struct entitlement_row *here = &a->entitlements.items[i];
        bool found = false;
        for (size_t j = 0; j < b->entitlements.count; j++) {
            const struct entitlement_row *there = &b->entitlements.items[j];
            found = found || (!memcmp(here->entitlement->sha256, there->entitlement->sha256,
                                      sizeof here->entitlement->sha256) &&
                              here->installed_ms == there->installed_ms &&
                              uuid_equal(&here->minter, &there->minter));
        }
        assert_true(found);
    }
}

static void assert_same_nodes(const struct rows *a, const struct rows *b)
{
    for (size_t i = 0; i < a->nodes.count; i++) {
        const struct node_row *here = &a->nodes.items[i], *there = NULL;
        for (size_t j = 0; j < b->nodes.count; j++) {
            if (uuid_equal(&b->nodes.items[j].node_ref, &here->node_ref))
                there = &b->nodes.items[j];
        }
        assert_non_null(there);
        assert_int_equal(here->retired, there->retired);
        assert_int_equal(here->drained, there->drained);
        assert_true(uuid_equal(&here->heir, &there->heir));
        assert_int_equal(here->retired_ms, there->retired_ms);
        assert_int_equal(here->wait_ms, there->wait_ms);
        assert_int_equal(here->longest_ms, there->longest_ms);
    }
}

void assert_same(const struct story *a, const struct story *b)
{
    const struct rows *x = &a->rows, *y = &b->rows;

    assert_int_equal(x->leases.count, y->leases.count);
    assert_int_equal(x->origins.count, y->origins.count);
    assert_int_equal(x->moves.count, y->moves.count);
    assert_int_equal(x->entitlements.count, y->entitlements.count);
    assert_int_equal(x->nodes.count, y->nodes.count);
    assert_int_equal(x->scopes.count, y->scopes.count);
    assert_same_leases(x, y);
    assert_same_origins(x, y);
    assert_same_moves(x, y);
    assert_same_entitlements(x, y);
    assert_same_nodes(x, y);
}

static bool in_use(const struct lease_row *here, const struct lease_row *there, int64_t now_ms)
{
    int64_t expires_ms = here->expires_ms;

    if (there && there->expires_ms > expires_ms)
        expires_ms = there->expires_ms;
    return here->state == LEASE_ACTIVE && (!there || there->state == LEASE_ACTIVE) &&
           now_ms < expires_ms;
}

static int64_t seats_in_use(const struct story *a, const struct story *b,
                            const struct uuid *scope_ref)
{
    const struct rows *x = &a->rows, *y = &b->rows;
    int64_t now_ms = a->now_ms < b->now_ms ? a->now_ms : b->now_ms, seats = 0;

    for (size_t i = 0; i < x->leases.count; i++) {
        const struct lease_row *row = &x->leases.items[i];
        if (uuid_equal(&row->scope_ref, scope_ref) &&
            in_use(row, rows_find_lease(y, &row->lease_ref, &row->home), now_ms))
            seats += row->count;
    }
    for (size_t i = 0; i < y->leases.count; i++) {
        const struct lease_row *row = &y->leases.items[i];
        if (uuid_equal(&row->scope_ref, scope_ref) &&
            !rows_find_lease(x, &row->lease_ref, &row->home) && in_use(row, NULL, now_ms))
            seats += row->count;
    }
    return seats;
}

void assert_not_oversold(const struct story *a, const struct story *b)
{
    for (size_t i = 0; i < a->rows.scopes.count; i++) {
        const struct scope_row *scope = &a->rows.scopes.items[i];
        assert_true(seats_in_use(a, b, &scope->scope_ref) <= scope->seats);
    }
}
