"""A system call fails, an allocation fails: whoever is hit is refused, and weir goes on.

TESTING.md rows 7 and 8.
"""
import contextlib
import errno
import itertools
import os
import select
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lib.inject import Injection, ShortMemory
from lib.peers import drain, echo, read_all
from lib.ports import free_port
from lib.resources import worker_threads
from lib.wait import SLOW
from lib.weir import AdminError

# ---- system calls (row 7) ----

# Errors of this machine, which must not be held against a server.
OURS = ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ENOSPC", "EADDRNOTAVAIL", "EPERM")
CALLS = {
    "accept4": ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ECONNABORTED", "EPERM"),
    "socket": ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"),
    "pipe2": ("EMFILE", "ENFILE"),
    "connect": ("EADDRNOTAVAIL", "ENOBUFS", "EPERM", "ECONNREFUSED", "ENETUNREACH", "EAGAIN"),
    "epoll_ctl": ("ENOMEM", "ENOSPC"),
    "setsockopt": ("ENOMEM", "ENOBUFS"),
    "splice": ("ENOMEM", "EINVAL"),
}
# The first, second and twentieth call, and all of them: each with the first error of the call.
CASES = [(call, errors[0], when) for call, errors in CALLS.items()
         for when in ("1", "2", "20", "1+")]
CASES += [(call, error, "1") for call, errors in CALLS.items() for error in errors[1:]]

CLIENTS = 32
BODY = bytes(range(256)) * 512


def serve(client):
    """Takes a byte, and streams the body as far as it gets."""
    if client.recv(1):
        client.sendall(BODY)
        client.shutdown(socket.SHUT_WR)
        drain(client)


def ask(weir):
    """A client that has asked for the body, with room for little of it; or how it was cut off."""
    client = socket.socket()
    client.settimeout(30 * SLOW)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    try:
        client.connect(weir.address)
        client.sendall(b"x")
    except ConnectionError as error:
        client.close()
        return type(error).__name__
    return client


def outcome(asked):
    """The whole body, or how the session was cut off. A half answer that ends well is neither."""
    if isinstance(asked, str):
        return asked
    try:
        with asked:
            got = read_all(asked)
    except ConnectionError as error:
        return type(error).__name__
    assert got == BODY, f"{len(got)} of {len(BODY)} bytes and a clean end"
    return "whole"


def wait_readable(clients, timeout):
    """Until something has come to each of them: then its stream is on its way, or it is reset."""
    waiting = {client for client in clients if not isinstance(client, str)}
    deadline = time.monotonic() + timeout * SLOW
    while waiting and (left := deadline - time.monotonic()) > 0:
        waiting.difference_update(select.select(waiting, [], [], left)[0])


def answers_within(weir, seconds):
    began = time.monotonic()
    assert outcome(ask(weir)) == "whole"
    took = time.monotonic() - began
    assert took < seconds * SLOW, f"the listener answered after {took:.3f} s"


@pytest.mark.parametrize("call, error, when", CASES)
def test_a_system_call_fails(weir, tcp_server, call, error, when):
    server = tcp_server(serve, backlog=1024)
    w = weir([server.address], pool={"retries": 0},
             listener={"splice": "on", "sndbuf": "16k", "rcvbuf": "16k"})
    # libuv ends the process when its own epoll_ctl fails, which control's loop does for each
    # probe and each admin client (uv__io_poll): the workers' alone are meant.
    threads = worker_threads(w.pid) if call == "epoll_ctl" else ()
    with Injection(w.pid, call, error, when, threads) as injection:
        clients = [ask(w) for _ in range(CLIENTS)]
        # Where all fail nobody may ever be accepted.
        wait_readable(clients, 0.5 if when == "1+" else 30)
    assert injection.count > 0, f"{call} was not called {when} times"
    with ThreadPoolExecutor(CLIENTS) as pool:
        outcomes = list(pool.map(outcome, clients))
    assert set(outcomes) <= {"whole", "ConnectionResetError"}
    if when != "1+":
        assert outcomes.count("whole") >= CLIENTS - 1
    answers_within(w, 1)
    w.wait_sessions(0)
    if error in OURS:
        assert w.admin("show counters")["connect_failures"] == 0, "it is held against the server"


# ---- memory (row 8) ----

@pytest.fixture
def memory():
    with contextlib.closing(ShortMemory()) as orders:
        yield orders


def numbers(memory, step=1):
    """Of each allocation in turn, until three in a row were beyond the last: how many there are
    varies a little from run to run."""
    beyond = 0
    for number in itertools.count(1, step):
        yield number
        beyond = 0 if memory.failed else beyond + 1
        if beyond == 3:
            print(f"about {number - 3 * step} allocations")
            return


def echo_of(weir, data, rcvbuf=None):
    """One session: what is sent comes back."""
    with socket.socket() as client:
        client.settimeout(10 * SLOW)
        if rcvbuf:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        client.connect(weir.address)
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(send_whole, client, data)
            try:
                got = read_all(client)
            finally:
                sending.result()  # the kernel tells a reset once, and it may have been told here
    assert got == data, f"{len(got)} of {len(data)} bytes and a clean end"


def send_whole(client, data):
    client.sendall(data)
    try:
        client.shutdown(socket.SHUT_WR)
    except OSError as error:  # reset, which the reader is told
        assert error.errno == errno.ENOTCONN


def refused_or(do, *arguments):
    """What a client may meet while memory is short, besides being served."""
    with contextlib.suppress(ConnectionError, AdminError):
        do(*arguments)


def serves_or_refuses(weir):
    """Waits until a weir that was launched serves (True) or has refused to (False)."""
    while weir.process.poll() is None:
        try:
            if weir.admin("status")["state"] == "running":
                return True
        except (OSError, AdminError):
            time.sleep(0.002)  # the pace of asking
    return False


def start_short(weir, memory, number):
    """A start whose allocation number so and so fails."""
    with memory.failing(number):
        weir.launch()
        serving = serves_or_refuses(weir)
    if serving:
        weir.pid = weir.process.pid
        for _ in range(4):  # by chance on both workers
            echo_of(weir, b"after a start that lacked memory")
        assert weir.stop() == 0, weir.stderr()
    else:
        assert weir.process.returncode == 1, f"{weir.process.returncode}\n{weir.stderr()}"
        assert weir.stderr().strip(), "refused without a word"
    weir.check_stderr()
    return serving


def tolerate_libconfig(env, tmp_path):
    """It does not look whether it got its memory, or calls exit when it did not. Its parser is a
    process of its own; that its death is told as one is what is tested."""
    leaks = tmp_path / "leaks"
    leaks.write_text("leak:libconfig\nleak:helper_start\n")
    leaks.chmod(0o644)
    env["ASAN_OPTIONS"] += ":handle_segv=0:fast_unwind_on_malloc=0"
    env["LSAN_OPTIONS"] = f"suppressions={leaks}:print_suppressions=0"
    env["TSAN_OPTIONS"] = os.environ.get("TSAN_OPTIONS", "") + ":handle_segv=0"


def test_memory_is_short_at_the_start(weir, tcp_server, memory, tmp_path):
    tolerate_libconfig(memory.env, tmp_path)
    w = weir([tcp_server(echo).address], env=memory.env, weir={"workers": 2}, start=False)
    # A sanitized start takes long: every third then.
    served = [start_short(w, memory, number) for number in numbers(memory, 3 if SLOW > 1 else 1)]
    print(f"{served.count(False)} of {len(served)} starts refused")
    assert served[-1] and not served[0]


LINES = ("status", "show servers", "show pools", "show listeners", "show sessions", "show counters",
         "show config", "show version", "help", "ready", "weight web/a 50", "drain web/b",
         "enable web/b", "disable web/b", "enable web/b", "kill session 1", "no such command")


def script(weir, lines):
    """One run: a short session, one that waits for its client, one whose first server refuses, and
    commands."""
    refused_or(echo_of, weir, b"short")
    refused_or(echo_of, weir, bytes(100000), 4096)
    refused_or(echo_of, weir, b"tried twice")
    for line in lines:
        refused_or(weir.admin, line)


@pytest.mark.parametrize("lines", [LINES[:7], LINES[7:]], ids=["looking", "changing"])
def test_memory_is_short_in_service(weir, tcp_server, memory, lines):
    """One weir meets it in each allocation of the run in turn, and is whole again after each."""
    servers = [tcp_server(echo).address, f"127.0.0.1:{free_port()}"]
    w = weir(servers, env=memory.env, pool={"connect_timeout": "500ms"},
             listener={"splice": "on", "sndbuf": "8k", "rcvbuf": "8k"})
    for number in numbers(memory):
        with memory.failing(number):
            script(w, lines)
        echo_of(w, b"after a run that lacked memory")
    w.wait_sessions(0)
    w.admin("enable web/b")
    assert w.server("a")["health"] == "up"


def test_memory_is_short_at_the_end(weir, tcp_server, memory):
    server = tcp_server(echo).address
    for number in numbers(memory):
        w = weir([server], env=memory.env, weir={"workers": 2, "shutdown_deadline": "50ms"})
        with w.connect() as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            with memory.failing(number):
                assert w.stop() == 0, w.stderr()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
