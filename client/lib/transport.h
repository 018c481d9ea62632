/* HTTPS requests, each in the thread of its caller, on libcurl; its headers are used here only.
 *
 * Trust: certificates are always verified, for their host name too: against the given authority
 * alone, or, without one, against those of the system. TLS 1.2 at least, HTTP/1.1, no redirects,
 * and no proxy: nodes stand in the same network, and what the environment says about proxies is
 * meant for other traffic. Connections are kept and used again, each with the TLS sessions that
 * it had, so that one made anew costs little; addresses are shared by all threads. */
#pragma once

#include "answer.h"
#include "base/buf.h"
#include "cancel.h"

#define TRANSPORT_IDLE_MAX 16         /* idle connections kept (of as many threads) */
#define TRANSPORT_HEAD_MAX (64 << 10) /* bytes of an answer's header lines; a node's have 1 KiB */

struct transport; /* may be used by many threads at once */

/* ca_pem: NULL: the system's authorities. UNTRUSTED if it is no certificate; ERROR. */
enum twinlease_code transport_new(const char *ca_pem, struct transport **out,
                                  struct twinlease_error *error) MUST_USE;
struct transport *transport_free(struct transport *transport); /* NULL in, NULL out */
DEFINE_AUTO(struct transport *, transport_free)

struct http_request {
    const char *method;
    const char *base;             /* https://host[:port] */
    const char *path;             /* with query */
    const char *bearer;           /* NULL: none */
    const char *body;             /* NULL: none */
    const char *content_type;     /* of body */
    size_t answer_max;            /* 0: ANSWER_MAX */
    int64_t connect_ms, total_ms; /* at least 1 */
    const struct cancel *cancel;  /* NULL: none */
};

struct http_response {
    bool timed_out;
    int64_t retry_after_ms; /* Retry-After in seconds; 0: not given */
    bool sent; /* set in any case: (part of) the request went out, and may have been served */
    int status;
    char content_type[128];
    char request_id[64];
    char next[2048]; /* target of Link: rel="next", or "" */
    size_t head_bytes;
    struct buf body;
};
void http_response_fini(struct http_response *response); /* takes a zeroed one too */
DEFINE_AUTO_VALUE(struct http_response, http_response_fini)

/* OK means that an answer came, whatever it says. *out must be zeroed.
 * NO_NODE: none came in time; UNTRUSTED: the certificate; BAD_ANSWER: no HTTP, or too large;
 * INTERRUPTED: cancelled. */
enum twinlease_code transport_send(struct transport *transport, const struct http_request *request,
                                   struct http_response *out,
                                   struct twinlease_error *error) MUST_USE;

/* As answer.h reads it. Borrows. */
struct answer http_answer(const struct http_request *request, const struct http_response *response);
