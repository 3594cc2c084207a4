#include "common/clock.h"
#include "common/log.h"
#include "lb/tcp/session.h"

const char *session_engine_name(const struct session *session)
{
    const struct direction *in = &session->direction[CLIENT];
    const struct direction *out = &session->direction[SERVER];

    return in->bytes > out->bytes ? in->engine->name : out->engine->name;
}

void access_line(const struct session *session)
{
    const struct server *server = session->server;
    enum session_end_reason reason = (enum session_end_reason)session->reason;
    const struct preread *preread = session->preread;
    char client[ADDRESS_TEXT_MAX], via[ADDRESS_TEXT_MAX];
    bool told = preread != NULL && preread->told;

    log_info("session", LOG_U("id", session->id),
             LOG_S("client", inet_address_format(&session->client, client)),
             LOG_S("via", told ? inet_address_format(&preread->peer, via) : NULL),
             LOG_S("listener", session->policy->listener), LOG_S("pool", session->pool_name),
             LOG_S("server", server ? server->name : NULL),
             LOG_S("server_address", server ? server->address_text : NULL),
             LOG_U("tries", session->tries), LOG_US("connect_ms", session->connect_us),
             LOG_US("duration_ms", clock_now_us() - session->accepted_us),
             LOG_U("bytes_in", session->direction[CLIENT].bytes),
             LOG_U("bytes_out", session->direction[SERVER].bytes),
             LOG_S("engine", session_engine_name(session)), LOG_S("end", session_end_word(reason)),
             LOG_S("by", session_end_by(reason)),
             LOG_S("why", preread != NULL ? preread->why : NULL),
             LOG_U("bytes_lost", session->lost));
}
