"""The admin socket and weirctl: who may speak to it, what it tells, what it changes."""
import contextlib
import json
import os
import pwd
import re
import signal
import socket
import stat
import subprocess
import time

import pytest

from lib import weir as weir_module
from lib.servers import answer_of
from lib.ports import free_port
from lib.wait import SLOW, eventually
from lib.weir import BUILD, OPEN_GATE, AdminError

SERVER_FIELDS = {
    "pool": str, "name": str, "address": str, "weight": int, "admin": str, "health": str,
    "usable": bool, "reason": str, "sessions": int, "sessions_total": int, "flows": int,
    "flows_total": int, "bytes_in": int, "bytes_out": int, "connect_failures": int, "resets": int,
    "refused": int, "no_port": int,
}
DRAIN_FIELDS = {
    "cause": str, "sessions_left": int, "flows_left": int, "ended_self": int, "ended_quiet": int,
    "ended_deadline": int, "deadline_left_ms": int,
}
SESSION_FIELDS = {
    "id": int, "listener": str, "client": str, "pool": str, "server": str, "state": str,
    "engine": str, "age_ms": int, "idle_ms": int, "bytes_in": int, "bytes_out": int,
}
POOL_FIELDS = {
    "name": str, "scheduler": str, "servers": int, "usable": int, "draining": int,
    "sessions": int, "sessions_total": int, "flows": int, "flows_total": int, "bytes_in": int,
    "bytes_out": int, "connect_failures": int, "resets": int, "refused": int, "no_port": int,
}
STATUS_FIELDS = {
    "version": str, "pid": int, "uptime_s": int, "state": str, "workers": int, "sessions": int,
    "flows": int, "descriptors": dict, "log": dict, "control_turn_us": int, "worker_turn_us": int,
}


def assert_fields(row, fields):
    """Scripts rely on the names, so a test does."""
    assert {name: type(value) for name, value in row.items()} == fields


def ctl(weir, *words):
    return weir_module.weirctl(*words, socket_path=weir.socket)


def echo(client):
    while data := client.recv(65536):
        client.sendall(data)


@pytest.fixture
def sessions():
    """sessions(weir, 3): so many connections that have echoed a byte, closed in the end."""
    with contextlib.ExitStack() as cleanup:
        def make(weir, count, source=None):
            made = []
            for _ in range(count):
                client = cleanup.enter_context(weir.connect(source=source))
                client.sendall(b"x")
                assert client.recv(1) == b"x"
                made.append(client)
            return made
        yield make


@pytest.fixture
def echo_weir(weir, tcp_server):
    """A weir before two echo servers."""
    def make(**more):
        return weir([tcp_server(echo).address, tcp_server(echo).address], **more)
    return make


class Client:
    """A client of the admin socket that can stay, dawdle and misbehave."""

    def __init__(self, weir):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10 * SLOW)
        self.socket.connect(str(weir.socket))
        self.replies = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.replies.close()
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def reply(self):
        """The next line, or None at the end."""
        try:
            line = self.replies.readline()
        except ConnectionResetError:  # it hung up on something that we had still to say
            return None
        return json.loads(line) if line else None


# ---- the socket's file ----

def test_socket_is_private_and_goes_with_weir(weir, responders):
    running = weir([responders(1)[0].address])
    found = os.lstat(running.socket)
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_uid == pwd.getpwnam(weir_module.USER).pw_uid
    assert running.stop() == 0
    assert not running.socket.exists()


def test_socket_has_the_mode_of_the_configuration(weir, responders):
    running = weir([responders(1)[0].address], weir={"admin": {"mode": "0666"}})
    assert stat.S_IMODE(os.lstat(running.socket).st_mode) == 0o666
    done = subprocess.run(
        ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups",
         str(BUILD / "weirctl"), "--socket", str(running.socket), "status"],
        capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_other_users_are_kept_out(weir, responders):
    running = weir([responders(1)[0].address])
    done = subprocess.run(
        ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups",
         str(BUILD / "weirctl"), "--socket", str(running.socket), "status"],
        capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "not open to this user" in done.stderr


def test_missing_directory_is_made(weir, responders):
    one = weir([responders(1)[0].address], start=False)
    where = one.directory / "run" / "admin.sock"
    text = one.config_path.read_text().replace(str(one.socket), str(where))
    one.config_path.write_text(text)
    one.socket = where
    one.start()
    found = os.stat(where.parent)
    assert stat.S_IMODE(found.st_mode) == 0o750
    assert found.st_uid == pwd.getpwnam(weir_module.USER).pw_uid


def test_live_socket_is_not_taken(weir, responders):
    server = responders(1)[0].address
    first = weir([server])
    second = weir([server], weir={"admin": {"socket": str(first.socket)}}, start=False)
    second.launch()
    assert second.process.wait(20 * SLOW) > 0
    assert f"{first.socket} is in use by weir (pid {first.pid})" in second.stderr()
    assert first.admin("status")["pid"] == first.pid


def test_dead_socket_is_taken(weir, responders):
    server = responders(1)[0].address
    first = weir([server])
    first.process.kill()
    first.process.wait()
    assert first.socket.exists()
    second = weir([server], weir={"admin": {"socket": str(first.socket)}}, start=False)
    second.socket = first.socket
    second.start()
    assert second.admin("status")["pid"] == second.pid != first.pid


def test_file_that_is_no_socket_stays(weir, responders):
    one = weir([responders(1)[0].address], start=False)
    one.socket.write_text("precious")
    one.launch()
    assert one.process.wait(20 * SLOW) > 0
    assert f"{one.socket} is not a socket" in one.stderr()
    assert one.socket.read_text() == "precious"


def test_socket_of_another_is_not_removed_at_the_end(weir, responders):
    one = weir([responders(1)[0].address])
    one.socket.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(one.socket))
        os.kill(one.pid, signal.SIGTERM)
        assert one.process.wait(20 * SLOW) == 0
        assert one.socket.exists()


# ---- what it tells ----

def test_status(echo_weir, sessions):
    running = echo_weir()
    clients = sessions(running, 3)
    status = running.admin("status")
    assert_fields(status, STATUS_FIELDS)
    assert status["pid"] == running.process.pid
    assert status["state"] == "running"
    assert status["workers"] == 1
    assert status["sessions"] == len(clients)
    held = status["descriptors"]
    assert set(held) == {"open", "limit", "reserved", "sessions", "pipes", "flows", "resting",
                         "lowered", "flows_lowered"}
    # The sum that status shows is what fits: DESIGN §5.
    assert held["reserved"] + 2 * held["sessions"] + 2 * held["pipes"] <= held["limit"]
    assert held["flows"] == held["resting"] == 0, "nothing is kept for UDP where there is none"
    assert abs(held["open"] - len(os.listdir(f"/proc/{running.pid}/fd"))) <= 2
    assert status["log"]["dropped"] == 0


def test_show_listeners_pools_servers(echo_weir, sessions):
    running = echo_weir(listener={"max_connections": 100, "session_rate": 1000})
    sessions(running, 4)
    [listener] = running.admin("show listeners")
    assert listener == {
        "name": "web", "address": running.configuration["listeners"][0]["bind"],
        "protocol": "tcp", "pool": "web", "sessions": 4, "max_connections": 100,
        "session_rate": 1000, "throttled": 0, "gate": OPEN_GATE}

    [pool] = running.admin("show pools")
    assert_fields(pool, POOL_FIELDS)
    assert (pool["servers"], pool["usable"], pool["sessions"], pool["sessions_total"]) == \
        (2, 2, 4, 4)

    eventually(lambda: running.admin("show pools")[0]["bytes_out"] == 4, 5, "all is counted")
    rows = running.admin("show servers web")
    assert running.admin("show servers")[0]["name"] == "a"
    for row in rows:
        assert_fields(row, SERVER_FIELDS)
    assert [row["name"] for row in rows] == ["a", "b"]
    assert [row["sessions"] for row in rows] == [2, 2]
    assert [(row["bytes_in"], row["bytes_out"]) for row in rows] == [(2, 2), (2, 2)]
    assert {row["health"] for row in rows} == {"up"}


def test_show_counters_and_version(echo_weir, sessions):
    running = echo_weir()
    sessions(running, 2)
    # A byte is counted a moment after the client has it.
    eventually(lambda: running.admin("show counters")["bytes_out"] == 2, 5, "all is counted")
    counters = running.admin("show counters")
    assert counters["sessions"] == 2
    assert counters["bytes_in"] == 2
    assert counters["loop_turns"] > 0
    version = running.admin("show version")
    assert set(version) == {"version", "libuv", "jansson"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", version["version"])


def test_show_config_is_a_configuration(weir, responders, tmp_path):
    running = weir([responders(1)[0].address])
    text = running.admin("show config")
    assert ctl(running, "show", "config").stdout == text
    again = tmp_path / "again.cfg"
    again.write_text(text)
    done = subprocess.run([str(BUILD / "weir"), "--check", str(again)], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_show_sessions(echo_weir, sessions):
    running = echo_weir()
    clients = sessions(running, 3) + sessions(running, 1, source=("127.0.0.7", 0))
    names = {"{}:{}".format(*client.getsockname()) for client in clients}
    eventually(lambda: all(row["bytes_out"] for row in running.admin("show sessions")), 5,
               "all is counted")
    rows = running.admin("show sessions")
    for row in rows:
        assert_fields(row, SESSION_FIELDS)
    assert {row["client"] for row in rows} == names
    assert {row["state"] for row in rows} == {"relaying"}
    assert {(row["bytes_in"], row["bytes_out"]) for row in rows} == {(1, 1)}
    assert len({row["id"] for row in rows}) == 4

    def count(words):
        return len(running.admin(f"show sessions {words}"))
    assert count("listener=web") == count("pool=web") == 4
    assert count("server=a") == count("server=b") == 2
    assert count("client=127.0.0.7") == 1
    assert sum(count(f"client=127.0.0.1 server={name} pool=web listener=web")
               for name in "ab") == 3
    assert count("client={}:{}".format(*clients[0].getsockname())) == 1
    assert count("client=192.0.2.1") == 0
    for words in ("pool=wbe", "listener=wbe", "server=c", "client=localhost", "colour=red"):
        with pytest.raises(AdminError):
            count(words)


def test_show_sessions_streams(weir, tcp_server, sessions):
    running = weir([tcp_server(echo, backlog=512).address], weir={"workers": 2})
    sessions(running, 700)
    with Client(running) as client:
        client.send(b"show sessions\n")
        rows, lines = [], 0
        while True:
            reply = client.reply()
            rows += reply["data"]
            lines += 1
            if not reply.get("more"):
                break
    assert len({row["id"] for row in rows}) == len(rows) == 700
    assert lines > 5, "a slice has at most 128 rows"


def test_help_tells_every_command(weir, responders):
    running = weir([responders(1)[0].address])
    rows = running.admin("help")
    assert len(rows) >= 17
    for row in rows:
        assert set(row) == {"command", "arguments", "access", "help"}
    assert {row["command"] for row in rows if row["access"] == "write"} == \
        {"drain", "enable", "disable", "weight", "allow", "deny", "forget", "kill session",
         "kill flow"}
    text = ctl(running, "help").stdout
    for row in rows:
        assert f"{row['command']} {row['arguments']}".rstrip() + "\n" in text


def test_wrong_commands_are_told_what_is_right(weir, responders):
    running = weir([responders(1)[0].address])
    for line, error in (
            ("shwo servers", 'did you mean "show servers"?'),
            ("statsu", 'did you mean "status"?'),
            ("drain", "usage: drain POOL/SERVER [deadline=DURATION]"),
            ("drain web/a deadline=soon", "usage: drain"),
            ("drain web/z", 'there is no server "z"'),
            ("weight wbe/a 5", 'did you mean "web"?'),
            ('show servers "web', "the closing quote is missing")):
        with pytest.raises(AdminError, match=re.escape(error)):
            running.admin(line)


# ---- what it changes ----

def test_drain_and_enable(echo_weir, sessions):
    running = echo_weir()
    clients = sessions(running, 4)
    row = running.admin("drain web/a deadline=1h")
    assert_fields(row, {**SERVER_FIELDS, "drain": dict})
    assert_fields(row["drain"], DRAIN_FIELDS)
    assert (row["admin"], row["usable"]) == ("drain", False)
    assert row["drain"]["sessions_left"] == 2
    assert 3_590_000 < row["drain"]["deadline_left_ms"] <= 3_600_000

    sessions(running, 3)
    rows = {row["name"]: row for row in running.admin("show servers web")}
    assert (rows["a"]["sessions"], rows["b"]["sessions"]) == (2, 5)
    for client in clients:
        client.close()
    eventually(lambda: running.server("a")["drain"]["ended_self"] == 2, 5, "both have ended")
    drain = running.server("a")["drain"]
    assert (drain["sessions_left"], drain["ended_quiet"], drain["ended_deadline"]) == (0, 0, 0)

    row = running.admin("enable web/a")
    assert row["admin"] == "enabled" and row["usable"] and "drain" not in row
    sessions(running, 2)
    assert running.server("a")["sessions"] == 1


def test_drain_deadline_resets(echo_weir, sessions):
    running = echo_weir()
    clients = sessions(running, 2)
    # Never quiet, so it is the deadline that ends it.
    running.admin("drain web/a deadline=300ms")

    def reset():
        ended = 0
        for client in clients:
            try:
                client.sendall(b"y")
                client.recv(1)
            except OSError:
                ended += 1
        return ended == 1
    eventually(reset, 10, "one of the two sessions is reset")
    eventually(lambda: running.server("a")["drain"]["ended_deadline"] == 1, 5, "it is counted")
    [line] = running.wait_access(1)
    assert line["end"] == "drain-deadline"


def test_disable_and_enable(echo_weir, sessions):
    running = echo_weir()
    row = running.admin("disable web/b")
    assert (row["admin"], row["usable"]) == ("maintenance", False)
    sessions(running, 3)
    assert running.server("b")["sessions_total"] == 0
    running.admin("enable web/b")
    eventually(lambda: running.server("b")["usable"], 5, "b is usable again")


def test_weight(echo_weir, sessions):
    running = echo_weir()
    assert running.admin("weight web/a 3")["weight"] == 3
    running.admin("weight web/b 1")
    sessions(running, 8)
    rows = {row["name"]: row["sessions"] for row in running.admin("show servers web")}
    assert rows == {"a": 6, "b": 2}
    running.admin("weight web/a 0")
    sessions(running, 2)
    assert running.server("a")["sessions"] == 6


def test_kill_session(echo_weir, sessions):
    running = echo_weir()
    victim, other = sessions(running, 2)
    name = "{}:{}".format(*victim.getsockname())
    [row] = running.admin(f"show sessions client={name}")
    assert running.admin(f"kill session {row['id']}") == {"killed": row["id"]}
    with pytest.raises(ConnectionResetError):
        victim.recv(1)
    other.sendall(b"z")
    assert other.recv(1) == b"z"
    [line] = running.wait_access(1)
    assert (line["client"], line["end"]) == (name, "killed")
    with pytest.raises(AdminError, match=f"there is no session {row['id']}"):
        running.admin(f"kill session {row['id']}")


def test_changes_are_logged_with_who_made_them(weir, responders):
    running = weir([responders(1)[0].address])
    process = subprocess.Popen(
        [str(BUILD / "weirctl"), "--socket", str(running.socket), "weight", "web/a", "7"],
        stdout=subprocess.DEVNULL)
    assert process.wait(10 * SLOW) == 0
    ctl(running, "drain", "web/z")
    ctl(running, "show", "servers")

    def logged():
        return [line for line in running.log_lines() if line["event"] == "admin command"]
    eventually(lambda: len(logged()) >= 2, 5, "both are logged")
    done, refused = logged()
    assert done["command"] == "weight web/a 7"
    assert done["who"] == f"uid=0 pid={process.pid}"
    assert "error" not in done
    assert 'there is no server "z"' in refused["error"]


# ---- ready ----

def test_ready(weir, responders):
    server = responders(1)[0]
    running = weir([server.address],
                   pool={"health": {"type": "tcp", "interval": "100ms", "timeout": "100ms",
                                    "fall": 1, "rise": 1}})
    assert ctl(running, "ready").returncode == 0
    assert ctl(running, "ready", "web").returncode == 0
    assert ctl(running, "ready", "wbe").returncode == 1
    server.stop()
    done = eventually(lambda: (d := ctl(running, "ready")).returncode == 1 and d, 10, "not ready")
    assert 'pool "web" has no usable server' in done.stderr
    server.start()
    eventually(lambda: ctl(running, "ready").returncode == 0, 10, "ready again")
    running.stop()
    assert ctl(running, "ready").returncode == 3


def test_not_ready_while_the_pool_of_a_route_is_down(weir, responders):
    """A pool that no listener feeds does not matter."""
    good, bad = responders(2)
    bad.stop()
    health = {"type": "tcp", "interval": "100ms", "timeout": "100ms", "fall": 1}
    running = weir(
        pools=[{"name": name, "health": health,
                "servers": [{"name": "a", "address": server.address}]}
               for name, server in [("web", good), ("api", bad), ("unused", bad)]],
        listeners=[{"name": "web", "bind": f"127.0.0.1:{free_port()}", "pool": "web",
                    "routes": [{"sni": "api.example.com", "pool": "api"}]}])
    done = eventually(lambda: (d := ctl(running, "ready")).returncode == 1 and d, 10, "not ready")
    assert 'pool "api" has no usable server' in done.stderr
    assert ctl(running, "disable", "unused/a").returncode == 0
    bad.start()
    eventually(lambda: ctl(running, "ready").returncode == 0, 10, "ready again")
    assert ctl(running, "ready", "unused").returncode == 1


def test_not_ready_while_draining(echo_weir, sessions):
    running = echo_weir()
    [client] = sessions(running, 1)
    os.kill(running.pid, signal.SIGTERM)
    done = eventually(lambda: (d := ctl(running, "ready")).returncode == 1 and d, 5, "not ready")
    assert "weir is draining" in done.stderr
    assert running.admin("status")["state"] == "draining"
    client.close()
    assert running.process.wait(20 * SLOW) == 0


# ---- clients ----

def test_a_thousand_idle_clients(echo_weir, sessions):
    running = echo_weir()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(running)) for _ in range(64)]
        for client in clients:  # each has been taken before the next crowd comes
            client.send(b"ready\n")
            assert client.reply()["ok"]
        for _ in range(936):
            with Client(running) as late:
                reply = late.reply()
                assert not reply["ok"] and "takes no more" in reply["error"]
                assert late.reply() is None
        assert ctl(running, "status").returncode == 1
        sessions(running, 10)  # traffic does not mind
        clients[0].send(b"status\n")
        assert clients[0].reply()["data"]["sessions"] == 10
    eventually(lambda: ctl(running, "status").returncode == 0, 5, "there is room again")


def resident_kib(pid):
    if SLOW > 1:
        return 0  # sanitizers keep what is freed
    with open(f"/proc/{pid}/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def test_a_line_of_a_mebibyte(weir, responders):
    running = weir([responders(1)[0].address])
    before = resident_kib(running.pid)
    with Client(running) as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.send(b"x" * (1 << 20) + b"\n")
        reply = client.reply()
        assert not reply["ok"] and "longer than 4095 bytes" in reply["error"]
        assert client.reply() is None
    assert resident_kib(running.pid) - before < 1024
    assert running.admin("status")["state"] == "running"


def test_lines_in_pieces_and_in_a_heap(weir, responders):
    running = weir([responders(1)[0].address])
    with Client(running) as client:
        for byte in b"ready\n":
            client.send(bytes([byte]))
        assert client.reply()["ok"]
        client.send(b"ready\nstatus\nnonsense\nready\n")
        assert [client.reply()["ok"] for _ in range(4)] == [True, True, False, True]
        client.send(b"weight web/a 1")  # and nothing more: cut off
        client.socket.shutdown(socket.SHUT_WR)
        assert "broke off" in client.reply()["error"]
        assert client.reply() is None
    assert running.server("a")["weight"] == 100


def test_client_that_does_not_read_or_goes(weir, tcp_server, sessions):
    running = weir([tcp_server(echo, backlog=512).address])
    sessions(running, 300)
    before = resident_kib(running.pid)
    with Client(running) as lazy, Client(running) as goer:
        lazy.send(b"show sessions\n" * 250)  # 20 MiB of answers
        for _ in range(20):
            goer.send(b"show sessions\n")
        goer.socket.close()
        for _ in range(50):
            assert running.admin("status")["sessions"] == 300
        assert resident_kib(running.pid) - before < 4096
        lines = 0
        while lines < 250:  # and when it does read at last, it gets everything
            lines += not lazy.reply().get("more")


# ---- weirctl ----

def test_weirctl_prints_tables(echo_weir, sessions):
    running = echo_weir()
    sessions(running, 2)
    done = ctl(running, "show", "servers", "web")
    assert done.returncode == 0 and done.stderr == ""
    head, first, second = done.stdout.splitlines()
    assert head.split()[:6] == ["POOL", "SERVER", "ADDRESS", "WEIGHT", "ADMIN", "HEALTH"]
    assert first.split()[:6] == ["web", "a", running.server("a")["address"], "100", "enabled",
                                 "up"]
    assert second.split()[1] == "b"
    assert head.index("ADMIN") == first.index("enabled") == second.index("enabled")
    assert "DRAIN" not in head
    assert ctl(running, "drain", "web/a", "deadline=1h").stdout.splitlines()[1].split()[4] == \
        "drain"
    assert re.search(r"1 left, (59m|1h)\w+ to go; ended: 0 self, 0 quiet, 0 deadline",
                     ctl(running, "show", "servers").stdout)
    assert re.search(r"^uptime +\d", ctl(running, "status").stdout, re.MULTILINE)
    assert ctl(running, "show", "sessions").stdout.count("relaying") == 2


def test_weirctl_prints_json(echo_weir, sessions):
    running = echo_weir()
    sessions(running, 2)
    for words in (["show", "servers"], ["show", "listeners"], ["show", "config"]):
        done = ctl(running, "--json", *words)
        assert json.loads(done.stdout) == running.admin(" ".join(words))
    assert len(json.loads(ctl(running, "show", "sessions", "--json").stdout)) == 2


def test_weirctl_exit_codes(weir, responders, tmp_path):
    running = weir([responders(1)[0].address])
    assert ctl(running, "status").returncode == 0
    done = ctl(running, "shwo", "servers")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == \
        'weirctl: there is no command "shwo servers"; did you mean "show servers"?\n'
    assert ctl(running).returncode == 2
    assert ctl(running, "--nonsense", "status").returncode == 2
    assert ctl(running, "status\nweight web/a 1").returncode == 2
    assert running.server("a")["weight"] == 100

    absent = weir_module.weirctl("status", socket_path=tmp_path / "none.sock")
    assert (absent.returncode, absent.stdout) == (3, "")
    assert "weir is not there" in absent.stderr and str(tmp_path / "none.sock") in absent.stderr


def test_weirctl_takes_the_socket_from_the_environment(weir, responders):
    running = weir([responders(1)[0].address])
    done = subprocess.run(
        [str(BUILD / "weirctl"), "ready"], check=False, capture_output=True,
        env={**os.environ, "WEIR_SOCKET": str(running.socket)})
    assert done.returncode == 0


def test_weirctl_survives_a_closed_pipe(weir, tcp_server, sessions):
    running = weir([tcp_server(echo, backlog=512).address])
    sessions(running, 600)
    for words in ("show sessions", "--json show sessions"):
        done = subprocess.run(
            ["bash", "-c", 'set -o pipefail; "$0" --socket "$1" $2 | head -n 1',
             str(BUILD / "weirctl"), str(running.socket), words],
            capture_output=True, text=True, timeout=20 * SLOW, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.count("\n") == 1


def test_weirctl_tells_a_full_disk(weir, responders):
    running = weir([responders(1)[0].address])
    with open("/dev/full", "wb") as full:
        done = subprocess.run([str(BUILD / "weirctl"), "--socket", str(running.socket), "status"],
                              stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr


def test_weirctl_does_not_wait_for_ever(weir, responders):
    running = weir([responders(1)[0].address])
    os.kill(running.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        done = subprocess.run([str(BUILD / "weirctl"), "--socket", str(running.socket), "ready"],
                              capture_output=True, text=True, timeout=60, check=False)
        took = time.monotonic() - began
    finally:
        os.kill(running.pid, signal.SIGCONT)
    assert done.returncode == 3
    assert "has not answered for 10 seconds" in done.stderr
    assert 9.9 < took < 20


def test_traffic_and_admin_beside_each_other(weir, responders):
    """The first thing an operator does."""
    running = weir([one.address for one in responders(2)])
    names = {answer_of(running.address)[1].strip() for _ in range(4)}
    assert names == {"a", "b"}
    assert sum(row["sessions_total"] for row in running.admin("show servers web")) == 4
