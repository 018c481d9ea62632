/* Fresh databases for tests. The cluster comes from tests/lib/with-postgres. */
#pragma once

#include "base/must.h"
#include "store/store.h"

struct database {
    char name[64];
    char conninfo[400];
};

/* Creates an empty database, fails the test if it cannot; the second one ends its sessions too. */
void database_new(struct database *db);
void database_copy(const struct database *from, struct database *db); /* nobody may use `from` */
void database_drop(struct database *db);

/* Runs statements in a session of their own; fails the test if they fail. */
void database_exec(const struct database *db, const char *format, ...) PRINTF(2, 3);
/* In the cluster's first database: for ALTER SYSTEM, ALTER DATABASE and the like. */
void cluster_exec(const char *format, ...) PRINTF(1, 2);

/* Runs a file of statements, by its path in the source tree. */
void database_run(const struct database *db, const char *path);

/* The first column of the first row as text ("" if there is none). Static memory. */
const char *database_value(const struct database *db, const char *format, ...) PRINTF(2, 3);

/* Asks again until the query says 't'; fails the test after some seconds. */
void database_await(const struct database *db, const char *format, ...) PRINTF(2, 3);

/* Runs a command of deploy/lib/postgres.sh on the cluster: "pg_stop", "pg_start"… */
void cluster_command(const char *command);

/* Rows of schema/invariants.sql, "rule detail" a line; "" if all holds. To be freed by the caller.
 */
char *database_broken_rules(const struct database *db);
/* A file's text, by its path in the source tree. To be freed by the caller. */
char *source_text(const char *path);

/* ---- entitlements whose "JWS" is a line of words ----------------------------------------------
 */

/* A new entitlement with one feature for each pair of `scopes` and `seats`. */
struct entitlement *fake_entitlement(const struct uuid *ref, int64_t revision, size_t count,
                                     const struct uuid *scopes, const int64_t *seats);
/* A store_entitlement_open that reads them back. */
enum err fake_entitlement_open(void *context, const char *text, struct entitlement **out,
                               bool *trusted, struct diag *diag);
