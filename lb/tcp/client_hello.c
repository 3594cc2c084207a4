/*
 * Purpose: the reader of client_hello.h.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   see client_hello.h.
 *
 * A hello is one handshake message, cut into records at any of its bytes (RFC 8446 §5.1):
 *
 *      |22 3 x length|fragment ...|22 3 x length|fragment ...|
 *                    |<-position->|             |
 *                     type length hello ...      ... hello
 *
 * The reader stands at a byte of the fragments and steps over the headers by itself, so no fragment
 * is copied together with another. `limit` is the end of the innermost vector that it is in. The
 * first thing that is not as it should be is the result, and whatever is read after that is
 * nothing.
 *
 * It is strict, because a name that is read in two ways sends people to the wrong server: all that
 * this file looks at must be there in its exact length, and once. What the server alone has to
 * judge (versions, ciphers, the data of other extensions) is stepped over, GREASE with it.
 */
#include "lb/tcp/client_hello.h"

#include <string.h>

/* RFC 8446 §5.1; the minor version of a record is to be ignored. */
#define RECORD_HEADER 5
#define RECORD_HANDSHAKE 22
#define RECORD_MAJOR 3
#define RECORD_MAX 16384

/* RFC 8446 §4. The limit is ours: a hello with post-quantum keys and tickets has some 5000 bytes.
 */
#define HANDSHAKE_HEADER 4
#define HANDSHAKE_CLIENT_HELLO 1
#define HANDSHAKE_MAX 65536

/* RFC 8446 §4.1.2, and SSL 3.0 (RFC 6101) as the least version that has a hello of this form. */
#define VERSION_LEAST 0x0300
#define RANDOM_SIZE 32
#define SESSION_ID_MAX 32

/* RFC 6066 §3 and RFC 7301 §3.1. */
#define EXTENSION_SERVER_NAME 0
#define EXTENSION_ALPN 16
#define NAME_TYPE_HOST 0

/* `at` is never beyond `size`, and `position` never beyond `limit`. */
struct reader {
    const uint8_t *bytes;
    size_t size;
    size_t at;
    size_t fragment; /* bytes of this record that are still to be read, come or not */
    size_t position; /* in the handshake message */
    size_t limit;
    bool has_server_name, has_alpn;
    enum client_hello_result result; /* WHOLE as long as nothing else is found */
    const char *why;
};

/* ---- Results ---- */

static bool is_good(const struct reader *reader)
{
    return reader->result == CLIENT_HELLO_WHOLE;
}

/* These return false, for their callers to return. The first word stands. */
static bool end(struct reader *reader, enum client_hello_result result)
{
    if (is_good(reader))
        reader->result = result;
    return false;
}

static bool wrong(struct reader *reader, const char *why)
{
    if (is_good(reader))
        reader->why = why;
    return end(reader, CLIENT_HELLO_WRONG);
}

/* ---- Records ---- */

/* The first record says whether this is TLS at all, the later ones only whether it is right. */
static bool end_foreign(struct reader *reader, const char *why)
{
    return reader->at == 0 ? end(reader, CLIENT_HELLO_NOT_TLS) : wrong(reader, why);
}

static bool open_record(struct reader *reader)
{
    size_t size = reader->size - reader->at;
    if (size == 0)
        return end(reader, CLIENT_HELLO_PARTIAL);
    const uint8_t *header = reader->bytes + reader->at;
    if (header[0] != RECORD_HANDSHAKE)
        return end_foreign(reader, "a record of another type is within the hello");
    if (size > 1 && header[1] != RECORD_MAJOR)
        return end_foreign(reader, "a record has another major version");
    if (size < RECORD_HEADER)
        return end(reader, CLIENT_HELLO_PARTIAL);

    size_t length = (size_t)header[3] << 8 | header[4];
    if (length == 0)
        return wrong(reader, "a record is empty");
    if (length > RECORD_MAX)
        return wrong(reader, "a record is longer than 16384 bytes");
    reader->at += RECORD_HEADER;
    reader->fragment = length;
    return true;
}

/* At most `size` bytes, as many as are in one piece; NULL with none. */
static const uint8_t *take_piece(struct reader *reader, size_t *size)
{
    if (reader->fragment == 0 && !open_record(reader))
        return NULL;
    *size = MIN(*size, MIN(reader->fragment, reader->size - reader->at));
    if (*size == 0) {
        end(reader, CLIENT_HELLO_PARTIAL);
        return NULL;
    }
    const uint8_t *piece = reader->bytes + reader->at;
    reader->at += *size;
    reader->fragment -= *size;
    reader->position += *size;
    return piece;
}

/* ---- Bytes of the hello ---- */

static size_t left(const struct reader *reader)
{
    return reader->limit - reader->position;
}

static bool has_more(const struct reader *reader)
{
    return is_good(reader) && left(reader) > 0;
}

static bool check_fits(struct reader *reader, size_t size)
{
    if (size > left(reader))
        return wrong(reader, "a length is beyond the end of what holds it");
    return is_good(reader);
}

static bool take(struct reader *reader, uint8_t *out, size_t size)
{
    if (!check_fits(reader, size))
        return false;
    for (size_t done = 0, step; done < size; done += step) {
        step = size - done;
        const uint8_t *piece = take_piece(reader, &step);
        if (piece == NULL)
            return false;
        memcpy(out + done, piece, step);
    }
    return true;
}

static void skip(struct reader *reader, size_t size)
{
    if (!check_fits(reader, size))
        return;
    for (size_t step; size > 0; size -= step) {
        step = size;
        if (take_piece(reader, &step) == NULL)
            return;
    }
}

/* 0 when they are not there. */
static size_t take_u8(struct reader *reader)
{
    uint8_t byte;
    return take(reader, &byte, 1) ? byte : 0;
}

static size_t take_u16(struct reader *reader)
{
    uint8_t bytes[2];
    return take(reader, bytes, sizeof(bytes)) ? (size_t)bytes[0] << 8 | bytes[1] : 0;
}

/* Takes a vector's length, which must be that of all that is left. */
static void take_filling(struct reader *reader, const char *why)
{
    size_t size = take_u16(reader);
    if (check_fits(reader, size) && size < left(reader))
        wrong(reader, why);
}

/* ---- The server's name ---- */

static bool is_host_byte(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '-' ||
           byte == '_' || byte == '.';
}

/* By hand, since tolower() asks the locale. */
static char lower(char byte)
{
    return byte >= 'A' && byte <= 'Z' ? (char)(byte - 'A' + 'a') : byte;
}

static void clean_host_name(struct reader *reader, char *name, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        name[i] = lower(name[i]);
        if (!is_host_byte(name[i])) {
            wrong(reader, "the host name has a byte that no host name has");
            return;
        }
    }
    if (name[size - 1] == '.')
        name[--size] = '\0';
    if (size == 0)
        wrong(reader, "the host name is a dot");
}

static void read_host_name(struct reader *reader, struct client_hello *hello, size_t size)
{
    if (!check_fits(reader, size))
        return;
    if (hello->sni[0] != '\0')
        wrong(reader, "there are two host names");
    else if (size == 0)
        wrong(reader, "the host name is empty");
    else if (size > CLIENT_HELLO_SNI_MAX)
        wrong(reader, "the host name is longer than 255 bytes");
    else if (take(reader, (uint8_t *)hello->sni, size))
        clean_host_name(reader, hello->sni, size);
}

/* Names of any other type begin with their length too, RFC 6066 §3. */
static void read_server_name(struct reader *reader, struct client_hello *hello)
{
    size_t type = take_u8(reader);
    size_t size = take_u16(reader);
    if (type == NAME_TYPE_HOST)
        read_host_name(reader, hello, size);
    else
        skip(reader, size);
}

static void read_server_names(struct reader *reader, struct client_hello *hello)
{
    if (reader->has_server_name)
        wrong(reader, "there are two server name extensions");
    reader->has_server_name = true;
    take_filling(reader, "the server name list does not fill its extension");
    if (left(reader) == 0)
        wrong(reader, "the server name list is empty");
    while (has_more(reader))
        read_server_name(reader, hello);
    if (hello->sni[0] == '\0')
        wrong(reader, "the server name list has no host name");
}

/* ---- The protocols ---- */

/* RFC 8701 §2: 0a 0a, 1a 1a, and so on. */
static bool is_grease(const uint8_t *name, size_t size)
{
    return size == 2 && name[0] == name[1] && (name[0] & 0x0f) == 0x0a;
}

static void add_protocol(struct client_hello *hello, const uint8_t *name, size_t size)
{
    if (size + 1 > sizeof(hello->alpn) - hello->alpn_length)
        return;
    uint8_t *at = hello->alpn + hello->alpn_length;
    at[0] = (uint8_t)size;
    memcpy(at + 1, name, size);
    hello->alpn_length = (uint16_t)(hello->alpn_length + size + 1);
}

static void read_protocol(struct reader *reader, struct client_hello *hello)
{
    uint8_t name[UINT8_MAX];
    size_t size = take_u8(reader);
    if (size == 0)
        wrong(reader, "a protocol's name is empty");
    if (take(reader, name, size) && !is_grease(name, size))
        add_protocol(hello, name, size);
}

static void read_protocols(struct reader *reader, struct client_hello *hello)
{
    if (reader->has_alpn)
        wrong(reader, "there are two ALPN extensions");
    reader->has_alpn = true;
    take_filling(reader, "the protocol list does not fill its extension");
    if (left(reader) == 0)
        wrong(reader, "the protocol list is empty");
    while (has_more(reader))
        read_protocol(reader, hello);
}

/* ---- The hello ---- */

static void read_extension(struct reader *reader, struct client_hello *hello)
{
    size_t type = take_u16(reader);
    size_t size = take_u16(reader);
    if (!check_fits(reader, size))
        return;
    size_t outer = reader->limit;
    reader->limit = reader->position + size;
    if (type == EXTENSION_SERVER_NAME)
        read_server_names(reader, hello);
    else if (type == EXTENSION_ALPN)
        read_protocols(reader, hello);
    else
        skip(reader, size);
    reader->limit = outer;
}

/* Before TLS 1.3 a hello may end in front of the extensions, RFC 5246 §7.4.1.2. */
static void read_extensions(struct reader *reader, struct client_hello *hello)
{
    if (!has_more(reader))
        return;
    take_filling(reader, "the extensions do not fill the hello");
    while (has_more(reader))
        read_extension(reader, hello);
}

static void read_session_id(struct reader *reader)
{
    size_t size = take_u8(reader);
    if (size > SESSION_ID_MAX)
        wrong(reader, "the session id is longer than 32 bytes");
    skip(reader, size);
}

static void read_ciphers(struct reader *reader)
{
    size_t size = take_u16(reader);
    if (size == 0)
        wrong(reader, "there are no cipher suites");
    if (size % 2 != 0)
        wrong(reader, "the cipher suites have an odd length");
    skip(reader, size);
}

static void read_compressions(struct reader *reader)
{
    size_t size = take_u8(reader);
    if (size == 0)
        wrong(reader, "there are no compression methods");
    skip(reader, size);
}

/* The type is judged by itself: it may be the only byte there is. */
static void read_header(struct reader *reader)
{
    if (take_u8(reader) != HANDSHAKE_CLIENT_HELLO)
        wrong(reader, "the handshake does not begin with a client hello");
    size_t high = take_u8(reader);
    size_t size = high << 16 | take_u16(reader);
    if (size > HANDSHAKE_MAX)
        wrong(reader, "the hello is longer than 65536 bytes");
    reader->limit += size;
}

static void read_hello(struct reader *reader, struct client_hello *hello)
{
    read_header(reader);
    if (take_u16(reader) < VERSION_LEAST)
        wrong(reader, "the hello's version is older than SSL 3.0");
    skip(reader, RANDOM_SIZE);
    read_session_id(reader);
    read_ciphers(reader);
    read_compressions(reader);
    read_extensions(reader, hello);
}

enum client_hello_result client_hello_read(const uint8_t *bytes, size_t size,
                                           struct client_hello *out, const char **why)
{
    struct reader reader = {.bytes = bytes, .size = size, .limit = HANDSHAKE_HEADER};
    struct client_hello hello = {.sni = ""};
    read_hello(&reader, &hello);
    if (reader.result == CLIENT_HELLO_WHOLE)
        *out = hello;
    if (reader.result == CLIENT_HELLO_WRONG)
        *why = reader.why;
    return reader.result;
}

bool client_hello_offers(const struct client_hello *hello, const char *protocol)
{
    size_t size = strlen(protocol);
    for (size_t at = 0; at < hello->alpn_length; at += 1u + hello->alpn[at]) {
        if (hello->alpn[at] == size && memcmp(hello->alpn + at + 1, protocol, size) == 0)
            return true;
    }
    return false;
}
