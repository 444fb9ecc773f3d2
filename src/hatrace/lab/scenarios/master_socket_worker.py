"""master-socket, cause three: commands to a worker that does not answer."""

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
    """Start it: each second a client asks the stopped worker through the master, and leaves."""
    config, facts = plain_config(stage, traffic=False)
    instance = haproxy.start(stage, config, binary)
    worker = instance.stop_worker()
    start(
        stage,
        [
            Call(
                "leave",
                str(instance.master),
                per_second=PER_SECOND,
                send="@1 show info\n",
                most=40,
            )
        ],
        "clients",
    )
    return Running(instance, facts | {"worker": worker})


SCENARIO = Scenario(
    name="master-socket-worker",
    title="Commands to a stopped worker fill the master socket",
    real="HAProxy, its master socket and its limit of 10; a worker stopped by SIGSTOP (it stands "
    "for one that is stuck); clients that ask it through the master and give up.",
    injected="Nothing: every released HAProxy behaves so (#3351).",
    expects=Expected("master-socket", "worker does not answer"),
    interval_s=INTERVAL_S,
    play=play,
)
