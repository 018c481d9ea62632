/* Bodies of the client API (design §5), read strictly: a member that is not known is refused by
 * name. Pure but for the drawing of lease references. */
#pragma once

#include "base/json.h"
#include "ledger/ledger.h"
#include "token/instance.h"

#define ENVIRONMENT_MAX 16384 /* bytes of an origin's environment, serialised */

struct enrol_body {
    bool has_origin_ref; /* false: draw one */
    struct uuid origin_ref;
    const char *origin_secret; /* NULL: none was given. Borrowed from the body */
    char *environment;         /* JSON without white space; NULL: none was given. Owned */
};
/* ERR_BAD_FIELD, ERR_UNKNOWN_FIELD. The caller gives environment to mem_free(). */
enum err enrol_body_read(struct json_object *body, struct enrol_body *out,
                         struct diag *diag) MUST_USE;

struct code_body {
    struct uuid origin_ref;
    const char *origin_secret, *code_challenge; /* borrowed */
};
enum err code_body_read(struct json_object *body, struct code_body *out,
                        struct diag *diag) MUST_USE;

struct token_body {
    const char *auth_code, *code_verifier; /* borrowed */
};
enum err token_body_read(struct json_object *body, struct token_body *out,
                         struct diag *diag) MUST_USE;

/* Exactly one of lease_request_list and scope_ref_list, 1 … LEASE_ITEMS_MAX items; each item of the
 * first names exactly one of scope_ref and feature. ERR_COUNT_RANGE, ERR_DURATION_RANGE,
 * ERR_TOO_MANY_ITEMS, ERR_MISSING_FIELD, ERR_BAD_FIELD, ERR_UNKNOWN_FIELD name the item. The caller
 * gives *items to mem_free(). */
enum err grant_body_read(struct json_object *body, struct grant_item **items, size_t *count,
                         struct diag *diag) MUST_USE;

/* {lease_token?}; *token is NULL if none was given, else borrowed. */
enum err lease_token_body_read(struct json_object *body, const char **token,
                               struct diag *diag) MUST_USE;
