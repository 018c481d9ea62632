#include "operator.h"

#include <inttypes.h>

#include "world.h"

const char *operator_feature_name(size_t scope)
{
    static const char *const names[SIM_SCOPES] = { "render", "edit", "render" };

    must(scope < SIM_SCOPES);
    return names[scope];
}

void operator_fini(struct operator* o)
{
    for (size_t i = 0; i < SIM_ENTITLEMENTS; i++)
        entitlement_unref(o->newest[i]);
}

/* ---- entitlements --------------------------------------------------------------------------- */

static enum seat_return draw_policy(struct world *w)
{
    return dice_chance(&w->dice, 250) ? SEAT_RETURN_AT_EXPIRY : SEAT_RETURN_ACKNOWLEDGED;
}

static struct feature draw_feature(struct world *w, size_t scope)
{
    bool varies = w->plan.policy_varies;
    struct feature feature = {
        .scope_ref = w->operator.scopes[scope],
        .seats = dice_between(&w->dice, 1, dice_chance(&w->dice, 600) ? 4 : 12),
        .lease_max_ms = dice_chance(&w->dice, 300)
                            ? dice_between(&w->dice, 1000, w->nodes[0].conf.lease_max_ms)
                            : w->nodes[0].conf.lease_max_ms,
        .on_release = varies ? draw_policy(w) : w->operator.on_release[scope],
        .on_revoke = varies ? draw_policy(w) : w->operator.on_revoke[scope],
    };

    snprintf(feature.name, sizeof feature.name, "%s", operator_feature_name(scope));
    return feature;
}

static struct entitlement *draw_entitlement(struct world *w, size_t which)
{
    struct operator* o = & w->operator;
    bool both = which == 0 && dice_chance(&w->dice, 850); /* else "edit" is dropped */
    struct entitlement *e = entitlement_new(both ? 2 : 1);
    int64_t now_ms = SIM_EPOCH_MS + w->now_ms;

    e->entitlement_ref = o->entitlements[which];
    e->revision = ++o->revisions[which];
    snprintf(e->publisher, sizeof e->publisher, "acme");
    e->issued_ms = e->begins_ms = SIM_EPOCH_MS - 86400000;
    e->ends_ms =
        now_ms + (dice_chance(&w->dice, 80) ? dice_between(&w->dice, 1000, w->plan.duration_ms)
                                            : (int64_t)86400000 * 365);
    e->features[0] = draw_feature(w, which == 0 ? 0 : 2);
    if (both)
        e->features[1] = draw_feature(w, 1);
    uint64_t hash = dice_roll(&w->dice);
    memcpy(e->sha256, &hash, sizeof hash);
    e->text = mem_strdup("an entitlement");
    return e;
}

static void post_install(struct world *w, size_t which, size_t to, enum err note);

/* Until it is known. */
static void install_again(struct world *w, void *subject, uint64_t which)
{
    (void)subject;
    post_install(w, which, dice_below(&w->dice, SIM_SEATS), ERR_OK);
}

static void on_install(struct world *w, struct request *request)
{
    const struct entitlement *newest = w->operator.newest[request->sender];
    bool late = newest->revision > request->entitlement->revision;

    if (!request_certain(request)) {
        if (request->note == ERR_OK && !late)
            world_after(w, dice_between(&w->dice, 100, 4000), install_again, NULL, request->sender);
    } else if (request->result.err != ERR_OK && !late) {
        world_fail(w, "R2: an entitlement is refused: %s", request->result.diag.text);
    } else {
        if (request->result.err == ERR_OK)
            auditor_install_known(w, request->entitlement, request);
        if (request->note == ERR_OK)
            w->operator.installing = false;
    }
    request_free(request);
}

static void post_install(struct world *w, size_t which, size_t to, enum err note)
{
    struct request *request = request_new(LEDGER_INSTALL);

    request->sender = which;
    request->to = to;
    request->note = note;
    request->on_answer = on_install;
    request->entitlement = entitlement_ref(w->operator.newest[which]);
    request->event.install.entitlement = request->entitlement;
    wire_send(w, request);
}

/* At the primary, as it should be; at times at the other node, or at both at once (R2). */
static void install(struct world *w, size_t which)
{
    struct operator* o = & w->operator;

    if (o->installing)
        return;
    o->installing = true;
    entitlement_unref(o->newest[which]);
    o->newest[which] = draw_entitlement(w, which);
    auditor_install_sent(w, o->newest[which]);
    post_install(w, which, dice_chance(&w->dice, 800) ? 0 : 1, ERR_OK);
    if (dice_chance(&w->dice, 250))
        post_install(w, which, dice_below(&w->dice, SIM_SEATS), ERR_NETWORK);
}

void operator_reinstall(struct world *w)
{
    for (size_t i = 0; i < SIM_ENTITLEMENTS; i++) {
        if (w->operator.newest[i])
            post_install(w, i, 0, ERR_NETWORK);
    }
}

/* ---- leases and origins --------------------------------------------------------------------- */

static void on_revoke(struct world *w, struct request *request)
{
    auditor_end_known(w, &request->event.revoke.lease_ref, ANY_ORIGIN, request,
                      !request->lost && request->result.err == ERR_OK);
    request_free(request);
}

static void revoke(struct world *w)
{
    const struct auditor *a = &w->auditor;

    if (!a->lease_count)
        return;
    struct request *request = request_new(LEDGER_REVOKE);
    request->to = dice_below(&w->dice, SIM_SEATS);
    request->event.revoke.lease_ref = a->leases[dice_below(&w->dice, a->lease_count)].lease_ref;
    request->on_answer = on_revoke;
    auditor_end_sent(w, &request->event.revoke.lease_ref, ANY_ORIGIN);
    wire_send(w, request);
}

static void on_delete(struct world *w, struct request *request)
{
    bool certain = !request->lost && request->result.err == ERR_OK;

    auditor_end_known(w, NULL, request->sender, request, certain);
    if (certain && uuid_equal(&request->event.origin_delete.origin_ref,
                              &w->clients.all[request->sender].origin_ref))
        auditor_deleted(w, request, request->sender);
    request_free(request);
}

static void delete_origin(struct world *w)
{
    struct request *request = request_new(LEDGER_ORIGIN_DELETE);

    request->to = dice_below(&w->dice, SIM_SEATS);
    request->sender = dice_below(&w->dice, w->clients.count);
    request->event.origin_delete.origin_ref = w->clients.all[request->sender].origin_ref;
    request->on_answer = on_delete;
    auditor_end_sent(w, NULL, request->sender);
    auditor_delete_sent(w, request->sender);
    wire_send(w, request);
}

static void on_purge(struct world *w, struct request *request)
{
    (void)w;
    request_free(request);
}

static void purge(struct world *w)
{
    struct request *request = request_new(LEDGER_PURGE);

    request->to = dice_below(&w->dice, SIM_SEATS);
    request->event.purge.limit = 1 + dice_below(&w->dice, 20);
    request->on_answer = on_purge;
    wire_send(w, request);
}

/* ---- retiring (R10) --------------------------------------------------------------------------
 */

static bool serves(const struct sim_node *n)
{
    return n->process_up && n->ledger && n->contacted &&
           ledger_pair(n->ledger).self == SELF_SERVING;
}

/* nil: nobody, as far as can be asked. */
static struct uuid partner_of(const struct sim_node *n)
{
    return n->ledger ? ledger_pair(n->ledger).partner : (struct uuid){ { 0 } };
}

/* It has the instance's history, whether it serves now or not. */
static bool has_history(const struct sim_node *n)
{
    enum self_state state = n->ledger && n->contacted ? ledger_pair(n->ledger).self : SELF_RETIRED;

    return state == SELF_SERVING || state == SELF_DRAINED || state == SELF_RESUMING;
}

static void stop_for_good(struct world *w, void *subject, uint64_t identity)
{
    struct sim_node *n = subject;

    if (n->identity != identity || n->dead)
        return;
    if (n->process_up)
        node_kill(w, n);
    n->life++; /* no restart */
    n->dead = true;
    world_trace(w, "%c: is stopped for good", (char)('A' + n->seat));
}

void operator_retired(struct world *w, struct sim_node *n, const struct request *request)
{
    struct sim_node *other = world_other(w, n);

    for (size_t i = 0; i < w->identity_count; i++) {
        struct identity *one = &w->identities[i];
        bool meant = uuid_equal(&request->event.retire.node_ref, &one->node_ref) ||
                     (uuid_is_nil(&request->event.retire.node_ref) && i != n->identity);
        if (!meant || one->state == IDENTITY_RETIRED)
            continue;
        one->state = IDENTITY_RETIRED;
        if (i == other->identity && !other->dead)
            world_after(w, dice_between(&w->dice, 0, w->plan.skew_max_ms * 9 / 10), stop_for_good,
                        other, i);
    }
    if (uuid_is_nil(&request->event.retire.node_ref)) { /* nobody has an older history any more */
        node_backup_drop(n);
        node_backup_drop(other);
    }
    w->operator.retired++;
    w->operator.retired_closed += request->result.wait_ms == 0;
}

static void on_retire(struct world *w, struct request *request)
{
    w->operator.retiring = false;
    request_free(request);
}

/* nil: all that it still counts. */
static void retire(struct world *w, struct sim_node *at, const struct uuid *node_ref)
{
    struct request *request = request_new(LEDGER_RETIRE);

    w->operator.retiring = true;
    request->sender = 200;
    request->to = at->seat;
    request->event.retire.node_ref = *node_ref;
    request->on_answer = on_retire;
    wire_send(w, request);
}

/* ---- the wire -------------------------------------------------------------------------------- */

static void mend_wire(struct world *w, void *subject, uint64_t number)
{
    (void)subject;
    (void)number;
    w->cut[0][1] = w->cut[1][0] = false;
    world_trace(w, "the wire is whole");
}

static void cut_wire(struct world *w)
{
    size_t ways = dice_below(&w->dice, 4);

    if (w->calm || w->cut[0][1] || w->cut[1][0])
        return;
    w->cut[0][1] = ways != 0;
    w->cut[1][0] = ways != 1;
    world_trace(w, "the wire is cut%s",
                ways == 0   ? " from B to A"
                : ways == 1 ? " from A to B"
                            : "");
    world_after(w, dice_between(&w->dice, 200, dice_chance(&w->dice, 500) ? 4000 : 40000),
                mend_wire, NULL, 0);
}

/* ---- drain ------------------------------------------------------------------------------------
 */

static void on_drain(struct world *w, struct request *request)
{
    (void)w;
    request_free(request);
}

static void send_drain(struct world *w, size_t seat, enum ledger_event_kind kind)
{
    struct request *request = request_new(kind);

    request->sender = 200;
    request->to = seat;
    request->on_answer = on_drain;
    wire_send(w, request);
}

static bool is_closed(struct world *w, const struct sim_node *n, uint64_t identity)
{
    struct sim_node *other = world_other(w, n);
    struct uuid partner = partner_of(other);

    return serves(other) && uuid_equal(&partner, &w->identities[identity].node_ref) &&
           ledger_pair(other->ledger).partner_closed;
}

/* The other one may still believe it closed. */
static void retire_resumed(struct world *w, void *subject, uint64_t identity)
{
    struct sim_node *n = subject;

    w->operator.draining = false;
    if (n->identity == identity && !n->dead &&
        !w->operator.retiring && !w->healing && serves(world_other(w, n)))
        retire(w, world_other(w, n), &w->identities[identity].node_ref);
}

/* A drained node is retired: at once, if the other one heard it close; or goes on; or is retired
 * although it was told to go on. */
static void after_drain(struct world *w, void *subject, uint64_t identity)
{
    struct sim_node *n = subject;

    w->operator.draining = false;
    if (n->identity != identity || n->dead || w->operator.retiring || w->healing)
        return;
    if (is_closed(w, n, identity) && dice_chance(&w->dice, 750)) {
        retire(w, world_other(w, n), &w->identities[identity].node_ref);
    } else if (!is_closed(w, n, identity) && dice_chance(&w->dice, 600)) {
        w->operator.draining = true;
        world_after(w, 2000, after_drain, n, identity);
    } else {
        bool goes_on = dice_chance(&w->dice, 500);
        if (!goes_on && dice_chance(&w->dice, 700))
            cut_wire(w);
        send_drain(w, n->seat, LEDGER_RESUME);
        if (goes_on)
            return;
        w->operator.draining = true;
        world_after(w, dice_between(&w->dice, 100, 6000), retire_resumed, n, identity);
    }
}

/* ---- incidents --------------------------------------------------------------------------------
 */

static void kill_node(struct world *w, struct sim_node *n)
{
    if (!n->process_up || !node_may_restart(w, n))
        return;
    node_kill(w, n);
    node_restart_after(w, n, dice_between(&w->dice, 1, dice_chance(&w->dice, 500) ? 2000 : 30000));
}

/* Somebody waits for the contact after a whole disk was put back. */
static void wait_for_contact(struct world *w, void *subject, uint64_t number)
{
    struct sim_node *n = subject;

    if (n->process_up && n->ledger && n->contacted)
        w->calm = false;
    else
        world_after(w, 50, wait_for_contact, n, number);
}

static void lose_disk(struct world *w, struct sim_node *n, enum incident incident)
{
    if (n->process_up)
        node_kill(w, n);
    n->life++;
    switch (incident) {
    case INCIDENT_RESTORE:
        node_restore(w, n, false);
        break;
    case INCIDENT_DISK:
        node_restore(w, n, true);
        w->calm = true;
        w->cut[0][1] = w->cut[1][0] = false;
        world_after(w, 50, wait_for_contact, n, 0);
        break;
    default:
        node_wipe(w, n, incident == INCIDENT_LOSE_ALL);
    }
    node_restart_after(w, n,
                       incident == INCIDENT_DISK
                           ? 1
                           : dice_between(&w->dice, 1, dice_chance(&w->dice, 500) ? 500 : 20000));
}

/* Of the other one it must be certain that it goes on: both at once is another incident. */
static bool other_goes_on(struct world *w, const struct sim_node *n)
{
    const struct sim_node *other = world_other(w, n);

    return !other->dead && node_filled(other) &&
           w->identities[other->identity].state == IDENTITY_LIVE && !other->rename_due;
}

/* A backup that is of this node, and older than what it has: it must differ, or nothing was lost.
 */
static bool has_older(const struct sim_node *n)
{
    return n->backup.taken && (!uuid_equal(&n->backup.node_ref, &n->store.node_ref) ||
                               n->backup.rows.seq < n->store.rows.seq);
}

/* The other one has merged more of this node than the old disk has: so it is noticed (R11). */
static bool lags_behind(const struct sim_node *n, const struct sim_node *other)
{
    if (!uuid_equal(&n->backup.node_ref, &n->store.node_ref))
        return true;
    for (size_t i = 0; i < other->store.rows.nodes.count; i++) {
        const struct node_row *row = &other->store.rows.nodes.items[i];
        if (uuid_equal(&row->node_ref, &n->store.node_ref))
            return row->cursor > n->backup.rows.seq;
    }
    return false;
}

/* number: which identity is meant, and what happens to it. */
static void strike(struct world *w, void *subject, uint64_t number)
{
    struct sim_node *n = subject, *other = world_other(w, n);
    enum incident incident = (enum incident)(number % INCIDENTS);
    bool goes_on = other_goes_on(w, n) && !n->dead && n->identity == number / INCIDENTS &&
                   w->identities[n->identity].state == IDENTITY_LIVE && !w->healing && !w->calm &&
                   !w->operator.retiring && !w->operator.draining;

    if (!goes_on || (incident == INCIDENT_BOTH_LOST && (!has_older(n) || !has_older(other))))
        return;
    switch (incident) {
    case INCIDENT_DEAD:
        stop_for_good(w, n, n->identity);
        break;
    case INCIDENT_RETIRE_LIVE:
        retire(w, other, &n->store.node_ref);
        break;
    case INCIDENT_DRAIN:
        w->operator.draining = true;
        send_drain(w, n->seat, LEDGER_DRAIN);
        world_after(w, dice_between(&w->dice, 1000, 15000), after_drain, n, n->identity);
        break;
    case INCIDENT_BOTH_LOST:
        auditor_forget(w);
        lose_disk(w, n, INCIDENT_RESTORE);
        lose_disk(w, other, INCIDENT_RESTORE);
        break;
    default:
        lose_disk(w, n, incident);
    }
}

static void happen(struct world *w, enum incident incident, struct sim_node *n)
{
    struct sim_node *other = world_other(w, n);
    bool old = incident == INCIDENT_RESTORE || incident == INCIDENT_DISK;
    bool unnoticed = incident == INCIDENT_DISK && (!lags_behind(n, other) || other->committing);

    if (incident == INCIDENT_CUT) {
        cut_wire(w);
        return;
    }
    if (n->dead || w->calm || w->operator.retiring || w->operator.draining)
        return;
    if (incident == INCIDENT_KILL) {
        kill_node(w, n);
        return;
    }
    if (w->operator.identity_changes >= 5 || !other_goes_on(w, n) || !node_filled(n) ||
        w->identities[n->identity].state != IDENTITY_LIVE || (old && !has_older(n)) || unnoticed)
        return;
    if ((incident == INCIDENT_DISK || incident == INCIDENT_RETIRE_LIVE ||
         incident == INCIDENT_DRAIN) &&
        (!serves(other) || !serves(n)))
        return;
    w->operator.identity_changes++;
    if (incident != INCIDENT_DISK &&
        dice_chance(&w->dice, 500)) { /* what it decides is not heard */
        cut_wire(w);
        world_after(w, dice_between(&w->dice, 200, 10000), strike, n,
                    n->identity * INCIDENTS + incident);
    } else {
        strike(w, n, n->identity * INCIDENTS + incident);
    }
}

static void suffer(struct world *w, void *subject, uint64_t number)
{
    size_t first = dice_below(&w->dice, INCIDENTS);

    (void)subject;
    (void)number;
    if (w->healing)
        return;
    for (size_t i = 0; i < INCIDENTS; i++) {
        size_t incident = (first + i) % INCIDENTS;
        if (!(w->plan.incidents & (1u << incident)))
            continue;
        happen(w, (enum incident)incident, &w->nodes[dice_below(&w->dice, SIM_SEATS)]);
        break;
    }
    if (dice_chance(&w->dice, 500))
        node_backup(&w->nodes[dice_below(&w->dice, SIM_SEATS)]);
    world_after(w, dice_between(&w->dice, 100, 2 * w->plan.incident_every_ms), suffer, NULL, 0);
}

/* ---- mending ----------------------------------------------------------------------------------
 */

/* The partner that n counts is gone, and somebody must say so. */
static void retire_partner_of(struct world *w, struct sim_node *n)
{
    struct uuid partner = partner_of(n);

    if (uuid_is_nil(&partner) || w->operator.retiring)
        return;
    int identity = world_identity(w, &partner);
    must(identity >= 0);
    if (w->identities[identity].state != IDENTITY_LIVE ||
        (world_other(w, n)->dead && world_other(w, n)->identity == (size_t)identity))
        retire(w, n, &partner);
}

/* A new machine in the place of one whose node was retired. */
static void replace(struct world *w, struct sim_node *n)
{
    if (n->process_up)
        node_kill(w, n);
    n->life++;
    n->dead = false;
    node_wipe(w, n, true);
    node_restart_after(w, n, dice_between(&w->dice, 1, 3000));
}

static void mend_dead(struct world *w, struct sim_node *n)
{
    struct sim_node *other = world_other(w, n);

    if (w->identities[n->identity].state != IDENTITY_LIVE)
        replace(w, n);
    else if (has_history(other))
        retire_partner_of(w, other);
    else if (other->ledger && ledger_pair(other->ledger).self == SELF_UNFILLED &&
             !w->operator.retiring) /* R11: both histories are lost */
        retire(w, other, &(struct uuid){ { 0 } });
}

static bool has_former(const struct sim_node *n)
{
    return n->store.rows.has_self && !uuid_is_nil(&n->store.rows.self.former[0]);
}

/* Its refill waits for something that does not come by itself. */
static void mend_unfilled(struct world *w, struct sim_node *n)
{
    struct sim_node *other = world_other(w, n);

    if (has_history(other)) {
        if (n->worker.refused_here == ERR_PEER_UNKNOWN ||
            n->worker.refused_there == ERR_PEER_UNKNOWN)
            retire_partner_of(w, other);
        return;
    }
    bool lost_too = !other->dead && other->ledger && !node_filled(other);
    if (lost_too &&
        !w->operator.retiring && !w->cut[0][1] && !w->cut[1][0] &&(has_former(n) ||
                                                                   has_former(other)) &&
        (has_former(n) || !has_former(other)))
        retire(w, n, &(struct uuid){ { 0 } });
}

void operator_mend(struct world *w)
{
    for (size_t i = 0; i < SIM_SEATS; i++) {
        struct sim_node *n = &w->nodes[i];
        if (n->dead) {
            mend_dead(w, n);
            continue;
        }
        if (!n->process_up && !n->restarting)
            node_restart_after(w, n, 1);
        if (!n->ledger || !n->contacted)
            continue;
        enum self_state state = ledger_pair(n->ledger).self;
        if (state == SELF_RETIRED)
            replace(w, n);
        else if (state == SELF_DRAINED && !w->operator.draining)
            send_drain(w, n->seat, LEDGER_RESUME);
        else if (state == SELF_UNFILLED)
            mend_unfilled(w, n);
    }
}

bool operator_content(const struct world *w)
{
    for (size_t i = 0; i < SIM_SEATS; i++) {
        const struct sim_node *n = &w->nodes[i];
        struct uuid partner = partner_of(n);
        bool stuck = n->committing && w->now_ms - n->committing_since_ms > 100;
        if (!serves(n) || stuck || !n->worker.met || ledger_pair(n->ledger).wait_ms ||
            uuid_is_nil(&partner))
            return false;
    }
    return true;
}

static void mend_now_and_then(struct world *w, void *subject, uint64_t number)
{
    (void)subject;
    (void)number;
    if (w->healing)
        return;
    if (!w->calm)
        operator_mend(w);
    world_after(w, dice_between(&w->dice, 500, 15000), mend_now_and_then, NULL, 0);
}

/* ---- living --------------------------------------------------------------------------------- */

static void live(struct world *w, void *subject, uint64_t number)
{
    size_t chance = dice_below(&w->dice, 100);

    (void)subject;
    (void)number;
    if (w->healing)
        return;
    if (chance < 25)
        install(w, dice_below(&w->dice, SIM_ENTITLEMENTS));
    else if (chance < 55)
        revoke(w);
    else if (chance < 65 && w->plan.deletes)
        delete_origin(w);
    else
        purge(w);
    world_after(w, dice_between(&w->dice, 100, w->plan.duration_ms / 8), live, NULL, 0);
}

void operator_start(struct world *w)
{
    struct operator* o = & w->operator;

    for (size_t i = 0; i < SIM_ENTITLEMENTS; i++)
        o->entitlements[i] = dice_uuid(&w->dice);
    for (size_t i = 0; i < SIM_SCOPES; i++) {
        o->scopes[i] = dice_uuid(&w->dice);
        o->on_release[i] = draw_policy(w);
        o->on_revoke[i] = draw_policy(w);
    }
    install(w, 0);
    world_after(w, 1000, live, NULL, 0);
    world_after(w, 1500, mend_now_and_then, NULL, 0);
    world_after(w, dice_between(&w->dice, 500, w->plan.incident_every_ms), suffer, NULL, 0);
}

/* ---- taking stock ---------------------------------------------------------------------------- */

/* Asks a healthy node directly. */
static void ask(struct sim_node *n, struct ledger_event event, struct ledger_result *result)
{
    event.now_ms = node_clock_ms(n);
    ledger_step(n->ledger, &event, result);
    ledger_check(n->ledger);
}

static const struct feature *newest_feature(const struct world *w, const struct uuid *scope)
{
    for (size_t e = 0; e < SIM_ENTITLEMENTS; e++) {
        const struct entitlement *newest = w->operator.newest[e];
        for (size_t i = 0; newest && i < newest->feature_count; i++) {
            if (uuid_equal(&newest->features[i].scope_ref, scope))
                return &newest->features[i];
        }
    }
    return NULL;
}

static void trace_leases(struct world *w)
{
    for (size_t n = 0; n < SIM_SEATS; n++) {
        const struct rows *rows = &w->nodes[n].store.rows;
        for (size_t i = 0; i < rows->leases.count; i++) {
            const struct lease_row *row = &rows->leases.items[i];
            world_trace(w, "%c has %02x%02x of %02x%02x: %s, %sexpires %" PRId64, (char)('A' + n),
                        row->lease_ref.bytes[0], row->lease_ref.bytes[1], row->home.bytes[0],
                        row->home.bytes[1], lease_state_name(row->state),
                        row->shared ? "" : "private, ", row->expires_ms - SIM_EPOCH_MS);
        }
    }
}

static void check_scope_free(struct world *w, const struct scope_view *a,
                             const struct scope_view *b)
{
    const struct feature *feature = newest_feature(w, &a->scope_ref);
    int64_t seats = feature ? feature->seats : 0;

    trace_leases(w);
    if (a->seats != seats || b->seats != seats)
        world_fail(w, "I4: %s: %" PRId64 " seats were installed, A has %" PRId64 ", B %" PRId64,
                   a->feature, seats, a->seats, b->seats);
    if (a->used || b->used || a->waiting || b->waiting || a->active || b->active || a->pending ||
        b->pending || a->locked || b->locked || a->free_here + b->free_here != seats)
        world_fail(w,
                   "I4: %s: of %" PRId64 " seats %" PRId64 " and %" PRId64 " are free, %" PRId64
                   " used (%" PRId64 " waiting), %" PRId64 " pending, %" PRId64 " locked",
                   a->feature, seats, a->free_here, b->free_here, a->used, a->waiting,
                   a->pending + b->pending, a->locked + b->locked);
}

static void check_all_free(struct world *w)
{
    struct ledger_result a, b;

    ask(&w->nodes[0], (struct ledger_event){ .kind = LEDGER_SCOPES }, &a);
    ask(&w->nodes[1], (struct ledger_event){ .kind = LEDGER_SCOPES }, &b);
    if (a.scope_count != b.scope_count)
        world_fail(w, "I3: %zu scopes at A, %zu at B", a.scope_count, b.scope_count);
    for (size_t i = 0; i < a.scope_count; i++) {
        for (size_t j = 0; j < b.scope_count; j++) {
            if (uuid_equal(&a.scopes[i].scope_ref, &b.scopes[j].scope_ref))
                check_scope_free(w, &a.scopes[i], &b.scopes[j]);
        }
    }
    ledger_result_fini(&a);
    ledger_result_fini(&b);
}

static void check_all_purged(struct world *w, struct sim_node *n)
{
    struct ledger_result result;

    ask(n, (struct ledger_event){ .kind = LEDGER_PURGE, .purge.limit = SIZE_MAX }, &result);
    if (ledger_counts(n->ledger).leases)
        world_fail(w, "R5: %c keeps %zu records for ever", (char)('A' + n->seat),
                   ledger_counts(n->ledger).leases);
    ledger_result_fini(&result);
}

static int64_t grant_all(struct world *w, struct sim_node *n, const struct feature *feature,
                         bool over)
{
    struct ledger_event event = { .kind = LEDGER_GRANT };
    struct ledger_result result;
    int64_t granted = 0;

    event.grant.origin.origin_ref = dice_uuid(&w->dice);
    event.grant.item_count = 1;
    for (bool more = true; more;) {
        struct grant_item item = { .lease_ref = dice_uuid(&w->dice),
                                   .scope_ref = feature->scope_ref,
                                   .count = 1 };
        event.grant.items = &item;
        ask(n, event, &result);
        more = result.err == ERR_OK;
        granted += more;
        if (!more)
            world_trace(w, "%c: no more than %" PRId64 ": %s", (char)('A' + n->seat), granted,
                        result.diag.text);
        if (over && result.err != ERR_ENT_EXPIRED)
            world_fail(w, "R3: %s after the end", err_info(result.err)->code);
        ledger_result_fini(&result);
    }
    return granted;
}

static void check_all_grantable(struct world *w)
{
    for (size_t e = 0; e < SIM_ENTITLEMENTS; e++) {
        const struct entitlement *newest = w->operator.newest[e];
        for (size_t i = 0; newest && i < newest->feature_count; i++) {
            const struct feature *feature = &newest->features[i];
            int64_t granted = 0;
            bool over = false;
            for (size_t n = 0; n < SIM_SEATS; n++) {
                bool over_here = node_clock_ms(&w->nodes[n]) >= newest->ends_ms;
                granted += grant_all(w, &w->nodes[n], feature, over_here);
                over = over || over_here;
            }
            if (!over && granted != feature->seats)
                world_fail(w, "I4: %" PRId64 " of %" PRId64 " seats of %s can be granted", granted,
                           feature->seats, feature->name);
        }
    }
}

void operator_take_stock(struct world *w)
{
    check_all_free(w);
    check_all_purged(w, &w->nodes[0]);
    check_all_purged(w, &w->nodes[1]);
    check_all_grantable(w);
}
