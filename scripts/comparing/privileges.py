"""Row 24: whom a balancer becomes, and what it may still do, as the kernel tells it."""
import grp
import os
import pwd
from pathlib import Path

from comparing.fronts import Kind, haproxy_defaults, running
from comparing.rows import row
from lib.elf import hardening
from lib.servers import Haproxy, Nginx
from lib.snapshot import children
from lib.weir import Weir, sections

SERVER = "127.0.0.1:9"
# linux/capability.h, as far as one of the three keeps them.
CAPABILITIES = {1: "dac_override", 2: "dac_read_search", 6: "setgid", 7: "setuid",
                10: "net_bind_service", 12: "net_admin", 13: "net_raw", 18: "sys_chroot"}
SECCOMP = {"0": "none", "1": "strict", "2": "filter"}


# ---- as an operator would run them ----

def weir():
    """As root, with the user of its installation."""
    return Weir(sections([SERVER]))


class DebianHaproxy(Haproxy):
    """With the master that Debian's unit starts."""

    def command(self):
        return [*super().command(), "-W"]


def haproxy():
    """The global section of Debian's haproxy.cfg."""
    return DebianHaproxy(f"""
    chroot /var/lib/haproxy
    user haproxy
    group haproxy
{haproxy_defaults()}
listen web
    bind @LISTEN@
    server a {SERVER}
""")


def nginx():
    """The user of Debian's nginx.conf."""
    return Nginx(config=f"""
        user www-data;
        stream {{ server {{ listen @LISTEN@; proxy_pass {SERVER}; }} }}""")


KINDS = [Kind("weir", weir), Kind("haproxy", haproxy), Kind("nginx", nginx)]


# ---- what the kernel tells ----

def statuses(pid):
    """Of each of its threads, as a dict."""
    for task in os.listdir(f"/proc/{pid}/task"):
        text = Path(f"/proc/{pid}/task/{task}/status").read_text("ascii")
        yield dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def names(ids, find):
    """Each once: real, effective, saved and the file system's are one where they agree."""
    return ", ".join(find(int(one)) for one in dict.fromkeys(ids.split())) or "none"


def capabilities(mask):
    held = [CAPABILITIES.get(bit, str(bit)) for bit in range(64) if int(mask, 16) >> bit & 1]
    if len(held) > len(CAPABILITIES):
        return f"{len(held)} of them"
    return ", ".join(held) or "none"


TOLD = {
    "user": lambda status: names(status["Uid"], lambda one: pwd.getpwuid(one).pw_name),
    "group": lambda status: names(status["Gid"], lambda one: grp.getgrgid(one).gr_name),
    "other groups": lambda status: names(status["Groups"], lambda one: grp.getgrgid(one).gr_name),
    "capabilities": lambda status: capabilities(status["CapEff"]),
    "capabilities that it could take": lambda status: capabilities(status["CapPrm"]),
    "capabilities that a program of root could give it":
        lambda status: capabilities(status["CapBnd"]),
    "NoNewPrivs": lambda status: status["NoNewPrivs"],
    "seccomp": lambda status: SECCOMP[status["Seccomp"]],
}


def told_of(pids, tell):
    """Where threads or processes differ, each answer."""
    return "; ".join(dict.fromkeys(tell(one) for pid in pids for one in statuses(pid)))


def roots(pids):
    return "; ".join(dict.fromkeys(os.readlink(f"/proc/{pid}/root") for pid in pids))


def sides(front):
    """Of those that carry traffic, and of the others."""
    own = [front.pid]
    below = children(front.pid)
    return (own, below) if isinstance(front.process, Weir) else (below, own)


@row(24, "privileges after the start, of the processes that carry traffic and of the others (weir's "
         "helper; a master); Landlock shows nowhere in /proc", KINDS)
def privileges(kind):
    with running(kind) as front:
        traffic, others = sides(front)
        for who, pids in (("traffic", traffic), ("the others", others)):
            for name, tell in TOLD.items():
                yield f"{who}: {name}", told_of(pids, tell) if pids else "–"
            yield f"{who}: root directory", roots(pids) if pids else "–"
        yield "traffic: threads", str(sum(len(list(statuses(pid))) for pid in traffic))
        found = hardening(f"/proc/{traffic[0]}/exe")
        for name, there in found.items():
            yield f"ELF: {name}", "yes" if there else "no"
