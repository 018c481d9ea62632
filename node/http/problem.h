/* Problem documents (RFC 9457): application/problem+json. Pure. */
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "ledger/ledger.h"

#define PROBLEM_TYPE "urn:twinlease:problem:" /* with the code behind it */
#define PROBLEM_MAX  16384                    /* bytes of one document */

/* Seconds that Retry-After names: while the node cannot serve; for a denial whose seats have no
 * known time of return; and the most for any: seats may be released long before the one that is
 * due, so a client should not sleep until then (`next_expected` says when that is). */
#define RETRY_UNAVAILABLE_SECONDS 1
#define RETRY_DENIAL_SECONDS      5
#define RETRY_SECONDS_MAX         60

struct problem {
    enum err err;
    int status;         /* 0: that of err */
    const char *detail; /* "": the title says it all */
    const char *request_id;
    const struct scope_view *denial; /* NULL: no denial */
    int64_t now_ms;                  /* ledger time, with denial */
    const char *peer_state; /* with denial: "connected", "away", …; NULL: there is no peer */
    const char *member;     /* NULL, or the name of one more member … */
    const char *json;       /* … and its value, a JSON text */
};

int problem_status(const struct problem *problem);
/* 0: the same call will not succeed later. */
int64_t problem_retry_seconds(const struct problem *problem);
/* type, title, status, detail, code, request_id, retry_after; for a denial also scope_ref, feature,
 * seats, used, free_here, at_peer, pending, waiting, locked, locked_until, peer_state,
 * next_expected. */
void problem_write(const struct problem *problem, struct buf *out);
