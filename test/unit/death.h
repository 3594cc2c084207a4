/*
 * Purpose: shows that a call ends the process by bug(), and what it says.
 * Thread:  the test's; no other thread may run (it forks).
 * Owns:    nothing.
 * Fails:   as a cmocka assertion.
 */
#pragma once

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static inline void death_child(void (*call)(void *), void *argument, int errors)
{
    const struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    signal(SIGABRT, SIG_DFL);
    dup2(errors, STDERR_FILENO);
    call(argument);
    _exit(0);
}

static inline void death_read(int fd, char *text, size_t size)
{
    size_t length = 0;
    ssize_t count;
    while ((count = read(fd, text + length, size - 1 - length)) > 0)
        length += (size_t)count;
    text[length] = '\0';
}

/* Runs `call` in a child: it must abort, and say `words` on stderr. */
static inline void assert_bug(void (*call)(void *), void *argument, const char *words)
{
    int fd[2];
    assert_int_equal(pipe(fd), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        death_child(call, argument, fd[1]);
    close(fd[1]);

    char said[1024];
    death_read(fd[0], said, sizeof(said));
    close(fd[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    if (strstr(said, words) == NULL)
        fail_msg("stderr says \"%s\", not \"%s\"", said, words);
}
