"""stale-bind: a stopped old worker keeps listening, on a port of today and on one of yesterday."""

from __future__ import annotations

from pathlib import Path

from hatrace.lab import haproxy
from hatrace.lab.peers import Call, Serve, start
from hatrace.lab.scenario import Expected, Running, Scenario
from hatrace.lab.stage import Stage

INTERVAL_S = 6.0
"""A third of what an ordinary hand-over may take."""

CONFIG = """    maxconn 500
defaults
    mode tcp
    timeout connect 2s
    timeout client 2s
    timeout server 2s
frontend today
    bind 127.0.0.1:{today}
    default_backend app
backend app
    server s1 127.0.0.1:{service} check inter 1s
"""
YESTERDAY = """frontend yesterday
    bind 127.0.0.1:{yesterday}
    default_backend app
"""


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: the old worker is stopped when the reload tells it to leave."""
    ports = {name: stage.port() for name in ("today", "yesterday", "service")}
    start(stage, [Serve("echo", ports["service"])], "servers")
    instance = haproxy.start(stage, (CONFIG + YESTERDAY).format(**ports), binary)
    old = instance.stop_worker()
    haproxy.configure(instance, CONFIG.format(**ports))
    new = instance.reload()
    start(stage, [Call("close", ports["today"], per_second=2)], "clients")
    return Running(instance, {**ports, "old": old, "new": new})


SCENARIO = Scenario(
    name="stale-bind-stopped",
    title="A stopped old worker keeps its ports and swallows new connections",
    real="HAProxy, a reload with one frontend less, an old worker stopped by SIGSTOP (it stands "
    "for one that is stuck), clients.",
    injected="Nothing: what stops cannot close its listeners, and SO_REUSEPORT shares with it.",
    expects=Expected(
        "stale-bind", "old worker still listens", also=("stale-worker", "not-accepting")
    ),
    interval_s=INTERVAL_S,
    play=play,
)
