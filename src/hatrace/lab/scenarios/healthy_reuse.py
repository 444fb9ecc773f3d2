"""healthy-reuse: idle connections in every pool, ended by whoever comes first."""

from __future__ import annotations

from hatrace.lab.peers import Call, Serve
from hatrace.lab.scenarios._healthy import GET, healthy

CONFIG = """    maxconn 2000
defaults
    mode http
    timeout connect 2s
    timeout client 20s
    timeout server 20s
    timeout http-keep-alive 20s
frontend fe
    bind 127.0.0.1:{front}
    default_backend app
backend app
    http-reuse always
    option httpchk GET /
    server leaves 127.0.0.1:{leaves} check inter 1s pool-purge-delay 1h
    server stays 127.0.0.1:{stays} check inter 1s pool-purge-delay 1h
    server slow 127.0.0.1:{slow} check inter 2s pool-max-conn 3 maxconn 10
"""

SCENARIO = healthy(
    "reuse",
    "`http-reuse always`, pools on both sides, and servers that close idle connections",
    "Clients with kept connections that say nothing for long, server connections kept for an "
    "hour, servers that close them after two seconds, clients that leave during an answer.",
    CONFIG,
    lambda ports: [
        Serve("http-idle-close", ports["leaves"], seconds=2),
        Serve("http-keep-alive", ports["stays"]),
        Serve("http-keep-alive", ports["slow"], seconds=1.5),
    ],
    lambda ports, _: [
        Call("keep-alive", ports["front"], per_second=5, send=GET, seconds=0.2),
        Call("close", ports["front"], per_second=1, send=GET, seconds=15, most=20),
        Call("leave", ports["front"], per_second=3, send=GET),
        Call("half-close", ports["front"], per_second=1, send=GET),
    ],
)
