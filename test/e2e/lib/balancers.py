"""weir, HAProxy and nginx as the same thing: what listens before some servers.

For scripts/compare. Each stands for one pool in turn (round-robin), probes as told, and is given
the same timeouts as far as it knows them.
"""
import re
import socket
from typing import NamedTuple

from lib.servers import Haproxy, Nginx
from lib.wait import SLOW
from lib.weir import Weir, sections


class Settings(NamedTuple):
    """Durations in milliseconds. Without an interval nobody probes."""
    connect_timeout: int = 3000
    idle_timeout: int = 60000
    half_close_timeout: int = 30000
    interval: int = 0
    probe_timeout: int = 200
    rise: int = 2
    fall: int = 3
    workers: int = 1


class Balancer:
    """`start`, `discard`, and what a client needs. Servers are known as a, b, c …"""
    name = None

    def start(self):
        raise NotImplementedError

    def discard(self):
        raise NotImplementedError

    @property
    def address(self):
        """(host, port)"""
        raise NotImplementedError

    def knows_down(self, server):
        """Has it taken the server out, by the name? None: it never says so."""
        raise NotImplementedError

    def connect(self, timeout=10):
        return socket.create_connection(self.address, timeout * SLOW)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.discard()


def _named(servers):
    return [(chr(ord("a") + index), server.address) for index, server in enumerate(servers)]


class WeirBalancer(Balancer):
    name = "weir"

    def __init__(self, servers, settings, wrap=()):
        pool = {"connect_timeout": f"{settings.connect_timeout}ms"}
        if settings.interval:
            pool["health"] = {
                "type": "http", "path": "/healthz", "rise": settings.rise, "fall": settings.fall,
                "interval": f"{settings.interval}ms", "timeout": f"{settings.probe_timeout}ms"}
        listener = {"idle_timeout": f"{settings.idle_timeout}ms",
                    "half_close_timeout": f"{settings.half_close_timeout}ms"}
        self._weir = Weir(sections([server.address for server in servers], pool=pool,
                                   listener=listener, weir={"workers": settings.workers}),
                          wrap=wrap)

    def start(self):
        self._weir.start()
        return self

    def discard(self):
        self._weir.discard()

    @property
    def address(self):
        return self._weir.address

    def knows_down(self, server):
        return self._weir.server(server)["health"] == "down"


class HaproxyBalancer(Balancer):
    name = "haproxy"

    def __init__(self, servers, settings, wrap=()):
        check = (f"check inter {settings.interval} rise {settings.rise} fall {settings.fall}"
                 if settings.interval else "")
        lines = "\n".join(f"    server {name} {address} {check}"
                          for name, address in _named(servers))
        self._haproxy = Haproxy(f"""
    nbthread {settings.workers}
defaults
    mode tcp
    log global
    retries 2
    option redispatch 1
    timeout connect {settings.connect_timeout}
    timeout client {settings.idle_timeout}
    timeout server {settings.idle_timeout}
    timeout client-fin {settings.half_close_timeout}
    timeout server-fin {settings.half_close_timeout}
    timeout check {settings.probe_timeout}
frontend web
    bind @LISTEN@
    default_backend web
backend web
    balance roundrobin
    {"option httpchk GET /healthz" if settings.interval else ""}
{lines}
""", wrap=wrap)

    def start(self):
        self._haproxy.start()
        return self

    def discard(self):
        self._haproxy.discard()

    @property
    def address(self):
        return self._haproxy.host, self._haproxy.port

    def knows_down(self, server):
        told = re.findall(rf"Server web/{server} is (UP|DOWN)", self._haproxy.output())
        return told[-1:] == ["DOWN"]


class NginxBalancer(Balancer):
    """Open-source nginx does not probe: it leaves out a server that clients could not connect to."""
    name = "nginx"

    def __init__(self, servers, settings, wrap=()):
        lines = "\n".join(
            f"server {address} max_fails={settings.fall} fail_timeout=1s;"
            for _, address in _named(servers))
        self._nginx = Nginx(config=f"""
            stream {{
                upstream web {{
                    {lines}
                }}
                server {{
                    listen @LISTEN@ backlog=4096;
                    proxy_pass web;
                    proxy_connect_timeout {settings.connect_timeout}ms;
                    proxy_timeout {settings.idle_timeout}ms;
                    proxy_half_close on;
                    proxy_next_upstream_tries 3;
                }}
            }}""", wrap=wrap)

    def start(self):
        self._nginx.start()
        return self

    def discard(self):
        self._nginx.discard()

    @property
    def address(self):
        return self._nginx.host, self._nginx.port

    def knows_down(self, server):
        return None


BALANCERS = [WeirBalancer, HaproxyBalancer, NginxBalancer]
