/* Acquiring, renewing and giving back, as the public functions of the same names, for callers with
 * a way out of their own (keepers). cancel may be NULL; raised, it ends the call with INTERRUPTED.
 */
#pragma once

#include "handle.h"

/* Whether acquire could do anything with these: OK or USAGE. options may be NULL. */
enum twinlease_code leasing_check(const char *feature,
                                  const struct twinlease_acquire_options *options,
                                  struct twinlease_error *error) MUST_USE;
enum twinlease_code leasing_acquire(struct twinlease *handle, const char *feature,
                                    const struct twinlease_acquire_options *options,
                                    const struct cancel *cancel, struct twinlease_lease **out,
                                    struct twinlease_error *error) MUST_USE;
enum twinlease_code leasing_renew(struct twinlease *handle, struct twinlease_lease *lease,
                                  const struct cancel *cancel,
                                  struct twinlease_error *error) MUST_USE;
enum twinlease_code leasing_release(struct twinlease *handle, struct twinlease_lease *lease,
                                    const struct cancel *cancel, struct twinlease_error *error);

/* The same within a call that ends differently. error is not NULL. */
enum twinlease_code leasing_renew_with(struct twinlease *handle, struct twinlease_lease *lease,
                                       const struct effort *effort,
                                       struct twinlease_error *error) MUST_USE;
/* Gives back, as well as can be in so much time, what was granted too late, or may have been. If
 * nobody confirms, it stays recorded. A node that does not know an ungranted one is no
 * confirmation: it may be about to grant it. */
void leasing_withdraw(struct twinlease *handle, struct twinlease_lease *lease, int64_t within_ms);
/* The node's word, stored. That the store fails is no reason to fail: what is on disk already, the
 * reference, is enough to find the lease again. BAD_ANSWER: it is about another lease. */
enum twinlease_code leasing_accept(struct twinlease *handle, const struct reply *reply,
                                   struct lease_facts *facts, struct twinlease_lease *lease,
                                   struct twinlease_error *error) MUST_USE;
