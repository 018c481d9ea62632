/* What the tests of libtwinlease live in: a folder, up to three fake nodes, and the token that
 * leads to them. Everything is waited for without limit to speak of; tests of deadlines set their
 * own. */
#pragma once

#include "fake_licences.h"
#include "twinlease.h"

#define NODES_MAX 3
#define DAY_MS    INT64_C(86400000)

/* What no slow machine needs for an answer; and what a test can wait for. */
#define PATIENT_MS   10000
#define IMPATIENT_MS 600

struct world {
    char folder[64], tok_path[128], state_dir[128];
    struct fake_identity *identity;
    struct fake_licences licences[NODES_MAX];
    struct fake_node *nodes[NODES_MAX];
    size_t node_count;
    char warning[1024];
    int warnings;
};

/* Of the last call. */
extern struct twinlease_error error;

int world_setup(void **state);
int world_teardown(void **state);
void write_text(const char *path, const char *text);
void write_tok(struct world *w, const char *const *urls, size_t count, const char *ca_pem,
               int64_t expires_ms);
/* And a token for them. */
void start_nodes(struct world *w, size_t count);

/* Its own: state folder, warnings, and time enough. No second round over the nodes. */
struct twinlease_options options_of(struct world *w);
struct twinlease *open_with(const struct twinlease_options *options);
struct twinlease *open_world(struct world *w);
struct twinlease_lease *acquire(struct twinlease *handle);
/* Fails with this code, and says why. */
void assert_acquire_fails(struct twinlease *handle, enum twinlease_code code);
