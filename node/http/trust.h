/* The trusted publishers as a snapshot that SIGHUP replaces while event loops and the ledger thread
 * use it: whoever verifies an entitlement holds one snapshot for as long as it takes. Thread-safe.
 */
#pragma once

#include "token/publisher.h"

struct trust;

/* Reads the folder. An absent or empty one is no error (publishers_read). */
enum err trust_open(const char *folder, struct trust **out, struct diag *diag) MUST_USE;
struct trust *trust_free(struct trust *trust); /* NULL in, NULL out; no snapshot may be held */

/* Reads the folder again. On an error the old snapshot stays. */
enum err trust_reload(struct trust *trust, struct diag *diag) MUST_USE;

struct trust_snapshot;
struct trust_snapshot *trust_get(struct trust *trust); /* the caller gives it to trust_put() */
void trust_put(struct trust_snapshot *snapshot);
DEFINE_AUTO(struct trust_snapshot *, trust_put)
const struct publishers *trust_publishers(const struct trust_snapshot *snapshot);
