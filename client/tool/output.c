#include "output.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/json.h"
#include "program.h"

void output_clean(char *text)
{
    unsigned char *p = (unsigned char *)text;

    for (; *p; p++) {
        if (*p < 0x20 || *p == 0x7f)
            *p = '?';
        else if (p[0] == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f)
            p[0] = p[1] = '?';
    }
}

void output_line(const struct output *out, const char *format, ...)
{
    AUTO(mem_free) char *text = NULL;
    va_list args;

    if (out->json)
        return;
    va_start(args, format);
    int length = vasprintf(&text, format, args);
    va_end(args);
    must(length >= 0);
    output_clean(text);
    puts(text);
}

void output_raw(struct output *out, const char *text)
{
    out->printed = true;
    if (out->json)
        fputs(text, stdout);
}

void output_document(struct output *out, struct json_object *document)
{
    out->printed = true;
    if (out->json)
        puts(json_object_to_json_string_ext(document, JSON_C_TO_STRING_PRETTY |
                                                          JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(document);
}

struct json_object *event_new(const char *name)
{
    struct json_object *event = json_object_new_object();

    put_instant(event, "time", wall_now().ms);
    put_text(event, "event", name);
    return event;
}

/* In one call, so that lines of several processes do not mix. */
static void print_event(struct json_object *event)
{
    fprintf(stderr, "%s\n",
            json_object_to_json_string_ext(event, JSON_C_TO_STRING_PLAIN |
                                                      JSON_C_TO_STRING_NOSLASHESCAPE));
}

void output_event(const struct output *out, struct json_object *event, const char *format, ...)
{
    AUTO(mem_free) char *text = NULL;
    va_list args;

    if (out->json)
        print_event(event);
    json_object_put(event);
    if (out->json || !format)
        return;
    va_start(args, format);
    int length = vasprintf(&text, format, args);
    va_end(args);
    must(length >= 0);
    output_clean(text);
    fprintf(stderr, "twinlease: %s\n", text);
}

static struct json_object *error_body(const struct output *out, const struct twinlease_error *error)
{
    struct json_object *body = json_object_new_object();

    const char *name = program_code_name(out->exit_code);

    put_text(body, "code", name ? name : twinlease_code_name(error->code));
    put_int(body, "exit_code", out->exit_code ? out->exit_code : (int)error->code);
    put_text(body, "message", error->message);
    if (error->link)
        put_text(body, "link", twinlease_link_name(error->link));
    if (error->http_status)
        put_int(body, "http_status", error->http_status);
    if (*error->problem)
        put_text(body, "problem", error->problem);
    if (*error->request_id)
        put_text(body, "request_id", error->request_id);
    if (error->seats >= 0)
        put_int(body, "seats", error->seats);
    if (error->seats_used >= 0)
        put_int(body, "seats_used", error->seats_used);
    if (error->next_seat_ms)
        put_instant(body, "next_seat", error->next_seat_ms);
    return body;
}

void output_error(struct output *out, const struct twinlease_error *error)
{
    struct twinlease_error shown = *error;

    output_clean(shown.message);
    if (out->aside && out->json) {
        struct json_object *event = event_new("failed");
        json_object_object_add(event, "error", error_body(out, error));
        output_event(out, event, NULL);
        return;
    }
    if (!out->printed) {
        struct json_object *document = json_object_new_object();
        json_object_object_add(document, "error", error_body(out, error));
        output_document(out, document);
    }
    fflush(stdout);
    fprintf(stderr, "twinlease: %s\n", shown.message);
}

void output_warning(void *context, const char *sentence)
{
    const struct output *out = context;
    struct diag diag;

    if (out && out->aside && out->json) {
        struct json_object *event = event_new("warning");
        put_text(event, "message", sentence);
        output_event(out, event, NULL);
        return;
    }
    diag_set(&diag, ERR_OK, "%s", sentence);
    output_clean(diag.text);
    fprintf(stderr, "twinlease: warning: %s\n", diag.text);
}

bool output_flush(void)
{
    return fflush(stdout) == 0 && !ferror(stdout);
}

/* ---- members ----------------------------------------------------------------------------- */

static struct json_object *find_member(struct json_object *object, const char *path,
                                       enum json_type type)
{
    struct json_object *at = object;

    while (*path) {
        char name[64];
        size_t length = strcspn(path, ".");
        must(length < sizeof name);
        memcpy(name, path, length);
        name[length] = '\0';
        if (!json_object_is_type(at, json_type_object) || !json_object_object_get_ex(at, name, &at))
            return NULL;
        path += length;
        path += *path == '.';
    }
    return json_object_is_type(at, type) ? at : NULL;
}

const char *get_text(struct json_object *object, const char *path)
{
    struct json_object *value = find_member(object, path, json_type_string);

    return value ? json_object_get_string(value) : "";
}

int64_t get_int(struct json_object *object, const char *path)
{
    struct json_object *value = find_member(object, path, json_type_int);

    return value ? json_object_get_int64(value) : 0;
}

bool get_bool(struct json_object *object, const char *path)
{
    struct json_object *value = find_member(object, path, json_type_boolean);

    return value && json_object_get_boolean(value);
}

struct json_object *get_list(struct json_object *object, const char *name)
{
    return find_member(object, name, json_type_array);
}

size_t list_count(struct json_object *list)
{
    return list ? json_object_array_length(list) : 0;
}

void when_format(int64_t ms, char out[WHEN_SIZE])
{
    char text[RFC3339_SIZE];

    rfc3339_format(ms, text);
    memcpy(out, text, 19);
    memcpy(out + 19, "Z", 2);
}

const char *plural(int64_t count)
{
    return count == 1 ? "seat" : "seats";
}
