/* The configuration file's parser: any bytes are either taken or refused with one line. */
#include "../../node/config.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config *config = NULL;
    struct diag diag = { "" };
    const struct settings_input input = { "fuzz", (const char *)data, size, NULL };

    if (size > SETTINGS_FILE_SIZE_MAX)
        return 0;
    enum err e = config_build(&input, &config, &diag);
    must((e == ERR_OK) == (config != NULL));
    must((e == ERR_OK) == (diag.text[0] == '\0'));
    if (config) {
        struct json_object *json = config_json(config);
        must(json_object_to_json_string(json) != NULL);
        json_object_put(json);
    }
    config_free(config);
    return 0;
}
