#include "environment.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <limits.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/json.h"

DEFINE_AUTO(struct ifaddrs *, freeifaddrs)

static void add_text(struct json_object *object, const char *name, const char *text)
{
    if (*text)
        json_object_object_add(object, name, json_object_new_string(text));
}

/* Adds a text that is not there yet, up to the limit. */
static void add_distinct(struct json_object *list, const char *text)
{
    size_t count = json_object_array_length(list);

    if (count >= ENVIRONMENT_ADDRESSES_MAX)
        return;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(json_object_get_string(json_object_array_get_idx(list, i)), text) == 0)
            return;
    }
    json_object_array_add(list, json_object_new_string(text));
}

static void add_address(const struct ifaddrs *at, struct json_object *ips, struct json_object *macs)
{
    static const unsigned char none[6];
    char text[INET6_ADDRSTRLEN];

    if (at->ifa_addr->sa_family == AF_PACKET) {
        struct sockaddr_ll link;
        memcpy(&link, at->ifa_addr, sizeof link);
        const unsigned char *m = link.sll_addr;
        if (link.sll_halen != sizeof none || memcmp(m, none, sizeof none) == 0)
            return;
        snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4],
                 m[5]);
        add_distinct(macs, text);
    } else if (at->ifa_addr->sa_family == AF_INET) {
        struct sockaddr_in four;
        memcpy(&four, at->ifa_addr, sizeof four);
        if (inet_ntop(AF_INET, &four.sin_addr, text, sizeof text))
            add_distinct(ips, text);
    } else if (at->ifa_addr->sa_family == AF_INET6) {
        struct sockaddr_in6 six;
        memcpy(&six, at->ifa_addr, sizeof six);
        if (!IN6_IS_ADDR_LINKLOCAL(&six.sin6_addr) &&
            inet_ntop(AF_INET6, &six.sin6_addr, text, sizeof text))
            add_distinct(ips, text);
    }
}

static void add_addresses(struct json_object *object)
{
    AUTO(freeifaddrs) struct ifaddrs *all = NULL;
    struct json_object *ips = json_object_new_array(), *macs = json_object_new_array();
    struct json_object *fingerprint = json_object_new_object();

    if (getifaddrs(&all) != 0)
        all = NULL;
    for (const struct ifaddrs *at = all; at; at = at->ifa_next) {
        if (at->ifa_addr && !(at->ifa_flags & IFF_LOOPBACK))
            add_address(at, ips, macs);
    }
    json_object_object_add(object, "ip_address_list", ips);
    json_object_object_add(fingerprint, "mac_address_list", macs);
    json_object_object_add(object, "fingerprint", fingerprint);
}

struct json_object *environment_read(void)
{
    struct json_object *object = json_object_new_object();
    char hostname[HOST_NAME_MAX + 1] = "";
    struct utsname system;

    must(object);
    if (gethostname(hostname, sizeof hostname - 1) == 0)
        add_text(object, "hostname", hostname);
    if (uname(&system) == 0) {
        add_text(object, "os_platform", system.sysname);
        add_text(object, "os_version", system.release);
    }
    add_addresses(object);
    return object;
}
