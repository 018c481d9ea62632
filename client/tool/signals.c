#include "signals.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <unistd.h>

#include "twinlease.h"

/* What is handed on, with the real-time signals. Of these, those that end a process by default. */
static const struct {
    int number;
    bool ends;
} handled[] = {
    { SIGHUP, true },   { SIGINT, true },    { SIGQUIT, true },  { SIGTERM, true },
    { SIGUSR1, true },  { SIGUSR2, true },   { SIGALRM, true },  { SIGPWR, true },
    { SIGCONT, false }, { SIGWINCH, false }, { SIGCHLD, false },
};

/* A handler has no other way to its surroundings. */
static int pipe_in = -1, pipe_out = -1;
static _Atomic(struct twinlease *) waiting;
static atomic_int ending;

static bool ends(int number)
{
    for (size_t i = 0; i < ARRAY_SIZE(handled); i++) {
        if (handled[i].number == number)
            return handled[i].ends;
    }
    return number >= SIGRTMIN && number <= SIGRTMAX;
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    const struct signal_note note = { number, info->si_code,
                                      info->si_code <= 0 ? info->si_pid : 0 };
    int before = errno, none = 0;

    (void)context;
    if (ends(number)) {
        atomic_compare_exchange_strong(&ending, &none, number);
        struct twinlease *handle = atomic_load(&waiting);
        if (handle)
            twinlease_interrupt(handle);
    }
    /* Smaller than PIPE_BUF: whole or, if thousands wait already, not at all. */
    ssize_t written = write(pipe_in, &note, sizeof note);
    (void)written;
    errno = before;
}

static void install(int number)
{
    struct sigaction action = { .sa_flags = SA_SIGINFO | SA_RESTART }, before;

    must(sigaction(number, NULL, &before) == 0);
    if (before.sa_handler == SIG_IGN && number != SIGCHLD)
        return;
    action.sa_sigaction = on_signal;
    sigfillset(&action.sa_mask);
    must(sigaction(number, &action, NULL) == 0);
}

bool signals_open(int *out_fd)
{
    int ends_of_pipe[2];

    if (pipe2(ends_of_pipe, O_CLOEXEC | O_NONBLOCK) != 0)
        return false;
    pipe_out = ends_of_pipe[0];
    pipe_in = ends_of_pipe[1];
    for (size_t i = 0; i < ARRAY_SIZE(handled); i++)
        install(handled[i].number);
    for (int number = SIGRTMIN; number <= SIGRTMAX; number++)
        install(number);
    *out_fd = pipe_out;
    return true;
}

void signals_take_stop(void)
{
    install(SIGTSTP);
}

void signals_interrupt(struct twinlease *handle)
{
    atomic_store(&waiting, handle);
    if (handle && atomic_load(&ending)) /* it came before */
        twinlease_interrupt(handle);
}

int signals_ending(void)
{
    return atomic_load(&ending);
}

bool signals_next(struct signal_note *out)
{
    ssize_t got;

    do
        got = read(pipe_out, out, sizeof *out);
    while (got < 0 && errno == EINTR);
    return got == (ssize_t)sizeof *out;
}

bool signal_is_forwarded(const struct signal_note *note, const struct signal_place *place)
{
    if (note->number == SIGCHLD)
        return false;
    if (note->code != SI_KERNEL)
        return note->sender != place->program;
    return place->own_group || (note->number == SIGHUP && place->session_leader);
}

void signals_die_of(int number)
{
    static const struct rlimit none = { 0, 0 };
    sigset_t set;

    if (setrlimit(RLIMIT_CORE, &none) != 0 || signal(number, SIG_DFL) == SIG_ERR)
        return;
    sigemptyset(&set);
    sigaddset(&set, number);
    must(pthread_sigmask(SIG_UNBLOCK, &set, NULL) == 0);
    raise(number);
}
