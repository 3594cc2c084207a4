/*
 * Purpose: `show sessions`, `show flows` and their `kill`: questions to the workers.
 * Thread:  control.
 * Owns:    the question, from its start until it is done or the client is gone.
 * Fails:   by answering with an error.
 *
 * The slices of an answer come from the workers; the next is asked for when the line of the one
 * before is written. All that sessions and flows differ in is struct traffic.
 */
#include "lb/admin/handlers.h"
#include "lb/admin/lookup.h"
#include "lb/admin/reply.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One kind of traffic. */
struct traffic {
    enum traffic_kind kind;
    const char *noun;
    json_t *(*row)(const union traffic_rows *rows, uint32_t index);
};

struct question {
    const struct traffic *traffic;
    struct request *request;
    struct control_query *query;
    uint64_t id; /* of the one to kill */
};

/* ---- rows ---- */

static struct reply begin_row(uint64_t id, const char *listener, const union inet_address *client,
                              const char *pool, const char *server)
{
    struct reply row = reply_object();
    char text[ADDRESS_TEXT_MAX];
    reply_add_number(&row, "id", id);
    reply_add_text(&row, "listener", listener);
    reply_add_text(&row, "client", inet_address_format(client, text));
    reply_add_text(&row, "pool", pool);
    reply_add_text(&row, "server", server);
    return row;
}

static json_t *session_row(const union traffic_rows *rows, uint32_t index)
{
    const struct session_info *session = &rows->session[index];
    struct reply row =
        begin_row(session->id, session->listener, &session->client, session->pool, session->server);
    reply_add_text(&row, "state", session_state_name(session->state));
    reply_add_text(&row, "engine", session->engine);
    reply_add_number(&row, "age_ms", session->age_ms);
    reply_add_number(&row, "idle_ms", session->idle_ms);
    reply_add_number(&row, "bytes_in", session->bytes_in);
    reply_add_number(&row, "bytes_out", session->bytes_out);
    return reply_end(&row);
}

static json_t *flow_row(const union traffic_rows *rows, uint32_t index)
{
    const struct flow_info *flow = &rows->flow[index];
    struct reply row = begin_row(flow->id, flow->listener, &flow->client, flow->pool, flow->server);
    reply_add_text(&row, "state", flow_state_name(flow->state));
    reply_add_number(&row, "age_ms", flow->age_ms);
    reply_add_number(&row, "idle_ms", flow->idle_ms);
    reply_add_number(&row, "datagrams_in", flow->datagrams_in);
    reply_add_number(&row, "datagrams_out", flow->datagrams_out);
    reply_add_number(&row, "bytes_in", flow->bytes_in);
    reply_add_number(&row, "bytes_out", flow->bytes_out);
    return reply_end(&row);
}

static const struct traffic sessions = {TRAFFIC_SESSIONS, "session", session_row};
static const struct traffic flows = {TRAFFIC_FLOWS, "flow", flow_row};

/* ---- asking ---- */

static void next(struct request *request)
{
    struct question *question = request->state;
    control_query_next(question->query);
}

static void cancel(struct request *request)
{
    struct question *question = request->state;
    control_query_cancel(&question->query);
    free(question);
}

/* Holds the request until `done`, or refuses it. */
static void ask(struct request *request, const struct traffic *traffic,
                const struct traffic_filter *filter, bool kill,
                struct control_query_callbacks callbacks)
{
    struct question *question = calloc(1, sizeof(*question));
    if (question == NULL) {
        request_reply(request, NULL);
        return;
    }
    question->traffic = traffic;
    question->request = request;
    question->id = filter->id;
    callbacks.arg = question;
    int rc = control_query_start(request->control, traffic->kind, filter, kill, &callbacks,
                                 &question->query);
    if (rc < 0) {
        free(question);
        request_refuse(request, "the workers cannot be asked: %s", uv_strerror(rc));
        return;
    }
    request_hold(request, next, cancel, question);
}

/* ---- show ---- */

static void on_rows(void *arg, const union traffic_rows *rows, uint32_t count)
{
    struct question *question = arg;
    struct reply array = reply_array();
    for (uint32_t i = 0; i < count && reply_append(&array, question->traffic->row(rows, i)); i++)
        continue;
    request_more(question->request, reply_end(&array));
}

static void on_rows_done(void *arg, uint32_t total)
{
    (void)total;
    struct question *question = arg;
    struct request *request = question->request;
    free(question);
    request_reply(request, json_array());
}

/* Copies a name that was found, so it fits. */
static void copy_name(char out[CONFIG_NAME_MAX + 1], const char *name)
{
    size_t size = strlen(name) + 1;
    BUG_ON(size > CONFIG_NAME_MAX + 1);
    memcpy(out, name, size);
}

/* False: refused. */
static bool filter_names(struct request *request, struct traffic_filter *filter)
{
    const char *listener = request_option(request, "listener");
    const char *pool_name = request_option(request, "pool");
    const char *server = request_option(request, "server");
    struct pool *pool = NULL;
    if (listener != NULL) {
        if (lookup_listener(request, listener) == NULL)
            return false;
        copy_name(filter->listener, listener);
    }
    if (pool_name != NULL) {
        if ((pool = lookup_pool(request, pool_name)) == NULL)
            return false;
        copy_name(filter->pool, pool_name);
    }
    if (server != NULL) {
        if (lookup_server(request, pool, server) == NULL)
            return false;
        copy_name(filter->server, server);
    }
    return true;
}

/* "192.0.2.1:4711" and "[2001:db8::1]:4711"; without a port also "192.0.2.1" and "2001:db8::1". */
static bool parse_client(const char *text, struct address *out, bool *has_port)
{
    char full[ADDRESS_TEXT_MAX];
    const char *why;
    *has_port = address_parse(out, text, &why) == 0;
    if (!*has_port) {
        bool bare_v6 = text[0] != '[' && strchr(text, ':') != NULL;
        int length = snprintf(full, sizeof(full), bare_v6 ? "[%s]:0" : "%s:0", text);
        if (length >= (int)sizeof(full) || address_parse(out, full, &why) < 0)
            return false;
    }
    return address_is_inet(out);
}

/* False: refused. An address may be written in many ways; the workers know one. */
static bool filter_client(struct request *request, struct traffic_filter *filter)
{
    const char *client = request_option(request, "client");
    struct address address;
    const char *why;
    bool has_port;
    if (client == NULL)
        return true;
    if (strchr(client, '/') != NULL) {
        filter->is_within = network_parse(&filter->within, client, &why) == 0;
        if (!filter->is_within)
            request_refuse_usage(request, "\"%s\" is not a client's address or network: %s", client,
                                 why);
        return filter->is_within;
    }
    if (!parse_client(client, &address, &has_port)) {
        request_refuse_usage(request, "\"%s\" is not a client's address or network", client);
        return false;
    }
    inet_address_fold(&address.inet);
    inet_address_format(&address.inet, filter->client);
    if (!has_port)
        *strrchr(filter->client, ':') = '\0';
    return true;
}

static void show(struct request *request, const struct traffic *traffic)
{
    struct traffic_filter filter = {0};
    if (filter_names(request, &filter) && filter_client(request, &filter))
        ask(request, traffic, &filter, false,
            (struct control_query_callbacks){.rows = on_rows, .done = on_rows_done});
}

void run_show_sessions(struct request *request)
{
    show(request, &sessions);
}

void run_show_flows(struct request *request)
{
    show(request, &flows);
}

/* ---- kill ---- */

static void on_killed(void *arg, uint32_t total)
{
    struct question *question = arg;
    struct request *request = question->request;
    const char *noun = question->traffic->noun;
    uint64_t id = question->id;
    free(question);
    if (total == 0) {
        request_refuse(request, "there is no %s %" PRIu64, noun, id);
        return;
    }
    struct reply reply = reply_object();
    reply_add_number(&reply, "killed", id);
    request_reply(request, reply_end(&reply));
}

static void kill_one(struct request *request, const struct traffic *traffic)
{
    const char *text = request_argument(request, 0);
    struct traffic_filter filter = {0};
    if (!words_number(text, UINT64_MAX, &filter.id) || filter.id == 0) {
        request_refuse_usage(request, "\"%s\" is not a %s's number", text, traffic->noun);
        return;
    }
    ask(request, traffic, &filter, true, (struct control_query_callbacks){.done = on_killed});
}

void run_kill_session(struct request *request)
{
    kill_one(request, &sessions);
}

void run_kill_flow(struct request *request)
{
    kill_one(request, &flows);
}
