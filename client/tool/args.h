/* The command line of one command, checked against its table of options. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "command.h"

#define ARGS_VALUES_MAX   600 /* 256 features with a scope each, and some more */
#define ARGS_OPERANDS_MAX 4

struct args_value {
    const struct option *option;
    const char *text; /* NULL: a switch */
};

struct args {
    const struct command *command;
    struct args_value values[ARGS_VALUES_MAX];
    size_t value_count;
    const char *operands[ARGS_OPERANDS_MAX];
    size_t operand_count;
    char *const *program; /* with its arguments, NULL at the end; NULL if the command takes none */
};

/* --name VALUE, --name=VALUE, -- ends options and, for a command that runs a program, everything
 * that is ours. argv ends with NULL. *help is set if help was asked for; then nothing
 * else is checked. USAGE names the culprit. */
enum twinlease_code args_parse(const struct command *command, int argc, char *const *argv,
                               struct args *out, bool *help, struct twinlease_error *error);

bool args_has(const struct args *args, const char *name); /* on the command line */
/* The option's value, else that of its environment variable if it is not empty, else NULL. */
const char *args_text(const struct args *args, const char *name);
/* The next value of a repeated option: *at begins at 0; NULL: no more. */
const char *args_next(const struct args *args, const char *name, size_t *at);
/* *out stays as it is if the option is not given. USAGE. */
enum twinlease_code args_int(const struct args *args, const char *name, int64_t min, int64_t max,
                             int64_t *out, struct twinlease_error *error) MUST_USE;
/* A whole decimal number and nothing else. */
bool int_parse(const char *text, size_t length, int64_t *out) MUST_USE;
