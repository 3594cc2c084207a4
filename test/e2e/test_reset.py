"""A RST is passed on as a RST and a FIN as a FIN: TESTING.md row 5.

Each case with each relay engine, in each direction, 200 times.
"""
import pytest

from lib.meeting import Meeting
from lib.resets import CLOSES, IN_FLIGHT, RESETS, in_flight, closed_in_flight

TIMES = 200
ENGINES = ("off", "on", "auto")

engines = pytest.mark.parametrize("splice", ENGINES)
sides = pytest.mark.parametrize("side", ["client", "server"])


def run(weir, splice, side, leave):
    """TIMES sessions that `side` leaves in that manner. Returns their access lines."""
    with Meeting() as meeting:
        w = weir([meeting.address], listener={"splice": splice})
        for _ in range(TIMES):
            client, server = meeting.meet(w.address)
            leave(*((client, server) if side == "client" else (server, client)))
            client.close()
            server.close()
        lines = w.wait_access(TIMES)
    assert len(lines) == TIMES
    sent = IN_FLIGHT if leave in (in_flight, closed_in_flight) else None
    key = "bytes_in" if side == "client" else "bytes_out"
    assert all(line["bytes_lost"] == 0 and sent in (None, line[key]) for line in lines)
    return lines


@engines
@sides
@pytest.mark.parametrize("leave", RESETS, ids=lambda leave: leave.__name__)
def test_a_reset_arrives_as_one(weir, splice, side, leave):
    lines = run(weir, splice, side, leave)
    assert {(line["end"], line["by"]) for line in lines} == {(f"{side}-reset", side)}


@engines
@sides
@pytest.mark.parametrize("leave", CLOSES, ids=lambda leave: leave.__name__)
def test_a_close_arrives_as_one(weir, splice, side, leave):
    lines = run(weir, splice, side, leave)
    assert {(line["end"], line["by"]) for line in lines} == {("done", "both")}
