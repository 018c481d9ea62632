/* The state file (R11): what it keeps, what it survives, and what it proves. Includes the file it
 * tests, to reach the form of a slot. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "engine/state_file.c"

static const struct uuid ours = { "instance-ref-001" }, first = { "node-ref-first-1" },
                         second = { "node-ref-second2" };

/* A folder of its own for each test. */
struct place {
    char folder[40], path[64];
};

static void place_make(struct place *place)
{
    snprintf(place->folder, sizeof place->folder, "/tmp/twinlease-state.XXXXXX");
    assert_non_null(mkdtemp(place->folder));
    snprintf(place->path, sizeof place->path, "%s/node.state", place->folder);
}

static void place_drop(const struct place *place)
{
    unlink(place->path);
    assert_int_equal(rmdir(place->folder), 0);
}

static struct store_identity identity_of(const struct uuid *node_ref, uint64_t seq)
{
    return (struct store_identity){ .node_ref = *node_ref,
                                    .instance_ref = ours,
                                    .seq = seq,
                                    .system = "7419283746512345678",
                                    .timeline = 3 };
}

static struct state_file *open_at(const struct place *place, bool *found,
                                  struct state_record *record)
{
    struct state_file *file = NULL;
    struct diag diag = { "" };

    if (state_file_open(place->path, &file, found, record, &diag) != ERR_OK)
        fail_msg("%s", diag.text);
    return file;
}

static void note(struct state_file *file, const struct uuid *node_ref, uint64_t seq)
{
    struct diag diag = { "" };

    if (state_file_note(file, node_ref, seq, (int64_t)(seq / 2), &diag) != ERR_OK)
        fail_msg("%s", diag.text);
}

/* A file in which `count` updates were noted, the last one with that seq. */
static void write_file(const struct place *place, size_t count, uint64_t seq)
{
    struct store_identity identity = identity_of(&first, 0);
    struct state_record record;
    struct diag diag;
    bool found;
    struct state_file *file = open_at(place, &found, &record);

    state_file_bind(file, &identity);
    for (size_t i = count; i-- > 0;)
        note(file, &first, seq - i);
    assert_int_equal(state_file_sync(file, &diag), ERR_OK);
    state_file_close(file);
}

static bool read_back(const struct place *place, struct state_record *record)
{
    bool found;

    state_file_close(open_at(place, &found, record));
    return found;
}

static void overwrite(const struct place *place, off_t at, const void *bytes, size_t size)
{
    int fd = open(place->path, O_WRONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, size, at), size);
    close(fd);
}

static size_t newest_slot(const struct place *place)
{
    struct state_record record;
    bool found;
    struct state_file *file = open_at(place, &found, &record);
    size_t slot = file->slot;

    state_file_close(file);
    return slot;
}

/* ---- keeping --------------------------------------------------------------------------------- */

static void what_is_noted_is_found_again(void **state)
{
    (void)state;
    struct place place;
    struct state_record record = { .seq = 77 };
    struct stat status;

    place_make(&place);
    assert_false(read_back(&place, &record));
    assert_int_equal(record.seq, 77); /* untouched */
    assert_int_equal(stat(place.path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);

    for (size_t count = 1; count < 6; count++) {
        write_file(&place, count, 10 * count);
        assert_true(read_back(&place, &record));
        assert_true(uuid_equal(&record.node_ref, &first));
        assert_true(uuid_equal(&record.instance_ref, &ours));
        assert_string_equal(record.system, "7419283746512345678");
        assert_int_equal(record.timeline, 3);
        assert_int_equal(record.seq, 10 * count);
    }
    assert_int_equal(stat(place.path, &status), 0);
    assert_int_equal(status.st_size, SLOTS * SLOT_SIZE); /* it never grows */
    place_drop(&place);
}

/* Everything at its longest. */
static void every_record_fits_its_slot(void **state)
{
    (void)state;
    struct place place;
    struct store_identity identity = identity_of(&first, 0);
    struct state_record record;
    bool found;

    place_make(&place);
    struct state_file *file = open_at(&place, &found, &record);
    memset(identity.system, '9', sizeof identity.system - 1);
    identity.timeline = UINT32_MAX;
    state_file_bind(file, &identity);
    file->number = INT64_MAX - 3;
    note(file, &first, INT64_MAX);
    state_file_close(file);
    assert_true(read_back(&place, &record));
    assert_int_equal(record.seq, INT64_MAX);
    assert_int_equal(record.timeline, UINT32_MAX);
    assert_string_equal(record.system, identity.system);
    place_drop(&place);
}

static void it_can_be_read_with_other_tools(void **state)
{
    (void)state;
    struct place place;
    char bytes[SLOTS * SLOT_SIZE];
    struct json_object *object = NULL;
    struct diag diag;
    int fd;

    place_make(&place);
    write_file(&place, 3, 42);
    fd = open(place.path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(read(fd, bytes, sizeof bytes), sizeof bytes);
    close(fd);
    for (size_t i = 0; i < SLOTS; i++) {
        assert_int_equal(bytes[(i + 1) * SLOT_SIZE - 1], '\n');
        assert_int_equal(json_parse(bytes + i * SLOT_SIZE, SLOT_SIZE, &object, &diag), ERR_OK);
        json_object_put(object);
    }
    place_drop(&place);
}

static void one_node_at_a_time_uses_it(void **state)
{
    (void)state;
    struct place place;
    struct state_record record;
    struct diag diag = { "" };
    struct state_file *other = NULL;
    bool found;

    place_make(&place);
    struct state_file *file = open_at(&place, &found, &record);
    assert_int_equal(state_file_open(place.path, &other, &found, &record, &diag), ERR_FILE);
    assert_non_null(strstr(diag.text, place.path));
    assert_non_null(strstr(diag.text, "give each node a STATE_DIR of its own"));
    state_file_close(file);
    state_file_close(open_at(&place, &found, &record));
    assert_null(state_file_close(NULL));
    place_drop(&place);
}

static void what_cannot_be_opened_is_named(void **state)
{
    (void)state;
    struct place place;
    struct state_record record;
    struct diag diag = { "" };
    struct state_file *file = NULL;
    bool found;

    place_make(&place);
    assert_int_equal(state_file_open(place.folder, &file, &found, &record, &diag), ERR_FILE);
    assert_non_null(strstr(diag.text, place.folder));
    assert_int_equal(mkfifo(place.path, 0600), 0);
    assert_int_equal(state_file_open(place.path, &file, &found, &record, &diag), ERR_FILE);
    assert_non_null(strstr(diag.text, "not a regular file"));
    assert_null(file);
    place_drop(&place);
    assert_int_equal(state_file_open(place.path, &file, &found, &record, &diag), ERR_FILE);
    assert_non_null(strstr(diag.text, "cannot open it"));
}

/* ---- damage ---------------------------------------------------------------------------------- */

/* Cut off after any number of bytes, the newest slot is not taken for one: that update is lost, the
 * one before it is there, and the next one is written over the torn slot. */
static void a_torn_write_loses_one_update(void **state)
{
    (void)state;
    struct place place;
    struct state_record record;
    char line[SLOT_SIZE];

    place_make(&place);
    write_file(&place, 4, 40); /* the older slot says 39 */
    off_t at = (off_t)(newest_slot(&place) * SLOT_SIZE);
    int fd = open(place.path, O_RDWR | O_CLOEXEC);
    struct state_record next = { first, ours, "7419283746512345678", 3, 41, 1041 };
    format_slot(&next, 1000, line);
    size_t end = strcspn(line, "}") + 1; /* after it there are only blanks, as before */
    char before[SLOT_SIZE];
    assert_int_equal(pread(fd, before, sizeof before, at), sizeof before);
    for (size_t cut = 1; cut < end; cut++) {
        assert_int_equal(pwrite(fd, before, sizeof before, at), sizeof before);
        assert_int_equal(pwrite(fd, line, cut, at), cut);
        assert_true(read_back(&place, &record));
        if (memcmp(line, before, cut) == 0)
            assert_int_equal(record.seq, 40); /* nothing has changed yet */
        else
            assert_int_equal(record.seq, 39);
    }
    close(fd);
    write_file(&place, 1, 50);
    assert_true(read_back(&place, &record));
    assert_int_equal(record.seq, 50);
    assert_int_equal(newest_slot(&place) * SLOT_SIZE, at);
    place_drop(&place);
}

static void any_flipped_bit_is_noticed(void **state)
{
    (void)state;
    struct place place;
    struct state_record record;
    char slot[SLOT_SIZE];

    place_make(&place);
    write_file(&place, 4, 40);
    off_t at = (off_t)(newest_slot(&place) * SLOT_SIZE);
    int fd = open(place.path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, slot, sizeof slot, at), sizeof slot);
    size_t end = (size_t)((char *)memchr(slot, '}', sizeof slot) - slot) + 1;
    for (size_t i = 0; i < end; i++) {
        char flipped = (char)(slot[i] ^ (1 << (i % 8)));
        assert_int_equal(pwrite(fd, &flipped, 1, at + (off_t)i), 1);
        assert_true(read_back(&place, &record));
        assert_int_equal(record.seq, 39);
        assert_int_equal(pwrite(fd, &slot[i], 1, at + (off_t)i), 1);
    }
    close(fd);
    assert_true(read_back(&place, &record));
    assert_int_equal(record.seq, 40);
    place_drop(&place);
}

/* Treated as missing, and usable again. */
static void a_file_of_junk_is_no_file(void **state)
{
    (void)state;
    struct place place;
    struct state_record record = { .seq = 77 };
    char junk[3 * SLOT_SIZE];

    for (size_t size = 1; size <= sizeof junk; size += 97) {
        place_make(&place);
        memset(junk, '{', sizeof junk);
        int fd = open(place.path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        close(fd);
        overwrite(&place, 0, junk, size);
        assert_false(read_back(&place, &record));
        assert_int_equal(record.seq, 77);
        write_file(&place, 1, 5);
        assert_true(read_back(&place, &record));
        assert_int_equal(record.seq, 5);
        place_drop(&place);
        record.seq = 77;
    }
}

static void a_file_cut_short_keeps_the_slot_that_is_left(void **state)
{
    (void)state;
    struct place place;
    struct state_record record;

    place_make(&place);
    write_file(&place, 4, 40);
    uint64_t left = newest_slot(&place) == 0 ? 40 : 39;
    for (off_t size = SLOTS * SLOT_SIZE - 1; size >= SLOT_SIZE; size -= 73) {
        assert_int_equal(truncate(place.path, size), 0);
        assert_true(read_back(&place, &record));
        assert_int_equal(record.seq, left);
    }
    assert_int_equal(truncate(place.path, SLOT_SIZE - 1), 0);
    assert_false(read_back(&place, &record));
    assert_int_equal(truncate(place.path, 0), 0);
    assert_false(read_back(&place, &record));
    place_drop(&place);
}

/* A torn write must not bring a name back that was given up (R11). */
static void a_new_name_stands_in_both_slots(void **state)
{
    (void)state;
    struct place place;
    struct state_record record;
    struct store_identity identity = identity_of(&first, 0);
    bool found;

    for (off_t torn = 0; torn < SLOTS; torn++) {
        place_make(&place);
        write_file(&place, 5, 40);
        struct state_file *file = open_at(&place, &found, &record);
        state_file_bind(file, &identity);
        note(file, &second, 42);
        state_file_close(file);
        overwrite(&place, torn * SLOT_SIZE + 30, "torn", 4);
        assert_true(read_back(&place, &record));
        assert_true(uuid_equal(&record.node_ref, &second));
        assert_int_equal(record.seq, 42);
        place_drop(&place);
    }
}

static void what_cannot_be_written_is_told(void **state)
{
    (void)state;
    struct place place;
    struct state_record record;
    struct store_identity identity = identity_of(&first, 0);
    struct diag diag = { "" };
    bool found;

    place_make(&place);
    struct state_file *file = open_at(&place, &found, &record);
    state_file_bind(file, &identity);
    close(file->fd);
    file->fd = open(place.path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(state_file_note(file, &first, 1, 1001, &diag), ERR_FILE);
    assert_non_null(strstr(diag.text, "cannot write it"));
    state_file_close(file);
    assert_false(read_back(&place, &record));
    place_drop(&place);
}

/* A program one release newer may have said more; one with another format is not understood. */
static void a_newer_program_may_say_more(void **state)
{
    (void)state;
    static const struct {
        const char *insert;
        bool found;
    } cases[] = {
        { "{\"format\":1,\"colour\":\"red\"", true },
        { "{\"format\":2", false },
        { "{\"format\":1,\"format\":1", false },
    };
    struct place place;
    struct state_record record, next = { first, ours, "1", 3, 41, 1041 };
    char line[SLOT_SIZE], text[SLOT_SIZE + 1];

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        place_make(&place);
        write_file(&place, 0, 0);
        format_slot(&next, 9, line);
        char *rest = line + strlen("{\"format\":1");
        *strstr(rest, CHECK_LABEL) = '\0';
        size_t length = (size_t)snprintf(text, sizeof text, "%s%s", cases[i].insert, rest);
        length += (size_t)snprintf(text + length, sizeof text - length,
                                   CHECK_LABEL "%016" PRIx64 "\"}", checksum(text, length));
        memset(text + length, ' ', sizeof text - length);
        text[SLOT_SIZE - 1] = '\n';
        overwrite(&place, 0, text, SLOT_SIZE);
        assert_int_equal(read_back(&place, &record), cases[i].found);
        place_drop(&place);
    }
}

/* ---- judging --------------------------------------------------------------------------------- */

static void a_shorter_history_is_noticed(void **state)
{
    (void)state;
    static const struct uuid theirs = { "instance-ref-002" };
    const struct state_record known = { first, ours, "7419283746512345678", 3, 40, 1040 };
    struct store_identity same = identity_of(&first, 40);
    struct store_identity older = identity_of(&first, 39), newer = identity_of(&first, 41);
    struct store_identity renamed = identity_of(&second, 40), fresh = identity_of(&second, 0);
    struct store_identity elsewhere = same, promoted = same, behind = older, foreign = fresh;

    snprintf(elsewhere.system, sizeof elsewhere.system, "1");
    snprintf(behind.system, sizeof behind.system, "1");
    promoted.timeline = 4;
    foreign.instance_ref = theirs;
    fresh.created = true;
    const struct {
        const char *what;
        const struct store_identity *identity;
        bool lost;
    } cases[] = {
        { "nothing happened", &same, false },
        { "the file is older: a power cut", &newer, false },
        { "a backup, or a disk rolled back", &older, true },
        { "an empty database", &fresh, true },
        { "another node's, or older than the last renaming", &renamed, true },
        { "dumped and restored, or upgraded, whole", &elsewhere, false },
        { "dumped and restored from before", &behind, true },
        { "failed over below the node", &promoted, false },
        { "the folder was another instance's", &foreign, false },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct uuid former = { "untouched" };
        if (state_file_lost(&known, cases[i].identity, &former) != cases[i].lost)
            fail_msg("%s", cases[i].what);
        if (cases[i].lost)
            assert_true(uuid_equal(&former, &first));
        else
            assert_string_equal((const char *)former.bytes, "untouched");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_noted_is_found_again),
        cmocka_unit_test(every_record_fits_its_slot),
        cmocka_unit_test(it_can_be_read_with_other_tools),
        cmocka_unit_test(one_node_at_a_time_uses_it),
        cmocka_unit_test(what_cannot_be_opened_is_named),
        cmocka_unit_test(a_torn_write_loses_one_update),
        cmocka_unit_test(any_flipped_bit_is_noticed),
        cmocka_unit_test(a_file_of_junk_is_no_file),
        cmocka_unit_test(a_file_cut_short_keeps_the_slot_that_is_left),
        cmocka_unit_test(a_new_name_stands_in_both_slots),
        cmocka_unit_test(what_cannot_be_written_is_told),
        cmocka_unit_test(a_newer_program_may_say_more),
        cmocka_unit_test(a_shorter_history_is_noticed),
    };
    log_init(LOG_FORMAT_JSON, LOG_ERROR); /* the warnings are many here */
    return cmocka_run_group_tests_name("state_file", tests, NULL, NULL);
}
