/*
 * Bytes between the two sides of a connected session, and the truth about how each side ended.
 *
 * FIN is passed on as FIN: when a direction has read the end and delivered everything, the
 * destination's sending half is shut down. RST is passed on as RST: the first error of a side is
 * latched (the kernel tells it once), what that side sent before is still delivered, and only when
 * nothing is left here and the other side's kernel has acknowledged everything is the other side
 * reset. SO_LINGER 0 would discard what is unsent.
 */
#include "lb/tcp/session.h"

#include <errno.h>
#include <sys/socket.h>

/* One pump reads about so much, then others have their turn. */
#define PUMP_BUDGET (256u * 1024u)
/* The same towards a server's socket that notsent_lowat does not bound yet: see session_tune. */
#define UNTUNED_BUDGET (64u * 1024u)

/* Wake-ups in a row that filled the scratch buffer before a direction goes to splice … */
#define SPLICE_AFTER 4
/* … and wake-ups in a row that moved less than SPLICE_WORTH before it goes back. */
#define COPY_AFTER 8
#define SPLICE_WORTH (16u * 1024u)

/* How long after its connect a server's reset counts as a failed connect, while no byte has passed.
 */
#define UNTOUCHED_MS 100

void relay_count(struct session *session, unsigned from, uint64_t moved)
{
    struct tcp *tcp = session->tcp;
    struct server_cell *cell = &session->server->cell[tcp->env.worker];

    if (moved == 0)
        return;
    session->activity_ms = tcp->now_ms;
    metrics_add(tcp->env.metrics, from == CLIENT ? METRIC_BYTES_IN : METRIC_BYTES_OUT, moved);
    cell_add(from == CLIENT ? &cell->bytes_in : &cell->bytes_out, moved);
}

/* An engine is changed only while the direction holds nothing. */
static void choose_engine(struct session *session, unsigned from)
{
    struct direction *direction = &session->direction[from];
    enum config_splice wanted = session->policy->splice;
    const struct engine *engine = direction->engine;

    if (direction->pending > 0)
        return;
    if (session->side[from].urgent || wanted == CONFIG_SPLICE_OFF)
        engine = &engine_copy;
    else if (wanted == CONFIG_SPLICE_ON)
        engine = &engine_splice;
    else if (engine == &engine_copy && direction->streak >= SPLICE_AFTER)
        engine = &engine_splice;
    else if (engine == &engine_splice && direction->streak >= COPY_AFTER)
        engine = &engine_copy;
    if (engine == direction->engine)
        return;
    direction->engine = engine;
    direction->streak = 0;
    if (engine == &engine_splice)
        metrics_add(session->tcp->env.metrics, METRIC_SPLICE_STARTS, 1);
}

/* Counts wake-ups that speak for the other engine. */
static void note_size(struct direction *direction, uint64_t moved, uint32_t full)
{
    bool other = direction->engine == &engine_copy ? moved >= full : moved < SPLICE_WORTH;

    if (!other)
        direction->streak = 0;
    else if (direction->streak < UINT16_MAX)
        direction->streak++;
}

void relay_discard(struct session *session, unsigned from)
{
    struct direction *direction = &session->direction[from];

    session->lost += direction->engine->release(direction, &session->tcp->tools);
    direction->finished = true;
}

static enum session_end_reason reason_of(unsigned side, int error)
{
    switch (error) {
    case ECONNRESET:
    case EPIPE: /* a reset that came after the side's FIN (tcp_reset in CLOSE_WAIT) */
    case ECONNABORTED:
    case ECONNREFUSED:
        return side == CLIENT ? SESSION_END_CLIENT_RESET : SESSION_END_SERVER_RESET;
    default:
        return side == CLIENT ? SESSION_END_CLIENT_LOST : SESSION_END_SERVER_LOST;
    }
}

/*
 * Connected a moment ago, and nothing went to the server or came from it: the client cannot know
 * that there was one. Its kernel took the connection, and its program died or refused it. Later,
 * the reset is an answer.
 */
static bool untouched(const struct session *session)
{
    if (session->state != SESSION_RELAYING ||
        session->tcp->now_ms - session->activity_ms > UNTOUCHED_MS)
        return false;
    for (unsigned from = CLIENT; from <= SERVER; from++) {
        const struct direction *direction = &session->direction[from];
        if (direction->bytes > 0 || direction->pending > 0 || direction->eof)
            return false;
    }
    return socket_unread(session->side[SERVER].fd) == 0;
}

void relay_failed(struct session *session, unsigned side, int error)
{
    struct tcp *tcp = session->tcp;

    if (session->side[side].error != 0)
        return;
    session->side[side].error = error;
    if (session->state == SESSION_RESETTING) {
        /* Nobody is left to deliver to; the side that failed first stays the reason. */
        session_end(session, reason_of(session->failed, session->side[session->failed].error));
        return;
    }
    if (socket_error_is_ours(error)) {
        /* The side itself lives: there is no end of it to wait for. */
        session_end(session, SESSION_END_NO_RESOURCES);
        return;
    }
    if (side == SERVER && untouched(session) && session_move(session, error))
        return;
    if (side == SERVER && session->direction[SERVER].bytes == 0)
        tcp->env.suspect(tcp->env.owner, session->server);
    relay_discard(session, !side);
    session->failed = (uint8_t)side;
    session->side[side].readable = true;
    session->side[side].hup = true;
    session->deadline_ms = tcp->now_ms + session->policy->reset_flush_timeout_ms;
    session_set_state(session, SESSION_RESETTING);
}

static void direction_finished(struct session *session, unsigned from)
{
    struct direction *direction = &session->direction[from];

    direction->finished = true;
    if (session->state == SESSION_RESETTING)
        return;
    if (session->direction[!from].finished) {
        session_end(session, SESSION_END_DONE);
        return;
    }
    /* ENOTCONN: the other side is gone, which its own event tells. */
    (void)shutdown(session->side[!from].fd, SHUT_WR);
    direction->fin_sent = true;
    /* The silence that half_close_timeout bounds begins with the FIN. */
    session->activity_ms = session->tcp->now_ms;
    session_set_state(session, SESSION_HALF_CLOSED);
}

static void pumped(struct session *session, unsigned from, enum pump_result result,
                   const struct pump_io *io)
{
    struct side *source = &session->side[from];

    session->lost += io->lost;
    if (io->urgent)
        source->urgent = true;
    if (io->emptied)
        source->urgent = false;
    switch (result) {
    case PUMP_WANT_READ:
        /* A splice takes an urgent mark for the end of what is there: copy looks again. */
        if (source->urgent)
            poller_queue(session->tcp->env.poller, &session->task);
        else
            source->readable = false;
        break;
    case PUMP_WANT_WRITE:
        session->side[!from].writable = false;
        break;
    case PUMP_UNABLE:
        metrics_add(session->tcp->env.metrics, METRIC_SPLICE_REFUSED, 1);
        break;
    case PUMP_AGAIN:
        poller_queue(session->tcp->env.poller, &session->task);
        break;
    case PUMP_EOF:
        direction_finished(session, from);
        break;
    case PUMP_READ_ERROR:
        if (source->error != 0)
            session->direction[from].finished = true;
        else
            relay_failed(session, from, io->error);
        break;
    case PUMP_WRITE_ERROR:
        relay_failed(session, !from, io->error);
        break;
    case PUMP_NO_MEMORY:
        session_end(session, SESSION_END_NO_RESOURCES);
        break;
    }
}

static bool can_pump(const struct session *session, unsigned from)
{
    const struct direction *direction = &session->direction[from];

    if (session->state < SESSION_RELAYING || session->state > SESSION_RESETTING)
        return false;
    if (direction->finished || session->side[!from].error != 0)
        return false;
    return direction->pending > 0 ? session->side[!from].writable : session->side[from].readable;
}

static void pump(struct session *session, unsigned from)
{
    struct direction *direction = &session->direction[from];
    struct side *source = &session->side[from];
    struct engine_tools *tools = &session->tcp->tools;
    bool is_untuned = from == CLIENT && !session->tuned;
    struct pump_io io = {.from = source->fd,
                         .to = session->side[!from].fd,
                         .budget = is_untuned ? UNTUNED_BUDGET : PUMP_BUDGET};
    uint64_t before = direction->bytes;
    enum pump_result result;

    if (!can_pump(session, from))
        return;
    io.to_the_end = source->hup || source->urgent;
    choose_engine(session, from);
    result = direction->engine->pump(direction, &io, tools);
    if (result == PUMP_UNABLE) {
        /* No pipe to be had, or not between these sockets: copy, and ask for splice again much
         * later. */
        direction->engine = &engine_copy;
        direction->streak = 0;
        pumped(session, from, PUMP_UNABLE, &io);
        result = engine_copy.pump(direction, &io, tools);
    }
    /* A second piece has gone: this is no short session. A FIN alone is none. */
    if (is_untuned && before > 0 && direction->bytes > before)
        session_tune(session);
    relay_count(session, from, direction->bytes - before);
    note_size(direction, direction->bytes - before, tools->scratch_size);
    pumped(session, from, result, &io);
}

void relay_flush(struct session *session)
{
    const struct direction *direction = &session->direction[session->failed];
    const struct side *receiver = &session->side[!session->failed];
    enum session_end_reason reason =
        reason_of(session->failed, session->side[session->failed].error);
    uint32_t unsent = receiver->error != 0 ? 0 : session_unsent(session, !session->failed);

    if (direction->finished && direction->pending == 0 && unsent == 0) {
        session_end(session, reason);
        return;
    }
    if (session->tcp->now_ms >= session->deadline_ms)
        session_end(session, reason);
}

void relay_both(struct session *session)
{
    pump(session, CLIENT);
    pump(session, SERVER);
    if (session->state == SESSION_RESETTING) {
        /* The failed side's last bytes may have become readable only now. */
        pump(session, session->failed);
        if (session->state == SESSION_RESETTING)
            relay_flush(session);
    }
}

static int take_error(int fd)
{
    int error = 0;
    socklen_t length = sizeof(error);

    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0 ? errno : error;
}

void relay_event(struct session *session, unsigned side, uint32_t events)
{
    if (events & EPOLLERR) {
        int error = take_error(session->side[side].fd);
        if (error != 0)
            relay_failed(session, side, error);
    }
    relay_both(session);
}
