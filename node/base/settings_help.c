/* The settings in words: for --help, the README and the man page. */
#include "base/settings.h"

/* "1 to 65535" where the row has a range that people need to know; else empty. */
static void range_append(const struct setting *s, struct buf *out)
{
    if (s->type == &setting_type_INT)
        buf_format(out, " (%lld to %lld)", (long long)s->min, (long long)s->max);
}

static const char *fallback_text(const struct setting *s)
{
    if (s->fallback)
        return s->fallback;
    return s->flags & SETTING_REQUIRED ? "required" : "unset";
}

void settings_help(const struct settings *settings, FILE *out)
{
    for (size_t i = 0; i < settings->count; i++) {
        const struct setting *s = &settings->rows[i];
        AUTO(buf_fini) struct buf range = { .max = 64 };

        range_append(s, &range);
        fprintf(out, "  %-22s %s%s [%s]\n", s->name, s->help, buf_text(&range), fallback_text(s));
    }
}

void settings_help_markdown(const struct settings *settings, FILE *out)
{
    fputs("| variable | default | meaning |\n| --- | --- | --- |\n", out);
    for (size_t i = 0; i < settings->count; i++) {
        const struct setting *s = &settings->rows[i];
        AUTO(buf_fini) struct buf range = { .max = 64 };

        range_append(s, &range);
        if (s->fallback)
            fprintf(out, "| `%s` | `%s` | %s%s |\n", s->name, s->fallback, s->help,
                    buf_text(&range));
        else
            fprintf(out, "| `%s` | %s | %s%s |\n", s->name,
                    s->flags & SETTING_REQUIRED ? "required" : "–", s->help, buf_text(&range));
    }
}

/* roff(7): a backslash is \e, a hyphen of code is \-, and a line must not begin with . or '. */
static void man_text(FILE *out, const char *text)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", out);
    for (; *text; text++) {
        if (*text == '\\')
            fputs("\\e", out);
        else if (*text == '-')
            fputs("\\-", out);
        else
            fputc(*text, out);
    }
}

void settings_help_man(const struct settings *settings, FILE *out)
{
    for (size_t i = 0; i < settings->count; i++) {
        const struct setting *s = &settings->rows[i];
        AUTO(buf_fini) struct buf text = { .max = 1024 };

        buf_text_append(&text, s->help);
        range_append(s, &text);
        fprintf(out, ".TP\n.B %s\n", s->name);
        man_text(out, buf_text(&text));
        fputs(".\nDefault: ", out);
        man_text(out, fallback_text(s));
        fputs(".\n", out);
    }
}
