"""A client behind a router: three namespaces in a row, and what the client's network shows."""
import contextlib
import select
import socket
import struct
import time

from lib.netns import namespaces, veth

WEIR = {4: "10.96.2.1", 6: "fd96:2::1"}
ETH_P_ALL = 3
FIN, RST = 1, 4


class Behind:
    """`client`, `router` and `weir`: namespaces that `discard` removes."""

    def __init__(self):
        with contextlib.ExitStack() as made:
            self.client, self.router, self.weir = namespaces(made, 3)
            for net, left, right in ((1, self.client, self.router), (2, self.weir, self.router)):
                veth(left, right, f"10.96.{net}.1/24", f"10.96.{net}.2/24")
                veth(left, right, f"fd96:{net}::1/64", f"fd96:{net}::2/64")
                left.run("ip", "route", "add", "default", "via", f"10.96.{net}.2")
                left.run("ip", "-6", "route", "add", "default", "via", f"fd96:{net}::2")
            self.router.sysctl("net.ipv4.ip_forward", 1)
            self.router.sysctl("net.ipv6.conf.all.forwarding", 1)
            self.discard = made.pop_all().close

    def connect(self, address):
        """A client, and what its network has for it: see Capture."""
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        with self.client.entered():
            client = socket.socket(family)
            client.bind(("", 0))
            capture = Capture(client.getsockname()[1])
        client.settimeout(10)
        with contextlib.suppress(ConnectionResetError):  # a reset may overtake the call
            client.connect(address)
        return client, capture


class Capture:
    """All that arrives in the namespace that it is made in for one TCP port."""

    def __init__(self, port):
        self._port = struct.pack("!H", port)
        self._ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._ear.close()

    def flags(self, seconds):
        """Of each segment that comes in so many seconds."""
        seen, until = [], time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([self._ear], [], [], left)[0]:
                frame, where = self._ear.recvfrom(65536)
                segment = where[2] != socket.PACKET_OUTGOING and _segment(frame)
                seen += [segment[13]] if segment and segment[2:4] == self._port else []
        return seen


def _segment(frame):
    """TCP's, or nothing."""
    kind, packet = struct.unpack("!H", frame[12:14])[0], frame[14:]
    if kind == 0x0800 and packet[9] == socket.IPPROTO_TCP:
        return packet[4 * (packet[0] & 15):]
    return packet[40:] if kind == 0x86DD and packet[6] == socket.IPPROTO_TCP else b""
