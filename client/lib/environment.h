/* What this machine says of itself when it enrols, for operators to recognise it by. */
#pragma once

#include <json-c/json.h>

#define ENVIRONMENT_ADDRESSES_MAX 16

/* {hostname, os_platform, os_version, ip_address_list, fingerprint{mac_address_list}}: a new
 * object, the caller's. What the system does not tell is left out. */
struct json_object *environment_read(void);
