#include "interrupt.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/must.h"

static const int signals[] = { SIGINT, SIGTERM };

/* What a signal handler can see: set before it is installed, cleared after it is gone. */
static struct twinlease *target;

static void on_signal(int number)
{
    (void)number;
    twinlease_interrupt(target);
}

void interrupt_begin(struct twinlease *handle)
{
    struct sigaction end = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND };
    struct sigaction now;

    must(!target);
    target = handle;
    sigemptyset(&end.sa_mask);
    for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
        must(sigaction(signals[i], NULL, &now) == 0);
        if (now.sa_handler != SIG_IGN)
            must(sigaction(signals[i], &end, NULL) == 0);
    }
}

void interrupt_end(void)
{
    struct sigaction now;

    for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
        must(sigaction(signals[i], NULL, &now) == 0);
        if (now.sa_handler == on_signal)
            must(signal(signals[i], SIG_DFL) != SIG_ERR);
    }
    target = NULL;
}
