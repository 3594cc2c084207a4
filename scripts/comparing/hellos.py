"""Row 11: which route a client takes by its ClientHello."""
import contextlib
import socket

from comparing.fronts import Kind, haproxy_defaults, running
from comparing.rows import row
from lib.hello_cases import BROKEN, NAME, ROUTED, ROUTES, UNDECIDED, named, read_name
from lib.peers import TcpServer
from lib.ports import free_port
from lib.servers import Haproxy, Nginx
from lib.weir import Weir, sections

DEADLINE_SECONDS = 2
PATIENCE_SECONDS = DEADLINE_SECONDS + 1


def weir(servers):
    return Weir(sections(
        pools=[{"name": name, "servers": [{"name": name, "address": server.address}]}
               for name, server in servers.items()],
        listeners=[{"name": "web", "bind": f"127.0.0.1:{free_port()}", "pool": "own",
                    "routes": ROUTES, "preread_timeout": f"{DEADLINE_SECONDS}s"}]))


def haproxy(servers):
    """As its manual has it under req.ssl_sni."""
    backends = "\n".join(f"backend {name}\n    server {name} {server.address}"
                         for name, server in servers.items())
    return Haproxy(f"""{haproxy_defaults()}
frontend web
    bind @LISTEN@
    tcp-request inspect-delay {DEADLINE_SECONDS}s
    tcp-request content accept if {{ req.ssl_hello_type 1 }}
    use_backend named if {{ req.ssl_sni -i {NAME} }}
    use_backend own if {{ req.ssl_hello_type 1 }}
    default_backend plain
{backends}
""")


def nginx(servers):
    """As the manual of its ngx_stream_ssl_preread_module has it."""
    upstreams = " ".join(f"upstream {name} {{ server {server.address}; }}"
                         for name, server in servers.items())
    return Nginx(config=f"""
        stream {{
            {upstreams}
            map $ssl_preread_server_name $by_name {{ {NAME} named; default own; }}
            map $ssl_preread_protocol $by_protocol {{ "" plain; default $by_name; }}
            server {{
                listen @LISTEN@;
                ssl_preread on;
                preread_timeout {DEADLINE_SECONDS}s;
                proxy_pass $by_protocol;
            }}
        }}""")


KINDS = [Kind("weir", weir), Kind("haproxy", haproxy), Kind("nginx", nginx)]


def taken(front, servers, data, send=socket.socket.sendall):
    """The name of the server that a client with these bytes reaches, or how it ends."""
    before = {name: len(server.connections) for name, server in servers.items()}
    with front.connect() as client:
        client.settimeout(PATIENCE_SECONDS)
        try:
            # An answer before the end of the data shows in what comes then.
            with contextlib.suppress(AssertionError, ConnectionError):
                send(client, data)
            return read_name(client)
        except (AssertionError, ConnectionError):
            return "refused"
        except TimeoutError:
            reached = [name for name, server in servers.items()
                       if len(server.connections) > before[name]]
            return reached[0] if reached else "neither served nor refused"


def judged(found, wanted):
    return found if found == wanted else f"**{found}**"


@row(11, f"ClientHellos with a route for {NAME} (named), one for what is not TLS (plain), and a "
         "default (own); what is not as it should be is in bold", KINDS)
def routes(kind):
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(TcpServer(named(name)))
                   for name in ("own", "named", "plain")}
        front = stack.enter_context(running(kind, servers))
        for name, case in ROUTED.items():
            found = taken(front, servers, case.data, case.send)
            yield f"{name}: {case.server}", judged(found, case.server)
        for name, data in BROKEN.items():
            yield f"{name}: refused", judged(taken(front, servers, data), "refused")
        for name, data in UNDECIDED.items():
            yield f"{name}, and silence: refused", judged(taken(front, servers, data), "refused")
