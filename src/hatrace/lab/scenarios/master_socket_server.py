"""master-socket, cause two: HAProxy keeps its end after the client has left."""

from __future__ import annotations

from pathlib import Path

from hatrace.lab import haproxy, shim
from hatrace.lab.peers import Call, start
from hatrace.lab.scenario import Expected, Running, Scenario
from hatrace.lab.scenarios._plain import plain_config
from hatrace.lab.stage import Stage

INTERVAL_S = 3.0
PER_SECOND = 1.0


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: each second a client connects and leaves, and its slot stays taken."""
    config, facts = plain_config(stage)
    path = haproxy.master_path(stage)
    instance = haproxy.start(
        stage, config, binary, shim.environment([shim.deaf(path)], stage.directory)
    )
    start(
        stage,
        [
            Call(
                "leave",
                str(path),
                per_second=PER_SECOND,
                send="",
                most=40,
            )
        ],
        "clients",
    )
    return Running(instance, facts)


SCENARIO = Scenario(
    name="master-socket-server",
    title="The master keeps slots whose client has left",
    real="HAProxy, its master socket and its limit of 10; clients that connect and leave.",
    injected="The master does not see that a client has left (LD_PRELOAD: recv() and epoll_wait() "
    "hide the end of connections accepted on the master socket), as with the bug fixed by "
    "HAProxy's 14a413033; all that follows is HAProxy's own doing.",
    expects=Expected("master-socket", "server keeps"),
    interval_s=INTERVAL_S,
    play=play,
)
