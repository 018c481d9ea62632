/* Inside agent*.c only: the running agent. One thread, the loop, owns all of it; keepers and enders
 * (seat.h) wake it. */
#pragma once

#include "seat.h"

struct agent {
    const char *file; /* of the settings; NULL: the default one */
    bool json;        /* --json: the log, whatever the settings say */
    struct agent_settings *settings;
    struct twinlease *handle;
    int lock_fd, signal_fd, wake_fd; /* -1: not open */
    struct desk desk;
    bool desk_made;
    struct seat **seats; /* no feature twice */
    size_t seat_count;
    char boot_id[BOOT_ID_TEXT_SIZE];
    /* what has been published */
    struct published *published; /* one for each feature that has, or had, a proof */
    size_t published_count;
    struct agent_status earlier; /* of an earlier run, what it held; zeroed: nothing */
    struct boot status_written;
    char notified[200];    /* the last STATUS= */
    char *recorded;        /* text of the file of leases, as written last; NULL: never */
    struct diag complaint; /* what could not be written, as last logged */
    bool ready;            /* systemd has been told */
    /* the watchdog */
    int64_t watchdog_ms; /* 0: nobody watches */
    struct boot alive;   /* when it was told last */
    bool stuck;          /* said so */
    /* the end */
    bool stopping, hurried;
    struct boot stop_until;
};

/* ---- agent_publish.c: what others see ---------------------------------------------------- */

/* Reads the status file that an earlier run has left: before the first publication. */
void agent_remember(struct agent *agent);
/* Proofs, status file, the file of leases, systemd. Cheap if nothing has changed. */
void agent_publish(struct agent *agent);
/* Takes the proofs and the status file away: nothing is held any more. */
void agent_unpublish(struct agent *agent);
void agent_published_free(struct agent *agent);
/* One line for each feature into the log (SIGUSR1). */
void agent_tell(struct agent *agent);

/* ---- agent_leases.c: which leases of the state folder are the agent's -------------------- */

/* Notes them: so that the next start knows which of them nobody wants any more, after the settings
 * have been changed. */
void agent_leases_write(struct agent *agent);
/* Gives those of an earlier run back that are not wanted any more; adds a seat for each. */
void agent_leases_settle(struct agent *agent);

/* ---- agent.c ----------------------------------------------------------------------------- */

void agent_add(struct agent *agent, struct seat *seat);
struct seat *agent_seat(const struct agent *agent, const char *feature); /* NULL: none */
