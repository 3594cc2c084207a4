/* The list's few operations, and the removals that loops rely on. */
#include "common/list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct item {
    int number;
    struct list link;
};

static void fill(struct list *list, struct item *items, int count, int first)
{
    for (int i = 0; i < count; i++) {
        items[i].number = first + i;
        list_add_tail(list, &items[i].link);
    }
}

/* The numbers of the list as decimal digits: 1, 2, 3 is 123. */
static int digits(const struct list *list)
{
    int number = 0;
    const struct list *back = list->prev;
    list_for_each (node, list) {
        number = number * 10 + list_entry(node, struct item, link)->number;
        assert_ptr_equal(node->next->prev, node);
    }
    assert_true(back == list || list_entry(back, struct item, link)->number == number % 10);
    return number;
}

static void adds_and_removes(void **state)
{
    (void)state;
    struct list list;
    struct item items[3];
    list_init(&list);
    assert_true(list_empty(&list));
    fill(&list, items, 3, 1);
    assert_int_equal(digits(&list), 123);
    assert_ptr_equal(list_first(&list, struct item, link), &items[0]);
    list_del(&items[1].link);
    assert_int_equal(digits(&list), 13);
    list_del(&items[1].link); /* twice is harmless */
    assert_int_equal(digits(&list), 13);
    list_del(&items[0].link);
    list_del(&items[2].link);
    assert_true(list_empty(&list));
}

static void moves_all(void **state)
{
    (void)state;
    struct list one, two;
    struct item a[2], b[2];
    list_init(&one);
    list_init(&two);
    list_move_all(&one, &two);
    assert_true(list_empty(&one));
    fill(&one, a, 2, 1);
    list_move_all(&one, &two);
    assert_int_equal(digits(&one), 12);
    fill(&two, b, 2, 3);
    list_move_all(&one, &two);
    assert_int_equal(digits(&one), 1234);
    assert_true(list_empty(&two));
    list_move_all(&two, &one);
    assert_int_equal(digits(&two), 1234);
    assert_true(list_empty(&one));
}

static void a_loop_may_remove_its_node(void **state)
{
    (void)state;
    struct list list;
    struct item items[5];
    list_init(&list);
    fill(&list, items, 5, 1);
    list_for_each_safe (node, &list) {
        if (list_entry(node, struct item, link)->number % 2 == 1)
            list_del(node);
    }
    assert_int_equal(digits(&list), 24);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adds_and_removes),
        cmocka_unit_test(moves_all),
        cmocka_unit_test(a_loop_may_remove_its_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
