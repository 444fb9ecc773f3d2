"""master-socket by HAProxy's own code: the stats socket of a worker with 3.0.5's bug."""

from __future__ import annotations

from pathlib import Path

from hatrace.lab import haproxy, regressed
from hatrace.lab.peers import Call, start
from hatrace.lab.scenario import Expected, Running, Scenario
from hatrace.lab.scenarios._plain import plain_config
from hatrace.lab.stage import Stage

INTERVAL_S = 3.0
PER_SECOND = 1.0


def play(stage: Stage, _: Path | None) -> Running:
    """Start it: each second a client connects and leaves, and its slot stays taken."""
    config, facts = plain_config(stage)
    instance = haproxy.start(stage, config, regressed.fetch(regressed.UNSEEN_ABORT))
    clients = Call("leave", str(instance.stats), per_second=PER_SECOND, send="", most=40)
    start(stage, [clients], "clients")
    return Running(instance, facts)


SCENARIO = Scenario(
    name="master-socket-3.0.5",
    title="A worker's stats socket keeps slots whose client has left, by HAProxy's own bug",
    real="HAProxy, compiled from Debian's source with GH #2727 put back (the first time takes a "
    "minute or two), its stats socket and its limit of 10; clients that connect and leave.",
    injected="Nothing: the clients are forgotten by HAProxy itself.",
    expects=Expected("master-socket", "server keeps"),
    interval_s=INTERVAL_S,
    play=play,
    brings="3.0",
)
