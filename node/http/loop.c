/* One event loop: its thread, its connections, messages to it.
 *
 * Happy path: the listener (a duplicate of the one socket) becomes readable, some connections are
 * accepted, libh2o does TLS and HTTP and calls dispatch.c. Results of other threads come as
 * messages.
 *
 * Failure: at the connection cap all loops stop reading the listener, so new clients wait in the
 * kernel, and go on when one connection closes. Without file descriptors or memory (EMFILE …) this
 * loop pauses accepting for a moment instead of spinning on a readable listener.
 *
 * Lingering: when an answer leaves part of a request unread, closing the socket would make the
 * kernel reset the connection and the client lose the answer. So a duplicate of the socket stays
 * open behind libh2o's back until the client has closed, or has sent too much, or for too long.
 *
 * End: once http->draining, the listener closes, requests under way finish, open lines time out
 * quickly, and at the latest at drain_until_ms the thread ends. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "http/server.h"

#define TURN_WAIT_MAX_MS 60000
#define DRAIN_WAIT_MAX_MS                                                                          \
    100 /* while draining nothing wakes a loop when another one's line closes */

/* ---- messages ------------------------------------------------------------------------------- */

static void on_messages(h2o_multithread_receiver_t *receiver, h2o_linklist_t *messages)
{
    struct loop *loop = H2O_STRUCT_FROM_MEMBER(struct loop, inbox, receiver);

    loop->now = boot_now();
    while (!h2o_linklist_is_empty(messages)) {
        struct message *message =
            H2O_STRUCT_FROM_MEMBER(struct message, super.link, messages->next);
        h2o_linklist_unlink(&message->super.link);
        message->deliver(loop, message);
    }
}

void loop_send(struct loop *loop, struct message *message)
{
    h2o_multithread_send_message(&loop->inbox, &message->super);
}

void loop_wake(struct loop *loop)
{
    h2o_multithread_send_message(&loop->inbox, NULL);
}

struct tls_message {
    struct message message;
    SSL_CTX *tls;
};

static void deliver_tls(struct loop *loop, struct message *message)
{
    struct tls_message *m = H2O_STRUCT_FROM_MEMBER(struct tls_message, message, message);

    SSL_CTX_free(loop->accept.ssl_ctx); /* connections hold their own references */
    loop->accept.ssl_ctx = m->tls;
    mem_free(m);
}

void loop_set_tls(struct loop *loop, SSL_CTX *tls)
{
    struct tls_message *m = mem_calloc(1, sizeof *m);

    m->message.deliver = deliver_tls;
    m->tls = tls;
    loop_send(loop, &m->message);
}

bool loop_may_log(struct loop *loop)
{
    int64_t second = loop->now.ms / 1000;

    if (second != loop->log_second) {
        if (loop->log_suppressed)
            log_event(LOG_WARNING, "requests_failed", "%u more requests failed and were not logged",
                      loop->log_suppressed);
        loop->log_second = second;
        loop->log_lines = loop->log_suppressed = 0;
    }
    if (loop->log_lines == LOG_LINES_A_SECOND) {
        loop->log_suppressed++;
        return false;
    }
    loop->log_lines++;
    return true;
}

/* ---- connections ---------------------------------------------------------------------------- */

static bool at_cap(const struct http *http)
{
    return atomic_load(&http->connections) >= http->connections_max;
}

static void connection_free(struct connection *c)
{
    struct http *http = c->loop->http;
    bool was_at_cap = at_cap(http);

    must(c->linger_fd < 0 && !timer_running(&c->linger_timer));
    SSL_CTX_free(c->tls);
    mem_free(c);
    atomic_fetch_sub(&http->connections, 1);
    for (unsigned i = 0; was_at_cap && i < http->loop_count; i++)
        loop_wake(&http->loops[i]);
}

static void linger_end(struct connection *c)
{
    timer_stop(&c->linger_timer);
    h2o_socket_read_stop(c->linger);
    h2o_socket_close(c->linger);
    connection_free(c);
}

static void on_linger_late(struct timer *timer)
{
    linger_end(H2O_STRUCT_FROM_MEMBER(struct connection, linger_timer, timer));
}

static void on_linger_read(h2o_socket_t *sock, const char *error)
{
    struct connection *c = sock->data;
    char dropped[16384];
    ssize_t size;

    do {
        size = error ? 0 : recv(h2o_socket_get_fd(sock), dropped, sizeof dropped, 0);
        if (size > 0)
            c->linger_bytes += (size_t)size;
    } while (size > 0 && c->linger_bytes < LINGER_BYTES);
    bool again = size < 0 && (errno == EAGAIN || errno == EINTR);
    if (!again)
        linger_end(c);
}

/* libh2o has closed its socket. */
static void on_close(void *data)
{
    struct connection *c = data;

    if (c->linger_fd < 0) {
        connection_free(c);
        return;
    }
    shutdown(c->linger_fd, SHUT_WR);
    c->linger =
        h2o_evloop_socket_create(c->loop->ctx.loop, c->linger_fd, H2O_SOCKET_FLAG_DONT_READ);
    c->linger_fd = -1;
    c->linger->data = c;
    timer_start(&c->loop->lingers, &c->linger_timer, boot_now(), on_linger_late);
    h2o_socket_read_start(c->linger, on_linger_read);
}

void loop_linger(h2o_req_t *req)
{
    h2o_socket_t *sock = req->conn->callbacks->get_socket(req->conn);
    struct connection *c = sock->on_close.data;

    if (c->linger_fd < 0) /* without a file descriptor to spare, the client gets a reset */
        c->linger_fd = fcntl(h2o_socket_get_fd(sock), F_DUPFD_CLOEXEC, 3);
}

/* ---- accepting ------------------------------------------------------------------------------ */

static void on_pause_over(struct timer *timer)
{
    (void)timer; /* listener_update() looks at it */
}

static void accept_failed(struct loop *loop, int error)
{
    if (error == EAGAIN || error == EINTR || error == ECONNABORTED)
        return;
    if (timer_running(&loop->pause))
        return;
    if (loop->now.ms >= loop->accept_log_from_ms) {
        log_event(LOG_ERROR, "accept_failed",
                  "no connection can be accepted (%s): raise the limit of open files, or lower "
                  "CONNECTIONS_MAX",
                  strerror(error));
        loop->accept_log_from_ms = loop->now.ms + ACCEPT_LOG_MS;
    }
    timer_start(&loop->pauses, &loop->pause, boot_now(), on_pause_over);
}

static void accept_one(struct loop *loop, h2o_socket_t *sock)
{
    struct connection *c = mem_calloc(1, sizeof *c);
    unsigned timeout = USER_TIMEOUT_MS;

    *c = (struct connection){ .loop = loop, .tls = loop->accept.ssl_ctx, .linger_fd = -1 };
    SSL_CTX_up_ref(c->tls);
    atomic_fetch_add(&loop->http->connections, 1);
    setsockopt(h2o_socket_get_fd(sock), IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof timeout);
    sock->on_close.cb = on_close;
    sock->on_close.data = c;
    h2o_accept(&loop->accept, sock);
}

static void on_accept(h2o_socket_t *listener, const char *error)
{
    struct loop *loop = listener->data;

    loop->now = boot_now();
    for (unsigned i = 0; !error && i < ACCEPTS_A_TURN && !at_cap(loop->http); i++) {
        h2o_socket_t *sock = h2o_evloop_socket_accept(listener);
        if (!sock) {
            accept_failed(loop, errno);
            return;
        }
        accept_one(loop, sock);
    }
}

/* Reads the listener or not, as there is room. */
static void listener_update(struct loop *loop)
{
    bool wanted = !at_cap(loop->http) && !timer_running(&loop->pause);

    if (wanted && !h2o_socket_is_reading(loop->listener))
        h2o_socket_read_start(loop->listener, on_accept);
    else if (!wanted && h2o_socket_is_reading(loop->listener))
        h2o_socket_read_stop(loop->listener);
}

/* ---- the thread ----------------------------------------------------------------------------- */

/* What is answered outside libh2o's own callbacks it only notes as pending, and it would first wait
 * and then go on with it: so the next turn does not wait. */
static void turn(struct loop *loop, int64_t wait_max_ms)
{
    int64_t wait = loop->again || loop->stirred ? 0 : wait_max_ms;

    wait = timer_queue_wait(&loop->deadlines, loop->now, wait);
    wait = timer_queue_wait(&loop->polls, loop->now, wait);
    wait = timer_queue_wait(&loop->lingers, loop->now, wait);
    wait = timer_queue_wait(&loop->pauses, loop->now, wait);
    h2o_evloop_run(loop->ctx.loop, (int32_t)wait); /* -1 is EINTR and the like: turn again */
    loop->now = boot_now();
    loop->stirred = loop->again != NULL;
    loop->stirred |= timer_queue_run(&loop->deadlines, loop->now);
    loop->stirred |= timer_queue_run(&loop->polls, loop->now);
    loop->stirred |= timer_queue_run(&loop->lingers, loop->now);
    loop->stirred |= timer_queue_run(&loop->pauses, loop->now);
    exchange_run_again(loop);
}

static void drain(struct loop *loop)
{
    struct http *http = loop->http;

    h2o_socket_read_stop(loop->listener);
    turn(loop, 0); /* lets the loop forget that it polled the listener */
    h2o_socket_close(loop->listener);
    loop->ctx.http1.req_timeout.timeout = DRAIN_READ_MS; /* for lines that are open already, too */
    h2o_context_request_shutdown(&loop->ctx);
    while (atomic_load(&http->connections) > 0 &&
           boot_now().ms < atomic_load(&http->drain_until_ms))
        turn(loop, DRAIN_WAIT_MAX_MS);
}

/* On the loop's own thread: a buffer that libh2o makes for a socket belongs for ever to the list of
 * spare buffers of the thread that made it, and those lists take no lock. */
static void loop_init(struct loop *loop)
{
    struct http *http = loop->http;
    h2o_evloop_t *events = h2o_evloop_create();
    int64_t request_timeout_ms = http->services.config->request_timeout.value * 1000;
    int fd = fcntl(http->listen_fd, F_DUPFD_CLOEXEC, 3);

    must(fd >= 0);
    loop->now = boot_now();
    h2o_context_init(&loop->ctx, events, &http->conf);
    h2o_multithread_register_receiver(loop->ctx.queue, &loop->inbox, on_messages);
    SSL_CTX_up_ref(http->tls);
    loop->accept =
        (h2o_accept_ctx_t){ .ctx = &loop->ctx, .hosts = http->conf.hosts, .ssl_ctx = http->tls };
    loop->listener = h2o_evloop_socket_create(events, fd, H2O_SOCKET_FLAG_DONT_READ);
    loop->listener->data = loop;
    timer_queue_init(&loop->deadlines, request_timeout_ms);
    timer_queue_init(&loop->polls, request_timeout_ms + POLL_MAX_MS);
    timer_queue_init(&loop->lingers, LINGER_MS);
    timer_queue_init(&loop->pauses, ACCEPT_PAUSE_MS);
}

static void *run(void *argument)
{
    struct loop *loop = argument;

    loop_init(loop);
    pthread_barrier_wait(&loop->http->loops_ready); /* a loop may wake any other */
    while (!atomic_load(&loop->http->draining)) {
        listener_update(loop);
        turn(loop, TURN_WAIT_MAX_MS);
    }
    drain(loop);
    return NULL;
}

void loop_start(struct loop *loop, struct http *http, unsigned index)
{
    *loop = (struct loop){ .http = http, .index = index };
    int error = pthread_create(&loop->thread, NULL, run, loop);
    must(error == 0);
}
