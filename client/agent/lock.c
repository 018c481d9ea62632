#include "lock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

/* Who has it; 0 if the file does not say. */
static long read_holder(int fd)
{
    char text[32] = "";
    ssize_t got = pread(fd, text, sizeof text - 1, 0);

    return got > 0 ? strtol(text, NULL, 10) : 0;
}

static void write_holder(int fd)
{
    char text[32];
    int length = snprintf(text, sizeof text, "%ld\n", (long)getpid());

    /* For people: the lock does not depend on it. */
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)length, 0) != length)
        return;
}

enum err agent_lock(const char *folder, int *out, struct diag *warning, struct diag *diag)
{
    char path[PATH_MAX];

    *out = -1;
    if (snprintf(path, sizeof path, "%s/agent.lock", folder) >= (int)sizeof path)
        return diag_set(diag, ERR_FILE, "%s: the path is too long", folder);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
    if (fd < 0 && errno == EROFS)
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY);
    if (fd < 0) {
        diag_set(warning, ERR_OK,
                 "%s: cannot be locked: %s; see to it that no second agent uses this state folder",
                 path, strerror(errno));
        return ERR_OK;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        write_holder(fd);
        *out = fd;
        return ERR_OK;
    }
    long holder = read_holder(fd);
    close(fd);
    if (holder)
        return diag_set(diag, ERR_FILE, "another agent runs with the state folder %s, pid %ld",
                        folder, holder);
    return diag_set(diag, ERR_FILE, "another agent runs with the state folder %s", folder);
}
