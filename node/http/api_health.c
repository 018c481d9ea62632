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
               "\",\"state\":\"%s\",\"clock_alarm\":%s,\"peer\":{\"state\":\"none\"}}",
               role_text(r->services->config->ha_role), node_ref, engine_state_name(status.state),
               status.clock_alarm ? "true" : "false");
    reply_json(r, 200, &json);
    return ERR_OK;
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
    reply_static(r, 200, "application/json", ready, sizeof ready - 1);
    return ERR_OK;
}
