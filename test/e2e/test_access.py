"""Who may come in, from a file of thousands, and by what operators say while weir runs."""
import ipaddress
import subprocess
import threading
import time

import pytest

from lib import udp
from lib.peers import echo
from lib.wait import SLOW, eventually
from lib.weir import BUILD, AdminError, make_directory
from test_gate import drops, enter, may_enter, refused

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


# ---- by command ----

def rules(weir, listener="web"):
    """What operators said: {network: (verdict, time left)}."""
    return {row["network"]: (row["verdict"], row["left_ms"])
            for row in weir.admin(f"show access {listener}") if row["by"] == "operator"}


def test_a_listener_without_limits_learns_of_them(weir, tcp_server):
    w = weir([tcp_server(echo).address], weir={"workers": 2})
    assert may_enter(w, "127.0.3.7")
    w.admin("deny web 127.0.3.0/24")
    # All workers know before the answer comes.
    assert not any(may_enter(w, "127.0.3.7") for _ in range(20))
    assert may_enter(w, "127.0.4.7")
    w.admin("allow web 127.0.3.7")
    assert may_enter(w, "127.0.3.7") and not may_enter(w, "127.0.3.8")
    assert may_enter(w, "127.0.4.7"), "to allow one is not to deny the others"
    assert rules(w) == {"127.0.3.0/24": ("deny", None), "127.0.3.7/32": ("allow", None)}
    for network in ("127.0.3.0/24", "127.0.3.7"):
        w.admin(f"forget web {network}")
    assert may_enter(w, "127.0.3.8") and rules(w) == {}

    def told():
        return [line["event"] for line in w.log_lines() if "by an operator" in line["event"]]
    eventually(lambda: told() == ["denied by an operator", "allowed by an operator"] +
               ["an access rule is forgotten by an operator"] * 2, 5, "the log has each")


def test_of_one_network_the_operators_word_counts(weir, tcp_server, folder):
    (folder / "out").write_text("127.0.3.0/24\n127.0.5.0/24\n")
    w = weir([tcp_server(echo).address], listener={"deny_file": str(folder / "out")})
    assert not may_enter(w, "127.0.3.7")
    w.admin("allow web 127.0.3.0/24")
    assert may_enter(w, "127.0.3.7") and not may_enter(w, "127.0.5.7")
    w.admin("deny web 127.0.3.0/24")
    assert not may_enter(w, "127.0.3.7")
    configured = [(row["verdict"], row["network"], row["networks"])
                  for row in w.admin("show access web") if row["by"] == "configuration"]
    assert configured == [("allow", "configured", 0), ("deny", "configured", 2),
                          ("allow", "all others", 0)]


def test_who_is_not_among_the_allowed_is_allowed_too(weir, tcp_server):
    w = weir([tcp_server(echo).address], listener={"allow": ["127.0.1.0/24"]})
    assert not may_enter(w, "127.0.3.7")
    w.admin("allow web 127.0.3.0/24")
    assert may_enter(w, "127.0.3.7") and may_enter(w, "127.0.1.7")
    assert not may_enter(w, "127.0.4.7")


def test_a_word_with_an_end(weir, tcp_server):
    w = weir([tcp_server(echo).address])
    start = time.monotonic()
    w.admin("deny web 127.0.3.0/24 for=1s")
    assert not may_enter(w, "127.0.3.7")
    verdict, left = rules(w)["127.0.3.0/24"]
    assert verdict == "deny" and 0 < left <= 1000
    eventually(lambda: may_enter(w, "127.0.3.7"), 5, "its time is over")
    assert time.monotonic() - start >= 1
    assert rules(w) == {}


def test_deny_ends_what_is_under_way_when_told_so(weir, tcp_server):
    w = weir([tcp_server(echo).address], weir={"workers": 2})
    held = {source: enter(w, source) for source in ("127.0.3.7", "127.0.3.8", "127.0.4.7")}
    w.admin("allow web 127.0.3.8")
    assert "killed" not in w.admin("deny web 127.0.3.0/24")
    assert {row["client"].split(":")[0] for row in
            w.admin("show sessions client=127.0.3.0/24")} == {"127.0.3.7", "127.0.3.8"}
    assert w.admin("status")["sessions"] == 3
    assert w.admin("deny web 127.0.3.0/24 kill=yes")["killed"] == 1
    with pytest.raises(ConnectionResetError):
        held["127.0.3.7"].recv(1)
    for source in ("127.0.3.8", "127.0.4.7"):
        held[source].sendall(b"y")
        assert held[source].recv(1) == b"y"
    for client in held.values():
        client.close()
    assert "killed" in {line["end"] for line in w.wait_access(3)}


def test_flows_of_the_denied(weir, udp_echoes, udp_client):
    w = weir([udp_echoes(1)[0].address], listener=udp.listener())
    known, other = udp_client(w, ("127.0.0.66", 0)), udp_client(w, ("127.0.0.67", 0))
    assert known.ask(b"one") and other.ask(b"one")
    w.admin("deny web 127.0.0.66")
    assert known.ask(b"its flow goes on")
    newcomer = udp_client(w, ("127.0.0.66", 0))
    newcomer.send()
    eventually(lambda: drops(w) == 1, 5, "no new flow")
    assert w.admin("deny web 127.0.0.66 kill=yes")["killed"] == 1
    known.send()
    eventually(lambda: drops(w) == 2, 5, "nor another for one that was ended")
    assert other.ask(b"two")
    w.admin("forget web 127.0.0.66")
    assert known.ask(b"three")


def test_as_many_words_as_may_be(weir, tcp_server):
    w = weir([tcp_server(echo).address], weir={"workers": 2})
    first = ipaddress.ip_address("10.0.0.0")
    with w.admin_session() as ask:
        for number in range(4096):
            ask(f"deny web {first + number}")
        with pytest.raises(AdminError, match="has 4096 rules"):
            ask("deny web 127.0.3.0/24")
        ask("forget web 10.0.0.0")
        ask("deny web 127.0.3.0/24")
    assert len(rules(w)) == 4096
    assert not may_enter(w, "127.0.3.7") and may_enter(w, "127.0.4.7")
    assert w.admin("status")["control_turn_us"] < 20000 * SLOW


def test_words_while_clients_come(weir, tcp_server):
    """Clients of a network that nobody speaks of never notice."""
    w = weir([tcp_server(echo).address], weir={"workers": 2})
    served, over = [], threading.Event()

    def come():
        while not over.is_set():
            served.append(may_enter(w, "127.0.4.7"))
    threads = [threading.Thread(target=come) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        with w.admin_session() as ask:
            for _ in range(300):
                ask("deny web 127.0.3.0/24 for=20ms")
                ask("allow web 127.0.3.7")
                ask("forget web 127.0.3.7")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert all(served) and served
    eventually(lambda: rules(w) == {}, 5, "all is over")


def test_a_dry_run_stays_one(weir, tcp_server):
    w = weir([tcp_server(echo).address], listener={"dry_run": True})
    w.admin("deny web 127.0.3.0/24")
    assert may_enter(w, "127.0.3.7")
    assert w.admin("show counters")["sessions_spared"] == 1
    with pytest.raises(AdminError, match="dry_run"):
        w.admin("deny web 127.0.3.0/24 kill=yes")


def test_weirctl_shows_a_table(weir):
    w = weir(["127.0.0.1:9"])
    w.admin("deny web 192.0.2.0/24 for=90s")
    done = subprocess.run([BUILD / "weirctl", "--socket", w.socket, "show", "access", "web"],
                          capture_output=True, text=True, timeout=30 * SLOW, check=True)
    title, *_, last = done.stdout.splitlines()
    assert title.split() == ["VERDICT", "NETWORK", "NETWORKS", "BY", "LEFT"]
    assert last.split()[:4] == ["deny", "192.0.2.0/24", "1", "operator"]
