/* libtwinlease against a fake node: the flow from a .tok file to a lease, what survives a restart,
 * and what becomes of calls when nodes misbehave. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "client_world.h"

/* ---- the flow -------------------------------------------------------------------------------- */

static void first_lease_enrols_and_proves(void **state)
{
    struct world *w = *state;
    struct fake_licences *node = &w->licences[0];
    struct twinlease *handle;

    start_nodes(w, 1);
    handle = open_world(w);
    struct twinlease_lease *lease = acquire(handle);
    assert_int_equal(node->enrols, 1);
    assert_int_equal(node->codes, 1);
    assert_int_equal(node->tokens, 1);
    assert_int_equal(node->grants, 1);
    assert_string_equal(node->last_bearer, "auth_token-1");
    assert_string_equal(twinlease_lease_ref(lease), node->last_lease);
    assert_string_equal(twinlease_lease_feature(lease), "render");
    assert_int_equal(twinlease_lease_count(lease), 1);
    assert_int_equal(twinlease_lease_resumed(lease), 0);
    assert_in_range(twinlease_lease_expires_in_ms(lease), 3590000, 3600000);
    assert_in_range(twinlease_lease_renew_in_ms(lease), 890000, 900000);
    assert_int_equal(twinlease_renew(handle, lease, &error), TWINLEASE_OK);
    assert_int_equal(node->renewals, 1);
    assert_non_null(strstr(node->last_body, "\"lease_token\":\"token-of-"));
    assert_int_equal(twinlease_release(handle, lease, &error), TWINLEASE_OK);
    assert_int_equal(node->releases, 1);
    assert_int_equal(twinlease_lease_expires_in_ms(lease), 0);
    assert_int_equal(node->tokens, 1); /* one auth token did for all */
    twinlease_lease_free(lease);
    twinlease_close(handle);
    assert_int_equal(w->warnings, 0);
}

static void request_says_what_was_asked(void **state)
{
    struct twinlease_acquire_options options = TWINLEASE_ACQUIRE_OPTIONS_INIT;
    struct twinlease_lease *lease = NULL;
    struct world *w = *state;

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    options.count = 2;
    options.duration_seconds = 77;
    options.scope_ref = "10000000-0000-4000-8000-0000000000BB";
    assert_int_equal(twinlease_acquire(handle, "render", &options, &lease, &error), TWINLEASE_OK);
    assert_non_null(strstr(w->licences[0].last_body,
                           "\"scope_ref\":\"10000000-0000-4000-8000-0000000000bb\",\"count\":2,"
                           "\"duration_seconds\":77,\"candidate_lease_ref\":\""));
    twinlease_lease_free(lease);
    twinlease_close(handle);
}

static void arguments_are_checked(void **state)
{
    struct world *w = *state;
    struct twinlease_acquire_options options = TWINLEASE_ACQUIRE_OPTIONS_INIT;
    struct twinlease_lease *lease = NULL;

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    static const char *const names[] = { "", "a b", "-x", "a\"b", NULL };
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(twinlease_acquire(handle, names[i], NULL, &lease, &error),
                         TWINLEASE_USAGE);
    options.count = -1;
    assert_int_equal(twinlease_acquire(handle, "render", &options, &lease, &error),
                     TWINLEASE_USAGE);
    options.count = 0;
    options.flags = 1u << 30;
    assert_int_equal(twinlease_acquire(handle, "render", &options, &lease, &error),
                     TWINLEASE_USAGE);
    options.flags = 0;
    options.scope_ref = "no-uuid";
    assert_int_equal(twinlease_acquire(handle, "render", &options, &lease, NULL), TWINLEASE_USAGE);
    assert_int_equal(w->licences[0].enrols, 0); /* nobody was asked */
    twinlease_close(handle);
}

static void newer_options_are_refused_only_if_used(void **state)
{
    struct world *w = *state;
    struct {
        struct twinlease_options now;
        int64_t later;
    } options;
    struct twinlease *handle = NULL;

    start_nodes(w, 1);
    memset(&options, 0, sizeof options);
    options.now = options_of(w);
    options.now.size = sizeof options;
    assert_int_equal(twinlease_open(&options.now, &handle, &error), TWINLEASE_OK);
    twinlease_close(handle);
    options.later = 1;
    assert_int_equal(twinlease_open(&options.now, &handle, &error), TWINLEASE_USAGE);
    options.now.size = 3;
    assert_int_equal(twinlease_open(&options.now, &handle, &error), TWINLEASE_USAGE);
}

static void list_shows_what_the_node_knows(void **state)
{
    struct world *w = *state;
    struct twinlease_list *list = NULL;

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    assert_int_equal(twinlease_list(handle, &list, &error), TWINLEASE_OK);
    assert_int_equal(twinlease_list_count(list), 0);
    assert_int_equal(w->licences[0].lists, 0); /* never enrolled: nobody to ask */
    twinlease_list_free(list);
    struct twinlease_lease *lease = acquire(handle);
    assert_int_equal(twinlease_list(handle, &list, &error), TWINLEASE_OK);
    assert_int_equal(twinlease_list_count(list), 1);
    assert_string_equal(twinlease_lease_ref(twinlease_list_at(list, 0)),
                        twinlease_lease_ref(lease));
    assert_null(twinlease_list_at(list, 1));
    twinlease_list_free(list);
    twinlease_lease_free(lease);
    twinlease_close(handle);
}

/* ---- what survives --------------------------------------------------------------------------- */

static void restart_finds_its_lease(void **state)
{
    struct world *w = *state;
    char ref[64];

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    struct twinlease_lease *lease = acquire(handle);
    snprintf(ref, sizeof ref, "%s", twinlease_lease_ref(lease));
    twinlease_lease_free(lease);
    twinlease_close(handle);

    handle = open_world(w);
    lease = acquire(handle);
    assert_string_equal(twinlease_lease_ref(lease), ref);
    assert_int_equal(twinlease_lease_resumed(lease), 1);
    assert_int_equal(w->licences[0].enrols, 1);
    assert_int_equal(w->licences[0].grants, 1);
    assert_int_equal(w->licences[0].renewals, 1);
    twinlease_lease_free(lease);
    twinlease_close(handle);
}

static void lease_in_use_is_not_given_twice(void **state)
{
    struct world *w = *state;

    start_nodes(w, 1);
    struct twinlease *one = open_world(w), *two = open_world(w);
    struct twinlease_lease *first = acquire(one), *second = acquire(two), *third = acquire(one);
    assert_string_not_equal(twinlease_lease_ref(first), twinlease_lease_ref(second));
    assert_string_not_equal(twinlease_lease_ref(first), twinlease_lease_ref(third));
    assert_string_not_equal(twinlease_lease_ref(second), twinlease_lease_ref(third));
    assert_int_equal(w->licences[0].grants, 3);
    assert_int_equal(w->licences[0].enrols, 1); /* one machine, one folder: one origin */
    twinlease_lease_free(first);
    first = acquire(two); /* free to be found again */
    assert_int_equal(twinlease_lease_resumed(first), 1);
    twinlease_close(one);
    twinlease_close(two);
    twinlease_lease_free(first); /* after the handles: allowed */
    twinlease_lease_free(second);
    twinlease_lease_free(third);
}

static void claim_ends_with_the_process(void **state)
{
    struct world *w = *state;
    int status, ready[2];
    char byte;

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    twinlease_lease_free(acquire(handle)); /* enrolled, one lease recorded */
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) { /* takes the lease, and is killed with it */
        struct twinlease_lease *taken = acquire(open_world(w));
        (void)!write(ready[1], twinlease_lease_resumed(taken) ? "r" : "n", 1);
        pause();
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(byte, 'r');
    struct twinlease_lease *other = acquire(handle);
    assert_int_equal(twinlease_lease_resumed(other), 0);
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    struct twinlease_lease *again = acquire(handle);
    assert_int_equal(twinlease_lease_resumed(again), 1);
    assert_int_equal(w->licences[0].grants, 2);
    twinlease_lease_free(other);
    twinlease_lease_free(again);
    twinlease_close(handle);
    close(ready[0]);
    close(ready[1]);
}

static void lost_answer_takes_no_second_seat(void **state)
{
    struct world *w = *state;
    struct fake_licences *node = &w->licences[0];

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    fake_licences_refuse(node, "/v1/leases", 1, 200, NULL);
    node->trick = FAKE_CLOSE;
    assert_acquire_fails(handle, TWINLEASE_NO_NODE);
    char asked[4096];
    snprintf(asked, sizeof asked, "%s", node->last_body);
    twinlease_close(handle); /* even a restart remembers what it asked for */
    handle = open_world(w);
    struct twinlease_lease *lease = acquire(handle);
    assert_string_equal(node->last_body, asked);
    assert_non_null(strstr(asked, twinlease_lease_ref(lease)));
    twinlease_lease_free(lease);
    twinlease_close(handle);
}

static void denial_leaves_nothing_behind(void **state)
{
    struct world *w = *state;
    struct twinlease_list *list = NULL;
    char asked[4096];

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    fake_licences_refuse(&w->licences[0], "/v1/leases", 1, 409, "no_free_seat");
    assert_acquire_fails(handle, TWINLEASE_NO_SEAT);
    assert_string_equal(error.problem, "no_free_seat");
    assert_int_equal(error.http_status, 409);
    assert_string_equal(error.request_id, "fake-1");
    snprintf(asked, sizeof asked, "%s", w->licences[0].last_body);
    assert_int_equal(twinlease_recorded(handle, &list, &error), TWINLEASE_OK);
    assert_int_equal(twinlease_list_count(list), 0);
    twinlease_list_free(list);
    twinlease_lease_free(acquire(handle));
    assert_string_not_equal(w->licences[0].last_body, asked); /* a new reference */
    twinlease_close(handle);
}

static void lease_that_ended_is_replaced(void **state)
{
    struct world *w = *state;

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    struct twinlease_lease *lease = acquire(handle);
    fake_licences_refuse(&w->licences[0], "/v1/leases/", 1, 410, "lease_ended");
    assert_int_equal(twinlease_renew(handle, lease, &error), TWINLEASE_LEASE_LOST);
    assert_int_equal(twinlease_lease_expires_in_ms(lease), 0);
    twinlease_lease_free(lease);
    lease = acquire(handle);
    twinlease_lease_free(lease);
    fake_licences_refuse(&w->licences[0], "/v1/leases/", 1, 410, "lease_ended");
    lease = acquire(handle); /* finds out by itself that the recorded one is over */
    assert_int_equal(twinlease_lease_resumed(lease), 0);
    assert_int_equal(w->licences[0].grants, 3);
    fake_licences_refuse(&w->licences[0], "/v1/leases/", 1, 410, "lease_ended");
    assert_int_equal(twinlease_release(handle, lease, &error), TWINLEASE_OK);
    twinlease_lease_free(lease);
    twinlease_close(handle);
}

static void state_that_cannot_be_written(void **state)
{
    struct world *w = *state;
    struct twinlease_options options = options_of(w);

    start_nodes(w, 1);
    options.state_dir = w->tok_path; /* a file where a folder should be */
    struct twinlease *handle = open_with(&options);
    assert_int_equal(w->warnings, 1);
    assert_non_null(strstr(w->warning, "restart may take new seats"));
    struct twinlease_lease *lease = acquire(handle), *another = acquire(handle);
    assert_int_equal(w->licences[0].enrols, 1);
    assert_int_equal(w->licences[0].grants, 2);
    twinlease_lease_free(lease);
    lease = acquire(handle); /* remembered as long as the handle lives */
    assert_int_equal(twinlease_lease_resumed(lease), 1);
    twinlease_lease_free(lease);
    twinlease_lease_free(another);
    twinlease_close(handle);
    options.flags = TWINLEASE_STATE_REQUIRED;
    assert_int_equal(twinlease_open(&options, &handle, &error), TWINLEASE_STATE);
    assert_non_null(strstr(error.message, w->tok_path));
}

/* ---- authentication -------------------------------------------------------------------------- */

static void expired_token_is_renewed_once(void **state)
{
    struct world *w = *state;
    struct fake_licences *node = &w->licences[0];

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    fake_licences_refuse(node, "/v1/leases", 1, 401, "token_expired");
    twinlease_lease_free(acquire(handle));
    assert_int_equal(node->enrols, 1);
    assert_int_equal(node->tokens, 2);
    assert_string_equal(node->last_bearer, "auth_token-2");
    fake_licences_refuse(node, "/v1/leases", 100, 401, "token_expired");
    assert_acquire_fails(handle, TWINLEASE_NOT_AUTHORISED);
    assert_in_range(node->tokens, 3, 5); /* and then it gave up */
    twinlease_close(handle);
}

static void short_lived_tokens_are_not_used_to_the_end(void **state)
{
    struct world *w = *state;

    start_nodes(w, 1);
    w->licences[0].token_lives_ms = 1; /* over before it can be used */
    struct twinlease *handle = open_world(w);
    assert_acquire_fails(handle, TWINLEASE_BAD_ANSWER);
    w->licences[0].token_lives_ms = 60000;
    twinlease_lease_free(acquire(handle));
    twinlease_close(handle);
}

static void deleted_origin_enrols_anew(void **state)
{
    struct world *w = *state;
    struct fake_licences *node = &w->licences[0];

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    struct twinlease_lease *lease = acquire(handle);
    fake_licences_refuse(node, "/v1/leases", 1, 401, "origin_deleted");
    assert_int_equal(twinlease_renew(handle, lease, &error), TWINLEASE_LEASE_LOST);
    assert_int_equal(node->enrols, 1); /* renewing never enrols */
    twinlease_lease_free(lease);
    fake_licences_refuse(node, "/v1/auth/code", 1, 401, "origin_deleted");
    lease = acquire(handle);
    assert_int_equal(node->enrols, 2);
    twinlease_lease_free(lease);
    twinlease_close(handle);
    handle = open_world(w); /* the new origin is the one that was stored */
    twinlease_lease_free(acquire(handle));
    assert_int_equal(node->enrols, 2);
    twinlease_close(handle);
}

static void refused_enrolment_says_what_to_do(void **state)
{
    struct world *w = *state;

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    fake_licences_refuse(&w->licences[0], "/v1/origins", 100, 401, "token_invalid");
    assert_acquire_fails(handle, TWINLEASE_NOT_AUTHORISED);
    assert_non_null(strstr(error.message, "client token"));
    assert_string_equal(error.problem, "token_invalid");
    twinlease_close(handle);
}

static void clock_difference_is_mentioned_once(void **state)
{
    struct world *w = *state;

    start_nodes(w, 1);
    w->licences[0].clock_ahead_ms = DAY_MS;
    struct twinlease *handle = open_world(w);
    struct twinlease_lease *lease = acquire(handle);
    assert_int_equal(w->warnings, 1);
    assert_non_null(strstr(w->warning, "behind"));
    assert_in_range(twinlease_lease_expires_in_ms(lease), 3590000, 3600000);
    twinlease_lease_free(lease);
    twinlease_close(handle);
}

/* ---- nodes that misbehave -------------------------------------------------------------------- */

static void answers_that_are_none(void **state)
{
    static const struct {
        enum fake_trick trick;
        int status;
        const char *content_type, *body;
        enum twinlease_code code;
    } cases[] = {
        { FAKE_CLOSE, 0, "", "", TWINLEASE_NO_NODE },
        { FAKE_RAW, 0, "", "220 smtp.example ESMTP\r\n", TWINLEASE_BAD_ANSWER },
        { FAKE_RAW, 0, "", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort",
          TWINLEASE_NO_NODE },
        { FAKE_ANSWER, 200, "text/html", "<html>hello</html>", TWINLEASE_BAD_ANSWER },
        { FAKE_ANSWER, 200, "application/json", "{", TWINLEASE_BAD_ANSWER },
        { FAKE_ANSWER, 200, "application/json", "[]", TWINLEASE_BAD_ANSWER },
        { FAKE_ANSWER, 200, "application/json", "{}", TWINLEASE_BAD_ANSWER },
        { FAKE_ANSWER, 200, "application/json", "{\"lease_result_list\":[]}",
          TWINLEASE_BAD_ANSWER },
        { FAKE_ANSWER, 302, "text/html", "elsewhere", TWINLEASE_BAD_ANSWER },
        { FAKE_ANSWER, 404, "text/html", "not found", TWINLEASE_BAD_ANSWER },
        { FAKE_ANSWER, 503, "text/html", "proxy: backend is down", TWINLEASE_NO_NODE },
        { FAKE_ANSWER, 409, "application/problem+json", "{}", TWINLEASE_BAD_ANSWER },
    };
    struct world *w = *state;
    struct fake_licences *node = &w->licences[0];

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fake_licences_refuse(node, "/v1/leases", 100, cases[i].status, NULL);
        node->trick = cases[i].trick;
        node->content_type = cases[i].content_type;
        node->body = cases[i].body;
        assert_acquire_fails(handle, cases[i].code);
    }
    node->times = 0;
    twinlease_lease_free(acquire(handle)); /* none of it did lasting harm */
    assert_int_equal(node->grants, 1);
    twinlease_close(handle);
}

/* Fails with NO_NODE by its deadline, and not long after. */
static void assert_deadline_holds(struct world *w)
{
    struct twinlease_options options = options_of(w);
    struct boot begin = boot_now();

    options.connect_ms = options.attempt_ms = options.deadline_ms = IMPATIENT_MS;
    struct twinlease *handle = open_with(&options);
    assert_acquire_fails(handle, TWINLEASE_NO_NODE);
    assert_in_range(boot_now().ms - begin.ms, IMPATIENT_MS - 50, IMPATIENT_MS + PATIENT_MS / 2);
    twinlease_close(handle);
}

static void nodes_that_never_answer(void **state)
{
    struct world *w = *state;
    char mute[64];
    const char *url = mute;
    int mute_fd = fake_mute_url(mute, sizeof mute);

    start_nodes(w, 1);
    fake_licences_refuse(&w->licences[0], "/v1", 100, 0, NULL);
    w->licences[0].trick = FAKE_SILENCE;
    assert_deadline_holds(w);
    write_tok(w, &url, 1, fake_identity_pem(w->identity), wall_now().ms + DAY_MS);
    assert_deadline_holds(w); /* accepts, and does not even speak TLS */
    close(mute_fd);
}

static void another_lease_than_asked_for_is_refused(void **state)
{
    struct world *w = *state;
    struct twinlease_acquire_options options = TWINLEASE_ACQUIRE_OPTIONS_INIT;
    struct twinlease_lease *lease = NULL;

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    assert_int_equal(twinlease_acquire(handle, "simulate", NULL, &lease, &error),
                     TWINLEASE_BAD_ANSWER); /* the fake always grants render */
    options.count = 3;                      /* … of one or two seats */
    assert_int_equal(twinlease_acquire(handle, "render", &options, &lease, &error),
                     TWINLEASE_BAD_ANSWER);
    twinlease_close(handle);
}

static void answer_without_end_is_cut_off(void **state)
{
    struct world *w = *state;
    char *body = malloc((2 << 20) + 1);

    start_nodes(w, 1);
    memset(body, ' ', 2 << 20);
    body[2 << 20] = '\0';
    struct twinlease *handle = open_world(w);
    fake_licences_refuse(&w->licences[0], "/v1/leases", 1, 200, NULL);
    w->licences[0].content_type = "application/json";
    w->licences[0].body = body;
    assert_acquire_fails(handle, TWINLEASE_BAD_ANSWER);
    assert_non_null(strstr(error.message, "1048576"));
    twinlease_close(handle);
    free(body);
}

static void addresses_where_no_node_is(void **state)
{
    struct world *w = *state;
    struct fake_node *plain = fake_node_start(NULL, NULL, NULL);
    char refusing[64];

    fake_refusing_url(refusing, sizeof refusing);
    const char *const urls[] = { refusing, fake_node_url(plain) };
    static const enum twinlease_code codes[] = { TWINLEASE_NO_NODE, TWINLEASE_BAD_ANSWER };
    for (size_t i = 0; i < 2; i++) {
        write_tok(w, &urls[i], 1, fake_identity_pem(w->identity), wall_now().ms + DAY_MS);
        struct twinlease *handle = open_world(w);
        assert_acquire_fails(handle, codes[i]);
        assert_non_null(strstr(error.message, urls[i]));
        twinlease_close(handle);
    }
    fake_node_stop(plain);
}

static void wrong_authority_is_never_talked_to(void **state)
{
    struct world *w = *state;
    struct fake_identity *other = fake_identity_new();

    start_nodes(w, 1);
    const char *url = fake_node_url(w->nodes[0]);
    write_tok(w, &url, 1, fake_identity_pem(other), wall_now().ms + DAY_MS);
    struct twinlease *handle = open_world(w);
    assert_acquire_fails(handle, TWINLEASE_UNTRUSTED);
    assert_int_equal(w->licences[0].enrols + w->licences[0].others, 0);
    twinlease_close(handle);
    write_tok(w, &url, 1, NULL,
              wall_now().ms + DAY_MS); /* the system's authorities: not this one */
    handle = open_world(w);
    assert_acquire_fails(handle, TWINLEASE_UNTRUSTED);
    twinlease_close(handle);
    fake_identity_free(other);
}

/* What a clock that is a day off makes of a certificate that is good. */
static void certificate_out_of_date_points_to_the_clock(void **state)
{
    static const struct {
        long from_seconds, until_seconds;
        const char *words;
    } cases[] = {
        { 3600, 172800, "is not valid yet" },
        { -172800, -3600, "has expired" },
    };
    struct world *w = *state;
    char today[RFC3339_SIZE];

    for (size_t i = 0; i < 2; i++) {
        struct fake_identity *identity =
            fake_identity_valid(cases[i].from_seconds, cases[i].until_seconds);
        struct fake_node *node = fake_node_start(identity, fake_licences_answer, &w->licences[0]);
        const char *url = fake_node_url(node);
        write_tok(w, &url, 1, fake_identity_pem(identity), wall_now().ms + DAY_MS);
        struct twinlease *handle = open_world(w);
        assert_acquire_fails(handle, TWINLEASE_UNTRUSTED);
        rfc3339_format(wall_now().ms, today);
        today[strlen("2026-11-21T")] = '\0';
        assert_non_null(strstr(error.message, cases[i].words));
        assert_non_null(strstr(error.message, today)); /* what the clock says */
        assert_non_null(strstr(error.message, "set the clock"));
        twinlease_close(handle);
        fake_node_stop(node);
        fake_identity_free(identity);
    }
}

/* The nodes' clock is a day off, or this machine's: a lease counts on the boot clock. */
static void lease_does_not_mind_a_clock_that_is_a_day_off(void **state)
{
    struct world *w = *state;

    start_nodes(w, 1);
    for (int ahead = -1; ahead <= 1; ahead += 2) {
        w->licences[0].clock_ahead_ms = ahead * DAY_MS;
        struct twinlease *handle = open_world(w);
        struct twinlease_lease *lease = acquire(handle);
        assert_in_range(twinlease_lease_expires_in_ms(lease), 3500000, 3600000);
        assert_int_equal(twinlease_renew(handle, lease, &error), TWINLEASE_OK);
        assert_in_range(twinlease_lease_renew_in_ms(lease), 800000, 900000);
        assert_non_null(strstr(w->warning, ahead > 0 ? "behind" : "ahead of"));
        twinlease_lease_free(lease);
        twinlease_close(handle);
        handle = open_world(w); /* nor after a restart */
        lease = acquire(handle);
        assert_int_equal(twinlease_lease_resumed(lease), 1);
        assert_int_equal(twinlease_release(handle, lease, &error), TWINLEASE_OK);
        twinlease_lease_free(lease);
        twinlease_close(handle);
    }
}

/* Descriptors run out in the middle of a call: it fails, and says so, and the next one works. */
static void no_descriptor_is_left(void **state)
{
    struct world *w = *state;
    struct twinlease_options options = options_of(w);
    struct rlimit before, none;

    start_nodes(w, 1);
    options.deadline_ms = IMPATIENT_MS; /* the node has no descriptors either, and is silent */
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    for (unsigned spare = 0; spare < 12; spare++) {
        struct twinlease *handle = open_with(&options);
        struct twinlease_lease *lease = NULL;
        int next = dup(STDERR_FILENO); /* the lowest that is free */
        close(next);
        none = (struct rlimit){ (rlim_t)next + spare, before.rlim_max };
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
        enum twinlease_code code = twinlease_acquire(handle, "render", NULL, &lease, &error);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        assert_true(code == TWINLEASE_OK || strlen(error.message) > 10);
        twinlease_lease_free(lease);
        twinlease_close(handle);
        handle = open_world(w);
        lease = acquire(handle);
        assert_int_equal(twinlease_release(handle, lease, &error), TWINLEASE_OK);
        twinlease_lease_free(lease);
        twinlease_close(handle);
    }
}

/* ---- several nodes --------------------------------------------------------------------------- */

static void next_node_is_asked_and_remembered(void **state)
{
    struct world *w = *state;
    char refusing[64];

    start_nodes(w, 2);
    fake_refusing_url(refusing, sizeof refusing);
    const char *urls[] = { refusing, fake_node_url(w->nodes[0]), fake_node_url(w->nodes[1]) };
    write_tok(w, urls, 3, fake_identity_pem(w->identity), wall_now().ms + DAY_MS);
    struct twinlease *handle = open_world(w);
    struct twinlease_lease *lease = acquire(handle);
    assert_int_equal(w->licences[0].grants, 1);
    fake_licences_refuse(&w->licences[0], "/v1/leases", 1, 503, "not_ready");
    assert_int_equal(twinlease_renew(handle, lease, &error), TWINLEASE_OK);
    assert_int_equal(w->licences[1].renewals, 1);
    assert_int_equal(twinlease_renew(handle, lease, &error), TWINLEASE_OK);
    assert_int_equal(w->licences[1].renewals, 2); /* it answered last, so it is asked first */
    assert_int_equal(w->licences[0].renewals, 0);
    twinlease_lease_free(lease);
    twinlease_close(handle);
}

static void silent_node_costs_one_attempt(void **state)
{
    struct world *w = *state;
    struct twinlease_options options = options_of(w);

    start_nodes(w, 2);
    options.attempt_ms = IMPATIENT_MS;
    struct twinlease *handle = open_with(&options);
    fake_licences_refuse(&w->licences[0], "/v1", 1, 0, NULL);
    w->licences[0].trick = FAKE_SILENCE;
    struct boot begin = boot_now();
    struct twinlease_lease *lease = acquire(handle);
    assert_in_range(boot_now().ms - begin.ms, IMPATIENT_MS - 50, IMPATIENT_MS + PATIENT_MS / 2);
    assert_int_equal(w->licences[1].grants, 1);
    twinlease_lease_free(lease);
    twinlease_close(handle);
}

/* One node does not know the lease, the other, which may, is silent: that is no verdict. */
static void unknown_here_is_not_lost(void **state)
{
    struct world *w = *state;

    start_nodes(w, 2);
    struct twinlease *handle = open_world(w);
    struct twinlease_lease *lease = acquire(handle);
    fake_licences_refuse(&w->licences[0], "/v1/leases", 1, 404, "lease_unknown");
    fake_licences_refuse(&w->licences[1], "/v1/leases", 1, 503, "not_ready");
    assert_int_equal(twinlease_renew(handle, lease, &error), TWINLEASE_NO_NODE);
    assert_true(twinlease_lease_expires_in_ms(lease) > 0);
    fake_licences_refuse(&w->licences[0], "/v1/leases", 1, 503, "not_ready");
    fake_licences_refuse(&w->licences[1], "/v1/leases", 1, 404, "lease_unknown");
    assert_int_equal(twinlease_renew(handle, lease, &error), TWINLEASE_NO_NODE);
    fake_licences_refuse(&w->licences[0], "/v1/leases", 1, 404, "lease_unknown");
    fake_licences_refuse(&w->licences[1], "/v1/leases", 1, 404, "lease_unknown");
    assert_int_equal(twinlease_renew(handle, lease, &error), TWINLEASE_LEASE_LOST);
    twinlease_lease_free(lease);
    twinlease_close(handle);
}

static void status_speaks_for_each_node(void **state)
{
    struct world *w = *state;
    struct twinlease_status *status = NULL;
    char refusing[64];

    start_nodes(w, 2);
    fake_refusing_url(refusing, sizeof refusing);
    const char *urls[] = { fake_node_url(w->nodes[0]), refusing, fake_node_url(w->nodes[1]) };
    write_tok(w, urls, 3, fake_identity_pem(w->identity), wall_now().ms + DAY_MS);
    fake_licences_refuse(&w->licences[1], "/-/ready", 1, 503, "not_ready");
    struct twinlease *handle = open_world(w);
    assert_int_equal(twinlease_status(handle, &status, &error), TWINLEASE_OK);
    assert_int_equal(twinlease_status_node_count(status), 3);
    assert_string_equal(twinlease_status_node_url(status, 1), refusing);
    assert_int_equal(twinlease_status_node_code(status, 0), TWINLEASE_OK);
    assert_string_equal(twinlease_status_node_message(status, 0), "");
    assert_int_equal(twinlease_status_node_code(status, 1), TWINLEASE_NO_NODE);
    assert_int_equal(twinlease_status_node_code(status, 2), TWINLEASE_NO_NODE);
    assert_int_equal(twinlease_status_node_code(status, 3), TWINLEASE_USAGE);
    assert_string_equal(twinlease_status_origin_ref(status), "");
    twinlease_status_free(status);
    twinlease_close(handle);
}

/* ---- threads --------------------------------------------------------------------------------- */

static void *acquire_and_release(void *arg)
{
    struct twinlease_error mine;
    struct twinlease_lease *lease;

    for (int i = 0; i < 4; i++) {
        if (twinlease_acquire(arg, "render", NULL, &lease, &mine) != TWINLEASE_OK ||
            twinlease_renew(arg, lease, &mine) != TWINLEASE_OK ||
            twinlease_release(arg, lease, &mine) != TWINLEASE_OK)
            return strdup(mine.message);
        twinlease_lease_free(lease);
    }
    return NULL;
}

static void threads_share_a_handle(void **state)
{
    struct world *w = *state;
    struct twinlease_options options = options_of(w);
    pthread_t threads[8];
    void *problem;

    start_nodes(w, 1);
    options.deadline_ms = options.connect_ms = 60000; /* the fake serves one at a time */
    struct twinlease *handle = open_with(&options);
    for (int i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, acquire_and_release, handle), 0);
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], &problem);
        if (problem)
            fail_msg("%s", (char *)problem);
    }
    assert_int_equal(w->licences[0].enrols, 1);
    assert_int_equal(w->licences[0].tokens, 1);
    assert_int_equal(w->licences[0].grants, 32);
    assert_int_equal(w->licences[0].releases, 32);
    twinlease_close(handle);
}

/* ---- client tokens --------------------------------------------------------------------------- */

static void expired_token_serves_who_has_enrolled(void **state)
{
    struct world *w = *state;
    struct twinlease_options options = options_of(w);
    struct twinlease *handle = NULL;

    start_nodes(w, 1);
    const char *url = fake_node_url(w->nodes[0]);
    write_tok(w, &url, 1, fake_identity_pem(w->identity), wall_now().ms - 1000);
    assert_int_equal(twinlease_open(&options, &handle, &error), TWINLEASE_BAD_FILE);
    assert_non_null(strstr(error.message, "ended at"));
    write_tok(w, &url, 1, fake_identity_pem(w->identity), wall_now().ms + DAY_MS);
    handle = open_world(w);
    struct twinlease_lease *lease = acquire(handle);
    twinlease_lease_free(lease);
    twinlease_close(handle);
    assert_int_equal(w->warnings, 0);
    write_tok(w, &url, 1, fake_identity_pem(w->identity), wall_now().ms - 1000);
    handle = open_world(w);
    assert_int_equal(w->warnings, 1);
    lease = acquire(handle);
    assert_int_equal(twinlease_lease_resumed(lease), 1);
    twinlease_lease_free(lease);
    twinlease_close(handle);
}

static void pinned_instance_key(void **state)
{
    struct world *w = *state;
    struct twinlease_options options = options_of(w);
    struct twinlease *handle = NULL;
    char thumbprint[64];

    start_nodes(w, 1);
    handle = open_world(w);
    snprintf(thumbprint, sizeof thumbprint, "%s", twinlease_instance_thumbprint(handle));
    assert_non_null(strstr(twinlease_instance_jwks(handle), thumbprint));
    assert_non_null(strstr(twinlease_state_folder(handle), thumbprint));
    twinlease_close(handle);
    options.instance_thumbprint = thumbprint;
    twinlease_close(open_with(&options));
    thumbprint[0] = thumbprint[0] == 'A' ? 'B' : 'A';
    assert_int_equal(twinlease_open(&options, &handle, &error), TWINLEASE_VERIFICATION);
    assert_int_equal(error.link, TWINLEASE_LINK_INSTANCE);
}

static void write_tok_for(struct world *w, size_t node)
{
    const char *url = fake_node_url(w->nodes[node]);

    write_tok(w, &url, 1, fake_identity_pem(w->identity), wall_now().ms + DAY_MS);
}

static void reload_leads_to_the_new_nodes(void **state)
{
    struct world *w = *state;

    start_nodes(w, 2);
    write_tok_for(w, 0);
    struct twinlease *handle = open_world(w);
    const char *jwks = twinlease_instance_jwks(handle);
    struct twinlease_lease *lease = acquire(handle);
    write_tok_for(w, 1);
    assert_int_equal(twinlease_reload(handle, &error), TWINLEASE_OK);
    assert_int_equal(twinlease_renew(handle, lease, &error), TWINLEASE_OK);
    assert_int_equal(w->licences[0].renewals, 0);
    assert_int_equal(w->licences[1].renewals, 1);
    assert_int_equal(w->licences[1].enrols, 0); /* the same machine … */
    assert_int_equal(w->licences[1].tokens, 0); /* … and the same auth token */
    assert_non_null(strstr(jwks, twinlease_instance_thumbprint(handle))); /* lives on */
    twinlease_lease_free(lease);
    twinlease_close(handle);
}

/* What is known of a node that stays is not forgotten. */
static void reload_remembers_who_answered(void **state)
{
    struct world *w = *state;

    start_nodes(w, 3);
    struct twinlease *handle = open_world(w);
    fake_licences_refuse(&w->licences[0], "/v1/origins", 1, 503, "not_ready");
    struct twinlease_lease *lease = acquire(handle); /* by node 1 */
    const char *urls[] = { fake_node_url(w->nodes[2]), fake_node_url(w->nodes[1]) };
    write_tok(w, urls, 2, fake_identity_pem(w->identity), wall_now().ms + DAY_MS);
    assert_int_equal(twinlease_reload(handle, &error), TWINLEASE_OK);
    assert_int_equal(twinlease_renew(handle, lease, &error), TWINLEASE_OK);
    assert_int_equal(w->licences[1].renewals, 1);
    twinlease_lease_free(lease);
    twinlease_close(handle);
}

static void assert_reload_fails(struct world *w, struct twinlease *handle, enum twinlease_code code)
{
    struct twinlease_lease *lease = NULL;

    assert_int_equal(twinlease_reload(handle, &error), code);
    assert_int_equal(error.code, code);
    assert_true(strlen(error.message) > 10);
    lease = acquire(handle); /* as before */
    assert_int_equal(twinlease_release(handle, lease, &error), TWINLEASE_OK);
    twinlease_lease_free(lease);
    assert_int_equal(w->warnings, 0);
}

static void reload_of_what_cannot_be_used_changes_nothing(void **state)
{
    struct world *w = *state;

    start_nodes(w, 1);
    struct twinlease *handle = open_world(w);
    assert_int_equal(unlink(w->tok_path), 0);
    assert_reload_fails(w, handle, TWINLEASE_BAD_FILE);
    write_text(w->tok_path, "no token");
    assert_reload_fails(w, handle, TWINLEASE_BAD_FILE);
    for (int same_ref = 0; same_ref < 2; same_ref++) {
        char *tok = fake_tok_make_foreign(fake_node_url(w->nodes[0]), same_ref);
        write_text(w->tok_path, tok);
        free(tok);
        assert_reload_fails(w, handle, TWINLEASE_VERIFICATION);
        assert_int_equal(twinlease_reload(handle, &error), TWINLEASE_VERIFICATION);
        assert_int_equal(error.link, TWINLEASE_LINK_INSTANCE);
    }
    twinlease_close(handle);
}

struct caller {
    struct twinlease *handle;
    enum twinlease_code code;
};

static void *acquire_alone(void *arg)
{
    struct caller *caller = arg;
    struct twinlease_lease *lease = NULL;
    struct twinlease_error mine;

    caller->code = twinlease_acquire(caller->handle, "render", NULL, &lease, &mine);
    twinlease_lease_free(lease);
    return NULL;
}

static bool was_asked(struct fake_licences *node, const char *path)
{
    pthread_mutex_lock(&node->lock);
    bool asked = strncmp(node->last_path, path, strlen(path)) == 0;
    pthread_mutex_unlock(&node->lock);
    return asked;
}

/* Calls under way keep the nodes they began with, until their end. */
static void reload_during_a_call(void **state)
{
    struct world *w = *state;
    struct caller caller;
    pthread_t thread;

    start_nodes(w, 2);
    write_tok_for(w, 0);
    caller.handle = open_world(w);
    twinlease_lease_free(acquire(caller.handle)); /* enrolled, proven */
    fake_licences_refuse(&w->licences[0], "/v1", 1, 0, NULL);
    w->licences[0].trick = FAKE_SILENCE;
    w->licences[0].last_path[0] = '\0';
    assert_int_equal(pthread_create(&thread, NULL, acquire_alone, &caller), 0);
    while (!was_asked(&w->licences[0], "/v1/leases"))
        wait_ms(1);
    write_tok_for(w, 1);
    assert_int_equal(twinlease_reload(caller.handle, &error), TWINLEASE_OK);
    struct twinlease_lease *lease = acquire(caller.handle);
    assert_int_equal(w->licences[1].grants, 1);
    twinlease_interrupt(caller.handle);
    pthread_join(thread, NULL);
    assert_int_equal(caller.code, TWINLEASE_INTERRUPTED);
    twinlease_lease_free(lease);
    twinlease_close(caller.handle);
}

/* A program built when the struct ended earlier has the defaults of what came later. */
static void older_options_are_taken(void **state)
{
    struct world *w = *state;
    struct twinlease_options options = options_of(w);
    struct twinlease_acquire_options acquire_options = TWINLEASE_ACQUIRE_OPTIONS_INIT;
    struct twinlease_lease *lease = NULL;
    struct twinlease *handle = NULL;

    start_nodes(w, 1);
    options.size = offsetof(struct twinlease_options, retry_ms);
    options.retry_ms = UINT32_MAX; /* beyond its end: not looked at */
    handle = open_with(&options);
    acquire_options.size = offsetof(struct twinlease_acquire_options, wait_ms);
    acquire_options.wait_ms = -1;
    fake_licences_refuse(&w->licences[0], "/v1", 2, 503, "not_ready");
    assert_int_equal(twinlease_acquire(handle, "render", &acquire_options, &lease, &error),
                     TWINLEASE_OK); /* it was asked again: 3 s are the default */
    twinlease_lease_free(lease);
    twinlease_close(handle);
    options.size = sizeof options;
    assert_int_equal(twinlease_open(&options, &handle, &error), TWINLEASE_USAGE);
    options.retry_ms = 3600000;
    twinlease_close(open_with(&options));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(first_lease_enrols_and_proves),
        TEST(request_says_what_was_asked),
        TEST(arguments_are_checked),
        TEST(newer_options_are_refused_only_if_used),
        TEST(list_shows_what_the_node_knows),
        TEST(restart_finds_its_lease),
        TEST(lease_in_use_is_not_given_twice),
        TEST(claim_ends_with_the_process),
        TEST(lost_answer_takes_no_second_seat),
        TEST(denial_leaves_nothing_behind),
        TEST(lease_that_ended_is_replaced),
        TEST(state_that_cannot_be_written),
        TEST(expired_token_is_renewed_once),
        TEST(short_lived_tokens_are_not_used_to_the_end),
        TEST(deleted_origin_enrols_anew),
        TEST(refused_enrolment_says_what_to_do),
        TEST(clock_difference_is_mentioned_once),
        TEST(answers_that_are_none),
        TEST(nodes_that_never_answer),
        TEST(another_lease_than_asked_for_is_refused),
        TEST(answer_without_end_is_cut_off),
        TEST(addresses_where_no_node_is),
        TEST(wrong_authority_is_never_talked_to),
        TEST(certificate_out_of_date_points_to_the_clock),
        TEST(lease_does_not_mind_a_clock_that_is_a_day_off),
        TEST(no_descriptor_is_left),
        TEST(next_node_is_asked_and_remembered),
        TEST(silent_node_costs_one_attempt),
        TEST(unknown_here_is_not_lost),
        TEST(status_speaks_for_each_node),
        TEST(threads_share_a_handle),
        TEST(expired_token_serves_who_has_enrolled),
        TEST(pinned_instance_key),
        TEST(reload_leads_to_the_new_nodes),
        TEST(reload_remembers_who_answered),
        TEST(reload_of_what_cannot_be_used_changes_nothing),
        TEST(reload_during_a_call),
        TEST(older_options_are_taken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
