"""healthy-applications: threads and forks that notice late that a client has left."""

from __future__ import annotations

import sys
from pathlib import Path

from hatrace.lab import haproxy
from hatrace.lab.peers import Call, start
from hatrace.lab.scenario import Running, Scenario
from hatrace.lab.scenarios._healthy import GET
from hatrace.lab.stage import Stage

CONFIG = """    maxconn 2000
defaults
    mode http
    timeout connect 2s
    timeout client 1m
    timeout server 1m
    timeout tunnel 1h
    timeout check 1s
    default-server check inter 1s fall 1000
frontend streams
    bind 127.0.0.1:{streams}
    default_backend streams
backend streams
    option httpchk GET /health
    server stream 127.0.0.1:{stream}
backend slow
    option httpchk GET /health
    server slow 127.0.0.1:{slow}
frontend fe
    bind 127.0.0.1:{front}
    default_backend app
backend app
    server alone 127.0.0.1:{alone} inter 5s maxconn 1
    server forks 127.0.0.1:{forks}
    server shared 127.0.0.1:{shared}
    server parallel 127.0.0.1:{parallel}
"""
SECONDS = {"stream": 9, "slow": 7, "alone": 6, "forks": 1, "shared": 0.5, "parallel": 0.2}
"""How long each design works on a request, or waits between two events."""


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: clients that leave in the middle, checks that give up before the answer."""
    ports = {name: stage.port() for name in ("front", "streams", *SECONDS)}
    module = [sys.executable, "-m", "hatrace.lab.applications"]
    applications = [
        stage.spawn([*module, design, str(ports[design]), str(seconds)], f"{design}.log").pid
        for design, seconds in SECONDS.items()
    ]
    instance = haproxy.start(stage, CONFIG.format(**ports), binary)
    start(
        stage,
        [
            Call("hold", ports["streams"], per_second=2, send=GET, seconds=3),
            Call("leave", ports["streams"], per_second=2, send=GET),
            Call("reset", ports["streams"], per_second=2, send=GET),
            Call("close", ports["front"], per_second=3, send=GET),
            Call("reset", ports["front"], per_second=1, send=GET),
        ],
        "clients",
    )
    return Running(instance, ports, (instance.pid, *applications))


SCENARIO = Scenario(
    name="healthy-applications",
    title="Healthy: applications with threads and forks, whose clients leave in the middle",
    real="With the applications in view: events every nine seconds in a thread each, health "
    "checks that give up before a slow answer, one thread with requests of six seconds, a child "
    "for each connection, children that share a listener or have one each.",
    injected="Nothing.",
    expects=None,
    interval_s=10.0,
    play=play,
)
