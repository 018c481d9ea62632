/* Options from programs that were built with an older or newer header: structs that begin with
 * their own size. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/must.h"

/* Copies what the caller's struct has into *out, a zeroed struct of out_size bytes; what it lacks
 * stays zero. False if it sets something that this library does not know, or its size makes no
 * sense. */
bool options_take(void *out, size_t out_size, const void *options) MUST_USE;

/* The caller's path or, if NULL, that of the environment; NULL if there is none. A new text. */
char *options_token_path(const char *path);
/* The same for the state folder; "" if nothing can be stored. A new text, never NULL. */
char *options_state_dir(const char *path);
