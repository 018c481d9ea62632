/* Ctrl-C and SIGTERM end what a command waits for, in good order. */
#pragma once

#include "twinlease.h"

/* From now on either signal interrupts the handle's calls; a second one ends the process as it
 * would have. What was ignored stays so. One handle at a time. */
void interrupt_begin(struct twinlease *handle);
/* Before the handle is closed. */
void interrupt_end(void);
