/* What a database would hold: the committed rows of one node. Batches are applied to it, and a
 * ledger is loaded from it. Every batch is checked on its way in, so that whoever uses it tests the
 * promises of ledger_changes() as well. */
#pragma once

#include "ledger/ledger.h"

/* A growing list of one kind of row. */
#define ROW_LIST(T)                                                                                \
    struct {                                                                                       \
        T *items;                                                                                  \
        size_t count, capacity;                                                                    \
    }

struct rows {
    ROW_LIST(struct lease_row) leases;
    ROW_LIST(struct origin_row) origins;
    ROW_LIST(struct credit_row) credits;
    ROW_LIST(struct move_row) moves;
    ROW_LIST(struct node_row) nodes;
    ROW_LIST(struct entitlement_row) entitlements; /* in the order installed; owned references */
    ROW_LIST(struct scope_row) scopes;
    struct self_row self;
    bool has_self; /* false: a new database */
    uint64_t seq;
    int64_t ceiling_ms;
    bool untrusted; /* as if every publisher's key had been taken away */
};

void rows_fini(struct rows *rows);

/* Asserts what every batch promises: at most one row a record, change numbers that are unique,
 * above all earlier ones and not above the batch's own, nothing both written and purged. */
void rows_check_batch(const struct rows *rows, const struct ledger_changes *changes);

/* Applies a checked batch; ceiling_ms 0: as it is. */
void rows_apply(struct rows *rows, const struct ledger_changes *changes, int64_t ceiling_ms);

/* R11, as store_rename() and store_wipe() in node/store/store.h document them. present: the
 * database's node_ref, nil if it is a new one; former: whom the new one names as its former self.
 */
void rows_rename(struct rows *rows, const struct uuid *present, const struct uuid *former);
void rows_wipe(struct rows *rows, const struct uuid *partner);

/* A deep enough copy: entitlements are shared. */
void rows_copy(const struct rows *from, struct rows *out);

/* Feeds everything to a new ledger. On refusal *out stays untouched. */
enum err rows_load(const struct rows *rows, const struct ledger_conf *conf, struct ledger **out,
                   struct diag *diag) MUST_USE;

const struct lease_row *rows_find_lease(const struct rows *rows, const struct uuid *ref,
                                        const struct uuid *home);
