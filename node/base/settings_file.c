#include "base/settings_file.h"

#include <errno.h>
#include <string.h>

struct reading {
    const char *path;
    settings_assign_fn *assign;
    void *context;
    struct diag *diag;
};

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
    AUTO(buf_fini_secret) struct buf value = { .max = SETTINGS_FILE_SIZE_MAX };
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

static enum err line_refuse(const struct reading *r, int line, const char *name,
                            const char *problem)
{
    return diag_set(r->diag, ERR_CONFIG, "%s:%d: %s%s%s", r->path, line, name, *name ? ": " : "",
                    problem);
}

/* One line without its end. */
static enum err line_read(const struct reading *r, int line, const char *text, size_t length)
{
    char name[SETTINGS_NAME_MAX + 1];
    const char *problem = NULL;
    size_t n = 0;

    while (length && blank(*text))
        text++, length--;
    while (length && blank(text[length - 1]))
        length--;
    if (!length || *text == '#' || *text == ';')
        return ERR_OK;
    if (memchr(text, '\0', length))
        return line_refuse(r, line, "", "the line has a NUL byte");
    while (n < length && n < SETTINGS_NAME_MAX && name_char(text[n], n == 0))
        n++;
    memcpy(name, text, n);
    name[n] = '\0';
    if (n == 0 || n == length || text[n] != '=')
        return line_refuse(r, line, "", "expected NAME=value, a # comment or an empty line");
    text += n + 1;
    length -= n + 1;
    while (length && blank(*text))
        text++, length--;
    char *value = value_unquote(text, length, &problem);
    return value ? r->assign(r->context, line, name, value, r->diag)
                 : line_refuse(r, line, name, problem);
}

enum err settings_file_parse(const char *path, const char *text, size_t size,
                             settings_assign_fn *assign, void *context, struct diag *diag)
{
    const struct reading reading = { path, assign, context, diag };

    for (int line = 1; size; line++) {
        const char *end = memchr(text, '\n', size);
        size_t length = end ? (size_t)(end - text) : size;
        enum err e = line_read(&reading, line, text, length);
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

enum err settings_file_read(const char *path, settings_assign_fn *assign, void *context,
                            struct diag *diag)
{
    AUTO(buf_fini_secret) struct buf text = { .max = SETTINGS_FILE_SIZE_MAX };
    AUTO(close_file) FILE *file = fopen(path, "re");

    if (!file)
        return diag_set(diag, ERR_CONFIG, "%s: cannot be opened: %s", path, strerror(errno));
    char *at = buf_reserve(&text, SETTINGS_FILE_SIZE_MAX);
    text.length = fread(at, 1, SETTINGS_FILE_SIZE_MAX, file);
    if (ferror(file))
        return diag_set(diag, ERR_CONFIG, "%s: cannot be read: %s", path, strerror(errno));
    if (fgetc(file) != EOF)
        return diag_set(diag, ERR_CONFIG, "%s: is larger than %d bytes", path,
                        SETTINGS_FILE_SIZE_MAX);
    return settings_file_parse(path, text.bytes, text.length, assign, context, diag);
}
