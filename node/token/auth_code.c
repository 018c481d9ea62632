/* Auth codes (RFC 7636): the code itself carries origin and challenge under a MAC whose key is
 * bound to this process, so nothing is kept for a code until it is used. A used one is remembered
 * for as long as it could be shown again.
 *
 * The memory is a ring in the order of use, so that what may be forgotten is always at its tail,
 * and a table of chains to find a code in it. Both have a fixed size. */
#include <openssl/crypto.h>
#include <pthread.h>

#include "base/base64url.h"
#include "base/random.h"
#include "token/claims.h"
#include "token/instance_internal.h"

#define PAYLOAD_MAX  512
#define VERIFIER_MIN 43 /* RFC 7636 §4.1 */
#define VERIFIER_MAX 128
#define CHAINS       AUTH_CODES_MAX
#define LIFE_MS      (AUTH_CODE_SECONDS * INT64_C(1000))
#define NOBODY       UINT32_MAX

struct used_code {
    struct uuid code_ref;
    int64_t forget_at_ms;
    uint32_t next; /* in its chain */
};

struct auth_codes {
    pthread_mutex_t lock; /* guards all below but the nonce */
    uint8_t nonce[32];    /* of this process: no other one redeems its codes */
    int64_t latest_ms;    /* time never goes back here: a forgotten code must stay expired */
    uint32_t oldest, count;
    uint32_t chains[CHAINS]; /* first of each, or NOBODY */
    struct used_code used[AUTH_CODES_MAX];
};

struct auth_codes *auth_codes_new(void)
{
    struct auth_codes *codes = mem_calloc(1, sizeof *codes);

    must(pthread_mutex_init(&codes->lock, NULL) == 0);
    random_bytes(codes->nonce, sizeof codes->nonce);
    memset(codes->chains, 0xff, sizeof codes->chains);
    must(codes->chains[0] == NOBODY);
    return codes;
}

struct auth_codes *auth_codes_free(struct auth_codes *codes)
{
    if (codes) {
        pthread_mutex_destroy(&codes->lock);
        OPENSSL_cleanse(codes->nonce, sizeof codes->nonce);
        mem_free(codes);
    }
    return NULL;
}

/* ---- the used ones; the caller holds the lock --------------------------------------------------
 */

/* References are random and come under our MAC: nobody can choose a chain. */
static uint32_t *chain_of(struct auth_codes *codes, const struct uuid *code_ref)
{
    return &codes->chains[((uint32_t)code_ref->bytes[0] << 8 | code_ref->bytes[1]) % CHAINS];
}

static void forget_oldest(struct auth_codes *codes)
{
    struct used_code *oldest = &codes->used[codes->oldest];
    uint32_t *link = chain_of(codes, &oldest->code_ref);

    while (*link != codes->oldest) {
        must(*link != NOBODY);
        link = &codes->used[*link].next;
    }
    *link = oldest->next;
    codes->oldest = (codes->oldest + 1) % AUTH_CODES_MAX;
    codes->count--;
}

/* Returns the time by which to judge. */
static int64_t advance(struct auth_codes *codes, int64_t now_ms)
{
    if (now_ms > codes->latest_ms)
        codes->latest_ms = now_ms;
    while (codes->count && codes->used[codes->oldest].forget_at_ms <= codes->latest_ms)
        forget_oldest(codes);
    return codes->latest_ms;
}

static bool is_used(struct auth_codes *codes, const struct uuid *code_ref)
{
    for (uint32_t i = *chain_of(codes, code_ref); i != NOBODY; i = codes->used[i].next) {
        if (uuid_equal(&codes->used[i].code_ref, code_ref))
            return true;
    }
    return false;
}

static void remember(struct auth_codes *codes, const struct uuid *code_ref)
{
    uint32_t at = (codes->oldest + codes->count) % AUTH_CODES_MAX;
    uint32_t *first = chain_of(codes, code_ref);

    must(codes->count < AUTH_CODES_MAX);
    codes->used[at] = (struct used_code){
        .code_ref = *code_ref,
        .forget_at_ms = codes->latest_ms + LIFE_MS,
        .next = *first,
    };
    *first = at;
    codes->count++;
}

/* Uses the code up: true for exactly one caller. */
static enum err use(struct auth_codes *codes, const struct uuid *code_ref, int64_t expires_ms,
                    int64_t now_ms, struct diag *diag)
{
    must(pthread_mutex_lock(&codes->lock) == 0);
    bool expired = advance(codes, now_ms) >= expires_ms;
    bool used = is_used(codes, code_ref);
    bool full = codes->count == AUTH_CODES_MAX;
    if (!expired && !used && !full)
        remember(codes, code_ref);
    must(pthread_mutex_unlock(&codes->lock) == 0);

    if (expired)
        return diag_set(diag, ERR_CODE_INVALID, "the auth code has expired");
    if (used)
        return diag_set(diag, ERR_CODE_INVALID, "the auth code was used before");
    return full ? diag_set(diag, ERR_OVERLOADED, "too many auth codes were used just now") : ERR_OK;
}

/* ---- codes ------------------------------------------------------------------------------------
 */

static void process_key(const struct instance *instance, const struct auth_codes *codes,
                        uint8_t out[32])
{
    hmac_sha256(instance->code_key, codes->nonce, sizeof codes->nonce, out);
}

static bool challenge_valid(const char *challenge)
{
    AUTO(buf_fini) struct buf hash = { .max = 32 };

    return strlen(challenge) == CODE_CHALLENGE_LENGTH &&
           base64url_decode(challenge, CODE_CHALLENGE_LENGTH, &hash) && hash.length == 32;
}

enum err auth_code_make(const struct instance *instance, struct auth_codes *codes,
                        const struct auth_claims *origin, const char *challenge, int64_t now_ms,
                        struct buf *out, struct diag *diag)
{
    AUTO(buf_fini) struct buf payload = { .max = PAYLOAD_MAX };
    char origin_text[UUID_TEXT_SIZE], code_text[UUID_TEXT_SIZE];
    struct uuid code_ref = uuid_random();
    uint8_t key[32];

    if (!challenge_valid(challenge))
        return diag_set(diag, ERR_BAD_FIELD,
                        "code_challenge must be base64url of a SHA-256 (43 characters)");
    must(pthread_mutex_lock(&codes->lock) == 0);
    int64_t expires_ms = advance(codes, now_ms) + LIFE_MS;
    bool full = codes->count == AUTH_CODES_MAX;
    must(pthread_mutex_unlock(&codes->lock) == 0);
    if (full)
        return diag_set(diag, ERR_OVERLOADED, "too many auth codes were used just now");

    uuid_format(&origin->origin_ref, origin_text);
    uuid_format(&code_ref, code_text);
    buf_format(&payload,
               CLAIM_ISS ",\"sub\":\"%s\",\"gen\":%u,\"jti\":\"%s\",\"challenge\":\"%s\","
                         "\"expires_ms\":%jd}",
               instance->ref_text, origin_text, (unsigned)origin->generation, code_text, challenge,
               (intmax_t)expires_ms);
    must(buf_ok(&payload));
    process_key(instance, codes, key);
    jws_mac_sign(key, TYP_CODE, payload.bytes, payload.length, out);
    return ERR_OK;
}

struct code_claims {
    struct auth_claims origin;
    struct uuid code_ref;
    const char *challenge; /* inside the payload */
};

static enum err read_claims(struct json_object *payload, struct code_claims *out, struct diag *diag)
{
    struct json_reader r;
    int64_t generation = 0;

    json_reader_init(&r, payload, "", diag);
    json_read_uuid(&r, "sub", true, &out->origin.origin_ref);
    json_read_int(&r, "gen", true, 0, UINT32_MAX, &generation);
    json_read_uuid(&r, "jti", true, &out->code_ref);
    json_read_string(&r, "challenge", true, CODE_CHALLENGE_LENGTH, &out->challenge);
    json_read_int(&r, "expires_ms", true, 0, INT64_MAX, &out->origin.expires_ms);
    out->origin.generation = (uint32_t)generation;
    out->origin.issued_ms = out->origin.expires_ms - LIFE_MS;
    return claims_end(&r, ERR_CODE_INVALID);
}

static bool verifier_fits(const char *verifier, const char *challenge)
{
    char made[CODE_CHALLENGE_LENGTH + 1];

    return pkce_challenge(verifier, made) && strlen(challenge) == CODE_CHALLENGE_LENGTH &&
           secret_equal(made, challenge, CODE_CHALLENGE_LENGTH);
}

enum err auth_code_redeem(const struct instance *instance, struct auth_codes *codes,
                          const char *code, size_t length, const char *verifier, int64_t now_ms,
                          struct auth_claims *out, struct diag *diag)
{
    AUTO(jws_fini) struct jws jws = { 0 };
    struct code_claims claims = { 0 };
    uint8_t key[32];
    enum err e;

    process_key(instance, codes, key);
    if (jws_mac_verify(key, TYP_CODE, code, length, &jws, diag) != ERR_OK)
        return ERR_CODE_INVALID;
    if ((e = read_claims(jws.payload, &claims, diag)) != ERR_OK)
        return e;
    /* First used, then judged: a guess at the verifier costs the code. */
    if ((e = use(codes, &claims.code_ref, claims.origin.expires_ms, now_ms, diag)) != ERR_OK)
        return e;
    if (!verifier_fits(verifier, claims.challenge))
        return diag_set(diag, ERR_VERIFIER_INVALID,
                        "code_verifier does not match the code_challenge; the code is used up");
    *out = claims.origin;
    return ERR_OK;
}

bool pkce_challenge(const char *verifier, char out[CODE_CHALLENGE_LENGTH + 1])
{
    static const char unreserved[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                     "0123456789-._~";
    AUTO(buf_fini) struct buf text = { .max = CODE_CHALLENGE_LENGTH };
    size_t length = strspn(verifier, unreserved);
    uint8_t hash[32];

    if (length < VERIFIER_MIN || length > VERIFIER_MAX || verifier[length] != '\0')
        return false;
    sha256(verifier, length, hash);
    base64url_append(&text, hash, sizeof hash);
    must(text.length == CODE_CHALLENGE_LENGTH);
    memcpy(out, text.bytes, CODE_CHALLENGE_LENGTH + 1);
    return true;
}
