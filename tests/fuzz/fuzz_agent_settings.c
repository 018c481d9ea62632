/* The agent's settings file: any bytes are either taken or refused with one line. */
#include "../../client/agent/settings.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(agent_settings_free) struct agent_settings *settings = NULL;
    struct diag diag = { "" };

    if (size > SETTINGS_FILE_SIZE_MAX)
        return 0;
    enum err e = agent_settings_parse((const char *)data, size, NULL, &settings, &diag);
    must((e == ERR_OK) == (settings != NULL));
    must((e == ERR_OK) == (diag.text[0] == '\0'));
    if (!settings)
        return 0;
    must(settings->features.count <= AGENT_FEATURES_MAX);
    for (size_t i = 0; i < settings->features.count; i++) {
        must(feature_name_valid(settings->features.items[i].feature));
        must(settings->features.items[i].count >= 1);
    }
    return 0;
}
