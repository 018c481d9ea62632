/* The node's HTTPS side, as main.c sees it: event loops, TLS, routes (design §3, §5).
 *
 * Threads: http_start() starts one event loop a core. A request is parsed, authenticated, signed
 * and answered on the loop that accepted its connection; what it needs from the ledger or the
 * database is a message to another thread and back. No call on a loop blocks. */
#pragma once

#include "config.h"
#include "engine/engine.h"
#include "engine/query.h"
#include "http/roles.h"
#include "http/trust.h"
#include "replication/replication.h"
#include "token/instance.h"

/* The parts of the node that answers are made of. All are borrowed, outlive the HTTP side, and may
 * be used by any thread. */
struct services {
    const struct config *config;
    const struct instance *instance;
    struct auth_codes *auth_codes;
    struct engine *engine;
    struct query_pool *queries;
    struct query_pool *pages;        /* writes pages for the peer; only its thread is used */
    struct replication *replication; /* NULL without a peer */
    const uint8_t *process;          /* PEER_NONCE_SIZE bytes, drawn at start */
    struct trust *trust;             /* trusted publishers, replaced on SIGHUP */
    const struct roles *roles;       /* operators' tokens */
};

struct http;

/* Reads the TLS files and binds the address: what may be wrong with the settings shows here, before
 * the database is touched. ERR_CONFIG, ERR_TLS, ERR_FILE: one line that names the culprit. */
enum err http_open(const struct config *config, struct http **out, struct diag *diag) MUST_USE;

/* Listens and starts the loops. ERR_CONFIG: somebody else has begun to listen there. */
enum err http_start(struct http *http, const struct services *services, struct diag *diag) MUST_USE;

/* SIGHUP: reads certificate and key again. New connections use them, open ones go on. On an error
 * nothing changes. */
enum err http_reload(struct http *http, struct diag *diag) MUST_USE;

/* SIGTERM: stops accepting, lets requests under way finish and closes what is left after drain_ms.
 * The loops' memory stays: libh2o cannot give it back while messages may still arrive, and the
 * process is about to end. Takes one that was only opened, too. NULL in, NULL out. */
struct http *http_stop(struct http *http, int64_t drain_ms);
