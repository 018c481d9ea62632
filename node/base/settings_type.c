/* The types of settings that every program has. */
#include <json-c/json.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "base/settings.h"

void setting_fini_nothing(void *field)
{
    (void)field;
}

void setting_fini_text(void *field)
{
    char **text = field;

    mem_free(*text);
    *text = NULL;
}

struct json_object *setting_json_text(const void *field)
{
    const char *text = *(char *const *)field;

    return text ? json_object_new_string(text) : NULL;
}

static bool parse_STR(const struct setting *s, const char *text, void *field)
{
    size_t length = strlen(text);

    if (length < (size_t)s->min || length > (size_t)s->max)
        return false;
    *(char **)field = mem_strdup(text);
    return true;
}

static void allowed_STR(const struct setting *s, struct buf *out)
{
    buf_format(out, "%lld to %lld characters", (long long)s->min, (long long)s->max);
}

bool setting_digits(const char *text, int64_t min, int64_t max, int64_t *out)
{
    int64_t value = 0;

    if (!*text)
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || value > (INT64_MAX - 9) / 10)
            return false;
        value = value * 10 + (*text - '0');
    }
    if (value < min || value > max)
        return false;
    *out = value;
    return true;
}

static bool parse_INT(const struct setting *s, const char *text, void *field)
{
    setting_INT *number = field;

    number->set = setting_digits(text, s->min, s->max, &number->value);
    return number->set;
}

static struct json_object *json_INT(const void *field)
{
    const setting_INT *number = field;

    return number->set ? json_object_new_int64(number->value) : NULL;
}

static void allowed_INT(const struct setting *s, struct buf *out)
{
    buf_format(out, "a whole number from %lld to %lld", (long long)s->min, (long long)s->max);
}

static bool parse_BOOL(const struct setting *s, const char *text, void *field)
{
    static const char *const words[] = { "false", "true", "no", "yes", "off", "on", "0", "1" };

    (void)s;
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (strcasecmp(text, words[i]) == 0) {
            *(bool *)field = i % 2 == 1;
            return true;
        }
    }
    return false;
}

static struct json_object *json_BOOL(const void *field)
{
    return json_object_new_boolean(*(const bool *)field);
}

static void allowed_BOOL(const struct setting *s, struct buf *out)
{
    (void)s;
    buf_text_append(out, "true or false");
}

static const char *const log_format_names[LOG_FORMATS] = {
    [LOG_FORMAT_AUTO] = "auto",
    [LOG_FORMAT_JSON] = "json",
    [LOG_FORMAT_TEXT] = "text",
};

static bool parse_LOGFORMAT(const struct setting *s, const char *text, void *field)
{
    (void)s;
    for (int i = 0; i < LOG_FORMATS; i++) {
        if (strcmp(text, log_format_names[i]) == 0) {
            *(int *)field = i;
            return true;
        }
    }
    return false;
}

static struct json_object *json_LOGFORMAT(const void *field)
{
    return json_object_new_string(log_format_names[*(const int *)field]);
}

static void allowed_LOGFORMAT(const struct setting *s, struct buf *out)
{
    (void)s;
    buf_text_append(out, "auto, json or text");
}

#define parse_PATH   parse_STR
#define allowed_PATH allowed_STR

#define TYPE(name, json, fini)                                                                     \
    const struct setting_type setting_type_##name = { parse_##name, json, allowed_##name, fini }
TYPE(STR, setting_json_text, setting_fini_text);
TYPE(PATH, setting_json_text, setting_fini_text);
TYPE(INT, json_INT, setting_fini_nothing);
TYPE(BOOL, json_BOOL, setting_fini_nothing);
TYPE(LOGFORMAT, json_LOGFORMAT, setting_fini_nothing);
#undef TYPE
