"""healthy-check-reuse: checks that use the idle connections of the server's pool."""

from __future__ import annotations

from hatrace.lab.peers import Call, Serve
from hatrace.lab.scenarios._healthy import GET, healthy

CONFIG = """    maxconn 2000
defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s
frontend fe
    bind 127.0.0.1:{front}
    default_backend app
backend app
    http-reuse always
    option httpchk GET /health
    default-server check inter 1s check-reuse-pool pool-purge-delay 1h
    server stays 127.0.0.1:{stays}
    server leaves 127.0.0.1:{leaves}
    server once 127.0.0.1:{once}
"""

SCENARIO = healthy(
    "check-reuse",
    "`check-reuse-pool`: checks over the pool's idle connections",
    "Checks without a connect of their own, pools that hold connections for an hour, and servers "
    "that close theirs after 0.7 s or after each answer.",
    CONFIG,
    lambda ports: [
        Serve("http-keep-alive", ports["stays"]),
        Serve("http-idle-close", ports["leaves"], seconds=0.7),
        Serve("http", ports["once"]),
    ],
    lambda ports, _: [
        Call("keep-alive", ports["front"], per_second=3, send=GET, seconds=0.3),
        Call("close", ports["front"], per_second=2, send=GET),
    ],
    since="3.2",
)
