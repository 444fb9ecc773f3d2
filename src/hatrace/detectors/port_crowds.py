"""What takes local ports towards one address and port: open connections, and those in TIME_WAIT."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from hatrace.model.address import UNSPECIFIED, endpoint, is_unspecified, printable
from hatrace.model.event import HostCounters, Target
from hatrace.model.topology import Server
from hatrace.model.world import World

Remote = tuple[int, bytes, int]
"""Network namespace, address, port."""
DEFAULT = b""
"""The source address that the kernel chooses."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """What takes local ports towards one address and port."""

    remote: Remote
    rows: tuple[Target, ...]
    """Those with most open connections first; none, if no connection was seen while open."""
    waiting: int
    """In TIME_WAIT."""
    ports: int
    """How many there are, of all source addresses (`source`) together."""
    pid: int
    """Who has most of them, or else a HAProxy that has a server there."""
    label: str
    """What is there."""

    @property
    def used(self) -> int:
        return sum(row.open for row in self.rows) + self.waiting

    @property
    def mostly_waiting(self) -> bool:
        return self.waiting * 2 > self.used

    @property
    def where(self) -> str:
        return endpoint(*self.remote[1:])


def network(world: World, netns: int) -> HostCounters | None:
    """The counters of a network namespace; those of old captures do not say whose they are."""
    if world.host is not None and world.host.netns is None:
        return world.host
    return world.networks.get(netns)


def crowds(world: World) -> Iterable[Crowd]:
    """Every remote address and port that takes local ports, in a stable order."""
    found: dict[Remote, list[Target]] = {}
    for row in sorted(world.targets.values(), key=lambda one: (-one.open, one.pid, one.index)):
        if not row.inbound:
            found.setdefault((row.netns, row.address, row.port), []).append(row)
    servers = _crowded_servers(world)
    for remote in sorted(found.keys() | servers.keys()):
        host = network(world, remote[0])
        if host is None or host.port_low is None or host.port_high is None:
            continue
        rows = found.get(remote, [])
        waiting = _waiting(world, host, remote)
        pids = {row.pid for row in rows if row.open > 0 or waiting}
        if waiting and remote in servers:
            pids.add(servers[remote][0])
        sources = {one for pid in pids for one in _sources(world, pid, remote)} or {DEFAULT}
        if any(map(is_unspecified, sources)):
            continue
        ports = (host.port_high - host.port_low + 1) * len(sources)
        if rows:
            taking = tuple(row for row in rows if row.open) or tuple(rows[:1])
            label = world.target_attribution(taking[0]).label
            yield Crowd(remote, taking, waiting, ports, taking[0].pid, label)
        else:
            pid, server = servers[remote]
            yield Crowd(remote, (), waiting, ports, pid, server.label)


def _sources(world: World, pid: int, remote: Remote) -> set[bytes]:
    """The addresses from which a process connects there: each has all ports for itself.

    Unspecified: not known, or as many as clients; none: as those of the other processes.
    """
    configured = world.configured.get(pid)
    if configured is None:
        return set() if _may_be_haproxy(world, pid) else {DEFAULT}
    own = {one.name: one.address for one in configured.endpoints if one.kind == "source"}
    if own and pid not in world.servers:
        return {UNSPECIFIED}
    there = [one for one in world.servers.get(pid, ()) if own and _goes_to(one, remote)]
    return {own.get(one.label, DEFAULT) for one in there} or {DEFAULT}


def _may_be_haproxy(world: World, pid: int) -> bool:
    """Whether it is a HAProxy process, was one, or is not known."""
    names = {process.comm for process in world.processes.values()}
    return pid in world.processes or world.comm(pid) in {"", "haproxy", *names}


def _goes_to(server: Server, remote: Remote) -> bool:
    """Port 0 is the port that the client asked for."""
    port = server.port or remote[2]
    return remote[1:] in ((server.address, port), (server.check_address, server.check_port))


def _crowded_servers(world: World) -> dict[Remote, tuple[int, Server]]:
    """Where connections wait and HAProxy has a server, with the worker that says so: all of them
    may have come and gone between two looks, or before hatrace."""
    waiting = {
        (netns, address, port)
        for netns, said in world.time_waits.items()
        for address, port, _ in said.rows
    }
    found: dict[Remote, tuple[int, Server]] = {}
    for pid, server in _servers(world) if waiting else ():
        netns = world.processes[pid].netns
        for address, port in (
            (server.address, server.port),
            (server.check_address, server.check_port),
        ):
            if netns is not None and address is not None and (netns, address, port) in waiting:
                found.setdefault((netns, address, port), (pid, server))
    return found


def _servers(world: World) -> Iterable[tuple[int, Server]]:
    for pid in sorted(world.servers.keys() & world.processes.keys()):
        yield from ((pid, server) for server in world.servers[pid])


def _waiting(world: World, host: HostCounters, remote: Remote) -> int:
    """Connections to there in TIME_WAIT whose ports no new one may have."""
    said = world.time_waits.get(remote[0])
    loopback = ip_address(printable(remote[1])).is_loopback
    if said is None or host.tw_reuse == 1 or (host.tw_reuse == 2 and loopback):
        return 0
    return sum(count for address, port, count in said.rows if (address, port) == remote[1:])
