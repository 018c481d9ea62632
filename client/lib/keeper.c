/* Keepers: a thread each, which carries out what a plan (keeper_plan.h) orders.
 *
 * The lease belongs to the thread alone; who stops the keeper has it after the thread has ended.
 * What others may know stands in a snapshot (`view`), renewed whenever something has come of an
 * order, before anybody is told. Calls to the nodes end when the keeper is stopped, and renewals
 * also when their time is over, by way of `alarm`; only the release at the end has a call's whole
 * time. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "alarm.h"
#include "base/random.h"
#include "keeper_plan.h"
#include "leasing.h"
#include "options.h"

#define FLAGS_KNOWN (unsigned)(TWINLEASE_KEEP_ONCE | TWINLEASE_KEEP_GRACE)
#define CONFIRM_MS  2000      /* after a lease was taken without asking a node */
#define STACK_SIZE  (1 << 20) /* touched as needed; callbacks run in it, too */

struct keeper_view {
    struct twinlease_kept kept; /* all but the spans */
    bool holding;
    struct boot ends, renew; /* while holding */
    struct boot next_try;    /* below 0: never */
};

struct twinlease_keeper {
    struct twinlease *handle;
    char *feature, *scope_ref;
    struct twinlease_acquire_options wish;
    twinlease_change_fn changed;
    void *context;
    struct alarm alarm;
    pthread_t thread;
    /* the thread's */
    struct keeper_plan plan;
    struct twinlease_lease *lease; /* NULL: none is held */
    struct twinlease_error error;  /* why the last try failed; code OK: it did not */
    pthread_mutex_t lock;          /* guards what follows */
    struct keeper_view view;
};

const char *twinlease_event_name(enum twinlease_event event)
{
    switch (event) {
    case TWINLEASE_EVENT_ACQUIRED:
        return "acquired";
    case TWINLEASE_EVENT_RENEWED:
        return "renewed";
    case TWINLEASE_EVENT_TROUBLE:
        return "trouble";
    case TWINLEASE_EVENT_LOST:
        return "lost";
    case TWINLEASE_EVENT_DENIED:
        return "denied";
    }
    return "";
}

/* ---- the snapshot ------------------------------------------------------------------------ */

static void view_lease(struct keeper_view *view, const struct twinlease_lease *lease)
{
    struct twinlease_kept *kept = &view->kept;

    view->holding = true;
    view->ends = lease->ends;
    view->renew = lease->renew;
    kept->acquired_ms = lease->created_ms;
    kept->expires_ms = lease->expires_ms;
    memcpy(kept->lease_ref, lease->lease_text, sizeof lease->lease_text);
    memcpy(kept->scope_ref, lease->scope_text, sizeof lease->scope_text);
    memcpy(kept->home, lease->home_text, sizeof lease->home_text);
}

static void publish(struct twinlease_keeper *k)
{
    struct keeper_view view = { .kept = { .count = k->wish.count, .error = k->error } };

    _Static_assert(sizeof view.kept.lease_ref >= UUID_TEXT_SIZE, "room for a UUID");
    _Static_assert(sizeof view.kept.feature > FEATURE_NAME_MAX, "room for a feature name");
    memcpy(view.kept.feature, k->feature, strlen(k->feature) + 1);
    view.next_try.ms = k->plan.phase == KEEPER_OVER ? -1 : k->plan.next_ms;
    if (k->plan.phase == KEEPER_HOLDING)
        view_lease(&view, k->lease);
    must(pthread_mutex_lock(&k->lock) == 0);
    k->view = view;
    must(pthread_mutex_unlock(&k->lock) == 0);
}

static int64_t ms_until(struct boot then, struct boot now)
{
    return then.ms > now.ms ? then.ms - now.ms : 0;
}

enum twinlease_code twinlease_keeper_read(struct twinlease_keeper *k, struct twinlease_kept *out)
{
    size_t size = out->size, known = sizeof *out;

    if (size < sizeof size)
        return TWINLEASE_USAGE;
    must(pthread_mutex_lock(&k->lock) == 0);
    struct keeper_view view = k->view;
    must(pthread_mutex_unlock(&k->lock) == 0);
    struct boot now = boot_now();
    struct twinlease_kept *kept = &view.kept;
    kept->size = size;
    kept->held = view.holding && now.ms < view.ends.ms;
    kept->expires_in_ms = ms_until(view.ends, now);
    kept->renew_in_ms = kept->held ? ms_until(view.renew, now) : 0;
    kept->next_try_ms = view.next_try.ms < 0 ? -1 : ms_until(view.next_try, now);
    if (!kept->held)
        kept->acquired_ms = kept->expires_ms = 0;
    memset(out, 0, size);
    memcpy(out, kept, size < known ? size : known);
    return TWINLEASE_OK;
}

/* ---- the thread -------------------------------------------------------------------------- */

static bool stopped(const struct twinlease_keeper *k)
{
    return cancel_raised(&k->alarm.stop);
}

/* What was granted may be over by the time the answer is here. */
static enum keeper_what note_grant(struct twinlease_keeper *k, const struct twinlease_lease *lease,
                                   struct keeper_news *news)
{
    news->now_ms = boot_now().ms;
    news->ends_ms = lease->ends.ms;
    news->renew_ms = lease->renew.ms;
    if (lease->unconfirmed) /* whether it is still there, a node is to say soon */
        news->renew_ms = news->now_ms + CONFIRM_MS;
    if (news->ends_ms > news->now_ms)
        return KEEPER_GRANTED;
    fault_set(&k->error, TWINLEASE_NO_NODE,
              "the node took so long to answer that the lease was over when it did; have leases of "
              "%s last longer",
              k->feature);
    return KEEPER_FAILED;
}

static enum keeper_what acquire(struct twinlease_keeper *k, struct keeper_news *news)
{
    struct twinlease_lease *lease;

    alarm_set(&k->alarm, (struct boot){ -1 });
    if (leasing_acquire(k->handle, k->feature, &k->wish, &k->alarm.any, &lease, &k->error) !=
        TWINLEASE_OK)
        return KEEPER_FAILED;
    enum keeper_what what = note_grant(k, lease, news);
    if (what == KEEPER_GRANTED)
        k->lease = lease;
    else
        twinlease_lease_free(lease); /* the next acquire finds and drops it */
    return what;
}

static enum keeper_what renew(struct twinlease_keeper *k, struct boot until,
                              struct keeper_news *news)
{
    struct boot began = boot_now();

    alarm_set(&k->alarm, until);
    enum twinlease_code code = leasing_renew(k->handle, k->lease, &k->alarm.any, &k->error);
    if (code == TWINLEASE_OK)
        return note_grant(k, k->lease, news);
    if (code == TWINLEASE_INTERRUPTED && !stopped(k))
        fault_set(&k->error, TWINLEASE_NO_NODE, "no node answered within %lld ms",
                  (long long)(boot_now().ms - began.ms));
    return KEEPER_FAILED;
}

static void carry_out(struct twinlease_keeper *k, const struct keeper_orders *orders,
                      struct keeper_news *news)
{
    struct boot until = { orders->until_ms };

    news->what = KEEPER_NOTHING;
    switch (orders->deed) {
    case KEEPER_ACQUIRE:
        news->what = acquire(k, news);
        break;
    case KEEPER_RENEW:
        news->what = renew(k, until, news);
        break;
    case KEEPER_WAIT:
        alarm_set(&k->alarm, until);
        alarm_wait(&k->alarm);
        break;
    }
    if (news->what != KEEPER_GRANTED)
        news->now_ms = boot_now().ms;
}

/* The reason of a loss that no node told. */
static void explain_expiry(struct twinlease_keeper *k)
{
    const struct twinlease_error why = k->error;

    if (why.code == TWINLEASE_OK)
        fault_set(&k->error, TWINLEASE_LEASE_LOST,
                  "the lease of %s expired while this machine or this program stood still",
                  k->feature);
    else
        fault_set(&k->error, TWINLEASE_LEASE_LOST,
                  "the lease of %s expired, because it could not be renewed: %s", k->feature,
                  why.message);
}

static void tell(struct twinlease_keeper *k, enum twinlease_event event, int64_t now_ms)
{
    const struct twinlease_change change = {
        .size = sizeof change,
        .event = event,
        .lease = k->lease,
        .error = k->error.code != TWINLEASE_OK ? &k->error : NULL,
        .next_try_ms = keeper_plan_next_try(&k->plan, now_ms),
    };

    if (k->changed && event)
        k->changed(k->context, &change);
}

static void *run(void *context)
{
    struct twinlease_keeper *k = context;
    struct keeper_news news = { .what = KEEPER_NOTHING, .now_ms = boot_now().ms };

    news.error = &k->error;
    while (!stopped(k)) {
        random_bytes(&news.random, sizeof news.random);
        struct keeper_orders orders = keeper_plan_step(&k->plan, &news);
        if (orders.event == TWINLEASE_EVENT_LOST && k->error.code != TWINLEASE_LEASE_LOST)
            explain_expiry(k);
        publish(k);
        tell(k, orders.event, news.now_ms);
        if (orders.event == TWINLEASE_EVENT_LOST) {
            twinlease_lease_free(k->lease);
            k->lease = NULL;
        }
        carry_out(k, &orders, &news);
    }
    return NULL;
}

/* ---- beginning and end ------------------------------------------------------------------- */

static enum twinlease_code read_options(const char *feature,
                                        const struct twinlease_keep_options *options,
                                        struct twinlease_keep_options *out,
                                        struct twinlease_acquire_options *wish,
                                        struct twinlease_error *error)
{
    if (options && !options_take(out, sizeof *out, options))
        return fault_set(error, TWINLEASE_USAGE,
                         "the options are not those of this library (%s): initialise them with "
                         "TWINLEASE_KEEP_OPTIONS_INIT",
                         TWINLEASE_VERSION);
    if (out->flags & ~FLAGS_KNOWN)
        return fault_set(error, TWINLEASE_USAGE, "flags is 0x%x, and only 0x%x is known",
                         out->flags, FLAGS_KNOWN);
    *wish = (struct twinlease_acquire_options){
        .size = sizeof *wish,
        .count = out->count ? out->count : 1,
        .duration_seconds = out->duration_seconds,
        .scope_ref = out->scope_ref,
        .flags = out->flags & TWINLEASE_KEEP_GRACE ? TWINLEASE_ACQUIRE_GRACE : 0,
    };
    enum twinlease_code code = leasing_check(feature, wish, error);
    if (code != TWINLEASE_OK || !out->lease)
        return code;
    if (strcmp(out->lease->feature, feature) != 0 || out->lease->count != wish->count)
        return fault_set(error, TWINLEASE_USAGE,
                         "the lease to begin with is of %lld seats of %s, not of %lld of %s",
                         (long long)out->lease->count, out->lease->feature, (long long)wish->count,
                         feature);
    if (!out->lease->claimed_in)
        return fault_set(error, TWINLEASE_USAGE,
                         "the lease to begin with belongs to a list; hand over one that acquire "
                         "gave");
    return TWINLEASE_OK;
}

static struct twinlease_keeper *keeper_free(struct twinlease_keeper *k)
{
    alarm_fini(&k->alarm);
    pthread_mutex_destroy(&k->lock);
    mem_free(k->feature);
    mem_free(k->scope_ref);
    mem_free(k);
    return NULL;
}

/* NULL with errno: no descriptor is left. */
static struct twinlease_keeper *keeper_new(struct twinlease *handle, const char *feature,
                                           const struct twinlease_keep_options *options,
                                           const struct twinlease_acquire_options *wish)
{
    struct twinlease_keeper *k = mem_calloc(1, sizeof *k);

    k->handle = handle;
    k->feature = mem_strdup(feature);
    k->scope_ref = wish->scope_ref ? mem_strdup(wish->scope_ref) : NULL;
    k->wish = *wish;
    k->wish.scope_ref = k->scope_ref;
    k->changed = options->changed;
    k->context = options->context;
    fault_clear(&k->error);
    must(pthread_mutex_init(&k->lock, NULL) == 0);
    return alarm_init(&k->alarm) ? k : keeper_free(k);
}

/* With the lease, if there is one. */
static void begin(struct twinlease_keeper *k, struct twinlease_lease *lease)
{
    struct keeper_news news = { .now_ms = boot_now().ms };

    random_bytes(&news.random, sizeof news.random);
    if (lease) {
        k->lease = lease;
        news.ends_ms = lease->ends.ms;
        news.renew_ms = lease->unconfirmed ? news.now_ms : lease->renew.ms;
        keeper_plan_adopt(&k->plan, &news);
    }
    publish(k);
}

/* Signals go to the program's own threads, except those that a thread brings upon itself. */
static int start_thread(struct twinlease_keeper *k)
{
    static const int own[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
    pthread_attr_t attributes;
    sigset_t blocked, before;

    sigfillset(&blocked);
    for (size_t i = 0; i < ARRAY_SIZE(own); i++)
        sigdelset(&blocked, own[i]);
    must(pthread_attr_init(&attributes) == 0);
    must(pthread_attr_setstacksize(&attributes, STACK_SIZE) == 0);
    must(pthread_sigmask(SIG_SETMASK, &blocked, &before) == 0);
    int failure = pthread_create(&k->thread, &attributes, run, k);
    must(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    pthread_attr_destroy(&attributes);
    return failure;
}

enum twinlease_code twinlease_keep(struct twinlease *handle, const char *feature,
                                   const struct twinlease_keep_options *options,
                                   struct twinlease_keeper **out, struct twinlease_error *error)
{
    struct twinlease_keep_options given = { .size = sizeof given };
    struct twinlease_acquire_options wish;
    struct twinlease_error spare;
    int failure;

    error = error_or(error, &spare);
    enum twinlease_code code = read_options(feature, options, &given, &wish, error);
    if (code != TWINLEASE_OK)
        return code;
    struct twinlease_keeper *k = keeper_new(handle, feature, &given, &wish);
    if (!k)
        return fault_set(error, TWINLEASE_ERROR, "no file descriptor is left: %s", strerror(errno));
    keeper_plan_init(&k->plan, given.flags & TWINLEASE_KEEP_ONCE, boot_now().ms);
    begin(k, given.lease);
    if ((failure = start_thread(k)) != 0) {
        keeper_free(k);
        return fault_set(error, TWINLEASE_ERROR, "no thread can be started: %s", strerror(failure));
    }
    *out = k;
    return TWINLEASE_OK;
}

enum twinlease_code twinlease_keeper_stop(struct twinlease_keeper *k, unsigned flags,
                                          struct twinlease_error *error)
{
    enum twinlease_code code = TWINLEASE_OK;
    struct twinlease_error spare;

    error = error_or(error, &spare);
    if (!k)
        return TWINLEASE_OK;
    if (pthread_equal(pthread_self(), k->thread))
        return fault_set(error, TWINLEASE_USAGE, "a keeper cannot be stopped by its own callback");
    cancel_raise(&k->alarm.stop);
    must(pthread_join(k->thread, NULL) == 0);
    if (k->lease && !(flags & TWINLEASE_STOP_LEASED))
        code = leasing_release(k->handle, k->lease, NULL, error);
    twinlease_lease_free(k->lease);
    keeper_free(k);
    if (code == TWINLEASE_OK && flags & ~(unsigned)TWINLEASE_STOP_LEASED)
        code = fault_set(error, TWINLEASE_USAGE, "flags is 0x%x, and only 0x%x is known", flags,
                         (unsigned)TWINLEASE_STOP_LEASED);
    return code;
}
