/*
 * Purpose: the handlers that the rows of commands.c name.
 * Thread:  control.
 * Owns:    see request.h.
 * Fails:   by answering with an error.
 *
 * Private to lb/admin.
 */
#pragma once

#include "lb/admin/request.h"

/* show.c */
request_step_fn run_status;
request_step_fn run_show_listeners;
request_step_fn run_show_pools;
request_step_fn run_show_counters;
request_step_fn run_show_version;
request_step_fn run_ready;
request_step_fn run_help;

/* config.c */
request_step_fn run_show_config;

/* servers.c */
request_step_fn run_show_servers;

/* traffic.c */
request_step_fn run_show_sessions;
request_step_fn run_show_flows;
request_step_fn run_kill_session;
request_step_fn run_kill_flow;

/* access.c */
request_step_fn run_allow;
request_step_fn run_deny;
request_step_fn run_forget;
request_step_fn run_show_access;

/* change.c */
request_step_fn run_drain;
request_step_fn run_enable;
request_step_fn run_disable;
request_step_fn run_weight;
