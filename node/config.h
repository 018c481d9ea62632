/* Settings: environment variables, or `--config FILE` in the same NAME=value form. config.tbl is
 * the only place where names, types, defaults, ranges and help stand. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/settings.h"
#include "base/uuid.h"
#include "config.tbl"

struct address {
    char *host; /* NULL: unset; without brackets */
    uint16_t port;
};

enum ha_role { HA_NONE, HA_PRIMARY, HA_SECONDARY };

/* Beside the types that every program has (base/settings.h). */
typedef char *setting_HOST;    /* name or address; an IPv6 address has its brackets */
typedef char *setting_ORIGINS; /* comma-separated, without spaces; may be empty */
typedef double setting_RATIO;
typedef struct uuid setting_UUID;
typedef struct address setting_ADDRESS;
typedef enum ha_role setting_ROLE;

struct config {
#define X(field, name, type, ...) setting_##type field;
    CONFIG_TBL(X)
#undef X
};

/* Reads a file (NULL: none) and then the environment, which goes before it. Unknown names in the
 * file, settings in the environment under a name that begins with TWINLEASE_ (what else begins so
 * is the client's), bad values and contradictions give ERR_CONFIG and one line that names the
 * variable, the value and what is allowed. An empty value is the same as none. The file's grammar:
 * base/settings.h. */
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
