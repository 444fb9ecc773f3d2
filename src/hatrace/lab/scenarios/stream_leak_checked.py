"""stream-leak, where HTTP checks go to the port of the sessions, and ask what these ask."""

from __future__ import annotations

from pathlib import Path

from hatrace.lab import haproxy, shim
from hatrace.lab.peers import Call, Serve, start
from hatrace.lab.scenario import Expected, Running, Scenario
from hatrace.lab.stage import Stage
from hatrace.model.flow import State

TIMEOUT_S = 2
GET = "GET /health HTTP/1.0\r\n\r\n"

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
    option httpchk GET /health
    server s1 127.0.0.1:{service} check inter 1s
"""


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: two sessions a second leak both sockets; checks to the same port do not."""
    front, service = stage.port(), stage.port()
    start(
        stage,
        [
            Serve("http-keep-alive", service),
            Call("half-close", front, per_second=1, send=GET),
            Call("close", front, per_second=1, send=GET),
        ],
    )
    faults = [shim.accepted(front, State.CLOSE_WAIT), shim.connected(service, State.CLOSE)]
    config = CONFIG.format(front=front, service=service, timeout=TIMEOUT_S)
    environment = shim.environment(faults, stage.directory)
    instance = haproxy.start(stage, config, binary, environment)
    return Running(instance, {"front": front, "service": service, "timeout_s": TIMEOUT_S})


SCENARIO = Scenario(
    name="stream-leak-checked",
    title="Client and server sockets outlive their stream, beside checks on the same port",
    real="HAProxy in mode tcp with HTTP checks to the servers' own port, clients that send the "
    "same request in the same rhythm and end first.",
    injected="HAProxy's close() does nothing (LD_PRELOAD) for clients' sockets in CLOSE_WAIT and "
    "servers' sockets in CLOSE: those that 2.9.1 forgets. Checks end otherwise.",
    expects=Expected("stream-leak", "HAProxy does not close"),
    interval_s=TIMEOUT_S,
    play=play,
)
