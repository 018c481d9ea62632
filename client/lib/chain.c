/* Offline verification: publisher key → entitlement → instance key → lease token. */
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "fault.h"
#include "keyset.h"
#include "options.h"
#include "token/instance.h"
#include "token/publisher.h"
#include "twinlease.h"

#define PEM_MAX            (64 << 10)
#define PUBLISHER_KEYS_MAX 16
#define TOLERANCE_SECONDS  300
#define TOLERANCE_MAX      86400

/* What the chain has shown so far. */
struct chain {
    const struct twinlease_verify_options *options;
    struct entitlement *entitlement;
    struct uuid instance_ref;
    char thumbprint[KEY_THUMBPRINT_SIZE];
    struct keyset instance_keys;
    struct lease_claims lease;
    struct diag diag;
};

static void chain_fini(struct chain *chain)
{
    entitlement_unref(chain->entitlement);
    keyset_fini(&chain->instance_keys);
}
DEFINE_AUTO_VALUE(struct chain, chain_fini)

/* With one of the publisher's keys. */
static enum err verify_entitlement(struct chain *c, const struct key *key)
{
    const char *text = c->options->entitlement;

    return entitlement_verify_with(key, text, strlen(text), -1, &c->entitlement, &c->instance_ref,
                                   c->thumbprint, &c->diag);
}

/* A publisher may have several keys in its PEM text; one of them must have signed. */
static enum twinlease_code check_entitlement(struct chain *c, struct twinlease_error *error)
{
    const char *pem = c->options->publisher_key_pem;
    size_t left = strnlen(pem, PEM_MAX), used;
    enum err e = ERR_ENT_UNTRUSTED;
    struct diag no_key = { "" };
    int keys = 0;

    for (; keys < PUBLISHER_KEYS_MAX && e == ERR_ENT_UNTRUSTED; keys++) {
        AUTO(key_free) struct key *key = NULL;
        if (key_parse_public(pem, left, &key, &used, &no_key) != ERR_OK)
            break;
        pem += used;
        left -= used;
        e = verify_entitlement(c, key);
    }
    if (keys == 0)
        return fault_link(error, TWINLEASE_LINK_PUBLISHER, "the publisher's key cannot be used: %s",
                          no_key.text);
    if (e == ERR_ENT_UNTRUSTED)
        return fault_link(error, TWINLEASE_LINK_PUBLISHER,
                          "the entitlement was not signed by the publisher's key: %s",
                          c->diag.text);
    if (e != ERR_OK)
        return fault_link(error, TWINLEASE_LINK_ENTITLEMENT, "the entitlement does not hold: %s",
                          c->diag.text);
    return TWINLEASE_OK;
}

static enum twinlease_code check_instance(struct chain *c, const struct key **out,
                                          struct twinlease_error *error)
{
    const char *jwks = c->options->instance_jwks;

    if (keyset_parse(jwks, strlen(jwks), &c->instance_keys, &c->diag) != ERR_OK)
        return fault_link(error, TWINLEASE_LINK_INSTANCE, "the instance's keys cannot be used: %s",
                          c->diag.text);
    *out = keyset_find(&c->instance_keys, c->thumbprint);
    if (!*out)
        return fault_link(error, TWINLEASE_LINK_INSTANCE,
                          "the entitlement is for the instance key %s, and none of the %zu keys at "
                          "hand is that one",
                          c->thumbprint, c->instance_keys.count);
    return TWINLEASE_OK;
}

static const struct feature *find_feature(const struct entitlement *e, const struct uuid *scope_ref)
{
    for (size_t i = 0; i < e->feature_count; i++) {
        if (uuid_equal(&e->features[i].scope_ref, scope_ref))
            return &e->features[i];
    }
    return NULL;
}

/* What the instance signed must be something that the publisher lets it sign. */
static enum twinlease_code check_terms(struct chain *c, int64_t tolerance_ms,
                                       struct twinlease_error *error)
{
    const struct lease_claims *lease = &c->lease;
    const struct feature *feature = find_feature(c->entitlement, &lease->scope_ref);
    enum twinlease_link link = TWINLEASE_LINK_LEASE;

    if (!uuid_equal(&lease->instance_ref, &c->instance_ref))
        return fault_link(error, link, "the lease token is of another instance");
    if (memcmp(lease->entitlement_sha256, c->entitlement->sha256, 32) != 0)
        return fault_link(error, TWINLEASE_LINK_ENTITLEMENT,
                          "the lease token names another entitlement, or another revision of it");
    if (!feature || strcmp(feature->name, lease->feature) != 0)
        return fault_link(error, link, "the entitlement does not have the lease's feature \"%s\"",
                          lease->feature);
    if (lease->count > feature->seats)
        return fault_link(error, link,
                          "the lease is for %" PRId64 " seats, and the entitlement has %" PRId64,
                          lease->count, feature->seats);
    if (lease->expires_ms - lease->issued_ms > feature->lease_max_ms + tolerance_ms)
        return fault_link(error, link, "the lease is longer than the entitlement allows");
    return TWINLEASE_OK;
}

static enum twinlease_code check_lease(struct chain *c, const struct key *key, int64_t tolerance_ms,
                                       struct twinlease_error *error)
{
    const struct twinlease_verify_options *o = c->options;
    enum twinlease_code code;

    if (lease_token_verify_with(&key, 1, o->lease_token, strlen(o->lease_token), &c->lease,
                                &c->diag) != ERR_OK)
        return fault_link(error, TWINLEASE_LINK_LEASE, "the lease token does not hold: %s",
                          c->diag.text);
    if ((code = check_terms(c, tolerance_ms, error)) != TWINLEASE_OK)
        return code;
    if (o->feature && strcmp(o->feature, c->lease.feature) != 0)
        return fault_link(error, TWINLEASE_LINK_LEASE, "the lease is of \"%s\", not of \"%.64s\"",
                          c->lease.feature, o->feature);
    if (c->lease.count < o->count_min)
        return fault_link(error, TWINLEASE_LINK_LEASE,
                          "the lease is for %" PRId64 " seats, and %" PRId64 " are needed",
                          c->lease.count, o->count_min);
    return TWINLEASE_OK;
}

/* One of the two documents: valid from begins_ms to ends_ms. */
static enum twinlease_code check_span(const char *what, int64_t begins_ms, int64_t ends_ms,
                                      int64_t now_ms, int64_t tolerance_ms,
                                      struct twinlease_error *error)
{
    char when[RFC3339_SIZE];

    if (now_ms + tolerance_ms < begins_ms) {
        rfc3339_format(begins_ms, when);
        return fault_link(error, TWINLEASE_LINK_TIME,
                          "the %s begins at %s; wait, or check this machine's clock", what, when);
    }
    if (now_ms - tolerance_ms >= ends_ms) {
        rfc3339_format(ends_ms, when);
        return fault_link(error, TWINLEASE_LINK_TIME,
                          "the %s ended at %s; get a new one, or check this machine's clock", what,
                          when);
    }
    return TWINLEASE_OK;
}

static enum twinlease_code read_options(const struct twinlease_verify_options *options,
                                        struct twinlease_verify_options *out,
                                        struct twinlease_error *error)
{
    if (!options || !options_take(out, sizeof *out, options))
        return fault_set(error, TWINLEASE_USAGE,
                         "the options are not those of this library (%s): initialise them with "
                         "TWINLEASE_VERIFY_OPTIONS_INIT",
                         TWINLEASE_VERSION);
    if (!out->publisher_key_pem || !out->entitlement || !out->lease_token || !out->instance_jwks)
        return fault_set(
            error, TWINLEASE_USAGE,
            "publisher_key_pem, entitlement, lease_token and instance_jwks are needed");
    if (out->tolerance_seconds > TOLERANCE_MAX)
        return fault_set(error, TWINLEASE_USAGE, "tolerance_seconds is over %d", TOLERANCE_MAX);
    if (!out->tolerance_seconds)
        out->tolerance_seconds = TOLERANCE_SECONDS;
    if (out->tolerance_seconds < 0)
        out->tolerance_seconds = 0;
    if (!out->now_ms)
        out->now_ms = wall_now().ms;
    return TWINLEASE_OK;
}

enum twinlease_code twinlease_verify(const struct twinlease_verify_options *options,
                                     struct twinlease_error *error)
{
    struct twinlease_verify_options o = { .size = sizeof o };
    AUTO(chain_fini) struct chain c = { .options = &o };
    const struct key *instance_key = NULL;
    struct twinlease_error spare;
    enum twinlease_code code;

    error = error ? error : &spare;
    fault_clear(error);
    if ((code = read_options(options, &o, error)) != TWINLEASE_OK)
        return code;
    int64_t tolerance_ms = o.tolerance_seconds * 1000;
    if ((code = check_entitlement(&c, error)) != TWINLEASE_OK ||
        (code = check_instance(&c, &instance_key, error)) != TWINLEASE_OK ||
        (code = check_lease(&c, instance_key, tolerance_ms, error)) != TWINLEASE_OK ||
        (code = check_span("entitlement", c.entitlement->begins_ms, c.entitlement->ends_ms,
                           o.now_ms, tolerance_ms, error)) != TWINLEASE_OK)
        return code;
    return check_span("lease", c.lease.issued_ms, c.lease.expires_ms, o.now_ms, tolerance_ms,
                      error);
}
