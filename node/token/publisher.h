/* Publishers and what they sign. */
#pragma once

#include "base/entitlement.h"
#include "token/jws.h"

/* The trusted publishers' public keys. A file `NAME.pem` in the folder holds one or more public
 * keys of the publisher NAME, and only an entitlement whose `iss` is NAME verifies with them: one
 * publisher cannot sign for another. Other files and hidden ones are ignored, but a .pem
 * file whose NAME is no publisher's name is ERR_FILE: it would be trusted by nobody, silently. */
struct publishers; /* immutable */

/* An absent or empty folder is no error: nothing can be installed then. ERR_FILE, ERR_KEY_INVALID
 * name the file. */
enum err publishers_read(const char *folder, struct publishers **out, struct diag *diag) MUST_USE;
struct publishers *publishers_free(struct publishers *publishers); /* NULL in, NULL out */
size_t publishers_count(const struct publishers *publishers);

/* [A-Za-z0-9][A-Za-z0-9 ._-]*, at most PUBLISHER_NAME_MAX: safe as a file name. */
bool publisher_name_valid(const char *name);

/* Reads and verifies an entitlement for this instance. now_ms < 0: does not look at the time.
 * ERR_ENT_MALFORMED, ERR_ENT_UNTRUSTED, ERR_ENT_SIGNATURE, ERR_ENT_FOREIGN, ERR_ENT_EXPIRED,
 * ERR_ENT_EARLY, ERR_ENT_LIMIT; diag names the member. *out has one reference. */
enum err entitlement_verify(const struct publishers *, const struct uuid *instance_ref,
                            const char *instance_thumbprint, const char *text, size_t length,
                            int64_t now_ms, struct entitlement **out, struct diag *diag) MUST_USE;
/* The same with one given publisher key, whatever its name: for clients that pin it. instance_ref
 * and instance_thumbprint may be NULL: not compared; what the entitlement says comes back if asked
 * for. */
enum err entitlement_verify_with(const struct key *publisher_key, const char *text, size_t length,
                                 int64_t now_ms, struct entitlement **out,
                                 struct uuid *instance_ref,
                                 char instance_thumbprint[KEY_THUMBPRINT_SIZE],
                                 struct diag *diag) MUST_USE;
/* Reads without verifying: an entitlement that was verified when it was stored, of a publisher that
 * is no longer trusted. */
enum err entitlement_read(const char *text, size_t length, struct entitlement **out,
                          struct diag *diag) MUST_USE;

/* Signs: e->text, sha256 are ignored. */
enum err entitlement_sign(const struct key *publisher_key, const struct entitlement *e,
                          const struct uuid *instance_ref, const char *instance_thumbprint,
                          struct buf *out, struct diag *diag) MUST_USE;

/* Reads an instance token (self-signed: proves possession of the instance key, nothing more). */
enum err instance_token_read(const char *text, size_t length, struct uuid *instance_ref,
                             struct key **instance_key, struct diag *diag) MUST_USE;
