/* A node that does what a test tells it: a TLS server on a loopback port, one thread, one
 * connection at a time. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Who the server claims to be: a certificate for 127.0.0.1 that is its own authority. */
struct fake_identity;
struct fake_identity *fake_identity_new(void);
/* Whose certificate is valid from and until so long from now. */
struct fake_identity *fake_identity_valid(long from_seconds, long until_seconds);
void fake_identity_free(struct fake_identity *identity);
const char *fake_identity_pem(const struct fake_identity *identity);

struct fake_request {
    char method[16], path[1024];
    char bearer[70000]; /* "" if there was none */
    char *body;         /* "" if there was none */
};

enum fake_trick {
    FAKE_ANSWER,
    FAKE_SILENCE, /* says nothing until the client goes away */
    FAKE_CLOSE,   /* closes instead of answering */
    FAKE_RAW      /* sends the body as it is, without any HTTP */
};

struct fake_answer {
    enum fake_trick trick;
    int status;
    const char *content_type; /* a literal */
    char *body;               /* from malloc, or NULL */
    int retry_after;          /* seconds; 0: not said */
    bool keep_alive;          /* the next request may come on the same connection */
};

/* Decides the answer, on the server's thread. */
typedef void fake_handler(void *context, const struct fake_request *request,
                          struct fake_answer *answer);

struct fake_node;
/* identity NULL: no TLS at all, every connection gets a line of plain text. */
struct fake_node *fake_node_start(const struct fake_identity *identity, fake_handler *handler,
                                  void *context);
void fake_node_stop(struct fake_node *node);
const char *fake_node_url(const struct fake_node *node); /* https://127.0.0.1:PORT */

/* An address where nobody listens; and one where the kernel accepts and nobody ever speaks. */
void fake_refusing_url(char *out, size_t size);
int fake_mute_url(char *out, size_t size); /* close(2) the result at the end */
