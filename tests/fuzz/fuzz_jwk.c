/* JWK: what is taken comes out as the same key. */
#include "base/json.h"
#include "token/key.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(json_object_put) struct json_object *jwk = NULL, *written = NULL;
    AUTO(key_free) struct key *key = NULL, *again = NULL;
    struct diag diag = { "" };

    if (json_parse((const char *)data, size, &jwk, NULL) != ERR_OK)
        return 0;
    enum err e = key_from_jwk(jwk, &key, &diag);
    must(e == ERR_OK || e == ERR_KEY_INVALID);
    must((e == ERR_OK) == (diag.text[0] == '\0'));
    if (e != ERR_OK)
        return 0;
    written = key_jwk(key);
    must(key_from_jwk(written, &again, NULL) == ERR_OK && key_same(key, again));
    must(!key_is_private(key) && !key_verify(key, "x", 1, data, size < 64 ? size : 64));
    return 0;
}
