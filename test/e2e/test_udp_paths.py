"""Datagrams of every size, by every address: whole or counted, and answered from where they were
sent to. TESTING.md row 15."""
import socket

import pytest

from lib.crossing import INSIDE, LOOPBACK, OUTSIDE, PORT, Crossing, answer, device, payload
from lib.ports import join
from lib.udp import UDP_SEGMENT, Client, listener
from lib.wait import eventually

SIZES = (0, 1, 1452, 1453, 1472, 1473, 8972, 65487, 65507)
HEADERS = {4: 28, 6: 48}  # of IP and UDP
MTU = {"loopback": 65536, "veth": 1500}


@pytest.fixture
def road():
    made = Crossing()
    yield made
    made.discard()


def drops(weir, name="too_large"):
    return weir.admin("show counters")[f"udp_dropped_{name}"]


# ---- sizes ----

class Sizes:
    """A client, weir and a server; what each size becomes in each direction."""

    def __init__(self, weir, client, server, most):
        self.weir, self.client, self.server, self.most = weir, client, server, most

    def is_dropped(self, act):
        before = drops(self.weir)
        act()
        eventually(lambda: drops(self.weir) == before + 1, 5, "it is dropped and counted")

    def check_request(self, size):
        before = len(self.server.seen)
        if size > self.most:
            self.is_dropped(lambda: self.client.send(payload(size)))
            return
        assert self.client.ask(payload(size)) == b"got", f"{size} bytes to the server"
        assert [data for data, _ in self.server.seen[before:]] == [payload(size)]

    def check_reply(self, size):
        if size > self.most:
            self.is_dropped(lambda: self.client.send(b"%d" % size))
        else:
            assert self.client.ask(b"%d" % size) == payload(size), f"{size} bytes to the client"

    def check(self):
        for size in SIZES:
            self.check_request(size)
            self.check_reply(size)
        # None of it came in addition, and the flow has lived through it.
        assert self.client.ask(b"1") == payload(1)
        assert self.client.waiting() == []
        assert self.weir.admin("status")["flows"] == 1
        print(f"{drops(self.weir)} dropped as too large")


@pytest.mark.parametrize("fragment", [True, False])
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("path", ["loopback", "veth"])
def test_sizes(weir, udp_server, road, path, family, fragment):
    if path == "loopback":
        server, options, place = udp_server(answer, LOOPBACK[family]), {}, None
        keys = listener(LOOPBACK[family], udp_fragment=fragment)
    else:
        server, place = udp_server(answer, OUTSIDE[family], namespace=road.outside), road.outside
        options = {"wrap": road.inside.wrap}
        keys = {**listener(udp_fragment=fragment), "bind": join(INSIDE[family][0], PORT)}
    w = weir([server.address], listener=keys, **options)
    most = max(SIZES) if fragment else MTU[path] - HEADERS[family]
    with Client(w.address, namespace=place) as client:
        Sizes(w, client, server, most).check()


@pytest.mark.parametrize("fragment", [True, False])
def test_a_train_of_datagrams_that_the_way_on_does_not_take(weir, udp_server, road, fragment):
    """What came joined over a wide way must leave singly, in fragments or not at all."""
    server = udp_server(answer, OUTSIDE[4], namespace=road.outside)
    w = weir([server.address], wrap=road.inside.wrap, listener=listener(udp_fragment=fragment))
    with Client(w.address, namespace=road.inside) as client:
        client.ask(b"1")  # the flow is there
        client.sock.setsockopt(socket.SOL_UDP, UDP_SEGMENT, 8000)
        client.send(payload(60000))
        if fragment:
            assert [client.receive() for _ in range(8)] == [b"got"] * 8
            seen = [data for data, _ in server.seen[1:]]
            assert b"".join(seen) == payload(60000)
            assert list(map(len, seen)) == [8000] * 7 + [4000]
        else:
            eventually(lambda: drops(w) == 8, 5, "all are dropped and counted")
            assert len(server.seen) == 1
        assert w.admin("show counters")["udp_gro_datagrams"] == 8


# ---- addresses ----

def asks(front, namespace, source=None):
    """A client's exchange with an address of weir's; its own as weir tells it."""
    with Client(front, source, namespace=namespace) as client:
        assert client.ask(b"7") == payload(7)
        assert client.ask() == b"got"
        return client.address


WILDCARDS = [("0.0.0.0", True, [4]), ("::", True, [6]), ("::", False, [4, 6])]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("host, v6only, families", WILDCARDS)
def test_replies_come_from_the_address_that_was_used(weir, udp_server, road, host, v6only,
                                                     families, workers):
    """Client checks it. Whatever the family of the server."""
    servers = [udp_server(answer, OUTSIDE[family], namespace=road.outside) for family in (4, 6)]
    w = weir([server.address for server in servers], wrap=road.inside.wrap,
             weir={"workers": workers},
             listener={**listener(), "bind": join(host, PORT), "v6only": v6only})
    clients = []
    for family in families:
        for address in INSIDE[family]:
            clients += [asks((address, PORT), road.outside) for _ in range(4)]
        clients += [asks((LOOPBACK[family], PORT), road.inside)]
    if 4 in families:
        clients.append(asks(("127.0.0.77", PORT), road.inside))
    # IPv4 clients are told as such, also where they came over an IPv6 socket.
    assert {row["client"] for row in w.admin("show flows")} == set(clients)
    assert all(server.seen for server in servers)


@pytest.mark.parametrize("host, v6only, family", [("0.0.0.0", True, 4), ("::", False, 4),
                                                  ("::", True, 6)])
def test_one_client_and_several_addresses(weir, udp_server, road, host, v6only, family):
    """A client is another flow by each address that it uses, though its own is the same."""
    server = udp_server(answer, OUTSIDE[family], namespace=road.outside)
    w = weir([server.address], wrap=road.inside.wrap,
             listener={**listener(), "bind": join(host, PORT), "v6only": v6only})
    with Client((INSIDE[family][0], PORT), namespace=road.outside) as client:
        for address in INSIDE[family] * 2:
            client.front = (address, PORT)
            assert client.ask() == b"got"
        rows = w.admin("show flows")
        assert {row["client"] for row in rows} == {client.address}
    assert [row["datagrams_out"] for row in rows] == [2] * len(INSIDE[family])


def link_local(namespace, name):
    """(address, the number of its interface), once nobody else is found to have it."""
    def shown():
        return namespace.run("ip", "-o", "-6", "address", "show", "dev", name, "scope", "link",
                             "-tentative")
    number, _, _, address = eventually(shown, 5, "the address is there").split()[:4]
    return address.partition("/")[0], int(number.rstrip(":"))


def test_a_link_local_address(weir, udp_server, road):
    server = udp_server(answer, OUTSIDE[6], namespace=road.outside)
    w = weir([server.address], wrap=road.inside.wrap,
             listener={**listener(), "bind": f"[::]:{PORT}"})
    inside, _ = link_local(road.inside, device(road.inside, INSIDE[6][0]))
    outside, scope = link_local(road.outside, device(road.outside, OUTSIDE[6]))
    asks((inside, PORT, 0, scope), road.outside, source=(outside, 0, 0, scope))
    assert w.admin("show flows")[0]["datagrams_out"] == 2
