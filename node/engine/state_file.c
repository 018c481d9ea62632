/* See the header. The line in a slot:
 *
 *   {"format":1,"number":7,"node_ref":"…","instance_ref":"…","system":"…","timeline":1,"seq":42,
 *    "check":"0123456789abcdef"}
 *
 * padded with blanks and ended by a newline. The check is over every byte before `,"check"`. */
#include "engine/state_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"

#define SLOTS       2
#define SLOT_SIZE   512 /* a disk's smallest sector: it is written as a whole or not at all */
#define FILE_MODE   0600
#define FORMAT      1
#define CHECK_LABEL ",\"check\":\""

struct state_file {
    int fd;
    char *path;
    struct state_record record; /* last one read or noted, with the database it is bound to */
    uint64_t number;            /* of the newest slot; 0: none was ever written */
    size_t slot;                /* where the newest is */
    bool created;               /* the folder does not know of the file for certain yet */
};

/* One slot as it was found. */
struct slot {
    struct state_record record;
    uint64_t number;
    bool valid, blank;
};

static enum err cannot(const struct state_file *file, const char *doing, struct diag *diag)
{
    return diag_set(diag, ERR_FILE, "%s: cannot %s: %s", file->path, doing, strerror(errno));
}

/* ---- one line -------------------------------------------------------------------------------- */

/* FNV-1a: finds what a torn or a stray write leaves behind; nobody is to be deceived by it. */
static uint64_t checksum(const char *bytes, size_t size)
{
    uint64_t sum = 14695981039346656037u;

    for (size_t i = 0; i < size; i++)
        sum = (sum ^ (unsigned char)bytes[i]) * 1099511628211u;
    return sum;
}

static void format_slot(const struct state_record *record, uint64_t number, char out[SLOT_SIZE])
{
    AUTO(buf_fini) struct buf line;
    char node_ref[UUID_TEXT_SIZE], instance_ref[UUID_TEXT_SIZE];

    buf_init(&line, SLOT_SIZE - 1);
    uuid_format(&record->node_ref, node_ref);
    uuid_format(&record->instance_ref, instance_ref);
    buf_format(&line,
               "{\"format\":%d,\"number\":%" PRIu64 ",\"node_ref\":\"%s\",\"instance_ref\":\"%s\","
               "\"system\":\"%s\",\"timeline\":%" PRIu32 ",\"seq\":%" PRIu64
               ",\"ceiling_ms\":%" PRId64,
               FORMAT, number, node_ref, instance_ref, record->system, record->timeline,
               record->seq, record->ceiling_ms);
    buf_format(&line, CHECK_LABEL "%016" PRIx64 "\"}", checksum(line.bytes, line.length));
    must(buf_ok(&line)); /* every part of it has a longest form */
    memset(out, ' ', SLOT_SIZE);
    memcpy(out, line.bytes, line.length);
    out[SLOT_SIZE - 1] = '\n';
}

/* The members, once the checksum has said that they are ours. */
static bool read_members(const char *text, size_t length, struct slot *out)
{
    AUTO(json_object_put) struct json_object *object = NULL;
    struct json_reader r;
    struct diag ignored;
    const char *system = "", *check;
    int64_t format, number = 0, timeline = 0, seq = 0;

    if (json_parse(text, length, &object, &ignored) != ERR_OK)
        return false;
    json_reader_init(&r, object, "", &ignored);
    json_read_int(&r, "format", true, FORMAT, FORMAT, &format);
    json_read_int(&r, "number", true, 1, INT64_MAX, &number);
    json_read_uuid(&r, "node_ref", true, &out->record.node_ref);
    json_read_uuid(&r, "instance_ref", true, &out->record.instance_ref);
    json_read_string(&r, "system", true, sizeof out->record.system - 1, &system);
    json_read_int(&r, "timeline", true, 0, UINT32_MAX, &timeline);
    json_read_int(&r, "seq", true, 0, INT64_MAX, &seq);
    json_read_int(&r, "ceiling_ms", true, 0, INT64_MAX, &out->record.ceiling_ms);
    json_read_string(&r, "check", true, 16, &check);
    if (json_reader_end_open(&r) != ERR_OK) /* a newer program may say more */
        return false;
    memcpy(out->record.system, system, strlen(system) + 1);
    out->record.timeline = (uint32_t)timeline;
    out->record.seq = (uint64_t)seq;
    out->number = (uint64_t)number;
    return true;
}

static bool is_blank(const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i])
            return false;
    }
    return true;
}

/* `size`: less than a whole slot where the file ends. */
static struct slot parse_slot(const char *bytes, size_t size)
{
    struct slot slot = { .blank = is_blank(bytes, size) };
    static const char label[] = CHECK_LABEL;
    const char *check;
    char expected[sizeof label + 19];

    if (size != SLOT_SIZE || bytes[SLOT_SIZE - 1] != '\n')
        return slot;
    check = memmem(bytes, size, label, sizeof label - 1);
    if (!check)
        return slot;
    snprintf(expected, sizeof expected, "%s%016" PRIx64 "\"}", label,
             checksum(bytes, (size_t)(check - bytes)));
    size_t end = (size_t)(check - bytes) + strlen(expected);
    if (end >= size || memcmp(check, expected, strlen(expected)) != 0)
        return slot;
    slot.valid = read_members(bytes, end, &slot);
    return slot;
}

/* ---- opening --------------------------------------------------------------------------------- */

static enum err read_bytes(const struct state_file *file, char bytes[SLOTS * SLOT_SIZE],
                           size_t *size, struct diag *diag)
{
    for (*size = 0; *size < SLOTS * SLOT_SIZE;) {
        ssize_t got = pread(file->fd, bytes + *size, SLOTS * SLOT_SIZE - *size, (off_t)*size);
        if (got < 0 && errno != EINTR)
            return cannot(file, "read it", diag);
        if (got == 0)
            break;
        if (got > 0)
            *size += (size_t)got;
    }
    return ERR_OK;
}

static enum err read_newest(struct state_file *file, bool *found, struct diag *diag)
{
    char bytes[SLOTS * SLOT_SIZE];
    bool damaged = false;
    size_t size;
    enum err err = read_bytes(file, bytes, &size, diag);

    if (err != ERR_OK)
        return err;
    for (size_t i = 0; i < SLOTS; i++) {
        size_t at = i * SLOT_SIZE, left = size > at ? size - at : 0;
        struct slot slot = parse_slot(bytes + at, left < SLOT_SIZE ? left : SLOT_SIZE);
        damaged = damaged || (!slot.valid && !slot.blank);
        if (!slot.valid || slot.number <= file->number)
            continue;
        file->record = slot.record;
        file->number = slot.number;
        file->slot = i;
    }
    *found = file->number > 0;
    if (damaged)
        log_event_with(LOG_WARNING, "state_file_damaged", LOG_FIELDS("file", file->path), "%s: %s",
                       file->path,
                       *found ? "the last update was torn; the one before it is used"
                              : "it cannot be read and is treated as missing (R11)");
    return ERR_OK;
}

/* Two nodes that share a file would each find the other's name in it, and give up their own. */
static enum err take_file(struct state_file *file, struct diag *diag)
{
    struct stat status;

    if (fstat(file->fd, &status) != 0)
        return cannot(file, "look at it", diag);
    if (!S_ISREG(status.st_mode))
        return diag_set(diag, ERR_FILE, "%s: not a regular file", file->path);
    if (flock(file->fd, LOCK_EX | LOCK_NB) == 0)
        return ERR_OK;
    if (errno != EWOULDBLOCK)
        return cannot(file, "lock it", diag);
    return diag_set(diag, ERR_FILE,
                    "%s: another node uses it: give each node a STATE_DIR of its own", file->path);
}

static enum err open_file(struct state_file *file, struct diag *diag)
{
    int flags = O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;

    file->fd = open(file->path, flags);
    if (file->fd < 0 && errno == ENOENT) {
        file->fd = open(file->path, flags | O_CREAT, FILE_MODE);
        file->created = true;
    }
    return file->fd >= 0 ? take_file(file, diag) : cannot(file, "open it", diag);
}

enum err state_file_open(const char *path, struct state_file **out, bool *found,
                         struct state_record *record, struct diag *diag)
{
    struct state_file *file = mem_calloc(1, sizeof *file);
    bool any = false;

    file->path = mem_strdup(path);
    enum err err = open_file(file, diag);
    if (err == ERR_OK)
        err = read_newest(file, &any, diag);
    if (err != ERR_OK) {
        state_file_close(file);
        return err;
    }
    *found = any;
    if (any)
        *record = file->record;
    *out = file;
    return ERR_OK;
}

struct state_file *state_file_close(struct state_file *file)
{
    if (!file)
        return NULL;
    if (file->fd >= 0)
        close(file->fd);
    mem_free(file->path);
    mem_free(file);
    return NULL;
}

/* ---- updating -------------------------------------------------------------------------------- */

void state_file_bind(struct state_file *file, const struct store_identity *identity)
{
    file->record.instance_ref = identity->instance_ref;
    file->record.timeline = identity->timeline;
    _Static_assert(sizeof file->record.system == sizeof identity->system, "the same text");
    memcpy(file->record.system, identity->system, sizeof file->record.system);
}

/* Into the slot that does not hold the newest. */
static enum err write_slot(struct state_file *file, struct diag *diag)
{
    char bytes[SLOT_SIZE];
    size_t slot = file->number ? 1 - file->slot : 0;
    ssize_t wrote;

    format_slot(&file->record, file->number + 1, bytes);
    do
        wrote = pwrite(file->fd, bytes, sizeof bytes, (off_t)(slot * SLOT_SIZE));
    while (wrote < 0 && errno == EINTR);
    if (wrote >= 0 && (size_t)wrote != sizeof bytes)
        errno = ENOSPC;
    if (wrote != (ssize_t)sizeof bytes)
        return cannot(file, "write it", diag);
    file->number++;
    file->slot = slot;
    return ERR_OK;
}

enum err state_file_note(struct state_file *file, const struct uuid *node_ref, uint64_t seq,
                         int64_t ceiling_ms, struct diag *diag)
{
    bool renamed = !uuid_equal(&file->record.node_ref, node_ref);

    must(!uuid_is_nil(node_ref) && !uuid_is_nil(&file->record.instance_ref) && seq <= INT64_MAX);
    file->record.node_ref = *node_ref;
    file->record.seq = seq;
    file->record.ceiling_ms = ceiling_ms;
    enum err err = write_slot(file, diag);
    if (err == ERR_OK && renamed)
        err = write_slot(file, diag);
    return err;
}

enum err state_file_sync(struct state_file *file, struct diag *diag)
{
    if (fsync(file->fd) != 0)
        return cannot(file, "write it to disk", diag);
    if (!file->created)
        return ERR_OK;
    enum err err = file_sync_folder(file->path, diag);
    file->created = err != ERR_OK;
    return err;
}

/* ---- comparing ------------------------------------------------------------------------------- */

bool state_file_lost(const struct state_record *record, const struct store_identity *identity,
                     struct uuid *former)
{
    if (!uuid_equal(&record->instance_ref, &identity->instance_ref))
        return false;
    if (uuid_equal(&record->node_ref, &identity->node_ref) && identity->seq >= record->seq)
        return false;
    *former = record->node_ref;
    return true;
}
