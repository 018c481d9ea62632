/* Clients' commands, on the public functions of libtwinlease. */
#include "twinlease.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "base/json.h"
#include "files.h"
#include "interrupt.h"
#include "node.h"
#include "operator.h"
#include "progress.h"
#include "tok.h"

#define LEASE_FILE_MAX (256 << 10)
#define PEM_MAX        (64 << 10)
#define FOLDER_LEVELS  2 /* the state folder, and in it one folder for each instance */
#define TOLERANCE_MAX  86400
#define WAIT_MAX       (366 * 86400) /* as the library has it */

DEFINE_AUTO(struct twinlease *, twinlease_close)
DEFINE_AUTO(struct twinlease_lease *, twinlease_lease_free)
DEFINE_AUTO(struct twinlease_list *, twinlease_list_free)
DEFINE_AUTO(struct twinlease_status *, twinlease_status_free)

/* ---- common ------------------------------------------------------------------------------ */

static enum twinlease_code open_handle(const struct args *args, const char *state_dir,
                                       unsigned flags, struct twinlease **out,
                                       struct twinlease_error *error)
{
    struct twinlease_options options = TWINLEASE_OPTIONS_INIT;
    int64_t timeout_ms = 0;
    enum twinlease_code code = timeout_read(args, &timeout_ms, error);

    if (code != TWINLEASE_OK)
        return code;
    options.token_path = args_text(args, "tok");
    options.state_dir = state_dir;
    options.instance_thumbprint = args_text(args, "instance");
    options.deadline_ms = (unsigned)timeout_ms;
    options.flags = flags;
    options.warning = output_warning;
    if (!options.token_path)
        return fault_set(error, TWINLEASE_USAGE,
                         "name the client token with --tok FILE or TWINLEASE_TOK");
    return twinlease_open(&options, out, error);
}

/* The same document everywhere; `acquire` adds what is needed to verify the lease elsewhere. */
static struct json_object *lease_document(const struct twinlease_lease *lease)
{
    struct json_object *document = json_object_new_object();

    put_lease(document, lease);
    put_seconds(document, "expires_in", twinlease_lease_expires_in_ms(lease));
    put_seconds(document, "renew_after", twinlease_lease_renew_in_ms(lease));
    return document;
}

static void print_lease(const struct output *out, const char *what,
                        const struct twinlease_lease *lease)
{
    bool over = twinlease_lease_expires_in_ms(lease) == 0;
    char until[WHEN_SIZE];

    when_format(twinlease_lease_expires_ms(lease), until);
    output_line(out, "%s %s: %" PRId64 " %s%s%s, lease %s", what, twinlease_lease_feature(lease),
                twinlease_lease_count(lease), plural(twinlease_lease_count(lease)),
                over ? "" : " until ", over ? "" : until, twinlease_lease_ref(lease));
}

/* ---- acquire ----------------------------------------------------------------------------- */

static enum twinlease_code read_wish(const struct args *args, struct twinlease_acquire_options *out,
                                     struct twinlease_error *error)
{
    int64_t wait_seconds = 0;
    enum twinlease_code code;

    if ((code = args_int(args, "count", 1, ENTITLEMENT_SEATS_MAX, &out->count, error)) !=
            TWINLEASE_OK ||
        (code = args_int(args, "duration", 1, LEASE_SECONDS_MAX, &out->duration_seconds, error)) !=
            TWINLEASE_OK ||
        (code = args_int(args, "wait", 0, WAIT_MAX, &wait_seconds, error)) != TWINLEASE_OK)
        return code;
    out->wait_ms = wait_seconds * 1000;
    out->scope_ref = args_text(args, "scope");
    out->flags = args_has(args, "another") ? TWINLEASE_ACQUIRE_ANOTHER : 0;
    return TWINLEASE_OK;
}

static enum twinlease_code acquire(struct twinlease *handle, const char *feature,
                                   struct twinlease_acquire_options *options,
                                   struct twinlease_lease **out, struct twinlease_error *error)
{
    struct progress progress;

    progress_begin(&progress, feature);
    options->waiting = progress_waiting;
    options->waiting_context = &progress;
    interrupt_begin(handle);
    enum twinlease_code code = twinlease_acquire(handle, feature, options, out, error);
    interrupt_end();
    progress_end(&progress);
    return code;
}

enum twinlease_code client_acquire(const struct args *args, struct output *out,
                                   struct twinlease_error *error)
{
    struct twinlease_acquire_options options = TWINLEASE_ACQUIRE_OPTIONS_INIT;
    AUTO(twinlease_close) struct twinlease *handle = NULL;
    AUTO(twinlease_lease_free) struct twinlease_lease *lease = NULL;
    bool memory = args_has(args, "no-state");
    enum twinlease_code code = read_wish(args, &options, error);

    /* A lease that nobody remembers once this process ends could not be given back. */
    if (code == TWINLEASE_OK)
        code = open_handle(args, memory ? "" : args_text(args, "state"),
                           memory ? 0 : TWINLEASE_STATE_REQUIRED, &handle, error);
    if (code == TWINLEASE_OK)
        code = acquire(handle, args->operands[0], &options, &lease, error);
    if (code != TWINLEASE_OK)
        return code;
    print_lease(out, twinlease_lease_resumed(lease) ? "Renewed" : "Acquired", lease);
    struct json_object *document = lease_document(lease);
    put_bool(document, "resumed", twinlease_lease_resumed(lease));
    json_object_object_add(document, "jwks", json_tokener_parse(twinlease_instance_jwks(handle)));
    output_document(out, document);
    return TWINLEASE_OK;
}

/* ---- renew, release ---------------------------------------------------------------------- */

/* What renewing and releasing have in common: they do something with recorded leases. */
struct deed {
    enum twinlease_code (*act)(struct twinlease *, struct twinlease_lease *,
                               struct twinlease_error *);
    const char *done;   /* "Renewed" */
    const char *member; /* of the document */
};

static bool lease_matches(const struct twinlease_lease *lease, const struct uuid *wanted)
{
    const char *text = twinlease_lease_ref(lease);
    struct uuid lease_ref;

    return !wanted ||
           (uuid_parse(text, strlen(text), &lease_ref) && uuid_equal(&lease_ref, wanted));
}

static void note_failure(struct json_object *list, const struct twinlease_lease *lease,
                         const struct twinlease_error *error)
{
    struct json_object *item = json_object_new_object();

    put_text(item, "lease_ref", twinlease_lease_ref(lease));
    put_text(item, "feature", twinlease_lease_feature(lease));
    put_text(item, "code", twinlease_code_name(error->code));
    put_text(item, "message", error->message);
    json_object_array_add(list, item);
}

/* Does it to each that is wanted, and goes on after a failure; *error is the last one. */
static enum twinlease_code act_on_list(const struct deed *deed, struct twinlease *handle,
                                       struct twinlease_list *list, const struct uuid *wanted,
                                       struct output *out, struct twinlease_error *error)
{
    struct json_object *document = json_object_new_object();
    struct json_object *done = json_object_new_array(), *failed = json_object_new_array();
    enum twinlease_code verdict = TWINLEASE_OK;

    for (size_t i = 0; i < twinlease_list_count(list); i++) {
        struct twinlease_lease *lease = twinlease_list_at(list, i);
        struct twinlease_error why;
        if (!lease_matches(lease, wanted))
            continue;
        if (deed->act(handle, lease, &why) == TWINLEASE_OK) {
            print_lease(out, deed->done, lease);
            json_object_array_add(done, lease_document(lease));
            continue;
        }
        note_failure(failed, lease, &why);
        if (verdict != TWINLEASE_OK)
            output_warning(NULL, error->message); /* only the last one is the error */
        *error = why;
        verdict = why.code;
    }
    json_object_object_add(document, deed->member, done);
    json_object_object_add(document, "failed_list", failed);
    output_document(out, document);
    return verdict;
}

static enum twinlease_code act(const struct deed *deed, const struct args *args, bool only_one,
                               struct output *out, struct twinlease_error *error)
{
    const char *text = args->operand_count ? args->operands[0] : NULL;
    AUTO(twinlease_close) struct twinlease *handle = NULL;
    AUTO(twinlease_list_free) struct twinlease_list *list = NULL;
    struct uuid wanted;
    size_t found = 0;
    enum twinlease_code code;

    if (text && !uuid_parse(text, strlen(text), &wanted))
        return fault_set(error, TWINLEASE_USAGE, "\"%.40s\" is no lease reference (a UUID)", text);
    if ((code = open_handle(args, args_text(args, "state"), 0, &handle, error)) != TWINLEASE_OK ||
        (code = twinlease_recorded(handle, &list, error)) != TWINLEASE_OK)
        return code;
    for (size_t i = 0; i < twinlease_list_count(list); i++)
        found += lease_matches(twinlease_list_at(list, i), text ? &wanted : NULL);
    if (text && !found)
        return fault_set(error, TWINLEASE_LEASE_LOST, "the state folder %s has no lease %s",
                         twinlease_state_folder(handle), text);
    if (!found && !only_one)
        output_line(out, "There is no lease in the state folder %s.",
                    twinlease_state_folder(handle));
    if (only_one && !found)
        return fault_set(error, TWINLEASE_LEASE_LOST, "the state folder %s has no lease",
                         twinlease_state_folder(handle));
    if (only_one && found > 1)
        return fault_set(error, TWINLEASE_USAGE,
                         "the state folder %s has %zu leases: name one, or say --all",
                         twinlease_state_folder(handle), found);
    return act_on_list(deed, handle, list, text ? &wanted : NULL, out, error);
}

enum twinlease_code client_renew(const struct args *args, struct output *out,
                                 struct twinlease_error *error)
{
    static const struct deed renew = { twinlease_renew, "Renewed", "renewed_lease_list" };

    return act(&renew, args, false, out, error);
}

enum twinlease_code client_release(const struct args *args, struct output *out,
                                   struct twinlease_error *error)
{
    static const struct deed release = { twinlease_release, "Released", "released_lease_list" };
    bool all = args_has(args, "all");

    if (all && args->operand_count)
        return fault_set(error, TWINLEASE_USAGE, "name a lease or say --all, not both");
    if (!args_has(args, "url"))
        return act(&release, args, !all, out, error);
    if (all || !args->operand_count || args_has(args, "tok"))
        return fault_set(error, TWINLEASE_USAGE,
                         "with --url, name one LEASE_REF, and neither --all nor --tok");
    return node_revoke(args, out, error);
}

/* ---- status ------------------------------------------------------------------------------ */

static struct json_object *nodes_document(const struct twinlease_status *status, bool *ready)
{
    struct json_object *nodes = json_object_new_array();

    *ready = false;
    for (size_t i = 0; i < twinlease_status_node_count(status); i++) {
        enum twinlease_code code = twinlease_status_node_code(status, i);
        struct json_object *node = json_object_new_object();
        put_text(node, "url", twinlease_status_node_url(status, i));
        put_bool(node, "ready", code == TWINLEASE_OK);
        put_text(node, "code", twinlease_code_name(code));
        put_text(node, "message", twinlease_status_node_message(status, i));
        json_object_array_add(nodes, node);
        *ready = *ready || code == TWINLEASE_OK;
    }
    return nodes;
}

static void print_machine(const struct output *out, struct json_object *document)
{
    struct json_object *nodes = get_list(document, "node_list");
    const char *origin_ref = get_text(document, "origin_ref");

    output_line(out, "This machine is %s", *origin_ref ? origin_ref : "not enrolled yet");
    output_line(out, "Client token of instance %s, until %.19sZ",
                get_text(document, "instance_ref"), get_text(document, "token_expires"));
    output_line(out, "State folder %s", get_text(document, "state_folder"));
    for (size_t i = 0; i < list_count(nodes); i++) {
        struct json_object *node = json_object_array_get_idx(nodes, i);
        output_line(out, "Node %s: %s", get_text(node, "url"),
                    get_bool(node, "ready") ? "ready" : get_text(node, "message"));
    }
}

enum twinlease_code machine_status(const struct args *args, struct output *out,
                                   struct twinlease_error *error)
{
    AUTO(twinlease_close) struct twinlease *handle = NULL;
    AUTO(twinlease_status_free) struct twinlease_status *status = NULL;
    AUTO(twinlease_list_free) struct twinlease_list *list = NULL;
    enum twinlease_code code;
    bool ready;

    if ((code = open_handle(args, args_text(args, "state"), 0, &handle, error)) != TWINLEASE_OK ||
        (code = twinlease_status(handle, &status, error)) != TWINLEASE_OK ||
        (code = twinlease_recorded(handle, &list, error)) != TWINLEASE_OK)
        return code;
    struct json_object *document = json_object_new_object();
    struct json_object *leases = json_object_new_array();
    put_text(document, "instance_ref", twinlease_instance_ref(handle));
    put_text(document, "instance_key", twinlease_instance_thumbprint(handle));
    put_text(document, "origin_ref", twinlease_status_origin_ref(status));
    put_instant(document, "token_expires", twinlease_status_token_expires_ms(status));
    put_text(document, "state_folder", twinlease_state_folder(handle));
    json_object_object_add(document, "node_list", nodes_document(status, &ready));
    json_object_object_add(document, "lease_list", leases);
    print_machine(out, document);
    for (size_t i = 0; i < twinlease_list_count(list); i++) {
        struct twinlease_lease *lease = twinlease_list_at(list, i);
        print_lease(out, twinlease_lease_expires_in_ms(lease) ? "Lease of" : "Ended:", lease);
        json_object_array_add(leases, lease_document(lease));
    }
    output_document(out, document);
    return ready ? TWINLEASE_OK : fault_set(error, TWINLEASE_NO_NODE, "no node is ready");
}

/* ---- verify ------------------------------------------------------------------------------ */

/* What the lease files are checked against. */
struct check {
    struct buf publisher_key;
    char *jwks; /* of --tok; or NULL */
    const char *feature;
    int64_t count_min, tolerance_seconds;
    struct output *out;
    struct json_object *verified, *failed; /* lists of the document */
    struct twinlease_error last;
};

static void check_fini(struct check *check)
{
    buf_fini(&check->publisher_key);
    mem_free(check->jwks);
    json_object_put(check->verified);
    json_object_put(check->failed);
}
DEFINE_AUTO_VALUE(struct check, check_fini)

static enum twinlease_code verify_texts(const struct check *check, const char *path,
                                        struct json_object *lease, struct twinlease_error *error)
{
    struct twinlease_verify_options options = TWINLEASE_VERIFY_OPTIONS_INIT;
    struct json_object *jwks = NULL;

    options.publisher_key_pem = buf_text(&check->publisher_key);
    options.lease_token = get_text(lease, "lease_token");
    options.entitlement = get_text(lease, "entitlement");
    options.feature = check->feature;
    options.count_min = check->count_min;
    options.tolerance_seconds = check->tolerance_seconds;
    if (!*options.lease_token || !*options.entitlement)
        return fault_set(error, TWINLEASE_BAD_FILE,
                         "%s has no lease_token or no entitlement: it is no lease", path);
    if (check->jwks)
        options.instance_jwks = check->jwks;
    else if (json_object_object_get_ex(lease, "jwks", &jwks))
        options.instance_jwks = json_object_to_json_string_ext(jwks, JSON_C_TO_STRING_PLAIN);
    else
        return fault_set(error, TWINLEASE_BAD_FILE,
                         "%s has no instance keys (jwks); name the client token with --tok", path);
    return twinlease_verify(&options, error);
}

static enum twinlease_code read_lease(const char *path, struct json_object **out,
                                      struct twinlease_error *error)
{
    AUTO(buf_fini) struct buf text = { .max = LEASE_FILE_MAX };
    struct diag diag;
    enum twinlease_code code = text_read(path, &text, error);

    if (code != TWINLEASE_OK)
        return code;
    if (json_parse(buf_text(&text), text.length, out, &diag) != ERR_OK)
        return fault_set(error, TWINLEASE_BAD_FILE, "%s is no lease: %s", path, diag.text);
    return TWINLEASE_OK;
}

/* One file; the outcome goes into the document and, if it is bad, into check->last. */
static void verify_file(struct check *check, const char *path)
{
    AUTO(json_object_put) struct json_object *lease = NULL;
    struct json_object *item = json_object_new_object();
    struct twinlease_error error;
    enum twinlease_code code = read_lease(path, &lease, &error);

    if (code == TWINLEASE_OK)
        code = verify_texts(check, path, lease, &error);
    put_text(item, "file", path);
    put_text(item, "lease_ref", get_text(lease, "lease_ref"));
    put_text(item, "feature", get_text(lease, "feature"));
    if (code == TWINLEASE_OK) {
        output_line(check->out, "%s: holds (publisher, entitlement, instance, lease, time)", path);
        json_object_array_add(check->verified, item);
        return;
    }
    put_text(item, "code", twinlease_code_name(code));
    put_text(item, "link", twinlease_link_name(error.link));
    put_text(item, "message", error.message);
    output_line(check->out, "%s: broken at %s: %s", path,
                error.link ? twinlease_link_name(error.link) : "the file", error.message);
    json_object_array_add(check->failed, item);
    check->last = error;
}

static bool ends_with(const char *text, const char *ending)
{
    size_t length = strlen(text), size = strlen(ending);

    return length > size && strcmp(text + length - size, ending) == 0;
}

static bool is_folder(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static void close_folder(DIR *folder)
{
    closedir(folder);
}
DEFINE_AUTO(DIR *, close_folder)

/* All *.lease files; references that were drawn and not granted are no leases yet. */
static enum twinlease_code verify_folder(struct check *check, const char *path, int levels,
                                         struct twinlease_error *error)
{
    AUTO(close_folder) DIR *folder = opendir(path);
    const struct dirent *entry;
    enum twinlease_code code = TWINLEASE_OK;

    if (!folder)
        return fault_set(error, TWINLEASE_BAD_FILE, "%s: cannot read the folder: %s", path,
                         strerror(errno));
    while (code == TWINLEASE_OK && (entry = readdir(folder))) {
        AUTO(json_object_put) struct json_object *lease = NULL;
        AUTO(mem_free) char *inner = path_join(path, entry->d_name);
        if (ends_with(entry->d_name, ".lease")) {
            if (read_lease(inner, &lease, error) != TWINLEASE_OK || get_bool(lease, "granted"))
                verify_file(check, inner);
        } else if (levels > 1 && entry->d_name[0] != '.' && is_folder(inner)) {
            code = verify_folder(check, inner, levels - 1, error);
        }
    }
    return code;
}

static enum twinlease_code prepare_check(const struct args *args, struct check *check,
                                         struct twinlease_error *error)
{
    const char *key = args_text(args, "publisher-key"), *tok_path = args_text(args, "tok");
    AUTO(tok_free) struct tok *tok = NULL;
    bool exact = false;
    enum twinlease_code code;

    check->publisher_key.max = PEM_MAX;
    check->feature = args_text(args, "feature");
    check->tolerance_seconds = -1;
    if (!args_text(args, "lease") == !args_text(args, "state"))
        return fault_set(error, TWINLEASE_USAGE, "name what to verify: either --lease or --state");
    if (!key)
        return fault_set(error, TWINLEASE_USAGE, "--publisher-key must not be empty");
    if ((code = args_int(args, "count", 1, ENTITLEMENT_SEATS_MAX, &check->count_min, error)) !=
            TWINLEASE_OK ||
        (code = args_int(args, "tolerance", 0, TOLERANCE_MAX, &check->tolerance_seconds, error)) !=
            TWINLEASE_OK ||
        (code = text_read(key, &check->publisher_key, error)) != TWINLEASE_OK)
        return code;
    exact = check->tolerance_seconds == 0;
    if (exact || check->tolerance_seconds < 0)
        check->tolerance_seconds = exact ? -1 : 0; /* as the library has it: below 0 is none */
    if (tok_path && (code = tok_read(tok_path, NULL, wall_now().ms, &tok, error)) != TWINLEASE_OK)
        return code;
    check->jwks = tok ? mem_strdup(tok->jwks) : NULL;
    return TWINLEASE_OK;
}

enum twinlease_code client_verify(const struct args *args, struct output *out,
                                  struct twinlease_error *error)
{
    AUTO(check_fini) struct check check = { .out = out };
    const char *state = args_text(args, "state");
    enum twinlease_code code = prepare_check(args, &check, error);

    if (code != TWINLEASE_OK)
        return code;
    check.verified = json_object_new_array();
    check.failed = json_object_new_array();
    if (!state)
        verify_file(&check, args_text(args, "lease"));
    else if ((code = verify_folder(&check, state, FOLDER_LEVELS, error)) != TWINLEASE_OK)
        return code;
    if (!list_count(check.verified) && !list_count(check.failed))
        return fault_set(error, TWINLEASE_BAD_FILE, "there is no lease in the folder %s", state);
    struct json_object *document = json_object_new_object();
    json_object_object_add(document, "verified_list", json_object_get(check.verified));
    json_object_object_add(document, "failed_list", json_object_get(check.failed));
    output_document(out, document);
    if (check.last.code != TWINLEASE_OK)
        *error = check.last;
    return check.last.code;
}
