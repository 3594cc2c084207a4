"""Configuration files as an operator meets them: --check, --help-config, and a start that refuses."""
import os
import re
import socket
import subprocess

import pytest

from lib.netns import Namespace, veth
from lib.ports import free_port
from lib.snapshot import is_alive
from lib.wait import SLOW, eventually
from lib.weir import BUILD, ROOT, USER, make_directory

CORPUS = sorted((ROOT / "test/fuzz/corpus/config_file").glob("*.cfg"))
# The leak check of a sanitized build does not work under strace.
TRACED = {"ASAN_OPTIONS": "detect_leaks=0"}
EXAMPLES = sorted((ROOT / "config/examples").glob("*.cfg"))


def run(*words, cwd=ROOT, **options):
    return subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True,
                          errors="replace", timeout=30 * SLOW, check=False, **options)


def check(path, **options):
    return run(BUILD / "weir", "--check", path, **options)


def announced(path):
    """What a broken file says itself about its errors: {(file, line): [phrase, …]}."""
    found = {}
    text = path.read_bytes().decode("utf-8", "replace")
    for file, line, phrase in re.findall(r"^#! (?:([^:\n]+):)?(\d+): (.*)$", text, re.MULTILINE):
        name = path.parent / file if file else path
        found.setdefault((str(name.relative_to(ROOT)), int(line)), []).append(phrase)
    return found


@pytest.fixture
def folder():
    path = make_directory()
    yield path
    run("rm", "-r", path)


def good(**more):
    parts = {
        "pools": '( { name = "web"; servers = ( { name = "a"; address = "127.0.0.1:9"; } ); } )',
        "listeners": f'( {{ name = "web"; bind = "127.0.0.1:{free_port()}"; pool = "web"; }} )',
        **more,
    }
    return "".join(f"{key} = {value};\n" for key, value in parts.items())


# ---- --check ----

@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_right(path):
    done = check(path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{path}: the configuration is right\n"


def test_each_broken_file_is_refused_with_its_lines():
    assert len(CORPUS) >= 200
    for path in CORPUS:
        done = check(path.relative_to(ROOT))
        assert done.returncode > 0, path
        assert done.stdout == "", path
        said = done.stderr.splitlines()
        wanted = announced(path)
        assert len(said) == sum(map(len, wanted.values())), f"{path}:\n{done.stderr}"
        for (file, line), phrases in wanted.items():
            for phrase in phrases:
                assert any(text.startswith(f"{file}:{line}: ") and phrase in text
                           for text in said), f"{file}:{line}: {phrase}\n{done.stderr}"


def test_check_opens_no_socket_for_traffic(folder):
    traced = folder / "trace"
    done = run("strace", "-f", "-o", traced, "-e", "trace=bind,listen,connect",
               BUILD / "weir", "--check", "config/examples/demo.cfg", env={**os.environ, **TRACED})
    assert done.returncode == 0, done.stderr
    # The list of this machine's addresses is asked of the kernel by a netlink socket.
    calls = [line for line in traced.read_text().splitlines()
             if re.search(r"\b(bind|listen|connect)\(", line) and "AF_NETLINK" not in line]
    assert calls == []


def test_check_leaves_a_running_weir_alone(weir, responders):
    running = weir([server.address for server in responders(1)])
    done = check(running.config_path)
    assert done.returncode == 0, done.stderr
    assert running.admin("status")["state"] == "running"


def test_missing_file_is_told():
    done = check("/nonexistent/weir.cfg")
    assert done.returncode > 0
    assert done.stderr == ('/nonexistent/weir.cfg: cannot read "/nonexistent/weir.cfg": '
                           "No such file or directory\n")


def test_file_that_may_not_be_read_is_told(folder):
    path = folder / "secret.cfg"
    path.write_text(good())
    path.chmod(0o600)
    done = check(path, user=USER, group=USER)
    assert done.returncode > 0
    assert "Permission denied" in done.stderr


def test_a_fifo_does_not_hang(folder):
    path = folder / "fifo.cfg"
    os.mkfifo(path)
    done = check(path)
    assert done.returncode > 0
    assert "it is not a regular file" in done.stderr


def test_relative_path_counts_from_the_working_directory(folder):
    (folder / "sub").mkdir()
    (folder / "main.cfg").write_text('@include "sub/rest.cfg"\n' + good())
    (folder / "sub/rest.cfg").write_text('@include "more.cfg"\n')
    (folder / "sub/more.cfg").write_text("weir = { workers = 1; };\n")
    assert check("main.cfg", cwd=folder).returncode == 0
    assert check("../main.cfg", cwd=folder / "sub").returncode == 0

    (folder / "sub/more.cfg").write_text("# one line\nweir = { workers = 1000; };\n")
    done = check("main.cfg", cwd=folder)
    assert done.stderr == "sub/more.cfg:2: workers = 1000 must be 0 to 256\n"


def test_what_a_file_says_cannot_steer_the_terminal(folder):
    path = folder / "weir.cfg"
    path.write_text(good(weir='{ user = "\\x1b[31m\\r\\n"; bad\x1b = 1; }'))
    done = check(path)
    assert done.returncode > 0
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", done.stderr)


# ---- loops, by the addresses that this machine holds ----

@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("bind, server", [
    ("0.0.0.0:80", "10.97.0.1:80"),
    ("[::]:80", "[fd97::1]:80"),
    ("[::]:80", "10.97.0.1:80"),
])
def test_server_on_an_address_of_this_machine_behind_a_wildcard(folder, bind, server, protocol):
    left, right = Namespace(), Namespace()
    try:
        veth(left, right, "10.97.0.1/24", "10.97.0.2/24")
        veth(left, right, "fd97::1/64", "fd97::2/64")
        path = folder / "weir.cfg"
        v6only = "false" if bind.startswith("[") and not server.startswith("[") else "true"
        path.write_text(good(
            pools=f'( {{ name = "web"; servers = ( {{ name = "a"; address = "{server}"; }} ); }} )',
            listeners=f'( {{ name = "web"; bind = "{bind}"; v6only = {v6only}; pool = "web"; '
                      f'protocol = "{protocol}"; }} )'))
        here = run(*left.wrap, BUILD / "weir", "--check", path)
        assert here.returncode > 0
        assert "leads back to weir's own listener \"web\"" in here.stderr
        # On the other machine it is a server like any other.
        there = run(*right.wrap, BUILD / "weir", "--check", path)
        assert there.returncode == 0, there.stderr
    finally:
        left.discard()
        right.discard()


# ---- what the program says about keys ----

def test_help_config_has_every_key_of_the_reference():
    done = run(BUILD / "weir", "--help-config")
    assert done.returncode == 0
    reference = (ROOT / "docs/configuration.md").read_text()
    keys = set(re.findall(r"^\| `(\w+)` \|", reference, re.MULTILINE))
    assert len(keys) > 40
    listed = set(re.findall(r"^  (\w+)  +\w", done.stdout, re.MULTILINE))
    assert keys == listed
    assert max(map(len, done.stdout.splitlines())) <= 100


# ---- a start ----

def test_start_refuses_a_broken_file_and_binds_nothing(weir, folder):
    trace = folder / "trace"
    one = weir(text=good(weir='{ workers = 999; admin = { socket = "@SOCKET@"; }; }'),
               wrap=("strace", "-f", "-o", str(trace), "-e", "trace=listen"), env=TRACED,
               start=False)
    one.launch()
    assert one.process.wait(30 * SLOW) > 0
    assert f"{one.config_path}:3: workers = 999 must be 0 to 256" in one.stderr()
    assert "listen(" not in trace.read_text()
    assert not one.socket.exists()


@pytest.mark.parametrize("protocol, key, value, other", [
    ("tcp", "responses", "1", "udp"),
    ("udp", "idle_timeout", '"10m"', "tcp"),
])
def test_start_refuses_a_key_of_the_other_protocol(weir, protocol, key, value, other):
    """Though it says what it would be anyway."""
    bind = f"127.0.0.1:{free_port(kind=socket.SOCK_DGRAM)}"
    one = weir(text=good(listeners=f"""( {{ name = "web"; bind = "{bind}"; pool = "web";
        {key} = {value};
        protocol = "{protocol}"; }} )"""), start=False)
    one.launch()
    assert one.process.wait(30 * SLOW) > 0
    assert one.stderr() == (
        f'{one.config_path}:3: {key} means nothing to a listener with protocol = "{protocol}"; '
        f'it is for protocol = "{other}"\n')


def test_show_config_is_a_file_that_starts_the_same(weir, responders, folder):
    bind = f"127.0.0.1:{free_port(kind=socket.SOCK_DGRAM)}"
    running = weir([server.address for server in responders(2)],
                   pool={"retries": 1, "health": {"type": "http", "path": "/healthz"}},
                   defaults={"idle_timeout": "90s", "udp_idle_timeout": "40s"},
                   listeners=[{"name": "tcp", "bind": bind, "pool": "web"},
                              {"name": "udp", "bind": bind, "pool": "web", "protocol": "udp",
                               "udp_quarantine": "700ms"}])
    text = running.admin("show config")
    path = folder / "shown.cfg"
    path.write_text(text)
    done = check(path)
    assert done.returncode == 0, done.stderr
    assert 'idle_timeout = "90s";' in text and "retries = 1;" in text
    assert 'udp_idle_timeout = "40s";' in text and 'udp_quarantine = "700ms";' in text


# ---- the helper ----

def helper_of(pid):
    """The child of weir that reads files."""
    children = run("ps", "-o", "pid=,comm=", "--ppid", pid).stdout.splitlines()
    found = [int(line.split()[0]) for line in children if "weir-helper" in line]
    assert len(found) == 1, children
    return found[0]


def test_helper_has_no_socket_of_traffic_and_ends_with_weir(weir, responders):
    running = weir([server.address for server in responders(1)])
    helper = helper_of(running.pid)
    links = [os.readlink(f"/proc/{helper}/fd/{fd}") for fd in os.listdir(f"/proc/{helper}/fd")]
    assert sum(link.startswith("socket:") for link in links) == 1
    assert running.stop() == 0
    eventually(lambda: not is_alive(helper), 5, "the helper is gone")


def test_traffic_goes_on_without_the_helper(weir, responders):
    running = weir([server.address for server in responders(1)])
    os.kill(helper_of(running.pid), 9)
    bind = running.configuration["listeners"][0]["bind"]
    answer = run("curl", "-sf", f"http://{bind}/")
    assert answer.returncode == 0, answer
    assert answer.stdout.strip() != ""
