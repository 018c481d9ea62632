/* The agent's status file: whoever may write it must not bring down those who read it. */
#include "../../client/agent/status.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(agent_status_fini) struct agent_status status = { .features = NULL };
    struct twinlease_error error;
    struct diag diag = { "" };

    if (agent_status_parse((const char *)data, size, &status, &diag) != ERR_OK) {
        must(diag.text[0] != '\0');
        return 0;
    }
    for (size_t i = 0; i < status.feature_count; i++) {
        enum twinlease_code code = agent_status_judge(&status, &status.features[i], status.boot_id,
                                                      status.written, &error);
        must(code == TWINLEASE_OK || error.code == code);
    }
    return 0;
}
