/* Filling struct twinlease_error. Inside the library the pointer is never NULL. */
#pragma once

#include "twinlease.h"

#include "base/err.h"

/* Clears *error, writes code and sentence (cut to fit, control characters replaced) and returns the
 * code, so that a refusal is one line. */
enum twinlease_code fault_set(struct twinlease_error *error, enum twinlease_code code,
                              const char *format, ...) PRINTF(3, 4);

/* The same for VERIFICATION, with the broken link. */
enum twinlease_code fault_link(struct twinlease_error *error, enum twinlease_link link,
                               const char *format, ...) PRINTF(3, 4);

void fault_clear(struct twinlease_error *error);
