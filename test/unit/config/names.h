/*
 * Purpose: the names that a test hands to config_parse, which knows none of lb/'s.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   never.
 */
#pragma once

#include "config/config.h"

static const char *const test_schedulers[] = {
    "round-robin", "least-connections", "p2c", "random", "first", "maglev"};
static const char *const test_probes[] = {"tcp", "http"};
static const struct config_names test_names = {
    .schedulers = test_schedulers,
    .scheduler_count = ARRAY_LEN(test_schedulers),
    .probes = test_probes,
    .probe_count = ARRAY_LEN(test_probes),
};
