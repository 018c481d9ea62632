#include "tok.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "files.h"
#include "keyset.h"

struct tok *tok_free(struct tok *tok)
{
    if (!tok)
        return NULL;
    for (size_t i = 0; i < tok->node_count; i++)
        mem_free(tok->node_urls[i]);
    if (tok->text)
        explicit_bzero(tok->text, strlen(tok->text)); /* whoever has it may enrol */
    mem_free(tok->text);
    mem_free(tok->name);
    mem_free(tok->ca_pem);
    mem_free(tok->jwks);
    mem_free(tok);
    return NULL;
}

static bool port_valid(const char *port)
{
    size_t digits = strspn(port, "0123456789");
    unsigned value = 0;

    if (!digits || digits > 5 || port[digits])
        return false;
    for (; *port; port++)
        value = value * 10 + (unsigned)(*port - '0');
    return value >= 1 && value <= 65535;
}

bool tok_url_valid(const char *url)
{
    static const char scheme[] = "https://";
    static const char name[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";

    if (strlen(url) > TOK_URL_MAX || strncmp(url, scheme, sizeof scheme - 1) != 0)
        return false;
    url += sizeof scheme - 1;
    size_t host;
    if (*url == '[') {
        host = 1 + strspn(url + 1, "0123456789abcdefABCDEF:.");
        if (host < 3 || url[host++] != ']')
            return false;
    } else {
        host = strspn(url, name);
        if (!host)
            return false;
    }
    return url[host] == '\0' || (url[host] == ':' && port_valid(url + host + 1));
}

static void read_urls(struct json_reader *r, struct tok *tok)
{
    struct json_object *list;

    if (!json_read_array(r, "node_url_list", true, TOK_NODES_MAX, &list))
        return;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *item = json_object_array_get_idx(list, i);
        if (!json_object_is_type(item, json_type_string) ||
            strlen(json_object_get_string(item)) != (size_t)json_object_get_string_len(item) ||
            !tok_url_valid(json_object_get_string(item))) {
            json_reader_fail(r, ERR_BAD_FIELD, "node_url_list[%zu] is not https://host[:port]", i);
            return;
        }
        tok->node_urls[tok->node_count++] = mem_strdup(json_object_get_string(item));
    }
    if (!tok->node_count)
        json_reader_fail(r, ERR_BAD_FIELD, "node_url_list is empty");
}

static enum err read_claims(struct json_object *payload, struct tok *tok, struct diag *diag)
{
    const int64_t second_max = INT64_C(253402300799);
    int64_t issued = 0, begins = 0, expires = 0;
    const char *ca = NULL;
    struct json_object *jwks = NULL;
    struct json_reader r;

    json_reader_init(&r, payload, "", diag);
    json_read_uuid(&r, "iss", true, &tok->instance_ref);
    json_read_int(&r, "iat", true, 0, second_max, &issued);
    begins = issued;
    json_read_int(&r, "nbf", false, 0, second_max, &begins);
    json_read_int(&r, "exp", true, 0, second_max, &expires);
    json_read_string(&r, "ca_certificate", false, TOK_CA_MAX, &ca);
    json_read_object(&r, "jwks", true, &jwks);
    read_urls(&r, tok);
    enum err e = json_reader_end_open(&r);
    if (e != ERR_OK)
        return e;
    tok->issued_ms = issued * 1000;
    tok->begins_ms = begins * 1000;
    tok->expires_ms = expires * 1000;
    tok->ca_pem = ca ? mem_strdup(ca) : NULL;
    tok->jwks = mem_strdup(json_object_to_json_string_ext(
        jwks, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
    return ERR_OK;
}

/* Who claims to have signed; then whether that is so. */
static enum err verify_itself(const char *text, size_t length, struct tok *tok, struct diag *diag)
{
    AUTO(keyset_fini) struct keyset set = { 0 };
    AUTO(jws_fini) struct jws claimed = { 0 }, verified = { 0 };
    struct json_object *jwks;
    enum err e = jws_parse(text, length, &claimed, diag);

    if (e != ERR_OK)
        return diag_set(diag, ERR_PARSE, "it is no signed token");
    if (strcmp(claimed.typ, TYP_CLIENT) != 0)
        return diag_set(diag, ERR_PARSE, "it is a token of type %s, not a client token",
                        claimed.typ);
    if (!json_object_object_get_ex(claimed.payload, "jwks", &jwks))
        return diag_set(diag, ERR_PARSE, "it names no key");
    if ((e = keyset_read(jwks, &set, diag)) != ERR_OK)
        return e;
    if ((e = jws_verify(keyset_keys(&set), set.count, TYP_CLIENT, text, length, &verified, NULL)) !=
        ERR_OK)
        return diag_set(diag, ERR_TOKEN_INVALID, "its signature does not match its content");
    must(strlen(verified.kid) < sizeof tok->signer);
    memcpy(tok->signer, verified.kid, strlen(verified.kid) + 1);
    return read_claims(verified.payload, tok, diag);
}

enum twinlease_code tok_parse(const char *name, const char *text, size_t length, struct tok **out,
                              struct twinlease_error *error)
{
    struct diag diag = { "" };
    AUTO(tok_free) struct tok *tok = mem_calloc(1, sizeof *tok);
    enum err e = verify_itself(text, length, tok, &diag);

    if (e == ERR_TOKEN_INVALID)
        return fault_link(error, TWINLEASE_LINK_INSTANCE,
                          "%s has been altered: %s; ask the operator for a new one", name,
                          diag.text);
    if (e != ERR_OK)
        return fault_set(error, TWINLEASE_BAD_FILE,
                         "%s is not a client token: %s; get one from the operator", name,
                         diag.text);
    tok->name = mem_strdup(name);
    tok->text = mem_memdup(text, length);
    *out = TAKE(tok);
    return TWINLEASE_OK;
}

static enum twinlease_code read_one(const char *path, const char *pin, struct tok **out,
                                    struct twinlease_error *error)
{
    AUTO(buf_fini_secret) struct buf text;
    AUTO(tok_free) struct tok *tok = NULL;
    enum twinlease_code code;

    buf_init(&text, JWS_MAX);
    if ((code = text_read(path, &text, error)) != TWINLEASE_OK) {
        struct twinlease_error why = *error;
        return fault_set(error, code,
                         "no client token: %s; get one (a .tok file) from the operator",
                         why.message);
    }
    if ((code = tok_parse(path, buf_text(&text), text.length, &tok, error)) != TWINLEASE_OK)
        return code;
    if (pin && strcmp(pin, tok->signer) != 0)
        return fault_link(error, TWINLEASE_LINK_INSTANCE,
                          "%s was signed by the key %s, but this program accepts only %s", path,
                          tok->signer, pin);
    *out = TAKE(tok);
    return TWINLEASE_OK;
}

/* Valid ones before those that are over; among equals the one that was issued last. */
static bool better(const struct tok *a, const struct tok *b, int64_t now_ms)
{
    bool a_valid = now_ms < a->expires_ms, b_valid = now_ms < b->expires_ms;

    if (a_valid != b_valid)
        return a_valid;
    return a->issued_ms > b->issued_ms;
}

static bool named_tok(const char *name)
{
    size_t length = strlen(name);

    return length > 4 && name[0] != '.' && strcmp(name + length - 4, ".tok") == 0;
}

static void close_folder(DIR *folder)
{
    closedir(folder);
}
DEFINE_AUTO(DIR *, close_folder)

static enum twinlease_code read_newest(const char *path, const char *pin, int64_t now_ms,
                                       struct tok **out, struct twinlease_error *error)
{
    AUTO(close_folder) DIR *folder = opendir(path);
    AUTO(tok_free) struct tok *best = NULL;
    const struct dirent *entry;
    size_t seen = 0;

    if (!folder)
        return fault_set(error, TWINLEASE_BAD_FILE, "the folder %s cannot be read: %s", path,
                         strerror(errno));
    fault_set(error, TWINLEASE_BAD_FILE,
              "the folder %s has no *.tok file; get one from the operator", path);
    while (seen < TOK_FILES_MAX && (entry = readdir(folder))) {
        if (!named_tok(entry->d_name))
            continue;
        AUTO(mem_free) char *file = path_join(path, entry->d_name);
        AUTO(tok_free) struct tok *tok = NULL;
        seen++;
        if (read_one(file, pin, &tok, error) != TWINLEASE_OK ||
            (best && !better(tok, best, now_ms)))
            continue;
        tok_free(best);
        best = TAKE(tok);
    }
    if (!best)
        return error->code;
    *out = TAKE(best);
    return TWINLEASE_OK;
}

enum twinlease_code tok_read(const char *path, const char *pin, int64_t now_ms, struct tok **out,
                             struct twinlease_error *error)
{
    struct stat info;

    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode))
        return read_newest(path, pin, now_ms, out, error);
    return read_one(path, pin, out, error);
}
