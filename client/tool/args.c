#include "args.h"

#include <stdlib.h>

static const struct option *find_option(const struct command *command, const char *name,
                                        size_t length)
{
    for (const struct option *const *set = command->options; *set; set++) {
        for (const struct option *option = *set; option->name; option++) {
            if (strlen(option->name) == length && memcmp(option->name, name, length) == 0)
                return option;
        }
    }
    return NULL;
}

static bool is_choice(const struct option *option, const char *text)
{
    const char *at = option->argument, *word;
    size_t length;

    if (!strchr(at, '|'))
        return true;
    while ((word = choice_next(&at, &length))) {
        if (strlen(text) == length && memcmp(text, word, length) == 0)
            return true;
    }
    return false;
}

static enum twinlease_code add_value(struct args *args, const struct option *option,
                                     const char *text, struct twinlease_error *error)
{
    if (args_has(args, option->name) && !(option->flags & OPTION_REPEATS))
        return fault_set(error, TWINLEASE_USAGE, "--%s stands twice", option->name);
    if (text && !is_choice(option, text))
        return fault_set(error, TWINLEASE_USAGE, "--%s is \"%.40s\"; allowed are %s", option->name,
                         text, option->argument);
    if (args->value_count == ARGS_VALUES_MAX)
        return fault_set(error, TWINLEASE_USAGE, "there are more than %d options", ARGS_VALUES_MAX);
    args->values[args->value_count++] = (struct args_value){ option, text };
    return TWINLEASE_OK;
}

/* One option and, if it takes one, its value; *taken: words of the command line. */
static enum twinlease_code read_option(struct args *args, int argc, char *const *argv, int *taken,
                                       struct twinlease_error *error)
{
    const char *name = argv[0] + 2;
    size_t length = strcspn(name, "=");
    const char *value = name[length] == '=' ? name + length + 1 : NULL;
    const struct option *option = find_option(args->command, name, length);

    *taken = 1;
    if (!option)
        return fault_set(error, TWINLEASE_USAGE,
                         "`%s` has no option --%.*s; `twinlease %s --help` lists them",
                         args->command->name, (int)length, name, args->command->name);
    if (!option->argument && value)
        return fault_set(error, TWINLEASE_USAGE, "--%s takes no value", option->name);
    if (option->argument && !value) {
        if (argc < 2)
            return fault_set(error, TWINLEASE_USAGE, "--%s needs a value: %s", option->name,
                             option->argument);
        value = argv[1];
        *taken = 2;
    }
    return add_value(args, option, value, error);
}

static enum twinlease_code add_operand(struct args *args, const char *text,
                                       struct twinlease_error *error)
{
    if (args->operand_count == args->command->operands_most && command_program(args->command))
        return fault_set(error, TWINLEASE_USAGE,
                         "`%s` does not take \"%.100s\": the program stands behind --, as in "
                         "`twinlease %s %s -- %.100s`",
                         args->command->name, text, args->command->name, args->operands[0], text);
    if (args->operand_count == args->command->operands_most)
        return fault_set(error, TWINLEASE_USAGE, "`%s` does not take \"%.100s\"; see --help",
                         args->command->name, text);
    args->operands[args->operand_count++] = text;
    return TWINLEASE_OK;
}

static enum twinlease_code check_needed(const struct args *args, struct twinlease_error *error)
{
    if (args->operand_count < args->command->operands_least)
        return fault_set(error, TWINLEASE_USAGE, "`%s` needs %s", args->command->name,
                         args->command->operands);
    if (command_program(args->command) && (!args->program || !*args->program))
        return fault_set(error, TWINLEASE_USAGE,
                         "`%s` needs a program behind --, as in `twinlease %s %s -- ./program`",
                         args->command->name, args->command->name, args->operands[0]);
    for (const struct option *const *set = args->command->options; *set; set++) {
        for (const struct option *option = *set; option->name; option++) {
            if ((option->flags & OPTION_REQUIRED) && !args_has(args, option->name))
                return fault_set(error, TWINLEASE_USAGE, "`%s` needs --%s %s", args->command->name,
                                 option->name, option->argument);
        }
    }
    return TWINLEASE_OK;
}

enum twinlease_code args_parse(const struct command *command, int argc, char *const *argv,
                               struct args *out, bool *help, struct twinlease_error *error)
{
    enum twinlease_code code = TWINLEASE_OK;
    bool options = true;
    int taken;

    must(command->operands_most <= ARGS_OPERANDS_MAX);
    *out = (struct args){ .command = command };
    *help = false;
    for (int i = 0; i < argc && code == TWINLEASE_OK; i += taken) {
        bool dashes = options && strcmp(argv[i], "--") == 0;
        taken = 1;
        if (dashes && command_program(command)) {
            out->program = argv + i + 1;
            break;
        }
        if (dashes)
            options = false;
        else if (options && (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0))
            *help = true;
        else if (options && strncmp(argv[i], "--", 2) == 0)
            code = read_option(out, argc - i, argv + i, &taken, error);
        else if (options && argv[i][0] == '-' && argv[i][1])
            code = fault_set(error, TWINLEASE_USAGE,
                             "\"%.100s\" is no option: all of them begin with two dashes", argv[i]);
        else
            code = add_operand(out, argv[i], error);
        if (*help)
            return TWINLEASE_OK;
    }
    return code == TWINLEASE_OK ? check_needed(out, error) : code;
}

bool args_has(const struct args *args, const char *name)
{
    size_t at = 0;

    for (; at < args->value_count; at++) {
        if (strcmp(args->values[at].option->name, name) == 0)
            return true;
    }
    return false;
}

const char *args_next(const struct args *args, const char *name, size_t *at)
{
    while (*at < args->value_count) {
        const struct args_value *value = &args->values[(*at)++];
        if (strcmp(value->option->name, name) == 0)
            return value->text;
    }
    return NULL;
}

const char *args_text(const struct args *args, const char *name)
{
    const struct option *option = find_option(args->command, name, strlen(name));
    size_t at = 0;
    const char *text = args_next(args, name, &at);

    must(option && option->argument);
    if (!text && option->variable)
        text = getenv(option->variable);
    return text && *text ? text : NULL;
}

bool int_parse(const char *text, size_t length, int64_t *out)
{
    int64_t value = 0;

    if (length == 0 || length > 18)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value * 10 + (text[i] - '0');
    }
    *out = value;
    return true;
}

enum twinlease_code args_int(const struct args *args, const char *name, int64_t min, int64_t max,
                             int64_t *out, struct twinlease_error *error)
{
    const char *text = args_text(args, name);
    int64_t value;

    if (!text)
        return TWINLEASE_OK;
    if (!int_parse(text, strlen(text), &value) || value < min || value > max)
        return fault_set(error, TWINLEASE_USAGE, "--%s is \"%.40s\"; allowed are %jd to %jd", name,
                         text, (intmax_t)min, (intmax_t)max);
    *out = value;
    return TWINLEASE_OK;
}
