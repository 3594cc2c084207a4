"""The balancers, each as it would be run on one core, before one server: start(folder, traffic, program)."""
import os
import subprocess
from typing import NamedTuple

from benching.machine import BALANCER_CORE, Process

SERVER, FRONT = 19080, 19081


class Traffic(NamedTuple):
    """What a balancer must know of a load. responses: replies that end a UDP request; 0: not known."""
    protocol: str = "tcp"
    responses: int = 0


def weir(folder, traffic, program):
    responses = f"responses = {traffic.responses};" if traffic.responses else ""
    (folder / "weir.cfg").write_text(f"""
        weir = {{ workers = 1; admin = {{ socket = "{folder}/admin.sock"; }}; log = {{ access = false; }}; }};
        pools = ( {{ name = "p"; servers = ( {{ name = "s"; address = "127.0.0.1:{SERVER}"; }} ); }} );
        listeners = ( {{ name = "l"; bind = "127.0.0.1:{FRONT}"; pool = "p";
                         protocol = "{traffic.protocol}"; {responses} }} );""")
    return Process(BALANCER_CORE, program, "--config", folder / "weir.cfg")


def haproxy(folder, _traffic, _program):
    (folder / "haproxy.cfg").write_text(f"""
global
    nbthread 1
    maxconn 6000
defaults
    mode tcp
    option splice-auto
    timeout connect 3s
    timeout client 10m
    timeout server 10m
listen l
    bind 127.0.0.1:{FRONT} backlog 4096
    server s 127.0.0.1:{SERVER}
""")
    return Process(BALANCER_CORE, "haproxy", "-f", folder / "haproxy.cfg")


# weir's udp_rcvbuf is 4m and its udp_idle_timeout 60s.
NGINX_LISTENS = {
    "tcp": "backlog=4096; proxy_half_close on;",
    "udp": "udp rcvbuf=4m; proxy_timeout 60s;",
}


def nginx(folder, traffic, _program):
    responses = f"proxy_responses {traffic.responses};" if traffic.responses else ""
    (folder / "stream.conf").write_text(f"""
        load_module /usr/lib/nginx/modules/ngx_stream_module.so;
        daemon off; worker_processes 1; pid {folder}/stream.pid; error_log /dev/null crit;
        worker_rlimit_nofile 20000;
        events {{ worker_connections 19000; }}
        stream {{ server {{ listen 127.0.0.1:{FRONT} {NGINX_LISTENS[traffic.protocol]} {responses}
                            proxy_pass 127.0.0.1:{SERVER}; }} }}""")
    return Process(BALANCER_CORE, "nginx", "-c", folder / "stream.conf", "-p", folder)


PEERS = {"tcp": {"haproxy": haproxy, "nginx": nginx}, "udp": {"nginx": nginx}}


def print_versions():
    told = subprocess.run(["haproxy", "-v"], capture_output=True, text=True, check=True).stdout.split("\n", 1)[0]
    nginx_told = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr.strip()
    print(f"{told}; {nginx_told}; Linux {os.uname().release}; {os.cpu_count()} cores")
