"""healthy-rhythm: sessions that look like checks, on the port which is checked."""

from __future__ import annotations

from hatrace.lab.peers import Call, Serve
from hatrace.lab.scenarios._healthy import GET, healthy

CONFIG = """    maxconn 2000
defaults
    mode tcp
    timeout connect 2s
    timeout client 1h
    timeout server 1h
frontend web
    bind 127.0.0.1:{web}
    default_backend web
backend web
    option httpchk GET /
    server s1 127.0.0.1:{kept} check inter 1s
frontend plain
    bind 127.0.0.1:{plain}
    default_backend plain
backend plain
    server s1 127.0.0.1:{echo} check inter 1s
"""

SCENARIO = healthy(
    "rhythm",
    "sessions that come in the rhythm of checks, ask what they ask, and stay",
    "In mode tcp with checks on the servers' own port, a client each second that sends a "
    "check's request, or nothing, and then holds its connection.",
    CONFIG,
    lambda ports: [Serve("http-keep-alive", ports["kept"]), Serve("echo", ports["echo"])],
    lambda ports, _: [
        Call("hold", ports["web"], per_second=1, send="GET / HTTP/1.0\r\n\r\n"),
        Call("hold", ports["web"], per_second=0.3, send=GET),
        Call("hold", ports["plain"], per_second=1, send=""),
        Call("close", ports["plain"], per_second=2, seconds=3),
    ],
)
