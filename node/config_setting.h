/* Inside config*.c only: the table of settings. */
#pragma once

#include "base/settings.h"
#include "config.h"

#define X(field, ...) SETTING_##field,
enum { CONFIG_TBL(X) SETTING_COUNT };
#undef X

extern const struct settings config_settings;
