#include "lease.h"

#include <stdio.h>
#include <string.h>

#include "document.h"
#include "files.h"
#include "instant.h"
#include "state.h"
#include "token/jws.h"

#define FORMAT       1
#define INSTANT_SIZE 40

struct twinlease_lease *lease_new(void)
{
    struct twinlease_lease *lease = mem_calloc(1, sizeof *lease);

    lease->claim_fd = -1;
    return lease;
}

struct twinlease_lease *lease_clone(const struct twinlease_lease *lease)
{
    struct twinlease_lease *copy = mem_alloc(sizeof *copy);

    *copy = *lease;
    copy->token = lease->token ? mem_strdup(lease->token) : NULL;
    copy->entitlement = lease->entitlement ? mem_strdup(lease->entitlement) : NULL;
    copy->claimed_in = NULL;
    copy->claim_fd = -1;
    return copy;
}

void twinlease_lease_free(struct twinlease_lease *lease)
{
    if (!lease)
        return;
    state_unclaim(lease);
    mem_free(lease->token);
    mem_free(lease->entitlement);
    mem_free(lease);
}

static void format_text(const struct uuid *uuid, char out[UUID_TEXT_SIZE])
{
    if (uuid_is_nil(uuid))
        *out = '\0';
    else
        uuid_format(uuid, out);
}

static void format_texts(struct twinlease_lease *lease)
{
    format_text(&lease->lease_ref, lease->lease_text);
    format_text(&lease->origin_ref, lease->origin_text);
    format_text(&lease->scope_ref, lease->scope_text);
    format_text(&lease->home, lease->home_text);
}

/* Names this boot of this machine; "" if the system does not tell. */
static void read_boot_id(char out[BOOT_ID_SIZE])
{
    struct twinlease_error ignored;
    AUTO(buf_fini) struct buf text;

    buf_init(&text, BOOT_ID_SIZE);
    bool known = text_read("/proc/sys/kernel/random/boot_id", &text, &ignored) == TWINLEASE_OK;
    snprintf(out, BOOT_ID_SIZE, "%s", known ? buf_text(&text) : "");
}

void lease_grant(struct twinlease_lease *lease, struct lease_facts *facts, struct boot asked)
{
    lease->granted = true;
    lease->unconfirmed = false;
    lease->lease_ref = facts->lease_ref;
    lease->origin_ref = facts->origin_ref;
    lease->scope_ref = facts->scope_ref;
    lease->home = facts->home;
    memcpy(lease->feature, facts->feature, sizeof lease->feature);
    lease->count = facts->count;
    lease->created_ms = facts->created_ms;
    lease->expires_ms = facts->expires_ms;
    mem_free(lease->token);
    mem_free(lease->entitlement);
    lease->token = TAKE(facts->token);
    lease->entitlement = TAKE(facts->entitlement);
    read_boot_id(lease->boot_id);
    lease->ends.ms = asked.ms + facts->lasts_ms;
    lease->renew.ms = asked.ms + facts->renew_ms;
    format_texts(lease);
}

void lease_end(struct twinlease_lease *lease)
{
    lease->ends = lease->renew = (struct boot){ 0 };
}

/* ---- the file ---------------------------------------------------------------------------- */

static void add_uuid(struct json_object *object, const char *name, const struct uuid *uuid)
{
    char text[UUID_TEXT_SIZE];

    if (uuid_is_nil(uuid))
        return;
    uuid_format(uuid, text);
    put_text(object, name, text);
}

static void add_grant(struct json_object *object, const struct twinlease_lease *lease,
                      const char *jwks)
{
    add_uuid(object, "scope_ref", &lease->scope_ref);
    add_uuid(object, "home", &lease->home);
    put_instant(object, "created", lease->created_ms);
    put_instant(object, "expires", lease->expires_ms);
    put_text(object, "lease_token", lease->token);
    put_text(object, "entitlement", lease->entitlement);
    json_object_object_add(object, "jwks", json_tokener_parse(jwks));
    put_text(object, "boot_id", lease->boot_id);
    put_int(object, "ends_boot_ms", lease->ends.ms);
    put_int(object, "renew_boot_ms", lease->renew.ms);
}

void lease_write(const struct twinlease_lease *lease, const char *jwks, struct buf *out)
{
    AUTO(json_object_put) struct json_object *object = json_object_new_object();

    must(object);
    put_int(object, "format", FORMAT);
    add_uuid(object, "lease_ref", &lease->lease_ref);
    add_uuid(object, "origin_ref", &lease->origin_ref);
    put_text(object, "feature", lease->feature);
    add_uuid(object, "asked_scope", &lease->asked_scope);
    put_int(object, "count", lease->count);
    put_int(object, "duration_seconds", lease->duration_seconds);
    put_instant(object, "drawn", lease->drawn_ms);
    json_object_object_add(object, "granted", json_object_new_boolean(lease->granted));
    if (lease->granted)
        add_grant(object, lease, jwks);
    buf_text_append(out, json_object_to_json_string_ext(
                             object, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
    buf_text_append(out, "\n");
}

static void read_text(struct json_reader *r, const char *name, size_t max, char **out)
{
    const char *text;

    if (json_read_string(r, name, true, max, &text))
        *out = mem_strdup(text);
}

static void read_copy(struct json_reader *r, const char *name, char *out, size_t size)
{
    const char *text;

    if (json_read_string(r, name, true, size - 1, &text))
        memcpy(out, text, strlen(text) + 1);
}

static void read_instant(struct json_reader *r, const char *name, int64_t *out)
{
    const char *text;

    if (json_read_string(r, name, true, INSTANT_SIZE, &text) && !instant_parse(text, out))
        json_reader_fail(r, ERR_BAD_FIELD, "%s is not an RFC 3339 time", name);
}

/* How long the lease lasts, if the boot clock cannot tell: by the wall clock, and never longer than
 * it did in all. */
static void guess_spans(struct twinlease_lease *lease)
{
    int64_t left_ms = lease->expires_ms - wall_now().ms;
    int64_t whole_ms = lease->expires_ms - lease->created_ms;
    struct boot now = boot_now();

    if (left_ms > whole_ms)
        left_ms = whole_ms;
    lease->ends.ms = left_ms > 0 ? now.ms + left_ms : 0;
    lease->renew = now;
}

static void read_grant(struct json_reader *r, struct twinlease_lease *lease)
{
    char boot_id[BOOT_ID_SIZE];
    struct json_object *jwks;

    json_read_uuid(r, "scope_ref", true, &lease->scope_ref);
    json_read_uuid(r, "home", true, &lease->home);
    read_instant(r, "created", &lease->created_ms);
    read_instant(r, "expires", &lease->expires_ms);
    read_text(r, "lease_token", JWS_MAX, &lease->token);
    read_text(r, "entitlement", ENTITLEMENT_TEXT_MAX, &lease->entitlement);
    json_read_object(r, "jwks", false, &jwks);
    read_copy(r, "boot_id", lease->boot_id, sizeof lease->boot_id);
    json_read_int(r, "ends_boot_ms", true, 0, INT64_MAX / 2, &lease->ends.ms);
    json_read_int(r, "renew_boot_ms", true, 0, INT64_MAX / 2, &lease->renew.ms);
    read_boot_id(boot_id);
    if (!*boot_id || strcmp(boot_id, lease->boot_id) != 0)
        guess_spans(lease);
}

enum err lease_read(const char *text, size_t length, struct twinlease_lease **out,
                    struct diag *diag)
{
    AUTO(json_object_put) struct json_object *object = NULL;
    AUTO(twinlease_lease_free) struct twinlease_lease *lease = lease_new();
    struct json_reader r;
    int64_t format;
    enum err e = json_parse(text, length, &object, diag);

    if (e != ERR_OK)
        return e;
    json_reader_init(&r, object, "", diag);
    json_read_int(&r, "format", true, FORMAT, FORMAT, &format);
    json_read_uuid(&r, "lease_ref", true, &lease->lease_ref);
    json_read_uuid(&r, "origin_ref", false, &lease->origin_ref);
    read_copy(&r, "feature", lease->feature, sizeof lease->feature);
    json_read_uuid(&r, "asked_scope", false, &lease->asked_scope);
    json_read_int(&r, "count", true, 1, ENTITLEMENT_SEATS_MAX, &lease->count);
    json_read_int(&r, "duration_seconds", true, 0, LEASE_SECONDS_MAX, &lease->duration_seconds);
    read_instant(&r, "drawn", &lease->drawn_ms);
    json_read_bool(&r, "granted", true, &lease->granted);
    if (lease->granted)
        read_grant(&r, lease);
    if ((e = json_reader_end_open(&r)) != ERR_OK)
        return e;
    format_texts(lease);
    *out = TAKE(lease);
    return ERR_OK;
}

/* ---- accessors --------------------------------------------------------------------------- */

const char *twinlease_lease_ref(const struct twinlease_lease *lease)
{
    return lease->lease_text;
}

const char *twinlease_lease_origin_ref(const struct twinlease_lease *lease)
{
    return lease->origin_text;
}

const char *twinlease_lease_scope_ref(const struct twinlease_lease *lease)
{
    return lease->scope_text;
}

const char *twinlease_lease_feature(const struct twinlease_lease *lease)
{
    return lease->feature;
}

const char *twinlease_lease_home(const struct twinlease_lease *lease)
{
    return lease->home_text;
}

int64_t twinlease_lease_count(const struct twinlease_lease *lease)
{
    return lease->count;
}

int64_t twinlease_lease_created_ms(const struct twinlease_lease *lease)
{
    return lease->created_ms;
}

int64_t twinlease_lease_expires_ms(const struct twinlease_lease *lease)
{
    return lease->expires_ms;
}

static int64_t ms_until(struct boot then)
{
    int64_t left_ms = then.ms - boot_now().ms;

    return left_ms > 0 ? left_ms : 0;
}

int64_t twinlease_lease_expires_in_ms(const struct twinlease_lease *lease)
{
    return ms_until(lease->ends);
}

int64_t twinlease_lease_renew_in_ms(const struct twinlease_lease *lease)
{
    return ms_until(lease->renew);
}

int twinlease_lease_resumed(const struct twinlease_lease *lease)
{
    return lease->resumed;
}

int twinlease_lease_unconfirmed(const struct twinlease_lease *lease)
{
    return lease->unconfirmed;
}

const char *twinlease_lease_token(const struct twinlease_lease *lease)
{
    return lease->token ? lease->token : "";
}

const char *twinlease_lease_entitlement(const struct twinlease_lease *lease)
{
    return lease->entitlement ? lease->entitlement : "";
}
