/*
 * Purpose: the commands about who may come in: `allow`, `deny`, `forget`, `show access`.
 * Thread:  control.
 * Owns:    what is shown is a copy, from the first line to the last: rules may change meanwhile.
 * Fails:   by answering with an error.
 */
#include "common/clock.h"
#include "lb/admin/handlers.h"
#include "lb/admin/lookup.h"
#include "lb/admin/reply.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Rules of one line of `show access`: a fraction of a millisecond. */
#define SLICE 128

static const char *verdict_word(bool denies)
{
    return denies ? "deny" : "allow";
}

/* Null without an end. */
static json_t *left(uint64_t until_ms)
{
    uint64_t now = clock_now_ms();
    if (until_ms == UINT64_MAX)
        return json_null();
    return json_integer((json_int_t)(until_ms > now ? until_ms - now : 0));
}

/* ---- Arguments; false: refused ---- */

static bool take_network(struct request *request, struct network *out)
{
    const char *why;
    const char *text = request_argument(request, 1);
    if (network_parse(out, text, &why) == 0)
        return true;
    request_refuse_usage(request, "\"%s\" is not a network such as 10.0.0.0/8 or 2001:db8::/32: %s",
                         text, why);
    return false;
}

static bool take_end(struct request *request, uint64_t *out_until_ms)
{
    int64_t span_ms = 0;
    if (!request_take_duration(request, "for", 1, &span_ms))
        return false;
    *out_until_ms = span_ms == 0 ? UINT64_MAX : clock_now_ms() + (uint64_t)span_ms;
    return true;
}

/* Of a dry run whom it ended would be back at once. */
static bool take_kill(struct request *request, const struct listener *listener, bool *out)
{
    const char *text = request_option(request, "kill");
    *out = text != NULL && strcmp(text, "yes") == 0;
    if (*out && gate_is_dry(listener->gate)) {
        request_refuse(request,
                       "listener \"%s\" has dry_run = true, so that a denied client whose "
                       "session is ended would be let in again; leave kill= out",
                       listener->config->name);
        return false;
    }
    if (text == NULL || *out || strcmp(text, "no") == 0)
        return true;
    request_refuse_usage(request, "kill= is yes or no, not \"%s\"", text);
    return false;
}

/* ---- allow and deny ---- */

static struct reply begin_row(const struct listener *listener, const struct gate_rule *rule)
{
    char text[NETWORK_TEXT_MAX];
    struct reply row = reply_object();
    reply_add_text(&row, "listener", listener->config->name);
    reply_add_text(&row, "verdict", verdict_word(rule->denies));
    reply_add_text(&row, "network", network_format(&rule->network, text));
    reply_add(&row, "left_ms", left(rule->until_ms));
    return row;
}

static bool put(struct request *request, const struct listener *listener,
                const struct gate_rule *rule)
{
    int rc = control_rule_put(request->control, listener, rule, request->who);
    const char *name = listener->config->name;
    if (rc == -ENOSPC)
        request_refuse(request,
                       "listener \"%s\" has %d rules, which is all it may have; forget some, or "
                       "say it of a larger network",
                       name, GATE_RULES_MAX);
    else if (rc < 0)
        request_reply(request, NULL);
    return rc == 0;
}

void run_allow(struct request *request)
{
    const struct listener *listener = lookup_listener(request, request_argument(request, 0));
    struct gate_rule rule = {.denies = false};
    if (listener == NULL || !take_network(request, &rule.network) ||
        !take_end(request, &rule.until_ms) || !put(request, listener, &rule))
        return;
    struct reply row = begin_row(listener, &rule);
    request_reply(request, reply_end(&row));
}

/* Whoever is under way and denied now, while the workers look for them. */
struct killing {
    struct request *request;
    const struct listener *listener;
    struct gate_rule rule;
    struct control_query *query;
};

static void on_killed(void *arg, uint32_t total)
{
    struct killing *killing = arg;
    struct request *request = killing->request;
    struct reply row = begin_row(killing->listener, &killing->rule);
    free(killing);
    reply_add_number(&row, "killed", total);
    request_reply(request, reply_end(&row));
}

static void cancel_killing(struct request *request)
{
    struct killing *killing = request->state;
    control_query_cancel(&killing->query);
    free(killing);
}

static int start_killing(struct killing *killing)
{
    const struct config_listener *config = killing->listener->config;
    struct traffic_filter filter = {
        .is_within = true, .within = killing->rule.network, .is_denied = true};
    const struct control_query_callbacks callbacks = {.done = on_killed, .arg = killing};
    snprintf(filter.listener, sizeof(filter.listener), "%s", config->name);
    return control_query_start(killing->request->control,
                               config->protocol == CONFIG_PROTOCOL_UDP ? TRAFFIC_FLOWS
                                                                       : TRAFFIC_SESSIONS,
                               &filter, true, &callbacks, &killing->query);
}

static void kill_denied(struct request *request, const struct listener *listener,
                        const struct gate_rule *rule)
{
    struct killing *killing = calloc(1, sizeof(*killing));
    if (killing == NULL) {
        request_reply(request, NULL);
        return;
    }
    *killing = (struct killing){.request = request, .listener = listener, .rule = *rule};
    int rc = start_killing(killing);
    if (rc < 0) {
        free(killing);
        request_refuse(request, "it is denied, but the workers cannot be asked to end it: %s",
                       uv_strerror(rc));
        return;
    }
    request_hold(request, NULL, cancel_killing, killing);
}

void run_deny(struct request *request)
{
    const struct listener *listener = lookup_listener(request, request_argument(request, 0));
    struct gate_rule rule = {.denies = true};
    bool kills;
    if (listener == NULL || !take_network(request, &rule.network) ||
        !take_end(request, &rule.until_ms) || !take_kill(request, listener, &kills) ||
        !put(request, listener, &rule))
        return;
    if (kills) {
        kill_denied(request, listener, &rule);
        return;
    }
    struct reply row = begin_row(listener, &rule);
    request_reply(request, reply_end(&row));
}

/* ---- forget ---- */

void run_forget(struct request *request)
{
    const struct listener *listener = lookup_listener(request, request_argument(request, 0));
    struct network network;
    char text[NETWORK_TEXT_MAX];
    if (listener == NULL || !take_network(request, &network))
        return;
    network_format(&network, text);
    int rc = control_rule_drop(request->control, listener, &network, request->who);
    if (rc == -ENOENT) {
        request_refuse(request,
                       "no operator has said anything of %s for listener \"%s\"; \"show access "
                       "%s\" tells of what was said",
                       text, listener->config->name, listener->config->name);
        return;
    }
    if (rc < 0) {
        request_reply(request, NULL);
        return;
    }
    struct reply row = reply_object();
    reply_add_text(&row, "listener", listener->config->name);
    reply_add_text(&row, "forgotten", text);
    request_reply(request, reply_end(&row));
}

/* ---- show access ---- */

struct showing {
    size_t count;
    size_t at;
    struct gate_rule rule[];
};

static struct reply begin_entry(bool denies, const char *by)
{
    struct reply row = reply_object();
    reply_add_text(&row, "verdict", verdict_word(denies));
    reply_add_text(&row, "by", by);
    return row;
}

static json_t *counted_entry(bool denies, const char *of, size_t count)
{
    struct reply row = begin_entry(denies, "configuration");
    reply_add_text(&row, "network", of);
    reply_add_number(&row, "networks", count);
    reply_add(&row, "left_ms", json_null());
    return reply_end(&row);
}

static json_t *said_entry(const struct gate_rule *rule)
{
    char text[NETWORK_TEXT_MAX];
    struct reply row = begin_entry(rule->denies, "operator");
    reply_add_text(&row, "network", network_format(&rule->network, text));
    reply_add_number(&row, "networks", 1);
    reply_add(&row, "left_ms", left(rule->until_ms));
    return reply_end(&row);
}

/* What the configuration says: how many it has, one by one they may be 100,000. */
static json_t *configured_entries(const struct listener *listener)
{
    const struct config_listener *config = listener->config;
    struct reply rows = reply_array();
    size_t allowed = config->allow.count + config->allow_file.networks.count;
    size_t denied = config->deny.count + config->deny_file.networks.count;
    (void)reply_append(&rows, counted_entry(false, "configured", allowed));
    (void)reply_append(&rows, counted_entry(true, "configured", denied));
    (void)reply_append(&rows, counted_entry(!gate_admits_others(listener->gate), "all others", 0));
    return reply_end(&rows);
}

static void cancel_showing(struct request *request)
{
    free(request->state);
}

static void show_more(struct request *request)
{
    struct showing *showing = request->state;
    struct reply rows = reply_array();
    size_t end = MIN(showing->count, showing->at + SLICE);
    while (showing->at < end && reply_append(&rows, said_entry(&showing->rule[showing->at])))
        showing->at++;
    json_t *data = reply_end(&rows);
    if (data != NULL && showing->at < showing->count) {
        request_more(request, data);
        return;
    }
    free(showing);
    request_reply(request, data);
}

void run_show_access(struct request *request)
{
    const struct listener *listener = lookup_listener(request, request_argument(request, 0));
    size_t count;
    if (listener == NULL)
        return;
    const struct gate_rule *rule = gate_rules(listener->gate, &count);
    struct showing *showing = malloc(sizeof(*showing) + count * sizeof(*rule));
    if (showing == NULL) {
        request_reply(request, NULL);
        return;
    }
    *showing = (struct showing){.count = count};
    if (count > 0)
        memcpy(showing->rule, rule, count * sizeof(*rule));
    request_hold(request, show_more, cancel_showing, showing);
    request_more(request, configured_entries(listener));
}
