/* The configuration file's parser: any bytes are either taken or refused with one line. */
#include "../../node/config.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config *config = NULL;
    struct diag diag = { "" };
    AUTO(gathering_fini) struct gathering g = { .file = "fuzz", .diag = &diag };

    if (size > CONFIG_FILE_SIZE_MAX)
        return 0;
    enum err e = file_parse(&g, (const char *)data, size);
    if (e == ERR_OK)
        e = config_build(&g, &config);
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
