#include "replication/forward.h"

#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

#define CONNECT_MS 2000
#define ANSWER_MAX (1u << 20) /* bytes of an answer to an operator's POST */

DEFINE_AUTO(CURL *, curl_easy_cleanup)
DEFINE_AUTO(struct curl_slist *, curl_slist_free_all)

void forward_answer_fini(struct forward_answer *answer)
{
    buf_fini(&answer->body);
}

static size_t on_body(char *bytes, size_t one, size_t count, void *context)
{
    struct forward_answer *answer = context;

    buf_append(&answer->body, bytes, one * count);
    return buf_ok(&answer->body) ? one * count : 0; /* less than it gave: libcurl gives up */
}

static void add_header(struct curl_slist **list, const char *name, const char *value)
{
    AUTO(buf_fini) struct buf line = { .max = 64 << 10 };

    if (!value)
        return;
    buf_format(&line, "%s: %s", name, value);
    if (!buf_ok(&line))
        return; /* the other node says what it misses */
    struct curl_slist *longer = curl_slist_append(*list, buf_text(&line));
    must(longer);
    *list = longer;
}

/* A session's cookie is taken only from a page of the node itself: that was checked where the
 * request came in. */
static struct curl_slist *headers_of(const struct forward_request *request)
{
    struct curl_slist *list = NULL;

    add_header(&list, "content-type", request->content_type);
    add_header(&list, "authorization", request->authorization);
    add_header(&list, "cookie", request->cookie);
    add_header(&list, "sec-fetch-site", request->cookie ? "same-origin" : NULL);
    add_header(&list, "x-request-id", request->request_id);
    add_header(&list, FORWARDED_HEADER, "1");
    add_header(&list, "expect", ""); /* no 100-continue */
    return list;
}

static void configure(CURL *curl, const struct forward_request *request,
                      const struct curl_slist *headers, char reason[CURL_ERROR_SIZE],
                      struct forward_answer *out)
{
    curl_easy_setopt(curl, CURLOPT_URL, request->url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_CAINFO, request->ca_file);
    curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_length);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, out);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, reason);
}

enum err forward_post(const struct forward_request *request, struct forward_answer *out,
                      struct diag *diag)
{
    AUTO(curl_easy_cleanup) CURL *curl = curl_easy_init();
    AUTO(curl_slist_free_all) struct curl_slist *headers = headers_of(request);
    char reason[CURL_ERROR_SIZE] = "";
    const char *type = NULL;
    long status = 0;

    must(curl);
    buf_init(&out->body, ANSWER_MAX);
    configure(curl, request, headers, reason, out);
    CURLcode code = curl_easy_perform(curl);
    if (code != CURLE_OK)
        return diag_set(diag, ERR_PEER_AWAY, "%s: %s", request->url,
                        reason[0] ? reason : curl_easy_strerror(code));
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(curl, CURLINFO_CONTENT_TYPE, &type);
    out->status = (int)status;
    snprintf(out->content_type, sizeof out->content_type, "%s", type ? type : "");
    return ERR_OK;
}
