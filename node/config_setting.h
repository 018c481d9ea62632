/* Inside config*.c only: the table of settings and what their types can do. */
#pragma once

#include <stddef.h>

#include "base/buf.h"
#include "config.h"

#define CONFIG_FILE_SIZE_MAX (256 << 10) /* bytes of a configuration file */

struct json_object;
struct setting;

/* What a type can do with its field in struct config. */
struct type {
    /* False if text is not allowed; *field is untouched then. */
    bool (*parse)(const struct setting *, const char *text, void *field);
    struct json_object *(*json)(const void *field);           /* NULL: unset. The caller owns it. */
    void (*allowed)(const struct setting *, struct buf *out); /* says so, for people */
    void (*fini)(void *field);
};

struct setting {
    const char *name;
    const struct type *type;
    size_t offset;        /* of the field in struct config */
    const char *fallback; /* the table's default */
    int64_t min, max;
    unsigned flags;
    const char *help;
};

#define X(field, ...) SETTING_##field,
enum { CONFIG_TBL(X) SETTING_COUNT };
#undef X

extern const struct setting config_settings[SETTING_COUNT];
extern const struct type config_type_INT;
