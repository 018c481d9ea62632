/* What a program on this machine needs to prove the licence offline: FEATURE.lease.json, as
 * `twinlease acquire --json` prints it and `twinlease verify --lease` reads it. Readable by all:
 * whoever holds it can show it, and nothing else. */
#pragma once

#include "base/err.h"
#include "twinlease.h"

/* The text of the file. The caller owns it. */
char *proof_text(const struct twinlease_lease *lease, const char *instance_jwks);
/* Written whole or not at all; the folder is made if it may be. ERR_FILE. */
enum err proof_write(const char *folder, const char *feature, const char *text,
                     struct diag *diag) MUST_USE;
void proof_remove(const char *folder, const char *feature); /* also if it is not there */

/* Makes the folder that a file is to lie in, 0755, if it is absent and may be made. */
void folder_of_file_make(const char *path);
