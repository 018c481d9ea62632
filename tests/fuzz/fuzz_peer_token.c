/* Peer tokens: any payload under a right signature. What is taken can be signed again, and then
 * says the same. */
#include "replication/wire.h"
#include "signed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void sign_again(const struct peer_claims *c)
{
    AUTO(buf_fini) struct buf text = { .max = JWS_MAX };
    struct peer_claims again;

    must(peer_token_sign(fixed_instance(), c, &text) == ERR_OK);
    must(peer_token_verify(fixed_instance(), text.bytes, text.length, &again, NULL) == ERR_OK);
    must(again.purpose == c->purpose && again.answer == c->answer);
    must(uuid_equal(&again.sender, &c->sender) && uuid_equal(&again.receiver, &c->receiver));
    must(memcmp(again.nonce, c->nonce, sizeof c->nonce) == 0);
    must(memcmp(again.jti, c->jti, sizeof c->jti) == 0);
    must(memcmp(again.body_sha256, c->body_sha256, sizeof c->body_sha256) == 0);
    must(again.expires_ms == c->expires_ms && strcmp(again.target, c->target) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(buf_fini) struct buf text = { 0 };
    struct peer_claims claims;
    struct diag diag = { "" };

    if (!sign_payload(TYP_PEER, data, size, &text))
        return 0;
    enum err e = peer_token_verify(fixed_instance(), text.bytes, text.length, &claims, &diag);
    must((e == ERR_OK) == (diag.text[0] == '\0'));
    must(e == ERR_OK || e == ERR_TOKEN_INVALID || e == ERR_TOKEN_INSTANCE);
    if (e == ERR_OK)
        sign_again(&claims);
    return 0;
}
