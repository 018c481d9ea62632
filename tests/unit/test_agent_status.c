/* The status file: what is written is read again, what is none is refused, and the judgement on it
 * follows the boot clock alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/status.h"
#include "base/buf.h"

#define THIS_BOOT  "11111111-2222-4333-8444-555555555555"
#define OTHER_BOOT "11111111-2222-4333-8444-666666666666"
#define LEASE      "6f1ed002-ab5e-4d2a-9c1e-0123456789ab"

static const struct agent_feature one_held = {
    .wanted = { .feature = "render", .count = 2 },
    .held = true,
    .ends = { 500000 },
    .lease_ref = LEASE,
    .next_try_ms = 1000,
};

/* A status that was written at 400 000 ms of this boot. */
static struct agent_status status_of(struct agent_feature *features, size_t count)
{
    return (struct agent_status){
        .pid = 17,
        .boot_id = THIS_BOOT,
        .instance_ref = "10000000-0000-4000-8000-000000000001",
        .written = { 400000 },
        .features = features,
        .feature_count = count,
    };
}

static enum twinlease_code judge_at(const struct agent_feature *feature, int64_t now_ms,
                                    struct twinlease_error *error)
{
    struct agent_feature copy = *feature;
    const struct agent_status status = status_of(&copy, 1);

    return agent_status_judge(&status, &copy, THIS_BOOT, (struct boot){ now_ms }, error);
}

static void test_written_and_read(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf text = { .max = STATUS_FILE_MAX };
    AUTO(agent_status_fini) struct agent_status read = { 0 };
    struct agent_feature features[] = {
        one_held,
        { .wanted = { .feature = "simulate", .count = 1 },
          .next_try_ms = -1,
          .code = TWINLEASE_NO_SEAT,
          .message = "every seat of \"simulate\" is leased" },
    };
    const struct agent_status written = status_of(features, 2);
    struct diag diag = { "" };

    agent_status_write(&written, (struct wall){ 1700000000000 }, &text);
    assert_int_equal(agent_status_parse(buf_text(&text), text.length, &read, &diag), ERR_OK);
    assert_int_equal(read.pid, 17);
    assert_string_equal(read.boot_id, THIS_BOOT);
    assert_int_equal(read.written.ms, 400000);
    assert_int_equal(read.feature_count, 2);
    assert_true(read.features[0].held);
    assert_int_equal(read.features[0].wanted.count, 2);
    assert_int_equal(read.features[0].ends.ms, 500000);
    assert_string_equal(read.features[0].lease_ref, LEASE);
    assert_int_equal(read.features[0].code, TWINLEASE_OK);
    assert_false(read.features[1].held);
    assert_int_equal(read.features[1].code, TWINLEASE_NO_SEAT);
    assert_string_equal(read.features[1].message, "every seat of \"simulate\" is leased");
}

static void test_a_lease_ends_on_the_boot_clock(void **state)
{
    (void)state;
    struct twinlease_error error;

    assert_int_equal(judge_at(&one_held, 400001, &error), TWINLEASE_OK);
    assert_int_equal(judge_at(&one_held, 499999, &error), TWINLEASE_OK);
    assert_int_equal(judge_at(&one_held, 500000, &error), TWINLEASE_LEASE_LOST);
    assert_string_equal(error.message, "render: the lease has expired");
}

/* The lease is as good as before; only the reason why there is none may be out of date. */
static void test_a_dead_agent(void **state)
{
    (void)state;
    struct agent_feature denied = one_held, lasting = one_held;
    struct twinlease_error error;

    denied.held = false;
    denied.code = TWINLEASE_NO_SEAT;
    memcpy(denied.message, "none free", sizeof "none free");
    lasting.ends.ms = 10000000;
    assert_int_equal(judge_at(&lasting, 400000 + STATUS_STALE_MS + 1, &error), TWINLEASE_OK);
    assert_int_equal(judge_at(&denied, 400000 + STATUS_STALE_MS, &error), TWINLEASE_NO_SEAT);
    assert_string_equal(error.message, "render: none free");
    assert_int_equal(judge_at(&denied, 400000 + STATUS_STALE_MS + 1, &error), TWINLEASE_BAD_FILE);
    assert_string_equal(error.message, "render: not licensed, and the agent (pid 17) has written "
                                       "nothing for 120 s: is it running?");
}

static void test_another_boot(void **state)
{
    (void)state;
    struct agent_feature held = one_held;
    const struct agent_status status = status_of(&held, 1);
    struct twinlease_error error;

    assert_int_equal(
        agent_status_judge(&status, &held, OTHER_BOOT, (struct boot){ 400001 }, &error),
        TWINLEASE_BAD_FILE);
    assert_string_equal(error.message,
                        "render: the agent has written nothing since this machine was started");
}

static void test_nothing_heard_yet(void **state)
{
    (void)state;
    struct agent_feature fresh = { .wanted = one_held.wanted };
    struct twinlease_error error;

    assert_int_equal(judge_at(&fresh, 400001, &error), TWINLEASE_NO_NODE);
    assert_string_equal(error.message, "render: no node has answered yet");
}

#define HEAD                                                                                       \
    "{\"format\":1,\"pid\":1,\"boot_id\":\"" THIS_BOOT "\",\"written_boot_ms\":1,\"later\":true,"

static void test_what_is_no_status_file(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        HEAD "\"feature_list\":{}}",
        HEAD "\"feature_list\":[1]}",
        HEAD "\"feature_list\":[{\"feature\":\"a\",\"count\":1}]}",
        /* held, and not said until when */
        HEAD
        "\"feature_list\":[{\"feature\":\"a\",\"count\":1,\"held\":true,\"lease_ref\":\"x\"}]}",
        HEAD "\"feature_list\":[{\"feature\":\"a\",\"count\":0,\"held\":false}]}",
        HEAD "\"feature_list\":[{\"feature\":\"a\",\"count\":1,\"held\":false,\"error\":{}}]}",
        "{\"format\":2,\"pid\":1,\"boot_id\":\"x\",\"written_boot_ms\":1,\"feature_list\":[]}",
    };

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        AUTO(agent_status_fini) struct agent_status status = { 0 };
        struct diag diag = { "" };
        if (agent_status_parse(bad[i], strlen(bad[i]), &status, &diag) == ERR_OK)
            fail_msg("taken: %s", bad[i]);
        assert_string_not_equal(diag.text, "");
        assert_null(status.features);
    }
}

static void test_members_of_later_agents_are_let_through(void **state)
{
    (void)state;
    static const char text[] = HEAD "\"feature_list\":[{\"feature\":\"a\",\"count\":1,\"held\":"
                                    "false,\"more\":[]}]}";
    AUTO(agent_status_fini) struct agent_status status = { 0 };
    struct diag diag = { "" };

    assert_int_equal(agent_status_parse(text, sizeof text - 1, &status, &diag), ERR_OK);
    assert_int_equal(status.feature_count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_written_and_read),
        cmocka_unit_test(test_a_lease_ends_on_the_boot_clock),
        cmocka_unit_test(test_a_dead_agent),
        cmocka_unit_test(test_another_boot),
        cmocka_unit_test(test_nothing_heard_yet),
        cmocka_unit_test(test_what_is_no_status_file),
        cmocka_unit_test(test_members_of_later_agents_are_let_through),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
