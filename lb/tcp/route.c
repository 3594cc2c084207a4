/*
 * Which pool a client goes to, by the name and protocol that it asks for and by where it comes
 * from. No socket and no session: facts in, a route out.
 */
#include "common/network.h"
#include "lb/tcp/session.h"

#include <string.h>

bool route_needs_hello(const struct tcp_policy *policy)
{
    for (size_t i = 0; i < policy->route_count; i++) {
        const struct config_route *route = &policy->routes[i];
        if (route->sni[0] != '\0' || route->alpn[0] != '\0' || route->protocol != CONFIG_ROUTE_ANY)
            return true;
    }
    return false;
}

static bool comes_from(const struct config_networks *from, const union inet_address *client)
{
    return from->count == 0 || network_any_has(from->network, from->count, client);
}

static bool speaks(const struct config_route *route, const struct client_hello *hello)
{
    if (route->protocol == CONFIG_ROUTE_TLS && hello == NULL)
        return false;
    if (route->protocol == CONFIG_ROUTE_NOT_TLS && hello != NULL)
        return false;
    return route->alpn[0] == '\0' || (hello != NULL && client_hello_offers(hello, route->alpn));
}

/* How much of the name it settles: 0 for none, and -1 when the name is another. */
static int name_rank(const struct config_route *route, const struct client_hello *hello)
{
    size_t length, rest;

    if (route->sni[0] == '\0')
        return 0;
    if (hello == NULL)
        return -1;
    if (route->sni[0] != '*')
        return strcmp(route->sni, hello->sni) == 0 ? CLIENT_HELLO_SNI_MAX + 1 : -1;
    /* ".example.com" of "*.example.com", with at least a label before it */
    length = strlen(hello->sni);
    rest = strlen(route->sni) - 1;
    if (length <= rest || strcmp(hello->sni + length - rest, route->sni + 1) != 0)
        return -1;
    return (int)rest;
}

const struct config_route *route_choose(const struct tcp_policy *policy,
                                        const struct route_facts *facts)
{
    const struct config_route *best = NULL;
    int best_rank = -1;

    for (size_t i = 0; i < policy->route_count; i++) {
        const struct config_route *route = &policy->routes[i];
        int rank = name_rank(route, facts->hello);
        if (rank <= best_rank || !speaks(route, facts->hello) ||
            !comes_from(&route->from, facts->client))
            continue;
        best = route;
        best_rank = rank;
    }
    return best;
}
