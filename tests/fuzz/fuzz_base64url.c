/* base64url: what is decoded has exactly one spelling. */
#include "base/base64url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(buf_fini) struct buf decoded = { .max = size + 1 };
    AUTO(buf_fini) struct buf encoded = { .max = 2 * size + 4 };

    if (base64url_decode((const char *)data, size, &decoded)) {
        base64url_append(&encoded, decoded.bytes, decoded.length);
        must(buf_ok(&encoded) && encoded.length == size);
        must(size == 0 || memcmp(encoded.bytes, data, size) == 0);
    } else {
        must(decoded.length == 0);
    }
    buf_clear(&encoded);
    buf_clear(&decoded);
    base64url_append(&encoded, data, size);
    must(base64url_decode(buf_text(&encoded), encoded.length, &decoded));
    must(decoded.length == size && (size == 0 || memcmp(decoded.bytes, data, size) == 0));
    return 0;
}
