"""The admin socket and weirctl on flows: what is told of them, and what ends them."""
import contextlib
import json
import os
import signal

import pytest

from lib import udp
from lib import weir as weir_module
from lib.ports import free_port
from lib.udp_peers import silent
from lib.wait import eventually
from lib.weir import OPEN_GATE, AdminError

FLOW_FIELDS = {
    "id": int, "listener": str, "client": str, "pool": str, "server": str, "state": str,
    "age_ms": int, "idle_ms": int, "datagrams_in": int, "datagrams_out": int, "bytes_in": int,
    "bytes_out": int,
}


def ctl(weir, *words):
    return weir_module.weirctl(*words, socket_path=weir.socket)


def echo(client):
    while data := client.recv(65536):
        client.sendall(data)


@pytest.fixture
def flows():
    """flows(weir, 3): so many clients that have had an answer, closed in the end."""
    with contextlib.ExitStack() as cleanup:
        def make(weir, count, source=None):
            made = [cleanup.enter_context(udp.Client(weir.address, source)) for _ in range(count)]
            for client in made:
                assert client.ask(b"ping") == b"ping"
            return made
        yield make


@pytest.fixture
def echo_weir(weir, udp_server):
    """A weir before two UDP servers."""
    def make(listener=None, **more):
        servers = [udp_server().address, udp_server().address]
        return weir(servers, listener=udp.listener(**(listener or {})), **more)
    return make


# ---- what is told ----

def test_show_flows(echo_weir, flows):
    running = echo_weir()
    clients = flows(running, 3) + flows(running, 1, source=("127.0.0.7", 0))
    eventually(lambda: all(row["bytes_out"] for row in running.admin("show flows")), 5,
               "all is counted")
    rows = running.admin("show flows")
    for row in rows:
        assert {name: type(value) for name, value in row.items()} == FLOW_FIELDS
    assert {row["client"] for row in rows} == {client.address for client in clients}
    assert {row["state"] for row in rows} == {"active"}
    assert {(row["datagrams_in"], row["datagrams_out"], row["bytes_in"], row["bytes_out"])
            for row in rows} == {(1, 1, 4, 4)}
    assert len({row["id"] for row in rows}) == 4
    assert running.admin("status")["flows"] == 4
    assert running.admin("show sessions") == []

    def count(words):
        return len(running.admin(f"show flows {words}"))
    assert count("listener=web") == count("pool=web") == 4
    assert count("server=a") == count("server=b") == 2
    assert count("client=127.0.0.7") == 1
    assert count(f"client={clients[0].address}") == 1
    assert count("client=192.0.2.1") == 0
    for words in ("pool=wbe", "listener=wbe", "server=c", "client=localhost", "colour=red"):
        with pytest.raises(AdminError):
            count(words)


def test_a_spent_flow(weir, udp_server):
    running = weir([udp_server(silent).address], listener=udp.listener(requests=2))
    with udp.Client(running.address) as client:
        client.send()
        eventually(lambda: running.admin("show flows")[0]["state"] == "active", 5, "it takes more")
        client.send()
        eventually(lambda: running.admin("show flows")[0]["state"] == "spent", 5, "it is spent")
        client.send()
        eventually(lambda: len(running.admin("show flows")) == 2, 5, "there is another flow")
    assert sorted(row["state"] for row in running.admin("show flows")) == ["active", "spent"]
    for row in running.admin("show flows"):
        running.admin(f"kill flow {row['id']}")


def test_both_protocols_are_told_apart(weir, udp_server, tcp_server, flows):
    server = tcp_server(echo, port=free_port())
    udp_server(port=server.port)
    front = udp.listener(pool="web", name="both-udp", max_flows=500)
    running = weir([server.address], listeners=[
        front, {"name": "both-tcp", "bind": front["bind"], "pool": "web"}])
    flows(running, 3)
    with running.connect() as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        assert running.admin("show listeners") == [
            {"name": "both-udp", "address": front["bind"], "protocol": "udp", "pool": "web",
             "flows": 3, "max_flows": 500, "gate": OPEN_GATE},
            {"name": "both-tcp", "address": front["bind"], "protocol": "tcp", "pool": "web",
             "sessions": 1, "max_connections": None, "session_rate": None, "throttled": 0,
             "gate": OPEN_GATE}]
        for row in (running.server("a"), *running.admin("show pools")):
            assert (row["sessions"], row["sessions_total"]) == (1, 1)
            assert (row["flows"], row["flows_total"]) == (3, 3)
        status = running.admin("status")
        assert (status["sessions"], status["flows"]) == (1, 3)
        held = status["descriptors"]
        # The sum that status shows is what fits: DESIGN §5.
        assert (held["reserved"] + 2 * held["sessions"] + 2 * held["pipes"] + held["flows"]
                + held["resting"]) <= held["limit"]
        assert held["flows"] == 500

        head, first, second = ctl(running, "show", "listeners").stdout.splitlines()
        assert head.split() == ["LISTENER", "ADDRESS", "PROTOCOL", "POOL", "SESSIONS", "MOST",
                                "FLOWS", "MOST"]
        assert first.split()[4:] == ["-", "-", "3", "500"]
        assert second.split()[4:] == ["1", "none", "-", "-"]


def test_weirctl_prints_flows(echo_weir, flows):
    running = echo_weir()
    flows(running, 2)
    table = ctl(running, "show", "flows").stdout
    assert table.splitlines()[0].split()[:6] == \
        ["ID", "LISTENER", "CLIENT", "POOL", "SERVER", "STATE"]
    assert table.count("active") == 2
    assert len(json.loads(ctl(running, "--json", "show", "flows").stdout)) == 2
    assert ctl(running, "show", "servers").stdout.splitlines()[0].split()[6:11] == \
        ["SESSIONS", "TOTAL", "FLOWS", "FLOWS", "TOTAL"]
    assert "1 flows left" in ctl(running, "drain", "web/a", "deadline=1h").stdout


def test_refusals_and_moves_are_told(weir, udp_server, flows):
    servers = {"a": udp_server(), "b": udp_server()}
    running = weir([server.address for server in servers.values()], listener=udp.listener())
    victim, _ = flows(running, 2)
    [row] = running.admin(f"show flows client={victim.address}")
    gone = row["server"]
    left = "b" if gone == "a" else "a"
    servers[gone].close()
    # The first datagram is refused, and the flow moves with one of the next.
    eventually(lambda: victim.send() or victim.waiting(), 10, "the other server answers")
    assert running.server(gone)["refused"] >= 1
    assert (running.server(gone)["flows"], running.server(left)["flows"]) == (0, 2)
    assert running.server(left)["flows_total"] == 2
    assert running.admin("show counters")["flows_moved"] == 1
    [row] = running.admin(f"show flows client={victim.address}")
    assert row["server"] == left
    assert "REFUSED" in ctl(running, "show", "servers").stdout


# ---- what is changed ----

def test_kill_flow(echo_weir, flows):
    running = echo_weir()
    victim, other = flows(running, 2)
    [row] = running.admin(f"show flows client={victim.address}")
    assert running.admin(f"kill flow {row['id']}") == {"killed": row["id"]}
    [line] = running.wait_flow_lines(1)
    assert (line["client"], line["end"], line["by"]) == (victim.address, "killed", "operator")
    for words in (f"kill flow {row['id']}", f"kill session {row['id']}"):
        with pytest.raises(AdminError, match=f"there is no .* {row['id']}"):
            running.admin(words)
    # Nobody was told: both clients just go on.
    assert victim.ask() == other.ask() == b"ping"
    [again] = running.admin(f"show flows client={victim.address}")
    assert again["id"] != row["id"]


def test_a_draining_server_tells_its_flows(echo_weir, flows):
    running = echo_weir()
    clients = flows(running, 4)
    drain = running.admin("drain web/a deadline=1h")["drain"]
    assert (drain["sessions_left"], drain["flows_left"]) == (0, 2)
    for client in clients:  # they stay where they are
        assert client.ask() == b"ping"
    flows(running, 2)
    assert (running.server("a")["flows"], running.server("b")["flows"]) == (2, 4)
    for row in running.admin("show flows server=a"):
        running.admin(f"kill flow {row['id']}")
    drain = running.server("a")["drain"]
    assert (drain["flows_left"], drain["ended_self"]) == (0, 2)


def test_a_drain_ends_quiet_flows_and_then_the_rest(weir, udp_server, flows):
    running = weir([udp_server().address], listener=udp.listener())
    talker, _ = flows(running, 2)
    # Quiet after a second; from half the deadline on.
    running.admin(f"drain web/a deadline={udp.seconds(4)}")

    def ended(how):
        talker.send()  # and never quiet
        return running.server("a")["drain"][how] == 1
    eventually(lambda: ended("ended_quiet"), 10, "the silent flow has ended")
    eventually(lambda: ended("ended_deadline"), 20, "the other as well")
    assert {line["end"] for line in running.wait_flow_lines(2)} == \
        {"drain-quiet", "drain-deadline"}


def test_disable_ends_flows_by_on_down(echo_weir, flows):
    running = echo_weir(pool={"on_down": "kill"})
    flows(running, 2)
    running.admin("disable web/b")
    running.wait_flows(1)
    [line] = running.wait_flow_lines(1)
    assert (line["server"], line["end"]) == ("b", "drain-deadline")


def test_a_server_goes_down_and_its_flows_end(weir, udp_server, flows):
    server = udp_server()
    running = weir([server.address], listener=udp.listener(),
                   pool={"on_down": "kill",
                         "health": {"type": "udp", "send": "up?", "expect": "up?", "fall": 1,
                                    "interval": udp.seconds(0.1), "timeout": udp.seconds(0.1)}})
    flows(running, 2)
    server.close()
    running.wait_flows(0)
    assert [(line["end"], line["by"]) for line in running.wait_flow_lines(2)] == \
        [("server-down", "weir")] * 2
    assert running.server("a")["health"] == "down"


def test_flows_end_with_weir_once_they_are_silent(echo_weir, flows):
    running = echo_weir()
    talker, silent_one = flows(running, 2)
    os.kill(running.pid, signal.SIGTERM)
    eventually(lambda: running.admin("status")["state"] == "draining", 5, "weir is draining")

    def one_left():
        assert talker.ask() == b"ping"
        return running.admin("status")["flows"] == 1
    eventually(one_left, 10, "the silent one has ended")
    with udp.Client(running.address) as late:
        late.send()
        eventually(lambda: running.admin("show counters")["udp_dropped_stopping"] == 1, 5,
                   "no flow begins")
    assert running.process.wait(20) == 0
    assert {line["end"] for line in running.flow_lines()} == {"shutdown"}
    assert silent_one.waiting() == []
