/* `run`: a program on a seat.
 *
 * The happy path: the program is found; its process is made and waits (child.h); the seat is taken;
 * a keeper renews the lease from then on; the process becomes the program; signals are handed on to
 * it; it ends; the seat is given back; its exit code is ours.
 *
 * What may happen else:
 *   - the program is not there: said before a seat is taken. It cannot be executed after all: the
 *     seat is given back at once;
 *   - no seat, no node, a signal: the waiting process ends, and the program never began;
 *   - the lease is lost while the program runs: watch.h says what becomes of it;
 *   - we are killed: the kernel tells the program, and the seat comes back when the lease expires;
 *   - no node answers at the end: said, within the deadline of one call. */
#include "twinlease.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "args.h"
#include "child.h"
#include "notice.h"
#include "progress.h"
#include "signals.h"
#include "token/publisher.h"
#include "watch.h"

#define CALL_SECONDS       5 /* nobody likes to wait for the end of what has ended */
#define CALL_SECONDS_MAX   60
#define WAIT_SECONDS_MAX   (366 * 86400) /* as the library has it */
#define KILL_AFTER_SECONDS 10
#define KILL_AFTER_MAX     86400
#define GROUP_POLL_MS      20
#define VARIABLES          3
#define VARIABLE_SIZE      120

struct run {
    const struct args *args;
    struct output *out;
    /* what was asked for */
    struct twinlease_options access;
    struct twinlease_acquire_options seat;
    enum on_loss on_loss;
    int64_t kill_after_seconds;
    bool keep;
    int failure_code; /* 0: as the failure has it */
    /* what there is */
    struct progress progress; /* of the wait, for people */
    struct child child;
    struct signal_place place;
    int signals_fd;
    struct twinlease *handle;
    struct twinlease_lease *lease; /* until it is the keeper's */
    struct twinlease_keeper *keeper;
    struct notices notices;
    struct watch watch;
    struct notice held;          /* the lease, as it was told of last */
    struct twinlease_error loss; /* why it was lost last */
    int exec_errno;              /* the program could not be executed */
};

static const char *feature_of(const struct run *run)
{
    return run->args->operands[0];
}

/* ---- what was asked for ------------------------------------------------------------------ */

static enum twinlease_code read_seconds(const struct args *args, struct run *run,
                                        struct twinlease_error *error)
{
    int64_t call = CALL_SECONDS, wait = 0, failure = 0;
    enum twinlease_code code;

    run->kill_after_seconds = KILL_AFTER_SECONDS;
    if ((code = args_int(args, "count", 1, ENTITLEMENT_SEATS_MAX, &run->seat.count, error)) ||
        (code = args_int(args, "duration", 1, LEASE_SECONDS_MAX, &run->seat.duration_seconds,
                         error)) ||
        (code = args_int(args, "wait", 0, WAIT_SECONDS_MAX, &wait, error)) ||
        (code = args_int(args, "timeout", 1, CALL_SECONDS_MAX, &call, error)) ||
        (code = args_int(args, "kill-after", 0, KILL_AFTER_MAX, &run->kill_after_seconds, error)) ||
        (code = args_int(args, "failure-code", 1, 255, &failure, error)))
        return code;
    run->seat.wait_ms = wait * 1000;
    run->access.deadline_ms = (unsigned)call * 1000;
    run->failure_code = (int)failure;
    return TWINLEASE_OK;
}

static enum twinlease_code read_options(const struct args *args, struct run *run,
                                        struct twinlease_error *error)
{
    const char *on_loss = args_text(args, "on-loss");
    bool memory = args_has(args, "no-state"), grace = args_has(args, "grace");
    enum twinlease_code code = read_seconds(args, run, error);

    if (code != TWINLEASE_OK)
        return code;
    run->on_loss = ON_LOSS_TERM;
    must(!on_loss || on_loss_parse(on_loss, &run->on_loss)); /* one of the option's choices */
    run->keep = args_has(args, "keep");
    if (memory && (run->keep || grace))
        return fault_set(error, TWINLEASE_USAGE,
                         "--%s needs the lease in the state folder, and --no-state stores none",
                         run->keep ? "keep" : "grace");
    run->seat.scope_ref = args_text(args, "scope");
    run->seat.flags = grace ? TWINLEASE_ACQUIRE_GRACE : 0;
    run->access.token_path = args_text(args, "tok");
    run->access.state_dir = memory ? "" : args_text(args, "state");
    run->access.instance_thumbprint = args_text(args, "instance");
    /* Only a lease that outlives this process has to be on disk. */
    run->access.flags = run->keep ? TWINLEASE_STATE_REQUIRED : 0;
    run->access.warning = output_warning;
    run->access.warning_context = run->out;
    if (!run->access.token_path)
        return fault_set(error, TWINLEASE_USAGE,
                         "name the client token with --tok FILE or TWINLEASE_TOK");
    return TWINLEASE_OK;
}

/* ---- before the seat --------------------------------------------------------------------- */

/* Does this session have a terminal? */
static bool has_terminal(void)
{
    int fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);

    if (fd >= 0)
        close(fd);
    return fd >= 0 || (errno != ENXIO && errno != ENOENT);
}

/* What we open later must not become the standard error of either of us. */
static void occupy_standard_fds(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) < 0)
            must(open("/dev/null", O_RDWR | O_CLOEXEC) == fd);
    }
}

static enum twinlease_code prepare_program(struct run *run, struct twinlease_error *error)
{
    const struct child_plan plan = {
        .words = run->args->program,
        .death_signal = on_loss_signal(run->on_loss),
        .own_group = !has_terminal(),
    };

    run->out->exit_code = (int)program_find(plan.words[0], getenv("PATH"), error);
    if (run->out->exit_code)
        return error->code;
    occupy_standard_fds();
    if (!child_fork(&plan, &run->child))
        return fault_set(error, TWINLEASE_ERROR, "there is no room for another process: %s",
                         strerror(errno));
    run->place = (struct signal_place){
        .program = run->child.pid,
        .own_group = plan.own_group,
        .session_leader = getsid(0) == getpid(),
    };
    if (!signals_open(&run->signals_fd) || !notices_init(&run->notices))
        return fault_set(error, TWINLEASE_ERROR, "no file descriptor is left: %s", strerror(errno));
    return TWINLEASE_OK;
}

/* ---- the seat ---------------------------------------------------------------------------- */

static int tell_waiting(void *context, const struct twinlease_waiting *waiting)
{
    struct run *run = context;
    struct json_object *event;

    if (!run->out->json) {
        progress_waiting(&run->progress, waiting);
        return signals_ending();
    }
    event = event_new("waiting");

    put_text(event, "code", twinlease_code_name(waiting->why->code));
    put_text(event, "message", waiting->why->message);
    put_seconds(event, "waited", waiting->waited_ms);
    put_seconds(event, "left", waiting->left_ms);
    put_seconds(event, "next_try", waiting->next_try_ms);
    output_event(run->out, event, NULL);
    return signals_ending();
}

static struct json_object *lease_event(const struct run *run, const char *name)
{
    struct json_object *event = event_new(name);

    put_text(event, "feature", feature_of(run));
    put_text(event, "lease_ref", run->held.lease_ref);
    put_int(event, "count", run->held.count);
    put_instant(event, "expires", run->held.expires_ms);
    return event;
}

static void tell_seat(struct run *run)
{
    struct json_object *event;
    char until[WHEN_SIZE];

    when_format(run->held.expires_ms, until);
    event = lease_event(run, "acquired");
    put_bool(event, "resumed", twinlease_lease_resumed(run->lease));
    put_bool(event, "unconfirmed", twinlease_lease_unconfirmed(run->lease));
    if (twinlease_lease_unconfirmed(run->lease))
        output_event(
            run->out, event,
            "warning: no node answers; %s starts on the lease that this machine has, which "
            "is valid until %s",
            run->args->program[0], until);
    else
        output_event(run->out, event, NULL);
}

static void note_lease(struct run *run)
{
    struct notice *held = &run->held;

    snprintf(held->lease_ref, sizeof held->lease_ref, "%s", twinlease_lease_ref(run->lease));
    held->count = twinlease_lease_count(run->lease);
    held->expires_ms = twinlease_lease_expires_ms(run->lease);
    held->ends.ms = boot_now().ms + twinlease_lease_expires_in_ms(run->lease);
}

static enum twinlease_code say_interrupted(struct twinlease_error *error)
{
    return fault_set(error, TWINLEASE_INTERRUPTED,
                     "ended by signal %d (%s) before the program was started", signals_ending(),
                     strsignal(signals_ending()));
}

static enum twinlease_code take_seat(struct run *run, struct twinlease_error *error)
{
    struct twinlease_keep_options options = TWINLEASE_KEEP_OPTIONS_INIT;
    enum twinlease_code code = twinlease_open(&run->access, &run->handle, error);

    if (code != TWINLEASE_OK)
        return code;
    progress_begin(&run->progress, feature_of(run));
    run->seat.waiting = tell_waiting;
    run->seat.waiting_context = run;
    signals_interrupt(run->handle);
    code = twinlease_acquire(run->handle, feature_of(run), &run->seat, &run->lease, error);
    signals_interrupt(NULL);
    progress_end(&run->progress);
    twinlease_resume(run->handle); /* giving back is not interrupted */
    if (code == TWINLEASE_INTERRUPTED && signals_ending())
        return say_interrupted(error);
    if (code != TWINLEASE_OK)
        return code;
    note_lease(run);
    tell_seat(run);
    options.count = run->seat.count;
    options.duration_seconds = run->seat.duration_seconds;
    options.scope_ref = run->seat.scope_ref;
    options.lease = run->lease;
    options.changed = notices_put;
    options.context = &run->notices;
    code = twinlease_keep(run->handle, feature_of(run), &options, &run->keeper, error);
    if (code == TWINLEASE_OK)
        run->lease = NULL;
    return code;
}

/* Whether the program ran or not. With --keep the lease stays for the next one. */
static void give_back(struct run *run)
{
    struct twinlease_kept kept = TWINLEASE_KEPT_INIT;
    struct twinlease_error why = { .code = TWINLEASE_OK };
    char until[WHEN_SIZE];

    if (!run->keeper && !run->lease)
        return;
    if (run->keeper)
        must(twinlease_keeper_read(run->keeper, &kept) == TWINLEASE_OK);
    bool held = !run->keeper || kept.held;
    if (kept.held)
        run->held.expires_ms = kept.expires_ms;
    if (run->keeper)
        twinlease_keeper_stop(run->keeper, run->keep ? TWINLEASE_STOP_LEASED : 0, &why);
    else if (!run->keep)
        twinlease_release(run->handle, run->lease, &why);
    run->keeper = NULL;
    when_format(run->held.expires_ms, until);
    if (why.code != TWINLEASE_OK) {
        struct json_object *event = lease_event(run, "not_released");
        put_text(event, "code", twinlease_code_name(why.code));
        put_text(event, "message", why.message);
        output_event(run->out, event,
                     "warning: the seat of %s could not be given back (%s); it comes back by "
                     "itself at %s",
                     feature_of(run), why.message, until);
    } else if (held) {
        output_event(run->out, lease_event(run, run->keep ? "kept" : "released"), NULL);
    }
}

/* ---- while it runs ----------------------------------------------------------------------- */

static enum twinlease_code start_program(struct run *run, struct twinlease_error *error)
{
    char texts[VARIABLES][VARIABLE_SIZE];
    const char *variables[VARIABLES + 1] = { texts[0], texts[1], texts[2], NULL };
    struct signal_note note;

    snprintf(texts[0], VARIABLE_SIZE, "TWINLEASE_LEASE_REF=%s", run->held.lease_ref);
    snprintf(texts[1], VARIABLE_SIZE, "TWINLEASE_FEATURE=%s", feature_of(run));
    snprintf(texts[2], VARIABLE_SIZE, "TWINLEASE_COUNT=%" PRId64, run->held.count);
    while (signals_next(&note)) /* they were ours */
        ;
    if (signals_ending())
        return say_interrupted(error);
    signals_take_stop();
    if (!child_go(&run->child, variables))
        return fault_set(error, TWINLEASE_ERROR,
                         "the process that was to become %s was ended while it waited for the seat",
                         run->args->program[0]);
    watch_init(&run->watch, run->on_loss, run->kill_after_seconds * 1000);
    return TWINLEASE_OK;
}

/* Pipes have two ends: who reads from the program or writes to it must not have us there too. */
static void leave_standard_streams(void)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (fd < 0)
        return;
    dup2(fd, STDIN_FILENO);
    dup2(fd, STDOUT_FILENO);
    close(fd);
}

static void take_report(struct run *run)
{
    run->exec_errno = child_report(&run->child);
    if (run->exec_errno)
        return;
    leave_standard_streams();
    struct json_object *event = lease_event(run, "started");
    put_int(event, "pid", run->child.pid);
    output_event(run->out, event, NULL);
}

static void hand_on_signals(struct run *run)
{
    struct signal_note note;

    while (signals_next(&note)) {
        if (signal_is_forwarded(&note, &run->place))
            child_signal(&run->child, note.number);
        /* A shell has to see that the whole of its job has stopped. */
        if (note.number == SIGTSTP && !run->place.own_group)
            raise(SIGSTOP);
    }
    child_reap(&run->child);
}

/* First what is to be done, then the words: standard error may be a pipe that nobody reads. */
static void act(struct run *run, enum watch_action action)
{
    bool kill = action == WATCH_KILL;
    char until[WHEN_SIZE];

    switch (action) {
    case WATCH_NOTHING:
        break;
    case WATCH_RESUME:
        when_format(run->held.expires_ms, until);
        output_event(run->out, lease_event(run, "acquired"),
                     "%s is licensed again: %" PRId64 " %s until %s", feature_of(run),
                     run->held.count, plural(run->held.count), until);
        break;
    case WATCH_WARN:
        output_event(run->out, lease_event(run, "unlicensed"),
                     "warning: %s goes on without a licence for %s", run->args->program[0],
                     feature_of(run));
        break;
    case WATCH_TERM:
    case WATCH_KILL:
        child_signal(&run->child, kill ? SIGKILL : SIGTERM);
        child_signal(&run->child, SIGCONT); /* a stopped program would not notice */
        struct json_object *event = lease_event(run, "ending");
        put_text(event, "signal", kill ? "SIGKILL" : "SIGTERM");
        output_event(run->out, event, "ending %s with %s: its licence for %s is lost",
                     run->args->program[0], kill ? "SIGKILL" : "SIGTERM", feature_of(run));
        break;
    }
}

static void tell_trouble(struct run *run, const struct notice *notice, const char *format)
{
    struct json_object *event = lease_event(run, twinlease_event_name(notice->event));
    char until[WHEN_SIZE];

    when_format(run->held.expires_ms, until);
    put_text(event, "code", twinlease_code_name(notice->error.code));
    put_text(event, "message", notice->error.message);
    if (notice->next_try_ms >= 0)
        put_seconds(event, "next_try", notice->next_try_ms);
    output_event(run->out, event, "warning: the licence for %s %s (%s)%s%s", feature_of(run),
                 format, notice->error.message, notice->ends.ms ? "; it is valid until " : "",
                 notice->ends.ms ? until : "");
}

static void take_lost(struct run *run, const struct notice *notice)
{
    /* Ended, and its time was not over: an operator, or somebody on this machine, wanted that. */
    bool from_outside =
        strcmp(notice->error.problem, "lease_ended") == 0 && notice->at.ms < run->held.ends.ms;

    run->loss = notice->error;
    enum watch_action action = watch_lost(&run->watch, notice->at, from_outside);
    if (action == WATCH_TERM || action == WATCH_KILL)
        act(run, action);
    tell_trouble(run, notice, "is lost");
    if (action == WATCH_WARN)
        act(run, action);
}

static void take_notice(struct run *run, const struct notice *notice)
{
    switch (notice->event) {
    case TWINLEASE_EVENT_ACQUIRED:
        run->held = *notice;
        act(run, watch_acquired(&run->watch));
        break;
    case TWINLEASE_EVENT_RENEWED:
        run->held = *notice;
        output_event(run->out, lease_event(run, "renewed"), NULL);
        break;
    case TWINLEASE_EVENT_TROUBLE:
        tell_trouble(run, notice, "cannot be renewed");
        break;
    case TWINLEASE_EVENT_LOST:
        take_lost(run, notice);
        break;
    case TWINLEASE_EVENT_DENIED:
        tell_trouble(run, notice, "is not to be had again yet");
        break;
    }
}

static void supervise(struct run *run)
{
    struct notice notice;

    child_reap(&run->child); /* whose SIGCHLD was not ours to wait for yet */
    while (!run->child.gone) {
        struct pollfd fds[] = {
            { .fd = run->signals_fd, .events = POLLIN },
            { .fd = run->notices.fd, .events = POLLIN },
            { .fd = run->child.report_fd, .events = POLLIN },
        };
        if (poll(fds, ARRAY_SIZE(fds), watch_wait_ms(&run->watch, boot_now())) < 0) {
            must(errno == EINTR);
            continue;
        }
        if (run->child.report_fd >= 0 && fds[2].revents)
            take_report(run);
        hand_on_signals(run);
        while (notices_take(&run->notices, &notice))
            take_notice(run, &notice);
        act(run, watch_tick(&run->watch, boot_now()));
    }
    if (run->child.report_fd >= 0)
        take_report(run);
}

/* Told to end, the program has; what it had started itself has as long as it would have had. */
static void end_group(struct run *run)
{
    while (run->watch.state == WATCH_ENDING && child_has_group(&run->child)) {
        wait_ms(GROUP_POLL_MS); /* nothing tells when a group is empty */
        child_reap(&run->child);
        act(run, watch_tick(&run->watch, boot_now()));
    }
}

/* ---- the end ----------------------------------------------------------------------------- */

static void tell_end(struct run *run)
{
    int status = run->child.wait_status;
    struct json_object *event = event_new("ended");

    put_int(event, "exit_code", child_exit_code(&run->child));
    if (WIFSIGNALED(status))
        put_int(event, "signal", WTERMSIG(status));
    output_event(run->out, event, NULL);
}

/* A shell that runs a loop ends it only if it sees the key that was pressed. */
static void end_by(struct run *run, int number)
{
    run->out->exit_code = 128 + number;
    if (number == SIGINT || number == SIGQUIT)
        run->out->signal = number;
}

static enum twinlease_code conclude(struct run *run, struct twinlease_error *error)
{
    int status = run->child.wait_status;

    if (run->exec_errno) {
        run->out->exit_code = (int)program_refuse(run->args->program[0], run->exec_errno, error);
        return error->code;
    }
    if (watch_has_ended(&run->watch))
        return fault_set(error, TWINLEASE_LEASE_LOST,
                         "the licence for %s was lost (%s), so %s was ended", feature_of(run),
                         run->loss.message, run->args->program[0]);
    if (WIFSIGNALED(status))
        end_by(run, WTERMSIG(status));
    else
        run->out->exit_code = WEXITSTATUS(status);
    return TWINLEASE_OK;
}

static void run_fini(struct run *run)
{
    child_fini(&run->child);
    must(!run->keeper);
    twinlease_lease_free(run->lease);
    twinlease_close(run->handle);
    notices_fini(&run->notices);
}
DEFINE_AUTO_VALUE(struct run, run_fini)

enum twinlease_code client_run(const struct args *args, struct output *out,
                               struct twinlease_error *error)
{
    AUTO(run_fini)
    struct run run = {
        .args = args,
        .out = out,
        .access = TWINLEASE_OPTIONS_INIT,
        .seat = TWINLEASE_ACQUIRE_OPTIONS_INIT,
    };
    enum twinlease_code code;

    if ((code = read_options(args, &run, error)) == TWINLEASE_OK &&
        (code = prepare_program(&run, error)) == TWINLEASE_OK &&
        (code = take_seat(&run, error)) == TWINLEASE_OK &&
        (code = start_program(&run, error)) == TWINLEASE_OK) {
        supervise(&run);
        end_group(&run);
        if (!run.exec_errno)
            tell_end(&run);
    }
    give_back(&run);
    if (code == TWINLEASE_OK)
        code = conclude(&run, error);
    if (code == TWINLEASE_INTERRUPTED && signals_ending())
        end_by(&run, signals_ending());
    else if (code != TWINLEASE_OK && code != TWINLEASE_USAGE && !out->exit_code)
        out->exit_code = run.failure_code;
    return code;
}
