"""What the refused get, seen from behind a router: a reset, a FIN, or nothing more."""
import contextlib
import time

import pytest

from lib import proxyproto as proxy
from lib.behind import FIN, RST, WEIR, Behind
from lib.peers import echo
from lib.wait import SLOW, eventually
from lib.weir import Weir, sections

PORT, EARLY_PORT = 8080, 8081
PATIENCE = 2
SILENCE = 20


@pytest.fixture(scope="module", name="behind")
def _behind():
    made = Behind()
    yield made
    made.discard()


def orphans(behind):
    """What weir's kernel still holds of the early ones' connections, and no process does."""
    return behind.weir.run("ss", "-tanH", "exclude", "listening", "src",
                           f"{WEIR[4]}:{EARLY_PORT}").splitlines()


@pytest.fixture(scope="module", autouse=True, name="early")
def _early(behind):
    """When clients were dropped before all others, by a weir that is gone: so that nobody waits for
    the kernel to forget them."""
    bind = f"{WEIR[4]}:{EARLY_PORT}"
    w = Weir(sections(["127.0.0.1:9"], listener={"bind": bind, "refuse": "drop",
                                                 "deny": ["0.0.0.0/0"]}), wrap=behind.weir.wrap)
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(w.discard)
        w.start()
        for _ in range(30):
            for end in behind.connect(w.address):
                end.close()
        eventually(lambda: w.admin("show counters")["sessions_refused"] == 30, 5, "all are dropped")
    assert len(orphans(behind)) == 30
    return time.monotonic()


@pytest.fixture(name="serve")
def _serve(weir, behind):
    """serve(family, **listener): a weir beyond the router, and its address."""
    def start(family, **listener):
        address = (WEIR[family], PORT)
        bind = f"[{WEIR[6]}]:{PORT}" if family == 6 else f"{WEIR[4]}:{PORT}"
        w = weir(["127.0.0.1:9"], listener={"bind": bind, **listener}, wrap=behind.weir.wrap)
        return w, address
    return start


def outcome(behind, address, first=b"", later=b"are you there?"):
    """The flags of what comes from there while the client speaks twice, and what its socket says."""
    client, capture = behind.connect(address)
    with client, capture:
        with contextlib.suppress(OSError):
            client.sendall(first)
        flags = capture.flags(0.5)
        with contextlib.suppress(OSError):
            client.sendall(later)
        flags += capture.flags(PATIENCE)
        client.setblocking(False)
        try:
            return flags, client.recv(1)
        except OSError as error:
            return flags, type(error)


# What a listener says, and what the client does first.
REFUSED = {
    "denied": ({"deny": ["0.0.0.0/0", "::/0"]}, b""),
    "no sender of headers": ({"proxy_protocol": "required",
                              "proxy_protocol_from": ["192.0.2.0/24"]}, b""),
    "denied by header": ({"proxy_protocol": "required", "deny": ["192.0.2.0/24"],
                          "proxy_protocol_from": ["0.0.0.0/0", "::/0"]},
                         proxy.v2(("192.0.2.1", 4711), ("198.51.100.1", 443))),
    "no route": ({"no_route": "refuse", "routes": [{"sni": "www.example.com", "pool": "web"}]},
                 b"no ClientHello\r\n"),
}


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("why", REFUSED)
def test_a_drop_is_silence(behind, serve, why, family):
    limits, first = REFUSED[why]
    w, address = serve(family, refuse="drop", **limits)
    flags, ends = outcome(behind, address, first)
    assert [flag for flag in flags if flag & (FIN | RST)] == []
    assert ends == BlockingIOError, "the client takes it that the connection stands"
    eventually(lambda: w.admin("show counters")["sessions_refused"] == 1, 5, "it was refused")
    w.wait_sessions(0)


def test_the_kernel_forgets_the_silent_ones(behind, early):
    """Behind the tests before, which take as long as that."""
    left = max(early + (SILENCE + 5) * SLOW - time.monotonic(), 1)
    eventually(lambda: not orphans(behind), left / SLOW, "all are forgotten")


def test_a_drop_of_a_mapped_client(behind, weir):
    """An IPv6 socket that carries IPv4 needs the other option."""
    weir(["127.0.0.1:9"], wrap=behind.weir.wrap,
         listener={"bind": f"[::]:{PORT}", "v6only": False, "refuse": "drop", "deny": ["0.0.0.0/0"]})
    flags, ends = outcome(behind, (WEIR[4], PORT))
    assert [flag for flag in flags if flag & (FIN | RST)] == []
    assert ends == BlockingIOError


def test_a_drop_for_a_limit(behind, serve):
    w, address = serve(4, refuse="drop", source_rate=1)
    client, capture = behind.connect(address)
    with client, capture:
        flags, ends = outcome(behind, address)
    assert [flag for flag in flags if flag & (FIN | RST)] == []
    assert ends == BlockingIOError
    eventually(lambda: w.admin("show counters")["sessions_refused"] >= 1, 5, "it was refused")


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("refuse, flag", [("reset", RST), ("close", FIN)])
def test_the_others_hear_of_it(behind, serve, refuse, flag, family):
    _, address = serve(family, refuse=refuse, deny=["0.0.0.0/0", "::/0"])
    flags, end = outcome(behind, address)
    assert [one for one in flags if one & flag]
    assert end != BlockingIOError


def test_beyond_the_silent_ones(behind, serve):
    """A flood of the refused: later ones get a reset that does not pass the router."""
    w, address = serve(4, refuse="drop", deny=["0.0.0.0/0"])
    for _ in range(300):
        for end in behind.connect(address):
            end.close()
    client, capture = behind.connect(address)
    with client, capture:
        flags = capture.flags(1)
    assert [flag for flag in flags if flag & (FIN | RST)] == []
    assert w.admin("show counters")["sessions_refused"] == 301


def test_on_the_same_link_it_is_no_secret(weir, tcp_server):
    w = weir([tcp_server(echo).address], listener={"refuse": "drop", "deny": ["127.0.0.66"]})
    with w.connect(source=("127.0.0.66", 0)) as client:
        assert client.recv(1) == b""
