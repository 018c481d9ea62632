#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/random.h"

#define READ_SIZE 4096

static inline void close_fd_auto(const int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static enum err fail(struct diag *diag, const char *path, const char *doing)
{
    return diag_set(diag, ERR_FILE, "%s: cannot %s: %s", path, doing, strerror(errno));
}

static enum err check_kind(int fd, const char *path, enum file_privacy privacy, struct diag *diag)
{
    struct stat status;

    if (fstat(fd, &status) != 0)
        return fail(diag, path, "look at it");
    if (!S_ISREG(status.st_mode))
        return diag_set(diag, ERR_FILE, "%s: not a regular file", path);
    if (privacy == FILE_PRIVATE && (status.st_mode & S_IRWXO))
        return diag_set(diag, ERR_FILE,
                        "%s: mode %03o gives others access to a secret; chmod o= it", path,
                        (unsigned)status.st_mode & 0777);
    return ERR_OK;
}

enum err file_read(const char *path, enum file_privacy privacy, struct buf *out, struct diag *diag)
{
    /* O_NONBLOCK: a pipe in the place of the file must not stop us. */
    AUTO(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

    if (fd < 0)
        return fail(diag, path, "open it");
    enum err e = check_kind(fd, path, privacy, diag);
    if (e != ERR_OK)
        return e;
    for (;;) {
        size_t room = out->max - out->length;
        size_t size =
            room < READ_SIZE ? room + 1 : READ_SIZE; /* one more tells if it is too long */
        char bytes[READ_SIZE];
        ssize_t got = read(fd, bytes, size);
        if (got < 0 && errno != EINTR)
            return fail(diag, path, "read it");
        if (got > 0)
            buf_append(out, bytes, (size_t)got);
        explicit_bzero(bytes, sizeof bytes);
        if (!buf_ok(out))
            return diag_set(diag, ERR_FILE, "%s: larger than %zu bytes", path, out->max);
        if (got == 0)
            return ERR_OK;
    }
}

static enum err write_all(int fd, const char *path, const void *bytes, size_t size,
                          struct diag *diag)
{
    const char *at = bytes;

    while (size) {
        ssize_t wrote = write(fd, at, size);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return fail(diag, path, "write it");
        at += wrote;
        size -= (size_t)wrote;
    }
    return fsync(fd) == 0 ? ERR_OK : fail(diag, path, "write it to disk");
}

/* Messages name the file that is meant: the temporary one's name means nothing to anybody. */
static enum err write_temporary(const char *temporary, const char *path, const void *bytes,
                                size_t size, unsigned mode, struct diag *diag)
{
    AUTO(close_fd)
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return fail(diag, path, "create it");
    if (fchmod(fd, mode) != 0)
        return fail(diag, path, "set its mode");
    return write_all(fd, path, bytes, size, diag);
}

/* link(2) never replaces, and tells so at once: no other writer can slip in between. */
static enum err put_in_place(const char *temporary, const char *path, bool replace,
                             struct diag *diag)
{
    if (replace)
        return rename(temporary, path) == 0 ? ERR_OK : fail(diag, path, "replace it");
    if (link(temporary, path) != 0)
        return fail(diag, path, "create it");
    unlink(temporary);
    return ERR_OK;
}

enum err file_sync_folder(const char *path, struct diag *diag)
{
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) + 1 : 0;
    AUTO(mem_free) char *folder = length ? mem_memdup(path, length) : mem_strdup(".");
    AUTO(close_fd) int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || fsync(fd) != 0)
        return fail(diag, folder, "write the folder to disk");
    return ERR_OK;
}

enum err file_write(const char *path, const void *bytes, size_t size, unsigned mode, bool replace,
                    struct diag *diag)
{
    char temporary[PATH_MAX];
    uint64_t unique;

    random_bytes(&unique, sizeof unique);
    int length = snprintf(temporary, sizeof temporary, "%s.%016jx.tmp", path, (uintmax_t)unique);
    if (length < 0 || (size_t)length >= sizeof temporary)
        return diag_set(diag, ERR_FILE, "%s: the path is too long", path);
    enum err e = write_temporary(temporary, path, bytes, size, mode, diag);
    if (e == ERR_OK)
        e = put_in_place(temporary, path, replace, diag);
    if (e != ERR_OK) {
        unlink(temporary);
        return e;
    }
    return file_sync_folder(path, diag);
}

bool file_exists(const char *path)
{
    struct stat status;

    return lstat(path, &status) == 0;
}
