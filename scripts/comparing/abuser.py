"""One source that takes all that it can get, and fifty clients beside it that do not."""
import contextlib
import multiprocessing
import resource
import select
import socket
import statistics
import threading
import time

from comparing.fronts import Kind, haproxy_defaults, running
from comparing.rows import row
from lib.peers import TIMEOUT, read_exactly
from lib.servers import Haproxy, Nginx, Responder
from lib.talk import REQUEST
from lib.weir import Weir, sections

POLITE, PAUSE_SECONDS = 50, 0.1
ABUSER, CONNECTIONS = "127.0.0.66", 10000
# What one source may have at once, and begin in a second.
AT_ONCE, RATE = 20, 50
# The polite ones before the abuser comes, and while it holds what it got.
BEFORE_SECONDS, HOLD_SECONDS = 2, 5


# ---- the balancers ----

def weir(server):
    return Weir(sections([server.address], listener={
        "source_max_sessions": AT_ONCE, "source_rate": RATE}))


def haproxy(server):
    """As its manual has it under stick-table and conn_cur; the rate is of the last second."""
    return Haproxy(f"""{haproxy_defaults()}
listen web
    bind @LISTEN@ backlog 4096
    stick-table type ip size 64k expire 60s store conn_cur,conn_rate(1s)
    tcp-request connection track-sc0 src
    tcp-request connection reject if {{ sc0_conn_cur gt {AT_ONCE} }}
    tcp-request connection reject if {{ sc0_conn_rate gt {RATE} }}
    server a {server.address}
""")


def nginx(server):
    """It knows no rate of connections."""
    return Nginx(config=f"""
        stream {{
            limit_conn_zone $binary_remote_addr zone=sources:4m;
            server {{
                listen @LISTEN@ backlog=4096;
                limit_conn sources {AT_ONCE};
                limit_conn_log_level info;
                proxy_pass {server.address};
            }}
        }}""")


KINDS = [Kind("weir", weir), Kind("haproxy", haproxy), Kind("nginx", nginx)]


# ---- the polite ----

class Polite(threading.Thread):
    """A call every PAUSE_SECONDS, each on a connection of its own; `connects` and `calls` are of
    (when it began, how long it took)."""

    def __init__(self, address, source, over):
        super().__init__(daemon=True)
        self._address, self._source, self._over = address, source, over
        self.connects, self.calls, self.errors = [], [], []

    def run(self):
        while not self._over.wait(PAUSE_SECONDS):
            begun = time.monotonic()
            try:
                with socket.create_connection(self._address, TIMEOUT, (self._source, 0)) as client:
                    self.connects.append((begun, time.monotonic() - begun))
                    client.sendall(REQUEST)
                    read_exactly(client, 1)
                self.calls.append((begun, time.monotonic() - begun))
            except (AssertionError, OSError) as error:
                self.errors.append(str(error))


def be_polite(address, over, found):
    """A process of its own, so that its clock is not the abuser's to slow down."""
    clients = [Polite(address, f"127.0.1.{number + 1}", over) for number in range(POLITE)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    found.send([[item for client in clients for item in getattr(client, name)]
                for name in ("connects", "calls", "errors")])


# ---- the abuser ----

def raise_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connect_all(address):
    """Connections that were made, without waiting for what becomes of them; and how many failed."""
    held, failed = [], 0
    for _ in range(CONNECTIONS):
        client = socket.socket()
        client.bind((ABUSER, 0))
        client.settimeout(TIMEOUT)
        try:
            client.connect(address)
            held.append(client)
        except OSError:
            client.close()
            failed += 1
    return held, failed


def closed_of(held):
    poller = select.poll()
    for client in held:
        poller.register(client, select.POLLRDHUP)
    return len(poller.poll(0))


def abuse(address, found):
    raise_limit()
    begun = time.monotonic()
    held, failed = connect_all(address)
    took = time.monotonic() - begun
    time.sleep(HOLD_SECONDS)
    found.send((begun, took, failed, closed_of(held)))
    for client in held:
        client.close()


# ---- the row ----

def milliseconds(pairs, since, until):
    """Of those that began between the two."""
    took = sorted(seconds * 1000 for begun, seconds in pairs if since <= begun < until)
    if not took:
        return "none"
    p99 = took[min(len(took) * 99 // 100, len(took) - 1)]
    return f"median {statistics.median(took):.2f}, p99 {p99:.2f}, most {took[-1]:.2f} ms"


@contextlib.contextmanager
def child(function, address, *given):
    """Another process with this function; what it sends at its end can be received."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.Process(target=function, args=(address, *given, theirs), daemon=True)
    process.start()
    try:
        yield ours
    finally:
        process.join(TIMEOUT)


@row("abuser", f"{POLITE} polite clients with a call every {PAUSE_SECONDS * 1000:.0f} ms, and one "
               f"source that opens {CONNECTIONS} connections and keeps what it gets, where "
               f"{AT_ONCE} at once and {RATE} a second are allowed to each", KINDS)
def abuser(kind):
    over = multiprocessing.Event()
    with contextlib.ExitStack() as stack:
        server = Responder("a", close=True)
        stack.callback(server.discard)
        server.start()
        front = stack.enter_context(running(kind, server))
        polite = stack.enter_context(child(be_polite, front.address, over))
        stack.callback(over.set)
        time.sleep(BEFORE_SECONDS)
        hostile = stack.enter_context(child(abuse, front.address))
        begun, took, failed, closed = hostile.recv()
        over.set()
        connects, calls, errors = polite.recv()
        times = {"before": (0, begun), "while it opens": (begun, begun + took),
                 "while it holds": (begun + took, float("inf"))}
        yield "the abuser's connections took", f"{took:.1f} s"
        yield "the abuser: refused", f"{closed + failed} of {CONNECTIONS}"
        yield "the abuser: held at the end", str(CONNECTIONS - closed - failed)
        yield "the polite: errors", " ".join([
            f"{len(errors)} of {len(calls) + len(errors)}", *sorted(set(errors))[:1]])
        for name, (since, until) in times.items():
            yield f"the polite: connects {name}", milliseconds(connects, since, until)
            yield f"the polite: whole calls {name}", milliseconds(calls, since, until)
