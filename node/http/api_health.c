/* GET /-/health: the process lives. GET /-/ready: it can serve. */
#include <inttypes.h>

#include "http/handlers.h"
#include "http/reply.h"
#include "http/server.h"

static const char *role_text(enum ha_role role)
{
    static const char *const texts[] = {
        [HA_NONE] = "null", [HA_PRIMARY] = "\"PRIMARY\"", [HA_SECONDARY] = "\"SECONDARY\""
    };

    must((size_t)role < ARRAY_SIZE(texts));
    return texts[role];
}

/* How the other node is, as far as everybody may know. */
static void peer_append(const struct request *r, const struct engine_status *engine,
                        struct buf *json)
{
    struct replication_status peer;

    if (!r->services->replication) {
        buf_text_append(json, ",\"peer\":{\"state\":\"none\"}}");
        return;
    }
    replication_status(r->services->replication, &peer);
    uint64_t behind = peer.peer_seq > engine->pair.cursor ? peer.peer_seq - engine->pair.cursor : 0;
    buf_format(json,
               ",\"peer\":{\"state\":\"%s\",\"lag_seconds\":%.3f,\"lag_changes\":%" PRIu64
               ",\"clock_suspect\":%s}}",
               replication_state_name(peer.state), (double)peer.lag_us / 1e6, behind,
               engine->pair.clock_suspect ? "true" : "false");
}

enum err health_up(struct request *r)
{
    struct engine_status status;
    char node_ref[UUID_TEXT_SIZE + 2] = "null", text[UUID_TEXT_SIZE];
    struct buf json;

    engine_status(r->services->engine, &status);
    if (!uuid_is_nil(&status.node_ref)) {
        uuid_format(&status.node_ref, text);
        snprintf(node_ref, sizeof node_ref, "\"%s\"", text);
    }
    buf_init(&json, 4096);
    buf_format(&json,
               "{\"status\":\"up\",\"role\":%s,\"node_ref\":%s,\"version\":\"" TWINLEASE_VERSION
               "\",\"state\":\"%s\",\"self\":\"%s\",\"clock_alarm\":%s",
               role_text(r->services->config->ha_role), node_ref, engine_state_name(status.state),
               self_state_name(status.pair.self), status.clock_alarm ? "true" : "false");
    peer_append(r, &status, &json);
    reply_json(r, 200, &json);
    return ERR_OK;
}

/* Why a node that works decides nothing (R10, R11); ERR_OK: it does. */
static enum err why_not_serving(struct request *r, const struct engine_status *status)
{
    char by[UUID_TEXT_SIZE];

    if (status->awaiting_peer)
        return diag_set(&r->diag, ERR_NOT_READY, "the node waits for a first word of its peer");
    switch (status->pair.self) {
    case SELF_SERVING:
        return ERR_OK;
    case SELF_UNFILLED:
        return diag_set(&r->diag, ERR_NODE_UNFILLED,
                        "it serves once its peer has refilled it, or was retired here");
    case SELF_DRAINED:
        return diag_set(&r->diag, ERR_NODE_DRAINED, "an operator drained it; resume ends that");
    case SELF_RESUMING:
        return diag_set(&r->diag, ERR_NODE_DRAINED,
                        "it was resumed, and waits until its peer has heard of it");
    case SELF_RETIRED:
        uuid_format(&status->pair.retired_by, by);
        return diag_set(&r->diag, ERR_NODE_RETIRED,
                        "retired by node %s; only an empty database brings it back", by);
    }
    must(false); /* enum self_state has no other */
    return ERR_NOT_READY;
}

enum err health_ready(struct request *r)
{
    static const char ready[] = "{\"status\":\"ready\"}";
    struct engine_status status;

    if (atomic_load(&exchange_of(r)->loop->http->draining))
        return diag_set(&r->diag, ERR_NOT_READY, "the node is stopping");
    engine_status(r->services->engine, &status);
    if (status.state != ENGINE_READY)
        return diag_set(&r->diag, ERR_NOT_READY, "%s: %s", engine_state_name(status.state),
                        err_info(status.reason)->title);
    enum err e = why_not_serving(r, &status);
    if (e != ERR_OK)
        return e;
    reply_static(r, 200, "application/json", ready, sizeof ready - 1);
    return ERR_OK;
}
