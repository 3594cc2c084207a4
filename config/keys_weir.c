/*
 * Purpose: the keys of the process as a whole.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   never.
 */
#include "config/rows.h"

/* The order is that of the enum which the field holds. */
static const char *const log_formats[] = {"text", "json", NULL};
static const char *const log_levels[] = {"error", "warn", "info", "debug", NULL};

static const struct config_key rows[] = {
    /* weir */
    {.section = SECTION_WEIR,
     .name = "workers",
     NUMBER(config_weir, workers),
     .most = 256,
     .standard = "0",
     .reload = RELOAD_RESTART,
     .help = "Threads that carry traffic. 0: one for each CPU that weir may use."},
    {.section = SECTION_WEIR,
     .name = "user",
     STRING(config_weir, user),
     .most = 32,
     .standard = "",
     .check = config_form_account,
     .reload = RELOAD_RESTART,
     .help = "The user to become once the sockets are bound. \"\": stay as started."},
    {.section = SECTION_WEIR,
     .name = "group",
     STRING(config_weir, group),
     .most = 32,
     .standard = "",
     .check = config_form_account,
     .reload = RELOAD_RESTART,
     .help = "The group to become. \"\": the user's own."},
    {.section = SECTION_WEIR,
     .name = "max_connections",
     NUMBER(config_weir, max_connections),
     .most = CONNECTIONS_MAX,
     .standard = "0",
     .reload = RELOAD_LIVE,
     .help = "Sessions at once in the whole process. 0: as many as the limit of descriptors "
             "(RLIMIT_NOFILE) allows, of which flows have a half where UDP is served too."},
    {.section = SECTION_WEIR,
     .name = "session_rate",
     NUMBER(config_weir, session_rate),
     .most = RATE_MAX,
     .standard = "0",
     .reload = RELOAD_LIVE,
     .help = "New sessions per second, of all listeners and workers together; a tenth of that may "
             "come at once. The others wait in the queues of the kernel. 0: no limit."},
    {.section = SECTION_WEIR,
     .name = "shutdown_deadline",
     DURATION(config_weir, shutdown_deadline),
     .most = DAY,
     .standard = "30s",
     .reload = RELOAD_LIVE,
     .help =
         "How long sessions and flows may go on after SIGTERM or SIGINT before they are ended."},

    /* weir.admin */
    {.section = SECTION_ADMIN,
     .name = "socket",
     STRING(config_weir, admin_socket),
     .least = 1,
     .most = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1,
     .standard = "/run/weir/admin.sock",
     .reload = RELOAD_RESTART,
     .help = "Its path."},
    {.section = SECTION_ADMIN,
     .name = "mode",
     MODE(config_weir, admin_mode),
     .most = 0777,
     .standard = "0600",
     .reload = RELOAD_RESTART,
     .help = "Its permissions, in octal as chmod takes them: who may write to it commands weir."},

    /* weir.log */
    {.section = SECTION_LOG,
     .name = "target",
     STRING(config_weir, log_target),
     .least = 1,
     .most = 4095,
     .standard = "stderr",
     .reload = RELOAD_LIVE,
     .help = "\"stderr\", or the path of a file."},
    {.section = SECTION_LOG,
     .name = "format",
     CHOICE(config_weir, log_format, log_formats),
     .standard = "text",
     .reload = RELOAD_LIVE,
     .help = "The form of a line: words and key=value, or one JSON object."},
    {.section = SECTION_LOG,
     .name = "level",
     CHOICE(config_weir, log_level, log_levels),
     .standard = "info",
     .reload = RELOAD_LIVE,
     .help = "The least important lines that are still written."},
    {.section = SECTION_LOG,
     .name = "access",
     SWITCH(config_weir, log_access),
     .standard = "true",
     .reload = RELOAD_LIVE,
     .help = "One line for each session and flow when it ends."},
};

const struct config_rows config_rows_weir = {rows, ARRAY_LEN(rows)};
