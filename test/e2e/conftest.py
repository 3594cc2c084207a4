"""Fixtures of the end-to-end tests. Each makes things and sees to it that they go.

weir(…)        starts the real program; see lib/weir.py. Held to leaving nothing behind.
responder(…)   test/lib/responder; nginx(…), haproxy(…) likewise; see lib/servers.py
redis(), postgres()   see lib/databases.py
caller(address, …), wrk(address, …)   load; see lib/load.py
tcp_server(handler)   a plain TCP server in a thread; see lib/peers.py
udp_echo(name, …), udp_load(mode, address, …), udp_flood(address, …), udp_client(weir)
               datagrams; see lib/udp.py
udp_server(handler)   a plain UDP server in a thread; see lib/udp_peers.py
namespace()    a network namespace; see lib/netns.py
"""
import contextlib

import pytest

from lib.databases import Postgres, Redis
from lib.load import Caller, Wrk
from lib.netns import Namespace
from lib.peers import TcpServer
from lib.servers import Haproxy, Nginx, Responder
from lib.udp import Client, UdpEcho, UdpFlood, UdpLoad
from lib.udp_peers import UdpServer
from lib.weir import Weir, sections


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    """Lets fixtures know at teardown whether the test itself failed."""
    report = (yield).get_result()
    if report.when == "call":
        item.failed_call = report.failed
        for running in getattr(item, "weirs", ()):
            if report.failed and running.stderr_path.exists():
                report.sections.append(("weir's stderr", running.stderr()[-4000:]))


def pytest_terminal_summary(terminalreporter):
    """What the long tests found out, which is why they are run, also where all went well."""
    for report in terminalreporter.getreports("passed"):
        if "long" in report.keywords and report.capstdout:
            terminalreporter.section(report.nodeid)
            terminalreporter.write_line(report.capstdout.rstrip())


@pytest.fixture
def weir(request):
    """weir(servers, pool=…, listener=…, …) or weir(text="…"): a running weir.

    Takes the arguments of lib.weir.sections, and `wrap`, `env`; `start=False` only makes it.
    """
    made = request.node.weirs = []

    def make(servers=(), *, text=None, wrap=(), env=None, start=True, **configuration):
        made.append(Weir(text or sections(servers, **configuration), wrap=wrap, env=env))
        return made[-1].start() if start else made[-1]

    yield make
    with contextlib.ExitStack() as cleanup:
        for one in made:
            cleanup.callback(one.discard)
        # After a failed test what is left over says nothing.
        if not getattr(request.node, "failed_call", True):
            for one in made:
                if one.process:
                    one.check_and_stop()


def _factory(kind):
    """A fixture that starts servers of one class and discards them at the end."""
    @pytest.fixture
    def factory():
        with contextlib.ExitStack() as cleanup:
            def make(*args, start=True, **kwargs):
                server = kind(*args, **kwargs)
                cleanup.callback(server.discard)
                return server.start() if start else server
            yield make
    return factory


responder = _factory(Responder)
nginx = _factory(Nginx)
haproxy = _factory(Haproxy)
redis = _factory(Redis)
postgres = _factory(Postgres)
caller = _factory(Caller)
wrk = _factory(Wrk)
udp_echo = _factory(UdpEcho)
udp_load = _factory(UdpLoad)
udp_flood = _factory(UdpFlood)


@pytest.fixture
def udp_echoes(udp_echo):
    """udp_echoes(3): so many servers of datagrams named a, b, c …"""
    return lambda count, **options: [
        udp_echo(chr(ord("a") + index), **options) for index in range(count)]


@pytest.fixture
def udp_client():
    """udp_client(weir): a client of its first listener, with an address of its own."""
    with contextlib.ExitStack() as cleanup:
        def make(weir, source=None, **options):
            return cleanup.enter_context(Client(weir.address, source, **options))
        yield make


@pytest.fixture
def responders(responder):
    """responders(3): so many responders named a, b, c …"""
    return lambda count, **options: [
        responder(chr(ord("a") + index), **options) for index in range(count)]


def _thread(kind):
    """A fixture that makes servers which run in threads, and closes them at the end."""
    @pytest.fixture
    def factory():
        with contextlib.ExitStack() as cleanup:
            def make(*args, **kwargs):
                return cleanup.enter_context(kind(*args, **kwargs))
            yield make
    return factory


tcp_server = _thread(TcpServer)
udp_server = _thread(UdpServer)


@pytest.fixture
def namespace():
    with contextlib.ExitStack() as cleanup:
        def make():
            made = Namespace()
            cleanup.callback(made.discard)
            return made
        yield make
