/* "One changed byte anywhere in a token never verifies": tries it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* Returns how many altered copies of the text pass: each byte in turn becomes several others, is
 * left out, and is doubled. The copies have their exact size, so that AddressSanitizer sees a read
 * past the end. */
static inline size_t tamper(const char *text, size_t length,
                            bool (*passes)(const char *text, size_t length, void *context),
                            void *context)
{
    static const char others[] = { 'A', '.', '=', '\n', '\x80' };
    size_t passed = 0;
    char *copy;

    for (size_t i = 0; i < length; i++) {
        for (size_t k = 0; k < sizeof others + 2; k++) {
            int flipped = text[i] ^ (1 << (k < sizeof others ? 0 : k - sizeof others));
            char other = k < sizeof others ? others[k] : (char)flipped;
            if (other == text[i])
                continue;
            copy = malloc(length);
            memcpy(copy, text, length);
            copy[i] = other;
            passed += (size_t)passes(copy, length, context);
            free(copy);
        }
        copy = malloc(length + 1);
        memcpy(copy, text, i);
        memcpy(copy + i, text + i + 1, length - i - 1);
        passed += (size_t)passes(copy, length - 1, context);
        memcpy(copy, text, i + 1);
        memcpy(copy + i + 1, text + i, length - i);
        passed += (size_t)passes(copy, length + 1, context);
        free(copy);
    }
    return passed;
}
