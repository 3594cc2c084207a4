"""From where servers are connected to: addresses of weir's own, and `source = "client"` with the
routing that docs/edge.md tells of, between three machines.

TESTING.md, issue 4: a server in its own namespace sees the client's address, TCP and UDP.
"""
import contextlib
import re
import socket

import pytest

from lib import proxyproto as proxy
from lib import road as places
from lib.peers import TIMEOUT, TcpServer, echo, read_exactly, read_to_reset
from lib.ports import join
from lib.road import BACK, BACK6, CLIENT, CLIENT6, FRONT, FRONT6, SERVER6, SERVERS, Road
from lib.transfer import exchange
from lib.udp import Client, listener
from lib.udp_peers import UdpServer, udp_socket
from lib.wait import SLOW, eventually
from lib.weir import ROOT

BIG = 32 << 20 if SLOW == 1 else 4 << 20
PORT = 7000

# By family: where clients come in, a server, the clients, weir's own address towards the servers.
FRONTS = {4: FRONT, 6: FRONT6}
SERVER = {4: SERVERS[0], 6: SERVER6}
CLIENTS = {4: [CLIENT, "10.99.1.77"], 6: [CLIENT6, "fd99:1::77"]}
BACKS = {4: BACK, 6: BACK6}


def documented(first):
    """The commands of docs/edge.md, of the block that begins with this one."""
    text = (ROOT / "docs/edge.md").read_text()
    block = re.search(rf"((?:^    .*\n)*^    {re.escape(first)}.*\n(?:^    .*\n)*)", text, re.M)[0]
    return [line.strip() for line in block.splitlines()]


ROUTING = {
    "all that comes": documented("ip rule add iif eth1"),
    "by mark": documented("nft add table inet weir"),
}


@pytest.fixture
def bare_road():
    """Three machines; nothing leads the servers' answers back to weir's sockets."""
    made = Road()
    try:
        made.add_ipv6()
        for client in (f"{CLIENTS[4][1]}/24", f"{CLIENTS[6][1]}/64"):
            made.add_client(client)
        made.route_by_weir()
        yield made
    finally:
        made.discard()


@pytest.fixture(params=ROUTING)
def road(bare_road, request):
    bare_road.take_in(ROUTING[request.param])
    return bare_road


@pytest.fixture
def routed(bare_road):
    """A road with the first of the documented routings."""
    bare_road.take_in(ROUTING["all that comes"])
    return bare_road


@pytest.fixture
def server(bare_road):
    """A TCP server on the servers' machine."""
    with contextlib.ExitStack() as cleanup:
        def make(handler=echo, host=SERVERS[0], port=PORT):
            return cleanup.enter_context(
                TcpServer(handler, host, port, namespace=bare_road.servers))
        yield make


def start(weir, road, servers, family=4, pool=None, **keys):
    """weir on its machine, as two workers of the unprivileged user."""
    return weir(servers, wrap=road.weir.wrap, pool={"source": "client", **(pool or {})},
                listener={"bind": join(FRONTS[family], PORT), **keys}, weir={"workers": 2})


def connect(road, to, source):
    with road.clients.entered():
        return socket.create_connection((to, PORT), TIMEOUT, source_address=(source, 0))


def say(client, data=b"ping"):
    client.sendall(data)
    return read_exactly(client, len(data))


def meet_reset(road, to, source, data=b""):
    """A client that is reset, perhaps before its connect has returned."""
    with contextlib.suppress(ConnectionResetError), connect(road, to, source) as client:
        client.sendall(data)
        assert read_to_reset(client) == b""


def host_of(address):
    return address.rpartition(":")[0].strip("[]")


# ---- the client's ----

@pytest.mark.parametrize("family", [4, 6])
def test_tcp_servers_see_the_client(weir, road, server, family):
    """Each of two clients, beside each other; and probes are weir's."""
    there = server(host=SERVER[family])
    w = start(weir, road, [there.address], family,
              pool={"health": {"type": "tcp", "interval": "1h"}})
    assert there.peers == [BACKS[family]], "the probe"
    clients = []
    for source in CLIENTS[family]:
        clients.append(connect(road, FRONTS[family], source))
        assert say(clients[-1]) == b"ping"
    assert there.peers[1:] == CLIENTS[family]
    assert say(clients[0]) == b"ping"
    for client in clients:
        client.close()
    lines = w.wait_access(2)
    assert {host_of(line["client"]) for line in lines} == set(CLIENTS[family])
    assert {line["end"] for line in lines} == {"done"}


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("splice", ["on", "off"])
def test_tcp_carries_much_both_ways(weir, routed, server, family, splice):
    def hand_out(client):
        taken.append(client)
        done.append(None)
        eventually(lambda: finished, 60, "the test is through with it")

    taken, done, finished = [], [], []
    there = server(hand_out, SERVER[family])
    start(weir, routed, [there.address], family, splice=splice)
    with connect(routed, FRONTS[family], CLIENTS[family][1]) as client:
        eventually(lambda: done, 5, "the server has it")
        exchange(client, taken[0], BIG)
        finished.append(None)
    assert there.peers == [CLIENTS[family][1]]


@pytest.mark.parametrize("family", [4, 6])
def test_udp_servers_see_the_client(weir, road, family):
    """Also where a socket would rest after its flow and serve another client."""
    with UdpServer(host=SERVER[family], port=PORT, namespace=road.servers) as there:
        w = start(weir, road, [there.address], family, protocol="udp", responses=1,
                  udp_quarantine="10ms")
        for turn in range(3):
            for source in CLIENTS[family]:
                with Client((FRONTS[family], PORT), (source, 0), namespace=road.clients) as client:
                    assert client.ask(b"%d" % turn) == b"%d" % turn
        assert [source[0] for _, source in there.seen] == 3 * CLIENTS[family]
        assert w.admin("show counters")["udp_sockets_reused"] == 0
        lines = w.wait_flow_lines(6)
        assert {line["end"] for line in lines} == {"done"}


def test_udp_flows_stay_their_clients(weir, routed):
    """Two clients at once, many datagrams each, all within a flow."""
    with UdpServer(host=SERVERS[0], port=PORT, namespace=routed.servers) as there, \
            contextlib.ExitStack() as cleanup:
        w = start(weir, routed, [there.address], protocol="udp")
        clients = [cleanup.enter_context(Client((FRONT, PORT), (source, 0), namespace=routed.clients))
                   for source in CLIENTS[4]]
        for number in range(50):
            for client in clients:
                said = b"%d of %s" % (number, client.address.encode())
                assert client.ask(said) == said
        assert w.admin("status")["flows"] == 2
        assert {source[0] for _, source in there.seen} == set(CLIENTS[4])
        for data, source in there.seen:
            assert host_of(data.decode().split()[2]) == source[0]
        assert w.admin("show counters")["udp_dropped_loop"] == 0


def test_next_server_sees_the_client_too(weir, routed, server):
    there = server(host=SERVERS[1])
    w = start(weir, routed, [join(SERVERS[0], PORT), there.address],
              pool={"scheduler": "first"})
    with connect(routed, FRONT, CLIENT) as client:
        assert say(client) == b"ping"
    assert there.peers == [CLIENT]
    assert w.wait_access(1)[0]["tries"] == 2


def test_same_client_port_again_and_again(weir, routed, server):
    """The server's end of the session before may still be in TIME_WAIT: the port is not kept."""
    there = server(lambda client: client.sendall(b"bye"))
    start(weir, routed, [there.address])
    for _ in range(3):
        with routed.clients.entered():
            client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.settimeout(TIMEOUT)
        client.bind((CLIENT, 4711))
        client.connect((FRONT, PORT))
        assert read_exactly(client, 3) == b"bye"
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
    assert there.peers == 3 * [CLIENT]


def datagram_of(told, port=4000):
    return proxy.v2((told, port), (FRONT, PORT), datagram=True) + told.encode()


TELLS_DATAGRAMS = {"protocol": "udp", "proxy_protocol": "required",
                   "proxy_protocol_from": ["10.99.1.0/24"]}


def test_addresses_that_headers_of_datagrams_told(weir, routed):
    """Many clients behind one socket of the front: servers see each, and none takes another's
    socket, though they could rest."""
    told = ["198.51.100.7", "198.51.100.8", "203.0.113.9"]
    with UdpServer(host=SERVERS[0], port=PORT, namespace=routed.servers) as there, \
            Client((FRONT, PORT), (CLIENT, 0), namespace=routed.clients) as front:
        w = start(weir, routed, [there.address], responses=1, udp_quarantine="10ms",
                  **TELLS_DATAGRAMS)
        for one in told * 3:
            assert front.ask(datagram_of(one)) == one.encode()
        assert [source[0] for _, source in there.seen] == told * 3
        assert w.admin("show counters")["udp_sockets_reused"] == 0
        assert {host_of(line["client"]) for line in w.wait_flow_lines(9)} == set(told)


def test_client_is_the_source_and_told_too(weir, routed):
    """A server that wants headers gets them with `source` as well; they agree."""
    with UdpServer(host=SERVERS[0], port=PORT, namespace=routed.servers) as there, \
            Client((FRONT, PORT), (CLIENT, 0), namespace=routed.clients) as front:
        start(weir, routed, [there.address], pool={"send_proxy": "v2"}, **TELLS_DATAGRAMS)
        front.ask(datagram_of("198.51.100.7", 4711))
        (data, source), = there.seen
        head, left = proxy.split(data)
        assert (source[0], left) == ("198.51.100.7", b"198.51.100.7")
        assert (head.source, head.destination) == (("198.51.100.7", 4711), (FRONT, PORT))


def test_address_that_a_proxy_header_told(weir, routed, server):
    there = server()
    w = start(weir, routed, [there.address], proxy_protocol="required",
              proxy_protocol_from=["10.99.1.0/24"])
    with connect(routed, FRONT, CLIENT) as client:
        client.sendall(proxy.v2(("198.51.100.7", 4000), (FRONT, PORT)))
        assert say(client) == b"ping"
    assert there.peers == ["198.51.100.7"]
    assert host_of(w.wait_access(1)[0]["client"]) == "198.51.100.7"


# ---- real consumers ----

def test_redis_sees_the_client(weir, routed, redis):
    there = redis(host=SERVERS[0], port=PORT, wrap=routed.servers.wrap)
    start(weir, routed, [there.address])
    said = routed.clients.run("redis-cli", "-h", FRONT, "-p", str(PORT), "CLIENT", "LIST")
    assert re.findall(r"\baddr=([\d.]+):", said) == [CLIENT]


def test_postgresql_sees_the_client(weir, routed, postgres):
    there = postgres(host=SERVERS[0], port=PORT, wrap=routed.servers.wrap)
    start(weir, routed, [there.address])
    said = routed.clients.run(
        "psql", "-h", FRONT, "-p", str(PORT), "-U", "postgres", "-At", "-c",
        "select client_addr from pg_stat_activity where pid = pg_backend_pid()")
    assert said.strip() == CLIENT


# ---- what goes wrong ----

def test_without_the_routing(weir, bare_road, server):
    """As docs/edge.md says how to recognise it; the routing alone mends it."""
    there = server()
    w = start(weir, bare_road, [there.address],
              pool={"connect_timeout": "300ms", "retries": 0, "health": {"type": "tcp"}})
    with connect(bare_road, FRONT, CLIENT) as client:
        eventually(lambda: CLIENT in bare_road.servers.run("ss", "-tnH", "state", "syn-recv"), 5,
                   "the server has heard of it")
        assert read_to_reset(client) == b""
    assert w.wait_access(1)[0]["end"] == "connect-timeout"
    assert w.server("a")["health"] == "up"
    ask = ("ip", "route", "get", CLIENT, "from", SERVERS[0], "iif", places.devices(bare_road.weir)[1])
    with pytest.raises(RuntimeError, match="No route to host"):  # for it is no router
        bare_road.weir.run(*ask)
    bare_road.take_in(ROUTING["all that comes"])
    assert bare_road.weir.run(*ask).startswith(f"local {CLIENT}")
    with connect(bare_road, FRONT, CLIENT) as client:
        assert say(client) == b"ping"


def test_how_the_routing_is_looked_at(road):
    """By the command that docs/edge.md has for it."""
    ask = ["ip", "route", "get", CLIENT, "from", SERVERS[0], "iif", places.devices(road.weir)[1]]
    marks = "fwmark" in road.weir.run("ip", "rule", "show")
    assert road.weir.run(*ask, *(["mark", "100"] if marks else [])).startswith(f"local {CLIENT}")


def reaches(road, to):
    """Does a connection from the servers' machine come about?"""
    with road.servers.entered(), contextlib.suppress(TimeoutError):
        with socket.create_connection((to, PORT), SLOW) as client:
            return say(client) == b"ping"
    return False


@pytest.mark.parametrize("how", ROUTING)
def test_what_servers_begin_themselves(bare_road, how):
    """By the mark it is forwarded; else it ends on weir's machine, a datagram at anybody's socket."""
    bare_road.take_in(ROUTING[how])
    bare_road.weir.sysctl("net.ipv4.ip_forward", 1)
    bare_road.clients.run("ip", "route", "add", "10.99.2.0/24", "via", FRONT)
    with TcpServer(echo, CLIENT, PORT, namespace=bare_road.clients), \
            UdpServer(host="0.0.0.0", port=PORT, namespace=bare_road.weir) as there, \
            UdpServer(host=CLIENT, port=PORT, namespace=bare_road.clients) as client, \
            udp_socket(SERVERS[0], namespace=bare_road.servers) as asking:
        assert reaches(bare_road, CLIENT) == (how == "by mark")
        asking.sendto(b"ping", (CLIENT, PORT))
        (client if how == "by mark" else there).wait_seen(1)
        assert len(client.seen) + len(there.seen) == 1


def test_udp_without_the_routing(weir, bare_road):
    with UdpServer(host=SERVERS[0], port=PORT, namespace=bare_road.servers) as there:
        w = start(weir, bare_road, [there.address], protocol="udp", udp_idle_timeout="1s")
        with Client((FRONT, PORT), (CLIENT, 0), namespace=bare_road.clients) as client:
            client.send()
            assert there.wait_seen(1)[0][1][0] == CLIENT
            line, = w.wait_flow_lines(1)
            assert line["bytes_out"] == 0 and not client.waiting()


def test_client_of_the_other_family(weir, routed, server):
    """It is refused; those of the server's family, mapped ones, are served."""
    there = server()
    w = weir([there.address], wrap=routed.weir.wrap, pool={"source": "client"},
             listener={"bind": f"*:{PORT}", "v6only": False})
    for _ in range(2):
        meet_reset(routed, FRONT6, CLIENT6)
    with connect(routed, FRONT, CLIENT) as client:
        assert say(client) == b"ping"
    assert there.peers == [CLIENT]
    ends = [line["end"] for line in w.wait_access(3)]
    assert sorted(ends) == ["done", "no-source", "no-source"]
    told, = [line for line in w.log_lines()
             if line["event"] == "a server cannot be connected to from this source"]
    assert host_of(told["source"]) == CLIENT6 and told["server"] == "a"
    assert "family" in told["why"]
    assert w.server("a")["connect_failures"] == 0


def test_datagrams_of_the_other_family(weir, routed):
    with UdpServer(host=SERVERS[0], port=PORT, namespace=routed.servers) as there:
        w = weir([there.address], wrap=routed.weir.wrap, pool={"source": "client"},
                 listener={"bind": f"*:{PORT}", "v6only": False, "protocol": "udp"})
        with Client((FRONT6, PORT), (CLIENT6, 0), namespace=routed.clients) as six, \
                Client((FRONT, PORT), (CLIENT, 0), namespace=routed.clients) as four:
            six.send()
            eventually(lambda: w.admin("show counters")["udp_dropped_no_source"] == 1, 5,
                       "it is counted")
            assert four.ask() == b"ping"
            assert not six.waiting()
        assert [source[0] for _, source in there.seen] == [CLIENT]


NOBODY = ["0.0.0.0", "127.0.0.1", "224.0.0.9", "255.255.255.255"]


def test_told_address_that_nobody_has(weir, routed, server):
    there = server()
    w = start(weir, routed, [there.address], proxy_protocol="required",
              proxy_protocol_from=["10.99.1.0/24"])
    for told in NOBODY:
        meet_reset(routed, FRONT, CLIENT, proxy.v2((told, 4000), (FRONT, PORT)))
    assert there.peers == []
    assert [line["end"] for line in w.wait_access(len(NOBODY))] == ["no-source"] * len(NOBODY)


def test_told_address_of_datagrams_that_nobody_has(weir, routed):
    """A broadcast as well, which the kernel would replace by weir's own address."""
    with UdpServer(host=SERVERS[0], port=PORT, namespace=routed.servers) as there, \
            Client((FRONT, PORT), (CLIENT, 0), namespace=routed.clients) as front:
        w = start(weir, routed, [there.address], **TELLS_DATAGRAMS)
        for told in NOBODY:
            front.send(datagram_of(told))
        eventually(lambda: w.admin("show counters")["udp_dropped_no_source"] == len(NOBODY), 5,
                   "they are counted")
        assert front.ask(datagram_of("198.51.100.7")) == b"198.51.100.7"
        assert [source[0] for _, source in there.seen] == ["198.51.100.7"]


# ---- weir's own ----

def test_first_of_a_list(weir, tcp_server):
    """Sessions and probes."""
    there = tcp_server(echo)
    w = weir([there.address], pool={"source": ["::1", "127.0.0.5", "127.0.0.6"],
                                    "health": {"type": "tcp", "interval": "1h"}})
    with w.connect() as client:
        assert say(client) == b"ping"
    assert there.peers == 2 * ["127.0.0.5"]


def test_first_of_a_list_for_datagrams(weir, udp_server, udp_client):
    there = udp_server()
    w = weir([there.address], listener=listener(), pool={"source": "127.0.0.5"})
    assert udp_client(w).ask() == b"ping"
    assert [source[0] for _, source in there.seen] == ["127.0.0.5"]


def test_address_that_is_not_there(weir, tcp_server):
    """No server is to blame for it, and the log names it."""
    there = tcp_server(echo)
    w = weir([there.address], pool={"source": ["192.0.2.5"]})
    with contextlib.suppress(ConnectionResetError), w.connect() as client:
        assert read_to_reset(client) == b""
    assert w.wait_access(1)[0]["end"] == "no-resources"
    told, = eventually(lambda: [line for line in w.log_lines()
                                if line["event"] == "servers cannot be connected to from a source"],
                       5, "the log names it")
    assert told["source"] == "192.0.2.5" and "address of this machine" in told["cure"]
    assert w.server("a")["connect_failures"] == 0


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_probes_from_an_address_that_is_not_there(weir, tcp_server, udp_server, kind):
    """They say nothing of the server, and the log says of which one they are, and from where; an
    address that is there, second in the list, does their work."""
    def refusals():
        return [line for line in w.log_lines() if line["event"] == "probes cannot start"]

    servers = [tcp_server(echo) if kind == "tcp" else udp_server() for _ in range(2)]
    addresses = [server.address for server in servers]
    health = {"type": kind, "interval": "100ms", "interval_changing": "100ms", "timeout": "100ms",
              **({"send": "probe"} if kind == "udp" else {})}
    w = weir(addresses, pool={"source": ["192.0.2.5"], "health": health})
    eventually(lambda: len(refusals()) == 2, 5, "each is named")
    assert {(told["server"], told["address"], told["source"]) for told in refusals()} == {
        ("a", addresses[0], "192.0.2.5"), ("b", addresses[1], "192.0.2.5")}
    assert all("address of this machine" in told["cure"] for told in refusals())
    assert w.server("a")["health"] == "unknown"

    second = weir(addresses, pool={"source": ["192.0.2.5", "127.0.0.5"], "health": health})
    second.wait_health("a", "up")

    def probes():
        return len(servers[0].peers if kind == "tcp" else servers[0].seen)
    # So many intervals have passed for the first as well.
    eventually(lambda: probes() >= 10, 5, "ten probes of the second")
    assert len(refusals()) == 2, "it is told once"
    assert w.server("a")["health"] == "unknown"
