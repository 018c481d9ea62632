/* Outcomes. Functions that can fail return `enum err`, are MUST_USE and leave their outputs
 * untouched unless they return ERR_OK. Why it failed, for a person, goes into a `struct diag`
 * that the caller owns; only the outermost shell logs it. */
#pragma once

#include <stdbool.h>

#include "base/err.tbl"
#include "base/must.h"

enum err {
#define X(name, ...) ERR_##name,
    ERR_TBL(X)
#undef X
        ERR_COUNT
};

struct err_info {
    int http;          /* status of the answer */
    bool retry;        /* the same call may succeed later */
    const char *code;  /* stable, for programs */
    const char *title; /* for people */
};

const struct err_info *err_info(enum err e);

/* One sentence that names the culprit: which field, file or row, what was found, what is allowed.
 */
struct diag {
    char text[400];
};

/* Writes the sentence (cut to fit) and returns `e`, so that a refusal is one line. diag may be
 * NULL. Control characters and what is no UTF-8 are replaced: culprits are often hostile bytes. */
enum err diag_set(struct diag *diag, enum err e, const char *format, ...) PRINTF(3, 4);
