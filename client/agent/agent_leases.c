/* <state>/agent.leases: a line for each lease that the agent had when it wrote it,
 *
 *     LEASE_REF FEATURE COUNT SCOPE_REF|-
 *
 * The state folder may be shared with other programs, so that a lease in it need not be the
 * agent's. Only what a line here says may be given back when the settings no longer want it. */
#include <limits.h>
#include <stdio.h>

#include "agent.h"
#include "base/file.h"
#include "base/log.h"

#define LEASES_MAX (AGENT_FEATURES_MAX * 256)

static bool leases_path(const struct agent *agent, char out[PATH_MAX])
{
    const char *folder = twinlease_state_folder(agent->handle);

    return *folder && snprintf(out, PATH_MAX, "%s/agent.leases", folder) < PATH_MAX;
}

void agent_leases_write(struct agent *agent)
{
    AUTO(buf_fini) struct buf text = { .max = LEASES_MAX };
    struct diag diag;
    char path[PATH_MAX];

    for (size_t i = 0; i < agent->seat_count; i++) {
        char lease_ref[UUID_TEXT_SIZE];
        struct wanted of;
        seat_lease(agent->seats[i], lease_ref, &of);
        if (*lease_ref)
            buf_format(&text, "%s %s %lld %s\n", lease_ref, of.feature, (long long)of.count,
                       *of.scope_ref ? of.scope_ref : "-");
    }
    if (agent->recorded && strcmp(agent->recorded, buf_text(&text)) == 0)
        return;
    /* What goes wrong the library has warned of: its own files lie in the same folder. */
    if (!leases_path(agent, path) ||
        file_write(path, buf_text(&text), text.length, 0600, true, &diag) != ERR_OK)
        return;
    mem_free(agent->recorded);
    agent->recorded = mem_strdup(buf_text(&text));
}

/* False: the line is none of ours. */
static bool parse_line(const char *line, char lease_ref[UUID_TEXT_SIZE], struct wanted *out)
{
    char feature[FEATURE_NAME_MAX + 1], scope[UUID_TEXT_SIZE];
    struct uuid uuid;
    long long count;

    _Static_assert(FEATURE_NAME_MAX == 64 && UUID_TEXT_SIZE == 37, "widths in the format");
    if (sscanf(line, "%36s %64s %lld %36s", lease_ref, feature, &count, scope) != 4 ||
        !uuid_parse(lease_ref, strlen(lease_ref), &uuid) || !feature_name_valid(feature) ||
        count < 1 || count > ENTITLEMENT_SEATS_MAX)
        return false;
    *out = (struct wanted){ .count = count };
    memcpy(out->feature, feature, sizeof feature);
    if (strcmp(scope, "-") == 0)
        return true;
    memcpy(out->scope_ref, scope, sizeof scope);
    return uuid_parse(scope, strlen(scope), &uuid);
}

/* NULL: the settings do not have the feature any more. */
static const struct wanted *find_wanted(const struct agent *agent, const char *feature)
{
    const struct wanted_list *list = &agent->settings->features;

    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->items[i].feature, feature) == 0)
            return &list->items[i];
    }
    return NULL;
}

DEFINE_AUTO(struct twinlease_list *, twinlease_list_free)

static bool is_valid(struct twinlease *handle, const char *lease_ref)
{
    AUTO(twinlease_list_free) struct twinlease_list *list = NULL;

    if (twinlease_recorded(handle, &list, NULL) != TWINLEASE_OK)
        return false;
    for (size_t i = 0; i < twinlease_list_count(list); i++) {
        const struct twinlease_lease *lease = twinlease_list_at(list, i);
        if (strcmp(twinlease_lease_ref(lease), lease_ref) == 0)
            return twinlease_lease_expires_in_ms(lease) > 0;
    }
    return false;
}

static void settle_line(struct agent *agent, const char *line)
{
    char lease_ref[UUID_TEXT_SIZE];
    struct wanted was;

    if (!parse_line(line, lease_ref, &was))
        return;
    const struct wanted *now = find_wanted(agent, was.feature);
    if (now && now->count == was.count && strcmp(now->scope_ref, was.scope_ref) == 0)
        return; /* the keeper will find it */
    if (!is_valid(agent->handle, lease_ref) || agent_seat(agent, was.feature))
        return; /* over; or two lines of one feature: the file is not as we wrote it */
    log_event_with(LOG_INFO, "license_unwanted",
                   LOG_FIELDS("feature", was.feature, "lease_ref", lease_ref),
                   "The settings have changed: giving back what %s had before", was.feature);
    agent_add(agent, seat_new_ending(&agent->desk, lease_ref, &was, now));
}

void agent_leases_settle(struct agent *agent)
{
    AUTO(buf_fini) struct buf text = { .max = LEASES_MAX };
    char path[PATH_MAX], *rest = NULL;
    struct diag diag;

    if (!leases_path(agent, path) || !file_exists(path))
        return;
    if (file_read(path, FILE_PUBLIC, &text, &diag) != ERR_OK) {
        log_event(LOG_WARNING, "leases_unreadable", "%s", diag.text);
        return;
    }
    AUTO(mem_free) char *lines = buf_take(&text);
    for (char *line = strtok_r(lines, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        settle_line(agent, line);
}
