/* The helper process: it answers, its answers are bounded in time, and it ends with weir. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lb/helper.h"

#include "common/clock.h"
#include "test/unit/config/support.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* A hang of the test, not a behaviour. */
#define HANG_MS 60000

static int start(void **state)
{
    struct helper *helper;
    if (helper_start(&helper, &test_names) < 0)
        return -1;
    *state = helper;
    return 0;
}

static int stop(void **state)
{
    struct helper *helper = *state;
    helper_stop(&helper);
    return helper == NULL ? 0 : -1;
}

static int load(struct helper *helper, const char *path, struct config **config,
                struct config_errors *errors)
{
    return helper_load(helper, path, HANG_MS, config, errors);
}

static void a_good_file_is_loaded(void **state)
{
    struct config *config = NULL;
    struct config_errors errors = {0};
    assert_int_equal(load(*state, "config/examples/demo.cfg", &config, &errors), 0);
    assert_int_equal(errors.count, 0);
    assert_string_equal(config->path, "config/examples/demo.cfg");
    assert_int_equal(config->pools[0].server_count, 3);
    config_free(&config);
}

static void errors_come_back(void **state)
{
    struct config *config = NULL;
    struct config_errors errors = {0};
    assert_int_equal(load(*state, "test/fuzz/corpus/config_file/all-at-once.cfg", &config, &errors),
                     -EINVAL);
    assert_null(config);
    assert_int_equal(errors.count, 9);
    assert_string_equal(errors.error[0].file, "test/fuzz/corpus/config_file/all-at-once.cfg");
    assert_int_equal(errors.error[0].line, 3);
    config_errors_clear(&errors);
}

/* After a bad file the next good one works, as often as one likes. */
static void one_helper_answers_many_times(void **state)
{
    for (int i = 0; i < 20; i++) {
        struct config *config = NULL;
        struct config_errors errors = {0};
        assert_int_equal(load(*state, "/nonexistent", &config, &errors), -EINVAL);
        assert_int_equal(load(*state, "config/examples/minimal.cfg", &config, &errors), 0);
        config_free(&config);
        config_errors_clear(&errors);
    }
}

/* The trap of libconfig 1.5 that the helper is there for. */
static void write_text(const char *path, const char *text)
{
    FILE *to = fopen(path, "w");
    assert_non_null(to);
    assert_true(fputs(text, to) >= 0);
    assert_int_equal(fclose(to), 0);
}

/* A list of networks is read anew each time, as the file that names it is. */
static void a_list_is_read_each_time(void **state)
{
    static const char *const lists[] = {"10.0.0.0/8\n", "10.0.0.0/8\n192.0.2.0/24\n"};
    char path[] = "/tmp/weir-list-XXXXXX", list[64], text[512];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    snprintf(list, sizeof(list), "%s.list", path);
    snprintf(text, sizeof(text),
             TEST_POOLS "listeners = ( { name = \"web\"; bind = \"127.0.0.1:8080\"; "
                        "pool = \"web\"; deny_file = \"%s\"; } );\n",
             strrchr(list, '/') + 1);
    write_text(path, text);
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        struct config *config = NULL;
        struct config_errors errors = {0};
        write_text(list, lists[i]);
        assert_int_equal(load(*state, path, &config, &errors), 0);
        assert_int_equal(config->listeners[0].deny_file.networks.count, i + 1);
        config_free(&config);
    }
    unlink(path);
    unlink(list);
}

static void an_include_of_a_directory_is_an_error(void **state)
{
    struct config *config = NULL;
    struct config_errors errors = {0};
    assert_int_equal(
        load(*state, "test/fuzz/corpus/config_file/include-directory.cfg", &config, &errors),
        -EINVAL);
    assert_int_equal(errors.count, 1);
    assert_int_equal(errors.error[0].line, 1);
    config_errors_clear(&errors);
}

/* A model that is larger than a pipe holds. */
static void a_large_model_comes_whole(void **state)
{
    char path[] = "/tmp/weir-test-XXXXXX";
    struct config *config = NULL;
    struct config_errors errors = {0};
    FILE *to = fdopen(mkstemp(path), "w");
    fputs("pools = ( { name = \"web\"; servers = (\n", to);
    for (int i = 0; i < 20000; i++)
        fprintf(to, "%s{ name = \"s%d\"; address = \"10.0.%d.%d:80\"; }\n", i > 0 ? "," : "", i,
                i / 256, i % 256);
    fputs("); } );\n" TEST_LISTENERS, to);
    fclose(to);
    assert_int_equal(load(*state, path, &config, &errors), 0);
    assert_int_equal(config->pools[0].server_count, 20000);
    assert_string_equal(config->pools[0].servers[19999].name, "s19999");
    config_free(&config);
    unlink(path);
}

static void a_path_beyond_bounds_is_an_error(void **state)
{
    struct config *config = NULL;
    struct config_errors errors = {0};
    char path[8192];
    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    assert_int_equal(load(*state, path, &config, &errors), -ENAMETOOLONG);
    assert_int_equal(errors.count, 1);
    config_errors_clear(&errors);
    assert_int_equal(load(*state, "", &config, &errors), -EINVAL);
    config_errors_clear(&errors);
}

/* The helper stands still, as it would with a disk that hangs. */
static void an_answer_has_a_deadline(void **state)
{
    struct helper *helper = *state;
    struct config *config = NULL;
    struct config_errors errors = {0};
    assert_int_equal(kill(helper_pid(helper), SIGSTOP), 0);
    uint64_t begin = clock_now_ms();
    assert_int_equal(helper_load(helper, "config/examples/demo.cfg", 50, &config, &errors),
                     -ETIMEDOUT);
    assert_true(clock_now_ms() - begin >= 50);
    assert_int_equal(errors.count, 1);
    assert_string_equal(errors.error[0].text, "was not read within 50 ms: is its disk there?");
    config_errors_clear(&errors);

    /* The answer that comes too late is not taken for that of the next request. */
    assert_int_equal(kill(helper_pid(helper), SIGCONT), 0);
    assert_int_equal(load(helper, "config/examples/minimal.cfg", &config, &errors), 0);
    assert_string_equal(config->path, "config/examples/minimal.cfg");
    config_free(&config);
}

/* Without room for the pipe's descriptor the helper cannot hand the work on. */
static void a_parser_that_is_missing_is_told(void **state)
{
    struct helper *helper = *state;
    struct config *config = NULL;
    struct config_errors errors = {0};
    struct rlimit few = {.rlim_cur = 4, .rlim_max = 4};
    assert_int_equal(prlimit(helper_pid(helper), RLIMIT_NOFILE, &few, NULL), 0);
    assert_int_equal(load(helper, "config/examples/demo.cfg", &config, &errors), -EPROTO);
    assert_int_equal(errors.count, 1);
    assert_non_null(strstr(errors.error[0].text, "the parser ended without an answer"));
    config_errors_clear(&errors);
}

static void a_helper_that_is_gone_is_told(void **state)
{
    struct helper *helper = *state;
    struct config *config = NULL;
    struct config_errors errors = {0};
    siginfo_t ended;
    assert_int_equal(kill(helper_pid(helper), SIGKILL), 0);
    assert_int_equal(waitid(P_PID, (id_t)helper_pid(helper), &ended, WEXITED | WNOWAIT), 0);
    assert_int_equal(load(helper, "config/examples/demo.cfg", &config, &errors), -EPIPE);
    assert_int_equal(errors.count, 1);
    assert_non_null(strstr(errors.error[0].text, "is gone; restart weir"));
    config_errors_clear(&errors);
}

/* A Ctrl-C goes to the process group; weir needs its helper until it has ended itself. */
static void signals_to_the_group_do_not_end_it(void **state)
{
    struct helper *helper = *state;
    struct config *config = NULL;
    struct config_errors errors = {0};
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
    /* The first answer shows that the helper has come so far as to ignore them. */
    assert_int_equal(load(helper, "config/examples/demo.cfg", &config, &errors), 0);
    config_free(&config);
    for (size_t i = 0; i < ARRAY_LEN(signals); i++)
        assert_int_equal(kill(helper_pid(helper), signals[i]), 0);
    assert_int_equal(load(helper, "config/examples/demo.cfg", &config, &errors), 0);
    config_free(&config);
}

static void it_has_a_name_and_few_descriptors(void **state)
{
    struct helper *helper = *state;
    struct config *config = NULL;
    struct config_errors errors = {0};
    char path[64];
    char name[32] = "";
    assert_int_equal(load(helper, "config/examples/demo.cfg", &config, &errors), 0);
    config_free(&config);
    snprintf(path, sizeof(path), "/proc/%d/comm", (int)helper_pid(helper));
    FILE *from = fopen(path, "r");
    assert_non_null(fgets(name, sizeof(name), from));
    fclose(from);
    assert_string_equal(name, "weir-helper\n");
    /* stdin, stdout, stderr, its socket; the pipe of a request may not be closed yet. */
    snprintf(path, sizeof(path), "/proc/%d/fd/5", (int)helper_pid(helper));
    assert_int_equal(access(path, F_OK), -1);
}

/* Whoever forked it is killed: it ends too. The test sees so by the end of a pipe that both hold.
 */
static void it_ends_with_weir(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t weir = fork();
    if (weir == 0) {
        struct helper *helper;
        /* The helper keeps stderr alone of what it inherits. */
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        int rc = helper_start(&helper, &test_names);
        char ready = rc == 0 ? 'y' : 'n';
        rc = (int)write(STDERR_FILENO, &ready, 1);
        pause();
        _exit(rc);
    }
    close(ends[1]);
    char ready = 'n';
    assert_int_equal(read(ends[0], &ready, 1), 1);
    assert_int_equal(ready, 'y');
    assert_int_equal(kill(weir, SIGKILL), 0);
    assert_int_equal(waitpid(weir, NULL, 0), weir);
    struct pollfd watch = {.fd = ends[0], .events = POLLIN};
    assert_int_equal(poll(&watch, 1, HANG_MS), 1);
    assert_int_equal(read(ends[0], &ready, 1), 0);
    close(ends[0]);
}

static void to_stop_nothing_is_fine(void **state)
{
    (void)state;
    struct helper *helper = NULL;
    helper_stop(&helper);
    assert_null(helper);
}

#define with_helper(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_helper(a_good_file_is_loaded),
        with_helper(errors_come_back),
        with_helper(one_helper_answers_many_times),
        with_helper(a_list_is_read_each_time),
        with_helper(an_include_of_a_directory_is_an_error),
        with_helper(a_large_model_comes_whole),
        with_helper(a_path_beyond_bounds_is_an_error),
        with_helper(an_answer_has_a_deadline),
        with_helper(a_parser_that_is_missing_is_told),
        with_helper(a_helper_that_is_gone_is_told),
        with_helper(signals_to_the_group_do_not_end_it),
        with_helper(it_has_a_name_and_few_descriptors),
        cmocka_unit_test(it_ends_with_weir),
        cmocka_unit_test(to_stop_nothing_is_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
