#include "transport.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <openssl/x509_vfy.h>
#include <pthread.h>
#include <stdio.h>
#include <strings.h>

#include "base/clock.h"

#define POLL_MS             1000 /* libcurl's own deadlines wake it up earlier */
#define RETRY_AFTER_MAX     86400
#define ADDRESS_TTL_SECONDS 10 /* a node may come back elsewhere under its old name */

/* One transfer at a time, which something else can be waited for beside; keeps its connections. */
struct line {
    CURLM *multi;
    CURL *easy;
};

struct transport {
    pthread_mutex_t lock; /* guards idle */
    struct line idle[TRANSPORT_IDLE_MAX];
    size_t idle_count;
    CURLSH *share; /* addresses, of all lines */
    pthread_mutex_t share_locks[CURL_LOCK_DATA_LAST];
    char *ca_pem; /* NULL: the system's */
};

/* One transfer. */
struct exchange {
    struct line line;
    struct curl_slist *headers;
    struct http_response *response;
    long verdict; /* on the certificate: X509_V_… */
    char reason[CURL_ERROR_SIZE];
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_started;

/* Counted inside libcurl, so a program that uses it too is not disturbed; never undone, because
 * nobody can know when the last thread has left it. */
static void start_curl(void)
{
    curl_started = curl_global_init(CURL_GLOBAL_DEFAULT);
}

static bool looks_like_pem(const char *pem)
{
    return strstr(pem, "-----BEGIN CERTIFICATE-----") != NULL;
}

static void lock_share(CURL *curl, curl_lock_data what, curl_lock_access access, void *context)
{
    struct transport *t = context;

    (void)curl;
    (void)access;
    must(pthread_mutex_lock(&t->share_locks[what]) == 0);
}

static void unlock_share(CURL *curl, curl_lock_data what, void *context)
{
    struct transport *t = context;

    (void)curl;
    must(pthread_mutex_unlock(&t->share_locks[what]) == 0);
}

/* Not the TLS sessions: OpenSSL does not promise that two threads may resume one at the same time,
 * and ThreadSanitizer objects. Each line keeps its own. */
#define SHARE(option, value) must(curl_share_setopt(t->share, option, value) == CURLSHE_OK)

static void share_init(struct transport *t)
{
    for (size_t i = 0; i < ARRAY_SIZE(t->share_locks); i++)
        must(pthread_mutex_init(&t->share_locks[i], NULL) == 0);
    t->share = curl_share_init();
    must(t->share);
    SHARE(CURLSHOPT_LOCKFUNC, lock_share);
    SHARE(CURLSHOPT_UNLOCKFUNC, unlock_share);
    SHARE(CURLSHOPT_USERDATA, t);
    SHARE(CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS);
}

static void share_fini(struct transport *t)
{
    must(curl_share_cleanup(t->share) == CURLSHE_OK);
    for (size_t i = 0; i < ARRAY_SIZE(t->share_locks); i++)
        pthread_mutex_destroy(&t->share_locks[i]);
}

enum twinlease_code transport_new(const char *ca_pem, struct transport **out,
                                  struct twinlease_error *error)
{
    must(pthread_once(&curl_once, start_curl) == 0);
    if (curl_started != CURLE_OK)
        return fault_set(error, TWINLEASE_ERROR, "libcurl cannot start: %s",
                         curl_easy_strerror(curl_started));
    if (ca_pem && !looks_like_pem(ca_pem))
        return fault_set(error, TWINLEASE_UNTRUSTED,
                         "the CA certificate is not one in PEM form (BEGIN CERTIFICATE)");
    struct transport *t = mem_calloc(1, sizeof *t);
    must(pthread_mutex_init(&t->lock, NULL) == 0);
    share_init(t);
    t->ca_pem = ca_pem ? mem_strdup(ca_pem) : NULL;
    *out = t;
    return TWINLEASE_OK;
}

static void line_close(struct line line)
{
    curl_easy_cleanup(line.easy);
    curl_multi_cleanup(line.multi);
}

struct transport *transport_free(struct transport *t)
{
    if (!t)
        return NULL;
    while (t->idle_count)
        line_close(t->idle[--t->idle_count]);
    share_fini(t);
    pthread_mutex_destroy(&t->lock);
    mem_free(t->ca_pem);
    mem_free(t);
    return NULL;
}

/* ---- lines ------------------------------------------------------------------------------- */

static struct line line_open(struct transport *t)
{
    struct line line = { curl_multi_init(), curl_easy_init() };

    must(line.multi && line.easy);
    must(curl_easy_setopt(line.easy, CURLOPT_SHARE, t->share) == CURLE_OK);
    return line;
}

static struct line take_line(struct transport *t)
{
    struct line line = { NULL, NULL };

    must(pthread_mutex_lock(&t->lock) == 0);
    if (t->idle_count)
        line = t->idle[--t->idle_count];
    must(pthread_mutex_unlock(&t->lock) == 0);
    return line.easy ? line : line_open(t);
}

static void give_line_back(struct transport *t, struct line line)
{
    bool kept = false;

    curl_easy_reset(line.easy); /* drops options and pointers to us; keeps what is shared */
    must(pthread_mutex_lock(&t->lock) == 0);
    if (t->idle_count < TRANSPORT_IDLE_MAX) {
        t->idle[t->idle_count++] = line;
        kept = true;
    }
    must(pthread_mutex_unlock(&t->lock) == 0);
    if (!kept)
        line_close(line);
}

/* ---- receiving --------------------------------------------------------------------------- */

static size_t on_body(char *bytes, size_t size, size_t count, void *context)
{
    struct http_response *response = context;

    buf_append(&response->body, bytes, size * count);
    return buf_ok(&response->body) ? size * count : 0; /* less: curl ends the transfer */
}

/* The target of <target>; rel="next" among those of a Link header (RFC 8288). */
static void read_link(const char *value, size_t length, char *out, size_t out_size)
{
    const char *at = value, *end = value + length;

    while (at < end && (at = memchr(at, '<', (size_t)(end - at)))) {
        const char *close = memchr(at, '>', (size_t)(end - at));
        if (!close)
            return;
        const char *comma = memchr(close, ',', (size_t)(end - close));
        size_t rest = (size_t)((comma ? comma : end) - close);
        if (memmem(close, rest, "rel=\"next\"", 10) || memmem(close, rest, "rel=next", 8)) {
            snprintf(out, out_size, "%.*s", (int)(close - at - 1), at + 1);
            return;
        }
        at = close;
    }
}

static bool header_is(const char *line, size_t length, const char *name, const char **value,
                      size_t *value_length)
{
    size_t name_length = strlen(name);

    if (length <= name_length || line[name_length] != ':' ||
        strncasecmp(line, name, name_length) != 0)
        return false;
    line += name_length + 1;
    length -= name_length + 1;
    while (length && (*line == ' ' || *line == '\t')) {
        line++;
        length--;
    }
    while (length && strchr(" \t\r\n", line[length - 1]))
        length--;
    *value = line;
    *value_length = length;
    return true;
}

/* Seconds; a date (RFC 9110 §10.2.3) is passed over: it would need a clock that is right. */
static int64_t read_seconds(const char *value, size_t length)
{
    int64_t seconds = 0;

    for (size_t i = 0; i < length; i++) {
        if (value[i] < '0' || value[i] > '9' || seconds > RETRY_AFTER_MAX)
            return 0;
        seconds = seconds * 10 + (value[i] - '0');
    }
    return seconds;
}

static size_t on_header(char *line, size_t size, size_t count, void *context)
{
    struct http_response *response = context;
    size_t length = size * count, value_length;
    const char *value;

    response->head_bytes += length;
    if (response->head_bytes > TRANSPORT_HEAD_MAX)
        return 0;
    if (header_is(line, length, "X-Request-Id", &value, &value_length))
        snprintf(response->request_id, sizeof response->request_id, "%.*s",
                 (int)(value_length < 63 ? value_length : 63), value);
    else if (header_is(line, length, "Content-Type", &value, &value_length))
        snprintf(response->content_type, sizeof response->content_type, "%.*s",
                 (int)(value_length < 127 ? value_length : 127), value);
    else if (header_is(line, length, "Link", &value, &value_length))
        read_link(value, value_length, response->next, sizeof response->next);
    else if (header_is(line, length, "Retry-After", &value, &value_length))
        response->retry_after_ms = read_seconds(value, value_length) * 1000;
    return length;
}

void http_response_fini(struct http_response *response)
{
    buf_fini_secret(&response->body); /* secrets and tokens come this way */
}

struct answer http_answer(const struct http_request *request, const struct http_response *response)
{
    return (struct answer){
        .from = request->base,
        .status = response->status,
        .content_type = response->content_type,
        .request_id = response->request_id,
        .body = buf_text(&response->body),
        .length = response->body.length,
    };
}

/* ---- sending ----------------------------------------------------------------------------- */

/* libcurl makes its sockets without it, and a child of the program must not inherit them. */
static int on_socket(void *context, curl_socket_t fd, curlsocktype purpose)
{
    (void)context;
    (void)purpose;
    return fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 ? CURL_SOCKOPT_OK : CURL_SOCKOPT_ERROR;
}

/* A refused option means a libcurl that lacks what we rest on: never go on without it. */
#define SET(option, value) must(curl_easy_setopt(x->line.easy, option, value) == CURLE_OK)

static void set_trust(struct exchange *x, const struct transport *t)
{
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(CURLOPT_PROTOCOLS_STR, "https");
    SET(CURLOPT_PROXY, "");
    if (!t->ca_pem)
        return;
    struct curl_blob blob = { t->ca_pem, strlen(t->ca_pem), CURL_BLOB_NOCOPY };
    SET(CURLOPT_CAINFO_BLOB, &blob);
    SET(CURLOPT_CAPATH, NULL); /* nothing but the blob */
}

static void add_header(struct exchange *x, const char *name, const char *value)
{
    struct buf line;

    buf_init(&line, strlen(name) + strlen(value) + 2);
    buf_format(&line, "%s: %s", name, value);
    must(buf_ok(&line));
    x->headers = curl_slist_append(x->headers, line.bytes);
    must(x->headers);
    buf_fini_secret(&line);
}

static void set_request(struct exchange *x, const struct http_request *request)
{
    AUTO(buf_fini) struct buf url;

    buf_init(&url, strlen(request->base) + strlen(request->path) + 1);
    buf_format(&url, "%s%s", request->base, request->path);
    SET(CURLOPT_URL, buf_text(&url));
    SET(CURLOPT_CUSTOMREQUEST, request->method);
    if (request->body) {
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(request->body));
        SET(CURLOPT_POSTFIELDS, request->body);
        add_header(x, "Content-Type", request->content_type);
        add_header(x, "Expect", ""); /* no round trip before a small body */
    }
    if (request->bearer) {
        SET(CURLOPT_HTTPAUTH, (long)CURLAUTH_BEARER);
        SET(CURLOPT_XOAUTH2_BEARER, request->bearer);
    }
    add_header(x, "Accept", "application/json, application/problem+json, */*;q=0.1");
    SET(CURLOPT_HTTPHEADER, x->headers);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)request->connect_ms);
    SET(CURLOPT_TIMEOUT_MS, (long)request->total_ms);
}

static void set_rest(struct exchange *x)
{
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_QUICK_EXIT, 1L); /* never waits for a name server longer than it may */
    SET(CURLOPT_DNS_CACHE_TIMEOUT, (long)ADDRESS_TTL_SECONDS);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_USERAGENT, "libtwinlease/" TWINLEASE_VERSION);
    SET(CURLOPT_ERRORBUFFER, x->reason);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, x->response);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, x->response);
    SET(CURLOPT_SOCKOPTFUNCTION, on_socket);
    SET(CURLOPT_TCP_NODELAY, 1L);
}

static enum twinlease_code explain_distrust(const struct exchange *x,
                                            const struct http_request *request, const char *why,
                                            struct twinlease_error *error)
{
    bool early = x->verdict == X509_V_ERR_CERT_NOT_YET_VALID;
    char now[RFC3339_SIZE];

    if (!early && x->verdict != X509_V_ERR_CERT_HAS_EXPIRED)
        return fault_set(error, TWINLEASE_UNTRUSTED,
                         "the certificate of %s does not verify (%s); get a current client token "
                         "or CA certificate from the operator, or check the address and this "
                         "machine's clock",
                         request->base, why);
    rfc3339_format(wall_now().ms, now);
    return fault_set(error, TWINLEASE_UNTRUSTED,
                     "a certificate of %s %s (%s): by this machine's clock it is %s; set the clock "
                     "if that is wrong, else the operator has to renew the certificate",
                     request->base, early ? "is not valid yet" : "has expired", why, now);
}

/* What went wrong, in the words of who has to mend it. */
static enum twinlease_code explain(const struct exchange *x, const struct http_request *request,
                                   CURLcode result, struct twinlease_error *error)
{
    const char *why = *x->reason ? x->reason : curl_easy_strerror(result);

    switch (result) {
    case CURLE_PEER_FAILED_VERIFICATION:
        return explain_distrust(x, request, why, error);
    case CURLE_SSL_CACERT_BADFILE:
        return fault_set(error, TWINLEASE_UNTRUSTED, "the CA certificate cannot be used (%s)", why);
    case CURLE_WRITE_ERROR:
        return fault_set(error, TWINLEASE_BAD_ANSWER,
                         "%s answers with more than %zu bytes; check the address", request->base,
                         x->response->head_bytes > TRANSPORT_HEAD_MAX ? TRANSPORT_HEAD_MAX
                                                                      : x->response->body.max);
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_HTTP2:
    case CURLE_BAD_CONTENT_ENCODING:
        return fault_set(error, TWINLEASE_BAD_ANSWER,
                         "what answers at %s is not a Twinlease node (%s); check the address",
                         request->base, why);
    case CURLE_SSL_CONNECT_ERROR:                /* also: it died within the handshake */
        if (strstr(why, "wrong version number")) /* how OpenSSL names a record that is none */
            return fault_set(error, TWINLEASE_BAD_ANSWER,
                             "what answers at %s is not a Twinlease node: it does not speak TLS "
                             "(%s); check the address",
                             request->base, why);
        return fault_set(error, TWINLEASE_NO_NODE,
                         "%s cannot be reached by TLS (%s); check that a node listens there",
                         request->base, why);
    case CURLE_OPERATION_TIMEDOUT:
        return fault_set(error, TWINLEASE_NO_NODE,
                         "%s does not answer in time (%s): is it running?", request->base, why);
    default:
        return fault_set(error, TWINLEASE_NO_NODE, "%s cannot be reached (%s): is it running?",
                         request->base, why);
    }
}

static void exchange_fini(struct exchange *x)
{
    curl_slist_free_all(x->headers);
}
DEFINE_AUTO_VALUE(struct exchange, exchange_fini)

/* Ends with the transfer, or, without a result, when it is cancelled. */
static bool run(struct exchange *x, const struct cancel *cancel, CURLcode *result)
{
    struct curl_waitfd beside = { .fd = cancel ? cancel->fd : -1, .events = CURL_WAIT_POLLIN };
    int running = 1, rest;

    while (!cancel_raised(cancel)) {
        must(curl_multi_perform(x->line.multi, &running) == CURLM_OK);
        if (!running) {
            const CURLMsg *message = curl_multi_info_read(x->line.multi, &rest);
            must(message && message->msg == CURLMSG_DONE);
            *result = message->data.result;
            return true;
        }
        must(curl_multi_poll(x->line.multi, &beside, cancel ? 1 : 0, POLL_MS, NULL) == CURLM_OK);
    }
    return false;
}

/* Leaves nothing of the transfer in the line but, if it ended well, its connection. */
static bool perform(struct exchange *x, const struct cancel *cancel, CURLcode *result)
{
    long status = 0, bytes = 0;

    must(curl_multi_add_handle(x->line.multi, x->line.easy) == CURLM_OK);
    bool ended = run(x, cancel, result);
    must(curl_easy_getinfo(x->line.easy, CURLINFO_RESPONSE_CODE, &status) == CURLE_OK);
    must(curl_easy_getinfo(x->line.easy, CURLINFO_REQUEST_SIZE, &bytes) == CURLE_OK);
    must(curl_easy_getinfo(x->line.easy, CURLINFO_SSL_VERIFYRESULT, &x->verdict) == CURLE_OK);
    must(curl_multi_remove_handle(x->line.multi, x->line.easy) == CURLM_OK);
    x->response->status = (int)status;
    x->response->sent = bytes > 0;
    x->response->timed_out = ended && *result == CURLE_OPERATION_TIMEDOUT;
    return ended;
}

enum twinlease_code transport_send(struct transport *t, const struct http_request *request,
                                   struct http_response *out, struct twinlease_error *error)
{
    AUTO(exchange_fini) struct exchange x = { .line = take_line(t), .response = out };
    CURLcode result = CURLE_OK;

    must(request->connect_ms > 0 && request->total_ms > 0);
    buf_init(&out->body, request->answer_max ? request->answer_max : ANSWER_MAX);
    set_trust(&x, t);
    set_request(&x, request);
    set_rest(&x);
    bool ended = perform(&x, request->cancel, &result);
    give_line_back(t, x.line);
    if (!ended)
        return fault_set(error, TWINLEASE_INTERRUPTED, "the call was interrupted");
    return result == CURLE_OK ? TWINLEASE_OK : explain(&x, request, result, error);
}
