/*
 * Purpose: see ask.h.
 * Thread:  see ask.h.
 * Owns:    see ask.h.
 * Fails:   see ask.h.
 */
#include "lb/ctl/ask.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- the connection ---- */

static void explain_absence(const char *path, int code, struct text *why)
{
    switch (code) {
    case ENOENT:
        text_addf(why,
                  "weir is not there: there is no socket %s; start weir, or name its socket with "
                  "--socket or WEIR_SOCKET",
                  path);
        break;
    case ECONNREFUSED:
        text_addf(why, "weir is not there: nobody listens at %s; start weir", path);
        break;
    case EACCES:
        text_addf(why,
                  "the socket %s is not open to this user: be root or weir's own user, or set "
                  "admin.mode in the configuration",
                  path);
        break;
    case EAGAIN:
        text_addf(why, "weir does not take the connection at %s: it hangs, or is stopped", path);
        break;
    default:
        text_addf(why, "cannot connect to weir at %s: %s", path, strerrordesc_np(code));
    }
}

/* SO_SNDTIMEO counts for connect(2) too: socket(7). */
static int dial(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval patience = {.tv_sec = ASK_SECONDS};
    size_t size = strlen(path) + 1;
    if (size > sizeof(address.sun_path))
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, size);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0 &&
        connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    int code = errno;
    close(fd);
    return -code;
}

/* An error is not told: when weir hangs up it says why first, and that can be read. */
static void say(int fd, const char *line)
{
    char newline[] = "\n";
    struct iovec part[] = {
        {.iov_base = (char *)line, .iov_len = strlen(line)},
        {.iov_base = newline, .iov_len = 1},
    };
    const struct msghdr message = {.msg_iov = part, .msg_iovlen = ARRAY_LEN(part)};
    (void)sendmsg(fd, &message, MSG_NOSIGNAL);
}

/* ---- the answer ---- */

/* One line's data. *more: another line follows. */
static enum ask_result take_line(const json_t *reply, json_t *pieces, bool *more, struct text *why)
{
    const json_t *ok = json_object_get(reply, "ok");
    json_t *data = json_object_get(reply, "data");
    const char *error = json_string_value(json_object_get(reply, "error"));
    *more = json_is_true(json_object_get(reply, "more"));
    if (json_is_true(ok) && json_array_append(pieces, data) == 0) /* fails without data, too */
        return ASK_ANSWERED;
    if (json_is_false(ok) && error != NULL) {
        text_add(why, error);
        return ASK_REFUSED;
    }
    text_add(why, "what answers at the socket is not weir");
    return ASK_ABSENT;
}

static enum ask_result explain_silence(int code, struct text *why)
{
    if (code == EAGAIN)
        text_addf(why, "weir has not answered for %d seconds: it hangs, or is stopped",
                  ASK_SECONDS);
    else
        text_add(why, "weir hung up before it had answered");
    return ASK_ABSENT;
}

static enum ask_result hear(FILE *from, json_t *pieces, struct text *why)
{
    enum ask_result result = ASK_ANSWERED;
    char *line = NULL;
    size_t size = 0;
    bool more = true;
    while (more && result == ASK_ANSWERED) {
        errno = 0;
        ssize_t length = getline(&line, &size, from);
        if (length < 0 || line[length - 1] != '\n') {
            result = explain_silence(errno, why);
            break;
        }
        json_t *reply = json_loadb(line, (size_t)length, 0, NULL);
        result = take_line(reply, pieces, &more, why);
        json_decref(reply);
    }
    free(line);
    return result;
}

/* ---- the pieces of an answer ---- */

static json_t *join_texts(const json_t *pieces)
{
    char *joined = NULL;
    size_t size;
    FILE *memory = open_memstream(&joined, &size);
    if (memory == NULL)
        return NULL;
    for (size_t i = 0; i < json_array_size(pieces); i++) {
        const json_t *piece = json_array_get(pieces, i);
        if (json_is_string(piece))
            fwrite(json_string_value(piece), 1, json_string_length(piece), memory);
    }
    json_t *text = fclose(memory) == 0 ? json_stringn(joined, size) : NULL;
    free(joined);
    return text;
}

static json_t *join_lists(const json_t *pieces)
{
    json_t *list = json_array();
    for (size_t i = 0; i < json_array_size(pieces); i++)
        (void)json_array_extend(list, json_array_get(pieces, i));
    return list;
}

/* Of one line: itself. */
static json_t *join(const json_t *pieces)
{
    json_t *first = json_array_get(pieces, 0);
    if (json_array_size(pieces) > 1 && json_is_string(first))
        return join_texts(pieces);
    if (json_array_size(pieces) > 1 && json_is_array(first))
        return join_lists(pieces);
    return json_incref(first);
}

/* ---- all of it ---- */

static enum ask_result converse(FILE *from, const char *line, json_t **out, struct text *why)
{
    json_t *pieces = json_array();
    say(fileno(from), line);
    enum ask_result result = hear(from, pieces, why);
    json_t *joined = result == ASK_ANSWERED ? join(pieces) : NULL;
    json_decref(pieces);
    if (result == ASK_ANSWERED && joined == NULL) {
        text_add(why, "there is no memory for the answer");
        return ASK_ABSENT;
    }
    if (joined != NULL)
        *out = joined;
    return result;
}

enum ask_result ask(const char *socket_path, const char *line, json_t **out, struct text *why)
{
    int fd = dial(socket_path);
    if (fd < 0) {
        explain_absence(socket_path, -fd, why);
        return ASK_ABSENT;
    }
    FILE *from = fdopen(fd, "r");
    if (from == NULL) {
        close(fd);
        text_add(why, "there is no memory");
        return ASK_ABSENT;
    }
    enum ask_result result = converse(from, line, out, why);
    fclose(from);
    return result;
}
