#include "clients.h"

#include "world.h"

static struct client *client_of(struct world *w, const struct request *request)
{
    return &w->clients.all[request->sender];
}

static struct origin_proof proof_of(const struct client *client)
{
    return (struct origin_proof){ client->origin_ref, client->generation };
}

/* What the HTTP part puts into the token. */
static struct lease_evidence token_of(const struct world *w, const struct request *request,
                                      size_t at)
{
    const struct lease_view *view = &request->result.leases[at];
    const struct lease_row *row = &view->row;

    return (struct lease_evidence){
        .lease_ref = row->lease_ref,
        .home = row->home,
        .origin_ref = row->origin_ref,
        .scope_ref = row->scope_ref,
        .count = row->count,
        .created_ms = row->created_ms,
        .duration_ms = row->duration_ms,
        .expires_ms = row->expires_ms,
        .generation = row->generation,
        .adopt = !uuid_is_nil(&view->adopter),
        .adopter = view->adopter,
        .signer = w->identities[request->teller].node_ref,
        .seq = request->seq,
    };
}

static struct request *request_of(struct world *w, size_t client, enum ledger_event_kind kind,
                                  void (*on_answer)(struct world *, struct request *))
{
    struct request *request = request_new(kind);
    size_t favourite = w->clients.all[client].favourite;

    request->sender = client;
    request->to = dice_chance(&w->dice, 700) ? favourite : 1 - favourite;
    request->on_answer = on_answer;
    return request;
}

/* A slot in that state that nothing is on its way about; -1 if there is none. */
static int pick_slot(struct world *w, const struct client *client, enum slot_state state)
{
    size_t first = dice_below(&w->dice, CLIENT_SLOTS);

    for (size_t i = 0; i < CLIENT_SLOTS; i++) {
        size_t at = (first + i) % CLIENT_SLOTS;
        if (client->slots[at].state == state && !client->slots[at].busy)
            return (int)at;
    }
    return -1;
}

static void take_token(struct world *w, struct slot *slot, const struct request *request, size_t at)
{
    if (slot->token.count && dice_chance(&w->dice, 300))
        slot->old = slot->token;
    slot->token = token_of(w, request, at);
}

/* Where no answer comes from, it asks less. */
static void learn_favourite(struct world *w, const struct request *request)
{
    if (!request_certain(request))
        client_of(w, request)->favourite = 1 - request->to;
}

/* What every answer to a proof may say; all such events begin with it. */
static void heed(struct world *w, const struct request *request)
{
    const struct origin_proof *proof = &request->event.prove.origin;
    struct client *client = client_of(w, request);

    learn_favourite(w, request);
    if (request->lost || proof->generation != client->generation ||
        !uuid_equal(&proof->origin_ref, &client->origin_ref))
        return;
    if (request->result.err == ERR_ORIGIN_DELETED)
        client->enrolled = false;
    else if (request->result.err == ERR_OK)
        auditor_proof_taken(w, request, request->sender, client->secret_since, client->secret_by);
}

/* ---- enrolling ------------------------------------------------------------------------------ */

static void on_enrol(struct world *w, struct request *request)
{
    struct client *client = client_of(w, request);

    client->enrolling = false;
    if (!request->lost && request->result.err == ERR_OK) {
        client->enrolled = true;
        client->secret_since = world_order(w);
        client->secret_by = request->teller;
        client->generation = request->result.origin.generation;
    }
    if (!request->lost && request->result.err == ERR_ORIGIN_EXISTS) {
        client->origin_ref = dice_uuid(&w->dice); /* its answer was lost: it draws a new one */
        auditor_renamed(w, request->sender);
    }
    learn_favourite(w, request);
    request_free(request);
}

static void enrol(struct world *w, size_t at)
{
    struct request *request = request_of(w, at, LEDGER_ENROL, on_enrol);

    request->event.enrol.origin_ref = w->clients.all[at].origin_ref;
    request->event.enrol.environment = "{}";
    w->clients.all[at].enrolling = true;
    wire_send(w, request);
}

/* ---- grants --------------------------------------------------------------------------------- */

static void send_grant(struct world *w, size_t at, const size_t *slots, size_t count);

/* No answer: the same again, most likely at the other node. */
static void ask_elsewhere(struct world *w, const struct request *request)
{
    size_t slots[SIM_ITEMS_MAX], count = 0;

    for (size_t i = 0; i < request->event.grant.item_count; i++) {
        const struct slot *slot = &w->clients.all[request->sender].slots[request->slots[i]];
        if (slot->state == SLOT_WANTED && !slot->busy)
            slots[count++] = request->slots[i];
    }
    if (count && !w->healing && dice_chance(&w->dice, 700))
        send_grant(w, request->sender, slots, count);
}

static void on_grant(struct world *w, struct request *request)
{
    struct client *client = client_of(w, request);
    const struct ledger_result *r = &request->result;
    bool granted = !request->lost && r->err == ERR_OK;

    heed(w, request);
    for (size_t i = 0; i < request->event.grant.item_count; i++) {
        struct slot *slot = &client->slots[request->slots[i]];
        if (granted)
            auditor_told(w, request, request->sender, i);
        if (!uuid_equal(&slot->item.lease_ref, &request->items[i].lease_ref))
            continue; /* it was asked for twice, and given up since */
        slot->busy = false;
        if (granted) {
            slot->state = SLOT_HELD;
            take_token(w, slot, request, i);
        } else if (request_certain(request) && slot->state == SLOT_WANTED) {
            slot->state = dice_chance(&w->dice, 300) ? SLOT_WANTED : SLOT_FREE;
        }
    }
    if (!request->lost && r->err == ERR_SEATS_AT_PEER && r->scope_count)
        worker_want(w, &w->nodes[request->to], &r->scopes[0].scope_ref,
                    request->event.grant.items[0].count);
    if (!request_certain(request))
        ask_elsewhere(w, request);
    request_free(request);
}

static void draw_item(struct world *w, struct grant_item *item)
{
    size_t scope = dice_below(&w->dice, SIM_SCOPES);

    if (scope == 2 && !w->operator.newest[1])
        scope = 0;
    *item = (struct grant_item){
        .by_feature = dice_chance(&w->dice, 500),
        .has_lease_ref = true,
        .lease_ref = dice_uuid(&w->dice),
        .scope_ref = w->operator.scopes[scope],
        .count = dice_chance(&w->dice, 700) ? 1 : dice_between(&w->dice, 1, 4),
        .duration_ms = dice_chance(&w->dice, 400)
                           ? 0
                           : dice_between(&w->dice, 1000, w->nodes[0].conf.lease_max_ms),
    };
    snprintf(item->feature, sizeof item->feature, "%s", operator_feature_name(scope));
}

/* Asks for what is in these slots. */
static void send_grant(struct world *w, size_t at, const size_t *slots, size_t count)
{
    struct client *client = &w->clients.all[at];
    struct request *request = request_of(w, at, LEDGER_GRANT, on_grant);

    for (size_t i = 0; i < count; i++) {
        client->slots[slots[i]].busy = true;
        request->items[i] = client->slots[slots[i]].item;
        request->slots[i] = slots[i];
    }
    request->event.grant.origin = proof_of(client);
    request->event.grant.items = request->items;
    request->event.grant.item_count = count;
    wire_send(w, request);
}

static void ask_for_new(struct world *w, size_t at)
{
    struct client *client = &w->clients.all[at];
    size_t slots[SIM_ITEMS_MAX], count = 0, wanted = 1;

    if (dice_chance(&w->dice, 200))
        wanted = 1 + dice_below(&w->dice, SIM_ITEMS_MAX);
    for (int slot; count < wanted && (slot = pick_slot(w, client, SLOT_FREE)) >= 0; count++) {
        slots[count] = (size_t)slot;
        draw_item(w, &client->slots[slot].item);
        client->slots[slot].token = client->slots[slot].old = (struct lease_evidence){ .count = 0 };
        client->slots[slot].state = SLOT_WANTED;
        client->slots[slot].busy = true;
    }
    if (count)
        send_grant(w, at, slots, count);
    if (count && client->cheats && dice_chance(&w->dice, 100)) /* most likely of the other node */
        send_grant(w, at, slots, count);
}

static void ask_again(struct world *w, size_t at, enum slot_state state)
{
    int slot = pick_slot(w, &w->clients.all[at], state);

    if (slot >= 0)
        send_grant(w, at, &(size_t){ (size_t)slot }, 1);
}

/* ---- renewals ------------------------------------------------------------------------------- */

static void on_renew(struct world *w, struct request *request)
{
    struct client *client = client_of(w, request);
    struct slot *slot = &client->slots[request->slots[0]];

    heed(w, request);
    slot->busy = false;
    if (!request->lost && request->result.err == ERR_OK) {
        auditor_told(w, request, request->sender, 0);
        if (uuid_equal(&slot->token.lease_ref, &request->event.renew.lease_ref))
            take_token(w, slot, request, 0);
    } else if (request_certain(request)) {
        auditor_refused(w, request, request->sender);
        if (uuid_equal(&slot->token.lease_ref, &request->event.renew.lease_ref))
            slot->state = SLOT_DONE;
    }
    request_free(request);
}

/* token NULL: by reference alone. */
static void send_renewal(struct world *w, size_t at, size_t slot, const struct uuid *lease_ref,
                         const struct lease_evidence *token)
{
    struct client *client = &w->clients.all[at];
    struct request *request = request_of(w, at, LEDGER_RENEW, on_renew);

    client->slots[slot].busy = true;
    request->slots[0] = slot;
    request->event.renew.origin = proof_of(client);
    request->event.renew.lease_ref = *lease_ref;
    if (token) {
        request->evidence = *token;
        request->event.renew.evidence = &request->evidence;
    }
    wire_send(w, request);
}

static void renew(struct world *w, size_t at, enum slot_state state)
{
    struct client *client = &w->clients.all[at];
    int slot = pick_slot(w, client, state);

    if (slot < 0)
        return;
    const struct lease_evidence *token = &client->slots[slot].token;
    if (client->cheats && client->slots[slot].old.count && dice_chance(&w->dice, 300))
        token = &client->slots[slot].old;
    send_renewal(w, at, (size_t)slot, &token->lease_ref, dice_chance(&w->dice, 750) ? token : NULL);
}

/* ---- releases ------------------------------------------------------------------------------- */

static void on_release(struct world *w, struct request *request)
{
    struct client *client = client_of(w, request);
    struct slot *slot = &client->slots[request->slots[0]];

    heed(w, request);
    slot->busy = false;
    auditor_end_known(w, &request->event.release.lease_ref, request->sender, request,
                      !request->lost && request->result.err == ERR_OK);
    if (request_certain(request) &&
        uuid_equal(&slot->token.lease_ref, &request->event.release.lease_ref))
        slot->state = SLOT_DONE;
    request_free(request);
}

static void release(struct world *w, size_t at, enum slot_state state)
{
    struct client *client = &w->clients.all[at];
    int slot = pick_slot(w, client, state);

    if (slot < 0)
        return;
    struct request *request = request_of(w, at, LEDGER_RELEASE, on_release);
    request->slots[0] = (size_t)slot;
    request->event.release.origin = proof_of(client);
    request->event.release.lease_ref = client->slots[slot].token.lease_ref;
    if (dice_chance(&w->dice, 700)) {
        request->evidence = client->slots[slot].token;
        request->event.release.evidence = &request->evidence;
    }
    client->slots[slot].busy = true;
    auditor_end_sent(w, &request->event.release.lease_ref, at);
    wire_send(w, request);
}

static void on_release_all(struct world *w, struct request *request)
{
    heed(w, request);
    auditor_end_known(w, NULL, request->sender, request,
                      !request->lost && request->result.err == ERR_OK);
    request_free(request);
}

static void release_all(struct world *w, size_t at)
{
    struct request *request = request_of(w, at, LEDGER_RELEASE_ALL, on_release_all);

    request->event.release_all.origin = proof_of(&w->clients.all[at]);
    auditor_end_sent(w, NULL, at);
    wire_send(w, request);
}

/* ---- looking -------------------------------------------------------------------------------- */

static void on_list(struct world *w, struct request *request)
{
    heed(w, request);
    if (!request->lost && request->result.err == ERR_OK)
        auditor_listed(w, request, request->sender);
    request_free(request);
}

static void list(struct world *w, size_t at)
{
    struct request *request = request_of(w, at, LEDGER_LIST, on_list);

    request->event.list.origin = proof_of(&w->clients.all[at]);
    wire_send(w, request);
}

/* ---- cheating ------------------------------------------------------------------------------- */

/* Another origin's token, shown with one's own proof, is worth nothing; its reference alone finds
 * at most a lease of one's own. */
static void on_theft(struct world *w, struct request *request)
{
    const struct ledger_result *r = &request->result;

    heed(w, request);
    if (!request->lost && r->err == ERR_OK && request->event.renew.evidence)
        world_fail(w, "R4: a request with another origin's token was answered");
    if (!request->lost && r->err == ERR_OK && r->lease_count &&
        !uuid_equal(&r->leases[0].row.origin_ref, &request->event.renew.origin.origin_ref))
        world_fail(w, "R4: another origin's lease was renewed");
    request_free(request);
}

static void steal(struct world *w, size_t at)
{
    size_t victim = dice_below(&w->dice, w->clients.count);
    const struct slot *slot = &w->clients.all[victim].slots[dice_below(&w->dice, CLIENT_SLOTS)];
    bool renewal = dice_chance(&w->dice, 500), token = !renewal || dice_chance(&w->dice, 500);

    if (victim == at || (slot->state != SLOT_HELD && slot->state != SLOT_DONE))
        return;
    struct request *request = request_of(w, at, renewal ? LEDGER_RENEW : LEDGER_RELEASE, on_theft);
    request->evidence = slot->token; /* renew and release look alike */
    request->event.renew.origin = proof_of(&w->clients.all[at]);
    request->event.renew.lease_ref = slot->token.lease_ref;
    request->event.renew.evidence = token ? &request->evidence : NULL;
    wire_send(w, request);
}

/* Asks under a reference that another client has drawn. */
static void squat(struct world *w, size_t at)
{
    struct client *client = &w->clients.all[at];
    size_t victim = dice_below(&w->dice, w->clients.count);
    const struct slot *other = &w->clients.all[victim].slots[dice_below(&w->dice, CLIENT_SLOTS)];
    int slot = pick_slot(w, client, SLOT_FREE);

    if (victim == at || slot < 0 || other->state == SLOT_FREE)
        return;
    client->slots[slot].item = other->item;
    client->slots[slot].token = client->slots[slot].old = (struct lease_evidence){ .count = 0 };
    client->slots[slot].state = SLOT_WANTED;
    send_grant(w, at, &(size_t){ (size_t)slot }, 1);
}

static void on_old_proof(struct world *w, struct request *request)
{
    const struct client *client = client_of(w, request);

    if (!request->lost && request->result.err == ERR_OK && client->secret_by == request->teller &&
        client->secret_since < request->sent &&
        request->event.list.origin.generation < client->generation)
        world_fail(w, "a proof from before the origin was deleted was taken");
    request_free(request);
}

static void use_old_proof(struct world *w, size_t at)
{
    struct client *client = &w->clients.all[at];

    if (!client->enrolled || !client->generation)
        return;
    struct request *request = request_of(w, at, LEDGER_LIST, on_old_proof);
    request->event.list.origin = proof_of(client);
    request->event.list.origin.generation--;
    wire_send(w, request);
}

static void cheat(struct world *w, size_t at)
{
    switch (dice_below(&w->dice, 6)) {
    case 0:
        renew(w, at, SLOT_DONE);
        break;
    case 1:
        release(w, at, SLOT_DONE);
        break;
    case 2:
        ask_again(w, at, SLOT_DONE);
        break;
    case 3:
        steal(w, at);
        break;
    case 4:
        squat(w, at);
        break;
    default:
        use_old_proof(w, at);
    }
}

/* ---- living --------------------------------------------------------------------------------- */

/* Room for new wishes: forgets some of what is over, or holds on to nothing any more. */
static void forget(struct world *w, struct client *client)
{
    int slot = pick_slot(w, client, dice_chance(&w->dice, 700) ? SLOT_DONE : SLOT_HELD);

    if (slot >= 0)
        client->slots[slot].state = client->slots[slot].state == SLOT_HELD ? SLOT_DONE : SLOT_FREE;
}

static void act(struct world *w, size_t at)
{
    struct client *client = &w->clients.all[at];
    size_t chance = dice_below(&w->dice, 100);

    if (client->enrolling)
        return;
    if (!client->enrolled)
        enrol(w, at);
    else if (client->cheats && dice_chance(&w->dice, 300))
        cheat(w, at);
    else if (chance < 35)
        ask_for_new(w, at);
    else if (chance < 70)
        renew(w, at, SLOT_HELD);
    else if (chance < 82)
        release(w, at, SLOT_HELD);
    else if (chance < 88)
        ask_again(w, at, dice_chance(&w->dice, 700) ? SLOT_WANTED : SLOT_HELD);
    else if (chance < 90)
        list(w, at);
    else if (chance < 91)
        release_all(w, at);
    else
        forget(w, client);
}

static void live(struct world *w, void *subject, uint64_t at)
{
    (void)subject;
    if (w->healing)
        return;
    act(w, at);
    world_after(w, dice_between(&w->dice, 1, 2 * w->clients.all[at].pace_ms), live, NULL, at);
}

void clients_start(struct world *w)
{
    w->clients.count = 2 + dice_below(&w->dice, SIM_CLIENTS_MAX - 1);
    for (size_t i = 0; i < w->clients.count; i++) {
        w->clients.all[i] = (struct client){
            .origin_ref = dice_uuid(&w->dice),
            .cheats = dice_chance(&w->dice, 500),
            .favourite = dice_below(&w->dice, SIM_SEATS),
            .pace_ms = dice_between(&w->dice, w->plan.duration_ms / 500, w->plan.duration_ms / 60),
        };
        world_after(w, dice_between(&w->dice, 0, 3000), live, NULL, i);
    }
}
