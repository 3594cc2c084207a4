"""TCP loads: wrk before nginx as the server."""
import os
import re
import socket

from benching.balancers import SERVER, Traffic
from benching.machine import LOAD_CORE, Process
from benching.waiting import until

TRAFFIC = Traffic()


def server(folder):
    (folder / "body").write_bytes(os.urandom(10 << 20))
    (folder / "server.conf").write_text(f"""
        daemon off; worker_processes 1; pid {folder}/server.pid; error_log /dev/null crit;
        worker_rlimit_nofile 20000;
        events {{ worker_connections 15000; }}
        http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 300s; sendfile on;
                client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
                uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
                server {{ listen 127.0.0.1:{SERVER} backlog=4096; root {folder};
                          location = / {{ return 200 "a thirty-six byte answer to a request"; }} }} }}""")
    return Process(LOAD_CORE, "nginx", "-c", folder / "server.conf", "-p", folder)


def wait_for(port, process):
    until(lambda: socket.create_connection(("127.0.0.1", port), 1).close() is None, f"port {port} listens", process)


def exchange(port):
    """A session that has served one, and stays."""
    session = socket.create_connection(("127.0.0.1", port))
    session.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    session.recv(4096)
    return session


class Wrk:
    """unit, scale: a cost in seconds times scale is told in that unit."""
    traffic, calls_unit, calls_per_unit = TRAFFIC, "requests", 1
    server, wait_for = staticmethod(server), staticmethod(wait_for)

    def __init__(self, unit, scale, connections, path="/", header=None):
        self.unit, self.scale = unit, scale
        self._connections, self._path = connections, path
        self._header = ["-H", header] if header else []

    def command(self, port, seconds):
        return ["wrk", "-t1", f"-c{self._connections}", f"-d{seconds}", "--latency", *self._header,
                f"http://127.0.0.1:{port}{self._path}"]

    @staticmethod
    def read(out):
        """{units, errors, p50, p99}, the last two in milliseconds."""
        errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
        unit = {"us": 0.001, "ms": 1, "s": 1000}
        p50, p99 = (float(n) * unit[u] for n, u in
                    (re.search(rf"{p}%\s+([\d.]+)(us|ms|s)\b", out).groups() for p in (50, 99)))
        return {"units": int(re.search(r"(\d+) requests in", out)[1]),
                "errors": sum(map(int, errors.groups())) if errors else 0, "p50": p50, "p99": p99}


LOADS = {
    "conn": Wrk("µs per connection", 1e6, connections=16, header="Connection: close"),
    "rr": Wrk("µs per request", 1e6, connections=64),
    "bulk": Wrk("CPU ms per 10 MiB", 1e3, connections=8, path="/body"),
}
