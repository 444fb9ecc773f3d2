"""healthy-idle: connections that rightly say nothing for long.  Nothing may be found."""

from __future__ import annotations

from pathlib import Path

from hatrace.lab import haproxy
from hatrace.lab.peers import Call, Serve, start
from hatrace.lab.scenario import Running, Scenario
from hatrace.lab.stage import Stage

CONFIG = """    maxconn 2000
defaults
    timeout connect 2s
    timeout client 1h
    timeout server 1h
    timeout tunnel 24h
frontend database
    mode tcp
    bind 127.0.0.1:{database}
    default_backend database
backend database
    mode tcp
    option tcp-check
    server db 127.0.0.1:{echo} check inter 1s
frontend web
    mode http
    bind 127.0.0.1:{web}
    default_backend web
backend web
    mode http
    http-reuse always
    server pooled 127.0.0.1:{kept} check inter 1s pool-purge-delay 60s
    server polled 127.0.0.1:{polled} check inter 1s pool-purge-delay 60s
"""
PORTS = ("database", "web", "echo", "kept", "polled")
GET = "GET / HTTP/1.1\r\nHost: lab\r\n\r\n"
POOL = 20


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: a database pool, tunnels, long polls, idle keep-alive connections."""
    ports = {name: stage.port() for name in PORTS}
    start(
        stage,
        [
            Serve("echo", ports["echo"]),
            Serve("http-keep-alive", ports["kept"]),
            Serve("http-keep-alive", ports["polled"], seconds=15),
        ],
        "servers",
    )
    instance = haproxy.start(stage, CONFIG.format(**ports), binary)
    start(
        stage,
        [
            Call("hold", ports["database"], per_second=20, count=POOL),
            Call("hold", ports["database"], per_second=20, count=POOL, send=""),
            Call("hold", ports["web"], per_second=20, count=POOL, send=GET),
            Call("close", ports["web"], per_second=2, send=GET, most=40),
        ],
        "clients",
    )
    return Running(instance, {"pool": POOL, **ports})


SCENARIO = Scenario(
    name="healthy-idle",
    title="Healthy: a database pool, tunnels, long polls, idle keep-alive connections",
    real="Everything: pools that connect and wait, clients that hold an answered request, answers "
    "after 15 s, server connections kept for reuse.",
    injected="Nothing.",
    expects=None,
    interval_s=10.0,
    play=play,
)
