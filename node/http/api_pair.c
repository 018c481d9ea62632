/* Operators' calls on the pair (design §5, R10): how the two stand to each other, and the three
 * things that somebody has to decide: the other node is gone for good (retire), this one is to stop
 * deciding (drain), and to go on (resume). */
#include <stdio.h>
#include <string.h>

#include "http/handlers.h"
#include "http/operator_json.h"
#include "http/reply.h"
#include "http/server.h"

struct pair_view {
    struct engine_status engine;
    struct replication_status peer;
    bool has_peer;
};

static void look(const struct request *r, struct pair_view *view)
{
    *view = (struct pair_view){ .has_peer = r->services->replication != NULL };
    engine_status(r->services->engine, &view->engine);
    if (view->has_peer)
        replication_status(r->services->replication, &view->peer);
}

/* ---- the document -----------------------------------------------------------------------------
 */

static void put_ref(struct json_object *json, const char *name, const struct uuid *ref)
{
    if (uuid_is_nil(ref))
        json_put_text(json, name, NULL);
    else
        json_put_uuid(json, name, ref);
}

static void put_seconds(struct json_object *json, const char *name, int64_t us)
{
    char text[32];

    snprintf(text, sizeof text, "%.3f", (double)us / 1e6);
    json_object_object_add(json, name, json_object_new_double_s((double)us / 1e6, text));
}

static int64_t age_us(int64_t since_us)
{
    return since_us ? stopwatch_us() - since_us : 0;
}

static const char *role_of(bool primary)
{
    return primary ? "PRIMARY" : "SECONDARY";
}

static const char *state_name(const struct pair_view *view)
{
    return view->has_peer ? replication_state_name(view->peer.state) : "none";
}

/* This node, as far as the pair is concerned. */
static struct json_object *self_json(const struct request *r, const struct pair_view *view)
{
    const struct config *config = r->services->config;
    const struct ledger_pair *pair = &view->engine.pair;
    struct json_object *json = json_object_new_object();

    put_ref(json, "node_ref", &view->engine.node_ref);
    json_put_text(json, "role",
                  config->ha_role == HA_NONE ? NULL : role_of(config->ha_role == HA_PRIMARY));
    json_put_text(json, "state", self_state_name(pair->self));
    json_put_bool(json, "awaiting_peer", view->engine.awaiting_peer);
    put_ref(json, "retired_by", &pair->retired_by);
    json_put_int(json, "renames", (int64_t)view->engine.renames);
    json_put_int(json, "changes", (int64_t)view->engine.seq);
    json_put_time(json, "clock", view->engine.now_ms);
    return json;
}

static void put_connection(struct json_object *json, const struct replication_status *peer)
{
    bool well = peer->state == REPLICATION_CONNECTED;

    json_put_text(json, "reason", well ? NULL : err_info(peer->reason)->code);
    json_put_text(json, "detail", well || !peer->diag.text[0] ? NULL : peer->diag.text);
    json_put_text(json, "address", peer->peer);
    json_put_text(json, "url", peer->peer_url[0] ? peer->peer_url : NULL);
    json_put_text(json, "role", uuid_is_nil(&peer->peer_ref) ? NULL : role_of(peer->peer_primary));
    json_put_bool(json, "serving", well && peer->peer_ready);
    json_put_time(json, "connected_since", peer->connected_since_ms);
    json_put_time(json, "away_since", peer->away_since_ms);
    if (peer->protocol)
        json_put_int(json, "protocol", peer->protocol);
    else
        json_put_text(json, "protocol", NULL);
}

static void put_traffic(struct json_object *json, const struct request *r,
                        const struct replication_status *peer)
{
    struct http *http = exchange_of_const(r)->loop->http;

    json_object_object_add(json, "last_page_seconds", NULL);
    if (peer->last_page_us)
        put_seconds(json, "last_page_seconds", age_us(peer->last_page_us));
    put_seconds(json, "round_trip_seconds", peer->round_trip_us);
    json_put_int(json, "pages", (int64_t)peer->pages);
    json_put_int(json, "rows", (int64_t)peer->rows);
    json_put_int(json, "bytes_in", (int64_t)peer->bytes_in);
    json_put_int(json, "bytes_out", (int64_t)atomic_load(&http->peer_bytes_out));
    json_put_int(json, "refused", (int64_t)peer->refused);
    json_put_int(json, "failures", (int64_t)peer->failures);
}

static int64_t behind(uint64_t newest, uint64_t known)
{
    return newest > known ? (int64_t)(newest - known) : 0;
}

/* Both directions: what is not merged here yet, and what was not acknowledged there yet. */
static void put_lag(struct json_object *json, const struct pair_view *view)
{
    const struct ledger_pair *pair = &view->engine.pair;

    put_seconds(json, "lag_seconds", view->peer.lag_us);
    json_put_int(json, "lag_changes", behind(view->peer.peer_seq, pair->cursor));
    put_seconds(json, "unacknowledged_seconds", age_us(view->engine.behind_us));
    json_put_int(json, "unacknowledged_changes",
                 uuid_is_nil(&pair->partner) ? 0 : behind(view->engine.seq, pair->acknowledged));
}

/* R10: about how long the seats of the partner would stay locked if it were retired now. What it
 * may give longer leases than this node is known to the ledger, which has the last word. */
static int64_t retire_wait_seconds(const struct config *config, const struct ledger_pair *pair)
{
    if (uuid_is_nil(&pair->partner) || pair->partner_closed)
        return 0;
    return config_lease_max_ms(config) / 1000 + 2 * config->max_clock_skew.value;
}

static void put_ledger(struct json_object *json, const struct config *config,
                       const struct ledger_pair *pair)
{
    put_ref(json, "node_ref", &pair->partner);
    json_put_bool(json, "closed", pair->partner_closed);
    json_put_bool(json, "listens", pair->partner_listens);
    json_put_bool(json, "clock_suspect", pair->clock_suspect);
    put_seconds(json, "clock_difference_seconds", pair->clock_difference_ms * 1000);
    json_put_time(json, "watermark", pair->watermark_ms);
    json_put_time(json, "merged", pair->merged_ms);
    json_put_int(json, "retire_wait_seconds", retire_wait_seconds(config, pair));
    json_put_time(json, "waits_until", pair->wait_ms);
}

/* R12: seats that this node cannot grant now, and why. */
static struct json_object *reach_json(const struct ledger_result *result)
{
    struct json_object *list = json_object_new_array();

    for (size_t i = 0; i < result->scope_count; i++) {
        const struct scope_view *scope = &result->scopes[i];
        if (scope->at_peer == 0 && scope->locked == 0 && scope->pending == 0)
            continue;
        struct json_object *one = json_object_new_object();
        json_put_uuid(one, "scope_ref", &scope->scope_ref);
        json_put_text(one, "feature", scope->feature);
        json_put_int(one, "at_peer", scope->at_peer);
        json_put_int(one, "locked", scope->locked);
        json_put_time(one, "locked_until", scope->locked_until_ms);
        json_put_int(one, "pending", scope->pending);
        json_object_array_add(list, one);
    }
    return list;
}

static void reply_pair(struct request *r, const struct ledger_result *scopes)
{
    AUTO(json_object_put) struct json_object *json = json_object_new_object();
    struct json_object *peer = json_object_new_object();
    struct pair_view view;

    look(r, &view);
    json_put_text(peer, "state", state_name(&view));
    if (view.has_peer) {
        put_connection(peer, &view.peer);
        put_lag(peer, &view);
        put_traffic(peer, r, &view.peer);
    }
    put_ledger(peer, r->services->config, &view.engine.pair);
    json_object_object_add(json, "self", self_json(r, &view));
    json_object_object_add(json, "peer", peer);
    json_object_object_add(json, "seats_elsewhere", scopes ? reach_json(scopes) : NULL);
    reply_json_object(r, 200, json);
}

/* ---- GET /-/peer -------------------------------------------------------------------------------
 */

static enum err shown(struct request *r)
{
    const struct ledger_result *result = &r->command.result;

    reply_pair(r, result->err == ERR_OK ? result : NULL);
    return ERR_OK;
}

/* Whatever else is wrong: this is what an operator looks at then. */
enum err pair_show(struct request *r)
{
    r->command.event.kind = LEDGER_SCOPES;
    if (request_submit_any(r, shown) != ERR_OK)
        reply_pair(r, NULL);
    return ERR_OK;
}

/* ---- retire (R10) ------------------------------------------------------------------------------
 */

struct retirement {
    struct uuid node_ref; /* nil: every node that this one counts */
    bool force;
};

static enum err retired(struct request *r)
{
    const struct retirement *retirement = r->state;
    const struct ledger_result *result = &r->command.result;
    AUTO(json_object_put) struct json_object *json = json_object_new_object();

    put_ref(json, "node_ref", &retirement->node_ref);
    json_put_int(json, "retired_count", result->affected);
    json_put_time(json, "waits_until", result->wait_ms);
    json_put_time(json, "sync_timestamp", result->now_ms);
    if (r->services->replication)
        replication_nudge(r->services->replication);
    reply_json_object(r, 200, json);
    return ERR_OK;
}

/* Retiring a node that answers is nearly always a mistake: it would be told to stop serving. */
static enum err refuse_connected(struct request *r)
{
    struct pair_view view;

    look(r, &view);
    if (!view.has_peer || view.peer.state != REPLICATION_CONNECTED ||
        view.engine.pair.partner_closed)
        return ERR_OK;
    return diag_set(&r->diag, ERR_PEER_CONNECTED,
                    "%s answers; stop it for good first, or drain it there, or say force",
                    view.peer.peer);
}

enum err pair_retire(struct request *r)
{
    struct retirement *retirement = request_alloc(r, sizeof *retirement);
    struct json_reader reader;
    enum err e;

    request_body(r, &reader);
    json_read_uuid(&reader, "node_ref", false, &retirement->node_ref);
    json_read_bool(&reader, "force", false, &retirement->force);
    if ((e = json_reader_end(&reader)) != ERR_OK)
        return e;
    if (!retirement->force && (e = refuse_connected(r)) != ERR_OK)
        return e;
    r->state = retirement;
    r->command.event.kind = LEDGER_RETIRE;
    r->command.event.retire.node_ref = retirement->node_ref;
    return request_submit(r, retired);
}

/* ---- drain and resume --------------------------------------------------------------------------
 */

static enum err changed(struct request *r)
{
    AUTO(json_object_put) struct json_object *json = json_object_new_object();
    struct pair_view view;

    look(r, &view);
    json_put_text(json, "state", self_state_name(view.engine.pair.self));
    json_put_int(json, "unacknowledged_changes",
                 uuid_is_nil(&view.engine.pair.partner)
                     ? 0
                     : behind(view.engine.seq, view.engine.pair.acknowledged));
    json_put_time(json, "sync_timestamp", r->command.result.now_ms);
    reply_json_object(r, 200, json);
    return ERR_OK;
}

static enum err change(struct request *r, enum ledger_event_kind kind)
{
    struct json_reader reader;

    request_body(r, &reader);
    enum err e = json_reader_end(&reader); /* nothing may be asked for */
    if (e != ERR_OK)
        return e;
    r->command.event.kind = kind;
    return request_submit(r, changed);
}

enum err pair_drain(struct request *r)
{
    return change(r, LEDGER_DRAIN);
}

enum err pair_resume(struct request *r)
{
    return change(r, LEDGER_RESUME);
}
