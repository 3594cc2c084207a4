/*
 * Purpose: the rows of the key table, and how they are found.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   never.
 *
 * Adding a key is one row here and one field in config.h. Parser, encoder, help, reference and dump
 * follow. A row whose type does not fit its field does not compile.
 */
#include "config/keys.h"

#include "config/forms.h"

#include <string.h>

/* The order is that of the enum which the field holds. */
static const char *const hashes[] = {"source-ip", "source-ip-port", NULL};
static const char *const when_empty[] = {"hold", "reset", NULL};
static const char *const on_down[] = {"drain", "keep", "kill", NULL};
static const char *const splice[] = {"auto", "off", "on", NULL};
static const char *const protocols[] = {"tcp", NULL};
static const char *const log_formats[] = {"text", "json", NULL};
static const char *const log_levels[] = {"error", "warn", "info", "debug", NULL};

#define SECOND INT64_C(1000)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define KIB INT64_C(1024)
#define MIB (1024 * KIB)

/* More sockets than a kernel holds, and a sum of a few still fits 32 bits. */
#define CONNECTIONS_MAX 100000000

#define FIELD(object, member, field_type)                                                          \
    .offset = _Generic(((struct object *)NULL)->member, field_type                                 \
                       : offsetof(struct object, member))

#define STRING(object, member) .type = &config_type_string, FIELD(object, member, char *)
#define NUMBER(object, member) .type = &config_type_number, FIELD(object, member, int64_t)
#define DURATION(object, member) .type = &config_type_duration, FIELD(object, member, int64_t)
#define SIZE(object, member) .type = &config_type_size, FIELD(object, member, int64_t)
#define MODE(object, member) .type = &config_type_mode, FIELD(object, member, int64_t)
#define SWITCH(object, member) .type = &config_type_switch, FIELD(object, member, bool)
#define CHOICE(object, member, names)                                                              \
    .type = &config_type_choice, .choices = (names), FIELD(object, member, int64_t)
#define ADDRESS(object, member)                                                                    \
    .type = &config_type_address, FIELD(object, member, struct config_address)

#define NAME .least = 1, .most = CONFIG_NAME_MAX, .check = config_form_name

const struct config_key config_keys[] = {
    /* weir */
    {.section = SECTION_WEIR,
     .name = "workers",
     NUMBER(config_weir, workers),
     .most = 256,
     .standard = "0",
     .reload = RELOAD_RESTART,
     .help = "Threads that carry traffic. 0: one for each CPU that weir may use."},
    {.section = SECTION_WEIR,
     .name = "user",
     STRING(config_weir, user),
     .most = 32,
     .standard = "",
     .check = config_form_account,
     .reload = RELOAD_RESTART,
     .help = "The user to become once the sockets are bound. \"\": stay as started."},
    {.section = SECTION_WEIR,
     .name = "group",
     STRING(config_weir, group),
     .most = 32,
     .standard = "",
     .check = config_form_account,
     .reload = RELOAD_RESTART,
     .help = "The group to become. \"\": the user's own."},
    {.section = SECTION_WEIR,
     .name = "max_connections",
     NUMBER(config_weir, max_connections),
     .most = CONNECTIONS_MAX,
     .standard = "0",
     .reload = RELOAD_LIVE,
     .help = "Sessions at once in the whole process. 0: as many as the limit of descriptors "
             "(RLIMIT_NOFILE) allows."},
    {.section = SECTION_WEIR,
     .name = "shutdown_deadline",
     DURATION(config_weir, shutdown_deadline),
     .most = DAY,
     .standard = "30s",
     .reload = RELOAD_LIVE,
     .help = "How long sessions may go on after SIGTERM or SIGINT before they are ended."},

    /* weir.admin */
    {.section = SECTION_ADMIN,
     .name = "socket",
     STRING(config_weir, admin_socket),
     .least = 1,
     .most = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1,
     .standard = "/run/weir/admin.sock",
     .reload = RELOAD_RESTART,
     .help = "Its path."},
    {.section = SECTION_ADMIN,
     .name = "mode",
     MODE(config_weir, admin_mode),
     .most = 0777,
     .standard = "0600",
     .reload = RELOAD_RESTART,
     .help = "Its permissions, in octal as chmod takes them: who may write to it commands weir."},

    /* weir.log */
    {.section = SECTION_LOG,
     .name = "target",
     STRING(config_weir, log_target),
     .least = 1,
     .most = 4095,
     .standard = "stderr",
     .reload = RELOAD_LIVE,
     .help = "\"stderr\", or the path of a file."},
    {.section = SECTION_LOG,
     .name = "format",
     CHOICE(config_weir, log_format, log_formats),
     .standard = "text",
     .reload = RELOAD_LIVE,
     .help = "The form of a line: words and key=value, or one JSON object."},
    {.section = SECTION_LOG,
     .name = "level",
     CHOICE(config_weir, log_level, log_levels),
     .standard = "info",
     .reload = RELOAD_LIVE,
     .help = "The least important lines that are still written."},
    {.section = SECTION_LOG,
     .name = "access",
     SWITCH(config_weir, log_access),
     .standard = "true",
     .reload = RELOAD_LIVE,
     .help = "One line for each session when it ends."},

    /* pools */
    {.section = SECTION_POOL,
     .name = "name",
     STRING(config_pool, name),
     NAME,
     .reload = RELOAD_LIVE,
     .help = "How listeners, commands and metrics call it: letters, digits, '-', '_' and '.'."},
    {.section = SECTION_POOL,
     .name = "scheduler",
     STRING(config_pool, scheduler),
     .least = 1,
     .most = CONFIG_NAME_MAX,
     .standard = "p2c",
     .reload = RELOAD_NEW_SESSIONS,
     .help = "How a server is picked: p2c (the less loaded of two drawn by weight), round-robin, "
             "least-connections, random, first (in the order of the file) or maglev (the same "
             "client, the same server)."},
    {.section = SECTION_POOL,
     .name = "hash",
     CHOICE(config_pool, hash, hashes),
     .standard = "source-ip",
     .reload = RELOAD_NEW_SESSIONS,
     .help = "What of the client a hash scheduler goes by."},
    {.section = SECTION_POOL,
     .name = "connect_timeout",
     DURATION(config_pool, connect_timeout),
     .least = 1,
     .most = 10 * MINUTE,
     .standard = "3s",
     .inherits = true,
     .reload = RELOAD_NEW_SESSIONS,
     .help = "How long a server may take to accept a connection before the next one is tried, and "
             "how long a client waits for a server that can be used."},
    {.section = SECTION_POOL,
     .name = "retries",
     NUMBER(config_pool, retries),
     .most = CONFIG_RETRIES_MAX,
     .standard = "2",
     .inherits = true,
     .reload = RELOAD_NEW_SESSIONS,
     .help = "How many other servers are tried when a connection fails or times out."},
    {.section = SECTION_POOL,
     .name = "when_empty",
     CHOICE(config_pool, when_empty, when_empty),
     .standard = "hold",
     .inherits = true,
     .reload = RELOAD_NEW_SESSIONS,
     .help = "What happens to a client while no server can be used: it waits up to "
             "connect_timeout, or is reset at once."},
    {.section = SECTION_POOL,
     .name = "on_down",
     CHOICE(config_pool, on_down, on_down),
     .standard = "drain",
     .inherits = true,
     .reload = RELOAD_LIVE,
     .help = "What happens to the sessions of a server that goes down: they may finish until "
             "drain_deadline, may stay, or are reset at once."},
    {.section = SECTION_POOL,
     .name = "drain_deadline",
     DURATION(config_pool, drain_deadline),
     .most = CONFIG_DRAIN_DEADLINE_MAX,
     .standard = "5m",
     .inherits = true,
     .reload = RELOAD_LIVE,
     .help = "How long the sessions of a drained server may go on before they are reset."},

    /* pools.servers */
    {.section = SECTION_SERVER,
     .name = "name",
     STRING(config_server, name),
     NAME,
     .reload = RELOAD_LIVE,
     .help = "How commands and metrics call it, and what hash schedulers go by."},
    {.section = SECTION_SERVER,
     .name = "address",
     ADDRESS(config_server, address),
     .reload = RELOAD_LIVE,
     .help = "Where it listens: \"10.0.0.11:8080\", \"[2001:db8::12]:8080\" or "
             "\"unix:/run/app.sock\"."},
    {.section = SECTION_SERVER,
     .name = "weight",
     NUMBER(config_server, weight),
     .most = CONFIG_WEIGHT_MAX,
     .standard = "100",
     .reload = RELOAD_LIVE,
     .help = "Its share of new sessions, relative to the others of the pool. 0: none."},
    {.section = SECTION_SERVER,
     .name = "backup",
     SWITCH(config_server, backup),
     .standard = "false",
     .reload = RELOAD_LIVE,
     .help = "Serves only while no other server can be used."},
    {.section = SECTION_SERVER,
     .name = "max_connections",
     NUMBER(config_server, max_connections),
     .most = CONNECTIONS_MAX,
     .standard = "0",
     .reload = RELOAD_LIVE,
     .help = "Sessions at once. 0: no limit."},

    /* pools.health */
    {.section = SECTION_HEALTH,
     .name = "type",
     STRING(config_health, type),
     .least = 1,
     .most = CONFIG_NAME_MAX,
     .standard = "tcp",
     .reload = RELOAD_LIVE,
     .help = "The kind of probe: tcp (a connection is accepted), http (a GET is answered as "
             "wanted) or none (every server counts as up)."},
    {.section = SECTION_HEALTH,
     .name = "interval",
     DURATION(config_health, interval),
     .least = 10,
     .most = DAY,
     .standard = "2s",
     .reload = RELOAD_LIVE,
     .help = "Time from the start of a probe to the start of the next."},
    {.section = SECTION_HEALTH,
     .name = "interval_changing",
     DURATION(config_health, interval_changing),
     .least = 10,
     .most = DAY,
     .zero = true,
     .standard = "0",
     .reload = RELOAD_LIVE,
     .help = "The same while rise or fall is being counted; never above interval. 0: the timeout, "
             "but at least 500ms, or the interval if that is shorter."},
    {.section = SECTION_HEALTH,
     .name = "interval_down",
     DURATION(config_health, interval_down),
     .least = 10,
     .most = DAY,
     .zero = true,
     .standard = "0",
     .reload = RELOAD_LIVE,
     .help = "The same while a server is down. 0: the interval."},
    {.section = SECTION_HEALTH,
     .name = "timeout",
     DURATION(config_health, timeout),
     .least = 1,
     .most = HOUR,
     .standard = "1s",
     .reload = RELOAD_LIVE,
     .help = "How long a probe may take; never above an interval."},
    {.section = SECTION_HEALTH,
     .name = "rise",
     NUMBER(config_health, rise),
     .least = 1,
     .most = 100,
     .standard = "2",
     .reload = RELOAD_LIVE,
     .help = "Probes in a row that must pass to make a down server up. The first verdict on a "
             "server counts alone."},
    {.section = SECTION_HEALTH,
     .name = "fall",
     NUMBER(config_health, fall),
     .least = 1,
     .most = 100,
     .standard = "3",
     .reload = RELOAD_LIVE,
     .help = "Probes in a row that must fail to make an up server down."},
    {.section = SECTION_HEALTH,
     .name = "jitter",
     NUMBER(config_health, jitter),
     .most = 100,
     .standard = "10",
     .reload = RELOAD_LIVE,
     .help = "Per cent of the interval that chance may add, so that probes do not march in step."},
    {.section = SECTION_HEALTH,
     .name = "start_up",
     SWITCH(config_health, start_up),
     .standard = "false",
     .reload = RELOAD_LIVE,
     .help = "A server that no probe has spoken on yet gets traffic."},
    {.section = SECTION_HEALTH,
     .name = "port",
     NUMBER(config_health, port),
     .least = 1,
     .most = 65535,
     .zero = true,
     .standard = "0",
     .reload = RELOAD_LIVE,
     .help = "The port that is probed. 0: the server's own."},
    {.section = SECTION_HEALTH,
     .name = "path",
     STRING(config_health, path),
     .least = 1,
     .most = 1023,
     .standard = "/",
     .probe = "http",
     .check = config_form_path,
     .reload = RELOAD_LIVE,
     .help = "What an http probe asks for."},
    {.section = SECTION_HEALTH,
     .name = "host",
     STRING(config_health, host),
     .most = 255,
     .standard = "",
     .probe = "http",
     .check = config_form_host,
     .reload = RELOAD_LIVE,
     .help = "The Host of an http probe. \"\": the server's address."},
    {.section = SECTION_HEALTH,
     .name = "status",
     STRING(config_health, status),
     .least = 1,
     .most = 255,
     .standard = "200-399",
     .probe = "http",
     .check = config_form_status,
     .reload = RELOAD_LIVE,
     .help = "The status codes that pass an http probe, as in \"200-299,304\"."},
    {.section = SECTION_HEALTH,
     .name = "body",
     STRING(config_health, body),
     .most = 255,
     .standard = "",
     .probe = "http",
     .reload = RELOAD_LIVE,
     .help = "What the answer to an http probe must contain. \"\": anything."},

    /* listeners */
    {.section = SECTION_LISTENER,
     .name = "name",
     STRING(config_listener, name),
     NAME,
     .reload = RELOAD_LIVE,
     .help = "How commands, metrics and the log call it."},
    {.section = SECTION_LISTENER,
     .name = "bind",
     ADDRESS(config_listener, bind),
     .reload = RELOAD_LIVE,
     .help = "Where clients reach it: \"0.0.0.0:80\", \"[2001:db8::1]:80\", or \"[::]:80\", which "
             "with v6only = false takes IPv4 clients too."},
    {.section = SECTION_LISTENER,
     .name = "protocol",
     CHOICE(config_listener, protocol, protocols),
     .standard = "tcp",
     .reload = RELOAD_LIVE,
     .help = "What it carries."},
    {.section = SECTION_LISTENER,
     .name = "pool",
     STRING(config_listener, pool),
     .least = 1,
     .most = CONFIG_NAME_MAX,
     .reload = RELOAD_NEW_SESSIONS,
     .help = "The name of the pool that it feeds."},
    {.section = SECTION_LISTENER,
     .name = "backlog",
     NUMBER(config_listener, backlog),
     .least = 1,
     .most = 65535,
     .standard = "4096",
     .reload = RELOAD_LIVE,
     .help = "Connections that may wait to be accepted, for each worker, as listen(2) takes it; "
             "the kernel's net.core.somaxconn caps it."},
    {.section = SECTION_LISTENER,
     .name = "max_connections",
     NUMBER(config_listener, max_connections),
     .most = CONNECTIONS_MAX,
     .standard = "0",
     .reload = RELOAD_LIVE,
     .help = "Sessions at once. 0: only the limit of the process."},
    {.section = SECTION_LISTENER,
     .name = "freebind",
     SWITCH(config_listener, freebind),
     .standard = "false",
     .reload = RELOAD_LIVE,
     .help = "Binds an address that this machine does not hold yet, such as the VIP on a standby "
             "(IP_FREEBIND)."},
    {.section = SECTION_LISTENER,
     .name = "v6only",
     SWITCH(config_listener, v6only),
     .standard = "true",
     .reload = RELOAD_LIVE,
     .help = "An IPv6 wildcard takes no IPv4 clients (IPV6_V6ONLY). Without a meaning for other "
             "addresses."},
    {.section = SECTION_LISTENER,
     .name = "idle_timeout",
     DURATION(config_listener, idle_timeout),
     .least = 1,
     .most = 30 * DAY,
     .standard = "10m",
     .inherits = true,
     .reload = RELOAD_NEW_SESSIONS,
     .help = "A session ends when for this long no byte passed either way."},
    {.section = SECTION_LISTENER,
     .name = "half_close_timeout",
     DURATION(config_listener, half_close_timeout),
     .least = 1,
     .most = 30 * DAY,
     .standard = "30s",
     .inherits = true,
     .reload = RELOAD_NEW_SESSIONS,
     .help = "The same for the direction that stays open after one side has finished sending."},
    {.section = SECTION_LISTENER,
     .name = "reset_flush_timeout",
     DURATION(config_listener, reset_flush_timeout),
     .most = 10 * MINUTE,
     .standard = "5s",
     .inherits = true,
     .reload = RELOAD_NEW_SESSIONS,
     .help = "After a reset from one side, how long the other side may take to receive what was "
             "sent to it before, until it is reset too."},
    {.section = SECTION_LISTENER,
     .name = "splice",
     CHOICE(config_listener, splice, splice),
     .standard = "auto",
     .inherits = true,
     .reload = RELOAD_NEW_SESSIONS,
     .help = "Whether bytes are moved within the kernel: for streams, never, or always."},
    {.section = SECTION_LISTENER,
     .name = "rcvbuf",
     SIZE(config_listener, rcvbuf),
     .least = 4 * KIB,
     .most = 256 * MIB,
     .zero = true,
     .standard = "0",
     .inherits = true,
     .reload = RELOAD_NEW_SESSIONS,
     .help = "SO_RCVBUF of both sockets of a session. 0: the kernel tunes it."},
    {.section = SECTION_LISTENER,
     .name = "sndbuf",
     SIZE(config_listener, sndbuf),
     .least = 4 * KIB,
     .most = 256 * MIB,
     .zero = true,
     .standard = "0",
     .inherits = true,
     .reload = RELOAD_NEW_SESSIONS,
     .help = "SO_SNDBUF of both sockets of a session. 0: the kernel tunes it."},
    {.section = SECTION_LISTENER,
     .name = "notsent_lowat",
     SIZE(config_listener, notsent_lowat),
     .least = 4 * KIB,
     .most = 256 * MIB,
     .standard = "128k",
     .inherits = true,
     .reload = RELOAD_NEW_SESSIONS,
     .help = "TCP_NOTSENT_LOWAT: how much unsent data a socket may hold before weir stops adding."},
    {.section = SECTION_LISTENER,
     .name = "keepalive_idle",
     DURATION(config_listener, keepalive_idle),
     .least = SECOND,
     .most = 32767 * SECOND,
     .zero = true,
     .step = SECOND,
     .standard = "60s",
     .inherits = true,
     .reload = RELOAD_NEW_SESSIONS,
     .help = "Silence after which the kernel asks whether the peer still lives. 0: it never asks."},
    {.section = SECTION_LISTENER,
     .name = "keepalive_interval",
     DURATION(config_listener, keepalive_interval),
     .least = SECOND,
     .most = 32767 * SECOND,
     .step = SECOND,
     .standard = "10s",
     .inherits = true,
     .reload = RELOAD_NEW_SESSIONS,
     .help = "Time between such questions."},
    {.section = SECTION_LISTENER,
     .name = "keepalive_count",
     NUMBER(config_listener, keepalive_count),
     .least = 1,
     .most = 127,
     .standard = "6",
     .inherits = true,
     .reload = RELOAD_NEW_SESSIONS,
     .help = "Questions without an answer that end the session."},
    {.section = SECTION_LISTENER,
     .name = "user_timeout",
     DURATION(config_listener, user_timeout),
     .least = 1,
     .most = DAY,
     .zero = true,
     .standard = "0",
     .inherits = true,
     .reload = RELOAD_NEW_SESSIONS,
     .help = "TCP_USER_TIMEOUT: how long sent bytes may stay unacknowledged before the session "
             "ends. 0: as the system retries."},
};

_Static_assert(ARRAY_LEN(config_keys) <= CONFIG_KEYS_MAX, "the readers' arrays hold all keys");
const size_t config_key_count = ARRAY_LEN(config_keys);

/* ---- Finding ---- */

const char *config_reload_name(enum config_reload reload)
{
    static const char *const names[] = {"live", "new sessions", "restart"};
    return names[reload];
}

bool config_key_belongs(const struct config_key *key, enum config_section_id section)
{
    return key->section == section || (section == SECTION_DEFAULTS && key->inherits);
}

const struct config_key *config_key_find(enum config_section_id section, const char *name)
{
    for (size_t i = 0; i < config_key_count; i++)
        if (config_key_belongs(&config_keys[i], section) && strcmp(config_keys[i].name, name) == 0)
            return &config_keys[i];
    return NULL;
}

/* ---- Fields ---- */

int config_key_set(const struct config_key *key, void *object, const char *text, struct text *why)
{
    return key->type->set(key, config_field(object, key->offset), text, why);
}

const char *config_key_text(const struct config_key *key, const void *object,
                            char scratch[CONFIG_KEY_SCRATCH])
{
    return key->type->text(key, config_field(object, key->offset), scratch);
}

void config_key_clear(const struct config_key *key, void *object)
{
    key->type->clear(config_field(object, key->offset));
}
