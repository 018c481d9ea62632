/* How it stands between the two nodes. */
#pragma once

enum replication_state {
    REPLICATION_CONNECTING, /* never reached since start */
    REPLICATION_CONNECTED,
    REPLICATION_AWAY,    /* it does not answer, or cannot */
    REPLICATION_REFUSED, /* it answers, but the two must not replicate: diag says why */
    REPLICATION_STATES
};
const char *replication_state_name(enum replication_state state); /* "connecting", … */
