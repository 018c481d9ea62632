/* Operators' commands on the pair: how the nodes stand to each other, and what a person has to
 * decide (R10). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "confirm.h"
#include "node.h"

#define POLL_MS         200 /* between two looks at a node that is handing over */
#define BODY_MAX        256
#define SECONDS_A_DAY   86400
#define SECONDS_AN_HOUR 3600

/* ---- status ------------------------------------------------------------------------------ */

static enum twinlease_code fetch_pair(struct node *node, struct json_object **out,
                                      struct twinlease_error *error)
{
    const struct node_call call = { .method = "GET", .path = "/-/peer" };

    return node_json(node, &call, out, error);
}

static double get_seconds(struct json_object *object, const char *path)
{
    struct json_object *value = NULL;

    return json_object_object_get_ex(object, path, &value) ? json_object_get_double(value) : 0;
}

static void print_self(const struct output *out, const struct node *node, struct json_object *pair)
{
    const char *role = get_text(pair, "self.role"), *by = get_text(pair, "self.retired_by");

    output_line(out, "%s: node %s%s%s, %s%s%s", node->url, get_text(pair, "self.node_ref"),
                *role ? ", " : "", role, get_text(pair, "self.state"), *by ? " by " : "", by);
}

static void print_lag(const struct output *out, struct json_object *peer)
{
    output_line(out,
                "  not here yet: %" PRId64 " of its changes (%.3f s); not there yet: %" PRId64
                " of ours (%.3f s)",
                get_int(peer, "lag_changes"), get_seconds(peer, "lag_seconds"),
                get_int(peer, "unacknowledged_changes"),
                get_seconds(peer, "unacknowledged_seconds"));
}

static void print_peer(const struct output *out, struct json_object *pair)
{
    struct json_object *peer = NULL;
    const char *ref = get_text(pair, "peer.node_ref"), *since = get_text(pair, "peer.away_since");

    json_object_object_get_ex(pair, "peer", &peer);
    output_line(out, "peer %s%s%s: %s%s%.19s%s", get_text(peer, "address"), *ref ? ", node " : "",
                ref, get_text(peer, "state"), *since ? " since " : "", since, *since ? "Z" : "");
    if (*get_text(peer, "detail"))
        output_line(out, "  %s: %s", get_text(peer, "reason"), get_text(peer, "detail"));
    if (strcmp(get_text(peer, "state"), "none") != 0)
        print_lag(out, peer);
    if (get_bool(peer, "closed"))
        output_line(out, "  it was drained: retiring it needs no wait");
    if (get_bool(peer, "clock_suspect"))
        output_line(out,
                    "  its clock differs by %.1f s: seats of expired leases are not given "
                    "out again",
                    get_seconds(peer, "clock_difference_seconds"));
    if (*get_text(peer, "waits_until"))
        output_line(out, "  seats of a retired node stay locked until %.19sZ",
                    get_text(peer, "waits_until"));
}

static void print_seats(const struct output *out, struct json_object *scope)
{
    const char *until = get_text(scope, "locked_until");

    output_line(
        out, "  %-24s %6" PRId64 " at the peer, %" PRId64 " locked%s%.19s%s, %" PRId64 " pending",
        get_text(scope, "feature"), get_int(scope, "at_peer"), get_int(scope, "locked"),
        *until ? " until " : "", until, *until ? "Z" : "", get_int(scope, "pending"));
}

enum twinlease_code peer_status(const struct args *args, struct output *out,
                                struct twinlease_error *error)
{
    AUTO(json_object_put) struct json_object *pair = NULL;
    AUTO(node_fini) struct node node = { 0 };
    enum twinlease_code code;

    if ((code = node_open(args, true, &node, error)) != TWINLEASE_OK ||
        (code = fetch_pair(&node, &pair, error)) != TWINLEASE_OK)
        return code;
    print_self(out, &node, pair);
    print_peer(out, pair);
    struct json_object *scopes = get_list(pair, "seats_elsewhere");
    for (size_t i = 0; i < list_count(scopes); i++)
        print_seats(out, json_object_array_get_idx(scopes, i));
    output_document(out, TAKE(pair));
    return TWINLEASE_OK;
}

/* ---- retire ------------------------------------------------------------------------------ */

static void span_format(int64_t seconds, char *out, size_t size)
{
    if (seconds >= 2 * SECONDS_A_DAY)
        snprintf(out, size, "%" PRId64 " days", seconds / SECONDS_A_DAY);
    else if (seconds >= 2 * SECONDS_AN_HOUR)
        snprintf(out, size, "%" PRId64 " hours", seconds / SECONDS_AN_HOUR);
    else
        snprintf(out, size, "%" PRId64 " s", seconds);
}

/* On standard error: what is printed on standard output is the result. */
static void explain_cost(struct json_object *pair)
{
    struct json_object *scopes = get_list(pair, "seats_elsewhere");
    const char *ref = get_text(pair, "peer.node_ref");
    int64_t wait = get_int(pair, "peer.retire_wait_seconds");
    char span[40];

    fprintf(stderr,
            "Retiring node %s (%s) is for ever. If it still runs somewhere, stop it first: it may\n"
            "only come back with an empty database.\n",
            *ref ? ref : "(every one that is counted)", get_text(pair, "peer.state"));
    if (wait == 0) {
        fprintf(stderr, "It was drained, or there is nothing to wait for: no seat stays locked.\n");
        return;
    }
    span_format(wait, span, sizeof span);
    fprintf(stderr, "What it may have promised unseen stays locked for about %s:\n", span);
    for (size_t i = 0; i < list_count(scopes); i++) {
        struct json_object *scope = json_object_array_get_idx(scopes, i);
        fprintf(stderr, "  %-24s %6" PRId64 " free seats, and those of its shared leases\n",
                get_text(scope, "feature"), get_int(scope, "at_peer"));
    }
}

static enum twinlease_code confirm(struct json_object *pair, struct twinlease_error *error)
{
    enum twinlease_code code = confirm_possible("retiring is for ever", error);

    if (code != TWINLEASE_OK)
        return code;
    explain_cost(pair);
    return confirm_word("retire", error);
}

static enum twinlease_code retire_body(const struct args *args, char body[BODY_MAX],
                                       struct twinlease_error *error)
{
    char ref[UUID_TEXT_SIZE + 16] = "", text[UUID_TEXT_SIZE];
    struct uuid node_ref;

    if (args->operand_count == 1) {
        const char *given = args->operands[0];
        if (!uuid_parse(given, strlen(given), &node_ref))
            return fault_set(error, TWINLEASE_USAGE, "\"%.40s\" is no node reference (a UUID)",
                             given);
        uuid_format(&node_ref, text);
        snprintf(ref, sizeof ref, "\"node_ref\":\"%s\",", text);
    }
    snprintf(body, BODY_MAX, "{%s\"force\":%s}", ref, args_has(args, "force") ? "true" : "false");
    return TWINLEASE_OK;
}

enum twinlease_code peer_retire(const struct args *args, struct output *out,
                                struct twinlease_error *error)
{
    AUTO(json_object_put) struct json_object *pair = NULL, *answer = NULL;
    AUTO(node_fini) struct node node = { 0 };
    char body[BODY_MAX];
    enum twinlease_code code;

    if ((code = retire_body(args, body, error)) != TWINLEASE_OK ||
        (code = node_open(args, true, &node, error)) != TWINLEASE_OK)
        return code;
    if (!args_has(args, "yes")) {
        int64_t patience_ms = node.until.ms - boot_now().ms;
        if ((code = fetch_pair(&node, &pair, error)) != TWINLEASE_OK ||
            (code = confirm(pair, error)) != TWINLEASE_OK)
            return code;
        node.until.ms = boot_now().ms + patience_ms; /* people take their time */
    }
    const struct node_call call = { "POST", "/-/peer/retire", body, "application/json" };
    if ((code = node_json(&node, &call, &answer, error)) != TWINLEASE_OK)
        return code;
    const char *until = get_text(answer, "waits_until");
    if (*until)
        output_line(out, "Retired. What it may have promised unseen stays locked until %.19sZ.",
                    until);
    else
        output_line(out, "Retired. Its seats can be leased now.");
    output_document(out, TAKE(answer));
    return TWINLEASE_OK;
}

/* ---- drain and resume -------------------------------------------------------------------- */

static bool handed_over(struct json_object *pair)
{
    return strcmp(get_text(pair, "self.state"), "drained") == 0 &&
           get_int(pair, "peer.unacknowledged_changes") == 0;
}

static bool resumed(struct json_object *pair)
{
    return strcmp(get_text(pair, "self.state"), "serving") == 0;
}

/* Looks again and again until it is so, or --timeout is over. */
static enum twinlease_code wait_until(struct node *node, bool (*is_so)(struct json_object *pair),
                                      const char *what, struct json_object **out,
                                      struct twinlease_error *error)
{
    const struct timespec pause = { .tv_nsec = POLL_MS * 1000000L };

    for (;;) {
        AUTO(json_object_put) struct json_object *pair = NULL;
        enum twinlease_code code = fetch_pair(node, &pair, error);
        if (code != TWINLEASE_OK)
            return code;
        if (is_so(pair)) {
            *out = TAKE(pair);
            return TWINLEASE_OK;
        }
        if (boot_now().ms + POLL_MS >= node->until.ms)
            return fault_set(error, TWINLEASE_NO_NODE,
                             "%s: %s; %" PRId64 " of its changes are not at the peer yet (%s)",
                             node->url, what, get_int(pair, "peer.unacknowledged_changes"),
                             get_text(pair, "peer.state"));
        nanosleep(&pause, NULL);
    }
}

struct change {
    const char *path, *late, *done;
    bool (*is_so)(struct json_object *pair);
};

static enum twinlease_code change(const struct args *args, const struct change *change,
                                  struct output *out, struct twinlease_error *error)
{
    const struct node_call call = { "POST", change->path, "{}", "application/json" };
    AUTO(json_object_put) struct json_object *answer = NULL, *pair = NULL;
    AUTO(node_fini) struct node node = { 0 };
    enum twinlease_code code;

    if ((code = node_open(args, true, &node, error)) != TWINLEASE_OK ||
        (code = node_json(&node, &call, &answer, error)) != TWINLEASE_OK ||
        (code = wait_until(&node, change->is_so, change->late, &pair, error)) != TWINLEASE_OK)
        return code;
    output_line(out, "%s", change->done);
    output_document(out, TAKE(pair));
    return TWINLEASE_OK;
}

enum twinlease_code peer_drain(const struct args *args, struct output *out,
                               struct twinlease_error *error)
{
    static const struct change drain = {
        .path = "/-/peer/drain",
        .late = "is draining, but not done",
        .done = "Drained: the peer has everything. This node may be stopped, and retired there "
                "without a wait.",
        .is_so = handed_over,
    };

    return change(args, &drain, out, error);
}

enum twinlease_code peer_resume(const struct args *args, struct output *out,
                                struct twinlease_error *error)
{
    static const struct change resume = {
        .path = "/-/peer/resume",
        .late = "was resumed, but its peer has not heard of it",
        .done = "The node serves again.",
        .is_so = resumed,
    };

    return change(args, &resume, out, error);
}
