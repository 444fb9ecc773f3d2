"""orphan-storm: clients stop reading, HAProxy closes, and the kernel keeps what it cannot send."""

from __future__ import annotations

from pathlib import Path

from hatrace.errors import EnvironmentLacks
from hatrace.lab import haproxy
from hatrace.lab.peers import Call, Serve, start
from hatrace.lab.scenario import Expected, Running, Scenario
from hatrace.lab.stage import Stage

PER_SECOND = range(100, 400)
"""As many as the limit asks for, and this machine can be asked to make."""
SECONDS = 300
"""At its rate they would reach the limit in so long, if the kernel kept them all."""
LIMIT = Path("/proc/sys/net/ipv4/tcp_max_orphans")
MOST = 15_000
"""Clients at once; each costs some kilobytes of the kernel's memory, twice."""
INTERVAL_S = 6.0
GET = "GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n"
SMALL = {"net/ipv4/tcp_rmem": "4096 4096 4096", "net/ipv4/tcp_wmem": "4096 16384 65536"}

CONFIG = """    maxconn 4000
defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s
frontend fe
    bind 127.0.0.1:{front}
    default_backend app
backend app
    server s1 127.0.0.1:{service} check inter 1s
"""


def play(stage: Stage, binary: Path | None) -> Running:
    """Start it: clients ask, and never read; HAProxy is done with each at once."""
    per_second = pace(int(LIMIT.read_text()))
    stage.enter_network(SMALL)
    ports = {name: stage.port() for name in ("front", "service")}
    start(stage, [Serve("http-large", ports["service"])], "servers")
    instance = haproxy.start(stage, CONFIG.format(**ports), binary)
    start(stage, [Call("deaf", ports["front"], per_second, send=GET, most=MOST)], "clients")
    return Running(instance, {**ports, "per_second": per_second})


def pace(limit: int) -> float:
    """How many orphans a second are a storm on this host; raises EnvironmentLacks if too many."""
    if limit > 1.5 * SECONDS * PER_SECOND.stop:
        what = "no storm of orphans is made here"
        why = f"net.ipv4.tcp_max_orphans is {limit:,}: the lab makes {PER_SECOND.stop} a second"
        raise EnvironmentLacks(what, why, "the lab does not change it; try a smaller machine")
    return max(PER_SECOND.start, min(limit / SECONDS, PER_SECOND.stop))


SCENARIO = Scenario(
    name="orphan-storm",
    title="Clients stop reading, and orphaned sockets pile up",
    real="HAProxy, clients that ask and never read the answer, the orphans that the kernel keeps "
    "after HAProxy has closed; in a network namespace of its own.",
    injected="Small receive buffers (net.ipv4.tcp_rmem of that namespace), so that 8 kB are more "
    "than a client's kernel takes. The kernel's limit on orphans is left as it is.",
    expects=Expected("orphan-storm", "peers do not take the rest"),
    interval_s=INTERVAL_S,
    play=play,
)
