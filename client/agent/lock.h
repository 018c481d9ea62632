/* One agent for a state folder: two would each take their seats. The lock is an flock(2) on
 * <folder>/agent.lock and goes with the process, however that ends; the file stays, and says who
 * has it. */
#pragma once

#include "base/err.h"

/* *out: the lock's descriptor, or -1 if the folder cannot be written (*warning says so: the library
 * stores nothing there either). ERR_FILE: another agent has it. */
enum err agent_lock(const char *folder, int *out, struct diag *warning, struct diag *diag) MUST_USE;
