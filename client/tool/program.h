/* Finding a program before anything is done for it, as execvp(3) will. */
#pragma once

#include "fault.h"

/* Exit codes that shells, env(1) and timeout(1) use too.
 * X(NAME, value, "stable name for programs", "what it means") */
#define PROGRAM_CODES(X)                                                                           \
    X(PROGRAM_UNUSABLE, 126, "not_executable", "`run`: the program is there, but cannot run")      \
    X(PROGRAM_ABSENT, 127, "no_program", "`run`: there is no such program")

enum program_code {
    PROGRAM_FOUND = 0,
#define PROGRAM_X(name, value, text, meaning) name = (value),
    PROGRAM_CODES(PROGRAM_X)
#undef PROGRAM_X
};

/* NULL: none of these. */
const char *program_code_name(int code);

/* name: a path, if it has a '/'; else looked for in the folders of `search` ($PATH; NULL: the
 * system's). *error is filled unless it is FOUND. */
enum program_code program_find(const char *name, const char *search,
                               struct twinlease_error *error) MUST_USE;
/* What it means that execvp(3) failed so. */
enum program_code program_refuse(const char *name, int exec_errno, struct twinlease_error *error);
