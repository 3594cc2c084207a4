"""Free ports, outside the range that the kernel takes for outgoing connections."""
import itertools
import os
import socket

_FIRST, _COUNT = 20000, 10000
_turn = itertools.count(os.getpid() * 7)


def free_port(host="127.0.0.1", kind=socket.SOCK_STREAM):
    """A port that nobody holds now, and that this process has not handed out lately."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(_COUNT):
        port = _FIRST + next(_turn) % _COUNT
        with socket.socket(family, kind) as probe:
            # As servers do; without it a port in TIME_WAIT would seem taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")


def join(host, port):
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
