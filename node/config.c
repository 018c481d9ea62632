/* From a file and the environment to a struct config: gather one text per setting, then parse them
 * in the table's order, then look for contradictions. */
#include "config_setting.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"

#define SHOWN_MAX      80 /* characters of a bad value that a message repeats */
#define NAME_MAX_CHARS 64 /* of a setting's name; longer ones are unknown anyway */

/* ---- names -------------------------------------------------------------------------------------
 */

static const struct setting *setting_find(const char *name)
{
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        if (strcmp(config_settings[i].name, name) == 0)
            return &config_settings[i];
    }
    return NULL;
}

/* Edits (insert, delete, change; letter case is none) between two names: Levenshtein's distance,
 * one row at a time. */
static size_t name_distance(const char *a, const char *b)
{
    size_t row[NAME_MAX_CHARS + 1], length = strlen(b);

    must(length <= NAME_MAX_CHARS);
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

/* The setting that was probably meant; NULL if nothing is near. */
static const char *name_suggest(const char *name)
{
    const char *best = NULL;
    size_t nearest = strlen(name) / 3 + 1;

    for (size_t i = 0; i < SETTING_COUNT; i++) {
        size_t distance = name_distance(name, config_settings[i].name);
        if (distance < nearest) {
            nearest = distance;
            best = config_settings[i].name;
        }
    }
    return best;
}

static enum err name_unknown(const char *where, const char *name, struct diag *diag)
{
    const char *bare = strncmp(name, "TWINLEASE_", 10) == 0 ? name + 10 : name;
    const char *meant = setting_find(bare) ? bare : name_suggest(bare);

    if (meant)
        return diag_set(diag, ERR_CONFIG, "%s: there is no setting %s; did you mean %s?", where,
                        name, meant);
    return diag_set(diag, ERR_CONFIG, "%s: there is no setting %s; --help lists them", where, name);
}

/* ---- gathering values
 * ----------------------------------------------------------------------------- */

enum source { SOURCE_DEFAULT, SOURCE_FILE, SOURCE_ENVIRONMENT, SOURCES };
static const char *const source_names[SOURCES] = { "default", "file", "environment" };

/* The text that counts for a setting. */
struct given {
    char *text; /* NULL: unset */
    enum source source;
    int line; /* in the file; 0: the file does not name it */
};

/* What config_read() makes: the public part first. */
struct config_full {
    struct config config;
    enum source sources[SETTING_COUNT];
};

struct gathering {
    const char *file;
    struct given given[SETTING_COUNT];
    struct diag *diag;
};

static void gathering_fini(struct gathering *g)
{
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        if (g->given[i].text)
            explicit_bzero(g->given[i].text, strlen(g->given[i].text));
        mem_free(g->given[i].text);
    }
}

DEFINE_AUTO_VALUE(struct gathering, gathering_fini)

/* "node.conf:12", "environment" or "default", for messages. */
static const char *given_where(const struct gathering *g, const struct given *given, char *out,
                               size_t size)
{
    if (given->source == SOURCE_FILE)
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
static void given_set(struct given *given, enum source source, char *text)
{
    mem_free(given->text);
    given->source = *text ? source : SOURCE_DEFAULT;
    if (!*text) {
        mem_free(text);
        text = NULL;
    }
    given->text = text;
}

/* ---- the file
 * ------------------------------------------------------------------------------------ */

static bool name_char(char c, bool first)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' ||
           (!first && c >= '0' && c <= '9');
}

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* Undoes quoting as systemd does (systemd.exec(5), EnvironmentFile=), for what we take of it. The
 * messages never repeat the value: it may be a secret. NULL: *problem says why. */
static char *value_unquote(const char *text, size_t length, const char **problem)
{
    AUTO(buf_fini_secret) struct buf value = { .max = CONFIG_FILE_SIZE_MAX };
    char quote = length && (*text == '"' || *text == '\'') ? *text : '\0';

    if (!quote) {
        *problem = memchr(text, '\\', length) ? "a value with a backslash must be in quotes" : NULL;
        return *problem ? NULL : mem_memdup(text, length);
    }
    size_t i = 1;
    for (; i < length && text[i] != quote; i++) {
        if (quote == '"' && text[i] == '\\' && i + 1 < length && strchr("\"\\`$", text[i + 1]))
            i++;
        buf_append(&value, &text[i], 1);
    }
    if (i >= length)
        *problem = "the quote is not closed on this line";
    else if (i + 1 < length)
        *problem = "something follows the closing quote";
    else
        return buf_take(&value);
    return NULL;
}

static enum err line_refuse(const struct gathering *g, int line, const char *name,
                            const char *problem)
{
    return diag_set(g->diag, ERR_CONFIG, "%s:%d: %s%s%s", g->file, line, name, *name ? ": " : "",
                    problem);
}

static enum err line_take(struct gathering *g, int line, const char *name, const char *value,
                          size_t length)
{
    const char *problem = NULL;
    char where[300];

    snprintf(where, sizeof where, "%s:%d", g->file, line);
    const struct setting *setting = setting_find(name);
    if (!setting)
        return name_unknown(where, name, g->diag);
    struct given *given = &g->given[setting - config_settings];
    if (given->line)
        return diag_set(g->diag, ERR_CONFIG, "%s: %s stands twice, first in line %d", where, name,
                        given->line);
    char *text = value_unquote(value, length, &problem);
    if (!text)
        return line_refuse(g, line, name, problem);
    given->line = line;
    given_set(given, SOURCE_FILE, text);
    return ERR_OK;
}

/* One line without its end. */
static enum err line_read(struct gathering *g, int line, const char *text, size_t length)
{
    char name[NAME_MAX_CHARS + 1];
    size_t n = 0;

    while (length && blank(*text))
        text++, length--;
    while (length && blank(text[length - 1]))
        length--;
    if (!length || *text == '#' || *text == ';')
        return ERR_OK;
    if (memchr(text, '\0', length))
        return line_refuse(g, line, "", "the line has a NUL byte");
    while (n < length && n < NAME_MAX_CHARS && name_char(text[n], n == 0))
        n++;
    memcpy(name, text, n);
    name[n] = '\0';
    if (n == 0 || n == length || text[n] != '=')
        return line_refuse(g, line, "", "expected NAME=value, a # comment or an empty line");
    text += n + 1;
    length -= n + 1;
    while (length && blank(*text))
        text++, length--;
    return line_take(g, line, name, text, length);
}

static enum err file_parse(struct gathering *g, const char *text, size_t size)
{
    for (int line = 1; size; line++) {
        const char *end = memchr(text, '\n', size);
        size_t length = end ? (size_t)(end - text) : size;
        enum err e = line_read(g, line, text, length);
        if (e != ERR_OK)
            return e;
        size_t used = end ? length + 1 : length;
        text += used;
        size -= used;
    }
    return ERR_OK;
}

static void close_file(FILE *file)
{
    fclose(file);
}
DEFINE_AUTO(FILE *, close_file)

static enum err file_read(struct gathering *g)
{
    AUTO(buf_fini_secret) struct buf text = { .max = CONFIG_FILE_SIZE_MAX };
    AUTO(close_file) FILE *file = fopen(g->file, "re");

    if (!file)
        return diag_set(g->diag, ERR_CONFIG, "%s: cannot be opened: %s", g->file, strerror(errno));
    char *at = buf_reserve(&text, CONFIG_FILE_SIZE_MAX);
    text.length = fread(at, 1, CONFIG_FILE_SIZE_MAX, file);
    if (ferror(file))
        return diag_set(g->diag, ERR_CONFIG, "%s: cannot be read: %s", g->file, strerror(errno));
    if (fgetc(file) != EOF)
        return diag_set(g->diag, ERR_CONFIG, "%s: is larger than %d bytes", g->file,
                        CONFIG_FILE_SIZE_MAX);
    return file_parse(g, text.bytes, text.length);
}

/* ---- the environment
 * ------------------------------------------------------------------------------ */

static enum err environment_read(struct gathering *g, char *const *environment)
{
    for (; environment && *environment; environment++) {
        char name[NAME_MAX_CHARS + 1];
        const char *equals = strchr(*environment, '=');

        if (!equals || equals - *environment > NAME_MAX_CHARS)
            continue;
        snprintf(name, sizeof name, "%.*s", (int)(equals - *environment), *environment);
        const struct setting *setting = setting_find(name);
        if (setting)
            given_set(&g->given[setting - config_settings], SOURCE_ENVIRONMENT,
                      mem_strdup(equals + 1));
        else if (strncmp(name, "TWINLEASE_", 10) == 0 && setting_find(name + 10))
            return name_unknown("environment", name, g->diag);
    }
    return ERR_OK;
}

/* ---- from texts to values
 * ------------------------------------------------------------------------- */

/* Replaces {NAME} by that setting's value, which stands earlier in the table. */
static void append_value(const struct config *config, const char *name, struct buf *out)
{
    const struct setting *setting = setting_find(name);

    must(setting);
    struct json_object *value = setting->type->json((const char *)config + setting->offset);
    must(value);
    buf_text_append(out, json_object_get_string(value));
    json_object_put(value);
}

static char *fallback_expand(const struct config *config, const struct setting *s)
{
    AUTO(buf_fini) struct buf text = { .max = CONFIG_FILE_SIZE_MAX };
    const char *at = s->fallback;

    for (const char *open; (open = strchr(at, '{')); at = strchr(open, '}') + 1) {
        char name[NAME_MAX_CHARS + 1];
        size_t length = strcspn(open + 1, "}");

        must(open[1 + length] == '}' && length < sizeof name);
        memcpy(name, open + 1, length);
        name[length] = '\0';
        buf_append(&text, at, (size_t)(open - at));
        append_value(config, name, &text);
    }
    buf_text_append(&text, at);
    return buf_take(&text);
}

static enum err value_refuse(const struct gathering *g, size_t index, const char *text)
{
    const struct setting *s = &config_settings[index];
    AUTO(buf_fini) struct buf allowed = { .max = 256 };
    char where[300];

    s->type->allowed(s, &allowed);
    given_where(g, &g->given[index], where, sizeof where);
    if (s->flags & CONF_SECRET)
        return diag_set(g->diag, ERR_CONFIG, "%s: %s has a bad value; allowed: %s", where, s->name,
                        buf_text(&allowed));
    bool cut = strlen(text) > SHOWN_MAX;
    return diag_set(g->diag, ERR_CONFIG, "%s: %s is \"%.*s%s\"; allowed: %s", where, s->name,
                    SHOWN_MAX, text, cut ? "..." : "", buf_text(&allowed));
}

static enum err value_set(const struct gathering *g, size_t index, struct config_full *full)
{
    const struct setting *s = &config_settings[index];
    const struct given *given = &g->given[index];
    AUTO(mem_free) char *expanded = NULL;
    const char *text = given->text;
    char where[300];

    full->sources[index] = given->source;
    if (!text && s->fallback)
        text = expanded = fallback_expand(&full->config, s);
    if (!text && (s->flags & CONF_REQUIRED))
        return diag_set(g->diag, ERR_CONFIG, "%s is not set: %s", s->name, s->help);
    if (!text)
        return ERR_OK;
    if (!text_printable(text)) {
        given_where(g, given, where, sizeof where);
        return diag_set(g->diag, ERR_CONFIG,
                        "%s: %s has a control character or bytes that are no UTF-8", where,
                        s->name);
    }
    if (!s->type->parse(s, text, (char *)&full->config + s->offset))
        return value_refuse(g, index, text);
    return ERR_OK;
}

/* ---- contradictions
 * ------------------------------------------------------------------------------- */

static bool host_equal(const char *bracketed, const char *host)
{
    size_t length = strlen(host);

    if (*bracketed == '[')
        return strncasecmp(bracketed + 1, host, length) == 0 && bracketed[1 + length] == ']';
    return strcasecmp(bracketed, host) == 0;
}

static enum err check_pair(const struct config *c, struct diag *diag)
{
    bool peer = c->ha_replicate.host != NULL;

    if (peer && c->ha_role == HA_NONE)
        return diag_set(diag, ERR_CONFIG,
                        "HA_REPLICATE is set, but HA_ROLE is not; allowed: PRIMARY or SECONDARY");
    if (!peer && c->ha_role != HA_NONE)
        return diag_set(
            diag, ERR_CONFIG,
            "HA_ROLE is set, but HA_REPLICATE is not; it names the other node, host:port");
    if (peer && c->ha_replicate.port == c->dls_port.value &&
        host_equal(c->dls_url, c->ha_replicate.host))
        return diag_set(
            diag, ERR_CONFIG,
            "HA_REPLICATE is this node's own DLS_URL:DLS_PORT (%s:%u); it must name the "
            "other node",
            c->dls_url, c->ha_replicate.port);
    return ERR_OK;
}

/* Files that one setting writes or keeps secret must not be another's. TLS_CA may be TLS_CERT. */
static enum err check_paths(const struct config *c, struct diag *diag)
{
    const struct {
        const char *name, *path;
    } files[] = {
        { "TLS_CERT", c->tls_cert },
        { "TLS_KEY", c->tls_key },
        { "INSTANCE_KEY_RSA", c->instance_key_rsa },
        { "INSTANCE_KEY_PUB", c->instance_key_pub },
        { "ADMIN_TOKEN_FILE", c->admin_token_file },
        { "VIEWER_TOKEN_FILE", c->viewer_token_file },
        { "METRICS_TOKEN_FILE", c->metrics_token_file },
        { "ENROL_TOKEN_FILE", c->enrol_token_file },
    };

    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        for (size_t j = i + 1; j < ARRAY_SIZE(files); j++) {
            if (files[i].path && files[j].path && strcmp(files[i].path, files[j].path) == 0)
                return diag_set(diag, ERR_CONFIG, "%s and %s are the same file, %s", files[i].name,
                                files[j].name, files[i].path);
        }
    }
    return ERR_OK;
}

/* ---- public
 * -------------------------------------------------------------------------------------- */

static enum err config_build(const struct gathering *g, struct config **out)
{
    struct config_full *full = mem_calloc(1, sizeof *full);
    enum err e = ERR_OK;

    for (size_t i = 0; i < SETTING_COUNT && e == ERR_OK; i++)
        e = value_set(g, i, full);
    if (e == ERR_OK)
        e = check_pair(&full->config, g->diag);
    if (e == ERR_OK)
        e = check_paths(&full->config, g->diag);
    if (e == ERR_OK)
        *out = &full->config;
    else
        config_free(&full->config);
    return e;
}

enum err config_read(const char *file, char *const *environment, struct config **out,
                     struct diag *diag)
{
    AUTO(gathering_fini) struct gathering g = { .file = file, .diag = diag };
    enum err e = file ? file_read(&g) : ERR_OK;

    if (e == ERR_OK)
        e = environment_read(&g, environment);
    return e == ERR_OK ? config_build(&g, out) : e;
}

struct config *config_free(struct config *config)
{
    if (!config)
        return NULL;
    if (config->database)
        explicit_bzero(config->database, strlen(config->database));
    for (size_t i = 0; i < SETTING_COUNT; i++)
        config_settings[i].type->fini((char *)config + config_settings[i].offset);
    mem_free(config);
    return NULL;
}

int64_t config_lease_max_ms(const struct config *config)
{
    if (config->lease_expire_seconds.set)
        return config->lease_expire_seconds.value * 1000;
    if (config->lease_expire_hours.set)
        return config->lease_expire_hours.value * 3600000;
    return config->lease_expire_days.value * 86400000;
}

struct json_object *config_json(const struct config *config)
{
    const struct config_full *full = (const struct config_full *)config;
    struct json_object *all = json_object_new_object();

    for (size_t i = 0; i < SETTING_COUNT; i++) {
        const struct setting *s = &config_settings[i];
        struct json_object *one = json_object_new_object();
        struct json_object *value = s->type->json((const char *)config + s->offset);

        if (value && (s->flags & CONF_SECRET)) {
            json_object_put(value);
            value = json_object_new_string("(set)");
        }
        json_object_object_add(one, "value", value);
        json_object_object_add(one, "source",
                               json_object_new_string(source_names[full->sources[i]]));
        json_object_object_add(one, "default",
                               s->fallback ? json_object_new_string(s->fallback) : NULL);
        json_object_object_add(one, "help", json_object_new_string(s->help));
        json_object_object_add(all, s->name, one);
    }
    return all;
}
