/* Origins: enrolled machines. A deleted one is remembered with the generation that its next secret
 * needs, so that old secrets and tokens stay worthless on every node. */
#include "ledger/request.h"

struct origin *origin_find(const struct ledger *l, const struct uuid *ref)
{
    return table_find(&l->origins, ref);
}

struct origin *origin_new(struct ledger *l, const struct uuid *ref)
{
    struct origin *origin = mem_calloc(1, sizeof *origin);

    origin->ref = *ref;
    origin->created_ms = l->now_ms;
    origin->updated_ms = ORIGIN_UNTOLD_MS;
    origin->updated_by = SELF;
    origin->enrolled = true;
    table_add(&l->origins, origin);
    return origin;
}

/* Whether their last renewal came before or after the deletion is not known: such leases end at
 * once, their seats come back as by R7. */
void origin_renew(struct ledger *l, struct origin *origin, uint32_t generation)
{
    struct lease *next;

    must(generation >= origin->generation);
    origin->generation = generation;
    for (struct lease *lease = origin->leases; lease; lease = next) {
        next = lease->next;
        if (lease->generation < generation)
            lease_end_as(l, lease, LEASE_REVOKED, l->now_ms, ENDED_UNORDERED_MS);
    }
}

static void told_now(struct ledger *l, struct origin *origin)
{
    origin->updated_ms = l->now_ms;
    origin->updated_by = SELF;
    origin->via = SELF;
}

enum err origin_prove(struct ledger *l, const struct origin_proof *proof, struct origin **out)
{
    struct origin *origin = origin_find(l, &proof->origin_ref);

    if (!origin) {
        origin = origin_new(l, &proof->origin_ref);
        origin->generation = proof->generation;
        origin_changed(l, origin, NULL);
    } else if (proof->generation < origin->generation) {
        return ERR_ORIGIN_DELETED;
    } else if (proof->generation > origin->generation || !origin->enrolled) {
        /* deleted and enrolled again on another node: that proof is newer than what is known here
         */
        origin_renew(l, origin, proof->generation);
        origin->enrolled = true;
        origin->updated_ms = ORIGIN_UNTOLD_MS;
        origin->updated_by = origin->via = SELF;
        origin_changed(l, origin, NULL);
    }
    *out = origin;
    return ERR_OK;
}

void origin_delete(struct ledger *l, struct origin *origin)
{
    must(origin->enrolled && origin->generation < UINT32_MAX);
    while (origin->leases)
        lease_end(l, origin->leases, LEASE_REVOKED);
    origin->generation++;
    origin->enrolled = false;
    told_now(l, origin);
    origin_changed(l, origin, "{}"); /* what it told about itself goes with it */
}

static void set_origin_result(const struct ledger *l, const struct origin *origin,
                              struct ledger_result *r)
{
    r->origin = origin_to_row(l, origin);
    if (r->origin.updated_ms < r->origin.created_ms) /* untold */
        r->origin.updated_ms = r->origin.created_ms;
}

/* Known and enrolled: only its secret may change it. Deleted: anybody with a client token may enrol
 * it again, under a new secret. */
void request_enrol(struct ledger *l, const struct ledger_event *e, struct ledger_result *r)
{
    struct origin_proof proof = { e->enrol.origin_ref, e->enrol.generation };
    struct origin *origin = origin_find(l, &e->enrol.origin_ref);
    char ref[UUID_TEXT_SIZE];

    uuid_format(&e->enrol.origin_ref, ref);
    if (e->enrol.proven) {
        r->err = origin_prove(l, &proof, &origin);
        if (r->err != ERR_OK)
            return;
    } else if (!origin) {
        origin = origin_new(l, &e->enrol.origin_ref);
        r->created = true;
    } else if (!origin->enrolled) {
        origin->enrolled = true;
        r->created = true;
    } else {
        r->err =
            diag_set(&r->diag, ERR_ORIGIN_EXISTS,
                     "origin %s is enrolled; send its origin_secret, or draw a new reference", ref);
        return;
    }
    told_now(l, origin);
    origin_changed(l, origin, e->enrol.environment);
    set_origin_result(l, origin, r);
}

void request_prove(struct ledger *l, const struct ledger_event *e, struct ledger_result *r)
{
    struct origin *origin = NULL;

    r->err = origin_prove(l, &e->prove.origin, &origin);
    if (r->err == ERR_OK)
        set_origin_result(l, origin, r);
}
