/*
 * Purpose: a configuration as plain structs: read, checked, complete, and never changed afterwards.
 * Thread:  any may read; config_parse only in the helper process.
 * Owns:    a struct config owns all it points at; config_free frees it.
 * Fails:   every error of a file is collected as file:line and one sentence; *out is set only when
 *          there is none.
 *
 * The rows of config/keys_*.c are the one place that knows a key: its section, name, type, bounds,
 * default, what a reload may do with it, and its help. Parser, encoder, `--help-config`, the
 * reference page and the dump for `show config` all walk them.
 */
#pragma once

#include "common/address.h"
#include "common/base.h"
#include "common/log.h"
#include "common/network.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Longest name of a pool, server or listener; letters, digits, '-', '_' and '.'. */
#define CONFIG_NAME_MAX 63

#define CONFIG_RETRIES_MAX 7

/* Bounds that commands hold to as well as the file. */
#define CONFIG_WEIGHT_MAX 65535
#define CONFIG_DRAIN_DEADLINE_MAX INT64_C(2592000000) /* 30 days in milliseconds */

enum config_scheduler_hash { CONFIG_HASH_SOURCE_IP, CONFIG_HASH_SOURCE_IP_PORT };
enum config_when_empty { CONFIG_EMPTY_HOLD, CONFIG_EMPTY_RESET };
enum config_on_down { CONFIG_DOWN_DRAIN, CONFIG_DOWN_KEEP, CONFIG_DOWN_KILL };
enum config_splice { CONFIG_SPLICE_AUTO, CONFIG_SPLICE_OFF, CONFIG_SPLICE_ON };
enum config_protocol { CONFIG_PROTOCOL_TCP, CONFIG_PROTOCOL_UDP };
enum config_send_proxy { CONFIG_SEND_PROXY_OFF, CONFIG_SEND_PROXY_V1, CONFIG_SEND_PROXY_V2 };
enum config_send_proxy_udp { CONFIG_SEND_PROXY_EACH, CONFIG_SEND_PROXY_FIRST };
enum config_proxy_in { CONFIG_PROXY_OFF, CONFIG_PROXY_OPTIONAL, CONFIG_PROXY_REQUIRED };
enum config_route_protocol { CONFIG_ROUTE_ANY, CONFIG_ROUTE_TLS, CONFIG_ROUTE_NOT_TLS };
enum config_no_route { CONFIG_NO_ROUTE_POOL, CONFIG_NO_ROUTE_REFUSE };
enum config_refuse { CONFIG_REFUSE_RESET, CONFIG_REFUSE_CLOSE, CONFIG_REFUSE_DROP };

/* What a PROXY header of version 2 carries behind the addresses; bits of a set. */
enum config_tlv {
    CONFIG_TLV_AUTHORITY = 1,
    CONFIG_TLV_ALPN = 2,
    CONFIG_TLV_UNIQUE_ID = 4,
    CONFIG_TLV_CRC32C = 8,
    CONFIG_TLV_RECEIVED = 16, /* what the client's own header carried */
};

/* Bytes of a datagram that one packet of an Ethernet takes over IPv4. */
#define CONFIG_PAYLOAD_MAX 1472

/* What a dns probe may ask for: name, and number in IANA's registry. */
#define CONFIG_DNS_TYPES(X)                                                                        \
    X(A, 1)                                                                                        \
    X(AAAA, 28)                                                                                    \
    X(CNAME, 5)                                                                                    \
    X(MX, 15)                                                                                      \
    X(NS, 2)                                                                                       \
    X(PTR, 12)                                                                                     \
    X(SOA, 6)                                                                                      \
    X(SRV, 33)                                                                                     \
    X(TXT, 16)

/* The codes of a reply, RFC 1035 §4.1.1, in the order of their numbers from 0 on. */
#define CONFIG_DNS_RCODES(X) X(NOERROR) X(FORMERR) X(SERVFAIL) X(NXDOMAIN) X(NOTIMP) X(REFUSED)

enum config_dns_type {
#define CONFIG_DNS_TYPE_ENUM(name, number) CONFIG_DNS_##name,
    CONFIG_DNS_TYPES(CONFIG_DNS_TYPE_ENUM)
#undef CONFIG_DNS_TYPE_ENUM
};

enum config_dns_rcode {
#define CONFIG_DNS_RCODE_ENUM(name) CONFIG_DNS_##name,
    CONFIG_DNS_RCODES(CONFIG_DNS_RCODE_ENUM)
#undef CONFIG_DNS_RCODE_ENUM
};

/* A network address as written and as read. */
struct config_address {
    char *text;
    struct address address;
};

/* Networks as written, in the order of the file, and as read. */
struct config_networks {
    char *text; /* "10.0.0.0/8, 2001:db8::/32"; "" none */
    struct network *network;
    size_t count;
};

/* Most addresses that one pool may connect from. */
#define CONFIG_SOURCES_MAX 64

/* What a pool's servers are connected to from: as written, and as read. */
struct config_sources {
    char *text;                  /* "10.0.0.5, 2001:db8::5", "client"; "" whatever fits */
    bool client;                 /* each session's own client; no addresses then */
    union inet_address *address; /* ports 0; in the order of the file, none twice */
    size_t count;                /* at most CONFIG_SOURCES_MAX */
};

/* Of one file. */
#define CONFIG_LIST_MAX 100000

/* A file of networks: its path as written, "" none, and what it held when it was read. */
struct config_list {
    char *path;
    struct config_networks networks;
    /* Of the loader alone: the file as it was opened, and the line of each network in it. */
    char *file;
    int *line;
};

/* Numbers are int64_t throughout: durations in milliseconds, sizes in bytes, counts plain. */
struct config_weir {
    int64_t workers;         /* never 0: the loader puts the number of CPUs */
    char *user;              /* "" when not set */
    char *group;             /* "" when not set */
    int64_t max_connections; /* 0: from RLIMIT_NOFILE */
    int64_t session_rate;    /* new ones per second; 0: no limit */
    int64_t shutdown_deadline;
    char *admin_socket;
    int64_t admin_mode; /* of the socket, as chmod(2) takes it */
    char *log_target;
    int64_t log_format; /* enum log_format */
    int64_t log_level;  /* enum log_level */
    bool log_access;
};

struct config_health {
    char *type;                /* a probe kind's name, or "none" */
    int64_t interval;          /* while up, start to start */
    int64_t interval_changing; /* while a change is being counted */
    int64_t interval_down;
    int64_t timeout;
    int64_t rise;
    int64_t fall;
    int64_t jitter; /* per cent of the interval, added */
    bool start_up;  /* an unknown server counts as up */
    int64_t port;   /* 0: the server's own */
    bool send_proxy;
    /* Of the header that a probe over a stream, or of datagrams, begins with: 0 none, 1 or 2;
     * completed. */
    int64_t proxy_version;
    int64_t proxy_version_udp;
    /* What it connects from, in this order; of the pool's `source`. None: whatever fits; completed.
     */
    const union inet_address *source;
    size_t source_count;
    /* http */
    char *path;
    char *host;   /* "": the server's address */
    char *status; /* "200-399,418" */
    char *body;   /* "" or what the answer's body must contain */
    /* udp; both as payload_parse reads them, at most CONFIG_PAYLOAD_MAX bytes */
    char *send;
    char *expect; /* "": silence passes too */
    /* dns */
    char *dns_name;
    int64_t dns_type;  /* enum config_dns_type */
    int64_t dns_rcode; /* enum config_dns_rcode */
    char *dns_address; /* "", or of the family that dns_type asks for */
};

struct config_server {
    int line;
    char *name;
    struct config_address address;
    int64_t weight; /* 0: no new sessions */
    bool backup;
    int64_t max_connections; /* 0: no limit */
};

struct config_pool {
    int line;
    char *name;
    char *scheduler; /* a row of lb/sched's table */
    int64_t hash;    /* enum config_scheduler_hash */
    int64_t connect_timeout;
    int64_t retries;
    int64_t when_empty; /* enum config_when_empty */
    int64_t on_down;    /* enum config_on_down */
    int64_t drain_deadline;
    int64_t send_proxy;      /* enum config_send_proxy */
    int64_t send_proxy_udp;  /* enum config_send_proxy_udp */
    int64_t send_proxy_tlvs; /* bits of enum config_tlv */
    struct config_sources source;
    struct config_health health;
    struct config_server *servers;
    size_t server_count;
};

struct config_route {
    int line;
    char *sni;        /* in lower case, such as "*.example.com"; "": any */
    char *alpn;       /* "": any */
    int64_t protocol; /* enum config_route_protocol */
    struct config_networks from;
    char *pool;
    size_t pool_index; /* of `pool` in struct config, put by the checks */
};

struct config_listener {
    int line;
    char *name;
    struct config_address bind;
    int64_t protocol; /* enum config_protocol */
    char *pool;
    size_t pool_index; /* of `pool` in struct config, put by the checks */
    bool freebind;
    bool v6only;
    int64_t log_sample; /* one session or flow in so many has an access line; at least 1 */
    struct config_networks allow; /* none, in the list neither: all */
    struct config_networks deny;
    struct config_list allow_file;
    struct config_list deny_file;
    int64_t source_max_sessions; /* sessions or flows of one source at once; 0: no limit */
    int64_t source_rate;         /* new ones per second of one source; 0: no limit */
    int64_t source_prefix_v4;    /* bits of an address that make a source */
    int64_t source_prefix_v6;
    bool dry_run;           /* the limits on who may come in refuse nobody */
    int64_t proxy_protocol; /* enum config_proxy_in */
    struct config_networks proxy_protocol_from;
    /* tcp */
    int64_t backlog;
    int64_t max_connections; /* 0: only the global limit */
    int64_t session_rate;    /* new ones per second; 0: only the global limit */
    int64_t idle_timeout;
    int64_t half_close_timeout;
    int64_t reset_flush_timeout;
    int64_t splice; /* enum config_splice */
    int64_t rcvbuf; /* 0: autotuned */
    int64_t sndbuf; /* 0: autotuned */
    int64_t notsent_lowat;
    int64_t keepalive_idle; /* milliseconds; 0: no keepalive */
    int64_t keepalive_interval;
    int64_t keepalive_count;
    int64_t user_timeout; /* TCP_USER_TIMEOUT, tcp(7); 0: the system's */
    int64_t preread_timeout;
    int64_t preread_max;
    struct config_route *routes;
    size_t route_count;
    int64_t no_route; /* enum config_no_route */
    int64_t refuse;   /* enum config_refuse */
    /* udp */
    int64_t max_flows;            /* 0: only the limit of the process */
    int64_t source_datagram_rate; /* a second of one source; 0: no limit */
    int64_t udp_idle_timeout;
    int64_t responses; /* replies to a datagram; 0: not known */
    int64_t requests;  /* datagrams of a flow; 0: no end */
    bool per_packet;
    int64_t max_replies;     /* to a datagram; 0: no cap */
    int64_t max_reply_bytes; /* to a datagram; 0: no cap */
    int64_t udp_quarantine;
    int64_t udp_rcvbuf; /* 0: the system's */
    int64_t udp_sndbuf; /* 0: the system's */
    bool udp_fragment;
};

struct config {
    char *path;
    struct config_weir weir;
    struct config_pool *pools;
    size_t pool_count;
    struct config_listener *listeners;
    size_t listener_count;
};

void config_free(struct config **config);

/* Do clients of the listener come to the pool of that index, as its own or by a route? */
bool config_listener_feeds(const struct config_listener *listener, size_t pool);

/* ---- errors ---- */

struct config_error {
    char *file;
    int line; /* 0: of the file as a whole */
    char *text;
};

struct config_errors {
    struct config_error *error;
    size_t count;
};

void config_errors_add(struct config_errors *errors, const char *file, int line, const char *format,
                       ...) printf_like(4, 5);
/* One "file:line: text" a line, in the order of the file. */
void config_errors_print(const struct config_errors *errors, FILE *to);
void config_errors_clear(struct config_errors *errors);

/* ---- reading (the helper process only: libconfig may call exit()) ---- */

/*
 * Parses and checks `path`. 0 and *out, or -EINVAL with at least one error added. What there is of
 * schedulers and probe kinds comes from the caller, so that config knows nothing of lb/.
 */
struct config_names {
    const char *const *schedulers;
    size_t scheduler_count;
    const char *const *probes;
    size_t probe_count;
    /* Does a probe of that kind reach IP addresses alone, and no Unix socket? */
    bool (*probe_is_inet)(const char *name);
};
must_check int config_parse(const char *path, const struct config_names *names, struct config **out,
                            struct config_errors *errors);

/* ---- the checked model between processes ---- */

/* A malloc'd image of the configuration, by the key table; the caller frees it. */
must_check int config_encode(const struct config *config, uint8_t **out, size_t *out_size);

/* -EINVAL when the image is not whole; never reads past `size`. */
must_check int config_decode(const uint8_t *image, size_t size, struct config **out);

/* The same for errors; decoding adds to those that are there. */
must_check int config_errors_encode(const struct config_errors *errors, uint8_t **out,
                                    size_t *out_size);
must_check int config_errors_decode(const uint8_t *image, size_t size,
                                    struct config_errors *errors);

/* ---- for people ---- */

/* Every key with type, bounds, default, what a reload may do with it, and help. */
void config_print_help(FILE *to);
/* The same as the Markdown reference page docs/configuration.md. */
void config_print_reference(FILE *to);
/* A file that shows every key with its default: config/examples/all.cfg. */
void config_print_example(FILE *to);
/* A configuration file that says the same; every key is written. */
void config_print(const struct config *config, FILE *to);
