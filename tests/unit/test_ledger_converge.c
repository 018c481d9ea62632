/* I1, I3, I4 by chance: two nodes do whatever comes to mind, pages between them are kept, lost,
 * delivered late and twice, clocks differ, nodes restart. At no time more seats are in use than
 * there are; once everything was exchanged both know the same; once everything has ended every
 * seat can be granted. The simulator does the same for whole pairs; here a seed fails in a second.
 */
#include "ledger_story.h"

#define ORIGINS    3
#define REFERENCES 8
#define KEPT_PAGES 6
#define STEPS      70
#define SEEDS      150u

struct history {
    struct story *node[2];
    struct ledger_page *pages[KEPT_PAGES];
    struct lease_evidence tokens[REFERENCES];
    bool has_token[REFERENCES];
    uint64_t seed;
    int64_t revision;
    bool reduces, brief; /* revisions that take seats away; leases that end meanwhile */
};

/* A repeatable sequence (xorshift64). */
static uint64_t below(struct history *h, uint64_t bound)
{
    h->seed ^= h->seed << 13;
    h->seed ^= h->seed >> 7;
    h->seed ^= h->seed << 17;
    return (h->seed >> 16) % bound;
}

static unsigned some_origin(struct history *h)
{
    return ANN + (unsigned)below(h, ORIGINS);
}

static unsigned some_reference(struct history *h)
{
    return 1 + (unsigned)below(h, REFERENCES);
}

static uint32_t generation_at(const struct story *s, unsigned origin)
{
    struct uuid origin_ref = ref('O', origin);

    for (size_t i = 0; i < s->rows.origins.count; i++) {
        if (uuid_equal(&s->rows.origins.items[i].origin_ref, &origin_ref))
            return s->rows.origins.items[i].generation;
    }
    return 0;
}

/* The client speaks with the newest secret that either node gave it. */
static void speak_as(struct history *h, struct story *s, unsigned origin)
{
    uint32_t x = generation_at(h->node[0], origin), y = generation_at(h->node[1], origin);

    s->generation = x > y ? x : y;
}

static void keep_token(struct history *h, const struct story *s, unsigned lease)
{
    if (s->result.err != ERR_OK || s->result.lease_count != 1)
        return;
    h->tokens[lease - 1] = evidence_last(s);
    h->has_token[lease - 1] = true;
}

static void client_asks(struct history *h, struct story *s)
{
    unsigned origin = some_origin(h), lease = some_reference(h);
    int64_t duration_ms = h->brief ? (1 + (int64_t)below(h, 20)) * 10 * SECOND : 12 * HOUR;
    const struct lease_evidence *token =
        h->has_token[lease - 1] && below(h, 2) ? &h->tokens[lease - 1] : NULL;

    if (token)
        origin = token->origin_ref.bytes[15];
    speak_as(h, s, origin);
    switch (below(h, 5)) {
    case 0:
        story_release(s, origin, lease, token);
        return;
    case 1:
    case 2:
        story_renew(s, origin, lease, token);
        break;
    default:
        story_grant(s, origin,
                    LEASE(lease, .duration_ms = duration_ms, .count = 1 + (int64_t)below(h, 2)));
        break;
    }
    keep_token(h, s, lease);
}

static void operator_acts(struct history *h, struct story *s)
{
    struct ledger_event event = { .kind = LEDGER_ORIGIN_DELETE };
    int64_t least = h->reduces ? 2 : 5 + h->revision;

    switch (below(h, 8)) {
    case 0:
        event.origin_delete.origin_ref = ref('O', some_origin(h));
        story_step(s, event);
        break;
    case 1:
        story_enrol(s, some_origin(h), false);
        break;
    case 2: /* of two at once that of the smaller node stands: both count from what that leaves */
        if (below(h, 4) == 0)
            assert_ok(s,
                      story_install(s, &(struct ent_spec){ .revision = ++h->revision,
                                                           SEATS(least + (int64_t)below(h, 4)) }));
        break;
    case 3:
        story_restart(s);
        break;
    default:
        story_revoke(s, some_reference(h));
        break;
    }
}

static struct story *other(const struct history *h, const struct story *s)
{
    return s == h->node[0] ? h->node[1] : h->node[0];
}

static void fetches(struct history *h, struct story *s)
{
    struct story *from = other(h, s);
    size_t place = below(h, KEPT_PAGES);

    ledger_page_free(h->pages[place]);
    h->pages[place] = pair_page(from, s, 1 + below(h, 4) * below(h, 20));
    if (below(h, 4)) /* else it is lost, or comes later */
        assert_ok(s, story_merge(s, h->pages[place]));
}

static void hears_late(struct history *h)
{
    const struct ledger_page *page = h->pages[below(h, KEPT_PAGES)];

    if (!page)
        return;
    struct story *s = h->node[page->receiver.bytes[15] - 1];
    bool gap = page->since > ledger_pair(s->ledger).cursor;
    assert_err(s, gap ? ERR_PAGE_REFUSED : ERR_OK, story_merge(s, page));
}

static void asks_for_credits(struct history *h, struct story *s)
{
    struct story *partner = other(h, s);

    if (partner->rows.scopes.count)
        story_give(partner, 1, s->conf.self.bytes[15], 1 + (int64_t)below(h, 3));
}

static void time_passes(struct history *h, struct story *s)
{
    int64_t ms = (int64_t)below(h, below(h, 4) ? 2000 : 20000);
    int64_t ahead_ms = s->now_ms + ms - other(h, s)->now_ms;

    if (ahead_ms < PAIR_SKEW_MS)
        story_wait(s, ms);
}

static void take_step(struct history *h)
{
    struct story *s = h->node[below(h, 2)];

    switch (below(h, 10)) {
    case 0:
        operator_acts(h, s);
        break;
    case 1:
        hears_late(h);
        break;
    case 2:
        asks_for_credits(h, s);
        break;
    case 3:
    case 4:
        time_passes(h, s);
        break;
    case 5:
    case 6:
        fetches(h, s);
        break;
    default:
        client_asks(h, s);
        break;
    }
}

/* Both ask at the same time, again and again: each hears what the other did before it heard. */
static void exchange_crossing(struct story *a, struct story *b)
{
    for (int round = 0; round < 12; round++) {
        AUTO(ledger_page_free) struct ledger_page *to_a = pair_page(b, a, PAGE_ROWS_MAX);
        AUTO(ledger_page_free) struct ledger_page *to_b = pair_page(a, b, PAGE_ROWS_MAX);
        int64_t given = 0;
        assert_ok(a, story_merge(a, to_a));
        given += a->result.given;
        assert_ok(b, story_merge(b, to_b));
        given += b->result.given;
        if (round == 11 && given)
            fail_msg("credits go to and fro");
    }
}

/* I4: everybody has gone, and every clock has passed everything. */
static void check_everything_comes_back(struct history *h)
{
    struct story *a = h->node[0], *b = h->node[1];

    for (int days = 0; days < 2; days++) {
        a->now_ms = b->now_ms = (a->now_ms > b->now_ms ? a->now_ms : b->now_ms) + DAY;
        pair_tell(a, b);
        pair_tell(b, a);
        pair_settle(a, b);
    }
    pair_tell(a, b);
    pair_tell(b, a);
    assert_ok(a, story_purge(a, 1000));
    assert_ok(b, story_purge(b, 1000));
    assert_int_equal(ledger_counts(a->ledger).leases, 0);
    assert_int_equal(ledger_counts(b->ledger).leases, 0);
    assert_int_equal(scope_now(a, 1).used + scope_now(b, 1).used, 0);
    assert_int_equal(scope_now(a, 1).free_here + scope_now(b, 1).free_here, scope_now(a, 1).seats);
    assert_same(a, b);
}

static void run(uint64_t seed, bool reduces, bool brief)
{
    PAIR(a, b);
    struct history h = { .node = { &a, &b },
                         .seed = seed * 0x9e3779b97f4a7c15u + 1,
                         .revision = 1,
                         .reduces = reduces,
                         .brief = brief };

    assert_ok(&a, story_install(&a, &(struct ent_spec){ SEATS(6) }));
    b.now_ms += (int64_t)below(&h, PAIR_SKEW_MS / 2);
    for (int step = 0; step < STEPS; step++) {
        take_step(&h);
        if (!reduces)
            assert_not_oversold(&a, &b);
    }
    exchange_crossing(&a, &b);
    pair_settle(&a, &b);
    assert_same(&a, &b);
    check_everything_comes_back(&h);
    for (size_t i = 0; i < KEPT_PAGES; i++)
        ledger_page_free(h.pages[i]);
}

static uint64_t running; /* 0: none */

static void run_seeds(bool reduces, bool brief)
{
    for (running = 1; running <= SEEDS; running++)
        run(running, reduces, brief);
    running = 0;
}

static int name_the_seed(void **state)
{
    (void)state;
    if (running)
        print_error("with seed %u of %u\n", (unsigned)running, SEEDS);
    return 0;
}

static void i3_nodes_that_exchanged_everything_know_the_same(void **state)
{
    (void)state;
    run_seeds(false, false);
}

static void i4_every_seat_comes_back(void **state)
{
    (void)state;
    run_seeds(false, true);
}

static void i4_every_seat_comes_back_after_reductions(void **state)
{
    (void)state;
    run_seeds(true, false);
    run_seeds(true, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(i3_nodes_that_exchanged_everything_know_the_same, name_the_seed),
        cmocka_unit_test_teardown(i4_every_seat_comes_back, name_the_seed),
        cmocka_unit_test_teardown(i4_every_seat_comes_back_after_reductions, name_the_seed),
    };

    return cmocka_run_group_tests_name("ledger_converge", tests, NULL, NULL);
}
