/* The node's settings: what contradicts what (base/settings.c does the reading). */
#include "config_setting.h"

#include <json-c/json.h>
#include <string.h>
#include <strings.h>

/* What config_read() makes: the public part first. */
struct config_full {
    struct config config;
    enum setting_source sources[SETTING_COUNT];
};

/* ---- contradictions ---------------------------------------------------------------------- */

static bool host_equal(const char *bracketed, const char *host)
{
    size_t length = strlen(host);

    if (*bracketed == '[')
        return strncasecmp(bracketed + 1, host, length) == 0 && bracketed[1 + length] == ']';
    return strcasecmp(bracketed, host) == 0;
}

static enum err check_pair(const struct config *c, struct diag *diag)
{
    bool peer = c->ha_replicate.host != NULL;

    if (peer && c->ha_role == HA_NONE)
        return diag_set(diag, ERR_CONFIG,
                        "HA_REPLICATE is set, but HA_ROLE is not; allowed: PRIMARY or SECONDARY");
    if (!peer && c->ha_role != HA_NONE)
        return diag_set(
            diag, ERR_CONFIG,
            "HA_ROLE is set, but HA_REPLICATE is not; it names the other node, host:port");
    if (peer && c->ha_replicate.port == c->dls_port.value &&
        host_equal(c->dls_url, c->ha_replicate.host))
        return diag_set(
            diag, ERR_CONFIG,
            "HA_REPLICATE is this node's own DLS_URL:DLS_PORT (%s:%u); it must name the "
            "other node",
            c->dls_url, c->ha_replicate.port);
    return ERR_OK;
}

/* Files that one setting writes or keeps secret must not be another's. TLS_CA may be TLS_CERT. */
static enum err check_paths(const struct config *c, struct diag *diag)
{
    const struct {
        const char *name, *path;
    } files[] = {
        { "TLS_CERT", c->tls_cert },
        { "TLS_KEY", c->tls_key },
        { "INSTANCE_KEY_RSA", c->instance_key_rsa },
        { "INSTANCE_KEY_PUB", c->instance_key_pub },
        { "ADMIN_TOKEN_FILE", c->admin_token_file },
        { "VIEWER_TOKEN_FILE", c->viewer_token_file },
        { "METRICS_TOKEN_FILE", c->metrics_token_file },
        { "ENROL_TOKEN_FILE", c->enrol_token_file },
    };

    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        for (size_t j = i + 1; j < ARRAY_SIZE(files); j++) {
            if (files[i].path && files[j].path && strcmp(files[i].path, files[j].path) == 0)
                return diag_set(diag, ERR_CONFIG, "%s and %s are the same file, %s", files[i].name,
                                files[j].name, files[i].path);
        }
    }
    return ERR_OK;
}

/* ---- public ------------------------------------------------------------------------------ */

static enum err config_build(const struct settings_input *input, struct config **out,
                             struct diag *diag)
{
    struct config_full *full = mem_calloc(1, sizeof *full);
    enum err e = settings_read(&config_settings, input, &full->config, full->sources, diag);

    if (e == ERR_OK)
        e = check_pair(&full->config, diag);
    if (e == ERR_OK)
        e = check_paths(&full->config, diag);
    if (e == ERR_OK)
        *out = &full->config;
    else
        config_free(&full->config);
    return e;
}

enum err config_read(const char *file, char *const *environment, struct config **out,
                     struct diag *diag)
{
    return config_build(&(struct settings_input){ .file = file, .environment = environment }, out,
                        diag);
}

struct config *config_free(struct config *config)
{
    if (!config)
        return NULL;
    settings_fini(&config_settings, config);
    mem_free(config);
    return NULL;
}

int64_t config_lease_max_ms(const struct config *config)
{
    if (config->lease_expire_seconds.set)
        return config->lease_expire_seconds.value * 1000;
    if (config->lease_expire_hours.set)
        return config->lease_expire_hours.value * 3600000;
    return config->lease_expire_days.value * 86400000;
}

struct json_object *config_json(const struct config *config)
{
    const struct config_full *full = (const struct config_full *)config;

    return settings_json(&config_settings, config, full->sources);
}

void config_help(FILE *out)
{
    settings_help(&config_settings, out);
}

void config_help_markdown(FILE *out)
{
    settings_help_markdown(&config_settings, out);
}

void config_help_man(FILE *out)
{
    settings_help_man(&config_settings, out);
}
