/* libh2o alone: TLS, HTTP/1.1, one event loop a thread, a fixed small answer to everything. What
 * the same machine can do at the most with the library that the node is built on; tests/bench
 * compares.
 *
 *   bare_h2o PORT LOOPS CERTIFICATE KEY        serves 127.0.0.1 until it is killed */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <h2o.h>
#include <openssl/ssl.h>

#define LOOPS_MAX 64

struct loop {
    h2o_context_t ctx;
    h2o_accept_ctx_t accept;
    h2o_socket_t *listener;
};

static h2o_globalconf_t conf;
static SSL_CTX *ssl_ctx;
static int listen_fd;

static int on_request(h2o_handler_t *self, h2o_req_t *req)
{
    static h2o_generator_t generator = { NULL, NULL };
    h2o_iovec_t body = h2o_iovec_init(H2O_STRLIT("{\"status\":\"ok\"}"));

    (void)self;
    req->res.status = 200;
    req->res.reason = "OK";
    req->res.content_length = body.len;
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL,
                   H2O_STRLIT("application/json"));
    h2o_start_response(req, &generator);
    h2o_send(req, &body, 1, H2O_SEND_STATE_FINAL);
    return 0;
}

static void on_accept(h2o_socket_t *listener, const char *error)
{
    struct loop *loop = listener->data;
    h2o_socket_t *sock;

    if (error)
        return;
    while ((sock = h2o_evloop_socket_accept(listener)) != NULL)
        h2o_accept(&loop->accept, sock);
}

static void *run(void *unused)
{
    struct loop *loop = calloc(1, sizeof *loop);

    (void)unused;
    if (!loop)
        abort();
    h2o_context_init(&loop->ctx, h2o_evloop_create(), &conf);
    loop->accept = (h2o_accept_ctx_t){ .ctx = &loop->ctx, .hosts = conf.hosts, .ssl_ctx = ssl_ctx };
    loop->listener = h2o_evloop_socket_create(loop->ctx.loop, fcntl(listen_fd, F_DUPFD_CLOEXEC, 3),
                                              H2O_SOCKET_FLAG_DONT_READ);
    loop->listener->data = loop;
    h2o_socket_read_start(loop->listener, on_accept);
    for (;;)
        h2o_evloop_run(loop->ctx.loop, INT32_MAX);
    return NULL;
}

static int fail(const char *what)
{
    fprintf(stderr, "bare_h2o: %s: %s\n", what, strerror(errno));
    return 1;
}

static int listen_on(int port)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    int on = 1;

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listen_fd < 0 || setsockopt(listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        setsockopt(listen_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        bind(listen_fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(listen_fd, 1024) != 0)
        return -1;
    return 0;
}

int main(int argc, char **argv)
{
    h2o_iovec_t alpn[] = { h2o_iovec_init(H2O_STRLIT("http/1.1")), { NULL, 0 } };
    long loops = argc == 5 ? strtol(argv[2], NULL, 10) : 0;
    pthread_t threads[LOOPS_MAX];

    if (loops < 1 || loops > LOOPS_MAX) {
        fprintf(stderr, "usage: bare_h2o PORT LOOPS CERTIFICATE KEY\n");
        return 2;
    }
    if (listen_on((int)strtol(argv[1], NULL, 10)) != 0)
        return fail("listen");
    ssl_ctx = SSL_CTX_new(TLS_server_method());
    if (SSL_CTX_use_certificate_chain_file(ssl_ctx, argv[3]) != 1 ||
        SSL_CTX_use_PrivateKey_file(ssl_ctx, argv[4], SSL_FILETYPE_PEM) != 1)
        return fail("certificate or key");
    h2o_config_init(&conf);
    conf.http1.upgrade_to_http2 = 0;
    h2o_hostconf_t *host =
        h2o_config_register_host(&conf, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    h2o_create_handler(h2o_config_register_path(host, "/", 0), sizeof(h2o_handler_t))->on_req =
        on_request;
    h2o_ssl_register_alpn_protocols(ssl_ctx, alpn);
    for (long i = 0; i < loops; i++) {
        if (pthread_create(&threads[i], NULL, run, NULL) != 0)
            return fail("thread");
    }
    pthread_join(threads[0], NULL);
    return 0;
}
