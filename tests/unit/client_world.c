#include "client_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"

struct twinlease_error error;

void write_text(const char *path, const char *text)
{
    assert_int_equal(file_write(path, text, strlen(text), 0600, true, NULL), ERR_OK);
}

void write_tok(struct world *w, const char *const *urls, size_t count, const char *ca_pem,
               int64_t expires_ms)
{
    char *tok = fake_tok_make(urls, count, ca_pem, wall_now().ms - DAY_MS, expires_ms);

    write_text(w->tok_path, tok);
    free(tok);
}

void start_nodes(struct world *w, size_t count)
{
    const char *urls[NODES_MAX];

    for (size_t i = 0; i < count; i++) {
        fake_licences_init(&w->licences[i]);
        w->nodes[i] = fake_node_start(w->identity, fake_licences_answer, &w->licences[i]);
        urls[i] = fake_node_url(w->nodes[i]);
    }
    w->node_count = count;
    write_tok(w, urls, count, fake_identity_pem(w->identity), wall_now().ms + DAY_MS);
}

int world_setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);

    snprintf(w->folder, sizeof w->folder, "/tmp/twinlease-test.XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    snprintf(w->tok_path, sizeof w->tok_path, "%s/client.tok", w->folder);
    snprintf(w->state_dir, sizeof w->state_dir, "%s/state", w->folder);
    w->identity = fake_identity_new();
    *state = w;
    return 0;
}

int world_teardown(void **state)
{
    struct world *w = *state;
    pid_t child;
    int status;

    for (size_t i = 0; i < w->node_count; i++)
        fake_node_stop(w->nodes[i]);
    fake_identity_free(w->identity);
    child = fork();
    if (child == 0) {
        execlp("rm", "rm", "-rf", w->folder, (char *)NULL);
        _exit(127);
    }
    waitpid(child, &status, 0);
    free(w);
    return status;
}

static void note_warning(void *context, const char *sentence)
{
    struct world *w = context;

    w->warnings++;
    snprintf(w->warning, sizeof w->warning, "%s", sentence);
}

struct twinlease_options options_of(struct world *w)
{
    struct twinlease_options options = TWINLEASE_OPTIONS_INIT;

    options.token_path = w->tok_path;
    options.state_dir = w->state_dir;
    options.connect_ms = options.attempt_ms = PATIENT_MS;
    options.deadline_ms = 3 * PATIENT_MS;
    options.retry_ms = 1;
    options.warning = note_warning;
    options.warning_context = w;
    return options;
}

struct twinlease *open_with(const struct twinlease_options *options)
{
    struct twinlease *handle = NULL;

    if (twinlease_open(options, &handle, &error) != TWINLEASE_OK)
        fail_msg("open: %s", error.message);
    return handle;
}

struct twinlease *open_world(struct world *w)
{
    struct twinlease_options options = options_of(w);

    return open_with(&options);
}

struct twinlease_lease *acquire(struct twinlease *handle)
{
    struct twinlease_lease *lease = NULL;

    if (twinlease_acquire(handle, "render", NULL, &lease, &error) != TWINLEASE_OK)
        fail_msg("acquire: %s", error.message);
    return lease;
}

void assert_acquire_fails(struct twinlease *handle, enum twinlease_code code)
{
    struct twinlease_lease *lease = NULL;

    assert_int_equal(twinlease_acquire(handle, "render", NULL, &lease, &error), code);
    assert_int_equal(error.code, code);
    assert_true(strlen(error.message) > 10);
    assert_null(lease);
}
