/* The twinlease tool, run as a program: exit codes, output for people and for programs, and one
 * sentence for everything that can be wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <json-c/json.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "fake_licences.h"
#include "token/instance.h"
#include "token/publisher.h"
#include "twinlease.h"

#define OUTPUT_MAX (64 << 10)
#define WORDS_MAX  40
#define DAY_MS     INT64_C(86400000)

struct world {
    char folder[64];
    struct fake_identity *identity;
    struct fake_licences licences;
    struct fake_node *node;
    char out[OUTPUT_MAX], err[OUTPUT_MAX]; /* of the last run */
};

static void write_text(const char *name, const char *text)
{
    assert_int_equal(file_write(name, text, strlen(text), 0600, true, NULL), ERR_OK);
}

static void read_text(const char *name, char *out)
{
    struct buf text;

    buf_init(&text, OUTPUT_MAX - 1);
    assert_int_equal(file_read(name, FILE_PUBLIC, &text, NULL), ERR_OK);
    memcpy(out, buf_text(&text), text.length + 1);
    buf_fini(&text);
}

static void write_tok(const char *name, const char *url, const char *ca_pem, int64_t expires_ms)
{
    char *tok = fake_tok_make(&url, 1, ca_pem, wall_now().ms - DAY_MS, expires_ms);

    write_text(name, tok);
    free(tok);
}

/* Every test runs in a folder of its own, with a node at hand and no settings from outside. */
static int setup(void **state)
{
    static const char *const variables[] = { "TWINLEASE_URL",        "TWINLEASE_CA",
                                             "TWINLEASE_TOKEN_FILE", "TWINLEASE_TOK",
                                             "TWINLEASE_STATE",      "XDG_STATE_HOME" };
    struct world *w = calloc(1, sizeof *w);

    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
        unsetenv(variables[i]);
    snprintf(w->folder, sizeof w->folder, "/tmp/twinlease-test.XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    assert_int_equal(chdir(w->folder), 0);
    w->identity = fake_identity_new();
    fake_licences_init(&w->licences);
    w->node = fake_node_start(w->identity, fake_licences_answer, &w->licences);
    write_tok("good.tok", fake_node_url(w->node), fake_identity_pem(w->identity),
              wall_now().ms + DAY_MS);
    write_text("ca.pem", fake_identity_pem(w->identity));
    write_text("token", "operator-token\n");
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    int status;

    fake_node_stop(w->node);
    fake_identity_free(w->identity);
    assert_int_equal(chdir("/"), 0);
    pid_t child = fork();
    if (child == 0) {
        execlp("rm", "rm", "-rf", w->folder, (char *)NULL);
        _exit(127);
    }
    waitpid(child, &status, 0);
    free(w);
    return status;
}

/* Splits at blanks; '+' stands for a blank inside a word. */
static void split_words(char *line, char **words)
{
    size_t count = 0;
    char *rest = line;

    words[count++] = (char *)(uintptr_t)TOOL;
    for (char *word; (word = strsep(&rest, " "));) {
        for (char *plus = word; (plus = strchr(plus, '+'));)
            *plus = ' ';
        if (*word)
            words[count++] = word;
        assert_true(count < WORDS_MAX);
    }
    words[count] = NULL;
}

/* What the test and the node's thread wrote is seen by the other from here on. */
static void meet_node(struct world *w)
{
    pthread_mutex_lock(&w->licences.lock);
    pthread_mutex_unlock(&w->licences.lock);
}

/* Runs the tool; its exit code. */
static int run(struct world *w, const char *line)
{
    char *words[WORDS_MAX], *copy = strdup(line);
    int status;

    meet_node(w);
    split_words(copy, words);
    pid_t child = fork();
    if (child == 0) {
        if (!freopen("stdout.txt", "w", stdout) || !freopen("stderr.txt", "w", stderr))
            _exit(126);
        execv(TOOL, words);
        _exit(127);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    meet_node(w);
    free(copy);
    read_text("stdout.txt", w->out);
    read_text("stderr.txt", w->err);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* Runs it, and expects that it ends soon, with this code, and one sentence for a person. */
static void assert_fails(struct world *w, const char *line, enum twinlease_code code)
{
    struct boot begin = boot_now();
    int got = run(w, line);

    if (got != (int)code)
        fail_msg("`%s` ended with %d instead of %d: %s", line, got, (int)code, w->err);
    assert_true(boot_now().ms - begin.ms < 15000);
    const char *sentence = strstr(w->err, "twinlease: ");
    assert_non_null(sentence);
    assert_ptr_equal(strchr(sentence, '\n'), w->err + strlen(w->err) - 1);
}

static void assert_runs(struct world *w, const char *line)
{
    int got = run(w, line);

    if (got != 0)
        fail_msg("`%s` ended with %d: %s", line, got, w->err);
}

/* What the last run printed, as JSON. */
static struct json_object *document(const struct world *w)
{
    struct json_object *json = json_tokener_parse(w->out);

    if (!json)
        fail_msg("not JSON: %s", w->out);
    return json;
}

static const char *member(struct json_object *json, const char *name)
{
    struct json_object *value;

    if (!json_object_object_get_ex(json, name, &value))
        fail_msg("no member %s in %s", name, json_object_to_json_string(json));
    return json_object_is_type(value, json_type_string)
               ? json_object_get_string(value)
               : json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN);
}

/* ---- help ------------------------------------------------------------------------------------ */

/* ".SS twinlease client\-token": as the man page has it. */
static void heading(const char *name, char *out, size_t size)
{
    size_t used = (size_t)snprintf(out, size, ".SS twinlease ");

    for (; *name; name++)
        used += (size_t)snprintf(out + used, size - used, "%s%c", *name == '-' ? "\\" : "", *name);
}

static void help_is_everywhere(void **state)
{
    static const char *const names[] = {
        "publisher init",
        "publisher issue",
        "publisher inspect",
        "status",
        "instance-token",
        "entitlement install",
        "entitlement list",
        "client-token",
        "leases",
        "origins",
        "revoke",
        "acquire",
        "renew",
        "release",
        "run",
        "verify",
    };
    struct world *w = *state;
    char line[100];

    assert_runs(w, "--help");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_runs(w, "--help");
        assert_non_null(strstr(w->out, names[i]));
        snprintf(line, sizeof line, "%s --help", names[i]);
        assert_runs(w, line);
        assert_non_null(strstr(w->out, names[i]));
        assert_non_null(strstr(w->out, "--json"));
        assert_runs(w, "--man");
        heading(names[i], line, sizeof line);
        assert_non_null(strstr(w->out, line));
    }
    assert_null(strstr(w->out, "@\n")); /* a place of the frame that nothing has filled */
    assert_runs(w, "--version");
    assert_string_equal(w->out, "twinlease " TWINLEASE_VERSION "\n");
}

static void command_lines_that_are_wrong(void **state)
{
    static const char *const lines[] = {
        "",
        "nonsense",
        "publisher",
        "publisher nonsense",
        "acquire",
        "acquire a b",
        "acquire render --count",
        "acquire render --count 0 --tok good.tok",
        "acquire render --count 1x --tok good.tok",
        "acquire render --count=1 --count=2",
        "acquire render --another=yes",
        "acquire render --nonsense",
        "acquire render -j",
        "acquire render",
        "acquire a/b --tok good.tok --state s",
        "acquire render --tok good.tok --state s --scope x",
        "renew no-uuid --tok good.tok --state s",
        "release --tok good.tok --all 10000000-0000-4000-8000-000000000001",
        "release --url https://127.0.0.1 --all",
        "run render --tok good.tok",
        "run render --tok good.tok --",
        "run render true --tok good.tok",
        "run --tok good.tok -- true",
        "status",
        "leases",
        "leases --url http://127.0.0.1:1 --token-file token",
        "leases --url https://127.0.0.1:1",
        "revoke x --url https://127.0.0.1:1 --token-file token",
        "verify --publisher-key ca.pem",
        "publisher init --dir d --name ../x",
        "publisher init --dir d --name x --type dsa",
        "status --url https://127.0.0.1:1 --timeout 0",
    };
    struct world *w = *state;

    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        assert_fails(w, lines[i], TWINLEASE_USAGE);
    assert_fails(w, "acquire render --json", TWINLEASE_USAGE);
    struct json_object *json = document(w), *error;
    assert_true(json_object_object_get_ex(json, "error", &error));
    assert_string_equal(member(error, "code"), "usage");
    assert_string_equal(member(error, "exit_code"), "2");
    json_object_put(json);
}

/* ---- publishers ------------------------------------------------------------------------------ */

static void make_instance_token(const char *name)
{
    static const struct uuid ref = { { 1 } };
    struct instance *instance = instance_new(&ref, key_generate(KEY_EC_P256));
    struct buf text;

    buf_init(&text, JWS_MAX);
    assert_int_equal(instance_token_sign(instance, wall_now().ms, &text), ERR_OK);
    write_text(name, buf_text(&text));
    buf_fini(&text);
    instance_free(instance);
}

#define ISSUE "publisher issue --key p/publisher.private.pem --instance-token i.tok "

static void entitlements_from_init_to_inspect(void **state)
{
    static const char *const types[] = { "ec", "rsa", "ed25519" };
    struct world *w = *state;
    struct stat info;
    char line[200];

    make_instance_token("i.tok");
    for (size_t i = 0; i < 3; i++) {
        snprintf(line, sizeof line, "publisher init --dir p --name Some+Pub --type %s", types[i]);
        assert_runs(w, line);
        assert_int_equal(stat("p/publisher.private.pem", &info), 0);
        assert_int_equal(info.st_mode & 0777, 0600);
        assert_fails(w, line, TWINLEASE_BAD_FILE); /* keys are never overwritten */
        assert_runs(w, ISSUE "--publisher Some+Pub --feature render=200 --feature sim=0 "
                             "--until 2099-12-31 --release at_expiry --max-lease-seconds 60 "
                             "--scope sim=10000000-0000-4000-8000-0000000000aa --out e.jws");
        assert_runs(w, "publisher inspect e.jws --key p/Some+Pub.pem --json");
        struct json_object *json = document(w);
        assert_string_equal(member(json, "signature"), "verified");
        assert_string_equal(member(json, "publisher"), "Some Pub");
        assert_string_equal(member(json, "revision"), "1");
        assert_string_equal(member(json, "ends"), "2100-01-01T00:00:00.000Z");
        const char *features = member(json, "features");
        assert_non_null(strstr(features, "\"seats\":200"));
        assert_non_null(strstr(features, "10000000-0000-4000-8000-0000000000aa"));
        assert_non_null(strstr(features, "at_expiry"));
        json_object_put(json);
        assert_int_equal(unlink("p/publisher.private.pem"), 0);
        assert_int_equal(unlink("p/Some Pub.pem"), 0);
    }
}

static void next_revision_takes_over(void **state)
{
    struct world *w = *state;
    struct json_object *first, *second;

    make_instance_token("i.tok");
    assert_runs(w, "publisher init --dir p --name Pub");
    assert_runs(w, ISSUE "--publisher Pub --feature a=1 --feature b=2 --days 10 --out e1 --json");
    first = document(w);
    assert_runs(w, ISSUE "--replaces e1 --days 20 --json --out e2");
    second = document(w);
    assert_string_equal(member(second, "entitlement_ref"), member(first, "entitlement_ref"));
    assert_string_equal(member(second, "features"), member(first, "features"));
    assert_string_equal(member(second, "revision"), "2");
    json_object_put(second);
    assert_runs(w, ISSUE "--replaces e2 --feature b=7 --feature c=1 --days 20 --json");
    second = document(w);
    const char *scopes = strstr(member(first, "features"), "\"feature\":\"b\"");
    const char *ref = strstr(scopes, "\"scope_ref\":\"") + 13;
    char b_ref[40];
    snprintf(b_ref, sizeof b_ref, "%.36s", ref);
    assert_non_null(strstr(member(second, "features"), b_ref)); /* b keeps its scope */
    assert_non_null(strstr(member(second, "features"), "\"seats\":7"));
    assert_null(strstr(member(second, "features"), "\"feature\":\"a\""));
    assert_string_equal(member(second, "revision"), "3");
    json_object_put(first);
    json_object_put(second);
    make_instance_token("i.tok"); /* the same instance with a new key: allowed */
    assert_runs(w, ISSUE "--replaces e2 --days 20");
    assert_runs(w, "publisher init --dir q --name Pub");
    assert_fails(w,
                 "publisher issue --key q/publisher.private.pem --instance-token i.tok "
                 "--replaces e2 --days 1",
                 TWINLEASE_VERIFICATION);
}

static void entitlements_that_cannot_be(void **state)
{
    static const char *const lines[] = {
        ISSUE "--publisher Pub --days 1",
        ISSUE "--publisher Pub --feature render --days 1",
        ISSUE "--publisher Pub --feature render= --days 1",
        ISSUE "--publisher Pub --feature render=-1 --days 1",
        ISSUE "--publisher Pub --feature render=10000001 --days 1",
        ISSUE "--publisher Pub --feature a/b=1 --days 1",
        ISSUE "--publisher Pub --feature a=1",
        ISSUE "--publisher Pub --feature a=1 --days 1 --until 2099-01-01",
        ISSUE "--publisher Pub --feature a=1 --until 2001-01-01",
        ISSUE "--publisher Pub --feature a=1 --until tomorrow",
        ISSUE "--publisher Pub --feature a=1 --from 2099-01-02 --until 2099-01-01",
        ISSUE
        "--publisher Pub --feature a=1 --days 1 --scope b=10000000-0000-4000-8000-0000000000aa",
        ISSUE "--publisher Pub --feature a=1 --days 1 --scope a=x",
        ISSUE "--publisher Pub --feature a=1 --days 1 --release later",
        ISSUE "--publisher Pub --feature a=1 --days 1 --max-lease-seconds 7776001",
        ISSUE "--publisher Pub --feature a=1 --days 1 --entitlement x",
        ISSUE "--publisher Pub --feature a=1 --days 1 --revision 0",
        ISSUE "--publisher .. --feature a=1 --days 1",
        ISSUE "--feature a=1 --days 1",
    };
    struct world *w = *state;

    make_instance_token("i.tok");
    assert_runs(w, "publisher init --dir p --name Pub");
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        assert_fails(w, lines[i], TWINLEASE_USAGE);
    assert_fails(w, ISSUE "--publisher Pub --feature a=1 --days 1 --out /dev/null/x",
                 TWINLEASE_BAD_FILE);
    assert_fails(w, "publisher issue --key none --instance-token i.tok", TWINLEASE_BAD_FILE);
    assert_fails(w, "publisher issue --key p/publisher.private.pem --instance-token ca.pem",
                 TWINLEASE_BAD_FILE);
    assert_int_equal(chmod("p/publisher.private.pem", 0644), 0); /* a secret that is none */
    assert_fails(w, ISSUE "--publisher Pub --feature a=1 --days 1", TWINLEASE_BAD_FILE);
    assert_fails(w, "publisher inspect ca.pem", TWINLEASE_BAD_FILE);
    assert_fails(w, "publisher inspect none", TWINLEASE_BAD_FILE);
}

/* ---- clients --------------------------------------------------------------------------------- */

#define CLIENT " --tok good.tok --state s --timeout 8"

static void acquire_renew_release(void **state)
{
    struct world *w = *state;
    char line[200];

    assert_runs(w, "acquire render --json" CLIENT);
    struct json_object *json = document(w);
    assert_string_equal(member(json, "feature"), "render");
    assert_string_equal(member(json, "resumed"), "false");
    assert_non_null(strstr(member(json, "jwks"), "\"keys\""));
    assert_string_equal(w->err, "");
    assert_runs(w, "acquire render" CLIENT);
    assert_non_null(strstr(w->out, "Renewed render: 1 seat until "));
    assert_int_equal(w->licences.grants, 1);
    assert_runs(w, "acquire render --another" CLIENT);
    assert_non_null(strstr(w->out, "Acquired render"));
    assert_int_equal(w->licences.grants, 2);
    assert_fails(w, "release" CLIENT, TWINLEASE_USAGE); /* two: which? */
    snprintf(line, sizeof line, "renew %s" CLIENT, member(json, "lease_ref"));
    assert_runs(w, line);
    snprintf(line, sizeof line, "release %s" CLIENT, member(json, "lease_ref"));
    assert_runs(w, line);
    assert_fails(w, line, TWINLEASE_LEASE_LOST);
    assert_runs(w, "status" CLIENT);
    assert_non_null(strstr(w->out, "Lease of render"));
    assert_runs(w, "release" CLIENT);
    assert_int_equal(w->licences.releases, 2);
    assert_fails(w, "release" CLIENT, TWINLEASE_LEASE_LOST);
    assert_runs(w, "release --all" CLIENT);
    assert_runs(w, "renew" CLIENT);
    json_object_put(json);
}

static void one_failure_does_not_hide_the_rest(void **state)
{
    struct world *w = *state;
    struct json_object *done, *failed;

    assert_runs(w, "acquire render" CLIENT);
    assert_runs(w, "acquire render --another" CLIENT);
    fake_licences_refuse(&w->licences, "/v1/leases/", 1, 410, "lease_ended");
    assert_fails(w, "renew --json" CLIENT, TWINLEASE_LEASE_LOST);
    struct json_object *json = document(w);
    assert_true(json_object_object_get_ex(json, "renewed_lease_list", &done));
    assert_true(json_object_object_get_ex(json, "failed_list", &failed));
    assert_int_equal(json_object_array_length(done), 1);
    assert_int_equal(json_object_array_length(failed), 1);
    json_object_put(json);
}

/* Each thing that may be wrong around a client has its own exit code. */
static void wrong_in_every_way(void **state)
{
    struct world *w = *state;
    struct fake_identity *other = fake_identity_new();
    char refusing[64], mute[64], *tok;
    int mute_fd = fake_mute_url(mute, sizeof mute);

    fake_refusing_url(refusing, sizeof refusing);
    const char *good_url = fake_node_url(w->node), *ca = fake_identity_pem(w->identity);
    write_tok("refusing.tok", refusing, ca, wall_now().ms + DAY_MS);
    write_tok("mute.tok", mute, ca, wall_now().ms + DAY_MS);
    write_tok("wrong-ca.tok", good_url, fake_identity_pem(other), wall_now().ms + DAY_MS);
    write_tok("over.tok", good_url, ca, wall_now().ms - 1000);
    tok = fake_tok_make(&good_url, 1, ca, wall_now().ms, wall_now().ms + DAY_MS);
    char *at = tok + strlen(tok) - 20;
    *at = *at == 'A' ? 'B' : 'A';
    write_text("altered.tok", tok);
    free(tok);
    static const struct {
        const char *line;
        enum twinlease_code code;
    } cases[] = {
        { "acquire render --state s --timeout 8 --tok none.tok", TWINLEASE_BAD_FILE },
        { "acquire render --state s --timeout 8 --tok ca.pem", TWINLEASE_BAD_FILE },
        { "acquire render --state s --timeout 8 --tok over.tok", TWINLEASE_BAD_FILE },
        { "acquire render --state s --timeout 8 --tok altered.tok", TWINLEASE_VERIFICATION },
        { "acquire render --state s --timeout 8 --tok good.tok --instance x",
          TWINLEASE_VERIFICATION },
        { "acquire render --state s --timeout 8 --tok refusing.tok", TWINLEASE_NO_NODE },
        { "acquire render --state s --timeout 1 --tok mute.tok", TWINLEASE_NO_NODE },
        { "acquire render --state s --timeout 8 --tok wrong-ca.tok", TWINLEASE_UNTRUSTED },
        { "acquire render --state ca.pem --timeout 8 --tok good.tok", TWINLEASE_STATE },
        { "status --timeout 8 --state s --tok refusing.tok", TWINLEASE_NO_NODE },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_fails(w, cases[i].line, cases[i].code);
    assert_int_equal(w->licences.grants, 0);
    assert_runs(w, "acquire render --no-state --tok good.tok");
    close(mute_fd);
    fake_identity_free(other);
}

static void what_the_node_says_decides(void **state)
{
    static const struct {
        int status;
        const char *problem;
        enum twinlease_code code;
    } cases[] = {
        { 409, "no_free_seat", TWINLEASE_NO_SEAT },
        { 403, "token_wrong_purpose", TWINLEASE_NOT_AUTHORISED },
        { 404, "scope_unknown", TWINLEASE_REFUSED },
        { 503, "store_away", TWINLEASE_NO_NODE },
    };
    struct world *w = *state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fake_licences_refuse(&w->licences, "/v1/leases", 1000, cases[i].status, cases[i].problem);
        assert_fails(w, "acquire render --json" CLIENT, cases[i].code);
        struct json_object *json = document(w), *error;
        assert_true(json_object_object_get_ex(json, "error", &error));
        assert_string_equal(member(error, "problem"), cases[i].problem);
        json_object_put(json);
    }
    fake_licences_refuse(&w->licences, "/v1/leases", 1, 200, NULL);
    w->licences.content_type = "text/html";
    assert_fails(w, "acquire render" CLIENT, TWINLEASE_BAD_ANSWER);
    fake_licences_refuse(&w->licences, "/v1/leases", 1, 200, NULL);
    w->licences.trick = FAKE_SILENCE;
    assert_fails(w, "acquire render --tok good.tok --state s --timeout 1", TWINLEASE_NO_NODE);
    w->licences.clock_ahead_ms = DAY_MS;
    assert_runs(w, "acquire render" CLIENT);
    assert_non_null(strstr(w->err, "twinlease: warning: the clock of this machine"));
}

/* ---- operators ------------------------------------------------------------------------------- */

#define NODE " --ca ca.pem --token-file token --timeout 8 --url "

/* One answer of the node, whatever is asked. */
static void script(struct world *w, int status, const char *content_type, const char *body)
{
    fake_licences_refuse(&w->licences, "/", 1, status, NULL);
    w->licences.content_type = content_type;
    w->licences.body = body;
}

static void operator_run(struct world *w, const char *command, enum twinlease_code code)
{
    char line[300];

    snprintf(line, sizeof line, "%s" NODE "%s", command, fake_node_url(w->node));
    if (code == TWINLEASE_OK)
        assert_runs(w, line);
    else
        assert_fails(w, line, code);
    assert_string_equal(w->licences.last_bearer, "operator-token");
}

static void operators_see_and_do(void **state)
{
    struct world *w = *state;
    struct stat info;

    script(w, 200, "application/jose", "the.instance.token\n");
    operator_run(w, "instance-token", TWINLEASE_OK);
    assert_string_equal(w->out, "the.instance.token\n");
    script(w, 200, "application/jose", "the.client.token");
    operator_run(w, "client-token --scope a+b --scope c --expire-days 3 --out c.tok", TWINLEASE_OK);
    assert_int_equal(stat("c.tok", &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_string_equal(w->licences.last_path, "/-/client-token?scope=a%20b,c&expire_days=3");
    script(w, 200, "application/json",
           "{\"lease_list\":[{\"lease_ref\":\"r\",\"feature\":\"render\",\"count\":1,\"state\":"
           "\"active\",\"expires\":\"2026-11-21T09:10:09.123Z\",\"origin\":{\"environment\":"
           "{\"hostname\":\"evil\\u001b[2Jhost\"}}}]}");
    operator_run(w, "leases", TWINLEASE_OK);
    assert_non_null(strstr(w->out, "evil?[2Jhost"));
    script(w, 200, "application/json", "{\"lease_list\":[]}");
    operator_run(w, "leases --json --only active", TWINLEASE_OK);
    assert_string_equal(w->licences.last_path, "/-/leases?origin=true&state=active");
    struct json_object *json = document(w);
    assert_string_equal(member(json, "complete"), "true");
    json_object_put(json);
    script(w, 204, "", "");
    operator_run(w, "revoke 10000000-0000-4000-8000-0000000000AA", TWINLEASE_OK);
    assert_string_equal(w->licences.last_path, "/-/lease/10000000-0000-4000-8000-0000000000aa");
    script(w, 204, "", "");
    operator_run(w, "release 10000000-0000-4000-8000-0000000000AA", TWINLEASE_OK);
    write_text("e.jws", "an.entitlement.text\n");
    script(w, 201, "application/json", "{\"usable\":true,\"scopes\":[]}");
    operator_run(w, "entitlement install e.jws", TWINLEASE_OK);
    assert_string_equal(w->licences.last_body, "an.entitlement.text");
    script(w, 200, "application/json", "{\"entitlement_list\":[]}");
    operator_run(w, "entitlement list", TWINLEASE_OK);
    script(w, 200, "application/json", "{\"origin_list\":[]}");
    operator_run(w, "origins", TWINLEASE_OK);
}

static void operators_are_told_what_is_wrong(void **state)
{
    struct world *w = *state;
    char line[300];

    fake_licences_refuse(&w->licences, "/", 1, 401, "token_invalid");
    operator_run(w, "leases", TWINLEASE_NOT_AUTHORISED);
    fake_licences_refuse(&w->licences, "/", 1, 422, "entitlement_untrusted");
    operator_run(w, "entitlement install ca.pem", TWINLEASE_REFUSED);
    script(w, 200, "text/html", "<html>");
    operator_run(w, "origins", TWINLEASE_BAD_ANSWER);
    script(w, 200, "application/jose", "");
    operator_run(w, "instance-token", TWINLEASE_BAD_ANSWER);
    fake_licences_refuse(&w->licences, "/-/ready", 1, 503, "not_ready");
    operator_run(w, "status", TWINLEASE_NO_NODE);
    snprintf(line, sizeof line, "leases --token-file token --url %s", fake_node_url(w->node));
    assert_fails(w, line, TWINLEASE_UNTRUSTED); /* no --ca: the system's authorities */
    snprintf(line, sizeof line, "leases --token-file none --url %s", fake_node_url(w->node));
    assert_fails(w, line, TWINLEASE_BAD_FILE);
    snprintf(line, sizeof line, "leases --token-file token --ca token --url %s",
             fake_node_url(w->node));
    assert_fails(w, line, TWINLEASE_BAD_FILE);
    write_text("two-lines", "a\nb\n");
    snprintf(line, sizeof line, "leases --token-file two-lines --url %s", fake_node_url(w->node));
    assert_fails(w, line, TWINLEASE_BAD_FILE);
}

/* ---- waiting --------------------------------------------------------------------------------- */

/* Starts the tool with this standard error. */
static pid_t start(const char *line, int err_fd)
{
    char *words[WORDS_MAX], *copy = strdup(line);

    split_words(copy, words);
    pid_t child = fork();
    if (child == 0) {
        if (!freopen("stdout.txt", "w", stdout) || dup2(err_fd, STDERR_FILENO) < 0)
            _exit(126);
        execv(TOOL, words);
        _exit(127);
    }
    free(copy);
    return child;
}

/* What the tool says on standard error, up to this text. */
static void read_until(int fd, const char *text, char *out, size_t size)
{
    size_t length = 0;

    *out = '\0';
    while (!strstr(out, text)) {
        ssize_t got = read(fd, out + length, size - 1 - length);
        if (got <= 0)
            fail_msg("no \"%s\" in: %s", text, out);
        length += (size_t)got;
        out[length] = '\0';
    }
}

static void deny(struct world *w, int times)
{
    fake_licences_refuse(&w->licences, "/v1/leases", times, 409, NULL);
    pthread_mutex_lock(&w->licences.lock);
    w->licences.content_type = "application/problem+json";
    w->licences.body = "{\"title\":\"Every seat is leased\",\"code\":\"no_free_seat\","
                       "\"feature\":\"render\",\"seats\":3,\"used\":3,"
                       "\"next_expected\":\"2126-01-01T00:00:00.000Z\"}";
    pthread_mutex_unlock(&w->licences.lock);
}

#define WAITING                                                                                    \
    "Waiting for a seat of render: 3 of 3 in use; the next is expected back at 2126-01-01"

static void acquire_waits_for_a_seat(void **state)
{
    struct world *w = *state;

    deny(w, 3);
    assert_runs(w, "acquire render --wait 60" CLIENT);
    const char *told = strstr(w->err, "twinlease: " WAITING);
    assert_non_null(told);
    assert_null(strstr(told + strlen("twinlease: W"),
                       WAITING)); /* once, although it asked three times in vain */
    assert_int_equal(w->licences.grants, 1);
    deny(w, 1000);
    assert_int_equal(run(w, "acquire render --another --wait 1" CLIENT), TWINLEASE_NO_SEAT);
    assert_fails(w, "acquire render --wait -1" CLIENT, TWINLEASE_USAGE);
    assert_fails(w, "acquire render --wait 31622401" CLIENT,
                 TWINLEASE_USAGE); /* over a leap year */
}

static void signals_end_the_wait(void **state)
{
    static const int signals[] = { SIGINT, SIGTERM };
    struct world *w = *state;
    int status, pipe_fds[2];

    deny(w, 1000);
    assert_int_equal(pipe(pipe_fds), 0);
    for (size_t i = 0; i < 2; i++) {
        pid_t child = start("acquire render --wait 3600" CLIENT, pipe_fds[1]);
        read_until(pipe_fds[0], WAITING, w->err, sizeof w->err);
        struct boot begin = boot_now();
        assert_int_equal(kill(child, signals[i]), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), TWINLEASE_INTERRUPTED);
        assert_true(boot_now().ms - begin.ms < 5000);
        read_until(pipe_fds[0], "interrupted after", w->err, sizeof w->err);
    }
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static void terminal_shows_one_line(void **state)
{
    struct world *w = *state;
    int status, master, slave;

    deny(w, 3);
    assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
    const struct winsize size = { .ws_row = 24, .ws_col = 60 };
    assert_int_equal(ioctl(slave, TIOCSWINSZ, &size), 0);
    pid_t child = start("acquire render --wait 60" CLIENT, slave);
    close(slave);
    read_until(master, "\r\n", w->err, sizeof w->err); /* the end of the line */
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    int lines = 0;
    for (char *at = w->err; (at = strchr(at, '\r')) && at[1] != '\n'; at++) {
        const char *end = strstr(at, "\033[K");
        assert_non_null(end);
        assert_true(end - at - 1 < 60); /* what reached the last column would wrap */
        assert_non_null(strstr(at, "s left. Waiting for a seat of render: 3 of 3"));
        lines++;
    }
    assert_int_equal(lines, 3);
    close(master);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(help_is_everywhere),
        TEST(command_lines_that_are_wrong),
        TEST(entitlements_from_init_to_inspect),
        TEST(next_revision_takes_over),
        TEST(entitlements_that_cannot_be),
        TEST(acquire_renew_release),
        TEST(one_failure_does_not_hide_the_rest),
        TEST(wrong_in_every_way),
        TEST(what_the_node_says_decides),
        TEST(operators_see_and_do),
        TEST(operators_are_told_what_is_wrong),
        TEST(acquire_waits_for_a_seat),
        TEST(signals_end_the_wait),
        TEST(terminal_shows_one_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
