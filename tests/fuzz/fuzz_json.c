/* JSON: what the scanner lets through is what json-c reads, and comes out the same when written. */
#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_everything(struct json_object *value)
{
    struct diag diag = { "" };
    struct json_reader r;
    struct json_object *object;
    const char *text;
    struct uuid uuid;
    int64_t number;
    double ratio;
    bool flag;

    json_reader_init(&r, value, "", &diag);
    json_read_string(&r, "s", false, 10, &text);
    json_read_uuid(&r, "u", false, &uuid);
    json_read_int(&r, "i", false, -5, INT64_MAX, &number);
    json_read_number(&r, "n", false, 0, 1e9, &ratio);
    json_read_bool(&r, "b", false, &flag);
    json_read_object(&r, "o", false, &object);
    json_read_array(&r, "a", false, 3, &object);
    must((json_reader_end(&r) == ERR_OK) == (diag.text[0] == '\0'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(json_object_put) struct json_object *value = NULL, *again = NULL;
    struct diag diag = { "" };

    enum err e = json_parse((const char *)data, size, &value, &diag);
    must((e == ERR_OK) == (diag.text[0] == '\0'));
    if (e != ERR_OK) {
        must(e == ERR_BAD_JSON && !value);
        return 0;
    }
    read_everything(value);
    size_t length;
    const char *text = json_object_to_json_string_length(value, JSON_C_TO_STRING_PLAIN, &length);
    must(json_parse(text, length, &again, &diag) == ERR_OK);
    must(json_object_equal(value, again));
    return 0;
}
