#include "seat.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include "base/log.h"
#include "fault.h"
#include "proof.h"
#include "tool/output.h"

#define RELEASE_PAUSE_MS 2000 /* between tries to give a lease back that stands in the way */
#define LEASE_TEXT       80

enum seat_state {
    SEAT_IDLE, /* nothing is held or asked for */
    SEAT_KEPT, /* by `keeper` */
    SEAT_ENDING
};

/* What the keeper's thread last heard of its lease. */
struct evidence {
    uint64_t version;
    char lease_ref[UUID_TEXT_SIZE]; /* "": none is held */
    char *token, *entitlement, *proof;
    struct twinlease_error verdict; /* of the verification; code OK: it counts */
    bool troubled;                  /* the next renewal is worth a line: the last one failed */
};

struct seat {
    struct desk *desk;
    enum seat_state state;
    struct wanted wanted; /* what is held, asked for or ended */
    bool has_next;        /* while IDLE or ENDING: what comes then */
    struct wanted next;
    struct twinlease_keeper *keeper;
    pthread_t ender;
    bool threaded; /* `ender` is one */
    enum seat_end how;
    unsigned busy;       /* calls of seat_moves() */
    struct diag failure; /* why it could not be started, as last logged */
    /* under desk->lock */
    struct evidence evidence;
    bool ended;
    struct twinlease_error end_error; /* of the release; code OK: it is back */
};

/* ---- the desk ---------------------------------------------------------------------------- */

void desk_init(struct desk *desk, struct twinlease *handle, int wake_fd)
{
    pthread_condattr_t attributes;

    *desk = (struct desk){ .handle = handle, .wake_fd = wake_fd };
    must(pthread_condattr_init(&attributes) == 0);
    must(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
    must(pthread_cond_init(&desk->leave, &attributes) == 0);
    must(pthread_mutex_init(&desk->lock, NULL) == 0);
    pthread_condattr_destroy(&attributes);
}

void desk_fini(struct desk *desk)
{
    mem_free(desk->publisher_key);
    pthread_cond_destroy(&desk->leave);
    pthread_mutex_destroy(&desk->lock);
}

static void lock(struct desk *desk)
{
    must(pthread_mutex_lock(&desk->lock) == 0);
}

static void unlock(struct desk *desk)
{
    must(pthread_mutex_unlock(&desk->lock) == 0);
}

static void wake(struct desk *desk)
{
    /* It fails only if the loop has more to look at than it can count. */
    (void)eventfd_write(desk->wake_fd, 1);
}

void desk_key(struct desk *desk, char *publisher_key)
{
    lock(desk);
    mem_free(desk->publisher_key);
    desk->publisher_key = publisher_key;
    unlock(desk);
}

void desk_leave(struct desk *desk)
{
    lock(desk);
    desk->leaving = true;
    pthread_cond_broadcast(&desk->leave);
    unlock(desk);
}

/* False: the agent stops. */
static bool pause_release(struct desk *desk)
{
    struct timespec until = deadline_after(RELEASE_PAUSE_MS);
    bool leaving;

    lock(desk);
    while (!desk->leaving && pthread_cond_timedwait(&desk->leave, &desk->lock, &until) == 0)
        ;
    leaving = desk->leaving;
    unlock(desk);
    return !leaving;
}

/* ---- evidence ---------------------------------------------------------------------------- */

static void evidence_clear(struct evidence *e)
{
    mem_free(e->token);
    mem_free(e->entitlement);
    mem_free(e->proof);
    *e = (struct evidence){ .version = e->version + 1 };
}

/* With the lock. */
static void evidence_verify(struct evidence *e, const struct desk *desk)
{
    struct twinlease_verify_options options = TWINLEASE_VERIFY_OPTIONS_INIT;

    fault_clear(&e->verdict);
    e->version++;
    if (!desk->publisher_key || !e->token)
        return;
    options.publisher_key_pem = desk->publisher_key;
    options.entitlement = e->entitlement;
    options.lease_token = e->token;
    options.instance_jwks = twinlease_instance_jwks(desk->handle);
    if (twinlease_verify(&options, &e->verdict) != TWINLEASE_OK)
        must(e->verdict.code != TWINLEASE_OK);
}

static void evidence_take(struct evidence *e, const struct desk *desk,
                          const struct twinlease_lease *lease)
{
    const char *lease_ref = twinlease_lease_ref(lease);

    evidence_clear(e);
    must(strlen(lease_ref) < sizeof e->lease_ref);
    memcpy(e->lease_ref, lease_ref, strlen(lease_ref) + 1);
    e->token = mem_strdup(twinlease_lease_token(lease));
    e->entitlement = mem_strdup(twinlease_lease_entitlement(lease));
    e->proof = proof_text(lease, twinlease_instance_jwks(desk->handle));
    e->troubled = twinlease_lease_unconfirmed(lease);
    evidence_verify(e, desk);
}

/* ---- the log ----------------------------------------------------------------------------- */

/* "render, 2 seats" */
static const char *seats_text(const struct wanted *wanted, char out[LEASE_TEXT + FEATURE_NAME_MAX])
{
    snprintf(out, LEASE_TEXT + FEATURE_NAME_MAX, "%s, %" PRId64 " %s", wanted->feature,
             wanted->count, plural(wanted->count));
    return out;
}

static void log_held(const struct seat *seat, enum log_level level, const char *event,
                     const char *what, const struct twinlease_lease *lease)
{
    char seats[LEASE_TEXT + FEATURE_NAME_MAX], until[WHEN_SIZE];

    when_format(twinlease_lease_expires_ms(lease), until);
    log_event_with(level, event,
                   LOG_FIELDS("feature", seat->wanted.feature, "lease_ref",
                              twinlease_lease_ref(lease), "expires", until),
                   "License %s: %s, until %s", what, seats_text(&seat->wanted, seats), until);
}

static void log_without(const struct seat *seat, enum log_level level, const char *event,
                        const char *what, const struct twinlease_change *change)
{
    const char *why = change->error ? change->error->message : "";
    char seats[LEASE_TEXT + FEATURE_NAME_MAX], again[40] = "";

    if (change->next_try_ms >= 0)
        snprintf(again, sizeof again, "; next try in %" PRId64 " s",
                 (change->next_try_ms + 999) / 1000);
    log_event_with(
        level, event,
        LOG_FIELDS("feature", seat->wanted.feature, "code",
                   twinlease_code_name(change->error ? change->error->code : TWINLEASE_ERROR)),
        "License %s: %s: %s%s", what, seats_text(&seat->wanted, seats), why, again);
}

static void log_refused(const struct seat *seat, const struct twinlease_error *verdict)
{
    log_event_with(
        LOG_ERROR, "license_unverified",
        LOG_FIELDS("feature", seat->wanted.feature, "link", twinlease_link_name(verdict->link)),
        "License does not count: %s: %s", seat->wanted.feature, verdict->message);
}

static const char *how_acquired(const struct twinlease_lease *lease)
{
    if (twinlease_lease_unconfirmed(lease))
        return "found again, and still valid though no node answers";
    return twinlease_lease_resumed(lease) ? "found again" : "acquired";
}

/* ---- the keeper's thread ----------------------------------------------------------------- */

static void on_lease(struct seat *seat, const struct twinlease_change *change)
{
    struct evidence *e = &seat->evidence;
    struct desk *desk = seat->desk;

    lock(desk);
    bool troubled = e->troubled, first = change->event == TWINLEASE_EVENT_ACQUIRED;
    enum twinlease_code before = e->verdict.code;
    evidence_take(e, desk, change->lease);
    const struct twinlease_error verdict = e->verdict;
    unlock(desk);
    if (verdict.code != TWINLEASE_OK && (first || before != verdict.code))
        log_refused(seat, &verdict);
    else if (verdict.code != TWINLEASE_OK)
        return;
    else if (first)
        log_held(seat, LOG_INFO, "license_acquired", how_acquired(change->lease), change->lease);
    else
        log_held(seat, troubled || before != TWINLEASE_OK ? LOG_INFO : LOG_DEBUG, "license_renewed",
                 "renewed", change->lease);
}

static void on_change(void *context, const struct twinlease_change *change)
{
    struct seat *seat = context;
    struct desk *desk = seat->desk;

    switch (change->event) {
    case TWINLEASE_EVENT_ACQUIRED:
    case TWINLEASE_EVENT_RENEWED:
        on_lease(seat, change);
        break;
    case TWINLEASE_EVENT_TROUBLE:
        lock(desk);
        seat->evidence.troubled = true;
        unlock(desk);
        log_without(seat, LOG_WARNING, "license_trouble", "not renewed yet", change);
        break;
    case TWINLEASE_EVENT_LOST:
    case TWINLEASE_EVENT_DENIED:
        lock(desk);
        evidence_clear(&seat->evidence);
        unlock(desk);
        if (change->event == TWINLEASE_EVENT_LOST)
            log_without(seat, LOG_ERROR, "license_lost", "lost", change);
        else
            log_without(seat, LOG_WARNING, "license_denied", "denied", change);
        break;
    }
    wake(desk);
}

/* ---- the end ----------------------------------------------------------------------------- */

DEFINE_AUTO(struct twinlease_list *, twinlease_list_free)

/* Gives back a lease that only the state folder knows by now. OK also if it is over. */
static enum twinlease_code release_recorded(struct twinlease *handle, const char *lease_ref,
                                            struct twinlease_error *error)
{
    AUTO(twinlease_list_free) struct twinlease_list *list = NULL;
    enum twinlease_code code = twinlease_recorded(handle, &list, error);

    for (size_t i = 0; code == TWINLEASE_OK && i < twinlease_list_count(list); i++) {
        struct twinlease_lease *lease = twinlease_list_at(list, i);
        if (strcmp(twinlease_lease_ref(lease), lease_ref) == 0 &&
            twinlease_lease_expires_in_ms(lease) > 0)
            code = twinlease_release(handle, lease, error);
    }
    return code == TWINLEASE_LEASE_LOST ? TWINLEASE_OK : code;
}

static void *run_end(void *context)
{
    struct seat *seat = context;
    struct desk *desk = seat->desk;
    struct twinlease_error error;
    enum twinlease_code code = TWINLEASE_OK;
    char lease_ref[UUID_TEXT_SIZE];

    fault_clear(&error);
    if (seat->keeper)
        code = twinlease_keeper_stop(TAKE(seat->keeper),
                                     seat->how == SEAT_KEEP ? TWINLEASE_STOP_LEASED : 0, &error);
    else
        code = release_recorded(desk->handle, seat->evidence.lease_ref, &error);
    lock(desk);
    memcpy(lease_ref, seat->evidence.lease_ref, sizeof lease_ref);
    unlock(desk);
    while (code != TWINLEASE_OK && *lease_ref && pause_release(desk))
        code = release_recorded(desk->handle, lease_ref, &error);
    lock(desk);
    seat->end_error = error;
    seat->end_error.code = code;
    seat->ended = true;
    unlock(desk);
    wake(desk);
    return NULL;
}

static void begin_end(struct seat *seat, enum seat_end how)
{
    seat->how = how;
    seat->ended = false;
    seat->state = SEAT_ENDING;
    seat->threaded = pthread_create(&seat->ender, NULL, run_end, seat) == 0;
    if (!seat->threaded)
        run_end(seat); /* slower, and the same */
}

static void log_end(const struct seat *seat)
{
    char seats[LEASE_TEXT + FEATURE_NAME_MAX];

    seats_text(&seat->wanted, seats);
    if (!*seat->evidence.lease_ref)
        return;
    if (seat->how == SEAT_KEEP)
        log_event_with(LOG_INFO, "license_kept", LOG_FIELDS("feature", seat->wanted.feature),
                       "License kept for the next start: %s", seats);
    else if (seat->end_error.code == TWINLEASE_OK)
        log_event_with(LOG_INFO, "license_released", LOG_FIELDS("feature", seat->wanted.feature),
                       "License released: %s", seats);
    else
        log_event_with(LOG_WARNING, "license_not_released",
                       LOG_FIELDS("feature", seat->wanted.feature, "code",
                                  twinlease_code_name(seat->end_error.code)),
                       "License not released, so it comes back when its lease ends: %s: %s", seats,
                       seat->end_error.message);
}

/* ---- life -------------------------------------------------------------------------------- */

struct seat *seat_new(struct desk *desk, const struct wanted *wanted)
{
    struct seat *seat = mem_calloc(1, sizeof *seat);

    seat->desk = desk;
    seat->wanted = seat->next = *wanted;
    seat->has_next = true;
    return seat;
}

struct seat *seat_new_ending(struct desk *desk, const char *lease_ref, const struct wanted *was,
                             const struct wanted *wanted)
{
    struct seat *seat = seat_new(desk, was);

    must(strlen(lease_ref) < sizeof seat->evidence.lease_ref);
    memcpy(seat->evidence.lease_ref, lease_ref, strlen(lease_ref) + 1);
    seat->has_next = wanted != NULL;
    if (wanted)
        seat->next = *wanted;
    begin_end(seat, SEAT_RELEASE);
    return seat;
}

void seat_free(struct seat *seat)
{
    if (!seat)
        return;
    must(seat->state == SEAT_IDLE && !seat->keeper);
    evidence_clear(&seat->evidence);
    mem_free(seat);
}

static bool wanted_equal(const struct wanted *a, const struct wanted *b)
{
    return strcmp(a->feature, b->feature) == 0 && strcmp(a->scope_ref, b->scope_ref) == 0 &&
           a->count == b->count;
}

const struct wanted *seat_wanted(const struct seat *seat)
{
    if (seat->state == SEAT_KEPT)
        return &seat->wanted;
    return seat->has_next ? &seat->next : NULL;
}

void seat_want(struct seat *seat, const struct wanted *wanted)
{
    if (seat->state == SEAT_KEPT && wanted && wanted_equal(&seat->wanted, wanted))
        return;
    seat->has_next = wanted != NULL;
    if (wanted)
        seat->next = *wanted;
    if (seat->state == SEAT_KEPT)
        begin_end(seat, SEAT_RELEASE);
}

void seat_stop(struct seat *seat, enum seat_end how)
{
    seat->has_next = false;
    if (seat->state == SEAT_KEPT)
        begin_end(seat, how);
}

static void start(struct seat *seat)
{
    struct twinlease_keep_options options = TWINLEASE_KEEP_OPTIONS_INIT;
    struct twinlease_error error;
    struct diag failure;

    seat->wanted = seat->next;
    options.count = seat->wanted.count;
    options.duration_seconds = seat->desk->lease_seconds;
    options.scope_ref = *seat->wanted.scope_ref ? seat->wanted.scope_ref : NULL;
    options.flags = TWINLEASE_KEEP_GRACE;
    options.changed = on_change;
    options.context = seat;
    if (twinlease_keep(seat->desk->handle, seat->wanted.feature, &options, &seat->keeper, &error) ==
        TWINLEASE_OK) {
        seat->state = SEAT_KEPT;
        seat->has_next = false;
        seat->busy = 0;
        return;
    }
    diag_set(&failure, ERR_OK, "%s", error.message);
    if (strcmp(seat->failure.text, failure.text) != 0)
        log_event_with(LOG_ERROR, "keeper_failed", LOG_FIELDS("feature", seat->wanted.feature),
                       "%s cannot be held: %s", seat->wanted.feature, failure.text);
    seat->failure = failure;
}

static bool has_ended(struct seat *seat)
{
    lock(seat->desk);
    bool ended = seat->ended;
    unlock(seat->desk);
    return ended;
}

bool seat_step(struct seat *seat)
{
    if (seat->state == SEAT_ENDING && has_ended(seat)) {
        must(!seat->threaded || pthread_join(seat->ender, NULL) == 0);
        log_end(seat);
        evidence_clear(&seat->evidence);
        seat->state = SEAT_IDLE;
    }
    if (seat->state == SEAT_IDLE && seat->has_next)
        start(seat);
    return seat->state != SEAT_IDLE || seat->has_next;
}

/* ---- reading ----------------------------------------------------------------------------- */

_Static_assert(sizeof((struct twinlease_kept *)NULL)->lease_ref >= UUID_TEXT_SIZE, "UUIDs fit");

static void read_kept(struct seat *seat, struct agent_feature *out)
{
    struct twinlease_kept kept = TWINLEASE_KEPT_INIT;

    must(twinlease_keeper_read(seat->keeper, &kept) == TWINLEASE_OK);
    out->held = kept.held;
    out->ends.ms = kept.held ? boot_now().ms + kept.expires_in_ms : 0;
    out->acquired_ms = kept.acquired_ms;
    out->expires_ms = kept.expires_ms;
    out->next_try_ms = kept.next_try_ms;
    memcpy(out->lease_ref, kept.lease_ref, sizeof out->lease_ref);
    memcpy(out->home, kept.home, sizeof out->home);
    if (*kept.scope_ref)
        memcpy(out->scope_ref, kept.scope_ref, sizeof out->scope_ref);
    out->code = kept.error.code;
    memcpy(out->message, kept.error.message, sizeof out->message);
}

void seat_read(struct seat *seat, struct agent_feature *out)
{
    const struct wanted *wanted = seat_wanted(seat);

    *out = (struct agent_feature){ .wanted = wanted ? *wanted : seat->wanted, .next_try_ms = -1 };
    memcpy(out->scope_ref, out->wanted.scope_ref, sizeof out->scope_ref);
    if (seat->state == SEAT_KEPT) {
        read_kept(seat, out);
    } else if (seat->state == SEAT_ENDING) {
        out->code = TWINLEASE_NO_NODE;
        snprintf(out->message, sizeof out->message,
                 "the lease it had before must be given back first");
    }
    lock(seat->desk);
    const struct twinlease_error *verdict = &seat->evidence.verdict;
    if (out->held && verdict->code != TWINLEASE_OK) {
        out->held = false;
        out->code = verdict->code;
        memcpy(out->message, verdict->message, sizeof out->message);
    }
    unlock(seat->desk);
}

void seat_verify(struct seat *seat)
{
    lock(seat->desk);
    evidence_verify(&seat->evidence, seat->desk);
    const struct twinlease_error verdict = seat->evidence.verdict;
    unlock(seat->desk);
    if (verdict.code != TWINLEASE_OK)
        log_refused(seat, &verdict);
}

char *seat_proof(struct seat *seat, uint64_t *version)
{
    const struct evidence *e = &seat->evidence;
    char *text = NULL;

    lock(seat->desk);
    *version = e->version;
    if (seat->state == SEAT_KEPT && e->proof && e->verdict.code == TWINLEASE_OK)
        text = mem_strdup(e->proof);
    unlock(seat->desk);
    return text;
}

void seat_lease(struct seat *seat, char lease_ref[UUID_TEXT_SIZE], struct wanted *of)
{
    lock(seat->desk);
    memcpy(lease_ref, seat->evidence.lease_ref, UUID_TEXT_SIZE);
    unlock(seat->desk);
    *of = seat->wanted;
}

bool seat_moves(struct seat *seat, unsigned calls)
{
    struct twinlease_kept kept = TWINLEASE_KEPT_INIT;

    if (seat->state != SEAT_KEPT)
        return true;
    must(twinlease_keeper_read(seat->keeper, &kept) == TWINLEASE_OK);
    seat->busy = kept.next_try_ms == 0 ? seat->busy + 1 : 0;
    return seat->busy < calls;
}
