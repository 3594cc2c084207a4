/*
 * A question to a socket behind which a thread plays weir: whole answers, broken ones, and nobody.
 */
#include "lb/ctl/ask.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

struct stage {
    char directory[64];
    char path[80];
    int listener;
    const char *answer;
    bool hasty; /* hangs up without having read the question */
    char heard[256];
    char said[512]; /* why it failed */
};

static int setup(void **state)
{
    struct stage *stage = calloc(1, sizeof(*stage));
    strcpy(stage->directory, "/tmp/weir-ask-XXXXXX");
    if (mkdtemp(stage->directory) == NULL)
        return -1;
    snprintf(stage->path, sizeof(stage->path), "%s/admin.sock", stage->directory);
    stage->listener = -1;
    *state = stage;
    return 0;
}

static int teardown(void **state)
{
    struct stage *stage = *state;
    if (stage->listener >= 0)
        close(stage->listener);
    unlink(stage->path);
    int rc = rmdir(stage->directory);
    free(stage);
    return rc;
}

static void open_listener(struct stage *stage)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, stage->path, strlen(stage->path) + 1);
    stage->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(stage->listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(stage->listener, 1), 0);
}

/* No assertion here: cmocka's leave by longjmp, on the test's own thread alone. */
static void *play(void *arg)
{
    struct stage *stage = arg;
    int fd = accept(stage->listener, NULL, NULL);
    size_t length = 0;
    while (!stage->hasty && length < sizeof(stage->heard) - 1) {
        if (read(fd, stage->heard + length, 1) != 1 || stage->heard[length] == '\n')
            break;
        length++;
    }
    stage->heard[length] = '\0';
    for (const char *c = stage->answer; *c != '\0';) { /* in pieces, as a socket may hand it out */
        ssize_t n = send(fd, c, MIN(strlen(c), (size_t)7), MSG_NOSIGNAL);
        c += n > 0 ? (size_t)n : strlen(c);
    }
    close(fd);
    return NULL;
}

static enum ask_result ask_stage(struct stage *stage, json_t **out)
{
    struct text why;
    text_init(&why, stage->said, sizeof(stage->said));
    return ask(stage->path, "show servers web", out, &why);
}

/* What comes of an answer; "" or why it failed is left in stage->said. */
static enum ask_result ask_about(struct stage *stage, const char *answer, json_t **out)
{
    pthread_t thread;
    stage->answer = answer;
    if (stage->listener < 0)
        open_listener(stage);
    assert_int_equal(pthread_create(&thread, NULL, play, stage), 0);
    enum ask_result result = ask_stage(stage, out);
    pthread_join(thread, NULL);
    return result;
}

static void assert_said(const struct stage *stage, const char *words)
{
    if (strstr(stage->said, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", stage->said, words);
}

static void brings_the_data(void **state)
{
    struct stage *stage = *state;
    json_t *data = NULL;
    assert_int_equal(ask_about(stage, "{\"ok\":true,\"data\":{\"a\":1}}\n", &data), ASK_ANSWERED);
    assert_string_equal(stage->heard, "show servers web");
    assert_int_equal(json_integer_value(json_object_get(data, "a")), 1);
    json_decref(data);
    assert_int_equal(ask_about(stage, "{\"ok\":true,\"data\":null}\n", &data), ASK_ANSWERED);
    assert_true(json_is_null(data));
}

static void joins_lines(void **state)
{
    struct stage *stage = *state;
    json_t *data = NULL;
    assert_int_equal(ask_about(stage,
                               "{\"ok\":true,\"more\":true,\"data\":[1,2]}\n"
                               "{\"ok\":true,\"more\":true,\"data\":[3]}\n"
                               "{\"ok\":true,\"data\":[]}\n",
                               &data),
                     ASK_ANSWERED);
    assert_int_equal(json_array_size(data), 3);
    assert_int_equal(json_integer_value(json_array_get(data, 2)), 3);
    json_decref(data);
    data = NULL;
    assert_int_equal(ask_about(stage,
                               "{\"ok\":true,\"more\":true,\"data\":\"a %s \"}\n"
                               "{\"ok\":true,\"more\":true,\"data\":\"b\\n\"}\n"
                               "{\"ok\":true,\"data\":\"c\"}\n",
                               &data),
                     ASK_ANSWERED);
    assert_string_equal(json_string_value(data), "a %s b\nc");
    json_decref(data);
}

static void brings_a_refusal(void **state)
{
    struct stage *stage = *state;
    json_t *data = NULL;
    assert_int_equal(ask_about(stage, "{\"ok\":false,\"error\":\"no such pool\"}\n", &data),
                     ASK_REFUSED);
    assert_string_equal(stage->said, "no such pool");
    /* In the middle of a list: what came before is not the answer. */
    assert_int_equal(ask_about(stage,
                               "{\"ok\":true,\"more\":true,\"data\":[1,2]}\n"
                               "{\"ok\":false,\"error\":\"weir is short of memory\"}\n",
                               &data),
                     ASK_REFUSED);
    assert_string_equal(stage->said, "weir is short of memory");
    assert_null(data);
}

/* weir is full: it says so and hangs up, whatever we have to say. */
static void hears_a_refusal_that_comes_first(void **state)
{
    struct stage *stage = *state;
    json_t *data = NULL;
    stage->hasty = true;
    assert_int_equal(ask_about(stage, "{\"ok\":false,\"error\":\"full\"}\n", &data), ASK_REFUSED);
    assert_string_equal(stage->said, "full");
}

static void notices_a_broken_answer(void **state)
{
    struct stage *stage = *state;
    static const char *const cases[][2] = {
        {"", "hung up"},
        {"{\"ok\":true,\"data\":[1", "hung up"},
        {"{\"ok\":true,\"data\":[1]}", "hung up"}, /* no newline: there may have been more */
        {"{\"ok\":true,\"more\":true,\"data\":[1]}\n", "hung up"},
        {"SSH-2.0-OpenSSH_9.2\n", "is not weir"},
        {"{\"ok\":true}\n", "is not weir"},
        {"{\"ok\":false}\n", "is not weir"},
        {"{\"ok\":1,\"data\":[]}\n", "is not weir"},
        {"[]\n", "is not weir"},
        {"\n", "is not weir"},
    };
    json_t *data = NULL;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(ask_about(stage, cases[i][0], &data), ASK_ABSENT);
        assert_said(stage, cases[i][1]);
        assert_null(data);
    }
}

static void says_why_nobody_is_there(void **state)
{
    struct stage *stage = *state;
    json_t *data = NULL;
    assert_int_equal(ask_stage(stage, &data), ASK_ABSENT);
    assert_said(stage, "there is no socket");
    assert_said(stage, stage->path);
    open_listener(stage);
    close(stage->listener);
    stage->listener = -1;
    assert_int_equal(ask_stage(stage, &data), ASK_ABSENT);
    assert_said(stage, "nobody listens");
    char long_path[200];
    struct text why;
    memset(long_path, 'x', sizeof(long_path));
    long_path[sizeof(long_path) - 1] = '\0';
    text_init(&why, stage->said, sizeof(stage->said));
    assert_int_equal(ask(long_path, "status", &data, &why), ASK_ABSENT);
    assert_said(stage, "File name too long");
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(brings_the_data),         CASE(joins_lines),
        CASE(brings_a_refusal),        CASE(hears_a_refusal_that_comes_first),
        CASE(notices_a_broken_answer), CASE(says_why_nobody_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
