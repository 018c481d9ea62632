/* Completion scripts for shells, made from the tables: what `twinlease --completion SHELL` prints.
 *
 * Both scripts find the command in the first one or two words, and then offer its options, the
 * words that an option takes, names of files where it takes a file, and the program after the `--`
 * of a command that starts one. They need no other file: bash-completion's helpers are used if
 * there. */
#include <stdio.h>

#include "command.h"

/* What an option or an operand takes. */
enum kind { KIND_NONE, KIND_TEXT, KIND_FILE, KIND_FOLDER, KIND_CHOICE, KIND_PROGRAM };

static bool begins_with(const char *text, const char *beginning)
{
    return strncmp(text, beginning, strlen(beginning)) == 0;
}

static enum kind kind_of(const char *argument)
{
    if (!argument || !*argument)
        return KIND_NONE;
    if (strstr(argument, "-- "))
        return KIND_PROGRAM;
    if (strchr(argument, '|'))
        return KIND_CHOICE;
    if (begins_with(argument, "FILE") || begins_with(argument, "PATH"))
        return KIND_FILE;
    return begins_with(argument, "DIR") ? KIND_FOLDER : KIND_TEXT;
}

static int first_word(const struct command *command)
{
    return (int)strcspn(command->name, " ");
}

static bool same_first_word(const struct command *a, const struct command *b)
{
    return first_word(a) == first_word(b) && memcmp(a->name, b->name, (size_t)first_word(a)) == 0;
}

/* The second word of a command that has one; else NULL. */
static const char *second_word(const struct command *command)
{
    return command->name[first_word(command)] ? command->name + first_word(command) + 1 : NULL;
}

/* Is it the first command that begins with this word? */
static bool leads(size_t at)
{
    for (size_t i = 0; i < at; i++) {
        if (same_first_word(&commands[i], &commands[at]))
            return false;
    }
    return true;
}

static void print_choices(const char *argument, const char *between)
{
    const char *at = argument, *word, *joint = "";
    size_t length;

    while ((word = choice_next(&at, &length))) {
        printf("%s%.*s", joint, (int)length, word);
        joint = between;
    }
}

/* ---- bash -------------------------------------------------------------------------------- */

/* --name, and after a '=' what it takes. */
static void bash_option(const struct option *option)
{
    static const char *const takes[] = {
        [KIND_NONE] = "",        [KIND_TEXT] = "=",   [KIND_FILE] = "=@file",
        [KIND_FOLDER] = "=@dir", [KIND_CHOICE] = "=", [KIND_PROGRAM] = "=",
    };
    enum kind kind = kind_of(option->argument);

    printf(" --%s%s", option->name, takes[kind]);
    if (kind == KIND_CHOICE)
        print_choices(option->argument, ",");
}

static void bash_table(void)
{
    static const char *const operands[] = {
        [KIND_NONE] = "",       [KIND_TEXT] = "",   [KIND_FILE] = "@file",
        [KIND_FOLDER] = "@dir", [KIND_CHOICE] = "", [KIND_PROGRAM] = "@program",
    };

    printf("_twinlease_command() {\n    case $1 in\n");
    for (size_t i = 0; i < command_count; i++) {
        printf("    '%s') options='", commands[i].name);
        for (const struct option *const *set = commands[i].options; *set; set++) {
            for (const struct option *option = *set; option->name; option++)
                bash_option(option);
        }
        printf("' operand=%s ;;\n", operands[kind_of(commands[i].operands)]);
    }
    printf("    *) return 1 ;;\n    esac\n}\n\n");
}

static void bash_words(void)
{
    printf("_twinlease_second_words() {\n    case $1 in\n");
    for (size_t i = 0; i < command_count; i++) {
        if (!leads(i))
            continue;
        printf("    %.*s) second='", first_word(&commands[i]), commands[i].name);
        for (size_t j = i; j < command_count; j++) {
            if (same_first_word(&commands[i], &commands[j]) && second_word(&commands[j]))
                printf(" %s", second_word(&commands[j]));
        }
        printf("' ;;\n");
    }
    printf("    esac\n}\n\n");
    printf("_twinlease_first_words='");
    for (size_t i = 0; i < command_count; i++) {
        if (leads(i))
            printf("%.*s ", first_word(&commands[i]), commands[i].name);
    }
    printf("help --help --version --man --completion'\n\n");
}

static const char bash_code[] =
    "# Names of files ($1: f) or folders (d).\n"
    "_twinlease_names() {\n"
    "    compopt -o filenames 2>/dev/null\n"
    "    mapfile -t COMPREPLY < <(compgen -\"$1\" -- \"$cur\")\n"
    "}\n"
    "\n"
    "_twinlease_words() {\n"
    "    mapfile -t COMPREPLY < <(compgen -W \"$1\" -- \"$cur\")\n"
    "}\n"
    "\n"
    "# What the option $1 takes; false if it takes nothing.\n"
    "_twinlease_value() {\n"
    "    local entry\n"
    "    for entry in $options; do\n"
    "        case $entry in\n"
    "        \"$1=@file\") _twinlease_names f ;;\n"
    "        \"$1=@dir\") _twinlease_names d ;;\n"
    "        \"$1=\"*) entry=${entry#*=} && _twinlease_words \"${entry//,/ }\" ;;\n"
    "        *) continue ;;\n"
    "        esac\n"
    "        return 0\n"
    "    done\n"
    "    return 1\n"
    "}\n"
    "\n"
    "# The program that begins at word $1, and its own arguments.\n"
    "_twinlease_program() {\n"
    "    if declare -F _command_offset >/dev/null; then\n"
    "        _command_offset \"$1\"\n"
    "    elif ((COMP_CWORD == $1)); then\n"
    "        mapfile -t COMPREPLY < <(compgen -c -- \"$cur\")\n"
    "    else\n"
    "        _twinlease_names f\n"
    "    fi\n"
    "}\n"
    "\n"
    "_twinlease() {\n"
    "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}\n"
    "    local options='' operand='' second='' used=1 entry word names=''\n"
    "\n"
    "    COMPREPLY=()\n"
    "    if ((COMP_CWORD == 1)); then\n"
    "        _twinlease_words \"$_twinlease_first_words\"\n"
    "        return\n"
    "    fi\n"
    "    case ${COMP_WORDS[1]} in\n"
    "    --completion) _twinlease_words 'bash zsh' && return ;;\n"
    "    help) _twinlease_words \"$_twinlease_first_words\" && return ;;\n"
    "    esac\n"
    "    if ((COMP_CWORD > 2)) && _twinlease_command \"${COMP_WORDS[1]} ${COMP_WORDS[2]}\"; then\n"
    "        used=2\n"
    "    else\n"
    "        ((COMP_CWORD == 2)) && _twinlease_second_words \"${COMP_WORDS[1]}\"\n"
    "        _twinlease_command \"${COMP_WORDS[1]}\"\n"
    "    fi\n"
    "    for ((word = used + 1; word < COMP_CWORD; word++)); do\n"
    "        [[ ${COMP_WORDS[word]} == -- ]] || continue\n"
    "        [[ $operand == @program ]] && _twinlease_program $((word + 1))\n"
    "        return\n"
    "    done\n"
    "    # \"--name=value\" comes as three words.\n"
    "    if [[ $cur == '=' ]]; then\n"
    "        cur=''\n"
    "    elif [[ $prev == '=' ]]; then\n"
    "        prev=${COMP_WORDS[COMP_CWORD - 2]}\n"
    "    fi\n"
    "    ((COMP_CWORD > used + 1)) && _twinlease_value \"$prev\" && return\n"
    "    for entry in $options; do\n"
    "        names+=\" ${entry%%=*}\"\n"
    "    done\n"
    "    if [[ $cur == -* ]]; then\n"
    "        _twinlease_words \"$names\"\n"
    "        return\n"
    "    fi\n"
    "    case $operand in\n"
    "    @file) _twinlease_names f ;;\n"
    "    @dir) _twinlease_names d ;;\n"
    "    *) if [[ $cur ]]; then _twinlease_words \"$second\"; else _twinlease_words \"$second "
    "$names\"; fi ;;\n"
    "    esac\n"
    "}\n"
    "complete -F _twinlease twinlease\n";

static void print_bash(void)
{
    puts("# bash completion for twinlease; made by `twinlease --completion bash`.\n"
         "# shellcheck shell=bash\n");
    bash_table();
    bash_words();
    fputs(bash_code, stdout);
}

/* ---- zsh --------------------------------------------------------------------------------- */

/* Within '…' and within […]:…: of _arguments. */
static void zsh_text(const char *text)
{
    for (const char *p = text; *p; p++) {
        if (*p == '\'')
            fputs("'\\''", stdout);
        else if (strchr("[]:\\", *p))
            printf("\\%c", *p);
        else
            putchar(*p);
    }
}

static void zsh_action(const char *argument)
{
    switch (kind_of(argument)) {
    case KIND_FILE:
        printf("_files");
        break;
    case KIND_FOLDER:
        printf("_files -/");
        break;
    case KIND_CHOICE:
        putchar('(');
        print_choices(argument, " ");
        putchar(')');
        break;
    case KIND_NONE:
    case KIND_TEXT:
    case KIND_PROGRAM:
        putchar(' ');
    }
}

static void zsh_option(const struct option *option)
{
    printf(" \\\n            '%s--%s%s[", option->flags & OPTION_REPEATS ? "*" : "", option->name,
           option->argument ? "=" : "");
    zsh_text(option->help);
    putchar(']');
    if (option->argument) {
        putchar(':');
        zsh_text(option->argument);
        putchar(':');
        zsh_action(option->argument);
    }
    putchar('\'');
}

static void zsh_command(const struct command *command)
{
    printf("    '%s')\n", command->name);
    if (kind_of(command->operands) == KIND_PROGRAM)
        printf("        _twinlease_program && return\n");
    printf("        _arguments -S");
    for (const struct option *const *set = command->options; *set; set++) {
        for (const struct option *option = *set; option->name; option++)
            zsh_option(option);
    }
    if (command->operands_most > 0) {
        printf(" \\\n            '1:");
        zsh_text(command->operands);
        putchar(':');
        zsh_action(command->operands);
        putchar('\'');
    }
    printf("\n        ;;\n");
}

/* Words and their meaning, for _describe. */
static void zsh_describe(const char *indent, const char *word, int length, const char *meaning)
{
    printf("%s'%.*s:", indent, length, word);
    zsh_text(meaning);
    printf("'\n");
}

static void zsh_words(void)
{
    printf("_twinlease_first() {\n    local -a words_known=(\n");
    for (size_t i = 0; i < command_count; i++) {
        if (leads(i))
            zsh_describe("        ", commands[i].name, first_word(&commands[i]),
                         second_word(&commands[i]) ? "…" : commands[i].summary);
    }
    printf("        'help:explain a command'\n    )\n"
           "    _describe command words_known\n"
           "    _arguments '--help[list the commands]' '--version[tell the version]' \\\n"
           "        '--man[print the man page]' '--completion[print a completion script]'\n}\n\n");
    printf("_twinlease_second() {\n    local -a words_known=()\n    case $1 in\n");
    for (size_t i = 0; i < command_count; i++) {
        if (!leads(i))
            continue;
        printf("    %.*s)\n        words_known=(\n", first_word(&commands[i]), commands[i].name);
        for (size_t j = i; j < command_count; j++) {
            const char *word = second_word(&commands[j]);
            if (word && same_first_word(&commands[i], &commands[j]))
                zsh_describe("            ", word, (int)strlen(word), commands[j].summary);
        }
        printf("        )\n        ;;\n");
    }
    printf("    esac\n    (( $#words_known )) && _describe command words_known\n}\n\n");
}

static const char zsh_code[] =
    "# After `--` comes a program with its own arguments.\n"
    "_twinlease_program() {\n"
    "    local -i at=${words[(ie)--]}\n"
    "    (( at < CURRENT )) || return 1\n"
    "    shift at words\n"
    "    (( CURRENT -= at ))\n"
    "    _normal\n"
    "}\n"
    "\n"
    "_twinlease() {\n"
    "    local one=${words[2]} two=\"${words[2]} ${words[3]}\"\n"
    "    local -i found=1\n"
    "    if (( CURRENT == 2 )); then\n"
    "        _twinlease_first\n"
    "        return\n"
    "    fi\n"
    "    case $one in\n"
    "    --completion) compadd bash zsh && return ;;\n"
    "    help) shift words && (( CURRENT-- )) && _twinlease_first && return ;;\n"
    "    esac\n"
    "    (( CURRENT == 3 )) && _twinlease_second $one && found=0\n"
    "    if (( CURRENT > 3 )) && (( ${+_twinlease_known[$two]} )); then\n"
    "        shift 2 words\n"
    "        (( CURRENT -= 2 ))\n"
    "        _twinlease_command $two\n"
    "    elif (( ${+_twinlease_known[$one]} )); then\n"
    "        shift words\n"
    "        (( CURRENT-- ))\n"
    "        _twinlease_command $one\n"
    "    else\n"
    "        return found\n"
    "    fi\n"
    "}\n"
    "\n"
    "_twinlease \"$@\"\n";

static void print_zsh(void)
{
    puts("#compdef twinlease\n"
         "# zsh completion for twinlease; made by `twinlease --completion zsh`.\n");
    printf("typeset -gA _twinlease_known=(\n");
    for (size_t i = 0; i < command_count; i++)
        printf("    '%s' 1\n", commands[i].name);
    printf(")\n\n_twinlease_command() {\n    case $1 in\n");
    for (size_t i = 0; i < command_count; i++)
        zsh_command(&commands[i]);
    printf("    esac\n}\n\n");
    zsh_words();
    fputs(zsh_code, stdout);
}

bool completion_print(const char *shell)
{
    bool bash = strcmp(shell, "bash") == 0;

    if (!bash && strcmp(shell, "zsh") != 0)
        return false;
    (bash ? print_bash : print_zsh)();
    return true;
}
