/*
 * Purpose: the probe kind "http": GET, and a judgement on the status and, if wanted, on the body.
 * Thread:  control.
 * Owns:    a probe_stream, and the text of its request while the probe is under way.
 * Fails:   see probe_stream.h; start also without memory.
 *
 *      connecting --> sending --> reading --> judged
 *
 * The answer is judged as soon as it can be: by its status when the head is whole, by its body when
 * the text has been found or cannot come any more. The rest is not waited for.
 */
#include "common/text.h"
#include "lb/health/http_reply.h"
#include "lb/health/needle.h"
#include "lb/health/probe_socket.h"
#include "lb/health/probe_stream.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Of the whole answer: a page is searched so far, and no more of it is read. */
#define REPLY_MAX (64 * 1024)

struct http_probe {
    struct probe_stream stream;
    char *request;
    size_t request_size;
    size_t sent;
    struct http_reply reply;
    struct needle needle;
};

/* ---- The judgement ---- */

static bool has_status(const struct http_probe *http)
{
    const char *wanted = http->stream.probe.settings->status;
    return http_status_listed(wanted, http->reply.status);
}

/* Can what is still to come change anything? */
static bool is_decided(const struct http_probe *http)
{
    const struct http_reply *reply = &http->reply;
    if (reply->state == HTTP_REPLY_DONE || reply->state == HTTP_REPLY_BROKEN)
        return true;
    return reply->status != 0 && (!has_status(http) || needle_found(&http->needle));
}

static void http_judge(struct http_probe *http)
{
    const struct config_health *settings = http->stream.probe.settings;
    char detail[PROBE_DETAIL_MAX];
    struct text text;
    text_init(&text, detail, sizeof(detail));
    enum probe_verdict verdict = PROBE_FAIL;

    if (http->reply.status == 0) {
        text_add(&text, http->reply.why);
    } else if (!has_status(http)) {
        text_addf(&text, "status %d, wanted %s", http->reply.status, settings->status);
    } else if (needle_found(&http->needle)) {
        text_addf(&text, "status %d", http->reply.status);
        verdict = PROBE_PASS;
    } else if (http->reply.state == HTTP_REPLY_BROKEN) {
        text_addf(&text, "status %d, but %s", http->reply.status, http->reply.why);
    } else {
        text_addf(&text, "status %d, but the body lacks \"%s\"", http->reply.status,
                  settings->body);
    }
    probe_stream_finish(&http->stream, verdict, detail);
}

/* ---- Reading ---- */

static void on_body(void *owner, const char *bytes, size_t size)
{
    struct http_probe *http = owner;
    needle_feed(&http->needle, bytes, size);
}

/* What a call on the socket left in errno. */
static void http_fail(struct http_probe *http, int error)
{
    probe_stream_finish(&http->stream, PROBE_FAIL, uv_strerror(-error));
}

/*
 * Reads on when the answer is decided, until there is no more: the end of the stream often lies
 * right behind it, and then the server is spared the reset (see probe_stream.c). REPLY_MAX bounds
 * it.
 */
static ssize_t read_all(struct http_probe *http)
{
    char buffer[4096];
    size_t total = 0;
    for (;;) {
        ssize_t got = recv(http->stream.fd, buffer, sizeof(buffer), 0);
        if (got <= 0)
            return got < 0 ? -errno : 0;
        http_reply_feed(&http->reply, buffer, (size_t)got);
        total += (size_t)got;
        if (total > REPLY_MAX)
            return -EAGAIN;
    }
}

static void http_readable(struct probe_stream *stream)
{
    struct http_probe *http = (struct http_probe *)stream;
    ssize_t rc = read_all(http);
    if (rc == 0) {
        stream->peer_closed = true;
        http_reply_end(&http->reply);
    }
    if (is_decided(http))
        http_judge(http);
    else if (rc != -EAGAIN)
        http_fail(http, (int)-rc);
}

/* ---- Sending ---- */

static void http_writable(struct probe_stream *stream)
{
    struct http_probe *http = (struct http_probe *)stream;
    ssize_t sent =
        send(stream->fd, http->request + http->sent, http->request_size - http->sent, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        http_fail(http, errno);
        return;
    }
    http->sent += sent > 0 ? (size_t)sent : 0;
    if (http->sent == http->request_size)
        probe_stream_watch(stream, UV_READABLE, http_readable);
    else
        probe_stream_watch(stream, UV_WRITABLE, http_writable);
}

/*
 * The Host of a server that has no name: its address and port (RFC 9110 §7.2), without the zone,
 * which has a meaning on this machine only (RFC 6874 §4).
 */
static void add_address(struct text *text, const struct address *address)
{
    char host[ADDRESS_TEXT_MAX];
    address_format(address, host);
    char *zone = strchr(host, '%');
    char *bracket = strchr(host, ']');
    if (!address_is_inet(address)) {
        text_add(text, "localhost");
    } else if (zone != NULL && bracket != NULL) {
        text_add_bytes(text, host, (size_t)(zone - host));
        text_add(text, bracket);
    } else {
        text_add(text, host);
    }
}

static int set_request(struct http_probe *http, const char *text, size_t length)
{
    uint8_t greeting[PROBE_GREETING_MAX];
    size_t size = probe_socket_greeting(http->stream.probe.settings->proxy_version, greeting);

    http->sent = 0;
    http->request = malloc(size + length);
    if (http->request == NULL)
        return -ENOMEM;
    memcpy(http->request, greeting, size);
    memcpy(http->request + size, text, length);
    http->request_size = size + length;
    return 0;
}

static int make_request(struct http_probe *http)
{
    const struct probe *probe = &http->stream.probe;
    const struct config_health *settings = probe->settings;
    char address[ADDRESS_TEXT_MAX];
    struct text host;
    text_init(&host, address, sizeof(address));
    add_address(&host, &probe->address);

    char *request = NULL;
    int length = asprintf(&request,
                          "GET %s HTTP/1.1\r\n"
                          "Host: %s\r\n"
                          "User-Agent: weir\r\n"
                          "Accept: */*\r\n"
                          "Connection: close\r\n"
                          "\r\n",
                          settings->path, settings->host[0] != '\0' ? settings->host : address);
    if (length < 0)
        return -ENOMEM;
    int failed = set_request(http, request, (size_t)length);
    free(request);
    return failed;
}

/* ---- The kind ---- */

static void drop_request(struct probe_stream *stream)
{
    struct http_probe *http = (struct http_probe *)stream;
    free(http->request);
    http->request = NULL;
}

static int http_start(struct probe *probe)
{
    struct http_probe *http = (struct http_probe *)probe;
    int failed = make_request(http);
    if (failed)
        return failed;
    http_reply_init(&http->reply, REPLY_MAX, on_body, http);
    needle_init(&http->needle, probe->settings->body);

    int rc = probe_stream_open(&http->stream, http_writable, drop_request);
    if (rc < 0)
        drop_request(&http->stream);
    return rc;
}

const struct probe_kind probe_http = {
    .size = sizeof(struct http_probe),
    .start = http_start,
    .stop = probe_stream_stop,
};
