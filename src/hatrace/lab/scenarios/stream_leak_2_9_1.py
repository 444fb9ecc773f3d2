"""stream-leak by HAProxy's own code: 2.9.1's bug, in the configuration of those who reported it.

Health checks were blamed at the time.  They are on here, to a port of their own, and do not leak.
"""

from __future__ import annotations

from pathlib import Path

from hatrace.lab import haproxy, regressed
from hatrace.lab.peers import Call, Serve, start
from hatrace.lab.scenario import Expected, Running, Scenario
from hatrace.lab.stage import Stage

TIMEOUT_S = 2
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
    option httpchk GET /health
    default-server check port {health} inter 1s
{servers}"""


def play(stage: Stage, _: Path | None) -> Running:
    """Start it: two clients a second send, are answered, and leave; both sockets of each stay."""
    front, service, health = stage.port(), stage.port(), stage.port()
    start(
        stage,
        [
            Serve("echo", service),
            Serve("http", health),
            Call("close", front, per_second=PER_SECOND),
        ],
    )
    servers = "".join(
        f"    server s{n} 127.0.0.1:{service}{' backup' if n > 4 else ''}\n" for n in range(1, 9)
    )
    config = CONFIG.format(front=front, health=health, timeout=TIMEOUT_S, servers=servers)
    instance = haproxy.start(stage, config, regressed.fetch(regressed.ZERO_COPY))
    return Running(instance, {"front": front, "per_second": PER_SECOND, "timeout_s": TIMEOUT_S})


SCENARIO = Scenario(
    name="stream-leak-2.9.1",
    title="Client and server sockets outlive their TCP stream, by HAProxy 2.9.1's own bug",
    real="HAProxy, compiled from Debian's source with GH #2395 put back (the first time takes a "
    "minute or two), in mode tcp with option httpchk to another port, four servers and four "
    "backups; clients that end first.",
    injected="Nothing: the sockets are forgotten by HAProxy itself.",
    expects=Expected("stream-leak", "HAProxy does not close"),
    interval_s=TIMEOUT_S,
    play=play,
    brings="3.0",
)
