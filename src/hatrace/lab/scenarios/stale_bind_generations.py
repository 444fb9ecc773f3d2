"""stale-bind: HAProxy was started anew without -sf, and both generations listen."""

from __future__ import annotations

from pathlib import Path

from hatrace.lab import haproxy
from hatrace.lab.peers import Call, Serve, start
from hatrace.lab.scenario import Expected, Running, Scenario
from hatrace.lab.scenarios.stale_bind_stopped import CONFIG, YESTERDAY
from hatrace.lab.stage import Stage

INTERVAL_S = 6.0
"""A third of what an ordinary hand-over may take."""


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: twice, with one frontend less the second time."""
    ports = {name: stage.port() for name in ("today", "yesterday", "service")}
    start(stage, [Serve("echo", ports["service"])], "servers")
    before, after = (CONFIG + YESTERDAY).format(**ports), CONFIG.format(**ports)
    first = haproxy.start(stage, before, binary, standalone=True)
    haproxy.configure(first, after)
    second = haproxy.restart(stage, first)
    start(stage, [Call("close", ports["today"], per_second=2)], "clients")
    facts = {**ports, "old": first.pid, "new": second.pid}
    return Running(second, facts, (first.pid, second.pid))


SCENARIO = Scenario(
    name="stale-bind-generations",
    title="An older HAProxy listens beside the newer one",
    real="HAProxy, not under a master, started a second time without -sf, with one frontend "
    "less; clients.",
    injected="Nothing: nobody tells the first one to leave, and SO_REUSEPORT lets both listen.",
    expects=Expected("stale-bind", "without -sf"),
    interval_s=INTERVAL_S,
    play=play,
)
