#include "node.h"

#include <stdio.h>

#include "output.h"
#include "tok.h"

#define TIMEOUT_SECONDS 10
#define TIMEOUT_MAX     3600
#define CONNECT_MS      3000
#define CA_FILE_MAX     (256 << 10)
#define TOKEN_FILE_MAX  8192
#define PAGES_MAX       1000000 /* a node that never comes to an end is broken */
#define PATH_MAX_BYTES  4096

void node_fini(struct node *node)
{
    transport_free(node->transport);
    mem_free(node->url);
    if (node->token)
        explicit_bzero(node->token, strlen(node->token));
    mem_free(node->token);
}

enum twinlease_code timeout_read(const struct args *args, int64_t *out_ms,
                                 struct twinlease_error *error)
{
    int64_t seconds = TIMEOUT_SECONDS;
    enum twinlease_code code = args_int(args, "timeout", 1, TIMEOUT_MAX, &seconds, error);

    if (code == TWINLEASE_OK)
        *out_ms = seconds * 1000;
    return code;
}

/* A trailing slash is forgiven. */
static enum twinlease_code read_url(const struct args *args, char **out,
                                    struct twinlease_error *error)
{
    const char *text = args_text(args, "url");

    if (!text)
        return fault_set(error, TWINLEASE_USAGE,
                         "name the node with --url https://host[:port] or TWINLEASE_URL");
    AUTO(mem_free) char *url = mem_strdup(text);
    size_t length = strlen(url);
    if (url[length - 1] == '/')
        url[length - 1] = '\0';
    if (!tok_url_valid(url))
        return fault_set(error, TWINLEASE_USAGE,
                         "--url is \"%.200s\"; it must be "
                         "https://host[:port]",
                         text);
    *out = TAKE(url);
    return TWINLEASE_OK;
}

static enum twinlease_code read_token(const struct args *args, bool needed, char **out,
                                      struct twinlease_error *error)
{
    const char *path = args_text(args, "token-file");
    AUTO(buf_fini_secret) struct buf text = { .max = TOKEN_FILE_MAX };

    if (!path && needed)
        return fault_set(error, TWINLEASE_USAGE,
                         "name the file with the operator's token with --token-file or "
                         "TWINLEASE_TOKEN_FILE");
    if (!path)
        return TWINLEASE_OK;
    enum twinlease_code code = text_read(path, &text, error);
    if (code != TWINLEASE_OK)
        return code;
    for (const char *p = buf_text(&text); *p; p++) {
        if (*p <= ' ' || *p > '~')
            return fault_set(error, TWINLEASE_BAD_FILE, "%s: not a token: one word of plain ASCII",
                             path);
    }
    *out = buf_take(&text);
    return TWINLEASE_OK;
}

enum twinlease_code node_open(const struct args *args, bool token_needed, struct node *out,
                              struct twinlease_error *error)
{
    AUTO(buf_fini) struct buf ca = { .max = CA_FILE_MAX };
    const char *ca_path = args_text(args, "ca");
    int64_t timeout_ms = 0;
    enum twinlease_code code;

    if ((code = timeout_read(args, &timeout_ms, error)) != TWINLEASE_OK ||
        (code = read_url(args, &out->url, error)) != TWINLEASE_OK ||
        (code = read_token(args, token_needed, &out->token, error)) != TWINLEASE_OK)
        return code;
    if (ca_path && (code = text_read(ca_path, &ca, error)) != TWINLEASE_OK)
        return code;
    code = transport_new(ca_path ? buf_text(&ca) : NULL, &out->transport, error);
    if (code == TWINLEASE_UNTRUSTED)
        return fault_set(error, TWINLEASE_BAD_FILE, "%s: no certificate in PEM form", ca_path);
    out->until.ms = boot_now().ms + timeout_ms;
    return code;
}

/* ---- calls ------------------------------------------------------------------------------- */

static enum twinlease_code send_call(struct node *node, const struct node_call *call,
                                     struct http_request *request, struct http_response *response,
                                     struct twinlease_error *error)
{
    int64_t left_ms = node->until.ms - boot_now().ms;

    if (left_ms <= 0)
        return fault_set(error, TWINLEASE_NO_NODE, "%s does not answer in time; see --timeout",
                         node->url);
    *request = (struct http_request){
        .method = call->method,
        .base = node->url,
        .path = call->path,
        .bearer = node->token,
        .body = call->body,
        .content_type = call->content_type,
        .answer_max = ANSWER_LIST_MAX,
        .connect_ms = left_ms < CONNECT_MS ? left_ms : CONNECT_MS,
        .total_ms = left_ms,
    };
    return transport_send(node->transport, request, response, error);
}

enum twinlease_code node_json(struct node *node, const struct node_call *call,
                              struct json_object **out, struct twinlease_error *error)
{
    AUTO(http_response_fini) struct http_response response = { .status = 0 };
    struct http_request request;
    enum twinlease_code code = send_call(node, call, &request, &response, error);

    if (code != TWINLEASE_OK)
        return code;
    struct answer answer = http_answer(&request, &response);
    return answer_read(&answer, out, error);
}

enum twinlease_code node_text(struct node *node, const struct node_call *call, struct buf *out,
                              struct twinlease_error *error)
{
    AUTO(http_response_fini) struct http_response response = { .status = 0 };
    struct http_request request;
    enum twinlease_code code = send_call(node, call, &request, &response, error);

    if (code != TWINLEASE_OK)
        return code;
    struct answer answer = http_answer(&request, &response);
    if ((code = answer_check(&answer, error)) != TWINLEASE_OK)
        return code;
    if (text_trim(node->url, &response.body, out, error) != TWINLEASE_OK)
        return fault_set(error, TWINLEASE_BAD_ANSWER, "%s answers without a token", node->url);
    return TWINLEASE_OK;
}

/* The next page must be one of the same node: a path, or an address that begins with ours. */
static const char *next_path(const struct node *node, const char *next)
{
    size_t length = strlen(node->url);

    if (strncmp(next, node->url, length) == 0)
        next += length;
    return next[0] == '/' && next[1] != '/' ? next : NULL;
}

static enum twinlease_code read_page(struct node *node, const char *path, struct buf *following,
                                     struct json_object **out, struct twinlease_error *error)
{
    AUTO(http_response_fini) struct http_response response = { .status = 0 };
    const struct node_call call = { .method = "GET", .path = path };
    struct http_request request;
    enum twinlease_code code = send_call(node, &call, &request, &response, error);

    if (code != TWINLEASE_OK)
        return code;
    struct answer answer = http_answer(&request, &response);
    if ((code = answer_read(&answer, out, error)) != TWINLEASE_OK)
        return code;
    const char *next = *response.next ? next_path(node, response.next) : "";
    if (!next || !*out)
        return fault_set(error, TWINLEASE_BAD_ANSWER, "%s answers with a list that leads elsewhere",
                         node->url);
    buf_text_append(following, next);
    return TWINLEASE_OK;
}

enum twinlease_code node_pages(struct node *node, const char *path, const char *member,
                               node_item_fn *fn, void *context, struct twinlease_error *error)
{
    AUTO(mem_free) char *at = mem_strdup(path);
    int64_t patience_ms = node->until.ms - boot_now().ms;

    for (int pages = 0; *at && pages < PAGES_MAX; pages++) {
        AUTO(json_object_put) struct json_object *page = NULL;
        AUTO(buf_fini) struct buf following = { .max = PATH_MAX_BYTES };
        enum twinlease_code code = read_page(node, at, &following, &page, error);
        if (code != TWINLEASE_OK)
            return code;
        struct json_object *list = get_list(page, member);
        for (size_t i = 0; i < list_count(list); i++) {
            if (!fn(json_object_array_get_idx(list, i), context))
                return TWINLEASE_OK;
        }
        mem_free(at);
        at = buf_take(&following);
        node->until.ms = boot_now().ms + patience_ms; /* each page has the whole time */
    }
    return TWINLEASE_OK;
}

void query_append(struct buf *out, const char *text)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";

    for (const char *p = text; *p; p++) {
        if (strchr(plain, *p))
            buf_append(out, p, 1);
        else
            buf_format(out, "%%%02X", (unsigned char)*p);
    }
}
