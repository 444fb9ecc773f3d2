"""healthy-chain: HAProxy is its own server: over HTTP/2, over the PROXY protocol."""

from __future__ import annotations

from hatrace.lab.peers import Call, Serve
from hatrace.lab.scenarios._healthy import GET, healthy

CONFIG = """    maxconn 2000
defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s
frontend front
    bind 127.0.0.1:{front}
    default_backend second
backend second
    server h2 127.0.0.1:{h2} proto h2 check inter 1s
frontend second
    bind 127.0.0.1:{h2} proto h2
    default_backend app
backend app
    http-reuse always
    option httpchk GET /
    server s1 127.0.0.1:{kept} check inter 1s
    server s2 127.0.0.1:{slow} check inter 1s
frontend outer
    mode tcp
    bind 127.0.0.1:{outer}
    default_backend inner
backend inner
    mode tcp
    server proxy 127.0.0.1:{proxy} send-proxy check check-send-proxy inter 1s
frontend inner
    mode tcp
    bind 127.0.0.1:{proxy} accept-proxy
    default_backend echo
backend echo
    mode tcp
    server s1 127.0.0.1:{echo} check inter 1s
"""

SCENARIO = healthy(
    "chain",
    "HAProxy before HAProxy, with HTTP/2 and the PROXY protocol between",
    "Both ends of a connection in one process; many requests on one HTTP/2 connection; checks "
    "that HAProxy answers itself; clients that come, half-close, leave and reset.",
    CONFIG,
    lambda ports: [
        Serve("http-keep-alive", ports["kept"]),
        Serve("http-keep-alive", ports["slow"], seconds=0.7),
        Serve("echo", ports["echo"]),
    ],
    lambda ports, _: [
        Call("keep-alive", ports["front"], per_second=5, send=GET, seconds=0.3),
        Call("leave", ports["front"], per_second=3, send=GET),
        Call("close", ports["outer"], per_second=5),
        Call("half-close", ports["outer"], per_second=5),
        Call("reset", ports["outer"], per_second=3),
        Call("talk", ports["outer"], per_second=1, seconds=10),
    ],
)
