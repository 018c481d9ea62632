/* Bodies of the client API: whatever comes in, either one of the readers takes it and what it read
 * keeps its promises, or the refusal says why. */
#include "http/client_body.h"

static void check_grant(struct json_object *body)
{
    struct grant_item *items = NULL;
    struct diag diag = { "" };
    size_t count = 0;

    if (grant_body_read(body, &items, &count, &diag) != ERR_OK) {
        must(diag.text[0] && !items);
        return;
    }
    must(count >= 1 && count <= LEASE_ITEMS_MAX);
    for (size_t i = 0; i < count; i++) {
        must(items[i].count >= 1 && items[i].count <= ENTITLEMENT_SEATS_MAX);
        must(items[i].duration_ms >= 0 && items[i].duration_ms <= LEASE_SECONDS_MAX * 1000LL);
        must(items[i].by_feature == (items[i].feature[0] != '\0'));
        must(items[i].by_feature == uuid_is_nil(&items[i].scope_ref));
        must(!uuid_is_nil(&items[i].lease_ref));
    }
    mem_free(items);
}

static void check_enrol(struct json_object *body)
{
    struct enrol_body read = { .environment = NULL };
    struct diag diag = { "" };

    if (enrol_body_read(body, &read, &diag) != ERR_OK) {
        must(diag.text[0]);
        return;
    }
    if (read.environment) { /* what is stored must be read again */
        struct json_object *again = NULL;
        must(strlen(read.environment) <= ENVIRONMENT_MAX);
        must(json_parse(read.environment, strlen(read.environment), &again, &diag) == ERR_OK);
        json_object_put(again);
    }
    mem_free(read.environment);
}

static void check_others(struct json_object *body)
{
    struct code_body code;
    struct token_body token;
    const char *lease_token = NULL;
    struct diag diag = { "" };

    if (code_body_read(body, &code, &diag) == ERR_OK)
        must(strlen(code.code_challenge) == CODE_CHALLENGE_LENGTH);
    if (token_body_read(body, &token, &diag) == ERR_OK)
        must(token.auth_code && token.code_verifier);
    if (lease_token_body_read(body, &lease_token, &diag) != ERR_OK)
        must(!lease_token);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(json_object_put) struct json_object *body = NULL;
    struct diag diag = { "" };

    if (json_parse((const char *)data, size, &body, &diag) != ERR_OK) {
        must(diag.text[0]);
        return 0;
    }
    check_grant(body);
    check_enrol(body);
    check_others(body);
    return 0;
}
