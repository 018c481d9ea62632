/* The documents that people carry: any bytes, and any payload under a right signature. */
#include "signed.h"
#include "token/publisher.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_instance_token(const char *text, size_t length)
{
    AUTO(key_free) struct key *key = NULL;
    struct diag diag = { "" };
    struct uuid ref;

    enum err e = instance_token_read(text, length, &ref, &key, &diag);
    must((e == ERR_OK) == (diag.text[0] == '\0') && (e == ERR_OK) == (key != NULL));
    must(e == ERR_OK || e == ERR_TOKEN_INVALID || e == ERR_TOKEN_PURPOSE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(buf_fini) struct buf client = { 0 }, instance = { 0 };
    struct diag diag = { "" };
    struct uuid ref = { { 0 } };

    read_instance_token((const char *)data, size);
    if (!sign_payload(TYP_CLIENT, data, size, &client) ||
        !sign_payload(TYP_INSTANCE, data, size, &instance))
        return 0;
    read_instance_token(instance.bytes, instance.length);
    enum err e =
        client_token_check(fixed_instance(), client.bytes, client.length, NOW_MS, &ref, &diag);
    must((e == ERR_OK) == (diag.text[0] == '\0') && (e == ERR_OK) != uuid_is_nil(&ref));
    must(e != ERR_TOKEN_PURPOSE);
    return 0;
}
