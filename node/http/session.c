/* Operators' sessions for the management page: the token comes once, in a body, and is exchanged
 * for a cookie that scripts cannot read and other sites cannot make a browser send. */
#include <string.h>

#include "http/handlers.h"
#include "http/operator_json.h"
#include "http/reply.h"

#define SESSION_SECONDS 28800 /* a working day */
#define SESSION_MAX     1024  /* bytes of the cookie's value */

enum err session_open(struct request *r)
{
    AUTO(buf_fini_secret) struct buf cookie = { .max = SESSION_MAX };
    struct json_reader reader;
    const char *token = NULL;
    enum err e;

    request_body(r, &reader);
    json_read_string(&reader, "token", true, ROLE_TOKEN_MAX, &token);
    if ((e = json_reader_end(&reader)) != ERR_OK)
        return e;
    enum role role = roles_match(r->services->roles, token, strlen(token));
    if (role == ROLE_NONE)
        return diag_set(&r->diag, ERR_TOKEN_INVALID, "no role of this node has this token");

    int64_t now_ms = request_now_ms(r);
    int64_t expires_ms = now_ms + SESSION_SECONDS * 1000;
    struct operator_session session =
        session_of(r->services->instance, role, roles_token_sha256(r->services->roles, role));
    session_make(r->services->instance, &session, now_ms, expires_ms, &cookie);
    must(buf_ok(&cookie));
    reply_cookie(r, SESSION_COOKIE, buf_text(&cookie), SESSION_SECONDS);

    AUTO(json_object_put) struct json_object *json = json_object_new_object();
    json_put_text(json, "role", role_name(role));
    json_put_time(json, "expires", expires_ms);
    reply_json_object(r, 200, json);
    return ERR_OK;
}

/* Which role asks, by cookie or by token: what a page needs to know before it shows anything. */
enum err session_show(struct request *r)
{
    AUTO(json_object_put) struct json_object *json = json_object_new_object();

    json_put_text(json, "role", role_name(r->principal.role));
    reply_json_object(r, 200, json);
    return ERR_OK;
}

enum err session_close(struct request *r)
{
    reply_cookie(r, SESSION_COOKIE, "", 0);
    reply_empty(r, 204);
    return ERR_OK;
}
