#include "token/claims.h"

#include "base/base64url.h"
#include "base/clock.h"

bool claims_read_seconds(struct json_reader *r, const char *name, bool required, int64_t *ms)
{
    int64_t seconds;

    if (!json_read_int(r, name, required, 0, CLAIM_SECONDS_MAX, &seconds))
        return false;
    *ms = seconds * 1000;
    return true;
}

bool claims_read_sha256(struct json_reader *r, const char *name, uint8_t out[32])
{
    AUTO(buf_fini) struct buf hash = { .max = 32 };
    const char *text;

    if (!json_read_string(r, name, true, 43, &text))
        return false;
    if (!base64url_decode(text, strlen(text), &hash) || hash.length != 32) {
        json_reader_fail(r, ERR_BAD_FIELD, "%s must be base64url of 32 bytes", name);
        return false;
    }
    memcpy(out, hash.bytes, 32);
    return true;
}

enum err claims_end(struct json_reader *r, enum err malformed)
{
    enum err e = json_reader_end_open(r);

    return e == ERR_BAD_FIELD || e == ERR_MISSING_FIELD || e == ERR_TOO_MANY_ITEMS ? malformed : e;
}

int64_t claims_seconds(int64_t ms)
{
    must(ms >= 0 && ms <= CLAIM_MS_MAX);
    return ms / 1000;
}

enum err claims_check_time(int64_t now_ms, int64_t expires_ms, struct diag *diag)
{
    char text[RFC3339_SIZE];

    if (now_ms < expires_ms)
        return ERR_OK;
    rfc3339_format(expires_ms, text);
    return diag_set(diag, ERR_TOKEN_EXPIRED, "the token expired at %s", text);
}
