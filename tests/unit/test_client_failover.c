/* libtwinlease and nodes that come and go: who is asked, for how long, and how often. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "client_world.h"
#include "walk.h"

/* What a call may take in all while one of two nodes accepts and says nothing. */
#define FROZEN_MAX_MS 2500
/* No wait for anything is that short; no slow machine takes that long. */
#define AT_ONCE_MS 900

/* ---- the policy ------------------------------------------------------------------------------ */

static void order_begins_with_who_answered(void **state)
{
    static const bool none[4] = { false }, two[4] = { false, true, true, false };
    static const bool all[4] = { true, true, true, true };
    size_t order[4];

    (void)state;
    walk_order(4, 2, none, order);
    assert_memory_equal(order, ((size_t[]){ 2, 3, 0, 1 }), sizeof order);
    walk_order(4, 2, two, order);
    assert_memory_equal(order, ((size_t[]){ 3, 0, 2, 1 }), sizeof order);
    walk_order(4, 3, all, order);
    assert_memory_equal(order, ((size_t[]){ 3, 0, 1, 2 }), sizeof order);
    walk_order(1, 0, all, order);
    assert_int_equal(order[0], 0);
}

static void budget_depends_on_the_others(void **state)
{
    static const struct {
        struct walk_step step;
        int64_t budget_ms;
    } cases[] = {
        { { .attempt_ms = 2000, .left_ms = 10000 }, 2000 },
        { { .attempt_ms = 2000, .left_ms = 700 }, 350 },
        { { .attempt_ms = 2000, .left_ms = 3999 }, 2000 },
        { { .attempt_ms = 2000, .left_ms = 1 }, 1 },
        { { .attempt_ms = 2000, .left_ms = 700, .last = true }, 700 },
        { { .attempt_ms = 2000, .left_ms = 10000, .last = true }, 10000 },
        { { .attempt_ms = 2000, .left_ms = 10000, .last = true, .answered = true }, 2000 },
        { { .attempt_ms = 2000, .left_ms = 10000, .silent = true }, 2000 },
        { { .attempt_ms = 2000, .left_ms = 10000, .silent = true, .last = true }, 2000 },
        { { .attempt_ms = 2000, .left_ms = 10000, .silent = true, .answered = true }, 500 },
        { { .attempt_ms = 100, .left_ms = 10000, .silent = true, .answered = true }, 100 },
        { { .attempt_ms = 2000, .left_ms = 1, .silent = true, .answered = true }, 1 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(walk_budget_ms(&cases[i].step), cases[i].budget_ms);
}

static void rounds_come_slower_and_slower(void **state)
{
    (void)state;
    assert_in_range(walk_pause_ms(0, UINT32_MAX), 38, 62);
    assert_in_range(walk_pause_ms(1, 12345), 75, 125);
    assert_in_range(walk_pause_ms(100, 99), 750, 1250);
}

/* ---- round after round ----------------------------------------------------------------------- */

static struct twinlease *open_retrying(struct world *w, unsigned retry_ms)
{
    struct twinlease_options options = options_of(w);

    options.retry_ms = retry_ms;
    return open_with(&options);
}

static int asked(const struct fake_licences *node)
{
    return 1000 - node->times;
}

static void nodes_that_cannot_serve_now_are_asked_again(void **state)
{
    static const char *const problems[] = {
        "not_ready",    "store_away",     "outcome_unknown", "overloaded",   "deadline",
        "primary_away", "ask_other_node", "node_unfilled",   "node_drained", "history_lost",
    };
    struct world *w = *state;

    start_nodes(w, 2);
    struct twinlease *handle = open_retrying(w, PATIENT_MS);
    for (size_t i = 0; i < sizeof problems / sizeof problems[0]; i++) {
        fake_licences_refuse(&w->licences[0], "/v1", 2, 503, problems[i]);
        fake_licences_refuse(&w->licences[1], "/v1", 2, 503, problems[i]);
        struct twinlease_lease *lease = acquire(handle);
        assert_int_equal(error.code, TWINLEASE_OK);
        assert_int_equal(twinlease_release(handle, lease, &error), TWINLEASE_OK);
        twinlease_lease_free(lease);
    }
    assert_int_equal(w->licences[0].grants + w->licences[1].grants, 10);
    twinlease_close(handle);
}

static void answers_that_will_not_change_are_taken_as_such(void **state)
{
    static const struct {
        int status;
        const char *problem;
        enum twinlease_code code;
    } cases[] = {
        { 409, "no_free_seat", TWINLEASE_NO_SEAT },  { 409, "seats_at_peer", TWINLEASE_NO_SEAT },
        { 503, "node_retired", TWINLEASE_NO_NODE },  { 500, "internal", TWINLEASE_NO_NODE },
        { 404, "scope_unknown", TWINLEASE_REFUSED }, { 403, "forbidden", TWINLEASE_NOT_AUTHORISED },
    };
    struct world *w = *state;

    start_nodes(w, 2);
    struct twinlease *handle = open_retrying(w, PATIENT_MS);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t k = 0; k < 2; k++)
            fake_licences_refuse(&w->licences[k], "/v1/leases", 1000, cases[i].status,
                                 cases[i].problem);
        assert_acquire_fails(handle, cases[i].code);
        assert_in_range(asked(&w->licences[0]), 0, 1);
        assert_in_range(asked(&w->licences[1]), 0, 1);
    }
    twinlease_close(handle);
}

/* A denial by the one node is one, also while the other is out of reach. */
static void denial_does_not_wait_for_the_dead(void **state)
{
    struct world *w = *state;
    char refusing[64];

    start_nodes(w, 1);
    fake_refusing_url(refusing, sizeof refusing);
    const char *urls[] = { refusing, fake_node_url(w->nodes[0]) };
    write_tok(w, urls, 2, fake_identity_pem(w->identity), wall_now().ms + DAY_MS);
    struct twinlease *handle = open_retrying(w, PATIENT_MS);
    fake_licences_refuse(&w->licences[0], "/v1/leases", 1000, 409, "seats_at_peer");
    assert_acquire_fails(handle, TWINLEASE_NO_SEAT);
    assert_int_equal(asked(&w->licences[0]), 1);
    twinlease_close(handle);
}

static void rounds_end(void **state)
{
    struct world *w = *state;
    char refusing[64];
    const char *url = refusing;

    fake_refusing_url(refusing, sizeof refusing);
    write_tok(w, &url, 1, fake_identity_pem(w->identity), wall_now().ms + DAY_MS);
    struct twinlease *handle = open_retrying(w, 500);
    struct boot begin = boot_now();
    assert_acquire_fails(handle, TWINLEASE_NO_NODE);
    /* Pauses of about 50, 100 and 200; the next would be over. */
    assert_in_range(boot_now().ms - begin.ms, 260, 500 + AT_ONCE_MS);
    twinlease_close(handle);
}

static void retry_after_is_respected(void **state)
{
    struct world *w = *state;
    struct fake_licences *busy = &w->licences[0], *idle = &w->licences[1];

    start_nodes(w, 2);
    struct twinlease *handle = open_retrying(w, 900);
    twinlease_lease_free(acquire(handle));
    fake_licences_refuse(busy, "/v1", 1000, 503, "overloaded");
    fake_licences_refuse(idle, "/v1", 1000, 503, "not_ready");
    busy->retry_after = 1;
    struct twinlease_lease *lease = NULL;
    struct twinlease_acquire_options another = TWINLEASE_ACQUIRE_OPTIONS_INIT;
    another.flags = TWINLEASE_ACQUIRE_ANOTHER;
    assert_int_equal(twinlease_acquire(handle, "render", &another, &lease, &error),
                     TWINLEASE_NO_NODE);
    assert_int_equal(asked(busy), 1);
    assert_in_range(asked(idle), 3, 5); /* after about 50, 150, 350 and 750 ms */
    twinlease_close(handle);
}

/* While one node has asked to be left alone, "unknown" by the other is no verdict. */
static void unknown_is_no_verdict_while_another_is_left_alone(void **state)
{
    struct world *w = *state;

    start_nodes(w, 2);
    struct twinlease *handle = open_retrying(w, 400);
    struct twinlease_lease *lease = acquire(handle);
    fake_licences_refuse(&w->licences[0], "/v1", 1000, 503, "not_ready");
    w->licences[0].retry_after = 1;
    fake_licences_refuse(&w->licences[1], "/v1", 1000, 404, "lease_unknown");
    assert_int_equal(twinlease_renew(handle, lease, &error), TWINLEASE_NO_NODE);
    assert_true(asked(&w->licences[1]) > 1);
    assert_true(twinlease_lease_expires_in_ms(lease) > 0);
    twinlease_lease_free(lease);
    twinlease_close(handle);
}

static void half_a_proof_is_begun_again(void **state)
{
    struct world *w = *state;

    start_nodes(w, 2);
    struct twinlease *handle = open_retrying(w, 1);
    fake_licences_refuse(&w->licences[0], "/v1/auth/token", 1, 0, NULL);
    w->licences[0].trick = FAKE_CLOSE; /* it dies with the code in its memory */
    twinlease_lease_free(acquire(handle));
    assert_int_equal(w->licences[0].codes, 1);
    assert_int_equal(w->licences[1].codes, 1);
    assert_string_equal(w->licences[1].last_bearer, "auth_token-1");
    twinlease_close(handle);
}

/* The answer to an enrolment was lost and libcurl sent it again: the reference is taken. */
static void enrolment_asked_twice_is_begun_again(void **state)
{
    struct world *w = *state;

    start_nodes(w, 1);
    struct twinlease *handle = open_retrying(w, PATIENT_MS);
    fake_licences_refuse(&w->licences[0], "/v1/origins", 1, 409, "origin_exists");
    twinlease_lease_free(acquire(handle));
    assert_int_equal(w->licences[0].enrols, 1);
    twinlease_close(handle);
}

/* ---- nodes that freeze ----------------------------------------------------------------------- */

/* The first node's kernel accepts and nobody ever speaks; times are those that users have. */
static struct twinlease *open_half_frozen(struct world *w, int *mute_fd)
{
    struct twinlease_options options = options_of(w);
    char mute[64];

    start_nodes(w, 1);
    *mute_fd = fake_mute_url(mute, sizeof mute);
    const char *urls[] = { mute, fake_node_url(w->nodes[0]) };
    write_tok(w, urls, 2, fake_identity_pem(w->identity), wall_now().ms + DAY_MS);
    options.connect_ms = options.attempt_ms = options.deadline_ms = options.retry_ms = 0;
    return open_with(&options);
}

static void frozen_node_delays_the_first_call_only(void **state)
{
    struct world *w = *state;
    int mute_fd;
    struct twinlease *handle = open_half_frozen(w, &mute_fd);
    struct boot begin = boot_now();
    struct twinlease_lease *lease = acquire(handle); /* enrols, proves, asks */

    assert_true(boot_now().ms - begin.ms < FROZEN_MAX_MS);
    begin = boot_now();
    assert_int_equal(twinlease_renew(handle, lease, &error), TWINLEASE_OK);
    assert_true(boot_now().ms - begin.ms < AT_ONCE_MS);
    /* What the other one says is not the last word, but the frozen one is given a glance only. */
    fake_licences_refuse(&w->licences[0], "/v1/leases", 1000, 409, "seats_at_peer");
    struct twinlease_acquire_options another = TWINLEASE_ACQUIRE_OPTIONS_INIT;
    struct twinlease_lease *second = NULL;
    another.flags = TWINLEASE_ACQUIRE_ANOTHER;
    begin = boot_now();
    assert_int_equal(twinlease_acquire(handle, "render", &another, &second, &error),
                     TWINLEASE_NO_SEAT);
    assert_in_range(boot_now().ms - begin.ms, WALK_GLANCE_MS - 50, 990); /* connect_ms is 1000 */
    twinlease_lease_free(lease);
    twinlease_close(handle);
    close(mute_fd);
}

static void node_that_freezes_delays_one_call(void **state)
{
    struct world *w = *state;
    struct twinlease_options options = options_of(w);

    start_nodes(w, 2);
    w->licences[0].keep_alive = w->licences[1].keep_alive = true;
    options.connect_ms = options.attempt_ms = options.deadline_ms = options.retry_ms = 0;
    struct twinlease *handle = open_with(&options);
    struct twinlease_lease *lease = acquire(handle);
    fake_licences_refuse(&w->licences[0], "/v1", 1000, 0, NULL);
    w->licences[0].trick = FAKE_SILENCE; /* on the connection that is kept */
    struct boot begin = boot_now();
    assert_int_equal(twinlease_renew(handle, lease, &error), TWINLEASE_OK);
    assert_true(boot_now().ms - begin.ms < FROZEN_MAX_MS);
    begin = boot_now();
    assert_int_equal(twinlease_renew(handle, lease, &error), TWINLEASE_OK);
    assert_true(boot_now().ms - begin.ms < AT_ONCE_MS);
    assert_int_equal(w->licences[1].renewals, 2);
    twinlease_lease_free(lease);
    twinlease_close(handle);
}

/* ---- connections ----------------------------------------------------------------------------- */

static volatile sig_atomic_t pipe_signals;
static pthread_t caller;

static void on_pipe(int number)
{
    (void)number;
    if (pthread_equal(pthread_self(), caller))
        pipe_signals = 1;
}

/* A connection that the node has closed meanwhile is made anew, and the program sees no SIGPIPE. */
static void closed_connection_is_made_anew(void **state)
{
    struct world *w = *state;
    struct fake_licences *node = &w->licences[0];

    start_nodes(w, 1);
    caller = pthread_self();
    signal(SIGPIPE, on_pipe);
    node->keep_alive = true;
    struct twinlease *handle = open_world(w);
    struct twinlease_lease *lease = acquire(handle);
    for (int i = 0; i < 5; i++) {
        fake_licences_refuse(node, "/v1", 1, 0, NULL);
        node->trick = FAKE_CLOSE;
        assert_int_equal(twinlease_renew(handle, lease, &error), TWINLEASE_OK);
    }
    assert_int_equal(node->renewals, 5);
    assert_int_equal(pipe_signals, 0);
    twinlease_lease_free(lease);
    twinlease_close(handle);
    signal(SIGPIPE, SIG_IGN);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_begins_with_who_answered),
        cmocka_unit_test(budget_depends_on_the_others),
        cmocka_unit_test(rounds_come_slower_and_slower),
        TEST(nodes_that_cannot_serve_now_are_asked_again),
        TEST(answers_that_will_not_change_are_taken_as_such),
        TEST(denial_does_not_wait_for_the_dead),
        TEST(rounds_end),
        TEST(retry_after_is_respected),
        TEST(unknown_is_no_verdict_while_another_is_left_alone),
        TEST(half_a_proof_is_begun_again),
        TEST(enrolment_asked_twice_is_begun_again),
        TEST(frozen_node_delays_the_first_call_only),
        TEST(node_that_freezes_delays_one_call),
        TEST(closed_connection_is_made_anew),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
