/* A lease as this machine knows it: granted ones, and those it has drawn a reference for and not
 * heard of yet. Each is one file in the state folder. */
#pragma once

#include "answer.h"
#include "base/clock.h"
#include "token/key.h"

#define BOOT_ID_SIZE 37

struct state;

struct twinlease_lease {
    /* what was asked for */
    struct uuid lease_ref;
    struct uuid origin_ref; /* nil until the machine has enrolled */
    char feature[FEATURE_NAME_MAX + 1];
    struct uuid asked_scope; /* nil: by feature */
    int64_t count;
    int64_t duration_seconds; /* 0: as long as the site gives */
    int64_t drawn_ms;         /* wall clock */
    /* what was given */
    bool granted;
    struct uuid scope_ref, home;
    int64_t created_ms, expires_ms; /* node's clock */
    char *token, *entitlement;
    char boot_id[BOOT_ID_SIZE]; /* the boot that the two below belong to; "" if not known */
    struct boot ends, renew;    /* on this machine's boot clock */
    /* not stored */
    bool resumed, unconfirmed;
    struct state *claimed_in; /* reference; NULL if not claimed */
    int claim_fd;
    char lease_text[UUID_TEXT_SIZE], origin_text[UUID_TEXT_SIZE], scope_text[UUID_TEXT_SIZE],
        home_text[UUID_TEXT_SIZE]; /* for the accessors */
};

struct twinlease_lease *lease_new(void);
struct twinlease_lease *lease_clone(const struct twinlease_lease *lease); /* without the claim */
DEFINE_AUTO(struct twinlease_lease *, twinlease_lease_free)

/* Takes over what a node gave; `asked` is when the request was sent: the node decided later, so
 * what is counted from then on is never too long. Takes the texts out of *facts. */
void lease_grant(struct twinlease_lease *lease, struct lease_facts *facts, struct boot asked);
/* Over: nothing may be used any more. */
void lease_end(struct twinlease_lease *lease);

/* {"format":1, …}: appends the file's text. jwks: JSON text of the instance's keys, so that the
 * file alone is enough to verify the lease. */
void lease_write(const struct twinlease_lease *lease, const char *jwks, struct buf *out);
/* BAD_JSON, BAD_FIELD, …: it is none. Of another boot, the spans are guessed by the wall clock; the
 * node has the last word. The caller owns *out. */
enum err lease_read(const char *text, size_t length, struct twinlease_lease **out,
                    struct diag *diag) MUST_USE;
