"""drain-survivor within one worker: sessions that still wait for the server's connection."""

from __future__ import annotations

from pathlib import Path

from hatrace.lab import haproxy
from hatrace.lab.peers import Call, Serve, start
from hatrace.lab.scenario import Expected, Running, Scenario
from hatrace.lab.stage import Stage, wait_until
from hatrace.model.flow import State

SESSIONS = 4
BACKLOG = 1
"""The kernel takes one more: with two connections the queue is full, and SYNs are dropped."""
INTERVAL_S = 3.0
SYN_SENT = f"{State.SYN_SENT:02X}"

CONFIG = """    maxconn 500
defaults
    mode tcp
    timeout connect 1h
    timeout client 1h
    timeout server 1h
frontend fe
    bind 127.0.0.1:{front}
    default_backend app
backend app
    server stuck 127.0.0.1:{stuck}
"""


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: sessions whose server answers no SYN; then the server is shut."""
    running = begin(stage, binary)
    running.haproxy.ask("disable server app/stuck")
    running.haproxy.ask("shutdown sessions server app/stuck")
    return running


def begin(stage: Stage, binary: Path | None) -> Running:
    """Sessions that wait for the server, which is in service."""
    ports = {name: stage.port() for name in ("front", "stuck")}
    start(stage, [Serve("never-accept", ports["stuck"], backlog=BACKLOG)], "servers")
    instance = haproxy.start(stage, CONFIG.format(**ports), binary)
    sessions = BACKLOG + 1 + SESSIONS
    start(stage, [Call("talk", ports["front"], per_second=50, count=sessions)], "clients")
    wait_until(lambda: connecting(ports["stuck"]) >= SESSIONS)
    return Running(instance, {**ports, "sessions": SESSIONS})


def connecting(port: int) -> int:
    """Sockets that have sent a SYN to a port and wait."""
    rows = (row.split() for row in Path("/proc/net/tcp").read_text().splitlines())
    return sum(row[2].endswith(f":{port:04X}") and row[3] == SYN_SENT for row in rows)


SCENARIO = Scenario(
    name="drain-survivor-connecting",
    title="Sessions that wait for their server survive `shutdown sessions server`",
    real="HAProxy, clients, a server whose queue is full so that the kernel drops each SYN, "
    "`disable server`, `shutdown sessions server`.",
    injected="Nothing: such sessions are not ended before 3.1.7 and 3.2 (GH #2918).",
    expects=Expected("drain-survivor", "wait for their connection"),
    interval_s=INTERVAL_S,
    play=play,
    until="3.1",
)
