#include "token/jws.h"

#include "base/base64url.h"

#define HEADER_MAX 512 /* bytes of the decoded header */
#define ALG_MAC    "HS256"
#define TYP_MAX    64
#define MAC_SIZE   32

/* Header parameters that are refused although others unknown are ignored (RFC 7515 §4): those that
 * bring their own key or fetch one, change what is signed, or belong to encryption. */
static const char *const refused[] = {
    "crit", "b64", "jku", "jwk", "x5u", "x5c", "x5t", "x5t#S256", "enc", "zip", "epk",
};

/* The three parts of the compact form, still encoded. */
struct parts {
    const char *header, *payload, *signature;
    size_t header_length, payload_length, signature_length;
    size_t signed_length; /* from the first byte of the header */
};

static enum err split(const char *text, size_t length, struct parts *out, struct diag *diag)
{
    if (length > JWS_MAX)
        return diag_set(diag, ERR_TOKEN_INVALID, "a token of %zu bytes; at most %d are read",
                        length, JWS_MAX);
    const char *end = text + length;
    const char *first = length ? memchr(text, '.', length) : NULL;
    const char *second = first ? memchr(first + 1, '.', (size_t)(end - first - 1)) : NULL;
    if (!second || memchr(second + 1, '.', (size_t)(end - second - 1)))
        return diag_set(diag, ERR_TOKEN_INVALID, "a token is three parts with a dot between each");
    if (second + 1 == end)
        return diag_set(diag, ERR_TOKEN_INVALID, "the token is not signed");
    *out = (struct parts){
        .header = text,
        .header_length = (size_t)(first - text),
        .payload = first + 1,
        .payload_length = (size_t)(second - first - 1),
        .signature = second + 1,
        .signature_length = (size_t)(end - second - 1),
        .signed_length = (size_t)(second - text),
    };
    return ERR_OK;
}

/* Decodes and parses one part, which must be an object. */
static enum err parse_part(const char *name, const char *text, size_t length, size_t max,
                           struct json_object **out, struct diag *diag)
{
    AUTO(buf_fini) struct buf decoded = { .max = max };
    struct diag reason = { "" };

    if (!base64url_decode(text, length, &decoded))
        return diag_set(diag, ERR_TOKEN_INVALID, "the token's %s is not base64url%s", name,
                        buf_ok(&decoded) ? "" : ", or too long");
    AUTO(json_object_put) struct json_object *value = NULL;
    if (json_parse(buf_text(&decoded), decoded.length, &value, &reason) != ERR_OK)
        return diag_set(diag, ERR_TOKEN_INVALID, "the token's %s: %s", name, reason.text);
    if (!json_object_is_type(value, json_type_object))
        return diag_set(diag, ERR_TOKEN_INVALID, "the token's %s is not a JSON object", name);
    *out = TAKE(value);
    return ERR_OK;
}

static enum err read_header(struct jws *jws, struct diag *diag)
{
    struct json_reader r;

    json_reader_init(&r, jws->header, "the token's header", diag);
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        if (json_object_object_get_ex(jws->header, refused[i], NULL))
            json_reader_fail(&r, ERR_TOKEN_INVALID, "%s is not accepted", refused[i]);
    }
    json_read_string(&r, "alg", true, TYP_MAX, &jws->alg);
    json_read_string(&r, "typ", true, TYP_MAX, &jws->typ);
    json_read_string(&r, "kid", false, KEY_THUMBPRINT_SIZE - 1, &jws->kid);
    return json_reader_end_open(&r) == ERR_OK ? ERR_OK : ERR_TOKEN_INVALID;
}

static enum err parse_header(const char *text, size_t length, struct parts *parts, struct jws *out,
                             struct diag *diag)
{
    enum err e = split(text, length, parts, diag);

    if (e == ERR_OK)
        e = parse_part("header", parts->header, parts->header_length, HEADER_MAX, &out->header,
                       diag);
    return e == ERR_OK ? read_header(out, diag) : e;
}

static enum err parse_payload(const struct parts *parts, struct jws *jws, struct diag *diag)
{
    return parse_part("payload", parts->payload, parts->payload_length, JWS_MAX, &jws->payload,
                      diag);
}

void jws_fini(struct jws *jws)
{
    json_object_put(jws->header);
    json_object_put(jws->payload);
    *jws = (struct jws){ 0 };
}

static enum err decode_signature(const struct parts *parts, struct buf *out, struct diag *diag)
{
    buf_init(out, KEY_SIGNATURE_MAX);
    if (!base64url_decode(parts->signature, parts->signature_length, out))
        return diag_set(diag, ERR_TOKEN_INVALID, "the token's signature is not base64url%s",
                        buf_ok(out) ? "" : ", or too long");
    return ERR_OK;
}

static void hand_over(struct jws *jws, struct jws *out)
{
    *out = *jws;
    *jws = (struct jws){ 0 };
}

enum err jws_parse(const char *text, size_t length, struct jws *out, struct diag *diag)
{
    AUTO(buf_fini) struct buf signature = { 0 };
    AUTO(jws_fini) struct jws jws = { 0 };
    struct parts parts;
    enum err e;

    if ((e = parse_header(text, length, &parts, &jws, diag)) != ERR_OK)
        return e;
    if ((e = parse_payload(&parts, &jws, diag)) != ERR_OK)
        return e;
    if ((e = decode_signature(&parts, &signature, diag)) != ERR_OK)
        return e;
    hand_over(&jws, out);
    return ERR_OK;
}

/* ---- signing ----------------------------------------------------------------------------------
 */

void jws_header(const struct key *key, const char *typ, struct buf *out)
{
    AUTO(buf_fini) struct buf header = { .max = HEADER_MAX };

    buf_format(&header, "{\"alg\":\"%s\",\"typ\":\"%s\",\"kid\":\"%s\"}", key_alg(key), typ,
               key_thumbprint(key));
    must(buf_ok(&header));
    base64url_append(out, header.bytes, header.length);
}

static void append_signed_part(const struct buf *header, const char *payload, size_t payload_size,
                               struct buf *out)
{
    must(header->length > 0 && buf_ok(header));
    buf_append(out, header->bytes, header->length);
    buf_append(out, ".", 1);
    base64url_append(out, payload, payload_size);
}

static void append_signature(const uint8_t *signature, size_t size, struct buf *out)
{
    buf_append(out, ".", 1);
    base64url_append(out, signature, size);
}

/* Takes back what was appended. */
static enum err undo(struct buf *out, size_t begin, enum err e)
{
    out->length = begin;
    if (out->bytes)
        out->bytes[begin] = '\0';
    return e;
}

enum err jws_sign_with(const struct key *key, const struct buf *header, const char *payload,
                       size_t payload_size, struct buf *out)
{
    size_t begin = out->length, size;
    uint8_t signature[KEY_SIGNATURE_MAX];

    append_signed_part(header, payload, payload_size, out);
    if (!buf_ok(out))
        return undo(out, begin, ERR_INTERNAL);
    enum err e = key_sign(key, out->bytes + begin, out->length - begin, signature, &size);
    if (e != ERR_OK)
        return undo(out, begin, e);
    append_signature(signature, size, out);
    if (!buf_ok(out) || out->length - begin > JWS_MAX)
        return undo(out, begin, ERR_INTERNAL);
    return ERR_OK;
}

enum err jws_sign(const struct key *key, const char *typ, const char *payload, size_t payload_size,
                  struct buf *out)
{
    AUTO(buf_fini) struct buf header = { .max = HEADER_MAX };

    jws_header(key, typ, &header);
    return jws_sign_with(key, &header, payload, payload_size, out);
}

void jws_mac_sign(const uint8_t key[32], const char *typ, const char *payload, size_t payload_size,
                  struct buf *out)
{
    AUTO(buf_fini) struct buf plain = { .max = HEADER_MAX };
    AUTO(buf_fini) struct buf header = { .max = HEADER_MAX };
    size_t begin = out->length;
    uint8_t mac[MAC_SIZE];

    buf_format(&plain, "{\"alg\":\"" ALG_MAC "\",\"typ\":\"%s\"}", typ);
    base64url_append(&header, plain.bytes, plain.length);
    append_signed_part(&header, payload, payload_size, out);
    if (!buf_ok(out))
        return;
    hmac_sha256(key, out->bytes + begin, out->length - begin, mac);
    append_signature(mac, sizeof mac, out);
}

/* ---- verifying --------------------------------------------------------------------------------
 */

static const struct key *find_key(const struct key *const *keys, size_t key_count, const char *kid)
{
    for (size_t i = 0; kid && i < key_count; i++) {
        if (strcmp(key_thumbprint(keys[i]), kid) == 0)
            return keys[i];
    }
    return NULL;
}

static enum err check_signature(const struct key *const *keys, size_t key_count,
                                const struct jws *jws, const struct parts *parts, struct diag *diag)
{
    AUTO(buf_fini) struct buf signature = { 0 };
    const struct key *key = find_key(keys, key_count, jws->kid);

    if (!key)
        return diag_set(diag, ERR_TOKEN_INVALID, "no key known here signed the token (kid %s)",
                        jws->kid ? jws->kid : "missing");
    if (strcmp(jws->alg, key_alg(key)) != 0)
        return diag_set(diag, ERR_TOKEN_INVALID, "the token's alg is %s, its key is for %s",
                        jws->alg, key_alg(key));
    enum err e = decode_signature(parts, &signature, diag);
    if (e != ERR_OK)
        return e;
    if (!key_verify(key, parts->header, parts->signed_length, (const uint8_t *)buf_text(&signature),
                    signature.length))
        return diag_set(diag, ERR_TOKEN_INVALID, "the token's signature is not right");
    return ERR_OK;
}

static enum err check_mac(const uint8_t key[32], const struct jws *jws, const struct parts *parts,
                          struct diag *diag)
{
    AUTO(buf_fini) struct buf signature = { 0 };
    uint8_t mac[MAC_SIZE];

    if (strcmp(jws->alg, ALG_MAC) != 0)
        return diag_set(diag, ERR_TOKEN_INVALID, "the token's alg is %s, not " ALG_MAC, jws->alg);
    enum err e = decode_signature(parts, &signature, diag);
    if (e != ERR_OK)
        return e;
    hmac_sha256(key, parts->header, parts->signed_length, mac);
    if (signature.length != sizeof mac || !secret_equal(signature.bytes, mac, sizeof mac))
        return diag_set(diag, ERR_TOKEN_INVALID, "the token's signature is not right");
    return ERR_OK;
}

/* Hands a token over whose signature is right, if it is of the wanted typ. Only now is its payload
 * looked at. */
static enum err deliver(const struct parts *parts, struct jws *jws, const char *typ,
                        struct jws *out, struct diag *diag)
{
    enum err e = parse_payload(parts, jws, diag);

    if (e != ERR_OK)
        return e;
    if (strcmp(jws->typ, typ) != 0)
        return diag_set(diag, ERR_TOKEN_PURPOSE, "a token of typ %s where %s is wanted", jws->typ,
                        typ);
    hand_over(jws, out);
    return ERR_OK;
}

enum err jws_verify(const struct key *const *keys, size_t key_count, const char *typ,
                    const char *text, size_t length, struct jws *out, struct diag *diag)
{
    AUTO(jws_fini) struct jws jws = { 0 };
    struct parts parts;
    enum err e;

    if ((e = parse_header(text, length, &parts, &jws, diag)) != ERR_OK)
        return e;
    if ((e = check_signature(keys, key_count, &jws, &parts, diag)) != ERR_OK)
        return e;
    return deliver(&parts, &jws, typ, out, diag);
}

enum err jws_mac_verify(const uint8_t key[32], const char *typ, const char *text, size_t length,
                        struct jws *out, struct diag *diag)
{
    AUTO(jws_fini) struct jws jws = { 0 };
    struct parts parts;
    enum err e;

    if ((e = parse_header(text, length, &parts, &jws, diag)) != ERR_OK)
        return e;
    if ((e = check_mac(key, &jws, &parts, diag)) != ERR_OK)
        return e;
    return deliver(&parts, &jws, typ, out, diag);
}
