#include "command.h"

#include <stdio.h>

#include "agent/settings.h"

#define HELP_COLUMN 30

/* ---- options ----------------------------------------------------------------------------- */

const struct option options_general[] = {
    { "json", NULL, 0, NULL, "print one JSON document" },
    { "help", NULL, 0, NULL, "print this help" },
    { NULL, NULL, 0, NULL, NULL },
};

static const struct option set_timeout[] = {
    { "timeout", "SECONDS", 0, NULL, "for the whole command; 10 if not given" },
    { NULL, NULL, 0, NULL, NULL },
};

static const struct option set_node[] = {
    { "url", "URL", 0, "TWINLEASE_URL", "the node, https://host[:port]" },
    { "ca", "FILE", 0, "TWINLEASE_CA", "CA certificate of the node; the system's if not given" },
    { "token-file", "FILE", 0, "TWINLEASE_TOKEN_FILE", "file with the operator's token" },
    { NULL, NULL, 0, NULL, NULL },
};

static const struct option set_machine[] = {
    { "tok", "PATH", 0, "TWINLEASE_TOK", "client token: a .tok file or a folder of them" },
    { "state", "DIR", 0, "TWINLEASE_STATE", "state folder" },
    { "instance", "THUMBPRINT", 0, NULL, "accept only a client token signed by this key" },
    { NULL, NULL, 0, NULL, NULL },
};

static const struct option set_out[] = {
    { "out", "FILE", 0, NULL, "write to FILE instead of standard output" },
    { NULL, NULL, 0, NULL, NULL },
};

static const struct option set_publisher_init[] = {
    { "dir", "DIR", OPTION_REQUIRED, NULL, "folder for the two files, made if absent" },
    { "name", "NAME", OPTION_REQUIRED, NULL, "the publisher's name" },
    { "type", "ec|rsa|ed25519", 0, NULL, "kind of key; ec (P-256) if not given" },
    { NULL, NULL, 0, NULL, NULL },
};

static const struct option set_publisher_issue[] = {
    { "key", "FILE", OPTION_REQUIRED, NULL, "the publisher's private key" },
    { "publisher", "NAME", 0, NULL, "the publisher's name; needed without --replaces" },
    { "instance-token", "FILE", OPTION_REQUIRED, NULL, "what `instance-token` gave" },
    { "replaces", "FILE", 0, NULL, "the entitlement of which this is the next revision" },
    { "feature", "NAME=SEATS", OPTION_REPEATS, NULL, "a feature and its seats" },
    { "scope", "NAME=UUID", OPTION_REPEATS, NULL, "reference of a feature's scope; else drawn" },
    { "entitlement", "UUID", 0, NULL, "reference of the entitlement; else drawn" },
    { "revision", "N", 0, NULL, "1 if not given" },
    { "from", "DATE", 0, NULL, "first day or instant; now if not given" },
    { "until", "DATE", 0, NULL, "last day, or the instant of the end (RFC 3339, UTC)" },
    { "days", "N", 0, NULL, "the end, in days from the beginning" },
    { "max-lease-seconds", "N", 0, NULL, "longest lease; 86400 if not given" },
    { "release", "acknowledged|at_expiry", 0, NULL, "when a released seat is back" },
    { "revoke", "acknowledged|at_expiry", 0, NULL, "when a revoked seat is back" },
    { NULL, NULL, 0, NULL, NULL },
};

static const struct option set_publisher_inspect[] = {
    { "key", "FILE", 0, NULL, "public key of the publisher, to verify with" },
    { NULL, NULL, 0, NULL, NULL },
};

static const struct option set_client_token[] = {
    { "scope", "SCOPE", OPTION_REPEATS, NULL, "scope reference or feature; all if not given" },
    { "expire-days", "N", 0, NULL, "days for which machines may enrol with it" },
    { NULL, NULL, 0, NULL, NULL },
};

static const struct option set_leases[] = {
    { "only", "active|released|revoked|superseded|expired", 0, NULL, "those in this state" },
    { "origin", "ORIGIN_REF", 0, NULL, "those of this machine" },
    { NULL, NULL, 0, NULL, NULL },
};

static const struct option set_origins[] = {
    { "leases", NULL, 0, NULL, "with the leases of each" },
    { NULL, NULL, 0, NULL, NULL },
};

static const struct option set_origin_delete[] = {
    { "all", NULL, 0, NULL, "every machine" },
    { "yes", NULL, 0, NULL, "do not ask" },
    { NULL, NULL, 0, NULL, NULL },
};

static const struct option set_peer_retire[] = {
    { "yes", NULL, 0, NULL, "do not ask" },
    { "force", NULL, 0, NULL, "also if the other node still answers" },
    { NULL, NULL, 0, NULL, NULL },
};

static const struct option set_acquire[] = {
    { "count", "N", 0, NULL, "seats; 1 if not given" },
    { "duration", "SECONDS", 0, NULL, "as long as the site gives if not given" },
    { "scope", "UUID", 0, NULL, "where several publishers have the feature" },
    { "another", NULL, 0, NULL, "take a further seat even if there is a lease already" },
    { "wait", "SECONDS", 0, NULL, "while there is no seat, or no node, ask again for so long" },
    { "no-state", NULL, 0, NULL, "store nothing; the seat comes back at its end only" },
    { NULL, NULL, 0, NULL, NULL },
};

static const struct option set_run[] = {
    { "count", "N", 0, NULL, "seats; 1 if not given" },
    { "duration", "SECONDS", 0, NULL, "of a lease; as long as the site gives if not given" },
    { "scope", "UUID", 0, NULL, "where several publishers have the feature" },
    { "wait", "SECONDS", 0, NULL, "for a seat or a node; not at all if not given" },
    { "grace", NULL, 0, NULL, "if no node answers: start on a lease that is still valid" },
    { "on-loss", "warn|term|kill", 0, NULL, "when the lease is lost; term if not given" },
    { "kill-after", "SECONDS", 0, NULL, "from SIGTERM to SIGKILL; 10 if not given" },
    { "keep", NULL, 0, NULL, "do not give the seat back: the next run finds the lease" },
    { "no-state", NULL, 0, NULL, "store nothing" },
    { "failure-code", "N", 0, NULL, "exit code if the licence, not COMMAND, decided it" },
    { "timeout", "SECONDS", 0, NULL,
      "for one call of the nodes, the last one too; 5 if not given" },
    { NULL, NULL, 0, NULL, NULL },
};

static const struct option set_release[] = {
    { "all", NULL, 0, NULL, "every lease of the state folder" },
    { NULL, NULL, 0, NULL, NULL },
};

static const struct option set_agent[] = {
    { "config", "FILE", 0, NULL, "settings; /etc/twinlease/agent.conf, if it exists" },
    { NULL, NULL, 0, NULL, NULL },
};

static const struct option set_agent_check[] = {
    { "check", NULL, 0, NULL, "check the settings and end" },
    { NULL, NULL, 0, NULL, NULL },
};

static const struct option set_agent_status[] = {
    { "feature", "NAME", OPTION_REPEATS, NULL, "only this one; all if not given" },
    { "wait", "SECONDS", 0, NULL, "for all of them to be licensed" },
    { "status-file", "FILE", 0, NULL, "instead of the one that the settings name" },
    { NULL, NULL, 0, NULL, NULL },
};

static const struct option set_verify[] = {
    { "lease", "FILE", 0, NULL, "the lease to verify" },
    { "state", "DIR", 0, NULL, "verify every lease of this state folder" },
    { "publisher-key", "FILE", OPTION_REQUIRED, NULL, "public key of the publisher (PEM)" },
    { "tok", "PATH", 0, NULL, "client token with the instance's keys, if FILE has none" },
    { "feature", "NAME", 0, NULL, "the lease must be of this feature" },
    { "count", "N", 0, NULL, "the lease must have that many seats" },
    { "tolerance", "SECONDS", 0, NULL, "by which clocks may differ; 300 if not given" },
    { NULL, NULL, 0, NULL, NULL },
};

#define SETS(name, ...)                                                                            \
    static const struct option *const name##_options[] = { __VA_ARGS__ options_general, NULL }
SETS(publisher_init, set_publisher_init, );
SETS(publisher_issue, set_publisher_issue, set_out, );
SETS(publisher_inspect, set_publisher_inspect, );
SETS(status, set_node, set_machine, set_timeout, );
SETS(operator, set_node, set_timeout, );
SETS(operator_out, set_out, set_node, set_timeout, );
SETS(operator_leases, set_leases, set_node, set_timeout, );
SETS(origins, set_origins, set_node, set_timeout, );
SETS(origin_delete, set_origin_delete, set_node, set_timeout, );
SETS(client_token, set_client_token, set_out, set_node, set_timeout, );
SETS(peer_retire, set_peer_retire, set_node, set_timeout, );
SETS(acquire, set_acquire, set_machine, set_timeout, );
SETS(run, set_run, set_machine, );
SETS(client, set_machine, set_timeout, );
SETS(release, set_release, set_machine, set_node, set_timeout, );
SETS(agent, set_agent, set_agent_check, );
SETS(agent_status, set_agent, set_agent_status, );
SETS(verify, set_verify, );
#undef SETS

const char *choice_next(const char **at, size_t *length)
{
    const char *word = *at;

    if (!word || !*word)
        return NULL;
    *length = strcspn(word, "|");
    *at = word[*length] ? word + *length + 1 : NULL;
    return word;
}

/* ---- commands ---------------------------------------------------------------------------- */

const struct command commands[] = {
#define X(function, group, name, operands, least, most, options, summary, details)                 \
    { function, GROUP_##group, name, operands, least, most, options##_options, summary, details },
    COMMAND_TBL(X)
#undef X
};
const size_t command_count = ARRAY_SIZE(commands);

const char *group_title(enum group group)
{
    static const char *const titles[] = {
        [GROUP_PUBLISHER] = "Publishers",
        [GROUP_OPERATOR] = "Operators",
        [GROUP_CLIENT] = "Clients",
    };

    must((size_t)group < ARRAY_SIZE(titles));
    return titles[group];
}

/* "publisher init" is two words of the command line. */
static int match_words(const char *name, int argc, char *const *argv)
{
    int words = 0;

    while (*name) {
        size_t length = strcspn(name, " ");
        if (words >= argc || strlen(argv[words]) != length ||
            memcmp(argv[words], name, length) != 0)
            return 0;
        name += length;
        name += strspn(name, " ");
        words++;
    }
    return words;
}

/* The longest: `leases purge` is not `leases` with an operand. */
const struct command *command_find(int argc, char *const *argv, int *words)
{
    const struct command *found = NULL;

    *words = 0;
    for (size_t i = 0; i < command_count; i++) {
        int matched = match_words(commands[i].name, argc, argv);
        if (matched > *words) {
            *words = matched;
            found = &commands[i];
        }
    }
    return found;
}

const char *command_program(const struct command *command)
{
    return strstr(command->operands, "-- ");
}

/* ---- help -------------------------------------------------------------------------------- */

static void print_option(const struct option *option)
{
    int left = printf("  --%s%s%s", option->name, option->argument ? " " : "",
                      option->argument ? option->argument : "");

    if (left > HELP_COLUMN) {
        putchar('\n');
        left = 0;
    }
    printf("%*s %s%s", HELP_COLUMN - left, "", option->help,
           option->flags & OPTION_REQUIRED ? " (needed)" : "");
    if (option->flags & OPTION_REPEATS)
        printf("; may be repeated");
    if (option->variable)
        printf(" [%s]", option->variable);
    putchar('\n');
}

static void print_all(void)
{
    puts("Usage: twinlease COMMAND [OPTION…]\n\n"
         "Takes, keeps, proves and gives back licences from a pair of Twinlease nodes.");
    for (int group = 0; group < GROUPS; group++) {
        printf("\n%s:\n", group_title((enum group)group));
        for (size_t i = 0; i < command_count; i++) {
            if ((int)commands[i].group == group)
                printf("  %-20s %s\n", commands[i].name, commands[i].summary);
        }
    }
    puts("\nExit codes:");
#define X(name, value, text, meaning) printf("  %3d  %s\n", value, meaning);
    TWINLEASE_CODES(X)
    PROGRAM_CODES(X)
#undef X
    puts("\n`twinlease COMMAND --help` explains a command; `twinlease --version` tells the "
         "version,\n`twinlease --completion bash|zsh` prints a completion script.");
}

void command_help(const struct command *command)
{
    if (!command) {
        print_all();
        return;
    }
    const char *program = command_program(command);
    int before = program ? (int)(program - command->operands) : (int)strlen(command->operands);

    printf("Usage: twinlease %s %.*s%s[OPTION…]%s%s\n\nTo %s.", command->name, before,
           command->operands, before && !program ? " " : "", program ? " " : "",
           program ? program : "", command->summary);
    printf("%s%s\n\nOptions:\n", *command->details ? " " : "", command->details);
    for (const struct option *const *set = command->options; *set; set++) {
        for (const struct option *option = *set; option->name; option++)
            print_option(option);
    }
    if (command->run == client_agent) {
        puts("\nSettings:");
        agent_settings_help(stdout);
    }
}
