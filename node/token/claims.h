/* Claims that stand in several of our tokens, read in one way. */
#pragma once

#include "base/json.h"

#define CLAIM_SECONDS_MAX 253402300799 /* 9999-12-31T23:59:59Z */
#define CLAIM_MS_MAX      253402300799999

/* A NumericDate (RFC 7519 §2), whole seconds only, as milliseconds. */
bool claims_read_seconds(struct json_reader *r, const char *name, bool required, int64_t *ms);
bool claims_read_sha256(struct json_reader *r, const char *name, uint8_t out[32]);

/* Ends the reader; members nobody asked for are let through. Whatever was wrong with a member is
 * told as `malformed`. */
enum err claims_end(struct json_reader *r, enum err malformed) MUST_USE;

/* Whole seconds since 1970, rounded down. */
int64_t claims_seconds(int64_t ms);

/* ERR_TOKEN_EXPIRED from exp on (RFC 7519 §4.1.4). */
enum err claims_check_time(int64_t now_ms, int64_t expires_ms, struct diag *diag) MUST_USE;
