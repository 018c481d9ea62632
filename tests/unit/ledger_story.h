/* Words for telling ledger tests: who asks for what, when, and what comes of it.
 *
 *     story_begin(&s, ALONE);
 *     story_install(&s, &(struct ent_spec){ SEATS(3) });
 *     assert_granted(&s, story_grant(&s, ANN, LEASE(1)));
 *     story_wait(&s, MINUTE);
 *
 * After every event the invariants are asserted, the batch is checked and committed, a second
 * ledger is loaded from what was committed, and both must be the same: each test is a reload test
 * as well. story_hold() keeps batches together instead. References are small numbers: ref('L', 7).
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ledger/ledger.h"
#include "sim/rows.h"

#define SECOND ((int64_t)1000)
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)

#define NOON ((int64_t)1800000000000) /* where every story begins */

struct uuid ref(char kind, unsigned number); /* 'L' lease, 'O' origin, 'S' scope, 'N' node, 'E' */

/* Zeros mean: feature "render" in scope 1 of entitlement 1 by "acme", revision 1, from yesterday
 * for a year, leases as long as any. */
struct feature_spec {
    unsigned scope;
    const char *name;
    int64_t seats, lease_max_ms;
    enum seat_return on_release, on_revoke;
};

struct ent_spec {
    struct feature_spec features[4]; /* up to the first without seats */
    unsigned ref;
    int64_t revision;
    const char *publisher;
    int64_t begins_ms, ends_ms;
};

#define SEATS(n) .features = { { .seats = (n) } }

struct entitlement *ent_new(const struct ent_spec *spec);

enum { ALONE, PAIRED }; /* story_begin(): PAIRED has met PEER, new as well, and both are refilled */
enum { ANN = 1, BOB, CAROL, MALLORY };    /* origins */
enum { SELF_NODE = 1, PEER, THIRD_NODE }; /* nodes: ref('N', …) */

struct story {
    struct ledger *ledger;
    struct ledger_conf conf;
    struct rows rows;
    struct ledger_result result; /* of the last event */
    int64_t now_ms;
    uint32_t generation; /* that proofs name */
    bool alarm, held;
};

/* Leases up to a day; ended ones are kept for years, and clocks may differ by a day. */
void story_begin(struct story *s, int peer);
/* The same of another node, which has met nobody. */
void story_begin_as(struct story *s, unsigned node, bool peer_expected);
void story_end(struct story *s);
#define STORY(s, peer)                                                                             \
    struct story s __attribute__((cleanup(story_end)));                                            \
    story_begin(&(s), (peer))

/* Any event; its time is set. Returns result.err. */
enum err story_step(struct story *s, struct ledger_event event);
void story_wait(struct story *s, int64_t ms); /* time passes, then a tick */
void story_hold(struct story *s);             /* from now on nothing is committed … */
void story_commit(struct story *s);           /* … until here */
void story_restart(struct story *s);          /* goes on with a ledger loaded from the rows */

struct lease_spec {
    unsigned lease; /* 0: the server draws one */
    unsigned scope; /* 0: by feature */
    const char *feature;
    int64_t count, duration_ms;
};
#define LEASE(n, ...) (&(struct lease_spec){ .lease = (n), __VA_ARGS__ })

struct grant_item item_of(const struct lease_spec *spec); /* count 1, feature "render" */

enum err story_install(struct story *s, const struct ent_spec *spec);
enum err story_grant(struct story *s, unsigned origin, const struct lease_spec *spec);
enum err story_grant_items(struct story *s, unsigned origin, const struct grant_item *items,
                           size_t count);
enum err story_renew(struct story *s, unsigned origin, unsigned lease,
                     const struct lease_evidence *evidence);
enum err story_release(struct story *s, unsigned origin, unsigned lease,
                       const struct lease_evidence *evidence);
enum err story_release_all(struct story *s, unsigned origin);
enum err story_revoke(struct story *s, unsigned lease);
enum err story_enrol(struct story *s, unsigned origin, bool proven);
enum err story_prove(struct story *s, unsigned origin);
enum err story_list(struct story *s, unsigned origin);
enum err story_purge(struct story *s, size_t limit);
enum err story_give(struct story *s, unsigned scope, unsigned receiver, int64_t wanted);

/* The peer speaks. It is drained: whoever has no use for credits is given none (R12), so that what
 * is free in a story of one node stays here. For two that serve see pair_story.h.
 * acknowledged: SEEN_ALL means everything so far. */
#define SEEN_ALL UINT64_MAX
enum err story_peer_met(struct story *s, unsigned node);     /* a new node introduces itself */
enum err story_peer_fetched(struct story *s, unsigned node); /* whoever has everything, again */
enum err story_peer_states(struct story *s, unsigned node, int64_t watermark_ms,
                           uint64_t acknowledged); /* after fetching */
/* Its empty page, complete, W and seen 0; and a page arrives. */
struct ledger_page story_peer_page(const struct story *s, unsigned node);
enum err story_merge(struct story *s, const struct ledger_page *page);

/* What a token of this lease of another home says: one seat of scope 1, granted now for an hour,
 * and that this node may adopt it. */
struct lease_evidence evidence_of(const struct story *s, unsigned origin, unsigned lease,
                                  unsigned home);
/* What the token of the last grant or renewal says. */
struct lease_evidence evidence_last(const struct story *s);

/* The lease of the last result; the scope as seen now (its entitlement is not referenced). */
const struct lease_row *last_lease(const struct story *s);
struct scope_view scope_now(struct story *s, unsigned scope);
/* The committed row; NULL if there is none. home 0: this node. */
const struct lease_row *lease_row_of(const struct story *s, unsigned lease, unsigned home);
const struct node_row *node_row_of(const struct story *s, unsigned node);

void assert_same_row(const struct lease_row *found, const struct lease_row *expected);
#define assert_ok(s, call)       assert_outcome((s), (call), ERR_OK, #call, __FILE__, __LINE__)
#define assert_err(s, err, call) assert_outcome((s), (call), (err), #call, __FILE__, __LINE__)
void assert_outcome(struct story *s, enum err found, enum err expected, const char *call,
                    const char *file, int line);
#define assert_free(s, scope, seats)                                                               \
    assert_int_equal(scope_now((s), (scope)).free_here, (int64_t)(seats))

/* ---- a node on its own, by an operator or by fate ---------------------------------------------
 */

enum err story_meet(struct story *s, const struct node_introduction *of);
struct node_introduction story_introduction(struct story *s);
enum err story_retire(struct story *s, unsigned node); /* 0: whoever is still counted */
enum err story_drain(struct story *s);
enum err story_resume(struct story *s);
enum err story_dismissed(struct story *s, unsigned by);
enum self_state story_state(const struct story *s);

/* A backup, and what comes of restoring it: the node goes on from there, as if nothing had been. */
void story_save(const struct story *s, struct rows *out);
void story_roll_back(struct story *s, const struct rows *to);
/* R11, as the engine does on ERR_HISTORY_LOST, and on result.wipe. */
void story_rename(struct story *s, unsigned node);
void story_wipe(struct story *s);

/* ---- a story of two -----------------------------------------------------------------------------
 * Both ends are real: two ledgers, two databases, two clocks. Nothing passes between them by
 * itself:
 *
 *     PAIR(a, b);                          nodes 1 and 2, met and refilled, no seats
 *     pair_tell(&a, &b);                   b fetches from a until nothing is left
 *     struct ledger_page *page = pair_page(&a, &b, 1);    … or one page, to be kept,
 *     assert_ok(&b, story_merge(&b, page));               delivered, late or twice
 *     pair_settle(&a, &b);                 both tell each other until there is nothing to tell
 *
 * Their clocks may differ by five minutes; start with a.now_ms == b.now_ms. */
void pair_begin(struct story *a, struct story *b);
#define PAIR(a, b)                                                                                 \
    struct story a __attribute__((cleanup(story_end)));                                            \
    struct story b __attribute__((cleanup(story_end)));                                            \
    pair_begin(&(a), &(b))
#define PAIR_SKEW_MS (5 * MINUTE)

/* The client introduces itself, and hears who the server is. The first error of the two. */
enum err pair_meet(struct story *client, struct story *server);
/* From where `to` stands; the caller frees it. Fails the test if the page is refused. */
struct ledger_page *pair_page(struct story *from, struct story *to, size_t limit);
void pair_tell(struct story *from, struct story *to);
void pair_tell_by(struct story *from, struct story *to, size_t limit); /* pages of so many rows */
void pair_settle(struct story *a, struct story *b);
void pair_wait(struct story *a, struct story *b, int64_t ms);
/* Installs at a, and both know. R12: what is free is split. */
void pair_install(struct story *a, struct story *b, const struct ent_spec *spec);

/* I3: what is replicated is the same on both, but for change numbers. */
void assert_same(const struct story *a, const struct story *b);
/* I1: of no scope are more seats in use than there are: a lease counts if no node knows it as
 * ended and some clock has not passed its expires. */
void assert_not_oversold(const struct story *a, const struct story *b);
#define assert_state(s, state) assert_int_equal(story_state(s), (state))
