/* Lease tokens: any payload under a right signature. What is taken can be signed again, and then
 * says the same. */
#include "signed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void sign_again(const struct lease_claims *c)
{
    AUTO(buf_fini) struct buf text = { .max = JWS_MAX };
    const struct commit_receipt receipt = { .node_ref = c->node, .seq = c->seq };
    struct lease_claims again;

    must(lease_token_sign(fixed_instance(), c, &receipt, &text) == ERR_OK);
    must(lease_token_verify(fixed_instance(), text.bytes, text.length, &again, NULL) == ERR_OK);
    must(uuid_equal(&again.lease_ref, &c->lease_ref) && uuid_equal(&again.home, &c->home));
    must(uuid_equal(&again.origin_ref, &c->origin_ref));
    must(uuid_equal(&again.scope_ref, &c->scope_ref) && uuid_equal(&again.node, &c->node));
    must(strcmp(again.feature, c->feature) == 0 && again.count == c->count);
    must(again.issued_ms == c->issued_ms && again.created_ms == c->created_ms);
    must(again.duration_ms == c->duration_ms && again.expires_ms == c->expires_ms);
    must(again.adopt == c->adopt && uuid_equal(&again.peer, &c->peer));
    must(again.seq == c->seq && again.generation == c->generation);
    must(memcmp(again.entitlement_sha256, c->entitlement_sha256, 32) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(buf_fini) struct buf text = { 0 };
    const struct key *key = instance_key(fixed_instance());
    struct lease_claims claims;
    struct diag diag = { "" };

    if (!sign_payload(TYP_LEASE, data, size, &text))
        return 0;
    enum err e = lease_token_verify_with(&key, 1, text.bytes, text.length, &claims, &diag);
    must((e == ERR_OK) == (diag.text[0] == '\0'));
    must(e == ERR_OK || e == ERR_TOKEN_INVALID);
    if (e == ERR_OK)
        sign_again(&claims);
    return 0;
}
