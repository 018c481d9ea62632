/* The commands and their options: tables that dispatch, explain and document (command.tbl). */
#pragma once

#include <stddef.h>

#include "command.tbl"
#include "fault.h"
#include "output.h"
#include "program.h"

enum group { GROUP_PUBLISHER, GROUP_OPERATOR, GROUP_CLIENT, GROUPS };

enum { OPTION_REQUIRED = 1u << 0, OPTION_REPEATS = 1u << 1 };

struct option {
    const char *name;     /* without the dashes; NULL ends a set */
    const char *argument; /* as help shows it; NULL: a switch. "a|b": one of these words. Of FILE,
                             DIR and PATH shells complete the names */
    unsigned flags;
    const char *variable; /* of the environment, used if the option is not given; or NULL */
    const char *help;
};

struct args;

/* Does the work and prints its result; what goes wrong is told by the error, which main prints. */
typedef enum twinlease_code command_fn(const struct args *args, struct output *out,
                                       struct twinlease_error *error);

#define X(function, ...) command_fn function;
COMMAND_TBL(X)
#undef X

struct command {
    command_fn *run;
    enum group group;
    const char *name, *operands;
    size_t operands_least, operands_most;
    const struct option *const *options; /* sets; NULL ends them */
    const char *summary, *details;
};

extern const struct command commands[];
extern const size_t command_count;
const char *group_title(enum group group);

/* The next of the words "a|b" of an option's argument, and its length; NULL: no more. *at begins as
 * the argument. */
const char *choice_next(const char **at, size_t *length);

/* Options that every command has. */
extern const struct option options_general[];

/* The command that the first words name, and how many they are; NULL: none. */
const struct command *command_find(int argc, char *const *argv, int *words);

/* "-- COMMAND [ARG…]" of a command that runs a program; else NULL. */
const char *command_program(const struct command *command);

/* Help on standard output: of one command, or the list of all (NULL). */
void command_help(const struct command *command);
/* The completion script of this shell; false if there is none for it. */
bool completion_print(const char *shell);
/* A man page ("twinlease.1"); false if there is none of this name. */
bool manual_print(const char *page);
