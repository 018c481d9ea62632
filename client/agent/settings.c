#include "settings.h"

#include <errno.h>
#include <json-c/json.h>
#include <sys/stat.h>

#define PREFIX "TWINLEASE_"

/* ---- features ---------------------------------------------------------------------------- */

/* NAME[=SEATS][@SCOPE_REF] */
static bool parse_wanted(const char *text, struct wanted *out)
{
    size_t name = strcspn(text, "=@");
    const char *scope = strchr(text, '@');
    struct uuid scope_ref;

    *out = (struct wanted){ .count = 1 };
    if (name > FEATURE_NAME_MAX)
        return false;
    memcpy(out->feature, text, name);
    if (!feature_name_valid(out->feature))
        return false;
    if (text[name] == '=') {
        size_t digits = strcspn(text + name + 1, "@");
        AUTO(mem_free) char *seats = mem_memdup(text + name + 1, digits);
        if (!setting_digits(seats, 1, ENTITLEMENT_SEATS_MAX, &out->count))
            return false;
    }
    if (!scope)
        return true;
    if (!uuid_parse(scope + 1, strlen(scope + 1), &scope_ref))
        return false;
    uuid_format(&scope_ref, out->scope_ref);
    return true;
}

static bool add_wanted(struct wanted_list *list, const struct wanted *one)
{
    if (list->count == AGENT_FEATURES_MAX)
        return false;
    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->items[i].feature, one->feature) == 0)
            return false;
    }
    list->items = mem_resize(list->items, (list->count + 1) * sizeof *list->items);
    list->items[list->count++] = *one;
    return true;
}

static void fini_FEATURES(void *field)
{
    struct wanted_list *list = field;

    mem_free(list->items);
    *list = (struct wanted_list){ 0 };
}

static bool parse_FEATURES(const struct setting *s, const char *text, void *field)
{
    AUTO(mem_free) char *copy = mem_strdup(text);
    struct wanted_list list = { 0 };
    char *rest = NULL;

    (void)s;
    for (char *one = strtok_r(copy, " ", &rest); one; one = strtok_r(NULL, " ", &rest)) {
        struct wanted wanted;
        if (!parse_wanted(one, &wanted) || !add_wanted(&list, &wanted)) {
            fini_FEATURES(&list);
            return false;
        }
    }
    *(struct wanted_list *)field = list;
    return true;
}

static struct json_object *json_FEATURES(const void *field)
{
    const struct wanted_list *list = field;
    AUTO(buf_fini) struct buf text = { .max = SETTINGS_FILE_SIZE_MAX };

    for (size_t i = 0; i < list->count; i++) {
        const struct wanted *one = &list->items[i];
        buf_format(&text, "%s%s=%lld%s%s", i ? " " : "", one->feature, (long long)one->count,
                   *one->scope_ref ? "@" : "", one->scope_ref);
    }
    return list->count ? json_object_new_string(buf_text(&text)) : NULL;
}

static void allowed_FEATURES(const struct setting *s, struct buf *out)
{
    (void)s;
    buf_format(out,
               "NAME, NAME=SEATS or NAME=SEATS@SCOPE_REF, with spaces between, each name once, "
               "1 to %d seats, at most %d names",
               ENTITLEMENT_SEATS_MAX, AGENT_FEATURES_MAX);
}

/* ---- words ------------------------------------------------------------------------------- */

static bool parse_word(const char *text, const char *const words[2], void *field)
{
    for (int i = 0; i < 2; i++) {
        if (strcmp(text, words[i]) == 0) {
            *(int *)field = i;
            return true;
        }
    }
    return false;
}

#define WORD_TYPE(type, first, second)                                                             \
    static const char *const words_##type[2] = { first, second };                                  \
    static bool parse_##type(const struct setting *s, const char *text, void *field)               \
    {                                                                                              \
        (void)s;                                                                                   \
        return parse_word(text, words_##type, field);                                              \
    }                                                                                              \
    static struct json_object *json_##type(const void *field)                                      \
    {                                                                                              \
        return json_object_new_string(words_##type[*(const int *)field]);                          \
    }                                                                                              \
    static void allowed_##type(const struct setting *s, struct buf *out)                           \
    {                                                                                              \
        (void)s;                                                                                   \
        buf_text_append(out, first " or " second);                                                 \
    }

WORD_TYPE(ONSTOP, "release", "keep")
WORD_TYPE(READYWHEN, "running", "licensed")

/* ---- the table --------------------------------------------------------------------------- */

#define TYPE(name, fini)                                                                           \
    static const struct setting_type setting_type_##name = { parse_##name, json_##name,            \
                                                             allowed_##name, fini }
TYPE(FEATURES, fini_FEATURES);
TYPE(ONSTOP, setting_fini_nothing);
TYPE(READYWHEN, setting_fini_nothing);
#undef TYPE

#define X(field, ...) ROW_##field,
enum { AGENT_TBL(X) ROWS };
#undef X

static const struct setting rows[ROWS] = {
#define X(field, ...) SETTING_ROW(struct agent_settings, field, __VA_ARGS__),
    AGENT_TBL(X)
#undef X
};
static const struct settings table = { rows, ROWS };

/* ---- public ------------------------------------------------------------------------------ */

static enum err read_input(const struct settings_input *input, struct agent_settings **out,
                           struct diag *diag)
{
    AUTO(agent_settings_free) struct agent_settings *made = mem_calloc(1, sizeof *made);
    enum setting_source sources[ROWS];
    enum err e = settings_read(&table, input, made, sources, diag);

    if (e == ERR_OK)
        *out = TAKE(made);
    return e;
}

enum err agent_settings_read(const char *file, char *const *environment,
                             struct agent_settings **out, struct diag *diag)
{
    struct stat status;

    if (!file && (stat(AGENT_SETTINGS_FILE, &status) == 0 || errno != ENOENT))
        file = AGENT_SETTINGS_FILE;
    return read_input(&(struct settings_input){ .file = file, .environment = environment }, out,
                      diag);
}

enum err agent_settings_parse(const char *text, size_t size, char *const *environment,
                              struct agent_settings **out, struct diag *diag)
{
    return read_input(&(struct settings_input){ "agent.conf", text, size, environment }, out, diag);
}

void agent_settings_free(struct agent_settings *settings)
{
    if (!settings)
        return;
    settings_fini(&table, settings);
    mem_free(settings);
}

enum err agent_settings_check(const struct agent_settings *settings, struct diag *diag)
{
    if (!settings->features.count)
        return diag_set(diag, ERR_CONFIG,
                        "TWINLEASE_FEATURES is not set, so there is nothing to hold: name the "
                        "features in %s or in the environment, such as "
                        "TWINLEASE_FEATURES=\"render simulate=2\"",
                        AGENT_SETTINGS_FILE);
    return ERR_OK;
}

const char *agent_settings_misspelt(char *const *environment, size_t *at, const char **meant)
{
    /* What the tool's other commands read (tool/command.c). */
    static const char *const others[] = { "TWINLEASE_URL", "TWINLEASE_CA", "TWINLEASE_TOKEN_FILE" };

    while (environment && environment[*at]) {
        const char *text = environment[(*at)++];
        size_t length = strcspn(text, "=");
        bool known = strncmp(text, PREFIX, strlen(PREFIX)) != 0 || length > SETTINGS_NAME_MAX;
        for (size_t i = 0; i < ROWS && !known; i++)
            known = strlen(rows[i].name) == length && memcmp(rows[i].name, text, length) == 0;
        for (size_t i = 0; i < ARRAY_SIZE(others) && !known; i++)
            known = strlen(others[i]) == length && memcmp(others[i], text, length) == 0;
        AUTO(mem_free) char *name = mem_memdup(text, length);
        if (!known && (*meant = settings_suggest(&table, name)))
            return text;
    }
    return NULL;
}

void agent_settings_help(FILE *out)
{
    settings_help(&table, out);
}

void agent_settings_help_markdown(FILE *out)
{
    settings_help_markdown(&table, out);
}

void agent_settings_help_man(FILE *out)
{
    settings_help_man(&table, out);
}
