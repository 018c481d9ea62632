#include "http/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_SIZE 1100 /* config.tbl allows 1024, and some for ".tmp" */

static enum err file_error(struct diag *diag, const char *path, const char *what)
{
    return diag_set(diag, ERR_FILE, "%s: %s (%s)", path, what, strerror(errno));
}

bool file_exists(const char *path)
{
    struct stat info;

    return lstat(path, &info) == 0;
}

static enum err read_all(int fd, const char *path, struct buf *out, struct diag *diag)
{
    char bytes[4096];
    ssize_t size;

    while ((size = read(fd, bytes, sizeof bytes)) > 0) {
        buf_append(out, bytes, (size_t)size);
        if (!buf_ok(out))
            return diag_set(diag, ERR_FILE, "%s: larger than it may be", path);
    }
    return size == 0 ? ERR_OK : file_error(diag, path, "cannot be read");
}

enum err file_read(const char *path, struct buf *out, struct diag *diag)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return file_error(diag, path, "cannot be opened");
    enum err e = ERR_OK;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
        e = diag_set(diag, ERR_FILE, "%s: is no regular file", path);
    else if (info.st_size > (off_t)FILE_SIZE_MAX)
        e = diag_set(diag, ERR_FILE, "%s: has %jd bytes; at most %u are allowed", path,
                     (intmax_t)info.st_size, FILE_SIZE_MAX);
    else
        e = read_all(fd, path, out, diag);
    close(fd);
    return e;
}

enum err file_check_secret(const char *path, struct diag *diag)
{
    struct stat info;

    if (stat(path, &info) != 0)
        return file_error(diag, path, "cannot be used");
    if (info.st_mode & (S_IWGRP | S_IRWXO))
        return diag_set(
            diag, ERR_FILE,
            "%s: has mode %04o, so others can read or change this secret; run chmod 0600", path,
            info.st_mode & 07777);
    return ERR_OK;
}

static bool write_all(int fd, const char *bytes, size_t size)
{
    while (size) {
        ssize_t wrote = write(fd, bytes, size);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            return false;
        bytes += wrote;
        size -= (size_t)wrote;
    }
    return true;
}

/* Makes the new name durable. */
static bool sync_folder(const char *path)
{
    char folder[PATH_SIZE];
    const char *slash = strrchr(path, '/');

    if (!slash)
        snprintf(folder, sizeof folder, ".");
    else
        snprintf(folder, sizeof folder, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool done = fsync(fd) == 0;
    close(fd);
    return done;
}

enum err file_write(const char *path, const void *bytes, size_t size, mode_t mode,
                    struct diag *diag)
{
    char temporary[PATH_SIZE];

    int length = snprintf(temporary, sizeof temporary, "%s.tmp", path);
    if (length < 0 || (size_t)length >= sizeof temporary)
        return diag_set(diag, ERR_FILE, "%s: the name is too long", path);
    unlink(temporary); /* of an attempt that failed */
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return file_error(diag, temporary, "cannot be written");
    bool done = fchmod(fd, mode) == 0 && write_all(fd, bytes, size) && fsync(fd) == 0;
    done = close(fd) == 0 && done;
    if (done && rename(temporary, path) == 0 && sync_folder(path))
        return ERR_OK;
    enum err e = file_error(diag, path, "cannot be written");
    unlink(temporary);
    return e;
}
