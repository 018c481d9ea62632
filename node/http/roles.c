#include "http/roles.h"

#include <string.h>

#include "base/base64url.h"
#include "base/file.h"
#include "base/log.h"
#include "base/random.h"
#include "token/key.h"

#define TOKEN_FILE_MAX 4096

struct roles {
    struct {
        bool set;
        uint8_t sha256[32];
    } tokens[ROLES];
};

static enum err admin_generate(const char *path, struct diag *diag)
{
    uint8_t secret[32];
    AUTO(buf_fini_secret) struct buf text = { .max = ROLE_TOKEN_MAX };

    random_bytes(secret, sizeof secret);
    base64url_append(&text, secret, sizeof secret);
    buf_append(&text, "\n", 1);
    enum err e = file_write(path, buf_text(&text), text.length, 0600, false, diag);
    explicit_bzero(secret, sizeof secret);
    if (e == ERR_OK)
        log_event(LOG_INFO, "admin_token_made", "the administrator's token is in %s", path);
    return e;
}

/* The token is the file's text without white space around it. */
static enum err token_hash(const char *path, const struct buf *text, uint8_t sha[32],
                           struct diag *diag)
{
    const char *begin = buf_text(text), *end = begin + text->length;

    while (begin < end && strchr(" \t\r\n", *begin))
        begin++;
    while (end > begin && strchr(" \t\r\n", end[-1]))
        end--;
    size_t length = (size_t)(end - begin);
    if (length < ROLE_TOKEN_MIN || length > ROLE_TOKEN_MAX)
        return diag_set(diag, ERR_FILE, "%s: the token has %zu characters; %d to %d are allowed",
                        path, length, ROLE_TOKEN_MIN, ROLE_TOKEN_MAX);
    for (const char *p = begin; p < end; p++) {
        if (*p <= ' ' || *p >= 0x7f)
            return diag_set(diag, ERR_FILE, "%s: the token must be one word of ASCII characters",
                            path);
    }
    sha256(begin, length, sha);
    return ERR_OK;
}

static enum err role_read(struct roles *roles, enum role role, const char *path, struct diag *diag)
{
    AUTO(buf_fini_secret) struct buf text = { .max = TOKEN_FILE_MAX };
    enum err e;

    if ((e = file_read(path, FILE_PRIVATE, &text, diag)) != ERR_OK)
        return e;
    if ((e = token_hash(path, &text, roles->tokens[role].sha256, diag)) != ERR_OK)
        return e;
    for (enum role other = ROLE_NONE; other < ROLES; other++) {
        if (roles->tokens[other].set &&
            memcmp(roles->tokens[other].sha256, roles->tokens[role].sha256, 32) == 0)
            return diag_set(diag, ERR_FILE, "%s: the token is the same as that of role %s", path,
                            role_name(other));
    }
    roles->tokens[role].set = true;
    return ERR_OK;
}

enum err roles_read(const struct config *config, struct roles **out, struct diag *diag)
{
    const char *const paths[ROLES] = {
        [ROLE_ADMIN] = config->admin_token_file,
        [ROLE_VIEWER] = config->viewer_token_file,
        [ROLE_METRICS] = config->metrics_token_file,
        [ROLE_ENROL] = config->enrol_token_file,
    };
    enum err e = ERR_OK;

    if (!file_exists(config->admin_token_file))
        e = admin_generate(config->admin_token_file, diag);
    if (e != ERR_OK)
        return e;
    AUTO(mem_free) struct roles *roles = mem_calloc(1, sizeof *roles);
    for (enum role role = ROLE_NONE; role < ROLES; role++) {
        if (paths[role] && (e = role_read(roles, role, paths[role], diag)) != ERR_OK)
            return e;
    }
    *out = TAKE(roles);
    return ERR_OK;
}

struct roles *roles_free(struct roles *roles)
{
    mem_free(roles);
    return NULL;
}

enum role roles_match(const struct roles *roles, const char *token, size_t length)
{
    enum role found = ROLE_NONE;
    uint8_t sha[32];

    if (length > ROLE_TOKEN_MAX)
        return ROLE_NONE;
    sha256(token, length, sha);
    for (enum role role = ROLE_NONE; role < ROLES; role++) {
        if (secret_equal(roles->tokens[role].sha256, sha, sizeof sha) && roles->tokens[role].set)
            found = role;
    }
    return found;
}

const uint8_t *roles_token_sha256(const struct roles *roles, enum role role)
{
    must(role < ROLES);
    return roles->tokens[role].set ? roles->tokens[role].sha256 : NULL;
}
