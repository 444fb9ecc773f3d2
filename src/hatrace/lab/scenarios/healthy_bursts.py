"""healthy-bursts: many short connections that leave TIME_WAIT, refused ones, sudden resets."""

from __future__ import annotations

from hatrace.lab.peers import Call, Serve
from hatrace.lab.scenarios._healthy import GET, healthy

CONFIG = """    maxconn 2000
defaults
    timeout connect 1s
    timeout client 3s
    timeout server 3s
    timeout http-keep-alive 1s
frontend web
    mode http
    option http-server-close
    bind 127.0.0.1:{web}
    default_backend web
backend web
    mode http
    server s1 127.0.0.1:{once} check inter 1s
frontend tcp
    mode tcp
    bind 127.0.0.1:{tcp}
    default_backend tcp
backend tcp
    mode tcp
    server s1 127.0.0.1:{echo} check inter 1s
    server s2 127.0.0.1:{close} check inter 1s
    server s3 127.0.0.1:{refused}
"""

SCENARIO = healthy(
    "bursts",
    "bursts of short connections, TIME_WAIT, refusals and resets",
    "Two hundred short connections a second, ended by either side first, reset, or refused by "
    "a server that is not there.",
    CONFIG,
    lambda ports: [
        Serve("http", ports["once"]),
        Serve("echo", ports["echo"]),
        Serve("close", ports["close"]),
    ],
    lambda ports, _: [
        Call("close", ports["web"], per_second=60, send=GET),
        Call("close", ports["tcp"], per_second=60),
        Call("leave", ports["tcp"], per_second=40, send=""),
        Call("reset", ports["tcp"], per_second=40),
    ],
)
