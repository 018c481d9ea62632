#include "state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files.h"

#define ORIGIN_SIZE    4096 /* of a secret in which every byte is escaped, and some more */
#define LEASE_FILE_MAX (256 << 10)
#define LEASES_MAX     4096 /* files of one folder that are looked at */
#define WARNINGS_MAX   16
#define CLAIM_TRIES    16
#define STALE_MS       (INT64_C(7) * 86400000) /* records of leases over for longer are dropped */

static const char suffix[] = ".lease";

struct state {
    atomic_uint references;
    char *folder; /* <folder>/<thumbprint>; "": memory only */
    char *jwks;
    bool required;
    twinlease_warning_fn warning;
    void *warning_context;
    pthread_mutex_t lock; /* guards what follows */
    bool has_origin;      /* in memory */
    struct origin origin;
    struct twinlease_lease **kept; /* what could not be written */
    size_t kept_count;
    struct uuid *claimed; /* by this process through this state */
    size_t claimed_count;
    struct uuid *gone; /* removed, but for their files, which cannot be */
    size_t gone_count;
    char *warned[WARNINGS_MAX];
    size_t warned_count;
};

static void lock(struct state *s)
{
    must(pthread_mutex_lock(&s->lock) == 0);
}

static void unlock(struct state *s)
{
    must(pthread_mutex_unlock(&s->lock) == 0);
}

/* ---- warnings ---------------------------------------------------------------------------- */

/* True the first time. */
static bool note_warning(struct state *s, const char *text)
{
    bool fresh = true;

    lock(s);
    for (size_t i = 0; i < s->warned_count; i++)
        fresh = fresh && strcmp(s->warned[i], text) != 0;
    if (fresh && s->warned_count < WARNINGS_MAX)
        s->warned[s->warned_count++] = mem_strdup(text);
    unlock(s);
    return fresh;
}

void state_warn(struct state *s, const char *format, ...)
{
    struct diag diag;
    char text[sizeof diag.text];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    diag_set(&diag, ERR_OK, "%s", text);
    if (s->warning && note_warning(s, diag.text))
        s->warning(s->warning_context, diag.text);
}

/* What cannot be stored: an error if the caller wants it so, else a warning. */
static enum twinlease_code complain(struct state *s, const char *why, struct twinlease_error *error)
{
    if (s->required)
        return fault_set(error, TWINLEASE_STATE,
                         "the state cannot be written (%s); make the folder writable or name "
                         "another one",
                         why);
    state_warn(
        s, "the state cannot be written (%s); going on without, a restart may take new seats", why);
    return TWINLEASE_OK;
}

/* ---- opening ----------------------------------------------------------------------------- */

enum twinlease_code state_open(const struct state_options *options, struct state **out,
                               struct twinlease_error *error)
{
    struct state *s = mem_calloc(1, sizeof *s);
    bool memory = *options->folder == '\0';
    enum twinlease_code code = TWINLEASE_OK;
    struct diag diag;

    atomic_init(&s->references, 1);
    must(pthread_mutex_init(&s->lock, NULL) == 0);
    s->folder = memory ? mem_strdup("") : path_join(options->folder, options->thumbprint);
    s->jwks = mem_strdup(options->jwks);
    s->required = options->required;
    s->warning = options->warning;
    s->warning_context = options->warning_context;
    if (!memory && !folder_make(s->folder)) {
        diag_set(&diag, ERR_FILE, "%s: %s", s->folder, strerror(errno));
        code = complain(s, diag.text, error);
    }
    if (code != TWINLEASE_OK) {
        state_unref(s);
        return code;
    }
    *out = s;
    return TWINLEASE_OK;
}

struct state *state_ref(struct state *s)
{
    atomic_fetch_add(&s->references, 1);
    return s;
}

void state_unref(struct state *s)
{
    if (!s || atomic_fetch_sub(&s->references, 1) != 1)
        return;
    must(s->claimed_count == 0);
    for (size_t i = 0; i < s->kept_count; i++)
        twinlease_lease_free(s->kept[i]);
    for (size_t i = 0; i < s->warned_count; i++)
        mem_free(s->warned[i]);
    explicit_bzero(&s->origin, sizeof s->origin);
    pthread_mutex_destroy(&s->lock);
    mem_free(s->kept);
    mem_free(s->claimed);
    mem_free(s->gone);
    mem_free(s->folder);
    mem_free(s->jwks);
    mem_free(s);
}

const char *state_folder(const struct state *s)
{
    return s->folder;
}

/* ---- files ------------------------------------------------------------------------------- */

/* A new text. */
static char *lease_path(const struct state *s, const struct uuid *lease_ref, const char *ending)
{
    char name[UUID_TEXT_SIZE + 8];

    uuid_format(lease_ref, name);
    memcpy(name + UUID_TEXT_SIZE - 1, ending, strlen(ending) + 1);
    return path_join(s->folder, name);
}

/* The text is not what it should be: out of the way with it, but not lost. */
static void set_aside(struct state *s, const char *path, const char *why)
{
    AUTO(buf_fini) struct buf aside;

    buf_init(&aside, strlen(path) + sizeof ".broken");
    buf_format(&aside, "%s.broken", path);
    if (rename(path, buf_text(&aside)) == 0)
        state_warn(s, "%s cannot be used (%s) and was moved to %s", path, why, buf_text(&aside));
    else
        state_warn(s, "%s cannot be used (%s)", path, why);
}

static bool absent(const char *path)
{
    return access(path, F_OK) != 0 && (errno == ENOENT || errno == ENOTDIR);
}

/* False: not there, or (with a warning) not readable. */
static bool read_state(struct state *s, const char *path, struct buf *out)
{
    struct diag diag;

    if (absent(path))
        return false;
    if (file_read(path, FILE_PUBLIC, out, &diag) == ERR_OK)
        return true;
    if (!absent(path)) /* else another program has removed it just now */
        state_warn(s, "%s", diag.text);
    return false;
}

/* ---- the origin -------------------------------------------------------------------------- */

static bool read_origin(struct state *s, struct origin *out)
{
    AUTO(mem_free) char *path = path_join(s->folder, "origin.json");
    AUTO(buf_fini_secret) struct buf text;
    struct diag diag = { "" };

    buf_init(&text, ORIGIN_SIZE);
    if (!*s->folder || !read_state(s, path, &text))
        return false;
    if (origin_read(buf_text(&text), text.length, out, &diag) == ERR_OK)
        return true;
    set_aside(s, path, diag.text);
    return false;
}

bool state_origin(struct state *s, struct origin *out)
{
    if (read_origin(s, out))
        return true;
    lock(s);
    bool known = s->has_origin;
    if (known)
        *out = s->origin;
    unlock(s);
    return known;
}

enum twinlease_code state_origin_store(struct state *s, const struct origin *old,
                                       struct origin *origin, struct twinlease_error *error)
{
    AUTO(mem_free) char *path = path_join(s->folder, "origin.json");
    AUTO(buf_fini_secret) struct buf text = { .max = ORIGIN_SIZE };
    struct origin there;
    struct diag diag;
    bool replace = false;

    if (*s->folder && read_origin(s, &there)) {
        replace = old && uuid_equal(&there.origin_ref, &old->origin_ref);
        if (!replace) {
            *origin = there;
            return TWINLEASE_OK;
        }
    }
    lock(s);
    s->has_origin = true;
    s->origin = *origin;
    unlock(s);
    if (!*s->folder)
        return TWINLEASE_OK;
    origin_write(origin, &text);
    must(buf_ok(&text));
    if (file_write(path, text.bytes, text.length, 0600, replace, &diag) == ERR_OK)
        return TWINLEASE_OK;
    if (replace || !read_origin(s, &there))
        return complain(s, diag.text, error);
    *origin = there; /* another program was faster */
    return TWINLEASE_OK;
}

/* ---- leases ------------------------------------------------------------------------------ */

struct lease_set {
    struct twinlease_lease **leases;
    size_t count;
};

static void set_add(struct lease_set *set, struct twinlease_lease *lease)
{
    set->leases = mem_resize(set->leases, (set->count + 1) * sizeof *set->leases);
    set->leases[set->count++] = lease;
}

static struct twinlease_lease *read_lease_file(struct state *s, const char *path)
{
    struct twinlease_lease *lease = NULL;
    AUTO(buf_fini) struct buf text;
    struct diag diag = { "" };

    buf_init(&text, LEASE_FILE_MAX);
    if (!read_state(s, path, &text))
        return NULL;
    if (lease_read(buf_text(&text), text.length, &lease, &diag) != ERR_OK)
        set_aside(s, path, diag.text);
    return lease;
}

/* Over for so long that no node knows it any more, by any clock that is not badly off. */
static bool stale(const struct twinlease_lease *lease)
{
    int64_t end_ms = lease->granted ? lease->expires_ms : lease->drawn_ms;

    return end_ms < wall_now().ms - STALE_MS && twinlease_lease_expires_in_ms(lease) == 0;
}

static bool names_lease(const char *name, struct uuid *out)
{
    return strlen(name) == UUID_TEXT_SIZE - 1 + sizeof suffix - 1 &&
           strcmp(name + UUID_TEXT_SIZE - 1, suffix) == 0 &&
           uuid_parse(name, UUID_TEXT_SIZE - 1, out);
}

static void close_folder(DIR *folder)
{
    closedir(folder);
}
DEFINE_AUTO(DIR *, close_folder)

static bool holds(const struct uuid *list, size_t count, const struct uuid *lease_ref)
{
    for (size_t i = 0; i < count; i++) {
        if (uuid_equal(&list[i], lease_ref))
            return true;
    }
    return false;
}

static bool is_gone(struct state *s, const struct uuid *lease_ref)
{
    lock(s);
    bool gone = holds(s->gone, s->gone_count, lease_ref);
    unlock(s);
    return gone;
}

static void read_folder(struct state *s, struct lease_set *set)
{
    AUTO(close_folder) DIR *folder = opendir(s->folder);
    const struct dirent *entry;
    struct uuid lease_ref;

    while (folder && set->count < LEASES_MAX && (entry = readdir(folder))) {
        if (!names_lease(entry->d_name, &lease_ref) || is_gone(s, &lease_ref))
            continue;
        AUTO(mem_free) char *path = path_join(s->folder, entry->d_name);
        AUTO(twinlease_lease_free) struct twinlease_lease *lease = read_lease_file(s, path);
        if (lease && stale(lease))
            state_lease_remove(s, &lease->lease_ref);
        else if (lease && uuid_equal(&lease->lease_ref, &lease_ref))
            set_add(set, TAKE(lease));
    }
}

/* What could not be written is newer than what was. */
static void overlay_kept(struct state *s, struct lease_set *set)
{
    lock(s);
    for (size_t i = 0; i < s->kept_count; i++) {
        size_t at = 0;
        while (at < set->count && !uuid_equal(&set->leases[at]->lease_ref, &s->kept[i]->lease_ref))
            at++;
        if (at == set->count) {
            set_add(set, lease_clone(s->kept[i]));
            continue;
        }
        twinlease_lease_free(set->leases[at]);
        set->leases[at] = lease_clone(s->kept[i]);
    }
    unlock(s);
}

struct twinlease_lease **state_leases(struct state *s, size_t *count)
{
    struct lease_set set = { NULL, 0 };

    if (*s->folder)
        read_folder(s, &set);
    overlay_kept(s, &set);
    *count = set.count;
    return set.leases;
}

static void drop_kept(struct state *s, const struct uuid *lease_ref)
{
    lock(s);
    for (size_t i = 0; i < s->kept_count; i++) {
        if (uuid_equal(&s->kept[i]->lease_ref, lease_ref)) {
            twinlease_lease_free(s->kept[i]);
            s->kept[i] = s->kept[--s->kept_count];
            break;
        }
    }
    unlock(s);
}

static void keep(struct state *s, const struct twinlease_lease *lease)
{
    drop_kept(s, &lease->lease_ref);
    lock(s);
    s->kept = mem_resize(s->kept, (s->kept_count + 1) * sizeof *s->kept);
    s->kept[s->kept_count++] = lease_clone(lease);
    unlock(s);
}

enum twinlease_code state_lease_store(struct state *s, const struct twinlease_lease *lease,
                                      struct twinlease_error *error)
{
    AUTO(mem_free) char *path = lease_path(s, &lease->lease_ref, suffix);
    AUTO(buf_fini) struct buf text = { .max = LEASE_FILE_MAX };
    struct diag diag;

    if (!*s->folder) {
        keep(s, lease);
        return TWINLEASE_OK;
    }
    lease_write(lease, s->jwks, &text);
    must(buf_ok(&text));
    if (file_write(path, text.bytes, text.length, 0600, true, &diag) == ERR_OK) {
        drop_kept(s, &lease->lease_ref);
        return TWINLEASE_OK;
    }
    keep(s, lease);
    return complain(s, diag.text, error);
}

void state_lease_remove(struct state *s, const struct uuid *lease_ref)
{
    drop_kept(s, lease_ref);
    if (!*s->folder)
        return;
    AUTO(mem_free) char *path = lease_path(s, lease_ref, suffix);
    if (unlink(path) == 0 || errno == ENOENT || errno == ENOTDIR || is_gone(s, lease_ref))
        return;
    state_warn(s, "%s cannot be removed: %s", path, strerror(errno));
    lock(s);
    s->gone = mem_resize(s->gone, (s->gone_count + 1) * sizeof *s->gone);
    s->gone[s->gone_count++] = *lease_ref;
    unlock(s);
}

/* ---- claims ------------------------------------------------------------------------------ */

/* The lock on the claim file: a descriptor; -1: somebody has it; -2: there can be no such file, and
 * the claim holds within this process only. */
static int lock_file(const struct state *s, const struct uuid *lease_ref)
{
    if (!*s->folder)
        return -2;
    AUTO(mem_free) char *path = lease_path(s, lease_ref, ".claim");
    for (unsigned tries = 0; tries < CLAIM_TRIES; tries++) {
        struct stat mine, named;
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
            return -2;
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            close(fd);
            return -1;
        }
        /* Whoever had it before may have removed the file between our open and our lock. */
        if (fstat(fd, &mine) == 0 && stat(path, &named) == 0 && mine.st_ino == named.st_ino &&
            mine.st_dev == named.st_dev)
            return fd;
        close(fd);
    }
    return -1; /* others take and leave it all the time */
}

bool state_claim(struct state *s, struct twinlease_lease *lease)
{
    must(!lease->claimed_in);
    lock(s);
    int fd = holds(s->claimed, s->claimed_count, &lease->lease_ref)
                 ? -1
                 : lock_file(s, &lease->lease_ref);
    if (fd != -1) {
        s->claimed = mem_resize(s->claimed, (s->claimed_count + 1) * sizeof *s->claimed);
        s->claimed[s->claimed_count++] = lease->lease_ref;
        lease->claimed_in = state_ref(s);
        lease->claim_fd = fd >= 0 ? fd : -1;
    }
    unlock(s);
    return fd != -1;
}

/* As it is recorded now; NULL: it is not. */
static struct twinlease_lease *read_lease(struct state *s, const struct uuid *lease_ref)
{
    struct twinlease_lease *lease = NULL;

    lock(s);
    for (size_t i = 0; i < s->kept_count && !lease; i++) {
        if (uuid_equal(&s->kept[i]->lease_ref, lease_ref))
            lease = lease_clone(s->kept[i]);
    }
    unlock(s);
    if (lease || !*s->folder || is_gone(s, lease_ref))
        return lease;
    AUTO(mem_free) char *path = lease_path(s, lease_ref, suffix);
    return read_lease_file(s, path);
}

struct twinlease_lease *state_take(struct state *s, const struct uuid *lease_ref)
{
    AUTO(twinlease_lease_free) struct twinlease_lease *claim = lease_new();

    claim->lease_ref = *lease_ref;
    if (!state_claim(s, claim))
        return NULL;
    /* Only now: whoever had the claim until a moment ago may have given the lease back. */
    struct twinlease_lease *lease = read_lease(s, lease_ref);
    if (!lease)
        return NULL;
    lease->claimed_in = TAKE(claim->claimed_in);
    lease->claim_fd = claim->claim_fd;
    claim->claim_fd = -1;
    return lease;
}

void state_unclaim(struct twinlease_lease *lease)
{
    struct state *s = lease->claimed_in;

    if (!s)
        return;
    lock(s);
    for (size_t i = 0; i < s->claimed_count; i++) {
        if (uuid_equal(&s->claimed[i], &lease->lease_ref)) {
            s->claimed[i] = s->claimed[--s->claimed_count];
            break;
        }
    }
    if (lease->claim_fd >= 0) {
        AUTO(mem_free) char *path = lease_path(s, &lease->lease_ref, ".claim");
        unlink(path); /* while it is still locked: see lock_file() */
        close(lease->claim_fd);
    }
    unlock(s);
    lease->claim_fd = -1;
    lease->claimed_in = NULL;
    state_unref(s);
}
