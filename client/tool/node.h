/* One node, as an operator speaks to it. */
#pragma once

#include "args.h"
#include "files.h"
#include "transport.h"

struct node {
    struct transport *transport;
    char *url;
    char *token; /* NULL: none */
    struct boot until;
};
void node_fini(struct node *node); /* takes a zeroed one too */
DEFINE_AUTO_VALUE(struct node, node_fini)

/* From --url, --ca, --token-file and --timeout. Without a token file: USAGE, unless !token_needed.
 */
enum twinlease_code node_open(const struct args *args, bool token_needed, struct node *out,
                              struct twinlease_error *error) MUST_USE;

struct node_call {
    const char *method, *path;
    const char *body, *content_type; /* NULL: none */
};

/* The answer as JSON; NULL if it has no body. The caller owns *out. */
enum twinlease_code node_json(struct node *node, const struct node_call *call,
                              struct json_object **out, struct twinlease_error *error) MUST_USE;
/* The answer as text (a token), without white space around it. *out is fresh. */
enum twinlease_code node_text(struct node *node, const struct node_call *call, struct buf *out,
                              struct twinlease_error *error) MUST_USE;

/* Calls fn with each item of the list `member` of each page, to the end or until it says false. */
typedef bool node_item_fn(struct json_object *item, void *context);
enum twinlease_code node_pages(struct node *node, const char *path, const char *member,
                               node_item_fn *fn, void *context,
                               struct twinlease_error *error) MUST_USE;

/* Appends text percent-encoded (RFC 3986), for a query. */
void query_append(struct buf *out, const char *text);

/* --timeout, in milliseconds. */
enum twinlease_code timeout_read(const struct args *args, int64_t *out_ms,
                                 struct twinlease_error *error) MUST_USE;
