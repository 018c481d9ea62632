/* Settings: one table of rows, read from a NAME=value file and from the environment, which goes
 * before it. What is refused names the variable, its value and what is allowed; a name that is not
 * known, the one that was probably meant. Help in three forms is made from the same rows.
 *
 * The file is a subset of systemd's EnvironmentFile=, with the same meaning: NAME=value, empty
 * lines, comment lines that begin with # or ;, a value plain, in '…' or in "…" (there \", \\, \`
 * and \$ are escapes). A value ends with its line; a plain one has no backslash; a name stands
 * once. An empty value is the same as none. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/err.h"

#define SETTINGS_FILE_SIZE_MAX (256 << 10) /* bytes of a file */
#define SETTINGS_NAME_MAX      64          /* of a name; longer ones are unknown anyway */

enum { SETTING_SECRET = 1, SETTING_REQUIRED = 2 };
enum setting_source { SETTING_DEFAULT, SETTING_FILE, SETTING_ENVIRONMENT, SETTING_SOURCES };

struct json_object;
struct setting;

/* What a type can do with its field in the struct of values. */
struct setting_type {
    /* False if text is not allowed; *field is untouched then. */
    bool (*parse)(const struct setting *, const char *text, void *field);
    struct json_object *(*json)(const void *field);           /* NULL: unset. The caller owns it. */
    void (*allowed)(const struct setting *, struct buf *out); /* says so, for people */
    void (*fini)(void *field);
};

struct setting {
    const char *name;
    const struct setting_type *type;
    size_t offset;        /* of the field in the struct of values */
    const char *fallback; /* parsed like a value; NULL: unset. "{NAME}" in it is replaced by the
                             value of that setting, which stands earlier */
    int64_t min, max;     /* for INT the range; for STR and PATH the length; else the type's own */
    unsigned flags;
    const char *help;
};

/* One row of a table: of field `member` of `struct_type`, of the type that is called so. */
#define SETTING_ROW(struct_type, member, name, type, fallback, min, max, flags, help)              \
    {                                                                                              \
#name, &setting_type_##type, offsetof(struct_type, member), fallback, min, max, flags,     \
            help                                                                                   \
    }

struct settings {
    const struct setting *rows;
    size_t count;
};

/* Types that every program has. An INT may be unset. */
typedef char *setting_STR;
typedef char *setting_PATH;
typedef struct {
    int64_t value;
    bool set;
} setting_INT;
typedef bool setting_BOOL;
typedef int setting_LOGFORMAT; /* enum log_format */
extern const struct setting_type setting_type_STR, setting_type_PATH, setting_type_INT,
    setting_type_BOOL, setting_type_LOGFORMAT;

/* For types made of these. */
bool setting_digits(const char *text, int64_t min, int64_t max, int64_t *out) MUST_USE;
struct json_object *setting_json_text(const void *field);
void setting_fini_text(void *field);
void setting_fini_nothing(void *field);

struct settings_input {
    const char *file;         /* NULL: none */
    const char *text;         /* of the file, if it has been read already; else NULL */
    size_t size;              /* of text */
    char *const *environment; /* as environ; NULL: none */
};

/* Fills a zeroed struct of values, and one source for each row. ERR_CONFIG: unknown names in the
 * file, settings in the environment under a name that has TWINLEASE_ in front of theirs, bad
 * values. Whatever it returns, the caller ends the values with settings_fini(). */
enum err settings_read(const struct settings *settings, const struct settings_input *input,
                       void *values, enum setting_source *sources, struct diag *diag) MUST_USE;
/* Frees what the fields own; secrets are cleared first. */
void settings_fini(const struct settings *settings, void *values);
/* The setting that was probably meant by a name that is none; NULL if nothing is near. */
const char *settings_suggest(const struct settings *settings, const char *name);

/* {"NAME": {value, source, default, help}, …}; a secret's value is "(set)". The caller owns it. */
struct json_object *settings_json(const struct settings *settings, const void *values,
                                  const enum setting_source *sources);
void settings_help(const struct settings *settings, FILE *out);          /* for --help */
void settings_help_markdown(const struct settings *settings, FILE *out); /* a README's table */
void settings_help_man(const struct settings *settings, FILE *out);      /* a man page's section */
