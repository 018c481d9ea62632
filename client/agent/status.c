#include "status.h"

#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "document.h"
#include "fault.h"

#define FORMAT       1
#define INSTANT_MAX  INT64_MAX
#define FEATURES_MAX 4096 /* of a file: more than any agent has */

void agent_status_fini(struct agent_status *status)
{
    mem_free(status->features);
    status->features = NULL;
    status->feature_count = 0;
}

void boot_id_read(char out[BOOT_ID_TEXT_SIZE])
{
    AUTO(buf_fini) struct buf text = { .max = 64 };

    *out = '\0';
    if (file_read("/proc/sys/kernel/random/boot_id", FILE_PUBLIC, &text, NULL) == ERR_OK &&
        text.length >= BOOT_ID_TEXT_SIZE - 1) {
        memcpy(out, buf_text(&text), BOOT_ID_TEXT_SIZE - 1);
        out[BOOT_ID_TEXT_SIZE - 1] = '\0';
    }
}

/* ---- writing ----------------------------------------------------------------------------- */

static void add_lease(struct json_object *one, const struct agent_feature *feature)
{
    put_text(one, "lease_ref", feature->lease_ref);
    put_text(one, "home", feature->home);
    put_instant(one, "acquired", feature->acquired_ms);
    put_instant(one, "expires", feature->expires_ms);
    put_int(one, "ends_boot_ms", feature->ends.ms);
}

static void add_error(struct json_object *one, const struct agent_feature *feature)
{
    struct json_object *error = json_object_new_object();

    put_text(error, "code", twinlease_code_name(feature->code));
    put_int(error, "exit_code", feature->code);
    put_text(error, "message", feature->message);
    json_object_object_add(one, "error", error);
}

static struct json_object *feature_document(const struct agent_feature *feature, struct wall now)
{
    struct json_object *one = json_object_new_object();

    put_text(one, "feature", feature->wanted.feature);
    put_int(one, "count", feature->wanted.count);
    if (*feature->scope_ref)
        put_text(one, "scope_ref", feature->scope_ref);
    json_object_object_add(one, "held", json_object_new_boolean(feature->held));
    if (feature->held)
        add_lease(one, feature);
    if (feature->next_try_ms >= 0)
        put_instant(one, "next_try", now.ms + feature->next_try_ms);
    if (feature->code != TWINLEASE_OK)
        add_error(one, feature);
    return one;
}

void agent_status_write(const struct agent_status *status, struct wall now, struct buf *out)
{
    AUTO(json_object_put) struct json_object *document = json_object_new_object();
    struct json_object *list = json_object_new_array();

    put_int(document, "format", FORMAT);
    put_text(document, "agent_version", twinlease_version());
    put_int(document, "pid", status->pid);
    put_text(document, "instance_ref", status->instance_ref);
    put_instant(document, "written", now.ms);
    put_text(document, "boot_id", status->boot_id);
    put_int(document, "written_boot_ms", status->written.ms);
    for (size_t i = 0; i < status->feature_count; i++)
        json_object_array_add(list, feature_document(&status->features[i], now));
    json_object_object_add(document, "feature_list", list);
    buf_text_append(out, json_object_to_json_string_ext(
                             document, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
    buf_text_append(out, "\n");
}

/* ---- reading ----------------------------------------------------------------------------- */

static void copy_text(char *out, size_t size, const char *text)
{
    size_t length = strnlen(text, size - 1);

    memcpy(out, text, length);
    out[length] = '\0';
}

static void read_text(struct json_reader *r, const char *name, bool required, char *out,
                      size_t size)
{
    const char *text;

    if (json_read_string(r, name, required, size - 1, &text))
        copy_text(out, size, text);
}

static enum err read_error(struct json_object *value, struct agent_feature *out, struct diag *diag)
{
    struct json_reader r;
    int64_t code = TWINLEASE_ERROR;

    json_reader_init(&r, value, "error", diag);
    json_read_int(&r, "exit_code", true, 1, 255, &code);
    read_text(&r, "message", true, out->message, sizeof out->message);
    out->code = (enum twinlease_code)code;
    return json_reader_end_open(&r);
}

static enum err read_feature(struct json_object *value, struct agent_feature *out,
                             struct diag *diag)
{
    struct json_object *error = NULL;
    struct json_reader r;

    json_reader_init(&r, value, "feature_list", diag);
    read_text(&r, "feature", true, out->wanted.feature, sizeof out->wanted.feature);
    json_read_int(&r, "count", true, 1, ENTITLEMENT_SEATS_MAX, &out->wanted.count);
    json_read_bool(&r, "held", true, &out->held);
    json_read_int(&r, "ends_boot_ms", out->held, 0, INSTANT_MAX, &out->ends.ms);
    read_text(&r, "lease_ref", out->held, out->lease_ref, sizeof out->lease_ref);
    read_text(&r, "scope_ref", false, out->scope_ref, sizeof out->scope_ref);
    json_read_object(&r, "error", false, &error);
    enum err e = json_reader_end_open(&r);
    return e == ERR_OK && error ? read_error(error, out, diag) : e;
}

static enum err read_features(struct json_object *list, struct agent_status *out, struct diag *diag)
{
    size_t count = json_object_array_length(list);
    enum err e = ERR_OK;

    out->features = mem_calloc(count + 1, sizeof *out->features);
    out->feature_count = count;
    for (size_t i = 0; i < count && e == ERR_OK; i++)
        e = read_feature(json_object_array_get_idx(list, i), &out->features[i], diag);
    return e;
}

enum err agent_status_parse(const char *text, size_t size, struct agent_status *out,
                            struct diag *diag)
{
    AUTO(json_object_put) struct json_object *document = NULL;
    AUTO(agent_status_fini) struct agent_status made = { .features = NULL };
    struct json_object *list = NULL;
    struct json_reader r;
    int64_t format, pid = 0;
    enum err e = json_parse(text, size, &document, diag);

    if (e != ERR_OK)
        return e;
    json_reader_init(&r, document, "", diag);
    json_read_int(&r, "format", true, FORMAT, FORMAT, &format);
    json_read_int(&r, "pid", true, 1, INT32_MAX, &pid);
    read_text(&r, "boot_id", true, made.boot_id, sizeof made.boot_id);
    read_text(&r, "instance_ref", false, made.instance_ref, sizeof made.instance_ref);
    json_read_int(&r, "written_boot_ms", true, 0, INSTANT_MAX, &made.written.ms);
    json_read_array(&r, "feature_list", true, FEATURES_MAX, &list);
    if ((e = json_reader_end_open(&r)) != ERR_OK ||
        (e = read_features(list, &made, diag)) != ERR_OK)
        return e;
    made.pid = (long)pid;
    *out = made;
    made.features = NULL;
    return ERR_OK;
}

/* ---- judging ----------------------------------------------------------------------------- */

/* Of the same boot, and written not too long ago. */
static bool fresh(const struct agent_status *status, struct boot now)
{
    return now.ms - status->written.ms <= STATUS_STALE_MS;
}

enum twinlease_code agent_status_judge(const struct agent_status *status,
                                       const struct agent_feature *feature, const char *boot_id,
                                       struct boot now, struct twinlease_error *error)
{
    const char *name = feature->wanted.feature;

    if (strcmp(status->boot_id, boot_id) != 0)
        return fault_set(error, TWINLEASE_BAD_FILE,
                         "%s: the agent has written nothing since this machine was started", name);
    if (feature->held && now.ms < feature->ends.ms)
        return TWINLEASE_OK;
    if (!fresh(status, now))
        return fault_set(
            error, TWINLEASE_BAD_FILE,
            "%s: not licensed, and the agent (pid %ld) has written nothing for %lld s: "
            "is it running?",
            name, status->pid, (long long)((now.ms - status->written.ms) / 1000));
    if (feature->held)
        return fault_set(error, TWINLEASE_LEASE_LOST, "%s: the lease has expired%s%s", name,
                         feature->code != TWINLEASE_OK ? ": " : "", feature->message);
    if (feature->code != TWINLEASE_OK)
        return fault_set(error, feature->code, "%s: %s", name, feature->message);
    return fault_set(error, TWINLEASE_NO_NODE, "%s: no node has answered yet", name);
}
