/* library_clients: machines that lease seats with libtwinlease, and a log of all their calls.
 *
 * Each thread is a machine of its own: a handle, an origin and a state folder that no other has. It
 * goes round and round: acquire, renew a few times, release, and between two calls it thinks: for
 * --think-ms, half of it more or less at random, so that the machines do not move in step.
 *
 * When every machine has got its first lease it says "ready"; when its standard input ends, the
 * machines give back what they hold, and it ends.
 *
 * The log has a JSON line a call, as `ha-examples/lib/seat_judge.py` reads them: `client`, `what`,
 * `ref`, `count`, `at` and `till` (seconds of CLOCK_MONOTONIC, just before and just after the
 * call), `status` (of HTTP: the last answer of a call that failed, 0 if there was none),
 * `expires_in` (seconds from `at`); and, for who wants to know what became of the call, `result`
 * (the name of its code), `home` (node_ref) and `message`. */
#include <err.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "twinlease.h"

#define CLIENTS_MAX    10000
#define RENEWALS_MAX   1000
#define THINK_MS_MAX   3600000
#define STACK_SIZE     (512 * 1024) /* libcurl and OpenSSL need less than half of it */
#define STATE_PATH_MAX 4096

struct settings {
    const char *token, *state, *log, *feature;
    long clients, renewals, think_ms;
};

struct crowd {
    struct settings settings;
    FILE *log;
    int stop; /* eventfd: readable once everybody is to go home */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    long arrived; /* machines that have had a lease; under lock */
};

struct machine {
    struct crowd *crowd;
    pthread_t thread;
    int number;
    struct twinlease *handle;
    unsigned short dice[3];
};

static double now(void)
{
    struct timespec t;

    if (clock_gettime(CLOCK_MONOTONIC, &t) != 0)
        err(1, "clock_gettime");
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- the log ----------------------------------------------------------------------------- */

static void write_text(FILE *log, const char *text)
{
    fputc('"', log);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fprintf(log, "\\%c", *text);
        else if ((unsigned char)*text < ' ')
            fprintf(log, "\\u%04x", (unsigned)(unsigned char)*text);
        else
            fputc(*text, log);
    }
    fputc('"', log);
}

struct call {
    const char *what;
    double at;
    enum twinlease_code code;
    struct twinlease_error error;
    const struct twinlease_lease *lease; /* NULL: none was acquired */
};

/* What the node would have answered, where the library only says that all is well. */
static int status_of(const struct call *call)
{
    if (call->code != TWINLEASE_OK)
        return call->code == TWINLEASE_LEASE_LOST ? 410 : call->error.http_status;
    if (strcmp(call->what, "acquire") == 0)
        return twinlease_lease_resumed(call->lease) ? 200 : 201;
    return strcmp(call->what, "release") == 0 ? 204 : 200;
}

/* One line, whole: other threads write, too, and somebody reads along. */
static void write_call(const struct machine *m, const struct call *call)
{
    double till = now(), left = 0;
    FILE *log = m->crowd->log;

    flockfile(log);
    fprintf(log, "{\"client\": %d, \"what\": \"%s\", \"at\": %.6f, \"till\": %.6f, \"status\": %d",
            m->number, call->what, call->at, till, status_of(call));
    fprintf(log, ", \"ref\": \"%s\", \"result\": \"%s\"",
            call->lease ? twinlease_lease_ref(call->lease) : "", twinlease_code_name(call->code));
    if (call->code == TWINLEASE_OK) {
        left = (double)twinlease_lease_expires_in_ms(call->lease) / 1000;
        fprintf(log, ", \"count\": %" PRId64 ", \"expires_in\": %.3f, \"home\": \"%s\"",
                twinlease_lease_count(call->lease), left > 0 ? till - call->at + left : 0,
                twinlease_lease_home(call->lease));
    } else {
        fputs(", \"message\": ", log);
        write_text(log, call->error.message);
    }
    fputs("}\n", log);
    if (fflush(log) != 0)
        err(1, "%s", m->crowd->settings.log);
    funlockfile(log);
}

/* ---- a machine --------------------------------------------------------------------------- */

/* False: it is time to go home. */
static bool think(struct machine *m)
{
    double ms = (double)m->crowd->settings.think_ms * (0.5 + erand48(m->dice));
    struct pollfd stop = { .fd = m->crowd->stop, .events = POLLIN };

    return poll(&stop, 1, (int)ms) == 0;
}

static struct twinlease_lease *acquire(struct machine *m)
{
    struct twinlease_lease *lease = NULL;
    struct call call = { .what = "acquire", .at = now() };

    call.code = twinlease_acquire(m->handle, m->crowd->settings.feature, NULL, &lease, &call.error);
    call.lease = lease;
    write_call(m, &call);
    return lease;
}

/* False: it is lost. */
static bool renew(struct machine *m, struct twinlease_lease *lease)
{
    struct call call = { .what = "renew", .at = now(), .lease = lease };

    call.code = twinlease_renew(m->handle, lease, &call.error);
    write_call(m, &call);
    return call.code != TWINLEASE_LEASE_LOST;
}

/* One that cannot be given back stays in the state folder, and the next acquire finds it. */
static void give_back(struct machine *m, struct twinlease_lease *lease)
{
    struct call call = { .what = "release", .at = now(), .lease = lease };

    call.code = twinlease_release(m->handle, lease, &call.error);
    write_call(m, &call);
}

static void arrive(struct crowd *crowd)
{
    pthread_mutex_lock(&crowd->lock);
    crowd->arrived++;
    pthread_cond_signal(&crowd->changed);
    pthread_mutex_unlock(&crowd->lock);
}

/* From one lease to the next. */
static bool go_round(struct machine *m, bool *arrived)
{
    struct twinlease_lease *lease = acquire(m);
    bool held = lease != NULL, on = true;

    if (held && !*arrived) {
        *arrived = true;
        arrive(m->crowd);
    }
    on = think(m);
    for (long i = 0; held && on && i < m->crowd->settings.renewals; i++) {
        held = renew(m, lease);
        on = think(m);
    }
    if (held) {
        give_back(m, lease);
        on = on && think(m);
    }
    twinlease_lease_free(lease);
    return on;
}

static void *live(void *context)
{
    bool arrived = false;

    while (go_round(context, &arrived))
        continue;
    return NULL;
}

static void open_handle(struct machine *m)
{
    char state[STATE_PATH_MAX] = "";
    struct twinlease_options options = TWINLEASE_OPTIONS_INIT;
    struct twinlease_error error;
    const struct settings *settings = &m->crowd->settings;

    if (*settings->state &&
        snprintf(state, sizeof state, "%s/%d", settings->state, m->number) >= (int)sizeof state)
        errx(2, "--state is too long");
    options.token_path = settings->token;
    options.state_dir = state;
    if (twinlease_open(&options, &m->handle, &error) != TWINLEASE_OK)
        errx(1, "machine %d: %s", m->number, error.message);
}

static void start_machine(struct machine *m)
{
    pthread_attr_t attributes;

    open_handle(m);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    if (pthread_create(&m->thread, &attributes, live, m) != 0)
        errx(1, "no thread can be had for machine %d", m->number);
    pthread_attr_destroy(&attributes);
}

/* ---- all of them ------------------------------------------------------------------------- */

static void await_ready(struct crowd *crowd)
{
    pthread_mutex_lock(&crowd->lock);
    while (crowd->arrived < crowd->settings.clients)
        pthread_cond_wait(&crowd->changed, &crowd->lock);
    pthread_mutex_unlock(&crowd->lock);
    puts("ready");
    fflush(stdout);
}

static void await_end_of_input(void)
{
    char bytes[64];

    while (read(STDIN_FILENO, bytes, sizeof bytes) > 0)
        continue;
}

static void run(struct crowd *crowd)
{
    struct machine *machines = calloc((size_t)crowd->settings.clients, sizeof *machines);

    if (!machines)
        err(1, NULL);
    for (int i = 0; i < crowd->settings.clients; i++) {
        machines[i] =
            (struct machine){ .crowd = crowd, .number = i, .dice = { (unsigned short)i, 17, 42 } };
        start_machine(&machines[i]);
    }
    await_ready(crowd);
    await_end_of_input();
    if (eventfd_write(crowd->stop, 1) != 0)
        err(1, "eventfd");
    for (int i = 0; i < crowd->settings.clients; i++) {
        pthread_join(machines[i].thread, NULL);
        twinlease_close(machines[i].handle);
    }
    free(machines);
}

/* ---- the command line -------------------------------------------------------------------- */

static const char usage_text[] =
    "usage: library_clients --token FILE --log FILE [OPTION…]\n"
    "\n"
    "  --token FILE     client token\n"
    "  --log FILE       where each call is written down\n"
    "  --state DIR      has a state folder for each machine (default: none, all in memory)\n"
    "  --clients N      machines, a thread each (default 200)\n"
    "  --feature NAME   what they lease (default render)\n"
    "  --renewals N     of each lease, before it is given back (default 2)\n"
    "  --think-ms N     between two calls of a machine, give or take half of it (default 500)\n";

static _Noreturn void usage(int code)
{
    fputs(usage_text, code ? stderr : stdout);
    exit(code);
}

static long number(const char *name, const char *text, long min, long max)
{
    char *end;
    long value = strtol(text, &end, 10);

    if (end == text || *end || value < min || value > max)
        errx(2, "--%s must be a whole number from %ld to %ld, not \"%s\"", name, min, max, text);
    return value;
}

static void read_arguments(int argc, char **argv, struct settings *s)
{
    static const struct option known[] = {
        { "token", required_argument, NULL, 't' },
        { "state", required_argument, NULL, 's' },
        { "log", required_argument, NULL, 'l' },
        { "clients", required_argument, NULL, 'c' },
        { "feature", required_argument, NULL, 'f' },
        { "renewals", required_argument, NULL, 'r' },
        { "think-ms", required_argument, NULL, 'm' },
        { "help", no_argument, NULL, 'h' },
        { 0 },
    };

    for (int option; (option = getopt_long(argc, argv, "h", known, NULL)) != -1;) {
        switch (option) {
        case 't':
            s->token = optarg;
            break;
        case 's':
            s->state = optarg;
            break;
        case 'l':
            s->log = optarg;
            break;
        case 'f':
            s->feature = optarg;
            break;
        case 'c':
            s->clients = number("clients", optarg, 1, CLIENTS_MAX);
            break;
        case 'r':
            s->renewals = number("renewals", optarg, 0, RENEWALS_MAX);
            break;
        case 'm':
            s->think_ms = number("think-ms", optarg, 1, THINK_MS_MAX);
            break;
        case 'h':
            usage(0);
        default:
            usage(2);
        }
    }
    if (optind < argc || !s->token || !s->log)
        usage(2);
}

int main(int argc, char **argv)
{
    struct crowd crowd = {
        .settings = { .state = "",
                      .feature = "render",
                      .clients = 200,
                      .renewals = 2,
                      .think_ms = 500 },
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .changed = PTHREAD_COND_INITIALIZER,
    };

    read_arguments(argc, argv, &crowd.settings);
    if (!(crowd.log = fopen(crowd.settings.log, "w")))
        err(1, "%s", crowd.settings.log);
    if ((crowd.stop = eventfd(0, EFD_CLOEXEC)) < 0)
        err(1, "eventfd");
    run(&crowd);
    if (fclose(crowd.log) != 0)
        err(1, "%s", crowd.settings.log);
    close(crowd.stop);
    return 0;
}
