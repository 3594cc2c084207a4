/*
 * The http probe against servers that play a script, on the loop of the test.
 */
#include "test/unit/lb/health/peer.h"

#define PIECES(...)                                                                                \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }

#define OK "HTTP/1.1 200 OK\r\n"
#define CHUNKED OK "Transfer-Encoding: chunked\r\n\r\n"
#define SLOW "no answer within 1000 ms"

/* One probe of one server; the bench stays open for a look at what the server saw. */
static void probe_script(struct bench *bench, const char *body, struct script script)
{
    bench_begin(bench);
    bench->settings.body = (char *)body;
    bench_listen(bench, "127.0.0.1:0", script);
    bench_run(bench, "http");
}

static void assert_script(struct script script, const char *body, enum probe_verdict verdict,
                          const char *detail)
{
    struct bench bench;
    probe_script(&bench, body, script);
    assert_verdict(&bench, verdict, detail);
    bench_end(&bench);
}

/* ---- The request ---- */

/* `host` is followed by the port where `with_port`. */
static void assert_request(struct bench *bench, const char *address, const char *host,
                           bool with_port)
{
    static const char *const answer[] = {OK "\r\n", NULL};
    char port[8] = "";
    char expected[2048];
    bench_listen(bench, address, (struct script){.pieces = answer, .end = PEER_CLOSES});
    if (bench->address.any.sa_family == AF_INET6)
        bench->address.v6.sin6_scope_id = 1;
    if (with_port)
        snprintf(port, sizeof(port), ":%u", address_port(&bench->address));
    bench_run(bench, "http");
    assert_verdict(bench, PROBE_PASS, "status 200");

    int size = snprintf(expected, sizeof(expected),
                        "GET %s HTTP/1.1\r\nHost: %s%s\r\nUser-Agent: weir\r\nAccept: */*\r\n"
                        "Connection: close\r\n\r\n",
                        bench->settings.path, host, port);
    assert_int_equal(bench->request_size, size);
    assert_memory_equal(bench->request, expected, bench->request_size);
    bench_end(bench);
}

static void asks_for_the_path_and_names_the_address(void **state)
{
    (void)state;
    char path[] = "/healthz?full=1";
    struct bench bench;
    bench_begin(&bench);
    bench.settings.path = path;
    assert_request(&bench, "127.0.0.1:0", "127.0.0.1", true);
}

static void names_the_host_of_the_settings(void **state)
{
    (void)state;
    char host[] = "www.example.org";
    struct bench bench;
    bench_begin(&bench);
    bench.settings.host = host;
    assert_request(&bench, "127.0.0.1:0", host, false);
}

static void names_an_ipv6_address_without_its_zone(void **state)
{
    (void)state;
    struct bench bench;
    bench_begin(&bench);
    assert_request(&bench, "[::1]:0", "[::1]", true);
}

static void names_a_unix_socket_localhost(void **state)
{
    (void)state;
    struct bench bench;
    bench_begin(&bench);
    assert_request(&bench, "unix", "localhost", false);
}

/* More than a probe is likely to send, and all that the key table allows. */
static void sends_the_longest_path(void **state)
{
    (void)state;
    char path[1024] = "/";
    struct bench bench;
    memset(path + 1, 'p', sizeof(path) - 2);
    path[sizeof(path) - 1] = '\0';
    bench_begin(&bench);
    bench.settings.path = path;
    assert_request(&bench, "127.0.0.1:0", "127.0.0.1", true);
}

/* ---- The status ---- */

static void passes_on_a_status_of_the_list(void **state)
{
    (void)state;
    assert_script(
        (struct script){.pieces = PIECES(OK "Content-Length: 2\r\n\r\nok"), .end = PEER_CLOSES}, "",
        PROBE_PASS, "status 200");
    assert_script((struct script){.pieces = PIECES("HTTP/1.1 399 x\r\n\r\n"), .end = PEER_CLOSES},
                  "", PROBE_PASS, "status 399");
}

static void fails_on_any_other(void **state)
{
    (void)state;
    assert_script((struct script){.pieces = PIECES("HTTP/1.1 503 No\r\n\r\n"), .end = PEER_CLOSES},
                  "", PROBE_FAIL, "status 503, wanted 200-399");
    /* Also when the body says what was wanted. */
    assert_script(
        (struct script){.pieces = PIECES("HTTP/1.1 404 No\r\n\r\nok"), .end = PEER_CLOSES}, "ok",
        PROBE_FAIL, "status 404, wanted 200-399");
}

static void interim_answers_are_not_the_answer(void **state)
{
    (void)state;
    assert_script(
        (struct script){.pieces = PIECES("HTTP/1.1 103 Hints\r\n\r\n", "HTTP/1.1 204 None\r\n\r\n"),
                        .end = PEER_CLOSES},
        "", PROBE_PASS, "status 204");
}

/* The rest of the body is not waited for. */
static void decides_when_the_head_is_whole(void **state)
{
    (void)state;
    assert_script(
        (struct script){.pieces = PIECES(OK "Content-Length: 999\r\n\r\n"), .end = PEER_HOLDS}, "",
        PROBE_PASS, "status 200");
    assert_script((struct script){.pieces = PIECES("HTTP/1.1 500 x\r\n\r\n"), .end = PEER_HOLDS},
                  "", PROBE_FAIL, "status 500, wanted 200-399");
}

static void reads_an_answer_in_shreds(void **state)
{
    (void)state;
    assert_script(
        (struct script){.pieces = PIECES("H", "TTP/1.", "1 2", "00 OK\r", "\nX: y\r\n", "\r", "\n"),
                        .end = PEER_HOLDS},
        "", PROBE_PASS, "status 200");
}

static void reads_an_answer_that_comes_before_the_question(void **state)
{
    (void)state;
    assert_script((struct script){.at_once = true, .pieces = PIECES(OK "\r\n"), .end = PEER_HOLDS},
                  "", PROBE_PASS, "status 200");
}

/* ---- Servers that fail ---- */

static void tells_how_far_an_answer_came(void **state)
{
    (void)state;
    assert_script((struct script){.end = PEER_CLOSES}, "", PROBE_FAIL, "closed without an answer");
    assert_script((struct script){.pieces = PIECES("HTTP/1.1 20"), .end = PEER_CLOSES}, "",
                  PROBE_FAIL, "closed inside the head of its answer");
    assert_script(
        (struct script){.pieces = PIECES(OK "Content-Length: 5\r\n\r\nab"), .end = PEER_CLOSES},
        "x", PROBE_FAIL, "status 200, but closed inside the body of its answer");
}

static void tells_of_a_reset(void **state)
{
    (void)state;
    assert_script((struct script){.end = PEER_RESETS}, "", PROBE_FAIL, "connection reset by peer");
    assert_script((struct script){.pieces = PIECES("HTTP/1.1 2"), .end = PEER_RESETS}, "",
                  PROBE_FAIL, "connection reset by peer");
}

static void a_reset_after_the_answer_is_none(void **state)
{
    (void)state;
    assert_script(
        (struct script){.pieces = PIECES(OK "Content-Length: 0\r\n\r\n"), .end = PEER_RESETS}, "",
        PROBE_PASS, "status 200");
}

static void tells_what_does_not_speak_http(void **state)
{
    (void)state;
    assert_script((struct script){.at_once = true,
                                  .pieces = PIECES("SSH-2.0-OpenSSH_9.2"),
                                  .end = PEER_HOLDS},
                  "", PROBE_FAIL, "not an HTTP status line");
    assert_script((struct script){.pieces = PIECES("\x15\x03\x01"), .end = PEER_HOLDS}, "",
                  PROBE_FAIL, "not an HTTP status line");
    assert_script((struct script){.pieces = PIECES(OK "nonsense\r\n\r\n"), .end = PEER_HOLDS}, "",
                  PROBE_FAIL, "a bad header line");
}

/* `size` times 'x', and then a NUL. */
static char *make_filler(size_t size)
{
    char *filler = malloc(size + 1);
    assert_non_null(filler);
    memset(filler, 'x', size);
    filler[size] = '\0';
    return filler;
}

static void gives_up_on_endless_heads_and_bodies(void **state)
{
    (void)state;
    char *filler = make_filler(200000);
    assert_script((struct script){.pieces = PIECES(OK "X-Long: ", filler), .end = PEER_HOLDS}, "",
                  PROBE_FAIL, "an answer too long for a probe");
    assert_script((struct script){.pieces = PIECES(OK "\r\n", filler), .end = PEER_HOLDS}, "needle",
                  PROBE_FAIL, "status 200, but an answer too long for a probe");
    free(filler);
}

static void huge_heads_within_the_limit_are_read(void **state)
{
    (void)state;
    char *filler = make_filler(60000);
    assert_script(
        (struct script){.pieces = PIECES(OK "X-Long: ", filler, "\r\n\r\n"), .end = PEER_HOLDS}, "",
        PROBE_PASS, "status 200");
    free(filler);
}

static void deadline_when_accepted(struct bench *bench)
{
    bench_deadline(bench);
}

static void the_deadline_finds_it_waiting(void **state)
{
    (void)state;
    struct bench bench;
    bench_begin(&bench);
    bench_listen(&bench, "127.0.0.1:0", (struct script){.end = PEER_HOLDS});
    bench_start(&bench, "http");
    while (!peer_has_request(&bench))
        uv_run(&bench.loop, UV_RUN_ONCE);
    bench_deadline(&bench);
    bench_run_to_client_end(&bench);
    assert_int_equal(bench.done, 1);
    assert_verdict(&bench, PROBE_FAIL, SLOW);
    /* Nobody is left with half a connection, and no port is held. */
    assert_int_equal(bench.client_end, UV_ECONNRESET);
    bench_end(&bench);
}

static void the_deadline_may_come_at_any_stage(void **state)
{
    (void)state;
    struct bench bench;
    bench_begin(&bench);
    bench.on_accept = deadline_when_accepted;
    bench_listen(&bench, "127.0.0.1:0", (struct script){.end = PEER_HOLDS});
    bench_run(&bench, "http");
    assert_int_equal(bench.verdict, PROBE_FAIL);
    assert_non_null(strstr(bench.detail, SLOW));
    bench_start(&bench, "http");
    bench_stop(&bench, PROBE_CANCELLED, "removed");
    while (bench.done == 1)
        uv_run(&bench.loop, UV_RUN_ONCE);
    assert_int_equal(bench.verdict, PROBE_CANCELLED);
    bench_end(&bench);
}

static void fails_where_nothing_listens(void **state)
{
    (void)state;
    struct bench bench;
    bench_begin(&bench);
    bench_address(&bench, "unix");
    bench_run(&bench, "http");
    assert_int_equal(bench.verdict, PROBE_FAIL);
    assert_non_null(strstr(bench.detail, ": no such file or directory"));
    bench_end(&bench);
}

/* ---- The body ---- */

static void finds_the_text_however_it_comes(void **state)
{
    (void)state;
    assert_script((struct script){.pieces = PIECES(OK "Content-Length: 9\r\n\r\nstatus ok"),
                                  .end = PEER_CLOSES},
                  "ok", PROBE_PASS, "status 200");
    assert_script((struct script){.pieces = PIECES(OK "\r\nall is o", "k"), .end = PEER_CLOSES},
                  "ok", PROBE_PASS, "status 200");
    assert_script((struct script){.pieces = PIECES(CHUNKED "4\r\nis o\r", "\n1\r\n", "k\r\n"),
                                  .end = PEER_HOLDS},
                  "ok", PROBE_PASS, "status 200");
}

/* Its letters are there, but only with the framing of the chunks between them. */
static void framing_is_not_body(void **state)
{
    (void)state;
    assert_script(
        (struct script){.pieces = PIECES(CHUNKED "1;ok\r\no\r\n2\r\n-k\r\n0\r\nX: ok\r\n\r\n"),
                        .end = PEER_HOLDS},
        "ok", PROBE_FAIL, "status 200, but the body lacks \"ok\"");
    assert_script((struct script){.pieces = PIECES(OK "X: ok\r\nContent-Length: 2\r\n\r\nno ok"),
                                  .end = PEER_HOLDS},
                  "ok", PROBE_FAIL, "status 200, but the body lacks \"ok\"");
}

static void fails_without_the_text(void **state)
{
    (void)state;
    assert_script(
        (struct script){.pieces = PIECES(OK "Content-Length: 2\r\n\r\nno"), .end = PEER_HOLDS},
        "yes", PROBE_FAIL, "status 200, but the body lacks \"yes\"");
    assert_script((struct script){.pieces = PIECES("HTTP/1.1 204 None\r\n\r\n"), .end = PEER_HOLDS},
                  "yes", PROBE_FAIL, "status 204, but the body lacks \"yes\"");
    assert_script((struct script){.pieces = PIECES(OK "Transfer-Encoding: gzip\r\n\r\nyes"),
                                  .end = PEER_HOLDS},
                  "yes", PROBE_FAIL, "status 200, but a transfer coding other than chunked");
}

static void a_body_that_is_not_asked_for_may_be_anything(void **state)
{
    (void)state;
    assert_script((struct script){.pieces = PIECES(OK "Transfer-Encoding: gzip\r\n\r\n\x1f\x8b"),
                                  .end = PEER_HOLDS},
                  "", PROBE_PASS, "status 200");
    assert_script((struct script){.pieces = PIECES(CHUNKED "nonsense"), .end = PEER_CLOSES}, "",
                  PROBE_PASS, "status 200");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(asks_for_the_path_and_names_the_address),
        cmocka_unit_test(names_the_host_of_the_settings),
        cmocka_unit_test(names_an_ipv6_address_without_its_zone),
        cmocka_unit_test(names_a_unix_socket_localhost),
        cmocka_unit_test(sends_the_longest_path),
        cmocka_unit_test(passes_on_a_status_of_the_list),
        cmocka_unit_test(fails_on_any_other),
        cmocka_unit_test(interim_answers_are_not_the_answer),
        cmocka_unit_test(decides_when_the_head_is_whole),
        cmocka_unit_test(reads_an_answer_in_shreds),
        cmocka_unit_test(reads_an_answer_that_comes_before_the_question),
        cmocka_unit_test(tells_how_far_an_answer_came),
        cmocka_unit_test(tells_of_a_reset),
        cmocka_unit_test(a_reset_after_the_answer_is_none),
        cmocka_unit_test(tells_what_does_not_speak_http),
        cmocka_unit_test(gives_up_on_endless_heads_and_bodies),
        cmocka_unit_test(huge_heads_within_the_limit_are_read),
        cmocka_unit_test(the_deadline_finds_it_waiting),
        cmocka_unit_test(the_deadline_may_come_at_any_stage),
        cmocka_unit_test(fails_where_nothing_listens),
        cmocka_unit_test(finds_the_text_however_it_comes),
        cmocka_unit_test(framing_is_not_body),
        cmocka_unit_test(fails_without_the_text),
        cmocka_unit_test(a_body_that_is_not_asked_for_may_be_anything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
