/* Keepers against fake nodes: the thread, its events, and its end. When it does what is the plan's
 * (test_client_keeper_plan.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "alarm.h"
#include "base/clock.h"
#include "client_world.h"

#define EVENTS_MAX 64
#define SHORT      1.6 /* seconds of a lease that is to expire within a test */

struct told {
    enum twinlease_event event;
    enum twinlease_code code; /* OK: no error was told */
    char lease_ref[37], message[768];
    int64_t next_try_ms;
};

/* By which the wall clock of the thread that told last is off. The linker makes it of every call in
 * the library and in the fake nodes (--wrap). */
static _Atomic int64_t step_ms;
static _Atomic pthread_t stepping;
struct wall __real_wall_now(void);
struct wall __wrap_wall_now(void);
struct wall __wrap_wall_now(void)
{
    struct wall now = __real_wall_now();

    if (pthread_equal(pthread_self(), stepping))
        now.ms += step_ms;
    return now;
}

/* What a keeper has told. */
struct diary {
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct told told[EVENTS_MAX];
    size_t count, read;
    struct twinlease_keeper *keeper; /* to be used by the callback; NULL: it only writes */
    enum twinlease_code stop_code;
    struct twinlease_kept kept;
    sigset_t blocked;
};

static void diary_init(struct diary *d)
{
    pthread_condattr_t clock;

    memset(d, 0, sizeof *d);
    pthread_mutex_init(&d->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&d->more, &clock);
    pthread_condattr_destroy(&clock);
}

static void note(void *context, const struct twinlease_change *change)
{
    struct diary *d = context;

    stepping = pthread_self();
    pthread_mutex_lock(&d->lock);
    assert_true(d->count < EVENTS_MAX);
    assert_int_equal(change->size, sizeof *change);
    struct told *told = &d->told[d->count++];
    *told = (struct told){ .event = change->event, .next_try_ms = change->next_try_ms };
    if (change->error) {
        told->code = change->error->code;
        memcpy(told->message, change->error->message, sizeof told->message);
    }
    if (change->lease)
        snprintf(told->lease_ref, sizeof told->lease_ref, "%s", twinlease_lease_ref(change->lease));
    if (d->keeper) {
        d->kept = (struct twinlease_kept)TWINLEASE_KEPT_INIT;
        twinlease_keeper_read(d->keeper, &d->kept);
        d->stop_code = twinlease_keeper_stop(d->keeper, 0, NULL);
    }
    pthread_sigmask(SIG_SETMASK, NULL, &d->blocked);
    pthread_cond_signal(&d->more);
    pthread_mutex_unlock(&d->lock);
}

/* The next event, which must be this one. */
static struct told expect(struct diary *d, enum twinlease_event event)
{
    struct timespec until = deadline_after(PATIENT_MS);

    pthread_mutex_lock(&d->lock);
    while (d->read == d->count) {
        if (pthread_cond_timedwait(&d->more, &d->lock, &until) != 0)
            fail_msg("no %s was told in time", twinlease_event_name(event));
    }
    struct told told = d->told[d->read++];
    pthread_mutex_unlock(&d->lock);
    if (told.event != event)
        fail_msg("%s was told, not %s: %s", twinlease_event_name(told.event),
                 twinlease_event_name(event), told.message);
    assert_int_equal(strlen(told.lease_ref), event == TWINLEASE_EVENT_DENIED ? 0 : 36);
    assert_int_equal(told.code == TWINLEASE_OK,
                     event == TWINLEASE_EVENT_ACQUIRED || event == TWINLEASE_EVENT_RENEWED);
    assert_true(told.code == TWINLEASE_OK || strlen(told.message) > 10);
    return told;
}

static struct twinlease_keep_options options_for(struct diary *d)
{
    struct twinlease_keep_options options = TWINLEASE_KEEP_OPTIONS_INIT;

    diary_init(d);
    options.changed = note;
    options.context = d;
    return options;
}

static struct twinlease_keeper *keep_with(struct twinlease *handle,
                                          const struct twinlease_keep_options *options)
{
    struct twinlease_keeper *keeper = NULL;

    if (twinlease_keep(handle, "render", options, &keeper, &error) != TWINLEASE_OK)
        fail_msg("keep: %s", error.message);
    return keeper;
}

static struct twinlease_keeper *keep(struct twinlease *handle, struct diary *d)
{
    struct twinlease_keep_options options = options_for(d);

    return keep_with(handle, &options);
}

static struct twinlease_kept look(struct twinlease_keeper *keeper)
{
    struct twinlease_kept kept = TWINLEASE_KEPT_INIT;

    assert_int_equal(twinlease_keeper_read(keeper, &kept), TWINLEASE_OK);
    assert_int_equal(kept.size, sizeof kept);
    assert_string_equal(kept.feature, "render");
    return kept;
}

static void stop(struct twinlease_keeper *keeper)
{
    if (twinlease_keeper_stop(keeper, 0, &error) != TWINLEASE_OK)
        fail_msg("stop: %s", error.message);
}

/* Until `times` requests whose path begins so have been spoiled. */
static void spoil(struct fake_licences *node, const char *path, int times, enum fake_trick trick)
{
    pthread_mutex_lock(&node->lock);
    node->path = path;
    node->times = times;
    node->trick = trick;
    pthread_mutex_unlock(&node->lock);
}

static void set_lives(struct fake_licences *node, double seconds)
{
    pthread_mutex_lock(&node->lock);
    node->lease_lives = seconds;
    pthread_mutex_unlock(&node->lock);
}

static int read_count(struct fake_licences *node, const int *count)
{
    pthread_mutex_lock(&node->lock);
    int value = *count;
    pthread_mutex_unlock(&node->lock);
    return value;
}

/* ---- holding ----------------------------------------------------------------------------- */

static void lease_is_held_renewed_and_given_back(void **state)
{
    struct world *w = *state;
    struct fake_licences *node = &w->licences[0];
    struct diary d;

    start_nodes(w, 1);
    node->renew_after = 0.1;
    struct twinlease *handle = open_world(w);
    struct twinlease_keeper *keeper = keep(handle, &d);
    struct told acquired = expect(&d, TWINLEASE_EVENT_ACQUIRED);
    assert_int_equal(acquired.next_try_ms, 1000); /* not at 0.1 s: that would be a rush */
    struct twinlease_kept kept = look(keeper);
    assert_int_equal(kept.held, 1);
    assert_int_equal(kept.count, 1);
    assert_string_equal(kept.lease_ref, acquired.lease_ref);
    assert_string_equal(kept.scope_ref, "10000000-0000-4000-8000-0000000000bb");
    assert_string_equal(kept.home, "10000000-0000-4000-8000-0000000000cc");
    assert_in_range(kept.expires_in_ms, 3590000, 3600000);
    assert_int_equal(kept.expires_ms - kept.acquired_ms, 3600000);
    assert_int_equal(kept.error.code, TWINLEASE_OK);
    for (int i = 0; i < 2; i++)
        assert_string_equal(expect(&d, TWINLEASE_EVENT_RENEWED).lease_ref, acquired.lease_ref);
    stop(keeper);
    assert_int_equal(node->grants, 1);
    assert_true(node->renewals >= 2);
    assert_int_equal(node->releases, 1);
    twinlease_close(handle);
}

static void without_options_it_keeps_one_seat(void **state)
{
    struct world *w = *state;

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    struct twinlease_keeper *keeper = keep_with(handle, NULL);
    int64_t until_ms = boot_now().ms + PATIENT_MS;
    while (!look(keeper).held && boot_now().ms < until_ms)
        wait_ms(1);
    assert_int_equal(look(keeper).held, 1);
    stop(keeper);
    assert_int_equal(w->licences[0].releases, 1);
    twinlease_close(handle);
    twinlease_keeper_stop(NULL, 0, NULL);
}

/* What the state folder knows is good enough while nobody can be asked, and is asked about soon. */
static void with_grace_a_recorded_lease_needs_no_node(void **state)
{
    struct world *w = *state;
    struct fake_licences *node = &w->licences[0];
    struct diary d;

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    struct twinlease_keeper *keeper = keep(handle, &d);
    struct told first = expect(&d, TWINLEASE_EVENT_ACQUIRED);
    assert_int_equal(twinlease_keeper_stop(keeper, TWINLEASE_STOP_LEASED, &error), TWINLEASE_OK);
    struct twinlease_keep_options options = options_for(&d);
    fake_licences_refuse(node, "/v1/leases/", 1, 503, "not_ready");
    keeper = keep_with(handle, &options);
    expect(&d, TWINLEASE_EVENT_DENIED);
    assert_int_equal(twinlease_keeper_stop(keeper, TWINLEASE_STOP_LEASED, &error), TWINLEASE_OK);
    options = options_for(&d);
    options.flags = TWINLEASE_KEEP_GRACE;
    fake_licences_refuse(node, "/v1/leases/", 1, 503, "not_ready");
    keeper = keep_with(handle, &options);
    assert_string_equal(expect(&d, TWINLEASE_EVENT_ACQUIRED).lease_ref, first.lease_ref);
    assert_in_range(look(keeper).next_try_ms, 1, 3000);
    assert_string_equal(expect(&d, TWINLEASE_EVENT_RENEWED).lease_ref, first.lease_ref);
    stop(keeper);
    assert_int_equal(node->grants, 1);
    twinlease_close(handle);
}

static void stopped_with_its_lease_the_next_finds_it(void **state)
{
    struct world *w = *state;
    struct fake_licences *node = &w->licences[0];
    struct diary d;

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    struct twinlease_keeper *keeper = keep(handle, &d);
    expect(&d, TWINLEASE_EVENT_ACQUIRED);
    assert_int_equal(twinlease_keeper_stop(keeper, TWINLEASE_STOP_LEASED, &error), TWINLEASE_OK);
    assert_int_equal(node->releases, 0);
    keeper = keep(handle, &d);
    expect(&d, TWINLEASE_EVENT_ACQUIRED);
    stop(keeper);
    assert_int_equal(node->grants, 1);
    assert_int_equal(node->renewals, 1);
    assert_int_equal(node->releases, 1);
    twinlease_close(handle);
}

static void lease_brought_along_becomes_the_keepers(void **state)
{
    struct world *w = *state;
    struct fake_licences *node = &w->licences[0];
    struct diary d;

    start_nodes(w, 1);
    node->renew_after = 0.1;
    struct twinlease *handle = open_world(w);
    struct twinlease_lease *lease = acquire(handle), *other;
    struct twinlease_keep_options options = options_for(&d);
    char ref[37];
    snprintf(ref, sizeof ref, "%s", twinlease_lease_ref(lease));
    options.lease = lease;
    struct twinlease_keeper *keeper = keep_with(handle, &options);
    assert_string_equal(look(keeper).lease_ref, ref); /* from the first moment on */
    assert_string_equal(expect(&d, TWINLEASE_EVENT_RENEWED).lease_ref, ref);
    other = acquire(handle); /* it is in use, so this is another one */
    assert_string_not_equal(twinlease_lease_ref(other), ref);
    twinlease_lease_free(other);
    stop(keeper);
    assert_int_equal(node->grants, 2);
    assert_int_equal(node->releases, 1);
    twinlease_close(handle);
}

/* A lease that no node has confirmed since it was found is not left so for a quarter of an hour. */
static void unconfirmed_lease_is_renewed_first(void **state)
{
    struct twinlease_acquire_options wish = TWINLEASE_ACQUIRE_OPTIONS_INIT;
    struct world *w = *state;
    struct fake_licences *node = &w->licences[0];
    struct twinlease_lease *lease = NULL;
    struct diary d;

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    twinlease_lease_free(acquire(handle));
    spoil(node, "/v1/leases", 1000, FAKE_CLOSE);
    wish.flags = TWINLEASE_ACQUIRE_GRACE;
    assert_int_equal(twinlease_acquire(handle, "render", &wish, &lease, &error), TWINLEASE_OK);
    assert_int_equal(twinlease_lease_unconfirmed(lease), 1);
    struct twinlease_keep_options options = options_for(&d);
    options.lease = lease;
    struct twinlease_keeper *keeper = keep_with(handle, &options);
    expect(&d, TWINLEASE_EVENT_TROUBLE);
    spoil(node, "/v1/leases", 0, FAKE_CLOSE);
    expect(&d, TWINLEASE_EVENT_RENEWED);
    stop(keeper);
    assert_int_equal(node->grants, 1);
    twinlease_close(handle);
}

static void steps_of_the_wall_clock_change_nothing(void **state)
{
    struct world *w = *state;
    struct diary d;

    start_nodes(w, 1);
    w->licences[0].renew_after = 0.1;
    struct twinlease *handle = open_world(w);
    struct twinlease_keeper *keeper = keep(handle, &d);
    expect(&d, TWINLEASE_EVENT_ACQUIRED);
    step_ms = 3650 * DAY_MS;
    expect(&d, TWINLEASE_EVENT_RENEWED);
    assert_in_range(look(keeper).expires_in_ms, 3590000, 3600000);
    step_ms = -3650 * DAY_MS;
    fake_licences_refuse(&w->licences[0], "/v1/leases/", 1, 404, "lease_unknown");
    assert_int_equal(expect(&d, TWINLEASE_EVENT_LOST).next_try_ms, 0);
    expect(&d, TWINLEASE_EVENT_ACQUIRED);
    assert_in_range(look(keeper).expires_in_ms, 3590000, 3600000);
    assert_in_range(look(keeper).next_try_ms, 0, 1000);
    stop(keeper);
    assert_non_null(strstr(w->warning, "clock")); /* the step was seen, and is told of */
    assert_int_equal(w->licences[0].grants, 2);
    step_ms = 0;
    twinlease_close(handle);
}

static void several_keep_one_each(void **state)
{
    struct twinlease_keeper *keepers[4];
    struct world *w = *state;
    struct diary diaries[4];

    start_nodes(w, 1);
    w->licences[0].renew_after = 0.1;
    struct twinlease *handle = open_world(w);
    for (size_t i = 0; i < 4; i++)
        keepers[i] = keep(handle, &diaries[i]);
    for (size_t i = 0; i < 4; i++)
        expect(&diaries[i], TWINLEASE_EVENT_ACQUIRED);
    for (size_t i = 0; i < 4; i++)
        expect(&diaries[i], TWINLEASE_EVENT_RENEWED);
    for (size_t i = 1; i < 4; i++)
        assert_string_not_equal(look(keepers[i]).lease_ref, look(keepers[0]).lease_ref);
    for (size_t i = 0; i < 4; i++)
        stop(keepers[i]);
    assert_int_equal(w->licences[0].enrols, 1);
    assert_int_equal(w->licences[0].grants, 4);
    assert_int_equal(w->licences[0].releases, 4);
    twinlease_close(handle);
}

/* ---- trouble ----------------------------------------------------------------------------- */

static void node_that_comes_back_in_time_costs_nothing(void **state)
{
    struct world *w = *state;
    struct fake_licences *node = &w->licences[0];
    struct diary d;

    start_nodes(w, 1);
    node->renew_after = 0.1;
    struct twinlease *handle = open_world(w);
    struct twinlease_keeper *keeper = keep(handle, &d);
    expect(&d, TWINLEASE_EVENT_ACQUIRED);
    spoil(node, "/v1/leases/", 1000, FAKE_CLOSE);
    struct told trouble = expect(&d, TWINLEASE_EVENT_TROUBLE);
    assert_int_equal(trouble.code, TWINLEASE_NO_NODE);
    struct twinlease_kept kept = look(keeper);
    assert_int_equal(kept.held, 1);
    assert_int_equal(kept.error.code, TWINLEASE_NO_NODE);
    spoil(node, "/v1/leases/", 0, FAKE_CLOSE);
    expect(&d, TWINLEASE_EVENT_RENEWED); /* and no second word of the trouble */
    assert_int_equal(look(keeper).error.code, TWINLEASE_OK);
    stop(keeper);
    assert_int_equal(node->grants, 1);
    twinlease_close(handle);
}

static void node_that_stays_away_costs_the_lease(void **state)
{
    struct world *w = *state;
    struct fake_licences *node = &w->licences[0];
    struct diary d;

    start_nodes(w, 1);
    node->lease_lives = SHORT;
    struct twinlease *handle = open_world(w);
    struct twinlease_keeper *keeper = keep(handle, &d);
    struct told first = expect(&d, TWINLEASE_EVENT_ACQUIRED);
    spoil(node, "/v1/leases", 1000, FAKE_CLOSE);
    assert_string_equal(expect(&d, TWINLEASE_EVENT_TROUBLE).lease_ref, first.lease_ref);
    struct told lost = expect(&d, TWINLEASE_EVENT_LOST);
    assert_string_equal(lost.lease_ref, first.lease_ref);
    assert_int_equal(lost.code, TWINLEASE_LEASE_LOST);
    assert_non_null(strstr(lost.message, "could not be renewed"));
    assert_int_equal(lost.next_try_ms, 0);
    struct told denied = expect(&d, TWINLEASE_EVENT_DENIED);
    assert_int_equal(denied.code, TWINLEASE_NO_NODE);
    assert_in_range(denied.next_try_ms, 700, 1250);
    struct twinlease_kept kept = look(keeper);
    assert_int_equal(kept.held, 0);
    assert_int_equal(kept.expires_ms, 0);
    assert_string_equal(kept.lease_ref, "");
    set_lives(node, 3600);
    spoil(node, "/v1/leases", 0, FAKE_CLOSE);
    expect(&d, TWINLEASE_EVENT_ACQUIRED);
    stop(keeper);
    twinlease_close(handle);
}

/* One try must not take all the time that is left, nor outlive the lease. */
static void mute_node_is_waited_for_until_the_end(void **state)
{
    struct world *w = *state;
    struct fake_licences *node = &w->licences[0];
    struct diary d;

    start_nodes(w, 1);
    node->lease_lives = SHORT;
    struct twinlease *handle = open_world(w);
    struct twinlease_keeper *keeper = keep(handle, &d);
    expect(&d, TWINLEASE_EVENT_ACQUIRED);
    spoil(node, "/v1/leases/", 1000, FAKE_SILENCE);
    int64_t ends_ms = boot_now().ms + look(keeper).expires_in_ms;
    struct told lost = expect(&d, TWINLEASE_EVENT_LOST);
    int64_t late_ms = boot_now().ms - ends_ms;
    assert_non_null(strstr(lost.message, "no node answered within"));
    assert_in_range(late_ms + 5, 0, PATIENT_MS / 2); /* the call's own time would be PATIENT_MS */
    stop(keeper);
    twinlease_close(handle);
}

static void lease_ended_by_others_is_not_taken_again_at_once(void **state)
{
    struct world *w = *state;
    struct fake_licences *node = &w->licences[0];
    struct diary d;

    start_nodes(w, 1);
    node->renew_after = 0.1;
    struct twinlease *handle = open_world(w);
    struct twinlease_keeper *keeper = keep(handle, &d);
    struct told acquired = expect(&d, TWINLEASE_EVENT_ACQUIRED);
    fake_licences_refuse(node, "/v1/leases/", 1, 410, "lease_ended");
    struct told lost = expect(&d, TWINLEASE_EVENT_LOST);
    assert_string_equal(lost.lease_ref, acquired.lease_ref);
    assert_in_range(lost.next_try_ms, 5000, 7500);
    assert_in_range(look(keeper).next_try_ms, 1, 7500);
    assert_int_equal(look(keeper).held, 0);
    stop(keeper); /* at once: it is only waiting */
    assert_int_equal(read_count(node, &node->grants), 1);
    assert_int_equal(node->releases, 0);
    twinlease_close(handle);
}

static void forgotten_lease_is_replaced_at_once(void **state)
{
    struct world *w = *state;
    struct fake_licences *node = &w->licences[0];
    struct diary d;

    start_nodes(w, 1);
    node->renew_after = 0.1;
    struct twinlease *handle = open_world(w);
    struct twinlease_keeper *keeper = keep(handle, &d);
    struct told first = expect(&d, TWINLEASE_EVENT_ACQUIRED);
    fake_licences_refuse(node, "/v1/leases/", 1, 404, "lease_unknown");
    assert_int_equal(expect(&d, TWINLEASE_EVENT_LOST).next_try_ms, 0);
    struct told second = expect(&d, TWINLEASE_EVENT_ACQUIRED);
    assert_string_not_equal(first.lease_ref, second.lease_ref);
    stop(keeper);
    assert_int_equal(node->grants, 2);
    twinlease_close(handle);
}

static void kept_once_it_is_not_taken_again(void **state)
{
    struct world *w = *state;
    struct fake_licences *node = &w->licences[0];
    struct diary d;

    start_nodes(w, 1);
    node->renew_after = 0.1;
    struct twinlease *handle = open_world(w);
    struct twinlease_keep_options options = options_for(&d);
    options.flags = TWINLEASE_KEEP_ONCE;
    struct twinlease_keeper *keeper = keep_with(handle, &options);
    expect(&d, TWINLEASE_EVENT_ACQUIRED);
    fake_licences_refuse(node, "/v1/leases/", 1, 404, "lease_unknown");
    assert_int_equal(expect(&d, TWINLEASE_EVENT_LOST).next_try_ms, -1);
    assert_int_equal(look(keeper).next_try_ms, -1);
    assert_int_equal(look(keeper).error.code, TWINLEASE_LEASE_LOST);
    stop(keeper);
    assert_int_equal(node->grants, 1);
    assert_int_equal(node->releases, 0);
    twinlease_close(handle);
}

static void seat_is_waited_for(void **state)
{
    struct world *w = *state;
    struct fake_licences *node = &w->licences[0];
    struct diary d;

    start_nodes(w, 1);
    fake_licences_refuse(node, "/v1/leases", 2, 409, "no_free_seat");
    struct twinlease *handle = open_world(w);
    struct twinlease_keeper *keeper = keep(handle, &d);
    assert_int_equal(expect(&d, TWINLEASE_EVENT_DENIED).code, TWINLEASE_NO_SEAT);
    expect(&d, TWINLEASE_EVENT_ACQUIRED); /* the second denial is no news */
    stop(keeper);
    twinlease_close(handle);
}

/* ---- its end ----------------------------------------------------------------------------- */

static void stopping_does_not_wait_for_a_mute_node(void **state)
{
    struct world *w = *state;
    struct fake_licences *node = &w->licences[0];
    struct diary d;

    start_nodes(w, 1);
    struct twinlease_options options = options_of(w);
    options.connect_ms = options.attempt_ms = options.deadline_ms = 60 * PATIENT_MS;
    struct twinlease *handle = open_with(&options);
    spoil(node, "/v1/origins", 1, FAKE_SILENCE);
    struct twinlease_keeper *keeper = keep(handle, &d);
    int64_t began_ms = boot_now().ms;
    while (read_count(node, &node->times) && boot_now().ms < began_ms + PATIENT_MS)
        wait_ms(1);
    stop(keeper);
    assert_true(boot_now().ms - began_ms < 2 * PATIENT_MS);
    assert_int_equal(d.count, 0); /* being stopped is no denial */
    twinlease_close(handle);
}

static void failed_release_is_told(void **state)
{
    struct world *w = *state;
    struct fake_licences *node = &w->licences[0];
    struct diary d;

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    struct twinlease_keeper *keeper = keep(handle, &d);
    expect(&d, TWINLEASE_EVENT_ACQUIRED);
    spoil(node, "/v1/leases/", 1000, FAKE_CLOSE);
    assert_int_equal(twinlease_keeper_stop(keeper, 0, &error), TWINLEASE_NO_NODE);
    spoil(node, "/v1/leases/", 0, FAKE_CLOSE);
    struct twinlease_lease *lease = acquire(handle); /* nobody has it in use any more */
    assert_int_equal(twinlease_lease_resumed(lease), 1);
    twinlease_lease_free(lease);
    twinlease_close(handle);
}

static void interrupting_the_handle_leaves_keepers_alone(void **state)
{
    struct world *w = *state;
    struct diary d;

    start_nodes(w, 1);
    w->licences[0].renew_after = 0.1;
    struct twinlease *handle = open_world(w);
    twinlease_interrupt(handle);
    struct twinlease_keeper *keeper = keep(handle, &d);
    expect(&d, TWINLEASE_EVENT_ACQUIRED);
    expect(&d, TWINLEASE_EVENT_RENEWED);
    stop(keeper);
    assert_int_equal(w->licences[0].releases, 1);
    twinlease_close(handle);
}

static void callback_may_read_but_not_stop(void **state)
{
    struct world *w = *state;
    struct diary d;

    start_nodes(w, 1);
    w->licences[0].renew_after = 0.1;
    struct twinlease *handle = open_world(w);
    struct twinlease_keeper *keeper = keep(handle, &d);
    expect(&d, TWINLEASE_EVENT_ACQUIRED);
    pthread_mutex_lock(&d.lock);
    d.keeper = keeper;
    pthread_mutex_unlock(&d.lock);
    struct told renewed = expect(&d, TWINLEASE_EVENT_RENEWED);
    pthread_mutex_lock(&d.lock);
    assert_int_equal(d.stop_code, TWINLEASE_USAGE);
    assert_int_equal(d.kept.held, 1);
    assert_string_equal(d.kept.lease_ref, renewed.lease_ref);
    assert_int_equal(sigismember(&d.blocked, SIGTERM), 1);
    assert_int_equal(sigismember(&d.blocked, SIGSEGV), 0);
    pthread_mutex_unlock(&d.lock);
    sigset_t mine;
    pthread_sigmask(SIG_SETMASK, NULL, &mine);
    assert_int_equal(sigismember(&mine, SIGTERM), 0);
    stop(keeper);
    twinlease_close(handle);
}

/* ---- arguments --------------------------------------------------------------------------- */

static void assert_keep_fails(struct twinlease *handle, const char *feature,
                              const struct twinlease_keep_options *options,
                              enum twinlease_code code)
{
    struct twinlease_keeper *keeper = NULL;

    assert_int_equal(twinlease_keep(handle, feature, options, &keeper, &error), code);
    assert_int_equal(error.code, code);
    assert_true(strlen(error.message) > 10);
    assert_null(keeper);
}

static void arguments_are_checked(void **state)
{
    struct twinlease_list *list = NULL;
    struct world *w = *state;

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    struct twinlease_lease *lease = acquire(handle);
    struct twinlease_keep_options options = TWINLEASE_KEEP_OPTIONS_INIT;
    assert_keep_fails(handle, NULL, NULL, TWINLEASE_USAGE);
    assert_keep_fails(handle, "a b", &options, TWINLEASE_USAGE);
    options.count = -1;
    assert_keep_fails(handle, "render", &options, TWINLEASE_USAGE);
    options = (struct twinlease_keep_options)TWINLEASE_KEEP_OPTIONS_INIT;
    options.scope_ref = "no-uuid";
    assert_keep_fails(handle, "render", &options, TWINLEASE_USAGE);
    options = (struct twinlease_keep_options)TWINLEASE_KEEP_OPTIONS_INIT;
    options.flags = 1u << 2;
    assert_keep_fails(handle, "render", &options, TWINLEASE_USAGE);
    options = (struct twinlease_keep_options)TWINLEASE_KEEP_OPTIONS_INIT;
    options.size = 3;
    assert_keep_fails(handle, "render", &options, TWINLEASE_USAGE);
    options = (struct twinlease_keep_options)TWINLEASE_KEEP_OPTIONS_INIT;
    options.lease = lease;
    assert_keep_fails(handle, "simulate", &options, TWINLEASE_USAGE);
    options.count = 2;
    assert_keep_fails(handle, "render", &options, TWINLEASE_USAGE);
    options.count = 1;
    assert_int_equal(twinlease_recorded(handle, &list, &error), TWINLEASE_OK);
    options.lease = twinlease_list_at(list, 0);
    assert_keep_fails(handle, "render", &options, TWINLEASE_USAGE);
    twinlease_list_free(list);
    assert_int_equal(twinlease_release(handle, lease, &error),
                     TWINLEASE_OK); /* still the caller's */
    twinlease_lease_free(lease);
    twinlease_close(handle);
}

static void what_it_was_told_is_copied(void **state)
{
    char feature[] = "render", scope[] = "10000000-0000-4000-8000-0000000000BB";
    struct twinlease_keeper *keeper = NULL;
    struct world *w = *state;
    struct diary d;

    start_nodes(w, 1);
    fake_licences_refuse(&w->licences[0], "/v1/leases", 1, 409, "no_free_seat");
    struct twinlease *handle = open_world(w);
    struct twinlease_keep_options options = options_for(&d);
    options.count = 2;
    options.duration_seconds = 77;
    options.scope_ref = scope;
    assert_int_equal(twinlease_keep(handle, feature, &options, &keeper, &error), TWINLEASE_OK);
    memset(feature, 'x', sizeof feature);
    memset(scope, 'x', sizeof scope);
    memset(&options, 'x', sizeof options);
    expect(&d, TWINLEASE_EVENT_DENIED);
    expect(&d, TWINLEASE_EVENT_ACQUIRED);
    assert_int_equal(look(keeper).count, 2);
    assert_non_null(strstr(w->licences[0].last_body,
                           "\"scope_ref\":\"10000000-0000-4000-8000-0000000000bb\",\"count\":2,"
                           "\"duration_seconds\":77,"));
    stop(keeper);
    twinlease_close(handle);
}

static void older_and_newer_programs_can_read(void **state)
{
    struct {
        struct twinlease_kept kept;
        int64_t later;
    } newer;
    struct world *w = *state;
    struct diary d;

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    struct twinlease_keeper *keeper = keep(handle, &d);
    expect(&d, TWINLEASE_EVENT_ACQUIRED);
    memset(&newer, 'x', sizeof newer);
    newer.kept.size = sizeof newer;
    assert_int_equal(twinlease_keeper_read(keeper, &newer.kept), TWINLEASE_OK);
    assert_int_equal(newer.kept.size, sizeof newer);
    assert_int_equal(newer.kept.held, 1);
    assert_int_equal(newer.later, 0);
    memset(&newer, 'x', sizeof newer);
    newer.kept.size = offsetof(struct twinlease_kept, count);
    assert_int_equal(twinlease_keeper_read(keeper, &newer.kept), TWINLEASE_OK);
    assert_int_equal(newer.kept.held, 1);
    assert_memory_equal(&newer.kept.count, "xxxxxxxx", 8);
    newer.kept.size = 0;
    assert_int_equal(twinlease_keeper_read(keeper, &newer.kept), TWINLEASE_USAGE);
    assert_int_equal(twinlease_keeper_stop(keeper, 1u << 7, &error), TWINLEASE_USAGE);
    assert_int_equal(w->licences[0].releases, 1); /* and has stopped all the same */
    twinlease_close(handle);
}

static void without_descriptors_there_is_no_keeper(void **state)
{
    struct rlimit before, none;
    struct world *w = *state;

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    struct twinlease_lease *lease = acquire(handle);
    struct twinlease_keep_options options = TWINLEASE_KEEP_OPTIONS_INIT;
    options.lease = lease;
    getrlimit(RLIMIT_NOFILE, &before);
    for (rlim_t more = 0; more < 3; more++) { /* none for the first, the second, the third */
        int next = dup(0);
        close(next);
        none = (struct rlimit){ (rlim_t)next + more, before.rlim_max };
        setrlimit(RLIMIT_NOFILE, &none);
        assert_keep_fails(handle, "render", &options, TWINLEASE_ERROR);
        setrlimit(RLIMIT_NOFILE, &before);
    }
    assert_int_equal(twinlease_release(handle, lease, &error),
                     TWINLEASE_OK); /* still the caller's */
    twinlease_lease_free(lease);
    twinlease_close(handle);
}

/* The linker makes it of every call in the library (--wrap). */
static int failure_to_start;
int __real_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
int __wrap_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *context)
{
    if (failure_to_start)
        return failure_to_start;
    return __real_pthread_create(thread, attributes, start, context);
}

static void without_a_thread_there_is_no_keeper(void **state)
{
    struct world *w = *state;
    sigset_t mine;

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    struct twinlease_lease *lease = acquire(handle);
    struct twinlease_keep_options options = TWINLEASE_KEEP_OPTIONS_INIT;
    options.lease = lease;
    failure_to_start = EAGAIN;
    assert_keep_fails(handle, "render", &options, TWINLEASE_ERROR);
    failure_to_start = 0;
    pthread_sigmask(SIG_SETMASK, NULL, &mine);
    assert_int_equal(sigismember(&mine, SIGTERM), 0);
    assert_int_equal(twinlease_release(handle, lease, &error),
                     TWINLEASE_OK); /* still the caller's */
    twinlease_lease_free(lease);
    twinlease_close(handle);
}

/* ---- alarms ------------------------------------------------------------------------------ */

static void alarm_goes_off_at_its_time_or_when_stopped(void **state)
{
    struct alarm alarm;

    (void)state;
    assert_true(alarm_init(&alarm));
    assert_false(cancel_raised(&alarm.any)); /* never set: never */
    alarm_set(&alarm, (struct boot){ 0 });
    alarm_wait(&alarm); /* passed long ago */
    assert_true(cancel_raised(&alarm.any));
    alarm_set(&alarm, (struct boot){ -1 });
    assert_false(cancel_raised(&alarm.any));
    struct boot at = { boot_now().ms + 50 };
    alarm_set(&alarm, at);
    assert_true(!cancel_raised(&alarm.any) || boot_now().ms >= at.ms);
    alarm_wait(&alarm);
    assert_true(boot_now().ms >= at.ms);
    alarm_set(&alarm, (struct boot){ at.ms + DAY_MS * 36500 });
    assert_false(cancel_raised(&alarm.any));
    cancel_raise(&alarm.stop);
    alarm_wait(&alarm);
    assert_true(cancel_raised(&alarm.any));
    alarm_fini(&alarm);
    alarm_fini(&alarm);
}

static void events_have_names(void **state)
{
    (void)state;
    assert_string_equal(twinlease_event_name(TWINLEASE_EVENT_ACQUIRED), "acquired");
    assert_string_equal(twinlease_event_name(TWINLEASE_EVENT_RENEWED), "renewed");
    assert_string_equal(twinlease_event_name(TWINLEASE_EVENT_TROUBLE), "trouble");
    assert_string_equal(twinlease_event_name(TWINLEASE_EVENT_LOST), "lost");
    assert_string_equal(twinlease_event_name(TWINLEASE_EVENT_DENIED), "denied");
    assert_string_equal(twinlease_event_name((enum twinlease_event)0), "");
    assert_string_equal(twinlease_event_name((enum twinlease_event)6), "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(lease_is_held_renewed_and_given_back),
        TEST(without_options_it_keeps_one_seat),
        TEST(stopped_with_its_lease_the_next_finds_it),
        TEST(lease_brought_along_becomes_the_keepers),
        TEST(unconfirmed_lease_is_renewed_first),
        TEST(steps_of_the_wall_clock_change_nothing),
        TEST(several_keep_one_each),
        TEST(node_that_comes_back_in_time_costs_nothing),
        TEST(node_that_stays_away_costs_the_lease),
        TEST(mute_node_is_waited_for_until_the_end),
        TEST(lease_ended_by_others_is_not_taken_again_at_once),
        TEST(forgotten_lease_is_replaced_at_once),
        TEST(kept_once_it_is_not_taken_again),
        TEST(seat_is_waited_for),
        TEST(stopping_does_not_wait_for_a_mute_node),
        TEST(failed_release_is_told),
        TEST(interrupting_the_handle_leaves_keepers_alone),
        TEST(callback_may_read_but_not_stop),
        TEST(arguments_are_checked),
        TEST(with_grace_a_recorded_lease_needs_no_node),
        TEST(what_it_was_told_is_copied),
        TEST(older_and_newer_programs_can_read),
        TEST(without_descriptors_there_is_no_keeper),
        TEST(without_a_thread_there_is_no_keeper),
        cmocka_unit_test(alarm_goes_off_at_its_time_or_when_stopped),
        cmocka_unit_test(events_have_names),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
