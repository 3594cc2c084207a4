"""TCP: weir, HAProxy and nginx."""
import collections
import contextlib
import functools
import itertools
import time

from comparing.rows import row
from lib.balancers import BALANCERS, Settings
from lib.faults import FAULTS
from lib.load import Caller
from lib.meeting import Meeting
from lib.netns import Namespace
from lib.resets import CLOSES, RESETS
from lib.servers import Nginx
from lib.transfer import (
    FIRST_FIN, HUGE, SIZES, in_segments, transfer, trickle, urgent_at, whole, with_fin)
from lib.wait import eventually

# What hangs at a peer need not hang for long, nor often.
PATIENCE_SECONDS = 5
GIVE_UP_AFTER = 3


# ---- rows 3 and 5: both ends of a session in our hands ----

# The way that the payload takes, and whether Meeting.meet's ends are to be turned for it.
WAYS = {"client → server": 1, "server → client": -1}


def tried(times, meeting, front, way, *steps):
    """Takes each step so often, with the ends of a new session: how many went well, and what went
    wrong most often."""
    good, wrong = 0, collections.Counter()
    for step in steps * times:
        try:
            with contextlib.ExitStack() as closing:
                step(*[closing.enter_context(end) for end in meeting.meet(front)[::WAYS[way]]])
            good += 1
        except (AssertionError, OSError) as error:
            wrong[str(error).split("\n", 1)[0]] += 1
        if good == 0 and wrong.total() == GIVE_UP_AFTER:
            break
    told = f"{good} of {good + wrong.total()}{', given up' if good == 0 else ''}"
    return told + "".join(f": {what}" for what, _ in wrong.most_common(1))


@contextlib.contextmanager
def met(kind, settings=Settings()):
    """(meeting, the balancer's address)"""
    with Meeting(timeout=PATIENCE_SECONDS) as meeting, kind([meeting], settings) as front:
        yield meeting, front.address


# ---- row 3 ----

ROW_3 = Settings(half_close_timeout=2000)
MANNERS = {"": whole, ", 1,400-byte segments": in_segments,
           ", data and FIN in one segment": with_fin, ", the last byte urgent": urgent_at(-1)}


def trickled(sender, receiver):
    """Bytes for three times the half-close timeout after the other end's FIN."""
    timeout = ROW_3.half_close_timeout / 1000
    trickle([(receiver, sender)], timeout / 4, 12)


@row(3, f"transfers of {', '.join(map(str, SIZES))} bytes that arrive whole, with the FIN passed on "
        "and the other direction whole", BALANCERS)
def arrives_whole(kind):
    with met(kind, ROW_3) as (meeting, front):
        for way, (manner, send), first in itertools.product(WAYS, MANNERS.items(), FIRST_FIN):
            steps = [functools.partial(transfer, size=size, first=first, send=send)
                     for size in SIZES if size > 0 or send in (whole, in_segments)]
            yield f"{way}{manner}, {first}'s FIN first", tried(20, meeting, front, way, *steps)
        for way in WAYS:
            huge = functools.partial(transfer, size=HUGE)
            yield f"{way}, {HUGE} bytes", tried(1, meeting, front, way, huge)
            yield f"{way}, a trickle", tried(1, meeting, front, way, trickled)


# ---- row 5 ----

@row(5, "a RST arrives as a RST within its time and after every byte, a FIN as a FIN", BALANCERS)
def ends_truly(kind):
    with met(kind) as (meeting, front):
        for word, leaves in (("RST", RESETS), ("FIN", CLOSES)):
            for leave in leaves:
                for way in WAYS:
                    case = f"{word}, {leave.__name__.replace('_', ' ')}, {way}"
                    yield case, tried(200, meeting, front, way, leave)


# ---- row 17 ----

ROW_17 = Settings(connect_timeout=500, interval=200, workers=2)
# So long a fault lasts that the balancer does not notice.
UNNOTICED_SECONDS = 3


class Hits:
    """One of three nginx fails under 1,000 new connections a second, and comes back."""

    def __init__(self, kind, fault, cleanup):
        self.space = Namespace()
        cleanup.callback(self.space.discard)
        self.servers = [Nginx(name, wrap=self.space.wrap) for name in "abc"]
        for server in self.servers:
            cleanup.callback(server.discard)
            server.start()
        self.front = cleanup.enter_context(kind(self.servers, ROW_17, wrap=self.space.wrap))
        self.load = Caller(self.front.address, lanes=600, rate=1000, timeout=10000,
                           wrap=self.space.wrap)
        cleanup.callback(self.load.discard)
        self.fault = fault(self.servers[1], self.space)
        cleanup.callback(self.fault.clean)

    def wait_known(self, begun):
        """Waits until the balancer has taken the server out, but not for ever; what came of it."""
        def known_or_late():
            return self.front.knows_down("b") or time.time() - begun >= UNNOTICED_SECONDS
        eventually(known_or_late, 2 * UNNOTICED_SECONDS)
        if self.front.knows_down("b") is None:
            return "no word of it"
        took = time.time() - begun
        return f"down after {took:.1f} s" if self.front.knows_down("b") else "not taken out"

    def run(self):
        self.load.start()
        self.load.wait_calls(500)
        self.fault.begin()
        begun = time.time()
        known = self.wait_known(begun)
        self.load.wait_calls(500, timeout=30)
        self.fault.end()
        self.load.wait_calls(500, timeout=30)
        return self.tell(self.load.end(), begun, known)

    @staticmethod
    def tell(calls, begun, known):
        failed = [call.begin for call in calls if not call.ok]
        before = sum(begin <= begun for begin in failed)
        slowest = max(call.end - call.begin for call in calls)
        return f"{before} + {len(failed) - before} failed, slowest {slowest:.1f} s, {known}"


@row(17, "one of three servers fails under 1,000 new connections a second "
         "(failed calls: begun before + after the fault)", BALANCERS)
def server_fails(kind):
    for name, fault in FAULTS.items():
        with contextlib.ExitStack() as cleanup:
            yield name, Hits(kind, fault, cleanup).run()
