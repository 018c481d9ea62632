/* libpq with deadlines. Every call that waits for the server is bounded, and every failure becomes
 * an enum err with a sentence. Private to node/store. */
#pragma once

#include <libpq-fe.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/uuid.h"

#define PG_CONNECT_SECONDS                                                                         \
    "5" /* for each host of the connection string, unless it says otherwise */
#define PG_STATEMENT_WAIT_MS 10000 /* for an answer to a short statement */

DEFINE_AUTO(PGresult *, PQclear)
DEFINE_AUTO(PGconn *, PQfinish)

/* ERR_STORE_AWAY, ERR_STORE_REFUSED, ERR_STORE_FULL…; ERR_CONFIG: not a connection string. The text
 * of a connection string is never repeated, it may hold a password. */
enum err pg_connect(const char *conninfo, PGconn **out, struct diag *diag) MUST_USE;

/* Runs one or several statements and throws their rows away. */
enum err pg_execute(PGconn *conn, const char *sql, int64_t wait_ms, struct diag *diag) MUST_USE;

enum err pg_prepare(PGconn *conn, const char *name, const char *sql, struct diag *diag) MUST_USE;

#define PG_PARAMS_MAX 16

/* Parameters of one statement, in binary. The buffers keep their memory from use to use. */
struct pg_params {
    struct buf values[PG_PARAMS_MAX];
    int count;
};

void pg_params_init(struct pg_params *params);
void pg_params_fini(struct pg_params *params);
DEFINE_AUTO_VALUE(struct pg_params, pg_params_fini)
void pg_params_clear(struct pg_params *params);
struct buf *pg_params_next(struct pg_params *params); /* an empty value, to be filled */
void pg_params_int64(struct pg_params *params, int64_t value);
void pg_params_bool(struct pg_params *params, bool value);
void pg_params_uuid(struct pg_params *params, const struct uuid *value);
void pg_params_text(struct pg_params *params, const char *value);

/* The parameters as libpq wants them. Points into params. */
struct pg_arguments {
    const char *values[PG_PARAMS_MAX];
    int lengths[PG_PARAMS_MAX], formats[PG_PARAMS_MAX];
};
void pg_params_list(const struct pg_params *params, struct pg_arguments *out);

/* Runs one statement; its rows are in binary. params may be NULL. The caller owns *out. */
enum err pg_query(PGconn *conn, const char *sql, const struct pg_params *params, int64_t wait_ms,
                  PGresult **out, struct diag *diag) MUST_USE;

/* Waits until the socket can be read, or also written if `writing`; false once the deadline has
 * passed. */
bool pg_wait(PGconn *conn, bool writing, struct boot deadline) MUST_USE;
struct boot pg_deadline(int64_t wait_ms);

/* Hands everything that was queued to the kernel. ERR_STORE_AWAY: not everything, or not certainly.
 */
enum err pg_flush(PGconn *conn, struct boot deadline, struct diag *diag) MUST_USE;

/* The next result of what was sent: ERR_OK with *out NULL at the end. ERR_STORE_AWAY: the session
 * ended or the deadline passed. */
enum err pg_result(PGconn *conn, struct boot deadline, PGresult **out, struct diag *diag) MUST_USE;

/* What a failed result means; a sentence in diag. ERR_OK if it did not fail. */
enum err pg_result_error(const PGconn *conn, const PGresult *result, struct diag *diag) MUST_USE;

/* True if the server itself said so and its session lives on: the statement had no effect. */
bool pg_result_clean(const PGresult *result);

/* A sentence for ERR_STORE_AWAY, with libpq's own words. */
enum err pg_away(const PGconn *conn, struct diag *diag);

/* One value of a row in binary, from a result or from COPY. */
struct pg_field {
    const char *bytes;
    int length; /* -1: NULL */
};

struct pg_field pg_cell(const PGresult *result, int row, int column);
/* False if the value is NULL or has the wrong size. */
bool pg_field_int64(struct pg_field field, int64_t *out) MUST_USE;
bool pg_field_int32(struct pg_field field, int32_t *out) MUST_USE;
bool pg_field_int16(struct pg_field field, int16_t *out) MUST_USE;
bool pg_field_bool(struct pg_field field, bool *out) MUST_USE;
bool pg_field_uuid(struct pg_field field, struct uuid *out) MUST_USE;
