"""How weir starts: what it says, what it refuses, whom it becomes."""
import os
import pwd
import re
import signal
import socket
import stat
import subprocess

import pytest

from lib.elf import hardening
from lib.ports import free_port
from lib.snapshot import is_alive
from lib.wait import SLOW, eventually
from lib.weir import BUILD, ROOT, USER

CAP_NET_BIND_SERVICE = 1 << 10


def run(*words, timeout=20):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True,
                          timeout=timeout * SLOW, check=False)


def refused(weir):
    """Runs a weir that must not start; returns what it says."""
    weir.launch()
    code = weir.process.wait(20 * SLOW)
    assert code > 0, f"exit code {code}:\n{weir.stderr()}"
    return weir.stderr()


# ---- the command line ----

@pytest.mark.parametrize("program", ["weir", "weirctl"])
def test_version(program):
    done = run(BUILD / program, "--version")
    assert done.returncode == 0
    assert re.fullmatch(rf"{program} \d+\.\d+\.\d+\n", done.stdout)


@pytest.mark.parametrize("program, words", [
    ("weir", ["--config", "--check", "--help-config", "--version"]),
    ("weirctl", ["--socket", "--json", "ready", "help"]),
])
def test_help(program, words):
    done = run(BUILD / program, "--help")
    assert done.returncode == 0
    assert done.stderr == ""
    for word in words:
        assert word in done.stdout


@pytest.mark.parametrize("program", ["weir", "weirctl"])
def test_unknown_option_is_refused(program):
    done = run(BUILD / program, "--no-such-option")
    assert done.returncode > 0
    assert "no-such-option" in done.stderr


# ---- the file itself ----

def test_argument_without_its_option_is_named():
    done = run(BUILD / "weir", "weir.cfg")
    assert done.returncode == 2
    assert done.stderr.startswith(
        'weir: it takes no "weir.cfg": a configuration is named by --config FILE\n')


@pytest.mark.parametrize("program", ["weir", "weirctl"])
def test_elf_is_hardened(program):
    found = hardening(BUILD / program)
    lacking = {name for name, there in found.items() if not there}
    # Sanitizers intercept what fortify would check.
    assert lacking <= ({"fortify"} if SLOW > 1 else set())


# ---- the addresses ----

def test_second_instance_names_the_first(weir, responders):
    first = weir([responders(1)[0].address])
    bind = first.configuration["listeners"][0]["bind"]
    said = refused(weir(["127.0.0.1:9"], listener={"bind": bind}, start=False))
    assert bind in said
    assert re.search(rf"weir \(pid {first.pid}\)", said)


def test_port_of_another_program_names_it(weir, nginx):
    server = nginx()
    said = refused(weir(["127.0.0.1:9"], listener={"bind": server.address}, start=False))
    assert server.address in said
    assert re.search(r"nginx \(pid \d+\)", said)


def test_port_held_with_reuseport_is_refused_too(weir):
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", free_port()))
        holder.listen()
        bind = "127.0.0.1:%d" % holder.getsockname()[1]
        assert bind in refused(weir(["127.0.0.1:9"], listener={"bind": bind}, start=False))


def test_one_held_port_of_two_opens_neither(weir, responders):
    held = responders(1)[0].address
    free = f"127.0.0.1:{free_port()}"
    listeners = [{"name": "one", "bind": free, "pool": "web"},
                 {"name": "two", "bind": held, "pool": "web"}]
    assert held in refused(weir(["127.0.0.1:9"], listeners=listeners, start=False))


def test_address_of_another_machine_needs_freebind(weir, responders):
    server = responders(1)[0].address
    bind = f"192.0.2.1:{free_port()}"
    assert bind in refused(weir([server], listener={"bind": bind}, start=False))
    weir([server], listener={"bind": bind, "freebind": True})


@pytest.mark.parametrize("bind_host, server_host", [
    ("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.2"), ("[::]", "[::1]")])
def test_server_that_is_our_own_listener_is_refused(weir, bind_host, server_host):
    port = free_port()
    said = refused(weir([f"{server_host}:{port}"], listener={"bind": f"{bind_host}:{port}"},
                        start=False))
    assert f"{server_host}:{port}" in said
    assert re.search(r"weir\.cfg:\d+: ", said)


# ---- the admin socket ----

def test_admin_socket_is_for_its_owner_alone(weir, responders):
    w = weir([responders(1)[0].address])
    status = w.socket.stat()
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_uid == pwd.getpwnam(USER).pw_uid


def test_live_admin_socket_is_left_alone(weir, responders):
    server = responders(1)[0].address
    first = weir([server])
    second = weir([server], weir={"admin": {"socket": str(first.socket)}}, start=False)
    assert str(first.socket) in refused(second)
    assert first.admin("status")["pid"] == first.pid


def test_dead_admin_socket_is_taken_over(weir, responders):
    w = weir([responders(1)[0].address], start=False)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(w.socket))
    w.start()


def test_admin_socket_goes_with_weir(weir, responders):
    w = weir([responders(1)[0].address])
    assert w.stop() == 0
    assert not w.socket.exists()


# ---- privileges ----

def proc_status(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def test_becomes_the_user_and_keeps_one_capability(weir, responders):
    status = proc_status(weir([responders(1)[0].address]).pid)
    user = pwd.getpwnam(USER)
    assert set(status["Uid"].split()) == {str(user.pw_uid)}
    assert set(status["Gid"].split()) == {str(user.pw_gid)}
    assert set(status["Groups"].split()) <= {str(user.pw_gid)}
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == CAP_NET_BIND_SERVICE
    assert int(status["CapBnd"], 16) == 0
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
    assert status["NoNewPrivs"] == "1"


def test_every_thread_has_dropped(weir, responders):
    w = weir([responders(1)[0].address], weir={"workers": 3})
    uid = str(pwd.getpwnam(USER).pw_uid)
    tasks = os.listdir(f"/proc/{w.pid}/task")
    assert len(tasks) >= 4
    for task in tasks:
        status = proc_status(f"{w.pid}/task/{task}")
        assert set(status["Uid"].split()) == {uid}
        assert int(status["CapEff"], 16) == CAP_NET_BIND_SERVICE
        assert status["NoNewPrivs"] == "1"


def test_root_without_a_user_is_warned(weir, responders):
    w = weir([responders(1)[0].address], weir={"user": ""})
    assert "weir runs as root" in w.stderr()


def test_user_that_does_not_exist_is_refused(weir):
    assert "no-such-user" in refused(
        weir(["127.0.0.1:9"], weir={"user": "no-such-user"}, start=False))


# ---- ready and stopping ----

def test_service_manager_is_told(weir, responders):
    server = responders(1)[0].address
    w = weir([server], start=False)
    path = w.directory / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        path.chmod(0o666)
        manager.settimeout(10 * SLOW)
        v = weir([server], env={"NOTIFY_SOCKET": str(path)})
        assert "READY=1" in manager.recv(4096).decode().split("\n")
        assert v.stop() == 0
        assert "STOPPING=1" in manager.recv(4096).decode().split("\n")


# ---- the demo ----

def processes_of(session_leader):
    """Everything that descends from a process, as far as it lives now."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            parents[int(name)] = int(proc_status(name)["PPid"])
        except (FileNotFoundError, ProcessLookupError):
            pass
    found = {session_leader}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def read_until(stream, word):
    said = ""
    for line in stream:
        said += line
        if word in line:
            return said
    raise AssertionError(f"ended without {word!r}:\n{said}")


@pytest.mark.skipif(BUILD != ROOT / "build", reason="scripts/run has the release build")
def test_demo_answers_in_turn_and_leaves_nothing(namespace):
    # Its ports are fixed; in a namespace of its own they are free for sure.
    there = namespace()
    # A shell that runs the tests in the background has them ignore Ctrl-C.
    script = [*there.wrap, "env", "--default-signal=INT", str(ROOT / "scripts/run")]
    demo = subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            start_new_session=True)
    try:
        said = read_until(demo.stdout, "Ctrl-C ends")
        names = [there.run("curl", "-s", "http://127.0.0.1:8080/").strip() for _ in range(9)]
        assert sorted(names[:3]) == ["a", "b", "c"]
        assert names[:3] * 3 == names

        command = re.search(r"build/weirctl --socket \S+ show servers", said)[0].split()
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        for name in "abc":
            assert re.search(rf"\b{name}\b.*\bup\b", listed.stdout), listed.stdout

        second = run(*script)
        assert second.returncode != 0
        assert re.search(r"127\.0\.0\.1:8080.*weir \(pid \d+\)", second.stdout + second.stderr)

        family = processes_of(demo.pid)
        assert len(family) >= 5
        os.killpg(demo.pid, signal.SIGINT)
        demo.stdout.read()
        assert demo.wait(20) == 0
        eventually(lambda: not any(map(is_alive, family)), 2, "all processes are gone")
        assert not os.path.exists("/tmp/weir-demo")
    finally:
        if demo.poll() is None:
            os.killpg(demo.pid, signal.SIGTERM)
            demo.wait(20)
        demo.stdout.close()
