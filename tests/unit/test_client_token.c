/* Client tokens as the client reads them. */
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
#include "base/clock.h"
#include "base/file.h"
#include "tok.h"
#include "token/instance.h"

#define DAY_MS INT64_C(86400000)

static struct twinlease_error error;

static struct key *parse_key(const char *pem)
{
    struct key *key = NULL;

    assert_int_equal(key_parse_private(pem, strlen(pem), &key, NULL), ERR_OK);
    return key;
}

static char *make_tok(const char *pem, const char *url, int64_t issued_ms, int64_t expires_ms)
{
    const struct uuid ref = { { 7 } };
    struct instance *instance = instance_new(&ref, parse_key(pem));
    const struct client_token_scope scope = { { { 8 } }, "render" };
    const char *const urls[] = { url, "https://[::1]:8443" };
    const struct client_token token = {
        .instance_ref = ref,
        .token_ref = ref,
        .site_key_xid = ref,
        .allotment_ref = ref,
        .node_urls = urls,
        .node_url_count = 2,
        .scopes = &scope,
        .scope_count = 1,
        .ca_pem = "-----BEGIN CERTIFICATE-----\n",
        .issued_ms = issued_ms,
        .expires_ms = expires_ms,
    };
    struct buf text;

    buf_init(&text, JWS_MAX);
    assert_int_equal(client_token_sign(instance, &token, &text), ERR_OK);
    instance_free(instance);
    return buf_take(&text);
}

static enum twinlease_code try_text(const char *text)
{
    struct tok *tok = NULL;
    enum twinlease_code code = tok_parse("x.tok", text, strlen(text), &tok, &error);

    tok_free(tok);
    return code;
}

static void reads_what_the_node_writes(void **state)
{
    const char *const keys[] = { fixed_ec, fixed_rsa, fixed_ed25519 };

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        char *text = make_tok(keys[i], "https://node.example:8443", DAY_MS, 2 * DAY_MS);
        struct tok *tok = NULL;
        assert_int_equal(tok_parse("x", text, strlen(text), &tok, &error), TWINLEASE_OK);
        assert_string_equal(tok->text, text);
        assert_int_equal(tok->instance_ref.bytes[0], 7);
        assert_int_equal(tok->node_count, 2);
        assert_string_equal(tok->node_urls[0], "https://node.example:8443");
        assert_string_equal(tok->node_urls[1], "https://[::1]:8443");
        assert_string_equal(tok->ca_pem, "-----BEGIN CERTIFICATE-----\n");
        assert_int_equal(tok->issued_ms, DAY_MS);
        assert_int_equal(tok->expires_ms, 2 * DAY_MS);
        assert_non_null(strstr(tok->jwks, tok->signer));
        tok_free(tok);
        free(text);
    }
}

/* Whatever single byte is changed, it is not taken. */
static void altered_is_refused(void **state)
{
    char *text = make_tok(fixed_ec, "https://node.example", DAY_MS, 2 * DAY_MS);
    size_t length = strlen(text), altered = 0;

    (void)state;
    for (size_t i = 0; i < length; i++) {
        char was = text[i];
        text[i] = was == 'A' ? 'B' : 'A';
        enum twinlease_code code = try_text(text);
        assert_true(code == TWINLEASE_VERIFICATION || code == TWINLEASE_BAD_FILE);
        altered += code == TWINLEASE_VERIFICATION;
        text[i] = was;
    }
    assert_in_range(altered, 80,
                    length); /* those in the signature; the rest fails to parse before */
    for (size_t cut = 0; cut < length; cut += 37) {
        char *part = strndup(text, cut);
        assert_int_not_equal(try_text(part), TWINLEASE_OK);
        free(part);
    }
    assert_int_equal(try_text(text), TWINLEASE_OK);
    free(text);
}

static void other_documents_are_no_client_tokens(void **state)
{
    const struct uuid ref = { { 7 } };
    struct instance *instance = instance_new(&ref, parse_key(fixed_ec));
    struct buf text;

    (void)state;
    buf_init(&text, JWS_MAX);
    assert_int_equal(instance_token_sign(instance, 0, &text), ERR_OK);
    assert_int_equal(try_text(buf_text(&text)), TWINLEASE_BAD_FILE);
    assert_non_null(strstr(error.message, TYP_INSTANCE));
    buf_fini(&text);
    instance_free(instance);
    assert_int_equal(try_text(""), TWINLEASE_BAD_FILE);
    assert_int_equal(try_text("hello"), TWINLEASE_BAD_FILE);
    assert_int_equal(try_text("a.b.c"), TWINLEASE_BAD_FILE);
    char *bad_url = make_tok(fixed_ec, "http://node.example", DAY_MS, 2 * DAY_MS);
    assert_int_equal(try_text(bad_url), TWINLEASE_BAD_FILE);
    assert_non_null(strstr(error.message, "node_url_list[0]"));
    free(bad_url);
}

static void urls(void **state)
{
    static const char *const good[] = { "https://a", "https://a.b-c_d.e:1",
                                        "https://10.0.0.1:65535", "https://[fe80::1]:443",
                                        "https://[::ffff:1.2.3.4]" };
    static const char *const bad[] = { "",
                                       "a",
                                       "http://a",
                                       "https://",
                                       "https://:1",
                                       "https://a:",
                                       "https://a:0",
                                       "https://a:65536",
                                       "https://a:1x",
                                       "https://a/",
                                       "https://a?",
                                       "https://a#",
                                       "https://u@a",
                                       "https://a b",
                                       "https://[]",
                                       "https://[::1",
                                       "https://[::1]x",
                                       "HTTPS://a",
                                       "https://a:123456",
                                       "https://\xc3\xa9" };

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(tok_url_valid(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(tok_url_valid(bad[i]));
}

/* ---- files ----------------------------------------------------------------------------------- */

static char folder[64];

static void put_file(const char *name, const char *text)
{
    char path[128];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(file_write(path, text, strlen(text), 0600, true, NULL), ERR_OK);
}

static void remove_files(const char *const *names)
{
    char path[128];

    for (; *names; names++) {
        snprintf(path, sizeof path, "%s/%s", folder, *names);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(folder), 0);
}

static void make_folder(void)
{
    snprintf(folder, sizeof folder, "/tmp/twinlease-test.XXXXXX");
    assert_non_null(mkdtemp(folder));
}

static int64_t issued_of_best(const char *pin, int64_t now_ms)
{
    struct tok *tok = NULL;

    if (tok_read(folder, pin, now_ms, &tok, &error) != TWINLEASE_OK)
        return -1;
    int64_t issued_ms = tok->issued_ms;
    tok_free(tok);
    return issued_ms;
}

static void newest_valid_of_a_folder(void **state)
{
    char *old = make_tok(fixed_ec, "https://a", 1 * DAY_MS, 100 * DAY_MS);
    char *newer = make_tok(fixed_ec, "https://a", 2 * DAY_MS, 50 * DAY_MS);
    char *over = make_tok(fixed_ec, "https://a", 3 * DAY_MS, 4 * DAY_MS);
    char *foreign = make_tok(fixed_ed25519, "https://a", 9 * DAY_MS, 100 * DAY_MS);
    struct key *key = parse_key(fixed_ec);
    const char *pin = key_thumbprint(key);

    (void)state;
    make_folder();
    assert_int_equal(issued_of_best(NULL, 0), -1);
    assert_int_equal(error.code, TWINLEASE_BAD_FILE);
    put_file("broken.tok", "hello");
    assert_int_equal(issued_of_best(NULL, 0), -1);
    assert_non_null(strstr(error.message, "broken.tok"));
    put_file("over.tok", over);
    put_file("old.tok", old);
    put_file("newer.tok", newer);
    put_file("foreign.tok", foreign);
    put_file("newest.tok.bak", foreign);
    put_file(".hidden.tok", foreign);
    assert_int_equal(issued_of_best(pin, 10 * DAY_MS), 2 * DAY_MS);
    assert_int_equal(issued_of_best(NULL, 10 * DAY_MS), 9 * DAY_MS);
    assert_int_equal(issued_of_best(pin, 60 * DAY_MS), 1 * DAY_MS);  /* the newer one is over */
    assert_int_equal(issued_of_best(pin, 200 * DAY_MS), 3 * DAY_MS); /* all are */
    remove_files((const char *const[]){ "broken.tok", "over.tok", "old.tok", "newer.tok",
                                        "foreign.tok", "newest.tok.bak", ".hidden.tok", NULL });
    key_free(key);
    free(old);
    free(newer);
    free(over);
    free(foreign);
}

static void single_files(void **state)
{
    char *text = make_tok(fixed_ec, "https://a", DAY_MS, 2 * DAY_MS), path[128];
    struct tok *tok = NULL;
    struct buf padded;

    (void)state;
    make_folder();
    snprintf(path, sizeof path, "%s/a.tok", folder);
    assert_int_equal(tok_read(path, NULL, 0, &tok, &error), TWINLEASE_BAD_FILE);
    assert_non_null(strstr(error.message, path));
    buf_init(&padded, JWS_MAX);
    buf_format(&padded, "\r\n %s \n\n", text);
    put_file("a.tok", buf_text(&padded));
    assert_int_equal(tok_read(path, NULL, 0, &tok, &error), TWINLEASE_OK);
    assert_string_equal(tok->text, text);
    tok_free(tok);
    put_file("a.tok", "\n");
    assert_int_equal(tok_read(path, NULL, 0, &tok, &error), TWINLEASE_BAD_FILE);
    assert_int_equal(truncate(path, JWS_MAX + 1), 0);
    assert_int_equal(tok_read(path, NULL, 0, &tok, &error), TWINLEASE_BAD_FILE);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0); /* must not stop us */
    assert_int_equal(tok_read(path, NULL, 0, &tok, &error), TWINLEASE_BAD_FILE);
    remove_files((const char *const[]){ "a.tok", NULL });
    buf_fini(&padded);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_the_node_writes),
        cmocka_unit_test(altered_is_refused),
        cmocka_unit_test(other_documents_are_no_client_tokens),
        cmocka_unit_test(urls),
        cmocka_unit_test(newest_valid_of_a_folder),
        cmocka_unit_test(single_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
