/* One function an event kind: private to node/ledger. Each sets result->err and what goes with it.
 * On an error nothing has changed but this: an origin that proved itself is known from then on. */
#pragma once

#include "ledger/state.h"

void request_enrol(struct ledger *l, const struct ledger_event *e, struct ledger_result *r);
void request_prove(struct ledger *l, const struct ledger_event *e, struct ledger_result *r);
void request_grant(struct ledger *l, const struct ledger_event *e, struct ledger_result *r);
void request_renew(struct ledger *l, const struct ledger_event *e, struct ledger_result *r);
void request_release(struct ledger *l, const struct ledger_event *e, struct ledger_result *r);
void request_release_all(struct ledger *l, const struct ledger_event *e, struct ledger_result *r);
void request_list(struct ledger *l, const struct ledger_event *e, struct ledger_result *r);

/* Appends to result->leases, which has room for it. */
void result_add_lease(const struct ledger *l, struct ledger_result *r, const struct lease *lease,
                      bool created);
void result_room_leases(struct ledger_result *r, size_t count);
/* Appends to result->scopes. */
void result_add_scope(struct ledger *l, struct ledger_result *r, struct scope *scope);
