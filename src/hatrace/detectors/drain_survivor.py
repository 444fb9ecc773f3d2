"""drain-survivor: does traffic go on to a server that was taken out, and through which worker?

`disable server`, `set server state maint` and `shutdown sessions server` reach the process at
whose socket they are said: the newest.  Old workers go on with their sessions, which no
command there lists or ends.  And sessions that are half-closed or wait for a server
connection survive in the same worker.

Evidence: per worker the open connections to the addresses of servers in maintenance, and to
those that the current configuration no longer has.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hatrace.detectors import steps, words
from hatrace.detectors.caveats import caveat
from hatrace.detectors.growth import SECOND_NS
from hatrace.detectors.known import Known, named
from hatrace.detectors.memory import Memory
from hatrace.detectors.quotes import quotes
from hatrace.detectors.reloads import CURRENT, current_workers, generation, retired_ns
from hatrace.model.address import endpoint
from hatrace.model.attribution import Role
from hatrace.model.event import Stream, Target
from hatrace.model.finding import Confidence, Evidence, Finding, Severity, Step
from hatrace.model.flow import Flow, State
from hatrace.model.topology import Level, Process, Server
from hatrace.model.world import World


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How long connections may outlive the server's end; each with its reason."""

    settle_ns: int = 5 * SECOND_NS
    """`shutdown sessions` ends them within 70 ms (measured); idle ones of the pool follow."""
    adopted_ns: int = SECOND_NS
    """A server that was out when hatrace came has been out for a while."""
    first_ns: int = 2 * SECOND_NS
    """HAProxy has answered all first questions by then."""
    answer_ns: int = 5 * SECOND_NS
    """So long an old worker is waited for, to say which of its connections have a session."""
    moving_ns: int = 5 * SECOND_NS
    """A connection on which a byte moved so lately is in use."""
    handover_ns: int = 15 * SECOND_NS
    """After a reload the old worker may serve out ordinary sessions."""
    sample: int = 20


THRESHOLDS = Thresholds()


@dataclass(frozen=True, slots=True)
class Survivor:
    """What one worker still has open to one server that is out."""

    process: Process
    label: str
    address: bytes
    port: int
    out: str
    """Why the server takes no traffic: its status, or ``removed``."""
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
    def old(self) -> bool:
        return self.process.kind not in CURRENT


class DrainSurvivor:
    """The detector."""

    slug = "drain-survivor"

    def __init__(self, known: Known, thresholds: Thresholds = THRESHOLDS) -> None:
        self._known = known
        self._limits = thresholds
        self._memory = Memory()
        self._first: dict[tuple[int, bytes, int], int] = {}
        self._began: int | None = None

    def observe(self, world: World) -> Iterable[Finding]:
        if not world.servers:
            return []
        self._began = world.now_ns if self._began is None else self._began
        survivors = list(_survivors(world))
        keys = [(one.process.pid, one.address, one.port) for one in survivors]
        self._first = {key: self._first.get(key, world.now_ns) for key in keys}
        findings = [
            self._finding(world, one)
            for one, key in zip(survivors, keys, strict=True)
            if self._lasts(world, one, self._first[key])
        ]
        self._memory.keep(finding.subject for finding in findings)
        return findings

    def _lasts(self, world: World, one: Survivor, first_ns: int) -> bool:
        seen_ns = world.now_ns - first_ns
        if one.old:
            retired = retired_ns(world, one.process)
            since = min(first_ns, retired) if retired is not None else first_ns
            if not one.told and seen_ns < self._limits.answer_ns:
                return False
            return world.now_ns - since >= self._limits.handover_ns
        early = first_ns - (self._began or first_ns) <= self._limits.first_ns
        adopted = early and one.preexisting == one.count
        return seen_ns >= (self._limits.adopted_ns if adopted else self._limits.settle_ns)

    def _finding(self, world: World, one: Survivor) -> Finding:
        subject = self._memory.subject(f"{one.label} at {one.endpoint}", one.process.pid)
        return Finding(
            slug=self.slug,
            subject=subject,
            severity=Severity.WARNING if one.old or one.born_per_s > 0 else Severity.NOTICE,
            confidence=Confidence.CERTAIN
            if not one.old or one.out != "removed"
            else Confidence.LIKELY,
            claim=_claim(one),
            at_ns=world.now_ns,
            since_ns=self._memory.since(subject, world.now_ns),
            count=one.count,
            preexisting=one.preexisting,
            evidence=(*_evidence(world, one, self._limits.sample), *quotes(world, [one.label])),
            cause=_cause(one),
            ruled_out=tuple(_ruled_out(one)),
            known_bug=named(world, one.process, self._known, self.slug, _signature(one)),
            next_steps=tuple(_next_steps(world, one)),
            verify=(
                Step(
                    "no connection of any worker is left",
                    steps.sockets_to(one.process, one.address, one.port),
                ),
            ),
            caveat=caveat(
                world,
                "connections are counted by address: which client is behind each, `show sess` says"
                if not one.flows and not one.streams
                else "",
            ),
        )


MAPPED = 0
"""Port of a server whose sessions go to the port that the client asked for."""


def _survivors(world: World) -> Iterable[Survivor]:
    """Open connections of any worker to servers that are out, in a stable order."""
    current = {
        (server.address, server.port): server
        for worker in current_workers(world)
        for server in world.servers.get(worker.pid, ())
    }
    if not current:
        return
    taking = {
        (server.address, server.port)
        for worker in current_workers(world)
        for server in world.servers.get(worker.pid, ())
        if not (server.status or "").startswith("MAINT")
    }
    rows: dict[tuple[int, bytes, int], list[Target]] = {}
    for row in world.targets.values():
        process = world.processes.get(row.pid)
        if row.inbound or row.open <= 0 or process is None:
            continue
        if not taking.isdisjoint({(row.address, row.port), (row.address, MAPPED)}):
            continue
        rows.setdefault((row.pid, row.address, row.port), []).append(row)
    for (pid, address, port), found in sorted(rows.items()):
        process, server = world.processes[pid], current.get((address, port))
        if server is None and not _was_server(world, found):
            continue
        yield from _survivor(world, process, server, found)


def _was_server(world: World, rows: Sequence[Target]) -> bool:
    """Whether this was a server's address before, as the table remembers."""
    return any(world.target_attribution(row).role is Role.SERVER for row in rows)


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
        moving = sum(flow.moved_ns > world.now_ns - THRESHOLDS.moving_ns for flow in flows)
        count = min(count, max(len(streams), moving))
    if count <= 0:
        return
    rates = [world.rates[row.index].born for row in rows if row.index in world.rates]
    yield Survivor(
        process=process,
        label=label,
        address=address,
        port=port,
        out=(server.status or "MAINT") if server is not None else "removed",
        count=count,
        preexisting=min(count, sum(row.adopted for row in rows)),
        born_per_s=sum(rates),
        flows=tuple(sorted(flows, key=lambda flow: (flow.born_ns, flow.inode, flow.id))),
        streams=streams,
        told=told is not None and told.complete,
    )


def _pools(world: World, process: Process, label: str) -> bool:
    """Whether all but the streams of an old worker's `show sess` are idle connections of a pool,
    of which it never lets go of the last (seen in 2.2 and 2.6)."""
    told, retired = world.streams.get(process.pid), retired_ns(world, process)
    if process.kind in CURRENT or told is None or not told.complete or retired is None:
        return False
    servers = world.servers.get(process.pid, ())
    modes = {one.mode for one in servers if one.label in label.split(", ")}
    return "tcp" not in modes and told.at_ns > retired


# The wording -------------------------------------------------------------------------------


def _claim(one: Survivor) -> str:
    why = "removed from the configuration" if one.out == "removed" else f"in {one.out}"
    return words.sentence(
        [
            f"{words.several(one.count, 'connection')} of {generation(one.process)} to"
            f" {one.label} ({one.endpoint}) {'is' if one.count == 1 else 'are'} open, although"
            f" it is {why}",
            f"new ones are still made: {words.rate(one.born_per_s)} per second"
            if one.born_per_s > 0
            else "",
        ]
    )


def _cause(one: Survivor) -> str:
    if one.old:
        return (
            "sessions of an old worker: commands at the stats socket reach only the newest"
            " process, which neither lists nor ends them"
        )
    return (
        "maintenance stops new sessions only; those that were there go on until they end, or"
        " until `shutdown sessions server`, which in no version reaches half-closed ones"
    )


def _ruled_out(one: Survivor) -> Iterable[str]:
    if one.born_per_s <= 0:
        yield "new traffic: no connection was made to it since the last look"
    yield "health checks: a server in maintenance is not checked, an old worker checks nothing"


def _signature(one: Survivor) -> frozenset[str]:
    marks = {"old worker" if one.old else "same worker"}
    if any(flow.state == State.SYN_SENT for flow in one.flows):
        marks.add("waits for server")
    return frozenset(marks)


def _evidence(world: World, one: Survivor, sample: int) -> Iterable[Evidence]:
    yield Evidence(
        what="process",
        pid=one.process.pid,
        comm=one.process.comm,
        remote=one.endpoint,
        condition=generation(one.process),
        note=f"{words.several(one.count, 'connection')} open to {one.label}, {one.out}",
    )
    behind = {stream.back_fd: stream for stream in one.streams if stream.back_fd is not None}
    shown = one.flows[: sample - 1]
    for flow in shown:
        held = [holder.fd for holder in world.holders(flow.inode) if holder.pid == flow.pid]
        fd = min(held, default=None)
        stream = behind.pop(fd, None) if fd is not None else None
        yield Evidence.of(flow, world.now_ns, fd, _client(stream) if stream else "")
    for fd, stream in list(behind.items())[: max(sample - 1 - len(shown), 0)]:
        yield Evidence(
            what="tcp",
            pid=one.process.pid,
            comm=one.process.comm,
            fd=fd,
            remote=one.endpoint,
            condition="session",
            age_s=stream.age_ms / 1000 if stream.age_ms is not None else None,
            note=_client(stream),
        )


def _client(stream: Stream) -> str:
    """The other half of a session."""
    front = f" (fd {stream.front_fd})" if stream.front_fd is not None else ""
    return f"for client {stream.source}{front} of {stream.frontend}"


def _sessions(world: World, one: Survivor) -> str:
    """`show sess`, only its lines; an address that two servers share has several labels."""
    command = steps.ask(world, one.process.pid, "show sess")
    backend, _, server = one.label.partition("/")
    if not command or ", " in one.label:
        return command
    return f"{command} | grep -F {shlex.quote(f'be={backend} srv={server} ')}"


def _next_steps(world: World, one: Survivor) -> Iterable[Step]:
    pid = one.process.pid
    yield Step("see them", steps.sockets_to(one.process, one.address, one.port))
    if one.old or one.out == "removed":
        yield Step("see whose they are", _sessions(world, one))
    if not one.old and one.out != "removed":
        yield Step(
            "end its sessions in that worker",
            steps.ask(world, pid, f"shutdown sessions server {one.label}", Level.ADMIN),
        )
    if one.out != "removed":
        yield Step(
            "or all of it step by step, verified in the kernel", f"hatrace drain {one.label}"
        )
    if one.old:
        # An old worker refuses `shutdown sessions server`: "Proxy is disabled." (2.2 to 3.2).
        yield Step("or end the old worker with all its sessions", f"hatrace retire {pid}")
        yield Step("for the next time: `hard-stop-after` in the global section")
    yield Step(
        "destroy the sockets in the kernel (needs CONFIG_INET_DIAG_DESTROY)",
        steps.inside(one.process, f"ss -tK dst {one.endpoint}"),
    )
