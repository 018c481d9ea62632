/* What `twinlease run` decides: what becomes of a program whose lease is lost, which signals it is
 * told of, and what a program is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "notice.h"
#include "program.h"
#include "signals.h"
#include "watch.h"

/* ---- loss ------------------------------------------------------------------------------------ */

static struct boot at(int64_t ms)
{
    return (struct boot){ 1000000 + ms };
}

static struct watch fresh(enum on_loss on_loss, int64_t kill_after_ms)
{
    struct watch watch;

    watch_init(&watch, on_loss, kill_after_ms);
    assert_int_equal(watch_wait_ms(&watch, at(0)), -1);
    assert_int_equal(watch_tick(&watch, at(1 << 30)), WATCH_NOTHING);
    return watch;
}

static void names_of_losses(void **state)
{
    enum on_loss on_loss = ON_LOSS_TERM;

    (void)state;
    assert_true(on_loss_parse("warn", &on_loss) && on_loss == ON_LOSS_WARN);
    assert_true(on_loss_parse("kill", &on_loss) && on_loss == ON_LOSS_KILL);
    assert_true(on_loss_parse("term", &on_loss) && on_loss == ON_LOSS_TERM);
    assert_false(on_loss_parse("", &on_loss) || on_loss_parse("TERM", &on_loss) ||
                 on_loss_parse("terminate", &on_loss));
    assert_int_equal(on_loss, ON_LOSS_TERM);
    assert_int_equal(on_loss_signal(ON_LOSS_WARN), 0);
    assert_int_equal(on_loss_signal(ON_LOSS_TERM), SIGTERM);
    assert_int_equal(on_loss_signal(ON_LOSS_KILL), SIGKILL);
}

static void term_then_kill(void **state)
{
    struct watch watch = fresh(ON_LOSS_TERM, 700);

    (void)state;
    assert_int_equal(watch_lost(&watch, at(0), false), WATCH_NOTHING);
    assert_int_equal(watch_wait_ms(&watch, at(0)), WATCH_REPLACE_MS);
    assert_int_equal(watch_tick(&watch, at(WATCH_REPLACE_MS - 1)), WATCH_NOTHING);
    assert_false(watch_has_ended(&watch));
    assert_int_equal(watch_tick(&watch, at(WATCH_REPLACE_MS)), WATCH_TERM);
    assert_true(watch_has_ended(&watch));
    assert_int_equal(watch_wait_ms(&watch, at(WATCH_REPLACE_MS)), 700);
    assert_int_equal(watch_acquired(&watch), WATCH_NOTHING); /* too late */
    assert_int_equal(watch_tick(&watch, at(WATCH_REPLACE_MS + 699)), WATCH_NOTHING);
    assert_int_equal(watch_tick(&watch, at(WATCH_REPLACE_MS + 700)), WATCH_KILL);
    assert_int_equal(watch_wait_ms(&watch, at(WATCH_REPLACE_MS + 700)), -1);
    assert_int_equal(watch_tick(&watch, at(1 << 30)), WATCH_NOTHING);
    assert_int_equal(watch_lost(&watch, at(1 << 30), true), WATCH_NOTHING);
    assert_true(watch_has_ended(&watch));
}

static void kill_at_once_after_term(void **state)
{
    struct watch watch = fresh(ON_LOSS_TERM, 0);

    (void)state;
    assert_int_equal(watch_lost(&watch, at(5), true), WATCH_TERM);
    assert_int_equal(watch_wait_ms(&watch, at(5)), 0);
    assert_int_equal(watch_tick(&watch, at(5)), WATCH_KILL);
}

static void replaced_in_time(void **state)
{
    struct watch watch = fresh(ON_LOSS_KILL, 0);

    (void)state;
    assert_int_equal(watch_acquired(&watch), WATCH_NOTHING); /* it has one */
    for (int64_t ms = 0; ms < 3; ms++) {
        assert_int_equal(watch_lost(&watch, at(ms), false), WATCH_NOTHING);
        assert_int_equal(watch_acquired(&watch), WATCH_RESUME);
        assert_int_equal(watch_wait_ms(&watch, at(ms)), -1);
    }
    assert_int_equal(watch_tick(&watch, at(1 << 30)), WATCH_NOTHING);
    assert_int_equal(watch_lost(&watch, at(0), false), WATCH_NOTHING);
    assert_int_equal(watch_tick(&watch, at(WATCH_REPLACE_MS + 12345)), WATCH_KILL); /* suspended */
    assert_true(watch_has_ended(&watch));
}

static void ended_from_outside(void **state)
{
    struct watch watch = fresh(ON_LOSS_KILL, 700);

    (void)state;
    assert_int_equal(watch_lost(&watch, at(0), true), WATCH_KILL);
    watch = fresh(ON_LOSS_TERM, 700); /* while another one was hoped for */
    assert_int_equal(watch_lost(&watch, at(0), false), WATCH_NOTHING);
    assert_int_equal(watch_lost(&watch, at(10), true), WATCH_TERM);
    assert_int_equal(watch_wait_ms(&watch, at(10)), 700);
}

static void a_warning_is_no_end(void **state)
{
    struct watch watch = fresh(ON_LOSS_WARN, 700);

    (void)state;
    assert_int_equal(watch_lost(&watch, at(0), true), WATCH_WARN);
    assert_int_equal(watch_wait_ms(&watch, at(0)), -1);
    assert_int_equal(watch_tick(&watch, at(1 << 30)), WATCH_NOTHING);
    assert_int_equal(watch_acquired(&watch), WATCH_RESUME);
    assert_int_equal(watch_lost(&watch, at(0), false), WATCH_NOTHING);
    assert_int_equal(watch_tick(&watch, at(WATCH_REPLACE_MS)), WATCH_WARN);
    assert_false(watch_has_ended(&watch));
}

/* ---- signals --------------------------------------------------------------------------------- */

#define PROGRAM 4711
#define NOBODY  4712

static void which_signals_are_forwarded(void **state)
{
    static const struct {
        struct signal_note note;
        bool alone, terminal, leader; /* own group; on a terminal; there, leading the session */
    } cases[] = {
        { { SIGTERM, SI_USER, NOBODY }, true, true, true },
        { { SIGTERM, SI_QUEUE, NOBODY }, true, true, true },
        { { SIGTERM, SI_USER, 0 }, true, true, true },          /* from another PID namespace */
        { { SIGTERM, SI_USER, PROGRAM }, false, false, false }, /* its own doing */
        { { SIGINT, SI_KERNEL, 0 }, true, false, false },       /* a key: it had it already */
        { { SIGWINCH, SI_KERNEL, 0 }, true, false, false },
        { { SIGTSTP, SI_KERNEL, 0 }, true, false, false },
        { { SIGTSTP, SI_USER, PROGRAM }, false, false, false }, /* an editor's :stop */
        { { SIGHUP, SI_KERNEL, 0 }, true, false, true },        /* a line that was cut */
        { { SIGHUP, SI_USER, NOBODY }, true, true, true },
        { { SIGCHLD, SI_USER, NOBODY }, false, false, false },
        { { SIGCHLD, CLD_EXITED, PROGRAM }, false, false, false },
    };
    const struct signal_place alone = { PROGRAM, true, true }, terminal = { PROGRAM, false, false },
                              leader = { PROGRAM, false, true };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        if (signal_is_forwarded(&cases[i].note, &alone) != cases[i].alone ||
            signal_is_forwarded(&cases[i].note, &terminal) != cases[i].terminal ||
            signal_is_forwarded(&cases[i].note, &leader) != cases[i].leader)
            fail_msg("case %zu", i);
    }
}

/* ---- programs -------------------------------------------------------------------------------- */

static void touch(const char *path, mode_t mode)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static int enter_folder(void **state)
{
    char *folder = strdup("/tmp/twinlease-test.XXXXXX");

    assert_non_null(mkdtemp(folder));
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(mkdir("a", 0755) | mkdir("b", 0755) | mkdir("b/folder", 0755), 0);
    touch("a/both", 0644);
    touch("b/both", 0755);
    touch("a/plain", 0644);
    touch("here", 0755);
    *state = folder;
    return 0;
}

static int leave_folder(void **state)
{
    static const char *const names[] = {
        "a/both", "b/both", "a/plain", "here", "b/folder", "a", "b"
    };

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        assert_int_equal(remove(names[i]), 0);
    assert_int_equal(chdir("/") | rmdir(*state), 0);
    free(*state);
    return 0;
}

static void programs_are_found_as_execvp_does(void **state)
{
    static const struct {
        const char *name, *search;
        enum program_code code;
    } cases[] = {
        { "both", "a:b", PROGRAM_FOUND }, /* what may not be executed is passed over */
        { "both", "b", PROGRAM_FOUND },
        { "both", "a", PROGRAM_UNUSABLE },
        { "plain", "none:a:b", PROGRAM_UNUSABLE },
        { "folder", "a:b", PROGRAM_UNUSABLE },
        { "here", "a:b", PROGRAM_ABSENT },
        { "here", "a::b", PROGRAM_FOUND }, /* nothing is the current folder */
        { "here", ":a", PROGRAM_FOUND },
        { "here", "a:", PROGRAM_FOUND },
        { "here", "", PROGRAM_FOUND },
        { "", "a:b:", PROGRAM_ABSENT },
        { "sh", NULL, PROGRAM_FOUND },
        { "./here", "a", PROGRAM_FOUND },
        { "b/both", "", PROGRAM_FOUND },
        { "a/both", "b", PROGRAM_UNUSABLE },
        { "./b", "", PROGRAM_UNUSABLE },
        { "./none", "", PROGRAM_ABSENT },
        { "here/none", "", PROGRAM_ABSENT },
        { "/dev/null", "", PROGRAM_UNUSABLE },
    };
    struct twinlease_error error;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        enum program_code code = program_find(cases[i].name, cases[i].search, &error);
        if (code != cases[i].code)
            fail_msg("case %zu (%s): %d", i, cases[i].name, (int)code);
        if (code != PROGRAM_FOUND)
            assert_true(error.code == TWINLEASE_BAD_FILE && *error.message);
    }
}

static void failures_of_exec_are_explained(void **state)
{
    struct twinlease_error error;

    (void)state;
    assert_int_equal(program_refuse("./here", ENOENT, &error), PROGRAM_ABSENT);
    assert_non_null(strstr(error.message, "interpreter"));
    assert_int_equal(program_refuse("./none", ENOENT, &error), PROGRAM_ABSENT);
    assert_null(strstr(error.message, "interpreter"));
    assert_int_equal(program_refuse("./here", EACCES, &error), PROGRAM_UNUSABLE);
    assert_non_null(strstr(error.message, "chmod +x"));
    assert_int_equal(program_refuse("./here", E2BIG, &error), PROGRAM_UNUSABLE);
    assert_non_null(strstr(error.message, "rgument list too long"));
}

/* ---- notices --------------------------------------------------------------------------------- */

static void put(struct notices *notices, enum twinlease_event event, int64_t next_try_ms)
{
    struct twinlease_error error = { .code = TWINLEASE_NO_NODE, .message = "away" };
    const struct twinlease_change change = {
        .size = sizeof change,
        .event = event,
        .error = event == TWINLEASE_EVENT_DENIED ? &error : NULL,
        .next_try_ms = next_try_ms,
    };

    notices_put(notices, &change);
}

static void the_newest_notice_is_never_lost(void **state)
{
    struct notices notices;
    struct notice notice;

    (void)state;
    assert_true(notices_init(&notices));
    assert_false(notices_take(&notices, &notice));
    for (int64_t i = 0; i < NOTICES_MAX; i++)
        put(&notices, TWINLEASE_EVENT_RENEWED, i);
    for (int64_t i = 0; i < NOTICES_MAX; i++) {
        assert_true(notices_take(&notices, &notice));
        assert_int_equal(notice.next_try_ms, i);
    }
    assert_false(notices_take(&notices, &notice));
    for (int64_t i = 0; i <= NOTICES_MAX; i++)
        put(&notices, TWINLEASE_EVENT_RENEWED, i);
    put(&notices, TWINLEASE_EVENT_DENIED, 999);
    for (int64_t i = 0; i < NOTICES_MAX - 1; i++)
        assert_true(notices_take(&notices, &notice) && notice.next_try_ms == i);
    assert_true(notices_take(&notices, &notice));
    assert_int_equal(notice.event, TWINLEASE_EVENT_DENIED);
    assert_int_equal(notice.error.code, TWINLEASE_NO_NODE);
    assert_string_equal(notice.error.message, "away");
    assert_false(notices_take(&notices, &notice));
    notices_fini(&notices);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_losses),
        cmocka_unit_test(term_then_kill),
        cmocka_unit_test(kill_at_once_after_term),
        cmocka_unit_test(replaced_in_time),
        cmocka_unit_test(ended_from_outside),
        cmocka_unit_test(a_warning_is_no_end),
        cmocka_unit_test(which_signals_are_forwarded),
        cmocka_unit_test_setup_teardown(programs_are_found_as_execvp_does, enter_folder,
                                        leave_folder),
        cmocka_unit_test_setup_teardown(failures_of_exec_are_explained, enter_folder, leave_folder),
        cmocka_unit_test(the_newest_notice_is_never_lost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
