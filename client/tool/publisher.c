/* Publishers' commands: offline, with the publisher's own key. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "date.h"
#include "files.h"
#include "keyset.h"
#include "operator.h"
#include "token/publisher.h"

#define LEASE_SECONDS_DEFAULT 86400
#define PEM_MAX               (64 << 10)
#define KEYS_MAX              16
#define DAYS_MAX              36500
#define DAY_MS                INT64_C(86400000)

/* ---- init -------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    enum key_type type;
} key_types[] = {
    { "ec", KEY_EC_P256 },
    { "rsa", KEY_RSA },
    { "ed25519", KEY_ED25519 },
};

static enum twinlease_code read_type(const struct args *args, enum key_type *out,
                                     struct twinlease_error *error)
{
    const char *name = args_text(args, "type");

    *out = KEY_EC_P256;
    if (!name)
        return TWINLEASE_OK;
    for (size_t i = 0; i < ARRAY_SIZE(key_types); i++) {
        if (strcmp(key_types[i].name, name) == 0) {
            *out = key_types[i].type;
            return TWINLEASE_OK;
        }
    }
    return fault_set(error, TWINLEASE_USAGE, "--type is \"%.40s\"; allowed are ec, rsa and ed25519",
                     name);
}

/* Both or, if one of them is there already, neither. */
static enum twinlease_code write_pair(const struct key *key, const char *private_path,
                                      const char *public_path, struct twinlease_error *error)
{
    struct diag diag;

    if (access(public_path, F_OK) == 0)
        return fault_set(error, TWINLEASE_BAD_FILE,
                         "%s exists; existing keys are not overwritten, name another folder",
                         public_path);
    if (key_write_private(key, private_path, false, &diag) != ERR_OK)
        return fault_set(error, TWINLEASE_BAD_FILE,
                         "%s; existing keys are not overwritten, name another folder", diag.text);
    if (key_write_public(key, public_path, false, &diag) != ERR_OK) {
        unlink(private_path);
        return fault_set(error, TWINLEASE_BAD_FILE, "%s", diag.text);
    }
    return TWINLEASE_OK;
}

static enum twinlease_code check_name(const char *name, struct twinlease_error *error)
{
    if (publisher_name_valid(name))
        return TWINLEASE_OK;
    return fault_set(error, TWINLEASE_USAGE,
                     "\"%.70s\" is no publisher's name: 1 to %d letters, digits, spaces, '.', '_' "
                     "and '-', beginning with a letter or digit",
                     name, PUBLISHER_NAME_MAX);
}

enum twinlease_code publisher_init(const struct args *args, struct output *out,
                                   struct twinlease_error *error)
{
    const char *folder = args_text(args, "dir"), *name = args_text(args, "name");
    enum key_type type;
    enum twinlease_code code;

    if (!folder || !name)
        return fault_set(error, TWINLEASE_USAGE, "--dir and --name must not be empty");
    if ((code = check_name(name, error)) != TWINLEASE_OK ||
        (code = read_type(args, &type, error)) != TWINLEASE_OK)
        return code;
    if (!folder_make(folder))
        return fault_set(error, TWINLEASE_BAD_FILE, "%s: cannot make the folder: %s", folder,
                         strerror(errno));
    char file[PUBLISHER_NAME_MAX + sizeof ".pem"];
    snprintf(file, sizeof file, "%s.pem", name);
    AUTO(mem_free) char *private_path = path_join(folder, "publisher.private.pem");
    AUTO(mem_free) char *public_path = path_join(folder, file);
    AUTO(key_free) struct key *key = key_generate(type);
    if ((code = write_pair(key, private_path, public_path, error)) != TWINLEASE_OK)
        return code;
    output_line(out, "Private key: %s (keep it offline)", private_path);
    output_line(out, "Public key:  %s (for the software and for the nodes' PUBLISHER_KEYS)",
                public_path);
    struct json_object *document = json_object_new_object();
    put_text(document, "publisher", name);
    put_text(document, "private_key", private_path);
    put_text(document, "public_key", public_path);
    put_text(document, "alg", key_alg(key));
    put_text(document, "kid", key_thumbprint(key));
    output_document(out, document);
    return TWINLEASE_OK;
}

/* ---- issue ------------------------------------------------------------------------------- */

/* What goes into an entitlement, and for whom. */
struct issue {
    struct key *key;
    struct uuid instance_ref;
    struct key *instance_key;
    struct entitlement *old; /* --replaces; or NULL */
    struct entitlement *new;
};

static void issue_fini(struct issue *issue)
{
    key_free(issue->key);
    key_free(issue->instance_key);
    entitlement_unref(issue->old);
    entitlement_unref(issue->new);
}
DEFINE_AUTO_VALUE(struct issue, issue_fini)

static enum twinlease_code read_instance(const struct args *args, struct issue *issue,
                                         struct twinlease_error *error)
{
    const char *path = args_text(args, "instance-token");
    AUTO(buf_fini) struct buf text = { .max = JWS_MAX };
    struct diag diag;

    if (!path)
        return fault_set(error, TWINLEASE_USAGE, "--instance-token must not be empty");
    enum twinlease_code code = text_read(path, &text, error);
    if (code != TWINLEASE_OK)
        return code;
    if (instance_token_read(buf_text(&text), text.length, &issue->instance_ref,
                            &issue->instance_key, &diag) != ERR_OK)
        return fault_set(error, TWINLEASE_BAD_FILE, "%s is no instance token: %s", path, diag.text);
    return TWINLEASE_OK;
}

/* The earlier entitlement must be this publisher's own, and for the same instance. */
static enum twinlease_code read_replaced(const struct args *args, struct issue *issue,
                                         struct twinlease_error *error)
{
    const char *path = args_text(args, "replaces");
    AUTO(buf_fini) struct buf text = { .max = ENTITLEMENT_TEXT_MAX };
    char thumbprint[KEY_THUMBPRINT_SIZE];
    struct uuid instance_ref;
    struct diag diag;

    if (!path)
        return TWINLEASE_OK;
    enum twinlease_code code = text_read(path, &text, error);
    if (code != TWINLEASE_OK)
        return code;
    if (entitlement_verify_with(issue->key, buf_text(&text), text.length, -1, &issue->old,
                                &instance_ref, thumbprint, &diag) != ERR_OK)
        return fault_set(error, TWINLEASE_VERIFICATION, "%s cannot be replaced: %s", path,
                         diag.text);
    if (!uuid_equal(&instance_ref, &issue->instance_ref))
        return fault_set(error, TWINLEASE_VERIFICATION,
                         "%s is for another instance than the instance token", path);
    return TWINLEASE_OK;
}

static const struct feature *find_feature(const struct entitlement *e, const char *name,
                                          size_t length)
{
    for (size_t i = 0; e && i < e->feature_count; i++) {
        if (strlen(e->features[i].name) == length && memcmp(e->features[i].name, name, length) == 0)
            return &e->features[i];
    }
    return NULL;
}

/* "render=200" */
static enum twinlease_code read_feature(const char *text, const struct entitlement *old,
                                        struct feature *out, struct twinlease_error *error)
{
    size_t length = strcspn(text, "=");
    const struct feature *before = find_feature(old, text, length);
    struct feature feature = { .lease_max_ms = LEASE_SECONDS_DEFAULT * INT64_C(1000) };

    if (before)
        feature = *before;
    else
        feature.scope_ref = uuid_random();
    if (length <= FEATURE_NAME_MAX) {
        memcpy(feature.name, text, length);
        feature.name[length] = '\0';
    }
    if (length > FEATURE_NAME_MAX || !feature_name_valid(feature.name))
        return fault_set(error, TWINLEASE_USAGE,
                         "--feature is \"%.80s\"; it must be NAME=SEATS, the name 1 to %d letters, "
                         "digits, '.', '_' and '-'",
                         text, FEATURE_NAME_MAX);
    if (text[length] != '=' ||
        !int_parse(text + length + 1, strlen(text + length + 1), &feature.seats) ||
        feature.seats > ENTITLEMENT_SEATS_MAX)
        return fault_set(error, TWINLEASE_USAGE,
                         "--feature is \"%.80s\"; it must be NAME=SEATS with 0 to %d seats", text,
                         ENTITLEMENT_SEATS_MAX);
    *out = feature;
    return TWINLEASE_OK;
}

/* "render=UUID" */
static enum twinlease_code read_scopes(const struct args *args, struct entitlement *e,
                                       struct twinlease_error *error)
{
    const char *text;
    size_t at = 0;

    while ((text = args_next(args, "scope", &at))) {
        size_t length = strcspn(text, "=");
        struct uuid scope_ref;
        const struct feature *named = find_feature(e, text, length);
        if (!named || text[length] != '=' ||
            !uuid_parse(text + length + 1, strlen(text + length + 1), &scope_ref))
            return fault_set(error, TWINLEASE_USAGE,
                             "--scope is \"%.120s\"; it must be NAME=UUID with the name of a "
                             "feature of this entitlement",
                             text);
        e->features[named - e->features].scope_ref = scope_ref;
    }
    return TWINLEASE_OK;
}

static enum twinlease_code read_features(const struct args *args, struct issue *issue,
                                         struct twinlease_error *error)
{
    const struct entitlement *old = issue->old;
    const char *text;
    size_t count = 0, at = 0;

    while (args_next(args, "feature", &at))
        count++;
    if (count > ENTITLEMENT_FEATURES_MAX)
        return fault_set(error, TWINLEASE_USAGE, "--feature stands %zu times; at most %d", count,
                         ENTITLEMENT_FEATURES_MAX);
    if (!count && !old)
        return fault_set(error, TWINLEASE_USAGE, "`publisher issue` needs --feature NAME=SEATS");
    struct entitlement *e = issue->new = entitlement_new(count ? count : old->feature_count);
    if (!count)
        memcpy(e->features, old->features, old->feature_count * sizeof e->features[0]);
    at = 0;
    for (size_t i = 0; i < count; i++) {
        text = args_next(args, "feature", &at);
        enum twinlease_code code = read_feature(text, old, &e->features[i], error);
        if (code != TWINLEASE_OK)
            return code;
    }
    return read_scopes(args, e, error);
}

static enum twinlease_code read_seat_return(const struct args *args, const char *name, bool *given,
                                            enum seat_return *out, struct twinlease_error *error)
{
    const char *text = args_text(args, name);

    *given = text != NULL;
    if (!text)
        return TWINLEASE_OK;
    if (strcmp(text, "acknowledged") != 0 && strcmp(text, "at_expiry") != 0)
        return fault_set(error, TWINLEASE_USAGE,
                         "--%s is \"%.40s\"; allowed are acknowledged and at_expiry", name, text);
    *out = *text == 'a' && text[1] == 't' ? SEAT_RETURN_AT_EXPIRY : SEAT_RETURN_ACKNOWLEDGED;
    return TWINLEASE_OK;
}

/* Terms that hold for every feature. */
static enum twinlease_code read_terms(const struct args *args, struct entitlement *e,
                                      struct twinlease_error *error)
{
    enum seat_return on_release = SEAT_RETURN_ACKNOWLEDGED, on_revoke = SEAT_RETURN_ACKNOWLEDGED;
    bool release_given, revoke_given;
    int64_t seconds = 0;
    enum twinlease_code code;

    if ((code = args_int(args, "max-lease-seconds", 1, LEASE_SECONDS_MAX, &seconds, error)) !=
            TWINLEASE_OK ||
        (code = read_seat_return(args, "release", &release_given, &on_release, error)) !=
            TWINLEASE_OK ||
        (code = read_seat_return(args, "revoke", &revoke_given, &on_revoke, error)) != TWINLEASE_OK)
        return code;
    for (size_t i = 0; i < e->feature_count; i++) {
        if (seconds)
            e->features[i].lease_max_ms = seconds * 1000;
        if (release_given)
            e->features[i].on_release = on_release;
        if (revoke_given)
            e->features[i].on_revoke = on_revoke;
    }
    return TWINLEASE_OK;
}

static enum twinlease_code read_names(const struct args *args, const struct entitlement *old,
                                      struct entitlement *e, struct twinlease_error *error)
{
    const char *name = args_text(args, "publisher"), *ref = args_text(args, "entitlement");
    enum twinlease_code code;

    if (!name && !old)
        return fault_set(error, TWINLEASE_USAGE, "`publisher issue` needs --publisher NAME");
    if (name && (code = check_name(name, error)) != TWINLEASE_OK)
        return code;
    snprintf(e->publisher, sizeof e->publisher, "%s", name ? name : old->publisher);
    e->entitlement_ref = old ? old->entitlement_ref : uuid_random();
    if (ref && !uuid_parse(ref, strlen(ref), &e->entitlement_ref))
        return fault_set(error, TWINLEASE_USAGE, "--entitlement is \"%.40s\"; it must be a UUID",
                         ref);
    e->revision = old ? old->revision + 1 : 1;
    return args_int(args, "revision", 1, INT32_MAX, &e->revision, error);
}

static enum twinlease_code read_dates(const struct args *args, struct entitlement *e,
                                      struct twinlease_error *error)
{
    const char *from = args_text(args, "from"), *until = args_text(args, "until");
    int64_t days = 0;
    enum twinlease_code code = args_int(args, "days", 1, DAYS_MAX, &days, error);

    if (code != TWINLEASE_OK)
        return code;
    e->issued_ms = wall_now().ms / 1000 * 1000;
    e->begins_ms = e->issued_ms;
    if (from && !date_parse_begin(from, &e->begins_ms))
        return fault_set(error, TWINLEASE_USAGE,
                         "--from is \"%.40s\"; it must be like 2027-01-31 or 2027-01-31T12:00:00Z",
                         from);
    if (!until == !days)
        return fault_set(error, TWINLEASE_USAGE, "say when it ends: either --until or --days");
    if (until && !date_parse_end(until, &e->ends_ms))
        return fault_set(error, TWINLEASE_USAGE,
                         "--until is \"%.40s\"; it must be like 2027-12-31 or 2027-12-31T12:00:00Z",
                         until);
    if (days)
        e->ends_ms = e->begins_ms + days * DAY_MS;
    if (e->ends_ms <= e->begins_ms || e->ends_ms <= e->issued_ms)
        return fault_set(error, TWINLEASE_USAGE, "it would end before it begins, or in the past");
    return TWINLEASE_OK;
}

static struct json_object *features_document(const struct entitlement *e)
{
    struct json_object *list = json_object_new_array();

    for (size_t i = 0; i < e->feature_count; i++) {
        const struct feature *feature = &e->features[i];
        struct json_object *item = json_object_new_object();
        char ref[UUID_TEXT_SIZE];
        uuid_format(&feature->scope_ref, ref);
        put_text(item, "feature", feature->name);
        put_int(item, "seats", feature->seats);
        put_text(item, "scope_ref", ref);
        put_int(item, "max_lease_seconds", feature->lease_max_ms / 1000);
        put_text(item, "release",
                 feature->on_release == SEAT_RETURN_AT_EXPIRY ? "at_expiry" : "acknowledged");
        put_text(item, "revoke",
                 feature->on_revoke == SEAT_RETURN_AT_EXPIRY ? "at_expiry" : "acknowledged");
        json_object_array_add(list, item);
    }
    return list;
}

static struct json_object *entitlement_document(const struct entitlement *e)
{
    struct json_object *document = json_object_new_object();
    char ref[UUID_TEXT_SIZE];

    uuid_format(&e->entitlement_ref, ref);
    put_text(document, "entitlement_ref", ref);
    put_int(document, "revision", e->revision);
    put_text(document, "publisher", e->publisher);
    put_instant(document, "issued", e->issued_ms);
    put_instant(document, "begins", e->begins_ms);
    put_instant(document, "ends", e->ends_ms);
    json_object_object_add(document, "features", features_document(e));
    return document;
}

static enum twinlease_code sign(const struct issue *issue, struct buf *out,
                                struct twinlease_error *error)
{
    struct diag diag;

    if (entitlement_sign(issue->key, issue->new, &issue->instance_ref,
                         key_thumbprint(issue->instance_key), out, &diag) != ERR_OK)
        return fault_set(error, TWINLEASE_USAGE, "the entitlement cannot be signed: %s", diag.text);
    return TWINLEASE_OK;
}

/* Reads the command line into an entitlement. */
static enum twinlease_code prepare(const struct args *args, struct issue *issue,
                                   struct twinlease_error *error)
{
    const char *key = args_text(args, "key");
    struct diag diag = { "--key must not be empty" };
    enum twinlease_code code;

    if (!key || key_read_private(key, &issue->key, &diag) != ERR_OK)
        return fault_set(error, TWINLEASE_BAD_FILE, "%s", diag.text);
    if ((code = read_instance(args, issue, error)) != TWINLEASE_OK ||
        (code = read_replaced(args, issue, error)) != TWINLEASE_OK ||
        (code = read_features(args, issue, error)) != TWINLEASE_OK ||
        (code = read_terms(args, issue->new, error)) != TWINLEASE_OK ||
        (code = read_names(args, issue->old, issue->new, error)) != TWINLEASE_OK)
        return code;
    return read_dates(args, issue->new, error);
}

enum twinlease_code publisher_issue(const struct args *args, struct output *out,
                                    struct twinlease_error *error)
{
    AUTO(buf_fini) struct buf text = { .max = ENTITLEMENT_TEXT_MAX };
    AUTO(issue_fini) struct issue issue = { 0 };
    const char *path = args_text(args, "out");
    struct diag diag;
    enum twinlease_code code;

    if ((code = prepare(args, &issue, error)) != TWINLEASE_OK ||
        (code = sign(&issue, &text, error)) != TWINLEASE_OK)
        return code;
    struct json_object *document = entitlement_document(issue.new);
    put_text(document, "entitlement", buf_text(&text));
    if (path) {
        buf_text_append(&text, "\n");
        if (file_write(path, text.bytes, text.length, 0644, true, &diag) != ERR_OK) {
            json_object_put(document);
            return fault_set(error, TWINLEASE_BAD_FILE, "%s", diag.text);
        }
        put_text(document, "file", path);
        output_line(out, "The entitlement is in %s.", path);
    } else {
        output_line(out, "%s", buf_text(&text));
    }
    output_document(out, document);
    return TWINLEASE_OK;
}

/* ---- inspect ----------------------------------------------------------------------------- */

static enum err verify_with_key(const struct key *key, const char *text, struct diag *diag)
{
    AUTO(entitlement_unref) struct entitlement *entitlement = NULL;
    char thumbprint[KEY_THUMBPRINT_SIZE];
    struct uuid instance_ref;

    return entitlement_verify_with(key, text, strlen(text), -1, &entitlement, &instance_ref,
                                   thumbprint, diag);
}

/* With any of the keys in the file. */
static enum twinlease_code verify_with_file(const char *path, const char *text,
                                            struct twinlease_error *error)
{
    AUTO(buf_fini) struct buf pem = { .max = PEM_MAX };
    struct diag diag = { "" }, no_key = { "" };
    size_t at = 0, used = 0;
    enum err e = ERR_ENT_UNTRUSTED;
    enum twinlease_code code = text_read(path, &pem, error);

    if (code != TWINLEASE_OK)
        return code;
    for (int i = 0; i < KEYS_MAX && e == ERR_ENT_UNTRUSTED; i++) {
        AUTO(key_free) struct key *key = NULL;
        if (key_parse_public(pem.bytes + at, pem.length - at, &key, &used, &no_key) != ERR_OK)
            break;
        at += used;
        e = verify_with_key(key, text, &diag);
    }
    if (at == 0)
        return fault_set(error, TWINLEASE_BAD_FILE, "%s: %s", path, no_key.text);
    if (e == ERR_OK)
        return TWINLEASE_OK;
    if (e == ERR_ENT_UNTRUSTED)
        return fault_link(error, TWINLEASE_LINK_PUBLISHER, "not signed with %s: %s", path,
                          diag.text);
    return fault_link(error, TWINLEASE_LINK_ENTITLEMENT, "the entitlement does not hold: %s",
                      diag.text);
}

static void print_entitlement(const struct output *out, struct json_object *document)
{
    struct json_object *features = get_list(document, "features");

    output_line(out, "Entitlement %s, revision %" PRId64, get_text(document, "entitlement_ref"),
                get_int(document, "revision"));
    output_line(out, "Publisher   %s (signature %s)", get_text(document, "publisher"),
                get_text(document, "signature"));
    output_line(out, "Instance    %s, key %s", get_text(document, "instance_ref"),
                get_text(document, "instance_key"));
    output_line(out, "Valid       from %.19sZ until %.19sZ", get_text(document, "begins"),
                get_text(document, "ends"));
    for (size_t i = 0; i < list_count(features); i++) {
        struct json_object *feature = json_object_array_get_idx(features, i);
        output_line(out, "  %-24s %6" PRId64 " seats, leases up to %" PRId64 " s, scope %s",
                    get_text(feature, "feature"), get_int(feature, "seats"),
                    get_int(feature, "max_lease_seconds"), get_text(feature, "scope_ref"));
    }
}

enum twinlease_code publisher_inspect(const struct args *args, struct output *out,
                                      struct twinlease_error *error)
{
    const char *path = args->operands[0], *key = args_text(args, "key");
    AUTO(buf_fini) struct buf text = { .max = ENTITLEMENT_TEXT_MAX };
    AUTO(entitlement_unref) struct entitlement *entitlement = NULL;
    AUTO(jws_fini) struct jws jws = { 0 };
    struct diag diag;
    enum twinlease_code code;

    if ((code = text_read(path, &text, error)) != TWINLEASE_OK)
        return code;
    if (entitlement_read(buf_text(&text), text.length, &entitlement, &diag) != ERR_OK ||
        jws_parse(buf_text(&text), text.length, &jws, &diag) != ERR_OK)
        return fault_set(error, TWINLEASE_BAD_FILE, "%s is no entitlement: %s", path, diag.text);
    if (key && (code = verify_with_file(key, buf_text(&text), error)) != TWINLEASE_OK)
        return code;
    struct json_object *document = entitlement_document(entitlement);
    put_text(document, "instance_ref", get_text(jws.payload, "instance_ref"));
    put_text(document, "instance_key", get_text(jws.payload, "instance_key"));
    put_text(document, "kid", jws.kid);
    put_text(document, "alg", jws.alg);
    put_text(document, "signature", key ? "verified" : "not_verified");
    print_entitlement(out, document);
    output_document(out, document);
    return TWINLEASE_OK;
}
