/* The simulator; tests/sim/run says how it is called. Prints one line when all is well; else the
 * failing seed with the last events of its run, and exits with 1. */
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "world.h"

#define JOBS_MAX 256

struct options {
    uint64_t from, seeds;
    double hours;
    unsigned jobs;
    struct world_options world;
    bool verbose;
};

static const char *const incident_names[INCIDENTS] = {
    "cut",      "kill", "restore",     "disk",  "empty",
    "lose-all", "dead", "retire-live", "drain", "both-lost",
};

static bool take_number(const char *text, uint64_t *out)
{
    char *end = NULL;

    *out = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && !*end;
}

/* A..B, or a count from the first seed on. */
static bool take_seeds(const char *text, struct options *out)
{
    const char *dots = strstr(text, "..");
    char first[24] = "";
    uint64_t to = 0;

    if (!dots)
        return take_number(text, &out->seeds) && out->seeds > 0;
    if ((size_t)(dots - text) >= sizeof first)
        return false;
    memcpy(first, text, (size_t)(dots - text));
    if (!take_number(first, &out->from) || !take_number(dots + 2, &to) || to < out->from)
        return false;
    out->seeds = to - out->from + 1;
    return true;
}

static bool take_incident(const char *name, unsigned *bits)
{
    for (size_t i = 0; i < INCIDENTS; i++) {
        if (strcmp(name, incident_names[i]) == 0) {
            *bits |= 1u << i;
            return true;
        }
    }
    return false;
}

static bool take_value(const char *name, const char *value, struct options *out)
{
    uint64_t number = 0;

    if (strcmp(name, "--seeds") == 0)
        return take_seeds(value, out);
    if (strcmp(name, "--without") == 0)
        return take_incident(value, &out->world.without);
    if (strcmp(name, "--focus") == 0)
        return take_incident(value, &out->world.focus);
    if (strcmp(name, "--hours") == 0) {
        out->hours = strtod(value, NULL);
        return out->hours > 0;
    }
    if (!take_number(value, &number))
        return false;
    if (strcmp(name, "--seed") == 0)
        out->from = number, out->seeds = 1, out->world.trace = out->world.full_trace = true;
    else if (strcmp(name, "--from") == 0)
        out->from = number;
    else if (strcmp(name, "--jobs") == 0 && number >= 1 && number <= JOBS_MAX)
        out->jobs = (unsigned)number;
    else if (strcmp(name, "--again") == 0) /* run.c itself: a seed that failed among many */
        out->from = number, out->seeds = 1, out->world.trace = true;
    else if (strcmp(name, "--without-bits") == 0)
        out->world.without = (unsigned)number;
    else if (strcmp(name, "--focus-bits") == 0)
        out->world.focus = (unsigned)number;
    else
        return false;
    return true;
}

static bool read_options(char **arguments, struct options *out)
{
    for (char **a = arguments + 1; *a; a++) {
        if (strcmp(*a, "--verbose") == 0)
            out->verbose = true;
        else if (!a[1] || !take_value(a[0], a[1], out))
            return false;
        else
            a++;
    }
    return true;
}

static void add(struct world_summary *sum, const struct world_summary *one)
{
    uint64_t *to = (uint64_t *)sum;
    const uint64_t *from = (const uint64_t *)one;

    for (size_t i = 0; i < sizeof *sum / sizeof *to; i++)
        to[i] += from[i];
}

static int64_t seconds_now(void)
{
    struct timespec now;

    must(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return now.tv_sec;
}

/* Every jobs-th seed from `first` on, to the end or until the time is over. Writes its sum. */
static void run_job(struct options *o, unsigned job, int64_t until_s, int out)
{
    struct {
        uint64_t seeds;
        struct world_summary sum;
    } done = { 0 };

    for (uint64_t i = job; o->hours > 0 ? seconds_now() < until_s : i < o->seeds; i += o->jobs) {
        o->world.seed = o->from + i;
        struct world_summary one = world_run(&o->world);
        add(&done.sum, &one);
        done.seeds++;
        if (o->verbose)
            printf("seed %" PRIu64 ": %" PRIu64 " steps, %" PRIu64 " crashes, %" PRIu64
                   " leases told, %" PRIu64 " nodes, %" PRIu64 " retired\n",
                   o->world.seed, one.steps, one.crashes, one.told, one.identities, one.retired);
    }
    fflush(stdout);
    must(write(out, &done, sizeof done) == (ssize_t)sizeof done);
}

static void say(const struct options *o, uint64_t seeds, const struct world_summary *s,
                int64_t seconds)
{
    printf("%" PRIu64 " seeds from %" PRIu64 ": %" PRIu64 " steps, %" PRIu64 " batches, %" PRIu64
           " crashes, %" PRIu64 " loads, %" PRIu64 " pages, %" PRIu64 " nodes, %" PRIu64
           " retirements (%" PRIu64 " without a wait), %" PRIu64 " leases told, %" PRIu64
           " checks in %" PRId64 " s: no rule broken\n",
           seeds, o->from, s->steps, s->batches, s->crashes, s->reloads, s->pages, s->identities,
           s->retired, s->closed, s->told, s->checks, seconds);
}

/* Each job in its own process; the first that fails has printed why, the others go on to the end of
 * what they do. */
static int run_jobs(struct options *o)
{
    int64_t began_s = seconds_now(), until_s = began_s + (int64_t)(o->hours * 3600);
    struct {
        uint64_t seeds;
        struct world_summary sum;
    } done, total = { 0 };
    pid_t pids[JOBS_MAX];
    int pipes[JOBS_MAX][2];
    int failed = 0;

    for (unsigned job = 0; job < o->jobs; job++) {
        must(pipe(pipes[job]) == 0);
        must((pids[job] = fork()) >= 0);
        if (pids[job] == 0) {
            run_job(o, job, until_s, pipes[job][1]);
            exit(0);
        }
        must(close(pipes[job][1]) == 0);
    }
    for (unsigned job = 0; job < o->jobs; job++) {
        int status = 0;
        if (read(pipes[job][0], &done, sizeof done) == (ssize_t)sizeof done) {
            total.seeds += done.seeds;
            add(&total.sum, &done.sum);
        }
        must(waitpid(pids[job], &status, 0) == pids[job]);
        failed += status != 0;
    }
    if (!failed)
        say(o, total.seeds, &total.sum, seconds_now() - began_s);
    return failed ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct options options = { .from = 1, .seeds = 1, .jobs = 1 };

    (void)argc;
    (void)mallopt(M_MMAP_THRESHOLD, 32 << 20); /* for speed; no sanitizer has it */
    (void)mallopt(M_TRIM_THRESHOLD, 256 << 20);
    if (!read_options(argv, &options)) {
        fprintf(stderr,
                "usage: %s --seed N | --seeds COUNT | --seeds A..B | --hours H  [--from N] "
                "[--jobs N] [--without INCIDENT] [--focus INCIDENT] [--verbose]\n",
                argv[0]);
        return 2;
    }
    if (options.hours > 0 || options.seeds > 1)
        return run_jobs(&options);
    options.world.seed = options.from;
    struct world_summary sum = world_run(&options.world);
    say(&options, 1, &sum, 0);
    return 0;
}
