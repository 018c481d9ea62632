/* Small files that are written once and read at start: tokens, certificates, keys. */
#pragma once

#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

#define FILE_SIZE_MAX (1u << 20)

/* Is there anything under this name? */
bool file_exists(const char *path);

/* Appends the whole file. ERR_FILE: unreadable, no regular file, larger than FILE_SIZE_MAX. */
enum err file_read(const char *path, struct buf *out, struct diag *diag) MUST_USE;

/* ERR_FILE if others than its owner and group can read or write it, or its group can write it. */
enum err file_check_secret(const char *path, struct diag *diag) MUST_USE;

/* Writes a new file that is either there completely or not at all, even if the machine fails:
 * temporary file, fsync, rename, fsync of the folder. */
enum err file_write(const char *path, const void *bytes, size_t size, mode_t mode,
                    struct diag *diag) MUST_USE;
