/* An entitlement as plain data: what a publisher signed. token/ reads it from its JWS, ledger/
 * mints its seats, store/ keeps its text. Immutable once built and reference-counted, so event
 * loops may hold one while the ledger thread replaces it by a newer revision. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/uuid.h"

#define ENTITLEMENT_FEATURES_MAX 256 /* features of one entitlement */
#define ENTITLEMENT_SEATS_MAX    10000000
#define ENTITLEMENT_TEXT_MAX     49152 /* bytes of the JWS: fits the request body limit */
#define FEATURE_NAME_MAX         64    /* see feature_name_valid() */
#define PUBLISHER_NAME_MAX       64
#define LEASE_SECONDS_MAX        7776000 /* 90 days: no lease is ever longer */

/* When the seat of a lease that ended before its time comes back (R6). */
enum seat_return { SEAT_RETURN_ACKNOWLEDGED, SEAT_RETURN_AT_EXPIRY };

struct feature {
    struct uuid scope_ref;
    char name[FEATURE_NAME_MAX + 1];
    int64_t seats;
    int64_t lease_max_ms;
    enum seat_return on_release, on_revoke;
};

struct entitlement {
    atomic_uint references;
    struct uuid entitlement_ref;
    int64_t revision; /* 1 and up */
    char publisher[PUBLISHER_NAME_MAX + 1];
    int64_t issued_ms, begins_ms, ends_ms; /* iat, nbf (or iat), exp */
    uint8_t sha256[32];                    /* of the compact JWS */
    char *text;                            /* the compact JWS, owned */
    size_t feature_count;
    struct feature features[]; /* distinct scope_ref */
};

/* [A-Za-z0-9][A-Za-z0-9._-]*, at most FEATURE_NAME_MAX: safe as part of a file name. */
bool feature_name_valid(const char *name);

/* A new one with room for `feature_count` features and one reference, all else zero. */
struct entitlement *entitlement_new(size_t feature_count);
struct entitlement *entitlement_ref(struct entitlement *e);
void entitlement_unref(struct entitlement *e); /* takes NULL */
DEFINE_AUTO(struct entitlement *, entitlement_unref)
