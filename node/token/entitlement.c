/* Entitlements and instance tokens, as publishers and nodes exchange them. */
#include <stdio.h>

#include "base/base64url.h"
#include "base/clock.h"
#include "token/claims.h"
#include "token/publisher_internal.h"

#define NBF_LEEWAY_MS         60000 /* a publisher's clock may be that much ahead */
#define LEASE_SECONDS_DEFAULT 86400
#define TOO_LONG              "the entitlement would be longer than %d bytes"

static const char *const seat_returns[] = {
    [SEAT_RETURN_ACKNOWLEDGED] = "acknowledged",
    [SEAT_RETURN_AT_EXPIRY] = "at_expiry",
};

/* What an entitlement says of the instance it is for. */
struct binding {
    struct uuid instance_ref;
    char thumbprint[KEY_THUMBPRINT_SIZE];
};

/* ---- reading claims ---------------------------------------------------------------------------
 */

static void read_seat_return(struct json_reader *r, const char *name, enum seat_return *out)
{
    const char *text;

    *out = SEAT_RETURN_ACKNOWLEDGED;
    if (!json_read_string(r, name, false, 32, &text))
        return;
    for (size_t i = 0; i < ARRAY_SIZE(seat_returns); i++) {
        if (strcmp(seat_returns[i], text) == 0) {
            *out = (enum seat_return)i;
            return;
        }
    }
    json_reader_fail(r, ERR_ENT_MALFORMED, "%s is \"%s\"; \"%s\" and \"%s\" are known", name, text,
                     seat_returns[0], seat_returns[1]);
}

/* An integer from min; over max is another error than no number at all. */
static void read_limited(struct json_reader *r, const char *name, bool required, int64_t min,
                         int64_t max, int64_t *out)
{
    int64_t value;

    if (!json_read_int(r, name, required, min, INT64_MAX, &value))
        return;
    if (value > max)
        json_reader_fail(r, ERR_ENT_LIMIT, "%s is %jd; at most %jd", name, (intmax_t)value,
                         (intmax_t)max);
    else
        *out = value;
}

static enum err read_feature(struct json_object *value, size_t index, struct feature *out,
                             struct diag *diag)
{
    int64_t lease_seconds = LEASE_SECONDS_DEFAULT;
    struct json_reader r;
    const char *name;
    char where[32];

    snprintf(where, sizeof where, "features[%zu]", index);
    json_reader_init(&r, value, where, diag);
    json_read_uuid(&r, "scope_ref", true, &out->scope_ref);
    if (json_read_string(&r, "feature", true, FEATURE_NAME_MAX, &name)) {
        if (feature_name_valid(name))
            memcpy(out->name, name, strlen(name) + 1);
        else
            json_reader_fail(&r, ERR_ENT_MALFORMED,
                             "feature \"%s\" must be letters, digits and ._-", name);
    }
    read_limited(&r, "seats", true, 0, ENTITLEMENT_SEATS_MAX, &out->seats);
    read_limited(&r, "max_lease_seconds", false, 1, LEASE_SECONDS_MAX, &lease_seconds);
    read_seat_return(&r, "release", &out->on_release);
    read_seat_return(&r, "revoke", &out->on_revoke);
    out->lease_max_ms = lease_seconds * 1000;
    return claims_end(&r, ERR_ENT_MALFORMED);
}

static enum err check_distinct(const struct entitlement *e, size_t index, struct diag *diag)
{
    const struct feature *one = &e->features[index];

    for (size_t i = 0; i < index; i++) {
        if (uuid_equal(&e->features[i].scope_ref, &one->scope_ref))
            return diag_set(diag, ERR_ENT_MALFORMED,
                            "features[%zu] and features[%zu] have the same scope_ref", i, index);
        if (strcmp(e->features[i].name, one->name) == 0)
            return diag_set(diag, ERR_ENT_MALFORMED,
                            "features[%zu] and features[%zu] are both named \"%s\"", i, index,
                            one->name);
    }
    return ERR_OK;
}

static enum err read_features(struct json_object *list, struct entitlement *e, struct diag *diag)
{
    for (size_t i = 0; i < e->feature_count; i++) {
        enum err err = read_feature(json_object_array_get_idx(list, i), i, &e->features[i], diag);
        if (err == ERR_OK)
            err = check_distinct(e, i, diag);
        if (err != ERR_OK)
            return err;
    }
    return ERR_OK;
}

static struct json_object *find_features(struct json_reader *r)
{
    struct json_object *list = NULL;

    if (!json_read_array(r, "features", true, SIZE_MAX, &list))
        return NULL;
    size_t count = json_object_array_length(list);
    if (count == 0)
        json_reader_fail(r, ERR_ENT_MALFORMED, "features is empty");
    if (count > ENTITLEMENT_FEATURES_MAX)
        json_reader_fail(r, ERR_ENT_LIMIT, "features has %zu items; at most %d", count,
                         ENTITLEMENT_FEATURES_MAX);
    return list;
}

static void read_publisher(struct json_reader *r, char out[PUBLISHER_NAME_MAX + 1])
{
    const char *name;

    if (!json_read_string(r, "iss", true, PUBLISHER_NAME_MAX, &name))
        return;
    if (publisher_name_valid(name))
        memcpy(out, name, strlen(name) + 1);
    else
        json_reader_fail(r, ERR_ENT_MALFORMED, "iss \"%s\" is not a publisher's name", name);
}

static void read_binding(struct json_reader *r, struct binding *out)
{
    const char *text;
    uint8_t hash[32];

    json_read_uuid(r, "instance_ref", true, &out->instance_ref);
    if (claims_read_sha256(r, "instance_key", hash) &&
        json_read_string(r, "instance_key", true, KEY_THUMBPRINT_SIZE - 1, &text))
        memcpy(out->thumbprint, text, strlen(text) + 1);
}

static void read_times(struct json_reader *r, struct entitlement *e)
{
    if (claims_read_seconds(r, "iat", true, &e->issued_ms))
        e->begins_ms = e->issued_ms;
    claims_read_seconds(r, "nbf", false, &e->begins_ms);
    claims_read_seconds(r, "exp", true, &e->ends_ms);
    if (r->err == ERR_OK && e->ends_ms <= e->begins_ms)
        json_reader_fail(r, ERR_ENT_MALFORMED, "exp must be later than nbf");
}

static enum err read_claims(struct json_object *payload, struct entitlement **out,
                            struct binding *binding, struct diag *diag)
{
    struct json_reader r;

    json_reader_init(&r, payload, "", diag);
    struct json_object *list = find_features(&r);
    if (r.err != ERR_OK)
        return claims_end(&r, ERR_ENT_MALFORMED);
    AUTO(entitlement_unref) struct entitlement *e = entitlement_new(json_object_array_length(list));
    read_publisher(&r, e->publisher);
    json_read_uuid(&r, "sub", true, &e->entitlement_ref);
    json_read_int(&r, "revision", true, 1, INT64_MAX, &e->revision);
    read_binding(&r, binding);
    read_times(&r, e);
    enum err err = claims_end(&r, ERR_ENT_MALFORMED);
    if (err == ERR_OK)
        err = read_features(list, e, diag);
    if (err == ERR_OK)
        *out = TAKE(e);
    return err;
}

/* ---- verifying --------------------------------------------------------------------------------
 */

/* Everything but the signature. */
static enum err read_document(const char *text, size_t length, struct entitlement **out,
                              struct binding *binding, struct diag *diag)
{
    AUTO(entitlement_unref) struct entitlement *e = NULL;
    AUTO(jws_fini) struct jws jws = { 0 };

    if (length > ENTITLEMENT_TEXT_MAX)
        return diag_set(diag, ERR_ENT_LIMIT, "an entitlement of %zu bytes; at most %d", length,
                        ENTITLEMENT_TEXT_MAX);
    if (jws_parse(text, length, &jws, diag) != ERR_OK)
        return ERR_ENT_MALFORMED;
    if (strcmp(jws.typ, TYP_ENTITLEMENT) != 0)
        return diag_set(diag, ERR_ENT_MALFORMED, "a token of typ %s where %s is wanted", jws.typ,
                        TYP_ENTITLEMENT);
    enum err err = read_claims(jws.payload, &e, binding, diag);
    if (err != ERR_OK)
        return err;
    e->text = mem_memdup(text, length);
    sha256(text, length, e->sha256);
    *out = TAKE(e);
    return ERR_OK;
}

/* Tells an unknown key from a wrong signature: the one is a matter of trust, the other of
 * tampering. */
static enum err check_signature(const struct key *const *keys, size_t key_count, const char *text,
                                size_t length, struct diag *diag)
{
    AUTO(jws_fini) struct jws jws = { 0 };

    if (jws_parse(text, length, &jws, diag) != ERR_OK)
        return ERR_ENT_MALFORMED;
    bool known = false;
    for (size_t i = 0; jws.kid && i < key_count; i++)
        known |= strcmp(key_thumbprint(keys[i]), jws.kid) == 0;
    if (!known)
        return diag_set(diag, ERR_ENT_UNTRUSTED,
                        "signed with a key that is not the publisher's (%s)",
                        jws.kid ? jws.kid : "no kid");
    jws_fini(&jws);
    return jws_verify(keys, key_count, TYP_ENTITLEMENT, text, length, &jws, diag) == ERR_OK
               ? ERR_OK
               : ERR_ENT_SIGNATURE;
}

static enum err check_time(const struct entitlement *e, int64_t now_ms, struct diag *diag)
{
    char text[RFC3339_SIZE];

    if (now_ms < 0)
        return ERR_OK;
    if (now_ms >= e->ends_ms) {
        rfc3339_format(e->ends_ms, text);
        return diag_set(diag, ERR_ENT_EXPIRED, "the entitlement ended at %s (exp)", text);
    }
    if (now_ms < e->begins_ms - NBF_LEEWAY_MS) {
        rfc3339_format(e->begins_ms, text);
        return diag_set(diag, ERR_ENT_EARLY, "the entitlement begins at %s (nbf)", text);
    }
    return ERR_OK;
}

static enum err check_binding(const struct binding *binding, const struct uuid *instance_ref,
                              const char *thumbprint, struct diag *diag)
{
    char theirs[UUID_TEXT_SIZE], ours[UUID_TEXT_SIZE];

    if (!uuid_equal(&binding->instance_ref, instance_ref)) {
        uuid_format(&binding->instance_ref, theirs);
        uuid_format(instance_ref, ours);
        return diag_set(diag, ERR_ENT_FOREIGN, "instance_ref is %s, this is %s", theirs, ours);
    }
    if (strcmp(binding->thumbprint, thumbprint) != 0)
        return diag_set(diag, ERR_ENT_FOREIGN, "instance_key is %s, this instance's is %s",
                        binding->thumbprint, thumbprint);
    return ERR_OK;
}

enum err entitlement_verify(const struct publishers *publishers, const struct uuid *instance_ref,
                            const char *instance_thumbprint, const char *text, size_t length,
                            int64_t now_ms, struct entitlement **out, struct diag *diag)
{
    AUTO(entitlement_unref) struct entitlement *e = NULL;
    const struct key *const *keys;
    struct binding binding;
    size_t key_count;
    enum err err;

    if ((err = read_document(text, length, &e, &binding, diag)) != ERR_OK)
        return err;
    if (!publishers_find(publishers, e->publisher, &keys, &key_count))
        return diag_set(diag, ERR_ENT_UNTRUSTED,
                        "publisher \"%s\" is not among the %zu trusted here", e->publisher,
                        publishers_count(publishers));
    if ((err = check_signature(keys, key_count, text, length, diag)) != ERR_OK)
        return err;
    if ((err = check_binding(&binding, instance_ref, instance_thumbprint, diag)) != ERR_OK)
        return err;
    if ((err = check_time(e, now_ms, diag)) != ERR_OK)
        return err;
    *out = TAKE(e);
    return ERR_OK;
}

enum err entitlement_verify_with(const struct key *publisher_key, const char *text, size_t length,
                                 int64_t now_ms, struct entitlement **out,
                                 struct uuid *instance_ref,
                                 char instance_thumbprint[KEY_THUMBPRINT_SIZE], struct diag *diag)
{
    AUTO(entitlement_unref) struct entitlement *e = NULL;
    struct binding binding;
    enum err err;

    if ((err = read_document(text, length, &e, &binding, diag)) != ERR_OK)
        return err;
    if ((err = check_signature(&publisher_key, 1, text, length, diag)) != ERR_OK)
        return err;
    if ((err = check_time(e, now_ms, diag)) != ERR_OK)
        return err;
    if (instance_ref)
        *instance_ref = binding.instance_ref;
    if (instance_thumbprint)
        memcpy(instance_thumbprint, binding.thumbprint, sizeof binding.thumbprint);
    *out = TAKE(e);
    return ERR_OK;
}

enum err entitlement_read(const char *text, size_t length, struct entitlement **out,
                          struct diag *diag)
{
    struct binding binding;

    return read_document(text, length, out, &binding, diag);
}

/* ---- signing ----------------------------------------------------------------------------------
 */

/* Defaults are left out: 256 features would not fit otherwise. */
static void append_seat_return(const char *name, enum seat_return value, struct buf *out)
{
    if (value != SEAT_RETURN_ACKNOWLEDGED)
        buf_format(out, ",\"%s\":\"%s\"", name, seat_returns[value]);
}

static void append_feature(const struct feature *feature, struct buf *out)
{
    char scope[UUID_TEXT_SIZE];

    uuid_format(&feature->scope_ref, scope);
    buf_format(
        out, "{\"scope_ref\":\"%s\",\"feature\":\"%s\",\"seats\":%jd,\"max_lease_seconds\":%jd",
        scope, feature->name, (intmax_t)feature->seats, (intmax_t)(feature->lease_max_ms / 1000));
    append_seat_return("release", feature->on_release, out);
    append_seat_return("revoke", feature->on_revoke, out);
    buf_text_append(out, "}");
}

static void append_claims(const struct entitlement *e, const struct uuid *instance_ref,
                          const char *instance_thumbprint, struct buf *out)
{
    char entitlement[UUID_TEXT_SIZE], instance[UUID_TEXT_SIZE];

    uuid_format(&e->entitlement_ref, entitlement);
    uuid_format(instance_ref, instance);
    buf_format(out,
               "{\"iss\":\"%s\",\"sub\":\"%s\",\"revision\":%jd,\"instance_ref\":\"%s\","
               "\"instance_key\":\"%s\",\"iat\":%jd,\"nbf\":%jd,\"exp\":%jd,\"features\":[",
               e->publisher, entitlement, (intmax_t)e->revision, instance, instance_thumbprint,
               (intmax_t)claims_seconds(e->issued_ms), (intmax_t)claims_seconds(e->begins_ms),
               (intmax_t)claims_seconds(e->ends_ms));
    for (size_t i = 0; i < e->feature_count; i++) {
        if (i > 0)
            buf_text_append(out, ",");
        append_feature(&e->features[i], out);
    }
    buf_text_append(out, "]}");
}

/* Names go into the payload unescaped, so they are looked at before it is written. */
static enum err check_names(const struct entitlement *e, struct diag *diag)
{
    if (!publisher_name_valid(e->publisher))
        return diag_set(diag, ERR_ENT_MALFORMED, "\"%s\" is not a publisher's name", e->publisher);
    for (size_t i = 0; i < e->feature_count; i++) {
        if (!feature_name_valid(e->features[i].name))
            return diag_set(diag, ERR_ENT_MALFORMED, "\"%s\" is not a feature's name",
                            e->features[i].name);
    }
    return ERR_OK;
}

/* What is signed is read again first, by the same rules as every node will: nobody should learn
 * from the customer that an entitlement cannot be installed. */
static enum err check_payload(const struct buf *payload, struct diag *diag)
{
    AUTO(entitlement_unref) struct entitlement *again = NULL;
    AUTO(json_object_put) struct json_object *value = NULL;
    struct binding binding;

    if (json_parse(buf_text(payload), payload->length, &value, diag) != ERR_OK)
        return ERR_ENT_MALFORMED;
    return read_claims(value, &again, &binding, diag);
}

enum err entitlement_sign(const struct key *publisher_key, const struct entitlement *e,
                          const struct uuid *instance_ref, const char *instance_thumbprint,
                          struct buf *out, struct diag *diag)
{
    AUTO(buf_fini) struct buf payload = { .max = ENTITLEMENT_TEXT_MAX };
    AUTO(buf_fini) struct buf text = { .max = ENTITLEMENT_TEXT_MAX };
    enum err err;

    if ((err = check_names(e, diag)) != ERR_OK)
        return err;
    append_claims(e, instance_ref, instance_thumbprint, &payload);
    if (!buf_ok(&payload))
        return diag_set(diag, ERR_ENT_LIMIT, TOO_LONG, ENTITLEMENT_TEXT_MAX);
    if ((err = check_payload(&payload, diag)) != ERR_OK)
        return err;
    err = jws_sign(publisher_key, TYP_ENTITLEMENT, payload.bytes, payload.length, &text);
    if (!buf_ok(&text))
        return diag_set(diag, ERR_ENT_LIMIT, TOO_LONG, ENTITLEMENT_TEXT_MAX);
    if (err != ERR_OK)
        return diag_set(diag, err, "the entitlement cannot be signed with this key");
    buf_append(out, text.bytes, text.length);
    return buf_ok(out) ? ERR_OK : diag_set(diag, ERR_INTERNAL, "no room for the entitlement");
}

/* ---- instance tokens --------------------------------------------------------------------------
 */

static enum err read_instance_claims(struct json_object *payload, struct uuid *instance_ref,
                                     struct json_object **jwk, struct diag *diag)
{
    struct uuid issuer = { { 0 } };
    struct json_reader r;
    int64_t issued_ms;

    json_reader_init(&r, payload, "", diag);
    json_read_uuid(&r, "iss", true, &issuer);
    json_read_uuid(&r, "instance_ref", true, instance_ref);
    claims_read_seconds(&r, "iat", true, &issued_ms);
    json_read_object(&r, "jwk", true, jwk);
    if (r.err == ERR_OK && !uuid_equal(&issuer, instance_ref))
        json_reader_fail(&r, ERR_TOKEN_INVALID, "iss and instance_ref differ");
    return claims_end(&r, ERR_TOKEN_INVALID);
}

/* The only document that brings the key it is verified with: it proves possession, and who it is
 * is for the publisher to ask the customer. */
enum err instance_token_read(const char *text, size_t length, struct uuid *instance_ref,
                             struct key **instance_key, struct diag *diag)
{
    AUTO(jws_fini) struct jws jws = { 0 }, verified = { 0 };
    AUTO(key_free) struct key *key = NULL;
    struct json_object *jwk = NULL;
    struct uuid ref;
    enum err e;

    if ((e = jws_parse(text, length, &jws, diag)) != ERR_OK)
        return e;
    if (strcmp(jws.typ, TYP_INSTANCE) != 0)
        return diag_set(diag, ERR_TOKEN_PURPOSE, "a token of typ %s where %s is wanted", jws.typ,
                        TYP_INSTANCE);
    if ((e = read_instance_claims(jws.payload, &ref, &jwk, diag)) != ERR_OK)
        return e;
    if (key_from_jwk(jwk, &key, diag) != ERR_OK)
        return ERR_TOKEN_INVALID;
    const struct key *const only = key; /* jws_verify() compares kid with its thumbprint */
    if ((e = jws_verify(&only, 1, TYP_INSTANCE, text, length, &verified, diag)) != ERR_OK)
        return e;
    *instance_ref = ref;
    *instance_key = TAKE(key);
    return ERR_OK;
}
