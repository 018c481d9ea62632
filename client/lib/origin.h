/* Who this machine is: one file of the state folder. Pure. */
#pragma once

#include "answer.h"
#include "base/buf.h"

struct origin {
    struct uuid origin_ref;
    char secret[SECRET_MAX + 1]; /* not empty */
};

/* {"format":1, …}: appends the file's text. */
void origin_write(const struct origin *origin, struct buf *out);
/* BAD_JSON, BAD_FIELD, …: it is none. */
enum err origin_read(const char *text, size_t length, struct origin *out,
                     struct diag *diag) MUST_USE;
