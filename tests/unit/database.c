#include "database.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/random.h"
#include "store/pg.h"

#define AWAIT_MS     20000
#define EXEC_WAIT_MS 60000

extern char **environ;

static const char *test_environment(const char *name)
{
    const char *value = getenv(name);

    if (!value)
        fail_msg("%s is not set: run this under tests/lib/with-postgres", name);
    return value;
}

static PGconn *connect_to(const char *conninfo)
{
    struct diag diag = { "" };
    PGconn *conn = NULL;

    if (pg_connect(conninfo, &conn, &diag) != ERR_OK)
        fail_msg("%s", diag.text);
    return conn;
}

static void run(const char *conninfo, const char *sql)
{
    AUTO(PQfinish) PGconn *conn = connect_to(conninfo);
    struct diag diag = { "" };

    if (pg_execute(conn, sql, EXEC_WAIT_MS, &diag) != ERR_OK)
        fail_msg("%s\n%s", sql, diag.text);
}

#define FORMAT(buf, format)                                                                        \
    do {                                                                                           \
        va_list args_;                                                                             \
        va_start(args_, format);                                                                   \
        assert_true(vsnprintf(buf, sizeof buf, format, args_) < (int)sizeof buf);                  \
        va_end(args_);                                                                             \
    } while (0)

void cluster_exec(const char *format, ...)
{
    char sql[4000];

    FORMAT(sql, format);
    run(test_environment("TWINLEASE_TEST_DATABASE"), sql);
}

void database_exec(const struct database *db, const char *format, ...)
{
    char sql[4000];

    FORMAT(sql, format);
    run(db->conninfo, sql);
}

void database_run(const struct database *db, const char *path)
{
    AUTO(mem_free) char *sql = source_text(path);

    run(db->conninfo, sql);
}

static char *query_text(const char *conninfo, const char *sql)
{
    AUTO(PQfinish) PGconn *conn = connect_to(conninfo);
    AUTO(PQclear) PGresult *result = NULL;
    struct diag diag = { "" };
    struct buf text;

    if (pg_query(conn, sql, NULL, EXEC_WAIT_MS, &result, &diag) != ERR_OK)
        fail_msg("%s\n%s", sql, diag.text);
    buf_init(&text, 1u << 20);
    for (int row = 0; row < PQntuples(result); row++) {
        for (int column = 0; column < PQnfields(result); column++)
            buf_format(&text, "%s%s",
                       column ? " "
                       : row  ? "\n"
                              : "",
                       PQgetvalue(result, row, column));
    }
    return buf_take(&text);
}

const char *database_value(const struct database *db, const char *format, ...)
{
    static char value[1000];
    char sql[3000], cast[3200];

    FORMAT(sql, format);
    snprintf(cast, sizeof cast, "SELECT (%s)::text", sql);
    AUTO(mem_free) char *text = query_text(db->conninfo, cast);
    snprintf(value, sizeof value, "%s", text);
    return value;
}

void database_await(const struct database *db, const char *format, ...)
{
    struct boot deadline = pg_deadline(AWAIT_MS);
    char sql[3000];

    FORMAT(sql, format);
    while (strcmp(database_value(db, "%s", sql), "true") != 0) {
        if (boot_now().ms > deadline.ms)
            fail_msg("never became true: %s", sql);
        usleep(10000);
    }
}

static void create(struct database *db, const char *template_name)
{
    static int count;

    snprintf(db->name, sizeof db->name, "test_%d_%d", getpid(), ++count);
    cluster_exec("CREATE DATABASE %s TEMPLATE %s", db->name, template_name);
    snprintf(db->conninfo, sizeof db->conninfo, "%s dbname=%s",
             test_environment("TWINLEASE_TEST_DATABASE"), db->name);
}

void database_new(struct database *db)
{
    create(db, "template1");
}

void database_copy(const struct database *from, struct database *db)
{
    create(db, from->name);
}

void database_drop(struct database *db)
{
    cluster_exec("DROP DATABASE %s WITH (FORCE)", db->name);
}

void cluster_command(const char *command)
{
    char script[1000];
    char *const argv[] = { (char[]){ "bash" }, (char[]){ "-c" }, script, NULL };
    pid_t pid;
    int status;

    assert_true(snprintf(script, sizeof script, ". '%s/deploy/lib/postgres.sh' && %s '%s'",
                         SOURCE_DIR, command,
                         test_environment("TWINLEASE_TEST_CLUSTER")) < (int)sizeof script);
    assert_int_equal(posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

char *source_text(const char *path)
{
    struct buf text;
    char piece[4096], whole[500];
    ssize_t size;

    assert_true(snprintf(whole, sizeof whole, "%s/%s", SOURCE_DIR, path) < (int)sizeof whole);
    int fd = open(whole, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    buf_init(&text, 1u << 20);
    while ((size = read(fd, piece, sizeof piece)) > 0)
        buf_append(&text, piece, (size_t)size);
    assert_int_equal(size, 0);
    close(fd);
    return buf_take(&text);
}

char *database_broken_rules(const struct database *db)
{
    AUTO(mem_free) char *sql = source_text("schema/invariants.sql");

    return query_text(db->conninfo, sql);
}

/* ---- entitlements ---------------------------------------------------------------------------- */

/* Not a hash, but different texts give different bytes. */
static void fake_sha256(const char *text, uint8_t out[32])
{
    uint64_t sum = 14695981039346656037u;

    for (size_t i = 0; i < 4; i++) {
        for (const char *p = text; *p; p++)
            sum = (sum ^ (unsigned char)*p) * 1099511628211u;
        memcpy(out + 8 * i, &sum, sizeof sum);
    }
}

static struct entitlement *build(const struct uuid *ref, int64_t revision, size_t count,
                                 const struct uuid *scopes, const int64_t *seats, const char *text)
{
    struct entitlement *e = entitlement_new(count);

    e->entitlement_ref = *ref;
    e->revision = revision;
    snprintf(e->publisher, sizeof e->publisher, "example");
    e->issued_ms = e->begins_ms = 1000;
    e->ends_ms = INT64_C(4000000000000);
    e->text = mem_strdup(text);
    fake_sha256(text, e->sha256);
    for (size_t i = 0; i < count; i++) {
        e->features[i] =
            (struct feature){ .scope_ref = scopes[i], .seats = seats[i], .lease_max_ms = 86400000 };
        snprintf(e->features[i].name, sizeof e->features[i].name, "feature%zu", i);
    }
    return e;
}

struct entitlement *fake_entitlement(const struct uuid *ref, int64_t revision, size_t count,
                                     const struct uuid *scopes, const int64_t *seats)
{
    AUTO(buf_fini) struct buf text;
    char uuid[UUID_TEXT_SIZE];

    buf_init(&text, ENTITLEMENT_TEXT_MAX);
    uuid_format(ref, uuid);
    buf_format(&text, "%s %" PRId64 " %zu", uuid, revision, count);
    for (size_t i = 0; i < count; i++) {
        uuid_format(&scopes[i], uuid);
        buf_format(&text, " %s %" PRId64, uuid, seats[i]);
    }
    return build(ref, revision, count, scopes, seats, buf_text(&text));
}

static bool next_uuid(const char **text, struct uuid *out)
{
    const char *word = *text + strspn(*text, " ");
    size_t length = strcspn(word, " ");

    *text = word + length;
    return uuid_parse(word, length, out);
}

static int64_t next_number(const char **text)
{
    char *end;
    int64_t number = strtoll(*text, &end, 10);

    *text = end;
    return number;
}

enum err fake_entitlement_open(void *context, const char *text, struct entitlement **out,
                               bool *trusted, struct diag *diag)
{
    const char *at = text;
    struct uuid ref, scopes[ENTITLEMENT_FEATURES_MAX];
    int64_t seats[ENTITLEMENT_FEATURES_MAX];

    (void)context;
    if (!next_uuid(&at, &ref))
        return diag_set(diag, ERR_ENT_MALFORMED, "not an entitlement: %s", text);
    int64_t revision = next_number(&at);
    size_t count = (size_t)next_number(&at);
    assert_true(count <= ENTITLEMENT_FEATURES_MAX);
    for (size_t i = 0; i < count; i++) {
        assert_true(next_uuid(&at, &scopes[i]));
        seats[i] = next_number(&at);
    }
    *out = build(&ref, revision, count, scopes, seats, text);
    *trusted = true;
    return ERR_OK;
}
