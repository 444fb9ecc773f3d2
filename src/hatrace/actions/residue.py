"""Residue: what is left of a server in the kernel and in HAProxy, matched with one another.

A flow of a worker belongs to the server if `show sess` says so of its fd; if no stream has
that fd, by its address, unless other servers share that: then `show fd` is asked, and what
neither tells stays unsure.  A stream that names the server and has no socket to it is left,
too: HAProxy 3.0 keeps such ones, with their client, for ever (HAProxy commit 51611a5).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hatrace.actions.haproxies import Haproxies
from hatrace.actions.rows import fds_of, row
from hatrace.actions.target import Place, Target
from hatrace.errors import EnvironmentLacks
from hatrace.haproxy import lines
from hatrace.haproxy.runtime import NoAnswer
from hatrace.model.event import Open, Stream
from hatrace.model.finding import Evidence
from hatrace.model.flow import Flow, State
from hatrace.model.topology import Process
from hatrace.sockets.inventory import Look, look

MOST_FDS = 20_000
"""Above this `show fd` is not asked: it stops HAProxy's threads."""


@dataclass(frozen=True, slots=True)
class Left:
    """A socket that belongs, or may belong, to the server."""

    flow: Flow
    fd: int | None
    sure: bool
    """False: another server shares its address, and HAProxy does not say whose it is."""
    stream: Stream | None = None
    """None: no stream of HAProxy's has it: a check, an idle connection, a leak, or unknown."""
    other: Flow | None = None
    """The other half of its stream."""
    front: bool = False
    """It is the client's half of a stream that has no socket to the server (any more)."""


@dataclass(slots=True)
class Residue:
    """As of ``at_ns``."""

    at_ns: int = 0
    left: list[Left] = field(default_factory=list)
    bare: dict[int, list[Stream]] = field(default_factory=dict)
    """Streams that name the server and have no socket at all, by pid."""
    streams: dict[int, list[Stream]] = field(default_factory=dict)
    """All that name the server, by pid; a pid that did not answer is missing."""
    others: int = 0
    """Flows to the same address that belong to another server."""
    orphans: int = 0
    """Flows to the server that nobody holds: the kernel is closing them."""
    foreign: dict[int, int] = field(default_factory=dict)
    """Flows to the same address by other HAProxies of this host, by pid."""

    @property
    def sure(self) -> list[Left]:
        return [each for each in self.left if each.sure]

    @property
    def clean(self) -> bool:
        return not self.left and not self.bare

    @property
    def count(self) -> int:
        return len(self.left) + sum(map(len, self.bare.values()))

    @property
    def rows(self) -> list[Evidence]:
        return [row(each.flow, self.at_ns, each.fd, note(each)) for each in self.left]

    @property
    def event(self) -> Open:
        """The flows and their other halves, for a capture."""
        flows = {each.flow.id: each.flow for each in self.left}
        flows |= {each.other.id: each.other for each in self.left if each.other is not None}
        return Open(self.at_ns, b"".join(flow.pack() for flow in flows.values()), len(flows))


class Inspector:
    """Looks at one server's residue again and again.

    It remembers the flows it met: one that becomes a ghost without ever having been connected
    has lost its addresses.
    """

    def __init__(self, haproxies: Haproxies, target: Target) -> None:
        self._haproxies, self._target = haproxies, target
        self._met: dict[int, Flow] = {}

    def look(self) -> Residue:
        """Look now, and ask every worker that answers for its streams.

        Raises EnvironmentLacks where a process's sockets may not be read: then nothing could
        be verified.
        """
        seen, target = looked(self._haproxies.pids), self._target
        found = Residue(time.monotonic_ns())
        fds, by_pid = fds_of(seen.held), self._by_pid(seen)
        for process in target.family.workers:
            mine = by_pid.get(process.pid, ())
            flows = {fds.get((flow.pid, flow.inode), -1): flow for flow in mine}
            _Worker(self._haproxies, target, process, flows).add_to(found)
        for pid, others in by_pid.items():
            if pid not in target.family:
                met = sum(_reached(target.places, flow) for flow in others)
                found.foreign |= {pid: met} if met else {}
        ownerless = (flow for flow in seen.flows.values() if flow.released_ns and not flow.pid)
        found.orphans = sum(_reached(target.places, flow) for flow in ownerless)
        return found

    def _by_pid(self, seen: Look) -> dict[int, list[Flow]]:
        found: dict[int, list[Flow]] = {}
        for flow in seen.owned:
            if flow.state == State.LISTEN:
                continue
            met = self._met.get(flow.id)
            if met is not None and not flow.rport:
                flow = flow._replace(laddr=met.laddr, raddr=met.raddr, rport=met.rport)
            self._met[flow.id] = flow
            found.setdefault(flow.pid, []).append(flow)
        return found


def looked(pids: Iterable[int]) -> Look:
    """All sockets of these processes; raises EnvironmentLacks where one may not be read."""
    seen = look(pids)
    for trouble in seen.troubles:
        raise EnvironmentLacks(f"cannot see {trouble.subject}", trouble.why, trouble.do)
    return seen


def _reached(places: Iterable[Place], flow: Flow) -> bool:
    return any(place.reached_by(flow) for place in places)


class _Worker:
    """One worker's flows by fd, joined with what it says of them."""

    def __init__(
        self, haproxies: Haproxies, target: Target, process: Process, flows: Mapping[int, Flow]
    ) -> None:
        self._haproxies, self._target, self._process = haproxies, target, process
        self._flows = flows
        self._places = target.places_for(process.pid)
        self._streams = streams(haproxies, process)

    def add_to(self, found: Residue) -> None:
        if self._streams is not None:
            mine = [each for each in self._streams if self._is_mine(each)]
            found.streams[self._process.pid] = mine
            self._add_half_streams(mine, found)
        unsaid = []
        by_fd = {each.back_fd: each for each in self._streams or ()}
        for fd, flow in self._flows.items():
            stream = by_fd.get(fd)
            reached = _reached(self._places, flow)
            if stream is not None and self._is_mine(stream):
                other = self._flows.get(stream.front_fd or -1)
                found.left.append(Left(flow, fd, True, stream, other))
            elif stream is not None:
                found.others += reached
            elif reached:
                unsaid.append(fd)
        self._add_unsaid(unsaid, found)

    def _is_mine(self, stream: Stream) -> bool:
        return f"{stream.backend}/{stream.server}" == self._target.label

    def _add_half_streams(self, mine: Iterable[Stream], found: Residue) -> None:
        """Streams without a socket to the server: their client's half, or only the stream."""
        for stream in mine:
            if stream.back_fd in self._flows:
                continue
            client = self._flows.get(stream.front_fd or -1)
            if client is not None:
                found.left.append(Left(client, stream.front_fd, True, stream, front=True))
            else:
                found.bare.setdefault(self._process.pid, []).append(stream)

    def _add_unsaid(self, fds: list[int], found: Residue) -> None:
        """Flows to the address that no stream has."""
        shared = any(place.neighbours for place in self._places)
        labels = self._labels() if fds and shared else {}
        for fd in fds:
            label = labels.get(fd, "") if shared else self._target.label
            if label in ("", self._target.label):
                known = fd if fd >= 0 else None
                found.left.append(Left(self._flows[fd], known, bool(label)))
            else:
                found.others += 1

    def _labels(self) -> dict[int, str]:
        """Whose each fd is, by `show fd`; empty where that is not known."""
        if (self._process.fd_used or 0) > MOST_FDS or self._streams is None:
            return {}
        names = {self._target.label} | set().union(*(p.neighbours for p in self._places))
        try:
            text = self._haproxies.ask(self._process, "show fd", deadline_s=10.0)
        except NoAnswer:
            return {}
        return {each.fd: each.server for each in lines.descriptors(text, None, names)}


def streams(haproxies: Haproxies, process: Process) -> tuple[Stream, ...] | None:
    """`show sess` of one worker; None: it does not answer."""
    try:
        return lines.streams(haproxies.ask(process, "show sess", deadline_s=10.0))
    except NoAnswer:
        return None


def note(left: Left) -> str:
    """What is known of its other half, or that nothing is."""
    if left.front:
        return "the client's half of a session that names the server"
    if left.stream is None:
        return "no session has it" if left.sure else "may belong to another server there"
    if left.other is None:
        return f"client {left.stream.source}, whose socket is gone"
    state = State(left.other.state).name
    return f"client {left.other.remote} on fd {left.stream.front_fd}, {state}"
