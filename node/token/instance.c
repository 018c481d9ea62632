#include "token/instance.h"

#include <openssl/crypto.h>
#include <stdio.h>

#include "base/base64url.h"
#include "token/claims.h"
#include "token/instance_internal.h"

#define HEADER_MAX  512
#define PAYLOAD_MAX 512 /* of auth tokens and sessions */

/* HKDF labels. The secrets of all enrolled origins hang on them: never change one. */
#define LABEL_ORIGIN  "twinlease origin secret 1"
#define LABEL_TOKEN   "twinlease pair token 1"
#define LABEL_CODE    "twinlease auth code 1"
#define LABEL_SESSION "twinlease session mark 1"

static char *make_jwks(const struct key *key)
{
    AUTO(json_object_put) struct json_object *set = json_object_new_object();
    struct json_object *keys = json_object_new_array();

    must(set && keys);
    must(json_object_array_add(keys, key_jwk(key)) == 0);
    must(json_object_object_add(set, "keys", keys) == 0);
    return mem_strdup(json_object_to_json_string_ext(set, JSON_C_TO_STRING_PLAIN |
                                                              JSON_C_TO_STRING_NOSLASHESCAPE));
}

struct instance *instance_new(const struct uuid *instance_ref, struct key *key)
{
    struct instance *instance = mem_calloc(1, sizeof *instance);

    must(key_is_private(key));
    instance->ref = *instance_ref;
    uuid_format(instance_ref, instance->ref_text);
    instance->key = key;
    instance->jwks = make_jwks(key);
    buf_init(&instance->lease_header, HEADER_MAX);
    jws_header(key, TYP_LEASE, &instance->lease_header);
    key_derive(key, LABEL_ORIGIN, instance->origin_key);
    key_derive(key, LABEL_TOKEN, instance->token_key);
    key_derive(key, LABEL_CODE, instance->code_key);
    key_derive(key, LABEL_SESSION, instance->session_key);
    return instance;
}

struct instance *instance_free(struct instance *instance)
{
    if (instance) {
        key_free(instance->key);
        mem_free(instance->jwks);
        buf_fini(&instance->lease_header);
        OPENSSL_cleanse(instance, sizeof *instance);
        mem_free(instance);
    }
    return NULL;
}

const struct key *instance_key(const struct instance *instance)
{
    return instance->key;
}

const struct uuid *instance_ref(const struct instance *instance)
{
    return &instance->ref;
}

const char *instance_jwks(const struct instance *instance)
{
    return instance->jwks;
}

/* ---- verifying --------------------------------------------------------------------------------
 */

static enum err verify(const struct instance *instance, enum seal seal, const char *typ,
                       const char *text, size_t length, struct jws *out, struct diag *diag)
{
    const struct key *key = instance->key;

    return seal == SEAL_MAC ? jws_mac_verify(instance->token_key, typ, text, length, out, diag)
                            : jws_verify(&key, 1, typ, text, length, out, diag);
}

/* A better reason for a token that is not valid: ours with the other seal, or another instance's.
 * Who it says it is from is not verified then, but it is refused either way. */
static enum err explain(const struct instance *instance, enum seal seal, const char *typ,
                        const char *text, size_t length, struct diag *diag)
{
    AUTO(jws_fini) struct jws jws = { 0 };
    struct json_reader r;
    struct uuid iss;

    enum err e = verify(instance, seal == SEAL_MAC ? SEAL_SIGNATURE : SEAL_MAC, typ, text, length,
                        &jws, NULL);
    if (e == ERR_OK || e == ERR_TOKEN_PURPOSE)
        return diag_set(diag, ERR_TOKEN_PURPOSE, "a token of this instance, but not of typ %s",
                        typ);
    if (jws_parse(text, length, &jws, NULL) != ERR_OK)
        return ERR_TOKEN_INVALID;
    json_reader_init(&r, jws.payload, "", NULL);
    if (json_read_uuid(&r, "iss", true, &iss) && !uuid_equal(&iss, &instance->ref))
        return diag_set(diag, ERR_TOKEN_INSTANCE, "a token of another instance, not of %s",
                        instance->ref_text);
    return ERR_TOKEN_INVALID;
}

static enum err check_issuer(const struct instance *instance, const struct jws *jws,
                             struct diag *diag)
{
    struct json_reader r;
    struct uuid iss;

    json_reader_init(&r, jws->payload, "", diag);
    json_read_uuid(&r, "iss", true, &iss);
    enum err e = claims_end(&r, ERR_TOKEN_INVALID);
    if (e == ERR_OK && !uuid_equal(&iss, &instance->ref))
        return diag_set(diag, ERR_TOKEN_INSTANCE, "a token of another instance, not of %s",
                        instance->ref_text);
    return e;
}

enum err instance_verify(const struct instance *instance, enum seal seal, const char *typ,
                         const char *text, size_t length, struct jws *out, struct diag *diag)
{
    AUTO(jws_fini) struct jws jws = { 0 };

    enum err e = verify(instance, seal, typ, text, length, &jws, diag);
    if (e == ERR_TOKEN_INVALID)
        return explain(instance, seal, typ, text, length, diag);
    if (e == ERR_OK)
        e = check_issuer(instance, &jws, diag);
    if (e != ERR_OK)
        return e;
    *out = jws;
    jws = (struct jws){ 0 };
    return ERR_OK;
}

/* ---- origins ----------------------------------------------------------------------------------
 */

void origin_secret_make(const struct instance *instance, const struct uuid *origin_ref,
                        uint32_t generation, char out[ORIGIN_SECRET_SIZE])
{
    AUTO(buf_fini_secret) struct buf text = { .max = ORIGIN_SECRET_SIZE - 1 };
    uint8_t input[sizeof origin_ref->bytes + 4], mac[32];

    memcpy(input, origin_ref->bytes, sizeof origin_ref->bytes);
    for (size_t i = 0; i < 4; i++)
        input[sizeof origin_ref->bytes + i] = (uint8_t)(generation >> (24 - 8 * i));
    hmac_sha256(instance->origin_key, input, sizeof input, mac);
    buf_format(&text, "%u.", (unsigned)generation);
    base64url_append(&text, mac, sizeof mac);
    must(buf_ok(&text));
    memcpy(out, text.bytes, text.length + 1);
    OPENSSL_cleanse(mac, sizeof mac);
}

enum err origin_secret_check(const struct instance *instance, const struct uuid *origin_ref,
                             const char *secret, uint32_t *generation)
{
    char right[ORIGIN_SECRET_SIZE];
    uint64_t number = 0;
    size_t digits = strspn(secret, "0123456789");

    if (digits == 0 || digits > 10)
        return ERR_SECRET_INVALID;
    for (size_t i = 0; i < digits; i++)
        number = number * 10 + (uint64_t)(secret[i] - '0');
    if (number > UINT32_MAX)
        return ERR_SECRET_INVALID;
    /* The whole text is compared, so leading zeros and the like do not pass. */
    origin_secret_make(instance, origin_ref, (uint32_t)number, right);
    size_t length = strlen(right);
    bool same = strlen(secret) == length && secret_equal(secret, right, length);
    OPENSSL_cleanse(right, sizeof right);
    if (!same)
        return ERR_SECRET_INVALID;
    *generation = (uint32_t)number;
    return ERR_OK;
}

void auth_token_make(const struct instance *instance, const struct auth_claims *claims,
                     struct buf *out)
{
    AUTO(buf_fini) struct buf payload = { .max = PAYLOAD_MAX };
    char origin[UUID_TEXT_SIZE];

    uuid_format(&claims->origin_ref, origin);
    buf_format(
        &payload,
        CLAIM_ISS ",\"sub\":\"%s\",\"aud\":\"twinlease\",\"gen\":%u,\"iat\":%jd,\"exp\":%jd}",
        instance->ref_text, origin, (unsigned)claims->generation,
        (intmax_t)claims_seconds(claims->issued_ms), (intmax_t)claims_seconds(claims->expires_ms));
    must(buf_ok(&payload));
    jws_mac_sign(instance->token_key, TYP_AUTH, payload.bytes, payload.length, out);
}

static enum err read_auth_claims(struct json_object *payload, struct auth_claims *out,
                                 struct diag *diag)
{
    struct json_reader r;
    const char *audience = "";
    int64_t generation = 0;

    json_reader_init(&r, payload, "", diag);
    json_read_uuid(&r, "sub", true, &out->origin_ref);
    json_read_int(&r, "gen", true, 0, UINT32_MAX, &generation);
    claims_read_seconds(&r, "iat", true, &out->issued_ms);
    claims_read_seconds(&r, "exp", true, &out->expires_ms);
    if (json_read_string(&r, "aud", true, 64, &audience) && strcmp(audience, "twinlease") != 0)
        json_reader_fail(&r, ERR_TOKEN_INVALID, "aud is \"%s\", not \"twinlease\"", audience);
    out->generation = (uint32_t)generation;
    return claims_end(&r, ERR_TOKEN_INVALID);
}

enum err auth_token_check(const struct instance *instance, const char *text, size_t length,
                          int64_t now_ms, struct auth_claims *out, struct diag *diag)
{
    AUTO(jws_fini) struct jws jws = { 0 };
    struct auth_claims claims;
    enum err e;

    if ((e = instance_verify(instance, SEAL_MAC, TYP_AUTH, text, length, &jws, diag)) != ERR_OK)
        return e;
    if ((e = read_auth_claims(jws.payload, &claims, diag)) != ERR_OK)
        return e;
    if ((e = claims_check_time(now_ms, claims.expires_ms, diag)) != ERR_OK)
        return e;
    *out = claims;
    return ERR_OK;
}

/* ---- operators --------------------------------------------------------------------------------
 */

static const char *const role_names[ROLES] = {
    [ROLE_NONE] = "none",       [ROLE_ADMIN] = "admin", [ROLE_VIEWER] = "viewer",
    [ROLE_METRICS] = "metrics", [ROLE_ENROL] = "enrol",
};

const char *role_name(enum role role)
{
    must(role < ROLES);
    return role_names[role];
}

struct operator_session session_of(const struct instance *instance, enum role role,
                                   const uint8_t token_sha256[32])
{
    struct operator_session session = { .role = role };
    uint8_t input[1 + 32], mac[32];

    must(role != ROLE_NONE);
    input[0] = (uint8_t)role;
    memcpy(input + 1, token_sha256, 32);
    hmac_sha256(instance->session_key, input, sizeof input, mac);
    memcpy(session.mark, mac, sizeof session.mark);
    return session;
}

bool session_equal(const struct operator_session *a, const struct operator_session *b)
{
    return a->role == b->role && secret_equal(a->mark, b->mark, sizeof a->mark);
}

void session_make(const struct instance *instance, const struct operator_session *session,
                  int64_t now_ms, int64_t expires_ms, struct buf *out)
{
    AUTO(buf_fini) struct buf payload = { .max = PAYLOAD_MAX };

    must(session->role != ROLE_NONE);
    buf_format(&payload, CLAIM_ISS ",\"role\":\"%s\",\"mark\":\"", instance->ref_text,
               role_name(session->role));
    base64url_append(&payload, session->mark, sizeof session->mark);
    buf_format(&payload, "\",\"iat\":%jd,\"exp\":%jd}", (intmax_t)claims_seconds(now_ms),
               (intmax_t)claims_seconds(expires_ms));
    must(buf_ok(&payload));
    jws_mac_sign(instance->token_key, TYP_SESSION, payload.bytes, payload.length, out);
}

static void read_role(struct json_reader *r, enum role *out)
{
    const char *name;

    if (!json_read_string(r, "role", true, 16, &name))
        return;
    for (enum role role = ROLE_NONE + 1; role < ROLES; role++) {
        if (strcmp(role_names[role], name) == 0) {
            *out = role;
            return;
        }
    }
    json_reader_fail(r, ERR_TOKEN_INVALID, "role \"%s\" is not known", name);
}

static void read_mark(struct json_reader *r, uint8_t out[SESSION_MARK_SIZE])
{
    AUTO(buf_fini) struct buf mark = { .max = SESSION_MARK_SIZE };
    const char *text;

    if (!json_read_string(r, "mark", true, 32, &text))
        return;
    if (base64url_decode(text, strlen(text), &mark) && mark.length == SESSION_MARK_SIZE)
        memcpy(out, mark.bytes, SESSION_MARK_SIZE);
    else
        json_reader_fail(r, ERR_TOKEN_INVALID, "mark must be base64url of %d bytes",
                         SESSION_MARK_SIZE);
}

enum err session_check(const struct instance *instance, const char *text, size_t length,
                       int64_t now_ms, struct operator_session *out, struct diag *diag)
{
    AUTO(jws_fini) struct jws jws = { 0 };
    struct operator_session session = { .role = ROLE_NONE };
    struct json_reader r;
    int64_t expires_ms = 0;

    enum err e = instance_verify(instance, SEAL_MAC, TYP_SESSION, text, length, &jws, diag);
    if (e != ERR_OK)
        return e;
    json_reader_init(&r, jws.payload, "", diag);
    claims_read_seconds(&r, "exp", true, &expires_ms);
    read_role(&r, &session.role);
    read_mark(&r, session.mark);
    if ((e = claims_end(&r, ERR_TOKEN_INVALID)) != ERR_OK)
        return e;
    if ((e = claims_check_time(now_ms, expires_ms, diag)) != ERR_OK)
        return e;
    *out = session;
    return ERR_OK;
}
