"""The template of healthy look-alikes: an HAProxy, servers and clients, nothing injected.

The ports that a configuration names in braces are made free ones; ``servers`` start before
HAProxy, ``clients`` after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from string import Formatter

from hatrace.lab import haproxy
from hatrace.lab.haproxy import HAProxy
from hatrace.lab.peers import Call, Serve, start
from hatrace.lab.scenario import Running, Scenario
from hatrace.lab.stage import Stage

Ports = Mapping[str, int]
Servers = Callable[[Ports], Sequence[Serve]]
Clients = Callable[[Ports, HAProxy], Sequence[Call]]

GET = "GET / HTTP/1.1\r\nHost: lab\r\n\r\n"


def healthy(
    name: str,
    title: str,
    real: str,
    config: str,
    servers: Servers,
    clients: Clients,
    *,
    interval_s: float = 10.0,
    since: str = "",
    applications: bool = False,
) -> Scenario:
    """A scenario in which nothing may be found.

    ``applications``: the servers' process is looked at as well.
    """

    def play(stage: Stage, binary: Path | None) -> Running:
        fields = {field for _, field, _, _ in Formatter().parse(config) if field}
        ports = {field: stage.port() for field in sorted(fields)}
        application = start(stage, servers(ports), "servers")
        instance = haproxy.start(stage, config.format(**ports), binary)
        start(stage, clients(ports, instance), "clients")
        pids = (instance.pid, application) if applications else ()
        return Running(instance, ports, pids)

    return Scenario(
        name=f"healthy-{name}",
        title=f"Healthy: {title}",
        real=real,
        injected="Nothing.",
        expects=None,
        interval_s=interval_s,
        play=play,
        since=since,
    )
