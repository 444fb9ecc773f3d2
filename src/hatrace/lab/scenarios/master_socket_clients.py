"""master-socket, cause one: clients that connect to the master's socket and never leave."""

from __future__ import annotations

from pathlib import Path

from hatrace.lab import haproxy
from hatrace.lab.peers import Call, start
from hatrace.lab.scenario import Expected, Running, Scenario
from hatrace.lab.scenarios._plain import plain_config
from hatrace.lab.stage import Stage

INTERVAL_S = 3.0
PER_SECOND = 1.0


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: one more client a second, each asks once and holds its slot."""
    config, facts = plain_config(stage)
    instance = haproxy.start(stage, config, binary)
    holder = start(
        stage,
        [
            Call(
                "hold",
                str(instance.master),
                per_second=PER_SECOND,
                send="prompt\nshow proc\n",
                most=40,
            )
        ],
        "clients",
    )
    return Running(instance, facts | {"holder": holder})


SCENARIO = Scenario(
    name="master-socket-clients",
    title="Clients hold the master socket's ten slots",
    real="HAProxy, its master socket and its limit of 10; a client program that keeps every "
    "connection it makes (a prompt it never leaves).",
    injected="Nothing: any HAProxy behaves so.",
    expects=Expected("master-socket", "clients hold"),
    interval_s=INTERVAL_S,
    play=play,
)
