/*
 * weir: the phases of a start, in their order, and the exit code.
 *
 * The helper process comes first, before any socket, thread or loop exists, because weir never
 * forks after that. The addresses are bound and the admin socket is made with the privileges weir
 * was started with; threads are made without them, and inside the sandbox. Control narrows its own
 * when everything has started.
 */
#include "common/log.h"
#include "common/notify.h"
#include "common/privileges.h"
#include "common/sandbox.h"
#include "config/config.h"
#include "lb/admin/admin.h"
#include "lb/control/control.h"
#include "lb/health/health.h"
#include "lb/helper.h"
#include "lb/limits.h"
#include "lb/listener.h"
#include "lb/sched/sched.h"
#include "lb/source/source.h"

#include <errno.h>
#include <getopt.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_CONFIG "/etc/weir/weir.cfg"
#define ERROR_MAX 512

/* How long a log target that does not take lines may hold up the end. */
#define LOG_WAIT_MS 1000

static const char usage[] =
    "usage: weir [--config FILE]          serve, in the foreground\n"
    "       weir --check FILE             say whether a configuration is right, and stop\n"
    "       weir --help-config            every configuration key, with type, bounds and default\n"
    "       weir --reference              the same as a page of Markdown\n"
    "       weir --help | --version\n"
    "\n"
    "Without --config it serves by " DEFAULT_CONFIG ".\n"
    "SIGTERM or SIGINT: accept no more, let sessions finish until shutdown_deadline; a second one: "
    "stop at once. SIGUSR1: reopen the log file.\n"
    "weirctl shows and changes what a running weir does.\n";

enum action { ACTION_SERVE, ACTION_CHECK, ACTION_DONE, ACTION_USAGE };

static enum action read_arguments(int argc, char **argv, const char **out_path)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"check", required_argument, NULL, 'k'},
        {"help-config", no_argument, NULL, 'H'},
        {"reference", no_argument, NULL, 'R'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
    };
    enum action action = ACTION_SERVE;
    int option;

    *out_path = DEFAULT_CONFIG;
    while ((option = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
        switch (option) {
        case 'k':
            action = ACTION_CHECK;
            *out_path = optarg;
            break;
        case 'c':
            *out_path = optarg;
            break;
        case 'H':
            config_print_help(stdout);
            return ACTION_DONE;
        case 'R':
            config_print_reference(stdout);
            return ACTION_DONE;
        case 'h':
            fputs(usage, stdout);
            return ACTION_DONE;
        case 'v':
            puts("weir " WEIR_VERSION);
            return ACTION_DONE;
        default:
            return ACTION_USAGE;
        }
    }
    if (optind == argc)
        return action;
    fprintf(stderr, "weir: it takes no \"%s\": a configuration is named by --config FILE\n",
            argv[optind]);
    return ACTION_USAGE;
}

static struct config *load(struct helper *helper, const char *path)
{
    struct config_errors errors = {0};
    struct config *config = NULL;

    if (helper_load(helper, path, HELPER_DEADLINE_MS, &config, &errors) < 0)
        config_errors_print(&errors, stderr);
    config_errors_clear(&errors);
    return config;
}

static const struct config_pool *find_pool_of_clients(const struct config *config)
{
    for (size_t i = 0; i < config->pool_count; i++)
        if (config->pools[i].source.client)
            return &config->pools[i];
    return NULL;
}

/* Tried, not looked up: whoever started weir may have kept it from root too, or granted it to a
 * user. */
static int check_source(const struct config *config, char *error)
{
    const struct config_pool *pool = find_pool_of_clients(config);
    int failed = pool != NULL ? source_may_be_transparent() : 0;

    if (failed == -EPERM)
        snprintf(
            error, ERROR_MAX,
            "source = \"client\" of the pool %s needs the privilege CAP_NET_RAW: start weir as "
            "root, or grant it that capability",
            pool->name);
    else if (failed)
        snprintf(error, ERROR_MAX, "source = \"client\" of the pool %s cannot be had: %s",
                 pool->name, strerrordesc_np(-failed));
    return failed;
}

/*
 * NET_BIND_SERVICE: a listener that is opened later may have a low port; who is not root has its
 * ports by now, or never. NET_RAW: to connect from a client's address (IP_TRANSPARENT, ip(7)).
 */
static uint64_t kept_capabilities(const struct config *config)
{
    uint64_t kept = geteuid() == 0 ? UINT64_C(1) << CAP_NET_BIND_SERVICE : 0;

    if (find_pool_of_clients(config) != NULL)
        kept |= UINT64_C(1) << CAP_NET_RAW;
    return kept;
}

static int drop_privileges(const struct config *config, const struct privileges_user *user,
                           char *error)
{
    if (config->weir.user[0] != '\0')
        return privileges_drop(user, kept_capabilities(config), error, ERROR_MAX);
    if (geteuid() == 0)
        log_warn("weir runs as root: set user in the weir section");
    return 0;
}

static int start_log(const struct config *config, char *error)
{
    struct log_options options = {
        .target = config->weir.log_target,
        .format = (enum log_format)config->weir.log_format,
        .level = (enum log_level)config->weir.log_level,
    };

    return log_start(&options, error, ERROR_MAX);
}

static int compute_limits(const struct config *config, struct limits *limits, char *error)
{
    uint64_t descriptors, pipe_pages;

    limits_read(&descriptors, &pipe_pages);
    return limits_compute(config, descriptors, pipe_pages, limits, error, ERROR_MAX);
}

/* A line for each figure that was lowered. */
static void tell_limits(char *warnings)
{
    char *rest = warnings;
    const char *line;

    while ((line = strsep(&rest, "\n")) != NULL && line[0] != '\0')
        log_warn(line);
}

/* Whom to become. Asked before the admin socket is made, which would fail with less to say. */
static int find_user(const struct config *config, struct privileges_user *user, char *error)
{
    const struct config_weir *weir = &config->weir;
    int failed;

    if (weir->user[0] == '\0')
        return 0;
    failed = privileges_lookup(weir->user, weir->group, user, error, ERROR_MAX);
    if (failed || geteuid() == 0 || (user->uid == geteuid() && user->gid == getegid()))
        return failed;
    snprintf(error, ERROR_MAX,
             "only root can become user %s%s%s: start weir as root, or as who it is to be",
             weir->user, weir->group[0] != '\0' ? " and group " : "", weir->group);
    return -EPERM;
}

/* The admin socket exists and privileges are dropped when this returns 0. */
static int open_admin(struct control *control, const struct config *config, struct admin **admin,
                      char *error)
{
    struct privileges_user user = {.uid = geteuid(), .gid = getegid()};
    int failed = find_user(config, &user, error);

    failed = failed ? failed : check_source(config, error);
    failed = failed ? failed : admin_open(admin, control, user.uid, user.gid, error, ERROR_MAX);
    return failed ? failed : drop_privileges(config, &user, error);
}

/* What the kernel has no way to take away, for the log that is not there yet. */
struct lacks {
    bool calls, files;
};

static int enter_sandbox(const struct config *config, struct lacks *lacks, char *error)
{
    const struct config_weir *weir = &config->weir;
    int failed = sandbox_files(weir->log_target, weir->admin_socket, error, ERROR_MAX);

    lacks->files = failed == -ENOSYS;
    if (failed && !lacks->files)
        return failed;
    failed = sandbox_enter(SANDBOX_DAEMON, error, ERROR_MAX);
    lacks->calls = failed == -ENOSYS;
    return lacks->calls ? 0 : failed;
}

static void tell_lacks(const struct lacks *lacks)
{
    if (lacks->calls)
        log_warn("the kernel has no seccomp: weir keeps every system call");
    if (lacks->files)
        log_info("the kernel has no Landlock: weir keeps the files that its user may open");
}

static void close_admin(void *arg)
{
    admin_close(arg);
}

static int run(const struct config *config, struct control *control, struct admin **admin,
               char *warnings, char *error)
{
    struct lacks lacks = {0};
    int failed = open_admin(control, config, admin, error);

    failed = failed ? failed : enter_sandbox(config, &lacks, error);
    failed = failed ? failed : start_log(config, error);
    if (failed)
        return failed;
    if (log_thread_attach("control") < 0)
        log_warn("control logs without a ring: no memory");
    tell_limits(warnings);
    tell_lacks(&lacks);
    failed = control_start(control, error, ERROR_MAX);
    failed = failed ? failed : admin_start(*admin, error, ERROR_MAX);
    if (failed)
        return failed;
    sandbox_narrow(SANDBOX_CONTROL);
    return control_run(control);
}

static int serve(const struct config *config, char *error)
{
    struct listener *listeners = NULL;
    struct control *control = NULL;
    struct admin *admin = NULL; /* control closes it when it stops, however far the start came */
    struct limits limits;
    char warnings[ERROR_MAX]; /* told once there is a log */
    int failed = compute_limits(config, &limits, error);

    snprintf(warnings, sizeof(warnings), "%s", error);
    failed = failed ? failed : listeners_open(config, &listeners, error, ERROR_MAX);
    if (failed)
        return failed;
    failed = control_new(&control, config, listeners, &limits, error, ERROR_MAX);
    if (failed) {
        listeners_close(&listeners, config->listener_count);
        return failed;
    }
    control_on_stop(control, close_admin, &admin);
    failed = run(config, control, &admin, warnings, error);
    control_free(&control);
    log_thread_detach();
    log_stop(LOG_WAIT_MS);
    return failed;
}

static struct helper *start_helper(void)
{
    struct config_names names;
    struct helper *helper = NULL;

    names.schedulers = sched_kind_names(&names.scheduler_count);
    names.probes = health_probe_names(&names.probe_count);
    names.probe_is_inet = health_probe_is_inet;
    if (helper_start(&helper, &names) < 0)
        fputs("weir: the helper process cannot start: no memory or no process left\n", stderr);
    return helper;
}

int main(int argc, char **argv)
{
    char error[ERROR_MAX] = "";
    const char *path;
    enum action action = read_arguments(argc, argv, &path);
    struct helper *helper;
    struct config *config;
    int failed = 0;

    if (action == ACTION_DONE)
        return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
    if (action == ACTION_USAGE) {
        fputs(usage, stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    helper = start_helper();
    config = helper != NULL ? load(helper, path) : NULL;
    if (config != NULL && action == ACTION_SERVE)
        failed = serve(config, error);
    else if (config != NULL)
        printf("%s: the configuration is right\n", path);
    if (failed)
        fprintf(stderr, "weir: %s\n", error);
    failed = failed || config == NULL;
    config_free(&config);
    helper_stop(&helper);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
