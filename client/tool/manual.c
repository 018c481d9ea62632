/* The man page: man/twinlease.1 with its lists filled in from the tables. */
#include <stdio.h>

#include "base/embed.h"
#include "command.h"

extern const struct embedded_file twinlease_manual[];

/* roff takes '-' for a hyphen, and a '.' or '\'' at the beginning of a line for a request. */
static void print_roff(const char *text)
{
    for (const char *p = text; *p; p++) {
        if (*p == '-')
            fputs("\\-", stdout);
        else if (*p == '\\')
            fputs("\\e", stdout);
        else
            putchar(*p);
    }
}

static void print_options(const struct option *const *sets)
{
    for (; *sets; sets++) {
        if (*sets == options_general)
            continue;
        for (const struct option *option = *sets; option->name; option++) {
            printf(".TP\n\\fB\\-\\-");
            print_roff(option->name);
            printf("\\fR%s\\fI", option->argument ? " " : "");
            print_roff(option->argument ? option->argument : "");
            printf("\\fR%s\n", option->flags & OPTION_REQUIRED ? " (needed)" : "");
            print_roff(option->help);
            if (option->flags & OPTION_REPEATS)
                printf("; may be repeated");
            if (option->variable)
                printf(" [%s]", option->variable);
            putchar('\n');
        }
    }
}

static void print_commands(void)
{
    for (int group = 0; group < GROUPS; group++) {
        printf(".SH %s\n", group_title((enum group)group));
        for (size_t i = 0; i < command_count; i++) {
            const struct command *command = &commands[i];
            if ((int)command->group != group)
                continue;
            printf(".SS twinlease %s %s\nTo %s.%s", command->name, command->operands,
                   command->summary, *command->details ? "\n" : "");
            print_roff(command->details);
            putchar('\n');
            print_options(command->options);
        }
    }
}

static void print_codes(void)
{
#define X(name, value, text, meaning) printf(".TP\n.B %d\n%s\n", value, meaning);
    TWINLEASE_CODES(X)
#undef X
}

static const struct place {
    const char *name;
    void (*print)(void);
} places[] = {
    { "@COMMANDS@\n", print_commands },
    { "@CODES@\n", print_codes },
};

bool manual_print(void)
{
    const char *at = twinlease_manual[0].begin, *end = twinlease_manual[0].end;

    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        const char *place = memmem(at, (size_t)(end - at), places[i].name, strlen(places[i].name));
        if (!place)
            return false;
        printf("%.*s", (int)(place - at), at);
        places[i].print();
        at = place + strlen(places[i].name);
    }
    printf("%.*s", (int)(end - at), at);
    return true;
}
