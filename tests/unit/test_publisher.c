/* Publishers and entitlements: who is trusted for what, and every way to be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../data/keys.h"
#include "base/file.h"
#include "tamper.h"
#include "token/publisher.h"

#define NOW_MS   INT64_C(1763716209123) /* 2025-11-21T09:10:09.123Z */
#define BEGIN_MS (NOW_MS / 1000 * 1000)
#define YEAR_MS  (INT64_C(365) * 86400000)

static const struct uuid instance_ref = { { 0xa } }, other_ref = { { 0xb } };

/* Two publishers in a folder, and the key of the instance that entitlements are for. */
static char folder[] = "/tmp/twinlease-test-XXXXXX";
static struct key *acme, *globex, *instance_key;
static struct publishers *trusted;

static struct key *parse_key(const char *pem)
{
    struct key *key = NULL;

    assert_int_equal(key_parse_private(pem, strlen(pem), &key, NULL), ERR_OK);
    return key;
}

static const char *path_of(const char *file)
{
    static char path[256];

    snprintf(path, sizeof path, "%s/%s", folder, file);
    return path;
}

static int make_publishers(void **state)
{
    struct diag diag;

    (void)state;
    acme = parse_key(fixed_ec);
    globex = parse_key(fixed_ed25519);
    instance_key = parse_key(fixed_rsa);
    if (!mkdtemp(folder) ||
        key_write_public(acme, path_of("Acme Tools.pem"), false, &diag) != ERR_OK ||
        key_write_public(globex, path_of("globex.pem"), false, &diag) != ERR_OK)
        return -1;
    return publishers_read(folder, &trusted, &diag) == ERR_OK ? 0 : -1;
}

static int free_publishers(void **state)
{
    (void)state;
    unlink(path_of("Acme Tools.pem"));
    unlink(path_of("globex.pem"));
    trusted = publishers_free(trusted);
    acme = key_free(acme);
    globex = key_free(globex);
    instance_key = key_free(instance_key);
    return rmdir(folder);
}

/* ---- names and folders --------------------------------------------------------------------------
 */

static void names_are_safe(void **state)
{
    (void)state;
    static const char *const good[] = { "a", "9", "Acme", "a.b_c-d", "A1" };
    static const char *const bad[] = {
        "", " ", ".a", "-a", "_a", "a/b", "a\"b", "a\nb", "\xc3\xa9"
    };
    char text[66];

    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        assert_true(publisher_name_valid(good[i]) && feature_name_valid(good[i]));
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_false(publisher_name_valid(bad[i]) || feature_name_valid(bad[i]));
    assert_true(publisher_name_valid("Acme Tools"));
    assert_false(feature_name_valid("Acme Tools"));
    memset(text, 'a', sizeof text);
    text[65] = '\0';
    assert_false(publisher_name_valid(text) || feature_name_valid(text));
    text[64] = '\0';
    assert_true(publisher_name_valid(text) && feature_name_valid(text));
}

static void a_missing_folder_trusts_nobody(void **state)
{
    (void)state;
    struct publishers *nobody = NULL;
    struct diag diag;

    assert_int_equal(publishers_read(path_of("none"), &nobody, &diag), ERR_OK);
    assert_int_equal(publishers_count(nobody), 0);
    nobody = publishers_free(nobody);
    assert_int_equal(publishers_read(path_of("globex.pem"), &nobody, &diag), ERR_FILE);
    assert_non_null(strstr(diag.text, "globex.pem"));
    assert_int_equal(publishers_count(trusted), 2);
}

/* Writes one more file, reads the folder, and tells what came of it. */
static enum err read_with(const char *file, const char *text, size_t *count, struct diag *diag)
{
    struct publishers *publishers = NULL;

    assert_int_equal(file_write(path_of(file), text, strlen(text), 0644, false, diag), ERR_OK);
    enum err e = publishers_read(folder, &publishers, diag);
    unlink(path_of(file));
    if (e == ERR_OK)
        *count = publishers_count(publishers);
    else
        assert_non_null(strstr(diag->text, file));
    publishers_free(publishers);
    return e;
}

static void other_files_are_ignored(void **state)
{
    (void)state;
    static const char *const files[] = { "README", ".hidden.pem", ".pem", "acme.pem~",
                                         "acme.pem.bak" };
    struct diag diag = { "" };
    size_t count = 0;

    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        assert_int_equal(read_with(files[i], "no key", &count, &diag), ERR_OK);
        assert_int_equal(count, 2);
    }
}

static void bad_files_are_named(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf many = { .max = 4096 };
    struct diag diag = { "" };
    size_t count;

    assert_int_equal(read_with("bad.pem", "no key", &count, &diag), ERR_KEY_INVALID);
    assert_int_equal(read_with("empty.pem", "", &count, &diag), ERR_KEY_INVALID);
    assert_int_equal(read_with("private.pem", fixed_ec, &count, &diag), ERR_KEY_INVALID);
    assert_non_null(strstr(diag.text, "PRIVATE KEY"));
    assert_int_equal(read_with("a+b.pem", "no key", &count, &diag), ERR_FILE);
    for (int i = 0; i < 17; i++)
        buf_text_append(&many, "-----BEGIN PUBLIC KEY-----\n"
                               "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n"
                               "-----END PUBLIC KEY-----\n");
    assert_int_equal(read_with("many.pem", buf_text(&many), &count, &diag), ERR_KEY_INVALID);
    assert_non_null(strstr(diag.text, "more than 16"));
    assert_int_equal(mkdir(path_of("folder.pem"), 0700), 0);
    struct publishers *publishers = NULL;
    assert_int_equal(publishers_read(folder, &publishers, &diag), ERR_FILE);
    assert_int_equal(rmdir(path_of("folder.pem")), 0);
}

/* ---- entitlements -------------------------------------------------------------------------------
 */

static struct entitlement *example(void)
{
    struct entitlement *e = entitlement_new(2);

    e->entitlement_ref = (struct uuid){ { 0xe } };
    e->revision = 3;
    snprintf(e->publisher, sizeof e->publisher, "Acme Tools");
    e->issued_ms = BEGIN_MS - 1000;
    e->begins_ms = BEGIN_MS;
    e->ends_ms = BEGIN_MS + YEAR_MS;
    e->features[0] = (struct feature){
        .scope_ref = { { 1 } }, .name = "render", .seats = 200, .lease_max_ms = 3600000
    };
    e->features[1] = (struct feature){ .scope_ref = { { 2 } },
                                       .name = "simulate.4-x_y",
                                       .seats = 0,
                                       .lease_max_ms = 86400000,
                                       .on_release = SEAT_RETURN_AT_EXPIRY,
                                       .on_revoke = SEAT_RETURN_AT_EXPIRY };
    return e;
}

static enum err sign(const struct key *key, const struct entitlement *e, struct buf *out,
                     struct diag *diag)
{
    buf_init(out, ENTITLEMENT_TEXT_MAX);
    return entitlement_sign(key, e, &instance_ref, key_thumbprint(instance_key), out, diag);
}

static void sign_example(const struct key *key, struct buf *out)
{
    AUTO(entitlement_unref) struct entitlement *e = example();
    struct diag diag = { "" };

    assert_int_equal(sign(key, e, out, &diag), ERR_OK);
}

static enum err verify_at(const struct buf *text, int64_t now_ms, struct diag *diag)
{
    AUTO(entitlement_unref) struct entitlement *e = NULL;
    enum err err = entitlement_verify(trusted, &instance_ref, key_thumbprint(instance_key),
                                      buf_text(text), text->length, now_ms, &e, diag);

    assert_int_equal(err == ERR_OK, e != NULL);
    return err;
}

static void check_example(const struct entitlement *e, const struct buf *text)
{
    uint8_t hash[32];

    assert_int_equal(e->entitlement_ref.bytes[0], 0xe);
    assert_int_equal(e->revision, 3);
    assert_string_equal(e->publisher, "Acme Tools");
    assert_int_equal(e->issued_ms, BEGIN_MS - 1000);
    assert_int_equal(e->begins_ms, BEGIN_MS);
    assert_int_equal(e->ends_ms, BEGIN_MS + YEAR_MS);
    assert_int_equal(e->feature_count, 2);
    assert_string_equal(e->features[0].name, "render");
    assert_int_equal(e->features[0].scope_ref.bytes[0], 1);
    assert_int_equal(e->features[0].seats, 200);
    assert_int_equal(e->features[0].lease_max_ms, 3600000);
    assert_int_equal(e->features[0].on_release, SEAT_RETURN_ACKNOWLEDGED);
    assert_int_equal(e->features[0].on_revoke, SEAT_RETURN_ACKNOWLEDGED);
    assert_int_equal(e->features[1].seats, 0);
    assert_int_equal(e->features[1].on_release, SEAT_RETURN_AT_EXPIRY);
    assert_int_equal(e->features[1].on_revoke, SEAT_RETURN_AT_EXPIRY);
    assert_string_equal(e->text, text->bytes);
    sha256(text->bytes, text->length, hash);
    assert_memory_equal(e->sha256, hash, 32);
}

static void entitlements_round_trip(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf text;
    AUTO(entitlement_unref) struct entitlement *verified = NULL, *with = NULL, *read = NULL;
    char thumbprint[KEY_THUMBPRINT_SIZE];
    struct diag diag = { "" };
    struct uuid ref;

    sign_example(acme, &text);
    assert_int_equal(entitlement_verify(trusted, &instance_ref, key_thumbprint(instance_key),
                                        text.bytes, text.length, NOW_MS, &verified, &diag),
                     ERR_OK);
    check_example(verified, &text);
    assert_int_equal(entitlement_verify_with(acme, text.bytes, text.length, NOW_MS, &with, &ref,
                                             thumbprint, &diag),
                     ERR_OK);
    check_example(with, &text);
    assert_true(uuid_equal(&ref, &instance_ref));
    assert_string_equal(thumbprint, key_thumbprint(instance_key));
    assert_int_equal(entitlement_read(text.bytes, text.length, &read, &diag), ERR_OK);
    check_example(read, &text);
}

static void every_type_of_key_signs(void **state)
{
    (void)state;
    const struct key *const keys[] = { acme, globex, instance_key };

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        AUTO(buf_fini) struct buf text;
        AUTO(entitlement_unref) struct entitlement *e = NULL;
        struct diag diag = { "" };
        sign_example(keys[i], &text);
        assert_int_equal(entitlement_verify_with(keys[i], text.bytes, text.length, NOW_MS, &e, NULL,
                                                 NULL, &diag),
                         ERR_OK);
    }
}

static bool passes(const char *text, size_t length, void *context)
{
    AUTO(entitlement_unref) struct entitlement *e = NULL;

    (void)context;
    return entitlement_verify(trusted, &instance_ref, key_thumbprint(instance_key), text, length,
                              NOW_MS, &e, NULL) == ERR_OK;
}

static void a_changed_byte_is_noticed(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf text;
    struct diag diag;

    sign_example(acme, &text);
    assert_true(passes(text.bytes, text.length, NULL));
    assert_int_equal(tamper(text.bytes, text.length, passes, NULL), 0);
    char *byte = &text.bytes[text.length - 10];
    *byte = *byte == 'A' ? 'B' : 'A'; /* still base64url: it is the signature that is wrong */
    assert_int_equal(verify_at(&text, NOW_MS, &diag), ERR_ENT_SIGNATURE);
}

static void one_publisher_cannot_sign_for_another(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf text, unknown, own;
    AUTO(entitlement_unref) struct entitlement *e = example(), *with = NULL;
    AUTO(key_free) struct key *stranger = key_generate(KEY_EC_P256);
    struct diag diag = { "" };

    sign_example(globex, &text); /* says "Acme Tools", signed by globex, whom we trust too */
    assert_int_equal(verify_at(&text, NOW_MS, &diag), ERR_ENT_UNTRUSTED);
    assert_non_null(strstr(diag.text, key_thumbprint(globex)));
    assert_int_equal(
        entitlement_verify_with(acme, text.bytes, text.length, NOW_MS, &with, NULL, NULL, &diag),
        ERR_ENT_UNTRUSTED);
    sign_example(stranger, &unknown);
    assert_int_equal(verify_at(&unknown, NOW_MS, &diag), ERR_ENT_UNTRUSTED);
    buf_fini(&unknown);
    snprintf(e->publisher, sizeof e->publisher, "initech");
    assert_int_equal(sign(acme, e, &unknown, &diag), ERR_OK);
    assert_int_equal(verify_at(&unknown, NOW_MS, &diag), ERR_ENT_UNTRUSTED);
    assert_non_null(strstr(diag.text, "\"initech\" is not among the 2"));
    snprintf(e->publisher, sizeof e->publisher, "globex");
    assert_int_equal(sign(globex, e, &own, &diag), ERR_OK);
    assert_int_equal(verify_at(&own, NOW_MS, &diag), ERR_OK);
}

static void a_publisher_may_have_several_keys(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf old_text, new_text, pem = { .max = 4096 };
    AUTO(entitlement_unref) struct entitlement *e = example();
    struct publishers *before = trusted;
    struct diag diag = { "" };

    assert_int_equal(file_read(path_of("globex.pem"), FILE_PUBLIC, &pem, &diag), ERR_OK);
    assert_int_equal(file_read(path_of("Acme Tools.pem"), FILE_PUBLIC, &pem, &diag), ERR_OK);
    assert_int_equal(file_write(path_of("initech.pem"), pem.bytes, pem.length, 0644, false, &diag),
                     ERR_OK);
    enum err read = publishers_read(folder, &trusted, &diag);
    unlink(path_of("initech.pem"));
    assert_int_equal(read, ERR_OK);
    snprintf(e->publisher, sizeof e->publisher, "initech");
    assert_int_equal(sign(globex, e, &old_text, &diag), ERR_OK);
    assert_int_equal(sign(acme, e, &new_text, &diag), ERR_OK);
    assert_int_equal(verify_at(&old_text, NOW_MS, &diag), ERR_OK);
    assert_int_equal(verify_at(&new_text, NOW_MS, &diag), ERR_OK);
    publishers_free(trusted);
    trusted = before;
}

static void other_instances_are_refused(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf text;
    AUTO(entitlement_unref) struct entitlement *e = NULL;
    struct diag diag = { "" };

    sign_example(acme, &text);
    assert_int_equal(entitlement_verify(trusted, &other_ref, key_thumbprint(instance_key),
                                        text.bytes, text.length, NOW_MS, &e, &diag),
                     ERR_ENT_FOREIGN);
    assert_non_null(strstr(diag.text, "instance_ref is 0a000000"));
    assert_int_equal(entitlement_verify(trusted, &instance_ref, key_thumbprint(acme), text.bytes,
                                        text.length, NOW_MS, &e, &diag),
                     ERR_ENT_FOREIGN);
    assert_non_null(strstr(diag.text, "instance_key"));
}

static void times_have_bounds(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf text;
    struct diag diag = { "" };

    sign_example(acme, &text);
    assert_int_equal(verify_at(&text, BEGIN_MS - 60000, &diag), ERR_OK); /* the leeway */
    assert_int_equal(verify_at(&text, BEGIN_MS - 60001, &diag), ERR_ENT_EARLY);
    assert_non_null(strstr(diag.text, "2025-11-21T09:10:09.000Z"));
    assert_int_equal(verify_at(&text, BEGIN_MS + YEAR_MS - 1, &diag), ERR_OK);
    assert_int_equal(verify_at(&text, BEGIN_MS + YEAR_MS, &diag), ERR_ENT_EXPIRED);
    assert_non_null(strstr(diag.text, "2026-11-21T09:10:09.000Z"));
    assert_int_equal(verify_at(&text, -1, &diag), ERR_OK); /* does not look */
}

/* ---- documents by hand --------------------------------------------------------------------------
 */

#define SCOPE_1 "\"scope_ref\":\"01000000-0000-0000-0000-000000000000\""
#define SCOPE_2 "\"scope_ref\":\"02000000-0000-0000-0000-000000000000\""
#define FEATURE "{" SCOPE_1 ",\"feature\":\"render\",\"seats\":5}"

/* A payload with the usual members, but for those that are given (NULL: the usual one). */
struct members {
    const char *iss, *sub, *revision, *instance, *key, *times, *features;
};

static enum err verify_payload(const char *payload, struct entitlement **out, struct diag *diag)
{
    AUTO(buf_fini) struct buf text = { .max = JWS_MAX };

    assert_int_equal(jws_sign(acme, TYP_ENTITLEMENT, payload, strlen(payload), &text), ERR_OK);
    return entitlement_verify(trusted, &instance_ref, key_thumbprint(instance_key), text.bytes,
                              text.length, NOW_MS, out, diag);
}

static const char * or (const char *given, const char *usual)
{
    return given ? given : usual;
}

static enum err verify_members(const struct members *m, struct entitlement **out, struct diag *diag)
{
    static char payload[70000];
    char key[80];

    snprintf(key, sizeof key, "\"instance_key\":\"%s\",", key_thumbprint(instance_key));
    snprintf(payload, sizeof payload, "{%s%s%s%s%s%s\"features\":%s}",
             or (m->iss, "\"iss\":\"Acme Tools\","),
             or (m->sub, "\"sub\":\"0e000000-0000-0000-0000-000000000000\","),
             or (m->revision, "\"revision\":1,"),
             or (m->instance, "\"instance_ref\":\"0a000000-0000-0000-0000-000000000000\","),
             or (m->key, key), or (m->times, "\"iat\":1763716200,\"exp\":1863716200,"),
             or (m->features, "[" FEATURE "]"));
    return verify_payload(payload, out, diag);
}

static void refuse(const struct members *m, enum err expected, const char *word)
{
    struct entitlement *e = NULL;
    struct diag diag = { "" };
    enum err err = verify_members(m, &e, &diag);

    if (err != expected || !strstr(diag.text, word))
        fail_msg("%s: \"%s\"; expected %s and the word \"%s\"", err_info(err)->code, diag.text,
                 err_info(expected)->code, word);
    assert_null(e);
}

static void defaults_apply(void **state)
{
    (void)state;
    AUTO(entitlement_unref) struct entitlement *e = NULL;
    struct diag diag = { "" };

    assert_int_equal(verify_members(&(struct members){ 0 }, &e, &diag), ERR_OK);
    assert_int_equal(e->begins_ms, 1763716200000); /* iat */
    assert_int_equal(e->features[0].lease_max_ms, 86400000);
    assert_int_equal(e->features[0].on_release, SEAT_RETURN_ACKNOWLEDGED);
    assert_int_equal(e->features[0].on_revoke, SEAT_RETURN_ACKNOWLEDGED);
}

static void unknown_members_are_let_through(void **state)
{
    (void)state;
    AUTO(entitlement_unref) struct entitlement *e = NULL;
    struct diag diag = { "" };
    const struct members m = {
        .revision = "\"revision\":1,\"later\":{\"x\":1},",
        .features = "[{" SCOPE_1 ",\"feature\":\"render\",\"seats\":5,\"burst\":7}]",
    };

    assert_int_equal(verify_members(&m, &e, &diag), ERR_OK);
}

static void malformed_documents_are_refused(void **state)
{
    (void)state;
    static const struct {
        struct members members;
        const char *word;
    } cases[] = {
        { { .iss = "" }, "iss is missing" },
        { { .iss = "\"iss\":\"../x\"," }, "not a publisher's name" },
        { { .iss = "\"iss\":7," }, "iss must be" },
        { { .sub = "" }, "sub is missing" },
        { { .sub = "\"sub\":\"x\"," }, "sub must be a UUID" },
        { { .revision = "" }, "revision is missing" },
        { { .revision = "\"revision\":0," }, "revision must be" },
        { { .revision = "\"revision\":1.0," }, "revision must be" },
        { { .revision = "\"revision\":9223372036854775808," }, "revision must be" },
        { { .instance = "" }, "instance_ref is missing" },
        { { .key = "" }, "instance_key is missing" },
        { { .key = "\"instance_key\":\"AAAA\"," }, "instance_key must be" },
        { { .times = "\"exp\":1863716200," }, "iat is missing" },
        { { .times = "\"iat\":1763716200," }, "exp is missing" },
        { { .times = "\"iat\":1763716200,\"exp\":1763716200," }, "later than nbf" },
        { { .times = "\"iat\":1,\"nbf\":1863716200,\"exp\":1863716200," }, "later than nbf" },
        { { .times = "\"iat\":-1,\"exp\":1863716200," }, "iat must be" },
        { { .times = "\"iat\":1,\"exp\":253402300800," }, "exp must be" },
        { { .times = "\"iat\":1.5,\"exp\":1863716200," }, "iat must be" },
        { { .features = "[]" }, "features is empty" },
        { { .features = "{}" }, "features must be" },
        { { .features = "[7]" }, "features[0] must be an object" },
        { { .features = "[{" SCOPE_1 ",\"seats\":5}]" }, "features[0].feature is missing" },
        { { .features = "[{" SCOPE_1 ",\"feature\":\"a b\",\"seats\":5}]" }, "\"a b\"" },
        { { .features = "[{\"feature\":\"a\",\"seats\":5}]" }, "features[0].scope_ref is missing" },
        { { .features = "[{" SCOPE_1 ",\"feature\":\"a\"}]" }, "features[0].seats is missing" },
        { { .features = "[{" SCOPE_1 ",\"feature\":\"a\",\"seats\":-1}]" }, "seats must be" },
        { { .features = "[{" SCOPE_1 ",\"feature\":\"a\",\"seats\":1,\"max_lease_seconds\":0}]" },
          "max_lease_seconds must be" },
        { { .features = "[{" SCOPE_1 ",\"feature\":\"a\",\"seats\":1,\"release\":\"now\"}]" },
          "release is \"now\"" },
        { { .features = "[{" SCOPE_1 ",\"feature\":\"a\",\"seats\":1,\"revoke\":true}]" },
          "revoke must be" },
        { { .features = "[" FEATURE ",{" SCOPE_1 ",\"feature\":\"other\",\"seats\":5}]" },
          "same scope_ref" },
        { { .features = "[" FEATURE ",{" SCOPE_2 ",\"feature\":\"render\",\"seats\":5}]" },
          "both named \"render\"" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        refuse(&cases[i].members, ERR_ENT_MALFORMED, cases[i].word);
}

static void limits_hold(void **state)
{
    (void)state;
    static char many[60000];
    AUTO(buf_fini) struct buf large = { .max = ENTITLEMENT_TEXT_MAX + 1 };
    struct diag diag = { "" };

    refuse(&(struct members){ .features = "[{" SCOPE_1 ",\"feature\":\"a\",\"seats\":10000001}]" },
           ERR_ENT_LIMIT, "seats is 10000001; at most 10000000");
    refuse(&(struct members){ .features = "[{" SCOPE_1 ",\"feature\":\"a\",\"seats\":1,"
                                          "\"max_lease_seconds\":7776001}]" },
           ERR_ENT_LIMIT, "at most 7776000");
    refuse(&(struct members){ .features = "[{" SCOPE_1 ",\"feature\":\"a\",\"seats\":1,"
                                          "\"max_lease_seconds\":9223372036854775807}]" },
           ERR_ENT_LIMIT, "is 9223372036854775807; at most 7776000"); /* nor overflows as ms */
    size_t length = (size_t)snprintf(many, sizeof many, "[");
    for (int i = 0; i < 257; i++)
        length += (size_t)snprintf(many + length, sizeof many - length, "%s{}", i ? "," : "");
    snprintf(many + length, sizeof many - length, "]");
    refuse(&(struct members){ .features = many }, ERR_ENT_LIMIT, "257 items; at most 256");
    memset(buf_reserve(&large, ENTITLEMENT_TEXT_MAX + 1), 'a', ENTITLEMENT_TEXT_MAX + 1);
    large.length = ENTITLEMENT_TEXT_MAX + 1;
    assert_int_equal(verify_at(&large, NOW_MS, &diag), ERR_ENT_LIMIT);
}

static void other_documents_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = { "", "x", "a.b.c", "{}", "e30.e30.AA" };
    AUTO(buf_fini) struct buf lease = { .max = JWS_MAX }, spaced;
    AUTO(entitlement_unref) struct entitlement *e = NULL;
    struct diag diag = { "" };

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        assert_int_equal(entitlement_verify(trusted, &instance_ref, key_thumbprint(instance_key),
                                            texts[i], strlen(texts[i]), NOW_MS, &e, &diag),
                         ERR_ENT_MALFORMED);
    assert_int_equal(jws_sign(acme, TYP_LEASE, "{}", 2, &lease), ERR_OK);
    assert_int_equal(verify_at(&lease, NOW_MS, &diag), ERR_ENT_MALFORMED);
    assert_non_null(strstr(diag.text, "lease+jwt"));
    sign_example(acme, &spaced);
    spaced.max++;
    buf_text_append(&spaced, "\n");
    assert_int_equal(verify_at(&spaced, NOW_MS, &diag), ERR_ENT_MALFORMED);
    assert_int_equal(entitlement_read("x", 1, &e, &diag), ERR_ENT_MALFORMED);
    assert_null(e);
}

/* ---- signing ------------------------------------------------------------------------------------
 */

static void nothing_is_signed_that_nobody_could_install(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf text = { 0 };
    struct diag diag = { "" };

    for (int fault = 0; fault < 8; fault++) {
        AUTO(entitlement_unref) struct entitlement *e = example();
        switch (fault) {
        case 0:
            e->publisher[0] = '\0';
            break;
        case 1:
            snprintf(e->features[0].name, sizeof e->features[0].name, "a\"b");
            break;
        case 2:
            e->features[1].scope_ref = e->features[0].scope_ref;
            break;
        case 3:
            e->features[0].seats = ENTITLEMENT_SEATS_MAX + 1;
            break;
        case 4:
            e->features[0].lease_max_ms = 999;
            break;
        case 5:
            e->ends_ms = e->begins_ms;
            break;
        case 6:
            e->revision = 0;
            break;
        default:
            e->feature_count = 0;
            break;
        }
        enum err err = sign(acme, e, &text, &diag);
        assert_int_equal(err, fault == 3 ? ERR_ENT_LIMIT : ERR_ENT_MALFORMED);
        assert_true(diag.text[0]);
        assert_int_equal(text.length, 0);
    }
    AUTO(entitlement_unref) struct entitlement *e = example();
    AUTO(key_free) struct key *public = NULL;
    AUTO(json_object_put) struct json_object *jwk = key_jwk(acme);
    assert_int_equal(key_from_jwk(jwk, &public, &diag), ERR_OK);
    assert_int_equal(sign(public, e, &text, &diag), ERR_KEY_INVALID);
    assert_int_equal(text.length, 0);
}

static void as_many_features_as_allowed_fit(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf text, long_text;
    AUTO(entitlement_unref) struct entitlement *e = entitlement_new(ENTITLEMENT_FEATURES_MAX);
    AUTO(entitlement_unref) struct entitlement *one = example();
    struct diag diag = { "" };

    memcpy(e->publisher, one->publisher, sizeof e->publisher);
    e->entitlement_ref = one->entitlement_ref;
    e->revision = INT64_MAX;
    e->issued_ms = e->begins_ms = one->begins_ms;
    e->ends_ms = one->ends_ms;
    for (unsigned i = 0; i < ENTITLEMENT_FEATURES_MAX; i++) {
        e->features[i] = (struct feature){ .scope_ref = { { 1, (uint8_t)i } },
                                           .seats = ENTITLEMENT_SEATS_MAX,
                                           .lease_max_ms = LEASE_SECONDS_MAX * INT64_C(1000) };
        snprintf(e->features[i].name, sizeof e->features[i].name, "feature-number-%u", i);
    }
    assert_int_equal(sign(acme, e, &text, &diag), ERR_OK);
    assert_int_equal(verify_at(&text, NOW_MS, &diag), ERR_OK);
    for (unsigned i = 0; i < ENTITLEMENT_FEATURES_MAX; i++)
        snprintf(e->features[i].name, sizeof e->features[i].name, "f%063u", i);
    assert_int_equal(sign(acme, e, &long_text, &diag), ERR_ENT_LIMIT);
    assert_int_equal(long_text.length, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_safe),
        cmocka_unit_test(a_missing_folder_trusts_nobody),
        cmocka_unit_test(other_files_are_ignored),
        cmocka_unit_test(bad_files_are_named),
        cmocka_unit_test(entitlements_round_trip),
        cmocka_unit_test(every_type_of_key_signs),
        cmocka_unit_test(a_changed_byte_is_noticed),
        cmocka_unit_test(one_publisher_cannot_sign_for_another),
        cmocka_unit_test(a_publisher_may_have_several_keys),
        cmocka_unit_test(other_instances_are_refused),
        cmocka_unit_test(times_have_bounds),
        cmocka_unit_test(defaults_apply),
        cmocka_unit_test(unknown_members_are_let_through),
        cmocka_unit_test(malformed_documents_are_refused),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(other_documents_are_refused),
        cmocka_unit_test(nothing_is_signed_that_nobody_could_install),
        cmocka_unit_test(as_many_features_as_allowed_fit),
    };
    return cmocka_run_group_tests_name("publisher", tests, make_publishers, free_publishers);
}
