/* Settings: what is taken, what is refused and with which words, and what is never printed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <json-c/json.h>

#include "config.h"

DEFINE_AUTO(struct config *, config_free)
DEFINE_AUTO(struct json_object *, json_object_put)

#define ENVIRONMENT(...) environment_of((const char *const[]){ __VA_ARGS__, NULL })
#define DB               "DATABASE=host=/run/pg dbname=twinlease"

/* Literals as execve(2) types them; nobody writes to them. */
static char *const *environment_of(const char *const *texts)
{
    char *const *environment;

    memcpy(&environment, &texts, sizeof environment);
    return environment;
}

static struct config *read_environment(char *const *environment)
{
    struct config *config = NULL;
    struct diag diag = { "" };

    if (config_read(NULL, environment, &config, &diag) != ERR_OK)
        fail_msg("refused: %s", diag.text);
    assert_non_null(config);
    return config;
}

/* Reads text as a file that is called node.conf in the working folder. */
static enum err read_file(const char *text, size_t size, char *const *environment,
                          struct config **out, struct diag *diag)
{
    char folder[] = "/tmp/test_config.XXXXXX";
    char before[4096];

    assert_non_null(getcwd(before, sizeof before));
    assert_non_null(mkdtemp(folder));
    assert_int_equal(chdir(folder), 0);
    FILE *file = fopen("node.conf", "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    enum err e = config_read("node.conf", environment, out, diag);
    assert_int_equal(unlink("node.conf"), 0);
    assert_int_equal(chdir(before), 0);
    assert_int_equal(rmdir(folder), 0);
    return e;
}

static struct config *read_text(const char *text, char *const *environment)
{
    struct config *config = NULL;
    struct diag diag = { "" };

    if (read_file(text, strlen(text), environment, &config, &diag) != ERR_OK)
        fail_msg("refused: %s", diag.text);
    return config;
}

static void assert_text_refused(const char *text, const char *message)
{
    struct config *config = NULL;
    struct diag diag = { "" };

    assert_int_equal(read_file(text, strlen(text), NULL, &config, &diag), ERR_CONFIG);
    assert_string_equal(diag.text, message);
    assert_null(config);
}

static void assert_environment_refused(char *const *environment, const char *message)
{
    struct config *config = NULL;
    struct diag diag = { "" };

    assert_int_equal(config_read(NULL, environment, &config, &diag), ERR_CONFIG);
    assert_string_equal(diag.text, message);
    assert_null(config);
}

static void test_defaults(void **state)
{
    (void)state;
    AUTO(config_free) struct config *c = read_environment(ENVIRONMENT(DB));

    assert_false(c->debug);
    assert_string_equal(c->dls_url, "localhost");
    assert_int_equal(c->dls_port.value, 443);
    assert_string_equal(c->listen.host, "::");
    assert_int_equal(c->listen.port, 443);
    assert_null(c->ha_replicate.host);
    assert_int_equal(c->ha_role, HA_NONE);
    assert_string_equal(c->tls_cert, "/var/lib/twinlease/tls.cert.pem");
    assert_string_equal(c->cors_origins, "https://localhost");
    assert_null(c->viewer_token_file);
    assert_int_equal(config_lease_max_ms(c), 86400000);
    assert_true(c->lease_renewal_period > 0.1499 && c->lease_renewal_period < 0.1501);
}

static void test_defaults_follow_other_settings(void **state)
{
    (void)state;
    AUTO(config_free)
    struct config *c =
        read_environment(ENVIRONMENT(DB, "STATE_DIR=/srv/tl", "DLS_PORT=8443", "DLS_URL=::1"));

    assert_string_equal(c->dls_url, "[::1]");
    assert_int_equal(c->listen.port, 8443);
    assert_string_equal(c->admin_token_file, "/srv/tl/admin.token");
    assert_string_equal(c->cors_origins, "https://[::1]");
}

static void test_lease_limit_in_three_units(void **state)
{
    (void)state;
    AUTO(config_free)
    struct config *days = read_environment(ENVIRONMENT(DB, "LEASE_EXPIRE_DAYS=90"));
    AUTO(config_free)
    struct config *hours =
        read_environment(ENVIRONMENT(DB, "LEASE_EXPIRE_DAYS=90", "LEASE_EXPIRE_HOURS=3"));
    AUTO(config_free)
    struct config *seconds =
        read_environment(ENVIRONMENT(DB, "LEASE_EXPIRE_HOURS=3", "LEASE_EXPIRE_SECONDS=20"));

    assert_int_equal(config_lease_max_ms(days), 7776000000);
    assert_int_equal(config_lease_max_ms(hours), 10800000);
    assert_int_equal(config_lease_max_ms(seconds), 20000);
}

static void test_file_syntax(void **state)
{
    (void)state;
    AUTO(config_free)
    struct config *c = read_text("# a comment\n"
                                 "; another\n"
                                 "\n"
                                 "  DATABASE=host=/run/pg dbname='a b'  \r\n"
                                 "STATE_DIR='/srv/#1 \\ \"x\"'\n"
                                 "\tTLS_CA=\"/srv/\\\"q\\\"/\\$x\\n\"\n"
                                 "DEBUG=Yes\n"
                                 "DLS_PORT= 8443",
                                 NULL);

    assert_string_equal(c->database, "host=/run/pg dbname='a b'");
    assert_string_equal(c->state_dir, "/srv/#1 \\ \"x\"");
    assert_string_equal(c->tls_ca, "/srv/\"q\"/$x\\n");
    assert_true(c->debug);
    assert_int_equal(c->dls_port.value, 8443);
}

static void test_environment_goes_before_file(void **state)
{
    (void)state;
    AUTO(config_free)
    struct config *c =
        read_text("DLS_PORT=1\nDLS_URL=file\nVIEWER_TOKEN_FILE=/v\n",
                  ENVIRONMENT(DB, "DLS_PORT=2", "VIEWER_TOKEN_FILE=", "OTHER=x", "dls_url=y"));

    assert_int_equal(c->dls_port.value, 2);
    assert_string_equal(c->dls_url, "file");
    assert_null(c->viewer_token_file);
}

static void test_bad_environment_value_hides_no_file_error(void **state)
{
    struct config *config = NULL;
    struct diag diag;
    const char *text = "DLS_PORTS=1\n";

    (void)state;
    assert_int_equal(read_file(text, strlen(text), ENVIRONMENT(DB, "DLS_PORT=2"), &config, &diag),
                     ERR_CONFIG);
    assert_string_equal(diag.text,
                        "node.conf:1: there is no setting DLS_PORTS; did you mean DLS_PORT?");
}

static void test_file_refusals(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        { "DLS_PORT 443", "node.conf:1: expected NAME=value, a # comment or an empty line" },
        { "\n\nexport DLS_PORT=443",
          "node.conf:3: expected NAME=value, a # comment or an empty line" },
        { "postgres://u:pw@h/db?x=1",
          "node.conf:1: expected NAME=value, a # comment or an empty line" },
        { "DATABASE='x\ny'", "node.conf:1: DATABASE: the quote is not closed on this line" },
        { "DATABASE=\"x\\\"", "node.conf:1: DATABASE: the quote is not closed on this line" },
        { "DATABASE='x'y", "node.conf:1: DATABASE: something follows the closing quote" },
        { "DATABASE=x\\", "node.conf:1: DATABASE: a value with a backslash must be in quotes" },
        { "DEBUG=1\nDATABASE=x\nDEBUG=0", "node.conf:3: DEBUG stands twice, first in line 1" },
        { "DATABSE=x", "node.conf:1: there is no setting DATABSE; did you mean DATABASE?" },
        { "database=x", "node.conf:1: there is no setting database; did you mean DATABASE?" },
        { "QUITE_ANOTHER_THING=x",
          "node.conf:1: there is no setting QUITE_ANOTHER_THING; --help lists them" },
        { "DEBUG=1", "DATABASE is not set: libpq connection string or URI of this node's own "
                     "PostgreSQL database" },
        { "DATABASE=x\nDLS_PORT=70000",
          "node.conf:2: DLS_PORT is \"70000\"; allowed: a whole number from 1 to 65535" },
        { "DATABASE=x\nSTATE_DIR=/a\tb",
          "node.conf:2: STATE_DIR has a control character or bytes that are no UTF-8" },
        { "DATABASE=pass\001word",
          "node.conf:1: DATABASE has a control character or bytes that are no UTF-8" },
        { "DATABASE=x\nSTATE_DIR=/\xc3",
          "node.conf:2: STATE_DIR has a control character or bytes that are no UTF-8" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_text_refused(cases[i].text, cases[i].message);
}

static void test_nul_byte_is_refused(void **state)
{
    static const char text[] = "DATABASE=x\nDLS_URL=a\0b\n";
    struct config *config = NULL;
    struct diag diag;

    (void)state;
    assert_int_equal(read_file(text, sizeof text - 1, NULL, &config, &diag), ERR_CONFIG);
    assert_string_equal(diag.text, "node.conf:2: the line has a NUL byte");
}

static void test_missing_and_large_file(void **state)
{
    struct config *config = NULL;
    struct diag diag;
    size_t size = 300 << 10;
    AUTO(mem_free) char *text = mem_alloc(size);

    (void)state;
    assert_int_equal(config_read("/nonexistent/node.conf", NULL, &config, &diag), ERR_CONFIG);
    assert_string_equal(diag.text,
                        "/nonexistent/node.conf: cannot be opened: No such file or directory");
    assert_int_equal(config_read("/", NULL, &config, &diag), ERR_CONFIG);
    assert_string_equal(diag.text, "/: cannot be read: Is a directory");
    memset(text, '#', size);
    assert_int_equal(read_file(text, size, NULL, &config, &diag), ERR_CONFIG);
    assert_string_equal(diag.text, "node.conf: is larger than 262144 bytes");
}

/* One bad and one good value for each type, with the words that say what is allowed. */
static void test_values(void **state)
{
    static const struct {
        const char *name, *bad, *good, *allowed;
    } cases[] = {
        { "DEBUG", "maybe", "off", "true or false" },
        { "LOG_FORMAT", "xml", "text", "auto, json or text" },
        { "DLS_URL", "https://a.example", "a.example",
          "a host name or an address, without scheme and port" },
        { "DLS_URL", "a.example:443", "10.0.0.1",
          "a host name or an address, without scheme and port" },
        { "DLS_URL", "256.1.1.1", "node-7.example",
          "a host name or an address, without scheme and port" },
        { "DLS_URL", "17", "7-node", "a host name or an address, without scheme and port" },
        { "LISTEN", "1.2.3:443", "1.2.3.4:443",
          "host:port with a port from 1 to 65535, an IPv6 address in brackets" },
        { "CORS_ORIGINS", "https://1.2.3.256", "https://1.2.3.25",
          "https://host or https://host:port without a path, comma-separated" },
        { "DLS_URL", "[::1", "[::1]", "a host name or an address, without scheme and port" },
        { "DLS_PORT", "0", "65535", "a whole number from 1 to 65535" },
        { "DLS_PORT", "+1", "1", "a whole number from 1 to 65535" },
        { "DLS_PORT", "99999999999999999999", "443", "a whole number from 1 to 65535" },
        { "LISTEN", ":443", "0.0.0.0:443",
          "host:port with a port from 1 to 65535, an IPv6 address in brackets" },
        { "LISTEN", "::1:443", "[::1]:443",
          "host:port with a port from 1 to 65535, an IPv6 address in brackets" },
        { "LISTEN", "[::g]:443", "[fe80::1]:443",
          "host:port with a port from 1 to 65535, an IPv6 address in brackets" },
        { "INSTANCE_REF", "00000000-0000-0000-0000-000000000000",
          "6f1ed002-ab5e-4d2a-9c1e-0123456789ab",
          "a UUID such as 6f1ed002-ab5e-4d2a-9c1e-0123456789ab, not nil" },
        { "INSTANCE_REF", "6f1ed002", "6F1ED002-AB5E-4D2A-9C1E-0123456789AB",
          "a UUID such as 6f1ed002-ab5e-4d2a-9c1e-0123456789ab, not nil" },
        { "LEASE_RENEWAL_PERIOD", "0", "0.5", "a number over 0 and below 1, such as 0.15" },
        { "LEASE_RENEWAL_PERIOD", "1", ".9", "a number over 0 and below 1, such as 0.15" },
        { "LEASE_RENEWAL_PERIOD", "1e-1", "0.999", "a number over 0 and below 1, such as 0.15" },
        { "LEASE_RENEWAL_PERIOD", ".", "0.0001", "a number over 0 and below 1, such as 0.15" },
        { "CORS_ORIGINS", "https://a.example/", "https://a.example, http://b:8080",
          "https://host or https://host:port without a path, comma-separated" },
        { "CORS_ORIGINS", "*", "https://[::1]:8443",
          "https://host or https://host:port without a path, comma-separated" },
        { "LEASE_EXPIRE_DAYS", "91", "90", "a whole number from 1 to 90" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char setting[256], message[400];

        snprintf(setting, sizeof setting, "%s=%s", cases[i].name, cases[i].bad);
        snprintf(message, sizeof message, "environment: %s is \"%s\"; allowed: %s", cases[i].name,
                 cases[i].bad, cases[i].allowed);
        assert_environment_refused(ENVIRONMENT(DB, setting), message);
        snprintf(setting, sizeof setting, "%s=%s", cases[i].name, cases[i].good);
        config_free(read_environment(ENVIRONMENT(DB, setting)));
    }
}

static void test_long_value_is_cut_in_message(void **state)
{
    char setting[700] = "DLS_URL=";
    struct config *config = NULL;
    struct diag diag;

    (void)state;
    memset(setting + 8, 'x', sizeof setting - 9);
    assert_int_equal(config_read(NULL, ENVIRONMENT(DB, setting), &config, &diag), ERR_CONFIG);
    assert_non_null(strstr(diag.text, "xxx...\"; allowed: a host name"));
    assert_true(strlen(diag.text) < 200);
}

static void test_contradictions(void **state)
{
    (void)state;
    assert_environment_refused(
        ENVIRONMENT(DB, "HA_REPLICATE=b:443"),
        "HA_REPLICATE is set, but HA_ROLE is not; allowed: PRIMARY or SECONDARY");
    assert_environment_refused(
        ENVIRONMENT(DB, "HA_ROLE=PRIMARY"),
        "HA_ROLE is set, but HA_REPLICATE is not; it names the other node, host:port");
    assert_environment_refused(ENVIRONMENT(DB, "HA_ROLE=PRIMARY", "HA_REPLICATE=Node-A:8443",
                                           "DLS_URL=node-a", "DLS_PORT=8443"),
                               "HA_REPLICATE is this node's own DLS_URL:DLS_PORT (node-a:8443); it "
                               "must name the other node");
    assert_environment_refused(
        ENVIRONMENT(DB, "HA_ROLE=PRIMARY", "HA_REPLICATE=[::1]:443", "DLS_URL=::1"),
        "HA_REPLICATE is this node's own DLS_URL:DLS_PORT ([::1]:443); it must name the other "
        "node");
    assert_environment_refused(ENVIRONMENT(DB, "TLS_CERT=/a.pem", "TLS_KEY=/a.pem"),
                               "TLS_CERT and TLS_KEY are the same file, /a.pem");
    assert_environment_refused(ENVIRONMENT(DB, "VIEWER_TOKEN_FILE=/var/lib/twinlease/admin.token"),
                               "ADMIN_TOKEN_FILE and VIEWER_TOKEN_FILE are the same file, "
                               "/var/lib/twinlease/admin.token");
    config_free(read_environment(ENVIRONMENT(DB, "HA_ROLE=SECONDARY", "HA_REPLICATE=localhost:8443",
                                             "TLS_CA=/a", "TLS_CERT=/a")));
}

static void test_only_our_names_in_environment(void **state)
{
    (void)state;
    config_free(
        read_environment(ENVIRONMENT(DB, "DLS_PORTS=1", "PATH=/bin", "TWINLEASE=1", "=x", "y")));
    config_free(read_environment(ENVIRONMENT(DB, "TWINLEASE_URL=x", "TWINLEASE_TOKEN_FILE=y")));
    assert_environment_refused(
        ENVIRONMENT(DB, "TWINLEASE_DLS_PORT=1"),
        "environment: there is no setting TWINLEASE_DLS_PORT; did you mean DLS_PORT?");
}

/* Whatever goes wrong or is asked, a database password stays inside. */
static void test_secret_is_never_printed(void **state)
{
    char setting[5000] = "DATABASE=postgres://u:hunter2@h/";
    struct config *config = NULL;
    struct diag diag;

    (void)state;
    memset(setting + strlen(setting), 'x', sizeof setting - strlen(setting) - 1);
    assert_environment_refused(
        ENVIRONMENT(setting),
        "environment: DATABASE has a bad value; allowed: 1 to 4096 characters");
    const char *unclosed = "DATABASE='postgres://u:hunter2@h/db";
    assert_int_equal(read_file(unclosed, strlen(unclosed), NULL, &config, &diag), ERR_CONFIG);
    assert_null(strstr(diag.text, "hunter2"));

    AUTO(config_free)
    struct config *c = read_environment(ENVIRONMENT("DATABASE=postgres://u:hunter2@h/db"));
    AUTO(json_object_put) struct json_object *json = config_json(c);
    const char *text = json_object_to_json_string(json);
    assert_null(strstr(text, "hunter2"));
    assert_non_null(strstr(text, "\"(set)\""));
}

static struct json_object *json_at(struct json_object *all, const char *name, const char *member)
{
    struct json_object *one = json_object_object_get(all, name);

    assert_non_null(one);
    return json_object_object_get(one, member);
}

static void test_json(void **state)
{
    (void)state;
    AUTO(config_free)
    struct config *c = read_text("DLS_PORT=8443\n", ENVIRONMENT(DB, "LISTEN=[::1]:9"));
    AUTO(json_object_put) struct json_object *json = config_json(c);

    assert_int_equal(json_object_get_int(json_at(json, "DLS_PORT", "value")), 8443);
    assert_string_equal(json_object_get_string(json_at(json, "DLS_PORT", "source")), "file");
    assert_string_equal(json_object_get_string(json_at(json, "DLS_PORT", "default")), "443");
    assert_string_equal(json_object_get_string(json_at(json, "LISTEN", "value")), "[::1]:9");
    assert_string_equal(json_object_get_string(json_at(json, "LISTEN", "source")), "environment");
    assert_string_equal(json_object_get_string(json_at(json, "DLS_URL", "source")), "default");
    assert_null(json_at(json, "HA_ROLE", "value"));
    assert_true(json_object_is_type(json_at(json, "DEBUG", "value"), json_type_boolean));
    assert_string_equal(json_object_get_string(json_at(json, "LEASE_RENEWAL_PERIOD", "value")),
                        "0.15");
}

static void assert_help_has(void (*help)(FILE *), const char *line)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    assert_non_null(out);
    help(out);
    assert_int_equal(fclose(out), 0);
    if (!strstr(text, line))
        fail_msg("no line \"%s\" in:\n%s", line, text);
    free(text);
}

static void test_help(void **state)
{
    (void)state;
    assert_help_has(config_help,
                    "  DLS_PORT               port under which they reach it (1 to 65535) [443]\n");
    assert_help_has(config_help, "[required]\n");
    assert_help_has(config_help_markdown,
                    "| variable | default | meaning |\n| --- | --- | --- |\n");
    assert_help_has(config_help_markdown,
                    "| `HA_REPLICATE` | – | host:port of the other node; each names the other |\n");
    assert_help_has(config_help_man, ".TP\n.B LISTEN\naddress to bind, host:port.\nDefault: "
                                     "[::]:{DLS_PORT}.\n");
    assert_help_has(config_help_man, "self\\-signed if absent");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_defaults_follow_other_settings),
        cmocka_unit_test(test_lease_limit_in_three_units),
        cmocka_unit_test(test_file_syntax),
        cmocka_unit_test(test_environment_goes_before_file),
        cmocka_unit_test(test_bad_environment_value_hides_no_file_error),
        cmocka_unit_test(test_file_refusals),
        cmocka_unit_test(test_nul_byte_is_refused),
        cmocka_unit_test(test_missing_and_large_file),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_long_value_is_cut_in_message),
        cmocka_unit_test(test_contradictions),
        cmocka_unit_test(test_only_our_names_in_environment),
        cmocka_unit_test(test_secret_is_never_printed),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_help),
    };

    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
