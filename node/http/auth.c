/* Who asks? (design §5) */
#include <string.h>

#include "http/server.h"

/* The token of the Authorization header. */
static enum err bearer(struct request *r, struct text *token)
{
    struct text value;
    size_t count = exchange_header(exchange_of(r), "authorization", &value);

    if (count == 0)
        return diag_set(&r->diag, ERR_TOKEN_MISSING, "send it as Authorization: Bearer …");
    if (count > 1)
        return diag_set(&r->diag, ERR_TOKEN_INVALID, "there are %zu Authorization headers", count);
    if (!header_bearer(value, token))
        return diag_set(&r->diag, ERR_TOKEN_INVALID, "Authorization must be Bearer and a token");
    return ERR_OK;
}

static enum err client_token(struct request *r)
{
    struct text token;
    enum err e = bearer(r, &token);

    if (e != ERR_OK)
        return e;
    return client_token_check(r->services->instance, token.bytes, token.length, request_now_ms(r),
                              &r->principal.client_token_ref, &r->diag);
}

static enum err origin(struct request *r)
{
    struct text token;
    enum err e = bearer(r, &token);

    if (e != ERR_OK)
        return e;
    return auth_token_check(r->services->instance, token.bytes, token.length, request_now_ms(r),
                            &r->principal.origin, &r->diag);
}

/* A session ends with the token that opened it: roles' tokens are read at start, so after a restart
 * with another one its sessions are worthless. */
static enum err session_role(struct request *r, struct text cookie)
{
    const struct instance *instance = r->services->instance;
    struct operator_session session;

    enum err e =
        session_check(instance, cookie.bytes, cookie.length, request_now_ms(r), &session, &r->diag);
    if (e != ERR_OK)
        return e;
    const uint8_t *sha256 = roles_token_sha256(r->services->roles, session.role);
    struct operator_session right = { .role = ROLE_NONE };
    if (sha256)
        right = session_of(instance, session.role, sha256);
    if (!session_equal(&session, &right))
        return diag_set(&r->diag, ERR_TOKEN_EXPIRED,
                        "the session was opened with a token of role %s that is no longer in use",
                        role_name(session.role));
    r->principal.role = session.role;
    return ERR_OK;
}

/* A session cookie comes along whoever made the browser send the request, so what changes something
 * must come from our own page. */
static enum err session(struct request *r, struct text cookie)
{
    const struct exchange *x = exchange_of(r);
    struct text site = { NULL, 0 }, from = { NULL, 0 };
    struct text host = { x->req->authority.base, x->req->authority.len };

    enum err e = session_role(r, cookie);
    if (e != ERR_OK || r->route->method == METHOD_GET)
        return e;
    exchange_header(x, "sec-fetch-site", &site);
    exchange_header(x, "origin", &from);
    if (!header_same_origin(site, from, host))
        return diag_set(&r->diag, ERR_CROSS_SITE,
                        "a session may change things only from this node's own pages");
    return ERR_OK;
}

static enum err role(struct request *r)
{
    struct text token, value, cookie;
    const struct exchange *x = exchange_of(r);

    if (exchange_header(x, "authorization", &value) == 0 &&
        exchange_header(x, "cookie", &value) > 0 && header_cookie(value, SESSION_COOKIE, &cookie))
        return session(r, cookie);
    enum err e = bearer(r, &token);
    if (e != ERR_OK)
        return e;
    r->principal.role = roles_match(r->services->roles, token.bytes, token.length);
    if (r->principal.role == ROLE_NONE)
        return diag_set(&r->diag, ERR_TOKEN_INVALID, "no role of this node has this token");
    return ERR_OK;
}

static enum err role_allowed(struct request *r)
{
    enum err e = role(r);

    if (r->route->auth == AUTH_ROLE_OPTIONAL &&
        (e == ERR_TOKEN_MISSING || e == ERR_TOKEN_EXPIRED)) {
        r->principal.role = ROLE_NONE;
        return ERR_OK;
    }
    if (e != ERR_OK)
        return e;
    if (!(r->route->roles & 1u << r->principal.role))
        return diag_set(&r->diag, ERR_FORBIDDEN, "the %s token does not allow %s %s",
                        role_name(r->principal.role), method_name(r->route->method),
                        r->route->pattern);
    return ERR_OK;
}

enum err authenticate(struct request *r)
{
    switch (r->route->auth) {
    case AUTH_NONE:
        return ERR_OK;
    case AUTH_CLIENT_TOKEN:
        return client_token(r);
    case AUTH_ORIGIN:
        return origin(r);
    case AUTH_PEER:
        return peer_authenticate(r);
    case AUTH_ROLE:
    case AUTH_ROLE_OPTIONAL:
        return role_allowed(r);
    }
    must(false); /* route.tbl has no other */
    return ERR_FORBIDDEN;
}
