/* twinlease: one tool for publishers, operators and clients. Its exit codes are those of
 * twinlease.h. */
#include <stdio.h>

#include "args.h"
#include "child.h"
#include "signals.h"

/* Wanted even if the rest of the command line is wrong. */
static bool wants_json(int argc, char *const *argv)
{
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0)
            return false;
        if (strcmp(argv[i], "--json") == 0)
            return true;
    }
    return false;
}

/* Help, version, man page, completion: done if true. */
static bool answer_question(int argc, char *const *argv, struct twinlease_error *error)
{
    const char *word = argc > 0 ? argv[0] : "";

    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        int words;
        command_help(argc > 1 ? command_find(argc - 1, argv + 1, &words) : NULL);
    } else if (strcmp(word, "--version") == 0) {
        printf("twinlease %s\n", twinlease_version());
    } else if (strcmp(word, "--man") == 0) {
        if (!manual_print(argc > 1 ? argv[1] : "twinlease.1"))
            fault_set(error, TWINLEASE_USAGE,
                      "there is no page %.60s: twinlease.1, libtwinlease.3, "
                      "twinlease-agent.conf.5",
                      argv[1]);
    } else if (strcmp(word, "--completion") == 0) {
        if (!completion_print(argc > 1 ? argv[1] : ""))
            fault_set(error, TWINLEASE_USAGE,
                      "--completion needs the name of a shell: bash or zsh");
    } else {
        return false;
    }
    return true;
}

static enum twinlease_code run(int argc, char *const *argv, struct output *out,
                               struct twinlease_error *error)
{
    struct args args;
    int words = 0;
    bool help;

    if (answer_question(argc, argv, error))
        return error->code;
    const struct command *command = command_find(argc, argv, &words);
    if (!command)
        return fault_set(error, TWINLEASE_USAGE,
                         argc > 0 ? "there is no command \"%.60s\"; `twinlease --help` lists them"
                                  : "name a command%s; `twinlease --help` lists them",
                         argc > 0 ? argv[0] : "");
    out->aside = command_program(command) != NULL;
    enum twinlease_code code = args_parse(command, argc - words, argv + words, &args, &help, error);
    if (code != TWINLEASE_OK)
        return code;
    if (help) {
        command_help(command);
        return TWINLEASE_OK;
    }
    return command->run(&args, out, error);
}

int main(int argc, char **argv)
{
    struct output out = { .json = wants_json(argc, argv) };
    struct twinlease_error error;

    child_prepare(); /* a closed pipe: output_flush() tells */
    fault_clear(&error);
    enum twinlease_code code = run(argc - 1, argv + 1, &out, &error);
    if (code != TWINLEASE_OK)
        output_error(&out, &error);
    if (!output_flush() && code == TWINLEASE_OK) {
        fprintf(stderr, "twinlease: the output could not be written\n");
        code = TWINLEASE_ERROR;
    }
    if (out.signal)
        signals_die_of(out.signal);
    return out.exit_code ? out.exit_code : (int)code;
}
