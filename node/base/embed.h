/* Files linked into the program at build time (cmake/embed.cmake): pages, migrations, the README.
 */
#pragma once

#include <stddef.h>

struct embedded_file {
    const char *name;  /* without folders; NULL ends a table */
    const char *begin; /* not NUL-terminated */
    const char *end;
};

static inline size_t embedded_size(const struct embedded_file *file)
{
    return (size_t)(file->end - file->begin);
}

/* Puts the file's bytes between symbol and symbol_end, in read-only memory. */
#define EMBED(symbol, path)                                                                        \
    __asm__(".pushsection .rodata\n"                                                               \
            ".balign 16\n"                                                                         \
            ".global " #symbol "\n"                                                                \
            ".hidden " #symbol "\n" #symbol ":\n"                                                  \
            ".incbin \"" path "\"\n"                                                               \
            ".global " #symbol "_end\n"                                                            \
            ".hidden " #symbol "_end\n" #symbol "_end:\n"                                          \
            ".byte 0\n"                                                                            \
            ".popsection\n");                                                                      \
    extern const char symbol[], symbol##_end[];
