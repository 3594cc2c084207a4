"""Ways in which a server fails while it serves: TESTING.md row 17. Each begins and ends.

A fault takes a server and the namespace in which it, the balancer and the clients run.
"""
import signal
import sys
from pathlib import Path

from lib.servers import Server


class Fault:
    def __init__(self, server, namespace):
        self.server = server
        self.namespace = namespace

    def begin(self):
        raise NotImplementedError

    def end(self):
        """The server is as it was before."""
        raise NotImplementedError

    def clean(self):
        """In any case, at the end of a test."""


class _Filter(Fault):
    """What a packet filter before the server does."""
    rule = None

    def begin(self):
        self.namespace.nft(f"tcp dport {self.server.port} {self.rule}")

    def end(self):
        self.namespace.nft_clear()


class Refuses(_Filter):
    """New connections are answered with RST, as by a machine where nobody listens."""
    rule = "tcp flags syn reject with tcp reset"


class DropsSyn(_Filter):
    """New connections are not answered."""
    rule = "tcp flags syn drop"


class Unreachable(_Filter):
    """No packet arrives any more, and a router says so. Open connections only stall."""
    rule = "reject with icmp type host-unreachable"


class IcmpRefuses(_Filter):
    """New connections are refused by ICMP, as by a firewall."""
    rule = "tcp flags syn reject with icmp type port-unreachable"


class Stops(Fault):
    """The process hangs. The kernel goes on to complete handshakes for it."""

    def begin(self):
        self.server.signal(signal.SIGSTOP)

    def end(self):
        self.server.signal(signal.SIGCONT)


class Killed(Fault):
    """The process dies with SIGKILL."""

    def begin(self):
        self.server.kill()

    def end(self):
        self.server.start()


class Resetter(Server):
    """Accepts each connection and resets it."""

    def command(self):
        root = str(Path(__file__).resolve().parents[1])
        code = ("import sys, threading\n"
                f"sys.path.insert(0, {root!r})\n"
                "from lib.peers import TcpServer, reset_at_once\n"
                f"server = TcpServer(reset_at_once, {self.host!r}, {self.port})\n"
                "threading.Event().wait()\n")
        return [sys.executable, "-c", code]


class AcceptsAndResets(Fault):
    """Something else listens in the server's place, and resets whoever comes."""

    def __init__(self, server, namespace):
        super().__init__(server, namespace)
        self.impostor = Resetter(server.host, server.port, namespace.wrap)

    def begin(self):
        self.server.kill()
        self.impostor.start()

    def end(self):
        self.clean()
        self.server.start()

    def clean(self):
        self.impostor.discard()


FAULTS = {
    "refuses": Refuses,
    "drops SYN": DropsSyn,
    "accepts and resets": AcceptsAndResets,
    "stops": Stops,
    "unreachable": Unreachable,
    "ICMP": IcmpRefuses,
}
