"""Clients, weir and servers on machines of their own: three namespaces in a row, joined by veth."""
import contextlib
import sys

from lib.netns import namespaces, veth
from lib.servers import Process
from lib.wait import eventually

CLIENT, FRONT = "10.99.1.1", "10.99.1.2"  # FRONT: weir's, towards the clients
CLIENT6, FRONT6 = "fd99:1::1", "fd99:1::2"
BACK6, SERVER6 = "fd99:2::1", "fd99:2::11"
BACK, SERVERS = "10.99.2.1", [f"10.99.2.{number}" for number in (11, 12, 13)]


class Road:
    """`clients`, `weir` and `servers`: namespaces that `discard` removes. There are three servers,
    each with an address of its own."""

    def __init__(self, mtu=1500, back_mtu=None):
        """back_mtu: between weir and the servers, where that is another."""
        with contextlib.ExitStack() as made:
            self.clients, self.weir, self.servers = namespaces(made, 3)
            veth(self.clients, self.weir, f"{CLIENT}/24", f"{FRONT}/24", mtu)
            veth(self.weir, self.servers, f"{BACK}/24", f"{SERVERS[0]}/24", back_mtu or mtu)
            for address in SERVERS[1:]:
                self.servers.run("ip", "address", "add", f"{address}/24", "dev",
                                 devices(self.servers)[0])
            self.discard = made.pop_all().close

    def join_arrivals(self):
        """From now on weir's devices join datagrams that arrive close together (GRO). Without more
        a veth hands each over by itself: it takes its peer to have joined them."""
        for device in devices(self.weir):
            self.weir.run("ethtool", "-K", device, "gro", "on", "rx-udp-gro-forwarding", "on")
            self.weir.run("sh", "-c", f"echo 1 > /sys/class/net/{device}/threaded")

    def add_ipv6(self):
        """Each of the three has addresses of both families; there is one server of IPv6."""
        for namespace, index, address in ((self.clients, 0, CLIENT6), (self.weir, 0, FRONT6),
                                          (self.weir, 1, BACK6), (self.servers, 0, SERVER6)):
            namespace.run("ip", "address", "add", f"{address}/64", "dev",
                          devices(namespace)[index], "nodad")

    def add_client(self, address):
        """One more address of the clients' end, with its prefix."""
        extra = ("nodad",) if ":" in address else ()
        self.clients.run("ip", "address", "add", address, "dev", devices(self.clients)[0], *extra)

    def route_by_weir(self):
        """The servers' way to everybody is weir."""
        self.servers.run("ip", "route", "add", "default", "via", BACK)
        self.servers.run("ip", "-6", "route", "add", "default", "via", BACK6)

    def take_in(self, commands):
        """Has weir's machine take the servers' answers to clients in, by these commands: docs/edge.md
        calls eth1 what leads to the servers."""
        for command in commands:
            self.weir.run("sh", "-c", command.replace("eth1", devices(self.weir)[1]))


def devices(namespace):
    """The names of a namespace's ends of veth pairs."""
    links = namespace.run("ip", "-o", "link", "show", "type", "veth").splitlines()
    return [link.split(": ")[1].partition("@")[0] for link in links]


class IcmpEar(Process):
    """Hears what ICMP says to a namespace of destinations that are unreachable."""

    CODE = """
import socket, struct
SO_TIMESTAMPNS = 35
ear = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
ear.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
print("hears", flush=True)
while True:
    data, control, _, (source, _) = ear.recvmsg(2048, 256)
    if data[20] == 3:
        seconds, nanoseconds = struct.unpack("qq", control[0][2][:16])
        print(f"{seconds}.{nanoseconds:09d}", source, flush=True)
"""

    def command(self):
        return [sys.executable, "-c", self.CODE]

    def start(self):
        super().start()
        eventually(lambda: "hears" in self.output(), 5, "the ear is open")
        return self

    def times(self, source):
        """When the kernel got each that came from this address: seconds since 1970."""
        lines = (line.split() for line in self.output().split("\n")[1:-1])
        return [float(when) for when, who in lines if who == source]
