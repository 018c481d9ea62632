/* libtwinlease: calls that wait, and their end before their time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "backoff.h"
#include "base/clock.h"
#include "client_world.h"

/* No call that waits for something else ends as early as this. */
#define AT_ONCE_MS (PATIENT_MS / 2)

/* ---- interrupting ---------------------------------------------------------------------------- */

struct interruption {
    struct twinlease *handle;
    struct fake_licences *node;
    const char *path; /* once it was asked for this */
};

static bool was_asked(struct interruption *i)
{
    pthread_mutex_lock(&i->node->lock);
    bool asked = strncmp(i->node->last_path, i->path, strlen(i->path)) == 0;
    pthread_mutex_unlock(&i->node->lock);
    return asked;
}

static void *interrupt_once_asked(void *arg)
{
    while (!was_asked(arg))
        wait_ms(1);
    twinlease_interrupt(((struct interruption *)arg)->handle);
    return NULL;
}

/* The node says nothing any more to requests for this path. */
static void fall_silent(struct fake_licences *node, const char *path)
{
    fake_licences_refuse(node, path, 1000, 0, NULL);
    node->trick = FAKE_SILENCE;
}

static void fall_silent_once(struct fake_licences *node, const char *path)
{
    fake_licences_refuse(node, path, 1, 0, NULL);
    node->trick = FAKE_SILENCE;
}

/* Acquire ends soon after it was interrupted, wherever it was. */
static void interrupted_at(void **state, const char *path)
{
    struct world *w = *state;
    pthread_t thread;

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    struct interruption interruption = { handle, &w->licences[0], path };
    fall_silent(&w->licences[0], path);
    assert_int_equal(pthread_create(&thread, NULL, interrupt_once_asked, &interruption), 0);
    struct boot begin = boot_now();
    assert_acquire_fails(handle, TWINLEASE_INTERRUPTED);
    assert_true(boot_now().ms - begin.ms < AT_ONCE_MS);
    pthread_join(thread, NULL);
    assert_acquire_fails(handle, TWINLEASE_INTERRUPTED); /* it stays so … */
    twinlease_resume(handle);
    fake_licences_refuse(&w->licences[0], path, 0, 0, NULL);
    twinlease_lease_free(acquire(handle)); /* … until it is resumed */
    assert_int_equal(w->licences[0].grants, 1);
    twinlease_close(handle);
}

static void interrupted_while_enrolling(void **state)
{
    interrupted_at(state, "/v1/origins");
}

static void interrupted_while_proving(void **state)
{
    interrupted_at(state, "/v1/auth/token");
}

static void interrupted_while_asking(void **state)
{
    interrupted_at(state, "/v1/leases");
}

static struct twinlease *alarmed;

static void on_alarm(int number)
{
    (void)number;
    twinlease_interrupt(alarmed);
}

/* In a signal handler, in whatever thread, some time into the next call. */
static void interrupt_soon(struct twinlease *handle)
{
    const struct itimerval soon = { .it_value = { .tv_usec = 100000 } };

    alarmed = handle;
    signal(SIGALRM, on_alarm);
    assert_int_equal(setitimer(ITIMER_REAL, &soon, NULL), 0);
}

static void interrupted_while_connecting(void **state)
{
    struct world *w = *state;
    char mute[64];
    const char *url = mute;
    int mute_fd = fake_mute_url(mute, sizeof mute);
    struct twinlease_status *status = NULL;

    write_tok(w, &url, 1, fake_identity_pem(w->identity), wall_now().ms + DAY_MS);
    struct twinlease *handle = open_world(w);
    struct boot begin = boot_now();
    interrupt_soon(handle);
    assert_acquire_fails(handle, TWINLEASE_INTERRUPTED);
    assert_int_equal(twinlease_status(handle, &status, &error), TWINLEASE_INTERRUPTED);
    assert_null(status);
    twinlease_resume(handle);
    interrupt_soon(handle);
    assert_int_equal(twinlease_status(handle, &status, &error), TWINLEASE_INTERRUPTED);
    assert_true(boot_now().ms - begin.ms < AT_ONCE_MS);
    twinlease_close(handle);
    close(mute_fd);
}

static void *acquire_in_vain(void *handle)
{
    struct twinlease_lease *lease;
    struct twinlease_error mine;

    return twinlease_acquire(handle, "render", NULL, &lease, &mine) == TWINLEASE_INTERRUPTED
               ? NULL
               : strdup(mine.message);
}

/* One enrols, the others wait for it. */
static void interrupted_while_another_enrols(void **state)
{
    struct world *w = *state;
    pthread_t threads[4];
    void *problem;

    start_nodes(w, 1);
    fall_silent(&w->licences[0], "/v1");
    struct twinlease *handle = open_world(w);
    struct boot begin = boot_now();
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, acquire_in_vain, handle), 0);
    interrupt_soon(handle);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], &problem);
        if (problem)
            fail_msg("%s", (char *)problem);
    }
    assert_true(boot_now().ms - begin.ms < AT_ONCE_MS);
    twinlease_close(handle);
}

/* What a node was asked to grant, which it never answered, is given back. */
static void interrupted_grant_is_given_back(void **state)
{
    struct world *w = *state;
    struct fake_licences *node = &w->licences[0];
    pthread_t thread;
    char asked[4096], path[64];

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    struct interruption interruption = { handle, node, "/v1/leases" };
    fall_silent_once(node, "/v1/leases");
    assert_int_equal(pthread_create(&thread, NULL, interrupt_once_asked, &interruption), 0);
    assert_acquire_fails(handle, TWINLEASE_INTERRUPTED);
    pthread_join(thread, NULL);
    assert_int_equal(node->releases, 1);
    assert_string_equal(node->last_body, "");
    snprintf(path, sizeof path, "%s", node->last_path + strlen("/v1/leases/"));
    twinlease_resume(handle);
    twinlease_lease_free(acquire(handle));
    snprintf(asked, sizeof asked, "%s", node->last_body);
    assert_null(strstr(asked, path)); /* and its reference is forgotten */
    twinlease_close(handle);
}

/* Nobody confirms that it was given back: it may have been granted, so it is found again. */
static void interrupted_grant_is_remembered(void **state)
{
    struct world *w = *state;
    struct fake_licences *node = &w->licences[0];
    pthread_t thread;
    char asked[4096];

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    struct interruption interruption = { handle, node, "/v1/leases" };
    fall_silent(node, "/v1/leases");
    assert_int_equal(pthread_create(&thread, NULL, interrupt_once_asked, &interruption), 0);
    assert_acquire_fails(handle, TWINLEASE_INTERRUPTED);
    pthread_join(thread, NULL);
    fake_licences_refuse(node, "/v1/leases", 0, 0, NULL);
    snprintf(asked, sizeof asked, "%s", node->last_path + strlen("/v1/leases/"));
    twinlease_resume(handle);
    struct twinlease_lease *lease = acquire(handle);
    assert_string_equal(twinlease_lease_ref(lease), asked);
    twinlease_lease_free(lease);
    twinlease_close(handle);
}

static void interrupt_on_warning(void *context, const char *sentence)
{
    assert_non_null(strstr(sentence, "clock"));
    twinlease_interrupt(*(struct twinlease **)context);
}

/* The interruption comes while the answer is read: the lease is given back with its token. */
static void grant_that_came_too_late_is_given_back(void **state)
{
    struct world *w = *state;
    struct twinlease_options options = options_of(w);
    struct twinlease *handle = NULL;

    start_nodes(w, 1);
    options.warning = interrupt_on_warning;
    options.warning_context = &handle;
    handle = open_with(&options);
    twinlease_lease_free(acquire(handle));
    struct twinlease_acquire_options another = TWINLEASE_ACQUIRE_OPTIONS_INIT;
    struct twinlease_lease *lease = NULL;
    another.flags = TWINLEASE_ACQUIRE_ANOTHER;
    w->licences[0].clock_ahead_ms = DAY_MS;
    assert_int_equal(twinlease_acquire(handle, "render", &another, &lease, &error),
                     TWINLEASE_INTERRUPTED);
    assert_null(lease);
    assert_int_equal(w->licences[0].grants, 2);
    assert_int_equal(w->licences[0].releases, 1);
    assert_non_null(strstr(w->licences[0].last_body, "token-of-"));
    twinlease_close(handle);
}

/* ---- waiting --------------------------------------------------------------------------------- */

/* What the waiting callback was told. */
struct diary {
    struct world *world;
    int entries, stop_at; /* stop_at: the entry that ends the wait; 0: none */
    int64_t waited_ms, left_ms, next_try_ms;
    enum twinlease_code why;
    char reference[64];
    bool references_differ;
};

static int write_diary(void *context, const struct twinlease_waiting *waiting)
{
    struct diary *diary = context;
    struct fake_licences *node = &diary->world->licences[0];

    pthread_mutex_lock(&node->lock);
    const char *reference = strstr(node->last_body, "candidate_lease_ref");
    if (reference && *diary->reference)
        diary->references_differ |= strncmp(reference, diary->reference, 63) != 0;
    snprintf(diary->reference, sizeof diary->reference, "%.63s", reference ? reference : "");
    pthread_mutex_unlock(&node->lock);
    assert_int_equal(waiting->size, sizeof *waiting);
    assert_true(waiting->waited_ms >= diary->waited_ms);
    assert_true(waiting->next_try_ms <= waiting->left_ms);
    diary->waited_ms = waiting->waited_ms;
    diary->left_ms = waiting->left_ms;
    diary->next_try_ms = waiting->next_try_ms;
    diary->why = waiting->why->code;
    return ++diary->entries == diary->stop_at;
}

static enum twinlease_code acquire_waiting(struct twinlease *handle, struct diary *diary,
                                           int64_t wait_ms, struct twinlease_lease **out)
{
    struct twinlease_acquire_options options = TWINLEASE_ACQUIRE_OPTIONS_INIT;

    options.wait_ms = wait_ms;
    options.waiting = write_diary;
    options.waiting_context = diary;
    return twinlease_acquire(handle, "render", &options, out, &error);
}

static void waits_for_a_seat_with_one_reference(void **state)
{
    struct world *w = *state;
    struct diary diary = { .world = w };
    struct twinlease_lease *lease = NULL;

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    fake_licences_refuse(&w->licences[0], "/v1/leases", 3, 409, "no_free_seat");
    assert_int_equal(acquire_waiting(handle, &diary, 60000, &lease), TWINLEASE_OK);
    assert_int_equal(error.code, TWINLEASE_OK);
    assert_int_equal(diary.entries, 3);
    assert_int_equal(diary.why, TWINLEASE_NO_SEAT);
    assert_in_range(diary.next_try_ms, 600, 1000); /* 800, give or take a quarter */
    assert_in_range(diary.waited_ms, 450, 60000);  /* 200 and 400 before */
    assert_false(diary.references_differ);
    assert_non_null(strstr(diary.reference, twinlease_lease_ref(lease)));
    twinlease_lease_free(lease);
    twinlease_close(handle);
}

static void waits_for_a_node(void **state)
{
    struct world *w = *state;
    struct diary diary = { .world = w };
    struct twinlease_lease *lease = NULL;

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    fake_licences_refuse(&w->licences[0], "/v1", 2, 503, "not_ready");
    assert_int_equal(acquire_waiting(handle, &diary, 60000, &lease), TWINLEASE_OK);
    assert_int_equal(diary.entries, 2);
    assert_int_equal(diary.why, TWINLEASE_NO_NODE);
    twinlease_lease_free(lease);
    twinlease_close(handle);
}

static void wait_ends_with_a_last_try(void **state)
{
    struct world *w = *state;
    struct diary diary = { .world = w };
    struct twinlease_lease *lease = NULL;
    struct twinlease_list *list = NULL;
    const int64_t wait_ms = 1500; /* pauses of about 200, 400, 800 */

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    fake_licences_refuse(&w->licences[0], "/v1/leases", 1000, 409, "no_free_seat");
    struct boot begin = boot_now();
    assert_int_equal(acquire_waiting(handle, &diary, wait_ms, &lease), TWINLEASE_NO_SEAT);
    assert_in_range(boot_now().ms - begin.ms, wait_ms, wait_ms + AT_ONCE_MS);
    assert_in_range(diary.entries, 2, 5);
    assert_int_equal(1000 - w->licences[0].times, diary.entries + 1); /* asked after each pause */
    assert_in_range(diary.waited_ms + diary.next_try_ms, wait_ms, wait_ms); /* until the end */
    assert_string_equal(error.problem, "no_free_seat");
    assert_int_equal(twinlease_recorded(handle, &list, &error), TWINLEASE_OK);
    assert_int_equal(twinlease_list_count(list), 0);
    twinlease_list_free(list);
    twinlease_close(handle);
}

static void refusals_are_not_waited_for(void **state)
{
    struct world *w = *state;
    struct diary diary = { .world = w };
    struct twinlease_lease *lease = NULL;

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    fake_licences_refuse(&w->licences[0], "/v1/leases", 1000, 404, "scope_unknown");
    assert_int_equal(acquire_waiting(handle, &diary, 60000, &lease), TWINLEASE_REFUSED);
    assert_int_equal(acquire_waiting(handle, &diary, -1, &lease), TWINLEASE_USAGE);
    assert_int_equal(acquire_waiting(handle, &diary, INT64_MAX, &lease), TWINLEASE_USAGE);
    assert_int_equal(diary.entries, 0);
    twinlease_close(handle);
}

static void callback_ends_the_wait(void **state)
{
    struct world *w = *state;
    struct diary diary = { .world = w, .stop_at = 2 };
    struct twinlease_lease *lease = NULL;

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    fake_licences_refuse(&w->licences[0], "/v1/leases", 1000, 409, "no_free_seat");
    assert_int_equal(acquire_waiting(handle, &diary, 60000, &lease), TWINLEASE_INTERRUPTED);
    assert_int_equal(diary.entries, 2);
    assert_non_null(strstr(error.message, "Refused by a test"));
    assert_int_equal(w->licences[0].releases, 0); /* nothing was granted */
    fake_licences_refuse(&w->licences[0], "/v1/leases", 0, 0, NULL);
    lease = acquire(handle);
    assert_null(strstr(diary.reference, twinlease_lease_ref(lease)));
    twinlease_lease_free(lease);
    twinlease_close(handle);
}

static void pause_is_interrupted(void **state)
{
    struct world *w = *state;
    struct diary diary = { .world = w };
    struct twinlease_lease *lease = NULL;

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    fake_licences_refuse(&w->licences[0], "/v1/leases", 1000, 409, "no_free_seat");
    struct boot begin = boot_now();
    interrupt_soon(handle);
    assert_int_equal(acquire_waiting(handle, &diary, 60000, &lease), TWINLEASE_INTERRUPTED);
    assert_true(boot_now().ms - begin.ms < AT_ONCE_MS);
    twinlease_close(handle);
}

/* Asks soon after a seat is expected back, whatever this machine's clock says. */
static void expected_seat_shortens_the_pause(void **state)
{
    struct world *w = *state;
    struct fake_licences *node = &w->licences[0];
    struct diary diary = { .world = w };
    struct twinlease_lease *lease = NULL;

    start_nodes(w, 1);
    node->clock_ahead_ms = DAY_MS;
    struct twinlease *handle = open_world(w);
    fake_licences_refuse(node, "/v1/leases", 3, 409, "no_free_seat");
    node->next_seat_ms = 500;
    assert_int_equal(acquire_waiting(handle, &diary, 60000, &lease), TWINLEASE_OK);
    assert_int_equal(diary.entries, 3);
    assert_in_range(diary.next_try_ms, 50, 599); /* it would have been 800, less a quarter */
    twinlease_lease_free(lease);
    twinlease_close(handle);
}

/* ---- grace ----------------------------------------------------------------------------------- */

static enum twinlease_code acquire_with_grace(struct twinlease *handle,
                                              struct twinlease_lease **out)
{
    struct twinlease_acquire_options options = TWINLEASE_ACQUIRE_OPTIONS_INIT;

    options.flags = TWINLEASE_ACQUIRE_GRACE;
    options.wait_ms = 60000; /* is not waited for */
    return twinlease_acquire(handle, "render", &options, out, &error);
}

/* A machine that leased once, and is started again. */
static struct twinlease *restarted(struct world *w, double lease_lives)
{
    start_nodes(w, 1);
    w->licences[0].lease_lives = lease_lives;
    struct twinlease *handle = open_world(w);
    twinlease_lease_free(acquire(handle));
    twinlease_close(handle);
    return open_world(w);
}

static void valid_lease_is_good_enough_for_grace(void **state)
{
    struct world *w = *state;
    struct twinlease_lease *lease = NULL;
    struct twinlease *handle = restarted(w, 3600);

    fake_licences_refuse(&w->licences[0], "/v1", 1, 503, "not_ready");
    assert_int_equal(acquire_with_grace(handle, &lease), TWINLEASE_OK);
    assert_int_equal(error.code, TWINLEASE_OK);
    assert_int_equal(twinlease_lease_unconfirmed(lease), 1);
    assert_int_equal(twinlease_lease_resumed(lease), 1);
    assert_in_range(twinlease_lease_expires_in_ms(lease), 3000000, 3600000);
    assert_non_null(strstr(w->warning, "could not be confirmed"));
    assert_int_equal(twinlease_renew(handle, lease, &error), TWINLEASE_OK);
    assert_int_equal(twinlease_lease_unconfirmed(lease), 0);
    twinlease_lease_free(lease);
    twinlease_close(handle);
}

static void grace_is_for_silence_only(void **state)
{
    struct world *w = *state;
    struct twinlease_lease *lease = NULL;
    struct twinlease *handle = restarted(w, 3600);

    fake_licences_refuse(&w->licences[0], "/v1/leases/", 1, 410, "lease_ended");
    assert_int_equal(acquire_with_grace(handle, &lease), TWINLEASE_OK);
    assert_int_equal(twinlease_lease_resumed(lease), 0); /* a new one */
    assert_int_equal(twinlease_lease_unconfirmed(lease), 0);
    twinlease_lease_free(lease);
    fake_licences_refuse(&w->licences[0], "/v1/leases/", 1000, 403, "forbidden");
    assert_int_equal(acquire_with_grace(handle, &lease), TWINLEASE_NOT_AUTHORISED);
    twinlease_close(handle);
}

static void lease_that_is_over_has_no_grace(void **state)
{
    struct world *w = *state;
    struct twinlease_acquire_options options = TWINLEASE_ACQUIRE_OPTIONS_INIT;
    struct twinlease_lease *lease = NULL;
    struct twinlease *handle = restarted(w, 0.001);

    fake_licences_refuse(&w->licences[0], "/v1", 1000, 503, "not_ready");
    options.flags = TWINLEASE_ACQUIRE_GRACE;
    assert_int_equal(twinlease_acquire(handle, "render", &options, &lease, &error),
                     TWINLEASE_NO_NODE);
    twinlease_close(handle);
}

/* ---- pauses ---------------------------------------------------------------------------------- */

static void pauses_grow_and_differ(void **state)
{
    static const struct backoff backoff = { .first_ms = 50, .limit_ms = 1000 };
    static const int64_t middle_ms[] = { 50, 100, 200, 400, 800, 1000, 1000 };

    (void)state;
    for (unsigned i = 0; i < 7; i++) {
        int64_t quarter_ms = middle_ms[i] / 4;
        assert_int_equal(backoff_ms(&backoff, i, 0), middle_ms[i] - quarter_ms);
        assert_int_equal(backoff_ms(&backoff, i, (uint32_t)(2 * quarter_ms)),
                         middle_ms[i] + quarter_ms);
        assert_int_equal(backoff_ms(&backoff, i, (uint32_t)(2 * quarter_ms + 1)),
                         middle_ms[i] - quarter_ms);
    }
    assert_in_range(backoff_ms(&backoff, UINT32_MAX, UINT32_MAX), 750, 1250);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(interrupted_while_enrolling),
        TEST(interrupted_while_proving),
        TEST(interrupted_while_asking),
        TEST(interrupted_while_connecting),
        TEST(interrupted_while_another_enrols),
        TEST(interrupted_grant_is_given_back),
        TEST(interrupted_grant_is_remembered),
        TEST(grant_that_came_too_late_is_given_back),
        TEST(waits_for_a_seat_with_one_reference),
        TEST(waits_for_a_node),
        TEST(wait_ends_with_a_last_try),
        TEST(refusals_are_not_waited_for),
        TEST(callback_ends_the_wait),
        TEST(pause_is_interrupted),
        TEST(expected_seat_shortens_the_pause),
        TEST(valid_lease_is_good_enough_for_grace),
        TEST(grace_is_for_silence_only),
        TEST(lease_that_is_over_has_no_grace),
        cmocka_unit_test(pauses_grow_and_differ),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
