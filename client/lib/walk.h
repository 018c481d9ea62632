/* Which node is asked, for how long, and how soon again: the policy alone. Pure.
 *
 * A walk asks the nodes of a client token one after the other until one's answer stands. Each gets
 * attempt_ms while another is left to ask, and at most half of the time, so that a node that
 * accepts and says nothing costs no more than that, once: it is not asked first for a while, and
 * not for long while another answers. The last one, if nobody has answered, gets all the time there
 * is: a slow answer is better than none. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WALK_NODES_MAX    8
#define WALK_SILENT_MS    10000 /* for which a node that did not answer counts as silent */
#define WALK_GLANCE_MS    500   /* for a silent node to answer, while another one does */
#define WALK_ASK_AFTER_MS 1000  /* by which a node may at most ask not to be asked again */

/* The indexes of count nodes in the order to ask: in turn, from `first` on, silent ones last. */
void walk_order(size_t count, size_t first, const bool *silent, size_t *out);

struct walk_step {
    int64_t attempt_ms;
    int64_t left_ms; /* of the call, above 0 */
    bool silent;     /* this node, lately */
    bool last;       /* no other is left to ask in this round */
    bool answered;   /* another node did, in this round */
};
/* At least 1. */
int64_t walk_budget_ms(const struct walk_step *step);

/* Before round + 1, after round (0 at first) of which no answer stood. dice: any number. */
int64_t walk_pause_ms(unsigned round, uint32_t dice);
