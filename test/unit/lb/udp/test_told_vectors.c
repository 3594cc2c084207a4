/* Every header of the corpus and every beginning of one in front of a datagram, and trains of
 * datagrams that have headers. */
#include "test/unit/lb/health/corpus.h"
#include "test/unit/lb/udp/scene.h"

#define FOLDER "test/fuzz/corpus/proxy_header"
#define PAYLOAD "what the client said"

/* ---- the corpus ---- */

/* The first byte of each file is a word to the fuzz target. */
static size_t load(const char *name, uint8_t *out, size_t size)
{
    size_t length = corpus_load(FOLDER, name, out, size);

    assert_true(length > 0);
    memmove(out, out + 1, length - 1);
    return length - 1;
}

enum fate { PASSED_ON, WRONG, MISSING, FATES };

static bool begins(const uint8_t *bytes, size_t length, const char *with, size_t size)
{
    return length >= size && memcmp(bytes, with, size) == 0;
}

/* What the reader says of a datagram, and how much of it is the header. */
static enum fate fate_of(const uint8_t *bytes, size_t length, size_t *out_header)
{
    struct proxy_header header;
    const char *why;

    if (!begins(bytes, length, PROXY_V2_SIGNATURE, PROXY_V2_SIGNATURE_SIZE))
        return begins(bytes, length, "PROXY ", 6) ? WRONG : MISSING;
    if (proxy_header_read(bytes, length, &header, &why) != PROXY_WHOLE ||
        header.type == SOCK_STREAM)
        return WRONG;
    *out_header = header.length;
    return PASSED_ON;
}

static void hear_one(struct scene *s, const uint8_t *bytes, size_t length)
{
    static uint8_t heard[HEADED_MAX];

    assert_int_equal(world_read(&s->w, s->w.socket[0], heard, sizeof(heard), NULL), length);
    assert_memory_equal(heard, bytes, length);
}

/* From a sender that has said nothing before. */
static enum fate check(struct scene *s, const uint8_t *bytes, size_t length)
{
    static const enum metric counters[FATES] = {METRIC_DATAGRAMS_IN, METRIC_DROP_HEADER_WRONG,
                                                METRIC_DROP_HEADER_MISSING};
    uint64_t before[FATES];
    size_t header = 0;
    enum fate fate = fate_of(bytes, length, &header);

    for (int i = 0; i < FATES; i++)
        before[i] = world_metric(&s->w, counters[i]);
    peer_send(s->front, bytes, length, &s->w.entry);
    WORLD_UNTIL(&s->w, world_metric(&s->w, counters[fate]) == before[fate] + 1);
    for (int i = 0; i < FATES; i++)
        assert_int_equal(world_metric(&s->w, counters[i]), before[i] + (i == (int)fate));
    if (fate == PASSED_ON)
        hear_one(s, bytes + header, length - header);
    assert_int_equal(udp_flows(s->w.udp), fate == PASSED_ON);
    world_kill_all(&s->w);
    world_reap(&s->w);
    return fate;
}

static void check_beginnings(struct scene *s, const char *name, unsigned count[FATES])
{
    static uint8_t bytes[16384];
    size_t length = load(name, bytes, sizeof(bytes) - sizeof(PAYLOAD));

    memcpy(bytes + length, PAYLOAD, sizeof(PAYLOAD) - 1);
    length += sizeof(PAYLOAD) - 1;
    for (size_t cut = 1; cut <= length; cut++)
        count[check(s, bytes, cut)]++;
}

static void each_header_meets_its_fate_wherever_it_is_cut(void **state)
{
    struct scene s;
    unsigned count[FATES] = {0};
    const struct dirent *entry;
    DIR *folder = opendir(FOLDER);

    (void)state;
    assert_non_null(folder);
    while ((entry = readdir(folder)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        scene_init(&s, CONFIG_PROXY_REQUIRED);
        scene_start(&s);
        s.w.udp->port[0]->told_ms = s.w.now_ms; /* no need to read of each */
        check_beginnings(&s, entry->d_name, count);
        scene_close(&s);
    }
    closedir(folder);
    for (int i = 0; i < FATES; i++)
        assert_true(count[i] > 100);
    print_message("%u passed on, %u wrong, %u missing\n", count[PASSED_ON], count[WRONG],
                  count[MISSING]);
}

/* By name, lest the reader and the test be wrong together. */
static void these_pass_and_these_do_not(void **state)
{
    static const struct {
        const char *name;
        enum fate fate;
    } rows[] = {
        {"v2-udp4", PASSED_ON},
        {"v2-udp6", PASSED_ON},
        {"v2-local", PASSED_ON},
        {"v2-unspec", PASSED_ON},
        {"v2-unix-dgram", PASSED_ON},
        {"v2-local-tlvs", PASSED_ON},
        {"v2-tcp4", WRONG},
        {"v2-tcp6", WRONG},
        {"v2-unix", WRONG},
        {"v2-version", WRONG},
        {"v2-command", WRONG},
        {"v2-family", WRONG},
        {"v2-short-block", WRONG},
        {"v2-tlv-overrun", WRONG},
        {"v2-twice", WRONG},
        {"v2-crc-wrong", WRONG},
        {"v2-ssl-overrun", WRONG},
        {"v1-tcp4", WRONG},
        {"v1-unknown", WRONG},
        {"v1-port-high", WRONG},
        {"http", MISSING},
        {"tls", MISSING},
        {"crlf", MISSING},
    };
    static uint8_t bytes[16384];
    struct scene s;

    (void)state;
    scene_init(&s, CONFIG_PROXY_REQUIRED);
    scene_start(&s);
    s.w.udp->port[0]->told_ms = s.w.now_ms;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        size_t length = load(rows[i].name, bytes, sizeof(bytes));
        if (check(&s, bytes, length) != rows[i].fate)
            fail_msg("%s", rows[i].name);
    }
    scene_close(&s);
}

/* Nor does what is malformed become the sender's own, where that may speak for itself. */
static void the_malformed_go_nowhere_where_headers_are_optional(void **state)
{
    static const char *const names[] = {"v2-tcp4", "v2-crc-wrong", "v1-tcp4", "v2-version"};
    static uint8_t bytes[16384];
    struct scene s;

    (void)state;
    scene_open(&s, CONFIG_PROXY_OPTIONAL);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        size_t length = load(names[i], bytes, sizeof(bytes));
        peer_send(s.front, bytes, length, &s.w.entry);
        scene_assert_dropped(&s, METRIC_DROP_HEADER_WRONG, i + 1);
    }
    assert_int_equal(udp_flows(s.w.udp), 0);
    scene_close(&s);
}

/* It changes nothing of what was told before. */
static void the_malformed_leave_no_trace(void **state)
{
    struct scene s;

    (void)state;
    scene_open(&s, CONFIG_PROXY_REQUIRED);
    (void)scene_ask(&s, ALICE, 0, "a");
    world_say(&s.w, s.front, "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n");
    scene_assert_dropped(&s, METRIC_DROP_HEADER_WRONG, 1);
    (void)world_ask(&s.w, s.front, 0, "a goes on");
    assert_client(world_newest(&s.w), ALICE);
    scene_close(&s);
}

/* ---- trains ---- */

#define SEGMENT 200
#define HEADER 28

static const char *const clients[] = {"198.51.100.1:1001", "198.51.100.2:1002"};

/* A train of datagrams of SEGMENT bytes, one for each letter: whose, or '-' for none, or 'x' for a
 * malformed header. */
static size_t write_train(uint8_t *out, const char *letters)
{
    size_t count = strlen(letters);

    peer_fill(out, count * SEGMENT, 3);
    for (size_t i = 0; i < count; i++) {
        struct proxy_write header = headed_of(clients[letters[i] == 'b'], "192.0.2.1:53");
        if (letters[i] == '-')
            continue;
        assert_int_equal(proxy_header_write(&header, out + i * SEGMENT, SEGMENT), HEADER);
        if (letters[i] == 'x')
            out[i * SEGMENT + 13] = 0x55;
    }
    return count * SEGMENT;
}

/* What the server gets of one client, in order; `whose` says of each datagram whose it is. */
static void hear_client(struct scene *s, const uint8_t *bytes, const char *letters,
                        const char *whose, char client)
{
    for (size_t i = 0; whose[i] != '\0'; i++) {
        size_t header = letters[i] == '-' ? 0 : HEADER;
        if (whose[i] == client)
            (void)world_hear_train(&s->w, s->w.socket[0], bytes + i * SEGMENT + header,
                                   SEGMENT - header, SEGMENT);
    }
}

/* A batch is sent flow by flow, in the order in which they came up. */
static void check_train(struct scene *s, const char *letters, const char *whose)
{
    static uint8_t bytes[64 * SEGMENT];
    size_t length = write_train(bytes, letters);
    char first = whose[strcspn(whose, "ab")];

    peer_send_train(s->front, bytes, length, SEGMENT, &s->w.entry);
    hear_client(s, bytes, letters, whose, first);
    hear_client(s, bytes, letters, whose, first == 'a' ? 'b' : 'a');
    world_silence(&s->w, s->w.socket[0]);
}

static void each_datagram_of_a_train_is_read(void **state)
{
    static const struct {
        const char *letters, *whose;
        unsigned wrong, missing;
    } rows[] = {
        {"aaaaaaaa", "aaaaaaaa", 0, 0}, {"abababab", "abababab", 0, 0},
        {"a-------", "aaaaaaaa", 0, 0}, {"-a--b---", ".aaabbbb", 0, 1},
        {"b--a--b-", "bbbaaabb", 0, 0}, {"axa-xb-x", "a.aa.bb.", 3, 0},
        {"---", "...", 0, 3},           {"xxx", "...", 3, 0},
        {"x--a", "...a", 1, 2},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct scene s;

        scene_open(&s, CONFIG_PROXY_REQUIRED);
        check_train(&s, rows[i].letters, rows[i].whose);
        assert_int_equal(world_metric(&s.w, METRIC_DROP_HEADER_WRONG), rows[i].wrong);
        assert_int_equal(world_metric(&s.w, METRIC_DROP_HEADER_MISSING), rows[i].missing);
        assert_int_equal(world_metric(&s.w, METRIC_GRO_RECEIVED), 1);
        scene_close(&s);
    }
}

/* The last may be shorter, down to less than its header needs. */
static void the_last_of_a_train_is_read_too(void **state)
{
    static uint8_t bytes[3 * SEGMENT];
    static const size_t lengths[] = {1, 11, 12, HEADER - 1, HEADER, HEADER + 1, SEGMENT - 1};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        struct scene s;
        size_t length = 2 * SEGMENT + lengths[i];
        size_t header = lengths[i] < 12 ? 0 : HEADER;

        scene_open(&s, CONFIG_PROXY_REQUIRED);
        (void)write_train(bytes, "aaa");
        peer_send_train(s.front, bytes, length, SEGMENT, &s.w.entry);
        hear_client(&s, bytes, "aa", "aa", 'a');
        if (lengths[i] >= 12 && lengths[i] < HEADER)
            scene_assert_dropped(&s, METRIC_DROP_HEADER_WRONG, 1);
        else
            hear_one(&s, bytes + 2 * SEGMENT + header, lengths[i] - header);
        scene_close(&s);
    }
}

/* What came as one message leaves as one, headers or not on either side. */
static void a_run_stays_a_run(void **state)
{
    static uint8_t bytes[64 * SEGMENT];

    (void)state;
    for (int on = 0; on < 2; on++) {
        struct scene s;
        char letters[65] = "";

        memset(letters, 'a', 60);
        scene_init(&s, CONFIG_PROXY_REQUIRED);
        s.w.pool.send_proxy = on ? CONFIG_SEND_PROXY_V2 : CONFIG_SEND_PROXY_OFF;
        scene_start(&s);
        (void)write_train(bytes, letters);
        peer_send_train(s.front, bytes, 60 * SEGMENT, SEGMENT, &s.w.entry);
        for (size_t i = 0; i < 60; i++) {
            if (on)
                (void)headed_read(&s.w, s.w.socket[0], bytes + i * SEGMENT + HEADER,
                                  SEGMENT - HEADER, NULL);
            else
                hear_client(&s, bytes + i * SEGMENT, "a", "a", 'a');
        }
        assert_int_equal(world_metric(&s.w, METRIC_UDP_SENDS), 1);
        assert_int_equal(world_metric(&s.w, METRIC_GSO_DATAGRAMS), 60);
        scene_close(&s);
    }
}

/* More of them than one batch keeps apart. */
static void many_trains_are_read_to_the_end(void **state)
{
    static uint8_t bytes[64 * SEGMENT];
    struct scene s;
    char letters[61] = "";

    (void)state;
    memset(letters, 'a', 60);
    scene_open(&s, CONFIG_PROXY_REQUIRED);
    (void)write_train(bytes, letters);
    for (int i = 0; i < 10; i++)
        peer_send_train(s.front, bytes, 60 * SEGMENT, SEGMENT, &s.w.entry);
    for (int i = 0; i < 10; i++)
        hear_client(&s, bytes, letters, letters, 'a');
    assert_int_equal(world_newest(&s.w)->datagrams_in, 600);
    scene_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_header_meets_its_fate_wherever_it_is_cut),
        cmocka_unit_test(these_pass_and_these_do_not),
        cmocka_unit_test(the_malformed_go_nowhere_where_headers_are_optional),
        cmocka_unit_test(the_malformed_leave_no_trace),
        cmocka_unit_test(each_datagram_of_a_train_is_read),
        cmocka_unit_test(the_last_of_a_train_is_read_too),
        cmocka_unit_test(a_run_stays_a_run),
        cmocka_unit_test(many_trains_are_read_to_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
