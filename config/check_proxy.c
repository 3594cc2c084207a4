/*
 * Purpose: the checks on PROXY headers: who may send them, and who gets them.
 * Thread:  the helper process.
 * Owns:    nothing.
 * Fails:   see loader.h.
 */
#include "config/loader.h"

#include <string.h>

/* ---- From clients ---- */

void config_check_proxy_in(struct config_loader *loader, const struct config_listener *listener)
{
    bool off = listener->proxy_protocol == CONFIG_PROXY_OFF;
    const struct config_networks *from = &listener->proxy_protocol_from;
    if (off == (from->count == 0) || config_loader_is_wrong(loader, &listener->proxy_protocol) ||
        config_loader_is_wrong(loader, from))
        return;
    if (off)
        config_loader_error(loader, config_loader_line(loader, from, listener),
                            "proxy_protocol_from means nothing with proxy_protocol = \"off\"; set "
                            "proxy_protocol to \"optional\" or \"required\", or drop the networks");
    else
        config_loader_error(
            loader, config_loader_line(loader, &listener->proxy_protocol, listener),
            "proxy_protocol = \"%s\" needs proxy_protocol_from, the networks of those whose "
            "headers are believed, as in proxy_protocol_from = [ \"10.0.0.0/8\" ]",
            listener->proxy_protocol == CONFIG_PROXY_OPTIONAL ? "optional" : "required");
}

/* ---- To servers ---- */

static void check_tlvs(struct config_loader *loader, const struct config_pool *pool)
{
    if (pool->send_proxy_tlvs == 0 || pool->send_proxy == CONFIG_SEND_PROXY_V2 ||
        config_loader_is_wrong(loader, &pool->send_proxy))
        return;
    config_loader_error(loader, config_loader_line(loader, &pool->send_proxy_tlvs, pool),
                        "send_proxy_tlvs means nothing with send_proxy = \"%s\", which carries "
                        "none; set send_proxy = \"v2\"",
                        pool->send_proxy == CONFIG_SEND_PROXY_V1 ? "v1" : "off");
}

/* Only what is not the standard can be seen to have been given. */
static void check_datagrams(struct config_loader *loader, const struct config_pool *pool)
{
    if (pool->send_proxy_udp == CONFIG_SEND_PROXY_EACH ||
        pool->send_proxy == CONFIG_SEND_PROXY_V2 ||
        config_loader_is_wrong(loader, &pool->send_proxy))
        return;
    config_loader_error(loader, config_loader_line(loader, &pool->send_proxy_udp, pool),
                        "send_proxy_udp means nothing with send_proxy = \"%s\"; it is for "
                        "send_proxy = \"v2\"",
                        pool->send_proxy == CONFIG_SEND_PROXY_V1 ? "v1" : "off");
}

static const struct config_listener *find_udp_feeder(const struct config_loader *loader,
                                                     const struct config *config,
                                                     const struct config_pool *pool)
{
    for (size_t i = 0; i < config->listener_count && pool->name != NULL; i++) {
        const struct config_listener *listener = &config->listeners[i];
        if (listener->protocol == CONFIG_PROTOCOL_UDP && config_is_fed(listener, pool->name) &&
            !config_loader_is_wrong(loader, &listener->protocol))
            return listener;
    }
    return NULL;
}

void config_check_proxy_out(struct config_loader *loader, const struct config *config,
                            const struct config_pool *pool)
{
    check_tlvs(loader, pool);
    check_datagrams(loader, pool);
    if (pool->send_proxy != CONFIG_SEND_PROXY_V1)
        return;
    const struct config_listener *listener = find_udp_feeder(loader, config, pool);
    if (listener == NULL)
        return;
    int line = config_loader_line(loader, &listener->pool, listener);
    config_loader_error(
        loader, config_loader_line(loader, &pool->send_proxy, pool),
        "send_proxy = \"v1\" cannot speak of datagrams, and the listener \"%s\" of "
        "%s:%d feeds this pool with protocol = \"udp\"; set send_proxy = \"v2\", or "
        "give that listener a pool of its own",
        listener->name != NULL ? listener->name : "", config_source_file(&loader->source, line),
        config_source_line(&loader->source, line).line);
}
