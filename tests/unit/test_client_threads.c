/* libtwinlease in the hands of many threads: on one handle, and each with a handle of its own on
 * one state folder. ThreadSanitizer judges what is not seen here (tests/run tsan). What is seen:
 * every call ends as it may, no lease is in two hands at once, all handles of a folder are one
 * machine, and whatever a thread leaves lying is found by another. */
#include "client_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/must.h"

#define THREADS 8
#define ROUNDS  6

/* What the threads have in common. */
struct crowd {
    struct world *world;
    struct twinlease *handle; /* NULL: each opens its own */
    pthread_mutex_t lock;     /* guards what follows */
    char held[THREADS][40];   /* reference of the lease that thread i has in hand, or "" */
    int working, resumed;
    char problem[1024]; /* the first one; "": none */
    char origin[40];
};

struct worker {
    struct crowd *crowd;
    int number;
    pthread_t thread;
    struct twinlease *handle;
};

/* cmocka's assertions belong to the main thread. */
static void blame(struct crowd *crowd, const char *what, const char *why)
{
    pthread_mutex_lock(&crowd->lock);
    if (!*crowd->problem)
        snprintf(crowd->problem, sizeof crowd->problem, "%s: %s", what, why);
    pthread_mutex_unlock(&crowd->lock);
}

static void note_warning(void *context, const char *sentence)
{
    blame(context, "warning", sentence);
}

/* True: done. An interrupted call may be made again. */
static bool judge(struct worker *w, const char *what, enum twinlease_code code,
                  const struct twinlease_error *why)
{
    if (code != TWINLEASE_OK && code != TWINLEASE_INTERRUPTED)
        blame(w->crowd, what, why->message);
    return code == TWINLEASE_OK;
}

static void take_in_hand(struct worker *w, const struct twinlease_lease *lease)
{
    const char *ref = twinlease_lease_ref(lease);
    struct crowd *crowd = w->crowd;
    bool taken = false;

    pthread_mutex_lock(&crowd->lock);
    for (int i = 0; i < THREADS; i++)
        taken |= strcmp(crowd->held[i], ref) == 0;
    snprintf(crowd->held[w->number], sizeof crowd->held[w->number], "%s", ref);
    crowd->resumed += twinlease_lease_resumed(lease);
    pthread_mutex_unlock(&crowd->lock);
    if (taken)
        blame(crowd, "a lease is in two hands", ref);
}

static void put_down(struct worker *w)
{
    pthread_mutex_lock(&w->crowd->lock);
    w->crowd->held[w->number][0] = '\0';
    pthread_mutex_unlock(&w->crowd->lock);
}

static struct twinlease_lease *acquire_some(struct worker *w)
{
    struct twinlease_lease *lease = NULL;
    struct twinlease_error why;

    while (!judge(w, "acquire", twinlease_acquire(w->handle, "render", NULL, &lease, &why), &why)) {
        if (why.code != TWINLEASE_INTERRUPTED)
            return NULL;
    }
    return lease;
}

static void look_around(struct worker *w)
{
    struct twinlease_status *status = NULL;
    struct twinlease_list *list = NULL;
    struct twinlease_error why;

    if (judge(w, "list", twinlease_list(w->handle, &list, &why), &why))
        twinlease_list_free(list);
    list = NULL;
    if (judge(w, "recorded", twinlease_recorded(w->handle, &list, &why), &why))
        twinlease_list_free(list);
    if (judge(w, "status", twinlease_status(w->handle, &status, &why), &why))
        twinlease_status_free(status);
    if (!*twinlease_instance_jwks(w->handle) || !*twinlease_instance_ref(w->handle))
        blame(w->crowd, "the instance", "has no name");
}

/* Every other lease is left lying, as by a program that dies; somebody will find it. */
static void go_round(struct worker *w, int round)
{
    struct twinlease_lease *lease = acquire_some(w);
    struct twinlease_error why;

    if (!lease)
        return;
    take_in_hand(w, lease);
    judge(w, "renew", twinlease_renew(w->handle, lease, &why), &why);
    look_around(w);
    put_down(w);
    if ((w->number + round) % 2)
        judge(w, "release", twinlease_release(w->handle, lease, &why), &why);
    twinlease_lease_free(lease);
}

static void compare_origin(struct worker *w)
{
    struct twinlease_status *status = NULL;
    struct twinlease_error why;

    if (!judge(w, "status", twinlease_status(w->handle, &status, &why), &why))
        return;
    const char *origin = twinlease_status_origin_ref(status);
    pthread_mutex_lock(&w->crowd->lock);
    if (!*w->crowd->origin)
        snprintf(w->crowd->origin, sizeof w->crowd->origin, "%s", origin);
    bool same = *origin && strcmp(origin, w->crowd->origin) == 0;
    pthread_mutex_unlock(&w->crowd->lock);
    if (!same)
        blame(w->crowd, "two handles of one folder are two machines", origin);
    twinlease_status_free(status);
}

static struct twinlease *open_own(struct crowd *crowd)
{
    struct twinlease_options options = options_of(crowd->world);
    struct twinlease *handle = NULL;
    struct twinlease_error why;

    options.connect_ms = options.attempt_ms = options.deadline_ms = 60000; /* one at a time */
    options.warning = note_warning;
    options.warning_context = crowd;
    if (twinlease_open(&options, &handle, &why) != TWINLEASE_OK)
        blame(crowd, "open", why.message);
    return handle;
}

static void *work(void *arg)
{
    struct worker *w = arg;

    w->handle = w->crowd->handle ? w->crowd->handle : open_own(w->crowd);
    for (int round = 0; w->handle && round < ROUNDS; round++)
        go_round(w, round);
    if (!w->crowd->handle && w->handle) {
        compare_origin(w);
        twinlease_close(w->handle);
    }
    pthread_mutex_lock(&w->crowd->lock);
    w->crowd->working--;
    pthread_mutex_unlock(&w->crowd->lock);
    return NULL;
}

static bool somebody_works(struct crowd *crowd)
{
    pthread_mutex_lock(&crowd->lock);
    bool working = crowd->working > 0;
    pthread_mutex_unlock(&crowd->lock);
    return working;
}

/* Two nodes, each of which cannot serve now and then, so that threads turn from one to the other.
 */
static void begin(struct crowd *crowd, struct world *world)
{
    *crowd = (struct crowd){ .world = world, .working = THREADS };
    must(pthread_mutex_init(&crowd->lock, NULL) == 0);
    start_nodes(world, 2);
    fake_licences_refuse(&world->licences[0], "/v1/leases", 20, 503, "not_ready");
}

static void start(struct crowd *crowd, struct worker workers[THREADS])
{
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){ .crowd = crowd, .number = i };
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
}

/* Nothing that was left lying is lost: it is all in the state folder, and can be given back. */
static void give_all_back(struct twinlease *handle)
{
    struct twinlease_list *list = NULL;

    assert_int_equal(twinlease_recorded(handle, &list, &error), TWINLEASE_OK);
    assert_true(twinlease_list_count(list) > 0);
    for (size_t i = 0; i < twinlease_list_count(list); i++) {
        if (twinlease_release(handle, twinlease_list_at(list, i), &error) != TWINLEASE_OK)
            fail_msg("release: %s", error.message);
    }
    twinlease_list_free(list);
    assert_int_equal(twinlease_recorded(handle, &list, &error), TWINLEASE_OK);
    assert_int_equal(twinlease_list_count(list), 0);
    twinlease_list_free(list);
}

static void finish(struct crowd *crowd, struct worker workers[THREADS])
{
    for (int i = 0; i < THREADS; i++)
        pthread_join(workers[i].thread, NULL);
    if (*crowd->problem)
        fail_msg("%s", crowd->problem);
    assert_true(crowd->resumed > 0);
    pthread_mutex_destroy(&crowd->lock);
}

static int total(const struct world *world, size_t offset)
{
    int sum = 0;

    for (size_t i = 0; i < world->node_count; i++)
        sum += *(const int *)((const char *)&world->licences[i] + offset);
    return sum;
}

static void many_threads_on_one_handle(void **state)
{
    struct crowd crowd;
    struct worker workers[THREADS];

    begin(&crowd, *state);
    crowd.handle = open_own(&crowd);
    assert_non_null(crowd.handle);
    start(&crowd, workers);
    finish(&crowd, workers);
    assert_int_equal(total(*state, offsetof(struct fake_licences, enrols)), 1);
    give_all_back(crowd.handle);
    twinlease_close(crowd.handle);
}

/* While others work with the handle, one thread ends their calls again and again, and reads the
 * token anew. */
static void a_handle_is_interrupted_and_reloaded_under_work(void **state)
{
    struct crowd crowd;
    struct worker workers[THREADS];
    int times = 0;

    begin(&crowd, *state);
    crowd.handle = open_own(&crowd);
    assert_non_null(crowd.handle);
    twinlease_lease_free(acquire(crowd.handle)); /* enrolled: that, too, could be interrupted */
    start(&crowd, workers);
    while (somebody_works(&crowd)) {
        wait_ms(10 + times); /* ever longer, so that they come to an end */
        twinlease_interrupt(crowd.handle);
        assert_int_equal(twinlease_reload(crowd.handle, &error), TWINLEASE_OK);
        twinlease_resume(crowd.handle);
        times++;
    }
    finish(&crowd, workers);
    assert_true(times > 1);
    assert_int_equal(total(*state, offsetof(struct fake_licences, enrols)), 1);
    give_all_back(crowd.handle);
    twinlease_close(crowd.handle);
}

/* Each thread might as well be a program of its own: nothing but the folder joins them. */
static void many_handles_on_one_folder(void **state)
{
    struct crowd crowd;
    struct worker workers[THREADS];

    begin(&crowd, *state);
    start(&crowd, workers);
    finish(&crowd, workers);
    struct twinlease *handle = open_world(*state);
    give_all_back(handle);
    twinlease_close(handle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(many_threads_on_one_handle, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(a_handle_is_interrupted_and_reloaded_under_work,
                                        world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(many_handles_on_one_folder, world_setup, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
