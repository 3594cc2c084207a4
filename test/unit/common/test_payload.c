/* Bytes from text and from hexadecimal digits. */
#include "common/payload.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define ROOM 8
#define UNTOUCHED 99

struct row {
    const char *text;
    int rc;
    const char *bytes;
    size_t size;
};

static const struct row rows[] = {
    {"", 0, "", 0},
    {"ping", 0, "ping", 4},
    {"8 bytes.", 0, "8 bytes.", 8},
    {"nine byte", -E2BIG, NULL, 0},
    {"hex", 0, "hex", 3},
    {"Hex:00", 0, "Hex:00", 6},
    {"hex:", 0, "", 0},
    {"hex:  ", 0, "", 0},
    {"hex:00", 0, "\0", 1},
    {"hex:0aF9", 0, "\x0a\xf9", 2},
    {"hex: ff ffff  01 ", 0, "\xff\xff\xff\x01", 4},
    {"hex:0001020304050607", 0, "\0\1\2\3\4\5\6\7", 8},
    {"hex:000102030405060708", -E2BIG, NULL, 0},
    {"hex:0", -EINVAL, NULL, 0},
    {"hex:001", -EINVAL, NULL, 0},
    {"hex:0 1", -EINVAL, NULL, 0},
    {"hex:0g", -EINVAL, NULL, 0},
    {"hex:g0", -EINVAL, NULL, 0},
    {"hex:0x00", -EINVAL, NULL, 0},
    {"hex:00,01", -EINVAL, NULL, 0},
    {"hex:@1", -EINVAL, NULL, 0},
    {"hex:`1", -EINVAL, NULL, 0},
    {"hex:\x10\x10", -EINVAL, NULL, 0},
};

static void each_row_is_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint8_t bytes[ROOM];
        size_t size = UNTOUCHED;
        int rc = payload_parse(rows[i].text, bytes, sizeof(bytes), &size);
        if (rc != rows[i].rc)
            fail_msg("\"%s\": %d", rows[i].text, rc);
        if (rc < 0) {
            assert_int_equal(size, UNTOUCHED);
            continue;
        }
        assert_int_equal(size, rows[i].size);
        assert_memory_equal(bytes, rows[i].bytes, size);
    }
}

static void every_byte_can_be_written(void **state)
{
    (void)state;
    static const char digits[2][17] = {"0123456789abcdef", "0123456789ABCDEF"};
    for (unsigned value = 0; value < 256; value++) {
        const char *upper = digits[value % 2];
        const char text[] = {'h', 'e', 'x', ':', upper[value >> 4], upper[value & 15], '\0'};
        uint8_t byte;
        size_t size;
        assert_int_equal(payload_parse(text, &byte, 1, &size), 0);
        assert_int_equal(size, 1);
        assert_int_equal(byte, value);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_row_is_read),
        cmocka_unit_test(every_byte_can_be_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
