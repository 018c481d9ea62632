#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/json.h"
#include "http/escape.h"
#include "http/problem.h"
#include "http/timer.h"

#define NOW_MS 1763715009123 /* 2025-11-21T08:50:09.123Z */

static struct json_object *document;

static void write_problem(const struct problem *problem)
{
    AUTO(buf_fini) struct buf text;
    struct diag diag;

    buf_init(&text, PROBLEM_MAX);
    problem_write(problem, &text);
    json_object_put(document);
    document = NULL;
    enum err e = json_parse(buf_text(&text), text.length, &document, &diag);
    assert_int_equal(e, ERR_OK);
}

static const char *member(const char *name)
{
    struct json_object *value = NULL;

    return json_object_object_get_ex(document, name, &value) ? json_object_get_string(value) : NULL;
}

static void plain(void **state)
{
    (void)state;
    write_problem(&(struct problem){
        .err = ERR_UNKNOWN_FIELD, .detail = "seat is not known here", .request_id = "r-1" });
    assert_string_equal(member("type"), "urn:twinlease:problem:unknown_field");
    assert_string_equal(member("title"), err_info(ERR_UNKNOWN_FIELD)->title);
    assert_string_equal(member("status"), "400");
    assert_string_equal(member("code"), "unknown_field");
    assert_string_equal(member("detail"), "seat is not known here");
    assert_string_equal(member("request_id"), "r-1");
    assert_null(member("retry_after"));
    assert_null(member("seats"));
}

static void without_detail_with_other_status(void **state)
{
    (void)state;
    write_problem(&(struct problem){
        .err = ERR_BAD_REQUEST, .status = 417, .detail = "", .request_id = "r" });
    assert_string_equal(member("status"), "417");
    assert_null(member("detail"));
}

/* Every row of err.tbl makes a valid document, and every 503 says when to come back. */
static void every_error(void **state)
{
    (void)state;
    for (enum err e = ERR_OK + 1; e < ERR_COUNT; e++) {
        struct problem problem = { .err = e, .detail = "x", .request_id = "r" };
        write_problem(&problem);
        assert_string_equal(member("code"), err_info(e)->code);
        int64_t retry = problem_retry_seconds(&problem);
        if (err_info(e)->http == 503 || err_info(e)->retry)
            assert_in_range(retry, 1, RETRY_SECONDS_MAX);
        else
            assert_int_equal(retry, 0);
        assert_int_equal(member("retry_after") != NULL, retry != 0);
    }
}

static void hostile_detail(void **state)
{
    (void)state;
    write_problem(&(struct problem){ .err = ERR_BAD_FIELD,
                                     .detail = "\"\\\n\x1b</script>\xc3\xa4\xc3(\xff\x7f",
                                     .request_id = "r" });
    assert_string_equal(member("detail"),
                        "\"\\\n\x1b</script>\xc3\xa4\xef\xbf\xbd(\xef\xbf\xbd\x7f");
}

static void denial(void **state)
{
    struct scope_view scope = { .feature = "render",
                                .seats = 3,
                                .used = 2,
                                .waiting = 1,
                                .free_here = 0,
                                .at_peer = 1,
                                .pending = 4,
                                .next_back_ms = NOW_MS + 4001 };
    struct problem problem = { .err = ERR_NO_FREE_SEAT,
                               .detail = "every seat is leased",
                               .request_id = "r",
                               .denial = &scope,
                               .now_ms = NOW_MS };

    (void)state;
    memset(&scope.scope_ref, 0xab, sizeof scope.scope_ref);
    write_problem(&problem);
    assert_string_equal(member("scope_ref"), "abababab-abab-abab-abab-abababababab");
    assert_string_equal(member("feature"), "render");
    assert_string_equal(member("seats"), "3");
    assert_string_equal(member("used"), "2");
    assert_string_equal(member("free_here"), "0");
    assert_string_equal(member("at_peer"), "1");
    assert_string_equal(member("pending"), "4");
    assert_string_equal(member("waiting"), "1");
    assert_string_equal(member("next_expected"), "2025-11-21T08:50:13.124Z");
    assert_string_equal(member("retry_after"), "5"); /* rounded up: not before the seat is back */
    scope.next_back_ms = NOW_MS - 1;
    assert_int_equal(problem_retry_seconds(&problem), 1);
    scope.next_back_ms = NOW_MS + 86400000;
    assert_int_equal(problem_retry_seconds(&problem), RETRY_SECONDS_MAX);
    scope.next_back_ms = 0;
    assert_int_equal(problem_retry_seconds(&problem), RETRY_DENIAL_SECONDS);
    write_problem(&problem);
    assert_null(member("next_expected"));
    problem.err = ERR_COUNT_OVER_SEATS; /* waiting does not help */
    assert_int_equal(problem_retry_seconds(&problem), 0);
}

/* ---- timers ---- */

static unsigned fired;
static struct timer_queue queue;

static void count(struct timer *timer)
{
    assert_false(timer_running(timer));
    fired++;
}

static void start_again(struct timer *timer)
{
    fired++;
    timer_start(&queue, timer, (struct boot){ 200 }, count);
}

static void timers(void **state)
{
    struct timer a = { 0 }, b = { 0 }, c = { 0 };

    (void)state;
    fired = 0;
    timer_queue_init(&queue, 100);
    assert_int_equal(timer_queue_wait(&queue, (struct boot){ 0 }, 5000), 5000);
    timer_start(&queue, &a, (struct boot){ 0 }, count);
    timer_start(&queue, &b, (struct boot){ 50 }, count);
    timer_start(&queue, &c, (struct boot){ 60 }, start_again);
    assert_int_equal(timer_queue_wait(&queue, (struct boot){ 30 }, 5000), 70);
    assert_int_equal(timer_queue_wait(&queue, (struct boot){ 30 }, 5), 5);
    assert_int_equal(timer_queue_wait(&queue, (struct boot){ 300 }, 5), 0);
    timer_queue_run(&queue, (struct boot){ 99 });
    assert_int_equal(fired, 0);
    timer_queue_run(&queue, (struct boot){ 100 });
    assert_int_equal(fired, 1);
    assert_false(timer_running(&a));
    timer_stop(&a);
    timer_stop(&b);
    timer_queue_run(&queue, (struct boot){ 160 });
    assert_int_equal(fired, 2);
    assert_true(timer_running(&c));
    timer_queue_run(&queue, (struct boot){ 300 });
    assert_int_equal(fired, 3);
    assert_int_equal(timer_queue_wait(&queue, (struct boot){ 300 }, 7), 7);
}

static int forget(void **state)
{
    (void)state;
    json_object_put(document);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain),       cmocka_unit_test(without_detail_with_other_status),
        cmocka_unit_test(every_error), cmocka_unit_test(hostile_detail),
        cmocka_unit_test(denial),      cmocka_unit_test(timers),
    };
    return cmocka_run_group_tests(tests, NULL, forget);
}
