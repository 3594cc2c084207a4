/*
 * Fuzzes common/address and common/network: any text as an address, with its port and by itself,
 * and as a network. What is read is written again as a text that reads as the same; what is refused
 * says why. What is said of an address, its hash included, does not depend on how it was written.
 *
 * Covers: common/address.c common/network.c
 */
#include "common/network.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_inet(const struct address *address)
{
    union inet_address folded = address->inet;
    inet_address_fold(&folded);
    BUG_ON(inet_address_port(&folded) != address_port(address));
    for (int with_port = 0; with_port < 2; with_port++)
        BUG_ON(inet_address_hash(&folded, with_port, 1) !=
               inet_address_hash(&address->inet, with_port, 1));
    BUG_ON(!inet_address_equal(&folded, &address->inet) &&
           folded.any.sa_family == address->any.sa_family);
}

/* An address by itself is as one with a port, but for the port. */
static void check_host(const char *text)
{
    struct address with_port;
    union inet_address host;
    char written[INET6_ADDRSTRLEN + IF_NAMESIZE + sizeof("[]:0")];
    const char *why = NULL;
    int rc = inet_address_parse(&host, text, &why);
    BUG_ON((rc == 0) != (why == NULL) || (rc < 0 && rc != -EINVAL));
    if (rc < 0)
        return;
    bool is_v4 = host.any.sa_family == AF_INET;
    snprintf(written, sizeof(written), is_v4 ? "%s:0" : "[%s]:0", text);
    BUG_ON(address_parse(&with_port, written, &why) != 0);
    BUG_ON(!inet_address_equal(&host, &with_port.inet));
    BUG_ON(!inet_address_same_host(&host, &with_port.inet));
    BUG_ON(inet_address_is_loopback(&host) && inet_address_is_multicast(&host));
}

static void check_address(const char *text)
{
    struct address address, again;
    char written[ADDRESS_TEXT_MAX], rewritten[ADDRESS_TEXT_MAX];
    const char *why = NULL;
    int rc = address_parse(&address, text, &why);
    BUG_ON((rc == 0) != (why == NULL));
    if (rc < 0) {
        BUG_ON(rc != -EINVAL);
        return;
    }
    address_format(&address, written);
    BUG_ON(address_parse(&again, written, &why) != 0);
    BUG_ON(!address_equal(&address, &again) || address.length != again.length);
    BUG_ON(strcmp(address_format(&again, rewritten), written) != 0);
    BUG_ON(address_is_wildcard(&address) != address_is_wildcard(&again));
    BUG_ON(address_port(&address) != address_port(&again));
    if (address_is_inet(&address))
        check_inet(&address);
}

/* A network has its own first and last address, and not the one before or behind. */
static void check_ends(const struct network *network)
{
    union inet_address address = {.v6 = {.sin6_family = AF_INET6, .sin6_addr = network->address}};
    uint8_t *bytes = address.v6.sin6_addr.s6_addr;
    BUG_ON(!network_has(network, &address));
    BUG_ON(!network_any_has(network, 1, &address));
    for (unsigned bit = network->bits; bit < 128; bit++)
        bytes[bit / 8] |= (uint8_t)(0x80u >> bit % 8);
    BUG_ON(!network_has(network, &address));
    inet_address_fold(&address);
    BUG_ON(!network_has(network, &address));
    address = (union inet_address){.v6 = {.sin6_family = AF_INET6, .sin6_addr = network->address}};
    if (network->bits > 0) {
        unsigned bit = network->bits - 1u;
        bytes[bit / 8] ^= (uint8_t)(0x80u >> bit % 8);
        BUG_ON(network_any_has(network, 1, &address));
    }
}

static void check_network(const char *text)
{
    struct network network, again;
    char written[NETWORK_TEXT_MAX], rewritten[NETWORK_TEXT_MAX];
    const char *why = NULL;
    int rc = network_parse(&network, text, &why);
    BUG_ON((rc == 0) != (why == NULL));
    if (rc < 0) {
        BUG_ON(rc != -EINVAL);
        return;
    }
    network_format(&network, written);
    BUG_ON(network_parse(&again, written, &why) != 0);
    BUG_ON(network.bits != again.bits);
    BUG_ON(!IN6_ARE_ADDR_EQUAL(&network.address, &again.address));
    BUG_ON(strcmp(network_format(&again, rewritten), written) != 0);
    check_ends(&network);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* A copy of its own, so that AddressSanitizer sees where it ends. */
    char *text = malloc(size + 1);
    BUG_ON(text == NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    check_address(text);
    check_host(text);
    check_network(text);
    free(text);
    return 0;
}
