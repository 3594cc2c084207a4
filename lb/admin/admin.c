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
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* As many as lb/limits keeps descriptors for. */
#define CLIENTS_MAX 64
#define BACKLOG 64

/* When all places are taken, one that has been silent for so long is given away: scripts that
 * forget to hang up must not lock the operator out. */
#define SILENT_MS 60000

/* How long the socket rests when a client cannot be taken, and how often at most the log says so.
 */
#define PAUSE_MS 100
#define TELL_EVERY_MS 1000

struct admin {
    struct control *control;
    struct admin_socket socket;
    uv_poll_t server;
    uv_timer_t resume;
    bool serving; /* both are open on the loop */
    uint64_t told_ms;
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

static void on_connection(uv_poll_t *server, int status, int events);

static void on_resume(uv_timer_t *resume)
{
    struct admin *admin = resume->data;
    (void)uv_poll_start(&admin->server, UV_READABLE, on_connection);
}

/* The clients stay in the kernel's queue meanwhile. */
static void pause_accepting(struct admin *admin, int error)
{
    uint64_t now = uv_now(admin->server.loop);
    (void)uv_poll_stop(&admin->server);
    (void)uv_timer_start(&admin->resume, on_resume, PAUSE_MS, 0);
    if (admin->told_ms != 0 && now - admin->told_ms < TELL_EVERY_MS)
        return;
    admin->told_ms = now;
    log_warn("admin clients are not accepted for now", LOG_S("why", uv_strerror(error)));
}

static int accept_client(struct admin *admin)
{
    int fd = accept4(admin->socket.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return -errno;
    const struct client_env env = {
        .control = admin->control,
        .clients = &admin->clients,
        .owner = admin,
        .closed = on_client_closed,
    };
    bool room = admin->client_count < CLIENTS_MAX || make_room(admin);
    int rc = client_open(&env, fd, room ? NULL : "weir has 64 admin clients and takes no more");
    if (rc < 0) {
        close(fd);
        return rc;
    }
    admin->client_count++;
    admin->holders++;
    return 0;
}

/*
 * Not uv_listen(3): without a descriptor left libuv 1.44 sheds the client with the help of a spare
 * one, and when a worker has been quicker to take that it goes round for ever (uv__server_io).
 */
static void on_connection(uv_poll_t *server, int status, int events)
{
    struct admin *admin = server->data;
    (void)status;
    (void)events;
    int rc = accept_client(admin);
    if (rc < 0 && rc != -EAGAIN && rc != -ECONNABORTED && rc != -EINTR)
        pause_accepting(admin, rc);
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
    /* From /dev/urandom, which is out of reach by the time of the first object. */
    json_object_seed(0);
    admin->control = control;
    admin->holders = 1;
    list_init(&admin->clients);
    *out = admin;
    return 0;
}

static void on_handle_closed(uv_handle_t *handle)
{
    let_go(handle->data);
}

int admin_start(struct admin *admin, char *error, size_t error_size)
{
    uv_loop_t *loop = control_loop(admin->control);
    int rc = uv_poll_init(loop, &admin->server, admin->socket.fd);
    if (rc == 0) {
        uv_timer_init(loop, &admin->resume);
        admin->server.data = admin;
        admin->resume.data = admin;
        admin->serving = true;
        admin->holders += 2;
        rc = uv_poll_start(&admin->server, UV_READABLE, on_connection);
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
    if (old->serving) {
        uv_close((uv_handle_t *)&old->server, on_handle_closed);
        uv_close((uv_handle_t *)&old->resume, on_handle_closed);
    }
    close(old->socket.fd);
    let_go(old);
}
