/* A bare HTTPS server on a loopback port, a thread a connection, connections kept open: the other
 * node of a pair, which a test plays. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

/* Who the server claims to be: a certificate that is its own authority, for this subjectAltName. */
struct fake_authority;
struct fake_authority *fake_authority_new(const char *alt_name); /* "IP:127.0.0.1" */
void fake_authority_free(struct fake_authority *authority);
void fake_authority_write(const struct fake_authority *authority, const char *path);

struct fake_call {
    int connection;  /* which one; counted from 1 */
    char head[8192]; /* the request's head, as it came */
    char method[8], target[512];
    char token[4096]; /* "" if there was none */
    struct buf body;
};

/* Appends the whole answer, head and all, to out. May block; then it must end when the test ends.
 * Returns false to close the connection after it. Called on the connection's thread. */
typedef bool fake_answer(void *context, const struct fake_call *call, struct buf *out);

struct fake_peer;
struct fake_peer *fake_peer_start(const struct fake_authority *authority, fake_answer *answer,
                                  void *context);
void fake_peer_stop(struct fake_peer *peer); /* closes all connections; handlers must return */
const char *fake_peer_address(const struct fake_peer *peer); /* 127.0.0.1:PORT */
/* Shuts down every connection, as a cut wire or a killed node does. */
void fake_peer_cut(struct fake_peer *peer);
