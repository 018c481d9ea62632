/* libtwinlease's readers of the state folder. First byte: a lease or the origin. What was read is
 * written, and reads the same again. */
#include "lease.h"
#include "origin.h"

#include <stdint.h>
#include <string.h>

#include "twinlease.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_again(const struct twinlease_lease *lease)
{
    AUTO(twinlease_lease_free) struct twinlease_lease *again = NULL;
    AUTO(buf_fini) struct buf text;

    buf_init(&text, 4 << 20);
    lease_write(lease, "{\"keys\":[]}", &text);
    must(buf_ok(&text));
    must(lease_read(buf_text(&text), text.length, &again, NULL) == ERR_OK);
    must(again->granted == lease->granted && again->count == lease->count);
    must(uuid_equal(&again->lease_ref, &lease->lease_ref));
    must(strcmp(again->feature, lease->feature) == 0);
    must(again->expires_ms == lease->expires_ms);
    must(!lease->granted || (strcmp(again->token, lease->token) == 0 &&
                             strcmp(again->entitlement, lease->entitlement) == 0));
}

static void read_lease(const char *text, size_t length)
{
    AUTO(twinlease_lease_free) struct twinlease_lease *lease = NULL;
    struct diag diag = { "" };

    if (lease_read(text, length, &lease, &diag) != ERR_OK) {
        must(!lease && diag.text[0]);
        return;
    }
    must(lease->count > 0 && (!lease->granted || (lease->token && lease->entitlement)));
    must(twinlease_lease_expires_in_ms(lease) >= 0 && twinlease_lease_renew_in_ms(lease) >= 0);
    must(strlen(twinlease_lease_ref(lease)) == UUID_TEXT_SIZE - 1);
    write_again(lease);
}

static void read_origin(const char *text, size_t length)
{
    struct origin origin = { .secret = "" }, again;
    AUTO(buf_fini) struct buf out = { .max = 4096 };
    struct diag diag = { "" };

    if (origin_read(text, length, &origin, &diag) != ERR_OK) {
        must(!origin.secret[0] && diag.text[0]);
        return;
    }
    origin_write(&origin, &out);
    must(buf_ok(&out) && origin.secret[0]);
    must(origin_read(buf_text(&out), out.length, &again, NULL) == ERR_OK);
    must(uuid_equal(&origin.origin_ref, &again.origin_ref));
    must(strcmp(origin.secret, again.secret) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    if (data[0] % 2)
        read_origin((const char *)data + 1, size - 1);
    else
        read_lease((const char *)data + 1, size - 1);
    return 0;
}
