/* The state folder: what is written is found again, by whoever may have it, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "state.h"

struct world {
    char folder[64];
    struct state_options options;
    int warnings;
    char warning[512];
};

static struct twinlease_error error;

static void note_warning(void *context, const char *sentence)
{
    struct world *w = context;

    w->warnings++;
    snprintf(w->warning, sizeof w->warning, "%s", sentence);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);

    snprintf(w->folder, sizeof w->folder, "/tmp/twinlease-test.XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    w->options = (struct state_options){ .folder = w->folder,
                                         .thumbprint = "thumb",
                                         .jwks = "{\"keys\":[]}",
                                         .warning = note_warning,
                                         .warning_context = w };
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    int status;
    pid_t child = fork();

    if (child == 0) {
        execlp("rm", "rm", "-rf", w->folder, (char *)NULL);
        _exit(127);
    }
    waitpid(child, &status, 0);
    free(w);
    return status;
}

static struct state *open_state(struct world *w)
{
    struct state *s = NULL;

    assert_int_equal(state_open(&w->options, &s, &error), TWINLEASE_OK);
    return s;
}

static struct twinlease_lease *make_lease(uint8_t number, bool granted)
{
    struct twinlease_lease *lease = lease_new();
    struct lease_facts facts = { .lease_ref = { { number } },
                                 .origin_ref = { { 2 } },
                                 .scope_ref = { { 3 } },
                                 .home = { { 4 } },
                                 .feature = "render",
                                 .count = 5,
                                 .created_ms = wall_now().ms,
                                 .expires_ms = wall_now().ms + 60000,
                                 .lasts_ms = 60000,
                                 .renew_ms = 9000 };

    lease->lease_ref = facts.lease_ref;
    lease->count = 5;
    lease->duration_seconds = 60;
    lease->drawn_ms = wall_now().ms;
    memcpy(lease->feature, "render", 7);
    if (granted) {
        facts.token = strdup("a.lease.token");
        facts.entitlement = strdup("an.entitlement");
        lease_grant(lease, &facts, boot_now());
    }
    return lease;
}

static void store(struct state *s, uint8_t number, bool granted)
{
    struct twinlease_lease *lease = make_lease(number, granted);

    assert_int_equal(state_lease_store(s, lease, &error), TWINLEASE_OK);
    twinlease_lease_free(lease);
}

static size_t count_leases(struct state *s)
{
    size_t count;
    struct twinlease_lease **all = state_leases(s, &count);

    for (size_t i = 0; i < count; i++)
        twinlease_lease_free(all[i]);
    free(all);
    return count;
}

static void file_of(const struct world *w, const char *name, char out[256])
{
    snprintf(out, 256, "%s/thumb/%s", w->folder, name);
}

static mode_t mode_of(const char *path)
{
    struct stat info;

    assert_int_equal(stat(path, &info), 0);
    return info.st_mode & 07777;
}

#define LEASE_1 "01000000-0000-0000-0000-000000000000.lease"

/* ---- tests ----------------------------------------------------------------------------------- */

static void a_lease_is_found_as_it_was(void **state)
{
    struct world *w = *state;
    struct state *s = open_state(w);
    struct uuid lease_ref = { { 1 } };
    char path[256];

    store(s, 1, true);
    state_unref(s);
    file_of(w, "", path);
    assert_int_equal(mode_of(path), 0700);
    file_of(w, LEASE_1, path);
    assert_int_equal(mode_of(path), 0600);
    s = open_state(w);
    struct twinlease_lease *lease = state_take(s, &lease_ref);
    assert_non_null(lease);
    assert_string_equal(twinlease_lease_ref(lease), "01000000-0000-0000-0000-000000000000");
    assert_string_equal(twinlease_lease_feature(lease), "render");
    assert_string_equal(twinlease_lease_token(lease), "a.lease.token");
    assert_string_equal(twinlease_lease_entitlement(lease), "an.entitlement");
    assert_int_equal(twinlease_lease_count(lease), 5);
    assert_int_equal(lease->duration_seconds, 60);
    assert_in_range(twinlease_lease_expires_in_ms(lease), 50000, 60000);
    assert_in_range(twinlease_lease_renew_in_ms(lease), 1, 9000);
    twinlease_lease_free(lease);
    state_lease_remove(s, &lease_ref);
    assert_null(state_take(s, &lease_ref));
    assert_int_equal(count_leases(s), 0);
    state_unref(s);
    assert_int_equal(w->warnings, 0);
}

/* After a reboot the boot clock says nothing: the wall clock is asked, but it cannot make a lease
 * longer than it was. */
static void after_a_reboot_spans_are_guessed(void **state)
{
    struct world *w = *state;
    struct twinlease_lease *lease = make_lease(1, true), *read = NULL;
    struct buf text;

    (void)w;
    memcpy(lease->boot_id, "another-boot", 13);
    lease->ends.ms = boot_now().ms + 1000000000;
    buf_init(&text, 65536);
    lease_write(lease, "{}", &text);
    assert_int_equal(lease_read(buf_text(&text), text.length, &read, NULL), ERR_OK);
    assert_in_range(twinlease_lease_expires_in_ms(read), 50000, 60000);
    assert_int_equal(twinlease_lease_renew_in_ms(read), 0);
    twinlease_lease_free(read);
    lease->created_ms += 86400000; /* the wall clock is behind by a day */
    lease->expires_ms += 86400000;
    buf_clear(&text);
    lease_write(lease, "{}", &text);
    assert_int_equal(lease_read(buf_text(&text), text.length, &read, NULL), ERR_OK);
    assert_in_range(twinlease_lease_expires_in_ms(read), 50000, 60000);
    twinlease_lease_free(read);
    twinlease_lease_free(lease);
    buf_fini(&text);
}

static void claims_exclude_each_other(void **state)
{
    struct world *w = *state;
    struct state *one = open_state(w), *two = open_state(w);
    struct uuid lease_ref = { { 1 } };

    store(one, 1, true);
    struct twinlease_lease *lease = state_take(one, &lease_ref);
    assert_non_null(lease);
    assert_null(state_take(one, &lease_ref));
    assert_null(state_take(two, &lease_ref));
    twinlease_lease_free(lease);
    lease = state_take(two, &lease_ref);
    assert_non_null(lease);
    assert_null(state_take(one, &lease_ref));
    state_unref(one);
    state_unref(two); /* the lease keeps it alive */
    twinlease_lease_free(lease);
    char path[256];
    file_of(w, "01000000-0000-0000-0000-000000000000.claim", path);
    assert_int_not_equal(access(path, F_OK), 0); /* nothing is left lying about */
}

static void origin_of_whoever_was_first(void **state)
{
    struct world *w = *state;
    struct state *one = open_state(w), *two = open_state(w);
    struct origin mine = { { { 1 } }, "secret-1" }, theirs = { { { 2 } }, "secret-2" };
    struct origin newer = { { { 3 } }, "secret \"3\"" }, found;

    assert_false(state_origin(one, &found));
    assert_int_equal(state_origin_store(one, NULL, &mine, &error), TWINLEASE_OK);
    assert_int_equal(state_origin_store(two, NULL, &theirs, &error), TWINLEASE_OK);
    assert_string_equal(theirs.secret, "secret-1");
    assert_true(uuid_equal(&mine.origin_ref, &theirs.origin_ref));
    /* replaced only by whoever saw the one that is there */
    assert_int_equal(state_origin_store(two, &mine, &newer, &error), TWINLEASE_OK);
    assert_true(state_origin(one, &found));
    assert_string_equal(found.secret, "secret \"3\"");
    struct origin late = { { { 4 } }, "secret-4" };
    assert_int_equal(state_origin_store(one, &mine, &late, &error), TWINLEASE_OK);
    assert_string_equal(late.secret, "secret \"3\"");
    state_unref(one);
    state_unref(two);
    assert_int_equal(w->warnings, 0);
}

static void broken_files_are_moved_aside(void **state)
{
    static const char *const texts[] = {
        "", "{", "[]", "{\"format\":1}", "{\"format\":2}", "\xff\xfe", "null"
    };
    struct world *w = *state;
    struct origin origin;
    char path[256], aside[300];

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct state *s = open_state(w);
        file_of(w, "origin.json", path);
        assert_int_equal(file_write(path, texts[i], strlen(texts[i]), 0600, true, NULL), ERR_OK);
        assert_false(state_origin(s, &origin));
        assert_int_not_equal(access(path, F_OK), 0);
        snprintf(aside, sizeof aside, "%s.broken", path);
        assert_int_equal(access(aside, F_OK), 0);
        assert_non_null(strstr(w->warning, aside));
        file_of(w, LEASE_1, path);
        assert_int_equal(file_write(path, texts[i], strlen(texts[i]), 0600, true, NULL), ERR_OK);
        assert_int_equal(count_leases(s), 0);
        assert_int_not_equal(access(path, F_OK), 0);
        assert_non_null(strstr(w->warning, LEASE_1));
        state_unref(s);
    }
}

static void what_is_no_lease_file_is_left_alone(void **state)
{
    static const char *const names[] = { "notes.lease", "x", LEASE_1 ".bak", "nope.claim" };
    struct world *w = *state;
    struct state *s = open_state(w);
    char path[256];

    for (size_t i = 0; i < 4; i++) {
        file_of(w, names[i], path);
        assert_int_equal(file_write(path, "?", 1, 0600, true, NULL), ERR_OK);
    }
    assert_int_equal(count_leases(s), 0);
    for (size_t i = 0; i < 4; i++) {
        file_of(w, names[i], path);
        assert_int_equal(access(path, F_OK), 0);
    }
    assert_int_equal(w->warnings, 0);
    state_unref(s);
}

static void folder_of_another_instance_is_another_folder(void **state)
{
    struct world *w = *state;
    struct state *s = open_state(w);

    store(s, 1, true);
    state_unref(s);
    w->options.thumbprint = "other";
    s = open_state(w);
    assert_int_equal(count_leases(s), 0);
    state_unref(s);
}

static void stale_records_go_away(void **state)
{
    struct world *w = *state;
    struct state *s = open_state(w);
    struct twinlease_lease *lease = make_lease(1, true);
    char path[256];

    lease->created_ms -= INT64_C(8) * 86400000;
    lease->expires_ms -= INT64_C(8) * 86400000;
    lease_end(lease);
    assert_int_equal(state_lease_store(s, lease, &error), TWINLEASE_OK);
    twinlease_lease_free(lease);
    store(s, 2, false);
    assert_int_equal(count_leases(s), 1);
    file_of(w, LEASE_1, path);
    assert_int_not_equal(access(path, F_OK), 0);
    state_unref(s);
}

static void memory_does_where_no_disk_is(void **state)
{
    static const char *const folders[] = { "", "/dev/null/x", "/proc/nothing" };
    struct world *w = *state;

    for (size_t i = 0; i < 3; i++) {
        struct origin origin = { { { 1 } }, "secret" }, found;
        struct uuid lease_ref = { { 1 } };
        w->options.folder = folders[i];
        w->warnings = 0;
        struct state *s = open_state(w);
        assert_int_equal(w->warnings, *folders[i] ? 1 : 0);
        assert_int_equal(state_origin_store(s, NULL, &origin, &error), TWINLEASE_OK);
        assert_true(state_origin(s, &found));
        assert_string_equal(found.secret, "secret");
        store(s, 1, false);
        store(s, 1, true); /* the newer one counts */
        assert_int_equal(count_leases(s), 1);
        struct twinlease_lease *lease = state_take(s, &lease_ref);
        assert_true(lease->granted);
        assert_null(state_take(s, &lease_ref));
        twinlease_lease_free(lease);
        state_lease_remove(s, &lease_ref);
        assert_int_equal(count_leases(s), 0);
        state_unref(s);
    }
}

/* What a child without rights to the folder sees; the number of the first thing that is wrong. */
static int use_read_only(struct world *w)
{
    struct uuid lease_ref = { { 1 } };
    struct state *s = NULL;

    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
        return 1;
    if (state_open(&w->options, &s, &error) != TWINLEASE_OK || count_leases(s) != 1)
        return 2;
    struct twinlease_lease *lease = state_take(s, &lease_ref);
    if (!lease || state_take(s, &lease_ref))
        return 3;
    lease->duration_seconds = 77; /* newer than what is on the disk */
    if (state_lease_store(s, lease, &error) != TWINLEASE_OK || w->warnings != 1)
        return 4;
    twinlease_lease_free(lease);
    lease = state_take(s, &lease_ref);
    if (!lease || lease->duration_seconds != 77)
        return 5;
    twinlease_lease_free(lease);
    state_lease_remove(s, &lease_ref);
    state_lease_remove(s, &lease_ref);
    if (w->warnings != 2 || count_leases(s) != 0 || state_take(s, &lease_ref))
        return 6;
    state_unref(s);
    return 0;
}

static void read_only_folder(void **state)
{
    struct world *w = *state;
    struct state *s = open_state(w);
    char path[256];
    int status;

    store(s, 1, true);
    state_unref(s);
    assert_int_equal(chmod(w->folder, 0755), 0);
    file_of(w, LEASE_1, path);
    assert_int_equal(chmod(path, 0444), 0);
    file_of(w, "", path);
    assert_int_equal(chmod(path, 0555), 0);
    pid_t child = fork();
    if (child == 0)
        _exit(use_read_only(w));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(chmod(path, 0700), 0);
}

static void required_means_required(void **state)
{
    struct world *w = *state;
    struct state *s = NULL;

    w->options.required = true;
    w->options.folder = "/dev/null/x";
    assert_int_equal(state_open(&w->options, &s, &error), TWINLEASE_STATE);
    assert_non_null(strstr(error.message, "/dev/null/x"));
    w->options.folder = w->folder;
    s = open_state(w);
    char path[256];
    file_of(w, LEASE_1, path);
    assert_int_equal(mkdir(path, 0700), 0); /* a rename onto it fails */
    struct twinlease_lease *lease = make_lease(1, true);
    assert_int_equal(state_lease_store(s, lease, &error), TWINLEASE_STATE);
    twinlease_lease_free(lease);
    state_unref(s);
    assert_int_equal(w->warnings, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_lease_is_found_as_it_was),
        TEST(after_a_reboot_spans_are_guessed),
        TEST(claims_exclude_each_other),
        TEST(origin_of_whoever_was_first),
        TEST(broken_files_are_moved_aside),
        TEST(what_is_no_lease_file_is_left_alone),
        TEST(folder_of_another_instance_is_another_folder),
        TEST(stale_records_go_away),
        TEST(memory_does_where_no_disk_is),
        TEST(read_only_folder),
        TEST(required_means_required),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
