/* The types that only the node's settings have, and the table made from config.tbl. */
#include "config_setting.h"

#include <arpa/inet.h>
#include <json-c/json.h>
#include <string.h>

/* Plain decimals only: no sign, no exponent, no locale. */
static bool parse_RATIO(const struct setting *s, const char *text, void *field)
{
    double value = 0, unit = 1;
    bool digits = false, point = false;

    (void)s;
    for (; *text; text++) {
        if (*text == '.' && !point) {
            point = true;
            continue;
        }
        if (*text < '0' || *text > '9')
            return false;
        digits = true;
        if (point)
            value += (*text - '0') * (unit /= 10);
        else
            value = value * 10 + (*text - '0');
    }
    if (!digits || !(value > 0) || !(value < 1))
        return false;
    *(double *)field = value;
    return true;
}

static struct json_object *json_RATIO(const void *field)
{
    char text[32];
    double value = *(const double *)field;

    snprintf(text, sizeof text, "%.6g", value);
    return json_object_new_double_s(value, text);
}

static void allowed_RATIO(const struct setting *s, struct buf *out)
{
    (void)s;
    buf_text_append(out, "a number over 0 and below 1, such as 0.15");
}

static bool parse_UUID(const struct setting *s, const char *text, void *field)
{
    (void)s;
    return uuid_parse(text, strlen(text), field);
}

static struct json_object *json_UUID(const void *field)
{
    char text[UUID_TEXT_SIZE];

    uuid_format(field, text);
    return json_object_new_string(text);
}

static void allowed_UUID(const struct setting *s, struct buf *out)
{
    (void)s;
    buf_text_append(out, "a UUID such as 6f1ed002-ab5e-4d2a-9c1e-0123456789ab, not nil");
}

/* RFC 1123 names; underscores are let through, because names in container networks have them. */
static bool name_valid(const char *text, size_t length)
{
    size_t label = 0;

    if (length == 0 || length > 253)
        return false;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (c == '.') {
            if (label == 0)
                return false;
            label = 0;
            continue;
        }
        if ((!alnum && c != '-' && c != '_') || ++label > 63 || (c == '-' && label == 1))
            return false;
    }
    return true;
}

static bool ip_valid(int family, const char *text, size_t length)
{
    char copy[INET6_ADDRSTRLEN];
    struct in6_addr address; /* the larger one */

    if (length == 0 || length >= sizeof copy)
        return false;
    memcpy(copy, text, length);
    copy[length] = '\0';
    return inet_pton(family, copy, &address) == 1;
}

/* A name or an IPv4 address: a last label of digits alone can only be the latter's, so 256.1.1.1 is
 * neither. */
static bool host_valid(const char *text, size_t length)
{
    size_t digits = 0;

    while (digits < length && text[length - 1 - digits] >= '0' && text[length - 1 - digits] <= '9')
        digits++;
    if (digits && (digits == length || text[length - 1 - digits] == '.'))
        return ip_valid(AF_INET, text, length);
    return name_valid(text, length);
}

/* An IPv6 address gets its brackets, so that the value can stand in a URL as it is. */
static bool parse_HOST(const struct setting *s, const char *text, void *field)
{
    AUTO(buf_fini) struct buf host = { .max = (size_t)s->max + 2 };
    size_t length = strlen(text);
    bool bracketed = length > 2 && text[0] == '[' && text[length - 1] == ']';

    if (bracketed && ip_valid(AF_INET6, text + 1, length - 2))
        buf_text_append(&host, text);
    else if (ip_valid(AF_INET6, text, length))
        buf_format(&host, "[%s]", text);
    else if (host_valid(text, length))
        buf_text_append(&host, text);
    else
        return false;
    *(char **)field = buf_take(&host);
    return true;
}

static void allowed_HOST(const struct setting *s, struct buf *out)
{
    (void)s;
    buf_text_append(out, "a host name or an address, without scheme and port");
}

/* host:port or [IPv6]:port; the host is kept without brackets. */
static bool address_split(const char *text, struct address *out)
{
    const char *colon = strrchr(text, ':');
    int64_t port;

    if (!colon || !setting_digits(colon + 1, 1, 65535, &port))
        return false;
    size_t length = (size_t)(colon - text);
    bool bracketed = length > 2 && text[0] == '[' && text[length - 1] == ']';
    if (bracketed) {
        text++;
        length -= 2;
    }
    if (!(bracketed ? ip_valid(AF_INET6, text, length) : host_valid(text, length)))
        return false;
    out->host = mem_memdup(text, length);
    out->port = (uint16_t)port;
    return true;
}

static bool parse_ADDRESS(const struct setting *s, const char *text, void *field)
{
    (void)s;
    return address_split(text, field);
}

static struct json_object *json_ADDRESS(const void *field)
{
    const struct address *address = field;
    char text[320];

    if (!address->host)
        return NULL;
    bool ipv6 = strchr(address->host, ':') != NULL;
    snprintf(text, sizeof text, ipv6 ? "[%s]:%u" : "%s:%u", address->host, address->port);
    return json_object_new_string(text);
}

static void allowed_ADDRESS(const struct setting *s, struct buf *out)
{
    (void)s;
    buf_text_append(out, "host:port with a port from 1 to 65535, an IPv6 address in brackets");
}

static void fini_ADDRESS(void *field)
{
    setting_fini_text(&((struct address *)field)->host);
}

static bool parse_ROLE(const struct setting *s, const char *text, void *field)
{
    (void)s;
    bool primary = strcmp(text, "PRIMARY") == 0;
    if (!primary && strcmp(text, "SECONDARY") != 0)
        return false;
    *(enum ha_role *)field = primary ? HA_PRIMARY : HA_SECONDARY;
    return true;
}

static struct json_object *json_ROLE(const void *field)
{
    enum ha_role role = *(const enum ha_role *)field;

    if (role == HA_NONE)
        return NULL;
    return json_object_new_string(role == HA_PRIMARY ? "PRIMARY" : "SECONDARY");
}

static void allowed_ROLE(const struct setting *s, struct buf *out)
{
    (void)s;
    buf_text_append(out, "PRIMARY or SECONDARY");
}

/* One origin as browsers send it (RFC 6454 §6.2): a slash at the end would never match. */
static bool origin_valid(const char *text)
{
    const char *host = NULL;
    struct address address = { 0 };

    if (strncmp(text, "https://", 8) == 0)
        host = text + 8;
    else if (strncmp(text, "http://", 7) == 0)
        host = text + 7;
    if (!host)
        return false;
    size_t length = strlen(host);
    if (host_valid(host, length) || (length > 2 && *host == '[' && host[length - 1] == ']' &&
                                     ip_valid(AF_INET6, host + 1, length - 2)))
        return true;
    bool valid = address_split(host, &address);
    fini_ADDRESS(&address);
    return valid;
}

static bool parse_ORIGINS(const struct setting *s, const char *text, void *field)
{
    AUTO(buf_fini) struct buf list = { .max = (size_t)s->max };
    AUTO(mem_free) char *copy = mem_strdup(text);
    char *rest = NULL;

    for (char *one = strtok_r(copy, ", ", &rest); one; one = strtok_r(NULL, ", ", &rest)) {
        if (!origin_valid(one))
            return false;
        buf_format(&list, "%s%s", list.length ? "," : "", one);
    }
    if (!buf_ok(&list))
        return false;
    *(char **)field = buf_take(&list);
    return true;
}

static void allowed_ORIGINS(const struct setting *s, struct buf *out)
{
    (void)s;
    buf_text_append(out, "https://host or https://host:port without a path, comma-separated");
}

#define TYPE(name, json, fini)                                                                     \
    static const struct setting_type setting_type_##name = { parse_##name, json, allowed_##name,   \
                                                             fini }
TYPE(HOST, setting_json_text, setting_fini_text);
TYPE(ORIGINS, setting_json_text, setting_fini_text);
TYPE(RATIO, json_RATIO, setting_fini_nothing);
TYPE(UUID, json_UUID, setting_fini_nothing);
TYPE(ADDRESS, json_ADDRESS, fini_ADDRESS);
TYPE(ROLE, json_ROLE, setting_fini_nothing);
#undef TYPE

static const struct setting rows[SETTING_COUNT] = {
#define X(field, ...) SETTING_ROW(struct config, field, __VA_ARGS__),
    CONFIG_TBL(X)
#undef X
};
const struct settings config_settings = { rows, SETTING_COUNT };
