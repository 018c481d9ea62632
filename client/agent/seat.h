/* One feature that the agent holds: a keeper of the library, and around it what the agent adds.
 *
 * The happy path: a keeper is started, its changes are logged where they happen, and the last of
 * them wakes the loop, which reads the seat and publishes what it finds.
 *
 * What may happen: the settings change. Then the keeper is ended, by a thread of its own, because
 * giving a seat back asks a node; and only when the old lease is over, because it was released or
 * has expired, another keeper is started for what is wanted now. So there are never two leases of a
 * feature. The same goes for a lease of an earlier run that is not wanted any more.
 *
 * Keepers' threads and enders write what others read under desk->lock; all else is the loop's. */
#pragma once

#include <pthread.h>

#include "settings.h"
#include "status.h"

/* What all seats share. */
struct desk {
    struct twinlease *handle;
    int wake_fd; /* eventfd: the loop has something to look at */
    int64_t lease_seconds;
    pthread_mutex_t lock; /* guards what follows, and the seats' own */
    pthread_cond_t leave; /* `leaving` is set */
    bool leaving;         /* the agent stops: one try to release a lease must do */
    char *publisher_key;  /* PEM; NULL: leases are not verified */
};

void desk_init(struct desk *desk, struct twinlease *handle, int wake_fd);
void desk_fini(struct desk *desk);
/* Takes the text. What is held is verified again by the loop (seat_verify). */
void desk_key(struct desk *desk, char *publisher_key);
void desk_leave(struct desk *desk);

enum seat_end {
    SEAT_RELEASE, /* give it back */
    SEAT_KEEP     /* leave it leased: the next start finds it */
};

struct seat;

/* Nothing is asked for yet. */
struct seat *seat_new(struct desk *desk, const struct wanted *wanted);
/* As if that lease, of an earlier run and not wanted any more, were the seat's, and were ended. */
struct seat *seat_new_ending(struct desk *desk, const char *lease_ref, const struct wanted *was,
                             const struct wanted *wanted);
/* Only when it has ended or never begun. */
void seat_free(struct seat *seat);

/* What it is for: now, or when the end that is under way has come. NULL: nothing. */
const struct wanted *seat_wanted(const struct seat *seat);
/* Gives it another purpose, NULL: none. Ends what it has, if that is not the same. */
void seat_want(struct seat *seat, const struct wanted *wanted);
/* Ends it for good. */
void seat_stop(struct seat *seat, enum seat_end how);
/* Starts what is wanted, if nothing stands against it; notices an end. False: there is nothing left
 * of the seat, and nothing is wanted. */
bool seat_step(struct seat *seat);

/* How it stands, for the status file. */
void seat_read(struct seat *seat, struct agent_feature *out);
/* Verifies the lease again, with the key that the desk has now. */
void seat_verify(struct seat *seat);
/* The proof of a lease that is held and counts: a new text, the caller's; NULL: there is none.
 * *version grows with each new one. */
char *seat_proof(struct seat *seat, uint64_t *version);
/* The lease that is the seat's at a node, as far as this machine knows: "" if none. */
void seat_lease(struct seat *seat, char lease_ref[UUID_TEXT_SIZE], struct wanted *of);
/* False if its keeper has been busy with one thing for so many calls of this in a row. */
bool seat_moves(struct seat *seat, unsigned calls);
