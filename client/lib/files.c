#include "files.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

enum twinlease_code text_trim(const char *name, const struct buf *whole, struct buf *out,
                              struct twinlease_error *error)
{
    static const char space[] = " \t\r\n";
    const char *text = buf_text(whole);

    if (memchr(text, '\0', whole->length))
        return fault_set(error, TWINLEASE_BAD_FILE, "%s: not a text file", name);
    text += strspn(text, space);
    size_t length = strlen(text);
    while (length && strchr(space, text[length - 1]))
        length--;
    if (!length)
        return fault_set(error, TWINLEASE_BAD_FILE, "%s: empty", name);
    buf_append(out, text, length);
    if (!buf_ok(out))
        return fault_set(error, TWINLEASE_BAD_FILE, "%s: larger than %zu bytes", name, out->max);
    return TWINLEASE_OK;
}

enum twinlease_code text_read(const char *path, struct buf *out, struct twinlease_error *error)
{
    AUTO(buf_fini_secret) struct buf whole;
    struct diag diag;

    buf_init(&whole, out->max);
    if (file_read(path, FILE_PUBLIC, &whole, &diag) != ERR_OK)
        return fault_set(error, TWINLEASE_BAD_FILE, "%s", diag.text);
    return text_trim(path, &whole, out, error);
}

bool folder_make(const char *path)
{
    AUTO(mem_free) char *copy = mem_strdup(path);
    struct stat info;

    /* Those above are likely there; if one is missing and cannot be made, the last step says so. */
    for (char *slash = copy; *slash; slash++) {
        if (slash == copy || *slash != '/')
            continue;
        *slash = '\0';
        (void)!mkdir(copy, 0700);
        *slash = '/';
    }
    if (mkdir(path, 0700) == 0)
        return true;
    int why = errno;
    bool there = stat(path, &info) == 0;
    errno = there ? ENOTDIR : why;
    return there && S_ISDIR(info.st_mode);
}

char *path_join(const char *folder, const char *name)
{
    struct buf path;

    buf_init(&path, strlen(folder) + strlen(name) + 1);
    buf_format(&path, "%s/%s", folder, name);
    must(buf_ok(&path));
    return buf_take(&path);
}
