/*
 * Purpose: a target's own copy of its health settings: probes outlive a configuration.
 * Thread:  any.
 * Owns:    the strings and addresses of the copy.
 * Fails:   settings_copy without memory.
 *
 * Private to lb/health.
 */
#pragma once

#include "config/config.h"

/* Strings that are NULL become "". */
must_check int settings_copy(struct config_health *out, const struct config_health *from);

/* Harmless on settings that are all zero. */
void settings_deinit(struct config_health *settings);
