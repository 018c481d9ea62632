#include "origin.h"

#include <string.h>

#define FORMAT 1

void origin_write(const struct origin *origin, struct buf *out)
{
    AUTO(json_object_put) struct json_object *secret = json_object_new_string(origin->secret);
    char ref[UUID_TEXT_SIZE];

    uuid_format(&origin->origin_ref, ref);
    buf_format(out, "{\"format\":%d,\"origin_ref\":\"%s\",\"origin_secret\":%s}\n", FORMAT, ref,
               json_object_to_json_string_ext(secret, JSON_C_TO_STRING_NOSLASHESCAPE));
}

enum err origin_read(const char *text, size_t length, struct origin *out, struct diag *diag)
{
    AUTO(json_object_put) struct json_object *object = NULL;
    struct origin origin = { .secret = "" };
    const char *secret = "";
    struct json_reader r;
    int64_t format;
    enum err e = json_parse(text, length, &object, diag);

    if (e != ERR_OK)
        return e;
    json_reader_init(&r, object, "", diag);
    json_read_int(&r, "format", true, FORMAT, FORMAT, &format);
    json_read_uuid(&r, "origin_ref", true, &origin.origin_ref);
    if (json_read_string(&r, "origin_secret", true, SECRET_MAX, &secret) && !*secret)
        json_reader_fail(&r, ERR_BAD_FIELD, "origin_secret is empty");
    if ((e = json_reader_end_open(&r)) != ERR_OK)
        return e;
    memcpy(origin.secret, secret, strlen(secret) + 1);
    *out = origin;
    explicit_bzero(origin.secret, sizeof origin.secret);
    return ERR_OK;
}
