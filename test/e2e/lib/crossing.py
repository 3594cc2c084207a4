"""Two machines with a veth between them, for datagrams of every size by every address.

Needs no pytest: scripts/compare takes the same steps through nginx.
"""
import random

from lib.netns import Namespace, veth

OUTSIDE = {4: "10.98.0.1", 6: "fd98::1"}
INSIDE = {4: ["10.98.0.2", "10.98.0.12", "10.98.0.13"], 6: ["fd98::2", "fd98::12", "fd98::13"]}
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
PORT = 5353

_noise = random.Random(15).randbytes(1 << 16)


class Crossing:
    """Clients and servers `outside`, the balancer `inside`, where it has three addresses of each
    family."""

    def __init__(self):
        self.outside, self.inside = Namespace(), Namespace()
        for family, prefix, extra in ((4, 24, ()), (6, 64, ("nodad",))):
            first, *more = INSIDE[family]
            veth(self.outside, self.inside, f"{OUTSIDE[family]}/{prefix}", f"{first}/{prefix}")
            for address in more:
                self.inside.run("ip", "address", "add", f"{address}/{prefix}", "dev",
                                device(self.inside, first), *extra)

    def discard(self):
        self.outside.discard()
        self.inside.discard()


def device(namespace, address):
    """The one that has it."""
    return namespace.run("ip", "-o", "address", "show", "to", address).split()[1]


def payload(size):
    """No two sizes begin alike."""
    return _noise[-size:] if size else b""


def answer(data, _source):
    """What the server says: to a number a payload of that size, to anything else a word."""
    return [payload(int(data)) if data.isdigit() else b"got"]
