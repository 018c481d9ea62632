/* Durable state in PostgreSQL (15 and up). The only user of libpq.
 *
 * struct store is the ledger thread's one connection: it holds the session advisory lock that makes
 * this process the owner of the database, and every write goes through it. So a session that lost
 * its lock cannot write, and a commit on its way from a killed predecessor has landed or died once
 * the lock is ours (R13).
 *
 * struct reader is a read-only connection for lists and reports, one per query thread.
 *
 * Not thread-safe: one thread a connection. */
#pragma once

#include "base/entitlement.h"
#include "base/err.h"
#include "base/receipt.h"
#include "ledger/ledger.h"

struct store;

/* What the single row of table `node_state` says, and where it stands. */
struct store_identity {
    struct uuid node_ref;
    struct uuid instance_ref;
    uint64_t seq;       /* change number of the last commit */
    int64_t ceiling_ms; /* ledger clock (R1) */
    char system[24];    /* PostgreSQL's system identifier, decimal */
    uint32_t timeline;  /* of its WAL */
    bool created;       /* the database was empty: node_ref was drawn just now */
};

/* Connects, refuses an unsafe database (in recovery, read-only, or fsync, full_page_writes or
 * synchronous_commit off), takes the lock (waiting up to lock_wait_ms for a predecessor's session
 * to end), migrates the schema forward, and reads the identity; a new database gets a fresh
 * node_ref. ERR_STORE_AWAY (not reachable, starting up), ERR_STORE_REFUSED (user, password,
 * database name, another instance's database), ERR_STORE_UNSAFE (also a connection pooler),
 * ERR_STORE_READ_ONLY, ERR_STORE_OWNED, ERR_STORE_SCHEMA, ERR_STORE_FULL, ERR_STORE_CORRUPT (its
 * identity is lost), ERR_CONFIG (not a connection string; it is never repeated): with one sentence
 * in diag that says what to do. */
enum err store_open(const char *conninfo, const struct uuid *instance_ref, int lock_wait_ms,
                    struct store **out, struct store_identity *identity,
                    struct diag *diag) MUST_USE;
struct store *store_close(struct store *store); /* NULL in, NULL out */

/* Feeds every committed record to the ledger's load functions, in the order they ask for, in one
 * snapshot, and ends with ledger_load_done(). ERR_STORE_CORRUPT names table, key and column of what
 * could never have been written, an entitlement that open_one() refuses included. After any failure
 * the store must be closed. */
typedef enum err store_entitlement_open(void *context, const char *text, struct entitlement **out,
                                        bool *trusted, struct diag *diag);
enum err store_load(struct store *store, struct ledger *ledger, store_entitlement_open *open_one,
                    void *context, struct diag *diag) MUST_USE;

/* Writes one batch in one transaction: all rows, the change number, and the clock's ceiling (0: as
 * it is; an orderly stop lowers it to what was used). ERR_OK: committed, *receipt says so.
 * ERR_STORE_UNKNOWN: the outcome is not known. Any other: nothing was written. After any failure
 * the store must be closed and the state loaded again. */
enum err store_commit(struct store *store, const struct ledger_changes *changes, int64_t ceiling_ms,
                      struct commit_receipt *receipt, struct diag *diag) MUST_USE;

/* R11: this database's history is shorter than it was. In one transaction: draws a new node_ref,
 * remembers `former` (nil: the present one) first among the former selves and the present one next,
 * clears `refilled` and lease_max_ms, keeps every record, enters both names as nodes that are still
 * counted (partner = true, and not retired unless they were), and sets cursor, acknowledged,
 * watermark and closed of all nodes to zero, for they were those of the old node_ref.
 *
 * A database in which nothing was decided yet keeps its node_ref and only notes `former`. One that
 * counts `former` as its partner, which is none of its former selves, is a copy of the peer's: its
 * names are the peer's own and do not become former selves. A name that is the newest former self
 * of a node that was not refilled since is not given up a second time: nothing changes.
 *
 * The store must be closed afterwards and the state loaded again. Errors as store_commit(); after
 * an outcome that is not known ask again. */
enum err store_rename(struct store *store, const struct uuid *former, struct uuid *node_ref,
                      struct diag *diag) MUST_USE;

/* R11: before a renamed node is refilled: drops every record but its self row and, in table node,
 * its own row and that of `partner`, of which nothing is merged any more (cursor, watermark,
 * acknowledged and closed are zero). Change numbers go on. ERR_INTERNAL: the node is refilled, and
 * must not forget what it serves. The store must be closed afterwards and the state loaded again.
 */
enum err store_wipe(struct store *store, const struct uuid *partner, struct diag *diag) MUST_USE;

/* Fills in `environment` of a page's origins (JSON text in page->texts, which must be NULL before;
 * NULL where none is stored), from what is committed: call it once the batch that built the page
 * is. After a failure the store must be closed. */
enum err store_environments(struct store *store, struct ledger_page *page,
                            struct diag *diag) MUST_USE;

/* True while the session is alive as far as the socket tells; for an idle ledger thread. */
bool store_alive(struct store *store);

/* The connection's socket, to wait on for its end while idle. */
int store_fd(const struct store *store);

/* ---- paged reads ----------------------------------------------------------------------------- */

struct reader;

/* Never fails: connects on first use and again after a failure. */
struct reader *reader_new(const char *conninfo);
struct reader *reader_free(struct reader *reader);

#define PAGE_LIMIT_DEFAULT 1000
#define PAGE_LIMIT_MAX     10000

/* A page starts after the given key (nil: at the beginning) and is ordered by it. */
struct listed_lease {
    struct lease_row row;
    char feature[FEATURE_NAME_MAX + 1];
    char *environment; /* of its origin, JSON; NULL unless asked for */
};
struct listed_origin {
    struct origin_row row;
    char *environment;        /* JSON, "{}" if none was given */
    struct lease_row *leases; /* active ones, if asked for */
    size_t lease_count;
};
struct listed_entitlement {
    struct uuid entitlement_ref;
    int64_t revision, installed_ms;
    char *text; /* the compact JWS */
};

struct lease_page {
    struct listed_lease *rows;
    size_t count;
    bool more;
};
struct origin_page {
    struct listed_origin *rows;
    size_t count;
    bool more;
};
struct entitlement_page {
    struct listed_entitlement *rows;
    size_t count;
};

/* state < 0: any. with_origin: fill environment. */
enum err reader_leases(struct reader *, const struct lease_key *after, size_t limit, int state,
                       bool with_origin, struct lease_page *out, struct diag *) MUST_USE;
/* Enrolled ones; those that were deleted are only remembered for their generation. */
enum err reader_origins(struct reader *, const struct uuid *after, size_t limit, bool with_leases,
                        struct origin_page *out, struct diag *) MUST_USE;
/* The newest revision of each. */
enum err reader_entitlements(struct reader *, struct entitlement_page *out, struct diag *) MUST_USE;

void lease_page_fini(struct lease_page *page);
void origin_page_fini(struct origin_page *page);
void entitlement_page_fini(struct entitlement_page *page);
