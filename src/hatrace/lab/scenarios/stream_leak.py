"""stream-leak: both sockets of a TCP stream stay when the client has ended it.

The kernel sees what HAProxy 2.9.1 shows: the client's side in CLOSE_WAIT, the server's side in
CLOSE with its fd held, which no tool that reads socket tables lists.
"""

from __future__ import annotations

from pathlib import Path

from hatrace.lab import haproxy, shim
from hatrace.lab.peers import Call, Serve, start
from hatrace.lab.scenario import Expected, Running, Scenario
from hatrace.lab.stage import Stage
from hatrace.model.flow import State

TIMEOUT_S = 2
"""Client and server timeout: what could explain a half-closed socket for that long."""
PER_SECOND = 2

CONFIG = """    maxconn 2000
defaults
    mode tcp
    timeout connect 2s
    timeout client {timeout}s
    timeout server {timeout}s
frontend fe
    bind 127.0.0.1:{front}
    default_backend app
backend app
    server s1 127.0.0.1:{service} check inter 1s
    server s2 127.0.0.1:{service} check inter 1s
"""


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: two streams a second leak two sockets each; checks are on and do not leak."""
    front, service = stage.port(), stage.port()
    start(
        stage,
        [
            Serve("echo", service),
            Call("half-close", front, per_second=PER_SECOND / 2),
            Call("close", front, per_second=PER_SECOND / 2),
        ],
    )
    faults = [shim.accepted(front, State.CLOSE_WAIT), shim.connected(service, State.CLOSE)]
    instance = haproxy.start(
        stage,
        CONFIG.format(front=front, service=service, timeout=TIMEOUT_S),
        binary,
        shim.environment(faults, stage.directory),
    )
    facts = {"front": front, "service": service, "per_second": PER_SECOND, "timeout_s": TIMEOUT_S}
    return Running(instance, facts)


SCENARIO = Scenario(
    name="stream-leak",
    title="Client and server sockets outlive their TCP stream",
    real="HAProxy in mode tcp with checks on, clients which end first, the kernel's sockets.",
    injected="HAProxy's close() does nothing (LD_PRELOAD) for clients' sockets in CLOSE_WAIT and "
    "servers' sockets in CLOSE: the two that 2.9.1 forgets, in the states it leaves them.",
    expects=Expected("stream-leak", "HAProxy does not close"),
    interval_s=TIMEOUT_S,
    play=play,
)
