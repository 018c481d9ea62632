/* How the agent stands, as one JSON file that other programs read: `twinlease agent status`, health
 * probes, other containers of the machine. It says until when each lease may be used on the boot
 * clock, so that a reader needs no wall clock, and no agent that still lives, to judge. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "settings.h"
#include "twinlease.h"

#define BOOT_ID_TEXT_SIZE 37
#define STATUS_PERIOD_MS  30000  /* it is written that often at least */
#define STATUS_STALE_MS   120000 /* older: the agent does not live, or not well */
#define STATUS_FILE_MAX   (1 << 20)

/* One feature. */
struct agent_feature {
    struct wanted wanted;
    bool held;        /* and, where a publisher's key is set, verified */
    struct boot ends; /* while held */
    char lease_ref[UUID_TEXT_SIZE], scope_ref[UUID_TEXT_SIZE], home[UUID_TEXT_SIZE];
    int64_t acquired_ms, expires_ms; /* ms since 1970; 0 unless held */
    int64_t next_try_ms;             /* until something is asked again; -1: never */
    enum twinlease_code code;        /* why it is not held, or was not renewed; OK: it was */
    char message[sizeof((struct twinlease_error *)NULL)->message];
};

struct agent_status {
    long pid;
    char boot_id[BOOT_ID_TEXT_SIZE];
    char instance_ref[UUID_TEXT_SIZE];
    struct boot written;
    struct agent_feature *features;
    size_t feature_count;
};

void agent_status_fini(struct agent_status *status); /* takes a zeroed one */
DEFINE_AUTO_VALUE(struct agent_status, agent_status_fini)

/* Of this machine, as long as it runs; "" if the system does not tell. */
void boot_id_read(char out[BOOT_ID_TEXT_SIZE]);

/* Appends the file's text. */
void agent_status_write(const struct agent_status *status, struct wall now, struct buf *out);
/* Members that it does not know are let through: a later agent may have some. ERR_BAD_JSON,
 * ERR_BAD_FIELD, … The caller owns *out (agent_status_fini). */
enum err agent_status_parse(const char *text, size_t size, struct agent_status *out,
                            struct diag *diag) MUST_USE;

/* Whether this feature is licensed at that instant of that boot; OK: it is. Else *error says why
 * not, with the code of the cause. */
enum twinlease_code agent_status_judge(const struct agent_status *status,
                                       const struct agent_feature *feature, const char *boot_id,
                                       struct boot now, struct twinlease_error *error);
