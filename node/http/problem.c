#include "http/problem.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "http/escape.h"

int problem_status(const struct problem *problem)
{
    return problem->status ? problem->status : err_info(problem->err)->http;
}

int64_t problem_retry_seconds(const struct problem *problem)
{
    const struct scope_view *scope = problem->denial;

    if (!err_info(problem->err)->retry)
        return problem_status(problem) == 503 ? RETRY_SECONDS_MAX : 0;
    if (!scope)
        return problem_status(problem) == 503 ? RETRY_UNAVAILABLE_SECONDS : RETRY_DENIAL_SECONDS;
    if (scope->next_back_ms == 0)
        return RETRY_DENIAL_SECONDS;
    int64_t seconds = (scope->next_back_ms - problem->now_ms + 999) / 1000;
    return seconds < 1 ? 1 : seconds > RETRY_SECONDS_MAX ? RETRY_SECONDS_MAX : seconds;
}

static void denial_write(const struct problem *problem, struct buf *out)
{
    const struct scope_view *scope = problem->denial;
    char ref[UUID_TEXT_SIZE], next[RFC3339_SIZE], until[RFC3339_SIZE];

    uuid_format(&scope->scope_ref, ref);
    buf_format(out,
               ",\"scope_ref\":\"%s\",\"feature\":\"%s\",\"seats\":%" PRId64 ",\"used\":%" PRId64
               ",\"free_here\":%" PRId64 ",\"at_peer\":%" PRId64 ",\"pending\":%" PRId64
               ",\"waiting\":%" PRId64 ",\"locked\":%" PRId64,
               ref, scope->feature, scope->seats, scope->used, scope->free_here, scope->at_peer,
               scope->pending, scope->waiting, scope->locked);
    if (scope->locked_until_ms) { /* R10 */
        rfc3339_format(scope->locked_until_ms, until);
        buf_format(out, ",\"locked_until\":\"%s\"", until);
    }
    if (problem->peer_state)
        buf_format(out, ",\"peer_state\":\"%s\"", problem->peer_state);
    if (scope->next_back_ms == 0)
        return;
    rfc3339_format(scope->next_back_ms, next);
    buf_format(out, ",\"next_expected\":\"%s\"", next);
}

void problem_write(const struct problem *problem, struct buf *out)
{
    const struct err_info *info = err_info(problem->err);
    int64_t retry = problem_retry_seconds(problem);

    buf_format(out, "{\"type\":\"" PROBLEM_TYPE "%s\",\"title\":\"%s\",\"status\":%d", info->code,
               info->title, problem_status(problem));
    if (problem->detail[0]) {
        buf_text_append(out, ",\"detail\":");
        json_string_append(out, problem->detail, strlen(problem->detail));
    }
    buf_format(out, ",\"code\":\"%s\",\"request_id\":\"%s\"", info->code, problem->request_id);
    if (problem->denial)
        denial_write(problem, out);
    if (problem->member)
        buf_format(out, ",\"%s\":%s", problem->member, problem->json);
    if (retry)
        buf_format(out, ",\"retry_after\":%" PRId64, retry);
    buf_text_append(out, "}");
    must(buf_ok(out));
}
