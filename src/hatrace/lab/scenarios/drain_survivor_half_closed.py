"""drain-survivor within one worker: half-closed sessions survive `shutdown sessions server`."""

from __future__ import annotations

from pathlib import Path

from hatrace.lab import haproxy
from hatrace.lab.peers import Call, Serve, start
from hatrace.lab.scenario import Expected, Running, Scenario
from hatrace.lab.stage import Stage, wait_until
from hatrace.model.flow import State

SESSIONS = 4
INTERVAL_S = 3.0
CLOSE_WAIT = f"{State.CLOSE_WAIT:02X}"

CONFIG = """    maxconn 500
defaults
    mode tcp
    timeout connect 2s
    timeout client 1h
    timeout server 1h
frontend fe
    bind 127.0.0.1:{front}
    default_backend app
backend app
    server stream 127.0.0.1:{stream} check inter 1s
"""


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: clients that have ended their half and read on, then the server is shut."""
    ports = {name: stage.port() for name in ("front", "stream")}
    start(stage, [Serve("stream", ports["stream"], seconds=3600)], "servers")
    instance = haproxy.start(stage, CONFIG.format(**ports), binary)
    start(
        stage,
        [Call("half-close", ports["front"], per_second=50, count=SESSIONS)],
        "clients",
    )
    wait_until(lambda: half_closed(ports["stream"]) >= SESSIONS)
    instance.ask("disable server app/stream")
    instance.ask("shutdown sessions server app/stream")
    return Running(instance, {**ports, "sessions": SESSIONS})


def half_closed(port: int) -> int:
    """Sockets of a server to which HAProxy has passed on its client's end."""
    rows = (row.split() for row in Path("/proc/net/tcp").read_text().splitlines())
    return sum(row[1].endswith(f":{port:04X}") and row[3] == CLOSE_WAIT for row in rows)


SCENARIO = Scenario(
    name="drain-survivor-half-closed",
    title="Half-closed sessions survive `shutdown sessions server`",
    real="HAProxy, clients that have ended their half and read a stream, `disable server`, "
    "`shutdown sessions server`.",
    injected="Nothing: half-closed sessions are not ended, in every version.",
    expects=Expected("drain-survivor", "half-closed"),
    interval_s=INTERVAL_S,
    play=play,
)
