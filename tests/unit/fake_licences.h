/* What a fake node answers if a test does not care: a small licence service that believes
 * everything and counts. Also the client tokens that lead to it. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "fake_node.h"

#define FAKE_GRANTS_MAX 256

struct fake_licences {
    pthread_mutex_t lock;
    int enrols, codes, tokens, grants, renewals, releases, lists, others;
    char last_lease[37], last_bearer[64], last_path[256], last_body[4096];
    /* what to do otherwise, set by the test before a call */
    const char *path;      /* of requests that begin so … */
    int times;             /* … and that many times … */
    enum fake_trick trick; /* … this, with … */
    int status;            /* … this status … */
    const char *problem;   /* … and this problem code; NULL: body and content_type … */
    const char *body, *content_type;
    int retry_after;        /* seconds, of refusals */
    bool keep_alive;        /* connections stay open for more */
    int64_t next_seat_ms;   /* a denial says that a seat is expected back in so long; 0: does not */
    int64_t clock_ahead_ms; /* of sync_timestamp */
    int64_t token_lives_ms; /* of auth tokens; 0: a day */
    double lease_lives;     /* seconds */
    double renew_after;     /* 0: a quarter of that */
    char seen[FAKE_GRANTS_MAX][37]; /* references granted */
    size_t seen_count;
};

void fake_licences_init(struct fake_licences *licences);
fake_handler fake_licences_answer;

/* Makes requests whose path begins with `path` fail `times` times with a problem document. */
void fake_licences_refuse(struct fake_licences *licences, const char *path, int times, int status,
                          const char *problem);

/* A client token for these nodes, signed by the instance key of this process; free() it. */
char *fake_tok_make(const char *const *urls, size_t url_count, const char *ca_pem,
                    int64_t begins_ms, int64_t expires_ms);
/* One signed by another key: of another instance, or of one that says that it is this one. */
char *fake_tok_make_foreign(const char *url, bool same_ref);
