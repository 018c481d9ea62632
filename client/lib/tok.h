/* Client tokens (.tok files): where the nodes are, and how to know them. */
#pragma once

#include <stdint.h>

#include "fault.h"
#include "token/jws.h"

#define TOK_NODES_MAX 8
#define TOK_URL_MAX   512
#define TOK_CA_MAX    (32 << 10)
#define TOK_FILES_MAX 1000 /* looked at in one folder */

struct tok {
    char *name; /* for messages: the file */
    char *text; /* the JWS itself: what enrols */
    struct uuid instance_ref;
    char signer[KEY_THUMBPRINT_SIZE]; /* the key that signed it */
    char *node_urls[TOK_NODES_MAX];   /* https://host[:port], primary first */
    size_t node_count;
    char *ca_pem; /* NULL: the nodes' certificates are from an authority the system trusts */
    char *jwks;   /* {"keys":[…]} as it stands in the token */
    int64_t issued_ms, begins_ms, expires_ms;
};

/* Pure. Checks form, limits and the signature, with the keys the token itself carries (so it is
 * whole, and its signer has the key `signer`), not the time. The caller owns *out.
 * BAD_FILE: it is no client token. VERIFICATION: altered. `name` is for messages. */
enum twinlease_code tok_parse(const char *name, const char *text, size_t length, struct tok **out,
                              struct twinlease_error *error) MUST_USE;

/* From a file, or of a folder the newest that is whole, by `pin` (NULL: by anybody), and not over
 * at now_ms; if all are over, the newest of those. BAD_FILE, VERIFICATION; of several bad files the
 * message names one. */
enum twinlease_code tok_read(const char *path, const char *pin, int64_t now_ms, struct tok **out,
                             struct twinlease_error *error) MUST_USE;

struct tok *tok_free(struct tok *tok); /* NULL in, NULL out */
DEFINE_AUTO(struct tok *, tok_free)

/* https://host[:port] without path, user, query or fragment, and a host that needs no escaping. */
bool tok_url_valid(const char *url) MUST_USE;
