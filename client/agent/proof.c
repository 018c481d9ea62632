#include "proof.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "document.h"

char *proof_text(const struct twinlease_lease *lease, const char *instance_jwks)
{
    AUTO(json_object_put) struct json_object *document = json_object_new_object();

    put_lease(document, lease);
    json_object_object_add(document, "jwks", json_tokener_parse(instance_jwks));
    const char *text = json_object_to_json_string_ext(document, JSON_C_TO_STRING_PRETTY |
                                                                    JSON_C_TO_STRING_NOSLASHESCAPE);
    return mem_strdup(text);
}

void folder_of_file_make(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (slash && slash != path) {
        AUTO(mem_free) char *folder = mem_memdup(path, (size_t)(slash - path));
        /* What is wrong with it, writing the file will tell. */
        if (mkdir(folder, 0755) == 0 && chmod(folder, 0755) != 0)
            return;
    }
}

static bool proof_path(const char *folder, const char *feature, char out[PATH_MAX])
{
    return snprintf(out, PATH_MAX, "%s/%s.lease.json", folder, feature) < PATH_MAX;
}

enum err proof_write(const char *folder, const char *feature, const char *text, struct diag *diag)
{
    char path[PATH_MAX];

    if (!proof_path(folder, feature, path))
        return diag_set(diag, ERR_FILE, "%s: the path is too long", folder);
    folder_of_file_make(path);
    return file_write(path, text, strlen(text), 0644, true, diag);
}

void proof_remove(const char *folder, const char *feature)
{
    char path[PATH_MAX];

    if (proof_path(folder, feature, path))
        unlink(path);
}
