/* The instance's own tokens: everything that is made or checked with the instance key. */
#pragma once

#include "base/clock.h"
#include "base/receipt.h"
#include "base/uuid.h"
#include "token/jws.h"

struct instance; /* immutable after instance_new(); may be used by many threads at once */

/* Takes ownership of key (private). site and allotment only stand in tokens. */
struct instance *instance_new(const struct uuid *instance_ref, struct key *key);
struct instance *instance_free(struct instance *instance); /* NULL in, NULL out */
const struct key *instance_key(const struct instance *instance);
const struct uuid *instance_ref(const struct instance *instance);

/* {"keys":[…]} (RFC 7517 §5); lives as long as the instance. */
const char *instance_jwks(const struct instance *instance);

/* ---- origins ----------------------------------------------------------------------------------
 */

/* "<generation>.<43 characters>": derived from the origin's reference, so that a node that never
 * heard of the origin can check it. */
#define ORIGIN_SECRET_SIZE 64
void origin_secret_make(const struct instance *, const struct uuid *origin_ref, uint32_t generation,
                        char out[ORIGIN_SECRET_SIZE]);
/* Constant time. ERR_SECRET_INVALID. */
enum err origin_secret_check(const struct instance *, const struct uuid *origin_ref,
                             const char *secret, uint32_t *generation) MUST_USE;

struct auth_claims {
    struct uuid origin_ref;
    uint32_t generation;
    int64_t issued_ms, expires_ms; /* whole seconds */
};
void auth_token_make(const struct instance *, const struct auth_claims *, struct buf *out);
/* ERR_TOKEN_INVALID, ERR_TOKEN_EXPIRED, ERR_TOKEN_PURPOSE, ERR_TOKEN_INSTANCE */
enum err auth_token_check(const struct instance *, const char *text, size_t length, int64_t now_ms,
                          struct auth_claims *out, struct diag *diag) MUST_USE;

/* An auth code (RFC 7636 with S256 only): single use, 60 s, redeemable only at the process that
 * made it. Used codes are remembered in a bounded table until they expire; when it is full, making
 * a code answers ERR_OVERLOADED. Thread-safe. */
#define AUTH_CODE_SECONDS     60
#define AUTH_CODES_MAX        65536
#define CODE_CHALLENGE_LENGTH 43
struct auth_codes;
struct auth_codes *auth_codes_new(void);
struct auth_codes *auth_codes_free(struct auth_codes *codes); /* NULL in, NULL out */
enum err auth_code_make(const struct instance *, struct auth_codes *,
                        const struct auth_claims *origin, const char *challenge, int64_t now_ms,
                        struct buf *out, struct diag *diag) MUST_USE;
/* Exactly one redemption of a code ever succeeds, and a wrong verifier uses it up. out: origin and
 * generation; its times are the code's. ERR_CODE_INVALID, ERR_VERIFIER_INVALID; ERR_OVERLOADED if
 * the table is full (the code stays good). */
enum err auth_code_redeem(const struct instance *, struct auth_codes *, const char *code,
                          size_t length, const char *verifier, int64_t now_ms,
                          struct auth_claims *out, struct diag *diag) MUST_USE;
/* True if verifier is 43 to 128 unreserved characters; challenge = base64url(SHA-256(verifier)). */
bool pkce_challenge(const char *verifier, char out[CODE_CHALLENGE_LENGTH + 1]) MUST_USE;

/* ---- leases -----------------------------------------------------------------------------------
 */

struct lease_claims {
    struct uuid instance_ref, origin_ref, lease_ref, scope_ref, home, node;
    char feature[65];
    int64_t count;
    int64_t issued_ms, created_ms, duration_ms, expires_ms;
    uint32_t generation; /* of the origin when the lease was granted */
    bool adopt;
    struct uuid peer; /* R4: the only node that may adopt it; nil if !adopt */
    uint64_t seq;
    uint8_t entitlement_sha256[32];
};

/* Needs the commit's receipt (R13). Claims: iss sub jti scope_ref feature count gen iat nbf exp
 * home adopt peer (only with adopt) node seq ent, and expires_ms, created_ms, duration_ms with the
 * exact values (exp is rounded down to seconds). claims->node and ->seq are taken from the receipt.
 */
enum err lease_token_sign(const struct instance *, const struct lease_claims *,
                          const struct commit_receipt *, struct buf *out) MUST_USE;
/* Does not look at the time. ERR_TOKEN_INVALID, ERR_TOKEN_PURPOSE, ERR_TOKEN_INSTANCE */
enum err lease_token_verify(const struct instance *, const char *text, size_t length,
                            struct lease_claims *out, struct diag *diag) MUST_USE;
/* The same against given public keys, for clients. instance_ref is not compared. */
enum err lease_token_verify_with(const struct key *const *keys, size_t key_count, const char *text,
                                 size_t length, struct lease_claims *out,
                                 struct diag *diag) MUST_USE;

/* ---- documents for people
 * ------------------------------------------------------------------------ */

struct client_token_scope {
    struct uuid scope_ref;
    const char *feature;
};
struct client_token {
    struct uuid instance_ref, token_ref, site_key_xid, allotment_ref;
    const char *const *node_urls; /* primary first */
    size_t node_url_count;
    const struct client_token_scope *scopes;
    size_t scope_count;
    const char *ca_pem; /* NULL: none to pin */
    int64_t issued_ms, expires_ms;
};
/* A .tok file: JWS of typ client+jwt. Claims: iss jti iat nbf exp node_url_list scope_ref_list
 * feature_list site_key_xid allotment_ref jwks ca_certificate. */
enum err client_token_sign(const struct instance *, const struct client_token *,
                           struct buf *out) MUST_USE;
/* For the node: is this a client token of ours that may still enrol? */
enum err client_token_check(const struct instance *, const char *text, size_t length,
                            int64_t now_ms, struct uuid *token_ref, struct diag *diag) MUST_USE;

/* What a publisher needs to bind an entitlement. Claims: iss iat instance_ref jwk; self-signed. */
enum err instance_token_sign(const struct instance *, int64_t now_ms, struct buf *out) MUST_USE;

/* Operators' sessions (cookies), under a derived key. A session has a mark of the role's token that
 * opened it, so it ends with that token; to others than the pair the mark says nothing about it. */
enum role { ROLE_NONE, ROLE_ADMIN, ROLE_VIEWER, ROLE_METRICS, ROLE_ENROL, ROLES };
const char *role_name(enum role role);

#define SESSION_MARK_SIZE 16
struct operator_session {
    enum role role;
    uint8_t mark[SESSION_MARK_SIZE];
};
/* The session that a token with this hash opens. */
struct operator_session session_of(const struct instance *, enum role role,
                                   const uint8_t token_sha256[32]);
bool session_equal(const struct operator_session *a,
                   const struct operator_session *b); /* constant time */
void session_make(const struct instance *, const struct operator_session *session, int64_t now_ms,
                  int64_t expires_ms, struct buf *out);
/* ERR_TOKEN_…, as auth_token_check(). That the session's token is still in use is for the caller to
 * see, with session_of() and session_equal(). */
enum err session_check(const struct instance *, const char *text, size_t length, int64_t now_ms,
                       struct operator_session *out, struct diag *diag) MUST_USE;
