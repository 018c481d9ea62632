/* What a compiler makes of twinlease.h, for those who must know without one: each struct that a
 * program sees with its size and its members' offsets and sizes, and each value. */
#include <stddef.h>
#include <stdio.h>

#include "twinlease.h"

#define STRUCT(type) printf("struct " #type " %zu\n", sizeof(struct twinlease_##type))
#define MEMBER(type, name)                                                                         \
    printf("member " #type " " #name " %zu %zu\n", offsetof(struct twinlease_##type, name),        \
           sizeof(((struct twinlease_##type *)NULL)->name))
#define VALUE(name) printf("value " #name " %lld\n", (long long)TWINLEASE_##name)

static void print_outcomes(void)
{
#define X(name, value, text, meaning) printf("code " #name " %d\n", value);
    TWINLEASE_CODES(X)
#undef X
    VALUE(LINK_NONE);
    VALUE(LINK_PUBLISHER);
    VALUE(LINK_ENTITLEMENT);
    VALUE(LINK_INSTANCE);
    VALUE(LINK_LEASE);
    VALUE(LINK_TIME);
    STRUCT(error);
    MEMBER(error, code);
    MEMBER(error, link);
    MEMBER(error, http_status);
    MEMBER(error, problem);
    MEMBER(error, request_id);
    MEMBER(error, seats);
    MEMBER(error, seats_used);
    MEMBER(error, next_seat_ms);
    MEMBER(error, message);
    MEMBER(error, reserved);
}

static void print_handle(void)
{
    VALUE(STATE_REQUIRED);
    STRUCT(options);
    MEMBER(options, size);
    MEMBER(options, token_path);
    MEMBER(options, state_dir);
    MEMBER(options, instance_thumbprint);
    MEMBER(options, flags);
    MEMBER(options, connect_ms);
    MEMBER(options, attempt_ms);
    MEMBER(options, deadline_ms);
    MEMBER(options, warning);
    MEMBER(options, warning_context);
    MEMBER(options, retry_ms);
}

static void print_leases(void)
{
    VALUE(ACQUIRE_ANOTHER);
    VALUE(ACQUIRE_GRACE);
    STRUCT(waiting);
    MEMBER(waiting, size);
    MEMBER(waiting, why);
    MEMBER(waiting, waited_ms);
    MEMBER(waiting, left_ms);
    MEMBER(waiting, next_try_ms);
    STRUCT(acquire_options);
    MEMBER(acquire_options, size);
    MEMBER(acquire_options, count);
    MEMBER(acquire_options, duration_seconds);
    MEMBER(acquire_options, scope_ref);
    MEMBER(acquire_options, flags);
    MEMBER(acquire_options, wait_ms);
    MEMBER(acquire_options, waiting);
    MEMBER(acquire_options, waiting_context);
}

static void print_keepers(void)
{
    VALUE(EVENT_ACQUIRED);
    VALUE(EVENT_RENEWED);
    VALUE(EVENT_TROUBLE);
    VALUE(EVENT_LOST);
    VALUE(EVENT_DENIED);
    VALUE(KEEP_ONCE);
    VALUE(KEEP_GRACE);
    VALUE(STOP_LEASED);
    STRUCT(change);
    MEMBER(change, size);
    MEMBER(change, event);
    MEMBER(change, lease);
    MEMBER(change, error);
    MEMBER(change, next_try_ms);
    STRUCT(keep_options);
    MEMBER(keep_options, size);
    MEMBER(keep_options, count);
    MEMBER(keep_options, duration_seconds);
    MEMBER(keep_options, scope_ref);
    MEMBER(keep_options, flags);
    MEMBER(keep_options, lease);
    MEMBER(keep_options, changed);
    MEMBER(keep_options, context);
}

static void print_kept(void)
{
    STRUCT(kept);
    MEMBER(kept, size);
    MEMBER(kept, held);
    MEMBER(kept, count);
    MEMBER(kept, acquired_ms);
    MEMBER(kept, expires_ms);
    MEMBER(kept, expires_in_ms);
    MEMBER(kept, renew_in_ms);
    MEMBER(kept, next_try_ms);
    MEMBER(kept, feature);
    MEMBER(kept, lease_ref);
    MEMBER(kept, scope_ref);
    MEMBER(kept, home);
    MEMBER(kept, error);
    MEMBER(kept, reserved);
}

static void print_proof(void)
{
    STRUCT(verify_options);
    MEMBER(verify_options, size);
    MEMBER(verify_options, publisher_key_pem);
    MEMBER(verify_options, entitlement);
    MEMBER(verify_options, lease_token);
    MEMBER(verify_options, instance_jwks);
    MEMBER(verify_options, feature);
    MEMBER(verify_options, count_min);
    MEMBER(verify_options, now_ms);
    MEMBER(verify_options, tolerance_seconds);
}

int main(void)
{
    print_outcomes();
    print_handle();
    print_leases();
    print_keepers();
    print_kept();
    print_proof();
    return 0;
}
