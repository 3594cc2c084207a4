"""Real servers as child processes: each with its own directory, in the foreground."""
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from lib.ports import free_port, join
from lib.snapshot import children, is_alive, listens
from lib.wait import SLOW, eventually
from lib.weir import BUILD


class Process:
    """A child process with a directory of its own, which holds its `output`."""

    def __init__(self, wrap=()):
        self.directory = Path(tempfile.mkdtemp(prefix=f"weir-{type(self).__name__.lower()}-"))
        self.directory.chmod(0o755)
        self.process = None
        self._wrap = list(wrap)

    def command(self):
        raise NotImplementedError

    def start(self):
        with open(self.directory / "output", "ab") as output:
            self.process = subprocess.Popen(
                [*self._wrap, *self.command()], stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, start_new_session=True)
        return self

    def output(self):
        return (self.directory / "output").read_text(errors="replace")

    def signal(self, signo):
        """To the server and its children."""
        os.killpg(self.process.pid, signo)

    def kill(self):
        """Returns when all of it is dead, so that no socket of it is left."""
        processes = children(self.process.pid)
        self.signal(signal.SIGKILL)
        self.process.wait()
        eventually(lambda: not any(map(is_alive, processes)), 5, "its children are dead")

    def stop(self):
        if self.process and self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            try:
                self.process.wait(10 * SLOW)
            except subprocess.TimeoutExpired:
                self.kill()

    def discard(self):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


class Server(Process):
    """A process that listens at host:port. Subclasses make the command."""

    def __init__(self, host="127.0.0.1", port=None, wrap=()):
        super().__init__(wrap)
        self.host = host
        self.port = port or free_port(host)

    @property
    def address(self):
        return join(self.host, self.port)

    def start(self):
        """Also after a stop or kill: the same server at the same address."""
        super().start()
        eventually(self._listens, 15, f"{self.address} listens")
        return self

    def _listens(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.command()[0]} exited:\n{self.output()}")
        # Asked of the kernel: a connect would be a session of the test's counts.
        return listens(self.process.pid, self.port)


class Responder(Server):
    """test/lib/responder.c: answers every request with its name."""

    def __init__(self, name="a", *, delay_ms=0, close=False, **where):
        super().__init__(**where)
        self.name = name
        self._options = ["--delay", str(delay_ms)] + (["--close"] if close else [])

    def command(self):
        return [str(BUILD / "responder"), "--listen", self.address, "--name", self.name,
                *self._options]

    def toggle_health(self):
        """From now on /healthz answers 503, or 200 again."""
        self.signal(signal.SIGUSR1)


class Nginx(Server):
    """nginx in the foreground. `body` is what / answers; `config` replaces the http block."""

    def __init__(self, body="nginx", *, config=None, connections=9000, **where):
        super().__init__(**where)
        root = self.directory / "root"
        root.mkdir()
        root.chmod(0o755)
        (root / "index.html").write_text(body)
        http = f"""
            http {{
                access_log off;
                default_type text/plain;
                keepalive_requests 1000000;
                client_body_temp_path {self.directory}/body;
                proxy_temp_path {self.directory}/proxy;
                fastcgi_temp_path {self.directory}/fastcgi;
                uwsgi_temp_path {self.directory}/uwsgi;
                scgi_temp_path {self.directory}/scgi;
                server {{
                    listen {self.address} backlog=4096;
                    root {root};
                    location /healthz {{ return 200 "ok\\n"; }}
                }}
            }}"""
        (self.directory / "nginx.conf").write_text(f"""
            load_module /usr/lib/nginx/modules/ngx_stream_module.so;
            daemon off;
            worker_processes 1;
            worker_rlimit_nofile 20000;
            pid {self.directory}/pid;
            error_log stderr warn;
            events {{ worker_connections {connections}; }}
            {(config or http).replace("@LISTEN@", self.address)}
            """)

    @property
    def root(self):
        """Where the files are that it serves."""
        return self.directory / "root"

    def command(self):
        return ["/usr/sbin/nginx", "-e", "stderr", "-p", str(self.directory), "-c", "nginx.conf"]


class Haproxy(Server):
    """haproxy in the foreground. `config` is all but the global section; @LISTEN@ is its address."""

    def __init__(self, config, **where):
        super().__init__(**where)
        (self.directory / "haproxy.cfg").write_text(
            "global\n    maxconn 9000\n    log stderr format raw daemon notice\n"
            + config.replace("@LISTEN@", self.address))

    def command(self):
        return ["/usr/sbin/haproxy", "-db", "-f", str(self.directory / "haproxy.cfg")]


def answer_of(url_address, path="/", timeout=10):
    """One HTTP request on a new connection; (status, body text)."""
    with socket.create_connection(url_address, timeout * SLOW) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
        with client.makefile("rb") as reply:
            head, _, body = reply.read().partition(b"\r\n\r\n")
    return int(re.match(rb"HTTP/1\.1 (\d+)", head)[1]), body.decode()
