"""UDP loads: test/lib/udp_load.c before test/lib/udp_echo.c."""
import json
import socket

from benching.balancers import SERVER, Traffic
from benching.machine import BUILD, LOAD_CORE, Process
from benching.waiting import until

TRAFFIC = Traffic("udp")
WRONG = ["lost", "twice", "foreign", "damaged", "astray", "errors"]


def server(_folder):
    return Process(LOAD_CORE, BUILD / "udp_echo", "--listen", f"127.0.0.1:{SERVER}")


def exchange(port):
    """A flow that has had one, and whose client stays."""
    flow = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    flow.settimeout(0.2)
    flow.connect(("127.0.0.1", port))
    flow.send(b"ping")
    if flow.recv(100) != b"ping":
        raise ConnectionError("another reply than was due")
    return flow


def wait_for(port, process):
    until(lambda: exchange(port).close() is None, f"port {port} answers", process)


class UdpLoad:
    """A mode of udp_load. An exchange is two datagrams that the balancer receives."""
    scale, calls_unit, calls_per_unit = 1e6, "datagrams", 2
    server, wait_for = staticmethod(server), staticmethod(wait_for)

    def __init__(self, unit, mode, responses=0):
        self.unit, self.traffic = unit, Traffic("udp", responses)
        self._mode = mode

    def command(self, port, seconds):
        return [BUILD / "udp_load", self._mode, "--to", f"127.0.0.1:{port}", "--seconds", seconds]

    @staticmethod
    def read(out):
        told = json.loads(out)
        return {"units": told["exchanges"], "errors": sum(told[name] for name in WRONG),
                "p50": told["p50_us"] / 1000, "p99": told["p99_us"] / 1000}


LOADS = {
    "udp-rr": UdpLoad("µs per exchange", "rr"),
    "udp-stream": UdpLoad("µs per datagram echoed", "stream"),
    "udp-new": UdpLoad("µs per exchange", "new", responses=1),
}
