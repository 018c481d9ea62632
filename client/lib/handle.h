/* The inside of a handle, for the files that make up the public functions. */
#pragma once

#include "cancel.h"
#include "session.h"

struct twinlease {
    struct state *state;
    struct session *session;
    struct cancel cancel; /* twinlease_interrupt() */
    char *token_path;     /* as it was opened: twinlease_reload() */
    char *pin;            /* or NULL */
    /* of the token it was opened with, and of every later one */
    struct uuid instance;
    char instance_ref[UUID_TEXT_SIZE], thumbprint[KEY_THUMBPRINT_SIZE];
    char *jwks; /* of the token it was opened with */
};

/* Callers may not care for the reason; inside, it is always there. Clears it. */
static inline struct twinlease_error *error_or(struct twinlease_error *error,
                                               struct twinlease_error *spare)
{
    error = error ? error : spare;
    fault_clear(error);
    return error;
}
