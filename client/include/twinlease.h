/* libtwinlease: take, keep, prove and give back licences from a pair of Twinlease nodes.
 *
 *     struct twinlease *handle;
 *     struct twinlease_lease *lease;
 *     struct twinlease_error error;
 *
 *     if (twinlease_open(NULL, &handle, &error) != TWINLEASE_OK ||
 *         twinlease_acquire(handle, "render", NULL, &lease, &error) != TWINLEASE_OK)
 *         errx(1, "%s", error.message);
 *     …                                               renew when twinlease_lease_renew_in_ms() is 0
 *     twinlease_release(handle, lease, &error);       (or let twinlease_keep() do it in a thread)
 *     twinlease_lease_free(lease);
 *     twinlease_close(handle);
 *
 * Conventions
 *   - Functions that can fail return an `enum twinlease_code`. On anything but TWINLEASE_OK they
 * leave their other outputs untouched and fill *error, which may be NULL. Nothing is ever printed.
 *   - Every call is bounded in time by the handle's deadline, whatever the nodes do; acquire by
 * what it was told to wait in addition. twinlease_interrupt() ends it at once.
 *   - Both nodes of the pair are equal. A call goes to the one that answered last; if it does not
 * answer or cannot serve, at once to the next; if none can, to all of them again after a pause that
 * grows, with jitter, until retry_ms are over. Whatever is repeated is safe to repeat: a grant
 * carries the reference of its lease.
 *   - A handle may be used by any number of threads at once. A lease, a list and a status belong to
 *     one thread at a time. Different handles, also of the same state folder, also in different
 *     processes, are independent of each other.
 *   - Text handed in is UTF-8 and copied. Text handed out belongs to the object it came from and
 *     lives until that object is freed or, for a lease, renewed.
 *   - Options are structs that begin with their own size: initialise them with the macro, so that a
 *     program built today runs with a later library. Members that are 0 or NULL mean the default.
 *   - Out of memory ends the process.
 *   - After fork() only the parent may go on using a handle.
 *
 * Time: what a lease is worth is counted on this machine's boot clock from the moment the request
 * was sent, with the span that the node gave. A wrong or stepping wall clock changes nothing but
 * twinlease_verify(), which has no other clock.
 *
 * Sources: RFC 7515 (JWS), RFC 7517 (JWK), RFC 7638 (thumbprints), RFC 7636 (PKCE), RFC 9457
 * (problem documents). */
#ifndef TWINLEASE_H
#define TWINLEASE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* An options struct of the given type: its size, and all else zero. */
#ifdef __cplusplus
#define TWINLEASE_INIT_(type)                                                                      \
    []() {                                                                                         \
        type fresh = {};                                                                           \
        fresh.size = sizeof fresh;                                                                 \
        return fresh;                                                                              \
    }()
#else
/* clang-format off */
#define TWINLEASE_INIT_(type) { .size = sizeof(type) }
/* clang-format on */
#endif

#if defined(__GNUC__)
#define TWINLEASE_API      __attribute__((visibility("default")))
#define TWINLEASE_MUST_USE __attribute__((warn_unused_result))
#else
#define TWINLEASE_API
#define TWINLEASE_MUST_USE
#endif

/* ---- outcomes ---------------------------------------------------------------------------- */

/* X(NAME, value, "stable name for programs", "what it means"). Values never change; they are also
 * the exit codes of the twinlease tool. A later library may add some: treat unknown ones as ERROR.
 */
#define TWINLEASE_CODES(X)                                                                         \
    X(OK, 0, "ok", "done")                                                                         \
    X(ERROR, 1, "error", "anything that has no code of its own")                                   \
    X(USAGE, 2, "usage", "an argument is missing or not valid")                                    \
    X(NO_SEAT, 3, "no_seat", "every seat is leased; asking again later may help")                  \
    X(NO_NODE, 4, "no_node", "no node answers, or none can serve now")                             \
    X(NOT_AUTHORISED, 5, "not_authorised", "the node does not accept the token or the secret")     \
    X(LEASE_LOST, 6, "lease_lost", "the lease has ended or is not known")                          \
    X(VERIFICATION, 7, "verification", "a signature, a binding or a date does not hold")           \
    X(BAD_FILE, 8, "bad_file", "a file is missing, unreadable, malformed or out of date")          \
    X(REFUSED, 9, "refused", "the node understands the request and refuses it")                    \
    X(BAD_ANSWER, 10, "bad_answer", "what answers does not speak like a Twinlease node")           \
    X(UNTRUSTED, 11, "untrusted", "the certificate of the node does not verify")                   \
    X(STATE, 12, "state", "the state folder cannot be used, and the caller requires it")           \
    X(INTERRUPTED, 13, "interrupted", "the caller, or a signal, ended the wait")

enum twinlease_code {
#define TWINLEASE_X(name, value, text, meaning) TWINLEASE_##name = (value),
    TWINLEASE_CODES(TWINLEASE_X)
#undef TWINLEASE_X
};

/* Links of the chain that twinlease_verify() walks. Values never change. */
enum twinlease_link {
    TWINLEASE_LINK_NONE = 0,
    TWINLEASE_LINK_PUBLISHER = 1,   /* the pinned key did not sign the entitlement */
    TWINLEASE_LINK_ENTITLEMENT = 2, /* altered, malformed, or not the one the lease names */
    TWINLEASE_LINK_INSTANCE = 3,    /* no key at hand is the one the entitlement names */
    TWINLEASE_LINK_LEASE = 4,       /* the lease token is altered, or goes beyond the entitlement */
    TWINLEASE_LINK_TIME = 5         /* not begun yet, or over */
};

/* Filled by a call that failed; cleared by one that did not. The caller owns it; nothing in it
 * needs freeing. */
struct twinlease_error {
    enum twinlease_code code;
    enum twinlease_link link;  /* with VERIFICATION */
    int http_status;           /* of the answer; 0: there was none */
    char problem[48];          /* stable `code` of the node's problem document, or "" */
    char request_id[64];       /* X-Request-Id of the answer, for the node's log, or "" */
    int64_t seats, seats_used; /* with NO_SEAT, if the node said so; else -1 */
    int64_t next_seat_ms;      /* with NO_SEAT: when the next seat is expected back, ms since 1970
                                  on the node's clock; 0: not known */
    char message[768];         /* one sentence in English, for people: what is wrong, what to do */
    uint64_t reserved[8];
};

/* "no_seat" for TWINLEASE_NO_SEAT; "error" for a value this library does not know. Never NULL. */
TWINLEASE_API const char *twinlease_code_name(enum twinlease_code code);
/* "entitlement" for TWINLEASE_LINK_ENTITLEMENT; "" for NONE. Never NULL. */
TWINLEASE_API const char *twinlease_link_name(enum twinlease_link link);
/* "0.1.0" */
TWINLEASE_API const char *twinlease_version(void);

/* ---- a handle ---------------------------------------------------------------------------- */

struct twinlease; /* opaque */

/* What could be done better but did not stop a call: the state folder cannot be written, a clock is
 * off. Called by the thread that is inside the library; must not call the library. */
typedef void (*twinlease_warning_fn)(void *context, const char *sentence);

enum { TWINLEASE_STATE_REQUIRED = 1u << 0 }; /* fail with STATE instead of warning */

struct twinlease_options {
    size_t size;            /* sizeof(struct twinlease_options) */
    const char *token_path; /* a .tok file, or a folder of which the newest valid *.tok is used.
                               NULL: $TWINLEASE_TOK */
    const char *state_dir;  /* folder of what must survive a restart, made with mode 0700 if absent.
                               "": nothing is stored. NULL: $TWINLEASE_STATE; else, for root,
                               /var/lib/twinlease-client; else $XDG_STATE_HOME/twinlease or
                               ~/.local/state/twinlease */
    const char *instance_thumbprint; /* RFC 7638 thumbprint of the instance's key. If set, a client
                                        token that another key signed is refused */
    unsigned flags;                  /* TWINLEASE_STATE_REQUIRED */
    unsigned connect_ms;             /* to wait for one node to accept. 0: 1000 */
    unsigned attempt_ms;  /* to wait for one node while another is left to ask, and at most half of
                             the time that is left. 0: 1500 */
    unsigned deadline_ms; /* to wait for a whole call. 0: 10000 */
    twinlease_warning_fn warning; /* NULL: warnings are dropped */
    void *warning_context;
    unsigned retry_ms; /* after every node has failed, to go on asking them again. 0: 3000 */
};
#define TWINLEASE_OPTIONS_INIT TWINLEASE_INIT_(struct twinlease_options)

/* Reads and checks the client token and the state folder; talks to nobody. The token's signature is
 * verified with the keys inside it: that proves it is whole, and, together with
 * instance_thumbprint, whose it is. One that has expired is an error unless this machine has
 * enrolled before. options may be NULL. The caller owns *out (twinlease_close).
 * USAGE, BAD_FILE, VERIFICATION, STATE. */
TWINLEASE_API enum twinlease_code twinlease_open(const struct twinlease_options *options,
                                                 struct twinlease **out,
                                                 struct twinlease_error *error) TWINLEASE_MUST_USE;

/* Ends the handle; leases stay leased, and the state folder knows them. No other thread may be
 * inside a call. Lease objects may be freed later. Takes NULL. */
TWINLEASE_API void twinlease_close(struct twinlease *handle);

/* Ends calls of this handle that are under way, in whatever thread, and fails later ones, with
 * INTERRUPTED, until twinlease_resume(). Keepers have their own end. A lease that was just being
 * acquired is given back, or, if no node answers, found again by the next acquire. May be called
 * from any thread and from a signal handler. */
TWINLEASE_API void twinlease_interrupt(struct twinlease *handle);
TWINLEASE_API void twinlease_resume(struct twinlease *handle);

/* Reads the client token again, from the path that the handle was opened with: addresses and CA
 * certificate of the nodes hold for every call from now on; leases and origin stay. If it cannot be
 * used, or is another instance's, the handle stays as it was. BAD_FILE, VERIFICATION. */
TWINLEASE_API enum twinlease_code twinlease_reload(struct twinlease *handle,
                                                   struct twinlease_error *error);

/* Public keys of the instance (RFC 7517), as the client token has them: with the lease token and
 * the entitlement all that another program needs to verify a lease offline. Lives with the handle.
 */
TWINLEASE_API const char *twinlease_instance_jwks(const struct twinlease *handle);
TWINLEASE_API const char *twinlease_instance_ref(const struct twinlease *handle);
/* RFC 7638 thumbprint of the key that signed the client token. */
TWINLEASE_API const char *twinlease_instance_thumbprint(const struct twinlease *handle);
/* The folder in use, or "" if nothing is stored. */
TWINLEASE_API const char *twinlease_state_folder(const struct twinlease *handle);

/* ---- leases ------------------------------------------------------------------------------ */

struct twinlease_lease; /* opaque: what this machine knows of one lease */

enum {
    TWINLEASE_ACQUIRE_ANOTHER = 1u << 0, /* take a further seat even if the state folder has a lease
                                            of this feature that no running program uses */
    TWINLEASE_ACQUIRE_GRACE = 1u << 1    /* if no node answers: be content with such a lease as long
                                            as it is valid, at once (twinlease_lease_unconfirmed) */
};

/* What a caller who waits for a seat is told before each pause. */
struct twinlease_waiting {
    size_t size;                       /* of this struct, in the library that runs */
    const struct twinlease_error *why; /* the last denial: NO_SEAT or NO_NODE */
    int64_t waited_ms, left_ms;
    int64_t next_try_ms; /* until it asks again */
};
/* Called by the thread that is inside acquire. Non-zero ends the wait: INTERRUPTED. */
typedef int (*twinlease_waiting_fn)(void *context, const struct twinlease_waiting *waiting);

struct twinlease_acquire_options {
    size_t size;              /* sizeof(struct twinlease_acquire_options) */
    int64_t count;            /* seats. 0: 1 */
    int64_t duration_seconds; /* 0: as long as the site gives */
    const char *scope_ref;    /* where several publishers have a feature of this name */
    unsigned flags;           /* TWINLEASE_ACQUIRE_… */
    int64_t wait_ms; /* while there is no seat (NO_SEAT) or no node (NO_NODE), how long to go on
                        asking: politely, with pauses that grow to 2 s, jittered, and with one and
                        the same reference. 0: once */
    twinlease_waiting_fn waiting; /* NULL: waits silently */
    void *waiting_context;
};
#define TWINLEASE_ACQUIRE_OPTIONS_INIT TWINLEASE_INIT_(struct twinlease_acquire_options)

/* Takes `count` seats of the feature. The reference of the lease is drawn and stored before any
 * node is asked, so a call that fails halfway, or a program that dies, takes no second seat: the
 * next call for the same feature and count finds the lease, renews it and returns that one. A lease
 * that a running program holds (an object of it not freed yet) is never handed out twice. Enrols
 * this machine first if need be. options may be NULL. The caller owns *out (twinlease_lease_free).
 * NO_SEAT, NO_NODE, NOT_AUTHORISED, REFUSED, BAD_ANSWER, UNTRUSTED, STATE, USAGE, INTERRUPTED. */
TWINLEASE_API enum twinlease_code twinlease_acquire(
    struct twinlease *handle, const char *feature, const struct twinlease_acquire_options *options,
    struct twinlease_lease **out, struct twinlease_error *error) TWINLEASE_MUST_USE;

/* Renews; the lease then has its new end and its new token. With NO_NODE, BAD_ANSWER and UNTRUSTED
 * it is as good as before, until it expires. LEASE_LOST is final: acquire again. */
TWINLEASE_API enum twinlease_code twinlease_renew(struct twinlease *handle,
                                                  struct twinlease_lease *lease,
                                                  struct twinlease_error *error) TWINLEASE_MUST_USE;

/* Gives the seats back. Done also if the lease had ended before. The object stays, and is over. */
TWINLEASE_API enum twinlease_code twinlease_release(struct twinlease *handle,
                                                    struct twinlease_lease *lease,
                                                    struct twinlease_error *error);

/* Frees the object, not the seat. Takes NULL. */
TWINLEASE_API void twinlease_lease_free(struct twinlease_lease *lease);

TWINLEASE_API const char *twinlease_lease_ref(const struct twinlease_lease *lease);
TWINLEASE_API const char *twinlease_lease_origin_ref(const struct twinlease_lease *lease);
TWINLEASE_API const char *twinlease_lease_scope_ref(const struct twinlease_lease *lease);
TWINLEASE_API const char *twinlease_lease_feature(const struct twinlease_lease *lease);
TWINLEASE_API const char *twinlease_lease_home(const struct twinlease_lease *lease); /* node_ref */
TWINLEASE_API int64_t twinlease_lease_count(const struct twinlease_lease *lease);
/* Milliseconds since 1970 on the node's clock: for display. To decide, use the spans below. */
TWINLEASE_API int64_t twinlease_lease_created_ms(const struct twinlease_lease *lease);
TWINLEASE_API int64_t twinlease_lease_expires_ms(const struct twinlease_lease *lease);
/* Milliseconds for which the lease may still be used; 0: no longer. */
TWINLEASE_API int64_t twinlease_lease_expires_in_ms(const struct twinlease_lease *lease);
/* Milliseconds until it should be renewed; 0: now. */
TWINLEASE_API int64_t twinlease_lease_renew_in_ms(const struct twinlease_lease *lease);
/* Non-zero if acquire found it in the state folder instead of taking a new seat. */
TWINLEASE_API int twinlease_lease_resumed(const struct twinlease_lease *lease);
/* Non-zero if acquire was content with it by ACQUIRE_GRACE, and no renewal has succeeded since. */
TWINLEASE_API int twinlease_lease_unconfirmed(const struct twinlease_lease *lease);
TWINLEASE_API const char *twinlease_lease_token(const struct twinlease_lease *lease); /* JWS */
TWINLEASE_API const char *twinlease_lease_entitlement(
    const struct twinlease_lease *lease); /* JWS */

struct twinlease_list; /* opaque */

/* The active leases of this machine's origin, as a node knows them. Empty, without asking, if the
 * machine never enrolled. The caller owns *out (twinlease_list_free). */
TWINLEASE_API enum twinlease_code twinlease_list(struct twinlease *handle,
                                                 struct twinlease_list **out,
                                                 struct twinlease_error *error) TWINLEASE_MUST_USE;

/* The granted leases in the state folder, whoever uses them; asks nobody. */
TWINLEASE_API enum twinlease_code twinlease_recorded(
    struct twinlease *handle, struct twinlease_list **out,
    struct twinlease_error *error) TWINLEASE_MUST_USE;

TWINLEASE_API size_t twinlease_list_count(const struct twinlease_list *list);
/* Belongs to the list; may be renewed and released. NULL if index is not below the count. */
TWINLEASE_API struct twinlease_lease *twinlease_list_at(const struct twinlease_list *list,
                                                        size_t index);
TWINLEASE_API void twinlease_list_free(struct twinlease_list *list); /* takes NULL */

/* ---- keepers ----------------------------------------------------------------------------- */

/* A thread of the library that holds one lease of a feature: acquires it, renews it in time (at
 * renew_after, give or take a tenth, so that machines started together do not come together), and
 * takes another when it is lost. It survives dead nodes, clock steps and being suspended, and never
 * holds two leases. What fails is tried again after pauses of 1 s to 30 s; renewals more often
 * towards the end of the lease. When somebody ends the lease, 5 s to 7.5 s pass before it asks for
 * another, so that one who waits for the seat gets it. All signals are blocked in it but those that
 * a thread brings upon itself (SIGSEGV, …). */
struct twinlease_keeper; /* opaque */

enum twinlease_event {
    TWINLEASE_EVENT_ACQUIRED = 1, /* a lease is held: a new one, or one found in the state folder.
                                     Not told of one that the caller brought along */
    TWINLEASE_EVENT_RENEWED = 2,
    TWINLEASE_EVENT_TROUBLE = 3, /* it could not be renewed, and is good until it expires */
    TWINLEASE_EVENT_LOST = 4,    /* it is over: expired, or ended from outside. No seat is held */
    TWINLEASE_EVENT_DENIED = 5   /* no seat to be had. TROUBLE and DENIED: told once for a cause */
};
/* "acquired", …; "" for a value this library does not know. Never NULL. */
TWINLEASE_API const char *twinlease_event_name(enum twinlease_event event);

struct twinlease_change {
    size_t size; /* of this struct, in the library that runs */
    enum twinlease_event event;
    const struct twinlease_lease *lease; /* NULL with DENIED. Only for the time of the call */
    const struct twinlease_error *error; /* with TROUBLE, LOST and DENIED; else NULL */
    int64_t next_try_ms;                 /* until something is asked again; -1: never */
};
/* Called by the keeper's thread, never twice at once. May use the handle and read the keeper, but
 * not stop it. */
typedef void (*twinlease_change_fn)(void *context, const struct twinlease_change *change);

enum {
    TWINLEASE_KEEP_ONCE = 1u << 0, /* once a lease was held and lost, do not take another */
    TWINLEASE_KEEP_GRACE = 1u << 1 /* as ACQUIRE_GRACE: begin with a valid lease of the state folder
                                      even if no node answers to confirm it */
};

struct twinlease_keep_options {
    size_t size;                   /* sizeof(struct twinlease_keep_options) */
    int64_t count;                 /* as for acquire */
    int64_t duration_seconds;      /* as for acquire */
    const char *scope_ref;         /* as for acquire */
    unsigned flags;                /* TWINLEASE_KEEP_… */
    struct twinlease_lease *lease; /* the one to begin with, of this feature and count; it is the
                                      keeper's from then on. NULL: acquires one */
    twinlease_change_fn changed;   /* may be NULL */
    void *context;
};
#define TWINLEASE_KEEP_OPTIONS_INIT TWINLEASE_INIT_(struct twinlease_keep_options)

/* Starts a keeper and returns at once. The handle must outlive it. options may be NULL. The caller
 * owns *out (twinlease_keeper_stop). USAGE, ERROR (no thread to be had): the lease stays the
 * caller's. */
TWINLEASE_API enum twinlease_code twinlease_keep(struct twinlease *handle, const char *feature,
                                                 const struct twinlease_keep_options *options,
                                                 struct twinlease_keeper **out,
                                                 struct twinlease_error *error) TWINLEASE_MUST_USE;

struct twinlease_kept {
    size_t size; /* sizeof(struct twinlease_kept), set by the caller */
    int held;    /* non-zero: a lease is held and has not expired */
    int64_t count;
    int64_t acquired_ms, expires_ms;                          /* ms since 1970; 0 unless held */
    int64_t expires_in_ms, renew_in_ms;                       /* 0 unless held */
    int64_t next_try_ms;                                      /* as in struct twinlease_change */
    char feature[72], lease_ref[40], scope_ref[40], home[40]; /* "" unless known */
    struct twinlease_error error; /* why the last try failed; code OK: it did not */
    uint64_t reserved[8];
};
#define TWINLEASE_KEPT_INIT TWINLEASE_INIT_(struct twinlease_kept)

/* How it stands now. USAGE: the size is not set. */
TWINLEASE_API enum twinlease_code twinlease_keeper_read(struct twinlease_keeper *keeper,
                                                        struct twinlease_kept *out);

enum {
    TWINLEASE_STOP_LEASED = 1u << 0 /* do not give the seat back: the next acquire of this machine
                                       finds the lease in the state folder */
};
/* Ends whatever the keeper is about, gives its seat back, and frees it, in any case. Bounded by the
 * handle's deadline, once a callback under way has returned. Takes NULL. What failed was the
 * release: the seat comes back when the lease expires. */
TWINLEASE_API enum twinlease_code twinlease_keeper_stop(struct twinlease_keeper *keeper,
                                                        unsigned flags,
                                                        struct twinlease_error *error);

/* ---- proof ------------------------------------------------------------------------------- */

struct twinlease_verify_options {
    size_t size;                   /* sizeof(struct twinlease_verify_options) */
    const char *publisher_key_pem; /* required: the key the program trusts, PEM "PUBLIC KEY" */
    const char *entitlement;       /* required: JWS */
    const char *lease_token;       /* required: JWS */
    const char *instance_jwks;     /* required: candidates for the key that the entitlement names */
    const char *feature;           /* if set, the lease must be of this feature */
    int64_t count_min;             /* seats the lease must have at least */
    int64_t now_ms;                /* ms since 1970. 0: this machine's wall clock */
    int64_t tolerance_seconds;     /* clocks may differ by that much. Below 0: none; 0: 300 */
};
#define TWINLEASE_VERIFY_OPTIONS_INIT TWINLEASE_INIT_(struct twinlease_verify_options)

/* Verifies offline, with nothing but its arguments, that the publisher's key signed the
 * entitlement, that the entitlement names the instance's key, that this key signed the lease token,
 * that the lease is one the entitlement allows, and that both are valid now. No handle needed.
 * VERIFICATION with error->link, USAGE. */
TWINLEASE_API enum twinlease_code twinlease_verify(const struct twinlease_verify_options *options,
                                                   struct twinlease_error *error)
    TWINLEASE_MUST_USE;

/* ---- status ------------------------------------------------------------------------------ */

struct twinlease_status; /* opaque */

/* Asks each node of the client token whether it can serve. OK also if none answers: that is what
 * the answer then says. The caller owns *out (twinlease_status_free). */
TWINLEASE_API enum twinlease_code twinlease_status(
    struct twinlease *handle, struct twinlease_status **out,
    struct twinlease_error *error) TWINLEASE_MUST_USE;
/* This machine's origin, or "" if it has not enrolled. */
TWINLEASE_API const char *twinlease_status_origin_ref(const struct twinlease_status *status);
/* End of the client token, ms since 1970: until then it may enrol. */
TWINLEASE_API int64_t twinlease_status_token_expires_ms(const struct twinlease_status *status);
TWINLEASE_API size_t twinlease_status_node_count(const struct twinlease_status *status);
/* For index below the count; else "" and TWINLEASE_USAGE. */
TWINLEASE_API const char *twinlease_status_node_url(const struct twinlease_status *status,
                                                    size_t index);
/* OK: ready. NO_NODE: does not answer or cannot serve; BAD_ANSWER, UNTRUSTED. */
TWINLEASE_API enum twinlease_code twinlease_status_node_code(const struct twinlease_status *status,
                                                             size_t index);
/* Why not, as a sentence; "" if ready. */
TWINLEASE_API const char *twinlease_status_node_message(const struct twinlease_status *status,
                                                        size_t index);
TWINLEASE_API void twinlease_status_free(struct twinlease_status *status); /* takes NULL */

#ifdef __cplusplus
}
#endif

#endif
