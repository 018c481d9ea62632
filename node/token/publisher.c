#include "token/publisher.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "base/file.h"
#include "token/publisher_internal.h"

#define PUBLISHERS_MAX     256
#define PUBLISHER_KEYS_MAX 16 /* of one publisher: the old and the new ones */
#define PUBLISHER_FILE_MAX (64 << 10)
#define SUFFIX             ".pem"

struct publisher {
    char name[PUBLISHER_NAME_MAX + 1];
    struct key *keys[PUBLISHER_KEYS_MAX];
    size_t key_count;
};

struct publishers {
    size_t count;
    struct publisher list[PUBLISHERS_MAX];
};

#define ALNUM "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

bool publisher_name_valid(const char *name)
{
    size_t length = strlen(name);

    return length > 0 && length <= PUBLISHER_NAME_MAX && strchr(ALNUM, name[0]) &&
           strspn(name, ALNUM " ._-") == length;
}

/* All keys of one file. */
static enum err parse_keys(const struct buf *pem, const char *path, struct publisher *publisher,
                           struct diag *diag)
{
    const char *at = buf_text(pem), *end = at + pem->length;
    struct diag reason = { "" };

    do {
        size_t used = 0;
        if (publisher->key_count == PUBLISHER_KEYS_MAX)
            return diag_set(diag, ERR_KEY_INVALID, "%s: more than %d keys", path,
                            PUBLISHER_KEYS_MAX);
        enum err e = key_parse_public(at, (size_t)(end - at),
                                      &publisher->keys[publisher->key_count], &used, &reason);
        if (e != ERR_OK)
            return diag_set(diag, e, "%s: %s", path, reason.text);
        publisher->key_count++;
        at += used;
    } while (memmem(at, (size_t)(end - at), "-----BEGIN", 10));
    return ERR_OK;
}

static enum err read_publisher(const char *folder, const char *file, struct publisher *out,
                               struct diag *diag)
{
    AUTO(buf_fini) struct buf pem = { .max = PUBLISHER_FILE_MAX };
    char path[PATH_MAX];
    size_t length = strlen(file) - strlen(SUFFIX);

    int size = snprintf(path, sizeof path, "%s/%s", folder, file);
    if (size < 0 || (size_t)size >= sizeof path)
        return diag_set(diag, ERR_FILE, "%s: the path is too long", folder);
    if (length <= PUBLISHER_NAME_MAX)
        memcpy(out->name, file, length);
    if (!publisher_name_valid(out->name))
        return diag_set(diag, ERR_FILE,
                        "%s: a publisher's name is 1 to %d letters, digits, spaces and ._- "
                        "and begins with a letter or digit",
                        path, PUBLISHER_NAME_MAX);
    enum err e = file_read(path, FILE_PUBLIC, &pem, diag);
    return e == ERR_OK ? parse_keys(&pem, path, out, diag) : e;
}

/* Hidden files are left alone: editors put half-written ones there. */
static bool is_key_file(const char *file)
{
    size_t length = strlen(file), suffix = strlen(SUFFIX);

    return file[0] != '.' && length > suffix && strcmp(file + length - suffix, SUFFIX) == 0;
}

static enum err read_folder(DIR *dir, const char *folder, struct publishers *publishers,
                            struct diag *diag)
{
    struct dirent *entry;

    while ((errno = 0, entry = readdir(dir))) {
        if (!is_key_file(entry->d_name))
            continue;
        if (publishers->count == PUBLISHERS_MAX)
            return diag_set(diag, ERR_FILE, "%s: more than %d publishers", folder, PUBLISHERS_MAX);
        enum err e =
            read_publisher(folder, entry->d_name, &publishers->list[publishers->count++], diag);
        if (e != ERR_OK)
            return e;
    }
    if (errno)
        return diag_set(diag, ERR_FILE, "%s: cannot list it: %s", folder, strerror(errno));
    return ERR_OK;
}

static inline void close_folder_auto(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}

static inline void publishers_free_auto(struct publishers **publishers)
{
    publishers_free(*publishers);
}

enum err publishers_read(const char *folder, struct publishers **out, struct diag *diag)
{
    AUTO(publishers_free) struct publishers *publishers = mem_calloc(1, sizeof *publishers);
    AUTO(close_folder) DIR *dir = opendir(folder);

    if (!dir && errno != ENOENT)
        return diag_set(diag, ERR_FILE, "%s: cannot open it: %s", folder, strerror(errno));
    enum err e = dir ? read_folder(dir, folder, publishers, diag) : ERR_OK;
    if (e == ERR_OK)
        *out = TAKE(publishers);
    return e;
}

struct publishers *publishers_free(struct publishers *publishers)
{
    if (publishers) {
        for (size_t i = 0; i < publishers->count; i++) {
            for (size_t k = 0; k < publishers->list[i].key_count; k++)
                key_free(publishers->list[i].keys[k]);
        }
        mem_free(publishers);
    }
    return NULL;
}

size_t publishers_count(const struct publishers *publishers)
{
    return publishers->count;
}

bool publishers_find(const struct publishers *publishers, const char *name,
                     const struct key *const **keys, size_t *key_count)
{
    for (size_t i = 0; i < publishers->count; i++) {
        const struct publisher *publisher = &publishers->list[i];
        if (strcmp(publisher->name, name) == 0) {
            *keys = (const struct key *const *)publisher->keys;
            *key_count = publisher->key_count;
            return true;
        }
    }
    return false;
}
