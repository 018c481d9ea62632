#include "replication/transport.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "token/jws.h"

#define KEEPALIVE_IDLE_S     5
#define KEEPALIVE_INTERVAL_S 2
#define UNACKNOWLEDGED_MS    5000u /* sent bytes nobody confirms: the wire is cut */
#define USER_AGENT           "twinlease-node/" TWINLEASE_VERSION

/* One lane: an easy handle that is used again and again. */
struct exchange {
    CURL *curl;
    bool busy;
    struct curl_slist *headers;
    struct buf body, token;
    size_t token_count;
    bool too_large, begun;
    int64_t begun_us;
    char reason[CURL_ERROR_SIZE];
};

struct transport {
    CURLM *multi;
    char *address, *ca_file;
    struct exchange exchanges[LANES];
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_started;

static void start_curl(void)
{
    curl_started = curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* A refused option means a libcurl that lacks what we rest on: never go on without it. */
#define SET(option, value) must(curl_easy_setopt(x->curl, option, value) == CURLE_OK)

/* ---- receiving ------------------------------------------------------------------------------- */

static size_t on_body(char *bytes, size_t size, size_t count, void *context)
{
    struct exchange *x = context;

    x->begun = true;
    buf_append(&x->body, bytes, size * count);
    x->too_large = !buf_ok(&x->body);
    return x->too_large ? 0 : size * count; /* less: curl ends the transfer */
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static size_t on_header(char *line, size_t size, size_t count, void *context)
{
    static const char name[] = PEER_TOKEN_HEADER ":";
    struct exchange *x = context;
    size_t length = size * count, skip = sizeof name - 1;
    const char *value = line + skip, *end = line + length;

    if (length < skip || strncasecmp(line, name, skip) != 0)
        return length;
    while (value < end && is_space(*value))
        value++;
    while (end > value && is_space(end[-1]))
        end--;
    x->token_count++;
    buf_clear(&x->token);
    buf_append(&x->token, value, (size_t)(end - value));
    return length;
}

/* ---- handles --------------------------------------------------------------------------------- */

/* libcurl makes its sockets without CLOEXEC. What the peer does not confirm for some seconds is
 * lost: without this a cut wire is noticed after a quarter of an hour. */
static int on_socket(void *context, curl_socket_t fd, curlsocktype purpose)
{
    const unsigned timeout_ms = UNACKNOWLEDGED_MS;

    (void)context;
    (void)purpose;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
    return fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 ? CURL_SOCKOPT_OK : CURL_SOCKOPT_ERROR;
}

/* TLS_CA is read anew for each connection: it may be replaced while the node runs. */
static void set_trust(struct exchange *x, const struct transport *t)
{
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(CURLOPT_CAINFO, t->ca_file);
    SET(CURLOPT_CAPATH, NULL); /* nothing but TLS_CA */
    SET(CURLOPT_CA_CACHE_TIMEOUT, 0L);
    SET(CURLOPT_PROTOCOLS_STR, "https");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_PROXY, "");
    SET(CURLOPT_NOPROXY, "*");
}

static void set_lasting(struct exchange *x, const struct transport *t)
{
    set_trust(x, t);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_QUICK_EXIT, 1L); /* a name server that is mute must not hold up the thread */
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_PATH_AS_IS, 1L);
    SET(CURLOPT_USERAGENT, USER_AGENT);
    SET(CURLOPT_ACCEPT_ENCODING, "gzip");
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)TRANSPORT_CONNECT_MS);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_TCP_KEEPIDLE, (long)KEEPALIVE_IDLE_S);
    SET(CURLOPT_TCP_KEEPINTVL, (long)KEEPALIVE_INTERVAL_S);
    SET(CURLOPT_SOCKOPTFUNCTION, on_socket);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, x);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, x);
    SET(CURLOPT_ERRORBUFFER, x->reason);
    SET(CURLOPT_PRIVATE, x);
}

/* "host:port" and nothing more: it becomes part of every address. */
static bool address_valid(const char *address)
{
    const char *colon = strrchr(address, ':');

    for (const char *at = address; *at; at++) {
        if (*at <= ' ' || *at > '~' || strchr("/?#@\\\"<>", *at))
            return false;
    }
    return colon && colon > address && colon[1];
}

enum err transport_new(const char *address, const char *ca_file, struct transport **out,
                       struct diag *diag)
{
    must(pthread_once(&curl_once, start_curl) == 0);
    if (curl_started != CURLE_OK)
        return diag_set(diag, ERR_INTERNAL, "libcurl cannot start: %s",
                        curl_easy_strerror(curl_started));
    if (!address_valid(address))
        return diag_set(diag, ERR_CONFIG, "HA_REPLICATE=%s is not host:port", address);
    struct transport *t = mem_calloc(1, sizeof *t);
    t->address = mem_strdup(address);
    t->ca_file = mem_strdup(ca_file);
    t->multi = curl_multi_init();
    must(t->multi);
    must(curl_multi_setopt(t->multi, CURLMOPT_MAXCONNECTS, (long)LANES) == CURLM_OK);
    for (enum lane lane = 0; lane < LANES; lane++) {
        struct exchange *x = &t->exchanges[lane];
        x->curl = curl_easy_init();
        must(x->curl);
        buf_init(&x->token, JWS_MAX);
        buf_init(&x->body, PEER_BODY_MAX);
        set_lasting(x, t);
    }
    *out = t;
    return ERR_OK;
}

struct transport *transport_free(struct transport *t)
{
    if (!t)
        return NULL;
    for (enum lane lane = 0; lane < LANES; lane++) {
        struct exchange *x = &t->exchanges[lane];
        transport_abort(t, lane);
        curl_easy_cleanup(x->curl);
        curl_slist_free_all(x->headers);
        buf_fini(&x->token);
        buf_fini(&x->body);
    }
    must(curl_multi_cleanup(t->multi) == CURLM_OK);
    mem_free(t->address);
    mem_free(t->ca_file);
    mem_free(t);
    return NULL;
}

/* ---- sending --------------------------------------------------------------------------------- */

static void add_header(struct exchange *x, const char *name, const char *value)
{
    AUTO(buf_fini) struct buf line = { .max = strlen(name) + strlen(value) + 2 };

    buf_format(&line, "%s:%s%s", name, *value ? " " : "", value);
    must(buf_ok(&line));
    struct curl_slist *longer = curl_slist_append(x->headers, line.bytes);
    must(longer);
    x->headers = longer;
}

static void set_body(struct exchange *x, const struct transport_request *request)
{
    if (!request->body) {
        SET(CURLOPT_HTTPGET, 1L);
        return;
    }
    SET(CURLOPT_POST, 1L);
    SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_size);
    SET(CURLOPT_COPYPOSTFIELDS, request->body);
    add_header(x, "Content-Type", "application/json");
    add_header(x, "Expect", ""); /* none: it would cost a round trip */
}

static void reset(struct exchange *x, size_t answer_max)
{
    curl_slist_free_all(x->headers);
    x->headers = NULL;
    buf_fini(&x->body); /* its memory goes: a large page is rare */
    buf_init(&x->body, answer_max);
    buf_clear(&x->token);
    x->token_count = 0;
    x->too_large = x->begun = false;
    x->reason[0] = '\0';
}

void transport_send(struct transport *t, enum lane lane, const struct transport_request *request)
{
    AUTO(buf_fini) struct buf url = { .max = 1024 };
    struct exchange *x = &t->exchanges[lane];

    must(!x->busy && request->deadline_ms > 0);
    reset(x, request->answer_max);
    buf_format(&url, "https://%s%s", t->address, request->target);
    must(buf_ok(&url));
    SET(CURLOPT_URL, url.bytes);
    SET(CURLOPT_TIMEOUT_MS, (long)request->deadline_ms);
    SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
    SET(CURLOPT_LOW_SPEED_TIME, (long)(request->quiet_ms / 1000 + 3));
    add_header(x, PEER_TOKEN_HEADER, request->token);
    set_body(x, request);
    SET(CURLOPT_HTTPHEADER, x->headers);
    must(curl_multi_add_handle(t->multi, x->curl) == CURLM_OK);
    x->busy = true;
    x->begun_us = stopwatch_us();
}

void transport_abort(struct transport *t, enum lane lane)
{
    struct exchange *x = &t->exchanges[lane];

    if (x->busy)
        must(curl_multi_remove_handle(t->multi, x->curl) == CURLM_OK);
    x->busy = false;
}

bool transport_busy(const struct transport *t, enum lane lane)
{
    return t->exchanges[lane].busy;
}

bool transport_receiving(const struct transport *t, enum lane lane)
{
    return t->exchanges[lane].busy && t->exchanges[lane].begun;
}

/* ---- running --------------------------------------------------------------------------------- */

void transport_run(struct transport *t, int64_t timeout_ms)
{
    int running = 0, timeout = timeout_ms > 60000 ? 60000 : (int)timeout_ms, busy = 0;

    for (enum lane lane = 0; lane < LANES; lane++)
        busy += t->exchanges[lane].busy;
    must(curl_multi_perform(t->multi, &running) == CURLM_OK);
    if (running < busy) /* one has just ended */
        return;
    must(curl_multi_poll(t->multi, NULL, 0, timeout, NULL) == CURLM_OK);
    must(curl_multi_perform(t->multi, &running) == CURLM_OK);
}

void transport_wake(struct transport *t)
{
    must(curl_multi_wakeup(t->multi) == CURLM_OK);
}

static enum peer_failure classify(const struct exchange *x, CURLcode code)
{
    long os_error = 0;

    switch (code) {
    case CURLE_COULDNT_CONNECT:
        curl_easy_getinfo(x->curl, CURLINFO_OS_ERRNO, &os_error);
        return os_error == ECONNREFUSED ? PEER_FAILED_CLOSED : PEER_FAILED_NETWORK;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
        return PEER_FAILED_CERTIFICATE;
    case CURLE_OPERATION_TIMEDOUT:
        return PEER_FAILED_TIMEOUT;
    case CURLE_WRITE_ERROR:
        return x->too_large ? PEER_FAILED_ANSWER : PEER_FAILED_NETWORK;
    default:
        return PEER_FAILED_NETWORK;
    }
}

static enum err explain(const struct transport *t, const struct exchange *x, CURLcode code,
                        enum peer_failure failure, struct diag *diag)
{
    const char *reason = x->reason[0] ? x->reason : curl_easy_strerror(code);

    switch (failure) {
    case PEER_FAILED_CERTIFICATE:
        return diag_set(diag, ERR_TLS,
                        "the certificate of %s is not accepted (%s); it must be signed by "
                        "TLS_CA=%s and name that host",
                        t->address, reason, t->ca_file);
    case PEER_FAILED_ANSWER:
        return diag_set(diag, ERR_BODY_TOO_LARGE, "more than %zu bytes", x->body.max);
    default:
        return diag_set(diag, ERR_PEER_AWAY, "%s does not answer: %s", t->address, reason);
    }
}

static int64_t count_bytes(const struct exchange *x)
{
    curl_off_t body = 0;
    long head = 0;

    curl_easy_getinfo(x->curl, CURLINFO_SIZE_DOWNLOAD_T, &body);
    curl_easy_getinfo(x->curl, CURLINFO_HEADER_SIZE, &head);
    return (int64_t)body + head;
}

static void finish(struct transport *t, struct exchange *x, CURLcode code,
                   struct transport_answer *out)
{
    *out = (struct transport_answer){
        .lane = (enum lane)(x - t->exchanges),
        .body = &x->body,
        .token = x->token_count == 1 && buf_ok(&x->token) ? buf_text(&x->token) : NULL,
        .took_us = stopwatch_us() - x->begun_us,
        .bytes = count_bytes(x),
    };
    if (code == CURLE_OK) {
        curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &out->status);
    } else {
        out->failure = classify(x, code);
        out->err = explain(t, x, code, out->failure, &out->diag);
    }
    transport_abort(t, out->lane);
}

bool transport_next(struct transport *t, struct transport_answer *out)
{
    CURLMsg *message;
    char *x;
    int left;

    while ((message = curl_multi_info_read(t->multi, &left))) {
        if (message->msg != CURLMSG_DONE)
            continue;
        CURLcode code = message->data.result;
        must(curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &x) == CURLE_OK);
        finish(t, (struct exchange *)(void *)x, code, out);
        return true;
    }
    return false;
}
