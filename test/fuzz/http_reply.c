/*
 * Fuzzes lb/health/http_reply: any bytes as a response. The first byte says how the rest is cut
 * into pieces; cut so or read whole, the result must be the same. The rest is also read as a list
 * of statuses.
 *
 * Covers: lb/health/http_reply.c
 */
#include "lb/health/http_reply.h"

#include <stdlib.h>
#include <string.h>

#define LIMIT 2048

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct body {
    size_t size;
    uint32_t hash;
};

static void on_body(void *owner, const char *bytes, size_t size)
{
    struct body *body = owner;
    body->size += size;
    for (size_t i = 0; i < size; i++)
        body->hash = body->hash * 31 + (uint8_t)bytes[i];
}

static void read_pieces(const char *bytes, size_t size, size_t piece, struct http_reply *reply,
                        struct body *body)
{
    *body = (struct body){0};
    http_reply_init(reply, LIMIT, on_body, body);
    for (size_t at = 0; at < size; at += piece)
        http_reply_feed(reply, bytes + at, MIN(piece, size - at));
    http_reply_end(reply);
}

/* A list is digits, ',' and '-', and holds nothing in any other form. */
static void check_list(const char *bytes, size_t size)
{
    char *list = malloc(size + 1);
    BUG_ON(list == NULL);
    memcpy(list, bytes, size);
    list[size] = '\0';
    bool is_listed = http_status_listed(list, 200);
    BUG_ON(is_listed && list[strspn(list, "0123456789,-")] != '\0');
    free(list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const char *bytes = (const char *)data + 1;
    check_list(bytes, size - 1);
    struct http_reply whole, cut;
    struct body whole_body, cut_body;
    read_pieces(bytes, size - 1, size, &whole, &whole_body);
    read_pieces(bytes, size - 1, 1 + data[0] % 32u, &cut, &cut_body);

    BUG_ON(whole.state != HTTP_REPLY_DONE && whole.state != HTTP_REPLY_BROKEN);
    BUG_ON(whole.state != cut.state || whole.status != cut.status);
    BUG_ON(whole_body.size != cut_body.size || whole_body.hash != cut_body.hash);
    BUG_ON(whole_body.size > LIMIT);
    if (whole.state == HTTP_REPLY_BROKEN)
        BUG_ON(strcmp(whole.why, cut.why) != 0);
    else
        BUG_ON(whole.status < 100 || whole.status > 999);
    return 0;
}
