/*
 * Purpose: the end of a process whose state cannot be trusted any more.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   by design.
 */
#include "common/base.h"

#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* Writes `line` at the end of `buffer` and returns where it begins. */
static char *line_digits(char *end, int line)
{
    unsigned rest = line > 0 ? (unsigned)line : 0;
    *--end = '\0';
    do {
        *--end = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    return end;
}

static struct iovec piece(const char *string)
{
    return (struct iovec){.iov_base = (void *)string, .iov_len = strlen(string)};
}

/*
 * No stdio: its locks and its heap may be what is broken. One writev, so that the line of a second
 * thread does not run into ours.
 */
_Noreturn void bug(const char *file, int line, const char *condition)
{
    char buffer[16];
    const struct iovec message[] = {
        piece("weir: bug at "),
        piece(file),
        piece(":"),
        piece(line_digits(buffer + sizeof(buffer), line)),
        piece(": "),
        piece(condition),
        piece("\n"),
    };
    /* Nothing is left to do about a failure. */
    ssize_t ignored = writev(STDERR_FILENO, message, ARRAY_LEN(message));
    (void)ignored;
    abort();
}
