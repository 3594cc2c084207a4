/*
 * What a client sends first, where the listener must know it before a server is chosen: a PROXY
 * header that tells whose connection it is, and the ClientHello that tells which name is wanted.
 *
 * One deadline counts from accept, and bytes do not extend it. Who is undecided at the deadline, at
 * preread_max or at its FIN is ended, and never served by default. The bytes stay as they came
 * until a server has got them: another process can begin with them anew.
 */
#include "common/proxy_header.h"
#include "lb/tcp/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define FIRST_SIZE 2048u

static const char too_long[] = "it is longer than preread_max";

static void refuse(struct session *session, const char *why)
{
    admit_refuse(session->tcp, session->policy, &session->client, why);
    session_end(session, SESSION_END_REFUSED);
}

static void wrong(struct session *session, const char *why)
{
    session->preread->why = why;
    metrics_add(session->tcp->env.metrics, METRIC_PREREAD_WRONG, 1);
    session_end(session, SESSION_END_PREREAD_WRONG);
}

/* ---- routes ---- */

/* What the pool's servers are told of it outlives the bytes. */
static bool keep_hello(struct session *session, const struct client_hello *hello)
{
    const uint32_t telling = CONFIG_TLV_AUTHORITY | CONFIG_TLV_ALPN;

    if (hello == NULL || (session_pool_policy(session)->send_proxy_tlvs & telling) == 0)
        return true;
    session->preread->hello = malloc(sizeof(*hello));
    if (session->preread->hello == NULL)
        return false;
    *session->preread->hello = *hello;
    return true;
}

static void take_route(struct session *session, const struct config_route *route)
{
    if (route == NULL)
        return;
    session->pool = (uint32_t)route->pool_index;
    session->pool_name = route->pool;
    if (session->preread != NULL)
        session->preread->route = route;
}

static void go_on(struct session *session, const struct client_hello *hello)
{
    struct route_facts facts = {.client = &session->client, .hello = hello};
    const struct config_route *route = route_choose(session->policy, &facts);

    if (route == NULL && session->policy->refuse_unrouted) {
        refuse(session, "no route fits it");
        return;
    }
    take_route(session, route);
    if (!keep_hello(session, hello)) {
        session_end(session, SESSION_END_NO_RESOURCES);
        return;
    }
    if (session->state == SESSION_PREREAD) {
        session->deadline_ms = 0;
        session_set_state(session, SESSION_PICKING);
    }
    session_begin(session);
}

static void read_hello(struct session *session)
{
    struct preread *preread = session->preread;
    struct client_hello hello;
    const char *why;

    if (!route_needs_hello(session->policy)) {
        go_on(session, NULL);
        return;
    }
    switch (client_hello_read(preread->bytes + preread->start, preread->used - preread->start,
                              &hello, &why)) {
    case CLIENT_HELLO_WHOLE:
        go_on(session, &hello);
        break;
    case CLIENT_HELLO_NOT_TLS:
        go_on(session, NULL);
        break;
    case CLIENT_HELLO_WRONG:
        wrong(session, why);
        break;
    case CLIENT_HELLO_PARTIAL:
        break;
    }
}

/* ---- the PROXY header ---- */

static bool keep_tlvs(struct preread *preread, const struct proxy_header *header)
{
    if (header->tlvs.length == 0)
        return true;
    preread->tlvs = malloc(header->tlvs.length);
    if (preread->tlvs == NULL)
        return false;
    memcpy(preread->tlvs, header->tlvs.bytes, header->tlvs.length);
    preread->tlv_length = (uint32_t)header->tlvs.length;
    return true;
}

/* LOCAL and UNKNOWN: the sender speaks for itself. */
static bool apply(struct session *session, const struct proxy_header *header)
{
    struct preread *preread = session->preread;

    preread->start = (uint32_t)header->length;
    if (header->local)
        return true;
    preread->told = true;
    preread->destination = header->destination;
    inet_address_fold(&preread->destination);
    session->client = header->source;
    inet_address_fold(&session->client);
    return keep_tlvs(preread, header);
}

static bool is_done_with_header(struct session *session)
{
    struct preread *preread = session->preread;

    preread->header_done = true;
    if (preread->admitted)
        admit_again(session);
    if (preread->admitted || admit_told(session))
        return true;
    session_end(session, SESSION_END_REFUSED);
    return false;
}

/* True: there is none, or it is read. */
static bool read_header(struct session *session)
{
    struct preread *preread = session->preread;
    struct proxy_header header;
    const char *why;

    switch (proxy_header_read(preread->bytes, preread->used, &header, &why)) {
    case PROXY_PARTIAL:
        if (header.length <= session->policy->preread_max)
            return false;
        why = too_long;
        break;
    case PROXY_NONE:
        if (session->policy->proxy_in != CONFIG_PROXY_REQUIRED)
            return is_done_with_header(session);
        why = "there is no PROXY header";
        break;
    case PROXY_WHOLE:
        why = "the PROXY header is of datagrams";
        if (header.type == SOCK_DGRAM)
            break;
        if (apply(session, &header))
            return is_done_with_header(session);
        session_end(session, SESSION_END_NO_RESOURCES);
        return false;
    case PROXY_WRONG:
        break;
    }
    wrong(session, why);
    return false;
}

/* ---- bytes ---- */

static void decide(struct session *session)
{
    if (session->preread->header_done || read_header(session))
        read_hello(session);
}

static bool grow(struct session *session)
{
    struct preread *preread = session->preread;
    uint32_t size = preread->size == 0 ? FIRST_SIZE : preread->size * 2;
    uint8_t *bytes;

    size = MIN(size, session->policy->preread_max);
    bytes = realloc(preread->bytes, size);
    if (bytes == NULL)
        return false;
    preread->bytes = bytes;
    preread->size = size;
    return true;
}

/* Room for one byte more; false: the session is over. */
static bool has_room(struct session *session)
{
    struct preread *preread = session->preread;

    if (preread->used < preread->size)
        return true;
    if (preread->size >= session->policy->preread_max) {
        wrong(session, too_long);
        return false;
    }
    if (grow(session))
        return true;
    session_end(session, SESSION_END_NO_RESOURCES);
    return false;
}

static void client_ended(struct session *session, ssize_t got)
{
    if (got < 0 || session->preread->used == 0)
        session_end(session, SESSION_END_CLIENT_GONE);
    else
        wrong(session, "the client sent its last before it was whole");
}

void preread_event(struct session *session)
{
    struct preread *preread = session->preread;

    while (session->state == SESSION_PREREAD && has_room(session)) {
        ssize_t got = recv(session->side[CLIENT].fd, preread->bytes + preread->used,
                           preread->size - preread->used, MSG_DONTWAIT);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0) {
            client_ended(session, got);
            return;
        }
        preread->used += (uint32_t)got;
        decide(session);
    }
}

/* ---- beginning and end ---- */

static bool make(struct session *session, bool expects_header)
{
    session->preread = calloc(1, sizeof(*session->preread));
    if (session->preread == NULL)
        return false;
    session->preread->peer = session->client;
    session->preread->header_done = !expects_header;
    return true;
}

void preread_begin(struct session *session)
{
    bool expects_header = admit_is_sender(session->policy, &session->client);

    if (!expects_header && !route_needs_hello(session->policy)) {
        go_on(session, NULL);
        return;
    }
    if (!make(session, expects_header)) {
        session_end(session, SESSION_END_NO_RESOURCES);
        return;
    }
    session->deadline_ms = session->tcp->now_ms + session->policy->preread_timeout_ms;
    session_set_state(session, SESSION_PREREAD);
}

/* ---- hand-over ---- */

int preread_restore(struct session *session, const struct session_record *record)
{
    struct preread *preread;
    uint32_t size = MAX(record->held[CLIENT], FIRST_SIZE);

    if (!make(session, admit_is_sender(session->policy, &session->client)))
        return -ENOMEM;
    preread = session->preread;
    preread->admitted = record->admitted != 0;
    preread->bytes = malloc(size);
    if (preread->bytes == NULL)
        return -ENOMEM;
    preread->size = size;
    preread->used = record->held[CLIENT];
    if (preread->used > 0)
        memcpy(preread->bytes, record->data, preread->used);
    session->deadline_ms = session->tcp->now_ms + record->deadline_left_ms;
    session_set_state(session, SESSION_PREREAD);
    decide(session);
    return 0;
}

int preread_remember(struct session *session, const struct session_record *record)
{
    if (record->via.any.sa_family == AF_UNSPEC)
        return 0;
    if (!make(session, false))
        return -ENOMEM;
    session->preread->peer = record->via;
    session->preread->destination = record->destination;
    session->preread->told = true;
    return 0;
}

void preread_forget(struct session *session)
{
    struct preread *preread = session->preread;

    if (preread == NULL)
        return;
    free(preread->tlvs);
    free(preread->hello);
    preread->tlvs = NULL;
    preread->tlv_length = 0;
    preread->hello = NULL;
    if (!preread->told)
        preread_free(session);
}

void preread_free(struct session *session)
{
    struct preread *preread = session->preread;

    if (preread == NULL)
        return;
    free(preread->bytes);
    free(preread->tlvs);
    free(preread->hello);
    free(preread);
    session->preread = NULL;
}
