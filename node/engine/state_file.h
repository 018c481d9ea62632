/* The node's state file: what R11 compares the database with. It lies outside the database, so a
 * database that was restored from a backup, rolled back with its disk, or replaced by an empty one
 * is found to be shorter than its history was.
 *
 * Two slots of fixed size take turns; each holds one line of JSON with a number that rises and a
 * checksum. An update is one write in place, without fsync: a crash of the process loses nothing, a
 * power cut at worst the updates that the system had not written yet (the file is then older than
 * the database, which proves nothing and does no harm), and a write that was torn leaves the slot
 * of the update before it.
 *
 * Not thread-safe: the ledger thread's. */
#pragma once

#include "base/err.h"
#include "base/uuid.h"
#include "store/store.h"

struct state_file;

struct state_record {
    struct uuid node_ref, instance_ref;
    char system[24];    /* PostgreSQL's system identifier, decimal */
    uint32_t timeline;  /* of its WAL; told, never judged by */
    uint64_t seq;       /* change number of the last commit that is known to this file */
    int64_t ceiling_ms; /* R1: of the ledger clock; a restored database may have an older one */
};

/* Opens the file, or makes an empty one (mode 0600), keeps others from it as long as it is open,
 * and reads the newest record. *found: there was one. A file without one that can be read is
 * treated as missing, with a warning in the log. ERR_FILE: it cannot be opened, read or locked
 * (another node uses the same STATE_DIR). */
enum err state_file_open(const char *path, struct state_file **out, bool *found,
                         struct state_record *record, struct diag *diag) MUST_USE;
struct state_file *state_file_close(struct state_file *file); /* NULL in, NULL out */

/* Which database the next notes are about: instance, system, timeline. After each store_open(), or
 * a comparison with the record would be about another one. */
void state_file_bind(struct state_file *file, const struct store_identity *identity);

/* Rewrites the record in place. Call it once a commit is certain, never before (R11: a number that
 * was not committed would make the database look shorter). A node_ref other than the last one goes
 * into both slots, so that a torn write cannot bring the old name back. ERR_FILE: not written. */
enum err state_file_note(struct state_file *file, const struct uuid *node_ref, uint64_t seq,
                         int64_t ceiling_ms, struct diag *diag) MUST_USE;

/* Makes what was noted durable: at start, at stop, after a new name. ERR_FILE. */
enum err state_file_sync(struct state_file *file, struct diag *diag) MUST_USE;

/* R11, pure: is the database's history shorter than the record proves it was? Then *former is the
 * name to give up. It is if the database bears another node_ref (replaced, or older than the last
 * change of names), or a lower change number under the same one. A record of another instance
 * proves nothing; nor does another system identifier or timeline alone: dump and restore, a major
 * upgrade and a failover below the node keep every change. */
bool state_file_lost(const struct state_record *record, const struct store_identity *identity,
                     struct uuid *former) MUST_USE;
