#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/entitlement.h"
#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/random.h"
#include "base/utf8.h"
#include "base/uuid.h"

/* ---- uuid -------------------------------------------------------------------------------------
 */

static bool parses(const char *text)
{
    struct uuid uuid;
    return uuid_parse(text, strlen(text), &uuid);
}

static void uuid_text_round_trip(void **state)
{
    (void)state;
    struct uuid uuid;
    char text[UUID_TEXT_SIZE];

    assert_true(uuid_parse("00112233-4455-6677-8899-AABBCCDDEEFF", 36, &uuid));
    for (size_t i = 0; i < 16; i++)
        assert_int_equal(uuid.bytes[i], i * 0x11);
    uuid_format(&uuid, text);
    assert_string_equal(text, "00112233-4455-6677-8899-aabbccddeeff");
}

static void uuid_refuses_other_forms(void **state)
{
    (void)state;
    assert_true(parses("ffffffff-ffff-ffff-ffff-ffffffffffff"));
    assert_false(parses(""));
    assert_false(parses("00000000-0000-0000-0000-000000000000"));
    assert_false(parses("00112233445566778899aabbccddeeff"));
    assert_false(parses("{0112233-4455-6677-8899-aabbccddeeff"));
    assert_false(parses("00112233-4455-6677-8899-aabbccddeeff "));
    assert_false(parses("00112233-4455-6677-8899-aabbccddeef"));
    assert_false(parses("00112233-4455-6677-8899-aabbccddeefg"));
    assert_false(parses("00112233+4455-6677-8899-aabbccddeeff"));
    assert_false(parses("0011223-34455-6677-8899-aabbccddeeff"));
}

static void uuid_failure_leaves_output(void **state)
{
    (void)state;
    struct uuid uuid = { { 7 } };

    assert_false(uuid_parse("zz112233-4455-6677-8899-aabbccddeeff", 36, &uuid));
    assert_int_equal(uuid.bytes[0], 7);
}

static void uuid_random_is_version_4(void **state)
{
    (void)state;
    struct uuid a = uuid_random(), b = uuid_random();

    assert_int_equal(a.bytes[6] >> 4, 4);
    assert_int_equal(a.bytes[8] >> 6, 2);
    assert_false(uuid_equal(&a, &b));
    assert_true((uuid_compare(&a, &b) < 0) == (uuid_compare(&b, &a) > 0));
}

/* ---- clock ------------------------------------------------------------------------------------
 */

static void check_rfc3339(int64_t ms, const char *expected)
{
    char text[RFC3339_SIZE];
    rfc3339_format(ms, text);
    assert_string_equal(text, expected);
}

static void rfc3339_known_instants(void **state)
{
    (void)state;
    check_rfc3339(0, "1970-01-01T00:00:00.000Z");
    check_rfc3339(951782400000, "2000-02-29T00:00:00.000Z");
    check_rfc3339(951868799999, "2000-02-29T23:59:59.999Z");
    check_rfc3339(951868800000, "2000-03-01T00:00:00.000Z");
    check_rfc3339(4107542400000, "2100-03-01T00:00:00.000Z"); /* 2100 has no 29 February */
    check_rfc3339(4107542399999, "2100-02-28T23:59:59.999Z");
    check_rfc3339(1582934400123, "2020-02-29T00:00:00.123Z");
    check_rfc3339(1767225599999, "2025-12-31T23:59:59.999Z");
}

static void rfc3339_before_1970(void **state)
{
    (void)state;
    check_rfc3339(-1, "1969-12-31T23:59:59.999Z");
    check_rfc3339(-86400000, "1969-12-31T00:00:00.000Z");
    check_rfc3339(-86400001, "1969-12-30T23:59:59.999Z");
    check_rfc3339(-2203891200000, "1900-03-01T00:00:00.000Z"); /* nor had 1900 */
    check_rfc3339(-2203891200001, "1900-02-28T23:59:59.999Z");
}

static void rfc3339_clamps(void **state)
{
    (void)state;
    check_rfc3339(INT64_MAX, "9999-12-31T23:59:59.999Z");
    check_rfc3339(253402300800000, "9999-12-31T23:59:59.999Z");
    check_rfc3339(INT64_MIN, "0000-01-01T00:00:00.000Z");
    check_rfc3339(-62167219200001, "0000-01-01T00:00:00.000Z");
}

static void clocks_advance(void **state)
{
    (void)state;
    int64_t boot = boot_now().ms;

    assert_true(wall_now().ms > 1700000000000);
    assert_true(boot > 0 && boot_now().ms >= boot);
}

/* ---- buf --------------------------------------------------------------------------------------
 */

static void buf_stops_at_its_ceiling(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf buf;

    buf_init(&buf, 5);
    assert_string_equal(buf_text(&buf), "");
    buf_text_append(&buf, "abcde");
    assert_true(buf_ok(&buf));
    assert_string_equal(buf_text(&buf), "abcde");
    buf_append(&buf, "f", 1);
    assert_false(buf_ok(&buf));
    assert_int_equal(buf.length, 5);
    buf_append(&buf, "", 0); /* once failed, it stays failed */
    assert_false(buf_ok(&buf));
    buf_clear(&buf);
    buf_format(&buf, "%d-%s", 12, "ab");
    assert_true(buf_ok(&buf));
    assert_string_equal(buf_text(&buf), "12-ab");
    buf_format(&buf, "%s", "x");
    assert_false(buf_ok(&buf));
    assert_string_equal(buf_text(&buf), "12-ab");
}

static void buf_keeps_nul_bytes(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf buf;

    buf_init(&buf, 100);
    buf_append(&buf, "a\0b", 3);
    buf_be16(&buf, 0x0102);
    buf_be32(&buf, 0x03040506);
    buf_be64(&buf, 0x0708090a0b0c0d0e);
    assert_int_equal(buf.length, 17);
    assert_memory_equal(buf.bytes, "a\0b\1\2\3\4\5\6\7\10\11\12\13\14\15\16", 18);
}

static void buf_take_hands_over(void **state)
{
    (void)state;
    struct buf buf;

    buf_init(&buf, 100);
    AUTO(mem_free) char *empty = buf_take(&buf);
    assert_string_equal(empty, "");
    buf_text_append(&buf, "text");
    AUTO(mem_free) char *text = buf_take(&buf);
    assert_string_equal(text, "text");
    assert_int_equal(buf.length, 0);
    buf_text_append(&buf, "again");
    assert_string_equal(buf_text(&buf), "again");
    buf_fini_secret(&buf);
    assert_null(buf.bytes);
}

static void buf_grows(void **state)
{
    (void)state;
    AUTO(buf_fini) struct buf buf;

    buf_init(&buf, 100000);
    for (int i = 0; i < 20000; i++)
        buf_format(&buf, "%05d", i);
    assert_true(buf_ok(&buf));
    assert_int_equal(buf.length, 100000);
    assert_memory_equal(buf.bytes + 99995, "19999", 6);
    buf_append(&buf, "x", 1);
    assert_false(buf_ok(&buf));
}

/* ---- err --------------------------------------------------------------------------------------
 */

static void errors_are_complete(void **state)
{
    (void)state;
    for (enum err e = ERR_OK; e < ERR_COUNT; e++) {
        const struct err_info *info = err_info(e);
        assert_true(info->http >= 200 && info->http < 600);
        assert_int_equal(strspn(info->code, "abcdefghijklmnopqrstuvwxyz_"), strlen(info->code));
        assert_true(info->title[0] >= 'A' && info->title[0] <= 'Z');
        for (enum err other = ERR_OK; other < e; other++)
            assert_string_not_equal(err_info(other)->code, info->code);
    }
}

static void diag_is_safe_to_print(void **state)
{
    (void)state;
    struct diag diag;

    assert_int_equal(diag_set(NULL, ERR_FILE, "%s", "x"), ERR_FILE);
    assert_int_equal(diag_set(&diag, ERR_FILE, "a%sb", "\n\x1b[31m\x7f"), ERR_FILE);
    assert_string_equal(diag.text, "a  [31m b");
    AUTO(mem_free) char *text = mem_calloc(1, 1001);
    memset(text, 'x', 1000);
    diag_set(&diag, ERR_FILE, "%s", text);
    assert_int_equal(strlen(diag.text), sizeof diag.text - 1);
    diag_set(&diag, ERR_FILE, "\xc3\xa9 \xff\xc3");
    assert_string_equal(diag.text, "\xc3\xa9 ??");
    text[sizeof diag.text - 2] = '\xc3'; /* the cut goes through this character */
    text[sizeof diag.text - 1] = '\xa9';
    diag_set(&diag, ERR_FILE, "%s", text);
    assert_string_equal(diag.text + sizeof diag.text - 3, "x?");
}

/* ---- log --------------------------------------------------------------------------------------
 */

/* Standard error, for as long as it is redirected. */
struct capture {
    int saved, pipe[2];
};

static void capture_begin(struct capture *capture)
{
    fflush(stderr);
    assert_int_equal(pipe(capture->pipe), 0);
    capture->saved = dup(STDERR_FILENO);
    dup2(capture->pipe[1], STDERR_FILENO);
}

/* What was written, one line; out has 4096 bytes. */
static void capture_end(struct capture *capture, char *out)
{
    dup2(capture->saved, STDERR_FILENO);
    close(capture->saved);
    close(capture->pipe[1]);
    ssize_t size = read(capture->pipe[0], out, 4095);
    assert_true(size >= 0);
    out[size] = '\0';
    close(capture->pipe[0]);
}

static const char hostile[] = "x\"\\\n{\"level\":\"error\"}\r\x1b[0m\x7f";

static void log_json_is_one_valid_line(void **state)
{
    (void)state;
    AUTO(json_object_put) struct json_object *line = NULL;
    struct capture capture;
    struct diag diag;
    char text[4096];
    const char *value;

    capture_begin(&capture);
    log_init(LOG_FORMAT_JSON, LOG_INFO);
    log_event(LOG_DEBUG, "hidden", "not written");
    log_event_with(LOG_WARNING, "host_seen", LOG_FIELDS("host", hostile, "none", NULL, "n", "1"),
                   "saw %s", hostile);
    capture_end(&capture, text);

    size_t length = strlen(text);
    assert_ptr_equal(strchr(text, '\n'), text + length - 1);
    assert_int_equal(json_parse(text, length - 1, &line, &diag), ERR_OK);
    struct json_reader r;
    json_reader_init(&r, line, "", &diag);
    assert_true(json_read_string(&r, "host", true, 100, &value));
    assert_string_equal(value, hostile);
    assert_true(json_read_string(&r, "level", true, 100, &value));
    assert_string_equal(value, "warning");
    assert_true(json_read_string(&r, "event", true, 100, &value));
    assert_string_equal(value, "host_seen");
    assert_true(json_read_string(&r, "message", true, 100, &value));
    assert_memory_equal(value, "saw x\"", 6);
    assert_true(json_read_string(&r, "time", true, 24, &value));
    assert_true(json_read_string(&r, "n", true, 1, &value));
    assert_int_equal(json_reader_end(&r), ERR_OK); /* and no "none" */
}

static void log_text_is_one_line(void **state)
{
    (void)state;
    struct capture capture;
    char text[4096];

    capture_begin(&capture);
    log_init(LOG_FORMAT_TEXT, LOG_ERROR);
    assert_false(log_enabled(LOG_WARNING));
    log_event(LOG_WARNING, "hidden", "not written");
    log_event_with(LOG_ERROR, "bad", LOG_FIELDS("host", hostile), "message\nsecond line");
    capture_end(&capture, text);

    assert_non_null(strstr(text, " error   bad: message\\u000asecond line host=\"x\\\"\\\\"));
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
    for (const char *p = text; *p; p++)
        assert_true((unsigned char)*p >= 0x20 || *p == '\n');
}

static void log_escapes_what_is_no_text(void **state)
{
    (void)state;
    AUTO(json_object_put) struct json_object *line = NULL;
    struct capture capture;
    struct diag diag;
    char text[4096];

    capture_begin(&capture);
    log_init(LOG_FORMAT_JSON, LOG_INFO);
    log_event_with(LOG_INFO, "seen", LOG_FIELDS("path", "/\xff\xc3\x28\xed\xa0\x80\xc2"),
                   "\xc2\x9b"
                   "31m \xc2\xa0\xc3\xa9");
    capture_end(&capture, text);

    assert_int_equal(json_parse(text, strlen(text) - 1, &line, &diag), ERR_OK);
    assert_non_null(strstr(text, "\"/\\ufffd\\ufffd(\\ufffd\\ufffd\\ufffd\\ufffd\""));
    assert_non_null(strstr(text, "\"\\u009b31m \xc2\xa0\xc3\xa9\""));
}

/* Reads whole lines of JSON from the pipe until it is empty; returns how many. */
static size_t read_lines(int fd, char *last_events, size_t size)
{
    char text[1 << 17];
    ssize_t length = read(fd, text, sizeof text - 1);
    size_t count = 0;

    assert_true(length > 0);
    text[length] = '\0';
    last_events[0] = '\0';
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1, count++) {
        AUTO(json_object_put) struct json_object *object = NULL;
        struct json_object *event = NULL;
        if (line == end) /* after a line that was torn */
            continue;
        if (json_parse(line, (size_t)(end - line), &object, NULL) != ERR_OK)
            continue;
        assert_true(json_object_object_get_ex(object, "event", &event));
        snprintf(last_events + strlen(last_events), size - strlen(last_events), "%s ",
                 json_object_get_string(event));
    }
    return count;
}

/* Nobody reads: callers go on all the same, and later it is told how much is missing. */
static void log_never_waits_for_its_reader(void **state)
{
    (void)state;
    static char events[1 << 16];
    static char large[1500];
    struct capture capture;
    char out[4096];

    memset(large, 'x', sizeof large - 1);
    capture_begin(&capture);
    assert_int_equal(fcntl(capture.pipe[1], F_SETPIPE_SZ, 8192), 8192);
    log_init(LOG_FORMAT_JSON, LOG_INFO);
    for (int i = 0; i < 100; i++)
        log_event(LOG_INFO, "flood", "%s", large);
    size_t written = read_lines(capture.pipe[0], events, sizeof events);
    log_event(LOG_INFO, "after", "there is room again");
    read_lines(capture.pipe[0], events, sizeof events);
    log_event(LOG_INFO, "later", "and nothing is missing any more");
    capture_end(&capture, out);

    assert_in_range(written, 2, 6);
    assert_string_equal(events, "log_lost after ");
    assert_non_null(strstr(out, "\"event\":\"later\""));
    assert_null(strstr(out, "log_lost"));
}

/* ---- utf8 -------------------------------------------------------------------------------------
 */

static void utf8_takes_only_well_formed(void **state)
{
    (void)state;
    assert_int_equal(utf8_size("a", 1), 1);
    assert_int_equal(utf8_size("\0", 1), 1);
    assert_int_equal(utf8_size("\xc3\xa9", 2), 2);
    assert_int_equal(utf8_size("\xe2\x82\xac", 3), 3);
    assert_int_equal(utf8_size("\xed\x9f\xbf", 3), 3);     /* U+D7FF */
    assert_int_equal(utf8_size("\xee\x80\x80", 3), 3);     /* U+E000 */
    assert_int_equal(utf8_size("\xf4\x8f\xbf\xbf", 4), 4); /* U+10FFFF */
    assert_int_equal(utf8_size("", 0), 0);
    assert_int_equal(utf8_size("\x80", 1), 0);
    assert_int_equal(utf8_size("\xc3\xa9", 1), 0);
    assert_int_equal(utf8_size("\xc1\xbf", 2), 0); /* overlong */
    assert_int_equal(utf8_size("\xe0\x9f\xbf", 3), 0);
    assert_int_equal(utf8_size("\xf0\x8f\xbf\xbf", 4), 0);
    assert_int_equal(utf8_size("\xed\xa0\x80", 3), 0); /* surrogate */
    assert_int_equal(utf8_size("\xf4\x90\x80\x80", 4), 0);
    assert_int_equal(utf8_size("\xf5\x80\x80\x80", 4), 0);
    assert_int_equal(utf8_size("\xe2\x82\x41", 3), 0);
}

/* Against the definition: every code point, encoded by the rules of RFC 3629 §3. */
static void utf8_takes_every_code_point(void **state)
{
    (void)state;
    for (unsigned c = 0x80; c < 0x110000; c++) {
        char text[4];
        size_t size = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        for (size_t i = size; i-- > 1;)
            text[i] = (char)(0x80 | (c >> (6 * (size - 1 - i)) & 0x3f));
        text[0] = (char)((0xf00 >> size & 0xff) | c >> (6 * (size - 1)));
        bool surrogate = c >= 0xd800 && c <= 0xdfff;
        assert_int_equal(utf8_size(text, size), surrogate ? 0 : size);
    }
}

/* ---- file -------------------------------------------------------------------------------------
 */

static int folder_make(void **state)
{
    char path[] = "/tmp/twinlease-test-XXXXXX";
    *state = mkdtemp(path) ? mem_strdup(path) : NULL;
    return *state ? 0 : -1;
}

static int folder_remove(void **state)
{
    int result = rmdir(*state); /* fails if a temporary file was left behind */
    mem_free(*state);
    return result;
}

static void file_write_and_read(void **state)
{
    AUTO(buf_fini) struct buf text;
    struct diag diag = { "" };
    struct stat status;
    char path[128];

    snprintf(path, sizeof path, "%s/secret", (char *)*state);
    mode_t before = umask(0);
    assert_int_equal(file_write(path, "one", 3, 0600, false, &diag), ERR_OK);
    umask(before);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    assert_int_equal(file_write(path, "two", 3, 0640, false, &diag), ERR_FILE);
    assert_non_null(strstr(diag.text, path));
    before = umask(077);
    assert_int_equal(file_write(path, "three", 5, 0644, true, &diag), ERR_OK);
    umask(before);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0644);

    buf_init(&text, 5);
    assert_int_equal(file_read(path, FILE_PUBLIC, &text, &diag), ERR_OK);
    assert_string_equal(buf_text(&text), "three");
    assert_int_equal(file_read(path, FILE_PRIVATE, &text, &diag), ERR_FILE);
    assert_non_null(strstr(diag.text, "644"));
    unlink(path);
}

static void file_refusals_name_the_file(void **state)
{
    AUTO(buf_fini) struct buf text;
    struct diag diag = { "" };
    char path[128];

    snprintf(path, sizeof path, "%s/thing", (char *)*state);
    buf_init(&text, 4);
    assert_int_equal(file_read(path, FILE_PUBLIC, &text, &diag), ERR_FILE);
    assert_non_null(strstr(diag.text, path));
    assert_int_equal(file_read(*state, FILE_PUBLIC, &text, &diag), ERR_FILE); /* a folder */
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(file_read(path, FILE_PUBLIC, &text, &diag), ERR_FILE); /* does not wait */
    unlink(path);
    assert_int_equal(file_write(path, "12345", 5, 0600, false, &diag), ERR_OK);
    assert_int_equal(file_read(path, FILE_PRIVATE, &text, &diag), ERR_FILE); /* over the ceiling */
    assert_non_null(strstr(diag.text, "larger than 4"));
    unlink(path);
    snprintf(path, sizeof path, "%s/no/thing", (char *)*state);
    assert_int_equal(file_write(path, "x", 1, 0600, true, &diag), ERR_FILE);
}

/* ---- must, entitlement, random ------------------------------------------------------------------
 */

static void must_ends_the_process(void **state)
{
    (void)state;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        must(child != 0);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void entitlement_is_counted(void **state)
{
    (void)state;
    struct entitlement *e = entitlement_new(2);

    assert_int_equal(e->feature_count, 2);
    assert_int_equal(e->features[1].seats, 0);
    e->text = mem_strdup("text");
    assert_ptr_equal(entitlement_ref(e), e);
    entitlement_unref(e);
    assert_string_equal(e->text, "text");
    entitlement_unref(e); /* a leak or a double free is for AddressSanitizer to see */
    entitlement_unref(NULL);
}

static void random_fills_everything(void **state)
{
    (void)state;
    static unsigned char bytes[4096];
    size_t zeros = 0;

    random_bytes(bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++)
        zeros += bytes[i] == 0;
    assert_in_range(zeros, 0, 100); /* 16 expected; over 100 once in 10^40 runs */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uuid_text_round_trip),
        cmocka_unit_test(uuid_refuses_other_forms),
        cmocka_unit_test(uuid_failure_leaves_output),
        cmocka_unit_test(uuid_random_is_version_4),
        cmocka_unit_test(rfc3339_known_instants),
        cmocka_unit_test(rfc3339_before_1970),
        cmocka_unit_test(rfc3339_clamps),
        cmocka_unit_test(clocks_advance),
        cmocka_unit_test(buf_stops_at_its_ceiling),
        cmocka_unit_test(buf_keeps_nul_bytes),
        cmocka_unit_test(buf_take_hands_over),
        cmocka_unit_test(buf_grows),
        cmocka_unit_test(errors_are_complete),
        cmocka_unit_test(diag_is_safe_to_print),
        cmocka_unit_test(log_json_is_one_valid_line),
        cmocka_unit_test(log_text_is_one_line),
        cmocka_unit_test(log_escapes_what_is_no_text),
        cmocka_unit_test(log_never_waits_for_its_reader),
        cmocka_unit_test(utf8_takes_only_well_formed),
        cmocka_unit_test(utf8_takes_every_code_point),
        cmocka_unit_test_setup_teardown(file_write_and_read, folder_make, folder_remove),
        cmocka_unit_test_setup_teardown(file_refusals_name_the_file, folder_make, folder_remove),
        cmocka_unit_test(must_ends_the_process),
        cmocka_unit_test(entitlement_is_counted),
        cmocka_unit_test(random_fills_everything),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
