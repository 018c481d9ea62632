/* Entitlements: any payload under a right signature. What is taken can be signed again, and then
 * says the same. */
#include "signed.h"
#include "token/publisher.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_same(const struct entitlement *a, const struct entitlement *b)
{
    must(uuid_equal(&a->entitlement_ref, &b->entitlement_ref) && a->revision == b->revision);
    must(strcmp(a->publisher, b->publisher) == 0 && a->feature_count == b->feature_count);
    must(a->begins_ms == b->begins_ms && a->ends_ms == b->ends_ms && a->issued_ms == b->issued_ms);
    for (size_t i = 0; i < a->feature_count; i++) {
        const struct feature *one = &a->features[i], *other = &b->features[i];
        must(uuid_equal(&one->scope_ref, &other->scope_ref) && one->seats == other->seats);
        must(strcmp(one->name, other->name) == 0 && feature_name_valid(one->name));
        must(one->lease_max_ms == other->lease_max_ms && one->on_release == other->on_release);
        must(one->on_revoke == other->on_revoke);
    }
}

static void sign_again(const struct key *key, const struct entitlement *e,
                       const struct uuid *instance_ref, const char *thumbprint)
{
    AUTO(entitlement_unref) struct entitlement *again = NULL;
    AUTO(buf_fini) struct buf text = { .max = ENTITLEMENT_TEXT_MAX };
    struct diag diag;

    enum err err = entitlement_sign(key, e, instance_ref, thumbprint, &text, &diag);
    if (err == ERR_ENT_LIMIT) /* nbf is written out: it may just not fit any more */
        return;
    must(err == ERR_OK);
    must(entitlement_verify_with(key, text.bytes, text.length, -1, &again, NULL, NULL, &diag) ==
         ERR_OK);
    check_same(e, again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(entitlement_unref) struct entitlement *raw = NULL, *e = NULL;
    AUTO(buf_fini) struct buf text = { 0 };
    char thumbprint[KEY_THUMBPRINT_SIZE];
    struct diag diag = { "" };
    struct uuid ref;

    if (entitlement_read((const char *)data, size, &raw, NULL) == ERR_OK)
        must(raw->feature_count > 0);
    if (!sign_payload(TYP_ENTITLEMENT, data, size, &text))
        return 0;
    const struct key *key = instance_key(fixed_instance());
    enum err err =
        entitlement_verify_with(key, text.bytes, text.length, NOW_MS, &e, &ref, thumbprint, &diag);
    must((err == ERR_OK) == (diag.text[0] == '\0'));
    if (err == ERR_OK)
        sign_again(key, e, &ref, thumbprint);
    else
        must(!e && err != ERR_ENT_SIGNATURE && err != ERR_ENT_UNTRUSTED);
    return 0;
}
