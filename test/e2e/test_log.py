"""The log: what an access line says, that a line is one line, and that nobody waits for it.

TESTING.md row 23 as far as issue 2 goes, and its paragraph "Logs".
"""
import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import termios

import pytest

from lib import logs
from lib.meeting import Meeting, wait_for_reset
from lib.peers import read_exactly, read_to_fin, reset
from lib.ports import free_port, join
from lib.wait import SLOW, eventually
from lib.weir import USER, make_directory

FORMS = ("text", "json")

ACCESS_FIELDS = ["time", "level", "event", "id", "client", "listener", "pool", "server",
                 "server_address", "tries", "connect_ms", "duration_ms", "bytes_in", "bytes_out",
                 "engine", "end", "by", "bytes_lost"]

# Far more than a batch, a ring for each thread and a pipe hold.
FLOOD = 4000


@pytest.fixture
def folder():
    made = make_directory("weir-log-")
    yield made
    shutil.rmtree(made)


@pytest.fixture
def meeting():
    with Meeting() as made:
        yield made


def log_to(target, form, level="info", **more):
    return {"log": {"target": str(target), "format": form, "level": level, **more}}


def flood(weir, caller, count=FLOOD):
    """So many sessions, none of which fails or waits for anything."""
    calls = caller(weir.address, count=count, lanes=32, timeout=int(5000 * SLOW)).finish()
    assert [call for call in calls if not call.ok] == []
    weir.wait_sessions(0)
    return count


def counted(weir):
    return weir.admin("status")["log"]


# ---- the access line ----

@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("splice, engine", [("off", "copy"), ("on", "splice")])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_access_line(weir, folder, host, splice, engine, form):
    path = folder / "log"
    bind = join(host, free_port(host))
    with Meeting(host) as meeting:
        w = weir([meeting.address], weir=log_to(path, form),
                 listener={"bind": bind, "splice": splice})
        client, server = meeting.meet(w.address)
        client_address = join(*client.getsockname()[:2])
        client.sendall(b"12345")
        assert read_exactly(server, 5) == b"12345"
        server.sendall(b"1234567")
        assert read_exactly(client, 7) == b"1234567"
        client.shutdown(socket.SHUT_WR)
        read_to_fin(server)
        server.shutdown(socket.SHUT_WR)
        read_to_fin(client)
        line, = eventually(lambda: logs.sessions(logs.read(path, form)), 5, "the access line")

    assert list(line) == ACCESS_FIELDS, "scripts go by the names and awk by the order"
    assert 0 < line["connect_ms"] < line["duration_ms"] < 20000 * SLOW
    assert isinstance(line["id"], int)
    told = {key: line[key] for key in ACCESS_FIELDS[4:] if not key.endswith("_ms")}
    assert told == {
        "client": client_address, "listener": "web", "pool": "web", "server": "a",
        "server_address": meeting.address, "tries": 1, "bytes_in": 5, "bytes_out": 7,
        "engine": engine, "end": "done", "by": "both", "bytes_lost": 0}


def only_access(weir):
    line, = weir.wait_access(1)
    return line


def meet_reset(weir):
    """A client that weir resets, be it as soon as it has connected."""
    with pytest.raises(ConnectionResetError), weir.connect() as client:
        client.recv(1)


def nobody():
    """An address where nobody listens."""
    return f"127.0.0.1:{free_port()}"


def test_access_line_tells_the_server_that_served_and_the_tries(weir, meeting):
    w = weir([nobody(), nobody(), meeting.address], pool={"scheduler": "first"})
    client, server = meeting.meet(w.address)
    client.close()
    server.close()
    line = only_access(w)
    assert (line["server"], line["tries"], line["end"]) == ("c", 3, "done")


def test_access_line_of_connects_that_all_fail(weir):
    w = weir([nobody() for _ in range(4)], pool={"retries": 2})
    meet_reset(w)
    line = only_access(w)
    assert (line["end"], line["by"], line["tries"]) == ("connect-failed", "server", 3)
    assert line["connect_ms"] == line["bytes_in"] == line["bytes_out"] == 0
    failures = {row["name"]: row["connect_failures"] for row in w.admin("show servers web")}
    assert sorted(failures.values()) == [0, 1, 1, 1], "three servers, each once"
    assert failures[line["server"]] == 1


def test_access_line_of_a_connect_that_takes_too_long(weir):
    with Meeting(backlog=0) as full, contextlib.ExitStack() as fill:
        # Then the kernel drops what comes: listen(2) with 0 has room for one.
        first = fill.enter_context(socket.create_connection(full.address.split(":")))
        assert first
        w = weir([full.address], pool={"retries": 0, "connect_timeout": "200ms"})
        meet_reset(w)
        line = only_access(w)
    assert (line["end"], line["by"], line["tries"]) == ("connect-timeout", "server", 1)
    assert line["connect_ms"] == 0
    assert line["duration_ms"] >= 199  # the wheel's slots are milliseconds


NO_SERVER = {"health": {"type": "tcp", "interval": "100ms", "timeout": "50ms"}}


def empty(weir, **pool):
    w = weir([nobody()], pool={**NO_SERVER, **pool})
    w.wait_health("a", "down")
    return w


def check_without_server(line, end, by):
    assert (line["end"], line["by"], line["tries"]) == (end, by, 0)
    assert "server" not in line and "server_address" not in line


def test_access_line_without_a_server(weir):
    w = empty(weir, when_empty="reset")
    meet_reset(w)
    check_without_server(only_access(w), "no-server", "weir")


def test_access_line_of_a_client_that_waited_in_vain(weir):
    w = empty(weir, connect_timeout="200ms")
    meet_reset(w)
    line = only_access(w)
    check_without_server(line, "no-server", "weir")
    assert line["duration_ms"] >= 199  # as above


def test_access_line_of_a_client_that_did_not_wait(weir):
    w = empty(weir, connect_timeout="5m")
    client = w.connect()
    w.wait_sessions(1)
    reset(client)
    check_without_server(only_access(w), "client-gone", "client")


def silent(weir, session):
    """Neither end says anything."""


def client_resets(weir, session):
    reset(session[0])


def server_resets(weir, session):
    reset(session[1])


def half_closes(weir, session):
    session[0].shutdown(socket.SHUT_WR)


def is_killed(weir, session):
    row, = weir.admin("show sessions")
    weir.admin(f"kill session {row['id']}")


def is_drained(weir, session):
    weir.admin("drain web/a deadline=0")


@pytest.mark.parametrize("act, end, by, listener", [
    (client_resets, "client-reset", "client", {}),
    (server_resets, "server-reset", "server", {}),
    (silent, "idle-timeout", "weir", {"idle_timeout": "200ms"}),
    (half_closes, "half-close-timeout", "weir", {"half_close_timeout": "200ms"}),
    (is_killed, "killed", "operator", {}),
    (is_drained, "drain-deadline", "weir", {}),
])
def test_access_line_tells_who_ended_it_and_why(weir, meeting, act, end, by, listener):
    w = weir([meeting.address], listener=listener)
    client, server = meeting.meet(w.address)
    server.sendall(b"x")  # a reset that comes before weir has looked is a connect that failed
    read_exactly(client, 1)
    act(w, (client, server))
    line = only_access(w)
    assert (line["end"], line["by"], line["bytes_lost"]) == (end, by, 0)


def held(sock, request):
    """Bytes in a socket's queue."""
    return int.from_bytes(fcntl.ioctl(sock, request, bytes(4)), "little")


def at_rest(count, times=25):
    """A condition: the count was the same so many times in a row."""
    seen = []

    def same():
        seen.append(count())
        return len(seen) >= times and len(set(seen[-times:])) == 1
    return same


@pytest.mark.parametrize("splice", ["off", "on"])
def test_access_line_counts_what_a_reset_lost(weir, splice):
    """Sent and acknowledged, but never at the client: each byte is one of bytes_lost."""
    with Meeting(options=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)]) as meeting:
        w = weir([meeting.address],
                 listener={"splice": splice, "reset_flush_timeout": "200ms"})
        client, server = meeting.meet(w.address)
        server.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += server.send(bytes(65536))
        eventually(at_rest(lambda: held(server, termios.TIOCOUTQ)), 5, "nothing moves")
        taken = sent - held(server, termios.TIOCOUTQ)
        reset(server)
        wait_for_reset(client)
        line = only_access(w)
        arrived = held(client, termios.FIONREAD)
    assert line["end"] == "server-reset"
    assert 0 < arrived < taken
    assert line["bytes_lost"] == taken - arrived


# ---- one line each ----

EVIL = b'\\"=\\\\ \xff\xc3(\xed\xa0\x80 \xc2\x85\xe2\x80\xa8\xe2\x80\xae caf\xc3\xa9 x=1'


def told(lines, event, key):
    return [line[key] for line in lines if line["event"] == event and key in line]


@pytest.mark.parametrize("form", FORMS)
def test_a_line_is_one_line_whatever_an_operator_types(weir, responders, folder, form):
    path = folder / "log"
    w = weir([responders(1)[0].address], weir=log_to(path, form))
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10 * SLOW)
        client.connect(str(w.socket))
        with client.makefile("rb") as replies:
            for command in (b'drain "web/%s"' % EVIL, b"drain web/a\x1b[2J\rweir", b"drain web/a"):
                client.sendall(command + b"\n")
                assert replies.readline()
    assert w.stop() == 0
    commands = told(logs.read(path, form), "admin command", "command")
    raw = path.read_bytes()
    assert raw.count(b"\n") == len(logs.read(path, form))
    assert len(commands) == 2, "control characters are refused before a command is one"
    # Only bytes that stand for themselves: no control character, no second line for whoever reads.
    printed = raw.decode().replace("\n", "").replace("é", "")
    assert printed.isascii() and printed.isprintable()
    assert "café" in raw.decode()
    if form == "text":
        assert os.fsencode("\udcff\udcc3(\udced\udca0\udc80 \u0085\u2028\u202e") in os.fsencode(
            commands[0])
    else:
        assert "\ufffd\ufffd(" in commands[0] and "\u0085\u2028\u202e" in commands[0]


@pytest.mark.parametrize("form", FORMS)
def test_a_line_is_one_line_whatever_a_probe_wants(weir, responders, folder, form):
    """The configured text goes into the reason why the server is down."""
    path = folder / "log"
    configuration = weir([responders(1)[0].address], weir=log_to(path, form), start=False,
                         pool={"health": {"type": "http", "body": "EVIL", "interval": "100ms",
                                          "timeout": "50ms"}})
    escaped = "".join(f"\\x{byte:02x}" for byte in EVIL)
    w = weir(text=configuration.config_path.read_text().replace("EVIL", escaped).replace(
        str(configuration.socket), "@SOCKET@"))
    w.wait_health("a", "down")
    reasons = eventually(lambda: told(logs.read(path, form), "server is down", "reason"), 5,
                         "the line that says why")
    raw = path.read_bytes()
    assert raw.count(b"\n") == len(logs.read(path, form))
    assert raw.decode().replace("\n", "").replace("é", "").isprintable()
    assert 'lacks "\\"=\\\\ ' in reasons[0] and "café x=1" in reasons[0]


# ---- a full disk ----

@pytest.fixture
def small_disk(folder):
    """small_disk(size): a tmpfs of that size, or the same with another."""
    disk = folder / "disk"
    disk.mkdir()
    user = pwd.getpwnam(USER)

    def make(size):
        again = "remount," if os.path.ismount(disk) else ""
        options = f"{again}size={size},uid={user.pw_uid},gid={user.pw_gid}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "weir-test", disk], check=True)
        return disk
    yield make
    if os.path.ismount(disk):
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize("form", FORMS)
def test_full_disk_delays_nobody_and_drops_are_counted(weir, responders, caller, small_disk, form):
    path = small_disk("256k") / "log"
    w = weir([responders(1)[0].address], weir=log_to(path, form))
    expected = flood(w, caller)

    def accounts():
        # The line that the full disk cut in two is neither, until there is room for its rest.
        torn = not path.read_bytes().endswith(b"\n")
        written = len(logs.sessions(logs.read(path, form)))
        return written + torn + counted(w)["dropped"] == expected
    eventually(accounts, 5, "lines written and lines dropped are those of all sessions")
    lost = counted(w)["dropped"]
    assert lost > FLOOD / 4
    assert logs.dropped(logs.read(path, form)) < lost

    small_disk("16m")
    eventually(lambda: logs.dropped(logs.read(path, form)) == lost, 5, "the log says what it lacks")
    expected += flood(w, caller, 100)
    eventually(accounts, 5, "all lines of the new sessions")
    assert counted(w)["dropped"] == lost
    reasons = told(logs.read(path, form), "log lines dropped", "error")
    assert reasons and set(reasons) == {"No space left on device"}


# ---- a reader of stderr that stops, or goes ----

class Reader:
    """A named pipe that weir has for its standard error, and what was read from it."""

    def __init__(self, path, form):
        os.mkfifo(path)
        self._form = form
        # Also its writer, so that it opens at once and has no end.
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._data = b""
        self.wrap = ("sh", "-c", 'exec "$@" 2>"$0"', str(path))

    def lines(self):
        """All that has come until now."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._data += os.read(self._fd, 1 << 20)
        return logs.parse(self._data, self._form)

    def close(self):
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


@pytest.fixture
def reader(folder):
    with contextlib.ExitStack() as cleanup:
        def make(form, mode=0o600):
            made = Reader(folder / "pipe", form)
            cleanup.callback(made.close)
            (folder / "pipe").chmod(mode)
            return made
        yield make


# weir opens a pipe anew so as not to wait in it; one of root's it may not, and has to look first.
@pytest.mark.parametrize("mode", [0o600, 0o666], ids=["shared", "opened"])
@pytest.mark.parametrize("form", FORMS)
def test_stopped_reader_delays_nobody_and_drops_are_counted(
        weir, responders, caller, reader, form, mode):
    pipe = reader(form, mode)
    w = weir([responders(1)[0].address], weir=log_to("stderr", form), wrap=pipe.wrap)
    expected = flood(w, caller)
    assert counted(w)["dropped"] > FLOOD / 4

    def accounts():
        read = pipe.lines()
        lost = counted(w)["dropped"]
        return len(logs.sessions(read)) + lost == expected and logs.dropped(read) == lost
    eventually(accounts, 10, "lines read and lines dropped are those of all sessions")

    flood(w, caller)  # and nobody reads any more: the end does not wait for ever
    assert w.stop() == 0


def test_reader_that_is_gone_harms_nobody(weir, responders, caller, reader):
    pipe = reader("json")
    w = weir([responders(1)[0].address], weir=log_to("stderr", "json"), wrap=pipe.wrap)
    before = counted(w)["dropped"]
    pipe.close()
    expected = flood(w, caller, 1000)
    eventually(lambda: counted(w)["dropped"] - before == expected, 5, "each line is counted")
    assert w.stop() == 0


# ---- a file that is moved away ----

def test_log_file_is_for_the_user_alone(weir, responders, folder):
    path = folder / "log"
    weir([responders(1)[0].address], weir=log_to(path, "json"))
    status = path.stat()
    assert stat.S_IMODE(status.st_mode) & ~0o640 == 0
    assert status.st_uid == pwd.getpwnam(USER).pw_uid


@pytest.mark.parametrize("form", FORMS)
def test_usr1_opens_the_log_anew_and_no_line_is_lost(weir, responders, caller, folder, form):
    path = folder / "log"
    w = weir([responders(1)[0].address], weir=log_to(path, form))
    load = caller(w.address, lanes=16)
    old = []
    for number in range(20):
        load.wait_calls(50)
        old.append(path.rename(folder / f"log.{number}"))
        os.kill(w.pid, signal.SIGUSR1)
        eventually(path.exists, 5, "a new file")
    calls = load.end()
    w.wait_sessions(0)

    def all_there():
        files = [logs.sessions(logs.read(name, form)) for name in [*old, path]]
        return all(files) and sum(map(len, files)) == len(calls)
    eventually(all_there, 5, f"{len(calls)} lines, some in each file")
    assert counted(w)["dropped"] == 0


@pytest.mark.parametrize("form", FORMS)
def test_usr1_without_a_way_to_the_file_keeps_the_old_one(weir, responders, folder, form):
    home = folder / 'a "b" = é'
    home.mkdir()
    shutil.chown(home, USER)
    w = weir([responders(1)[0].address], weir=log_to(home / "log", form))
    moved = home.rename(folder / "moved")
    os.kill(w.pid, signal.SIGUSR1)
    event = "log not opened again, going on with the old file"
    told_path = eventually(lambda: told(logs.read(moved / "log", form), event, "path"), 5, event)
    assert told_path == [str(home / "log")]
    w.connect().close()
    eventually(lambda: logs.sessions(logs.read(moved / "log", form)), 5, "lines go on")


# ---- what is left out ----

def test_access_lines_can_be_left_out(weir, responders, folder, caller):
    path = folder / "log"
    w = weir([responders(1)[0].address], weir=log_to(path, "json", access=False))
    flood(w, caller, 10)
    assert w.stop() == 0
    events = [line["event"] for line in logs.read(path, "json")]
    assert "session" not in events and "stopped" in events


@pytest.mark.parametrize("level", ["error", "warn", "info", "debug"])
def test_level_is_the_least_important_that_is_written(weir, folder, level):
    """A listener that pauses warns, a session informs."""
    path = folder / "log"
    with Meeting() as meeting:
        w = weir([meeting.address], weir=log_to(path, "json", level),
                 listener={"max_connections": 1})
        client, server = meeting.meet(w.address)
        waiting = w.connect()
        eventually(lambda: w.admin("show counters")["accept_pauses"], 5, "the listener pauses")
        for one in (client, server, waiting):
            one.close()
        meeting.accept().close()
        w.wait_sessions(0)
        assert w.stop() == 0
    levels = ["error", "warn", "info", "debug"]
    written = {line["level"] for line in logs.read(path, "json")}
    allowed = levels[:levels.index(level) + 1]
    assert written <= set(allowed)
    assert ("warn" in written) == ("warn" in allowed)
    assert ("info" in written) == ("info" in allowed)
