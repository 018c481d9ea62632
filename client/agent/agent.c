/* The agent's loop: signals, seats that have changed, and what is due after a time.
 *
 * SIGTERM, SIGINT: give the seats back, or leave them leased, and end; a second one: end at once.
 * SIGHUP: read settings and client token again. SIGUSR1: tell the log how everything stands. */
#include "agent.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "agent_run.h"
#include "base/file.h"
#include "base/log.h"
#include "fault.h"
#include "lock.h"
#include "notify.h"

#define STOP_EXTRA_MS     5000 /* beyond the seconds that the settings give */
#define PUBLISHER_KEY_MAX (64 << 10)
#define LOOK_MS           5000  /* between looks at keepers; less if systemd is to hear sooner */
#define STUCK_MS          60000 /* so long busy with one call, a keeper has hung */

extern char **environ;

/* ---- seats ------------------------------------------------------------------------------- */

void agent_add(struct agent *agent, struct seat *seat)
{
    agent->seats = mem_resize(agent->seats, (agent->seat_count + 1) * sizeof *agent->seats);
    agent->seats[agent->seat_count++] = seat;
}

struct seat *agent_seat(const struct agent *agent, const char *feature)
{
    for (size_t i = 0; i < agent->seat_count; i++) {
        struct agent_feature now;
        seat_read(agent->seats[i], &now);
        if (strcmp(now.wanted.feature, feature) == 0)
            return agent->seats[i];
    }
    return NULL;
}

static void step_seats(struct agent *agent)
{
    size_t left = 0;

    for (size_t i = 0; i < agent->seat_count; i++) {
        if (seat_step(agent->seats[i]))
            agent->seats[left++] = agent->seats[i];
        else
            seat_free(agent->seats[i]);
    }
    agent->seat_count = left;
}

/* What the settings want gets a seat; what they do not want any more loses it. */
static void want_seats(struct agent *agent)
{
    const struct wanted_list *list = &agent->settings->features;

    for (size_t i = 0; i < agent->seat_count; i++) {
        const struct wanted *now = seat_wanted(agent->seats[i]), *wanted = NULL;
        for (size_t j = 0; now && j < list->count && !wanted; j++)
            wanted = strcmp(list->items[j].feature, now->feature) == 0 ? &list->items[j] : NULL;
        if (now)
            seat_want(agent->seats[i], wanted);
    }
    for (size_t j = 0; j < list->count; j++) {
        struct seat *seat = agent_seat(agent, list->items[j].feature);
        if (seat)
            seat_want(seat, &list->items[j]);
        else
            agent_add(agent, seat_new(&agent->desk, &list->items[j]));
    }
}

/* ---- settings ---------------------------------------------------------------------------- */

/* *out: the PEM, or NULL if none is set. */
static enum err read_publisher_key(const struct agent_settings *settings, char **out,
                                   struct diag *diag)
{
    AUTO(buf_fini) struct buf text = { .max = PUBLISHER_KEY_MAX };

    *out = NULL;
    if (!settings->publisher_key)
        return ERR_OK;
    enum err e = file_read(settings->publisher_key, FILE_PUBLIC, &text, diag);
    if (e == ERR_OK)
        *out = buf_take(&text);
    return e;
}

static void warn_of_misspelt(void)
{
    const char *meant, *text;

    for (size_t at = 0; (text = agent_settings_misspelt(environ, &at, &meant));)
        log_event(LOG_WARNING, "setting_misspelt",
                  "The environment has %.*s, which is no setting; did you mean %s?",
                  (int)strcspn(text, "="), text, meant);
}

static bool text_equal(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

/* The name of a setting that only a restart can change; NULL: none differs. */
static const char *fixed_setting(const struct agent_settings *a, const struct agent_settings *b)
{
    if (!text_equal(a->tok, b->tok))
        return "TWINLEASE_TOK";
    if (!text_equal(a->state, b->state))
        return "TWINLEASE_STATE";
    if (!text_equal(a->instance, b->instance))
        return "TWINLEASE_INSTANCE";
    if (a->log_format != b->log_format)
        return "TWINLEASE_LOG_FORMAT";
    return a->debug != b->debug ? "TWINLEASE_DEBUG" : NULL;
}

/* Takes them: what lies elsewhere from now on goes, and comes again there. */
static void apply_settings(struct agent *agent, struct agent_settings *settings, char *key)
{
    struct agent_settings *old = agent->settings;
    bool moved = !text_equal(old->status_file, settings->status_file) ||
                 !text_equal(old->proof_dir, settings->proof_dir);

    if (moved)
        agent_unpublish(agent);
    agent->settings = settings;
    agent_settings_free(old);
    agent->desk.lease_seconds = settings->lease_seconds.value;
    desk_key(&agent->desk, key);
    for (size_t i = 0; i < agent->seat_count; i++)
        seat_verify(agent->seats[i]);
    want_seats(agent);
}

static bool read_again(struct agent *agent, struct diag *diag)
{
    AUTO(agent_settings_free) struct agent_settings *settings = NULL;
    char *key = NULL;

    if (agent_settings_read(agent->file, environ, &settings, diag) != ERR_OK ||
        agent_settings_check(settings, diag) != ERR_OK)
        return false;
    const char *fixed = fixed_setting(agent->settings, settings);
    if (fixed) {
        diag_set(diag, ERR_CONFIG, "%s has changed, which needs a restart", fixed);
        return false;
    }
    if (read_publisher_key(settings, &key, diag) != ERR_OK)
        return false;
    apply_settings(agent, TAKE(settings), key);
    return true;
}

static void reload(struct agent *agent)
{
    struct twinlease_error error;
    struct diag diag = { "" };

    if (agent->ready)
        notify_reloading();
    if (read_again(agent, &diag))
        log_event(LOG_INFO, "reloaded", "Settings read again");
    else
        log_event(LOG_ERROR, "not_reloaded",
                  "Settings not changed, the agent goes on with the "
                  "old ones: %s",
                  diag.text);
    if (twinlease_reload(agent->handle, &error) != TWINLEASE_OK)
        log_event(LOG_ERROR, "token_not_reloaded",
                  "Client token not changed, the agent goes on with the old one: %s",
                  error.message);
    if (agent->ready)
        notify_ready();
}

/* ---- the end ----------------------------------------------------------------------------- */

static void begin_stop(struct agent *agent)
{
    bool keep = agent->settings->on_stop == ON_STOP_KEEP;

    agent->stopping = true;
    agent->stop_until.ms = boot_now().ms + agent->settings->stop_seconds.value * 1000;
    notify_stopping(agent->settings->stop_seconds.value * 1000 + STOP_EXTRA_MS);
    log_event(LOG_INFO, "stopping",
              keep ? "Stopping; leases are kept for the next start"
                   : "Stopping; seats are given back");
    /* Kept leases are as good as before, and so is what has been written about them. */
    if (keep)
        agent_publish(agent);
    else
        agent_unpublish(agent);
    desk_leave(&agent->desk);
    for (size_t i = 0; i < agent->seat_count; i++)
        seat_stop(agent->seats[i], keep ? SEAT_KEEP : SEAT_RELEASE);
}

static bool stop_is_over(struct agent *agent)
{
    if (agent->seat_count == 0)
        return true;
    if (!agent->hurried && boot_now().ms < agent->stop_until.ms)
        return false;
    log_event(LOG_WARNING, "stopped_early",
              "Stopped while %zu seats were being given back; what was not comes back when its "
              "lease ends, or is found again by the next start",
              agent->seat_count);
    agent->hurried = true;
    return true;
}

/* ---- the loop ---------------------------------------------------------------------------- */

static void on_signal(struct agent *agent, unsigned number)
{
    if (number == SIGUSR1)
        agent_tell(agent);
    else if (number == SIGHUP && !agent->stopping)
        reload(agent);
    else if (number == SIGTERM || number == SIGINT) {
        agent->hurried = agent->stopping;
        if (!agent->stopping)
            begin_stop(agent);
    }
}

static void take_signals(struct agent *agent)
{
    struct signalfd_siginfo info;

    while (read(agent->signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
        on_signal(agent, info.ssi_signo);
}

static int64_t look_ms(const struct agent *agent)
{
    int64_t wanted = agent->watchdog_ms / 3;

    return wanted && wanted < LOOK_MS ? wanted : LOOK_MS;
}

/* systemd is told that the agent lives only if each of its keepers comes along. Looks are counted,
 * and not the time between them: while this process is stopped, none of it moves. */
static void look_after_keepers(struct agent *agent)
{
    struct boot now = boot_now();
    bool all = true;

    if (now.ms - agent->alive.ms < look_ms(agent))
        return;
    agent->alive = now;
    for (size_t i = 0; i < agent->seat_count; i++)
        all = seat_moves(agent->seats[i], (unsigned)(STUCK_MS / look_ms(agent)) + 1) && all;
    if (all && agent->watchdog_ms)
        notify_alive();
    if (!all && !agent->stuck)
        log_event(LOG_ERROR, "keeper_stuck",
                  "A keeper has been busy with one call for more than %d s", STUCK_MS / 1000);
    agent->stuck = !all;
}

static int next_look_ms(const struct agent *agent)
{
    int64_t now = boot_now().ms, next = agent->status_written.ms + STATUS_PERIOD_MS - now;
    int64_t alive = agent->alive.ms + look_ms(agent) - now;

    next = alive < next ? alive : next;
    if (agent->stopping && agent->stop_until.ms - now < next)
        next = agent->stop_until.ms - now;
    return next < 0 ? 0 : (int)next;
}

static void turn(struct agent *agent)
{
    struct pollfd fds[] = { { .fd = agent->signal_fd, .events = POLLIN },
                            { .fd = agent->wake_fd, .events = POLLIN } };
    eventfd_t count;
    bool changed = false;

    if (poll(fds, ARRAY_SIZE(fds), next_look_ms(agent)) < 0)
        must(errno == EINTR);
    if (fds[1].revents)
        changed = eventfd_read(agent->wake_fd, &count) == 0;
    if (fds[0].revents) {
        changed = true;
        take_signals(agent);
    }
    step_seats(agent);
    look_after_keepers(agent);
    if (!agent->stopping &&
        (changed || boot_now().ms - agent->status_written.ms >= STATUS_PERIOD_MS))
        agent_publish(agent);
}

/* ---- the beginning ----------------------------------------------------------------------- */

static void on_warning(void *context, const char *sentence)
{
    (void)context;
    log_event(LOG_WARNING, "library", "%s", sentence);
}

/* systemd gives a folder of the service's own; several have colons between. */
static char *state_folder(const struct agent_settings *settings)
{
    const char *given = getenv("STATE_DIRECTORY");

    if (settings->state)
        return mem_strdup(settings->state);
    return given && *given ? mem_memdup(given, strcspn(given, ":")) : NULL;
}

static enum twinlease_code open_handle(struct agent *agent, struct twinlease_error *error)
{
    struct twinlease_options options = TWINLEASE_OPTIONS_INIT;
    AUTO(mem_free) char *state = state_folder(agent->settings);

    options.token_path = agent->settings->tok;
    options.state_dir = state;
    options.instance_thumbprint = agent->settings->instance;
    options.warning = on_warning;
    return twinlease_open(&options, &agent->handle, error);
}

static enum twinlease_code lock_folder(struct agent *agent, struct twinlease_error *error)
{
    const char *folder = twinlease_state_folder(agent->handle);
    struct diag warning = { "" }, diag;

    if (*folder && agent_lock(folder, &agent->lock_fd, &warning, &diag) != ERR_OK)
        return fault_set(error, TWINLEASE_STATE, "%s", diag.text);
    if (*warning.text)
        log_event(LOG_WARNING, "not_locked", "%s", warning.text);
    return TWINLEASE_OK;
}

/* Before any thread is started: all of them are to have these signals blocked. */
static void open_signals(struct agent *agent)
{
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGUSR1);
    must(sigprocmask(SIG_BLOCK, &signals, NULL) == 0);
    agent->signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
    agent->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
}

static enum twinlease_code begin(struct agent *agent, struct twinlease_error *error)
{
    const struct agent_settings *settings = agent->settings;
    enum log_level lowest = settings->debug ? LOG_DEBUG : LOG_INFO;
    char *key;
    struct diag diag;
    enum twinlease_code code;

    log_init_text(agent->json ? LOG_FORMAT_JSON : (enum log_format)settings->log_format, lowest,
                  log_to_journal() ? LOG_TEXT_JOURNAL : LOG_TEXT_PLAIN);
    warn_of_misspelt();
    open_signals(agent);
    if (agent->signal_fd < 0 || agent->wake_fd < 0)
        return fault_set(error, TWINLEASE_ERROR, "no file descriptor is left");
    if ((code = open_handle(agent, error)) != TWINLEASE_OK ||
        (code = lock_folder(agent, error)) != TWINLEASE_OK)
        return code;
    if (read_publisher_key(settings, &key, &diag) != ERR_OK)
        return fault_set(error, TWINLEASE_BAD_FILE, "%s", diag.text);
    desk_init(&agent->desk, agent->handle, agent->wake_fd);
    agent->desk_made = true;
    agent->desk.lease_seconds = settings->lease_seconds.value;
    desk_key(&agent->desk, key);
    boot_id_read(agent->boot_id);
    agent->watchdog_ms = notify_watchdog_ms();
    return TWINLEASE_OK;
}

static void run(struct agent *agent)
{
    const char *folder = twinlease_state_folder(agent->handle);

    log_event_with(
        LOG_INFO, "started",
        LOG_FIELDS("instance_ref", twinlease_instance_ref(agent->handle), "state", folder),
        "twinlease agent %s holds %zu %s of instance %s, state folder %s", twinlease_version(),
        agent->settings->features.count,
        agent->settings->features.count == 1 ? "feature" : "features",
        twinlease_instance_ref(agent->handle), *folder ? folder : "none");
    agent_leases_settle(agent);
    want_seats(agent);
    step_seats(agent);
    agent_remember(agent);
    agent_publish(agent);
    while (!agent->stopping || !stop_is_over(agent))
        turn(agent);
    if (agent->hurried) {
        /* Threads are inside the library: no clean-up may take it from under them. */
        fflush(stdout);
        _exit(TWINLEASE_OK);
    }
    log_event(LOG_INFO, "stopped", "Stopped");
}

static void end(struct agent *agent)
{
    must(agent->seat_count == 0);
    mem_free(agent->seats);
    mem_free(agent->recorded);
    agent_published_free(agent);
    agent_status_fini(&agent->earlier);
    if (agent->desk_made)
        desk_fini(&agent->desk);
    twinlease_close(agent->handle);
    const int fds[] = { agent->lock_fd, agent->signal_fd, agent->wake_fd };
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    agent_settings_free(agent->settings);
}

enum twinlease_code agent_run(const char *file, bool json, struct agent_settings *settings,
                              struct twinlease_error *error)
{
    struct agent agent = { .file = file,
                           .json = json,
                           .settings = settings,
                           .lock_fd = -1,
                           .signal_fd = -1,
                           .wake_fd = -1 };
    enum twinlease_code code = begin(&agent, error);

    if (code == TWINLEASE_OK)
        run(&agent);
    end(&agent);
    return code;
}
