#include "base/random.h"

#include <errno.h>
#include <sys/random.h>

#include "base/must.h"

void random_bytes(void *out, size_t size)
{
    unsigned char *at = out;

    while (size) {
        ssize_t got = getrandom(at, size, 0);
        if (got < 0) {
            must(errno == EINTR);
            continue;
        }
        at += got;
        size -= (size_t)got;
    }
}
