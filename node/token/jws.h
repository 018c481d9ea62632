/* JWS compact serialisation (RFC 7515), as narrow as RFC 8725 asks: one algorithm a key, the key
 * chosen by `kid` from a fixed set, `typ` required and compared, `crit`, `b64`, `jku`, `jwk`,
 * `x5u`, `x5c` and every JWE form refused, no member twice, no unsigned token ever. */
#pragma once

#include "base/json.h"
#include "token/key.h"

#define JWS_MAX (64 << 10) /* bytes of any token that is looked at */

/* `typ` of our documents */
#define TYP_LEASE       "lease+jwt"
#define TYP_ENTITLEMENT "entitlement+jwt"
#define TYP_CLIENT      "client+jwt"
#define TYP_INSTANCE    "instance+jwt"
#define TYP_AUTH        "auth+jwt"
#define TYP_CODE        "code+jwt"
#define TYP_SESSION     "session+jwt"
#define TYP_PEER        "peer+jwt"

/* Signs the payload (a JSON text) and appends header.payload.signature; nothing if it fails. */
enum err jws_sign(const struct key *key, const char *typ, const char *payload, size_t payload_size,
                  struct buf *out) MUST_USE;
/* The same in two steps, for who signs many: appends the encoded header, which never changes, … */
void jws_header(const struct key *key, const char *typ, struct buf *out);
/* … and signs with it. ERR_INTERNAL also if the token would be longer than JWS_MAX or out is full.
 */
enum err jws_sign_with(const struct key *key, const struct buf *header, const char *payload,
                       size_t payload_size, struct buf *out) MUST_USE;

struct jws {
    struct json_object *header;  /* owned */
    struct json_object *payload; /* owned; an object */
    const char *kid, *typ, *alg; /* inside header; kid NULL: none */
};
void jws_fini(struct jws *jws);
DEFINE_AUTO_VALUE(struct jws, jws_fini)

/* Splits and parses without verifying: to find out who signed. The signature has the right form, no
 * more is known of it. ERR_TOKEN_INVALID. */
enum err jws_parse(const char *text, size_t length, struct jws *out, struct diag *diag) MUST_USE;

/* Parses, requires typ, finds kid among keys, verifies. ERR_TOKEN_INVALID, or ERR_TOKEN_PURPOSE if
 * it is validly signed for another typ. */
enum err jws_verify(const struct key *const *keys, size_t key_count, const char *typ,
                    const char *text, size_t length, struct jws *out, struct diag *diag) MUST_USE;

/* The same forms with HMAC-SHA256 (alg HS256) under a derived key: for tokens that only the pair
 * itself reads. */
void jws_mac_sign(const uint8_t key[32], const char *typ, const char *payload, size_t payload_size,
                  struct buf *out);
enum err jws_mac_verify(const uint8_t key[32], const char *typ, const char *text, size_t length,
                        struct jws *out, struct diag *diag) MUST_USE;
