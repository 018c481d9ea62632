/* Two phases: in the first everything may go wrong, and the auditor watches (I1, I2). Then all
 * faults end, the clients fall silent, operators mend what only they can, the two ledgers must
 * become equal (I3), and every seat must become grantable again (I4).
 *
 * A seed runs without a trace, which costs more than all the rest; one that fails is run again with
 * it. */
#include "world.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "twin.h"

static const struct world *failing; /* for a broken must(): SIGABRT prints the trace */
static const struct world_options *chosen;

void world_after(struct world *w, int64_t ms, agenda_function *function, void *subject,
                 uint64_t number)
{
    must(ms >= 0);
    agenda_add(&w->agenda, w->now_ms + ms, function, subject, number);
}

uint64_t world_order(struct world *w)
{
    return ++w->orders;
}

struct sim_node *world_other(struct world *w, const struct sim_node *node)
{
    return &w->nodes[1 - node->seat];
}

int world_identity(const struct world *w, const struct uuid *node_ref)
{
    for (size_t i = 0; i < w->identity_count; i++) {
        if (uuid_equal(&w->identities[i].node_ref, node_ref))
            return (int)i;
    }
    return -1;
}

size_t world_identity_new(struct world *w, const struct uuid *node_ref, size_t seat)
{
    must(w->identity_count < SIM_IDENTITIES_MAX);
    w->identities[w->identity_count] = (struct identity){ .node_ref = *node_ref, .seat = seat };
    return w->identity_count++;
}

bool world_faulty(const struct world *w)
{
    return !w->healing && !w->calm;
}

/* ---- failing ----------------------------------------------------------------------------------
 */

static void print_failure(const struct world *w)
{
    trace_print(&w->trace, chosen->full_trace ? TRACE_LINES : TRACE_SHORT, stderr);
    fprintf(stderr, "seed %" PRIu64 ": failed after %" PRId64 " ms\n", w->seed, w->now_ms);
}

/* Writes it so that it ends at `end`. */
static char *write_number(char *end, uint64_t number)
{
    do
        *--end = (char)('0' + number % 10);
    while (number /= 10);
    return end;
}

/* Once more, with a trace: only what may be done in a signal handler. */
static void run_again(void)
{
    static char seed[24], without[24], focus[24], program[] = "run", seed_is[] = "--again",
                                                  without_is[] = "--without-bits",
                                                  focus_is[] = "--focus-bits";
    char *arguments[] = { program, seed_is, NULL, without_is, NULL, focus_is, NULL, NULL };

    arguments[2] = write_number(seed + sizeof seed - 1, chosen->seed);
    arguments[4] = write_number(without + sizeof without - 1, chosen->without);
    arguments[6] = write_number(focus + sizeof focus - 1, chosen->focus);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execv("/proc/self/exe", arguments);
    _Exit(1);
}

_Noreturn void world_fail(const struct world *w, const char *format, ...)
{
    va_list args;

    if (!w->trace.lines)
        run_again();
    failing = NULL;
    print_failure(w);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

static void on_abort(int number)
{
    (void)number;
    if (failing && !failing->trace.lines)
        run_again();
    if (failing)
        print_failure(failing);
    _Exit(1);
}

/* ---- the plan of a run ------------------------------------------------------------------------
 */

/* Each run has its own mixture of faults: some have none of a kind, some have many. */
static unsigned some(struct world *w, unsigned most)
{
    return dice_chance(&w->dice, 500) ? 0 : (unsigned)dice_below(&w->dice, most + 1);
}

/* Some waits are short against the leases, some clocks are far apart. */
static int64_t draw_skew(struct world *w)
{
    switch (dice_below(&w->dice, 3)) {
    case 0:
        return dice_between(&w->dice, 3000, 5000);
    case 1:
        return dice_between(&w->dice, 5000, 12000);
    default:
        return dice_between(&w->dice, 12000, 20000);
    }
}

static void draw_plan(struct world *w, const struct world_options *options)
{
    struct plan *p = &w->plan;

    p->duration_ms = dice_between(&w->dice, 20000, 120000);
    p->skew_max_ms = draw_skew(w);
    p->clocks_wild = dice_chance(&w->dice, 80);
    p->policy_varies = dice_chance(&w->dice, 300);
    p->deletes = dice_chance(&w->dice, 300);
    p->incident_every_ms = dice_between(&w->dice, 2000, 24000);
    p->poll_max_ms = dice_chance(&w->dice, 500) ? 5000 : dice_between(&w->dice, 600, 12000);
    p->eager = dice_chance(&w->dice, 500);
    p->page_limit = 1 + dice_below(&w->dice, 8);
    for (size_t i = 0; i < INCIDENTS; i++)
        p->incidents |= dice_chance(&w->dice, 350) ? 1u << i : 0;
    p->incidents &= dice_chance(&w->dice, 900) ? ~(1u << INCIDENT_BOTH_LOST) : ~0u;
    if (p->clocks_wild)
        p->incidents &= 1u << INCIDENT_CUT | 1u << INCIDENT_KILL;
    if (options->focus) {
        p->clocks_wild = false;
        p->incidents = options->focus | 1u << INCIDENT_CUT;
        p->incident_every_ms = dice_between(&w->dice, 1000, 6000);
    }
    p->incidents &= ~options->without;
    w->wire.lost_per_mille = some(w, 150);
    w->wire.again_per_mille = some(w, 200);
    w->wire.slow_per_mille = some(w, 200);
    w->wire.delay_max_ms = dice_between(&w->dice, 2, 400);
}

static void make_node(struct world *w, size_t seat, int64_t lease_max_ms)
{
    struct sim_node *n = &w->nodes[seat];

    n->seat = seat;
    n->store.faults.away_per_mille = some(w, 15);
    n->store.faults.unknown_per_mille = some(w, 15);
    n->store.faults.slow_per_mille = some(w, 10);
    n->faults.crash_per_mille = some(w, 15);
    n->faults.suspend_per_mille = some(w, 3);
    n->faults.wall_step_per_mille = some(w, 10);
    n->faults.down_max_ms = dice_chance(&w->dice, 500) ? 1000 : 20000;
    n->wall_error_max_ms = w->plan.clocks_wild ? 7200000 : w->plan.skew_max_ms / 4;
    n->wall_offset_ms =
        SIM_EPOCH_MS + (dice_chance(&w->dice, 500)
                            ? 0
                            : dice_between(&w->dice, -n->wall_error_max_ms, n->wall_error_max_ms));
    n->boot_offset_ms = dice_between(&w->dice, 0, 1000000);
    n->drift_ppm = dice_chance(&w->dice, 500) ? 0 : dice_between(&w->dice, -200, 200);
    n->conf = (struct ledger_conf){
        .peer_expected = true,
        .lease_max_ms = lease_max_ms,
        .skew_max_ms = w->plan.skew_max_ms,
        .ended_keep_ms = dice_chance(&w->dice, 500) ? 0 : dice_between(&w->dice, 1000, 60000),
        .hash_seed = { dice_roll(&w->dice), dice_roll(&w->dice) },
    };
    node_start(w, n);
}

/* ---- running ----------------------------------------------------------------------------------
 */

static void run_until(struct world *w, int64_t end_ms)
{
    while (w->agenda.count && w->agenda.entries[0].at_ms <= end_ms) {
        struct agenda_entry entry = agenda_pop(&w->agenda);
        must(entry.at_ms >= w->now_ms);
        w->now_ms = entry.at_ms;
        entry.function(w, entry.subject, entry.number);
    }
    w->now_ms = end_ms;
}

/* Somebody sets the wall clocks; where they were far off, nodes are restarted to follow them. */
static void set_clocks(struct world *w)
{
    int64_t wall_ms = SIM_EPOCH_MS + w->now_ms;

    for (size_t i = 0; w->plan.clocks_wild && i < SIM_SEATS; i++) {
        if (w->nodes[i].clock.now_ms > wall_ms)
            wall_ms = w->nodes[i].clock.now_ms;
    }
    for (size_t i = 0; i < SIM_SEATS; i++) {
        struct sim_node *n = &w->nodes[i];
        n->wall_offset_ms = wall_ms - w->now_ms;
        n->store.away_until_ms = 0;
        if (w->plan.clocks_wild && n->process_up) {
            node_kill(w, n);
            node_restart_after(w, n, 1);
        }
    }
}

static void mend(struct world *w)
{
    int64_t patience_ms =
        w->now_ms + 3 * (w->nodes[0].conf.lease_max_ms + 2 * w->plan.skew_max_ms) + 60000;

    while (!operator_content(w)) {
        if (w->now_ms > patience_ms)
            world_fail(
                w,
                "I4: the nodes do not come together: A is %s (%s here, %s there), B is %s "
                "(%s here, %s there)",
                w->nodes[0].ledger ? self_state_name(ledger_pair(w->nodes[0].ledger).self) : "down",
                err_info(w->nodes[0].worker.refused_here)->code,
                err_info(w->nodes[0].worker.refused_there)->code,
                w->nodes[1].ledger ? self_state_name(ledger_pair(w->nodes[1].ledger).self) : "down",
                err_info(w->nodes[1].worker.refused_here)->code,
                err_info(w->nodes[1].worker.refused_there)->code);
        operator_mend(w);
        run_until(w, w->now_ms + 500);
    }
}

static void heal(struct world *w)
{
    struct diag diag = { "" };

    world_trace(w, "---- healing");
    w->healing = true;
    w->calm = false;
    w->cut[0][1] = w->cut[1][0] = false;
    set_clocks(w);
    run_until(w, w->now_ms + 8000); /* what is on its way arrives */
    mend(w);
    operator_reinstall(w);
    run_until(w, w->now_ms + w->nodes[0].conf.lease_max_ms + w->plan.skew_max_ms + 15000);
    mend(w);
    run_until(w, w->now_ms + 10000); /* what a late contact has set in motion */
    if (pair_difference(&w->nodes[0].store.rows, &w->nodes[1].store.rows, &diag))
        world_fail(w, "I3: %s", diag.text);
}

static void clean_up(struct world *w)
{
    for (size_t i = 0; i < SIM_SEATS; i++)
        node_stop(w, &w->nodes[i]);
    while (w->agenda.count) { /* requests are freed by their senders */
        struct agenda_entry entry = agenda_pop(&w->agenda);
        if (w->now_ms < entry.at_ms)
            w->now_ms = entry.at_ms;
        entry.function(w, entry.subject, entry.number);
    }
    for (size_t i = 0; i < SIM_SEATS; i++) {
        sim_store_fini(&w->nodes[i].store);
        rows_fini(&w->nodes[i].backup.rows);
    }
    operator_fini(&w->operator);
    auditor_fini(&w->auditor);
    agenda_fini(&w->agenda);
    trace_fini(&w->trace);
}

static struct world_summary sum_up(const struct world *w)
{
    const struct sim_node *a = &w->nodes[0], *b = &w->nodes[1];

    return (struct world_summary){
        .steps = w->steps,
        .batches = a->batches + b->batches,
        .crashes = a->crashes + b->crashes,
        .reloads = a->reloads + b->reloads,
        .pages = a->pages + b->pages,
        .told = w->auditor.told_leases,
        .checks = w->auditor.checks,
        .identities = w->identity_count,
        .retired = w->operator.retired,
        .closed = w->operator.retired_closed,
    };
}

struct world_summary world_run(const struct world_options *options)
{
    struct world *w = mem_calloc(1, sizeof *w);

    failing = w;
    chosen = options;
    must(signal(SIGABRT, on_abort) != SIG_ERR);
    w->seed = options->seed;
    if (options->trace)
        trace_start(&w->trace);
    w->dice.state = options->seed;
    draw_plan(w, options);
    int64_t lease_max_ms = dice_between(&w->dice, 2000, dice_chance(&w->dice, 700) ? 20000 : 40000);
    make_node(w, 0, lease_max_ms);
    make_node(w, 1, lease_max_ms);
    operator_start(w);
    clients_start(w);
    run_until(w, w->plan.duration_ms);
    heal(w);
    operator_take_stock(w);
    struct world_summary summary = sum_up(w);
    clean_up(w);
    failing = NULL;
    mem_free(w);
    return summary;
}
