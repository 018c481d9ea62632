/* What others see of the agent: proofs, the status file, systemd's STATUS. What cannot be written
 * is told once and tried again with the next change or period: it costs nobody a licence. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent.h"
#include "base/file.h"
#include "base/log.h"
#include "notify.h"
#include "proof.h"
#include "tool/output.h"

/* The proof of a feature, as it lies in the folder. */
struct published {
    char feature[FEATURE_NAME_MAX + 1];
    uint64_t version;
    bool known; /* `version` is what lies there, or its absence */
};

static void complain(struct agent *agent, const struct diag *diag)
{
    if (strcmp(agent->complaint.text, diag->text) == 0)
        return;
    agent->complaint = *diag;
    log_event(LOG_WARNING, "not_published", "%s", diag->text);
}

/* ---- proofs ------------------------------------------------------------------------------ */

static struct published *find_published(struct agent *agent, const char *feature)
{
    size_t count = agent->published_count;

    for (size_t i = 0; i < count; i++) {
        if (strcmp(agent->published[i].feature, feature) == 0)
            return &agent->published[i];
    }
    agent->published = mem_resize(agent->published, (count + 1) * sizeof *agent->published);
    agent->published[count] = (struct published){ .known = false };
    snprintf(agent->published[count].feature, sizeof agent->published[count].feature, "%s",
             feature);
    agent->published_count++;
    return &agent->published[count];
}

static void publish_proof(struct agent *agent, struct seat *seat, const struct agent_feature *now)
{
    const char *feature = now->wanted.feature;
    struct published *published = find_published(agent, feature);
    const char *folder = agent->settings->proof_dir;
    uint64_t version;
    AUTO(mem_free) char *text = seat_proof(seat, &version);
    struct diag diag;

    if (!now->held || !text) {
        /* What an earlier run has left is good until the lease turns out not to be. */
        if (published->known || now->code != TWINLEASE_OK)
            proof_remove(folder, feature);
        published->known = false;
        return;
    }
    if (published->known && published->version == version)
        return;
    if (proof_write(folder, feature, text, &diag) != ERR_OK) {
        complain(agent, &diag);
        return;
    }
    published->known = true;
    published->version = version;
}

void agent_published_free(struct agent *agent)
{
    mem_free(agent->published);
    agent->published = NULL;
    agent->published_count = 0;
}

/* ---- the status file --------------------------------------------------------------------- */

static void write_status(struct agent *agent, const struct agent_status *status)
{
    AUTO(buf_fini) struct buf text = { .max = STATUS_FILE_MAX };
    const char *path = agent->settings->status_file;
    struct diag diag;

    agent->status_written = status->written;
    agent_status_write(status, wall_now(), &text);
    folder_of_file_make(path);
    if (file_write(path, buf_text(&text), text.length, 0644, true, &diag) != ERR_OK)
        complain(agent, &diag);
}

void agent_remember(struct agent *agent)
{
    AUTO(buf_fini) struct buf text = { .max = STATUS_FILE_MAX };
    struct agent_status *earlier = &agent->earlier;
    struct diag diag;

    if (file_read(agent->settings->status_file, FILE_PUBLIC, &text, &diag) == ERR_OK &&
        agent_status_parse(buf_text(&text), text.length, earlier, &diag) == ERR_OK &&
        (strcmp(earlier->boot_id, agent->boot_id) != 0 ||
         strcmp(earlier->instance_ref, twinlease_instance_ref(agent->handle)) != 0))
        agent_status_fini(earlier);
}

static bool is_for(const struct agent_feature *then, const struct wanted *wanted)
{
    return strcmp(then->wanted.feature, wanted->feature) == 0 &&
           then->wanted.count == wanted->count &&
           (!*wanted->scope_ref || strcmp(then->scope_ref, wanted->scope_ref) == 0);
}

/* A start is no loss: until it is known how a feature stands, it stands as an earlier run has left
 * it. After that, never again. */
static void recall(struct agent *agent, struct agent_feature *now)
{
    struct agent_status *earlier = &agent->earlier;
    bool known = now->held || now->code != TWINLEASE_OK;

    for (size_t i = 0; i < earlier->feature_count; i++) {
        struct agent_feature *then = &earlier->features[i];
        if (strcmp(then->wanted.feature, now->wanted.feature) != 0)
            continue;
        if (known || !is_for(then, &now->wanted))
            then->held = false;
        else if (then->held && boot_now().ms < then->ends.ms)
            *now = *then;
    }
}

static void read_seats(struct agent *agent, struct agent_status *status)
{
    status->features = mem_calloc(agent->seat_count + 1, sizeof *status->features);
    for (size_t i = 0; i < agent->seat_count; i++) {
        struct agent_feature *now = &status->features[status->feature_count];
        if (!seat_wanted(agent->seats[i]))
            continue;
        seat_read(agent->seats[i], now);
        recall(agent, now);
        status->feature_count++;
    }
}

/* ---- systemd ----------------------------------------------------------------------------- */

/* "2 of 3 features licensed; render until 2026-11-22T09:00:00Z; simulate: no_seat": the lease that
 * ends first, and the first one that is missing. */
static void compose_notice(const struct agent_status *status, size_t held, char *out, size_t size)
{
    const struct agent_feature *first = NULL, *missing = NULL;
    char until[WHEN_SIZE] = "";

    for (size_t i = 0; i < status->feature_count; i++) {
        const struct agent_feature *one = &status->features[i];
        if (one->held && (!first || one->ends.ms < first->ends.ms))
            first = one;
        if (!one->held && !missing)
            missing = one;
    }
    if (first)
        when_format(first->expires_ms, until);
    snprintf(out, size, "%zu of %zu features licensed%s%s%s%s%s%s%s%s", held, status->feature_count,
             first ? "; " : "", first ? first->wanted.feature : "", first ? " until " : "", until,
             missing ? "; " : "", missing ? missing->wanted.feature : "", missing ? ": " : "",
             !missing                        ? ""
             : missing->code == TWINLEASE_OK ? "not asked yet"
                                             : twinlease_code_name(missing->code));
}

static void notify(struct agent *agent, const struct agent_status *status)
{
    char text[sizeof agent->notified];
    size_t held = 0;

    for (size_t i = 0; i < status->feature_count; i++)
        held += status->features[i].held;
    compose_notice(status, held, text, sizeof text);
    if (strcmp(text, agent->notified) != 0) {
        memcpy(agent->notified, text, sizeof text);
        notify_text(text);
    }
    if (!agent->ready &&
        (agent->settings->ready == READY_RUNNING || held == status->feature_count)) {
        agent->ready = true;
        notify_ready();
    }
}

/* ---- all of it --------------------------------------------------------------------------- */

void agent_publish(struct agent *agent)
{
    AUTO(agent_status_fini)
    struct agent_status status = { .pid = (long)getpid(), .written = boot_now() };

    memcpy(status.boot_id, agent->boot_id, sizeof status.boot_id);
    snprintf(status.instance_ref, sizeof status.instance_ref, "%s",
             twinlease_instance_ref(agent->handle));
    read_seats(agent, &status);
    for (size_t i = 0; i < agent->seat_count; i++) {
        struct agent_feature now;
        seat_read(agent->seats[i], &now);
        publish_proof(agent, agent->seats[i], &now);
    }
    write_status(agent, &status);
    agent_leases_write(agent);
    notify(agent, &status);
}

void agent_unpublish(struct agent *agent)
{
    for (size_t i = 0; i < agent->published_count; i++)
        proof_remove(agent->settings->proof_dir, agent->published[i].feature);
    agent_published_free(agent);
    unlink(agent->settings->status_file);
}

void agent_tell(struct agent *agent)
{
    for (size_t i = 0; i < agent->seat_count; i++) {
        struct agent_feature now;
        char until[WHEN_SIZE] = "";
        seat_read(agent->seats[i], &now);
        if (now.held)
            when_format(now.expires_ms, until);
        log_event_with(
            LOG_INFO, "license_status",
            LOG_FIELDS("feature", now.wanted.feature, "lease_ref", now.held ? now.lease_ref : NULL),
            "%s: %lld %s, %s%s%s%s", now.wanted.feature, (long long)now.wanted.count,
            plural(now.wanted.count), now.held ? "held until " : "not held", until,
            now.code != TWINLEASE_OK ? ": " : "", now.message);
    }
}
