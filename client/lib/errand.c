#include "errand.h"

#include <string.h>

#include "base/random.h"

void reply_fini(struct reply *reply)
{
    json_object_put(reply->json);
    http_response_fini(&reply->response);
    *reply = (struct reply){ .json = NULL };
}

void errand_init(struct errand *errand, struct nodes *nodes, const struct session_options *options,
                 const struct effort *effort, struct twinlease_error *error)
{
    int64_t deadline_ms = effort->deadline_ms ? effort->deadline_ms : options->deadline_ms;

    *errand = (struct errand){
        .nodes = nodes,
        .options = options,
        .until = { boot_now().ms + deadline_ms },
        .cancel = effort->cancel,
        .once = effort->once,
        .error = error,
    };
}

void errand_fini(struct errand *errand)
{
    nodes_unref(errand->nodes);
    errand->nodes = NULL;
}

int64_t errand_left_ms(const struct errand *errand)
{
    int64_t left_ms = errand->until.ms - boot_now().ms;

    return left_ms > 0 ? left_ms : 0;
}

enum twinlease_code errand_interrupted(struct errand *errand)
{
    return fault_set(errand->error, TWINLEASE_INTERRUPTED, "the call was interrupted");
}

/* ---- one node ---------------------------------------------------------------------------- */

static void note_sync(struct errand *errand, struct json_object *body)
{
    int64_t sync_ms = body ? answer_sync_ms(body) : 0;

    if (!sync_ms)
        return;
    errand->sync_ms = sync_ms;
    errand->synced = boot_now();
}

static void note_retry_after(struct errand *errand, size_t node, int64_t after_ms)
{
    if (after_ms > WALK_ASK_AFTER_MS)
        after_ms = WALK_ASK_AFTER_MS;
    errand->not_before[node].ms = boot_now().ms + after_ms;
}

enum twinlease_code errand_ask(struct errand *errand, size_t node, int64_t budget_ms,
                               const struct http_request *what, struct reply *out)
{
    int64_t connect_ms = errand->options->connect_ms;
    struct http_request request = *what;
    enum twinlease_code code;

    request.base = nodes_tok(errand->nodes)->node_urls[node];
    request.content_type = "application/json";
    request.connect_ms = connect_ms < budget_ms ? connect_ms : budget_ms;
    request.total_ms = budget_ms;
    request.cancel = errand->cancel;
    reply_fini(out);
    out->asked = boot_now();
    code = transport_send(nodes_transport(errand->nodes), &request, &out->response, errand->error);
    if (out->response.timed_out && budget_ms >= WALK_GLANCE_MS)
        nodes_note_silence(errand->nodes, node);
    if (code != TWINLEASE_OK)
        return code;
    nodes_note_answer(errand->nodes, node);
    out->answer = http_answer(&request, &out->response);
    code = answer_read(&out->answer, &out->json, errand->error);
    if (code == TWINLEASE_NO_NODE)
        note_retry_after(errand, node, out->response.retry_after_ms);
    note_sync(errand, out->json);
    return code;
}

/* ---- one round --------------------------------------------------------------------------- */

struct round {
    struct twinlease_error verdict; /* OK: nobody was asked */
    bool passing;                   /* a node may do better in a moment */
    bool answered;                  /* a node did, whatever it said */
};

/* Of two nodes' refusals the one that says more. "Unknown here" is no verdict while another node,
 * which may know, is silent. */
static void weigh(struct twinlease_error *kept, const struct twinlease_error *next)
{
    static const int weight[] = {
        [TWINLEASE_UNTRUSTED] = 1,
        [TWINLEASE_NO_SEAT] = 2,
    };
    int old = kept->code < ARRAY_SIZE(weight) ? weight[kept->code] : 0;
    int new = next->code < ARRAY_SIZE(weight) ? weight[next->code] : 0;

    if (kept->code == TWINLEASE_OK || new > old ||
        (kept->code == TWINLEASE_LEASE_LOST && next->code != TWINLEASE_LEASE_LOST)) {
        *kept = *next;
    } else if (new == old && kept->code == next->code && kept->code == TWINLEASE_NO_NODE) {
        struct twinlease_error first = *kept;
        fault_set(kept, TWINLEASE_NO_NODE, "%s; %s", first.message, next->message);
    }
}

/* True: the answer stands, as errand->error has it. */
static bool try_node(struct errand *errand, struct round *round, size_t node,
                     const struct walk_step *step, attempt_fn *attempt, void *context)
{
    enum twinlease_code code = attempt(errand, node, walk_budget_ms(step), context);

    if (code == TWINLEASE_OK)
        fault_clear(errand->error); /* of what other nodes said before */
    if (code == TWINLEASE_OK || !answer_is_local(errand->error)) {
        if (code != TWINLEASE_INTERRUPTED)
            nodes_prefer(errand->nodes, node);
        return true;
    }
    round->answered = round->answered || errand->error->http_status != 0;
    round->passing = round->passing || answer_is_passing(errand->error);
    weigh(&round->verdict, errand->error);
    return false;
}

/* A node was not asked this time: what the others do not know is not the last word. */
static void allow_for_unasked(const struct errand *errand, struct round *round, size_t node)
{
    struct twinlease_error unasked;

    round->passing = true;
    if (round->verdict.code != TWINLEASE_LEASE_LOST)
        return;
    fault_set(&unasked, TWINLEASE_NO_NODE, "%s could not be asked yet",
              nodes_tok(errand->nodes)->node_urls[node]);
    weigh(&round->verdict, &unasked);
}

/* Asks every node that may be asked now, until one's answer stands: true. */
static bool ask_around(struct errand *errand, struct round *round, attempt_fn *attempt,
                       void *context)
{
    size_t count = nodes_tok(errand->nodes)->node_count, order[TOK_NODES_MAX];
    struct walk_step step = { .attempt_ms = errand->options->attempt_ms };
    bool silent[TOK_NODES_MAX];
    size_t unasked = count;

    nodes_order(errand->nodes, order, silent);
    for (size_t i = 0; i < count; i++) {
        size_t node = order[i];
        step.left_ms = errand_left_ms(errand);
        step.silent = silent[node];
        step.last = i + 1 == count;
        step.answered = round->answered;
        if (!step.left_ms || boot_now().ms < errand->not_before[node].ms)
            unasked = node;
        else if (try_node(errand, round, node, &step, attempt, context))
            return true;
    }
    if (unasked < count)
        allow_for_unasked(errand, round, unasked);
    return false;
}

/* ---- round after round ------------------------------------------------------------------- */

/* Before that nobody is to be asked. */
static int64_t earliest_ms(const struct errand *errand)
{
    int64_t earliest = errand->not_before[0].ms;

    for (size_t i = 1; i < nodes_tok(errand->nodes)->node_count; i++) {
        if (errand->not_before[i].ms < earliest)
            earliest = errand->not_before[i].ms;
    }
    return earliest;
}

/* True: it is time for another round. Else errand->error says why not, if it is cancelled. */
static bool wait_for_round(struct errand *errand, unsigned round)
{
    int64_t now_ms = boot_now().ms, next_ms, asked_ms = earliest_ms(errand);
    uint32_t dice;

    random_bytes(&dice, sizeof dice);
    next_ms = now_ms + walk_pause_ms(round, dice);
    if (!errand->retry_until.ms)
        errand->retry_until.ms = now_ms + errand->options->retry_ms;
    if (next_ms < asked_ms)
        next_ms = asked_ms;
    if (errand->once || next_ms >= errand->retry_until.ms || next_ms >= errand->until.ms)
        return false;
    if (!cancel_wait(errand->cancel, next_ms - now_ms))
        return true;
    errand_interrupted(errand);
    return false;
}

enum twinlease_code errand_walk(struct errand *errand, attempt_fn *attempt, void *context)
{
    for (unsigned number = 0;; number++) {
        struct round round = { .passing = false };
        if (ask_around(errand, &round, attempt, context))
            return errand->error->code;
        if (round.verdict.code == TWINLEASE_OK)
            return number ? errand->error->code
                          : fault_set(errand->error, TWINLEASE_NO_NODE, "no node answered in time");
        *errand->error = round.verdict;
        /* A denial is a decision, also while the other node is away. */
        if (!round.passing || round.verdict.code == TWINLEASE_NO_SEAT ||
            !wait_for_round(errand, number))
            return errand->error->code;
    }
}
