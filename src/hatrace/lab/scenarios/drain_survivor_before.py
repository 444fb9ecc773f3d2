"""drain-survivor: the server was removed before hatrace came; only the old worker knows it."""

from __future__ import annotations

from pathlib import Path

from hatrace.lab.scenario import Expected, Running, Scenario
from hatrace.lab.scenarios.drain_survivor import begin, take_out
from hatrace.lab.stage import Stage

BEFORE_S = 16.0
"""Longer than an ordinary hand-over may take: nothing is left to be waited for."""
INTERVAL_S = 0.7
"""It is due within two seconds."""


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: sessions to both servers, then one is removed, as operators do it."""
    instance, facts, after = begin(stage, binary)
    take_out(instance, after)
    return Running(instance, facts)


SCENARIO = Scenario(
    name="drain-survivor-before",
    title="Traffic goes on to a server that was removed before hatrace came",
    real="As in drain-survivor, but the reload is 16 seconds ago when hatrace comes: neither the "
    "configuration nor the newest worker has the server any more.",
    injected="Nothing.",
    expects=Expected("drain-survivor", "old worker"),
    interval_s=INTERVAL_S,
    play=play,
    before_s=BEFORE_S,
)
