/*
 * Purpose: see client.h.
 * Thread:  control.
 * Owns:    see client.h. A line on its way out belongs to the write and goes in its callback.
 * Fails:   see client.h.
 */
#include "lb/admin/client.h"

#include "common/clock.h"
#include "lb/admin/reply.h"
#include "lb/admin/request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct client {
    uv_pipe_t pipe;
    uv_write_t write;
    struct client_env env;
    struct list node; /* in env.clients */
    struct request request;
    uint64_t active_ms;
    bool more;       /* the line on its way is not the last of its answer */
    bool last;       /* close once it is written */
    char *line;      /* on its way out; NULL: none, or a constant */
    size_t consumed; /* of `buffer`: the line that is being answered */
    size_t filled;
    char who[64];
    char buffer[CLIENT_LINE_MAX];
};

struct client *client_of(struct list *node)
{
    return list_entry(node, struct client, node);
}

uint64_t client_active_at(const struct client *client)
{
    return client->active_ms;
}

static void touch(struct client *client)
{
    client->active_ms = clock_now_ms();
    list_del(&client->node);
    list_add_tail(client->env.clients, &client->node);
}

/* ---- the end ---- */

static void on_closed(uv_handle_t *handle)
{
    struct client *client = handle->data;
    const struct client_env env = client->env;
    free(client);
    env.closed(env.owner);
}

void client_close(struct client *client)
{
    if (uv_is_closing((uv_handle_t *)&client->pipe))
        return;
    request_abandon(&client->request);
    list_del(&client->node);
    uv_close((uv_handle_t *)&client->pipe, on_closed);
}

/* ---- out ---- */

static void serve(struct client *client);

static void on_written(uv_write_t *write, int status)
{
    struct client *client = write->data;
    free(client->line);
    client->line = NULL;
    if (status < 0 || client->last) {
        client_close(client);
        return;
    }
    touch(client);
    if (client->more) {
        client->request.next(&client->request);
        return;
    }
    client->filled -= client->consumed;
    memmove(client->buffer, client->buffer + client->consumed, client->filled);
    client->consumed = 0;
    serve(client);
}

static void send_line(struct request *request, char *line, bool more)
{
    struct client *client = container_of(request, struct client, request);
    const char *text = line != NULL ? line : reply_no_memory;
    BUG_ON(client->line != NULL);
    client->line = line;
    client->more = more;
    uv_buf_t part[] = {
        uv_buf_init((char *)text, (unsigned)strlen(text)),
        uv_buf_init("\n", 1),
    };
    client->write.data = client;
    if (uv_write(&client->write, (uv_stream_t *)&client->pipe, part, ARRAY_LEN(part), on_written) ==
        0)
        return;
    free(client->line);
    client->line = NULL;
    client_close(client);
}

/* Says why, and closes. */
static void refuse(struct client *client, const char *why)
{
    client->last = true;
    (void)uv_read_stop((uv_stream_t *)&client->pipe);
    send_line(&client->request, reply_error_line(why), false);
}

/* ---- in ---- */

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    (void)suggested;
    struct client *client = handle->data;
    *out =
        uv_buf_init(client->buffer + client->filled, (unsigned)(CLIENT_LINE_MAX - client->filled));
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *into)
{
    (void)into;
    struct client *client = stream->data;
    if (count == 0)
        return;
    if (count > 0) {
        touch(client);
        client->filled += (size_t)count;
        serve(client);
    } else if (count == UV_EOF && client->filled > 0) {
        refuse(client, "the request broke off: a line ends with a newline");
    } else {
        client_close(client);
    }
}

static void answer(struct client *client, size_t length)
{
    client->consumed = length + 1;
    if (length > 0 && client->buffer[length - 1] == '\r')
        length--;
    client->buffer[length] = '\0';
    (void)uv_read_stop((uv_stream_t *)&client->pipe);
    request_run(&client->request, client->buffer, length);
}

static void wait_for_more(struct client *client)
{
    int rc = uv_read_start((uv_stream_t *)&client->pipe, on_room, on_read);
    if (rc < 0 && rc != UV_EALREADY) /* a part of a line came: it goes on reading */
        client_close(client);
}

/* Nothing is under way: answers the next whole line, or waits for one. */
static void serve(struct client *client)
{
    const char *newline = memchr(client->buffer, '\n', client->filled);
    if (newline != NULL)
        answer(client, (size_t)(newline - client->buffer));
    else if (client->filled == CLIENT_LINE_MAX)
        refuse(client, "the request is longer than 4095 bytes");
    else
        wait_for_more(client);
}

/* ---- the beginning ---- */

static void identify(struct client *client, int fd)
{
    struct ucred peer = {.pid = 0, .uid = (uid_t)-1};
    socklen_t size = sizeof(peer);
    (void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size);
    snprintf(client->who, sizeof(client->who), "uid=%u pid=%d", peer.uid, (int)peer.pid);
}

static void discard(uv_handle_t *handle)
{
    free(handle->data);
}

int client_open(const struct client_env *env, int fd, const char *refusal)
{
    struct client *client = calloc(1, sizeof(*client));
    if (client == NULL)
        return UV_ENOMEM;
    int rc = uv_pipe_init(control_loop(env->control), &client->pipe, 0);
    if (rc < 0) {
        free(client);
        return rc;
    }
    client->pipe.data = client;
    rc = uv_pipe_open(&client->pipe, fd);
    if (rc < 0) {
        uv_close((uv_handle_t *)&client->pipe, discard);
        return rc;
    }
    client->env = *env;
    list_init(&client->node);
    touch(client);
    identify(client, fd);
    client->request =
        (struct request){.control = env->control, .who = client->who, .send = send_line};
    if (refusal != NULL)
        refuse(client, refusal);
    else
        serve(client);
    return 0;
}
