/* What the agent is told: /etc/twinlease/agent.conf and TWINLEASE_… variables. settings.tbl is the
 * only place where names, types, defaults, ranges and help stand. */
#pragma once

#include "base/entitlement.h"
#include "base/settings.h"
#include "base/uuid.h"
#include "settings.tbl"

#define AGENT_SETTINGS_FILE "/etc/twinlease/agent.conf"
#define AGENT_FEATURES_MAX  256

/* Seats of one feature. */
struct wanted {
    char feature[FEATURE_NAME_MAX + 1];
    char scope_ref[UUID_TEXT_SIZE]; /* "": by feature alone */
    int64_t count;
};

struct wanted_list {
    struct wanted *items; /* no feature twice */
    size_t count;
};

enum on_stop { ON_STOP_RELEASE, ON_STOP_KEEP };
enum ready_when { READY_RUNNING, READY_LICENSED };

typedef struct wanted_list setting_FEATURES;
typedef int setting_ONSTOP;    /* enum on_stop */
typedef int setting_READYWHEN; /* enum ready_when */

struct agent_settings {
#define X(field, name, type, ...) setting_##type field;
    AGENT_TBL(X)
#undef X
};

/* Reads a file, and then the environment, which goes before it. file NULL: AGENT_SETTINGS_FILE, if
 * there is one. ERR_CONFIG with one line that names the variable, its value and what is allowed.
 * The caller owns *out (agent_settings_free). */
enum err agent_settings_read(const char *file, char *const *environment,
                             struct agent_settings **out, struct diag *diag) MUST_USE;
/* The same from a file's text: for tests. */
enum err agent_settings_parse(const char *text, size_t size, char *const *environment,
                              struct agent_settings **out, struct diag *diag) MUST_USE;
void agent_settings_free(struct agent_settings *settings); /* takes NULL */
DEFINE_AUTO(struct agent_settings *, agent_settings_free)

/* ERR_CONFIG if there is nothing to hold. */
enum err agent_settings_check(const struct agent_settings *settings, struct diag *diag) MUST_USE;

/* A variable of the environment that looks like one of ours and is none, and the one that was
 * probably meant; NULL: no more. *at begins at 0. Others have TWINLEASE_… variables too, so that is
 * worth a warning and no more. */
const char *agent_settings_misspelt(char *const *environment, size_t *at, const char **meant);

void agent_settings_help(FILE *out);
void agent_settings_help_markdown(FILE *out);
void agent_settings_help_man(FILE *out);
