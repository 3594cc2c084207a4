/*
 * Purpose: makes one allocation of a running program fail, for the tests of short memory.
 * Thread:  any.
 * Owns:    the mapping of the orders, for the life of the process.
 * Fails:   without $SHORT_MEMORY, or when that file cannot be mapped, all allocations succeed.
 *
 * Preloaded (ld.so(8)), so it stands in front of the C library or of a sanitizer's allocator. The
 * test writes its orders into a file that both have mapped; processes forked later share them.
 *
 * Spared is what no caller can help: libuv's realloc, because it aborts when its table of watchers
 * cannot grow (maybe_resize in src/unix/core.c), and the look-up of users and groups, because glibc
 * 2.36 goes through a null pointer there (nss_database.c, __libc_allocate_once). And a sanitizer's
 * own look at a thread's stack, which it takes for granted.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <pwd.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* lib/memory.py knows the layout. */
struct orders {
    _Atomic uint32_t fail; /* which allocation from now on; 0: none, and none is counted */
    _Atomic uint32_t seen;
    _Atomic uint32_t failed;
};

static struct orders *orders;
static _Thread_local bool spared;

static struct {
    void *(*malloc)(size_t size);
    void *(*calloc)(size_t count, size_t size);
    void *(*realloc)(void *memory, size_t size);
    void *(*aligned_alloc)(size_t alignment, size_t size);
    int (*posix_memalign)(void **out, size_t alignment, size_t size);
} next;

/* dlsym(3) may allocate before it has found the allocator: a little that is never given back. */
static _Alignas(16) char early[4096];
static size_t early_used;

static void *early_take(size_t size)
{
    size_t at = early_used;

    if (size > sizeof(early) - at)
        return NULL;
    early_used += (size + 15) & ~(size_t)15;
    return early + at;
}

static void find_next(void)
{
    static bool finding;

    if (finding)
        return;
    finding = true;
    next.calloc = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "calloc");
    next.realloc = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
    next.aligned_alloc = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "aligned_alloc");
    next.posix_memalign = (int (*)(void **, size_t, size_t))dlsym(RTLD_NEXT, "posix_memalign");
    next.malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
}

static bool ready(void)
{
    if (next.malloc == NULL)
        find_next();
    return next.malloc != NULL;
}

__attribute__((constructor)) static void map_orders(void)
{
    const char *path = getenv("SHORT_MEMORY");
    int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *mapped;

    if (fd < 0)
        return;
    mapped = mmap(NULL, sizeof(*orders), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped != MAP_FAILED)
        orders = mapped;
}

static bool is_libuv(void *caller)
{
    Dl_info info;

    return dladdr(caller, &info) != 0 && strstr(info.dli_fname, "libuv") != NULL;
}

/* True for the one allocation that is to fail. `resizer`: who calls realloc, NULL for the others.
 */
static bool fails(void *resizer)
{
    uint32_t wanted = orders != NULL ? atomic_load(&orders->fail) : 0;

    if (wanted == 0 || spared || (resizer != NULL && is_libuv(resizer)))
        return false;
    if (atomic_fetch_add(&orders->seen, 1) + 1 != wanted)
        return false;
    atomic_fetch_add(&orders->failed, 1);
    errno = ENOMEM;
    return true;
}

/* The headers of glibc have reserved names for these parameters. */
/* NOLINTBEGIN(readability-inconsistent-declaration-parameter-name) */

void *malloc(size_t size)
{
    if (!ready())
        return early_take(size);
    return fails(NULL) ? NULL : next.malloc(size);
}

void *calloc(size_t count, size_t size)
{
    if (!ready())
        return early_take(count * size);
    return fails(NULL) ? NULL : next.calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    if (!ready())
        return NULL;
    return fails(__builtin_return_address(0)) ? NULL : next.realloc(memory, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    if (!ready())
        return NULL;
    return fails(NULL) ? NULL : next.aligned_alloc(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    if (!ready())
        return ENOMEM;
    return fails(NULL) ? ENOMEM : next.posix_memalign(out, alignment, size);
}

int getpwnam_r(const char *name, struct passwd *out, char *buffer, size_t size,
               struct passwd **found)
{
    int (*look_up)(const char *, struct passwd *, char *, size_t, struct passwd **) =
        (int (*)(const char *, struct passwd *, char *, size_t, struct passwd **))dlsym(
            RTLD_NEXT, "getpwnam_r");
    int failed;

    spared = true;
    failed = look_up(name, out, buffer, size, found);
    spared = false;
    return failed;
}

int getgrnam_r(const char *name, struct group *out, char *buffer, size_t size, struct group **found)
{
    int (*look_up)(const char *, struct group *, char *, size_t, struct group **) =
        (int (*)(const char *, struct group *, char *, size_t, struct group **))dlsym(RTLD_NEXT,
                                                                                      "getgrnam_r");
    int failed;

    spared = true;
    failed = look_up(name, out, buffer, size, found);
    spared = false;
    return failed;
}

int pthread_getattr_np(pthread_t thread, pthread_attr_t *out)
{
    int (*look_up)(pthread_t, pthread_attr_t *) =
        (int (*)(pthread_t, pthread_attr_t *))dlsym(RTLD_NEXT, "pthread_getattr_np");
    int failed;

    spared = true;
    failed = look_up(thread, out);
    spared = false;
    return failed;
}

/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */
