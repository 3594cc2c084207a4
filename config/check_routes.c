/*
 * Purpose: the checks on the routes of listeners: conditions that are none, contradict each other
 *          or are those of another route.
 * Thread:  the helper process.
 * Owns:    nothing.
 * Fails:   see loader.h.
 *
 * Pools that routes name are looked for with those of listeners, in check.c.
 */
#include "config/loader.h"

#include <string.h>

/* What was refused left its default, which is no condition: nothing is known of such a route. */
static bool is_known(const struct config_loader *loader, const struct config_route *route)
{
    return route->sni != NULL && route->alpn != NULL && route->from.text != NULL &&
           !config_loader_is_wrong(loader, &route->sni) &&
           !config_loader_is_wrong(loader, &route->alpn) &&
           !config_loader_is_wrong(loader, &route->protocol) &&
           !config_loader_is_wrong(loader, &route->from);
}

static bool asks_tls(const struct config_route *route)
{
    return route->sni[0] != '\0' || route->alpn[0] != '\0';
}

static void check_conditions(struct config_loader *loader, const struct config_route *route)
{
    if (asks_tls(route) && route->protocol == CONFIG_ROUTE_NOT_TLS)
        config_loader_error(loader, config_loader_line(loader, &route->protocol, route),
                            "protocol = \"not-tls\" contradicts %s, which only TLS has; drop one "
                            "of them",
                            route->sni[0] != '\0' ? "sni" : "alpn");
    else if (!asks_tls(route) && route->protocol == CONFIG_ROUTE_ANY && route->from.count == 0)
        config_loader_error(loader, config_loader_line(loader, route, NULL),
                            "this route has no condition, so it would take every client; give it "
                            "sni, alpn, protocol or from, or leave it out: the listener's pool "
                            "takes whom no route fits");
}

/* ---- Twins ---- */

static bool has(const struct config_networks *networks, const struct network *network)
{
    for (size_t i = 0; i < networks->count; i++)
        if (network_compare(&networks->network[i], network) == 0)
            return true;
    return false;
}

static bool is_within(const struct config_networks *some, const struct config_networks *all)
{
    for (size_t i = 0; i < some->count; i++)
        if (!has(all, &some->network[i]))
            return false;
    return true;
}

/* With a name or a protocol to look at, "any" is "tls". */
static int64_t effective_protocol(const struct config_route *route)
{
    return asks_tls(route) ? CONFIG_ROUTE_TLS : route->protocol;
}

static bool same_conditions(const struct config_route *a, const struct config_route *b)
{
    return strcmp(a->sni, b->sni) == 0 && strcmp(a->alpn, b->alpn) == 0 &&
           effective_protocol(a) == effective_protocol(b) && is_within(&a->from, &b->from) &&
           is_within(&b->from, &a->from);
}

static void check_twins(struct config_loader *loader, const struct config_listener *listener,
                        size_t index)
{
    const struct config_route *route = &listener->routes[index];
    for (size_t i = 0; i < index; i++) {
        const struct config_route *other = &listener->routes[i];
        if (!is_known(loader, other) || !same_conditions(route, other))
            continue;
        int line = config_loader_line(loader, other, NULL);
        config_loader_error(loader, config_loader_line(loader, route, NULL),
                            "this route has the very conditions of the one of %s:%d, which takes "
                            "all of its clients; drop one of them",
                            config_source_file(&loader->source, line),
                            config_source_line(&loader->source, line).line);
        return;
    }
}

static void check_no_route(struct config_loader *loader, const struct config_listener *listener)
{
    if (listener->no_route == CONFIG_NO_ROUTE_REFUSE && listener->route_count == 0)
        config_loader_error(loader, config_loader_line(loader, &listener->no_route, listener),
                            "no_route = \"refuse\" without routes would turn every client away; "
                            "give the listener routes, or leave it out");
}

void config_check_routes(struct config_loader *loader, const struct config_listener *listener)
{
    check_no_route(loader, listener);
    for (size_t i = 0; i < listener->route_count; i++) {
        if (!is_known(loader, &listener->routes[i]))
            continue;
        check_conditions(loader, &listener->routes[i]);
        check_twins(loader, listener, i);
    }
}
