/* Paths and small text files, on top of base/file.h. */
#pragma once

#include <stdbool.h>

#include "base/file.h"
#include "fault.h"

/* Appends the text of a file without the white space around it to *out, whose ceiling is the limit.
 * BAD_FILE, naming the file and why: also if it is empty or has a NUL in it. */
enum twinlease_code text_read(const char *path, struct buf *out,
                              struct twinlease_error *error) MUST_USE;
/* The same for text that is in memory already; `name` is for messages. */
enum twinlease_code text_trim(const char *name, const struct buf *whole, struct buf *out,
                              struct twinlease_error *error) MUST_USE;

/* Makes the folder and those above it, each with mode 0700. False with errno. */
bool folder_make(const char *path) MUST_USE;

/* folder/name, a new text. */
char *path_join(const char *folder, const char *name);
