/* twinlease-node: reads the settings, makes what is missing (keys, certificate, administrator's
 * token), wires the parts, and waits for signals.
 *
 * Threads: this one only waits for signals; the ledger thread (engine/), query threads
 * (engine/query), the replication worker (replication/), event loops (http/). Exit codes are those
 * of sysexits.h that systemd knows, see `exits`. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/random.h"
#include "config.h"
#include "http/http.h"
#include "http/tls.h"
#include "replication/replication.h"
#include "replication/wire.h"
#include "token/publisher.h"

#define QUERY_QUEUE_MAX 256  /* lists and reports waiting for a query thread */
#define PAGE_QUEUE_MAX  16   /* pages for the peer waiting to be written */
#define CONTACT_WAIT_MS 2000 /* R11: no decision before the peer had a word, or that long */
#define CREDITS_WAIT_MS 1000 /* R12: how long a grant waits for the peer's credits */
#define STATE_FILE      "node.state"
#define URL_SIZE        300
#define KEY_FILE_MAX    65536
#define DRAIN_EXTRA_MS  2000 /* beyond the longest request, before lines are cut */

extern char **environ;

struct node {
    struct config *config;
    struct instance *instance;
    struct auth_codes *auth_codes;
    struct roles *roles;
    struct trust *trust;
    struct engine *engine;
    struct query_pool *queries, *pages;
    struct replication *replication; /* NULL without HA_REPLICATE */
    pthread_mutex_t wishing;         /* guards `wishes_to` */
    struct replication *wishes_to;   /* where the ledger thread's wishes go; NULL: nowhere now */
    struct http *http;
    uint8_t process[PEER_NONCE_SIZE]; /* names this run of the node */
    char state_file[PATH_MAX];
    char peer[URL_SIZE], own_url[URL_SIZE];
};

/* ---- options -------------------------------------------------------------------------------- */

enum action { ACTION_RUN, ACTION_CHECK, ACTION_DONE, ACTION_USAGE };

struct options {
    enum action action;
    const char *config_file;
};

static void print_help(void)
{
    printf("Usage: twinlease-node [--config FILE] [--check]\n"
           "       twinlease-node --help[=markdown|man] | --version\n\n"
           "Runs one node of a Twinlease pair.\n\n"
           "  --config FILE   read settings from FILE (NAME=value lines); the environment goes "
           "before it\n"
           "  --check         check the settings and exit\n"
           "  --help          show this text; =markdown or =man: the table of settings alone\n"
           "  --version       show the version\n\n"
           "SIGHUP reads certificate, key and publishers' keys again; SIGTERM drains and stops.\n"
           "Exit codes: 0 done, 64 usage, 70 internal error, 78 a setting or the database must be "
           "put right first.\n\nSettings:\n");
    config_help(stdout);
}

static enum action show_help(const char *format)
{
    if (!format)
        print_help();
    else if (strcmp(format, "markdown") == 0)
        config_help_markdown(stdout);
    else if (strcmp(format, "man") == 0)
        config_help_man(stdout);
    else
        return ACTION_USAGE;
    return ACTION_DONE;
}

static struct options read_options(int argc, char **argv)
{
    static const struct option known[] = { { "config", required_argument, NULL, 'c' },
                                           { "check", no_argument, NULL, 'k' },
                                           { "help", optional_argument, NULL, 'h' },
                                           { "version", no_argument, NULL, 'v' },
                                           { NULL, 0, NULL, 0 } };
    struct options options = { .action = ACTION_RUN };
    int option;

    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (option == 'c') {
            options.config_file = optarg;
        } else if (option == 'k') {
            options.action = ACTION_CHECK;
        } else if (option == 'h') {
            options.action = show_help(optarg);
            return options;
        } else if (option == 'v') {
            printf("twinlease-node %s\n", TWINLEASE_VERSION);
            options.action = ACTION_DONE;
            return options;
        } else {
            options.action = ACTION_USAGE;
            return options;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "twinlease-node: unexpected argument \"%s\"\n", argv[optind]);
        options.action = ACTION_USAGE;
    }
    return options;
}

/* ---- the process ---------------------------------------------------------------------------- */

/* Signals for this thread alone; blocked before any other exists. */
static void block_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    int error = pthread_sigmask(SIG_BLOCK, set, NULL);
    must(error == 0);
    signal(SIGPIPE, SIG_IGN);
}

/* No core file with keys in it, no file for others to read, as many connections as the system
 * allows. */
static void harden_process(void)
{
    struct rlimit files;

    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    umask(S_IRWXG | S_IRWXO);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

static enum err make_state_dir(const char *path, struct diag *diag)
{
    if (mkdir(path, S_IRWXU) == 0 || errno == EEXIST)
        return ERR_OK;
    return diag_set(diag, ERR_CONFIG, "STATE_DIR: %s cannot be made (%s)", path, strerror(errno));
}

/* ---- keys ----------------------------------------------------------------------------------- */

static enum err read_instance_key(const char *path, struct key **out, struct diag *diag)
{
    if (file_exists(path))
        return key_read_private(path, out, diag);
    AUTO(key_free) struct key *key = key_generate(KEY_EC_P256);
    enum err e = key_write_private(key, path, false, diag);
    if (e != ERR_OK)
        return e;
    log_event(LOG_INFO, "instance_key_made",
              "made the instance key %s; the other node of the pair needs a copy of it", path);
    *out = TAKE(key);
    return ERR_OK;
}

/* The public key's file is there for people; it must not contradict the private one. */
static enum err check_public_key(const struct key *key, const char *path, struct diag *diag)
{
    AUTO(buf_fini) struct buf text = { .max = KEY_FILE_MAX };
    AUTO(key_free) struct key *found = NULL;
    size_t used;
    enum err e;

    if (!file_exists(path))
        return key_write_public(key, path, false, diag);
    if ((e = file_read(path, FILE_PUBLIC, &text, diag)) != ERR_OK)
        return e;
    if ((e = key_parse_public(buf_text(&text), text.length, &found, &used, diag)) != ERR_OK)
        return diag_set(diag, e, "INSTANCE_KEY_PUB: %s has no public key in PEM", path);
    if (!key_same(key, found))
        return diag_set(diag, ERR_KEY_INVALID,
                        "INSTANCE_KEY_PUB: %s does not belong to INSTANCE_KEY_RSA", path);
    return ERR_OK;
}

static enum err open_instance(struct node *node, struct diag *diag)
{
    const struct config *config = node->config;
    AUTO(key_free) struct key *key = NULL;
    enum err e;

    if ((e = read_instance_key(config->instance_key_rsa, &key, diag)) != ERR_OK)
        return e;
    if ((e = check_public_key(key, config->instance_key_pub, diag)) != ERR_OK)
        return e;
    node->instance = instance_new(&config->instance_ref, TAKE(key));
    node->auth_codes = auth_codes_new();
    return ERR_OK;
}

/* For the engine, on the ledger thread: an entitlement was verified when it was stored. What counts
 * now is whether its publisher is still trusted. */
static enum err open_entitlement(void *context, const char *text, struct entitlement **out,
                                 bool *trusted, struct diag *diag)
{
    struct node *node = context;
    AUTO(trust_put) struct trust_snapshot *snapshot = trust_get(node->trust);
    size_t length = strlen(text);

    enum err e = entitlement_verify(trust_publishers(snapshot), &node->config->instance_ref,
                                    key_thumbprint(instance_key(node->instance)), text, length, -1,
                                    out, diag);
    *trusted = e == ERR_OK;
    if (e == ERR_ENT_UNTRUSTED || e == ERR_ENT_SIGNATURE)
        return entitlement_read(text, length, out, diag);
    return e;
}

/* ---- the peer ------------------------------------------------------------------------------- */

/* R12, on the ledger thread. */
static void want_credits(void *context, const struct uuid *scope_ref, int64_t count)
{
    struct node *node = context;

    pthread_mutex_lock(&node->wishing);
    if (node->wishes_to)
        replication_want(node->wishes_to, scope_ref, count);
    pthread_mutex_unlock(&node->wishing);
}

static void wish_to(struct node *node, struct replication *replication)
{
    pthread_mutex_lock(&node->wishing);
    node->wishes_to = replication;
    pthread_mutex_unlock(&node->wishing);
}

/* What the peer sends is verified like what an operator installs. A publisher that is trusted there
 * and not here is for the operator to settle; the seats of its entitlement count all the same, and
 * nothing new is granted of them here. */
static enum err open_peer_entitlement(void *context, const char *text, struct entitlement **out,
                                      struct diag *diag)
{
    struct node *node = context;
    AUTO(trust_put) struct trust_snapshot *snapshot = trust_get(node->trust);
    size_t length = strlen(text);

    enum err e = entitlement_verify(trust_publishers(snapshot), &node->config->instance_ref,
                                    key_thumbprint(instance_key(node->instance)), text, length, -1,
                                    out, diag);
    return e == ERR_ENT_UNTRUSTED ? entitlement_read(text, length, out, diag) : e;
}

static void name_nodes(struct node *node)
{
    const struct config *config = node->config;
    const char *host = config->ha_replicate.host;

    snprintf(node->own_url, sizeof node->own_url, "https://%s:%d", config->dls_url,
             (int)config->dls_port.value);
    if (host)
        snprintf(node->peer, sizeof node->peer, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host,
                 config->ha_replicate.port);
}

static enum err start_replication(struct node *node, struct diag *diag)
{
    const struct config *config = node->config;

    if (!config->ha_replicate.host)
        return ERR_OK;
    enum err e =
        replication_start(&(struct replication_conf){ .peer = node->peer,
                                                      .own_url = node->own_url,
                                                      .ca_file = config->tls_ca,
                                                      .primary = config->ha_role == HA_PRIMARY,
                                                      .instance = node->instance,
                                                      .engine = node->engine,
                                                      .entitlement_open = open_peer_entitlement,
                                                      .context = node,
                                                      .process = node->process },
                          &node->replication, diag);
    if (e == ERR_OK)
        wish_to(node, node->replication);
    return e;
}

/* ---- life ----------------------------------------------------------------------------------- */

static enum err start_engine(struct node *node, struct diag *diag)
{
    const struct config *config = node->config;
    bool peer = config->ha_replicate.host != NULL;

    snprintf(node->state_file, sizeof node->state_file, "%s/" STATE_FILE, config->state_dir);
    return engine_start(
        &(struct engine_conf){ .database = config->database,
                               .instance_ref = config->instance_ref,
                               .peer_expected = peer,
                               .lease_max_ms = config_lease_max_ms(config),
                               .ended_keep_ms = config->ended_keep_hours.value * 3600 * 1000,
                               .clock_skew_max_ms = config->max_clock_skew.value * 1000,
                               .queue_max = (uint32_t)config->queue_max.value,
                               .batch_max = (uint32_t)config->batch_max.value,
                               .entitlement_open = open_entitlement,
                               .credits_wanted = peer ? want_credits : NULL,
                               .credits_wait_ms = CREDITS_WAIT_MS,
                               .state_file = node->state_file,
                               .contact_wait_ms = peer ? CONTACT_WAIT_MS : 0,
                               .context = node },
        &node->engine, diag);
}

static enum err start_http(struct node *node, struct diag *diag)
{
    return http_start(node->http,
                      &(struct services){ .config = node->config,
                                          .instance = node->instance,
                                          .auth_codes = node->auth_codes,
                                          .engine = node->engine,
                                          .queries = node->queries,
                                          .pages = node->pages,
                                          .replication = node->replication,
                                          .process = node->process,
                                          .trust = node->trust,
                                          .roles = node->roles },
                      diag);
}

/* What may be wrong with the settings is found before the database is touched. */
static enum err open_files(struct node *node, struct diag *diag)
{
    const struct config *config = node->config;
    enum err e;

    if ((e = make_state_dir(config->state_dir, diag)) != ERR_OK)
        return e;
    if ((e = open_instance(node, diag)) != ERR_OK)
        return e;
    if ((e = tls_generate_if_absent(config, diag)) != ERR_OK)
        return e;
    if ((e = roles_read(config, &node->roles, diag)) != ERR_OK)
        return e;
    if ((e = trust_open(config->publisher_keys, &node->trust, diag)) != ERR_OK)
        return e;
    return http_open(config, &node->http, diag);
}

static enum err node_start(struct node *node, struct diag *diag)
{
    const struct config *config = node->config;
    enum err e;

    if ((e = open_files(node, diag)) != ERR_OK)
        return e;
    name_nodes(node);
    random_bytes(node->process, sizeof node->process);
    if ((e = start_engine(node, diag)) != ERR_OK)
        return e;
    node->queries =
        query_start(config->database, (unsigned)config->query_threads.value, QUERY_QUEUE_MAX);
    node->pages = query_start(config->database, 1, PAGE_QUEUE_MAX);
    if ((e = start_replication(node, diag)) != ERR_OK)
        return e;
    return start_http(node, diag);
}

/* Takes a half-started node, too. What loops still refer to stays until the process ends. Requests
 * end before the parts that they wait for; the peer's long polls are answered at once. */
static void node_stop(struct node *node)
{
    int64_t drain_ms = node->config->request_timeout.value * 1000 + DRAIN_EXTRA_MS;

    if (node->engine)
        engine_stop_waiting(node->engine);
    node->http = http_stop(node->http, drain_ms);
    wish_to(node, NULL);
    node->replication = replication_stop(node->replication);
    node->pages = query_stop(node->pages);
    node->queries = query_stop(node->queries);
    node->engine = engine_stop(node->engine);
    node->trust = trust_free(node->trust);
    node->roles = roles_free(node->roles);
    node->auth_codes = auth_codes_free(node->auth_codes);
    node->instance = instance_free(node->instance);
}

static void reload(struct node *node)
{
    struct diag diag = { "" };

    sd_notify(0, "RELOADING=1\nSTATUS=reloading");
    if (http_reload(node->http, &diag) == ERR_OK)
        log_event(LOG_INFO, "certificate_reloaded", "new connections use %s",
                  node->config->tls_cert);
    else
        log_event(LOG_ERROR, "certificate_not_reloaded", "%s; the old one stays", diag.text);
    if (trust_reload(node->trust, &diag) == ERR_OK) {
        engine_review_trust(node->engine);
        log_event(LOG_INFO, "publishers_reloaded", "read the publishers' keys in %s again",
                  node->config->publisher_keys);
    } else {
        log_event(LOG_ERROR, "publishers_not_reloaded", "%s; the old keys stay", diag.text);
    }
    sd_notify(0, "READY=1");
}

static void wait_for_the_end(struct node *node, const sigset_t *signals)
{
    int signal_number = 0;

    sd_notify(0, "READY=1\nSTATUS=serving");
    while (sigwait(signals, &signal_number) == 0 && signal_number == SIGHUP)
        reload(node);
    sd_notify(0, "STOPPING=1\nSTATUS=draining");
    log_event(LOG_INFO, "stopping", "%s: draining",
              signal_number == SIGINT ? "interrupted" : "asked to stop");
}

/* 78: settings or database must be put right first (systemd: RestartPreventExitStatus=64 78). 70:
 * this program, or what it wrote, is wrong. */
static int exit_code(enum err e)
{
    return e == ERR_OK ? 0 : e == ERR_INTERNAL || e == ERR_STORE_CORRUPT ? EX_SOFTWARE : EX_CONFIG;
}

static int run(struct config *config, const sigset_t *signals)
{
    /* Static: the loops' memory stays reachable until the very end. */
    static struct node node = { .wishing = PTHREAD_MUTEX_INITIALIZER };
    struct diag diag = { "" };

    node.config = config;
    enum err e = node_start(&node, &diag);
    if (e == ERR_OK)
        wait_for_the_end(&node, signals);
    node_stop(&node);
    if (e != ERR_OK)
        fprintf(stderr, "twinlease-node: %s\n", diag.text[0] ? diag.text : err_info(e)->title);
    else
        log_event(LOG_INFO, "stopped", "stopped");
    return exit_code(e);
}

int main(int argc, char **argv)
{
    struct options options = read_options(argc, argv);
    struct config *config = NULL;
    struct diag diag = { "" };
    sigset_t signals;

    if (options.action == ACTION_DONE)
        return 0;
    if (options.action == ACTION_USAGE) {
        fprintf(stderr, "twinlease-node: see twinlease-node --help\n");
        return EX_USAGE;
    }
    block_signals(&signals);
    harden_process();
    enum err e = config_read(options.config_file, environ, &config, &diag);
    if (e != ERR_OK) {
        fprintf(stderr, "twinlease-node: %s\n", diag.text);
        return exit_code(e);
    }
    log_init((enum log_format)config->log_format, config->debug ? LOG_DEBUG : LOG_INFO);
    int code = options.action == ACTION_CHECK ? 0 : run(config, &signals);
    config_free(config);
    return code;
}
