#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/random.h"
#include "http/server.h"
#include "http/tls.h"

#define LOOPS_MAX 64

static char http1[] = "http/1.1";
static const h2o_iovec_t alpn_http1[] = { { http1, sizeof http1 - 1 }, { NULL, 0 } };

/* ---- listening ------------------------------------------------------------------------------ */

static int bind_to(const struct addrinfo *info)
{
    int on = 1, off = 0;
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (info->ai_family == AF_INET6) /* [::] takes IPv4, too */
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, info->ai_addr, info->ai_addrlen) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static enum err listen_error(const struct address *address, const char *what, const char *why,
                             struct diag *diag)
{
    bool v6 = strchr(address->host, ':') != NULL;

    return diag_set(diag, ERR_CONFIG, "LISTEN: %s%s%s:%u %s (%s)", v6 ? "[" : "", address->host,
                    v6 ? "]" : "", address->port, what, why);
}

static enum err open_listener(const struct address *address, int *out, struct diag *diag)
{
    struct addrinfo hints = { .ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM };
    struct addrinfo *found = NULL;
    char port[8], any4[] = "0.0.0.0";

    snprintf(port, sizeof port, "%u", address->port);
    int failed = getaddrinfo(address->host, port, &hints, &found);
    if (failed)
        return listen_error(address, "cannot be resolved", gai_strerror(failed), diag);
    int fd = bind_to(found);
    freeaddrinfo(found);
    if (fd < 0 && errno == EAFNOSUPPORT && strcmp(address->host, "::") == 0) /* no IPv6 here */
        return open_listener(&(struct address){ .host = any4, .port = address->port }, out, diag);
    if (fd < 0)
        return listen_error(address, "cannot be bound", strerror(errno), diag);
    *out = fd;
    return ERR_OK;
}

/* ---- start, reload, stop -------------------------------------------------------------------- */

static enum err read_tls(const struct config *config, SSL_CTX **out, struct diag *diag)
{
    enum err e = tls_context_new(config->tls_cert, config->tls_key, out, diag);

    if (e == ERR_OK)
        h2o_ssl_register_alpn_protocols(*out, alpn_http1);
    return e;
}

/* What all loops share; frozen once they run. */
static void configure(struct http *http)
{
    h2o_globalconf_t *conf = &http->conf;

    h2o_config_init(conf);
    conf->server_name = (h2o_iovec_t){ NULL, 0 };
    conf->http1.upgrade_to_http2 = 0; /* neither by Upgrade nor by preface */
    conf->http1.req_timeout = READ_TIMEOUT_MS;
    conf->handshake_timeout = HANDSHAKE_TIMEOUT_MS;
    /* One more, because libh2o refuses a chunked body of exactly the limit; dispatch.c looks again.
     */
    conf->max_request_entity_size = http->body_max + 1;
    dispatch_register(h2o_config_register_host(conf, h2o_iovec_init(H2O_STRLIT("default")), 65535));
}

static unsigned loops_wanted(const struct config *config)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int64_t wanted = config->workers.value ? config->workers.value : cores;

    return wanted < 1 ? 1 : wanted > LOOPS_MAX ? LOOPS_MAX : (unsigned)wanted;
}

/* Clients must not be able to use up the files that the node needs to get its database back. */
static int64_t connections_allowed(const struct config *config, unsigned loops)
{
    int64_t wanted = config->connections_max.value;
    int64_t reserve = FILES_RESERVE + FILES_A_LOOP * loops + 2 * config->query_threads.value;
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur >= (rlim_t)(wanted + reserve))
        return wanted;
    int64_t room = (int64_t)files.rlim_cur - reserve;
    int64_t allowed = room < 1 ? 1 : room;
    log_event(LOG_WARNING, "connections_limited",
              "at most %jd connections are taken, not CONNECTIONS_MAX = %jd: only %jd files may be "
              "open (raise RLIMIT_NOFILE to %jd)",
              (intmax_t)allowed, (intmax_t)wanted, (intmax_t)files.rlim_cur,
              (intmax_t)(wanted + reserve));
    return allowed;
}

enum err http_open(const struct config *config, struct http **out, struct diag *diag)
{
    SSL_CTX *tls = NULL;
    int fd = -1;
    enum err e;

    if ((e = read_tls(config, &tls, diag)) != ERR_OK)
        return e;
    if ((e = open_listener(&config->listen, &fd, diag)) != ERR_OK) {
        SSL_CTX_free(tls);
        return e;
    }
    struct http *http = mem_calloc(1, sizeof *http);
    http->services.config = config;
    http->tls = tls;
    http->listen_fd = fd;
    http->body_max = (size_t)config->body_max_kib.value << 10;
    random_bytes(&http->id_prefix, sizeof http->id_prefix);
    int error = pthread_mutex_init(&http->peer_seen.mutex, NULL);
    must(error == 0);
    *out = http;
    return ERR_OK;
}

enum err http_start(struct http *http, const struct services *services, struct diag *diag)
{
    const struct config *config = services->config;

    must(config == http->services.config && http->loop_count == 0);
    http->services = *services;
    if (listen(http->listen_fd, LISTEN_BACKLOG) != 0)
        return listen_error(&config->listen, "cannot be listened to", strerror(errno), diag);
    configure(http);
    http->loop_count = loops_wanted(config);
    http->connections_max = connections_allowed(config, http->loop_count);
    http->loops = mem_calloc(http->loop_count, sizeof *http->loops);
    int error = pthread_barrier_init(&http->loops_ready, NULL, http->loop_count + 1);
    must(error == 0);
    for (unsigned i = 0; i < http->loop_count; i++)
        loop_start(&http->loops[i], http, i);
    pthread_barrier_wait(&http->loops_ready);
    tls_warn_of_expiry(http->tls, config->tls_cert);
    log_event(LOG_INFO, "listening", "serving https on %s port %u with %u event loops",
              config->listen.host, config->listen.port, http->loop_count);
    return ERR_OK;
}

enum err http_reload(struct http *http, struct diag *diag)
{
    SSL_CTX *tls = NULL;
    enum err e = read_tls(http->services.config, &tls, diag);

    if (e != ERR_OK)
        return e;
    for (unsigned i = 0; i < http->loop_count; i++) {
        SSL_CTX_up_ref(tls);
        loop_set_tls(&http->loops[i], tls);
    }
    SSL_CTX_free(http->tls);
    http->tls = tls;
    tls_warn_of_expiry(tls, http->services.config->tls_cert);
    return ERR_OK;
}

struct http *http_stop(struct http *http, int64_t drain_ms)
{
    static struct http *remains; /* what cannot be freed; here leak checkers see that it is known */

    if (!http)
        return NULL;
    remains = http;
    atomic_store(&http->drain_until_ms, boot_now().ms + drain_ms);
    atomic_store(&http->draining, true);
    close(http->listen_fd);
    for (unsigned i = 0; i < http->loop_count; i++)
        loop_wake(&http->loops[i]);
    for (unsigned i = 0; i < http->loop_count; i++)
        pthread_join(http->loops[i].thread, NULL);
    int left = atomic_load(&http->connections);
    if (left > 0)
        log_event(LOG_WARNING, "drain_incomplete", "%d connections were cut off", left);
    must(remains == http);
    return NULL;
}
