"""What one worker still has open to a server that takes no traffic: in maintenance, or gone.

By the targets' totals and the suspects of the latest scan; the sessions behind them as
`show sess` of that worker last said.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hatrace.detectors.growth import SECOND_NS
from hatrace.detectors.reloads import (
    CURRENT,
    current_of,
    current_workers,
    retired_ns,
    same_haproxy,
)
from hatrace.model.address import endpoint
from hatrace.model.attribution import Role
from hatrace.model.event import Stream, Target
from hatrace.model.flow import Flow, State, oldest_first
from hatrace.model.topology import Process, Server
from hatrace.model.world import World

MOVING_NS = 5 * SECOND_NS
"""A connection on which a byte moved so lately is in use."""
REMOVED, MOVED = "removed", "moved"
MAPPED = 0
"""Port of a server whose sessions go to the port that the client asked for."""


@dataclass(frozen=True, slots=True)
class Survivor:
    """What one worker still has open to one server that is out."""

    process: Process
    label: str
    address: bytes
    port: int
    out: str
    """Why the server takes no traffic: its status, ``removed``, or ``moved`` to another address."""
    count: int
    preexisting: int
    born_per_s: float
    flows: tuple[Flow, ...]
    streams: tuple[Stream, ...] = ()
    """As `show sess` of that worker last said."""
    told: bool = False
    """Whether it said so, of all its sessions."""

    @property
    def endpoint(self) -> str:
        return endpoint(self.address, self.port)

    @property
    def elsewhere(self) -> bool:
        """Whether no server has that address any more."""
        return self.out in (REMOVED, MOVED)

    @property
    def old(self) -> bool:
        return self.process.kind not in CURRENT

    @property
    def connecting(self) -> int:
        """How many of them wait for the server to answer their SYN."""
        return sum(flow.state == State.SYN_SENT for flow in self.flows)

    @property
    def mostly_connecting(self) -> bool:
        return self.connecting * 2 > self.count


def survivors(world: World) -> Iterable[Survivor]:
    """Open connections of any worker to servers that are out, in a stable order."""
    rows: dict[int, list[Target]] = {}
    for row in world.targets.values():
        if not row.inbound and row.open > 0 and row.pid in world.processes:
            rows.setdefault(row.pid, []).append(row)
    for pid in sorted(rows):
        yield from _of_worker(world, world.processes[pid], rows[pid])


def _of_worker(world: World, process: Process, rows: Iterable[Target]) -> Iterable[Survivor]:
    """Those of one; which servers are out, the current workers of its own HAProxy say: another
    one may go on to use them."""
    servers = _listed(world, process)
    if not servers:
        return
    current = {(server.address, server.port): server for server in servers}
    taking = {
        (server.address, server.port)
        for server in servers
        if not (server.status or "").startswith("MAINT")
    }
    places: dict[tuple[bytes, int], list[Target]] = {}
    for row in rows:
        if taking.isdisjoint({(row.address, row.port), (row.address, MAPPED)}):
            places.setdefault((row.address, row.port), []).append(row)
    for place, found in sorted(places.items()):
        server = current.get(place)
        if server is not None or _was_server(world, process, found):
            yield from _survivor(world, process, server, found)


def _listed(world: World, process: Process) -> list[Server]:
    """The servers of the current workers of its HAProxy."""
    workers = current_of(world, process)
    return [server for worker in workers for server in world.servers.get(worker.pid, ())]


def _was_server(world: World, process: Process, rows: Sequence[Target]) -> bool:
    """Whether this was a server's address before, as the table remembers of its own HAProxy."""
    attributed = (world.target_attribution(row).role for row in rows)
    return _is_own(world, process) and Role.SERVER in attributed


def _is_own(world: World, process: Process) -> bool:
    """Whether what is known of its servers is its own list, or of workers of its own HAProxy:
    for want of its own, the table takes any current worker's."""
    tellers = [one for one in current_workers(world) if one.pid in world.servers]
    own = process.pid in world.servers
    return own or all(same_haproxy(world, one, process) for one in tellers)


def _survivor(
    world: World, process: Process, server: Server | None, rows: Sequence[Target]
) -> Iterable[Survivor]:
    idle = (server.idle_connections or 0) if server is not None and process.kind in CURRENT else 0
    count = sum(row.open for row in rows) - idle
    label = server.label if server is not None else world.target_attribution(rows[0]).label
    told = world.streams.get(process.pid)
    streams = tuple(
        stream
        for stream in (told.streams if told is not None else ())
        if f"{stream.backend}/{stream.server}" in label.split(", ")
    )
    address, port = rows[0].address, rows[0].port
    flows = [
        flow
        for flow in world.open.values()
        if (flow.pid, flow.raddr, flow.rport) == (process.pid, address, port) and flow.held
    ]
    if _pools(world, process, label):
        moving = sum(flow.moved_ns > world.now_ns - MOVING_NS for flow in flows)
        count = min(count, max(len(streams), moving))
    if count <= 0:
        return
    rates = [world.rates[row.index].born for row in rows if row.index in world.rates]
    yield Survivor(
        process=process,
        label=label,
        address=address,
        port=port,
        out=(server.status or "MAINT") if server is not None else _why_none(world, process, label),
        count=count,
        preexisting=min(count, sum(row.adopted for row in rows)),
        born_per_s=sum(rates),
        flows=tuple(sorted(flows, key=oldest_first)),
        streams=streams,
        told=told is not None and told.complete,
    )


def _why_none(world: World, process: Process, label: str) -> str:
    """Why no server has the address: one of that name has another now, or there is none."""
    names = {server.label for server in _listed(world, process)}
    return REMOVED if names.isdisjoint(label.split(", ")) else MOVED


def _pools(world: World, process: Process, label: str) -> bool:
    """Whether all but the streams of an old worker's `show sess` are idle connections of a pool,
    of which it never lets go of the last (seen in 2.2 and 2.6)."""
    told, retired = world.streams.get(process.pid), retired_ns(world, process)
    if process.kind in CURRENT or told is None or not told.complete or retired is None:
        return False
    servers = world.servers.get(process.pid, ())
    modes = {one.mode for one in servers if one.label in label.split(", ")}
    return "tcp" not in modes and told.at_ns > retired
