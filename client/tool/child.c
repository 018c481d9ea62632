#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"

/* Ignored by us alone; the child gets them back as they were. */
static const int ours[] = { SIGPIPE, SIGXFSZ };
static struct sigaction inherited[ARRAY_SIZE(ours)];
static bool prepared;

static int close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
    return -1;
}

/* ---- the child's side -------------------------------------------------------------------- */

/* What was said before the end; false: nothing, so it is not to go. One word, in one piece: see
 * child_go(). */
static bool await_go(int go_fd, char *out, size_t size)
{
    ssize_t got;

    do
        got = read(go_fd, out, size - 1);
    while (got < 0 && errno == EINTR);
    if (got <= 0)
        return false;
    out[got] = '\0';
    return true;
}

static void set_variables(char *text)
{
    while (*text) {
        char *following = text + strlen(text) + 1;
        char *equals = strchr(text, '=');
        must(equals);
        *equals = '\0';
        must(setenv(text, equals + 1, 1) == 0);
        text = following;
    }
}

static _Noreturn void be_child(const struct child_plan *plan, int go_fd, int report_fd)
{
    char variables[PIPE_BUF + 1];

    if (plan->own_group && setpgid(0, 0) != 0)
        _exit(0);
    /* Before the word to go: if we die earlier, there is none. */
    if (plan->death_signal && prctl(PR_SET_PDEATHSIG, plan->death_signal) != 0)
        _exit(0);
    if (!await_go(go_fd, variables, sizeof variables))
        _exit(0);
    set_variables(variables);
    for (size_t i = 0; prepared && i < ARRAY_SIZE(ours); i++)
        sigaction(ours[i], &inherited[i], NULL);
    execvp(plan->words[0], plan->words);
    int problem = errno;
    signal(SIGPIPE, SIG_IGN);
    ssize_t written = write(report_fd, &problem, sizeof problem);
    (void)written;
    _exit(0);
}

/* ---- our side ---------------------------------------------------------------------------- */

void child_prepare(void)
{
    struct sigaction ignore = { .sa_handler = SIG_IGN };

    for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
        must(sigaction(ours[i], &ignore, &inherited[i]) == 0);
    prepared = true;
}

bool child_fork(const struct child_plan *plan, struct child *out)
{
    int go[2] = { -1, -1 }, report[2] = { -1, -1 };
    pid_t pid = -1;

    if (pipe2(go, O_CLOEXEC) == 0 && pipe2(report, O_CLOEXEC) == 0)
        pid = fork();
    if (pid == 0) {
        close_fd(go[1]);
        close_fd(report[0]);
        be_child(plan, go[0], report[1]);
    }
    int problem = errno;
    close_fd(go[0]);
    close_fd(report[1]);
    if (pid < 0) {
        close_fd(go[1]);
        close_fd(report[0]);
        errno = problem;
        return false;
    }
    /* Whoever is first; the other one's does nothing. */
    if (plan->own_group)
        setpgid(pid, pid);
    *out = (struct child){
        .pid = pid, .go_fd = go[1], .report_fd = report[0], .own_group = plan->own_group
    };
    return true;
}

bool child_go(struct child *child, const char *const *variables)
{
    AUTO(buf_fini) struct buf text = { .max = PIPE_BUF }; /* so that it goes in one piece */

    for (; *variables; variables++)
        buf_append(&text, *variables, strlen(*variables) + 1);
    buf_append(&text, "", 1);
    must(buf_ok(&text) && child->go_fd >= 0);
    bool told = write(child->go_fd, text.bytes, text.length) == (ssize_t)text.length;
    child->go_fd = close_fd(child->go_fd);
    return told;
}

int child_report(struct child *child)
{
    int problem = 0;
    ssize_t got;

    do
        got = read(child->report_fd, &problem, sizeof problem);
    while (got < 0 && errno == EINTR);
    child->report_fd = close_fd(child->report_fd);
    return got == (ssize_t)sizeof problem ? problem : 0;
}

void child_signal(const struct child *child, int number)
{
    if (child->own_group)
        kill(-child->pid, number);
    else if (child->pid && !child->gone)
        kill(child->pid, number);
}

bool child_has_group(const struct child *child)
{
    return child->own_group && kill(-child->pid, 0) == 0;
}

void child_reap(struct child *child)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == child->pid) {
            child->gone = true;
            child->wait_status = status;
        }
    }
}

int child_exit_code(const struct child *child)
{
    must(child->gone);
    return WIFSIGNALED(child->wait_status) ? 128 + WTERMSIG(child->wait_status)
                                           : WEXITSTATUS(child->wait_status);
}

void child_fini(struct child *child)
{
    int status;

    if (child->pid && !child->gone && child->go_fd >= 0) {
        kill(child->pid, SIGKILL); /* it may have been stopped */
        while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR)
            ;
    }
    if (child->pid) {
        child->go_fd = close_fd(child->go_fd);
        child->report_fd = close_fd(child->report_fd);
    }
    child->pid = 0;
}
