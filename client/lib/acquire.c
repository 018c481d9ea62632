/* Acquiring: find the lease that is there already, or draw a reference; ask; wait; give up.
 *
 * The happy path: no recorded lease fits, a reference is drawn and stored, a node grants it.
 *
 * What may fail, and what becomes of the reference, which one call never changes without need:
 *   - no seat, no node: asked for again with the same reference until the wait is over;
 *   - a node may have granted it unheard (its answer was lost): it stays recorded, so that the next
 *     acquire finds the lease; after an interruption, one try to give it back;
 *   - nobody can have granted it: forgotten;
 *   - a recorded lease proves to be over: the next one, or a new reference. */
#include "leasing.h"

#include <string.h>

#include "backoff.h"
#include "base/random.h"
#include "options.h"
#include "token/publisher.h"

#define RESUME_TRIES 8 /* recorded leases that prove to be over before a new one is drawn */
#define WAIT_MAX_MS  (INT64_C(366) * 86400000)
#define GOODBYE_MS   1000 /* for giving back what is not wanted any more */
#define SOON_MS      50   /* after a seat is expected back */
#define FLAGS_KNOWN  (unsigned)(TWINLEASE_ACQUIRE_ANOTHER | TWINLEASE_ACQUIRE_GRACE)

static const struct backoff polite = { .first_ms = 200, .limit_ms = 2000 };

/* ---- the wish ---------------------------------------------------------------------------- */

struct wish {
    const char *feature;
    struct uuid scope; /* nil: by feature */
    int64_t count, duration_seconds;
    unsigned flags;
    int64_t wait_ms;
    twinlease_waiting_fn waiting; /* may be NULL */
    void *waiting_context;
};

static enum twinlease_code read_wish(const char *feature,
                                     const struct twinlease_acquire_options *options,
                                     struct wish *out, struct twinlease_error *error)
{
    struct twinlease_acquire_options given = { .size = sizeof given };

    if (options && !options_take(&given, sizeof given, options))
        return fault_set(error, TWINLEASE_USAGE,
                         "the options are not those of this library (%s): initialise them with "
                         "TWINLEASE_ACQUIRE_OPTIONS_INIT",
                         TWINLEASE_VERSION);
    if (!feature || !feature_name_valid(feature))
        return fault_set(error, TWINLEASE_USAGE,
                         "\"%.70s\" is no feature name: 1 to %d letters, digits, '.', '_' and '-', "
                         "beginning with a letter or digit",
                         feature ? feature : "", FEATURE_NAME_MAX);
    if (given.count < 0 || given.count > ENTITLEMENT_SEATS_MAX)
        return fault_set(error, TWINLEASE_USAGE, "the count is %lld; allowed are 1 to %d",
                         (long long)given.count, ENTITLEMENT_SEATS_MAX);
    if (given.duration_seconds < 0 || given.duration_seconds > LEASE_SECONDS_MAX)
        return fault_set(error, TWINLEASE_USAGE, "the duration is %lld s; allowed are 1 to %d",
                         (long long)given.duration_seconds, LEASE_SECONDS_MAX);
    if (given.flags & ~FLAGS_KNOWN)
        return fault_set(error, TWINLEASE_USAGE, "flags is 0x%x, and only 0x%x is known",
                         given.flags, FLAGS_KNOWN);
    if (given.wait_ms < 0 || given.wait_ms > WAIT_MAX_MS)
        return fault_set(error, TWINLEASE_USAGE, "the wait is %lld ms; allowed are 0 to %lld",
                         (long long)given.wait_ms, (long long)WAIT_MAX_MS);
    *out = (struct wish){
        .feature = feature,
        .count = given.count ? given.count : 1,
        .duration_seconds = given.duration_seconds,
        .flags = given.flags,
        .wait_ms = given.wait_ms,
        .waiting = given.waiting,
        .waiting_context = given.waiting_context,
    };
    if (given.scope_ref && !uuid_parse(given.scope_ref, strlen(given.scope_ref), &out->scope))
        return fault_set(error, TWINLEASE_USAGE, "\"%.40s\" is no scope reference (a UUID)",
                         given.scope_ref);
    return TWINLEASE_OK;
}

enum twinlease_code leasing_check(const char *feature,
                                  const struct twinlease_acquire_options *options,
                                  struct twinlease_error *error)
{
    struct wish ignored;

    return read_wish(feature, options, &ignored, error);
}

/* ---- references -------------------------------------------------------------------------- */

static bool fits(const struct twinlease_lease *lease, const struct wish *wish)
{
    return strcmp(lease->feature, wish->feature) == 0 && lease->count == wish->count &&
           uuid_equal(&lease->asked_scope, &wish->scope) &&
           !(lease->granted && (wish->flags & TWINLEASE_ACQUIRE_ANOTHER));
}

/* Good ones first, then those that were asked for, then those that seem to be over. */
static int rank(const struct twinlease_lease *lease)
{
    if (!lease->granted)
        return 1;
    return twinlease_lease_expires_in_ms(lease) > 0 ? 0 : 2;
}

/* A recorded lease that fits and that no running program uses, with its claim; NULL: there is none.
 */
static struct twinlease_lease *find_recorded(struct state *state, const struct wish *wish)
{
    size_t count;
    struct twinlease_lease **all = state_leases(state, &count), *found = NULL;

    for (int wanted = 0; wanted < 3 && !found; wanted++) {
        for (size_t i = 0; i < count && !found; i++) {
            if (fits(all[i], wish) && rank(all[i]) == wanted)
                found = state_take(state, &all[i]->lease_ref);
        }
    }
    for (size_t i = 0; i < count; i++)
        twinlease_lease_free(all[i]);
    mem_free(all);
    return found;
}

/* A new reference, on disk before anybody hears of it. */
static enum twinlease_code draw(struct state *state, const struct wish *wish,
                                struct twinlease_lease **out, struct twinlease_error *error)
{
    AUTO(twinlease_lease_free) struct twinlease_lease *lease = lease_new();

    lease->lease_ref = uuid_random();
    memcpy(lease->feature, wish->feature, strlen(wish->feature) + 1);
    lease->asked_scope = wish->scope;
    lease->count = wish->count;
    lease->duration_seconds = wish->duration_seconds;
    lease->drawn_ms = wall_now().ms;
    if (!state_claim(state, lease))
        return fault_set(error, TWINLEASE_ERROR, "a fresh lease reference is in use already");
    enum twinlease_code code = state_lease_store(state, lease, error);
    if (code == TWINLEASE_OK)
        *out = TAKE(lease);
    return code;
}

/* ---- asking ------------------------------------------------------------------------------ */

/* One acquire on its way. */
struct pursuit {
    struct twinlease *handle;
    struct wish wish;
    const struct cancel *cancel;   /* or NULL */
    struct twinlease_lease *lease; /* what is asked for; NULL: not chosen yet */
    bool recorded;                 /* found in the state folder */
    bool unsure;                   /* a node may have granted it unheard */
    int choices;
    struct boot begin;
    unsigned waits;
};

static void pursuit_fini(struct pursuit *p)
{
    twinlease_lease_free(p->lease);
    p->lease = NULL;
}
DEFINE_AUTO_VALUE(struct pursuit, pursuit_fini)

static enum twinlease_code choose(struct pursuit *p, struct twinlease_error *error)
{
    struct state *state = p->handle->state;

    p->lease = p->choices++ < RESUME_TRIES ? find_recorded(state, &p->wish) : NULL;
    p->recorded = p->lease != NULL;
    p->unsure = p->recorded && !p->lease->granted; /* whoever drew it did not hear either */
    return p->recorded ? TWINLEASE_OK : draw(state, &p->wish, &p->lease, error);
}

static void write_request(const struct twinlease_lease *lease, struct buf *out)
{
    char text[UUID_TEXT_SIZE], scope[UUID_TEXT_SIZE];
    bool by_scope = !uuid_is_nil(&lease->asked_scope);

    uuid_format(&lease->lease_ref, text);
    uuid_format(&lease->asked_scope, scope);
    buf_format(out, "{\"lease_request_list\":[{\"%s\":\"%s\",\"count\":%lld",
               by_scope ? "scope_ref" : "feature", by_scope ? scope : lease->feature,
               (long long)lease->count);
    if (lease->duration_seconds)
        buf_format(out, ",\"duration_seconds\":%lld", (long long)lease->duration_seconds);
    buf_format(out, ",\"candidate_lease_ref\":\"%s\"}]}", text);
    must(buf_ok(out));
}

static enum twinlease_code request_lease(struct pursuit *p, struct twinlease_error *error)
{
    AUTO(buf_fini) struct buf body;
    AUTO(reply_fini) struct reply reply = { .json = NULL };
    struct lease_facts *facts = NULL;
    size_t count = 0;

    buf_init(&body, 1024);
    write_request(p->lease, &body);
    const struct call call = {
        .method = "POST",
        .path = "/v1/leases",
        .body = body.bytes,
        .may_enrol = true,
        .effort = { .cancel = p->cancel },
        .unsure = &p->unsure,
    };
    enum twinlease_code code = session_call(p->handle->session, &call, &reply, error);
    if (code != TWINLEASE_OK)
        return code;
    code = answer_leases(&reply.answer, reply.json, "lease_result_list", 1, &facts, &count, error);
    if (code == TWINLEASE_OK && count == 1)
        code = leasing_accept(p->handle, &reply, &facts[0], p->lease, error);
    else if (code == TWINLEASE_OK)
        code =
            fault_set(error, TWINLEASE_BAD_ANSWER, "%s answers without a lease", reply.answer.from);
    for (size_t i = 0; i < count; i++)
        lease_facts_fini(&facts[i]);
    mem_free(facts);
    p->unsure = p->unsure || code != TWINLEASE_OK;
    return code;
}

static bool has_grace(const struct pursuit *p)
{
    return (p->wish.flags & TWINLEASE_ACQUIRE_GRACE) && p->lease->granted &&
           twinlease_lease_expires_in_ms(p->lease) > 0;
}

/* A recorded lease that is valid, and no node to ask about it: good enough for who said so. */
static bool content(struct pursuit *p, const struct twinlease_error *error)
{
    bool nobody = error->code == TWINLEASE_NO_NODE || error->code == TWINLEASE_BAD_ANSWER ||
                  error->code == TWINLEASE_UNTRUSTED;

    if (!nobody || !has_grace(p)) /* it may have ended meanwhile */
        return false;
    p->lease->unconfirmed = true;
    state_warn(p->handle->state, "the lease of %s could not be confirmed: %s", p->wish.feature,
               error->message);
    return true;
}

static enum twinlease_code try_lease(struct pursuit *p, struct twinlease_error *error)
{
    bool grace = has_grace(p);
    const struct effort effort = { .cancel = p->cancel, .once = grace };

    if (!p->lease->granted)
        return request_lease(p, error);
    enum twinlease_code code = leasing_renew_with(p->handle, p->lease, &effort, error);
    p->lease->resumed = code == TWINLEASE_OK || (grace && content(p, error));
    return p->lease->resumed ? TWINLEASE_OK : code;
}

/* The reference is of no use any more: it ended, or the node knows it as something else. */
static bool reference_is_spent(const struct twinlease_error *error)
{
    return error->code == TWINLEASE_LEASE_LOST || strcmp(error->problem, "lease_mismatch") == 0;
}

/* ---- waiting ----------------------------------------------------------------------------- */

/* Until a seat is expected back, by the nodes' clock; -1: not known, or it should be there. */
static int64_t expected_in_ms(const struct pursuit *p, const struct twinlease_error *error)
{
    int64_t now_ms;

    if (error->code != TWINLEASE_NO_SEAT || !error->next_seat_ms ||
        !session_node_now(p->handle->session, &now_ms) || error->next_seat_ms <= now_ms)
        return -1;
    return error->next_seat_ms - now_ms;
}

static int64_t choose_pause_ms(struct pursuit *p, const struct twinlease_error *error,
                               int64_t left_ms)
{
    int64_t expected_ms = expected_in_ms(p, error), pause_ms;
    uint32_t dice;

    random_bytes(&dice, sizeof dice);
    pause_ms = backoff_ms(&polite, p->waits++, dice);
    if (expected_ms >= 0 && expected_ms + SOON_MS < pause_ms)
        pause_ms = expected_ms + SOON_MS + dice % SOON_MS;
    return pause_ms < left_ms ? pause_ms : left_ms;
}

static enum twinlease_code interrupted(const struct pursuit *p, struct twinlease_error *error)
{
    struct twinlease_error last = *error;

    return fault_set(error, TWINLEASE_INTERRUPTED, "interrupted after %lld s of waiting: %s",
                     (long long)((boot_now().ms - p->begin.ms) / 1000), last.message);
}

/* True: it is time to ask again. */
static bool wait_on(struct pursuit *p, struct twinlease_error *error)
{
    int64_t waited_ms = boot_now().ms - p->begin.ms;
    int64_t left_ms = p->wish.wait_ms - waited_ms;

    if ((error->code != TWINLEASE_NO_SEAT && error->code != TWINLEASE_NO_NODE) || left_ms <= 0)
        return false;
    const struct twinlease_waiting waiting = {
        .size = sizeof waiting,
        .why = error,
        .waited_ms = waited_ms,
        .left_ms = left_ms,
        .next_try_ms = choose_pause_ms(p, error, left_ms),
    };
    if ((!p->wish.waiting || p->wish.waiting(p->wish.waiting_context, &waiting) == 0) &&
        !cancel_wait(p->cancel, waiting.next_try_ms))
        return true;
    interrupted(p, error);
    return false;
}

/* ---- acquire ----------------------------------------------------------------------------- */

static enum twinlease_code pursue(struct pursuit *p, struct twinlease_error *error)
{
    enum twinlease_code code;

    if (cancel_raised(p->cancel))
        return fault_set(error, TWINLEASE_INTERRUPTED, "the call was interrupted");
    for (;;) {
        if (!p->lease && (code = choose(p, error)) != TWINLEASE_OK)
            return code;
        if ((code = try_lease(p, error)) == TWINLEASE_OK)
            return code;
        if (!reference_is_spent(error)) {
            if (!wait_on(p, error))
                return error->code;
            continue;
        }
        state_lease_remove(p->handle->state, &p->lease->lease_ref);
        if (!p->recorded && (!p->unsure || p->choices > RESUME_TRIES))
            return code; /* nobody can have had it before */
        pursuit_fini(p);
    }
}

/* What becomes of a reference that was not granted as far as we know. */
static void give_up(struct pursuit *p, const struct twinlease_error *error)
{
    if (!p->lease || p->lease->granted)
        return;
    if (p->unsure && error->code == TWINLEASE_INTERRUPTED)
        leasing_withdraw(p->handle, p->lease, GOODBYE_MS);
    else if (!p->unsure || error->code == TWINLEASE_REFUSED)
        state_lease_remove(p->handle->state, &p->lease->lease_ref);
}

enum twinlease_code leasing_acquire(struct twinlease *handle, const char *feature,
                                    const struct twinlease_acquire_options *options,
                                    const struct cancel *cancel, struct twinlease_lease **out,
                                    struct twinlease_error *error)
{
    AUTO(pursuit_fini)
    struct pursuit p = { .handle = handle, .cancel = cancel, .begin = boot_now() };
    struct twinlease_error spare;

    error = error_or(error, &spare);
    enum twinlease_code code = read_wish(feature, options, &p.wish, error);
    if (code == TWINLEASE_OK)
        code = pursue(&p, error);
    if (code == TWINLEASE_OK && !p.lease->resumed && cancel_raised(cancel)) {
        leasing_withdraw(handle, p.lease, GOODBYE_MS); /* it came too late */
        return fault_set(error, TWINLEASE_INTERRUPTED, "the call was interrupted");
    }
    if (code != TWINLEASE_OK) {
        give_up(&p, error);
        return code;
    }
    fault_clear(error);
    *out = TAKE(p.lease);
    return TWINLEASE_OK;
}

enum twinlease_code twinlease_acquire(struct twinlease *handle, const char *feature,
                                      const struct twinlease_acquire_options *options,
                                      struct twinlease_lease **out, struct twinlease_error *error)
{
    return leasing_acquire(handle, feature, options, &handle->cancel, out, error);
}
