/*
 * What a server gets first: the PROXY header, and with it, in one segment, what the client has sent
 * so far. A socket that has just connected takes that at once; one that does not, for a header of
 * tens of thousands of bytes and a small sndbuf, gets none of it, and the session ends.
 *
 * Until the server's kernel has them the client's bytes stay where they are, in the preread or in
 * the client's socket: a server that fails here costs another try and no byte.
 */
#include "common/proxy_header.h"
#include "lb/tcp/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* An id in decimal digits. */
#define ID_TEXT 24

/* ---- the header ---- */

static struct proxy_tlv_view view(const void *bytes, size_t length)
{
    return (struct proxy_tlv_view){.bytes = bytes, .length = length};
}

static struct proxy_tlv_view authority(const struct preread *preread)
{
    const char *name = preread->hello != NULL ? preread->hello->sni : "";

    return view(name, strlen(name));
}

/* What it was routed by, or else the only protocol on offer: which one the two will agree on is
 * not known. */
static struct proxy_tlv_view protocol(const struct preread *preread)
{
    const struct client_hello *hello = preread->hello;

    if (hello == NULL)
        return view(NULL, 0);
    if (preread->route != NULL && preread->route->alpn[0] != '\0')
        return view(preread->route->alpn, strlen(preread->route->alpn));
    if (hello->alpn_length > 0 && hello->alpn[0] + 1 == hello->alpn_length)
        return view(hello->alpn + 1, hello->alpn[0]);
    return view(NULL, 0);
}

static union inet_address destination(const struct session *session)
{
    union inet_address own = {0};
    socklen_t length = sizeof(own);

    if (session->preread != NULL && session->preread->told)
        return session->preread->destination;
    /* A socket knows its own address, whatever has become of its peer. */
    (void)getsockname(session->side[CLIENT].fd, &own.any, &length);
    inet_address_fold(&own);
    return own;
}

/* The header's length; 0: what it is to tell is more than a header can. */
static size_t write_header(const struct session *session, uint8_t *out, size_t size)
{
    const struct pool_policy *policy = session_pool_policy(session);
    const struct preread *preread = session->preread;
    uint32_t tlvs = policy->send_proxy_tlvs;
    char id[ID_TEXT];
    struct proxy_write header = {
        .version = policy->send_proxy == CONFIG_SEND_PROXY_V1 ? 1 : 2,
        .source = session->client,
        .destination = destination(session),
        .type = SOCK_STREAM,
        .crc32c = (tlvs & CONFIG_TLV_CRC32C) != 0,
    };
    int length = snprintf(id, sizeof(id), "%llu", (unsigned long long)session->id);

    if (tlvs & CONFIG_TLV_UNIQUE_ID)
        header.unique_id = view(id, (size_t)length);
    if (preread != NULL && tlvs & CONFIG_TLV_AUTHORITY)
        header.authority = authority(preread);
    if (preread != NULL && tlvs & CONFIG_TLV_ALPN)
        header.alpn = protocol(preread);
    if (preread != NULL && tlvs & CONFIG_TLV_RECEIVED)
        header.extra = view(preread->tlvs, preread->tlv_length);
    return proxy_header_write(&header, out, size);
}

/* ---- the client's bytes ---- */

static bool has_preread(const struct session *session)
{
    return session->preread != NULL && session->preread->bytes != NULL;
}

/* Copies what the client has sent; false: it has left, and the session is over. */
static bool peek(struct session *session, uint8_t *out, size_t size, size_t *out_count)
{
    const struct preread *preread = session->preread;
    ssize_t got;

    *out_count = 0;
    if (has_preread(session)) {
        *out_count = MIN((size_t)(preread->used - preread->start), size);
        memcpy(out, preread->bytes + preread->start, *out_count);
        return true;
    }
    if (!session->side[CLIENT].readable)
        return true;
    got = recv(session->side[CLIENT].fd, out, size, MSG_DONTWAIT | MSG_PEEK);
    if (got < 0 && errno != EAGAIN && errno != EINTR) {
        session_end(session, SESSION_END_CLIENT_GONE);
        return false;
    }
    *out_count = got > 0 ? (size_t)got : 0;
    return true;
}

/* So many of them have gone to the server; what it did not take yet waits for it in the engine. */
static bool consume(struct session *session, size_t count)
{
    struct preread *preread = session->preread;
    int failed = 0;

    session->direction[CLIENT].bytes += count;
    relay_count(session, CLIENT, count);
    if (!has_preread(session)) {
        /* tcp(7): MSG_TRUNC discards. They are there, for they were seen. */
        return count == 0 || recv(session->side[CLIENT].fd, NULL, count,
                                  MSG_DONTWAIT | MSG_TRUNC) == (ssize_t)count;
    }
    preread->start += (uint32_t)count;
    failed = engine_refill(&session->direction[CLIENT], preread->bytes + preread->start,
                           preread->used - preread->start);
    free(preread->bytes);
    preread->bytes = NULL;
    return failed == 0;
}

bool greet_server(struct session *session)
{
    uint8_t *space = session->tcp->tools.scratch;
    size_t size = session->tcp->tools.scratch_size;
    size_t header = 0, data;
    ssize_t sent;

    if (session_pool_policy(session)->send_proxy != CONFIG_SEND_PROXY_OFF) {
        header = write_header(session, space, size);
        if (header == 0) { /* without it the client's bytes would speak for another */
            session_end(session, SESSION_END_NO_RESOURCES);
            return false;
        }
    } else if (!has_preread(session)) {
        return true;
    }
    if (!peek(session, space + header, size - header, &data))
        return false;
    if (header + data == 0)
        return consume(session, 0);
    sent = send(session->side[SERVER].fd, space, header + data, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        relay_failed(session, SERVER, errno);
        return session->state == SESSION_RESETTING;
    }
    sent = MAX(sent, 0);
    if ((size_t)sent >= header && consume(session, (size_t)sent - header))
        return true;
    session_end(session, SESSION_END_NO_RESOURCES);
    return false;
}
