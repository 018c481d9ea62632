/* Are two ledgers the same? Used for "loaded is what was committed", and by I3 for two nodes. */
#pragma once

#include "ledger/ledger.h"

/* NULL, or a sentence in *diag (returned) that names the first difference. Both must be of the same
 * node. What is not stored on purpose (when the peer last fetched) is not compared. */
const char *twin_difference(const struct ledger *a, const struct ledger *b, struct diag *diag);
