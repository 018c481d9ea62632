/* What operators and clients share of one command's name. */
#pragma once

#include "args.h"

/* status of the node that --url names; release as an operator. */
enum twinlease_code node_status(const struct args *args, struct output *out,
                                struct twinlease_error *error) MUST_USE;
enum twinlease_code node_revoke(const struct args *args, struct output *out,
                                struct twinlease_error *error) MUST_USE;
/* status of this machine, with --tok. */
enum twinlease_code machine_status(const struct args *args, struct output *out,
                                   struct twinlease_error *error) MUST_USE;

/* Writes a token to --out (mode 0600, never over another file's mode) or to standard output. */
enum twinlease_code token_deliver(const struct args *args, struct output *out, const char *token,
                                  const char *what, unsigned mode,
                                  struct twinlease_error *error) MUST_USE;
