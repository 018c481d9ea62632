/* Are two ledgers the same? Used for "loaded is what was committed", and by I3 for two nodes. */
#pragma once

#include "ledger/ledger.h"
#include "sim/rows.h"

/* NULL, or a sentence in *diag (returned) that names the first difference. Both must be of the same
 * node. What is not stored on purpose (when the peer last fetched) is not compared. */
const char *twin_difference(const struct ledger *a, const struct ledger *b, struct diag *diag);

/* I3: the committed rows of two nodes that have exchanged everything. Change numbers and what each
 * knows for itself alone differ; records that have ended may be purged at one only. */
const char *pair_difference(const struct rows *a, const struct rows *b, struct diag *diag);
