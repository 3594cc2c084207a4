/* bug() says where and what, and the process is gone. */
#include "common/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/death.h"

static void call_bug(void *line)
{
    bug("some/file.c", *(int *)line, "a < b");
}

static void call_bug_on(void *argument)
{
    BUG_ON(argument == NULL);
}

static void says_where_and_what(void **state)
{
    (void)state;
    assert_bug(call_bug, &(int){1}, "weir: bug at some/file.c:1: a < b\n");
    assert_bug(call_bug, &(int){0}, "some/file.c:0: ");
    assert_bug(call_bug, &(int){INT32_MAX}, "some/file.c:2147483647: ");
}

static void checks_in_every_build(void **state)
{
    (void)state;
    assert_bug(call_bug_on, NULL, "argument == NULL");
}

static void passes_what_holds(void **state)
{
    (void)state;
    int evaluated = 0;
    BUG_ON(evaluated++ > 0);
    assert_int_equal(evaluated, 1);
}

static void finds_the_container(void **state)
{
    (void)state;
    struct outer {
        int first;
        int member;
    } outer;
    assert_ptr_equal(container_of(&outer.member, struct outer, member), &outer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_where_and_what),
        cmocka_unit_test(checks_in_every_build),
        cmocka_unit_test(passes_what_holds),
        cmocka_unit_test(finds_the_container),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
