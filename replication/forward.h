/* One operator's request, handed on to the other node as it is: installing an entitlement happens
 * at the primary (R2), whichever node the operator spoke to. Blocks; for a query thread. */
#pragma once

#include "base/buf.h"
#include "base/err.h"

/* Marks a request that was handed on, so that two nodes that both take each other for the primary
 * do not play ping-pong. */
#define FORWARDED_HEADER "twinlease-forwarded"

struct forward_request {
    const char *url;     /* https://host:port/path */
    const char *ca_file; /* TLS_CA */
    const char *content_type, *body;
    size_t body_length;
    const char *authorization, *cookie; /* of the caller, one of them; else NULL */
    const char *request_id;
    int64_t timeout_ms; /* in all */
};

struct forward_answer {
    int status;
    char content_type[80]; /* "": none */
    struct buf body;
};
void forward_answer_fini(struct forward_answer *answer); /* takes a zeroed one too */

/* ERR_OK: *out is what the other node answered, whatever it was. ERR_PEER_AWAY: nothing came; it is
 * not known whether the request was carried out. *out is zeroed by the caller, and given to
 * forward_answer_fini() in any case. */
enum err forward_post(const struct forward_request *request, struct forward_answer *out,
                      struct diag *diag) MUST_USE;
