/* What must survive a restart of the program: who this machine is, and which leases it holds.
 *
 *     <folder>/                         0700; one folder for any number of programs of one user
 *         <thumbprint of the instance>/
 *             origin.json               0600; origin_ref and origin_secret
 *             <lease_ref>.lease         0600; one lease, granted or just asked for
 *             <lease_ref>.claim         locked by the running program that uses that lease
 *
 * Every file is written whole or not at all, and a lease has its own, so that programs do not
 * overwrite each other's without any lock among them. A claim is an flock(2): it goes with the
 * process that holds it, however that ends, and then the lease is free to be found again.
 *
 * What cannot be written stays in memory, with one warning: the program works, and a restart takes
 * new seats. Files that cannot be read as what they should be are moved aside ("….broken"), with a
 * warning.
 *
 * A state may be used by many threads at once. */
#pragma once

#include "lease.h"
#include "origin.h"
#include "twinlease.h"

struct state_options {
    const char *folder;           /* "": memory only */
    const char *thumbprint;       /* of the instance's key */
    const char *jwks;             /* of the instance, for the files; copied */
    bool required;                /* fail where else a warning would do */
    twinlease_warning_fn warning; /* may be NULL */
    void *warning_context;
};

/* STATE if the folder cannot be used and `required`. */
enum twinlease_code state_open(const struct state_options *options, struct state **out,
                               struct twinlease_error *error) MUST_USE;
/* Counted: leases with a claim keep the state alive. */
struct state *state_ref(struct state *state);
void state_unref(struct state *state); /* takes NULL */

const char *state_folder(const struct state *state); /* "": memory only */
/* Hands a sentence to whoever wants warnings; each distinct text once. */
void state_warn(struct state *state, const char *format, ...) PRINTF(2, 3);

/* True if this machine has enrolled. */
bool state_origin(struct state *state, struct origin *out);
/* Stores a fresh origin in the place of `old` (NULL: of none). If another program was faster,
 * *origin becomes the one it stored. STATE if `required` and it cannot be written. */
enum twinlease_code state_origin_store(struct state *state, const struct origin *old,
                                       struct origin *origin,
                                       struct twinlease_error *error) MUST_USE;

/* A snapshot of all leases: a new array of new leases, without claims. */
struct twinlease_lease **state_leases(struct state *state, size_t *count);
/* STATE if `required` and it cannot be written. */
enum twinlease_code state_lease_store(struct state *state, const struct twinlease_lease *lease,
                                      struct twinlease_error *error) MUST_USE;
void state_lease_remove(struct state *state, const struct uuid *lease_ref);

/* A recorded lease with its claim; NULL if it is gone, or a running program, this one included, has
 * it in use. */
struct twinlease_lease *state_take(struct state *state, const struct uuid *lease_ref);
/* The claim for a lease whose reference was just drawn. False: somebody has it in use. */
bool state_claim(struct state *state, struct twinlease_lease *lease) MUST_USE;
void state_unclaim(struct twinlease_lease *lease); /* also if it has no claim */
