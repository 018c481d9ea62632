/* Commands that are one thing for an operator and another for a client. */
#pragma once

#include "args.h"

/* release, as an operator: the node that --url names ends the lease. */
command_fn node_revoke;
/* status, as a client: this machine, with --tok. */
command_fn machine_status;
