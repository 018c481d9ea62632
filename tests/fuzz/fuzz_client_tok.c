/* libtwinlease's reader of .tok files: any bytes, and any payload under a right signature. */
#include "signed.h"
#include "tok.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_tok(const char *text, size_t length)
{
    AUTO(tok_free) struct tok *tok = NULL;
    struct twinlease_error error;
    enum twinlease_code code;

    fault_clear(&error);
    code = tok_parse("x.tok", text, length, &tok, &error);
    must(code == TWINLEASE_OK || code == TWINLEASE_BAD_FILE || code == TWINLEASE_VERIFICATION);
    must(code == error.code && (code == TWINLEASE_OK) == (tok != NULL));
    must((code == TWINLEASE_OK) == (error.message[0] == '\0'));
    if (!tok)
        return;
    must(tok->node_count > 0 && tok->node_count <= TOK_NODES_MAX && tok->signer[0]);
    for (size_t i = 0; i < tok->node_count; i++)
        must(tok_url_valid(tok->node_urls[i]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(buf_fini) struct buf signed_text = { 0 };

    read_tok((const char *)data, size);
    if (sign_payload(TYP_CLIENT, data, size, &signed_text))
        read_tok(signed_text.bytes, signed_text.length);
    return 0;
}
