/*
 * Purpose: see privileges.h.
 * Thread:  control, before any other thread exists: capset(2) acts on the calling thread alone.
 * Owns:    nothing.
 * Fails:   see privileges.h. A failure leaves the process half-way, hence "must not go on".
 *
 * The order matters, because each step needs what a later one takes away:
 *   1 the bounding set          needs CAP_SETPCAP
 *   2 groups, then the group    need CAP_SETGID
 *   3 the user                  needs CAP_SETUID; PR_SET_KEEPCAPS has the permitted set survive it
 *   4 the capabilities to keep  out of what is still permitted
 *   5 NoNewPrivs
 *   6 look: the process is asked what it is now, and tried, not believed
 *
 * Whoever is that user already (a service manager did it) passes 2 and 3 without needing anything.
 * The process is not made dumpable again after 3: a core or a debugger of the same user would show
 * the secrets that it read as root.
 */
#include "common/privileges.h"

#include <cap-ng.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ENTRY_MAX 65536 /* bytes of a passwd or group entry; a group lists its members in it */
#define CAPABILITY_BITS 64

struct complaint {
    char *text;
    size_t size;
};

/* Returns -error, so that the caller says why and returns in one statement. */
static int printf_like(3, 4)
    refuse(const struct complaint *complaint, int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(complaint->text, complaint->size, format, arguments);
    va_end(arguments);
    return -error;
}

/* ---- names ---- */

static int lookup_user(const char *name, char *buffer, struct privileges_user *out,
                       const struct complaint *complaint)
{
    struct passwd entry;
    struct passwd *found;
    int error = getpwnam_r(name, &entry, buffer, ENTRY_MAX, &found);
    if (error)
        return refuse(complaint, error, "cannot look up the user %s: %s", name,
                      strerrordesc_np(error));
    if (!found)
        return refuse(complaint, ENOENT, "there is no user %s", name);
    out->uid = entry.pw_uid;
    out->gid = entry.pw_gid;
    return 0;
}

static int lookup_group(const char *name, char *buffer, struct privileges_user *out,
                        const struct complaint *complaint)
{
    struct group entry;
    struct group *found;
    int error = getgrnam_r(name, &entry, buffer, ENTRY_MAX, &found);
    if (error)
        return refuse(complaint, error, "cannot look up the group %s: %s", name,
                      strerrordesc_np(error));
    if (!found)
        return refuse(complaint, ENOENT, "there is no group %s", name);
    out->gid = entry.gr_gid;
    return 0;
}

int privileges_lookup(const char *user, const char *group, struct privileges_user *out, char *error,
                      size_t error_size)
{
    const struct complaint complaint = {.text = error, .size = error_size};
    struct privileges_user found;
    char *buffer = malloc(ENTRY_MAX);
    if (!buffer)
        return refuse(&complaint, ENOMEM, "cannot look up the user %s: no memory", user);
    int result = lookup_user(user, buffer, &found, &complaint);
    if (result == 0 && group && *group)
        result = lookup_group(group, buffer, &found, &complaint);
    free(buffer);
    if (result == 0)
        *out = found;
    return result;
}

/* ---- the drop ---- */

static bool is_user(const struct privileges_user *user)
{
    uid_t uid[3];
    gid_t gid[3];
    if (getresuid(&uid[0], &uid[1], &uid[2]) < 0 || getresgid(&gid[0], &gid[1], &gid[2]) < 0)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(uid); i++) {
        if (uid[i] != user->uid || gid[i] != user->gid)
            return false;
    }
    return true;
}

/* A service manager lists the user's own group again among the supplementary ones. */
static bool has_other_groups(gid_t own)
{
    int count = getgroups(0, NULL);
    if (count == 0)
        return false;
    gid_t group;
    return count > 1 || getgroups(1, &group) != 1 || group != own;
}

static int take_on(const struct privileges_user *user, const struct complaint *complaint)
{
    if (setgroups(0, NULL) < 0 && has_other_groups(user->gid))
        return refuse(complaint, errno, "cannot leave the supplementary groups: %s",
                      strerrordesc_np(errno));
    if (is_user(user))
        return 0;
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
        return refuse(complaint, errno, "cannot keep capabilities: %s", strerrordesc_np(errno));
    if (setresgid(user->gid, user->gid, user->gid) < 0)
        return refuse(complaint, errno, "cannot become group %u: %s", user->gid,
                      strerrordesc_np(errno));
    if (setresuid(user->uid, user->uid, user->uid) < 0)
        return refuse(complaint, errno, "cannot become user %u: %s", user->uid,
                      strerrordesc_np(errno));
    return 0;
}

/* Without CAP_SETPCAP it stays as it is, and NoNewPrivs makes up for that. */
static void empty_bounding_set(void)
{
    capng_clear(CAPNG_SELECT_BOUNDS);
    (void)capng_apply(CAPNG_SELECT_BOUNDS);
}

/* Without an inheritable set there is no ambient set either (capabilities(7)). */
static int keep_capabilities(uint64_t capabilities, const struct complaint *complaint)
{
    capng_get_caps_process();
    for (unsigned cap = 0; cap < CAPABILITY_BITS; cap++) {
        if (!(capabilities >> cap & 1) || capng_have_capability(CAPNG_PERMITTED, cap) == 1)
            continue;
        const char *name = capng_capability_to_name(cap);
        return refuse(complaint, EPERM, "cannot keep the capability %s: it was not granted",
                      name ? name : "of that number");
    }
    capng_clear(CAPNG_SELECT_CAPS);
    for (unsigned cap = 0; cap < CAPABILITY_BITS; cap++) {
        if (capabilities >> cap & 1)
            capng_update(CAPNG_ADD, CAPNG_PERMITTED | CAPNG_EFFECTIVE, cap);
    }
    if (capng_apply(CAPNG_SELECT_CAPS) < 0)
        return refuse(complaint, EPERM, "cannot give up capabilities");
    return 0;
}

static bool holds_exactly(uint64_t capabilities)
{
    if (capng_get_caps_process() < 0)
        return false;
    for (unsigned cap = 0; cap < CAPABILITY_BITS; cap++) {
        int wanted = capabilities >> cap & 1;
        if (capng_have_capability(CAPNG_PERMITTED, cap) != wanted ||
            capng_have_capability(CAPNG_EFFECTIVE, cap) != wanted ||
            capng_have_capability(CAPNG_INHERITABLE, cap) != 0)
            return false;
    }
    return true;
}

static int verify(const struct privileges_user *user, uint64_t capabilities,
                  const struct complaint *complaint)
{
    if (!is_user(user) || has_other_groups(user->gid))
        return refuse(complaint, EPERM, "did not become user %u and group %u alone", user->uid,
                      user->gid);
    if (!holds_exactly(capabilities))
        return refuse(complaint, EPERM, "holds other capabilities than it was to keep");
    /* Bare: setuid(3) asks every thread (a sanitizer has one) and aborts when they differ. */
    if (user->uid != 0 && syscall(SYS_setuid, 0) == 0)
        return refuse(complaint, EPERM, "could still become root");
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
        return refuse(complaint, EPERM, "could still gain privileges by exec");
    return 0;
}

int privileges_drop(const struct privileges_user *user, uint64_t capabilities, char *error,
                    size_t error_size)
{
    const struct complaint complaint = {.text = error, .size = error_size};

    empty_bounding_set();
    int result = take_on(user, &complaint);
    if (result == 0)
        result = keep_capabilities(capabilities, &complaint);
    if (result < 0)
        return result;
    if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return refuse(&complaint, errno, "cannot give up gaining privileges: %s",
                      strerrordesc_np(errno));
    return verify(user, capabilities, &complaint);
}
