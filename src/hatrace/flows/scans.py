"""What the kernel showed: the suspects of the latest scan, who holds them, the targets' totals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hatrace.model.event import Holder, Holders, Open, Target, Targets
from hatrace.model.flow import Flow, State, flows
from hatrace.model.world import Key, Rate

REMEMBERED_KEYS = 65_536
"""First sightings kept of flows that truncated scans left out."""
REMEMBERED_NAMES = 4_096
"""Names of processes, the latest seen."""

TargetKey = tuple[bool, int, bytes, int]
"""Inbound, pid, address, port."""


class Suspects:
    """The open flows of the latest scan, and when each was first reported."""

    def __init__(self) -> None:
        self.open: dict[Key, Flow] = {}
        self._first_ns: dict[Key, int] = {}
        self._listening: set[tuple[int, int]] = set()
        self.left_out: int | None = None
        """Flows that matched in the latest scan without finding room; None before the first."""

    def apply(self, event: Open) -> list[Flow]:
        """Takes the scan for the whole of what is open; returns the flows it reports anew."""
        self.open = {flow.key: flow for flow in flows(event.records)}
        self.left_out = max(0, event.matched - len(self.open))
        self._listening = {
            (flow.netns, flow.lport) for flow in self.open.values() if flow.state == State.LISTEN
        }
        new = [flow for key, flow in self.open.items() if key not in self._first_ns]
        known = self._first_ns if self.left_out else self._still_open()
        known.update((flow.key, event.at_ns) for flow in new)
        while len(known) > max(REMEMBERED_KEYS, len(self.open)):
            self._forget_one(known)
        self._first_ns = known
        return new

    def _still_open(self) -> dict[Key, int]:
        return {key: at_ns for key, at_ns in self._first_ns.items() if key in self.open}

    def _forget_one(self, known: dict[Key, int]) -> None:
        """Drops the oldest sighting of a flow which the latest scan did not report."""
        del known[next(key for key in known if key not in self.open)]

    def listening(self, netns: int, port: int) -> bool:
        """Whether a traced process listens on the port (each scan reports all listeners)."""
        return (netns, port) in self._listening

    def first_ns(self, key: Key, otherwise_ns: int) -> int:
        return self._first_ns.get(key, otherwise_ns)


class Totals:
    """The targets, and how fast each grows."""

    def __init__(self) -> None:
        self.rows: dict[int, Target] = {}
        self.rates: dict[int, Rate] = {}
        self._at_ns: int | None = None
        self._by_key: dict[TargetKey, list[Target]] | None = None

    def apply(self, event: Targets) -> None:
        rows = {row.index: row for row in event.rows}
        if self._at_ns is not None and event.at_ns > self._at_ns:
            seconds = (event.at_ns - self._at_ns) / 1e9
            self.rates = {
                row.index: rate
                for row in event.rows
                if (rate := _rate(self.rows.get(row.index), row, seconds)) is not None
            }
        self.rows, self._by_key = rows, None
        self._at_ns = event.at_ns

    def at(self, pid: int, address: bytes, port: int, inbound: bool = False) -> Sequence[Target]:
        """The targets of this owner and address, one for each network namespace."""
        if self._by_key is None:
            self._by_key = {}
            for row in self.rows.values():
                key = (row.inbound, row.pid, row.address, row.port)
                self._by_key.setdefault(key, []).append(row)
        return self._by_key.get((inbound, pid, address, port), ())


def _rate(before: Target | None, now: Target, seconds: float) -> Rate | None:
    """Growth since ``before`` (None: the target is new); None when the index changed hands."""
    if before is None:
        return Rate(now.born / seconds, now.gone / seconds)
    if not same_target(before, now) or now.born < before.born or now.gone < before.gone:
        return None
    return Rate((now.born - before.born) / seconds, (now.gone - before.gone) / seconds)


def same_target(one: Target, other: Target) -> bool:
    """Whether two rows count the same thing."""
    return (one.inbound, one.pid, one.netns, one.address, one.port) == (
        other.inbound,
        other.pid,
        other.netns,
        other.address,
        other.port,
    )


class Names:
    """Names of processes, as different sources saw them; the latest few thousand."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def learn(self, names: Iterable[tuple[int, str]]) -> None:
        for pid, name in names:
            if name:
                self._names.pop(pid, None)
                self._names[pid] = name
        while len(self._names) > REMEMBERED_NAMES:
            del self._names[next(iter(self._names))]

    def of(self, pid: int) -> str:
        return self._names.get(pid, "")


class Fds:
    """Which fds hold which socket, by inode; joined only when somebody asks."""

    def __init__(self) -> None:
        self._in_scope: Sequence[Holder] = ()
        self._elsewhere: Sequence[Holder] = ()
        self._by_inode: dict[int, list[Holder]] | None = {}

    def apply(self, event: Holders) -> None:
        self._in_scope, self._by_inode = event.held, None

    def command_sockets(self, holders: Sequence[Holder]) -> None:
        """Who holds the ends of command-line sockets, in and out of scope."""
        self._elsewhere, self._by_inode = holders, None

    def of(self, inode: int) -> Sequence[Holder]:
        if self._by_inode is None:
            self._by_inode = {}
            for holder in dict.fromkeys((*self._in_scope, *self._elsewhere)):
                self._by_inode.setdefault(holder.inode, []).append(holder)
        return self._by_inode.get(inode, ()) if inode else ()
