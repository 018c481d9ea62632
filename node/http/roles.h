/* Operators' tokens: one file a role (ADMIN_TOKEN_FILE, VIEWER_TOKEN_FILE, …), read once at start.
 * Only SHA-256 of a token is kept, and every comparison takes the same time. */
#pragma once

#include "config.h"
#include "token/instance.h"

#define ROLE_TOKEN_MIN 16 /* bytes of a token: shorter ones can be guessed */
#define ROLE_TOKEN_MAX 512

struct roles; /* immutable */

/* Generates the administrator's token (256 random bits, mode 0600, written atomically) if its file
 * is absent. ERR_FILE names the file that cannot be used: unreadable, readable by others than owner
 * and group, too short, or the same token for two roles. */
enum err roles_read(const struct config *config, struct roles **out, struct diag *diag) MUST_USE;
struct roles *roles_free(struct roles *roles); /* NULL in, NULL out */

/* ROLE_NONE: no role has this token. */
enum role roles_match(const struct roles *roles, const char *token, size_t length);

/* SHA-256 of the role's token; NULL: the role has none. */
const uint8_t *roles_token_sha256(const struct roles *roles, enum role role);
