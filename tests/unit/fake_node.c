#include "fake_node.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/must.h"

#define REQUEST_MAX (256 << 10)

struct fake_identity {
    EVP_PKEY *key;
    X509 *certificate;
    char *pem;
};

struct fake_node {
    int listener, stop[2];
    SSL_CTX *tls; /* NULL: plain */
    fake_handler *handler;
    void *context;
    char url[64];
    pthread_t thread;
};

/* ---- identity -------------------------------------------------------------------------------- */

static void add_extension(X509 *certificate, int nid, const char *value)
{
    X509V3_CTX context;

    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    must(extension && X509_add_ext(certificate, extension, -1));
    X509_EXTENSION_free(extension);
}

static X509 *make_certificate(EVP_PKEY *key, long from_seconds, long until_seconds)
{
    X509 *certificate = X509_new();
    X509_NAME *name = X509_get_subject_name(certificate);

    must(X509_set_version(certificate, 2));
    must(ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1));
    must(X509_gmtime_adj(X509_getm_notBefore(certificate), from_seconds));
    must(X509_gmtime_adj(X509_getm_notAfter(certificate), until_seconds));
    must(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"fake", -1, -1,
                                    0));
    must(X509_set_issuer_name(certificate, name));
    must(X509_set_pubkey(certificate, key));
    add_extension(certificate, NID_basic_constraints, "critical,CA:TRUE");
    add_extension(certificate, NID_subject_alt_name, "IP:127.0.0.1");
    must(X509_sign(certificate, key, EVP_sha256()));
    return certificate;
}

struct fake_identity *fake_identity_valid(long from_seconds, long until_seconds)
{
    struct fake_identity *identity = calloc(1, sizeof *identity);
    BIO *memory = BIO_new(BIO_s_mem());
    char *text;

    identity->key = EVP_EC_gen("P-256");
    identity->certificate = make_certificate(identity->key, from_seconds, until_seconds);
    must(PEM_write_bio_X509(memory, identity->certificate));
    long size = BIO_get_mem_data(memory, &text);
    identity->pem = strndup(text, (size_t)size);
    BIO_free(memory);
    return identity;
}

struct fake_identity *fake_identity_new(void)
{
    return fake_identity_valid(-3600, 86400);
}

void fake_identity_free(struct fake_identity *identity)
{
    EVP_PKEY_free(identity->key);
    X509_free(identity->certificate);
    free(identity->pem);
    free(identity);
}

const char *fake_identity_pem(const struct fake_identity *identity)
{
    return identity->pem;
}

/* ---- one connection -------------------------------------------------------------------------- */

/* Bytes in memory until the head and the body that it announces are complete. */
static bool request_complete(const char *text, char **body)
{
    char *end = strstr(text, "\r\n\r\n");
    size_t length = 0;

    if (!end)
        return false;
    *body = end + 4;
    for (const char *line = text; line < end; line = strstr(line, "\r\n") + 2) {
        if (strncasecmp(line, "Content-Length:", 15) == 0)
            length = strtoul(line + 15, NULL, 10);
    }
    return strlen(*body) >= length;
}

static void parse_request(char *text, char *body, struct fake_request *out)
{
    const char *bearer = strstr(text, "Authorization: Bearer ");

    sscanf(text, "%15s %1023s", out->method, out->path);
    if (bearer && bearer < body)
        sscanf(bearer, "Authorization: Bearer %69999s", out->bearer);
    out->body = body;
}

static void write_all(SSL *tls, const char *text)
{
    size_t length = strlen(text);

    if (length)
        (void)SSL_write(tls, text, (int)length);
}

/* Until the client closes, or the test is over. */
static void wait_for_end(const struct fake_node *node, int fd)
{
    struct pollfd wait[] = { { .fd = node->stop[0], .events = POLLIN },
                             { .fd = fd, .events = POLLRDHUP } };

    while (poll(wait, 2, -1) < 0 && errno == EINTR)
        ;
}

static void send_answer(const struct fake_node *node, SSL *tls, const struct fake_answer *answer)
{
    char head[320], retry[48] = "";
    const char *body = answer->body ? answer->body : "";

    if (answer->trick == FAKE_SILENCE)
        wait_for_end(node, SSL_get_fd(tls));
    if (answer->trick == FAKE_RAW)
        write_all(tls, body);
    if (answer->trick != FAKE_ANSWER)
        return;
    if (answer->retry_after)
        snprintf(retry, sizeof retry, "Retry-After: %d\r\n", answer->retry_after);
    snprintf(head, sizeof head,
             "HTTP/1.1 %d Fake\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
             "X-Request-Id: fake-1\r\n%s%s\r\n",
             answer->status, answer->content_type, strlen(body), retry,
             answer->keep_alive ? "" : "Connection: close\r\n");
    write_all(tls, head);
    write_all(tls, body);
}

/* False: the client has gone, or the test is over. */
static bool wait_for_request(const struct fake_node *node, SSL *tls)
{
    struct pollfd wait[] = { { .fd = node->stop[0], .events = POLLIN },
                             { .fd = SSL_get_fd(tls), .events = POLLIN } };

    if (SSL_pending(tls))
        return true;
    while (poll(wait, 2, -1) < 0 && errno == EINTR)
        ;
    return !wait[0].revents;
}

/* One request; true: another may follow. */
static bool serve_one(const struct fake_node *node, SSL *tls, char *text,
                      struct fake_request *request)
{
    struct fake_answer answer = { .status = 500, .content_type = "text/plain" };
    size_t length = 0;
    char *body = NULL;

    do {
        int got = wait_for_request(node, tls)
                      ? SSL_read(tls, text + length, (int)(REQUEST_MAX - 1 - length))
                      : 0;
        if (got <= 0)
            return false;
        length += (size_t)got;
        text[length] = '\0';
    } while (!request_complete(text, &body));
    *request = (struct fake_request){ .body = NULL };
    parse_request(text, body, request);
    node->handler(node->context, request, &answer);
    send_answer(node, tls, &answer);
    free(answer.body);
    return answer.trick == FAKE_ANSWER && answer.keep_alive;
}

static void serve(const struct fake_node *node, SSL *tls)
{
    char *text = calloc(1, REQUEST_MAX);
    struct fake_request *request = calloc(1, sizeof *request);

    while (serve_one(node, tls, text, request))
        ;
    free(request);
    free(text);
}

static void talk(const struct fake_node *node, int fd)
{
    static const char plain[] = "220 this is no node\r\n";

    if (!node->tls) {
        (void)!write(fd, plain, sizeof plain - 1);
        return;
    }
    SSL *tls = SSL_new(node->tls);
    SSL_set_fd(tls, fd);
    if (SSL_accept(tls) == 1) {
        serve(node, tls);
        SSL_shutdown(tls);
    }
    SSL_free(tls);
}

static void *run(void *arg)
{
    const struct fake_node *node = arg;

    for (;;) {
        struct pollfd wait[] = { { .fd = node->stop[0], .events = POLLIN },
                                 { .fd = node->listener, .events = POLLIN } };
        if (poll(wait, 2, -1) < 0)
            continue;
        if (wait[0].revents)
            return NULL;
        int fd = accept(node->listener, NULL, NULL);
        if (fd < 0)
            continue;
        talk(node, fd);
        close(fd);
    }
}

/* ---- the server ------------------------------------------------------------------------------ */

static int listen_anywhere(unsigned *port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    must(fd >= 0 && bind(fd, (struct sockaddr *)&address, size) == 0 && listen(fd, 64) == 0);
    must(getsockname(fd, (struct sockaddr *)&address, &size) == 0);
    *port = ntohs(address.sin_port);
    return fd;
}

struct fake_node *fake_node_start(const struct fake_identity *identity, fake_handler *handler,
                                  void *context)
{
    struct fake_node *node = calloc(1, sizeof *node);
    unsigned port;

    signal(SIGPIPE, SIG_IGN); /* our own writes to clients that have gone */
    node->handler = handler;
    node->context = context;
    node->listener = listen_anywhere(&port);
    snprintf(node->url, sizeof node->url, "https://127.0.0.1:%u", port);
    must(pipe(node->stop) == 0);
    if (identity) {
        node->tls = SSL_CTX_new(TLS_server_method());
        must(SSL_CTX_use_certificate(node->tls, identity->certificate) == 1);
        must(SSL_CTX_use_PrivateKey(node->tls, identity->key) == 1);
    }
    must(pthread_create(&node->thread, NULL, run, node) == 0);
    return node;
}

void fake_node_stop(struct fake_node *node)
{
    must(write(node->stop[1], "x", 1) == 1);
    must(pthread_join(node->thread, NULL) == 0);
    close(node->stop[0]);
    close(node->stop[1]);
    close(node->listener);
    SSL_CTX_free(node->tls);
    free(node);
}

const char *fake_node_url(const struct fake_node *node)
{
    return node->url;
}

void fake_refusing_url(char *out, size_t size)
{
    unsigned port;
    int fd = listen_anywhere(&port);

    close(fd); /* and nobody gets that port again soon */
    snprintf(out, size, "https://127.0.0.1:%u", port);
}

int fake_mute_url(char *out, size_t size)
{
    unsigned port;
    int fd = listen_anywhere(&port);

    snprintf(out, size, "https://127.0.0.1:%u", port);
    return fd;
}
