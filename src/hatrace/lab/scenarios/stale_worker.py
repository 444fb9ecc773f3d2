"""stale-worker: after each reload one more old worker stays, for the sake of one session."""

from __future__ import annotations

from pathlib import Path

from hatrace.lab import haproxy
from hatrace.lab.peers import Call, start
from hatrace.lab.scenario import Expected, Running, Scenario
from hatrace.lab.scenarios._plain import plain_config
from hatrace.lab.stage import Stage, wait_until

RELOADS = 3
INTERVAL_S = 6.0
"""A third of what an ordinary hand-over may take."""


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: in each generation one client begins to talk and never stops."""
    config, facts = plain_config(stage)
    instance = haproxy.start(stage, config, binary)
    front = facts["front"]
    assert isinstance(front, int)
    old = []
    for generation in range(RELOADS):
        start(stage, [Call("talk", front, count=1)], f"client-{generation}")
        wait_until(lambda: instance.ask("show sess").count("fe=fe ") >= 1)
        old.append(instance.worker())
        instance.reload()
    return Running(instance, facts | {"old": old})


SCENARIO = Scenario(
    name="stale-worker",
    title="Old workers pile up behind long sessions",
    real="HAProxy without hard-stop-after, three reloads, a client in each generation that "
    "does not stop talking.",
    injected="Nothing.",
    expects=Expected("stale-worker", "sessions"),
    interval_s=INTERVAL_S,
    play=play,
)
