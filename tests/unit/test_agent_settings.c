/* The agent's settings: what is taken, what is refused and with which words; and that its README
 * tells what the table says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/settings.h"
#include "base/file.h"

#define SCOPE "6f1ed002-ab5e-4d2a-9c1e-0123456789ab"

#define ENVIRONMENT(...) environment_of((const char *const[]){ __VA_ARGS__, NULL })

/* Literals as execve(2) types them; nobody writes to them. */
static char *const *environment_of(const char *const *texts)
{
    char *const *environment;

    memcpy(&environment, &texts, sizeof environment);
    return environment;
}

static struct agent_settings *read_text(const char *text, char *const *environment)
{
    struct agent_settings *settings = NULL;
    struct diag diag = { "" };

    if (agent_settings_parse(text, strlen(text), environment, &settings, &diag) != ERR_OK)
        fail_msg("refused: %s", diag.text);
    return settings;
}

static void assert_refused(const char *text, const char *message)
{
    struct agent_settings *settings = NULL;
    struct diag diag = { "" };

    assert_int_equal(agent_settings_parse(text, strlen(text), NULL, &settings, &diag), ERR_CONFIG);
    assert_string_equal(diag.text, message);
    assert_null(settings);
}

static void test_defaults(void **state)
{
    (void)state;
    struct diag diag = { "" };
    AUTO(agent_settings_free) struct agent_settings *s = read_text("", NULL);

    assert_string_equal(s->tok, "/etc/twinlease");
    assert_null(s->state);
    assert_int_equal(s->on_stop, ON_STOP_RELEASE);
    assert_int_equal(s->ready, READY_RUNNING);
    assert_int_equal(s->stop_seconds.value, 15);
    assert_false(s->lease_seconds.set);
    assert_string_equal(s->status_file, "/run/twinlease/agent.json");
    assert_int_equal(agent_settings_check(s, &diag), ERR_CONFIG);
    assert_string_equal(diag.text,
                        "TWINLEASE_FEATURES is not set, so there is nothing to hold: name the "
                        "features in /etc/twinlease/agent.conf or in the environment, such as "
                        "TWINLEASE_FEATURES=\"render simulate=2\"");
}

static void test_features(void **state)
{
    (void)state;
    struct diag diag = { "" };
    AUTO(agent_settings_free)
    struct agent_settings *s = read_text("TWINLEASE_FEATURES=\"render  simulate=2 mesh@" SCOPE
                                         " a.b-c_1=10000000@" SCOPE "\"\n",
                                         NULL);

    assert_int_equal(agent_settings_check(s, &diag), ERR_OK);
    assert_int_equal(s->features.count, 4);
    assert_string_equal(s->features.items[0].feature, "render");
    assert_int_equal(s->features.items[0].count, 1);
    assert_string_equal(s->features.items[0].scope_ref, "");
    assert_string_equal(s->features.items[1].feature, "simulate");
    assert_int_equal(s->features.items[1].count, 2);
    assert_int_equal(s->features.items[2].count, 1);
    assert_string_equal(s->features.items[2].scope_ref, SCOPE);
    assert_int_equal(s->features.items[3].count, 10000000);
    assert_string_equal(s->features.items[3].scope_ref, SCOPE);
}

#define ALLOWED                                                                                    \
    "allowed: NAME, NAME=SEATS or NAME=SEATS@SCOPE_REF, with spaces between, each name once, 1 "   \
    "to 10000000 seats, at most 256 names"

static void test_bad_features(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "render=0",        "render=-1",    "render=",           "render=1x",
        "render=10000001", "=2",           "render@",           "render@nonsense",
        "render=2@x",      "re/nder",      ".hidden",           "render render=2",
        "render=2=3",      "render, mesh", "render@" SCOPE "x", "render=99999999999999999999999",
    };

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        char text[200], message[400];
        snprintf(text, sizeof text, "TWINLEASE_FEATURES='%s'\n", bad[i]);
        snprintf(message, sizeof message, "agent.conf:1: TWINLEASE_FEATURES is \"%s\"; " ALLOWED,
                 bad[i]);
        assert_refused(text, message);
    }
}

/* 256 names, and one more. */
static void test_as_many_features_as_allowed(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf text = { .max = 1 << 16 };
    struct agent_settings *settings = NULL;
    struct diag diag;

    buf_text_append(&text, "TWINLEASE_FEATURES=f0");
    for (int i = 1; i < AGENT_FEATURES_MAX; i++)
        buf_format(&text, " f%d", i);
    AUTO(agent_settings_free) struct agent_settings *all = read_text(buf_text(&text), NULL);
    assert_int_equal(all->features.count, AGENT_FEATURES_MAX);
    buf_text_append(&text, " more");
    assert_int_equal(agent_settings_parse(buf_text(&text), text.length, NULL, &settings, &diag),
                     ERR_CONFIG);
    assert_non_null(strstr(diag.text, "at most 256 names"));
}

static void test_environment_goes_before_the_file(void **state)
{
    (void)state;
    AUTO(agent_settings_free)
    struct agent_settings *s = read_text(
        "TWINLEASE_FEATURES=render\nTWINLEASE_ON_STOP=keep\nTWINLEASE_STATE=/a\n",
        ENVIRONMENT("TWINLEASE_FEATURES=simulate",
                    "TWINLEASE_STATE=", "TWINLEASE_URL=https://node.example", "FEATURES=other"));

    assert_string_equal(s->features.items[0].feature, "simulate");
    assert_int_equal(s->on_stop, ON_STOP_KEEP);
    assert_null(s->state);
}

static void test_what_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        { "TWINLEASE_FEATURS=render",
          "agent.conf:1: there is no setting TWINLEASE_FEATURS; did you "
          "mean TWINLEASE_FEATURES?" },
        { "\nFEATURES=render",
          "agent.conf:2: there is no setting FEATURES; did you mean TWINLEASE_FEATURES?" },
        { "TWINLEASE_COLOUR_OF_THE_LOG=x", "agent.conf:1: there is no setting "
                                           "TWINLEASE_COLOUR_OF_THE_LOG; --help lists them" },
        { "TWINLEASE_ON_STOP=drop",
          "agent.conf:1: TWINLEASE_ON_STOP is \"drop\"; allowed: release or keep" },
        { "TWINLEASE_READY=soon",
          "agent.conf:1: TWINLEASE_READY is \"soon\"; allowed: running or licensed" },
        { "TWINLEASE_STOP_SECONDS=301", "agent.conf:1: TWINLEASE_STOP_SECONDS is \"301\"; allowed: "
                                        "a whole number from 1 to 300" },
        { "TWINLEASE_LEASE_SECONDS=0", "agent.conf:1: TWINLEASE_LEASE_SECONDS is \"0\"; allowed: a "
                                       "whole number from 1 to 7776000" },
        { "TWINLEASE_INSTANCE=abc",
          "agent.conf:1: TWINLEASE_INSTANCE is \"abc\"; allowed: 43 to 43 characters" },
        { "TWINLEASE_LOG_FORMAT=xml",
          "agent.conf:1: TWINLEASE_LOG_FORMAT is \"xml\"; allowed: auto, json or text" },
        { "TWINLEASE_DEBUG=perhaps",
          "agent.conf:1: TWINLEASE_DEBUG is \"perhaps\"; allowed: true or false" },
        { "render=2", "agent.conf:1: there is no setting render; --help lists them" },
        { "TWINLEASE_STATE=/a\nTWINLEASE_STATE=/b",
          "agent.conf:2: TWINLEASE_STATE stands twice, first in line 1" },
        { "TWINLEASE_STATE", "agent.conf:1: expected NAME=value, a # comment or an empty line" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_refused(cases[i].text, cases[i].message);
}

static void test_misspelt_variables(void **state)
{
    (void)state;
    char *const *environment =
        ENVIRONMENT("TWINLEASE_FEATURES=x", "TWINLEASE_FEATURS=x", "TWINLEASE_URL=x",
                    "TWINLEASE_CA=x", "TWINLEASE_TOKEN_FILE=x", "TWINLEASE_SERVICE_HOST=10.0.0.1",
                    "FEATURE=x", "TWINLEASE_ONSTOP=keep", "TWINLEASE", "");
    const char *meant = NULL;
    size_t at = 0;

    assert_string_equal(agent_settings_misspelt(environment, &at, &meant), "TWINLEASE_FEATURS=x");
    assert_string_equal(meant, "TWINLEASE_FEATURES");
    assert_string_equal(agent_settings_misspelt(environment, &at, &meant), "TWINLEASE_ONSTOP=keep");
    assert_string_equal(meant, "TWINLEASE_ON_STOP");
    assert_null(agent_settings_misspelt(environment, &at, &meant));
}

/* The table of README.md is what the settings say of themselves, and the example file is one. */
static void test_documents(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf readme = { .max = 1 << 20 };
    AUTO(buf_fini) struct buf example = { .max = 1 << 20 };
    AUTO(mem_free) char *table = NULL;
    struct diag diag;
    size_t size;

    assert_int_equal(file_read(SOURCE_DIR "/client/agent/README.md", FILE_PUBLIC, &readme, &diag),
                     ERR_OK);
    FILE *out = open_memstream(&table, &size);
    assert_non_null(out);
    agent_settings_help_markdown(out);
    assert_int_equal(fclose(out), 0);
    if (!strstr(buf_text(&readme), table))
        fail_msg("client/agent/README.md does not have this table:\n%s", table);
    assert_int_equal(file_read(SOURCE_DIR "/client/agent/agent.conf", FILE_PUBLIC, &example, &diag),
                     ERR_OK);
    AUTO(agent_settings_free)
    struct agent_settings *settings = read_text(buf_text(&example), NULL);
    assert_int_equal(agent_settings_check(settings, &diag), ERR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_features),
        cmocka_unit_test(test_bad_features),
        cmocka_unit_test(test_as_many_features_as_allowed),
        cmocka_unit_test(test_environment_goes_before_the_file),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_misspelt_variables),
        cmocka_unit_test(test_documents),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
