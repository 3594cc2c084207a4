/*
 * The admin socket as its clients see it: over a real socket and loop, before a control that is
 * made up (fake_control.h).
 */
#include "lb/admin/admin.h"

#include "lb/admin/client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/admin/fake_control.h"

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define TURNS_MAX 20000
#define CLIENTS_MAX 64
#define REPLY_MAX (256 * 1024)

struct bench {
    struct control *control;
    struct admin *admin;
    char directory[64];
    char path[80];
    int client;            /* the one most cases need */
    char reply[REPLY_MAX]; /* the last line heard */
};

/* ---- the bench ---- */

static void turn(struct bench *bench)
{
    fake_step(bench->control);
    uv_run(&bench->control->loop, UV_RUN_NOWAIT);
}

static int dial(struct bench *bench)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memcpy(address.sun_path, bench->path, strlen(bench->path) + 1);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    turn(bench);
    return fd;
}

static void say(int fd, const char *bytes, size_t size)
{
    assert_int_equal(send(fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL), size);
}

static void say_line(int fd, const char *line)
{
    say(fd, line, strlen(line));
    say(fd, "\n", 1);
}

/* Some bytes, up to the end of a line at most; 0 at the end of the connection. */
static size_t hear_some(struct bench *bench, int fd, char *out, size_t size)
{
    for (int i = 0; i < TURNS_MAX; i++) {
        ssize_t n = recv(fd, out, size, MSG_DONTWAIT | MSG_PEEK);
        if (n > 0) {
            const char *newline = memchr(out, '\n', (size_t)n);
            size_t wanted = newline != NULL ? (size_t)(newline - out) + 1 : (size_t)n;
            assert_int_equal(recv(fd, out, wanted, 0), wanted);
            return wanted;
        }
        if (n == 0 || errno == ECONNRESET) /* closed with something of ours unread */
            return 0;
        assert_int_equal(errno, EAGAIN);
        turn(bench);
    }
    fail_msg("no answer within %d turns of the loop", TURNS_MAX);
    return 0;
}

/* The next line without its newline; NULL at the end. */
static const char *hear_line(struct bench *bench, int fd)
{
    size_t length = 0, heard;
    while ((heard = hear_some(bench, fd, bench->reply + length, REPLY_MAX - length)) > 0) {
        length += heard;
        if (bench->reply[length - 1] == '\n') {
            bench->reply[length - 1] = '\0';
            return bench->reply;
        }
    }
    assert_int_equal(length, 0);
    return NULL;
}

static const char *ask(struct bench *bench, const char *line)
{
    say_line(bench->client, line);
    const char *reply = hear_line(bench, bench->client);
    assert_non_null(reply);
    return reply;
}

static void assert_reply(struct bench *bench, const char *line, const char *reply)
{
    assert_string_equal(ask(bench, line), reply);
}

static void assert_refused(struct bench *bench, const char *line, const char *error)
{
    json_t *reply = json_loads(ask(bench, line), 0, NULL);
    assert_true(json_is_false(json_object_get(reply, "ok")));
    assert_string_equal(json_string_value(json_object_get(reply, "error")), error);
    json_decref(reply);
}

/* The data of a command's answer, its lines joined; the caller's. */
static json_t *data_of(struct bench *bench, const char *line)
{
    json_t *all = NULL;
    bool more = true;
    for (const char *text = ask(bench, line); more;
         text = more ? hear_line(bench, bench->client) : "") {
        json_t *reply = json_loads(text, 0, NULL);
        assert_true(json_is_true(json_object_get(reply, "ok")));
        more = json_is_true(json_object_get(reply, "more"));
        json_t *data = json_object_get(reply, "data");
        if (all == NULL)
            all = json_incref(data);
        else
            json_array_extend(all, data);
        json_decref(reply);
    }
    return all;
}

static const char *text_at(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    assert_non_null(text);
    return text;
}

static json_int_t number_at(const json_t *object, const char *key)
{
    const json_t *number = json_object_get(object, key);
    assert_true(json_is_integer(number));
    return json_integer_value(number);
}

static struct pool_member *member(struct bench *bench, size_t index)
{
    return &bench->control->pools->pool[0].member[index];
}

static int setup(void **state)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    char error[256];
    strcpy(bench->directory, "/tmp/weir-admin-XXXXXX");
    if (mkdtemp(bench->directory) == NULL)
        return -1;
    snprintf(bench->path, sizeof(bench->path), "%s/admin.sock", bench->directory);
    bench->control = fake_open(bench->path);
    for (size_t i = 0; i < 2; i++)
        pool_member_set_health(member(bench, i), HEALTH_UP, "probed", 1);
    assert_int_equal(
        admin_open(&bench->admin, bench->control, getuid(), getgid(), error, sizeof(error)), 0);
    assert_int_equal(admin_start(bench->admin, error, sizeof(error)), 0);
    bench->client = dial(bench);
    *state = bench;
    return 0;
}

static int teardown(void **state)
{
    struct bench *bench = *state;
    admin_close(&bench->admin);
    fake_close(bench->control);
    if (bench->client >= 0)
        close(bench->client);
    int rc = rmdir(bench->directory); /* fails when the socket is still there */
    free(bench);
    return rc;
}

/* ---- looking ---- */

static void tells_its_status(void **state)
{
    struct bench *bench = *state;
    bench->control->session_count = 3;
    bench->control->flow_count = 5;
    json_t *status = data_of(bench, "status");
    assert_string_equal(text_at(status, "version"), WEIR_VERSION);
    assert_string_equal(text_at(status, "state"), "running");
    assert_int_equal(number_at(status, "pid"), getpid());
    assert_int_equal(number_at(status, "uptime_s"), 61);
    assert_int_equal(number_at(status, "workers"), 1);
    assert_int_equal(number_at(status, "sessions"), 3);
    assert_int_equal(number_at(status, "flows"), 5);
    const json_t *descriptors = json_object_get(status, "descriptors");
    assert_int_equal(number_at(descriptors, "open"), 17);
    assert_int_equal(number_at(descriptors, "limit"), 1024);
    assert_int_equal(number_at(descriptors, "reserved"), 100);
    assert_int_equal(number_at(descriptors, "sessions"), 400);
    assert_int_equal(number_at(descriptors, "pipes"), 20);
    assert_int_equal(number_at(descriptors, "flows"), 60);
    assert_int_equal(number_at(descriptors, "resting"), 24);
    assert_true(json_is_false(json_object_get(descriptors, "flows_lowered")));
    json_decref(status);
}

/* Of a listener that nothing was ever kept out of. */
#define OPEN_GATE                                                                                  \
    "{\"admitted\":0,\"denied\":0,\"source-sessions\":0,\"source-rate\":0,\"untracked\":0,"        \
    "\"evicted\":0,\"sources\":0,\"datagrams\":null,\"dry_run\":false}"

static void shows_listeners(void **state)
{
    struct bench *bench = *state;
    assert_reply(bench, "show listeners",
                 "{\"ok\":true,\"data\":[{\"name\":\"front\",\"address\":\"192.0.2.9:80\","
                 "\"protocol\":\"tcp\",\"pool\":\"web\",\"sessions\":0,\"max_connections\":null,"
                 "\"session_rate\":null,\"throttled\":0,\"gate\":" OPEN_GATE "}]}");
    bench->control->listener.limit = 100;
    bench->control->listen.session_rate = 50;
    atomic_store(&bench->control->listener.throttled, 2);
    json_t *rows = data_of(bench, "show listeners");
    assert_int_equal(number_at(json_array_get(rows, 0), "max_connections"), 100);
    assert_int_equal(number_at(json_array_get(rows, 0), "session_rate"), 50);
    assert_int_equal(number_at(json_array_get(rows, 0), "throttled"), 2);
    json_decref(rows);
}

static void shows_listeners_of_udp(void **state)
{
    struct bench *bench = *state;
    bench->control->listen.protocol = CONFIG_PROTOCOL_UDP;
    atomic_store(&bench->control->listener.flows, 7);
    assert_reply(
        bench, "show listeners",
        "{\"ok\":true,\"data\":[{\"name\":\"front\",\"address\":\"192.0.2.9:80\","
        "\"protocol\":\"udp\",\"pool\":\"web\",\"flows\":7,\"max_flows\":null,\"gate\":" OPEN_GATE
        "}]}");
    bench->control->listener.flow_limit = 5000;
    json_t *rows = data_of(bench, "show listeners");
    assert_int_equal(number_at(json_array_get(rows, 0), "max_flows"), 5000);
    json_decref(rows);
}

static void shows_pools(void **state)
{
    struct bench *bench = *state;
    atomic_store(&member(bench, 0)->server->live.load, 5);
    atomic_store(&member(bench, 1)->server->live.load, 2);
    json_t *rows = data_of(bench, "show pools");
    const json_t *web = json_array_get(rows, 0), *big = json_array_get(rows, 1);
    assert_string_equal(text_at(web, "name"), "web");
    assert_string_equal(text_at(web, "scheduler"), "round-robin");
    assert_int_equal(number_at(web, "servers"), 2);
    assert_int_equal(number_at(web, "usable"), 2);
    assert_int_equal(number_at(web, "sessions"), 7);
    assert_int_equal(number_at(big, "servers"), 300);
    assert_int_equal(number_at(big, "usable"), 0);
    json_decref(rows);
}

static void shows_servers(void **state)
{
    struct bench *bench = *state;
    json_t *rows = data_of(bench, "show servers web");
    const json_t *row = json_array_get(rows, 1);
    assert_int_equal(json_array_size(rows), 2);
    assert_string_equal(text_at(row, "pool"), "web");
    assert_string_equal(text_at(row, "name"), "s1");
    assert_string_equal(text_at(row, "address"), "192.0.2.1:80");
    assert_string_equal(text_at(row, "admin"), "enabled");
    assert_string_equal(text_at(row, "health"), "up");
    assert_string_equal(text_at(row, "reason"), "probed");
    assert_true(json_is_true(json_object_get(row, "usable")));
    static const char *const zeros[] = {
        "sessions",  "sessions_total",   "flows",  "flows_total", "bytes_in",
        "bytes_out", "connect_failures", "resets", "refused",     "no_port"};
    for (size_t i = 0; i < ARRAY_LEN(zeros); i++)
        assert_int_equal(number_at(row, zeros[i]), 0);
    assert_int_equal(number_at(row, "weight"), 100);
    assert_null(json_object_get(row, "drain"));
    assert_null(json_object_get(row, "source_ports"));
    json_decref(rows);
}

static void shows_source_ports(void **state)
{
    struct bench *bench = *state;
    struct pools *pools = bench->control->pools;
    struct server *server = member(bench, 0)->server;
    const struct port_range range = {.first = 40000, .last = 40999, .tcp = 1000, .udp = 1000};
    const char *why;
    union inet_address source[2];
    assert_int_equal(inet_address_parse(&source[0], "192.0.2.200", &why), 0);
    assert_int_equal(inet_address_parse(&source[1], "192.0.2.201", &why), 0);
    struct ports_user user = {"web", "s0", &server->address.inet, source, 2};
    assert_int_equal(ports_new(&pools->ports, PORTS_TCP, &user, &server->ports[PORTS_TCP]), 0);
    struct ports *ports = server->ports[PORTS_TCP];
    ports_book_advance(&pools->ports, &range, fake_now_ms);
    assert_int_equal(ports_take(ports, 0, fake_now_ms), 0);
    ports_asked(ports->tally[1]);
    assert_false(ports_counted(&pools->ports, ports->tally[1], 700, 650, fake_now_ms));
    json_t *rows = data_of(bench, "show servers web");
    const json_t *all = json_object_get(json_array_get(rows, 0), "source_ports");
    assert_int_equal(json_array_size(all), 2);
    const json_t *own = json_array_get(all, 0);
    assert_string_equal(text_at(own, "address"), "192.0.2.200");
    assert_string_equal(text_at(own, "protocol"), "tcp");
    assert_string_equal(text_at(own, "counted_by"), "weir");
    assert_int_equal(number_at(own, "used"), 1);
    assert_int_equal(number_at(own, "range"), 1000);
    assert_true(json_is_null(json_object_get(own, "time_wait")));
    const json_t *counted = json_array_get(all, 1);
    assert_string_equal(text_at(counted, "counted_by"), "kernel");
    assert_int_equal(number_at(counted, "used"), 700);
    assert_int_equal(number_at(counted, "time_wait"), 650);
    json_decref(rows);
    ports_give(ports, 0);
}

/* The load of a server counts both; a row and its drain tell them apart. */
static void tells_sessions_and_flows_apart(void **state)
{
    struct bench *bench = *state;
    struct server *server = member(bench, 0)->server;
    atomic_store(&server->live.load, 5);
    atomic_store(&server->cell[0].flows, 9);
    atomic_store(&server->cell[0].flows_left, 7);
    atomic_store(&server->cell[0].sessions, 20);
    atomic_store(&server->cell[0].refused, 4);
    json_t *row = data_of(bench, "drain web/s0");
    assert_int_equal(number_at(row, "sessions"), 3);
    assert_int_equal(number_at(row, "sessions_total"), 20);
    assert_int_equal(number_at(row, "flows"), 2);
    assert_int_equal(number_at(row, "flows_total"), 9);
    assert_int_equal(number_at(row, "refused"), 4);
    assert_int_equal(number_at(json_object_get(row, "drain"), "sessions_left"), 3);
    assert_int_equal(number_at(json_object_get(row, "drain"), "flows_left"), 2);
    json_decref(row);

    atomic_store(&server->cell[0].flows_left, 1); /* counted later than the load */
    atomic_store(&member(bench, 1)->server->live.load, 6);
    json_t *rows = data_of(bench, "show servers web");
    assert_int_equal(number_at(json_array_get(rows, 0), "sessions"), 0);
    assert_int_equal(number_at(json_array_get(rows, 0), "flows"), 8);
    json_decref(rows);
    rows = data_of(bench, "show pools");
    const json_t *web = json_array_get(rows, 0);
    assert_int_equal(number_at(web, "sessions"), 6);
    assert_int_equal(number_at(web, "flows"), 8);
    assert_int_equal(number_at(web, "flows_total"), 9);
    assert_int_equal(number_at(web, "refused"), 4);
    json_decref(rows);
}

static void shows_many_servers_in_slices(void **state)
{
    struct bench *bench = *state;
    size_t rows = 0, lines = 0;
    bool more = true;
    say_line(bench->client, "show servers");
    for (; more; lines++) {
        json_t *reply = json_loads(hear_line(bench, bench->client), 0, NULL);
        rows += json_array_size(json_object_get(reply, "data"));
        more = json_is_true(json_object_get(reply, "more"));
        json_decref(reply);
    }
    assert_int_equal(rows, 302);
    assert_int_equal(lines, 10);
    json_t *big = data_of(bench, "show servers big");
    assert_int_equal(json_array_size(big), 300);
    assert_string_equal(text_at(json_array_get(big, 299), "name"), "s299");
    json_decref(big);
}

static void shows_sessions(void **state)
{
    struct bench *bench = *state;
    assert_reply(bench, "show sessions", "{\"ok\":true,\"data\":[]}");
    bench->control->session_count = 1;
    assert_reply(bench, "show sessions",
                 "{\"ok\":true,\"more\":true,\"data\":[{\"id\":1,\"listener\":\"front\","
                 "\"client\":\"192.0.2.1:4711\",\"pool\":\"web\",\"server\":\"s1\","
                 "\"state\":\"relaying\",\"engine\":\"copy\",\"age_ms\":1500,\"idle_ms\":3,"
                 "\"bytes_in\":70,\"bytes_out\":9000}]}");
    assert_string_equal(hear_line(bench, bench->client), "{\"ok\":true,\"data\":[]}");
}

static void shows_9000_sessions(void **state)
{
    struct bench *bench = *state;
    bench->control->session_count = 9000;
    json_t *rows = data_of(bench, "show sessions");
    assert_int_equal(json_array_size(rows), 9000);
    assert_int_equal(number_at(json_array_get(rows, 8999), "id"), 9000);
    json_decref(rows);
}

static void shows_flows(void **state)
{
    struct bench *bench = *state;
    bench->control->session_count = 7; /* and nobody takes one for the other */
    assert_reply(bench, "show flows", "{\"ok\":true,\"data\":[]}");
    bench->control->flow_count = 1;
    assert_reply(bench, "show flows client=192.0.2.1:4711 listener=front",
                 "{\"ok\":true,\"more\":true,\"data\":[{\"id\":1,\"listener\":\"front\","
                 "\"client\":\"192.0.2.1:4711\",\"pool\":\"web\",\"server\":\"s0\","
                 "\"state\":\"spent\",\"age_ms\":700,\"idle_ms\":20,\"datagrams_in\":1,"
                 "\"datagrams_out\":2,\"bytes_in\":40,\"bytes_out\":900}]}");
    assert_string_equal(hear_line(bench, bench->client), "{\"ok\":true,\"data\":[]}");
    assert_string_equal(bench->control->asked.client, "192.0.2.1:4711");
    assert_string_equal(bench->control->asked.listener, "front");
    bench->control->flow_count = 300;
    json_t *rows = data_of(bench, "show flows");
    assert_int_equal(json_array_size(rows), 300);
    json_decref(rows);
    assert_refused(bench, "show flows server=nobody", "there is no server \"nobody\"");
}

static void filters_sessions(void **state)
{
    struct bench *bench = *state;
    const struct traffic_filter *asked = &bench->control->asked;
    json_decref(data_of(bench, "show sessions listener=front pool=web server=s1 client=192.0.2.1"));
    assert_string_equal(asked->listener, "front");
    assert_string_equal(asked->pool, "web");
    assert_string_equal(asked->server, "s1");
    assert_string_equal(asked->client, "192.0.2.1");
    assert_int_equal(asked->id, 0);
    json_decref(data_of(bench, "show sessions server=s299"));
    assert_string_equal(asked->server, "s299");
    assert_string_equal(asked->pool, "");
    assert_refused(bench, "show sessions pool=wbe",
                   "there is no pool \"wbe\"; did you mean \"web\"?");
    assert_refused(bench, "show sessions listener=frnt",
                   "there is no listener \"frnt\"; did you mean \"front\"?");
    assert_refused(bench, "show sessions pool=web server=s2",
                   "there is no server \"s2\"; did you mean \"s0\"?");
    assert_refused(bench, "show sessions server=nobody", "there is no server \"nobody\"");
}

/* However somebody writes an address, the workers compare it with the one way they write it. */
static void reads_addresses_of_clients(void **state)
{
    struct bench *bench = *state;
    static const char *const cases[][2] = {
        {"192.0.2.1", "192.0.2.1"},
        {"192.0.2.1:80", "192.0.2.1:80"},
        {"2001:DB8:0::1", "[2001:db8::1]"},
        {"[2001:db8::1]", "[2001:db8::1]"},
        {"[2001:DB8::0:1]:4711", "[2001:db8::1]:4711"},
        {"::ffff:192.0.2.1", "192.0.2.1"},
        {"[::ffff:192.0.2.1]:80", "192.0.2.1:80"},
    };
    static const char *const wrong[] = {"localhost",  "192.0.2", "unix:x",
                                        "192.0.2.1:", "[::1",    "*:80x"};
    char line[128], error[256];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        snprintf(line, sizeof(line), "show sessions client=%s", cases[i][0]);
        json_decref(data_of(bench, line));
        assert_string_equal(bench->control->asked.client, cases[i][1]);
    }
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        snprintf(line, sizeof(line), "show sessions client=%s", wrong[i]);
        snprintf(
            error, sizeof(error),
            "\"%s\" is not a client's address or network; usage: show sessions [listener=NAME] "
            "[pool=NAME] [server=NAME] [client=ADDRESS|NETWORK]",
            wrong[i]);
        assert_refused(bench, line, error);
    }
}

static void tells_when_workers_cannot_be_asked(void **state)
{
    struct bench *bench = *state;
    bench->control->session_count = UINT64_MAX;
    assert_refused(bench, "show sessions", "the workers cannot be asked: not enough memory");
}

static void shows_counters_version_help(void **state)
{
    struct bench *bench = *state;
    json_t *counters = data_of(bench, "show counters");
    assert_int_equal(json_object_size(counters), METRIC_COUNT);
    assert_int_equal(number_at(counters, metric_name(METRIC_RETRIES)), METRIC_RETRIES);
    json_decref(counters);
    json_t *version = data_of(bench, "show version");
    assert_string_equal(text_at(version, "version"), WEIR_VERSION);
    json_decref(version);
    json_t *help = data_of(bench, "help");
    assert_true(json_array_size(help) >= 15);
    assert_string_equal(text_at(json_array_get(help, 0), "command"), "status");
    json_decref(help);
}

static void shows_a_long_config_in_slices(void **state)
{
    struct bench *bench = *state;
    char *expected = NULL;
    size_t size, at = 0, lines = 0;
    bool more = true;
    FILE *memory = open_memstream(&expected, &size);
    config_print(&bench->control->config, memory);
    fclose(memory);
    say_line(bench->client, "show config");
    for (; more; lines++) {
        json_t *reply = json_loads(hear_line(bench, bench->client), 0, NULL);
        const json_t *data = json_object_get(reply, "data");
        size_t length = json_string_length(data);
        assert_true(length <= size - at);
        assert_memory_equal(json_string_value(data), expected + at, length);
        at += length;
        more = json_is_true(json_object_get(reply, "more"));
        json_decref(reply);
    }
    assert_int_equal(at, size);
    assert_true(lines > 2);
    free(expected);
}

/* ---- ready ---- */

static void is_ready_with_a_usable_server(void **state)
{
    struct bench *bench = *state;
    assert_reply(bench, "ready", "{\"ok\":true,\"data\":{\"ready\":true}}");
    assert_reply(bench, "ready web", "{\"ok\":true,\"data\":{\"ready\":true}}");
    pool_member_set_health(member(bench, 0), HEALTH_DOWN, "probed", 1);
    assert_reply(bench, "ready", "{\"ok\":true,\"data\":{\"ready\":true}}");
}

static void is_not_ready_otherwise(void **state)
{
    struct bench *bench = *state;
    /* No listener feeds it, so it counts only when asked for. */
    assert_refused(bench, "ready big", "pool \"big\" has no usable server");
    assert_refused(bench, "ready wbe", "there is no pool \"wbe\"; did you mean \"web\"?");
    pool_member_set_health(member(bench, 0), HEALTH_DOWN, "probed", 1);
    pool_member_set_admin(member(bench, 1), SERVER_MAINTENANCE, 0, 1);
    assert_refused(bench, "ready", "pool \"web\" has no usable server");
    assert_refused(bench, "ready web", "pool \"web\" has no usable server");
    pool_member_set_health(member(bench, 0), HEALTH_UP, "probed", 1);
    bench->control->state = CONTROL_DRAINING;
    assert_refused(bench, "ready", "weir is draining");
    bench->control->state = CONTROL_STARTING;
    assert_refused(bench, "ready web", "weir is starting");
}

/* ---- changing ---- */

static void drains_a_server(void **state)
{
    struct bench *bench = *state;
    struct server *server = member(bench, 0)->server;
    char who[64];
    atomic_store(&server->live.load, 3);
    cell_add(&server->cell[0].drain_ends[DRAIN_END_SELF], 7); /* of an earlier drain */
    json_decref(data_of(bench, "drain web/s0 deadline=90s"));
    snprintf(who, sizeof(who), "uid=%u pid=%d", getuid(), (int)getpid());
    assert_string_equal(bench->control->who, who);

    fake_now_ms += 30000;
    atomic_store(&server->live.load, 1);
    cell_add(&server->cell[0].drain_ends[DRAIN_END_SELF], 1);
    cell_add(&server->cell[0].drain_ends[DRAIN_END_QUIET], 1);
    json_t *rows = data_of(bench, "show servers web");
    const json_t *row = json_array_get(rows, 0), *drain = json_object_get(row, "drain");
    assert_string_equal(text_at(row, "admin"), "drain");
    assert_true(json_is_false(json_object_get(row, "usable")));
    assert_string_equal(text_at(drain, "cause"), "operator");
    assert_int_equal(number_at(drain, "sessions_left"), 1);
    assert_int_equal(number_at(drain, "ended_self"), 1);
    assert_int_equal(number_at(drain, "ended_quiet"), 1);
    assert_int_equal(number_at(drain, "ended_deadline"), 0);
    assert_int_equal(number_at(drain, "deadline_left_ms"), 60000);
    json_decref(rows);

    fake_now_ms += 70000;
    rows = data_of(bench, "show servers web");
    drain = json_object_get(json_array_get(rows, 0), "drain");
    assert_int_equal(number_at(drain, "deadline_left_ms"), 0);
    json_decref(rows);
}

static void drains_by_the_pools_deadline(void **state)
{
    struct bench *bench = *state;
    json_t *row = data_of(bench, "drain web/s0");
    assert_int_equal(number_at(json_object_get(row, "drain"), "deadline_left_ms"), 300000);
    json_decref(row);
    row = data_of(bench, "drain web/s0 deadline=0");
    assert_int_equal(number_at(json_object_get(row, "drain"), "deadline_left_ms"), 0);
    json_decref(row);
    static const char *const wrong[] = {"5", "-5m", "soon", "31d", "9999999999999999d"};
    char line[96], error[160];
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        snprintf(line, sizeof(line), "drain web/s0 deadline=%s", wrong[i]);
        snprintf(error, sizeof(error),
                 "\"%s\" is not a duration such as 30s or 5m, at most 30d; usage: drain "
                 "POOL/SERVER [deadline=DURATION]",
                 wrong[i]);
        assert_refused(bench, line, error);
    }
}

static void disables_and_enables_a_server(void **state)
{
    struct bench *bench = *state;
    json_t *row = data_of(bench, "disable web/s1");
    assert_string_equal(text_at(row, "admin"), "maintenance");
    assert_string_equal(text_at(row, "name"), "s1");
    json_decref(row);
    assert_int_equal(member(bench, 1)->admin, SERVER_MAINTENANCE);
    row = data_of(bench, "enable web/s1");
    assert_string_equal(text_at(row, "admin"), "enabled");
    json_decref(row);
    assert_int_equal(member(bench, 1)->admin, SERVER_ENABLED);
}

static void weighs_a_server(void **state)
{
    struct bench *bench = *state;
    json_t *row = data_of(bench, "weight web/s1 7");
    assert_int_equal(number_at(row, "weight"), 7);
    json_decref(row);
    assert_int_equal(member(bench, 1)->weight, 7);
    assert_refused(bench, "weight web/s1 -1",
                   "the weight is a number from 0 to 65535, not \"-1\"; usage: weight "
                   "POOL/SERVER WEIGHT");
    assert_refused(bench, "weight web/s1 65536",
                   "the weight is a number from 0 to 65535, not \"65536\"; usage: weight "
                   "POOL/SERVER WEIGHT");
    assert_int_equal(member(bench, 1)->weight, 7);
}

static void names_servers_in_full(void **state)
{
    struct bench *bench = *state;
    assert_refused(bench, "enable s1",
                   "\"s1\" is not a server's full name; usage: enable POOL/SERVER");
    assert_refused(bench, "enable wbe/s1", "there is no pool \"wbe\"; did you mean \"web\"?");
    assert_refused(bench, "enable web/s7", "there is no server \"s7\"; did you mean \"s0\"?");
    assert_refused(bench, "enable /s1", "there is no pool \"\"");
    assert_refused(bench, "enable web/", "there is no server \"\"");
    char line[300], error[300];
    snprintf(line, sizeof(line), "enable %0100d/s1", 0);
    snprintf(error, sizeof(error),
             "\"%0100d/s1\" is not a server's full name; usage: enable POOL/SERVER", 0);
    assert_refused(bench, line, error);
}

static void kills_a_session(void **state)
{
    struct bench *bench = *state;
    bench->control->session_count = 5;
    assert_reply(bench, "kill session 5", "{\"ok\":true,\"data\":{\"killed\":5}}");
    assert_int_equal(bench->control->asked.id, 5);
    assert_true(bench->control->kill);
    assert_refused(bench, "kill session 6", "there is no session 6");
    assert_refused(bench, "kill session 0",
                   "\"0\" is not a session's number; usage: kill session ID");
    assert_refused(bench, "kill session all",
                   "\"all\" is not a session's number; usage: kill session ID");
}

static void kills_a_flow(void **state)
{
    struct bench *bench = *state;
    bench->control->session_count = 9;
    bench->control->flow_count = 5;
    assert_reply(bench, "kill flow 5", "{\"ok\":true,\"data\":{\"killed\":5}}");
    assert_int_equal(bench->control->asked.id, 5);
    assert_true(bench->control->kill);
    assert_refused(bench, "kill flow 6", "there is no flow 6");
    assert_refused(bench, "kill flow 0", "\"0\" is not a flow's number; usage: kill flow ID");
}

/* Descriptor 2 goes to a file while `line` is asked; returns what was written there. */
static const char *log_of(struct bench *bench, const char *line)
{
    static char text[4096];
    int own = dup(STDERR_FILENO), file = memfd_create("log", MFD_CLOEXEC);
    dup2(file, STDERR_FILENO);
    (void)ask(bench, line);
    dup2(own, STDERR_FILENO);
    ssize_t length = pread(file, text, sizeof(text) - 1, 0);
    assert_true(length >= 0);
    text[length] = '\0';
    close(own);
    close(file);
    return text;
}

static void logs_who_changed_what(void **state)
{
    struct bench *bench = *state;
    char expected[256];
    snprintf(expected, sizeof(expected),
             "info admin command command=\"weight web/s1 7\" who=\"uid=%u pid=%d\"\n", getuid(),
             (int)getpid());
    assert_non_null(strstr(log_of(bench, "weight web/s1 7"), expected));
    assert_non_null(strstr(log_of(bench, "kill session 9"), "error=\"there is no session 9\""));
    assert_string_equal(log_of(bench, "show servers web"), "");
    assert_string_equal(log_of(bench, "wieght web/s1 7"), "");
}

/* ---- lines ---- */

static void answers_lines_that_come_together(void **state)
{
    struct bench *bench = *state;
    say_line(bench->client, "weight web/s0 1\nready\r\nweight web/s0 2\n\nready web");
    assert_non_null(strstr(hear_line(bench, bench->client), "\"weight\":1,"));
    assert_non_null(strstr(hear_line(bench, bench->client), "ready"));
    assert_non_null(strstr(hear_line(bench, bench->client), "\"weight\":2,"));
    assert_non_null(strstr(hear_line(bench, bench->client), "the request is empty"));
    assert_non_null(strstr(hear_line(bench, bench->client), "ready"));
}

static void answers_a_line_that_comes_in_bytes(void **state)
{
    struct bench *bench = *state;
    for (const char *c = "ready web\n"; *c != '\0'; c++) {
        say(bench->client, c, 1);
        turn(bench);
    }
    assert_string_equal(hear_line(bench, bench->client), "{\"ok\":true,\"data\":{\"ready\":true}}");
}

static void refuses_a_long_line(void **state)
{
    struct bench *bench = *state;
    char line[CLIENT_LINE_MAX + 1];
    memset(line, 'x', sizeof(line));
    line[CLIENT_LINE_MAX - 1] = '\n'; /* as long as may be */
    say(bench->client, line, CLIENT_LINE_MAX);
    assert_non_null(strstr(hear_line(bench, bench->client), "there is no command"));
    line[CLIENT_LINE_MAX - 1] = 'x'; /* one more */
    line[CLIENT_LINE_MAX] = '\n';
    say(bench->client, line, sizeof(line));
    assert_string_equal(hear_line(bench, bench->client),
                        "{\"ok\":false,\"error\":\"the request is longer than 4095 bytes\"}");
    assert_null(hear_line(bench, bench->client));
}

/* What a cut connection left over of "weight web/s0 100" must not be carried out. */
static void refuses_a_line_without_end(void **state)
{
    struct bench *bench = *state;
    say(bench->client, "weight web/s0 10", 16);
    shutdown(bench->client, SHUT_WR);
    assert_non_null(strstr(hear_line(bench, bench->client), "broke off"));
    assert_null(hear_line(bench, bench->client));
    assert_int_equal(member(bench, 0)->weight, 100);
}

static void answers_who_will_say_no_more(void **state)
{
    struct bench *bench = *state;
    bench->control->session_count = 1000;
    say_line(bench->client, "show sessions\nready");
    shutdown(bench->client, SHUT_WR);
    for (int i = 0; i < 8; i++)
        assert_non_null(strstr(hear_line(bench, bench->client), "\"more\":true"));
    assert_string_equal(hear_line(bench, bench->client), "{\"ok\":true,\"data\":[]}");
    assert_non_null(strstr(hear_line(bench, bench->client), "ready"));
    assert_null(hear_line(bench, bench->client));
}

/* ---- many clients, slow ones, and ones that go ---- */

static void turns_away_the_65th(void **state)
{
    struct bench *bench = *state;
    int client[CLIENTS_MAX];
    for (size_t i = 1; i < CLIENTS_MAX; i++)
        client[i] = dial(bench);
    int late = dial(bench);
    assert_string_equal(hear_line(bench, late),
                        "{\"ok\":false,\"error\":\"weir has 64 admin clients and takes no more\"}");
    assert_null(hear_line(bench, late));
    close(late);

    close(client[1]);
    turn(bench);
    client[1] = dial(bench);
    say_line(client[1], "ready");
    assert_non_null(strstr(hear_line(bench, client[1]), "true"));
    for (size_t i = 1; i < CLIENTS_MAX; i++)
        close(client[i]);
    assert_non_null(strstr(ask(bench, "ready"), "true"));
}

/* Scripts that forget to hang up must not lock the operator out. */
static void gives_away_the_place_of_a_silent_one(void **state)
{
    struct bench *bench = *state;
    int client[CLIENTS_MAX];
    for (size_t i = 1; i < CLIENTS_MAX; i++)
        client[i] = dial(bench);
    fake_now_ms += 59999;
    assert_non_null(strstr(ask(bench, "ready"), "true")); /* so it is client[1] that is silent */
    int late = dial(bench);
    assert_non_null(strstr(hear_line(bench, late), "takes no more"));
    close(late);

    fake_now_ms += 1;
    late = dial(bench);
    assert_null(hear_line(bench, client[1]));
    say_line(late, "ready");
    assert_non_null(strstr(hear_line(bench, late), "true"));
    assert_non_null(strstr(ask(bench, "ready"), "true"));
    close(late);
    for (size_t i = 1; i < CLIENTS_MAX; i++)
        close(client[i]);
}

/* The kernel's buffers fill; then not a slice more is asked for until the client reads. */
static void waits_for_a_client_that_does_not_read(void **state)
{
    struct bench *bench = *state;
    bench->control->session_count = 100000;
    say_line(bench->client, "show sessions");
    for (int i = 0; i < 1000; i++)
        turn(bench);
    unsigned slices = bench->control->slices;
    assert_in_range(slices, 1, 50);
    for (int i = 0; i < 1000; i++)
        turn(bench);
    assert_int_equal(bench->control->slices, slices);

    int other = dial(bench); /* and nobody else waits for it */
    say_line(other, "ready");
    assert_non_null(strstr(hear_line(bench, other), "true"));
    close(other);

    size_t lines = 0;
    while (strstr(hear_line(bench, bench->client), "\"more\":true") != NULL)
        lines++;
    assert_int_equal(lines, 782); /* 100,000 / 128 */
    assert_non_null(strstr(ask(bench, "ready"), "true"));
}

static void cancels_when_the_client_goes(void **state)
{
    struct bench *bench = *state;
    bench->control->session_count = 100000;
    say_line(bench->client, "show sessions");
    assert_non_null(hear_line(bench, bench->client));
    close(bench->client);
    bench->client = -1;
    for (int i = 0; i < 100 && bench->control->query != NULL; i++)
        turn(bench);
    assert_null(bench->control->query);
    assert_int_equal(bench->control->cancels, 1);
}

static void drops_servers_when_the_client_goes(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 20; i++) /* more than the kernel holds */
        say_line(bench->client, "show servers");
    turn(bench);
    close(bench->client);
    bench->client = dial(bench);
    assert_non_null(strstr(ask(bench, "ready"), "true"));
}

static void closes_in_the_middle_of_everything(void **state)
{
    struct bench *bench = *state;
    bench->control->session_count = 100000;
    int servers = dial(bench), idle = dial(bench), half = dial(bench);
    for (int i = 0; i < 20; i++)
        say_line(servers, "show servers");
    say(half, "sta", 3);
    say_line(bench->client, "show sessions");
    for (int i = 0; i < 100; i++)
        turn(bench);
    assert_non_null(bench->control->query);
    admin_close(&bench->admin);
    assert_null(bench->admin);
    assert_null(bench->control->query);
    assert_int_equal(access(bench->path, F_OK), -1);
    turn(bench);
    assert_null(hear_line(bench, idle));
    close(servers);
    close(idle);
    close(half);
}

static void closes_unstarted(void **state)
{
    struct bench *bench = *state;
    struct admin *second;
    char error[256], path[112];
    admin_close(&bench->admin);
    snprintf(path, sizeof(path), "%s/second.sock", bench->directory);
    bench->control->config.weir.admin_socket = path;
    assert_int_equal(admin_open(&second, bench->control, getuid(), getgid(), error, sizeof(error)),
                     0);
    admin_close(&second);
    assert_int_equal(access(path, F_OK), -1);
}

/* ---- short memory ---- */

static long allocations_left;

static void *short_malloc(size_t size)
{
    return allocations_left-- > 0 ? malloc(size) : NULL;
}

/* Whichever allocation of an answer fails, the client gets all of it or is told. */
static void tells_short_memory(void **state)
{
    struct bench *bench = *state;
    static const char *const lines[] = {
        "status",          "show listeners", "show pools",     "show servers web", "show sessions",
        "show counters",   "help",           "kill session 9", "show flows",       "kill flow 9",
        "weight web/s0 3", "drain web/s1",   "nonsense"};
    bench->control->session_count = bench->control->flow_count = 3;
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        bool whole = false;
        for (long allowed = 0; !whole; allowed++) {
            allocations_left = allowed;
            json_set_alloc_funcs(short_malloc, free);
            say_line(bench->client, lines[i]);
            do
                whole = strstr(hear_line(bench, bench->client), "short of memory") == NULL;
            while (strstr(bench->reply, "\"more\":true") != NULL);
            json_set_alloc_funcs(malloc, free);
            assert_true(allowed < 2000);
        }
    }
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(tells_its_status),
        CASE(shows_listeners),
        CASE(shows_listeners_of_udp),
        CASE(shows_pools),
        CASE(shows_servers),
        CASE(shows_source_ports),
        CASE(tells_sessions_and_flows_apart),
        CASE(shows_many_servers_in_slices),
        CASE(shows_sessions),
        CASE(shows_9000_sessions),
        CASE(shows_flows),
        CASE(filters_sessions),
        CASE(reads_addresses_of_clients),
        CASE(tells_when_workers_cannot_be_asked),
        CASE(shows_counters_version_help),
        CASE(shows_a_long_config_in_slices),
        CASE(is_ready_with_a_usable_server),
        CASE(is_not_ready_otherwise),
        CASE(drains_a_server),
        CASE(drains_by_the_pools_deadline),
        CASE(disables_and_enables_a_server),
        CASE(weighs_a_server),
        CASE(names_servers_in_full),
        CASE(kills_a_session),
        CASE(kills_a_flow),
        CASE(logs_who_changed_what),
        CASE(answers_lines_that_come_together),
        CASE(answers_a_line_that_comes_in_bytes),
        CASE(refuses_a_long_line),
        CASE(refuses_a_line_without_end),
        CASE(answers_who_will_say_no_more),
        CASE(turns_away_the_65th),
        CASE(gives_away_the_place_of_a_silent_one),
        CASE(waits_for_a_client_that_does_not_read),
        CASE(cancels_when_the_client_goes),
        CASE(drops_servers_when_the_client_goes),
        CASE(closes_in_the_middle_of_everything),
        CASE(closes_unstarted),
        CASE(tells_short_memory),
    };
    signal(SIGPIPE, SIG_IGN); /* as lb/main.c does: libuv writes without MSG_NOSIGNAL */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
