/* JWS: any bytes as a token, and any header under a right MAC. */
#include "base/base64url.h"
#include "signed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t mac_key[32] = { 1 };

/* A token is taken with the key that signed it or not at all, whatever its header says. */
static void verify(const char *text, size_t length, bool signed_by_mac)
{
    AUTO(jws_fini) struct jws parsed = { 0 }, verified = { 0 }, mac = { 0 };
    const struct key *key = instance_key(fixed_instance());
    struct diag diag = { "" };

    enum err e = jws_parse(text, length, &parsed, &diag);
    must(e == ERR_OK || e == ERR_TOKEN_INVALID);
    must((e == ERR_OK) == (diag.text[0] == '\0'));
    if (e == ERR_OK)
        must(parsed.alg && parsed.typ && json_object_is_type(parsed.payload, json_type_object));

    e = jws_mac_verify(mac_key, TYP_AUTH, text, length, &mac, NULL);
    must(signed_by_mac || e == ERR_TOKEN_INVALID);
    if (e == ERR_OK)
        must(strcmp(mac.alg, "HS256") == 0 && strcmp(mac.typ, TYP_AUTH) == 0);
    if (jws_verify(&key, 1, TYP_LEASE, text, length, &verified, NULL) == ERR_OK)
        must(!signed_by_mac && strcmp(verified.alg, "EdDSA") == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(buf_fini) struct buf text = { .max = 2 * JWS_MAX };
    const uint8_t *newline = size ? memchr(data, '\n', size) : NULL;
    uint8_t mac[32];

    verify((const char *)data, size, false);
    if (!newline)
        return 0;
    base64url_append(&text, data, (size_t)(newline - data));
    buf_append(&text, ".", 1);
    base64url_append(&text, newline + 1, size - (size_t)(newline - data) - 1);
    if (!buf_ok(&text))
        return 0;
    hmac_sha256(mac_key, text.bytes, text.length, mac);
    buf_append(&text, ".", 1);
    base64url_append(&text, mac, sizeof mac);
    if (buf_ok(&text))
        verify(text.bytes, text.length, true);
    return 0;
}
