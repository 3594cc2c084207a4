/*
 * Purpose: see admin.h: the socket, and who may speak to it.
 * Thread:  control.
 * Owns:    the socket and its clients. Each open handle on the loop keeps the memory, and so does
 *          whoever has it from admin_open; the last of them frees it.
 * Fails:   see admin.h.
 */
#include "lb/admin/admin.h"

#include "common/clock.h"
#include "common/log.h"
#include "lb/admin/client.h"
#include "lb/admin/socket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* As many as lb/limits keeps descriptors for. */
#define CLIENTS_MAX 64
#define BACKLOG 64

/* When all places are taken, one that has been silent for so long is given away: scripts that
 * forget to hang up must not lock the operator out. */
#define SILENT_MS 60000

struct admin {
    struct control *control;
    struct admin_socket socket;
    uv_pipe_t server;
    bool serving; /* `server` is open on the loop */
    struct list clients;
    unsigned client_count; /* those closing included */
    unsigned holders;
};

static void let_go(struct admin *admin)
{
    if (--admin->holders == 0)
        free(admin);
}

/* ---- clients ---- */

static void on_client_closed(void *owner)
{
    struct admin *admin = owner;
    admin->client_count--;
    let_go(admin);
}

static bool make_room(struct admin *admin)
{
    if (list_empty(&admin->clients))
        return false;
    struct client *silent = client_of(admin->clients.next);
    if (clock_now_ms() - client_active_at(silent) < SILENT_MS)
        return false;
    client_close(silent);
    return true;
}

static void on_connection(uv_stream_t *server, int status)
{
    struct admin *admin = server->data;
    const struct client_env env = {
        .control = admin->control,
        .clients = &admin->clients,
        .owner = admin,
        .closed = on_client_closed,
    };
    bool room = admin->client_count < CLIENTS_MAX || make_room(admin);
    if (status == 0)
        status =
            client_open(&env, server, room ? NULL : "weir has 64 admin clients and takes no more");
    if (status < 0) {
        log_warn("admin client not accepted", LOG_S("error", uv_strerror(status)));
        return;
    }
    admin->client_count++;
    admin->holders++;
}

static void close_clients(struct admin *admin)
{
    while (!list_empty(&admin->clients))
        client_close(client_of(admin->clients.next));
}

/* ---- the socket ---- */

int admin_open(struct admin **out, struct control *control, uid_t uid, gid_t gid, char *error,
               size_t error_size)
{
    const struct config_weir *config = &control_config(control)->weir;
    const struct admin_socket_options options = {
        .path = config->admin_socket,
        .mode = (mode_t)config->admin_mode,
        .uid = uid,
        .gid = gid,
        .backlog = BACKLOG,
    };
    struct admin *admin = calloc(1, sizeof(*admin));
    if (admin == NULL) {
        snprintf(error, error_size, "no memory for the admin socket");
        return -ENOMEM;
    }
    int rc = admin_socket_open(&admin->socket, &options, error, error_size);
    if (rc < 0) {
        free(admin);
        return rc;
    }
    admin->control = control;
    admin->holders = 1;
    list_init(&admin->clients);
    *out = admin;
    return 0;
}

static void on_server_closed(uv_handle_t *handle)
{
    let_go(handle->data);
}

int admin_start(struct admin *admin, char *error, size_t error_size)
{
    int rc = uv_pipe_init(control_loop(admin->control), &admin->server, 0);
    if (rc == 0) {
        admin->server.data = admin;
        admin->serving = true;
        admin->holders++;
        rc = uv_pipe_open(&admin->server, admin->socket.fd);
    }
    if (rc == 0) {
        admin->socket.fd = -1; /* the handle's now */
        rc = uv_listen((uv_stream_t *)&admin->server, BACKLOG, on_connection);
    }
    if (rc < 0)
        snprintf(error, error_size, "cannot serve the admin socket: %s", uv_strerror(rc));
    return rc;
}

void admin_close(struct admin **admin)
{
    struct admin *old = *admin;
    if (old == NULL)
        return;
    *admin = NULL;
    admin_socket_unlink(&old->socket);
    close_clients(old);
    if (old->serving)
        uv_close((uv_handle_t *)&old->server, on_server_closed);
    if (old->socket.fd >= 0)
        close(old->socket.fd);
    let_go(old);
}
