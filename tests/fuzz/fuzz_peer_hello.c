/* The small documents of the pair: any bytes. What is taken can be encoded again, and then says the
 * same. */
#include "replication/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void hello_again(const struct peer_hello *hello)
{
    AUTO(buf_fini) struct buf first = { .max = PEER_SMALL_MAX };
    AUTO(buf_fini) struct buf second = { .max = PEER_SMALL_MAX };
    struct peer_hello again;

    peer_hello_encode(hello, &first);
    must(buf_ok(&first));
    must(peer_hello_decode(first.bytes, first.length, &again, NULL) == ERR_OK);
    peer_hello_encode(&again, &second);
    must(strcmp(first.bytes, second.bytes) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    struct diag diag = { "" };
    struct peer_hello hello;
    struct peer_credits credits;
    struct peer_problem problem;

    enum err e = peer_hello_decode(text, size, &hello, &diag);
    must((e == ERR_OK) == (diag.text[0] == '\0'));
    if (e == ERR_OK)
        hello_again(&hello);
    if (peer_credits_decode(text, size, &credits, NULL) == ERR_OK)
        must(credits.count >= 0 && !uuid_is_nil(&credits.scope_ref));
    if (peer_problem_decode(text, size, &problem, NULL) == ERR_OK) {
        must(problem.err != ERR_OK && problem.err < ERR_COUNT);
        if (problem.introduced)
            hello_again(&problem.hello);
    }
    return 0;
}
