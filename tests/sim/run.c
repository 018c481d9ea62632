/* tests/sim/run --seed N | --seeds N [--from K]   [--hours H] [--verbose]
 *
 * Prints one line when all is well; else the failing seed with the last events of its run, and
 * exits with 1. --hours: virtual time of each run (default a quarter). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "world.h"

struct options {
    uint64_t from, seeds;
    double hours;
    bool verbose;
};

static bool take_number(char **argument, const char *name, double *out)
{
    char *end = NULL;

    if (strcmp(argument[0], name) != 0 || !argument[1])
        return false;
    *out = strtod(argument[1], &end);
    return end && !*end && *out >= 0;
}

static bool read_options(char **arguments, struct options *out)
{
    for (char **a = arguments + 1; *a; a++) {
        double number = 0;
        if (strcmp(*a, "--verbose") == 0) {
            out->verbose = true;
            continue;
        }
        if (take_number(a, "--seed", &number))
            out->from = (uint64_t)number;
        else if (take_number(a, "--seeds", &number))
            out->seeds = (uint64_t)number;
        else if (take_number(a, "--from", &number))
            out->from = (uint64_t)number;
        else if (take_number(a, "--hours", &number))
            out->hours = number;
        else
            return false;
        a++;
    }
    return true;
}

static void add(struct world_summary *sum, const struct world_summary *one)
{
    sum->batches += one->batches;
    sum->crashes += one->crashes;
    sum->reloads += one->reloads;
    sum->told += one->told;
    sum->checks += one->checks;
}

int main(int argc, char **argv)
{
    struct options options = { .from = 1, .seeds = 1, .hours = 0.25 };
    struct world_summary sum = { 0 };

    (void)argc;
    if (!read_options(argv, &options)) {
        fprintf(stderr, "usage: %s --seed N | --seeds N [--from K]  [--hours H] [--verbose]\n",
                argv[0]);
        return 2;
    }
    for (uint64_t i = 0; i < options.seeds; i++) {
        struct world_summary one = world_run(options.from + i, (int64_t)(options.hours * 3600000));
        add(&sum, &one);
        if (options.verbose)
            printf("seed %" PRIu64 ": %" PRIu64 " batches, %" PRIu64 " crashes, %" PRIu64
                   " leases told\n",
                   options.from + i, one.batches, one.crashes, one.told);
    }
    printf("seeds %" PRIu64 " to %" PRIu64 ": %" PRIu64 " batches, %" PRIu64 " crashes, %" PRIu64
           " loads, %" PRIu64 " leases told, %" PRIu64 " checks: no rule broken\n",
           options.from, options.from + options.seeds - 1, sum.batches, sum.crashes, sum.reloads,
           sum.told, sum.checks);
    return 0;
}
