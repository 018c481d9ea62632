/* UTF-8 as RFC 3629 defines it: no overlong form, no surrogate, nothing above U+10FFFF. */
#pragma once

#include <stddef.h>

/* The size of the well-formed character that begins at `at`, of which `left` bytes may be read;
 * 0 if none does. */
size_t utf8_size(const char *at, size_t left);
