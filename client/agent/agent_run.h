/* The agent as the command starts it. */
#pragma once

#include "settings.h"
#include "twinlease.h"

/* Runs until SIGTERM. Takes the settings, which agent_settings_check() has passed; `file`: where
 * they came from, for SIGHUP. BAD_FILE, VERIFICATION (client token, publisher's key), STATE
 * (another agent has the state folder), ERROR. */
enum twinlease_code agent_run(const char *file, bool json, struct agent_settings *settings,
                              struct twinlease_error *error);
