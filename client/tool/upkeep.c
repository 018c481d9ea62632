/* Operators' commands that put things in order: machines that are gone, leases that are over; and
 * what a node was told to do. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "confirm.h"
#include "node.h"

/* ---- deleting and purging ---------------------------------------------------------------- */

/* A node does it in steps, and says so when a request's time is over: asking again goes on. */
static bool goes_on(const struct twinlease_error *error)
{
    return strcmp(error->problem, "deadline") == 0;
}

static enum twinlease_code delete_in_steps(struct node *node, const char *path,
                                           struct json_object **out, struct twinlease_error *error)
{
    const struct node_call call = { .method = "DELETE", .path = path };
    int64_t patience_ms = node->until.ms - boot_now().ms;
    enum twinlease_code code;

    do {
        node->until.ms = boot_now().ms + patience_ms; /* each step has the whole time */
        code = node_json(node, &call, out, error);
    } while (code != TWINLEASE_OK && goes_on(error));
    return code;
}

enum twinlease_code leases_purge(const struct args *args, struct output *out,
                                 struct twinlease_error *error)
{
    AUTO(json_object_put) struct json_object *answer = NULL;
    AUTO(node_fini) struct node node = { 0 };
    enum twinlease_code code;

    if ((code = node_open(args, true, &node, error)) != TWINLEASE_OK ||
        (code = delete_in_steps(&node, "/-/leases/expired", &answer, error)) != TWINLEASE_OK)
        return code;
    int64_t count = get_int(answer, "purged_count");
    output_line(out, "Purged %" PRId64 " ended %s.", count, count == 1 ? "lease" : "leases");
    output_document(out, TAKE(answer));
    return TWINLEASE_OK;
}

static enum twinlease_code delete_all(const struct args *args, struct output *out,
                                      struct twinlease_error *error)
{
    AUTO(json_object_put) struct json_object *answer = NULL;
    AUTO(node_fini) struct node node = { 0 };
    enum twinlease_code code = node_open(args, true, &node, error);

    if (code == TWINLEASE_OK && !args_has(args, "yes")) {
        int64_t patience_ms = node.until.ms - boot_now().ms;
        if ((code = confirm_possible("every machine would lose its leases", error)) != TWINLEASE_OK)
            return code;
        fprintf(stderr, "Every machine loses its leases at once, and has to enrol again with a\n"
                        "client token that is still good.\n");
        code = confirm_word("delete", error);
        node.until.ms = boot_now().ms + patience_ms; /* people take their time */
    }
    if (code == TWINLEASE_OK)
        code = delete_in_steps(&node, "/-/origins", &answer, error);
    if (code != TWINLEASE_OK)
        return code;
    int64_t count = get_int(answer, "deleted_count");
    output_line(out, "Deleted %" PRId64 " %s, with their leases.", count,
                count == 1 ? "machine" : "machines");
    output_document(out, TAKE(answer));
    return TWINLEASE_OK;
}

static enum twinlease_code delete_one(const struct args *args, struct output *out,
                                      struct twinlease_error *error)
{
    const char *text = args->operands[0];
    AUTO(json_object_put) struct json_object *answer = NULL;
    AUTO(node_fini) struct node node = { 0 };
    char path[64] = "/-/origins/", *ref = path + strlen(path);
    struct uuid origin_ref;
    enum twinlease_code code;

    if (!uuid_parse(text, strlen(text), &origin_ref))
        return fault_set(error, TWINLEASE_USAGE, "\"%.40s\" is no origin reference (a UUID)", text);
    uuid_format(&origin_ref, ref);
    const struct node_call call = { .method = "DELETE", .path = path };
    if ((code = node_open(args, true, &node, error)) != TWINLEASE_OK ||
        (code = node_json(&node, &call, &answer, error)) != TWINLEASE_OK)
        return code;
    struct json_object *document = json_object_new_object();
    put_text(document, "deleted", ref);
    output_line(out, "Deleted %s, with its leases.", ref);
    output_document(out, document);
    return TWINLEASE_OK;
}

enum twinlease_code origin_delete(const struct args *args, struct output *out,
                                  struct twinlease_error *error)
{
    bool all = args_has(args, "all");

    if (all == (args->operand_count == 1))
        return fault_set(error, TWINLEASE_USAGE,
                         "name one ORIGIN_REF (`twinlease origins` lists "
                         "them), or say --all");
    return all ? delete_all(args, out, error) : delete_one(args, out, error);
}

/* ---- config ------------------------------------------------------------------------------ */

static void print_setting(const struct output *out, const char *name, struct json_object *setting)
{
    struct json_object *value = NULL;

    json_object_object_get_ex(setting, "value", &value);
    output_line(out, "%-24s %s  (%s)", name,
                json_object_is_type(value, json_type_string) ? json_object_get_string(value)
                : value ? json_object_to_json_string_ext(value, JSON_C_TO_STRING_NOSLASHESCAPE)
                        : "-",
                get_text(setting, "source"));
}

enum twinlease_code node_config(const struct args *args, struct output *out,
                                struct twinlease_error *error)
{
    const struct node_call call = { .method = "GET", .path = "/-/config" };
    AUTO(json_object_put) struct json_object *answer = NULL;
    AUTO(node_fini) struct node node = { 0 };
    enum twinlease_code code;

    if ((code = node_open(args, true, &node, error)) != TWINLEASE_OK ||
        (code = node_json(&node, &call, &answer, error)) != TWINLEASE_OK)
        return code;
    json_object_object_foreach(answer, name, setting)
    {
        print_setting(out, name, setting);
    }
    output_document(out, TAKE(answer));
    return TWINLEASE_OK;
}
