/* Randomness from the kernel, for identifiers and secrets. The only caller of getrandom(2). */
#pragma once

#include <stddef.h>

void random_bytes(void *out, size_t size);
