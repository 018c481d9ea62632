/* Pages as bytes: everything that is told comes back, nothing that is local is told, and no text
 * that is cut, altered or hostile is taken for a page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "replication/wire_page.h"
#include "tamper.h"

static const struct uuid node_1 = { { 1 } }, node_2 = { { 2 } }, scope = { { 3 } };
static const struct uuid origin = { { 4 } }, lease = { { 5 } };

#define U1 "\"01000000-0000-0000-0000-000000000000\""
#define U2 "\"02000000-0000-0000-0000-000000000000\""
#define U3 "\"03000000-0000-0000-0000-000000000000\""
#define U4 "\"04000000-0000-0000-0000-000000000000\""
#define U5 "\"05000000-0000-0000-0000-000000000000\""

/* Knows texts that begin with "ok". */
static enum err open_one(void *context, const char *text, struct entitlement **out,
                         struct diag *diag)
{
    if (context)
        ++*(int *)context;
    if (strncmp(text, "ok", 2) != 0)
        return diag_set(diag, ERR_ENT_UNTRUSTED, "publisher of \"%s\" is not trusted here", text);
    struct entitlement *e = entitlement_new(0);
    e->text = mem_strdup(text);
    *out = e;
    return ERR_OK;
}

static enum err decode(const char *text, struct ledger_page **out, struct diag *diag)
{
    *diag = (struct diag){ "" };
    return page_decode(text, strlen(text), open_one, NULL, out, diag);
}

/* ---- the round trip -------------------------------------------------------------------------- */

/* One row of every kind, local parts filled in as well. */
static struct ledger_page *full_page(void)
{
    struct ledger_page *page = mem_calloc(1, sizeof *page);

    *page = (struct ledger_page){ .sender = node_1,
                                  .receiver = node_2,
                                  .since = 7,
                                  .upto = 12,
                                  .now_ms = 1700000000123,
                                  .refilled = true,
                                  .complete = true,
                                  .watermark_ms = 1700000000100,
                                  .acknowledged = 3 };
    page->nodes = mem_calloc(2, sizeof *page->nodes);
    page->nodes[page->node_count++] = (struct node_row){ .node_ref = node_1,
                                                         .longest_ms = 86400000,
                                                         .seq = 1,
                                                         .partner = true,
                                                         .closed = true,
                                                         .watermark_ms = 5,
                                                         .acknowledged = 6,
                                                         .cursor = 7 };
    page->nodes[page->node_count++] = (struct node_row){ .node_ref = scope,
                                                         .retired = true,
                                                         .drained = true,
                                                         .heir = node_1,
                                                         .retired_ms = 8,
                                                         .wait_ms = 9,
                                                         .longest_ms = 10,
                                                         .seq = 11 };
    page->entitlements = mem_calloc(1, sizeof *page->entitlements);
    struct entitlement *entitlement = entitlement_new(0);
    entitlement->text = mem_strdup("ok.abc-_.Z");
    page->entitlements[page->entitlement_count++] = (struct entitlement_row){
        .entitlement = entitlement, .installed_ms = 12, .minter = node_2, .usable = true, .seq = 8
    };
    page->moves = mem_calloc(1, sizeof *page->moves);
    page->moves[page->move_count++] = (struct move_row){
        .scope_ref = scope, .giver = node_1, .receiver = node_2, .moved = 40, .seq = 9
    };
    page->leases = mem_calloc(1, sizeof *page->leases);
    page->leases[page->lease_count++] = (struct lease_row){ .lease_ref = lease,
                                                            .home = node_1,
                                                            .origin_ref = origin,
                                                            .scope_ref = scope,
                                                            .count = 2,
                                                            .generation = UINT32_MAX,
                                                            .state = LEASE_REVOKED,
                                                            .shared = true,
                                                            .created_ms = 13,
                                                            .duration_ms = 14,
                                                            .expires_ms = 15,
                                                            .ended_ms = 16,
                                                            .ended_expires_ms = 17,
                                                            .seq = INT64_MAX };
    page->origins = mem_calloc(2, sizeof *page->origins);
    page->origins[page->origin_count++] =
        (struct origin_row){ .origin_ref = origin,
                             .generation = 3,
                             .enrolled = true,
                             .created_ms = 18,
                             .updated_ms = 19,
                             .updated_by = node_2,
                             .seq = 11,
                             .environment =
                                 "{\"hostname\": \"a\\\\b \\\"\xc3\xa4\xf0\x9f\x92\xba\\n\"}" };
    page->origins[page->origin_count++] = (struct origin_row){ .origin_ref = lease, .seq = 12 };
    return page;
}

/* The form that protocol 1 has for ever: whoever changes this breaks rolling upgrades. */
static const char golden[] =
    "{\"v\":1,\"sender\":" U1 ",\"receiver\":" U2 ",\"since\":7,\"upto\":12,"
    "\"now_ms\":1700000000123,\"refilled\":true,\"fresh\":false,\"complete\":true,"
    "\"closed\":false,\"watermark_ms\":1700000000100,\"acknowledged\":3,"
    "\"nodes\":[[" U1 ",false,false,null,0,0,86400000,1],[" U3 ",true,true," U1 ",8,9,10,11]],"
    "\"entitlements\":[[\"ok.abc-_.Z\",12," U2 ",8]],"
    "\"moves\":[[" U3 "," U1 "," U2 ",40,9]],"
    "\"leases\":[[" U5 "," U1 "," U4 "," U3 ",2,4294967295,2,true,13,14,15,16,17,"
    "9223372036854775807]],"
    "\"origins\":[[" U4 ",3,true,18,19," U2 ",\"{\\\"hostname\\\": \\\"a\\\\\\\\b "
    "\\\\\\\"\xc3\xa4\xf0\x9f\x92\xba\\\\n\\\"}\",11],[" U5 ",0,false,0,0,null,null,12]]}";

static void a_page_is_encoded_as_protocol_1_has_it(void **state)
{
    (void)state;
    AUTO(ledger_page_free) struct ledger_page *page = full_page();
    AUTO(buf_fini) struct buf text = { .max = PEER_BODY_MAX };

    page_encode(page, 1, &text);
    assert_true(buf_ok(&text));
    assert_string_equal(text.bytes, golden);
}

static void assert_same_header(const struct ledger_page *a, const struct ledger_page *b)
{
    assert_memory_equal(&a->sender, &b->sender, sizeof a->sender);
    assert_memory_equal(&a->receiver, &b->receiver, sizeof a->receiver);
    assert_true(a->since == b->since && a->upto == b->upto && a->now_ms == b->now_ms);
    assert_true(a->refilled == b->refilled && a->fresh == b->fresh);
    assert_true(a->complete == b->complete && a->closed == b->closed);
    assert_true(a->watermark_ms == b->watermark_ms && a->acknowledged == b->acknowledged);
}

static void assert_same_leases(const struct ledger_page *a, const struct ledger_page *b)
{
    assert_int_equal(a->lease_count, b->lease_count);
    for (size_t i = 0; i < a->lease_count; i++) {
        const struct lease_row *x = &a->leases[i], *y = &b->leases[i];
        assert_true(uuid_equal(&x->lease_ref, &y->lease_ref) && uuid_equal(&x->home, &y->home));
        assert_true(uuid_equal(&x->origin_ref, &y->origin_ref));
        assert_true(uuid_equal(&x->scope_ref, &y->scope_ref));
        assert_true(x->count == y->count && x->generation == y->generation);
        assert_true(x->state == y->state && x->shared == y->shared);
        assert_true(x->created_ms == y->created_ms && x->duration_ms == y->duration_ms);
        assert_true(x->expires_ms == y->expires_ms && x->ended_ms == y->ended_ms);
        assert_true(x->ended_expires_ms == y->ended_expires_ms && x->seq == y->seq);
    }
}

static void assert_same_origins(const struct ledger_page *a, const struct ledger_page *b)
{
    assert_int_equal(a->origin_count, b->origin_count);
    for (size_t i = 0; i < a->origin_count; i++) {
        const struct origin_row *x = &a->origins[i], *y = &b->origins[i];
        assert_true(uuid_equal(&x->origin_ref, &y->origin_ref));
        assert_true(uuid_equal(&x->updated_by, &y->updated_by));
        assert_true(x->generation == y->generation && x->enrolled == y->enrolled);
        assert_true(x->created_ms == y->created_ms && x->updated_ms == y->updated_ms);
        assert_true(x->seq == y->seq && !x->environment == !y->environment);
        if (x->environment)
            assert_string_equal(x->environment, y->environment);
    }
}

static void what_is_told_comes_back(void **state)
{
    (void)state;
    AUTO(ledger_page_free) struct ledger_page *page = full_page();
    AUTO(ledger_page_free) struct ledger_page *again = NULL;
    struct diag diag;

    assert_int_equal(decode(golden, &again, &diag), ERR_OK);
    assert_string_equal(diag.text, "");
    assert_same_header(page, again);
    assert_same_leases(page, again);
    assert_same_origins(page, again);
    assert_int_equal(again->move_count, 1);
    assert_memory_equal(again->moves, page->moves, sizeof *page->moves);
    assert_int_equal(again->entitlement_count, 1);
    assert_string_equal(again->entitlements[0].entitlement->text, "ok.abc-_.Z");
    assert_true(uuid_equal(&again->entitlements[0].minter, &node_2));
    assert_int_equal(again->entitlements[0].installed_ms, 12);
    assert_int_equal(again->node_count, 2);
    assert_true(again->nodes[1].retired && again->nodes[1].drained);
    assert_true(uuid_equal(&again->nodes[1].heir, &node_1));
    assert_int_equal(again->nodes[1].retired_ms, 8);
    assert_int_equal(again->nodes[1].wait_ms, 9);
    assert_int_equal(again->nodes[1].longest_ms, 10);
}

static void what_is_local_is_not_told(void **state)
{
    (void)state;
    AUTO(ledger_page_free) struct ledger_page *again = NULL;
    struct diag diag;

    assert_int_equal(decode(golden, &again, &diag), ERR_OK);
    const struct node_row *node = &again->nodes[0];
    assert_false(node->partner || node->closed || again->entitlements[0].usable);
    assert_true(node->watermark_ms == 0 && node->acknowledged == 0 && node->cursor == 0);
}

/* R8: a page that stops short states neither W nor `seen`, whatever its builder left in them. */
static void a_page_that_stops_short_states_nothing(void **state)
{
    (void)state;
    AUTO(ledger_page_free) struct ledger_page *page = full_page();
    AUTO(ledger_page_free) struct ledger_page *again = NULL;
    AUTO(buf_fini) struct buf text = { .max = PEER_BODY_MAX };
    struct diag diag;

    page->complete = false;
    page_encode(page, 1, &text);
    assert_null(strstr(text.bytes, "watermark"));
    assert_null(strstr(text.bytes, "acknowledged"));
    assert_int_equal(decode(text.bytes, &again, &diag), ERR_OK);
    assert_true(again->watermark_ms == 0 && again->acknowledged == 0 && !again->complete);
}

static void every_state_of_leases_comes_back(void **state)
{
    (void)state;
    AUTO(ledger_page_free) struct ledger_page *page = full_page();

    for (enum lease_state s = 0; s < LEASE_STATES; s++) {
        AUTO(ledger_page_free) struct ledger_page *again = NULL;
        AUTO(buf_fini) struct buf text = { .max = PEER_BODY_MAX };
        struct diag diag;
        page->leases[0].state = s;
        page_encode(page, 1, &text);
        assert_int_equal(decode(text.bytes, &again, &diag), ERR_OK);
        assert_int_equal(again->leases[0].state, s);
    }
}

static void a_page_above_the_ceiling_fails(void **state)
{
    (void)state;
    AUTO(ledger_page_free) struct ledger_page *page = full_page();
    AUTO(buf_fini) struct buf text = { .max = sizeof golden - 2 };

    page_encode(page, 1, &text);
    assert_false(buf_ok(&text));
}

/* ---- a newer release ------------------------------------------------------------------------- */

#define HEAD                                                                                       \
    "{\"v\":1,\"sender\":" U1 ",\"receiver\":" U2 ",\"since\":0,\"upto\":9,\"now_ms\":1,"          \
    "\"refilled\":true,\"fresh\":false,\"complete\":false,\"closed\":false"

static void what_a_newer_release_adds_is_let_through(void **state)
{
    (void)state;
    AUTO(ledger_page_free) struct ledger_page *page = NULL;
    struct diag diag;

    assert_int_equal(decode(" " HEAD ",\"mood\":{\"a\":[1.5e3,null,{\"]\":\"}\\\"\"}]},\n"
                            "\"omens\" : [[1,\"x\"],[]], \"moves\":[ [" U3 "," U1 "," U2
                            ",1,2, \"more\",[{}] ] , [" U3 "," U2 "," U1 ",3,4]],\"x\":-1 } ",
                            &page, &diag),
                     ERR_OK);
    assert_int_equal(page->move_count, 2);
    assert_int_equal(page->moves[1].moved, 3);
}

/* ---- malformed and hostile ------------------------------------------------------------------- */

static void a_page_that_was_cut_off_is_refused(void **state)
{
    (void)state;
    struct diag diag;

    for (size_t length = 0; length < sizeof golden - 1; length++) {
        struct ledger_page *page = (struct ledger_page *)(void *)&diag;
        AUTO(mem_free) char *cut = length ? mem_alloc(length) : NULL; /* exact, for ASan */
        if (length)
            memcpy(cut, golden, length);
        diag.text[0] = '\0';
        assert_int_equal(page_decode(cut ? cut : "", length, open_one, NULL, &page, &diag),
                         ERR_PAGE_REFUSED);
        assert_null(page);
        assert_non_null(strstr(diag.text, "the page is malformed: "));
    }
}

/* The signature notices every change; this is about what the decoder does without it. */
static bool decodes(const char *text, size_t length, void *context)
{
    AUTO(ledger_page_free) struct ledger_page *page = NULL;
    struct diag diag = { "" };

    (void)context;
    enum err e = page_decode(text, length, open_one, NULL, &page, &diag);
    assert_true(e == ERR_OK || e == ERR_PAGE_REFUSED);
    assert_true((e == ERR_OK) == (page != NULL));
    assert_true((e == ERR_OK) == (diag.text[0] == '\0'));
    return e == ERR_OK;
}

static void altered_bytes_do_no_harm(void **state)
{
    (void)state;
    size_t taken = tamper(golden, sizeof golden - 1, decodes, NULL);

    assert_in_range(taken, 1, 6 * sizeof golden); /* digits and texts may change, form may not */
}

struct hostile {
    const char *text, *says;
};

static void refuse_all(const struct hostile *cases, size_t count)
{
    struct ledger_page *page;
    struct diag diag;

    for (size_t i = 0; i < count; i++) {
        enum err e = decode(cases[i].text, &page, &diag);
        if (e != ERR_PAGE_REFUSED || page || !strstr(diag.text, cases[i].says))
            fail_msg("%s\n  gives %s: %s\n  not: %s", cases[i].text, err_info(e)->code, diag.text,
                     cases[i].says);
    }
}

static void headers_are_checked(void **state)
{
    (void)state;
    static const struct hostile cases[] = {
        { "", "the whole: an object is expected" },
        { "[]", "the whole: an object is expected" },
        { "{}", "v: is missing" },
        { "{\"v\":1}", "sender: is missing" },
        { "{\"v\":2}", "v: a protocol that is not spoken here" },
        { "{\"v\":0}", "v: a protocol that is not spoken here" },
        { "{\"v\":1.0}", "v: a whole number is expected" },
        { "{\"v\":1e0}", "v: a whole number is expected" },
        { "{\"v\":\"1\"}", "v: a whole number is expected" },
        { "{\"v\":01}", "v: a number begins with a zero" },
        { "{\"v\":1,\"v\":1}", "v: stands twice" },
        { "{\"v\":1,\"\\u0076\":1}", "an escape" },
        { "{\"v\":1,}", "a string is expected" },
        { "{\"v\" 1}", "a colon is expected" },
        { HEAD "} x", "something follows the value" },
        { HEAD, "a comma or a closing bracket" },
        { HEAD ",\"since\":0}", "since: stands twice" },
        { HEAD ",\"watermark_ms\":5}", "watermark_ms: stands in a page that is not complete" },
        { HEAD ",\"acknowledged\":5}", "acknowledged: stands in a page that is not complete" },
        { HEAD ",\"x\":NaN}", "a value is expected" },
        { HEAD ",\"x\":\"\x01\"}", "control character" },
        { HEAD ",\"x\":\"\xff\"}", "not valid UTF-8" },
        { HEAD ",\"x\":\"\\ud800\"}", "a surrogate stands alone" },
        { HEAD ",\"x\":[1,]}", "a value is expected" },
        { HEAD ",\"x\":{\"a\":1]}}", "a comma or a closing bracket" },
        { HEAD ",\"x\":[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]}", "nested too deeply" },
        { HEAD ",\"leases\":[],\"leases\":[]}", "leases: stands twice" },
        { "{\"since\":-1}", "since: a number is out of range" },
        { "{\"since\":9223372036854775808}", "since: a number is out of range" },
        { "{\"since\":99999999999999999999999999}", "since: a number is out of range" },
        { "{\"now_ms\":253402300800000}", "now_ms: a number is out of range" },
        { "{\"sender\":null}", "sender: a UUID is expected" },
        { "{\"sender\":\"00000000-0000-0000-0000-000000000000\"}", "sender: a UUID is expected" },
        { "{\"sender\":\"01000000-0000-0000-0000-00000000000\"}", "sender: a UUID is expected" },
        { "{\"refilled\":1}", "refilled: true or false is expected" },
        { "{\"v\":1,\"sender\":" U1 ",\"receiver\":" U2 ",\"since\":9,\"upto\":8,\"now_ms\":1,"
          "\"refilled\":true,\"fresh\":false,\"complete\":false,\"closed\":false}",
          "upto: lies before since" },
        { "{\"v\":1,\"sender\":" U1 ",\"receiver\":" U2 ",\"since\":0,\"upto\":8,\"now_ms\":1,"
          "\"refilled\":true,\"fresh\":false,\"complete\":true,\"closed\":false}",
          "watermark_ms: is missing" },
    };
    refuse_all(cases, ARRAY_SIZE(cases));
}

#define LEASE "[" U5 "," U1 "," U4 "," U3 ","

static void rows_are_checked_and_named(void **state)
{
    (void)state;
    static const struct hostile cases[] = {
        { HEAD ",\"leases\":7}", "leases: an array is expected" },
        { HEAD ",\"leases\":[7]}", "leases[0].lease_ref: an array is expected" },
        { HEAD ",\"leases\":[[]]}", "leases[0].lease_ref: a UUID is expected" },
        { HEAD ",\"leases\":[[" U5 "]]}", "leases[0].home: a further item is expected" },
        { HEAD ",\"leases\":[[null]]}", "leases[0].lease_ref: a UUID is expected" },
        { HEAD ",\"leases\":[" LEASE "0,1,0,true,1,1,1,0,0,1]]}", "leases[0].count" },
        { HEAD ",\"leases\":[" LEASE "-1,1,0,true,1,1,1,0,0,1]]}", "leases[0].count" },
        { HEAD ",\"leases\":[" LEASE "10000001,1,0,true,1,1,1,0,0,1]]}", "leases[0].count" },
        { HEAD ",\"leases\":[" LEASE "1,4294967296,0,true,1,1,1,0,0,1]]}", "leases[0].generation" },
        { HEAD ",\"leases\":[" LEASE "1,1,5,true,1,1,1,0,0,1]]}", "leases[0].state" },
        { HEAD ",\"leases\":[" LEASE "1,1,-1,true,1,1,1,0,0,1]]}", "leases[0].state" },
        { HEAD ",\"leases\":[" LEASE "1,1,0,0,1,1,1,0,0,1]]}", "leases[0].shared" },
        { HEAD ",\"leases\":[" LEASE "1,1,0,true,-1,1,1,0,0,1]]}", "leases[0].created_ms" },
        { HEAD ",\"leases\":[" LEASE "1,1,0,true,1,0,1,0,0,1]]}", "leases[0].duration_ms" },
        { HEAD ",\"leases\":[" LEASE "1,1,0,true,1,7776000001,1,0,0,1]]}",
          "leases[0].duration_ms" },
        { HEAD ",\"leases\":[" LEASE "1,1,0,true,1,1,253402300800000,0,0,1]]}",
          "leases[0].expires_ms" },
        { HEAD ",\"leases\":[" LEASE "1,1,0,true,1,1,1,0,0]]}", "leases[0].seq" },
        { HEAD ",\"leases\":[" LEASE "1,1,0,true,1,1,1,0,0,1,]]}", "leases[0]: a value" },
        { HEAD ",\"leases\":[" LEASE "1,1,0,true,1,1,1,0,0,1]," LEASE "1,1,0,2]]}",
          "leases[1].shared" },
        { HEAD ",\"leases\":[" LEASE "1,1,0,true,1,1,1,0,0,1],]}", "leases[1].lease_ref" },
        { HEAD ",\"moves\":[[" U3 "," U1 "," U2 ",9007199254740993,1]]}", "moves[0].moved" },
        { HEAD ",\"nodes\":[[" U1 ",false,false,\"\",0,0,0,0]]}", "nodes[0].heir" },
        { HEAD ",\"nodes\":[[" U1 ",false,false,null,0,0,7776000001,0]]}", "nodes[0].longest_ms" },
        { HEAD ",\"entitlements\":[[\"no\",1," U1 ",1]]}",
          "entitlements[0].entitlement: publisher of \"no\" is not trusted here" },
        { HEAD ",\"entitlements\":[[\"ok\\u0041\",1," U1 ",1]]}", "entitlements[0].entitlement" },
        { HEAD ",\"entitlements\":[[\"ok\",1,null,1]]}", "entitlements[0].minter" },
        { HEAD ",\"origins\":[[" U4 ",3,true,1,1," U2 ",\"{\",1]]}",
          "origins[0].environment: an environment is not valid JSON" },
        { HEAD ",\"origins\":[[" U4 ",3,true,1,1," U2 ",\"\\\"\xff\\\"\",1]]}",
          "origins[0].environment: an environment is not valid JSON" },
        { HEAD ",\"origins\":[[" U4 ",3,true,1,1," U2 ",\"1\\u00002\",1]]}",
          "origins[0].environment: a string has a NUL" },
        { HEAD ",\"origins\":[[" U4 ",3,true,1,1," U2 ",\"\\q\",1]]}",
          "origins[0].environment: an escape is not known" },
        { HEAD ",\"origins\":[[" U4 ",3,true,1,1," U2 ",\"\\ud83d x\",1]]}",
          "origins[0].environment: a surrogate stands alone" },
        { HEAD ",\"origins\":[[" U4 ",3,true,1,1," U2 ",\"\\", "origins[0].environment" },
    };
    refuse_all(cases, ARRAY_SIZE(cases));
}

static void repeat_rows(struct buf *out, const char *kind, const char *row, size_t count)
{
    buf_format(out, HEAD ",\"%s\":[", kind);
    for (size_t i = 0; i < count; i++)
        buf_format(out, "%s%s", i ? "," : "", row);
    buf_text_append(out, "]}");
    assert_true(buf_ok(out));
}

static void more_rows_than_a_page_may_have_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *kind, *row;
        size_t max;
    } cases[] = {
        { "nodes", "[" U1 ",false,false,null,0,0,1,1]", LEDGER_NODES_MAX },
        { "entitlements", "[\"ok\",1," U1 ",1]", PAGE_ROWS_MAX },
        { "moves", "[" U3 "," U1 "," U2 ",1,1]", PAGE_ROWS_MAX * LEDGER_NODES_MAX },
        { "leases", LEASE "1,1,0,true,1,1,1,0,0,1]", PAGE_ROWS_MAX },
        { "origins", "[" U4 ",3,true,1,1," U2 ",\"{}\",1]", PAGE_ROWS_MAX },
        { "debts", "[" U3 ",1]", PAGE_ROWS_MAX },
    };
    struct ledger_page *page;
    struct diag diag;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(buf_fini) struct buf fits = { .max = PEER_BODY_MAX };
        AUTO(buf_fini) struct buf over = { .max = PEER_BODY_MAX };
        repeat_rows(&fits, cases[i].kind, cases[i].row, cases[i].max);
        assert_int_equal(decode(fits.bytes, &page, &diag), ERR_OK);
        ledger_page_free(page);
        repeat_rows(&over, cases[i].kind, cases[i].row, cases[i].max + 1);
        assert_int_equal(decode(over.bytes, &page, &diag), ERR_PAGE_REFUSED);
        assert_non_null(strstr(diag.text, cases[i].kind));
        assert_non_null(strstr(diag.text, "more rows than a page may have"));
    }
}

static void texts_have_limits(void **state)
{
    (void)state;
    struct ledger_page *page;
    struct diag diag;

    AUTO(mem_free) char *spaces = mem_alloc(PEER_ENVIRONMENT_MAX);

    memset(spaces, ' ', PEER_ENVIRONMENT_MAX);
    for (int over = 0; over < 2; over++) {
        AUTO(buf_fini) struct buf text = { .max = PEER_BODY_MAX };
        buf_format(&text, HEAD ",\"origins\":[[" U4 ",3,true,1,1," U2 ",\"%s%.*s\",1]]}",
                   over ? "{ }" : "{}", (int)PEER_ENVIRONMENT_MAX - 2, spaces);
        assert_int_equal(decode(text.bytes, &page, &diag), over ? ERR_PAGE_REFUSED : ERR_OK);
        if (over)
            assert_non_null(strstr(diag.text, "origins[0].environment: a string is too long"));
        ledger_page_free(page);
    }
}

/* What is refused is refused before the dear part: no signature is verified of a page whose form
 * is wrong earlier on, and nothing is kept of one that is refused later. */
static void a_refused_entitlement_ends_the_page(void **state)
{
    (void)state;
    struct ledger_page *page;
    struct diag diag = { "" };
    int opened = 0;
    static const char text[] =
        HEAD ",\"entitlements\":[[\"ok\",1," U1 ",1],[\"no\",1," U1 ",1],[\"ok\",1," U1 ",1]]}";

    assert_int_equal(page_decode(text, sizeof text - 1, open_one, &opened, &page, &diag),
                     ERR_PAGE_REFUSED);
    assert_int_equal(opened, 2);
    assert_non_null(strstr(diag.text, "entitlements[1].entitlement"));
}

/* ---- size and speed -------------------------------------------------------------------------- */

static void a_full_page_fits_and_is_quick(void **state)
{
    (void)state;
    AUTO(ledger_page_free) struct ledger_page *page = full_page();
    AUTO(ledger_page_free) struct ledger_page *again = NULL;
    AUTO(buf_fini) struct buf text = { .max = PEER_BODY_MAX };
    struct diag diag;

    page->leases = mem_resize(page->leases, PAGE_ROWS_MAX * sizeof *page->leases);
    for (; page->lease_count < PAGE_ROWS_MAX; page->lease_count++) {
        struct lease_row *row = &page->leases[page->lease_count];
        *row = page->leases[0];
        row->lease_ref = uuid_random();
        row->origin_ref = uuid_random();
        row->created_ms = row->expires_ms = 1700000000123;
    }
    page_encode(page, 1, &text);
    assert_true(buf_ok(&text));
    assert_in_range(text.length, 1 << 20, 2 << 20);
    assert_int_equal(page_decode(text.bytes, text.length, open_one, NULL, &again, &diag), ERR_OK);
    assert_same_leases(page, again);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_page_is_encoded_as_protocol_1_has_it),
        cmocka_unit_test(what_is_told_comes_back),
        cmocka_unit_test(what_is_local_is_not_told),
        cmocka_unit_test(a_page_that_stops_short_states_nothing),
        cmocka_unit_test(every_state_of_leases_comes_back),
        cmocka_unit_test(a_page_above_the_ceiling_fails),
        cmocka_unit_test(what_a_newer_release_adds_is_let_through),
        cmocka_unit_test(a_page_that_was_cut_off_is_refused),
        cmocka_unit_test(altered_bytes_do_no_harm),
        cmocka_unit_test(headers_are_checked),
        cmocka_unit_test(rows_are_checked_and_named),
        cmocka_unit_test(more_rows_than_a_page_may_have_are_refused),
        cmocka_unit_test(texts_have_limits),
        cmocka_unit_test(a_refused_entitlement_ends_the_page),
        cmocka_unit_test(a_full_page_fits_and_is_quick),
    };
    return cmocka_run_group_tests_name("page", tests, NULL, NULL);
}
