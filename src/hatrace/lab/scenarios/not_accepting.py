"""not-accepting: an application listens and no longer accepts, and its queue fills."""

from __future__ import annotations

from pathlib import Path

from hatrace.lab import haproxy
from hatrace.lab.peers import Call, Serve, start
from hatrace.lab.scenario import Expected, Running, Scenario
from hatrace.lab.stage import Stage

BACKLOG = 8
SERVED = 6
"""So many requests and checks it answers before it stops."""
GET = "GET / HTTP/1.1\r\nHost: lab\r\n\r\n"
INTERVAL_S = 3.0

CONFIG = """    maxconn 500
defaults
    mode http
    timeout connect 1s
    timeout client 2s
    timeout server 2s
    timeout check 1s
frontend fe
    bind 127.0.0.1:{front}
    default_backend app
backend app
    option httpchk GET /health
    server s1 127.0.0.1:{service} check inter 1s fall 100
"""


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: after a few answers, connections wait in a queue that nobody takes from."""
    ports = {name: stage.port() for name in ("front", "service")}
    application = start(
        stage,
        [Serve("stop-accepting", ports["service"], most=SERVED, backlog=BACKLOG)],
        "application",
    )
    instance = haproxy.start(stage, CONFIG.format(**ports), binary)
    start(stage, [Call("close", ports["front"], per_second=2, send=GET, most=20)], "clients")
    facts = {**ports, "application": application, "backlog": BACKLOG}
    return Running(instance, facts, (instance.pid, application))


SCENARIO = Scenario(
    name="not-accepting",
    title="An application no longer accepts",
    real="An application that serves a while and then does not call accept() any more, its "
    "queue in the kernel, HAProxy's checks and clients' requests that wait in it.",
    injected="Nothing: the application is written so, as one whose acceptors have died.",
    expects=Expected("not-accepting", "nobody takes connections"),
    interval_s=INTERVAL_S,
    play=play,
)
