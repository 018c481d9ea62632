#include "fake_peer.h"

#include <arpa/inet.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/must.h"

#define CONNECTIONS_MAX 256

struct fake_authority {
    EVP_PKEY *key;
    X509 *certificate;
};

struct connection {
    struct fake_peer *peer;
    int fd, number;
    pthread_t thread;
};

struct fake_peer {
    int listener;
    SSL_CTX *tls;
    fake_answer *answer;
    void *context;
    char address[64];
    pthread_t thread;
    pthread_mutex_t lock; /* guards the connections */
    struct connection connections[CONNECTIONS_MAX];
    int count;
    bool stopping;
};

/* ---- certificates ---------------------------------------------------------------------------- */

static void add_extension(X509 *certificate, int nid, const char *value)
{
    X509V3_CTX context;

    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    must(extension && X509_add_ext(certificate, extension, -1));
    X509_EXTENSION_free(extension);
}

struct fake_authority *fake_authority_new(const char *alt_name)
{
    struct fake_authority *a = mem_calloc(1, sizeof *a);
    X509_NAME *name;

    a->key = EVP_EC_gen("P-256");
    a->certificate = X509_new();
    name = X509_get_subject_name(a->certificate);
    must(X509_set_version(a->certificate, 2));
    must(ASN1_INTEGER_set(X509_get_serialNumber(a->certificate), 1));
    must(X509_gmtime_adj(X509_getm_notBefore(a->certificate), -3600));
    must(X509_gmtime_adj(X509_getm_notAfter(a->certificate), 86400));
    must(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"fake", -1, -1,
                                    0));
    must(X509_set_issuer_name(a->certificate, name));
    must(X509_set_pubkey(a->certificate, a->key));
    add_extension(a->certificate, NID_basic_constraints, "critical,CA:TRUE");
    add_extension(a->certificate, NID_subject_alt_name, alt_name);
    must(X509_sign(a->certificate, a->key, EVP_sha256()));
    return a;
}

void fake_authority_free(struct fake_authority *a)
{
    EVP_PKEY_free(a->key);
    X509_free(a->certificate);
    mem_free(a);
}

void fake_authority_write(const struct fake_authority *a, const char *path)
{
    FILE *file = fopen(path, "w");

    must(file && PEM_write_X509(file, a->certificate));
    must(fclose(file) == 0);
}

/* ---- one connection -------------------------------------------------------------------------- */

static void read_header(const char *head, const char *name, char *out, size_t size)
{
    size_t length = strlen(name);

    out[0] = '\0';
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, length) != 0 || line[2 + length] != ':')
            continue;
        const char *value = line + 2 + length + 1;
        value += strspn(value, " ");
        snprintf(out, size, "%.*s", (int)strcspn(value, "\r"), value);
    }
}

/* True if a whole request was read. */
static bool read_call(SSL *tls, struct fake_call *call)
{
    size_t used = 0;
    char length[32];
    char *end = NULL;

    while (!end) {
        int got = SSL_read(tls, call->head + used, 1); /* slow, and never too much */
        if (got != 1 || ++used == sizeof call->head - 1)
            return false;
        call->head[used] = '\0';
        end = used > 3 ? strstr(call->head + used - 4, "\r\n\r\n") : NULL;
    }
    sscanf(call->head, "%7s %511s", call->method, call->target);
    read_header(call->head, "twinlease-peer", call->token, sizeof call->token);
    read_header(call->head, "content-length", length, sizeof length);
    buf_clear(&call->body);
    size_t left = strtoul(length, NULL, 10);
    char *to = buf_reserve(&call->body, left);
    must(to);
    while (left) {
        int got = SSL_read(tls, call->body.bytes + call->body.length, (int)left);
        if (got <= 0)
            return false;
        call->body.length += (size_t)got;
        left -= (size_t)got;
    }
    call->body.bytes[call->body.length] = '\0';
    return true;
}

static bool write_all(SSL *tls, const struct buf *bytes)
{
    size_t written;

    return bytes->length == 0 || (SSL_write_ex(tls, bytes->bytes, bytes->length, &written) == 1 &&
                                  written == bytes->length);
}

static void talk(struct connection *c, SSL *tls)
{
    struct fake_call *call = mem_calloc(1, sizeof *call);
    struct buf out = { .max = 64u << 20 };
    bool going = true;

    call->connection = c->number;
    buf_init(&call->body, 1u << 20);
    while (going && read_call(tls, call)) {
        buf_clear(&out);
        going = c->peer->answer(c->peer->context, call, &out);
        going = write_all(tls, &out) && going;
    }
    buf_fini(&out);
    buf_fini(&call->body);
    mem_free(call);
}

static void *serve(void *context)
{
    struct connection *c = context;
    SSL *tls = SSL_new(c->peer->tls);

    SSL_set_fd(tls, c->fd);
    if (SSL_accept(tls) == 1)
        talk(c, tls);
    (void)SSL_shutdown(tls);
    SSL_free(tls);
    shutdown(c->fd, SHUT_RDWR); /* closed at the end, so that the number is not used again */
    return NULL;
}

/* ---- the server ------------------------------------------------------------------------------ */

static void *accept_all(void *context)
{
    struct fake_peer *peer = context;
    int fd;

    while ((fd = accept(peer->listener, NULL, NULL)) >= 0) {
        must(pthread_mutex_lock(&peer->lock) == 0);
        bool refuse = peer->stopping || peer->count == CONNECTIONS_MAX;
        if (!refuse) {
            struct connection *c = &peer->connections[peer->count++];
            *c = (struct connection){ .peer = peer, .fd = fd, .number = peer->count };
            must(pthread_create(&c->thread, NULL, serve, c) == 0);
        }
        must(pthread_mutex_unlock(&peer->lock) == 0);
        if (refuse)
            close(fd);
    }
    return NULL;
}

static void listen_on_loopback(struct fake_peer *peer)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof address;

    peer->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(bind(peer->listener, (struct sockaddr *)(void *)&address, size) == 0);
    must(listen(peer->listener, 64) == 0);
    must(getsockname(peer->listener, (struct sockaddr *)(void *)&address, &size) == 0);
    snprintf(peer->address, sizeof peer->address, "127.0.0.1:%d", ntohs(address.sin_port));
}

struct fake_peer *fake_peer_start(const struct fake_authority *authority, fake_answer *answer,
                                  void *context)
{
    struct fake_peer *peer = mem_calloc(1, sizeof *peer);

    signal(SIGPIPE, SIG_IGN);
    peer->answer = answer;
    peer->context = context;
    must(pthread_mutex_init(&peer->lock, NULL) == 0);
    peer->tls = SSL_CTX_new(TLS_server_method());
    must(SSL_CTX_use_certificate(peer->tls, authority->certificate) == 1);
    must(SSL_CTX_use_PrivateKey(peer->tls, authority->key) == 1);
    listen_on_loopback(peer);
    must(pthread_create(&peer->thread, NULL, accept_all, peer) == 0);
    return peer;
}

void fake_peer_cut(struct fake_peer *peer)
{
    must(pthread_mutex_lock(&peer->lock) == 0);
    for (int i = 0; i < peer->count; i++)
        shutdown(peer->connections[i].fd, SHUT_RDWR);
    must(pthread_mutex_unlock(&peer->lock) == 0);
}

void fake_peer_stop(struct fake_peer *peer)
{
    must(pthread_mutex_lock(&peer->lock) == 0);
    peer->stopping = true;
    must(pthread_mutex_unlock(&peer->lock) == 0);
    shutdown(peer->listener, SHUT_RDWR); /* ends accept() */
    must(pthread_join(peer->thread, NULL) == 0);
    close(peer->listener);
    fake_peer_cut(peer);
    for (int i = 0; i < peer->count; i++) {
        must(pthread_join(peer->connections[i].thread, NULL) == 0);
        close(peer->connections[i].fd);
    }
    SSL_CTX_free(peer->tls);
    pthread_mutex_destroy(&peer->lock);
    mem_free(peer);
}

const char *fake_peer_address(const struct fake_peer *peer)
{
    return peer->address;
}
