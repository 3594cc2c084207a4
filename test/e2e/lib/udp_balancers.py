"""weir and nginx as the same thing before servers of UDP, for scripts/compare. HAProxy has no UDP."""
import socket
from typing import NamedTuple

from lib.balancers import Balancer
from lib.datagram import DatagramServer
from lib.ports import free_port, join
from lib.servers import Nginx
from lib.weir import Weir, sections


class UdpSettings(NamedTuple):
    """Durations in milliseconds. responses: replies that end a request, as far as they are known.
    max_flows: weir's cap, and half of nginx's worker_connections: a flow takes two. 0: no cap of the
    test's."""
    idle_timeout: int = 60000
    responses: int = 0
    max_flows: int = 0
    max_replies: int = 0
    rcvbuf: str = "4m"
    workers: int = 1
    # Where it listens; in a namespace nobody can look for a free port from outside.
    host: str = "127.0.0.1"
    port: int = 0

    @property
    def where(self):
        return self.host, self.port or free_port(self.host, socket.SOCK_DGRAM)


class NginxUdp(DatagramServer, Nginx):
    """nginx with a `config` that listens to UDP."""


class WeirUdpBalancer(Balancer):
    name = "weir"

    def __init__(self, servers, settings, wrap=()):
        listener = {
            "protocol": "udp", "udp_idle_timeout": f"{settings.idle_timeout}ms",
            "responses": settings.responses, "max_flows": settings.max_flows,
            "max_replies": settings.max_replies,
            "udp_rcvbuf": settings.rcvbuf,
            "bind": join(*settings.where)}
        self.weir = Weir(sections([server.address for server in servers], listener=listener,
                                  weir={"workers": settings.workers}), wrap=wrap)

    def start(self):
        self.weir.start()
        return self

    def discard(self):
        self.weir.discard()

    @property
    def address(self):
        return self.weir.address

    @property
    def pid(self):
        return self.weir.pid

    def knows_down(self, server):
        return self.weir.server(server)["health"] == "down"


class NginxUdpBalancer(Balancer):
    """It never says that a server is down, nor how many flows there are."""
    name = "nginx"

    def __init__(self, servers, settings, wrap=()):
        listed = "\n".join(f"server {server.address};" for server in servers)
        # The nearest to max_replies that it has.
        most = settings.responses or settings.max_replies
        responses = f"proxy_responses {most};" if most else ""
        host, port = settings.where
        self.nginx = NginxUdp(host=host, port=port, wrap=wrap,
                              connections=2 * settings.max_flows or 9000, config=f"""
            stream {{
                upstream web {{
                    {listed}
                }}
                server {{
                    listen @LISTEN@ udp rcvbuf={settings.rcvbuf};
                    proxy_pass web;
                    proxy_timeout {settings.idle_timeout}ms;
                    {responses}
                }}
            }}""")

    def start(self):
        self.nginx.start()
        return self

    def discard(self):
        self.nginx.discard()

    @property
    def address(self):
        return self.nginx.host, self.nginx.port

    @property
    def pid(self):
        return self.nginx.process.pid

    def knows_down(self, server):
        return None


UDP_BALANCERS = [WeirUdpBalancer, NginxUdpBalancer]
