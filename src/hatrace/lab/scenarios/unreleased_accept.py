"""unreleased-accept: a backend application keeps the sockets that HAProxy's checks have reset."""

from __future__ import annotations

from pathlib import Path

from hatrace.lab import haproxy
from hatrace.lab.peers import Serve, start
from hatrace.lab.scenario import Expected, Running, Scenario
from hatrace.lab.stage import Stage

INTER_S = 1.0
INTERVAL_S = 4.0
"""Four checks; so long an application may take to notice one."""

CONFIG = """    maxconn 500
defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s
frontend fe
    bind 127.0.0.1:{front}
    default_backend app
backend app
    option httpchk GET /health
    server s1 127.0.0.1:{service} check inter {inter}s
"""


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: the application answers each check and never closes."""
    ports = {name: stage.port() for name in ("front", "service")}
    application = start(stage, [Serve("answer-and-keep", ports["service"])], "application")
    instance = haproxy.start(stage, CONFIG.format(inter=int(INTER_S), **ports), binary)
    facts = {**ports, "application": application, "inter_s": INTER_S}
    return Running(instance, facts, (instance.pid, application))


SCENARIO = Scenario(
    name="unreleased-accept",
    title="An application keeps the sockets its checks have reset",
    real="HAProxy's HTTP checks, which end with RST where the server keeps the connection; an "
    "application that answers 200 and never looks at the socket again.",
    injected="Nothing: the application is written so.",
    expects=Expected("unreleased-accept", "application does not close"),
    interval_s=INTERVAL_S,
    play=play,
)
