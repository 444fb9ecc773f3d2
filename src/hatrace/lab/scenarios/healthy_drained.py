"""healthy-drained: servers taken out and put back, and what they carried ends as it should."""

from __future__ import annotations

from hatrace.lab.peers import Call, Serve
from hatrace.lab.scenarios._healthy import GET, healthy

CONFIG = """    maxconn 2000
    stats timeout 1h
defaults
    timeout connect 2s
    timeout client 10s
    timeout server 10s
frontend tcp
    mode tcp
    bind 127.0.0.1:{tcp}
    default_backend tcp
backend tcp
    mode tcp
    server out 127.0.0.1:{out} check inter 1s
    server drained 127.0.0.1:{drained} check inter 1s
    server stays 127.0.0.1:{stays} check inter 1s
frontend web
    mode http
    bind 127.0.0.1:{web}
    default_backend web
backend web
    mode http
    http-reuse always
    server out 127.0.0.1:{kept} check inter 1s pool-purge-delay 1h
    server stays 127.0.0.1:{kept2} check inter 1s
"""
MAINTENANCE = """prompt
disable server tcp/out
shutdown sessions server tcp/out
disable server web/out
show info
show info
enable server tcp/out
enable server web/out
"""
DRAIN = """prompt
set server tcp/drained state drain
show info
show info
set server tcp/drained state ready
"""

SCENARIO = healthy(
    "drained",
    "servers in maintenance and in drain whose connections end or rightly go on",
    "`disable server` and `shutdown sessions`, then `enable`, in turns; a server in state drain "
    "that keeps its sessions; idle connections kept for a server in maintenance.",
    CONFIG,
    lambda ports: [
        Serve("echo", ports["out"]),
        Serve("echo", ports["drained"]),
        Serve("echo", ports["stays"]),
        Serve("http-keep-alive", ports["kept"]),
        Serve("http-keep-alive", ports["kept2"]),
    ],
    lambda ports, haproxy: [
        Call("talk", ports["tcp"], per_second=2, seconds=30, most=20),
        Call("keep-alive", ports["web"], per_second=5, send=GET, seconds=0.1),
        Call("dictate", str(haproxy.stats), count=1, send=MAINTENANCE, seconds=3),
        Call("dictate", str(haproxy.stats), count=1, send=DRAIN, seconds=5),
    ],
)
