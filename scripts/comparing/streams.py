"""Streams over veth: weir, nginx, and the kernel's routing. All three run on one machine, so who
forwards with less CPU leaves more for the sender and the receiver, and is sent more."""
import contextlib

from comparing.rows import row
from lib.datagram import Echo, Load
from lib.road import BACK, FRONT, SERVERS, Road
from lib.servers import Nginx
from lib.streams import Iperf, iperf
from lib.weir import Weir, sections

PORT = 5201
SECONDS = 5
STREAMS = {
    "TCP": [], "TCP, from the server": ["-R"],
    "UDP as fast as it goes": ["-u", "-b", "0"],
    "UDP, 1,200 bytes": ["-u", "-b", "0", "--length", "1200"],
    "UDP, 1,200 bytes, from the server": ["-u", "-b", "0", "--length", "1200", "-R"],
    "UDP, 1,200 bytes, 30,000/s": ["-u", "-b", "288M", "--length", "1200"],
}


class Middle:
    """What stands between clients and one server, for TCP and UDP on PORT."""
    name = None
    address = FRONT, PORT

    def __init__(self, road, stack):
        raise NotImplementedError


class WeirMiddle(Middle):
    name = "weir"

    def __init__(self, road, stack):
        bind = {"bind": f"{FRONT}:{PORT}", "pool": "web"}
        weir = Weir(sections([f"{SERVERS[0]}:{PORT}"], listeners=[
            {"name": "tcp", **bind}, {"name": "udp", "protocol": "udp", **bind}]),
            wrap=road.weir.wrap)
        stack.callback(weir.discard)
        weir.start()


class NginxMiddle(Middle):
    name = "nginx"

    def __init__(self, road, stack):
        nginx = Nginx(host=FRONT, port=PORT, wrap=road.weir.wrap, config=f"""
            stream {{
                server {{ listen @LISTEN@; proxy_pass {SERVERS[0]}:{PORT}; }}
                server {{ listen @LISTEN@ udp rcvbuf=4m; proxy_pass {SERVERS[0]}:{PORT}; }}
            }}""")
        stack.callback(nginx.discard)
        nginx.start()


class RoutedMiddle(Middle):
    name = "routed"
    address = SERVERS[0], PORT

    def __init__(self, road, stack):
        road.weir.sysctl("net.ipv4.ip_forward", 1)
        road.clients.run("ip", "route", "add", "default", "via", FRONT)
        road.servers.run("ip", "route", "add", "default", "via", BACK)


def no_room(namespace):
    """Datagrams that sockets of a namespace had no room for."""
    names, values = (line.split() for line in namespace.run("cat", "/proc/net/snmp").splitlines()
                     if line.startswith("Udp:"))
    return int(values[names.index("RcvbufErrors")])


def told(road, end, before):
    if "packets" not in end.get("sum", {}):
        return f"{end['sum_received']['bits_per_second'] / 1e9:.2f} Gbit/s"
    total, seconds = end["sum"], end["sum"]["seconds"]
    got = total["packets"] - total["lost_packets"]
    middle = no_room(road.weir) - before
    return (f"{total['packets'] / seconds:.0f}/s sent, {got / seconds:.0f}/s received; "
            f"lost {total['lost_packets']}, of them {middle} in the middle")


@row("streams", f"iperf3 for {SECONDS} s over veth, and trains of 16 datagrams (UDP_SEGMENT)",
     [RoutedMiddle, NginxMiddle, WeirMiddle])
def streams(kind):
    with contextlib.ExitStack() as stack:
        road = Road()
        stack.callback(road.discard)
        server = Iperf(host=SERVERS[0], port=PORT, wrap=road.servers.wrap)
        stack.callback(server.discard)
        server.start()
        middle = kind(road, stack)
        for case, options in STREAMS.items():
            before = no_room(road.weir)
            end = iperf(middle.address, *options, wrap=road.clients.wrap, seconds=SECONDS)
            yield case, told(road, end, before)
        server.stop()
        echo = Echo(None, host=SERVERS[0], port=PORT, wrap=road.servers.wrap, gro=True)
        stack.callback(echo.discard)
        echo.start()
        load = Load("gso", middle.address, wrap=road.clients.wrap, seconds=SECONDS, gro=True)
        stack.callback(load.discard)
        tally = load.start().finish()
        yield "trains of 16, answered", (f"{tally['exchanges'] / tally['seconds']:.0f}/s, "
                                         f"{tally['lost']} of {tally['sent']} lost")
