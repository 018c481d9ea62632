/* Acquiring, renewing and giving back, as the public functions of the same names, for callers with
 * a way out of their own (keepers). cancel may be NULL; raised, it ends the call with INTERRUPTED.
 */
#pragma once

#include "handle.h"

enum twinlease_code leasing_acquire(struct twinlease *handle, const char *feature,
                                    const struct twinlease_acquire_options *options,
                                    const struct cancel *cancel, struct twinlease_lease **out,
                                    struct twinlease_error *error) MUST_USE;
enum twinlease_code leasing_renew(struct twinlease *handle, struct twinlease_lease *lease,
                                  const struct cancel *cancel,
                                  struct twinlease_error *error) MUST_USE;
enum twinlease_code leasing_release(struct twinlease *handle, struct twinlease_lease *lease,
                                    const struct cancel *cancel, struct twinlease_error *error);
