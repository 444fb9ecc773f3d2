"""check-leak: sockets of health checks outlive their check.

The shape of the published incident: `mode tcp` with `option httpchk`, eight servers of which
four are backups, and checks on another port than the service's.
"""

from __future__ import annotations

from pathlib import Path

from hatrace.lab import haproxy, shim
from hatrace.lab.peers import Call, Serve, start
from hatrace.lab.scenario import Expected, Running, Scenario
from hatrace.lab.stage import Stage

INTER_S = 2
SERVERS = 8

CONFIG = """    maxconn 2000
defaults
    mode tcp
    timeout connect 2s
    timeout client 10s
    timeout server 10s
frontend fe
    bind 127.0.0.1:{front}
    default_backend app
backend app
    option httpchk GET /health
    default-server check port {check} inter {inter}s fall 3 rise 1
{servers}
"""


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: 8 check sockets leak per interval, while traffic goes on."""
    front, service, check = stage.port(), stage.port(), stage.port()
    addresses = {n: f"127.0.1.{n}" for n in range(1, SERVERS + 1)}
    peers: list[Serve | Call] = [Call("close", front, per_second=4)]
    for address in addresses.values():
        peers += [Serve("echo", service, address=address), Serve("http", check, address=address)]
    start(stage, peers)
    servers = "\n".join(
        f"    server s{n} {address}:{service}{' backup' if n > SERVERS // 2 else ''}"
        for n, address in addresses.items()
    )
    config = CONFIG.format(front=front, check=check, inter=INTER_S, servers=servers)
    faults = shim.environment([shim.connected(check)], stage.directory)
    instance = haproxy.start(stage, config, binary, faults)
    return Running(
        instance,
        {"front": front, "service": service, "check": check, "inter_s": INTER_S,
         "servers": SERVERS},
    )  # fmt: skip


SCENARIO = Scenario(
    name="check-leak",
    title="Health-check sockets outlive their check",
    real="HAProxy, its eight servers' checks every two seconds, the answers, the sockets.",
    injected="HAProxy's close() of sockets connected to the check port does nothing (LD_PRELOAD): "
    "no released HAProxy leaks here, whatever the incident's article says.",
    expects=Expected("check-leak", "HAProxy does not close"),
    interval_s=INTER_S,
    play=play,
)
