/* Settings: environment variables, or `--config FILE` in the same NAME=value form. config.tbl is
 * the only place where names, types, defaults, ranges and help stand. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/uuid.h"
#include "config.tbl"

enum { CONF_SECRET = 1, CONF_REQUIRED = 2 };

struct address {
    char *host; /* NULL: unset; without brackets */
    uint16_t port;
};

enum ha_role { HA_NONE, HA_PRIMARY, HA_SECONDARY };

typedef char *config_STR;
typedef char *config_PATH;
typedef char *config_HOST;    /* name or address; an IPv6 address has its brackets */
typedef char *config_ORIGINS; /* comma-separated, without spaces; may be empty */
typedef struct {
    int64_t value;
    bool set;
} config_INT;
typedef bool config_BOOL;
typedef double config_RATIO;
typedef struct uuid config_UUID;
typedef struct address config_ADDRESS;
typedef enum ha_role config_ROLE;
typedef int config_LOGFORMAT; /* enum log_format */

struct config {
#define X(field, name, type, ...) config_##type field;
    CONFIG_TBL(X)
#undef X
};

/* Reads a file (NULL: none) and then the environment, which goes before it. Unknown names in the
 * file, settings in the environment under a name that begins with TWINLEASE_ (what else begins so
 * is the client's), bad values and contradictions give ERR_CONFIG and one line that names the
 * variable, the value and what is allowed. An empty value is the same as none.
 *
 * The file is a subset of systemd's EnvironmentFile=, with the same meaning: NAME=value, empty
 * lines, comment lines that begin with # or ;, a value plain, in '…' or in "…" (there \", \\, \`
 * and \$ are escapes). A value ends with its line; a plain one has no backslash; a name stands
 * once. */
enum err config_read(const char *file, char *const *environment, struct config **out,
                     struct diag *diag) MUST_USE;
struct config *config_free(struct config *config); /* NULL in, NULL out */

int64_t config_lease_max_ms(const struct config *config);

/* {"NAME": {value, source, default, help}, …}; a secret's value is "(set)". The caller owns it.
 * Only for what config_read() made. */
struct json_object;
struct json_object *config_json(const struct config *config);
void config_help(FILE *out);          /* for --help */
void config_help_markdown(FILE *out); /* the README's table */
void config_help_man(FILE *out);      /* the man page's section */
