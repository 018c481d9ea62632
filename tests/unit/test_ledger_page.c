/* R8: what one node tells the other, in whatever pieces; and which pages are not believed. */
#include "ledger_story.h"

/* ---- what a page says -------------------------------------------------------------------------
 */

static void grant_some(struct story *s, unsigned first, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        assert_ok(s, story_grant(s, ANN + i % 3, LEASE(first + i, .duration_ms = HOUR)));
}

static void r8_page_that_stops_short_states_nothing(void **state)
{
    PAIR(a, b);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(10) });
    pair_wait(&a, &b, MINUTE);
    struct node_row before = *node_row_of(&b, 1);
    grant_some(&a, 1, 3); /* with three new origins */
    AUTO(ledger_page_free) struct ledger_page *page = pair_page(&a, &b, 5);
    assert_false(page->complete);
    assert_int_equal(page->lease_count + page->origin_count, 5);
    assert_int_equal(page->watermark_ms, 0);
    assert_int_equal(page->acknowledged, 0);
    assert_ok(&b, story_merge(&b, page));
    assert_int_equal(node_row_of(&b, 1)->cursor, page->upto);
    assert_int_equal(node_row_of(&b, 1)->watermark_ms, before.watermark_ms);
    assert_int_equal(node_row_of(&b, 1)->acknowledged, before.acknowledged);
    assert_int_equal(ledger_pair(b.ledger).merged_ms, NOON);
    pair_tell(&a, &b);
    assert_int_equal(node_row_of(&b, 1)->watermark_ms, a.now_ms - 1);
    assert_int_equal(ledger_pair(b.ledger).merged_ms, b.now_ms);
}

static void r8_complete_page_states_what_is_behind_it(void **state)
{
    PAIR(a, b);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(10) });
    assert_ok(&b, story_prove(&b, MALLORY));
    pair_tell(&b, &a);
    /* its scope is the last to get a number, and not told: both derive it */
    assert_ok(&a, story_install(&a, &(struct ent_spec){ SEATS(12), .revision = 2 }));
    AUTO(ledger_page_free) struct ledger_page *page = pair_page(&a, &b, PAGE_ROWS_MAX);
    assert_true(page->complete && page->refilled && !page->fresh && !page->closed);
    assert_int_equal(page->now_ms, a.now_ms);
    /* the rest of this millisecond is still to come */
    assert_int_equal(page->watermark_ms, a.now_ms - 1);
    assert_int_equal(page->acknowledged, ledger_seq(b.ledger));
    assert_int_equal(page->upto, ledger_seq(a.ledger));
    assert_ok(&b, story_merge(&b, page));
    assert_int_equal(node_row_of(&b, 1)->acknowledged, page->acknowledged);
    assert_int_equal(node_row_of(&b, 1)->cursor, page->upto);
}

/* `seen` is what was merged here, not what is known to exist there. */
static void r8_seen_is_the_own_cursor(void **state)
{
    PAIR(a, b);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(10) });
    grant_some(&b, 1, 3);
    AUTO(ledger_page_free) struct ledger_page *part = pair_page(&b, &a, 2);
    assert_ok(&a, story_merge(&a, part));
    AUTO(ledger_page_free) struct ledger_page *page = pair_page(&a, &b, PAGE_ROWS_MAX);
    assert_true(page->complete);
    assert_int_equal(page->acknowledged, part->upto);
    assert_true(page->acknowledged < ledger_seq(b.ledger));
}

static void r8_rows_do_not_go_back_to_where_they_came_from(void **state)
{
    PAIR(a, b);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(10) });
    grant_some(&b, 1, 1); /* not so many that a would give credits (R12) */
    pair_tell(&b, &a);
    AUTO(ledger_page_free) struct ledger_page *page = pair_page(&a, &b, PAGE_ROWS_MAX);
    assert_int_equal(page->lease_count + page->origin_count + page->move_count, 0);
    assert_int_equal(page->node_count + page->entitlement_count, 0);
    assert_int_equal(page->upto, ledger_seq(a.ledger));
    /* but what is decided here about them does */
    assert_ok(&a, story_release(&a, ANN, 1, NULL));
    AUTO(ledger_page_free) struct ledger_page *end = pair_page(&a, &b, PAGE_ROWS_MAX);
    assert_int_equal(end->lease_count, 1);
    assert_int_equal(end->leases[0].state, LEASE_RELEASED);
}

/* A record that became something that neither had said is told to both. */
static void r8_mixed_records_are_told_back(void **state)
{
    PAIR(a, b);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(4) });
    grant_some(&a, 1, 1);
    pair_settle(&a, &b);
    pair_wait(&a, &b, MINUTE);
    assert_ok(&a, story_release(&a, ANN, 1, NULL));
    assert_ok(&b, story_renew(&b, ANN, 1, NULL));
    pair_tell(&b, &a);
    AUTO(ledger_page_free) struct ledger_page *page = pair_page(&a, &b, PAGE_ROWS_MAX);
    assert_int_equal(page->lease_count, 1);
    assert_int_equal(page->leases[0].state, LEASE_RELEASED);
    assert_int_equal(page->leases[0].expires_ms, NOON + MINUTE + HOUR);
    assert_int_equal(page->leases[0].ended_expires_ms, NOON + HOUR);
    pair_settle(&a, &b);
    assert_same(&a, &b);
}

static void r8_waiting_pages_have_something_to_tell(void **state)
{
    PAIR(a, b);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(10) });
    uint64_t cursor = ledger_pair(b.ledger).cursor;
    assert_false(ledger_page_waiting(a.ledger, cursor));
    pair_wait(&a, &b, MINUTE); /* time alone is no news */
    assert_false(ledger_page_waiting(a.ledger, cursor));
    grant_some(&a, 1, 1);
    assert_true(ledger_page_waiting(a.ledger, cursor));
    pair_settle(&a, &b);
    cursor = ledger_pair(b.ledger).cursor;
    assert_false(ledger_page_waiting(a.ledger, cursor));
    grant_some(&b, 2, 1);
    pair_tell(&b, &a);
    assert_true(ledger_page_waiting(a.ledger, cursor)); /* that it was merged */
    pair_tell(&a, &b);
    assert_false(ledger_page_waiting(a.ledger, ledger_pair(b.ledger).cursor));
    assert_true(ledger_page_waiting(a.ledger, ledger_seq(a.ledger) + 1)); /* an error */
}

/* ---- in pieces, late, twice -------------------------------------------------------------------
 */

static void r8_page_after_the_cursor_is_refused(void **state)
{
    PAIR(a, b);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(10) });
    grant_some(&a, 1, 1);
    AUTO(ledger_page_free) struct ledger_page *first = pair_page(&a, &b, PAGE_ROWS_MAX);
    grant_some(&a, 4, 1);
    struct ledger_event event = { .kind = LEDGER_PAGE };
    event.page.receiver = ref('N', 2);
    event.page.since = first->upto;
    event.page.limit = PAGE_ROWS_MAX;
    assert_ok(&a, story_step(&a, event));
    AUTO(ledger_page_free) struct ledger_page *second = TAKE(a.result.page);
    uint64_t seq = ledger_seq(b.ledger);
    assert_err(&b, ERR_PAGE_REFUSED, story_merge(&b, second));
    assert_int_equal(ledger_seq(b.ledger), seq);
    assert_null(lease_row_of(&b, 4, 1));
    assert_ok(&b, story_merge(&b, first));
    assert_ok(&b, story_merge(&b, second));
    assert_non_null(lease_row_of(&b, 4, 1));
}

static void r8_late_and_repeated_pages_change_nothing(void **state)
{
    struct ledger_page *pages[6];
    PAIR(a, b);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(10) });
    for (unsigned i = 0; i < 6; i++) {
        pair_wait(&a, &b, 2 * MINUTE);
        if (i < 3)
            grant_some(&a, 1 + i, 1);
        else
            assert_ok(&a, story_release(&a, ANN, i - 2, NULL));
        pages[i] = pair_page(&a, &b, PAGE_ROWS_MAX);
        assert_ok(&b, story_merge(&b, pages[i]));
        pair_tell(&b, &a);
    }
    struct node_row partner = *node_row_of(&b, 1);
    uint64_t seq = ledger_seq(b.ledger);
    for (unsigned i = 0; i < 36; i++) {
        assert_ok(&b, story_merge(&b, pages[i * 5 % 6]));
        assert_int_equal(b.result.given, 0);
    }
    assert_int_equal(ledger_seq(b.ledger), seq);
    assert_int_equal(node_row_of(&b, 1)->cursor, partner.cursor);
    assert_int_equal(node_row_of(&b, 1)->watermark_ms, partner.watermark_ms);
    assert_int_equal(node_row_of(&b, 1)->acknowledged, partner.acknowledged);
    assert_false(ledger_pair(b.ledger).clock_suspect); /* a late page says nothing of the clocks */
    for (unsigned i = 0; i < 6; i++)
        ledger_page_free(pages[i]);
    pair_settle(&a, &b);
    assert_same(&a, &b);
}

/* A late page knows a lease as active that was purged since: it must not come back for ever. */
static void r8_late_page_revives_nothing(void **state)
{
    PAIR(a, b);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(2) });
    assert_ok(&a, story_grant(&a, ANN, LEASE(1, .duration_ms = HOUR)));
    AUTO(ledger_page_free) struct ledger_page *page = pair_page(&a, &b, PAGE_ROWS_MAX);
    assert_ok(&b, story_merge(&b, page));
    assert_ok(&a, story_release(&a, ANN, 1, NULL));
    pair_settle(&a, &b);
    pair_wait(&a, &b, HOUR + MINUTE);
    pair_tell(&a, &b);
    pair_tell(&b, &a);
    assert_ok(&a, story_purge(&a, 10));
    assert_ok(&b, story_purge(&b, 10));
    assert_null(lease_row_of(&b, 1, 1));
    assert_ok(&b, story_merge(&b, page));
    assert_null(lease_row_of(&b, 1, 1));
    assert_int_equal(scope_now(&b, 1).used, 0);
    assert_same(&a, &b);
}

/* Everything that there can be, told to a new node row by row: each row must stand on what came
 * before it, whatever changed again meanwhile. */
static void r8_refill_row_by_row(void **state)
{
    for (size_t limit = 1; limit <= 4; limit++) {
        STORY(a, ALONE);
        story_install(&a, &(struct ent_spec){ SEATS(20) });
        story_install(
            &a, &(struct ent_spec){ .ref = 2,
                                    .features = { { .scope = 2, .name = "edit", .seats = 9 } } });
        grant_some(&a, 1, 9);
        assert_ok(&a, story_grant(&a, MALLORY, LEASE(20, .feature = "edit", .count = 2)));
        assert_ok(&a, story_release(&a, ANN, 1, NULL));
        assert_ok(&a, story_revoke(&a, 2));
        assert_ok(&a, story_enrol(&a, CAROL, true)); /* its row stands after its leases now */
        assert_ok(&a, story_step(&a, (struct ledger_event){ .kind = LEDGER_ORIGIN_DELETE,
                                                            .origin_delete = { ref('O', BOB) } }));
        story_install(&a, &(struct ent_spec){ SEATS(25), .revision = 2 });
        struct story b __attribute__((cleanup(story_end)));
        story_begin_as(&b, 2, true);
        assert_int_equal(pair_meet(&b, &a), ERR_OK);
        assert_state(&b, SELF_UNFILLED);
        AUTO(ledger_page_free) struct ledger_page *part = pair_page(&a, &b, limit);
        assert_ok(&b, story_merge(&b, part));
        assert_state(&b, SELF_UNFILLED); /* R11: not before the page that completes */
        assert_err(&b, ERR_NODE_UNFILLED, story_renew(&b, CAROL, 3, NULL));
        pair_tell_by(&a, &b, limit);
        assert_state(&b, SELF_SERVING);
        pair_settle(&a, &b);
        assert_same(&a, &b);
        assert_ok(&b, story_renew(&b, CAROL, 3, NULL));
    }
    (void)state;
}

/* ---- R3: private until it is told -------------------------------------------------------------
 */

static void begin_private(struct story *a, struct story *b)
{
    pair_install(a, b, &(struct ent_spec){ SEATS(4) });
    pair_wait(a, b, PEER_FETCH_RECENT_MS + 1);
    assert_ok(a, story_grant(a, ANN, LEASE(1, .duration_ms = HOUR)));
    assert_false(last_lease(a)->shared);
    assert_true(uuid_is_nil(&a->result.leases[0].adopter));
}

static void r3_private_lease_is_shared_by_the_page_that_tells_of_it(void **state)
{
    struct uuid partner = ref('N', 2);
    PAIR(a, b);
    (void)state;

    begin_private(&a, &b);
    uint64_t granted = lease_row_of(&a, 1, 0)->seq;
    AUTO(ledger_page_free) struct ledger_page *page = pair_page(&a, &b, 1);
    assert_int_equal(page->origin_count, 1); /* and the lease has moved up */
    AUTO(ledger_page_free) struct ledger_page *lost = pair_page(&a, &b, PAGE_ROWS_MAX);
    assert_int_equal(lost->lease_count, 1);
    assert_true(lost->leases[0].shared);
    assert_true(lost->leases[0].seq > granted);
    /* whether the page arrived or not */
    assert_true(lease_row_of(&a, 1, 0)->shared);
    assert_ok(&a, story_grant(&a, ANN, LEASE(1)));
    assert_true(last_lease(&a)->shared);
    assert_true(uuid_equal(&a.result.leases[0].adopter, &partner));
    assert_ok(&a, story_release(&a, ANN, 1, NULL));
    assert_int_equal(scope_now(&a, 1).waiting, 1); /* R6 */
    pair_settle(&a, &b);
    assert_int_equal(scope_now(&a, 1).waiting, 0);
    assert_same(&a, &b);
}

static void r3_ended_private_lease_is_told_as_it_was(void **state)
{
    PAIR(a, b);
    (void)state;

    begin_private(&a, &b);
    assert_ok(&a, story_release(&a, ANN, 1, NULL));
    assert_int_equal(scope_now(&a, 1).waiting, 0); /* R6: back at once */
    pair_settle(&a, &b);
    assert_false(lease_row_of(&b, 1, 1)->shared);
    assert_same(&a, &b);
}

static void r3_shared_from_the_start_while_the_partner_listens(void **state)
{
    struct uuid partner = ref('N', 1);
    PAIR(a, b);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(4) });
    pair_wait(&a, &b, PEER_FETCH_RECENT_MS);
    assert_ok(&b, story_grant(&b, ANN, LEASE(1)));
    assert_true(last_lease(&b)->shared);
    assert_true(uuid_equal(&b.result.leases[0].adopter, &partner));
}

/* ---- pages that are not made ------------------------------------------------------------------
 */

static enum err ask(struct story *s, unsigned receiver, uint64_t since)
{
    struct ledger_event event = { .kind = LEDGER_PAGE };

    event.page.receiver = ref('N', receiver);
    event.page.since = since;
    event.page.limit = PAGE_ROWS_MAX;
    return story_step(s, event);
}

static void r8_pages_are_for_the_partner_alone(void **state)
{
    PAIR(a, b);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(4) });
    assert_err(&a, ERR_PEER_UNKNOWN, ask(&a, THIRD_NODE, 0));
    assert_null(a.result.page);
    assert_err(&a, ERR_PEER_UNKNOWN, ask(&a, 1, 0));
    assert_err(&a, ERR_HISTORY_LOST, ask(&a, 2, ledger_seq(a.ledger) + 1)); /* R11 */
    assert_ok(&a, ask(&a, 2, ledger_seq(a.ledger)));
}

/* ---- pages that are not believed --------------------------------------------------------------
 */

/* A page with a row of every kind, as b might send it to a. Its rows are good as they are. */
struct forged {
    struct ledger_page page;
    struct node_row node;
    struct entitlement_row minted;
    struct move_row move;
    struct lease_row lease;
    struct origin_row origin;
    struct entitlement *entitlement;
};

static void forge(struct forged *f, const struct story *a)
{
    f->entitlement = ent_new(
        &(struct ent_spec){ .ref = 7, .features = { { .scope = 7, .name = "edit", .seats = 5 } } });
    f->node = (struct node_row){ .node_ref = ref('N', 7),
                                 .retired = true,
                                 .heir = ref('N', 2),
                                 .retired_ms = NOON,
                                 .wait_ms = NOON,
                                 .longest_ms = DAY };
    f->minted = (struct entitlement_row){ .entitlement = f->entitlement,
                                          .installed_ms = NOON,
                                          .minter = ref('N', 2) };
    f->move = (struct move_row){
        .scope_ref = ref('S', 7), .giver = ref('N', 2), .receiver = ref('N', 1), .moved = 3
    };
    f->lease = (struct lease_row){ .lease_ref = ref('L', 70),
                                   .home = ref('N', 2),
                                   .origin_ref = ref('O', 70),
                                   .scope_ref = ref('S', 7),
                                   .count = 2,
                                   .shared = true,
                                   .created_ms = NOON,
                                   .duration_ms = HOUR,
                                   .expires_ms = NOON + HOUR };
    f->origin = (struct origin_row){ .origin_ref = ref('O', 70),
                                     .enrolled = true,
                                     .created_ms = NOON,
                                     .updated_ms = NOON,
                                     .updated_by = ref('N', 2) };
    f->page = story_peer_page(a, 2);
    f->page.since = ledger_pair(a->ledger).cursor;
    f->page.upto = f->page.since + 5;
    f->node.seq = f->page.since + 1;
    f->minted.seq = f->page.since + 2;
    f->move.seq = f->page.since + 3;
    f->lease.seq = f->page.since + 4;
    f->origin.seq = f->page.upto;
    f->page.watermark_ms = NOON - 1;
    f->page.nodes = &f->node;
    f->page.entitlements = &f->minted;
    f->page.moves = &f->move;
    f->page.leases = &f->lease;
    f->page.origins = &f->origin;
    f->page.node_count = f->page.entitlement_count = f->page.move_count = f->page.lease_count =
        f->page.origin_count = 1;
}

static void r8_good_page_of_every_kind_is_believed(void **state)
{
    struct forged f;
    PAIR(a, b);
    (void)state;

    forge(&f, &a);
    f.minted.usable = true; /* that is its minter's own business */
    assert_ok(&a, story_merge(&a, &f.page));
    assert_false(a.rows.entitlements.items[0].usable);
    assert_int_equal(a.result.given, 3);
    assert_int_equal(scope_now(&a, 7).used, 2);
    assert_free(&a, 7, 3);
    entitlement_unref(f.entitlement);
}

typedef void forgery(struct forged *f);

/* Refused with the page, and nothing of the page is merged. */
static void refuse(forgery *alter, enum err expected, const char *words)
{
    struct forged f;
    PAIR(a, b);

    forge(&f, &a);
    alter(&f);
    uint64_t seq = ledger_seq(a.ledger), cursor = ledger_pair(a.ledger).cursor;
    assert_err(&a, expected, story_merge(&a, &f.page));
    if (!strstr(a.result.diag.text, words))
        fail_msg("\"%s\" does not say \"%s\"", a.result.diag.text, words);
    assert_int_equal(ledger_seq(a.ledger), seq);
    assert_int_equal(ledger_pair(a.ledger).cursor, cursor);
    assert_int_equal(node_row_of(&a, 2)->watermark_ms, NOON - 1);
    assert_int_equal(ledger_counts(a.ledger).nodes, 2);
    assert_int_equal(ledger_counts(a.ledger).scopes + ledger_counts(a.ledger).leases, 0);
    entitlement_unref(f.entitlement);
}

#define FORGED(name, err, words, ...)                                                              \
    static void forge_##name(struct forged *f)                                                     \
    {                                                                                              \
        __VA_ARGS__;                                                                               \
    }                                                                                              \
    static void refuses_##name(void **state)                                                       \
    {                                                                                              \
        (void)state;                                                                               \
        refuse(forge_##name, err, words);                                                          \
    }

/* R8: the frame */
FORGED(r8_page_of_a_stranger, ERR_PEER_UNKNOWN, "partner", f->page.sender = ref('N', 9))
FORGED(r8_page_of_itself, ERR_PEER_UNKNOWN, "partner", f->page.sender = ref('N', 1))
FORGED(r8_page_for_another, ERR_PAGE_REFUSED, "another node", f->page.receiver = ref('N', 9))
FORGED(r8_page_with_a_gap, ERR_PAGE_REFUSED, "starts after", f->page.since++)
FORGED(r8_page_that_ends_before_it_starts, ERR_PAGE_REFUSED, "starts after", f->page.since = 1;
       f->page.upto = 0)
FORGED(r8_watermark_of_now, ERR_PAGE_REFUSED, "watermark", f->page.watermark_ms = f->page.now_ms)
FORGED(r8_watermark_of_no_time, ERR_PAGE_REFUSED, "watermark", f->page.watermark_ms = -1)
FORGED(r11_acknowledged_future, ERR_HISTORY_LOST, "there are only", f->page.acknowledged = 1000)
/* R9: what refers to nothing, or cannot be */
FORGED(r9_lease_of_an_unknown_scope, ERR_PAGE_REFUSED, "scope or home",
       f->lease.scope_ref = ref('S', 9))
FORGED(r9_lease_of_an_unknown_home, ERR_PAGE_REFUSED, "scope or home", f->lease.home = ref('N', 9))
FORGED(r9_lease_without_seats, ERR_PAGE_REFUSED, "count", f->lease.count = 0)
FORGED(r9_lease_of_too_many_seats, ERR_PAGE_REFUSED, "count",
       f->lease.count = (int64_t)ENTITLEMENT_SEATS_MAX + 1)
FORGED(r9_lease_in_no_state, ERR_PAGE_REFUSED, "state", f->lease.state = LEASE_STATES)
FORGED(r9_lease_never_created, ERR_PAGE_REFUSED, "times", f->lease.created_ms = 0)
FORGED(r9_lease_without_duration, ERR_PAGE_REFUSED, "times", f->lease.duration_ms = 0)
FORGED(r9_lease_over_before_it_began, ERR_PAGE_REFUSED, "times", f->lease.expires_ms = NOON - 1)
FORGED(r9_lease_longer_than_any, ERR_PAGE_REFUSED, "later than any",
       f->lease.expires_ms = NOON + (int64_t)LEASE_SECONDS_MAX * 1000 + PAIR_SKEW_MS + 1)
FORGED(r9_lease_active_and_ended, ERR_PAGE_REFUSED, "contradict",
       f->lease.ended_ms = f->lease.ended_expires_ms = NOON)
FORGED(r9_lease_ended_never, ERR_PAGE_REFUSED, "contradict", f->lease.state = LEASE_RELEASED)
FORGED(r9_lease_ended_without_expiry, ERR_PAGE_REFUSED, "contradict",
       f->lease.state = LEASE_RELEASED;
       f->lease.ended_ms = NOON)
FORGED(r9_lease_that_expired_before_it_was_known, ERR_PAGE_REFUSED, "contradict",
       f->lease.state = LEASE_RELEASED;
       f->lease.ended_ms = NOON; f->lease.ended_expires_ms = f->lease.expires_ms + 1)
FORGED(r9_origin_never_created, ERR_PAGE_REFUSED, "times", f->origin.created_ms = 0)
FORGED(r9_origin_never_updated, ERR_PAGE_REFUSED, "times", f->origin.updated_ms = 0)
FORGED(r9_origin_changed_by_nobody, ERR_PAGE_REFUSED, "who changed",
       f->origin.updated_by = ref('N', 9))
FORGED(r9_entitlement_never_installed, ERR_PAGE_REFUSED, "minted", f->minted.installed_ms = 0)
FORGED(r9_entitlement_of_nobody, ERR_PAGE_REFUSED, "minted", f->minted.minter = ref('N', 9))
FORGED(r9_node_without_name, ERR_PAGE_REFUSED, "cannot be",
       f->node.node_ref = (struct uuid){ { 0 } })
FORGED(r9_node_with_leases_longer_than_any, ERR_PAGE_REFUSED, "cannot be",
       f->node.longest_ms = (int64_t)LEASE_SECONDS_MAX * 1000 + 1)
FORGED(r9_node_retired_never, ERR_PAGE_REFUSED, "contradicts itself", f->node.retired_ms = 0)
FORGED(r9_node_waited_for_before_it_retired, ERR_PAGE_REFUSED, "contradicts itself",
       f->node.wait_ms = NOON - 1)
FORGED(r9_node_inherited_by_nobody, ERR_PAGE_REFUSED, "heir", f->node.heir = ref('N', 9))
/* R2 */
FORGED(r2_move_of_nothing, ERR_PAGE_REFUSED, "moves nothing", f->move.moved = 0)
FORGED(r2_move_to_itself, ERR_PAGE_REFUSED, "moves nothing", f->move.receiver = f->move.giver)
FORGED(r2_move_of_an_unknown_scope, ERR_PAGE_REFUSED, "not known", f->move.scope_ref = ref('S', 9))
FORGED(r2_move_from_an_unknown_node, ERR_PAGE_REFUSED, "not known", f->move.giver = ref('N', 9))
FORGED(r2_move_to_an_unknown_node, ERR_PAGE_REFUSED, "not known", f->move.receiver = ref('N', 9))
FORGED(r2_move_of_more_than_its_giver_had, ERR_PAGE_REFUSED, "more was given", f->move.moved = 6)
/* R11: what only the receiver can have decided */
FORGED(r11_own_move_that_is_unknown, ERR_HISTORY_LOST, "given away here",
       f->move.giver = ref('N', 1);
       f->move.receiver = ref('N', 2))
FORGED(r11_own_lease_that_is_unknown, ERR_HISTORY_LOST, "granted here", f->lease.home = ref('N', 1))
FORGED(r11_own_ended_lease_that_is_unknown, ERR_HISTORY_LOST, "granted here",
       f->lease.home = ref('N', 1);
       f->lease.state = LEASE_RELEASED; f->lease.ended_ms = NOON; f->lease.ended_expires_ms = NOON)
FORGED(r11_own_mint_that_is_unknown, ERR_HISTORY_LOST, "minted here",
       f->minted.minter = ref('N', 1))

static void r7_only_its_home_lets_a_lease_expire(void **state)
{
    struct forged f;
    PAIR(a, b);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(4) });
    grant_some(&a, 1, 1);
    forge(&f, &a);
    f.lease = *lease_row_of(&a, 1, 0);
    f.lease.seq = f.page.upto;
    f.lease.state = LEASE_EXPIRED;
    f.lease.ended_ms = f.lease.ended_expires_ms = f.lease.expires_ms;
    assert_err(&a, ERR_PAGE_REFUSED, story_merge(&a, &f.page));
    assert_int_equal(lease_row_of(&a, 1, 0)->state, LEASE_ACTIVE);
    entitlement_unref(f.entitlement);
}

/* R11: granted here again under a reference that was free again: but this node does not know. */
/* What is over may have been purged here. */
static void r11_own_lease_that_is_over_is_nothing_new(void **state)
{
    struct forged f;
    PAIR(a, b);
    (void)state;

    for (int ended = 0; ended < 2; ended++) {
        forge(&f, &a);
        f.lease.home = ref('N', 1);
        f.lease.expires_ms = a.now_ms;
        f.lease.state = ended ? LEASE_RELEASED : LEASE_ACTIVE;
        f.lease.ended_ms = f.lease.ended_expires_ms = ended ? NOON : 0;
        assert_ok(&a, story_merge(&a, &f.page));
        assert_null(lease_row_of(&a, 70, 0));
        entitlement_unref(f.entitlement);
    }
}

static void r11_own_lease_of_a_later_life_is_unknown(void **state)
{
    struct forged f;
    PAIR(a, b);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(4) });
    grant_some(&a, 1, 1);
    forge(&f, &a);
    f.lease = *lease_row_of(&a, 1, 0);
    f.lease.created_ms++;
    f.lease.seq = f.page.upto;
    assert_err(&a, ERR_HISTORY_LOST, story_merge(&a, &f.page));
    entitlement_unref(f.entitlement);
}

/* R10: of two retirements of one node the stricter of each: whoever hears of both, in any order. */
static void r10_two_retirements_of_one_node(void **state)
{
    for (int first = 0; first < 2; first++) {
        struct forged f;
        PAIR(a, b);
        forge(&f, &a);
        for (int i = 0; i < 2; i++) {
            bool one = i == first;
            f.node.heir = ref('N', one ? 1 : 2);
            f.node.retired_ms = one ? NOON - DAY : NOON - 2 * DAY;
            f.node.wait_ms = one ? NOON + DAY : NOON;
            f.node.drained = one;
            assert_ok(&a, story_merge(&a, &f.page));
        }
        const struct node_row *row = node_row_of(&a, 7);
        assert_int_equal(row->heir.bytes[15], 1);
        assert_int_equal(row->retired_ms, NOON - 2 * DAY);
        assert_int_equal(row->wait_ms, NOON + DAY);
        assert_false(row->drained);
        entitlement_unref(f.entitlement);
    }
    (void)state;
}

static void r9_a_lease_is_of_one_thing_for_ever(void **state)
{
    struct forged f;
    PAIR(a, b);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(4) });
    grant_some(&b, 1, 1);
    pair_tell(&b, &a);
    for (int i = 0; i < 3; i++) {
        forge(&f, &a);
        f.lease = *lease_row_of(&a, 1, 2);
        f.lease.seq = f.page.upto;
        f.lease.count += i == 0;
        f.lease.origin_ref = i == 1 ? ref('O', 70) : f.lease.origin_ref;
        f.lease.scope_ref = i == 2 ? ref('S', 7) : f.lease.scope_ref;
        assert_err(&a, ERR_PAGE_REFUSED, story_merge(&a, &f.page));
        entitlement_unref(f.entitlement);
    }
}

static void r2_a_scope_belongs_to_one_entitlement_whoever_says_so(void **state)
{
    struct forged f;
    PAIR(a, b);
    (void)state;

    pair_install(&a, &b, &(struct ent_spec){ SEATS(4) });
    forge(&f, &a);
    f.entitlement->features[0].scope_ref = ref('S', 1);
    f.move.scope_ref = f.lease.scope_ref = ref('S', 1);
    assert_err(&a, ERR_PAGE_REFUSED, story_merge(&a, &f.page));
    entitlement_unref(f.entitlement);
}

/* The partner acknowledged it, so it cannot have an older one of its own. */
static void r2_a_mint_in_use_does_not_give_way(void **state)
{
    struct forged f;
    PAIR(a, b);
    (void)state;

    pair_install(&b, &a, &(struct ent_spec){ SEATS(4) });
    assert_ok(&b, story_grant(&b, ANN, LEASE(1)));
    forge(&f, &a);
    entitlement_unref(f.entitlement);
    f.entitlement = ent_new(&(struct ent_spec){ SEATS(4) });
    f.minted.entitlement = f.entitlement;
    f.minted.minter = ref('N', 1);
    struct ledger_page page = story_peer_page(&b, 1);
    page.since = page.upto = ledger_pair(b.ledger).cursor;
    page.watermark_ms = NOON - 1;
    page.entitlements = &f.minted;
    page.entitlement_count = 1;
    assert_err(&b, ERR_PAGE_REFUSED, story_merge(&b, &page));
    assert_ok(&b, story_renew(&b, ANN, 1, NULL));
    entitlement_unref(f.entitlement);
}

static void limit_nodes_of_one_instance(void **state)
{
    struct node_row nodes[LEDGER_NODES_MAX];
    PAIR(a, b);
    (void)state;

    for (unsigned i = 0; i < LEDGER_NODES_MAX; i++)
        nodes[i] = (struct node_row){ .node_ref = ref('N', 10 + i), .longest_ms = HOUR };
    struct ledger_page page = story_peer_page(&a, 2);
    page.watermark_ms = NOON - 1;
    page.nodes = nodes;
    page.node_count = LEDGER_NODES_MAX - 1;
    assert_err(&a, ERR_PAGE_REFUSED, story_merge(&a, &page));
    assert_int_equal(ledger_counts(a.ledger).nodes, 2);
    page.node_count = LEDGER_NODES_MAX - 2;
    assert_ok(&a, story_merge(&a, &page));
    assert_int_equal(ledger_counts(a.ledger).nodes, LEDGER_NODES_MAX);
    assert_ok(&a, story_merge(&a, &page));
    assert_ok(&a, story_retire(&a, 2));
    assert_err(&a, ERR_PEER_UNKNOWN, story_peer_met(&a, 99));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(r8_page_that_stops_short_states_nothing),
        cmocka_unit_test(r8_complete_page_states_what_is_behind_it),
        cmocka_unit_test(r8_seen_is_the_own_cursor),
        cmocka_unit_test(r8_rows_do_not_go_back_to_where_they_came_from),
        cmocka_unit_test(r8_mixed_records_are_told_back),
        cmocka_unit_test(r8_waiting_pages_have_something_to_tell),
        cmocka_unit_test(r8_page_after_the_cursor_is_refused),
        cmocka_unit_test(r8_late_and_repeated_pages_change_nothing),
        cmocka_unit_test(r8_late_page_revives_nothing),
        cmocka_unit_test(r8_refill_row_by_row),
        cmocka_unit_test(r3_private_lease_is_shared_by_the_page_that_tells_of_it),
        cmocka_unit_test(r3_ended_private_lease_is_told_as_it_was),
        cmocka_unit_test(r3_shared_from_the_start_while_the_partner_listens),
        cmocka_unit_test(r8_pages_are_for_the_partner_alone),
        cmocka_unit_test(r8_good_page_of_every_kind_is_believed),
        cmocka_unit_test(refuses_r8_page_of_a_stranger),
        cmocka_unit_test(refuses_r8_page_of_itself),
        cmocka_unit_test(refuses_r8_page_for_another),
        cmocka_unit_test(refuses_r8_page_with_a_gap),
        cmocka_unit_test(refuses_r8_page_that_ends_before_it_starts),
        cmocka_unit_test(refuses_r8_watermark_of_now),
        cmocka_unit_test(refuses_r8_watermark_of_no_time),
        cmocka_unit_test(refuses_r11_acknowledged_future),
        cmocka_unit_test(refuses_r9_lease_of_an_unknown_scope),
        cmocka_unit_test(refuses_r9_lease_of_an_unknown_home),
        cmocka_unit_test(refuses_r9_lease_without_seats),
        cmocka_unit_test(refuses_r9_lease_of_too_many_seats),
        cmocka_unit_test(refuses_r9_lease_in_no_state),
        cmocka_unit_test(refuses_r9_lease_never_created),
        cmocka_unit_test(refuses_r9_lease_without_duration),
        cmocka_unit_test(refuses_r9_lease_over_before_it_began),
        cmocka_unit_test(refuses_r9_lease_longer_than_any),
        cmocka_unit_test(refuses_r9_lease_active_and_ended),
        cmocka_unit_test(refuses_r9_lease_ended_never),
        cmocka_unit_test(refuses_r9_lease_ended_without_expiry),
        cmocka_unit_test(refuses_r9_lease_that_expired_before_it_was_known),
        cmocka_unit_test(refuses_r9_origin_never_created),
        cmocka_unit_test(refuses_r9_origin_never_updated),
        cmocka_unit_test(refuses_r9_origin_changed_by_nobody),
        cmocka_unit_test(refuses_r9_entitlement_never_installed),
        cmocka_unit_test(refuses_r9_entitlement_of_nobody),
        cmocka_unit_test(refuses_r9_node_without_name),
        cmocka_unit_test(refuses_r9_node_with_leases_longer_than_any),
        cmocka_unit_test(refuses_r9_node_retired_never),
        cmocka_unit_test(refuses_r9_node_waited_for_before_it_retired),
        cmocka_unit_test(refuses_r9_node_inherited_by_nobody),
        cmocka_unit_test(refuses_r2_move_of_nothing),
        cmocka_unit_test(refuses_r2_move_to_itself),
        cmocka_unit_test(refuses_r2_move_of_an_unknown_scope),
        cmocka_unit_test(refuses_r2_move_from_an_unknown_node),
        cmocka_unit_test(refuses_r2_move_to_an_unknown_node),
        cmocka_unit_test(refuses_r2_move_of_more_than_its_giver_had),
        cmocka_unit_test(refuses_r11_own_move_that_is_unknown),
        cmocka_unit_test(refuses_r11_own_lease_that_is_unknown),
        cmocka_unit_test(refuses_r11_own_ended_lease_that_is_unknown),
        cmocka_unit_test(refuses_r11_own_mint_that_is_unknown),
        cmocka_unit_test(r7_only_its_home_lets_a_lease_expire),
        cmocka_unit_test(r11_own_lease_that_is_over_is_nothing_new),
        cmocka_unit_test(r11_own_lease_of_a_later_life_is_unknown),
        cmocka_unit_test(r10_two_retirements_of_one_node),
        cmocka_unit_test(r9_a_lease_is_of_one_thing_for_ever),
        cmocka_unit_test(r2_a_scope_belongs_to_one_entitlement_whoever_says_so),
        cmocka_unit_test(r2_a_mint_in_use_does_not_give_way),
        cmocka_unit_test(limit_nodes_of_one_instance),
    };

    return cmocka_run_group_tests_name("ledger_page", tests, NULL, NULL);
}
