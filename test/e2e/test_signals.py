"""Signals: how weir stops, what it tells its service manager, what a killed one leaves behind.

Issue 2, "Signals", and the start order of DESIGN.md §4. TESTING.md row 23 has SIGUSR1.
"""
import contextlib
import os
import signal
import socket
import time

import pytest

from lib.meeting import Meeting, wait_for_reset
from lib.peers import echo, read_exactly, read_to_fin
from lib.ports import free_port
from lib.resources import leave_descriptors, limit_descriptors
from lib.snapshot import children, is_alive, listens
from lib.wait import SLOW, eventually

STOPPING = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture
def meeting():
    with Meeting() as made:
        yield made


def talk(*ends):
    """A byte from each end to the other."""
    for one, other in (ends, ends[::-1]):
        one.sendall(b"x")
        assert read_exactly(other, 1) == b"x"


def wait_refused(weir):
    """Until the listeners are gone. Asked of the kernel first: a client that comes a moment too
    early is one more session."""
    eventually(lambda: not listens(weir.pid, weir.address[1]), 5, "it listens no more")
    with pytest.raises(ConnectionRefusedError):
        weir.connect()


def exit_code(weir, timeout=20):
    return weir.process.wait(timeout * SLOW)


def events(weir):
    return [line["event"] for line in weir.log_lines()]


# ---- to stop ----

@pytest.mark.parametrize("signo", STOPPING)
@pytest.mark.parametrize("workers", [1, 3])
def test_sessions_finish_and_nobody_new_comes(weir, meeting, signo, workers):
    w = weir([meeting.address], weir={"workers": workers})
    sessions = [meeting.meet(w.address) for _ in range(10)]
    os.kill(w.pid, signo)
    wait_refused(w)
    status = w.admin("status")
    assert (status["state"], status["sessions"]) == ("draining", 10)
    for client, server in sessions:
        talk(client, server)
        client.shutdown(socket.SHUT_WR)
        assert read_to_fin(server) == b""
        server.close()
        assert read_to_fin(client) == b""
    assert exit_code(w) == 0
    ends = {(line["end"], line["by"]) for line in w.access_lines()}
    assert ends == {("done", "both")} and len(w.access_lines()) == 10
    assert "stopped" in events(w)
    assert not w.socket.exists()


@pytest.mark.parametrize("signo", STOPPING)
def test_without_sessions_it_ends_at_once(weir, meeting, signo):
    w = weir([meeting.address], weir={"shutdown_deadline": "1d"})
    os.kill(w.pid, signo)
    assert exit_code(w) == 0


@pytest.mark.parametrize("workers", [1, 3])
def test_what_is_left_at_the_deadline_is_reset(weir, meeting, workers):
    w = weir([meeting.address], weir={"workers": workers, "shutdown_deadline": "500ms"})
    sessions = [meeting.meet(w.address) for _ in range(10)]
    for ends in sessions:
        talk(*ends)
    began = time.monotonic()
    os.kill(w.pid, signal.SIGTERM)
    for ends in sessions:
        for end in ends:
            wait_for_reset(end)
    assert exit_code(w) == 0
    assert time.monotonic() - began >= 0.5
    lines = w.access_lines()
    assert [(line["end"], line["by"]) for line in lines] == [("shutdown", "weir")] * 10
    assert all(line["duration_ms"] >= 500 for line in lines)


@pytest.mark.parametrize("first", STOPPING)
@pytest.mark.parametrize("second", STOPPING)
def test_a_second_signal_ends_it_at_once(weir, meeting, first, second):
    w = weir([meeting.address], weir={"workers": 2, "shutdown_deadline": "1d"})
    sessions = [meeting.meet(w.address) for _ in range(4)]
    os.kill(w.pid, first)
    wait_refused(w)
    os.kill(w.pid, second)
    assert exit_code(w) == 0
    for ends in sessions:
        for end in ends:
            wait_for_reset(end)
    assert [line["end"] for line in w.access_lines()] == ["shutdown"] * 4
    assert not w.socket.exists()


def test_a_deadline_of_nothing_ends_it_at_once(weir, meeting):
    w = weir([meeting.address], weir={"shutdown_deadline": "0"})
    client, _ = meeting.meet(w.address)
    os.kill(w.pid, signal.SIGTERM)
    assert exit_code(w) == 0
    wait_for_reset(client)


def test_a_client_that_waits_for_a_server_does_not_keep_it(weir):
    """Held while no server can be used: the deadline is for it too."""
    w = weir([f"127.0.0.1:{free_port()}"], weir={"shutdown_deadline": "300ms"},
             pool={"connect_timeout": "10m", "health": {
                 "type": "tcp", "interval": "100ms", "timeout": "50ms"}})
    w.wait_health("a", "down")
    client = w.connect()
    w.wait_sessions(1)
    os.kill(w.pid, signal.SIGTERM)
    assert exit_code(w) == 0
    wait_for_reset(client)
    assert [line["end"] for line in w.access_lines()] == ["shutdown"]


def test_while_it_is_still_starting(weir, namespace):
    """A server that nothing is known of delays READY; a signal need not wait for that."""
    there = namespace()
    there.nft("tcp dport 9999 drop")
    w = weir(["127.0.0.1:9999"], start=False, wrap=there.wrap, pool={"health": {
        "type": "tcp", "interval": "10s", "timeout": "10s"}}).launch()
    eventually(lambda: w.admin("status")["state"] == "starting", 5, "it starts")
    w.stop()
    assert w.process.returncode == 0
    assert "ready" not in events(w)


# ---- those in the queue ----

QUEUED = 40


def wait_pause(ask):
    before = ask("show counters")["accept_pauses"]
    eventually(lambda: ask("show counters")["accept_pauses"] > before, 5, "listeners pause")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("attempt", range(3))
def test_clients_in_the_queue_are_accepted_first(weir, tcp_server, workers, attempt):
    """A listener that rests for want of descriptors has a queue, and is told to stop then."""
    server = tcp_server(echo)
    w = weir([server.address], weir={"workers": workers})
    with contextlib.ExitStack() as opened, w.admin_session() as ask:
        leave_descriptors(w.pid, 0)
        clients = [opened.enter_context(w.connect()) for _ in range(QUEUED)]
        wait_pause(ask)
        limit_descriptors(w.pid)
        os.kill(w.pid, signal.SIGTERM)
        for client in clients:
            client.sendall(b"hello")
        for client in clients:
            assert read_exactly(client, 5) == b"hello"
            client.shutdown(socket.SHUT_WR)
            assert read_to_fin(client) == b""
    assert exit_code(w) == 0
    assert [line["end"] for line in w.access_lines()] == ["done"] * QUEUED


# ---- the service manager ----

def test_stopping_is_told_while_sessions_still_finish(weir, meeting):
    name = f"@weir-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:])
        manager.settimeout(10 * SLOW)
        w = weir([meeting.address], env={"NOTIFY_SOCKET": name})
        assert manager.recv(4096) == b"READY=1"
        client, server = meeting.meet(w.address)
        os.kill(w.pid, signal.SIGTERM)
        assert manager.recv(4096) == b"STOPPING=1"
        talk(client, server)
        client.close()
        server.close()
        assert exit_code(w) == 0


# ---- killed ----

def test_after_a_kill_the_next_start_finds_all_free(weir, responders):
    w = weir([responders(1)[0].address])
    helpers = children(w.pid)
    assert helpers
    os.kill(w.pid, signal.SIGKILL)
    w.process.wait()
    eventually(lambda: not any(map(is_alive, helpers)), 2, "the helper goes with weir")
    assert w.socket.exists()
    w.start()
    assert w.admin("status")["state"] == "running"


def test_a_ctrl_c_of_the_whole_group_leaves_the_helper_to_weir(weir, meeting):
    """A terminal signals every process; sessions still finish, and then all is gone."""
    w = weir([meeting.address], wrap=("setsid",))
    client, server = meeting.meet(w.address)
    helpers = children(w.pid)
    os.killpg(os.getpgid(w.pid), signal.SIGINT)
    wait_refused(w)
    talk(client, server)
    assert all(map(is_alive, helpers))
    client.close()
    server.close()
    assert exit_code(w) == 0
    eventually(lambda: not any(map(is_alive, helpers)), 2, "the helper is gone")


@pytest.mark.parametrize("signo", [signal.SIGPIPE, signal.SIGUSR1, signal.SIGHUP])
def test_signals_that_must_not_end_it(weir, responders, signo):
    w = weir([responders(1)[0].address])
    for _ in range(3):
        os.kill(w.pid, signo)
    assert w.admin("status")["state"] == "running"


def test_a_hangup_says_that_nothing_is_reloaded(weir, meeting):
    """Also one that comes while sessions end: it is no second signal to stop."""
    def told():
        return [line for line in w.log_lines() if line["event"].startswith("no reload")]

    w = weir([meeting.address])
    os.kill(w.pid, signal.SIGHUP)
    line, = eventually(told, 5, "the log says so")
    assert line["level"] == "warn" and line["signal"] == "SIGHUP"
    client, server = meeting.meet(w.address)
    os.kill(w.pid, signal.SIGTERM)
    wait_refused(w)
    os.kill(w.pid, signal.SIGHUP)
    eventually(lambda: len(told()) == 2, 5, "told again")
    talk(client, server)
    client.close()
    server.close()
    assert exit_code(w) == 0
