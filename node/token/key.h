/* Keys on OpenSSL 3: reading, making, thumbprints, raw JWS signatures. Algorithms are fixed by the
 * key's type and never taken from a token (RFC 8725 §3.1): EC P-256 → ES256, RSA (2048 and up)
 * → RS256, Ed25519 → EdDSA. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define KEY_THUMBPRINT_SIZE 44 /* base64url of SHA-256, with NUL */
#define KEY_SIGNATURE_MAX   1024

struct key; /* immutable; may be used by many threads at once */

enum key_type { KEY_EC_P256, KEY_RSA, KEY_ED25519, KEY_TYPES };

/* A private key (PKCS#8 or traditional PEM). ERR_FILE if it cannot be read, or if others than its
 * owner (and group) can read it; ERR_KEY_INVALID if it is of no accepted type. */
enum err key_read_private(const char *path, struct key **out, struct diag *diag) MUST_USE;
/* The same from memory. */
enum err key_parse_private(const char *pem, size_t size, struct key **out,
                           struct diag *diag) MUST_USE;
/* One public key from PEM ("PUBLIC KEY") text. *rest is where the next block would begin. */
enum err key_parse_public(const char *pem, size_t size, struct key **out, size_t *used,
                          struct diag *diag) MUST_USE;
/* A public key from a JWK (RFC 7517; members kty, crv, x, y, n, e). */
struct json_object;
enum err key_from_jwk(struct json_object *jwk, struct key **out, struct diag *diag) MUST_USE;

struct key *key_generate(enum key_type type); /* RSA: 3072 bits */
struct key *key_free(struct key *key);        /* takes NULL, returns NULL */
static inline void key_free_auto(struct key **key)
{
    key_free(*key);
}

/* Writes PEM: private as PKCS#8 with mode 0600, public with 0644; atomically (temporary file,
 * fsync, rename, fsync of the folder); ERR_FILE if the file exists and !replace. */
enum err key_write_private(const struct key *key, const char *path, bool replace,
                           struct diag *diag) MUST_USE;
enum err key_write_public(const struct key *key, const char *path, bool replace,
                          struct diag *diag) MUST_USE;

enum key_type key_type(const struct key *key);
bool key_is_private(const struct key *key);
const char *key_alg(const struct key *key);        /* "ES256", "RS256", "EdDSA" */
const char *key_thumbprint(const struct key *key); /* RFC 7638 with SHA-256: the `kid` */
bool key_same(const struct key *a, const struct key *b);

/* The public key as a JWK with kid, use and alg; a new object, the caller owns it. */
struct json_object *key_jwk(const struct key *key);

/* Raw JWS signature over the bytes (ES256: r‖s, RFC 7518 §3.4). Thread-safe and without locks: each
 * thread keeps its own context. */
enum err key_sign(const struct key *key, const void *bytes, size_t size, uint8_t *out,
                  size_t *out_size) MUST_USE;
bool key_verify(const struct key *key, const void *bytes, size_t size, const uint8_t *signature,
                size_t signature_size) MUST_USE;

/* HKDF-SHA256 (RFC 5869) over the private key's DER form: the same on both nodes of a pair. */
void key_derive(const struct key *key, const char *info, uint8_t out[32]);

void sha256(const void *bytes, size_t size, uint8_t out[32]);
void hmac_sha256(const uint8_t key[32], const void *bytes, size_t size, uint8_t out[32]);
bool secret_equal(const void *a, const void *b, size_t size); /* constant time */
