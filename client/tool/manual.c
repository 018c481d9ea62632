/* The man pages: the files of man/ with their lists filled in from the tables. */
#include <stdio.h>

#include "agent/settings.h"
#include "agent/settings.h"
#include "base/embed.h"
#include "command.h"

/* The pages, and last the names that libtwinlease exports. */
extern const struct embedded_file twinlease_manual[];

#define SYMBOLS "libtwinlease.symbols"

/* roff takes '-' for a hyphen, and a '.' or '\'' at the beginning of a line for a request. */
static void print_roff(const char *text)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", stdout);
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

static void print_group(enum group group)
{
    printf(".SH %s\n", group_title(group));
    for (size_t i = 0; i < command_count; i++) {
        const struct command *command = &commands[i];
        if (command->group != group)
            continue;
        printf(".SS twinlease ");
        print_roff(command->name);
        printf("%s", *command->operands ? " " : "");
        print_roff(command->operands);
        printf("\nTo ");
        print_roff(command->summary);
        printf(".%s", *command->details ? "\n" : "");
        print_roff(command->details);
        putchar('\n');
        print_options(command->options);
        if (command->run == client_agent) {
            puts(".PP\nSettings, in the file or in the environment:");
            agent_settings_help_man(stdout);
        }
    }
}

static void print_commands(void)
{
    for (int group = 0; group < GROUPS; group++)
        print_group((enum group)group);
    printf(".SH OPTIONS\nEvery command has these, too:\n");
    for (const struct option *option = options_general; option->name; option++)
        printf(".TP\n.B \\-\\-%s\n%s\n", option->name, option->help);
}

static void print_codes(void)
{
#define X(name, value, text, meaning) printf(".TP\n.BR %d \" (%s)\"\n%s\n", value, text, meaning);
    TWINLEASE_CODES(X)
    PROGRAM_CODES(X)
#undef X
}

static void print_constants(void)
{
#define X(name, value, text, meaning)                                                              \
    printf(".TP\n.BR TWINLEASE_" #name " \" (%d)\"\n%s\n", value, meaning);
    TWINLEASE_CODES(X)
#undef X
}

/* The option that is read from this variable; each variable once. */
static const struct option *variable_option(size_t index)
{
    const struct option *found[64];
    size_t count = 0;

    for (size_t i = 0; i < command_count; i++) {
        for (const struct option *const *set = commands[i].options; *set; set++) {
            for (const struct option *option = *set; option->name; option++) {
                size_t at = 0;
                while (option->variable && at < count &&
                       strcmp(found[at]->variable, option->variable) != 0)
                    at++;
                if (option->variable && at == count && count < ARRAY_SIZE(found))
                    found[count++] = option;
            }
        }
    }
    return index < count ? found[index] : NULL;
}

static void print_variables(void)
{
    const struct option *option;

    for (size_t i = 0; (option = variable_option(i)); i++) {
        printf(".TP\n.B %s\nAs ", option->variable);
        printf("\\fB\\-\\-");
        print_roff(option->name);
        printf("\\fR: ");
        print_roff(option->help);
        putchar('\n');
    }
}

static const struct embedded_file *find_file(const char *name)
{
    const struct embedded_file *file = twinlease_manual;

    while (file->name && strcmp(file->name, name) != 0)
        file++;
    return file->name ? file : NULL;
}

static void print_functions(void)
{
    const struct embedded_file *symbols = find_file(SYMBOLS);
    const char *at = symbols->begin;

    while (at < symbols->end) {
        const char *end = memchr(at, '\n', (size_t)(symbols->end - at));
        if (!end)
            end = symbols->end;
        printf(".BR %.*s ()%s\n", (int)(end - at), at, end + 1 < symbols->end ? "," : "");
        at = end + 1;
    }
}

static void print_settings(void)
{
    agent_settings_help_man(stdout);
}

static void print_version(void)
{
    printf("%s", twinlease_version());
}

static const struct place {
    const char *name;
    void (*print)(void);
} places[] = {
    { "@VERSION@", print_version },       { "@COMMANDS@\n", print_commands },
    { "@CODES@\n", print_codes },         { "@CONSTANTS@\n", print_constants },
    { "@VARIABLES@\n", print_variables }, { "@FUNCTIONS@\n", print_functions },
    { "@SETTINGS@\n", print_settings },
};

static const struct place *place_at(const char *at, const char *end)
{
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        size_t length = strlen(places[i].name);
        if ((size_t)(end - at) >= length && memcmp(at, places[i].name, length) == 0)
            return &places[i];
    }
    return NULL;
}

bool manual_print(const char *page)
{
    const struct embedded_file *file = find_file(page);

    if (!file || strcmp(page, SYMBOLS) == 0)
        return false;
    for (const char *at = file->begin; at < file->end;) {
        const struct place *place = *at == '@' ? place_at(at, file->end) : NULL;
        if (place) {
            place->print();
            at += strlen(place->name);
        } else {
            putchar(*at++);
        }
    }
    return true;
}
