"""Whom weir becomes, however it was started, and the one sentence of a start that cannot be.

TESTING.md row 24 beyond what test_start.py shows of an ordinary start as root.
"""
import os
import pwd
import shutil
import signal
import subprocess

import pytest

from lib import logs
from lib.snapshot import children
from lib.udp import listener
from lib.wait import SLOW, eventually
from lib.weir import BUILD, USER, make_directory

CAP_NET_BIND_SERVICE, CAP_NET_RAW = 1 << 10, 1 << 13
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")

AS_USER = {
    "setpriv": ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"),
    "runuser": ("runuser", "-u", USER, "--"),
}


def threads(pid):
    """The status of every thread as a dict."""
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status", encoding="ascii") as file:
            yield dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def check_threads(weir, capabilities):
    """All of them are the user's, and hold these capabilities and no others."""
    user = pwd.getpwnam(USER)
    found = list(threads(weir.pid))
    assert len(found) >= 4, "control, the log writer and two workers"
    for status in found:
        assert set(status["Uid"].split()) == {str(user.pw_uid)}
        assert set(status["Gid"].split()) == {str(user.pw_gid)}
        assert set(status["Groups"].split()) <= {str(user.pw_gid)}
        held = {name: int(status[name], 16) for name in SETS}
        assert held["CapPrm"] == held["CapEff"] == capabilities
        assert held["CapInh"] == held["CapAmb"] == 0
        assert status["NoNewPrivs"] == "1"


def sentence(weir):
    """Runs a weir that must not start; the one sentence that it says."""
    weir.launch()
    code = weir.process.wait(20 * SLOW)
    said = weir.stderr()
    assert code == 1, f"exit code {code}:\n{said}"
    assert said.startswith("weir: ") and said.count("\n") == 1, said
    assert not weir.socket.exists(), "a socket is left"
    return said


# ---- started as root ----

def test_every_thread_of_a_start_as_root(weir, responders):
    w = weir([responders(1)[0].address], weir={"workers": 2})
    check_threads(w, CAP_NET_BIND_SERVICE)
    assert {int(status["CapBnd"], 16) for status in threads(w.pid)} == {0}


def test_one_more_capability_to_connect_from_clients(weir, responders, caller):
    """And only where a pool says so: see the test before."""
    w = weir([responders(1)[0].address], weir={"workers": 2}, pool={"source": "client"})
    check_threads(w, CAP_NET_BIND_SERVICE | CAP_NET_RAW)
    assert {int(status["CapBnd"], 16) for status in threads(w.pid)} == {0}
    assert all(call.ok for call in caller(w.address, count=50).finish())


def test_no_group_of_the_starter_stays(weir, responders):
    w = weir([responders(1)[0].address], weir={"workers": 2},
             wrap=("setpriv", "--groups=0,4,27,100"))
    check_threads(w, CAP_NET_BIND_SERVICE)


def test_another_group(weir, responders):
    w = weir([responders(1)[0].address], weir={"group": "daemon"})
    for status in threads(w.pid):
        assert set(status["Gid"].split()) == {"1"}
        assert set(status["Uid"].split()) == {str(pwd.getpwnam(USER).pw_uid)}


def test_low_port_is_bound_as_root_and_served_as_the_user(weir, responder, namespace):
    there = namespace()
    w = weir([responder("there", wrap=there.wrap).address], wrap=there.wrap,
             weir={"workers": 2}, listener={"bind": "127.0.0.1:80"})
    check_threads(w, CAP_NET_BIND_SERVICE)
    assert there.run("curl", "-sf", "http://127.0.0.1/").strip() == "there"


# ---- started as the user ----

@pytest.mark.parametrize("by", AS_USER)
def test_started_as_the_user_itself(weir, responders, caller, by):
    """`user` set or not: it is that user already, and keeps no capability."""
    for more in ({"user": USER}, {"user": ""}):
        w = weir([responders(1)[0].address], weir={"workers": 2, **more}, wrap=AS_USER[by])
        if more["user"]:
            check_threads(w, 0)
        assert all(call.ok for call in caller(w.address, count=50).finish())
        assert "warn" not in {line["level"] for line in w.log_lines()}


def test_low_port_by_an_ambient_capability(weir, responder, namespace):
    """As a service manager grants it; once bound, it is given up."""
    there = namespace()
    grant = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups",
             "--inh-caps=+net_bind_service", "--ambient-caps=+net_bind_service")
    w = weir([responder("there", wrap=there.wrap).address], wrap=(*there.wrap, *grant),
             weir={"workers": 2}, listener={"bind": "127.0.0.1:80"})
    check_threads(w, 0)
    assert there.run("curl", "-sf", "http://127.0.0.1/").strip() == "there"


def test_clients_addresses_by_an_ambient_capability(weir, responders, caller):
    """That one is kept, for each connection takes it."""
    grant = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups",
             "--inh-caps=+net_raw", "--ambient-caps=+net_raw")
    w = weir([responders(1)[0].address], weir={"workers": 2}, pool={"source": "client"}, wrap=grant)
    check_threads(w, CAP_NET_RAW)
    assert all(call.ok for call in caller(w.address, count=50).finish())


# ---- one sentence ----

@pytest.mark.parametrize("wrap", [AS_USER["setpriv"], ("setpriv", "--bounding-set=-net_raw,-net_admin")],
                         ids=["user", "root without it"])
@pytest.mark.parametrize("user", [USER, ""])
def test_clients_addresses_without_the_capability(weir, wrap, user):
    said = sentence(weir(["127.0.0.1:9"], start=False, pool={"source": "client"},
                         weir={"user": user}, wrap=wrap))
    assert said == ('weir: source = "client" of the pool web needs the privilege CAP_NET_RAW: start '
                    'weir as root, or grant it that capability\n')



def test_low_port_without_the_privilege(weir, namespace):
    there = namespace()
    there.sysctl("net.ipv4.ip_unprivileged_port_start", 1024)
    said = sentence(weir(["127.0.0.1:9"], listener={"bind": "127.0.0.1:80"}, start=False,
                         wrap=(*there.wrap, *AS_USER["setpriv"])))
    assert "127.0.0.1:80 needs a privilege" in said and "CAP_NET_BIND_SERVICE" in said


def test_another_user_than_the_one_to_become(weir):
    said = sentence(weir(["127.0.0.1:9"], weir={"user": "daemon"}, start=False,
                         wrap=AS_USER["setpriv"]))
    assert said == ("weir: only root can become user daemon: "
                    "start weir as root, or as who it is to be\n")
    said = sentence(weir(["127.0.0.1:9"], weir={"group": "daemon"}, start=False,
                         wrap=AS_USER["setpriv"]))
    assert f"user {USER} and group daemon" in said


@pytest.mark.parametrize("key, name", [("user", "no-such-user"), ("group", "no-such-group")])
def test_name_that_does_not_exist(weir, key, name):
    said = sentence(weir(["127.0.0.1:9"], weir={key: name}, start=False))
    assert said == f"weir: there is no {key} {name}\n"


@pytest.mark.parametrize("target, why", [
    ("/root/weir.log", "Permission denied"),
    ("/no-such-directory/weir.log", "No such file or directory"),
    ("/proc", "Is a directory"),
])
def test_log_that_cannot_be_written(weir, target, why):
    """By the user that weir becomes, whoever started it."""
    said = sentence(weir(["127.0.0.1:9"], start=False, weir={"log": {"target": target}}))
    assert said == f"weir: cannot open the log {target}: {why}\n"


def test_too_few_descriptors(weir):
    said = sentence(weir(["127.0.0.1:9"], start=False, wrap=("prlimit", "--nofile=100")))
    assert "100 descriptors are too few" in said
    wanted = said.split("RLIMIT_NOFILE to ")[1].split()[0]
    # What it asks for is enough.
    weir(["127.0.0.1:9"], wrap=("prlimit", f"--nofile={wanted}"))


def test_a_start_that_fails_leaves_nothing_bound(weir, responders):
    w = weir(["127.0.0.1:9"], weir={"user": "no-such-user"}, start=False)
    sentence(w)
    weir([responders(1)[0].address], listener={"bind": w.configuration["listeners"][0]["bind"]})


def test_helper_is_not_reachable_for_the_user(weir, responders):
    """The helper stays what weir was; the user that weir becomes can neither signal nor trace it."""
    w = weir([responders(1)[0].address])
    with open(f"/proc/{w.pid}/task/{w.pid}/children", encoding="ascii") as file:
        helper, = file.read().split()
    done = subprocess.run([*AS_USER["setpriv"], "kill", "-0", helper], capture_output=True,
                          text=True, check=False)
    assert done.returncode != 0


# ---- the sandbox ----

SANITIZED = any(name in (BUILD / "weir").read_bytes() for name in (b"__asan_", b"__tsan_"))
sandboxed = pytest.mark.skipif(SANITIZED, reason="a sanitizer's runtime needs more")


def filters(pid):
    """How many filters of system calls each thread has, by its name."""
    found = {}
    for status in threads(pid):
        assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1", status["Name"]
        found.setdefault(status["Name"], []).append(int(status["Seccomp_filters"]))
    return found


def helper_of(weir):
    return children(weir.pid)[0]


@sandboxed
@pytest.mark.parametrize("wrap, user", [((), USER), ((), ""), (AS_USER["setpriv"], USER)],
                         ids=["root", "root that stays", "user"])
def test_every_thread_is_in_the_sandbox(weir, responders, wrap, user):
    """The process's filter, and the thread's own; the helper has one."""
    w = weir([responders(1)[0].address], weir={"workers": 3, "user": user}, wrap=wrap)
    found = filters(w.pid)
    assert sorted(count for counts in found.values() for count in counts) == [2] * 5, found
    assert found["weir-log"] == [2]
    assert filters(helper_of(w)) == {"weir-helper": [1]}


@sandboxed
def test_helper_may_only_read_as_root(weir, responders):
    w = weir([responders(1)[0].address])
    status, = threads(helper_of(w))
    assert int(status["CapPrm"], 16) == int(status["CapEff"], 16) == 1 << 2, "DAC_READ_SEARCH"
    assert status["Uid"].split()[0] == "0"


@pytest.fixture
def folder():
    """For a log."""
    made = make_directory()
    yield made
    shutil.rmtree(made)


@sandboxed
@pytest.mark.parametrize("splice", ["on", "off"])
def test_tcp_and_a_new_log_file_inside_the_sandbox(weir, responders, caller, folder, splice):
    path = folder / "weir.log"
    w = weir([server.address for server in responders(2)], listener={"splice": splice},
             weir={"workers": 2, "log": {"target": str(path)}})
    assert all(call.ok for call in caller(w.address, count=200).finish())
    path.rename(path.parent / "old")
    os.kill(w.pid, signal.SIGUSR1)
    eventually(path.exists, 5, "a new file")
    assert all(call.ok for call in caller(w.address, count=200).finish())
    eventually(lambda: logs.sessions(logs.read(path, "text")), 5, "lines in the new file")
    w.admin("drain web/b")
    assert w.admin("status")["descriptors"]["open"] > 0
    assert w.stop() == 0
    assert not w.socket.exists()


@sandboxed
def test_no_file_beside_the_folders_it_needs(weir, responders, caller, folder):
    """By its owner and mode the other folder is as good as the first: Landlock alone is between."""
    path = folder / "log" / "weir.log"
    for name in ("log", "other"):
        (folder / name).mkdir()
        shutil.chown(folder / name, USER)
    w = weir([responders(1)[0].address], weir={"log": {"target": str(path)}})
    (folder / "log").rename(folder / "old")
    (folder / "other").rename(folder / "log")
    os.kill(w.pid, signal.SIGUSR1)
    assert all(call.ok for call in caller(w.address, count=20).finish())
    lines = eventually(lambda: logs.sessions(logs.read(folder / "old" / "weir.log", "text")), 5,
                       "the old file goes on")
    assert lines and not path.exists()
    told, = [line for line in logs.read(folder / "old" / "weir.log", "text")
             if "log" in line["event"] and line["level"] == "warn"]
    assert "Permission denied" in str(told)


@sandboxed
def test_udp_inside_the_sandbox(weir, udp_echoes, udp_client):
    w = weir([server.address for server in udp_echoes(2)], listener=listener(),
             weir={"workers": 2})
    for client in [udp_client(w) for _ in range(8)]:
        assert client.ask(b"ping").endswith(b"ping")
    assert w.admin("status")["flows"] == 8


@sandboxed
def test_a_config_for_root_alone_is_read(weir, responders):
    """By a helper that keeps of root no more than reading."""
    w = weir([responders(1)[0].address], start=False)
    w.config_path.chmod(0o400)
    w.start()
