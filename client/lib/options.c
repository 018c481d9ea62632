#include "options.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files.h"

#define OPTIONS_SIZE_MAX 4096 /* no struct of ours will ever be larger */

bool options_take(void *out, size_t out_size, const void *options)
{
    const unsigned char *bytes = options;
    size_t size;

    memcpy(&size, options, sizeof size);
    if (size < sizeof size || size > OPTIONS_SIZE_MAX)
        return false;
    for (size_t i = out_size; i < size; i++) {
        if (bytes[i])
            return false;
    }
    memcpy(out, options, size < out_size ? size : out_size);
    return true;
}

static const char *environment(const char *name)
{
    const char *value = secure_getenv(name);

    return value && *value ? value : NULL;
}

char *options_token_path(const char *path)
{
    if (!path)
        path = environment("TWINLEASE_TOK");
    return path ? mem_strdup(path) : NULL;
}

char *options_state_dir(const char *path)
{
    const char *base;

    if (!path)
        path = environment("TWINLEASE_STATE");
    if (path)
        return mem_strdup(path);
    if (geteuid() == 0)
        return mem_strdup("/var/lib/twinlease-client");
    if ((base = environment("XDG_STATE_HOME")) && *base == '/')
        return path_join(base, "twinlease");
    if ((base = environment("HOME")) && *base == '/')
        return path_join(base, ".local/state/twinlease");
    return mem_strdup("");
}
