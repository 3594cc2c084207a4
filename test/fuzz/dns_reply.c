/*
 * Fuzzes lb/health/dns_reply: any bytes as the reply to a query. The first byte says what was asked
 * and wanted, and how many bytes are cut off the end for a second reading.
 *
 * Covers: lb/health/dns_reply.c
 */
#include "lb/health/dns_reply.h"

#include <stdlib.h>
#include <string.h>

#define ID 0x1234

/* A name, a type and at the least no data. */
#define RECORD_LEAST 11

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct reading {
    enum dns_reply_state state;
    struct dns_reply reply;
};

/* A copy of its own, so that AddressSanitizer sees where it ends. */
static void read_copy(const struct dns_query *query, const struct dns_data *wanted,
                      const uint8_t *bytes, size_t size, struct reading *out)
{
    uint8_t *copy = malloc(size + (size == 0));
    BUG_ON(copy == NULL);
    memcpy(copy, bytes, size);
    out->state = dns_reply_read(&out->reply, query, wanted, copy, size);
    free(copy);
}

static void check_reading(const struct reading *reading, const struct dns_data *wanted,
                          const uint8_t *bytes, size_t size)
{
    const struct dns_reply *reply = &reading->reply;
    bool has_id = size >= 2 && (bytes[0] << 8 | bytes[1]) == ID;
    BUG_ON((reading->state == DNS_REPLY_FOREIGN) == has_id);
    BUG_ON((reading->state == DNS_REPLY_BROKEN) != (reply->why != NULL));
    BUG_ON(reply->answers > size / RECORD_LEAST);
    BUG_ON(reply->found && (wanted == NULL || reply->answers == 0));
    if (reading->state == DNS_REPLY_WHOLE || reading->state == DNS_REPLY_TRUNCATED) {
        BUG_ON(reply->rcode != (bytes[3] & 0x0fu));
        BUG_ON((reading->state == DNS_REPLY_TRUNCATED) != ((bytes[2] & 2) != 0));
    }
}

/* A reading of fewer bytes finds nothing that the other does not. */
static void compare(const struct reading *whole, const struct reading *cut)
{
    BUG_ON(cut->reply.answers > whole->reply.answers);
    BUG_ON(cut->reply.found && !whole->reply.found);
    if (cut->state != DNS_REPLY_WHOLE)
        return;
    BUG_ON(whole->state != DNS_REPLY_WHOLE);
    BUG_ON(cut->reply.answers != whole->reply.answers);
    BUG_ON(cut->reply.found != whole->reply.found);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct dns_data four = {.bytes = {192, 0, 2, 1}, .size = 4};
    static const struct dns_data six = {.bytes = {0x20, 1, 0xd, 0xb8, [15] = 1}, .size = 16};
    if (size == 0)
        return 0;
    uint8_t choice = *data++;
    size--;
    bool is_six = (choice & 1) != 0;
    const struct dns_data *wanted = (choice & 2) != 0 ? NULL : is_six ? &six : &four;
    struct dns_query query;
    dns_query_init(&query, (choice & 4) != 0 ? "." : "www.example.org", is_six ? 28 : 1, ID);

    struct reading whole, cut;
    size_t cut_size = size - MIN(size, (size_t)choice >> 3);
    read_copy(&query, wanted, data, size, &whole);
    read_copy(&query, wanted, data, cut_size, &cut);
    check_reading(&whole, wanted, data, size);
    check_reading(&cut, wanted, data, cut_size);
    compare(&whole, &cut);
    return 0;
}
