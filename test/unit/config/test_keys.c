/* The key table: what its rows must keep to, since parser, encoder and printers trust them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/config/support.h"

#include "config/keys.h"

#include <ctype.h>

static size_t size_of_field(const struct config_key *key)
{
    if (key->type == &config_type_string)
        return sizeof(char *);
    if (key->type == &config_type_switch)
        return sizeof(bool);
    if (key->type == &config_type_address)
        return sizeof(struct config_address);
    if (key->type == &config_type_networks)
        return sizeof(struct config_networks);
    if (key->type == &config_type_sources)
        return sizeof(struct config_sources);
    return sizeof(int64_t);
}

/* Sections that share one struct count as one. */
static size_t struct_of(const struct config_key *key)
{
    bool weir = key->section == SECTION_ADMIN || key->section == SECTION_LOG;
    return weir ? SECTION_WEIR : key->section;
}

static void no_two_keys_share_a_field(void **state)
{
    (void)state;
    const struct config_key *a, *b;
    for (size_t i = 0; (a = config_key_at(i)) != NULL; i++) {
        for (size_t j = i + 1; (b = config_key_at(j)) != NULL; j++) {
            if (struct_of(a) == struct_of(b))
                assert_true(a->offset + size_of_field(a) <= b->offset ||
                            b->offset + size_of_field(b) <= a->offset);
        }
    }
}

/* Where `defaults` is one of the sections that may hold them. */
static void names_are_unique_in_their_section(void **state)
{
    (void)state;
    const struct config_key *key;
    for (size_t i = 0; (key = config_key_at(i)) != NULL; i++) {
        assert_ptr_equal(config_key_find(key->section, key->name), key);
        if (key->inherits)
            assert_ptr_equal(config_key_find(SECTION_DEFAULTS, key->name), key);
        assert_null(config_section_find(key->section, key->name));
    }
}

static void defaults_are_within_their_bounds(void **state)
{
    (void)state;
    const struct config_key *key;
    for (size_t i = 0; (key = config_key_at(i)) != NULL; i++) {
        union {
            struct config_weir weir;
            struct config_pool pool;
            struct config_server server;
            struct config_health health;
            struct config_listener listener;
            struct config_route route;
        } object = {0};
        char phrase[128];
        char scratch[CONFIG_KEY_SCRATCH];
        struct text why;
        text_init(&why, phrase, sizeof(phrase));
        if (key->standard == NULL)
            continue;
        if (config_key_set(key, &object, key->standard, &why) != 0)
            fail_msg("%s: \"%s\" %s", key->name, key->standard, phrase);
        /* The text is one that can be read again, and means the same. */
        char *text = strdup(config_key_text(key, &object, scratch));
        assert_int_equal(config_key_set(key, &object, text, &why), 0);
        assert_string_equal(config_key_text(key, &object, scratch), text);
        free(text);
        config_key_clear(key, &object);
    }
}

/* `defaults` is copied by value, and only pools and listeners inherit. */
static void inherited_keys_hold_no_memory(void **state)
{
    (void)state;
    size_t count = 0;
    const struct config_key *key;
    for (size_t i = 0; (key = config_key_at(i)) != NULL; i++) {
        if (!key->inherits)
            continue;
        count++;
        assert_true(key->section == SECTION_POOL || key->section == SECTION_LISTENER);
        assert_true(key->type != &config_type_string && key->type != &config_type_address &&
                    key->type != &config_type_networks && key->type != &config_type_sources);
        assert_non_null(key->standard);
    }
    assert_true(count > 0);
}

/* The text of all of them fits the scratch, and each has its bit. */
static void sets_of_words_hold_every_word(void **state)
{
    (void)state;
    const struct config_key *key = config_key_find(SECTION_POOL, "send_proxy_tlvs");
    struct config_pool pool = {0};
    char phrase[128];
    char scratch[CONFIG_KEY_SCRATCH];
    struct text why;
    text_init(&why, phrase, sizeof(phrase));
    static const char all[] = "authority, alpn, unique-id, crc32c, received";
    assert_int_equal(config_key_set(key, &pool, all, &why), 0);
    assert_int_equal(pool.send_proxy_tlvs, CONFIG_TLV_AUTHORITY | CONFIG_TLV_ALPN |
                                               CONFIG_TLV_UNIQUE_ID | CONFIG_TLV_CRC32C |
                                               CONFIG_TLV_RECEIVED);
    assert_string_equal(config_key_text(key, &pool, scratch), all);
    assert_true(config_key_set(key, &pool, "alpn, crc", &why) < 0);
    assert_int_equal(pool.send_proxy_tlvs, 31);
    assert_int_equal(config_key_set(key, &pool, "", &why), 0);
    assert_int_equal(pool.send_proxy_tlvs, 0);
}

static void refused_networks_leave_those_that_were(void **state)
{
    (void)state;
    const struct config_key *key = config_key_find(SECTION_LISTENER, "allow");
    struct config_listener listener = {0};
    char phrase[128];
    struct text why;
    text_init(&why, phrase, sizeof(phrase));
    assert_int_equal(config_key_set(key, &listener, "10.0.0.0/8, 2001:db8::/32", &why), 0);
    assert_int_equal(listener.allow.count, 2);
    assert_true(config_key_set(key, &listener, "192.0.2.1, nowhere", &why) < 0);
    assert_true(config_key_set(key, &listener, "192.0.2.1,,192.0.2.2", &why) < 0);
    assert_int_equal(listener.allow.count, 2);
    assert_string_equal(listener.allow.text, "10.0.0.0/8, 2001:db8::/32");
    config_key_clear(key, &listener);
    assert_null(listener.allow.network);
    assert_int_equal(listener.allow.count, 0);
}

/* So that none is left without a protocol that can have it. */
static void marks_of_protocols_are_names_of_protocols(void **state)
{
    (void)state;
    const struct config_key *protocol = config_key_find(SECTION_LISTENER, "protocol");
    const struct config_key *key;
    for (size_t i = 0; (key = config_key_at(i)) != NULL; i++) {
        struct config_listener listener = {0};
        char phrase[128];
        struct text why;
        text_init(&why, phrase, sizeof(phrase));
        if (key->protocol == NULL)
            continue;
        assert_int_equal(key->section, SECTION_LISTENER);
        assert_int_equal(config_key_set(protocol, &listener, key->protocol, &why), 0);
        assert_true(config_key_applies(key, &listener));
    }
}

static void bounds_have_an_order(void **state)
{
    (void)state;
    const struct config_key *key;
    for (size_t i = 0; (key = config_key_at(i)) != NULL; i++) {
        assert_true(key->least <= key->most);
        assert_true(key->type != &config_type_string || key->most > 0);
        assert_true((key->type != &config_type_choice && key->type != &config_type_words) ||
                    key->choices != NULL);
        assert_true(!key->zero || key->least > 0);
    }
}

/* Help is sentences for people. */
static void every_key_has_help(void **state)
{
    (void)state;
    const struct config_key *key;
    for (size_t i = 0; (key = config_key_at(i)) != NULL; i++) {
        const char *help = key->help;
        size_t length = strlen(help);
        assert_true(length > 5);
        assert_true(help[length - 1] == '.');
        assert_true(isupper((unsigned char)help[0]) || help[0] == '"');
    }
}

static void a_refused_value_leaves_the_field(void **state)
{
    (void)state;
    struct config_weir weir = {.workers = 5};
    const struct config_key *workers = config_key_find(SECTION_WEIR, "workers");
    const struct config_key *user = config_key_find(SECTION_WEIR, "user");
    char phrase[128];
    struct text why;

    text_init(&why, phrase, sizeof(phrase));
    assert_true(config_key_set(workers, &weir, "1000", &why) < 0);
    assert_string_equal(phrase, "must be 0 to 256");
    assert_int_equal(weir.workers, 5);
    text_init(&why, phrase, sizeof(phrase));
    assert_true(config_key_set(workers, &weir, "7x", &why) < 0);
    assert_string_equal(phrase, "must be a number");

    text_init(&why, phrase, sizeof(phrase));
    assert_int_equal(config_key_set(user, &weir, "weir", &why), 0);
    assert_true(config_key_set(user, &weir, "no body", &why) < 0);
    assert_string_equal(weir.user, "weir");
    config_key_clear(user, &weir);
    assert_null(weir.user);
}

/* The readers' arrays hold all of them. */
static void the_table_is_within_its_bound(void **state)
{
    (void)state;
    assert_non_null(config_key_at(0));
    assert_null(config_key_at(CONFIG_KEYS_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_within_its_bound),
        cmocka_unit_test(no_two_keys_share_a_field),
        cmocka_unit_test(names_are_unique_in_their_section),
        cmocka_unit_test(defaults_are_within_their_bounds),
        cmocka_unit_test(inherited_keys_hold_no_memory),
        cmocka_unit_test(marks_of_protocols_are_names_of_protocols),
        cmocka_unit_test(sets_of_words_hold_every_word),
        cmocka_unit_test(refused_networks_leave_those_that_were),
        cmocka_unit_test(bounds_have_an_order),
        cmocka_unit_test(every_key_has_help),
        cmocka_unit_test(a_refused_value_leaves_the_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
