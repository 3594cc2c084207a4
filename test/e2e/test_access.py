"""Who may come in, from a file of thousands, and by what operators say while weir runs."""
import ipaddress
import subprocess

import pytest

from lib.peers import echo
from lib.wait import SLOW
from lib.weir import BUILD, make_directory
from test_gate import may_enter, refused

MANY = 20000


@pytest.fixture
def folder():
    path = make_directory()
    yield path
    subprocess.run(["rm", "-r", path], check=True)


def check(path):
    return subprocess.run([BUILD / "weir", "--check", path], capture_output=True, text=True,
                          timeout=30 * SLOW, check=False)


# ---- from a file ----

def many(count):
    """So many addresses of IPv4, and the networks of IPv6 that belong to them."""
    first = ipaddress.ip_address("10.0.0.0")
    for number in range(count // 2):
        yield f"{first + number}"
        yield f"2001:db8:{number:x}::/48"


def test_thousands_are_denied_from_a_file(weir, tcp_server, folder):
    (folder / "blocked.txt").write_text(
        "# made by a program\n" + "\n".join(many(MANY)) + "\n127.0.3.0/24 # ours\n")
    w = weir([tcp_server(echo).address],
             listener={"deny_file": str(folder / "blocked.txt"), "allow": ["127.0.0.0/8"]})
    assert not may_enter(w, "127.0.3.7")
    assert may_enter(w, "127.0.4.7")
    assert refused(w) == 1
    shown = w.admin("show config")
    assert "blocked.txt" in shown and "127.0.3.0" not in shown


def test_who_is_in_no_list_of_the_allowed_is_refused(weir, tcp_server, folder):
    (folder / "in").write_text("127.0.1.0/24\n")
    (folder / "out").write_text("127.0.1.9\n")
    w = weir([tcp_server(echo).address],
             listener={"allow_file": str(folder / "in"), "deny_file": str(folder / "out")})
    assert {source: may_enter(w, source) for source in ("127.0.1.1", "127.0.1.9", "127.0.2.1")} == \
        {"127.0.1.1": True, "127.0.1.9": False, "127.0.2.1": False}


CONFIGURATION = """
pools = ( { name = "web"; servers = ( { name = "a"; address = "127.0.0.1:9"; } ); } );
listeners = ( { name = "web"; bind = "127.0.0.1:8080"; pool = "web";
                allow_file = "in.txt"; } );
"""


@pytest.mark.parametrize("text, place, said", [
    (None, "weir.cfg:4", "allow_file: cannot read"),
    ("10.0.0.0/8\n\n10.0.0.1/8\n", "in.txt:3", "the network is 10.0.0.0/8"),
    ("all of them\n", "in.txt:1", "is not a network such as"),
    ("\n# nobody yet\n", "weir.cfg:4", "holds no network"),
    ("\n".join(many(100002)), "in.txt:100001", "more than 100000 networks"),
], ids=["missing", "host bits", "no network", "empty", "too many"])
def test_a_wrong_list_is_told_with_its_line(folder, text, place, said):
    (folder / "weir.cfg").write_text(CONFIGURATION)
    if text is not None:
        (folder / "in.txt").write_text(text)
    done = check(folder / "weir.cfg")
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith(f"{folder}/{place}: ") and said in done.stderr


def test_a_list_as_long_as_may_be_is_right(folder):
    (folder / "weir.cfg").write_text(CONFIGURATION)
    (folder / "in.txt").write_text("\n".join(many(100000)))
    done = check(folder / "weir.cfg")
    assert (done.returncode, done.stderr) == (0, "")
