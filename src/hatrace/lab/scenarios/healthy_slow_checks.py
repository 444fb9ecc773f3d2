"""healthy-slow-checks: checks that take most of their interval, where sessions go as well."""

from __future__ import annotations

from hatrace.lab.peers import Call, Serve
from hatrace.lab.scenarios._healthy import GET, healthy

CONFIG = """    maxconn 2000
defaults
    timeout connect 2s
    timeout client 20s
    timeout server 20s
    timeout check 3s
frontend web
    mode http
    bind 127.0.0.1:{web}
    default_backend web
backend web
    mode http
    option httpchk GET /health
    server slow 127.0.0.1:{slow} check inter 1s
    server slower 127.0.0.1:{slower} check inter 1s fastinter 500ms
frontend tcp
    mode tcp
    bind 127.0.0.1:{tcp}
    default_backend tcp
backend tcp
    mode tcp
    option tcp-check
    tcp-check send ping\\r\\n
    tcp-check expect string ping
    server slow 127.0.0.1:{echo} check inter 1s
    server slow2 127.0.0.1:{echo} check inter 1s weight 10
"""

SCENARIO = healthy(
    "slow-checks",
    "checks that take most of their interval, or longer, on the servers' own port",
    "HTTP checks answered after 0.8 and 2.5 intervals, conversations of `tcp-check` answered "
    "after 0.8, two servers at one address, and sessions to the same ports.",
    CONFIG,
    lambda ports: [
        Serve("http-keep-alive", ports["slow"], seconds=0.8),
        Serve("http", ports["slower"], seconds=2.5),
        Serve("echo", ports["echo"], seconds=0.8),
    ],
    lambda ports, _: [
        Call("keep-alive", ports["web"], per_second=1, send=GET, seconds=0.2),
        Call("talk", ports["tcp"], per_second=1, send="ping\r\n", seconds=10),
        Call("close", ports["tcp"], per_second=2, send="ping\r\n", seconds=5),
    ],
)
