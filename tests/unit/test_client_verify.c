/* twinlease_verify(): a good chain holds, and of a bad one the broken link is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../data/keys.h"
#include "base/clock.h"
#include "base/file.h"
#include "token/instance.h"
#include "token/publisher.h"
#include "twinlease.h"

#define HOUR_MS INT64_C(3600000)
#define DAY_MS  (24 * HOUR_MS)

/* Everything a chain is made of, to be spoilt piece by piece. */
struct chain {
    int64_t now_ms;
    struct key *publisher;
    struct instance *instance;
    struct entitlement *terms;
    struct lease_claims lease;
    char *publisher_pem, *entitlement, *token;
};

static const struct uuid instance_ref_1 = { { 1 } }, scope_ref = { { 2 } }, node_ref = { { 3 } };
static struct twinlease_error error;

/* The public half as PEM: by way of a file, which is all that key.h writes. */
static char *public_pem(const struct key *key)
{
    char path[] = "/tmp/twinlease-test.XXXXXX";
    struct buf text;

    close(mkstemp(path));
    buf_init(&text, 65536);
    assert_int_equal(key_write_public(key, path, true, NULL), ERR_OK);
    assert_int_equal(file_read(path, FILE_PUBLIC, &text, NULL), ERR_OK);
    unlink(path);
    return buf_take(&text);
}

/* Always the same one. */
static struct key *instance_key_make(void)
{
    struct key *key = NULL;

    assert_int_equal(key_parse_private(fixed_ed25519, strlen(fixed_ed25519), &key, NULL), ERR_OK);
    return key;
}

static struct chain *chain_new(void)
{
    struct chain *c = calloc(1, sizeof *c);

    c->now_ms = wall_now().ms / 1000 * 1000;
    c->publisher = key_generate(KEY_EC_P256);
    c->publisher_pem = public_pem(c->publisher);
    c->instance = instance_new(&instance_ref_1, instance_key_make());
    c->terms = entitlement_new(1);
    c->terms->entitlement_ref = (struct uuid){ { 9 } };
    c->terms->revision = 1;
    memcpy(c->terms->publisher, "Pub", 4);
    c->terms->issued_ms = c->terms->begins_ms = c->now_ms - 10 * DAY_MS;
    c->terms->ends_ms = c->now_ms + 10 * DAY_MS;
    c->terms->features[0] = (struct feature){
        .scope_ref = scope_ref, .name = "render", .seats = 5, .lease_max_ms = DAY_MS
    };
    c->lease = (struct lease_claims){ .instance_ref = instance_ref_1,
                                      .origin_ref = { { 4 } },
                                      .lease_ref = { { 5 } },
                                      .scope_ref = scope_ref,
                                      .home = node_ref,
                                      .feature = "render",
                                      .count = 2,
                                      .issued_ms = c->now_ms,
                                      .created_ms = c->now_ms,
                                      .duration_ms = HOUR_MS,
                                      .expires_ms = c->now_ms + HOUR_MS };
    return c;
}

/* Signs both documents as they stand now. */
static void chain_sign(struct chain *c)
{
    const struct commit_receipt receipt = { node_ref, 1 };
    struct buf text;

    buf_init(&text, ENTITLEMENT_TEXT_MAX);
    assert_int_equal(entitlement_sign(c->publisher, c->terms, &instance_ref_1,
                                      key_thumbprint(instance_key(c->instance)), &text, NULL),
                     ERR_OK);
    sha256(text.bytes, text.length, c->lease.entitlement_sha256);
    free(c->entitlement);
    c->entitlement = buf_take(&text);
    buf_init(&text, JWS_MAX);
    assert_int_equal(lease_token_sign(c->instance, &c->lease, &receipt, &text), ERR_OK);
    free(c->token);
    c->token = buf_take(&text);
}

static void chain_free(struct chain *c)
{
    key_free(c->publisher);
    instance_free(c->instance);
    entitlement_unref(c->terms);
    free(c->publisher_pem);
    free(c->entitlement);
    free(c->token);
    free(c);
}

static int setup(void **state)
{
    *state = chain_new();
    chain_sign(*state);
    return 0;
}

static int teardown(void **state)
{
    chain_free(*state);
    return 0;
}

static struct twinlease_verify_options options_of(const struct chain *c)
{
    struct twinlease_verify_options options = TWINLEASE_VERIFY_OPTIONS_INIT;

    options.publisher_key_pem = c->publisher_pem;
    options.entitlement = c->entitlement;
    options.lease_token = c->token;
    options.instance_jwks = instance_jwks(c->instance);
    options.now_ms = c->now_ms;
    return options;
}

static void assert_holds(const struct twinlease_verify_options *options)
{
    if (twinlease_verify(options, &error) != TWINLEASE_OK)
        fail_msg("%s: %s", twinlease_link_name(error.link), error.message);
}

static void assert_broken(const struct twinlease_verify_options *options, enum twinlease_link link)
{
    assert_int_equal(twinlease_verify(options, &error), TWINLEASE_VERIFICATION);
    assert_string_equal(twinlease_link_name(error.link), twinlease_link_name(link));
    assert_true(strlen(error.message) > 10);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void good_chain(void **state)
{
    struct twinlease_verify_options options = options_of(*state);

    assert_holds(&options);
    options.feature = "render";
    options.count_min = 2;
    assert_holds(&options);
    options.now_ms = 0; /* this machine's clock, which is that of the test */
    assert_holds(&options);
    assert_int_equal(twinlease_verify(&options, NULL), TWINLEASE_OK);
}

static void arguments(void **state)
{
    struct twinlease_verify_options options = options_of(*state);

    assert_int_equal(twinlease_verify(NULL, &error), TWINLEASE_USAGE);
    options.lease_token = NULL;
    assert_int_equal(twinlease_verify(&options, &error), TWINLEASE_USAGE);
    options = options_of(*state);
    options.tolerance_seconds = 1000000;
    assert_int_equal(twinlease_verify(&options, &error), TWINLEASE_USAGE);
    options = options_of(*state);
    options.size = 1;
    assert_int_equal(twinlease_verify(&options, &error), TWINLEASE_USAGE);
}

static void publisher_link(void **state)
{
    const struct chain *c = *state;
    struct twinlease_verify_options options = options_of(c);
    struct key *stranger = key_generate(KEY_EC_P256);
    char *pem = public_pem(stranger), *both;

    options.publisher_key_pem = pem;
    assert_broken(&options, TWINLEASE_LINK_PUBLISHER);
    options.publisher_key_pem = "no key";
    assert_broken(&options, TWINLEASE_LINK_PUBLISHER);
    assert_true(asprintf(&both, "%s%s", pem, c->publisher_pem) > 0);
    options.publisher_key_pem = both; /* a publisher that changed its key pins both */
    assert_holds(&options);
    key_free(stranger);
    free(pem);
    free(both);
}

static char *flip(const char *text, size_t from_end)
{
    char *copy = strdup(text);
    char *at = copy + strlen(copy) - from_end;

    *at = *at == 'A' ? 'B' : 'A';
    return copy;
}

static void entitlement_link(void **state)
{
    struct chain *c = *state;
    struct twinlease_verify_options options = options_of(c);
    char *altered = flip(c->entitlement, 20);

    options.entitlement = altered;
    assert_broken(&options, TWINLEASE_LINK_ENTITLEMENT);
    options.entitlement = "a.b.c";
    assert_broken(&options, TWINLEASE_LINK_ENTITLEMENT);
    char *old = strdup(c->entitlement); /* another revision than the lease was granted under */
    c->terms->revision = 2;
    chain_sign(c);
    options = options_of(c);
    assert_holds(&options);
    options.entitlement = old;
    assert_broken(&options, TWINLEASE_LINK_ENTITLEMENT);
    free(altered);
    free(old);
}

static void instance_link(void **state)
{
    struct twinlease_verify_options options = options_of(*state);
    struct instance *stranger = instance_new(&instance_ref_1, key_generate(KEY_EC_P256));

    options.instance_jwks = instance_jwks(stranger);
    assert_broken(&options, TWINLEASE_LINK_INSTANCE);
    options.instance_jwks = "{\"keys\":[]}";
    assert_broken(&options, TWINLEASE_LINK_INSTANCE);
    options.instance_jwks = "nothing";
    assert_broken(&options, TWINLEASE_LINK_INSTANCE);
    instance_free(stranger);
}

/* The instance can sign what it likes; what counts is what the publisher lets it. */
static void lease_link(void **state)
{
    struct chain *c = *state;
    const struct lease_claims good = c->lease;
    struct twinlease_verify_options options = options_of(c);
    char *altered = flip(c->token, 20);

    options.lease_token = altered;
    assert_broken(&options, TWINLEASE_LINK_LEASE);
    free(altered);
    options.lease_token = c->entitlement;
    assert_broken(&options, TWINLEASE_LINK_LEASE);
    options = options_of(c);
    options.feature = "simulate";
    assert_broken(&options, TWINLEASE_LINK_LEASE);
    options.feature = NULL;
    options.count_min = 3;
    assert_broken(&options, TWINLEASE_LINK_LEASE);

    c->lease.scope_ref.bytes[5] = 1;
    chain_sign(c);
    options = options_of(c);
    assert_broken(&options, TWINLEASE_LINK_LEASE);
    c->lease = good;
    memcpy(c->lease.feature, "rinder", 7);
    chain_sign(c);
    options = options_of(c);
    assert_broken(&options, TWINLEASE_LINK_LEASE);
    c->lease = good;
    c->lease.count = 6;
    chain_sign(c);
    options = options_of(c);
    assert_broken(&options, TWINLEASE_LINK_LEASE);
    c->lease = good;
    c->lease.expires_ms = c->now_ms + 2 * DAY_MS;
    chain_sign(c);
    options = options_of(c);
    assert_broken(&options, TWINLEASE_LINK_LEASE);
}

static void lease_of_another_key_or_instance(void **state)
{
    struct chain *c = *state;
    const struct uuid other_ref = { { 77 } };
    struct instance *strangers[] = { instance_new(&instance_ref_1, key_generate(KEY_ED25519)),
                                     instance_new(&other_ref, instance_key_make()) };

    for (size_t i = 0; i < 2; i++) {
        struct twinlease_verify_options options = options_of(c);
        const struct commit_receipt receipt = { node_ref, 1 };
        struct buf text;
        buf_init(&text, JWS_MAX);
        assert_int_equal(lease_token_sign(strangers[i], &c->lease, &receipt, &text), ERR_OK);
        options.lease_token = buf_text(&text);
        assert_broken(&options, TWINLEASE_LINK_LEASE);
        buf_fini(&text);
        instance_free(strangers[i]);
    }
}

static void time_link(void **state)
{
    struct chain *c = *state;
    struct twinlease_verify_options options = options_of(c);

    options.tolerance_seconds = -1; /* none */
    options.now_ms = c->lease.expires_ms - 1000;
    assert_holds(&options);
    options.now_ms = c->lease.expires_ms;
    assert_broken(&options, TWINLEASE_LINK_TIME);
    options.tolerance_seconds = 0; /* the usual five minutes */
    assert_holds(&options);
    options.now_ms = c->lease.expires_ms + 301000;
    assert_broken(&options, TWINLEASE_LINK_TIME);
    options.now_ms = c->now_ms - 299000;
    assert_holds(&options);
    options.now_ms = c->now_ms - 301000;
    assert_broken(&options, TWINLEASE_LINK_TIME);
    options.tolerance_seconds = 3600;
    assert_holds(&options);
}

static void entitlement_that_is_over(void **state)
{
    struct chain *c = *state;

    c->terms->ends_ms = c->now_ms - HOUR_MS;
    chain_sign(c);
    struct twinlease_verify_options options = options_of(c);
    assert_broken(&options, TWINLEASE_LINK_TIME);
    assert_non_null(strstr(error.message, "entitlement"));
    c->terms->ends_ms = c->now_ms + DAY_MS;
    c->terms->begins_ms = c->now_ms + HOUR_MS;
    chain_sign(c);
    options = options_of(c);
    assert_broken(&options, TWINLEASE_LINK_TIME);
    assert_non_null(strstr(error.message, "begins"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(good_chain),
        TEST(arguments),
        TEST(publisher_link),
        TEST(entitlement_link),
        TEST(instance_link),
        TEST(lease_link),
        TEST(time_link),
        TEST(lease_of_another_key_or_instance),
        TEST(entitlement_that_is_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
