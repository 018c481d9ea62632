/* Pages: any bytes. What is taken can be encoded again, and then says the same. */
#include "replication/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum err open_one(void *context, const char *text, struct entitlement **out,
                         struct diag *diag)
{
    (void)context;
    if (text[0] == 'n')
        return diag_set(diag, ERR_ENT_UNTRUSTED, "%s", text);
    struct entitlement *e = entitlement_new(0);
    e->text = mem_strdup(text);
    *out = e;
    return ERR_OK;
}

static void encode_again(const struct ledger_page *page)
{
    AUTO(ledger_page_free) struct ledger_page *again = NULL;
    AUTO(buf_fini) struct buf first = { .max = PEER_BODY_MAX };
    AUTO(buf_fini) struct buf second = { .max = PEER_BODY_MAX };

    page_encode(page, PEER_PROTOCOL, &first);
    must(buf_ok(&first));
    must(page_decode(first.bytes, first.length, open_one, NULL, &again, NULL) == ERR_OK);
    page_encode(again, PEER_PROTOCOL, &second);
    must(buf_ok(&second) && strcmp(first.bytes, second.bytes) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(ledger_page_free) struct ledger_page *page = NULL;
    struct diag diag = { "" };

    enum err e = page_decode((const char *)data, size, open_one, NULL, &page, &diag);
    must((e == ERR_OK) == (diag.text[0] == '\0'));
    must((e == ERR_OK) == (page != NULL));
    must(e == ERR_OK || e == ERR_PAGE_REFUSED);
    if (page)
        encode_again(page);
    return 0;
}
