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
    w->licences[0].times = 0;
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(interrupted_while_enrolling),      TEST(interrupted_while_proving),
        TEST(interrupted_while_asking),         TEST(interrupted_while_connecting),
        TEST(interrupted_while_another_enrols),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
