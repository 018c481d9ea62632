/* Small files as a whole: keys, tokens, secrets. Not for event loops: these calls block. */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"

/* Who may read a file that is read here. */
enum file_privacy {
    FILE_PUBLIC,
    FILE_PRIVATE, /* refused if others than the owner and the group have any right to it */
};

/* Appends a regular file to out, which the caller has initialised: its ceiling is the limit.
 * ERR_FILE names the file; out may then hold a part of it. */
enum err file_read(const char *path, enum file_privacy privacy, struct buf *out,
                   struct diag *diag) MUST_USE;

/* Writes a file so that it is there as a whole or not at all, also after a power cut: temporary
 * file beside it, fsync, rename, fsync of the folder. The mode is set whatever the umask. ERR_FILE
 * if the file exists and !replace, and for everything else that goes wrong. */
enum err file_write(const char *path, const void *bytes, size_t size, unsigned mode, bool replace,
                    struct diag *diag) MUST_USE;

/* Makes durable that the folder of `path` has an entry of that name. ERR_FILE. */
enum err file_sync_folder(const char *path, struct diag *diag) MUST_USE;

/* Is there anything of that name, a dangling link included? */
bool file_exists(const char *path);
