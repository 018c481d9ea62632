#include "confirm.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_SIZE 64

enum twinlease_code confirm_possible(const char *why, struct twinlease_error *error)
{
    if (isatty(STDIN_FILENO))
        return TWINLEASE_OK;
    return fault_set(error, TWINLEASE_USAGE, "%s: confirm it on a terminal, or with --yes", why);
}

enum twinlease_code confirm_word(const char *word, struct twinlease_error *error)
{
    char line[LINE_SIZE];

    fprintf(stderr, "Type %s to go on: ", word);
    if (!fgets(line, sizeof line, stdin))
        line[0] = '\0';
    line[strcspn(line, "\n")] = '\0';
    return strcmp(line, word) == 0
               ? TWINLEASE_OK
               : fault_set(error, TWINLEASE_USAGE, "not confirmed; nothing was done");
}
