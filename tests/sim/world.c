/* Two phases: in the first everything may go wrong, and the auditor watches (I1, I2). Then all
 * faults end, the clients fall silent, and every seat must become grantable again (I4). */
#include "world.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>

static const struct world *failing; /* for a broken must(): SIGABRT prints the trace */

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

static void print_failure(const struct world *w)
{
    trace_print(&w->trace, stderr);
    fprintf(stderr, "seed %" PRIu64 ": failed after %" PRId64 " ms\n", w->seed, w->now_ms);
}

_Noreturn void world_fail(const struct world *w, const char *format, ...)
{
    va_list args;

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
    if (failing)
        print_failure(failing);
    _Exit(1);
}

/* Each run has its own mixture of faults: some have none of a kind, some have many. */
static unsigned some(struct world *w, unsigned most)
{
    return dice_chance(&w->dice, 400) ? 0 : (unsigned)dice_below(&w->dice, most + 1);
}

static void set_faults(struct world *w)
{
    w->wire.lost_per_mille = some(w, 150);
    w->wire.delay_max_ms = dice_between(&w->dice, 2, 400);
    w->store.faults.away_per_mille = some(w, 20);
    w->store.faults.unknown_per_mille = some(w, 20);
    w->store.faults.slow_per_mille = some(w, 10);
    w->node.faults.crash_per_mille = some(w, 20);
    w->node.faults.suspend_per_mille = some(w, 2);
    w->node.faults.wall_step_per_mille = some(w, 10);
    w->node.faults.wall_step_max_ms = dice_chance(&w->dice, 500) ? 5000 : 7200000;
    w->node.faults.down_max_ms = dice_chance(&w->dice, 500) ? 2000 : 300000;
}

static void make_node(struct world *w)
{
    w->node.wall_offset_ms = SIM_EPOCH_MS;
    w->node.boot_offset_ms = dice_between(&w->dice, 0, 1000000);
    w->node.conf = (struct ledger_conf){
        .self = dice_uuid(&w->dice),
        .lease_max_ms = dice_between(&w->dice, 5000, 600000),
        .ended_keep_ms = dice_chance(&w->dice, 500) ? 0 : dice_between(&w->dice, 1000, 600000),
        .hash_seed = { dice_roll(&w->dice), dice_roll(&w->dice) },
    };
}

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

static void heal(struct world *w)
{
    w->healing = true;
    w->wire.lost_per_mille = 0;
    w->store.faults = (struct store_faults){ 0 };
    w->node.faults = (struct node_faults){ .down_max_ms = 1 };
    run_until(w, w->now_ms + 1200000); /* what is on its way arrives */
    if (!w->node.ledger)
        world_fail(w, "I4: the node does not come back");
    w->node.wall_offset_ms = w->node.clock.now_ms - w->now_ms; /* somebody sets its clock */
    run_until(w, w->now_ms + w->node.conf.lease_max_ms * 3 / 2 + 2000);
}

static void clean_up(struct world *w)
{
    node_stop(w);
    while (w->agenda.count) { /* requests are freed by their senders */
        struct agenda_entry entry = agenda_pop(&w->agenda);
        if (w->now_ms < entry.at_ms)
            w->now_ms = entry.at_ms;
        entry.function(w, entry.subject, entry.number);
    }
    operator_fini(&w->operator);
    auditor_fini(&w->auditor);
    sim_store_fini(&w->store);
    agenda_fini(&w->agenda);
}

struct world_summary world_run(uint64_t seed, int64_t duration_ms)
{
    struct world *w = mem_calloc(1, sizeof *w);

    failing = w;
    must(signal(SIGABRT, on_abort) != SIG_ERR);
    w->seed = seed;
    w->dice.state = seed;
    set_faults(w);
    make_node(w);
    node_start(w);
    operator_start(w);
    clients_start(w);
    run_until(w, duration_ms);
    heal(w);
    operator_take_stock(w);
    struct world_summary summary = { w->node.batches, w->node.crashes, w->node.reloads,
                                     w->auditor.told_leases, w->auditor.checks };
    clean_up(w);
    failing = NULL;
    mem_free(w);
    return summary;
}
