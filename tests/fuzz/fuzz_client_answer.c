/* libtwinlease's reader of answers. First byte: which call; second: status and content type. */
#include "answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const int statuses[] = { 200, 201, 204, 301, 400, 401, 404, 409, 410, 500, 503 };
static const char *const types[] = { "application/json", "application/problem+json",
                                     "application/json; charset=utf-8", "text/html", "" };

static void read_leases(const struct answer *answer, struct json_object *body, const char *member,
                        struct twinlease_error *error)
{
    struct lease_facts *leases = NULL;
    size_t count = 0;

    if (answer_leases(answer, body, member, 1000, &leases, &count, error) != TWINLEASE_OK)
        return;
    must(count <= 1000);
    for (size_t i = 0; i < count; i++) {
        must(leases[i].count > 0 && leases[i].lasts_ms >= 0 && leases[i].token[0]);
        lease_facts_fini(&leases[i]);
    }
    mem_free(leases);
}

static void read_value(unsigned kind, const struct answer *answer, struct json_object *body,
                       struct twinlease_error *error)
{
    AUTO(lease_facts_fini) struct lease_facts facts = { .count = 0 };
    struct answer_ticket ticket = { .text = NULL };
    struct answer_origin origin;

    (void)answer_sync_ms(body);
    switch (kind % 5) {
    case 0:
        if (answer_origin(answer, body, &origin, error) == TWINLEASE_OK)
            must(origin.secret[0]);
        break;
    case 1:
        if (answer_ticket(answer, body, "auth_token", &ticket, error) == TWINLEASE_OK)
            must(ticket.text[0] && ticket.lifetime_ms >= 0);
        mem_free(ticket.text);
        break;
    case 2:
        (void)!answer_lease(answer, body, &facts, error);
        break;
    case 3:
        read_leases(answer, body, "lease_result_list", error);
        break;
    default:
        read_leases(answer, body, "active_lease_list", error);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(json_object_put) struct json_object *body = NULL;
    struct twinlease_error error;

    if (size < 2)
        return 0;
    const struct answer answer = {
        .from = "https://node",
        .status = statuses[data[1] % ARRAY_SIZE(statuses)],
        .content_type = types[data[1] / 16 % ARRAY_SIZE(types)],
        .request_id = "id",
        .body = (const char *)data + 2,
        .length = size - 2,
    };
    fault_clear(&error);
    enum twinlease_code code = answer_read(&answer, &body, &error);
    must(code == error.code && (code == TWINLEASE_OK || (!body && error.message[0])));
    if (body)
        read_value(data[0], &answer, body, &error);
    (void)answer_is_local(&error);
    return 0;
}
