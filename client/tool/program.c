#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"

#define PATH_BYTES_MAX (64 << 10)

const char *program_code_name(int code)
{
    switch (code) {
#define X(name, value, text, meaning)                                                              \
    case value:                                                                                    \
        return text;
        PROGRAM_CODES(X)
#undef X
    }
    return NULL;
}

/* 0, or the errno with which it would be refused. */
static int try_path(const char *path)
{
    struct stat info;

    if (stat(path, &info) != 0)
        return errno;
    if (S_ISDIR(info.st_mode))
        return EISDIR;
    if (!S_ISREG(info.st_mode) || faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) != 0)
        return EACCES;
    return 0;
}

enum program_code program_refuse(const char *name, int exec_errno, struct twinlease_error *error)
{
    switch (exec_errno) {
    case ENOENT:
    case ENOTDIR:
        if (try_path(name) == 0 || !strchr(name, '/'))
            fault_set(
                error, TWINLEASE_BAD_FILE,
                "%s is there, but not what it needs to run: the interpreter in its first line "
                "(#!), or the loader it was linked for",
                name);
        else
            fault_set(error, TWINLEASE_BAD_FILE, "there is no program %s", name);
        return PROGRAM_ABSENT;
    case EISDIR:
        fault_set(error, TWINLEASE_BAD_FILE, "%s is a folder, not a program", name);
        return PROGRAM_UNUSABLE;
    case EACCES:
        fault_set(error, TWINLEASE_BAD_FILE,
                  "%s cannot be executed: it is no program, or its permissions do not allow it "
                  "(chmod +x)",
                  name);
        return PROGRAM_UNUSABLE;
    default:
        fault_set(error, TWINLEASE_BAD_FILE, "%s cannot be executed: %s", name,
                  strerror(exec_errno));
        return PROGRAM_UNUSABLE;
    }
}

/* In the folders of `search`, an empty one being the current one: as with execvp, one that may not
 * be executed is passed over, and remembered. */
static int search_path(const char *name, const char *search)
{
    int verdict = ENOENT;

    for (const char *at = search;; at++) {
        AUTO(buf_fini) struct buf path = { .max = PATH_BYTES_MAX };
        size_t length = strcspn(at, ":");
        buf_append(&path, at, length);
        buf_format(&path, "%s%s", length ? "/" : "./", name);
        int problem = buf_ok(&path) ? try_path(buf_text(&path)) : ENAMETOOLONG;
        if (problem == 0)
            return 0;
        if (problem == EACCES || problem == EISDIR)
            verdict = EACCES;
        at += length;
        if (!*at)
            return verdict;
    }
}

enum program_code program_find(const char *name, const char *search, struct twinlease_error *error)
{
    if (strchr(name, '/')) {
        int problem = try_path(name);
        return problem ? program_refuse(name, problem, error) : PROGRAM_FOUND;
    }
    int problem = *name ? search_path(name, search ? search : "/bin:/usr/bin") : ENOENT;
    if (problem == 0)
        return PROGRAM_FOUND;
    if (problem != ENOENT)
        return program_refuse(name, problem, error);
    fault_set(error, TWINLEASE_BAD_FILE,
              "there is no program \"%.200s\" in the folders of PATH; one that is elsewhere is "
              "named with its path, as in ./%.200s",
              name, *name ? name : "render");
    return PROGRAM_ABSENT;
}
