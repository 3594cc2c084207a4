"""Bytes arrive, and a FIN is passed on as a FIN: TESTING.md row 3.

Each case with each relay engine, in each direction.
"""
import contextlib
import socket

import pytest

from lib.meeting import Meeting, wait_for_reset
from lib.peers import read_exactly, read_to_fin
from lib.ports import free_port
from lib.transfer import (ANSWER_SIZE, FIRST_FIN, HUGE, SEGMENT, SIZES, exchange, in_segments,
                          trickle, transfer, urgent_at, with_fin)

ENGINES = ("off", "on", "auto")
DIRECTIONS = ("in", "out")

engines = pytest.mark.parametrize("splice", ENGINES)
directions = pytest.mark.parametrize("direction", DIRECTIONS)


@pytest.fixture
def meeting():
    with Meeting() as made:
        yield made


def ordered(direction, client, server):
    """(sender, receiver) of the payload."""
    return (client, server) if direction == "in" else (server, client)


def run(weir, meeting, splice, direction, transfers):
    """Each transfer in a session of its own, and in its access line every byte, none lost.

    `transfers` are dicts of arguments to lib.transfer.transfer. Returns the lines."""
    w = weir([meeting.address], listener={"splice": splice})
    transfers = list(transfers)
    for how in transfers:
        with contextlib.ExitStack() as closing:
            ends = map(closing.enter_context, meeting.meet(w.address))
            transfer(*ordered(direction, *ends), **how)
    lines = w.wait_access(len(transfers))
    assert len(lines) == len(transfers)
    payload_key, answer_key = ordered(direction, "bytes_in", "bytes_out")
    for line, how in zip(lines, transfers):
        told = {key: line[key] for key in ("end", "by", payload_key, answer_key, "bytes_lost")}
        assert told == {"end": "done", "by": "both", payload_key: how["size"],
                        answer_key: ANSWER_SIZE, "bytes_lost": 0}
    return lines


def engine_of(splice):
    return "copy" if splice == "off" else "splice"


@engines
@directions
def test_every_size_arrives_whole(weir, meeting, splice, direction):
    lines = run(weir, meeting, splice, direction, (
        {"size": size, "first": first} for size in SIZES for first in FIRST_FIN))
    if splice != "auto":  # which may take either for what is small
        assert {line["engine"] for line in lines} == {engine_of(splice)}


@engines
@directions
def test_a_quarter_gigabyte_arrives_whole(weir, meeting, splice, direction):
    line, = run(weir, meeting, splice, direction, [{"size": HUGE}])
    assert line["engine"] == engine_of(splice)


@engines
@directions
def test_segments_of_1400_bytes(weir, splice, direction):
    with Meeting(options=[(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)]) as meeting:
        run(weir, meeting, splice, direction, (
            {"size": size, "first": first, "send": in_segments}
            for size in SIZES for first in FIRST_FIN))


@engines
@directions
def test_data_and_fin_in_one_segment(weir, meeting, splice, direction):
    run(weir, meeting, splice, direction, (
        {"size": size, "first": first, "send": with_fin}
        for size in SIZES if size > 0 for first in FIRST_FIN))


@engines
@directions
def test_an_urgent_byte_keeps_its_place(weir, meeting, splice, direction):
    """The receiver finds it in the stream, as one with SO_OOBINLINE would of a direct sender."""
    run(weir, meeting, splice, direction, (
        {"size": size, "first": first, "send": urgent_at(position)}
        for size in (1001, 300001, 4 << 20) for position in (0, 1000, 300000, -1)
        if position < size for first in FIRST_FIN))


@engines
@directions
def test_urgent_bytes_do_not_wait_for_more(weir, meeting, splice, direction):
    w = weir([meeting.address], listener={"splice": splice})
    client, server = meeting.meet(w.address)
    sender, receiver = ordered(direction, client, server)
    for turn in range(20):
        sender.send(b"u", socket.MSG_OOB)
        assert read_exactly(receiver, 1) == b"u"
        sender.sendall(b"n" * 5000 * turn + b"u")
        assert read_exactly(receiver, 5000 * turn + 1) == b"n" * 5000 * turn + b"u"
    transfer(sender, receiver, 1 << 20)


@engines
@directions
def test_a_receiver_with_a_tiny_buffer(weir, splice, direction):
    """Partial writes, thousands of them."""
    with Meeting(options=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)]) as meeting:
        run(weir, meeting, splice, direction, ({"size": size} for size in SIZES))


@engines
def test_both_ways_at_once(weir, meeting, splice):
    w = weir([meeting.address], listener={"splice": splice})
    for size in SIZES:
        exchange(*meeting.meet(w.address), size)
    for line, size in zip(w.wait_access(len(SIZES)), SIZES):
        assert (line["end"], line["bytes_in"], line["bytes_out"]) == ("done", size, size)


# ---- the open direction lives as long as bytes pass ----

def test_a_trickle_outlives_the_half_close_timeout(weir, meeting):
    """Three times the timeout, in each direction with each engine; beside them a session that is
    as old and silent ends at the timeout."""
    timeout = 2
    listeners = [{"name": splice, "pool": "web", "bind": f"127.0.0.1:{free_port()}",
                  "splice": splice, "half_close_timeout": f"{timeout}s"} for splice in ENGINES]
    w = weir([meeting.address], listeners=listeners)
    pairs = []
    for direction in DIRECTIONS:
        for listener in listeners:
            host, port = listener["bind"].split(":")
            pairs.append(ordered(direction, *meeting.meet((host, int(port)))))
    silent, far = meeting.meet(w.address)
    silent.shutdown(socket.SHUT_WR)
    assert read_to_fin(far) == b""

    trickle(pairs, timeout / 4, 12)
    wait_for_reset(silent, 0)
    ends = [(line["end"], line["by"]) for line in w.wait_access(7)]
    assert ends[0] == ("half-close-timeout", "weir")
    assert ends[1:] == [("done", "both")] * 6
