"""The program under test: one weir process with its configuration, admin socket and log."""
import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from lib import config, snapshot
from lib.ports import free_port
from lib.wait import SLOW, eventually

ROOT = Path(__file__).resolve().parents[3]
BUILD = Path(os.environ.get("WEIR_BUILD", ROOT / "build"))
USER = "weir"

SANITIZER = re.compile(r"^.*(?:Sanitizer|runtime error|\bBUG\b).*$", re.MULTILINE)

# The `gate` of a listener that nothing was ever kept out of.
OPEN_GATE = {"admitted": 0, "denied": 0, "source-sessions": 0, "source-rate": 0, "untracked": 0,
             "evicted": 0, "sources": 0, "datagrams": None, "dry_run": False}


class AdminError(Exception):
    """A command was answered with "ok":false."""


def make_directory(prefix="weir-e2e-"):
    """A directory of its own that the unprivileged weir may use: pytest's are root's alone."""
    path = Path(tempfile.mkdtemp(prefix=prefix))
    user = pwd.getpwnam(USER)
    os.chown(path, user.pw_uid, user.pw_gid)
    path.chmod(0o755)
    return path


def sections(servers=(), *, pool=None, listener=None, **more):
    """A configuration of one pool and one listener, both named "web".

    `servers` is a list of addresses (named a, b, c …) or of dicts. What `pool`, `listener` and
    `weir` say is put over the usual; `pools` and `listeners` replace all.
    """
    listed = [
        server if isinstance(server, dict) else {"name": chr(ord("a") + index), "address": server}
        for index, server in enumerate(servers)
    ]
    web = {"name": "web", "scheduler": "round-robin", **(pool or {}), "servers": listed}
    front = {"name": "web", "pool": "web", **(listener or {})}
    front.setdefault("bind", f"127.0.0.1:{free_port()}")
    # workers = 1 keeps round-robin in strict turn; tests of several say so.
    own = {"workers": 1, "user": USER, "log": {"format": "json", "level": "debug"}}
    own.update(more.get("weir", {}))
    out = {"weir": own}
    if "defaults" in more:
        out["defaults"] = more["defaults"]
    out["pools"] = more.get("pools", [web])
    out["listeners"] = more.get("listeners", [front])
    return out


class Weir:
    """Started by the fixture `weir`, which also holds it to leaving nothing behind."""

    def __init__(self, configuration, *, wrap=(), env=None):
        """`configuration` is a dict of sections or the text of a file; `wrap` a command before
        weir's, such as ("ip", "netns", "exec", NAME) or ("strace", …)."""
        self.directory = make_directory()
        self.socket = self.directory / "admin.sock"
        self.config_path = self.directory / "weir.cfg"
        self.stderr_path = self.directory / "stderr"
        self.configuration = configuration
        self.process = None
        self.pid = None
        self.before = None
        self._last = None
        self._wrap = list(wrap)
        self._env = {**os.environ, **(env or {})}
        if not isinstance(configuration, str):
            configuration["weir"].setdefault("admin", {}).setdefault("socket", str(self.socket))
            configuration = config.render_file(configuration)
        self.config_path.write_text(configuration.replace("@SOCKET@", str(self.socket)))

    # -- life --

    def launch(self):
        """Starts the process and does not wait for it."""
        command = [*self._wrap, str(BUILD / "weir"), "--config", str(self.config_path)]
        with open(self.stderr_path, "wb") as stderr:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, env=self._env)
        return self

    def start(self):
        """Starts the process and waits until it is ready."""
        self.launch()
        self.wait_running()
        self.before = eventually(self._settled, 10, "weir is at rest")
        return self

    def wait_running(self):
        """After a launch, where the test cannot wait for rest: it is under load from the start."""
        eventually(self._running, 10, "weir is ready")

    def _running(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"weir exited {self.process.returncode}:\n{self.stderr()}")
        status = self.admin("status")
        self.pid = status["pid"]
        return status["state"] == "running"

    def _settled(self):
        """A snapshot in which no probe and no question is under way: two in a row agree."""
        last, self._last = self._last, self.snapshot()
        moving = [k for k, count in self._last.items() if count and (
            k in ("sockets without a flow", "socket in no state") or
            k.startswith("tcp ") and k != "tcp LISTEN")]
        return self._last if self._last == last and not moving else None

    def stop(self, signo=signal.SIGTERM, timeout=40):
        """Ends the process and returns its exit code."""
        if self.process.poll() is None:
            # strace and the like do not hand a signal on, so it goes to weir itself.
            os.kill(self.pid or self.process.pid, signo)
        return self.process.wait(timeout * SLOW)

    def check_and_stop(self):
        """What every test holds weir to at its end: nothing left over, exit 0, no complaint."""
        if self.process.poll() is None and self.before is not None:
            self.check_snapshot()
            children = snapshot.children(self.pid)
            self._end_flows()
            code = self.stop()
            assert code == 0, f"weir exited {code}:\n{self.stderr()}"
            eventually(lambda: not any(map(snapshot.is_alive, children)), 2, "the helper is gone")
        self.check_stderr()

    def _end_flows(self):
        """Has it stop, without the second of silence that flows are given then."""
        def is_stopping():
            with contextlib.suppress(AdminError):  # it may be gone in the middle of an answer
                return self.process.poll() is not None or \
                    self.admin("status")["state"] == "draining"

        if self.admin("status")["flows"]:
            os.kill(self.pid, signal.SIGTERM)
            eventually(is_stopping, 5, "weir is stopping")

    def check_snapshot(self):
        """The descriptors, sockets and sessions are those that it had when it was ready."""
        def same():
            changed = snapshot.difference(self.before, self.snapshot())
            # Empty pipes rest in a capped pool for the next stream: not a leak.
            if changed.get("pipe", 0) > 0:
                del changed["pipe"]
            # Neither are sockets at rest, where there can be any. That they go is row 13's. While some
            # do, others are missing in what the kernel lists.
            if self._may_rest():
                for kind in ("sockets without a flow", "socket in no state"):
                    changed[kind] = min(changed.get(kind, 0), 0)
            changed = {kind: count for kind, count in changed.items() if count}
            assert not changed, f"left over: {changed}"
            return True
        eventually(same, 10, "weir holds what it held at the start")

    def check_stderr(self):
        found = SANITIZER.search(self.stderr())
        assert not found, self.stderr()[found.start():]

    def discard(self):
        """Ends the process in any case and removes its files."""
        if self.process and self.process.poll() is None:
            for pid in {self.pid or self.process.pid, self.process.pid}:
                os.kill(pid, signal.SIGKILL)
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    # -- asking --

    def admin(self, line, timeout=10):
        """Sends one command; returns its data. Lists that come in several lines are joined."""
        with self.admin_session(timeout) as ask:
            return ask(line)

    @contextlib.contextmanager
    def admin_session(self, timeout=10):
        """A connection that stays: yields a function that does what `admin` does."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(timeout * SLOW)
            client.connect(str(self.socket))
            with client.makefile("r", encoding="utf-8") as replies:
                def ask(line):
                    client.sendall(line.encode() + b"\n")
                    return self._read_reply(line, replies)
                yield ask

    @staticmethod
    def _read_reply(line, replies):
        joined = None
        for text in replies:
            reply = json.loads(text)
            if not reply["ok"]:
                raise AdminError(reply["error"])
            data = reply.get("data")
            joined = data if joined is None else joined + data
            if not reply.get("more"):
                return joined
        raise AdminError(f"the answer to {line!r} broke off")

    def server(self, name, pool="web"):
        """The row of one server in `show servers`."""
        rows = self.admin(f"show servers {pool}")
        return next(row for row in rows if row["name"] == name)

    def wait_health(self, name, health, timeout=10, pool="web"):
        eventually(lambda: self.server(name, pool)["health"] == health, timeout,
                   f"{pool}/{name} is {health}")

    def wait_sessions(self, count, timeout=10):
        eventually(lambda: self.admin("status")["sessions"] == count, timeout,
                   f"{count} sessions")

    def wait_flows(self, count, timeout=10):
        eventually(lambda: self.admin("status")["flows"] == count, timeout, f"{count} flows")

    def snapshot(self):
        """Counter of what the process holds, its sessions included."""
        status = self.admin("status")
        held = snapshot.descriptors(self.pid)
        held["sessions"] = status["sessions"]
        # A flow has one, and may be there as long as it is not idle.
        held["sockets without a flow"] = held.pop("udp connected", 0) - status["flows"]
        return held

    def _may_rest(self):
        """Is there a listener whose sockets outlive their flows?"""
        return "responses = " in self.config_path.read_text()

    # -- reading --

    def stderr(self):
        return self.stderr_path.read_text(errors="replace")

    def log_lines(self):
        """All whole lines of the JSON log as dicts."""
        lines = self.stderr().split("\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def access_lines(self):
        """The lines of sessions that have ended. They are written a moment after the end."""
        return [line for line in self.log_lines() if line["event"] == "session"]

    def wait_access(self, count, timeout=5):
        """Waits for at least so many access lines, and returns them."""
        return eventually(
            lambda: lines if len(lines := self.access_lines()) >= count else None, timeout,
            f"{count} access lines")

    def flow_lines(self):
        """The lines of flows that have ended, likewise."""
        return [line for line in self.log_lines() if line["event"] == "flow"]

    def wait_flow_lines(self, count, timeout=5):
        return eventually(
            lambda: lines if len(lines := self.flow_lines()) >= count else None, timeout,
            f"{count} lines of flows")

    @property
    def address(self):
        """(host, port) of the first listener."""
        host, port = self.configuration["listeners"][0]["bind"].rsplit(":", 1)
        return host.strip("[]"), int(port)

    @property
    def url(self):
        return f"http://{self.configuration['listeners'][0]['bind']}"

    def connect(self, timeout=10, source=None):
        """A client's connection to the first listener."""
        return socket.create_connection(self.address, timeout * SLOW, source_address=source)


def weirctl(*words, socket_path):
    """Runs weirctl; returns the finished process with text output."""
    return subprocess.run(
        [str(BUILD / "weirctl"), "--socket", str(socket_path), *words],
        capture_output=True, text=True, timeout=20 * SLOW, check=False)
