#include "store/pg.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#define MESSAGE_SIZE    300
#define PARAM_BYTES_MAX (64u << 20)

DEFINE_AUTO(PQconninfoOption *, PQconninfoFree)

/* ---- what an SQLSTATE means ------------------------------------------------------------------ */

/* By prefix, the first that fits (PostgreSQL's Appendix A). */
static const struct {
    const char *prefix;
    enum err err;
} meanings[] = {
    { "08", ERR_STORE_AWAY },         /* connection */
    { "21", ERR_INTERNAL },           /* one record twice in a batch */
    { "22", ERR_INTERNAL },           /* a value PostgreSQL cannot store */
    { "23", ERR_INTERNAL },           /* a row that breaks its CHECK */
    { "25006", ERR_STORE_READ_ONLY }, /* read_only_sql_transaction */
    { "25P03", ERR_STORE_AWAY },      /* idle_in_transaction_session_timeout */
    { "28", ERR_STORE_REFUSED },      /* user, password, pg_hba.conf */
    { "3D000", ERR_STORE_REFUSED },   /* no such database */
    { "3F000", ERR_STORE_SCHEMA },    /* no such schema */
    { "40", ERR_STORE_AWAY },         /* rolled back: deadlock, serialization */
    { "42501", ERR_STORE_REFUSED },   /* insufficient_privilege */
    { "42703", ERR_STORE_SCHEMA },    /* undefined_column */
    { "42883", ERR_STORE_SCHEMA },    /* undefined_function */
    { "42P01", ERR_STORE_SCHEMA },    /* undefined_table */
    { "42P07", ERR_STORE_SCHEMA },    /* duplicate_table: somebody else's */
    { "42723", ERR_STORE_SCHEMA },    /* duplicate_function */
    { "53100", ERR_STORE_FULL },      /* disk_full */
    { "53", ERR_STORE_AWAY },         /* memory, connection slots */
    { "55", ERR_STORE_AWAY },         /* lock_not_available and the like */
    { "57P04", ERR_STORE_REFUSED },   /* database_dropped */
    { "57", ERR_STORE_AWAY },         /* shutdown, starting up, cancelled */
    { "58", ERR_STORE_AWAY },         /* the system under it */
    { "TL001", ERR_STORE_CORRUPT },   /* node_state_advance() */
    { "XX001", ERR_STORE_CORRUPT },   /* data_corrupted */
    { "XX002", ERR_STORE_CORRUPT },   /* index_corrupted */
};

static enum err sqlstate_meaning(const char *sqlstate)
{
    for (size_t i = 0; i < ARRAY_SIZE(meanings); i++) {
        if (!strncmp(sqlstate, meanings[i].prefix, strlen(meanings[i].prefix)))
            return meanings[i].err;
    }
    return ERR_INTERNAL;
}

/* The beginning of the sentence: what is wrong, and what can be done. */
static const char *advice(enum err err)
{
    switch (err) {
    case ERR_STORE_AWAY:
        return "the database does not answer";
    case ERR_STORE_REFUSED:
        return "the database refuses this node: correct DATABASE, or the role's rights";
    case ERR_STORE_READ_ONLY:
        return "the database is read-only: point DATABASE at a primary that takes writes";
    case ERR_STORE_FULL:
        return "the database has no space left: free some";
    case ERR_STORE_SCHEMA:
        return "the database's tables are not those of this program: give the node an empty "
               "database of its own";
    case ERR_STORE_CORRUPT:
        return "the database contradicts itself";
    default:
        return "the database refused a statement of this program";
    }
}

/* ---- messages -------------------------------------------------------------------------------- */

/* A severity and, with verbosity VERBOSE, an SQLSTATE: "FATAL:  3D000: database …". */
static const char *find_sqlstate(const char *message)
{
    for (const char *p = strstr(message, ":  "); p; p = strstr(p + 1, ":  ")) {
        if (strspn(p + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && p[8] == ':')
            return p + 3;
    }
    return NULL;
}

/* One line of libpq's words: lines joined, SQLSTATEs and source locations left out. */
static void tidy_message(const char *message, char out[MESSAGE_SIZE])
{
    size_t at = 0;

    while (*(message += strspn(message, " \t\n"))) {
        size_t length = strcspn(message, "\n");
        const char *sqlstate = find_sqlstate(message);
        if (sqlstate && sqlstate >= message + length)
            sqlstate = NULL;
        size_t head = sqlstate ? (size_t)(sqlstate - message) - 1 : length;
        const char *tail = sqlstate ? sqlstate + 6 : message + length;
        if (strncmp(message, "LOCATION:", 9) != 0) {
            int size = snprintf(out + at, MESSAGE_SIZE - at, "%s%.*s%.*s", at ? "; " : "",
                                (int)head, message, (int)(message + length - tail), tail);
            at += (size_t)size < MESSAGE_SIZE - at ? (size_t)size : MESSAGE_SIZE - at - 1;
        }
        message += length;
    }
    out[at] = '\0';
}

static enum err explain(struct diag *diag, enum err err, const char *message)
{
    char text[MESSAGE_SIZE];

    tidy_message(message, text);
    return diag_set(diag, err, "%s: %s", advice(err), *text ? text : "the connection was lost");
}

enum err pg_away(const PGconn *conn, struct diag *diag)
{
    return explain(diag, ERR_STORE_AWAY, PQerrorMessage(conn));
}

enum err pg_result_error(const PGconn *conn, const PGresult *result, struct diag *diag)
{
    switch (PQresultStatus(result)) {
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
    case PGRES_COPY_OUT:
    case PGRES_PIPELINE_SYNC:
        return ERR_OK;
    default:
        break;
    }
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    if (!sqlstate)
        return pg_away(conn, diag);
    return explain(diag, sqlstate_meaning(sqlstate), message ? message : sqlstate);
}

bool pg_result_clean(const PGresult *result)
{
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);

    return severity && !strcmp(severity, "ERROR");
}

/* ---- connecting ------------------------------------------------------------------------------ */

/* A password with an @ or a / in it makes libpq take its end for the name of a host or a port,
 * which then stands in messages. */
static bool is_misread_uri(const char *conninfo)
{
    const char *scheme = strstr(conninfo, "://");

    if (!scheme || strncmp(conninfo, "postgres", 8) != 0)
        return false;
    const char *authority = scheme + 3, *at = strchr(authority, '@');
    if (!at)
        return false;
    const char *slash = memchr(authority, '/', (size_t)(at - authority));
    if (slash) /* an @ in the query is none of ours */
        return !memchr(slash, '?', (size_t)(at - slash));
    return memchr(at + 1, '@', strcspn(at + 1, "?"));
}

static enum err check_conninfo(const char *conninfo, struct diag *diag)
{
    char *message = NULL;

    if (is_misread_uri(conninfo))
        return diag_set(diag, ERR_CONFIG,
                        "DATABASE: in the user name and the password of a URI @ must be written "
                        "as %%40, / as %%2F, : as %%3A and %% as %%25");
    AUTO(PQconninfoFree) PQconninfoOption *options = PQconninfoParse(conninfo, &message);

    PQfreemem(message); /* it quotes the text, which may hold a password */
    return options ? ERR_OK
                   : diag_set(diag, ERR_CONFIG,
                              "DATABASE is not a libpq connection string (host=… dbname=…) or URI "
                              "(postgresql://…)");
}

/* Words with which libpq refuses an option before it connects. */
static bool is_bad_option(const char *message)
{
    return !strncmp(message, "invalid ", 8) || !strncmp(message, "could not match ", 16);
}

static enum err connect_error(const PGconn *conn, struct diag *diag)
{
    const char *message = PQerrorMessage(conn);
    const char *sqlstate = find_sqlstate(message);
    char text[MESSAGE_SIZE];

    if (sqlstate)
        return explain(diag, sqlstate_meaning(sqlstate), message);
    if (PQconnectionNeedsPassword(conn))
        return explain(diag, ERR_STORE_REFUSED, message);
    if (!is_bad_option(message))
        return explain(diag, ERR_STORE_AWAY, message);
    tidy_message(message, text);
    return diag_set(diag, ERR_CONFIG, "DATABASE: %s", text);
}

static void ignore_notice(void *context, const PGresult *result)
{
    (void)context;
    (void)result;
}

/* Before dbname: defaults that the connection string may override. After it: not to be overridden.
 */
static const char *const option_names[] = {
    "connect_timeout",  "keepalives",
    "keepalives_idle",  "keepalives_interval",
    "keepalives_count", "tcp_user_timeout",
    "application_name", "dbname",
    "client_encoding",  NULL,
};

enum err pg_connect(const char *conninfo, PGconn **out, struct diag *diag)
{
    const char *const values[ARRAY_SIZE(option_names)] = {
        PG_CONNECT_SECONDS, "1", "10", "5", "3", "15000", "twinlease-node", conninfo, "UTF8", NULL,
    };
    enum err err = check_conninfo(conninfo, diag);

    if (err != ERR_OK)
        return err;
    AUTO(PQfinish) PGconn *conn = PQconnectdbParams(option_names, values, 1);
    must(conn);
    if (PQstatus(conn) != CONNECTION_OK) {
        /* libpq tells why a connection was refused in words only, unless it was asked to name the
         * SQLSTATE before it connects: so it tries once more. */
        PQsetErrorVerbosity(conn, PQERRORS_VERBOSE);
        PQreset(conn);
    }
    if (PQstatus(conn) != CONNECTION_OK)
        return connect_error(conn, diag);
    PQsetErrorVerbosity(conn, PQERRORS_DEFAULT);
    PQsetNoticeReceiver(conn, ignore_notice, NULL);
    if (PQsetnonblocking(conn, 1) != 0)
        return pg_away(conn, diag);
    *out = TAKE(conn);
    return ERR_OK;
}

/* ---- waiting --------------------------------------------------------------------------------- */

struct boot pg_deadline(int64_t wait_ms)
{
    return (struct boot){ boot_now().ms + wait_ms };
}

bool pg_wait(PGconn *conn, bool writing, struct boot deadline)
{
    struct pollfd fd = { .fd = PQsocket(conn), .events = POLLIN };

    if (writing)
        fd.events |= POLLOUT;
    for (;;) {
        int64_t left_ms = deadline.ms - boot_now().ms;
        if (left_ms <= 0)
            return false;
        int ready = poll(&fd, 1, left_ms < INT32_MAX ? (int)left_ms : INT32_MAX);
        if (ready > 0)
            return true;
        if (ready < 0 && errno != EINTR)
            return false;
    }
}

static enum err too_slow(struct diag *diag)
{
    return diag_set(diag, ERR_STORE_AWAY, "the database did not answer in time");
}

enum err pg_flush(PGconn *conn, struct boot deadline, struct diag *diag)
{
    int left;

    while ((left = PQflush(conn)) > 0) {
        if (!pg_wait(conn, true, deadline))
            return too_slow(diag);
        if (!PQconsumeInput(conn))
            return pg_away(conn, diag);
    }
    return left == 0 ? ERR_OK : pg_away(conn, diag);
}

enum err pg_result(PGconn *conn, struct boot deadline, PGresult **out, struct diag *diag)
{
    enum err err = pg_flush(conn, deadline, diag);

    if (err != ERR_OK)
        return err;
    while (PQisBusy(conn)) {
        if (!pg_wait(conn, false, deadline))
            return too_slow(diag);
        if (!PQconsumeInput(conn))
            return pg_away(conn, diag);
    }
    *out = PQgetResult(conn);
    return ERR_OK;
}

/* Reads all results of what was sent, keeps the last one. The first error counts. */
static enum err collect(PGconn *conn, int64_t wait_ms, PGresult **last, struct diag *diag)
{
    struct boot deadline = pg_deadline(wait_ms);
    enum err first = ERR_OK;

    for (;;) {
        PGresult *result = NULL;
        enum err err = pg_result(conn, deadline, &result, diag);
        if (err != ERR_OK || !result)
            return first != ERR_OK ? first : err;
        if (first == ERR_OK)
            first = pg_result_error(conn, result, diag);
        PQclear(*last);
        *last = result;
    }
}

enum err pg_execute(PGconn *conn, const char *sql, int64_t wait_ms, struct diag *diag)
{
    AUTO(PQclear) PGresult *last = NULL;

    if (!PQsendQuery(conn, sql))
        return pg_away(conn, diag);
    return collect(conn, wait_ms, &last, diag);
}

enum err pg_prepare(PGconn *conn, const char *name, const char *sql, struct diag *diag)
{
    AUTO(PQclear) PGresult *last = NULL;

    if (!PQsendPrepare(conn, name, sql, 0, NULL))
        return pg_away(conn, diag);
    return collect(conn, PG_STATEMENT_WAIT_MS, &last, diag);
}

enum err pg_query(PGconn *conn, const char *sql, const struct pg_params *params, int64_t wait_ms,
                  PGresult **out, struct diag *diag)
{
    AUTO(PQclear) PGresult *last = NULL;
    struct pg_arguments arguments;

    if (params)
        pg_params_list(params, &arguments);
    if (!PQsendQueryParams(conn, sql, params ? params->count : 0, NULL,
                           params ? arguments.values : NULL, params ? arguments.lengths : NULL,
                           params ? arguments.formats : NULL, 1))
        return pg_away(conn, diag);
    enum err err = collect(conn, wait_ms, &last, diag);
    if (err == ERR_OK)
        *out = TAKE(last);
    return err;
}

/* ---- parameters ------------------------------------------------------------------------------ */

void pg_params_init(struct pg_params *params)
{
    params->count = 0;
    for (size_t i = 0; i < PG_PARAMS_MAX; i++)
        buf_init(&params->values[i], PARAM_BYTES_MAX);
}

void pg_params_fini(struct pg_params *params)
{
    for (size_t i = 0; i < PG_PARAMS_MAX; i++)
        buf_fini(&params->values[i]);
}

void pg_params_clear(struct pg_params *params)
{
    params->count = 0;
}

struct buf *pg_params_next(struct pg_params *params)
{
    must(params->count < PG_PARAMS_MAX);
    struct buf *value = &params->values[params->count++];
    buf_clear(value);
    return value;
}

void pg_params_int64(struct pg_params *params, int64_t value)
{
    buf_be64(pg_params_next(params), (uint64_t)value);
}

void pg_params_bool(struct pg_params *params, bool value)
{
    buf_append(pg_params_next(params), value ? "\1" : "\0", 1);
}

void pg_params_uuid(struct pg_params *params, const struct uuid *value)
{
    buf_append(pg_params_next(params), value->bytes, sizeof value->bytes);
}

void pg_params_text(struct pg_params *params, const char *value)
{
    buf_text_append(pg_params_next(params), value);
}

void pg_params_list(const struct pg_params *params, struct pg_arguments *out)
{
    for (int i = 0; i < params->count; i++) {
        const struct buf *value = &params->values[i];
        must(buf_ok(value)); /* callers keep below PARAM_BYTES_MAX */
        out->values[i] = buf_text(value);
        out->lengths[i] = (int)value->length;
        out->formats[i] = 1;
    }
}

/* ---- values ---------------------------------------------------------------------------------- */

struct pg_field pg_cell(const PGresult *result, int row, int column)
{
    if (PQgetisnull(result, row, column))
        return (struct pg_field){ NULL, -1 };
    return (struct pg_field){ PQgetvalue(result, row, column), PQgetlength(result, row, column) };
}

static bool read_be(struct pg_field field, int size, uint64_t *out)
{
    uint64_t value = 0;

    if (field.length != size)
        return false;
    for (int i = 0; i < size; i++)
        value = value << 8 | (unsigned char)field.bytes[i];
    *out = value;
    return true;
}

bool pg_field_int64(struct pg_field field, int64_t *out)
{
    uint64_t value;

    if (!read_be(field, 8, &value))
        return false;
    *out = (int64_t)value;
    return true;
}

bool pg_field_int32(struct pg_field field, int32_t *out)
{
    uint64_t value;

    if (!read_be(field, 4, &value))
        return false;
    *out = (int32_t)(uint32_t)value;
    return true;
}

bool pg_field_int16(struct pg_field field, int16_t *out)
{
    uint64_t value;

    if (!read_be(field, 2, &value))
        return false;
    *out = (int16_t)(uint16_t)value;
    return true;
}

bool pg_field_bool(struct pg_field field, bool *out)
{
    if (field.length != 1 || (unsigned char)field.bytes[0] > 1)
        return false;
    *out = field.bytes[0];
    return true;
}

bool pg_field_uuid(struct pg_field field, struct uuid *out)
{
    if (field.length != (int)sizeof out->bytes)
        return false;
    memcpy(out->bytes, field.bytes, sizeof out->bytes);
    return true;
}
