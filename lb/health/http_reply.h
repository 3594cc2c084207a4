/*
 * Purpose: reads one HTTP/1.x response as it arrives (RFC 9112): its status, and where its body is.
 * Thread:  the owner's.
 * Owns:    nothing: bytes are looked at once and not kept; those of the body go out through a
 *          function.
 * Fails:   HTTP_REPLY_BROKEN, with a phrase in `why`.
 *
 * Private to lb/health. No socket and no clock in here. However the bytes are cut into pieces, the
 * result is the same.
 */
#pragma once

#include "common/base.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * What is kept of a line while it arrives. Longer lines are legal; the fields read here fit, and
 * one of those that does not is broken.
 */
#define HTTP_REPLY_LINE 128

/* The body's bytes with all framing taken off. */
typedef void http_reply_body_fn(void *owner, const char *bytes, size_t size);

enum http_reply_state {
    HTTP_REPLY_STATUS_LINE,
    HTTP_REPLY_FIELD,
    HTTP_REPLY_BODY_LENGTH,
    HTTP_REPLY_BODY_TO_END,
    HTTP_REPLY_CHUNK_SIZE,
    HTTP_REPLY_CHUNK_DATA,
    HTTP_REPLY_CHUNK_END,
    HTTP_REPLY_TRAILER,
    HTTP_REPLY_DONE,
    HTTP_REPLY_BROKEN,
};

struct http_reply {
    enum http_reply_state state;
    int status;      /* of the final response; 0 until its whole head has come */
    const char *why; /* of HTTP_REPLY_BROKEN */

    /* The reader's own. */
    http_reply_body_fn *body;
    void *owner;
    size_t limit; /* bytes that may still come */
    bool any;     /* a byte has come */
    int status_coming;
    enum { HTTP_BODY_UNTOLD, HTTP_BODY_LENGTH, HTTP_BODY_CHUNKED, HTTP_BODY_UNREADABLE } framing;
    uint64_t length; /* of HTTP_BODY_LENGTH */
    uint64_t left;   /* of the body or the chunk */
    bool any_field;
    bool carriage_return; /* the line's last byte was one */
    bool line_cut;
    size_t line_length;
    char line[HTTP_REPLY_LINE];
};

/* After `limit` bytes the response is broken, unless it is done by then. */
void http_reply_init(struct http_reply *reply, size_t limit, http_reply_body_fn *body, void *owner);

/* What comes after the end of the response is ignored. */
enum http_reply_state http_reply_feed(struct http_reply *reply, const char *bytes, size_t size);

/* The peer has closed: HTTP_REPLY_DONE or HTTP_REPLY_BROKEN. */
enum http_reply_state http_reply_end(struct http_reply *reply);

/* Is the status in a list such as "200-399,418"? A list of another form holds none. */
bool http_status_listed(const char *list, int status);
