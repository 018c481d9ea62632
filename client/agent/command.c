/* `twinlease agent` and `twinlease agent status`. */
#include <inttypes.h>
#include <unistd.h>

#include "agent_run.h"
#include "base/file.h"
#include "status.h"
#include "tool/args.h"

#define WAIT_MAX_SECONDS 86400
#define LOOK_MS          200 /* between looks at the status file of one who waits */

extern char **environ;

/* ---- agent ------------------------------------------------------------------------------- */

enum twinlease_code client_agent(const struct args *args, struct output *out,
                                 struct twinlease_error *error)
{
    const char *file = args_text(args, "config");
    AUTO(agent_settings_free) struct agent_settings *settings = NULL;
    struct diag diag;

    if (agent_settings_read(file, environ, &settings, &diag) != ERR_OK ||
        agent_settings_check(settings, &diag) != ERR_OK)
        return fault_set(error, TWINLEASE_USAGE, "%s", diag.text);
    if (args_has(args, "check")) {
        output_line(out, "The settings are fine: %zu %s to hold.", settings->features.count,
                    settings->features.count == 1 ? "feature" : "features");
        struct json_object *document = json_object_new_object();
        put_int(document, "feature_count", (int64_t)settings->features.count);
        output_document(out, document);
        return TWINLEASE_OK;
    }
    return agent_run(file, out->json, TAKE(settings), error);
}

/* ---- agent status ------------------------------------------------------------------------ */

/* The settings say where the status file is. Who may not read them may still read it. */
static enum err read_settings(const struct args *args, struct agent_settings **out,
                              struct diag *diag)
{
    const char *file = args_text(args, "config");

    if (!file && access(AGENT_SETTINGS_FILE, R_OK) != 0)
        return agent_settings_parse("", 0, environ, out, diag);
    return agent_settings_read(file, environ, out, diag);
}

/* What is asked, and what was found at the last look. */
struct question {
    const struct args *args;
    const char *path;
    char boot_id[BOOT_ID_TEXT_SIZE];
    struct boot now;
    struct agent_status status;
    bool read; /* there is a status */
};

static enum twinlease_code read_status(struct question *q, struct twinlease_error *error)
{
    AUTO(buf_fini) struct buf text = { .max = STATUS_FILE_MAX };
    struct diag diag;

    agent_status_fini(&q->status);
    q->read = false;
    if (!file_exists(q->path))
        return fault_set(error, TWINLEASE_BAD_FILE,
                         "there is no status file %s: `twinlease agent` does not run, or writes "
                         "another one (TWINLEASE_STATUS_FILE)",
                         q->path);
    if (file_read(q->path, FILE_PUBLIC, &text, &diag) != ERR_OK)
        return fault_set(error, TWINLEASE_BAD_FILE, "%s", diag.text);
    if (agent_status_parse(buf_text(&text), text.length, &q->status, &diag) != ERR_OK)
        return fault_set(error, TWINLEASE_BAD_FILE, "%s is no status file of an agent: %s", q->path,
                         diag.text);
    q->read = true;
    return TWINLEASE_OK;
}

static const struct agent_feature *find_feature(const struct question *q, const char *name)
{
    for (size_t i = 0; i < q->status.feature_count; i++) {
        if (strcmp(q->status.features[i].wanted.feature, name) == 0)
            return &q->status.features[i];
    }
    return NULL;
}

static bool is_asked(const struct question *q, const char *name)
{
    const char *one;

    if (!args_has(q->args, "feature"))
        return true;
    for (size_t at = 0; (one = args_next(q->args, "feature", &at));) {
        if (strcmp(one, name) == 0)
            return true;
    }
    return false;
}

/* The first of them that is not licensed gives the code. */
static enum twinlease_code judge(struct question *q, struct twinlease_error *error)
{
    enum twinlease_code code = read_status(q, error);
    const char *name;

    q->now = boot_now();
    if (code != TWINLEASE_OK)
        return code;
    for (size_t at = 0; (name = args_next(q->args, "feature", &at));) {
        if (!find_feature(q, name))
            return fault_set(error, TWINLEASE_USAGE,
                             "%.100s: the agent does not hold it: it is not in its "
                             "TWINLEASE_FEATURES",
                             name);
    }
    for (size_t i = 0; i < q->status.feature_count && code == TWINLEASE_OK; i++) {
        if (is_asked(q, q->status.features[i].wanted.feature))
            code =
                agent_status_judge(&q->status, &q->status.features[i], q->boot_id, q->now, error);
    }
    return code;
}

static void print_feature(const struct question *q, const struct agent_feature *feature,
                          struct output *out, struct json_object *list)
{
    struct json_object *one = json_object_new_object();
    struct twinlease_error why;
    char until[WHEN_SIZE];

    fault_clear(&why);
    enum twinlease_code code = agent_status_judge(&q->status, feature, q->boot_id, q->now, &why);
    int64_t left_ms = feature->ends.ms - q->now.ms;
    put_text(one, "feature", feature->wanted.feature);
    put_int(one, "count", feature->wanted.count);
    put_bool(one, "licensed", code == TWINLEASE_OK);
    put_text(one, "code", twinlease_code_name(code));
    put_int(one, "exit_code", code);
    if (code == TWINLEASE_OK) {
        when_format(wall_now().ms + left_ms, until);
        put_text(one, "lease_ref", feature->lease_ref);
        put_seconds(one, "expires_in", left_ms);
        output_line(out, "%s: licensed, %" PRId64 " %s until %s", feature->wanted.feature,
                    feature->wanted.count, plural(feature->wanted.count), until);
    } else {
        put_text(one, "message", why.message);
        output_line(out, "%s: not licensed (%s)", feature->wanted.feature,
                    twinlease_code_name(code));
    }
    json_object_array_add(list, one);
}

static void print_status(const struct question *q, struct output *out)
{
    struct json_object *document = json_object_new_object();
    struct json_object *list = json_object_new_array();

    put_int(document, "pid", q->status.pid);
    put_text(document, "instance_ref", q->status.instance_ref);
    put_seconds(document, "age", q->now.ms - q->status.written.ms);
    json_object_object_add(document, "feature_list", list);
    for (size_t i = 0; i < q->status.feature_count; i++) {
        if (is_asked(q, q->status.features[i].wanted.feature))
            print_feature(q, &q->status.features[i], out, list);
    }
    output_document(out, document);
}

enum twinlease_code client_agent_status(const struct args *args, struct output *out,
                                        struct twinlease_error *error)
{
    AUTO(agent_settings_free) struct agent_settings *settings = NULL;
    struct question q = { .args = args, .path = args_text(args, "status-file") };
    int64_t wait_seconds = 0;
    struct diag diag;
    enum twinlease_code code = args_int(args, "wait", 0, WAIT_MAX_SECONDS, &wait_seconds, error);

    if (code != TWINLEASE_OK)
        return code;
    if (!q.path) {
        if (read_settings(args, &settings, &diag) != ERR_OK)
            return fault_set(error, TWINLEASE_USAGE, "%s", diag.text);
        q.path = settings->status_file;
    }
    boot_id_read(q.boot_id);
    struct boot until = { boot_now().ms + wait_seconds * 1000 };
    while ((code = judge(&q, error)) != TWINLEASE_OK && boot_now().ms < until.ms)
        wait_ms(LOOK_MS);
    if (code == TWINLEASE_OK)
        fault_clear(error);
    if (q.read)
        print_status(&q, out);
    agent_status_fini(&q.status);
    return code;
}
