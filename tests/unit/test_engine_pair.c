/* The single writer as one of two: commands that are kept waiting, a history that is lost, a first
 * word of the peer. Two engines with a database each; the test carries pages between them, so it
 * decides who hears what, and when. Run under tests/lib/with-postgres. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "database.h"
#include "engine/engine.h"

#define AWAIT_US     20000000
#define LONG_WAIT_MS 60000 /* longer than any test: who waits that long waits for ever */
#define SEATS        10

static const struct uuid instance = { "instance-ref-001" };
static const struct uuid scope = { "scope" };

/* ---- one node ----------------------------------------------------------------------------------
 */

struct node {
    struct database db;
    struct engine *engine;
    char state_file[128];
    int64_t contact_wait_ms, credits_wait_ms;
    atomic_int wishes;
    atomic_int_least64_t wished; /* the last one's count */
};

static void note_wish(void *context, const struct uuid *scope_ref, int64_t count)
{
    struct node *node = context;

    must(uuid_equal(scope_ref, &scope) && count > 0);
    atomic_store(&node->wished, count);
    atomic_fetch_add(&node->wishes, 1);
}

static enum err open_fake(void *context, const char *text, struct entitlement **out, bool *trusted,
                          struct diag *diag)
{
    (void)context;
    return fake_entitlement_open(NULL, text, out, trusted, diag);
}

static void node_start(struct node *node)
{
    struct engine_conf conf = {
        .database = node->db.conninfo,
        .instance_ref = instance,
        .peer_expected = true,
        .lease_max_ms = 3600000,
        .ended_keep_ms = 3600000,
        .clock_skew_max_ms = 300000,
        .queue_max = 64,
        .batch_max = 32,
        .entitlement_open = open_fake,
        .credits_wanted = note_wish,
        .credits_wait_ms = node->credits_wait_ms,
        .state_file = node->state_file,
        .contact_wait_ms = node->contact_wait_ms,
        .context = node,
    };
    struct diag diag = { "" };

    if (engine_start(&conf, &node->engine, &diag) != ERR_OK)
        fail_msg("%s", diag.text);
}

static void node_init(struct node *node)
{
    *node = (struct node){ .credits_wait_ms = LONG_WAIT_MS };
    database_new(&node->db);
    snprintf(node->state_file, sizeof node->state_file, "/tmp/test_engine_pair.%d.%s", getpid(),
             node->db.name);
    node_start(node);
}

static void node_stop(struct node *node)
{
    node->engine = engine_stop(node->engine);
}

static void node_fini(struct node *node)
{
    node_stop(node);
    AUTO(mem_free) char *broken = database_broken_rules(&node->db);
    assert_string_equal(broken, "");
    database_drop(&node->db);
    unlink(node->state_file);
}

static struct engine_status status_of(const struct node *node)
{
    struct engine_status status;

    engine_status(node->engine, &status);
    return status;
}

static bool is_parked(const struct engine_status *status)
{
    return status->parked == 1;
}

static bool is_ready(const struct engine_status *status)
{
    return status->state == ENGINE_READY;
}

static bool is_renamed(const struct engine_status *status)
{
    return status->state == ENGINE_READY && status->renames == 1;
}

static void await_status(const struct node *node, bool (*is_so)(const struct engine_status *))
{
    int64_t deadline_us = stopwatch_us() + AWAIT_US;

    for (struct engine_status s = status_of(node); !is_so(&s); s = status_of(node)) {
        if (stopwatch_us() > deadline_us)
            fail_msg("still %s, %u parked: %s", engine_state_name(s.state), s.parked, s.diag.text);
        usleep(1000);
    }
}

/* ---- one command -------------------------------------------------------------------------------
 */

struct call {
    struct command command; /* first: done() gets it */
    struct grant_item item;
    pthread_mutex_t mutex;
    pthread_cond_t answered;
    int answers;
};

static void on_done(struct command *command)
{
    struct call *call = (struct call *)command;

    pthread_mutex_lock(&call->mutex);
    call->answers++;
    pthread_cond_signal(&call->answered);
    pthread_mutex_unlock(&call->mutex);
}

static void call_init(struct call *call, enum ledger_event_kind kind)
{
    *call = (struct call){ .command = { .event = { .kind = kind }, .done = on_done } };
    must(pthread_mutex_init(&call->mutex, NULL) == 0);
    must(pthread_cond_init(&call->answered, NULL) == 0);
}

static void call_fini(struct call *call)
{
    must(call->answers == 1);
    ledger_result_fini(&call->command.result);
    pthread_cond_destroy(&call->answered);
    pthread_mutex_destroy(&call->mutex);
}

static void submit(const struct node *node, struct call *call)
{
    assert_int_equal(engine_submit(node->engine, &call->command), ERR_OK);
}

static bool is_answered(struct call *call)
{
    pthread_mutex_lock(&call->mutex);
    bool answered = call->answers > 0;
    pthread_mutex_unlock(&call->mutex);
    return answered;
}

static enum err await(struct call *call)
{
    pthread_mutex_lock(&call->mutex);
    while (!call->answers)
        pthread_cond_wait(&call->answered, &call->mutex);
    pthread_mutex_unlock(&call->mutex);
    return call->command.result.err;
}

static enum err make(const struct node *node, struct call *call)
{
    submit(node, call);
    return await(call);
}

static enum err make_plain(const struct node *node, enum ledger_event_kind kind)
{
    struct call call;

    call_init(&call, kind);
    enum err err = make(node, &call);
    call_fini(&call);
    return err;
}

static void grant_init(struct call *call, int64_t count)
{
    call_init(call, LEDGER_GRANT);
    call->item = (struct grant_item){ .scope_ref = scope, .count = count };
    call->item.lease_ref = uuid_random();
    call->command.event.grant.origin.origin_ref = uuid_random();
    call->command.event.grant.items = &call->item;
    call->command.event.grant.item_count = 1;
}

static enum err grant(const struct node *node, int64_t count)
{
    struct call call;

    grant_init(&call, count);
    enum err err = make(node, &call);
    call_fini(&call);
    return err;
}

/* ---- two nodes ---------------------------------------------------------------------------------
 */

static enum err meet(const struct node *node, const struct node_introduction *of)
{
    struct call call;

    call_init(&call, LEDGER_MEET);
    call.command.event.meet.of = *of;
    enum err err = make(node, &call);
    call_fini(&call);
    return err;
}

static struct node_introduction introduction_of(const struct node *node)
{
    struct call call;

    call_init(&call, LEDGER_INTRODUCE);
    assert_int_equal(make(node, &call), ERR_OK);
    struct node_introduction of = call.command.result.introduction;
    call_fini(&call);
    return of;
}

static void introduce(const struct node *one, const struct node *other)
{
    struct node_introduction of = introduction_of(one);

    assert_int_equal(meet(other, &of), ERR_OK);
    of = introduction_of(other);
    assert_int_equal(meet(one, &of), ERR_OK);
}

static void page_init(struct call *call, const struct node *receiver, int64_t wait_ms)
{
    struct engine_status status = status_of(receiver);

    call_init(call, LEDGER_PAGE);
    call->command.event.page.receiver = status.node_ref;
    call->command.event.page.since = status.pair.cursor;
    call->command.event.page.limit = PAGE_ROWS_MAX;
    call->command.wait_ms = wait_ms;
}

/* Merges the page at `to`. True if the old records had to go first (R11). */
static bool merge(const struct node *to, struct call *page)
{
    struct call call;

    assert_int_equal(page->command.result.err, ERR_OK);
    call_init(&call, LEDGER_MERGE);
    call.command.event.merge.page = page->command.result.page;
    assert_int_equal(make(to, &call), ERR_OK);
    bool wiped = call.command.result.wipe;
    call_fini(&call);
    return wiped;
}

static bool tell(const struct node *from, const struct node *to)
{
    struct call page;

    page_init(&page, to, 0);
    assert_int_equal(make(from, &page), ERR_OK);
    bool wiped = merge(to, &page);
    call_fini(&page);
    return wiped;
}

static void exchange(const struct node *one, const struct node *other)
{
    for (int i = 0; i < 4; i++) {
        tell(one, other);
        tell(other, one);
    }
}

static void install(const struct node *node)
{
    struct uuid ref = { "entitlement" };
    int64_t seats = SEATS;
    AUTO(entitlement_unref)
    struct entitlement *e = fake_entitlement(&ref, 1, 1, &scope, &seats);
    struct call call;

    call_init(&call, LEDGER_INSTALL);
    call.command.event.install.entitlement = e;
    assert_int_equal(make(node, &call), ERR_OK);
    call_fini(&call);
}

/* Two nodes that know everything of each other; each has half of the seats. */
static void pair_init(struct node *one, struct node *other)
{
    node_init(one);
    node_init(other);
    introduce(one, other);
    exchange(one, other);
    install(one);
    exchange(one, other);
}

static void pair_fini(struct node *one, struct node *other)
{
    node_fini(one);
    node_fini(other);
}

/* ---- pages that wait (R8) ----------------------------------------------------------------------
 */

static void r8_a_page_waits_for_news_and_carries_its_batch(void **state)
{
    struct node one, other;
    struct call page;

    (void)state;
    pair_init(&one, &other);
    page_init(&page, &other, LONG_WAIT_MS);
    submit(&one, &page);
    await_status(&one, is_parked);
    assert_false(is_answered(&page));
    assert_int_equal(grant(&one, 1), ERR_OK);
    assert_int_equal(await(&page), ERR_OK);
    assert_int_equal(page.command.result.page->lease_count, 1);
    assert_true(page.command.result.page->complete);
    assert_true(page.command.receipt.seq >= page.command.result.page->leases[0].seq); /* R13 */
    assert_int_equal(status_of(&one).parked, 0);
    merge(&other, &page);
    call_fini(&page);
    pair_fini(&one, &other);
}

static void r8_a_page_without_news_comes_at_its_deadline(void **state)
{
    struct node one, other;
    struct call page;

    (void)state;
    pair_init(&one, &other);
    page_init(&page, &other, 300);
    int64_t began_us = stopwatch_us();
    assert_int_equal(make(&one, &page), ERR_OK);
    assert_true(stopwatch_us() - began_us >= 300000);
    assert_int_equal(page.command.result.page->lease_count, 0);
    assert_true(page.command.result.page->complete); /* W has moved on all the same */
    call_fini(&page);
    pair_fini(&one, &other);
}

static void a_newer_request_takes_the_place_of_an_older_one(void **state)
{
    struct node one, other;
    struct call older, newer;

    (void)state;
    pair_init(&one, &other);
    page_init(&older, &other, LONG_WAIT_MS);
    page_init(&newer, &other, LONG_WAIT_MS);
    submit(&one, &older);
    await_status(&one, is_parked);
    submit(&one, &newer);
    assert_int_equal(await(&older), ERR_NOT_READY);
    assert_false(is_answered(&newer));
    engine_stop_waiting(one.engine);
    assert_int_equal(await(&newer), ERR_OK);
    call_fini(&older);
    call_fini(&newer);
    pair_fini(&one, &other);
}

static void stop_answers_whoever_waits(void **state)
{
    struct node one, other;
    struct call page;

    (void)state;
    pair_init(&one, &other);
    page_init(&page, &other, LONG_WAIT_MS);
    submit(&one, &page);
    await_status(&one, is_parked);
    node_stop(&one);
    assert_int_equal(await(&page), ERR_NOT_READY);
    call_fini(&page);
    pair_fini(&one, &other);
}

static void a_lost_store_answers_whoever_waits(void **state)
{
    struct node one, other;
    struct call page;

    (void)state;
    pair_init(&one, &other);
    page_init(&page, &other, LONG_WAIT_MS);
    submit(&one, &page);
    await_status(&one, is_parked);
    cluster_exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '%s' AND "
                 "pid <> pg_backend_pid()",
                 one.db.name);
    assert_int_equal(err_info(await(&page))->http, 503);
    await_status(&one, is_ready);
    call_fini(&page);
    pair_fini(&one, &other);
}

/* ---- grants that wait for credits (R12) --------------------------------------------------------
 */

static void give(const struct node *giver, const struct node *receiver, int64_t count)
{
    struct call call;

    call_init(&call, LEDGER_GIVE);
    call.command.event.give.scope_ref = scope;
    call.command.event.give.receiver = status_of(receiver).node_ref;
    call.command.event.give.wanted = count;
    assert_int_equal(make(giver, &call), ERR_OK);
    assert_true(call.command.result.given >= count);
    call_fini(&call);
}

static void r12_a_grant_waits_for_the_partners_credits(void **state)
{
    struct node one, other;
    struct call call;

    (void)state;
    pair_init(&one, &other);
    grant_init(&call, SEATS);
    submit(&one, &call);
    await_status(&one, is_parked);
    assert_int_equal(atomic_load(&one.wished), SEATS / 2); /* what it lacks, not what it asks for */
    give(&other, &one, atomic_load(&one.wished));
    assert_false(is_answered(&call));
    tell(&other, &one);
    assert_int_equal(await(&call), ERR_OK);
    assert_int_equal(call.command.result.leases[0].row.count, SEATS);
    call_fini(&call);
    exchange(&one, &other);
    assert_int_equal(grant(&other, 1), ERR_NO_FREE_SEAT);
    pair_fini(&one, &other);
}

static void r12_what_several_lack_is_asked_for_at_once(void **state)
{
    struct node one, other;
    struct call calls[3];

    (void)state;
    pair_init(&one, &other);
    assert_int_equal(grant(&one, SEATS / 2), ERR_OK);
    tell(&one, &other);
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
        grant_init(&calls[i], 1);
        submit(&one, &calls[i]);
    }
    int64_t deadline_us = stopwatch_us() + AWAIT_US;
    while (atomic_load(&one.wished) < 3 && stopwatch_us() < deadline_us)
        usleep(1000);
    assert_int_equal(atomic_load(&one.wished), 3);
    give(&other, &one, 3);
    tell(&other, &one);
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
        assert_int_equal(await(&calls[i]), ERR_OK);
        call_fini(&calls[i]);
    }
    pair_fini(&one, &other);
}

static void r12_a_grant_is_denied_when_nothing_comes(void **state)
{
    struct node one, other;
    struct call call;

    (void)state;
    pair_init(&one, &other);
    node_stop(&one);
    one.credits_wait_ms = 300;
    node_start(&one);
    introduce(&one, &other);
    exchange(&one, &other);
    grant_init(&call, SEATS);
    int64_t began_us = stopwatch_us();
    assert_int_equal(make(&one, &call), ERR_SEATS_AT_PEER);
    assert_true(stopwatch_us() - began_us >= 300000);
    assert_int_equal(call.command.result.scope_count, 1);
    assert_int_equal(call.command.result.scopes[0].at_peer, SEATS / 2);
    call_fini(&call);
    pair_fini(&one, &other);
}

/* ---- a first word of the peer (R11) ------------------------------------------------------------
 */

static void r11_nothing_is_decided_before_the_peer_was_met(void **state)
{
    struct node one, other;

    (void)state;
    pair_init(&one, &other);
    node_stop(&one);
    one.contact_wait_ms = LONG_WAIT_MS;
    node_start(&one);
    assert_true(status_of(&one).awaiting_peer);
    assert_int_equal(grant(&one, 1), ERR_NOT_READY);
    assert_int_equal(make_plain(&one, LEDGER_RETIRE), ERR_NOT_READY);
    assert_int_equal(make_plain(&one, LEDGER_SCOPES), ERR_OK);
    introduce(&one, &other);
    engine_met(one.engine);
    assert_int_equal(grant(&one, 1), ERR_OK);
    assert_false(status_of(&one).awaiting_peer);
    pair_fini(&one, &other);
}

static bool awaits_nobody(const struct engine_status *status)
{
    return !status->awaiting_peer;
}

static void r11_the_wait_for_the_peer_has_an_end(void **state)
{
    struct node one, other;

    (void)state;
    pair_init(&one, &other);
    node_stop(&one);
    one.contact_wait_ms = 300;
    node_start(&one);
    await_status(&one, awaits_nobody);
    assert_int_equal(grant(&one, 1), ERR_OK);
    pair_fini(&one, &other);
}

/* ---- a history that is lost (R11) --------------------------------------------------------------
 */

/* The node's database becomes what it was when `old` was copied. */
static void roll_back(struct node *node, struct database *old)
{
    node_stop(node);
    database_drop(&node->db);
    node->db = *old;
    node_start(node);
}

static void copy_database(struct node *node, struct database *out)
{
    node_stop(node);
    database_copy(&node->db, out);
    node_start(node);
}

static void check_given_up(const struct node *node, const struct uuid *former)
{
    struct engine_status status = status_of(node);

    assert_int_equal(status.renames, 1);
    assert_false(uuid_equal(&status.node_ref, former));
    assert_int_equal(status.pair.self, SELF_UNFILLED);
    struct node_introduction of = introduction_of(node);
    assert_true(uuid_equal(&of.former[0], former));
    assert_int_equal(grant(node, 1), ERR_NODE_UNFILLED);
}

static void r11_the_state_file_knows_of_a_rollback(void **state)
{
    struct node one, other;
    struct database old;

    (void)state;
    pair_init(&one, &other);
    struct uuid former = status_of(&one).node_ref;
    copy_database(&one, &old);
    introduce(&one, &other);
    exchange(&one, &other);
    assert_int_equal(grant(&one, 1), ERR_OK);
    roll_back(&one, &old);
    check_given_up(&one, &former);
    pair_fini(&one, &other);
}

static void r11_a_restart_alone_loses_nothing(void **state)
{
    struct node one, other;

    (void)state;
    pair_init(&one, &other);
    struct uuid ref = status_of(&one).node_ref;
    for (int i = 0; i < 3; i++) {
        node_stop(&one);
        node_start(&one);
        assert_int_equal(grant(&one, 1), ERR_OK);
    }
    assert_int_equal(status_of(&one).renames, 0);
    struct uuid now = status_of(&one).node_ref;
    assert_true(uuid_equal(&now, &ref));
    pair_fini(&one, &other);
}

/* Without a state file it is the peer who knows. Nothing of that batch is told, and the node is
 * refilled from nothing, under its new name. */
static void r11_the_peer_knows_of_a_rollback_and_refills(void **state)
{
    struct node one, other;
    struct database old;
    struct call page;

    (void)state;
    pair_init(&one, &other);
    struct uuid former = status_of(&one).node_ref;
    copy_database(&one, &old);
    introduce(&one, &other);
    exchange(&one, &other);
    assert_int_equal(grant(&one, 1), ERR_OK);
    exchange(&one, &other);
    assert_int_equal(unlink(one.state_file), 0);
    roll_back(&one, &old);

    page_init(&page, &other, LONG_WAIT_MS);
    page.command.event.page.since = status_of(&one).seq; /* of the past: waits */
    submit(&one, &page);
    struct node_introduction of = introduction_of(&other);
    assert_true(of.cursor > status_of(&one).seq);
    assert_int_equal(meet(&one, &of), ERR_HISTORY_LOST);
    assert_int_equal(err_info(await(&page))->http, 503);
    call_fini(&page);
    await_status(&one, is_renamed);
    check_given_up(&one, &former);

    introduce(&one, &other);
    assert_true(tell(&other, &one)); /* the old records go first */
    assert_int_equal(status_of(&one).counts.leases, 0);
    assert_int_equal(status_of(&one).pair.cursor, 0);
    assert_false(tell(&other, &one));
    exchange(&one, &other);
    assert_int_equal(status_of(&one).pair.self, SELF_SERVING);
    assert_int_equal(status_of(&one).counts.leases, 1); /* I2: the lease of its former self */
    pair_fini(&one, &other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(r8_a_page_waits_for_news_and_carries_its_batch),
        cmocka_unit_test(r8_a_page_without_news_comes_at_its_deadline),
        cmocka_unit_test(a_newer_request_takes_the_place_of_an_older_one),
        cmocka_unit_test(stop_answers_whoever_waits),
        cmocka_unit_test(a_lost_store_answers_whoever_waits),
        cmocka_unit_test(r12_a_grant_waits_for_the_partners_credits),
        cmocka_unit_test(r12_what_several_lack_is_asked_for_at_once),
        cmocka_unit_test(r12_a_grant_is_denied_when_nothing_comes),
        cmocka_unit_test(r11_nothing_is_decided_before_the_peer_was_met),
        cmocka_unit_test(r11_the_wait_for_the_peer_has_an_end),
        cmocka_unit_test(r11_the_state_file_knows_of_a_rollback),
        cmocka_unit_test(r11_a_restart_alone_loses_nothing),
        cmocka_unit_test(r11_the_peer_knows_of_a_rollback_and_refills),
    };

    return cmocka_run_group_tests_name("engine_pair", tests, NULL, NULL);
}
