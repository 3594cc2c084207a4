/* The reader of replies: what passes, and everything that does not. */
#include "lb/health/dns_reply.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "test/unit/lb/health/dns_message.h"

#define ID 0x1234
#define QUESTION_END (DNS_HEADER_SIZE + 17 + 4)

static struct dns_query query;
static struct message message;
static struct dns_reply reply;
static const struct dns_data wanted = {.bytes = {192, 0, 2, 1}, .size = 4};

/* From a copy of its own, so that AddressSanitizer sees where it ends. */
static enum dns_reply_state read_first(size_t size)
{
    uint8_t *copy = malloc(size + (size == 0));
    assert_non_null(copy);
    memcpy(copy, message.bytes, size);
    enum dns_reply_state state = dns_reply_read(&reply, &query, &wanted, copy, size);
    free(copy);
    return state;
}

static enum dns_reply_state read_all(void)
{
    return read_first(message.size);
}

static void assert_broken(const char *why)
{
    assert_int_equal(read_all(), DNS_REPLY_BROKEN);
    assert_string_equal(reply.why, why);
}

static int begin(void **state)
{
    (void)state;
    dns_query_init(&query, "www.example.org", DNS_TYPE_A, ID);
    message_begin(&message, &query, 0);
    return 0;
}

/* ---- Good ones ---- */

static void the_code_is_told(void **state)
{
    (void)state;
    for (unsigned rcode = 0; rcode < 16; rcode++) {
        message_set_flags(&message, MESSAGE_REPLY | rcode);
        assert_int_equal(read_all(), DNS_REPLY_WHOLE);
        assert_int_equal(reply.rcode, rcode);
        assert_int_equal(reply.answers, 0);
        assert_false(reply.found);
    }
}

static void an_address_is_found_among_others(void **state)
{
    (void)state;
    message_answer(&message, DNS_TYPE_CNAME, "\3api\xc0\x10", 6);
    message_answer(&message, DNS_TYPE_A, "\xc0\0\2\2", 4);
    message_answer(&message, DNS_TYPE_A, "\xc0\0\2\1", 4);
    assert_int_equal(read_all(), DNS_REPLY_WHOLE);
    assert_int_equal(reply.answers, 3);
    assert_true(reply.found);
}

static void only_an_answer_of_its_type_and_class_is_it(void **state)
{
    (void)state;
    message_answer(&message, DNS_TYPE_A, "\xc0\0\2\2", 4);
    message_answer(&message, DNS_TYPE_A, "\xc0\0\2\1\0", 5);
    message_answer(&message, DNS_TYPE_A, "\xc0\0\2", 3);
    message_answer(&message, DNS_TYPE_A, "", 0);
    message_answer(&message, DNS_TYPE_AAAA, "\xc0\0\2\1", 4);
    message_answer(&message, DNS_TYPE_A, "\xc0\0\2\1", 4);
    message_put_u16(&message, message.size - 12, 3); /* the class of the last: CHAOS */
    message_add_record(&message, DNS_TYPE_A, "\xc0\0\2\1", 4);
    message_set_count(&message, MESSAGE_ADDITIONAL, 1);
    assert_int_equal(read_all(), DNS_REPLY_WHOLE);
    assert_int_equal(reply.answers, 6);
    assert_false(reply.found);
}

static void nothing_is_found_where_nothing_is_wanted(void **state)
{
    (void)state;
    message_answer(&message, DNS_TYPE_A, "", 0);
    assert_int_equal(dns_reply_read(&reply, &query, NULL, message.bytes, message.size),
                     DNS_REPLY_WHOLE);
    assert_int_equal(reply.answers, 1);
    assert_false(reply.found);
}

static void the_case_of_the_name_may_change(void **state)
{
    (void)state;
    memcpy(message.bytes + DNS_HEADER_SIZE, "\3WwW\7eXaMpLe\3ORG", 16);
    assert_int_equal(read_all(), DNS_REPLY_WHOLE);
}

static void bytes_behind_the_last_record_are_ignored(void **state)
{
    (void)state;
    message_answer(&message, DNS_TYPE_A, "\xc0\0\2\1", 4);
    message_add(&message, "\xff\xff\xff", 3);
    assert_int_equal(read_all(), DNS_REPLY_WHOLE);
    assert_true(reply.found);
}

static void an_error_may_come_without_the_question(void **state)
{
    (void)state;
    message.size = DNS_HEADER_SIZE;
    message_set_count(&message, MESSAGE_QUESTION, 0);
    message_set_flags(&message, MESSAGE_REPLY | 5);
    assert_int_equal(read_all(), DNS_REPLY_WHOLE);
    assert_int_equal(reply.rcode, 5);

    message_set_flags(&message, MESSAGE_REPLY);
    assert_broken("a reply to another question");
    message_set_flags(&message, MESSAGE_REPLY | 3);
    assert_broken("a reply to another question");
}

static void a_truncated_reply_counts_what_is_there(void **state)
{
    (void)state;
    message_answer(&message, DNS_TYPE_A, "\xc0\0\2\1", 4);
    size_t first = message.size;
    message_answer(&message, DNS_TYPE_A, "\xc0\0\2\2", 4);
    message_set_flags(&message, MESSAGE_REPLY | MESSAGE_TRUNCATED);
    for (size_t size = QUESTION_END; size <= message.size; size++) {
        assert_int_equal(read_first(size), DNS_REPLY_TRUNCATED);
        assert_int_equal(reply.answers, size == message.size ? 2 : size >= first);
        assert_int_equal(reply.found, size >= first);
    }
    assert_int_equal(read_first(QUESTION_END - 1), DNS_REPLY_BROKEN);
}

/* ---- Those of others ---- */

static void another_id_is_foreign(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < 16; bit++) {
        message_put_u16(&message, 0, ID ^ 1u << bit);
        assert_int_equal(read_all(), DNS_REPLY_FOREIGN);
    }
    message_put_u16(&message, 0, ID);
    assert_int_equal(read_first(0), DNS_REPLY_FOREIGN);
    assert_int_equal(read_first(1), DNS_REPLY_FOREIGN);
}

static void a_query_is_no_reply(void **state)
{
    (void)state;
    message_set_flags(&message, 0x0100);
    assert_broken("a query instead of a reply");
}

static void another_opcode_is_no_reply(void **state)
{
    (void)state;
    for (unsigned opcode = 1; opcode < 16; opcode++) {
        message_set_flags(&message, MESSAGE_REPLY | opcode << 11);
        assert_broken("a reply of another kind");
    }
}

static void another_question_is_told(void **state)
{
    (void)state;
    for (size_t at = DNS_HEADER_SIZE; at < QUESTION_END; at++) {
        message.bytes[at] ^= 1;
        assert_broken("a reply to another question");
        message.bytes[at] ^= 1;
    }
    message_set_count(&message, MESSAGE_QUESTION, 2);
    assert_broken("a reply to another question");
}

static void a_name_that_only_begins_alike_is_another(void **state)
{
    (void)state;
    message_begin(&message, &query, 0);
    message.size = DNS_HEADER_SIZE;
    message_add(&message, "\3www\7example\0\0\1\0\1", 17);
    assert_broken("a reply to another question");
}

/* ---- Broken ones ---- */

/* Three sections, a compressed name in two steps, and records of several lengths. */
static void build_large(void)
{
    message_answer(&message, DNS_TYPE_CNAME, "\3api\xc0\x10", 6);
    message_answer(&message, DNS_TYPE_A, "\xc0\0\2\1", 4);
    message_add(&message, "\2ns\xc0\x10\0\1\0\1\0\0\0\1\0\4\xc0\0\2\3", 19);
    message_add_record(&message, 6, "", 0);
    message_set_count(&message, MESSAGE_AUTHORITY, 1);
    message_set_count(&message, MESSAGE_ADDITIONAL, 1);
}

static void every_truncation_is_broken(void **state)
{
    (void)state;
    build_large();
    assert_int_equal(read_all(), DNS_REPLY_WHOLE);
    assert_true(reply.found);
    for (size_t size = 2; size < message.size; size++) {
        assert_int_equal(read_first(size), DNS_REPLY_BROKEN);
        assert_string_equal(reply.why, size < DNS_HEADER_SIZE ? "a reply shorter than its header"
                                       : size < QUESTION_END  ? "a reply to another question"
                                                              : "a reply with a malformed record");
    }
}

/* One more than there are of any section is one more than there are in all. */
static void counts_that_lie_are_broken(void **state)
{
    (void)state;
    static const unsigned lies[] = {3, 255, 256, 65535};
    build_large();
    for (unsigned section = MESSAGE_ANSWER; section <= MESSAGE_ADDITIONAL; section++) {
        for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
            unsigned truth = section == MESSAGE_ANSWER ? 2 : 1;
            message_set_count(&message, section, lies[i]);
            assert_broken("a reply with a malformed record");
            message_set_count(&message, section, truth);
        }
    }
    assert_int_equal(read_all(), DNS_REPLY_WHOLE);
}

static void a_record_longer_than_the_reply_is_broken(void **state)
{
    (void)state;
    static const unsigned lengths[] = {5, 256, 32768, 65535};
    message_answer(&message, DNS_TYPE_A, "\xc0\0\2\1", 4);
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        message_put_u16(&message, message.size - 6, lengths[i]);
        assert_broken("a reply with a malformed record");
    }
}

/* ---- Names ---- */

/* One answer, an A record without data, under the name that the bytes spell. */
static enum dns_reply_state read_under(const void *name, size_t size)
{
    message_begin(&message, &query, 0);
    message_add(&message, name, size);
    message_add(&message, "\0\1\0\1\0\0\0\0\0\0", 10);
    message_set_count(&message, MESSAGE_ANSWER, 1);
    return read_all();
}

static void pointers_lead_back(void **state)
{
    (void)state;
    uint8_t pointer[2];
    for (size_t target = 0; target < 0x4000; target++) {
        pointer[0] = (uint8_t)(0xc0 | target >> 8);
        pointer[1] = (uint8_t)target;
        /* Within the question the length bytes of labels begin a name. What lies behind is this
         * record itself and the end. */
        bool good = target == 12 || target == 16 || target == 24 || target == 28;
        /* "w" is 119 and no length, but zeros of type and class are roots. */
        good |= target == 29 || target == 31;
        enum dns_reply_state state_read = read_under(pointer, sizeof(pointer));
        if (state_read != (good ? DNS_REPLY_WHOLE : DNS_REPLY_BROKEN))
            fail_msg("a pointer to %zu: %d", target, state_read);
    }
}

static void loops_are_broken(void **state)
{
    (void)state;
    /* The record's name begins at QUESTION_END = 33. */
    static const struct {
        const char *name;
        size_t size;
    } loops[] = {
        {"\xc0\x21", 2},               /* itself */
        {"\1a\xc0\x21", 4},            /* its own first label */
        {"\1a\xc0\x23", 4},            /* its own pointer */
        {"\1a\xc0\x25\1b\xc0\x21", 8}, /* forward, and back */
        {"\xc0\x23\xc0\x21", 4},
    };
    assert_int_equal(QUESTION_END, 0x21);
    for (size_t i = 0; i < ARRAY_LEN(loops); i++) {
        assert_int_equal(read_under(loops[i].name, loops[i].size), DNS_REPLY_BROKEN);
        assert_string_equal(reply.why, "a reply with a malformed record");
    }
}

static void the_unused_label_forms_are_broken(void **state)
{
    (void)state;
    for (unsigned first = 64; first < 192; first++) {
        uint8_t name[256] = {(uint8_t)first};
        assert_int_equal(read_under(name, sizeof(name)), DNS_REPLY_BROKEN);
    }
}

/* Labels of 63, then one that makes the name `size` bytes long. */
static size_t long_name(uint8_t *name, size_t size)
{
    size_t at = 0;
    while (at + 1 < size) {
        size_t label = MIN(size - at - 2, 63);
        name[at] = (uint8_t)label;
        memset(name + at + 1, 'x', label);
        at += label + 1;
    }
    name[at++] = 0;
    return at;
}

static void a_name_has_255_bytes(void **state)
{
    (void)state;
    uint8_t name[DNS_NAME_MAX + 1];
    assert_int_equal(long_name(name, 255), 255);
    assert_int_equal(read_under(name, 255), DNS_REPLY_WHOLE);
    assert_int_equal(long_name(name, 256), 256);
    assert_int_equal(read_under(name, 256), DNS_REPLY_BROKEN);
}

/* The bound holds for what the pointers spell, not for what stands in one piece. */
static void a_name_is_not_longer_by_pointers(void **state)
{
    (void)state;
    for (size_t own = 236; own <= 240; own++) {
        uint8_t name[DNS_NAME_MAX + 2];
        size_t size = long_name(name, own);
        name[size - 1] = 0xc0; /* instead of the root: the 17 bytes of the question */
        name[size] = DNS_HEADER_SIZE;
        bool fits = own - 1 + 17 <= DNS_NAME_MAX;
        assert_int_equal(read_under(name, size + 1), fits ? DNS_REPLY_WHOLE : DNS_REPLY_BROKEN);
    }
}

/* Two bytes each, one to the next, from the end back to the question: short, and of no use. */
static void a_row_of_pointers_has_an_end(void **state)
{
    (void)state;
    static const struct {
        unsigned pointers;
        enum dns_reply_state state;
    } rows[] = {{126, DNS_REPLY_WHOLE}, {127, DNS_REPLY_BROKEN}, {8000, DNS_REPLY_BROKEN}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        message_begin(&message, &query, 0);
        /* They stand in the data of a first record. */
        size_t at = message.size + 12;
        struct message *to = &message;
        message_answer(to, 16, "", 0);
        message_put_u16(to, message.size - 2, 2 * rows[i].pointers);
        for (unsigned p = 0; p < rows[i].pointers; p++)
            message_add_u16(to, 0xc000 | (p == 0 ? DNS_HEADER_SIZE : (unsigned)at + 2 * (p - 1)));
        message_add_u16(to, 0xc000 | ((unsigned)at + 2 * (rows[i].pointers - 1)));
        message_add(to, "\0\1\0\1\0\0\0\0\0\0", 10);
        message_set_count(to, MESSAGE_ANSWER, 2);
        assert_int_equal(read_all(), rows[i].state);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_code_is_told, begin),
        cmocka_unit_test_setup(an_address_is_found_among_others, begin),
        cmocka_unit_test_setup(only_an_answer_of_its_type_and_class_is_it, begin),
        cmocka_unit_test_setup(nothing_is_found_where_nothing_is_wanted, begin),
        cmocka_unit_test_setup(the_case_of_the_name_may_change, begin),
        cmocka_unit_test_setup(bytes_behind_the_last_record_are_ignored, begin),
        cmocka_unit_test_setup(an_error_may_come_without_the_question, begin),
        cmocka_unit_test_setup(a_truncated_reply_counts_what_is_there, begin),
        cmocka_unit_test_setup(another_id_is_foreign, begin),
        cmocka_unit_test_setup(a_query_is_no_reply, begin),
        cmocka_unit_test_setup(another_opcode_is_no_reply, begin),
        cmocka_unit_test_setup(another_question_is_told, begin),
        cmocka_unit_test_setup(a_name_that_only_begins_alike_is_another, begin),
        cmocka_unit_test_setup(every_truncation_is_broken, begin),
        cmocka_unit_test_setup(counts_that_lie_are_broken, begin),
        cmocka_unit_test_setup(a_record_longer_than_the_reply_is_broken, begin),
        cmocka_unit_test_setup(pointers_lead_back, begin),
        cmocka_unit_test_setup(loops_are_broken, begin),
        cmocka_unit_test_setup(the_unused_label_forms_are_broken, begin),
        cmocka_unit_test_setup(a_name_has_255_bytes, begin),
        cmocka_unit_test_setup(a_name_is_not_longer_by_pointers, begin),
        cmocka_unit_test_setup(a_row_of_pointers_has_an_end, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
