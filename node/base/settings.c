/* From a file and the environment to a struct of values: gather one text per setting, then parse
 * them in the table's order. */
#include "base/settings.h"

#include <json-c/json.h>
#include <string.h>
#include <strings.h>

#include "base/settings_file.h"
#include "base/utf8.h"

#define SHOWN_MAX 80 /* characters of a bad value that a message repeats */
#define PREFIX    "TWINLEASE_"

/* ---- names ------------------------------------------------------------------------------- */

static const struct setting *setting_find(const struct settings *settings, const char *name)
{
    for (size_t i = 0; i < settings->count; i++) {
        if (strcmp(settings->rows[i].name, name) == 0)
            return &settings->rows[i];
    }
    return NULL;
}

/* Some programs' settings have the prefix and others' do not: people take one for the other. */
static const char *name_bare(const char *name)
{
    return strncmp(name, PREFIX, strlen(PREFIX)) == 0 ? name + strlen(PREFIX) : name;
}

/* Edits (insert, delete, change; letter case is none) between two names: Levenshtein's distance,
 * one row at a time. */
static size_t name_distance(const char *a, const char *b)
{
    size_t row[SETTINGS_NAME_MAX + 1], length = strlen(b);

    must(length <= SETTINGS_NAME_MAX);
    for (size_t j = 0; j <= length; j++)
        row[j] = j;
    for (size_t i = 1; *a; a++, i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= length; j++) {
            size_t changed = diagonal + (strncasecmp(a, &b[j - 1], 1) != 0);
            diagonal = row[j];
            size_t shorter = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            row[j] = changed < shorter ? changed : shorter;
        }
    }
    return row[length];
}

const char *settings_suggest(const struct settings *settings, const char *name)
{
    const char *best = NULL;
    size_t nearest = strlen(name_bare(name)) / 3 + 1;

    for (size_t i = 0; i < settings->count; i++) {
        size_t distance = name_distance(name_bare(name), name_bare(settings->rows[i].name));
        if (distance < nearest) {
            nearest = distance;
            best = settings->rows[i].name;
        }
    }
    return best;
}

static enum err name_unknown(const struct settings *settings, const char *where, const char *name,
                             struct diag *diag)
{
    const char *meant = settings_suggest(settings, name);

    if (meant)
        return diag_set(diag, ERR_CONFIG, "%s: there is no setting %s; did you mean %s?", where,
                        name, meant);
    return diag_set(diag, ERR_CONFIG, "%s: there is no setting %s; --help lists them", where, name);
}

/* ---- gathering values -------------------------------------------------------------------- */

static const char *const source_names[SETTING_SOURCES] = { "default", "file", "environment" };

/* The text that counts for a setting. */
struct given {
    char *text; /* NULL: unset */
    enum setting_source source;
    int line; /* in the file; 0: the file does not name it */
};

struct gathering {
    const struct settings *settings;
    const char *file;
    struct given *given; /* one for each row */
    struct diag *diag;
};

static void gathering_fini(struct gathering *g)
{
    for (size_t i = 0; i < g->settings->count; i++) {
        if (g->given[i].text)
            explicit_bzero(g->given[i].text, strlen(g->given[i].text));
        mem_free(g->given[i].text);
    }
    mem_free(g->given);
}

DEFINE_AUTO_VALUE(struct gathering, gathering_fini)

/* "node.conf:12", "environment" or "default", for messages. */
static const char *given_where(const struct gathering *g, const struct given *given, char *out,
                               size_t size)
{
    if (given->source == SETTING_FILE)
        snprintf(out, size, "%s:%d", g->file, given->line);
    else
        snprintf(out, size, "%s", source_names[given->source]);
    return out;
}

/* Values go into JSON and logs: UTF-8 without control characters. */
static bool text_printable(const char *text)
{
    size_t left = strlen(text);

    while (left) {
        size_t size = utf8_size(text, left);
        if (size == 0 || (unsigned char)*text < 0x20 || *text == 0x7f)
            return false;
        text += size;
        left -= size;
    }
    return true;
}

/* An empty value is the same as none; in the environment it hides the file's. */
static void given_set(struct given *given, enum setting_source source, char *text)
{
    mem_free(given->text);
    given->source = *text ? source : SETTING_DEFAULT;
    if (!*text) {
        mem_free(text);
        text = NULL;
    }
    given->text = text;
}

/* A line of the file. */
static enum err take_line(void *context, int line, const char *name, char *value, struct diag *diag)
{
    struct gathering *g = context;
    AUTO(mem_free) char *text = value;
    char where[300];

    snprintf(where, sizeof where, "%s:%d", g->file, line);
    const struct setting *setting = setting_find(g->settings, name);
    if (!setting)
        return name_unknown(g->settings, where, name, diag);
    struct given *given = &g->given[setting - g->settings->rows];
    if (given->line)
        return diag_set(diag, ERR_CONFIG, "%s: %s stands twice, first in line %d", where, name,
                        given->line);
    given->line = line;
    given_set(given, SETTING_FILE, TAKE(text));
    return ERR_OK;
}

static enum err environment_read(struct gathering *g, char *const *environment)
{
    for (; environment && *environment; environment++) {
        char name[SETTINGS_NAME_MAX + 1];
        const char *equals = strchr(*environment, '=');

        if (!equals || equals - *environment > SETTINGS_NAME_MAX)
            continue;
        snprintf(name, sizeof name, "%.*s", (int)(equals - *environment), *environment);
        const struct setting *setting = setting_find(g->settings, name);
        if (setting)
            given_set(&g->given[setting - g->settings->rows], SETTING_ENVIRONMENT,
                      mem_strdup(equals + 1));
        else if (name_bare(name) != name && setting_find(g->settings, name_bare(name)))
            return name_unknown(g->settings, "environment", name, g->diag);
    }
    return ERR_OK;
}

/* ---- from texts to values ---------------------------------------------------------------- */

/* Replaces {NAME} by that setting's value, which stands earlier in the table. */
static void append_value(const struct gathering *g, const void *values, const char *name,
                         struct buf *out)
{
    const struct setting *setting = setting_find(g->settings, name);

    must(setting);
    struct json_object *value = setting->type->json((const char *)values + setting->offset);
    must(value);
    buf_text_append(out, json_object_get_string(value));
    json_object_put(value);
}

static char *fallback_expand(const struct gathering *g, const void *values, const struct setting *s)
{
    AUTO(buf_fini) struct buf text = { .max = SETTINGS_FILE_SIZE_MAX };
    const char *at = s->fallback;

    for (const char *open; (open = strchr(at, '{')); at = strchr(open, '}') + 1) {
        char name[SETTINGS_NAME_MAX + 1];
        size_t length = strcspn(open + 1, "}");

        must(open[1 + length] == '}' && length < sizeof name);
        memcpy(name, open + 1, length);
        name[length] = '\0';
        buf_append(&text, at, (size_t)(open - at));
        append_value(g, values, name, &text);
    }
    buf_text_append(&text, at);
    return buf_take(&text);
}

static enum err value_refuse(const struct gathering *g, size_t index, const char *text)
{
    const struct setting *s = &g->settings->rows[index];
    AUTO(buf_fini) struct buf allowed = { .max = 256 };
    char where[300];

    s->type->allowed(s, &allowed);
    given_where(g, &g->given[index], where, sizeof where);
    if (s->flags & SETTING_SECRET)
        return diag_set(g->diag, ERR_CONFIG, "%s: %s has a bad value; allowed: %s", where, s->name,
                        buf_text(&allowed));
    bool cut = strlen(text) > SHOWN_MAX;
    return diag_set(g->diag, ERR_CONFIG, "%s: %s is \"%.*s%s\"; allowed: %s", where, s->name,
                    SHOWN_MAX, text, cut ? "..." : "", buf_text(&allowed));
}

static enum err value_set(const struct gathering *g, size_t index, void *values)
{
    const struct setting *s = &g->settings->rows[index];
    const struct given *given = &g->given[index];
    AUTO(mem_free) char *expanded = NULL;
    const char *text = given->text;
    char where[300];

    if (!text && s->fallback)
        text = expanded = fallback_expand(g, values, s);
    if (!text && (s->flags & SETTING_REQUIRED))
        return diag_set(g->diag, ERR_CONFIG, "%s is not set: %s", s->name, s->help);
    if (!text)
        return ERR_OK;
    if (!text_printable(text)) {
        given_where(g, given, where, sizeof where);
        return diag_set(g->diag, ERR_CONFIG,
                        "%s: %s has a control character or bytes that are no UTF-8", where,
                        s->name);
    }
    if (!s->type->parse(s, text, (char *)values + s->offset))
        return value_refuse(g, index, text);
    return ERR_OK;
}

/* ---- public ------------------------------------------------------------------------------ */

enum err settings_read(const struct settings *settings, const struct settings_input *input,
                       void *values, enum setting_source *sources, struct diag *diag)
{
    AUTO(gathering_fini)
    struct gathering g = { settings, input->file, mem_calloc(settings->count, sizeof(struct given)),
                           diag };
    enum err e = ERR_OK;

    if (input->text)
        e = settings_file_parse(input->file, input->text, input->size, take_line, &g, diag);
    else if (input->file)
        e = settings_file_read(input->file, take_line, &g, diag);
    if (e == ERR_OK)
        e = environment_read(&g, input->environment);
    for (size_t i = 0; i < settings->count && e == ERR_OK; i++) {
        sources[i] = g.given[i].source;
        e = value_set(&g, i, values);
    }
    return e;
}

/* A secret is a text: types that own something else have no row with that flag. */
void settings_fini(const struct settings *settings, void *values)
{
    for (size_t i = 0; i < settings->count; i++) {
        const struct setting *s = &settings->rows[i];
        void *field = (char *)values + s->offset;
        if (s->flags & SETTING_SECRET) {
            must(s->type->fini == setting_fini_text);
            char *secret = *(char **)field;
            if (secret)
                explicit_bzero(secret, strlen(secret));
        }
        s->type->fini(field);
    }
}

struct json_object *settings_json(const struct settings *settings, const void *values,
                                  const enum setting_source *sources)
{
    struct json_object *all = json_object_new_object();

    for (size_t i = 0; i < settings->count; i++) {
        const struct setting *s = &settings->rows[i];
        struct json_object *one = json_object_new_object();
        struct json_object *value = s->type->json((const char *)values + s->offset);

        if (value && (s->flags & SETTING_SECRET)) {
            json_object_put(value);
            value = json_object_new_string("(set)");
        }
        json_object_object_add(one, "value", value);
        json_object_object_add(one, "source", json_object_new_string(source_names[sources[i]]));
        json_object_object_add(one, "default",
                               s->fallback ? json_object_new_string(s->fallback) : NULL);
        json_object_object_add(one, "help", json_object_new_string(s->help));
        json_object_object_add(all, s->name, one);
    }
    return all;
}
